"""The kernels of the normalizations of channels and groups of channels; those of rows are in ``norm_row_kernels``.

    y  = act((x - mean) invstd w + b + residual)    mean, invstd: of a channel or a group of channels
    dz = dy where act passes it
    dx = invstd (w dz - u - h v)                    h = (x - mean) invstd, u = mean of w dz, v = mean of w dz h
    dw = sum dz h,  db = sum dz,  dresidual = dz

What act passes is told by y, or where nothing is added by the normalization taken again (TOLD: "y" or "x").

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
def welford(mean, rest, x, mask, inverse):
    """Elements added to the mean and squared deviation of their places; ``inverse``: 1 / how many each place has now,
    this one included."""
    d = tl.where(mask, x - mean, 0.0)
    mean += d * inverse
    return mean, rest + d * (x - mean)


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
def activated(x, ACT: tl.constexpr):
    """The activation: "relu", "relu6", or "" for none. nan stays."""
    if ACT == "relu":
        x = tl.where(x < 0, 0.0, x)
    if ACT == "relu6":
        x = tl.where(x < 0, 0.0, tl.where(x > 6, 6.0, x))
    return x


@triton.jit
def passed(d, z, ACT: tl.constexpr):
    """The gradient where the activation of z passes it, else 0. nan passes it."""
    if ACT == "relu":
        d = tl.where(z <= 0, 0.0, d)
    if ACT == "relu6":
        d = tl.where((z <= 0) | (z >= 6), 0.0, d)
    return d


@triton.jit
def deviation(scale, at, mask, eps, VAR: tl.constexpr):
    """1 / the standard deviation, float64: as it is, or of a variance."""
    k = tl.load(scale + at, mask=mask, other=1).to(tl.float64)
    if VAR:
        k = tl.rsqrt(k + eps)
    return k


@triton.jit
def statistics(c, C, center, rest, total, mean, invstd, var, running_mean, running_var, counter, eps, momentum, factor,
               RUN_MEAN: tl.constexpr, RUN_VAR: tl.constexpr, VAR: tl.constexpr, COUNT: tl.constexpr):
    """Store what is wanted of the channels' statistics, move the running ones, and count the batch."""
    variance = rest / total
    tl.store(mean + c, convert(center, mean.dtype.element_ty), mask=c < C)
    tl.store(invstd + c, convert(tl.rsqrt(variance + eps), invstd.dtype.element_ty), mask=c < C)
    if VAR:
        tl.store(var + c, convert(variance, var.dtype.element_ty), mask=c < C)
    if RUN_MEAN:
        moved(running_mean, c, C, center, momentum)
    if RUN_VAR:
        moved(running_var, c, C, variance * factor, momentum)
    if COUNT:
        here = tl.program_id(0) == 0
        tl.store(counter, tl.load(counter, mask=here, other=0) + 1, mask=here)


@triton.jit
def moved(running, c, C, new, momentum):
    """``running = (1 - momentum) * running + momentum * new``."""
    old = tl.load(running + c, mask=c < C, other=0).to(tl.float64)
    tl.store(running + c, convert((1.0 - momentum) * old + momentum * new, running.dtype.element_ty), mask=c < C)


@kernel
def moments(x, parts, mean, invstd, var, running_mean, running_var, counter, C: "i64", S: "i64", N: "i64", span: "i64",
            eps: "fp64", momentum: "fp64", factor: "fp64", ACC: tl.constexpr, PART: tl.constexpr,
            RUN_MEAN: tl.constexpr, RUN_VAR: tl.constexpr, VAR: tl.constexpr, COUNT: tl.constexpr,
            COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """Statistics of the channels. PART: mean, squared deviation and count of this split, three planes of (split, C).

    How many elements a place has is told by two numbers: of those in every block, and of those beyond the last one."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    blocks = tl.cdiv(S, BR)
    always = tl.arange(0, BR) < S - (blocks - 1) * BR
    center = tl.zeros((BK, BR), ACC)
    rest = tl.zeros((BK, BR), ACC)
    for t in range(first, last):
        offset, mask, _ = spot(t, c, C, S, COLUMNS, BR)
        v = tl.load(x + offset, mask=mask, other=0).to(ACC)
        many = t + 1 - first
        if COLUMNS:
            few = many - (t == blocks - 1).to(C.dtype)
        else:
            few = many - (t // blocks - first // blocks + (t % blocks == blocks - 1).to(C.dtype))
        inverse = tl.where(always, 1.0 / many.to(ACC), 1.0 / tl.maximum(few, 1).to(ACC))
        center, rest = welford(center, rest, v, mask, inverse[None, :])
    many = last - first
    count = tl.where(always, many, many - (last // blocks - first // blocks)).to(ACC)
    m, m2, total = joined(center, rest, count[None, :])
    if PART:
        at = parts + tl.program_id(1).to(tl.int64) * C + c
        plane = tl.num_programs(1).to(tl.int64) * C
        tl.store(at, m, mask=c < C)
        tl.store(at + plane, m2, mask=c < C)
        tl.store(at + 2 * plane, total, mask=c < C)
    else:
        statistics(c, C, m, m2, total, mean, invstd, var, running_mean, running_var, counter, eps, momentum, factor,
                   RUN_MEAN, RUN_VAR, VAR, COUNT)


@kernel
def moments_joined(parts, mean, invstd, var, running_mean, running_var, counter, C: "i64", splits: "i64", eps: "fp64",
                   momentum: "fp64", factor: "fp64", RUN_MEAN: tl.constexpr, RUN_VAR: tl.constexpr,
                   VAR: tl.constexpr, COUNT: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """Statistics of the channels from those of all splits; BR >= splits."""
    c = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    r = tl.arange(0, BR)
    mask = (c < C)[:, None] & (r < splits)[None, :]
    at = parts + r[None, :] * C + c[:, None]
    center = tl.load(at, mask=mask, other=0)
    rest = tl.load(at + splits * C, mask=mask, other=0)
    count = tl.load(at + 2 * splits * C, mask=mask, other=0)
    m, m2, total = joined(center, rest, count)
    statistics(c, C, m, m2, total, mean, invstd, var, running_mean, running_var, counter, eps, momentum, factor,
               RUN_MEAN, RUN_VAR, VAR, COUNT)


@kernel
def apply(x, out, residual, mean, scale, weight, bias, C: "i64", S: "i64", N: "i64", span: "i64", per: "i64",
          channels: "i64", eps: "fp64", ACC: tl.constexpr, MODE: tl.constexpr, WEIGHT: tl.constexpr,
          BIAS: tl.constexpr, RESIDUAL: tl.constexpr, ACT: tl.constexpr, GROUPED: tl.constexpr, COLUMNS: tl.constexpr,
          VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """``act((x - mean) * k + bias + residual)``, k = scale * weight. MODE: "invstd" (scale is that), "var" (scale is
    the variance), "plain" (``x * scale + bias``). GROUPED: run c has the statistics c // per and the parameters c %
    channels."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    g = c
    p = c
    if GROUPED:
        g = c // per.to(C.dtype)
        p = c % channels.to(C.dtype)
    k = deviation(scale, g, c < C, eps, MODE == "var")
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
        if RESIDUAL:
            v += tl.load(residual + offset, mask=mask, other=0).to(ACC)
        tl.store(out + offset, convert(activated(v, ACT), out.dtype.element_ty), mask=mask)


@kernel
def sums(dy, x, y, dz, mean, invstd, weight, bias, parts, C: "i64", S: "i64", N: "i64", span: "i64", per: "i64",
         eps: "fp64", ACC: tl.constexpr, VAR: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr,
         ACT: tl.constexpr, TOLD: tl.constexpr, DZ: tl.constexpr, GROUPED: tl.constexpr, ROWS: tl.constexpr,
         COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """sum dz and sum dz h of the channels in this split: two planes of (split, C). DZ: store dz as well. VAR: invstd is
    the variance. GROUPED as in ``apply``. ROWS: the statistics are those of the rows, not of the channels (COLUMNS);
    "rms": there is no mean, and of the sums the second alone."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    if ROWS == "":
        g = c
        if GROUPED:
            g = c // per.to(C.dtype)
        m = tl.load(mean + g, mask=c < C, other=0).to(ACC)[:, None]
        inv = deviation(invstd, g, c < C, eps, VAR)
    if TOLD == "x":
        k = inv
        if WEIGHT:
            k *= tl.load(weight + c, mask=c < C, other=0).to(tl.float64)
        k = k.to(ACC)[:, None]
        if BIAS:
            shift = tl.load(bias + c, mask=c < C, other=0).to(ACC)[:, None]
    a = tl.zeros((BK, BR), ACC)
    b = tl.zeros((BK, BR), ACC)
    for t in range(first, last):
        offset, mask, place = spot(t, c, C, S, COLUMNS, BR)
        d = tl.load(dy + offset, mask=mask, other=0).to(ACC)
        v = tl.load(x + offset, mask=mask, other=0).to(ACC)
        if ROWS == "":
            h = v - m
        elif ROWS == "rms":
            h = v * tl.load(invstd + place, mask=place < S, other=0).to(ACC)[None, :]
        else:
            h = v - tl.load(mean + place, mask=place < S, other=0).to(ACC)[None, :]
            h *= tl.load(invstd + place, mask=place < S, other=0).to(ACC)[None, :]
        if TOLD == "x":
            z = h * k
            if BIAS:
                z += shift
            d = passed(d, z, ACT)
        if TOLD == "y":
            d = passed(d, tl.load(y + offset, mask=mask, other=0).to(ACC), ACT)
        if DZ:
            tl.store(dz + offset, convert(d, dz.dtype.element_ty), mask=mask)
        if ROWS != "rms":
            a += d
        b += d * h
    total = tl.sum(b.to(tl.float64), 1)
    if ROWS == "":
        total *= inv
    at = parts + tl.program_id(1).to(tl.int64) * C + c
    element: tl.constexpr = parts.dtype.element_ty
    if ROWS != "rms":
        tl.store(at, tl.sum(a.to(tl.float64), 1).to(element), mask=c < C)
    tl.store(at + tl.num_programs(1).to(tl.int64) * C, total.to(element), mask=c < C)


@kernel
def sums_joined(parts, totals, dweight, dbias, C: "i64", splits: "i64", STORE: tl.constexpr, BOTH: tl.constexpr,
                TOTALS: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """The sums of all splits. STORE: as the gradients dbias (if BOTH) and dweight. TOTALS: in float64, two planes of
    C."""
    c = tl.program_id(0).to(tl.int64) * BK + tl.arange(0, BK)
    a = tl.zeros((BK, BR), tl.float64)
    b = tl.zeros((BK, BR), tl.float64)
    for first in range(0, splits, BR):
        r = first + tl.arange(0, BR)
        mask = (c < C)[:, None] & (r < splits)[None, :]
        at = parts + r[None, :] * C + c[:, None]
        if BOTH:
            a += tl.load(at, mask=mask, other=0).to(tl.float64)
        b += tl.load(at + splits * C, mask=mask, other=0).to(tl.float64)
    u = tl.sum(a, 1)
    v = tl.sum(b, 1)
    if STORE:
        if BOTH:
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
def gradient(dy, x, y, dx, dz, mean, invstd, weight, bias, parts, dweight, dbias, C: "i64", S: "i64", N: "i64",
             span: "i64", per: "i64", channels: "i64", splits: "i64", count: "fp64", eps: "fp64", ACC: tl.constexpr,
             VAR: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, ACT: tl.constexpr, TOLD: tl.constexpr,
             DZ: tl.constexpr, TRAIN: tl.constexpr, STORE: tl.constexpr, FEW: tl.constexpr, GROUPED: tl.constexpr,
             COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """dx. ``parts``: sums of dz and dz h in at most FEW splits, or with GROUPED the means u and v of each group. TRAIN:
    the statistics depend on x. STORE: write the gradients of the parameters too; DZ: that of the residual. VAR: invstd
    is the variance."""
    C, S = sizes(C, S, COLUMNS, VECTOR, LONG)
    c = tl.program_id(0).to(C.dtype) * BK + tl.arange(0, BK)
    first, last = walk(C, S, N, span, BR)
    g = c
    p = c
    if GROUPED:
        g = c // per.to(C.dtype)
        p = c % channels.to(C.dtype)
    inv = deviation(invstd, g, c < C, eps, VAR)
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
    if TRAIN or TOLD == "x":
        m = tl.load(mean + g, mask=c < C, other=0).to(ACC)[:, None]
    if TRAIN:
        shift = (inv * u).to(ACC)[:, None]
        slope = (inv * inv * v).to(ACC)[:, None]
    if TOLD == "x" and BIAS:
        b = tl.load(bias + p, mask=c < C, other=0).to(ACC)[:, None]
    for t in range(first, last):
        offset, mask, _ = spot(t, c, C, S, COLUMNS, BR)
        d = tl.load(dy + offset, mask=mask, other=0).to(ACC)
        if TRAIN or TOLD == "x":
            h = tl.load(x + offset, mask=mask, other=0).to(ACC) - m
        if TOLD == "x":
            z = h * k
            if BIAS:
                z += b
            d = passed(d, z, ACT)
        if TOLD == "y":
            d = passed(d, tl.load(y + offset, mask=mask, other=0).to(ACC), ACT)
        if DZ:
            tl.store(dz + offset, convert(d, dz.dtype.element_ty), mask=mask)
        d *= k
        if TRAIN:
            d -= shift + h * slope
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
