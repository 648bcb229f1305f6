"""The fast NumPy convolutions against the plain ones, on every path."""

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import conv, conv_grad, conv_plain, parallel, winograd

# batch, channels, height, width, output channels, groups
IMAGES = [(2, 3, 21, 23, 8, 1), (1, 1, 20, 20, 6, 1), (3, 8, 14, 15, 12, 1), (2, 8, 9, 9, 16, 4), (2, 6, 12, 12, 12, 6),
          (2, 16, 20, 20, 16, 16), (8, 32, 16, 16, 40, 1), (1, 64, 7, 7, 32, 1), (0, 4, 5, 5, 6, 1)]  # fmt: skip
# kernel, stride, padding (top, bottom, left, right), dilation
WINDOWS = [
    ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)), ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((5, 3), (1, 2), (2, 1, 0, 2), (1, 1)), ((3, 3), (2, 1), (2, 2, 2, 2), (2, 2)),
    ((2, 2), (3, 3), (0, 0, 0, 0), (1, 1)), ((7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
    ((3, 2), (2, 3), (1, 1, 1, 1), (3, 1)),
    ((3, 3), (2, 4), (1, 1, 1, 1), (2, 2)), ((2, 3), (6, 4), (1, 1, 1, 1), (4, 6)),
]  # fmt: skip


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def threads(request):
    before = parallel.get_num_threads()
    parallel.set_num_threads(request.param)
    yield request.param
    parallel.set_num_threads(before)


def data(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def nhwc(a):
    """The same array with the channels innermost in memory."""
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def assert_near(a, b, dtype, scale=None):
    assert a.shape == b.shape
    if b.size:
        limit = {np.float64: 1e-12, np.float32: 4e-6}[dtype] * (np.abs(b).max() if scale is None else scale)
        assert np.abs(a - b).max() <= limit


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_paths(image, window, threads):
    n, c, h, w, o, groups = image
    kernel, stride, padding, dilation = window
    if h + sum(padding[:2]) <= dilation[0] * (kernel[0] - 1) or w + sum(padding[2:]) <= dilation[1] * (kernel[1] - 1):
        pytest.skip("the kernel is greater than the image")
    rest = (stride, padding, dilation, groups)
    x, weight, bias = data(n, c, h, w), data(o, c // groups, *kernel, seed=1), data(o, seed=2)
    y = conv_plain.conv2d(x, weight, None, *rest)
    dy, residual = data(*y.shape, seed=3), data(*y.shape, seed=4)
    dx, dw = conv_plain.conv2d_input(dy, weight, (h, w), *rest), conv_plain.conv2d_weight(x, dy, kernel, *rest)
    scale = np.abs(y).max() if y.size else 1
    whole = np.minimum(np.maximum(y + bias[:, None, None] + residual, 0), 6)
    for dtype in (np.float32, np.float64):
        x_, w_, b_, d_, r_ = (a.astype(dtype) for a in (x, weight, bias, dy, residual))
        for order in (np.ascontiguousarray, nhwc):
            assert_near(conv.conv2d(order(x_), w_, None, *rest), y, dtype)
            assert_near(conv_grad.conv2d_input(order(d_), w_, (h, w), *rest), dx, dtype)
            assert_near(conv_grad.conv2d_weight(order(x_), order(d_), kernel, *rest), dw, dtype)
            assert_near(conv_grad.bias_gradient(order(d_)), dy.sum((0, 2, 3)), dtype, dy.size)
        kept = conv.prepare(w_, groups)
        for order in (np.ascontiguousarray, nhwc):
            fused = conv.conv2d(x_, kept, b_, *rest, residual=order(r_), activation="relu6")
            assert_near(fused, whole, dtype, scale)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 0, 0, 0), (2, 2, 2, 2), (0, 1, 2, 0)])
@pytest.mark.parametrize("image", [(1, 3, 3, 3, 4), (2, 8, 9, 10, 7), (5, 16, 30, 31, 24), (20, 8, 17, 17, 5)])
def test_winograd(image, padding, m, threads, monkeypatch):
    monkeypatch.setattr(conv, "_winograd_size", lambda *shape: m)
    n, c, h, w, o = image
    x, weight, bias = data(n, c, h, w), data(o, c, 3, 3, seed=1), data(o, seed=2)
    y = conv_plain.conv2d(x, weight, bias, (1, 1), padding)
    for order in (np.ascontiguousarray, nhwc):
        x_, w_, b_ = (a.astype(np.float32) for a in (order(x), weight, bias))
        ours = conv.conv2d(x_, w_, b_, (1, 1), padding, activation="relu")
        assert_near(ours, np.maximum(y, 0), np.float32, np.abs(y).max())


def test_winograd_accuracy():
    """F(4x4) with our points stays within a small factor of direct float32 convolution."""
    x, weight = data(2, 256, 16, 16).astype(np.float32), data(64, 256, 3, 3, seed=1).astype(np.float32)
    exact = conv_plain.conv2d(x.astype(np.float64), weight.astype(np.float64), None, (1, 1), (1, 1, 1, 1))
    U = conv.Prepared(weight).winograd(4)
    out = np.empty((2, 16, 16, 64), np.float32)
    winograd.conv3x3(x.transpose(0, 2, 3, 1), U, 4, out, 1, 1, conv.Epilogue(), None)
    assert np.abs(out.transpose(0, 3, 1, 2) - exact).max() < 5e-6 * np.abs(exact).max()


@pytest.mark.parametrize("m", [2, 4])
def test_toom_cook(m):
    """The matrices are those of a filter of three taps: exact in float64."""
    BT, G, AT = winograd.toom_cook(winograd.POINTS[m], m)
    d, g = data(m + 2), data(3, seed=1)
    assert np.allclose(AT @ ((G @ g) * (BT @ d)), np.correlate(d, g), rtol=1e-12, atol=1e-12)
    assert all((a == a.astype(np.float32)).all() for a in (BT, AT))


@pytest.mark.parametrize("m", [2, 4])
def test_not_finite(m, monkeypatch):
    """Infinity and NaN reach the pixels that see them and no others."""
    monkeypatch.setattr(conv, "_winograd_size", lambda *shape: m)
    x, w = data(3, 8, 20, 20).astype(np.float32), data(8, 8, 3, 3, seed=1).astype(np.float32)
    x[1, 2, 3, 4], x[2, 1, 10, 10] = np.inf, np.nan
    ours, plain = conv.conv2d(x, w, None, (1, 1), (1, 1, 1, 1)), conv_plain.conv2d(x, w, None, (1, 1), (1, 1, 1, 1))
    assert (np.isnan(ours) == np.isnan(plain)).all() and (np.isinf(ours) == np.isinf(plain)).all()


@pytest.mark.parametrize(
    "dtype,limit", [(np.float16, 1e-3), (ml_dtypes.bfloat16, 8e-3), (np.int32, 0), (np.uint8, 0), (np.complex64, 1e-6)]
)
def test_dtypes(dtype, limit):
    x, w = np.abs(data(2, 4, 8, 8) * 4).astype(dtype), np.abs(data(6, 4, 3, 3) * 2).astype(dtype)
    wide = {"c": np.complex128, "i": np.int64, "u": np.int64}.get(np.dtype(dtype).kind, np.float64)
    y, exact = conv.conv2d(x, w), conv_plain.conv2d(x.astype(wide), w.astype(wide))
    exact = exact.astype(dtype).astype(wide) if limit == 0 else exact
    assert y.dtype == dtype and np.abs(y.astype(wide) - exact).max() <= limit * np.abs(exact).max()


@pytest.mark.parametrize("layout", ["expand", "flip", "step"])
def test_strides(layout):
    x, w = data(3, 4, 12, 12), data(6, 4, 3, 3, seed=1)
    view = {
        "expand": np.broadcast_to(x[:1], x.shape),
        "flip": x[:, :, ::-1, ::-1],
        "step": data(3, 8, 24, 24)[:, ::2, ::2, 1::2],
    }[layout]
    for options in [((1, 1), (1, 1, 1, 1)), ((2, 2), (0, 0, 0, 0))]:
        exact = conv_plain.conv2d(view, w, None, *options)
        for dtype in (np.float32, np.float64):
            assert_near(
                conv.conv2d(
                    view.astype(np.float64, order="K").astype(dtype, order="K"), w.astype(dtype), None, *options
                ),
                exact,
                dtype,
            )
        assert_near(conv.conv2d(view, w, None, *options), exact, np.float64)
    one = data(6, 4, 1, 1, seed=1)
    assert_near(conv.conv2d(view, one), conv_plain.conv2d(view, one), np.float64)


def test_output_storage():
    y = conv.conv2d(data(2, 3, 8, 8), data(5, 3, 3, 3))
    assert y.shape == (2, 5, 6, 6) and y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_same_bits(threads):
    """The same inputs give the same bits whatever the timing."""
    x, w, dy = (a.astype(np.float32) for a in (data(16, 64, 28, 28), data(64, 64, 3, 3), data(16, 64, 28, 28)))
    first = None
    for _ in range(4):
        args = (1, 1), (1, 1, 1, 1)
        results = (conv.conv2d(x, w, None, *args), conv_grad.conv2d_input(dy, w, (28, 28), *args),
                   conv_grad.conv2d_weight(x, dy, (3, 3), *args))  # fmt: skip
        first = first or results
        assert all((a == b).all() for a, b in zip(first, results, strict=True))
