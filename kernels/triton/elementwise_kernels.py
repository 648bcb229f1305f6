"""The kernels of ``elementwise.py``: an op over flat arrays, and over tiles of rows and columns.

    flat     out[i] = op(x[i], y[i], ...), one block of i per program; whole blocks need no mask
    tiles    offset of row r, column c in an operand: place(r) + c * s0, place() taking r apart into RANK indices

Numbers come as 64 bits: an int64, or the bits of a float64, by the type the op computes in.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.strided import convert

FEW, MANY = 6, 4  # dimensions that the tile kernels of up to 2 inputs, and of more, take


@triton.jit
def same(a):
    """a as it is: the launcher converts it."""
    return a


@triton.jit
def widen(x):
    """The 16-bit floats in float32."""
    kind: tl.constexpr = x.dtype
    if kind == tl.float16 or kind == tl.bfloat16:
        y = x.to(tl.float32)
    else:
        y = x
    return y


@triton.jit
def number(bits, KIND: tl.constexpr):
    """A number from its 64 bits."""
    wide = bits.to(tl.int64)
    if KIND.is_bool():
        y = wide != 0
    elif KIND.is_floating():
        y = wide.to(tl.float64, bitcast=True).to(KIND)
    else:
        y = wide.to(KIND)
    return y


@triton.jit
def with_numbers(args, scalars, KIND: tl.constexpr, SCALARS: tl.constexpr, SHAPE: tl.constexpr):
    """The arguments of an op: its arrays, then its numbers as blocks; or the numbers first, if SCALARS is negative."""
    numbers = ()
    for j in tl.static_range(SCALARS if SCALARS > 0 else -SCALARS):
        numbers = numbers + (tl.broadcast_to(number(scalars[j], KIND), SHAPE),)
    return args + numbers if SCALARS >= 0 else numbers + args


# --- flat ---

@triton.jit
def block(inputs, outputs, scalars, base, left, OP: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
          OUTPUTS: tl.constexpr, SCALARS: tl.constexpr, SPREAD: tl.constexpr, BLOCK: tl.constexpr,
          MASKED: tl.constexpr):
    """One block of flat arrays."""
    i = tl.arange(0, BLOCK)
    args = ()
    for j in tl.static_range(INPUTS):
        if (SPREAD >> j) % 2 == 1:
            args = args + (tl.broadcast_to(widen(tl.load(inputs[j])), (BLOCK,)),)
        elif MASKED:
            args = args + (widen(tl.load(inputs[j] + base + i, mask=i < left, other=0)),)
        else:
            args = args + (widen(tl.load(inputs[j] + base + i)),)
    result = OP(*with_numbers(args, scalars, KIND, SCALARS, (BLOCK,)))
    for j in tl.static_range(OUTPUTS):
        value = convert(result if OUTPUTS == 1 else result[j], outputs[j].dtype.element_ty)
        if MASKED:
            tl.store(outputs[j] + base + i, value, mask=i < left)
        else:
            tl.store(outputs[j] + base + i, value)


@triton.jit
def flat(inputs, outputs, scalars, n, OP: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
         OUTPUTS: tl.constexpr, SCALARS: tl.constexpr, SPREAD: tl.constexpr, BLOCK: tl.constexpr):
    """The program's block: all but the last one are whole."""
    base = tl.program_id(0).to(tl.int64) * BLOCK
    left = n - base
    if left >= BLOCK:
        block(inputs, outputs, scalars, base, left, OP, KIND, INPUTS, OUTPUTS, SCALARS, SPREAD, BLOCK, False)
    else:
        block(inputs, outputs, scalars, base, left, OP, KIND, INPUTS, OUTPUTS, SCALARS, SPREAD, BLOCK, True)


@kernel
def map1(x, out, n: "i64", OP: tl.constexpr, SPREAD: tl.constexpr, BLOCK: tl.constexpr):
    """out = op(x)."""
    flat((x,), (out,), (), n, OP, tl.float32, 1, 1, 0, SPREAD, BLOCK)


@kernel
def map2(x, y, out, n: "i64", OP: tl.constexpr, SPREAD: tl.constexpr, BLOCK: tl.constexpr):
    """out = op(x, y)."""
    flat((x, y), (out,), (), n, OP, tl.float32, 2, 1, 0, SPREAD, BLOCK)


@kernel
def map1s(x, out, n: "i64", a: "i64", b: "i64", c: "i64", d: "i64", OP: tl.constexpr, KIND: tl.constexpr,
          SCALARS: tl.constexpr, SPREAD: tl.constexpr, BLOCK: tl.constexpr):
    """out = op(x, a, ...)."""
    flat((x,), (out,), (a, b, c, d), n, OP, KIND, 1, 1, SCALARS, SPREAD, BLOCK)


@kernel
def map2s(x, y, out, n: "i64", a: "i64", b: "i64", c: "i64", d: "i64", OP: tl.constexpr, KIND: tl.constexpr,
          SCALARS: tl.constexpr, SPREAD: tl.constexpr, BLOCK: tl.constexpr):
    """out = op(x, y, a, ...)."""
    flat((x, y), (out,), (a, b, c, d), n, OP, KIND, 2, 1, SCALARS, SPREAD, BLOCK)


@kernel
def mapn(x0, x1, x2, x3, x4, out0, out1, out2, a: "i64", b: "i64", c: "i64", d: "i64", n: "i64", OP: tl.constexpr,
         KIND: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, SCALARS: tl.constexpr, SPREAD: tl.constexpr,
         BLOCK: tl.constexpr):
    """out0, ... = op(x0, ..., a, ...). What INPUTS and OUTPUTS leave out is not looked at."""
    flat((x0, x1, x2, x3, x4), (out0, out1, out2), (a, b, c, d), n, OP, KIND, INPUTS, OUTPUTS, SCALARS, SPREAD, BLOCK)


# --- tiles ---

@triton.jit
def place(index, sizes, steps, FIRST: tl.constexpr, RANK: tl.constexpr):
    """The offset of a number of rows, in an operand with these strides: dimensions FIRST to RANK, the fastest first."""
    kind: tl.constexpr = index.dtype
    offset = index * 0
    for d in tl.static_range(FIRST, RANK - 1):
        offset += index % sizes[d].to(kind) * steps[d + 1].to(kind)
        index = index // sizes[d].to(kind)
    return offset + index * steps[RANK].to(kind)


@triton.jit
def offsets(row, column, batch, sizes, steps, HOW: tl.constexpr, RANK: tl.constexpr, CROSSED: tl.constexpr,
            STEP: tl.constexpr):
    """Offsets of a tile in an operand: one row or one column where it repeats. HOW: the stride of the columns is 0, 1
    or neither; 3 and 4 are 1 and 2 with one row for all; 5 is 2 where the rows of a CROSSED tile have stride 1."""
    kind: tl.constexpr = row.dtype
    if HOW != 3 and HOW != 4:
        if HOW == 5:
            start = row + (place(batch, sizes, steps, 1, RANK) if RANK > 1 else 0)
        elif CROSSED:
            start = place(row, sizes, steps, 0, 1) + (place(batch, sizes, steps, 1, RANK) if RANK > 1 else 0)
        else:
            start = place(row, sizes, steps, 0, RANK)
        if HOW == 1:
            start = start * STEP
    if HOW == 0:
        at = start[:, None]
    elif HOW == 1:
        at = start[:, None] + column[None, :]
    elif HOW == 2 or HOW == 5:
        at = start[:, None] + (column * steps[0].to(kind))[None, :]
    elif HOW == 3:
        at = column[None, :]
    else:
        at = (column * steps[0].to(kind))[None, :]
    return at


@triton.jit
def fetch(pointers, inside, within, HOW: tl.constexpr):
    """What ``offsets`` leads to: a tile, a row or a column."""
    if HOW == 0:
        x = tl.load(pointers, mask=inside, other=0)
    elif HOW == 3 or HOW == 4:
        x = tl.load(pointers, mask=within, other=0)
    else:
        x = tl.load(pointers, mask=inside & within, other=0)
    return x


@triton.jit
def tile(inputs, outputs, scalars, columns, height, across, down, sizes, steps, OP: tl.constexpr,
         KIND: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, SCALARS: tl.constexpr, FIRST: tl.constexpr,
         RANK: tl.constexpr, CROSSED: tl.constexpr, STEP: tl.constexpr, LAYOUT: tl.constexpr, BR: tl.constexpr,
         BC: tl.constexpr, LONG: tl.constexpr):
    """One tile. ``columns`` is counted in STEPs, and so are the strides of operands that are dense along a row: the
    compiler sees what they are divisible by. The strides and LAYOUT have the outputs before the inputs, which begin at
    FIRST."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    program = tl.program_id(0).to(kind)
    column = program % across.to(kind) * BC + tl.arange(0, BC)
    program = program // across.to(kind)
    batch = program // down.to(kind)
    if CROSSED:
        program = program % down.to(kind)
    row = program * BR + tl.arange(0, BR)
    inside = (row < height.to(kind))[:, None]
    within = (column < columns.to(kind) * STEP)[None, :]
    args = ()
    for j in tl.static_range(INPUTS):
        at = offsets(row, column, batch, sizes, steps[FIRST + j], (LAYOUT >> 3 * (FIRST + j)) % 8, RANK, CROSSED, STEP)
        x = fetch(inputs[j] + at, inside, within, (LAYOUT >> 3 * (FIRST + j)) % 8)
        args = args + (tl.broadcast_to(widen(x), (BR, BC)),)
    result = OP(*with_numbers(args, scalars, KIND, SCALARS, (BR, BC)))
    for j in tl.static_range(OUTPUTS):
        at = offsets(row, column, batch, sizes, steps[j], (LAYOUT >> 3 * j) % 8, RANK, CROSSED, STEP)
        value = convert(result if OUTPUTS == 1 else result[j], outputs[j].dtype.element_ty)
        tl.store(outputs[j] + tl.broadcast_to(at, (BR, BC)), value, mask=inside & within)


@kernel
def tiles2(x, y, out, a: "i64", b: "i64", c: "i64", d: "i64", columns: "i64", height: "i64", across: "i64",
           down: "i64", n0: "i64", n1: "i64", n2: "i64", n3: "i64",
           o0: "i64", o1: "i64", o2: "i64", o3: "i64", o4: "i64", o5: "i64",
           s0: "i64", s1: "i64", s2: "i64", s3: "i64", s4: "i64", s5: "i64",
           t0: "i64", t1: "i64", t2: "i64", t3: "i64", t4: "i64", t5: "i64",
           OP: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr, SCALARS: tl.constexpr, RANK: tl.constexpr,
           CROSSED: tl.constexpr, STEP: tl.constexpr, LAYOUT: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
           LONG: tl.constexpr):
    """out = op(x, y, a, ...) in up to 6 dimensions; y is not looked at if INPUTS is 1."""
    steps = ((o0, o1, o2, o3, o4, o5), (s0, s1, s2, s3, s4, s5), (t0, t1, t2, t3, t4, t5))
    tile((x, y), (out,), (a, b, c, d), columns, height, across, down, (n0, n1, n2, n3), steps, OP, KIND, INPUTS, 1,
         SCALARS, 1, RANK, CROSSED, STEP, LAYOUT, BR, BC, LONG)


@kernel
def tilesn(x0, x1, x2, x3, x4, out0, out1, out2, a: "i64", b: "i64", c: "i64", d: "i64", columns: "i64",
           height: "i64", across: "i64", down: "i64", n0: "i64", n1: "i64",
           o0: "i64", o1: "i64", o2: "i64", o3: "i64", p0: "i64", p1: "i64", p2: "i64", p3: "i64",
           q0: "i64", q1: "i64", q2: "i64", q3: "i64", r0: "i64", r1: "i64", r2: "i64", r3: "i64",
           s0: "i64", s1: "i64", s2: "i64", s3: "i64", t0: "i64", t1: "i64", t2: "i64", t3: "i64",
           u0: "i64", u1: "i64", u2: "i64", u3: "i64", v0: "i64", v1: "i64", v2: "i64", v3: "i64",
           OP: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, SCALARS: tl.constexpr,
           RANK: tl.constexpr, CROSSED: tl.constexpr, STEP: tl.constexpr, LAYOUT: tl.constexpr, BR: tl.constexpr,
           BC: tl.constexpr, LONG: tl.constexpr):
    """out0, ... = op(x0, ..., a, ...) in up to 4 dimensions."""
    steps = ((o0, o1, o2, o3), (p0, p1, p2, p3), (q0, q1, q2, q3), (r0, r1, r2, r3), (s0, s1, s2, s3), (t0, t1, t2, t3),
             (u0, u1, u2, u3), (v0, v1, v2, v3))
    tile((x0, x1, x2, x3, x4), (out0, out1, out2), (a, b, c, d), columns, height, across, down, (n0, n1), steps, OP,
         KIND, INPUTS, OUTPUTS, SCALARS, 3, RANK, CROSSED, STEP, LAYOUT, BR, BC, LONG)
