"""3-D convolutions: derivatives of two orders by finite differences, kept weights, memory formats, mixed precision."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

F = torch.nn.functional
LAST = torch.channels_last_3d
on_cpu = pytest.mark.cpu_only(reason="many calls; on cuda, derivatives of two orders are compared with PyTorch's")


def rand(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).requires_grad_()


@on_cpu
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": (1, 2, 2), "dilation": (2, 1, 1)}])
def test_conv3d(options: Any, groups: int) -> None:
    leaves = rand(1, 2, 3, 3, 4), rand(2, 2 // groups, 2, 2, 1, seed=1), rand(2, seed=2)
    assert gradcheck(lambda x, w, b: F.conv3d(x, w, b, groups=groups, **options), leaves)
    assert gradgradcheck(lambda x, w, b: F.conv3d(x, w, b, groups=groups, **options), leaves)


@on_cpu
@pytest.mark.parametrize("options", [{}, {"stride": 2, "output_padding": (1, 0, 1)}, {"dilation": 2, "output_padding": 1}])
def test_conv_transpose3d(options: Any) -> None:
    leaves = rand(1, 2, 2, 2, 3), rand(2, 1, 2, 1, 2, seed=1), rand(1, seed=2)
    assert gradcheck(lambda x, w, b: F.conv_transpose3d(x, w, b, **options), leaves)
    assert gradgradcheck(lambda x, w, b: F.conv_transpose3d(x, w, b, **options), leaves)


def test_a_changed_weight_is_seen() -> None:
    """Weights are kept ready while no gradients are recorded."""
    for groups in (1, 4):
        x, w, b = rand(2, 4, 3, 3, 3).detach(), rand(4, 4 // groups, 2, 2, 2).detach(), rand(4, seed=1).detach()
        first = F.conv3d(x, w, b, groups=groups)
        assert torch.equal(first, F.conv3d(x, w, b, groups=groups))
        w.mul_(2)
        b.mul_(2)
        assert torch.allclose(F.conv3d(x, w, b, groups=groups), first * 2)


def test_gradients_of_channels_last() -> None:
    """The same values whatever the memory order of input, weight and gradient."""
    results = []
    for order in (torch.contiguous_format, LAST):
        x, w = rand(2, 4, 3, 4, 5), rand(6, 4, 2, 3, 2, seed=1)
        y = F.conv3d(x.contiguous(memory_format=order), w.contiguous(memory_format=order), padding=(0, 1, 1))
        assert y.is_contiguous(memory_format=order)
        dy = rand(*y.shape, seed=2).detach().contiguous(memory_format=order)
        results.append([y.detach(), *torch.autograd.grad(y, (x, w), dy)])
        ours = torch.nn.Conv3d(4, 6, 3).to(memory_format=order)
        ours(x.detach().float()).sum().backward()
        assert ours.weight.grad.is_contiguous(memory_format=order)
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b)


def test_two_runs_are_equal() -> None:
    x, w = rand(2, 8, 6, 9, 9), rand(8, 8, 3, 3, 3, seed=1)
    runs = []
    for _ in range(2):
        y = F.conv3d(x, w, padding=1)
        runs.append([y.detach(), *torch.autograd.grad(y.square().sum(), (x, w))])
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)


def test_autocast(device: str) -> None:
    m = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.ConvTranspose3d(4, 2, 2, stride=2))
    x = torch.ones(1, 2, 3, 4, 4)
    with torch.autocast(device, dtype=torch.bfloat16):
        y = m(x)
    assert y.dtype == torch.bfloat16 and y.shape == (1, 2, 6, 8, 8)
    y.float().sum().backward()
    assert m[0].weight.grad.dtype == torch.float32


def test_a_video_block_trains() -> None:
    """Convolution, norm and activation in channels-last: the step lowers the loss."""
    torch.manual_seed(0)
    m = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3, padding=1, bias=False), torch.nn.BatchNorm3d(4), torch.nn.ReLU(),
                            torch.nn.Conv3d(4, 3, (3, 1, 1), stride=(2, 1, 1))).to(memory_format=LAST)
    x, optimizer = rand(2, 2, 5, 4, 4).detach().float(), torch.optim.SGD(m.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = m(x.contiguous(memory_format=LAST)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert all(p.is_contiguous(memory_format=LAST) for p in m.parameters() if p.ndim == 5)
