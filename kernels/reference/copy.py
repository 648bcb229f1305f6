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
    if 0 in a.strides and a.ndim > 1 and a.size > 1:
        order = _order(a.shape, a.strides)
        back = np.argsort(order)
        return np.array(a.transpose(order), order="C", copy=True).transpose(back)
    return np.array(a, order="K", copy=True)


def _order(shape: Any, strides: Any) -> list[int]:
    """The dimensions from the slowest to the fastest in memory; those of stride 0 keep their places."""
    order = list(range(len(shape)))[::-1]  # fastest first
    for i in range(1, len(order)):
        at = i
        for j in range(i - 1, -1, -1):
            s, t = strides[order[j]], strides[order[at]]
            if s == 0 or t == 0:
                continue
            if s > t or (s == t and shape[order[j]] > shape[order[at]]):
                order[j], order[at] = order[at], order[j]
                at = j
            elif s < t:
                break
    return order[::-1]


def channels_last(a: Any) -> Any:
    """A copy of (N, C, H, W) or (N, C, D, H, W) with the channels fastest."""
    order = (0, *range(2, a.ndim), 1)
    back = (0, a.ndim - 1, *range(1, a.ndim - 1))
    return np.array(a.transpose(order), order="C", copy=True).transpose(back)


def cat(arrays: Any, dim: int, channels_last: bool = False) -> Any:
    """Arrays of one dtype joined along a dimension; the result is contiguous, or channels-last."""
    if not channels_last:
        out = np.concatenate(arrays, dim)
        return out if out.flags.c_contiguous else np.ascontiguousarray(out)
    ndim = arrays[0].ndim
    order = (0, *range(2, ndim), 1)
    out = np.concatenate([a.transpose(order) for a in arrays], order.index(dim))
    return np.ascontiguousarray(out).transpose(0, ndim - 1, *range(1, ndim - 1))


def stack(arrays: Any, dim: int) -> Any:
    """Arrays of one shape and dtype joined along a new dimension; the result is contiguous."""
    return np.ascontiguousarray(np.stack(arrays, dim))


def block_diag(blocks: Any) -> Any:
    """Matrices of one dtype on the diagonal of a larger one, zero elsewhere."""
    out = np.zeros((sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)), blocks[0].dtype)
    row = column = 0
    for b in blocks:
        out[row:row + b.shape[0], column:column + b.shape[1]] = b
        row, column = row + b.shape[0], column + b.shape[1]
    return out


def flip(a: Any, dims: tuple[int, ...]) -> Any:
    """A copy in reverse order along the dimensions."""
    return np.array(np.flip(a, dims), order="C" if 0 in a.strides else "K")


def roll(a: Any, shifts: Any, dims: Any) -> Any:
    """A copy with the elements moved round."""
    return np.asarray(np.roll(a, shifts, dims), order="C")


def rot90(a: Any, k: int, dim0: int, dim1: int) -> Any:
    """A copy turned by ``k`` (0 to 3) times 90 degrees, from the first dimension towards the second."""
    if k == 0:
        return contiguous(a)
    if k == 2:
        return contiguous(np.flip(a, (dim0, dim1)))
    return contiguous(np.flip(a, dim1 if k == 1 else dim0)).swapaxes(dim0, dim1)


def tile(a: Any, repeats: tuple[int, ...]) -> Any:
    """A copy repeated along each dimension; as many repeats as dimensions, or more."""
    return np.asarray(np.tile(a, repeats), order="C")


def triangle(a: Any, diagonal: int, upper: bool) -> Any:
    """The lower or upper triangle of the last two dimensions, zero elsewhere."""
    rows, columns = np.arange(a.shape[-2])[:, None], np.arange(a.shape[-1])
    keep = columns - rows >= diagonal if upper else columns - rows <= diagonal
    return np.asarray(np.where(keep, a, a.dtype.type(0)), order="C")


def diagonal_into(out: Any, a: Any, offset: int) -> None:
    """The last dimension of ``a`` written on a diagonal of the last two dimensions of ``out``."""
    i = np.arange(a.shape[-1])
    out[..., i - min(offset, 0), i + max(offset, 0)] = a
