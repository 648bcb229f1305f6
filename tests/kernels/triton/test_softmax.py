"""Softmax and its relatives on the device against NumPy's: layouts, dtypes, nan and inf, short and long rows."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import softmax as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
TOLERANCE = {BF16: 8e-3, F16: 1e-3, F32: 1e-6, F64: 1e-13}


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import softmax

    return softmax


@pytest.fixture(params=["one tile", "many", "long"])
def tiles(request, monkeypatch):
    """Also with several programs, and with rows that do not fit a tile."""
    from tritium.kernels.triton import axes, softmax

    axes.forget()
    if request.param != "one tile":
        monkeypatch.setattr(axes, "block_elements", lambda itemsize, wide: 64)
        monkeypatch.setattr(axes, "wanted_programs", lambda: 6)
        monkeypatch.setattr(softmax, "wanted_programs", lambda: 6)
        monkeypatch.setattr(softmax, "most_elements", lambda wide: 1024 if request.param == "many" else 32)
    yield request.param
    axes.forget()


def on_device(view, base):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected, tolerance, like=None):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    if like is not None:
        assert all(n == 1 or s == t for n, s, t in zip(found.shape, found.strides, like, strict=True))
    r = found.copy().to_host()
    np.testing.assert_allclose(r.astype(F64), expected.astype(F64), rtol=tolerance, atol=tolerance)


def numbers(seed, shape, dtype):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def layouts(x):
    """Dense in another order (the result is like it), and not dense."""
    yield x, x.strides
    y = x.transpose(0, 2, 1)
    yield y, y.strides
    yield x[:, ::2], None
    yield np.broadcast_to(x[:, None, :, 0], (x.shape[0], 3, x.shape[1])), None


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_forward_and_backward(device, tiles, dtype):
    base, g = numbers(0, (3, 20, 24), dtype), numbers(1, (3, 20, 24), dtype)
    for i, (x, like) in enumerate(layouts(base)):
        d = on_device(x, base)
        for axis in (0, 1, 2, -1) if i == 0 else (1, 2):
            for name in ("softmax", "log_softmax"):
                y = getattr(reference, name)(x, axis)
                agree(getattr(device, name)(d, axis), y, TOLERANCE[dtype] * (3 if "log" in name else 1), like)
                y = np.ascontiguousarray(y) if like is None else y
                if x.shape == g.shape:
                    expected = getattr(reference, name + "_backward")(g, y, axis)
                    back = getattr(device, name + "_backward")
                    agree(back(on_device(g, g), on_device(y, np.ascontiguousarray(y)) if like is None else _same(y), axis),
                          expected, 8 * TOLERANCE[dtype])


def _same(y):
    """y in device memory, with its strides."""
    order = np.argsort([-s for s in y.strides], kind="stable")
    base = np.ascontiguousarray(y.transpose(order))
    return on_device(base, base).transpose(tuple(int(k) for k in np.argsort(order)))


def test_expanded_gradient(device):
    y = reference.softmax(numbers(2, (4, 9), F32), 1)
    g = np.broadcast_to(np.array([0.5], F32), (4, 9))
    found = device.softmax_backward(on_device(g, g.base if g.base is not None else g), on_device(y, y), 1)
    agree(found, reference.softmax_backward(np.ascontiguousarray(g), y, 1), 1e-6)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_nan_and_infinity(device, tiles, dtype):
    base = numbers(3, (8, 70), dtype)
    base[0] = -np.inf
    base[1, 3] = np.nan
    base[2, 5] = np.inf
    base[3, :40] = -np.inf
    base[4, 7:9] = np.inf
    base[5] = 3e38
    base[6] = -3e38
    for x in (base, base.T):
        d = on_device(x, base)
        for axis in (0, 1):
            for name in ("softmax", "log_softmax"):
                agree(getattr(device, name)(d, axis), getattr(reference, name)(x, axis), 3 * TOLERANCE[dtype])
            agree(device.logsumexp(d, (axis,), False), reference.logsumexp(x, (axis,), False), TOLERANCE[dtype])


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2), ()], ids=str)
def test_logsumexp(device, tiles, axes):
    base = numbers(4, (5, 12, 30), F32)
    for x in (base, base.transpose(2, 0, 1), base[:, ::3], base[:, ::-1]):
        for keepdims in (False, True):
            found = device.logsumexp(on_device(x, base), axes, keepdims)
            agree(found, reference.logsumexp(x, axes, keepdims), 1e-6)
            assert found.dense
    for dtype in (BF16, F64):
        x = base.astype(dtype)
        agree(device.logsumexp(on_device(x, x), axes, False), reference.logsumexp(x, axes, False), TOLERANCE[dtype])


def test_empty_and_single(device):
    for shape, axis in (((0, 3), 0), ((0, 3), 1), ((3, 0), 1), ((1,), 0), ((4, 1), 1), ((1, 5), 0)):
        x = numbers(5, shape, F32)
        d = on_device(x, x)
        for name in ("softmax", "log_softmax"):
            agree(getattr(device, name)(d, axis), getattr(reference, name)(x, axis), 1e-6)
        agree(device.logsumexp(d, (axis,), False), reference.logsumexp(x, (axis,), False), 1e-6)


def test_large(device):
    """A row longer than the largest tile; the same bits twice."""
    x = numbers(6, (2, 40001), F32)
    d = on_device(x, x)
    r = device.softmax(d, 1)
    agree(r, reference.softmax(x, 1), 1e-6)
    assert r.to_host().tobytes() == device.softmax(d, 1).to_host().tobytes()
    agree(device.logsumexp(d, (0, 1), False), reference.logsumexp(x, (0, 1), False), 1e-6)
    g = numbers(7, x.shape, F32)
    y = reference.softmax(x, 1)
    agree(device.softmax_backward(on_device(g, g), on_device(y, y), 1), reference.softmax_backward(g, y, 1), 1e-6)
