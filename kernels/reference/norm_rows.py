"""Layer, root-mean-square and group norm of NumPy arrays: norms of rows (group norm is a layer norm of groups).

    layer norm  y = (x - mean) rstd w + b,   rstd = 1 / sqrt(var + eps)
    RMS norm    y = x rstd w,                rstd = 1 / sqrt(mean(x^2) + eps)

16-bit floats are computed in float32 and rounded once; statistics stay float32 (float64 for float64).
"""

from __future__ import annotations

import numpy as np

from tritium.kernels.reference.conv import compute_dtype
from tritium.kernels.reference.parallel import empty, parts, run, scratch
from tritium.kernels.reference.quiet import quiet

BLOCK = 1 << 19  # elements that one task works on


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


# ---------------------------------------------------------------------------------------------------------- RMS norm


@quiet
def rms_norm(x: np.ndarray, weight: np.ndarray | None, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(y, rstd): each row of x (R, D) divided by its root mean square; weight (D,); rstd (R, 1)."""
    dtype = compute_dtype(x.dtype)
    R, D = x.shape
    y, rstd = empty((R, D), dtype), np.empty((R, 1), dtype)
    average = np.full((D, 1), 1 / max(D, 1), dtype)
    w = None if weight is None else weight.astype(dtype, copy=False)

    def body(first: int, last: int) -> None:
        block, out = np.ascontiguousarray(x[first:last], dtype), y[first:last]
        np.multiply(block, block, out=out)
        np.divide(dtype.type(1), np.sqrt(np.matmul(out, average) + dtype.type(eps)), out=rstd[first:last])
        np.multiply(block, rstd[first:last], out=out)
        if w is not None:
            np.multiply(out, w, out=out)

    run(body, parts(R, -(-x.size // BLOCK)) if R else [])
    return y.astype(x.dtype, copy=False), rstd


@quiet
def rms_norm_backward(
    dy: np.ndarray, x: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(dx (R, D), dweight (D,)).

    h = x rstd,  g = dy weight
    dx = rstd (g - h mean(g h)),  dweight = sum dy h"""
    dtype = compute_dtype(x.dtype)
    R, D = x.shape
    cuts = [(i, a, b) for i, (a, b) in enumerate(parts(R, -(-x.size // BLOCK)))] if R else []
    dx, weights = empty((R, D), dtype), np.zeros((len(cuts), D), dtype)
    average = np.full((D, 1), 1 / max(D, 1), dtype)
    w = None if weight is None else weight.astype(dtype, copy=False)

    def body(i: int, first: int, last: int) -> None:
        g = np.array(dy[first:last], dtype, order="C")
        h, t = scratch("norm_normalized", g.shape, dtype), scratch("norm_deviation", g.shape, dtype)
        np.multiply(x[first:last], rstd[first:last], out=h)
        np.multiply(g, h, out=t)
        np.matmul(np.ones(last - first, dtype), t, out=weights[i])
        if w is not None:
            np.multiply(g, w, out=g)
            np.multiply(t, w, out=t)
        np.multiply(h, np.matmul(t, average), out=h)
        np.subtract(g, h, out=g)
        np.multiply(g, rstd[first:last], out=dx[first:last])

    run(body, cuts)
    parameter = dtype if weight is None else weight.dtype
    return dx.astype(x.dtype, copy=False), weights.sum(0, dtype=np.float64).astype(parameter)


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
