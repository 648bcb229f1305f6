"""Scans on the device against NumPy's: layouts, dtypes, nan and inf, one program and many."""
from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import scan as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64, I64 = (np.dtype(t) for t in ("f2", "f4", "f8", "i8"))
TOLERANCE = {BF16: 8e-3, F16: 1e-3, F32: 2.4e-7, F64: 1e-13}
NAMES = ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import scan

    return scan


@pytest.fixture(params=["one program", "many"])
def tiles(request, monkeypatch):
    """Also with small tiles and several programs for one row."""
    from tritium.kernels.triton import axes

    axes.forget()
    if request.param == "many":
        monkeypatch.setattr(axes, "block_elements", lambda itemsize, wide: 32)
        monkeypatch.setattr(axes, "wanted_programs", lambda: 6)
    yield request.param
    axes.forget()


def on_device(view, base):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected, tolerance=0.0):
    for f, e in zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]:
        assert f.shape == e.shape and f.dtype == e.dtype and f.dense
        if e.dtype.kind in "fV":
            np.testing.assert_allclose(f.to_host().astype(F64), e.astype(F64), rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(f.to_host(), e)


def numbers(rng, shape, dtype, special=False):
    n = math.prod(shape)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -5, 6, n).astype(dtype).reshape(shape)
    x = rng.standard_normal(n)
    if special:
        x[rng.random(n) < 0.05] = -np.inf
        x[rng.random(n) < 0.01] = np.inf
        x[rng.random(n) < 0.01] = np.nan
    return x.astype(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", [BF16, F16, F32, F64, I64, np.dtype("i4"), np.dtype("u1")], ids=str)
def test_layouts(device, tiles, dtype):
    base = numbers(np.random.default_rng(0), (3, 40, 4), dtype)
    views = [base, base.transpose(1, 0, 2), base.transpose(2, 1, 0), base[1:, ::2, 1:], base[:, ::-1],
             np.broadcast_to(base[:, None, :, 0], (3, 2, 40))]
    for i, x in enumerate(views):
        d = on_device(x, base)
        for j, name in enumerate(NAMES):
            if name == "logcumsumexp" and dtype.kind in "iu":
                continue
            dim = (i + j) % 3
            agree(getattr(device, name)(d, dim), getattr(reference, name)(x, dim), TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity(device, tiles, name):
    for dtype in (F32, BF16):
        base = numbers(np.random.default_rng(1), (5, 150), dtype, special=True)
        base[0] = -np.inf
        base[1, 3] = np.nan
        base[2, 70:] = np.inf
        d = on_device(base, base)
        for dim in (0, 1):
            agree(getattr(device, name)(d, dim), getattr(reference, name)(base, dim), TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_positions_on_ties(device, tiles, name):
    rng = np.random.default_rng(2)
    for dtype in (F32, I64, np.dtype("i1")):
        base = rng.integers(0, 3, (200,)).astype(dtype)
        agree(getattr(device, name)(on_device(base, base), 0), getattr(reference, name)(base, 0))
        least = np.full((70,), -np.inf if dtype == F32 else np.iinfo(dtype).min, dtype)
        agree(getattr(device, name)(on_device(least, least), 0), getattr(reference, name)(least, 0))


def test_empty_and_single(device):
    for shape, dim in (((0,), 0), ((3, 0), 0), ((3, 0), 1), ((1,), 0), ((4, 1), 1), ((1, 4), 0)):
        base = np.ones(shape, F32)
        d = on_device(base, base)
        for name in NAMES:
            agree(getattr(device, name)(d, dim), getattr(reference, name)(base, dim), 1e-7)


def test_long_rows(device):
    """Shared by several programs: integers exact, floats as NumPy's in float64, the same bits twice."""
    rng = np.random.default_rng(3)
    whole = rng.integers(-9, 9, (1, 90001))
    agree(device.cumsum(on_device(whole, whole), 1), reference.cumsum(whole, 1))
    base = rng.standard_normal((90001, 1)).astype(F32)
    d = on_device(base, base)
    r = device.cumsum(d, 0)
    agree(r, reference.cumsum(base, 0), 2e-7)
    assert r.to_host().tobytes() == device.cumsum(d, 0).to_host().tobytes()
    agree(device.cummax(d, 0), reference.cummax(base, 0))


def test_integers_wrap(device):
    base = np.array([2**62, 2**62, 2**62, 5])
    d = on_device(base, base)
    agree(device.cumsum(d, 0), reference.cumsum(base, 0))
    agree(device.cumprod(d, 0), reference.cumprod(base, 0))
