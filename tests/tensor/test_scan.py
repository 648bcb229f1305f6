"""Running sums, products and extremes: dtypes, nan, derivatives."""
import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_against_numpy(dim):
    a = np.random.default_rng(0).standard_normal((3, 4, 2)).transpose(2, 0, 1)
    x = torch.from_numpy(a)
    np.testing.assert_array_equal(x.cumsum(dim).numpy(), np.cumsum(a, dim))
    np.testing.assert_array_equal(x.cumprod(dim).numpy(), np.cumprod(a, dim))
    np.testing.assert_array_equal(x.cummax(dim).values.numpy(), np.maximum.accumulate(a, dim))
    np.testing.assert_allclose(x.logcumsumexp(dim).numpy(), np.log(np.cumsum(np.exp(a), dim)), rtol=1e-12)
    np.testing.assert_array_equal(x.diff(dim=dim).numpy(), np.diff(a, axis=dim))


def test_dtypes():
    assert torch.tensor([100, 100], dtype=torch.uint8).cumsum(0).tolist() == [100, 200]
    assert torch.tensor([True, True]).cumsum(0).dtype is torch.int64
    assert torch.ones(2, dtype=torch.int32).cumsum(0, dtype=torch.float32).dtype is torch.float32
    assert torch.full((5000,), 0.1, dtype=torch.float16).cumsum(0)[-1].item() == 500.0


def test_float32_is_accumulated_in_float64():
    x = torch.full((100_000,), 0.1)
    assert x.cumsum(0)[-1].item() == np.float32(np.float64(np.float32(0.1)) * 100_000)


def test_extremes_keep_the_last_place_and_stay_nan():
    x = torch.tensor([1.0, 3.0, 3.0, nan, 5.0])
    values, indices = x.cummax(0)
    assert values[:3].tolist() == [1, 3, 3] and np.isnan(values[3:].numpy()).all()
    assert indices.tolist() == [0, 1, 2, 3, 3]


DERIVATIVES = {
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: x.cumprod(0),
    "cummax": lambda x: x.cummax(1).values,
    "cummin": lambda x: x.cummin(0).values,
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "diff": lambda x: x.diff(2, append=x[:, :1]),
    "trapezoid": lambda x: torch.trapezoid(x, x.cumsum(0)),
    "cumulative_trapezoid": lambda x: torch.cumulative_trapezoid(x, dx=0.5, dim=0),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives(name):
    x = torch.tensor(np.random.default_rng(1).permutation(12).reshape(3, 4) / 5 + 0.3, requires_grad=True)
    f = DERIVATIVES[name]
    assert gradcheck(f, (x,))
    assert gradgradcheck(lambda x: f(x * x), (x,))


@pytest.mark.parametrize("row", [[2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [2.0, 0.0, 0.0], [0.0, 2.0, 3.0]])
def test_cumprod_with_zeros(row):
    x = torch.tensor([row, [1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: x.cumprod(1), (x,))
    assert gradgradcheck(lambda x: x.cumprod(1), (x,))


def test_logcumsumexp_with_no_gradient_for_some():
    """A gradient of 0 has no logarithm: the derivative and its derivative are right all the same."""
    x = torch.tensor([1.0, -inf, 3.0], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(x.logcumsumexp(0)[2], x, create_graph=True)
    (again,) = torch.autograd.grad(g[0], x)
    p = 1 / (1 + np.exp(2))
    np.testing.assert_allclose(g.detach().numpy(), [p, 0, 1 - p], rtol=1e-12)
    np.testing.assert_allclose(again.numpy(), [p * (1 - p), 0, -p * (1 - p)], rtol=1e-12)
