"""``tritium.cuda``: devices, streams, events, memory and graphs.

Where there is no device, questions are answered (``is_available()`` is False, there are 0 devices and 0 bytes), and
what needs one raises RuntimeError in PyTorch's words. With ``TRITON_INTERPRET=1`` in the environment a device is
emulated on the host. https://docs.pytorch.org/docs/stable/cuda.html
"""
from __future__ import annotations

import sys
from typing import Any

from tritium.amp import cuda as amp
from tritium.kernels import runtime
from tritium.kernels.runtime import graphs, memory, streams
from tritium.kernels.runtime.base import OutOfMemoryError as OutOfMemoryError
from tritium.kernels.runtime.base import Properties
from tritium.kernels.runtime.graphs import Graph, Pool
from tritium.kernels.runtime.state import current, forbid
from tritium.kernels.runtime.streams import Event as Event
from tritium.tensor import random_cuda as _random
from tritium.tensor.random_cuda import (  # noqa: F401
    get_rng_state,
    get_rng_state_all,
    initial_seed,
    manual_seed,
    manual_seed_all,
    seed,
    seed_all,
    set_rng_state,
    set_rng_state_all,
)

sys.modules[__name__ + ".amp"] = amp  # for "from tritium.cuda.amp import autocast"


def __getattr__(name: str) -> Any:
    if name == "default_generators":
        return _random.default_generators()
    raise AttributeError(f"module 'tritium.cuda' has no attribute {name!r}")


def _index(device: Any = None) -> int:
    """The index that ``device`` names: None, an int, a text ("cuda:1"), a ``tritium.device`` or a tensor's."""
    if isinstance(device, int):
        return device if device >= 0 else current.device
    if device is None:
        return current.device
    from tritium.tensor.device import device as make

    found = make(device)
    if found.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {found}")
    return current.device if found.index is None else found.index


def _checked(device: Any = None) -> int:
    """The index of a device that is there. Raises RuntimeError for one that is not."""
    index = _index(device)
    current.check(index)
    return index


# --- devices ---

def is_available() -> bool:
    """Whether tensors can be made on a cuda device. Fast, and raises nothing."""
    return runtime.count() > 0


def device_count() -> int:
    """How many cuda devices can be used."""
    return runtime.count()


def init() -> None:
    """Begin to use the device now instead of at its first use. Raises RuntimeError where there is none."""
    current.check(current.device)


def is_initialized() -> bool:
    """Whether a cuda device is in use."""
    return runtime.is_active()


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current device computes in bfloat16; older ones than 8.0 do so by way of float32."""
    return is_available() and (including_emulation or get_device_capability()[0] >= 8)


def current_device() -> int:
    """The index of this thread's current device."""
    init()
    return current.device


def set_device(device: Any) -> None:
    """Make a device current on this thread; a negative index changes nothing."""
    if not (isinstance(device, int) and device < 0):
        current.set_device(_index(device))


def get_device_properties(device: Any = None) -> Properties:
    """Name, compute capability, memory (bytes) and multiprocessors of a device."""
    return runtime.active().properties(_checked(device))


def get_device_name(device: Any = None) -> str:
    """The name of a device."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a device: (major, minor)."""
    found = get_device_properties(device)
    return found.major, found.minor


def synchronize(device: Any = None) -> None:
    """Wait for all work on a device. Raises RuntimeError inside the capture of a graph."""
    index = _checked(device)
    forbid("waiting for the device")
    runtime.active().synchronize(index)


class device:
    """``with cuda.device(1):`` makes a device current inside the block; a negative index changes nothing."""

    def __init__(self, device: Any) -> None:
        self.idx = -1 if isinstance(device, int) and device < 0 else _index(device)
        self.prev_idx = -1

    def __enter__(self) -> None:
        if self.idx >= 0:
            self.prev_idx = current_device()
            current.set_device(self.idx)

    def __exit__(self, *error: object) -> None:
        if self.idx >= 0:
            current.set_device(self.prev_idx)


class device_of(device):
    """``cuda.device`` of a tensor's device; nothing for a tensor on the CPU."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)


# --- streams ---

class Stream(streams.Stream):
    """A queue of work on a device: what is launched on one stream runs in order. In a ``with`` it is the current one.

    ``priority``: 0 (low) or -1 (high). https://docs.pytorch.org/docs/stable/generated/torch.cuda.Stream.html"""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        super().__init__(_checked(device), priority)

    @property
    def device(self) -> Any:
        """The device of the stream."""
        from tritium.tensor.device import device as make

        return make("cuda", self.index)

    def __reduce__(self) -> Any:
        raise TypeError("a stream can not be pickled")


class ExternalStream(Stream):
    """A stream that another library made, by its handle (``stream_ptr``); it must live as long as this object."""

    def __init__(self, stream_ptr: int, device: Any = None) -> None:
        streams.Stream.__init__(self, _checked(device), number=stream_ptr)


def default_stream(device: Any = None) -> Stream:
    """The stream of a device that work goes to where no other is chosen."""
    index = _checked(device)
    return ExternalStream(runtime.active().default_stream(index), index)


def current_stream(device: Any = None) -> Stream:
    """The stream of a device that this thread's work goes to."""
    index = _checked(device)
    held = current.held.get(index)
    return held if isinstance(held, Stream) else ExternalStream(current.on(index), index)


def set_stream(stream: Any) -> None:
    """Make a stream, and its device, current on this thread. None changes nothing."""
    if stream is not None:
        streams.enter(stream)


class StreamContext:
    """``with cuda.stream(s):`` sends the work of the block to a stream; None changes nothing."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.before: Any = None

    def __enter__(self) -> None:
        self.before = None if self.stream is None else streams.enter(self.stream)

    def __exit__(self, *error: object) -> None:
        if self.before is not None:
            streams.leave(self.before)


stream = StreamContext


# --- graphs ---

def graph_pool_handle() -> Pool:
    """Memory that several graphs can share: the ``pool=`` of ``cuda.graph``."""
    return Pool(_checked())


def is_current_stream_capturing() -> bool:
    """Whether a graph is being captured on this thread."""
    return current.capture is not None


class CUDAGraph:
    """A piece of work that is launched as one: captured once, replayed as often as wanted, on the same memory.

    What its kernels read must be at the same address at every replay: copy new inputs into the tensors that were used
    while capturing. https://docs.pytorch.org/docs/stable/generated/torch.cuda.CUDAGraph.html"""

    def __init__(self, keep_graph: bool = False) -> None:
        self._graph = Graph()

    def register_generator_state(self, generator: Any) -> None:
        """Nothing: the graph notes every generator that is drawn from while it is captured. A replay draws on where the
        generator is then, and moves it on."""

    def capture_begin(self, pool: Pool | None = None, capture_error_mode: str = "relaxed",
                      check_input_liveness: bool = False) -> None:
        """Capture this thread's current stream, which may not be the default one, until ``capture_end``.

        ``pool``: memory to share with other graphs; ``capture_error_mode``: "global", "thread_local" or "relaxed", what
        the driver forbids other threads and this one meanwhile; ``check_input_liveness`` changes nothing: a graph keeps
        the memory that it reads."""
        init()
        self._graph.begin(pool, capture_error_mode)

    def capture_end(self) -> None:
        """Stop capturing. Raises RuntimeError for work that no graph can hold."""
        self._graph.end()

    def instantiate(self) -> None:
        """Nothing: ``capture_end`` does it. Raises RuntimeError without a capture."""
        if not self._graph.graph:
            raise RuntimeError("instantiate() is intended to be called by the user only when keep_graph=true, and "
                               "after capture_end()")

    def replay(self) -> None:
        """Launch the captured work on the current stream. Raises RuntimeError without a capture, or after ``reset``."""
        self._graph.replay()

    def reset(self) -> None:
        """Give up the captured work and its memory."""
        self._graph.reset()

    def pool(self) -> Pool:
        """The graph's memory, for another graph to share. Raises RuntimeError before a capture."""
        if self._graph.pool is None:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return self._graph.pool


def make_graphed_callables(callables: Any, sample_args: Any, num_warmup_iters: int = 3,
                           allow_unused_input: bool = False, pool: Pool | None = None) -> Any:
    """Functions or modules (one, or a tuple of them) whose forward and backward passes are replays of CUDA graphs.

    ``sample_args``: a tuple of tensors (or a tuple of such tuples), which become the memory that the graphs read: of
    the shapes, dtypes and ``requires_grad`` of all later arguments. ``num_warmup_iters``: how often each is run before
    it is captured; ``allow_unused_input``: arguments and parameters may have no influence on the results; ``pool``:
    memory to share with other graphs. The results are overwritten by the next call.

    A module is returned itself; its ``forward`` replays in the mode (training or not) that it was captured in, and runs
    as before in the other. Several callables must run, and run backward, in the order of the tuple. Raises
    AssertionError for modules with hooks and for arguments that are no tensors.
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.make_graphed_callables.html"""
    from tritium.nn.graphed import make_graphed_callables as make

    return make(callables, sample_args, num_warmup_iters, allow_unused_input, pool)


class graph:
    """``with cuda.graph(g):`` captures the work of the block into ``g`` instead of running it.

    ``pool``: memory to share with other graphs; ``stream``: where to capture (a stream of its own by default).
    Run the work once before, so that its kernels are compiled and loaded. Waiting for the device, and copies between it
    and ordinary host memory, raise RuntimeError inside.
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.graph.html"""

    _streams: dict[int, Stream] = {}

    def __init__(self, cuda_graph: CUDAGraph, pool: Pool | None = None, stream: Stream | None = None,
                 capture_error_mode: str = "relaxed", check_input_liveness: bool = False) -> None:
        self.cuda_graph, self.pool, self.capture_error_mode = cuda_graph, pool, capture_error_mode
        if stream is None:
            index = _checked()
            stream = self._streams.get(index) or self._streams.setdefault(index, Stream(index))
        self.capture_stream = stream
        self.before: Any = None

    def __enter__(self) -> None:
        graphs.prepare(self.capture_stream.index)
        self.before = streams.enter(self.capture_stream)
        try:
            self.cuda_graph.capture_begin(self.pool, self.capture_error_mode)
        except BaseException:
            streams.leave(self.before)
            raise

    def __exit__(self, kind: Any, *error: object) -> None:
        try:
            if kind is None:
                self.cuda_graph.capture_end()
            else:
                self.cuda_graph._graph.abort()
        finally:
            streams.leave(self.before)


# --- memory ---

def empty_cache() -> None:
    """Give the memory that no tensor uses back to the system."""
    if runtime.is_active():
        forbid("giving memory back")
        memory.empty_cache()


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of a device, as its driver sees them."""
    return runtime.active().memory_info(_checked(device))


def memory_stats(device: Any = None) -> dict[str, int]:
    """What is known of a device's memory, in bytes and counts: PyTorch's names, as far as they apply."""
    return memory.stats(_index(device))


def memory_allocated(device: Any = None) -> int:
    """Bytes that tensors hold on a device, each rounded up to 512."""
    return memory_stats(device)["allocated_bytes.all.current"]


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that tensors held at once since the last ``reset_peak_memory_stats``."""
    return memory_stats(device)["allocated_bytes.all.peak"]


def memory_reserved(device: Any = None) -> int:
    """Bytes of a device that are held for tensors, used and unused."""
    return memory_stats(device)["reserved_bytes.all.current"]


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes that were held at once since the last ``reset_peak_memory_stats``."""
    return memory_stats(device)["reserved_bytes.all.peak"]


def reset_peak_memory_stats(device: Any = None) -> None:
    """Count the highest marks from now on."""
    memory.reset_peak(_index(device))


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats
memory_cached, max_memory_cached = memory_reserved, max_memory_reserved


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """``memory_stats`` as a table to print."""
    found = memory_stats(device)
    rows = [(title, found[f"{name}_bytes.all.current"], found[f"{name}_bytes.all.peak"])
            for title, name in (("Allocated memory", "allocated"), ("GPU reserved memory", "reserved"))]
    bar = "|" + "=" * 59 + "|"
    lines = [bar, f"| {f'tritium CUDA memory summary, device ID {_index(device)}':<57} |", bar,
             f"| {'Metric':<23}| {'Cur Usage':>15} | {'Peak Usage':>14} |", "|" + "-" * 59 + "|"]
    lines += [f"| {title:<23}| {memory.amount(now):>15} | {memory.amount(peak):>14} |" for title, now, peak in rows]
    lines += [f"| {'CUDA OOMs':<23}| {found['num_ooms']:>15} | {'retries':>7} {found['num_alloc_retries']:>6} |", bar]
    return "\n".join(lines)
