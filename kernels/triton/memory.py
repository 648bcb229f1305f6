"""New arrays in device memory, and the ways between host and device."""
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime import pinned
from tritium.kernels.runtime.memory import Block
from tritium.kernels.runtime.memory import after as wait_for
from tritium.kernels.runtime.state import current, forbid
from tritium.kernels.triton import fill as fills

STAGED = 1 << 20  # bytes up to which ordinary host memory is copied by way of pinned memory


def empty(shape: Any, dtype: Any, device: int | None = None) -> DeviceArray:
    """A contiguous array with any values."""
    shape = tuple(shape)
    dtype = np.dtype(dtype)
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    block = Block(nbytes, device)
    return DeviceArray(block, block.ptr, shape, dtype)


def zeros(shape: Any, dtype: Any, device: int | None = None) -> DeviceArray:
    """A contiguous array of zeros."""
    out = empty(shape, dtype, device)
    if out.size:
        runtime.active().memset(out.ptr, 0, 1, out.nbytes, current.on(out.device))
    return out


def full(shape: Any, value: Any, dtype: Any, device: int | None = None) -> DeviceArray:
    """A contiguous array of one number."""
    out = empty(shape, dtype, device)
    fill(out, value)
    return out


def fill(out: DeviceArray, value: Any) -> None:
    """Every element of ``out`` set to a number."""
    fills.fill(out, value)


def arange(start: Any, step: Any, count: int, dtype: Any, device: int | None = None) -> DeviceArray:
    """``start + i * step`` for i < count: in int64 when both are ints, else in float64; then in ``dtype``."""
    out = empty((count,), dtype, device)
    fills.arange(out, start, step)
    return out


def linspace(start: Any, end: Any, count: int, dtype: Any, device: int | None = None) -> DeviceArray:
    """``count`` numbers evenly spaced from ``start`` to ``end``, counted from the nearer end, in float64; then in
    ``dtype``, integers truncated."""
    out = empty((count,), dtype, device)
    fills.linspace(out, start, end)
    return out


def eye(rows: int, columns: int, dtype: Any, device: int | None = None) -> DeviceArray:
    """Ones on the diagonal of a matrix of zeros."""
    out = zeros((rows, columns), dtype, device)
    step = out.dtype.itemsize
    fills.fill(out.look(out.ptr, (min(rows, columns),), (step * columns + step,)), 1)
    return out


def strided(array: DeviceArray, shape: Any, strides: Any, offset: int = 0) -> DeviceArray:
    """A view: shape, strides and offset from ``array``'s first element, in bytes. The caller has checked the bounds."""
    return array.look(array.ptr + offset, tuple(shape), tuple(strides))


dense_view = strided


def broadcast_to(array: DeviceArray, shape: Any) -> DeviceArray:
    """A view of stride 0 along the dimensions that ``array`` lacks or has of size 1.

    Raises ValueError where the shape does not fit."""
    shape = tuple(shape)
    extra = len(shape) - len(array.shape)
    if extra < 0:
        raise ValueError("input operand has more dimensions than allowed by the axis remapping")
    strides = [0] * extra
    for n, m, s in zip(array.shape, shape[extra:], array.strides, strict=True):
        if n != m and n != 1:
            raise ValueError(f"operands could not be broadcast together with remapped shapes: {array.shape}, {shape}")
        strides.append(s if n == m else 0)
    return array.look(array.ptr, shape, tuple(strides))


def over(owner: Any, ptr: int, like: DeviceArray) -> DeviceArray:
    """A view of another block of memory, laid out as ``like``."""
    return DeviceArray(owner, ptr, like.shape, like.dtype, like.strides)


def address(array: DeviceArray) -> int:
    """The address of the first element."""
    return array.ptr


def to_device(array: DeviceArray, device: int) -> DeviceArray:
    """A contiguous copy on another device."""
    from tritium.kernels.triton import copy as family

    source = array if array.dense else family.contiguous(array)
    out = empty(array.shape, array.dtype, device)
    if out.size:
        here, there = current.on(array.device), out.owner.stream
        source.owner.used_on(here)
        wait_for(out.device, there, {here})
        source.owner.used_on(there)
        runtime.active().copy(out.ptr, source.ptr, out.nbytes, there)
    return out


def from_host(array: Any, device: int | None = None, non_blocking: bool = False) -> DeviceArray:
    """A contiguous copy of a NumPy array in device memory. ``non_blocking``: see ``copy_to_device``."""
    array = np.asarray(array)
    out = empty(array.shape, array.dtype, device)
    copy_to_device(out, array, non_blocking)
    return out


def copy_to_device(out: DeviceArray, source: np.ndarray, non_blocking: bool = False) -> None:
    """Write a NumPy array of the same shape and dtype into device memory.

    ``non_blocking``: return before it is done, where ``source`` is C-contiguous and pinned; it must not change until
    then. Otherwise ``source`` may change at once. Raises RuntimeError for memory that is not pinned inside the capture
    of a graph."""
    if not out.size:
        return
    if not out.dense:
        from tritium.kernels.triton import copy as family

        family.copy_into(out, from_host(source, out.device, non_blocking))
        return
    active, stream = runtime.active(), current.on(out.device)
    out.owner.used_on(stream)
    piece = pinned.piece_of(source) if source.flags.c_contiguous else None
    source = np.ascontiguousarray(source)
    address = source.__array_interface__["data"][0]
    if piece is None:
        forbid("a copy from host memory that is not pinned")
        if out.nbytes <= STAGED and not active.emulated:  # by way of pinned memory, without waiting
            piece, non_blocking = pinned.Piece(out.nbytes), True
            ctypes.memmove(piece.ptr, address, out.nbytes)
            address = piece.ptr
    active.copy(out.ptr, address, out.nbytes, stream)
    if piece is not None and (non_blocking or current.capture is not None):
        piece.used_on(stream)
    else:
        active.stream_synchronize(stream)


def to_host(array: DeviceArray) -> np.ndarray:
    """The elements as a contiguous NumPy array; waits for the device."""
    out = np.empty(array.shape, array.dtype)
    copy_to_host(out, array)
    return out


def copy_to_host(out: np.ndarray, source: DeviceArray, non_blocking: bool = False) -> None:
    """Write the elements of a device array into a NumPy array of the same shape and dtype.

    ``non_blocking``: return before it is done, where ``out`` is C-contiguous and pinned; otherwise waits for the
    device. Raises RuntimeError inside the capture of a graph for memory that is not pinned."""
    if not source.size:
        return
    piece = pinned.piece_of(out) if out.flags.c_contiguous else None
    if piece is None:
        forbid("a copy to host memory that is not pinned")
    if not source.dense:
        from tritium.kernels.triton import copy as family

        source = family.contiguous(source)
    active, stream = runtime.active(), current.on(source.device)
    source.owner.used_on(stream)
    target = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
    active.copy(target.ctypes.data, source.ptr, source.nbytes, stream)
    if piece is not None and (non_blocking or current.capture is not None):
        piece.used_on(stream)
    else:
        active.stream_synchronize(stream)
    if target is not out:
        out[...] = target
