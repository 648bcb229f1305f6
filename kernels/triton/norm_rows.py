"""Layer, root-mean-square and group norm on the device: the launches of ``norm_row_kernels`` and ``norm_kernels``.

Rows that fit into a tile take one launch forward and two backward. A group norm is a batch norm of N * groups runs, and
then one of N * C channels. Arrays that are not contiguous are copied first. Statistics are float32 (float64 for
float64).
"""
from __future__ import annotations

import math

from tritium.kernels.array import DeviceArray
from tritium.kernels.triton import norm_forms as forms
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.memory import empty, zeros
from tritium.kernels.triton.norm_forms import ACC, Form, dense, empty_like, f64, laid_as, rows_of, vector, work_dtype
from tritium.kernels.triton.norm_kernels import group_means, sums
from tritium.kernels.triton.norm_launch import Passes, applied, joined, parameters, statistics, summed, written
from tritium.kernels.triton.norm_row_kernels import rows, rows_gradient
from tritium.kernels.triton.strided import power

Array = DeviceArray


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """(y, mean, rstd): each row of x (R, D) normalized; weight and bias (D,); mean and rstd (R, 1)."""
    y, mean, rstd = _rows(x, weight, bias, eps, False)
    assert mean is not None
    return y, mean, rstd


def rms_norm(x: Array, weight: Array | None, eps: float) -> tuple[Array, Array]:
    """(y, rstd): each row of x (R, D) divided by its root mean square; weight (D,); rstd (R, 1)."""
    y, _, rstd = _rows(x, weight, None, eps, True)
    return y, rstd


def _rows(x: Array, weight: Array | None, bias: Array | None, eps: float,
          rms: bool) -> tuple[Array, Array | None, Array]:
    x = dense(x)
    R, D = x.shape
    work, device = work_dtype(x.dtype), x.owner.device
    y = empty_like(x)
    mean = None if rms else (empty if x.size else zeros)((R, 1), work, device)
    rstd = empty((R, 1), work, device)
    if x.size:
        form = rows_of(x)
        launch = rows.bind(RMS=rms, WEIGHT=weight is not None, BIAS=bias is not None, **form.constants)
        launch(form.tiles, 1, 1, x, vector(weight, x), vector(bias, x), y, rstd if mean is None else mean, rstd,
               *form.numbers, 1 / D, float(eps))
    elif R:
        rstd.fill(1 / math.sqrt(eps) if eps > 0 else math.inf)
    return y, mean, rstd


def layer_norm_backward(dy: Array, x: Array, mean: Array, rstd: Array,
                        weight: Array | None) -> tuple[Array, Array, Array]:
    """(dx (R, D), dweight (D,), dbias (D,))."""
    return _rows_backward(dy, x, mean, rstd, weight)


def rms_norm_backward(dy: Array, x: Array, rstd: Array, weight: Array | None) -> tuple[Array, Array]:
    """(dx (R, D), dweight (D,))."""
    return _rows_backward(dy, x, None, rstd, weight)[:2]


def _rows_backward(dy: Array, x: Array, mean: Array | None, rstd: Array,
                   weight: Array | None) -> tuple[Array, Array, Array]:
    x = dense(x)
    R, D = x.shape
    work, device = work_dtype(x.dtype), x.owner.device
    if not x.size:
        return (empty_like(x), *parameters(D, x.dtype, weight, device, zeros))
    dx, dy, rstd = empty_like(x), laid_as(x, dy), dense(rstd)
    center = rstd if mean is None else dense(mean)
    form = rows_of(x)
    want = forms.wanted_programs() // (1 if D <= 2048 else 2)  # each writes a part of the sums
    span = max(-(-form.tiles // want), 1) if form.whole else 1
    programs = -(-form.tiles // span)
    parts = empty((2, programs, D) if form.whole else (2, 1, 1), work, device)
    launch = rows_gradient.bind(RMS=mean is None, WEIGHT=weight is not None, **form.constants)
    launch(programs, 1, 1, dy, x, dx, center, rstd, vector(weight, x), parts, *form.numbers, span, 1 / D)
    if form.form is not None:
        columns = form.form
        parts = empty((2, columns.splits, D), f64, device)
        wide = sums.bind(ACC=ACC[work], WEIGHT=False, **Passes().constants, GROUPED=False,
                         ROWS="rms" if mean is None else "layer", **columns.constants)
        wide(columns.programs, columns.splits, 1, dy, x, x, x, center, rstd, x, x, parts, *columns.numbers,
             columns.span, 1, 0.0)
    dweight, dbias = parameters(D, x.dtype, weight, device)
    joined(parts, dweight, None if mean is None else dbias)
    return dx, dweight, dbias


# --- group norm ---


def _runs(x: Array, C: int) -> Form:
    """x, which is contiguous, as C runs of elements."""
    key = (Form, C, x.size, x.dtype.itemsize)
    return remembered(key, Form, 1, C, x.size // C, False, x.dtype.itemsize)


def group_norm(x: Array, groups: int, weight: Array | None, bias: Array | None,
               eps: float) -> tuple[Array, Array, Array]:
    """(y, mean, rstd): each of ``groups`` groups of channels of x (N, C, *) normalized; statistics (N * groups, 1)."""
    x = dense(x)
    N, C = x.shape[:2]
    if not x.size:
        n = N * groups
        y, mean, rstd = layer_norm(x.reshape(n, x.size // max(n, 1)), None, None, eps)
        return y.reshape(x.shape), mean, rstd
    mean, rstd, _ = statistics(x, _runs(x, N * groups), eps, work_dtype(x.dtype), False)
    y = applied(x, _runs(x, N * C), "invstd", mean, rstd, weight, bias, per=C // groups, channels=C)
    return y, mean.reshape(-1, 1), rstd.reshape(-1, 1)


def group_norm_backward(dy: Array, x: Array, groups: int, mean: Array, rstd: Array,
                        weight: Array | None) -> tuple[Array, Array, Array]:
    """(dx (N, C, *), dweight (C,), dbias (C,))."""
    x = dense(x)
    (N, C), device = x.shape[:2], x.owner.device
    if not x.size:
        return (empty_like(x), *parameters(C, x.dtype, weight, device, zeros))
    dy, mean, rstd = laid_as(x, dy), dense(mean), dense(rstd)
    per, S = C // groups, x.size // (N * C)
    form = _runs(x, N * C)
    totals = summed(dy, x, form, mean, rstd, per=per)
    if form.splits > 1:
        totals = joined(totals)
    dweight, dbias = parameters(C, x.dtype, weight, device)
    joined(totals.reshape(2, N, C), dweight, dbias)
    means = empty((2, N * groups), f64, device)
    br = min(power(per), 1024)
    bk = min(1024 // br, power(N * groups))
    launch = group_means.bind(WEIGHT=weight is not None, BK=bk, BR=br)
    launch(-(-N * groups // bk), 1, 1, totals, vector(weight, mean), means, N * groups, per, groups, float(per * S))
    dx = written(dy, x, form, mean, rstd, weight, Passes(), True, means, per=per, channels=C)
    return dx, dweight, dbias
