"""Layers, losses, initialisation and utilities against known values. Needs no PyTorch."""

import math

import numpy as np
import pytest

import tritium as torch
import tritium.nn as nn
import tritium.nn.functional as F
from tritium.autograd import gradcheck, gradgradcheck


def test_linear_is_x_wt_plus_b():
    layer = nn.Linear(3, 2)
    x = torch.tensor([[1.0, 2.0, 3.0]])
    want = x.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), want, rtol=1e-6)
    assert layer.weight.abs().max() <= 1 / math.sqrt(3)


ACTIVATIONS = [
    (F.relu6, [-1.0, 2.0, 7.0], [0.0, 2.0, 6.0]), (F.hardtanh, [-2.0, 0.5, 2.0], [-1.0, 0.5, 1.0]),
    (F.leaky_relu, [-1.0, 2.0], [-0.01, 2.0]), (F.elu, [-1.0, 2.0], [math.exp(-1) - 1, 2.0]),
    (F.silu, [0.0, 1.0], [0.0, 1 / (1 + math.exp(-1))]), (F.hardswish, [-4.0, 0.0, 1.0, 4.0], [0.0, 0.0, 2 / 3, 4.0]),
    (F.gelu, [0.0, 1.0], [0.0, 0.5 * (1 + math.erf(math.sqrt(0.5)))]), (F.softsign, [-1.0, 3.0], [-0.5, 0.75]),
    (F.softplus, [0.0, 100.0], [math.log(2), 100.0]), (F.logsigmoid, [0.0, -200.0], [-math.log(2), -200.0]),
    (F.tanhshrink, [0.0, 1.0], [0.0, 1 - math.tanh(1)]), (F.hardshrink, [0.4, 0.6], [0.0, 0.6]),
    (F.softshrink, [0.4, -0.7], [0.0, -0.2]), (F.mish, [0.0, 1.0], [0.0, math.tanh(math.log1p(math.e))]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "values", "want"), ACTIVATIONS)
def test_activation_values(function, values, want):
    np.testing.assert_allclose(function(torch.tensor(values)).numpy(), want, rtol=1e-6, atol=1e-7)


SMOOTH = ["hardtanh", "leaky_relu", "elu", "celu", "selu", "silu", "mish", "hardswish", "hardsigmoid", "softplus",
          "logsigmoid", "gelu", "relu6", "softsign", "tanhshrink", "softshrink", "hardshrink"]  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_activation_gradients_by_finite_differences(name):
    x = torch.tensor([-2.3, -0.7, -0.2, 0.3, 0.8, 2.1, 6.4], dtype=torch.float64, requires_grad=True)
    assert gradcheck(getattr(F, name), (x,))
    assert gradgradcheck(getattr(F, name), (x,))


LOSSES = [
    lambda x, t: F.mse_loss(x, t), lambda x, t: F.smooth_l1_loss(x, t, beta=0.7),
    lambda x, t: F.huber_loss(x, t, delta=0.4, reduction="sum"),
    lambda x, t: F.binary_cross_entropy(x.sigmoid(), t.sigmoid()),
    lambda x, t: F.binary_cross_entropy_with_logits(x, t.sigmoid(), pos_weight=torch.ones(3, dtype=torch.float64) * 2),
    lambda x, t: F.kl_div(x.log_softmax(1), t.softmax(1), reduction="batchmean"),
    lambda x, t: F.cross_entropy(x, t.softmax(1)), lambda x, t: F.softmax(x, 0) * t,
    lambda x, t: F.log_softmax(x, 1) * t,
    lambda x, t: F.cross_entropy(x, torch.tensor([0, 2]), label_smoothing=0.1) + t.sum(),
    lambda x, t: F.nll_loss(x, torch.tensor([0, 2]), reduction="none").sum() * t.sum(),
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_gradients_by_finite_differences(loss):
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.normal(size=(2, 3))).requires_grad_()
    t = torch.from_numpy(generator.normal(size=(2, 3))).requires_grad_()
    assert gradcheck(loss, (x, t))
    assert gradgradcheck(loss, (x, t))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_gradients_by_finite_differences(mode):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 3, 3))).requires_grad_()
    assert gradcheck(lambda v: F.pad(v, (1, 2, 2, -1), mode), (x,))
    assert gradgradcheck(lambda v: F.pad(v, (1, 2, 2, -1), mode) ** 2, (x,))


def test_cross_entropy_values():
    scores = torch.zeros(2, 4)
    assert F.cross_entropy(scores, torch.tensor([1, 3])).item() == pytest.approx(math.log(4))
    assert F.cross_entropy(scores, torch.tensor([1, -100])).item() == pytest.approx(math.log(4))
    with pytest.raises(IndexError, match="Target 4 is out of bounds"):
        F.cross_entropy(scores, torch.tensor([1, 4]))
    assert F.softmax(torch.tensor([1000.0, 1000.0]), 0).tolist() == [0.5, 0.5]
    layer = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), label_smoothing=0.1)
    assert list(layer.state_dict()) == ["weight"]


def test_backward_of_cross_entropy_is_probabilities_minus_one_hot():
    x = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    F.cross_entropy(x, torch.tensor([2])).backward()
    want = x.detach().softmax(1).numpy() - np.array([[0, 0, 1]])
    np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-6)


def test_batch_norm_modes():
    layer = nn.BatchNorm2d(2)
    x = torch.randn(4, 2, 3, 3) * 3 + 1
    y = layer(x)
    np.testing.assert_allclose(y.detach().numpy().mean((0, 2, 3)), 0, atol=1e-5)
    assert layer.num_batches_tracked.item() == 1
    before = layer.running_mean.clone()
    layer.eval()(x)
    assert (layer.running_mean == before).all() and layer.num_batches_tracked.item() == 1


def test_dropout_modes():
    torch.manual_seed(0)
    layer = nn.Dropout(0.5)
    y = layer(torch.ones(1000))
    assert set(y.tolist()) == {0.0, 2.0}
    assert layer.eval()(y) is y


def test_same_padding_and_padding_modes_keep_the_size():
    x = torch.randn(1, 2, 5, 6)
    for mode in ("zeros", "reflect", "replicate", "circular"):
        assert nn.Conv2d(2, 3, 3, padding="same", padding_mode=mode)(x).shape == (1, 3, 5, 6)
        assert nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)(x).shape == (1, 3, 5, 6)


def test_embedding():
    layer = nn.Embedding(4, 3, padding_idx=0)
    out = layer(torch.tensor([[0, 2], [2, 1]]))
    assert out.shape == (2, 2, 3) and (out[0, 0] == 0).all()
    out.sum().backward()
    assert layer.weight.grad.tolist() == [[0.0] * 3, [1.0] * 3, [2.0] * 3, [0.0] * 3]
    with pytest.raises(IndexError, match="index out of range in self"):
        layer(torch.tensor([4]))
    with pytest.raises(NotImplementedError, match="sparse"):
        nn.Embedding(4, 3, sparse=True)


def test_init_statistics():
    torch.manual_seed(0)
    w = torch.empty(200, 300)
    assert abs(nn.init.normal_(w, 1.0, 2.0).mean().item() - 1) < 0.05
    assert nn.init.trunc_normal_(w, std=1.0, a=-0.5, b=0.5).abs().max() <= 0.5
    q = nn.init.orthogonal_(torch.empty(4, 6)).numpy()
    np.testing.assert_allclose(q @ q.T, np.eye(4), atol=1e-5)
    assert (nn.init.sparse_(torch.empty(10, 3), 0.3) == 0).sum() == 9
    assert nn.init.dirac_(torch.empty(2, 2, 3, 3))[1, 1, 1, 1] == 1
    x = torch.randn(1, 2, 4, 4)
    np.testing.assert_allclose(F.conv2d(x, nn.init.dirac_(torch.empty(2, 2, 3, 3)), padding=1).numpy(), x.numpy())


def test_clip_grad_norm():
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    norm = nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
    total = math.sqrt(sum((p.grad**2).sum().item() for p in layer.parameters()))
    assert norm.item() == pytest.approx(math.sqrt(6)) and total == pytest.approx(0.1, rel=1e-4)
    nn.utils.clip_grad_value_(layer.parameters(), 0.01)
    assert max(p.grad.abs().max().item() for p in layer.parameters()) <= 0.01


def test_parameters_as_a_vector():
    layer = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(torch.arange(9.0), layer.parameters())
    assert layer.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and layer.bias.tolist() == [6, 7, 8]
    with pytest.raises(TypeError, match="expected torch.Tensor, but got"):
        nn.utils.vector_to_parameters([1.0], layer.parameters())


def test_linear_names_the_dtypes_that_differ():
    with pytest.raises(RuntimeError, match="mat1 and mat2 must have the same dtype, but got Double and Float"):
        nn.Linear(3, 2)(torch.ones(1, 3, dtype=torch.float64))


def test_left_out_things_say_so():
    with pytest.raises(NotImplementedError, match="named dimensions"):
        nn.Unflatten("name", (1, 2))


def test_nn_keeps_no_cycles():
    import gc
    import weakref

    gc.disable()
    try:
        net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.ModuleList([nn.Linear(1, 1)]))
        alive = weakref.ref(net)
        del net
        assert alive() is None
    finally:
        gc.enable()
