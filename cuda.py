"""``tritium.cuda``: no cuda device in this version.

Questions are answered (``is_available()`` is False, there are 0 devices); anything that would need a device raises
NotImplementedError. https://docs.pytorch.org/docs/stable/cuda.html
"""
from __future__ import annotations

from typing import Any, NoReturn

MISSING = "tritium.cuda: the cuda device is not implemented in this version of tritium"


class OutOfMemoryError(RuntimeError):
    """A cuda device ran out of memory."""


def is_available() -> bool:
    """Whether tensors can be made on a cuda device: False in this version."""
    return False


def device_count() -> int:
    """How many cuda devices can be used: none in this version."""
    return 0


def is_initialized() -> bool:
    """Whether a cuda device is in use: False in this version."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current device computes in bfloat16: False, there is none."""
    return False


def manual_seed(seed: int) -> None:
    """Seed the current device's generator. Without a device there is nothing to seed."""


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all devices. Without a device there is nothing to seed."""


def synchronize(device: Any = None) -> NoReturn:
    """Raises NotImplementedError: there is no device to wait for."""
    raise NotImplementedError(MISSING)


def empty_cache() -> None:
    """Give cached memory back. Without a device there is none."""


def current_device() -> NoReturn:
    """Raises NotImplementedError: there is no current device."""
    raise NotImplementedError(MISSING)


def set_device(device: Any) -> NoReturn:
    """Raises NotImplementedError: there is no device to set."""
    raise NotImplementedError(MISSING)


def get_device_name(device: Any = None) -> NoReturn:
    """Raises NotImplementedError: there is no device."""
    raise NotImplementedError(MISSING)


def memory_allocated(device: Any = None) -> int:
    """Bytes held by tensors on the device: 0, there is none."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated
