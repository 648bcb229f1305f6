"""Which tiles a convolution is cut into: those of products, made to fit the channels.

An implicit product has pixels for rows, output channels for columns and taps x channels for K; a block of K is of one
tap, so that its rows are vectors of neighbours, unless the channels are few. The gradient of the weight has output
channels for rows, taps x channels for columns, and pixels for K, which is split where the tiles do not fill the device.
"""
from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, NamedTuple

from tritium.kernels.triton import matmul_configs as products
from tritium.kernels.triton.matmul_configs import FLOAT32, TF32, Tile, power

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
    flat = emulated or C < FEW
    heavy = heavy or kind == TF32  # which has too few registers for the addresses beside the largest tile
    tile, parts = products.choose(kind, item, M, O, C * taps, groups, properties, hip, emulated,
                                  vectors and not flat, False, heavy)
    if not emulated:
        tile = suited(kind, tile, not hip and properties.architecture != 90)
        if flat:
            tile = products.narrow(tile, 32 if item == 1 else 16)
    if not flat:
        tile = replace(tile, k=fit(tile.k, C, 32 if item == 1 else 16))
    return Product(tile, parts, flat)


@functools.lru_cache(maxsize=4096)
def weight(kind: str, item: int, pixels: int, O: int, C: int, taps: int, groups: int, properties: Any, hip: bool,
           emulated: bool, vectors: bool) -> Product:
    """For the gradient of a weight."""
    flat = emulated or C < 2 * FEW
    tile, parts = products.choose(kind, item, O, C * taps, pixels, groups, properties, hip, emulated,
                                  vectors and not flat, False, True)
    if not flat:
        tile = replace(tile, n=fit(tile.n, C, 32))
    elif not emulated:
        tile = gathered(item, tile)
    return Product(tile, parts, flat)


@functools.lru_cache(maxsize=4096)
def direct(item: int, M: int, O: int, programs: int, properties: Any, emulated: bool) -> Direct:
    """For M pixels and O channels in all; ``programs``: how many share a block of channels, beside the parts."""
    if emulated:
        channels = power(O, 1, 128)
        return Direct(power(M, 1, 32768 // channels), channels, 4, 1)
    channels = power(O, 1, 64)
    pixels = max(2048 // channels, 1)
    tiles = -(-O // channels) * programs
    steps = -(-M // pixels)
    parts = max(1, min(steps // 4, properties.multi_processor_count * 8 // tiles, 256))
    return Direct(pixels, channels, 4, parts)
