"""Pointwise ops: one line of arithmetic each, in a table.

A table entry is a function of arrays. ``unary`` and ``binary`` turn it into a kernel: silent about overflow, always an
array (never a NumPy scalar), and in float32 for the 16-bit types, rounded once at the end.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy import asarray, ndarray

from tritium.kernels.reference.quiet import begin, end, quiet

f16, bf16, f32, f64 = (np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))
LOW = (f16, bf16)


def widened(a: Any) -> Any:
    """``a`` in float32; the dimensions of an expanded array follow one another as usual."""
    return a.astype(f32, order="C" if 0 in a.strides else "K")


def unary(f: Callable[[Any], Any], widen: bool = True) -> Callable[[Any], Any]:
    """A kernel of one array. ``widen``: compute the 16-bit types in float32."""

    def kernel(a: Any) -> Any:
        token = begin()
        try:
            if widen and a.dtype in LOW:
                r = f(widened(a))
                return asarray(r).astype(a.dtype) if r.dtype == f32 else asarray(r)
            r = f(a)
        finally:
            end(token)
        return r if type(r) is ndarray else asarray(r)

    return kernel


def binary(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A kernel of two arrays of one dtype (or an array and a Python number)."""

    def kernel(a: Any, b: Any) -> Any:
        token = begin()
        try:
            r = f(a, b)
        finally:
            end(token)
        return r if type(r) is ndarray else asarray(r)

    return kernel


def low_binary(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same for the 16-bit types: through float32, rounded once. Numbers are not rounded to 16 bits first."""

    def kernel(a: Any, b: Any) -> Any:
        dt = a.dtype if type(a) is ndarray else b.dtype
        token = begin()
        try:
            r = asarray(f(widened(a) if type(a) is ndarray else a, widened(b) if type(b) is ndarray else b))
            return r.astype(dt) if r.dtype == f32 else r
        finally:
            end(token)

    return kernel


# --- one line each --------------------------------------------------------------------------

def _sigmoid(a: Any) -> Any:
    # exp never overflows into the wrong limit: 1 / (1 + inf) is 0
    return 1 / (1 + np.exp(-a))


def _sign(a: Any) -> Any:
    # NumPy's sign keeps nan, PyTorch's gives 0
    return (a > 0).astype(a.dtype) - (a < 0).astype(a.dtype) if a.dtype.kind != "b" else a


def _sgn(a: Any) -> Any:
    if a.dtype.kind != "c":
        return _sign(a)
    size = np.abs(a)
    return np.where(size == 0, 0, a / np.where(size == 0, 1, size)).astype(a.dtype)


def _relu(a: Any) -> Any:
    if a.size > 4096 and a.dtype in (f32, f64):
        from tritium.kernels.reference.activation import forward

        return forward["relu"](a)
    return np.maximum(a, a.dtype.type(0))


def _abs(a: Any) -> Any:
    return np.abs(a)


def _round(a: Any) -> Any:
    return np.rint(a) if a.dtype.kind in "fV" else a.copy()


def _whole(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda a: f(a) if a.dtype.kind in "fcV" else a.copy()


def _logit(a: Any) -> Any:
    return np.log(a / (1 - a))


def _sinc(a: Any) -> Any:
    x = a * a.dtype.type(np.pi)
    return np.where(a == 0, a.dtype.type(1), np.sin(x) / x)


def _isinf(sign: int) -> Callable[[Any], Any]:
    return lambda a: a == (np.inf * sign) if a.dtype.kind in "fV" else np.zeros(a.shape, bool)


def _finite(f: Callable[[Any], Any], otherwise: bool) -> Callable[[Any], Any]:
    return lambda a: f(a) if a.dtype.kind in "fcV" else np.full(a.shape, otherwise)


UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": np.negative, "abs": _abs, "sign": _sign, "sgn": _sgn, "relu": _relu,
    "floor": _whole(np.floor), "ceil": _whole(np.ceil), "trunc": _whole(np.trunc), "round": _round,
    "frac": lambda a: a - np.trunc(a),
    "square": lambda a: np.square(a) if a.dtype.kind != "b" else a.astype(np.int64), "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a), "reciprocal": lambda a: 1 / a,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sigmoid": _sigmoid, "logit": _logit, "sinc": _sinc,
    "deg2rad": lambda a: a * a.dtype.type(np.pi / 180), "rad2deg": lambda a: a * a.dtype.type(180 / np.pi),
    "isnan": _finite(np.isnan, False), "isinf": _finite(np.isinf, False), "isfinite": _finite(np.isfinite, True),
    "isposinf": _isinf(1), "isneginf": _isinf(-1),
    "signbit": lambda a: np.signbit(a) if a.dtype.kind in "fV" else a < 0,
    "logical_not": np.logical_not, "bitwise_not": np.invert, "conj": np.conj,
}


def _floor_divide(a: Any, b: Any) -> Any:
    """Division rounded down, from the remainder, as C and PyTorch do it; the sign of zero and inf follow a / b."""
    if np.result_type(a, b).kind != "f":
        return np.floor_divide(a, b)
    mod = np.fmod(a, b)
    div = (a - mod) / b
    div = np.where((mod != 0) & ((np.asarray(b) < 0) != (mod < 0)), div - 1, div)
    floor = np.floor(div)
    floor = np.where(div - floor > 0.5, floor + 1, floor)
    q = np.asarray(a / b)
    r = np.where(div == 0, np.copysign(np.zeros_like(q), q), floor)
    return np.where(np.asarray(b) == 0, q, r).astype(q.dtype)


def _remainder(a: Any, b: Any) -> Any:
    r = np.remainder(a, b)
    if np.asarray(r).dtype.kind == "f":  # PyTorch: a % inf is a when the signs agree; nan when a is inf
        m = np.fmod(a, b)
        r = np.where((m != 0) & ((np.asarray(b) < 0) != (m < 0)), m + b, m)
    return r


def _heaviside(a: Any, b: Any) -> Any:
    return np.where(a == 0, b, (a > 0).astype(np.result_type(a, b)))


def _xlogy(a: Any, b: Any) -> Any:
    dtype = (a if isinstance(a, ndarray) else b).dtype
    return np.where(np.isnan(b), np.nan, np.where(np.equal(a, 0), 0, a * np.log(b))).astype(dtype)


def _int_pow(a: Any, b: Any) -> Any:
    """Integers to the power of integers: a negative power is 0 but for 1 and -1."""
    negative = b < 0
    if not negative.any():
        return np.power(a, b)
    sign = np.where(a == 1, 1, np.where(a == -1, 1 - 2 * (b & 1), 0))
    return np.where(negative, sign, np.power(a, np.where(negative, 0, b))).astype(a.dtype)


def _logaddexp(a: Any, b: Any) -> Any:
    return np.logaddexp(a, b)


def _truncate_divide(a: Any, b: Any) -> Any:
    if np.result_type(a, b).kind == "f":
        return np.trunc(np.divide(a, b))
    q = np.floor_divide(a, b)
    return q + ((np.remainder(a, b) != 0) & ((np.asarray(a) < 0) != (np.asarray(b) < 0)))


BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floor_divide": _floor_divide, "trunc_divide": _truncate_divide, "remainder": _remainder, "fmod": np.fmod,
    "pow": np.power, "int_pow": _int_pow, "float_power": np.power, "atan2": np.arctan2,
    "maximum": np.maximum, "minimum": np.minimum, "fmax": np.fmax, "fmin": np.fmin,
    "hypot": np.hypot, "logaddexp": _logaddexp, "logaddexp2": np.logaddexp2, "copysign": np.copysign,
    "nextafter": np.nextafter, "ldexp": lambda a, b: a * np.exp2(b), "xlogy": _xlogy, "heaviside": _heaviside,
    "gcd": np.gcd, "lcm": np.lcm,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}

unaries = {name: unary(f) for name, f in UNARY.items()}
for _name in ("neg", "abs", "relu", "logical_not", "bitwise_not", "conj", "sign", "signbit", "isnan"):
    unaries[_name] = unary(UNARY[_name], widen=False)
binaries = {name: binary(f) for name, f in BINARY.items()}
low_binaries = {name: low_binary(f) for name, f in BINARY.items()}


def into(name: str, a: Any, b: Any, out: Any) -> None:
    """``out[...] = f(a, b)`` without a temporary, for the ufuncs of the table; ``out`` may be ``a``."""
    token = begin()
    try:
        BINARY[name](a, b, out=out)
    finally:
        end(token)


def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, else ``b``; of operands of different layouts, laid out as the condition is."""
    r = np.asarray(np.where(condition, a, b))
    if r.ndim > 3 and r.flags.c_contiguous and condition.shape == r.shape and not condition.flags.c_contiguous:
        if 0 not in condition.strides:
            out = np.empty_like(condition, r.dtype)
            out[...] = r
            return out
    return r


@quiet
def nan_to_num(a: Any, nan: float, high: float, low: float) -> Any:
    """nan replaced by ``nan``, infinities by ``high`` and ``low``; a copy of what is no floating point number."""
    if a.dtype.kind not in "fV":
        return np.array(a, order="K")
    kind = a.dtype.type
    rest = where(a == kind(-np.inf), kind(low), a)
    return where(a != a, kind(nan), where(a == kind(np.inf), kind(high), rest))


def clamp(a: Any, low: Any, high: Any) -> Any:
    """``a`` kept between ``low`` and ``high`` (either may be None); nan passes through."""
    token = begin()
    try:
        if low is not None:
            a = np.maximum(a, low)
        if high is not None:
            a = np.minimum(a, high)
    finally:
        end(token)
    return np.asarray(a)


@quiet
def lerp(a: Any, b: Any, weight: Any) -> Any:
    """``a + weight * (b - a)``, from the nearer end."""
    x, y, w = _wide(a), _wide(b), _wide(weight)
    if not isinstance(w, ndarray):
        r = x + w * (y - x) if abs(w) < 0.5 else y - (y - x) * (1 - w)
    else:
        r = np.where(np.abs(w) < 0.5, x + w * (y - x), y - (y - x) * (1 - w))
    return np.asarray(r).astype(a.dtype, copy=False)


@quiet
def addcmul(a: Any, x: Any, y: Any, value: Any) -> Any:
    """``a + value * x * y`` in one dtype."""
    return np.asarray(_wide(a) + _wide(value) * _wide(x) * _wide(y)).astype(a.dtype, copy=False)


@quiet
def addcdiv(a: Any, x: Any, y: Any, value: Any) -> Any:
    """``a + value * x / y`` in one dtype."""
    return np.asarray(_wide(a) + _wide(value) * _wide(x) / _wide(y)).astype(a.dtype, copy=False)


@quiet
def isclose(a: Any, b: Any, rtol: float, atol: float, equal_nan: bool) -> Any:
    """Where ``|a - b| <= atol + rtol * |b|``; equal infinities are close."""
    return np.asarray(np.isclose(a, b, rtol, atol, equal_nan))


def _wide(a: Any) -> Any:
    return widened(a) if isinstance(a, ndarray) and a.dtype in LOW else a


def cast(a: Any, dtype: Any) -> Any:
    """``a`` in another dtype, as C converts. Always a copy; keeps the order of dimensions in memory.

    Floats outside an integer type's range, and nan, give what the processor gives; PyTorch leaves that open too."""
    token = begin()
    try:
        if a.dtype.kind == "c" and dtype.kind != "c":
            a = a != 0 if dtype.kind == "b" else a.real
        if a.dtype.kind == "f" and dtype.kind in "iu" and dtype.itemsize < 8:
            return a.astype(np.int64).astype(dtype)
        return a.astype(dtype, order="C" if 0 in a.strides else "K")
    finally:
        end(token)
