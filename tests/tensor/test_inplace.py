"""In-place ops that are recorded: derivatives see the values from before, later changes are noticed."""
import numpy as np
import pytest

import tritium as torch

CASES = {
    "mul_": (lambda x, w: x.mul_(w), lambda x, w: x * w),
    "div_": (lambda x, w: x.div_(w), lambda x, w: x / w),
    "pow_": (lambda x, w: x.pow_(3), lambda x, w: x.pow(3)),
    "clamp_": (lambda x, w: x.clamp_(0.5, 1.5), lambda x, w: x.clamp(0.5, 1.5)),
    "sigmoid_": (lambda x, w: x.sigmoid_(), lambda x, w: x.sigmoid()),
    "atan2_": (lambda x, w: x.atan2_(w), lambda x, w: x.atan2(w)),
    "addcmul_": (lambda x, w: x.addcmul_(x, w), lambda x, w: x.addcmul(x, w)),
    "lerp_": (lambda x, w: x.lerp_(w, w), lambda x, w: x.lerp(w, w)),
    "mul_ by itself": (lambda x, w: x.mul_(x), lambda x, w: x * x),
    "masked_fill_": (lambda x, w: x.masked_fill_(x > 1, 0.0), lambda x, w: x.masked_fill(x > 1, 0.0)),
    "cumprod_": (lambda x, w: x.cumprod_(0), lambda x, w: x.cumprod(0)),
    "scatter_reduce_": (lambda x, w: x.scatter_reduce_(0, torch.tensor([0, 0, 1]), w, "prod"),
                        lambda x, w: x.scatter_reduce(0, torch.tensor([0, 0, 1]), w, "prod")),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shared", [False, True], ids=["own memory", "with a view"])
def test_gradients_are_those_of_the_copy(name, shared):
    grads = []
    for f in CASES[name]:
        x = torch.tensor([0.7, 1.2, 1.9], dtype=torch.float64, requires_grad=True)
        w = torch.tensor([0.4, 0.9, -1.1], dtype=torch.float64, requires_grad=True)
        y = x * 1
        view = y.view(3) if shared else None
        z = f(y, w) * torch.tensor([1.0, 2.0, 3.0])
        z.sum().backward()
        assert view is None or view.shape == (3,)
        grads.append((z.detach().numpy(), x.grad.numpy(), np.zeros(3) if w.grad is None else w.grad.numpy()))
    for ours, wanted in zip(*grads, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_a_part_changed_in_place():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    w = torch.tensor(4.0, requires_grad=True)
    y = x * 1
    y[1:].mul_(w)
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 4.0, 4.0] and w.grad == 5


def test_a_result_changed_before_backward_is_noticed():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation.*output 0 of Exp"):
        y.sum().backward()


def test_what_does_not_fit_is_refused_and_changes_nothing():
    x = torch.ones(2, dtype=torch.int32)
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Int"):
        x.mul_(1.5)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        x.add_(torch.ones(3, 2, dtype=torch.int32))
    assert x.tolist() == [1, 1] and x._version == 0
