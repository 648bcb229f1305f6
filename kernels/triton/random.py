"""Random numbers on a device: Philox words by the index in the tensor (``philox.py``), and distributions made of them.

    uniform      u = (24 bits) 2^-24; in float64 (53 bits) 2^-53; then low + u (high - low)
    normal       Box-Muller: sqrt(2 e) (cos 2 pi v, sin 2 pi v), e standard exponential
    exponential  e / rate
    cauchy       median + sigma tan(pi (u - 1/2))
    log_normal   exp of a normal number
    geometric    ceil(e / -log(1 - p))
    bernoulli    u < p, u of 31 bits

The samplers fill ``out``, an array of any strides, in the order of its indices. float64 takes two words an element;
float32 and the 16-bit types, which are rounded once at the end, take one. Sums and products are rounded one by one, and
the results of an emulated device and of a GPU are equal bit by bit.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.philox import Stream, signed
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton import philox, random_choice
from tritium.kernels.triton.copy import copy_into
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.random_choice import multinomial, permutation, weights_check
from tritium.kernels.triton.strided import convert

__all__ = ["any_value", "bernoulli", "bernoulli_each", "cauchy", "exponential", "geometric", "integers", "log_normal",
           "multinomial", "normal", "permutation", "uniform", "weights_check"]

BLOCK = 1024
WIDE_SPAN = 1 << 24  # above this range integers are drawn from 64 bits


@triton.jit
def _uniform(w, low, width, last):
    """last: the largest number below the end of the interval, which rounding may reach."""
    return tl.minimum(low + philox.uniform01(w) * width, last)


@triton.jit
def _exponential(w, scale, b, c):
    return philox.exponential(w) * scale


@triton.jit
def _cauchy(w, median, sigma, c):
    return median + philox.cauchy(w) * sigma


@triton.jit
def _geometric(w, scale, b, c):
    return tl.ceil(philox.exponential(w) * scale)


@kernel
def sample(out, n: "i64", seed: "i64", offset: "i64", a: "fp64", b: "fp64", c: "fp64", VALUE: tl.constexpr,
           WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = VALUE(word i, a, b, c), in float64 where WIDE."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    even, odd = philox.words_even_odd(seed, offset, start, BLOCK, WIDE)
    real: tl.constexpr = tl.float64 if WIDE else tl.float32
    a, b, c = a.to(real), b.to(real), c.to(real)
    v = tl.interleave(VALUE(even, a, b, c), VALUE(odd, a, b, c))
    philox.put(out, convert(v, out.dtype.element_ty), start, n, BLOCK)


@kernel
def sample_normal(out, n: "i64", seed: "i64", offset: "i64", mean: "fp64", std: "fp64", EXP: tl.constexpr,
                  WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """out[2i], out[2i + 1] = mean + std (the pair from words 2i and 2i + 1), or exp of it."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    even, odd = philox.words_even_odd(seed, offset, start, BLOCK, WIDE)
    x, y = philox.normals(even, odd)
    center, width = mean.to(x.dtype), std.to(x.dtype)
    x, y = center + x * width, center + y * width
    if EXP:
        x, y = philox.exp(x), philox.exp(y)
    philox.put(out, convert(tl.interleave(x, y), out.dtype.element_ty), start, n, BLOCK)


@kernel
def sample_integers(out, n: "i64", seed: "i64", offset: "i64", low: "i64", span: "i64", WIDE: tl.constexpr,
                    ALL: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = low + an integer below span; all 64 bits of a pair of words where ALL."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    w = philox.words(seed, offset, start, BLOCK, WIDE)
    if ALL:
        v = w.to(tl.int64)
    else:
        v = philox.below(w, span.to(tl.uint64)).to(tl.int64) + low
    philox.put(out, convert(v, out.dtype.element_ty), start, n, BLOCK)


@kernel
def sample_bernoulli(out, n: "i64", seed: "i64", offset: "i64", limit: "i64", one: "fp64", BLOCK: tl.constexpr):
    """out[i] = one where 31 bits of word i are below limit, else 0."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    hit = (philox.words(seed, offset, start, BLOCK, False) >> 1) < limit.to(tl.uint32)
    if out.dtype.element_ty == tl.float64:
        v = tl.where(hit, one, 0.0)
    else:
        v = tl.where(hit, one.to(tl.float32), 0.0)
    philox.put(out, convert(v, out.dtype.element_ty), start, n, BLOCK)


@kernel
def sample_bernoulli_each(p, out, n: "i64", seed: "i64", offset: "i64", BLOCK: tl.constexpr):
    """out[i] = 1 where the uniform number from word i is below p[i], else 0: 24 bits of it, 32 where p is float64."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    x = philox.get(p, start, n, BLOCK)
    w = philox.words(seed, offset, start, BLOCK, False)
    if x.dtype == tl.float64:
        hit = w.to(tl.float64) * 2.3283064365386963e-10 < x
    else:
        hit = philox.uniform01(w) < x.to(tl.float32)
    philox.put(out, convert(hit.to(tl.int32), out.dtype.element_ty), start, n, BLOCK)


# --- launching --------------------------------------------------------------------------------

def block_size() -> int:
    """Elements of a program."""
    return 16384 if runtime.active().emulated else BLOCK


def run(stream: Stream, out: DeviceArray, kind: Any, wide: bool, *numbers: Any, before: tuple[Any, ...] = (),
        **constants: Any) -> None:
    """Fill ``out`` with a sampler: one word an element, two where ``wide``."""
    n = out.size
    seed, offset = stream.take(2 * n if wide else n)
    target = out if out.dense else empty(out.shape, out.dtype, out.device)
    block = block_size() << (out.dtype.itemsize == 1)  # a thread stores 16 bytes at once
    variant = kind.bind(BLOCK=block, **constants, **philox.EXACT)
    variant(-(-n // block), 1, 1, *before, target, n, seed, offset, *numbers)
    if target is not out:
        copy_into(out, target)


def _sample(stream: Stream, out: DeviceArray, value: Any, a: float = 0.0, b: float = 0.0, c: float = 0.0,
            wide: bool | None = None) -> None:
    wide = out.dtype == np.float64 if wide is None else wide
    run(stream, out, sample, wide, float(a), float(b), float(c), VALUE=value, WIDE=wide)


def uniform(stream: Stream, out: DeviceArray, low: float, high: float) -> None:
    """Fill a floating point array from [low, high)."""
    first, end = np.array([low, high]).astype(np.float64 if out.dtype == np.float64 else np.float32)
    with np.errstate(over="ignore"):
        start, stop = (x.astype(out.dtype) for x in (first, end))
    last = start if start >= stop else np.nextafter(stop, out.dtype.type(-math.inf))
    _sample(stream, out, _uniform, first, float(end) - float(first), last)


def exponential(stream: Stream, out: DeviceArray, rate: float) -> None:
    """Fill with exponential numbers of this rate."""
    _sample(stream, out, _exponential, 1.0 / rate)


def cauchy(stream: Stream, out: DeviceArray, median: float, sigma: float) -> None:
    """Fill with Cauchy numbers."""
    _sample(stream, out, _cauchy, median, sigma)


def geometric(stream: Stream, out: DeviceArray, p: float) -> None:
    """Fill with the number of trials up to the first success, each with probability ``p``; in float64 for float64 and
    for integers that reach beyond float32's."""
    wide = out.dtype == np.float64 or (out.dtype.kind in "iu" and out.itemsize > 2)
    _sample(stream, out, _geometric, -1.0 / math.log1p(-p), wide=wide)


def normal(stream: Stream, out: DeviceArray, mean: float, std: float) -> None:
    """Fill with normal numbers."""
    _normal(stream, out, mean, std, False)


def log_normal(stream: Stream, out: DeviceArray, mean: float, std: float) -> None:
    """Fill with exp of normal numbers."""
    _normal(stream, out, mean, std, True)


def _normal(stream: Stream, out: DeviceArray, mean: float, std: float, exp: bool) -> None:
    wide = out.dtype == np.float64
    run(stream, out, sample_normal, wide, float(mean), float(std), EXP=exp, WIDE=wide)


def integers(stream: Stream, out: DeviceArray, low: int, span: int) -> None:
    """Fill with integers low <= x < low + span. A span of 2^64 takes all 64 bits as they are."""
    wide = span > WIDE_SPAN
    everything = span >= 1 << 64
    run(stream, out, sample_integers, wide, signed(low % (1 << 64)), signed(span % (1 << 64)), WIDE=wide,
        ALL=everything)


def any_value(stream: Stream, out: DeviceArray, span: int, wide: bool) -> None:
    """Fill with integers below ``span``."""
    integers(stream, out, 0, span)


def threshold(p: float) -> int:
    """u < p for u = k 2^-31 is k < ceil(p 2^31)."""
    return math.ceil(p * 2.0**31)


def bernoulli(stream: Stream, out: DeviceArray, p: float, one: float = 1) -> None:
    """Fill with ``one`` with probability ``p``, else 0."""
    run(stream, out, sample_bernoulli, False, threshold(p), float(one))


def bernoulli_each(stream: Stream, out: DeviceArray, p: DeviceArray) -> None:
    """Fill with 1 with a probability of its own for each element, else 0: ``p`` has the shape of ``out``. Whether the
    probabilities are in [0, 1] is not looked at: beyond 1 is 1, and nan is 0."""
    run(stream, out, sample_bernoulli_each, False, before=(p if p.dense else p.copy(),))


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    numbers = {"n": "i64", "seed": "i64", "offset": "i64"}
    plain: dict[str, Any] = {"aligned": ("out",), "enable_fp_fusion": False}
    reals = {"a": "fp64", "b": "fp64", "c": "fp64"}
    for dtype, value in (("bf16", _uniform), ("fp16", _uniform), ("fp32", _uniform), ("fp64", _uniform),
                         ("fp32", _exponential), ("fp64", _exponential), ("fp32", _cauchy), ("fp32", _geometric)):
        yield Case(f"{value.__name__[1:]} {dtype}", sample, {"out": f"*{dtype}", **numbers, **reals},
                   {"VALUE": value, "WIDE": dtype == "fp64", "BLOCK": BLOCK}, wide=True, **plain)
    for dtype, exp in (("bf16", False), ("fp32", False), ("fp64", False), ("fp32", True)):
        yield Case(f"{'log_' * exp}normal {dtype}", sample_normal,
                   {"out": f"*{dtype}", **numbers, "mean": "fp64", "std": "fp64"},
                   {"EXP": exp, "WIDE": dtype == "fp64", "BLOCK": BLOCK}, wide=True, **plain)
    for dtype in ("bf16", "fp32", "fp64", "i64", "i1"):
        yield Case(f"bernoulli {dtype}", sample_bernoulli,
                   {"out": f"*{dtype}", **numbers, "limit": "i64", "one": "fp64"}, {"BLOCK": BLOCK << (dtype == "i1")},
                   wide=True, **plain)
    for dtype in ("bf16", "fp32"):
        yield Case(f"bernoulli each {dtype}", sample_bernoulli_each,
                   {"p": f"*{dtype}", "out": f"*{dtype}", **numbers}, {"BLOCK": BLOCK}, wide=True,
                   aligned=("p", "out"), enable_fp_fusion=False)
    for dtype, wide, everything in (("i64", False, False), ("i64", True, False), ("i64", True, True),
                                    ("u8", False, False), ("fp32", False, False)):
        yield Case(f"integers {dtype}{' wide' * wide}{' all' * everything}", sample_integers,
                   {"out": f"*{dtype}", **numbers, "low": "i64", "span": "i64"},
                   {"WIDE": wide, "ALL": everything, "BLOCK": BLOCK << (dtype == "u8")}, wide=True, **plain)
    yield from random_choice.cases()
