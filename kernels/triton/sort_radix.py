"""The order of small whole numbers: a stable sort of keys in [0, 2^bits), with the positions they came from.

Few keys are ranked directly: rank[i] = #{j: key[j] < key[i]} + #{j < i: key[j] = key[i]}. Many are sorted by four bits
at a time, the lowest first: each block counts its digits, a scan over (digit, block) says where they go, and within a
block the number of equal digits before keeps the order. Nothing is atomic.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.strided import power

INT64 = np.dtype(np.int64)
FEW = 8192  # keys that are ranked directly
BITS = 4


@kernel
def rank_kernel(keys, out, order, n: "i64", BLOCK: tl.constexpr, OTHERS: tl.constexpr):
    """Every key put at its rank, all in one step: each is compared with all."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + i, mask=i < n, other=0)
    rank = tl.zeros((BLOCK,), tl.int64)
    for start in range(0, n, OTHERS):
        j = start + tl.arange(0, OTHERS)
        other = tl.load(keys + j, mask=j < n, other=0)
        before = (other[None, :] < key[:, None]) | ((other[None, :] == key[:, None]) & (j[None, :] < i[:, None]))
        rank += tl.sum((before & (j < n)[None, :]).to(tl.int32), 1).to(tl.int64)
    tl.store(out + rank, key, mask=i < n)
    tl.store(order + rank, i, mask=i < n)


@kernel
def count_digits(keys, counts, n: "i64", blocks: "i64", shift: "i64", BLOCK: tl.constexpr, DIGITS: tl.constexpr):
    """How often each digit occurs in a block: counts[digit, block]."""
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    digit = ((tl.load(keys + i, mask=i < n, other=0) >> shift) & (DIGITS - 1)).to(tl.int32)
    d = tl.arange(0, DIGITS)
    here = (digit[:, None] == d[None, :]) & (i < n)[:, None]
    tl.store(counts + d * blocks + block, tl.sum(here.to(tl.int32), 0).to(tl.int64))


@kernel
def sums_before(x, total, n: "i64", BLOCK: tl.constexpr):
    """Each element replaced by the sum of those before it; the sum of all in ``total``. One program."""
    run = tl.zeros((), tl.int64)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        v = tl.load(x + i, mask=i < n, other=0)
        tl.store(x + i, run + tl.cumsum(v, 0) - v, mask=i < n)
        run += tl.sum(v, 0)
    tl.store(total, run)


@kernel
def move_digits(keys, order, starts, out, out_order, n: "i64", blocks: "i64", shift: "i64", FIRST: tl.constexpr,
                BLOCK: tl.constexpr, DIGITS: tl.constexpr):
    """A block's keys put where their digits go, in order. FIRST: the keys stand where they were given."""
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    key = tl.load(keys + i, mask=mask, other=0)
    digit = ((key >> shift) & (DIGITS - 1)).to(tl.int32)
    d = tl.arange(0, DIGITS)
    same = (digit[:, None] == d[None, :]) & mask[:, None]
    ones = same.to(tl.int32)
    before = tl.cumsum(ones, 0) - ones
    start = tl.load(starts + d * blocks + block)
    place = tl.sum(tl.where(same, start[None, :] + before.to(tl.int64), 0), 1)
    tl.store(out + place, key, mask=mask)
    if FIRST:
        tl.store(out_order + place, i, mask=mask)
    else:
        tl.store(out_order + place, tl.load(order + i, mask=mask, other=0), mask=mask)


def argsort_keys(keys: DeviceArray, bits: int) -> tuple[DeviceArray, DeviceArray]:
    """Dense int64 keys in [0, 2^bits), sorted, and the positions they had; equal keys keep their order."""
    n = keys.size
    out, order = empty((n,), INT64, keys.device), empty((n,), INT64, keys.device)
    emulated = runtime.active().emulated
    if n <= FEW:
        block, others = (min(power(n), 64), min(power(n), 8192)) if emulated else (16, 256)
        rank_kernel.bind(BLOCK=block, OTHERS=others)(-(-n // block), 1, 1, keys, out, order, n)
        return out, order
    block = BLOCK if not emulated else 8192
    blocks = -(-n // block)
    digits = 1 << BITS
    counts, total = empty((digits * blocks,), INT64, keys.device), empty((1,), INT64, keys.device)
    spare = empty((2, n), INT64, keys.device)
    other, other_order = spare[0], spare[1]
    passes = max(-(-bits // BITS), 1)
    if passes % 2 == 0:  # the last pass writes into out
        out, order, other, other_order = other, other_order, out, order
    source, source_order = keys, keys
    for p in range(passes):
        count_digits.bind(BLOCK=block, DIGITS=digits)(blocks, 1, 1, source, counts, n, blocks, p * BITS)
        sums_before.bind(BLOCK=4096, num_warps=8)(1, 1, 1, counts, total, counts.size)
        move_digits.bind(FIRST=p == 0, BLOCK=block, DIGITS=digits)(
            blocks, 1, 1, source, source_order, counts, out, order, n, blocks, p * BITS)
        source, source_order = out, order
        out, order, other, other_order = other, other_order, out, order
    return source, source_order


BLOCK = 512


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    yield Case("rank", rank_kernel, {"keys": "*i64", "out": "*i64", "order": "*i64", "n": "i64"},
               {"BLOCK": 16, "OTHERS": 256}, ("keys", "out", "order"))
    yield Case("count_digits", count_digits, {"keys": "*i64", "counts": "*i64", "n": "i64", "blocks": "i64",
                                              "shift": "i64"}, {"BLOCK": BLOCK, "DIGITS": 1 << BITS},
               ("keys", "counts"))
    yield Case("sums_before", sums_before, {"x": "*i64", "total": "*i64", "n": "i64"}, {"BLOCK": 4096}, ("x", "total"),
               num_warps=8)
    for first in (True, False):
        yield Case(f"move_digits {'first' if first else 'later'}", move_digits, {
            **{name: "*i64" for name in ("keys", "order", "starts", "out", "out_order")},
            **{name: "i64" for name in ("n", "blocks", "shift")}},
            {"FIRST": first, "BLOCK": BLOCK, "DIGITS": 1 << BITS}, ("keys", "order", "starts", "out", "out_order"))
