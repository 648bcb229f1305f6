"""Activation functions: forward and backward, each a few lines of arithmetic.

`forward[name](x, *numbers)` gives the value; `backward[name](g, x, *numbers)` gives g times the derivative at x. The
numbers are the function's constants (a slope, bounds). Results have x's dtype and memory order; the 16-bit types are
computed in float32 and rounded once. nan goes where PyTorch sends it: comparisons with nan are false, and the branch
that is left says what happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels.reference import parallel
from tritium.kernels.reference.pointwise import LOW
from tritium.kernels.reference.quiet import begin, end
from tritium.kernels.reference.special import erf

Array = Any
forward: dict[str, Callable[..., Array]] = {}
backward: dict[str, Callable[..., Array]] = {}

PIECE = 1 << 14  # elements worked on at a time: the temporaries stay in the cache
PARALLEL = 1 << 18  # elements from which a second thread pays


def kernel(table: dict[str, Callable[..., Array]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into a table under its name: made silent, the 16-bit types in float32, large arrays in pieces."""

    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        def small(*args: Any) -> Array:
            kind = args[0].dtype
            if kind in LOW:
                wide = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in args]
                return np.asarray(f(*wide)).astype(kind)
            return np.asarray(f(*args))

        def run(*args: Any) -> Array:
            token = begin()
            try:
                if args[0].size <= PIECE:
                    return small(*args)
                out = in_pieces(small, args)
                return small(*args) if out is None else out
            finally:
                end(token)

        table[f.__name__.strip("_").removesuffix("_backward")] = run
        return f

    return register


def in_pieces(f: Callable[..., Array], args: tuple[Any, ...]) -> Array | None:
    """`f` of arrays that lie in memory in the same order, without gaps, piece by piece. None for other arrays."""
    first = args[0]
    order = None if first.flags.c_contiguous else sorted(range(first.ndim), key=lambda d: -first.strides[d])
    flat = []
    for a in args:
        if isinstance(a, np.ndarray):
            if a.shape != first.shape:
                return None
            a = a if order is None else a.transpose(order)
            if not a.flags.c_contiguous:
                return None
            a = a.reshape(-1)
        flat.append(a)
    if order is None:
        out = result = parallel.empty(first.shape, first.dtype)
    else:
        out = parallel.empty(tuple(first.shape[d] for d in order), first.dtype)
        result = out.transpose(np.argsort(order))
    target = out.reshape(-1)

    def work(start: int, stop: int) -> None:
        token = begin()
        try:
            for i in range(start, stop, PIECE):
                part = slice(i, min(i + PIECE, stop))
                target[part] = f(*[a[part] if isinstance(a, np.ndarray) else a for a in flat])
        finally:
            end(token)

    if first.size < PARALLEL:
        work(0, first.size)
    else:
        parallel.run(work, parallel.parts(first.size, parallel.get_num_threads()))
    return result


BITS = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}


def choose(condition: Array, a: Any, b: Any) -> Array:
    """`a` where the condition holds, else `b` (arrays of one dtype, or numbers of it).

    The bits of the numbers are multiplied by the condition: exact, and several times faster than `np.where` where the
    condition changes from element to element, which the processor can not foresee.
    """
    bits = BITS.get(a.dtype)
    if bits is None or not isinstance(condition, np.ndarray):
        return np.where(condition, a, b)
    chosen = np.asarray(a).view(bits) * condition
    if isinstance(b, np.ndarray) or b != 0:
        chosen |= np.asarray(b).view(bits) * ~condition
    return chosen.view(a.dtype)


def zero_where(condition: Array, g: Array) -> Array:
    """`g` with 0 where the condition holds."""
    return choose(~condition, g, g.dtype.type(0))


# -------------------------------------------------------------------------------------------- piecewise linear


@kernel(forward)
def hardtanh(x: Array, low: Any, high: Any) -> Array:
    return np.clip(x, x.dtype.type(low), x.dtype.type(high))


@kernel(backward)
def hardtanh_backward(g: Array, x: Array, low: Any, high: Any) -> Array:
    return zero_where((x <= low) | (x >= high), g)


@kernel(forward)
def leaky_relu(x: Array, slope: float) -> Array:
    scaled = x * x.dtype.type(slope)
    return np.maximum(x, scaled) if 0 < slope <= 1 else choose(x > 0, x, scaled)


@kernel(backward)
def leaky_relu_backward(g: Array, x: Array, slope: float) -> Array:
    return choose(x > 0, g, g * g.dtype.type(slope))


ZEROS = {np.dtype(t): np.zeros(PIECE, t) for t in (np.float32, np.float64)}


@kernel(forward)
def relu(x: Array) -> Array:
    # the maximum with an array of zeros runs four times as fast as that with the number 0
    zeros = ZEROS.get(x.dtype)
    return np.maximum(x, x.dtype.type(0) if zeros is None or x.ndim != 1 or x.size > PIECE else zeros[:x.size])


@kernel(forward)
def threshold(x: Array, limit: Any, value: Any) -> Array:
    return choose(x <= limit, x.dtype.type(value), x)


@kernel(backward)
def threshold_backward(g: Array, x: Array, limit: Any, value: Any) -> Array:
    return zero_where(x <= limit, g)


@kernel(forward)
def hardshrink(x: Array, bound: float) -> Array:
    return zero_where((x >= -bound) & (x <= bound), x)


@kernel(backward)
def hardshrink_backward(g: Array, x: Array, bound: float) -> Array:
    return zero_where((x >= -bound) & (x <= bound), g)


@kernel(forward)
def softshrink(x: Array, bound: float) -> Array:
    bound = x.dtype.type(bound)
    return choose(x > bound, x - bound, choose(x < -bound, x + bound, x * 0))


@kernel(backward)
def softshrink_backward(g: Array, x: Array, bound: float) -> Array:
    return zero_where((x >= -bound) & (x <= bound), g)


@kernel(forward)
def hardsigmoid(x: Array) -> Array:
    kind = x.dtype.type
    out = np.clip(x + kind(3), kind(0), kind(6))
    out /= kind(6)
    return out


@kernel(backward)
def hardsigmoid_backward(g: Array, x: Array) -> Array:
    return choose((x > -3) & (x < 3), g * g.dtype.type(1 / 6), g.dtype.type(0))


@kernel(forward)
def hardswish(x: Array) -> Array:
    kind = x.dtype.type
    out = np.clip(x + kind(3), kind(0), kind(6))
    out *= x
    out /= kind(6)
    return out


@kernel(backward)
def hardswish_backward(g: Array, x: Array) -> Array:
    kind = g.dtype.type
    return zero_where(x <= -3, choose(x < 3, g * (x * kind(1 / 3) + kind(0.5)), g))


# ------------------------------------------------------------------------------------------------- exponential


@kernel(forward)
def elu(x: Array, alpha: float, scale: float, input_scale: float) -> Array:
    """scale * x above 0, alpha * scale * (exp(input_scale * x) - 1) below: elu, selu and celu by their constants."""
    kind = x.dtype.type
    below = np.expm1(np.minimum(x, kind(0)) * kind(input_scale)) * kind(alpha * scale)
    return choose(x <= 0, below, x * kind(scale))


@kernel(backward)
def elu_backward(g: Array, x: Array, alpha: float, scale: float, input_scale: float) -> Array:
    kind = g.dtype.type
    below = np.exp(np.minimum(x, kind(0)) * kind(input_scale)) * kind(alpha * scale * input_scale)
    return g * choose(x <= 0, below, kind(scale))


@kernel(backward)
def elu_of_result_backward(g: Array, r: Array, alpha: float, scale: float, input_scale: float) -> Array:
    kind = g.dtype.type
    return g * choose(r <= 0, (r + kind(alpha * scale)) * kind(input_scale), kind(scale))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@kernel(forward)
def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


@kernel(backward)
def silu_backward(g: Array, x: Array) -> Array:
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@kernel(forward)
def mish(x: Array) -> Array:
    return x * np.tanh(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, x.dtype.type(0)))


@kernel(backward)
def mish_backward(g: Array, x: Array) -> Array:
    t = np.tanh(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, x.dtype.type(0)))
    return g * (t + x * (1 - t * t) * sigmoid(x))


@kernel(forward)
def softplus(x: Array, beta: float, limit: float) -> Array:
    kind = x.dtype.type
    scaled = x * kind(beta)
    return choose(scaled > limit, x, np.log1p(np.exp(np.minimum(scaled, kind(limit)))) / kind(beta))


@kernel(backward)
def softplus_backward(g: Array, x: Array, beta: float, limit: float) -> Array:
    kind = x.dtype.type
    scaled = x * kind(beta)
    return choose(scaled > limit, g, g * sigmoid(scaled))


@kernel(forward)
def log_sigmoid(x: Array) -> Array:
    return np.minimum(x, x.dtype.type(0)) - np.log1p(np.exp(-np.abs(x)))


@kernel(backward)
def log_sigmoid_backward(g: Array, x: Array) -> Array:
    return g * sigmoid(-x)


@kernel(forward)
def glu(x: Array, gate: Array) -> Array:
    return x * sigmoid(gate)


# -------------------------------------------------------------------------------------------------------- gelu
# x times the normal distribution's cumulative function, exactly (by erf) or through tanh.

ROOT_HALF = math.sqrt(0.5)
TANH_SCALE = math.sqrt(2 / math.pi)
TANH_CUBIC = 0.044715


@kernel(forward)
def gelu(x: Array) -> Array:
    kind = x.dtype.type
    out = np.asarray(erf(x * kind(ROOT_HALF)))
    out += kind(1)
    out *= x
    out *= kind(0.5)
    return out


@kernel(backward)
def gelu_backward(g: Array, x: Array) -> Array:
    kind = x.dtype.type
    cumulative = (erf(x * kind(ROOT_HALF)) + kind(1)) * kind(0.5)
    density = np.exp(x * x * kind(-0.5)) * kind(TANH_SCALE / 2)
    return g * (cumulative + x * density)


def _inner(x: Array) -> Array:
    kind = x.dtype.type
    return np.tanh((x + x * x * x * kind(TANH_CUBIC)) * kind(TANH_SCALE))


@kernel(forward)
def gelu_tanh(x: Array) -> Array:
    kind = x.dtype.type
    return x * (_inner(x) + kind(1)) * kind(0.5)


@kernel(backward)
def gelu_tanh_backward(g: Array, x: Array) -> Array:
    kind = x.dtype.type
    t = _inner(x)
    slope = (x * x * kind(3 * TANH_CUBIC) + kind(1)) * kind(TANH_SCALE)
    return g * (((t + kind(1)) + x * (kind(1) - t * t) * slope) * kind(0.5))


# ------------------------------------------------------------------------------------------------------- prelu


@kernel(forward)
def prelu(x: Array, weight: Array) -> Array:
    return choose(x > 0, x, x * weight)


@kernel(backward)
def prelu_backward(g: Array, x: Array, weight: Array) -> Array:
    return choose(x > 0, g, g * weight)


@kernel(backward)
def prelu_weight_backward(g: Array, x: Array) -> Array:
    return g * np.minimum(x, x.dtype.type(0))
