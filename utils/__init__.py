"""``tritium.utils``: PyTorch's paths to things that have a room of their own here. Loaded when first used."""
from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("data", "checkpoint", "dlpack", "model_zoo"):
        from importlib import import_module

        return import_module(f"tritium.utils.{name}")
    raise AttributeError(f"module 'tritium.utils' has no attribute {name!r}")
