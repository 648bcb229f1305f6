"""Pooling of volumes and power pooling, as ``pool.py`` pools images: NCDHW shape with any strides in, NCDHW shape with
the channels last in memory out. A window is gone through along one dimension after the other.

    power pooling  y = (k / d sum x^p)^(1 / p), k the elements of a window, d those of it that lie inside
    its gradient   dx = x^(p - 1) sum over windows of dy y^(1 - p) k / d, where a sum of powers is 0 nothing
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tritium.kernels.reference import pool
from tritium.kernels.reference.conv import compute_dtype
from tritium.kernels.reference.parallel import empty, scratch
from tritium.kernels.reference.pool import (
    Line,
    _averaging,
    _cells,
    _divide,
    _gather,
    _images,
    _least,
    _spread,
    _taps,
)
from tritium.kernels.reference.quiet import quiet

Triple = tuple[int, int, int]


def _last(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    """(N, D, H, W, C) with the channels adjacent, in the dtype to compute in; a view where that is possible."""
    view = x.transpose(0, 2, 3, 4, 1).astype(compute_dtype(x.dtype) if dtype is None else dtype, copy=False)
    return view if view.shape[4] == 1 or view.strides[4] == view.itemsize else np.ascontiguousarray(view)


def _first(a: np.ndarray, dtype: Any = None) -> np.ndarray:
    """(N, C, D, H, W), in another dtype."""
    return (a if dtype is None else a.astype(dtype, copy=False)).transpose(0, 4, 1, 2, 3)


def _lines(*window: Triple) -> tuple[Line, ...]:
    return tuple(zip(*window, strict=True))


def _pool(ufunc: Any, start: Any, x: np.ndarray, out: np.ndarray, lines: tuple[Line, ...]) -> None:
    """x (N, D, H, W, C) -> out (N, OD, OH, OW, C)"""
    N, _, H, W, C = x.shape
    OD, OH, OW = out.shape[1:4]

    def body(n0: int, n1: int) -> None:
        for n in range(n0, n1):
            s, t = scratch("pool_depth", (1, OD, H, W, C), x.dtype), scratch("pool_rows", (1, OD, OH, W, C), x.dtype)
            _gather(ufunc, start, x[n : n + 1], s, 1, lines[0], 0, OD)
            _gather(ufunc, start, s, t, 2, lines[1], 0, OH)
            _gather(ufunc, start, t, out[n : n + 1], 3, lines[2], 0, OW)

    if out.size:
        _images(body, x)


def _windows(x: np.ndarray, lines: tuple[Line, ...], out: Triple) -> Iterator[tuple[int, Any, np.ndarray]]:
    """For every tap: (its number, the outputs for which it lies inside, what it reads there)."""
    (kh, kw) = (lines[1][0], lines[2][0])
    for i, od, d in _taps(lines[0], x.shape[1], 0, out[0]):
        for j, oh, h in _taps(lines[1], x.shape[2], 0, out[1]):
            for m, ow, w in _taps(lines[2], x.shape[3], 0, out[2]):
                yield (i * kh + j) * kw + m, (slice(None), od, oh, ow), x[:, d, h, w]


# ---------------------------------------------------------------------------------------------------------------- max


def _code(kernel: Triple) -> Any:
    n = math.prod(kernel)
    return np.uint8 if n < 256 else np.uint16 if n < 65536 else np.int32


@quiet
def max_pool3d(
    x: np.ndarray, size: Triple, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple
) -> np.ndarray:
    """x (N, C, D, H, W) -> the maxima (N, C, *size). NaN anywhere in a window gives NaN."""
    x_last = _last(x, x.dtype)
    out = empty((x_last.shape[0], *size, x_last.shape[4]), x.dtype)
    _pool(np.maximum, _least(x.dtype), x_last, out, _lines(kernel, stride, padding, dilation))
    return _first(out)


@quiet
def max_pool3d_with_taps(
    x: np.ndarray, size: Triple, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple
) -> tuple[np.ndarray, np.ndarray]:
    """The maxima, and which tap (i * kh + j) * kw + m of its window each came from: the first that equals it; the last
    NaN where there are any; the number of taps where none lies inside. (N, OD, OH, OW, C), unsigned."""
    out = max_pool3d(x, size, kernel, stride, padding, dilation)
    x_last, y, lines = _last(x, x.dtype), out.transpose(0, 2, 3, 4, 1), _lines(kernel, stride, padding, dilation)
    count = math.prod(kernel)
    taps = np.full(y.shape, count, _code(kernel))

    def body(n0: int, n1: int) -> None:
        code = taps[n0:n1]
        for number, place, source in _windows(x_last[n0:n1], lines, size):
            best = code[place]
            np.copyto(best, number, where=(source == y[n0:n1][place]) & (best == count))
        if x.dtype.kind not in "iu" and np.isnan(y[n0:n1]).any():
            for number, place, source in _windows(x_last[n0:n1], lines, size):
                np.copyto(code[place], number, where=np.isnan(source))

    if taps.size:
        _images(body, x_last)
    return out, taps


def max_pool3d_indices(
    taps: np.ndarray, size: Triple, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple
) -> np.ndarray:
    """PyTorch's indices: the flat position of each maximum in its volume of ``size``; (N, C, OD, OH, OW)."""
    number, places = taps.astype(np.int64), []
    for a in (2, 1, 0):
        tap = number % kernel[a] if a else number
        number = number // kernel[a]
        start = np.arange(taps.shape[1 + a]) * stride[a] - padding[a]
        places.append(tap * dilation[a] + start.reshape(-1, *[1] * (3 - a)))
    w, h, d = places
    return np.array(_first((d * size[1] + h) * size[2] + w), order="C")


@quiet
def max_pool3d_scatter(
    dy: np.ndarray, taps: np.ndarray, size: Triple, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple
) -> np.ndarray:
    """dy (N, C, OD, OH, OW) added to the places its maxima came from; zero elsewhere. -> (N, C, *size)."""
    d, lines = _last(dy), _lines(kernel, stride, padding, dilation)
    dx = np.zeros((d.shape[0], *size, d.shape[4]), d.dtype)

    def body(n0: int, n1: int) -> None:
        for n in range(n0, n1):
            for number, place, part in _windows(dx[n : n + 1], lines, d.shape[1:4]):
                part += np.where(taps[n : n + 1][place] == number, d[n : n + 1][place], d.dtype.type(0))

    if d.size:
        _images(body, dx)
    return _first(dx, dy.dtype)


@quiet
def max_pool3d_gather(
    x: np.ndarray, taps: np.ndarray, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple
) -> np.ndarray:
    """x (N, C, D, H, W) at the places that ``taps`` (N, OD, OH, OW, C) name. -> (N, C, OD, OH, OW)."""
    x_last, out = _last(x, x.dtype), np.zeros(taps.shape, x.dtype)
    for number, place, source in _windows(x_last, _lines(kernel, stride, padding, dilation), taps.shape[1:4]):
        np.copyto(out[place], source, where=taps[place] == number)
    return _first(out)


# ------------------------------------------------------------------------------------------------------------ average


def _divisors(inner: Triple, size: Triple, lines: tuple[Line, ...], include: bool, override: int | None) -> Any:
    """What the sums are divided by: one number, or an array (OD, OH, OW, 1)."""
    if override is not None:
        return override
    lengths = []
    for n, outputs, (k, s, pad, _) in zip(inner, size, lines, strict=True):
        start = np.arange(outputs) * s - pad
        stop = np.minimum(start + k, n + pad)
        if not include:
            start, stop = np.maximum(start, 0), np.minimum(stop, n)
        lengths.append(stop - start)
    a, b, c = lengths
    table = a[:, None, None] * b[:, None] * c
    return int(table.flat[0]) if table.size and (table == table.flat[0]).all() else table[..., None]


@quiet
def avg_pool3d(
    x: np.ndarray, size: Triple, kernel: Triple, stride: Triple, padding: Triple, count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:  # fmt: skip
    """x (N, C, D, H, W) -> the averages (N, C, *size)."""
    x_last, lines = _last(x), _lines(kernel, stride, padding, (1, 1, 1))
    divisors = _divisors(x.shape[2:], size, lines, count_include_pad, divisor_override)  # type: ignore[arg-type]
    out = empty((x_last.shape[0], *size, x_last.shape[4]), x_last.dtype)
    _pool(np.add, 0, x_last, out, lines)
    if out.size:
        _divide(out, divisors, 0, size[0])
    return _first(out, x.dtype)


@quiet
def avg_pool3d_backward(
    dy: np.ndarray, size: Triple, kernel: Triple, stride: Triple, padding: Triple, count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:  # fmt: skip
    """dy (N, C, OD, OH, OW) -> dx (N, C, *size)."""
    d, lines = _last(dy), _lines(kernel, stride, padding, (1, 1, 1))
    N, OD, OH, OW, C = d.shape
    divisors = _divisors(size, (OD, OH, OW), lines, count_include_pad, divisor_override)
    dx = empty((N, *size, C), d.dtype)

    def body(n0: int, n1: int) -> None:
        for n in range(n0, n1):
            share = scratch("pool_share", (1, OD, OH, OW, C), d.dtype)
            np.copyto(share, d[n : n + 1])
            _divide(share, divisors, 0, OD)
            s = scratch("pool_rows", (1, OD, OH, size[2], C), d.dtype)
            t = scratch("pool_depth", (1, OD, size[1], size[2], C), d.dtype)
            _spread(share, s, 3, lines[2])
            _spread(s, t, 2, lines[1])
            _spread(t, dx[n : n + 1], 1, lines[0])

    if dx.size:
        _images(body, dx)
    return _first(dx, dy.dtype)


# -------------------------------------------------------------------------------------------------------------- power


def _average(x: np.ndarray, *window: Any) -> np.ndarray:
    return pool.avg_pool2d(x, *window) if x.ndim == 4 else avg_pool3d(x, *window)


@quiet
def lp_pool(x: np.ndarray, size: Any, kernel: Any, stride: Any, p: float) -> np.ndarray:
    """x (N, C, H, W) or (N, C, D, H, W) -> the p-norms of its windows (N, C, *size); no padding."""
    wide = x.astype(compute_dtype(x.dtype), copy=False)
    powers = wide * wide if p == 2 else wide if p == 1 else np.power(wide, wide.dtype.type(p))
    out = _average(powers, size, kernel, stride, (0,) * len(kernel))
    out = out * wide.dtype.type(math.prod(kernel))
    if p != 1:
        out = np.sqrt(out) if p == 2 else np.power(out, wide.dtype.type(1 / p))
    return out.astype(x.dtype, copy=False)


@quiet
def lp_pool_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: Any, stride: Any, p: float) -> np.ndarray:
    """The gradient of x from that of y = lp_pool(x, ...)."""
    g, wide, norm = (a.astype(compute_dtype(a.dtype), copy=False) for a in (dy, x, y))
    kind = wide.dtype.type
    if p == 1:
        factor = ((norm < 0) | (norm > 0)).astype(norm.dtype)
    else:
        factor = 1 / norm if p == 2 else np.power(norm, kind(1 - p))
        factor = np.where(norm == (0 if p > 0 else np.inf), kind(0), factor)
    factor = factor * g * kind(math.prod(kernel))
    padding = (0,) * len(kernel)
    backward = pool.avg_pool2d_backward if x.ndim == 4 else avg_pool3d_backward
    out: Any = backward(factor, x.shape[2:], kernel, stride, padding)  # type: ignore[arg-type]
    if p != 1:
        out = out * (wide if p == 2 else np.power(wide, kind(p - 1)))
    return out.astype(x.dtype, copy=False)


# ----------------------------------------------------------------------------------------------------------- adaptive


@quiet
def adaptive_avg_pool3d(x: np.ndarray, size: Triple) -> np.ndarray:
    """x (N, C, D, H, W) -> the averages of size[0] x size[1] x size[2] cells (N, C, *size)."""
    d = _last(x)
    matrices = [_averaging(n, m, d.dtype) for n, m in zip(d.shape[1:4], size, strict=True)]
    return _first(pool.safely(_along_all(d, matrices), pool.cell_means, d, size), x.dtype)


@quiet
def adaptive_avg_pool3d_backward(dy: np.ndarray, size: Triple) -> np.ndarray:
    """dy (N, C, OD, OH, OW) -> dx (N, C, *size)."""
    d = _last(dy)
    matrices = [_averaging(n, m, d.dtype).T for n, m in zip(size, d.shape[1:4], strict=True)]
    return _first(pool.safely(_along_all(d, matrices), pool.cell_spread, d, size), dy.dtype)


def _along_all(x: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    """x (N, D, H, W, C) multiplied by a matrix along D, H and W."""
    for axis, A in enumerate(matrices):
        N, (before, n, after) = x.shape[0], (math.prod(x.shape[1 : 1 + axis]), x.shape[1 + axis], x.shape[2 + axis :])
        shape = (*x.shape[: 1 + axis], len(A), *after)
        x = np.matmul(A, x.reshape(N * before, n, math.prod(after))).reshape(shape)
    return x


@quiet
def adaptive_max_pool3d(x: np.ndarray, size: Triple) -> tuple[np.ndarray, np.ndarray]:
    """x (N, C, D, H, W) -> the maxima of size[0] x size[1] x size[2] cells and their flat positions int64, both
    (N, C, *size)."""
    N, C, D, H, W = x.shape
    out, indices = np.empty((N, C, *size), x.dtype), np.empty((N, C, *size), np.int64)
    for i, (d0, d1) in enumerate(_cells(D, size[0])):
        for j, (h0, h1) in enumerate(_cells(H, size[1])):
            for m, (w0, w1) in enumerate(_cells(W, size[2])):
                cell = x[:, :, d0:d1, h0:h1, w0:w1].reshape(N, C, (d1 - d0) * (h1 - h0) * (w1 - w0))
                best = cell.argmax(2)
                nan = np.isnan(cell)
                if nan.any():  # the last NaN wins
                    last = cell.shape[2] - 1 - nan[:, :, ::-1].argmax(2)
                    best = np.where(nan.any(2), last, best)
                out[:, :, i, j, m] = np.take_along_axis(cell, best[:, :, None], 2)[:, :, 0]
                d, rest = np.divmod(best, (h1 - h0) * (w1 - w0))
                h, w = np.divmod(rest, w1 - w0)
                indices[:, :, i, j, m] = ((d + d0) * H + h + h0) * W + w + w0
    return out, indices


def index_scatter3d(dy: np.ndarray, indices: np.ndarray, size: Triple) -> np.ndarray:
    """dy (N, C, OD, OH, OW) added at the flat positions of volumes of ``size`` that ``adaptive_max_pool3d`` gave;
    -> (N, C, *size)."""
    N, C = dy.shape[:2]
    flat = (N, C, 1, math.prod(dy.shape[2:]))
    return pool.index_scatter(dy.reshape(flat), indices.reshape(flat), (1, math.prod(size))).reshape(N, C, *size)
