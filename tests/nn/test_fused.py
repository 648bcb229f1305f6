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


# --- with gradients: the batch norm takes what follows it ---------------------------------------------------


class Block(nn.Module):
    """A residual block; `fuse` False calls the modules one by one."""

    def __init__(self, activation, channels=4, **norm):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels, **norm)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels, **norm)
        self.act = activation
        self.fuse = True

    def forward(self, x):
        first = (self.conv1, self.bn1) if self.act is None else (self.conv1, self.bn1, self.act)
        if self.fuse:
            return fused.run_residual(self.conv2, self.bn2, self.act, fused.run(first, x), x)
        out = x
        for module in first:
            out = module(out)
        out = self.bn2(self.conv2(out))
        out += x
        return out if self.act is None else self.act(out)


def made(activation, dtype=torch.float64, **norm):
    torch.manual_seed(0)
    block = Block(activation, **norm).to(dtype)
    with torch.no_grad():
        for bn in (block.bn1, block.bn2):
            if bn.affine:
                bn.weight.copy_(torch.randn(4) + 1)
            if bn.bias is not None:
                bn.bias.copy_(torch.randn(4) + 1)
            if bn.track_running_stats:
                bn.running_mean.copy_(torch.randn(4) / 4)
                bn.running_var.copy_(torch.rand(4) + 0.5)
    return block, torch.randn(3, 4, 6, 5, dtype=dtype), torch.randn(3, 4, 6, 5, dtype=dtype)


def results(block, x, dy, steps=2):
    x = x.clone().requires_grad_()
    for _ in range(steps):
        y = block(x)
        y.backward(dy)
    # the convolutions' weights get nothing where the one before the norm does not matter
    grads = [p.grad for p in block.parameters() if p.grad is not None]
    return [y.detach(), x.grad, *grads, *block.state_dict().values()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}, {"bias": False}, {"frozen": True}],
    ids=str,
)
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.ReLU6(inplace=True)], ids=str)
def test_training_equals_the_separate_modules(activation, options, training):
    options = dict(options)
    frozen = options.pop("frozen", False)
    out = []
    for fuse in (True, False):
        block, x, dy = made(activation, **options)
        block.train(training).fuse = fuse
        if frozen:
            for bn in (block.bn1, block.bn2):
                bn.requires_grad_(False)
        out.append(results(block, x, dy))
    assert len(out[0]) == len(out[1])
    for a, b in zip(*out, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype,limit", [(torch.float32, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 2e-2)], ids=str)
@pytest.mark.parametrize("last", [True, False])
def test_training_in_other_dtypes_and_layouts(dtype, limit, last):
    out = []
    for fuse in (True, False):
        block, x, dy = made(nn.ReLU(inplace=True), dtype)
        block.fuse = fuse
        if last:
            block, x = block.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        y = block(x)
        y.float().mul(dy.float()).sum().backward()
        assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last) is last
        assert block.conv2.weight.grad.stride() == block.conv2.weight.stride()
        out.append([y.detach(), *[p.grad for p in block.parameters()], *block.state_dict().values()])
    for a, b in zip(*out, strict=True):
        b = b.double().numpy()  # an element near zero may be stopped by one and passed by the other
        assert np.linalg.norm(a.double().numpy() - b) <= limit * max(np.linalg.norm(b), 1)


def test_mixed_precision_parameters():
    """A 16-bit input and float32 parameters: statistics and their gradients are float32."""
    out = []
    for fuse in (True, False):
        torch.manual_seed(0)
        bn, x = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5).bfloat16().requires_grad_()
        y = fused.run((bn, nn.ReLU()), x) if fuse else bn(x).relu()
        y.float().square().sum().backward()
        assert y.dtype == x.grad.dtype == torch.bfloat16 and bn.weight.grad.dtype == torch.float32
        out.append([y.detach(), x.grad, bn.weight.grad, bn.bias.grad, bn.running_var])
    for a, b in zip(*out, strict=True):
        np.testing.assert_allclose(a.float().numpy(), b.float().numpy(), rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ReLU6()], ids=str)
def test_derivatives_of_two_orders(activation, training, device):
    from tritium.autograd import gradcheck, gradgradcheck

    torch.manual_seed(2)
    N, C = (3, 2) if device == "cpu" else (2, 1)  # every number costs a few hundred launches
    bn = nn.BatchNorm2d(C).double().train(training)
    weight, bias = (torch.randn(C, dtype=torch.float64, requires_grad=True) for _ in range(2))
    x, r = (torch.randn(N, C, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    kind = None if activation is None else fused.ACTIVATIONS[type(activation)]

    def function(x, weight, bias, r=None):
        stats = (bn.running_mean.clone(), bn.running_var.clone())
        from tritium.tensor.ops.norm import batch_norm_act

        return batch_norm_act(x, *stats, weight, bias, training, 0.1, 1e-5, None, r, kind)

    for inputs in ((x, weight, bias), (x, weight, bias, r))[device == "cuda" :]:
        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)


@pytest.fixture
def norms(monkeypatch):
    """What was given to each batch norm that was asked for more than itself."""
    seen = []
    original = nn.BatchNorm2d.apply_with

    def apply_with(self, input, residual=None, activation=None):
        seen.append((residual is not None, activation))
        return original(self, input, residual, activation)

    monkeypatch.setattr(nn.BatchNorm2d, "apply_with", apply_with)
    return seen


def test_hooks_see_every_module(norms):
    block, x, _ = made(nn.ReLU())
    block(x)
    assert norms == [(False, "relu"), (True, "relu")]
    for name in ("conv1", "bn1", "act", "conv2", "bn2"):
        called = []
        module = getattr(block, name)
        for register in (module.register_forward_hook, module.register_forward_pre_hook):
            norms.clear()
            with register(lambda *a, called=called: called.append(1)):
                block(x)
            assert len(called) == (2 if name == "act" else 1), name
            called.clear()
        with module.register_full_backward_hook(lambda *a, called=called: called.append(1)):
            block(x.clone().requires_grad_()).sum().backward()
        assert len(called) == (2 if name == "act" else 1), name
    norms.clear()
    with nn.modules.module.register_module_forward_hook(lambda *a: None):
        block(x)
    assert norms == [(False, None), (False, None)]

    class Other(nn.BatchNorm2d):
        pass

    norms.clear()
    block.bn1 = Other(4).double()
    block.act = nn.GELU()
    block(x)
    assert norms == [(False, None), (False, None)]


def test_state_and_errors():
    block, x, _ = made(nn.ReLU())
    count = block.bn1.num_batches_tracked
    version = count._version
    y = block(x.requires_grad_())
    assert count.item() == 1 and count._version == version + 1 and count is block.bn1.num_batches_tracked
    with torch.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with pytest.raises(ValueError, match="expected 4D input"):
        fused.run((block.bn1, block.act), x[0])
    with pytest.raises(RuntimeError, match="running_mean should contain 3 elements not 4"):
        fused.run((block.bn1, block.act), x[:, :3])
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        fused.run((block.bn1, block.act), x[:1, :, :1, :1])
    assert fused.run((block.bn1, block.act), x[:0]).shape == (0, 4, 6, 5)
    shortcut = torch.randn(1, 4, 1, 1, dtype=torch.float64)  # broadcasts: left to the modules
    out = fused.run_residual(block.conv2, block.bn2, None, x, shortcut)
    np.testing.assert_allclose(out.detach().numpy(), (block.bn2(block.conv2(x)) + shortcut).detach().numpy(), atol=1e-12)


def test_sum_of_input_and_sequential(norms):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 3, 1), nn.BatchNorm2d(3))
    x = torch.randn(2, 3, 4, 4)
    want = x + one_by_one(net, x)
    norms.clear()
    np.testing.assert_allclose(fused.run_sum(net, x).detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert norms == [(False, "relu6"), (True, None)]
    called = []
    norms.clear()
    with net.register_forward_hook(lambda *a: called.append(1)):
        fused.run_sum(net, x)
    assert called and norms == [(False, "relu6"), (False, None)]
    with torch.no_grad():
        net.eval()
        norms.clear()
        np.testing.assert_allclose(fused.run_sum(net, x).numpy(), (x + one_by_one(net, x)).numpy(), rtol=1e-4, atol=1e-5)
    assert norms == [(False, None)] * 2  # of the comparison
