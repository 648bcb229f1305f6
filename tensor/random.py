"""Random number generators and the seeds of the whole framework.

On the CPU a generator draws PyTorch's numbers (``kernels/reference/random.py``), and its state has PyTorch's
layout: a state saved there can be set here, and the other way round.
https://docs.pytorch.org/docs/stable/generated/torch.Generator.html,
https://docs.pytorch.org/docs/stable/random.html
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tritium.kernels.reference.random import Stream
from tritium.tensor.device import as_available, device
from tritium.tensor.graph import wrap
from tritium.tensor.tensor import Tensor

_DEFAULT_SEED = 67280421310721  # of a generator that was never seeded

# The bytes of a CPU generator's state. ``left``: draws until the twister's words are made anew, counted to 1.
_STATE = np.dtype([
    ("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8"), ("words", "<u8", 624), ("normal_x",
                                                                                                  "<f8"),
    ("normal", "<f8"), ("normal_rho", "<f8"), ("has_normal", "<i4"), ("padding", "<i4"), ("float_normal",
                                                                                          "<f4"),
    ("has_float_normal", "<i4")])


class Generator:
    """A stream of random numbers with a state of its own, for the ``generator=`` argument of random
    functions.

    ``device``: where the numbers are made. Raises NotImplementedError for cuda in this version."""

    __module__ = "tritium"

    def __init__(self, device: Any = "cpu") -> None:
        self._device = as_available(device)
        self._stream = Stream(_DEFAULT_SEED)

    @property
    def device(self) -> device:
        """Where the numbers are made."""
        return self._device

    def manual_seed(self, seed: int) -> Generator:
        """Start again from a seed in [-2^63, 2^64); negative ones count from 2^64 downwards. Returns the
        generator.

        Raises ValueError for a seed out of range, RuntimeError for one that is no integer."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        seed = seed.__index__()
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError("Overflow when unpacking long long")
        with self._stream.lock:
            self._stream.seed(seed % (1 << 64))
        return self

    def seed(self) -> int:
        """Start again from a seed of the operating system, and return it."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed that the generator last started from."""
        return self._stream.initial_seed

    def get_state(self) -> Tensor:
        """The whole state: a uint8 tensor of 5,056 bytes."""
        stream = self._stream
        state = np.zeros(1, _STATE)
        with stream.lock:
            words, used = stream.state()
            state["seed"], state["seeded"], state["words"] = stream.initial_seed, 1, words
            if stream.fresh:
                state["left"] = 1
            else:
                state["left"], state["next"] = 625 - used, used
            if stream.cached is not None:
                state["normal"], state["has_normal"] = stream.cached, 1
        return wrap(state.view(np.uint8))

    def set_state(self, new_state: Tensor) -> Generator:
        """Go on from a state that ``get_state`` gave. Returns the generator.

        Raises TypeError for anything but a uint8 tensor, RuntimeError for one that holds no state."""
        if not isinstance(new_state, Tensor):
            raise TypeError(f"expected a tritium.ByteTensor, but got {type(new_state).__name__}")
        array = new_state._a
        if array.dtype != np.uint8:
            raise TypeError("RNG state must be a tritium.ByteTensor")
        if not array.flags.c_contiguous:
            raise RuntimeError("RNG state must be contiguous")
        if array.size != _STATE.itemsize:
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {_STATE.itemsize} but found the "
                               f"input RNG state size to be {array.size}")
        state = np.frombuffer(array.tobytes(), _STATE)[0]
        left, position = int(state["left"]), int(state["next"])
        if not (state["seeded"] == 1 and 1 <= left <= 624 and position <= 624):
            raise RuntimeError("Invalid mt19937 state")
        stream = self._stream
        with stream.lock:
            stream.seed(int(state["seed"]))
            stream.set_state(state["words"], 624 if left == 1 else position)
            stream.fresh = left == 1 and position == 0
            stream.cached = float(state["normal"]) if state["has_normal"] else None
        return self

    def clone_state(self) -> Generator:
        """A new generator that goes on from the same state."""
        return Generator(self._device).set_state(self.get_state())

    def get_offset(self) -> int:
        """Only generators on cuda have an offset. Raises RuntimeError."""
        raise RuntimeError("CPU Generator does not use offset")

    def set_offset(self, offset: int) -> Generator:
        """Only generators on cuda have an offset. Raises RuntimeError."""
        raise RuntimeError("CPU Generator does not use offset")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (str(self._device), self.get_state()._a)


def _rebuild(device: str, state: np.ndarray) -> Generator:
    return Generator(device).set_state(wrap(state))


default_generator = Generator()
default_generator.seed()


def stream_of(generator: Generator | None) -> Stream:
    """The stream behind a ``generator=`` argument; the default generator's for None.

    Raises TypeError for anything else."""
    if generator is None:
        return default_generator._stream
    if not isinstance(generator, Generator):
        raise TypeError(f"argument 'generator' must be tritium.Generator, not {type(generator).__name__}")
    return generator._stream


def manual_seed(seed: Any) -> Generator:
    """Seed the default generators of all devices, and return the CPU's.

    ``seed``: anything that ``int`` takes, in [-2^63, 2^64). Raises ValueError out of that range."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generators from the operating system, and return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator last started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default CPU generator: a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default CPU generator."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str | None = None) -> Iterator[None]:
    """What is drawn inside the ``with`` block does not count: the state before it is set again at its end.

    ``devices``: cuda devices whose generators are treated the same way; only an empty list or None is
    possible in this version (NotImplementedError). ``enabled``: False does nothing."""
    if not enabled:
        yield
        return
    for index in devices or ():
        as_available(f"{device_type or 'cuda'}:{index}" if isinstance(index, int) else index)
    state = default_generator.get_state()
    try:
        yield
    finally:
        default_generator.set_state(state)
