"""The error function, the gamma function's logarithm and its derivatives, which NumPy lacks.

erf in float64: a Taylor series below 1; above it 1 - exp(-x^2) u C(u) with u = 1 / (1 + x / 2) and C a Chebyshev series
that was fitted to erfc with 40 digits. Within 2e-16. float32: x P(x^2) / Q(x^2), a rational fit on [0, 4], within 4e-7.
erfc: the same series. erfinv: Wichura's algorithm AS 241 (Applied Statistics 37, 1988), one part in 1e16.
lgamma: Taylor series around 1 and 2 (Abramowitz and Stegun 6.1.33), Stirling's series from 10 on (6.1.41), the
recurrence between, the reflection formula below 0. polygamma: Euler-Maclaurin summation of the Hurwitz zeta function.
All but erf compute float32 and the 16-bit types in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels.reference.quiet import quiet

Array = Any

TAYLOR = tuple(2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(20))

CHEBYSHEV = (
    0.43645785270859865511, 0.17777556529020942594, 0.025368743291002740969, 0.0018983124584858347036,
    -0.000091148755145987650712, -0.0000342314420130630658, -3.9034040900963487252e-7, 6.5524948382494733014e-7,
    2.1491725090828274635e-8, -1.5768303155349185972e-8, -3.873623837875630632e-10, 4.5595689169552000528e-10,
    -5.6132033539528004231e-12, -1.4324542177851613031e-11, 1.0697250760053043711e-12, 4.3070079849405238021e-13,
    -7.513986285954995333e-14, -9.7209722944400333947e-15, 4.0004837597381354038e-15, -3.6141007021446840304e-17,
    -1.6775033813319780706e-16, 2.2844022232832053834e-17, 4.5966480226193330184e-18,
)  # fmt: skip

# lowest power first; as the float32 numbers are used
NUMERATOR = (1.128379139536201, 0.19353580751952007, 0.05310023641957239, 0.003882862539294501,
             0.0002845416651449396, 1.9866861081662666e-06)  # fmt: skip
DENOMINATOR = (1.0, 0.5048492027601199, 0.11534591595930822, 0.015206304855127237, 0.0011854287526123638,
               3.741788749093882e-05)  # fmt: skip


def horner(z: Any, coefficients: tuple[float, ...]) -> Any:
    """The polynomial with these coefficients, lowest power first, at `z`."""
    kind = z.dtype.type
    total = z * kind(coefficients[-1])
    for c in coefficients[-2:0:-1]:
        total += kind(c)
        total *= z
    total += kind(coefficients[0])
    return total


def erf(x: Any) -> Any:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x. float16 and bfloat16 are computed in float32."""
    if x.dtype == np.float64:
        return np.asarray(_erf64(x))
    if x.dtype == np.float32:
        return np.asarray(_erf32(x))
    return np.asarray(_erf32(x.astype(np.float32))).astype(x.dtype)


def _erf32(x: Any) -> Any:
    x = np.clip(x, np.float32(-4), np.float32(4))  # erf(4) is 1 - 1.5e-8: 1 in float32
    z = x * x
    top = horner(z, NUMERATOR)
    top *= x
    top /= horner(z, DENOMINATOR)
    return np.clip(top, np.float32(-1), np.float32(1))


def _erf64(x: Any) -> Any:
    size = np.abs(x)
    small = np.minimum(size, 1.0)
    near = horner(small * small, TAYLOR) * small
    large = np.maximum(size, 1.0)
    u = 1 / (1 + large / 2)
    t = 3 * u - 1
    above, total = np.zeros_like(t), np.zeros_like(t)
    for c in CHEBYSHEV[:0:-1]:  # Clenshaw's recurrence
        above, total = total, 2 * t * total - above + c
    far = 1 - np.exp(-large * large) * u * (t * total - above + CHEBYSHEV[0])
    return np.copysign(np.where(size > 1, far, near), x)


def _tail(x: Array) -> Array:
    """erfc for x >= 1. The square is taken in two parts, so that exp keeps all digits."""
    u = 1 / (1 + x / 2)
    t = 3 * u - 1
    above, total = np.zeros_like(t), np.zeros_like(t)
    for c in CHEBYSHEV[:0:-1]:  # Clenshaw's recurrence
        above, total = total, 2 * t * total - above + c
    head = x.astype(np.float32).astype(np.float64)  # its square is exact
    square = np.exp(-head * head) * np.exp(-(x - head) * (x + head))
    return np.where(x > 27, 0.0, square * u * (t * total - above + CHEBYSHEV[0]))


def _through_float64(f: Any) -> Any:
    @quiet
    def kernel(*arguments: Any) -> Array:
        a = arguments[-1]
        r = f(*arguments[:-1], a if a.dtype == np.float64 else a.astype(np.float64))
        return np.asarray(r).astype(a.dtype, copy=False)

    kernel.__doc__ = f.__doc__
    return kernel


@_through_float64
def erfc(x: Array) -> Array:
    """1 - erf(x), exact also where erf is near 1."""
    size = np.abs(x)
    near = 1 - horner(np.minimum(size, 1) ** 2, TAYLOR) * np.clip(x, -1, 1)
    far = _tail(np.clip(size, 1, 30))
    return np.where(np.isnan(x), x, np.where(size < 1, near, np.where(x < 0, 2 - far, far)))


# AS 241, PPND16: numerators and denominators, lowest power first
CENTRE = ((3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
           4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
          (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
           3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3))
MIDDLE = ((1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
           1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
          (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
           1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9))
FAR = ((6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
        2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
       (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
        7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15))


def _ratio(r: Array, parts: Any) -> Array:
    return horner(r, parts[0]) / horner(r, parts[1])


@_through_float64
def erfinv(x: Array) -> Array:
    """The number whose erf is x: inf at 1, nan outside [-1, 1]."""
    q = x / 2
    centre = q * _ratio(0.180625 - q * q, CENTRE)
    r = np.sqrt(-np.log(np.clip((1 - np.abs(x)) / 2, 1e-300, 0.5)))
    tail = np.copysign(np.where(r <= 5, _ratio(r - 1.6, MIDDLE), _ratio(r - 5, FAR)), x)
    normal = np.where(np.abs(q) <= 0.425, centre, tail) / math.sqrt(2)
    return np.where(np.abs(x) < 1, normal, np.where(np.abs(x) == 1, np.copysign(np.inf, x), np.nan))


# zeta(k) - 1 for k = 2, 3, ...
ZETA = (0.64493406684822643647, 0.2020569031595942854, 0.082323233711138191516, 0.036927755143369926331,
        0.017343061984449139715, 0.0083492773819228268398, 0.0040773561979443393787, 0.0020083928260822144179,
        0.00099457512781808533715, 0.0004941886041194645587, 0.00024608655330804829864, 0.00012271334757848914675,
        0.000061248135058704829259, 0.000030588236307020493552, 0.000015282259408651871733, 7.6371976378997622736e-6,
        3.8172932649998398565e-6, 1.9082127165539389257e-6, 9.5396203387279611315e-7, 4.7693298678780646312e-7,
        2.3845050272773299e-7, 1.1921992596531107307e-7, 5.9608189051259479612e-8, 2.9803503514652280186e-8,
        1.4901554828365041235e-8, 7.450711789835429492e-9)
AROUND_2 = (0.0, 0.42278433509846713939, *[(-1) ** k * z / k for k, z in enumerate(ZETA, 2)])
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330,
             854513 / 138, -236364091 / 2730)
STIRLING = tuple(b / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI[:8], 1))


def _lgamma_positive(x: Array) -> Array:
    small = np.clip(x, 5e-324, 10)
    # shift into [1.5, 2.5) and keep the logarithm of the factors
    steps = np.where(small < 0.5, 2, np.where(small < 1.5, 1, 2 - np.floor(small + 0.5))).astype(np.int64)
    z = small - (2 - steps)
    product = np.ones_like(small)
    for k in range(1, 9):
        product = np.where(-steps >= k, product * (small - k), product)
    up = np.where(steps == 1, -np.log1p(np.where(steps == 1, z, 0)), 0.0)
    up = np.where(steps == 2, -np.log(small) - np.log1p(np.where(steps == 2, small, 0)), up)
    near = horner(z, AROUND_2) + np.log(product) + up
    large = np.maximum(x, 10)
    far = (large - 0.5) * np.log(large) - large + 0.5 * math.log(2 * math.pi) + horner(1 / large ** 2, STIRLING) / large
    return np.where(x < 10, near, far)


def _sin_pi(x: Array) -> Array:
    """sin(pi x) up to its sign, exact at whole numbers."""
    return np.sin(math.pi * (x - np.rint(x)))


@_through_float64
def lgamma(x: Array) -> Array:
    """The logarithm of the absolute value of the gamma function: inf at 0, -1, -2, ..."""
    below = x < 0
    positive = _lgamma_positive(np.where(below, 1 - x, x))
    reflected = math.log(math.pi) - np.log(np.abs(_sin_pi(x))) - positive
    r = np.where(below, reflected, positive)
    r = np.where((x <= 0) & (x == np.floor(x)), np.inf, r)
    return np.where(np.isinf(x), np.inf, np.where(np.isnan(x), x, r))


DIGAMMA = tuple(b / (2 * k) for k, b in enumerate(BERNOULLI[:8], 1))


@_through_float64
def digamma(x: Array) -> Array:
    """The derivative of lgamma: nan at -1, -2, ..., infinite at 0."""
    below = x < 0
    y = np.where(below, 1 - x, x)
    lower = np.zeros_like(y)
    for _ in range(10):
        small = y < 10
        lower = np.where(small, lower + 1 / np.where(small, y, 1), lower)
        y = np.where(small, y + 1, y)
    r = np.log(y) - 0.5 / y - horner(1 / y ** 2, DIGAMMA) / y ** 2 - lower
    r = np.where(below, r - math.pi / np.tan(math.pi * (x - np.trunc(x))), r)
    r = np.where(below & (x == np.floor(x)), np.nan, r)
    return np.where(x == 0, np.copysign(np.inf, -x), r)


def _zeta(s: int, q: Array) -> Array:
    """The sum of (q + k) ** -s over k = 0, 1, ..., for a whole number s > 1."""
    total = np.zeros_like(q)
    a = q
    for _ in range(10_000):
        small = a <= 10
        if not small.any():
            break
        total = np.where(small, total + np.where(small, a, 1.0) ** -s, total)
        a = np.where(small, a + 1, a)
    total = total + a ** (1.0 - s) / (s - 1) + 0.5 * a ** -s
    factor, power = float(s), a ** (-s - 1.0)
    for k, b in enumerate(BERNOULLI, 1):
        total = total + b / math.factorial(2 * k) * factor * power
        factor *= (s + 2 * k - 1) * (s + 2 * k)
        power = power / a ** 2
    return np.where((q <= 0) & (q == np.floor(q)), np.inf, total)


@_through_float64
def polygamma(n: int, x: Array) -> Array:
    """The n-th derivative of digamma, n >= 1."""
    if n == 1:  # the reflection formula reaches all negative numbers
        below = x < 0.5
        positive = _zeta(2, np.where(below, 1 - x, x))
        return np.where(below, (math.pi / _sin_pi(x)) ** 2 - positive, positive)
    return (-1.0) ** (n + 1) * math.factorial(n) * _zeta(n + 1, x)
