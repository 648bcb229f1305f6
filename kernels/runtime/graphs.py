"""Graphs: what is launched on a stream, kept to be launched again as one.

A graph's kernels use the same addresses at every replay, so the graph owns memory: blocks made while it is captured
come from its ``Pool`` and go back there, and blocks of other streams that captured kernels use are kept. The pool's
memory is asked for on a stream that is not being captured, and lives as long as a graph or a block needs it.
"""
from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.runtime import memory
from tritium.kernels.runtime.memory import Block, Home
from tritium.kernels.runtime.state import current, forbid, replays
from tritium.kernels.runtime.streams import Handle


class Pool:
    """Memory that belongs to graphs, to one or to several that never run at the same time.

    ``pieces``: (address, size); ``streams``: where they are used."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.handle = Handle(device)  # memory is asked for and given back on this stream
        self.stream = self.handle.number
        self.bins: dict[int, dict[int, list[int]]] = {}  # of each captured stream
        self.streams: set[int] = set()
        self.pieces: list[tuple[int, int]] = []

    def __del__(self) -> None:
        if self.pieces:
            memory.give_back(self.device, self.stream, self.pieces, self.streams)


class GraphHome(Home):
    """Where blocks made during a capture come from; they are used again in the order of their stream."""

    __slots__ = ("pool",)

    def __init__(self, pool: Pool, stream: int) -> None:
        super().__init__(pool.device, stream, pool.bins.setdefault(stream, {}))
        self.pool = pool

    def open(self) -> None:
        """Blocks of every size wait here."""
        self.largest = 1 << 62

    def take(self, size: int) -> int:
        """Memory that the pool owns from now on. Raises OutOfMemoryError."""
        ptr = memory.home_of(self.device, self.pool.stream).take(size)
        self.pool.pieces.append((ptr, size))
        return ptr

    def give(self, block: Block) -> None:
        """Several streams used the block: its memory waits for the end of the pool."""
        self.pool.streams.update(block.others or ())

    def clear(self) -> None:
        """Nothing goes back before the pool does."""


class Graph:
    """A captured piece of work.

    ``begin`` ... ``end`` on the thread's current stream, then ``replay`` as often as wanted, on any stream. Raises
    RuntimeError for steps in a wrong order."""

    def __init__(self) -> None:
        self.graph = 0
        self.pool: Pool | None = None
        self.stream = self.device = 0
        self.homes: dict[int, GraphHome] = {}
        self.kept: dict[int, Any] = {}  # blocks, and pinned memory, that captured work uses
        self.adopted: list[tuple[Home, int, int]] = []
        self.draws: dict[int, Any] = {}  # what is drawn from each random number stream (philox.py), by its id
        self.streams: set[int] = set()  # what must be waited for before the memory is used again

    def begin(self, pool: Pool | None = None, mode: str = "relaxed") -> None:
        """Capture the thread's current stream from now on.

        Raises RuntimeError where a capture is under way or the graph has been captured already."""
        if current.capture is not None:
            raise RuntimeError("a graph is being captured on this thread already")
        if self.graph or self.pool is not None:
            raise RuntimeError("This CUDAGraph instance already owns a captured graph. To capture a new graph, "
                               "create a new instance.")
        self.device = device = current.device
        self.stream = stream = current.on(device)
        active = runtime.active()
        if stream == active.default_stream(device):
            raise RuntimeError("CUDA graphs must be captured on a non-default stream. (However, after capture, it's "
                               "ok to replay them on the default stream.)")
        if pool is not None and pool.device != device:
            raise RuntimeError("the memory pool of a graph must be on the graph's device")
        pool = Pool(device) if pool is None else pool
        active.capture_begin(stream, mode)
        self.pool = pool
        memory.home_of(device, stream).close(self)
        current.capture, current.home = self, None

    def end(self) -> None:
        """Stop capturing. Raises RuntimeError where none is under way, or where the work can not be captured."""
        if current.capture is not self or self.pool is None:
            raise RuntimeError("capture_end() without capture_begin()")
        active = runtime.active()
        home = memory.home_of(self.device, self.stream)
        current.capture = current.home = None
        home.open()
        try:
            self.graph = active.capture_end(self.stream)
            active.stream_synchronize(self.pool.stream)  # the pool's memory is there
        except BaseException:
            self.reset()
            raise

    def abort(self) -> None:
        """Stop capturing and forget what was captured."""
        try:
            self.end()
        except RuntimeError:
            pass  # what stopped the capture may have spoilt it
        self.reset()

    def home(self, device: int, stream: int) -> Home:
        """Where a block that is made during the capture comes from."""
        if device != self.device:
            return memory.home_of(device, stream)
        found = self.homes.get(stream)
        if found is None:
            assert self.pool is not None
            found = self.homes[stream] = GraphHome(self.pool, stream)
        return found

    def keep(self, block: Any) -> None:
        """Let a block live as long as the graph: captured work uses it."""
        if getattr(getattr(block, "home", None), "pool", None) is not self.pool:
            self.kept[id(block)] = block

    def memory(self, nbytes: int) -> Block:
        """Memory that lives as long as the graph, and that nothing else of its pool ever uses."""
        with outside():
            block = Block(nbytes, self.device)
        self.keep(block)
        return block

    def adopt(self, ptr: int, size: int, home: Home, others: Any) -> None:
        """Take over the memory of a block that goes while its stream is being captured."""
        self.adopted.append((home, ptr, size))
        self.streams.update(others or ())

    def replay(self) -> None:
        """Launch the captured work on the thread's current stream."""
        if not self.graph:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        assert self.pool is not None
        forbid("a graph's replay")
        stream = current.on(self.device)
        self.streams.add(stream)
        self.pool.streams.add(stream)
        for draws in self.draws.values():
            draws.begin(stream)
        replays.count += 1
        runtime.active().graph_launch(self.graph, stream)

    def reset(self) -> None:
        """Give up the captured work and its memory; the graph can then be captured anew."""
        if current.capture is self:
            raise RuntimeError("reset() during a capture: call capture_end() first")
        graph, self.graph = self.graph, 0
        kept, self.kept = self.kept, {}
        adopted, self.adopted = self.adopted, []
        streams, self.streams = self.streams, set()
        self.pool = None
        self.homes, self.draws = {}, {}
        if not memory.running():
            return
        if graph:
            runtime.active().graph_destroy(graph)
        for block in kept.values():
            for stream in streams:
                block.used_on(stream)
        for home, ptr, size in adopted:
            memory.give_back(home.device, home.stream, [(ptr, size)], streams)

    def __del__(self) -> None:
        if self.graph or self.adopted:
            self.reset()


@contextmanager
def outside() -> Iterator[None]:
    """What is launched inside is no part of the graph that this thread captures: it is done now and once, in order
    before the graph's first replay. Blocks made inside are ordinary ones; those that captured work uses are kept by the
    graph. Outside of a capture this does nothing."""
    graph = current.capture
    if graph is None:
        yield
        return
    device = graph.device
    stream, held = current.on(device), current.held.get(device)
    current.capture = None
    current.set_stream(device, graph.pool.stream)
    current.home = None
    try:
        yield
    finally:
        current.capture = graph
        current.set_stream(device, stream, held)
        current.home = None


def prepare(device: int) -> None:
    """Before a capture: finish the device's work and give unused memory back, so that the graph finds room."""
    gc.collect()
    memory.empty_cache(device)
