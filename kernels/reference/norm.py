"""Normalization of NumPy arrays: batch norm over channels, and layer norm over rows (group norm is a layer norm of
groups).

    y = (x - mean) * invstd * weight + bias,    invstd = 1 / sqrt(var + eps)

Batch norm works on (rows, C) with the channels adjacent. Sums over rows are products with a vector of ones. Mean and
sum of squared deviations are taken of one block while it is in cache, and blocks are combined in float64 by the formula
of Chan, Golub and LeVeque (1979): one pass over memory, no cancellation.

16-bit floats are computed in float32 and rounded once; statistics stay float32 (float64 for float64).
"""

from __future__ import annotations

import numpy as np

from tritium.kernels.reference.conv import compute_dtype
from tritium.kernels.reference.parallel import empty, get_num_threads, parts, run, scratch
from tritium.kernels.reference.quiet import quiet

BLOCK = 1 << 19  # elements that one task works on


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, C, *) as (rows, C), C adjacent, in the dtype to compute in; a view of channels-last storage."""
    last = np.moveaxis(x, 1, -1).astype(compute_dtype(x.dtype), copy=False)
    return np.ascontiguousarray(last).reshape(-1, x.shape[1])


def _like(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(rows, C) in the shape and dtype of x (N, C, *), with channels-last storage."""
    last = rows.reshape(x.shape[0], *x.shape[2:], x.shape[1])
    return np.moveaxis(last, -1, 1).astype(x.dtype, copy=False)


def _blocks(x: np.ndarray) -> list[tuple[int, int, int]]:
    """(number, first row, last row) of blocks; a multiple of the number of threads where there are several."""
    count = -(-x.size // BLOCK)
    if count > 1:
        count = -(-count // get_num_threads()) * get_num_threads()
    return [(i, a, b) for i, (a, b) in enumerate(parts(len(x), count))]


def _wide(rows: np.ndarray, *vectors: np.ndarray) -> tuple[np.ndarray, ...]:
    """Contiguous rows and vectors (C,) reshaped so that the inner loops are long: several rows to one."""
    R, C = rows.shape
    many = next((m for m in (256, 128, 64, 56, 32, 28, 16, 14, 8, 7, 4, 2) if m * C <= 8192 and R % m == 0), 1)
    if many == 1 or C > 512:
        return (rows, *vectors)
    return (rows.reshape(-1, many * C), *[np.tile(v, many) for v in vectors])


# --------------------------------------------------------------------------------------------------------- batch norm


@quiet
def batch_stats(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel of x (N, C, *), float64 (C,)."""
    rows = _rows(x)
    R, C = rows.shape
    cuts = _blocks(rows)
    means, squares = np.zeros((len(cuts), C)), np.zeros((len(cuts), C))

    def body(i: int, a: int, b: int) -> None:
        block, ones = rows[a:b], np.ones(b - a, rows.dtype)
        near = np.matmul(ones, block) / rows.dtype.type(b - a)
        t = scratch("norm_deviation", block.shape, rows.dtype)
        _subtract(block, near, t)
        rest = np.matmul(ones, t).astype(np.float64) / (b - a)  # what rounding kept from the mean
        np.multiply(t, t, out=t)
        means[i] = near + rest
        squares[i] = np.matmul(ones, t) - (b - a) * rest**2

    run(body, cuts)
    sizes = np.array([b - a for _, a, b in cuts], np.float64)[:, None]
    mean = (means * sizes).sum(0) / R
    var = (squares.sum(0) + (sizes * (means - mean) ** 2).sum(0)) / R
    return mean, var


def _subtract(block: np.ndarray, vector: np.ndarray, out: np.ndarray) -> None:
    wide, v = _wide(block, vector)
    np.subtract(wide, v, out=out.reshape(wide.shape))


@quiet
def batch_apply(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``x * scale + shift`` with (C,) vectors; x (N, C, *), result in channels-last storage."""
    rows = _rows(x)
    scale, shift = scale.astype(rows.dtype), shift.astype(rows.dtype)
    out = empty(rows.shape, rows.dtype)

    def body(_: int, a: int, b: int) -> None:
        block, k, c = _wide(rows[a:b], scale, shift)
        y = out[a:b].reshape(block.shape)
        np.multiply(block, k, out=y)
        np.add(y, c, out=y)

    run(body, _blocks(rows))
    return _like(out, x)


def affine(
    mean: np.ndarray, var: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(invstd, scale, shift), float64 (C,): batch norm is ``x * scale + shift``."""
    invstd = 1 / np.sqrt(var.astype(np.float64) + eps)
    scale = invstd if weight is None else invstd * weight.astype(np.float64)
    shift = -mean.astype(np.float64) * scale
    return invstd, scale, shift if bias is None else shift + bias.astype(np.float64)


@quiet
def batch_norm_train(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    momentum: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, invstd, var): x (N, C, *) normalized by its own statistics; those are float64, var biased. Running
    statistics (with the unbiased variance) move by ``momentum``, in place."""
    mean, var = batch_stats(x)
    if running_mean is not None:
        update_running(running_mean, mean, momentum)
    if running_var is not None:
        count = x.size // x.shape[1]
        update_running(running_var, var * (count / (count - 1)), momentum)
    invstd, scale, shift = affine(mean, var, weight, bias, eps)
    return batch_apply(x, scale, shift), mean, invstd, var


@quiet
def batch_norm_eval(
    x: np.ndarray, mean: np.ndarray, var: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> np.ndarray:
    """x (N, C, *) normalized by given statistics."""
    return batch_apply(x, *affine(mean, var, weight, bias, eps)[1:])


@quiet
def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    invstd: np.ndarray,
    weight: np.ndarray | None,
    train: bool,
    needs_input: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """(dx, dweight, dbias). ``train``: mean and invstd are functions of x; else constants.

    dbias = sum dy,  dweight = sum dy (x - mean) invstd
    dx = weight invstd (dy - dbias / M - (x - mean) invstd dweight / M)   over M = N * pixels"""
    rows, d = _rows(x), _rows(dy)
    M, C = rows.shape
    dtype, cuts = rows.dtype, _blocks(rows)
    center = mean.astype(dtype)
    biases, weights = np.zeros((len(cuts), C), dtype), np.zeros((len(cuts), C), dtype)

    def sums(i: int, a: int, b: int) -> None:
        ones, t = np.ones(b - a, dtype), scratch("norm_deviation", (b - a, C), dtype)
        np.matmul(ones, d[a:b], out=biases[i])
        _subtract(rows[a:b], center, t)
        np.multiply(t, d[a:b], out=t)
        np.matmul(ones, t, out=weights[i])

    run(sums, cuts)
    dbias = biases.sum(0, dtype=np.float64)
    dweight = weights.sum(0, dtype=np.float64) * invstd
    parameter = dtype if weight is None else weight.dtype
    grads = dweight.astype(parameter), dbias.astype(parameter)
    if not needs_input:
        return (None, *grads)
    k = invstd if weight is None else invstd * weight.astype(np.float64)
    p = -k * invstd * dweight / max(M, 1)
    q = -k * dbias / max(M, 1) - p * mean
    dx = empty(rows.shape, dtype)
    k, p, q = (v.astype(dtype) for v in (k, p, q))

    def body(_: int, a: int, b: int) -> None:
        block, kk, pp, qq = _wide(d[a:b], k, p, q)
        out = dx[a:b].reshape(block.shape)
        np.multiply(block, kk, out=out)
        if train:
            t = scratch("norm_deviation", block.shape, dtype)
            np.multiply(rows[a:b].reshape(block.shape), pp, out=t)
            np.add(t, qq, out=t)
            np.add(out, t, out=out)

    run(body, cuts)
    return (_like(dx, x), *grads)


# --------------------------------------------------------------------------------------------------------- layer norm


@quiet
def layer_norm(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, rstd): each row of x (R, D) normalized; weight and bias (D,); mean and rstd (R, 1)."""
    dtype = compute_dtype(x.dtype)
    R, D = x.shape
    y, mean, rstd = empty((R, D), dtype), np.empty((R, 1), dtype), np.empty((R, 1), dtype)
    average = np.full((D, 1), 1 / max(D, 1), dtype)
    w = None if weight is None else weight.astype(dtype, copy=False)
    b = None if bias is None else bias.astype(dtype, copy=False)

    def body(first: int, last: int) -> None:
        block, out = np.ascontiguousarray(x[first:last], dtype), y[first:last]
        np.matmul(block, average, out=mean[first:last])
        np.subtract(block, mean[first:last], out=out)
        t = scratch("norm_deviation", out.shape, dtype)
        np.multiply(out, out, out=t)
        var = np.matmul(t, average)
        np.divide(dtype.type(1), np.sqrt(var + dtype.type(eps)), out=rstd[first:last])
        np.multiply(out, rstd[first:last], out=out)
        if w is not None:
            np.multiply(out, w, out=out)
        if b is not None:
            np.add(out, b, out=out)

    run(body, parts(R, -(-x.size // BLOCK)) if R else [])
    return y.astype(x.dtype, copy=False), mean, rstd


@quiet
def layer_norm_backward(
    dy: np.ndarray, x: np.ndarray, mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx (R, D), dweight (D,), dbias (D,)).

    h = (x - mean) rstd,  g = dy weight
    dx = rstd (g - mean(g) - h mean(g h)),  dweight = sum dy h,  dbias = sum dy"""
    dtype = compute_dtype(x.dtype)
    R, D = x.shape
    cuts = [(i, a, b) for i, (a, b) in enumerate(parts(R, -(-x.size // BLOCK)))] if R else []
    dx, weights, biases = empty((R, D), dtype), np.zeros((len(cuts), D), dtype), np.zeros((len(cuts), D), dtype)
    average = np.full((D, 1), 1 / max(D, 1), dtype)
    w = None if weight is None else weight.astype(dtype, copy=False)

    def body(i: int, first: int, last: int) -> None:
        g, ones = np.array(dy[first:last], dtype, order="C"), np.ones(last - first, dtype)
        h = scratch("norm_normalized", g.shape, dtype)
        np.subtract(x[first:last], mean[first:last], out=h)
        np.multiply(h, rstd[first:last], out=h)
        np.matmul(ones, g, out=biases[i])
        t = scratch("norm_deviation", g.shape, dtype)
        np.multiply(g, h, out=t)
        np.matmul(ones, t, out=weights[i])
        if w is not None:
            np.multiply(g, w, out=g)
            np.multiply(t, w, out=t)
        along = np.matmul(t, average)
        np.subtract(g, np.matmul(g, average), out=g)
        np.multiply(h, along, out=h)
        np.subtract(g, h, out=g)
        np.multiply(g, rstd[first:last], out=dx[first:last])

    run(body, cuts)
    parameter = dtype if weight is None else weight.dtype
    dweight, dbias = weights.sum(0, dtype=np.float64), biases.sum(0, dtype=np.float64)
    return dx.astype(x.dtype, copy=False), dweight.astype(parameter), dbias.astype(parameter)


# -------------------------------------------------------------------------------------------------------- group norm


@quiet
def group_norm(
    x: np.ndarray, groups: int, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, rstd): each of ``groups`` groups of channels of x (N, C, *) normalized; statistics (N * groups, 1)."""
    rows = np.ascontiguousarray(x).reshape(x.shape[0] * groups, x.size // max(x.shape[0] * groups, 1))
    y, mean, rstd = layer_norm(rows, None, None, eps)
    y = y.reshape(x.shape)
    if weight is not None or bias is not None:
        wide = y.astype(compute_dtype(y.dtype), copy=False)
        ends = (1,) * (x.ndim - 2)
        if weight is not None:
            wide = np.multiply(wide, weight.reshape(-1, *ends).astype(wide.dtype))
        if bias is not None:
            wide = np.add(wide, bias.reshape(-1, *ends).astype(wide.dtype))
        y = wide.astype(x.dtype, copy=False)
    return y, mean, rstd


@quiet
def group_norm_backward(
    dy: np.ndarray, x: np.ndarray, groups: int, mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx (N, C, *), dweight (C,), dbias (C,))."""
    dtype, N, C = compute_dtype(x.dtype), *x.shape[:2]
    d = dy.astype(dtype, copy=False)
    rows = np.ascontiguousarray(x, dtype).reshape(N * groups, x.size // max(N * groups, 1))
    g = d if weight is None else d * weight.reshape(-1, *(1,) * (x.ndim - 2)).astype(dtype)
    dx = layer_norm_backward(np.ascontiguousarray(g).reshape(rows.shape), rows, mean, rstd, None)[0]
    h = ((rows - mean) * rstd).reshape(N, C, x.size // max(N * C, 1))
    planes = d.reshape(h.shape)
    parameter = dtype if weight is None else weight.dtype
    dweight = (planes * h).sum(2, dtype=np.float64).sum(0).astype(parameter)
    dbias = planes.sum(2, dtype=np.float64).sum(0).astype(parameter)
    return dx.reshape(x.shape).astype(x.dtype, copy=False), dweight, dbias


def update_running(running: np.ndarray, new: np.ndarray, momentum: float) -> None:
    """``running = (1 - momentum) * running + momentum * new``, in place."""
    running[...] = (1 - momentum) * running.astype(np.float64) + momentum * new
