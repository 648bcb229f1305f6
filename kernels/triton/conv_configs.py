"""Which tiles a convolution is cut into: those of products, made to fit the channels.

An implicit product has pixels for rows, output channels for columns and taps x channels for K; a block of K is of one
tap, so that its rows are vectors of neighbours, unless the channels are few. The gradient of the weight has output
channels for rows, taps x channels for columns, and pixels for K, which is split where the tiles do not fill the device.
"""
from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from tritium.kernels.triton import matmul_configs as products
from tritium.kernels.triton.matmul_configs import FLOAT32, TF32, Tile, power
from tritium.kernels.tuning import table
from tritium.kernels.tuning.table import Choice

FEW = 16  # channels of a group below which blocks of K go through taps and channels together
DIRECT = 64  # channels that come out of a group of few, below which nothing is multiplied in tiles
CONVERT = 16  # channels from which an image with other than adjacent channels is copied first
COMBINE = 1024
GRID_Z = 65535


class Product(NamedTuple):
    """A tile, the number of parts of K, and whether blocks (columns) go through taps and channels together."""

    tile: Tile
    parts: int
    flat: bool


class Direct(NamedTuple):
    """Blocks of pixels and channels, warps, and the number of parts of the pixels."""

    pixels: int
    channels: int
    warps: int
    parts: int


def is_direct(groups: int, C: int, O: int) -> bool:
    """Whether groups of C channels that give O are computed without products of tiles."""
    return groups > 1 and (C < FEW and O < DIRECT or groups > GRID_Z)


def converts(C: int, emulated: bool) -> bool:
    """Whether an image of C channels that are not neighbours is copied first, so that they are."""
    return C >= CONVERT and not emulated


def fit(k: int, C: int, least: int) -> int:
    """The block of channels, ``k`` at most, with which C channels take the least time."""
    options = []
    while k >= least:
        options.append((-(-C // k) * (k + 8), -k))
        k //= 2
    return -min(options)[1] if options else least


def suited(kind: str, tile: Tile, ampere: bool) -> Tile:
    """A tile of a product for ``implicit``, whose addresses take registers too. ``ampere``: out of that table."""
    if kind == FLOAT32:
        size = tile.m * tile.n
        if size == 2048:
            return replace(tile, k=32, stages=2)
        if ampere and size == 8192:
            return replace(tile, warps=8)
        if ampere and size == 16384:
            return replace(tile, stages=2)
    return tile


def solid(kind: str, tile: Tile, flat: bool) -> Tile:
    """A tile for an image of three dimensions, whose addresses take more registers."""
    if flat and tile.m * tile.n > 8192:
        return replace(tile, n=tile.n // 2)
    if kind == FLOAT32 and tile.m * tile.n == 2048:
        return replace(tile, k=16, stages=3)
    return replace(tile, k=min(tile.k, 32)) if kind == TF32 and tile.m * tile.n == 1024 else tile


def gathered(item: int, tile: Tile) -> Tile:
    """A tile of a product for ``wgrad`` where its columns go through taps and channels together: each of them has an
    address, each element a mask. A thread has 32 sums and 32 bytes of the image at most."""
    n, k = tile.n, tile.k
    while n > 32 and tile.m * n * max(item, 4) > 128 * 32 * tile.warps:
        n //= 2
    while k > (32 if item == 1 else 16) and n * k * item > 32 * 32 * tile.warps:
        k //= 2
    return replace(tile, n=n, k=k)


@functools.lru_cache(maxsize=4096)
def forward(kind: str, item: int, M: int, O: int, C: int, taps: int, groups: int, properties: Any, hip: bool,
            emulated: bool, vectors: bool, heavy: bool) -> Product:
    """For M pixels, O and C channels of a group. ``vectors``: the channels can be read in whole vectors."""
    few = C < FEW
    heavy = heavy or kind == TF32  # which has too few registers for the addresses beside the largest tile
    words = ["forward", kind, str(item), f"{O}x{C} taps {taps} groups {groups}"]
    key = " ".join([*words, *["vectors"] * vectors, *["heavy"] * heavy, str(M)])

    def made(tile: Tile) -> Tile:
        tile = suited(kind, tile, not hip and properties.architecture != 90)
        if few:
            return products.narrow(tile, 32 if item == 1 else 16)
        return replace(tile, k=fit(tile.k, C, 32 if item == 1 else 16))

    def valid(choice: Choice) -> Product | None:
        return known(choice, kind, item, properties, hip, heavy, vectors and not few, few)

    def candidates() -> Iterator[Choice]:
        return chosen(kind, item, M, O, C * taps, groups, properties, hip, vectors and not few, heavy, few, made)

    found = table.find("conv", key, properties, emulated, valid, candidates)
    if found is not None:
        return found
    tile, parts = products.estimate(kind, item, M, O, C * taps, groups, properties, hip, emulated,
                                    vectors and not few and not emulated, False, heavy)
    return Product(tile if emulated else made(tile), parts, emulated or few)


@functools.lru_cache(maxsize=4096)
def weight(kind: str, item: int, pixels: int, O: int, C: int, taps: int, groups: int, properties: Any, hip: bool,
           emulated: bool, vectors: bool) -> Product:
    """For the gradient of a weight."""
    few = C < 2 * FEW
    words = ["weight", kind, str(item), f"{O}x{C} taps {taps} groups {groups}"]
    key = " ".join([*words, *["vectors"] * vectors, str(pixels)])

    def made(tile: Tile) -> Tile:
        return gathered(item, tile) if few else replace(tile, n=fit(tile.n, C, 32))

    def valid(choice: Choice) -> Product | None:
        return known(choice, kind, item, properties, hip, True, vectors and not few, few)

    def candidates() -> Iterator[Choice]:
        return chosen(kind, item, O, C * taps, pixels, groups, properties, hip, vectors and not few, True, few, made)

    found = table.find("conv", key, properties, emulated, valid, candidates)
    if found is not None:
        return found
    tile, parts = products.estimate(kind, item, O, C * taps, pixels, groups, properties, hip, emulated,
                                    vectors and not few and not emulated, False, True)
    return Product(tile if emulated else made(tile), parts, emulated or few)


def known(choice: Choice, kind: str, item: int, properties: Any, hip: bool, heavy: bool, vectors: bool,
          flat: bool) -> Product | None:
    """A tuned choice (m, n, k, warps, stages, parts) as a product; None unless it is one that is made of the tables'
    tiles."""
    m, n, k, warps, stages, parts = choice
    tile = Tile(m, n, k, warps, stages, 0.5)
    fits = any((m, warps, stages) == (a, w, s) and n <= b and k <= c and not persistent
               for a, b, c, w, s, persistent in products.shapes(kind, item, properties, hip, vectors))
    fits = fits and n & (n - 1) == 0 == k & (k - 1) and min(n, k) >= 16
    return Product(tile, parts, flat) if fits and parts >= 1 and not (heavy and products.full(tile)) else None


def chosen(kind: str, item: int, M: int, N: int, K: int, groups: int, properties: Any, hip: bool, vectors: bool,
           heavy: bool, flat: bool, made: Any) -> Iterator[Choice]:
    """What is worth measuring: ``made`` of products' tiles, and unless ``flat`` the tiles as they are."""
    seen = set()
    for tile, parts in products.ranked(kind, item, M, N, K, groups, properties, hip, vectors, False, heavy):
        for t in (made(tile),) if flat else dict.fromkeys((made(tile), tile)):
            choice = (t.m, t.n, t.k, t.warps, t.stages, parts)
            if choice not in seen and known(choice, kind, item, properties, hip, heavy, vectors, flat):
                seen.add(choice)
                yield choice


@functools.lru_cache(maxsize=4096)
def direct(item: int, M: int, O: int, programs: int, properties: Any, emulated: bool) -> Direct:
    """For M pixels and O channels in all; ``programs``: how many share a block of channels, beside the parts."""
    image = programs == -(-M // 64)  # an image is made, in one part
    key = f"direct {item} {O} {'image' if image else f'weight {programs}'} {M}"

    def valid(choice: Choice) -> Direct | None:
        return Direct(*choice) if choice in sizes() else None

    def sizes() -> Iterator[Choice]:
        for channels in (8, 16, 32, 64, 128):
            for pixels in (8, 16, 32, 64, 128, 256):
                for warps in (2, 4, 8):
                    if 8 * 32 * warps <= channels * pixels <= 32 * 32 * warps and channels < 2 * O:
                        for parts in range(1, min(256, max(1, -(-M // pixels))) + 1):
                            yield pixels, channels, warps, parts

    def candidates() -> Iterator[Choice]:
        usual = parted(2048 // power(O, 1, 64), power(O, 1, 64))
        wanted = {1} if image or usual == 1 else {usual // 2, usual, min(2 * usual, 256)}
        return (choice for choice in sizes() if choice[3] in wanted)

    def parted(pixels: int, channels: int) -> int:
        tiles = -(-O // channels) * programs
        steps = -(-M // pixels)
        return max(1, min(steps // 4, properties.multi_processor_count * 8 // tiles, 256))

    found = table.find("conv", key, properties, emulated, valid, candidates)
    if found is not None:
        return found
    if emulated:
        channels = power(O, 1, 128)
        return Direct(power(M, 1, 32768 // channels), channels, 4, 1)
    channels = power(O, 1, 64)
    pixels = max(2048 // channels, 1)
    return Direct(pixels, channels, 4, parted(pixels, channels))
