"""Copies on the device against NumPy's: strides, dtypes, overlaps, joining, rearranging."""
from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import copy as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
REAL = [np.dtype(t) for t in ("?", "u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")] + [BF16]
ALL = [*REAL, np.dtype("c8"), np.dtype("c16")]


@pytest.fixture(scope="module")
def side():
    from tritium.kernels.triton import copy, memory

    class Side:
        pass

    Side.copy, Side.memory = copy, memory
    return Side


@pytest.fixture
def small_tiles(monkeypatch):
    """Small tiles: several programs also for small arrays."""
    from tritium.kernels.triton import copy, copy_kernels, fill

    for module in (copy, copy_kernels, fill):
        monkeypatch.setattr(module, "row_tile", lambda rows, columns: (4, 8))
    monkeypatch.setattr(copy_kernels, "tile_shape", lambda m, n: (4, 8))
    monkeypatch.setattr(copy_kernels, "plans", {})
    fill._plan.cache_clear()
    yield
    fill._plan.cache_clear()


def made(rng, shape, dtype):
    """Numbers of all kinds, nan and inf among them."""
    n = int(np.prod(shape))
    if dtype.kind == "b":
        return rng.integers(0, 2, n).astype(bool).reshape(shape)
    if dtype.kind in "iu":
        return rng.integers(0, 255, n).astype(dtype).reshape(shape)
    x = rng.standard_normal(n) * 50
    x[rng.random(n) < 0.1] = np.nan
    x[rng.random(n) < 0.1] = np.inf
    with np.errstate(all="ignore"):
        if dtype.kind == "c":
            return (x + 1j * rng.standard_normal(n)).astype(dtype).reshape(shape)
        return x.astype(dtype).reshape(shape)


def views(side, x):
    """Pairs (NumPy view, device view) of one array, in many layouts. x is 3-d."""
    d = side.memory.from_host(x)
    flip = tuple(slice(None, None, -1) for _ in range(3))
    for p in itertools.permutations(range(3)):
        yield x.transpose(p), d.transpose(p)
    yield x[1:, ::2, 1:], d[1:, ::2, 1:]
    yield x[flip], d[flip]
    yield x[:, :1], d[:, :1]
    yield np.broadcast_to(x[:, :1], x.shape), side.memory.broadcast_to(d[:, :1], x.shape)
    yield np.broadcast_to(x[..., 1:2], x.shape), side.memory.broadcast_to(d[..., 1:2], x.shape)
    yield x[1, 2, 3], d[1, 2, 3]
    yield x[:0], d[:0]
    yield x[None, :, None], d[None, :, None]


def same(got, want):
    got = got.to_host() if hasattr(got, "to_host") else got
    assert got.shape == want.shape and got.dtype == want.dtype
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(want).tobytes()


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_copies_of_views(side, dtype):
    rng = np.random.default_rng(0)
    x = made(rng, (5, 6, 8), dtype)
    for n, d in views(side, x):
        got = side.copy.contiguous(d)
        assert got.dense and got.ptr != d.ptr
        same(got, np.ascontiguousarray(n).reshape(n.shape))
        got = side.copy.clone(d)
        want = reference.clone(n)
        same(got, want)
        assert got.strides == want.strides or 1 in n.shape or 0 in n.shape


@pytest.mark.parametrize("dtype", [np.dtype("i1"), np.dtype("f2"), np.dtype("f4"), np.dtype("i8")], ids=str)
def test_small_tiles(side, small_tiles, dtype):
    rng = np.random.default_rng(1)
    x = made(rng, (5, 6, 11), dtype)
    for n, d in views(side, x):
        same(side.copy.contiguous(d), np.array(n, order="C"))
    x = made(rng, (2, 16, 48), dtype)
    d = side.memory.from_host(x)
    same(side.copy.contiguous(d.transpose(0, 2, 1)), x.transpose(0, 2, 1))
    same(side.copy.contiguous(d[:, :, :32]), x[:, :, :32])


@pytest.mark.parametrize("source", REAL, ids=str)
def test_conversions(side, source):
    rng = np.random.default_rng(2)
    x = made(rng, (3, 5, 4), source)
    if source.kind == "f" or source == BF16:
        x = np.where(np.isfinite(x.astype("f4")), x, np.ones((), source)).astype(source)
    d = side.memory.from_host(x)
    for target in ALL:
        if target.kind == "u" and target.itemsize == 8 and source.kind not in "biu":
            x, d = np.abs(x), side.memory.from_host(np.abs(x))
        for n, v in ((x, d), (x.transpose(2, 0, 1), d.transpose(2, 0, 1)))[:1 if target.kind == "c" else 2]:
            got = side.memory.empty(n.shape, target)
            want = np.empty(n.shape, target)
            side.copy.copy_into(got, v)
            reference.copy_into(want, n)
            same(got, want)


def test_rounding_and_special_values(side):
    x = np.array([1 + 2**-9, 1 + 3 * 2**-9, 65519.0, 65520.0, 1e30, -1e30, np.nan, np.inf, -np.inf, 1e-8, -0.0, 3.4e38])
    for source, target in itertools.product((np.dtype("f8"), np.dtype("f4")), (np.dtype("f2"), BF16, np.dtype("f4"),
                                                                               np.dtype("?"))):
        with np.errstate(all="ignore"):
            n = x.astype(source)
            got = side.memory.empty(n.shape, target)
            side.copy.copy_into(got, side.memory.from_host(n))
            want = n.astype(target)
        np.testing.assert_array_equal(got.to_host().astype("f8"), want.astype("f8"))


def test_complex_parts(side):
    x = made(np.random.default_rng(3), (3, 4), np.dtype("c8"))
    got = side.memory.empty((4, 3), np.dtype("c16"))
    side.copy.copy_into(got, side.memory.from_host(x).T)
    np.testing.assert_array_equal(got.to_host(), x.T.astype("c16"))
    got = side.memory.empty((3, 4), np.dtype("f8"))
    side.copy.copy_into(got, side.memory.from_host(x))
    np.testing.assert_array_equal(got.to_host(), x.real.astype("f8"))


def test_overlap(side):
    for source, target in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:]), (np.s_[::-1], np.s_[:]),
                           (np.s_[:5], np.s_[1:10:2])):
        n = np.arange(10.0)
        d = side.memory.from_host(n)
        side.copy.copy_into(d[target], d[source])
        reference.copy_into(n[target], n[source])
        same(d, n)
    n = np.arange(16, dtype="f4").reshape(4, 4)
    d = side.memory.from_host(n)
    side.copy.copy_into(d, d.T)
    same(d, np.ascontiguousarray(n.T))
    side.copy.copy_into(d, d)
    same(d, np.ascontiguousarray(n.T))
    ints = d.view(np.dtype("i4"))
    side.copy.copy_into(ints, d)  # the same places as another dtype
    same(ints, n.T.astype("i4"))


def test_broadcast_and_numbers(side):
    out = side.memory.empty((3, 4, 5), np.dtype("f4"))
    n = np.empty((3, 4, 5), "f4")
    row = np.arange(5.0, dtype="f4")
    for value in (row, row.reshape(1, 1, 1, 5), np.float32(2.5), 3, np.array(7)):
        is_row = isinstance(value, np.ndarray) and value.ndim
        side.copy.copy_into(out, side.memory.from_host(value) if is_row else value)
        n[...] = value
        same(out, n)
    with pytest.raises(ValueError):
        side.copy.copy_into(out, side.memory.from_host(np.zeros(3)))
    with pytest.raises(RuntimeError):
        side.copy.copy_into(out, row)


def test_many_dimensions(side):
    x = np.arange(3 * 2**9, dtype="f4").reshape(3, *[2] * 9)
    p = (3, 1, 8, 5, 0, 9, 2, 7, 4, 6)
    d = side.memory.from_host(x)
    same(side.copy.contiguous(d.transpose(p)), np.ascontiguousarray(x.transpose(p)))
    out = side.memory.zeros((3, *[2] * 9), np.dtype("f4")).transpose(p)
    side.memory.fill(out[::2, :, ::2], 3)
    n = np.zeros((3, *[2] * 9), "f4").transpose(p)
    n[::2, :, ::2] = 3
    same(out, n)


def test_setitem(side):
    n = np.zeros((4, 5), "f4")
    d = side.memory.from_host(n)
    for key, value in ((np.s_[1], 2.0), (np.s_[:, ::2], np.arange(3.0)), (np.s_[2, 3], np.float64(9))):
        d[key] = value
        n[key] = value
    d[3:, :2] = d[0:1, 1:3]
    n[3:, :2] = n[0:1, 1:3]
    same(d, n)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_fill(side, dtype):
    for value in (0, 1, 1.5, -1, True) + ((np.nan, np.inf) if dtype.kind in "fcV" else ()) + (
            (1 - 2j,) if dtype.kind == "c" else ()):
        if dtype.kind == "u" and value == -1:
            continue
        got = side.memory.full((3, 4), value, dtype)
        same(got, np.full((3, 4), value, dtype))
        out, n = side.memory.zeros((6, 4, 3), dtype), np.zeros((6, 4, 3), dtype)
        for key in (np.s_[::2], np.s_[..., 1], np.s_[1, 2, 0], np.s_[:0]):
            side.memory.fill(out[key], value)
            n[key] = value
        side.memory.fill(out.transpose(2, 0, 1)[:2, ::-1], value)
        n.transpose(2, 0, 1)[:2, ::-1] = value
        same(out, n)
    with pytest.raises(OverflowError):
        side.memory.full((2,), 300, np.dtype("u1"))


def test_fill_small_tiles(side, small_tiles):
    out, n = side.memory.zeros((9, 7, 5), np.dtype("i8")), np.zeros((9, 7, 5), np.int64)
    side.memory.fill(out[1:, ::2, 1:], 123456789012)
    n[1:, ::2, 1:] = 123456789012
    same(out, n)


@pytest.mark.parametrize("dtype", REAL[1:], ids=str)
def test_sequences(side, dtype):
    from tritium.kernels.reference import memory

    for start, step, count in ((0, 1, 17), (5, -1 if dtype.kind != "u" else 2, 6), (0.5, 0.3, 11), (3, 1, 0)):
        same(side.memory.arange(start, step, count, dtype), memory.arange(start, step, count, dtype))
    for rows, columns in ((3, 3), (2, 5), (5, 2), (0, 3)):
        same(side.memory.eye(rows, columns, dtype), np.eye(rows, columns, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.dtype("f2"), np.dtype("c16")], ids=str)
def test_cat_and_stack(side, dtype):
    rng = np.random.default_rng(4)
    for dim in (0, 1, 3):
        parts = []
        for size in (2, 1, 0, 3, 2, 2, 1, 1, 5):
            shape = [2, 3, 4, 2]
            shape[dim] = size
            parts.append(made(rng, shape, dtype))
        device = [side.memory.from_host(x) for x in parts]
        same(side.copy.cat(device, dim), reference.cat(parts, dim))
        same(side.copy.cat(device[:2], dim), reference.cat(parts[:2], dim))
        turned = [side.copy.contiguous(x.swapaxes(1, 3)).swapaxes(1, 3) for x in device]
        same(side.copy.cat(turned, dim), reference.cat(parts, dim))
        got, want = side.copy.cat(turned, dim, True), reference.cat(parts, dim, True)
        same(got, want)
        assert got.strides == want.strides
    for count in (1, 2, 9):
        parts = [made(rng, (3, 4), dtype) for _ in range(count)]
        device = [side.memory.from_host(x) for x in parts]
        for dim in (0, 1, 2):
            got = side.copy.stack(device, dim)
            assert got.dense
            same(got, reference.stack(parts, dim))
        same(side.copy.stack([x[1, 2] for x in device], 0), np.stack([x[1, 2] for x in parts]))
        same(side.copy.stack([side.memory.from_host(np.array(i)) for i in range(count)], 0), np.arange(count))


def test_join_small_tiles(side, small_tiles):
    parts = [np.arange(7.0 * n).reshape(7, n) for n in (3, 19, 1, 8)]
    same(side.copy.cat([side.memory.from_host(x) for x in parts], 1), np.concatenate(parts, 1))


@pytest.mark.parametrize("dtype", [np.dtype("f4"), np.dtype("u1"), np.dtype("c16"), BF16], ids=str)
def test_rearranging(side, dtype):
    rng = np.random.default_rng(5)
    x = made(rng, (3, 4, 5), dtype)
    d = side.memory.from_host(x)
    for n, v in ((x, d), (x.transpose(2, 0, 1), d.transpose(2, 0, 1)), (x[:, 1:2], d[:, 1:2]), (x[:0], d[:0])):
        for dims in ((), (0,), (1, 2), (0, 1, 2)):
            got, want = side.copy.flip(v, dims), reference.flip(n, dims)
            same(got, want)
            assert got.strides == want.strides or 0 in n.shape or 1 in n.shape
        for shifts, dims in ((2, None), ((1, -2), (0, 2)), (7, 1), ((1, 1), (1, 1)), (0, 0)):
            same(side.copy.roll(v, shifts, dims), reference.roll(n, shifts, dims))
        for k in range(4):
            got, want = side.copy.rot90(v, k, 0, 2), reference.rot90(n, k, 0, 2)
            same(got, want)
            assert got.strides == want.strides or 0 in n.shape or 1 in n.shape
        for repeats in ((2, 1, 3), (2, 1, 1, 2), (1, 0, 2)):
            same(side.copy.tile(v, repeats), reference.tile(n, repeats))
        for diagonal in (-2, 0, 1, 9):
            for upper in (False, True):
                same(side.copy.triangle(v, diagonal, upper), reference.triangle(n, diagonal, upper))


def test_layouts_and_diagonals(side, small_tiles):
    rng = np.random.default_rng(6)
    for shape in ((2, 3, 4, 5), (1, 16, 32, 2), (2, 3, 2, 4, 5), (2, 1, 3, 3)):
        x = made(rng, shape, np.dtype("f2"))
        got, want = side.copy.channels_last(side.memory.from_host(x)), reference.channels_last(x)
        same(got, want)
        assert got.strides == want.strides
        same(side.copy.contiguous(got), x)
    blocks = [made(rng, s, np.dtype("f4")) for s in ((2, 3), (0, 1), (1, 1), (3, 2))]
    same(side.copy.block_diag([side.memory.from_host(b) for b in blocks]), reference.block_diag(blocks))
    for offset in (-2, 0, 1):
        a = made(rng, (2, 4), np.dtype("f4"))
        size = 4 + abs(offset)
        n = np.zeros((2, size, size), "f4")
        d = side.memory.from_host(n)
        reference.diagonal_into(n, a, offset)
        side.copy.diagonal_into(d, side.memory.from_host(a), offset)
        same(d, n)
    x = made(rng, (9, 20), np.dtype("f4"))
    for upper in (False, True):
        same(side.copy.triangle(side.memory.from_host(x), 1, upper), reference.triangle(x, 1, upper))
