"""Running sums, products and extremes against PyTorch."""
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
torch.cumsum(xr, 1)
torch.cumsum(xr, 5)
torch.cumsum(z, 0)
torch.cumsum(torch.tensor([True, True]), 0)
torch.cumsum(torch.tensor([100, 100], dtype=torch.uint8), 0)
torch.cumsum(torch.tensor([100, 100], dtype=torch.uint8), 0, dtype=torch.uint8)
torch.cumsum(torch.tensor([100, 100], dtype=torch.int32), 0)
torch.cumsum(torch.tensor([1.5, 2.]), 0, dtype=torch.int64)
torch.cumsum(torch.tensor([1.5, 2.], requires_grad=True), 0, dtype=torch.float64)
torch.cumsum(x, None)
torch.cumsum(x)
torch.cumprod(xr, 1)
torch.cumprod(torch.tensor([1., 0., 3., 0.], requires_grad=True), 0)
torch.cumprod(torch.tensor([True, False]), 0)
torch.cummax(xr, 1)
torch.cummin(xr, 1)
torch.cummax(torch.tensor([1., 3., 3., nan, 5., nan, 2.]), 0)
torch.cummin(torch.tensor([3., 3., 1., 1., nan, 5., nan, 2.]), 0)
torch.cummax(z, 0)
torch.cummax(e, 0)
torch.cummax(torch.tensor([True, False]), 0)
torch.logcumsumexp(xr, 1)
torch.logcumsumexp(torch.tensor([-inf, -inf, 1.]), 0)
torch.logcumsumexp(torch.tensor([inf, 1., inf]), 0)
torch.logcumsumexp(torch.tensor([nan, 1.]), 0)
torch.logcumsumexp(torch.tensor([1, 2]), 0)
torch.logcumsumexp(z, 0)
torch.diff(xr)
torch.diff(x, n=2)
torch.diff(x, n=5)
torch.diff(x, n=-1)
torch.diff(x, n=0)
torch.diff(x, dim=0, prepend=x[:1], append=x[:1])
torch.diff(x, prepend=torch.ones(3, 1))
torch.diff(x, prepend=v)
torch.diff(z)
torch.diff(torch.tensor([True, False, False]))
torch.diff(torch.tensor([1, 2]), prepend=torch.tensor([1.5]))
torch.trapezoid(v)
torch.trapezoid(v, v)
torch.trapezoid(x, dx=2.)
torch.trapz(v)
torch.trapezoid(v, torch.ones(2))
torch.cumulative_trapezoid(xr)
torch.cumulative_trapezoid(x, v)
torch.trapezoid(z)
x.T.cumsum(0)
x.cumsum(-1).stride()
torch.cumsum(torch.tensor([1+2j, 3j]), 0)
torch.cumprod(torch.tensor([1+2j, 3j]), 0)
y=x.clone(); y.cumsum_(1); y
y=x.long(); y.cumprod_(0); y
torch.cumsum(torch.empty(2, 0), 1)
torch.cumprod(torch.empty(0, 2), 0)
torch.logcumsumexp(torch.empty(0, 2), 0)
torch.cummin(torch.empty(0, 2), 0)
out=torch.empty(3); torch.cumsum(v, 0, out=out); out
torch.cummax(x.T, 1)
torch.cumsum(x.half(), 1)
torch.arange(1, 2000.).reciprocal().cumsum(0)[-1]
torch.trapezoid(x, x)
torch.trapezoid(x, dim=0)
torch.cumulative_trapezoid(x, dx=3, dim=0)
""".strip().splitlines()

GRADIENTS = """
both(lambda a: a.cumsum(1), x)
both(lambda a: a.cumsum(0, dtype=torch.float64), x.T)
both(lambda a: a.cumsum(0), z)
both(lambda a: a.cumprod(1), x + 1)
both(lambda a: a.cumprod(1), x)
both(lambda a: a.cumprod(0), z)
both(lambda a: a.cumprod(0), torch.tensor([2., 0., 3., 0., 4.]))
both(lambda a: a.cumprod(0), torch.tensor([[2., 0.], [3., 5.], [0., 4.]]))
both(lambda a: a.cummax(1)[0], x.sin())
both(lambda a: a.cummin(0)[0], x.T.sin())
both(lambda a: a.cummax(0)[0], torch.tensor([1., 2., 2., 1.]))
both(lambda a: a.logcumsumexp(1), x)
both(lambda a: a.logcumsumexp(0), x.T * 30)
both(lambda a: a.logcumsumexp(0), z)
both(lambda a: a.diff(), x)
both(lambda a, b: a.diff(2, 0, prepend=b, append=b), x, x)
both(lambda a, b: torch.trapezoid(a, b), x, v)
both(lambda a: torch.cumulative_trapezoid(a, dx=.5, dim=0), x)
""".strip().splitlines()

BY_DTYPE = """
d.cumsum(1)
d.cumprod(0)
d.cumsum(1, dtype=torch.float32)
d.cumprod(1, dtype=torch.int16)
d.cummax(1)
d.cummin(0)
d.logcumsumexp(1)
d.diff()
d.diff(2, 0, append=d)
""".strip().splitlines()


@pytest.mark.parametrize("code", CASES)
def test_results_and_errors(same, code):
    same(code, SETUP)


@pytest.mark.parametrize("code", GRADIENTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients(same, code, dtype):
    same(code, SETUP + f"\nx, v, z = (t.to(torch.{dtype}) for t in (x, v, z))", skip=("strides", "node"))


@pytest.mark.parametrize("code", BY_DTYPE)
@pytest.mark.parametrize("dtype", "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split())
def test_dtypes(same, code, dtype):
    same(code, SETUP + f"\nd = torch.tensor([[3, 0, 2], [1, 5, 4]]).to(torch.{dtype})", skip=("strides",))
