"""``tritium.cuda.amp``: the older names of automatic mixed precision on cuda. They warn.

https://docs.pytorch.org/docs/stable/amp.html
"""
from __future__ import annotations

from typing import Any

from tritium import amp
from tritium.amp.older import _warn, autocast_of, scaler_of
from tritium.kernels import runtime

autocast = autocast_of("cuda")
GradScaler = scaler_of("cuda")


def custom_fwd(fwd: Any = None, *, cast_inputs: Any = None) -> Any:
    """``tritium.amp.custom_fwd(..., device_type="cuda")``."""
    _warn("cuda", "custom_fwd", front="args..., device_type='{}'")
    return amp.custom_fwd(fwd, device_type="cuda", cast_inputs=cast_inputs)


def custom_bwd(bwd: Any) -> Any:
    """``tritium.amp.custom_bwd(..., device_type="cuda")``."""
    _warn("cuda", "custom_bwd", front="args..., device_type='{}'")
    return amp.custom_bwd(bwd, device_type="cuda")


def amp_definitely_not_available() -> bool:
    """Whether there is no cuda device."""
    return not runtime.count()


__all__ = ["amp_definitely_not_available", "autocast", "custom_bwd", "custom_fwd", "GradScaler"]
