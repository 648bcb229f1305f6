"""What ``torch.cuda.amp`` and ``torch.cpu.amp`` say for ``torch.amp``'s names: a device of their own, and a warning."""
from __future__ import annotations

import warnings
from typing import Any

from tritium import amp
from tritium.tensor.dtype import bfloat16, float16

DTYPES = {"cuda": float16, "cpu": bfloat16}


def _warn(kind: str, name: str, arguments: str = "args...", front: str = "'{}', args...") -> None:
    warnings.warn(f"`torch.{kind}.amp.{name}({arguments})` is deprecated. Please use "
                  f"`torch.amp.{name}({front.format(kind)})` instead.", FutureWarning, stacklevel=3)


def autocast_of(kind: str) -> type[amp.autocast]:
    """``torch.<kind>.amp.autocast``."""

    class autocast(amp.autocast):
        def __init__(self, enabled: bool = True, dtype: Any = DTYPES[kind], cache_enabled: bool = True) -> None:
            _warn(kind, "autocast")
            self._begin(kind, dtype, enabled, cache_enabled, 4)

    autocast.__doc__ = f"``tritium.autocast(\"{kind}\", ...)``; warns that it is the older form."
    autocast.__qualname__ = "autocast"
    autocast.__module__ = f"tritium.{kind}.amp"
    return autocast


def scaler_of(kind: str) -> type[amp.GradScaler]:
    """``torch.<kind>.amp.GradScaler``."""

    class GradScaler(amp.GradScaler):
        def __init__(self, init_scale: float = 2.0 ** 16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                     growth_interval: int = 2000, enabled: bool = True) -> None:
            _warn(kind, "GradScaler")
            super().__init__(kind, init_scale, growth_factor, backoff_factor, growth_interval, enabled)

    GradScaler.__doc__ = f"``tritium.amp.GradScaler(\"{kind}\", ...)``; warns that it is the older form."
    GradScaler.__qualname__ = "GradScaler"
    GradScaler.__module__ = f"tritium.{kind}.amp"
    return GradScaler
