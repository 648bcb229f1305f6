"""``tritium.cpu``: the CPU under the names that programs written for any device use.

https://docs.pytorch.org/docs/stable/cpu.html
"""
from __future__ import annotations

import sys
from typing import Any

from tritium.amp import cpu as amp

sys.modules[__name__ + ".amp"] = amp  # for "from tritium.cpu.amp import autocast"


def is_available() -> bool:
    """True."""
    return True


def is_initialized() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """"cpu"."""
    return "cpu"


def set_device(device: Any) -> None:
    """Nothing to do: there is one."""


def synchronize(device: Any = None) -> None:
    """Nothing to wait for."""


__all__ = ["amp", "current_device", "device_count", "is_available", "is_initialized", "set_device", "synchronize"]
