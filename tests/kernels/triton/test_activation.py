"""Activation kernels on the device against NumPy's: values and derivatives, special numbers, layouts, integers."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import activation as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = np.dtype("f2"), np.dtype("f4"), np.dtype("f8")
CLOSE = {F32: 1e-6, F64: 1e-14, F16: 1.1e-3, BF16: 9e-3}
NUMBERS = {"hardtanh": [(-1.0, 2.0), (0, 6)], "leaky_relu": [(0.01,), (-0.5,), (1.5,)],
           "threshold": [(0.5, -2.0), (0, 0)], "hardshrink": [(0.5,)], "softshrink": [(0.5,), (0.0,)],
           "elu": [(1.0, 1.0, 1.0), (1.67, 1.05, 1.0), (0.5, 1.0, 2.0)], "elu_of_result": [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)],
           "softplus": [(1.0, 20.0), (2.0, 3.0)]}


@pytest.fixture(scope="module")
def k():
    from tritium.kernels.triton import activation

    return activation


def to(a):
    """An array on the device, in the same order of dimensions."""
    from tritium.kernels.triton import memory

    order = sorted(range(a.ndim), key=lambda d: -a.strides[d])
    return memory.from_host(a.transpose(order)).transpose(*np.argsort(order).tolist()) if a.ndim else memory.from_host(a)


def numbers(dtype):
    rng = np.random.default_rng(0)
    values = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 3.0, -3.0, 2.999, 6.0, 20.0, -20.0, 25.0, 90.0, -90.0, 1e4, -1e4, np.inf,
              -np.inf, np.nan, 1e-4, -1e-4]
    return np.concatenate([values, rng.standard_normal(40) * 4]).astype(dtype)


def agree(got, want, close, what):
    got = got.to_host()
    assert got.dtype == want.dtype and got.shape == want.shape, what
    x, y = got.astype(np.float64), want.astype(np.float64)
    assert (np.isnan(x) == np.isnan(y)).all(), (what, np.flatnonzero(np.isnan(x) != np.isnan(y)))
    keep = ~np.isnan(y)
    with np.errstate(all="ignore"):
        # 1 + erf(x) far below 0 has no more digits
        bad = keep & ~((x == y) | (np.abs(x - y) <= close * np.abs(y) + (1e-14 if close < 1e-12 else 1e-6)))
    assert not bad.any(), (what, np.flatnonzero(bad)[:5], x[bad][:5], y[bad][:5])


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
def test_forward(k, dtype):
    x = numbers(dtype)
    a = to(x)
    assert set(k.forward) == set(reference.forward)
    for name, f in reference.forward.items():
        for given in NUMBERS.get(name, [()]):
            rest, there = given, given
            if name in ("glu", "prelu"):
                rest, there = (x[::-1].copy(),), (to(x[::-1].copy()),)
            agree(k.forward[name](a, *there), f(x, *rest), CLOSE[dtype], (name, given))


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
def test_backward(k, dtype):
    x = numbers(dtype)
    g = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    a, b = to(x), to(g)
    assert set(k.backward) == set(reference.backward)
    for name, f in reference.backward.items():
        for given in NUMBERS.get(name, [()]):
            rest, there = given, given
            if name == "prelu":
                rest, there = (g[::-1].copy(),), (to(g[::-1].copy()),)
            agree(k.backward[name](b, a, *there), f(g, x, *rest), 3 * CLOSE[dtype], (name, given))


def test_layouts(k):
    """Other orders of dimensions, gaps, repeated gradients, a weight for each channel, several programs."""
    from tritium.kernels.triton import elementwise

    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 6, 5, 7)).astype("f4")
    elementwise.force_block_size(64)
    try:
        for turned in (x, x.transpose(0, 2, 3, 1), x.T):
            a = to(turned)
            agree(k.forward["silu"](a), reference.forward["silu"](turned), 1e-6, "silu")
            assert k.forward["silu"](a).strides == a.strides
            agree(k.forward["softplus"](a, 1.0, 20.0), reference.forward["softplus"](turned, 1.0, 20.0), 1e-6, "softplus")
            g = np.broadcast_to(np.float32(0.5), turned.shape)
            there = to(np.full(1, 0.5, "f4"))
            there = there.look(there.ptr, a.shape, (0, 0, 0, 0))
            agree(k.backward["gelu"](there, a), reference.backward["gelu"](g, turned), 3e-6, "gelu")
        halves = to(x)[:, :3], to(x)[:, 3:]
        agree(k.forward["glu"](*halves), reference.forward["glu"](x[:, :3], x[:, 3:]), 1e-6, "glu")
        w = rng.standard_normal((1, 6, 1, 1)).astype("f4")
        agree(k.forward["prelu"](to(x), to(w)), reference.forward["prelu"](x, w), 1e-6, "prelu")
        agree(k.backward["prelu"](to(x), to(-x), to(w)), reference.backward["prelu"](x, -x, w), 1e-6, "prelu")
        e = np.zeros((0, 3), "f4")
        assert k.forward["gelu"](to(e)).shape == (0, 3)
        agree(k.forward["gelu"](to(np.array(0.3))), reference.forward["gelu"](np.array(0.3)), 1e-14, "0-d")
    finally:
        elementwise.force_block_size(0)


def test_integers(k):
    from tritium.kernels.array import NoKernel

    x = np.arange(-5, 6)
    agree(k.forward["hardtanh"](to(x), 0.0, 3.0), reference.forward["hardtanh"](x, 0.0, 3.0), 0, "hardtanh")
    for limit in (-0.5, 0.5, 2):
        agree(k.forward["threshold"](to(x), limit, 7), reference.forward["threshold"](x, limit, 7), 0, "threshold")
    with pytest.raises(NoKernel, match="gelu"):
        k.forward["gelu"](to(x))
