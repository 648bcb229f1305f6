"""Losses: forward and backward, with the reduction inside.

Element-wise losses compare x with a target t of the same shape:

    mse          (x - t)^2
    l1           |x - t|
    smooth_l1    (x - t)^2 / (2 beta) where |x - t| < beta, else |x - t| - beta / 2
    huber        (x - t)^2 / 2        where |x - t| <= delta, else delta (|x - t| - delta / 2)
    bce          -(t log x + (1 - t) log(1 - x)), each logarithm at least -100
    bce_logits   (1 - t) x + (1 + (p - 1) t) (log(1 + exp(-|x|)) + max(-x, 0)), p the weight of the positive class
    kl           t log t - t x, 0 log 0 = 0
    kl_log       exp(t) (t - x)
    soft_margin  log(1 + exp(-t x))
    hinge        x where t is not -1, plus max(0, margin - x) where t is not 1
    poisson      x - t log(x + eps)
    poisson_log  exp(x) - t x
    stirling     added to the two above: t log t - t + log(2 pi t) / 2 where t > 1

`value[name](x, t, ...)`, `slope[name](x, t, ...)` and `slope_t[name](x, t, ...)` give the loss of each element and its
derivatives by x and t (not the second where it is the negative of the first, or nothing); `forward` and `backward`
reduce. nll picks one log-probability per sample. float16 and bfloat16 are computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW
from tritium.kernels.reference.quiet import quiet

Array = Any
Function = Callable[..., Array]


def _wide(a: Any) -> Any:
    return a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype in LOW else a


# ------------------------------------------------------------------------------------------------ element-wise


def _mse(x: Array, t: Array) -> Array:
    d = x - t
    return d * d


def _mse_slope(x: Array, t: Array) -> Array:
    return (x - t) * x.dtype.type(2)


def _l1(x: Array, t: Array) -> Array:
    return np.abs(x - t)


def _l1_slope(x: Array, t: Array) -> Array:
    d = np.asarray(x - t)
    return ((d > 0).view(np.int8) - (d < 0).view(np.int8)).astype(x.dtype)  # 0 for nan


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


def _weighed(out: Array, weight: Array | None) -> Array:
    return out if weight is None else out * weight


def _bce(x: Array, t: Array, weight: Array | None) -> Array:
    floor = x.dtype.type(-100)
    return _weighed((t - 1) * np.maximum(np.log1p(-x), floor) - t * np.maximum(np.log(x), floor), weight)


def _bce_slope(x: Array, t: Array, weight: Array | None) -> Array:
    return _weighed((x - t) / np.maximum((1 - x) * x, x.dtype.type(1e-12)), weight)


def _bce_slope_t(x: Array, t: Array, weight: Array | None) -> Array:
    floor = x.dtype.type(-100)
    return _weighed(np.maximum(np.log1p(-x), floor) - np.maximum(np.log(x), floor), weight)


def _soft(x: Array) -> Array:
    """log(1 + exp(-x))"""
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, x.dtype.type(0))


def _bce_logits(x: Array, t: Array, weight: Array | None, positive: Array | None) -> Array:
    soft = _soft(x)
    return _weighed((1 - t) * x + (soft if positive is None else (1 + (positive - 1) * t) * soft), weight)


def _bce_logits_slope(x: Array, t: Array, weight: Array | None, positive: Array | None) -> Array:
    s = 1 / (1 + np.exp(-x))
    return _weighed(s - t if positive is None else (positive * t + 1 - t) * s - positive * t, weight)


def _bce_logits_slope_t(x: Array, t: Array, weight: Array | None, positive: Array | None) -> Array:
    return _weighed(-x if positive is None else (positive - 1) * _soft(x) - x, weight)


def _kl(x: Array, t: Array) -> Array:
    out = np.asarray(np.log(t))
    out *= t
    np.copyto(out, out.dtype.type(0), where=t == 0)
    out -= t * x
    return out


def _kl_slope_t(x: Array, t: Array) -> Array:
    return np.where(t == 0, x.dtype.type(np.nan), np.log(t) + 1 - x)


def _kl_log(x: Array, t: Array) -> Array:
    return np.exp(t) * (t - x)


def _kl_log_slope_t(x: Array, t: Array) -> Array:
    return np.exp(t) * (t - x + 1)


def _soft_margin(x: Array, t: Array) -> Array:
    return np.log1p(np.exp(-t * x))


def _soft_margin_slope(x: Array, t: Array) -> Array:
    return -t / (1 + np.exp(t * x))


def _hinge(x: Array, t: Array, margin: float) -> Array:
    none = x.dtype.type(0)
    return np.where(t != -1, x, none) + np.where(t != 1, np.maximum(x.dtype.type(margin) - x, none), none)


def _hinge_slope(x: Array, t: Array, margin: float) -> Array:
    return (t != -1).astype(x.dtype) - ((t != 1) & (x <= margin))


def _stirling(t: Array) -> Array:
    kind = t.dtype.type
    return np.where(t <= 1, kind(0), t * np.log(t) - t + kind(0.5) * np.log(kind(2 * math.pi) * t))


def _stirling_slope(t: Array) -> Array:
    kind = t.dtype.type
    return np.where(t <= 1, kind(0), np.log(t) + kind(0.5) / t)


def _poisson(x: Array, t: Array, eps: float) -> Array:
    return x - t * np.log(x + x.dtype.type(eps))


def _poisson_slope(x: Array, t: Array, eps: float) -> Array:
    return 1 - t / (x + x.dtype.type(eps))


def _poisson_slope_t(x: Array, t: Array, eps: float) -> Array:
    return -np.log(x + x.dtype.type(eps))


def _poisson_log(x: Array, t: Array) -> Array:
    return np.exp(x) - t * x


value: dict[str, Function] = {
    "mse": _mse, "l1": _l1, "smooth_l1": _smooth_l1, "huber": _huber, "bce": _bce, "bce_logits": _bce_logits,
    "kl": _kl, "kl_log": _kl_log, "soft_margin": _soft_margin, "hinge": _hinge, "poisson": _poisson,
    "poisson_log": _poisson_log, "poisson_full": lambda x, t, eps: _poisson(x, t, eps) + _stirling(t),
    "poisson_log_full": lambda x, t: _poisson_log(x, t) + _stirling(t),
}  # fmt: skip
slope: dict[str, Function] = {
    "mse": _mse_slope, "l1": _l1_slope, "smooth_l1": _smooth_l1_slope, "huber": _huber_slope, "bce": _bce_slope,
    "bce_logits": _bce_logits_slope, "kl": lambda x, t: -t, "kl_log": lambda x, t: -np.exp(t),
    "soft_margin": _soft_margin_slope, "hinge": _hinge_slope, "poisson": _poisson_slope,
    "poisson_log": lambda x, t: np.exp(x) - t, "poisson_full": _poisson_slope,
    "poisson_log_full": lambda x, t: np.exp(x) - t,
}  # fmt: skip
slope_t: dict[str, Function] = {
    "bce": _bce_slope_t, "bce_logits": _bce_logits_slope_t, "kl": _kl_slope_t,
    "kl_log": _kl_log_slope_t, "poisson": _poisson_slope_t, "poisson_log": lambda x, t: -x,
    "poisson_full": lambda x, t, eps: _poisson_slope_t(x, t, eps) + _stirling_slope(t),
    "poisson_log_full": lambda x, t: _stirling_slope(t) - x,
}  # fmt: skip


@quiet
def forward(name: str, x: Array, t: Array, reduction: str, *more: Any, count: int = 0) -> Array:
    """The loss of each element ("none"), their "mean" or their "sum", in x's dtype.

    `count`: what the mean divides by, if not the number of elements."""
    out = np.asarray(value[name](_wide(x), _wide(t), *map(_wide, more)))
    if reduction == "mean":
        out = np.add.reduce(out, None) / out.dtype.type(count or out.size)
    elif reduction == "sum":
        out = np.add.reduce(out, None)
    return np.asarray(out).astype(x.dtype, copy=False)


@quiet
def backward(
    name: str, g: Array, x: Array, t: Array, reduction: str, *more: Any, count: int = 0,
    needs: tuple[bool, bool] = (True, False),
) -> tuple[Array | None, Array | None]:  # fmt: skip
    """The gradients of x and t (None for one that nobody needs), in x's dtype. g has x's shape for "none", and no
    dimensions for "mean" and "sum"."""
    scale, wide = _wide(g), (_wide(x), _wide(t), *map(_wide, more))

    def scaled(out: Array) -> Array:
        by = scale / scale.dtype.type(count or max(np.size(out), 1)) if reduction == "mean" else scale
        return np.asarray(out * by).astype(x.dtype, copy=False)

    if name in DIFFERENCE:
        d = scaled(slope[name](*wide))
        return d if needs[0] else None, np.asarray(-d) if needs[1] else None
    first = scaled(slope[name](*wide)) if needs[0] else None
    return first, scaled(slope_t[name](*wide)) if needs[1] else None


DIFFERENCE = frozenset(("mse", "l1", "smooth_l1", "huber"))  # these depend on x - t alone


def outside(x: Array, t: Array) -> tuple[bool, bool]:
    """Whether x, and whether t, has an element that is not in [0, 1]."""
    first, second = (bool(a.size) and not (a.min() >= 0 and a.max() <= 1) for a in (x, t))
    return first, second


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
