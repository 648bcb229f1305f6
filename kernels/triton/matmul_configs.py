"""Which tiles a product is cut into: a table for each architecture, and an estimate that picks from it.

Nothing is measured when a program runs. Each tile was chosen by its machine code: no spills, 128-bit copies into shared
memory, matrix instructions. ``rate`` is the part of a multiprocessor's peak that such a tile is expected to reach; the
estimate weighs it against the tiles that do not fill the device, the traffic, and what splitting K costs.

What ``tritium tune`` measured on a GPU of the same kind (``kernels/tuning``) counts before the estimate.
"""
from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tritium.kernels.tuning import table
from tritium.kernels.tuning.table import Choice

# kinds of arithmetic: how elements are multiplied, whatever they are in memory
HALF, TF32, FLOAT32, FLOAT64, INT8, INTEGER = "half", "tf32", "float32", "float64", "int8", "integer"


@dataclass(frozen=True)
class Tile:
    """``m`` x ``n`` of the result by one program of ``warps``, ``k`` at a time, ``stages`` of them under way;
    ``blocks``: programs that fit a multiprocessor; ``persistent``: by the copy engine (``gemm_persistent``)."""

    m: int
    n: int
    k: int
    warps: int
    stages: int
    rate: float
    blocks: int = 1
    persistent: bool = False


HOPPER: dict[str, tuple[Tile, ...]] = {
    HALF: (Tile(128, 256, 64, 8, 4, 0.85, 1, True), Tile(128, 256, 64, 8, 3, 0.75), Tile(128, 128, 64, 8, 3, 0.65, 2),
           Tile(64, 128, 64, 4, 4, 0.5, 2), Tile(128, 64, 64, 4, 4, 0.5, 2), Tile(64, 64, 64, 4, 4, 0.33, 3),
           Tile(32, 64, 128, 4, 3, 0.15, 4), Tile(16, 64, 64, 4, 4, 0.08, 7), Tile(32, 32, 128, 4, 3, 0.08, 6)),
    TF32: (Tile(128, 256, 32, 8, 3, 0.8, 1, True), Tile(128, 256, 32, 8, 3, 0.7), Tile(128, 128, 32, 8, 3, 0.6, 2),
           Tile(64, 128, 32, 4, 4, 0.5, 2), Tile(64, 64, 32, 4, 4, 0.33, 3), Tile(32, 64, 64, 4, 3, 0.15, 4),
           Tile(16, 64, 64, 4, 3, 0.08, 4)),
    FLOAT32: (Tile(128, 128, 16, 8, 3, 0.75, 1), Tile(64, 128, 16, 4, 3, 0.75, 3), Tile(64, 64, 32, 4, 2, 0.6, 4),
              Tile(64, 32, 16, 4, 3, 0.45, 6), Tile(32, 32, 16, 4, 3, 0.3, 8), Tile(16, 64, 16, 4, 3, 0.25, 8)),
    FLOAT64: (Tile(128, 64, 16, 8, 3, 0.7, 1), Tile(64, 64, 16, 4, 3, 0.7, 3), Tile(32, 32, 16, 4, 3, 0.4, 6)),
    INT8: (Tile(128, 256, 128, 8, 3, 0.7), Tile(128, 128, 128, 8, 3, 0.6, 2), Tile(64, 64, 128, 4, 3, 0.33, 3),
           Tile(32, 64, 128, 4, 3, 0.15, 4)),
    INTEGER: (Tile(64, 32, 4, 8, 1, 0.1, 2), Tile(32, 32, 4, 8, 1, 0.1, 3), Tile(16, 16, 16, 8, 1, 0.05, 4)),
}
# tiles that are measured too, but never chosen without
MORE: dict[tuple[int, str], tuple[Tile, ...]] = {
    (90, HALF): (Tile(256, 128, 64, 8, 3, 0.8, 1, True), Tile(128, 128, 64, 4, 4, 0.6, 1, True),
                 Tile(128, 128, 64, 8, 5, 0.6, 1, True), Tile(256, 128, 64, 8, 3, 0.7), Tile(64, 256, 64, 4, 3, 0.6),
                 Tile(128, 32, 64, 4, 4, 0.3, 3), Tile(256, 64, 64, 8, 3, 0.5)),
    (90, TF32): (Tile(128, 128, 32, 8, 4, 0.6, 1, True), Tile(128, 64, 32, 4, 4, 0.5, 2)),
}
AMPERE: dict[str, tuple[Tile, ...]] = {
    **HOPPER,
    HALF: (Tile(256, 128, 32, 8, 3, 0.8), Tile(128, 128, 32, 4, 4, 0.75, 2), Tile(128, 128, 64, 8, 3, 0.7),
           Tile(64, 128, 64, 4, 3, 0.6, 2), Tile(128, 64, 64, 4, 3, 0.6, 2), Tile(64, 64, 64, 4, 3, 0.45, 3),
           Tile(32, 64, 128, 4, 3, 0.25, 3), Tile(16, 64, 128, 4, 3, 0.12, 4), Tile(32, 32, 128, 4, 3, 0.12, 4)),
    TF32: (Tile(128, 128, 32, 8, 3, 0.75, 1), Tile(64, 128, 32, 4, 3, 0.6, 2), Tile(64, 64, 32, 4, 3, 0.45, 3),
           Tile(32, 64, 64, 4, 3, 0.25, 3), Tile(16, 64, 64, 4, 3, 0.12, 4)),
    INT8: (Tile(128, 128, 64, 8, 3, 0.7), Tile(64, 64, 128, 4, 3, 0.4, 3), Tile(32, 64, 128, 4, 3, 0.2, 4)),
}
AMD: dict[str, tuple[Tile, ...]] = {
    kind: tuple(Tile(t.m, t.n, t.k, t.warps, 2, t.rate, t.blocks) for t in tiles
                if not t.persistent and (t.m + t.n) * t.k * (4 if kind in (TF32, FLOAT32) else 8 if kind == FLOAT64 else
                                                              1 if kind == INT8 else 2) <= 65536)
    for kind, tiles in AMPERE.items()}

# products of two numbers in a cycle, by one multiprocessor
PEAK = {90: {HALF: 2048, TF32: 1024, FLOAT32: 128, FLOAT64: 128, INT8: 4096, INTEGER: 64},
        80: {HALF: 1024, TF32: 512, FLOAT32: 64, FLOAT64: 64, INT8: 2048, INTEGER: 64}}
MEMORY = 1400  # bytes that come from memory in a cycle, for the whole device
CACHE = 40  # bytes that a multiprocessor gets from the L2 cache in a cycle
START = 3000  # cycles of a launch
EMULATED = 256  # the largest tile of the emulated device, where an operation costs the same on any number of elements


def tiles_of(architecture: int, hip: bool) -> dict[str, tuple[Tile, ...]]:
    """The table of an architecture, 90 for sm_90: the nearest one that there is."""
    return AMD if hip else HOPPER if architecture == 90 else AMPERE


def power(n: int, low: int, high: int) -> int:
    """The power of two from ``low`` to ``high`` that covers ``n``, if one does."""
    return min(max(1 << max(n - 1, 0).bit_length(), low), high)


@functools.lru_cache(maxsize=4096)
def choose(kind: str, item: int, M: int, N: int, K: int, batch: int, properties: Any, hip: bool, emulated: bool,
           vectors: bool, copied: bool, heavy: bool, layout: str = "NT") -> tuple[Tile, int]:
    """A tile, and the number of parts of K. ``item``: bytes of an element; ``vectors``: the operands can be read in
    whole vectors; ``copied``: by the copy engine; ``heavy``: what follows the sums needs registers; ``layout``: as BLAS
    names it, T for an operand whose columns are of neighbours."""
    fixed, size = (f"{M}x{N}", K) if layout == "TN" else (f"{N}x{K}", M)
    flags = [word for word, on in (("vectors", vectors), ("copied", copied), ("heavy", heavy)) if on]
    key = " ".join([f"{kind} {item} {layout} {fixed} batch {batch}", *flags, str(size)])

    def valid(choice: Choice) -> tuple[Tile, int] | None:
        m, n, k, warps, stages, persistent, parts = choice
        tile = Tile(m, n, k, warps, stages, 0.5, 1, bool(persistent))
        known = shape_of(tile) in shapes(kind, item, properties, hip, vectors)
        fits = not (heavy and full(tile)) and not (persistent and (not copied or batch > 1 or parts > 1))
        return (tile, parts) if known and fits and 1 <= parts <= max(1, -(-K // tile.k)) else None

    def candidates() -> Iterator[Choice]:
        for tile, parts in ranked(kind, item, M, N, K, batch, properties, hip, vectors, copied, heavy):
            yield tile.m, tile.n, tile.k, tile.warps, tile.stages, int(tile.persistent), parts

    found = table.find("matmul", key, properties, emulated, valid, candidates)
    return found or estimate(kind, item, M, N, K, batch, properties, hip, emulated, vectors, copied, heavy)


def estimate(kind: str, item: int, M: int, N: int, K: int, batch: int, properties: Any, hip: bool, emulated: bool,
             vectors: bool, copied: bool, heavy: bool) -> tuple[Tile, int]:
    """``choose`` by the estimate alone."""
    if emulated:
        if kind == INTEGER:
            return Tile(power(M, 16, 64), power(N, 16, 64), power(K, 16, 64), 4, 1, 1.0), 1
        return Tile(power(M, 16, EMULATED), power(N, 16, EMULATED), power(K, 32, 2 * EMULATED), 4, 1, 1.0), 1
    processors = properties.multi_processor_count
    best: tuple[float, Tile, int] | None = None
    for tile in tiles_of(properties.architecture, hip)[kind]:
        if not vectors and item < 4:  # through registers, element by element
            if full(tile):
                continue
            tile = narrow(tile, 32 if item == 1 else 16)
        tiles = -(-M // tile.m) * -(-N // tile.n) * batch
        if tile.persistent and (not copied or batch > 1 or tiles < processors or 4 * tile.k > K):
            continue
        if heavy and full(tile):
            continue
        for time, parts in _times(kind, item, tile, M, N, K, batch, properties):
            if best is None or time < best[0]:
                best = time, tile, parts
    assert best is not None
    return best[1], best[2]


def _times(kind: str, item: int, tile: Tile, M: int, N: int, K: int, batch: int,
           properties: Any) -> Iterator[tuple[float, int]]:
    """The estimate for each number of parts that is worth a look."""
    processors = properties.multi_processor_count
    peak = PEAK[90 if properties.architecture >= 90 else 80][kind]
    tiles, steps = -(-M // tile.m) * -(-N // tile.n) * batch, max(1, -(-K // tile.k))
    for parts in _parts(1 if tile.persistent else steps, tiles, processors * tile.blocks):
        yield _time(tile, peak, item, tiles, steps, parts, M, N, batch, processors), parts


# --- what is tried on a GPU ---

def near(kind: str, item: int, properties: Any, hip: bool, vectors: bool = True) -> Iterator[Tile]:
    """The tiles of a table, and those beside them: other stages, warps and blocks of K, as far as they fit."""
    seen = set()
    for tile in (*tiles_of(properties.architecture, hip)[kind], *MORE.get((properties.architecture, kind), ())):
        for k in (tile.k, tile.k // 2, 2 * tile.k):
            for warps in (tile.warps, 12 - tile.warps):
                for stages in (tile.stages,) if hip else (tile.stages, tile.stages - 1, tile.stages + 1):
                    changed = (k != tile.k) + (warps != tile.warps) + (stages != tile.stages)
                    made = replace(tile, k=k, warps=warps, stages=stages, rate=tile.rate * 0.98 ** changed)
                    if not vectors and item < 4:
                        if full(made):
                            continue
                        made = narrow(made, 32 if item == 1 else 16)
                    shape = shape_of(made)
                    if shape not in seen and _fits(made, kind, item, properties):
                        seen.add(shape)
                        yield made


def _fits(tile: Tile, kind: str, item: int, properties: Any) -> bool:
    """Whether a tile has a chance: shared memory, sums of a thread, blocks of K that are vectors and no more than a
    few of them."""
    if kind == INTEGER:
        return tile.stages == 1 and tile.k <= 16 and tile.warps == 8
    threads = 32 * tile.warps
    sums = tile.m * tile.n * (2 if kind == FLOAT64 else 1)
    room = properties.max_shared_memory - 2048 - (tile.m * tile.n // 2 * item if tile.persistent else 0)
    return (tile.stages >= 2 and max(16, 32 // item) <= tile.k <= 256 // item and 4 * threads <= sums <= 128 * threads
            and (tile.m + tile.n) * tile.k * item * tile.stages <= room)


def shape_of(tile: Tile) -> tuple[int, int, int, int, int, bool]:
    """A tile without what is only estimated."""
    return tile.m, tile.n, tile.k, tile.warps, tile.stages, tile.persistent


@functools.lru_cache(maxsize=64)
def shapes(kind: str, item: int, properties: Any, hip: bool, vectors: bool) -> frozenset[tuple[Any, ...]]:
    """The tiles that a tuned table may name."""
    return frozenset(map(shape_of, (*tiles_of(properties.architecture, hip)[kind],
                                    *near(kind, item, properties, hip, vectors))))


def ranked(kind: str, item: int, M: int, N: int, K: int, batch: int, properties: Any, hip: bool, vectors: bool,
           copied: bool, heavy: bool) -> list[tuple[Tile, int]]:
    """Tiles with numbers of parts that are worth measuring, the most promising first; two numbers for a tile at most.

    The estimate tells tiles of one m and n hardly apart: the later ones of them come later."""
    found = []
    for tile in near(kind, item, properties, hip, vectors):
        if tile.persistent and (not copied or batch > 1) or heavy and full(tile):
            continue
        times = sorted(_times(kind, item, tile, M, N, K, batch, properties))
        found += [(time, tile, parts) for time, parts in times[:2]]
    found.sort(key=lambda one: one[0])
    count: dict[Any, int] = {}
    late = []
    for time, tile, parts in found:
        form = tile.m, tile.n, tile.persistent
        count[form] = count.get(form, -1) + 1
        late.append((time * 1.05 ** count[form], tile, parts))
    late.sort(key=lambda one: one[0])
    return [(tile, parts) for _, tile, parts in late]


def full(tile: Tile) -> bool:
    """Whether the sums take half of the registers, which leaves too few for much else."""
    return not tile.persistent and tile.m * tile.n >= 128 * 32 * tile.warps


def narrow(tile: Tile, least: int) -> Tile:
    """A tile of which a thread has 32 elements at most under way."""
    k = tile.k
    while k > least and (tile.m + tile.n) * k > 32 * 32 * tile.warps:
        k //= 2
    return replace(tile, k=k)


def _parts(steps: int, tiles: int, room: int) -> list[int]:
    """Numbers of parts worth a look: each part has four steps at least, and no more programs run than fit at once."""
    out, parts = [1], 2
    while parts * 4 <= steps and parts * tiles <= room and parts <= 64:
        out.append(parts)
        parts += 1 if parts < 8 else 4
    return out


def _time(tile: Tile, peak: int, item: int, tiles: int, steps: int, parts: int, M: int, N: int, batch: int,
          processors: int) -> float:
    """Cycles, roughly."""
    each = -(-steps // parts) * tile.k
    most = -(-tiles * parts // processors)  # programs of the busiest multiprocessor
    filled = min(1.0, (1 + most / tile.blocks) / 2)  # one program alone does not hide its waits
    arithmetic = most * tile.m * tile.n * each / (peak * tile.rate * filled)
    traffic = most * (min(tile.m, M) + min(tile.n, N)) * each * item / CACHE
    memory = batch * ((M + N) * steps * tile.k + M * N) * item / MEMORY
    split = START + batch * M * N * 4 * (2 * parts + 1) / MEMORY if parts > 1 else 0
    ends = (400 + tile.m * tile.n / 16) * -(-most // tile.blocks)  # the first loads and the last stores
    return START + max(arithmetic, traffic, memory) + ends + split


@functools.lru_cache(maxsize=4096)
def choose_vector(rows: bool, item: int, R: int, K: int, batch: int, processors: int,
                  emulated: bool) -> tuple[int, int, int]:
    """For a matrix times a vector: rows and columns of a block, and the number of parts of K."""
    if emulated:
        return power(R, 1, 128), power(K, 1, 16384 // power(R, 1, 128)), 1
    wide = 512 // item * 2
    BR, BK = (4, 2 * wide) if rows else (wide, 4 if item == 8 else 8)
    if K < BK and rows:
        BK = power(K, 32, BK)
    blocks = -(-R // BR) * batch
    steps = -(-K // BK)
    parts = max(1, min(steps // 4, processors * 8 // max(blocks, 1), 64))
    return BR, BK, parts


def kind_of(dtype: Any, tf32: bool) -> str:
    """The kind of arithmetic of a dtype."""
    if dtype.kind == "f":
        return {2: HALF, 4: TF32 if tf32 else FLOAT32, 8: FLOAT64}[dtype.itemsize]
    if dtype.kind in "iub":
        return INT8 if dtype == np.int8 else INTEGER
    return HALF  # bfloat16
