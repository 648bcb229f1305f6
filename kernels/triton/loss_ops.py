"""The element-wise losses as lines of arithmetic on blocks: what ``loss.py`` has in its tables.

Each has its value and its derivatives by x and by t, times the incoming gradient g and the share that one element has
in the result (1 / count for a mean). ``..._slopes``: both at once.
"""
from __future__ import annotations

import math

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.triton.pointwise_ops import inverse, quotient

TWO_PI: tl.constexpr = tl.constexpr(2 * math.pi)


@triton.jit
def largest(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def between(a, low, high):
    return tl.where(a < low, low, tl.where(a > high, high, a))


@triton.jit
def mse(x, t):
    return (x - t) * (x - t)


@triton.jit
def mse_slope(x, t, g, share):
    return (x - t) * 2 * g * share


@triton.jit
def mse_slopes(x, t, g, share):
    d = mse_slope(x, t, g, share)
    return d, -d


@triton.jit
def l1(x, t):
    return tl.abs(x - t)


@triton.jit
def l1_slope(x, t, g, share):
    d = x - t
    return tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, 0.0)).to(x.dtype) * g * share


@triton.jit
def l1_slopes(x, t, g, share):
    d = l1_slope(x, t, g, share)
    return d, -d


@triton.jit
def smooth_l1(x, t, beta, half):
    z = tl.abs(x - t)
    return tl.where(z < beta, quotient(z * z * 0.5, beta), z - half)


@triton.jit
def smooth_l1_slope(x, t, g, beta, share):
    return between(quotient(x - t, beta), -1.0, 1.0) * g * share


@triton.jit
def smooth_l1_slopes(x, t, g, beta, share):
    d = smooth_l1_slope(x, t, g, beta, share)
    return d, -d


@triton.jit
def huber(x, t, delta, half):
    z = tl.abs(x - t)
    return tl.where(z <= delta, z * z * 0.5, (z - half) * delta)


@triton.jit
def huber_slope(x, t, g, delta, share):
    return between(x - t, -delta, delta) * g * share


@triton.jit
def huber_slopes(x, t, g, delta, share):
    d = huber_slope(x, t, g, delta, share)
    return d, -d


@triton.jit
def bce(x, t):
    return (t - 1) * largest(libdevice.log1p(-x), -100.0) - t * largest(libdevice.log(x), -100.0)


@triton.jit
def bce_weighed(x, t, w):
    return bce(x, t) * w


@triton.jit
def bce_slope(x, t, g, share):
    return quotient(x - t, largest((1 - x) * x, 1e-12)) * g * share


@triton.jit
def bce_slope_weighed(x, t, g, w, share):
    return bce_slope(x, t, g, share) * w


@triton.jit
def bce_slope_t(x, t, g, share):
    return (largest(libdevice.log1p(-x), -100.0) - largest(libdevice.log(x), -100.0)) * g * share


@triton.jit
def bce_slope_t_weighed(x, t, g, w, share):
    return bce_slope_t(x, t, g, share) * w


@triton.jit
def soft(x):
    """log(1 + exp(-x))"""
    return libdevice.log1p(libdevice.exp(-tl.abs(x))) + largest(-x, 0.0)


@triton.jit
def sigmoid(x):
    return inverse(1 + libdevice.exp(-x))


@triton.jit
def bce_logits(x, t):
    return (1 - t) * x + soft(x)


@triton.jit
def bce_logits_weighed(x, t, w):
    return bce_logits(x, t) * w


@triton.jit
def bce_logits_positive(x, t, p):
    return (1 - t) * x + (1 + (p - 1) * t) * soft(x)


@triton.jit
def bce_logits_both(x, t, w, p):
    return bce_logits_positive(x, t, p) * w


@triton.jit
def bce_logits_slope(x, t, g, share):
    return (sigmoid(x) - t) * g * share


@triton.jit
def bce_logits_slope_weighed(x, t, g, w, share):
    return (sigmoid(x) - t) * w * g * share


@triton.jit
def bce_logits_slope_positive(x, t, g, p, share):
    return ((p * t + 1 - t) * sigmoid(x) - p * t) * g * share


@triton.jit
def bce_logits_slope_both(x, t, g, w, p, share):
    return ((p * t + 1 - t) * sigmoid(x) - p * t) * w * g * share


@triton.jit
def bce_logits_slope_t(x, t, g, share):
    return -x * g * share


@triton.jit
def bce_logits_slope_t_weighed(x, t, g, w, share):
    return -x * w * g * share


@triton.jit
def bce_logits_slope_t_positive(x, t, g, p, share):
    return ((p - 1) * soft(x) - x) * g * share


@triton.jit
def bce_logits_slope_t_both(x, t, g, w, p, share):
    return ((p - 1) * soft(x) - x) * w * g * share


@triton.jit
def kl(x, t):
    return tl.where(t == 0, 0.0, t * libdevice.log(t)) - t * x


@triton.jit
def kl_slope(x, t, g, share):
    return -t * g * share


@triton.jit
def kl_slope_t(x, t, g, share):
    return tl.where(t == 0, float("nan"), libdevice.log(t) + 1 - x) * g * share


@triton.jit
def kl_log(x, t):
    return libdevice.exp(t) * (t - x)


@triton.jit
def kl_log_slope(x, t, g, share):
    return -libdevice.exp(t) * g * share


@triton.jit
def kl_log_slope_t(x, t, g, share):
    return libdevice.exp(t) * (t - x + 1) * g * share


@triton.jit
def soft_margin(x, t):
    return libdevice.log1p(libdevice.exp(-t * x))


@triton.jit
def soft_margin_slope(x, t, g, share):
    return -t * sigmoid(-t * x) * g * share


@triton.jit
def hinge(x, t, margin):
    return tl.where(t != -1, x, 0.0) + tl.where(t != 1, largest(margin - x, 0.0), 0.0)


@triton.jit
def hinge_slope(x, t, g, margin, share):
    return (tl.where(t != -1, 1.0, 0.0) - tl.where((t != 1) & (x <= margin), 1.0, 0.0)).to(x.dtype) * g * share


@triton.jit
def stirling(t):
    """About the logarithm of the factorial."""
    return tl.where(t <= 1, 0.0, t * libdevice.log(t) - t + 0.5 * libdevice.log(TWO_PI * t))


@triton.jit
def stirling_slope(t):
    return tl.where(t <= 1, 0.0, libdevice.log(t) + quotient(tl.full(t.shape, 0.5, t.dtype), t))


@triton.jit
def poisson(x, t, eps):
    return x - t * libdevice.log(x + eps)


@triton.jit
def poisson_full(x, t, eps):
    return poisson(x, t, eps) + stirling(t)


@triton.jit
def poisson_slope(x, t, g, eps, share):
    return (1 - quotient(t, x + eps)) * g * share


@triton.jit
def poisson_slope_t(x, t, g, eps, share):
    return -libdevice.log(x + eps) * g * share


@triton.jit
def poisson_full_slope_t(x, t, g, eps, share):
    return (stirling_slope(t) - libdevice.log(x + eps)) * g * share


@triton.jit
def poisson_log(x, t):
    return libdevice.exp(x) - t * x


@triton.jit
def poisson_log_full(x, t):
    return poisson_log(x, t) + stirling(t)


@triton.jit
def poisson_log_slope(x, t, g, share):
    return (libdevice.exp(x) - t) * g * share


@triton.jit
def poisson_log_slope_t(x, t, g, share):
    return -x * g * share


@triton.jit
def poisson_log_full_slope_t(x, t, g, share):
    return (stirling_slope(t) - x) * g * share
