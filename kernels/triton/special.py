"""The error function, the gamma function's logarithm and its derivatives.

erf, erfc, erfinv and lgamma are the math library's, in float32 for the 16-bit types and float32. digamma: the
recurrence up to 10, then its asymptotic series, the reflection formula below 0. polygamma: Euler-Maclaurin summation of
the Hurwitz zeta function; for the first one the reflection formula reaches all negative numbers. These two are computed
in float64:

    psi(x) = log(x) - 1 / 2x - sum of B(2k) / (2k x^2k)
    zeta(s, q) = sum of (q + k)^-s, k = 0 .. K - 1,  + a^(1 - s) / (s - 1) + a^-s / 2
                 + sum of B(2k) / (2k)! s (s + 1) ... (s + 2k - 2) a^(-s - 2k + 1),  a = q + K > 10
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton.elementwise import elementwise
from tritium.kernels.triton.pointwise import Unary, flat_case
from tritium.kernels.triton.pointwise_ops import with_sign

PI: tl.constexpr = tl.constexpr(math.pi)
INF: tl.constexpr = tl.constexpr(math.inf)
NAN: tl.constexpr = tl.constexpr(math.nan)
LONGEST: tl.constexpr = tl.constexpr(10_000)  # terms of zeta that are added one by one at most

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330,
             854513 / 138, -236364091 / 2730)
DIGAMMA: tl.constexpr = tl.constexpr(tuple(b / (2 * k) for k, b in enumerate(BERNOULLI[:8], 1)))
ZETA: tl.constexpr = tl.constexpr(tuple(b / math.factorial(2 * k) for k, b in enumerate(BERNOULLI, 1)))


@triton.jit
def erf_of(a):
    return libdevice.erf(a)


@triton.jit
def erfc_of(a):
    return libdevice.erfc(a)


@triton.jit
def erfinv_of(a):
    return libdevice.erfinv(a)


@triton.jit
def lgamma_of(a):
    return libdevice.lgamma(a)


@triton.jit
def digamma_of(a):
    x = a.to(tl.float64)
    below = x < 0
    y = tl.where(below, 1 - x, x)
    lower = tl.zeros(y.shape, tl.float64)
    for _ in range(10):
        lower += tl.where(y < 10, 1 / tl.where(y < 10, y, 1), 0)
        y = tl.where(y < 10, y + 1, y)
    z = 1 / (y * y)
    series = tl.full(y.shape, DIGAMMA[7], tl.float64)
    for k in tl.static_range(1, 8):
        series = series * z + DIGAMMA[7 - k]
    r = libdevice.log(y) - 0.5 / y - series * z - lower
    r = tl.where(below, r - PI / libdevice.tan(PI * (x - libdevice.trunc(x))), r)
    r = tl.where(below & (x == tl.floor(x)), NAN, r)
    return tl.where(x == 0, with_sign(tl.full(x.shape, INF, tl.float64), -1.0 * x), r)


@triton.jit
def zeta(q, s):
    """The Hurwitz zeta function for whole s > 1."""
    total = tl.zeros(q.shape, tl.float64)
    a = q
    steps = 0
    while (tl.max(((a <= 10) & (a > -INF)).to(tl.int32)) > 0) & (steps < LONGEST):
        total += tl.where(a <= 10, libdevice.pow(tl.where(a <= 10, a, 1), -1.0 * s), 0)
        a = tl.where(a <= 10, a + 1, a)
        steps += 1
    power = libdevice.pow(a, -1.0 * s)
    total += libdevice.pow(a, 1 - s) / (s - 1) + 0.5 * power
    factor = s
    power = power / a
    for k in tl.static_range(12):
        total += ZETA[k] * factor * power
        factor = factor * (s + 2 * k + 1) * (s + 2 * k + 2)
        power = power / (a * a)
    return tl.where((q <= 0) & (q == tl.floor(q)), INF, total)


@triton.jit
def trigamma_of(a):
    x = a.to(tl.float64)
    below = x < 0.5
    above = zeta(tl.where(below, 1 - x, x), tl.full(x.shape, 2, tl.float64))
    ratio = PI / libdevice.sin(PI * (x - libdevice.nearbyint(x)))
    return tl.where(below, ratio * ratio - above, above)


@triton.jit
def polygamma_of(a, s, factor):
    """s = n + 1, factor = (-1)^(n + 1) n!, both float64."""
    return factor * zeta(a.to(tl.float64), s)


erf = Unary("erf", erf_of)
erfc = Unary("erfc", erfc_of)
erfinv = Unary("erfinv", erfinv_of)
lgamma = Unary("lgamma", lgamma_of)
digamma = Unary("digamma", digamma_of, heavy=8)
_trigamma = Unary("polygamma", trigamma_of, heavy=8)


def polygamma(n: int, x: Any) -> Any:
    """The n-th derivative of digamma, n >= 1."""
    if n == 1:
        return _trigamma(x)
    factor = (-1.0) ** (n + 1) * math.factorial(n)
    return elementwise(polygamma_of, (x,), (n + 1.0, factor), x.dtype, None, tl.float64, heavy=8)


def cases() -> Iterator[Case]:
    """What is shipped: every function in float32, some in the other dtypes."""
    for name, op in (("erf", erf_of), ("erfc", erfc_of), ("erfinv", erfinv_of), ("lgamma", lgamma_of),
                     ("digamma", digamma_of), ("trigamma", trigamma_of)):
        for dtype in ("fp32", "bf16", "fp64") if name == "erf" else ("fp32",):
            heavy = 8 if op in (digamma_of, trigamma_of) else 1
            yield flat_case(name, op, [dtype], dtype, heavy=heavy, family="special")
    yield flat_case("polygamma", polygamma_of, ["fp32"], "fp32", 2, tl.float64, heavy=8, family="special")
