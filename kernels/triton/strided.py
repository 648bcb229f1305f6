"""Strided arrays as kernels walk them: few dimensions, each as long as possible.

Dimensions of size 1 go; the rest are sorted by the first array's strides, the fastest last; two neighbours become one
where every array steps through both as through one: stride[i] = size[i + 1] * stride[i + 1]. The innermost dimension
becomes the columns of a tile, the others its rows:

    row r = ((i0 * n1 + i1) * n2 + i2) ...      offset = i0 * s0 + i1 * s1 + i2 * s2 + ...
"""
from __future__ import annotations

from typing import Any

import numpy as np
import triton
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.runtime.state import current

WORDS = {n: np.dtype(f"i{n}") for n in (1, 2, 4, 8)}  # integers that stand for any elements of their size
OUTER = 5  # dimensions of rows that a kernel takes
LIMIT = 2**31 - 2**16  # offsets below it are counted in 32 bits

Dims = list[tuple[int, ...]]  # (size, stride of the first array, of the second, ...), the outermost dimension first


# --- on the host ---

def collapse(shape: Any, *strides: Any) -> Dims:
    """The dimensions of arrays of one shape, sorted by the strides of the first and joined where possible."""
    found = [d for d in zip(shape, *strides, strict=True) if d[0] != 1]
    if len(found) < 2:
        return found
    found.sort(key=_slowest_first)
    out = [found[0]]
    for d in found[1:]:
        last, n = out[-1], d[0]
        for s, t in zip(last[1:], d[1:], strict=True):
            if s != t * n:
                out.append(d)
                break
        else:
            out[-1] = (last[0] * n, *d[1:])
    return out


def _slowest_first(dim: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([-abs(s) for s in dim[1:]])


def packed(shape: Any, strides: Any, itemsize: int) -> bool:
    """Whether the elements fill their memory without gaps, in any order of dimensions, from the first one up."""
    step = itemsize
    for s, n in sorted([(s, n) for n, s in zip(shape, strides, strict=True) if n != 1]):
        if s != step:
            return False
        step *= n
    return True


def extent(array: Any) -> tuple[int, int]:
    """The lowest address of an array's elements, and the one after the highest. The array is not empty."""
    low = high = array.ptr
    for n, s in zip(array.shape, array.strides, strict=True):
        if s < 0:
            low += (n - 1) * s
        else:
            high += (n - 1) * s
    return low, high + array.dtype.itemsize


def overlap(one: Any, other: Any) -> bool:
    """Whether the memory of two arrays may overlap."""
    p, q = one.owner, other.owner
    if p is not q and (p.ptr + p.nbytes <= q.ptr or q.ptr + q.nbytes <= p.ptr):
        return False
    low, high = extent(one)
    bottom, top = extent(other)
    return low < top and bottom < high


def order_like(shape: Any, strides: Any, itemsize: int) -> tuple[int, ...]:
    """Strides of a dense array with the dimensions in the order that these strides have: NumPy's order "K"."""
    steps, step = [0] * len(shape), itemsize
    order = sorted(range(len(shape)), key=lambda d: abs(strides[d]), reverse=True)  # stable, also when reversed
    for d in reversed(order):
        steps[d] = step
        step *= shape[d]
    return tuple(steps)


def words(dims: Dims, size: int, address: int) -> tuple[Dims, int]:
    """Items of ``size`` bytes as the widest integers that divide the runs that lie together on both sides: dimensions
    with strides in words (given in bytes), and the bytes of a word."""
    run = size
    if dims and dims[-1][1] == dims[-1][2] == size:
        run *= dims[-1][0]
        dims = dims[:-1]
    bits = run | address | 8
    for _, s, t in dims:
        bits |= s | t
    word = bits & -bits
    dims = [(n, s // word, t // word) for n, s, t in dims]
    if run > word:
        dims.append((run // word, 1, 1))
    return dims, word


def stream_of(*arrays: Any) -> int:
    """The stream that work on these arrays goes to, for copies that no kernel makes: their memory is told of it."""
    stream = current.on(arrays[0].owner.device)
    for a in arrays:
        if a.owner.stream != stream:
            a.owner.used_on(stream)
    return stream


def outer(dims: Dims, which: int) -> list[int]:
    """Strides of the rows' dimensions, filled up in front: 0 for those that are not there."""
    return [0] * (OUTER - len(dims)) + [d[which] for d in dims]


def outer_sizes(dims: Dims) -> list[int]:
    """Sizes of the rows' dimensions without the first, filled up in front with 1."""
    return ([1] * (OUTER - len(dims)) + [d[0] for d in dims])[1:]


def rank(dims: Dims) -> int:
    """How many dimensions of rows the kernel is to be compiled for."""
    n = len(dims)
    return 1 if n <= 1 else 3 if n <= 3 else 5


def long(dims: Dims) -> bool:
    """Whether an offset, or the number of elements, may pass 32 bits."""
    count = 1
    reach = [0] * (len(dims[0]) - 1) if dims else []
    for n, *steps in dims:
        count *= n
        for i, s in enumerate(steps):
            reach[i] += (n - 1) * abs(s)
    return count >= LIMIT or max(reach, default=0) >= LIMIT


def row_tile(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a tile."""
    if runtime.active().emulated:
        width = min(power(columns), 4096)
        return min(power(rows), 16384 // width), width
    width = 4 if columns <= 4 else 16 if columns <= 16 else 64 if columns <= 64 else 256 if columns <= 256 else 1024
    return 1024 // width, width


def power(n: int) -> int:
    """The least power of 2 that is not smaller."""
    return 1 << (n - 1).bit_length() if n > 1 else 1


# --- on the device ---

@triton.jit
def row_offset(row, n1, n2, n3, n4, s0, s1, s2, s3, s4, RANK: tl.constexpr):
    """The offset of rows by their number. Sizes and strides of what RANK leaves out are not looked at."""
    kind: tl.constexpr = row.dtype
    if RANK == 1:
        offset = row * s4.to(kind)
    else:
        offset = row % n4.to(kind) * s4.to(kind)
        row = row // n4.to(kind)
        if RANK == 5:
            offset += row % n3.to(kind) * s3.to(kind)
            row = row // n3.to(kind)
            offset += row % n2.to(kind) * s2.to(kind)
            row = row // n2.to(kind)
            offset += row % n1.to(kind) * s1.to(kind)
            offset += row // n1.to(kind) * s0.to(kind)
        else:
            offset += row % n3.to(kind) * s3.to(kind)
            offset += row // n3.to(kind) * s2.to(kind)
    return offset


@triton.jit
def convert(x, dtype: tl.constexpr):
    """x in another dtype, as C converts: anything but 0 is true, floats lose their fraction, 16-bit types are rounded
    once (from integers and, to bfloat16, from float64 by way of float32, as NumPy does it)."""
    source: tl.constexpr = x.dtype
    if source == dtype:
        y = x
    elif dtype == tl.int1:
        y = x != 0
    elif source.is_floating() and dtype.is_int():
        wide = x.to(tl.float32) if source.primitive_bitwidth == 16 else x
        y = wide.to(dtype) if dtype.primitive_bitwidth == 64 else wide.to(tl.int64).to(dtype)
    elif source != tl.float32 and (dtype == tl.bfloat16 or (dtype == tl.float16 and source != tl.float64)):
        y = x.to(tl.float32).to(dtype)
    else:
        y = x.to(dtype)
    return y
