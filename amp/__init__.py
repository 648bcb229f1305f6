"""``tritium.amp``: automatic mixed precision, ``torch.amp``'s names.

https://docs.pytorch.org/docs/stable/amp.html
"""
from __future__ import annotations

from tritium.optim.grad_scaler import GradScaler
from tritium.tensor.autocast import autocast, custom_bwd, custom_fwd, is_autocast_available

__all__ = ["autocast", "custom_bwd", "custom_fwd", "is_autocast_available", "GradScaler"]
