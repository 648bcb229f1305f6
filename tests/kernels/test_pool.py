"""Pooling kernels against loops over windows."""

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import pool

# kernel, stride, padding, dilation, output size of a 9 x 11 plane
WINDOWS = [
    ((2, 2), (2, 2), (0, 0), (1, 1), (4, 5)), ((3, 3), (2, 2), (1, 1), (1, 1), (5, 6)),
    ((3, 2), (1, 3), (1, 0), (2, 1), (7, 4)), ((1, 1), (2, 2), (0, 0), (1, 1), (5, 6)),
    ((4, 4), (3, 3), (2, 2), (1, 1), (4, 4)), ((2, 2), (2, 2), (0, 0), (1, 1), (5, 6)),
]  # fmt: skip


def windows(x, window):
    """(n, c, p, q, flat positions, values) of every window."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), (OH, OW) = window
    _, _, H, W = x.shape
    for p in range(OH):
        for q in range(OW):
            rows = [r for r in range(p * sh - ph, p * sh - ph + kh * dh, dh) if 0 <= r < H]
            columns = [c for c in range(q * sw - pw, q * sw - pw + kw * dw, dw) if 0 <= c < W]
            yield p, q, np.array([r * W + c for r in rows for c in columns])


def data(*shape, layout="nchw", dtype=np.float64):
    x = np.round(np.random.default_rng(0).standard_normal(shape) * 3).astype(dtype)
    return x if layout == "nchw" else np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max(window, layout):
    x = data(2, 5, 9, 11, layout=layout)
    options, size = window[:4], window[4]
    y = pool.max_pool2d(x, size, *options)
    taps = pool.max_pool2d_taps(x, y, *options)
    where = pool.max_pool2d_indices(taps, (9, 11), *options)
    flat, dy = x.reshape(2, 5, 99), np.random.default_rng(1).standard_normal(y.shape)
    dx, z = np.zeros((2, 5, 99)), np.random.default_rng(2).standard_normal(x.shape)
    for p, q, places in windows(x, window):
        seen = flat[:, :, places]
        assert (y[:, :, p, q] == seen.max(2)).all()
        assert (where[:, :, p, q] == places[seen.argmax(2)]).all()
        np.add.at(dx, (*np.ix_(range(2), range(5)), where[:, :, p, q]), dy[:, :, p, q])
    assert np.allclose(pool.max_pool2d_scatter(dy, taps, (9, 11), *options).reshape(dx.shape), dx)
    assert (pool.max_pool2d_gather(z, taps, *options) == pool.index_gather(z, where)).all()
    assert np.allclose(pool.index_scatter(dy, where, (9, 11)).reshape(dx.shape), dx)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("window", [w for w in WINDOWS if w[3] == (1, 1)], ids=str)
def test_average(window, include):
    x = data(2, 5, 9, 11)
    (kernel, stride, padding, _), size = window[:4], window[4]
    y = pool.avg_pool2d(x, size, kernel, stride, padding, include)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = np.zeros((2, 5, 99))
    for p, q, places in windows(x, window):
        ends = [
            min(i * s - pad + k, n + pad) - (i * s - pad)
            for i, s, pad, k, n in zip((p, q), stride, padding, kernel, (9, 11), strict=True)
        ]
        by = ends[0] * ends[1] if include else len(places)
        assert np.allclose(y[:, :, p, q], x.reshape(2, 5, 99)[:, :, places].sum(2) / by)
        dx[:, :, places] += dy[:, :, p, q, None] / by
    assert np.allclose(pool.avg_pool2d_backward(dy, (9, 11), kernel, stride, padding, include).reshape(dx.shape), dx)
    assert np.allclose(
        pool.avg_pool2d(x, size, kernel, stride, padding, include, 5),
        pool.avg_pool2d(x, size, kernel, stride, padding, include, 1) / 5,
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 11), (12, 4)])
def test_adaptive(size):
    x = data(2, 5, 9, 11)
    y, (values, where) = pool.adaptive_avg_pool2d(x, size), pool.adaptive_max_pool2d(x, size)
    for i, (a, b) in enumerate(pool._cells(9, size[0])):
        for j, (c, e) in enumerate(pool._cells(11, size[1])):
            assert np.allclose(y[:, :, i, j], x[:, :, a:b, c:e].mean((2, 3)))
            assert (values[:, :, i, j] == x[:, :, a:b, c:e].max((2, 3))).all()
    assert (pool.index_gather(x, where) == values).all()
    dy = np.random.default_rng(1).standard_normal(y.shape)
    assert np.allclose((pool.adaptive_avg_pool2d_backward(dy, (9, 11)) * x).sum(), (dy * y).sum())


def test_nan_and_infinity():
    x = data(1, 2, 9, 11)
    x[0, 0, 4, 4], x[0, 1] = np.nan, -np.inf
    options = WINDOWS[1][:4]
    y = pool.max_pool2d(x, (5, 6), *options)
    taps = pool.max_pool2d_taps(x, y, *options)
    where = pool.max_pool2d_indices(taps, (9, 11), *options)
    assert np.isnan(y[0, 0]).sum() == 1 and where[0, 0][np.isnan(y[0, 0])] == 4 * 11 + 4
    assert (y[0, 1] == -np.inf).all() and where[0, 1, 0, 0] == 0
    dy = np.full(y.shape, np.inf)
    dx = pool.max_pool2d_scatter(dy, taps, (9, 11), *options)
    assert not np.isnan(dx).any() and np.isinf(dx).any()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.uint8, np.int64])
def test_dtypes(dtype):
    x = np.abs(data(2, 3, 9, 11)).astype(dtype)
    y = pool.max_pool2d(x, (4, 5), *WINDOWS[0][:4])
    assert y.dtype == dtype
    assert (y.astype(float) == pool.max_pool2d(x.astype(float), (4, 5), *WINDOWS[0][:4])).all()
    if dtype != np.uint8:
        mean = pool.avg_pool2d(x, (4, 5), (2, 2), (2, 2), (0, 0))
        exact = pool.avg_pool2d(x.astype(float), (4, 5), (2, 2), (2, 2), (0, 0))
        assert mean.dtype == dtype and np.allclose(
            mean.astype(float), np.floor(exact) if dtype == np.int64 else exact, rtol=1e-2
        )
