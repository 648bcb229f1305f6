"""Products: known values, NumPy's results, derivatives by finite differences, errors."""
import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck


def rand(*shape):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape)).requires_grad_()


def linear(x, w, b=None):
    return torch.nn.functional.linear(x, w, b)


GRADIENTS = {
    "mm": (torch.mm, (2, 3), (3, 2)), "mm of transposed": (lambda a, b: a.t().mm(b.t()), (3, 2), (2, 3)),
    "bmm": (torch.bmm, (2, 2, 3), (2, 3, 2)), "mv": (torch.mv, (2, 3), (3,)), "dot": (torch.dot, (3,), (3,)),
    "outer": (torch.outer, (3,), (2,)), "inner": (torch.inner, (2, 3), (2, 3)),
    "1 x 1": (torch.matmul, (3,), (3,)), "1 x 2": (torch.matmul, (3,), (3, 2)), "2 x 1": (torch.matmul, (2, 3), (3,)),
    "3 x 1": (torch.matmul, (2, 2, 3), (3,)), "3 x 2": (torch.matmul, (2, 2, 3), (3, 2)),
    "2 x 3": (torch.matmul, (2, 3), (2, 3, 2)), "1 x 3": (torch.matmul, (3,), (2, 3, 2)),
    "broadcast batches": (torch.matmul, (2, 1, 2, 3), (1, 2, 3, 2)),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), (2,), (2, 3), (3, 2)),
    "addmv": (lambda c, a, b: torch.addmv(c, a, b, beta=0.5, alpha=2), (2,), (2, 3), (3,)),
    "addr": (lambda c, a, b: torch.addr(c, a, b, beta=0.5, alpha=2), (3, 2), (3,), (2,)),
    "addbmm": (lambda c, a, b: torch.addbmm(c, a, b, beta=0.5, alpha=2), (2, 2), (2, 2, 3), (2, 3, 2)),
    "baddbmm": (lambda c, a, b: torch.baddbmm(c, a, b, beta=0.5, alpha=2), (2, 2), (2, 2, 3), (2, 3, 2)),
    "einsum ij,jk->ki": (lambda a, b: torch.einsum("ij,jk->ki", a, b), (2, 3), (3, 2)),
    "einsum of three": (lambda a, b, c: torch.einsum("bij,bjk,k->i", a, b, c), (2, 2, 3), (2, 3, 2), (2,)),
    "einsum of a diagonal": (lambda a: torch.einsum("iij->ji", a), (2, 2, 3)),
    "einsum of a trace": (lambda a: torch.einsum("ii", a), (3, 3)),
    "einsum with dots": (lambda a, b: torch.einsum("...i,ij->...j", a, b), (2, 2, 3), (3, 2)),
    "einsum of a sum": (lambda a, b: torch.einsum("ij,k->i", a, b), (2, 3), (2,)),
    "tensordot": (lambda a, b: torch.tensordot(a, b, ([0, 2], [1, 0])), (2, 3, 2), (2, 2, 3)),
    "chain_matmul": (torch.chain_matmul, (2, 3), (3, 2), (2, 2)),
    "linear": (linear, (2, 3), (4, 3), (4,)), "linear of three dimensions": (linear, (2, 2, 3), (4, 3), (4,)),
    "linear of a vector": (linear, (3,), (4, 3), (4,)), "linear without bias": (linear, (2, 2, 3), (4, 3)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_derivatives(name):
    f, *shapes = GRADIENTS[name]
    inputs = [rand(*s) for s in shapes]
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)
    fixed = [x.detach() if i else x for i, x in enumerate(inputs)]  # only the first asks for a gradient
    assert gradcheck(f, fixed)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5), ("float16", 2e-3),
                                              ("bfloat16", 2e-2), ("int64", 0), ("int32", 0), ("uint8", 0)])
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4,)), ((3, 4), (4,)),
                                    ((4,), (4, 2)),
                                    ((2, 1, 3, 4), (5, 4, 2)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((2, 3, 4), (4,))])
def test_matmul_is_numpys(shapes, dtype, tolerance):
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 5, s) * (0.5 if "float" in dtype else 1) for s in shapes)
    dt = getattr(torch, dtype)
    ours = torch.matmul(torch.tensor(a, dtype=dt), torch.tensor(b, dtype=dt))
    assert ours.dtype is dt and ours.shape == (a @ b).shape
    assert np.allclose(ours.to(torch.float64).numpy(), a @ b, tolerance, tolerance)


@pytest.mark.parametrize("equation, shapes", [
    ("ij,jk->ik", ((2, 3), (3, 4))), ("ij,jk", ((2, 3), (3, 4))), ("ij->ji", ((2, 3),)), ("ii->i", ((3, 3),)),
    ("...ij,...jk->...ik", ((5, 2, 3), (3, 4))), ("bij,bik->bjk", ((2, 3, 4), (2, 3, 5))), ("i,j,k->kji", ((2,), (3,),
    (4,))),
    ("ij,ij->", ((2, 3), (2, 3))), ("ijk->j", ((2, 3, 4),)), ("abc,cd,de->abe", ((2, 3, 4), (4, 5), (5, 2))),
    ("aab,bc->ac", ((2, 2, 3), (3, 4))), ("i,i", ((3,), (3,)))])
def test_einsum_is_numpys(equation, shapes):
    arrays = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(shapes)]
    ours = torch.einsum(equation, *[torch.from_numpy(a) for a in arrays])
    assert np.allclose(ours.numpy(), np.einsum(equation, *arrays))


def test_strange_strides():
    a = torch.arange(12.0).view(3, 4)
    eye = torch.eye(4)
    for x in (a, a.t().contiguous().t(), a[:, :1].expand(3, 4), a[:1].expand(3, 4), a.flip(1), a[:, ::2].repeat(1, 2)):
        assert torch.equal(x @ eye, x.contiguous() @ eye)
        assert torch.equal(torch.ones(2, 3) @ x, torch.ones(2, 3) @ x.contiguous())


def test_beta_zero_ignores_what_is_there():
    bad = torch.full((2, 2), float("nan"))
    a = torch.ones(2, 2)
    assert torch.addmm(bad, a, a, beta=0).tolist() == [[2, 2]] * 2
    assert torch.baddbmm(bad.view(1, 2, 2), a.view(1, 2, 2), a.view(1, 2, 2), beta=0).tolist() == [[[2, 2]] * 2]


@pytest.mark.parametrize("call, message", [
    (lambda a, v: a @ a, r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 2x3\)"),
    (lambda a, v: a @ torch.ones(4), r"size mismatch, got input \(2\), mat \(2x3\), vec \(4\)"),
    (lambda a, v: v @ torch.ones(4), "inconsistent tensor size"),
    (lambda a, v: a @ torch.tensor(1.0), "need to be at least 1D"),
    (lambda a, v: a.mm(v), "mat2 must be a matrix"),
    (lambda a, v: a @ torch.ones(3, 3, dtype=torch.float64), "must|same dtype"),
    (lambda a, v: torch.einsum("ij,jk->ik", a, a), "does not broadcast with previously seen size"),
    (lambda a, v: torch.addmm(torch.ones(5), a, a.t()), "The expanded size of the tensor"),
    (lambda a, v: torch.bmm(a, a), "batch1 must be a 3D tensor"),
])
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(torch.ones(2, 3), torch.ones(3))
