"""The error function and the gamma family: known values, ends of the range, derivatives."""
import math

import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

inf, nan = math.inf, math.nan


@pytest.mark.parametrize("name, reference, low, high", [
    ("erf", math.erf, -6, 6), ("erfc", math.erfc, -6, 26), ("lgamma", math.lgamma, 1e-3, 60)])
def test_against_the_c_library(name, reference, low, high):
    x = np.linspace(low, high, 997)
    got = getattr(torch, name)(torch.from_numpy(x)).numpy()
    want = np.array([reference(v) for v in x])
    rtol, atol = (1e-14, 1e-14) if name == "lgamma" else (2e-15, 0)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
    single = getattr(torch, name)(torch.from_numpy(x.astype(np.float32))).numpy()
    np.testing.assert_allclose(single, [reference(v) for v in x.astype(np.float32).tolist()], rtol=1e-6, atol=1e-6)


def test_known_values():
    gamma = 0.57721566490153286
    t = lambda *v: torch.tensor(v, dtype=torch.float64)  # noqa: E731
    np.testing.assert_allclose(torch.digamma(t(1, 2, 0.5)).numpy(), [-gamma, 1 - gamma, -gamma - 2 * math.log(2)],
                               rtol=1e-14)
    np.testing.assert_allclose(torch.polygamma(1, t(1, 0.5)).numpy(), [math.pi ** 2 / 6, math.pi ** 2 / 2], rtol=1e-14)
    np.testing.assert_allclose(torch.polygamma(2, t(1)).numpy(), [-2 * 1.2020569031595942], rtol=1e-14)
    np.testing.assert_allclose(torch.lgamma(t(-0.5)).numpy(), [math.log(2 * math.sqrt(math.pi))], rtol=1e-14)
    x = t(-0.999999, -0.3, 1e-300, 1e-5, 0.5, 0.8499, 0.85, 0.9999999999)
    np.testing.assert_allclose(torch.erf(torch.erfinv(x)).numpy(), x.numpy(), rtol=4e-16)
    np.testing.assert_allclose(torch.erfc(t(26.5)).numpy(), [math.erfc(26.5)], rtol=1e-14)


def test_ends_of_the_range():
    x = torch.tensor([-inf, -2.0, -1.0, -0.0, 0.0, 1.0, inf, nan])
    assert torch.erfinv(x)[[2, 5]].tolist() == [-inf, inf] and torch.erfinv(x)[[0, 1, 6, 7]].isnan().all()
    assert torch.lgamma(x)[:7].tolist() == [inf, inf, inf, inf, inf, 0.0, inf]
    assert torch.digamma(x)[3:5].tolist() == [inf, -inf] and torch.digamma(x)[1:3].isnan().all()
    assert torch.erfc(x)[[0, 4, 6]].tolist() == [2.0, 1.0, 0.0]


def test_integers_and_16_bits():
    assert torch.erf(torch.tensor([0, 1])).dtype is torch.float32
    assert torch.lgamma(torch.tensor([3.0], dtype=torch.bfloat16)).item() == torch.tensor(math.log(2)).bfloat16().item()


@pytest.mark.parametrize("name, scale", [("erf", 1), ("erfc", 1), ("erfinv", 0.3), ("lgamma", 3), ("digamma", 3)])
def test_derivatives(name, scale):
    x = torch.tensor([0.3, 0.9, -0.6], dtype=torch.float64, requires_grad=True)
    f = getattr(torch, name)
    assert gradcheck(lambda x: f(x * scale), (x,))
    assert gradgradcheck(lambda x: f(x * scale), (x,))


def test_polygamma_is_the_next_derivative():
    x = torch.tensor([0.7, 2.2, -0.4], dtype=torch.float64, requires_grad=True)
    for n in (0, 1, 2, 3):
        (g,) = torch.autograd.grad(torch.polygamma(n, x).sum(), x)
        np.testing.assert_allclose(g.numpy(), torch.polygamma(n + 1, x.detach()).numpy(), rtol=1e-13)
    with pytest.raises(RuntimeError, match="does not support negative n"):
        torch.polygamma(-1, x)
