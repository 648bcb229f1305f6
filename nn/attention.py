"""``torch.nn.attention``: which ways to compute ``scaled_dot_product_attention`` are allowed.

https://docs.pytorch.org/docs/stable/nn.attention.html
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from tritium.tensor.ops.attention import backends as allowed

__all__ = ["SDPBackend", "sdpa_kernel"]


class SDPBackend(IntEnum):
    """Ways to compute attention. MATH is made of products and a softmax; FLASH_ATTENTION, and on cuda also
    EFFICIENT_ATTENTION and CUDNN_ATTENTION, name one fused op."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4

    def __repr__(self) -> str:
        return f"<SDPBackend.{self.name}: {self.value}>"

    def __str__(self) -> str:
        return f"SDPBackend.{self.name}"


SWITCHES = {SDPBackend.MATH: "math", SDPBackend.FLASH_ATTENTION: "flash",
            SDPBackend.EFFICIENT_ATTENTION: "mem_efficient", SDPBackend.CUDNN_ATTENTION: "cudnn",
            SDPBackend.OVERRIDEABLE: "overrideable"}


@contextlib.contextmanager
def sdpa_kernel(backends: Any, set_priority: bool = False) -> Iterator[dict[Any, Any]]:
    """A region in which attention is computed in one of these ways: an SDPBackend or a list of them. For the whole
    process, as in PyTorch. ``set_priority``: kept, has no effect (the fused op comes first).

    Raises AssertionError for anything else."""
    if not isinstance(backends, (list, SDPBackend)):
        raise AssertionError("Backend must be an instance of SDPBackend or a list of SDPBackend instances, got "
                             f"{type(backends).__name__}")
    wanted = [backends] if isinstance(backends, SDPBackend) else backends
    before = {name: getattr(allowed, name) for name in SWITCHES.values()}
    try:
        for backend, name in SWITCHES.items():
            setattr(allowed, name, backend in wanted)
        yield {}
    finally:
        for name, value in before.items():
            setattr(allowed, name, value)
