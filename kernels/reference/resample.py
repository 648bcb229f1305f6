"""Resampling of NumPy arrays: interpolation to another size, and samples at the places of a grid.

Interpolation is separable: one pass along each dimension, the one that shrinks most first. A pass gathers rows by the
table of its ``Axis`` (``kernels/resample_tables.py``); the derivative is the same with the tables transposed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from tritium.kernels.reference.conv import compute_dtype
from tritium.kernels.reference.parallel import empty, parts, run
from tritium.kernels.reference.patches import finite
from tritium.kernels.reference.quiet import quiet
from tritium.kernels.resample_tables import F32, Axis, integer_table, order, table

BLOCK = 1 << 17  # elements that one task works on

# ----------------------------------------------------------------------------------------------------- interpolation


@quiet
def resample(x: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """x (N, C, ...) resampled along each dimension after the second. Channels-last in, channels-last out.

    Floating point numbers are computed in float32 or float64 and rounded once. uint8: with weights of 16 bits, the last
    dimension first, rounded after each."""
    last = not x.flags.c_contiguous and np.moveaxis(x, 1, -1).flags.c_contiguous
    sizes = tuple([a.sizes[1] for a in axes])
    y = np.moveaxis(x, 1, -1) if last else np.ascontiguousarray(x)
    batch, channels = (x.shape[0], x.shape[1]) if last else (x.shape[0] * x.shape[1], 1)
    y = y.reshape(batch, *x.shape[2:], channels)
    out = empty((batch, *sizes, channels), x.dtype)
    copies = all(not a.weighted and not a.transposed for a in axes)
    integer = x.dtype == np.uint8 and not copies
    work = x.dtype if copies or integer else compute_dtype(x.dtype)
    todo = order(axes, integer)

    def body(start: int, stop: int) -> None:
        part = y[start:stop].astype(work, copy=False)
        for d in todo:
            shape = part.shape
            line = part.reshape(prod(shape[: d + 1]), shape[d + 1], prod(shape[d + 2 :]))
            line = _integer_pass(line, axes[d]) if integer else _pass(line, axes[d])
            part = line.reshape(*shape[: d + 1], sizes[d], *shape[d + 2 :])
        out[start:stop] = part

    if out.size:
        run(body, parts(batch, -(-max(out.size, x.size) // BLOCK)))
    if last:
        return np.moveaxis(out.reshape(x.shape[0], *sizes, channels), -1, 1)
    return out.reshape(*x.shape[:2], *sizes)


def _pass(x: np.ndarray, axis: Axis) -> np.ndarray:
    """x (B, n, C) resampled along its middle."""
    lines = table(axis, F32 if x.dtype.kind != "f" else x.dtype)
    shape = (x.shape[0], len(lines.first), x.shape[2])
    out = np.empty(shape, x.dtype)
    if lines.taps == 1 and lines.count.all() and not axis.weighted:
        return np.take(x, lines.first, 1, out=out, mode="clip")
    taps = _taps_of(axis, x.dtype)
    # where an element that a tap has no business with is finite, 0 times it adds nothing
    whole = all(isinstance(rows, slice) for rows, _, _ in taps) or finite(x)
    for k, (rows, source, weight) in enumerate(taps):
        if k == 0 and isinstance(rows, slice) and rows == slice(0, shape[1]):
            np.take(x, source, 1, out=out, mode="clip")
            if axis.weighted:
                np.multiply(out, weight, out=out)
            continue
        if k == 0:
            out[...] = 0
        rows = slice(0, shape[1]) if whole and not isinstance(rows, slice) else rows
        values = np.take(x, source[rows], 1, mode="clip")
        np.multiply(values, weight[rows], out=values)
        if isinstance(rows, slice):
            np.add(out[:, rows], values, out=out[:, rows])
        else:
            out[:, rows] += values
    return out


@lru_cache(maxsize=256)
def _taps_of(axis: Axis, dtype: Any) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """For every tap: the outputs that have it, what each output reads with it, and the weights (outputs, 1). Outputs
    that do not have it read what they read before, with weight 0."""
    lines = table(axis, dtype)
    found = []
    for k in range(lines.taps):
        rows: Any = np.flatnonzero(lines.count > k)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
            rows = slice(int(rows[0]), int(rows[-1]) + 1)
        source = lines.first + np.clip(lines.count - 1, 0, k)
        weight = lines.weight[k] if axis.weighted else (lines.count > k).astype(dtype)
        found.append((rows, source, weight[:, None]))
    return found


def _integer_pass(x: np.ndarray, axis: Axis) -> np.ndarray:
    lines, bits = integer_table(axis)
    total = np.full((x.shape[0], len(lines.first), x.shape[2]), 1 << bits >> 1, np.int32)
    for k in range(lines.taps):
        source = lines.first + np.clip(lines.count - 1, 0, k)
        total += np.take(x, source, 1, mode="clip") * lines.weight[k][:, None]
    return np.clip(total >> bits, 0, 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------------ samples of a grid

Tap = tuple[np.ndarray, np.ndarray | None, Any, Any]  # where, whether it is inside (None: it always is), weight, slope
A = -0.75


@quiet
def grid_sample(x: np.ndarray, grid: np.ndarray, mode: str, padding: str, align_corners: bool) -> np.ndarray:
    """x (N, C, ...) at the places that ``grid`` (N, ..., d) names for its d = 2 or 3 dimensions, the last one first,
    from -1 to 1: (N, C, ...) contiguous. ``mode``: bilinear, nearest, bicubic; ``padding``: zeros, border,
    reflection."""
    N, C, *sizes = x.shape
    work = compute_dtype(x.dtype)
    image = np.ascontiguousarray(x).reshape(N, C, prod(sizes))
    out = np.zeros((N, C, prod(grid.shape[1:-1])), work)
    if out.size:
        for where, inside, weights, _ in _taps(grid, sizes, mode, padding, align_corners, work):
            v = _values(image, where, inside, work)
            out += v if mode == "nearest" else v * prod(weights)[:, None]  # type: ignore[index]
    return out.astype(x.dtype, copy=False).reshape(N, C, *grid.shape[1:-1])


@quiet
def grid_sample_backward(
    dy: np.ndarray,
    x: np.ndarray,
    grid: np.ndarray,
    mode: str,
    padding: str,
    align_corners: bool,
    need_x: bool = True,
    need_grid: bool = True,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dy (N, C, ...) -> (dx, dgrid), contiguous; None for one that is not needed."""
    N, C, *sizes = x.shape
    work = compute_dtype(x.dtype)
    image = np.ascontiguousarray(x).reshape(N, C, prod(sizes))
    d = np.ascontiguousarray(dy).reshape(N, C, prod(grid.shape[1:-1])).astype(work, copy=False)
    places, d_places = prod(sizes), d.shape[2]
    total = np.zeros((N, C, places)) if need_x else None  # float64, as bincount adds
    d_grid = np.zeros((N, d_places, len(sizes)), work) if need_grid else None
    if d.size:
        for where, inside, weights, slopes in _taps(grid, sizes, mode, padding, align_corners, work):
            if total is not None:
                share = d if mode == "nearest" else d * prod(weights)[:, None]  # type: ignore[index]
                target = where if inside is None else np.where(inside, where, places)
                for n in range(N):
                    for c in range(C):
                        total[n, c] += np.bincount(target[n], share[n, c], places + 1)[:places]
            if d_grid is not None and mode != "nearest":
                dots = (_values(image, where, inside, work) * d).sum(1)
                for j in range(len(sizes)):
                    others = prod(w for i, w in enumerate(weights) if i != j)
                    d_grid[:, :, len(sizes) - 1 - j] += dots * (slopes[j] * others)
    return (
        None if total is None else total.astype(x.dtype).reshape(x.shape),
        None if d_grid is None else d_grid.astype(grid.dtype, copy=False).reshape(grid.shape),
    )


def _values(image: np.ndarray, where: np.ndarray, inside: np.ndarray | None, dtype: Any) -> np.ndarray:
    """(N, C, places) at (N, samples), 0 outside."""
    v = np.take_along_axis(image, where[:, None], 2).astype(dtype, copy=False)
    return v if inside is None else np.where(inside[:, None], v, dtype.type(0))


def _taps(
    grid: np.ndarray, sizes: list[int], mode: str, padding: str, align: bool, work: Any
) -> Iterator[tuple[np.ndarray, np.ndarray | None, list[Any], list[Any]]]:
    """For every combination of taps of the dimensions: flat positions and whether they are inside, (N, samples); the
    weights along each dimension, and their derivatives by the grid's number."""
    lines = []
    for j, n in enumerate(sizes):
        g = grid[..., len(sizes) - 1 - j].reshape(len(grid), prod(grid.shape[1:-1])).astype(work)
        lines.append(_line(g, n, mode, padding, align))
    for taps in product(*lines):
        where, inside = taps[0][0], taps[0][1]
        for n, (i, seen, _, _) in zip(sizes[1:], taps[1:], strict=True):
            where = where * n + i
            inside = seen if inside is None else inside & seen  # type: ignore[operator]
        yield where, inside, [t[2] for t in taps], [t[3] for t in taps]


def _line(g: np.ndarray, n: int, mode: str, padding: str, align: bool) -> list[Tap]:
    """The taps along a dimension of size n for numbers g of the grid."""
    slope: Any = g.dtype.type((n - 1) / 2 if align else n / 2)
    u = (g + 1) * slope if align else (g + 1) * slope - g.dtype.type(0.5)
    if mode != "bicubic":
        u, sign = _padded(u, n, padding, align)
        slope = slope * sign
    if mode == "nearest":
        return [(*_inside(np.rint(u), n, padding), 1, 0)]
    at = np.floor(u)
    t = u - at
    if mode == "bilinear":
        return [(*_inside(at, n, padding), 1 - t, -slope), (*_inside(at + 1, n, padding), t, slope)]
    weights = [_outer(t + 1), _inner(t), _inner(1 - t), _outer(2 - t)]
    slopes = [_d_outer(t + 1), _d_inner(t), -_d_inner(1 - t), -_d_outer(2 - t)]
    places = [_inside(_padded(at + k, n, padding, align)[0], n, padding) for k in range(-1, 3)]
    return [(*p, w, s * slope) for p, w, s in zip(places, weights, slopes, strict=True)]


def _inside(u: np.ndarray, n: int, padding: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Whole numbers as indices, and whether they are in [0, n)."""
    inside = (u >= 0) & (u < n)
    i = np.where(inside, u, 0).astype(np.int64)
    return (i, inside) if padding == "zeros" else (np.where(u >= n, n - 1, i), None)


def _padded(u: np.ndarray, n: int, padding: str, align: bool) -> tuple[np.ndarray, Any]:
    """Coordinates moved into the image as the padding says, and their derivatives: 1, -1, or 0 at the ends."""
    if padding == "zeros":
        return u, 1
    sign: Any = 1
    if padding == "reflection":
        low, span = (0, n - 1) if align else (-0.5, n)
        if not span:
            return np.zeros_like(u), 0
        v = np.abs(u - low)
        turns = np.floor(v / span)
        extra, even = v - turns * span, turns % 2 == 0
        sign = np.where((u < low) == even, -1, 1)
        u = np.where(even, extra, span - extra) + u.dtype.type(low)
    sign = np.where((u > 0) & (u < n - 1), sign, 0).astype(u.dtype)
    return np.where(u > 0, np.minimum(u, n - 1), 0).astype(u.dtype), sign  # nan becomes 0


def _inner(x: Any) -> Any:
    return ((A + 2) * x - (A + 3)) * x * x + 1


def _outer(x: Any) -> Any:
    return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A


def _d_inner(x: Any) -> Any:
    return (3 * (A + 2) * x - 2 * (A + 3)) * x


def _d_outer(x: Any) -> Any:
    return (3 * A * x - 10 * A) * x + 8 * A
