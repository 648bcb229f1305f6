"""Making tensors: filled, ranges, like another, and the old typed constructors.

https://docs.pytorch.org/docs/stable/torch.html#creation-ops
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import either, of, on
from tritium.tensor import dtype as dtypes
from tritium.tensor.device import as_available
from tritium.tensor.dtype import as_dtype, dtype, get_default_dtype
from tritium.tensor.from_data import (
    array_of,
    finish,
    infer_dtype,
    legacy_tensor,
)
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import wrap
from tritium.tensor.layout import (
    array_like,
    broadcast_shapes,
    channels_last,
    check_sizes,
    contiguous_format,
    preserve_format,
    shape_of,
)
from tritium.tensor.tensor import Tensor


def _done(array: Any, requires_grad: bool = False, out: Tensor | None = None, dtype: Any = None,
          name: str = "") -> Tensor:
    """A tensor over a fresh array, or the array's values in ``out``."""
    if out is None:
        return finish(array, requires_grad)
    if dtype is not None and as_dtype(dtype).np != out._a.dtype:
        raise RuntimeError(f"dtype {as_dtype(dtype).title} does not match dtype of out parameter ({out.dtype.title})")
    from tritium.tensor.ops.out import write_out

    write_out(f"aten::{name}", out, wrap(array), any_dtype=True)
    return out.requires_grad_() if requires_grad else out


def _np_dtype(dtype_: Any, out: Tensor | None = None) -> Any:
    if dtype_ is None and out is not None:
        return out._a.dtype
    return (get_default_dtype() if dtype_ is None else as_dtype(dtype_)).np


# --- filled ---------------------------------------------------------------------------------

def _sizes(name: str, sizes: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """The shape in ``zeros(2, 3)``, ``zeros((2, 3))`` or ``zeros(size=(2, 3))``.

    Raises TypeError when there is none, or one of something else than ints; RuntimeError for a negative size."""
    if size is not None:
        sizes = (size,) if isinstance(size, (tuple, list)) else (None,)
    if len(sizes) == 1 and (sizes[0] is None or isinstance(sizes[0], bool) or getattr(sizes[0], "ndim", False)):
        raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not "
                        f"{type(size if size is not None else sizes[0]).__name__}")
    if not sizes:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    shape = shape_of(sizes)
    if name == "zeros" and any(n < 0 for n in shape):
        raise RuntimeError("zeros: Dimension size must be non-negative.")
    return check_sizes(shape)


def _ordered(make: Any, shape: tuple[int, ...], dt: Any, format_: Any) -> Any:
    """An array from ``make(shape, dtype)`` in a memory format."""
    if format_ is None or format_ in (contiguous_format, preserve_format):
        return make(shape, dt)
    if len(shape) != (4 if format_ is channels_last else 5):
        raise RuntimeError(f"required rank {4 if format_ is channels_last else 5} tensor to use {format_._name} format")
    n = len(shape)
    inner = make((shape[0], *shape[2:], shape[1]), dt)
    return inner.transpose(0, n - 1, *range(1, n - 1))


def empty(*sizes: Any, size: Any = None, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
          device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
          memory_format: Any = None) -> Tensor:
    """A tensor of the given size with any values."""
    place = on(as_available(device))
    array = _ordered(place.empty, _sizes("empty", sizes, size), _np_dtype(dtype, out), memory_format)
    return _done(array, requires_grad, out, dtype, "empty")


def zeros(*sizes: Any, size: Any = None, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
          device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of the given size filled with 0."""
    place = on(as_available(device))
    return _done(place.zeros(_sizes("zeros", sizes, size), _np_dtype(dtype, out)), requires_grad, out, dtype, "zeros")


def ones(*sizes: Any, size: Any = None, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
         device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of the given size filled with 1."""
    place = on(as_available(device))
    return _done(place.full(_sizes("ones", sizes, size), 1, _np_dtype(dtype, out)), requires_grad, out, dtype, "ones")


def _fill_number(name: str, value: Any) -> Any:
    if isinstance(value, Tensor) and not value._a.ndim:
        return value._a.item()
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, (int, float, complex)):
        raise TypeError(f"{name}(): argument 'fill_value' (position 2) must be Number, not {type(value).__name__}")
    return value


def full(size: Any, fill_value: Any, *, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
         device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of the given size filled with ``fill_value``, whose kind decides the dtype when none is given.

    Raises RuntimeError when the dtype cannot hold the value."""
    from tritium.tensor.ops.arguments import fill_value as as_array

    place = on(as_available(device))
    if isinstance(size, int):
        raise TypeError("full(): argument 'size' (position 1) must be tuple of ints, not int")
    if isinstance(fill_value, Tensor) and dtype is None and out is None and not fill_value._a.ndim:
        dtype = fill_value.dtype
    value = _fill_number("full", fill_value)
    dt = infer_dtype(value).np if dtype is None and out is None else _np_dtype(dtype, out)
    shape = _sizes("full", (), size)
    return _done(place.full(shape, as_array(value, dt), dt), requires_grad, out, dtype, "full")


def _like(input: Tensor, dtype_: Any, format_: Any, device: Any, method: str, convert: Any = None) -> Any:
    """An array of ``input``'s shape; its order of dimensions too, unless another is asked for. On its device likewise.
    ``method``: what makes it ("empty", "zeros", "full"); ``convert``: from the dtype to the value it is filled with."""
    if not isinstance(input, Tensor):
        raise TypeError(f"argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    a = input._a
    make = getattr(on(input.device if device is None else as_available(device)), method)
    if convert is not None:
        fill = make
        make = lambda shape, dt: fill(shape, convert(dt), dt)
    dt = a.dtype if dtype_ is None else as_dtype(dtype_).np
    if format_ is None or format_ is preserve_format:
        return make(a.shape, dt) if input._free else array_like(a, dt, make)
    return _ordered(make, a.shape, dt, format_)


def empty_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``empty`` with the size, dtype and order of dimensions of ``input``."""
    return finish(_like(input, dtype, memory_format, device, "empty"), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``zeros`` with the size, dtype and order of dimensions of ``input``."""
    return finish(_like(input, dtype, memory_format, device, "zeros"), requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``ones`` with the size, dtype and order of dimensions of ``input``."""
    return finish(_like(input, dtype, memory_format, device, "full", lambda dt: 1), requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``full`` with the size, dtype and order of dimensions of ``input``."""
    from tritium.tensor.ops.arguments import fill_value as as_array

    value = _fill_number("full_like", fill_value)
    return finish(_like(input, dtype, memory_format, device, "full", lambda dt: as_array(value, dt)), requires_grad)


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                  requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor with the given strides (in elements) and any values.

    Raises RuntimeError for negative sizes or strides, or lists of different lengths."""
    place = on(as_available(device))
    shape, strides = shape_of((size,)), shape_of((stride,), "stride")
    if len(shape) != len(strides):
        raise RuntimeError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of strides "
                           f"({len(strides)})")
    check_sizes(shape)
    if any(s < 0 for s in strides):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)} and strides={list(strides)}")
    dt = _np_dtype(dtype)
    count = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    flat = place.empty((count,), dt)
    return finish(of(flat).memory.dense_view(flat, shape, tuple([s * dt.itemsize for s in strides])), requires_grad)


def eye(n: Any, m: Any = None, *, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
        device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A matrix with ones on the diagonal.

    Raises RuntimeError for a negative size."""
    place = on(as_available(device))
    for name, size in (("n", n), ("m", m)):
        if size is None and name == "m":
            continue
        if not hasattr(size, "__index__"):
            raise TypeError(f"eye(): argument '{name}' must be int, not {type(size).__name__}")
        if size < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {size}")
    array = place.eye(n.__index__(), (n if m is None else m).__index__(), _np_dtype(dtype, out))
    return _done(array, requires_grad, out, dtype, "eye")


# --- ranges ---------------------------------------------------------------------------------

def _number(name: str, argument: str, x: Any) -> Any:
    """A Python number from a number, a NumPy scalar or a 0-d tensor."""
    if isinstance(x, np.generic) or (isinstance(x, (Tensor, np.ndarray)) and x.ndim == 0):
        return x.item()
    if not isinstance(x, (int, float, complex)):
        raise TypeError(f"{name}(): argument '{argument}' must be Number, not {type(x).__name__}")
    if isinstance(x, complex):
        raise RuntimeError("value cannot be converted to type double without overflow")
    return x


def _check_range(start: Any, end: Any, step: Any) -> None:
    if not step > 0 and not step < 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start:g} -> {end:g}")
    if (step > 0 and end < start) or (step < 0 and end > start):
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")


def arange(start: Any = None, end: Any = None, step: Any = 1, *, out: Tensor | None = None, dtype: Any = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``start, start + step, ...`` up to and without ``end``; ``arange(end)`` starts at 0.

    int64 when all are ints, else the default dtype. Raises RuntimeError for a step of 0 or of the wrong sign."""
    place = on(as_available(device))
    if end is None:
        start, end = None, start
    if end is None:
        raise TypeError("arange() missing required argument: 'end'")
    if start is None:
        start = 0
    start, end, step = (_number("arange", n, x) for n, x in (("start", start), ("end", end), ("step", step)))
    if dtype is None and out is None:
        dt = np.dtype(np.int64) if all(isinstance(x, int) for x in (start, end, step)) else get_default_dtype().np
    else:
        dt = _np_dtype(dtype, out)
    _check_range(start, end, step)
    if dt.kind == "b":
        raise NotImplementedError("\"arange_cpu\" not implemented for 'Bool'")
    if dt.kind in "iu":
        if dt.itemsize == 8:  # the count, too, is taken in whole numbers
            start, end, step = int(start), int(end), int(step)
            if step == 0:
                raise ValueError("step must be nonzero")
            count = len(range(start, end, step))
        else:
            count = math.ceil((end - start) / step)
            start, step = int(start), int(step)
    else:
        count = math.ceil((end - start) / step)
        start, step = float(start), float(step)
    return _done(place.arange(start, step, count, dt), requires_grad, out, dtype, "arange")


def range_(start: Any = 0, end: Any = None, step: Any = 1, *, out: Tensor | None = None, dtype: Any = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Deprecated ``range``: like ``arange`` with the end included, and of the default dtype.

    Raises RuntimeError for a step of 0 or of the wrong sign."""
    place = on(as_available(device))
    if end is None:
        start, end = 0, start
    start, end, step = (_number("range", n, x) for n, x in (("start", start), ("end", end), ("step", step)))
    _check_range(start, end, step)
    dt = _np_dtype(dtype, out)
    count = math.floor((end - start) / step) + 1
    start, step = (int(start), int(step)) if dt.kind in "iu" else (float(start), float(step))
    return _done(place.arange(start, step, count, dt), requires_grad, out, dtype, "range")


def _end(name: str, what: str, x: Any) -> Any:
    if isinstance(x, Tensor):
        if x._a.ndim:
            raise RuntimeError(f"{name} only supports 0-dimensional start and end tensors, but got {what} with "
                               f"{x._a.ndim} dimension(s).")
        return x._a.item()
    return x.item() if isinstance(x, np.generic) else x


def linspace(start: Any, end: Any, steps: Any, *, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``steps`` values evenly spaced from ``start`` to ``end``, both included.

    Raises RuntimeError for a negative number of steps."""
    place = on(as_available(device))
    a, b = _end("linspace", "start", start), _end("linspace", "end", end)
    if not hasattr(steps, "__index__"):
        raise TypeError(f"linspace(): argument 'steps' must be int, not {type(steps).__name__}")
    n = steps.__index__()
    if n < 0:
        raise RuntimeError("number of steps must be non-negative")
    dt = _np_dtype(dtype, out)
    if isinstance(a, complex) or isinstance(b, complex):
        if dtype is not None and dt.kind != "c":
            raise RuntimeError("linspace(): inferred dtype complex can't be safely cast to passed dtype "
                               f"{as_dtype(dtype)}")
        dt = dt if dt.kind == "c" else get_default_dtype().to_complex().np
    return _done(place.linspace(a, b, n, dt), requires_grad, out, dtype, "linspace")


def logspace(start: Any, end: Any, steps: Any, base: float = 10.0, *, out: Tensor | None = None, dtype: Any = None,
             layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``base`` to the powers ``linspace(start, end, steps)``."""
    dt = _np_dtype(dtype, out)
    powers = linspace(start, end, steps, dtype=dtypes.float64, device=device)._a
    with np.errstate(all="ignore"):
        values = of(powers).pointwise.binaries["pow"](np.float64(base), powers)
    return _done(of(powers).pointwise.cast(values, dt), requires_grad, out, dtype, "logspace")


def scalar_tensor(s: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
                  pin_memory: bool = False) -> Tensor:
    """A 0-d tensor of the default dtype."""
    from tritium.tensor.ops.arguments import fill_value as as_array

    place = on(as_available(device))
    return finish(place.from_host(as_array(_fill_number("scalar_tensor", s), _np_dtype(dtype))), requires_grad)


def complex_(real: Tensor, imag: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A complex tensor from its parts.

    Raises RuntimeError for parts of different dtypes, or that are not float32 or float64."""
    a, b = real._a, imag._a
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {real.dtype.title} and "
                           f"{imag.dtype.title}")
    if a.dtype != b.dtype:
        raise RuntimeError(f"Expected object of scalar type {real.dtype.title} but got scalar type {imag.dtype.title} "
                           "for second argument")
    if a.dtype.itemsize == 2:
        raise NotImplementedError("complex(): complex tensors of float16 parts are not implemented")
    if mode.enabled and (real._rg or imag._rg):
        raise NotImplementedError("complex(): gradients of complex tensors are not implemented")
    side = either(a, b)
    shape = broadcast_shapes(a.shape, b.shape)
    array = side.memory.empty(shape, np.complex128 if a.dtype == np.float64 else np.complex64)
    parts = array.view(a.dtype) if shape else array[None].view(a.dtype)
    parts = parts.reshape(*shape, 2)
    side.copy.copy_into(parts[..., 0], a)
    side.copy.copy_into(parts[..., 1], b)
    return _done(array, False, out, None, "complex")


# --- methods: new_* -------------------------------------------------------------------------

def _place(input: Tensor, device: Any) -> Any:
    return input.device if device is None else device


def new_empty(input: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``empty`` with the dtype and device of ``input``."""
    return empty(*sizes, size=size, dtype=input.dtype if dtype is None else dtype, device=_place(input, device),
                 requires_grad=requires_grad)


def new_zeros(input: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``zeros`` with the dtype and device of ``input``."""
    place = on(as_available(_place(input, device)))
    dt = input._a.dtype if dtype is None else as_dtype(dtype).np
    return finish(place.zeros(_sizes("new_zeros", sizes, size), dt), requires_grad)


def new_ones(input: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``ones`` with the dtype and device of ``input``."""
    return ones(*sizes, size=size, dtype=input.dtype if dtype is None else dtype, device=_place(input, device),
                requires_grad=requires_grad)


def new_full(input: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``full`` with the dtype and device of ``input``."""
    return full(size, fill_value, dtype=input.dtype if dtype is None else dtype, device=_place(input, device),
                requires_grad=requires_grad)


def new_tensor_like(input: Tensor, data: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                    requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``tritium.tensor`` with the dtype and device of ``input``, whatever the data's own."""
    place = as_available(_place(input, device))
    return finish(array_of(data, input._a.dtype if dtype is None else as_dtype(dtype).np, place), requires_grad)


# --- the old constructors -------------------------------------------------------------------

class _TypedMeta(type):
    _dtype: dtype

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor) and instance._a.dtype == cls._dtype.np

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return legacy_tensor(Tensor, *args, dtype=cls._dtype, **kwargs)

    def __repr__(cls) -> str:
        return f"<class 'tritium.{cls.__name__}'>"


def _typed(title: str, dt: dtype) -> Any:
    return _TypedMeta(title + "Tensor", (), {"_dtype": dt, "dtype": dt, "__module__": "tritium"})


FloatTensor, DoubleTensor, HalfTensor, BFloat16Tensor = (
    _typed(t, d) for t, d in (("Float", dtypes.float32), ("Double", dtypes.float64), ("Half", dtypes.float16),
                              ("BFloat16", dtypes.bfloat16)))
LongTensor, IntTensor, ShortTensor, CharTensor, ByteTensor, BoolTensor = (
    _typed(t, d) for t, d in (("Long", dtypes.int64), ("Int", dtypes.int32), ("Short", dtypes.int16),
                              ("Char", dtypes.int8), ("Byte", dtypes.uint8), ("Bool", dtypes.bool_)))
TYPED = (FloatTensor, DoubleTensor, HalfTensor, BFloat16Tensor, LongTensor, IntTensor, ShortTensor, CharTensor,
         ByteTensor, BoolTensor)
