"""Resampling on the device: the launches of ``resample_kernels.py``.

Interpolation takes contiguous and channels-last images as they are, and results lie as they do. The tables of its axes
are made on the host once and kept on the device. Few taps are gathered along all dimensions in one launch; many (as
antialiasing has when an image shrinks) in a launch for each dimension, with float32 between them.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.resample_tables import F32, Axis, integer_table, order, table
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.state import current
from tritium.kernels.triton import resample_kernels as kernels
from tritium.kernels.triton import sort_radix
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.copy import contiguous
from tritium.kernels.triton.memory import empty, from_host
from tritium.kernels.triton.strided import LIMIT, WORDS, power

Array = DeviceArray
FUSED = 64  # taps that are gathered in one launch
STATIC = 4  # taps along a dimension that kernels are unrolled for, if they are not more than 16 in all
KEPT = 1024  # tables on the device
UINT8, INT64 = np.dtype(np.uint8), np.dtype(np.int64)
ACC = {tl.float32: F32, tl.float64: np.dtype(np.float64)}

# --- interpolation ---


def tile_elements(itemsize: int) -> int:
    """How many elements a tile of four warps has."""
    return 16384 if runtime.active().emulated else 256 if itemsize == 8 else 512


def _float(dtype: Any) -> Any:
    if dtype.kind in "biuc":
        raise NoKernel(f"resampling of {dtype} has no Triton kernel: not implemented for cuda tensors")
    return tl.float64 if dtype.itemsize == 8 else tl.float32


class Plan:
    """How images of one shape are resampled: one launch for each of ``groups``, (first, last + 1) of the dimensions."""

    __slots__ = ("copies", "integer", "groups")

    def __init__(self, axes: tuple[Axis, ...], dtype: Any) -> None:
        self.copies = not any(a.weighted or a.transposed for a in axes)
        self.integer = dtype == UINT8 and not self.copies
        if self.integer:
            self.groups = [(d, d + 1) for d in order(axes, True)]
            return
        todo = order(axes)
        self.groups = [(d, d + 1) for d in todo]
        if todo:
            whole = min(todo), max(todo) + 1
            if self.copies or prod(table(a, F32).taps for a in axes[whole[0]:whole[1]]) <= FUSED:
                self.groups = [whole]


def resample(x: Array, axes: Sequence[Axis]) -> Array:
    """x (N, C, ...) resampled along each dimension after the second. Channels-last in, channels-last out.

    Floating point numbers are computed in float32 or float64 and rounded once. uint8: with weights of 16 bits, the last
    dimension first, rounded after each."""
    axes = tuple(axes)
    plan = remembered((Plan, axes, x.dtype), Plan, axes, x.dtype)
    acc = None if plan.copies else tl.int32 if plan.integer else _float(x.dtype)
    sizes = tuple([a.sizes[1] for a in axes])
    N, C, dtype = *x.shape[:2], x.dtype
    front = (0, *range(2, x.ndim), 1)
    last = x.ndim > 3 and not x.dense and x.transpose(front).dense
    y = x.transpose(front) if last else x if x.dense else contiguous(x)
    outputs = (N, *sizes, C) if last else (N, C, *sizes)
    if not prod(outputs):
        y = empty(outputs, dtype, x.device)
    elif not plan.groups:
        y = contiguous(y) if y is x or last else y
    else:
        y = y.reshape(N if last else N * C, *x.shape[2:], C if last else 1)
        y = y.view(WORDS[dtype.itemsize]) if plan.copies else y
        for number, group in enumerate(plan.groups):
            result = y.dtype if plan.copies or plan.integer or number == len(plan.groups) - 1 else ACC[acc]
            if number == len(plan.groups) - 1 and not plan.copies:
                result = dtype
            y = _launch(y, axes, group, result, acc, plan)
        y = (y.view(dtype) if plan.copies else y).reshape(outputs)
    return y.transpose(0, x.ndim - 1, *range(1, x.ndim - 1)) if last else y


def _launch(x: Array, axes: tuple[Axis, ...], group: tuple[int, int], dtype: Any, acc: Any, plan: Plan) -> Array:
    """x (B, ..., C), dense, resampled along the dimensions of a group, the others being batch and channels."""
    first, stop = group
    shape = (*x.shape[:first + 1], *[a.sizes[1] for a in axes[first:stop]], *x.shape[stop + 1:])
    channels, planes = prod(x.shape[stop + 1:]), prod(x.shape[stop + 1:]) == 1
    out = empty(shape, dtype, x.device)
    found = [_on_device(a, acc, plan.integer, x.device) for a in axes[first:stop]]
    pixels = prod(shape[:stop + 1])
    sizes = [1] * (3 - stop + first) + list(x.shape[first + 1:stop + 1])
    sizes += [1] * (3 - stop + first) + list(shape[first + 1:stop + 1])
    taps = [t[3] for t in found]
    most = power(max(taps))
    static = 0 if plan.copies or most > STATIC or most ** len(taps) > 16 else most
    tables = [a for t in [found[0]] * (3 - len(found)) + found for a in t[:3]]
    numbers, grid, constants = _tiles(pixels, channels, planes, dtype.itemsize, max(x.size, out.size))
    launch = kernels.interpolate.bind(
        ACC=acc or tl.float32, AXES=len(found), COPY=plan.copies, TD=static if len(found) > 2 else 0,
        TH=static if len(found) > 1 else 0, TW=static, WEIGHTED=any(a.weighted for a in axes), **constants)
    launch(*grid, 1, x, out, *tables, *numbers, *sizes, *[1] * (3 - len(taps)), *taps, found[0][4])
    return out


def _tiles(pixels: int, channels: int, planes: bool, itemsize: int, reach: int) -> tuple[Any, Any, dict[str, Any]]:
    """(pixels and channels as the kernel takes them, grid, constexprs)."""
    vector = 16 // itemsize
    if (pixels if planes else channels) % vector:
        vector = 1
    block = tile_elements(itemsize)
    bc = 1 if planes else min(power(channels), max(128 // itemsize, 16))
    bp = min(power(pixels), max(block // bc, 1))
    numbers = (pixels // vector, 1) if planes else (pixels, channels // vector)
    return numbers, (-(-pixels // bp), -(-channels // bc)), {
        "PLANES": planes, "VECTOR": vector, "LONG": reach + 64 * bp * bc >= LIMIT, "BP": bp, "BC": bc,
        "num_warps": 4 if bp * bc >= 256 else 1}


_tables: dict[Any, Any] = {}
_captured: dict[Any, Any] = {}  # those that graphs read: they stay


def _on_device(axis: Axis, acc: Any, integer: bool, device: int) -> tuple[Any, ...]:
    """(first, count, weight on the device, taps, shift) of an axis; the weights have a power of 2 of rows."""
    key = axis, acc, integer, device
    found = _tables.get(key)
    if found is None:
        lines, shift = integer_table(axis) if integer else (table(axis, ACC.get(acc, F32)), 0)
        weight = np.zeros((max(lines.taps, STATIC), len(lines.first)), lines.weight.dtype)
        weight[:lines.taps] = lines.weight
        found = (*[from_host(a, device) for a in (lines.first, lines.count, weight)], lines.taps, shift)
        if len(_tables) >= KEPT:
            _tables.clear()
            _tables.update(_captured)
        _tables[key] = found
    if current.capture is not None:
        _captured[key] = found
    return found


# --- samples of a grid ---


def _setting(x: Array, mode: str, padding: str, align: bool) -> dict[str, Any]:
    """The constexprs that the kernels share."""
    taps = {"nearest": 1, "bilinear": 2, "bicubic": 4}[mode]
    return {"ACC": _float(x.dtype), "DIMS": x.ndim - 2, "MODE": mode, "PADDING": padding, "ALIGN": bool(align),
            "TAPS": taps}


def _image(x: Array) -> tuple[list[int], list[int]]:
    """(D, H, W) and the strides of (N, C, D, H, W), in elements."""
    sizes, steps = list(x.shape[2:]), [s // x.dtype.itemsize for s in x.strides]
    return [1] * (3 - len(sizes)) + sizes, [*steps[:2], *[0] * (3 - len(sizes)), *steps[2:]]


def _blocks(samples: int, channels: int, last: bool, itemsize: int) -> tuple[int, int]:
    """Samples and channels of a tile."""
    block = tile_elements(itemsize)
    bc = min(power(channels), 256 if runtime.active().emulated else 32 if last else 4)
    return min(power(samples), max(block // bc, 1)), bc


def _reach(*arrays: Array) -> int:
    return max(sum((n - 1) * abs(s) for n, s in zip(a.shape, a.strides, strict=True)) // a.dtype.itemsize
               for a in arrays)


def _dense(a: Array) -> Array:
    return a if a.dense else contiguous(a)


def grid_sample(x: Array, grid: Array, mode: str, padding: str, align_corners: bool) -> Array:
    """x (N, C, ...) at the places that ``grid`` (N, ..., d) names for its d = 2 or 3 dimensions, the last one first,
    from -1 to 1: (N, C, ...) contiguous. ``mode``: bilinear, nearest, bicubic; ``padding``: zeros, border,
    reflection."""
    setting, grid = _setting(x, mode, padding, align_corners), _dense(grid)
    N, C = x.shape[:2]
    out = empty((N, C, *grid.shape[1:-1]), x.dtype, x.device)
    if out.size:
        sizes, steps = _image(x)
        per_image, last = prod(grid.shape[1:-1]), steps[1] == 1 and C > 1
        bp, bc = _blocks(N * per_image, C, last, x.dtype.itemsize)
        launch = kernels.sample.bind(LAST=last, LONG=_reach(x, out, grid) >= LIMIT, BP=bp, BC=bc, **setting)
        launch(-(-N * per_image // bp), -(-C // bc), 1, x, grid, out, N * per_image, per_image, C, *sizes, *steps)
    return out


def grid_sample_backward(dy: Array, x: Array, grid: Array, mode: str, padding: str, align_corners: bool,
                         need_x: bool = True, need_grid: bool = True) -> tuple[Array | None, Array | None]:
    """dy (N, C, ...) -> (dx, dgrid), contiguous; None for one that is not needed."""
    setting, grid, dy = _setting(x, mode, padding, align_corners), _dense(grid), _dense(dy)
    return (_image_gradient(dy, x, grid, setting) if need_x else None,
            _grid_gradient(dy, x, grid, setting) if need_grid else None)


def _grid_gradient(dy: Array, x: Array, grid: Array, setting: dict[str, Any]) -> Array:
    N, C = x.shape[:2]
    out = empty(grid.shape, grid.dtype, grid.device)
    if setting["MODE"] == "nearest" or not C:
        out.fill(0)
    elif out.size:
        sizes, steps = _image(x)
        per_image, last = prod(grid.shape[1:-1]), steps[1] == 1 and C > 1
        bp, bc = _blocks(N * per_image, C, last, x.dtype.itemsize)
        bp = bp if runtime.active().emulated else min(bp, 64)
        launch = kernels.grid_gradient.bind(LAST=last, LONG=_reach(x, dy, grid) >= LIMIT, BP=bp, BC=bc, **setting)
        launch(-(-N * per_image // bp), 1, 1, dy, x, grid, out, N * per_image, per_image, C, *sizes, *steps)
    return out


def _image_gradient(dy: Array, x: Array, grid: Array, setting: dict[str, Any]) -> Array:
    """Every tap of every sample, sorted by the place where it goes; then each place gathers its own."""
    N, C = x.shape[:2]
    device, acc = x.device, setting["ACC"]
    out = empty(x.shape, x.dtype, device)
    if not out.size or not dy.size:
        out.fill(0)
        return out
    per_image, per_place = prod(grid.shape[1:-1]), prod(x.shape[2:])
    count, places = N * per_image, N * per_place
    taps = setting["TAPS"] ** setting["DIMS"] * count
    keys, weights = empty((taps,), INT64, device), empty((taps,), ACC[acc], device)
    block = 8192 if runtime.active().emulated else 128
    bp = min(power(count), block)
    kernels.targets.bind(BP=bp, **setting)(-(-count // bp), 1, 1, grid, keys, weights, count, per_image, *_image(x)[0],
                                           places)
    keys, rank = sort_radix.argsort_keys(keys, places.bit_length())
    start = empty((places + 1,), INT64, device)
    bp = min(power(places + 1), block)
    kernels.starts.bind(BP=bp)(-(-(places + 1) // bp), 1, 1, keys, start, taps, places, taps.bit_length())
    bc = min(power(C), 8)
    bs = 64 if runtime.active().emulated else 4
    bp = min(power(places), max(tile_elements(x.dtype.itemsize) // (bs * bc), 1))
    launch = kernels.image_gradient.bind(ACC=acc, BP=bp, BS=bs, BC=bc)
    launch(-(-places // bp), -(-C // bc), 1, dy, weights, rank, start, out, places, per_place, count, per_image, C)
    return out


# --- shipped configurations ---

def cases() -> Iterator[Case]:
    """The shipped configurations."""
    item = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "u8": 1, "i16": 2, "i32": 4}
    for planes in (True, False):
        form = "planes" if planes else "channels last"
        for dtype, ways in _ways(planes).items():
            size = item[dtype]
            block = 256 if size == 8 else 512
            bc = 1 if planes else max(128 // size, 16)
            work = {"fp64": "fp64", "u8": "i32"}.get(dtype, "fp32")
            arrays = {"x": f"*{dtype}", "out": f"*{dtype}", **{f"weight_{d}": f"*{work}" for d in "dhw"}}
            types = {n: note or arrays.get(n, "*i32") for n, note in kernels.interpolate.parameters.items()}
            for axes, taps, weighted, copy in ways:
                constants = {"ACC": {"fp64": tl.float64, "i32": tl.int32}.get(work, tl.float32), "AXES": axes,
                             "COPY": copy, "WEIGHTED": weighted, "TD": taps if axes > 2 else 0,
                             "TH": taps if axes > 1 else 0, "TW": taps, "PLANES": planes, "VECTOR": 16 // size,
                             "LONG": False, "BP": block // bc, "BC": bc}
                what = "copy" if copy else f"{'weighted' if weighted else 'sums'} {taps or 'any'}"
                yield Case(f"interpolate {what} {axes}d {form} {dtype}", kernels.interpolate, types, constants,
                           tuple(n for n, t in types.items() if t[0] == "*"), wide=not planes and dtype == "fp32")
    yield from _grid_cases()


def _ways(planes: bool) -> dict[str, list[tuple[int, int, bool, bool]]]:
    """For each dtype: (dimensions, taps, weighted, copy)."""
    return {"fp32": [(1, 0, True, False), (2, 2, True, False), (2, 4, True, False), (2, 0, True, False),
                     (2, 2, False, False), (2, 0, False, False), (3, 2, True, False), (3, 0, True, False)],
            "bf16": [(2, 2, True, False), (2, 4, True, False), (2, 2, False, False), (3, 2, True, False)],
            "fp64": [(2, 0, True, False)], "u8": [(1, 4, True, False), (1, 0, True, False)],
            "i32": [(2, 0, False, True), (3, 0, False, True)], "i16": [(2, 0, False, True)]}


def _grid_cases() -> Iterator[Case]:
    settings = [("fp32", 2, mode, padding, False) for mode in ("bilinear", "nearest", "bicubic")
                for padding in ("zeros", "border", "reflection")]
    settings += [("bf16", 2, "bilinear", "zeros", False), ("fp32", 3, "bilinear", "zeros", False),
                 ("fp64", 2, "bilinear", "border", True), ("fp32", 2, "bicubic", "reflection", True)]
    for dtype, dims, mode, padding, align in settings:
        acc = tl.float64 if dtype == "fp64" else tl.float32
        setting = {"ACC": acc, "DIMS": dims, "MODE": mode, "PADDING": padding, "ALIGN": align,
                   "TAPS": {"nearest": 1, "bilinear": 2, "bicubic": 4}[mode]}
        name = f"{mode} {padding}{' aligned' if align else ''} {dims}d {dtype}"

        work = "fp64" if dtype == "fp64" else "fp32"

        def one(kernel: Any, what: str, setting: dict[str, Any], name: str = name, dtype: str = dtype, work: str = work,
                **more: Any) -> Case:
            special = {"keys": "*i64", "order": "*i64", "start": "*i64", "weights": f"*{work}"}
            types = {n: note or special.get(n, f"*{dtype}") for n, note in kernel.parameters.items()}
            return Case(f"{what} {name}", kernel, types, {**setting, **more},
                        tuple(n for n, t in types.items() if t[0] == "*"))

        block = 256 if dtype == "fp64" else 512
        for last in (False, True) if mode == "bilinear" else (False,):
            bc = 32 if last else 4
            form = " channels last" if last else ""
            yield one(kernels.sample, f"sample{form}", setting, LAST=last, LONG=False, BP=block // bc, BC=bc)
            if mode != "nearest":
                yield one(kernels.grid_gradient, f"grid gradient{form}", setting, LAST=last, LONG=False,
                          BP=min(block // bc, 64), BC=bc)
        yield one(kernels.targets, "targets", setting, BP=128)
        if mode == "nearest" and padding == "zeros" or dtype != "fp32":
            yield one(kernels.image_gradient, "image gradient", {"ACC": acc}, BP=block // 32, BS=4, BC=8)
    yield Case("starts", kernels.starts, {"keys": "*i64", "out": "*i64", "count": "i64", "places": "i64",
                                          "steps": "i64"}, {"BP": 128}, ("keys", "out"))
