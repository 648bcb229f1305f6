"""Softmax and its relatives along one dimension.

    softmax      y = exp(x - max x) / sum exp(x - max x)        dx = y (g - sum(g y))
    log_softmax  y = x - max x - log sum exp(x - max x)         dx = g - exp(y) sum(g)
    logsumexp    r = max x + log sum exp(x - max x)

A dense array is (outer, n, inner) with the softmax along n; results k = (outer, inner) are computed by one program from
a tile [k, n]: n lies along memory where inner = 1, else k does. Rows that fit a tile are read once; of longer ones the
first pass finds the maximum and the sum together (each place of the tile keeps its own, joined at the end), the second
writes.

float16, bfloat16 and float32 are computed in float32, float64 in float64, and rounded once.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.axes import kept_offset, outer_offset, plan, remembered, tile, wanted_programs
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.reduce import NUMBERS, WORK, moved, result_shape
from tritium.kernels.triton.reduce import _work as work_of
from tritium.kernels.triton.scan import add_powers
from tritium.kernels.triton.strided import LIMIT, convert, packed, power


@triton.jit
def exp_of(v, FAST: tl.constexpr):
    """exp; FAST: good enough for what is rounded to 16 bits."""
    if FAST:
        r = tl.exp(v)
    else:
        r = libdevice.exp(v)
    return r


@triton.jit
def places(nk, n, inner, COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr,
           BR: tl.constexpr):
    """(k, nk, where it starts, r, n, stride of r) of a program's tile."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    k = tl.program_id(0).to(kind) * BK + tl.arange(0, BK)
    if COLUMNS:
        nk = nk.to(kind) * VECTOR
        n = n.to(kind)
        inner = inner.to(kind) * VECTOR
        start = k // inner * (n * inner) + k % inner
    else:
        nk = nk.to(kind)
        n = n.to(kind) * VECTOR
        inner = inner.to(kind)
        start = k * n
    return k, nk, start, tl.arange(0, BR).to(kind), n, inner


@kernel
def forward(x, out, nk: "i64", n: "i64", inner: "i64", LOG: tl.constexpr, ACC: tl.constexpr, FAST: tl.constexpr,
            WHOLE: tl.constexpr, COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr,
            BR: tl.constexpr):
    """softmax, or with LOG its logarithm. WHOLE: a row fits the tile."""
    k, nk, start, r, n, inner = places(nk, n, inner, COLUMNS, VECTOR, LONG, BK, BR)
    if WHOLE:
        offset = start[:, None] + (r * inner if COLUMNS else r)[None, :]
        mask = (k < nk)[:, None] & (r < n)[None, :]
        v = tl.load(x + offset, mask=mask, other=float("-inf")).to(ACC)
        v = v - tl.max(v, 1)[:, None]
        e = exp_of(v, FAST)
        total = tl.sum(e, 1)
        if LOG:
            y = v - libdevice.log(total)[:, None]
        else:
            y = e * (1.0 / total.to(tl.float64)).to(ACC)[:, None]
        tl.store(out + offset, convert(y, out.dtype.element_ty), mask=mask)
    else:
        m = tl.full((BK, BR), float("-inf"), ACC)
        s = tl.zeros((BK, BR), ACC)
        for first in range(0, n, BR):
            place = first + r
            offset = start[:, None] + (place * inner if COLUMNS else place)[None, :]
            mask = (k < nk)[:, None] & (place < n)[None, :]
            v = tl.load(x + offset, mask=mask, other=float("-inf")).to(ACC)
            m, s = add_powers(m, s, v, 1.0)
        top, total = tl.reduce((m, s), 1, add_powers)
        total = tl.where(top == float("inf"), float("nan"), total)
        scale = (1.0 / total.to(tl.float64)).to(ACC)
        logarithm = libdevice.log(total)
        for first in range(0, n, BR):
            place = first + r
            offset = start[:, None] + (place * inner if COLUMNS else place)[None, :]
            mask = (k < nk)[:, None] & (place < n)[None, :]
            v = tl.load(x + offset, mask=mask, other=0).to(ACC) - top[:, None]
            if LOG:
                y = v - logarithm[:, None]
            else:
                y = exp_of(v, FAST) * scale[:, None]
            tl.store(out + offset, convert(y, out.dtype.element_ty), mask=mask)


@triton.jit
def weighed(g, y, LOG: tl.constexpr):
    """What is summed in the derivative."""
    if LOG:
        r = g
    else:
        r = g * y
    return r


@triton.jit
def derived(g, y, total, LOG: tl.constexpr, FAST: tl.constexpr):
    """The gradient of x."""
    if LOG:
        r = g - exp_of(y, FAST) * total
    else:
        r = y * (g - total)
    return r


@kernel
def backward(g, y, out, nk: "i64", n: "i64", inner: "i64", LOG: tl.constexpr, ACC: tl.constexpr, FAST: tl.constexpr,
             WHOLE: tl.constexpr, COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr,
             BR: tl.constexpr):
    """The gradient of x from that of y. WHOLE: a row fits the tile."""
    k, nk, start, r, n, inner = places(nk, n, inner, COLUMNS, VECTOR, LONG, BK, BR)
    if WHOLE:
        offset = start[:, None] + (r * inner if COLUMNS else r)[None, :]
        mask = (k < nk)[:, None] & (r < n)[None, :]
        a = tl.load(g + offset, mask=mask, other=0).to(ACC)
        b = tl.load(y + offset, mask=mask, other=0).to(ACC)
        total = tl.sum(weighed(a, b, LOG), 1)
        tl.store(out + offset, convert(derived(a, b, total[:, None], LOG, FAST), out.dtype.element_ty), mask=mask)
    else:
        s = tl.zeros((BK, BR), ACC)
        for first in range(0, n, BR):
            place = first + r
            offset = start[:, None] + (place * inner if COLUMNS else place)[None, :]
            mask = (k < nk)[:, None] & (place < n)[None, :]
            a = tl.load(g + offset, mask=mask, other=0).to(ACC)
            if LOG:
                s += a
            else:
                s += a * tl.load(y + offset, mask=mask, other=0).to(ACC)
        total = tl.sum(s, 1)
        for first in range(0, n, BR):
            place = first + r
            offset = start[:, None] + (place * inner if COLUMNS else place)[None, :]
            mask = (k < nk)[:, None] & (place < n)[None, :]
            a = tl.load(g + offset, mask=mask, other=0).to(ACC)
            b = tl.load(y + offset, mask=mask, other=0).to(ACC)
            tl.store(out + offset, convert(derived(a, b, total[:, None], LOG, FAST), out.dtype.element_ty), mask=mask)


@kernel
def logsum(x, sums, out, outs, nk: "i64", k0: "i64", sk0: "i64", sk1: "i64", so0: "i64", so1: "i64", nr: "i64",
           r1: "i64", outer: "i64", sr0: "i64", sr1: "i64", sr2: "i64", span: "i64", ACC: tl.constexpr,
           SUMMED: tl.constexpr, PART: tl.constexpr, KD: tl.constexpr, RD: tl.constexpr, UNIT: tl.constexpr,
           VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """The logarithm of a sum of powers, seen as ``axes.py`` says. PART: the largest and the sum over its power for each
    split, as ``out`` and ``outs``; SUMMED: of such ``x`` and ``sums``."""
    k, nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2 = tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT, VECTOR, LONG, BK)
    start = kept_offset(k, k0, sk0, sk1, KD, UNIT == "k")
    r = tl.arange(0, BR).to(k.dtype)
    blocks = tl.cdiv(nr, BR)
    first = tl.program_id(1).to(k.dtype) * span.to(k.dtype)
    last = tl.minimum(first + span.to(k.dtype), blocks * outer.to(k.dtype))
    m = tl.full((BK, BR), float("-inf"), ACC)
    s = tl.zeros((BK, BR), ACC)
    for step in range(first, last):
        if RD == 1:
            place = step * BR + r
            base = start
        else:
            place = step % blocks * BR + r
            base = start + outer_offset(step // blocks, r1, sr1, sr2, RD)
        offset = base[:, None] + (place if UNIT == "r" else place * sr0)[None, :]
        mask = (k < nk)[:, None] & (place < nr)[None, :]
        v = tl.load(x + offset, mask=mask, other=float("-inf")).to(ACC)
        if SUMMED:
            m, s = add_powers(m, s, v, tl.load(sums + offset, mask=mask, other=0))
        else:
            m, s = add_powers(m, s, v, 1.0)
    top, total = tl.reduce((m, s), 1, add_powers)
    at = tl.program_id(1).to(k.dtype) * nk + kept_offset(k, k0, so0.to(k.dtype), so1.to(k.dtype), KD, False)
    if PART:
        tl.store(out + at, top, mask=k < nk)
        tl.store(outs + at, total, mask=k < nk)
    else:
        tl.store(out + at, convert(top + libdevice.log(total), out.dtype.element_ty), mask=k < nk)


# --- launches ---

def most_elements(wide: int) -> int:
    """The largest tile; ``wide``: bytes of an element in the kernel."""
    return 16384 if runtime.active().emulated else 65536 // wide


class Layout:
    """How a dense array is cut into tiles, and the kernel for them: made once for each shape."""

    __slots__ = ("programs", "sizes", "variant")

    def __init__(self, kernel: Any, log: bool, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any,
                 axis: int) -> None:
        work, itemsize = work_of(dtype), dtype.itemsize
        n, size = shape[axis], 1
        for m in shape:
            size *= m
        nk = size // n
        inner = strides[axis] // itemsize if n > 1 else 1
        whole, bk, br = _tile(nk, n, inner > 1, itemsize, most_elements(work.itemsize))
        vector = max(16 // itemsize, 1)
        if (inner if inner > 1 else n) % vector:
            vector = 1
        elements = bk * br
        warps = 8 if not whole else 1 if elements < 512 else 2 if elements < 1024 else 4
        if elements > 2048 and whole:
            warps = 8 if elements <= 4096 else 16
        self.programs = -(-nk // bk)
        self.sizes = (nk // vector, n, inner // vector) if inner > 1 else (nk, n // vector, 1)
        self.variant = kernel.bind(LOG=log, ACC=WORK[work], FAST=itemsize == 2, WHOLE=whole, COLUMNS=inner > 1,
                                   VECTOR=vector, LONG=size + 65536 >= LIMIT, BK=bk, BR=br, num_warps=warps)


def _tile(nk: int, n: int, columns: bool, itemsize: int, most: int) -> tuple[bool, int, int]:
    """(whether a row fits, results, elements of each)."""
    br, want = power(n), wanted_programs()
    if not columns:
        if br > most:
            return False, 1, most // 4
        bk = min(max(most // 8 // br, 1), power(nk))
        while bk > 1 and bk * want > nk:
            bk //= 2
        return True, bk, br
    line = min(max(128 // itemsize, 16), power(nk))
    if br * line > most:
        if br * 16 > most:
            return False, line, max(most // 4 // line, 1)
        return True, min(16, line), br
    bk = min(max(most // 8 // br, line), power(nk))
    while bk > line and bk * want > nk:
        bk //= 2
    return True, bk, br


def _dense(a: DeviceArray) -> bool:
    return a.dense or packed(a.shape, a.strides, a.dtype.itemsize)


def _contiguous(a: DeviceArray) -> DeviceArray:
    from tritium.kernels.triton.copy import contiguous

    return contiguous(a)


def _like(a: DeviceArray) -> DeviceArray:
    """An array with the shape, dtype and strides of a dense one."""
    out = empty(a.shape, a.dtype, a.owner.device)
    return out if a.dense else out.look(out.ptr, a.shape, a.strides)


def _run(kernel: Any, log: bool, arrays: tuple[DeviceArray, ...], axis: int) -> DeviceArray:
    """The kernel on dense arrays of one layout."""
    like = arrays[-1]
    out = _like(like)
    if like.size:
        layout = remembered((kernel, log, like.shape, like.strides, like.dtype, axis), Layout, kernel, log, like.shape,
                            like.strides, like.dtype, axis % like.ndim)
        layout.variant(layout.programs, 1, 1, *arrays, out, *layout.sizes)
    return out


def _forward(x: DeviceArray, axis: int, log: bool) -> DeviceArray:
    return _run(forward, log, (x if _dense(x) else _contiguous(x),), axis)


def _backward(g: DeviceArray, y: DeviceArray, axis: int, log: bool) -> DeviceArray:
    if not _dense(y):
        y = _contiguous(y)
    if g.strides != y.strides and not (g.dense and y.dense) or g.dtype != y.dtype:
        from tritium.kernels.triton.copy import copy_into

        same = _like(y)
        copy_into(same, g)
        g = same
    return _run(backward, log, (g, y), axis)


def softmax(x: DeviceArray, axis: int) -> DeviceArray:
    """Probabilities along ``axis``, of x's shape and dtype."""
    return _forward(x, axis, False)


def log_softmax(x: DeviceArray, axis: int) -> DeviceArray:
    """Logarithms of the probabilities along ``axis``, of x's shape and dtype."""
    return _forward(x, axis, True)


def softmax_backward(g: DeviceArray, y: DeviceArray, axis: int) -> DeviceArray:
    """The gradient of x from that of y = softmax(x)."""
    return _backward(g, y, axis, False)


def log_softmax_backward(g: DeviceArray, y: DeviceArray, axis: int) -> DeviceArray:
    """The gradient of x from that of y = log_softmax(x)."""
    return _backward(g, y, axis, True)


def logsumexp(x: DeviceArray, axes: tuple[int, ...], keepdims: bool) -> DeviceArray:
    """log of the sum of exp along ``axes``, r = max x + log sum exp(x - max x); -inf for an empty sum."""
    shape = result_shape(x.shape, axes, keepdims)
    work = work_of(x.dtype)
    found = remembered((x.shape, x.strides, x.dtype.itemsize, axes, "logsumexp"), plan, x.shape, x.strides,
                       x.dtype.itemsize, axes, 4 * work.itemsize)
    if found is None:
        return logsumexp(*moved(x, axes), False).reshape(shape)
    out = empty(shape, x.dtype, x.owner.device)
    if found.splits == 1:
        logsum.bind(ACC=WORK[work], SUMMED=False, PART=False, **found.constants)(found.programs, 1, 1, x, x, out, out,
                                                                                 *found.sizes)
        return out
    tops, totals = (empty((found.splits, found.kept), work, x.owner.device) for _ in range(2))
    logsum.bind(ACC=WORK[work], SUMMED=False, PART=True, **found.constants)(found.programs, found.splits, 1, x, x, tops,
                                                                            totals, *found.sizes)
    second = plan(tops.shape, tops.strides, work.itemsize, (0,), 4 * work.itemsize, False)
    assert second is not None
    logsum.bind(ACC=WORK[work], SUMMED=True, PART=False, **second.constants)(second.programs, 1, 1, tops, totals, out,
                                                                             out, *second.sizes)
    return out


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    sizes = {"nk": "i64", "n": "i64", "inner": "i64"}
    item = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}
    forms = {"rows 64": (True, False, 32, 64, 4), "rows 1024": (True, False, 1, 1024, 2),
             "rows 16384": (True, False, 1, 16384, 16), "long rows": (False, False, 1, 4096, 8),
             "columns 16": (True, True, 128, 16, 4), "columns 256": (True, True, 32, 256, 16),
             "long columns": (False, True, 32, 128, 8)}
    for form, (whole, columns, bk, br, warps) in forms.items():
        for dtype in ("fp32", "bf16", "fp64") if form == "rows 1024" else ("fp32", "bf16"):
            for k, log in ((forward, False), (forward, True), (backward, False), (backward, True)):
                if log and (form not in ("rows 1024", "columns 16") or dtype == "fp64"):
                    continue
                names = ("x", "out") if k is forward else ("g", "y", "out")
                yield Case(f"{k.name} {'log ' if log else ''}{form} {dtype}", k,
                           {**{name: f"*{dtype}" for name in names}, **sizes},
                           {"LOG": log, "ACC": tl.float64 if dtype == "fp64" else tl.float32, "FAST": item[dtype] == 2,
                            "WHOLE": whole, "COLUMNS": columns, "VECTOR": 16 // item[dtype], "LONG": False, "BK": bk,
                            "BR": br}, names, warps, wide=True)
    for unit in ("r", "k"):
        for dtype in ("fp32", "bf16"):
            bk = 1 if unit == "r" else 128 // item[dtype]
            yield Case(f"{logsum.name} {unit} {dtype}", logsum,
                       {"x": f"*{dtype}", "sums": f"*{dtype}", "out": f"*{dtype}", "outs": f"*{dtype}", **NUMBERS},
                       {"ACC": tl.float32, "SUMMED": False, "PART": False, "KD": 1, "RD": 1, "UNIT": unit,
                        "VECTOR": 16 // item[dtype], "LONG": False, "BK": bk, "BR": 1024 // bk},
                       ("x", "sums", "out", "outs"), wide=True)
