"""``tritium.cpu.amp``: the older names of automatic mixed precision on the CPU. They warn.

https://docs.pytorch.org/docs/stable/amp.html
"""
from __future__ import annotations

from tritium.amp.older import autocast_of, scaler_of

autocast = autocast_of("cpu")
GradScaler = scaler_of("cpu")

__all__ = ["autocast", "GradScaler"]
