"""How kernels that reduce see an array: what is kept, numbered by k, and what is reduced, numbered by (outer, r).

    element (k, outer, r) lies at  kept(k) + outer(outer) + r * sr
    kept(k)  = k % k0 * sk0 + k // k0 * sk1          (KD = 2; one size and one stride for KD = 1)
    outer(t) = t % r1 * sr1 + t // r1 * sr2          (RD = 3; t * sr1 for RD = 2; 0 for RD = 1)
    result k lies at  k % k0 * so0 + k // k0 * so1

Dimensions of size 1 go, the rest are sorted by their strides and joined where they lie one behind the other, so that
most reductions have one kept and one reduced dimension. A program has a tile of kept and reduced elements; it walks
over the reduced ones with one accumulator for each place of the tile. UNIT says which of the two runs along memory:
"r" (rows), "k" (columns) or "" (neither): the tile is long in that direction, and its loads are coalesced.

VECTOR: all sizes and strides are multiples of it (they are passed divided by it and multiplied in the kernel, so that
the compiler knows): 16 bytes of elements, or 1.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.triton.strided import LIMIT, power

PROGRAMS = 2 * 132  # two for each multiprocessor of an H100
BYTES = 8192  # of a tile, for four warps: four 128-bit loads in each thread


class Plan(NamedTuple):
    """How one array is reduced. ``sizes``: the kernels' numbers from ``nk`` to ``span``; ``constants``: their
    constexprs; ``kept``: how many results; ``splits``: how many programs share each of them."""

    sizes: tuple[int, ...]
    constants: dict[str, Any]
    kept: int
    programs: int
    splits: int


def block_elements(itemsize: int, wide: int) -> int:
    """How many elements a tile of four warps has; ``wide``: bytes of an accumulator."""
    return 16384 if runtime.active().emulated else BYTES // max(itemsize, wide // 2, 1)


def wanted_programs() -> int:
    """How many programs fill the device (the emulated one runs them one after the other)."""
    return 4 if runtime.active().emulated else PROGRAMS


def joined(dims: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """(size, stride, stride of the result) sorted, fastest first, and joined."""
    if len(dims) < 2:
        return dims
    if any(n == 0 for n, _, _ in dims):
        return [(0, 1, 1)]  # nothing there: strides mean nothing
    dims.sort(key=lambda d: (abs(d[1]), abs(d[2])))
    out = [dims[0]]
    for n, s, o in dims[1:]:
        m, t, q = out[-1]
        if s == m * t and o == m * q:
            out[-1] = (m * n, t, q)
        else:
            out.append((n, s, o))
    return out


def plan(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, dims: tuple[int, ...], wide: int,
         split: bool = True, result: tuple[int, ...] | None = None) -> Plan | None:
    """How to reduce ``dims`` of an array. None where it is to be copied first, with the reduced dimensions last.

    ``wide``: bytes of an accumulator; ``split``: whether several programs may share a result; ``result``: strides of
    the result in elements, unless it is a contiguous array of what is kept."""
    kept, reduced, step = [], [], 1
    for d in range(len(shape) - 1, -1, -1):
        n = shape[d]
        if d in dims:
            if n != 1:
                reduced.append((n, strides[d] // itemsize, 0))
        elif n != 1:
            kept.append((n, strides[d] // itemsize, step if result is None else result[d]))
            step *= n
    empty = 0 in [n for n, _, _ in reduced]
    if empty:
        reduced = [(0, 1, 0)]
    kept, reduced = joined(kept) or [(1, 0, 1)], joined(reduced) or [(1, 0, 0)]
    if len(kept) > 2 or len(reduced) > 3 or any([s % itemsize for s in strides]):
        return None
    nk, nr = step, reduced[0][0]
    outer = 1
    for n, _, _ in reduced[1:]:
        outer *= n
    if reduced[0][1] == 1:
        unit = "r"
    elif kept[0][1] == 1 and kept[0][0] > 1:
        unit = "k"
    else:
        unit = ""
    block = block_elements(itemsize, wide)
    bk, br, warps = _tile(nk, nr, outer, unit if unit else "k" if abs(kept[0][1]) < abs(reduced[0][1]) else "r", block,
                          itemsize)
    if len(reduced) > 1 and bk * br * 8 < block and outer > 64:
        return None  # a small inner dimension leaves the tile nearly empty
    vector = _vector(kept, reduced, unit, itemsize)
    programs = -(-nk // bk)
    steps = outer * -(-nr // br)
    splits, span = 1, max(steps, 1)
    want = wanted_programs()
    if split and programs * 2 <= want and steps > 4:
        splits = min(want // programs * 2 if want > 4 else want // programs, steps // 2)
        span = -(-steps // splits)
        splits = -(-steps // span)
    reach = sum([(n - 1) * abs(s) for n, s, _ in kept]) + sum([(n - 1) * abs(s) for n, s, _ in reduced if n])
    big = max(reach + bk + br, nk + bk, outer * (nr + br), splits * nk) >= LIMIT
    (k0, sk0, so0), (_, sk1, so1) = (kept + [(1, 0, 0)])[:2]
    (_, sr0, _), (r1, sr1, _), (_, sr2, _) = (reduced + [(1, 0, 0), (1, 0, 0)])[:3]
    v = vector
    if unit == "r":
        sizes = (nk, k0, sk0 // v, sk1 // v, so0, so1, nr // v, r1, outer, 1, sr1 // v, sr2 // v, span)
    elif unit == "k":
        sizes = (nk // v, k0 // v, 1, sk1 // v, so0, so1, nr, r1, outer, sr0 // v, sr1 // v, sr2 // v, span)
    else:
        sizes = (nk, k0, sk0, sk1, so0, so1, nr, r1, outer, sr0, sr1, sr2, span)
    constants = {"KD": len(kept), "RD": len(reduced), "UNIT": unit, "VECTOR": v, "LONG": big, "BK": bk, "BR": br,
                 "num_warps": warps}
    return Plan(sizes, constants, nk, programs, splits)


def _vector(kept: Any, reduced: Any, unit: str, itemsize: int) -> int:
    v = 16 // itemsize
    first, others = (reduced, kept) if unit == "r" else (kept, reduced)
    if not unit or v < 2 or first[0][0] % v:
        return 1
    if any([s % v for _, s, _ in others]) or any([s % v for _, s, _ in first[1:]]):
        return 1
    return v


def _tile(nk: int, nr: int, outer: int, unit: str, block: int, itemsize: int) -> tuple[int, int, int]:
    """Kept and reduced elements of a tile, and warps."""
    if unit == "r":
        br = min(power(max(nr, 1)), block)
        if br == block and nr >= 8 * block and not runtime.active().emulated:
            return 1, 2 * block, 8
        bk = min(block // br, power(nk))
        while bk > 1 and bk * wanted_programs() > nk:
            bk //= 2
    else:
        line = max(128 // itemsize, 16)  # columns that fill a line of memory
        br = min(power(max(nr, 1)), max(block // min(power(nk), line), 1))
        bk = min(power(nk), block // br)
        while bk > line and bk * wanted_programs() > nk:
            bk //= 2
    elements = bk * br
    return bk, br, 4 if elements >= 1024 else 2 if elements >= 512 else 1


_plans: dict[Any, Any] = {}


def remembered(key: Any, make: Any, *arguments: Any) -> Any:
    """What was made for this key, made at the first time."""
    found = _plans.get(key, _plans)
    if found is _plans:
        if len(_plans) >= 8192:
            _plans.clear()
        found = _plans[key] = make(*arguments)
    return found


def forget() -> None:
    """Plan anew (tests change the size of tiles)."""
    _plans.clear()


# --- on the device ---

@triton.jit
def tile(nk, k0, sk0, sk1, nr, r1, sr0, sr1, sr2, UNIT: tl.constexpr, VECTOR: tl.constexpr,
         LONG: tl.constexpr, BK: tl.constexpr):
    """The numbers in the kernel's integer type, multiplied by what they were divided by: (k, nk, k0, sk0, sk1, nr, r1,
    sr0, sr1, sr2). k: this program's kept elements."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    row: tl.constexpr = VECTOR if UNIT == "r" else 1
    column: tl.constexpr = VECTOR if UNIT == "k" else 1
    k = tl.program_id(0).to(kind) * BK + tl.arange(0, BK)
    return (k, nk.to(kind) * column, k0.to(kind) * column, sk0.to(kind) * row, sk1.to(kind) * VECTOR,
            nr.to(kind) * row, r1.to(kind), sr0.to(kind) * column, sr1.to(kind) * VECTOR, sr2.to(kind) * VECTOR)


@triton.jit
def kept_offset(k, k0, s0, s1, KD: tl.constexpr, ONE: tl.constexpr):
    """Where the kept elements begin; ONE: the fastest stride is 1."""
    if KD == 1:
        offset = k if ONE else k * s0
    else:
        first = k % k0
        offset = (first if ONE else first * s0) + k // k0 * s1
    return offset


@triton.jit
def outer_offset(t, r1, s1, s2, RD: tl.constexpr):
    """Where the inner reduced elements begin."""
    if RD == 1:
        offset = t * 0
    elif RD == 2:
        offset = t * s1
    else:
        offset = t % r1 * s1 + t // r1 * s2
    return offset
