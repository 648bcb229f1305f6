"""Pooling of volumes and power pooling on the device against NumPy's: windows, layouts, dtypes, nan, tiles."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import pool3d as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F32, F64, I64 = (np.dtype(t) for t in ("f4", "f8", "i8"))
TOLERANCE = {BF16: 1e-2, F32: 4e-6, F64: 1e-12, I64: 0}
# input, kernel, stride, padding, dilation, whether windows may hang over the end
WINDOWS = [((4, 6, 8), (2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1), False),
           ((5, 4, 7), (3, 2, 3), (2, 1, 2), (1, 1, 0), (1, 1, 1), True),
           ((5, 6, 4), (2, 3, 1), (1, 3, 2), (1, 0, 0), (2, 1, 3), False)]


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import pool3d

    return pool3d


@pytest.fixture(params=["one program", "many"])
def tiles(request, monkeypatch):
    """Also with small tiles."""
    from tritium.kernels.triton import axes, pool, pool3d

    axes.forget()
    if request.param == "many":
        for module in (pool, pool3d):
            monkeypatch.setattr(module, "tile_elements", lambda itemsize: 512)
    yield request.param
    axes.forget()


def on_device(view, base=None):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    base = view if base is None else base
    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected, tolerance=None):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    tolerance = TOLERANCE.get(expected.dtype, 0) if tolerance is None else tolerance
    np.testing.assert_allclose(found.copy().to_host().astype(F64), expected.astype(F64), rtol=tolerance, atol=tolerance)


def numbers(seed, *shape, dtype=F32, special=False):
    rng = np.random.default_rng(seed)
    x = (rng.integers(-4, 5, shape) * (1 if dtype.kind in "iu" else 0.75)).astype(dtype)
    if special:
        x[rng.random(shape) < 0.05] = np.nan
        x[rng.random(shape) < 0.3] = -np.inf
    return x


def layouts(*shape, dtype, special=False):
    """(view, its base): contiguous, channels last, and neither."""
    x = numbers(0, *shape, dtype=dtype, special=special)
    yield x, x
    last = numbers(1, shape[0], *shape[2:], shape[1], dtype=dtype, special=special)
    yield np.moveaxis(last, -1, 1), last
    wide = numbers(2, shape[0] + 1, *shape[1:-1], 2 * shape[-1], dtype=dtype, special=special)
    yield wide[1:, ..., ::2], wide


def outputs(size, kernel, stride, padding, dilation, ceil):
    from tritium.tensor.ops.pool import _length

    return tuple(_length(*line, ceil) for line in zip(size, kernel, stride, padding, dilation, strict=True))


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_max(device, tiles, window, dtype):
    size, *taps, ceil = window
    out = outputs(size, *taps, ceil)
    for x, base in layouts(2, 5 if dtype == F32 else 8, *size, dtype=dtype, special=True):
        d = on_device(x, base)
        y, code = reference.max_pool3d_with_taps(x, out, *taps)
        found, codes = device.max_pool3d_with_taps(d, out, *taps)
        agree(found, y)
        agree(codes, code)
        agree(device.max_pool3d_indices(codes, size, *taps), reference.max_pool3d_indices(code, size, *taps))
        dy = numbers(5, *y.shape, dtype=dtype)
        agree(device.max_pool3d_scatter(on_device(dy), codes, size, *taps),
              reference.max_pool3d_scatter(dy, code, size, *taps))
        agree(device.max_pool3d_gather(d, codes, *taps), reference.max_pool3d_gather(x, code, *taps))
        if dtype == F32:
            agree(device.max_pool3d(d, out, *taps), y)


@pytest.mark.parametrize("options", [(True, None), (False, None), (True, 5)], ids=str)
@pytest.mark.parametrize("window", WINDOWS[:2], ids=str)
def test_average(device, tiles, window, options):
    size, kernel, stride, padding, _, ceil = window
    out = outputs(*window[:5], ceil)
    for x, base in layouts(2, 5, *size, dtype=F32):
        agree(device.avg_pool3d(on_device(x, base), out, kernel, stride, padding, *options),
              reference.avg_pool3d(x, out, kernel, stride, padding, *options))
    for dy, base in layouts(2, 8, *out, dtype=F32):
        agree(device.avg_pool3d_backward(on_device(dy, base), size, kernel, stride, padding, *options),
              reference.avg_pool3d_backward(dy, size, kernel, stride, padding, *options))


def test_dtypes(device):
    given = ((2, 2, 3), (3, 2, 2), (2, 2, 2), (1, 0, 1))
    for dtype in (I64, np.dtype("i4"), BF16, F64):
        x = numbers(0, 2, 3, 4, 4, 5, dtype=dtype)
        for a, b in zip(device.max_pool3d_with_taps(on_device(x), *given, (1, 1, 1)),
                        reference.max_pool3d_with_taps(x, *given, (1, 1, 1)), strict=True):
            agree(a, b)
        if dtype.itemsize != 4:
            agree(device.avg_pool3d(on_device(x), *given), reference.avg_pool3d(x, *given))


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, -1])
def test_power(device, tiles, p):
    for shape, kernel, stride, ceil in (((2, 3, 4, 5, 7), (2, 3, 2), (1, 2, 2), True),
                                        ((2, 8, 7, 6), (3, 2), (2, 2), True)):
        none, one = (0,) * len(kernel), (1,) * len(kernel)
        out = outputs(shape[2:], kernel, stride, none, one, ceil)
        for dtype in (F32, BF16, F64):
            for x, base in layouts(*shape, dtype=dtype):
                if p != 1:
                    np.abs(base, out=base)
                d = on_device(x, base)
                y, dy = reference.lp_pool(x, out, kernel, stride, p), numbers(3, *shape[:2], *out, dtype=dtype)
                agree(device.lp_pool(d, out, kernel, stride, p), y)
                expected = reference.lp_pool_backward(dy, x, y, kernel, stride, p)
                agree(device.lp_pool_backward(on_device(dy), d, on_device(np.ascontiguousarray(y)), kernel, stride, p),
                      expected, 4 * TOLERANCE[dtype])
                if tiles == "many":
                    break


@pytest.mark.parametrize("size,out", [((4, 5, 6), (2, 3, 4)), ((3, 4, 2), (5, 6, 3)), ((4, 3, 5), (1, 1, 1))], ids=str)
def test_adaptive(device, tiles, size, out):
    for x, base in layouts(2, 8, *size, dtype=F32, special=True):
        d = on_device(x, base)
        y, indices = reference.adaptive_max_pool3d(x, out)
        found, places = device.adaptive_max_pool3d(d, out)
        agree(found, y)
        agree(places, indices)
        np.nan_to_num(base, copy=False, neginf=0)
        agree(device.adaptive_avg_pool3d(on_device(x, base), out), reference.adaptive_avg_pool3d(x, out))
    for dy, base in layouts(2, 8, *out, dtype=F32):
        d = on_device(dy, base)
        agree(device.adaptive_avg_pool3d_backward(d, size), reference.adaptive_avg_pool3d_backward(dy, size))
        agree(device.index_scatter3d(d, places, size), reference.index_scatter3d(dy, indices, size))


def test_nothing(device):
    d = on_device(np.zeros((0, 3, 4, 4, 4), F32))
    taps = ((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
    y, codes = device.max_pool3d_with_taps(d, (2, 2, 2), *taps)
    assert y.shape == (0, 3, 2, 2, 2) and codes.shape == (0, 2, 2, 2, 3)
    assert device.max_pool3d_scatter(y, codes, (4, 4, 4), *taps).shape == d.shape
    assert device.avg_pool3d_backward(y, (4, 4, 4), *taps[:3]).shape == d.shape
    assert device.lp_pool(d, (2, 2, 2), *taps[:2], 2).shape == y.shape
    assert not device.adaptive_avg_pool3d_backward(on_device(np.zeros((2, 3, 0, 2, 2), F32)), (4, 4, 4)).to_host().any()
