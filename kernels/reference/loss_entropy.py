"""Cross entropy of scores x along dimension 1, with the reduction inside: log_softmax and the loss in one.

    classes        l = -(1 - s) w[t] logp[t] - s / C sum_c w[c] logp[c],  t the class of the sample, C classes
    probabilities  l = -sum_c w[c] q[c] logp[c],                          q = (1 - s) t + s / C

s is the label smoothing, w the weights of the classes. "mean" divides the sum by the sum of the samples' w[t], or for
probabilities by their number. In both forms dl / dx[c] = (sum_i v[i]) p[c] - v[c], with v what multiplies -logp.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference import parallel, softmax
from tritium.kernels.reference.loss import _places, _weights, _wide, survey
from tritium.kernels.reference.quiet import begin, end, quiet
from tritium.kernels.reference.softmax import PARALLEL, PIECE

Array = Any


def _classes(w: Array | None, ndim: int) -> Array | None:
    """Weights of the classes beside (N, C, ...)."""
    return None if w is None else w.reshape(-1, *[1] * (ndim - 2))


def _reduced(each: Array, total: Array, reduction: str, dtype: Any) -> Array:
    if reduction == "none":
        return each.astype(dtype, copy=False)
    loss = np.add.reduce(each, None)
    return np.asarray(loss / total if reduction == "mean" else loss, dtype)


def _powers(logp: Array, factor: Array) -> Array:
    """exp(logp) times a factor, or one for each sample."""
    column = np.expand_dims(factor, 1) if np.ndim(factor) else factor
    if logp.size <= PIECE or logp.ndim > 2 or not logp.flags.c_contiguous:
        out = np.exp(logp)
        out *= column
        return out
    out = parallel.empty(logp.shape, logp.dtype)
    rows, step = len(logp), max(1, PIECE // logp.shape[1])

    def work(start: int, stop: int) -> None:
        token = begin()
        try:
            for i in range(start, stop, step):
                here = slice(i, min(i + step, stop))
                np.exp(logp[here], out=out[here])
                out[here] *= column[here] if np.ndim(column) else column
        finally:
            end(token)

    count = parallel.get_num_threads() if logp.size >= PARALLEL else 1
    if count == 1:
        work(0, rows)
    else:
        parallel.run(work, parallel.parts(rows, count))
    return out


@quiet
def cross_entropy(
    x: Array, target: Array, weight: Array | None, ignore: int, smoothing: float, reduction: str
) -> tuple[Array, Array, Array, int | None]:
    """x (N, C, ...), target (N, ...) of integers, weight (C,): the loss, what `cross_entropy_backward` needs, the sum
    of the samples' weights, and the first class number that is out of range (None: there is none)."""
    wrong, some = survey(target, x.shape[1], ignore)
    if wrong is not None:
        return x, x, x, wrong
    logp = softmax.log_softmax(_wide(x), 1)
    w, kind = _wide(weight), logp.dtype.type
    at, weights = _weights(target, w, ignore, some, logp.dtype)
    each = -logp[_places(at)]
    if weights is not None:
        each = np.where(weights == 0, kind(0), each * weights)
    if smoothing:
        row = _classes(w, x.ndim)
        uniform = -np.add.reduce(logp if row is None else logp * row, 1)
        if some:
            uniform = np.where(target == ignore, kind(0), uniform)
        each = each * kind(1 - smoothing) + uniform * kind(smoothing / x.shape[1])
    total = kind(each.size) if weights is None else np.add.reduce(weights, None)
    return _reduced(each, total, reduction, x.dtype), logp, np.asarray(total), None


@quiet
def cross_entropy_backward(
    g: Array, x: Array, target: Array, weight: Array | None, ignore: int, smoothing: float, reduction: str,
    saved: Array, total: Array,
) -> Array:  # fmt: skip
    """The gradient of x. `saved` and `total` as `cross_entropy` gave them."""
    wide, w, kind, classes = _wide(g), _wide(weight), saved.dtype.type, x.shape[1]
    _, some = survey(target, classes, ignore)
    at, weights = _weights(target, w, ignore, some, saved.dtype)
    scale = wide / total if reduction == "mean" else wide
    picked, share = scale * kind(1 - smoothing), kind(0)
    if weights is not None:
        picked = np.where(weights == 0, kind(0), weights * picked)
    if smoothing:
        share = scale * kind(smoothing / classes)
        if some:
            share = np.where(target == ignore, kind(0), share)
        whole = kind(classes) if w is None else np.add.reduce(w, None)
        out = _powers(saved, picked + share * whole)
        row = _classes(w, x.ndim)
        column = np.expand_dims(share, 1) if np.ndim(share) else share
        out -= column if row is None else column * row
    else:
        out = _powers(saved, picked)
    out[_places(at)] -= picked
    return out.astype(x.dtype, copy=False)


def _mixed(t: Array, weight: Array | None, smoothing: float) -> Array:
    """w q"""
    kind = t.dtype.type
    if not smoothing:
        return t if weight is None else t * _classes(weight, t.ndim)
    q = t * kind(1 - smoothing)
    q += kind(smoothing / t.shape[1])
    if weight is not None:
        q *= _classes(weight, t.ndim)
    return q


@quiet
def soft_cross_entropy(
    x: Array, t: Array, weight: Array | None, smoothing: float, reduction: str
) -> tuple[Array, Array]:
    """x and probabilities t (N, C, ...) of one dtype, weight (C,): the loss, and what `soft_cross_entropy_backward`
    needs."""
    logp = softmax.log_softmax(_wide(x), 1)
    v = _mixed(_wide(t), _wide(weight), smoothing)
    if reduction == "none":
        return (-np.add.reduce(logp * v, 1)).astype(x.dtype, copy=False), logp
    product = np.multiply(logp, v, out=v if v is not t and v.flags.c_contiguous else None, order="C")
    loss = -np.add.reduce(product, None)
    if reduction == "mean":
        loss = loss / logp.dtype.type(x.size // x.shape[1])
    return np.asarray(loss, x.dtype), logp


@quiet
def soft_cross_entropy_backward(
    g: Array, x: Array, t: Array, weight: Array | None, smoothing: float, reduction: str, saved: Array,
    needs: tuple[bool, bool],
) -> tuple[Array | None, Array | None]:  # fmt: skip
    """The gradients of x and t (None for one that nobody needs)."""
    wide, w, kind = _wide(g), _wide(weight), saved.dtype.type
    scale = wide / kind(x.size // x.shape[1]) if reduction == "mean" else wide
    column = np.expand_dims(scale, 1) if np.ndim(scale) else scale
    dx = dt = None
    if needs[0]:
        v = _mixed(_wide(t), w, smoothing)
        dx = _powers(saved, np.add.reduce(v, 1))
        dx -= v
        dx *= column
        dx = dx.astype(x.dtype, copy=False)
    if needs[1]:
        dt = saved * (column * kind(smoothing - 1))
        dt = (dt if w is None else dt * _classes(w, x.ndim)).astype(x.dtype, copy=False)
    return dx, dt
