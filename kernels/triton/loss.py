"""Losses: forward and backward, with the reduction inside.

    mse, l1, bce, kl, ...    compare x with a target t of the same shape; see ``reference/loss.py``
    nll                      picks one log-probability for each sample

"none" is one launch of the element-wise launcher. "mean" and "sum" are one launch as well, for arrays of which one
program is not enough two: each program adds up a part, and one adds up the parts. Nothing is added in an order that
depends on timing, so the same input gives the same bits on every run. 16-bit types are computed in float32 and rounded
once.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.state import current
from tritium.kernels.triton import loss_kernels as kernels
from tritium.kernels.triton import loss_ops as ops
from tritium.kernels.triton import reduce
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.copy import contiguous
from tritium.kernels.triton.elementwise import elementwise, number_bits
from tritium.kernels.triton.elementwise_kernels import same
from tritium.kernels.triton.elementwise_plan import make_plan
from tritium.kernels.triton.memory import empty, full, zeros
from tritium.kernels.triton.pointwise import many_case
from tritium.kernels.triton.pointwise_ops import quotient
from tritium.kernels.triton.strided import LIMIT, power

Array = Any

F32, F64, INT32, INT64 = (np.dtype(t) for t in (np.float32, np.float64, np.int32, np.int64))
PROGRAMS = 2 * 132  # that share a sum: two for each multiprocessor of an H100

# by name and by which of the weights there are: (of the elements, of the positive class)
NONE, WEIGHED, POSITIVE, BOTH = (0, 0), (1, 0), (0, 1), (1, 1)
VALUE: dict[Any, Any] = {
    "mse": ops.mse, "l1": ops.l1, "smooth_l1": ops.smooth_l1, "huber": ops.huber, ("bce", NONE): ops.bce,
    ("bce", WEIGHED): ops.bce_weighed, ("bce_logits", NONE): ops.bce_logits,
    ("bce_logits", WEIGHED): ops.bce_logits_weighed, ("bce_logits", POSITIVE): ops.bce_logits_positive,
    ("bce_logits", BOTH): ops.bce_logits_both, "kl": ops.kl, "kl_log": ops.kl_log, "soft_margin": ops.soft_margin,
    "hinge": ops.hinge, "poisson": ops.poisson, "poisson_full": ops.poisson_full, "poisson_log": ops.poisson_log,
    "poisson_log_full": ops.poisson_log_full}
SLOPE: dict[Any, Any] = {
    "mse": ops.mse_slope, "l1": ops.l1_slope, "smooth_l1": ops.smooth_l1_slope, "huber": ops.huber_slope,
    ("bce", NONE): ops.bce_slope, ("bce", WEIGHED): ops.bce_slope_weighed, ("bce_logits", NONE): ops.bce_logits_slope,
    ("bce_logits", WEIGHED): ops.bce_logits_slope_weighed, ("bce_logits", POSITIVE): ops.bce_logits_slope_positive,
    ("bce_logits", BOTH): ops.bce_logits_slope_both, "kl": ops.kl_slope, "kl_log": ops.kl_log_slope,
    "soft_margin": ops.soft_margin_slope, "hinge": ops.hinge_slope, "poisson": ops.poisson_slope,
    "poisson_full": ops.poisson_slope, "poisson_log": ops.poisson_log_slope, "poisson_log_full": ops.poisson_log_slope}
SLOPE_T: dict[Any, Any] = {
    ("bce", NONE): ops.bce_slope_t, ("bce", WEIGHED): ops.bce_slope_t_weighed,
    ("bce_logits", NONE): ops.bce_logits_slope_t, ("bce_logits", WEIGHED): ops.bce_logits_slope_t_weighed,
    ("bce_logits", POSITIVE): ops.bce_logits_slope_t_positive, ("bce_logits", BOTH): ops.bce_logits_slope_t_both,
    "kl": ops.kl_slope_t, "kl_log": ops.kl_log_slope_t, "poisson": ops.poisson_slope_t,
    "poisson_full": ops.poisson_full_slope_t, "poisson_log": ops.poisson_log_slope_t,
    "poisson_log_full": ops.poisson_log_full_slope_t}
SLOPES: dict[Any, Any] = {  # both at once, where only x - t counts
    "mse": ops.mse_slopes, "l1": ops.l1_slopes, "smooth_l1": ops.smooth_l1_slopes, "huber": ops.huber_slopes}
HALVED = ("smooth_l1", "huber")  # their value takes half of the number too


def block_size() -> int:
    """Elements, or samples, that one program works on at a time."""
    return 16384 if runtime.active().emulated else 1024


def share(blocks: int, most: int) -> tuple[int, int]:
    """How many programs share so many blocks, and how many blocks each takes."""
    if runtime.active().emulated or blocks <= 8:
        return 1, max(blocks, 1)
    span = -(-blocks // min(most, blocks // 4))
    return -(-blocks // span), span


def _work(dtype: Any) -> Any:
    return F64 if dtype == F64 else F32


def _type(dtype: Any) -> Any:
    return tl.float64 if dtype == F64 else tl.float32


# ------------------------------------------------------------------------------------------------ element-wise


def _given(name: str, x: Array, more: tuple[Any, ...]) -> tuple[Any, list[Array], list[float]]:
    """The loss in the tables, the arrays beside x and t, and the numbers."""
    if name in VALUE:
        return name, [], [float(n) for n in more]
    weights = (*more, None)[:2]
    arrays = [_weight(w, x) for w in weights if w is not None]
    return (name, (int(weights[0] is not None), int(weights[1] is not None))), arrays, []


def _weight(w: Any, x: Array) -> Array:
    """A weight beside x."""
    if isinstance(w, DeviceArray):
        return w
    if getattr(w, "ndim", 0):
        raise DeviceMismatch(f"cuda:{x.device}")
    return full((), w, x.dtype, x.device)


def _check(arrays: list[Array]) -> None:
    x = arrays[0]
    for a in arrays:
        if not isinstance(a, DeviceArray) or a.device != x.device:
            raise DeviceMismatch(f"cuda:{x.device}", f"cuda:{a.device}" if isinstance(a, DeviceArray) else "cpu")


def _rows(arrays: list[Array], count: int) -> tuple[int, list[int]] | None:
    """How weights lie beside dense x and t, if they are one row for all (see ``summand``), and how long the rows are;
    None where it is not so simple."""
    x, t, *weights = arrays
    if not (x.dense and t.dense and x.shape == t.shape) or count >= LIMIT:
        return None
    how, periods = 0, [1, 1]
    for j, w in enumerate(weights):
        row = w.shape
        while row and row[0] == 1:
            row = row[1:]
        if not w.dense or x.shape[len(x.shape) - len(row):] != row:
            return None
        if w.size == 1:
            how |= 1 << 2 * (j + 2)
        elif w.size != count:
            how |= 2 << 2 * (j + 2)
            periods[j] = w.size
    return how, periods


class Total:
    """Everything about one sum but the addresses: made once for operands of these shapes, strides and dtypes."""

    __slots__ = ("flat", "first", "second", "programs", "span", "count", "periods", "zeros", "more", "kind")

    def __init__(self, op: Any, arrays: list[Array], scalars: int, mean: bool) -> None:
        x = arrays[0]
        new: Any = (None, None, x.dtype.itemsize)
        plan = make_plan([(a.shape, a.strides, a.dtype.itemsize) for a in arrays], [new], False, 1)
        self.flat, self.count, self.periods = plan.flat, plan.count, [1, 1]
        how = sum([(plan.spread >> j & 1) << 2 * j for j in range(len(arrays))])
        if not plan.flat and (rows := _rows(arrays, plan.count)):
            self.flat, (how, self.periods) = True, rows
        if not self.flat:
            return
        block = block_size()
        self.programs, self.span = share(-(-plan.count // block), 4 * PROGRAMS)
        self.kind = _type(x.dtype)
        one = self.programs == 1
        self.first = kernels.total.bind(OP=op, KIND=self.kind, INPUTS=len(arrays), SCALARS=scalars, HOW=how,
                                        MEAN=mean and one, BLOCK=block)
        self.second = kernels.total.bind(OP=same, KIND=self.kind, INPUTS=1, SCALARS=0, HOW=0, MEAN=mean, BLOCK=512)
        self.zeros, self.more = (0,) * (2 - scalars), 4 - len(arrays)

    def into(self, out: Array, arrays: list[Array], scalars: list[float], count: float) -> None:
        x = arrays[0]
        bits = [number_bits(s, self.kind) for s in scalars]
        given = (*arrays, *(x,) * self.more)
        if self.programs == 1:
            self.first(1, 1, 1, *given, out, self.count, self.span, *bits, *self.zeros, *self.periods, count)
            return
        parts = empty((self.programs,), _work(x.dtype), x.device)
        self.first(self.programs, 1, 1, *given, parts, self.count, self.span, *bits, *self.zeros, *self.periods, count)
        steps = -(-self.programs // 512)
        self.second(1, 1, 1, parts, parts, parts, parts, out, self.programs, steps, 0, 0, 1, 1, count)


def forward(name: str, x: Array, t: Array, reduction: str, *more: Any, count: int = 0) -> Array:
    """The loss of each element ("none"), their "mean" or their "sum", in x's dtype.

    `count`: what the mean divides by, if not the number of elements."""
    key, weights, scalars = _given(name, x, more)
    op = VALUE[key]
    if name in HALVED:
        scalars.append(0.5 * scalars[0])
    arrays = [x, t, *weights]
    _check(arrays)
    if reduction == "none":
        return elementwise(op, arrays, scalars, x.dtype)
    mean = reduction == "mean"
    total = remembered((op, mean, block_size(), *[(a.shape, a.strides, a.dtype) for a in arrays]), Total, op, arrays,
                       len(scalars), mean)
    if total.flat:
        out = empty((), x.dtype, x.device)
        total.into(out, arrays, scalars, float(count or total.count))
        return out
    each = elementwise(op, arrays, scalars, _work(x.dtype))
    every = tuple(range(each.ndim))
    if mean and not count:
        return reduce.mean(each, every, False, x.dtype)
    r = reduce.sum(each, every, False, _work(x.dtype) if mean else x.dtype)
    return elementwise(quotient, [r], [float(count)], x.dtype) if mean else r


def backward(
    name: str, g: Array, x: Array, t: Array, reduction: str, *more: Any, count: int = 0,
    needs: tuple[bool, bool] = (True, False),
) -> tuple[Array | None, Array | None]:  # fmt: skip
    """The gradients of x and t (None for one that nobody needs), in x's dtype. g has x's shape for "none", and no
    dimensions for "mean" and "sum"."""
    key, weights, scalars = _given(name, x, more)
    arrays = [x, t, g, *weights]
    _check(arrays)
    share = 1.0
    if reduction == "mean":
        share = 1 / (count or max(math.prod(np.broadcast_shapes(*[a.shape for a in arrays])), 1))
    scalars.append(share)
    if needs[0] and needs[1] and key in SLOPES:
        return elementwise(SLOPES[key], arrays, scalars, (x.dtype, x.dtype))
    first = elementwise(SLOPE[key], arrays, scalars, x.dtype) if needs[0] else None
    if not needs[1]:
        return first, None
    if key in SLOPES:  # of -(x - t)
        scalars[-1] = -share
    return first, elementwise((SLOPE if key in SLOPES else SLOPE_T)[key], arrays, scalars, x.dtype)


def outside(x: Array, t: Array) -> tuple[bool, bool]:
    """Whether x, and whether t, has an element that is not in [0, 1].

    Waits for the device. While a graph is captured nobody can look: (False, False)."""
    if not x.size or current.capture is not None:
        return False, False
    _check([x, t])
    block = block_size()
    programs, span = share(-(-x.size // block), PROGRAMS)
    parts = empty((2, programs), INT32, x.device)
    for a, part in ((x, parts[0]), (t, parts[1])):
        kernels.unit.bind(BLOCK=block)(programs, 1, 1, contiguous(a), part, a.size, span)
    bad: Any = parts.to_host().any(1)
    return bool(bad[0]), bool(bad[1])


# --------------------------------------------------------------------------------------------------------- nll


def _steps(a: Array, shape: tuple[int, ...]) -> tuple[Array, list[int], bool]:
    """The array, a copy if need be, its steps in another shape, and whether offsets in it need 64 bits."""
    seen = a.as_shape(shape)
    if seen is None:
        seen = contiguous(a).as_shape(shape)
    steps = [s // a.dtype.itemsize for s in seen.strides]
    return seen, steps, sum([(n - 1) * abs(s) for n, s in zip(shape, steps, strict=True) if n]) >= LIMIT


def _samples(target: Array) -> tuple[Array, list[int], int, bool]:
    """The target as (n, d): the array, its steps, the number of d, and whether offsets need 64 bits."""
    if not isinstance(target, DeviceArray):
        raise DeviceMismatch()
    rows = target.shape[0] if target.shape else 1
    inner = math.prod(target.shape[1:])
    seen, steps, long = _steps(target, (rows, inner))
    return seen, steps, max(inner, 1), long or target.size + block_size() >= LIMIT


def survey(target: Array, classes: int, ignore: int) -> tuple[int | None, bool]:
    """(the first class number that is neither in [0, classes) nor the ignored one, or None; whether any is ignored).

    Waits for the device. While a graph is captured nobody can look: (None, True), and a class that is out of range
    makes the loss nan."""
    if target.size == 0:
        return None, False
    if current.capture is not None:
        return None, True
    seen, (tn, ti), inner, long = _samples(target)
    block = block_size()
    programs, span = share(-(-target.size // block), PROGRAMS)
    parts = empty((programs, 3), INT64, target.device)
    kernels.seek.bind(LONG=long, BLOCK=block)(programs, 1, 1, seen, parts, target.size, inner, tn, ti, span, classes,
                                              ignore)
    found = parts.to_host()
    best = found[found[:, 0].argmin()]
    return (None if best[0] == kernels.NOWHERE.value else int(best[1])), bool(found[:, 2].any())


def _dense(weight: Array | None, like: Array) -> tuple[Array, bool]:
    """The classes' weights as a dense vector, or any array; whether there are weights."""
    if weight is None:
        return like, False
    if not isinstance(weight, DeviceArray):
        raise DeviceMismatch(f"cuda:{like.device}")
    return contiguous(weight), True


def nll(
    logp: Array, target: Array, weight: Array | None, ignore: int, some: bool, reduction: str
) -> tuple[Array, Array]:
    """logp (N, C, ...), target (N, ...) of integers, weight (C,): the loss and the sum of the samples' weights.

    `some`: whether `target` has ignored entries. "none": -w logp of each sample; "sum": their sum; "mean": their sum
    over the sum of the weights.
    """
    seen, (tn, ti), inner, long = _samples(target)
    scores, (sn, sc, si), wide = _steps(logp, (logp.shape[0], logp.shape[1], math.prod(logp.shape[2:])))
    weights, weighed = _dense(weight, logp)
    block, work, device, count = block_size(), _work(logp.dtype), logp.device, target.size
    constants = {"ACC": _type(logp.dtype), "WEIGHED": weighed, "SOME": some, "LONG": long or wide}
    numbers = (count, inner, logp.shape[1], ignore, sn, sc, si, tn, ti)
    if reduction == "none":
        out = empty(target.shape, logp.dtype, device)
        kernels.nll.bind(**constants, BLOCK=block)(-(-count // block), 1, 1, scores, seen, weights, out, *numbers)
        return out, np.zeros((), work)
    mean = reduction == "mean"
    programs, span = share(-(-count // block), PROGRAMS)
    out, whole = empty((), logp.dtype, device), empty((), work, device)
    if programs == 1:
        kernels.nll_total.bind(**constants, MEAN=mean, BLOCK=block)(1, 1, 1, scores, seen, weights, out, whole,
                                                                    *numbers, span)
        return out, whole
    parts = empty((2, programs), work, device)
    kernels.nll_total.bind(**constants, MEAN=False, BLOCK=block)(programs, 1, 1, scores, seen, weights, parts[0],
                                                                 parts[1], *numbers, span)
    kernels.nll_joined.bind(MEAN=mean, BLOCK=power(programs))(1, 1, 1, parts[0], parts[1], out, whole, programs)
    return out, whole


def nll_backward(
    g: Array, target: Array, weight: Array | None, ignore: int, some: bool, reduction: str, total: Array,
    shape: tuple[int, ...],
) -> Array:  # fmt: skip
    """The gradient of logp (of `shape`): -w g at each sample's class, 0 elsewhere."""
    out = zeros(shape, g.dtype, g.device)
    if not out.size:
        return out
    seen, (tn, ti), inner, long = _samples(target)
    gn = gi = 0
    if reduction == "none":
        g, (gn, gi), wide = _steps(g, (shape[0], inner))
        long = long or wide
    weights, weighed = _dense(weight, g)
    mean, block = reduction == "mean", block_size()
    variant = kernels.nll_slope.bind(ACC=_type(g.dtype), WEIGHED=weighed, SOME=some, MEAN=mean,
                                     LONG=long or out.size >= LIMIT, BLOCK=block)
    variant(-(-target.size // block), 1, 1, g, seen, weights, total if mean else g, out, target.size, inner, shape[1],
            ignore, gn, gi, tn, ti)
    return out


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    k = kernels
    numbers = {"n": "i64", "span": "i64", "a": "i64", "b": "i64", "wn": "i64", "pn": "i64", "count": "fp64"}
    for dtype in ("fp32", "bf16", "fp64"):
        kind = tl.float64 if dtype == "fp64" else tl.float32
        p, work = f"*{dtype}", "*fp64" if dtype == "fp64" else "*fp32"
        places = ("x", "t", "w", "p", "out")
        for op, inputs, scalars, how in (
                (ops.mse, 2, 0, 0), (ops.l1, 2, 0, 0), (ops.smooth_l1, 2, 2, 0), (ops.huber, 2, 2, 0),
                (ops.bce, 2, 0, 0), (ops.bce_logits, 2, 0, 0), (ops.bce_logits_both, 4, 0, 0),
                (ops.bce_logits_both, 4, 0, 2 << 6), (ops.kl, 2, 0, 0), (ops.kl_log, 2, 0, 0),
                (ops.soft_margin, 2, 0, 0), (ops.hinge, 2, 1, 0), (ops.poisson_full, 2, 1, 0)):
            if dtype == "fp64" and op is not ops.mse:
                continue
            yield Case(f"{op.__name__}{' rows' if how else ''} {dtype}", k.total,
                       {**dict.fromkeys(places, p), **numbers},
                       {"OP": op, "KIND": kind, "INPUTS": inputs, "SCALARS": scalars, "HOW": how, "MEAN": True,
                        "BLOCK": 1024}, places, wide=True)
        yield Case(f"parts {dtype}", k.total, {**dict.fromkeys(places[:-1], work), "out": p, **numbers},
                   {"OP": same, "KIND": kind, "INPUTS": 1, "SCALARS": 0, "HOW": 0, "MEAN": True, "BLOCK": 512},
                   places, wide=True)
        for op, inputs, scalars in ((ops.mse_slope, 3, 1), (ops.huber_slope, 3, 2), (ops.bce_slope, 3, 1),
                                    (ops.bce_logits_slope_both, 5, 1), (ops.kl_slope, 3, 1), (ops.kl_slope_t, 3, 1)):
            if dtype != "fp64":  # the third is the incoming gradient, one for all
                case = many_case(op.__name__, op, [dtype] * inputs, dtype, scalars)
                yield replace(case, name=f"{op.__name__} {dtype}", constexprs={**case.constexprs, "SPREAD": 4})
        yield Case(f"unit {dtype}", k.unit, {"x": p, "parts": "*i32", "n": "i64", "span": "i64"}, {"BLOCK": 1024},
                   ("x", "parts"))
        sizes = dict.fromkeys(("count", "inner", "classes", "ignore", "sn", "sc", "si", "tn", "ti"), "i64")
        for weighed, some in ((False, False), (True, True)):
            note = f"{dtype}{' weighed' if weighed else ''}"
            constants = {"ACC": kind, "WEIGHED": weighed, "SOME": some, "LONG": False, "BLOCK": 1024}
            arrays = {"logp": p, "target": "*i64", "weight": p, "out": p}
            yield Case(note, k.nll, {**arrays, **sizes}, constants, tuple(arrays))
            yield Case(note, k.nll_total, {**arrays, "whole": work, **sizes, "span": "i64"},
                       {**constants, "MEAN": True}, (*arrays, "whole"))
            steps = dict.fromkeys(("count", "inner", "classes", "ignore", "gn", "gi", "tn", "ti"), "i64")
            yield Case(note, k.nll_slope, {"g": p, "target": "*i64", "weight": p, "whole": work, "out": p, **steps},
                       {**constants, "MEAN": True}, ("g", "target", "weight", "whole", "out"))
        yield Case(dtype, k.nll_joined, {"parts": work, "weights": work, "out": p, "whole": work, "n": "i64"},
                   {"MEAN": True, "BLOCK": 512}, ("parts", "out", "whole"))
    for target in ("i64", "u8"):
        yield Case(target, k.seek, {"target": f"*{target}", "parts": "*i64", **dict.fromkeys(
            ("count", "inner", "tn", "ti", "span", "classes", "ignore"), "i64")}, {"LONG": False, "BLOCK": 1024},
            ("target", "parts"))
