"""The memory that a launch may touch: where its accesses go, and whether they may.

Every enabled lane of every access must lie inside one live allocation of the host runtime, and be aligned to its size:
what a GPU would do silently is an IndexError here.
"""
from __future__ import annotations

import bisect
import ctypes
from typing import Any

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.runtime.emulation.races import Races

WORDS: dict[int, Any] = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.uint32), 8: np.dtype(np.uint64)}
SHIFT = {1: 0, 2: 1, 4: 2, 8: 3}


class Region:
    """One live allocation: ``start`` to ``end``, seen as words of 1, 2, 4 or 8 bytes.

    ``entry``: what the runtime notes of it, another object once the memory was freed and given out again."""

    __slots__ = ("start", "end", "entry", "views")

    def __init__(self, start: int, end: int, entry: Any) -> None:
        self.start, self.end, self.entry = start, end, entry
        self.views: dict[int, Any] = {}

    def words(self, size: int) -> Any:
        found = self.views.get(size)
        if found is None:
            count = (self.end - self.start) // size
            bytes_: Any = (ctypes.c_ubyte * (count * size)).from_address(self.start)  # the runtime holds the memory
            found = self.views[size] = np.frombuffer(bytes_, WORDS[size])
        return found


class Launch:
    """What is known while a kernel runs: its name, the program that runs, the allocations it is known to touch."""

    __slots__ = ("name", "program", "grid", "regions", "exact", "live", "races")

    def __init__(self, name: str, grid: tuple[int, int, int], live: dict[int, Any], races: Races | None) -> None:
        self.name, self.grid, self.live, self.races = name, grid, live, races
        self.program = (0, 0, 0)
        self.regions: list[Region] = []
        self.exact: dict[int, Region] = {}

    def admit(self, owner: Any) -> None:
        """Note the allocation that an argument lies in: the first place to look, and known to the byte (the runtime
        gives out memory in larger steps)."""
        region = _region(owner.ptr, owner.nbytes, self.live)
        if region is not None and region not in self.regions:
            self.regions.append(region)
            self.exact[region.start] = region


_regions: dict[tuple[int, int | None], Region] = {}
_starts: list[int] = []


def _region(start: int, nbytes: int | None, live: dict[int, Any]) -> Region | None:
    """The live allocation that starts somewhere, of so many bytes (None: what the runtime says)."""
    entry = live.get(start)
    found = _regions.get((start, nbytes))
    if found is not None and found.entry is entry:
        return found
    if entry is None:
        return None
    if len(_regions) > 4096:
        _regions.clear()
    end = entry[0] if nbytes is None else min(entry[0], start + nbytes)
    found = _regions[start, nbytes] = Region(start, end, entry)
    return found


def _around(address: int, launch: Launch) -> Region | None:
    """The live allocation that holds an address, by a sorted list that is made anew only when it misleads."""
    global _starts
    for fresh in (False, True):
        if fresh:
            _starts = sorted(launch.live)
        i = bisect.bisect_right(_starts, address) - 1
        if i >= 0:
            region = launch.exact.get(_starts[i]) or _region(_starts[i], None, launch.live)
            if region is not None and address < region.end:
                return region
    return None


def find(launch: Launch, address: Any, mask: Any, size: int, what: str) -> Region | None:
    """The allocation that holds every enabled lane; None where no lane is enabled or they spread over several.

    ``address``: int64; ``mask``: bool or None, broadcastable. Raises IndexError for a lane outside, or misaligned."""
    if address.size == 1:
        lo = hi = address.item()
        if mask is not None and not mask.any():
            return None
        bits = lo
    else:
        lo, hi = int(address.min()), int(address.max())
        bits = int(np.bitwise_or.reduce(address, axis=None)) if size > 1 else 0
    hi += size
    if not bits & (size - 1):
        for region in launch.regions:
            if region.start <= lo and hi <= region.end:
                return region
    if mask is not None and mask.size > 1:  # what the disabled lanes point at is nobody's business
        if address.shape != mask.shape:
            address, mask = np.broadcast_arrays(address, mask)
        address = address[mask]
        if not address.size:
            return None
        lo, hi = int(address.min()), int(address.max()) + size
        bits = int(np.bitwise_or.reduce(address))
    if bits & (size - 1):
        wrong = np.atleast_1d(address)[np.atleast_1d(address) & (size - 1) != 0]
        raise IndexError(f"{_who(launch, what, size)}: misaligned address in {wrong.size} of {address.size} lanes, the "
                         f"first {int(wrong[0]):#x}")
    for region in launch.regions:
        if region.start <= lo and hi <= region.end:
            return region
    found = _around(lo, launch)
    if found is not None and hi <= found.end:
        if len(launch.regions) < 64:
            launch.regions.append(found)
        return found
    _scattered(launch, address.reshape(-1), size, what)
    return None


def _scattered(launch: Launch, address: Any, size: int, what: str) -> None:
    """Lanes in several allocations: each must lie in one."""
    starts = np.array(sorted(launch.live), np.int64)
    ends = np.array([launch.exact[s].end if s in launch.exact else launch.live[s][0] for s in starts.tolist()],
                    np.int64)
    if len(starts):
        i = np.searchsorted(starts, address, side="right") - 1
        bad = (i < 0) | (address + size > ends[np.maximum(i, 0)])
    else:
        bad = np.ones(address.shape, bool)
    if bad.any():
        first = int(address[bad][0])
        raise IndexError(f"{_who(launch, what, size)}: {int(bad.sum())} of {address.size} lanes outside every live "
                         f"allocation, the first at {first:#x}{_near(first, size, starts, ends)}")


def _who(launch: Launch, what: str, size: int) -> str:
    return f"{launch.name}, program {launch.program}: {what} of {size} byte{'s' * (size > 1)}"


def _near(address: int, size: int, starts: Any, ends: Any) -> str:
    """Where an address is in words: which allocation it just misses."""
    i = int(np.searchsorted(starts, address, side="right")) - 1
    after = address - int(ends[i]) if i >= 0 else 1 << 62
    before = int(starts[i + 1]) - address if i + 1 < len(starts) else 1 << 62
    if min(after, before) > 1 << 20:
        return ", far from any (freed, or never allocated)"
    if after <= before:
        length = int(ends[i] - starts[i])
        if after < 0:
            return f", across the end of a block of {length} bytes"
        return f", {after} bytes past the end of a block of {length} bytes"
    return f", {before} bytes before a block of {int(ends[i + 1] - starts[i + 1])} bytes"


def live() -> dict[int, Any]:
    """The live allocations of the emulated device: address -> (end, ...)."""
    return runtime.active().live
