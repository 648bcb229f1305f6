"""Normalization on the device against NumPy's: layouts, dtypes, one program and many, short rows and long ones."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import norm as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
TOLERANCE = {BF16: 1e-2, F16: 2e-3, F32: 5e-6, F64: 1e-12}


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import norm

    return norm


@pytest.fixture(params=["one program", "many"])
def tiles(request, monkeypatch):
    """Also with small tiles, several programs for one channel, and rows that do not fit a tile."""
    from tritium.kernels.triton import axes, norm_forms

    axes.forget()
    if request.param == "many":
        monkeypatch.setattr(norm_forms, "tile_elements", lambda itemsize: 64)
        monkeypatch.setattr(norm_forms, "row_elements", lambda itemsize: 32)
        monkeypatch.setattr(norm_forms, "wanted_programs", lambda: 6)
    yield request.param
    axes.forget()


def on_device(view, base=None):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    if view is None:
        return None
    if base is None:
        base = view = np.asarray(view, order="C")
    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected, tolerance, dtype=None):
    assert found.shape == expected.shape and found.dtype == (expected.dtype if dtype is None else dtype)
    e = expected.astype(F64)
    np.testing.assert_allclose(found.copy().to_host().astype(F64), e, rtol=tolerance,
                               atol=tolerance * max(np.abs(e).max(initial=0), 1))


def numbers(seed, *shape, dtype=F32):
    return (2 * np.random.default_rng(seed).standard_normal(shape) + 0.5).astype(dtype)


def layouts(*shape, dtype):
    """(view, its base): contiguous, channels last, and neither."""
    x = numbers(0, *shape, dtype=dtype)
    yield x, x
    last = numbers(1, shape[0], *shape[2:], shape[1], dtype=dtype)
    yield np.moveaxis(last, -1, 1), last
    wide = numbers(2, shape[0] + 1, *shape[1:-1], 2 * shape[-1], dtype=dtype)
    yield wide[1:, ..., ::2], wide


def same_order(found, x):
    """Laid out like x where x is contiguous or channels last."""
    last = x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous and not x.flags.c_contiguous
    assert found.transpose(0, *range(2, x.ndim), 1).dense if last else found.dense


@pytest.mark.parametrize("shape", [(4, 6, 5, 4), (3, 16, 7, 7), (40, 24), (2, 1, 30)], ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_batch_norm(device, tiles, shape, dtype):
    tolerance, parameter = TOLERANCE[dtype], F64 if dtype == F64 else F32
    w, b, mean = (numbers(i, shape[1], dtype=parameter) for i in (3, 4, 5))
    var = np.abs(numbers(6, shape[1], dtype=parameter))
    dw, db, dmean, dvar = map(on_device, (w, b, mean, var))
    for i, (x, base) in enumerate(layouts(*shape, dtype=dtype)):
        d, dy = on_device(x, base), numbers(7, *shape, dtype=dtype)
        weight, bias = (w, b) if i != 1 else (None, None)
        weight_d, bias_d = (dw, db) if i != 1 else (None, None)
        running, moved = (mean.copy(), var.copy()), (on_device(mean), on_device(var))
        expected = reference.batch_norm_train(x, weight, bias, 1e-5, *running, 0.1)
        y, *stats = device.batch_norm_train(d, weight_d, bias_d, 1e-5, *moved, 0.1)
        agree(y, expected[0], tolerance)
        same_order(y, x)
        for f, e in (*zip(stats, expected[1:], strict=True), *zip(moved, running, strict=True)):
            agree(f, e, min(tolerance, 1e-5))
        agree(device.batch_norm_eval(d, dmean, dvar, weight_d, bias_d, 1e-5),
              reference.batch_norm_eval(x, mean, var, weight, bias, 1e-5), tolerance)
        backward = reference.batch_norm_backward(dy, x, *expected[1:3], weight, True)
        found = device.batch_norm_backward(on_device(dy), d, *stats[:2], weight_d, True)
        for f, e in zip(found, backward, strict=True):
            agree(f, e, 4 * tolerance)
        same_order(found[0], x)
        if i == 0:
            again = device.batch_norm_backward(on_device(dy), d, *stats[:2], weight_d, True)
            assert all((f.to_host() == a.to_host()).all() for f, a in zip(found, again, strict=True))
            none, *found = device.batch_norm_backward(on_device(dy), d, *stats[:2], weight_d, True, False)
            assert none is None
            for f, e in zip(found, backward[1:], strict=True):
                agree(f, e, 4 * tolerance)
            invstd = 1 / np.sqrt(var.astype(F64) + 1e-5)
            for f, e in zip(device.batch_norm_backward(on_device(dy), d, dmean, on_device(invstd), weight_d, False),
                            reference.batch_norm_backward(dy, x, mean, invstd, weight, False), strict=True):
                agree(f, e, 4 * tolerance)


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_batch_norm_with_what_follows(device, tiles, activation, dtype):
    """A residual and an activation, forward and backward, in training and with given statistics."""
    shape, tolerance, parameter = (3, 16, 5, 4), TOLERANCE[dtype], F64 if dtype == F64 else F32
    w, b, mean = (numbers(i, 16, dtype=parameter) for i in (3, 4, 5))
    b += 1.5  # some values beyond 6
    var = np.abs(numbers(6, 16, dtype=parameter))
    dw, db, dmean, dvar = map(on_device, (w, b, mean, var))
    for i, (x, base) in enumerate(layouts(*shape, dtype=dtype)):
        d, dy, r = on_device(x, base), numbers(7, *shape, dtype=dtype), numbers(8, *shape, dtype=dtype)
        dy[0, 0, 0] = np.inf  # must not come through where the activation stops it
        for added in (None, r):
            moved, running = (on_device(mean), on_device(var)), (mean.copy(), var.copy())
            count, counted = on_device(np.array(3)), np.array(3)
            want = reference.batch_norm_train(x, w, b, 1e-5, *running, 0.1, counted, added, activation)
            y, m, inv, _ = device.batch_norm_train(d, dw, db, 1e-5, *moved, 0.1, count, on_device(added), activation)
            agree(y, want[0], tolerance)
            same_order(y, x)
            assert count.item() == counted.item() == 4
            for f, e in zip(moved, running, strict=True):
                agree(f, e, min(tolerance, 1e-5))
            frozen = reference.batch_norm_eval(x, mean, var, w, b, 1e-5, added, activation)
            z = device.batch_norm_eval(d, dmean, dvar, dw, db, 1e-5, on_device(added), activation)
            agree(z, frozen, tolerance)
            given = None if added is None else want[0].astype(dtype)
            for train in (True, False):
                stats = (*want[1:3], w, True) if train else (mean, var, w, False)
                there = (on_device(want[1]), on_device(want[2]), dw, True) if train else (dmean, dvar, dw, False)
                told = given if train or given is None else frozen
                for needs in ((True, True), (True, False), (False, True)):
                    rest = (activation, b, told, None if train else 1e-5, *needs, added is not None)
                    expected = reference.batch_norm_act_backward(dy, x, *stats, *rest)
                    rest = (activation, db, on_device(told), *rest[3:])
                    found = device.batch_norm_act_backward(on_device(dy), d, *there, *rest)
                    assert [f is None for f in found] == [e is None for e in expected]
                    if i == 0 and needs == (True, True):
                        again = device.batch_norm_act_backward(on_device(dy), d, *there, *rest)
                        assert all(f is None or f.to_host().tobytes() == a.to_host().tobytes()
                                   for f, a in zip(found, again, strict=True))
                    for f, e in zip(found, expected, strict=True):
                        if e is not None:
                            finite = np.isfinite(e.astype(F64))
                            f = f.copy().to_host()
                            assert (np.isfinite(f.astype(F64)) == finite).all()
                            agree(on_device(np.where(finite, f, 0)), np.where(finite, e, 0).astype(e.dtype),
                                  4 * tolerance, f.dtype)


def test_activations_let_nan_through(device):
    x = numbers(0, 2, 3, 4)
    x[0, 1, 2] = np.nan
    ones = np.ones(3, F32)
    for activation in ("relu", "relu6"):
        for added in (None, np.zeros_like(x)):
            y = device.batch_norm_eval(on_device(x), *map(on_device, (ones, ones, ones, ones)), 1e-5, on_device(added),
                                       activation)
            assert np.isnan(y.to_host()).sum() == 1
            for k, put in ((reference, lambda a: a), (device, on_device)):
                told = None if added is None else put(y.to_host())
                dx = k.batch_norm_act_backward(put(np.ones_like(x)), put(x), put(ones), put(ones), put(ones), False,
                                               activation, put(ones), told, needs_weight=False)[0]
                assert (dx if k is reference else dx.to_host())[0, 1, 2] == 1


@pytest.mark.parametrize("shape", [(5, 24), (33, 10), (2, 100), (1, 1), (3, 0), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_rms_norm(device, tiles, shape, dtype):
    tolerance, parameter = TOLERANCE[dtype], F64 if dtype == F64 else F32
    x, dy = numbers(0, *shape, dtype=dtype), numbers(1, *shape, dtype=dtype)
    w = numbers(2, shape[1], dtype=parameter)
    for weight in (w, None):
        expected = reference.rms_norm(x, weight, 1e-5)
        found = device.rms_norm(on_device(x), on_device(weight), 1e-5)
        for f, r in zip(found, expected, strict=True):
            agree(f, r, tolerance)
        backward = reference.rms_norm_backward(dy, x, expected[1], weight)
        found = device.rms_norm_backward(on_device(dy), on_device(x), found[1], on_device(weight))
        for f, r in zip(found, backward, strict=True):
            agree(f, r, 4 * tolerance)


def test_parts(device):
    x = numbers(0, 5, 6, 7)
    d = on_device(x)
    for f, e in zip(device.batch_stats(d), reference.batch_stats(x), strict=True):
        agree(f, e, 1e-6)
    mean, var, w, b = (np.abs(numbers(i, 6)) for i in range(1, 5))
    given = [on_device(v) for v in (mean, var, w, b)]
    for f, e in zip(device.affine(*given, 1e-3), reference.affine(mean, var, w, b, 1e-3), strict=True):
        agree(f, e, 1e-12)
    for f, e in zip(device.affine(*given[:2], None, None, 1e-3), reference.affine(mean, var, None, None, 1e-3),
                    strict=True):
        agree(f, e, 1e-12)
    agree(device.batch_apply(d, *given[:2]), reference.batch_apply(x, mean, var), 1e-6)
    device.update_running(given[0], given[1], 0.3)
    reference.update_running(mean, var, 0.3)
    agree(given[0], mean, 1e-6)


def test_no_cancellation(device, tiles):
    """A mean 10,000 times the deviation; a first element far away from the others."""
    x = numbers(0, 6, 3, 50) + np.float32(10000)
    x[0, :, 0] = 0
    _, var = device.batch_stats(on_device(x))
    np.testing.assert_allclose(var.to_host(), x.astype(F64).var((0, 2)), rtol=1e-6)
    x[0, :, 0] = 10000
    _, var = device.batch_stats(on_device(x))
    np.testing.assert_allclose(var.to_host(), x.astype(F64).var((0, 2)), rtol=1e-3)
    y = device.batch_norm_train(on_device(x), None, None, 0.0)[0].to_host()
    np.testing.assert_allclose(y, (x - x.mean((0, 2), F64, keepdims=True)) / x.std((0, 2), F64, keepdims=True),
                               atol=2e-3)


def test_one_nan_spoils_one_channel(device, tiles):
    x = numbers(0, 4, 8, 9)
    x[2, 3, 4] = np.nan
    y = device.batch_norm_train(on_device(x), None, None, 1e-5)[0].to_host()
    assert np.isnan(y[:, 3]).all() and np.isfinite(np.delete(y, 3, 1)).all()
    rows, _, _ = device.layer_norm(on_device(x.reshape(32, 9)), None, None, 1e-5)
    assert np.isnan(rows.to_host()).any(1).nonzero()[0].tolist() == [2 * 8 + 3]


@pytest.mark.parametrize("shape", [(5, 24), (33, 10), (2, 100), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_layer_norm(device, tiles, shape, dtype):
    tolerance, parameter = TOLERANCE[dtype], F64 if dtype == F64 else F32
    x, dy = numbers(0, *shape, dtype=dtype), numbers(1, *shape, dtype=dtype)
    w, b = (numbers(i, shape[1], dtype=parameter) for i in (2, 3))
    d, e = on_device(x), on_device(dy)
    for weight, bias in ((w, b), (None, None)):
        expected = reference.layer_norm(x, weight, bias, 1e-5)
        found = device.layer_norm(d, on_device(weight), on_device(bias), 1e-5)
        for f, r in zip(found, expected, strict=True):
            agree(f, r, tolerance)
        backward = reference.layer_norm_backward(dy, x, *expected[1:], weight)
        for f, r in zip(device.layer_norm_backward(e, d, *found[1:], on_device(weight)), backward, strict=True):
            agree(f, r, 4 * tolerance)


@pytest.mark.parametrize("shape,groups", [((3, 8, 5, 4), 2), ((2, 6, 7), 3), ((4, 8), 2), ((1, 4, 9), 4)], ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_group_norm(device, tiles, shape, groups, dtype):
    tolerance, parameter = TOLERANCE[dtype], F64 if dtype == F64 else F32
    w, b = (numbers(i, shape[1], dtype=parameter) for i in (3, 4))
    dy = numbers(5, *shape, dtype=dtype)
    for i, (x, base) in enumerate(layouts(*shape, dtype=dtype)):
        d = on_device(x, base)
        weight, bias = (w, b) if i != 1 else (None, None)
        expected = reference.group_norm(x, groups, weight, bias, 1e-5)
        found = device.group_norm(d, groups, on_device(weight), on_device(bias), 1e-5)
        for f, e in zip(found, expected, strict=True):
            agree(f, e, 2 * tolerance)
        backward = reference.group_norm_backward(dy, x, groups, *expected[1:], weight)
        for f, e in zip(device.group_norm_backward(on_device(dy), d, groups, *found[1:], on_device(weight)), backward,
                        strict=True):
            agree(f, e, 4 * tolerance)


def test_nothing(device):
    for shape in ((0, 3, 4), (2, 3, 0)):
        x = np.zeros(shape, F32)
        d = on_device(x)
        ones = on_device(np.ones(3, F32))
        assert device.batch_norm_eval(d, ones, ones, None, None, 1e-5).shape == shape
        dx, dw, db = device.batch_norm_backward(d, d, ones, ones, ones, True)
        assert dx.shape == shape and dw.to_host().tolist() == db.to_host().tolist() == [0, 0, 0]
        y, mean, rstd = device.group_norm(d, 3, None, None, 1e-5)
        assert y.shape == shape and mean.shape == rstd.shape == (shape[0] * 3, 1)
        assert device.group_norm_backward(d, d, 3, mean, rstd, None)[0].shape == shape
    x = on_device(np.zeros((4, 0), F32))
    for f, e in zip(device.layer_norm(x, None, None, 1e-5), reference.layer_norm(np.zeros((4, 0), F32), None, None, 1e-5),
                    strict=True):
        agree(f, e, 1e-6)
