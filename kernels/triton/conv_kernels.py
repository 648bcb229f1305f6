"""The kernels under the convolutions: products whose left operand is gathered from an image.

An image's tap (i, j) of output pixel (y, x) is its pixel (y * sy - top + i * dy, x * sx - left + j * dx), zero outside.
With p for an output pixel (n, y, x) and (t, c) for a tap and a channel, all of one group of channels:

    implicit      out[p, o] = end(sum over t, c of x[p at t, c] w[o, t, c])      a product of pixels x (taps * C) x O
    wgrad         dw[o, t, c] = sum over p of d[p, o] x[p at t, c]               a product of O x pixels x (taps * C)

in tiles as in ``matmul_kernels``; the patches are never written to memory. ``direct`` and ``direct_wgrad`` are the same
for groups of few channels, where a tile of a product would be mostly empty: sums of elementwise products.

``end`` is ACT(sum * scale[o] + bias[o] + residual[p, o]), rounded once. Where K is split, the parts go to a workspace,
and ``combine`` (``combine_weight``) adds them in order. Images have any strides (elements; units of UX, UD, UR); a
channel step of 1 is specialized and makes vectors. Channel counts are in units of UC and UN. WIDE: offsets in 64 bits.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.matmul_kernels import place

# --- activations ------------------------------------------------------------------------------------

@triton.jit
def none(x):
    return x


@triton.jit
def relu(x):
    return tl.where(x < 0, 0, x)


@triton.jit
def relu6(x):
    return tl.where(x < 0, 0, tl.where(x > 6, 6, x))


# --- parts ------------------------------------------------------------------------------------------

@triton.jit
def pixel(m, OH, OW):
    """(image, row, column) of an output pixel's number."""
    line = m // OW
    return line // OH, line % OH, m % OW


@triton.jit
def offset(n, y, x, sn, sy, sx, WIDE: tl.constexpr):
    """Where a pixel lies: in 64 bits, or in 32 where everything fits."""
    if WIDE:
        o = n.to(tl.int64) * sn + y.to(tl.int64) * sy + x.to(tl.int64) * sx
    else:
        o = n * sn.to(tl.int32) + y * sy.to(tl.int32) + x * sx.to(tl.int32)
    return o


@triton.jit
def inside(y, x, H, W):
    """Whether a pixel lies in the image."""
    return (y >= 0) & (y < H) & (x >= 0) & (x < W)


@triton.jit
def end(acc, scale, bias, residual, place_r, o, fits_o, fits, rc, SCALE: tl.constexpr, BIAS: tl.constexpr,
        RESIDUAL: tl.constexpr, ACT: tl.constexpr):
    """ACT(acc * scale + (bias + residual)) of pixels (column) and channels ``o`` (row). In this order the bias is read
    in the layout of the residual, where a thread has few channels."""
    if SCALE:
        acc *= tl.load(scale + o, mask=fits_o, other=0).to(acc.dtype)
    if RESIDUAL:
        more = tl.load(residual + (place_r + o * rc), mask=fits, other=0).to(acc.dtype)
        if BIAS:
            more += tl.load(bias + o, mask=fits_o, other=0).to(acc.dtype)
        acc += more
    elif BIAS:
        acc += tl.load(bias + o, mask=fits_o, other=0).to(acc.dtype)
    return ACT(acc)


# --- forward, and the gradient with respect to the input ----------------------------------------------

@kernel
def implicit(x, w, scale, bias, residual, out, M: "i32", OH: "i32", OW: "i32", H: "i32", W: "i32", C: "i32", O: "i32",
             kw: "i32", taps: "i32", sy: "i32", sx: "i32", top: "i32", left: "i32", dy: "i32", dx: "i32", xn: "i64",
             xy: "i64", xx: "i64", xc, wg: "i64", wn: "i64", wi: "i64", wj: "i64", wc, on: "i64", oy: "i64",
             ox: "i64", rn: "i64", ry: "i64", rx: "i64", rc, part: "i64", blocks: "i32",
             BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, FLAT: tl.constexpr,
             PAD: tl.constexpr, EVEN: tl.constexpr, UX: tl.constexpr, UW: tl.constexpr, UO: tl.constexpr,
             UR: tl.constexpr, UC: tl.constexpr, UN: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr,
             RESIDUAL: tl.constexpr, ACT: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
             WIDE: tl.constexpr):
    """x (N, H, W, groups * C), w (groups, O, kh, kw, C) -> out (N, OH, OW, groups * O) with adjacent O.

    FLAT: blocks of K go through taps and channels together; else a block is of one tap. PAD: taps may lie outside;
    EVEN: C is a whole number of blocks. Program (tile, part, group); part p takes blocks [p * blocks, (p + 1) * blocks)
    of K and writes at out + p * part (units UO)."""
    C *= UC
    O *= UN
    group = tl.program_id(2)
    row, column = place(tl.program_id(0), tl.cdiv(M, BM), tl.cdiv(O, BN), GROUP)
    m = row * BM + tl.arange(0, BM)
    n = column * BN + tl.arange(0, BN)
    image, y, z = pixel(tl.minimum(m, M - 1), OH, OW)
    y = y * sy - top
    z = z * sx - left
    xn *= UX
    xy *= UX
    xx *= UX
    wn *= UW
    wi *= UW
    wj *= UW
    if not WIDE:
        xy = xy.to(tl.int32)
        xx = xx.to(tl.int32)
        wn = wn.to(tl.int32)
        wi = wi.to(tl.int32)
        wj = wj.to(tl.int32)
    px = x + group * C.to(tl.int64) * xc + offset(image, y, z, xn, xy, xx, WIDE)[:, None]
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
            i = tap // kw
            j = tap % kw
            fits = tap < taps
            seen = fits[None, :]
            if PAD:
                seen = seen & inside(y[:, None] + (i * dy)[None, :], z[:, None] + (j * dx)[None, :], H, W)
            a = tl.load(px + (c * xc + (i * dy) * xy + (j * dx) * xx)[None, :], mask=seen, other=0)
            b = tl.load(pw + (i * wi + j * wj + c * wc)[:, None], mask=fits[:, None], other=0)
        else:
            tap = k // across
            c = (k % across) * BK + tl.arange(0, BK)
            i = tap // kw
            j = tap % kw
            pa = px + ((i * dy) * xy + (j * dx) * xx) + (c * xc)[None, :]
            pb = pw + (i * wi + j * wj) + (c * wc)[:, None]
            if PAD:
                seen = inside(y + i * dy, z + j * dx, H, W)[:, None]
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
    image, y, z = pixel(m, OH, OW)
    o = (group * O + n)[None, :]
    fits_o = (n < O)[None, :]
    fits_m = (m < M)[:, None] & fits_o
    place_r = offset(image, y, z, rn * UR, ry * UR, rx * UR, WIDE)[:, None]
    acc = end(acc, scale, bias, residual, place_r, o, fits_o, fits_m, rc, SCALE, BIAS, RESIDUAL, ACT)
    po = out + tl.program_id(1) * (part * UO) + (offset(image, y, z, on * UO, oy * UO, ox * UO, WIDE)[:, None] + o)
    tl.store(po, acc.to(out.dtype.element_ty), mask=fits_m)


@kernel
def direct(x, w, scale, bias, residual, out, M: "i32", OH: "i32", OW: "i32", H: "i32", W: "i32", C: "i32", O: "i32",
           per: "i32", kw: "i32", taps: "i32", sy: "i32", sx: "i32", top: "i32", left: "i32", dy: "i32", dx: "i32",
           xn: "i64", xy: "i64", xx: "i64", xc, wi: "i64", wj: "i64", on: "i64", oy: "i64", ox: "i64", rn: "i64",
           ry: "i64", rx: "i64", rc, BM: tl.constexpr, BN: tl.constexpr, UX: tl.constexpr, UW: tl.constexpr,
           UO: tl.constexpr, UR: tl.constexpr, UN: tl.constexpr, ONE: tl.constexpr, SCALE: tl.constexpr,
           BIAS: tl.constexpr, RESIDUAL: tl.constexpr, ACT: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr):
    """x (N, H, W, groups * C), w (kh, kw, C, groups * per) -> out (N, OH, OW, O), O = groups * per.

    ONE: one channel goes into a group and one comes out. Program (pixels, channels)."""
    O *= UN
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    fits_o = (n < O)[None, :]
    image, y, z = pixel(tl.minimum(m, M - 1), OH, OW)
    y = y * sy - top
    z = z * sx - left
    xy *= UX
    xx *= UX
    if ONE:
        first = n
    else:
        first = n // per * C
    px = x + offset(image, y, z, xn * UX, xy, xx, WIDE)[:, None] + (first * xc)[None, :]
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
        i = tap // kw
        j = tap % kw
        seen = inside(y + i * dy, z + j * dx, H, W)[:, None] & fits_o
        a = tl.load(px + ((i * dy) * xy + (j * dx) * xx + c * xc), mask=seen, other=0)
        b = tl.load(w + ((i * wi + j * wj) * UW + c * O) + n[None, :], mask=fits_o, other=0)
        acc += a.to(ACC) * b.to(ACC)
    image, y, z = pixel(m, OH, OW)
    fits = (m < M)[:, None] & fits_o
    o = n[None, :]
    place_r = offset(image, y, z, rn * UR, ry * UR, rx * UR, WIDE)[:, None]
    acc = end(acc, scale, bias, residual, place_r, o, fits_o, fits, rc, SCALE, BIAS, RESIDUAL, ACT)
    po = out + (offset(image, y, z, on * UO, oy * UO, ox * UO, WIDE)[:, None] + o)
    tl.store(po, acc.to(out.dtype.element_ty), mask=fits)


@kernel
def combine(partial, scale, bias, residual, out, M: "i64", O: "i64", OH: "i64", OW: "i64", on: "i64", oy: "i64",
            ox: "i64", rn: "i64", ry: "i64", rx: "i64", rc: "i64", parts: "i32", BLOCK: tl.constexpr,
            UN: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, ACT: tl.constexpr):
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
    image, y, z = pixel(e // O, OH, OW)
    place_r = image * rn + y * ry + z * rx
    acc = end(acc, scale, bias, residual, place_r, o, fits, fits, rc, SCALE, BIAS, RESIDUAL, ACT)
    tl.store(out + (image * on + y * oy + z * ox) + o, acc.to(out.dtype.element_ty), mask=fits)


# --- the gradient with respect to the weight -----------------------------------------------------------

@kernel
def wgrad(x, d, out, M: "i32", OH: "i32", OW: "i32", H: "i32", W: "i32", C: "i32", O: "i32", kw: "i32", taps: "i32",
          sy: "i32", sx: "i32", top: "i32", left: "i32", dy: "i32", dx: "i32", xn: "i64", xy: "i64", xx: "i64", xc,
          dn: "i64", dh: "i64", dw: "i64", dc, ot: "i64", oc: "i64", part: "i64", blocks: "i32",
          BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, FLAT: tl.constexpr,
          PAD: tl.constexpr, UX: tl.constexpr, UD: tl.constexpr, UC: tl.constexpr, UN: tl.constexpr,
          ACC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """x (N, H, W, groups * C), d (N, OH, OW, groups * O) -> out (groups * O, taps * C), in which a tap is ``ot`` and a
    channel ``oc`` elements on. FLAT: a tile's columns go through taps and channels together; else they are of one tap.

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
    i = tap // kw
    j = tap % kw
    xn *= UX
    xy *= UX
    xx *= UX
    if not WIDE:
        xy = xy.to(tl.int32)
        xx = xx.to(tl.int32)
    if FLAT:
        px = x + group * C.to(tl.int64) * xc + (c * xc + (i * dy) * xy + (j * dx) * xx)[None, :]
        ty = (i * dy)[None, :]
        tx = (j * dx)[None, :]
    else:
        px = x + group * C.to(tl.int64) * xc + ((i * dy) * xy + (j * dx) * xx) + (c * xc)[None, :]
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
        image, y, z = pixel(m, OH, OW)
        a = tl.load(pd + offset(image, y, z, dn * UD, dh * UD, dw * UD, WIDE)[:, None], mask=fits & fits_n, other=0)
        y = y * sy - top
        z = z * sx - left
        seen = fits & fits_c
        if PAD:
            seen = seen & inside(y[:, None] + ty, z[:, None] + tx, H, W)
        b = tl.load(px + offset(image, y, z, xn, xy, xx, WIDE)[:, None], mask=seen, other=0)
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
def direct_wgrad(x, d, out, M: "i32", OH: "i32", OW: "i32", H: "i32", W: "i32", C: "i32", O: "i32", per: "i32",
                 kw: "i32", taps: "i32", sy: "i32", sx: "i32", top: "i32", left: "i32", dy: "i32", dx: "i32",
                 xn: "i64", xy: "i64", xx: "i64", xc, dn: "i64", dh: "i64", dw: "i64", dc, part: "i64",
                 blocks: "i32", BN: tl.constexpr, BK: tl.constexpr, UX: tl.constexpr, UD: tl.constexpr,
                 UN: tl.constexpr, ONE: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr):
    """x (N, H, W, groups * C), d (N, OH, OW, O) -> out (O, C, taps). Program (channels, part, tap and channel of C)."""
    O *= UN
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    if ONE:
        tap = tl.program_id(2)
        c = 0
    else:
        tap = tl.program_id(2) // C
        c = tl.program_id(2) % C
    i = tap // kw
    j = tap % kw
    fits_n = (n < O)[None, :]
    if ONE:
        first = n
    else:
        first = n // per * C
    xy *= UX
    xx *= UX
    px = x + ((i * dy) * xy + (j * dx) * xx + c * xc) + (first * xc)[None, :]
    pd = d + (n * dc)[None, :]
    low = tl.program_id(1) * blocks
    high = tl.minimum(low + blocks, tl.cdiv(M, BK))
    acc = tl.zeros((BK, BN), ACC)
    for k in range(low, high):
        m = k * BK + tl.arange(0, BK)
        fits = (m < M)[:, None] & fits_n
        image, y, z = pixel(m, OH, OW)
        a = tl.load(pd + offset(image, y, z, dn * UD, dh * UD, dw * UD, WIDE)[:, None], mask=fits, other=0)
        y = y * sy - top
        z = z * sx - left
        seen = fits & inside(y + i * dy, z + j * dx, H, W)[:, None]
        b = tl.load(px + offset(image, y, z, xn * UX, xy, xx, WIDE)[:, None], mask=seen, other=0)
        acc += a.to(ACC) * b.to(ACC)
    to = out + tl.program_id(1) * part + (n.to(tl.int64) * C + c) * taps + tap
    tl.store(to, tl.sum(acc, 0).to(out.dtype.element_ty), mask=n < O)


@kernel
def combine_weight(partial, out, total: "i64", C: "i64", taps: "i64", parts: "i32", BLOCK: tl.constexpr):
    """out (O, C, taps) = the sum of ``parts`` arrays (O, taps, C), of ``total`` elements each, in order."""
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    fits = e < total
    acc = tl.load(partial + e, mask=fits, other=0)
    for _ in range(1, parts):
        partial += total
        acc += tl.load(partial + e, mask=fits, other=0)
    to = (e // (taps * C) * C + e % C) * taps + e // C % taps
    tl.store(out + to, acc.to(out.dtype.element_ty), mask=fits)


# --- a batch norm as a factor and a shift ----------------------------------------------------------------

@kernel
def fold(mean, var, weight, shift, bias, scale, out, O: "i64", eps: "fp64", WEIGHT: tl.constexpr, SHIFT: tl.constexpr,
         BIAS: tl.constexpr, BLOCK: tl.constexpr):
    """scale = weight / sqrt(var + eps), out = shift + (bias - mean) * scale, of O channels, computed in float64."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    fits = i < O
    s = 1.0 / tl.sqrt(tl.load(var + i, mask=fits, other=1).to(tl.float64) + eps)
    if WEIGHT:
        s *= tl.load(weight + i, mask=fits, other=0).to(tl.float64)
    moved = -tl.load(mean + i, mask=fits, other=0).to(tl.float64)
    if BIAS:
        moved += tl.load(bias + i, mask=fits, other=0).to(tl.float64)
    moved *= s
    if SHIFT:
        moved += tl.load(shift + i, mask=fits, other=0).to(tl.float64)
    tl.store(scale + i, s.to(scale.dtype.element_ty), mask=fits)
    tl.store(out + i, moved.to(out.dtype.element_ty), mask=fits)
