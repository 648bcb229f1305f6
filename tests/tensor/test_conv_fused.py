"""The inference path of convolutions: folded batch norm, residual, activation, and weights that are kept ready."""

import gc

import numpy as np
import pytest

import tritium
import tritium.nn.functional as F
from tritium.tensor.ops import conv_weights
from tritium.tensor.ops.conv import conv_bn_act

shares = pytest.mark.cpu_only(reason="memory shared with NumPy")


def parts(o=16, c=8, kernel=3, groups=1):
    tritium.manual_seed(0)
    weight, bias = tritium.randn(o, c // groups, kernel, kernel), tritium.randn(o)
    bn = (tritium.randn(o), tritium.randn(o), tritium.randn(o), tritium.rand(o) + 0.5, 1e-3)
    return weight, bias, bn


def separate(x, weight, bias, bn, residual, activation, **options):
    y = F.conv2d(x, weight, bias, **options)
    if bn is not None:
        y = F.batch_norm(y, bn[2], bn[3], bn[0], bn[1], False, 0.1, bn[4])
    y = y if residual is None else y + residual
    return y if activation is None else getattr(F, activation)(y)


@pytest.mark.parametrize(
    "options",
    [{"padding": 1}, {"stride": 2, "padding": 1}, {"padding": 1, "groups": 8}, {"dilation": 2}, {"padding": "same"}],
    ids=str,
)
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("with_bn", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_equal_to_separate_ops(options, activation, with_bn, channels_last):
    weight, bias, bn = parts(groups=options.get("groups", 1))
    bn = bn if with_bn else None
    x = tritium.randn(3, 8, 12, 13)
    if channels_last:
        x = x.contiguous(memory_format=tritium.channels_last)
    with tritium.no_grad():
        plain = F.conv2d(x, weight, bias, **options)
        for residual in (None, tritium.randn(*plain.shape)):
            expected = separate(x, weight, bias, bn, residual, activation, **options)
            for _ in range(3):  # the weights as they are, made ready, and found ready
                y = conv_bn_act(x, weight, bias, bn, residual, activation, **options)
                assert y.stride() == plain.stride()
                assert np.allclose(y.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_image_without_batch():
    weight, bias, bn = parts()
    x = tritium.randn(8, 9, 9)
    y = conv_bn_act(x, weight, bias, bn, None, "relu", padding=1)
    assert np.allclose(
        y.numpy(), conv_bn_act(x.unsqueeze(0), weight, bias, bn, None, "relu", padding=1)[0].numpy(), atol=1e-5
    )


CHANGES = {
    "in place": lambda w, b, bn: w.mul_(2),
    "through data": lambda w, b, bn: w.data.mul_(2),
    "through a view": lambda w, b, bn: w[0].zero_(),
    "through an older view": None,
    "copy_": lambda w, b, bn: w.copy_(tritium.ones_like(w)),
    "new data": lambda w, b, bn: setattr(w, "data", tritium.ones_like(w)),
    "through numpy": lambda w, b, bn: np.copyto(w.numpy(), 3.0),
    "bias": lambda w, b, bn: b.add_(1),
    "bn weight": lambda w, b, bn: bn[0].add_(1),
    "running mean": lambda w, b, bn: bn[2].add_(1),
    "training step": lambda w, b, bn: F.batch_norm(tritium.randn(4, 16, 3, 3), bn[2], bn[3], bn[0], bn[1], True),
    "optimizer": lambda w, b, bn: _step(w),
}


def _step(w):
    w.grad = tritium.ones_like(w)
    tritium.optim.SGD([w], lr=0.5).step()


@pytest.mark.parametrize("change", [pytest.param(c, marks=shares) if c == "through numpy" else c for c in CHANGES])
@pytest.mark.parametrize("ready", [1, 3])
def test_changes_are_seen(change, ready):
    weight, bias, bn = parts()
    x = tritium.randn(2, 8, 10, 10)
    view = weight.view(-1)
    with tritium.no_grad():
        for _ in range(ready):
            conv_bn_act(x, weight, bias, bn, None, "relu", padding=1)
            F.conv2d(x, weight, bias, padding=1)
        if change == "through an older view":
            view.zero_()
        else:
            CHANGES[change](weight, bias, bn)
        for _ in range(3):
            expected = separate(x, weight, bias, bn, None, "relu", padding=1)
            fresh = F.conv2d(x, weight.clone(), bias, padding=1)
            assert np.allclose(
                conv_bn_act(x, weight, bias, bn, None, "relu", padding=1).numpy(), expected.numpy(), atol=1e-4
            )
            assert np.allclose(F.conv2d(x, weight, bias, padding=1).numpy(), fresh.numpy(), atol=1e-4)


@shares
def test_numpy_keeps_the_memory():
    """An array taken before the weights were made ready may write later, uncounted."""
    weight, bias, bn = parts()
    array, x = weight.numpy(), tritium.randn(2, 8, 10, 10)
    for value in (1.0, 2.0, 3.0):
        array[...] = value
        for _ in range(3):
            y = conv_bn_act(x, weight, bias, bn, padding=1)
            assert np.allclose(
                y.numpy(), separate(x, weight.clone(), bias, bn, None, None, padding=1).numpy(), atol=1e-3
            )


@shares
def test_from_numpy():
    array, x = np.ones((4, 8, 3, 3), np.float32), tritium.randn(2, 8, 10, 10)
    weight = tritium.from_numpy(array)
    for value in (1.0, 2.0, 3.0):
        array[...] = value
        for _ in range(3):
            assert np.allclose(
                F.conv2d(x, weight).numpy(), F.conv2d(x, tritium.full((4, 8, 3, 3), value)).numpy(), atol=1e-3
            )


def test_nothing_is_kept_alive():
    gc.collect()
    before = len(conv_weights._entries)
    weight, bias, bn = parts()
    for _ in range(3):
        conv_bn_act(tritium.randn(2, 8, 10, 10), weight, bias, bn, padding=1)
    assert len(conv_weights._entries) == before + 1
    del weight
    assert len(conv_weights._entries) == before


def test_recorded_convolutions_do_not_use_it():
    weight, bias, _ = parts()
    weight.requires_grad_()
    before = len(conv_weights._entries)
    F.conv2d(tritium.randn(2, 8, 10, 10), weight, bias).sum().backward()
    assert len(conv_weights._entries) == before and weight.grad is not None
