"""Joining tensors against PyTorch."""
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
torch.cat([xr, x], 1)
torch.cat([x, torch.ones(2, 4)], 0)
torch.cat([x, torch.ones(3, 3)], 1)
torch.cat([x, v], 0)
torch.cat([x, e], 0)
torch.cat([e, e], 0)
torch.cat([e, x], 1)
torch.cat([x, torch.empty(0, dtype=torch.float64)], 0)
torch.cat([x, torch.empty(0, 3)], 0)
torch.cat([x, torch.empty(0, 2)], 0)
torch.cat([z, z])
torch.cat([x, z])
torch.cat([])
torch.cat(x)
torch.cat([x, 1])
torch.cat([x, x], 2)
torch.cat([x, x], -3)
torch.cat([x.long(), x.half()])
torch.cat([x.half(), x.bfloat16()]).dtype
torch.cat([x.bool(), x.byte()]).dtype
torch.cat((x, x), axis=0).shape
torch.cat((x,), out=torch.empty(0))
torch.cat([xr.double(), xr], 0)
torch.cat([torch.tensor([1], dtype=torch.int32), torch.tensor([2.5])])
torch.concat([xr, x])
torch.concatenate([xr, x])
torch.stack([xr, x])
torch.stack([x, v])
torch.stack([])
torch.stack([x, x], 3)
torch.stack([x, x], -4)
torch.stack([x, x.long()]).dtype
torch.stack([z, z])
torch.stack([xr, x], -1)
torch.hstack([xr, x])
torch.hstack([z, z])
torch.hstack([v, v])
torch.hstack([])
torch.vstack([v, v])
torch.vstack([xr, x])
torch.vstack([z, z])
torch.row_stack([v, v])
torch.dstack([v, v])
torch.dstack([xr, x])
torch.column_stack([v, v])
torch.column_stack([z, v])
torch.column_stack([z, z])
torch.column_stack([xr, x])
torch.block_diag(x, v, z)
torch.block_diag(xr)
torch.block_diag()
torch.block_diag(torch.ones(1, 1, 1))
torch.block_diag(x.long(), x)
torch.atleast_1d(z)
torch.atleast_2d(v).shape
torch.atleast_3d(v).shape
torch.atleast_3d(x).shape
torch.concat([xr, x])
torch.cat([x.T, x.T])
torch.cat([x.T, x.T]).stride()
c=torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last); torch.cat([c, c], 1).stride()
c=torch.ones(2, 3, 4, 4); d=c.to(memory_format=torch.channels_last); torch.cat([c, d], 1).stride()
torch.stack([x.T, x.T], 1)
torch.cat([v.expand(2, 3), v.expand(2, 3)])
torch.cat([x, e.int()])
torch.cat([torch.empty(2, 0), x], 1)
torch.cat((v.int(), v.half(), v.double())).dtype
torch.stack((z, z.int()))
torch.hstack((v, x))
torch.vstack((x, v))
torch.atleast_2d([z, v])
torch.atleast_2d(z, v)
torch.stack([torch.empty(0), torch.empty(0)])
torch.cat([x[:0], x[:0]])
torch.cat([torch.empty(0, 3), torch.empty(0, 3)])
""".strip().splitlines()

GRADIENTS = """
both(lambda a, b: torch.cat([a, b, a], 1), x, -x)
both(lambda a, b: torch.cat([a, b]), x.T, x.T)
both(lambda a, b: torch.cat([a, b], -1), x, x.half())
both(lambda a: torch.cat([torch.empty(0), a, torch.ones(2, 3)]), x)
both(lambda a, e: torch.cat([e, a]), x, e)
both(lambda a, b: torch.stack([a, b, a], 1), x, -x)
both(lambda a, b: torch.stack([a, b], -1), z, z)
both(lambda a, b: torch.hstack([a, b]), v, v)
both(lambda a, b: torch.vstack([a, b]), v, x)
both(lambda a, b: torch.dstack([a, b]), v, v)
both(lambda a, b: torch.column_stack([a, b]), v, x.T)
both(lambda a, b, c: torch.block_diag(a, b, c), x, v, z)
""".strip().splitlines()

BY_DTYPE = """
torch.cat([d, d[:1]])
torch.cat([d, torch.ones(1, 3)])
torch.cat([d, torch.ones(1, 3, dtype=torch.int8)])
torch.cat([d, torch.ones(1, 3, dtype=torch.bfloat16)])
torch.stack([d, d], 1)
torch.block_diag(d, d)
""".strip().splitlines()


@pytest.mark.parametrize("code", CASES)
def test_results_and_errors(same, code):
    same(code, SETUP)


@pytest.mark.parametrize("code", GRADIENTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients(same, code, dtype):
    same(code, SETUP + f"\nx, v, z = (t.to(torch.{dtype}) for t in (x, v, z))", skip=("strides",))


@pytest.mark.parametrize("code", BY_DTYPE)
@pytest.mark.parametrize("dtype", "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split())
def test_dtypes(same, code, dtype):
    same(code, SETUP + f"\nd = torch.tensor([[3, 0, 2], [1, 5, 4]]).to(torch.{dtype})", skip=("strides",))
