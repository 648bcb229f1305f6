"""Batches in page-locked memory, from which copies to a device need not be waited for."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritium.tensor.tensor import Tensor


def pin_memory(data: Any, device: Any = None) -> Any:
    """The same structure with its CPU tensors pinned; an object with ``pin_memory()`` pins itself.

    https://docs.pytorch.org/docs/stable/data.html#memory-pinning"""
    if isinstance(data, Tensor):
        return data.pin_memory() if data.is_cpu else data
    if isinstance(data, (str, bytes)):
        return data
    if isinstance(data, Mapping):
        return _again(data, {k: pin_memory(v, device) for k, v in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*[pin_memory(v, device) for v in data])
    if isinstance(data, tuple):
        return tuple([pin_memory(v, device) for v in data])
    if isinstance(data, list):
        return [pin_memory(v, device) for v in data]
    return data.pin_memory() if hasattr(data, "pin_memory") else data


def _again(like: Mapping[Any, Any], found: dict[Any, Any]) -> Any:
    try:
        return type(like)(found)  # type: ignore[call-arg]
    except TypeError:
        return found
