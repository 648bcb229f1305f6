"""The Triton side: the same families and functions as the NumPy side, on DeviceArrays.

A function that has no kernel yet raises ``NoKernel`` when it is called. Families load when first used."""
from __future__ import annotations

import importlib
from typing import Any

from tritium.kernels.array import NoKernel


class Family:
    """One op family; what it lacks raises NoKernel when called."""

    def __init__(self, name: str, module: Any) -> None:
        self._name = name
        if module is not None:
            self.__dict__.update({k: v for k, v in vars(module).items() if not k.startswith("_")})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Missing(f"{self._name}.{name}")


class Missing:
    """A function, or a table of functions, that has no Triton kernel."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, key: Any) -> Missing:
        return Missing(f"{self.name}[{key!r}]")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NoKernel(f"{self.name} has no Triton kernel: not implemented for cuda tensors")


class Side:
    """All families of the Triton side."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            module = importlib.import_module(f"tritium.kernels.triton.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"tritium.kernels.triton.{name}":
                raise
            module = None
        family = Family(name, module)
        setattr(self, name, family)
        return family


side = Side()
