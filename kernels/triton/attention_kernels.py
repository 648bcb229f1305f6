"""The kernels under scaled dot-product attention (Dao et al., arXiv:2205.14135; Dao, arXiv:2307.08691).

    s = scale q k^T + mask        p = softmax(s)        out = (m p) v        m: dropout, 0 or 1 / (1 - rate)

The weights p are never written to memory. One program takes BM rows of one head through blocks of BN columns, with the
running maximum r of a row, the sum l of exp(s - r) and the sums acc of exp(s - r) v, both scaled down whenever r grows;
out = acc / l, and logsumexp = r + log l is what the backward pass needs to have p = exp(s - logsumexp) again:

    delta = sum(g out)     dv = (m p)^T g     ds = p (m (g v^T) - delta)     dq = scale ds k     dk = scale ds^T q

``keys_gradient`` has a program for each block of keys, ``queries_gradient`` one for each block of queries, and
``mask_gradient`` one for each tile of the mask: all gather, nothing is added atomically. The logsumexp of a row without
any weight (all -inf) is +inf, so that its p is 0.

Arithmetic is in powers of 2, with log2 e folded into the scale. Rows are E elements that lie together (padded to a
power of 2, BE) with other strides in units of UNIT elements, so that the compiler knows their divisor (MUNIT: those of
the mask). Dropout draws one word an element (``kept``). Blocks that causality empties are skipped.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton import philox

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805598903)


# --- parts ---------------------------------------------------------------------------------------

@triton.jit
def rows_of(x, first, count, stride, E, BM: tl.constexpr, BE: tl.constexpr, EVEN: tl.constexpr, FULL: tl.constexpr):
    """BM rows from row ``first`` on of ``count``; 0 outside. EVEN: all rows are there; FULL: E = BE."""
    row = tl.arange(0, BM)[:, None]
    column = tl.arange(0, BE)[None, :]
    x += first.to(tl.int64) * stride
    x += row * stride.to(tl.int32) + column
    if EVEN and FULL:
        y = tl.load(x)
    elif EVEN:
        y = tl.load(x, mask=column < E, other=0)
    elif FULL:
        y = tl.load(x, mask=row < count - first, other=0)
    else:
        y = tl.load(x, mask=(row < count - first) & (column < E), other=0)
    return y


@triton.jit
def put_rows(out, y, first, count, stride, E, BM: tl.constexpr, BE: tl.constexpr, EVEN: tl.constexpr,
             FULL: tl.constexpr):
    """Store what ``rows_of`` would load."""
    row = tl.arange(0, BM)[:, None]
    column = tl.arange(0, BE)[None, :]
    out += first.to(tl.int64) * stride
    out += row * stride.to(tl.int32) + column
    y = y.to(out.dtype.element_ty)
    if EVEN and FULL:
        tl.store(out, y)
    elif FULL:
        tl.store(out, y, mask=row < count - first)
    else:
        tl.store(out, y, mask=(row < count - first) & (column < E))


@triton.jit
def numbers_of(x, first, count, absent, BM: tl.constexpr, EVEN: tl.constexpr):
    """BM numbers from ``first`` on of ``count``; ``absent`` outside."""
    i = first + tl.arange(0, BM)
    if EVEN:
        y = tl.load(x + i)
    else:
        y = tl.load(x + i, mask=i < count, other=absent)
    return y


@triton.jit
def product(a, b, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """a @ b, added up in ACC."""
    return tl.dot(a, b, input_precision=PRECISION, out_dtype=ACC)


@triton.jit
def mask_of(mask, row, column, top, left, stride, step, L, S, EVEN: tl.constexpr):
    """Elements of the mask at ``row`` and ``column``, two vectors that broadcast; ``top`` and ``left`` come first."""
    at = mask + (top.to(tl.int64) * stride + left.to(tl.int64) * step)
    at += (row - top) * stride.to(tl.int32) + (column - left) * step
    if EVEN:
        y = tl.load(at)
    else:
        y = tl.load(at, mask=(row < L) & (column < S), other=0)
    return y


@triton.jit
def kept(seed, offset, limit, head, row, first, L, S, BN: tl.constexpr):
    """Which of BN weights from column ``first`` on stay, for each of the rows: 31 bits of a word below ``limit``. The
    words of a row begin at a multiple of 4, and one Philox block decides on four neighbours."""
    blocks = (S + 3) // 4
    i = (head.to(tl.int64) * L + row)[:, None] * blocks + (first // 4 + tl.arange(0, BN // 4))[None, :]
    w0, w1, w2, w3 = philox.blocks(seed, offset, i)
    limit = limit.to(tl.uint32)
    even = tl.interleave((w0 >> 1) < limit, (w2 >> 1) < limit)
    odd = tl.interleave((w1 >> 1) < limit, (w3 >> 1) < limit)
    return tl.interleave(even, odd)


@triton.jit
def scores(s, mask, row, column, top, left, stride, step, L, S, factor, MASK: tl.constexpr, CAUSAL: tl.constexpr,
           INSIDE: tl.constexpr, EVEN: tl.constexpr):
    """Products s as scores in base 2: times ``factor``, plus the mask, -inf where there is no weight. CAUSAL: for
    columns beyond the row; not INSIDE: for columns beyond S."""
    s *= factor
    if MASK == "add":
        s += mask_of(mask, row, column, top, left, stride, step, L, S, EVEN).to(s.dtype) * LOG2E
    elif MASK == "bool":
        s = tl.where(mask_of(mask, row, column, top, left, stride, step, L, S, EVEN), s, float("-inf"))
    if CAUSAL:
        s = tl.where(column <= row, s, float("-inf"))
    if not INSIDE:
        s = tl.where(column < S, s, float("-inf"))
    return s


# --- forward -------------------------------------------------------------------------------------

@triton.jit
def attend(acc, total, top, q, k, v, mask, head, start, row, low, high, L, S, E, EV, sk, sv, sm, mask_step, factor,
           seed, offset, limit, BN: tl.constexpr, BE: tl.constexpr, BV: tl.constexpr, MASK: tl.constexpr,
           DROP: tl.constexpr, CAUSAL: tl.constexpr, INSIDE: tl.constexpr, FULL: tl.constexpr, EVEN: tl.constexpr,
           FOLD: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """Columns low <= column < high added to what a block of rows knows. CAUSAL, not INSIDE: some have no weight."""
    for first in range(low, high, BN):
        first = tl.multiple_of(first, BN)
        x = rows_of(k, first, S, sk, E, BN, BE, INSIDE, FULL)
        s = product(q, tl.trans(x), ACC, PRECISION)
        if FOLD and INSIDE and not CAUSAL and MASK == "":  # the factor, which is positive, goes into one multiply-add
            larger = tl.maximum(top, tl.max(s, 1) * factor)
            base = tl.where(larger == float("-inf"), 0.0, larger)
            p = tl.exp2(s * factor - base[:, None])
        else:
            column = first + tl.arange(0, BN)
            s = scores(s, mask, row[:, None], column[None, :], start, first, sm, mask_step, L, S, factor, MASK, CAUSAL,
                       INSIDE, EVEN)
            larger = tl.maximum(top, tl.max(s, 1))
            base = tl.where(larger == float("-inf"), 0.0, larger)
            p = tl.exp2(s - base[:, None])
        shrunk = tl.exp2(top - base)
        total = total * shrunk + tl.sum(p, 1)
        top = larger
        acc *= shrunk[:, None]
        if DROP:
            p = tl.where(kept(seed, offset, limit, head, row, first, L, S, BN), p, 0.0)
        y = rows_of(v, first, S, sv, EV, BN, BV, INSIDE, FULL)
        acc = tl.dot(p.to(y.dtype), y, acc, input_precision=PRECISION, out_dtype=ACC)
    return acc, total, top


@kernel
def forward(q, k, v, mask, out, logsumexp, heads: "i32", group: "i32", L: "i32", S: "i32", E: "i32", EV: "i32",
            qb: "i64", qh: "i64", ql: "i64", kb: "i64", kh: "i64", ks: "i64", vb: "i64", vh: "i64", vs: "i64",
            ob: "i64", oh: "i64", ol: "i64", mb: "i64", mh: "i64", ml: "i64", mask_step, scale: "fp64", seed: "i64",
            offset: "i64", limit: "i64", gain: "fp64", BM: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr,
            BV: tl.constexpr, UNIT: tl.constexpr, MUNIT: tl.constexpr, MASK: tl.constexpr, DROP: tl.constexpr,
            CAUSAL: tl.constexpr, FULL: tl.constexpr, EVEN_L: tl.constexpr, EVEN_S: tl.constexpr, FOLD: tl.constexpr,
            ACC: tl.constexpr, PRECISION: tl.constexpr):
    """out (batch, heads, L, EV) and logsumexp (batch, heads, L) of q (batch, heads, L, E), k and v (batch, heads /
    group, S, E or EV). MASK: "", "bool" or "add"; ``gain``: 1 / (1 - rate) of dropout."""
    blocks = tl.cdiv(L, BM)
    head = tl.program_id(0) // blocks  # of all
    place = blocks - 1 - tl.program_id(0) % blocks  # with CAUSAL the last rows have most to do: first
    b = (head // heads).to(tl.int64)
    h = (head % heads).to(tl.int64)
    first = place * BM
    row = first + tl.arange(0, BM)
    q += (b * qb + h * qh) * UNIT
    k += (b * kb + h // group * kh) * UNIT
    v += (b * vb + h // group * vh) * UNIT
    out += (b * ob + h * oh) * UNIT
    E *= UNIT
    EV *= UNIT
    mask += (b * mb + h * mh) * MUNIT
    ml *= MUNIT
    factor = (scale * LOG2E).to(ACC)
    x = rows_of(q, first, L, ql * UNIT, E, BM, BE, EVEN_L, FULL)
    acc = tl.zeros((BM, BV), ACC)
    total = tl.zeros((BM,), ACC)
    top = tl.full((BM,), float("-inf"), ACC)
    inner = S // BN * BN
    end = S
    if CAUSAL:
        inner = tl.minimum(inner, (first + 1) // BN * BN)
        end = tl.minimum(end, first + BM)
    acc, total, top = attend(acc, total, top, x, k, v, mask, head, first, row, 0, inner, L, S, E, EV, ks * UNIT,
                             vs * UNIT, ml, mask_step, factor, seed, offset, limit, BN, BE, BV, MASK, DROP, False, True,
                             FULL, EVEN_L and EVEN_S, FOLD, ACC, PRECISION)
    if CAUSAL or not EVEN_S:
        acc, total, top = attend(acc, total, top, x, k, v, mask, head, first, row, inner, end, L, S, E, EV, ks * UNIT,
                                 vs * UNIT, ml, mask_step, factor, seed, offset, limit, BN, BE, BV, MASK, DROP, CAUSAL,
                                 EVEN_S, FULL, EVEN_L and EVEN_S, FOLD, ACC, PRECISION)
    weight = 1.0 / tl.where(total == 0.0, 1.0, total)
    if DROP:
        weight *= gain.to(ACC)
    put_rows(out, acc * weight[:, None], first, L, ol * UNIT, EV, BM, BV, EVEN_L, FULL)
    r = tl.where(total == 0.0, float("inf"), (top + tl.log2(total)) * LN2)
    logsumexp += head.to(tl.int64) * L
    if EVEN_L:
        tl.store(logsumexp + row, r)
    else:
        tl.store(logsumexp + row, r, mask=row < L)


# --- backward ------------------------------------------------------------------------------------

@kernel
def row_sums(g, out, delta, heads: "i32", L: "i32", EV: "i32", gb: "i64", gh: "i64", gl: "i64", ob: "i64", oh: "i64",
             ol: "i64", BM: tl.constexpr, BV: tl.constexpr, UNIT: tl.constexpr, FULL: tl.constexpr,
             EVEN_L: tl.constexpr, ACC: tl.constexpr):
    """delta (batch, heads, L) = sum of g * out along rows."""
    blocks = tl.cdiv(L, BM)
    head = tl.program_id(0) // blocks
    first = tl.program_id(0) % blocks * BM
    b = (head // heads).to(tl.int64)
    h = (head % heads).to(tl.int64)
    x = rows_of(g + (b * gb + h * gh) * UNIT, first, L, gl * UNIT, EV * UNIT, BM, BV, EVEN_L, FULL).to(ACC)
    y = rows_of(out + (b * ob + h * oh) * UNIT, first, L, ol * UNIT, EV * UNIT, BM, BV, EVEN_L, FULL).to(ACC)
    row = first + tl.arange(0, BM)
    tl.store(delta + head.to(tl.int64) * L + row, tl.sum(x * y, 1), mask=row < L)


@triton.jit
def keys_part(dk, dv, x, y, q, g, mask, logsumexp, delta, head, first, low, high, L, S, E, EV, sq, sg, sm, mask_step,
              factor, seed, offset, limit, gain, BM: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr,
              BV: tl.constexpr, MASK: tl.constexpr, DROP: tl.constexpr, CAUSAL: tl.constexpr, KEYS: tl.constexpr,
              VALUES: tl.constexpr, FULL: tl.constexpr, EVEN_L: tl.constexpr, EVEN: tl.constexpr, ACC: tl.constexpr,
              PRECISION: tl.constexpr):
    """Rows low <= row < high of one head added to the gradients of BN keys and values. Tiles are (column, row)."""
    column = first + tl.arange(0, BN)
    for start in range(low, high, BM):
        start = tl.multiple_of(start, BM)
        row = start + tl.arange(0, BM)
        a = rows_of(q, start, L, sq, E, BM, BE, EVEN_L, FULL)
        base = numbers_of(logsumexp, start, L, float("inf"), BM, EVEN_L) * LOG2E  # rows that are not there: p = 0
        s = product(x, tl.trans(a), ACC, PRECISION)
        s = scores(s, mask, row[None, :], column[:, None], start, first, sm, mask_step, L, S, factor, MASK, CAUSAL,
                   True, EVEN)
        p = tl.exp2(s - base[None, :])
        c = rows_of(g, start, L, sg, EV, BM, BV, EVEN_L, FULL)
        if DROP:
            stays = tl.trans(kept(seed, offset, limit, head, row, first, L, S, BN))
        if VALUES:
            if DROP:
                dropped = tl.where(stays, p, 0.0)
            else:
                dropped = p
            dv = tl.dot(dropped.to(c.dtype), c, dv, input_precision=PRECISION, out_dtype=ACC)
        if KEYS:
            dp = product(y, tl.trans(c), ACC, PRECISION)
            if DROP:
                dp = tl.where(stays, dp * gain, 0.0)
            ds = p * (dp - numbers_of(delta, start, L, 0.0, BM, EVEN_L)[None, :])
            dk = tl.dot(ds.to(a.dtype), a, dk, input_precision=PRECISION, out_dtype=ACC)
    return dk, dv


@kernel
def keys_gradient(q, k, v, mask, g, logsumexp, delta, dk, dv, heads: "i32", group: "i32", L: "i32", S: "i32", E: "i32",
                  EV: "i32", qb: "i64", qh: "i64", ql: "i64", kb: "i64", kh: "i64", ks: "i64", vb: "i64", vh: "i64",
                  vs: "i64", gb: "i64", gh: "i64", gl: "i64", xb: "i64", xh: "i64", xs: "i64", yb: "i64", yh: "i64",
                  ys: "i64", mb: "i64", mh: "i64", ml: "i64", mask_step, scale: "fp64", seed: "i64", offset: "i64",
                  limit: "i64", gain: "fp64", BM: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr, BV: tl.constexpr,
                  UNIT: tl.constexpr, MUNIT: tl.constexpr, MASK: tl.constexpr, DROP: tl.constexpr, CAUSAL: tl.constexpr,
                  KEYS: tl.constexpr, VALUES: tl.constexpr, FULL: tl.constexpr, EVEN_L: tl.constexpr,
                  EVEN_S: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """dk and dv (strides x, y) of BN keys, over all rows of the ``group`` of heads that share them: KEYS, VALUES say
    which. Both at once are one product less, but twice the registers for sums."""
    blocks = tl.cdiv(S, BN)
    shared = tl.program_id(0) // blocks
    first = tl.program_id(0) % blocks * BN
    few = heads // group
    b = (shared // few).to(tl.int64)
    h = (shared % few).to(tl.int64)
    E *= UNIT
    EV *= UNIT
    factor = (scale * LOG2E).to(ACC)
    x = rows_of(k + (b * kb + h * kh) * UNIT, first, S, ks * UNIT, E, BN, BE, EVEN_S, FULL)
    y = rows_of(v + (b * vb + h * vh) * UNIT, first, S, vs * UNIT, EV, BN, BV, EVEN_S, FULL)
    ml *= MUNIT
    dk_sum = tl.zeros((BN, BE), ACC)
    dv_sum = tl.zeros((BN, BV), ACC)
    begin = 0
    inner = 0
    if CAUSAL:
        begin = first // BM * BM
        inner = tl.minimum(tl.cdiv(first + BN - 1, BM) * BM, tl.cdiv(L, BM) * BM)
    for i in range(0, group):
        one = h * group + i
        head = b * heads + one
        qi = q + (b * qb + one * qh) * UNIT
        gi = g + (b * gb + one * gh) * UNIT
        mi = mask + (b * mb + one * mh) * MUNIT
        li = logsumexp + head * L
        di = delta + head * L
        if CAUSAL:
            dk_sum, dv_sum = keys_part(dk_sum, dv_sum, x, y, qi, gi, mi, li, di, head, first, begin, inner, L, S, E, EV,
                                       ql * UNIT, gl * UNIT, ml, mask_step, factor, seed, offset, limit, gain.to(ACC),
                                       BM, BN, BE, BV, MASK, DROP, True, KEYS, VALUES, FULL, EVEN_L,
                                       EVEN_L and EVEN_S, ACC, PRECISION)
        dk_sum, dv_sum = keys_part(dk_sum, dv_sum, x, y, qi, gi, mi, li, di, head, first, inner, L, L, S, E, EV,
                                   ql * UNIT, gl * UNIT, ml, mask_step, factor, seed, offset, limit, gain.to(ACC), BM,
                                   BN, BE, BV, MASK, DROP, False, KEYS, VALUES, FULL, EVEN_L, EVEN_L and EVEN_S, ACC,
                                   PRECISION)
    if KEYS:
        put_rows(dk + (b * xb + h * xh) * UNIT, dk_sum * scale.to(ACC), first, S, xs * UNIT, E, BN, BE, EVEN_S, FULL)
    if VALUES:
        if DROP:
            dv_sum *= gain.to(ACC)
        put_rows(dv + (b * yb + h * yh) * UNIT, dv_sum, first, S, ys * UNIT, EV, BN, BV, EVEN_S, FULL)


@triton.jit
def scores_gradient(x, a, c, y, base, change, mask, head, start, row, first, L, S, sm, mask_step, factor, seed, offset,
                    limit, gain, BN: tl.constexpr, MASK: tl.constexpr, DROP: tl.constexpr, CAUSAL: tl.constexpr,
                    INSIDE: tl.constexpr, EVEN: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """ds of a tile (row, column): ``x`` queries, ``a`` keys, ``c`` gradients, ``y`` values, ``base`` logsumexp in base
    2, ``change`` delta."""
    column = first + tl.arange(0, BN)
    s = product(x, tl.trans(a), ACC, PRECISION)
    s = scores(s, mask, row[:, None], column[None, :], start, first, sm, mask_step, L, S, factor, MASK, CAUSAL, INSIDE,
               EVEN)
    p = tl.exp2(s - base[:, None])
    dp = product(c, tl.trans(y), ACC, PRECISION)
    if DROP:
        dp = tl.where(kept(seed, offset, limit, head, row, first, L, S, BN), dp * gain, 0.0)
    return p * (dp - change[:, None])


@triton.jit
def queries_part(dq, x, c, k, v, mask, base, change, head, start, row, low, high, L, S, E, EV, sk, sv, sm, mask_step,
                 factor, seed, offset, limit, gain, BN: tl.constexpr, BE: tl.constexpr, BV: tl.constexpr,
                 MASK: tl.constexpr, DROP: tl.constexpr, CAUSAL: tl.constexpr, INSIDE: tl.constexpr, FULL: tl.constexpr,
                 EVEN: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """Columns low <= column < high added to the gradient of a block of queries."""
    for first in range(low, high, BN):
        first = tl.multiple_of(first, BN)
        a = rows_of(k, first, S, sk, E, BN, BE, INSIDE, FULL)
        y = rows_of(v, first, S, sv, EV, BN, BV, INSIDE, FULL)
        ds = scores_gradient(x, a, c, y, base, change, mask, head, start, row, first, L, S, sm, mask_step, factor, seed,
                             offset, limit, gain, BN, MASK, DROP, CAUSAL, INSIDE, EVEN, ACC, PRECISION)
        dq = tl.dot(ds.to(a.dtype), a, dq, input_precision=PRECISION, out_dtype=ACC)
    return dq


@kernel
def queries_gradient(q, k, v, mask, g, logsumexp, delta, dq, heads: "i32", group: "i32", L: "i32", S: "i32", E: "i32",
                     EV: "i32", qb: "i64", qh: "i64", ql: "i64", kb: "i64", kh: "i64", ks: "i64", vb: "i64", vh: "i64",
                     vs: "i64", gb: "i64", gh: "i64", gl: "i64", xb: "i64", xh: "i64", xl: "i64", mb: "i64", mh: "i64",
                     ml: "i64", mask_step, scale: "fp64", seed: "i64", offset: "i64", limit: "i64", gain: "fp64",
                     BM: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr, BV: tl.constexpr, UNIT: tl.constexpr,
                     MUNIT: tl.constexpr, MASK: tl.constexpr, DROP: tl.constexpr, CAUSAL: tl.constexpr,
                     FULL: tl.constexpr, EVEN_L: tl.constexpr, EVEN_S: tl.constexpr, ACC: tl.constexpr,
                     PRECISION: tl.constexpr):
    """dq (strides x) of BM queries."""
    blocks = tl.cdiv(L, BM)
    head = tl.program_id(0) // blocks
    first = (blocks - 1 - tl.program_id(0) % blocks) * BM
    b = (head // heads).to(tl.int64)
    h = (head % heads).to(tl.int64)
    row = first + tl.arange(0, BM)
    E *= UNIT
    EV *= UNIT
    k += (b * kb + h // group * kh) * UNIT
    v += (b * vb + h // group * vh) * UNIT
    mask += (b * mb + h * mh) * MUNIT
    ml *= MUNIT
    factor = (scale * LOG2E).to(ACC)
    x = rows_of(q + (b * qb + h * qh) * UNIT, first, L, ql * UNIT, E, BM, BE, EVEN_L, FULL)
    c = rows_of(g + (b * gb + h * gh) * UNIT, first, L, gl * UNIT, EV, BM, BV, EVEN_L, FULL)
    base = numbers_of(logsumexp + head.to(tl.int64) * L, first, L, float("inf"), BM, EVEN_L) * LOG2E
    change = numbers_of(delta + head.to(tl.int64) * L, first, L, 0.0, BM, EVEN_L)
    acc = tl.zeros((BM, BE), ACC)
    inner = S // BN * BN
    end = S
    if CAUSAL:
        inner = tl.minimum(inner, (first + 1) // BN * BN)
        end = tl.minimum(end, first + BM)
    acc = queries_part(acc, x, c, k, v, mask, base, change, head, first, row, 0, inner, L, S, E, EV, ks * UNIT,
                       vs * UNIT, ml, mask_step, factor, seed, offset, limit, gain.to(ACC), BN, BE, BV, MASK, DROP,
                       False, True, FULL, EVEN_L and EVEN_S, ACC, PRECISION)
    if CAUSAL or not EVEN_S:
        acc = queries_part(acc, x, c, k, v, mask, base, change, head, first, row, inner, end, L, S, E, EV, ks * UNIT,
                           vs * UNIT, ml, mask_step, factor, seed, offset, limit, gain.to(ACC), BN, BE, BV, MASK, DROP,
                           CAUSAL, EVEN_S, FULL, EVEN_L and EVEN_S, ACC, PRECISION)
    put_rows(dq + (b * xb + h * xh) * UNIT, acc * scale.to(ACC), first, L, xl * UNIT, E, BM, BE, EVEN_L, FULL)


@kernel
def mask_gradient(q, k, v, mask, g, logsumexp, delta, dm, heads: "i32", group: "i32", L: "i32", S: "i32", E: "i32",
                  EV: "i32", repeats: "i32", matrix_step: "i32", head_step: "i32", qb: "i64", qh: "i64", ql: "i64",
                  kb: "i64", kh: "i64", ks: "i64", vb: "i64", vh: "i64", vs: "i64", gb: "i64", gh: "i64", gl: "i64",
                  mb: "i64", mh: "i64", ml: "i64", mask_step, scale: "fp64", seed: "i64", offset: "i64", limit: "i64",
                  gain: "fp64", BM: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr, BV: tl.constexpr,
                  UNIT: tl.constexpr, MUNIT: tl.constexpr, DROP: tl.constexpr, FULL: tl.constexpr, EVEN_L: tl.constexpr,
                  EVEN_S: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """dm (matrices, L, S): ds added up, in order, over the ``repeats`` heads that share a matrix of the mask. Of matrix
    m these are the heads m * matrix_step + j * head_step of all."""
    down = tl.cdiv(L, BM)
    across = tl.cdiv(S, BN)
    tile = tl.program_id(0) % (down * across)
    matrix = tl.program_id(0) // (down * across)
    start = tile // across * BM
    first = tile % across * BN
    row = start + tl.arange(0, BM)
    column = first + tl.arange(0, BN)
    E *= UNIT
    EV *= UNIT
    factor = (scale * LOG2E).to(ACC)
    ml *= MUNIT
    acc = tl.zeros((BM, BN), ACC)
    for j in range(0, repeats):
        head = matrix * matrix_step + j * head_step
        b = (head // heads).to(tl.int64)
        h = (head % heads).to(tl.int64)
        x = rows_of(q + (b * qb + h * qh) * UNIT, start, L, ql * UNIT, E, BM, BE, EVEN_L, FULL)
        c = rows_of(g + (b * gb + h * gh) * UNIT, start, L, gl * UNIT, EV, BM, BV, EVEN_L, FULL)
        a = rows_of(k + (b * kb + h // group * kh) * UNIT, first, S, ks * UNIT, E, BN, BE, EVEN_S, FULL)
        y = rows_of(v + (b * vb + h // group * vh) * UNIT, first, S, vs * UNIT, EV, BN, BV, EVEN_S, FULL)
        base = numbers_of(logsumexp + head.to(tl.int64) * L, start, L, float("inf"), BM, EVEN_L) * LOG2E
        change = numbers_of(delta + head.to(tl.int64) * L, start, L, 0.0, BM, EVEN_L)
        acc += scores_gradient(x, a, c, y, base, change, mask + (b * mb + h * mh) * MUNIT, head, start, row, first, L,
                               S, ml, mask_step, factor, seed, offset, limit, gain.to(ACC), BN, "add", DROP, False,
                               True, EVEN_L and EVEN_S, ACC, PRECISION)
    dm += matrix.to(tl.int64) * L * S
    at = dm + row[:, None].to(tl.int64) * S + column[None, :]
    tl.store(at, acc.to(dm.dtype.element_ty), mask=(row < L)[:, None] & (column < S)[None, :])
