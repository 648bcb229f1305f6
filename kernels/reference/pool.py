"""Pooling of NumPy arrays, channels-last inside: NCHW shape with any strides in, NCHW shape with NHWC storage out.

A window is separable: first along the height, whole rows at a time, then along the width. Padding is never copied; a
tap that falls outside the image is left out for those outputs.

Along one dimension, tap i of output p reads input p * stride - padding + i * dilation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from tritium.kernels.reference.conv import compute_dtype
from tritium.kernels.reference.parallel import blocks, empty, get_num_threads, one_blas_thread, parts, run, scratch
from tritium.kernels.reference.patches import finite
from tritium.kernels.reference.quiet import quiet

Pair = tuple[int, int]
Line = tuple[int, int, int, int]  # kernel, stride, padding, dilation along one dimension

BLOCK = 1 << 18  # elements of the input that one task works on; more where threads must not meet too often


def _block() -> int:
    return BLOCK if get_num_threads() == 1 else 4 * BLOCK


def _last(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    """(N, H, W, C) with the channels adjacent, in the dtype to compute in; a view where that is possible."""
    view = x.transpose(0, 2, 3, 1).astype(compute_dtype(x.dtype) if dtype is None else dtype, copy=False)
    return view if view.shape[3] == 1 or view.strides[3] == view.itemsize else np.ascontiguousarray(view)


def _taps(line: Line, size: int, p0: int, p1: int) -> Iterator[tuple[int, slice, slice]]:
    """For outputs p0..p1 of an input of ``size``: (tap, the outputs for which it lies inside, the inputs it reads)."""
    k, s, pad, d = line
    for i in range(k):
        shift = i * d - pad
        a = max(p0, -(shift // s))  # the first output whose input is not negative
        b = min(p1, (size - 1 - shift) // s + 1)
        if a < b:
            yield i, slice(a - p0, b - p0), slice(a * s + shift, (b - 1) * s + shift + 1, s)


def _along(axis: int, where: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (where,)


def _gather(
    ufunc: Any, start: Any, source: np.ndarray, out: np.ndarray, axis: int, line: Line, p0: int, p1: int
) -> None:
    """``out[p] = ufunc over taps of source[...]`` along an axis; ``start`` where no tap lies inside."""
    taps = [(o, i) for _, o, i in _taps(line, source.shape[axis], p0, p1)]
    whole = [t for t in taps if t[0] == slice(0, p1 - p0)]
    if not whole:
        out[...] = start
    elif len(whole) == 1:
        np.copyto(out, source[_along(axis, whole[0][1])])
    else:
        ufunc(source[_along(axis, whole[0][1])], source[_along(axis, whole[1][1])], out=out)
    for tap in taps:
        if tap not in whole[:2]:
            part = out[_along(axis, tap[0])]
            ufunc(part, source[_along(axis, tap[1])], out=part)


def _spread(source: np.ndarray, out: np.ndarray, axis: int, line: Line) -> None:
    """The transpose of ``_gather`` with addition: each input gets the sum of the outputs whose taps read it."""
    out[...] = 0
    for _, outputs, inputs in _taps(line, out.shape[axis], 0, source.shape[axis]):
        part = out[_along(axis, inputs)]
        np.add(part, source[_along(axis, outputs)], out=part)


def _pool(
    ufunc: Any,
    start: Any,
    x: np.ndarray,
    out: np.ndarray,
    rows: Line,
    columns: Line,
    finish: Callable[[np.ndarray, int, int], None] | None = None,
) -> None:
    """x (N, H, W, C) -> out (N, OH, OW, C); ``finish(block, p0, p1)`` ends the work on output rows p0..p1."""
    N, H, W, C = x.shape
    OH = out.shape[1]
    if not out.size:
        return

    def body(n0: int, n1: int, p0: int, p1: int) -> None:
        t = scratch("pool_rows", (n1 - n0, p1 - p0, W, C), x.dtype)
        _gather(ufunc, start, x[n0:n1], t, 1, rows, p0, p1)
        block = out[n0:n1, p0:p1]
        _gather(ufunc, start, t, block, 2, columns, 0, out.shape[2])
        if finish is not None:
            finish(block, p0, p1)

    run(body, blocks(N, OH, max(1, W * C * rows[1]), _block(), get_num_threads()))


def _images(body: Callable[[int, int], None], x: np.ndarray) -> None:
    """Run ``body(n0, n1)`` over stretches of images."""
    run(body, parts(len(x), get_num_threads() if x.size > BLOCK else 1))


def _lines(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[Line, Line]:
    rows, columns = zip(kernel, stride, padding, dilation, strict=True)
    return rows, columns


# ---------------------------------------------------------------------------------------------------------------- max


def _least(dtype: Any) -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


@quiet
def max_pool2d(x: np.ndarray, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> np.ndarray:
    """x (N, C, H, W) -> the maxima (N, C, *size). NaN anywhere in a window gives NaN."""
    x_last = _last(x, x.dtype)
    N, _, _, C = x_last.shape
    out = empty((N, *size, C), x.dtype)
    _pool(np.maximum, _least(x.dtype), x_last, out, *_lines(kernel, stride, padding, dilation))
    return out.transpose(0, 3, 1, 2)


def _code(kernel: Pair) -> Any:
    return np.uint8 if kernel[0] * kernel[1] < 256 else np.uint16 if kernel[0] * kernel[1] < 65536 else np.int32


@quiet
def max_pool2d_taps(
    x: np.ndarray, out: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Which tap i * kw + j of its window each maximum of ``out`` = max_pool2d(x, ...) came from: the first that equals
    it; the last NaN where there are any. (N, OH, OW, C), unsigned."""
    x_last, y = _last(x, x.dtype), _last(out, out.dtype)
    rows, columns = _lines(kernel, stride, padding, dilation)
    N, OH, OW, C = y.shape
    count, code = kernel[0] * kernel[1], _code(kernel)
    taps = empty(y.shape, code)

    def body(n0: int, n1: int, p0: int, p1: int) -> None:
        block, best = y[n0:n1, p0:p1], taps[n0:n1, p0:p1]
        best[...] = 0  # count - tap, so that the first tap has the greatest
        equal, value = scratch("pool_equal", block.shape, np.bool_), scratch("pool_code", block.shape, code)
        for tap, place, source in _windows(x_last[n0:n1], rows, columns, p0, p1, OW):
            e, v, b = equal[place], value[place], best[place]
            np.equal(source, block[place], out=e)
            np.multiply(e.view(np.uint8), code(count - tap), out=v)
            np.maximum(b, v, out=b)
        np.subtract(code(count), best, out=best)
        if x.dtype.kind not in "iu" and not finite(block):
            for tap, place, source in _windows(x_last[n0:n1], rows, columns, p0, p1, OW):
                np.copyto(best[place], code(tap), where=np.isnan(source))

    run(body, blocks(N, OH, max(1, OW * C), _block(), get_num_threads()) if y.size else [])
    return taps


def max_pool2d_with_taps(
    x: np.ndarray, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """``max_pool2d`` and ``max_pool2d_taps``."""
    out = max_pool2d(x, size, kernel, stride, padding, dilation)
    return out, max_pool2d_taps(x, out, kernel, stride, padding, dilation)


def _windows(
    x: np.ndarray, rows: Line, columns: Line, p0: int, p1: int, OW: int
) -> Iterator[tuple[int, Any, np.ndarray]]:
    """For every tap: (its number, the block's outputs for which it lies inside, what it reads there)."""
    for i, o_rows, i_rows in _taps(rows, x.shape[1], p0, p1):
        for j, o_columns, i_columns in _taps(columns, x.shape[2], 0, OW):
            yield i * columns[0] + j, (slice(None), o_rows, o_columns), x[:, i_rows, i_columns]


def max_pool2d_indices(
    taps: np.ndarray, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """PyTorch's indices: the flat position h * W + w of each maximum in its plane (H, W) = ``size``; (N, C, OH, OW)."""
    _, OH, OW, _ = taps.shape
    tap_row, tap_column = np.divmod(taps.astype(np.int64), kernel[1])
    h = tap_row * dilation[0] + (np.arange(OH) * stride[0] - padding[0])[:, None, None]
    w = tap_column * dilation[1] + (np.arange(OW) * stride[1] - padding[1])[:, None]
    return np.array((h * size[1] + w).transpose(0, 3, 1, 2), order="C")


@quiet
def max_pool2d_scatter(
    dy: np.ndarray, taps: np.ndarray, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """dy (N, C, OH, OW) added to the places its maxima came from; zero elsewhere. -> (N, C, *size)."""
    d = _last(dy)
    rows, columns = _lines(kernel, stride, padding, dilation)
    dx = empty((d.shape[0], *size, d.shape[3]), d.dtype)

    def body(n0: int, n1: int) -> None:
        for n in range(n0, n1):  # an image at a time, for the cache
            image, source, tap = dx[n : n + 1], d[n : n + 1], taps[n : n + 1]
            image[...] = 0
            product, ordinary = scratch("pool_product", source.shape, d.dtype), finite(source)
            for number, place, part in _windows(image, rows, columns, 0, d.shape[1], d.shape[2]):
                mine, p = tap[place] == number, product[place]
                if ordinary:
                    np.multiply(source[place], mine, out=p)
                else:
                    p[...] = np.where(mine, source[place], 0)
                np.add(part, p, out=part)

    _images(body, dx)
    return dx.astype(dy.dtype, copy=False).transpose(0, 3, 1, 2)


@quiet
def max_pool2d_gather(
    x: np.ndarray, taps: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """x (N, C, H, W) at the places that ``taps`` (N, OH, OW, C) name. -> (N, C, OH, OW)."""
    x_last = _last(x, x.dtype)
    rows, columns = _lines(kernel, stride, padding, dilation)
    out = empty(taps.shape, x.dtype)

    def body(n0: int, n1: int) -> None:
        windows = _windows(x_last[n0:n1], rows, columns, 0, taps.shape[1], taps.shape[2])
        for number, place, source in windows:
            np.copyto(out[n0:n1][place], source, where=taps[n0:n1][place] == number)

    _images(body, out)
    return out.transpose(0, 3, 1, 2)


# ------------------------------------------------------------------------------------------------------------ average


def _divisors(
    H: int, W: int, size: Pair, rows: Line, columns: Line, count_include_pad: bool, override: int | None
) -> Any:
    """What the sums are divided by: one number, or an array (OH, OW, 1)."""
    if override is not None:
        return override

    def lengths(line: Line, outputs: int, length: int) -> np.ndarray:
        k, s, pad, _ = line
        start = np.arange(outputs) * s - pad
        stop = np.minimum(start + k, length + pad)
        if not count_include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, length)
        return stop - start

    table = lengths(rows, size[0], H)[:, None] * lengths(columns, size[1], W)
    return int(table.flat[0]) if table.size and (table == table.flat[0]).all() else table[:, :, None]


def _divide(block: np.ndarray, divisors: Any, p0: int, p1: int) -> None:
    if isinstance(divisors, int):
        divide, by = (np.divide, block.dtype.type(divisors)) if block.dtype.kind == "f" else (_truncate, divisors)
    else:
        divide, by = np.divide, divisors[p0:p1].astype(block.dtype)
        if block.dtype.kind != "f":
            divide = _truncate
    divide(block, by, out=block)


def _truncate(a: np.ndarray, b: Any, out: np.ndarray) -> None:
    """Integer division as C does it, towards zero."""
    out[...] = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


@quiet
def avg_pool2d(
    x: np.ndarray,
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:
    """x (N, C, H, W) -> the averages (N, C, *size)."""
    x_last = _last(x)
    N, H, W, C = x_last.shape
    rows, columns = _lines(kernel, stride, padding, (1, 1))
    divisors = _divisors(H, W, size, rows, columns, count_include_pad, divisor_override)
    out = empty((N, *size, C), x_last.dtype)
    _pool(np.add, 0, x_last, out, rows, columns, lambda block, p0, p1: _divide(block, divisors, p0, p1))
    return out.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


@quiet
def avg_pool2d_backward(
    dy: np.ndarray,
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:
    """dy (N, C, OH, OW) -> dx (N, C, *size)."""
    d = _last(dy)
    N, OH, OW, C = d.shape
    rows, columns = _lines(kernel, stride, padding, (1, 1))
    divisors = _divisors(*size, (OH, OW), rows, columns, count_include_pad, divisor_override)
    dx = empty((N, *size, C), d.dtype)

    def body(n0: int, n1: int) -> None:
        for n in range(n0, n1):
            share = scratch("pool_share", (1, OH, OW, C), d.dtype)
            np.copyto(share, d[n : n + 1])
            _divide(share, divisors, 0, OH)
            t = scratch("pool_rows", (1, OH, size[1], C), d.dtype)
            _spread(share, t, 2, columns)
            _spread(t, dx[n : n + 1], 1, rows)

    _images(body, dx)
    return dx.astype(dy.dtype, copy=False).transpose(0, 3, 1, 2)


# ----------------------------------------------------------------------------------------------------------- adaptive


def _cells(length: int, count: int) -> list[Pair]:
    """The stretches (start, stop) that ``count`` adaptive outputs cover: they may share inputs."""
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


@cache
def _averaging(length: int, count: int, dtype: Any) -> np.ndarray:
    """(count, length): row i averages the i-th cell."""
    matrix = np.zeros((count, length), dtype)
    for i, (a, b) in enumerate(_cells(length, count)):
        matrix[i, a:b] = 1 / (b - a)
    return matrix


def safely(out: np.ndarray, cell_by_cell: Any, x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The result of a product of matrices, if it is finite: an infinite element, times 0, spoils other cells. Else the
    same computed cell by cell."""
    return out if finite(out) else cell_by_cell(x, size)


def cell_means(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The averages of the cells of x (N, *, C)."""
    for axis, count in enumerate(size, 1):
        x = np.stack([x.take(range(a, b), axis).mean(axis) for a, b in _cells(x.shape[axis], count)], axis)
    return x


def cell_spread(dy: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The gradient of the averages (N, *, C) by the elements of the cells."""
    for axis, length in enumerate(size, 1):
        dx = np.zeros((*dy.shape[:axis], length, *dy.shape[axis + 1:]), dy.dtype)
        to, source = np.moveaxis(dx, axis, 0), np.moveaxis(dy, axis, 0)
        for g, (a, b) in zip(source, _cells(length, dy.shape[axis]), strict=True):
            to[a:b] += g / (b - a)
        dy = dx
    return dy


def _sandwich(x: np.ndarray, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """``A x Bᵀ`` of every image and channel: x (N, H, W, C), A (P, H), B (Q, W) -> (N, P, Q, C)."""
    N, H, W, C = x.shape
    with one_blas_thread():
        if len(A) * W <= len(B) * H:
            t = np.matmul(A, x.reshape(N, H, W * C)).reshape(N, len(A), W, C)
            return np.matmul(B, t)
        return np.matmul(A, np.matmul(B, x).reshape(N, H, len(B) * C)).reshape(N, len(A), len(B), C)


@quiet
def adaptive_avg_pool2d(x: np.ndarray, size: Pair) -> np.ndarray:
    """x (N, C, H, W) -> the averages of size[0] x size[1] cells (N, C, *size)."""
    d = _last(x)
    N, H, W, C = d.shape
    if size == (1, 1) and H * W:
        pixels = d.reshape(N, H * W, C)
        with one_blas_thread():
            out = np.matmul(_averaging(H * W, 1, d.dtype), pixels).reshape(N, 1, 1, C)
    else:
        A, B = _averaging(H, size[0], d.dtype), _averaging(W, size[1], d.dtype)
        out = safely(_sandwich(d, A, B), cell_means, d, size)
    return out.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


@quiet
def adaptive_avg_pool2d_backward(dy: np.ndarray, size: Pair, last: bool = False) -> np.ndarray:
    """dy (N, C, OH, OW) -> dx (N, C, *size) in NHWC storage, whatever ``last`` says."""
    d = _last(dy)
    A, B = (_averaging(length, count, d.dtype).T for length, count in zip(size, d.shape[1:3], strict=True))
    return safely(_sandwich(d, A, B), cell_spread, d, size).astype(dy.dtype, copy=False).transpose(0, 3, 1, 2)


@quiet
def adaptive_max_pool2d(x: np.ndarray, size: Pair) -> tuple[np.ndarray, np.ndarray]:
    """x (N, C, H, W) -> the maxima of size[0] x size[1] cells and their flat positions int64, both (N, C, *size)."""
    N, C, H, W = x.shape
    out, indices = np.empty((N, C, *size), x.dtype), np.empty((N, C, *size), np.int64)
    for i, (a, b) in enumerate(_cells(H, size[0])):
        for j, (c, e) in enumerate(_cells(W, size[1])):
            cell = x[:, :, a:b, c:e].reshape(N, C, (b - a) * (e - c))
            best = cell.argmax(2)
            nan = np.isnan(cell)
            if nan.any():  # the last NaN wins
                last = cell.shape[2] - 1 - nan[:, :, ::-1].argmax(2)
                best = np.where(nan.any(2), last, best)
            out[:, :, i, j] = np.take_along_axis(cell, best[:, :, None], 2)[:, :, 0]
            row, column = np.divmod(best, e - c)
            indices[:, :, i, j] = (row + a) * W + column + c
    return out, indices


@quiet
def index_scatter(dy: np.ndarray, indices: np.ndarray, size: Pair) -> np.ndarray:
    """dy (N, C, OH, OW) added at the flat positions of planes of ``size`` that ``adaptive_max_pool2d`` gave;
    -> (N, C, *size)."""
    N, C = dy.shape[:2]
    dx = np.zeros((N * C, size[0] * size[1]), compute_dtype(dy.dtype))
    plane, cells = np.arange(N * C)[:, None], indices.shape[2] * indices.shape[3]
    np.add.at(dx, (plane, indices.reshape(N * C, cells)), dy.reshape(N * C, cells).astype(dx.dtype, copy=False))
    return dx.astype(dy.dtype, copy=False).reshape(N, C, *size)


def index_gather(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """x (N, C, H, W) at flat positions of its planes; -> the shape of ``indices``."""
    N, C = x.shape[:2]
    planes, cells = x.reshape(N, C, x.shape[2] * x.shape[3]), indices.shape[2] * indices.shape[3]
    return np.take_along_axis(planes, indices.reshape(N, C, cells), 2).reshape(indices.shape)
