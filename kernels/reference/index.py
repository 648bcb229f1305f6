"""Reading and writing elements by number along a dimension, by mask, and by flat position.

Functions named ``*_into`` write into their first argument. Where several values meet in one place they are taken in
order, one after the other: the same inputs give the same bits. 16-bit floats are summed in float32.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW, f32
from tritium.kernels.reference.quiet import quiet

Array = Any

WIDE = 32  # rows at least this long are added one by one, shorter ones element by element


def _lines(a: Array) -> Array:
    return a.reshape(1) if a.ndim == 0 else a


def _places(shape: Any, dim: int, index: Array) -> tuple[Any, ...]:
    """The index arrays of ``out[i][index[i][j]]...``: ``index`` along ``dim``, the own position elsewhere."""
    n = index.ndim
    return tuple([index if d == dim else np.arange(index.shape[d]).reshape((-1,) + (1,) * (n - 1 - d))
                  for d in range(n)])


def gather(a: Array, dim: int, index: Array) -> Array:
    """``out[i][j] = a[index[i][j]][j]`` (dim 0). The shape is the index's."""
    if index.size == 0:
        return np.empty(index.shape, a.dtype)
    lined = _lines(index)
    return np.asarray(_lines(a)[_places(a.shape, dim, lined)], order="C").reshape(index.shape)


def scatter_into(out: Array, dim: int, index: Array, src: Array) -> None:
    """``out[index[i][j]][j] = src[i][j]`` (dim 0). The last of several writers wins. ``src``: at least the index's
    shape, or 0-d."""
    if index.size:
        index, out = _lines(index), _lines(out)
        out[_places(out.shape, dim, index)] = _part(src, index)


def _part(src: Array, index: Array) -> Array:
    if src.ndim == 0:
        return src
    return src[tuple([slice(n) for n in index.shape])]


AT: dict[str, Any] = {"sum": np.add, "mean": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def neutral(reduce: str, dtype: Any) -> Any:
    """The value that changes nothing when it is reduced with another."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.kind == "b":
        return reduce == "amin"
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if reduce == "amax" else np.iinfo(dtype).max
    return -np.inf if reduce == "amax" else np.inf


@quiet
def scatter_reduce_into(out: Array, dim: int, index: Array, src: Array, reduce: str, include_self: bool = True) -> None:
    """``out[index[i][j]][j]`` reduced with ``src[i][j]`` (dim 0): sum, prod, mean, amax, amin. Without
    ``include_self`` the values that were there count only where nothing comes in."""
    if not index.size:
        return
    index, target = _lines(index), _lines(out)
    places = _places(target.shape, dim, index)
    src = np.broadcast_to(_part(src, index), index.shape)
    work = target.astype(f32) if out.dtype in LOW else target
    src = src.astype(f32) if src.dtype in LOW else src
    if not include_self:
        work[places] = neutral(reduce, out.dtype)
    accumulate_at(AT[reduce], work, places, src)
    if reduce == "mean":
        count = np.full(work.shape, int(include_self), np.int64)
        accumulate_at(np.add, count, places, np.broadcast_to(np.int64(1), index.shape))
        count = np.maximum(count, 1)
        work[...] = work / count if work.dtype.kind in "fc" else work // count
    if work is not target:
        target[...] = work.astype(out.dtype)


def accumulate_at(ufunc: Any, out: Array, places: tuple[Any, ...], src: Array) -> None:
    """``ufunc.at``, by flat position where possible: NumPy is ten times faster there."""
    if out.flags.c_contiguous and out.dtype == src.dtype:
        flat = np.zeros((), np.int64)
        step = 1
        for n, p in zip(reversed(out.shape), reversed(places), strict=True):
            flat = flat + p * step
            step *= n
        ufunc.at(out.reshape(-1), np.broadcast_to(flat, src.shape).reshape(-1), src.reshape(-1))
    else:
        ufunc.at(out, places, src)


def accumulate_into(out: Array, key: tuple[Any, ...], src: Array) -> None:
    """``out[key] += src`` for a key of index arrays and full slices; what meets in one place is added in order."""
    arrays = [i for i in key if isinstance(i, np.ndarray)]
    if out.dtype in LOW:
        work = out.astype(f32)
        accumulate_into(work, key, src.astype(f32))
        out[...] = work.astype(out.dtype)
    elif len(arrays) == 1 and arrays[0].dtype.kind == "b":
        out[key] += src  # a mask names no element twice
    elif len(arrays) == 1 and arrays[0].ndim == 1:
        dim = next(d for d, i in enumerate(key) if isinstance(i, np.ndarray))
        n = arrays[0].size
        whole = np.broadcast_to(src, (*out.shape[:dim], n, *out.shape[dim + 1:]))
        index = np.where(arrays[0] < 0, arrays[0] + out.shape[dim], arrays[0])
        add_rows(np.moveaxis(out, dim, 0), index, np.moveaxis(whole, dim, 0))
    elif len(arrays) == out.ndim and all(i.dtype.kind != "b" for i in arrays):
        places = np.broadcast_arrays(*arrays)
        wrapped = tuple([np.where(p < 0, p + n, p) for p, n in zip(places, out.shape, strict=True)])
        accumulate_at(np.add, out, wrapped, np.broadcast_to(src, places[0].shape))
    else:
        np.add.at(out, key, src)


def index(a: Array, key: tuple[Any, ...]) -> Array:
    """``a[key]`` for a key of index arrays (in range), masks and full slices. Of a contiguous array the result is
    contiguous where the index arrays stand side by side: they are made one, and ``take`` is faster than NumPy's
    general indexing."""
    if a.flags.c_contiguous and len(key) > 1:
        arrays: list[Array] = []
        dims: list[int] = []
        d = 0
        for k in key:
            parts = (k,) if not isinstance(k, np.ndarray) or k.dtype.kind != "b" else k.nonzero()
            if isinstance(k, np.ndarray):
                arrays.extend(parts)
                dims.extend(range(d, d + len(parts)))
            d += len(parts)
        first, end = dims[0], dims[-1] + 1
        if end - first == len(dims) and (first or len(dims) > 1):
            flat: Any = 0
            size = 1
            for k, n in zip(arrays, a.shape[first:end], strict=True):
                flat = flat * n + np.where(k < 0, k + n, k)
                size *= n
            return np.take(a.reshape(*a.shape[:first], size, *a.shape[end:]), flat, axis=first)
    return np.asarray(a[key])


def put(a: Array, key: tuple[Any, ...], value: Array) -> None:
    """``a[key] = value``; where positions repeat, the last one counts."""
    a[key] = value


def index_select(a: Array, dim: int, index: Array) -> Array:
    """The slices of ``a`` with these numbers along ``dim``."""
    return np.asarray(np.take(_lines(a), index, axis=dim)).reshape(a.shape if a.ndim == 0 else (
        *a.shape[:dim], index.size, *a.shape[dim + 1:]))


@quiet
def index_add_into(out: Array, dim: int, index: Array, src: Array) -> None:
    """Slices of ``src`` along ``dim`` added to those of ``out`` with these numbers."""
    if not src.size:
        return
    target, src = np.moveaxis(_lines(out), dim, 0), np.moveaxis(_lines(src), dim, 0)
    index = index.reshape(-1)
    if out.dtype in LOW:
        work = target.astype(f32)
        add_rows(work, index, src.astype(f32))
        target[...] = work.astype(out.dtype)
    else:
        add_rows(target, index, src)


def add_rows(out: Array, index: Array, src: Array) -> None:
    """``out[index[i]] += src[i]``, one after the other. ``index`` is a vector."""
    width = src.size // max(len(index), 1)
    if width >= WIDE and out.ndim > 1 or not out.flags.c_contiguous:
        for i, row in zip(index.tolist(), src, strict=True):
            out[i] += row
    elif src.dtype != out.dtype or out.ndim == 1:
        np.add.at(out, index, src)
    else:
        flat = index.astype(np.int64)[:, None] * width + np.arange(width)
        np.add.at(out.reshape(-1), flat.reshape(-1), src.reshape(-1))


def index_copy_into(out: Array, dim: int, index: Array, src: Array) -> None:
    """Slices of ``src`` along ``dim`` written over those of ``out`` with these numbers."""
    if index.size:
        target = np.moveaxis(_lines(out), dim, 0)
        target[index.reshape(-1)] = np.moveaxis(_lines(src), dim, 0)


def index_fill_into(out: Array, dim: int, index: Array, value: Array) -> None:
    """The slices of ``out`` along ``dim`` with these numbers filled with a value."""
    if index.size:
        np.moveaxis(_lines(out), dim, 0)[index.reshape(-1)] = value


def masked_fill_into(out: Array, mask: Array, value: Array) -> None:
    """``value`` (0-d) where the mask is true."""
    np.copyto(out, value, where=mask, casting="unsafe")


def masked_select(a: Array, mask: Array) -> Array:
    """The elements where the mask is true, in order. Both broadcast."""
    if a.shape != mask.shape:
        a, mask = np.broadcast_arrays(a, mask)
    return np.asarray(_lines(a)[_lines(mask)])


def masked_scatter_into(out: Array, mask: Array, src: Array) -> None:
    """The first elements of ``src`` written, in order, where the mask is true."""
    mask = np.broadcast_to(mask, out.shape)
    count = int(np.count_nonzero(mask))
    _lines(out)[_lines(mask)] = src.reshape(-1)[:count]


def take(a: Array, index: Array) -> Array:
    """The elements at these flat positions. The shape is the index's."""
    return np.asarray(a.reshape(-1)[index], order="C").reshape(index.shape)


def put_into(out: Array, index: Array, src: Array, accumulate: bool) -> None:
    """The elements of ``src`` written (or added) at these flat positions."""
    index, src = index.reshape(-1), src.reshape(-1)
    if not index.size:
        return
    flat = out.reshape(-1)  # a copy where ``out`` is not contiguous
    if not accumulate:
        flat[index] = src
    elif out.dtype in LOW:
        work = flat.astype(f32)
        np.add.at(work, index, src.astype(f32))
        flat[...] = work.astype(out.dtype)
    else:
        np.add.at(flat, index, src)
    if not out.flags.c_contiguous:
        out[...] = flat.reshape(out.shape)


def nonzero(a: Array) -> Array:
    """The indices of the elements that are not zero: (count, ndim), int64."""
    if a.ndim == 0:
        return np.empty((int(a != 0), 0), np.int64)
    return np.stack(np.nonzero(a)).astype(np.int64, copy=False).T


def one_hot(index: Array, classes: int) -> Array:
    """1 at the number's place in a new last dimension, 0 elsewhere; int64."""
    out = np.zeros((*index.shape, classes), np.int64)
    np.put_along_axis(out, index[..., None], 1, axis=-1)
    return out


UNSIGNED = {np.dtype(np.int64): np.dtype(np.uint64), np.dtype(np.int32): np.dtype(np.uint32)}


def first_outside(index: Array, low: int, high: int) -> int | None:
    """The first number of ``index`` (int64 or int32) that is not in [low, high), or None."""
    if not index.size:
        return None
    if low == 0:  # one pass: as unsigned, negative numbers are large
        if index.view(UNSIGNED[index.dtype]).max() < high:
            return None
    elif index.min() >= low and index.max() < high:
        return None
    flat = index.reshape(-1)
    return int(flat[np.flatnonzero((flat < low) | (flat >= high))[0]])



