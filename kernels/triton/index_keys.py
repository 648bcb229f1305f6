"""Reading, writing and adding by index arrays, masks and full slices in several dimensions, by NumPy's rules.

The numbers of all arrays become one: id = (index0 * size1 + index1) * size2 + ...; the rest is indexing by one number.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels.array import DeviceArray, contiguous_steps
from tritium.kernels.triton import index_kernels as kernels
from tritium.kernels.triton.copy import contiguous, copy_into
from tritium.kernels.triton.index_common import INT64, cell, elements, nonzero, refuse_complex, segment, winners
from tritium.kernels.triton.memory import broadcast_to, empty, from_host
from tritium.kernels.triton.strided import overlap

Array = Any


class _Key:
    """A key of index arrays, masks and full slices, taken apart. ``dims``: the indexed dimensions; ``arrays``: what
    stands there; ``shape``: theirs together; ``first``: where they stand in the result."""

    def __init__(self, shape: tuple[int, ...], key: tuple[Any, ...], device: int) -> None:
        self.arrays: list[DeviceArray] = []
        self.dims: list[int] = []
        d = 0
        for k in key:
            if isinstance(k, np.ndarray):
                k = from_host(k, device)
            if not isinstance(k, DeviceArray):
                d += 1
                continue
            parts = [k]
            if k.dtype.kind == "b":
                places = nonzero(k)
                parts = [places[:, i] for i in range(k.ndim)]
            self.arrays += parts
            self.dims += range(d, d + len(parts))
            d += len(parts)
        try:
            self.shape = np.broadcast_shapes(*[k.shape for k in self.arrays])
        except ValueError:
            raise IndexError("shape mismatch: indexing arrays could not be broadcast together with shapes "
                             + " ".join([str(k.shape) for k in self.arrays])) from None
        self.rest = [d for d in range(len(shape)) if d not in self.dims]
        together = self.dims[-1] - self.dims[0] + 1 == len(self.dims)
        self.first = self.dims[0] if together else 0
        self.sizes = [shape[d] for d in self.dims]
        others = [shape[d] for d in self.rest]
        self.result = (*others[:self.first], *self.shape, *others[self.first:])

    def spread(self, own: Any, between: Any) -> tuple[int, ...]:
        """Steps in the result: ``own`` in the dimensions that are left, ``between`` in those of the index arrays."""
        return (*own[:self.first], *between, *own[self.first:])

    def steps(self, array: DeviceArray) -> list[int]:
        return elements(broadcast_to(array, self.shape))

    def ids(self, jumps: Any, winner: DeviceArray | None = None) -> DeviceArray:
        """sum index * jump over the arrays, -1 where one is outside: dense, int64."""
        out = empty(self.shape, INT64, self.arrays[0].device)
        if out.size:
            last = len(self.arrays) - 1
            for i, (array, size, jump) in enumerate(zip(self.arrays, self.sizes, jumps, strict=True)):
                kernels.run_linear(array, out, self.shape, self.steps(array), (0,) * len(self.shape), elements(out),
                                   size, jump, i > 0, winner if i == last else None)
        return out


def index(a: Array, key: tuple[Any, ...]) -> Array:
    """``a[key]`` for a key of index arrays (in range), masks and full slices. The result is contiguous.

    Raises IndexError where the index arrays do not broadcast."""
    k = _Key(a.shape, key, a.device)
    out = empty(k.result, a.dtype, a.device)
    if not out.size or not a.size:
        return out
    item = a.dtype.itemsize
    if len(k.arrays) == 1:
        numbers, size, jump, between = k.arrays[0], k.sizes[0], a.strides[k.dims[0]], k.steps(k.arrays[0])
    else:
        if any(a.strides[d] < 0 or a.strides[d] % item for d in k.dims):
            a = contiguous(a)
        jumps = [a.strides[d] // item for d in k.dims]
        numbers, jump = k.ids(jumps), item
        size, between = 1 + sum([(n - 1) * s for n, s in zip(k.sizes, jumps, strict=True)]), elements(numbers)
    kernels.run_indexed(a, numbers, out, k.result, k.spread([a.strides[d] for d in k.rest], (0,) * len(k.shape)),
                        k.spread((0,) * len(k.rest), between), out.strides, size, jump, False)
    return out


def put(out: Array, key: tuple[Any, ...], src: Any) -> None:
    """``out[key] = src`` for a key of index arrays (in range), masks and full slices: the last of several writers wins.

    Raises IndexError where the index arrays do not broadcast, ValueError where the source does not."""
    k = _Key(out.shape, key, out.device)
    src = _spread_source(src, out, k.result)
    if not math.prod(k.result) or not out.size:
        return
    count, rest = math.prod(k.sizes), [out.shape[d] for d in k.rest]
    turned = out.transpose((*k.dims, *k.rest))
    target = turned.as_shape((count, *rest))
    copied = target is None
    if target is None:
        target = contiguous(turned).reshape((count, *rest))
    winner = winners(count, out.device)
    ids = k.ids(contiguous_steps(tuple(k.sizes), 1), winner)
    kernels.run_indexed(src, ids, target, k.result, src.strides, k.spread((0,) * len(rest), elements(ids)),
                        k.spread(target.strides[1:], (0,) * len(k.shape)), count, target.strides[0], True, winner)
    if copied:
        copy_into(turned, target.reshape(turned.shape))


def _spread_source(src: Any, out: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """A source in a dtype and broadcast to a shape; a copy where it overlaps with what is written."""
    if not isinstance(src, DeviceArray):
        src = cell(src, out.dtype, out.device)
    elif src.dtype != out.dtype:
        src = src.astype(out.dtype)
    elif src.size and out.size and overlap(src, out):
        src = contiguous(src)
    while src.ndim > len(shape) and src.shape[0] == 1:
        src = src[0]
    return broadcast_to(src, shape)


def accumulate_into(out: Array, key: tuple[Any, ...], src: Array) -> None:
    """``out[key] += src`` for a key of index arrays and full slices; what meets in one place is added in order."""
    refuse_complex(out)
    k = _Key(out.shape, key, out.device)
    src = _spread_source(src, out, k.result)
    if not math.prod(k.result) or not out.size:
        return
    src = src if src.dense else contiguous(src)
    ids = k.ids(contiguous_steps(tuple(k.sizes), 1))
    count, rest = math.prod(k.sizes), [out.shape[d] for d in k.rest]
    in_place = out.dense and k.dims[-1] - k.dims[0] + 1 == len(k.dims)
    turned = out if in_place else out.transpose((*k.rest[:k.first], *k.dims, *k.rest[k.first:]))
    target = turned if turned.dense else contiguous(turned)
    segment(target, math.prod(rest[:k.first]), count, math.prod(rest[k.first:]), ids.reshape(-1), src, "sum")
    if not turned.dense:
        copy_into(turned, target)
