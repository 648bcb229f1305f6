"""The kernels of the normalizations.

    y  = (x - mean) invstd w + b                 mean, invstd: of a channel, a group of channels or a row
    dx = invstd (w dy - u - h v)                 h = (x - mean) invstd, u = mean of w dy, v = mean of w dy h
    dw = sum dy h,  db = sum dy

An array is N planes of C runs of S adjacent elements (contiguous), or S rows of C adjacent channels (COLUMNS; N = 1). A
program has a tile [BK channels, BR elements] and walks along the planes' elements or the rows: step t of N * blocks.
VECTOR: the adjacent dimension is a multiple of it (passed divided by it): 16 bytes of elements, or 1.

Mean and squared deviation are taken in one pass by Welford's way, for each place of the tile; places, and the splits of
a channel, are joined by

    mean = sum n_i mean_i / n        M2 = sum (M2_i + n_i (mean_i - mean)^2)

in a fixed order: the same input gives the same bits, and nothing cancels. Tiles are computed in float32 (float64 for
float64), what is left of them is joined in float64.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.strided import convert


@triton.jit
def sizes(C, S, COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr):
    """C and S in the kernel's integer type, multiplied by what they were divided by."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    return C.to(kind) * (VECTOR if COLUMNS else 1), S.to(kind) * (1 if COLUMNS else VECTOR)


@triton.jit
def spot(t, c, C, S, COLUMNS: tl.constexpr, BR: tl.constexpr):
    """(where the tile's elements lie, their mask, their places along S) at step t."""
    r = tl.arange(0, BR).to(c.dtype)
    if COLUMNS:
        place = t * BR + r
        offset = c[:, None] + (place * C)[None, :]
    else:
        blocks = tl.cdiv(S, BR)
        place = t % blocks * BR + r
        offset = (t // blocks * (C * S) + c * S)[:, None] + place[None, :]
    return offset, (c < C)[:, None] & (place < S)[None, :], place


@triton.jit
def walk(C, S, N, span, BR: tl.constexpr):
    """The first step of this program and the one after its last."""
    first = tl.program_id(1).to(C.dtype) * span.to(C.dtype)
    return first, tl.minimum(first + span.to(C.dtype), N.to(C.dtype) * tl.cdiv(S, BR))


@triton.jit
def welford(mean, rest, count, x, mask, inside):
    """Elements added to the mean and squared deviation of their places; ``inside``: the places that get one."""
    count += inside.to(count.dtype)
    d = tl.where(mask, x - mean, 0.0)
    mean += d * (1.0 / tl.maximum(count, 1.0))[None, :]
    return mean, rest + d * (x - mean), count


@triton.jit
def joined(mean, rest, count):
    """(mean, squared deviation, count) of all places along the second dimension, in float64. ``count``: of each.

    Means are taken relative to one of them, so that nothing is lost in float32."""
    n = tl.broadcast_to(count, mean.shape)
    total = tl.sum(n, 1)
    near = tl.max(tl.where(n > 0, mean, float("-inf")), 1)
    near = tl.where(near == float("-inf"), 0.0, near)
    d = tl.where(n > 0, mean - near[:, None], 0.0)
    off = tl.sum(d * n, 1) / tl.maximum(total, 1.0)
    d -= off[:, None]
    rest = tl.sum(tl.where(n > 0, rest + n * d * d, 0.0), 1)
    return near.to(tl.float64) + off.to(tl.float64), rest.to(tl.float64), total.to(tl.float64)


@triton.jit
def statistics(c, C, center, rest, total, mean, invstd, var, running_mean, running_var, eps, momentum, factor,
               RUN_MEAN: tl.constexpr, RUN_VAR: tl.constexpr, VAR: tl.constexpr):
    """Store what is wanted of the channels' statistics, and move the running ones."""
    variance = rest / total
    tl.store(mean + c, convert(center, mean.dtype.element_ty), mask=c < C)
    tl.store(invstd + c, convert(tl.rsqrt(variance + eps), invstd.dtype.element_ty), mask=c < C)
    if VAR:
        tl.store(var + c, convert(variance, var.dtype.element_ty), mask=c < C)
    if RUN_MEAN:
        moved(running_mean, c, C, center, momentum)
    if RUN_VAR:
        moved(running_var, c, C, variance * factor, momentum)


@triton.jit
def moved(running, c, C, new, momentum):
    """``running = (1 - momentum) * running + momentum * new``."""
    old = tl.load(running + c, mask=c < C, other=0).to(tl.float64)
    tl.store(running + c, convert((1.0 - momentum) * old + momentum * new, running.dtype.element_ty), mask=c < C)


@kernel
def moments(x, parts, mean, invstd, var, running_mean, running_var, C: "i64", S: "i64", N: "i64", span: "i64",
            eps: "fp64", momentum: "fp64", factor: "fp64", ACC: tl.constexpr, PART: tl.constexpr,
            RUN_MEAN: tl.constexpr, RUN_VAR: tl.constexpr, VAR: tl.constexpr, COLUMNS: tl.constexpr,
            VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """Statistics of the channels. PART: mean, squared deviation and count of this split, three planes of (split, C)."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    center = tl.zeros((BK, BR), ACC)
    rest = tl.zeros((BK, BR), ACC)
    count = tl.zeros((BR,), ACC)
    for t in range(first, last):
        offset, mask, place = spot(t, c, C, S, COLUMNS, BR)
        v = tl.load(x + offset, mask=mask, other=0).to(ACC)
        center, rest, count = welford(center, rest, count, v, mask, place < S)
    m, m2, total = joined(center, rest, count[None, :])
    if PART:
        at = parts + tl.program_id(1).to(tl.int64) * C + c
        plane = tl.num_programs(1).to(tl.int64) * C
        tl.store(at, m, mask=c < C)
        tl.store(at + plane, m2, mask=c < C)
        tl.store(at + 2 * plane, total, mask=c < C)
    else:
        statistics(c, C, m, m2, total, mean, invstd, var, running_mean, running_var, eps, momentum, factor, RUN_MEAN,
                   RUN_VAR, VAR)


@kernel
def moments_joined(parts, mean, invstd, var, running_mean, running_var, C: "i64", splits: "i64", eps: "fp64",
                   momentum: "fp64", factor: "fp64", RUN_MEAN: tl.constexpr, RUN_VAR: tl.constexpr,
                   VAR: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """Statistics of the channels from those of all splits; BR >= splits."""
    c = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    r = tl.arange(0, BR)
    mask = (c < C)[:, None] & (r < splits)[None, :]
    at = parts + r[None, :] * C + c[:, None]
    center = tl.load(at, mask=mask, other=0)
    rest = tl.load(at + splits * C, mask=mask, other=0)
    count = tl.load(at + 2 * splits * C, mask=mask, other=0)
    m, m2, total = joined(center, rest, count)
    statistics(c, C, m, m2, total, mean, invstd, var, running_mean, running_var, eps, momentum, factor, RUN_MEAN,
               RUN_VAR, VAR)


@kernel
def apply(x, out, mean, scale, weight, bias, C: "i64", S: "i64", N: "i64", span: "i64", per: "i64", channels: "i64",
          eps: "fp64", ACC: tl.constexpr, MODE: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr,
          GROUPED: tl.constexpr, COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr,
          BR: tl.constexpr):
    """``(x - mean) * k + bias``, k = scale * weight. MODE: "invstd" (scale is that), "var" (scale is the variance),
    "plain" (``x * scale + bias``). GROUPED: run c has the statistics c // per and the parameters c % channels."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    g = c
    p = c
    if GROUPED:
        g = c // per.to(C.dtype)
        p = c % channels.to(C.dtype)
    k = tl.load(scale + g, mask=c < C, other=1).to(tl.float64)
    if MODE == "var":
        k = tl.rsqrt(k + eps)
    if WEIGHT:
        k *= tl.load(weight + p, mask=c < C, other=0).to(tl.float64)
    k = k.to(ACC)[:, None]
    if MODE != "plain":
        m = tl.load(mean + g, mask=c < C, other=0).to(ACC)[:, None]
    if BIAS:
        b = tl.load(bias + p, mask=c < C, other=0).to(ACC)[:, None]
    for t in range(first, last):
        offset, mask, _ = spot(t, c, C, S, COLUMNS, BR)
        v = tl.load(x + offset, mask=mask, other=0).to(ACC)
        if MODE != "plain":
            v -= m
        v *= k
        if BIAS:
            v += b
        tl.store(out + offset, convert(v, out.dtype.element_ty), mask=mask)


@kernel
def sums(dy, x, mean, invstd, parts, C: "i64", S: "i64", N: "i64", span: "i64", per: "i64", ACC: tl.constexpr,
         GROUPED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr,
         BK: tl.constexpr, BR: tl.constexpr):
    """sum dy and sum dy h of the channels in this split: two planes of (split, C). GROUPED as in ``apply``. ROWS: the
    statistics are those of the rows, not of the channels (COLUMNS)."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    if not ROWS:
        g = c
        if GROUPED:
            g = c // per.to(C.dtype)
        m = tl.load(mean + g, mask=c < C, other=0).to(ACC)[:, None]
    a = tl.zeros((BK, BR), ACC)
    b = tl.zeros((BK, BR), ACC)
    for t in range(first, last):
        offset, mask, place = spot(t, c, C, S, COLUMNS, BR)
        d = tl.load(dy + offset, mask=mask, other=0).to(ACC)
        v = tl.load(x + offset, mask=mask, other=0).to(ACC)
        if ROWS:
            h = v - tl.load(mean + place, mask=place < S, other=0).to(ACC)[None, :]
            h *= tl.load(invstd + place, mask=place < S, other=0).to(ACC)[None, :]
        else:
            h = v - m
        a += d
        b += d * h
    total = tl.sum(b.to(tl.float64), 1)
    if not ROWS:
        total *= tl.load(invstd + g, mask=c < C, other=0).to(tl.float64)
    at = parts + tl.program_id(1).to(tl.int64) * C + c
    element: tl.constexpr = parts.dtype.element_ty
    tl.store(at, tl.sum(a.to(tl.float64), 1).to(element), mask=c < C)
    tl.store(at + tl.num_programs(1).to(tl.int64) * C, total.to(element), mask=c < C)


@kernel
def sums_joined(parts, totals, dweight, dbias, C: "i64", splits: "i64", STORE: tl.constexpr, TOTALS: tl.constexpr,
                BK: tl.constexpr, BR: tl.constexpr):
    """The sums of all splits. STORE: as the gradients dbias and dweight. TOTALS: in float64, two planes of C."""
    c = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    a = tl.zeros((BK, BR), tl.float64)
    b = tl.zeros((BK, BR), tl.float64)
    for first in range(0, splits, BR):
        r = first + tl.arange(0, BR)
        mask = (c < C)[:, None] & (r < splits)[None, :]
        at = parts + r[None, :] * C + c[:, None]
        a += tl.load(at, mask=mask, other=0).to(tl.float64)
        b += tl.load(at + splits * C, mask=mask, other=0).to(tl.float64)
    u = tl.sum(a, 1)
    v = tl.sum(b, 1)
    if STORE:
        tl.store(dbias + c, convert(u, dbias.dtype.element_ty), mask=c < C)
        tl.store(dweight + c, convert(v, dweight.dtype.element_ty), mask=c < C)
    if TOTALS:
        tl.store(totals + c, u, mask=c < C)
        tl.store(totals + C + c, v, mask=c < C)


@kernel
def group_means(totals, weight, means, rows: "i64", per: "i64", groups: "i64", count: "fp64", WEIGHT: tl.constexpr,
                BK: tl.constexpr, BR: tl.constexpr):
    """Means over groups of ``per`` channels, ``count`` elements: of w times each plane of ``totals``; two planes."""
    k = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    a = tl.zeros((BK, BR), tl.float64)
    b = tl.zeros((BK, BR), tl.float64)
    for first in range(0, per, BR):
        r = first + tl.arange(0, BR)
        mask = (k < rows)[:, None] & (r < per)[None, :]
        at = totals + k[:, None] * per + r[None, :]
        u = tl.load(at, mask=mask, other=0)
        v = tl.load(at + rows * per, mask=mask, other=0)
        if WEIGHT:
            w = tl.load(weight + (k % groups * per)[:, None] + r[None, :], mask=mask, other=0).to(tl.float64)
            u *= w
            v *= w
        a += u
        b += v
    tl.store(means + k, tl.sum(a, 1) / count, mask=k < rows)
    tl.store(means + rows + k, tl.sum(b, 1) / count, mask=k < rows)


@kernel
def gradient(dy, x, dx, mean, invstd, weight, parts, dweight, dbias, C: "i64", S: "i64", N: "i64", span: "i64",
             per: "i64", channels: "i64", splits: "i64", count: "fp64", ACC: tl.constexpr, WEIGHT: tl.constexpr,
             TRAIN: tl.constexpr, STORE: tl.constexpr, FEW: tl.constexpr, GROUPED: tl.constexpr,
             COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """dx. ``parts``: sums of dy and dy h in at most FEW splits, or with GROUPED the means u and v of each group. TRAIN:
    the statistics depend on x. STORE: write the gradients of the parameters too."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    g = c
    p = c
    if GROUPED:
        g = c // per.to(C.dtype)
        p = c % channels.to(C.dtype)
    inv = tl.load(invstd + g, mask=c < C, other=0).to(tl.float64)
    w = tl.full((BK,), 1.0, tl.float64)
    if WEIGHT:
        w = tl.load(weight + p, mask=c < C, other=0).to(tl.float64)
    if TRAIN or STORE:
        if GROUPED:
            u = tl.load(parts + g, mask=c < C, other=0)
            v = tl.load(parts + C // per.to(C.dtype) + g, mask=c < C, other=0)
        else:
            r = tl.arange(0, FEW)
            inside = (c < C)[:, None] & (r < splits)[None, :]
            at = parts + r[None, :] * C + c[:, None]
            u = tl.sum(tl.load(at, mask=inside, other=0), 1)
            v = tl.sum(tl.load(at + splits * C, mask=inside, other=0), 1)
            if STORE:
                here = c < tl.where(tl.program_id(1) == 0, C, 0)
                tl.store(dbias + c, convert(u, dbias.dtype.element_ty), mask=here)
                tl.store(dweight + c, convert(v, dweight.dtype.element_ty), mask=here)
            u *= w / count
            v *= w / count
    k = (inv * w).to(ACC)[:, None]
    if TRAIN:
        m = tl.load(mean + g, mask=c < C, other=0).to(ACC)[:, None]
        shift = (inv * u).to(ACC)[:, None]
        slope = (inv * inv * v).to(ACC)[:, None]
    for t in range(first, last):
        offset, mask, _ = spot(t, c, C, S, COLUMNS, BR)
        d = tl.load(dy + offset, mask=mask, other=0).to(ACC) * k
        if TRAIN:
            d -= shift + (tl.load(x + offset, mask=mask, other=0).to(ACC) - m) * slope
        tl.store(dx + offset, convert(d, dx.dtype.element_ty), mask=mask)


@kernel
def coefficients(mean, var, weight, bias, invstd, scale, shift, C: "i64", eps: "fp64", WEIGHT: tl.constexpr,
                 BIAS: tl.constexpr, BK: tl.constexpr):
    """invstd, scale and shift of ``x * scale + shift``."""
    c = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    inv = tl.rsqrt(tl.load(var + c, mask=c < C, other=1).to(tl.float64) + eps)
    k = inv
    if WEIGHT:
        k = inv * tl.load(weight + c, mask=c < C, other=0).to(tl.float64)
    b = -tl.load(mean + c, mask=c < C, other=0).to(tl.float64) * k
    if BIAS:
        b += tl.load(bias + c, mask=c < C, other=0).to(tl.float64)
    tl.store(invstd + c, inv, mask=c < C)
    tl.store(scale + c, k, mask=c < C)
    tl.store(shift + c, b, mask=c < C)


@kernel
def running(statistic, new, C: "i64", momentum: "fp64", BK: tl.constexpr):
    """A running statistic moved towards a new one."""
    c = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    moved(statistic, c, C, tl.load(new + c, mask=c < C, other=0).to(tl.float64), momentum)


# --- rows ---


@kernel
def rows(x, weight, bias, out, mean, rstd, R: "i64", D: "i64", each: "fp64", eps: "fp64", ACC: tl.constexpr,
         WEIGHT: tl.constexpr, BIAS: tl.constexpr, WHOLE: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr,
         BK: tl.constexpr, BR: tl.constexpr):
    """Each row of x (R, D) normalized, the parameters lying along it. WHOLE: a row fits the tile. ``each``: 1 / D."""
    R, D = sizes(R, D, False, VECTOR, LONG)
    k = tl.program_id(0).to(R.dtype) * BK + tl.arange(0, BK)
    r = tl.arange(0, BR).to(R.dtype)
    start = (k * D)[:, None]
    if WHOLE:
        mask = (k < R)[:, None] & (r < D)[None, :]
        v = tl.load(x + start + r[None, :], mask=mask, other=0).to(ACC)
        center = tl.sum(v, 1) * each.to(ACC)
        d = tl.where(mask, v - center[:, None], 0.0)
        variance = tl.sum(d * d, 1) * each.to(ACC)
    else:
        middle = tl.zeros((BK, BR), ACC)
        rest = tl.zeros((BK, BR), ACC)
        count = tl.zeros((BR,), ACC)
        for first in range(0, D, BR):
            place = first + r
            mask = (k < R)[:, None] & (place < D)[None, :]
            v = tl.load(x + start + place[None, :], mask=mask, other=0).to(ACC)
            middle, rest, count = welford(middle, rest, count, v, mask, place < D)
        wide, m2, total = joined(middle, rest, count[None, :])
        center = wide.to(ACC)
        variance = (m2 / total).to(ACC)
    inv = tl.rsqrt(variance.to(tl.float64) + eps).to(ACC)
    tl.store(mean + k, center, mask=k < R)
    tl.store(rstd + k, inv, mask=k < R)
    if WHOLE:
        y = d * inv[:, None]
        if WEIGHT:
            y *= tl.load(weight + r, mask=r < D, other=0).to(ACC)[None, :]
        if BIAS:
            y += tl.load(bias + r, mask=r < D, other=0).to(ACC)[None, :]
        tl.store(out + start + r[None, :], convert(y, out.dtype.element_ty), mask=mask)
    else:
        for first in range(0, D, BR):
            place = first + r
            mask = (k < R)[:, None] & (place < D)[None, :]
            y = (tl.load(x + start + place[None, :], mask=mask, other=0).to(ACC) - center[:, None]) * inv[:, None]
            if WEIGHT:
                y *= tl.load(weight + place, mask=place < D, other=0).to(ACC)[None, :]
            if BIAS:
                y += tl.load(bias + place, mask=place < D, other=0).to(ACC)[None, :]
            tl.store(out + start + place[None, :], convert(y, out.dtype.element_ty), mask=mask)


@kernel
def rows_gradient(dy, x, dx, mean, rstd, weight, parts, R: "i64", D: "i64", span: "i64", each: "fp64",
                  ACC: tl.constexpr, WEIGHT: tl.constexpr, WHOLE: tl.constexpr, VECTOR: tl.constexpr,
                  LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """dx of ``span`` tiles of rows. WHOLE: a row fits the tile; then also this program's sums of dy and dy h, two
    planes of (program, D)."""
    R, D = sizes(R, D, False, VECTOR, LONG)
    r = tl.arange(0, BR).to(R.dtype)
    begin = tl.program_id(0).to(R.dtype) * span.to(R.dtype)
    end = tl.minimum(begin + span.to(R.dtype), tl.cdiv(R, BK))
    if WHOLE:
        if WEIGHT:
            w = tl.load(weight + r, mask=r < D, other=0).to(ACC)[None, :]
        a = tl.zeros((BK, BR), ACC)
        b = tl.zeros((BK, BR), ACC)
        for t in range(begin, end):
            k = t * BK + tl.arange(0, BK)
            mask = (k < R)[:, None] & (r < D)[None, :]
            offset = (k * D)[:, None] + r[None, :]
            g = tl.load(dy + offset, mask=mask, other=0).to(ACC)
            inv = tl.load(rstd + k, mask=k < R, other=0)[:, None]
            h = tl.load(x + offset, mask=mask, other=0).to(ACC) - tl.load(mean + k, mask=k < R, other=0)[:, None]
            h *= inv
            a += g
            b += g * h
            if WEIGHT:
                g *= w
            u = tl.sum(g, 1) * each.to(ACC)
            v = tl.sum(tl.where(mask, g * h, 0.0), 1) * each.to(ACC)
            tl.store(dx + offset, convert((g - u[:, None] - h * v[:, None]) * inv, dx.dtype.element_ty), mask=mask)
        at = parts + tl.program_id(0).to(tl.int64) * D + r
        tl.store(at, tl.sum(a, 0), mask=r < D)
        tl.store(at + tl.num_programs(0).to(tl.int64) * D, tl.sum(b, 0), mask=r < D)
    else:
        for t in range(begin, end):
            k = t * BK + tl.arange(0, BK)
            start = (k * D)[:, None]
            inv = tl.load(rstd + k, mask=k < R, other=0)[:, None]
            center = tl.load(mean + k, mask=k < R, other=0)[:, None]
            a = tl.zeros((BK, BR), ACC)
            b = tl.zeros((BK, BR), ACC)
            for first in range(0, D, BR):
                place = first + r
                mask = (k < R)[:, None] & (place < D)[None, :]
                g = tl.load(dy + start + place[None, :], mask=mask, other=0).to(ACC)
                if WEIGHT:
                    g *= tl.load(weight + place, mask=place < D, other=0).to(ACC)[None, :]
                h = (tl.load(x + start + place[None, :], mask=mask, other=0).to(ACC) - center) * inv
                a += g
                b += g * h
            u = (tl.sum(a, 1) * each.to(ACC))[:, None]
            v = (tl.sum(b, 1) * each.to(ACC))[:, None]
            for first in range(0, D, BR):
                place = first + r
                mask = (k < R)[:, None] & (place < D)[None, :]
                g = tl.load(dy + start + place[None, :], mask=mask, other=0).to(ACC)
                if WEIGHT:
                    g *= tl.load(weight + place, mask=place < D, other=0).to(ACC)[None, :]
                h = (tl.load(x + start + place[None, :], mask=mask, other=0).to(ACC) - center) * inv
                tl.store(dx + start + place[None, :], convert((g - u - h * v) * inv, dx.dtype.element_ty), mask=mask)
