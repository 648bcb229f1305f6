"""Padding: an array with more (or, for negative amounts, fewer) elements at both ends of its dimensions.

Every place of the result knows its origin, one dimension at a time. With p = place - before and n the size:

    constant    p where 0 <= p < n, else the number
    reflect     |p|, and 2 (n - 1) - |p| beyond the end
    replicate   p, at least 0 and at most n - 1
    circular    p mod n (of what a negative amount leaves)

The derivative of the last three gathers as well: each element adds up the places that came from it, first the one that
stays, then the others in order. The same inputs give the same bits.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import triton
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.copy import contiguous, copy_into
from tritium.kernels.triton.memory import empty, full
from tritium.kernels.triton.strided import LIMIT, WORDS, row_tile

Amounts = tuple[tuple[int, int], ...]  # (before, after) of each dimension

MODES = {"constant": 0, "reflect": 1, "replicate": 2, "circular": 3}
DIMS = 5  # that the kernel takes: four of rows, one of columns


@triton.jit
def origin(place, size, before, first, MODE: tl.constexpr):
    """Where a place's element comes from; of the constant kind it may lie outside [0, size). Of the circular kind
    ``size`` counts what is left, from ``first`` on."""
    kind: tl.constexpr = place.dtype
    p = place - before.to(kind)
    if MODE == 1:
        p = tl.where(p < 0, -p, p)
        p = tl.where(p >= size.to(kind), 2 * (size.to(kind) - 1) - p, p)
    elif MODE == 2:
        p = tl.minimum(tl.maximum(p, 0), size.to(kind) - 1)
    elif MODE == 3:
        p = p % size.to(kind)
        p = tl.where(p < 0, p + size.to(kind), p) + first.to(kind)
    return p


@kernel
def pad(x, out, value: "i64", rows: "i64", columns: "i64", blocks: "i64", n1: "i64", n2: "i64", n3: "i64", size0: "i64",
        size1: "i64", size2: "i64", size3: "i64", size4: "i64", before0: "i64", before1: "i64", before2: "i64",
        before3: "i64", before4: "i64", first0: "i64", first1: "i64", first2: "i64", first3: "i64", first4: "i64",
        s0: "i64", s1: "i64", s2: "i64", s3: "i64", s4, MODE: tl.constexpr, UNIT: tl.constexpr, LONG: tl.constexpr,
        BR: tl.constexpr, BC: tl.constexpr):
    """Rows (four dimensions) of columns. UNIT > 0: the columns are not padded; they and the rows' strides count in
    units of it."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    word: tl.constexpr = out.dtype.element_ty
    program = tl.program_id(0).to(kind)
    row = program // blocks.to(kind) * BR + tl.arange(0, BR)
    column = program % blocks.to(kind) * BC + tl.arange(0, BC)
    rest = row
    p3 = origin(rest % n3.to(kind), size3, before3, first3, MODE)
    rest = rest // n3.to(kind)
    p2 = origin(rest % n2.to(kind), size2, before2, first2, MODE)
    rest = rest // n2.to(kind)
    p1 = origin(rest % n1.to(kind), size1, before1, first1, MODE)
    p0 = origin(rest // n1.to(kind), size0, before0, first0, MODE)
    start = p0 * s0.to(kind) + p1 * s1.to(kind) + p2 * s2.to(kind) + p3 * s3.to(kind)
    here = row < rows.to(kind)
    if MODE == 0:
        known = here & (p0 >= 0) & (p0 < size0) & (p1 >= 0) & (p1 < size1) & (p2 >= 0) & (p2 < size2) & (p3 >= 0) & (
            p3 < size3)
    else:
        known = here
    if UNIT > 0:
        width = columns.to(kind) * UNIT
        inside = column < width
        source = (start * UNIT)[:, None] + column[None, :]
        mask = known[:, None] & inside[None, :]
    else:
        width = columns.to(kind)
        inside = column < width
        p4 = origin(column, size4, before4, first4, MODE)
        source = start[:, None] + (p4 * s4)[None, :]
        if MODE == 0:
            mask = known[:, None] & (inside & (p4 >= 0) & (p4 < size4))[None, :]
        else:
            mask = known[:, None] & inside[None, :]
    v = tl.load(x + source, mask=mask, other=0)
    if MODE == 0:
        v = tl.where(mask, v, value.to(word))
    tl.store(out + (row * width)[:, None] + column[None, :], v, mask=here[:, None] & inside[None, :])


@kernel
def fold(g, out, count: "i64", size: "i64", inner: "i64", before: "i64", after: "i64", length: "i64", g_outer: "i64",
         g_dim: "i64", g_inner, turns: "i64", MODE: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr):
    """The derivative along one dimension of (outer, size, inner): out[i] adds up the g[place] that came from i.
    ``length``: of g's dimension; ``turns``: how often a circular dimension goes round at either end, at most."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    low: tl.constexpr = g.dtype.element_ty.primitive_bitwidth == 16
    e = tl.program_id(0).to(kind) * BLOCK + tl.arange(0, BLOCK)
    mask = e < count.to(kind)
    n, wide = size.to(kind), inner.to(kind)
    i = e // wide % n
    base = g + e // (wide * n) * g_outer.to(kind) + e % wide * g_inner
    step, left, right, total = g_dim.to(kind), before.to(kind), after.to(kind), length.to(kind)
    place = i + left
    stays = mask & (place >= 0) & (place < total) & (i < n + tl.minimum(right, 0))
    x = tl.load(base + place * step, mask=stays, other=0)
    if low:
        x = x.to(tl.float32)
    if MODE == 1:
        p = left - i
        v = tl.load(base + p * step, mask=mask & (i > 0) & (p >= 0), other=0)
        x += v.to(x.dtype)
        p = left + 2 * (n - 1) - i
        v = tl.load(base + p * step, mask=mask & (i < n - 1) & (p >= 0) & (p < total), other=0)
        x += v.to(x.dtype)
    elif MODE == 2:
        for k in range(0, tl.maximum(left, 0)):
            v = tl.load(base + k * step, mask=mask & (i == 0), other=0)
            x += v.to(x.dtype)
        for k in range(0, tl.maximum(right, 0)):
            v = tl.load(base + (total - right + k) * step, mask=mask & (i == n - 1), other=0)
            x += v.to(x.dtype)
    else:
        kept = n + tl.minimum(left, 0) + tl.minimum(right, 0)
        stays = mask & (i + tl.minimum(left, 0) >= 0) & (i < n + tl.minimum(right, 0))
        for k in range(0, 2 * turns):
            t = tl.where(k < turns, k - turns, k - turns + 1).to(kind)
            p = place + t * kept
            v = tl.load(base + p * step, mask=stays & (p >= 0) & (p < total), other=0)
            x += v.to(x.dtype)
    tl.store(out + e, x.to(out.dtype.element_ty), mask=mask)


# --- on the host ---

def constant(x: DeviceArray, amounts: Amounts, value: Any) -> DeviceArray:
    """x in an array of `value`; negative amounts cut off."""
    shape = tuple([n + before + after for n, (before, after) in zip(x.shape, amounts, strict=True)])
    dims = _dims(x, shape, amounts)
    cell = np.empty((), x.dtype)
    cell[...] = value
    bits = cell.tobytes()
    if len(dims) <= DIMS and x.size and math.prod(shape) and (len(bits) < 16 or bits[:8] == bits[8:]):
        return _padded(x, shape, dims, "constant", bits)
    out = full(shape, value, x.dtype, x.device)
    source = tuple([slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, amounts, strict=True)])
    target = tuple([slice(max(b, 0), n - max(a, 0)) for n, (b, a) in zip(shape, amounts, strict=True)])
    copy_into(out[target], x[source])
    return out


def gather(x: DeviceArray, mode: str, amounts: Amounts) -> DeviceArray:
    """x padded by its own elements."""
    shape = tuple([n + before + after for n, (before, after) in zip(x.shape, amounts, strict=True)])
    if shape == x.shape and not any(b or a for b, a in amounts):
        return x
    if not math.prod(shape):
        return empty(shape, x.dtype, x.device)
    dims = _dims(x, shape, amounts)
    if len(dims) <= DIMS:
        return _padded(x, shape, dims, mode, bytes(16))
    for d, pair in enumerate(amounts):  # one after the other
        if pair != (0, 0):
            x = contiguous(x)
            x = gather(x, mode, tuple([pair if e == d else (0, 0) for e in range(x.ndim)]))
    return x


def _dims(x: DeviceArray, shape: Any, amounts: Amounts) -> tuple[tuple[int, ...], ...]:
    """(size of the result, size, before, after, stride in bytes) of each dimension; neighbours without padding are one
    where the strides allow it. Complex elements of 16 bytes have a dimension of two words."""
    dims: list[tuple[int, ...]] = []
    given = list(zip(shape, x.shape, amounts, x.strides, strict=True))
    if x.dtype.itemsize == 16:
        given.append((2, 2, (0, 0), 8))
    for m, n, (before, after), s in given:
        if m == n == 1 and not before:
            continue
        if dims and not (before or after or dims[-1][2] or dims[-1][3]) and dims[-1][4] == s * n:
            dims[-1] = (dims[-1][0] * m, dims[-1][1] * n, 0, 0, s)
        else:
            dims.append((m, n, before, after, s))
    return tuple(dims) or ((1, 1, 0, 0, x.dtype.itemsize),)


def _padded(x: DeviceArray, shape: tuple[int, ...], dims: Any, mode: str, bits: bytes) -> DeviceArray:
    out = empty(shape, x.dtype, x.device)
    item = min(x.dtype.itemsize, 8)
    variant, programs, word, arguments = _plan(dims, mode, item, x.ptr & 15)
    number = int.from_bytes(bits[:item] * (word // item), "little", signed=True)
    variant(programs, 1, 1, DeviceArray(x.owner, x.ptr, (1,), WORDS[word]),
            DeviceArray(out.owner, out.ptr, (1,), WORDS[word]), number, *arguments)
    return out


@lru_cache(4096)
def _plan(dims: tuple[tuple[int, ...], ...], mode: str, item: int, address: int) -> tuple[Any, int, int, Any]:
    """What to launch: the variant, how many programs, bytes of a word, arguments."""
    m, n, before, after, s = dims[-1]
    word, unit = item, 0
    if not before and not after and s == item:  # the last dimension is copied as it is, in words as wide as possible
        mixed = m * item | address | 8
        for d in dims[:-1]:
            mixed |= d[4]
        word = mixed & -mixed
        m = n = m * item // word
        s = word
        for unit in (16, 2, 1):
            if unit == 1 or word == 8 and m % unit == 0 and all([d[4] % (8 * unit) == 0 for d in dims[:-1]]):
                break
    rows = math.prod([d[0] for d in dims[:-1]])
    reach = sum([(d[1] - 1) * abs(d[4]) for d in dims[:-1]]) // word + n * s // word
    high, width = row_tile(rows, m)
    blocks = -(-m // width)
    whole = ((1, 1, 0, 0, 0),) * (DIMS - len(dims)) + dims[:-1] + ((m, n, before, after, s),)
    if mode == "circular":
        sizes = [max(d[1] + min(d[2], 0) + min(d[3], 0), 1) for d in whole]
        befores, firsts = [max(d[2], 0) for d in whole], [max(-d[2], 0) for d in whole]
    else:
        sizes, befores, firsts = [d[1] for d in whole], [d[2] for d in whole], [0] * DIMS
    step = max(unit, 1)
    variant = pad.bind(MODE=MODES[mode], UNIT=unit, LONG=reach >= LIMIT or rows * m >= LIMIT, BR=high, BC=width)
    return variant, -(-rows // high) * blocks, word, (
        rows, m // step, blocks, *[d[0] for d in whole[1:-1]], *sizes, *befores, *firsts,
        *[d[4] // word // step for d in whole[:-1]], s // word)


def scatter(g: DeviceArray, mode: str, amounts: Amounts, shape: tuple[int, ...]) -> DeviceArray:
    """The gradient of x (of `shape`) from that of `gather(x)`."""
    dtype = g.dtype
    dims = [d for d in reversed(range(len(amounts))) if any(amounts[d])]
    for d in dims:  # 16-bit types are float32 on the way
        between = np.dtype(np.float32) if dtype.itemsize == 2 and d != dims[-1] else dtype
        g = _fold(g, between, mode, d, *amounts[d], shape[d])
    return g if g.dense else contiguous(g)


def _fold(g: DeviceArray, dtype: Any, mode: str, dim: int, before: int, after: int, size: int) -> DeviceArray:
    out = empty((*g.shape[:dim], size, *g.shape[dim + 1:]), dtype, g.device)
    if not out.size:
        return out
    length = g.shape[dim]
    target = out
    if g.dtype.kind == "c":  # its parts, as a last dimension
        half = np.dtype(np.float32 if g.dtype.itemsize == 8 else np.float64)
        g = g.look(g.ptr, (*g.shape, 2), (*g.strides, half.itemsize), half)
        target = out.look(out.ptr, (*out.shape, 2), (*out.strides, half.itemsize), half)
    inner = math.prod(g.shape[dim + 1:])
    three = g.as_shape((math.prod(g.shape[:dim]), length, inner)) if g.size else g
    if three is None:
        three = contiguous(g).reshape((-1, length, inner))
    steps = [s // g.dtype.itemsize for s in three.strides] if g.size else [0, 0, 0]
    kept = max(size + min(before, 0) + min(after, 0), 1)
    turns = -(-max(before, after, 0) // kept) if mode == "circular" else 0
    block = 16384 if runtime.active().emulated else 1024
    reach = max(target.size, sum([(n - 1) * abs(s) for n, s in zip(three.shape, steps, strict=True)]))
    fold.bind(MODE=MODES[mode], LONG=reach >= LIMIT, BLOCK=block)(
        -(-target.size // block), 1, 1, three, target, target.size, size, inner, before, after, length, steps[0],
        steps[1], steps[2], turns)
    return out


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    numbers = ["value", "rows", "columns", "blocks", "n1", "n2", "n3"] + [
        f"{name}{d}" for name in ("size", "before", "first") for d in range(DIMS)] + [f"s{d}" for d in range(DIMS - 1)]
    for mode in MODES:
        for word, unit, width in (("i32", 0, 64), ("i64", 16, 256)):
            yield Case(f"pad {mode} {word} unit {unit}", pad,
                       {"x": f"*{word}", "out": f"*{word}", **{n: "i64" for n in numbers}},
                       {"s4": 1, "MODE": MODES[mode], "UNIT": unit, "LONG": False, "BR": 1024 // width, "BC": width},
                       ("x", "out"), wide=unit > 1)
    for mode in ("reflect", "replicate", "circular"):
        for dtype in ("fp32", "bf16"):
            yield Case(f"fold {mode} {dtype}", fold, {
                "g": f"*{dtype}", "out": f"*{dtype}", **{n: "i64" for n in (
                    "count", "size", "inner", "before", "after", "length", "g_outer", "g_dim", "turns")}},
                {"g_inner": 1, "MODE": MODES[mode], "LONG": False, "BLOCK": 1024}, ("g", "out"))
