"""The random numbers of a cuda device, as its generator sees them: a seed and an offset, nothing else.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011) turns a 128-bit counter and a 64-bit key into four 32-bit words. The
seed is the key; block b of a stream has the counter (b mod 2^32, b / 2^32, 0, 0); word i of the stream is word i mod
4 of block i / 4. A call that needs w words takes them from ``offset`` on, and the next call begins at the next block.
Which element uses which word depends on its place in the tensor alone: not on the grid, block sizes, strides or the
device.
"""
from __future__ import annotations

from threading import RLock

from tritium.kernels.runtime.state import forbid

RANGE = 1 << 64


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
        """Use up ``words`` words: (seed, offset of the first one), as the signed 64-bit numbers that kernels take.

        Raises RuntimeError while a graph is captured: its replays would draw the same numbers again and again."""
        forbid("drawing random numbers")
        with self.lock:
            start = self.offset
            self.offset = (start + words + 3 & -4) % RANGE
        return signed(self.initial_seed), signed(start)


def signed(number: int) -> int:
    """The signed 64-bit number with the bits of an unsigned one."""
    return number - RANGE if number >> 63 else number
