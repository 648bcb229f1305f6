"""Pooling on the device against NumPy's: windows, layouts, dtypes, nan and inf, one program and many."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import pool as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64, I64 = (np.dtype(t) for t in ("f2", "f4", "f8", "i8"))
TOLERANCE = {BF16: 1e-2, F16: 2e-3, F32: 2e-6, F64: 1e-13, I64: 0}
# input, kernel, stride, padding, dilation, whether windows may hang over the end
WINDOWS = [((6, 8), (2, 2), (2, 2), (0, 0), (1, 1), False), ((7, 9), (3, 3), (2, 2), (1, 1), (1, 1), False),
           ((8, 7), (3, 2), (1, 2), (1, 0), (1, 1), True), ((9, 10), (2, 3), (3, 1), (1, 2), (2, 3), True),
           ((1, 11), (1, 5), (1, 2), (0, 2), (1, 1), True), ((5, 5), (2, 2), (3, 3), (0, 0), (1, 1), True)]


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import pool

    return pool


@pytest.fixture(params=["one program", "many"])
def tiles(request, monkeypatch):
    """Also with small tiles."""
    from tritium.kernels.triton import axes, pool

    axes.forget()
    if request.param == "many":
        monkeypatch.setattr(pool, "tile_elements", lambda itemsize: 128)
    yield request.param
    axes.forget()


def on_device(view, base=None):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    base = view if base is None else base
    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected, tolerance=0.0):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    r = found.copy().to_host()
    if tolerance:
        np.testing.assert_allclose(r.astype(F64), expected.astype(F64), rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(*(a.astype(F32) if a.dtype == BF16 else a for a in (r, expected)))


def numbers(seed, *shape, dtype=F32, special=False):
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, shape) * (1 if np.dtype(dtype).kind in "iu" else 0.75)
    x = x.astype(dtype)
    if special:
        x[rng.random(shape) < 0.05] = np.nan
        x[rng.random(shape) < 0.3] = -np.inf
        x[rng.random(shape) < 0.05] = np.inf
    return x


def layouts(*shape, dtype, special=False):
    """(view, its base): contiguous, channels last, and neither."""
    x = numbers(0, *shape, dtype=dtype, special=special)
    yield x, x
    last = numbers(1, shape[0], *shape[2:], shape[1], dtype=dtype, special=special)
    yield last.transpose(0, 3, 1, 2), last
    wide = numbers(2, shape[0] + 1, *shape[1:-1], 2 * shape[-1], dtype=dtype, special=special)
    yield wide[1:, ..., ::2], wide


def outputs(size, kernel, stride, padding, dilation, ceil):
    from tritium.tensor.ops.pool import _length

    return tuple(_length(*line, ceil) for line in zip(size, kernel, stride, padding, dilation, strict=True))


def lies_like(found, x):
    """Laid out like x where x is contiguous or channels last."""
    last = x.transpose(0, 2, 3, 1).flags.c_contiguous and not x.flags.c_contiguous
    assert found.transpose(0, 2, 3, 1).dense if last else found.dense


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_max(device, tiles, window, dtype):
    size, *taps, ceil = window
    out = outputs(size, *taps, ceil)
    for i, (x, base) in enumerate(layouts(2, 9 if i_odd(window) else 8, *size, dtype=dtype, special=True)):
        d = on_device(x, base)
        y, code = reference.max_pool2d_with_taps(x, out, *taps)
        found, codes = device.max_pool2d_with_taps(d, out, *taps)
        agree(found, y)
        agree(codes, code)
        lies_like(found, x)
        agree(device.max_pool2d_indices(codes, size, *taps), reference.max_pool2d_indices(code, size, *taps))
        dy = numbers(5, *y.shape, dtype=dtype)
        agree(device.max_pool2d_scatter(on_device(dy), codes, size, *taps),
              reference.max_pool2d_scatter(dy, code, size, *taps))
        if i < 2:
            agree(device.max_pool2d(d, out, *taps), y)
            agree(device.max_pool2d_taps(d, found, *taps), code)
            agree(device.max_pool2d_gather(d, codes, *taps), reference.max_pool2d_gather(x, code, *taps))


def i_odd(window):
    return sum(window[0]) % 2


@pytest.mark.parametrize("dtype", [np.dtype(t) for t in ("u1", "i1", "i2", "i4", "i8", "f2", "f8")], ids=str)
def test_max_dtypes(device, dtype):
    taps = ((2, 3), (2, 2), (1, 1), (1, 1))
    x = numbers(0, 2, 3, 7, 8, dtype=np.int8).astype(dtype)
    y, code = reference.max_pool2d_with_taps(x, (4, 4), *taps)
    found, codes = device.max_pool2d_with_taps(on_device(x), (4, 4), *taps)
    agree(found, y)
    agree(codes, code)


def test_windows_without_a_tap_and_wide_codes(device):
    """All taps outside the image; more than 255 taps."""
    x = numbers(0, 1, 2, 1, 1)
    taps = ((2, 2), (1, 1), (1, 1), (2, 2))
    y, code = reference.max_pool2d_with_taps(x, (1, 1), *taps)
    found, codes = device.max_pool2d_with_taps(on_device(x), (1, 1), *taps)
    agree(found, y)
    agree(codes, code)
    dy = np.ones((1, 2, 1, 1), F32)
    agree(device.max_pool2d_scatter(on_device(dy), codes, (1, 1), *taps), np.zeros_like(x))
    x = numbers(1, 1, 2, 20, 18)
    taps = ((17, 16), (1, 1), (0, 0), (1, 1))
    y, code = reference.max_pool2d_with_taps(x, (4, 3), *taps)
    found, codes = device.max_pool2d_with_taps(on_device(x), (4, 3), *taps)
    assert codes.dtype == np.uint16
    agree(found, y)
    agree(codes, code)


@pytest.mark.parametrize("options", [(True, None), (False, None), (True, 5)], ids=str)
@pytest.mark.parametrize("window", [w for w in WINDOWS if w[4] == (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_average(device, tiles, window, options, dtype):
    size, kernel, stride, padding, dilation, ceil = window
    out = outputs(size, kernel, stride, padding, dilation, ceil)
    for x, base in layouts(2, 9 if i_odd(window) else 8, *size, dtype=dtype):
        found = device.avg_pool2d(on_device(x, base), out, kernel, stride, padding, *options)
        agree(found, reference.avg_pool2d(x, out, kernel, stride, padding, *options), TOLERANCE[dtype])
        lies_like(found, x)
    for dy, base in layouts(2, 8, *out, dtype=dtype):
        found = device.avg_pool2d_backward(on_device(dy, base), size, kernel, stride, padding, *options)
        agree(found, reference.avg_pool2d_backward(dy, size, kernel, stride, padding, *options), TOLERANCE[dtype])


def test_average_of_integers(device):
    x = numbers(0, 2, 3, 7, 6, dtype=I64)
    for options in ((True, None), (False, None), (True, -3)):
        given = ((4, 3), (3, 2), (2, 2), (1, 0), *options)
        agree(device.avg_pool2d(on_device(x), *given), reference.avg_pool2d(x, *given))


@pytest.mark.parametrize("size,out", [((7, 9), (3, 4)), ((6, 6), (3, 2)), ((3, 4), (5, 7)), ((5, 6), (1, 1)),
                                      ((1, 10), (1, 3))], ids=str)
@pytest.mark.parametrize("dtype", [F32, F16, F64], ids=str)
def test_adaptive(device, tiles, size, out, dtype):
    for x, base in layouts(2, 8, *size, dtype=dtype):
        d = on_device(x, base)
        agree(device.adaptive_avg_pool2d(d, out), reference.adaptive_avg_pool2d(x, out), TOLERANCE[dtype])
        y, indices = reference.adaptive_max_pool2d(x, out)
        found, places = device.adaptive_max_pool2d(d, out)
        agree(found, y)
        agree(places, indices)
        agree(device.index_gather(d, places), reference.index_gather(x, indices))
    for dy, base in layouts(2, 8, *out, dtype=dtype):
        d = on_device(dy, base)
        agree(device.adaptive_avg_pool2d_backward(d, size), reference.adaptive_avg_pool2d_backward(dy, size),
              TOLERANCE[dtype])
        agree(device.index_scatter(d, places, size), reference.index_scatter(dy, indices, size), 2 * TOLERANCE[dtype])


def test_adaptive_nan(device):
    x = numbers(0, 2, 3, 7, 8, special=True)
    y, indices = reference.adaptive_max_pool2d(x, (3, 3))
    found, places = device.adaptive_max_pool2d(on_device(x), (3, 3))
    agree(found, y)
    agree(places, indices)


def test_nothing(device):
    x = np.zeros((0, 3, 4, 4), F32)
    d = on_device(x)
    taps = ((2, 2), (2, 2), (0, 0), (1, 1))
    y, codes = device.max_pool2d_with_taps(d, (2, 2), *taps)
    assert y.shape == (0, 3, 2, 2) and codes.shape == (0, 2, 2, 3)
    assert device.max_pool2d_scatter(y, codes, (4, 4), *taps).shape == x.shape
    assert device.max_pool2d_indices(codes, (4, 4), *taps).shape == y.shape
    assert device.avg_pool2d(d, (2, 2), *taps[:3]).shape == y.shape
    assert device.avg_pool2d_backward(y, (4, 4), *taps[:3]).shape == x.shape
    assert device.adaptive_avg_pool2d(d, (3, 2)).shape == (0, 3, 3, 2)
    assert device.adaptive_avg_pool2d(on_device(np.zeros((2, 3, 4, 4), F32)), (0, 2)).shape == (2, 3, 0, 2)
    assert not device.adaptive_avg_pool2d_backward(on_device(np.zeros((2, 3, 0, 2), F32)), (4, 4)).to_host().any()
