"""Running sums, products and extremes along a dimension.

float32 is accumulated in float64 and the 16-bit floats in float32, and rounded once at the end.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW, f32
from tritium.kernels.reference.quiet import quiet

Array = Any


def _wide(dtype: Any) -> Any:
    return f32 if dtype in LOW else np.dtype(np.float64) if dtype == f32 else dtype


def _rounded(a: Array, dtype: Any) -> Array:
    return a.astype(dtype, order="C", copy=False)


@quiet
def cumsum(a: Array, dim: int) -> Array:
    """``out[i] = a[0] + ... + a[i]``, in the array's dtype."""
    wide = _wide(a.dtype)
    return _rounded(np.cumsum(a.astype(wide, copy=False), axis=dim, dtype=wide), a.dtype)


@quiet
def cumprod(a: Array, dim: int) -> Array:
    """``out[i] = a[0] * ... * a[i]``, in the array's dtype."""
    wide = _wide(a.dtype)
    return _rounded(np.cumprod(a.astype(wide, copy=False), axis=dim, dtype=wide), a.dtype)


@quiet
def logcumsumexp(a: Array, dim: int) -> Array:
    """``out[i] = log(exp(a[0]) + ... + exp(a[i]))``, without overflow."""
    if a.size == 0:
        return a.copy()
    return _rounded(np.logaddexp.accumulate(a.astype(_wide(a.dtype), copy=False), axis=dim), a.dtype)


@quiet
def _extreme(ufunc: Any, a: Array, dim: int) -> tuple[Array, Array]:
    if a.size == 0:
        return a.copy(), np.zeros(a.shape, np.int64)
    x = a.astype(f32) if a.dtype in LOW else a
    values = ufunc.accumulate(x, axis=dim)
    hit = x == values
    if x.dtype.kind == "f":
        hit |= np.isnan(x)
    places = np.arange(a.shape[dim]).reshape((-1,) + (1,) * (a.ndim - 1 - dim))
    index = np.maximum.accumulate(np.where(hit, places, 0), axis=dim)
    return _rounded(values, a.dtype), _rounded(index, np.int64)


def cummax(a: Array, dim: int) -> tuple[Array, Array]:
    """The largest so far and where it was last; nan from the first nan on."""
    return _extreme(np.maximum, a, dim)


def cummin(a: Array, dim: int) -> tuple[Array, Array]:
    """The smallest so far and where it was last; nan from the first nan on."""
    return _extreme(np.minimum, a, dim)
