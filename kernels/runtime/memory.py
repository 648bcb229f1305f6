"""Device memory with an owner (``Block``), the blocks that wait to be used again (``Home``), and what is counted.

A block belongs to the stream it was allocated on. When it goes, its memory is ready for the next block of the same
stream at once, in stream order: whatever was launched before it went comes before whatever is launched after. If other
streams used it, its stream first waits for them. The device's own pool lies below: it is asked when no waiting block
has the size, and gets back what would wait in vain.

Sizes are counted in steps of 512 bytes, as PyTorch does. Nothing here takes a lock: a block may go at any moment, also
in the middle of these functions, and every step is one that Python does not divide.
"""
from __future__ import annotations

import atexit
import gc
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.runtime.base import OutOfDeviceMemory, OutOfMemoryError
from tritium.kernels.runtime.state import current

STEP = 512
LARGEST = 64 << 20  # bytes of the largest block that waits; larger ones go back to the pool
MOST = 1 << 30  # bytes that wait in one stream's home before all of them go back

_running = True


class Counts:
    """What one device's blocks hold, in bytes."""

    __slots__ = ("allocated", "peak", "retries", "failures")

    def __init__(self) -> None:
        self.allocated = self.peak = self.retries = self.failures = 0


class Home:
    """Where the memory of one stream's blocks comes from and goes to.

    ``bins``: addresses that wait, by size; ``largest``: the size up to which they may."""

    __slots__ = ("device", "stream", "counts", "bins", "waiting", "largest", "capture")

    capture: Any  # the graph that this stream is being captured into

    def __init__(self, device: int, stream: int, bins: dict[int, list[int]] | None = None) -> None:
        self.device, self.stream = device, stream
        self.counts = counts_of(device)
        self.bins: dict[int, list[int]] = {} if bins is None else bins
        self.waiting = 0
        self.largest = 0
        self.open()

    def open(self) -> None:
        """Let blocks wait here; not on the emulated device, where use after the end shall be seen."""
        self.largest = -1 if runtime.active().emulated else LARGEST
        self.capture = None
        _captured.pop(self.stream, None)

    def close(self, capture: Any) -> None:
        """Blocks that go from now on belong to the graph that is being captured."""
        self.largest, self.capture = -1, capture
        _captured[self.stream] = capture

    def take(self, size: int) -> int:
        """Memory from the device's pool. Raises OutOfMemoryError."""
        active = runtime.active()
        try:
            return active.alloc(size, self.device, self.stream)
        except OutOfDeviceMemory:
            self.counts.retries += 1
        gc.collect()
        empty_cache(self.device, wait=current.capture is None)
        try:
            return active.alloc(size, self.device, self.stream)
        except OutOfDeviceMemory:
            self.counts.failures += 1
            raise OutOfMemoryError(_words(size, self.device)) from None

    def give(self, block: Block) -> None:
        """Take the memory of a block that goes and may not simply wait."""
        graph = captured_by({self.stream, *(block.others or ())})
        if graph is not None:
            graph.adopt(block.ptr, block.size, self, block.others)
            return
        try:
            if block.others:
                after(self.device, self.stream, block.others)
        except RuntimeError:
            return  # the device has failed: whoever asks it for something will be told
        if block.size <= self.largest:
            self.bins.setdefault(block.size, []).append(block.ptr)
            self.waiting += block.size
        else:
            runtime.active().free(block.ptr, self.device, self.stream)

    def clear(self) -> None:
        """Give all that waits back to the device's pool."""
        if self.capture is not None:
            return  # nothing is freed on a stream that is being captured
        active = runtime.active()
        for size in list(self.bins):
            ready = self.bins[size]
            while True:
                try:
                    ptr = ready.pop()
                except IndexError:
                    break
                self.waiting -= size
                active.free(ptr, self.device, self.stream)


class Block:
    """``nbytes`` bytes at ``ptr`` on ``device``, allocated in the order of ``stream``; freed when the object goes.

    ``others``: further streams that used it. Raises OutOfMemoryError."""

    __slots__ = ("ptr", "nbytes", "size", "device", "stream", "home", "others", "__weakref__")

    ptr: int
    others: set[int] | None

    def __init__(self, nbytes: int, device: int | None = None) -> None:
        self.ptr = 0
        self.others = None
        self.nbytes = nbytes
        home = current.home
        if home is None or (device is not None and device != home.device):
            home = find_home(device)
        self.home = home
        self.device = home.device
        self.stream = home.stream
        if nbytes:
            self.size = size = (nbytes + 511) & -512
            try:
                self.ptr = home.bins[size].pop()
                home.waiting -= size
            except (KeyError, IndexError):
                self.ptr = home.take(size)
            counts = home.counts
            counts.allocated = now = counts.allocated + size
            if now > counts.peak:
                counts.peak = now

    def used_on(self, stream: int) -> None:
        """Note that work on another stream uses this memory: it is not used again before that work is done."""
        if stream != self.stream:
            others = self.others
            if others is None:
                others = self.others = set()
            others.add(stream)
            if current.capture is not None:
                current.capture.keep(self)

    def __del__(self) -> None:
        ptr = self.ptr
        if not ptr or not _running:
            return
        home, size = self.home, self.size
        home.counts.allocated -= size
        if self.others is None and size <= home.largest:
            try:
                home.bins[size].append(ptr)
            except KeyError:
                home.bins.setdefault(size, []).append(ptr)
            home.waiting += size
            if home.waiting > MOST:
                home.clear()
        else:
            home.give(self)


_homes: dict[tuple[int, int], Home] = {}
_captured: dict[int, Any] = {}  # stream -> the graph that it is being captured into
_counts: dict[int, Counts] = {}
_events: dict[int, list[int]] = {}


def counts_of(device: int) -> Counts:
    """What is counted of a device."""
    return _counts.setdefault(device, Counts())


def home_of(device: int, stream: int) -> Home:
    """The home of a stream's blocks."""
    found = _homes.get((device, stream))
    return _homes.setdefault((device, stream), Home(device, stream)) if found is None else found


def find_home(device: int | None = None) -> Any:
    """The home of the current stream of a device (None: the current one): a graph's while one is being captured."""
    if device is None:
        device = current.device
    stream = current.on(device)
    found = home_of(device, stream) if current.capture is None else current.capture.home(device, stream)
    if device == current.device:
        current.home = found
    return found


def captured_by(streams: set[int]) -> Any:
    """A graph that one of these streams is being captured into, or None. There, waiting for it and freeing on it would
    become a part of the graph, and captured kernels may use the memory at every replay: the graph takes it over."""
    if not _captured:
        return None
    return next((graph for stream, graph in list(_captured.items()) if stream in streams), None)


def after(device: int, stream: int, others: set[int]) -> None:
    """Make what comes on ``stream`` wait for all that was launched on ``others``."""
    active = runtime.active()
    for other in others:
        if other != stream:
            device_of_other = active.stream_device(other, device)
            ready = _events.setdefault(device_of_other, [])
            try:
                event = ready.pop()
            except IndexError:
                event = active.event_create(device_of_other, False, False)
            active.event_record(event, other)
            active.stream_wait(stream, event)
            ready.append(event)  # a wait is for what the event was when it was asked for


def give_back(device: int, stream: int, pieces: list[tuple[int, int]], others: set[int]) -> None:
    """Free (address, size) pieces on their stream, after all that was launched on ``others``."""
    if not _running:
        return
    graph = captured_by({stream, *others})
    if graph is not None:
        for ptr, size in pieces:
            graph.adopt(ptr, size, home_of(device, stream), others)
        return
    try:
        after(device, stream, others)
    except RuntimeError:
        return  # the device has failed
    for ptr, _ in pieces:
        runtime.active().free(ptr, device, stream)


def empty_cache(device: int | None = None, wait: bool = True) -> None:
    """Give the memory that nobody uses back to the system; ``wait`` for the device's work first, which frees more."""
    active = runtime.active()
    for h in list(_homes.values()):
        if device is None or h.device == device:
            h.clear()
    for index in {h.device for h in list(_homes.values())} if device is None else {device}:
        if wait:
            active.synchronize(index)
        active.trim(index)


def stop() -> None:
    """From now on nothing is freed: the process ends, or it is a child that must not touch the parent's memory."""
    global _running
    _running = False


def running() -> bool:
    """Whether memory is still freed."""
    return bool(_running)


atexit.register(stop)


# --- figures ---

def amount(nbytes: int) -> str:
    """A number of bytes in words, as PyTorch puts it."""
    if nbytes <= 1024:
        return f"{nbytes} bytes"
    for unit, power in (("KiB", 10), ("MiB", 20)):
        if nbytes <= 1 << power + 10:
            return f"{nbytes / (1 << power):.2f} {unit}"
    return f"{nbytes / (1 << 30):.2f} GiB"


def _words(size: int, device: int) -> str:
    active = runtime.active()
    free, total = active.memory_info(device)
    allocated = counts_of(device).allocated
    unused = max(active.reserved(device)[0] - allocated, 0)
    return (f"CUDA out of memory. Tried to allocate {amount(size)}. GPU {device} has a total capacity of "
            f"{amount(total)} of which {amount(free)} is free. Of the allocated memory {amount(allocated)} is "
            f"allocated by tritium, and {amount(unused)} is reserved by tritium but unallocated.")


def stats(device: int) -> dict[str, int]:
    """What is known of a device's memory, under PyTorch's names."""
    if not runtime.is_active():
        return {name: 0 for name in NAMES}
    c = counts_of(device)
    reserved, highest = runtime.active().reserved(device)
    return dict(zip(NAMES, (c.allocated, c.peak, reserved, max(highest, reserved), max(reserved - c.allocated, 0),
                            c.retries, c.failures), strict=True))


NAMES = ("allocated_bytes.all.current", "allocated_bytes.all.peak", "reserved_bytes.all.current",
         "reserved_bytes.all.peak", "inactive_split_bytes.all.current", "num_alloc_retries", "num_ooms")


def reset_peak(device: int) -> None:
    """The highest marks are what is held now."""
    if runtime.is_active():
        c = counts_of(device)
        c.peak = c.allocated
        runtime.active().reset_peak(device)


__all__ = ["Block", "OutOfMemoryError"]
