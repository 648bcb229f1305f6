"""What the indexing families share: sums at places, the places of true elements, and small helpers."""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel, contiguous_steps
from tritium.kernels.triton import index_kernels as kernels
from tritium.kernels.triton import sort_radix
from tritium.kernels.triton.copy import _number, contiguous, copy_into
from tritium.kernels.triton.memory import empty, full
from tritium.kernels.triton.strided import overlap, power, stream_of

Array = Any

INT64 = np.dtype(np.int64)


def lines(a: Array) -> Array:
    """The array, a 0-d one as a vector. Raises DeviceMismatch for a NumPy array."""
    if not isinstance(a, DeviceArray):
        raise DeviceMismatch()
    return a.reshape(1) if a.ndim == 0 else a


def vector(index: Array) -> Array:
    """The array as a vector. Raises DeviceMismatch for a NumPy array."""
    if not isinstance(index, DeviceArray):
        raise DeviceMismatch()
    return index.reshape(-1)


def elements(a: DeviceArray) -> list[int]:
    return [s // a.dtype.itemsize for s in a.strides]


def without(steps: Any, dim: int) -> list[int]:
    found = list(steps)
    found[dim] = 0
    return found


def along(ndim: int, dim: int, step: int) -> list[int]:
    found = [0] * ndim
    found[dim] = step
    return found


def cell(value: Any, dtype: Any, device: int) -> DeviceArray:
    """A number, or a 0-d array, as an array of one element."""
    if isinstance(value, DeviceArray):
        if value.dtype == dtype:
            return value.reshape(1)
        out = empty((1,), dtype, device)
        copy_into(out, value)
        return out
    return full((1,), _number(value, dtype), dtype, device)


def source(src: Any, out: DeviceArray, shape: Any) -> tuple[DeviceArray, tuple[int, ...], bool]:
    """What is written over ``shape``: an array, its steps, and whether it is one number."""
    if not isinstance(src, DeviceArray) or src.ndim == 0:
        return cell(src, out.dtype, out.device), (0,) * len(shape), True
    if src.shape != tuple(shape):
        src = src[tuple([slice(n) for n in shape])]
    if src.dtype != out.dtype:
        src = src.astype(out.dtype)
    if src.size and out.size and overlap(src, out):
        src = contiguous(src)
    return src, src.strides, False


def apart(index: DeviceArray, out: DeviceArray) -> DeviceArray:
    """An index that does not lie in the memory that is written."""
    return contiguous(index) if index.size and out.size and overlap(index, out) else index


def block_size() -> int:
    return 16384 if runtime.active().emulated else 1024


def winners(count: int, device: int) -> DeviceArray:
    out = empty((count,), INT64, device)
    if count:
        runtime.active().memset(out.ptr, 0xFF, 1, out.nbytes, stream_of(out))
    return out


def segment(out: DeviceArray, outer: int, targets: int, inner: int, ids: DeviceArray, src: DeviceArray, op: str,
             include: bool = True, skip: int = -1) -> None:
    """``out`` (dense: outer, targets, inner) reduced at ids (a dense vector) with ``src`` (dense: outer, ids, inner).
    ``skip``: a number whose values are left out."""
    count, columns = ids.size, outer * inner
    if not (count and columns and targets):
        return
    keys = empty((count,), INT64, out.device)
    block = block_size()
    kernels.keys_kernel.bind(BLOCK=block)(-(-count // block), 1, 1, ids, keys, count, skip, targets)
    keys, order = sort_radix.argsort_keys(keys, targets.bit_length())
    heads = targets > 4 * count
    lanes = count if heads else targets
    many = power(max(count // targets, 1))
    if op not in ("sum", "mean"):
        many = 1
    if runtime.active().emulated:
        wide = min(power(columns), 256)
        many = min(many, 64)
        high = min(power(lanes), max(16384 // (wide * many), 1))
    elif columns == 1:
        wide, many = 1, min(many, 256)
        high = max(128 // many, 1)
    else:
        wide = min(power(columns), 128)
        many = 4 if op in ("sum", "mean") else 1
        high = max(128 // wide, 1)
    blocks = -(-columns // wide)
    kernels.segments.bind(OP=op, INCLUDE=include, HEADS=heads, BT=high, BS=many, BC=wide)(
        -(-lanes // high) * blocks, 1, 1, src, keys, order, out, count, targets, columns, blocks, inner,
        count.bit_length())


def refuse_complex(out: DeviceArray) -> None:
    if out.dtype.kind == "c":
        raise NoKernel("sums of complex numbers by index")


def true_places(a: DeviceArray) -> DeviceArray:
    """The flat positions of the elements that are not zero, in order; waits for the device."""
    if a.dtype.kind == "c":
        raise NoKernel("nonzero: complex")
    if not a.size:
        return empty((0,), INT64, a.device)
    a = a if a.dense else contiguous(a)
    n = a.size
    block = 16384 if runtime.active().emulated else 4096
    blocks = -(-n // block)
    counts = empty((blocks + 1,), INT64, a.device)
    total = counts[blocks:]
    kernels.count_true.bind(BLOCK=block)(blocks, 1, 1, a, counts, n)
    sort_radix.sums_before.bind(BLOCK=4096, num_warps=8)(1, 1, 1, counts, total, blocks)
    out = empty((total.item(),), INT64, a.device)
    if out.size:
        kernels.true_places.bind(BLOCK=block)(blocks, 1, 1, a, counts, out, n)
    return out


def nonzero(a: Array) -> Array:
    """The indices of the elements that are not zero: (count, ndim), int64."""
    places = true_places(a)
    out = empty((a.ndim, places.size), INT64, a.device)
    if out.size:
        block = block_size()
        for d, step in enumerate(contiguous_steps(a.shape, 1)):
            kernels.coordinate.bind(BLOCK=block)(-(-places.size // block), 1, 1, places, out[d], places.size, step,
                                                 a.shape[d])
    return out.T
