"""Random tensors: known numbers, the generator and its state, strides, gradients, errors."""
import copy
import math
import pickle
import threading

import numpy as np
import pytest

import tritium
from tritium.tensor import random
from tritium.tensor.ops import dropout as drops

pytestmark = pytest.mark.cpu_only(reason="PyTorch's CPU numbers")


def near(t, values):
    np.testing.assert_allclose(t.numpy(), values, atol=5e-5)


# --- known numbers: what every PyTorch tutorial prints after this seed ---------------------------

def test_numbers_after_seed_0():
    tritium.manual_seed(0)
    near(tritium.rand(4), [0.4963, 0.7682, 0.0885, 0.1320])
    tritium.manual_seed(0)
    near(tritium.randn(3), [1.5410, -0.2934, -2.1788])
    tritium.manual_seed(0)
    near(tritium.randn(20)[:4], [-1.1258, -1.1524, -0.2506, -0.4339])
    tritium.manual_seed(0)
    assert tritium.randperm(10).tolist() == [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]
    tritium.manual_seed(0)
    assert tritium.randint(0, 10, (5,)).tolist() == [4, 9, 3, 0, 3]


def test_second_normal_of_a_pair_waits_for_the_next_draw():
    tritium.manual_seed(0)
    whole = tritium.randn(4)
    tritium.manual_seed(0)
    first = tritium.randn(3)
    tritium.randn(16)  # blocks of 16 leave it alone
    tritium.rand(5)
    assert first.tolist() == whole[:3].tolist()
    assert tritium.randn(1).item() == whole[3].item()
    tritium.randn(1)
    tritium.manual_seed(0)  # a seed forgets it
    assert tritium.randn(1).item() == whole[0].item()


# --- generator ------------------------------------------------------------------------------

def test_seeds():
    assert tritium.manual_seed(5) is tritium.default_generator
    assert tritium.initial_seed() == 5
    tritium.manual_seed(-1)
    assert tritium.initial_seed() == 2**64 - 1
    tritium.manual_seed("7")
    assert tritium.initial_seed() == 7
    assert tritium.seed() == tritium.initial_seed()
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match="Overflow when unpacking long long"):
            tritium.manual_seed(seed)
    with pytest.raises(RuntimeError, match="manual_seed expected a long, but got float"):
        tritium.Generator().manual_seed(1.5)


def test_only_the_low_half_of_a_seed_counts():
    tritium.manual_seed(3)
    x = tritium.rand(3)
    tritium.manual_seed(3 + 2**32)
    assert x.tolist() == tritium.rand(3).tolist()


def test_state_goes_round():
    g = tritium.Generator().manual_seed(1)
    tritium.randn(3, generator=g)
    state = g.get_state()
    assert state.dtype is tritium.uint8 and state.shape == (5056,)
    expected = tritium.randn(5, generator=g).tolist()
    copies = [tritium.Generator().set_state(state)]
    copies += [copies[0].clone_state(), copy.deepcopy(copies[0]), pickle.loads(pickle.dumps(copies[0]))]
    for other in copies:
        assert tritium.randn(5, generator=other).tolist() == expected
        assert other.initial_seed() == 1
    assert str(g.device) == "cpu"


def test_bad_states_are_refused():
    g = tritium.Generator()
    with pytest.raises(TypeError, match="expected a tritium.ByteTensor, but got int"):
        g.set_state(3)
    with pytest.raises(TypeError, match="RNG state must be a"):
        g.set_state(tritium.zeros(3))
    with pytest.raises(RuntimeError, match="size 5056 but found the input RNG state size to be 3"):
        g.set_state(tritium.zeros(3, dtype=tritium.uint8))
    with pytest.raises(RuntimeError, match="Invalid mt19937 state"):
        g.set_state(tritium.zeros(5056, dtype=tritium.uint8))
    with pytest.raises(RuntimeError, match="CPU Generator does not use offset"):
        g.get_offset()
    with pytest.raises(TypeError, match="Generator"):
        tritium.rand(2, generator=3)


def test_fork_and_rng_state():
    tritium.manual_seed(2)
    with random.fork_rng():
        inside = tritium.rand(4).tolist()
    assert tritium.rand(4).tolist() == inside
    with random.fork_rng(enabled=False):
        tritium.rand(1)
    state = tritium.get_rng_state()
    x = tritium.rand(3).tolist()
    tritium.set_rng_state(state)
    assert tritium.rand(3).tolist() == x


def test_draws_of_threads_do_not_mix():
    g = tritium.Generator().manual_seed(0)
    blocks = []
    threads = [threading.Thread(target=lambda: blocks.append(tritium.rand(5000, generator=g).numpy()))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    g.manual_seed(0)
    expected = {tritium.rand(5000, generator=g).numpy().tobytes() for _ in range(8)}
    assert {block.tobytes() for block in blocks} == expected


# --- in place -------------------------------------------------------------------------------

def test_strided_tensors_are_filled_in_the_order_of_their_memory():
    tritium.manual_seed(3)
    flat = tritium.rand(12).numpy()
    tritium.manual_seed(3)
    assert (tritium.empty(3, 4).t().uniform_().t().numpy().ravel() == flat).all()
    tritium.manual_seed(3)
    wide = tritium.zeros(3, 8)
    wide[:, ::2].uniform_()
    assert (wide[:, ::2].numpy().ravel() == flat).all() and not wide[:, 1::2].any()
    tritium.manual_seed(3)
    x = tritium.rand_like(tritium.empty(3, 4).t())
    assert x.stride() == (1, 4) and (x.t().numpy().ravel() == flat).all()


def test_a_sampler_counts_as_a_change_in_place():
    x = tritium.ones(3)
    before = x._version
    assert x.normal_() is x and x._version == before + 1
    a = tritium.ones(3, requires_grad=True)
    b = a * 3
    b.uniform_()
    assert type(b.grad_fn).__name__ == "UniformBackward0"
    b.sum().backward()
    assert a.grad.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        a.uniform_()
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        tritium.zeros(1, 1).expand(3, 3).uniform_()


def test_a_sampled_part_of_a_tensor_gets_no_gradient():
    a = tritium.ones(4, requires_grad=True)
    b = a * 3
    b[:2].bernoulli_(0.5)
    b.sum().backward()
    assert a.grad.tolist() == [0, 0, 3, 3]


@pytest.mark.parametrize("call, error, text", [
    (lambda x: x.uniform_(2, 1), RuntimeError, r"expects to return a \[from, to\) range, but found from=2 > to=1"),
    (lambda x: x.uniform_(0, math.inf), RuntimeError, "to is out of bounds for float"),
    (lambda x: x.half().uniform_(0, 1e6), RuntimeError, "to is out of bounds for c10::Half"),
    (lambda x: x.long().uniform_(), NotImplementedError, "not implemented for 'Long'"),
    (lambda x: x.normal_(0, -1), RuntimeError, "normal expects std >= 0.0, but found std -1"),
    (lambda x: x.exponential_(0), RuntimeError, "exponential_ expects lambda > 0.0, but found lambda=0"),
    (lambda x: x.geometric_(1), RuntimeError, r"geometric_ expects p to be in \(0, 1\), but got p=1"),
    (lambda x: x.cauchy_(0, 0), RuntimeError, "cauchy_ expects sigma > 0.0"),
    (lambda x: x.log_normal_(0, 0), RuntimeError, "log_normal_ expects std > 0.0"),
    (lambda x: x.bernoulli_(1.5), RuntimeError, r"bernoulli_ expects p to be in \[0, 1\], but got p=1.5"),
    (lambda x: x.random_(3, 3), RuntimeError, "random_ expects 'from' to be less than 'to', but got from=3 >= to=3"),
    (lambda x: x.byte().random_(0, 257), RuntimeError, "to - 1 is out of bounds for unsigned char"),
    (lambda x: tritium.randint(0, 5, (2, -1)), RuntimeError, "negative dimension -1"),
    (lambda x: tritium.rand(2.5), TypeError, "must be tuple of ints, not float"),
    (lambda x: tritium.randint(0, 5), TypeError, "argument 'size'"),
    (lambda x: tritium.randint(0, 5, (2,), requires_grad=True), RuntimeError, "can require gradients"),
    (lambda x: tritium.randperm(300, dtype=tritium.uint8), RuntimeError, "uint8_t without overflow"),
    (lambda x: tritium.multinomial(x.abs() + 1, 4), RuntimeError, "without replacement"),
    (lambda x: tritium.multinomial(x * 0, 1), RuntimeError, "sum of probabilities <= 0"),
    (lambda x: tritium.bernoulli(x.long()), NotImplementedError, "bernoulli_tensor_cpu_p_"),
    (lambda x: drops.dropout(x, 1.5), ValueError, "between 0 and 1, but got 1.5"),
])
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(tritium.zeros(3))


# --- distributions --------------------------------------------------------------------------

@pytest.mark.parametrize("fill, mean, std", [
    (lambda x: x.uniform_(-1, 3), 1.0, 4 / math.sqrt(12)),
    (lambda x: x.normal_(2, 3), 2.0, 3.0),
    (lambda x: x.exponential_(2), 0.5, 0.5),
    (lambda x: x.geometric_(0.25), 4.0, math.sqrt(12)),
    (lambda x: x.bernoulli_(0.3), 0.3, math.sqrt(0.21)),
    (lambda x: x.random_(0, 10), 4.5, math.sqrt(99 / 12)),
    (lambda x: x.log_normal_(0, 0.5), math.exp(0.125), math.exp(0.125) * math.sqrt(math.exp(0.25) - 1)),
])
@pytest.mark.parametrize("dtype", [tritium.float32, tritium.float64, tritium.float16])
def test_moments(fill, mean, std, dtype):
    tritium.manual_seed(0)
    x = fill(tritium.empty(40_000, dtype=dtype)).numpy().astype(np.float64)
    assert abs(x.mean() - mean) < 5 * std / 200
    assert abs(x.std() - std) < 0.05 * std


def test_multinomial_draws_by_weight():
    tritium.manual_seed(0)
    weights = tritium.tensor([0.0, 1.0, 3.0])
    drawn = tritium.multinomial(weights, 4000, replacement=True)
    counts = np.bincount(drawn.numpy(), minlength=3)
    assert counts[0] == 0 and abs(counts[2] / 4000 - 0.75) < 0.03
    rows = tritium.multinomial(weights.expand(500, 3), 2)
    assert rows.shape == (500, 2) and set(rows.numpy().ravel()) == {1, 2}
    assert tritium.multinomial(weights, 1).shape == (1,)


def test_randperm_holds_every_number_once():
    for n in (0, 1, 2, 1000):
        assert sorted(tritium.randperm(n).tolist()) == list(range(n))


def test_factories_take_what_they_should():
    assert tritium.rand((2, 3)).shape == tritium.rand(2, 3).shape == tritium.rand(size=(2, 3)).shape == (2, 3)
    assert tritium.rand(()).shape == ()
    assert tritium.randn(2, requires_grad=True).is_leaf
    assert tritium.randint(5, (3,)).dtype is tritium.int64
    assert tritium.randint(low=2, high=5, size=(3,), dtype=tritium.float32).dtype is tritium.float32
    out = tritium.empty(7, dtype=tritium.float64)
    assert tritium.rand(2, 3, out=out) is out and out.shape == (2, 3)
    assert tritium.normal(0.0, tritium.ones(4)).shape == (4,)
    assert tritium.randn(3, dtype=tritium.complex64).dtype is tritium.complex64


# --- dropout --------------------------------------------------------------------------------

def test_dropout_and_its_gradient():
    x = tritium.ones(1000, requires_grad=True)
    y = drops.dropout(x, 0.2)
    kept = y.detach().numpy() != 0
    assert 0.75 < kept.mean() < 0.85
    np.testing.assert_allclose(y.detach().numpy()[kept], 1.25)
    assert type(y.grad_fn).__name__ == "MulBackward0"
    y.sum().backward()
    assert (x.grad.numpy() == y.detach().numpy()).all()
    assert drops.dropout(x, 0.2, training=False) is x
    assert not drops.dropout(x, 1.0).any()
    z = tritium.ones(10)
    assert drops.dropout(z, 0.5, inplace=True) is z


def test_feature_dropout_drops_whole_channels():
    y = drops.dropout2d(tritium.ones(8, 16, 3, 3)).numpy().reshape(128, 9)
    assert ((y == 0).all(1) | (y == 2).all(1)).all() and 0 < (y == 0).all(1).sum() < 128
    assert drops.dropout1d(tritium.ones(4, 5)).shape == (4, 5)
    assert drops.dropout3d(tritium.ones(4, 2, 2, 2)).shape == (4, 2, 2, 2)


def test_alpha_dropout_keeps_mean_and_variance():
    tritium.manual_seed(0)
    y = drops.alpha_dropout(tritium.randn(50_000), 0.3, True)
    assert abs(y.mean().item()) < 0.03 and abs(y.std().item() - 1) < 0.03
