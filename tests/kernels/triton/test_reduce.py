"""Reductions on the device against NumPy's: layouts, dtypes, nan and inf, empty ones, one program and many."""
from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import reduce as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64, I64 = (np.dtype(t) for t in ("f2", "f4", "f8", "i8"))
FLOATS = [BF16, F16, F32, F64]
INTS = [np.dtype(t) for t in ("?", "u1", "i1", "i2", "i4", "i8")]
TOLERANCE = {BF16: 1e-2, F16: 2e-3, F32: 3e-6, F64: 1e-12}


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import reduce

    return reduce


@pytest.fixture(params=["one program", "many"])
def tiles(request, monkeypatch):
    """Also with small tiles and several programs for one result."""
    from tritium.kernels.triton import axes

    axes.forget()
    if request.param == "many":
        monkeypatch.setattr(axes, "block_elements", lambda itemsize, wide: 64)
        monkeypatch.setattr(axes, "wanted_programs", lambda: 8)
    yield request.param
    axes.forget()


def on_device(view, base):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def layouts(x):
    """Views of a contiguous array of three dimensions."""
    yield x
    yield x.transpose(2, 0, 1)
    yield x.transpose(0, 2, 1)
    yield x[1:, ::2, 1:]
    yield x[:, ::-1]
    yield np.broadcast_to(x[:, None, :, 0], (x.shape[0], 3, x.shape[1]))


def numbers(rng, shape, dtype, special=False):
    n = math.prod(shape)
    if dtype.kind == "b":
        return (rng.random(n) < 0.8).reshape(shape)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -100, 100, n).astype(dtype).reshape(shape)
    x = rng.standard_normal(n)
    if special:
        x[rng.random(n) < 0.02] = np.nan
        x[rng.random(n) < 0.02] = np.inf
        x[rng.random(n) < 0.02] = -np.inf
        x[rng.random(n) < 0.1] = 0.0
    return x.astype(dtype).reshape(shape)


def agree(found, expected, tolerance=0.0, scale=1.0):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert found.dense
    r = found.to_host()
    if expected.dtype.kind in "fV":
        np.testing.assert_allclose(r.astype(np.float64), expected.astype(np.float64), rtol=tolerance,
                                   atol=tolerance * scale)
    else:
        np.testing.assert_array_equal(r, expected)


def operations(dtype):
    """(name, arguments behind keepdim) of what the dtype takes."""
    if dtype in FLOATS:
        return [("sum", dtype), ("sum", F64), ("mean", dtype), ("var", 1), ("prod", dtype)]
    return [("sum", I64), ("sum", F32), ("prod", I64), ("amax",), ("amin",)]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
def test_layouts(device, tiles, dtype):
    rng = np.random.default_rng(0)
    base = numbers(rng, (5, 6, 9), dtype)
    for i, x in enumerate(layouts(base)):
        d = on_device(x, base)
        for j, (name, *more) in enumerate(operations(dtype)):
            dims = [(0,), (1,), (2,), (0, 2), (0, 1, 2), (0, 1), (1, 2)][(i + j) % 7]
            keepdim = bool((i + j) % 2)
            expected = getattr(reference, name)(x, dims, keepdim, *more)
            agree(getattr(device, name)(d, dims, keepdim, *more), expected, TOLERANCE.get(dtype, 1e-6), 8)


@pytest.mark.parametrize("dims", [(0,), (1,), (2,), (3,), (1, 3), (0, 2), (0, 2, 3), (0, 1, 2, 3), (1, 2), ()], ids=str)
def test_every_choice_of_dimensions(device, tiles, dims):
    base = numbers(np.random.default_rng(1), (3, 4, 5, 8), F32)
    x = base.transpose(0, 3, 1, 2) if len(dims) % 2 else base  # channels-last
    for keepdim in (False, True):
        agree(device.sum(on_device(x, base), dims, keepdim, F32), reference.sum(x, dims, keepdim, F32), 3e-6, 8)


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_nan_and_infinity(device, tiles, dtype):
    base = numbers(np.random.default_rng(2), (9, 70), dtype, special=True)
    base[0] = np.nan
    base[1] = -np.inf
    base[2] = np.inf
    base[3, 5] = np.nan
    d = on_device(base, base)
    for dims in ((0,), (1,), (0, 1)):
        for name in ("amax", "amin", "all", "any"):
            agree(getattr(device, name)(d, dims, False), getattr(reference, name)(base, dims, False))
        agree(device.count_nonzero(d, dims), np.asarray(reference.count_nonzero(base, dims)))
        agree(device.nansum(d, dims, False, dtype), reference.nansum(base, dims, False, dtype), TOLERANCE[dtype], 8)
    for dim in (0, 1, None):
        for name in ("argmax", "argmin"):
            agree(getattr(device, name)(d, dim, dim == 1), getattr(reference, name)(base, dim, dim == 1))


@pytest.mark.parametrize("dtype", [F32, BF16, *INTS[1:]], ids=str)
def test_positions_on_ties(device, tiles, dtype):
    rng = np.random.default_rng(3)
    base = rng.integers(0, 4, (6, 90, 4)).astype(dtype)
    for x in (base, base.transpose(2, 1, 0), base[:, ::3], base[:, ::-1]):
        d = on_device(x, base)
        for dim in range(3):
            for name in ("argmax", "argmin"):
                agree(getattr(device, name)(d, dim, bool(dim)), getattr(reference, name)(x, dim, bool(dim)))


@pytest.mark.parametrize("p", [2.0, 1.0, 0.0, 3.0, 0.5, -1.0, math.inf, -math.inf])
def test_norms(device, tiles, p):
    rng = np.random.default_rng(4)
    for dtype in (F32, BF16, F64):
        base = (numbers(rng, (7, 66), dtype).astype(np.float64) + 0.01).astype(dtype)
        for dims in ((0,), (1,), (0, 1)):
            expected = reference.norm(base, p, dims, False)
            agree(device.norm(on_device(base, base), p, dims, False), expected, 2 * TOLERANCE[dtype], 1)


def test_norm_of_what_overflows_when_squared(device):
    base = np.full((3, 40), 1e30, F32)
    agree(device.norm(on_device(base, base), 2.0, (1,), False), reference.norm(base, 2.0, (1,), False), 1e-6)


def test_variance(device, tiles):
    """Far from 0, with an outlier in front, of one element, with more correction than elements."""
    rng = np.random.default_rng(5)
    base = (rng.standard_normal((4, 500)) * 1e-2 + 1e3).astype(F32)
    base[1, 0] = -1e6
    d = on_device(base, base)
    for dims in ((1,), (0,), (0, 1)):
        for correction in (0, 1, 2.5):
            agree(device.var(d, dims, False, correction), reference.var(base, dims, False, correction), 1e-6, 0)
        expected = np.sqrt(reference.var(base.astype(F64), dims, False, 1)).astype(F32)
        agree(device.std(d, dims, False, 1), expected, 1e-6, 0)
    one = on_device(base[:, :1], base)
    for correction in (0, 1, 3):
        agree(device.var(one, (1,), False, correction), reference.var(base[:, :1], (1,), False, correction), 1e-6)
    same = np.full((2, 300), 0.1, F32)
    assert not device.var(on_device(same, same), (1,), False, 1).to_host().any()


def test_empty_and_without_dimensions(device):
    for shape, dims in (((0,), (0,)), ((0, 3), (0,)), ((3, 0), (1,)), ((3, 0, 2), (0, 1)), ((3, 0), (0,))):
        base = np.empty(shape, F32)
        d = on_device(base, base)
        for name, *more in (("sum", F32), ("prod", F32), ("mean", F32), ("var", 1), ("all",), ("any",), ("nansum", F32)):
            for keepdim in (False, True):
                agree(getattr(device, name)(d, dims, keepdim, *more), getattr(reference, name)(base, dims, keepdim, *more))
        agree(device.norm(d, 2.0, dims, False), reference.norm(base, 2.0, dims, False))
    for name in ("amax", "amin"):
        with pytest.raises(ValueError):
            getattr(device, name)(d.look(d.ptr, (0, 2), (8, 4)), (0,), False)
    base = np.array(3.5, F32)
    d = on_device(base, base)
    agree(device.sum(d, (), False, F32), base)
    agree(device.mean(d, (), True, F32), base)
    agree(device.amax(d, (), False), base)
    agree(device.any(d, (), False), np.array(True))


def test_conversions(device):
    """Sums in another dtype: integers wrap, bool is "any"."""
    base = np.array([[200, 100, 7], [255, 255, 255]], np.uint8)
    d = on_device(base, base)
    for dtype in (np.dtype("u1"), np.dtype("i4"), F16, BF16, F64, np.dtype("?")):
        agree(device.sum(d, (1,), False, dtype), reference.sum(base, (1,), False, dtype), 1e-2)
    wrap = np.array([2**62, 2**62, 2**62], np.int64)
    agree(device.sum(on_device(wrap, wrap), (0,), False, I64), reference.sum(wrap, (0,), False, I64))
    broken = np.array([[1.5, np.nan], [2.5, -7.75]], F32)
    agree(device.nansum(on_device(broken, broken), (1,), False, I64), reference.nansum(broken, (1,), False, I64))


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)], ids=str)
def test_large(device, dims):
    """Many steps, several programs, ragged ends: no worse than NumPy, and the same bits twice."""
    rng = np.random.default_rng(6)
    base = rng.standard_normal((333, 401)).astype(F32) + 1
    d = on_device(base, base)
    r = device.sum(d, dims, False, F32).to_host()
    assert r.tobytes() == device.sum(d, dims, False, F32).to_host().tobytes()
    exact = base.sum(dims, np.float64)
    assert np.abs(r - exact).max() <= 4 * np.spacing(np.abs(exact).max().astype(F32))
    agree(device.amax(d, dims, False), reference.amax(base, dims, False))
    agree(device.var(d, dims, False, 1), reference.var(base, dims, False, 1), 1e-6)


def test_complex_is_refused(device):
    from tritium.kernels.array import NoKernel

    base = np.zeros((2, 2), np.complex64)
    with pytest.raises(NoKernel):
        device.sum(on_device(base, base), (0,), False, base.dtype)
