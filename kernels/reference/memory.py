"""New arrays in host memory. The same functions as the Triton side's: whoever makes an array need not ask where."""
from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def empty(shape: Any, dtype: Any, device: Any = None) -> Array:
    """A contiguous array with any values."""
    return np.empty(shape, dtype)


def zeros(shape: Any, dtype: Any, device: Any = None) -> Array:
    """A contiguous array of zeros."""
    return np.zeros(shape, dtype)


def full(shape: Any, value: Any, dtype: Any, device: Any = None) -> Array:
    """A contiguous array of one number."""
    return np.full(shape, value, dtype)


def arange(start: Any, step: Any, count: int, dtype: Any, device: Any = None) -> Array:
    """``start + i * step`` for i < count: in int64 when both are ints, else in float64; then in ``dtype``."""
    whole = isinstance(start, int) and isinstance(step, int)
    i = np.arange(count, dtype=np.int64 if whole else np.float64)
    return (start + i * step).astype(dtype, copy=False)


def linspace(start: Any, end: Any, count: int, dtype: Any, device: Any = None) -> Array:
    """``count`` numbers evenly spaced from ``start`` to ``end``, counted from the nearer end; integers are truncated.

    Computed in ``dtype``, float32 at least."""
    dtype = np.dtype(dtype)
    if count == 1:
        return np.array([start]).astype(dtype)
    i = np.arange(count)
    with np.errstate(all="ignore"):
        if dtype.kind in "iu":
            step = (end - start) / max(count - 1, 1)
            values = np.trunc(np.where(i < count // 2, start + i * step, end - (count - 1 - i) * step))
        else:
            work = dtype if dtype.itemsize >= 4 and dtype.kind != "V" else np.dtype(np.float32)
            low, high = work.type(start), work.type(end)
            step = (high - low) / work.type(max(count - 1, 1))
            values = np.where(i < count // 2, low + step * i.astype(work), high - step * (count - 1 - i).astype(work))
        return values.astype(dtype)


def eye(rows: int, columns: int, dtype: Any, device: Any = None) -> Array:
    """Ones on the diagonal of a matrix of zeros."""
    return np.eye(rows, columns, dtype=dtype)


def from_host(array: Any, device: Any = None) -> Array:
    """A NumPy array as it is."""
    return array


def to_host(array: Array) -> Array:
    """The array as it is."""
    return array


def fill(out: Array, value: Any) -> None:
    """Every element of ``out`` set to a number."""
    out[...] = value


def strided(array: Array, shape: Any, strides: Any, offset: int = 0) -> Array:
    """A view: shape, strides and offset from ``array``'s first element, in bytes. The caller has checked the bounds."""
    if 0 in shape:
        return np.ndarray(shape, array.dtype, np.empty(0, array.dtype), 0, strides)
    if offset == 0:
        return np.lib.stride_tricks.as_strided(array, shape, strides)
    # a one-dimensional window that reaches from the first element to the last one used
    item = array.itemsize
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    window = np.lib.stride_tricks.as_strided(array, (last // item + 1,), (item,))
    return np.lib.stride_tricks.as_strided(window[offset // item:], shape, strides)


def dense_view(flat: Array, shape: Any, strides: Any) -> Array:
    """A flat array's memory in another shape and order of dimensions; strides in bytes."""
    return np.ndarray(shape, flat.dtype, flat, 0, strides)


def broadcast_to(array: Array, shape: Any) -> Array:
    """A view of stride 0 along the dimensions that ``array`` lacks or has of size 1."""
    return np.broadcast_to(array, shape)


def address(array: Array) -> int:
    """The address of the first element."""
    return array.__array_interface__["data"][0]
