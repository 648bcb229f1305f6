"""Sequential computes Conv2d, BatchNorm2d and activations as one, exactly when nobody can tell the difference."""

import numpy as np
import pytest

import tritium as torch
import tritium.nn as nn
from tritium.nn.modules import fused


def block(activation=None, **options):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1, **options), nn.BatchNorm2d(8)]
    net = nn.Sequential(*layers, *([activation] if activation is not None else []), nn.Conv2d(8, 4, 1), nn.ReLU())
    bn = net[1]
    bn.running_mean.normal_()
    bn.running_var.uniform_(0.5, 2.0)
    with torch.no_grad():
        bn.weight.normal_()
        bn.bias.normal_()
    return net.eval()


def one_by_one(net, x):
    for module in net:
        x = module.forward(x)
    return x


@pytest.fixture
def runs(monkeypatch):
    """How many modules went into each fused call."""
    seen = []
    original = fused.run_convolution

    def counted(*args):
        length, out = original(*args)
        seen.append(length)
        return length, out

    monkeypatch.setattr(fused, "run_convolution", counted)
    return seen


@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()])
@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"stride": 2}, {"dilation": 2}, {"padding_mode": "reflect"}]
)
def test_equal_within_rounding(activation, options, runs):
    net = block(activation, **options)
    x = torch.randn(2, 3, 9, 8)
    with torch.no_grad():
        for _ in range(3):  # weights are made ready at the second meeting
            got = net(x)
        want = one_by_one(net, x)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)
    assert got.shape == want.shape and not got.requires_grad
    first = 0 if "padding_mode" in options else 1 if activation is None else 2
    assert runs[:2] == [first, 1]


def test_changed_weights_are_noticed():
    net = block(nn.ReLU())
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        for _ in range(3):
            net(x)
        changes = [
            lambda: net[0].weight.mul_(2),
            lambda: net[1].running_mean.add_(1),
            lambda: net[1].bias.data.add_(1),
        ]
        for change in changes:
            change()
            np.testing.assert_allclose(net(x).numpy(), one_by_one(net, x).numpy(), rtol=1e-4, atol=1e-5)
        net.load_state_dict({k: v * 0.5 if v.is_floating_point() else v for k, v in net.state_dict().items()})
        np.testing.assert_allclose(net(x).numpy(), one_by_one(net, x).numpy(), rtol=1e-4, atol=1e-5)


def test_not_fused_when_it_could_be_told(runs):
    x = torch.randn(2, 3, 5, 5)

    def lengths(net, value=x):
        runs.clear()
        net(value)
        return list(runs)

    net = block(nn.ReLU())
    assert lengths(net) == [0, 0]  # a gradient is recorded
    with torch.no_grad():
        assert lengths(net) == [2, 1]
        net[1].train()
        assert lengths(net) == [0, 1]
        net[1].eval()
        handle = net[2].register_forward_hook(lambda *a: None)
        assert lengths(net) == [0, 1]
        handle.remove()
        handle = net[0].register_full_backward_hook(lambda *a: None)
        assert lengths(net) == [0, 1]
        handle.remove()
        with nn.modules.module.register_module_forward_hook(lambda *a: None):
            assert lengths(net) == []
        net[1].running_mean = None
        net[1].running_var = None
        assert lengths(net) == [0, 1]
    frozen = block(nn.ReLU()).requires_grad_(False)
    assert lengths(frozen) == [2, 1]
    assert lengths(frozen, x.clone().requires_grad_()) == [0, 0]

    class Loud(nn.ReLU):
        def forward(self, input):
            return super().forward(input) + 1

    with torch.no_grad():
        loud = block(Loud())
        assert lengths(loud) == [1, 1]
        np.testing.assert_allclose(loud(x).numpy(), one_by_one(loud, x).numpy(), rtol=1e-4, atol=1e-5)


def test_errors_are_those_of_the_layers():
    net = block(nn.ReLU())
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="to have 3 channels, but got 4 channels"):
            net(torch.zeros(1, 4, 5, 5))
        with pytest.raises(ValueError, match="expected 4D input"):
            net(torch.zeros(3, 5, 5))
        wrong = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)).eval()
        with pytest.raises(RuntimeError, match="running_mean should contain 4 elements not 5"):
            wrong(torch.zeros(1, 3, 2, 2))


def test_double_precision():
    net = block(nn.ReLU6()).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(net(x).numpy(), one_by_one(net, x).numpy(), rtol=1e-9, atol=1e-9)
