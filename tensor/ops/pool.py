"""Pooling in one and two dimensions, with PyTorch's shape rules, and derivatives of every order.

Max pooling keeps which element of its window each maximum came from; its derivative is a scatter, the scatter's is the
matching gather. Average pooling is linear, and so is its derivative.
https://docs.pytorch.org/docs/stable/nn.functional.html#pooling-functions
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tritium.kernels import of
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.layout import is_channels_last
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.tensor import Tensor

Pair = tuple[int, int]


class Window(NamedTuple):
    """Input plane, output plane and the windows between them."""

    size: Pair
    out: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)

    @property
    def taps(self) -> tuple[Pair, Pair, Pair, Pair]:
        return self.kernel, self.stride, self.padding, self.dilation


def _result(array: Any, like: Tensor) -> Tensor:
    """A tensor over a kernel's channels-last result: channels-last to the user if ``like`` is, else of free layout."""
    return _laid_out(array, not like._free and is_channels_last(like._a))


def _laid_out(array: Any, last: bool) -> Tensor:
    if array.flags.c_contiguous:
        return wrap(array.reshape(-1).reshape(array.shape))
    out = wrap(array)
    out._free = not last
    return out


def _batched(input: Tensor) -> Tensor:
    return input if input._a.ndim == 4 else input.unsqueeze(0)


# -------------------------------------------------------------------------------------------------- arguments


def _pair(name: str, argument: str, position: int, value: Any) -> Pair:
    if hasattr(value, "__index__"):
        return value.__index__(), value.__index__()
    if not isinstance(value, (tuple, list)) or not all(hasattr(v, "__index__") for v in value):
        raise TypeError(
            f"{name}(): argument '{argument}' (position {position}) must be tuple of ints, not {type(value).__name__}"
        )
    if len(value) not in (1, 2):
        raise RuntimeError(f"{name}: {argument} must either be a single int, or a tuple of two ints")
    return value[0].__index__(), value[-1].__index__()


def _length(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows there are; with ``ceil_mode`` also one that hangs over the end, if it begins inside."""
    free = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (free + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def _window(
    name: str, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Window:
    """The arguments of a 2-D pooling, checked. Raises PyTorch's errors."""
    check_tensor(name, "input", 1, input)
    kernel = _pair(name, "kernel_size", 2, kernel_size)
    steps = (
        kernel
        if stride is None or (isinstance(stride, (tuple, list)) and not stride)
        else _pair(name, "stride", 3, stride)
    )
    pads, spread = _pair(name, "padding", 4, padding), _pair(name, "dilation", 5, dilation)
    shape = input._a.shape
    if len(shape) not in (3, 4):
        raise RuntimeError("non-empty 3D or 4D (batch mode) tensor expected for input")
    if 0 in steps:
        raise RuntimeError("stride should not be zero")
    if min(kernel) <= 0:
        raise RuntimeError(f"kernel size should be greater than zero, but got kH: {kernel[0]} kW: {kernel[1]}")
    if min(steps) < 0:
        raise RuntimeError(f"stride should be greater than zero, but got dH: {steps[0]} dW: {steps[1]}")
    if min(spread) <= 0:
        raise RuntimeError(
            f"dilation should be greater than zero, but got dilationH: {spread[0]} dilationW: {spread[1]}"
        )
    for p, k, d in zip(pads, kernel, spread, strict=True):
        if p < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
        if p > (d * (k - 1) + 1) // 2:
            raise RuntimeError(
                "pad should be at most half of effective kernel size, but got "
                f"pad={p}, kernel_size={k} and dilation={d}"
            )
    if 0 in shape[-3:]:
        raise RuntimeError(
            f"Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got:{list(shape)}"
        )
    lines = zip(shape[-2:], kernel, steps, pads, spread, strict=True)
    out: Any = tuple([_length(*line, ceil_mode) for line in lines])
    if min(out) < 1:
        c, h, w = shape[-3:]
        raise RuntimeError(
            f"Given input size: ({c}x{h}x{w}). Calculated output size: ({c}x{max(out[0], 0)}x"
            f"{max(out[1], 0)}). Output size is too small"
        )
    return Window(shape[-2:], out, kernel, steps, pads, spread)


# -------------------------------------------------------------------------------------------------------- max


@derivative
def MaxPool2DWithIndicesBackward0(node: Any, grad: Tensor, *indices: Any) -> Tensor:
    window, taps = node.ctx
    (x,) = node.unpack()
    return _scatter(grad, taps, window, x)


def _scatter(dy: Tensor, taps: Any, window: Window, like: Tensor) -> Tensor:
    """The gradients put back where the maxima came from."""
    out = _result(of(dy._a).pool.max_pool2d_scatter(dy._a, taps, window.size, *window.taps), like)
    if recording(dy):
        record(out, _MaxPoolScatter, (dy,), (dy,), (window, taps))
    return out


def _scatter_backward(node: Any, grad: Tensor) -> Tensor:
    window, taps = node.ctx
    (dy,) = node.unpack()
    return _gather(grad, taps, window, dy)


_MaxPoolScatter: type[Node] = node_kind("MaxPool2DWithIndicesBackwardBackward0", _scatter_backward)


def _gather(x: Tensor, taps: Any, window: Window, like: Tensor) -> Tensor:
    """The elements at the places that the maxima came from."""
    out = _result(of(x._a).pool.max_pool2d_gather(x._a, taps, *window.taps), like)
    if recording(x):
        record(out, MaxPool2DWithIndicesBackward0, (x,), (x,), (window, taps))
    return out


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of (N, C, H, W) or (C, H, W); NaN if there is one. ``stride`` is kernel_size if None.

    With ``return_indices`` also the flat positions h * W + w of the maxima, int64. Raises RuntimeError for arguments
    that do not fit. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html"""
    window = _window("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    if input._a.dtype.kind in "bc":
        raise not_implemented("max_pool2d", input._a.dtype)
    x = _batched(input)
    values, indices = _max_pool(x, window, return_indices)
    if x is not input:
        values = values.squeeze(0)
        indices = indices.squeeze(0) if return_indices else None
    return (values, indices) if return_indices else values


def _max_pool(x: Tensor, window: Window, with_indices: bool) -> tuple[Tensor, Any]:
    pool = of(x._a).pool
    indices = taps = None
    if with_indices or recording(x):
        out, taps = pool.max_pool2d_with_taps(x._a, window.out, *window.taps)
    else:
        out = pool.max_pool2d(x._a, window.out, *window.taps)
    values = _result(out, x)
    if with_indices:
        indices = wrap(pool.max_pool2d_indices(taps, window.size, *window.taps))
    if recording(x):
        outs = values if indices is None else (values, indices)
        record(outs, MaxPool2DWithIndicesBackward0, (x,), (x,), (window, taps))
    return values, indices


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of (N, C, L) or (C, L).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool1d.html"""
    check_tensor("max_pool1d", "input", 1, input)
    shape = input._a.shape
    if len(shape) not in (2, 3):
        raise RuntimeError(
            "max_pool1d: Expected 2D or 3D (batch mode) tensor with optional 0 dim batch size for input, "
            f"but got:{list(shape)}"
        )
    k, p, d = _one("max_pool1d", kernel_size), _one("max_pool1d", padding), _one("max_pool1d", dilation)
    s = k if stride is None or (isinstance(stride, (tuple, list)) and not stride) else _one("max_pool1d", stride)
    for value, what in ((k, "kernel_size"), (s, "stride"), (d, "dilation")):
        if value <= 0:
            raise RuntimeError(f"max_pool1d() {what} must be greater than zero, but got {value}")
    if p < 0:
        raise RuntimeError(f"max_pool1d() padding must be non-negative, but got {p}")
    if p > k // 2:
        raise RuntimeError(
            f"max_pool1d() padding should be at most half of kernel size, but got padding={p} and kernel_size={k}"
        )
    length = _length(shape[-1], k, s, p, d, ceil_mode)
    if length < 1:
        raise RuntimeError(f"max_pool1d() Invalid computed output size: {length}")
    window = Window((1, shape[-1]), (1, length), (1, k), (1, s), (0, p), (1, d))
    x = input.unsqueeze(-2) if len(shape) == 3 else input.unsqueeze(0).unsqueeze(-2)
    values, indices = _max_pool(x, window, return_indices)
    values = values.squeeze(-2) if len(shape) == 3 else values.squeeze(0).squeeze(-2)
    if return_indices:
        return values, indices.squeeze(-2) if len(shape) == 3 else indices.squeeze(0).squeeze(-2)
    return values


def _one(name: str, value: Any) -> int:
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise RuntimeError(f"{name}() argument should contain one int (got {len(value)})")
        return value[0].__index__()
    return value.__index__()


# ---------------------------------------------------------------------------------------------------- average


@derivative
def AvgPool2DBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    window, options = node.ctx
    return avg_pool_backward(grad, window, options, x)


def avg_pool_backward(grad: Tensor, window: Window, options: Any, like: Tensor | None = None) -> Tensor:
    """The gradient of x from that of its averages, laid out as ``like``."""
    dx = of(grad._a).pool.avg_pool2d_backward(grad._a, window.size, *window.taps[:3], *options)
    out = _result(dx, grad if like is None else like)
    if recording(grad):
        record(out, _AvgPoolBackward, (grad,), (grad,), (window, options))
    return out


def _avg_pool(x: Tensor, window: Window, options: Any) -> Tensor:
    out = _result(of(x._a).pool.avg_pool2d(x._a, window.out, *window.taps[:3], *options), x)
    if recording(x):
        record(out, AvgPool2DBackward0, (x,), (x,), (window, options))
    return out


_AvgPoolBackward: type[Node] = node_kind("AvgPool2DBackwardBackward0", lambda node, grad: _avg_pool(grad, *node.ctx))


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of each window of (N, C, H, W) or (C, H, W).

    ``count_include_pad``: padding counts as zeros; ``divisor_override``: what sums are divided by instead of the number
    of elements. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html"""
    window = _window("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    if input._a.dtype.kind in "bcu" or (input._a.dtype.kind == "i" and input._a.itemsize < 8):
        raise not_implemented("avg_pool2d", input._a.dtype)
    x = _batched(input)
    out = _avg_pool(x, window, (count_include_pad, divisor_override))
    return out if x is input else out.squeeze(0)


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The average of each window of (N, C, L) or (C, L).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool1d.html"""
    _needs_two_or_three("avg_pool1d", input)
    k, p = _one("avg_pool1d", kernel_size), _one("avg_pool1d", padding)
    s = k if stride is None or (isinstance(stride, (tuple, list)) and not stride) else _one("avg_pool1d", stride)
    return avg_pool2d(input.unsqueeze(-2), (1, k), (1, s), (0, p), ceil_mode, count_include_pad).squeeze(-2)


def _needs_two_or_three(name: str, input: Any) -> None:
    check_tensor(name, "input", 1, input)
    if input._a.ndim not in (2, 3):
        raise RuntimeError(
            f"Expected 2 to 3 dimensions, but got {input._a.ndim}-dimensional tensor for argument #1 'self' "
            f"(while checking arguments for {name})"
        )


# --------------------------------------------------------------------------------------------------- adaptive


@derivative
def AdaptiveAvgPool2DBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    out = _result(of(grad._a).pool.adaptive_avg_pool2d_backward(grad._a, x._a.shape[2:]), x)
    if recording(grad):
        record(out, _AdaptiveAvgPoolBackward, (grad,), (grad,))
    return out


def _adaptive_backward_backward(node: Any, grad: Tensor) -> Tensor:
    (dy,) = node.unpack()
    return _adaptive_avg_pool(grad, dy._a.shape[2:])


_AdaptiveAvgPoolBackward: type[Node] = node_kind("AdaptiveAvgPool2DBackwardBackward0", _adaptive_backward_backward)


def _mean_backward(node: Any, grad: Tensor) -> Tensor:
    """Of the mean of each image: in one launch, laid out as the images are."""
    size, last, free = node.ctx
    out = _laid_out(of(grad._a).pool.adaptive_avg_pool2d_backward(grad._a, size, last), last and not free)
    if recording(grad):
        record(out, _AdaptiveAvgPoolBackward, (grad,), (grad,))
    return out


_Mean: type[Node] = node_kind("MeanBackward1", _mean_backward)


def _adaptive_avg_pool(x: Tensor, size: Pair) -> Tensor:
    out = _result(of(x._a).pool.adaptive_avg_pool2d(x._a, size), x)
    if recording(x):
        record(out, AdaptiveAvgPool2DBackward0, (x,), (x,))
    return out


def _output_size(name: str, value: Any, shape: tuple[int, ...]) -> Pair:
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise RuntimeError(f"{name}: output_size must be 2")
        h, w = (n if v is None else v.__index__() for v, n in zip(value, shape[-2:], strict=True))
    else:
        h, w = shape[-2:] if value is None else (value.__index__(),) * 2
    if h < 0 or w < 0:
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received {{{h}, {w}}}"
        )
    return h, w


def _not_empty(name: str, shape: tuple[int, ...]) -> None:
    for i in range(-3, 0):
        if shape[i] == 0:
            raise RuntimeError(
                f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                f"{list(shape)} with dimension {len(shape) + i} being empty"
            )


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The averages of ``output_size`` (one number, or two of which None keeps the input's) cells that cover
    (N, C, H, W) or (C, H, W).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html"""
    check_tensor("adaptive_avg_pool2d", "input", 1, input)
    shape = input._a.shape
    size = _output_size("adaptive_avg_pool2d", output_size, shape)
    if size == (1, 1) and len(shape) != 4:
        return input.mean((-1, -2), True)
    if len(shape) not in (3, 4):
        raise RuntimeError(f"adaptive_avg_pool2d(): Expected 3D or 4D tensor, but got {list(shape)}")
    if size != (1, 1):
        _not_empty("adaptive_avg_pool2d", shape)
    if input._a.dtype.kind in "biuc":
        raise not_implemented("adaptive_avg_pool2d", input._a.dtype)
    if size == (1, 1):  # PyTorch takes the mean
        if not shape[2] * shape[3]:
            return input.mean((-1, -2), True)
        out = _result(of(input._a).pool.adaptive_avg_pool2d(input._a, size), input)
        ctx = (shape[2:], is_channels_last(input._a), input._free)
        return record(out, _Mean, (input,), ctx=ctx) if recording(input) else out
    x = _batched(input)
    out = _adaptive_avg_pool(x, size)
    return out if x is input else out.squeeze(0)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The averages of ``output_size`` cells that cover (N, C, L) or (C, L).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool1d.html"""
    _needs_two_or_three("adaptive_avg_pool1d", input)
    return adaptive_avg_pool2d(input.unsqueeze(-2), (1, _single("adaptive_avg_pool1d", output_size))).squeeze(-2)


def _single(name: str, value: Any) -> int:
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise RuntimeError(f"{name}() argument 'output_size' should contain one int (got {len(value)})")
        value = value[0]
    return value.__index__()


@derivative
def AdaptiveMaxPool2DBackward0(node: Any, grad: Tensor, *indices: Any) -> Tensor:
    (x,) = node.unpack()
    return _index_scatter(grad, node.ctx, x._a.shape[2:])


def _index_scatter(dy: Tensor, indices: Any, size: Pair) -> Tensor:
    out = _result(of(dy._a).pool.index_scatter(dy._a, indices, size), dy)
    if recording(dy):
        record(out, _AdaptiveMaxPoolBackward, (dy,), ctx=(indices, size))
    return out


def _index_scatter_backward(node: Any, grad: Tensor) -> Tensor:
    indices, _ = node.ctx
    out = wrap(of(grad._a).pool.index_gather(grad._a, indices))
    if recording(grad):
        record(out, AdaptiveMaxPool2DBackward0, (grad,), (grad,), indices)
    return out


_AdaptiveMaxPoolBackward: type[Node] = node_kind("AdaptiveMaxPool2DBackwardBackward0", _index_scatter_backward)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of ``output_size`` cells that cover (N, C, H, W) or (C, H, W), and with ``return_indices`` their flat
    positions. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool2d.html"""
    check_tensor("adaptive_max_pool2d", "input", 1, input)
    shape = input._a.shape
    if len(shape) not in (3, 4):
        raise RuntimeError(f"adaptive_max_pool2d(): Expected 3D or 4D tensor, but got: {list(shape)}")
    size = _output_size("adaptive_max_pool2d", output_size, shape)
    _not_empty("adaptive_max_pool2d", shape)
    if input._a.dtype.kind in "biuc":
        raise not_implemented("adaptive_max_pool2d", input._a.dtype)
    x = _batched(input)
    values, places = (_result(a, x) for a in of(x._a).pool.adaptive_max_pool2d(x._a, size))
    if recording(x):
        outs = (values, places) if return_indices else values
        record(outs, AdaptiveMaxPool2DBackward0, (x,), (x,), places._a)
    if x is not input:
        values, places = values.squeeze(0), places.squeeze(0)
    return (values, places) if return_indices else values


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of ``output_size`` cells that cover (N, C, L) or (C, L).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool1d.html"""
    _needs_two_or_three("adaptive_max_pool1d", input)
    size = (1, _single("adaptive_max_pool1d", output_size))
    values, places = adaptive_max_pool2d(input.unsqueeze(-2), size, True)
    return (values.squeeze(-2), places.squeeze(-2)) if return_indices else values.squeeze(-2)


METHODS: list[str] = []
FUNCTIONS = ["max_pool1d", "max_pool2d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d"]
