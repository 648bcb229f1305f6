"""Random numbers: after the same seed, the bits of PyTorch's CPU generator."""
import numpy as np
import pytest

import tritium
from tritium.tensor.graph import wrap

pytestmark = pytest.mark.cpu_only(reason="PyTorch's CPU numbers")

torch = pytest.importorskip("torch")


def _words_drawn(fill):
    torch.manual_seed(3)
    fill(torch.empty(10))
    return torch.get_rng_state().numpy()[16:24].view(np.int64)[0]


# Some builds of PyTorch on some processors take these two from MKL's own generator instead.
PLAIN = _words_drawn(lambda x: x.bernoulli_(0.3)) == 20 and _words_drawn(lambda x: x.exponential_()) == 20
needs_plain = pytest.mark.skipif(not PLAIN, reason="this PyTorch draws bernoulli or exponential numbers from MKL")
AVX = "AVX" in torch.backends.cpu.get_cpu_capability()  # else PyTorch's float32 normals have other last bits

SIZES = [*range(36), 47, 48, 63, 64, 65, 70, 1000]
FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8"]


def bits(t):
    if isinstance(t, torch.Tensor):
        return t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
    return np.ascontiguousarray(t.detach().numpy()).tobytes()


def assert_bits(ours, theirs, what=""):
    assert tuple(ours.shape) == tuple(theirs.shape), what
    assert str(ours.dtype).replace("tritium", "torch") == str(theirs.dtype), what
    assert bits(ours) == bits(theirs), what


def seed(value):
    torch.manual_seed(value)
    tritium.manual_seed(value)


def compare(draw, what="", value=11):
    seed(value)
    for _ in range(2):
        assert_bits(draw(tritium), draw(torch), what)
    assert tritium.get_rng_state().numpy().tobytes() == torch.get_rng_state().numpy().tobytes(), what


SAMPLERS = [
    ("uniform_", (), FLOATS), ("uniform_", (-0.3, 1.1), FLOATS), ("uniform_", (1000, 1001), FLOATS),
    ("normal_", (), FLOATS), ("normal_", (0.3, 0.7), FLOATS), ("log_normal_", (0.3, 0.7), FLOATS),
    ("cauchy_", (0.3, 0.7), FLOATS), ("geometric_", (0.3,), FLOATS + INTEGERS),
    ("random_", (), [*FLOATS, *INTEGERS, "bool"]), ("random_", (100,), FLOATS + INTEGERS),
    ("random_", (3, 101), FLOATS + INTEGERS), ("random_", (0, 2**28 - 1), ["int64", "int32"]),
    ("random_", (-5, 2**28), ["int64", "int32"]), ("random_", (-(2**62), 2**62), ["int64"]),
    ("random_", (-(2**63), None), ["int64"]),
]
MKL_SAMPLERS = [("bernoulli_", (0.3,), [*FLOATS, *INTEGERS, "bool"]), ("exponential_", (0.7,), FLOATS)]


def check_sampler(name, args, dtype):
    for n in SIZES:
        if not AVX and name == "normal_" and dtype != "float64" and n >= 16:
            continue
        compare(lambda m: getattr(m.empty(n, dtype=getattr(m, dtype)), name)(*args), (name, args, dtype, n), n)  # noqa: B023


@pytest.mark.parametrize("name, args, dtype", [(n, a, d) for n, a, ds in SAMPLERS for d in ds])
def test_samplers(name, args, dtype):
    check_sampler(name, args, dtype)


@needs_plain
@pytest.mark.parametrize("name, args, dtype", [(n, a, d) for n, a, ds in MKL_SAMPLERS for d in ds])
def test_samplers_that_may_be_mkl(name, args, dtype):
    check_sampler(name, args, dtype)


@pytest.mark.skipif(not AVX, reason="PyTorch without its vectorised normals")
@pytest.mark.parametrize("name, dtype", [("rand", "float32"), ("randn", "float32"), ("rand", "float64"),
                                         ("randn", "bfloat16"), ("rand", "float16")])
def test_large_tensors(name, dtype):
    compare(lambda m: getattr(m, name)(100_003, dtype=getattr(m, dtype)))


def test_large_double_normals_agree_but_for_the_last_bit():
    seed(1)
    ours, theirs = tritium.randn(100_003, dtype=tritium.float64), torch.randn(100_003, dtype=torch.float64)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("value", [0, 1, 42, 2**31, 2**32 + 7, 2**64 - 1, -1, -(2**63)])
def test_seeds(value):
    compare(lambda m: m.rand(5), value=value)
    seed(value)
    assert tritium.initial_seed() == torch.initial_seed()


def test_mixed_calls_share_one_stream():
    steps = [lambda m: m.randn(3), lambda m: m.randn(2), lambda m: m.rand(7), lambda m: m.randn(20),
             lambda m: m.randn(1), lambda m: m.randint(0, 10, (5,)), lambda m: m.randperm(9),
             lambda m: m.empty(4, dtype=m.float64).normal_(), lambda m: m.randn(5, dtype=m.float16),
             lambda m: m.multinomial(m.arange(8.0), 4, True), lambda m: m.bernoulli(m.full((6,), 0.4)),
             lambda m: m.empty(3).log_normal_(), lambda m: m.randint(2**40, (3,)), lambda m: m.randn(5, 5)]
    rng = np.random.default_rng(0)
    for round_ in range(20):
        seed(round_)
        for i in rng.integers(0, len(steps), 40):
            assert_bits(steps[i](tritium), steps[i](torch), (round_, i))
        assert tritium.get_rng_state().numpy().tobytes() == torch.get_rng_state().numpy().tobytes()


def test_states_can_be_exchanged():
    ours, theirs = tritium.Generator(), torch.Generator()
    theirs.manual_seed(9)
    torch.randn(7, generator=theirs)
    ours.set_state(wrap(theirs.get_state().numpy()))
    assert_bits(tritium.randn(3, generator=ours), torch.randn(3, generator=theirs))
    theirs.set_state(torch.from_numpy(ours.get_state().numpy()))
    assert_bits(tritium.randn(3, generator=ours), torch.randn(3, generator=theirs))


STRIDED = [
    "torch.empty(3, 4).t().uniform_()", "torch.empty(3, 4).t().normal_()", "torch.empty(6, 8).t().normal_()",
    "torch.zeros(6, 8)[:, ::2].normal_()", "torch.empty(4, 5, 6).permute(2, 0, 1).uniform_(3, 4)",
    "torch.rand_like(torch.empty(4, 5).t())", "torch.randn_like(torch.empty(4, 5).t())",
    "torch.empty(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).uniform_()",
    "torch.empty(4, 5, dtype=torch.complex64).t().normal_(3., 2.)", "torch.randn(20, dtype=torch.complex128)",
    "torch.empty(4, 5, dtype=torch.complex64)[:, ::2].uniform_(3., 5.)", "torch.empty(3, 4).t().random_(0, 9)",
    "torch.empty(4, 3).t().bernoulli_(torch.arange(12.).reshape(3, 4) / 12)",
    "torch.bernoulli((torch.arange(12.).reshape(3, 4) / 12).t())", "torch.randint_like(torch.rand(4, 5).t(), 2, 50)",
    "torch.multinomial(torch.rand(4, 7).t(), 3)", "torch.multinomial(torch.rand(4, 7).t(), 3, True)",
]
FUNCTIONS = [
    "torch.normal(torch.arange(20.), torch.arange(20.) / 9)", "torch.normal(torch.arange(20.), .3)",
    "torch.normal(2.5, torch.arange(20.) / 9)", "torch.normal(torch.arange(3.).reshape(3, 1), torch.arange(20.))",
    "torch.normal(torch.arange(20.).double(), torch.arange(20.))", "torch.normal(1., 2., (3, 4))",
    "torch.normal(torch.ones(3, requires_grad=True), 1.)", "torch.randint(-10, 10, (5,), dtype=torch.int8)",
    "torch.normal(torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True))",
    "torch.rand(3, out=torch.empty(3, dtype=torch.float64))", "torch.randn(3, 4, requires_grad=True)",
    "torch.bernoulli(torch.full((9,), .5, dtype=torch.float64))", "torch.randperm(70, dtype=torch.int32)",
    "torch.randperm(1000)", "torch.multinomial(torch.arange(50.), 20)",
    "torch.multinomial(torch.arange(50.), 20, True)",
    "torch.multinomial(torch.arange(50.).double(), 1)", "torch.bernoulli(torch.full((9,), .5, requires_grad=True))",
    "(torch.ones(3, requires_grad=True) * 2).uniform_()", "(torch.ones(3, requires_grad=True) * 2).bernoulli_(.5)",
    "(torch.ones(3, requires_grad=True) * 2).bernoulli_(torch.rand(3))",
    "torch.empty(9, dtype=torch.half).random_(0, 3000)",
    "(torch.ones(3, requires_grad=True) * 2).random_()", "(torch.ones(3, requires_grad=True) * 2).random_(3)",
    "(torch.ones(3, requires_grad=True) * 2).random_(0, 3)", "(torch.ones(3, requires_grad=True) * 2).normal_()",
]


@needs_plain
@pytest.mark.parametrize("code", STRIDED + FUNCTIONS)
def test_functions(same, code):
    same(code, setup="torch.manual_seed(7)", tolerance=0)


DROPOUT = [
    "F.dropout(torch.arange(200.) / 9, .3)", "F.dropout(torch.arange(200.).reshape(10, 20).t() / 9, .3)",
    "F.dropout(torch.arange(200.).half(), .3)", "F.dropout(torch.arange(200.).bfloat16() / 9, .3)",
    "F.dropout(torch.arange(200.).double() / 9, .3)", "F.dropout(torch.ones(50, requires_grad=True), .5)",
    "F.dropout(torch.arange(96.).reshape(2, 3, 4, 4).contiguous(memory_format=torch.channels_last), .1)",
    "F.dropout(torch.ones(50, requires_grad=True) * 2, .5, inplace=True)", "F.dropout(torch.ones(5), 1.)",
    "F.dropout(torch.ones(5), 0.)", "F.dropout(torch.ones(0), .5)", "F.dropout(torch.ones(5), 1.5)",
    "F.dropout(torch.ones(5, dtype=torch.int64), .5)", "F.dropout1d(torch.ones(5, 3))", "F.dropout1d(torch.ones(3))",
    "F.dropout2d(torch.ones(4, 5, 3, 3))", "F.dropout2d(torch.ones(4, 5, 3))", "F.dropout3d(torch.ones(4, 5, 3, 3, 2))",
    "F.dropout3d(torch.ones(5, 3, 3, 2), .3, True, True)", "F.alpha_dropout(torch.arange(200.) / 9, .3, True)",
    "F.alpha_dropout(torch.ones(50, requires_grad=True), .3, True)", "torch.dropout(torch.ones(50), .5, True)",
    "F.feature_alpha_dropout(torch.ones(4, 5, 3, 3), .3, True)", "torch.feature_dropout(torch.ones(3), .5, True)",
    "x = torch.ones(50, requires_grad=True); F.dropout(x, .2).sum().backward(); x.grad",
]


@needs_plain
@pytest.mark.parametrize("code", DROPOUT)
def test_dropout(same, code):
    same(code, setup="import importlib\nF = importlib.import_module(torch.__name__ + '.nn.functional')\n"
                     "torch.manual_seed(7)", tolerance=1e-7)


@pytest.mark.skipif(not AVX, reason="PyTorch without its vectorised normals")
def test_initial_weights():
    makers = [lambda m: m.nn.Linear(37, 23), lambda m: m.nn.Conv2d(3, 8, 3),
              lambda m: m.nn.Conv2d(4, 8, (1, 5), groups=2, bias=False)]
    for make in makers:
        seed(0)
        for ours, theirs in zip(make(tritium).parameters(), make(torch).parameters(), strict=True):
            assert_bits(ours, theirs)
    for name in ("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_", "trunc_normal_"):
        compare(lambda m: getattr(m.nn.init, name)(m.empty(64, 9, 3, 3)), name)  # noqa: B023


ERRORS = [
    "torch.empty(3).uniform_(2, 1)", "torch.empty(3).uniform_(float('nan'), 1)", "torch.empty(3).uniform_(0, 1e39)",
    "torch.empty(3).uniform_(-3e38, 3e38)", "torch.empty(3, dtype=torch.half).uniform_(0, 1e6)",
    "torch.empty(3, dtype=torch.int64).uniform_()", "torch.empty(3, dtype=torch.int64).normal_()",
    "torch.empty(3).normal_(0, -1)", "torch.empty(3).exponential_(-1)",
    "torch.empty(3, dtype=torch.int64).exponential_()",
    "torch.empty(3).geometric_(0)", "torch.empty(3, dtype=torch.bool).geometric_(.5)", "torch.empty(3).cauchy_(0, -1)",
    "torch.empty(3, dtype=torch.int16).cauchy_()", "torch.empty(3).log_normal_(0, 0)", "torch.empty(3).bernoulli_(-.1)",
    "torch.empty(3, dtype=torch.int64).log_normal_()", "torch.empty(3).bernoulli_(torch.tensor([1, 0, 1]))",
    "torch.empty(3).bernoulli_(torch.tensor([1., 2., 0.]))", "torch.empty(3).bernoulli_(torch.tensor([1., .5]))",
    "torch.empty(3).random_(5, 3)", "torch.empty(3).random_(-1)", "torch.empty(3, dtype=torch.uint8).random_(-1, 25)",
    "torch.empty(3, dtype=torch.bool).random_(0, 3)", "torch.empty(3, dtype=torch.half).random_(0, 70000)",
    "torch.empty(3, dtype=torch.int32).random_(0, 2**31 + 1)", "torch.empty(3).random_(2**62, None)",
    "torch.randint(0, (3,))", "torch.randint(0, 5, (2,), requires_grad=True)", "torch.randint(0, 5, (2, -1))",
    "torch.randint(0, 2, (2,), dtype=torch.complex64)", "torch.rand(2, -1)", "torch.rand(2, dtype=torch.int64)",
    "torch.rand(2, out=torch.empty(2, dtype=torch.float64), dtype=torch.float32)", "torch.rand(2.5)", "torch.rand()",
    "torch.randint(0, 5)", "torch.randperm(-1)", "torch.randperm(257, dtype=torch.uint8)", "torch.randperm(2.5)",
    "torch.randperm(2050, dtype=torch.half)", "torch.randperm(5, dtype=torch.bool)", "torch.normal(0., 1.)",
    "torch.rand_like(torch.ones(3, dtype=torch.int64))", "torch.normal(torch.zeros(3), torch.ones(2))",
    "torch.normal(torch.zeros(3), -1.)", "torch.normal(0., torch.tensor([1., -1]))",
    "torch.multinomial(torch.ones(3), 0)",
    "torch.normal(torch.zeros(3, dtype=torch.int64), 1.)", "torch.multinomial(torch.ones(3), 4)",
    "torch.multinomial(torch.ones(3, dtype=torch.int64), 1)", "torch.multinomial(torch.ones(3, 2, 2), 1)",
    "torch.multinomial(torch.zeros(3), 1)", "torch.multinomial(torch.zeros(3), 2, True)",
    "torch.multinomial(torch.tensor([1., -1]), 1)", "torch.multinomial(torch.tensor([1., -1]), 2, True)",
    "torch.multinomial(torch.tensor([1., float('inf')]), 2, True)", "torch.multinomial(torch.ones(0), 1)",
    "torch.multinomial(torch.ones(3), 2, out=torch.empty(2))", "torch.manual_seed(2**64)", "torch.manual_seed('a')",
    "torch.Generator().manual_seed(1.5)", "torch.Generator().set_state(torch.zeros(3, dtype=torch.uint8))",
    "torch.Generator().set_state(torch.zeros(5056, dtype=torch.uint8))", "torch.Generator().get_offset()",
    "torch.Generator().set_state(torch.zeros(10112, dtype=torch.uint8)[::2])", "torch.rand(2, generator=3)",
    "torch.ones(3, requires_grad=True).uniform_()", "torch.empty(3, 1).expand(3, 4).uniform_()",
]


@pytest.mark.parametrize("code", ERRORS)
def test_errors(same, code):
    same(code)
