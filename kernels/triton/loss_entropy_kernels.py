"""The kernels of ``loss_entropy.py``.

    scores     for each sample k its loss, its weight, and of its scores the largest m and z = log sum exp(x - m)
    joined     the sums of all programs' losses and weights, and whether any class number is out of range
    slopes     dx[c] = g (sum_i v[i] p[c] - v[c]),  p[c] = exp(x[c] - m - z),  v what multiplies -log p in the loss

A dense x is (outer, classes, inner) as in ``softmax.py``; a program has a tile [samples, classes]. WHOLE: the classes
fit the tile; else it walks over them. SOFT: the target is probabilities, laid out like x, and not class numbers.
``keep`` and ``share`` are 1 - s and s / C of the label smoothing s (SMOOTH: it is not 0).
"""
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.loss_kernels import finish, sample, weight_of
from tritium.kernels.triton.pointwise_ops import quotient
from tritium.kernels.triton.scan import add_powers
from tritium.kernels.triton.softmax import exp_of, places
from tritium.kernels.triton.strided import convert


@triton.jit
def tile_of(start, place, inner, k, nk, n, COLUMNS: tl.constexpr):
    """(where the elements of a tile lie, which of them there are)"""
    return start[:, None] + (place * inner if COLUMNS else place)[None, :], (k < nk)[:, None] & (place < n)[None, :]


@triton.jit
def factors(target, weight, offset, inside, place, n, keep, share, ACC: tl.constexpr, SOFT: tl.constexpr,
            WEIGHED: tl.constexpr, SMOOTH: tl.constexpr):
    """What multiplies -log p in a tile; for class numbers without the class itself."""
    if SOFT:
        v = tl.load(target + offset, mask=inside, other=0).to(ACC)
        if SMOOTH:
            v = v * keep + share
    else:
        v = tl.full(inside.shape, 0, ACC) + share
    if WEIGHED:
        v = v * tl.load(weight + place, mask=place < n, other=0).to(ACC)[None, :]
    return tl.where(inside, v, 0.0)


@kernel
def scores(x, target, weight, out, weights, stats, flags, nk: "i64", n: "i64", inner: "i64", per: "i64", ignore: "i64",
           tn: "i64", ti: "i64", keep: "fp64", share: "fp64", ACC: tl.constexpr, FAST: tl.constexpr, SOFT: tl.constexpr,
           WEIGHED: tl.constexpr, SMOOTH: tl.constexpr, EACH: tl.constexpr, MEAN: tl.constexpr, WHOLE: tl.constexpr,
           COLUMNS: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """The loss of each sample (EACH), or for each program their sum and that of their weights, with MEAN the quotient
    of these; m and z as ``stats[0]`` and ``stats[1]``; ``flags``: whether a class number is out of range. ``per``:
    samples of one index n of the target."""
    k, nk, start, r, n, inner = places(nk, n, inner, COLUMNS, VECTOR, LONG, BK, BR)
    kind: tl.constexpr = k.dtype
    mask = k < nk
    keep = keep.to(ACC)
    share = share.to(ACC)
    loss = tl.zeros((BK,), ACC)
    if WHOLE:
        offset, inside = tile_of(start, r, inner, k, nk, n, COLUMNS)
        v = tl.load(x + offset, mask=inside, other=float("-inf")).to(ACC)
        top = tl.max(v, 1)
        v = v - top[:, None]
        z = libdevice.log(tl.sum(exp_of(v, FAST), 1))
        if SOFT or SMOOTH:
            f = factors(target, weight, offset, inside, r, n, keep, share, ACC, SOFT, WEIGHED, SMOOTH)
            loss = -tl.sum(tl.where(inside, f * (v - z[:, None]), 0.0), 1)
    else:
        m = tl.full((BK, BR), float("-inf"), ACC)
        s = tl.zeros((BK, BR), ACC)
        for first in range(0, n, BR):
            offset, inside = tile_of(start, first + r, inner, k, nk, n, COLUMNS)
            v = tl.load(x + offset, mask=inside, other=float("-inf")).to(ACC)
            m, s = add_powers(m, s, v, 1.0)
        top, whole = tl.reduce((m, s), 1, add_powers)
        z = libdevice.log(tl.where(top == float("inf"), float("nan"), whole))
        if SOFT or SMOOTH:
            a = tl.zeros((BK, BR), ACC)
            for first in range(0, n, BR):
                offset, inside = tile_of(start, first + r, inner, k, nk, n, COLUMNS)
                v = tl.load(x + offset, mask=inside, other=0).to(ACC) - top[:, None]
                f = factors(target, weight, offset, inside, first + r, n, keep, share, ACC, SOFT, WEIGHED, SMOOTH)
                a += tl.where(inside, f * (v - z[:, None]), 0.0)
            loss = -tl.sum(a, 1)
    if SOFT:
        loss = tl.where(mask, loss, 0.0)
        w = tl.where(mask, 1.0, 0.0).to(ACC)
        bad = tl.zeros((BK,), tl.int32)
    else:
        _, _, c = sample(target, k, per, tn, ti, mask, LONG)
        ignored = ~mask | (c == ignore)
        there = (c >= 0) & (c < n) & ~ignored
        at = start + c.to(kind) * (inner if COLUMNS else 1)
        picked = tl.load(x + at, mask=there, other=float("nan")).to(ACC) - top - z
        w = weight_of(weight, c, there, ignored, ACC, WEIGHED)
        own = tl.where((w == 0) & (there | ignored), 0.0, -picked * w)
        loss = tl.where(ignored, 0.0, own * keep + loss) if SMOOTH else own
        bad = (~there & ~ignored).to(tl.int32)
    tl.store(stats + k, top, mask=mask)
    tl.store(stats + nk + k, z, mask=mask)
    tl.store(flags + tl.program_id(0), tl.max(bad, 0))
    if EACH:
        tl.store(out + k, convert(loss, out.dtype.element_ty), mask=mask)
    else:
        finish(out + tl.program_id(0), weights + tl.program_id(0), tl.sum(loss, 0), tl.sum(w, 0), ACC, MEAN)


@kernel
def joined(parts, flags, out, whole, flag, n: "i64", MEAN: tl.constexpr, BLOCK: tl.constexpr):
    """The sums of the losses ``parts[:n]`` and of the weights behind them, and the largest flag. One program."""
    ACC: tl.constexpr = parts.dtype.element_ty
    s = tl.zeros((BLOCK,), ACC)
    v = tl.zeros((BLOCK,), ACC)
    bad = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, n, BLOCK):
        i = first + tl.arange(0, BLOCK)
        s += tl.load(parts + i, mask=i < n, other=0)
        v += tl.load(parts + n + i, mask=i < n, other=0)
        bad = tl.maximum(bad, tl.load(flags + i, mask=i < n, other=0))
    tl.store(flag, tl.max(bad, 0))
    finish(out, whole, tl.sum(s, 0), tl.sum(v, 0), ACC, MEAN)


@kernel
def slopes(g, x, target, weight, stats, whole, dx, dt, nk: "i64", n: "i64", inner: "i64", per: "i64", ignore: "i64",
           gn: "i64", gi: "i64", tn: "i64", ti: "i64", keep: "fp64", share: "fp64", scale: "fp64", ACC: tl.constexpr,
           FAST: tl.constexpr, SOFT: tl.constexpr, WEIGHED: tl.constexpr, SMOOTH: tl.constexpr, EACH: tl.constexpr,
           MEAN: tl.constexpr, BY_X: tl.constexpr, BY_T: tl.constexpr, WHOLE: tl.constexpr, COLUMNS: tl.constexpr,
           VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """The gradients of x (BY_X) and, for probabilities, of the target (BY_T). ``scale``: of the incoming gradient."""
    k, nk, start, r, n, inner = places(nk, n, inner, COLUMNS, VECTOR, LONG, BK, BR)
    kind: tl.constexpr = k.dtype
    mask = k < nk
    keep = keep.to(ACC)
    share = share.to(ACC)
    if EACH:
        gk = tl.load(g + k // per.to(kind) * gn.to(kind) + k % per.to(kind) * gi.to(kind), mask=mask, other=0).to(ACC)
    else:
        gk = tl.zeros((BK,), ACC) + tl.load(g).to(ACC)
    gk = gk * scale.to(ACC)
    if MEAN:
        gk = quotient(gk, tl.zeros((BK,), ACC) + tl.load(whole).to(ACC))
    top = tl.load(stats + k, mask=mask, other=0)
    z = tl.load(stats + nk + k, mask=mask, other=0)
    if SOFT:
        c = tl.zeros((BK,), kind)
        own = tl.zeros((BK,), ACC)
    else:
        _, _, c = sample(target, k, per, tn, ti, mask, LONG)
        ignored = ~mask | (c == ignore)
        there = (c >= 0) & (c < n) & ~ignored
        own = keep * tl.where(there, weight_of(weight, c, there, ignored, ACC, WEIGHED), 0.0)
        c = c.to(kind)
        gk = tl.where(ignored, 0.0, gk)  # it may be inf, where all are ignored
    if SOFT or SMOOTH:
        whole_v = own
        if not WHOLE:
            a = tl.zeros((BK, BR), ACC)
            for first in range(0, n, BR):
                offset, inside = tile_of(start, first + r, inner, k, nk, n, COLUMNS)
                a += factors(target, weight, offset, inside, first + r, n, keep, share, ACC, SOFT, WEIGHED, SMOOTH)
            whole_v += tl.sum(a, 1)
    else:
        whole_v = own
    for first in range(0, BR if WHOLE else n, BR):
        place = first + r
        offset, inside = tile_of(start, place, inner, k, nk, n, COLUMNS)
        v = tl.load(x + offset, mask=inside, other=0).to(ACC) - top[:, None] - z[:, None]
        if BY_X:
            d = tl.where(place[None, :] == c[:, None], -own[:, None], 0.0) if not SOFT else tl.zeros((BK, BR), ACC)
            total = whole_v
            if SOFT or SMOOTH:
                f = factors(target, weight, offset, inside, place, n, keep, share, ACC, SOFT, WEIGHED, SMOOTH)
                d -= f
                if WHOLE:
                    total += tl.sum(f, 1)
            d = (exp_of(v, FAST) * total[:, None] + d) * gk[:, None]
            tl.store(dx + offset, convert(d, dx.dtype.element_ty), mask=inside)
        if BY_T:
            d = -keep * v * gk[:, None]
            if WEIGHED:
                d *= tl.load(weight + place, mask=place < n, other=0).to(ACC)[None, :]
            tl.store(dt + offset, convert(d, dt.dtype.element_ty), mask=inside)
