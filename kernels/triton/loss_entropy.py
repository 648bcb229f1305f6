"""Cross entropy on the device: the launches of ``loss_entropy_kernels.py``.

Forward reads the scores once (rows that fit no tile: twice where every class counts) and keeps two numbers per sample;
where several programs share the samples a second launch adds up what each found. Backward is one launch.
16-bit types and float32 are computed in float32, and rounded once.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.array import DeviceArray, DeviceMismatch
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.state import current
from tritium.kernels.triton import loss_entropy_kernels as kernels
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.channels import laid, laid_as, new
from tritium.kernels.triton.loss import _dense, _samples, _steps, _type, _work, survey
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.softmax import _tile, most_elements
from tritium.kernels.triton.strided import LIMIT, power

Array = Any

INT32 = np.dtype(np.int32)


def tile_limit(itemsize: int, every: bool) -> int:
    """The largest tile. ``every``: each class counts by itself (probabilities, smoothing), which takes registers."""
    return most_elements(itemsize) // (2 if every else 1)


class Layout:
    """How scores are cut into tiles: the number of programs and of samples, the numbers and constants of a kernel."""

    __slots__ = ("programs", "samples", "sizes", "constants")

    def __init__(self, shape: tuple[int, ...], dtype: Any, planes: bool, most: int) -> None:
        itemsize, n = dtype.itemsize, shape[1]
        per = math.prod(shape[2:])
        self.samples = nk = shape[0] * per
        inner = per if planes else 1
        columns = inner > 1
        whole, bk, br = _tile(nk, n, columns, itemsize, most)
        vector = max(16 // itemsize, 1)
        if (inner if columns else n) % vector:
            vector = 1
        elements = bk * br
        warps = 1 if elements < 512 else 2 if elements < 1024 else 4
        if elements > 2048:
            warps = 8 if elements <= 4096 else 16
        if not whole:  # 64 bytes of a tile for each thread
            warps = 8 if elements * _work(dtype).itemsize > 8192 else 4
        self.programs = -(-nk // bk)
        self.sizes = (nk // vector, n, inner // vector, per) if columns else (nk, n // vector, 1, per)
        self.constants = {"ACC": _type(dtype), "FAST": itemsize == 2, "WHOLE": whole, "COLUMNS": columns,
                          "VECTOR": vector, "LONG": nk * n + 65536 >= LIMIT, "BK": bk, "BR": br, "num_warps": warps}


def _layout(x: Array, planes: bool, every: bool) -> Layout:
    most = tile_limit(_work(x.dtype).itemsize, every)
    return remembered((Layout, x.shape, x.dtype, planes, most), Layout, x.shape, x.dtype, planes, most)


def _forward(x: Array, planes: bool, target: Array, places: tuple[int, int, bool], weight: Array | None, soft: bool,
             ignore: int, smoothing: float, reduction: str, shape: Any) -> tuple[Array, Array, Array, Array]:
    """(loss, statistics, sum of the weights, flags)"""
    layout = _layout(x, planes, soft or smoothing != 0)
    device, work, programs = x.device, _work(x.dtype), layout.programs
    weights, weighed = _dense(weight, x)
    each, mean = reduction == "none", reduction == "mean"
    constants = dict(layout.constants)
    tn, ti, long = places
    constants["LONG"] = constants["LONG"] or long
    stats, flags = empty((2, layout.samples), work, device), empty((programs,), INT32, device)
    one = programs == 1
    out = empty(shape if each else (), x.dtype, device)
    whole = empty((), work, device)
    parts = out if one or each else empty((2, programs), work, device)
    behind = whole if one or each else parts[1]
    launch = kernels.scores.bind(SOFT=soft, WEIGHED=weighed, SMOOTH=smoothing != 0, EACH=each, MEAN=mean and one,
                                 **constants)
    launch(programs, 1, 1, x, target, weights, parts, behind, stats, flags, *layout.sizes, ignore, tn, ti,
           1 - smoothing, smoothing / x.shape[1])
    if not one and not each:
        flag = empty((1,), INT32, device)
        kernels.joined.bind(MEAN=mean, BLOCK=min(power(programs), 1024))(1, 1, 1, parts, flags, out, whole, flag,
                                                                         programs)
        flags = flag
    return out, stats, whole, flags


def _beside(x: Array, *others: Array | None) -> None:
    for a in others:
        if a is not None and (not isinstance(a, DeviceArray) or a.device != x.device):
            raise DeviceMismatch(f"cuda:{x.device}", f"cuda:{a.device}" if isinstance(a, DeviceArray) else "cpu")


def cross_entropy(
    x: Array, target: Array, weight: Array | None, ignore: int, smoothing: float, reduction: str
) -> tuple[Array, Array, Array, int | None]:
    """x (N, C, ...), target (N, ...) of integers, weight (C,): the loss, what `cross_entropy_backward` needs, the sum
    of the samples' weights, and the first class number that is out of range (None: there is none).

    Waits for the device to know that. While a graph is captured nobody can look: a class out of range makes the loss
    nan. x is not empty."""
    _beside(x, target, weight)
    x, planes = laid(x)
    seen, (tn, ti), _, long = _samples(target)
    loss, stats, whole, flags = _forward(x, planes, seen, (tn, ti, long), weight, False, ignore, smoothing, reduction,
                                         target.shape)
    wrong = None
    if current.capture is None and flags.to_host().any():
        wrong = survey(target, x.shape[1], ignore)[0]
    return loss, stats, whole, wrong


def soft_cross_entropy(
    x: Array, t: Array, weight: Array | None, smoothing: float, reduction: str
) -> tuple[Array, Array]:
    """x and probabilities t (N, C, ...) of one dtype, weight (C,): the loss, and what `soft_cross_entropy_backward`
    needs. x is not empty."""
    _beside(x, t, weight)
    x, planes = laid(x)
    shape = (x.shape[0], *x.shape[2:])
    t = laid_as(t, planes)
    loss, stats, _, _ = _forward(x, planes, t, (0, 0, False), weight, True, 0, smoothing, reduction, shape)
    return loss, stats


def _backward(g: Array, x: Array, planes: bool, target: Array, places: tuple[int, int, bool], weight: Array | None,
              soft: bool, ignore: int, smoothing: float, reduction: str, stats: Array, whole: Array,
              needs: tuple[bool, bool]) -> tuple[Array | None, Array | None]:
    layout = _layout(x, planes, soft or smoothing != 0)
    tn, ti, long = places
    constants = dict(layout.constants)
    weights, weighed = _dense(weight, x)
    gn = gi = 0
    if reduction == "none":
        g, (gn, gi), wide = _steps(g, (x.shape[0], layout.sizes[3]))
        long = long or wide
    constants["LONG"] = constants["LONG"] or long
    dx, dt = (new(x.shape[0], x.shape[1], x.shape[2:], planes, x.dtype, x.device) if need else None for need in needs)
    launch = kernels.slopes.bind(SOFT=soft, WEIGHED=weighed, SMOOTH=smoothing != 0, EACH=reduction == "none",
                                 MEAN=reduction == "mean" and not soft, BY_X=needs[0], BY_T=needs[1], **constants)
    launch(layout.programs, 1, 1, g, x, target, weights, stats, whole, x if dx is None else dx, x if dt is None else dt,
           *layout.sizes, ignore, gn, gi, tn, ti, 1 - smoothing, smoothing / x.shape[1],
           1 / layout.samples if soft and reduction == "mean" else 1.0)
    return dx, dt


def cross_entropy_backward(
    g: Array, x: Array, target: Array, weight: Array | None, ignore: int, smoothing: float, reduction: str,
    saved: Array, total: Array,
) -> Array:  # fmt: skip
    """The gradient of x. `saved` and `total` as `cross_entropy` gave them."""
    x, planes = laid(x)
    seen, (tn, ti), _, long = _samples(target)
    dx, _ = _backward(g, x, planes, seen, (tn, ti, long), weight, False, ignore, smoothing, reduction, saved, total,
                      (True, False))
    return dx


def soft_cross_entropy_backward(
    g: Array, x: Array, t: Array, weight: Array | None, smoothing: float, reduction: str, saved: Array,
    needs: tuple[bool, bool],
) -> tuple[Array | None, Array | None]:  # fmt: skip
    """The gradients of x and t (None for one that nobody needs)."""
    x, planes = laid(x)
    t = laid_as(t, planes)
    return _backward(g, x, planes, t, (0, 0, False), weight, True, 0, smoothing, reduction, saved, saved, needs)


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    item = {"bf16": 2, "fp32": 4, "fp64": 8}
    forms = {"rows 64": (True, False, 32, 64, 4), "rows 1024": (True, False, 1, 1024, 4),
             "rows 8192": (True, False, 1, 8192, 16), "rows 16384": (True, False, 1, 16384, 16),
             "long rows": (False, False, 1, 4096, 8), "columns 16": (True, True, 128, 16, 4),
             "long columns": (False, True, 32, 128, 8)}
    whole = {"nk": "i64", "n": "i64", "inner": "i64", "per": "i64", "ignore": "i64"}
    for form, (fits, columns, bk, br, warps) in forms.items():
        for dtype in ("fp32", "bf16", "fp64") if form == "rows 1024" else ("fp32", "bf16"):
            work, p = ("*fp64", "*fp64") if dtype == "fp64" else ("*fp32", f"*{dtype}")
            if form == "long columns":
                bk, br = 128 // item[dtype], 32 * item[dtype]
            constants = {"ACC": tl.float64 if dtype == "fp64" else tl.float32, "FAST": item[dtype] == 2, "WHOLE": fits,
                         "COLUMNS": columns, "VECTOR": 16 // item[dtype], "LONG": False, "BK": bk, "BR": br}
            for note, soft, weighed, smooth in (("", False, False, False), ("smooth ", False, True, True),
                                                ("soft ", True, False, False), ("soft both ", True, True, True)):
                if note != "" and form in ("rows 64", "columns 16") or (soft or smooth) and br == 16384 or (
                        note == "" and br == 8192) or (
                        note == "soft both " and form != "rows 1024"):
                    continue
                halves = not fits and (soft or smooth)  # see ``tile_limit``
                own = warps // (1 + halves)
                flags = {**constants, "SOFT": soft, "WEIGHED": weighed, "SMOOTH": smooth, "EACH": False,
                         "BR": br // (1 + halves)}
                target = p if soft else "*i64"
                arrays = {"x": p, "target": target, "weight": p, "out": work, "weights": work, "stats": work,
                          "flags": "*i32"}
                numbers = {**whole, "tn": "i64", "ti": "i64", "keep": "fp64", "share": "fp64"}
                yield Case(f"{note}{form} {dtype}", kernels.scores, {**arrays, **numbers}, {**flags, "MEAN": False},
                           tuple(arrays), own, wide="loads")
                arrays = {"g": p, "x": p, "target": target, "weight": p, "stats": work, "whole": work, "dx": p, "dt": p}
                numbers = {**whole, "gn": "i64", "gi": "i64", "tn": "i64", "ti": "i64", "keep": "fp64", "share": "fp64",
                           "scale": "fp64"}
                both = note == "soft both "
                yield Case(f"{note}{form} {dtype}", kernels.slopes, {**arrays, **numbers},
                           {**flags, "MEAN": not soft, "BY_X": True, "BY_T": both}, tuple(arrays), own, wide=True)
    for dtype, work in (("fp32", "*fp32"), ("bf16", "*fp32"), ("fp64", "*fp64")):
        arrays = {"parts": work, "flags": "*i32", "out": f"*{dtype}", "whole": work, "flag": "*i32"}
        yield Case(dtype, kernels.joined, {**arrays, "n": "i64"}, {"MEAN": True, "BLOCK": 1024}, tuple(arrays))
