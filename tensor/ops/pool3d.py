"""Pooling of volumes (N, C, D, H, W), as ``pool.py`` pools images: PyTorch's shape rules, derivatives of every order.
https://docs.pytorch.org/docs/stable/nn.functional.html#pooling-functions
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.layout import is_channels_last
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.ops.pool import _length
from tritium.tensor.tensor import Tensor

Triple = tuple[int, int, int]
METHODS: list[str] = []
FUNCTIONS = ["max_pool3d"]


class Volume(NamedTuple):
    """Input volume, output volume and the windows between them."""

    size: Triple
    out: Triple
    kernel: Triple
    stride: Triple
    padding: Triple
    dilation: Triple = (1, 1, 1)

    @property
    def taps(self) -> tuple[Triple, Triple, Triple, Triple]:
        return self.kernel, self.stride, self.padding, self.dilation


def result(array: Any, like: Tensor) -> Tensor:
    """A tensor over a kernel's channels-last result: channels-last to the user if ``like`` is, else of free layout."""
    if array.flags.c_contiguous:
        return wrap(array)
    out = wrap(array)
    out._free = like._free or not is_channels_last(like._a, 5)
    return out


def plain(array: Any) -> Tensor:
    """A tensor over a kernel's result that the user sees as contiguous."""
    out = wrap(array)
    out._free = not array.flags.c_contiguous
    return out


def _triple(name: str, argument: str, position: int, value: Any, either: str = "either ") -> Triple:
    if hasattr(value, "__index__"):
        return (value.__index__(),) * 3
    if not isinstance(value, (tuple, list)) or not all(hasattr(v, "__index__") for v in value):
        raise TypeError(
            f"{name}(): argument '{argument}' (position {position}) must be tuple of ints, not {type(value).__name__}"
        )
    if len(value) not in (1, 3):
        raise RuntimeError(f"{name}: {argument} must {either}be a single int, or a tuple of three ints")
    a, b, c = (v.__index__() for v in (value if len(value) == 3 else [*value] * 3))
    return a, b, c


def _volume(
    name: str, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Volume:
    """The arguments of a 3-D pooling, checked. Raises PyTorch's errors."""
    check_tensor(name, "input", 1, input)
    either = "" if name == "avg_pool3d" else "either "
    kernel = _triple(name, "kernel_size", 2, kernel_size, either)
    empty = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    steps = kernel if empty else _triple(name, "stride", 3, stride, either)
    pads, spread = _triple(name, "padding", 4, padding, either), _triple(name, "dilation", 5, dilation, either)
    shape = input._a.shape
    if len(shape) not in (4, 5):
        raise RuntimeError("non-empty 4D or 5D (batch mode) tensor expected for input")
    if 0 in steps:
        raise RuntimeError("stride should not be zero")
    named = (("kernel size", "k", kernel), ("stride", "d", steps), ("dilation", "dilation", spread))
    for what, letter, values in named:
        if min(values) <= 0:
            t, h, w = values
            raise RuntimeError(
                f"{what} should be greater than zero, but got {letter}T: {t} {letter}H: {h} {letter}W: {w}"
            )
    for p, k, d in zip(pads, kernel, spread, strict=True):
        if p < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
        if p > (d * (k - 1) + 1) // 2:
            raise RuntimeError(
                "pad should be at most half of effective kernel size, but got "
                f"pad={p}, kernel_size={k} and dilation={d}"
            )
    inside = f"{name}_with_indices_out_cpu_template" if name == "max_pool3d" else name
    for i, n in enumerate(shape[-4:]):
        if not n:
            raise RuntimeError(
                f"{inside}(): Expected input's non-batch dimensions to have positive length, but input has a shape of "
                f"{list(shape)} and non-batch dimension {i} has length zero!"
            )
    lines = zip(shape[-3:], kernel, steps, pads, spread, strict=True)
    out: Any = tuple([_length(*line, ceil_mode) for line in lines])
    if min(out) < 1:
        c, t, h, w = shape[-4:]
        if name == "avg_pool3d":
            raise RuntimeError(
                f"input image (T: {t} H: {h} W: {w}) smaller than kernel size (kT: {kernel[0]} kH: {kernel[1]} "
                f"kW: {kernel[2]})"
            )
        counts = "x".join([str(max(n, 0)) for n in out])
        raise RuntimeError(
            f"Given input size: ({c}x{t}x{h}x{w}). Calculated output size: ({c}x{counts}). Output size is too small"
        )
    return Volume(shape[-3:], out, kernel, steps, pads, spread)


def _batched(input: Tensor) -> Tensor:
    return input if input._a.ndim == 5 else input.unsqueeze(0)


# -------------------------------------------------------------------------------------------------------- max


@derivative
def MaxPool3DWithIndicesBackward0(node: Any, grad: Tensor, *indices: Any) -> Tensor:
    window, taps = node.ctx
    (x,) = node.unpack()
    out = result(of(grad._a).pool3d.max_pool3d_scatter(grad._a, taps, window.size, *window.taps), x)
    if recording(grad):
        record(out, _MaxPoolScatter, (grad,), (grad,), node.ctx)
    return out


def _scatter_backward(node: Any, grad: Tensor) -> Tensor:
    window, taps = node.ctx
    (dy,) = node.unpack()
    out = result(of(grad._a).pool3d.max_pool3d_gather(grad._a, taps, *window.taps), dy)
    if recording(grad):
        record(out, MaxPool3DWithIndicesBackward0, (grad,), (grad,), node.ctx)
    return out


_MaxPoolScatter: type[Node] = node_kind("MaxPool3DWithIndicesBackwardBackward0", _scatter_backward)


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of (N, C, D, H, W) or (C, D, H, W); NaN if there is one. ``stride`` is kernel_size if
    None.

    With ``return_indices`` also the flat positions (d * H + h) * W + w of the maxima, int64. Raises RuntimeError for
    arguments that do not fit. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool3d.html"""
    if amp.on and (r := amp.run("max_pool3d", max_pool3d, input, kernel_size, stride, padding, dilation, ceil_mode,
                                return_indices)) is not None:  # fmt: skip
        return r
    window = _volume("max_pool3d", input, kernel_size, stride, padding, dilation, ceil_mode)
    if input._a.dtype.kind in "bc":
        raise not_implemented("max_pool3d", input._a.dtype)
    x = _batched(input)
    pool = of(x._a).pool3d
    indices = taps = None
    if return_indices or recording(x):
        out, taps = pool.max_pool3d_with_taps(x._a, window.out, *window.taps)
    else:
        out = pool.max_pool3d(x._a, window.out, *window.taps)
    values = result(out, x)
    if return_indices:
        indices = wrap(pool.max_pool3d_indices(taps, window.size, *window.taps))
    if recording(x):
        record(values if indices is None else (values, indices), MaxPool3DWithIndicesBackward0, (x,), (x,),
               (window, taps))
    if x is not input:
        values = values.squeeze(0)
        indices = indices.squeeze(0) if indices is not None else None
    return (values, indices) if return_indices else values


# ---------------------------------------------------------------------------------------------------- average


@derivative
def AvgPool3DBackward0(node: Any, grad: Tensor) -> Tensor:
    return avg_backward(grad, *node.ctx)


def avg_backward(grad: Tensor, window: Volume, options: Any) -> Tensor:
    """The gradient of x from that of its averages."""
    out = plain(of(grad._a).pool3d.avg_pool3d_backward(grad._a, window.size, *window.taps[:3], *options))
    if recording(grad):
        record(out, _AvgPoolBackward, (grad,), ctx=(window, options))
    return out


def average(x: Tensor, window: Volume, options: Any) -> Tensor:
    """The averages of windows."""
    out = plain(of(x._a).pool3d.avg_pool3d(x._a, window.out, *window.taps[:3], *options))
    if recording(x):
        record(out, AvgPool3DBackward0, (x,), ctx=(window, options))
    return out


_AvgPoolBackward: type[Node] = node_kind("AvgPool3DBackwardBackward0", lambda node, grad: average(grad, *node.ctx))


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of each window of (N, C, D, H, W) or (C, D, H, W).

    ``count_include_pad``: padding counts as zeros; ``divisor_override``: what sums are divided by instead of the number
    of elements. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool3d.html"""
    if amp.on and (r := amp.run("avg_pool3d", avg_pool3d, input, kernel_size, stride, padding, ceil_mode,
                                count_include_pad, divisor_override)) is not None:  # fmt: skip
        return r
    window = _volume("avg_pool3d", input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    if input._a.dtype.kind in "bcu" or (input._a.dtype.kind == "i" and input._a.itemsize < 8):
        raise not_implemented("avg_pool3d_out_frame", input._a.dtype)
    x = _batched(input)
    out = average(x, window, (count_include_pad, divisor_override))
    return out if x is input else out.squeeze(0)


# --------------------------------------------------------------------------------------------------- adaptive


def _output_size(name: str, value: Any, shape: tuple[int, ...], wrong: str) -> Triple:
    if isinstance(value, (tuple, list)):
        if len(value) != 3:
            raise RuntimeError(wrong)
        d, h, w = (n if v is None else v.__index__() for v, n in zip(value, shape[-3:], strict=True))
    else:
        d, h, w = shape[-3:] if value is None else (value.__index__(),) * 3
    return d, h, w


def _not_empty(name: str, shape: tuple[int, ...]) -> None:
    for i in range(-4, 0):
        if shape[i] == 0:
            raise RuntimeError(
                f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                f"{list(shape)} with dimension {len(shape) + i} being empty"
            )


@derivative
def AdaptiveAvgPool3DBackward0(node: Any, grad: Tensor) -> Tensor:
    size = node.ctx
    out = plain(of(grad._a).pool3d.adaptive_avg_pool3d_backward(grad._a, size))
    if recording(grad):
        record(out, _AdaptiveAvgPoolBackward, (grad,), ctx=grad._a.shape[2:])
    return out


def _adaptive_average(x: Tensor, size: Triple) -> Tensor:
    out = plain(of(x._a).pool3d.adaptive_avg_pool3d(x._a, size))
    if recording(x):
        record(out, AdaptiveAvgPool3DBackward0, (x,), ctx=x._a.shape[2:])
    return out


_AdaptiveAvgPoolBackward: type[Node] = node_kind(
    "AdaptiveAvgPool3DBackwardBackward0", lambda node, grad: _adaptive_average(grad, node.ctx)
)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """The averages of ``output_size`` (one number, or three of which None keeps the input's) cells that cover
    (N, C, D, H, W) or (C, D, H, W).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool3d.html"""
    if amp.on and (r := amp.run("adaptive_avg_pool3d", adaptive_avg_pool3d, input, output_size)) is not None:
        return r
    name = "adaptive_avg_pool3d"
    check_tensor(name, "input", 1, input)
    shape = input._a.shape
    size = _output_size(name, output_size, shape, f"{name}: output_size must be 3")
    if min(size) < 0:
        a, b, c = size
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received {{{a}, {b},{c}}}"
        )
    if size == (1, 1, 1):  # PyTorch takes the mean
        return input.mean((-1, -2, -3), True)
    if len(shape) not in (4, 5):
        raise RuntimeError(f"{name}(): Expected 4D or 5D tensor, but got {list(shape)}")
    _not_empty(name, shape)
    if input._a.dtype.kind in "biuc":
        raise not_implemented(f"{name}_cpu", input._a.dtype)
    x = _batched(input)
    out = _adaptive_average(x, size)
    return out if x is input else out.squeeze(0)


@derivative
def AdaptiveMaxPool3DBackward0(node: Any, grad: Tensor, *others: Any) -> Tensor:
    indices, size = node.ctx
    out = plain(of(grad._a).pool3d.index_scatter3d(grad._a, indices, size))
    if recording(grad):
        record(out, _AdaptiveMaxPoolBackward, (grad,), ctx=node.ctx)
    return out


def _index_scatter_backward(node: Any, grad: Tensor) -> Tensor:
    indices, size = node.ctx
    flat = grad.flatten(2).gather(2, wrap(indices).flatten(2).long())
    return flat.reshape(indices.shape)


_AdaptiveMaxPoolBackward: type[Node] = node_kind("AdaptiveMaxPool3DBackwardBackward0", _index_scatter_backward)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of ``output_size`` cells that cover (N, C, D, H, W) or (C, D, H, W), and with ``return_indices`` their
    flat positions. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool3d.html"""
    if amp.on and (r := amp.run("adaptive_max_pool3d", adaptive_max_pool3d, input, output_size,
                                return_indices)) is not None:  # fmt: skip
        return r
    name = "adaptive_max_pool3d"
    check_tensor(name, "input", 1, input)
    shape = input._a.shape
    if len(shape) not in (4, 5):
        raise RuntimeError(f"{name}(): Expected 4D or 5D tensor, but got: {list(shape)}")
    size = _output_size(name, output_size, shape, f"{name}(): internal error: output_size.size() must be 3")
    _not_empty(name, shape)
    if min(size) < 0:
        least = min(size)
        raise RuntimeError(f"Trying to create tensor with negative dimension {least}: {[*shape[:-3], *size]}")
    if input._a.dtype.kind in "biuc":
        raise not_implemented(f"{name}_cpu", input._a.dtype)
    x = _batched(input)
    a, b = of(x._a).pool3d.adaptive_max_pool3d(x._a, size)
    values, places = plain(a), plain(b)
    if recording(x):
        outs = (values, places) if return_indices else values
        record(outs, AdaptiveMaxPool3DBackward0, (x,), ctx=(b, x._a.shape[2:]))
    if x is not input:
        values, places = values.squeeze(0), places.squeeze(0)
    return (values, places) if return_indices else values
