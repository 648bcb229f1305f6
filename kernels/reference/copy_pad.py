"""Padding: an array with more (or, for negative amounts, fewer) elements at both ends of its dimensions.

The constant kind copies x into a filled array. The others are a gather: an index map per dimension says which element
of x stands at each place, and the derivative adds each place's gradient to the element it came from.

    reflect    -2 -1 | 0 1 2 3 | 4 5   takes   2 1 | 0 1 2 3 | 2 1
    replicate                                  0 0 | 0 1 2 3 | 3 3
    circular                                   2 3 | 0 1 2 3 | 0 1
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
Amounts = tuple[tuple[int, int], ...]  # (before, after) of each dimension


def constant(x: Array, amounts: Amounts, value: Any) -> Array:
    """x in an array of `value`; negative amounts cut off."""
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, amounts, strict=True))
    out = np.full(shape, value, x.dtype)
    source = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, amounts, strict=True))
    target = tuple(slice(max(b, 0), n - max(a, 0)) for n, (b, a) in zip(shape, amounts, strict=True))
    out[target] = x[source]
    return out


def index_map(mode: str, size: int, before: int, after: int) -> Array:
    """Which of the `size` elements stands at each place of the padded dimension."""
    if mode == "circular":  # what a negative amount cuts off does not come back at the other end
        kept = np.arange(max(-before, 0), size - max(-after, 0))
        return kept[np.arange(-max(before, 0), kept.size + max(after, 0)) % max(kept.size, 1)]
    places = np.arange(-before, size + after)
    if mode == "reflect":
        places = np.abs(places)
        return np.where(places >= size, 2 * (size - 1) - places, places)
    return np.clip(places, 0, size - 1)


def gather(x: Array, mode: str, amounts: Amounts) -> Array:
    """x padded by its own elements."""
    for dim, (before, after) in enumerate(amounts):
        if before or after:
            x = np.take(x, index_map(mode, x.shape[dim], before, after), axis=dim)
    return x


def scatter(g: Array, mode: str, amounts: Amounts, shape: tuple[int, ...]) -> Array:
    """The gradient of x (of `shape`) from that of `gather(x)`."""
    for dim in reversed(range(len(amounts))):
        before, after = amounts[dim]
        if not (before or after):
            continue
        size = shape[dim]
        first = max(before, 0)  # where the part that stays in its place begins, in g and in x
        start, stop = max(-before, 0), size - max(-after, 0)
        g = np.moveaxis(g, dim, 0)
        out = np.zeros((size, *g.shape[1:]), g.dtype)
        out[start:stop] = g[first : first + stop - start]
        origin = index_map(mode, size, before, after)
        for place in (*range(first), *range(first + stop - start, len(origin))):
            out[origin[place]] += g[place]
        g = np.moveaxis(out, 0, dim)
    return np.ascontiguousarray(g)
