"""Arrays (N, C, ...) that are contiguous or channels-last: kernels take both as they are, others are copied first."""
from __future__ import annotations

from typing import Any

from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.copy import contiguous
from tritium.kernels.triton.memory import empty

Array = Any


def last(x: Array) -> Array:
    """(N, C, ...) seen as (N, ..., C)."""
    return x.transpose((0, *range(2, x.ndim), 1))


def first(x: Array) -> Array:
    """(N, ..., C) seen as (N, C, ...)."""
    return x.transpose((0, x.ndim - 1, *range(1, x.ndim - 1)))


def _planes(x: Array) -> bool | None:
    return True if x.dense else False if last(x).dense else None


def laid(x: Array) -> tuple[Array, bool]:
    """x as it is or as a contiguous copy; whether it is contiguous, not channels-last."""
    planes = remembered((_planes, x.shape, x.strides, x.dtype.itemsize), _planes, x)
    return (contiguous(x), True) if planes is None else (x, planes)


def laid_as(x: Array, planes: bool) -> Array:
    """x contiguous, or channels-last."""
    if planes:
        return contiguous(x)
    seen = last(x)
    return x if seen.dense else first(contiguous(seen))


def new(N: int, C: int, size: Any, planes: bool, dtype: Any, device: int) -> Array:
    """A new array (N, C, *size)."""
    return empty((N, C, *size), dtype, device) if planes else first(empty((N, *size, C), dtype, device))
