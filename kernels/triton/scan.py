"""Running sums, products and extremes along a dimension.

    out[i] = x[0] o x[1] o ... o x[i]        o: +, *, log(exp + exp), max, min

A program walks along its rows with a tile, scans the tile and joins it to the state at the tile's start. Where there
are too few rows to fill the device, a row is shared: one launch finds the total of each share, one scans the totals,
one scans the shares from there. The order is fixed, so two runs give the same bits.

float32 is accumulated in float64 and the 16-bit floats in float32, and rounded once at the end.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.array import DeviceArray, NoKernel, contiguous_steps
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.axes import Plan, kept_offset, plan, remembered, tile
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.reduce import INT64, NUMBERS, WORK, _least, _ordered, f32, f64
from tritium.kernels.triton.reduce_kernels import combined, folded
from tritium.kernels.triton.strided import convert


@triton.jit
def scanned(v, OP: tl.constexpr):
    """The running sum or product of a tile along its second dimension."""
    if OP == "sum":
        r = tl.cumsum(v, 1)
    else:
        r = tl.cumprod(v, 1)
    return r


@kernel
def running(x, carry, out, nk: "i64", k0: "i64", sk0: "i64", sk1: "i64", so0: "i64", so1: "i64", nr: "i64", r1: "i64",
            outer: "i64", sr0: "i64", sr1: "i64", sr2: "i64", span: "i64", sor: "i64", OP: tl.constexpr,
            ACC: tl.constexpr, TOTALS: tl.constexpr, CARRY: tl.constexpr, SAME: tl.constexpr, ROWS: tl.constexpr,
            KD: tl.constexpr, RD: tl.constexpr, UNIT: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr,
            BK: tl.constexpr, BR: tl.constexpr):
    """A running sum or product. TOTALS: only the total of each share, as (split, k). CARRY: the shares begin with what
    ``carry`` (split, k) has for the share before. SAME: ``out`` has the strides of ``x``. ROWS: its rows are dense."""
    k, nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2 = tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT, VECTOR, LONG, BK)
    start = kept_offset(k, k0, sk0, sk1, KD, UNIT == "k")
    to = start if SAME else kept_offset(k, k0, so0.to(k.dtype), so1.to(k.dtype), KD, False)
    r = tl.arange(0, BR).to(k.dtype)
    split = tl.program_id(1).to(k.dtype)
    first = split * span.to(k.dtype)
    last = tl.minimum(first + span.to(k.dtype), tl.cdiv(nr, BR))
    neutral: tl.constexpr = 0 if OP == "sum" else 1
    state = tl.full((BK,), neutral, ACC)
    if CARRY:
        state = tl.load(carry + (split - 1) * nk + k, mask=k < tl.where(split > 0, nk, 0), other=neutral)
    for step in range(first, last):
        place = step * BR + r
        offset = start[:, None] + (place if UNIT == "r" else place * sr0)[None, :]
        mask = (k < nk)[:, None] & (place < nr)[None, :]
        v = tl.where(mask, convert(tl.load(x + offset, mask=mask, other=0), ACC), neutral)
        if not TOTALS:
            s = combined(state[:, None], scanned(v, OP), OP)
            at = offset if SAME else to[:, None] + (place if ROWS else place * sor.to(k.dtype))[None, :]
            tl.store(out + at, convert(s, out.dtype.element_ty), mask=mask)
        state = combined(state, folded(v, OP), OP)
    if TOTALS:
        tl.store(carry + split * nk + k, state, mask=k < nk)


@triton.jit
def later_max(v, i, w, j):
    """(value, position) of the larger of two, the second of equal ones; nan wins."""
    take = (w >= v) | (w != w)
    return tl.where(take, w, v), tl.where(take, j, i)


@triton.jit
def later_min(v, i, w, j):
    """(value, position) of the smaller of two, the second of equal ones; nan wins."""
    take = (w <= v) | (w != w)
    return tl.where(take, w, v), tl.where(take, j, i)


@triton.jit
def later(v, i, w, j, OP: tl.constexpr):
    """One step of a running extreme."""
    if OP == "max":
        w, j = later_max(v, i, w, j)
    else:
        w, j = later_min(v, i, w, j)
    return w, j


@kernel
def running_extreme(x, indices, carry, carried, out, places, nk: "i64", k0: "i64", sk0: "i64", sk1: "i64", so0: "i64",
                    so1: "i64", nr: "i64", r1: "i64", outer: "i64", sr0: "i64", sr1: "i64", sr2: "i64", span: "i64",
                    sor: "i64", OP: tl.constexpr, ACC: tl.constexpr, FILL: tl.constexpr, INDEXED: tl.constexpr,
                    TOTALS: tl.constexpr, CARRY: tl.constexpr, SAME: tl.constexpr, ROWS: tl.constexpr, KD: tl.constexpr,
                    RD: tl.constexpr, UNIT: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr,
                    BR: tl.constexpr):
    """A running extreme and where it was last. INDEXED: the elements' positions are in ``indices`` (as ``x`` lies).
    TOTALS, CARRY, SAME: as in ``running``; the positions of the totals are in ``carried``."""
    k, nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2 = tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT, VECTOR, LONG, BK)
    start = kept_offset(k, k0, sk0, sk1, KD, UNIT == "k")
    to = start if SAME else kept_offset(k, k0, so0.to(k.dtype), so1.to(k.dtype), KD, False)
    r = tl.arange(0, BR).to(k.dtype)
    split = tl.program_id(1).to(k.dtype)
    first = split * span.to(k.dtype)
    last = tl.minimum(first + span.to(k.dtype), tl.cdiv(nr, BR))
    number: tl.constexpr = tl.int64 if INDEXED or CARRY else k.dtype
    best = tl.full((BK,), FILL, ACC)
    where = tl.zeros((BK,), number)
    if CARRY:
        before = k < tl.where(split > 0, nk, 0)
        best = tl.load(carry + (split - 1) * nk + k, mask=before, other=FILL)
        where = tl.load(carried + (split - 1) * nk + k, mask=before, other=0)
    for step in range(first, last):
        place = step * BR + r
        offset = start[:, None] + (place if UNIT == "r" else place * sr0)[None, :]
        mask = (k < nk)[:, None] & (place < nr)[None, :]
        v = tl.where(mask, convert(tl.load(x + offset, mask=mask, other=0), ACC), FILL)
        if INDEXED:
            i = tl.load(indices + offset, mask=mask, other=0)
        else:
            i = tl.zeros((BK, BR), number) + place.to(number)[None, :]
        if not TOTALS:
            if OP == "max":
                w, j = tl.associative_scan((v, i), 1, later_max)
            else:
                w, j = tl.associative_scan((v, i), 1, later_min)
            u, h = later(best[:, None], where[:, None], w, j, OP)
            at = offset if SAME else to[:, None] + (place if ROWS else place * sor.to(k.dtype))[None, :]
            tl.store(out + at, convert(u, out.dtype.element_ty), mask=mask)
            tl.store(places + at, h.to(tl.int64), mask=mask)
        if OP == "max":
            w, j = tl.reduce((v, i), 1, later_max)
        else:
            w, j = tl.reduce((v, i), 1, later_min)
        best, where = later(best, where, w, j, OP)
    if TOTALS:
        tl.store(carry + split * nk + k, best, mask=k < nk)
        tl.store(carried + split * nk + k, where.to(tl.int64), mask=k < nk)


@triton.jit
def add_powers(m, s, n, t):
    """log(s exp m + t exp n) as (the larger exponent, the sum over its power); nothing overflows."""
    e = tl.where(m == n, 1.0, libdevice.exp(-tl.abs(m - n))).to(m.dtype)
    return tl.maximum(m, n, propagate_nan=tl.PropagateNan.ALL), tl.where(m >= n, s + t * e, s * e + t)


@kernel
def running_logsum(x, sums, carry, carried, out, outs, nk: "i64", k0: "i64", sk0: "i64", sk1: "i64", so0: "i64",
                   so1: "i64", nr: "i64", r1: "i64", outer: "i64", sr0: "i64", sr1: "i64", sr2: "i64", span: "i64",
                   sor: "i64", ACC: tl.constexpr, SUMMED: tl.constexpr, TOTALS: tl.constexpr, CARRY: tl.constexpr,
                   SAME: tl.constexpr, ROWS: tl.constexpr, KD: tl.constexpr, RD: tl.constexpr, UNIT: tl.constexpr,
                   VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """A running logarithm of sums of powers; the state is (largest so far, sum over its power). SUMMED: the elements
    are such states, (``x``, ``sums``), and so are the results, (``out``, ``outs``). TOTALS, CARRY, SAME: as in
    ``running``."""
    k, nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2 = tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT, VECTOR, LONG, BK)
    start = kept_offset(k, k0, sk0, sk1, KD, UNIT == "k")
    to = start if SAME else kept_offset(k, k0, so0.to(k.dtype), so1.to(k.dtype), KD, False)
    r = tl.arange(0, BR).to(k.dtype)
    split = tl.program_id(1).to(k.dtype)
    first = split * span.to(k.dtype)
    last = tl.minimum(first + span.to(k.dtype), tl.cdiv(nr, BR))
    top = tl.full((BK,), float("-inf"), ACC)
    total = tl.zeros((BK,), ACC)
    if CARRY:
        before = k < tl.where(split > 0, nk, 0)
        top = tl.load(carry + (split - 1) * nk + k, mask=before, other=float("-inf"))
        total = tl.load(carried + (split - 1) * nk + k, mask=before, other=0.0)
    for step in range(first, last):
        place = step * BR + r
        offset = start[:, None] + (place if UNIT == "r" else place * sr0)[None, :]
        mask = (k < nk)[:, None] & (place < nr)[None, :]
        m = tl.where(mask, tl.load(x + offset, mask=mask, other=0).to(ACC), float("-inf"))
        if SUMMED:
            s = tl.load(sums + offset, mask=mask, other=0)
        else:
            s = tl.where(mask, 1.0, 0.0).to(ACC)
        if not TOTALS:
            n, t = tl.associative_scan((m, s), 1, add_powers)
            n, t = add_powers(top[:, None], total[:, None], n, t)
            at = offset if SAME else to[:, None] + (place if ROWS else place * sor.to(k.dtype))[None, :]
            if SUMMED:
                tl.store(out + at, n, mask=mask)
                tl.store(outs + at, t, mask=mask)
            else:
                tl.store(out + at, convert(n + libdevice.log(t), out.dtype.element_ty), mask=mask)
        n, t = tl.reduce((m, s), 1, add_powers)
        top, total = add_powers(top, total, n, t)
    if TOTALS:
        tl.store(carry + split * nk + k, top, mask=k < nk)
        tl.store(carried + split * nk + k, total, mask=k < nk)


# --- launches ---

class Scanning:
    """How one array is scanned: made once for each shape. ``sor``: the result's stride along the dimension."""

    __slots__ = ("plan", "sizes", "constants", "grid", "splits", "kept")

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, dim: int, wide: int,
                 split: bool) -> None:
        steps = contiguous_steps(shape, 1)
        self.plan: Plan | None = plan(shape, strides, itemsize, (dim,), wide, split, steps)
        if self.plan is None:
            return
        self.grid, self.splits, self.kept = self.plan.programs, self.plan.splits, self.plan.kept
        self.sizes = (*self.plan.sizes, steps[dim])
        same = all([n == 1 or s == o * itemsize for n, s, o in zip(shape, strides, steps, strict=True)])
        self.constants = {**self.plan.constants, "SAME": same, "ROWS": steps[dim] == 1}


def _scanning(a: DeviceArray, dim: int, wide: int, split: bool = True) -> Scanning | None:
    found = remembered((a.shape, a.strides, a.dtype.itemsize, dim, wide, split, "scan"), Scanning, a.shape, a.strides,
                       a.dtype.itemsize, dim, wide, split)
    return None if found.plan is None else found


def _contiguous(a: DeviceArray) -> DeviceArray:
    from tritium.kernels.triton.copy import contiguous

    return contiguous(a)


def _work(dtype: Any) -> Any:
    if dtype.kind in "biu":
        return INT64
    if dtype.kind == "c":
        raise NoKernel("scans of complex arrays: not implemented for cuda tensors")
    return f64 if dtype.itemsize >= 4 and dtype != np.float16 else f32


def _running(a: DeviceArray, dim: int, op: str) -> DeviceArray:
    work = _work(a.dtype)
    out = empty(a.shape, a.dtype, a.owner.device)
    if a.size:
        _run(a, out, dim, op, work)
    return out


class Running:
    """The launches of ``running`` on one array: made once for each shape."""

    __slots__ = ("how", "whole", "totals", "shares")

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any, dim: int, op: str,
                 work: Any) -> None:
        wide = 2 * work.itemsize if dtype == f64 else work.itemsize
        self.how = Scanning(shape, strides, dtype.itemsize, dim, wide, True)
        if self.how.plan is None:
            return
        constants = {"OP": op, "ACC": WORK[work], **self.how.constants}
        self.whole = running.bind(TOTALS=False, CARRY=False, **constants)
        self.totals = running.bind(TOTALS=True, CARRY=False, **constants)
        self.shares = running.bind(TOTALS=False, CARRY=True, **constants)


def _run(a: DeviceArray, out: DeviceArray, dim: int, op: str, work: Any) -> None:
    r = remembered((running, a.shape, a.strides, a.dtype, dim, op, work), Running, a.shape, a.strides, a.dtype, dim, op,
                   work)
    s = r.how
    if s.plan is None:
        _run(_contiguous(a), out, dim, op, work)
        return
    if s.splits == 1:
        r.whole(s.grid, 1, 1, a, out, out, *s.sizes)
        return
    parts, carry = (empty((s.splits, s.kept), work, a.owner.device) for _ in range(2))
    r.totals(s.grid, s.splits, 1, a, parts, out, *s.sizes)
    _run(parts, carry, 0, op, work)
    r.shares(s.grid, s.splits, 1, a, carry, out, *s.sizes)


def cumsum(a: DeviceArray, dim: int) -> DeviceArray:
    """``out[i] = a[0] + ... + a[i]``, in the array's dtype."""
    return _running(a, dim % a.ndim, "sum")


def cumprod(a: DeviceArray, dim: int) -> DeviceArray:
    """``out[i] = a[0] * ... * a[i]``, in the array's dtype."""
    return _running(a, dim % a.ndim, "prod")


def logcumsumexp(a: DeviceArray, dim: int) -> DeviceArray:
    """``out[i] = log(exp(a[0]) + ... + exp(a[i]))``, without overflow."""
    work = _work(a.dtype)
    out = empty(a.shape, a.dtype, a.owner.device)
    if a.size:
        _two(running_logsum, {"ACC": WORK[work]}, "SUMMED", (a, a), (out, out), dim % a.ndim, (work, work),
             4 * work.itemsize)
    return out


def _extreme(a: DeviceArray, dim: int, op: str) -> tuple[DeviceArray, DeviceArray]:
    if a.dtype.kind == "c":
        raise NoKernel("scans of complex arrays: not implemented for cuda tensors")
    out, places = empty(a.shape, a.dtype, a.owner.device), empty(a.shape, INT64, a.owner.device)
    if a.size:
        work = _ordered(a.dtype)
        constants = {"OP": op, "ACC": WORK[work], "FILL": _least(work, op)}
        _two(running_extreme, constants, "INDEXED", (a, places), (out, places), dim % a.ndim, (work, INT64), 16)
    return out, places


def _two(kernel: Any, constants: Any, flag: str, given: Any, outs: Any, dim: int, kinds: Any, wide: int,
         states: bool = False) -> None:
    """A scan whose state has two parts, of dtypes ``kinds``. ``wide``: bytes of what a thread holds for an element;
    ``states``: the elements are states."""
    a = given[0]
    s = _scanning(a, dim, wide)
    if s is None:
        given = _contiguous(a), _contiguous(given[1]) if states else given[1]
        _two(kernel, constants, flag, given, outs, dim, kinds, wide, states)
        return
    constants = {**constants, flag: states}
    if s.splits == 1:
        kernel.bind(**constants, TOTALS=False, CARRY=False, **s.constants)(s.grid, 1, 1, *given, *outs, *outs, *s.sizes)
        return
    parts, carry = ([empty((s.splits, s.kept), kind, a.owner.device) for kind in kinds] for _ in range(2))
    kernel.bind(**constants, TOTALS=True, CARRY=False, **s.constants)(s.grid, s.splits, 1, *given, *parts, *outs,
                                                                      *s.sizes)
    _two(kernel, constants, flag, parts, carry, 0, kinds, wide, True)
    kernel.bind(**constants, TOTALS=False, CARRY=True, **s.constants)(s.grid, s.splits, 1, *given, *carry, *outs,
                                                                      *s.sizes)


def cummax(a: DeviceArray, dim: int) -> tuple[DeviceArray, DeviceArray]:
    """The largest so far and where it was last; nan from the first nan on."""
    return _extreme(a, dim, "max")


def cummin(a: DeviceArray, dim: int) -> tuple[DeviceArray, DeviceArray]:
    """The smallest so far and where it was last; nan from the first nan on."""
    return _extreme(a, dim, "min")


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    item = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "i64": 8}
    acc = {"bf16": tl.float32, "fp16": tl.float32, "fp32": tl.float64, "fp64": tl.float64, "i64": tl.int64}
    numbers = {**NUMBERS, "sor": "i64"}
    for form in ("rows", "columns", "turned"):
        for dtype in ("fp32", "bf16", "fp64", "i64") if form != "turned" else ("fp32",):
            for op, k in (("sum", running), ("prod", running), ("max", running_extreme), ("log", running_logsum)):
                if op == "prod" and (form, dtype) != ("rows", "fp32") or op == "log" and dtype in ("i64", "fp64"):
                    continue
                if form == "turned" and k is running_logsum:
                    continue
                wide = 2 if acc[dtype] == tl.float32 else 4
                block = 8192 // max(item[dtype], 8 if op == "max" else 4 * wide if op == "log" else wide)
                bk = 1 if form == "rows" else max(128 // item[dtype], 16)
                sizes = {"KD": 1, "RD": 1, "UNIT": "r" if form == "rows" else "k", "VECTOR": 16 // item[dtype],
                         "LONG": False, "BK": bk, "BR": block // bk, "TOTALS": False, "CARRY": False,
                         "SAME": form != "turned", "ROWS": form != "columns"}
                name = f"{k.name} {op} {form} {dtype}"
                if k is running:
                    yield Case(name, k, {"x": f"*{dtype}", "carry": f"*{dtype}", "out": f"*{dtype}", **numbers},
                               {"OP": op, "ACC": acc[dtype], **sizes}, ("x", "carry", "out"), wide=form != "turned")
                elif k is running_extreme:
                    kind = tl.float32 if dtype == "fp32" else acc[dtype]
                    least = -2**63 if dtype == "i64" else -math.inf
                    yield Case(name, k,
                               {"x": f"*{dtype}", "indices": "*i64", "carry": f"*{dtype}", "carried": "*i64",
                                "out": f"*{dtype}", "places": "*i64", **numbers},
                               {"OP": "max", "ACC": kind, "FILL": least, "INDEXED": False, **sizes},
                               ("x", "indices", "carry", "carried", "out", "places"), wide=form != "turned")
                else:
                    yield Case(name, k,
                               {"x": f"*{dtype}", "sums": f"*{dtype}", "carry": f"*{dtype}", "carried": f"*{dtype}",
                                "out": f"*{dtype}", "outs": f"*{dtype}", **numbers},
                               {"ACC": acc[dtype], "SUMMED": False, **sizes},
                               ("x", "sums", "carry", "carried", "out", "outs"), wide=form != "turned")
