"""The random number functions of ``tritium.cuda``: seeds and states of the devices' default generators.

Without a device, seeding is remembered for one that comes; a state can only be asked of a device that is there.
https://docs.pytorch.org/docs/stable/cuda.html#random-number-generator
"""
from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.runtime.state import current
from tritium.tensor.device import as_available
from tritium.tensor.random import Generator, cuda_generator, seed_cuda
from tritium.tensor.tensor import Tensor


def _generator(device: Any) -> Generator:
    """The default generator of a device: an index, a text or a device; "cuda" is the current one.

    Raises RuntimeError for a device that is not there or no cuda device."""
    found = as_available(f"cuda:{device}" if isinstance(device, int) else device)
    if found.index is None:
        raise RuntimeError(f"Expected a cuda device, but got: {found}")
    return cuda_generator(found.index)


def default_generators() -> tuple[Generator, ...]:
    """The default generators of all devices."""
    return tuple(cuda_generator(i) for i in range(runtime.count()))


def manual_seed(seed: int) -> None:
    """Seed the current device's default generator. Without a device the seed waits for one."""
    if runtime.count():
        cuda_generator(current.device).manual_seed(int(seed))
    else:
        seed_cuda(int(seed))


def manual_seed_all(seed: int) -> None:
    """Seed the default generators of all devices."""
    seed_cuda(int(seed))


def seed() -> None:
    """Seed the current device's default generator with a number of the operating system."""
    manual_seed(int.from_bytes(os.urandom(8), "little"))


def seed_all() -> None:
    """Seed the default generators of all devices with one number of the operating system."""
    seed_cuda(int.from_bytes(os.urandom(8), "little"))


def initial_seed() -> int:
    """The seed that the current device's default generator last started from."""
    return _generator("cuda").initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of a device's default generator: a uint8 tensor of 16 bytes on the CPU."""
    return _generator(device).get_state()


def get_rng_state_all() -> list[Tensor]:
    """The states of all devices' default generators."""
    return [g.get_state() for g in default_generators()]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Set the state of a device's default generator."""
    _generator(device).set_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """Set the states of all devices' default generators."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)
