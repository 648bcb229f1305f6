"""How many kernels a residual network launches, and that none of them copies a layout.

A block in evaluation is one kernel a convolution. In training a convolution and what follows it are three forward (with
the statistics and the normalization; one more where the statistics of a channel are shared by several programs) and
four backward; a shortcut adds one, the sum of its two gradients. A network
whose weights and images are channels-last is not copied anywhere."""
from __future__ import annotations

import sys
from collections import Counter

import pytest

import tritium as torch
from tritium import nn, optim
from tritium.models.resnet import BasicBlock, Bottleneck, conv1x1


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels launched on the emulated device; copies within its memory count as "copy"."""
    from tritium.kernels import runtime
    from tritium.kernels.runtime import launch

    names = []
    emulate, active = launch.Variant.emulate, runtime.active()
    copy = type(active).copy

    def emulated(self, gx, gy, gz, *arguments):
        if gx and gy and gz:
            names.append(self.kernel.name)
        emulate(self, gx, gy, gz, *arguments)

    def copied(self, dst, src, nbytes, stream):
        if sys._getframe(1).f_globals["__name__"] == "tritium.kernels.triton.copy":  # else from or to the host
            names.append("copy")
        copy(self, dst, src, nbytes, stream)

    monkeypatch.setattr(launch.Variant, "emulate", emulated)
    monkeypatch.setattr(type(active), "copy", copied)
    return names


@pytest.fixture
def copies(request, device, monkeypatch):
    """The copies that are made: kernels that copy, or calls of NumPy's side of the family."""
    if device == "cuda":
        return request.getfixturevalue("launched")
    from tritium.kernels.reference import copy

    names = []
    for name in ("contiguous", "clone", "channels_last", "copy_into"):
        monkeypatch.setattr(copy, name, counting(getattr(copy, name), names))
    return names


def counting(function, names):
    def counted(*args):
        names.append("copy." + function.__name__)
        return function(*args)

    return counted


def only_copies(names):
    return [name for name in names if name.startswith("copy")]


def shortcut(inputs, outputs, stride):
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


def small(block, dtype=torch.float32):
    """A narrow ResNet with both sorts of shortcuts."""
    torch.manual_seed(0)
    width = 8 * block.expansion
    net = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
        block(8, 8, downsample=None if width == 8 else shortcut(8, width, 1)), block(width, 8),
        block(width, 16, 2, shortcut(width, 2 * width, 2)), block(2 * width, 16),
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(2 * width, 3))
    return net.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_no_copies_in_channels_last(block, dtype, copies):
    net = small(block, dtype).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
    labels = torch.tensor([0, 2])
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for step in range(2):  # in the first one the optimizer makes its buffers
        copies.clear()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        if step:
            assert only_copies(copies) == []
        for name, p in net.named_parameters():
            assert p.grad.stride() == p.stride(), name
        copies.clear()
        optimizer.step()
        if step:
            assert only_copies(copies) == []
    net.eval()
    with torch.no_grad():
        net(images)  # makes the weights ready
        copies.clear()
        net(images)
        assert only_copies(copies) == []


def test_outputs_are_channels_last():
    net = small(BasicBlock).to(memory_format=torch.channels_last)
    for training in (True, False):
        x = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        net.train(training)
        for layer in net[:8]:
            x = layer(x)
            assert x.is_contiguous(memory_format=torch.channels_last), layer


@pytest.mark.emulated_only
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("block,convolutions", [(BasicBlock, 2), (Bottleneck, 3)])
def test_launches_of_a_block(block, convolutions, last, launched):
    channels = 8 * block.expansion
    for stride in (1, 2):
        module = block(channels, 8, stride, shortcut(channels, channels, 2) if stride == 2 else None)
        count = convolutions + (stride == 2)
        x = torch.randn(2, channels, 8, 8)
        if last:
            module = module.to(memory_format=torch.channels_last)
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        # evaluation: one kernel a convolution
        module.eval()
        with torch.no_grad():
            module(x)  # folds the batch norms
            launched.clear()
            module(x)
        assert len(launched) == count and all("conv" in n or "matmul" in n for n in launched), launched
        # evaluation with gradients: a convolution, and the batch norm with what follows it
        launched.clear()
        module(x)
        given = len(only_copies(launched))  # of what is given contiguous; convolutions compute channels last
        assert given == 0 if last else given <= 1
        assert len(launched) == 2 * count + given
        # training
        module.train()
        launched.clear()
        y = module(x)
        forward = Counter(name.rpartition(".")[2] for name in launched)
        joined = forward["moments_joined"]  # where several programs shared the channels
        assert len(launched) == 3 * count + joined + given and forward["moments"] == forward["apply"] == count, launched
        dy = torch.randn(*y.shape).contiguous(memory_format=torch.channels_last) if last else torch.randn(*y.shape)
        launched.clear()
        y.backward(dy)
        names = Counter(name.rpartition(".")[2] for name in launched)
        phases = 3 if stride == 2 else 0  # a 3x3 convolution of stride 2 has four residues of the input's pixels
        zeros = 1 if stride == 2 else 0
        if not last:  # the gradients given and wanted are contiguous
            assert names.pop("tile_kernel", 0) + names.pop("copy", 0) <= 2, launched
        assert names["sums"] == names["gradient"] == count
        assert sum(names.values()) <= 4 * count + 1 + phases + zeros, launched


@pytest.mark.emulated_only
def test_launches_of_a_training_step(launched):
    net = small(BasicBlock)
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 2])
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    counts = []
    for _ in range(2):
        launched.clear()
        optimizer.zero_grad()
        out = net(images)
        counts.append(len(launched))
        nn.functional.cross_entropy(out, labels).backward()
        counts.append(len(launched))
        optimizer.step()
        counts.append(len(launched))
    forward, backward, step = counts[3:]
    assert forward <= 10 * 3 + 3 + 1  # ten convolutions, pooling twice, the last layer; one pair of sums is joined
    assert backward - forward <= 10 * 4 + 4 + 6 + 8, launched[forward:backward]
    assert step - backward - launched[backward:].count("copy") == 1
