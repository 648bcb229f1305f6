"""Sorting, selecting, counting and searching on the device against NumPy's: layouts, dtypes, ties, nan, long rows."""
from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import sort as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64, I64 = (np.dtype(t) for t in ("f2", "f4", "f8", "i8"))
DTYPES = [BF16, F16, F32, F64, I64, *[np.dtype(t) for t in ("?", "u1", "i1", "i2", "i4")]]


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import sort

    return sort


@pytest.fixture(params=["in one tile", "merged"])
def tiles(request, monkeypatch):
    """Also rows that are merged from sorted runs."""
    from tritium.kernels.triton import sort

    if request.param == "merged":
        monkeypatch.setattr(sort, "SHORT", 8)
        monkeypatch.setattr(sort, "RUN", 8)
        monkeypatch.setattr(sort, "PIECE", 4)
        monkeypatch.setattr(sort, "_block", lambda n: 32)
    return request.param


def on_device(view, base=None):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    base = view if base is None else base
    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected):
    if isinstance(found, tuple):
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            agree(f, e)
        return
    assert found.shape == expected.shape and found.dtype == expected.dtype
    r = found.to_host()
    if r.dtype.kind in "fV":
        r, expected = r.astype(F64), expected.astype(F64)
    np.testing.assert_array_equal(r, expected)


def numbers(rng, shape, dtype):
    """Few different numbers: many ties; floats with nan, inf and -0."""
    n = math.prod(shape)
    if dtype.kind == "b":
        return (rng.random(n) < 0.5).reshape(shape)
    if dtype.kind in "iu":
        x = rng.integers(0, 9, n)
        if dtype == I64:
            x = x + (rng.integers(-2, 2, n) << 40)
        elif dtype.kind == "i":
            x = x - 4
        return x.astype(dtype).reshape(shape)
    x = rng.integers(-3, 4, n) / 2 * rng.choice([1, -1], n)
    x[rng.random(n) < 0.1] = np.nan
    x[rng.random(n) < 0.05] = np.inf
    x[rng.random(n) < 0.05] = -np.inf
    return x.astype(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sort(device, tiles, dtype):
    base = numbers(np.random.default_rng(0), (3, 21, 2), dtype)
    views = [(base, 0), (base, 1), (base, 2), (base.transpose(2, 0, 1), 2), (base[:, ::-2], 1), (base[1:2, :, 0], 1)]
    for i, (x, dim) in enumerate(views):
        descending = bool(i % 2)
        agree(device.sort(on_device(x, base), dim, descending), reference.sort(x, dim, descending))
    agree(device.argsort(on_device(base), 1, True), reference.argsort(base, 1, True))


@pytest.mark.parametrize("dtype", [F32, BF16, F64, I64, np.dtype("u1")], ids=str)
def test_selection(device, tiles, dtype):
    base = numbers(np.random.default_rng(1), (4, 19), dtype)
    base[0] = base[0, 0]
    if dtype.kind in "fV":
        base[1], base[2, :] = np.nan, 1
    d = on_device(base)
    for dim, k in ((1, 5), (0, 2), (1, 19), (1, 0)):
        for largest in (False, True):
            agree(device.topk(d, k, dim, largest), reference.topk(base, k, dim, largest))
    for dim, k in ((1, 0), (1, 18), (0, 2)):
        agree(device.kth(d, k, dim), reference.kth(base, k, dim))
    for dim in (0, 1):
        for ignore in (False, True):
            agree(device.median(d, dim, ignore), reference.median(base, dim, ignore))
        agree(device.mode(d, dim), reference.mode(base, dim))
    for x in (base, base[2], base[0, :0], base[3, ::2]):
        for ignore in (False, True):
            agree(device.median_of_all(on_device(x, base), ignore), reference.median_of_all(x, ignore))


def test_extreme_keys(device):
    """The largest and the smallest number of each type, and what lies beside a tile's padding."""
    for dtype in DTYPES[4:]:
        if dtype.kind == "b":
            continue
        info = np.iinfo(dtype)
        x = np.array([info.max, info.min, 0, info.max, info.min, 1], dtype)
        for descending in (False, True):
            agree(device.sort(on_device(x), 0, descending), reference.sort(x, 0, descending))
    x = np.array([np.inf, np.nan, -np.inf, -np.nan, 0.0, -0.0, 1e-45, -1e-45, 3e38], F32)
    for descending in (False, True):
        values, order = device.sort(on_device(x), 0, descending)
        assert values.to_host().tobytes() == x[reference.argsort(x, 0, descending)].tobytes()
        agree(order, reference.argsort(x, 0, descending))


def test_long_rows(device):
    """More than a tile: several runs and ragged ends; the same bits twice."""
    rng = np.random.default_rng(2)
    for x in (rng.integers(0, 500, (2, 5001)).astype(np.int32), rng.standard_normal((300, 1))):
        dim = int(np.argmax(x.shape))
        d = on_device(x)
        found = device.sort(d, dim, False)
        agree(found, reference.sort(x, dim, False))
        assert found[1].to_host().tobytes() == device.argsort(d, dim, False).to_host().tobytes()


def test_empty(device):
    for shape, dim in (((0,), 0), ((0, 3), 0), ((3, 0), 0), ((2, 1), 1)):
        x = np.ones(shape, F32)
        agree(device.sort(on_device(x), dim, False), reference.sort(x, dim, False))
    x = np.empty(0, F32)
    agree(device.unique(on_device(x)), reference.unique(x))
    agree(device.unique_consecutive(on_device(x)), reference.unique_consecutive(x))


@pytest.mark.parametrize("dtype", [F32, BF16, I64, np.dtype("u1"), np.dtype("?")], ids=str)
def test_unique(device, tiles, dtype):
    base = numbers(np.random.default_rng(3), (5, 14), dtype)
    for x in (base, base.T, base[:, ::3]):
        d = on_device(x, base)
        agree(device.unique(d), reference.unique(x))
        agree(device.unique_consecutive(d), reference.unique_consecutive(x))


def test_unique_slices(device, tiles):
    base = np.random.default_rng(4).integers(0, 2, (3, 12, 2)).astype(F32)
    for dim in range(3):
        for consecutive in (False, True):
            agree(device.unique_slices(on_device(base), dim, consecutive), reference.unique_slices(base, dim, consecutive))


@pytest.mark.parametrize("dtype", [F32, BF16, I64, np.dtype("i2")], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's bfloat16 compares nan with a warning
def test_searching(device, dtype):
    rng = np.random.default_rng(5)
    bounds = np.sort(numbers(rng, (13,), dtype).astype(F64)).astype(dtype)
    values = numbers(rng, (3, 9), dtype)
    rows = np.sort(numbers(rng, (3, 6), dtype).astype(F64), -1).astype(dtype)
    order = reference.argsort(values, 1, False)
    for right in (False, True):
        agree(device.searchsorted(on_device(bounds), on_device(values), right), reference.searchsorted(bounds, values, right))
        agree(device.searchsorted(on_device(bounds), on_device(values.T, values), right),
              reference.searchsorted(bounds, values.T, right))
        agree(device.searchsorted(on_device(rows), on_device(values), right), reference.searchsorted(rows, values, right))
        agree(device.searchsorted(on_device(values), on_device(rows), right, on_device(order)),
              reference.searchsorted(values, rows, right, order))
    agree(device.searchsorted(on_device(bounds[:0]), on_device(values), False),
          reference.searchsorted(bounds[:0], values, False))
    tests = numbers(rng, (2, 3), dtype)
    agree(device.isin(on_device(values), on_device(tests)), reference.isin(values, tests))
    agree(device.isin(on_device(values), on_device(tests[:0])), reference.isin(values, tests[:0]))


@pytest.mark.parametrize("dtype", [F32, F64, BF16, F16], ids=str)
def test_histc(device, dtype):
    x = (np.random.default_rng(6).standard_normal((30, 40)) * 2).astype(dtype)
    x[0, :5] = np.nan, np.inf, -np.inf, 3, -3
    for bins, low, high in ((10, -3.0, 3.0), (7, 0.1, 0.7), (1500, -3.0, 3.0), (1, -1.0, 1.0)):
        agree(device.histc(on_device(x), bins, low, high), reference.histc(x, bins, low, high))
        agree(device.histc(on_device(x.T, x), bins, low, high), reference.histc(x.T, bins, low, high))


def test_bincount(device):
    rng = np.random.default_rng(7)
    for dtype in (I64, np.dtype("u1"), np.dtype("i4")):
        x = rng.integers(0, 20, 300).astype(dtype)
        for minlength in (0, 5, 40, 2000):
            agree(device.bincount(on_device(x), None, minlength), reference.bincount(x, None, minlength))
        for weights in (rng.standard_normal(300).astype(F32), rng.standard_normal(300), np.arange(300)):
            found = device.bincount(on_device(x), on_device(weights), 3)
            expected = reference.bincount(x, weights, 3)
            assert found.shape == expected.shape and found.dtype == expected.dtype
            np.testing.assert_allclose(found.to_host(), expected, rtol=1e-5, atol=1e-5)
    x = np.empty(0, I64)
    agree(device.bincount(on_device(x), None, 0), reference.bincount(x, None, 0))
    agree(device.bincount(on_device(x), None, 3), reference.bincount(x, None, 3))
