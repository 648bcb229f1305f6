"""The configurations of 3-D convolutions that are shipped, for the machine-code report."""
from __future__ import annotations

from collections.abc import Iterator

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import matmul_configs as products
from tritium.kernels.triton.conv_cases import SOLID, combine, direct, direct_wgrad, implicit, wgrad
from tritium.kernels.triton.matmul_cases import TABLES
from tritium.kernels.triton.matmul_configs import FLOAT32, FLOAT64, HALF, INTEGER, TF32


def cases() -> Iterator[Case]:
    """Every tile of Hopper and the larger ones of the others with padding; one of them also with what follows, without
    padding, and with blocks of several taps."""
    for target, table in TABLES.items():
        for kind in (HALF, TF32, FLOAT32):
            tiles = [t for t in table[kind] if not t.persistent]
            for tile in tiles if target == "sm_90" else tiles[:3]:
                if kind != TF32 or not products.full(tile):
                    yield implicit(target, kind, tile, of=SOLID)
                if not products.full(tile):
                    yield wgrad(target, kind, tile, of=SOLID)
            medium = next(t for t in tiles if not products.full(t))
            yield implicit(target, kind, medium, residual=True, of=SOLID)
            yield implicit(target, kind, medium, pad=False, of=SOLID)
            yield implicit(target, kind, medium, flat=True, of=SOLID)
            yield wgrad(target, kind, medium, flat=True, of=SOLID)
        yield implicit(target, FLOAT64, table[FLOAT64][-1], of=SOLID)
        yield wgrad(target, FLOAT64, table[FLOAT64][-1], of=SOLID)
        yield implicit(target, INTEGER, table[INTEGER][-1], flat=True, of=SOLID)
        yield wgrad(target, INTEGER, table[INTEGER][-1], flat=True, of=SOLID)
    for memory in ("bf16", "fp32"):
        yield combine(memory, SOLID)
        for one in (True, False):
            yield direct(memory, one, SOLID)
            yield direct_wgrad(memory, one, SOLID)
