"""The math library that kernels call on a GPU, in NumPy: ``compute("tanh", [x])``.

float32 is computed in float64 and rounded, so it is as good as exact; float64 is what NumPy and the C library give.
Triton's own tables say which function takes which types (``triton.language.extra.cuda.libdevice``): a call that would
not compile raises here too.
"""
from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels.reference import special


def _elementwise(function: Callable[..., float], count: int = 1) -> Callable[..., Any]:
    """A Python function of floats, over arrays of float64."""
    ufunc = np.frompyfunc(function, count, 1)
    return lambda *xs: np.asarray(ufunc(*xs), np.float64)


def _guarded(function: Callable[..., float], pole: float, domain: float = math.nan) -> Callable[..., float]:
    def guarded(*xs: float) -> float:
        try:
            return function(*xs)
        except OverflowError:
            return pole
        except ValueError:
            return domain

    return guarded


def _gamma(x: float) -> float:
    if x == 0:
        return math.copysign(math.inf, x)
    return math.nan if x < 0 and x == math.floor(x) else math.gamma(x)


_libm: Any = ctypes.CDLL("libm.so.6")
_libm.fma.argtypes, _libm.fma.restype = [ctypes.c_double] * 3, ctypes.c_double
_fma = _elementwise(_libm.fma, 3)


def fma64(x: Any, y: Any, z: Any) -> Any:
    """x * y + z in float64, rounded once."""
    return _fma(x.astype(np.float64), y.astype(np.float64), z.astype(np.float64))


def _fma32(x: Any, y: Any, z: Any) -> Any:
    """x * y + z of float32: the product is exact in float64; the sum is rounded to odd there, so that the last rounding
    is the only one that counts."""
    p, w = x.astype(np.float64) * y, z.astype(np.float64)
    s = np.asarray(p + w)
    t = s - p
    e = (p - (s - t)) + (w - t)  # s + e is the sum exactly
    bits = s.view(np.int64)
    inexact = (e != 0) & (bits & 1 == 0) & np.isfinite(s)
    step = np.where((e > 0) == (s > 0), 1, -1)
    return np.where(inexact, bits + step, bits).view(np.float64).astype(np.float32)


def _tables() -> Any:
    """The Taylor coefficients of erf at 0, 1/64, 2/64, ... 4, one row for each power."""
    at = np.arange(257) / 64
    slope = 2 / math.sqrt(math.pi) * np.exp(-at * at)
    hermite = [np.ones_like(at), 2 * at]
    for n in range(1, 5):
        hermite.append(2 * at * hermite[n] - 2 * n * hermite[n - 1])
    higher = [slope * (-1) ** n * h / math.factorial(n + 1) for n, h in enumerate(hermite)]
    return np.stack([np.array([math.erf(v) for v in at.tolist()]), *higher])


_TAYLOR = _tables()


def _erf32(x: Any) -> Any:
    """erf of float32, within 1e-11 before the rounding."""
    size = np.minimum(np.abs(x.astype(np.float64)), 4.0)  # erf(4) is 1 in float32
    at = np.rint(np.where(size == size, size, 0) * 64)
    d = size - at / 64
    at = at.astype(np.int64)
    total = _TAYLOR[-1].take(at)
    for row in _TAYLOR[-2::-1]:
        total *= d
        total += row.take(at)
    return np.copysign(total, x).astype(np.float32)


def _erf(x: Any) -> Any:
    """The C library's for a few numbers; for many, series over the whole block."""
    return special.erf(x) if x.size > 2048 else _few_erf(x)


def _erfc(x: Any) -> Any:
    return special.erfc(x) if x.size > 2048 else _few_erfc(x)


def _round(x: Any) -> Any:
    """To nearest, halves away from zero."""
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.copysign(1.0, x), 0.0)


def _erfcx(x: float) -> float:
    return math.exp(x * x) * math.erfc(x) if x < 25 else 1 / (x * math.sqrt(math.pi)) * (1 - 0.5 / (x * x))


def _remainder(x: float, y: float) -> float:
    if math.isnan(x) or math.isnan(y) or math.isinf(x) or y == 0:
        return math.nan
    return math.remainder(x, y)


_few_erf = _elementwise(math.erf)
_few_erfc = _elementwise(math.erfc)

# float64 in, float64 out
FLOAT: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "atan2": np.arctan2, "sinpi": lambda x: np.sin(np.pi * np.fmod(x, 2)),
    "cospi": lambda x: np.cos(np.pi * np.fmod(x, 2)),
    "exp": np.exp, "exp2": np.exp2, "exp10": lambda x: np.power(10.0, x), "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "logb": lambda x: np.where(np.isfinite(x) & (x != 0), np.frexp(x)[1] - 1.0, np.where(x == 0, -np.inf, x * x)),
    "pow": np.power, "powi": np.power, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "cbrt": np.cbrt,
    "rcbrt": lambda x: 1 / np.cbrt(x), "hypot": np.hypot, "rhypot": lambda x, y: 1 / np.hypot(x, y),
    "norm3d": lambda x, y, z: np.hypot(np.hypot(x, y), z),
    "erf": _erf, "erfc": _erfc, "erfinv": special.erfinv, "erfcx": _elementwise(_guarded(_erfcx, math.inf)),
    "normcdf": lambda x: 0.5 * _erfc(-x / math.sqrt(2)),
    "lgamma": _elementwise(_guarded(math.lgamma, math.inf, math.inf)),
    "tgamma": _elementwise(_guarded(_gamma, math.inf)),
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "nearbyint": np.rint, "round": _round,
    "fabs": np.abs, "fmin": np.fmin, "fmax": np.fmax,
    "fdim": lambda x, y: np.where(x > y, x - y, np.where(x <= y, 0, x + y)),
    "fmod": np.fmod, "remainder": _elementwise(_remainder, 2), "copysign": np.copysign,
    "ldexp": lambda x, n: np.ldexp(x, n.astype(np.int32)), "scalbn": lambda x, n: np.ldexp(x, n.astype(np.int32)),
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "rcp": lambda x: 1 / x,
    "saturate": lambda x: np.fmin(np.fmax(x, 0), 1), "fdividef": np.divide,
}
# any float in, int32 out
TESTS: dict[str, Callable[..., Any]] = {
    "isnan": np.isnan, "isinf": np.isinf, "finite": np.isfinite, "isfinited": np.isfinite, "signbit": np.signbit,
    "ilogb": lambda x: np.frexp(x)[1] - 1,
    "llrint": np.rint, "llround": _round,
}


def _popc(x: Any) -> Any:
    return np.bitwise_count(x.view(f"u{x.itemsize}"))


def _clz(x: Any) -> Any:
    x = x.view(f"u{x.itemsize}").copy()
    for shift in (1, 2, 4, 8, 16, 32)[: 5 + (x.itemsize == 8)]:
        x |= x >> x.dtype.type(shift)
    return 8 * x.itemsize - np.bitwise_count(x).astype(np.int32)


def _ffs(x: Any) -> Any:
    lowest = x & -x
    return np.where(x == 0, 0, 8 * x.itemsize - _clz(lowest))


def _brev(x: Any) -> Any:
    bits = np.unpackbits(x.view(f"u{x.itemsize}").astype(f">u{x.itemsize}").reshape(-1, 1).view(np.uint8), axis=1)
    return np.packbits(bits[:, ::-1].copy(), axis=1).view(f">u{x.itemsize}").reshape(x.shape).astype(f"u{x.itemsize}")


def _mulhi(x: Any, y: Any) -> Any:
    if x.itemsize == 4:
        wide = np.int64 if x.dtype.kind == "i" else np.uint64
        return x.astype(wide) * y.astype(wide) >> 32
    high = np.frompyfunc(lambda a, b: int(a) * int(b) >> 64, 2, 1)(x, y)
    return np.asarray(high).astype(x.dtype)


# integers
WHOLE: dict[str, Callable[..., Any]] = {
    "popc": _popc, "clz": _clz, "ffs": _ffs, "brev": _brev, "mulhi": _mulhi, "abs": np.abs, "min": np.minimum,
    "max": np.maximum, "hadd": lambda x, y: (x & y) + ((x ^ y) >> 1), "rhadd": lambda x, y: (x | y) - ((x ^ y) >> 1),
    "mul24": lambda x, y: (x << 8 >> 8) * (y << 8 >> 8),
    "sad": lambda x, y, z: np.where(x > y, x - y, y - x).astype(z.dtype) + z,
}
_ROUNDED = {"rn", "rz", "rd", "ru"}
_ALIASES = {
    "llabs": "abs", "umulhi": "mulhi", "mul64hi": "mulhi", "umul64hi": "mulhi", "uhadd": "hadd", "urhadd": "rhadd",
    "fsqrt": "sqrt", "dsqrt": "sqrt", "fadd": "add", "dadd": "add", "fsub": "sub", "dsub": "sub", "fmul": "mul",
    "dmul": "mul", "fdiv": "div", "ddiv": "div", "frcp": "rcp", "drcp": "rcp", "frsqrt": "rsqrt", "isfinite": "finite",
    "fsaturate": "saturate", "usad": "sad", "umul24": "mul24", "brevll": "brev", "popcll": "popc", "clzll": "clz",
    "ffsll": "ffs"}


def symbol(name: str) -> str:
    """The function behind a name of the CUDA library: ``__nv_tanhf`` and ``__nv_tanh`` are both "tanh".

    Raises NotImplementedError for one that is not emulated."""
    bare = re.sub(r"^__nv_(fast_)?", "", name)
    base, _, mode = bare.partition("_")
    if mode and (mode not in _ROUNDED or mode != "rn"):
        base = ""
    for candidate in (base, base[:-1] if base[-1:] in ("f", "d") else ""):
        candidate = _ALIASES.get(candidate, candidate)
        if candidate in FLOAT or candidate in TESTS or candidate in WHOLE or candidate in ("fma", "nextafter"):
            return candidate
    raise NotImplementedError(f"libdevice function {name} is not emulated")


def compute(name: str, xs: list[Any], kind: Any = None) -> Any:
    """A function of blocks; the result has the type of the first argument unless ``kind`` says another."""
    first = xs[0].dtype
    kind = first if kind is None else kind
    if first.kind in "iub" and name in WHOLE:
        return np.asarray(WHOLE[name](*xs)).astype(kind, copy=False)
    if name == "erf" and first == np.float32 and xs[0].size > 64:
        return _erf32(xs[0])
    if name == "nextafter":
        return np.nextafter(xs[0], xs[1])
    if name == "fma":
        return _fma32(*xs) if first == np.float32 else fma64(*xs)
    if name in TESTS:
        return np.asarray(TESTS[name](xs[0])).astype(kind)
    return np.asarray(FLOAT[name](*[x.astype(np.float64, copy=False) for x in xs])).astype(kind, copy=False)
