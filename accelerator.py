"""``tritium.accelerator``: what programs ask of a GPU without naming its make. Here it is the cuda device.

https://docs.pytorch.org/docs/stable/accelerator.html
"""
from __future__ import annotations

from typing import Any

from tritium import cuda
from tritium.cuda import (
    current_stream,
    device_count,
    empty_cache,
    is_available,
    max_memory_allocated,
    max_memory_reserved,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_peak_memory_stats,
    set_stream,
    synchronize,
)


def current_accelerator(check_available: bool = False) -> Any:
    """The device type of the accelerator, without an index; None where there is none."""
    if not is_available():
        return None
    from tritium.tensor.device import device

    return device("cuda")


def current_device_index() -> int:
    """The index of this thread's current device."""
    return cuda.current_device()


def set_device_index(device: Any) -> None:
    """Make a device current on this thread."""
    cuda.set_device(device)


class device_index(cuda.device):
    """``with device_index(1):`` makes a device current inside the block; None changes nothing."""

    def __init__(self, device: int | None) -> None:
        super().__init__(-1 if device is None else device)


current_device_idx, set_device_idx = current_device_index, set_device_index

__all__ = ["current_accelerator", "current_device_idx", "current_device_index", "current_stream", "device_count",
           "device_index", "empty_cache", "is_available", "max_memory_allocated", "max_memory_reserved",
           "memory_allocated", "memory_reserved", "memory_stats", "reset_peak_memory_stats", "set_device_idx",
           "set_device_index", "set_stream", "synchronize"]
