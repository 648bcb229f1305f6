"""Normalization kernels against their formulas in float64."""

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import norm, norm_rows

SHAPES = [(6, 3), (40, 70), (2, 5, 7), (2, 64, 9, 9), (3, 6, 3, 4, 5), (8, 16, 28, 28)]


def data(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape) + 0.5


def along(v, x):
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


@pytest.mark.parametrize("dtype,limit", [(np.float64, 1e-11), (np.float32, 2e-5)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm(shape, dtype, limit, monkeypatch):
    monkeypatch.setattr(norm, "BLOCK", 4096)  # several blocks also for small arrays
    x, dy, w, b = (
        a.astype(dtype) for a in (data(*shape), data(*shape, seed=1), data(shape[1], seed=2), data(shape[1], seed=3))
    )
    wide = x.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    M = x.size // x.shape[1]
    mean, var = wide.mean(axes), wide.var(axes)
    h = (wide - along(mean, x)) / np.sqrt(along(var, x) + 1e-5)
    y, m, invstd, v = norm.batch_norm_train(x, w, b, 1e-5)
    assert y.dtype == dtype and y.shape == x.shape
    assert np.allclose(y, h * along(w, x) + along(b, x), limit, limit)
    assert np.allclose(m, mean, limit, limit) and np.allclose(v, var, limit, limit)
    db, dw = dy.sum(axes, dtype=np.float64), (dy * h).sum(axes)
    dx = along(w * invstd, x) * (dy - along(db, x) / M - h * along(dw, x) / M)
    ours = norm.batch_norm_backward(dy, x, m, invstd, w, True)
    for a, e in zip(ours, (dx, dw, db), strict=True):
        assert a.dtype == dtype and np.allclose(a, e, limit * 10, limit * 10 * max(np.abs(e).max(), 1))
    running = np.abs(data(shape[1], seed=4))
    y = norm.batch_norm_eval(x, b, running.astype(dtype), w, b, 1e-5)
    k = w / np.sqrt(running + 1e-5)
    assert np.allclose(y, (wide - along(b, x)) * along(k, x) + along(b, x), limit, limit)
    dx, _, _ = norm.batch_norm_backward(dy, x, b, 1 / np.sqrt(running + 1e-5), w, False)
    assert np.allclose(dx, dy * along(k, x), limit, limit)


def test_no_cancellation():
    """A mean 10,000 times the deviation."""
    x = (data(8, 4, 32, 32) + 10_000).astype(np.float32)
    mean, var = norm.batch_stats(x)
    assert np.allclose(var, x.astype(np.float64).var((0, 2, 3)), rtol=1e-3)
    assert np.allclose(mean, x.astype(np.float64).mean((0, 2, 3)), rtol=1e-7)


def test_low_precision():
    x = data(4, 8, 10, 10).astype(ml_dtypes.bfloat16)
    y, mean, _, _ = norm.batch_norm_train(x, None, None, 1e-5)
    exact = norm.batch_norm_train(x.astype(np.float64), None, None, 1e-5)[0]
    assert y.dtype == x.dtype and np.abs(y.astype(float) - exact).max() < 0.02 and mean.dtype == np.float64


def test_update_running():
    running = np.ones(3, np.float32)
    norm.update_running(running, np.array([2.0, 3.0, 4.0]), 0.25)
    assert np.allclose(running, [1.25, 1.5, 1.75])


@pytest.mark.parametrize("dtype,limit", [(np.float64, 1e-11), (np.float32, 2e-5)])
@pytest.mark.parametrize("shape", [(3, 5), (100, 64), (0, 4), (1, 1)])
def test_layer_norm(shape, dtype, limit, monkeypatch):
    monkeypatch.setattr(norm_rows, "BLOCK", 1024)
    x, dy, w, b = (
        a.astype(dtype) for a in (data(*shape), data(*shape, seed=1), data(shape[1], seed=2), data(shape[1], seed=3))
    )
    wide = x.astype(np.float64)
    rstd = 1 / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    h = (wide - wide.mean(1, keepdims=True)) * rstd
    y, mean, r = norm.layer_norm(x, w, b, 1e-5)
    assert y.dtype == dtype and np.allclose(y, h * w + b, limit, limit * 100)
    g = dy * w
    dx = rstd * (g - g.mean(1, keepdims=True) - h * (g * h).mean(1, keepdims=True))
    ours = norm.layer_norm_backward(dy, x, mean, r, w)
    for a, e in zip(ours, (dx, (dy * h).sum(0), dy.sum(0)), strict=True):
        assert np.allclose(a, e, limit * 10, limit * 100)


def test_group_norm():
    x, dy, w, b = data(3, 6, 4, 5), data(3, 6, 4, 5, seed=1), data(6, seed=2), data(6, seed=3)
    y, mean, rstd = norm.group_norm(x, 2, w, b, 1e-5)
    rows = x.reshape(3, 2, -1)
    h = ((rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + 1e-5)).reshape(x.shape)
    assert np.allclose(y, h * along(w, x) + along(b, x))
    dx, dw, db = norm.group_norm_backward(dy, x, 2, mean, rstd, w)
    assert np.allclose(dw, (dy * h).sum((0, 2, 3))) and np.allclose(db, dy.sum((0, 2, 3)))
    e = 1e-6
    step = np.random.default_rng(5).standard_normal(x.shape)
    up, down = (norm.group_norm(x + s * e * step, 2, w, b, 1e-5)[0] for s in (1, -1))
    assert np.isclose(((up - down) * dy).sum() / (2 * e), (dx * step).sum(), rtol=1e-5)
