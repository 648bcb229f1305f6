"""Attention of tensors: derivatives of two orders by finite differences, dropout that is replayed, what falls back."""
from __future__ import annotations

import numpy as np
import pytest

import tritium
from tritium.autograd import gradcheck, gradgradcheck
from tritium.nn.attention import SDPBackend, sdpa_kernel
from tritium.nn.functional import scaled_dot_product_attention as attention


def leaf(*shape: int, seed: int = 0) -> tritium.Tensor:
    return tritium.from_numpy(np.random.default_rng((seed, *shape)).standard_normal(shape)).requires_grad_()


def checked(function, *inputs) -> None:
    assert gradcheck(function, inputs)
    if not inputs[0].is_cuda:  # hundreds of launches: on the device smaller ones do (``test_second_derivatives``)
        assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("causal", [False, True])
def test_derivatives(causal):
    checked(lambda q, k, v: attention(q, k, v, is_causal=causal, scale=0.6), leaf(2, 2, 2), leaf(2, 3, 2, seed=1),
            leaf(2, 3, 1, seed=2))


def test_derivatives_with_a_mask():
    mask = tritium.tensor([[True, False, True], [False, False, False]])
    checked(lambda q, k, v: attention(q, k, v, mask), leaf(1, 2, 2), leaf(1, 3, 2, seed=1), leaf(1, 3, 2, seed=2))
    checked(attention, leaf(2, 2, 1), leaf(2, 3, 1, seed=1), leaf(2, 3, 1, seed=2), leaf(2, 3, seed=3))
    checked(attention, leaf(2, 1, 2, 1), leaf(2, 1, 2, 1, seed=1), leaf(2, 1, 2, 1, seed=2), leaf(2, 1, 1, 2, seed=3))


def test_derivatives_of_groups():
    checked(lambda q, k, v: attention(q, k, v, enable_gqa=True), leaf(4, 2, 1), leaf(2, 2, 1, seed=1),
            leaf(2, 2, 1, seed=2))


def seeded(q, k, v, m):
    tritium.manual_seed(5)
    return attention(q, k, v, m, 0.4)


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_derivatives_with_dropout(backend):
    with sdpa_kernel(backend):
        checked(seeded, leaf(2, 2, 1), leaf(2, 3, 1, seed=1), leaf(2, 3, 1, seed=2), leaf(2, 3, seed=3))


def test_second_derivatives():
    inputs = leaf(1, 2, 1), leaf(1, 2, 1, seed=1), leaf(1, 2, 1, seed=2)
    assert gradgradcheck(lambda q, k, v: attention(q, k, v, is_causal=True), inputs)
    mask = leaf(2, 2, seed=3)
    assert gradgradcheck(lambda v, m: seeded(*inputs[:2], v, m), (inputs[2], mask))


def test_dropout_is_the_same_in_all_that_follows():
    """With v = 1 the output is the sum of the weights that stay, and dv of a row of ones is what each weight gave."""
    tritium.manual_seed(0)
    q, k = leaf(2, 2, 5, 4), leaf(2, 2, 6, 4, seed=1)
    v = tritium.eye(6, dtype=tritium.float64).expand(2, 2, 6, 6).clone().requires_grad_()
    out = attention(q, k, v, dropout_p=0.5)  # the weights themselves
    weights = (q @ k.mT / 2).softmax(-1)
    ratio = (out / weights).detach().cpu().numpy()
    assert np.allclose(ratio[ratio > 1e-9], 2) and 0.2 < (ratio > 1).mean() < 0.8
    dy = tritium.ones_like(out)
    dv, = tritium.autograd.grad(out, v, dy, retain_graph=True)
    np.testing.assert_allclose(dv.cpu().numpy(), out.detach().mT.sum(-1, keepdim=True).expand_as(dv).cpu().numpy(),
                               1e-12)
    dv, = tritium.autograd.grad(out, v, dy, create_graph=True)
    np.testing.assert_allclose(dv.detach().cpu().numpy(),
                               out.detach().mT.sum(-1, keepdim=True).expand_as(dv).cpu().numpy(), 1e-12)


def test_seeds():
    x = leaf(1, 2, 6, 4)
    found = []
    for seed in (1, 1, 2):
        tritium.manual_seed(seed)
        found.append(attention(x, x, x, dropout_p=0.5).detach())
    assert found[0].equal(found[1]) and not found[0].equal(found[2])


def test_large_heads():
    """Heads beyond what the fused op of a device takes."""
    q, k, v = leaf(1, 3, 260), leaf(1, 4, 260, seed=1), leaf(1, 4, 3, seed=2)
    with sdpa_kernel(SDPBackend.MATH):
        expected = attention(q, k, v)
    assert tritium.allclose(attention(q, k, v), expected)


def test_math_and_fused_agree(device):
    q, k, v, m = leaf(2, 3, 5, 4), leaf(2, 3, 6, 4, seed=1), leaf(2, 3, 6, 4, seed=2), leaf(5, 6, seed=3)
    results = []
    for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel([backend]):
            out = attention(q, k, v, m, scale=-0.7)
        results.append((out, *tritium.autograd.grad(out.square().sum(), (q, k, v, m))))
    assert all(tritium.allclose(a, b) for a, b in zip(*results, strict=True))
    if device == "cuda":
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
            assert attention(q, k, v).requires_grad
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(RuntimeError, match="No available kernel"):
            attention(leaf(1, 3, 260), leaf(1, 3, 260), leaf(1, 3, 260))


def test_two_runs_give_the_same_bits():
    x = tritium.randn(2, 4, 33, 16)
    runs = []
    for _ in range(2):
        y = x.clone().requires_grad_()
        out = attention(y, y, y, is_causal=True)
        out.square().sum().backward()
        runs.append((out.detach(), y.grad))
    assert all(a.equal(b) for a, b in zip(*runs, strict=True))


def test_a_change_of_what_backward_needs_is_seen():
    x = leaf(2, 3, 4).clone()
    out = attention(x, x, x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_autocast(device):
    x = tritium.randn(2, 3, 8)
    with tritium.autocast(device, dtype=tritium.bfloat16):
        assert attention(x, x, x).dtype is tritium.bfloat16
    assert attention(x, x, x).dtype is tritium.float32
