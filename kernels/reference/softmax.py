"""Softmax and its relatives along one dimension.

    softmax      y = exp(x - max x) / sum exp(x - max x)        dx = y (g - sum(g y))
    log_softmax  y = x - max x - log sum exp(x - max x)         dx = g - exp(y) sum(g)

The maximum is taken out so that exp can not overflow. float16 and bfloat16 are computed in float32 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW
from tritium.kernels.reference.quiet import quiet

Array = Any


def _wide(a: Array) -> Array:
    return a.astype(np.float32) if a.dtype in LOW else a


def _shifted(x: Array, axis: int) -> Array:
    """x - max x, in a new array of float32 or float64."""
    x = _wide(x)
    return np.subtract(x, np.max(x, axis, keepdims=True))


@quiet
def softmax(x: Array, axis: int) -> Array:
    """Probabilities along `axis`, of x's shape and dtype."""
    if x.size == 0:
        return x.copy()
    out = _shifted(x, axis)
    np.exp(out, out=out)
    out /= np.sum(out, axis, keepdims=True)
    return out.astype(x.dtype, copy=False)


@quiet
def softmax_backward(g: Array, y: Array, axis: int) -> Array:
    """The gradient of x from that of y = softmax(x)."""
    wide_g, wide_y = _wide(g), _wide(y)
    out = wide_g * wide_y
    total = np.sum(out, axis, keepdims=True)
    out -= wide_y * total
    return out.astype(y.dtype, copy=False)


@quiet
def log_softmax(x: Array, axis: int) -> Array:
    """Logarithms of the probabilities along `axis`, of x's shape and dtype."""
    if x.size == 0:
        return x.copy()
    out = _shifted(x, axis)
    out -= np.log(np.sum(np.exp(out), axis, keepdims=True))
    return out.astype(x.dtype, copy=False)


@quiet
def log_softmax_backward(g: Array, y: Array, axis: int) -> Array:
    """The gradient of x from that of y = log_softmax(x)."""
    g = _wide(g)
    out = np.exp(_wide(y))
    out *= np.sum(g, axis, keepdims=True)
    return np.subtract(g, out, out=out).astype(y.dtype, copy=False)


@quiet
def logsumexp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """log of the sum of exp along `axes`, r = max x + log sum exp(x - max x); -inf for an empty sum."""
    wide = _wide(x)
    top = np.max(wide, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), top.dtype.type(0), top)  # inf - inf is nan
    out = np.log(np.sum(np.exp(wide - top), axes, keepdims=True)) + top
    return np.asarray(out if keepdims else np.squeeze(out, axes)).astype(x.dtype, copy=False)
