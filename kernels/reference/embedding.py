"""Rows of a table by number, and the sum of gradients back into the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.index import add_rows
from tritium.kernels.reference.pointwise import LOW

Array = Any


def embedding(weight: Array, indices: Array) -> Array:
    """weight (V, D), indices of any shape (...) in [0, V): the rows, (..., D)."""
    return np.take(weight, indices, axis=0)


def embedding_backward(g: Array, indices: Array, rows: int, skip: int, by_frequency: bool) -> Array:
    """g (..., D) summed into (rows, D). `skip`: a row that gets nothing (-1: none); `by_frequency`: divide each row's
    sum by how often its number occurs.

    The gradients are added in order: the same inputs give the same bits, and float16 sums in float32.
    """
    flat = indices.reshape(-1)
    g = g.reshape(flat.size, g.shape[-1])
    out = np.zeros((rows, g.shape[1]), np.float32 if g.dtype in LOW else g.dtype)
    if skip >= 0:
        keep = flat != skip
        flat, g = flat[keep], g[keep]
    add_rows(out, flat, g.astype(out.dtype, copy=False))
    if by_frequency:
        out /= np.maximum(np.bincount(flat, minlength=rows), 1)[:, None].astype(out.dtype)
    return out.astype(g.dtype, copy=False)
