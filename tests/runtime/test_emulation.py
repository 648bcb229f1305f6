# ruff: noqa: F821, UP037
"""The emulated device computes what a GPU does: every feature of Triton's language that the kernels rely on."""
from __future__ import annotations

import ctypes
import math
import threading
import types

import ml_dtypes
import numpy as np
import pytest

pytestmark = [pytest.mark.cuda_only, pytest.mark.emulated_only]
triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402
from triton.language.extra import libdevice  # noqa: E402

from tritium.kernels.array import DeviceArray  # noqa: E402
from tritium.kernels.runtime.launch import kernel  # noqa: E402
from tritium.kernels.runtime.memory import Block  # noqa: E402

BF16 = np.dtype(ml_dtypes.bfloat16)
FP8 = np.dtype(ml_dtypes.float8_e4m3fn)
FLOATS = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BF16]
N = 64
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
    global rng
    rng = np.random.default_rng(0)


def dev(x, dtype=None) -> DeviceArray:
    x = np.ascontiguousarray(x, dtype)
    block = Block(max(x.nbytes, 1))
    ctypes.memmove(block.ptr, x.ctypes.data, x.nbytes)
    return DeviceArray(block, block.ptr, x.shape, x.dtype)


def host(a) -> np.ndarray:
    out = np.empty(a.shape, a.dtype)
    ctypes.memmove(out.ctypes.data, a.ptr, out.nbytes)
    return out


def new(shape, dtype=np.float32) -> DeviceArray:
    return dev(np.zeros(shape, dtype))


def normal(*shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def elementwise(function, *xs, dtype=None, out=None, **constants):
    """A function of Triton's language over one block."""
    n = len(xs[0])
    out = new(n, dtype or xs[0].dtype) if out is None else out
    (map_one, map_two, map_three)[len(xs) - 1].bind(F=function, B=n, **constants)(1, 1, 1, *[dev(x) for x in xs], out)
    return host(out)


@kernel
def map_one(x, out, F: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, F(tl.load(x + i)))


@kernel
def map_two(x, y, out, F: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, F(tl.load(x + i), tl.load(y + i)))


@kernel
def map_three(x, y, z, out, F: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, F(tl.load(x + i), tl.load(y + i), tl.load(z + i)))


def same(a, b):
    np.testing.assert_array_equal(np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64))


# --- launches, arguments, types ---

@kernel
def axpy(x, y, out, n: "i64", a: "fp64", B: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    m = i < n
    v = tl.load(x + i, mask=m, other=0).to(tl.float64) * a + tl.load(y + i, mask=m, other=0)
    tl.store(out + i, v.to(out.dtype.element_ty), mask=m)


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(np.int8), np.dtype(np.int64), np.dtype(np.uint8)], ids=str)
def test_elementwise(dtype):
    x, y = (normal(1000) * 4).astype(dtype), (normal(1000) * 4).astype(dtype)
    out = new(1000, dtype)
    axpy.bind(B=128)(8, 1, 1, dev(x), dev(y), out, 1000, 3)
    from tritium.kernels.runtime.emulation.builder import convert

    same(host(out), convert(x.astype(np.float64) * 3 + y.astype(np.float64), dtype))


@kernel
def scalars(out, a: "fp64", b: "fp32", c: "i64", d: "i32", e: "u1", f, B: tl.constexpr):
    tl.static_assert(a.dtype == tl.float64 and b.dtype == tl.float32 and c.dtype == tl.int64)
    tl.static_assert(d.dtype == tl.int32 and e.dtype == tl.int1 and f.dtype == B)
    tl.store(out, a + 1)
    tl.store(out + 1, b)
    tl.store(out + 2, (c * 3).to(tl.float64))
    tl.store(out + 3, (d * 3).to(tl.float64))
    tl.store(out + 4, e.to(tl.float64))


def test_scalar_arguments_keep_their_types():
    out = new(5, np.float64)
    scalars.bind(B=tl.int32)(1, 1, 1, out, 1 / 3, 0.1, 2**40, 2**30, True, 7)
    assert host(out).tolist() == [1 / 3 + 1, np.float32(0.1), 3 * 2.0**40, np.int32(3 * 2**30 - 2**32), 1]
    scalars.bind(B=tl.int64)(1, 1, 1, out, 0, 0, 0, 0, False, 2**40)


@kernel
def takes_one(out, step, B: tl.constexpr):
    tl.store(out, step.to(tl.int64))


def test_an_integer_of_one_is_a_constant_as_in_the_compiler():
    takes_one.bind(B=1)(1, 1, 1, new(1, np.int64), 2)
    with pytest.raises(AttributeError) as caught:
        takes_one.bind(B=1)(1, 1, 1, new(1, np.int64), 1)
    assert "takes_one" in caught.value.__notes__[0]


@kernel
def grid_of(out, B: tl.constexpr):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    tl.store(out + x + tl.num_programs(0) * (y + tl.num_programs(1) * z), x * 100 + y * 10 + z)


def test_grid():
    out = new((2, 3, 4), np.int32)
    grid_of.bind(B=1, num_warps=8, num_stages=4)(4, 3, 2, out)
    z, y, x = np.indices((2, 3, 4))
    same(host(out), x * 100 + y * 10 + z)


# --- control flow ---

@triton.jit
def square(x):
    return x * x


@triton.jit
def twice(x, F: tl.constexpr):
    return F(x) + F(x)


@kernel
def loops(x, out, n, length, B: tl.constexpr, KIND: tl.constexpr):
    acc = tl.zeros((B,), tl.float32)
    if KIND == 0:
        for i in range(0, n, B):
            j = i + tl.arange(0, B)
            acc += tl.load(x + j, mask=j < n, other=0.0)
    elif KIND == 1:
        for i in tl.range(0, tl.load(length), B, num_stages=3):
            tl.static_assert(i.dtype == tl.int32)
            j = i.to(tl.int64) + tl.arange(0, B)
            acc += tl.load(x + j, mask=j < n, other=0.0)
    elif KIND == 2:
        i = 0
        while i < n:
            j = i + tl.arange(0, B)
            acc += tl.load(x + j, mask=j < n, other=0.0)
            i += B
    else:
        steps: tl.constexpr = 64 // B
        for i in tl.static_range(steps):
            j = i * B + tl.arange(0, B)
            acc += tl.load(x + j, mask=(j < n) & (j >= 0), other=0.0)
    tl.store(out, tl.sum(acc))


@pytest.mark.parametrize("kind", range(4))
def test_loops(kind):
    x, out = normal(N), new(1)
    loops.bind(B=16, KIND=kind)(1, 1, 1, dev(x), out, 50, dev(np.array([50], np.int32)))
    np.testing.assert_allclose(host(out)[0], x[:50].sum(), rtol=1e-5, atol=1e-5)


@kernel
def branches(out, n, B: tl.constexpr):
    p = tl.program_id(0)
    scale = 1.0
    if p == 0 or p == 7:
        scale = 2.0
    elif not p < n:
        return
    tl.store(out + p, scale * (3.0 if p > 1 and p < 3 else 1.0))


def test_branches():
    out = new(8)
    branches.bind(B=1)(8, 1, 1, out, 3)
    assert host(out).tolist() == [2, 1, 3, 0, 0, 0, 0, 2]


@kernel
def block_condition(x, out, B: tl.constexpr):
    v = tl.load(x + tl.arange(0, B))
    if v > 0:
        tl.store(out, 1.0)


def test_a_block_is_no_condition():
    with pytest.raises(ValueError, match="cannot be a condition"):
        block_condition.bind(B=4)(1, 1, 1, dev(normal(4)), new(1))


def test_logic_on_blocks_is_elementwise():
    @triton.jit
    def logic(x, y):
        return ((x > 0) and (y > 0)) or (not (x > -1))

    x, y = normal(N), normal(N)
    same(elementwise(logic, x, y, dtype=bool), (x > 0) & (y > 0) | ~(x > -1))


def test_functions_as_constants():
    x = normal(N)

    @triton.jit
    def both(v):
        return twice(v, square)

    same(elementwise(both, x), 2 * (x * x))


@kernel
def persistent(x, out, n, B: tl.constexpr):
    for t in range(tl.program_id(0), tl.cdiv(n, B), tl.num_programs(0)):
        i = t * B + tl.arange(0, B)
        tl.store(out + i, tl.load(x + i, mask=i < n, other=0) * 3, mask=i < n)


def test_persistent_loop():
    x, out = normal(100), new(100)
    persistent.bind(B=16)(3, 1, 1, dev(x), out, 100)
    same(host(out), x * 3)


# --- numbers ---

def test_casts_round_to_nearest_even():
    x = np.array([1.00390625, 1.01171875, -2.7, 65504, 1e-8, 0.1, 3.4e38, np.inf], np.float32)
    with np.errstate(all="ignore"):
        for kind, t in ((np.dtype(np.float16), tl.float16), (BF16, tl.bfloat16), (FP8, tl.float8e4nv)):
            same(_cast(x, t, kind), x.astype(kind))


@kernel
def cast_to(x, out, T: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.load(x + i).to(T))


def _cast(x, t, kind):
    out = new(len(x), kind)
    cast_to.bind(T=t, B=len(x))(1, 1, 1, dev(x), out)
    return host(out)


@pytest.mark.parametrize("target, expected", [
    (tl.int32, [2**31 - 1, -2**31, 0, 2, -2, 2**31 - 1, 300, -1]),
    (tl.int64, [2**63 - 1, -2**63, -2**63, 2, -2, 2**31, 300, -1]),
    (tl.uint32, [2**32 - 1, 0, 0, 2, 0, 2**31, 300, 0]),
    (tl.int8, [-1, 0, 0, 2, -2, -1, 44, -1]),
    (tl.uint8, [255, 0, 0, 2, 0, 255, 44, 0]),
], ids=str)
def test_floats_to_integers_as_the_machine_does(target, expected):
    x = np.array([np.inf, -np.inf, np.nan, 2.7, -2.7, 2.0**31, 300, -1.5], np.float32)
    assert _cast(x, target, np.dtype(target.name)).tolist() == expected


def test_bfloat16_rounds_at_each_step():
    @triton.jit
    def poly(x, y):
        return x * y + x

    x, y = normal(N, dtype=BF16), normal(N, dtype=BF16)
    same(elementwise(poly, x, y), x * y + x)
    out = new(1, BF16)
    total.bind(B=N)(1, 1, 1, dev(x), out)
    assert abs(float(host(out)[0]) - x.astype(float).sum()) < 0.2


@kernel
def total(x, out, B: tl.constexpr):
    tl.store(out, tl.sum(tl.load(x + tl.arange(0, B))))


INTEGERS = {
    "quotient": (lambda: triton.jit(_quotient), [3, -3, -3, 3, -1, -2**31]),
    "remainder": (lambda: triton.jit(_remainder), [1, -1, 1, -1, 5, 0]),
}


def _quotient(a, b):
    return a // b


def _remainder(a, b):
    return a % b


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_division_truncates(name):
    make, expected = INTEGERS[name]
    a = np.array([7, -7, 7, -7, 5, -2**31, 0, 0], np.int32)
    b = np.array([2, 2, -2, -2, 0, -1, 1, 1], np.int32)
    assert elementwise(make(), a, b).tolist()[:6] == expected


def test_integers_wrap_around_and_shift():
    @triton.jit
    def mixed(a, b):
        return (a * b + (a << 3)) ^ (a >> 1)

    for dtype in (np.int32, np.uint32, np.int64, np.uint8, np.int8):
        bits = np.dtype(dtype).itemsize * 8
        a = rng.integers(0, 2**16, N).astype(dtype) * np.dtype(dtype).type(77)
        b = rng.integers(0, 2**16, N).astype(dtype)
        with np.errstate(all="ignore"):
            same(elementwise(mixed, a, b), (a * b + (a << np.dtype(dtype).type(3))) ^ (a >> np.dtype(dtype).type(1)))
        assert bits


def test_umulhi():
    @triton.jit
    def high(a, b):
        return tl.umulhi(a, b)

    for dtype in (np.uint32, np.uint64):
        bits = 8 * np.dtype(dtype).itemsize
        a, b = (rng.integers(0, 2**bits, N, dtype=dtype, endpoint=False) if bits == 32 else
                rng.integers(0, 2**64, N, dtype=np.uint64, endpoint=False) for _ in range(2))
        expected = [int(p) * int(q) >> bits for p, q in zip(a, b, strict=True)]
        assert elementwise(high, a, b).tolist() == expected


@pytest.mark.parametrize("loud", [False, True])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_in_extremes(dtype, loud):
    x = np.array([np.nan, 1, -np.inf, 2], dtype)
    y = np.array([3, np.nan, np.nan, -5], dtype)
    with np.errstate(all="ignore"):
        expected = (np.maximum if loud else np.fmax)(x.astype(np.float64), y.astype(np.float64))
        same(elementwise(_loudest if loud else _largest, x, y), expected)
        same(elementwise(_clamped if loud else _clipped, x), (np.clip if loud else lambda v, a, b: np.fmin(
            np.fmax(v, a), b))(x.astype(np.float64), -1, 1))


@triton.jit
def _largest(x, y):
    return tl.maximum(x, y)


@triton.jit
def _loudest(x, y):
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _clipped(x):
    return tl.clamp(x.to(tl.float32), -1.0, 1.0)


@triton.jit
def _clamped(x):
    return tl.clamp(x.to(tl.float32), -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL)


SCALE = tl.constexpr(0.1)


@triton.jit
def constants(x):
    y = tl.exp(SCALE * x)
    return (SCALE + y).to(x.dtype) * 2


def test_constants_take_the_type_of_the_tensor():
    x = normal(N, dtype=np.float64)
    np.testing.assert_allclose(elementwise(constants, x), (0.1 + np.exp(0.1 * x)) * 2, rtol=1e-15)


@triton.jit
def fused(x, y, z):
    return tl.fma(x, y, z)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_rounds_once(dtype):
    x = normal(N, dtype=dtype)
    y = normal(N, dtype=dtype)
    z = -(x * y)
    from fractions import Fraction

    expected = [float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))) for a, b, c in zip(x, y, z, strict=True)]
    same(elementwise(fused, x, y, z), np.array(expected).astype(dtype))


# --- mathematics ---

@triton.jit
def _tl_math(x):
    y = tl.abs(x)
    a = tl.exp(x) + tl.log(y + 1) + tl.sqrt(y) + tl.rsqrt(y + 1) + tl.sin(x) + tl.cos(x) + tl.sigmoid(x)
    return a + tl.exp2(x) + tl.log2(y + 1) + tl.floor(x) + tl.ceil(x) + tl.math.erf(x)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_tl_math(dtype, tolerance):
    x = normal(N, dtype=dtype)
    y, erf = np.abs(x), np.vectorize(math.erf)(x)
    ref = np.exp(x) + np.log(y + 1) + np.sqrt(y) + (y + 1)**-.5 + np.sin(x) + np.cos(x) + 1 / (1 + np.exp(-x))
    ref = ref + np.exp2(x) + np.log2(y + 1) + np.floor(x) + np.ceil(x) + erf
    np.testing.assert_allclose(elementwise(_tl_math, x), ref, rtol=tolerance, atol=tolerance)


UNARY = {
    "tanh": np.tanh, "erf": math.erf, "erfc": math.erfc, "expm1": np.expm1, "log1p": np.log1p, "sinh": np.sinh,
    "cosh": np.cosh, "asinh": np.arcsinh, "tan": np.tan, "atan": np.arctan, "lgamma": math.lgamma, "tgamma": math.gamma,
    "exp10": lambda x: 10**x, "cbrt": np.cbrt, "rint": np.rint, "nearbyint": np.rint, "trunc": np.trunc, "floor": np.floor,
    "ceil": np.ceil, "round": lambda x: math.copysign(math.floor(abs(x) + 0.5), x), "exp": np.exp, "exp2": np.exp2,
    "sin": np.sin, "cos": np.cos,
}
INSIDE = {"asin": np.arcsin, "acos": np.arccos, "atanh": np.arctanh, "log": np.log, "log2": np.log2, "log10": np.log10,
          "sqrt": np.sqrt, "rsqrt": lambda x: x**-.5}
BINARY = {"atan2": np.arctan2, "pow": lambda x, y: np.abs(x)**y, "hypot": np.hypot, "fmod": np.fmod,
          "remainder": math.remainder, "copysign": np.copysign, "nextafter": np.nextafter, "div_rn": np.divide}


@kernel
def call_unary(x, out, B: tl.constexpr, NAME: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    r = getattr(libdevice, NAME)(v)
    tl.static_assert(r.dtype == v.dtype)
    tl.store(out + i, r)


@kernel
def call_binary(x, y, out, B: tl.constexpr, NAME: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    r = getattr(libdevice, NAME)(v, tl.load(y + i))
    tl.static_assert(r.dtype == v.dtype)
    tl.store(out + i, r)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*UNARY, *INSIDE])
def test_libdevice(name, dtype):
    x = normal(16, dtype=dtype)
    if name in INSIDE or name in ("log1p", "tgamma"):
        x = np.clip(np.abs(x), 0.01, 0.99)
    out = new(16, dtype)
    call_unary.bind(B=16, NAME=name)(1, 1, 1, dev(x), out)
    ref = np.vectorize({**UNARY, **INSIDE}[name], otypes=[np.float64])(x.astype(np.float64))
    np.testing.assert_allclose(host(out), ref.astype(dtype), rtol=3e-16 if dtype == np.float64 else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BINARY)
def test_libdevice_of_two(name, dtype):
    x, y = normal(16, dtype=dtype), normal(16, dtype=dtype)
    if name == "pow":
        x = np.abs(x)
    out = new(16, dtype)
    call_binary.bind(B=16, NAME=name)(1, 1, 1, dev(x), dev(y), out)
    if name == "nextafter":
        same(host(out), np.nextafter(x, y))
        return
    ref = np.vectorize(BINARY[name], otypes=[np.float64])(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(host(out), ref.astype(dtype), rtol=3e-16 if dtype == np.float64 else 0)


@triton.jit
def _erf(x):
    return tl.math.erf(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_of_many(dtype):
    x = np.r_[normal(4088) * 2, 0, -0.0, np.nan, np.inf, -np.inf, 1e-30, 4, 100].astype(dtype)
    ref = np.array([math.erf(v) for v in x.tolist()]).astype(dtype)
    np.testing.assert_allclose(elementwise(_erf, x), ref, rtol=0 if dtype == np.float32 else 4e-16)


@triton.jit
def _special(x):
    v = libdevice.isnan(x).to(tl.int32) + 2 * libdevice.isinf(x).to(tl.int32) + 4 * libdevice.signbit(x).to(tl.int32)
    return v + 8 * libdevice.finitef(x).to(tl.int32)


@triton.jit
def _inverse(x):
    return libdevice.erf(libdevice.erfinv(x))


@triton.jit
def _bits(x):
    return libdevice.popc(x) + 100 * libdevice.clz(x) + 10000 * libdevice.ffs(x)


@triton.jit
def _power(x):
    return libdevice.pow(x, 3)


def test_libdevice_tests_bits_and_inverses():
    x = np.array([np.nan, np.inf, -np.inf, -1], np.float32)
    assert (elementwise(_special, x, dtype=np.int32) & 7).tolist() == [1, 2, 6, 4]
    x = np.linspace(-0.99, 0.99, N).astype(np.float32)
    np.testing.assert_allclose(elementwise(_inverse, x), x, rtol=2e-6)
    assert elementwise(_bits, np.array([1, 12, 0, -1], np.int32)).tolist() == [13101, 32802, 3200, 10032]
    np.testing.assert_allclose(elementwise(_power, x), x.astype(np.float64)**3, rtol=1e-6)


# --- matrices ---

@kernel
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), c.dtype.element_ty)
    for k in range(0, K, BK):
        x = tl.load(a + rm[:, None] * K + (k + rk)[None, :], mask=(rm < M)[:, None] & ((k + rk) < K)[None, :], other=0)
        y = tl.load(b + (k + rk)[:, None] * N + rn[None, :], mask=((k + rk) < K)[:, None] & (rn < N)[None, :], other=0)
        acc = tl.dot(x, y, acc, input_precision=PRECISION, out_dtype=c.dtype.element_ty)
    tl.store(c + rm[:, None] * N + rn[None, :], acc, mask=(rm < M)[:, None] & (rn < N)[None, :])


@pytest.mark.parametrize("dtype, precision, lowest, highest", [
    (np.dtype(np.float32), "ieee", 0, 1e-6), (np.dtype(np.float32), "tf32", 2e-5, 1e-3),
    (np.dtype(np.float32), "tf32x3", 0, 2e-6), (np.dtype(np.float16), "ieee", 0, 1e-6), (BF16, "ieee", 0, 1e-6),
    (np.dtype(np.int8), "ieee", 0, 0)], ids=str)
def test_dot(dtype, precision, lowest, highest):
    a, b = (normal(40, 70) * 3).astype(dtype), (normal(70, 20) * 3).astype(dtype)
    out = new((40, 20), np.int32 if dtype.kind == "i" else np.float32)
    matmul.bind(BM=32, BN=32, BK=32, PRECISION=precision)(2, 1, 1, dev(a), dev(b), out, 40, 20, 70)
    ref = a.astype(np.float64) @ b.astype(np.float64)
    error = np.abs(host(out) - ref).max() / np.abs(ref).max()
    assert lowest <= error <= highest


@kernel
def batched(a, b, out, Z: tl.constexpr, M: tl.constexpr):
    i = tl.arange(0, Z)[:, None, None] * M * M + tl.arange(0, M)[None, :, None] * M + tl.arange(0, M)[None, None, :]
    tl.store(out + i, tl.dot(tl.load(a + i), tl.trans(tl.load(b + i), 0, 2, 1), input_precision="ieee"))


def test_batched_dot_and_trans():
    a, b, out = normal(2, 16, 16), normal(2, 16, 16), new((2, 16, 16))
    batched.bind(Z=2, M=16)(1, 1, 1, dev(a), dev(b), out)
    np.testing.assert_allclose(host(out), a @ b.swapaxes(1, 2), atol=1e-5)


@kernel
def small_dot(a, out, B: tl.constexpr):
    i = tl.arange(0, B)[:, None] * B + tl.arange(0, B)[None, :]
    x = tl.load(a + i)
    tl.store(out + i, tl.dot(x, x))


def test_a_product_too_small_for_the_machine_is_refused():
    with pytest.raises(AssertionError):
        small_dot.bind(B=4)(1, 1, 1, dev(normal(4, 4)), new((4, 4)))


# --- along a dimension ---

@kernel
def reductions(x, out, where, N: tl.constexpr):
    r = tl.program_id(0)
    v = tl.load(x + r * N + tl.arange(0, N))
    tl.store(out + r * 4, tl.sum(v))
    tl.store(out + r * 4 + 1, tl.max(v))
    tl.store(out + r * 4 + 2, tl.min(v, axis=0))
    tl.store(out + r * 4 + 3, tl.sum(v * v, axis=0))
    tl.store(where + r * 3, tl.argmax(v, 0))
    tl.store(where + r * 3 + 1, tl.argmin(v, 0))
    tl.store(where + r * 3 + 2, tl.argmax(v, 0, tie_break_left=False))


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(np.int32)], ids=str)
def test_reductions(dtype):
    x = (normal(3, N) * 1.5).clip(-3, 3).round().astype(dtype)
    out, where = new((3, 4), np.float64), new((3, 3), np.int32)
    reductions.bind(N=N)(3, 1, 1, dev(x), out, where)
    got, at, wide = host(out), host(where), x.astype(np.float64)
    same(at[:, :2], np.stack([wide.argmax(1), wide.argmin(1)], 1))
    same(wide[np.arange(3), at[:, 2]], wide.max(1))
    assert (at[:, 2] > at[:, 0]).any()  # ties broken in any way are broken in the other way
    np.testing.assert_allclose(got[:, :3], np.stack([wide.sum(1), wide.max(1), wide.min(1)], 1), rtol=1e-2)


def test_nan_in_reductions():
    x = np.zeros((1, N), np.float32)
    x[0, [5, 7, 9]] = np.nan, 3, 3
    out, where = new((1, 4), np.float64), new((1, 3), np.int32)
    reductions.bind(N=N)(1, 1, 1, dev(x), out, where)
    assert np.isnan(host(out)[0, 0]) and host(out)[0, 1] == 3
    reductions.bind(N=N)(1, 1, 1, dev(x * np.nan), out, where)


@triton.jit
def _welford(m1, s1, n1, m2, s2, n2):
    n = n1 + n2
    d = m2 - m1
    return m1 + d * n2 / n, s1 + s2 + d * d * n1 * n2 / n, n


@triton.jit
def _largest_with_nan(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _linear(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@kernel
def moments(x, out, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    v = tl.load(x + i * N + j)
    mean, squares, count = tl.reduce((v, tl.zeros_like(v), tl.full((M, N), 1.0, tl.float32)), 1, _welford)
    k = tl.arange(0, M)
    tl.store(out + k, mean)
    tl.store(out + M + k, squares / count)
    tl.store(out + 2 * M + k, tl.reduce(v, 1, _largest_with_nan))
    tl.store(out + 3 * M + tl.arange(0, N), tl.sum(v, axis=0, keep_dims=True).reshape(N))


def test_combining_functions():
    x, out = normal(4, 32), new(4 * 3 + 32)
    moments.bind(M=4, N=32)(1, 1, 1, dev(x), out)
    got = host(out)
    np.testing.assert_allclose(got[:8], np.r_[x.mean(1), x.var(1)], atol=1e-6)
    same(got[8:12], x.max(1))
    np.testing.assert_allclose(got[12:], x.sum(0), atol=1e-6)
    x[2, 3] = np.nan
    moments.bind(M=4, N=32)(1, 1, 1, dev(x), out)
    assert np.isnan(host(out)[10])


@kernel
def scans(x, y, out, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    tl.store(out + i, tl.cumsum(v, 0))
    tl.store(out + N + i, tl.associative_scan(v, 0, _largest_with_nan))
    tl.store(out + 2 * N + i, tl.cumsum(v, 0, reverse=True))
    tl.store(out + 3 * N + i, tl.cumprod(v * 0.1 + 1, 0))
    _, b = tl.associative_scan((v, tl.load(y + i)), 0, _linear)
    tl.store(out + 4 * N + i, b)


def test_scans():
    x, y, out = normal(N) * 0.5, normal(N), new((5, N))
    scans.bind(N=N)(1, 1, 1, dev(x), dev(y), out)
    h, linear = 0.0, []
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        h = a * h + b
        linear.append(h)
    ref = [x.cumsum(), np.maximum.accumulate(x), x[::-1].cumsum()[::-1], (x * 0.1 + 1).cumprod(), linear]
    np.testing.assert_allclose(host(out), ref, atol=1e-5)


@kernel
def sorts(x, out, N: tl.constexpr, K: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    tl.store(out + i, tl.sort(v))
    tl.store(out + N + i, tl.sort(v, descending=True))
    tl.store(out + 2 * N + i, tl.flip(v, 0))
    tl.store(out + 3 * N + tl.arange(0, K), tl.topk(v, K))
    s = tl.sort(tl.reshape(v, (4, N // 4)), dim=1)
    tl.store(out + 4 * N + i, tl.ravel(s))


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(np.int32)], ids=str)
def test_sorts(dtype):
    x, out = (normal(N) * 9).astype(dtype), new((5, N), dtype)
    sorts.bind(N=N, K=8)(1, 1, 1, dev(x), out)
    up = np.sort(x.astype(np.float64))
    got = host(out)
    same(got[:3], [up, up[::-1], x[::-1].astype(np.float64)])
    same(got[3, :8], up[::-1][:8])
    same(got[4], np.sort(x.astype(np.float64).reshape(4, -1), 1).reshape(-1))


@kernel
def picks(x, index, out, counts, N: tl.constexpr, BINS: tl.constexpr):
    i = tl.arange(0, N)
    j = tl.load(index + i)
    tl.store(out + i, tl.gather(tl.load(x + i), j, 0))
    tl.store(counts + tl.arange(0, BINS), tl.histogram(j, BINS))


def test_gather_and_histogram():
    x, j = normal(N), rng.integers(0, N, N).astype(np.int32)
    out, counts = new(N), new(16, np.int32)
    picks.bind(N=N, BINS=16)(1, 1, 1, dev(x), dev(j), out, counts)
    same(host(out), x[j])
    same(host(counts), np.bincount(j[j < 16], minlength=16))


@kernel
def shapes(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    a = tl.reshape(v, (2, N // 2))
    one, two = tl.split(tl.join(v, v + 1))
    tl.store(out + i, tl.ravel(tl.permute(a, (1, 0))) + tl.ravel(tl.trans(a)))
    tl.store(out + N + tl.arange(0, 2 * N), tl.interleave(one, two))
    tl.store(out + 3 * N + i, tl.sum(tl.broadcast_to(tl.expand_dims(v, 1), (N, 2)), axis=1))
    tl.store(out + 4 * N + i, tl.where(v > 0, v, 0.0).to(tl.int32, bitcast=True).to(tl.float32, bitcast=True))


def test_shapes():
    x, out = normal(N), new((5, N))
    shapes.bind(N=N)(1, 1, 1, dev(x), out)
    got = host(out)
    same(got[0], 2 * x.reshape(2, -1).T.reshape(-1))
    same(got[1:3].reshape(-1), np.stack([x, x + 1], 1).reshape(-1))
    same(got[3], 2 * x)
    same(got[4], np.maximum(x, 0))


# --- random numbers ---

def philox(seed, counter, rounds=10):
    """Philox4x32-10 (Salmon et al. 2011), word by word."""
    c = [counter, 0, 0, 0]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(rounds):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@kernel
def draws(words, out, seed: "i64", B: tl.constexpr):
    i = tl.arange(0, B)
    a, b, c, d = tl.randint4x(seed, i)
    tl.store(words + i * 4, a)
    tl.store(words + i * 4 + 1, b)
    tl.store(words + i * 4 + 2, c)
    tl.store(words + i * 4 + 3, d)
    tl.store(out + i, tl.rand(seed, i))
    tl.store(out + B + i, tl.randn(seed, i))


@pytest.mark.parametrize("seed", [42, 123456789012345])
def test_philox(seed):
    words, out = new((16, 4), np.int32), new(32)
    draws.bind(B=16)(1, 1, 1, words, out, seed)
    same(host(words).view(np.uint32), [philox(seed, i) for i in range(16)])
    assert host(out)[:16].min() >= 0 and host(out)[:16].max() < 1


# --- memory ---

@kernel
def atomics(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.atomic_add(out + i % 4, tl.load(x + i, mask=i < n, other=0), mask=i < n)


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(np.int32)], ids=str)
def test_atomic_add(dtype):
    x, out = (normal(100) * 2).astype(dtype), new(4, dtype)
    atomics.bind(B=32)(4, 1, 1, dev(x), out, 100)
    ref = [x[i::4].astype(np.float64).sum() for i in range(4)]
    np.testing.assert_allclose(host(out).astype(np.float64), ref, atol=0.3 if dtype.itemsize == 2 else 1e-4)


@kernel
def more_atomics(out, floats, B: tl.constexpr):
    p = tl.program_id(0)
    tl.atomic_max(out, p)
    tl.atomic_min(out + 1, p)
    tl.atomic_or(out + 2, 1 << p)
    tl.atomic_xchg(out + 3, p)
    tl.atomic_cas(out + 4, 0, p + 7)
    tl.atomic_and(out + 5, ~(1 << p))
    tl.atomic_xor(out + 6, 1 << p)
    tl.atomic_max(floats, p.to(tl.float32) - 2.5)
    while tl.atomic_cas(out + 7, 0, 1) == 1:
        pass
    tl.store(floats + 1, tl.load(floats + 1) + 1)
    tl.debug_barrier()
    tl.atomic_xchg(out + 7, 0)


def test_other_atomics():
    out, floats = dev(np.array([-1, 99, 0, 0, 0, -1, 0, 0], np.int32)), dev(np.array([-9, 0], np.float32))
    more_atomics.bind(B=1)(4, 1, 1, out, floats)
    assert host(out).tolist() == [3, 0, 15, 3, 7, -16, 15, 0]
    assert host(floats).tolist() == [0.5, 4]


@kernel
def descriptors(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BM, BN])
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    target.store([i, j], source.load([i, j]) * 2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_descriptors(dtype):
    x, out = normal(20, 24, dtype=dtype), new((20, 24), dtype)
    descriptors.bind(BM=16, BN=16)(2, 2, 1, dev(x), out, 20, 24)
    same(host(out), x.astype(np.float64) * 2)


@kernel
def masked(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    b = tl.load(x + i, mask=i < n, other=False, cache_modifier=".cg", eviction_policy="evict_first")
    tl.store(out + i, b & (i >= 2))


def test_booleans_and_masks():
    x, out = rng.integers(0, 2, 50).astype(bool), dev(np.ones(64, bool))
    masked.bind(B=64)(1, 1, 1, dev(x), out, 50)
    got = host(out)
    same(got[2:50], x[2:])
    assert not got[:2].any() and not got[50:].any()


def test_loads_without_other_have_no_value():
    @kernel
    def careless(x, out, n, B: tl.constexpr):
        i = tl.arange(0, B)
        tl.store(out + i, tl.load(x + i, mask=i < n))

    out = new(16)
    careless.bind(B=16)(1, 1, 1, dev(normal(10)), out, 10)
    assert np.isnan(host(out)[10:]).all()


@kernel
def shift(x, out, n, by, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i + by, mask=i < n, other=0), mask=i < n)


def test_bounds():
    x, out = dev(normal(1000)), new(1000)
    shift.bind(B=128)(8, 1, 1, x, out, 1000, 0)
    with pytest.raises(IndexError, match=r"shift, program \(7, 0, 0\): load of 4 bytes: 24 of 104 lanes outside .*, "
                                         r"0 bytes past the end of a block of 4000 bytes"):
        shift.bind(B=128)(8, 1, 1, x, out, 1000, 24)
    with pytest.raises(IndexError, match=r"program \(0, 0, 0\): load of 4 bytes: 3 of 128 lanes .* before a block of 4000"):
        shift.bind(B=128)(8, 1, 1, x, out, 1000, -3)
    with pytest.raises(IndexError, match="store of 4 bytes"):
        shift.bind(B=128)(8, 1, 1, x, new(990), 1000, 0)
    odd = DeviceArray(x.owner, x.ptr + 2, (900,), x.dtype)
    with pytest.raises(IndexError, match="misaligned"):
        shift.bind(B=128)(1, 1, 1, odd, out, 100, 0)
    atomics.bind(B=128)(1, 1, 1, x, out, 128)
    with pytest.raises(IndexError, match="atomic of 4 bytes"):
        atomics.bind(B=128)(1, 1, 1, x, new(1), 128)


def test_freed_memory_is_out_of_bounds():
    x, out = dev(normal(100)), new(100)
    owner = types.SimpleNamespace(ptr=out.ptr, nbytes=400, device=0, stream=out.owner.stream)
    stale = DeviceArray(owner, out.ptr, out.shape, out.dtype)
    shift.bind(B=128)(1, 1, 1, x, stale, 100, 0)
    del out
    with pytest.raises(IndexError, match="store of 4 bytes: .*outside every live allocation"):
        shift.bind(B=128)(1, 1, 1, x, stale, 100, 0)


@kernel
def pointers(table, sizes, out, by, B: tl.constexpr):
    p = tl.program_id(0)
    source = tl.load(table + p).to(tl.pointer_type(tl.float32))
    i = tl.arange(0, B)
    n = tl.load(sizes + p)
    tl.store(out + p * B + i, tl.load(source + i + by, mask=i < n, other=0))


def test_tables_of_pointers():
    xs = [normal(n) for n in (3, 16, 9)]
    arrays, out = [dev(x) for x in xs], new((3, 16))
    table, sizes = dev(np.array([a.ptr for a in arrays])), dev(np.array([3, 16, 9], np.int32))
    pointers.bind(B=16)(3, 1, 1, table, sizes, out, 0)
    same(host(out), [np.pad(x, (0, 16 - len(x))) for x in xs])
    with pytest.raises(IndexError):
        pointers.bind(B=16)(3, 1, 1, table, sizes, out, 200)


# --- races ---

@kernel
def racy(x, out, B: tl.constexpr, KIND: tl.constexpr):
    p = tl.program_id(0)
    i = tl.arange(0, B)
    if KIND == "write":
        tl.store(out + i + p * (B - 1), tl.load(x + i))
    elif KIND == "read":
        tl.store(out + p * B + i, tl.load(out + (p + 1) % 2 * B + i))
    elif KIND == "lanes":
        tl.store(out + i // 2, i.to(tl.float32))
    elif KIND == "atomic":
        tl.atomic_add(out + i, 1.0)
    elif KIND == "waits":
        tl.store(out + p * B + i, tl.load(x + i))
        if tl.atomic_add(out + 2 * B, 1.0) == 1:
            tl.store(out + 3 * B + i, tl.load(out + i) + tl.load(out + B + i))
    else:
        tl.store(out + p * B + i, tl.load(x + i) + tl.load(out + p * B + i))


@pytest.mark.parametrize("kind, fails", [("write", True), ("read", True), ("lanes", True), ("atomic", False),
                                         ("waits", False), ("apart", False)])
def test_races(kind, fails):
    from tritium.kernels.runtime.emulation import races

    x, out = dev(normal(16)), new(80)
    launch = lambda: racy.bind(B=16, KIND=kind)(2, 1, 1, x, out)
    with races.checking():
        if fails:
            with pytest.raises(races.RaceError, match="racy"):
                launch()
        else:
            launch()
    with races.checking(False):
        launch()


# --- errors, threads ---

@kernel
def broken(out, n, B: tl.constexpr):
    if tl.program_id(0) == n:
        tl.device_assert(tl.program_id(0) != n, "no such luck")
        tl.store(out, undefined_name)  # noqa: F821


def test_errors_are_themselves():
    with pytest.raises(AssertionError, match="no such luck") as caught:
        broken.bind(B=1)(4, 1, 1, new(1), 2)
    assert caught.value.__notes__ == ["in kernel test_emulation.broken, program (2, 0, 0) of (4, 1, 1)"]
    out = new(1)
    total.bind(B=N)(1, 1, 1, dev(np.ones(N, np.float32)), out)
    assert host(out)[0] == N


def test_an_interrupt_leaves_a_working_device(monkeypatch):
    from tritium.kernels.runtime.emulation.builder import Builder, builder

    x, out = dev(np.ones(N, np.float32)), new(1)

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Builder, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            total.bind(B=N)(1, 1, 1, x, out)
    assert builder.launch is None
    total.bind(B=N)(1, 1, 1, x, out)
    assert host(out)[0] == N


def test_launches_of_several_threads():
    x = normal(1000)
    outs = [new(1000) for _ in range(4)]
    threads = [threading.Thread(target=lambda o=o: [persistent.bind(B=256)(2, 1, 1, dev(x), o, 1000) for _ in range(5)])
               for o in outs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for o in outs:
        same(host(o), x * 3)


def test_no_warnings(recwarn):
    @triton.jit
    def wild(x):
        return (tl.log(x) + x / 0.0 + tl.exp(x * 1000)).to(tl.float16)

    elementwise(wild, np.array([-1, 0, 1e30, np.nan], np.float32), dtype=np.float16)
    assert not recwarn.list


