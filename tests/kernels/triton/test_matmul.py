"""Products on the Triton side against the NumPy side."""
from __future__ import annotations

import math
import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import matmul as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BF16]
WHOLE = [np.dtype(t) for t in (np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64)]
TOLERANCE = {2: 1e-2, 4: 2e-6, 8: 1e-14}


@pytest.fixture
def side() -> Any:
    from tritium.kernels.triton import matmul

    return matmul


@pytest.fixture
def force(monkeypatch: Any) -> Any:
    """Products in tiles of a given size, and K in parts."""
    from tritium.kernels.triton import matmul
    from tritium.kernels.triton import matmul_configs as configs

    monkeypatch.setattr(matmul, "plans", {})

    def set(m: int, n: int, k: int, parts: int = 1, persistent: bool = False) -> None:
        def choose(kind: str, *args: Any) -> Any:
            return configs.Tile(m, n, max(k, 32) if kind == "int8" else k, 4, 2, 1.0, 1, persistent), parts

        monkeypatch.setattr(configs, "choose", choose)
        matmul.plans.clear()
        monkeypatch.setattr(configs, "choose_vector", lambda *args: (m, k, parts))

    return set


def draw(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Numbers of a dtype: integers over their whole range."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.2
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.standard_normal(shape).astype(dtype)


def send(x: np.ndarray) -> Any:
    """A copy on the device with the same strides: also transposed, sliced, reversed or expanded ones."""
    from tritium.kernels.triton.memory import from_host

    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    flat = np.ascontiguousarray(base.T if base.flags.f_contiguous else base)
    there = from_host(flat)
    return there.look(there.ptr + x.ctypes.data - base.ctypes.data, x.shape, x.strides)


def back(x: Any) -> np.ndarray:
    from tritium.kernels.triton.memory import to_host

    return to_host(x)


def same(got: Any, expected: np.ndarray, scale: float = 1.0) -> None:
    """Equal shape, dtype and, within the rounding of sums in another order, values; integers exactly."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    got = back(got)
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(got, expected)
    else:
        wide = np.float64
        tolerance = TOLERANCE[expected.dtype.itemsize] * scale
        np.testing.assert_allclose(got.astype(wide), expected.astype(wide), rtol=tolerance, atol=4 * tolerance)


def rng_of(*names: Any) -> Any:
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


SHAPES = [((37, 45), (45, 29)), ((1, 1), (1, 1)), ((45,), (45,)), ((4,), (4, 6)), ((5, 4), (4,)), ((5, 1), (1, 6)),
          ((3, 5, 7), (7, 4)), ((3, 5, 7), (7,)), ((5, 7), (3, 7, 4)), ((7,), (3, 7, 4)), ((2, 1, 3, 4), (3, 4, 6)),
          ((2, 1, 7), (2, 7, 5)), ((2, 5, 7), (2, 7, 1)), ((0, 4), (4, 3)), ((2, 0), (0, 3)), ((0,), (0,)),
          ((3, 0, 4), (4, 5)), ((0, 2, 3), (0, 3, 2)), ((2, 3, 0), (0,))]


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE, np.dtype(bool)], ids=str)
def test_shapes(side: Any, dtype: Any) -> None:
    """Vectors, matrices, batches, and what is empty."""
    for a, b in SHAPES if dtype in FLOATS else SHAPES[::3]:
        rng = rng_of(a, b)
        x, y = draw(rng, a, dtype), draw(rng, b, dtype)
        same(side.matmul(send(x), send(y)), reference.matmul(x, y))


@pytest.mark.parametrize("m,n,k,parts", [(16, 16, 16, 1), (16, 32, 32, 3), (32, 16, 16, 2)])
@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.int64)], ids=str)
def test_tiles(side: Any, force: Any, dtype: Any, m: int, n: int, k: int, parts: int) -> None:
    """Several programs, ragged last tiles, K in parts; tiles that fit exactly."""
    force(m, n, k, parts)
    for M, N, K in ((37, 45, 53), (32, 64, 96), (2, 33, 100), (1, 70, 50), (41, 1, 100)):
        rng = rng_of(M, N, K)
        x, y = draw(rng, (M, K), dtype), draw(rng, (K, N), dtype)
        same(side.matmul(send(x), send(y)), reference.matmul(x, y), 10)
    x, y = draw(rng, (3, 20, 33), dtype), draw(rng, (3, 33, 18), dtype)
    same(side.matmul(send(x), send(y)), reference.matmul(x, y), 10)


def layouts(rng: Any, rows: int, columns: int, dtype: Any) -> Any:
    """One matrix in every way that it can lie in memory."""
    x = draw(rng, (rows, columns), dtype)
    yield x
    yield np.asfortranarray(x)
    yield draw(rng, (rows + 3, columns + 5), dtype)[2:-1, 4:-1]
    yield draw(rng, (columns + 5, rows + 3), dtype)[4:-1, 2:-1].T
    yield draw(rng, (rows, 2 * columns), dtype)[:, ::2]
    yield x[::-1]
    yield np.broadcast_to(draw(rng, (columns,), dtype), (rows, columns))
    yield np.broadcast_to(draw(rng, (rows, 1), dtype), (rows, columns))


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BF16, np.dtype(np.int64)], ids=str)
def test_layouts(side: Any, force: Any, dtype: Any) -> None:
    """Every layout of both operands, of a matrix times a vector and of the vector."""
    force(32, 32, 32, 2)
    rng = rng_of(dtype)
    for x in layouts(rng, 40, 70, dtype):
        y = draw(rng, (70, 33), dtype)
        same(side.matmul(send(x), send(y)), reference.matmul(x, y), 10)
        z = draw(rng, (33, 40), dtype)
        same(side.matmul(send(z), send(x)), reference.matmul(z, x), 10)
        v = draw(rng, (140,), dtype)[::2]
        same(side.matmul(send(x), send(v)), reference.matmul(x, v), 10)
        v = draw(rng, (3, 40), dtype)[1]
        same(side.matmul(send(v), send(x)), reference.matmul(v, x), 10)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BF16], ids=str)
def test_batches(side: Any, dtype: Any) -> None:
    """Batches that are broadcast, permuted or sliced."""
    rng = rng_of("batches")
    x = draw(rng, (2, 3, 8, 12), dtype)
    y = draw(rng, (2, 3, 12, 9), dtype)
    for a, b in ((x, y), (x[:, :1], y), (x[0], y), (x, y[0, 1]), (x.transpose(1, 0, 2, 3), y[:1].transpose(1, 0, 2, 3)),
                 (x.transpose(2, 0, 1, 3), draw(rng, (8, 2, 12, 5), dtype)), (x[:, :, 0][:, :, None], y[0]),
                 (np.broadcast_to(x[:1, :1], (4, 2, 8, 12)), y[0, 0])):
        same(side.matmul(send(a), send(b)), reference.matmul(a, b), 4)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64), BF16, np.dtype(np.int32),
                                   np.dtype(np.uint8), np.dtype(np.int64)], ids=str)
def test_addmm(side: Any, force: Any, dtype: Any, parts: int) -> None:
    """Addends of every shape and layout; factors; sums over nothing."""
    force(16, 16, 16, parts)
    rng = rng_of("addmm", dtype)
    a, b = draw(rng, (20, 40), dtype), draw(rng, (40, 24), dtype)
    whole = dtype.kind in "iu"
    for c in ((24,), (1,), (1, 24), (20, 1), (20, 24), ()):
        x = draw(rng, c, dtype)
        for beta, alpha in ((1, 1), (3, 2) if whole else (-0.5, 2.25)):
            same(side.addmm(send(x), send(a), send(b), beta, alpha), reference.addmm(x, a, b, beta, alpha), 20)
    x = np.asfortranarray(draw(rng, (20, 24), dtype))
    same(side.addmm(send(x), send(a), send(b), 1, 3), reference.addmm(x, a, b, 1, 3), 20)
    x = draw(rng, (24, 24), dtype)[2:22]
    same(side.addmm(send(x), send(a[:, :0]), send(b[:0]), 2, 3), reference.addmm(x, a[:, :0], b[:0], 2, 3))
    for rows, columns in ((slice(None), slice(3, 4)), (slice(3, 4), slice(None)), (slice(3, 4), slice(3, 4))):
        y = x[:20][rows, columns]
        same(side.addmm(send(y), send(a[rows]), send(b[:, columns]), 2, 3),
             reference.addmm(y, a[rows], b[:, columns], 2, 3), 20)
    batch = draw(rng, (2, 1, 24), dtype)
    a, b = draw(rng, (2, 20, 40), dtype), draw(rng, (2, 40, 24), dtype)
    same(side.addmm(send(batch), send(a), send(b), 1, 1), reference.addmm(batch, a, b, 1, 1), 20)


def test_addend_that_does_not_count(side: Any) -> None:
    a = np.ones((3, 4), np.float32)
    c = np.full((3, 3), np.nan, np.float32)
    same(side.addmm(send(c), send(a), send(a.T), 0, 2), np.full((3, 3), 8, np.float32))


def test_large_factors(side: Any) -> None:
    """Factors of int64 that float64 has not."""
    a = np.ones((2, 2), np.int64)
    n = (1 << 62) + 1
    same(side.addmm(send(a), send(a), send(a), n, n), reference.addmm(a, a, a, n, n))


ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "silu": lambda x: x / (1 + np.exp(-x)), "tanh": np.tanh,
               "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
               "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
               "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))}


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_linear(side: Any, force: Any, activation: str | None) -> None:
    """A layer with its bias and activation, rounded once."""
    rng = rng_of("linear")
    act = ACTIVATIONS.get(activation or "", lambda x: x)
    for parts in (1, 2):
        force(16, 16, 16, parts)
        for dtype in (np.dtype(np.float32), np.dtype(np.float64), BF16):
            for shape in ((2, 9, 35), (35,)):
                x, w, b = draw(rng, shape, dtype), draw(rng, (21, 35), dtype), draw(rng, (21,), dtype)
                f = np.float64
                exact = act(x.astype(f) @ w.astype(f).T + b.astype(f)).astype(dtype)
                same(side.linear(send(x), send(w), send(b), activation), exact, 10)
                exact = act(x.astype(f) @ w.astype(f).T).astype(dtype)
                same(side.linear(send(x), send(w), None, activation), exact, 10)


def test_rounded_once(side: Any) -> None:
    """A bfloat16 sum that would stop growing if it were kept in bfloat16, and an addend below its rounding."""
    a = np.ones((2, 1000), BF16)
    c = np.full((2, 2), 0.5, BF16)
    same(side.matmul(send(a), send(a.T)), np.full((2, 2), 1000, BF16))
    half = np.full((2, 257), 1, BF16)
    expected = reference.addmm(c, half, half.T, 3, 1)  # 257 + 1.5 -> 258
    np.testing.assert_array_equal(back(side.addmm(send(c), send(half), send(half.T), 3, 1)), expected)


def test_not_finite(side: Any, force: Any) -> None:
    """Infinities and NaN stay in their row and column; the edges of tiles add nothing."""
    force(16, 16, 16, 2)
    for dtype in FLOATS:
        a, b = np.ones((20, 35), dtype), np.ones((35, 19), dtype)
        a[3, 5], a[7, 34], b[2, 18], b[34, 0] = np.inf, np.nan, -np.inf, np.inf
        same(side.matmul(send(a), send(b)), reference.matmul(a, b))
        same(side.matmul(send(a), send(b[:, 18])), reference.matmul(a, b[:, 18]))
        same(side.matmul(send(a[7]), send(b)), reference.matmul(a[7], b))


def test_twice_the_same_bits(side: Any, force: Any) -> None:
    rng = rng_of("twice")
    x, y = (send(draw(rng, (64, 200), np.dtype(np.float32))) for _ in range(2))
    force(16, 16, 32, 4)
    one, two = back(side.matmul(x, y.T)), back(side.matmul(x, y.T))
    np.testing.assert_array_equal(one.view(np.int32), two.view(np.int32))


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16), BF16], ids=str)
def test_persistent(side: Any, force: Any, monkeypatch: Any, dtype: Any) -> None:
    """Few programs over many tiles, through descriptors, in every layout."""
    from tritium.kernels import runtime

    force(32, 32, 32, 1, True)
    active = runtime.active()
    properties = active.properties(0)
    small = type(properties)(**{**properties.__dict__, "multi_processor_count": 3})
    monkeypatch.setattr(active, "properties", lambda device: small)
    rng = rng_of("persistent")
    for M, N, K in ((72, 80, 104), (33, 96, 64)):
        a, b, bias = draw(rng, (M, K), dtype), draw(rng, (K, N), dtype), draw(rng, (N,), dtype)
        for x in (a, np.asfortranarray(a)):
            if x.flags.f_contiguous and M % 8:
                continue
            for y in (b, np.asfortranarray(b)):
                same(side.matmul(send(x), send(y)), reference.matmul(x, y), 10)
        same(side.addmm(send(bias), send(a), send(b), 0.5, 2), reference.addmm(bias, a, b, 0.5, 2), 20)


@pytest.mark.emulated_only
def test_far_offsets(side: Any, force: Any) -> None:
    """Rows more than 2**31 elements apart inside one tile, in an allocation that is hardly touched."""
    from tritium.kernels.triton.copy import copy_into
    from tritium.kernels.triton.memory import empty

    force(16, 16, 16)
    rng = rng_of("far")
    dtype = np.dtype(np.int16)
    far = empty((20, 1 << 28), dtype)[:, :18]  # 10 GB of addresses
    x, y = draw(rng, (20, 18), dtype), draw(rng, (18, 17), dtype)
    copy_into(far, send(x))
    same(side.matmul(far, send(y)), reference.matmul(x, y))
    same(side.matmul(far, far.T), reference.matmul(x, x.T))
    same(side.matmul(far.T, far), reference.matmul(x.T, x))
    same(side.matmul(far, send(y[:, 0])), reference.matmul(x, y[:, 0]))
    same(side.addmm(far, send(x), send(x.T[:, :18]), 2, 3), reference.addmm(x, x, x.T[:, :18], 2, 3))


def test_precision(side: Any) -> None:
    """TF32 only where it is allowed, and only for float32."""
    from tritium.kernels.precision import precision

    rng = rng_of("precision")
    x, y = draw(rng, (40, 50), np.dtype(np.float32)), draw(rng, (50, 30), np.dtype(np.float32))
    expected = reference.matmul(x, y)
    try:
        for word in ("high", "medium"):
            precision.float32_matmul = word
            got = back(side.matmul(send(x), send(y)))
            np.testing.assert_allclose(got, expected, rtol=0, atol=16 * 2.0 ** -10)
            assert abs(got - expected).max() > 2.0 ** -16
            double = side.matmul(send(x.astype(np.float64)), send(y.astype(np.float64)))
            same(double, reference.matmul(x.astype(np.float64), y.astype(np.float64)))
    finally:
        precision.float32_matmul = "highest"
    same(side.matmul(send(x), send(y)), expected)


def test_padded_copies(side: Any, monkeypatch: Any) -> None:
    """Copies that lie along K, in whole vectors with zeros at their ends."""
    rng = rng_of("padded")
    x = draw(rng, (2, 9, 13), BF16)
    for given, axis, expected in ((x, 1, x), (x, 0, x.swapaxes(1, 2))):
        K = given.shape[2 if axis == 1 else 1]
        made = side.Operand.of(send(given)).along(K, axis)
        assert made.rows == (axis == 1) and made.lead % 8 == 0 and made.unit == 8
        got = back(made.array)
        np.testing.assert_array_equal(got[..., :K], expected)
        assert not got[..., K:].astype(np.float32).any()


def test_refusals(side: Any) -> None:
    from tritium.kernels.array import DeviceMismatch, NoKernel

    a = send(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="mismatch in its core dimension"):
        side.matmul(a, a)
    with pytest.raises(DeviceMismatch):
        side.matmul(a, np.ones((3, 2), np.float32))
    with pytest.raises(TypeError, match="one dtype"):
        side.matmul(a, send(np.ones((3, 2))))
    with pytest.raises(NoKernel, match="complex"):
        c = send(np.ones((2, 2), np.complex64))
        side.matmul(c, c)
    with pytest.raises(ValueError, match="no activation is called swish"):
        side.linear(a, a, None, "swish")
    with pytest.raises(ValueError, match="enough dimensions"):
        side.matmul(a, send(np.ones((), np.float32)))
