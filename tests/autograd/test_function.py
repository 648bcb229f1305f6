"""``Function``: outputs, arguments, marks, saved tensors, second derivatives, errors."""
import pytest

import tritium as torch
from tritium.autograd import Function, gradcheck, gradgradcheck

D = torch.float64


def leaf(*values):
    return torch.tensor(values, dtype=D, requires_grad=True)


def make(forward, backward):
    return type("Made", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x ** 2 * grad


class ProductAndSum(Function):
    @staticmethod
    def forward(x, y):
        return x * y, x + y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, product, total):
        x, y = ctx.saved_tensors
        return product * y + total, product * x + total


def test_derivatives():
    x, y = leaf(1.0, -2.0), leaf(0.5, 3.0)
    assert gradcheck(Cube.apply, x) and gradgradcheck(Cube.apply, x)
    assert gradcheck(ProductAndSum.apply, (x, y)) and gradgradcheck(ProductAndSum.apply, (x, y))
    out = Cube.apply(x)
    assert out.grad_fn.name() == "CubeBackward" and out.grad_fn.saved_tensors[0].tolist() == x.tolist()


def test_outputs_that_no_gradient_comes_in_for():
    x, y = leaf(1, 2), leaf(3, 4)
    product, total = ProductAndSum.apply(x, y)
    product.sum().backward()
    assert x.grad.tolist() == [3, 4]
    seen = []

    def backward(ctx, a, b):
        seen.append((a is None, b is None))
        return b

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 2, x * 1

    make(forward, backward).apply(x)[1].sum().backward()
    assert seen == [(True, False)]


def test_other_arguments_and_outputs():
    def forward(ctx, x, factor, flag=None):
        ctx.factor = factor
        mask = x > 1
        ctx.mark_non_differentiable(mask)
        return x * factor, mask, "text"

    def backward(ctx, grad, mask, text):
        assert ctx.needs_input_grad == (True, False, False)
        return grad * ctx.factor, None, None

    x = leaf(1, 2)
    y, mask, text = make(forward, backward).apply(x, 3.0, None)
    y.sum().backward()
    assert x.grad.tolist() == [3, 3] and not mask.requires_grad and text == "text"


def test_no_recording_without_need():
    assert not Cube.apply(torch.ones(2)).requires_grad
    with torch.no_grad():
        assert not Cube.apply(leaf(1.0)).requires_grad


def test_dirty_inputs():
    def forward(ctx, x):
        x.mul_(3)
        ctx.mark_dirty(x)
        return x

    triple = make(forward, lambda ctx, grad: grad * 3)
    x = leaf(1, 2, 3)
    y = x * 1
    assert triple.apply(y) is y and y.grad_fn.name() == "MadeBackward"
    triple.apply(y[:2])
    (y * y).sum().backward()
    assert x.grad.tolist() == [2 * 9 * 9 * 1, 2 * 9 * 9 * 2, 2 * 3 * 3 * 3]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad has been used in an in-place operation"):
        triple.apply(x)
    z = x * 1
    w = z * x
    triple.apply(z)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        w.sum().backward()


def test_an_input_returned_as_it_is():
    same = make(lambda ctx, x: x, lambda ctx, grad: grad * 7)
    x = leaf(1, 2)
    y = same.apply(x)
    assert y is not x
    y.sum().backward()
    assert x.grad.tolist() == [7, 7]
    with pytest.raises(RuntimeError, match="created inside a custom Function"):
        y.add_(1)


def test_saved_tensors():
    def forward(ctx, x):
        result = x.exp()
        ctx.save_for_backward(result, None)
        return result

    exp = make(forward, lambda ctx, grad: grad * ctx.saved_tensors[0])
    x = leaf(1, 2)
    y = exp.apply(x)
    y.add_(1)
    with pytest.raises(RuntimeError, match="which is output 0 of"):
        y.sum().backward()
    y = exp.apply(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        y.sum().backward()
    with pytest.raises(TypeError, match="save_for_backward can only save variables, but argument 1 is of type int"):
        make(lambda ctx, x: ctx.save_for_backward(x, 3), None).apply(x)


@pytest.mark.parametrize("returned, message", [
    (lambda g: (g, g), r"returned an incorrect number of gradients \(expected 1, got 2\)"),
    (lambda g: g[:1], "returned an invalid gradient at index 0"), (lambda g: 3,
     r"expected Variable or None \(got int\)"),
])
def test_wrong_gradients(returned, message):
    f = make(lambda ctx, x: x * 2, lambda ctx, g: returned(g))
    with pytest.raises(RuntimeError, match=message):
        f.apply(leaf(1, 2, 3)).sum().backward()


def test_gradients_that_broadcast_are_summed():
    f = make(lambda ctx, x: x * 2, lambda ctx, g: g.expand(4, 2))
    x = leaf(1, 2)
    f.apply(x).sum().backward()
    assert x.grad.tolist() == [4, 4]


def test_missing_methods():
    with pytest.raises(NotImplementedError, match="You must implement the forward function"):
        make(Function.forward, None).apply(leaf(1.0))
    with pytest.raises(NotImplementedError, match="You must implement either the backward or vjp method"):
        make(lambda ctx, x: x * 2, Function.backward).apply(leaf(1.0)).backward()
    with pytest.raises(RuntimeError, match="Legacy autograd function"):
        Cube()(leaf(1.0))


def test_once_differentiable():
    backward = torch.autograd.function.once_differentiable(lambda ctx, grad: grad * 2)
    x = leaf(1.0)
    (g,) = torch.autograd.grad(make(lambda ctx, x: x * 2, backward).apply(x), x, create_graph=True)
    assert g.tolist() == [2]
