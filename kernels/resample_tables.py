"""What resampling along one dimension reads: for every output a run of inputs and their weights.

    out[p] = sum over k < count[p] of weight[k, p] * x[first[p] + k]

PyTorch's arithmetic is followed step by step, in the dtype that it uses, so that no index falls on the other side of a
rounding. Inputs beyond the ends are the ends: their weights are added. The derivative is the same thing transposed:
an input gathers from the run of outputs that read it. Both sides of ``kernels`` share these tables.

https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html; bicubic: R. Keys, "Cubic
convolution interpolation for digital image processing" (1981), with a = -0.75 (-0.5 when antialiased).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
NEAREST = ("nearest", "nearest-exact")
SUPPORT = {"linear": 1, "cubic": 2, "lanczos": 3}  # how far the filters of antialiasing reach


class Axis(NamedTuple):
    """Resampling along one dimension. ``mode``: nearest, nearest-exact, linear, cubic, area, and lanczos, which is
    antialiased; ``scale``: the factor that the user gave, or None."""

    mode: str
    inputs: int
    outputs: int
    scale: float | None = None
    align_corners: bool = False
    antialias: bool = False
    transposed: bool = False

    @property
    def sizes(self) -> tuple[int, int]:
        """(what is read, what is written)."""
        return (self.outputs, self.inputs) if self.transposed else (self.inputs, self.outputs)

    @property
    def weighted(self) -> bool:
        """Whether there are weights other than 1."""
        return self.mode not in NEAREST


@dataclass(frozen=True, eq=False)
class Table:
    """``first`` and ``count``: (n,) int32; ``weight``: (the largest count, n), 0 where there is nothing to read."""

    first: np.ndarray
    count: np.ndarray
    weight: np.ndarray

    @property
    def taps(self) -> int:
        """The largest count."""
        return len(self.weight)


def transpose(axis: Axis) -> Axis:
    """The derivative of an axis."""
    return axis._replace(transposed=not axis.transposed)


@lru_cache(maxsize=256)
def table(axis: Axis, dtype: Any) -> Table:
    """The table of an axis with weights computed in float32 or float64."""
    if axis.transposed:
        return _transposed(table(transpose(axis), dtype), axis.inputs)
    with np.errstate(all="ignore"):
        if axis.mode in NEAREST:
            first = _nearest(axis)
            return _table(first, np.ones_like(first), np.ones((1, axis.outputs), dtype))
        if axis.mode == "area":
            i = np.arange(axis.outputs)
            first, stop = i * axis.inputs // axis.outputs, -(-(i + 1) * axis.inputs // axis.outputs)
            k = np.arange(max((stop - first).max(initial=0), 1))[:, None]
            return _table(first, stop - first, (k < stop - first) / (stop - first).astype(dtype))
        return _antialiased(axis, dtype) if axis.antialias else _interpolating(axis, dtype)


@lru_cache(maxsize=64)
def integer_table(axis: Axis) -> tuple[Table, int]:
    """The table with weights of 16 bits, and by how many bits the sums are shifted to the right: for uint8."""
    found = table(axis, F64)
    most, bits = found.weight.max(initial=0), 0
    while bits < 22 and int(0.5 + most * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled = found.weight * (1 << bits)
    return replace(found, weight=np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int32)), bits


def _table(first: Any, count: Any, weight: Any) -> Table:
    return Table(first.astype(np.int32), count.astype(np.int32), np.ascontiguousarray(weight))


def _ratio(axis: Axis, dtype: Any) -> Any:
    """How many inputs an output steps over."""
    if axis.align_corners:
        return dtype.type(axis.inputs - 1) / dtype.type(axis.outputs - 1) if axis.outputs > 1 else dtype.type(0)
    if axis.scale is not None and axis.scale > 0:
        return dtype.type(1 / axis.scale)
    return dtype.type(axis.inputs) / dtype.type(axis.outputs)


def _nearest(axis: Axis) -> np.ndarray:
    p = np.arange(axis.outputs)
    if axis.mode == "nearest":
        place = p.astype(F32) * _ratio(axis, F32)  # in float32 whatever the dtype of the image
    else:
        place = ((p + 0.5) * F64.type(_ratio(axis, F32))).astype(F32)
    return np.minimum(np.floor(place).astype(np.int64), axis.inputs - 1)


def _interpolating(axis: Axis, dtype: Any) -> Table:
    n, m = axis.inputs, axis.outputs
    p = np.arange(m)
    if n == m and axis.mode == "linear":
        return _table(p, np.ones_like(p), np.ones((1, m), dtype))
    ratio = _ratio(axis, dtype)
    if axis.align_corners:
        place = ratio * p.astype(dtype)
    else:
        place = (F64.type(ratio) * (p + 0.5) - 0.5).astype(dtype)  # float32: the product is not rounded
        if axis.mode == "linear":
            place = np.maximum(place, dtype.type(0))
    at = np.minimum(np.floor(place).astype(np.int64), n - 1)
    t = np.clip(place - at.astype(dtype), dtype.type(0), dtype.type(1))
    if axis.mode == "linear":
        return _merged(at, np.stack([1 - t, t]), n)
    return _merged(at - 1, _cubic(t.astype(F64)).astype(dtype), n)


def _cubic(t: Any, a: float = -0.75) -> Any:
    """The weights of the inputs at -1, 0, 1 and 2 for places t in [0, 1]."""
    return np.stack([_outer(t + 1, a), _inner(t, a), _inner(1 - t, a), _outer(2 - t, a)])


def _inner(x: Any, a: Any) -> Any:
    return ((a + 2) * x - (a + 3)) * x * x + 1


def _outer(x: Any, a: Any) -> Any:
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


def _merged(start: Any, weight: Any, n: int) -> Table:
    """Taps at start + k, those outside moved to the ends and added up there."""
    taps, m = weight.shape
    places = np.clip(start + np.arange(taps)[:, None], 0, n - 1)
    first = places[0]
    out = np.zeros_like(weight)
    for k in range(taps):
        out[places[k] - first, np.arange(m)] += weight[k]
    count = places[-1] - first + 1
    return _table(first, count, out[:max(count.max(initial=0), 1)])


def _antialiased(axis: Axis, dtype: Any) -> Table:
    n, m = axis.inputs, axis.outputs
    if n == m:
        return _table(np.arange(n), np.ones(n), np.ones((1, n), dtype))
    ratio = _ratio(axis, dtype)
    half, one = dtype.type(0.5), dtype.type(1)
    support = dtype.type(SUPPORT[axis.mode]) * max(ratio, one)
    shrink = one / ratio if ratio >= one else one
    center = ratio * (np.arange(m).astype(dtype) + half)
    first = np.maximum((center - support + half).astype(np.int64), 0)
    count = np.minimum((center + support + half).astype(np.int64), n) - first
    count = np.clip(count, 0, int(np.ceil(support)) * 2 + 1)
    k = np.arange(max(count.max(initial=0), 1))[:, None]
    x = np.abs(((k + first).astype(dtype) - center + half) * shrink)
    weight = np.where(k < count, _filter(axis.mode, x), 0).astype(dtype)
    total = weight.sum(0)
    return _table(first, count, weight / np.where(total == 0, one, total))


def _filter(mode: str, x: Any) -> Any:
    """The filters of antialiasing, for x >= 0."""
    if mode == "linear":
        return np.maximum(1 - x, 0)
    if mode == "cubic":
        return np.where(x < 1, _inner(x, -0.5), np.where(x < 2, _outer(x, -0.5), 0))
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)


def _transposed(forward: Table, inputs: int) -> Table:
    """Runs only move forwards, so that the outputs that read an input are a run."""
    i = np.arange(inputs)
    first = np.searchsorted(forward.first + forward.count, i, "right")
    count = np.maximum(np.searchsorted(forward.first, i, "right") - first, 0)
    k = np.arange(max(count.max(initial=0), 1))[:, None]
    p = np.minimum(first + k, max(len(forward.first) - 1, 0))
    if not len(forward.first):
        return _table(first, count, np.zeros((1, inputs), forward.weight.dtype))
    tap = i - forward.first[p]
    inside = (k < count) & (tap >= 0) & (tap < forward.count[p])
    weight = forward.weight[np.where(inside, tap, 0), p] * inside
    return _table(first, count, weight.astype(forward.weight.dtype))


def order(axes: Sequence[Axis], integer: bool = False) -> list[int]:
    """In which order the dimensions are taken where each has a pass of its own: those that shrink first, so that little
    is left for the others; for ``integer`` weights the last first. Those that stay as they are have none."""
    if integer:
        return [d for d, a in reversed(list(enumerate(axes))) if a.inputs != a.outputs]
    found = [d for d, a in enumerate(axes) if not is_identity(a)]
    return sorted(found, key=lambda d: axes[d].sizes[1] / max(axes[d].sizes[0], 1))


def is_identity(axis: Axis) -> bool:
    """Whether nothing is done along an axis."""
    if axis.inputs != axis.outputs:
        return False
    if axis.mode in ("linear", "area") or axis.antialias:
        return True
    found = table(axis, F64)
    return found.taps == 1 and bool((found.first == np.arange(axis.outputs)).all())
