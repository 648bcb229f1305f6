"""The random numbers of a cuda device, as its generator sees them: a seed and an offset, nothing else.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011) turns a 128-bit counter and a 64-bit key into four 32-bit words. The
seed is the key; block b of a stream has the counter (b mod 2^32, b / 2^32, 0, 0); word i of the stream is word i mod
4 of block i / 4. A call that needs w words takes them from ``offset`` on, and the next call begins at the next block.
Which element uses which word depends on its place in the tensor alone: not on the grid, block sizes, strides or the
device.

Kernels get seed and offset as two 64-bit numbers, and read them with ``triton/philox.py``. An offset is a multiple of
4; where it is odd, the kernel is part of a captured graph: ``seed`` is then the address of two numbers in device
memory, the seed and what is to be added to the offset. The graph writes them before each replay, so that a replay draws
what its work would have drawn without a graph. PyTorch's generators do the same:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""
from __future__ import annotations

from threading import RLock
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.runtime.base import CAPTURING
from tritium.kernels.runtime.state import current

RANGE = 1 << 64
CAPTURED = 1  # added to the offset of a captured draw


class Stream:
    """``initial_seed``: below 2^64; ``offset``: how many words are used up, a multiple of 4; ``device``: the index of
    the device. Nothing of it lives on the device: a sampler gets (seed, offset) as two numbers."""

    __slots__ = ("device", "initial_seed", "offset", "lock")

    def __init__(self, seed: int, device: int = 0) -> None:
        self.device = device
        self.lock = RLock()
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start again from ``seed``, an integer below 2^64."""
        self.initial_seed, self.offset = seed, 0

    def take(self, words: int) -> tuple[int, int]:
        """Use up ``words`` words: (seed, offset of the first one) as the signed 64-bit numbers that kernels take. To
        hand them on (to a backward pass) is to draw the same words again; keep the first one as it is: what a captured
        graph reads lives as long."""
        if current.capture is not None:
            return self.drawn(current.capture).take(words)
        with self.lock:
            start = self.offset
            self.offset = (start + words + 3 & -4) % RANGE
        return signed(self.initial_seed), signed(start)

    def drawn(self, graph: Any) -> Draws:
        """What a graph that is being captured draws. Raises RuntimeError for a graph of another device."""
        found = graph.draws.get(id(self))
        if found is None:
            if graph.device != self.device:
                raise RuntimeError(f"{CAPTURING}: a generator of cuda:{self.device} can not be part of a CUDA graph of "
                                   f"cuda:{graph.device}")
            found = graph.draws[id(self)] = Draws(self, graph.memory(16))
        return found

    def mark(self) -> tuple[Any, int, int]:
        """Where the stream is, for ``back``; also in the middle of a capture."""
        graph = current.capture
        if graph is not None:
            found = graph.draws.get(id(self))
            return graph, 0, 0 if found is None else found.next
        with self.lock:
            return None, self.initial_seed, self.offset

    def back(self, mark: tuple[Any, int, int]) -> None:
        """Go back to a mark. Raises RuntimeError for one that was made outside of the capture that is under way, or
        inside one that has ended."""
        graph, seed, offset = mark
        if graph is not current.capture:
            raise RuntimeError(f"{CAPTURING}: the state of a generator can not be carried into or out of a CUDA graph")
        if graph is not None:
            self.drawn(graph).next = offset
            return
        with self.lock:
            self.initial_seed, self.offset = seed, offset


class Draws:
    """What a captured graph draws from one stream at each replay.

    ``block``: device memory for the seed and the offset that a replay starts from; ``next``: how many words have been
    used up since the start of the graph, a multiple of 4; ``most``: the highest that ``next`` has been."""

    __slots__ = ("stream", "block", "address", "next", "most", "written")

    def __init__(self, stream: Stream, block: Any) -> None:
        self.stream, self.block = stream, block
        self.address = Address(block.ptr)
        self.address.block = block
        self.next = self.most = 0
        self.written: list[int] = []  # the stream that wrote last, and the words that it wrote

    def take(self, words: int) -> tuple[int, int]:
        start = self.next
        self.next = start + words + 3 & -4
        self.most = max(self.most, self.next)
        return self.address, start | CAPTURED

    def begin(self, stream: int) -> None:
        """Write, in order of a (driver's) stream, where the generator is now, and use up what a replay uses."""
        source = self.stream
        with source.lock:
            seed, start = source.initial_seed, source.offset
            source.offset = (start + self.most) % RANGE
        words = [stream, *[number >> shift & 0xFFFFFFFF for number in (seed, start) for shift in (0, 32)]]
        known = self.written if self.written and self.written[0] == stream else [stream, -1, -1, -1, -1]
        active = runtime.active()
        for i in range(4):  # numbers that a call brings with it: no host memory has to wait for the device
            if words[i + 1] != known[i + 1]:
                active.memset(self.block.ptr + 4 * i, words[i + 1], 4, 1, stream)
        self.written = words


class Address(int):
    """The address of a graph's seed and offset, which keeps their memory."""

    block: Any


def signed(number: int) -> int:
    """The signed 64-bit number with the bits of an unsigned one."""
    return number - RANGE if number >> 63 else number
