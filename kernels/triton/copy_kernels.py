"""The kernels behind copies: out[i0, i1, ...] = a[i0, i1, ...] for any strides of both.

Elements of one dtype are moved as integers of their size, never as numbers: the bits stay, also those of a nan. Three
ways:

    flat    both dense in one order, another dtype: a vector
    rows    the innermost dimension of ``out`` becomes columns, the others rows
    tiles   ``out`` is dense along one dimension, ``a`` along another: a tile is read along the one and written along
            the other, and the compiler turns it in shared memory, so that both sides use whole cache lines
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.strided import (
    OUTER,
    WORDS,
    Dims,
    collapse,
    convert,
    long,
    outer,
    outer_sizes,
    power,
    rank,
    row_offset,
    row_tile,
    words,
)

UNIT = 16  # elements: where all sizes and strides are multiples of it, every access can be 128 bits wide
TILE_OUTER = 3  # dimensions beside the two of a tile


@kernel
def flat(a, out, n: "i64", BLOCK: tl.constexpr):
    """A dense array in another dtype."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        tl.store(out + i, convert(tl.load(a + i), out.dtype.element_ty))
    else:
        tl.store(out + i, convert(tl.load(a + i, mask=i < n, other=0), out.dtype.element_ty), mask=i < n)


@kernel
def rows_kernel(a, out, rows: "i64", columns: "i64", blocks: "i64", a_step, out_step, n1: "i64", n2: "i64", n3: "i64",
                n4: "i64", a0: "i64", a1: "i64", a2: "i64", a3: "i64", a4: "i64", o0: "i64", o1: "i64", o2: "i64",
                o3: "i64", o4: "i64", RANK: tl.constexpr, UNIT: tl.constexpr, LONG: tl.constexpr, BR: tl.constexpr,
                BC: tl.constexpr):
    """Rows of columns. ``columns`` and the rows' strides count in units of UNIT elements; then the steps are 1."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    program = tl.program_id(0).to(kind)
    row = program // blocks.to(kind) * BR + tl.arange(0, BR)
    column = program % blocks.to(kind) * BC + tl.arange(0, BC)
    source = row_offset(row, n1, n2, n3, n4, a0, a1, a2, a3, a4, RANK) * UNIT
    target = row_offset(row, n1, n2, n3, n4, o0, o1, o2, o3, o4, RANK) * UNIT
    mask = (row < rows.to(kind))[:, None] & (column < columns.to(kind) * UNIT)[None, :]
    x = tl.load(a + (source[:, None] + (column * a_step)[None, :]), mask=mask, other=0)
    tl.store(out + (target[:, None] + (column * out_step)[None, :]), convert(x, out.dtype.element_ty), mask=mask)


@kernel
def tile_kernel(a, out, m: "i64", n: "i64", m_blocks: "i64", n_blocks: "i64", a_m, a_n: "i64", out_m: "i64", out_n,
                n2: "i64", n3: "i64", a1: "i64", a2: "i64", a3: "i64", o1: "i64", o2: "i64", o3: "i64",
                RANK: tl.constexpr, UNIT: tl.constexpr, LONG: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Tiles (m, n): ``a`` is dense along m, ``out`` along n. Sizes and the strides a_n, out_m, a1..., o1... count in
    units of UNIT elements."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    program = tl.program_id(0).to(kind)
    i = program // n_blocks.to(kind) % m_blocks.to(kind) * BM + tl.arange(0, BM)
    j = program % n_blocks.to(kind) * BN + tl.arange(0, BN)
    batch = program // (n_blocks.to(kind) * m_blocks.to(kind))
    source = row_offset(batch, n2, n2, n2, n3, a1, a1, a1, a2, a3, RANK)
    target = row_offset(batch, n2, n2, n2, n3, o1, o1, o1, o2, o3, RANK)
    mask = (i < m.to(kind) * UNIT)[:, None] & (j < n.to(kind) * UNIT)[None, :]
    x = tl.load(a + source * UNIT + ((i * a_m)[:, None] + (j * (a_n.to(kind) * UNIT))[None, :]), mask=mask, other=0)
    tl.store(out + target * UNIT + ((i * (out_m.to(kind) * UNIT))[:, None] + (j * out_n)[None, :]),
             convert(x, out.dtype.element_ty), mask=mask)


# --- choosing ---

# What to launch for these shapes, strides, alignments and dtypes: (variant, programs, offset of a, its dtype, offset of
# out, its dtype, arguments) for each launch, the offsets in bytes.
Plan = list[tuple[Any, int, int, Any, int, Any, tuple[int, ...]]]
plans: dict[Any, Plan] = {}
MOST = 4096  # plans that are kept


def move(out: DeviceArray, a: DeviceArray) -> None:
    """The elements of ``a`` in those of ``out``: same shape, not empty, no overlap. Dtypes may differ, none is complex
    then."""
    key = (out.shape, out.strides, a.strides, out.dtype, a.dtype, (out.ptr & 15) << 4 | a.ptr & 15)
    plan = plans.get(key)
    if plan is None:
        if len(plans) >= MOST:
            plans.clear()
        plan = plans[key] = _plan(out, a)
    for variant, programs, source, a_kind, target, out_kind, arguments in plan:
        variant(programs, 1, 1, DeviceArray(a.owner, a.ptr + source, ONE, a_kind),
                DeviceArray(out.owner, out.ptr + target, ONE, out_kind), *arguments)


ONE = (1,)


def _plan(out: DeviceArray, a: DeviceArray) -> Plan:
    size, item = out.dtype.itemsize, a.dtype.itemsize
    plan: Plan = []
    if out.dtype != a.dtype:
        dims = collapse(out.shape, [_whole(s, size) for s in out.strides], [_whole(s, item) for s in a.strides])
        _add(plan, a.dtype, out.dtype, dims, 0, 0)
        return plan
    dims, word = words(collapse(out.shape, out.strides, a.strides), size, out.ptr | a.ptr)
    _add(plan, WORDS[word], WORDS[word], dims, 0, 0)
    return plan


def _whole(step: int, size: int) -> int:
    if step % size:
        raise NoKernel("conversion of elements whose distances are no multiples of their size")
    return step // size


def _add(plan: Plan, a: Any, out: Any, dims: Dims, source: int, target: int) -> None:
    """The launches for these dimensions: (size, stride of out, stride of a), in elements. a, out: the dtypes."""
    if not dims:
        dims = [(1, 1, 1)]
    columns, out_step, a_step = dims[-1]
    if len(dims) == 1 and out_step == a_step == 1:
        block = 16384 if runtime.active().emulated else 2048 if 1 in (a.itemsize, out.itemsize) else 1024
        plan.append((flat.bind(BLOCK=block), -(-columns // block), source, a, target, out, (columns,)))
        return
    if a_step != 1:
        near = _nearest(dims)
        if near is not None and len(dims) <= TILE_OUTER + 2:
            variant, programs, arguments = _tiles(a, dims, near)
            plan.append((variant, programs, source, a, target, out, arguments))
            return
    if len(dims) > OUTER + 1:
        n, s, t = dims[0]
        for i in range(n):
            _add(plan, a, out, dims[1:], source + i * t * a.itemsize, target + i * s * out.itemsize)
        return
    variant, programs, arguments = _rows(a, out, dims)
    plan.append((variant, programs, source, a, target, out, arguments))


def _nearest(dims: Dims) -> int | None:
    """The dimension along which ``a`` is dense, where it is not the one along which ``out`` is nearly dense."""
    step = abs(dims[-1][2])
    if abs(dims[-1][1]) > 8 or step == 0:
        return None
    for d, (_, _, t) in enumerate(dims[:-1]):
        if 0 < abs(t) <= 8 and abs(t) < step:
            return d
    return None


def _rows(a: Any, out: Any, dims: Dims) -> tuple[Any, int, tuple[int, ...]]:
    wide = long(dims)
    columns, out_step, a_step = dims[-1]
    over = dims[:-1]
    unit = 1
    if out_step == a_step == 1:
        for unit in (UNIT, 2, 1) if a.itemsize == out.itemsize == 8 else (UNIT, 1):
            if columns % unit == 0 and all([s % unit == t % unit == 0 for _, s, t in over]):
                break
        over = [(n, s // unit, t // unit) for n, s, t in over]
    rows = 1
    for n, _, _ in over:
        rows *= n
    high, width = row_tile(rows, columns)
    blocks = -(-columns // width)
    variant = rows_kernel.bind(RANK=rank(over), UNIT=unit, LONG=wide, BR=high, BC=width)
    return variant, -(-rows // high) * blocks, (rows, columns // unit, blocks, a_step, out_step, *outer_sizes(over),
                                                *outer(over, 2), *outer(over, 1))


def tile_shape(m: int, n: int) -> tuple[int, int]:
    """Sizes of a tile: 64 by 64, or longer where the other side is short."""
    if runtime.active().emulated:
        high = min(power(m), 128)
        return high, min(power(n), 16384 // high)
    if n <= 16:
        return (512, 4) if n <= 4 else (256, 16)
    if m <= 16:
        return (4, 512) if m <= 4 else (16, 256)
    return 64, 64


def _tiles(a: Any, dims: Dims, near: int) -> tuple[Any, int, tuple[int, ...]]:
    wide = long(dims)
    m, out_m, a_m = dims[near]
    n, out_n, a_n = dims[-1]
    rest = [d for i, d in enumerate(dims[:-1]) if i != near]
    unit = 1
    if out_n == a_m == 1 and not (m % UNIT or n % UNIT or out_m % UNIT or a_n % UNIT or any(
            s % UNIT or t % UNIT for _, s, t in rest)):
        unit = UNIT
        rest = [(k, s // UNIT, t // UNIT) for k, s, t in rest]
    count = 1
    for k, _, _ in rest:
        count *= k
    high, width = tile_shape(m, n)
    m_blocks, n_blocks = -(-m // high), -(-n // width)
    fill = TILE_OUTER - len(rest)
    variant = tile_kernel.bind(RANK=1 if len(rest) <= 1 else 3, UNIT=unit, LONG=wide, BM=high, BN=width,
                               num_warps=4 if a.itemsize <= 2 else 8)
    return variant, count * m_blocks * n_blocks, (
        m // unit, n // unit, m_blocks, n_blocks, a_m, a_n // unit, out_m // unit, out_n,
        *([1] * fill + [d[0] for d in rest])[1:], *([0] * fill + [d[2] for d in rest]),
        *([0] * fill + [d[1] for d in rest]))


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    for source, target in (("fp32", "bf16"), ("bf16", "fp32"), ("fp32", "fp16"), ("i64", "fp32"), ("fp32", "i64"),
                           ("u8", "fp32"), ("fp32", "i1")):
        yield Case(f"flat {source} to {target}", flat, {"a": f"*{source}", "out": f"*{target}", "n": "i64"},
                   {"BLOCK": 2048 if {source, target} & {"u8", "i1"} else 1024}, ("a", "out"), wide=True)
    numbers = {name: "i64" for name in ("rows", "columns", "blocks", "n1", "n2", "n3", "n4", "a0", "a1", "a2", "a3",
                                        "a4", "o0", "o1", "o2", "o3", "o4")}
    types = {"a": "", "out": "", **numbers}
    for word, unit, width, depth in (("i64", 16, 256, 1), ("i64", 2, 64, 3), ("i32", 1, 64, 3), ("i16", 1, 16, 3),
                                     ("i8", 1, 4, 5)):
        yield Case(f"rows {word} unit {unit}", rows_kernel, {**types, "a": f"*{word}", "out": f"*{word}"},
                   {"a_step": 1, "out_step": 1, "RANK": depth, "UNIT": unit, "LONG": False, "BR": 1024 // width,
                    "BC": width}, ("a", "out"), wide=unit > 1)
    yield Case("rows i32 strided", rows_kernel,
               {**types, "a": "*i32", "out": "*i32", "a_step": "i32", "out_step": "i32"},
               {"RANK": 5, "UNIT": 1, "LONG": True, "BR": 16, "BC": 64}, ("a", "out"))
    yield Case("rows fp32 to bf16", rows_kernel, {**types, "a": "*fp32", "out": "*bf16"},
               {"a_step": 1, "out_step": 1, "RANK": 1, "UNIT": 16, "LONG": False, "BR": 4, "BC": 256}, ("a", "out"),
               wide=True)
    numbers = {name: "i64" for name in ("m", "n", "m_blocks", "n_blocks", "a_n", "out_m", "n2", "n3", "a1", "a2", "a3",
                                        "o1", "o2", "o3")}
    for word in ("i8", "i16", "i32", "i64"):
        for unit, high, width in ((16, 64, 64), (1, 64, 64), (1, 512, 4))[:3 if word in ("i16", "i32") else 1]:
            yield Case(f"tiles {word} unit {unit} {high}x{width}", tile_kernel,
                       {"a": f"*{word}", "out": f"*{word}", **numbers},
                       {"a_m": 1, "out_n": 1, "RANK": 1, "UNIT": unit, "LONG": False, "BM": high, "BN": width},
                       ("a", "out"), num_warps=4 if word in ("i8", "i16") else 8, wide=unit > 1)
    yield Case("tiles fp32 to bf16", tile_kernel, {"a": "*fp32", "out": "*bf16", **numbers},
               {"a_m": 1, "out_n": 1, "RANK": 1, "UNIT": 16, "LONG": False, "BM": 64, "BN": 64}, ("a", "out"),
               num_warps=8, wide=True)
