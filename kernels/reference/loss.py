"""Losses: forward and backward, with the reduction inside.

Element-wise losses compare x with a target t of the same shape:

    mse        (x - t)^2
    smooth_l1  (x - t)^2 / (2 beta) where |x - t| < beta, else |x - t| - beta / 2
    huber      (x - t)^2 / 2        where |x - t| <= delta, else delta (|x - t| - delta / 2)
    bce        -(t log x + (1 - t) log(1 - x)), each logarithm at least -100
    bce_logits (1 - t) x + (1 + (p - 1) t) (log(1 + exp(-|x|)) + max(-x, 0)), p the weight of the positive class

`value[name](x, t, ...)` and `slope[name](x, t, ...)` give the loss of each element and its derivative by x; `forward`
and `backward` reduce. nll picks one log-probability per sample. float16 and bfloat16 are computed in float32 and
rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW
from tritium.kernels.reference.quiet import quiet

Array = Any


def _wide(a: Any) -> Any:
    return a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype in LOW else a


# ------------------------------------------------------------------------------------------------ element-wise


def _mse(x: Array, t: Array) -> Array:
    d = x - t
    return d * d


def _mse_slope(x: Array, t: Array) -> Array:
    return (x - t) * x.dtype.type(2)


def _smooth_l1(x: Array, t: Array, beta: float) -> Array:
    kind = x.dtype.type
    z = np.abs(x - t)
    return np.where(z < beta, z * z * kind(0.5) / kind(beta), z - kind(0.5 * beta))


def _smooth_l1_slope(x: Array, t: Array, beta: float) -> Array:
    return np.clip((x - t) / x.dtype.type(beta), x.dtype.type(-1), x.dtype.type(1))


def _huber(x: Array, t: Array, delta: float) -> Array:
    kind = x.dtype.type
    z = np.abs(x - t)
    return np.where(z <= delta, z * z * kind(0.5), (z - kind(0.5 * delta)) * kind(delta))


def _huber_slope(x: Array, t: Array, delta: float) -> Array:
    return np.clip(x - t, x.dtype.type(-delta), x.dtype.type(delta))


def _bce(x: Array, t: Array, weight: Array | None) -> Array:
    floor = x.dtype.type(-100)
    out = (t - 1) * np.maximum(np.log1p(-x), floor) - t * np.maximum(np.log(x), floor)
    return out if weight is None else out * weight


def _bce_slope(x: Array, t: Array, weight: Array | None) -> Array:
    out = (x - t) / np.maximum((1 - x) * x, x.dtype.type(1e-12))
    return out if weight is None else out * weight


def _bce_logits(x: Array, t: Array, weight: Array | None, positive: Array | None) -> Array:
    soft = np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, x.dtype.type(0))
    out = (1 - t) * x + (soft if positive is None else (1 + (positive - 1) * t) * soft)
    return out if weight is None else out * weight


def _bce_logits_slope(x: Array, t: Array, weight: Array | None, positive: Array | None) -> Array:
    s = 1 / (1 + np.exp(-x))
    out = s - t if positive is None else (positive * t + 1 - t) * s - positive * t
    return out if weight is None else out * weight


value: dict[str, Callable[..., Array]] = {
    "mse": _mse, "smooth_l1": _smooth_l1, "huber": _huber, "bce": _bce, "bce_logits": _bce_logits,
}  # fmt: skip
slope: dict[str, Callable[..., Array]] = {
    "mse": _mse_slope, "smooth_l1": _smooth_l1_slope, "huber": _huber_slope, "bce": _bce_slope,
    "bce_logits": _bce_logits_slope,
}  # fmt: skip


@quiet
def forward(name: str, x: Array, t: Array, reduction: str, *more: Any) -> Array:
    """The loss of each element ("none"), their "mean" or their "sum", in x's dtype."""
    out = np.asarray(value[name](_wide(x), _wide(t), *map(_wide, more)))
    if reduction == "mean":
        out = np.sum(out) / out.dtype.type(out.size)
    elif reduction == "sum":
        out = np.sum(out)
    return np.asarray(out).astype(x.dtype, copy=False)


@quiet
def backward(name: str, g: Array, x: Array, t: Array, reduction: str, *more: Any) -> Array:
    """The gradient of x. g has x's shape for "none", and no dimensions for "mean" and "sum"."""
    out = np.asarray(slope[name](_wide(x), _wide(t), *map(_wide, more)))
    scale = _wide(g)
    if reduction == "mean":
        scale = scale / scale.dtype.type(max(out.size, 1))
    return np.asarray(out * scale).astype(x.dtype, copy=False)


# --------------------------------------------------------------------------------------------------------- nll


def survey(target: Array, classes: int, ignore: int) -> tuple[int | None, bool]:
    """(the first class number that is neither in [0, classes) nor the ignored one, or None; whether any is ignored)."""
    if target.size == 0:
        return None, False
    low, high = target.min(), target.max()
    if low >= 0 and high < classes:  # the usual case: two passes and no temporary
        return None, bool(low <= ignore <= high and (target == ignore).any())
    ignored = target == ignore
    bad = ((target < 0) | (target >= classes)) & ~ignored
    return (int(target[bad][0]) if bad.any() else None), bool(ignored.any())


def _places(target: Array) -> tuple[Array, ...]:
    """Indices of each sample's class in (N, C, ...)."""
    if target.ndim == 1:
        return np.arange(target.size), target
    first, *rest = np.ogrid[tuple(slice(n) for n in target.shape)]
    return first, target, *rest


def _weights(target: Array, weight: Array | None, ignore: int, some: bool, dtype: Any) -> tuple[Array, Array | None]:
    """Class numbers that may be used as indices, and the weight of each sample (None: 1 for all)."""
    if not some:
        return target, None if weight is None else weight[target]
    ignored = target == ignore
    target = np.where(ignored, 0, target)
    if weight is None:
        return target, (~ignored).astype(dtype)
    weights = weight[target]
    return target, np.where(ignored, weights.dtype.type(0), weights)


@quiet
def nll(
    logp: Array, target: Array, weight: Array | None, ignore: int, some: bool, reduction: str
) -> tuple[Array, Array]:
    """logp (N, C, ...), target (N, ...) of integers, weight (C,): the loss and the sum of the samples' weights.

    `some`: whether `target` has ignored entries. "none": -w logp of each sample; "sum": their sum; "mean": their sum
    over the sum of the weights.
    """
    target, weights = _weights(target, _wide(weight), ignore, some, np.float32 if logp.dtype in LOW else logp.dtype)
    picked = -_wide(logp[_places(target)])
    if weights is not None:
        picked = np.where(weights == 0, picked.dtype.type(0), picked * weights)  # an ignored nan or inf counts 0
    if reduction == "none":
        return picked.astype(logp.dtype, copy=False), np.asarray(picked.dtype.type(0))
    total = picked.dtype.type(picked.size) if weights is None else np.add.reduce(weights, None)
    loss = np.add.reduce(picked, None)
    if reduction == "mean":
        loss = loss / total
    return np.asarray(loss, logp.dtype), np.asarray(total)


@quiet
def nll_backward(
    g: Array, target: Array, weight: Array | None, ignore: int, some: bool, reduction: str, total: Array,
    shape: tuple[int, ...],
) -> Array:  # fmt: skip
    """The gradient of logp (of `shape`): -w g at each sample's class, 0 elsewhere."""
    wide = _wide(g)
    target, weights = _weights(target, _wide(weight), ignore, some, wide.dtype)
    values = -(wide / total) if reduction == "mean" else -wide
    if weights is not None:
        values = np.where(weights == 0, wide.dtype.type(0), values * weights)
    out = np.zeros(shape, g.dtype)
    out[_places(target)] = values
    return out
