"""Softmax and its relatives along one dimension.

    softmax      y = exp(x - max x) / sum exp(x - max x)        dx = y (g - sum(g y))
    log_softmax  y = x - max x - log sum exp(x - max x)         dx = g - exp(y) sum(g)

The maximum is taken out so that exp can not overflow. float16 and bfloat16 are computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels.reference import parallel
from tritium.kernels.reference.pointwise import LOW
from tritium.kernels.reference.quiet import begin, end, quiet

Array = Any


PIECE = 1 << 15  # elements worked on at a time: they stay in the second-level cache
PARALLEL = 1 << 17  # elements from which a second thread pays


def _wide(a: Array) -> Array:
    return a.astype(np.float32) if a.dtype in LOW else a


def _by_rows(body: Callable[..., None], arrays: tuple[Array, ...], axis: int) -> bool:
    """Call `body(*blocks)` for blocks of rows of contiguous arrays whose last dimension is `axis`, on several threads.

    False when the arrays are not of that kind (then nothing was done)."""
    first = arrays[0]
    size = first.shape[axis]
    if axis not in (first.ndim - 1, -1) or not size or not all([a.flags.c_contiguous for a in arrays]):
        return False
    flat = [a.reshape(-1, size) for a in arrays]
    rows = len(flat[0])
    step = max(1, PIECE // size)

    def work(start: int, stop: int) -> None:
        token = begin()
        try:
            for i in range(start, stop, step):
                body(*[a[i : min(i + step, stop)] for a in flat])
        finally:
            end(token)

    count = parallel.get_num_threads() if first.size >= PARALLEL else 1
    if count == 1:
        work(0, rows)
    else:
        parallel.run(work, parallel.parts(rows, count))
    return True


_largest, _total = np.maximum.reduce, np.add.reduce


def _temporary(out: Array) -> Array:
    return parallel.scratch("softmax", out.shape, out.dtype) if out.size > 4096 else np.empty_like(out)


def _softmax(x: Array, out: Array, axis: int = -1) -> None:
    np.subtract(x, _largest(x, axis, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= _total(out, axis, keepdims=True)


def _log_softmax(x: Array, out: Array, axis: int = -1) -> None:
    np.subtract(x, _largest(x, axis, keepdims=True), out=out)
    powers = np.exp(out, out=_temporary(out))
    out -= np.log(_total(powers, axis, keepdims=True))


def _softmax_backward(g: Array, y: Array, out: Array, axis: int = -1) -> None:
    np.multiply(g, y, out=out)
    total = _total(out, axis, keepdims=True)
    out -= np.multiply(y, total, out=_temporary(out))


def _log_softmax_backward(g: Array, y: Array, out: Array, axis: int = -1) -> None:
    np.exp(y, out=out)
    out *= _total(g, axis, keepdims=True)
    np.subtract(g, out, out=out)


def _run(body: Callable[..., None], arrays: tuple[Array, ...], axis: int) -> Array:
    """The result of `body`, in the dtype of the last array, computed in at least float32."""
    like = arrays[-1]
    if like.dtype in LOW:
        arrays = tuple([_wide(a) for a in arrays])
    if like.size <= PIECE:
        out = np.empty_like(arrays[-1])
        if like.size:
            body(*arrays, out, axis)
    else:
        out = parallel.empty(like.shape, arrays[-1].dtype) if like.flags.c_contiguous else np.empty_like(arrays[-1])
        if not _by_rows(body, (*arrays, out), axis):
            body(*arrays, out, axis)
    return out if out.dtype == like.dtype else out.astype(like.dtype)


@quiet
def softmax(x: Array, axis: int) -> Array:
    """Probabilities along `axis`, of x's shape and dtype."""
    return _run(_softmax, (x,), axis)


@quiet
def log_softmax(x: Array, axis: int) -> Array:
    """Logarithms of the probabilities along `axis`, of x's shape and dtype."""
    return _run(_log_softmax, (x,), axis)


@quiet
def softmax_backward(g: Array, y: Array, axis: int) -> Array:
    """The gradient of x from that of y = softmax(x)."""
    return _run(_softmax_backward, (g, y), axis)


@quiet
def log_softmax_backward(g: Array, y: Array, axis: int) -> Array:
    """The gradient of x from that of y = log_softmax(x)."""
    return _run(_log_softmax_backward, (g, y), axis)


@quiet
def logsumexp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """log of the sum of exp along `axes`, r = max x + log sum exp(x - max x); -inf for an empty sum."""
    wide = _wide(x)
    top = np.max(wide, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), top.dtype.type(0), top)  # inf - inf is nan
    out = np.log(np.sum(np.exp(wide - top), axes, keepdims=True)) + top
    return np.asarray(out if keepdims else np.squeeze(out, axes), order="C").astype(x.dtype, copy=False)
