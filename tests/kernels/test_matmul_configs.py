"""The choice of tiles for products: pure arithmetic, which needs no device."""
from __future__ import annotations

import itertools
from typing import Any

import pytest

from tritium.kernels.runtime.base import Properties
from tritium.kernels.triton import matmul_configs as configs

H100 = Properties("H100", 9, 0, 80 << 30, 132)
A100 = Properties("A100", 8, 0, 80 << 30, 108, max_shared_memory=166912)
KINDS = {configs.HALF: 2, configs.TF32: 4, configs.FLOAT32: 4, configs.FLOAT64: 8, configs.INT8: 1, configs.INTEGER: 8}


def choose(kind: str, M: int, N: int, K: int, batch: int = 1, device: Any = H100, hip: bool = False,
           emulated: bool = False, copied: bool = True, heavy: bool = False,
           vectors: bool = True) -> tuple[configs.Tile, int]:
    return configs.choose(kind, KINDS[kind], M, N, K, batch, device, hip, emulated, vectors, copied, heavy)


@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_has_a_tile(kind: str) -> None:
    sizes = (1, 16, 100, 4096, 50257)
    for M, N, K, batch in itertools.product(sizes, sizes, (0, 1, 64, 100000), (1, 96)):
        for device, hip in ((H100, False), (A100, False), (A100, True)):
            tile, parts = choose(kind, M, N, K, batch, device, hip)
            assert tile in configs.tiles_of(device.architecture, hip)[kind]
            assert parts == 1 or parts * 4 * tile.k <= K + tile.k * 4 and not tile.persistent


def test_large_products_are_persistent_where_the_copy_engine_takes_them() -> None:
    assert choose(configs.HALF, 8192, 8192, 8192)[0].persistent
    assert choose(configs.TF32, 8192, 8192, 8192)[0].persistent
    assert not choose(configs.HALF, 8192, 8192, 8192, copied=False)[0].persistent
    assert not choose(configs.HALF, 8192, 8192, 8192, batch=2)[0].persistent
    assert not choose(configs.HALF, 256, 256, 256)[0].persistent
    assert not choose(configs.HALF, 8192, 8192, 8192, device=A100)[0].persistent


def test_few_tiles_split_a_long_k() -> None:
    for kind in (configs.HALF, configs.FLOAT32):
        assert choose(kind, 128, 128, 65536)[1] > 1
        assert choose(kind, 8192, 8192, 8192)[1] == 1


def test_small_products_take_small_tiles() -> None:
    tile, parts = choose(configs.HALF, 64, 64, 64, batch=96)
    assert tile.m * tile.n <= 64 * 64 and parts == 1


def test_long_activations_leave_registers() -> None:
    tile, _ = choose(configs.HALF, 4096, 4096, 512, copied=False, heavy=True)
    assert not configs.full(tile)


def test_odd_sizes_leave_registers_for_single_elements() -> None:
    for kind in (configs.HALF, configs.INT8):
        for M, N in ((4096, 4096), (100, 4096), (500, 500)):
            tile, _ = choose(kind, M, N, 501, vectors=False, copied=False)
            assert not configs.full(tile) and (tile.m + tile.n) * tile.k <= 32 * 32 * tile.warps
            assert tile.k >= (32 if kind == configs.INT8 else 16)


def test_emulated_tiles_cover_small_products() -> None:
    tile, parts = choose(configs.FLOAT32, 200, 100, 500, emulated=True)
    assert (tile.m, tile.n, tile.k, parts) == (256, 128, 512, 1)


def test_tiles_fit_shared_memory() -> None:
    for tables, most in ((configs.HOPPER, 232448), (configs.AMPERE, 166912), (configs.AMD, 65536)):
        for kind, tiles in tables.items():
            for t in tiles:
                stages = 1 if tables is configs.AMD else t.stages
                out = t.m * t.n // 2 * KINDS[kind] if t.persistent else 0
                if kind != configs.INTEGER:  # through registers
                    assert (t.m + t.n) * t.k * KINDS[kind] * stages + out <= most, (kind, t)


def test_vectors() -> None:
    for rows, item, R, K in itertools.product((True, False), (1, 2, 4, 8), (1, 3, 4096), (1, 100, 1 << 20)):
        BR, BK, parts = configs.choose_vector(rows, item, R, K, 1, 132, False)
        assert BR & (BR - 1) == 0 == BK & (BK - 1) and parts >= 1
    assert configs.choose_vector(True, 2, 1, 1 << 20, 1, 132, False)[2] > 16  # one long dot product
