"""Cross entropy on the device against NumPy's: classes and probabilities, weights, smoothing, layouts, tiles."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import loss_entropy as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F32, F64 = np.dtype("f4"), np.dtype("f8")
TOLERANCE = {BF16: 1e-2, F32: 4e-6, F64: 1e-12}
REDUCTIONS = ("none", "mean", "sum")


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import loss_entropy

    return loss_entropy


@pytest.fixture(params=["whole", "walking", "many"])
def tiles(request, monkeypatch):
    """Also with tiles that a row does not fit, and with several programs."""
    from tritium.kernels.triton import axes, loss_entropy, softmax

    axes.forget()
    if request.param == "walking":
        monkeypatch.setattr(loss_entropy, "tile_limit", lambda itemsize, every: 64)
    elif request.param == "many":
        monkeypatch.setattr(loss_entropy, "tile_limit", lambda itemsize, every: 512)
        monkeypatch.setattr(softmax, "wanted_programs", lambda: 8)
    yield request.param
    axes.forget()


def sent(a):
    """A copy in device memory with the same strides."""
    from tritium.kernels.triton.memory import from_host

    if a is None:
        return None
    base = a
    while base.base is not None and isinstance(base.base, np.ndarray):
        base = base.base
    d = from_host(np.ascontiguousarray(base))
    return d.look(d.ptr + a.__array_interface__["data"][0] - base.__array_interface__["data"][0], a.shape, a.strides)


def agree(found, expected, tolerance=None):
    assert (found is None) == (expected is None)
    if expected is None:
        return
    assert found.shape == expected.shape and found.dtype == expected.dtype
    tolerance = TOLERANCE[expected.dtype] if tolerance is None else tolerance
    np.testing.assert_allclose(found.copy().to_host().astype(F64), expected.astype(F64), rtol=tolerance, atol=tolerance)


def numbers(seed, shape, dtype):
    return (2 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def check_classes(device, x, target, weight, smoothing, reduction, ignore=-100):
    loss, saved, total, wrong = reference.cross_entropy(x, target, weight, ignore, smoothing, reduction)
    found, stats, whole, bad = device.cross_entropy(sent(x), sent(target), sent(weight), ignore, smoothing, reduction)
    assert wrong is None and bad is None
    agree(found, loss)
    g = numbers(7, loss.shape, x.dtype)
    expected = reference.cross_entropy_backward(g, x, target, weight, ignore, smoothing, reduction, saved, total)
    agree(device.cross_entropy_backward(sent(g), sent(x), sent(target), sent(weight), ignore, smoothing, reduction,
                                        stats, whole), expected)


def check_soft(device, x, t, weight, smoothing, reduction):
    loss, saved = reference.soft_cross_entropy(x, t, weight, smoothing, reduction)
    found, stats = device.soft_cross_entropy(sent(x), sent(t), sent(weight), smoothing, reduction)
    agree(found, loss)
    g = numbers(8, loss.shape, x.dtype)
    for needs in ((True, False), (False, True), (True, True)):
        theirs = reference.soft_cross_entropy_backward(g, x, t, weight, smoothing, reduction, saved, needs)
        ours = device.soft_cross_entropy_backward(sent(g), sent(x), sent(t), sent(weight), smoothing, reduction, stats,
                                                  needs)
        for a, b in zip(ours, theirs, strict=True):
            agree(a, b)


SHAPES = [(9, 40), (3, 70, 2, 5)]


@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_classes(device, tiles, shape, dtype):
    x, rng = numbers(0, shape, dtype), np.random.default_rng(1)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    weight = rng.random(shape[1]).astype(dtype)
    weight[0] = 0
    for i, reduction in enumerate(REDUCTIONS):
        check_classes(device, x, target, None, 0.0, reduction)
        check_classes(device, x, target, weight, 0.3 * (i % 2), reduction, int(target.flat[1]))
        check_classes(device, x, target, None, 0.1, reduction, int(target.flat[0]))


@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities(device, tiles, shape, dtype):
    x, rng = numbers(2, shape, dtype), np.random.default_rng(3)
    t, weight = rng.random(shape).astype(dtype), rng.random(shape[1]).astype(dtype)
    for i, reduction in enumerate(REDUCTIONS):
        check_soft(device, x, t, None, 0.0, reduction)
        check_soft(device, x, t, weight, 0.3 * (i % 2), reduction)


def test_layouts(device, tiles):
    """Channels last, views with gaps, targets and gradients with any strides."""
    last = numbers(4, (2, 3, 4, 12), F32).transpose(0, 3, 1, 2)
    gaps = numbers(5, (4, 24, 3, 4), F32)[::2, ::2]
    target = np.random.default_rng(6).integers(0, 12, (2, 4, 3)).transpose(0, 2, 1)
    t = np.random.default_rng(6).random((2, 3, 4, 12)).astype(F32).transpose(0, 3, 1, 2)
    for x in (last, gaps):
        for reduction in ("none", "mean"):
            check_classes(device, x, target, None, 0.1, reduction)
            check_soft(device, x, t, None, 0.1, reduction)
            check_soft(device, x, np.ascontiguousarray(t), None, 0.0, reduction)


def test_one_class_one_sample_and_extremes(device):
    check_classes(device, numbers(9, (5, 1), F32), np.zeros(5, int), None, 0.0, "mean")
    check_classes(device, numbers(9, (1, 5), F32), np.zeros(1, int), None, 0.2, "sum")
    x = np.array([[1e4, 0, -1e4], [np.inf, 0, 1], [-np.inf, 0, 1], [np.nan, 0, 1], [3e38, -3e38, 0]], F32)
    for smoothing in (0.0, 0.1):
        for reduction in ("none", "mean"):
            check_classes(device, x, np.array([2, 1, 1, 1, 0]), None, smoothing, reduction)
    ignored = np.full(5, -100)
    check_classes(device, x[:1].repeat(5, 0), ignored, None, 0.0, "mean")
    check_classes(device, x[:1].repeat(5, 0), ignored, None, 0.1, "mean")


def test_class_out_of_range(device, tiles):
    x, target = numbers(10, (40, 6), F32), np.random.default_rng(11).integers(0, 6, 40)
    for bad in (6, -1, -100):
        target[33] = bad
        for reduction in REDUCTIONS:
            found = device.cross_entropy(sent(x), sent(target), None, -100, 0.0, reduction)[3]
            assert found == (None if bad == -100 else bad)


def test_same_bits_twice(device, tiles):
    x, target = numbers(12, (40, 60), F32), np.random.default_rng(13).integers(0, 60, 40)
    first, second = (device.cross_entropy(sent(x), sent(target), None, -100, 0.1, "mean")[0].tobytes()
                     for _ in range(2))
    assert first == second
