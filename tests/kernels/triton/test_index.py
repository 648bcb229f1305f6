"""Indexing on the device against NumPy's."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import embedding as reference_embedding
from tritium.kernels.reference import index as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F4, I8 = np.dtype("f4"), np.dtype("i8")
DTYPES = [np.dtype(t) for t in ("f4", "f2", "?", "u1", "i8", "f8")] + [BF16]


@pytest.fixture(scope="module")
def memory():
    from tritium.kernels.triton import memory

    return memory


@pytest.fixture(scope="module")
def family():
    from tritium.kernels.triton import index

    return index


@pytest.fixture
def small_tiles(monkeypatch, family):
    from tritium.kernels.triton import index_common, index_kernels

    monkeypatch.setattr(index_kernels, "row_tile", lambda rows, columns: (4, 8))
    monkeypatch.setattr(index_kernels, "plans", {})
    monkeypatch.setattr(family, "row_tile", lambda rows, columns: (4, 8))
    for module in (family, index_common):
        monkeypatch.setattr(module, "block_size", lambda: 8)
    index_kernels._masked_plan.cache_clear()
    yield
    index_kernels._masked_plan.cache_clear()


def made(rng, shape, dtype):
    x = rng.integers(-8, 9, shape) / 2
    return (abs(x) if dtype.kind == "u" else x).astype(dtype)


def same(got, want):
    got = got.to_host() if hasattr(got, "to_host") else got
    assert got.shape == want.shape and got.dtype == want.dtype
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(want).tobytes()


def near(got, want):
    got = got.to_host()
    assert got.shape == want.shape and got.dtype == want.dtype
    tolerance = {BF16: 1e-2, np.dtype("f2"): 2e-3}.get(want.dtype, 1e-6)
    np.testing.assert_allclose(got.astype("f8"), want.astype("f8"), rtol=tolerance, atol=tolerance)


def turned(memory, x):
    """The device's array with its memory in the opposite order of dimensions."""
    return memory.from_host(np.ascontiguousarray(x.T)).T


@pytest.mark.parametrize("dtype", DTYPES + [np.dtype("c16")], ids=str)
def test_gather_and_scatter(memory, family, dtype):
    rng = np.random.default_rng(0)
    x = made(rng, (4, 5, 6), dtype)
    for dim in range(3):
        for shape in ((4, 5, 6), (3, 2, 4), (2, 0, 3)):
            i = rng.integers(0, x.shape[dim], shape).astype("i4" if dim else "i8")
            for d, j in ((memory.from_host(x), memory.from_host(i)), (turned(memory, x), turned(memory, i))):
                same(family.gather(d, dim, j), reference.gather(x, dim, i))
            src = made(rng, (4, 5, 6), dtype)
            for d, j in ((memory.from_host(x), memory.from_host(i)), (turned(memory, x), turned(memory, i))):
                want = x.copy()
                reference.scatter_into(want, dim, i, src)  # NumPy's last writer wins as well
                family.scatter_into(d, dim, j, memory.from_host(src))
                same(d, want)
                reference.scatter_into(want, dim, i, np.array(1, dtype))
                family.scatter_into(d, dim, j, np.array(1, dtype))
                same(d, want)
    one = memory.from_host(np.array(3, dtype))
    same(family.gather(one, 0, memory.from_host(np.zeros(2, "i8"))), np.array([3, 3], dtype))
    family.scatter_into(one, 0, memory.from_host(np.array(0)), memory.from_host(np.array(1, dtype)))
    same(one, np.array(1, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scatter_reduce(memory, family, dtype):
    rng = np.random.default_rng(1)
    x, src = made(rng, (3, 4), dtype), made(rng, (9, 4), dtype)
    if dtype.kind == "f":
        src[3, 1] = np.nan
    i = rng.integers(0, 3, (9, 4))
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        if reduce == "mean" and dtype.kind == "b":
            continue
        for include in (True, False):
            for layout in (memory.from_host, lambda a: turned(memory, a)):
                want, d = x.copy(), layout(x)
                reference.scatter_reduce_into(want, 0, i, src, reduce, include)
                family.scatter_reduce_into(d, 0, layout(i), layout(src), reduce, include)
                near(d, want)
    want, d = x.copy(), memory.from_host(x)
    reference.scatter_reduce_into(want, 1, i[:3, :2], np.array(1, dtype), "sum")
    family.scatter_reduce_into(d, 1, memory.from_host(i[:3, :2]), np.array(1, dtype), "sum")
    near(d, want)


def test_scatter_add_is_the_same_twice_and_in_order(memory, family):
    rng = np.random.default_rng(2)
    src = rng.standard_normal(300).astype("f4") * 10.0 ** rng.integers(-4, 5, 300).astype("f4")
    i = rng.integers(0, 2000, 300)
    want = np.zeros(2000, "f4")
    reference.scatter_reduce_into(want, 0, i % 90, src, "sum")
    for _ in range(2):
        d = memory.zeros((2000,), F4)
        family.scatter_reduce_into(d, 0, memory.from_host(i % 90), memory.from_host(src), "sum")
        same(d, want)  # few values to a place: added one by one, as NumPy does


@pytest.mark.parametrize("dtype", [F4, BF16, I8, np.dtype("u1")], ids=str)
def test_slices_by_number(memory, family, dtype):
    rng = np.random.default_rng(3)
    x = made(rng, (4, 5, 6), dtype)
    for dim in range(3):
        i = rng.integers(0, x.shape[dim], 7)
        shape = list(x.shape)
        shape[dim] = 7
        src = made(rng, shape, dtype)
        for layout in (memory.from_host, lambda a: turned(memory, a)):
            same(family.index_select(layout(x), dim, memory.from_host(i)), reference.index_select(x, dim, i))
            for name, value in (("index_add_into", src), ("index_copy_into", src), ("index_fill_into", np.array(2, dtype))):
                want, d = x.copy(), layout(x)
                getattr(reference, name)(want, dim, i, value)
                getattr(family, name)(d, dim, memory.from_host(i), layout(value))
                near(d, want)
    want, d, src = x[:, 0].copy(), memory.from_host(x)[:, 0], made(rng, (7, 6), dtype)
    i = rng.integers(0, 4, 7)
    reference.index_add_into(want, 0, i, src)
    family.add_rows(d, memory.from_host(i), memory.from_host(src))
    near(d, want)
    one = memory.from_host(np.array(3, dtype))
    same(family.index_select(one, 0, memory.from_host(np.array([0]))), np.array(3, dtype))


@pytest.mark.parametrize("dtype", [F4, np.dtype("?"), np.dtype("c16")], ids=str)
def test_keys(memory, family, dtype):
    rng = np.random.default_rng(4)
    x = made(rng, (4, 5, 6, 3), dtype)
    full = slice(None)
    a, b, c = (rng.integers(-n, n, s) for n, s in ((4, (2, 3)), (5, (3,)), (6, (2, 1))))
    mask1, mask2 = rng.random(5) < 0.6, rng.random((4, 5)) < 0.5
    keys = [(a, full, full, full), (full, b, full, full), (a, b, full, full), (full, b, c, full), (a, full, c, full),
            (full, mask1, full, full), (mask2, full, full), (mask2, np.array([0, 2] * 50)[:mask2.sum()], full),
            (full, full, full, np.array([2, -1])), (np.zeros(0, "i8"), full, full, full), (mask2,)]
    for key in keys:
        device_key = tuple([k if isinstance(k, slice) else memory.from_host(k) for k in key])
        want = reference.index(x, key)
        for layout in (memory.from_host, lambda v: turned(memory, v)):
            d = layout(x)
            same(family.index(d, device_key), want)
            for src in (made(rng, want.shape, dtype), made(rng, want.shape[-1:], dtype), np.array(1, dtype)):
                n, e = x.copy(), layout(x)
                n[key] = src
                family.put(e, device_key, memory.from_host(src) if src.ndim else src)
                same(e, n)
            if dtype == F4:
                src = made(rng, want.shape, dtype)
                n, e = x.copy(), layout(x)
                np.add.at(n, key, src)
                family.accumulate_into(e, device_key, memory.from_host(src))
                near(e, n)
    with pytest.raises(IndexError, match="broadcast"):
        family.index(memory.from_host(x), (memory.from_host(a), memory.from_host(np.zeros((4, 5), "i8")), full, full))


@pytest.mark.parametrize("dtype", DTYPES + [np.dtype("c16")], ids=str)
def test_masks(memory, family, dtype):
    rng = np.random.default_rng(5)
    x = made(rng, (4, 5, 3), dtype)
    for mask in (rng.random((4, 5, 3)) < 0.5, rng.random((5, 1)) < 0.5, np.zeros((4, 5, 3), bool), np.array(True)):
        m = memory.from_host(mask)
        for layout in (memory.from_host, lambda v: turned(memory, v)):
            d, want = layout(x), x.copy()
            same(family.masked_select(d, m), reference.masked_select(x, mask))
            for value in (np.array(1, dtype), memory.from_host(np.array(2, dtype)), memory.from_host(np.array(1.5))):
                reference.masked_fill_into(want, mask, value if isinstance(value, np.ndarray) else value.to_host())
                family.masked_fill_into(d, m, value)
                same(d, want)
            src = made(rng, (60,), dtype)
            reference.masked_scatter_into(want, mask, src)
            family.masked_scatter_into(d, m, memory.from_host(src))
            same(d, want)
    if dtype.kind != "c":
        for n in (x, x[0], x[0, 0], np.array(0, dtype), x[:0], np.array(2, dtype)):
            same(family.nonzero(memory.from_host(n)), reference.nonzero(n))
    with pytest.raises(ValueError):
        family.masked_scatter_into(memory.from_host(x), memory.from_host(np.ones(x.shape, bool)),
                                   memory.from_host(x[0]))


@pytest.mark.parametrize("dtype", [F4, np.dtype("f2"), np.dtype("i4")], ids=str)
def test_flat_positions(memory, family, dtype):
    rng = np.random.default_rng(6)
    x = made(rng, (4, 5), dtype)
    i = rng.integers(-20, 20, (3, 7))
    src = made(rng, (3, 7), dtype)
    for layout in (memory.from_host, lambda v: turned(memory, v)):
        same(family.take(layout(x), layout(i)), reference.take(x, i))
        for accumulate in (False, True):
            want, d = x.copy(), layout(x)
            reference.put_into(want, i, src, accumulate)
            family.put_into(d, layout(i), layout(src), accumulate)
            near(d, want)


def test_one_hot_and_bounds(memory, family):
    i = np.array([[0, 3], [2, 2]])
    same(family.one_hot(memory.from_host(i), 5), reference.one_hot(i, 5))
    for kind in ("i8", "i4"):
        for values, low, high in (([0, 3, 2], 0, 4), ([0, 4, -2], 0, 4), ([-3, 1, -4, 9], -3, 3), ([], 0, 1)):
            n = np.array(values, kind)
            assert family.first_outside(memory.from_host(n), low, high) == reference.first_outside(n, low, high)
    n = np.arange(40).reshape(8, 5)
    assert family.first_outside(turned(memory, n), 0, 33) == 33


def test_arrays_of_the_host_are_refused(memory, family):
    x, i = memory.from_host(np.zeros((2, 3))), np.zeros((2, 3), "i8")
    for call in (lambda: family.gather(x, 0, i), lambda: family.index_select(x, 0, i[0]), lambda: family.take(x, i),
                 lambda: family.first_outside(i, 0, 1), lambda: family.scatter_into(x, 0, i, x)):
        with pytest.raises(RuntimeError, match="same device"):
            call()


def test_nothing_outside_is_touched(memory, family):
    x = memory.from_host(np.arange(4.0))
    i = memory.from_host(np.array([0, 9, -9, 3]))
    same(family.gather(x, 0, i), np.array([0.0, 0, 0, 3]))
    family.scatter_into(x, 0, i, memory.from_host(np.array([5.0, 6, 7, 8])))
    family.scatter_reduce_into(x, 0, i, memory.from_host(np.array([1.0, 6, 7, 1])), "sum")
    family.index_copy_into(x, 0, i, memory.from_host(np.array([7.0, 6, 7, 9])))
    same(x, np.array([7.0, 1, 2, 9]))


def test_several_programs(memory, family, small_tiles):
    rng = np.random.default_rng(7)
    x = made(rng, (9, 20), F4)
    i = rng.integers(0, 9, (11, 17))
    same(family.gather(memory.from_host(x), 0, memory.from_host(i)), reference.gather(x, 0, i))
    d, want = memory.from_host(x), x.copy()
    src = made(rng, (11, 20), F4)
    reference.scatter_into(want, 0, i, src)
    family.scatter_into(d, 0, memory.from_host(i), memory.from_host(src))
    same(d, want)
    rows = rng.integers(0, 9, 11)
    same(family.index_select(memory.from_host(x), 0, memory.from_host(rows)), x[rows])
    family.index_copy_into(d, 0, memory.from_host(rows), memory.from_host(src))
    reference.index_copy_into(want, 0, rows, src)
    same(d, want)
    mask = rng.random((9, 20)) < 0.3
    family.masked_fill_into(d, memory.from_host(mask), 4)
    want[mask] = 4
    same(d, want)
    same(family.one_hot(memory.from_host(rows), 19), reference.one_hot(rows, 19))
    assert family.first_outside(memory.from_host(i), 0, 8) == 8


def test_sorting_of_keys(memory, monkeypatch):
    from tritium.kernels.triton import sort_radix

    rng = np.random.default_rng(8)
    for few in (8192, 0):
        monkeypatch.setattr(sort_radix, "FEW", few)
        for n, high in ((1, 3), (70, 9), (300, 300), (9000, 70000)):
            keys = rng.integers(0, high, n)
            ordered, order = sort_radix.argsort_keys(memory.from_host(keys), high.bit_length())
            want = np.argsort(keys, kind="stable")
            same(order, want)
            same(ordered, keys[want])


def test_true_places_of_many_blocks(memory, family):
    mask = np.random.default_rng(9).random(40000) < 0.1
    same(family.nonzero(memory.from_host(mask)), np.argwhere(mask))


@pytest.mark.parametrize("dtype", [F4, BF16], ids=str)
def test_embedding(memory, dtype):
    from tritium.kernels.triton import embedding

    rng = np.random.default_rng(10)
    weight = made(rng, (7, 6), dtype)
    i = rng.integers(0, 7, (3, 9))
    g = made(rng, (3, 9, 6), dtype)
    for layout in (memory.from_host, lambda v: turned(memory, v)):
        same(embedding.embedding(layout(weight), layout(i)), reference_embedding.embedding(weight, i))
        for rows, skip, by_frequency in ((7, -1, False), (7, 2, True), (500, 0, False)):
            near(embedding.embedding_backward(layout(g), layout(i), rows, skip, by_frequency),
                 reference_embedding.embedding_backward(g, i, rows, skip, by_frequency))
