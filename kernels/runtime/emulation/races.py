"""Races between programs, found on request (``TRITIUM_CHECK_RACES=1``, or ``races.checking()``).

The programs of a launch run in no order on a GPU. So no program may read or write what another one writes in the same
launch, except by atomics; nor may two lanes of one store put different values in one place. A program that did an
atomic may read what others wrote (it is taken to have waited for them).
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

enabled = os.environ.get("TRITIUM_CHECK_RACES", "0") not in ("", "0")
NOBODY, SEVERAL = 0, -1
PAGE = 20  # bits of an address within a page


class RaceError(RuntimeError):
    """Two programs of one launch touched the same memory, and one of them wrote to it."""


@contextlib.contextmanager
def checking(on: bool = True) -> Iterator[None]:
    """Launches inside are checked for races (or, with False, are not)."""
    global enabled
    before, enabled = enabled, on
    try:
        yield
    finally:
        enabled = before


class Races:
    """Who touched which byte, in one launch. Programs are counted from 1."""

    def __init__(self) -> None:
        self.pages: dict[int, tuple[Any, ...]] = {}  # megabyte -> who wrote, read, updated each of its bytes
        self.waited: set[int] = set()

    def touch(self, launch: Any, region: Any, address: Any, mask: Any, size: int, what: str, value: Any = None) -> None:
        """Note an access (``what``: "load", "store" or "atomic"). Raises RaceError."""
        x, y, z = launch.program
        me = 1 + x + launch.grid[0] * (y + launch.grid[1] * z)
        shape = address.shape if mask is None else np.broadcast_shapes(address.shape, mask.shape)
        at = np.broadcast_to(address, shape)
        at = at.reshape(-1) if mask is None else at[np.broadcast_to(mask, shape)]
        if not at.size:
            return
        if what == "store" and len(at) > 1:
            self._duplicates(launch, at - region.start, np.broadcast_to(value, shape), mask)
        at = (at[:, None] + np.arange(size)).reshape(-1)
        first, last = int(at.min()) >> PAGE, int(at.max()) >> PAGE
        pages = [first] if first == last else np.unique(at >> PAGE).tolist()
        for page in pages:
            self._touch(launch, region, page, at if len(pages) == 1 else at[at >> PAGE == page], me, what)
        if what == "atomic":
            self.waited.add(me)

    def _touch(self, launch: Any, region: Any, page: int, at: Any, me: int, what: str) -> None:
        """An access within one page."""
        if page not in self.pages:
            self.pages[page] = tuple([np.zeros(1 << PAGE, np.int32) for _ in range(3)])
        writer, reader, atomic = self.pages[page]
        at = at - (page << PAGE)
        if me not in self.waited:
            self._foreign(launch, region, page, at, writer, me, what, "was written")
            if what != "atomic":
                self._foreign(launch, region, page, at, atomic, me, what, "was updated atomically")
            if what != "load":
                self._foreign(launch, region, page, at, reader, me, what, "was read")
        if what == "store":
            writer[at] = me
        else:
            kind = atomic if what == "atomic" else reader
            kind[at] = np.where((kind[at] == NOBODY) | (kind[at] == me), me, SEVERAL)

    def _foreign(self, launch: Any, region: Any, page: int, at: Any, shadow: Any, me: int, what: str,
                 happened: str) -> None:
        found = shadow[at]
        bad = (found != NOBODY) & (found != me)
        if bad.any():
            first, other = int(at[bad][0]) + (page << PAGE) - region.start, int(found[bad][0]) - 1
            gx, gy, _ = launch.grid
            place = (other % gx, other // gx % gy, other // gx // gy)
            who = "several programs" if other < 0 else f"program {place}"
            raise RaceError(f"{launch.name}, program {launch.program}: {what} of byte {first} of a block of "
                            f"{region.end - region.start} bytes, which {happened} by {who} in the same launch")

    def _duplicates(self, launch: Any, at: Any, value: Any, mask: Any) -> None:
        value = value[np.broadcast_to(mask, value.shape)] if mask is not None else value.reshape(-1)
        order = np.argsort(at, kind="stable")
        at, value = at[order], value[order]
        twice = (at[1:] == at[:-1]) & (value[1:] != value[:-1])
        if twice.any():
            raise RaceError(f"{launch.name}, program {launch.program}: two lanes of a store put different values at "
                            f"byte {int(at[1:][twice][0])}")
