"""Attention on the device against NumPy's: forward and backward, masks, groups, layouts, dropout, ragged blocks."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import attention as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
TOLERANCE = {BF16: 3e-2, F16: 4e-3, F32: 2e-5, F64: 1e-12}
ALL = (True, True, True, True)


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import attention

    return attention


@pytest.fixture(params=["one tile", "many"])
def tiles(request, monkeypatch):
    """Also with small tiles: several programs, several blocks, ragged ends."""
    if request.param == "many":
        from tritium.kernels.triton import attention_configs as configs

        monkeypatch.setattr(configs, "EMULATED", configs.Config(16, 32, 4, 1))
        configs.choose.cache_clear()
    yield request.param
    if request.param == "many":
        configs.choose.cache_clear()


def on_device(view):
    """The same view of a copy of its base (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    base = view
    while base.base is not None:
        base = base.base
    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected, tolerance):
    if expected is None:
        assert found is None
        return
    assert found.shape == expected.shape and found.dtype == expected.dtype
    r = found.copy().to_host()
    np.testing.assert_allclose(r.astype(F64), expected.astype(F64), rtol=tolerance, atol=tolerance)


def numbers(seed, shape, dtype=F32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def masks(kind, B, H, L, S, dtype):
    rng = np.random.default_rng(7)
    if kind == "bool":
        m = rng.random((B, 1, L, S)) < 0.7
        m[0, 0, L // 2] = False
        return m
    if kind == "keys":
        m = rng.random((B, 1, 1, S)) < 0.7
        m[0] = False
        return m
    m = rng.standard_normal((H, L, S) if kind == "add" else (B, 1, L, 1)).astype(dtype)
    m[..., 0, :1] = -np.inf
    return m


def check(device, q, k, v, mask=None, causal=False, scale=0.3, dropout=None, needs=ALL, tolerance=None):
    """Forward and backward on both sides; dropout: a rate."""
    tolerance = tolerance or TOLERANCE[q.dtype]
    needs = (*needs[:3], needs[3] and mask is not None and mask.dtype != np.bool_)
    arrays = [on_device(a) for a in (q, k, v)]
    m = None if mask is None else on_device(mask)
    here = there = None
    if dropout is not None:
        there = (dropout, (11, 8))
        shape = (*q.shape[:3], k.shape[2])
        here = (dropout, device.multipliers(arrays[0], shape, there).to_host() != 0)
    expected = reference.forward(q, k, v, mask, causal, scale, here)
    found = device.forward(*arrays, m, causal, scale, there)
    for a, b in zip(found, expected, strict=True):
        agree(a, b, tolerance)
    g = numbers(9, expected[0].shape, q.dtype)
    found = device.backward(on_device(g), *arrays, m, *found, causal, scale, there, needs)
    expected = reference.backward(g, q, k, v, mask, *expected, causal, scale, here, needs)
    for a, b in zip(found, expected, strict=True):
        agree(a, b, 2 * tolerance)
    return found


def qkv(B, H, few, L, S, E, EV, dtype=F32):
    return numbers(1, (B, H, L, E), dtype), numbers(2, (B, few, S, E), dtype), numbers(3, (B, few, S, EV), dtype)


@pytest.mark.parametrize("dtype", [BF16, F16, F32, F64], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_dtypes(device, tiles, dtype, causal):
    check(device, *qkv(1, 2, 2, 40, 70, 16, 16, dtype), causal=causal)
    check(device, *qkv(1, 1, 1, 70, 33, 24, 40, dtype), causal=causal, scale=-0.2)


@pytest.mark.parametrize("kind", ["bool", "keys", "add", "column"])
def test_masks(device, tiles, kind):
    q, k, v = qkv(2, 2, 2, 20, 40, 16, 16)
    check(device, q, k, v, masks(kind, 2, 2, 20, 40, F32))
    if kind == "add":
        check(device, *qkv(2, 2, 2, 20, 40, 16, 16, BF16), masks(kind, 2, 2, 20, 40, BF16))
        check(device, *qkv(2, 2, 2, 20, 40, 16, 16, F16), masks(kind, 2, 2, 20, 40, F32))


def test_groups(device, tiles):
    check(device, *qkv(2, 4, 2, 18, 34, 16, 16), causal=True)
    check(device, *qkv(2, 3, 1, 18, 34, 16, 32), masks("bool", 2, 3, 18, 34, F32), dropout=0.3)


@pytest.mark.parametrize("causal", [False, True])
def test_dropout(device, tiles, causal):
    q, k, v = qkv(2, 2, 2, 20, 41, 16, 16)
    check(device, q, k, v, causal=causal, dropout=0.4)
    check(device, q, k, v, masks("add", 2, 2, 20, 41, F32), dropout=1.0)


def test_layouts(device, tiles):
    q = numbers(1, (2, 20, 3, 16)).transpose(0, 2, 1, 3)  # as a projection leaves the heads
    kv = numbers(2, (2, 40, 2, 3, 16)).transpose(2, 0, 3, 1, 4)
    found = check(device, q, *kv)
    assert found[0].strides == q.strides
    assert [n for n, _ in sorted(enumerate(found[1].strides), key=lambda d: -d[1])] == [0, 2, 1, 3]
    q, k, v = qkv(1, 2, 2, 24, 40, 20, 16)
    check(device, q[:, :, 1::2, 1:18], k[:, :, 3:, 1:18], v[:, :, 3:, ::2])
    check(device, np.broadcast_to(q[:, :1], q.shape), np.broadcast_to(k[:, :1], k.shape), v)
    check(device, q.transpose(0, 1, 3, 2)[:, :, :, ::2], numbers(5, (1, 2, 9, 12)), numbers(6, (1, 2, 9, 3)))


def test_empty(device, tiles):
    for sizes in ((0, 2, 2, 4, 5, 8, 8), (2, 2, 2, 0, 5, 8, 8), (2, 2, 2, 4, 0, 8, 8), (2, 2, 2, 4, 5, 0, 8),
                  (2, 2, 2, 4, 5, 8, 0), (1, 1, 1, 1, 1, 1, 1)):
        check(device, *qkv(*sizes))
        check(device, *qkv(*sizes), np.zeros((sizes[3], sizes[4]), F32), needs=ALL)


def test_nan_and_infinity(device, tiles):
    q, k, v = qkv(1, 1, 1, 20, 40, 16, 16)
    q[0, 0, 3, 2] = np.nan
    q[0, 0, 5] = np.inf
    k = np.abs(k)
    check(device, q, k, v)


def test_only_what_is_asked_for(device):
    q, k, v = qkv(1, 2, 2, 20, 40, 16, 16)
    mask = masks("add", 1, 2, 20, 40, F32)
    for needs in ((True, False, False, False), (False, True, False, False), (False, False, True, False),
                  (False, False, False, True)):
        check(device, q, k, v, mask, needs=needs, dropout=0.2)


def test_the_same_bits_and_any_tile(device, monkeypatch):
    """Dropout depends on the place of a weight alone, not on tiles; the sums are the same twice."""
    from tritium.kernels.triton import attention_configs as configs

    q, k, v = (on_device(a) for a in qkv(1, 2, 2, 40, 50, 16, 16))
    outs = []
    for tile in (configs.EMULATED, configs.EMULATED, configs.Config(16, 16, 4, 1)):
        monkeypatch.setattr(configs, "EMULATED", tile)
        configs.choose.cache_clear()
        outs.append(device.forward(q, k, v, None, False, 0.25, (0.5, (3, 4)))[0].to_host())
    configs.choose.cache_clear()
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_allclose(outs[0], outs[2], rtol=1e-5, atol=1e-6)


def test_dropout_is_fair(device):
    like = on_device(numbers(0, (1,)))
    m = device.multipliers(like, (2, 3, 50, 41), (0.25, (5, 0))).to_host()
    assert set(np.unique(m)) == {0, np.float32(1 / 0.75)}
    assert abs((m != 0).mean() - 0.75) < 0.02


@pytest.mark.emulated_only
def test_memory_stays_inside(device):
    """Blocks that hang over the ends read and write nothing outside (the emulated device checks every access)."""
    check(device, *qkv(1, 1, 1, 3, 5, 3, 7), masks("column", 1, 1, 3, 5, F32), dropout=0.1)
