"""The NumPy 3-D convolutions against sums of the plain 2-D ones."""

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import conv, conv3d, conv_plain, parallel

# batch, channels, depth, height, width, output channels, groups
IMAGES = [(2, 3, 6, 9, 8, 8, 1), (1, 8, 5, 20, 21, 6, 1), (2, 8, 5, 7, 6, 12, 4), (2, 6, 6, 7, 5, 12, 6),
          (3, 16, 4, 12, 12, 16, 16), (0, 4, 5, 5, 5, 6, 1)]  # fmt: skip
# kernel, stride, padding (front, back, top, bottom, left, right), dilation
WINDOWS = [
    ((1, 1, 1), (1, 1, 1), (0,) * 6, (1, 1, 1)), ((1, 1, 1), (2, 2, 3), (0,) * 6, (1, 1, 1)),
    ((3, 3, 3), (1, 1, 1), (1,) * 6, (1, 1, 1)), ((3, 3, 3), (2, 2, 2), (1,) * 6, (1, 1, 1)),
    ((2, 5, 3), (1, 2, 3), (2, 1, 0, 2, 1, 0), (1, 1, 1)), ((2, 2, 2), (3, 3, 3), (0,) * 6, (1, 1, 1)),
    ((2, 3, 3), (2, 2, 4), (3,) * 6, (3, 2, 2)), ((1, 2, 1), (1, 1, 1), (2, 2, 0, 1, 3, 3), (1, 1, 1)),
]  # fmt: skip


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"], autouse=True)
def threads(request):
    before = parallel.get_num_threads()
    parallel.set_num_threads(request.param)
    yield
    parallel.set_num_threads(before)


def data(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def last(a):
    """The same array with the channels innermost in memory."""
    return np.ascontiguousarray(a.transpose(0, 2, 3, 4, 1)).transpose(0, 4, 1, 2, 3)


def plain(x, weight, dy, stride, padding, dilation, groups):
    """The output and, for ``dy`` (or ones), the gradients, plane by plane of the padded input."""
    x = np.pad(x, ((0, 0), (0, 0), padding[:2], (0, 0), (0, 0)))
    rest = (stride[1:], padding[2:], dilation[1:], groups)
    depth = (x.shape[2] - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
    pairs = [(z, z * stride[0] + tap * dilation[0], tap) for z in range(depth) for tap in range(weight.shape[2])]
    planes = [(z, conv_plain.conv2d(x[:, :, at], weight[:, :, tap], None, *rest)) for z, at, tap in pairs]
    y = np.stack([sum(p for z, p in planes if z == i) for i in range(depth)], 2)
    dy = np.ones_like(y) if dy is None else dy(y.shape)
    dx, dw = np.zeros_like(x), np.zeros_like(weight)
    for z, at, tap in pairs:
        dx[:, :, at] += conv_plain.conv2d_input(dy[:, :, z], weight[:, :, tap], x.shape[3:], *rest)
        dw[:, :, tap] += conv_plain.conv2d_weight(x[:, :, at], dy[:, :, z], weight.shape[3:], *rest)
    return y, dy, dx[:, :, padding[0] : x.shape[2] - padding[1]], dw


def near(a, b, limit):
    assert a.shape == b.shape
    assert not b.size or np.abs(a - b).max() <= limit * np.abs(b).max()


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_paths(image, window):
    n, c, *size, o, groups = image
    kernel, *rest = window
    stride, padding, dilation = rest
    if any(s + a + b <= d * (k - 1)
           for s, a, b, d, k in zip(size, padding[::2], padding[1::2], dilation, kernel, strict=True)):  # fmt: skip
        pytest.skip("the kernel is greater than the image")
    x, weight, bias = data(n, c, *size), data(o, c // groups, *kernel, seed=1), data(o, seed=2)
    y, dy, dx, dw = plain(x, weight, lambda shape: data(*shape, seed=3), *rest, groups)
    residual = data(*y.shape, seed=4)
    for dtype, limit in ((np.float64, 1e-12), (np.float32, 4e-6)):
        x_, w_, b_, d_, r_ = (a.astype(dtype) for a in (x, weight, bias, dy, residual))
        for order in (np.ascontiguousarray, last):
            near(conv3d.conv3d(order(x_), w_, None, *rest, groups), y, limit)
            near(conv3d.conv3d_input(order(d_), w_, size, *rest, groups), dx, limit)
            found = conv3d.conv3d_weight(order(x_), order(d_), kernel, *rest, groups)
            near(found, dw, limit)
            assert found.flags.c_contiguous
            found = conv3d.conv3d_weight(order(x_), order(d_), kernel, *rest, groups, last=True)
            near(found, dw, limit)
            assert found.transpose(0, 2, 3, 4, 1).flags.c_contiguous
        whole = np.clip(y + bias[:, None, None, None] + residual, 0, 6)
        ours = conv3d.conv3d(x_, conv.prepare(w_, groups), b_, *rest, residual=r_, activation="relu6")
        assert ours.shape == whole.shape and (not ours.size or np.abs(ours - whole).max() < limit * 100)


@pytest.mark.parametrize(
    "dtype,limit", [(np.float16, 1e-3), (ml_dtypes.bfloat16, 8e-3), (np.int32, 0), (np.uint8, 0), (np.complex64, 1e-6)]
)
def test_dtypes(dtype, limit):
    for groups in (1, 4):
        x, w = (data(2, 4, 5, 6, 5) * 4).astype(dtype), (data(4, 4 // groups, 3, 3, 3, seed=1) * 4).astype(dtype)
        wide = np.int64 if limit == 0 else np.complex128 if np.dtype(dtype).kind == "c" else np.float64
        y = plain(x.astype(wide), w.astype(wide), None, (1, 1, 1), (1,) * 6, (1, 1, 1), groups)[0]
        ours = conv3d.conv3d(x, w, None, (1, 1, 1), (1,) * 6, groups=groups)
        assert ours.dtype == dtype
        if limit == 0:
            assert np.array_equal(ours, y.astype(dtype))
        else:
            near(ours.astype(wide), y, limit)


def test_same_bits():
    x, w = data(2, 8, 5, 14, 14).astype(np.float32), data(8, 8, 3, 3, 3, seed=1).astype(np.float32)
    for _ in range(3):
        y = conv3d.conv3d(x, w)
        dw = conv3d.conv3d_weight(x, y, (3, 3, 3))
        assert np.array_equal(y, conv3d.conv3d(x, w)) and np.array_equal(dw, conv3d.conv3d_weight(x, y, (3, 3, 3)))
