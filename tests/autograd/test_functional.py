"""Jacobians, Hessians, products with them, and gradcheck itself."""
import pytest

import tritium as torch
from tritium.autograd import Variable, functional, gradcheck, gradgradcheck

D = torch.float64
X, W = torch.tensor([1.0, 2.0], dtype=D), torch.tensor([3.0, -1.0], dtype=D)


def test_jacobian():
    assert functional.jacobian(lambda x: x ** 2, X).tolist() == [[2, 0], [0, 4]]
    (a, b), (c, d) = functional.jacobian(lambda x, w: (x * w, x.sum()), (X, W))
    assert a.tolist() == [[3, 0], [0, -1]] and b.tolist() == [[1, 0], [0, 2]] and c.tolist() == [1, 1]
    assert d.tolist() == [0, 0]
    assert functional.jacobian(lambda x: x ** 2, X.clone().requires_grad_(), create_graph=True).requires_grad
    with pytest.raises(RuntimeError, match="does not require gradients"):
        functional.jacobian(lambda x: torch.ones(2), X, strict=True)


def test_hessian():
    assert functional.hessian(lambda x: (x ** 3).sum(), X).tolist() == [[6, 0], [0, 12]]
    (a, b), (c, d) = functional.hessian(lambda x, w: (x * x * w).sum(), (X, W))
    assert a.tolist() == [[6, 0], [0, -2]] and b.tolist() == [[2, 0], [0, 4]] == c.tolist() and d.tolist() == [[0, 0]] * 2
    with pytest.raises(RuntimeError, match="should contain a single element"):
        functional.hessian(lambda x: x ** 2, X)


def test_products():
    out, g = functional.vjp(lambda x: x ** 2, X, W)
    assert out.tolist() == [1, 4] and g.tolist() == [6, -4] and not out.requires_grad
    out, g = functional.jvp(lambda x: x ** 2, X, W)
    assert g.tolist() == [6, -4]
    assert functional.hvp(lambda x: (x ** 3).sum(), X, W)[1].tolist() == [18, -12]
    assert functional.vhp(lambda x: (x ** 3).sum(), X, W)[1].tolist() == [18, -12]
    with pytest.raises(RuntimeError, match="The vector v can only be None"):
        functional.vjp(lambda x: x ** 2, X)


def test_gradcheck_finds_a_wrong_derivative():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 2

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.saved_tensors[0].detach() * 2.001 if ctx.saved_tensors else None

    x = X.clone().requires_grad_()
    assert gradcheck(lambda x: x ** 2, x)
    assert not gradcheck(Wrong.apply, x, rtol=1e-5, raise_exception=False)
    with pytest.raises(RuntimeError, match="Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(Wrong.apply, x, rtol=1e-5)
    assert not gradgradcheck(Wrong.apply, x, raise_exception=False)
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda x: x ** 2, X)


def test_variable():
    t = torch.ones(2)
    v = Variable(t, requires_grad=True)
    assert isinstance(v, torch.Tensor) and isinstance(t, Variable) and v.requires_grad and v is not t
    t.add_(1)
    assert v.tolist() == [2, 2]
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got list"):
        Variable([1])
