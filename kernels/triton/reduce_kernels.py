"""The kernels of the reductions. ``axes.py`` says how they see an array: kept elements k, reduced ones r.

    fold     out[k] = END(OP over r of MAP(x[k, r]))           OP: sum, prod, max, min
    place    out[k] = the first r where x[k, r] is the largest (smallest), or nan
    spread   out[k] = (S2 - S1^2 / n) / (n - correction)       S1 = sum of d, S2 = sum of d^2, d = x[k, r] - x[k, 0]

Each place of a program's tile has its own accumulator, and these are joined as a tree: the error of a float32 sum is
that of a much shorter one.

``spread`` takes one pass. It is exact enough in float64: the shift x[k, 0] is one of the elements, so what cancels is
at most n times what is left. The A100 and the H100 do float64 at half the rate of float32, so the time still goes into
reading memory, and there is no division in the loop, as there is in Welford's way.

Grid: (tiles of k, splits). Where several programs share a result, each writes its part at [split, k] of a workspace.
"""
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.axes import kept_offset, outer_offset, tile
from tritium.kernels.triton.strided import convert


@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def combined(a, b, OP: tl.constexpr):
    """One step of the reduction; nan wins in max and min."""
    if OP == "sum":
        r = a + b
    elif OP == "prod":
        r = a * b
    elif OP == "max":
        r = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    else:
        r = tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
    return r


@triton.jit
def folded(a, OP: tl.constexpr):
    """The reduction of a tile along its second dimension."""
    if OP == "sum":
        r = tl.sum(a, 1)
    elif OP == "prod":
        r = tl.reduce(a, 1, multiply)
    elif a.dtype.is_floating():
        nan = a != a
        rest = tl.where(nan, float("-inf") if OP == "max" else float("inf"), a)
        r = tl.max(rest, 1) if OP == "max" else tl.min(rest, 1)
        r = tl.where(tl.max(nan.to(tl.int32), 1) != 0, float("nan"), r)
    else:
        r = tl.max(a, 1) if OP == "max" else tl.min(a, 1)
    return r


@triton.jit
def mapped(x, parameter, ACC: tl.constexpr, MAP: tl.constexpr):
    """What is reduced, of an element."""
    if x.dtype == tl.bfloat16 or x.dtype == tl.float16:
        x = x.to(tl.float32)
    if MAP == "number":
        x = tl.where(x == x, x, 0.0)
    if MAP == "nonzero":
        v = (x != 0).to(ACC)
    elif MAP == "nan":
        v = (x != x).to(ACC)
    else:
        v = convert(x, ACC)
        if MAP == "abs":
            v = tl.abs(v)
        elif MAP == "square":
            v = v * v
        elif MAP == "power":
            v = libdevice.pow(tl.abs(v), parameter.to(ACC))
    return v


@triton.jit
def ended(r, parameter, END: tl.constexpr):
    """The result, of what was reduced."""
    if END == "mean":
        r = (r.to(tl.float64) / parameter).to(r.dtype)
    elif END == "root":
        r = tl.sqrt(r.to(tl.float64)).to(r.dtype)
    elif END == "power":
        r = libdevice.pow(r, (1.0 / parameter).to(r.dtype))
    return r


@kernel
def fold(x, out, nk: "i64", k0: "i64", sk0: "i64", sk1: "i64", so0: "i64", so1: "i64", nr: "i64", r1: "i64",
         outer: "i64", sr0: "i64", sr1: "i64", sr2: "i64", span: "i64", parameter: "fp64", OP: tl.constexpr,
         MAP: tl.constexpr, END: tl.constexpr, ACC: tl.constexpr, FILL: tl.constexpr, KD: tl.constexpr,
         RD: tl.constexpr, UNIT: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr,
         BR: tl.constexpr):
    """A reduction. FILL: its identity."""
    k, nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2 = tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT, VECTOR, LONG, BK)
    start = kept_offset(k, k0, sk0, sk1, KD, UNIT == "k")
    r = tl.arange(0, BR).to(k.dtype)
    blocks = tl.cdiv(nr, BR)
    first = tl.program_id(1).to(k.dtype) * span.to(k.dtype)
    last = tl.minimum(first + span.to(k.dtype), blocks * outer.to(k.dtype))
    acc = tl.full((BK, BR), FILL, ACC)
    for step in range(first, last):
        if RD == 1:
            place = step * BR + r
            base = start
        else:
            place = step % blocks * BR + r
            base = start + outer_offset(step // blocks, r1, sr1, sr2, RD)
        offset = base[:, None] + (place if UNIT == "r" else place * sr0)[None, :]
        mask = (k < nk)[:, None] & (place < nr)[None, :]
        v = mapped(tl.load(x + offset, mask=mask, other=0), parameter, ACC, MAP)
        acc = combined(acc, tl.where(mask, v, FILL), OP)
    result = ended(folded(acc, OP), parameter, END)
    at = tl.program_id(1).to(k.dtype) * nk + kept_offset(k, k0, so0.to(k.dtype), so1.to(k.dtype), KD, False)
    tl.store(out + at, convert(result, out.dtype.element_ty), mask=k < nk)


@triton.jit
def first_best(v, i, OP: tl.constexpr, NONE: tl.constexpr):
    """(value, position) of the best of a tile along its second dimension: the first nan, or the first of the best."""
    if v.dtype.is_floating():
        nan = v != v
        bad = tl.max(nan.to(tl.int32), 1) != 0
        rest = tl.where(nan, float("-inf") if OP == "max" else float("inf"), v)
        best = tl.max(rest, 1) if OP == "max" else tl.min(rest, 1)
        hit = tl.where(bad[:, None], nan, v == best[:, None])
        best = tl.where(bad, float("nan"), best)
    else:
        best = tl.max(v, 1) if OP == "max" else tl.min(v, 1)
        hit = v == best[:, None]
    return best, tl.min(tl.where(hit, i, NONE), 1)


@kernel
def place(x, indices, out, values, nk: "i64", k0: "i64", sk0: "i64", sk1: "i64", so0: "i64", so1: "i64", nr: "i64",
          r1: "i64", outer: "i64", sr0: "i64", sr1: "i64", sr2: "i64", span: "i64", OP: tl.constexpr, ACC: tl.constexpr,
          FILL: tl.constexpr, INDEXED: tl.constexpr, PART: tl.constexpr, KD: tl.constexpr, RD: tl.constexpr,
          UNIT: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """The position of an extreme; RD is 1. INDEXED: the positions of the elements are in ``indices``. PART: the values
    are stored too."""
    k, nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2 = tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT, VECTOR, LONG, BK)
    none: tl.constexpr = 2**63 - 1 if LONG or INDEXED else 2**31 - 1
    start = kept_offset(k, k0, sk0, sk1, KD, UNIT == "k")
    r = tl.arange(0, BR).to(k.dtype)
    first = tl.program_id(1).to(k.dtype) * span.to(k.dtype)
    last = tl.minimum(first + span.to(k.dtype), tl.cdiv(nr, BR))
    best = tl.full((BK, BR), FILL, ACC)
    at = tl.full((BK, BR), none, tl.int64 if INDEXED else k.dtype)
    for step in range(first, last):
        position = step * BR + r
        offset = start[:, None] + (position if UNIT == "r" else position * sr0)[None, :]
        mask = (k < nk)[:, None] & (position < nr)[None, :]
        v = convert(tl.load(x + offset, mask=mask, other=0), ACC)
        better = (v > best) if OP == "max" else (v < best)
        if ACC.is_floating():
            better = better | ((v != v) & (best == best))
        take = mask & (better | (at == none))
        best = tl.where(take, v, best)
        if INDEXED:
            at = tl.where(take, tl.load(indices + offset, mask=mask, other=0), at)
        else:
            at = tl.where(take, position[None, :], at)
    value, index = first_best(best, at, OP, none)
    to = tl.program_id(1).to(k.dtype) * nk + kept_offset(k, k0, so0.to(k.dtype), so1.to(k.dtype), KD, False)
    tl.store(out + to, index.to(tl.int64), mask=k < nk)
    if PART:
        tl.store(values + to, value, mask=k < nk)


@triton.jit
def variance(s1, s2, count, left):
    """From the sums of the shifted elements and of their squares; ``left``: the count less the correction."""
    v = (s2 - s1 * s1 / count) / left
    return tl.where(v < 0, 0.0, v)


@kernel
def spread(x, out, nk: "i64", k0: "i64", sk0: "i64", sk1: "i64", so0: "i64", so1: "i64", nr: "i64", r1: "i64",
           outer: "i64", sr0: "i64", sr1: "i64", sr2: "i64", span: "i64", count: "fp64", left: "fp64",
           PART: tl.constexpr, ROOT: tl.constexpr, KD: tl.constexpr, RD: tl.constexpr, UNIT: tl.constexpr,
           VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """The variance, or with ROOT its square root. PART: the two sums as two planes of (split, k)."""
    k, nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2 = tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT, VECTOR, LONG, BK)
    start = kept_offset(k, k0, sk0, sk1, KD, UNIT == "k")
    r = tl.arange(0, BR).to(k.dtype)
    blocks = tl.cdiv(nr, BR)
    first = tl.program_id(1).to(k.dtype) * span.to(k.dtype)
    last = tl.minimum(first + span.to(k.dtype), blocks * outer.to(k.dtype))
    shift = tl.load(x + start, mask=k < tl.where(nr > 0, nk, 0), other=0).to(tl.float64)
    s1 = tl.zeros((BK, BR), tl.float64)
    s2 = tl.zeros((BK, BR), tl.float64)
    for step in range(first, last):
        if RD == 1:
            place = step * BR + r
            base = start
        else:
            place = step % blocks * BR + r
            base = start + outer_offset(step // blocks, r1, sr1, sr2, RD)
        offset = base[:, None] + (place if UNIT == "r" else place * sr0)[None, :]
        mask = (k < nk)[:, None] & (place < nr)[None, :]
        d = tl.where(mask, tl.load(x + offset, mask=mask, other=0).to(tl.float64) - shift[:, None], 0.0)
        s1 += d
        s2 += d * d
    a = tl.sum(s1, 1)
    b = tl.sum(s2, 1)
    at = tl.program_id(1).to(k.dtype) * nk + kept_offset(k, k0, so0.to(k.dtype), so1.to(k.dtype), KD, False)
    if PART:
        tl.store(out + at, a, mask=k < nk)
        tl.store(out + tl.num_programs(1).to(k.dtype) * nk + at, b, mask=k < nk)
    else:
        v = variance(a, b, count, left)
        tl.store(out + at, convert(tl.sqrt(v) if ROOT else v, out.dtype.element_ty), mask=k < nk)


@kernel
def spread_joined(parts, out, nk: "i64", splits: "i64", count: "fp64", left: "fp64", ROOT: tl.constexpr,
                  BK: tl.constexpr, BR: tl.constexpr):
    """The variance from the sums of all splits, which share one shift."""
    k = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    s1 = tl.zeros((BK, BR), tl.float64)
    s2 = tl.zeros((BK, BR), tl.float64)
    for first in range(0, splits, BR):
        r = first + tl.arange(0, BR)
        mask = (k < nk)[:, None] & (r < splits)[None, :]
        at = parts + r[None, :] * nk + k[:, None]
        s1 += tl.load(at, mask=mask, other=0)
        s2 += tl.load(at + splits * nk, mask=mask, other=0)
    v = variance(tl.sum(s1, 1), tl.sum(s2, 1), count, left)
    tl.store(out + k, convert(tl.sqrt(v) if ROOT else v, out.dtype.element_ty), mask=k < nk)
