"""Copying, joining and rearranging of arrays."""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import cast


def copy_into(out: Any, a: Any) -> None:
    """``out[...] = a``, converted to ``out``'s dtype as C converts; overlapping memory is handled."""
    if a.dtype != out.dtype:
        a = cast(a, out.dtype)
    np.copyto(out, a, casting="unsafe")


def contiguous(a: Any) -> Any:
    """A copy with the last dimension fastest."""
    return np.array(a, order="C", copy=True)


def clone(a: Any) -> Any:
    """A copy that keeps the order of dimensions in memory (stride 0 becomes dense)."""
    return np.array(a, order="K", copy=True)


def channels_last(a: Any) -> Any:
    """A copy of (N, C, H, W) or (N, C, D, H, W) with the channels fastest."""
    order = (0, *range(2, a.ndim), 1)
    back = (0, a.ndim - 1, *range(1, a.ndim - 1))
    return np.array(a.transpose(order), order="C", copy=True).transpose(back)


def cat(arrays: Any, dim: int) -> Any:
    """Arrays of one dtype joined along a dimension."""
    return np.concatenate(arrays, dim)


def stack(arrays: Any, dim: int) -> Any:
    """Arrays of one shape and dtype joined along a new dimension."""
    return np.stack(arrays, dim)


def flip(a: Any, dims: tuple[int, ...]) -> Any:
    """A copy in reverse order along the dimensions."""
    return np.array(np.flip(a, dims))


def roll(a: Any, shifts: Any, dims: Any) -> Any:
    """A copy with the elements moved round."""
    return np.roll(a, shifts, dims)


def tile(a: Any, repeats: tuple[int, ...]) -> Any:
    """A copy repeated along each dimension."""
    return np.tile(a, repeats)


def repeat(a: Any, repeats: Any, dim: int | None) -> Any:
    """Each element repeated in place."""
    return np.repeat(a, repeats, dim)


def triangle(a: Any, diagonal: int, upper: bool) -> Any:
    """The lower or upper triangle of the last two dimensions, zero elsewhere."""
    return np.triu(a, diagonal) if upper else np.tril(a, diagonal)
