"""Reductions over dimensions. ``dims`` is a tuple of dimensions counted from the front; an empty tuple means nothing is
reduced. Results are contiguous, as PyTorch's are.

Sums of 16-bit floats are taken in float32. NumPy adds pairwise along the fastest dimension only, and one after the
other along the rest: there long float32 sums are taken in blocks, so that their error grows with the logarithm of the
length."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW, f32
from tritium.kernels.reference.quiet import quiet

BLOCK = 64


def _wide(a: Any) -> Any:
    return a.astype(f32) if a.dtype in LOW else a


def _dense(r: Any) -> Any:
    """An array in the usual order of dimensions, from an array or a NumPy scalar."""
    return np.asarray(r, order="C")


def _add(a: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """The sum over ``dims`` in the array's own dtype."""
    # the ufunc's own method: np.sum is a Python function around it
    if a.dtype is f32 and dims and a.size > 4096 and a.flags.c_contiguous:
        first, last = min(dims), max(dims)
        count = math.prod(a.shape[first:last + 1])
        if last - first + 1 == len(dims) and last + 1 < a.ndim and count > 4 * BLOCK:
            shape = (*a.shape[:first], *((1,) * len(dims) if keepdim else ()), *a.shape[last + 1:])
            return _blocks(a.reshape(math.prod(a.shape[:first]), count, -1)).reshape(shape)
    return np.add.reduce(a, dims if len(dims) < a.ndim else None, None, None, keepdim)  # type: ignore[call-overload]


def _blocks(a: Any) -> Any:
    """The sum over the middle one of three dimensions, block by block."""
    n = a.shape[1]
    if n <= 4 * BLOCK:
        return np.add.reduce(a, 1)
    whole = n // BLOCK * BLOCK
    r = _blocks(np.add.reduce(a[:, :whole].reshape(a.shape[0], whole // BLOCK, BLOCK, a.shape[2]), 2))
    return r if whole == n else r + np.add.reduce(a[:, whole:], 1)


@quiet
def sum(a: Any, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> Any:
    """The sum, in ``dtype``."""
    if dtype in LOW:
        return _dense(_add(a.astype(f32), dims, keepdim)).astype(dtype)
    if a.dtype == dtype and dtype.kind in "fc":
        return _dense(_add(a, dims, keepdim))
    every = dims if len(dims) < a.ndim else None
    return _dense(np.add.reduce(a, every, dtype, None, keepdim))  # type: ignore[call-overload]


@quiet
def nansum(a: Any, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> Any:
    """The sum of what is not nan."""
    return sum(np.where(np.isnan(a), a.dtype.type(0), a) if a.dtype.kind in "fV" else a, dims, keepdim, dtype)


@quiet
def prod(a: Any, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> Any:
    """The product, in ``dtype``."""
    if dtype in LOW:
        return _dense(np.prod(a.astype(f32), axis=dims, keepdims=keepdim)).astype(dtype)
    return _dense(np.prod(a, axis=dims, keepdims=keepdim, dtype=dtype))


@quiet
def mean(a: Any, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> Any:
    """The mean: the sum over the count; nan for none."""
    count = 1
    for d in dims:
        count *= a.shape[d]
    work = f32 if dtype in LOW else dtype
    total = _add(a.astype(work) if a.dtype != work else a, dims, keepdim)
    return _dense(total / work.type(count)).astype(dtype)


@quiet
def var(a: Any, dims: tuple[int, ...], keepdim: bool, correction: float) -> Any:
    """The variance with the given correction: two passes, float64 for float32 input (as PyTorch's Welford is in
    double)."""
    return _dense(_spread(a, dims, keepdim, correction)).astype(a.dtype if a.dtype.kind != "c" else a.real.dtype)


@quiet
def std(a: Any, dims: tuple[int, ...], keepdim: bool, correction: float) -> Any:
    """The square root of the variance, rounded once."""
    root = np.sqrt(_spread(a, dims, keepdim, correction))
    return _dense(root).astype(a.dtype if a.dtype.kind != "c" else a.real.dtype)


def _spread(a: Any, dims: tuple[int, ...], keepdim: bool, correction: float) -> Any:
    """The variance as it is computed, before it is rounded."""
    work = np.dtype(np.float64) if a.dtype.kind in "fV" else a.dtype
    x = a.astype(work) if a.dtype != work else a
    count = 1
    for d in dims:
        count *= a.shape[d]
    centred = x - np.mean(x, axis=dims, keepdims=True) if x.size else x
    square = np.square(centred) if x.dtype.kind != "c" else np.square(np.abs(centred))
    total = _dense(np.sum(square, axis=dims, keepdims=keepdim))
    # a plain float division: 0 / 0 is nan, x / 0 is inf
    return total / np.float64(max(count - correction, 0))


@quiet
def amax(a: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """The largest; nan if there is one."""
    return _dense(np.max(a, axis=dims, keepdims=keepdim))


@quiet
def amin(a: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """The smallest; nan if there is one."""
    return _dense(np.min(a, axis=dims, keepdims=keepdim))


def argmax(a: Any, dim: int | None, keepdim: bool) -> Any:
    """The first position of the largest (of the first nan, if there is one), as int64."""
    return _dense(np.argmax(_wide(a), axis=dim, keepdims=keepdim)).astype(np.int64)


def argmin(a: Any, dim: int | None, keepdim: bool) -> Any:
    """The first position of the smallest (of the first nan, if there is one), as int64."""
    return _dense(np.argmin(_wide(a), axis=dim, keepdims=keepdim)).astype(np.int64)


def all(a: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Whether all are true (not zero)."""
    return _dense(np.all(a, axis=dims, keepdims=keepdim))


def any(a: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Whether one is true (not zero)."""
    return _dense(np.any(a, axis=dims, keepdims=keepdim))


def count_nonzero(a: Any, dims: tuple[int, ...]) -> Any:
    """How many are not zero."""
    return _dense(np.count_nonzero(a, axis=dims)).astype(np.int64)


@quiet
def norm(a: Any, p: float, dims: tuple[int, ...], keepdim: bool) -> Any:
    """The p-norm; inf, -inf and 0 (the count of what is not zero) too."""
    out = a.dtype if a.dtype.kind != "c" else a.real.dtype
    x = np.abs(_wide(a))
    if p == 2:
        if x.dtype == f32:  # squares of large float32 overflow: in float64
            r = np.sqrt(np.sum(np.square(x, dtype=np.float64), axis=dims, keepdims=keepdim))
        else:
            r = np.sqrt(np.sum(np.square(x), axis=dims, keepdims=keepdim))
    elif p == 1:
        r = np.sum(x, axis=dims, keepdims=keepdim)
    elif p == np.inf:
        r = np.max(x, axis=dims, keepdims=keepdim)
    elif p == -np.inf:
        r = np.min(x, axis=dims, keepdims=keepdim)
    elif p == 0:
        r = np.sum(x != 0, axis=dims, keepdims=keepdim)
    else:
        r = np.sum(np.power(x, p), axis=dims, keepdims=keepdim) ** (1.0 / p)
    return _dense(r).astype(out)
