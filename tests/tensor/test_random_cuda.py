"""Random tensors on cuda: generators and their states, factories, samplers, dropout that draws its mask again."""
from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import tritium
from tritium.nn import functional as F
from tritium.tensor import random, random_cuda

pytestmark = pytest.mark.cuda_only


def rand(n, **options):
    return tritium.rand(n, device="cuda", **options).tolist()


# --- generators ---------------------------------------------------------------------------------

def test_manual_seed_seeds_both_kinds_of_device():
    assert tritium.manual_seed(5) is tritium.default_generator
    cpu, cuda = tritium.rand(3, device="cpu").tolist(), rand(3)
    tritium.manual_seed(5)
    assert cuda == rand(3) and cpu == tritium.rand(3, device="cpu").tolist() and cpu != cuda
    assert random_cuda.initial_seed() == 5
    random_cuda.manual_seed(6)
    assert tritium.initial_seed() == 5 and random_cuda.initial_seed() == 6
    other = rand(3)
    random_cuda.manual_seed_all(6)
    assert rand(3) == other != cuda
    random_cuda.manual_seed(-1)
    assert random_cuda.initial_seed() == 2**64 - 1 and len(set(rand(4))) == 4
    random_cuda.seed()
    random_cuda.seed_all()
    assert random_cuda.initial_seed() != 2**64 - 1


def test_state_is_seed_and_offset():
    g = tritium.Generator("cuda")
    assert str(g.device) == "cuda:0" and g.initial_seed() == 67280421310721 and g.get_offset() == 0
    assert g.manual_seed(2**63 + 5) is g
    rand(3, generator=g)
    assert g.get_offset() == 4
    state = g.get_state()
    assert state.dtype is tritium.uint8 and state.shape == (16,) and str(state.device) == "cpu"
    assert np.frombuffer(state.numpy().tobytes(), np.uint64).tolist() == [2**63 + 5, 4]
    expected = tritium.randn(5, generator=g, device="cuda").tolist()
    copies = [tritium.Generator("cuda").set_state(state)]
    copies += [copies[0].clone_state(), copy.deepcopy(copies[0]), pickle.loads(pickle.dumps(copies[0]))]
    for other in copies:
        assert tritium.randn(5, generator=other, device="cuda").tolist() == expected
        assert other.initial_seed() == 2**63 + 5
    g.set_offset(4)
    assert tritium.randn(5, generator=g, device="cuda").tolist() == expected
    g.set_state(state[:8].clone())
    assert g.get_offset() == 0
    g.seed()
    assert g.get_offset() == 0


def test_bad_states_and_offsets():
    g = tritium.Generator("cuda")
    with pytest.raises(RuntimeError, match="RNG state is wrong size"):
        g.set_state(tritium.zeros(5, dtype=tritium.uint8, device="cpu"))
    with pytest.raises(TypeError, match="RNG state must be a"):
        g.set_state(tritium.zeros(16, dtype=tritium.uint8, device="cuda"))
    for offset in (3, -4, 1 << 64):
        with pytest.raises(RuntimeError, match="offset must be a multiple of 4"):
            g.set_offset(offset)
    with pytest.raises(RuntimeError, match="device ordinal"):
        tritium.Generator("cuda:99")


def test_a_generator_belongs_to_a_kind_of_device():
    x = tritium.zeros(3, device="cuda")
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        x.normal_(generator=tritium.Generator("cpu"))
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
        tritium.rand(3, device="cpu", generator=tritium.Generator("cuda"))


def test_states_of_the_default_generators():
    tritium.manual_seed(1)
    rand(4)
    state, states = random_cuda.get_rng_state(), random_cuda.get_rng_state_all()
    x = rand(4)
    random_cuda.set_rng_state(state)
    assert rand(4) == x
    random_cuda.set_rng_state_all(states)
    assert rand(4) == x
    random_cuda.set_rng_state(state, 0)
    with random.fork_rng():
        assert rand(4) == x
        tritium.manual_seed(9)
    assert rand(4) == x
    random_cuda.set_rng_state(state, "cuda:0")
    with random.fork_rng(devices=[0]):
        assert rand(4) == x
    with random.fork_rng(devices=[]):
        assert rand(4) == x
    assert rand(4) != x
    with pytest.raises(RuntimeError, match="Expected a cuda device"):
        random_cuda.get_rng_state("cpu")


def test_a_seed_waits_for_the_first_use_of_a_device(monkeypatch):
    tritium.manual_seed(7)
    x = rand(3)
    monkeypatch.setattr(random, "_cuda", random._Defaults())
    tritium.manual_seed(7)
    assert not random._cuda.made and rand(3) == x
    monkeypatch.setattr(random, "_cuda", random._Defaults())
    assert rand(3) != rand(3) != x


# --- tensors ------------------------------------------------------------------------------------

def test_factories():
    tritium.manual_seed(0)
    for make in (tritium.rand, tritium.randn):
        for dtype in (tritium.float16, tritium.bfloat16, tritium.float32, tritium.float64):
            x = make(3, 50, dtype=dtype, device="cuda")
            assert x.is_cuda and x.dtype is dtype and x.shape == (3, 50) and len(set(x.cpu().flatten().tolist())) > 50
    assert tritium.rand(2, device="cuda", requires_grad=True).requires_grad
    i = tritium.randint(-3, 4, (500,), device="cuda")
    assert i.dtype is tritium.int64 and sorted(set(i.tolist())) == [-3, -2, -1, 0, 1, 2, 3]
    p = tritium.randperm(50, device="cuda")
    assert p.is_cuda and p.dtype is tritium.int64 and sorted(p.tolist()) == list(range(50))
    assert sorted(tritium.randperm(9, device="cuda", dtype=tritium.int32).tolist()) == list(range(9))
    like = tritium.zeros(3, 4, device="cuda").t()
    for make in (tritium.rand_like, tritium.randn_like, lambda x: tritium.randint_like(x, 5)):
        x = make(like)
        assert x.is_cuda and x.stride() == (1, 4)
    out = tritium.zeros(4, device="cuda")
    assert tritium.rand(4, out=out) is out and out.tolist() != [0] * 4


def test_samplers_in_place():
    tritium.manual_seed(1)
    x = tritium.zeros(200, device="cuda")
    before = x._version
    assert x.uniform_(2, 3) is x and x._version == before + 1 and 2 <= min(x.tolist()) <= max(x.tolist()) < 3
    assert min(x.exponential_(0.5).tolist()) > 0 and min(x.geometric_(0.3).tolist()) == 1
    assert min(x.log_normal_().tolist()) > 0 and x.cauchy_() is x and abs(np.mean(x.normal_(5, 0.1).tolist()) - 5) < 0.1
    assert set(x.bernoulli_(0.5).tolist()) == {0, 1}
    assert sorted(set(x.random_(3).tolist())) == [0, 1, 2] and x.random_(5, 6).tolist() == [5] * 200
    assert min(tritium.zeros(99, dtype=tritium.int64, device="cuda").random_().tolist()) >= 0
    p = tritium.tensor([0.0, 1.0], device="cuda")
    assert tritium.zeros(3, 2, device="cuda").bernoulli_(p).tolist() == [[0, 1]] * 3
    assert tritium.zeros(2, device="cuda").bernoulli_(tritium.tensor(1.0, device="cpu")).tolist() == [1, 1]
    assert tritium.bernoulli(p).tolist() == [0, 1]
    z = tritium.zeros(50, dtype=tritium.complex64, device="cuda").normal_().cpu()
    assert abs(z.numpy().std() - 1) < 0.4
    tritium.manual_seed(2)
    flat = tritium.rand(12, device="cuda").cpu()
    tritium.manual_seed(2)
    assert tritium.zeros(4, 3, device="cuda").t().uniform_().cpu().flatten().tolist() == flat.tolist()


def test_a_sample_takes_the_gradient_away():
    a = tritium.ones(3, device="cuda", requires_grad=True)
    b = a * 3
    b.uniform_()
    b.backward(tritium.ones(3, device="cuda"))
    assert a.grad.tolist() == [0, 0, 0]


def test_draws_from_parameters():
    tritium.manual_seed(3)
    mean, std = tritium.tensor([0.0, 100.0], device="cuda"), tritium.tensor([0.0, 1.0], device="cuda")
    x = tritium.normal(mean, std).tolist()
    assert x[0] == 0 and 90 < x[1] < 110
    assert tritium.normal(mean, 0.0).tolist() == [0, 100] and tritium.normal(7.0, std).tolist()[0] == 7
    assert tritium.normal(0.0, 1.0, (3,), device="cuda").is_cuda
    with pytest.raises(RuntimeError, match="all elements of std >= 0"):
        tritium.normal(mean, -std)
    w = tritium.tensor([0.0, 1.0, 0.0, 3.0], device="cuda")
    draws = tritium.multinomial(w, 100, True)
    assert draws.is_cuda and draws.dtype is tritium.int64 and set(draws.tolist()) == {1, 3}
    assert sorted(tritium.multinomial(w, 2).tolist()) == [1, 3]
    assert tritium.multinomial(w.expand(3, 4), 1).shape == (3, 1)
    for bad, replacement, text in ((-w, False, "either `inf`, `nan` or element < 0"), (w / 0, False, "either `inf`"),
                                   (-w, True, "probability entry < 0"), (w + math.inf, True, "= infinity or NaN"),
                                   (w * 0, True, "sum of probabilities <= 0")):
        with pytest.raises(RuntimeError, match=text):
            tritium.multinomial(bad, 2, replacement)


# --- dropout ------------------------------------------------------------------------------------

def drawn(shape=(20, 30)):
    return tritium.randn(*shape, device="cuda").requires_grad_()


def test_dropout_and_its_derivative():
    tritium.manual_seed(4)
    x = drawn()
    y = F.dropout(x, 0.3)
    assert type(y.grad_fn).__name__ == "NativeDropoutBackward0" and y.grad_fn.saved == ()
    g = tritium.randn(20, 30, device="cuda").t().contiguous().t().requires_grad_()
    (dx,) = tritium.autograd.grad(y, x, g, create_graph=True)
    kept = y.detach().cpu().numpy() != 0
    assert abs(kept.mean() - 0.7) < 0.08
    scale = np.float32(1 / 0.7)
    assert (y.detach().cpu().numpy() == x.detach().cpu().numpy() * scale * kept).all()
    assert (dx.detach().cpu().numpy() == g.detach().cpu().numpy() * scale * kept).all()
    h = tritium.randn(20, 30, device="cuda")
    (dg,) = tritium.autograd.grad(dx, g, h)
    assert (dg.cpu().numpy() == h.cpu().numpy() * scale * kept).all()


def test_dropout_repeats_and_moves_on():
    tritium.manual_seed(5)
    x = tritium.ones(100, device="cuda")
    first, second = F.dropout(x).tolist(), F.dropout(x).tolist()
    tritium.manual_seed(5)
    assert F.dropout(x).tolist() == first != second and set(first) == {0, 2}
    assert F.dropout(x, 0.0) is x and F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 1.0).tolist() == [0] * 100
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.dropout(x, 1.5)
    for dtype in (tritium.float16, tritium.bfloat16, tritium.float64):
        assert set(F.dropout(x.to(dtype), 0.5).tolist()) == {0, 2}


def test_dropout_in_place():
    tritium.manual_seed(6)
    x = tritium.ones(40, device="cuda", requires_grad=True)
    y = x * 1
    before = y._version
    assert F.dropout(y, 0.5, inplace=True) is y and y._version == before + 1 and set(y.tolist()) == {0, 2}
    y.backward(tritium.ones(40, device="cuda"))
    assert x.grad.tolist() == y.tolist()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        F.dropout(x, 0.5, inplace=True)
    wide = tritium.ones(6, 8, device="cuda")
    F.dropout(wide[:, ::2], 0.5, inplace=True)
    assert set(wide[:, ::2].cpu().flatten().tolist()) == {0, 2} and set(wide[:, 1::2].cpu().flatten().tolist()) == {1}


def test_alpha_dropout():
    tritium.manual_seed(7)
    x = drawn((60, 50))
    y = F.alpha_dropout(x, 0.4, training=True)
    value = y.detach().cpu().numpy()
    assert abs(value.mean()) < 0.1 and abs(value.std() - 1) < 0.1
    values, counts = np.unique(value, return_counts=True)
    kept = value != values[counts.argmax()]
    assert abs(kept.mean() - 0.6) < 0.05
    y.backward(tritium.ones(60, 50, device="cuda"))
    assert ((x.grad.cpu().numpy() != 0) == kept).all()
    assert F.alpha_dropout(x, 0.4) is x


def test_dropout_of_channels():
    tritium.manual_seed(8)
    x = tritium.ones(4, 16, 3, 3, device="cuda", requires_grad=True)
    y = F.dropout2d(x, 0.5)
    value = y.detach().cpu().numpy()
    assert (value == value[:, :, :1, :1]).all() and set(value.ravel().tolist()) == {0, 2}
    y.backward(tritium.ones(4, 16, 3, 3, device="cuda"))
    assert (x.grad.cpu().numpy() == value).all()
    value = F.feature_alpha_dropout(x, 0.5, training=True).detach().cpu().numpy()
    assert (value == value[:, :, :1, :1]).all() and len(set(value.ravel().tolist())) == 2


def test_checkpointed_dropout_draws_the_same_mask():
    from tritium.autograd.checkpoint import checkpoint

    tritium.manual_seed(9)
    x = drawn()
    y = checkpoint(lambda t: F.dropout(t, 0.5), x)
    after = rand(3)
    y.backward(tritium.ones(20, 30, device="cuda"))
    kept = y.detach().cpu().numpy() != 0
    assert ((x.grad.cpu().numpy() != 0) == kept).all() and rand(3) != after
