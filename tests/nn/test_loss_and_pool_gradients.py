"""Losses and poolings against finite differences, once and twice differentiated."""
import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

F = torch.nn.functional


def data(*shape, seed=0, positive=False):
    a = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(np.abs(a) + 0.2 if positive else a).requires_grad_()


X, T = (3, 4), np.array([1, 3, 0])
LOSSES = {
    "mse": lambda x, t: F.mse_loss(x, t), "huber": lambda x, t: F.huber_loss(x, t, delta=0.6),
    "kl": lambda x, t: F.kl_div(x, t, reduction="batchmean"),
    "kl of logarithms": lambda x, t: F.kl_div(x, t, reduction="none", log_target=True),
    "bce of scores": lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=data(4, positive=True).detach()),
    "poisson": lambda x, t: F.poisson_nll_loss(x, t, full=True, reduction="sum"),
    "probabilities": lambda x, t: F.cross_entropy(x, t, data(4, positive=True).detach(), label_smoothing=0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_two(name):
    inputs = (data(*X), data(*X, seed=1, positive=True))
    assert gradcheck(LOSSES[name], inputs)
    assert gradgradcheck(LOSSES[name], inputs)


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(smoothing, reduction):
    weight, target = data(4, positive=True).detach(), torch.from_numpy(T)

    def loss(x):
        return F.cross_entropy(x, target, weight, ignore_index=3, reduction=reduction, label_smoothing=smoothing)

    assert gradcheck(loss, (data(*X),))
    assert gradgradcheck(loss, (data(*X),))


POOLS = {
    "lp 1d": (lambda x: F.lp_pool1d(x, 3, 2, ceil_mode=True), (1, 2, 5)),
    "lp 2d": (lambda x: F.lp_pool2d(x, 2, (2, 1), 1), (1, 2, 3, 2)),
    "lp 3d": (lambda x: F.lp_pool3d(x, 2.5, 2, 1), (1, 1, 2, 3, 2)),
    "max": (lambda x: F.max_pool3d(x, 2, 1, 1), (1, 1, 2, 3, 2)),
    "average": (lambda x: F.avg_pool3d(x, 2, 1, 1, count_include_pad=False), (1, 1, 2, 3, 2)),
    "adaptive average": (lambda x: F.adaptive_avg_pool3d(x, (1, 2, 2)), (1, 1, 2, 3, 3)),
    "adaptive max": (lambda x: F.adaptive_max_pool3d(x, (1, 2, 2)), (1, 1, 2, 3, 3)),
    "unpooling": (lambda x: F.max_unpool2d(x, torch.from_numpy(np.array([[[[0, 3], [9, 14]]]])), 2), (1, 1, 2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_pools(name):
    f, shape = POOLS[name]
    x = data(*shape, positive=True)
    assert gradcheck(f, (x,))
    assert gradgradcheck(f, (x,))
