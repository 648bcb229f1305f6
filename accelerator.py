"""``tritium.accelerator``: the questions programs ask about a GPU. There is none in this version.

https://docs.pytorch.org/docs/stable/accelerator.html
"""
from __future__ import annotations

from typing import Any, NoReturn

from tritium.cuda import MISSING


def is_available() -> bool:
    """Whether there is an accelerator: False in this version."""
    return False


def device_count() -> int:
    """How many accelerators there are: none in this version."""
    return 0


def current_accelerator(check_available: bool = False) -> None:
    """The device type of the accelerator: None, there is none."""
    return None


def set_device_index(device: Any) -> NoReturn:
    """Raises NotImplementedError: there is no accelerator to choose."""
    raise NotImplementedError(MISSING)


set_device_idx = set_device_index
