"""One line of arithmetic per op of one operand, on blocks: what ``pointwise.py`` has in its tables.

The 16-bit floats arrive in float32, all else in its own type; the result is rounded by the launcher. Quotients and
square roots are rounded as IEEE 754 says, functions are those of the math library, not the processor's approximations.
"""
from __future__ import annotations

import math

import triton
import triton.language as tl
from triton.language.extra import libdevice

INF: tl.constexpr = tl.constexpr(math.inf)
PI: tl.constexpr = tl.constexpr(math.pi)
DEGREE: tl.constexpr = tl.constexpr(math.pi / 180)
RADIAN: tl.constexpr = tl.constexpr(180 / math.pi)


# --- helpers ---

@triton.jit
def quotient(a, b):
    """a / b, floats, rounded once."""
    if a.dtype == tl.float32:
        r = tl.div_rn(a, b)
    else:
        r = a / b
    return r


@triton.jit
def inverse(a):
    """1 / a, rounded once."""
    return quotient(tl.full(a.shape, 1, a.dtype), a)


@triton.jit
def bits(a):
    """The bits of a float as an integer."""
    if a.dtype == tl.float32:
        r = a.to(tl.int32, bitcast=True)
    else:
        r = a.to(tl.int64, bitcast=True)
    return r


@triton.jit
def with_sign(a, b):
    """a with the sign bit of b."""
    if a.dtype == tl.float32:
        r = ((bits(a) & 0x7FFFFFFF) | (bits(b) & -0x80000000)).to(tl.float32, bitcast=True)
    else:
        r = ((bits(a) & 0x7FFFFFFFFFFFFFFF) | (bits(b) & -0x8000000000000000)).to(tl.float64, bitcast=True)
    return r


# --- one operand ---

@triton.jit
def neg(a):
    return a * -1.0 if a.dtype.is_floating() else 0 - a  # 0 - a would lose the sign of zero


@triton.jit
def absolute(a):
    return a if a.dtype == tl.int1 else tl.abs(a)


@triton.jit
def sign(a):
    return a if a.dtype == tl.int1 else (a > 0).to(a.dtype) - (a < 0).to(a.dtype)


@triton.jit
def relu(a):
    return tl.where(a <= 0, 0, a)


@triton.jit
def floor(a):
    return tl.floor(a)


@triton.jit
def ceil(a):
    return tl.ceil(a)


@triton.jit
def trunc(a):
    return libdevice.trunc(a)


@triton.jit
def nearest(a):
    return libdevice.nearbyint(a)  # halves to even


@triton.jit
def frac(a):
    return a - libdevice.trunc(a)


@triton.jit
def square(a):
    return a.to(tl.int64) if a.dtype == tl.int1 else a * a


@triton.jit
def sqrt(a):
    return tl.sqrt_rn(a) if a.dtype == tl.float32 else tl.sqrt(a)


@triton.jit
def rsqrt(a):
    return tl.rsqrt(a)


@triton.jit
def exp(a):
    return libdevice.exp(a)


@triton.jit
def exp2(a):
    return libdevice.exp2(a)


@triton.jit
def expm1(a):
    return libdevice.expm1(a)


@triton.jit
def log(a):
    return libdevice.log(a)


@triton.jit
def log2(a):
    return libdevice.log2(a)


@triton.jit
def log10(a):
    return libdevice.log10(a)


@triton.jit
def log1p(a):
    return libdevice.log1p(a)


@triton.jit
def sin(a):
    return libdevice.sin(a)


@triton.jit
def cos(a):
    return libdevice.cos(a)


@triton.jit
def tan(a):
    return libdevice.tan(a)


@triton.jit
def asin(a):
    return libdevice.asin(a)


@triton.jit
def acos(a):
    return libdevice.acos(a)


@triton.jit
def atan(a):
    return libdevice.atan(a)


@triton.jit
def sinh(a):
    return libdevice.sinh(a)


@triton.jit
def cosh(a):
    return libdevice.cosh(a)


@triton.jit
def tanh(a):
    return libdevice.tanh(a)


@triton.jit
def asinh(a):
    return libdevice.asinh(a)


@triton.jit
def acosh(a):
    return libdevice.acosh(a)


@triton.jit
def atanh(a):
    return libdevice.atanh(a)


@triton.jit
def sigmoid(a):
    return inverse(1 + libdevice.exp(-a))


@triton.jit
def logit(a):
    return libdevice.log(quotient(a, 1 - a))


@triton.jit
def sinc(a):
    return tl.where(a == 0, 1, quotient(libdevice.sin(a * PI), a * PI))


@triton.jit
def deg2rad(a):
    return a * DEGREE


@triton.jit
def rad2deg(a):
    return a * RADIAN


@triton.jit
def isnan(a):
    return a != a


@triton.jit
def isinf(a):
    return tl.abs(a) == INF


@triton.jit
def isfinite(a):
    return tl.abs(a) < INF


@triton.jit
def isposinf(a):
    return a == INF


@triton.jit
def isneginf(a):
    return a == -INF


@triton.jit
def signbit(a):
    return bits(a) < 0 if a.dtype.is_floating() else a < 0


@triton.jit
def never(a):
    return a != a


@triton.jit
def always(a):
    return a == a


@triton.jit
def logical_not(a):
    return a == 0


@triton.jit
def bitwise_not(a):
    return a == 0 if a.dtype == tl.int1 else ~a
