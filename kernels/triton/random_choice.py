"""Permutations, and draws from given weights.

permutation, n <= 2048   the rank of each element's 64-bit number among all: exactly uniform
permutation, larger n    i = (l, r) on a grid of about sqrt(n) x sqrt(n); rounds l += F(r) mod rows, r += G(l) mod
                         columns with keyed hashes F and G: a bijection for any F and G (Black and Rogaway 2002); what
                         leaves 0 ... n - 1 goes through it again until it is back. No memory, no sorting
multinomial, without     the largest of p / e, e standard exponential: an exponential race
multinomial, with        p scaled to integers of 39 bits, which add up exactly in any order; then the first place whose
                         cumulated weight exceeds a random integer below the total
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.philox import Stream
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.runtime.state import current
from tritium.kernels.triton import philox
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.strided import power

RANKED = 2048  # up to so many elements are ranked by comparing all with all
ROUNDS = 8
PART = 1 << 16  # elements of a row that one program looks at


# --- permutation ------------------------------------------------------------------------------

@kernel
def rank(out, n: "i64", seed: "i64", offset: "i64", ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[i] = how many of the n numbers are smaller than number i."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    i = first + tl.arange(0, ROWS)
    seed, offset = philox.begin(seed, offset)
    mine = philox.words(seed, offset, first, ROWS, True)[:, None]
    count = tl.zeros([ROWS], tl.int64)
    for start in range(0, n, COLUMNS):
        j = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        theirs = philox.words(seed, offset, start, COLUMNS, True)[None, :]
        smaller = (theirs < mine) | ((theirs == mine) & (j[None, :] < i[:, None]))
        count += tl.sum((smaller & (j < n)[None, :]).to(tl.int32), 1)
    tl.store(out + i, count, mask=i < n)


@triton.jit
def scatter_hash(x, a, b, size):
    """A keyed hash of 32 bits, scaled to [0, size)."""
    h = (x ^ a) * 0x85EBCA6B
    h = ((h ^ (h >> 15)) + b) * 0xC2B2AE35
    h = (h ^ (h >> 13)) * 0x9E3779B1
    return (h.to(tl.uint64) * size.to(tl.uint64) >> 32).to(tl.uint32)


@triton.jit
def permuted(x, rows, columns, k0, k1, k2, k3, ROUNDS: tl.constexpr):
    """The bijection of 0 ... rows * columns - 1; x is int64, sizes are uint32."""
    left = (x // columns.to(tl.int64)).to(tl.uint32)
    right = (x - left.to(tl.int64) * columns.to(tl.int64)).to(tl.uint32)
    for _ in tl.static_range(ROUNDS):
        left += scatter_hash(right, k0, k1, rows)
        left = tl.where(left >= rows, left - rows, left)
        right += scatter_hash(left, k2, k3, columns)
        right = tl.where(right >= columns, right - columns, right)
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
        k2 += 0x9E3779B9
        k3 += 0xBB67AE85
    return left.to(tl.int64) * columns.to(tl.int64) + right.to(tl.int64)


@kernel
def shuffle(out, n: "i64", seed: "i64", offset: "i64", rows: "i64", columns: "i64", ROUNDS: tl.constexpr,
            BLOCK: tl.constexpr):
    """out[i] = the place of i, keyed by one block of words."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = start + tl.arange(0, BLOCK)
    k0, k1, k2, k3 = philox.blocks(seed, offset, start - start)
    rows, columns = rows.to(tl.uint32), columns.to(tl.uint32)
    x = permuted(tl.where(i < n, i, 0), rows, columns, k0, k1, k2, k3, ROUNDS)
    while tl.max(x, 0) >= n:
        x = tl.where(x >= n, permuted(x, rows, columns, k0, k1, k2, k3, ROUNDS), x)
    philox.put(out, x, start, n, BLOCK)


def permutation(stream: Stream, n: int) -> DeviceArray:
    """0 ... n-1 in random order: int64."""
    out = empty((n,), np.int64, stream.device)
    if n <= RANKED:
        seed, offset = stream.take(2 * n)
        rows, columns = (max(power(n), 2), 512) if runtime.active().emulated else (32, 128)
        rank.bind(ROWS=rows, COLUMNS=columns, **philox.EXACT)(-(-n // rows), 1, 1, out, n, seed, offset)
        return out
    seed, offset = stream.take(4)
    rows = math.isqrt(n - 1) + 1
    columns = -(-n // rows)
    block = 16384 if runtime.active().emulated else 512
    shuffle.bind(ROUNDS=ROUNDS, BLOCK=block, **philox.EXACT)(-(-n // block), 1, 1, out, n, seed, offset, rows, columns)
    return out


# --- multinomial ------------------------------------------------------------------------------

@triton.jit
def row_and_part(parts):
    """A program's row, and which of its parts."""
    program = tl.program_id(0).to(tl.int64)
    return program // parts, program % parts


@triton.jit
def race(p, row, start, n, seed, offset, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """p / e for elements of a row from ``start`` on: -1 beyond its end. A row uses whole blocks of words."""
    j = start + tl.arange(0, BLOCK)
    even, odd = philox.words_even_odd(seed, offset, row * ((n + 3) // 4 * 4) + start, BLOCK, WIDE)
    e = tl.interleave(philox.exponential(even), philox.exponential(odd))
    x = tl.load(p + row * n + j, mask=j < n, other=0.0)
    if WIDE:
        key = x.to(tl.float64) / e
    else:
        key = tl.div_rn(x.to(tl.float32), e)
    return j, tl.where(j < n, key, -1.0)


@kernel
def race_keys(p, keys, n: "i64", seed: "i64", offset: "i64", parts: "i64", WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """keys[row, j] = p[row, j] / e."""
    row, part = row_and_part(parts)
    j, key = race(p, row, part * BLOCK, n, seed, offset, WIDE, BLOCK)
    tl.store(keys + row * n + j, key, mask=j < n)


@kernel
def winner(p, keys, places, n: "i64", seed: "i64", offset: "i64", parts: "i64", WIDE: tl.constexpr, BLOCK: tl.constexpr,
           PART: tl.constexpr):
    """The largest key of each part of each row, and its place; the first of equals."""
    row, part = row_and_part(parts)
    first = part * PART
    seed, offset = philox.begin(seed, offset)
    place, best = race(p, row, first, n, seed, offset, WIDE, BLOCK)
    for start in range(first + BLOCK, tl.minimum(first + PART, n), BLOCK):
        j, key = race(p, row, start, n, seed, offset, WIDE, BLOCK)
        place = tl.where(key > best, j, place)
        best = tl.maximum(key, best)
    top = tl.max(best, 0)
    tl.store(keys + row * parts + part, top)
    tl.store(places + row * parts + part, tl.min(tl.where(best == top, place, n), 0))


@kernel
def champion(keys, places, out, parts: "i64", BLOCK: tl.constexpr):
    """The place of the largest key of all parts of a row; the first of equals."""
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    key = tl.load(keys + row * parts + i, mask=i < parts, other=-1.0)
    place = tl.load(places + row * parts + i, mask=i < parts, other=0)
    tl.store(out + row, tl.min(tl.where(key == tl.max(key, 0), place, 0x7FFFFFFFFFFFFFFF), 0))


@kernel
def first_ranks(keys, out, n: "i64", k: "i64", parts: "i64", ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[row, r] = the place of the key with r larger ones in its row, for r < k."""
    row, part = row_and_part(parts)
    i = part * ROWS + tl.arange(0, ROWS)
    mine = tl.load(keys + row * n + i, mask=i < n, other=-1.0)[:, None]
    count = tl.zeros([ROWS], tl.int64)
    for start in range(0, n, COLUMNS):
        j = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        theirs = tl.load(keys + row * n + j, mask=j < n, other=-1.0)[None, :]
        larger = (theirs > mine) | ((theirs == mine) & (j[None, :] < i[:, None]))
        count += tl.sum((larger & (j < n)[None, :]).to(tl.int32), 1)
    tl.store(out + row * k + count, i, mask=(i < n) & (count < k))


@kernel
def cumulate(p, total, n: "i64", BLOCK: tl.constexpr):
    """total[row, j] = the sum of the weights of a row up to j, in integers: the largest has 39 bits."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    top = tl.zeros([BLOCK], tl.float64)
    for start in range(0, n, BLOCK):
        top = tl.maximum(top, tl.load(p + row * n + start + j, mask=start + j < n, other=0.0).to(tl.float64))
    most = tl.max(top, 0)
    boost = tl.where(most < 1e-200, 1.3407807929942597e154, 1.0).to(tl.float64)  # 2^512: the exponent of denormals
    bits = (most * boost).to(tl.int64, bitcast=True)
    shift = (1023 + 38 - (bits >> 52)).to(tl.int32)
    half = shift >> 1
    one, other = philox.power_of_2(half, tl.float64), philox.power_of_2(shift - half, tl.float64)
    before = row - row
    for start in range(0, n, BLOCK):
        x = tl.load(p + row * n + start + j, mask=start + j < n, other=0.0).to(tl.float64)
        weight = (x * boost * one * other).to(tl.int64)
        tl.store(total + row * n + start + j, tl.cumsum(weight, 0) + before, mask=start + j < n)
        before += tl.sum(weight, 0)


@kernel
def search(total, out, n: "i64", k: "i64", steps: "i64", seed: "i64", offset: "i64", parts: "i64", BLOCK: tl.constexpr):
    """out[row, s] = the first place whose total is above a random integer below the last one."""
    row, part = row_and_part(parts)
    start = part * BLOCK
    s = start + tl.arange(0, BLOCK)
    w = philox.words(seed, offset, row * ((k + 1) // 2 * 2) + start, BLOCK, True)
    target = philox.below(w, tl.load(total + row * n + n - 1).to(tl.uint64)).to(tl.int64)
    low = tl.zeros([BLOCK], tl.int64)
    high = low + (n - 1)
    for _ in range(0, steps):
        middle = (low + high) >> 1
        right = tl.load(total + row * n + middle, mask=s < k, other=0) <= target
        low = tl.where(right, tl.minimum(middle + 1, n - 1), low)
        high = tl.where(right, high, middle)
    tl.store(out + row * k + s, low, mask=s < k)


def multinomial(stream: Stream, p: DeviceArray, samples: int, replacement: bool) -> DeviceArray:
    """Indices drawn with the weights in the rows of ``p``: (n) -> (samples) or (rows, n) -> (rows, samples), int64.

    With replacement, weights below 2^-38 of the largest count as 0."""
    p = p if p.dense else p.copy()
    n = p.shape[-1]
    rows = p.size // n if n else 0
    out = empty((*p.shape[:-1], samples), np.int64, p.device)
    if rows and samples:
        if replacement and samples > 1:
            _with_replacement(stream, p, out, rows, n, samples)
        elif samples == 1:
            _one(stream, p, out, rows, n)
        else:
            return _without_replacement(stream, p, out, rows, n, samples)
    return out


def _block(n: int, real: int) -> int:
    return min(max(power(n), 4), 16384) if runtime.active().emulated else real


def _with_replacement(stream: Stream, p: DeviceArray, out: DeviceArray, rows: int, n: int, samples: int) -> None:
    total = empty((rows, n), np.int64, p.device)
    cumulate.bind(BLOCK=_block(n, 1024), num_warps=8, **philox.EXACT)(rows, 1, 1, p, total, n)
    seed, offset = stream.take(rows * 2 * (samples + 1 & -2))
    block = _block(samples, 256)
    parts = -(-samples // block)
    variant = search.bind(BLOCK=block, **philox.EXACT)
    variant(rows * parts, 1, 1, total, out, n, samples, n.bit_length(), seed, offset, parts)


def _race(stream: Stream, p: DeviceArray, rows: int, n: int) -> tuple[bool, Any, int, int]:
    """Whether the race is in float64, the dtype of its keys, seed and offset."""
    wide = p.dtype == np.float64
    return wide, p.dtype if wide else np.dtype(np.float32), *stream.take(rows * (n + 3 & -4) * (2 if wide else 1))


def _one(stream: Stream, p: DeviceArray, out: DeviceArray, rows: int, n: int) -> None:
    wide, dtype, seed, offset = _race(stream, p, rows, n)
    parts = -(-n // PART)
    keys = empty((rows, parts), dtype, p.device)
    places = out if parts == 1 else empty((rows, parts), np.int64, p.device)
    variant = winner.bind(WIDE=wide, BLOCK=_block(n, 1024), PART=PART, **philox.EXACT)
    variant(rows * parts, 1, 1, p, keys, places, n, seed, offset, parts)
    if parts > 1:
        champion.bind(BLOCK=power(parts))(rows, 1, 1, keys, places, out, parts)


def _without_replacement(stream: Stream, p: DeviceArray, out: DeviceArray, rows: int, n: int,
                         samples: int) -> DeviceArray:
    wide, dtype, seed, offset = _race(stream, p, rows, n)
    keys = empty(p.shape, dtype, p.device)
    block = _block(n, 1024)
    parts = -(-n // block)
    race_keys.bind(WIDE=wide, BLOCK=block, **philox.EXACT)(rows * parts, 1, 1, p, keys, n, seed, offset, parts)
    if n > 2 * RANKED:
        from tritium.kernels.triton import side

        return side.sort.topk(keys, samples, -1, True)[1]
    height, width = (min(power(n), 1024), 512) if runtime.active().emulated else (32, 128)
    parts = -(-n // height)
    first_ranks.bind(ROWS=height, COLUMNS=width)(rows * parts, 1, 1, keys, out, n, samples, parts)
    return out


@kernel
def look(p, flags, n: "i64", parts: "i64", BLOCK: tl.constexpr, PART: tl.constexpr):
    """What is wrong with a part of a row: 1 something is not >= 0, 2 something is not finite, 4 nothing is > 0."""
    row, part = row_and_part(parts)
    first = part * PART
    found = tl.zeros([BLOCK], tl.int32)
    for start in range(first, tl.minimum(first + PART, n), BLOCK):
        j = start + tl.arange(0, BLOCK)
        x = tl.load(p + row * n + j, mask=j < n, other=0.0).to(tl.float64)
        found |= tl.where(x >= 0.0, 0, 1) | tl.where(x - x == 0.0, 0, 2) | tl.where(x > 0.0, 4, 0)
    wrong = tl.max(found & 1, 0) | tl.max(found & 2, 0)
    tl.store(flags + row * parts + part, wrong | (4 - tl.max(found & 4, 0)))


def weights_check(p: DeviceArray) -> tuple[bool, bool, bool]:
    """Of a floating point array: whether an element is not >= 0, whether one is not finite, whether a row (along the
    last dimension) has no positive one. Waits for the device. While a graph is captured nobody can look: nothing is
    found."""
    if not p.size or current.capture is not None:
        return False, False, False
    p = p if p.dense else p.copy()
    n = p.shape[-1] if p.ndim else 1
    rows, parts = p.size // n, -(-n // PART)
    flags = empty((rows, parts), np.int32, p.device)
    block = _block(n, 1024)
    look.bind(BLOCK=block, PART=PART)(rows * parts, 1, 1, p, flags, n, parts)
    found = flags.to_host()
    return bool((found & 1).any()), bool((found & 2).any()), bool((found & 4).all(1).any())


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    state = {"seed": "i64", "offset": "i64"}
    plain: dict[str, Any] = {"enable_fp_fusion": False}
    yield Case("permutation by rank", rank, {"out": "*i64", "n": "i64", **state}, {"ROWS": 32, "COLUMNS": 128},
               ("out",), **plain)
    yield Case("permutation by rounds", shuffle, {"out": "*i64", "n": "i64", **state, "rows": "i64", "columns": "i64"},
               {"ROUNDS": ROUNDS, "BLOCK": 512}, ("out",), wide=True, **plain)
    for dtype in ("fp32", "fp64"):
        wide = dtype == "fp64"
        keys = {"p": f"*{dtype}", "keys": "*fp64" if wide else "*fp32"}
        sizes = {"n": "i64", **state, "parts": "i64"}
        yield Case(f"multinomial winner {dtype}", winner, {**keys, "places": "*i64", **sizes},
                   {"WIDE": wide, "BLOCK": 1024, "PART": PART}, ("p", "keys", "places"), **plain)
        yield Case(f"multinomial keys {dtype}", race_keys, {**keys, **sizes}, {"WIDE": wide, "BLOCK": 1024},
                   ("p", "keys"), **plain)
        yield Case(f"multinomial cumulate {dtype}", cumulate, {"p": f"*{dtype}", "total": "*i64", "n": "i64"},
                   {"BLOCK": 1024}, ("p", "total"), num_warps=8, **plain)
        yield Case(f"weights check {dtype}", look, {"p": f"*{dtype}", "flags": "*i32", "n": "i64", "parts": "i64"},
                   {"BLOCK": 1024, "PART": PART}, ("p", "flags"))
    for dtype in ("fp32", "fp64"):
        yield Case(f"multinomial champion {dtype}", champion,
                   {"keys": f"*{dtype}", "places": "*i64", "out": "*i64", "parts": "i64"}, {"BLOCK": 64},
                   ("keys", "places", "out"))
        yield Case(f"multinomial ranks {dtype}", first_ranks,
                   {"keys": f"*{dtype}", "out": "*i64", "n": "i64", "k": "i64", "parts": "i64"},
                   {"ROWS": 32, "COLUMNS": 128}, ("keys", "out"))
    yield Case("multinomial search", search,
               {"total": "*i64", "out": "*i64", "n": "i64", "k": "i64", "steps": "i64", **state, "parts": "i64"},
               {"BLOCK": 256}, ("total", "out"), **plain)
