"""Activation functions and their derivatives, one line each, on blocks: what ``activation.py`` has in its tables.

Forward: f(x, constants). Backward: g f'(x), in one pass. nan goes where PyTorch sends it: comparisons with nan are
false, and the branch that is left says what happens. Quotients are within 2 ulp.
"""
from __future__ import annotations

import math

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.triton.pointwise_ops import sigmoid
from tritium.kernels.triton.pointwise_pairs import maximum, minimum

ROOT_HALF: tl.constexpr = tl.constexpr(math.sqrt(0.5))
TANH_SCALE: tl.constexpr = tl.constexpr(math.sqrt(2 / math.pi))
TANH_CUBIC: tl.constexpr = tl.constexpr(0.044715)
SLOPE_CUBIC: tl.constexpr = tl.constexpr(3 * 0.044715)
DENSITY: tl.constexpr = tl.constexpr(math.sqrt(2 / math.pi) / 2)
SIXTH: tl.constexpr = tl.constexpr(1 / 6)
THIRD: tl.constexpr = tl.constexpr(1 / 3)


# --- piecewise linear ---

@triton.jit
def hardtanh(x, low, high):
    return minimum(maximum(x, low), high)


@triton.jit
def hardtanh_backward(g, x, low, high):
    return tl.where((x <= low) | (x >= high), 0, g)


@triton.jit
def leaky_relu(x, slope):
    return tl.where(x > 0, x, x * slope)


@triton.jit
def leaky_relu_backward(g, x, slope):
    return tl.where(x > 0, g, g * slope)


@triton.jit
def threshold(x, limit, value):
    return tl.where(x <= limit, value, x)


@triton.jit
def threshold_backward(g, x, limit):
    return tl.where(x <= limit, 0, g)


@triton.jit
def hardshrink(x, bound):
    return tl.where((x >= -bound) & (x <= bound), 0, x)


@triton.jit
def shrink_backward(g, x, bound):
    return tl.where((x >= -bound) & (x <= bound), 0, g)


@triton.jit
def softshrink(x, bound):
    return tl.where(x > bound, x - bound, tl.where(x < -bound, x + bound, x * 0))


@triton.jit
def relu6_of(x):
    """min(max(x + 3, 0), 6)."""
    return tl.where(x <= -3, 0, tl.where(x >= 3, 6, x + 3))


@triton.jit
def hardsigmoid(x):
    return relu6_of(x) / 6


@triton.jit
def hardsigmoid_backward(g, x):
    return tl.where((x > -3) & (x < 3), g * SIXTH, 0)


@triton.jit
def hardswish(x):
    return relu6_of(x) * x / 6


@triton.jit
def hardswish_backward(g, x):
    return tl.where(x <= -3, 0, tl.where(x < 3, g * (x * THIRD + 0.5), g))


# --- exponential ---

@triton.jit
def elu(x, below, scale, input_scale):
    """below = alpha * scale."""
    return tl.where(x <= 0, libdevice.expm1(tl.where(x > 0, 0, x) * input_scale) * below, x * scale)


@triton.jit
def elu_backward(g, x, below, scale, input_scale):
    """below = alpha * scale * input_scale."""
    return g * tl.where(x <= 0, libdevice.exp(tl.where(x > 0, 0, x) * input_scale) * below, scale)


@triton.jit
def elu_of_result_backward(g, r, below, scale, input_scale):
    """below = alpha * scale."""
    return g * tl.where(r <= 0, (r + below) * input_scale, scale)


@triton.jit
def logistic(x):
    return 1 / (1 + libdevice.exp(-x))


@triton.jit
def silu(x):
    return x / (1 + libdevice.exp(-x))


@triton.jit
def silu_backward(g, x):
    s = logistic(x)
    return g * (s * (1 + x * (1 - s)))


@triton.jit
def soft(x):
    """log(1 + exp(x)) without overflow."""
    return libdevice.log1p(libdevice.exp(-tl.abs(x))) + tl.where(x <= 0, 0, x)


@triton.jit
def mish(x):
    return x * libdevice.tanh(soft(x))


@triton.jit
def mish_backward(g, x):
    t = libdevice.tanh(soft(x))
    return g * (t + x * (1 - t * t) * logistic(x))


@triton.jit
def softplus(x, beta, limit):
    scaled = x * beta
    low = tl.where(scaled > limit, limit, scaled)
    return tl.where(scaled > limit, x, libdevice.log1p(libdevice.exp(low)) / beta)


@triton.jit
def softplus_backward(g, x, beta, limit):
    scaled = x * beta
    return tl.where(scaled > limit, g, g * logistic(scaled))


@triton.jit
def log_sigmoid(x):
    return tl.where(x >= 0, 0, x) - libdevice.log1p(libdevice.exp(-tl.abs(x)))


@triton.jit
def log_sigmoid_backward(g, x):
    return g * logistic(-x)


@triton.jit
def glu(x, gate):
    return x * sigmoid(gate)


# --- gelu: x times the normal distribution's cumulative function, exactly (by erf) or through tanh ---

@triton.jit
def gelu(x):
    return (libdevice.erf(x * ROOT_HALF) + 1) * x * 0.5


@triton.jit
def gelu_backward(g, x):
    cumulative = (libdevice.erf(x * ROOT_HALF) + 1) * 0.5
    return g * (cumulative + x * (libdevice.exp(x * x * -0.5) * DENSITY))


@triton.jit
def inner(x):
    return libdevice.tanh((x + x * x * x * TANH_CUBIC) * TANH_SCALE)


@triton.jit
def gelu_tanh(x):
    return x * (inner(x) + 1) * 0.5


@triton.jit
def gelu_tanh_backward(g, x):
    t = inner(x)
    slope = (x * x * SLOPE_CUBIC + 1) * TANH_SCALE
    return g * (((t + 1) + x * (1 - t * t) * slope) * 0.5)


# --- prelu ---

@triton.jit
def prelu(x, weight):
    return tl.where(x > 0, x, x * weight)


@triton.jit
def prelu_backward(g, x, weight):
    return tl.where(x > 0, g, g * weight)


@triton.jit
def prelu_weight_backward(g, x):
    return g * tl.where(x >= 0, 0, x)
