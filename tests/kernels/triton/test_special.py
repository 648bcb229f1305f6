"""The special functions' kernels on the device against NumPy's."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import special as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = np.dtype("f2"), np.dtype("f4"), np.dtype("f8")
CLOSE = {F32: 1e-6, F64: 1e-13, F16: 1e-3, BF16: 8e-3}


@pytest.fixture(scope="module")
def k():
    from tritium.kernels.triton import special

    return special


def to(a):
    from tritium.kernels.triton import memory

    return memory.from_host(a)


def agree(got, want, close, what):
    got = got.to_host()
    assert got.dtype == want.dtype and got.shape == want.shape, what
    x, y = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(x), np.isnan(y), str(what))
    with np.errstate(all="ignore"):
        bad = ~np.isnan(y) & ~((x == y) | (np.abs(x - y) <= close * np.maximum(np.abs(y), 1e-2)))
    assert not bad.any(), (what, np.flatnonzero(bad)[:5], x[bad][:5], y[bad][:5])


def numbers(dtype, low=-6.0, high=30.0):
    rng = np.random.default_rng(0)
    values = [0.0, -0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 10.0, 12.5, -1.0, -2.0, -0.5, -1.5, 100.0, np.inf, np.nan]
    return np.concatenate([values, rng.uniform(low, high, 60)]).astype(dtype)


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
def test_values(k, dtype):
    x = numbers(dtype)
    minus = np.concatenate([x, np.array([-np.inf], dtype)])
    for name in ("erf", "erfc", "lgamma"):
        agree(getattr(k, name)(to(minus)), getattr(reference, name)(minus), CLOSE[dtype], name)
    agree(k.digamma(to(minus)), reference.digamma(minus), CLOSE[dtype], "digamma")
    p = np.concatenate([np.linspace(-1, 1, 41), [1.5, -2, np.nan, 0.999, -0.99]]).astype(dtype)
    agree(k.erfinv(to(p)), reference.erfinv(p), CLOSE[dtype], "erfinv")


@pytest.mark.parametrize("dtype", [F16, F32, F64], ids=str)
def test_polygamma(k, dtype):
    x = numbers(dtype)
    for n in (1, 2, 3, 5):
        agree(k.polygamma(n, to(x)), reference.polygamma(n, x), 3 * CLOSE[dtype], n)


def test_layouts(k):
    rng = np.random.default_rng(1)
    x = rng.uniform(0.1, 5, (4, 6, 5))
    for view in (lambda a: a.transpose(2, 0, 1), lambda a: a[::2, 1:], lambda a: a[:0], lambda a: a[0, 0, 0:1]):
        there = view(to(x))
        agree(k.erf(there), reference.erf(view(x)), 1e-14, "erf")
        agree(k.polygamma(2, there), reference.polygamma(2, view(x)), 1e-12, "polygamma")
    from tritium.kernels.array import NoKernel

    with pytest.raises(NoKernel):
        k.erf(to(np.arange(3)))
