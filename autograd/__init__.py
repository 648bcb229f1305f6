"""Automatic differentiation: the engine, grad modes, hooks, user-defined functions, checks.

https://docs.pytorch.org/docs/stable/autograd.html
"""
from __future__ import annotations

from typing import Any

from tritium.autograd import function, functional, graph
from tritium.autograd.engine import backward, grad
from tritium.autograd.function import Function, NestedIOFunction
from tritium.autograd.gradcheck import gradcheck, gradgradcheck
from tritium.tensor.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from tritium.tensor.graph import Node
from tritium.tensor.tensor import Tensor


class _VariableMeta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)

    def __call__(cls, data: Any = None, requires_grad: bool = False, volatile: bool = False) -> Tensor:
        from tritium.tensor.creation import empty

        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        out = data.detach()
        out.requires_grad = requires_grad
        return out


class Variable(metaclass=_VariableMeta):
    """The old name of a tensor that records its history: ``Variable(data, requires_grad=False)`` is a new tensor over
    the memory of ``data``. Every tensor is an instance."""


class _Anomaly:
    """Accepted and without effect: errors in backward already name the operation."""

    def __init__(self, mode: bool = True, check_nan: bool = True) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


set_detect_anomaly = detect_anomaly = _Anomaly

__all__ = ["Function", "NestedIOFunction", "Node", "Variable", "backward", "detect_anomaly", "enable_grad", "function",
           "functional", "grad", "gradcheck", "gradgradcheck", "graph", "inference_mode", "is_grad_enabled",
           "is_inference_mode_enabled", "no_grad", "set_detect_anomaly", "set_grad_enabled"]
