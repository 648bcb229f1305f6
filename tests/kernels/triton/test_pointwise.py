"""Pointwise kernels on the device against NumPy's: every op over its dtypes with special values, layouts, casts."""
from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import pointwise as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = np.dtype("f2"), np.dtype("f4"), np.dtype("f8")
FLOATS = [F16, BF16, F32, F64]
SIGNED = [np.dtype(t) for t in ("i1", "i2", "i4", "i8")]
UNSIGNED = [np.dtype(t) for t in ("u1", "u2", "u4", "u8")]
BOOL = np.dtype("?")
EXACT = {F32: 0.0, F64: 0.0, F16: 0.0, BF16: 0.0}
CLOSE = {F32: 5e-7, F64: 4e-15, F16: 1e-3, BF16: 8e-3}  # 4 ulp; 1 of the 16-bit types


@pytest.fixture(scope="module")
def k():
    from tritium.kernels.triton import pointwise

    return pointwise


@pytest.fixture
def small_blocks():
    """Several programs, a ragged last one among them, also for small arrays."""
    from tritium.kernels.triton import elementwise

    elementwise.force_block_size(64)
    yield
    elementwise.force_block_size(0)


def to(a):
    """A view of an array on the device, with the same strides."""
    from tritium.kernels.triton import memory

    base = a
    while isinstance(base.base, np.ndarray):
        base = base.base
    there = memory.from_host(base)
    assert there.strides == base.strides or base.size <= 1
    return there.look(there.ptr + a.ctypes.data - base.ctypes.data, a.shape, a.strides, a.dtype)


def special(dtype):
    """Numbers that ops go wrong at."""
    if dtype == BOOL:
        return np.array([False, True, True, False])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([0, 1, 2, 3, 5, 7, 12, 31, 64, 100, info.max, info.max - 1, info.min, info.min + 1,
                         *([-1, -2, -3, -8, -17] if dtype.kind == "i" else [])], dtype)
    info = ml_dtypes.finfo(dtype)
    tiny = float(info.smallest_normal)
    values = [0.0, 1.0, 0.5, 2.0, 3.0, 0.1, 1.5, 2.5, 7.0, 0.99, 1.01, 1e-3, 20.3, 88.0, 700.0, 1e4, float(info.max),
              tiny, tiny / 4, np.inf]
    with np.errstate(all="ignore"):
        return np.array([*values, *[-v for v in values], np.nan]).astype(dtype)


def pairs(dtype):
    x = special(dtype)
    a, b = np.meshgrid(x, x)
    return np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)


def agree(got, want, close=0.0, signs=True, what=""):
    """Same dtype, shape and numbers; nan where nan is; the same sign of zero where there is no tolerance."""
    got = got.to_host() if hasattr(got, "to_host") else got
    assert got.dtype == want.dtype and got.shape == want.shape, (what, got.dtype, want.dtype, got.shape, want.shape)
    if got.dtype.kind not in "fV":
        np.testing.assert_array_equal(got, want, str(what))
        return
    x, y = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(all="ignore"):
        bad = np.isnan(x) != np.isnan(y)
        tiny = float(ml_dtypes.finfo(want.dtype).smallest_normal)
        bad |= ~(np.isnan(y) | (x == y) | (np.abs(x - y) <= close * np.maximum(np.abs(y), tiny)))
        if signs and not close:
            bad |= ~np.isnan(y) & (np.signbit(x) != np.signbit(y))
    assert not bad.any(), (what, np.flatnonzero(bad)[:5], x[bad][:5], y[bad][:5])


PLAIN = """neg abs sign sgn relu floor ceil trunc round frac square sqrt reciprocal isnan isinf isfinite isposinf isneginf
 signbit logical_not conj deg2rad rad2deg""".split()
INTEGER = "neg abs sign sgn relu floor ceil trunc round square isnan isinf isfinite isposinf isneginf signbit".split() + [
    "logical_not", "bitwise_not", "conj"]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_unary_floats(k, dtype):
    x = special(dtype)
    a = to(x)
    for name in reference.UNARY:
        if name == "bitwise_not":
            continue
        want = reference.unaries[name](x)
        agree(k.unaries[name](a), want, 0.0 if name in PLAIN else CLOSE[dtype], name not in ("sign", "sgn", "relu"), name)


@pytest.mark.parametrize("dtype", [*SIGNED[::3], *UNSIGNED[::3], BOOL], ids=str)
def test_unary_integers(k, dtype):
    x = special(dtype)
    a = to(x)
    for name in INTEGER:
        if dtype == BOOL and name in ("neg", "relu", "sign", "sgn", "floor", "ceil", "trunc", "conj"):
            continue
        if name == "sign" and dtype.kind == "u":
            continue
        agree(k.unaries[name](a), reference.unaries[name](x), what=name)


def test_the_same_names(k):
    for table in ("unaries", "binaries", "low_binaries"):
        assert set(getattr(k, table)) == set(getattr(reference, table))
    for name in ("into", "where", "clamp", "lerp", "addcmul", "addcdiv", "cast"):
        assert callable(getattr(k, name))


def test_unary_floats_only(k):
    from tritium.kernels.array import NoKernel

    for name in ("exp", "sqrt", "sigmoid"):
        with pytest.raises(NoKernel, match=name):
            k.unaries[name](to(np.arange(3)))
    with pytest.raises(NoKernel, match="complex"):
        k.unaries["neg"](to(np.ones(3, np.complex64)))


ROUNDED = """add sub mul div floor_divide trunc_divide remainder fmod maximum minimum fmax fmin copysign nextafter heaviside
 eq ne lt le gt ge logical_and logical_or logical_xor""".split()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_binary_floats(k, dtype):
    x, y = pairs(dtype)
    a, b = to(x), to(y)
    table = reference.low_binaries if dtype in (F16, BF16) else reference.binaries
    for name in reference.BINARY:
        if name in k.WHOLE_ONLY:
            continue
        with np.errstate(all="ignore"):
            want = table[name](x, y)
        if want.dtype != (BOOL if name in k.BOOLEAN else dtype):
            want = want.astype(dtype)
        close = 0.0 if name in ROUNDED else CLOSE[dtype]
        agree(k.binaries[name](a, b), want, close, "max" not in name and "min" not in name, name)


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED], ids=str)
def test_binary_integers(k, dtype):
    x, y = pairs(dtype)
    a, b = to(x), to(y)
    divisor = np.where(y == 0, y.dtype.type(3), y)
    for name in reference.BINARY:
        if name in k.FLOATS_ONLY or name == "pow":
            continue
        second = divisor if name in ("floor_divide", "trunc_divide", "remainder", "fmod") else y
        with np.errstate(all="ignore"):
            want = reference.binaries[name](x, second).astype(BOOL if name in k.BOOLEAN else dtype)
        if name == "int_pow":  # NumPy's negative powers come from Python's numbers
            x1, keep = x, (y >= 0) | (np.abs(x) <= 1)
            agree(k.binaries[name](to(x1[keep]), to(y[keep])), want[keep], what=name)
        else:
            agree(k.binaries[name](a, to(second)), want, what=name)
    assert k.binaries["floor_divide"](a, b).shape == a.shape  # by zero: any number, but no fault


def test_binary_bool(k):
    x, y = pairs(BOOL)
    for name in """add mul maximum minimum fmax fmin bitwise_and bitwise_or bitwise_xor eq ne lt le gt ge logical_and
                   logical_or logical_xor""".split():
        agree(k.binaries[name](to(x), to(y)), reference.binaries[name](x, y), what=name)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_binary_numbers(k, dtype):
    """A number is rounded to the type of the computation, not to 16 bits, and may come first."""
    x = special(dtype)
    a = to(x)
    table = reference.low_binaries if dtype in (F16, BF16) else reference.binaries
    for name, value in itertools.product(("add", "sub", "mul", "div", "lt", "maximum"), (3, 0.1, 1 / 3)):
        agree(k.binaries[name](a, value), table[name](x, value), what=(name, value))
        agree(k.binaries[name](value, a), table[name](value, x), what=(value, name))
    for value in (np.float32(0.1), np.array(0.25, dtype), np.array(2, np.int64)):
        agree(k.binaries["mul"](a, value), table["mul"](x, value.item()))
    agree(k.binaries["pow"](2.0, a), table["pow"](2.0, x), CLOSE[dtype])


def test_integer_numbers(k):
    x = special(np.dtype("i1"))
    for name, value in itertools.product(k.COMPARISONS, (0, -3, 300, -2**40, 2**70, -2**70)):
        agree(k.binaries[name](to(x), value), np.asarray(reference.binaries[name](x.astype(object), value)).astype(bool))
        agree(k.binaries[name](value, to(x)), np.asarray(reference.binaries[name](value, x.astype(object))).astype(bool))
    u = special(np.dtype("u8"))
    for value in (2**63 + 5, -1, 0, 2**64 - 1):
        agree(k.binaries["le"](to(u), value), u.astype(object) <= value)
    y = special(np.dtype("i8"))
    agree(k.binaries["add"](to(y), 2**62 + 1), reference.binaries["add"](y, np.array(2**62 + 1)))
    agree(k.binaries["sub"](5, to(y)), reference.binaries["sub"](np.array(5), y))
    agree(k.binaries["int_pow"](to(y), 3), reference.binaries["int_pow"](y, np.array(3)))
    agree(k.binaries["mul"](to(special(BOOL)), True), special(BOOL))


def test_compare_mixed_integers(k):
    for s, t in (("u1", "i1"), ("u4", "i4"), ("i8", "u1"), ("?", "i2"), ("i2", "?")):
        x, y = np.meshgrid(special(np.dtype(s)), special(np.dtype(t)))
        for name in k.COMPARISONS:
            agree(k.binaries[name](to(x), to(y)), reference.binaries[name](x, y), what=(s, t, name))
    from tritium.kernels.array import NoKernel

    with pytest.raises(NoKernel):
        k.binaries["lt"](to(np.zeros(3, "u8")), to(np.zeros(3, "i8")))


# --- layouts ---

def views(rng, dtype):
    """Arrays of one shape, (6, 5, 8), with all kinds of strides."""
    def fresh(*shape):
        return (rng.standard_normal(shape) * 9).astype(dtype)

    return {"plain": fresh(6, 5, 8), "transposed": fresh(8, 5, 6).T, "permuted": fresh(5, 6, 8).transpose(1, 0, 2),
            "channels last": fresh(6, 8, 5).transpose(0, 2, 1), "sliced": fresh(12, 5, 17)[::2, :, 1::2],
            "rows": np.broadcast_to(fresh(8), (6, 5, 8)), "column": np.broadcast_to(fresh(6, 1, 1), (6, 5, 8)),
            "middle": np.broadcast_to(fresh(5, 1), (6, 5, 8)), "one": np.broadcast_to(fresh(1)[0:1], (6, 5, 8)),
            "flipped": fresh(6, 5, 8)[::-1, :, ::-1], "offset": fresh(241)[1:].reshape(6, 5, 8),
            "part": fresh(6, 9, 8)[:, 2:7]}


def strides_like(shape, *operands):
    """The strides that PyTorch's rule gives a result, in elements."""
    from tritium.tensor.layout import dense_strides
    from tritium.tensor.ops.pointwise_rules import _spread

    return dense_strides(shape, *[tuple(abs(s) for s in _spread(x, shape)) for x in operands])


@pytest.mark.parametrize("dtype", [F32, BF16, np.dtype("i8")], ids=str)
@pytest.mark.parametrize("blocks", ["usual", "small"])
def test_layouts(k, dtype, blocks, request):
    if blocks == "small":
        request.getfixturevalue("small_blocks")
    made = views(np.random.default_rng(0), dtype)
    there = {name: to(x) for name, x in made.items()}
    for name, x in made.items():
        got = k.unaries["neg"](there[name])
        agree(got, np.negative(x), what=name)
        assert tuple(s // dtype.itemsize for s in got.strides) == strides_like(x.shape, x), name
    names = list(made) if blocks == "usual" else ["plain", "transposed", "rows", "flipped"]
    for p, q in itertools.product(names, names if dtype == F32 else ("plain", "rows")):
        got = k.binaries["sub"](there[p], there[q])
        agree(got, reference.low_binaries["sub"](made[p], made[q]), what=(p, q))
        assert tuple(s // dtype.itemsize for s in got.strides) == strides_like((6, 5, 8), made[p], made[q]), (p, q)


def test_shapes(k):
    """Broadcasting, emptiness, 0-d, size 1, shapes that do not fit."""
    rng = np.random.default_rng(1)
    for s, t in [((), ()), ((), (3,)), ((0,), (1,)), ((2, 0, 3), (3,)), ((1,), (5,)), ((4, 1), (1, 7)), ((1, 1), (1,)),
                 ((3, 1, 5), (4, 1)), ((2, 3), ()), ((64,), (64,)), ((33, 1), (33, 40))]:
        x, y = rng.standard_normal(s), rng.standard_normal(t)
        agree(k.binaries["add"](to(x), to(y)), np.asarray(x + y), what=(s, t))
        agree(k.binaries["lt"](to(y), to(x)), np.asarray(y < x), what=(s, t))
    with pytest.raises(ValueError, match="could not be broadcast together with shapes"):
        k.binaries["add"](to(np.ones((2, 3))), to(np.ones((2, 4))))


@pytest.mark.parametrize("dims", [5, 6, 7, 8])
def test_many_dimensions(k, dims):
    """More dimensions than a kernel takes are gone through one by one."""
    rng = np.random.default_rng(dims)
    shape = tuple([2, 3, 2, 2, 3, 2, 2, 3][:dims])
    x = rng.standard_normal([2 * n for n in shape])[tuple([slice(None, None, 2)] * dims)]
    y = rng.standard_normal(shape[::-1]).T
    agree(k.binaries["add"](to(x), to(y)), x + y)
    agree(k.addcmul(to(x), to(y), to(x), 2.0), reference.addcmul(x, y, x, 2.0), 1e-15)


def test_transposed_tiles(k, small_blocks):
    """Operands that are dense along different dimensions."""
    rng = np.random.default_rng(2)
    for shape in ((40, 37), (3, 40, 37), (2, 40, 3, 33)):
        x = rng.standard_normal(shape)
        y = rng.standard_normal(shape[:-2] + shape[:-3:-1]).swapaxes(-1, -2)
        agree(k.binaries["add"](to(x), to(y)), x + y)
        agree(k.binaries["add"](to(y), to(x)), x + y)
        agree(k.lerp(to(x), to(y), to(x)), reference.lerp(x, y, x), 1e-14)


def test_into(k, small_blocks):
    rng = np.random.default_rng(3)
    for dtype in (F32, F64, BF16):
        x, y = rng.standard_normal((2, 70)).astype(dtype)
        for name, second in itertools.product(("add", "mul", "div", "sub"), (y, 3, 0.5)):
            a = to(x)
            want = (reference.low_binaries if dtype == BF16 else reference.binaries)[name](x, second)
            k.into(name, a, to(y) if second is y else second, a)
            agree(a, want, what=(name, dtype))
    x = rng.standard_normal(100)
    for target, source in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None)), (slice(50), slice(49, None, -1))):
        host, there = x.copy(), to(x.copy())
        k.into("add", there[target], there[source], there[target])
        host[target] += x[source]
        agree(there, host)
    a = to(x.reshape(10, 10))
    k.into("mul", a, to(x[:10]), a)
    agree(a, x.reshape(10, 10) * x[:10])
    k.into("add", a, a.T, a)
    agree(a, x.reshape(10, 10) * x[:10] + (x.reshape(10, 10) * x[:10]).T)
    with pytest.raises(ValueError, match="non-broadcastable output"):
        k.into("add", to(x[:10]), to(x.reshape(10, 10)), to(x[:10]))


# --- choices, mixtures, casts ---

@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype("i4"), np.dtype("i8"), BOOL], ids=str)
def test_where(k, dtype):
    rng = np.random.default_rng(4)
    x, y = pairs(dtype)
    c = rng.integers(0, 2, x.shape).astype(bool)
    number = np.array(1, dtype)
    for p, q in ((x, y), (x, number), (number, y), (number, np.array(0, dtype))):
        there = [to(v) if v.ndim else v for v in (p, q)]
        agree(k.where(to(c), *there), reference.where(c, p, q))
    m = rng.integers(0, 2, (5, 1, 4)).astype(bool)
    p, q = np.resize(x, (3, 4)), np.resize(y, (5, 3, 1))
    agree(k.where(to(m), to(p), to(q)), reference.where(m, p, q))
    if dtype == F32:
        agree(k.where(to(c), 0.0, to(y)), reference.where(c, 0.0, y))
        agree(k.where(to(c.astype("u1")), to(x), 0.0), reference.where(c, x, 0.0))


@pytest.mark.parametrize("dtype", [F32, BF16, F64, np.dtype("i8"), np.dtype("u1")], ids=str)
def test_clamp(k, dtype):
    x, y = pairs(dtype)
    low, high = np.array(1, dtype), np.array(5, dtype)
    for p, q in ((low, high), (low, None), (None, high), (y, high), (low, y), (y, y), (y, None), (None, y)):
        there = [to(v) if v is not None and v.ndim else v for v in (p, q)]
        agree(k.clamp(to(x), *there), reference.clamp(x, p, q), signs=False, what=(p is y, q is y))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_mixtures(k, dtype):
    rng = np.random.default_rng(5)
    x, y, z = (rng.standard_normal((3, 30, 7)) * 3).astype(dtype)
    a, b, c = to(x), to(y), to(z)
    close = 3 * CLOSE[dtype]
    for weight, there in ((0.3, 0.3), (0.9, 0.9), (z, c), (z[:1], c[:1]), (np.array(0.7, dtype),) * 2, (1.0, 1.0)):
        agree(k.lerp(a, b, there), reference.lerp(x, y, weight), 20 * close)
    for value in (2, np.array(0.5, dtype)):
        agree(k.addcmul(a, b, c, value), reference.addcmul(x, y, z, value), 100 * close)
        agree(k.addcdiv(a, b, c, value), reference.addcdiv(x, y, z, value), 100 * close)
    agree(k.addcmul(a, b[:, :1], c[0], 1.5), reference.addcmul(x, y[:, :1], z[0], 1.5), 100 * close)


def test_mixtures_of_integers(k):
    x = special(np.dtype("i4"))
    agree(k.addcmul(to(x), to(x), to(x[::-1]), np.array(3, "i4")), reference.addcmul(x, x, x[::-1], np.array(3, "i4")))


def test_nan_to_num_and_isclose(k):
    for dtype in FLOATS:
        x, y = pairs(dtype)
        want = np.where(np.isnan(x), 1, np.where(x == np.inf, 2, np.where(x == -np.inf, 3, x))).astype(dtype)
        agree(k.nan_to_num(to(x), 1.0, 2.0, 3.0), want)
        wide = np.float32 if dtype.itemsize == 2 else dtype
        for nan in (False, True):
            with np.errstate(all="ignore"):
                want = np.isclose(x.astype(wide), y.astype(wide), 0.3, 0.2, nan)
            agree(k.isclose(to(x), to(y), 0.3, 0.2, nan), want)
    i = np.arange(9)
    agree(k.isclose(to(i), to(i[::-1]), 0.0, 1.5), np.isclose(i, i[::-1], 0, 1.5))
    agree(k.nan_to_num(to(i), 0.0, 0.0, 0.0), i)


def castable(dtype, target):
    """Numbers whose conversion is the same everywhere."""
    x = special(dtype)
    if dtype.kind in "fV" and target.kind in "iu":
        limit = min(2.0 ** (63 if target.itemsize < 8 else 8 * target.itemsize - 1), float(ml_dtypes.finfo(dtype).max))
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            x = x[np.abs(wide) < limit] if target.kind == "i" or target.itemsize < 8 else x[(wide > -1) & (wide < limit)]
    return x


@pytest.mark.parametrize("dtype", [*FLOATS, *SIGNED, *UNSIGNED, BOOL], ids=str)
def test_cast(k, dtype):
    for target in [*FLOATS, *SIGNED, *UNSIGNED, BOOL]:
        x = castable(dtype, target)
        agree(k.cast(to(x), target), reference.cast(x, target), what=target)


def test_cast_rounds_to_nearest_even(k):
    x = np.arange(0x3F7F0000, 0x3F820000, 0x1000, dtype=np.uint32).view(np.float32)
    agree(k.cast(to(x), BF16), x.astype(BF16))
    agree(k.cast(to(x), F16), x.astype(F16))


def test_cast_layouts(k, small_blocks):
    for name, x in views(np.random.default_rng(6), F32).items():
        got = k.cast(to(x), BF16)
        want = reference.cast(x, BF16)
        agree(got, want, what=name)
        if name not in ("sliced", "flipped"):  # NumPy's order of negative strides is its own
            assert got.strides == want.strides, name
        again = k.cast(to(x), F32)
        agree(again, x)
    c = np.arange(6).astype(np.complex64).reshape(2, 3)
    there = to(c)
    got = k.cast(there, c.dtype)
    assert got.ptr != there.ptr
    np.testing.assert_array_equal(got.to_host(), c)
    np.testing.assert_array_equal(k.cast(to(np.arange(3.0)), c.dtype).to_host(), np.arange(3).astype(c.dtype))
    np.testing.assert_array_equal(k.cast(there, F64).to_host(), c.real)


# --- the launcher ---

def test_several_outputs_and_five_inputs(small_blocks):
    import triton

    from tritium.kernels.triton.elementwise import elementwise

    @triton.jit
    def blend(v, w, x, y, z, s, t):
        return v * s + w, x * y * t, z > v

    rng = np.random.default_rng(7)
    for shapes in ([(70,)] * 5, [(4, 9), (9,), (4, 1), (1, 9), ()], [(2, 3, 4, 5)] * 4 + [(3, 1, 1)]):
        xs = [rng.standard_normal(s).astype("f4") for s in shapes]
        v, w, x, y, z = xs
        got = elementwise(blend, [to(t) for t in xs], (2.0, 3.0), (F32, F64, BOOL))
        agree(got[0], (v * np.float32(2) + w).astype("f4"), 1e-6)
        agree(got[1], (x * y * np.float32(3) + np.zeros_like(v + z)).astype("f8"), 1e-6)
        agree(got[2], (z > v) | (np.zeros_like(x + y + w) > 0))
        if len(set(shapes)) == 1:  # in place
            there = [to(t) for t in xs]
            elementwise(blend, there, (2.0, 3.0), None, (there[0], there[3], to(np.zeros(70, bool))))
            agree(there[0], (v * np.float32(2) + w).astype("f4"), 1e-6)
            agree(there[3], (x * y * np.float32(3)), 1e-6)


def test_devices_and_hosts_do_not_mix(k):
    from tritium.kernels.array import DeviceMismatch

    with pytest.raises(DeviceMismatch):
        k.binaries["add"](to(np.ones(3)), np.ones(3))
    with pytest.raises(DeviceMismatch):
        k.lerp(to(np.ones(3)), np.ones(3), 0.5)


@pytest.mark.emulated_only
def test_offsets_beyond_32_bits(k, small_blocks):
    """Offsets past 2 ** 31, in memory that is hardly touched."""
    from tritium.kernels.triton import elementwise, memory

    u1 = np.dtype("u1")
    n = 2**31 + 5000
    x = memory.empty((n,), u1)
    tail = (np.arange(150) % 251).astype(u1)
    there = to(tail)
    rows = x.look(x.ptr, (2, 150), (n - 150, 1))  # one at each end
    rows[0] = 7
    rows[1] = 0
    k.into("add", rows[1], there, rows[1])
    want = np.stack([tail + u1.type(7), tail + tail])
    agree(k.binaries["add"](rows, there), want)
    agree(k.binaries["add"](rows.T, there[:, None]), want.T)
    agree(k.where(to(np.ones((2, 1), bool)), rows, there), want - tail)
    k.into("add", rows, there, rows)
    agree(rows, want)
    back = x.look(x.ptr + n - 150, (2, 150), (150 - n, 1))  # backwards
    agree(k.cast(back, np.dtype("i4")), want[::-1].astype("i4"))
    assert elementwise.make_plan([((2, 150), (n - 150, 1), 1)], [(None, None, 1)], False, 1).constants["LONG"]


@pytest.mark.emulated_only
def test_last_programs_of_a_long_array(k, monkeypatch):
    """Kernels far from their start: of each launch only the last two programs run, on memory nobody else touches."""
    from tritium.kernels.runtime.emulation import machine
    from tritium.kernels.triton import memory

    u1 = np.dtype("u1")
    n = 2**31 + 16384 * 3 + 100
    x = memory.empty((n,), u1)
    x[n - 20000:] = 5
    monkeypatch.setattr(machine, "range", lambda m: range(m)[-2:], raising=False)
    got = k.binaries["add"](x, x)
    monkeypatch.undo()
    assert (got[n - 16384:].to_host() == 10).all()
    del got
    rows = x.look(x.ptr, (2**14, 2**17), (2**17 + 2, 1))
    x[n - 40000:] = 6
    monkeypatch.setattr(machine, "range", lambda m: range(m)[-2:], raising=False)
    got = k.binaries["add"](rows, rows)
    monkeypatch.undo()
    assert rows.ptr + (2**14 - 1) * (2**17 + 2) + 2**17 <= x.ptr + n
    assert (got[-1, -4096:].to_host() == 12).all()
