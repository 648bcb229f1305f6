"""The kernels of pooling volumes: those of ``pool_kernels.py`` with one more dimension, and power pooling.

    power pooling  y = (k / d sum x^p)^(1 / p), k the elements of a window, d those of it that lie inside
    its gradient   dx = x^(p - 1) sum over windows of dy y^(1 - p) k / d, where a sum of powers is 0 nothing

An array is (B, D, H, W, C) with the channels adjacent, or PLANES of volumes, C = 1. A program has a tile [BP pixels,
BC channels] of what it writes; VECTOR is as in ``pool_kernels.py``. Sizes come as (D, H, W, OD, OH, OW), windows as
kernel, stride, padding and dilation, three numbers each.
"""
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.pool_kernels import cell, element, places
from tritium.kernels.triton.strided import convert


@triton.jit
def powered(v, p, POWER: tl.constexpr):
    """v^p. POWER: p where it is 1 or 2, else 0."""
    if POWER == 1:
        r = v
    elif POWER == 2:
        r = v * v
    else:
        r = libdevice.pow(v, tl.zeros_like(v) + p.to(v.dtype))
    return r


@triton.jit
def seen_at(x, base, d, h, w, c, mask, D, H, W, C, PLANES: tl.constexpr, VECTOR: tl.constexpr):
    """(which of the elements (d, h, w) there are, the elements)"""
    inside = (d >= 0) & (d < D) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
    seen = mask & inside[:, None]
    return seen, tl.load(x + element(base + (d * H + h) * W + w, c, C, PLANES, VECTOR), mask=seen, other=0)


@kernel
def maxima3(x, out, taps, pixels: "i64", C: "i64", D: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64", OW: "i64",
            kd: "i64", kh: "i64", kw: "i64", sd: "i64", sh: "i64", sw: "i64", pd: "i64", ph: "i64", pw: "i64",
            dd: "i64", dh: "i64", dw: "i64", ACC: tl.constexpr, LEAST: tl.constexpr, TAPS: tl.constexpr,
            PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The largest of each window, and with TAPS which tap it is: the first of the largest, the last nan."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    D = D.to(kind)
    H = H.to(kind)
    W = W.to(kind)
    plane = row // OH.to(kind)
    base = plane // OD.to(kind) * (D * H * W)
    d = plane % OD.to(kind) * sd.to(kind) - pd.to(kind)
    h = row % OH.to(kind) * sh.to(kind) - ph.to(kind)
    w = q * sw.to(kind) - pw.to(kind)
    best = tl.full((BP, BC), LEAST, ACC)
    tap = tl.full((BP, BC), -1, tl.int32)
    kh = kh.to(tl.int32)
    kw = kw.to(tl.int32)
    count = kd.to(tl.int32) * kh * kw
    for number in range(0, count):
        i = number // (kh * kw)
        j = number // kw % kh
        m = number % kw
        seen, v = seen_at(x, base, d + i * dd.to(kind), h + j * dh.to(kind), w + m * dw.to(kind), c, mask, D, H, W, C,
                          PLANES, VECTOR)
        v = convert(v, ACC)
        better = (v > best) | (tap < 0)
        if ACC.is_floating():
            better = better | (v != v)
        take = seen & better
        best = tl.where(take, v, best)
        tap = tl.where(take, number, tap)
    tl.store(out + offset, convert(best, out.dtype.element_ty), mask=mask)
    if TAPS:
        tl.store(taps + offset, tl.where(tap < 0, count, tap).to(taps.dtype.element_ty), mask=mask)


@triton.jit
def place_of(row, q, tap, OD, OH, kh, kw, sd, sh, sw, pd, ph, pw, dd, dh, dw):
    """(d, h, w) that taps read."""
    kind: tl.constexpr = tap.dtype
    d = (row // OH % OD * sd - pd).to(kind)[:, None] + tap // (kh * kw).to(kind) * dd.to(kind)
    h = (row % OH * sh - ph).to(kind)[:, None] + tap // kw.to(kind) % kh.to(kind) * dh.to(kind)
    w = (q * sw - pw).to(kind)[:, None] + tap % kw.to(kind) * dw.to(kind)
    return d, h, w


@kernel
def positions3(taps, out, pixels: "i64", C: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64", OW: "i64", kh: "i64",
               kw: "i64", sd: "i64", sh: "i64", sw: "i64", pd: "i64", ph: "i64", pw: "i64", dd: "i64", dh: "i64",
               dw: "i64", PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr,
               BC: tl.constexpr):
    """The flat position in its volume that each tap reads; ``out`` is contiguous (N, C, OD, OH, OW)."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    tap = tl.load(taps + offset, mask=mask, other=0).to(tl.int64)
    d, h, w = place_of(row.to(tl.int64), q.to(tl.int64), tap, OD, OH, kh, kw, sd, sh, sw, pd, ph, pw, dd, dh, dw)
    if PLANES:
        to = offset
    else:
        volume = OD * OH * OW
        channels = C * VECTOR
        to = (o // volume * (channels * volume) + o % volume)[:, None] + (c * volume)[None, :]
    tl.store(out + to, (d * H + h) * W + w, mask=mask)


@kernel
def gather3(x, taps, out, pixels: "i64", C: "i64", D: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64", OW: "i64",
            kd: "i64", kh: "i64", kw: "i64", sd: "i64", sh: "i64", sw: "i64", pd: "i64", ph: "i64", pw: "i64",
            dd: "i64", dh: "i64", dw: "i64", PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr,
            BP: tl.constexpr, BC: tl.constexpr):
    """x where the taps point; 0 where one points nowhere."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    tap = tl.load(taps + offset, mask=mask, other=0).to(kind)
    OD = OD.to(kind)
    OH = OH.to(kind)
    d, h, w = place_of(row, q, tap, OD, OH, kh.to(kind), kw.to(kind), sd.to(kind), sh.to(kind), sw.to(kind),
                       pd.to(kind), ph.to(kind), pw.to(kind), dd, dh, dw)
    inside = mask & (tap < (kd * kh * kw).to(kind)) & (d >= 0) & (d < D.to(kind)) & (h >= 0) & (h < H.to(kind))
    inside = inside & (w >= 0) & (w < W.to(kind))
    pixel = (row // OH // OD * (D * H * W).to(kind))[:, None] + (d * H.to(kind) + h) * W.to(kind) + w
    if PLANES:
        source = pixel
    else:
        source = pixel * (C.to(kind) * VECTOR) + c[None, :]
    tl.store(out + offset, tl.load(x + source, mask=inside, other=0), mask=mask)


@triton.jit
def length(p, n, k, s, pad, INCLUDE: tl.constexpr):
    """How much of window p along one dimension counts."""
    start = p * s - pad
    stop = tl.minimum(start + k, n + pad)
    if not INCLUDE:
        start = tl.maximum(start, 0)
        stop = tl.minimum(stop, n)
    return stop - start


@kernel
def averages3(x, out, pixels: "i64", C: "i64", D: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64", OW: "i64",
              kd: "i64", kh: "i64", kw: "i64", sd: "i64", sh: "i64", sw: "i64", pd: "i64", ph: "i64", pw: "i64",
              override: "i64", power: "fp64", root: "fp64", ACC: tl.constexpr, INCLUDE: tl.constexpr,
              NORM: tl.constexpr, POWER: tl.constexpr, PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr,
              BP: tl.constexpr, BC: tl.constexpr):
    """The average of each window, or with NORM its p-norm: ``power`` and ``root`` are p and 1 / p (see ``powered`` for
    POWER). INCLUDE: padding counts; ``override``: the divisor, if not 0."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    D = D.to(kind)
    H = H.to(kind)
    W = W.to(kind)
    kd = kd.to(kind)
    kh = kh.to(kind)
    kw = kw.to(kind)
    plane = row // OH.to(kind)
    p = row % OH.to(kind)
    t = plane % OD.to(kind)
    base = plane // OD.to(kind) * (D * H * W)
    d = t * sd.to(kind) - pd.to(kind)
    h = p * sh.to(kind) - ph.to(kind)
    w = q * sw.to(kind) - pw.to(kind)
    total = tl.zeros((BP, BC), ACC)
    for number in range(0, (kd * kh * kw).to(tl.int32)):
        i = number // (kh * kw)
        j = number // kw % kh
        m = number % kw
        seen, v = seen_at(x, base, d + i, h + j, w + m, c, mask, D, H, W, C, PLANES, VECTOR)
        v = convert(v, ACC)
        if NORM:
            v = tl.where(seen, powered(v, power, POWER), 0.0)
        total += v
    by = length(t, D, kd, sd.to(kind), pd.to(kind), INCLUDE) * length(p, H, kh, sh.to(kind), ph.to(kind), INCLUDE)
    by = by * length(q, W, kw, sw.to(kind), pw.to(kind), INCLUDE)
    by = tl.where(override != 0, override.to(kind), by).to(ACC)[:, None]
    if ACC.is_floating():
        r = total / by
    else:
        r = total // tl.where(by == 0, 1, by)
    if NORM:
        r = r * (kd * kh * kw).to(ACC)
        if POWER == 2:
            r = tl.sqrt_rn(r) if r.dtype == tl.float32 else tl.sqrt(r)
        elif POWER == 0:
            r = powered(r, root, 0)
    tl.store(out + offset, convert(r, out.dtype.element_ty), mask=mask)


@triton.jit
def share_of(y, power, root, POWER: tl.constexpr):
    """y^(1 - p), 0 where the sum of powers is 0."""
    if POWER == 1:
        r = tl.where((y < 0) | (y > 0), 1.0, 0.0).to(y.dtype)
    else:
        if POWER == 2:
            r = 1.0 / y
        else:
            r = powered(y, 1 - power, 0)
        zero = tl.where(power > 0, 0.0, float("inf")).to(y.dtype)
        r = tl.where(y == zero, 0.0, r)
    return r


@kernel
def gradient3(dy, taps, x, dx, pixels: "i64", C: "i64", D: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64", OW: "i64",
              kd: "i64", kh: "i64", kw: "i64", sd: "i64", sh: "i64", sw: "i64", pd: "i64", ph: "i64", pw: "i64",
              dd: "i64", dh: "i64", dw: "i64", override: "i64", nd: "i64", nh: "i64", nw: "i64", power: "fp64",
              ACC: tl.constexpr, HOW: tl.constexpr, INCLUDE: tl.constexpr, POWER: tl.constexpr, PLANES: tl.constexpr,
              VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The gradient of max pooling (HOW = "max"), of average pooling ("average") and of power pooling ("norm": ``taps``
    is its result). ``nd``, ``nh``, ``nw``: how many outputs read an input at most along each dimension."""
    o, row, w, c, offset, mask = places(pixels, C, W, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    D = D.to(kind)
    H = H.to(kind)
    W = W.to(kind)
    OD = OD.to(kind)
    OH = OH.to(kind)
    OW = OW.to(kind)
    kd = kd.to(kind)
    kh = kh.to(kind)
    kw = kw.to(kind)
    sd = sd.to(kind)
    sh = sh.to(kind)
    sw = sw.to(kind)
    h = row % H
    plane = row // H
    d = plane % D + pd.to(kind)
    base = plane // D * (OD * OH * OW)
    h = h + ph.to(kind)
    w = w + pw.to(kind)
    total = tl.zeros((BP, BC), ACC)
    nh = nh.to(kind)
    nw = nw.to(kind)
    for number in range(0, (nd.to(kind) * nh * nw).to(tl.int32)):
        t = d // sd - number // (nh * nw)
        p = h // sh - number // nw % nh
        q = w // sw - number % nw
        i = d - t * sd
        j = h - p * sh
        m = w - q * sw
        inside = (t >= 0) & (t < OD) & (p >= 0) & (p < OH) & (q >= 0) & (q < OW)
        if HOW == "max":
            inside = inside & (i % dd.to(kind) == 0) & (j % dh.to(kind) == 0) & (m % dw.to(kind) == 0)
            i = i // dd.to(kind)
            j = j // dh.to(kind)
            m = m // dw.to(kind)
        inside = inside & (i < kd) & (j < kh) & (m < kw)
        seen = mask & inside[:, None]
        at = element(base + (t * OH + p) * OW + q, c, C, PLANES, VECTOR)
        g = tl.load(dy + at, mask=seen, other=0).to(ACC)
        if HOW == "max":
            tap = tl.load(taps + at, mask=seen, other=0).to(tl.int32)
            g = tl.where(seen & (tap == ((i * kh + j) * kw + m).to(tl.int32)[:, None]), g, 0.0)
        else:
            by = length(t, D, kd, sd, pd.to(kind), INCLUDE) * length(p, H, kh, sh, ph.to(kind), INCLUDE)
            by = by * length(q, W, kw, sw, pw.to(kind), INCLUDE)
            by = tl.where(override != 0, override.to(kind), by)
            if HOW == "norm":
                y = tl.load(taps + at, mask=seen, other=1).to(ACC)
                g = tl.where(seen, g * share_of(y, power, 0, POWER), 0.0)
            g = g / tl.where(inside, by, 1).to(ACC)[:, None]
        total += g
    if HOW == "norm":
        total = total * (kd * kh * kw).to(ACC)
        if POWER != 1:
            v = tl.load(x + offset, mask=mask, other=0).to(ACC)
            if POWER == 2:
                total = total * v
            else:
                total = total * powered(v, power - 1, 0)
    tl.store(dx + offset, convert(total, dx.dtype.element_ty), mask=mask)


# --- adaptive ---

@kernel
def adaptive3(x, out, indices, pixels: "i64", C: "i64", D: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64", OW: "i64",
              nd: "i64", nh: "i64", nw: "i64", ACC: tl.constexpr, MAX: tl.constexpr, PLANES: tl.constexpr,
              VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The average of each cell, or with MAX its largest and where that is in its volume. ``nd``, ``nh``, ``nw``: the
    size of the largest cell."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    D = D.to(kind)
    H = H.to(kind)
    W = W.to(kind)
    plane = row // OH.to(kind)
    base = plane // OD.to(kind) * (D * H * W)
    front, back = cell(plane % OD.to(kind), D, OD.to(kind))
    top, bottom = cell(row % OH.to(kind), H, OH.to(kind))
    left, right = cell(q, W, OW.to(kind))
    best = tl.full((BP, BC), float("-inf") if MAX else 0.0, ACC)
    at = tl.full((BP, BC), -1, tl.int64)
    nh = nh.to(kind)
    nw = nw.to(kind)
    for number in range(0, (nd.to(kind) * nh * nw).to(tl.int32)):
        d = front + number // (nh * nw)
        h = top + number // nw % nh
        w = left + number % nw
        seen = mask & ((d < back) & (h < bottom) & (w < right))[:, None]
        pixel = (d * H + h) * W + w
        v = tl.load(x + element(base + pixel, c, C, PLANES, VECTOR), mask=seen, other=0).to(ACC)
        if MAX:
            take = seen & ((v > best) | (at < 0) | (v != v))
            best = tl.where(take, v, best)
            at = tl.where(take, pixel.to(tl.int64)[:, None], at)
        else:
            best += v
    if MAX:
        tl.store(indices + offset, at, mask=mask)
    else:
        best = best * (1.0 / ((back - front) * (bottom - top) * (right - left)).to(ACC))[:, None]
    tl.store(out + offset, convert(best, out.dtype.element_ty), mask=mask)


@kernel
def adaptive_gradient3(dy, indices, dx, pixels: "i64", C: "i64", D: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64",
                       OW: "i64", nd: "i64", nh: "i64", nw: "i64", ACC: tl.constexpr, MAX: tl.constexpr,
                       PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr,
                       BC: tl.constexpr):
    """The gradient of ``adaptive3``. ``nd``, ``nh``, ``nw``: how many cells an input is in at most along each
    dimension."""
    o, row, w, c, offset, mask = places(pixels, C, W, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    D = D.to(kind)
    H = H.to(kind)
    W = W.to(kind)
    OD = OD.to(kind)
    OH = OH.to(kind)
    OW = OW.to(kind)
    h = row % H
    d = row // H % D
    base = row // H // D * (OD * OH * OW)
    total = tl.zeros((BP, BC), ACC)
    nh = nh.to(kind)
    nw = nw.to(kind)
    for number in range(0, (nd.to(kind) * nh * nw).to(tl.int32)):
        t = d * OD // D + number // (nh * nw)
        p = h * OH // H + number // nw % nh
        q = w * OW // W + number % nw
        front, back = cell(t, D, OD)
        top, bottom = cell(p, H, OH)
        left, right = cell(q, W, OW)
        inside = (t < OD) & (p < OH) & (q < OW) & (front <= d) & (d < back) & (top <= h) & (h < bottom)
        inside = inside & (left <= w) & (w < right)
        seen = mask & inside[:, None]
        offsets = element(base + (t * OH + p) * OW + q, c, C, PLANES, VECTOR)
        g = tl.load(dy + offsets, mask=seen, other=0).to(ACC)
        if MAX:
            at = tl.load(indices + offsets, mask=seen, other=-1)
            g = tl.where(at == ((d * H + h) * W + w).to(tl.int64)[:, None], g, 0.0)
        else:
            volume = tl.where(inside, (back - front) * (bottom - top) * (right - left), 1)
            g = g * (1.0 / volume.to(ACC))[:, None]
        total += g
    tl.store(dx + offset, convert(total, dx.dtype.element_ty), mask=mask)
