"""Regions: which elements of a tensor a view of it sees, ``as_strided``, and in-place changes through views.

https://docs.pytorch.org/docs/stable/generated/torch.as_strided.html
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import beside, of
from tritium.tensor.graph import derivative, make_view, materialize, record, recording, wrap
from tritium.tensor.layout import as_strided_array, element_strides, shape_of
from tritium.tensor.storage import address_of, storage_elements
from tritium.tensor.tensor import Tensor

Steps = tuple[int, ...]

# --- regions: where a view lies in its base ------------------------------------------------------

class Part:
    """Which elements of a base a view sees, by where they lie in memory.

    ``shape``, ``strides``: the base's; ``view_shape``, ``view_strides``: the view's, and ``start`` its first element,
    counted from the base's first one. All in elements."""

    def __init__(self, shape: Steps, strides: Steps, view_shape: Steps, view_strides: Steps, start: int) -> None:
        self.shape, self.strides = shape, strides
        self.view_shape, self.view_strides, self.start = view_shape, view_strides, start
        self.count = math.prod(shape)
        self.nothing = not self.count or 0 in view_shape
        # the base fills its memory, in some order of dimensions, and the view stays inside
        filled = 1
        for s, n in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n > 1):
            filled = filled * n if s == filled else -1
        last = start + sum((n - 1) * s for n, s in zip(view_shape, view_strides, strict=True))
        self.plain = filled == self.count and start >= 0 and last < self.count
        reach = 0  # how far the faster dimensions go: each dimension has to step over it
        self.distinct = True  # no element of the base is seen twice
        for s, n in sorted((s, n) for n, s in zip(view_shape, view_strides, strict=True) if n > 1):
            if s <= reach:
                self.distinct = False
            reach += (n - 1) * s

    def _base(self, flat: Any) -> Any:
        """A vector as the memory of an array laid out as the base."""
        return of(flat).memory.dense_view(flat, self.shape, tuple([s * flat.itemsize for s in self.strides]))

    def _view(self, flat: Any) -> Any:
        """The view of a base whose memory is a vector."""
        return as_strided_array(flat, self.view_shape, self.view_strides, self.start)

    def _memory(self, a: Any) -> Any:
        """The elements of an array of the base's shape in the order of the base's memory: a new vector."""
        flat = beside(a).empty((self.count,), a.dtype)
        of(a).copy.copy_into(self._base(flat), a)
        return flat

    def take(self, a: Any) -> Any:
        """The view's elements of an array of the base's shape."""
        if self.nothing:
            return beside(a).zeros(self.view_shape, a.dtype)
        if self.plain:
            dense = self.strides == element_strides(a)
            flat = as_strided_array(a, (self.count,), (1,), 0) if dense else self._memory(a)
            return of(a).copy.contiguous(self._view(flat)) if dense else self._view(flat)
        index = self._table()
        out = of(a).index.take(a, beside(a).from_host(index.clip(0)))
        of(a).index.masked_fill_into(out, beside(a).from_host(index < 0), np.zeros((), a.dtype))
        return out

    def put(self, a: Any) -> Any:
        """An array of the base's shape with the view's elements added in, zero elsewhere."""
        if self.nothing or not self.plain:
            out = beside(a).zeros(self.shape, a.dtype)
            if not self.nothing:
                index = self._table().reshape(-1)
                keep = np.flatnonzero(index >= 0)
                self._add(out.reshape(-1), beside(a).from_host(index[keep]),
                          of(a).index.index_select(a.reshape(-1), 0, beside(a).from_host(keep)))
            return out
        flat = beside(a).zeros((self.count,), a.dtype)
        if self.distinct:
            of(a).copy.copy_into(self._view(flat), a)
        else:
            places = self._view(beside(a).arange(0, 1, self.count, np.int64))
            self._add(flat, of(a).copy.contiguous(places).reshape(-1), a.reshape(-1))
        return self._base(flat)

    @staticmethod
    def _add(flat: Any, places: Any, values: Any) -> None:
        of(flat).index.index_add_into(flat, 0, places, values)

    def clear(self, a: Any) -> Any:
        """A copy of an array of the base's shape with the view's elements set to zero."""
        if self.nothing:
            return of(a).copy.contiguous(a)
        if self.plain:
            flat = self._memory(a)
            of(flat).memory.fill(self._view(flat), 0)
            return self._base(flat)
        out = of(a).copy.contiguous(a)
        index = np.unique(self._table())
        of(a).index.index_fill_into(out.reshape(-1), 0, beside(a).from_host(index[index >= 0]), np.zeros((), a.dtype))
        return out

    def _table(self) -> Any:
        """For each element of the view its position in the base's logical order; -1 where it lies outside."""
        where = _offsets(self.view_shape, self.view_strides) + self.start
        own = _offsets(self.shape, self.strides).reshape(-1)
        order = np.argsort(own, kind="stable")
        found = np.searchsorted(own[order], where.reshape(-1)).clip(0, max(own.size - 1, 0))
        hit = own[order][found] == where.reshape(-1)
        return np.where(hit, order[found], -1).reshape(where.shape)


def _offsets(shape: Steps, strides: Steps) -> Any:
    """For each element of an array how far it lies from the first."""
    out = np.zeros(shape, np.int64)
    for d, (n, s) in enumerate(zip(shape, strides, strict=True)):
        out += (np.arange(n) * s).reshape((-1,) + (1,) * (len(shape) - 1 - d))
    return out


class Region(Part):
    """The part that a view sees, found by the addresses of both."""

    def __init__(self, base: Any, view: Any) -> None:
        if base.itemsize != view.itemsize:
            raise NotImplementedError("in-place changes through a view of another dtype are not recorded; use "
                                      "detach() or work out of place")
        start = (address_of(view) - address_of(base)) // base.itemsize if view.size and base.size else 0
        super().__init__(base.shape, element_strides(base), view.shape, element_strides(view), start)


def region_of(t: Tensor) -> Region:
    """Where a view lies in its base."""
    assert t._base is not None
    materialize(t._base)
    return Region(t._base._a, t._a)


@derivative
def TakeRegionBackward0(node: Any, grad: Tensor) -> Tensor:
    return put_region(grad, node.ctx)


@derivative
def AsStridedBackward0(node: Any, grad: Tensor) -> Tensor:
    return put_region(grad, node.ctx)


@derivative
def PutRegionBackward0(node: Any, grad: Tensor) -> Tensor:
    return take_region(grad, node.ctx)


@derivative
def ClearRegionBackward0(node: Any, grad: Tensor) -> Tensor:
    return clear_region(grad, node.ctx)


@derivative
def CopySlices(node: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The base after an in-place change of a view: what was under the view gets no gradient, the new values do."""
    return clear_region(grad, node.ctx), take_region(grad, node.ctx)


def _region_op(name: str, kind: Any) -> Any:
    def op(grad: Tensor, region: Part) -> Tensor:
        out = wrap(getattr(region, name)(grad._a))
        if recording(grad):
            record(out, kind, (grad,), ctx=region)
        return out

    return op


take_region = _region_op("take", TakeRegionBackward0)
put_region = _region_op("put", PutRegionBackward0)
clear_region = _region_op("clear", ClearRegionBackward0)


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view with any shape, strides and offset (in elements) over the storage of ``input``.

    Raises RuntimeError when it would reach outside the storage."""
    shape, strides = shape_of((size,)), shape_of((stride,), "stride")
    if len(shape) != len(strides):
        raise RuntimeError("mismatch in length of strides and shape")
    if any(s < 0 for s in strides):
        raise RuntimeError("as_strided: Negative strides are not supported at the moment, got strides: "
                           f"{list(strides)}")
    if any(n < 0 for n in shape):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)} and strides={list(strides)}")
    materialize(input)
    a = input._a
    flat = storage_elements(a)
    offset = input.storage_offset() if storage_offset is None else storage_offset
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and last >= flat.size:
        raise RuntimeError(f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {offset}, and "
                           f"itemsize {a.itemsize} requiring a storage size of {(last + 1) * a.itemsize} are out of "
                           f"bounds for storage of size {flat.nbytes}")
    v = as_strided_array(flat, shape, strides, offset)
    return make_view(input, v, AsStridedBackward0, Region(a, v))
