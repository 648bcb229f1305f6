"""Reductions: known values, accuracy, empty and 0-d tensors, derivatives by finite differences."""
import math

import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

inf, nan = math.inf, math.nan


def rand(*shape, low=None):
    rng = np.random.default_rng(len(shape) + sum(shape))
    values = rng.standard_normal(shape) if low is None else rng.uniform(low, low + 2, shape)
    return torch.from_numpy(np.asarray(values)).requires_grad_()


GRADIENTS = {
    "sum": lambda x: x.sum(), "sum(1)": lambda x: x.sum(1), "sum((0, 2))": lambda x: x.sum((0, 2), keepdim=True),
    "nansum": lambda x: x.nansum(0), "mean": lambda x: x.mean(), "mean(-1)": lambda x: x.mean(-1, keepdim=True),
    "nanmean": lambda x: x.nanmean(1), "prod": lambda x: x[0, :, 0].prod(), "prod(1)": lambda x: x.prod(1),
    "prod with a zero": lambda x: (x * torch.tensor([0.0, 1.0, 1.0])[:, None]).prod(1),
    "var": lambda x: x.var(), "var(1)": lambda x: x.var(1, correction=0, keepdim=True), "std": lambda x: x.std((0, 1)),
    "var_mean": lambda x: torch.var_mean(x, 1), "std_mean": lambda x: torch.std_mean(x, 1),
    "amax": lambda x: x.amax(1), "amin": lambda x: x.amin((0, 1)), "max": lambda x: x.max(), "min": lambda x: x.min(),
    "max(1)": lambda x: x.max(1).values, "min(0)": lambda x: x.min(0, keepdim=True)[0],
    "aminmax": lambda x: tuple(x.aminmax(dim=1)), "norm": lambda x: x.norm(), "norm(1)": lambda x: x.norm(1, dim=1),
    "norm(3)": lambda x: x.norm(3, dim=0), "norm(inf)": lambda x: x.norm(inf, dim=1),
    "norm(-inf)": lambda x: x.norm(-inf, dim=1), "norm(0.5)": lambda x: x.exp().norm(0.5, dim=1),
    "dist": lambda x: x.dist(torch.tensor([0.3, -0.4]), 3), "logsumexp": lambda x: x.logsumexp(1),
    "logsumexp of two": lambda x: x.logsumexp((0, 1), keepdim=True), "sum_to_size": lambda x: x.sum_to_size(1, 3, 1),
    "of a permuted tensor": lambda x: x.permute(2, 0, 1).sum(1), "of an expanded tensor": lambda x: x[:, :, :1].expand(
        2, 3, 4).mean((0, 2)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_derivatives(name):
    x = rand(2, 3, 2)
    assert gradcheck(GRADIENTS[name], x)
    assert gradgradcheck(GRADIENTS[name], x)


def test_values():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert x.sum().item() == 21 and x.sum(0).tolist() == [5, 7, 9] and x.sum(1, keepdim=True).tolist() == [[6], [15]]
    assert x.mean().item() == 3.5 and x.prod(1).tolist() == [6, 120] and x.var(1).tolist() == [1, 1]
    assert x.std(1, correction=0).tolist() == pytest.approx([math.sqrt(2 / 3)] * 2)
    assert x.max(1).values.tolist() == [3, 6] and x.max(1).indices.tolist() == [2, 2] and x.argmin().item() == 0
    assert x.norm().item() == pytest.approx(math.sqrt(91)) and x.norm(1, 0).tolist() == [5, 7, 9]
    assert x.logsumexp(1).tolist() == pytest.approx([math.log(sum(math.exp(v) for v in row)) for row in x.tolist()])
    assert x.all().item() is True and (x > 5).any(1).tolist() == [False, True] and x.count_nonzero().item() == 6
    assert x.sum(()).item() == 21 and x.any(()).tolist() == [[True] * 3] * 2


def test_dtypes():
    assert torch.ones(3, dtype=torch.int32).sum().dtype is torch.int64
    assert torch.ones(3, dtype=torch.bool).sum().item() == 3
    assert torch.ones(3, dtype=torch.uint8).prod().dtype is torch.int64
    assert torch.ones(3, dtype=torch.bfloat16).sum().dtype is torch.bfloat16
    assert torch.ones(3).sum(dtype=torch.float64).dtype is torch.float64
    assert torch.ones(3, dtype=torch.uint8).all().dtype is torch.uint8
    with pytest.raises(RuntimeError):
        torch.ones(3, dtype=torch.int64).mean()


def test_empty_and_zero_dim():
    e = torch.ones(2, 0, 3)
    assert e.sum().item() == 0 and e.prod().item() == 1 and math.isnan(e.mean().item())
    assert e.sum(1).tolist() == [[0] * 3] * 2 and e.max(0).values.shape == (0, 3)
    for call in (lambda: e.max(), lambda: e.argmax()):
        with pytest.raises((RuntimeError, IndexError)):
            call()
    with pytest.raises(IndexError, match="Expected reduction dim 1 to have non-zero size"):
        e.max(1)
    s = torch.tensor(3.0)
    assert s.sum(0).item() == 3 and s.max(0).indices.item() == 0 and math.isnan(s.var().item())


def test_nan_and_inf():
    x = torch.tensor([1.0, nan, 3.0])
    assert math.isnan(x.max().item()) and x.argmax().item() == 1 and x.nansum().item() == 4
    assert x.max(0).indices.item() == 1 and math.isnan(x.amin().item())
    assert torch.tensor([-inf, -inf]).logsumexp(0).item() == -inf
    assert torch.tensor([inf, 1.0]).logsumexp(0).item() == inf


@pytest.mark.parametrize("shape, dim", [((100_000, 10), 0), ((3, 30_000, 4), 1), ((10, 100_000), 1), ((999_983,), 0)])
def test_long_float32_sums_are_accurate(shape, dim):
    """A tenth is no float32: added one after the other, the errors of 100,000 of them show in the fourth digit."""
    x = torch.full(shape, 0.1)
    n = shape[dim]
    assert (x.sum(dim) / n).sub(0.1).abs().max().item() < 2e-7
    assert x.mean(dim).sub(0.1).abs().max().item() < 2e-7


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1), (1, 2), (0, 2), (2,), (0, 1, 2), (3,), (1, 2, 3), (0, 1, 2, 3)])
def test_blocked_sums_are_the_sums(dims):
    x = np.random.default_rng(0).standard_normal((2, 300, 3, 7)).astype(np.float32)
    ours = torch.from_numpy(x).sum(dims, keepdim=True).numpy()
    assert ours.shape == x.sum(dims, keepdims=True).shape
    assert np.allclose(ours, x.astype(np.float64).sum(dims, keepdims=True), 1e-5, 1e-4)


def test_low_precision_sums_do_not_stall():
    assert torch.ones(70_000, dtype=torch.float16).sum().item() == inf
    assert torch.ones(1000, dtype=torch.bfloat16).sum().item() == 1000
    assert torch.full((5000,), 0.5, dtype=torch.float16).sum().item() == 2500


def test_results_are_contiguous():
    x = rand(4, 5, 6).detach().permute(2, 0, 1)
    for r in (x.sum(0), x.mean(1), x.var(2), x.amax((0,)), x.max(1).values, x.logsumexp(1), x.norm(2, 0), x.argmax(1)):
        assert r.is_contiguous()


def test_gradient_is_shared_between_equal_extremes():
    x = torch.tensor([3.0, 1.0, 3.0], requires_grad=True)
    x.max().backward()
    assert x.grad.tolist() == [0.5, 0, 0.5]
    x.grad = None
    x.max(0).values.backward()
    assert x.grad.tolist() == [1, 0, 0]


def test_gradients_of_a_product_with_zeros():
    for values, expected in (([0.0, 2.0, 3.0], [6, 0, 0]), ([0.0, 0.0, 3.0], [0, 0, 0]), ([1.0, 2.0, 3.0], [6, 3, 2])):
        x = torch.tensor(values, requires_grad=True)
        x.prod().backward()
        assert x.grad.tolist() == expected


def test_out():
    x = torch.arange(6.0).view(2, 3)
    out = torch.empty(3)
    assert torch.sum(x, 0, out=out) is out and out.tolist() == [3, 5, 7]
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.mean(x, 0, out=torch.empty(3, dtype=torch.int64))
    values, indices = torch.empty(2), torch.empty(2, dtype=torch.int64)
    torch.max(x, 1, out=(values, indices))
    assert values.tolist() == [2, 5] and indices.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        torch.sum(x.requires_grad_(), 0, out=out)
