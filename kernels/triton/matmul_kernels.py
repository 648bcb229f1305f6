"""The kernels under every product of matrices.

A product out[m, n] = sum over k of a[m, k] b[k, n] is cut into tiles of BM x BN, one program each:

    acc = 0                                      float32 (float64 for float64, int32 or int64 for integers)
    for every block of BK:  acc += a[rows, block] @ b[block, columns]
    out[rows, columns] = act(alpha * acc + beta * c[rows, columns])      rounded once

Programs go down GROUP rows of tiles before they take the next column, so that what runs at one time shares its rows
and columns in the L2 cache. Where the tiles are too few to fill the device, K is split: each part writes its sums to a
workspace, and ``combine`` adds them in order. Nothing is added atomically: the same inputs give the same bits.

Sizes and leading dimensions are counted in units (UA, UB, UK, UM, UN elements: a 128-bit vector, or 1), so that the
compiler knows their divisor. Addresses of tiles are 64-bit; inside a tile they are 32-bit unless WIDE.
"""
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.runtime.launch import kernel

# --- activations of the epilogue -----------------------------------------------------------------

@triton.jit
def none(x):
    return x


@triton.jit
def relu(x):
    return tl.where(x < 0, 0.0, x)


@triton.jit
def gelu(x):
    return 0.5 * x * (1.0 + libdevice.erf(x * 0.7071067811865476))


@triton.jit
def gelu_tanh(x):
    return 0.5 * x * (1.0 + libdevice.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + libdevice.exp(-x))


@triton.jit
def silu(x):
    return x / (1.0 + libdevice.exp(-x))


@triton.jit
def tanh(x):
    return libdevice.tanh(x)


# --- parts of the tiled product ------------------------------------------------------------------

@triton.jit
def read(pointers, row, rows, column, columns, ROWS_FIT: tl.constexpr, COLUMNS_FIT: tl.constexpr):
    """A tile with indices ``row`` and ``column``; zero outside ``rows`` x ``columns``, where it does not fit."""
    if ROWS_FIT and COLUMNS_FIT:
        x = tl.load(pointers)
    elif ROWS_FIT:
        x = tl.load(pointers, mask=column < columns, other=0)
    elif COLUMNS_FIT:
        x = tl.load(pointers, mask=row < rows, other=0)
    else:
        x = tl.load(pointers, mask=(row < rows) & (column < columns), other=0)
    return x


@triton.jit
def number(bits, ACC: tl.constexpr):
    """A factor that came as the 64 bits of an integer or of a float64."""
    if ACC.is_floating():
        return bits.to(tl.float64, bitcast=True).to(ACC)
    else:
        return bits.to(ACC)


@triton.jit
def place(tile, down, across, GROUP: tl.constexpr):
    """The row and the column of a tile in the grouped order."""
    group = tile // (GROUP * across)
    first = group * GROUP
    height = tl.minimum(down - first, GROUP)
    within = tile % (GROUP * across)
    return first + within % height, within // height


@triton.jit
def multiply(a, b, row, column, M, N, K, lda, ldb, low, high, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
             A_ROWS: tl.constexpr, B_ROWS: tl.constexpr, EVEN_MN: tl.constexpr, EVEN_K: tl.constexpr,
             ACC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """The sums of one tile over the blocks low <= block < high. ``a`` and ``b`` point to the matrices."""
    rows = tl.arange(0, BM)[:, None]
    columns = tl.arange(0, BN)[None, :]
    ka = tl.arange(0, BK)[None, :]
    kb = tl.arange(0, BK)[:, None]
    m0 = row * BM
    n0 = column * BN
    k0 = low * BK
    if A_ROWS:
        a += m0.to(tl.int64) * lda + k0
    else:
        a += k0.to(tl.int64) * lda + m0
    if B_ROWS:
        b += k0.to(tl.int64) * ldb + n0
    else:
        b += n0.to(tl.int64) * ldb + k0
    if not WIDE:
        lda = lda.to(tl.int32)
        ldb = ldb.to(tl.int32)
    if A_ROWS:
        pa = a + (rows * lda + ka)
        step_a = BK
    else:
        pa = a + (rows + ka * lda)
        step_a = BK * lda
    if B_ROWS:
        pb = b + (kb * ldb + columns)
        step_b = BK * ldb
    else:
        pb = b + (kb + columns * ldb)
        step_b = BK
    acc = tl.zeros((BM, BN), ACC)
    for block in range(low, high):
        left = K - block * BK
        x = read(pa, rows, M - m0, ka, left, EVEN_MN, EVEN_K)
        y = read(pb, kb, left, columns, N - n0, EVEN_K, EVEN_MN)
        if PRECISION == "sum":  # integers that no matrix instruction takes
            acc += tl.sum(x.to(ACC)[:, :, None] * y.to(ACC)[None, :, :], 1)
        else:
            acc = tl.dot(x, y, acc, input_precision=PRECISION, out_dtype=ACC)
        pa += step_a
        pb += step_b
    return acc


@triton.jit
def finish(acc, c, n, N, beta, BN: tl.constexpr, ADD: tl.constexpr, ACT: tl.constexpr):
    """ACT(acc + beta * c) of BN columns from ``n``; ``c`` is a row."""
    if ADD == "row":
        columns = n + tl.arange(0, BN)[None, :]
        acc += tl.load(c + columns, mask=columns < N, other=0).to(tl.float32) * number(beta, tl.float32)
    return ACT(acc)


# --- kernels -------------------------------------------------------------------------------------

@kernel
def gemm(a, b, c, out, M: "i32", N: "i32", K: "i32", lda: "i64", ldb: "i64", cm: "i64", cn: "i64", a_batch: "i64",
         b_batch: "i64", c_batch: "i64", parts: "i64", blocks: "i32", alpha: "i64", beta: "i64",
         BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, A_ROWS: tl.constexpr,
         B_ROWS: tl.constexpr, UA: tl.constexpr, UB: tl.constexpr, UM: tl.constexpr, UN: tl.constexpr,
         UK: tl.constexpr, UC: tl.constexpr, EVEN_MN: tl.constexpr, EVEN_K: tl.constexpr, ADD: tl.constexpr,
         SCALE: tl.constexpr, ACT: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """out (batch, M, N) = ACT(alpha * a (batch, M, K) @ b (batch, K, N) + beta * c).

    A_ROWS: the elements of a row of ``a`` are neighbours (row stride ``lda``), else those of a column; so B_ROWS.
    ADD: "" without ``c``, "row" for a vector of N, "matrix" for strides (c_batch, cm, cn). Program (tile, part): part p
    takes blocks [p * blocks, (p + 1) * blocks) of K and writes at out + p * parts (units UN)."""
    M *= UM
    N *= UN
    K *= UK
    down = tl.cdiv(M, BM)
    across = tl.cdiv(N, BN)
    tile = tl.program_id(0)
    batch = (tile // (down * across)).to(tl.int64)
    row, column = place(tile % (down * across), down, across, GROUP)
    low = tl.program_id(1) * blocks
    high = tl.minimum(low + blocks, tl.cdiv(K, BK))
    acc = multiply(a + batch * a_batch * UA, b + batch * b_batch * UB, row, column, M, N, K, lda * UA, ldb * UB, low,
                   high, BM, BN, BK, A_ROWS, B_ROWS, EVEN_MN, EVEN_K, ACC, PRECISION, WIDE)
    m = row * BM + tl.arange(0, BM)[:, None]
    n = column * BN + tl.arange(0, BN)[None, :]
    if SCALE:
        acc *= number(alpha, ACC)
    if ADD == "row":
        vector = tl.load(c + n, mask=n < N, other=0).to(ACC)
        acc += vector * number(beta, ACC)
    elif ADD == "matrix":
        pc = c + (batch * c_batch + (row * BM).to(tl.int64) * cm) * UC + column * BN
        pc += tl.arange(0, BM)[:, None] * (cm * UC) + tl.arange(0, BN)[None, :]
        acc += read(pc, m, M, n, N, EVEN_MN, EVEN_MN).to(ACC) * number(beta, ACC)
    elif ADD == "strided":
        pc = c + batch * c_batch + (m.to(tl.int64) * cm + n.to(tl.int64) * cn)
        acc += read(pc, m, M, n, N, EVEN_MN, EVEN_MN).to(ACC) * number(beta, ACC)
    acc = ACT(acc)
    if out.dtype.element_ty == tl.int1:
        acc = acc != 0
    po = out + tl.program_id(1) * (parts * UN) + (batch * M + row * BM) * N + column * BN
    if WIDE:
        po += tl.arange(0, BM)[:, None].to(tl.int64) * N + tl.arange(0, BN)[None, :]
    else:
        po += tl.arange(0, BM)[:, None] * N + tl.arange(0, BN)[None, :]
    if EVEN_MN:
        tl.store(po, acc.to(out.dtype.element_ty))
    else:
        tl.store(po, acc.to(out.dtype.element_ty), mask=(m < M) & (n < N))


@kernel
def gemm_persistent(a, b, c, out, M: "i32", N: "i32", K: "i32", lda: "i64", ldb: "i64", alpha: "i64", beta: "i64",
                    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, A_ROWS: tl.constexpr,
                    B_ROWS: tl.constexpr, UA: tl.constexpr, UB: tl.constexpr, UN: tl.constexpr, ADD: tl.constexpr,
                    SCALE: tl.constexpr, ACT: tl.constexpr, PRECISION: tl.constexpr):
    """``gemm`` of two large matrices on Hopper: the copy engine brings the tiles, through descriptors of the matrices,
    and as many programs as there are multiprocessors take tile after tile, so that one tile's end and the next one's
    start overlap. A tile is written in halves, which leaves shared memory for one more stage. Leading dimensions are
    multiples of 16 bytes. ADD: "" or "row"."""
    N *= UN
    lda *= UA
    ldb *= UB
    if A_ROWS:
        da = tl.make_tensor_descriptor(a, shape=[M, K], strides=[lda, 1], block_shape=[BM, BK])
    else:
        da = tl.make_tensor_descriptor(a, shape=[K, M], strides=[lda, 1], block_shape=[BK, BM])
    if B_ROWS:
        db = tl.make_tensor_descriptor(b, shape=[K, N], strides=[ldb, 1], block_shape=[BK, BN])
    else:
        db = tl.make_tensor_descriptor(b, shape=[N, K], strides=[ldb, 1], block_shape=[BN, BK])
    do = tl.make_tensor_descriptor(out, shape=[M, N], strides=[N.to(tl.int64), 1],
                                   block_shape=[BM, BN // 2])
    down = tl.cdiv(M, BM)
    across = tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), down * across, tl.num_programs(0), flatten=True):
        row, column = place(tile, down, across, GROUP)
        m = row * BM
        n = column * BN
        acc = tl.zeros((BM, BN), tl.float32)
        for block in range(0, tl.cdiv(K, BK)):
            k = block * BK
            if A_ROWS:
                x = da.load([m, k])
            else:
                x = da.load([k, m]).T
            if B_ROWS:
                y = db.load([k, n])
            else:
                y = db.load([n, k]).T
            acc = tl.dot(x, y, acc, input_precision=PRECISION)
        if SCALE:
            acc *= number(alpha, tl.float32)
        left, right = acc.reshape((BM, 2, BN // 2)).permute((0, 2, 1)).split()
        left = finish(left, c, n, N, beta, BN // 2, ADD, ACT)
        do.store([m, n], left.to(out.dtype.element_ty))
        right = finish(right, c, n + BN // 2, N, beta, BN // 2, ADD, ACT)
        do.store([m, n + BN // 2], right.to(out.dtype.element_ty))


@kernel
def gemv(a, x, c, out, R: "i64", K: "i64", lda: "i64", a_batch: "i64", x_batch, c_batch: "i64", x_step,
         c_step: "i64", parts: "i64", blocks: "i64", alpha: "i64", beta: "i64", BR: tl.constexpr, BK: tl.constexpr,
         ROWS: tl.constexpr, UA: tl.constexpr, UR: tl.constexpr, UK: tl.constexpr, EVEN: tl.constexpr,
         ADD: tl.constexpr, SCALE: tl.constexpr, ACT: tl.constexpr, ACC: tl.constexpr):
    """out (batch, R) = ACT(alpha * a (batch, R, K) @ x (batch, K) + beta * c): every element of ``a`` is read once.

    ROWS: neighbours in ``a`` are those of a row. Each lane keeps its own sums; the lanes of a row are added at the end.
    Program (block of rows, part) as in ``gemm``."""
    R *= UR
    K *= UK
    lda *= UA
    tile = tl.program_id(0).to(tl.int64)
    blocks_of_rows = tl.cdiv(R, BR)
    batch = tile // blocks_of_rows
    r = (tile % blocks_of_rows) * BR + tl.arange(0, BR)
    low = tl.program_id(1) * blocks
    high = tl.minimum(low + blocks, tl.cdiv(K, BK))
    a += batch * a_batch * UA
    x += batch * x_batch
    acc = tl.zeros((BR, BK), ACC)
    for block in range(low, high):
        k = block * BK + tl.arange(0, BK)
        if ROWS:
            pa = a + (r[:, None] * lda + k[None, :])
        else:
            pa = a + (r[:, None] + k[None, :] * lda)
        y = read(pa, r[:, None], R, k[None, :], K, EVEN, EVEN)
        if EVEN:
            z = tl.load(x + k[None, :] * x_step)
        else:
            z = tl.load(x + k[None, :] * x_step, mask=k[None, :] < K, other=0)
        acc += y.to(ACC) * z.to(ACC)
    total = tl.sum(acc, 1)
    if SCALE:
        total *= number(alpha, ACC)
    if ADD:
        total += tl.load(c + batch * c_batch + r * c_step, mask=r < R, other=0).to(ACC) * number(beta, ACC)
    total = ACT(total)
    if out.dtype.element_ty == tl.int1:
        total = total != 0
    tl.store(out + tl.program_id(1) * parts + batch * R + r, total.to(out.dtype.element_ty), mask=r < R)


@kernel
def combine(partial, c, out, total: "i64", M: "i64", N: "i64", cm: "i64", cn: "i64", c_batch: "i64", parts: "i32",
            alpha: "i64", beta: "i64", BLOCK: tl.constexpr, UNIT: tl.constexpr, ADD: tl.constexpr, SCALE: tl.constexpr,
            ACT: tl.constexpr):
    """out (total elements of (batch, M, N)) = ACT(alpha * the sum of ``parts`` arrays in order + beta * c)."""
    total *= UNIT
    ACC: tl.constexpr = partial.dtype.element_ty
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    fits = i < total
    acc = tl.load(partial + i, mask=fits, other=0)
    for _ in range(1, parts):
        partial += total
        acc += tl.load(partial + i, mask=fits, other=0)
    if SCALE:
        acc *= number(alpha, ACC)
    if ADD:
        row = i // N
        pc = c + row // M * c_batch + row % M * cm + i % N * cn
        acc += tl.load(pc, mask=fits, other=0).to(ACC) * number(beta, ACC)
    acc = ACT(acc)
    if out.dtype.element_ty == tl.int1:
        acc = acc != 0
    tl.store(out + i, acc.to(out.dtype.element_ty), mask=fits)
