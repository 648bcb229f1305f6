"""The error function and the gamma family against PyTorch."""
# ruff: noqa: E501
import pytest

torch = pytest.importorskip("torch")

SETUP = """
nan, inf = float("nan"), float("inf")
x = torch.arange(6.).reshape(2, 3)
xr = x.clone().requires_grad_()
v, i, e, z = torch.tensor([3., 1., 2.]), torch.tensor([0, 1]), torch.empty(0), torch.tensor(5.)


def both(f, *xs):
    # the result, the gradients, and the gradients of the sum of their squares
    xs = [t.detach().clone().requires_grad_() for t in xs]
    out = f(*xs)
    w = (torch.arange(out.numel(), dtype=torch.float64) * 0.37).sin().reshape(out.shape).to(out.dtype)
    first = torch.autograd.grad((out * w).sum(), xs, create_graph=True, allow_unused=True)
    square = sum([(g * g).sum() for g in first if g is not None])
    second = torch.autograd.grad(square, xs, allow_unused=True) if square.requires_grad else []
    return [out] + [g if g is None else g.detach() for g in [*first, *second]]
"""

CASES = """
torch.erf(t)
torch.erf(t.double())
torch.erf(t.half())
torch.erf(t.bfloat16())
torch.erf(torch.tensor([0, 1, 2]))
torch.erf(torch.tensor([True, False]))
torch.erf(x.T)
torch.erf(e)
torch.erf(z)
torch.erf(torch.tensor([1j]))
y=x.clone(); y.erf_(); y
i.clone().erf_()
torch.erf([1.])
torch.erf(xr)
torch.erfc(t)
torch.erfc(t.double())
torch.erfc(t.half())
torch.erfc(t.bfloat16())
torch.erfc(torch.tensor([0, 1, 2]))
torch.erfc(torch.tensor([True, False]))
torch.erfc(x.T)
torch.erfc(e)
torch.erfc(z)
torch.erfc(torch.tensor([1j]))
y=x.clone(); y.erfc_(); y
i.clone().erfc_()
torch.erfc([1.])
torch.erfc(xr)
torch.erfinv(t)
torch.erfinv(t.double())
torch.erfinv(t.half())
torch.erfinv(t.bfloat16())
torch.erfinv(torch.tensor([0, 1, 2]))
torch.erfinv(torch.tensor([True, False]))
torch.erfinv(x.T)
torch.erfinv(e)
torch.erfinv(z)
torch.erfinv(torch.tensor([1j]))
y=x.clone(); y.erfinv_(); y
i.clone().erfinv_()
torch.erfinv([1.])
torch.erfinv(xr)
torch.lgamma(t)
torch.lgamma(t.double())
torch.lgamma(t.half())
torch.lgamma(t.bfloat16())
torch.lgamma(torch.tensor([0, 1, 2]))
torch.lgamma(torch.tensor([True, False]))
torch.lgamma(x.T)
torch.lgamma(e)
torch.lgamma(z)
torch.lgamma(torch.tensor([1j]))
y=x.clone(); y.lgamma_(); y
i.clone().lgamma_()
torch.lgamma([1.])
torch.lgamma(xr)
torch.digamma(t)
torch.digamma(t.double())
torch.digamma(t.half())
torch.digamma(t.bfloat16())
torch.digamma(torch.tensor([0, 1, 2]))
torch.digamma(torch.tensor([True, False]))
torch.digamma(x.T)
torch.digamma(e)
torch.digamma(z)
torch.digamma(torch.tensor([1j]))
y=x.clone(); y.digamma_(); y
i.clone().digamma_()
torch.digamma([1.])
torch.digamma(xr)
torch.polygamma(1, t.double()[3:])
torch.polygamma(2, t.double()[7:-2])
torch.polygamma(0, t)
torch.polygamma(-1, t)
(x+.5).polygamma(1)
torch.polygamma(3, (x+.5).double())
torch.polygamma(1, torch.tensor([1, 2]))
""".strip().splitlines()

GRADIENTS = """
both(lambda a: a.erf(), x + .3)
both(lambda a: a.erfc(), x + .3)
both(lambda a: a.lgamma(), x + .3)
both(lambda a: a.digamma(), x + .3)
both(lambda a: a.erfinv(), x / 6)
both(lambda a: a.polygamma(1), x + .3)
both(lambda a: a.polygamma(2), x + 1.3)
both(lambda a: a.lgamma(), -x - .3)
both(lambda a: a.digamma(), -x - .3)
""".strip().splitlines()


@pytest.mark.parametrize("code", CASES)
def test_results_and_errors(same, code):
    same(code, SETUP + "\nt = torch.tensor([-inf, -7.25, -1.5, -0.4, -0., 0., 1e-3, 0.3, 0.999, 1., 1.7, 2., 3.3, 12., 60., inf, nan])",
         **({"tolerance": 1e-6} if "polygamma" in code else {}))


@pytest.mark.parametrize("code", GRADIENTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients(same, code, dtype):
    same(code, SETUP + f"\nx, v, z = (t.to(torch.{dtype}) for t in (x, v, z))", skip=("strides",),
         tolerance=1e-6 if "gamma" in code else 1e-5 if dtype == "float32" else 1e-10)
