"""One line of arithmetic per op of two or more operands, on blocks: what ``pointwise.py`` has in its tables.

The operands have one type. Integers are divided as C does it, and mended from the remainder:

    floor(a / b) = trunc(a / b) - (a % b != 0 and one of a % b, b is negative)
"""
from __future__ import annotations

import math

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.triton.pointwise_ops import bits, quotient, with_sign

INF: tl.constexpr = tl.constexpr(math.inf)
NAN: tl.constexpr = tl.constexpr(math.nan)
LN2: tl.constexpr = tl.constexpr(math.log(2))
LOG2E: tl.constexpr = tl.constexpr(1 / math.log(2))


# --- helpers ---

@triton.jit
def lifted(a, b):
    """a, so that it compares with b as a number: bool and integers of two types as int64."""
    if a.dtype == tl.int1:
        r = a.to(tl.int8) if b.dtype == tl.int1 else a.to(tl.int64)
    elif a.dtype != b.dtype:
        r = a.to(tl.int64)
    else:
        r = a
    return r


@triton.jit
def differ_in_sign(a, b):
    """Whether one of two numbers is negative."""
    return (a < 0) ^ (b < 0)


# --- arithmetic of two ---

@triton.jit
def add(a, b):
    return a | b if a.dtype == tl.int1 else a + b


@triton.jit
def sub(a, b):
    return a - b


@triton.jit
def mul(a, b):
    return a & b if a.dtype == tl.int1 else a * b


@triton.jit
def div(a, b):
    return quotient(a, b)


@triton.jit
def floor_divide(a, b):
    """Division rounded down, from the remainder; the sign of zero and inf follow a / b."""
    if a.dtype.is_floating():
        rest = libdevice.fmod(a, b)
        whole = quotient(a - rest, b)
        whole = tl.where((rest != 0) & differ_in_sign(rest, b), whole - 1, whole)
        down = tl.floor(whole)
        down = tl.where(whole - down > 0.5, down + 1, down)
        q = quotient(a, b)
        r = tl.where(b == 0, q, tl.where(whole == 0, with_sign(q * 0, q), down))
    else:
        r = a // b
        rest = a % b
        r = tl.where((rest != 0) & differ_in_sign(rest, b), r - 1, r)
    return r


@triton.jit
def trunc_divide(a, b):
    return libdevice.trunc(quotient(a, b)) if a.dtype.is_floating() else a // b


@triton.jit
def remainder(a, b):
    """With the sign of b."""
    rest = fmod(a, b)
    return tl.where((rest != 0) & differ_in_sign(rest, b), rest + b, rest)


@triton.jit
def fmod(a, b):
    """With the sign of a."""
    return libdevice.fmod(a, b) if a.dtype.is_floating() else a % b


@triton.jit
def power(a, b):
    return libdevice.pow(a, b)


@triton.jit
def int_pow(a, b):
    """Integers, by repeated squaring: a negative power is 0 but for 1 and -1."""
    negative = b < 0
    left = tl.where(negative, 0, b)
    steps = tl.max(left)
    r = tl.full(a.shape, 1, a.dtype)
    base = a
    while steps > 0:
        r = tl.where(left & 1 == 1, r * base, r)
        base = base * base
        left = left >> 1
        steps = steps >> 1
    if a.dtype.is_int_signed():
        r = tl.where(negative, tl.where(a == 1, 1, tl.where(a == -1, 1 - 2 * (b & 1), 0)), r)
    return r


@triton.jit
def atan2(a, b):
    return libdevice.atan2(a, b)


@triton.jit
def hypot(a, b):
    return libdevice.hypot(a, b)


@triton.jit
def maximum(a, b):
    """nan if one of them is."""
    if a.dtype.is_floating():
        r = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    else:
        r = a | b if a.dtype == tl.int1 else tl.maximum(a, b)
    return r


@triton.jit
def minimum(a, b):
    if a.dtype.is_floating():
        r = tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
    else:
        r = a & b if a.dtype == tl.int1 else tl.minimum(a, b)
    return r


@triton.jit
def fmax(a, b):
    """The one that is no nan."""
    return tl.where(a != a, b, tl.where(b != b, a, maximum(a, b))) if a.dtype.is_floating() else maximum(a, b)


@triton.jit
def fmin(a, b):
    return tl.where(a != a, b, tl.where(b != b, a, minimum(a, b))) if a.dtype.is_floating() else minimum(a, b)


@triton.jit
def logaddexp(a, b):
    far = maximum(a, b) + libdevice.log1p(libdevice.exp(-tl.abs(a - b)))
    return tl.where(a == b, a + LN2, far)


@triton.jit
def logaddexp2(a, b):
    far = maximum(a, b) + libdevice.log1p(libdevice.exp2(-tl.abs(a - b))) * LOG2E
    return tl.where(a == b, a + 1, far)


@triton.jit
def copysign(a, b):
    return with_sign(a, b)


@triton.jit
def nextafter(a, b):
    """The neighbour of a on the way to b: the next or previous integer of the same bits."""
    i = bits(a)
    up = tl.where((a < b) ^ (a < 0), 1, -1).to(i.dtype)
    near = (i + up).to(a.dtype, bitcast=True)
    least = with_sign(tl.full(i.shape, 1, i.dtype).to(a.dtype, bitcast=True), b)
    r = tl.where(a == b, b, tl.where(i + i == 0, least, near))
    return tl.where((a != a) | (b != b), NAN, r)


@triton.jit
def ldexp(a, b):
    return a * libdevice.exp2(b)


@triton.jit
def xlogy(a, b):
    return tl.where(b != b, NAN, tl.where(a == 0, 0, a * libdevice.log(b)))


@triton.jit
def heaviside(a, b):
    return tl.where(a == 0, b, (a > 0).to(b.dtype))


@triton.jit
def unsigned(a):
    """The absolute value in uint64."""
    return tl.abs(a.to(tl.int64)).to(tl.uint64) if a.dtype.is_int_signed() else a.to(tl.uint64)


@triton.jit
def euclid(x, y):
    """The greatest common divisor of uint64 numbers."""
    while tl.max((y != 0).to(tl.int32)) > 0:
        rest = tl.where(y == 0, 0, x % tl.where(y == 0, 1, y))
        x = tl.where(y == 0, x, y)
        y = rest
    return x


@triton.jit
def gcd(a, b):
    return euclid(unsigned(a), unsigned(b)).to(a.dtype)


@triton.jit
def lcm(a, b):
    x, y = unsigned(a), unsigned(b)
    divisor = euclid(x, y)
    return (x // tl.where(divisor == 0, 1, divisor) * y).to(a.dtype)


# --- bits ---

@triton.jit
def bitwise_and(a, b):
    return a & b


@triton.jit
def bitwise_or(a, b):
    return a | b


@triton.jit
def bitwise_xor(a, b):
    return a ^ b


@triton.jit
def left_shift(a, b):
    """0 when nothing is left; negative shifts are as long ones."""
    gone = (b < 0) | (b >= a.dtype.primitive_bitwidth)
    return tl.where(gone, 0, a << tl.where(gone, 0, b))


@triton.jit
def right_shift(a, b):
    """The sign moves in."""
    gone = (b < 0) | (b >= a.dtype.primitive_bitwidth)
    r = a >> tl.where(gone, 0, b)
    if a.dtype.is_int_signed():
        r = tl.where(gone, tl.where(a < 0, a | -1, 0), r)
    else:
        r = tl.where(gone, 0, r)
    return r


# --- comparisons ---

@triton.jit
def eq(a, b):
    return lifted(a, b) == lifted(b, a)


@triton.jit
def ne(a, b):
    return lifted(a, b) != lifted(b, a)


@triton.jit
def lt(a, b):
    return lifted(a, b) < lifted(b, a)


@triton.jit
def le(a, b):
    return lifted(a, b) <= lifted(b, a)


@triton.jit
def gt(a, b):
    return lifted(a, b) > lifted(b, a)


@triton.jit
def ge(a, b):
    return lifted(a, b) >= lifted(b, a)


@triton.jit
def logical_and(a, b):
    return (a != 0) & (b != 0)


@triton.jit
def logical_or(a, b):
    return (a != 0) | (b != 0)


@triton.jit
def logical_xor(a, b):
    return (a != 0) ^ (b != 0)


# --- choices and mixtures ---

@triton.jit
def choose(c, a, b):
    return tl.where(c, a, b)


@triton.jit
def choose_left(c, b, a):
    """``choose`` with a number instead of a."""
    return tl.where(c, a, b)


@triton.jit
def clamp(a, low, high):
    return minimum(maximum(a, low), high)


@triton.jit
def clamp_above(a, high, low):
    """``clamp`` with a number instead of low."""
    return minimum(maximum(a, low), high)


@triton.jit
def lerp(a, b, weight):
    """From the nearer end."""
    w = weight.to(a.dtype)
    return tl.where(tl.abs(w) < 0.5, a + w * (b - a), b - (b - a) * (1 - w))


@triton.jit
def addcmul(a, x, y, value):
    return a + value * x * y


@triton.jit
def addcdiv(a, x, y, value):
    return a + quotient(value * x, y)


@triton.jit
def nan_to_num(a, nan, high, low):
    return tl.where(a != a, nan, tl.where(a == INF, high, tl.where(a == -INF, low, a)))


@triton.jit
def isclose(a, b, rtol, atol):
    """|a - b| <= atol + rtol |b|, or equal."""
    error = tl.abs(a - b)
    return (a == b) | ((error <= atol + tl.abs(rtol * b)) & (error < INF))


@triton.jit
def isclose_nan(a, b, rtol, atol):
    """``isclose`` with nan close to nan."""
    return isclose(a, b, rtol, atol) | ((a != a) & (b != b))

