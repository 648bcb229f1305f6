"""Padding on the device against NumPy's."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import copy_pad as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F4 = np.dtype("f4")
AMOUNTS = [((0, 0), (1, 2), (2, 0)), ((0, 0), (0, 0), (2, 3)), ((1, 0), (2, 1), (0, 3)), ((0, 0), (-1, 2), (1, -2)),
           ((0, 0), (-1, -1), (0, 0)), ((0, 0), (2, 2), (0, 0))]


@pytest.fixture(scope="module")
def memory():
    from tritium.kernels.triton import memory

    return memory


@pytest.fixture(scope="module")
def family():
    from tritium.kernels.triton import copy_pad

    return copy_pad


@pytest.fixture
def small_tiles(monkeypatch, family):
    monkeypatch.setattr(family, "row_tile", lambda rows, columns: (4, 8))
    family._plan.cache_clear()
    yield
    family._plan.cache_clear()


def made(shape, dtype, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape) * 20
    x.flat[0] = np.nan
    with np.errstate(all="ignore"):
        return (x + 1j * x if dtype.kind == "c" else x).astype(dtype)


def same(got, want):
    got = got.to_host()
    assert got.shape == want.shape and got.dtype == want.dtype
    assert got.tobytes() == np.ascontiguousarray(want).tobytes()


def layouts(memory, x):
    """The array as it is, turned, and a part of a larger one: (NumPy's, the device's)."""
    yield x, memory.from_host(x)
    turned = np.ascontiguousarray(x.transpose(2, 0, 1))
    yield turned.transpose(1, 2, 0), memory.from_host(turned).transpose(1, 2, 0)
    large = np.zeros([n + 2 for n in x.shape], x.dtype)
    large[1:-1, 1:-1, 1:-1] = x
    yield x, memory.from_host(large)[1:-1, 1:-1, 1:-1]


@pytest.mark.parametrize("dtype", [np.dtype(t) for t in ("f4", "f2", "?", "u1", "i8", "c8", "c16")] + [BF16], ids=str)
def test_constant(memory, family, dtype):
    x = made((3, 4, 5), dtype)
    for value in (0, 1) + (() if dtype.kind in "bu" else (-2.0,)):
        for n, d in layouts(memory, x):
            for amounts in AMOUNTS[:4] if value == 0 else AMOUNTS[2:4]:
                same(family.constant(d, amounts, value), reference.constant(n, amounts, value))
    if dtype.kind == "c":
        same(family.constant(memory.from_host(x), AMOUNTS[0], 1 - 2j), reference.constant(x, AMOUNTS[0], 1 - 2j))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("dtype", [F4, BF16, np.dtype("c16")], ids=str)
def test_gather(memory, family, mode, dtype):
    x = made((3, 4, 5), dtype)
    for n, d in layouts(memory, x):
        for amounts in AMOUNTS:
            same(family.gather(d, mode, amounts), reference.gather(n, mode, amounts))


def test_several_programs(memory, family, small_tiles):
    x = made((2, 9, 11), F4)
    d = memory.from_host(x)
    for amounts in AMOUNTS[:4]:
        same(family.constant(d, amounts, 3), reference.constant(x, amounts, 3))
        for mode in ("reflect", "replicate", "circular"):
            if mode != "reflect" or max(map(max, amounts)) < 2 or amounts[0] == (0, 0):
                same(family.gather(d, mode, amounts), reference.gather(x, mode, amounts))
    x = made((2, 6, 64), F4)  # channels last: whole words of 8 bytes, 128 bits wide
    amounts = ((0, 0), (1, 2), (0, 0))
    same(family.constant(memory.from_host(x), amounts, 0), reference.constant(x, amounts, 0))
    same(family.gather(memory.from_host(x), "reflect", amounts), reference.gather(x, "reflect", amounts))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_scatter(memory, family, mode):
    shape = (3, 4, 5)
    for dtype in (F4, np.dtype("f8"), np.dtype("c8")):
        for amounts in AMOUNTS:
            padded = [n + b + a for n, (b, a) in zip(shape, amounts, strict=True)]
            g = made(padded, dtype, 1)
            want = reference.scatter(g, mode, amounts, shape)
            same(family.scatter(memory.from_host(g), mode, amounts, shape), want)
            if dtype == F4:
                turned = memory.from_host(np.ascontiguousarray(g.transpose(2, 1, 0))).transpose(2, 1, 0)
                same(family.scatter(turned, mode, amounts, shape), want)
    for dtype in (np.dtype("f2"), BF16):
        g = made((3, 7, 7), dtype, 1)
        want = reference.scatter(g.astype("f4"), mode, AMOUNTS[0], shape)
        got = family.scatter(memory.from_host(g), mode, AMOUNTS[0], shape).to_host().astype("f4")
        np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-1)


def test_many_and_few_dimensions(memory, family):
    x = made((2, 3, 2, 3, 2, 3), F4)
    amounts = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 0), (1, 2))
    d = memory.from_host(x)
    same(family.constant(d, amounts, 5), reference.constant(x, amounts, 5))
    same(family.gather(d, "replicate", amounts), reference.gather(x, "replicate", amounts))
    for shape, pairs in (((4,), ((1, 2),)), ((0,), ((1, 2),)), ((), ()), ((3,), ((-1, -2),)), ((1, 1), ((0, 0), (2, 0)))):
        x = np.ones(shape, F4)
        same(family.constant(memory.from_host(x), pairs, 5), reference.constant(x, pairs, 5))
    x = np.arange(5, dtype=F4)
    for pair in ((5, 0), (5, -3), (-3, 5), (0, 5)):  # goes round more than once
        same(family.gather(memory.from_host(x), "circular", (pair,)), reference.gather(x, "circular", (pair,)))
        g = np.arange(5.0 + sum(pair))
        same(family.scatter(memory.from_host(g), "circular", (pair,), (5,)),
             reference.scatter(g, "circular", (pair,), (5,)))
