"""Pinned (page-locked) host memory: copies between it and a device run beside the host's work.

Asking the driver for it is slow and waits for the device, so pieces are kept, in sizes that are powers of two. A piece
remembers the copies that use it, and is used again only when they are done.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.runtime import memory
from tritium.kernels.runtime.state import current

_idle: dict[int, list[int]] = {}
_busy: list[tuple[list[tuple[int, int]], int, int]] = []  # (events, address, size) of pieces that copies still use
_events: dict[int, list[int]] = {}  # that wait to be used again, by device


class Piece:
    """Pinned memory of ``nbytes`` bytes at ``ptr``; NumPy sees bytes."""

    __slots__ = ("ptr", "nbytes", "size", "events", "__weakref__")

    def __init__(self, nbytes: int) -> None:
        self.ptr = 0
        self.nbytes = nbytes
        self.size = max(512, 1 << (nbytes - 1).bit_length())
        self.events: dict[int, tuple[int, int]] = {}  # stream -> (event, device) of the last copy that uses it
        self.ptr = _take(self.size)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"shape": (self.nbytes,), "typestr": "|u1", "data": (self.ptr, False), "version": 3}

    def used_on(self, stream: int) -> None:
        """Note that a copy that was just launched on a stream uses this memory."""
        if current.capture is not None:
            current.capture.kept[id(self)] = self  # the copy is made at every replay
            return
        active = runtime.active()
        found = self.events.get(stream)
        if found is None:
            device = active.stream_device(stream, current.device)
            try:
                found = _events.setdefault(device, []).pop(), device
            except IndexError:
                found = active.event_create(device, False, False), device
            self.events[stream] = found
        active.event_record(found[0], stream)

    def __del__(self) -> None:
        if self.ptr and memory.running():
            if self.events:
                _busy.append((list(self.events.values()), self.ptr, self.size))
            else:
                _idle.setdefault(self.size, []).append(self.ptr)


def _pending(events: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The events that have not come yet; the others serve again."""
    rest = []
    for event, device in events:
        if runtime.active().event_query(event):
            _events[device].append(event)
        else:
            rest.append((event, device))
    return rest


def _take(size: int) -> int:
    if current.capture is None:  # a capture forbids the question
        _settle()
    try:
        return _idle.setdefault(size, []).pop()
    except IndexError:
        return runtime.active().host_alloc(size)


def _settle() -> None:
    """Take back the pieces whose copies are done."""
    for _ in range(len(_busy)):
        try:
            events, ptr, size = _busy.pop(0)
        except IndexError:
            return
        events = _pending(events)
        if events:
            _busy.append((events, ptr, size))
        else:
            _idle.setdefault(size, []).append(ptr)


def empty_cache() -> None:
    """Give the pinned memory that nobody uses back to the system."""
    _settle()
    for waiting in list(_idle.values()):
        while waiting:
            runtime.active().host_free(waiting.pop())


def pinned_empty(nbytes: int) -> np.ndarray:
    """A new array of bytes, of any value, in pinned memory; it is freed after the copies that use it are done."""
    return np.asarray(Piece(nbytes)) if nbytes else np.empty(0, np.uint8)


def empty(shape: Any, dtype: Any) -> np.ndarray:
    """A new C-contiguous array of any values in pinned memory."""
    dtype = np.dtype(dtype)
    return pinned_empty(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def piece_of(array: np.ndarray) -> Piece | None:
    """The pinned memory that an array looks at, if any."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, Piece) else None


def is_pinned(array: np.ndarray) -> bool:
    """Whether an array lies in memory of ``pinned_empty``."""
    return piece_of(array) is not None
