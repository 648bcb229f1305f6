"""The kernels of the norms of rows: layer norm, and the root-mean-square norm (RMS), which subtracts nothing.

    y  = (x - mean) rstd w + b                   rstd = 1 / sqrt(var + eps);  RMS: mean = 0, var = mean of x^2
    dx = rstd (w dy - u - h v)                   h = (x - mean) rstd, u = mean of w dy (RMS: 0), v = mean of w dy h
    dw = sum dy h,  db = sum dy

A row that fits a tile is read once; longer ones are walked along twice, with Welford's mean and squared deviation (see
``norm_kernels``). The backward kernel also sums dw and db over its rows, where a row fits the tile.
"""
from __future__ import annotations

import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.norm_kernels import joined, sizes, welford
from tritium.kernels.triton.strided import convert


@kernel
def rows(x, weight, bias, out, mean, rstd, R: "i64", D: "i64", each: "fp64", eps: "fp64", ACC: tl.constexpr,
         RMS: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, WHOLE: tl.constexpr, VECTOR: tl.constexpr,
         LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """Each row of x (R, D) normalized, the parameters lying along it. WHOLE: a row fits the tile. ``each``: 1 / D.
    RMS: nothing is subtracted."""
    R, D = sizes(R, D, False, VECTOR, LONG)
    k = tl.program_id(0).to(R.dtype) * BK + tl.arange(0, BK)
    r = tl.arange(0, BR).to(R.dtype)
    start = (k * D)[:, None]
    if WHOLE:
        mask = (k < R)[:, None] & (r < D)[None, :]
        v = tl.load(x + start + r[None, :], mask=mask, other=0).to(ACC)
        d = v
        if not RMS:
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
            if RMS:
                rest += v * v
            else:
                count += (place < D).to(ACC)
                middle, rest = welford(middle, rest, v, mask, (1.0 / tl.maximum(count, 1.0))[None, :])
        if RMS:
            variance = tl.sum(rest, 1) * each.to(ACC)
        else:
            wide, m2, total = joined(middle, rest, count[None, :])
            center = wide.to(ACC)
            variance = (m2 / total).to(ACC)
    inv = tl.rsqrt(variance.to(tl.float64) + eps).to(ACC)
    if not RMS:
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
            y = tl.load(x + start + place[None, :], mask=mask, other=0).to(ACC)
            if not RMS:
                y -= center[:, None]
            y *= inv[:, None]
            if WEIGHT:
                y *= tl.load(weight + place, mask=place < D, other=0).to(ACC)[None, :]
            if BIAS:
                y += tl.load(bias + place, mask=place < D, other=0).to(ACC)[None, :]
            tl.store(out + start + place[None, :], convert(y, out.dtype.element_ty), mask=mask)


@kernel
def rows_gradient(dy, x, dx, mean, rstd, weight, parts, R: "i64", D: "i64", span: "i64", each: "fp64",
                  ACC: tl.constexpr, RMS: tl.constexpr, WEIGHT: tl.constexpr, WHOLE: tl.constexpr,
                  VECTOR: tl.constexpr, LONG: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr):
    """dx of ``span`` tiles of rows. WHOLE: a row fits the tile; then also this program's sums of dy and dy h, two
    planes of (program, D). RMS: h = x rstd, and of the sums the second alone."""
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
            h = tl.load(x + offset, mask=mask, other=0).to(ACC)
            if not RMS:
                h -= tl.load(mean + k, mask=k < R, other=0)[:, None]
                a += g
            h *= inv
            b += g * h
            if WEIGHT:
                g *= w
            v = tl.sum(tl.where(mask, g * h, 0.0), 1) * each.to(ACC)
            if not RMS:
                g -= (tl.sum(g, 1) * each.to(ACC))[:, None]
            tl.store(dx + offset, convert((g - h * v[:, None]) * inv, dx.dtype.element_ty), mask=mask)
        at = parts + tl.program_id(0).to(tl.int64) * D + r
        if not RMS:
            tl.store(at, tl.sum(a, 0), mask=r < D)
        tl.store(at + tl.num_programs(0).to(tl.int64) * D, tl.sum(b, 0), mask=r < D)
    else:
        for t in range(begin, end):
            k = t * BK + tl.arange(0, BK)
            start = (k * D)[:, None]
            inv = tl.load(rstd + k, mask=k < R, other=0)[:, None]
            center = tl.zeros((BK, 1), ACC)
            if not RMS:
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
                if not RMS:
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
