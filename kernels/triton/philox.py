"""Philox4x32-10 words and what is made of them, on the device.

Every step is an integer operation, or a float operation that IEEE 754 rounds to one result: sums, products, quotients
and square roots to nearest. The kernels that use them are compiled with ``enable_fp_fusion=False``, which keeps
products and sums apart. So an emulated device and a GPU give the same bits, which a library's cosines would not.

With u = (w + 1/2) 2^-32 for a word w (52 bits of two words in float64):

    standard exponential  -log(1 - u) = -e log 2 - log(1 + f),  1 - u = 2^e (1 + f),  log(1 + f) = 2 artanh(f / (2 + f))
    angle 2 pi u          q pi / 2 + a with |a| <= pi / 4, exact in integers; cosine and sine of a by their series
    exp x                 2^k exp r,  |r| <= log(2) / 2, by its series
"""
from __future__ import annotations

import triton
import triton.language as tl

# fused multiply-adds would differ from the emulated device's results
EXACT = {"enable_fp_fusion": False}


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four words (uint32) from a counter and a key of uint32."""
    for _ in tl.static_range(10):
        p = c0.to(tl.uint64) * 0xD2511F53
        q = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (q >> 32).to(tl.uint32) ^ c1 ^ k0
        c2 = (p >> 32).to(tl.uint32) ^ c3 ^ k1
        c1 = q.to(tl.uint32)
        c3 = p.to(tl.uint32)
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def begin(seed, offset):
    """The seed and the offset that (seed, offset) stand for: themselves, or what is in device memory where the offset
    is odd (``kernels/philox.py``). All helpers below do this themselves; a kernel that calls them in a loop should do
    it once before."""
    captured = (offset & 1) != 0
    place = seed.to(tl.pointer_type(tl.int64))
    key = tl.load(place, mask=captured, other=seed)
    start = tl.load(place + 1, mask=captured, other=0)
    return key, (start + offset) & -2


@triton.jit
def blocks(seed, offset, b):
    """The four words of each block ``b`` (int64, counted from ``offset``)."""
    seed, offset = begin(seed, offset)
    b = (offset.to(tl.uint64) >> 2) + b.to(tl.uint64)
    key = seed.to(tl.uint64)
    none = (b ^ b).to(tl.uint32)
    return philox(b.to(tl.uint32), (b >> 32).to(tl.uint32), none, none, key.to(tl.uint32), (key >> 32).to(tl.uint32))


@triton.jit
def pair(low, high):
    """64 bits from two words, the first one high."""
    return (low.to(tl.uint64) << 32) | high.to(tl.uint64)


@triton.jit
def words(seed, offset, start, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """BLOCK words in order, from word ``start`` on: uint32, or uint64 where WIDE (two words each)."""
    even, odd = words_even_odd(seed, offset, start, BLOCK, WIDE)
    return tl.interleave(even, odd)


@triton.jit
def words_even_odd(seed, offset, start, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The even and the odd ones of ``words``. What is costly is computed before they are interleaved: the compiler then
    lets each thread have neighbouring elements from the start, without an exchange between threads."""
    per: tl.constexpr = 2 if WIDE else 4
    w0, w1, w2, w3 = blocks(seed, offset, start // per + tl.arange(0, BLOCK // per))
    if WIDE:
        return pair(w0, w1), pair(w2, w3)
    else:
        return tl.interleave(w0, w2), tl.interleave(w1, w3)


@triton.jit
def word_at(seed, offset, i):
    """Word number ``i`` (int64) for indices in any order."""
    w0, w1, w2, w3 = blocks(seed, offset, i >> 2)
    low = tl.where((i & 1) == 0, w0, w1)
    high = tl.where((i & 1) == 0, w2, w3)
    return tl.where((i & 2) == 0, low, high)


@triton.jit
def uniform01(w):
    """[0, 1): float32 with 24 bits of a word, float64 with 53 bits of two."""
    if w.dtype == tl.uint64:
        return (w >> 11).to(tl.int64).to(tl.float64) * 1.1102230246251565e-16
    else:
        return (w >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def exponential(w):
    """Standard exponential numbers, positive, with full relative precision also where they are small."""
    if w.dtype == tl.uint64:
        w = w >> 12
        u = (w * 2 + 1).to(tl.int64).to(tl.float64) * 1.1102230246251565e-16
        x = (0x1FFFFFFFFFFFFF - w * 2).to(tl.int64).to(tl.float64) * 1.1102230246251565e-16
        bits = x.to(tl.int64, bitcast=True)
        e = (bits - 0x3FE6A09E667F3BCD) >> 52  # 0 where x >= sqrt(1/2)
        m = (bits - (e << 52)).to(tl.float64, bitcast=True)
        k = e.to(tl.float64)
    else:
        u = (w.to(tl.float32) + 0.5) * 2.3283064365386963e-10
        x = ((w ^ 0xFFFFFFFF).to(tl.float32) + 0.5) * 2.3283064365386963e-10
        bits = x.to(tl.int32, bitcast=True)
        e = (bits - 0x3F3504F3) >> 23
        m = (bits - (e << 23)).to(tl.float32, bitcast=True)
        k = e.to(tl.float32)
    f = tl.where(e == 0, -u, m - 1.0)
    if w.dtype == tl.uint64:
        s = f / (f + 2.0)
        z = s * s
        y = z * 0.10526315789473684 + 0.11764705882352941  # 2/19, 2/17, ...
        y = y * z + 0.13333333333333333
        y = y * z + 0.15384615384615385
        y = y * z + 0.18181818181818182
        y = y * z + 0.2222222222222222
        y = y * z + 0.2857142857142857
        high: tl.constexpr = 0.6931471805598903  # log 2 = high + low; e * high is exact
        low: tl.constexpr = 5.497923018708371e-14
    else:
        s = tl.div_rn(f, f + 2.0)
        z = s * s
        y = z * 0.2222222222222222 + 0.2857142857142857
        high: tl.constexpr = 0.693359375
        low: tl.constexpr = -2.1219444005469057e-04
    y = y * z + 0.4
    y = y * z + 0.6666666666666666
    y = y * z * s + (s + s)
    return -(k * high + (k * low + y))


@triton.jit
def cos_sin(w):
    """Cosine and sine of 2 pi u; neither is ever 0."""
    if w.dtype == tl.uint64:
        q = ((w + 0x2000000000000000) >> 62).to(tl.int32)
        a = ((w << 2) + 2).to(tl.int64).to(tl.float64) * 8.515303950216386e-20  # pi 2^-65
        z = a * a
        s = z * 2.8114572543455206e-15 - 7.647163731819816e-13  # 1/17!, -1/15!, ...
        s = s * z + 1.6059043836821613e-10
        s = s * z - 2.505210838544172e-08
        s = s * z + 2.7557319223985893e-06
        c = z * 4.779477332387385e-14 - 1.1470745597729725e-11
        c = c * z + 2.08767569878681e-09
        c = c * z - 2.755731922398589e-07
        c = c * z + 2.48015873015873e-05
    else:
        q = ((w + 0x20000000) >> 30).to(tl.int32)
        a = ((w << 2) + 2).to(tl.int32).to(tl.float32) * 3.657295198167899e-10  # pi 2^-33
        z = a * a
        s = tl.full(z.shape, 2.7557319223985893e-06, tl.float32)
        c = tl.full(z.shape, 2.48015873015873e-05, tl.float32)
    s = s * z - 0.0001984126984126984
    s = s * z + 0.008333333333333333
    s = s * z - 0.16666666666666666
    s = s * z * a + a
    c = c * z - 0.001388888888888889
    c = c * z + 0.041666666666666664
    c = (c * z - 0.5) * z + 1.0
    odd = (q & 1) != 0
    cosine = tl.where(odd, s, c)
    sine = tl.where(odd, c, s)
    return tl.where(((q + 1) & 2) != 0, -cosine, cosine), tl.where((q & 2) != 0, -sine, sine)


@triton.jit
def normals(radius, angle):
    """Two standard normal numbers (Box and Muller 1958) from a word each for the radius and the angle."""
    e = exponential(radius) * 2.0
    if radius.dtype == tl.uint64:
        r = tl.sqrt(e)
    else:
        r = tl.sqrt_rn(e)
    c, s = cos_sin(angle)
    return r * c, r * s


@triton.jit
def cauchy(w):
    """Standard Cauchy numbers: the tangent of half of t = 2 pi u, as sin t / (1 + cos t) or (1 - cos t) / sin t."""
    c, s = cos_sin(w)
    near = c >= 0
    a = tl.where(near, s, 1.0 - c)
    b = tl.where(near, c + 1.0, s)
    if w.dtype == tl.uint64:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def exp(x):
    """exp x of float32 or float64: 0, denormal numbers and inf where they belong; nan stays."""
    if x.dtype == tl.float64:
        y = tl.minimum(tl.maximum(x, -750.0), 711.0)
        k = tl.floor(y * 1.4426950408889634 + 0.5)
        r = (y - k * 0.6931471805598903) - k * 5.497923018708371e-14
        p = r * 1.6059043836821613e-10 + 2.08767569878681e-09  # 1/13!, 1/12!, ...
        p = p * r + 2.505210838544172e-08
        p = p * r + 2.755731922398589e-07
        p = p * r + 2.7557319223985893e-06
        p = p * r + 2.48015873015873e-05
        p = p * r + 0.0001984126984126984
    else:
        y = tl.minimum(tl.maximum(x, -105.0), 90.0)
        k = tl.floor(y * 1.4426950408889634 + 0.5)
        r = (y - k * 0.693359375) - k * -2.1219444005469057e-04
        p = tl.full(r.shape, 0.0001984126984126984, tl.float32)
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    p = (p * r * r + r) + 1.0
    i = k.to(tl.int32)
    half = i >> 1
    return tl.where(x == x, p * power_of_2(half, x.dtype) * power_of_2(i - half, x.dtype), x)


@triton.jit
def power_of_2(i, dtype: tl.constexpr):
    """2^i, made of its bits."""
    if dtype == tl.float64:
        return ((i.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    else:
        return ((i + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def below(w, span):
    """Integers below ``span`` (uint64): the high part of the product, so that what a span that divides no power of 2
    leaves over is spread evenly."""
    if w.dtype == tl.uint64:
        a, b = w >> 32, w & 0xFFFFFFFF
        c, d = span >> 32, span & 0xFFFFFFFF
        ad, bc = a * d, b * c
        middle = (b * d >> 32) + (ad & 0xFFFFFFFF) + (bc & 0xFFFFFFFF)
        return a * c + (ad >> 32) + (bc >> 32) + (middle >> 32)
    else:
        return w.to(tl.uint64) * span >> 32


@triton.jit
def put(out, v, start, n, BLOCK: tl.constexpr):
    """Store BLOCK contiguous elements from ``start`` on, without a mask where all are inside."""
    at = out + start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        tl.store(at, v)
    else:
        tl.store(at, v, mask=tl.arange(0, BLOCK) < (n - start).to(tl.int32))


@triton.jit
def get(x, start, n, BLOCK: tl.constexpr):
    """Load BLOCK contiguous elements from ``start`` on: 0 beyond n."""
    at = x + start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        v = tl.load(at)
    else:
        v = tl.load(at, mask=tl.arange(0, BLOCK) < (n - start).to(tl.int32), other=0)
    return v
