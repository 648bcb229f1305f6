"""The emulated device: host memory, streams that run at once, kernels in Triton's interpreter.

It takes the same calls as the CUDA runtime. Fresh memory is filled with a pattern, so that reading what nobody wrote
shows; ``live`` and ``starts`` name the ranges in use, and every access of a kernel is checked against them
(``emulation.py``). Pages of a large piece exist only where they were written.

``TRITIUM_EMULATED_DEVICES``: how many devices (1); ``TRITIUM_EMULATED_MEMORY``: the bytes of each (what the host has).
"""
from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime.base import CAPTURING, OutOfDeviceMemory, Properties
from tritium.kernels.runtime.state import current

ALIGNMENT = 256
PATTERN = 0xFF  # nan in every float type, -1 in every integer type
FILLED = 1 << 20  # bytes up to which fresh memory is filled with the pattern
PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # pages that are not reserved (MAP_NORESERVE)


class HostRuntime:
    """A device that is a part of the host's memory.

    ``live``: address of each piece in use -> (its end,), a new tuple for every piece; ``holders``: what holds it."""

    name = "host"
    emulated = True
    target = "cuda"
    launch_kernel = None

    def __init__(self) -> None:
        self.live: dict[int, tuple[int]] = {}
        self.holders: dict[int, Any] = {}
        self.devices = int(os.environ.get("TRITIUM_EMULATED_DEVICES", "1"))
        self.total = int(os.environ.get("TRITIUM_EMULATED_MEMORY", "0")) or _host_memory()
        self.used = [0] * self.devices
        self.highest = [0] * self.devices
        self.pinned: dict[int, Any] = {}
        self.handles = itertools.count(1 + self.devices)  # the first ones are the default streams
        self.streams: dict[int, int] = {i + 1: i for i in range(self.devices)}
        self.events: dict[int, tuple[float, Any]] = {}  # event -> when, and the capture it was recorded in
        self.captures: dict[int, list[Callable[[], Any]]] = {}  # stream -> what was launched on it
        self.graphs: dict[int, list[Callable[[], Any]]] = {}
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    def device_count(self) -> int:
        return self.devices

    def properties(self, device: int) -> Properties:
        return Properties("Emulated device (Triton interpreter)", 9, 0, self.total, 132, l2_cache=50 << 20)

    def set_device(self, device: int) -> None:
        pass

    def check(self, code: Any) -> None:
        if code:
            raise RuntimeError(f"CUDA error: {code}")

    # memory

    def alloc(self, nbytes: int, device: int, stream: int) -> int:
        if stream in self.captures:
            raise RuntimeError(CAPTURING)
        if self.used[device] + nbytes > self.total:
            raise OutOfDeviceMemory(f"{nbytes} bytes")
        ptr, holder = _piece(nbytes)
        self.holders[ptr] = holder
        self.live[ptr] = (ptr + nbytes,)
        self._sorted = None
        self.used[device] += nbytes
        self.highest[device] = max(self.highest[device], self.used[device])
        return ptr

    def free(self, ptr: int, device: int, stream: int) -> None:
        end, = self.live.pop(ptr)
        del self.holders[ptr]
        self._sorted = None
        self.used[device] -= end - ptr

    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """The first addresses of all pieces in use, in order, and the ends of the same pieces (int64)."""
        found = self._sorted
        if found is None:
            starts = np.sort(np.fromiter(self.live, np.int64, len(self.live)))
            ends = np.fromiter((self.live[s][0] for s in starts.tolist()), np.int64, len(starts))
            found = self._sorted = starts, ends
        return found

    def memory_info(self, device: int) -> tuple[int, int]:
        return self.total - self.used[device], self.total

    def reserved(self, device: int) -> tuple[int, int]:
        return self.used[device], self.highest[device]

    def reset_peak(self, device: int) -> None:
        self.highest[device] = self.used[device]

    def trim(self, device: int) -> None:
        pass

    def host_alloc(self, nbytes: int) -> int:
        ptr, self.pinned[ptr] = _piece(nbytes)
        return ptr

    def host_free(self, ptr: int) -> None:
        del self.pinned[ptr]

    def copy(self, dst: int, src: int, nbytes: int, stream: int) -> None:
        if not self.record(lambda: ctypes.memmove(dst, src, nbytes), stream):
            ctypes.memmove(dst, src, nbytes)

    def memset(self, ptr: int, value: int, width: int, count: int, stream: int) -> None:
        if not self.record(lambda: self._set(ptr, value, width, count), stream):
            self._set(ptr, value, width, count)

    def _set(self, ptr: int, value: int, width: int, count: int) -> None:
        pages = self.holders.get(ptr)
        if not value and isinstance(pages, mmap.mmap) and width * count > FILLED:
            whole = width * count // PAGE * PAGE
            pages.madvise(mmap.MADV_DONTNEED, 0, whole)  # whole pages become zero by being dropped
            ctypes.memset(ptr + whole, 0, width * count - whole)
            return
        kind: Any = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32}[width]
        np.ctypeslib.as_array((kind * count).from_address(ptr))[:] = value

    # streams and events: everything is done as soon as it is asked for

    def default_stream(self, device: int) -> int:
        return device + 1

    def stream_create(self, device: int, priority: int) -> int:
        stream = next(self.handles)
        self.streams[stream] = device
        return stream

    def stream_device(self, stream: int, default: int) -> int:
        return self.streams.get(stream, default)

    def stream_synchronize(self, stream: int) -> None:
        if stream in self.captures:
            raise RuntimeError(CAPTURING)

    def stream_query(self, stream: int) -> bool:
        self.stream_synchronize(stream)
        return True

    def stream_wait(self, stream: int, event: int) -> None:
        kept = self.events[event][1] if event in self.events else None
        if kept is not None and any(kept is one for one in self.captures.values()):
            self.captures.setdefault(stream, kept)  # the stream joins the capture

    def event_create(self, device: int, timing: bool, blocking: bool) -> int:
        return next(self.handles)

    def event_destroy(self, event: int) -> None:
        self.events.pop(event, None)

    def event_record(self, event: int, stream: int) -> None:
        self.events[event] = time.perf_counter(), self.captures.get(stream)

    def event_query(self, event: int) -> bool:
        return True

    def event_synchronize(self, event: int) -> None:
        pass

    def event_elapsed(self, start: int, end: int) -> float:
        return 1e3 * (self.events[end][0] - self.events[start][0])

    def synchronize(self, device: int) -> None:
        if self.captures:
            raise RuntimeError(CAPTURING)

    # kernels run in the interpreter (launch.py); a graph is a list of what to run

    def load(self, image: bytes, name: str, shared: int) -> int:
        raise RuntimeError("the emulated device runs no machine code")

    def record(self, work: Callable[[], Any], stream: int | None = None) -> bool:
        """Keep ``work`` if the stream (None: the thread's current one) is being captured, for the graph to run at every
        replay. False: it is not, and the caller runs it now."""
        if not self.captures:
            return False
        kept = self.captures.get(current.stream if stream is None else stream)
        if kept is None:
            return False
        kept.append(work)
        return True

    def submit(self, launch: Callable[[tuple[Any, ...]], None], arguments: tuple[Any, ...]) -> None:
        """Call ``launch(arguments)``, now or at every replay of the graph that is being captured."""
        if self.captures and current.stream in self.captures:
            given = tuple([_bare(a) if isinstance(a, DeviceArray) else a for a in arguments])
            self.record(lambda: launch(given))
        else:
            launch(arguments)

    def capture_begin(self, stream: int, mode: str) -> None:
        self.captures[stream] = []

    def capture_end(self, stream: int) -> int:
        graph = next(self.handles)
        kept = self.graphs[graph] = self.captures[stream]
        self.captures = {s: one for s, one in self.captures.items() if one is not kept}
        return graph

    def graph_launch(self, graph: int, stream: int) -> None:
        for work in self.graphs[graph]:
            work()

    def graph_destroy(self, graph: int) -> None:
        del self.graphs[graph]


class Place:
    """Where a block is, without keeping it: what a captured launch remembers of an array's owner."""

    def __init__(self, block: Any) -> None:
        self.ptr, self.nbytes, self.device, self.stream = block.ptr, block.nbytes, block.device, block.stream

    def used_on(self, stream: int) -> None:
        """Nothing: the graph keeps the memory."""


def _bare(array: DeviceArray) -> DeviceArray:
    return DeviceArray(Place(array.owner), array.ptr, array.shape, array.dtype, array.strides)


def _piece(nbytes: int) -> tuple[int, Any]:
    """Memory: its aligned address, and what holds it."""
    if nbytes > FILLED:
        pages = mmap.mmap(-1, nbytes, PRIVATE)
        return _address(pages), pages
    raw = np.full(nbytes + ALIGNMENT, PATTERN, np.uint8)
    start = raw.ctypes.data
    return start + -start % ALIGNMENT, raw


def _address(pages: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(pages))


def _host_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * PAGE
    except (ValueError, OSError, AttributeError):
        return 64 << 30
