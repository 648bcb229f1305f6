"""Rows of a table by number, and the sum of gradients back into the rows.

    embedding    out[i, :] = weight[index[i], :]
    backward     dweight[v, :] = sum over i with index[i] = v of g[i, :], in a fixed order
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tritium.kernels.array import DeviceArray, DeviceMismatch
from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import index_kernels as kernels
from tritium.kernels.triton.copy import contiguous
from tritium.kernels.triton.index_common import elements, refuse_complex, segment
from tritium.kernels.triton.memory import empty, zeros

Array = Any


def embedding(weight: Array, indices: Array) -> Array:
    """weight (V, D), indices of any shape (...) in [0, V): the rows, (..., D)."""
    if not isinstance(indices, DeviceArray):
        raise DeviceMismatch(f"cuda:{weight.device}")
    out = empty((*indices.shape, weight.shape[1]), weight.dtype, weight.device)
    if out.size:
        kernels.run_indexed(weight, indices, out, out.shape, (*[0] * indices.ndim, weight.strides[1]),
                            (*elements(indices), 0), out.strides, weight.shape[0], weight.strides[0], False)
    return out


def embedding_backward(g: Array, indices: Array, rows: int, skip: int, by_frequency: bool) -> Array:
    """g (..., D) summed into (rows, D). `skip`: a row that gets nothing (-1: none); `by_frequency`: divide each row's
    sum by how often its number occurs.

    The gradients are added in a fixed order: the same inputs give the same bits, and 16-bit floats sum in float32.
    """
    refuse_complex(g)
    width = g.shape[-1]
    out = zeros((rows, width), g.dtype, g.device)
    if math.prod(g.shape):
        indices = indices if indices.dense else contiguous(indices)
        g = g if g.dense else contiguous(g)
        segment(out, 1, rows, width, indices.reshape(-1), g, "mean" if by_frequency else "sum", False, skip)
    return out


def cases() -> Iterator[Case]:
    """The shipped configurations: those of ``index``."""
    yield from kernels.cases()
