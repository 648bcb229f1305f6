"""The current device and stream of each thread."""
from __future__ import annotations

import threading
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.runtime.base import CAPTURING


class Current(threading.local):
    """``device``: its index; ``stream``: the handle that work goes to; ``streams``: what was chosen on each device."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, int] = {}
        self.stream = 0  # 0: not asked for yet
        self.held: dict[int, Any] = {}  # the Stream objects behind ``streams``, kept alive
        self.home: Any = None  # where memory for ``stream`` comes from; None: look it up (memory.py)
        self.capture: Any = None  # the graph that is being captured (graphs.py)

    def on(self, device: int) -> int:
        """The current stream of a device."""
        found = self.streams.get(device)
        if found is None:
            active = runtime.active()
            if not self.streams:
                active.set_device(self.device)  # a thread begins
            found = self.streams[device] = active.default_stream(device)
            if device == self.device:
                self.stream = found
        return found

    def check(self, device: int) -> None:
        """Raises RuntimeError for an index that there is no device for."""
        if device not in self.streams:
            if not 0 <= device < runtime.active().device_count():
                raise RuntimeError("CUDA error: invalid device ordinal")
            self.on(device)

    def set_device(self, device: int) -> None:
        """Make a device current. Raises RuntimeError for an index that there is no device for."""
        active = runtime.active()
        if not 0 <= device < active.device_count():
            raise RuntimeError("CUDA error: invalid device ordinal")
        self.device = device
        self.home = None
        self.stream = self.on(device)
        active.set_device(device)

    def set_stream(self, device: int, stream: int, held: Any = None) -> None:
        """Make a stream current on its device; ``held`` lives as long as it is."""
        if not self.streams:
            self.on(self.device)
        self.streams[device] = stream
        self.held[device] = held
        if device == self.device:
            self.stream = stream
            self.home = None


current: Any = Current()


class Replays:
    """``count``: how often captured graphs have been launched. They write to memory without anybody's notice."""

    count = 0


replays = Replays()


def forbid(what: str) -> None:
    """Raises RuntimeError if this thread is capturing a graph: ``what`` can not be part of one."""
    if current.capture is not None:
        raise RuntimeError(f"{CAPTURING}: {what} can not be part of a CUDA graph")
