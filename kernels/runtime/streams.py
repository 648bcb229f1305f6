"""Streams and events as objects, with devices as indices.

The driver's streams are never destroyed: when a ``Stream`` goes, the next one gets its handle, so that memory may go on
naming the stream it belongs to.
"""
from __future__ import annotations

from typing import Any

from tritium.kernels import runtime
from tritium.kernels.runtime import memory
from tritium.kernels.runtime.state import current, forbid

_idle: dict[tuple[int, int], list[int]] = {}  # handles that nobody holds, by (device, priority)


class Handle:
    """A driver's stream, held. ``number``: its handle."""

    __slots__ = ("number", "key")

    def __init__(self, device: int, priority: int = 0) -> None:
        current.check(device)
        self.key = (device, priority)
        idle = _idle.setdefault(self.key, [])
        try:
            self.number = idle.pop()
        except IndexError:
            self.number = runtime.active().stream_create(device, priority)

    def __del__(self) -> None:
        if hasattr(self, "number") and memory.running():
            _idle[self.key].append(self.number)


def enter(stream: Stream) -> tuple[int, int, int, Any]:
    """Make a stream, and its device, current on this thread. Returns what ``leave`` needs to undo it."""
    device, index = current.device, stream.index
    before = (device, index, current.on(index), current.held.get(index))
    if index != device:
        current.set_device(index)
    current.set_stream(index, stream.cuda_stream, stream)
    return before


def leave(before: tuple[int, int, int, Any]) -> None:
    """Undo ``enter``."""
    device, index, number, held = before
    current.set_stream(index, number, held)
    if current.device != device:
        current.set_device(device)


class Stream:
    """A queue of work on a device: what is launched on one stream runs in order. In a ``with`` it is the current one.

    ``index``: the device; ``priority``: 0 (low) or -1 (high); ``number``: the handle of a stream that exists already.
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.Stream.html"""

    def __init__(self, index: int | None = None, priority: int = 0, number: int | None = None) -> None:
        self.index = current.device if index is None else index
        self.priority = priority
        self._handle = Handle(self.index, min(priority, 0)) if number is None else None
        self.cuda_stream: int = self._handle.number if self._handle is not None else number or 0

    def synchronize(self) -> None:
        """Wait for all that was launched on the stream."""
        forbid("waiting for a stream")
        runtime.active().stream_synchronize(self.cuda_stream)

    def query(self) -> bool:
        """Whether all that was launched on the stream is done."""
        forbid("waiting for a stream")
        return runtime.active().stream_query(self.cuda_stream)

    def wait_event(self, event: Event) -> None:
        """Make what is launched on the stream from now on wait for an event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Make what is launched on the stream from now on wait for all that was launched on another."""
        if stream.cuda_stream != self.cuda_stream:
            self.wait_event(stream.record_event())

    def record_event(self, event: Any = None) -> Any:
        """Record an event (a new one if none is given) and return it."""
        if event is None:
            event = Event()
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        self._before = getattr(self, "_before", [])
        self._before.append(enter(self))
        return self

    def __exit__(self, *error: object) -> None:
        leave(self._before.pop())

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.cuda_stream

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.index, self.cuda_stream) == (other.index, other.cuda_stream)

    def __hash__(self) -> int:
        return hash((self.index, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<tritium.cuda.Stream device=cuda:{self.index} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """A mark in a stream, to wait for or to measure time by. It comes into being when it is first recorded.

    ``enable_timing``: measures time; ``blocking``: who waits for it sleeps instead of spinning.
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.Event.html"""

    __module__ = "tritium.cuda"

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False,
                 external: bool = False) -> None:
        if interprocess:
            raise NotImplementedError("Event(interprocess=True): events are not shared between processes")
        if external:
            raise NotImplementedError("Event(external=True): events inside graphs order only the graph's work")
        self.enable_timing, self.blocking = enable_timing, blocking
        self.cuda_event = 0  # 0: never recorded
        self.index: int | None = None

    def record(self, stream: Any = None) -> None:
        """Mark where a stream (None: the current one) is now.

        Raises RuntimeError for a stream of another device than the first."""
        index = current.device if stream is None else stream.index
        number = current.on(index) if stream is None else stream.cuda_stream
        active = runtime.active()
        if self.index is None:
            self.cuda_event = active.event_create(index, self.enable_timing, self.blocking)
            self.index = index
        elif self.index != index:
            raise RuntimeError(f"Event device {self.index} does not match recording stream's device {index}.")
        active.event_record(self.cuda_event, number)

    def wait(self, stream: Any = None) -> None:
        """Make what is launched on a stream (None: the current one) from now on wait for the event."""
        if self.cuda_event:
            number = current.on(current.device) if stream is None else stream.cuda_stream
            runtime.active().stream_wait(number, self.cuda_event)

    def query(self) -> bool:
        """Whether the work before the mark is done."""
        return not self.cuda_event or runtime.active().event_query(self.cuda_event)

    def synchronize(self) -> None:
        """Wait for the work before the mark."""
        if self.cuda_event:
            forbid("waiting for an event")
            runtime.active().event_synchronize(self.cuda_event)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another.

        Raises ValueError for events without timing or never recorded."""
        if not self.enable_timing or not end_event.enable_timing:
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if not self.cuda_event or not end_event.cuda_event:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return runtime.active().event_elapsed(self.cuda_event, end_event.cuda_event)

    def __del__(self) -> None:
        if getattr(self, "cuda_event", 0) and memory.running():
            runtime.active().event_destroy(self.cuda_event)

    def __repr__(self) -> str:
        if not self.cuda_event:
            return "<tritium.cuda.Event uninitialized>"
        return f"<tritium.cuda.Event {self.cuda_event:#x}>"
