"""Random numbers of a device: known words, a NumPy model bit by bit, independence of the grid, distributions."""
from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import triton.language as tl

from tritium.kernels.philox import Stream

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
FLOATS = (F16, BF16, F32, F64)
SEED = 0x123456789ABCDEF0


@pytest.fixture(scope="module")
def side():
    from tritium.kernels.triton import dropout, memory, random

    class Side:
        pass

    Side.random, Side.memory, Side.dropout = random, memory, dropout
    return Side


@pytest.fixture(params=["as shipped", "small blocks"])
def blocks(request, monkeypatch):
    """Also blocks of 64 elements: several programs, a ragged last one."""
    if request.param == "small blocks":
        from tritium.kernels.triton import dropout, random, random_choice

        monkeypatch.setattr(random, "block_size", lambda: 64)
        monkeypatch.setattr(dropout, "block_size", lambda: 64)
        monkeypatch.setattr(random_choice, "_block", lambda n, real: 64)
        monkeypatch.setattr(random_choice, "PART", 128)


# --- a model in NumPy ---------------------------------------------------------------------------

U64 = np.uint64
LOW = U64(0xFFFFFFFF)


def philox(c, k):
    c, k = [np.asarray(x, U64) for x in c], [U64(x) for x in k]
    for _ in range(10):
        p, q = c[0] * U64(0xD2511F53), c[2] * U64(0xCD9E8D57)
        c = [q >> U64(32) ^ c[1] ^ k[0], q & LOW, p >> U64(32) ^ c[3] ^ k[1], p & LOW]
        k = [k[0] + U64(0x9E3779B9) & LOW, k[1] + U64(0xBB67AE85) & LOW]
    return c


def words(seed, offset, n, wide=False):
    """The words of n elements from an offset on."""
    count = (2 * n if wide else n) + 3 >> 2
    b = U64(offset >> 2) + np.arange(count, dtype=U64)
    counter, key = [b & LOW, b >> U64(32), b * U64(0), b * U64(0)], [seed & 0xFFFFFFFF, seed >> 32]
    w = np.stack(philox(counter, key), 1).reshape(-1)
    return ((w[0::2] << U64(32)) | w[1::2])[:n] if wide else w[:n].astype(np.uint32)


class Model:
    """The arithmetic of kernels/triton/philox.py, each step rounded once."""

    def __init__(self, wide):
        self.wide = wide
        self.f = np.float64 if wide else np.float32

    def uniform(self, w):
        if self.wide:
            return (w >> U64(11)).astype(np.float64) * 2.0**-53
        return (w >> 8).astype(np.float32) * np.float32(2**-24)

    def exponential(self, w):
        f = self.f
        if self.wide:
            w = w >> U64(12)
            u = (w * U64(2) + U64(1)).astype(f) * f(2.0**-53)
            x = f(1) - u
            e = x.view(np.int64) - 0x3FE6A09E667F3BCD >> 52
            m = (x.view(np.int64) - (e << 52)).view(f)
            high, low = f(0.6931471805598903), f(5.497923018708371e-14)
        else:
            u, x = ((v.astype(f) + f(0.5)) * f(2.0**-32) for v in (w, ~w))
            e = x.view(np.int32) - np.int32(0x3F3504F3) >> 23
            m = (x.view(np.int32) - (e << 23)).view(f)
            high, low = f(0.693359375), f(-2.1219444005469057e-04)
        t = np.where(e == 0, -u, m - f(1))
        s = t / (t + f(2))
        z = s * s
        y = f(0)
        for d in range(19 if self.wide else 9, 1, -2):
            y = y * z + f(2 / d)
        y = y * z * s + (s + s)
        k = e.astype(f)
        return -(k * high + (k * low + y))

    def cos_sin(self, w):
        f = self.f
        if self.wide:
            q = w + U64(1 << 61) >> U64(62)
            a = ((w << U64(2)) + U64(2)).view(np.int64).astype(f) * f(math.pi * 2.0**-65)
            s, c = f(1 / math.factorial(17)), f(1 / math.factorial(16))
            first = 15
        else:
            q = w + np.uint32(1 << 29) >> np.uint32(30)
            a = ((w << np.uint32(2)) + np.uint32(2)).view(np.int32).astype(f) * f(math.pi * 2.0**-33)
            s, c = f(1 / math.factorial(9)), f(1 / math.factorial(8))
            first = 7
        z = a * a
        for d in range(first, 1, -2):
            s = s * z + f((-1) ** (d // 2) / math.factorial(d))
            c = c * z + f((-1) ** (d // 2) / math.factorial(d - 1))
        s, c = s * z * a + a, c * z + f(1)
        q = q.astype(int)
        return np.choose(q, [c, -s, -c, s]), np.choose(q, [s, c, -s, -c])

    def normal(self, w):
        r = np.sqrt(self.exponential(w[0::2]) * self.f(2))
        c, s = self.cos_sin(w[1::2])
        return np.stack([r * c, r * s], 1).reshape(-1)

    def cauchy(self, w):
        c, s = self.cos_sin(w)
        return np.where(c >= 0, s, self.f(1) - c) / np.where(c >= 0, c + self.f(1), s)

    def exp(self, x):
        f = self.f
        y = np.clip(x, f(-750), f(711)) if self.wide else np.clip(x, f(-105), f(90))
        high, low = ((f(0.6931471805598903), f(5.497923018708371e-14)) if self.wide else
                     (f(0.693359375), f(-2.1219444005469057e-04)))
        k = np.floor(y * f(1.4426950408889634) + f(0.5))
        r = (y - k * high) - k * low
        d = 13 if self.wide else 7
        p = f(1 / math.factorial(d))
        for i in range(d - 1, 1, -1):
            p = p * r + f(1 / math.factorial(i))
        p = (p * r * r + r) + f(1)
        k = k.astype(int)
        return p * np.ldexp(f(1), k >> 1) * np.ldexp(f(1), k - (k >> 1))


def model(name, seed, offset, n, dtype, args):
    wide = dtype == F64
    m, f = Model(wide), np.float64 if wide else np.float32
    even = n + n % 2
    w = words(seed, offset, even, wide)
    a = [f(x) for x in args]
    if name == "uniform":
        v = np.minimum(a[0] + m.uniform(w) * (a[1] - a[0]), f(np.nextafter(dtype.type(args[1]), dtype.type(args[0]))))
    elif name == "exponential":
        v = m.exponential(w) * f(1 / args[0])
    elif name == "geometric":
        v = np.ceil(m.exponential(w) * f(-1 / math.log1p(-args[0])))
    elif name == "cauchy":
        v = a[0] + m.cauchy(w) * a[1]
    elif name == "bernoulli":
        v = (words(seed, offset, even) >> 1 < math.ceil(args[0] * 2**31)).astype(f)
    else:
        v = a[0] + m.normal(w) * a[1]
        if name == "log_normal":
            v = m.exp(v)
    return v[:n].astype(dtype)


SAMPLERS = [("uniform", (0.0, 1.0)), ("uniform", (-3.0, 5.5)), ("normal", (0.0, 1.0)), ("normal", (2.0, 0.3)),
            ("exponential", (2.5,)), ("cauchy", (0.5, 2.0)), ("log_normal", (-1.0, 40.0)), ("geometric", (0.2,)),
            ("bernoulli", (0.7,))]


def sampled(side, name, n, dtype, args, stream=None):
    out = side.memory.empty((n,), dtype, 0)
    getattr(side.random, name)(stream or Stream(SEED), out, *args)
    return out.to_host()


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


# --- words --------------------------------------------------------------------------------------

KNOWN = [((0,) * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
         ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
         ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
          "d16cfe09 94fdcceb 5001e420 24126ea1")]


def test_known_answers(side):
    """The vectors of the Random123 library."""
    from tritium.kernels.runtime.launch import kernel
    from tritium.kernels.triton import philox as words_of

    round_function = words_of.philox

    def one(c, out, ROUND: tl.constexpr):
        w = ROUND(tl.load(c), tl.load(c + 1), tl.load(c + 2), tl.load(c + 3), tl.load(c + 4), tl.load(c + 5))
        for i in tl.static_range(4):
            tl.store(out + i, w[i])

    variant = kernel(one).bind(ROUND=round_function)
    for counter, key, expected in KNOWN:
        out = side.memory.empty((4,), np.uint32, 0)
        variant(1, 1, 1, side.memory.from_host(np.array([*counter, *key], np.uint32)), out)
        assert " ".join(f"{w:08x}" for w in out.to_host()) == expected
        assert " ".join(f"{int(w):08x}" for w in philox(counter, key)) == expected


@pytest.mark.parametrize("offset", [0, 4, (1 << 34) - 8, (1 << 64) - 8])
def test_words_of_a_stream(side, offset):
    """Also where the block number passes 32 bits, and where the offset starts again."""
    stream = Stream(SEED)
    stream.offset = offset
    out = side.memory.empty((10,), np.int64, 0)
    side.random.integers(stream, out, 0, 1 << 64)
    first = min(10, (1 << 64) - offset >> 1)
    expected = np.concatenate([words(SEED, offset, first, True), words(SEED, 0, 10 - first, True)])
    if offset == (1 << 64) - 8:
        expected = expected[:first]  # the block after the last one is number 2^62, which no call from 0 on reaches
    same(out.to_host()[:len(expected)], expected.view(np.int64))
    assert stream.offset == (offset + 20) % (1 << 64)


# --- distributions, bit by bit ------------------------------------------------------------------

@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name, args", SAMPLERS)
def test_equal_to_the_model(side, blocks, name, args, dtype):
    stream = Stream(SEED)
    stream.offset = 12
    n = 301
    with np.errstate(all="ignore"):
        same(sampled(side, name, n, dtype, args, stream), model(name, SEED, 12, n, dtype, args))
    used = 2 * n if dtype == F64 and name != "bernoulli" else n
    assert stream.offset == 12 + (used + 3 & -4)


def test_the_model_is_accurate():
    """The model, and so the kernels, against NumPy's functions in float64 and against longer arithmetic."""
    rng = np.random.default_rng(0)
    for wide, tolerance in ((False, 4e-7), (True, 6e-16)):
        m = Model(wide)
        w = rng.integers(0, 1 << 64, 20000, np.uint64)
        w[:4] = 0, (1 << 64) - 1, 1 << 63, 1 << 12
        u = ((w >> U64(12)).astype(np.longdouble) + 0.5) * np.longdouble(2) ** -52
        angle = (w.astype(np.longdouble) + 0.5) * np.longdouble(2) ** -64
        if not wide:
            w = (w >> U64(32)).astype(np.uint32)
            u = angle = (w.astype(np.longdouble) + 0.5) * np.longdouble(2) ** -32
        exact = -np.log1p(-u)
        assert np.abs(m.exponential(w) / exact - 1).max() < tolerance and m.exponential(w).min() > 0
        pi = np.longdouble("3.14159265358979323846264338327950288")
        c, s = m.cos_sin(w)
        assert np.abs(c - np.cos(2 * pi * angle)).max() < tolerance / 3
        assert np.abs(s - np.sin(2 * pi * angle)).max() < tolerance / 3
        x = np.linspace(-80, 80, 9999).astype(m.f)
        assert np.abs(m.exp(x) / np.exp(x.astype(np.longdouble)) - 1).max() < tolerance
        with np.errstate(over="ignore"):
            edge = m.exp(np.array([-1e4, 1e4, 0], m.f))
        assert edge.tolist() == [0, math.inf, 1]


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", BF16],
                         ids=str)
@pytest.mark.parametrize("low, span", [(0, 2), (3, 77), (-5, 100), (0, 1 << 24), (-(1 << 40), 3 << 41),
                                       (-(1 << 63), 1 << 64)])
def test_integers(side, blocks, dtype, low, span):
    dtype = np.dtype(dtype)
    if dtype.kind in "iub":
        info = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if low < info[0] or low + span - 1 > info[1]:
            pytest.skip("out of range")
    elif span > 77:
        pytest.skip("rounded")
    x = sampled(side, "integers", 211, dtype, (low, span))
    wide = span > 1 << 24
    w = [int(v) for v in words(SEED, 0, 211, wide)]
    expected = [v - ((v >> 63) << 64) if span == 1 << 64 else low + (v * span >> (64 if wide else 32)) for v in w]
    same(x, np.array(expected).astype(dtype))


def test_odd_values(side):
    assert sampled(side, "bernoulli", 9, F32, (0.0,)).tolist() == [0] * 9
    assert sampled(side, "bernoulli", 9, np.dtype("?"), (1.0,)).tolist() == [True] * 9
    assert sampled(side, "bernoulli", 9, np.dtype("i2"), (1.0,)).tolist() == [1] * 9
    assert set(sampled(side, "bernoulli", 99, BF16, (0.5, 1.25)).astype(float)) == {0, 1.25}
    assert sampled(side, "uniform", 5, F32, (2.0, 2.0)).tolist() == [2] * 5
    assert sampled(side, "normal", 5, F64, (2.0, 0.0)).tolist() == [2] * 5
    assert sampled(side, "any_value", 99, np.dtype("i1"), (128, False)).min() >= 0
    for dtype in ("i1", "i4", "u8"):
        x = sampled(side, "geometric", 99, np.dtype(dtype), (0.5,))
        assert x.min() == 1 and x.max() < 40
    for shape in ((0,), (3, 0)):
        side.random.normal(Stream(1), side.memory.empty(shape, F32, 0), 0.0, 1.0)
    one = side.memory.empty((), F32, 0)
    side.random.uniform(Stream(SEED), one, 0.0, 1.0)
    assert one.to_host() == model("uniform", SEED, 0, 1, F32, (0.0, 1.0))[0]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_uniform_stays_below_the_end(side, dtype):
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (1.0, 1.0 + 4 * float(ml_dtypes.finfo(dtype).eps)), (0.0, 3.0)):
        x = sampled(side, "uniform", 70000, dtype, (low, high)).astype(np.float64)
        assert low <= x.min() and x.max() < high
        assert abs(x.mean() - (low + high) / 2) < (high - low) * 0.02 + float(ml_dtypes.finfo(dtype).eps)


def test_bernoulli_each(side, blocks):
    rng = np.random.default_rng(3)
    for dtype in FLOATS:
        p = rng.random((13, 19)).astype(dtype)
        p[0] = [0, 1] * 9 + [0]
        for device in (side.memory.from_host(p), side.memory.from_host(np.ascontiguousarray(p.T)).T):
            out = side.memory.empty((13, 19), F32, 0)
            side.random.bernoulli_each(Stream(SEED), out, device)
            w = words(SEED, 0, 13 * 19).reshape(13, 19)
            u = w.astype(np.float64) * 2.0**-32 if dtype == F64 else (w >> 8).astype(np.float32) * np.float32(2**-24)
            assert (out.to_host() == (u < p.astype(u.dtype))).all()


def test_elements_are_filled_in_the_order_of_their_indices(side):
    flat = sampled(side, "normal", 60, F32, (0.0, 1.0)).reshape(3, 4, 5)
    room = side.memory.zeros((5, 8, 6), F32, 0)
    out = room[::-1, ::2, 1:4].transpose(2, 1, 0)
    side.random.normal(Stream(SEED), out, 0.0, 1.0)
    same(out.to_host(), flat)
    assert np.count_nonzero(room.to_host()) == 60


def test_calls_follow_one_another(side):
    stream = Stream(5)
    parts = [sampled(side, "uniform", n, F32, (0.0, 1.0), stream) for n in (8, 5, 1, 100)]
    whole = sampled(side, "uniform", 120, F32, (0.0, 1.0), Stream(5))
    starts = (0, 8, 16, 20)
    for part, start in zip(parts, starts, strict=True):
        same(part, whole[start:start + len(part)])
    assert stream.offset == 120
    assert sampled(side, "uniform", 8, F32, (0.0, 1.0), Stream(6)).tolist() != parts[0].tolist()
    assert sampled(side, "uniform", 8, F32, (0.0, 1.0), Stream(5 + (1 << 32))).tolist() != parts[0].tolist()


# --- statistics ---------------------------------------------------------------------------------

def distance(x, cdf):
    """Kolmogorov and Smirnov's statistic, times sqrt(n): above 1.95 once in 1000 times."""
    x = np.sort(x.astype(np.float64))
    f, n = cdf(x), len(x)
    i = np.arange(n)
    return math.sqrt(n) * max((f - i / n).max(), ((i + 1) / n - f).max())


def excess(counts, expected):
    """Chi-square in its own standard deviations (Wilson and Hilferty)."""
    k = len(counts) - 1
    chi = ((counts - expected) ** 2 / expected).sum()
    return ((chi / k) ** (1 / 3) - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))


def erf(x):
    return np.array([math.erf(v) for v in x])


@pytest.mark.parametrize("dtype", (F32, F64), ids=str)
def test_distributions(side, dtype):
    stream, n = Stream(77), 40000
    tests = [("uniform", (-1.0, 3.0), lambda x: (x + 1) / 4),
             ("normal", (1.0, 2.0), lambda x: 0.5 + 0.5 * erf((x - 1) / 8**0.5)),
             ("exponential", (0.5,), lambda x: -np.expm1(-x / 2)),
             ("cauchy", (1.0, 3.0), lambda x: 0.5 + np.arctan((x - 1) / 3) / np.pi),
             ("log_normal", (0.5, 0.7), lambda x: 0.5 + 0.5 * erf((np.log(x) - 0.5) / (0.7 * 2**0.5)))]
    for name, args, cdf in tests:
        x = sampled(side, name, n, dtype, args, stream)
        assert distance(x, cdf) < 1.95, name
        u = cdf(x.astype(np.float64))
        for lag in (1, 2, 3, 4, 128):
            assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) * math.sqrt(n) < 4, (name, lag)
    g = sampled(side, "geometric", n, dtype, (0.3,), stream).astype(int)
    p = 0.3 * 0.7 ** np.arange(15)
    counts = np.bincount(np.minimum(g, 16), minlength=17)[1:]
    assert excess(counts, n * np.append(p, 1 - p.sum())) < 3.5
    z = sampled(side, "normal", n, dtype, (0.0, 1.0), stream).astype(np.float64)
    assert abs((z**3).mean()) * math.sqrt(n / 15) < 4 and abs((z**4).mean() - 3) * math.sqrt(n / 96) < 4


def test_integers_are_uniform(side):
    for span in (6, 1000, (1 << 24) - 1, 3 << 60):
        x = sampled(side, "integers", 60000, np.dtype("i8"), (0, span), Stream(4))
        bins = min(span, 100)
        counts = np.bincount([int(v) * bins // span for v in x], minlength=bins)
        assert excess(counts, np.full(bins, 60000 / bins)) < 3.5


# --- permutations -------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000, 2048, 2049, 5000, 20011])
def test_permutations(side, n):
    stream = Stream(SEED)
    p = side.random.permutation(stream, n).to_host()
    assert p.dtype == np.int64 and (np.sort(p) == np.arange(n)).all()
    again = side.random.permutation(Stream(SEED), n).to_host()
    other = side.random.permutation(stream, n).to_host()
    assert (p == again).all() and (n < 10 or (p != other).any())
    if n >= 1000:  # about one fixed point, about one neighbour that stays a neighbour, half of the steps downwards
        assert (p == np.arange(n)).sum() < 7 and (np.diff(p) == 1).sum() < 7
        assert abs((np.diff(p) < 0).sum() - n / 2) < 4 * math.sqrt(n / 12)


@pytest.mark.parametrize("n", [100, 3001])
def test_permutations_do_not_depend_on_the_grid(side, monkeypatch, n):
    from tritium.kernels.triton import philox as words_of
    from tritium.kernels.triton import random_choice

    seed, offset = Stream(3).take(0)
    out = side.memory.empty((n,), np.int64, 0)
    if n == 100:
        random_choice.rank.bind(ROWS=32, COLUMNS=16, **words_of.EXACT)(4, 1, 1, out, n, seed, offset)
        w = words(3, 0, n, True)
        assert (w.argsort().argsort() == out.to_host()).all()
    else:
        random_choice.shuffle.bind(ROUNDS=8, BLOCK=1024, **words_of.EXACT)(3, 1, 1, out, n, seed, offset, 55, 55)
    same(side.random.permutation(Stream(3), n).to_host(), out.to_host())


def test_all_permutations_are_equally_likely(side):
    stream = Stream(8)
    counts = np.zeros(64)
    for _ in range(240):
        a, b, c = side.random.permutation(stream, 3).to_host().tolist()
        counts[16 * a + 4 * b + c] += 1
    counts = counts[counts > 0]
    assert len(counts) == 6 and excess(counts, np.full(6, 40)) < 3


def test_places_of_a_long_permutation_are_uniform(side):
    counts = np.zeros((16, 16))
    for seed in range(4):
        p = side.random.permutation(Stream(seed), 16384).to_host()
        np.add.at(counts, (np.arange(16384) // 1024, p // 1024), 1)
    assert excess(counts.ravel(), np.full(256, 256.0)) < 3


# --- choices by weight --------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_one_draw_is_a_race(side, blocks, dtype):
    rng = np.random.default_rng(1)
    p = rng.random((7, 333)).astype(dtype)
    p[p < 0.3] = 0
    wide = dtype == F64
    stream = Stream(SEED)
    got = side.random.multinomial(stream, side.memory.from_host(p), 1, False).to_host()
    w = words(SEED, 0, 7 * 336, wide).reshape(7, 336)[:, :333]
    keys = p.astype(F64 if wide else F32) / Model(wide).exponential(w)
    assert got.dtype == np.int64 and got[:, 0].tolist() == keys.argmax(1).tolist()
    assert stream.offset == 7 * 336 * (2 if wide else 1)
    many = side.random.multinomial(Stream(SEED), side.memory.from_host(p), 50, False).to_host()
    assert (many == np.argsort(-keys, 1, kind="stable")[:, :50]).all()
    flat = side.random.multinomial(Stream(SEED), side.memory.from_host(p[0]), 3, False).to_host()
    assert flat.tolist() == many[0, :3].tolist()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_draws_with_replacement(side, blocks, dtype):
    rng = np.random.default_rng(2)
    p = (rng.random((3, 150)) * 10.0 ** rng.integers(-3, 3, (3, 1))).astype(dtype)
    p[:, ::3] = 0
    p[:, -1] = 0
    device = side.memory.from_host(np.ascontiguousarray(p.T)).T
    got = side.random.multinomial(Stream(SEED), device, 201, True).to_host()
    w = words(SEED, 0, 3 * 202, True).reshape(3, 202)[:, :201]
    exponent = np.frexp(p.max(1).astype(F64))[1] - 1
    total = np.cumsum(np.ldexp(p.astype(F64), 38 - exponent[:, None]).astype(np.int64), 1)
    for row in range(3):
        target = [int(v) * int(total[row, -1]) >> 64 for v in w[row]]
        assert got[row].tolist() == np.searchsorted(total[row], target, "right").tolist()


def test_weights_are_kept(side):
    p = np.array([0.1, 0.0, 0.4, 0.2, 0.3], F32)
    rows = side.memory.from_host(np.broadcast_to(p, (600, 5)).copy())
    expected = p[[0, 2, 3, 4]] * 600
    one = side.random.multinomial(Stream(1), rows, 1, True).to_host().ravel()
    many = side.random.multinomial(Stream(2), side.memory.from_host(p), 600, True).to_host()
    for draws in (one, many):
        counts = np.bincount(draws, minlength=5)
        assert counts[1] == 0 and excess(counts[[0, 2, 3, 4]], expected) < 3
    pairs = side.random.multinomial(Stream(3), rows, 2, False).to_host()
    first, second = pairs.T
    assert (first != second).all()
    second_is_0 = sum(p[k] * p[0] / (1 - p[k]) for k in (2, 3, 4))
    assert abs((second == 0).mean() - second_is_0) < 4 * math.sqrt(second_is_0 / 600)


def test_extreme_weights(side):
    for p in ([1e-300, 0.0, 2e-300], [5e-324, 0, 0], [1e300, 1e300, 0], [1e-30, 1.0, 0.0]):
        got = side.random.multinomial(Stream(1), side.memory.from_host(np.array(p)), 40, True).to_host()
        assert all(p[i] > 0 for i in got)


def test_weights_check(side, blocks):
    ok = np.abs(np.random.default_rng(0).standard_normal((3, 300))).astype(F32) + 0.1
    check = lambda p: side.random.weights_check(side.memory.from_host(p))
    assert check(ok) == (False, False, False)
    for value, expected in ((-1, (True, False, False)), (np.nan, (True, True, False)), (np.inf, (False, True, False))):
        bad = ok.copy()
        bad[2, 299] = value
        assert check(bad) == expected
    assert check(np.zeros((2, 3), F64)) == (False, False, True)
    assert check(np.zeros((0,), F64)) == (False, False, False) and check(np.array(2.0)) == (False, False, False)


# --- dropout ------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, -0.75)])
def test_dropout_of_any_layout(side, blocks, dtype, shift):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 5, 6, 3)).astype(dtype)
    work = np.float64 if dtype == F64 else np.float32
    keep = words(SEED, 8, x.size).reshape(x.shape) >> 1 < math.ceil(0.6 * 2**31)
    y = x.astype(work) * np.where(keep, work(1 / 0.6), work(0))
    if any(shift):
        y = y + np.where(keep, work(shift[0]), work(shift[1]))
    y = y.astype(dtype)
    args = (SEED, 8, 0.6, 1 / 0.6, *shift)
    place = side.memory.from_host
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    layouts = {"contiguous": place(x), "channels last": place(last).transpose(0, 3, 1, 2),
               "transposed": place(np.ascontiguousarray(x.T)).T,
               "flipped": place(np.ascontiguousarray(x[::-1, :, ::-1]))[::-1, :, ::-1],
               "sliced": place(np.concatenate([x, x], 3))[..., :3]}
    for name, d in layouts.items():
        out = side.dropout.masked(d, *args)
        same(out.to_host(), y)
        if name in ("channels last", "transposed"):
            assert out.strides == d.strides
    wide = place(np.zeros((4, 5, 6, 6), dtype))[..., ::2]
    side.dropout.masked(layouts["channels last"], *args, out=wide)
    same(wide.to_host(), y)
    for d in (layouts["contiguous"], layouts["sliced"], layouts["channels last"]):
        assert side.dropout.masked(d, *args, out=d) is d  # in place
        same(d.to_host(), y)


def test_dropout_of_what_is_not_finite(side):
    x = np.array([np.inf, np.nan, -0.0, -np.inf] * 50, F32)
    y = side.dropout.masked(side.memory.from_host(x), 1, 0, 0.5, 2.0).to_host()
    with np.errstate(invalid="ignore"):
        expected = x * np.where(words(1, 0, 200) >> 1 < 1 << 30, np.float32(2), np.float32(0))
    np.testing.assert_array_equal(y, expected)
    assert (np.signbit(y) == np.signbit(expected))[~np.isnan(y)].all()


def test_dropout_of_expanded_and_empty_arrays(side):
    row = np.arange(6, dtype=F32)
    wide = side.memory.broadcast_to(side.memory.from_host(row), (5, 6))
    y = side.dropout.masked(wide, 3, 0, 0.5, 2.0).to_host()
    keep = words(3, 0, 30).reshape(5, 6) >> 1 < 1 << 30
    assert (y == row * 2 * keep).all()
    assert side.dropout.masked(side.memory.empty((0, 3), F32), 3, 0, 0.5, 2.0).shape == (0, 3)
    seven = np.random.default_rng(0).random((2, 3, 2, 2, 3, 2, 2)).astype(F32)
    odd = side.memory.from_host(seven)[:, ::2, :, ::1, ::2].transpose(6, 1, 4, 3, 0, 5, 2)
    y = side.dropout.masked(odd, 3, 0, 0.5, 2.0).to_host()
    x = seven[:, ::2, :, :, ::2].transpose(6, 1, 4, 3, 0, 5, 2)
    assert (y == x * 2 * (words(3, 0, x.size).reshape(x.shape) >> 1 < 1 << 30)).all()


def test_cases_name_every_kernel(side):
    from tritium.kernels.triton import random_choice

    kernels = {c.kernel for c in [*side.random.cases(), *side.dropout.cases()]}
    for module in (side.random, random_choice, side.dropout):
        for value in vars(module).values():
            if type(value).__name__ == "Kernel":
                assert value in kernels, value.name
