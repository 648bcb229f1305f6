"""What runs. ``reference`` is the NumPy side, ``triton`` will be the GPU side: the same families, the same names.

Kernels see arrays, shapes and strides, never a Tensor. ``of(array)`` is the side where an array lives:
``of(a).pointwise.add(a, b)``.
"""
from __future__ import annotations

from typing import Any

from numpy import ndarray

from tritium.kernels import reference


def of(array: Any) -> Any:
    """The side where an array lives: a namespace of op families.

    Raises NotImplementedError for an array that no side takes."""
    if isinstance(array, ndarray):
        return reference
    raise NotImplementedError(f"no kernels for arrays of type {type(array).__name__}")
