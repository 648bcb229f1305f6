"""Random number generators and the seeds of the whole framework.

On the CPU a generator draws PyTorch's numbers (``kernels/reference/random.py``), and its state has PyTorch's
layout: a state saved there can be set here, and the other way round. On cuda it is a seed and an offset
(``kernels/philox.py``); the numbers are our own, and the state has PyTorch's layout too.
https://docs.pytorch.org/docs/stable/generated/torch.Generator.html,
https://docs.pytorch.org/docs/stable/random.html
"""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tritium.kernels import is_host, philox
from tritium.kernels.reference.random import Stream
from tritium.kernels.runtime.state import current
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
_CUDA_STATE = np.dtype([("seed", "<u8"), ("offset", "<u8")])


class Generator:
    """A stream of random numbers with a state of its own, for the ``generator=`` argument of random
    functions.

    ``device``: where the numbers are made. Raises RuntimeError for a cuda device that is not there."""

    __module__ = "tritium"

    def __init__(self, device: Any = "cpu") -> None:
        self._device = as_available(device)
        self._stream: Any = (Stream(_DEFAULT_SEED) if self._device.type == "cpu" else
                             philox.Stream(_DEFAULT_SEED, self._device.index or 0))

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
        if self._device.type == "cuda" and current.capture is not None:
            if seed % (1 << 64) != self._stream.initial_seed:
                raise RuntimeError("CUDAGeneratorImpl::set_current_seed can be called during stream capture only if "
                                   "new seed is the same as the original seed.")
            return self
        with self._stream.lock:
            self._stream.seed(seed % (1 << 64))
        return self

    def seed(self) -> int:
        """Start again from a seed of the operating system, and return it."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed that the generator last started from. Raises RuntimeError for a cuda generator inside the capture of
        a graph, as all that tells or sets where it is."""
        self._outside("current_seed")
        return self._stream.initial_seed

    def get_state(self) -> Tensor:
        """The whole state: a uint8 tensor on the CPU of 5,056 bytes, or of 16 for cuda: seed and offset."""
        stream = self._stream
        if self._device.type == "cuda":
            self._outside("current_seed")
            with stream.lock:
                return wrap(np.array([(stream.initial_seed, stream.offset)], _CUDA_STATE).view(np.uint8))
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
        if not is_host(array):
            raise TypeError("RNG state must be a tritium.ByteTensor")
        if not array.flags.c_contiguous:
            raise RuntimeError("RNG state must be contiguous")
        if self._device.type == "cuda":
            return self._set_cuda_state(array.tobytes())
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

    def _set_cuda_state(self, state: bytes) -> Generator:
        """Seed and offset; eight bytes are a seed alone."""
        self._outside("set_state")
        if len(state) not in (8, 16):
            raise RuntimeError("RNG state is wrong size")
        seed, offset = (int.from_bytes(part, "little") for part in (state[:8], state[8:]))
        _check_offset(offset)
        with self._stream.lock:
            self._stream.initial_seed, self._stream.offset = seed, offset
        return self

    def clone_state(self) -> Generator:
        """A new generator that goes on from the same state."""
        return Generator(self._device).set_state(self.get_state())

    def get_offset(self) -> int:
        """How many 32-bit words of the seed's stream are used up. Raises RuntimeError for a generator on the CPU."""
        if self._device.type == "cpu":
            raise RuntimeError("CPU Generator does not use offset")
        self._outside("get_offset")
        return self._stream.offset

    def set_offset(self, offset: int) -> Generator:
        """Go on from an offset, a multiple of 4 below 2^64. Returns the generator.

        Raises RuntimeError for another number, and for a generator on the CPU."""
        if self._device.type == "cpu":
            raise RuntimeError("CPU Generator does not use offset")
        _check_offset(offset)
        self._outside("set_offset")
        with self._stream.lock:
            self._stream.offset = offset.__index__()
        return self

    def _outside(self, name: str) -> None:
        """Raise RuntimeError for a cuda generator inside the capture of a graph: its replays know no numbers."""
        if self._device.type == "cuda" and current.capture is not None:
            raise RuntimeError(f"Cannot call CUDAGeneratorImpl::{name} during CUDA graph capture.")

    def graphsafe_get_state(self) -> Generator:
        """A generator that shares this one's state, also with the graphs that draw from it.

        Raises NotImplementedError for a generator on the CPU."""
        if self._device.type == "cpu":
            raise NotImplementedError("graphsafe_get_state is not supported in this Generator")
        found = Generator.__new__(Generator)
        found._device, found._stream = self._device, self._stream
        return found

    def graphsafe_set_state(self, state: Generator) -> Generator:
        """Share another generator's state from now on. Returns the generator.

        Raises NotImplementedError for a generator on the CPU, RuntimeError for a state of another device."""
        if self._device.type == "cpu":
            raise NotImplementedError("graphsafe_set_state is not supported in this Generator")
        if state._device != self._device:
            raise RuntimeError(f"Expected a generator of {self._device}, but found one of {state._device}")
        self._stream = state._stream
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (str(self._device), self.get_state()._a)


def _check_offset(offset: int) -> None:
    if not 0 <= offset < philox.RANGE or offset % 4:
        raise RuntimeError("offset must be a multiple of 4")


def _rebuild(device: str, state: np.ndarray) -> Generator:
    return Generator(device).set_state(wrap(state))


default_generator = Generator("cpu")
default_generator.seed()


class _Defaults:
    """The default generators of the cuda devices, made when first asked for. ``seed``: what those begin with that are
    not made yet; None: a number of the operating system."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.made: dict[int, Generator] = {}
        self.seed: int | None = None


_cuda = _Defaults()


def cuda_generator(index: int) -> Generator:
    """The default generator of the cuda device with this index."""
    found = _cuda.made.get(index)
    if found is None:
        with _cuda.lock:
            found = _cuda.made.get(index)
            if found is None:
                found = Generator(f"cuda:{index}")
                found._stream.seed(int.from_bytes(os.urandom(8), "little") if _cuda.seed is None else
                                   _cuda.seed % (1 << 64))
                _cuda.made[index] = found
    return found


def seed_cuda(seed: int) -> None:
    """Seed the default generators of all cuda devices, also those that are not in use yet. Touches no device."""
    with _cuda.lock:
        _cuda.seed = seed
        for generator in _cuda.made.values():
            generator.manual_seed(seed)


def stream_of(generator: Generator | None, array: Any = None) -> Any:
    """The stream behind a ``generator=`` argument, for filling ``array`` (None: on the CPU); for None that of the
    default generator of the array's device.

    Raises TypeError for anything else, RuntimeError for a generator of another type of device."""
    host = array is None or is_host(array)
    if generator is None:
        return default_generator._stream if host else cuda_generator(array.device)._stream
    if not isinstance(generator, Generator):
        raise TypeError(f"argument 'generator' must be tritium.Generator, not {type(generator).__name__}")
    wanted = "cpu" if host else "cuda"
    if generator._device.type != wanted:
        raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{generator._device.type}'")
    return generator._stream


def manual_seed(seed: Any) -> Generator:
    """Seed the default generators of all devices, and return the CPU's.

    ``seed``: anything that ``int`` takes, in [-2^63, 2^64). Raises ValueError out of that range."""
    default_generator.manual_seed(int(seed))
    seed_cuda(int(seed))
    return default_generator


def seed() -> int:
    """Seed the default generators from the operating system, and return the seed."""
    found = default_generator.seed()
    seed_cuda(found)
    return found


def initial_seed() -> int:
    """The seed that the default generator last started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default CPU generator: a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default CPU generator."""
    default_generator.set_state(new_state)


def get_states() -> Any:
    """The states of all default generators, for ``set_states``. Touches no device."""
    with _cuda.lock:
        return (default_generator.get_state(), {index: g._stream.mark() for index, g in _cuda.made.items()},
                _cuda.seed)


def set_states(states: Any) -> None:
    """Set all default generators to what ``get_states`` saw. One that was not made then begins with the seed that it
    would have begun with."""
    state, made, seed = states
    default_generator.set_state(state)
    with _cuda.lock:
        _cuda.seed = seed
        for index in list(_cuda.made):
            if index in made:
                _cuda.made[index]._stream.back(made[index])
            elif current.capture is not None:
                _cuda.made[index]._stream.back((current.capture, 0, 0))
            elif seed is not None:
                _cuda.made[index].manual_seed(seed)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str | None = None) -> Iterator[None]:
    """What is drawn inside the ``with`` block does not count: the state before it is set again at its end.

    ``devices``: the cuda devices (indices or devices) whose default generators are treated the same way; None: all.
    ``enabled``: False does nothing."""
    if not enabled:
        yield
        return
    if devices is None:
        state = get_states()
        try:
            yield
        finally:
            set_states(state)
        return
    found = [as_available(f"{device_type or 'cuda'}:{d}" if isinstance(d, int) else d) for d in devices]
    generators = [default_generator, *[cuda_generator(d.index) for d in found if d.index is not None]]
    states = [g.get_state() for g in generators]
    try:
        yield
    finally:
        for g, old in zip(generators, states, strict=True):
            g.set_state(old)
