"""Sorting, selecting by rank, counting and searching: the launches of ``sort_kernels.py``.

nan sorts as the largest, and equal elements keep their order (also in descending order). Results are contiguous. How
many different elements there are, or how many bins, decides a shape: ``unique`` and ``bincount`` wait for the device.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import sort_kernels as kernels
from tritium.kernels.triton.memory import empty, full, zeros
from tritium.kernels.triton.reduce import _fold, amax
from tritium.kernels.triton.scan import cumsum
from tritium.kernels.triton.strided import power

Array = Any

INT64, f32, f64, boolean = np.dtype(np.int64), np.dtype(np.float32), np.dtype(np.float64), np.dtype(bool)
SHORT = 2048  # elements of the largest tile that is sorted whole
RUN = 1024  # elements of a longer row that are sorted at a time
PIECE = 64  # keys of 64 bits that are ranked at a time


def _dense(a: DeviceArray) -> DeviceArray:
    if a.dtype.kind == "c":
        raise NoKernel("sorting of complex arrays: not implemented for cuda tensors")
    if a.dense:
        return a
    from tritium.kernels.triton.copy import contiguous

    return contiguous(a)


def _block(n: int) -> int:
    """Elements that a program of simple steps takes."""
    return min(power(n), 16384 if runtime.active().emulated else 1024)


def _rows(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """(rows, elements of a row, distance of its elements)."""
    inner = 1
    for n in shape[dim + 1:]:
        inner *= n
    rows = inner
    for n in shape[:dim]:
        rows *= n
    return rows, shape[dim], inner


def _select(a: DeviceArray, dim: int, descending: bool, first: int, count: int) -> tuple[DeviceArray, DeviceArray]:
    """``count`` elements from rank ``first`` on along a dimension, and where they were."""
    a = _dense(a)
    dim %= a.ndim
    shape = (*a.shape[:dim], count, *a.shape[dim + 1:])
    device = a.owner.device
    values, order = empty(shape, a.dtype, device), empty(shape, INT64, device)
    if not values.size:
        return values, order
    rows, n, inner = _rows(a.shape, dim)
    narrow = a.dtype.itemsize < 8 and n < 2**31
    if narrow and n <= SHORT:
        br = max(power(n), 2)
        bk = max(1, min(SHORT // br, power(rows)))
        if not runtime.active().emulated:
            bk = max(1, min(bk, 1024 // br))
        kernels.short.bind(DESCENDING=descending, BK=bk, BR=br, num_warps=8 if bk * br > 1024 else 4)(
            -(-rows // bk), 1, 1, a, values, order, rows, n, inner, first, count)
        return values, order
    keys, places, length = empty((rows, n), INT64, device), None, RUN if narrow else PIECE
    if narrow:
        blocks = -(-n // length)
        kernels.runs.bind(DESCENDING=descending, BR=length, num_warps=8)(rows * blocks, 1, 1, a, keys, order, rows, n,
                                                                        inner, blocks)
    else:
        places = empty((rows, n), INT64, device)
        blocks = -(-n // length)
        kernels.runs_long.bind(DESCENDING=descending, BR=length)(rows * blocks, 1, 1, a, keys, places, rows, n, inner,
                                                                blocks)
    keys, places = _merged(keys, places, length)
    block = _block(count)
    blocks = -(-count // block)
    kernels.gather.bind(PACKED=narrow, BLOCK=block)(rows * blocks, 1, 1, a, keys if places is None else places, values,
                                                    order, n, inner, first, count, blocks)
    return values, order


def _merged(keys: DeviceArray, places: DeviceArray | None, length: int) -> tuple[DeviceArray, DeviceArray | None]:
    """Rows of sorted runs as sorted rows."""
    rows, n = keys.shape
    if length >= n:
        return keys, places
    paired = places is not None
    spare = empty(keys.shape, INT64, keys.owner.device), empty(keys.shape, INT64, keys.owner.device) if paired else None
    block = _block(n)
    blocks = -(-n // block)
    variant = kernels.merge.bind(PAIRS=paired, BLOCK=block)
    while length < n:
        to, to_places = spare
        variant(rows * blocks, 1, 1, keys, places if paired else keys, to, to_places if paired else to, n, length,
                length.bit_length(), blocks)
        spare = keys, places
        keys, places = to, to_places
        length *= 2
    return keys, places


def argsort(a: DeviceArray, dim: int, descending: bool) -> DeviceArray:
    """The order that sorts along a dimension, as int64."""
    return sort(a, dim, descending)[1]


def sort(a: DeviceArray, dim: int, descending: bool) -> tuple[DeviceArray, DeviceArray]:
    """The sorted elements and where they were."""
    return _select(a, dim, descending, 0, a.shape[dim])


def topk(a: DeviceArray, k: int, dim: int, largest: bool) -> tuple[DeviceArray, DeviceArray]:
    """The ``k`` largest (or smallest), sorted, and where they were. Of equal elements the first ones."""
    return _select(a, dim, largest, 0, k)


def kth(a: DeviceArray, k: int, dim: int) -> tuple[DeviceArray, DeviceArray]:
    """The element of rank ``k`` (from 0, ascending) and where it is; the dimension stays, with size 1."""
    return _select(a, dim, False, k, 1)


def median(a: DeviceArray, dim: int, ignore_nan: bool) -> tuple[DeviceArray, DeviceArray]:
    """The lower median and where it is; the dimension stays, with size 1. nan, and where the first one is, if there is
    one, unless it is to be ignored."""
    a = _dense(a)
    dim %= a.ndim
    if a.dtype.kind not in "fV":
        return kth(a, (a.shape[dim] - 1) // 2, dim)
    order = argsort(a, dim, False)
    nans = _fold(a, (dim,), True, INT64, INT64, "sum", "nan")
    values, index = empty(nans.shape, a.dtype, a.owner.device), empty(nans.shape, INT64, a.owner.device)
    if values.size:
        rows, n, inner = _rows(a.shape, dim)
        block = _block(rows)
        kernels.median_rows.bind(IGNORE=ignore_nan, BLOCK=block)(-(-rows // block), 1, 1, a, order, nans, values, index,
                                                                rows, n, inner)
    return values, index


def median_of_all(a: DeviceArray, ignore_nan: bool) -> DeviceArray:
    """The lower median of all elements; nan for none."""
    if not a.size:
        return full((), np.nan if a.dtype.kind in "fV" else np.iinfo(a.dtype).min, a.dtype, a.owner.device)
    return median(a.reshape(-1), 0, ignore_nan)[0].reshape(())


def mode(a: DeviceArray, dim: int) -> tuple[DeviceArray, DeviceArray]:
    """The most frequent element (the smallest of several) and where it occurs last; the dimension stays, with size 1.
    Each nan counts alone."""
    dim %= a.ndim
    ordered, order = sort(a, dim, False)
    shape = (*a.shape[:dim], 1, *a.shape[dim + 1:])
    values, index = empty(shape, a.dtype, a.owner.device), empty(shape, INT64, a.owner.device)
    if values.size:
        rows, n, inner = _rows(a.shape, dim)
        kernels.mode_rows.bind(BLOCK=_block(n))(rows, 1, 1, ordered, order, values, index, n, inner)
    return values, index


# --- unique ---

def _grouped(x: DeviceArray, order: DeviceArray | None, n: int, width: int) -> tuple[DeviceArray, ...]:
    """Of ``n`` slices in an order: where each group first stands in the array, each slice's group, how many it has."""
    device = x.owner.device
    if not n:
        return (empty((0,), INT64, device), empty((0,), INT64, device), empty((0,), INT64, device))
    ordered = order is not None
    given = x if order is None else order
    new = empty((n,), INT64, device)
    br = min(power(width), 64)
    bk = max(1, min(power(n), _block(n * br) // br))
    kernels.edges.bind(ORDERED=ordered, BK=bk, BR=br)(-(-n // bk), 1, 1, x, given, new, n, width)
    numbers = cumsum(new, 0)
    found = int(numbers[n - 1])
    firsts, starts, inverse = empty((found,), INT64, device), empty((found,), INT64, device), empty((n,), INT64, device)
    block = _block(n)
    kernels.groups.bind(ORDERED=ordered, BLOCK=block)(-(-n // block), 1, 1, given if ordered else new, numbers, firsts,
                                                      starts, inverse, n)
    counts = empty((found,), INT64, device)
    block = _block(found)
    kernels.sizes_of.bind(BLOCK=block)(-(-found // block), 1, 1, starts, counts, found, n)
    return firsts, inverse, counts


def _take(x: DeviceArray, index: DeviceArray, width: int, step: int) -> DeviceArray:
    """``width`` elements from each index times ``step`` on."""
    out = empty((index.size, width), x.dtype, x.owner.device)
    block = _block(out.size)
    kernels.take.bind(BLOCK=block)(-(-out.size // block), 1, 1, x, index, out, index.size, width, step, out.size)
    return out


def unique(a: DeviceArray) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """The different elements, sorted; for each element which one it is; how often each occurs. Each nan is its own."""
    return _unique(a, False)


def unique_consecutive(a: DeviceArray) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """The same for runs of equal elements, in their order."""
    return _unique(a, True)


def _unique(a: DeviceArray, consecutive: bool) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    flat = _dense(a).reshape(-1)
    order = None if consecutive or not flat.size else argsort(flat, 0, False)
    firsts, inverse, counts = _grouped(flat, order, flat.size, 1)
    return _take(flat, firsts, 1, 1).reshape(-1), inverse.reshape(a.shape), counts


def unique_slices(a: DeviceArray, dim: int, consecutive: bool) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """The same for slices along a dimension, sorted by their first element, then the second, and so on."""
    axes = (dim, *[d for d in range(a.ndim) if d != dim])
    slices = _dense(a.transpose(axes))
    n = slices.shape[0]
    width = slices.size // n if n else 0
    order = None
    if not consecutive and n:  # by the last element first: each sort keeps the order of what is equal
        for column in range(width - 1, -1, -1):
            part = slices.look(slices.ptr + column * slices.itemsize, (n,), (width * slices.itemsize,))
            if order is None:
                order = argsort(part, 0, False)
            else:
                keys = _take(part, order, 1, width).reshape(-1)
                order = _take(order, argsort(keys, 0, False), 1, 1).reshape(-1)
    firsts, inverse, counts = _grouped(slices, order, n, width)
    found = _take(slices, firsts, width, width).reshape(firsts.size, *slices.shape[1:])
    back = [0] * a.ndim
    for i, d in enumerate(axes):
        back[d] = i
    return found.transpose(back), inverse, counts


# --- searching and counting ---

def searchsorted(bounds: DeviceArray, values: DeviceArray, right: bool,
                 sorter: DeviceArray | None = None) -> DeviceArray:
    """How many bounds (sorted along the last dimension) are smaller than each value, or not larger (``right``), int64.

    ``bounds``: one vector for all values, or of the values' shape except in the last dimension."""
    if not isinstance(values, DeviceArray):
        values = full((), values if np.ndim(values) == 0 and not isinstance(values, np.ndarray) else values.item(),
                      bounds.dtype, bounds.owner.device)
    out = empty(values.shape, INT64, bounds.owner.device)
    if out.size:
        _search(_dense(bounds), None if sorter is None else _dense(sorter), _dense(values), out, right, False)
    return out


def _search(bounds: DeviceArray, sorter: DeviceArray | None, values: DeviceArray, out: DeviceArray, right: bool,
            member: bool) -> None:
    n, length = values.size, bounds.shape[-1]
    block = _block(n)
    kernels.search.bind(RIGHT=right, SORTED=sorter is not None, ROWS=bounds.ndim > 1, MEMBER=member, BLOCK=block)(
        -(-n // block), 1, 1, bounds, bounds if sorter is None else sorter, values, out, n, length,
        values.shape[-1] if values.ndim else 1, length.bit_length())


def isin(a: DeviceArray, tests: DeviceArray) -> DeviceArray:
    """Whether each element is among ``tests``. nan never is."""
    device = (a if isinstance(a, DeviceArray) else tests).owner.device
    if not isinstance(a, DeviceArray):
        a = full((), np.asarray(a).item(), tests.dtype, device)
    if not isinstance(tests, DeviceArray):
        tests = full((1,), np.asarray(tests).item(), a.dtype, device)
    out = empty(a.shape, boolean, device)
    if a.size:
        tests = tests.reshape(-1)
        if tests.size > 1:
            tests = sort(tests, 0, False)[0]
        _search(_dense(tests), None, _dense(a), out, False, True)
    return out


def _counted(a: DeviceArray, bins: int, low: float, high: float, ranged: bool) -> DeviceArray:
    out = zeros((bins,), INT64, a.owner.device)
    if a.size and bins:
        block = 16384 if runtime.active().emulated else 2048
        kernels.count_bins.bind(RANGE=ranged, BINS=power(bins + 1) if bins < 1024 else 0, BLOCK=block)(
            -(-a.size // block), 1, 1, _dense(a), out, a.size, bins, low, high)
    return out


def histc(a: DeviceArray, bins: int, low: float, high: float) -> DeviceArray:
    """How many elements fall into each of ``bins`` equal parts of [low, high], the upper end included."""
    return _counted(a, bins, low, high, True).astype(a.dtype)


def bincount(a: DeviceArray, weights: DeviceArray | None, minlength: int) -> DeviceArray:
    """How often each number occurs (int64), or the sum of its weights."""
    bins = max(minlength, int(amax(a, (0,), False)) + 1 if a.size else 0)
    if weights is None:
        return _counted(a, bins, 0.0, 0.0, False)
    work = weights.dtype if weights.dtype in (f32, f64) else f64
    device = a.owner.device
    out = zeros((bins,), work, device)
    if a.size and bins:  # sorted, each number's weights side by side: the order of the additions is fixed
        ordered, order = sort(a if a.dtype == INT64 else a.astype(INT64), 0, False)
        numbers = _arange(bins + 1, device)
        starts = searchsorted(ordered, numbers, False)
        kernels.sum_runs.bind(ACC=tl.float64, BLOCK=_block(min(a.size, 1024)))(
            bins, 1, 1, _dense(weights), order, starts, out, a.size)
    return out


def _arange(n: int, device: int) -> DeviceArray:
    from tritium.kernels.triton import memory

    return memory.arange(0, 1, n, INT64, device)


def _case(kernel: Any, dtype: str, like: str, constants: dict[str, Any], note: str = "", warps: int = 4,
          **others: str) -> Case:
    """A case: the arrays named in ``like`` are of the dtype, those in ``others`` of theirs, the rest int64."""
    kinds = {name: f"*{others.get(name, dtype if name in like.split() else 'i64')}" for name in kernel.parameters}
    types = {name: number or kinds[name] for name, number in kernel.parameters.items()}
    return Case(f"{kernel.name} {dtype}{' ' if note else ''}{note}", kernel, types, constants,
                tuple(name for name, number in kernel.parameters.items() if not number), warps)


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    block = {"BLOCK": 1024}
    for dtype, bk, br in (("fp32", 16, 64), ("bf16", 16, 64), ("i32", 1, 2048)):
        yield _case(kernels.short, dtype, "x values", {"DESCENDING": False, "BK": bk, "BR": br}, f"{br}",
                    8 if br > 1024 else 4)
    yield _case(kernels.runs, "fp32", "x", {"DESCENDING": True, "BR": RUN}, "", 8)
    yield _case(kernels.runs_long, "fp64", "x", {"DESCENDING": False, "BR": PIECE})
    for flag in (False, True):
        yield _case(kernels.merge, "i64", "", {"PAIRS": flag, "BLOCK": 1024}, "pairs" if flag else "")
        yield _case(kernels.gather, "fp32", "x values", {"PACKED": flag, "BLOCK": 1024}, "packed" if flag else "")
        yield _case(kernels.edges, "fp32", "x", {"ORDERED": flag, "BK": 16, "BR": 64}, "ordered" if flag else "")
        yield _case(kernels.groups, "i64", "", {"ORDERED": flag, "BLOCK": 1024}, "ordered" if flag else "")
    for dtype in ("fp32", "i64"):
        for note, rows, sorter, member in (("", False, False, False), ("sorter", True, True, False),
                                           ("member", False, False, True)):
            yield _case(kernels.search, dtype, "bounds values",
                        {"RIGHT": False, "SORTED": sorter, "ROWS": rows, "MEMBER": member, **block}, note,
                        out="i1" if member else "i64")
    yield _case(kernels.median_rows, "fp32", "x values", {"IGNORE": False, **block})
    yield _case(kernels.mode_rows, "fp32", "sorted values", {**block})
    yield _case(kernels.sizes_of, "i64", "", {**block})
    yield _case(kernels.take, "fp32", "x out", {**block})
    for dtype, ranged, bins in (("fp32", True, 128), ("bf16", True, 0), ("i64", False, 1024), ("i64", False, 0)):
        yield _case(kernels.count_bins, dtype, "x", {"RANGE": ranged, "BINS": bins, "BLOCK": 2048}, f"{bins}")
    yield _case(kernels.sum_runs, "fp32", "weights out", {"ACC": tl.float64, **block})
