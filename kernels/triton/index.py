"""Reading and writing elements by number along a dimension, by mask, and by flat position.

    gather          out[i, j] = a[index[i, j], j]              (along dimension 0)
    scatter         out[index[i, j], j] = src[i, j]            the last of several wins
    scatter_reduce  out[index[i, j], j] op= src[i, j]          sum, prod, mean, amax, amin

Functions named ``*_into`` write into their first argument. The same inputs give the same bits: where several values
meet in one place the numbers are sorted, and each place's values are taken in a fixed order. 16-bit floats are summed
in float32 and rounded once. Numbers outside are not looked up: the caller has checked them with ``first_outside``.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, contiguous_steps
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.state import current
from tritium.kernels.triton import index_kernels as kernels
from tritium.kernels.triton import sort_radix
from tritium.kernels.triton.copy import _number, contiguous, copy_into
from tritium.kernels.triton.index_common import (
    INT64,
    along,
    apart,
    block_size,
    cell,
    elements,
    lines,
    nonzero,
    refuse_complex,
    segment,
    source,
    true_places,
    vector,
    winners,
    without,
)
from tritium.kernels.triton.index_keys import accumulate_into, index, put
from tritium.kernels.triton.memory import broadcast_to, empty
from tritium.kernels.triton.strided import WORDS, overlap, row_tile, stream_of

__all__ = ["accumulate_into", "add_rows", "cases", "first_outside", "gather", "index", "index_add_into",
           "index_copy_into", "index_fill_into", "index_select", "masked_fill_into", "masked_scatter_into",
           "masked_select", "nonzero", "one_hot", "put", "put_into", "scatter_into", "scatter_reduce_into", "take"]

Array = Any

# --- along a dimension ---

def gather(a: Array, dim: int, index: Array) -> Array:
    """``out[i][j] = a[index[i][j]][j]`` (dim 0). The shape is the index's."""
    lined = lines(index)
    out = empty(lined.shape, a.dtype, a.device)
    if out.size:
        a = lines(a)
        kernels.run_indexed(a, lined, out, lined.shape, without(a.strides, dim), elements(lined), out.strides,
                            a.shape[dim], a.strides[dim], False)
    return out.reshape(index.shape)


def scatter_into(out: Array, dim: int, index: Array, src: Array) -> None:
    """``out[index[i][j]][j] = src[i][j]`` (dim 0). The last of several writers wins. ``src``: at least the index's
    shape, or 0-d."""
    if not index.size or not out.size:
        return
    index, out = apart(lines(index), out), lines(out)
    src, steps, single = source(src if not isinstance(src, DeviceArray) or src.ndim == 0 else lines(src), out,
                                 index.shape)
    if single:
        kernels.run_indexed(src, index, out, index.shape, steps, elements(index), without(out.strides, dim),
                            out.shape[dim], out.strides[dim], True)
        return
    target = out if out.dense else contiguous(out)
    winner = winners(target.size, out.device)
    ids = _ids_along(target, dim, index, winner)
    kernels.run_indexed(src, ids, target, index.shape, steps, elements(ids), (0,) * index.ndim, target.size,
                        target.dtype.itemsize, True, winner)
    if target is not out:
        copy_into(out, target)


def _ids_along(target: DeviceArray, dim: int, index: DeviceArray, winner: DeviceArray | None = None) -> DeviceArray:
    """The flat positions in a dense array that an index along a dimension names."""
    steps = contiguous_steps(target.shape, 1)
    ids = empty(index.shape, INT64, index.device)
    kernels.run_linear(index, ids, index.shape, elements(index), without(steps, dim), elements(ids),
                       target.shape[dim], steps[dim], False, winner)
    return ids


def scatter_reduce_into(out: Array, dim: int, index: Array, src: Array, reduce: str, include_self: bool = True) -> None:
    """``out[index[i][j]][j]`` reduced with ``src[i][j]`` (dim 0): sum, prod, mean, amax, amin. Without
    ``include_self`` the values that were there count only where nothing comes in."""
    if not index.size or not out.size:
        return
    index, out = lines(index), lines(out)
    src, steps, single = source(src if not isinstance(src, DeviceArray) or src.ndim == 0 else lines(src), out,
                                 index.shape)
    if single:
        src = src.look(src.ptr, index.shape, steps)
    src = src if src.dense else contiguous(src)
    refuse_complex(out)
    target = out if out.dense else contiguous(out)
    segment(target, 1, target.size, 1, _ids_along(target, dim, index), src, reduce, include_self)
    if target is not out:
        copy_into(out, target)


def index_select(a: Array, dim: int, index: Array) -> Array:
    """The slices of ``a`` with these numbers along ``dim``."""
    lined, index = lines(a), vector(index)
    shape = (*lined.shape[:dim], index.size, *lined.shape[dim + 1:])
    out = empty(shape, a.dtype, a.device)
    if out.size:
        kernels.run_indexed(lined, index, out, shape, without(lined.strides, dim),
                            along(len(shape), dim, elements(index)[0]), out.strides, lined.shape[dim],
                            lined.strides[dim], False)
    return out if a.ndim else out.reshape(())


def index_add_into(out: Array, dim: int, index: Array, src: Array) -> None:
    """Slices of ``src`` along ``dim`` added to those of ``out`` with these numbers."""
    if not src.size or not out.size:
        return
    refuse_complex(out)
    target, src, index = lines(out), lines(src), vector(index)
    if src.dtype != out.dtype:
        src = src.astype(out.dtype)
    src = contiguous(src) if not src.dense or overlap(src, out) else src
    index = index if index.dense else contiguous(index)
    work = target if target.dense else contiguous(target)
    segment(work, math.prod(work.shape[:dim]), work.shape[dim], math.prod(work.shape[dim + 1:]), index, src, "sum")
    if work is not target:
        copy_into(target, work)


def add_rows(out: Array, index: Array, src: Array) -> None:
    """``out[index[i]] += src[i]``, one after the other. ``index`` is a vector."""
    index_add_into(out, 0, index, src)


def index_copy_into(out: Array, dim: int, index: Array, src: Array) -> None:
    """Slices of ``src`` along ``dim`` written over those of ``out`` with these numbers."""
    if not index.size or not out.size:
        return
    out, index = lines(out), apart(vector(index), out)
    shape = (*out.shape[:dim], index.size, *out.shape[dim + 1:])
    src, steps, _ = source(lines(src), out, shape)
    size = out.shape[dim]
    winner = winners(size, out.device)
    ids = empty((index.size,), INT64, out.device)
    kernels.run_linear(index, ids, index.shape, elements(index), (0,), (1,), size, 1, False, winner)
    kernels.run_indexed(src, ids, out, shape, steps, along(len(shape), dim, 1), without(out.strides, dim), size,
                        out.strides[dim], True, winner)


def index_fill_into(out: Array, dim: int, index: Array, value: Array) -> None:
    """The slices of ``out`` along ``dim`` with these numbers filled with a value."""
    if not index.size or not out.size:
        return
    out, index = lines(out), apart(vector(index), out)
    shape = (*out.shape[:dim], index.size, *out.shape[dim + 1:])
    kernels.run_indexed(cell(value, out.dtype, out.device), index, out, shape, (0,) * len(shape),
                        along(len(shape), dim, elements(index)[0]), without(out.strides, dim), out.shape[dim],
                        out.strides[dim], True)


# --- by mask ---

def masked_fill_into(out: Array, mask: Array, value: Array) -> None:
    """``value`` (0-d) where the mask is true."""
    if not out.size:
        return
    mask = broadcast_to(mask, out.shape).view(np.dtype(np.uint8))
    item = out.dtype.itemsize
    word = min(item, 8)
    if overlap(mask, out):
        mask = contiguous(mask)
    whole: Any = None
    bits = b""
    if isinstance(value, DeviceArray):
        whole = cell(value, out.dtype, out.device)
    else:
        bits = _number(value, out.dtype).tobytes()
    for k in range(0, item, word):
        kernels.run_fill_masked(out.look(out.ptr + k, out.shape, out.strides, WORDS[word]), mask,
                                bits[k:k + word] if whole is None else
                                DeviceArray(whole.owner, whole.ptr + k, (1,), WORDS[word]))


def masked_select(a: Array, mask: Array) -> Array:
    """The elements where the mask is true, in order. Both broadcast."""
    shape = np.broadcast_shapes(a.shape, mask.shape)
    return take(broadcast_to(a, shape), true_places(broadcast_to(mask, shape)))


def masked_scatter_into(out: Array, mask: Array, src: Array) -> None:
    """The first elements of ``src`` written, in order, where the mask is true.

    Raises ValueError where there are not enough."""
    places = true_places(broadcast_to(mask, out.shape))
    if not places.size:
        return
    src = src.reshape(-1)
    if src.size < places.size:
        raise ValueError(f"cannot assign {src.size} input values to the {places.size} output values where the mask is "
                         "true")
    _write_flat(out, places, src[:places.size], None)


def _write_flat(out: DeviceArray, places: DeviceArray, src: DeviceArray, winner: DeviceArray | None) -> None:
    if src.dtype != out.dtype:
        src = src.astype(out.dtype)
    if overlap(src, out):
        src = contiguous(src)
    target = out if out.dense else contiguous(out)
    kernels.run_indexed(src, places, target, places.shape, src.strides, elements(places), (0,), target.size,
                        target.dtype.itemsize, True, winner)
    if target is not out:
        copy_into(out, target)


# --- by flat position ---

def take(a: Array, index: Array) -> Array:
    """The elements at these flat positions. The shape is the index's."""
    lined = lines(index)
    out = empty(lined.shape, a.dtype, a.device)
    if out.size and a.size:
        flat = a.reshape(-1)
        kernels.run_indexed(flat, lined, out, lined.shape, (0,) * lined.ndim, elements(lined), out.strides, flat.size,
                            flat.strides[0], False)
    return out.reshape(index.shape)


def put_into(out: Array, index: Array, src: Array, accumulate: bool) -> None:
    """The elements of ``src`` written (or added) at these flat positions."""
    index, src = apart(vector(index), out), vector(src)
    if not index.size or not out.size:
        return
    winner = None if accumulate else winners(out.size, out.device)
    ids = empty(index.shape, INT64, out.device)
    kernels.run_linear(index, ids, index.shape, elements(index), (0,), (1,), out.size, 1, False, winner)
    if not accumulate:
        _write_flat(out, ids, src, winner)
        return
    refuse_complex(out)
    if src.dtype != out.dtype:
        src = src.astype(out.dtype)
    src = src if src.dense else contiguous(src)
    target = out if out.dense else contiguous(out)
    segment(target, 1, target.size, 1, ids, src, "sum")
    if target is not out:
        copy_into(out, target)


def one_hot(index: Array, classes: int) -> Array:
    """1 at the number's place in a new last dimension, 0 elsewhere; int64."""
    out = empty((*index.shape, classes), INT64, index.device)
    if out.size:
        index = index if index.dense else contiguous(index)
        high, width = row_tile(index.size, classes)
        blocks = -(-classes // width)
        kernels.one_hot_kernel.bind(BR=high, BC=width)(-(-index.size // high) * blocks, 1, 1, index, out, index.size,
                                                       classes, blocks)
    return out


def first_outside(index: Array, low: int, high: int) -> int | None:
    """The first number of ``index`` (int64 or int32) that is not in [low, high), or None; waits for the device. While a
    graph is captured nobody can look: None."""
    if not index.size or current.capture is not None:
        return None
    index = lines(index)
    index = index if index.dense else contiguous(index)
    position = empty((1,), INT64, index.device)
    runtime.active().memset(position.ptr, 0x7F, 1, 8, stream_of(position))
    block = block_size()
    kernels.outside.bind(BLOCK=block)(-(-index.size // block), 1, 1, index, position, index.size, low, high)
    first = position.item()
    return None if first >= index.size else int(index.reshape(-1)[first].item())


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    yield from kernels.cases()
    yield from sort_radix.cases()
