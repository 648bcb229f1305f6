"""Arguments of convolutions: read, expanded to one number a dimension, checked with PyTorch's errors."""

from __future__ import annotations

from typing import Any, NamedTuple

from tritium.tensor.dtype import from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.tensor import Tensor

C_NAMES = {
    "float32": "float",
    "float64": "double",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "int64": "long int",
    "int32": "int",
    "int16": "short int",
    "int8": "signed char",
    "uint8": "unsigned char",
    "bool": "bool",
    "complex64": "c10::complex<float>",
    "complex128": "c10::complex<double>",
}


class Setting(NamedTuple):
    """How a convolution moves over its input: two dimensions or three, ``padding`` is (top, bottom, left, right),
    with (front, back) before them."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def expand(name: str, value: Any, count: int) -> tuple[int, ...]:
    values = [value] * count if hasattr(value, "__index__") else list(value)
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {count} values to match the "
            f"convolution dimensions, but got {name}={values}"
        )
    return tuple([v.__index__() for v in values])


def _arguments_error(name: str, *args: Any) -> TypeError:
    kinds = ", ".join(type(a).__name__ for a in args)
    return TypeError(
        f"{name}() received an invalid combination of arguments - got ({kinds}), but expected (Tensor "
        "input, Tensor weight, Tensor bias = None, tuple of ints stride = 1, tuple of ints padding = 0, "
        "tuple of ints dilation = 1, int groups = 1)"
    )


def _is_ints(value: Any) -> bool:
    return hasattr(value, "__index__") or (
        isinstance(value, (tuple, list)) and all(hasattr(v, "__index__") for v in value)
    )


def read_options(
    name: str,
    dims: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> tuple[tuple[int, ...], ...]:
    """(stride, padding before, padding after, dilation), checked as far as they do not depend on shapes."""
    numbers = (stride, dilation, groups) if isinstance(padding, str) else (stride, padding, dilation, groups)
    if (
        not isinstance(input, Tensor)
        or not isinstance(weight, Tensor)
        or not (bias is None or isinstance(bias, Tensor))
        or not all(_is_ints(v) for v in numbers)
    ):
        raise _arguments_error(name, input, weight, *([] if bias is None else [bias]))
    ndim = input._a.ndim
    if ndim not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"Expected {dims + 1}D (unbatched) or {dims + 2}D (batched) input to {name}, but got input "
            f"of size: {list(input._a.shape)}"
        )
    count = weight._a.ndim - 2
    if count < 1:
        raise RuntimeError("weight should have at least three dimensions")
    stride, dilation = expand("stride", stride, dims), expand("dilation", dilation, dims)
    if count != dims:
        raise RuntimeError(
            f"expected stride to be a single integer value or a list of {count} values to match the "
            f"convolution dimensions, but got stride={list(stride)}"
        )
    if isinstance(padding, str):
        if padding == "valid":
            before = after = (0,) * dims
        elif padding == "same":
            if any(s != 1 for s in stride):
                raise RuntimeError("padding='same' is not supported for strided convolutions")
            total = [d * (k - 1) for d, k in zip(dilation, weight._a.shape[2:], strict=True)]
            before = tuple([n // 2 for n in total])
            after = tuple([n - n // 2 for n in total])
        else:
            raise RuntimeError(f"Invalid padding string: '{padding}'")
    else:
        before = after = expand("padding", padding, dims)
    for bad, what in (
        (any(p < 0 for p in before), "negative padding"),
        (any(s <= 0 for s in stride), "non-positive stride"),
        (any(d <= 0 for d in dilation), "non-positive dilation"),
        (groups <= 0, "non-positive groups"),
    ):
        if bad:
            raise RuntimeError(f"{what} is not supported")
    return stride, before, after, dilation


def check_shapes(
    input: Tensor, weight: Tensor, bias: Tensor | None, before: Any, after: Any, dilation: Any, groups: int
) -> None:
    """Raise PyTorch's errors for shapes and dtypes that do not fit."""
    shape, w = list(input._a.shape), list(weight._a.shape)
    if len(shape) == len(w) - 1:
        shape.insert(0, 1)
    if w[0] < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got "
            f"weight of size {w} instead"
        )
    if w[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but "
            f"got weight of size [{w}] instead"
        )
    if shape[1] != w[1] * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {w}, expected input{shape} to have "
            f"{w[1] * groups} channels, but got {shape[1]} channels instead"
        )
    check_bias(bias, w, w[0])
    padded = [n + a + b for n, a, b in zip(shape[2:], before, after, strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, w[2:], strict=True)]
    if any(n < k for n, k in zip(padded, reach, strict=True)):
        raise RuntimeError(
            f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
            f"({' x '.join(map(str, reach))}). Kernel size can't be greater than actual input size"
        )
    if not all(w[2:]):
        raise RuntimeError(f"Kernel size can't be zero, but got weight of size {w}")
    check_dtypes(input, weight, bias, groups)


def check_bias(bias: Tensor | None, w: list[int], channels: int, transposed: str = "") -> None:
    if bias is not None and bias._a.shape != (channels,):
        raise RuntimeError(
            f"Given {transposed}weight of size {w}, expected bias to be 1-dimensional with {channels} elements, but "
            f"got bias of size {list(bias._a.shape)} instead"
        )


def check_dtypes(input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, transposed: bool = False) -> None:
    a, w = input._a, weight._a
    x_type, w_type = from_numpy_dtype(a.dtype), from_numpy_dtype(w.dtype)
    if bias is not None and bias._a.dtype != a.dtype:
        raise RuntimeError(
            f"Input type ({C_NAMES[x_type.name]}) and bias type "
            f"({C_NAMES[from_numpy_dtype(bias._a.dtype).name]}) should be the same"
        )
    if x_type is not w_type:
        # PyTorch's words depend on the library it would have used.
        onednn = x_type.name in ("float16", "bfloat16") or (
            x_type.name == "float32" and (groups > 1 or min(w.shape[2:]) > 3 or a.shape[0] > 1 or a.size > 20480)
        )
        if onednn:
            x_name, w_name = (
                "CPUBFloat16Type" if t.name == "bfloat16" else f"torch.{t.title}Tensor" for t in (x_type, w_type)
            )
            raise RuntimeError(
                f"Input type ({x_name}) and weight type ({w_name}) should be the same or input should "
                "be a MKLDNN tensor and weight is a dense tensor"
            )
        raise RuntimeError(f"expected scalar type {x_type.title} but found {w_type.title}")
    if x_type.name == "bool":
        solid = w.ndim == 5
        name = f"slow_conv_transpose{3 if solid else 2}d_out_cpu" if transposed else (
            "compute_columns3d" if solid else "slow_conv2d_cpu"
        )
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool'")
    if a.dtype.kind == "c" and mode.enabled and (input._rg or weight._rg):
        raise NotImplementedError("convolution: gradients of complex tensors are not implemented")


_known: dict[Any, Setting] = {}


def setting_of(
    name: str, dims: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Setting:
    """The arguments of a convolution, checked. A combination that was checked once is looked up."""
    key: Any
    try:
        a, w, b = input._a, weight._a, None if bias is None else (bias._a.shape, bias._a.dtype)
        key = (name, a.shape, a.dtype, w.shape, w.dtype, b, stride, padding, dilation, groups)
        found = _known.get(key)
    except (AttributeError, TypeError):  # not a tensor; or lists, which cannot be looked up
        key = found = None
    if found is None:
        steps, before, after, spread = read_options(name, dims, input, weight, bias, stride, padding, dilation, groups)
        check_shapes(input, weight, bias, before, after, spread, groups)
        found = make_setting(dims, steps, before, after, spread, groups)
        if key is not None and a.dtype.kind != "c":
            if len(_known) > 1000:
                _known.clear()
            _known[key] = found
    return found


def make_setting(dims: int, stride: Any, before: Any, after: Any, dilation: Any, groups: int) -> Setting:
    padding = tuple([n for pair in zip(before, after, strict=True) for n in pair])
    if dims == 1:
        return Setting((1, *stride), (0, 0, *padding), (1, *dilation), groups)
    return Setting(stride, padding, dilation, groups)
