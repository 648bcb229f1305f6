"""Normalization of NumPy arrays: batch norm over channels, with what may follow it. Norms of rows: ``norm_rows``.

    y = act((x - mean) * invstd * weight + bias + residual),    invstd = 1 / sqrt(var + eps)

Batch norm works on (rows, C) with the channels adjacent. Sums over rows are products with a vector of ones. Mean and
sum of squared deviations are taken of one block while it is in cache, and blocks are combined in float64 by the formula
of Chan, Golub and LeVeque (1979): one pass over memory, no cancellation.

16-bit floats are computed in float32 and rounded once; statistics stay float32 (float64 for float64).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.activation import BITS
from tritium.kernels.reference.conv import compute_dtype
from tritium.kernels.reference.norm_rows import group_norm as group_norm
from tritium.kernels.reference.norm_rows import group_norm_backward as group_norm_backward
from tritium.kernels.reference.norm_rows import layer_norm as layer_norm
from tritium.kernels.reference.norm_rows import layer_norm_backward as layer_norm_backward
from tritium.kernels.reference.norm_rows import rms_norm as rms_norm
from tritium.kernels.reference.norm_rows import rms_norm_backward as rms_norm_backward
from tritium.kernels.reference.parallel import empty, get_num_threads, parts, run, scratch
from tritium.kernels.reference.patches import _against
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
def batch_apply(
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    residual: np.ndarray | None = None,
    activation: str | None = None,
) -> np.ndarray:
    """``activation(x * scale + shift + residual)`` with (C,) vectors; x (N, C, *), result in channels-last storage.

    ``residual`` has the shape and dtype of x; ``activation`` is None, "relu" or "relu6"."""
    rows = _rows(x)
    scale, shift = scale.astype(rows.dtype), shift.astype(rows.dtype)
    out = empty(rows.shape, rows.dtype)
    added = None if residual is None else _rows(residual)

    def body(_: int, a: int, b: int) -> None:
        block, k, c = _wide(rows[a:b], scale, shift)
        y = out[a:b].reshape(block.shape)
        np.multiply(block, k, out=y)
        np.add(y, c, out=y)
        if added is not None:
            np.add(y, added[a:b].reshape(block.shape), out=y)
        if activation is not None:
            _against(np.maximum, y, 0)
            if activation == "relu6":
                _against(np.minimum, y, 6)

    run(body, _blocks(rows))
    return _like(out, x)


def _stopped(z: np.ndarray, activation: str, shift: Any = 0) -> np.ndarray:
    """Where the activation of ``z + shift`` stops a gradient; nan passes it, as in PyTorch."""
    stopped = z <= -shift
    if activation == "relu6":
        stopped |= z >= 6 - shift
    return stopped


def affine(
    mean: np.ndarray, var: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(invstd, scale, shift), float64 (C,): batch norm is ``x * scale + shift``."""
    invstd = 1 / np.sqrt(var.astype(np.float64) + eps)
    return invstd, *_scale_and_shift(mean, invstd, weight, bias)


def _scale_and_shift(
    mean: np.ndarray, invstd: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    scale = invstd if weight is None else invstd * weight.astype(np.float64)
    shift = -mean.astype(np.float64) * scale
    return scale, shift if bias is None else shift + bias.astype(np.float64)


@quiet
def batch_norm_train(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    momentum: float = 0.0,
    counter: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    activation: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, invstd, var): x (N, C, *) normalized by its own statistics, y = activation(batch norm + residual);
    statistics are float64, var biased. Running statistics (with the unbiased variance) move by ``momentum``, in place;
    ``counter``, an integer, goes up by one."""
    mean, var = batch_stats(x)
    if running_mean is not None:
        update_running(running_mean, mean, momentum)
    if running_var is not None:
        count = x.size // x.shape[1]
        update_running(running_var, var * (count / (count - 1)), momentum)
    if counter is not None:
        counter += 1
    invstd, scale, shift = affine(mean, var, weight, bias, eps)
    return batch_apply(x, scale, shift, residual, activation), mean, invstd, var


@quiet
def batch_norm_eval(
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    residual: np.ndarray | None = None,
    activation: str | None = None,
) -> np.ndarray:
    """x (N, C, *) normalized by given statistics: y = activation(batch norm + residual)."""
    return batch_apply(x, *affine(mean, var, weight, bias, eps)[1:], residual, activation)


def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    invstd: np.ndarray,
    weight: np.ndarray | None,
    train: bool,
    needs_input: bool = True,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """(dx, dweight, dbias) of a batch norm alone; see ``batch_norm_act_backward``."""
    return batch_norm_act_backward(dy, x, mean, invstd, weight, train, needs_input=needs_input)[:3]


@quiet
def batch_norm_act_backward(
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    invstd: np.ndarray,
    weight: np.ndarray | None,
    train: bool,
    activation: str | None = None,
    bias: np.ndarray | None = None,
    y: np.ndarray | None = None,
    eps: float | None = None,
    needs_input: bool = True,
    needs_weight: bool = True,
    needs_residual: bool = False,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """(dx, dweight, dbias, dresidual) of ``activation(batch norm of x + residual)``; None for what is not needed.

    ``train``: mean and invstd are functions of x; else constants, and with ``eps``, ``invstd`` is the variance.
    What the activation passes is told by its result ``y``, or without one (where nothing was added) by the batch norm
    taken again, for which ``bias`` is.

    dz = dy where the activation passes it,  dresidual = dz
    dbias = sum dz,  dweight = sum dz (x - mean) invstd
    dx = weight invstd (dz - dbias / M - (x - mean) invstd dweight / M)   over M = N * pixels"""
    if eps is not None:
        invstd = 1 / np.sqrt(invstd.astype(np.float64) + eps)
    rows, d = _rows(x), _rows(dy)
    M, C = rows.shape
    dtype, cuts = rows.dtype, _blocks(rows)
    told = None if y is None or activation is None else _rows(y)
    own = [v.astype(dtype) for v in _scale_and_shift(mean, invstd, weight, bias)]
    center = mean.astype(dtype)
    needs_sums = needs_weight or (train and needs_input)
    biases, weights = np.zeros((len(cuts), C), dtype), np.zeros((len(cuts), C), dtype)
    dz, bits = d if activation is None else empty(d.shape, dtype), BITS[dtype]

    def sums(i: int, a: int, b: int) -> None:
        ones, t = np.ones(b - a, dtype), scratch("norm_deviation", (b - a, C), dtype)
        if activation is not None:
            if told is not None:
                stopped = _stopped(told[a:b], activation)
            else:
                block, k, c = _wide(rows[a:b], *own)
                again = t.reshape(block.shape)
                np.multiply(block, k, out=again)
                stopped = _stopped(again, activation, c).reshape(t.shape)
            np.logical_not(stopped, out=stopped)
            np.multiply(d[a:b].view(bits), stopped, out=dz[a:b].view(bits))  # of the bits: 0 also for inf and nan
        if needs_sums:
            np.matmul(ones, dz[a:b], out=biases[i])
            _subtract(rows[a:b], center, t)
            np.multiply(t, dz[a:b], out=t)
            np.matmul(ones, t, out=weights[i])

    if needs_sums or activation is not None:
        run(sums, cuts)
    dbias = biases.sum(0, dtype=np.float64)
    dweight = weights.sum(0, dtype=np.float64) * invstd
    parameter = dtype if weight is None else weight.dtype
    grads = (dweight.astype(parameter), dbias.astype(parameter)) if needs_weight else (None, None)
    dresidual = _like(dz, x) if needs_residual else None
    if not needs_input:
        return None, *grads, dresidual
    k = invstd if weight is None else invstd * weight.astype(np.float64)
    p = -k * invstd * dweight / max(M, 1)
    q = -k * dbias / max(M, 1) - p * mean
    dx = empty(rows.shape, dtype)
    k, p, q = (v.astype(dtype) for v in (k, p, q))

    def body(_: int, a: int, b: int) -> None:
        block, kk, pp, qq = _wide(dz[a:b], k, p, q)
        out = dx[a:b].reshape(block.shape)
        np.multiply(block, kk, out=out)
        if train:
            t = scratch("norm_deviation", block.shape, dtype)
            np.multiply(rows[a:b].reshape(block.shape), pp, out=t)
            np.add(t, qq, out=t)
            np.add(out, t, out=out)

    run(body, cuts)
    return _like(dx, x), *grads, dresidual


def update_running(running: np.ndarray, new: np.ndarray, momentum: float) -> None:
    """``running = (1 - momentum) * running + momentum * new``, in place."""
    running[...] = (1 - momentum) * running.astype(np.float64) + momentum * new
