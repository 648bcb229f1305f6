"""The kernels of ``conv_kernels`` for images (N, D, H, W, C): the same products, one dimension more.

Tap (l, i, j) of output pixel (z, y, x) is the image's pixel (z * sz - front + l * dz, y * sy - top + i * dy,
x * sx - left + j * dx), zero outside. They are kernels of their own because a third dimension costs registers and
arguments.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.conv_kernels import end
from tritium.kernels.triton.matmul_kernels import place


@triton.jit
def pixel(m, OD, OH, OW):
    """(image, plane, row, column) of an output pixel's number."""
    line = m // OW
    plane = line // OH
    return plane // OD, plane % OD, line % OH, m % OW


@triton.jit
def offset(n, z, y, x, sn, sz, sy, sx, WIDE: tl.constexpr):
    """Where a pixel lies: in 64 bits, or in 32 where everything fits."""
    if WIDE:
        o = n.to(tl.int64) * sn + z.to(tl.int64) * sz + y.to(tl.int64) * sy + x.to(tl.int64) * sx
    else:
        o = n * sn.to(tl.int32) + z * sz.to(tl.int32) + y * sy.to(tl.int32) + x * sx.to(tl.int32)
    return o


@triton.jit
def inside(z, y, x, D, H, W):
    """Whether a pixel lies in the image."""
    return (z >= 0) & (z < D) & (y >= 0) & (y < H) & (x >= 0) & (x < W)


@triton.jit
def split(tap, kh, kw):
    """(plane, row, column) of a tap's number."""
    line = tap // kw
    return line // kh, line % kh, tap % kw


# --- forward, and the gradient with respect to the input ----------------------------------------------

@kernel
def implicit(x, w, scale, bias, residual, out, M: "i32", OD: "i32", OH: "i32", OW: "i32", D: "i32", H: "i32", W: "i32",
             C: "i32", O: "i32", kh: "i32", kw: "i32", taps: "i32", sz: "i32", sy: "i32", sx: "i32", front: "i32",
             top: "i32", left: "i32", dz: "i32", dy: "i32", dx: "i32", xn: "i64", xz: "i64", xy: "i64", xx: "i64", xc,
             wg: "i64", wn: "i64", wl: "i64", wi: "i64", wj: "i64", wc, on: "i64", oz: "i64", oy: "i64", ox: "i64",
             rn: "i64", rz: "i64", ry: "i64", rx: "i64", rc, part: "i64", blocks: "i32",
             BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, FLAT: tl.constexpr,
             PAD: tl.constexpr, EVEN: tl.constexpr, UX: tl.constexpr, UW: tl.constexpr, UO: tl.constexpr,
             UR: tl.constexpr, UC: tl.constexpr, UN: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr,
             RESIDUAL: tl.constexpr, ACT: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
             WIDE: tl.constexpr):
    """x (N, D, H, W, groups * C), w (groups, O, kd, kh, kw, C) -> out (N, OD, OH, OW, groups * O) with adjacent O.

    FLAT: blocks of K go through taps and channels together; else a block is of one tap. PAD: taps may lie outside;
    EVEN: C is a whole number of blocks. Program (tile, part, group); part p takes blocks [p * blocks, (p + 1) * blocks)
    of K and writes at out + p * part (units UO)."""
    C *= UC
    O *= UN
    group = tl.program_id(2)
    row, column = place(tl.program_id(0), tl.cdiv(M, BM), tl.cdiv(O, BN), GROUP)
    m = row * BM + tl.arange(0, BM)
    n = column * BN + tl.arange(0, BN)
    image, z, y, q = pixel(tl.minimum(m, M - 1), OD, OH, OW)
    z = z * sz - front
    y = y * sy - top
    q = q * sx - left
    xn *= UX
    xz *= UX
    xy *= UX
    xx *= UX
    wn *= UW
    wl *= UW
    wi *= UW
    wj *= UW
    if not WIDE:
        xz = xz.to(tl.int32)
        xy = xy.to(tl.int32)
        xx = xx.to(tl.int32)
        wn = wn.to(tl.int32)
        wl = wl.to(tl.int32)
        wi = wi.to(tl.int32)
        wj = wj.to(tl.int32)
    px = x + group * C.to(tl.int64) * xc + offset(image, z, y, q, xn, xz, xy, xx, WIDE)[:, None]
    pw = w + group * (wg * UW) + (tl.minimum(n, O - 1) * wn)[None, :]
    if FLAT:
        across = tl.cdiv(taps * C, BK)
    else:
        across = tl.cdiv(C, BK)
    low = tl.program_id(1) * blocks
    if FLAT:
        high = tl.minimum(low + blocks, across)
    else:
        high = tl.minimum(low + blocks, across * taps)
    acc = tl.zeros((BM, BN), ACC)
    for k in range(low, high):
        if FLAT:
            f = k * BK + tl.arange(0, BK)
            tap = f // C
            c = f % C
            l, i, j = split(tap, kh, kw)
            fits = tap < taps
            seen = fits[None, :]
            if PAD:
                seen = seen & inside(z[:, None] + (l * dz)[None, :], y[:, None] + (i * dy)[None, :],
                                     q[:, None] + (j * dx)[None, :], D, H, W)
            a = tl.load(px + (c * xc + (l * dz) * xz + (i * dy) * xy + (j * dx) * xx)[None, :], mask=seen, other=0)
            b = tl.load(pw + (l * wl + i * wi + j * wj + c * wc)[:, None], mask=fits[:, None], other=0)
        else:
            c = (k % across) * BK + tl.arange(0, BK)
            l, i, j = split(k // across, kh, kw)
            pa = px + ((l * dz) * xz + (i * dy) * xy + (j * dx) * xx) + (c * xc)[None, :]
            pb = pw + (l * wl + i * wi + j * wj) + (c * wc)[:, None]
            if PAD:
                seen = inside(z + l * dz, y + i * dy, q + j * dx, D, H, W)[:, None]
                if not EVEN:
                    seen = seen & (c < C)[None, :]
                a = tl.load(pa, mask=seen, other=0)
            elif EVEN:
                a = tl.load(pa)
            else:
                a = tl.load(pa, mask=(c < C)[None, :], other=0)
            if EVEN:
                b = tl.load(pb)
            else:
                b = tl.load(pb, mask=(c < C)[:, None], other=0)
        if PRECISION == "sum":  # integers that no matrix instruction takes
            acc += tl.sum(a.to(ACC)[:, :, None] * b.to(ACC)[None, :, :], 1)
        else:
            acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)
    image, z, y, q = pixel(m, OD, OH, OW)
    o = (group * O + n)[None, :]
    fits_o = (n < O)[None, :]
    fits_m = (m < M)[:, None] & fits_o
    place_r = offset(image, z, y, q, rn * UR, rz * UR, ry * UR, rx * UR, WIDE)[:, None]
    acc = end(acc, scale, bias, residual, place_r, o, fits_o, fits_m, rc, SCALE, BIAS, RESIDUAL, ACT)
    po = out + tl.program_id(1) * (part * UO)
    po += offset(image, z, y, q, on * UO, oz * UO, oy * UO, ox * UO, WIDE)[:, None] + o
    tl.store(po, acc.to(out.dtype.element_ty), mask=fits_m)


@kernel
def direct(x, w, scale, bias, residual, out, M: "i32", OD: "i32", OH: "i32", OW: "i32", D: "i32", H: "i32", W: "i32",
           C: "i32", O: "i32", per: "i32", kh: "i32", kw: "i32", taps: "i32", sz: "i32", sy: "i32", sx: "i32",
           front: "i32", top: "i32", left: "i32", dz: "i32", dy: "i32", dx: "i32", xn: "i64", xz: "i64", xy: "i64",
           xx: "i64", xc, wl: "i64", wi: "i64", wj: "i64", on: "i64", oz: "i64", oy: "i64", ox: "i64", rn: "i64",
           rz: "i64", ry: "i64", rx: "i64", rc, BM: tl.constexpr, BN: tl.constexpr, UX: tl.constexpr, UW: tl.constexpr,
           UO: tl.constexpr, UR: tl.constexpr, UN: tl.constexpr, ONE: tl.constexpr, SCALE: tl.constexpr,
           BIAS: tl.constexpr, RESIDUAL: tl.constexpr, ACT: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr):
    """x (N, D, H, W, groups * C), w (kd, kh, kw, C, groups * per) -> out (N, OD, OH, OW, O), O = groups * per.

    ONE: one channel goes into a group and one comes out. Program (pixels, channels)."""
    O *= UN
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    fits_o = (n < O)[None, :]
    image, z, y, q = pixel(tl.minimum(m, M - 1), OD, OH, OW)
    z = z * sz - front
    y = y * sy - top
    q = q * sx - left
    xz *= UX
    xy *= UX
    xx *= UX
    if ONE:
        first = n
    else:
        first = n // per * C
    px = x + offset(image, z, y, q, xn * UX, xz, xy, xx, WIDE)[:, None] + (first * xc)[None, :]
    acc = tl.zeros((BM, BN), ACC)
    if ONE:
        C = 1
    for k in range(taps * C):
        if ONE:
            tap = k
            c = 0
        else:
            tap = k // C
            c = k % C
        l, i, j = split(tap, kh, kw)
        seen = inside(z + l * dz, y + i * dy, q + j * dx, D, H, W)[:, None] & fits_o
        a = tl.load(px + ((l * dz) * xz + (i * dy) * xy + (j * dx) * xx + c * xc), mask=seen, other=0)
        b = tl.load(w + ((l * wl + i * wi + j * wj) * UW + c * O) + n[None, :], mask=fits_o, other=0)
        acc += a.to(ACC) * b.to(ACC)
    image, z, y, q = pixel(m, OD, OH, OW)
    fits = (m < M)[:, None] & fits_o
    o = n[None, :]
    place_r = offset(image, z, y, q, rn * UR, rz * UR, ry * UR, rx * UR, WIDE)[:, None]
    acc = end(acc, scale, bias, residual, place_r, o, fits_o, fits, rc, SCALE, BIAS, RESIDUAL, ACT)
    po = out + (offset(image, z, y, q, on * UO, oz * UO, oy * UO, ox * UO, WIDE)[:, None] + o)
    tl.store(po, acc.to(out.dtype.element_ty), mask=fits)


@kernel
def combine(partial, scale, bias, residual, out, M: "i64", O: "i64", OD: "i64", OH: "i64", OW: "i64", on: "i64",
            oz: "i64", oy: "i64", ox: "i64", rn: "i64", rz: "i64", ry: "i64", rx: "i64", rc: "i64", parts: "i32",
            BLOCK: tl.constexpr, UN: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
            ACT: tl.constexpr):
    """out[p, o] = end(the sum of ``parts`` arrays (M, O) in order)."""
    O *= UN
    total = M * O
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    fits = e < total
    acc = tl.load(partial + e, mask=fits, other=0)
    for _ in range(1, parts):
        partial += total
        acc += tl.load(partial + e, mask=fits, other=0)
    o = e % O
    image, z, y, q = pixel(e // O, OD, OH, OW)
    place_r = image * rn + z * rz + y * ry + q * rx
    acc = end(acc, scale, bias, residual, place_r, o, fits, fits, rc, SCALE, BIAS, RESIDUAL, ACT)
    tl.store(out + (image * on + z * oz + y * oy + q * ox) + o, acc.to(out.dtype.element_ty), mask=fits)


# --- the gradient with respect to the weight -----------------------------------------------------------

@kernel
def wgrad(x, d, out, M: "i32", OD: "i32", OH: "i32", OW: "i32", D: "i32", H: "i32", W: "i32", C: "i32", O: "i32",
          kh: "i32", kw: "i32", taps: "i32", sz: "i32", sy: "i32", sx: "i32", front: "i32", top: "i32", left: "i32",
          dz: "i32", dy: "i32", dx: "i32", xn: "i64", xz: "i64", xy: "i64", xx: "i64", xc, dn: "i64", dd: "i64",
          dh: "i64", dw: "i64", dc, ot: "i64", oc: "i64", part: "i64", blocks: "i32",
          BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, FLAT: tl.constexpr,
          PAD: tl.constexpr, UX: tl.constexpr, UD: tl.constexpr, UC: tl.constexpr, UN: tl.constexpr,
          ACC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """x (N, D, H, W, groups * C), d (N, OD, OH, OW, groups * O) -> out (groups * O, taps * C), in which a tap is ``ot``
    and a channel ``oc`` elements on. FLAT: a tile's columns go through taps and channels together; else they are of
    one tap.

    Program (tile, part, group); part p takes blocks [p * blocks, (p + 1) * blocks) of pixels and writes at
    out + p * part."""
    C *= UC
    O *= UN
    group = tl.program_id(2)
    if FLAT:
        across = tl.cdiv(taps * C, BN)
    else:
        across = tl.cdiv(C, BN) * taps
    row, column = place(tl.program_id(0), tl.cdiv(O, BM), across, GROUP)
    n = row * BM + tl.arange(0, BM)
    if FLAT:
        f = column * BN + tl.arange(0, BN)
        tap = f // C
        c = f % C
        fits_c = (tap < taps)[None, :]
    else:
        in_tap = tl.cdiv(C, BN)
        tap = column // in_tap
        c = column % in_tap * BN + tl.arange(0, BN)
        fits_c = (c < C)[None, :]
    l, i, j = split(tap, kh, kw)
    xn *= UX
    xz *= UX
    xy *= UX
    xx *= UX
    if not WIDE:
        xz = xz.to(tl.int32)
        xy = xy.to(tl.int32)
        xx = xx.to(tl.int32)
    if FLAT:
        px = x + group * C.to(tl.int64) * xc + (c * xc + (l * dz) * xz + (i * dy) * xy + (j * dx) * xx)[None, :]
        tz = (l * dz)[None, :]
        ty = (i * dy)[None, :]
        tx = (j * dx)[None, :]
    else:
        px = x + group * C.to(tl.int64) * xc + ((l * dz) * xz + (i * dy) * xy + (j * dx) * xx) + (c * xc)[None, :]
        tz = l * dz
        ty = i * dy
        tx = j * dx
    pd = d + group * O.to(tl.int64) * dc + (n * dc)[None, :]
    fits_n = (n < O)[None, :]
    low = tl.program_id(1) * blocks
    high = tl.minimum(low + blocks, tl.cdiv(M, BK))
    acc = tl.zeros((BM, BN), ACC)
    for k in range(low, high):
        m = k * BK + tl.arange(0, BK)
        fits = (m < M)[:, None]
        image, z, y, q = pixel(m, OD, OH, OW)
        pa = pd + offset(image, z, y, q, dn * UD, dd * UD, dh * UD, dw * UD, WIDE)[:, None]
        a = tl.load(pa, mask=fits & fits_n, other=0)
        z = z * sz - front
        y = y * sy - top
        q = q * sx - left
        seen = fits & fits_c
        if PAD:
            seen = seen & inside(z[:, None] + tz, y[:, None] + ty, q[:, None] + tx, D, H, W)
        b = tl.load(px + offset(image, z, y, q, xn, xz, xy, xx, WIDE)[:, None], mask=seen, other=0)
        if PRECISION == "sum":
            acc += tl.sum(a.to(ACC)[:, :, None] * b.to(ACC)[:, None, :], 0)
        else:
            acc = tl.dot(tl.trans(a), b, acc, input_precision=PRECISION, out_dtype=ACC)
    to = out + tl.program_id(1) * part + (group * O + n).to(tl.int64)[:, None] * (taps * C)
    if FLAT:
        to += (tap * ot + c * oc)[None, :]
    else:
        to += tap * ot + (c * oc)[None, :]
    tl.store(to, acc.to(out.dtype.element_ty), mask=(n < O)[:, None] & fits_c)


@kernel
def direct_wgrad(x, d, out, M: "i32", OD: "i32", OH: "i32", OW: "i32", D: "i32", H: "i32", W: "i32", C: "i32",
                 O: "i32", per: "i32", kh: "i32", kw: "i32", taps: "i32", sz: "i32", sy: "i32", sx: "i32",
                 front: "i32", top: "i32", left: "i32", dz: "i32", dy: "i32", dx: "i32", xn: "i64", xz: "i64",
                 xy: "i64", xx: "i64", xc, dn: "i64", dd: "i64", dh: "i64", dw: "i64", dc, part: "i64", blocks: "i32",
                 BN: tl.constexpr, BK: tl.constexpr, UX: tl.constexpr, UD: tl.constexpr, UN: tl.constexpr,
                 ONE: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr):
    """x (N, D, H, W, groups * C), d (N, OD, OH, OW, O) -> out (O, C, taps). Program (channels, part, tap and channel
    of C)."""
    O *= UN
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    if ONE:
        tap = tl.program_id(2)
        c = 0
    else:
        tap = tl.program_id(2) // C
        c = tl.program_id(2) % C
    l, i, j = split(tap, kh, kw)
    fits_n = (n < O)[None, :]
    if ONE:
        first = n
    else:
        first = n // per * C
    xz *= UX
    xy *= UX
    xx *= UX
    px = x + ((l * dz) * xz + (i * dy) * xy + (j * dx) * xx + c * xc) + (first * xc)[None, :]
    pd = d + (n * dc)[None, :]
    low = tl.program_id(1) * blocks
    high = tl.minimum(low + blocks, tl.cdiv(M, BK))
    acc = tl.zeros((BK, BN), ACC)
    for k in range(low, high):
        m = k * BK + tl.arange(0, BK)
        fits = (m < M)[:, None] & fits_n
        image, z, y, q = pixel(m, OD, OH, OW)
        pa = pd + offset(image, z, y, q, dn * UD, dd * UD, dh * UD, dw * UD, WIDE)[:, None]
        a = tl.load(pa, mask=fits, other=0)
        z = z * sz - front
        y = y * sy - top
        q = q * sx - left
        seen = fits & inside(z + l * dz, y + i * dy, q + j * dx, D, H, W)[:, None]
        b = tl.load(px + offset(image, z, y, q, xn * UX, xz, xy, xx, WIDE)[:, None], mask=seen, other=0)
        acc += a.to(ACC) * b.to(ACC)
    to = out + tl.program_id(1) * part + (n.to(tl.int64) * C + c) * taps + tap
    tl.store(to, tl.sum(acc, 0).to(out.dtype.element_ty), mask=n < O)
