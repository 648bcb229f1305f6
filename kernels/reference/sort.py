"""Sorting, selecting by rank, counting and searching.

nan sorts as the largest, and equal elements keep their order (also in descending order). 16-bit floats are compared as
float32, which changes no order.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW, f32
from tritium.kernels.reference.quiet import quiet

Array = Any

SHORT = 64  # rows shorter than this are sorted whole, of longer ones only the few largest


def _comparable(a: Array) -> Array:
    if a.dtype in LOW:
        return a.astype(f32)
    return a.view(np.uint8) if a.dtype.kind == "b" else a


def _isnan(a: Array) -> Array:
    return np.isnan(a) if a.dtype.kind in "fcV" else np.zeros(a.shape, bool)


def along(a: Array, order: Array, dim: int) -> Array:
    """``np.take_along_axis``, faster for vectors and for the last dimension."""
    if a.ndim == 1:
        return a[order]
    if dim != a.ndim - 1 or not a.flags.c_contiguous or not a.size:
        return np.take_along_axis(a, order, dim)
    start = np.arange(0, a.size, a.shape[-1]).reshape((*a.shape[:-1], 1))
    return a.reshape(-1)[order + start]


def argsort(a: Array, dim: int, descending: bool) -> Array:
    """The order that sorts along a dimension, as int64."""
    a = _comparable(a)
    if not descending:
        return np.argsort(a, axis=dim, kind="stable").astype(np.int64, copy=False)
    # backwards through the reversed array: equal elements keep their order, nan comes first
    back = (slice(None),) * dim + (slice(None, None, -1),)
    order = np.argsort(a[back], axis=dim, kind="stable")[back]
    return np.subtract(a.shape[dim] - 1, order, dtype=np.int64)


def sort(a: Array, dim: int, descending: bool) -> tuple[Array, Array]:
    """The sorted elements and where they were."""
    order = argsort(a, dim, descending)
    return along(a, order, dim), order


def topk(a: Array, k: int, dim: int, largest: bool) -> tuple[Array, Array]:
    """The ``k`` largest (or smallest), sorted, and where they were. Of equal elements the first ones."""
    n = a.shape[dim]
    if n < SHORT or k * 4 > n or k == 0 or not a.size:
        order = np.ascontiguousarray(argsort(a, dim, largest)[(slice(None),) * dim + (slice(k),)])
        return along(a, order, dim), order
    rows = _comparable(np.moveaxis(a, dim, -1)).reshape(-1, n)
    at = n - k if largest else k - 1
    chosen = np.argpartition(rows, at, axis=-1)[:, at:] if largest else np.argpartition(rows, at, axis=-1)[:, :k]
    chosen = np.sort(chosen, axis=-1)
    values = along(rows, chosen, 1)
    order = along(chosen, argsort(values, 1, largest), 1)
    bound = (values.min(-1) if largest else values.max(-1))[:, None]
    # where more elements reach the last of the chosen (or it is nan), the choice among equals was arbitrary
    count = np.count_nonzero(~(rows < bound) if largest else ~(rows > bound), axis=-1)
    for row in np.flatnonzero(count != k):
        order[row] = argsort(rows[row], 0, largest)[:k]
    order = order.reshape(*np.moveaxis(a, dim, -1).shape[:-1], k)
    order = np.ascontiguousarray(np.moveaxis(order, -1, dim)).astype(np.int64, copy=False)
    return along(a, order, dim), order


def kth(a: Array, k: int, dim: int) -> tuple[Array, Array]:
    """The element of rank ``k`` (from 0, ascending) and where it is; the dimension stays, with size 1."""
    order = np.ascontiguousarray(argsort(a, dim, False)[(slice(None),) * dim + (slice(k, k + 1),)])
    return along(a, order, dim), order


def median(a: Array, dim: int, ignore_nan: bool) -> tuple[Array, Array]:
    """The lower median and where it is; the dimension stays, with size 1. nan, and where the first one is, if there is
    one, unless it is to be ignored."""
    n = a.shape[dim]
    order = argsort(a, dim, False)
    bad = _isnan(a)
    count = bad.sum(axis=dim, keepdims=True)
    if ignore_nan:
        rank = np.maximum(n - count - 1, 0) // 2
        index = along(order, rank, dim)
    else:
        index = order[(slice(None),) * dim + (slice((n - 1) // 2, (n - 1) // 2 + 1),)]
        index = np.ascontiguousarray(np.where(count > 0, np.argmax(bad, axis=dim, keepdims=True), index))
    return along(a, index, dim), index


def median_of_all(a: Array, ignore_nan: bool) -> Array:
    """The lower median of all elements; nan for none."""
    flat = _comparable(a.reshape(-1))
    bad = _isnan(flat)
    if ignore_nan:
        flat = flat[~bad]
    elif bad.any():
        flat = flat[:0]
    if not flat.size:
        return np.array(np.nan if a.dtype.kind in "fV" else np.iinfo(a.dtype).min, a.dtype)
    at = (flat.size - 1) // 2
    return np.array(np.partition(flat, at)[at]).astype(a.dtype)


def mode(a: Array, dim: int) -> tuple[Array, Array]:
    """The most frequent element (the smallest of several) and where it occurs last; the dimension stays, with size 1.
    Each nan counts alone."""
    values, order = sort(a, dim, False)
    rows, order = np.moveaxis(_comparable(values), dim, -1), np.moveaxis(order, dim, -1)
    n = rows.shape[-1]
    places = np.arange(n)
    new = np.ones(rows.shape, bool)
    new[..., 1:] = rows[..., 1:] != rows[..., :-1]
    start = np.maximum.accumulate(np.where(new, places, 0), axis=-1)
    last = np.ones(rows.shape, bool)
    last[..., :-1] = new[..., 1:]
    run = np.where(last, places - start, -1)
    index = along(order, np.argmax(run, axis=-1)[..., None], -1)
    index = np.moveaxis(index, -1, dim)
    return along(a, index, dim), index


def _groups(order: Array, new: Array) -> tuple[Array, Array, Array]:
    """From an order and where a new value begins in it: first positions, each element's group, group sizes."""
    first = np.flatnonzero(new)
    inverse = np.empty(order.size, np.int64)
    inverse[order] = np.cumsum(new) - 1
    return first, inverse, np.diff(np.append(first, order.size)).astype(np.int64)


def unique(a: Array) -> tuple[Array, Array, Array]:
    """The different elements, sorted; for each element which one it is; how often each occurs. Each nan is its own."""
    flat = a.reshape(-1)
    order = argsort(flat, 0, False)
    values = flat[order]
    new = np.ones(flat.size, bool)
    new[1:] = values[1:] != values[:-1]
    first, inverse, counts = _groups(order, new)
    return values[first], inverse.reshape(a.shape), counts


def unique_consecutive(a: Array) -> tuple[Array, Array, Array]:
    """The same for runs of equal elements, in their order."""
    flat = a.reshape(-1)
    new = np.ones(flat.size, bool)
    new[1:] = flat[1:] != flat[:-1]
    first, inverse, counts = _groups(np.arange(flat.size), new)
    return flat[first], inverse.reshape(a.shape), counts


def unique_slices(a: Array, dim: int, consecutive: bool) -> tuple[Array, Array, Array]:
    """The same for slices along a dimension, sorted by their first element, then the second, and so on."""
    slices = np.moveaxis(a, dim, 0)
    n = slices.shape[0]
    rows = _comparable(np.ascontiguousarray(slices).reshape(n, -1)) if n else np.empty((0, 1), a.dtype)
    order = np.arange(n) if consecutive or not n else np.lexsort(rows.T[::-1])
    new = np.ones(n, bool)
    ordered = rows[order]
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first, inverse, counts = _groups(order, new)
    found = np.moveaxis(np.ascontiguousarray(slices[order[first]]), 0, dim)
    return found, inverse, counts


def searchsorted(bounds: Array, values: Array, right: bool, sorter: Array | None = None) -> Array:
    """How many bounds (sorted along the last dimension) are smaller than each value, or not larger (``right``), int64.

    ``bounds``: one vector for all values, or of the values' shape except in the last dimension."""
    if bounds.ndim == 1 and sorter is None and not _isnan(bounds).any():
        return np.asarray(np.searchsorted(_comparable(bounds), _comparable(values), "right" if right else "left")
                          ).astype(np.int64)
    low = np.zeros(values.shape, np.int64)
    high = np.full(values.shape, bounds.shape[-1], np.int64)
    rows = np.broadcast_to(bounds, (*values.shape[:-1], bounds.shape[-1])) if values.ndim else bounds
    order = None if sorter is None else np.broadcast_to(sorter, rows.shape)
    while (active := low < high).any():
        middle = (low + high) // 2
        at = np.where(active, middle, 0).reshape(values.shape or (1,))
        if order is not None:
            at = along(order, at, -1)
        found = along(rows, at, -1).reshape(values.shape)
        # nan compares false with everything: the search goes up
        up = ~(found > values) if right else ~(found >= values)
        low = np.where(active & up, middle + 1, low)
        high = np.where(active & ~up, middle, high)
    return low


@quiet
def histc(a: Array, bins: int, low: float, high: float) -> Array:
    """How many elements fall into each of ``bins`` equal parts of [low, high], the upper end included."""
    out_dtype = a.dtype
    x = _comparable(a).reshape(-1)
    x = x[(x >= low) & (x <= high)]
    kind = x.dtype.type
    place = np.minimum(((x - kind(low)) * kind(bins) / (kind(high) - kind(low))).astype(np.int64), bins - 1)
    return np.bincount(place, minlength=bins).astype(out_dtype)


def bincount(a: Array, weights: Array | None, minlength: int) -> Array:
    """How often each number occurs (int64), or the sum of its weights."""
    if weights is None:
        return np.bincount(a, minlength=minlength).astype(np.int64, copy=False)
    work = np.zeros(max(minlength, int(a.max()) + 1 if a.size else 0),
                    weights.dtype if weights.dtype in (np.float32, np.float64) else np.float64)
    np.add.at(work, a, weights.astype(work.dtype, copy=False))
    return work


def isin(a: Array, tests: Array) -> Array:
    """Whether each element is among ``tests``. nan never is."""
    return np.asarray(np.isin(_comparable(a), _comparable(tests)))
