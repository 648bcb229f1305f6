"""The kernels of resampling.

Interpolation gathers by the tables of its axes (``kernels/resample_tables.py``), along one to three dimensions at once:

    out[p] = sum over k < count[p] of weight[k, p] * x[first[p] + k]

and so does its derivative, with the tables transposed: nothing is added by two programs.

A grid names a place of the image for every output. Along a dimension of size n its number g is the coordinate

    u = (g + 1) (n - 1) / 2  (ALIGN)  or  (g + 1) n / 2 - 1 / 2

which the padding moves into the image (border: to the nearest end; reflection: mirrored at the ends); the value is that
of the nearest place, or the sum over taps i around u of w(u - i) x[i]. The derivative by the grid is the same sum with
w'; the derivative by the image adds what each sample gives to its taps, sorted by where they go: a place gathers its
run of samples in the order in which they are sorted.

Tiles, PLANES and VECTOR are those of ``pool_kernels``. 16-bit floats are computed in float32 and rounded once.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.pool_kernels import element, places
from tritium.kernels.triton.strided import convert


@triton.jit
def run_sum(x, pixel, seen, first, count, weight, at, n, taps, c, C, ACC: tl.constexpr, TAPS: tl.constexpr,
            WEIGHTED: tl.constexpr, PLANES: tl.constexpr, VECTOR: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The weighted sum of a run of neighbours along the last dimension: ``at``: which of n outputs each pixel is."""
    total = tl.zeros((BP, BC), ACC)
    if TAPS > 0:
        for k in tl.static_range(TAPS):
            v = tl.load(x + element(pixel + (first + k), c, C, PLANES, VECTOR), mask=seen & (k < count)[:, None],
                        other=0)
            if WEIGHTED:
                total += tl.load(weight + k * n + at)[:, None] * convert(v, ACC)
            else:
                total += convert(v, ACC)
    else:
        for k in range(0, taps):
            v = tl.load(x + element(pixel + (first + k), c, C, PLANES, VECTOR), mask=seen & (k < count)[:, None],
                        other=0)
            if WEIGHTED:
                total += tl.load(weight + k * n + at)[:, None] * convert(v, ACC)
            else:
                total += convert(v, ACC)
    return total


@triton.jit
def plane_sum(x, image, seen, first_h, count_h, weight_h, p, OH, th, H, first, count, weight, q, OW, tw, W, c, C,
              ACC: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, WEIGHTED: tl.constexpr, PLANES: tl.constexpr,
              VECTOR: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The weighted sum over rows of the sums along each. ``image``: the number of its first row."""
    total = tl.zeros((BP, BC), ACC)
    if TH > 0:
        for k in tl.static_range(TH):
            row = run_sum(x, (image + (first_h + k)) * W, seen & (k < count_h)[:, None], first, count, weight, q, OW,
                          tw, c, C, ACC, TW, WEIGHTED, PLANES, VECTOR, BP, BC)
            if WEIGHTED:
                total += tl.load(weight_h + k * OH + p)[:, None] * row
            else:
                total += row
    else:
        for k in range(0, th):
            row = run_sum(x, (image + (first_h + k)) * W, seen & (k < count_h)[:, None], first, count, weight, q, OW,
                          tw, c, C, ACC, TW, WEIGHTED, PLANES, VECTOR, BP, BC)
            if WEIGHTED:
                total += tl.load(weight_h + k * OH + p)[:, None] * row
            else:
                total += row
    return total


@kernel
def interpolate(x, out, first_d, count_d, weight_d, first_h, count_h, weight_h, first_w, count_w, weight_w,
                pixels: "i64", C: "i64", D: "i64", H: "i64", W: "i64", OD: "i64", OH: "i64", OW: "i64", td: "i32",
                th: "i32", tw: "i32", shift: "i32", ACC: tl.constexpr, AXES: tl.constexpr, COPY: tl.constexpr,
                WEIGHTED: tl.constexpr, TD: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, PLANES: tl.constexpr,
                VECTOR: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """Resampling along the last AXES of (D, H, W). COPY: one element each, as words. TD, TH, TW: the largest counts
    where they are small, else 0. Integers are shifted to the right by ``shift``, rounded, and kept in [0, 255]."""
    o, row, q, c, offset, mask = places(pixels, C, OW, PLANES, VECTOR, LONG, BP, BC)
    kind: tl.constexpr = o.dtype
    H = H.to(kind)
    W = W.to(kind)
    OH = OH.to(kind)
    OW = OW.to(kind)
    first = tl.load(first_w + q).to(kind)
    if AXES > 1:
        p = row % OH
        top = tl.load(first_h + p).to(kind)
        image = row // OH
    if AXES > 2:
        z = image % OD.to(kind)
        front = tl.load(first_d + z).to(kind)
        image = image // OD.to(kind) * D.to(kind)
    if COPY:
        source = row
        if AXES > 2:
            source = (image + front) * H + top
        elif AXES > 1:
            source = image * H + top
        r = tl.load(x + element(source * W + first, c, C, PLANES, VECTOR), mask=mask, other=0)
    else:
        count = tl.load(count_w + q)
        if AXES == 1:
            r = run_sum(x, row * W, mask, first, count, weight_w, q, OW, tw, c, C, ACC, TW, WEIGHTED, PLANES, VECTOR,
                        BP, BC)
        else:
            count_t = tl.load(count_h + p)
            if AXES == 2:
                r = plane_sum(x, image * H, mask, top, count_t, weight_h, p, OH, th, H, first, count, weight_w, q, OW,
                              tw, W, c, C, ACC, TH, TW, WEIGHTED, PLANES, VECTOR, BP, BC)
            else:
                count_f = tl.load(count_d + z)
                r = tl.zeros((BP, BC), ACC)
                if TD > 0:
                    for k in tl.static_range(TD):
                        s = plane_sum(x, (image + (front + k)) * H, mask & (k < count_f)[:, None], top, count_t,
                                      weight_h, p, OH, th, H, first, count, weight_w, q, OW, tw, W, c, C, ACC, TH, TW,
                                      WEIGHTED, PLANES, VECTOR, BP, BC)
                        if WEIGHTED:
                            r += tl.load(weight_d + k * OD.to(kind) + z)[:, None] * s
                        else:
                            r += s
                else:
                    for k in range(0, td):
                        s = plane_sum(x, (image + (front + k)) * H, mask & (k < count_f)[:, None], top, count_t,
                                      weight_h, p, OH, th, H, first, count, weight_w, q, OW, tw, W, c, C, ACC, TH, TW,
                                      WEIGHTED, PLANES, VECTOR, BP, BC)
                        if WEIGHTED:
                            r += tl.load(weight_d + k * OD.to(kind) + z)[:, None] * s
                        else:
                            r += s
        if ACC.is_int():
            r = tl.minimum(tl.maximum((r + ((1 << shift) >> 1)) >> shift, 0), 255)
        r = convert(r, out.dtype.element_ty)
    tl.store(out + offset, r, mask=mask)


# --- samples of a grid ---

CUBIC = tl.constexpr(-0.75)


@triton.jit
def padded(u, n, PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """Coordinates moved into [0, n - 1], and the derivative of that: 1, -1, or 0 at the ends; nan becomes 0."""
    last = n.to(u.dtype) - 1
    sign = tl.full(u.shape, 1, u.dtype)
    if PADDING == "reflection":
        if ALIGN:
            low = tl.zeros((), u.dtype)
            span = last
        else:
            low = tl.full((), -0.5, u.dtype)
            span = last + 1
        v = tl.abs(u - low)
        by = tl.where(span > 0, span, 1)
        turns = tl.floor(v / by)
        extra = v - turns * by
        even = turns - 2 * tl.floor(turns * 0.5) == 0
        sign = tl.where((u < low) == even, -1, sign)
        u = tl.where(span > 0, tl.where(even, extra, span - extra) + low, 0)
    sign = tl.where((u > 0) & (u < last), sign, 0)
    return tl.where(u > 0, tl.where(u < last, u, last), 0), sign


@triton.jit
def coordinate(grid, s, seen, n, NUMBER: tl.constexpr, DIMS: tl.constexpr, ACC: tl.constexpr, MODE: tl.constexpr,
               PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """The coordinate of samples along a dimension of size n, and its derivative by the NUMBER-th number of the grid."""
    g = convert(tl.load(grid + s * DIMS + NUMBER, mask=seen, other=0), ACC)
    if ALIGN:
        slope = (n.to(ACC) - 1) * 0.5
        u = (g + 1) * slope
    else:
        slope = n.to(ACC) * 0.5
        u = (g + 1) * slope - 0.5
    slope = tl.full(g.shape, 1, ACC) * slope
    if MODE != "bicubic" and PADDING != "zeros":
        u, sign = padded(u, n, PADDING, ALIGN)
        slope = slope * sign
    return u, slope


@triton.jit
def outer(x):
    return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC


@triton.jit
def inner(x):
    return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1


@triton.jit
def outer_slope(x):
    return (3 * CUBIC * x - 10 * CUBIC) * x + 8 * CUBIC


@triton.jit
def inner_slope(x):
    return (3 * (CUBIC + 2) * x - 2 * (CUBIC + 3)) * x


@triton.jit
def tap(u, slope, n, K: tl.constexpr, MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """The K-th tap around coordinates u: (index, whether it is inside, weight, derivative of the weight)."""
    if MODE == "nearest":
        at = tl.floor(u)
        odd = at - 2 * tl.floor(at * 0.5) != 0
        at += ((u - at > 0.5) | ((u - at == 0.5) & odd)).to(u.dtype)  # halves to the even side
        weight = tl.full(u.shape, 1, u.dtype)
        d_weight = tl.zeros(u.shape, u.dtype)
    else:
        at = tl.floor(u)
        t = u - at
        if MODE == "bilinear":
            weight = t if K == 1 else 1 - t
            d_weight = slope if K == 1 else -slope
            at += K
        else:
            at += K - 1
            if PADDING != "zeros":
                at, _ = padded(at, n, PADDING, ALIGN)
            if K == 0:
                weight = outer(t + 1)
                d_weight = outer_slope(t + 1)
            elif K == 1:
                weight = inner(t)
                d_weight = inner_slope(t)
            elif K == 2:
                weight = inner(1 - t)
                d_weight = -inner_slope(1 - t)
            else:
                weight = outer(2 - t)
                d_weight = -outer_slope(2 - t)
            d_weight = d_weight * slope
    inside = (at >= 0) & (at < n.to(u.dtype))
    index = tl.where(inside, at, 0).to(tl.int32)
    if PADDING != "zeros":
        index = tl.where(at >= n.to(u.dtype), n.to(tl.int32) - 1, index)
        inside = tl.full(inside.shape, 1, tl.int1)
    return index, inside, weight, d_weight


@triton.jit
def samples_of(count, per_image, LONG: tl.constexpr, BP: tl.constexpr):
    """A program's samples: (number, image, number in the image, mask)."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    s = tl.program_id(0).to(kind) * BP + tl.arange(0, BP)
    return s, s // per_image.to(kind), s % per_image.to(kind), s < count.to(kind)


@kernel
def sample(x, grid, out, count: "i64", per_image: "i64", C: "i64", D: "i64", H: "i64", W: "i64", xn: "i64", xc: "i64",
           xd: "i64", xh: "i64", xw: "i64", ACC: tl.constexpr, DIMS: tl.constexpr, MODE: tl.constexpr,
           PADDING: tl.constexpr, ALIGN: tl.constexpr, TAPS: tl.constexpr, LAST: tl.constexpr, LONG: tl.constexpr,
           BP: tl.constexpr, BC: tl.constexpr):
    """The image at the places of the grid (N, ..., DIMS), contiguous; ``out`` (N, C, ...) too. ``xn`` ...: the strides
    of x in elements; LAST: that of the channels is 1. TAPS: along each dimension."""
    s, n, p, seen = samples_of(count, per_image, LONG, BP)
    kind: tl.constexpr = s.dtype
    c = tl.program_id(1).to(kind) * BC + tl.arange(0, BC)
    mask = seen[:, None] & (c < C.to(kind))[None, :]
    if LAST:
        base = (n * xn.to(kind))[:, None] + c[None, :]
    else:
        base = (n * xn.to(kind))[:, None] + (c * xc.to(kind))[None, :]
    uw, sw = coordinate(grid, s, seen, W, 0, DIMS, ACC, MODE, PADDING, ALIGN)
    uh, sh = coordinate(grid, s, seen, H, 1, DIMS, ACC, MODE, PADDING, ALIGN)
    if DIMS == 3:
        ud, sd = coordinate(grid, s, seen, D, 2, DIMS, ACC, MODE, PADDING, ALIGN)
    total = tl.zeros((BP, BC), ACC)
    for a in tl.static_range(TAPS if DIMS == 3 else 1):
        for b in tl.static_range(TAPS):
            ih, inside, weight, _ = tap(uh, sh, H, b, MODE, PADDING, ALIGN)
            line = ih.to(kind) * xh.to(kind)
            if DIMS == 3:
                i, more, w, _ = tap(ud, sd, D, a, MODE, PADDING, ALIGN)
                line += i.to(kind) * xd.to(kind)
                inside = inside & more
                weight = weight * w
            for e in tl.static_range(TAPS):
                i, more, w, _ = tap(uw, sw, W, e, MODE, PADDING, ALIGN)
                v = tl.load(x + base + (line + i.to(kind) * xw.to(kind))[:, None], mask=mask & (inside & more)[:, None],
                            other=0)
                if MODE == "nearest":
                    total += convert(v, ACC)
                else:
                    total += (weight * w)[:, None] * convert(v, ACC)
    to = (n * (C * per_image).to(kind) + p)[:, None] + (c * per_image.to(kind))[None, :]
    tl.store(out + to, convert(total, out.dtype.element_ty), mask=mask)


@kernel
def grid_gradient(dy, x, grid, out, count: "i64", per_image: "i64", C: "i64", D: "i64", H: "i64", W: "i64", xn: "i64",
                  xc: "i64", xd: "i64", xh: "i64", xw: "i64", ACC: tl.constexpr, DIMS: tl.constexpr,
                  MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, TAPS: tl.constexpr,
                  LAST: tl.constexpr, LONG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """The derivative by the grid, (N, ..., DIMS): over all channels. ``dy`` (N, C, ...) is contiguous."""
    s, n, p, seen = samples_of(count, per_image, LONG, BP)
    kind: tl.constexpr = s.dtype
    uw, sw = coordinate(grid, s, seen, W, 0, DIMS, ACC, MODE, PADDING, ALIGN)
    uh, sh = coordinate(grid, s, seen, H, 1, DIMS, ACC, MODE, PADDING, ALIGN)
    if DIMS == 3:
        ud, sd = coordinate(grid, s, seen, D, 2, DIMS, ACC, MODE, PADDING, ALIGN)
    gw = tl.zeros((BP, BC), ACC)
    gh = tl.zeros((BP, BC), ACC)
    gd = tl.zeros((BP, BC), ACC)
    for start in range(0, C, BC):
        c = tl.arange(0, BC).to(kind) + start.to(kind)  # type: ignore[attr-defined]
        mask = seen[:, None] & (c < C.to(kind))[None, :]
        d = convert(tl.load(dy + (n * (C * per_image).to(kind) + p)[:, None] + (c * per_image.to(kind))[None, :],
                            mask=mask, other=0), ACC)
        if LAST:
            base = (n * xn.to(kind))[:, None] + c[None, :]
        else:
            base = (n * xn.to(kind))[:, None] + (c * xc.to(kind))[None, :]
        for a in tl.static_range(TAPS if DIMS == 3 else 1):
            for b in tl.static_range(TAPS):
                ih, inside, wh, dh = tap(uh, sh, H, b, MODE, PADDING, ALIGN)
                line = ih.to(kind) * xh.to(kind)
                if DIMS == 3:
                    i, more, wd, dd = tap(ud, sd, D, a, MODE, PADDING, ALIGN)
                    line += i.to(kind) * xd.to(kind)
                    inside = inside & more
                for e in tl.static_range(TAPS):
                    i, more, ww, dw = tap(uw, sw, W, e, MODE, PADDING, ALIGN)
                    v = tl.load(x + base + (line + i.to(kind) * xw.to(kind))[:, None],
                                mask=mask & (inside & more)[:, None], other=0)
                    v = convert(v, ACC) * d
                    if DIMS == 3:
                        gw += v * (dw * wh * wd)[:, None]
                        gh += v * (ww * dh * wd)[:, None]
                        gd += v * (ww * wh * dd)[:, None]
                    else:
                        gw += v * (dw * wh)[:, None]
                        gh += v * (ww * dh)[:, None]
    tl.store(out + s * DIMS, convert(tl.sum(gw, 1), out.dtype.element_ty), mask=seen)
    tl.store(out + s * DIMS + 1, convert(tl.sum(gh, 1), out.dtype.element_ty), mask=seen)
    if DIMS == 3:
        tl.store(out + s * DIMS + 2, convert(tl.sum(gd, 1), out.dtype.element_ty), mask=seen)


@kernel
def targets(grid, keys, weights, count: "i64", per_image: "i64", D: "i64", H: "i64", W: "i64", nowhere: "i64",
            ACC: tl.constexpr, DIMS: tl.constexpr, MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr,
            TAPS: tl.constexpr, BP: tl.constexpr):
    """Where every tap of every sample goes, as a flat position in (N, D, H, W), and its weight; ``nowhere``: the key
    of those outside. Both are (taps, samples)."""
    s, n, _, seen = samples_of(count, per_image, True, BP)
    uw, sw = coordinate(grid, s, seen, W, 0, DIMS, ACC, MODE, PADDING, ALIGN)
    uh, sh = coordinate(grid, s, seen, H, 1, DIMS, ACC, MODE, PADDING, ALIGN)
    if DIMS == 3:
        ud, sd = coordinate(grid, s, seen, D, 2, DIMS, ACC, MODE, PADDING, ALIGN)
    for a in tl.static_range(TAPS if DIMS == 3 else 1):
        for b in tl.static_range(TAPS):
            ih, inside, weight, _ = tap(uh, sh, H, b, MODE, PADDING, ALIGN)
            line = n * H
            if DIMS == 3:
                i, more, w, _ = tap(ud, sd, D, a, MODE, PADDING, ALIGN)
                line = (n * D + i) * H
                inside = inside & more
                weight = weight * w
            for e in tl.static_range(TAPS):
                i, more, w, _ = tap(uw, sw, W, e, MODE, PADDING, ALIGN)
                to = ((a * TAPS + b) * TAPS + e) * count + s
                tl.store(keys + to, tl.where(inside & more, (line + ih) * W + i, nowhere), mask=seen)
                tl.store(weights + to, weight * w, mask=seen)


@kernel
def starts(keys, out, count: "i64", places: "i64", steps: "i64", BP: tl.constexpr):
    """For every place the number of sorted keys before its own, and for the place after the last. ``steps``: of the
    search."""
    place = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    low = tl.zeros((BP,), tl.int64)
    high = tl.zeros((BP,), tl.int64) + count
    for _ in range(0, steps):
        middle = (low + high) // 2
        open = low < high
        less = tl.load(keys + middle, mask=open, other=0) < place
        low, high = tl.where(open & less, middle + 1, low), tl.where(open & (less == 0), middle, high)
    tl.store(out + place, low, mask=place <= places)


@kernel
def image_gradient(dy, weights, order, start, out, places: "i64", per_place: "i64", count: "i64", per_image: "i64",
                   C: "i64", ACC: tl.constexpr, BP: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr):
    """The derivative by the image (N, C, ...): each of its ``places`` in N * ``per_place`` gathers its run of taps, BS
    at a time. ``dy`` (N, C, ...) and ``out`` are contiguous; the taps are numbered as in ``targets``."""
    place = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    c = tl.program_id(1).to(tl.int64) * BC + tl.arange(0, BC)
    inside = place < places
    mask = inside[:, None] & (c < C)[None, :]
    first = tl.load(start + place, mask=inside, other=0)
    length = tl.load(start + place + 1, mask=inside, other=0) - first
    base = (place // per_place * (C * per_image))[:, None] + (c * per_image)[None, :]
    total = tl.zeros((BP, BC), ACC)
    for k in range(0, tl.max(length, 0), BS):
        number = k + tl.arange(0, BS)
        now = number[None, :] < length[:, None]
        e = tl.load(order + first[:, None] + number[None, :], mask=now, other=0)
        weight = tl.load(weights + e, mask=now, other=0)
        d = tl.load(dy + base[:, None, :] + (e % count % per_image)[:, :, None],
                    mask=mask[:, None, :] & now[:, :, None], other=0)
        total += tl.sum(weight[:, :, None] * convert(d, ACC), 1)
    to = (place // per_place * (C * per_place) + place % per_place)[:, None] + (c * per_place)[None, :]
    tl.store(out + to, convert(total, out.dtype.element_ty), mask=mask)
