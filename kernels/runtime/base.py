"""What a runtime is: the calls that memory, streams, graphs and launches are made of.

Addresses, streams, events, graphs and functions are plain integers: a runtime's own handles. Stream 0 is never used by
the layers above: ``default_stream(device)`` names the stream that work goes to unless the user says otherwise.
A call may come from any thread, also from one that never chose a device.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

NO_DRIVER = ("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver "
             "from http://www.nvidia.com/Download/index.aspx")
NO_DEVICE = "No CUDA GPUs are available"
CAPTURING = "CUDA error: operation not permitted when stream is capturing"


class OutOfDeviceMemory(RuntimeError):
    """The device has no stretch of memory of the size that was asked for."""


class OutOfMemoryError(RuntimeError):
    """A device ran out of memory; the process can go on."""

    __module__ = "tritium.cuda"


@dataclass(frozen=True)
class Properties:
    """What is known of a device. Bytes, counts, and the compute capability ``major.minor``."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int = 32
    max_shared_memory: int = 232448  # bytes that one block can be given
    registers: int = 65536  # of one multiprocessor
    max_threads: int = 2048  # of one multiprocessor
    l2_cache: int = 0

    @property
    def architecture(self) -> int:
        """90 for compute capability 9.0."""
        return 10 * self.major + self.minor

    # PyTorch's names

    @property
    def shared_memory_per_block_optin(self) -> int:
        return self.max_shared_memory

    @property
    def regs_per_multiprocessor(self) -> int:
        return self.registers

    @property
    def max_threads_per_multi_processor(self) -> int:
        return self.max_threads

    @property
    def L2_cache_size(self) -> int:
        return self.l2_cache


class Runtime(Protocol):
    """One implementation drives CUDA, one emulates a device on the host."""

    name: str
    emulated: bool
    target: str  # the backend that Triton compiles for: "cuda" or "hip"

    def device_count(self) -> int: ...
    def properties(self, device: int) -> Properties: ...
    def set_device(self, device: int) -> None:
        """Make a device current for the calling thread."""

    # memory
    def alloc(self, nbytes: int, device: int, stream: int) -> int:
        """An address, at least 256-byte aligned, usable in ``stream``'s order. Raises OutOfDeviceMemory."""
    def free(self, ptr: int, device: int, stream: int) -> None:
        """Give memory back in ``stream``'s order."""
    def memory_info(self, device: int) -> tuple[int, int]:
        """(free, total) bytes of the device."""
    def reserved(self, device: int) -> tuple[int, int]:
        """(now, highest) bytes the pool holds."""
    def reset_peak(self, device: int) -> None:
        """The highest mark of ``reserved`` is what it is now."""
    def trim(self, device: int) -> None:
        """Give what the pool holds and nobody uses back to the system."""
    def host_alloc(self, nbytes: int) -> int:
        """The address of pinned host memory."""
    def host_free(self, ptr: int) -> None: ...
    def copy(self, dst: int, src: int, nbytes: int, stream: int) -> None:
        """Copy in stream order; either side may be host memory (pinned for it to be asynchronous)."""
    def memset(self, ptr: int, value: int, width: int, count: int, stream: int) -> None:
        """``count`` elements of ``width`` (1, 2 or 4) bytes set to the bits of ``value``."""

    # streams and events
    def default_stream(self, device: int) -> int: ...
    def stream_create(self, device: int, priority: int) -> int:
        """A stream, for the life of the process; ``priority``: 0 or less, the lowest number goes first."""
    def stream_device(self, stream: int, default: int) -> int:
        """The device of a stream; ``default`` for one that was made elsewhere."""
    def stream_synchronize(self, stream: int) -> None: ...
    def stream_query(self, stream: int) -> bool: ...
    def stream_wait(self, stream: int, event: int) -> None: ...
    def event_create(self, device: int, timing: bool, blocking: bool) -> int:
        """An event for ``device``'s streams; ``blocking``: who waits for it sleeps instead of spinning."""
    def event_destroy(self, event: int) -> None: ...
    def event_record(self, event: int, stream: int) -> None: ...
    def event_query(self, event: int) -> bool: ...
    def event_synchronize(self, event: int) -> None: ...
    def event_elapsed(self, start: int, end: int) -> float:
        """Milliseconds."""
    def synchronize(self, device: int) -> None: ...

    # kernels
    def load(self, image: bytes, name: str, shared: int) -> int:
        """A function of a compiled image, able to use ``shared`` bytes of shared memory on every device."""
    launch_kernel: Callable[..., Any]
    """``launch_kernel(function, gx, gy, gz, bx, by, bz, shared, stream, parameters, 0)`` answers a tuple; if its first
    member is not 0 the launch failed, and ``check`` of that member raises. The emulated device has none."""
    def check(self, code: Any) -> None:
        """Raises RuntimeError in words for a result that is not 0."""

    # graphs
    def capture_begin(self, stream: int, mode: str) -> None:
        """Keep what is launched on ``stream`` from now on instead of running it; ``mode``: "global", "thread_local" or
        "relaxed"."""
    def capture_end(self, stream: int) -> int:
        """An executable graph of what was launched on ``stream`` since ``capture_begin``."""
    def graph_launch(self, graph: int, stream: int) -> None: ...
    def graph_destroy(self, graph: int) -> None: ...
