"""Checkpointing gives the gradients of the plain function, random numbers included."""
import numpy as np
import pytest

import tritium as torch
from tritium.utils.checkpoint import checkpoint, checkpoint_sequential


def test_gradients_and_random_numbers_repeat() -> None:
    w = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(2, 4, requires_grad=True)

    def part(x):
        return torch.nn.functional.dropout((x @ w).tanh(), 0.5)

    grads = []
    for run in (lambda: checkpoint(part, x, use_reentrant=True), lambda: part(x)):
        w.grad = x.grad = None
        torch.manual_seed(0)
        (run() ** 2).sum().backward()
        grads.append((w.grad.numpy(), x.grad.numpy(), torch.rand(3).numpy()))
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_kept_between() -> None:
    x = torch.ones(3, requires_grad=True)
    y = checkpoint(lambda t: (t * 2).exp(), x)
    node = y.grad_fn
    assert node.name() == "CheckpointFunctionBackward"
    assert all(e is None or e[0] is x for e in node.edges)


def test_sequential() -> None:
    layers = [torch.tanh, torch.exp, torch.sin]
    x = torch.linspace(0, 1, 5).requires_grad_()
    checkpoint_sequential(layers, 2, x).sum().backward()
    expected = x.detach().clone().requires_grad_()
    expected.tanh().exp().sin().sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), expected.grad.numpy())


def test_no_gradient_is_an_error() -> None:
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        checkpoint(lambda t: t.detach() * 2, x).sum().backward()
