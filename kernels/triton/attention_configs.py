"""Which tiles attention is cut into, for each kernel, architecture, kind of arithmetic and head dimension.

Each was chosen by its machine code: no spills, 128-bit copies into shared memory, matrix instructions. ``choose`` is
all that the launches ask.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

from tritium.kernels.triton.matmul_configs import FLOAT32, FLOAT64, HALF, TF32
from tritium.kernels.tuning.table import Choice, find

FORWARD, KEYS, VALUES, QUERIES, MASK, SUMS = "forward", "keys", "values", "queries", "mask", "sums"


class Config(NamedTuple):
    """``m`` queries and ``n`` keys by one program of ``warps``, ``stages`` of the loop's blocks under way. ``both``: of
    KEYS: the gradients of keys and values together, which share products; else VALUES follows."""

    m: int
    n: int
    warps: int
    stages: int
    both: bool = True


Row = dict[int, tuple[Config, Config]]  # head dimension -> without and with a mask or dropout, which need registers
Table = dict[str, dict[str, Row]]

EMULATED = Config(128, 128, 4, 1)  # where an operation costs the same on any number of elements


def _row(*configs: tuple[int, int, int, int], both: tuple[bool, ...] = ()) -> Row:
    """Pairs for 64, 128 and 256; ``both``: one for each config."""
    made = [Config(*c, *both[i:i + 1]) for i, c in enumerate(configs)]
    return {64 << i // 2: (made[i], made[i + 1]) for i in range(0, len(made), 2)}


_EXACT: dict[str, dict[str, Row]] = {
    FLOAT32: {
        FORWARD: _row((32, 32, 4, 2), (32, 32, 8, 2), (32, 32, 8, 1), (32, 32, 8, 2)),
        KEYS: _row((32, 32, 4, 2), (32, 32, 8, 2), (32, 32, 8, 2), (16, 32, 8, 1)),
        QUERIES: _row((32, 32, 4, 2), (32, 32, 8, 2), (32, 32, 8, 2), (32, 16, 8, 2)),
        MASK: _row((32, 32, 4, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1))},
    FLOAT64: {
        FORWARD: _row((32, 32, 4, 2), (32, 16, 4, 2), (32, 16, 4, 2), (16, 16, 4, 1)),
        KEYS: _row((16, 32, 4, 2), (16, 16, 4, 1), (16, 16, 4, 1), (16, 16, 8, 1)),
        QUERIES: _row((32, 16, 4, 2), (16, 16, 4, 1), (16, 16, 4, 1), (16, 16, 8, 1)),
        MASK: _row((32, 32, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1), (16, 32, 8, 1))}}

HOPPER: Table = {
    **_EXACT,
    HALF: {
        FORWARD: _row((128, 128, 8, 3), (128, 32, 8, 2), (128, 64, 8, 3), (128, 16, 8, 2), (128, 32, 8, 2),
                      (64, 16, 8, 2)),
        KEYS: _row((32, 128, 8, 2), (32, 128, 8, 2), (32, 128, 8, 2), (16, 128, 8, 2), (32, 128, 8, 2),
                   (16, 32, 8, 1), both=(True, False, False, False, False, False)),
        QUERIES: _row((128, 64, 8, 2), (128, 32, 8, 2), (128, 32, 8, 2), (128, 16, 8, 2), (128, 32, 8, 2),
                      (128, 16, 8, 2)),
        MASK: _row((64, 64, 4, 2), (64, 64, 8, 2), (64, 64, 8, 2), (64, 32, 8, 2), (64, 32, 8, 1), (64, 16, 8, 1))},
    TF32: {
        FORWARD: _row((64, 64, 4, 2), (64, 16, 8, 2), (64, 32, 4, 2), (64, 16, 8, 2)),
        KEYS: _row((32, 64, 4, 2), (16, 128, 8, 2), (16, 128, 8, 2), (16, 128, 8, 1), both=(True, False, False, False)),
        QUERIES: _row((64, 32, 4, 2), (128, 16, 8, 1), (64, 32, 8, 2), (128, 16, 8, 2)),
        MASK: _row((64, 32, 4, 1), (64, 32, 8, 1), (64, 32, 8, 1), (64, 16, 8, 1))}}
AMPERE: Table = {
    **_EXACT,
    HALF: {
        FORWARD: _row((128, 64, 4, 3), (64, 32, 4, 2), (128, 64, 8, 2), (64, 16, 4, 2), (64, 32, 8, 2), (64, 16, 8, 2)),
        KEYS: _row((32, 128, 8, 2), (16, 64, 4, 2), (32, 128, 8, 2), (16, 64, 8, 1), (32, 64, 8, 1), (16, 32, 8, 1),
                   both=(True, False, False, False, False, False)),
        QUERIES: _row((128, 64, 8, 2), (64, 32, 8, 2), (64, 32, 4, 2), (64, 32, 8, 2), (64, 32, 8, 1), (64, 16, 8, 1)),
        MASK: _row((64, 32, 8, 2), (64, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (64, 16, 8, 1), (64, 16, 8, 1))},
    TF32: {
        FORWARD: _row((64, 32, 4, 2), (64, 16, 4, 2), (64, 16, 4, 2), (32, 16, 4, 2)),
        KEYS: _row((32, 64, 8, 2), (16, 32, 8, 1), (16, 64, 8, 1), (16, 32, 8, 1), both=(False,) * 4),
        QUERIES: _row((64, 32, 8, 2), (64, 16, 8, 1), (64, 16, 8, 1), (32, 16, 8, 1)),
        MASK: _row((32, 32, 4, 1), (32, 16, 8, 1), (32, 16, 8, 1), (32, 16, 8, 1))}}
AMPERE[FLOAT32] = {
    **_EXACT[FLOAT32],
    FORWARD: _row((32, 32, 4, 2), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1)),
    KEYS: _row((32, 32, 4, 2), (16, 32, 8, 1), (32, 32, 8, 2), (32, 16, 8, 1), both=(True, False, True, False)),
    QUERIES: _row((32, 32, 4, 2), (32, 16, 8, 1), (32, 32, 8, 2), (32, 16, 8, 1)),
    MASK: _row((32, 32, 4, 1), (32, 32, 8, 1), (32, 32, 8, 1), (16, 32, 8, 1))}
AMD: Table = {
    **_EXACT,
    HALF: {
        FORWARD: _row((128, 64, 4, 1), (128, 32, 4, 1), (128, 64, 4, 1), (64, 32, 4, 1), (64, 32, 4, 1),
                      (64, 16, 4, 1)),
        KEYS: _row((32, 64, 4, 1), (32, 64, 4, 1), (32, 64, 4, 1), (16, 64, 4, 1), (16, 64, 8, 1), (16, 64, 8, 1),
                   both=(True, False, False, False, False, False)),
        QUERIES: _row((128, 32, 4, 1), (64, 32, 4, 1), (64, 32, 4, 1), (64, 16, 4, 1), (64, 16, 4, 1), (64, 16, 8, 1)),
        MASK: _row((64, 64, 4, 1), (64, 32, 4, 1), (64, 32, 4, 1), (64, 32, 4, 1), (32, 32, 4, 1), (32, 16, 4, 1))}}
AMD[FLOAT32] = {  # two stages of a mask to be added do not compile with Triton 3.6
    **_EXACT[FLOAT32],
    FORWARD: _row((32, 32, 4, 2), (64, 16, 8, 1), (32, 32, 8, 1), (64, 16, 8, 1)),
    KEYS: _row((32, 32, 4, 2), (16, 32, 8, 1), (16, 32, 8, 1), (16, 16, 8, 1)),
    QUERIES: _row((32, 32, 4, 2), (32, 16, 8, 1), (32, 16, 8, 1), (16, 16, 8, 1)),
    MASK: _row((32, 32, 4, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 16, 8, 1))}
AMD[FLOAT64] = {
    **_EXACT[FLOAT64],
    MASK: _row((32, 32, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1))}
AMD[TF32] = AMD[FLOAT32]
TABLES = {"sm_90": HOPPER, "sm_80": AMPERE, "gfx942": AMD}


@functools.lru_cache(maxsize=1024)
def choose(which: str, kind: str, BE: int, BV: int, causal: bool, plain: bool, properties: Any, hip: bool,
           emulated: bool) -> Config:
    """The tile of a kernel. ``kind``: of arithmetic; BE, BV: padded head dimensions; ``plain``: no mask, no dropout."""
    if which == SUMS:
        return Config(128 if emulated else max(4096 // BV, 1), 0, 4, 1)
    table = AMD if hip else HOPPER if properties.architecture == 90 else AMPERE
    usual = pick(table, which, kind, max(BE, BV), plain)

    def valid(choice: Choice) -> Config | None:
        m, n, warps, stages, both = choice
        return Config(m, n, warps, stages, bool(both)) if choice in beside(usual) else None

    words = [which, kind, f"{BE}x{BV}", *["causal"] * causal, *["plain"] * plain, str(max(BE, BV))]
    found = find("attention", " ".join(words), properties, emulated, valid, lambda: beside(usual))
    return found or (EMULATED if emulated else usual)


def beside(usual: Config) -> list[Choice]:
    """What ``tritium tune`` measures: this configuration, and half and double blocks, other warps and stages; those
    with few changes first."""
    found = [(m, n, warps, stages, int(usual.both)) for m in (usual.m, usual.m // 2, 2 * usual.m)
             for n in (usual.n, usual.n // 2, 2 * usual.n) for warps in (usual.warps, 12 - usual.warps)
             for stages in (usual.stages, usual.stages + 1, usual.stages - 1)
             if min(m, n) >= 16 and m * n <= 128 * 128 and 1 <= stages <= 4]
    return sorted(found, key=lambda c: sum(a != b for a, b in zip(c, usual, strict=True)))


def pick(table: Table, which: str, kind: str, width: int, plain: bool) -> Config:
    """An entry of a table."""
    return table[kind][KEYS if which == VALUES else which][max(width, 64)][0 if plain else 1]
