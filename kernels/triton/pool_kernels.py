"""The kernels of pooling. Along one dimension, tap i of output p reads input p * stride - padding + i * dilation.

    max       out[p] = x at the best tap; taps[p] = which one: the first of the largest, the last nan
    average   out[p] = sum of x at the taps / divisor[p]
    adaptive  output p covers the inputs floor(p n / m) .. ceil((p + 1) n / m), n inputs, m outputs

Backward each input gathers from the outputs that read it, in a fixed order: nothing is added by two programs. Those of
input h are p = floor((h + padding) / stride) - a, a = 0, 1, ..., as far as the tap (h + padding - p stride) / dilation
exists.

An array is (B, H, W, C) with the channels adjacent, or PLANES of images: (B, H, W) with C = 1. A program has a tile
[BP pixels, BC channels] of what it writes. VECTOR: C (or with PLANES the number of pixels) is a multiple of it and
passed divided by it. 16-bit floats are computed in float32 and rounded once.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.strided import convert


@triton.jit
def places(pixels, C, OW, PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr,
           BC: tl.constexpr):
    """(pixels, the image row of each, its column, channels, where they lie, mask) of a program's tile."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    o = tl.program_id(0).to(kind) * BP + tl.arange(0, BP)
    c = tl.program_id(1).to(kind) * BC + tl.arange(0, BC)
    if PLANES:
        mask = (o < pixels.to(kind) * VECTOR)[:, None] & (c < 1)[None, :]
        offset = o[:, None] + c[None, :]
    else:
        C = C.to(kind) * VECTOR
        mask = (o < pixels.to(kind))[:, None] & (c < C)[None, :]
        offset = (o * C)[:, None] + c[None, :]
    return o, o // OW.to(kind), o % OW.to(kind), c, offset, mask


@triton.jit
def element(pixel, c, C, PLANES: tl.constexpr, VECTOR: tl.constexpr):
    """Where the channels of pixels lie."""
    if PLANES:
        offset = pixel[:, None] + c[None, :]
    else:
        offset = (pixel * (C.to(pixel.dtype) * VECTOR))[:, None] + c[None, :]
    return offset


@triton.jit
def candidate(x, best, tap, number, base, h, w, c, mask, H, W, C, ACC: tl.constexpr, PLANES: tl.constexpr,
              VECTOR: tl.constexpr):
    """The best so far and its number, after the element (h, w) of an image."""
    inside = (h >= 0) & (h < H) & (w >= 0) & (w < W)
    seen = mask & inside[:, None]
    v = convert(tl.load(x + element(base + h * W + w, c, C, PLANES, VECTOR), mask=seen, other=0), ACC)
    better = (v > best) | (tap < 0)
    if ACC.is_floating():
        better = better | (v != v)
    take = seen & better
    return tl.where(take, v, best), tl.where(take, number, tap)


@kernel
def maxima(x, out, taps, pixels: "i64", C: "i64", H: "i64", W: "i64", OH: "i64", OW: "i64", kh: "i64", kw: "i64",
           sh: "i64", sw: "i64", ph: "i64", pw: "i64", dh: "i64", dw: "i64", ACC: tl.constexpr, LEAST: tl.constexpr,
           VALUES: tl.constexpr, TAPS: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, PLANES: tl.constexpr,
           VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The largest of each window, and which tap it is. KH, KW: the size of the window where it is small, else 0."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    H = H.to(o.dtype)
    W = W.to(o.dtype)
    base = row // OH.to(o.dtype) * (H * W)
    h = row % OH.to(o.dtype) * sh.to(o.dtype) - ph.to(o.dtype)
    w = q * sw.to(o.dtype) - pw.to(o.dtype)
    dh = dh.to(o.dtype)
    dw = dw.to(o.dtype)
    best = tl.full((BP, BC), LEAST, ACC)
    tap = tl.full((BP, BC), -1, tl.int32)
    if KH > 0:
        for i in tl.static_range(KH):
            for j in tl.static_range(KW):
                best, tap = candidate(x, best, tap, i * KW + j, base, h + i * dh, w + j * dw, c, mask, H, W, C, ACC,
                                      PLANES, VECTOR)
    else:
        kh = kh.to(tl.int32)
        kw = kw.to(tl.int32)
        for i in range(0, kh):
            for j in range(0, kw):
                best, tap = candidate(x, best, tap, i * kw + j, base, h + i * dh, w + j * dw, c, mask, H, W, C, ACC,
                                      PLANES, VECTOR)
    if VALUES:
        tl.store(out + offset, convert(best, out.dtype.element_ty), mask=mask)
    if TAPS:
        number = tl.where(tap < 0, (kh * kw).to(tl.int32), tap)
        tl.store(taps + offset, number.to(taps.dtype.element_ty), mask=mask)


@kernel
def positions(taps, out, pixels: "i64", C: "i64", W: "i64", OH: "i64", OW: "i64", kw: "i64", sh: "i64", sw: "i64",
              ph: "i64", pw: "i64", dh: "i64", dw: "i64", PLANES: tl.constexpr, VECTOR: tl.constexpr,
              LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The flat position in its plane that each tap reads; ``out`` is contiguous (N, C, OH, OW)."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    tap = tl.load(taps + offset, mask=mask, other=0).to(tl.int64)
    p = (row % OH.to(o.dtype)).to(tl.int64)
    h = (p * sh - ph)[:, None] + tap // kw * dh
    w = (q.to(tl.int64) * sw - pw)[:, None] + tap % kw * dw
    if PLANES:
        to = offset
    else:
        plane = OH * OW
        channels = C * VECTOR
        to = (o // plane * (channels * plane) + o % plane)[:, None] + (c * plane)[None, :]
    tl.store(out + to, h * W + w, mask=mask)


@kernel
def gather(x, taps, out, pixels: "i64", C: "i64", H: "i64", W: "i64", OH: "i64", OW: "i64", kh: "i64", kw: "i64",
           sh: "i64", sw: "i64", ph: "i64", pw: "i64", dh: "i64", dw: "i64", PLANES: tl.constexpr,
           VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """x where the taps point; 0 where one points nowhere."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    tap = tl.load(taps + offset, mask=mask, other=0).to(kind)
    h = (row % OH.to(kind) * sh.to(kind) - ph.to(kind))[:, None] + tap // kw.to(kind) * dh.to(kind)
    w = (q * sw.to(kind) - pw.to(kind))[:, None] + tap % kw.to(kind) * dw.to(kind)
    inside = mask & (tap < (kh * kw).to(kind)) & (h >= 0) & (h < H.to(kind)) & (w >= 0) & (w < W.to(kind))
    pixel = (row // OH.to(kind) * (H * W).to(kind))[:, None] + h * W.to(kind) + w
    if PLANES:
        source = pixel
    else:
        source = pixel * (C.to(kind) * VECTOR) + c[None, :]
    tl.store(out + offset, tl.load(x + source, mask=inside, other=0), mask=mask)


@triton.jit
def divisor(p, q, H, W, kh, kw, sh, sw, ph, pw, override, INCLUDE: tl.constexpr):
    """What the sum of window (p, q) is divided by."""
    top = p * sh - ph
    left = q * sw - pw
    bottom = tl.minimum(top + kh, H + ph)
    right = tl.minimum(left + kw, W + pw)
    if not INCLUDE:
        top = tl.maximum(top, 0)
        left = tl.maximum(left, 0)
        bottom = tl.minimum(bottom, H)
        right = tl.minimum(right, W)
    return tl.where(override != 0, override.to(p.dtype), (bottom - top) * (right - left))


@triton.jit
def added(x, total, base, h, w, c, mask, H, W, C, PLANES: tl.constexpr, VECTOR: tl.constexpr):
    """A sum, after the element (h, w) of an image."""
    inside = (h >= 0) & (h < H) & (w >= 0) & (w < W)
    seen = mask & inside[:, None]
    v = tl.load(x + element(base + h * W + w, c, C, PLANES, VECTOR), mask=seen, other=0)
    return total + convert(v, total.dtype)


@kernel
def averages(x, out, pixels: "i64", C: "i64", H: "i64", W: "i64", OH: "i64", OW: "i64", kh: "i64", kw: "i64",
             sh: "i64", sw: "i64", ph: "i64", pw: "i64", override: "i64", ACC: tl.constexpr, INCLUDE: tl.constexpr,
             KH: tl.constexpr, KW: tl.constexpr, PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr,
             BP: tl.constexpr, BC: tl.constexpr):
    """The average of each window. INCLUDE: padding counts; ``override``: the divisor, if not 0."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    H = H.to(kind)
    W = W.to(kind)
    p = row % OH.to(kind)
    base = row // OH.to(kind) * (H * W)
    h = p * sh.to(kind) - ph.to(kind)
    w = q * sw.to(kind) - pw.to(kind)
    total = tl.zeros((BP, BC), ACC)
    if KH > 0:
        for i in tl.static_range(KH):
            for j in tl.static_range(KW):
                total = added(x, total, base, h + i, w + j, c, mask, H, W, C, PLANES, VECTOR)
    else:
        for i in range(0, kh.to(tl.int32)):
            for j in range(0, kw.to(tl.int32)):
                total = added(x, total, base, h + i, w + j, c, mask, H, W, C, PLANES, VECTOR)
    by = divisor(p, q, H, W, kh.to(kind), kw.to(kind), sh.to(kind), sw.to(kind), ph.to(kind), pw.to(kind), override,
                 INCLUDE).to(ACC)[:, None]
    if ACC.is_floating():
        r = total / by
    else:
        r = total // tl.where(by == 0, 1, by)
    tl.store(out + offset, convert(r, out.dtype.element_ty), mask=mask)


@triton.jit
def received(dy, taps, total, a, b, h, w, base, c, mask, H, W, OH, OW, C, kh, kw, sh, sw, ph, pw, dh, dw, override,
             MAX: tl.constexpr, INCLUDE: tl.constexpr, DILATED: tl.constexpr, PLANES: tl.constexpr,
             VECTOR: tl.constexpr):
    """The gradient of the elements (h, w), after the outputs that lie a and b before the last that read them."""
    p = (h + ph) // sh - a
    q = (w + pw) // sw - b
    i = h + ph - p * sh
    j = w + pw - q * sw
    inside = (p >= 0) & (p < OH) & (q >= 0) & (q < OW)
    if DILATED:
        inside = inside & (i % dh == 0) & (j % dw == 0)
        i = i // dh
        j = j // dw
    inside = inside & (i < kh) & (j < kw)
    seen = mask & inside[:, None]
    offset = element(base + p * OW + q, c, C, PLANES, VECTOR)
    d = tl.load(dy + offset, mask=seen, other=0).to(total.dtype)
    if MAX:
        tap = tl.load(taps + offset, mask=seen, other=0).to(tl.int32)
        d = tl.where(seen & (tap == (i * kw + j).to(tl.int32)[:, None]), d, 0.0)
    else:
        by = tl.where(inside, divisor(p, q, H, W, kh, kw, sh, sw, ph, pw, override, INCLUDE), 1)
        d = d / by.to(total.dtype)[:, None]
    return total + d


@kernel
def gradient(dy, taps, dx, pixels: "i64", C: "i64", H: "i64", W: "i64", OH: "i64", OW: "i64", kh: "i64", kw: "i64",
             sh: "i64", sw: "i64", ph: "i64", pw: "i64", dh: "i64", dw: "i64", override: "i64", nh: "i64", nw: "i64",
             ACC: tl.constexpr, MAX: tl.constexpr, INCLUDE: tl.constexpr, DILATED: tl.constexpr, NH: tl.constexpr,
             NW: tl.constexpr, PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr,
             BC: tl.constexpr):
    """The gradient of max pooling (MAX) and of average pooling. ``nh``, ``nw``: how many outputs read an input at most
    along each dimension; NH, NW: the same where they are small, else 0."""
    o, row, w, c, offset, mask = places(pixels, C, W, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    H = H.to(kind)
    W = W.to(kind)
    OH = OH.to(kind)
    OW = OW.to(kind)
    kh = kh.to(kind)
    kw = kw.to(kind)
    sh = sh.to(kind)
    sw = sw.to(kind)
    ph = ph.to(kind)
    pw = pw.to(kind)
    dh = dh.to(kind)
    dw = dw.to(kind)
    h = row % H
    base = row // H * (OH * OW)
    total = tl.zeros((BP, BC), ACC)
    if NH > 0:
        for a in tl.static_range(NH):
            for b in tl.static_range(NW):
                total = received(dy, taps, total, a, b, h, w, base, c, mask, H, W, OH, OW, C, kh, kw, sh, sw, ph, pw,
                                 dh, dw, override, MAX, INCLUDE, DILATED, PLANES, VECTOR)
    else:
        for a in range(0, nh.to(tl.int32)):
            for b in range(0, nw.to(tl.int32)):
                total = received(dy, taps, total, a, b, h, w, base, c, mask, H, W, OH, OW, C, kh, kw, sh, sw, ph, pw,
                                 dh, dw, override, MAX, INCLUDE, DILATED, PLANES, VECTOR)
    tl.store(dx + offset, convert(total, dx.dtype.element_ty), mask=mask)


# --- adaptive ---


@triton.jit
def cell(i, n, m):
    """The stretch of n inputs that output i of m covers."""
    return i * n // m, ((i + 1) * n + m - 1) // m


@kernel
def adaptive(x, out, indices, pixels: "i64", C: "i64", H: "i64", W: "i64", OH: "i64", OW: "i64", nh: "i64", nw: "i64",
             ACC: tl.constexpr, MAX: tl.constexpr, PLANES: tl.constexpr, VECTOR: tl.constexpr, LONG: tl.constexpr,
             BP: tl.constexpr, BC: tl.constexpr):
    """The average of each cell, or with MAX its largest and where that is in its plane. ``nh``, ``nw``: the size of the
    largest cell."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    H = H.to(kind)
    W = W.to(kind)
    p = row % OH.to(kind)
    base = row // OH.to(kind) * (H * W)
    top, bottom = cell(p, H, OH.to(kind))
    left, right = cell(q, W, OW.to(kind))
    if MAX:
        best = tl.full((BP, BC), float("-inf"), ACC)
        at = tl.full((BP, BC), -1, tl.int64)
    else:
        best = tl.zeros((BP, BC), ACC)
        at = tl.full((BP, BC), -1, tl.int64)
    for i in range(0, nh.to(tl.int32)):
        for j in range(0, nw.to(tl.int32)):
            h = top + i
            w = left + j
            seen = mask & ((h < bottom) & (w < right))[:, None]
            v = tl.load(x + element(base + h * W + w, c, C, PLANES, VECTOR), mask=seen, other=0).to(ACC)
            if MAX:
                take = seen & ((v > best) | (at < 0) | (v != v))
                best = tl.where(take, v, best)
                at = tl.where(take, (h * W + w).to(tl.int64)[:, None], at)
            else:
                best += v
    if MAX:
        tl.store(indices + offset, at, mask=mask)
    else:
        best = best * (1.0 / ((bottom - top) * (right - left)).to(ACC))[:, None]
    tl.store(out + offset, convert(best, out.dtype.element_ty), mask=mask)


@kernel
def adaptive_gradient(dy, indices, dx, pixels: "i64", C: "i64", H: "i64", W: "i64", OH: "i64", OW: "i64", nh: "i64",
                      nw: "i64", ACC: tl.constexpr, MAX: tl.constexpr, PLANES: tl.constexpr, VECTOR: tl.constexpr,
                      LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The gradient of ``adaptive``. ``nh``, ``nw``: how many cells an input is in at most along each dimension."""
    o, row, w, c, offset, mask = places(pixels, C, W, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    H = H.to(kind)
    W = W.to(kind)
    OH = OH.to(kind)
    OW = OW.to(kind)
    h = row % H
    base = row // H * (OH * OW)
    first = h * OH // H
    left = w * OW // W
    total = tl.zeros((BP, BC), ACC)
    for i in range(0, nh.to(tl.int32)):
        for j in range(0, nw.to(tl.int32)):
            p = first + i
            q = left + j
            top, bottom = cell(p, H, OH)
            start, stop = cell(q, W, OW)
            inside = (p < OH) & (q < OW) & (top <= h) & (h < bottom) & (start <= w) & (w < stop)
            seen = mask & inside[:, None]
            offsets = element(base + p * OW + q, c, C, PLANES, VECTOR)
            d = tl.load(dy + offsets, mask=seen, other=0).to(ACC)
            if MAX:
                at = tl.load(indices + offsets, mask=seen, other=-1)
                d = tl.where(at == (h * W + w).to(tl.int64)[:, None], d, 0.0)
            else:
                d = d * (1.0 / tl.where(inside, (bottom - top) * (stop - start), 1).to(ACC))[:, None]
            total += d
    tl.store(dx + offset, convert(total, dx.dtype.element_ty), mask=mask)
