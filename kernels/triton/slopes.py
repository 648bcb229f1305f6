"""Derivatives of the elementary functions, in one pass: ``slopes[name](g, s)`` is g times the derivative.

``s`` is what the function saved: its argument x, or its result r where the derivative is simpler in that. Results have
the dtype of ``g``; the 16-bit types are computed in float32 and rounded once.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton.activation import Activation
from tritium.kernels.triton.pointwise import flat_case
from tritium.kernels.triton.pointwise_ops import cosh as cosh_of
from tritium.kernels.triton.pointwise_ops import quotient
from tritium.kernels.triton.pointwise_ops import rsqrt as rsqrt_of
from tritium.kernels.triton.pointwise_ops import sign as sign_of
from tritium.kernels.triton.pointwise_ops import sinh as sinh_of

LN2: tl.constexpr = tl.constexpr(math.log(2))
LN10: tl.constexpr = tl.constexpr(math.log(10))
PI: tl.constexpr = tl.constexpr(math.pi)
ROOT: tl.constexpr = tl.constexpr(2 / math.sqrt(math.pi))
NAN: tl.constexpr = tl.constexpr(math.nan)


@triton.jit
def abs(g, x):
    return g * sign_of(x)


@triton.jit
def square(g, x):
    return g * x * 2


@triton.jit
def sqrt(g, r):
    return quotient(g, r * 2)


@triton.jit
def rsqrt(g, r):
    return g * (r * r * r) * -0.5


@triton.jit
def reciprocal(g, r):
    return -g * (r * r)


@triton.jit
def exp2(g, r):
    return g * r * LN2


@triton.jit
def expm1(g, r):
    return g * (r + 1)


@triton.jit
def log2(g, x):
    return quotient(g, x * LN2)


@triton.jit
def log10(g, x):
    return quotient(g, x * LN10)


@triton.jit
def log1p(g, x):
    return quotient(g, x + 1)


@triton.jit
def sin(g, x):
    return g * libdevice.cos(x)


@triton.jit
def cos(g, x):
    return g * -libdevice.sin(x)


@triton.jit
def tan(g, r):
    return g * (r * r + 1)


@triton.jit
def asin(g, x):
    return g * rsqrt_of(1 - x * x)


@triton.jit
def acos(g, x):
    return g * -rsqrt_of(1 - x * x)


@triton.jit
def atan(g, x):
    return quotient(g, x * x + 1)


@triton.jit
def sinh(g, x):
    return g * cosh_of(x)


@triton.jit
def cosh(g, x):
    return g * sinh_of(x)


@triton.jit
def tanh(g, r):
    return g * (1 - r * r)


@triton.jit
def asinh(g, x):
    return g * rsqrt_of(x * x + 1)


@triton.jit
def acosh(g, x):
    return g * rsqrt_of(x * x - 1)


@triton.jit
def atanh(g, x):
    return quotient(g, 1 - x * x)


@triton.jit
def sigmoid(g, r):
    return g * ((1 - r) * r)


@triton.jit
def logit(g, x):
    return tl.where((x < 0) | (x > 1), NAN, quotient(g, x * (1 - x)))


@triton.jit
def sinc(g, x):
    y = x * PI
    return g * tl.where(x * y == 0, 0, quotient(libdevice.cos(y) * y - libdevice.sin(y), x * y))


@triton.jit
def erf(g, x):
    return g * (ROOT * libdevice.exp(-x * x))


@triton.jit
def erfc(g, x):
    return g * (-ROOT * libdevice.exp(-x * x))


@triton.jit
def erfinv(g, r):
    return g * quotient(libdevice.exp(r * r), tl.full(r.shape, ROOT, r.dtype))


HEAVY = {"sin": 4, "cos": 4, "sinc": 8}
slopes: dict[str, Any] = {name: Activation(name + "_backward", op, 2, heavy=HEAVY.get(name, 1)) for name, op in {
    "abs": abs, "square": square, "sqrt": sqrt, "rsqrt": rsqrt, "reciprocal": reciprocal, "exp2": exp2, "expm1": expm1,
    "log2": log2, "log10": log10, "log1p": log1p, "sin": sin, "cos": cos, "tan": tan, "asin": asin, "acos": acos,
    "atan": atan, "sinh": sinh, "cosh": cosh, "tanh": tanh, "asinh": asinh, "acosh": acosh, "atanh": atanh,
    "sigmoid": sigmoid, "logit": logit, "sinc": sinc, "erf": erf, "erfc": erfc, "erfinv": erfinv}.items()}


def cases() -> Iterator[Case]:
    """What is shipped: every function in bfloat16, some in the other dtypes."""
    for name, found in slopes.items():
        for dtype in ("bf16", "fp16", "fp32", "fp64") if name in ("sigmoid", "sinc") else ("bf16",):
            yield flat_case(f"{name}_backward", found.op, [dtype, dtype], dtype, heavy=found.heavy, family="slopes")
