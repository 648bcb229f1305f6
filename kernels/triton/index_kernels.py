"""The kernels behind indexing. One index array tells where the elements of one side lie:

    pick    out[...] = a[... + index * step]
    put     out[... + index * step] = a[...]

with any strides of all three. A number below 0 counts from the end; one outside [-size, size) touches no memory: it
gives 0, or is not written. Where several numbers name one place, ``claim`` finds the last of them with an integer
maximum, and only that one is written: the same inputs give the same bits.

Sums into places go over sorted numbers (``sort_radix``): equal ones stand side by side, each run is added up in order
by one program, and nothing is atomic.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import triton.language as tl

from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.strided import (
    LIMIT,
    OUTER,
    WORDS,
    Dims,
    collapse,
    outer,
    outer_sizes,
    rank,
    row_offset,
    row_tile,
)


@kernel
def indexed(a, index, winner, out, rows: "i64", columns: "i64", blocks: "i64", size: "i64", jump: "i64", a_step,
            i_step: "i64", o_step, n1: "i64", n2: "i64", n3: "i64", n4: "i64", a0: "i64", a1: "i64", a2: "i64",
            a3: "i64", a4: "i64", i0: "i64", i1: "i64", i2: "i64", i3: "i64", i4: "i64", o0: "i64", o1: "i64",
            o2: "i64", o3: "i64", o4: "i64", PUT: tl.constexpr, CHECK: tl.constexpr, SHARED: tl.constexpr,
            RANK: tl.constexpr, UNIT: tl.constexpr, LONG: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """Rows of columns. SHARED: all columns of a row have one number; then columns, ``jump`` and the strides of ``a``
    and ``out`` count in units of UNIT elements. CHECK: write only what ``winner`` names."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    program = tl.program_id(0).to(kind)
    row = program // blocks.to(kind) * BR + tl.arange(0, BR)
    column = program % blocks.to(kind) * BC + tl.arange(0, BC)
    here = row < rows.to(kind)
    mask = here[:, None] & (column < columns.to(kind) * UNIT)[None, :]
    source = row_offset(row, n1, n2, n3, n4, a0, a1, a2, a3, a4, RANK) * UNIT
    target = row_offset(row, n1, n2, n3, n4, o0, o1, o2, o3, o4, RANK) * UNIT
    place = row_offset(row, n1, n2, n3, n4, i0, i1, i2, i3, i4, RANK)
    if SHARED:
        number = tl.load(index + place, mask=here, other=0).to(tl.int64)
        number = tl.where(number < 0, number + size, number)
        good = here & (number >= 0) & (number < size)
        if CHECK:
            good = good & (tl.load(winner + number, mask=good, other=-1) == place)
        move = (tl.where(good, number, 0).to(kind) * jump.to(kind) * UNIT)[:, None]
        known = mask & good[:, None]
    else:
        spot = place[:, None] + (column * i_step.to(kind))[None, :]
        number = tl.load(index + spot, mask=mask, other=0).to(tl.int64)
        number = tl.where(number < 0, number + size, number)
        known = mask & (number >= 0) & (number < size)
        if CHECK:
            known = known & (tl.load(winner + number, mask=known, other=-1) == spot)
        move = tl.where(known, number, 0).to(kind) * jump.to(kind)
    source = source[:, None] + (column * a_step)[None, :]
    target = target[:, None] + (column * o_step)[None, :]
    if PUT:
        x = tl.load(a + source, mask=known, other=0)
        tl.store(out + (target + move), x, mask=known)
    else:
        x = tl.load(a + (source + move), mask=known, other=0)
        tl.store(out + target, x, mask=mask)


@kernel
def linear(index, out, winner, rows: "i64", columns: "i64", blocks: "i64", size: "i64", jump: "i64", i_step: "i64",
           b_step: "i64", o_step: "i64", n1: "i64", n2: "i64", n3: "i64", n4: "i64", i0: "i64", i1: "i64", i2: "i64",
           i3: "i64", i4: "i64", b0: "i64", b1: "i64", b2: "i64", b3: "i64", b4: "i64", o0: "i64", o1: "i64",
           o2: "i64", o3: "i64", o4: "i64", ADD: tl.constexpr, CLAIM: tl.constexpr, RANK: tl.constexpr,
           BR: tl.constexpr, BC: tl.constexpr):
    """out = base + index * jump, where the base is a number's own position by the strides b; -1 for numbers outside.
    ADD: to what stands in ``out``. CLAIM: the last number of each place in ``winner`` (``out`` is dense)."""
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks * BR + tl.arange(0, BR)
    column = program % blocks * BC + tl.arange(0, BC)
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    spot = row_offset(row, n1, n2, n3, n4, i0, i1, i2, i3, i4, RANK)[:, None] + (column * i_step)[None, :]
    base = row_offset(row, n1, n2, n3, n4, b0, b1, b2, b3, b4, RANK)[:, None] + (column * b_step)[None, :]
    place = row_offset(row, n1, n2, n3, n4, o0, o1, o2, o3, o4, RANK)[:, None] + (column * o_step)[None, :]
    number = tl.load(index + spot, mask=mask, other=0).to(tl.int64)
    number = tl.where(number < 0, number + size, number)
    good = mask & (number >= 0) & (number < size)
    r = base + number * jump
    if ADD:
        before = tl.load(out + place, mask=mask, other=-1)
        good = good & (before >= 0)
        r += before
    tl.store(out + place, tl.where(good, r, -1), mask=mask)
    if CLAIM:
        tl.atomic_max(winner + tl.where(good, r, 0), place, mask=good, sem="relaxed")


@kernel
def keys_kernel(ids, out, n: "i64", skip: "i64", beyond: "i64", BLOCK: tl.constexpr):
    """Numbers as keys for sorting: those below 0, and the one that is skipped, come last."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    number = tl.load(ids + i, mask=i < n, other=0).to(tl.int64)
    good = (number >= 0) & (number < beyond) & (number != skip)
    tl.store(out + i, tl.where(good, number, beyond), mask=i < n)


@kernel
def segments(src, keys, order, out, count: "i64", targets: "i64", columns: "i64", blocks: "i64", inner: "i64",
             steps: "i64", OP: tl.constexpr, INCLUDE: tl.constexpr, HEADS: tl.constexpr, BT: tl.constexpr,
             BS: tl.constexpr, BC: tl.constexpr):
    """Runs of equal keys reduced into ``out``: out[o, key, i] op= src[o, position, i]; both are dense, (outer, targets,
    inner) and (outer, count, inner), and a column is an (o, i). HEADS: programs own positions, and work on the runs
    that begin there; else they own targets, and look for the run of each. BS sources of a run are taken at a time (sums
    only). ``steps``: of the search, enough for ``count``."""
    program = tl.program_id(0).to(tl.int64)
    lane = program // blocks * BT + tl.arange(0, BT)
    column = program % blocks * BC + tl.arange(0, BC)
    if HEADS:
        inside = lane < count
        target = tl.load(keys + lane, mask=inside, other=0)
        before = tl.load(keys + lane - 1, mask=inside & (lane > 0), other=-1)
        start = lane
        active = inside & (target != before) & (target < targets)
        wanted = target
    else:
        target = lane
        active = lane < targets
        start = tl.zeros((BT,), tl.int64)
        high = tl.zeros((BT,), tl.int64) + count
        for _ in range(0, steps):  # the first position whose key is not smaller
            middle = (start + high) // 2
            less = tl.load(keys + middle, mask=active & (start < high), other=0) < target
            open = start < high
            start, high = tl.where(open & less, middle + 1, start), tl.where(open & (less == 0), middle, high)
        wanted = target
    end = start
    high = tl.zeros((BT,), tl.int64) + count
    for _ in range(0, steps):  # the first position whose key is larger
        middle = (end + high) // 2
        open = end < high
        more = tl.load(keys + middle, mask=active & open, other=0) > wanted
        end, high = tl.where(open & (more == 0), middle + 1, end), tl.where(open & more, middle, high)
    active = active & (end > start)
    element: tl.constexpr = out.dtype.element_ty
    work: tl.constexpr = tl.float32 if element.primitive_bitwidth == 16 and element.is_floating() else (
        tl.int32 if element.primitive_bitwidth < 32 else element)
    base = column // inner * inner
    rest = column % inner
    put = (base * targets + rest)[None, :] + (target * inner)[:, None]
    mask = active[:, None] & (column < columns)[None, :]
    length = tl.where(active, end - start, 0)
    if INCLUDE:
        acc = tl.load(out + put, mask=mask, other=0).to(work)
    else:
        acc = tl.zeros((BT, BC), work)
    k = tl.zeros((), tl.int64)
    longest = tl.max(length, 0)
    while k < longest:
        if BS == 1:
            now = k < length
            p = tl.load(order + start + k, mask=now & active, other=0)
            get = (base * count + rest)[None, :] + (p * inner)[:, None]
            x = tl.load(src + get, mask=mask & now[:, None], other=0).to(work)
            if OP == "sum" or OP == "mean":
                r = acc + x
            elif OP == "prod":
                r = acc * x
            elif OP == "amax":
                r = tl.where((x > acc) | (x != x) | (acc != acc), tl.where(acc != acc, acc, x), acc)
            else:
                r = tl.where((x < acc) | (x != x) | (acc != acc), tl.where(acc != acc, acc, x), acc)
            if not INCLUDE:
                r = tl.where(k == 0, x, r)
            acc = tl.where(now[:, None], r, acc)
        else:
            s = k + tl.arange(0, BS)
            now = s[None, :] < length[:, None]
            p = tl.load(order + start[:, None] + s[None, :], mask=now & active[:, None], other=0)
            get = (base * count + rest)[None, None, :] + (p * inner)[:, :, None]
            x = tl.load(src + get, mask=mask[:, None, :] & now[:, :, None], other=0).to(work)
            acc += tl.sum(x, 1).to(work)
        k += BS
    if OP == "mean":
        number = tl.where(active, length + (1 if INCLUDE else 0), 1)
        if element.is_floating():
            if work == tl.float64:
                acc = acc / number.to(tl.float64)[:, None]
            else:
                acc = tl.div_rn(acc, tl.broadcast_to(number.to(tl.float32)[:, None], (BT, BC)))
        else:
            whole = acc.to(element).to(tl.int64)
            quotient = whole // number[:, None]
            acc = tl.where((whole < 0) & (quotient * number[:, None] != whole), quotient - 1, quotient)
    if element == tl.int1:
        tl.store(out + put, acc != 0, mask=mask)
    else:
        tl.store(out + put, acc.to(element), mask=mask)


@kernel
def outside(index, position, n: "i64", low: "i64", high: "i64", BLOCK: tl.constexpr):
    """The least position of a number that is not in [low, high)."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    number = tl.load(index + i, mask=i < n, other=0).to(tl.int64)
    bad = (i < n) & ((number < low) | (number >= high))
    first = tl.min(tl.where(bad, i, n), 0)
    if first < n:
        tl.atomic_min(position, first, sem="relaxed")


@kernel
def count_true(mask, counts, n: "i64", BLOCK: tl.constexpr):
    """How many elements of each block are not zero."""
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    yes = (tl.load(mask + i, mask=i < n, other=0) != 0) & (i < n)
    tl.store(counts + block, tl.sum(yes.to(tl.int32), 0).to(tl.int64))


@kernel
def true_places(mask, starts, out, n: "i64", BLOCK: tl.constexpr):
    """The positions of the elements that are not zero, in order."""
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    yes = (tl.load(mask + i, mask=i < n, other=0) != 0) & (i < n)
    rank = tl.cumsum(yes.to(tl.int32), 0) - 1
    tl.store(out + tl.load(starts + block) + rank.to(tl.int64), i, mask=yes)


@kernel
def coordinate(places, out, n: "i64", step: "i64", size: "i64", BLOCK: tl.constexpr):
    """One coordinate of flat positions."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(places + i, mask=i < n, other=0) // step % size, mask=i < n)


@kernel
def one_hot_kernel(index, out, rows: "i64", columns: "i64", blocks: "i64", BR: tl.constexpr, BC: tl.constexpr):
    """out[row, index[row]] = 1, else 0."""
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks * BR + tl.arange(0, BR)
    column = program % blocks * BC + tl.arange(0, BC)
    number = tl.load(index + row, mask=row < rows, other=0).to(tl.int64)
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    tl.store(out + row[:, None] * columns + column[None, :], (number[:, None] == column[None, :]).to(tl.int64),
             mask=mask)


@kernel
def fill_masked(mask, value, bits: "i64", out, rows: "i64", columns: "i64", blocks: "i64", m_step: "i64", o_step,
                n1: "i64", n2: "i64", n3: "i64", n4: "i64", m0: "i64", m1: "i64", m2: "i64", m3: "i64", m4: "i64",
                o0: "i64", o1: "i64", o2: "i64", o3: "i64", o4: "i64", GIVEN: tl.constexpr, RANK: tl.constexpr,
                LONG: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """``bits`` (GIVEN), or the one element of ``value``, where the mask is not 0."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    program = tl.program_id(0).to(kind)
    row = program // blocks.to(kind) * BR + tl.arange(0, BR)
    column = program % blocks.to(kind) * BC + tl.arange(0, BC)
    inside = (row < rows.to(kind))[:, None] & (column < columns.to(kind))[None, :]
    source = row_offset(row, n1, n2, n3, n4, m0, m1, m2, m3, m4, RANK)[:, None] + (column * m_step.to(kind))[None, :]
    target = row_offset(row, n1, n2, n3, n4, o0, o1, o2, o3, o4, RANK)[:, None] + (column * o_step)[None, :]
    yes = inside & (tl.load(mask + source, mask=inside, other=0) != 0)
    element: tl.constexpr = out.dtype.element_ty
    if GIVEN:
        x = bits.to(element)
    else:
        x = tl.load(value)
    tl.store(out + target, tl.zeros((BR, BC), element) + x, mask=yes)


# --- launches ---

# What to launch for these shapes, strides and alignments: (variant, programs, byte offsets of a, the index and out,
# bytes of a word, arguments) for each launch.
plans: dict[Any, list[tuple[Any, ...]]] = {}
MOST = 4096  # plans that are kept


def run_indexed(a: DeviceArray, index: DeviceArray, out: DeviceArray, shape: Any, a_steps: Any, i_steps: Any,
                o_steps: Any, size: int, jump: int, put: bool, winner: DeviceArray | None = None) -> None:
    """``pick`` or ``put`` over ``shape``. Steps of ``a`` and ``out`` are in bytes, those of the index in its elements.
    ``jump``: the step, in bytes, of the side that is indexed."""
    key = (tuple(shape), tuple(a_steps), tuple(i_steps), tuple(o_steps), size, jump, out.dtype.itemsize, put,
           winner is None, (out.ptr | a.ptr) & 15, index.dtype.itemsize)
    plan = plans.get(key)
    if plan is None:
        if len(plans) >= MOST:
            plans.clear()
        plan = plans[key] = _plan(*key)
    for variant, programs, at_a, at_index, at_out, word, arguments in plan:
        kind = WORDS[word]
        x = DeviceArray(a.owner, a.ptr + at_a, ONE, kind)
        i = DeviceArray(index.owner, index.ptr + at_index, ONE, index.dtype)
        y = DeviceArray(out.owner, out.ptr + at_out, ONE, kind)
        variant(programs, 1, 1, x, i, i if winner is None else winner, y, *arguments)


ONE = (1,)


def _plan(shape: Any, a_steps: Any, i_steps: Any, o_steps: Any, size: int, jump: int, item: int, put: bool,
          free: bool, address: int, i_item: int) -> list[tuple[Any, ...]]:
    both = collapse(shape, o_steps, a_steps, i_steps)
    run = item
    if both and both[-1][1] == both[-1][2] == item and both[-1][3] == 0:
        run *= both[-1][0]
        both = both[:-1]
    bits = run | address | 8 | jump
    for _, s, t, _ in both:
        bits |= s | t
    word = bits & -bits
    dims: Dims = [(n, s // word, t // word, i) for n, s, t, i in both]
    jump //= word
    if run > word:
        dims.append((run // word, 1, 1, 0))
    reach = [sum([(d[0] - 1) * abs(d[k]) for d in dims]) for k in (1, 2, 3)]
    wide = max(reach) + size * abs(jump) >= LIMIT or math.prod([d[0] for d in dims]) >= LIMIT
    plan: list[tuple[Any, ...]] = []
    _add(plan, dims, size, jump, put, not free, wide, word, i_item, 0, 0, 0)
    return plan


def _add(plan: list[tuple[Any, ...]], dims: Dims, size: int, jump: int, put: bool, check: bool, wide: bool, word: int,
         i_item: int, at_a: int, at_index: int, at_out: int) -> None:
    if len(dims) > OUTER + 1:
        if check:
            raise NoKernel("writing by index over more than six dimensions")
        n, s, t, i = dims[0]
        for k in range(n):
            _add(plan, dims[1:], size, jump, put, check, wide, word, i_item, at_a + k * t * word,
                 at_index + k * i * i_item, at_out + k * s * word)
        return
    columns, o_step, a_step, i_step = dims[-1] if dims else (1, 1, 1, 1)
    over = dims[:-1]
    shared, unit = i_step == 0 and columns > 1, 1
    if shared and o_step == a_step == 1:
        for unit in (16, 2, 1):
            if unit == 1 or (unit == 16 or word == 8) and columns % unit == jump % unit == 0 and all(
                    [d[1] % unit == d[2] % unit == 0 for d in over]):
                break
    rows = math.prod([d[0] for d in over])
    high, width = row_tile(rows, columns)
    blocks = -(-columns // width)
    variant = indexed.bind(PUT=put, CHECK=check, SHARED=shared, RANK=rank(over), UNIT=unit, LONG=wide, BR=high,
                           BC=width)
    plan.append((variant, -(-rows // high) * blocks, at_a, at_index, at_out, word, (
        rows, columns // unit, blocks, size, jump // unit, a_step, i_step, o_step, *outer_sizes(over),
        *[s // unit for s in outer(over, 2)], *outer(over, 3), *[s // unit for s in outer(over, 1)])))


def run_linear(index: DeviceArray, out: DeviceArray, shape: Any, i_steps: Any, b_steps: Any, o_steps: Any, size: int,
               jump: int, add: bool = False, winner: DeviceArray | None = None) -> None:
    """``linear`` over ``shape``; all steps in elements."""
    _run_linear(index, out, collapse(shape, o_steps, i_steps, b_steps), size, jump, add, winner)


def _run_linear(index: DeviceArray, out: DeviceArray, dims: Dims, size: int, jump: int, add: bool,
                winner: DeviceArray | None) -> None:
    if len(dims) > OUTER + 1:
        raise NoKernel("an index array of more than six dimensions")
    columns, o_step, i_step, b_step = dims[-1] if dims else (1, 1, 1, 0)
    over = dims[:-1]
    rows = 1
    for d in over:
        rows *= d[0]
    high, width = row_tile(rows, columns)
    blocks = -(-columns // width)
    linear.bind(ADD=add, CLAIM=winner is not None, RANK=rank(over), BR=high, BC=width)(
        -(-rows // high) * blocks, 1, 1, index, out, out if winner is None else winner, rows, columns, blocks, size,
        jump, i_step, b_step, o_step, *outer_sizes(over), *outer(over, 2), *outer(over, 3), *outer(over, 1))


def run_fill_masked(out: DeviceArray, mask: DeviceArray, value: DeviceArray | bytes) -> None:
    """A number where the mask (of the same shape, one byte an element) is not 0: the element of an array, or bits."""
    given = isinstance(value, bytes)
    bits = int.from_bytes(value, "little", signed=True) if isinstance(value, bytes) else 0
    for variant, programs, at_out, at_mask, arguments in _masked_plan(out.shape, out.strides, mask.strides,
                                                                      out.dtype.itemsize, given):
        target = DeviceArray(out.owner, out.ptr + at_out, ONE, out.dtype)
        variant(programs, 1, 1, DeviceArray(mask.owner, mask.ptr + at_mask, ONE, mask.dtype),
                target if given else value, bits, target, *arguments)


@lru_cache(MOST)
def _masked_plan(shape: Any, o_steps: Any, m_steps: Any, item: int, given: bool) -> list[tuple[Any, ...]]:
    plan: list[tuple[Any, ...]] = []
    _add_masked(plan, collapse(shape, [s // item for s in o_steps], m_steps), item, given, 0, 0)
    return plan


def _add_masked(plan: list[tuple[Any, ...]], dims: Dims, item: int, given: bool, at_out: int, at_mask: int) -> None:
    if len(dims) > OUTER + 1:
        n, s, t = dims[0]
        for k in range(n):
            _add_masked(plan, dims[1:], item, given, at_out + k * s * item, at_mask + k * t)
        return
    columns, o_step, m_step = dims[-1] if dims else (1, 1, 1)
    over = dims[:-1]
    rows = math.prod([d[0] for d in over])
    reach = max([sum([(d[0] - 1) * abs(d[k]) for d in dims]) for k in (1, 2)] + [rows * columns])
    high, width = row_tile(rows, columns)
    blocks = -(-columns // width)
    variant = fill_masked.bind(GIVEN=given, RANK=rank(over), LONG=reach >= LIMIT, BR=high, BC=width)
    plan.append((variant, -(-rows // high) * blocks, at_out, at_mask, (
        rows, columns, blocks, m_step, o_step, *outer_sizes(over), *outer(over, 2), *outer(over, 1))))


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    names = ["rows", "columns", "blocks", "n1", "n2", "n3", "n4"]
    sides = {side: [f"{side}{d}" for d in range(5)] for side in "aiobm"}
    types = {name: "i64" for name in (*names, "size", "jump", "i_step", *sides["a"], *sides["i"], *sides["o"])}
    for put in (False, True):
        for word, shared, unit, width in (("i64", True, 16, 256), ("i64", True, 2, 64), ("i32", False, 1, 64)):
            yield Case(f"{'put' if put else 'pick'} {word} {'shared' if shared else 'own'} unit {unit}", indexed, {
                "a": f"*{word}", "index": "*i64", "winner": "*i64", "out": f"*{word}", **types},
                {"a_step": 1, "o_step": 1, "PUT": put, "CHECK": put, "SHARED": shared, "RANK": 1, "UNIT": unit,
                 "LONG": False, "BR": 1024 // width, "BC": width}, ("a", "index", "winner", "out"), wide=unit > 1)
    for claim in (False, True):
        yield Case(f"linear{' claim' if claim else ''}", linear, {
            "index": "*i64", "out": "*i64", "winner": "*i64",
            **{name: "i64" for name in (*names, "size", "jump", "i_step", "b_step", "o_step", *sides["i"], *sides["b"],
                                        *sides["o"])}},
            {"ADD": False, "CLAIM": claim, "RANK": 1, "BR": 4, "BC": 256}, ("index", "out", "winner"))
    yield Case("keys", keys_kernel, {"ids": "*i64", "out": "*i64", "n": "i64", "skip": "i64", "beyond": "i64"},
               {"BLOCK": 1024}, ("ids", "out"))
    for dtype, op, heads, shape in (("fp32", "sum", True, (64, 1, 1)), ("fp32", "sum", False, (1, 4, 128)),
                                    ("bf16", "amax", True, (1, 1, 128)), ("bf16", "mean", False, (1, 4, 128)),
                                    ("fp32", "sum", False, (4, 64, 1)), ("fp32", "amax", True, (64, 1, 1)),
                                    ("i64", "prod", True, (64, 1, 1)), ("fp64", "sum", True, (64, 1, 1))):
        yield Case(f"segments {dtype} {op} {shape}", segments, {
            "src": f"*{dtype}", "keys": "*i64", "order": "*i64", "out": f"*{dtype}",
            **{name: "i64" for name in ("count", "targets", "columns", "blocks", "inner", "steps")}},
            {"OP": op, "INCLUDE": True, "HEADS": heads, "BT": shape[0], "BS": shape[1], "BC": shape[2]},
            ("src", "keys", "order", "out"))
    yield Case("outside", outside, {"index": "*i64", "position": "*i64", "n": "i64", "low": "i64", "high": "i64"},
               {"BLOCK": 1024}, ("index", "position"))
    yield Case("count_true", count_true, {"mask": "*u8", "counts": "*i64", "n": "i64"}, {"BLOCK": 4096},
               ("mask", "counts"))
    yield Case("true_places", true_places, {"mask": "*u8", "starts": "*i64", "out": "*i64", "n": "i64"},
               {"BLOCK": 4096}, ("mask", "starts", "out"))
    yield Case("coordinate", coordinate, {"places": "*i64", "out": "*i64", "n": "i64", "step": "i64", "size": "i64"},
               {"BLOCK": 1024}, ("places", "out"))
    yield Case("one_hot", one_hot_kernel, {"index": "*i64", "out": "*i64", "rows": "i64", "columns": "i64",
                                           "blocks": "i64"}, {"BR": 4, "BC": 256}, ("index", "out"))
    yield Case("fill_masked i32", fill_masked, {
        "mask": "*u8", "value": "*i32", "out": "*i32",
        **{name: "i64" for name in ("bits", *names, "m_step", *sides["m"], *sides["o"])}},
        {"o_step": 1, "GIVEN": True, "RANK": 1, "LONG": False, "BR": 1, "BC": 1024}, ("mask", "value", "out"))
