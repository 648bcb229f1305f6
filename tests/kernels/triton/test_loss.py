"""Losses on the device against NumPy's: reductions, layouts, dtypes, nan and inf; classes, weights, ignored ones."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import loss as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
TOLERANCE = {BF16: 8e-3, F16: 1e-3, F32: 2e-6, F64: 1e-13}
NUMBERS = {"mse": (), "l1": (), "smooth_l1": (0.7,), "huber": (0.6,), "bce": (None,), "bce_logits": (None, None),
           "kl": (), "kl_log": (), "soft_margin": (), "hinge": (0.8,), "poisson": (1e-3,), "poisson_log": (),
           "poisson_full": (1e-3,), "poisson_log_full": ()}
UNIT = ("bce", "kl", "poisson", "poisson_full")  # of probabilities, or of what is positive
NO_TARGET = ("soft_margin", "hinge")  # whose targets have no gradient


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import loss

    return loss


@pytest.fixture(params=["one program", "many"])
def programs(request, monkeypatch):
    """Also with several programs of several blocks, the last one ragged."""
    from tritium.kernels.triton import axes, loss

    axes.forget()
    if request.param == "many":
        monkeypatch.setattr(loss, "block_size", lambda: 32)
        monkeypatch.setattr(loss, "share", lambda blocks, most: (-(-blocks // 2), 2) if blocks > 2 else (1, max(blocks, 1)))
    yield
    axes.forget()


def sent(a):
    """A copy in device memory with the same strides."""
    from tritium.kernels.triton.memory import from_host

    base = a
    while base.base is not None and isinstance(base.base, np.ndarray):
        base = base.base
    d = from_host(np.ascontiguousarray(base))
    return d.look(d.ptr + a.__array_interface__["data"][0] - base.__array_interface__["data"][0], a.shape, a.strides)


def agree(found, expected, tolerance=None):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    tolerance = TOLERANCE[expected.dtype] if tolerance is None else tolerance
    np.testing.assert_allclose(found.to_host().astype(F64), expected.astype(F64), rtol=tolerance, atol=tolerance)


def agree_both(found, expected, tolerance=None):
    for f, e in zip(found, expected, strict=True):
        assert (f is None) == (e is None)
        if e is not None:
            agree(f, e, tolerance)


def targets(seed, shape, dtype, name):
    t = values(seed, shape, dtype, "bce")
    return np.sign(t - dtype.type(0.5)) if name in NO_TARGET else t * dtype.type(4) if "full" in name else t


def values(seed, shape, dtype, name=""):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) if name in UNIT else 2 * rng.standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_elementwise(device, programs, name, dtype):
    more = NUMBERS[name]
    for shape in ((5, 31), (), (0, 3)) if dtype is F32 else ((5, 31),):
        x, t = values(0, shape, dtype, name), targets(1, shape, dtype, name)
        for reduction in ("none", "mean", "sum"):
            agree(device.forward(name, sent(x), sent(t), reduction, *more),
                  reference.forward(name, x, t, reduction, *more))
            g = values(2, shape if reduction == "none" else (), dtype)
            for needs in ((True, False), (False, True), (True, True)):
                if not needs[1] or name not in NO_TARGET:
                    agree_both(device.backward(name, sent(g), sent(x), sent(t), reduction, *more, needs=needs),
                               reference.backward(name, g, x, t, reduction, *more, needs=needs))


def test_count(device, programs):
    """A mean over another number than that of the elements."""
    for x, t in ((values(0, (5, 31), F32), values(1, (5, 31), F32, "bce")),
                 (values(0, (5, 31), F32), values(1, (31, 5), F32, "bce").T)):
        agree(device.forward("kl", sent(x), sent(t), "mean", count=5), reference.forward("kl", x, t, "mean", count=5))
        g = np.array(0.7, F32)
        agree_both(device.backward("kl", sent(g), sent(x), sent(t), "mean", count=5, needs=(True, True)),
                   reference.backward("kl", g, x, t, "mean", count=5, needs=(True, True)))


def test_layouts(device, programs):
    a, b = values(3, (6, 7, 8), F32), values(4, (6, 7, 8), F32)
    for x, t in ((a.transpose(0, 2, 1), b.transpose(0, 2, 1)), (a, b.transpose(0, 1, 2)[:, :, ::-1]),
                 (a[:, ::2], b[:, ::2]), (a, np.broadcast_to(b[:1, :, :1], a.shape)), (a.T, b.reshape(8, 7, 6))):
        for reduction in ("none", "mean", "sum"):
            agree(device.forward("huber", sent(x), sent(t), reduction, 0.5),
                  reference.forward("huber", x, t, reduction, 0.5))
        g = np.broadcast_to(np.float32(0.5), x.shape)
        agree_both(device.backward("mse", sent(g), sent(x), sent(t), "none", needs=(True, True)),
                   reference.backward("mse", g, x, t, "none", needs=(True, True)))


@pytest.mark.parametrize("name", ["bce", "bce_logits"])
def test_weights(device, programs, name):
    x, t, g = values(5, (6, 20), F32, name), values(6, (6, 20), F32, "bce"), np.array(0.3, F32)
    for w in (None, values(7, (6, 20), F32), values(8, (20,), F32), np.array(2, F32)):
        for p in (None, values(9, (1, 20), F32), values(10, (6, 1), F32)) if name == "bce_logits" else (0,):
            more = (w,) if name == "bce" else (w, p)
            there = [None if a is None else sent(a) for a in more]
            for reduction in ("none", "mean", "sum"):
                agree(device.forward(name, sent(x), sent(t), reduction, *there),
                      reference.forward(name, x, t, reduction, *more), 4e-6)
            agree_both(device.backward(name, sent(g), sent(x), sent(t), "mean", *there, needs=(True, True)),
                       reference.backward(name, g, x, t, "mean", *more, needs=(True, True)))


@pytest.mark.parametrize("name", NUMBERS)
def test_nan_and_infinity(device, name):
    odd = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, 3e38, -3e38, 90, -90], F32)
    x, t = np.repeat(odd, 10), np.tile(odd, 10)
    if name == "bce":
        x = np.clip(x, 0, 1)
    agree(device.forward(name, sent(x), sent(t), "none", *NUMBERS[name]),
          reference.forward(name, x, t, "none", *NUMBERS[name]))
    g, needs = np.array(1, F32), (True, name not in NO_TARGET)
    agree_both(device.backward(name, sent(g), sent(x), sent(t), "sum", *NUMBERS[name], needs=needs),
               reference.backward(name, g, x, t, "sum", *NUMBERS[name], needs=needs))


def test_outside(device, programs):
    inside = values(3, (5, 31), F32, "bce")
    for bad in (-1e-9, 1.0001, np.nan, np.inf):
        other = inside.copy()
        other[4, 30] = bad
        for x, t in ((inside, inside), (inside, other), (other, inside), (other.T, other.T)):
            assert device.outside(sent(x), sent(t)) == reference.outside(x, t)
    assert device.outside(sent(inside[:0]), sent(inside[:0])) == (False, False)


def test_same_bits_twice(device, programs):
    x, t = values(11, (40, 50), F32), values(12, (40, 50), F32)
    first = device.forward("mse", sent(x), sent(t), "mean").tobytes()
    assert first == device.forward("mse", sent(x), sent(t), "mean").tobytes()


def test_survey(device, programs):
    rng = np.random.default_rng(13)
    for dtype in (np.int64, np.uint8):
        base = rng.integers(0, 10, (20, 16)).astype(dtype)
        for t in (base, base.T, base[::2, 3:], base[0], base[:0]):
            assert device.survey(sent(t), 10, -100) == reference.survey(t, 10, -100) == (None, False)
            assert device.survey(sent(t), 10, 3) == reference.survey(t, 10, 3)
            assert device.survey(sent(t), 6, 7) == reference.survey(t, 6, 7)
    base = base.astype(np.int64)
    base[7, 9], base[11, 2], base[3, 3] = -3, 77, -100
    for ignore in (-100, -3):
        for t in (base, base.T):
            assert device.survey(sent(t), 10, ignore) == reference.survey(t, 10, ignore)


CLASSES = [((40, 5), (40,)), ((3, 4, 6, 7), (3, 6, 7)), ((2, 3, 1, 9), (2, 1, 9)), ((1, 4), (1,)), ((0, 4), (0,))]


@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
@pytest.mark.parametrize("how", ["plain", "ignored", "weighed", "both"])
def test_nll(device, programs, dtype, how):
    for i, (shape, labels) in enumerate(CLASSES):
        rng = np.random.default_rng(i)
        logp = np.log(rng.random(shape)).astype(dtype)
        target = rng.integers(0, shape[1], labels)
        some = how in ("ignored", "both") and target.size > 1
        if some:
            target.reshape(-1)[::3] = -100
            logp.reshape(-1)[0] = -np.inf
        weight = rng.random(shape[1]).astype(dtype) if how in ("weighed", "both") else None
        w = None if weight is None else sent(weight)
        for reduction in ("none", "mean", "sum"):
            expected, whole = reference.nll(logp, target, weight, -100, some, reduction)
            found, total = device.nll(sent(logp), sent(target), w, -100, some, reduction)
            agree(found, expected)
            if reduction != "none":
                agree(total, whole)
            g = values(14, labels if reduction == "none" else (), dtype)
            agree(device.nll_backward(sent(g), sent(target), w, -100, some, reduction, total, shape),
                  reference.nll_backward(g, target, weight, -100, some, reduction, whole, shape))


def test_nll_layouts(device, programs):
    rng = np.random.default_rng(15)
    logp, target = values(16, (6, 5, 4, 3), F32), rng.integers(0, 5, (6, 4, 3))
    last = np.ascontiguousarray(logp.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # channels last
    flipped = np.ascontiguousarray(target[:, ::-1])[:, ::-1]
    g = np.broadcast_to(np.float32(0.25), target.shape)
    for a, t in ((last, target), (logp.transpose(0, 1, 3, 2), target.transpose(0, 2, 1)), (logp[::2], target[::2]),
                 (logp, flipped), (logp[..., ::2], target[..., ::2])):
        for reduction in ("none", "mean"):
            agree(device.nll(sent(a), sent(t), None, -100, False, reduction)[0],
                  reference.nll(a, t, None, -100, False, reduction)[0])
    zero = np.zeros((), F32)
    agree(device.nll_backward(sent(g), sent(target), None, -100, False, "none", zero, logp.shape),
          reference.nll_backward(g, target, None, -100, False, "none", zero, logp.shape))


def test_class_out_of_range_is_nan(device):
    """Where nobody has looked, while a graph is captured."""
    logp, target = values(17, (4, 3), F32), np.array([0, 1, 7, -5])
    found = device.nll(sent(logp), sent(target), None, -100, True, "none")[0].to_host()
    np.testing.assert_array_equal(np.isnan(found), [False, False, True, True])
    whole = sent(np.array(4, F32))
    g = device.nll_backward(sent(np.array(1, F32)), sent(target), None, -100, True, "mean", whole, (4, 3)).to_host()
    assert np.count_nonzero(g) == 2


def test_refusals(device):
    from tritium.kernels.array import DeviceMismatch

    x = values(18, (4,), F32)
    for a, b in ((sent(x), x), (sent(x), x.astype(F64))):
        with pytest.raises(DeviceMismatch):
            device.forward("mse", a, b, "mean")
    with pytest.raises(DeviceMismatch):
        device.nll(sent(values(19, (4, 3), F32)), np.zeros(4, int), None, -100, False, "mean")


def test_cross_entropy_in_a_graph_and_its_error():
    import tritium

    x = tritium.tensor(values(20, (4, 3), F32), device="cuda")
    target = tritium.tensor([0, 1, 2, 1], device="cuda")
    with pytest.raises(IndexError, match="Target 3 is out of bounds"):
        tritium.nn.functional.cross_entropy(x, target + 1)
    expected = tritium.nn.functional.cross_entropy(x, target).item()
    graph = tritium.cuda.CUDAGraph()
    with tritium.cuda.graph(graph):
        loss = tritium.nn.functional.cross_entropy(x, target)
    graph.replay()
    assert loss.item() == expected
