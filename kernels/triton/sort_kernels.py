"""The kernels of sorting, selecting, counting and searching.

Elements are compared as integers in the same order:

    float   bits b -> b if b >= 0 else b ^ 0x7fff...      (-0 as 0; nan the largest number, above inf)
    descending order: ~key, so that equal elements keep their order

    short     a row of keys of 32 bits fits a tile: (key << 32 | position) is sorted by a bitonic network
    runs      longer rows: pieces of a row, sorted; keys of 64 bits by counting what comes before each
    merge     two sorted runs become one: an element's place is its place in its run and the number of elements of the
              other run before it, found by halving; the number of launches is the logarithm of the number of runs
    gather    elements by their sorted positions

A dense array is (outer, n, inner) and row k = (outer, inner); workspaces are (row, n).
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.strided import convert


@triton.jit
def comparable(x):
    """16-bit floats as float32, bool as an integer."""
    if x.dtype == tl.bfloat16 or x.dtype == tl.float16:
        r = x.to(tl.float32)
    elif x.dtype == tl.int1:
        r = x.to(tl.int32)
    else:
        r = x
    return r


@triton.jit
def key_of(x, DESCENDING: tl.constexpr):
    """An int32, or for types of 64 bits an int64, that orders as the element does."""
    x = comparable(x)
    if x.dtype == tl.float32:
        b = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
        key = tl.where(x != x, 0x7FFFFFFF, tl.where(b < 0, b ^ 0x7FFFFFFF, b))
    elif x.dtype == tl.float64:
        b = tl.where(x == 0, 0.0, x).to(tl.int64, bitcast=True)
        key = tl.where(x != x, 0x7FFFFFFFFFFFFFFF, tl.where(b < 0, b ^ 0x7FFFFFFFFFFFFFFF, b))
    elif x.dtype == tl.uint64:
        key = x.to(tl.int64, bitcast=True) ^ (-0x7FFFFFFFFFFFFFFF - 1)
    elif x.dtype == tl.uint32:
        key = x.to(tl.int32, bitcast=True) ^ (-0x7FFFFFFF - 1)
    elif x.dtype == tl.int64:
        key = x
    else:
        key = x.to(tl.int32)
    return ~key if DESCENDING else key


@triton.jit
def row_start(k, n, inner):
    """Where row k begins in (outer, n, inner)."""
    return k // inner * (n * inner) + k % inner


@kernel
def short(x, values, order, rows: "i64", n: "i64", inner: "i64", first: "i64", count: "i64", DESCENDING: tl.constexpr,
          BK: tl.constexpr, BR: tl.constexpr):
    """Rows sorted in one tile; of each, the ``count`` elements from rank ``first`` on, and where they were."""
    k = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    r = tl.arange(0, BR)
    start = row_start(k, n, inner)[:, None]
    mask = (k < rows)[:, None] & (r < n)[None, :]
    key = key_of(tl.load(x + start + r[None, :] * inner, mask=mask, other=0), DESCENDING)
    both = tl.where(mask, key.to(tl.int64) << 32 | r[None, :], 0x7FFFFFFFFFFFFFFF)
    both = tl.sort(both, 1)
    index = both & 0xFFFFFFFF
    wanted = (k < rows)[:, None] & ((r >= first) & (r < first + count))[None, :]
    to = row_start(k, count, inner)[:, None] + (r - first)[None, :] * inner
    tl.store(order + to, index, mask=wanted)
    tl.store(values + to, tl.load(x + start + index * inner, mask=wanted, other=0), mask=wanted)


@kernel
def runs(x, keys, order, rows: "i64", n: "i64", inner: "i64", blocks: "i64", DESCENDING: tl.constexpr,
         BR: tl.constexpr):
    """Pieces of BR elements of each row, sorted, as (key << 32 | position)."""
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks
    r = program % blocks * BR + tl.arange(0, BR)
    mask = r < n
    key = key_of(tl.load(x + row_start(row, n, inner) + r * inner, mask=mask, other=0), DESCENDING)
    both = tl.where(mask, key.to(tl.int64) << 32 | r, 0x7FFFFFFFFFFFFFFF)
    tl.store(keys + row * n + r, tl.sort(both, 0), mask=mask)


@kernel
def runs_long(x, keys, order, rows: "i64", n: "i64", inner: "i64", blocks: "i64", DESCENDING: tl.constexpr,
              BR: tl.constexpr):
    """The same for keys of 64 bits, which stand apart from the positions."""
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks
    base = program % blocks * BR
    i = tl.arange(0, BR)
    start = x + row_start(row, n, inner) + base * inner
    left = n - base
    key = key_of(tl.load(start + i * inner, mask=i < left, other=0), DESCENDING).to(tl.int64)
    j = tl.arange(0, BR)
    other = key_of(tl.load(start + j * inner, mask=j < left, other=0), DESCENDING).to(tl.int64)
    before = (other[None, :] < key[:, None]) | ((other[None, :] == key[:, None]) & (j[None, :] < i[:, None]))
    place = row * n + base + tl.sum((before & (j < left)[None, :]).to(tl.int32), 1)
    tl.store(keys + place, key, mask=i < left)
    tl.store(order + place, base + i, mask=i < left)


@kernel
def merge(keys, order, to_keys, to_order, n: "i64", length: "i64", steps: "i32", blocks: "i64", PAIRS: tl.constexpr,
          BLOCK: tl.constexpr):
    """Runs of ``length`` merged two by two; steps: halvings that search one. PAIRS: the positions stand apart."""
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks
    p = program % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = p < n
    base = row * n
    key = tl.load(keys + base + p, mask=mask, other=0)
    pair = p // (2 * length) * (2 * length)
    right = p - pair >= length
    own = tl.where(right, pair + length, pair)
    low = tl.minimum(tl.where(right, pair, pair + length), n)
    begin = low
    high = tl.minimum(low + length, n)
    for _ in range(steps):
        open = mask & (low < high)
        middle = (low + high) // 2
        found = tl.load(keys + base + middle, mask=open, other=0)
        up = open & ((found < key) | (right & (found == key)))
        low = tl.where(up, middle + 1, low)
        high = tl.where(open & (up == 0), middle, high)
    place = base + pair + (p - own) + (low - begin)
    tl.store(to_keys + place, key, mask=mask)
    if PAIRS:
        tl.store(to_order + place, tl.load(order + base + p, mask=mask, other=0), mask=mask)


@kernel
def gather(x, sorted, values, order, n: "i64", inner: "i64", first: "i64", count: "i64", blocks: "i64",
           PACKED: tl.constexpr, BLOCK: tl.constexpr):
    """The elements from rank ``first`` on, and where they were, from sorted positions; PACKED: below their keys."""
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks
    r = program % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = r < count
    index = tl.load(sorted + row * n + first + r, mask=mask, other=0)
    if PACKED:
        index = index & 0xFFFFFFFF
    to = row_start(row, count, inner) + r * inner
    tl.store(order + to, index, mask=mask)
    tl.store(values + to, tl.load(x + row_start(row, n, inner) + index * inner, mask=mask, other=0), mask=mask)


@kernel
def median_rows(x, order, nans, values, indices, rows: "i64", n: "i64", inner: "i64", IGNORE: tl.constexpr,
                BLOCK: tl.constexpr):
    """The lower median of each row from its sorted order; ``nans``: how many nan it has."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = k < rows
    count = tl.load(nans + k, mask=mask, other=0)
    if IGNORE:
        rank = tl.maximum(n - count - 1, 0) // 2
    else:
        rank = tl.where(count > 0, n - count, (n - 1) // 2)
    start = row_start(k, n, inner)
    index = tl.load(order + start + rank * inner, mask=mask, other=0)
    tl.store(indices + k, index, mask=mask)
    tl.store(values + k, tl.load(x + start + index * inner, mask=mask, other=0), mask=mask)


@triton.jit
def larger(a, b):
    return tl.maximum(a, b)


@kernel
def mode_rows(sorted, order, values, indices, n: "i64", inner: "i64", BLOCK: tl.constexpr):
    """The element of the longest run of each sorted row, the first of several; where it was last."""
    row = tl.program_id(0).to(tl.int64)
    start = row_start(row, n, inner)
    base = sorted + start
    begun = row * 0
    longest = tl.full((BLOCK,), -1, tl.int64)
    at = tl.zeros((BLOCK,), tl.int64)
    for first in range(0, n, BLOCK):
        r = first + tl.arange(0, BLOCK).to(tl.int64)
        mask = r < n
        v = comparable(tl.load(base + r * inner, mask=mask, other=0))
        before = comparable(tl.load(base + (r - 1) * inner, mask=mask & (r > 0), other=0))
        after = comparable(tl.load(base + (r + 1) * inner, mask=r + 1 < n, other=0))
        new = (r == 0) | (v != before)
        begin = tl.maximum(tl.associative_scan(tl.where(mask & new, r, 0), 0, larger), begun)
        run = tl.where(mask & ((r == n - 1) | (v != after)), r - begin, -1)
        better = run > longest
        longest = tl.where(better, run, longest)
        at = tl.where(better, r, at)
        begun = tl.max(begin, 0)
    best = tl.max(longest, 0)
    place = start + tl.min(tl.where(longest == best, at, 0x7FFFFFFFFFFFFFFF), 0) * inner
    tl.store(indices + row, tl.load(order + place))
    tl.store(values + row, tl.load(sorted + place))


@kernel
def edges(x, order, out, n: "i64", width: "i64", ORDERED: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """1 where a slice (of ``width`` elements) differs from the one before it in the order, else 0."""
    k = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    here = k
    before = tl.maximum(k - 1, 0)
    if ORDERED:
        here = tl.load(order + k, mask=k < n, other=0)
        before = tl.load(order + before, mask=k < n, other=0)
    other = tl.zeros((BK, BR), tl.int32)
    for first in range(0, width, BR):
        r = first + tl.arange(0, BR)
        mask = (k < n)[:, None] & (r < width)[None, :]
        a = comparable(tl.load(x + here[:, None] * width + r[None, :], mask=mask, other=0))
        b = comparable(tl.load(x + before[:, None] * width + r[None, :], mask=mask, other=0))
        other = tl.where(mask & (a != b), 1, other)
    new = (tl.max(other, 1) != 0) | (k == 0)
    tl.store(out + k, new.to(tl.int64), mask=k < n)


@kernel
def groups(order, numbers, firsts, starts, inverse, n: "i64", ORDERED: tl.constexpr, BLOCK: tl.constexpr):
    """From the running count of edges: each element's group, and where groups begin, in the order and in the array."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    group = tl.load(numbers + i, mask=mask, other=0) - 1
    before = tl.load(numbers + i - 1, mask=mask & (i > 0), other=0) - 1
    place = i
    if ORDERED:
        place = tl.load(order + i, mask=mask, other=0)
    tl.store(inverse + place, group, mask=mask)
    new = mask & (group != before)
    tl.store(starts + group, i, mask=new)
    tl.store(firsts + group, place, mask=new)


@kernel
def sizes_of(starts, counts, groups: "i64", n: "i64", BLOCK: tl.constexpr):
    """How many elements the groups have."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < groups
    end = tl.load(starts + i + 1, mask=i + 1 < groups, other=0)
    tl.store(counts + i, tl.where(i + 1 < groups, end, n) - tl.load(starts + i, mask=mask, other=0), mask=mask)


@kernel
def take(x, order, out, rows: "i64", width: "i64", step: "i64", total: "i64", BLOCK: tl.constexpr):
    """out[i, j] = x[order[i] * step + j] for ``width`` elements of each."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = p < total
    index = tl.load(order + p // width, mask=mask, other=0)
    tl.store(out + p, tl.load(x + index * step + p % width, mask=mask, other=0), mask=mask)


@kernel
def search(bounds, sorter, values, out, total: "i64", length: "i64", per_row: "i64", steps: "i32", RIGHT: tl.constexpr,
           SORTED: tl.constexpr, ROWS: tl.constexpr, MEMBER: tl.constexpr, BLOCK: tl.constexpr):
    """How many bounds are smaller than each value (RIGHT: not larger). ROWS: each row of ``per_row`` values has its own
    bounds. SORTED: ``sorter`` says in which order the bounds are sorted. MEMBER: whether the value is among them."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = p < total
    v = comparable(tl.load(values + p, mask=mask, other=0))
    base = p // per_row * length if ROWS else p * 0
    low = p * 0
    high = low + length
    for _ in range(steps):
        open = mask & (low < high)
        middle = (low + high) // 2
        at = base + middle
        if SORTED:
            at = base + tl.load(sorter + at, mask=open, other=0)
        found = comparable(tl.load(bounds + at, mask=open, other=0))
        if MEMBER:
            up = open & (found < v)
        elif RIGHT:
            up = open & ((found > v) == 0)  # nan compares false with everything: the search goes up
        else:
            up = open & ((found >= v) == 0)
        low = tl.where(up, middle + 1, low)
        high = tl.where(open & (up == 0), middle, high)
    if MEMBER:
        found = comparable(tl.load(bounds + low, mask=mask & (low < length), other=0))
        tl.store(out + p, (low < length) & (found == v), mask=mask)
    else:
        tl.store(out + p, low, mask=mask)


@kernel
def count_bins(x, out, total: "i64", bins: "i64", low: "fp64", high: "fp64", RANGE: tl.constexpr, BINS: tl.constexpr,
               BLOCK: tl.constexpr):
    """How many elements fall into each bin, added to ``out`` (integers: no order changes the result). RANGE: bins are
    equal parts of [low, high], else the elements are their numbers. BINS: a power of two above the number of bins, to
    count within the program first; 0: each element adds to memory."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = p < total
    v = comparable(tl.load(x + p, mask=mask, other=0))
    if RANGE:
        kind: tl.constexpr = v.dtype
        least = low.to(kind)
        most = high.to(kind)
        mask = mask & (v >= least) & (v <= most)
        scaled = (v - least) * bins.to(kind)
        part = (scaled.to(tl.float64) / (most - least).to(tl.float64)).to(kind)
        bin = tl.minimum(tl.where(mask, part, 0.0).to(tl.int64), bins - 1)
    else:
        bin = v.to(tl.int64)
    if BINS:
        found = tl.histogram(tl.where(mask, bin, bins).to(tl.int32), BINS)
        b = tl.arange(0, BINS)
        tl.atomic_add(out + b, found.to(tl.int64), mask=(b < bins) & (found > 0), sem="relaxed")
    else:
        tl.atomic_add(out + bin, tl.full((BLOCK,), 1, tl.int64), mask=mask, sem="relaxed")


@kernel
def sum_runs(weights, order, starts, out, n: "i64", ACC: tl.constexpr, BLOCK: tl.constexpr):
    """out[b] = the sum of the weights of a run of the sorted order, from starts[b] to starts[b + 1]."""
    b = tl.program_id(0).to(tl.int64)
    acc = tl.zeros((BLOCK,), ACC)
    end = tl.load(starts + b + 1)
    for first in range(tl.load(starts + b), end, BLOCK):
        i = first + tl.arange(0, BLOCK)
        place = tl.load(order + i, mask=i < end, other=0)
        acc += convert(tl.load(weights + place, mask=i < end, other=0), ACC)
    tl.store(out + b, tl.sum(acc, 0))
