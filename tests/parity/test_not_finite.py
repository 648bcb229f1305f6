"""Where one element is infinite or nan, or a window is all zeros: the others, and the second derivatives, stay right."""
import pytest

pytest.importorskip("torch")

SETUP = """
import math
F = torch.nn.functional


def both(f, *xs):
    xs = [t.detach().clone().requires_grad_() for t in xs]
    out = f(*xs)
    first = torch.autograd.grad(out.sum(), xs, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first if g.requires_grad), xs, allow_unused=True)
    return [out.detach(), *[g.detach() for g in first], *second]


x = torch.zeros(1, 1, 4, 4)
x[0, 0, 0, 0] = math.inf
x3 = torch.zeros(1, 1, 3, 4, 4)
x3[0, 0, 1, 1, 1] = math.nan
"""


@pytest.mark.parametrize("code", [
    "F.adaptive_avg_pool2d(x, 2)", "F.adaptive_avg_pool2d(x, (None, None))", "F.adaptive_avg_pool2d(x, 3)",
    "F.adaptive_avg_pool3d(x3, 2)", "F.interpolate(x, 2, mode='area')", "F.interpolate(x, 3, mode='area')",
    "F.adaptive_avg_pool1d(x[0], 2)"])
def test_adaptive_average(same, code):
    same(code, SETUP)


@pytest.mark.parametrize("size", [2, 3])
def test_the_gradient_of_the_average(same, size):
    same(f"""
a = torch.zeros(1, 1, 4, 4, requires_grad=True)
g = torch.zeros(1, 1, {size}, {size})
g[0, 0, 0, 1] = math.inf
F.adaptive_avg_pool2d(a, {size}).backward(g)
a.grad
""", SETUP)


@pytest.mark.parametrize("p", [2, 3])
def test_power_pooling_of_zeros(same, p):
    same(f"both(lambda a: F.lp_pool2d(a, {p}, (1, 2)), torch.tensor([[[[0., 0., 1., 1.]]]]))", SETUP)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_grid_with_nan(same, mode):
    same(f"""
a = torch.arange(9.).reshape(1, 1, 3, 3).requires_grad_()
g = torch.tensor([[[[.1, math.nan], [.2, .3]]]])
y = F.grid_sample(a, g, {mode!r}, "zeros", False)
torch.autograd.grad(y[..., 1].sum(), a, create_graph=True)[0].detach()
""", SETUP)


def test_attention_over_an_empty_sequence(same):
    same("""
q, k = torch.zeros(2, 1, 4, 0, 1), torch.zeros(2, 1, 4, 1, 1)
F.scaled_dot_product_attention(q, k, k, torch.zeros(2, 1, 4, 0, 1))
""", SETUP)


@pytest.mark.parametrize("value", ["0.", "1e-30", "-1e-25", "1e-42"])
def test_sinc_near_zero(same, value):
    same(f"x = torch.tensor([{value}], requires_grad=True)\nx.sinc().sum().backward()\nx.grad", SETUP)
