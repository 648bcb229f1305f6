"""Interpolation to another size, with PyTorch's rules for sizes and scales, and derivatives of every order: it is
linear in its input, along one dimension after the other.

https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html
"""

from __future__ import annotations

from typing import Any

from tritium.kernels import of
from tritium.kernels.resample_tables import Axis, transpose
from tritium.tensor.autocast import amp
from tritium.tensor.graph import Node, record, recording, wrap
from tritium.tensor.layout import is_channels_last, suggests_channels_last
from tritium.tensor.ops.arguments import not_implemented
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.ops.pool import adaptive_avg_pool1d, adaptive_avg_pool2d
from tritium.tensor.ops.resample_grid import affine_grid_generator, grid_sampler
from tritium.tensor.tensor import Tensor

Kinds = tuple[type[Node], type[Node]]

MODES = {  # (mode, dimensions of the input, antialias) -> the op behind it, the mode along an axis
    ("nearest", 3, False): ("upsample_nearest1d", "nearest"),
    ("nearest", 4, False): ("upsample_nearest2d", "nearest"),
    ("nearest", 5, False): ("upsample_nearest3d", "nearest"),
    ("nearest-exact", 3, False): ("_upsample_nearest_exact1d", "nearest-exact"),
    ("nearest-exact", 4, False): ("_upsample_nearest_exact2d", "nearest-exact"),
    ("nearest-exact", 5, False): ("_upsample_nearest_exact3d", "nearest-exact"),
    ("linear", 3, False): ("upsample_linear1d", "linear"),
    ("bilinear", 4, False): ("upsample_bilinear2d", "linear"),
    ("trilinear", 5, False): ("upsample_trilinear3d", "linear"),
    ("bicubic", 4, False): ("upsample_bicubic2d", "cubic"),
    ("bilinear", 4, True): ("_upsample_bilinear2d_aa", "linear"),
    ("bicubic", 4, True): ("_upsample_bicubic2d_aa", "cubic"),
    ("lanczos", 4, True): ("_upsample_lanczos2d_aa", "lanczos"),
    ("area", 5, False): ("adaptive_avg_pool3d", "area"),
}
BYTES = ("nearest", "nearest-exact")  # with a uint8 input of any dimensions; bilinear and bicubic in two


def _derivative(node: Any, grad: Tensor) -> Tensor:
    axes, kinds = node.ctx
    return _resample(grad, tuple([transpose(a) for a in axes]), kinds[::-1])


def _kinds(op: str) -> Kinds:
    """The nodes of an op and of its derivative, under PyTorch's names."""
    name = "".join([part[0].upper() + part[1:] for part in op.strip("_").split("_")])
    name = name[:-1] + "D" if name[-1] == "d" else name.replace("dAa", "DAa")
    return node_kind(name + "Backward0", _derivative), node_kind(name + "BackwardBackward0", _derivative)


KINDS = {op: _kinds(op) for op, _ in MODES.values()}


def _resample(x: Tensor, axes: tuple[Axis, ...], kinds: Kinds) -> Tensor:
    a = x._a
    n = a.ndim
    last = n > 3 and not x._free and suggests_channels_last(a.shape, a.strides)
    if last and not is_channels_last(a, n):
        a = of(a).copy.contiguous(a.transpose(0, *range(2, n), 1)).transpose(0, n - 1, *range(1, n - 1))
    array = of(a).resample.resample(a, axes)
    out = wrap(array)
    out._free = not last and not array.flags.c_contiguous
    return record(out, kinds[0], (x,), ctx=(axes, kinds)) if recording(x) else out


# -------------------------------------------------------------------------------------------------- arguments


def _sizes(input: Tensor, size: Any, scale_factor: Any, recompute: bool) -> tuple[Any, Any]:
    """(output size, scale factors) as lists, of which one may be None."""
    shape = list(input._a.shape[2:])
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    given = scale_factor if size is None else size
    listed = list(given) if isinstance(given, (list, tuple)) else [given] * len(shape)
    if len(listed) != len(shape):
        if size is not None:
            raise ValueError(
                "Input and output must have the same number of spatial dimensions, but got input with spatial "
                f"dimensions of {shape} and output size of {size}. Please provide input tensor in (N, C, d1, d2, "
                "...,dK) format and output size in (o1, o2, ...,oK) format."
            )
        raise ValueError(
            "Input and scale_factor must have the same number of spatial dimensions, but got input with spatial "
            f"dimensions of {shape} and scale_factor of shape {scale_factor}. Please provide input tensor in (N, C, "
            "d1, d2, ...,dK) format and scale_factor in (s1, s2, ...,sK) format."
        )
    if size is None:
        if recompute:
            return [int(n * s) for n, s in zip(shape, listed, strict=True)], None
        return None, listed
    if isinstance(size, (list, tuple)) and not all(hasattr(n, "__index__") for n in size):
        raise TypeError(
            "expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got size "
            f"with types {[type(n) for n in size]}"
        )
    if recompute:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    return listed, None


def _invalid(name: str, what: str, values: list[Any]) -> TypeError:
    kinds = ", ".join(type(v).__name__ for v in values)
    return TypeError(f"{name}(): argument '{what}' must be a tuple of numbers, not list of [{kinds}]")


def _lengths(name: str, shape: tuple[int, ...], size: Any, scales: Any) -> tuple[int, ...]:
    """The output's sizes, as the op computes them from what it is given."""
    if scales is None:
        if not all(hasattr(n, "__index__") and not isinstance(n, bool) for n in size):
            raise _invalid(name, "output_size", size)
        return tuple([n.__index__() for n in size])
    if not all(isinstance(s, (int, float)) for s in scales):
        raise _invalid(name, "scale_factors", scales)
    products = [n * float(s) for n, s in zip(shape, scales, strict=True)]
    if not all(-(2.0**63) <= p < 2.0**63 for p in products):
        raise RuntimeError("value cannot be converted to type int64_t without overflow")
    return tuple([int(p) for p in products])


def _check(shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    if min(shape[2:] + outputs) <= 0:
        names = "DHW"[-len(outputs) :]
        before, after = (", ".join(f"{n}: {v}" for n, v in zip(names, s, strict=True)) for s in (shape[2:], outputs))
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input ({before}) "
            f"{'and ' if len(outputs) == 1 else ''}output ({after})"
        )
    if shape[1] == 0:
        raise RuntimeError(
            f"Non-empty {len(shape)}D data tensor expected but got a tensor with sizes {list(shape)}"
        )


def _check_volumes(shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    if min(outputs) < 0:
        raise RuntimeError(
            "adaptive_avg_pool3d: elements of output_size must be greater than or equal to 0 but received "
            f"{{{outputs[0]}, {outputs[1]},{outputs[2]}}}"
        )
    for d in range(1, 5):
        if shape[d] == 0:
            raise RuntimeError(
                "adaptive_avg_pool3d(): Expected input to have non-zero size for non-batch dimensions, but input has "
                f"sizes {list(shape)} with dimension {d} being empty"
            )


def _check_dtype(dtype: Any, mode: str, ndim: int, antialias: bool) -> None:
    if dtype.kind not in "biuc" or (dtype == "uint8" and (mode in BYTES or ndim == 4)):
        return
    if antialias:
        kernel = "compute_index_ranges_weights"
    elif mode == "area":
        kernel = "adaptive_avg_pool3d_cpu"
    elif mode == "cubic":
        kernel = "compute_indices_weights_cubic"
    elif ndim == 4:
        kernel = f"upsample_{'bilinear' if mode == 'linear' else 'nearest'}2d_channels_last"
    else:
        kernel = f"compute_indices_weights_{'linear' if mode == 'linear' else 'nearest'}"
    raise not_implemented(kernel, dtype)


# ------------------------------------------------------------------------------------------------- the function


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input (N, C, ...) of 3 to 5 dimensions in another size: ``size``, or ``scale_factor`` times its own, a number
    or one for each dimension after the second.

    ``mode``: nearest, nearest-exact, area; linear, bilinear, trilinear, bicubic and lanczos for as many dimensions as
    they say. ``align_corners``: the outermost places of input and output are the same, else their outermost edges.
    ``recompute_scale_factor``: take the ratio of the sizes instead of the factor. ``antialias``: filters that widen as
    the image shrinks (bilinear, bicubic, lanczos). Raises PyTorch's errors for what does not fit together.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html"""
    if amp.on and mode not in ("area", "lanczos"):  # which are on none of PyTorch's lists
        given = (input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
        if (r := amp.run("interpolate", interpolate, *given)) is not None:
            return r
    n = input.dim()
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | "
                "trilinear"
            )
    elif align_corners is None:
        align_corners = False
    recompute = bool(recompute_scale_factor) or (mode == "area" and size is None)
    output_size, scales = _sizes(input, size, scale_factor, recompute)
    if antialias and not (mode in ("bilinear", "bicubic", "lanczos") and n == 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input"
        )
    if mode == "area" and n == 3:
        return adaptive_avg_pool1d(input, output_size)
    if mode == "area" and n == 4:
        return adaptive_avg_pool2d(input, output_size)
    if mode == "lanczos" and n == 4:
        if align_corners:
            raise ValueError("Lanczos mode does not support align_corners=True")
        if not antialias:
            raise ValueError("Lanczos mode requires antialias=True")
    found = MODES.get((mode, n, bool(antialias)))
    if found is None:
        raise _no_such(mode, n)
    op, kind = found
    if align_corners is not None and not isinstance(align_corners, bool):
        raise TypeError(f"{op}(): argument 'align_corners' must be bool, not {type(align_corners).__name__}")
    shape = input._a.shape
    outputs = _lengths(op, shape[2:], output_size, scales)
    (_check_volumes if mode == "area" else _check)(shape, outputs)
    _check_dtype(input._a.dtype, kind, n, antialias)
    axes = []
    for d, (before, after) in enumerate(zip(shape[2:], outputs, strict=True)):
        scale = None if scales is None else float(scales[d])
        if mode == "nearest" and n == 4 and after in (before, 2 * before) and sum(outputs) <= 128:
            scale = None  # PyTorch's kernel for small images looks at the sizes there
        axes.append(Axis(kind, before, after, scale, bool(align_corners), bool(antialias)))
    return _resample(input, tuple(axes), KINDS[op])


def _no_such(mode: str, n: int) -> NotImplementedError:
    needs = {"linear": 3, "bilinear": 4, "trilinear": 5}.get(mode)
    if needs and n in (3, 4, 5):
        return NotImplementedError(f"Got {n}D input, but {mode} mode needs {needs}D input")
    return NotImplementedError(
        f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {n}D) for the modes: nearest | linear | "
        f"bilinear | bicubic | trilinear | lanczos | area | nearest-exact (got {mode})"
    )


METHODS: list[str] = []
FUNCTIONS = ["affine_grid_generator", "grid_sampler"]

__all__ = ["FUNCTIONS", "METHODS", "affine_grid_generator", "grid_sampler", "interpolate"]
