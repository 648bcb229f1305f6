"""Making tensors: from Python data, from NumPy, filled, ranges.

https://docs.pytorch.org/docs/stable/torch.html#creation-ops
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from tritium.tensor import dtype as dtypes
from tritium.tensor.device import as_available
from tritium.tensor.dtype import as_dtype, dtype, from_numpy_dtype, get_default_dtype
from tritium.tensor.graph import hold, version_of, wrap
from tritium.tensor.layout import (
    channels_last,
    check_sizes,
    contiguous_format,
    preserve_format,
    shape_of,
)
from tritium.tensor.tensor import Tensor, new_tensor


def finish(array: Any, requires_grad: bool = False, out: Tensor | None = None) -> Tensor:
    """A tensor over a fresh array, or the array's values in ``out``."""
    if out is not None:
        from tritium.tensor.ops.out import write_out

        return write_out("creation", out, wrap(array))
    t = wrap(array)
    if requires_grad:
        t.requires_grad = True
    return t


def _np_dtype(dtype_: Any) -> Any:
    return (get_default_dtype() if dtype_ is None else as_dtype(dtype_)).np


# --- from data ------------------------------------------------------------------------------

def _shape_and_leaves(data: Any) -> None:
    """Raise PyTorch's error for a ragged nested list."""
    def length(x: Any) -> int | None:
        return len(x) if isinstance(x, (list, tuple)) else None

    def check(x: Any, depth: int) -> Any:
        n = length(x)
        if n is None:
            return getattr(x, "shape", ())
        shapes = [check(item, depth + 1) for item in x]
        for i, s in enumerate(shapes[1:], 1):
            if s != shapes[0]:
                if bool(s) != bool(shapes[0]) or len(s) != len(shapes[0]):
                    bad = x[i]
                    if length(bad) is None:
                        raise TypeError(f"expected sequence object with len >= 0 or scalar (got {type(bad).__name__})"
                                        if not isinstance(bad, (int, float)) else
                                        "not a sequence")
                    raise ValueError("only one element tensors can be converted to Python scalars")
                raise ValueError(f"expected sequence of length {shapes[0][0]} at dim {depth + 1} (got {s[0]})")
        return (n, *(shapes[0] if shapes else ()))

    check(data, 0)


def infer_dtype(data: Any) -> dtype:
    """The dtype ``tritium.tensor`` gives to Python data: the highest category among its numbers."""
    found = -1
    stack = [data]
    named: dtype | None = None
    while stack:
        x = stack.pop()
        kind = type(x)
        if kind is float:
            found = max(found, 2)
        elif kind is bool:
            found = max(found, 0)
        elif kind is int:
            found = max(found, 1)
        elif kind is list or kind is tuple or isinstance(x, (list, tuple)):
            stack.extend(x)
        elif isinstance(x, Tensor):
            named = x.dtype if named is None else dtypes.promote_types(named, x.dtype)
        elif isinstance(x, (np.generic, np.ndarray)):
            d = from_numpy_dtype(x.dtype)
            named = d if named is None else dtypes.promote_types(named, d)
        elif isinstance(x, complex):
            found = max(found, 3)
        elif isinstance(x, float):
            found = max(found, 2)
        elif hasattr(x, "__len__") and hasattr(x, "__getitem__") and not isinstance(x, (str, bytes, dict)):
            stack.extend(x[i] for i in range(len(x)))
        elif isinstance(x, str):
            raise TypeError(f"new(): invalid data type '{type(x).__name__}'")
        elif hasattr(x, "__index__"):
            found = max(found, 1)
        else:
            raise RuntimeError(f"Could not infer dtype of {type(x).__name__}")
    by_number = (dtypes.bool_, dtypes.int64, get_default_dtype(), dtypes.default_complex())[found] if found >= 0 else None
    if named is not None:
        return named if by_number is None else dtypes.promote_types(named, by_number)
    return by_number or get_default_dtype()


def _plain(data: Any) -> Any:
    """Nested lists with the tensors in them as arrays."""
    if isinstance(data, Tensor):
        return data._a
    if isinstance(data, (list, tuple)):
        return [_plain(x) for x in data] if any(isinstance(x, (list, tuple, Tensor)) for x in data) else data
    return data


def array_of(data: Any, dt: Any = None) -> Any:
    """A fresh array from Python data, an array or a tensor.

    Raises ValueError or TypeError, in PyTorch's words, for ragged data and what is no number."""
    if isinstance(data, (np.ndarray, np.generic)):
        want = from_numpy_dtype(data.dtype).np if dt is None else dt
        return np.array(data, dtype=want, order="C", copy=True)
    if isinstance(data, Tensor):
        from tritium.kernels import of

        return of(data._a).pointwise.cast(np.ascontiguousarray(data._a), data._a.dtype if dt is None else dt).reshape(
            data._a.shape)
    if not isinstance(data, (list, tuple, int, float, complex, bool)) and hasattr(data, "__array__"):
        return array_of(np.asarray(data), dt)
    want = infer_dtype(data).np if dt is None else dt
    try:
        return np.array(_plain(data), dtype=want, order="C")
    except OverflowError:
        if want.kind in "iu":
            raise RuntimeError("value cannot be converted to type "
                               f"{from_numpy_dtype(want).name} without overflow") from None
        raise
    except (ValueError, TypeError):
        _shape_and_leaves(data)
        if isinstance(data, str):
            raise TypeError(f"new(): invalid data type '{type(data).__name__}'") from None
        raise


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of ``data``: numbers, nested lists, an array or a tensor.

    Without ``dtype``: float32 (the default dtype) for floats, int64 for ints, bool for bools, an array's own dtype.
    https://docs.pytorch.org/docs/stable/generated/torch.tensor.html"""
    as_available(device)
    if isinstance(data, Tensor):
        warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than tensor(sourceTensor).",
                      UserWarning, stacklevel=2)
    return finish(array_of(data, None if dtype is None else as_dtype(dtype).np), requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy where possible: a tensor as it is, an array sharing its memory."""
    as_available(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(as_dtype(dtype))
    if isinstance(data, np.ndarray):
        t = from_numpy(data)
        return t if dtype is None else t.to(as_dtype(dtype))
    return finish(array_of(data, None if dtype is None else as_dtype(dtype).np))


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None,
            requires_grad: bool = False) -> Tensor:
    """``obj`` as a tensor; ``copy`` True always copies, False never (ValueError when a copy is needed)."""
    if copy:
        return tensor(obj._a if isinstance(obj, Tensor) else obj, dtype=dtype, requires_grad=requires_grad)
    t = as_tensor(obj, dtype, device)
    if copy is False and not isinstance(obj, (Tensor, np.ndarray)):
        raise ValueError("can't alias arbitrary object without copying")
    if requires_grad and not t.requires_grad:
        t.requires_grad_()
    return t


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor of the default dtype."""
    as_available(device)
    return finish(np.array(s, _np_dtype(dtype)), requires_grad)


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor over an array's memory: writing to one changes the other.

    Raises TypeError for anything but an array of a dtype that PyTorch knows, ValueError for negative strides."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    from_numpy_dtype(ndarray.dtype)
    if not ndarray.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between "
                         "byte orders is currently not supported.")
    if any(s < 0 for s in ndarray.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides "
                         "are not currently supported. (You can probably work around this by making a copy of your "
                         "array  with array.copy().) ")
    if any(s % ndarray.itemsize for s in ndarray.strides) and ndarray.size:
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to "
                         "reallocate the memory.")
    if not ndarray.flags.writeable:
        warnings.warn("The given NumPy array is not writable, and PyTorch does not support non-writable tensors. This "
                      "means writing to this tensor will result in undefined behavior. You may want to copy the array "
                      "to protect its data or make it writable before converting it to a tensor.",
                      UserWarning, stacklevel=2)
    t = new_tensor(Tensor)
    t._a = ndarray.view(np.ndarray)
    version_of(t).shared = True
    hold(t)
    return t


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A one-dimensional tensor over a buffer's memory.

    Raises ValueError when the buffer is too small or not a whole number of elements."""
    t = from_numpy(np.frombuffer(buffer, as_dtype(dtype).np, count, offset))
    return t.requires_grad_(requires_grad)


# --- filled ---------------------------------------------------------------------------------

def _sizes(size: tuple[Any, ...]) -> tuple[int, ...]:
    return check_sizes(shape_of(size))


def _ordered(make: Any, shape: tuple[int, ...], dt: Any, format_: Any) -> Any:
    """An array from ``make(shape, dtype)`` in a memory format."""
    if format_ is None or format_ in (contiguous_format, preserve_format):
        return make(shape, dt)
    if len(shape) != (4 if format_ is channels_last else 5):
        raise RuntimeError(f"required rank {4 if format_ is channels_last else 5} tensor to use {format_._name} format")
    n = len(shape)
    inner = make((shape[0], *shape[2:], shape[1]), dt)
    return inner.transpose(0, n - 1, *range(1, n - 1))


def empty(*size: Any, out: Tensor | None = None, dtype: Any = None, layout: Any = None, device: Any = None,
          requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None) -> Tensor:
    """A tensor of the given size with any values."""
    as_available(device)
    return finish(_ordered(np.empty, _sizes(size), _np_dtype(dtype), memory_format), requires_grad, out)


def zeros(*size: Any, out: Tensor | None = None, dtype: Any = None, layout: Any = None, device: Any = None,
          requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of the given size filled with 0."""
    as_available(device)
    return finish(np.zeros(_sizes(size), _np_dtype(dtype)), requires_grad, out)


def ones(*size: Any, out: Tensor | None = None, dtype: Any = None, layout: Any = None, device: Any = None,
         requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of the given size filled with 1."""
    as_available(device)
    return finish(np.ones(_sizes(size), _np_dtype(dtype)), requires_grad, out)


def full(size: Any, fill_value: Any, *, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
         device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of the given size filled with ``fill_value``, whose kind decides the dtype when none is given."""
    as_available(device)
    if isinstance(fill_value, Tensor):
        dtype = fill_value.dtype if dtype is None else dtype
        fill_value = fill_value.item()
    dt = infer_dtype(fill_value).np if dtype is None else as_dtype(dtype).np
    return finish(np.full(_sizes((size,)), fill_value, dt), requires_grad, out)


def _like(input: Tensor, dtype_: Any, format_: Any, make: Any) -> Any:
    """An array of ``input``'s shape; its order of dimensions too, when that is dense."""
    a = input._a
    dt = a.dtype if dtype_ is None else as_dtype(dtype_).np
    if format_ is None or format_ is preserve_format:
        if input._free or a.flags.c_contiguous:
            return make(a.shape, dt)
        order = sorted(range(a.ndim), key=lambda d: (-a.strides[d], d))
        inner = make(tuple(a.shape[d] for d in order), dt)
        return inner.transpose(np.argsort(order))
    return _ordered(make, a.shape, dt, format_)


def empty_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``empty`` with the size, dtype and order of dimensions of ``input``."""
    as_available(device)
    return finish(_like(input, dtype, memory_format, np.empty), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``zeros`` with the size, dtype and order of dimensions of ``input``."""
    as_available(device)
    return finish(_like(input, dtype, memory_format, np.zeros), requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``ones`` with the size, dtype and order of dimensions of ``input``."""
    as_available(device)
    return finish(_like(input, dtype, memory_format, np.ones), requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """``full`` with the size, dtype and order of dimensions of ``input``."""
    as_available(device)
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    return finish(_like(input, dtype, memory_format, lambda s, d: np.full(s, value, d)), requires_grad)


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, device: Any = None,
                  requires_grad: bool = False) -> Tensor:
    """A tensor with the given strides (in elements) and any values."""
    as_available(device)
    shape, strides = shape_of((size,)), shape_of((stride,), "stride")
    if len(shape) != len(strides):
        raise RuntimeError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of strides "
                           f"({len(strides)})")
    dt = _np_dtype(dtype)
    count = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    flat = np.empty(max(count, 1), dt)
    if 0 in shape:
        return finish(np.empty(shape, dt), requires_grad)
    view = np.lib.stride_tricks.as_strided(flat, shape, [s * dt.itemsize for s in strides])
    return finish(view, requires_grad)


def eye(n: int, m: int | None = None, *, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
        device: Any = None, requires_grad: bool = False) -> Tensor:
    """A matrix with ones on the diagonal.

    Raises RuntimeError for a negative size."""
    as_available(device)
    for name, size in (("n", n), ("m", m)):
        if size is not None and size < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {size}")
    return finish(np.eye(n, m, dtype=_np_dtype(dtype)), requires_grad, out)


# --- ranges ---------------------------------------------------------------------------------

def arange(start: Any = None, end: Any = None, step: Any = 1, *, out: Tensor | None = None, dtype: Any = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``start, start + step, ...`` up to and without ``end``; ``arange(end)`` starts at 0.

    int64 when all are ints, else the default dtype. Raises RuntimeError for a step of 0 or of the wrong sign."""
    as_available(device)
    if end is None:
        start, end = 0, start
    if end is None:
        raise TypeError("arange() missing required argument: 'end'")
    start, end, step = (x.item() if isinstance(x, (Tensor, np.generic)) else x for x in (start, end, step))
    if dtype is None:
        dt = np.dtype(np.int64) if all(isinstance(x, int) for x in (start, end, step)) else get_default_dtype().np
    else:
        dt = as_dtype(dtype).np
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not all(math.isfinite(x) for x in (start, end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (step > 0) != (end >= start) and end != start:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dt.kind in "iu":
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise RuntimeError("step must be nonzero")
        return finish(np.arange(start, end, step, dtype=np.int64).astype(dt), requires_grad, out)
    count = max(0, math.ceil((end - start) / step))
    values = start + np.arange(count, dtype=np.float64) * step
    return finish(values.astype(dt), requires_grad, out)


def range_(start: Any, end: Any = None, step: Any = 1, **kwargs: Any) -> Tensor:
    """Deprecated ``range``: like ``arange`` with the end included."""
    count = math.floor((end - start) / step) + 1
    dt = as_dtype(kwargs.pop("dtype", None) or get_default_dtype())
    return finish((start + np.arange(count, dtype=np.float64) * step).astype(dt.np), **kwargs)


def linspace(start: Any, end: Any, steps: int, *, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False) -> Tensor:
    """``steps`` values evenly spaced from ``start`` to ``end``, both included.

    Raises RuntimeError for a negative number of steps."""
    as_available(device)
    start, end = (x.item() if isinstance(x, Tensor) else x for x in (start, end))
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    dt = _np_dtype(dtype)
    if steps == 1:
        return finish(np.array([start]).astype(dt), requires_grad, out)
    if dt.kind in "iu":
        step = (end - start) / max(steps - 1, 1)
        i = np.arange(steps)
        values = np.where(i < steps // 2, start + i * step, end - (steps - 1 - i) * step)
        return finish(np.trunc(values).astype(dt), requires_grad, out)
    work = dt if dt.itemsize >= 4 and dt.kind != "V" else np.dtype(np.float32)
    a, b = work.type(start), work.type(end)
    step = (b - a) / work.type(max(steps - 1, 1))
    i = np.arange(steps).astype(work)
    values = np.where(np.arange(steps) < steps // 2, a + step * i, b - step * (steps - 1 - i).astype(work))
    return finish(values.astype(dt), requires_grad, out)


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, out: Tensor | None = None, dtype: Any = None,
             layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``base`` to the powers ``linspace(start, end, steps)``."""
    powers = linspace(start, end, steps, dtype=dtypes.float64, device=device)._a
    with np.errstate(all="ignore"):
        return finish(np.power(base, powers).astype(_np_dtype(dtype)), requires_grad, out)


def complex_(real: Tensor, imag: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A complex tensor from its parts.

    Raises RuntimeError for parts of different dtypes."""
    a, b = real._a, imag._a
    if a.dtype != b.dtype:
        raise RuntimeError(f"Expected object of scalar type {real.dtype.title} but got scalar type {imag.dtype.title} "
                           "for second argument")
    if real._rg or imag._rg:
        raise NotImplementedError("complex(): gradients of complex tensors are not implemented")
    a, b = np.broadcast_arrays(a, b)
    array = np.empty(a.shape, np.complex128 if a.dtype == np.float64 else np.complex64)
    array.real, array.imag = a, b
    return finish(array, False, out)


# --- methods: new_* -------------------------------------------------------------------------

def new_empty(input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False,
              **kwargs: Any) -> Tensor:
    """``empty`` with the dtype and device of ``input``."""
    return empty(*size, dtype=input.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_zeros(input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False,
              **kwargs: Any) -> Tensor:
    """``zeros`` with the dtype and device of ``input``."""
    return zeros(*size, dtype=input.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_ones(input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False,
             **kwargs: Any) -> Tensor:
    """``ones`` with the dtype and device of ``input``."""
    return ones(*size, dtype=input.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_full(input: Tensor, size: Any, fill_value: Any, dtype: Any = None, device: Any = None,
             requires_grad: bool = False, **kwargs: Any) -> Tensor:
    """``full`` with the dtype and device of ``input``."""
    return full(size, fill_value, dtype=input.dtype if dtype is None else dtype, device=device,
                requires_grad=requires_grad)


def new_tensor_like(input: Tensor, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False,
                    **kwargs: Any) -> Tensor:
    """``tritium.tensor`` with the dtype and device of ``input``."""
    as_available(device)
    return finish(array_of(data, input._a.dtype if dtype is None else as_dtype(dtype).np), requires_grad)


# --- the old constructors -------------------------------------------------------------------

def legacy_tensor(cls: Any, *args: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
    """``Tensor(2, 3)`` (any values), ``Tensor(data)`` (a copy as float), ``Tensor(other)`` (shares memory)."""
    as_available(device)
    dt = _np_dtype(dtype)
    if not args:
        array = np.empty((0,), dt)
    elif len(args) == 1 and isinstance(args[0], Tensor):
        source = args[0]
        if source._a.dtype != dt:
            raise TypeError(f"expected {source.dtype} (got {from_numpy_dtype(dt)})")
        array = source.detach()._a
    elif len(args) == 1 and isinstance(args[0], np.ndarray):
        array = np.array(args[0], dt)
    elif all(hasattr(n, "__index__") for n in args):
        array = np.empty(check_sizes(shape_of(args)), dt)
    elif len(args) == 1 and type(args[0]).__name__ == "Size":
        array = np.empty(args[0], dt)
    elif len(args) == 1 and isinstance(args[0], (list, tuple)):
        array = array_of(args[0], dt)
    elif len(args) == 1 and isinstance(args[0], (float, bool)):
        raise TypeError(f"new(): data must be a sequence (got {type(args[0]).__name__})")
    else:
        raise TypeError(f"new() received an invalid combination of arguments - got "
                        f"({', '.join(type(x).__name__ for x in args)})")
    t = new_tensor(cls)
    t._a = array
    if len(args) == 1 and isinstance(args[0], Tensor):
        t._vc = version_of(args[0])
        t._vc.shared = True
    return t


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
