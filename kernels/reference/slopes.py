"""Derivatives of the elementary functions, in one pass: ``slopes[name](g, s)`` is g times the derivative.

``s`` is what the function saved: its argument x, or its result r where the derivative is simpler in that. Results have
the dtype of ``g``; the 16-bit types are computed in float32 and rounded once.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels.reference import activation, pointwise

Array = Any
slopes: dict[str, Callable[[Array, Array], Array]] = {}

LN2, LN10, ROOT = math.log(2), math.log(10), 2 / math.sqrt(math.pi)
_f = pointwise.unaries

FORMULAS: dict[str, Callable[[Array, Array], Array]] = {
    "abs": lambda g, x: g * _f["sign"](x), "square": lambda g, x: g * x * 2, "sqrt": lambda g, r: g / (r * 2),
    "rsqrt": lambda g, r: g * (r * r * r) * -0.5, "reciprocal": lambda g, r: -g * (r * r),
    "exp2": lambda g, r: g * r * LN2, "expm1": lambda g, r: g * (r + 1), "log2": lambda g, x: g / (x * LN2),
    "log10": lambda g, x: g / (x * LN10), "log1p": lambda g, x: g / (x + 1), "sin": lambda g, x: g * _f["cos"](x),
    "cos": lambda g, x: g * -_f["sin"](x), "tan": lambda g, r: g * (r * r + 1),
    "asin": lambda g, x: g * _f["rsqrt"](1 - x * x), "acos": lambda g, x: g * -_f["rsqrt"](1 - x * x),
    "atan": lambda g, x: g / (x * x + 1),
    "sinh": lambda g, x: g * _f["cosh"](x), "cosh": lambda g, x: g * _f["sinh"](x),
    "tanh": lambda g, r: g * (1 - r * r), "asinh": lambda g, x: g * _f["rsqrt"](x * x + 1),
    "acosh": lambda g, x: g * _f["rsqrt"](x * x - 1), "atanh": lambda g, x: g / (1 - x * x),
    "sigmoid": lambda g, r: g * ((1 - r) * r),
    "logit": lambda g, x: np.where((x < 0) | (x > 1), g.dtype.type(math.nan), g / (x * (1 - x))),
    "sinc": lambda g, x: g * _sinc_slope(x),
    "erf": lambda g, x: g * (ROOT * _f["exp"](-x * x)), "erfc": lambda g, x: g * (-ROOT * _f["exp"](-x * x)),
    "erfinv": lambda g, r: g * (_f["exp"](r * r) / ROOT),
}


def _sinc_slope(x: Array) -> Array:
    y = x * math.pi
    d = x * y  # 0 also where it underflows
    return np.where(d == 0, x.dtype.type(0), (_f["cos"](y) * y - _f["sin"](y)) / d)


for _name, _formula in FORMULAS.items():
    _formula.__name__ = _name
    activation.kernel(slopes)(_formula)
