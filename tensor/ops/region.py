"""Regions: which elements of a tensor a view of it sees, ``as_strided``, and in-place changes through views.

https://docs.pytorch.org/docs/stable/generated/torch.as_strided.html
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import beside, is_host, of
from tritium.tensor.graph import derivative, make_view, materialize, record, recording, wrap
from tritium.tensor.layout import as_strided_array, contiguous_strides, element_strides, shape_of
from tritium.tensor.storage import address_of, storage_elements
from tritium.tensor.tensor import Tensor

# --- regions: where a view lies in its base ------------------------------------------------------

class Part:
    """Which elements of an array of a shape a view sees. Used where a view's derivative is a window, not a formula.

    ``look``: the view, as a function of an array."""

    def __init__(self, shape: tuple[int, ...], look: Any) -> None:
        self.shape, self.look = shape, look
        self._index: Any = None

    @property
    def index(self) -> Any:
        """For each element of the view its position in the base's logical order; -1 where it lies outside."""
        if self._index is None:
            self._index = self._find()
        return self._index

    def _find(self) -> Any:
        return self.look(np.arange(math.prod(self.shape)).reshape(self.shape))

    def window(self, a: Any) -> Any:
        """The view of a contiguous array of the base's shape, where strides alone describe it; else None."""
        return None

    distinct = False  # no element of the base is seen twice

    def take(self, a: Any) -> Any:
        """The view's elements of an array of the base's shape."""
        k = of(a)
        seen = self.window(a if a.flags.c_contiguous else k.copy.contiguous(a))
        if seen is not None:
            return k.copy.contiguous(seen)
        if not is_host(a):
            return _take(k, a, self.index)
        flat, index = a.reshape(-1), self.index
        if flat.size == 0:
            return np.zeros(index.shape, a.dtype)
        out = np.asarray(flat[index])
        if (index < 0).any():
            out[index < 0] = 0
        return out

    def put(self, a: Any) -> Any:
        """An array of the base's shape with the view's elements added in, zero elsewhere."""
        out = beside(a).zeros(self.shape, a.dtype)
        seen = self.window(out) if self.distinct else None
        if seen is not None:
            of(a).copy.copy_into(seen, a)
            return out
        if not is_host(a):
            _add(of(a), out, self.index, a)
            return out
        index = self.index.reshape(-1)
        keep = index >= 0
        np.add.at(out.reshape(-1), index[keep], a.reshape(-1)[keep])
        return out

    def clear(self, a: Any) -> Any:
        """A copy of an array of the base's shape with the view's elements set to zero."""
        out = of(a).copy.contiguous(a)
        seen = self.window(out)
        if seen is not None:
            seen.fill(0)
            return out
        if not is_host(a):
            index = np.unique(self.index)
            where = beside(a).from_host(index[index >= 0])
            of(a).index.index_fill_into(out.reshape(-1), 0, where, np.zeros((), a.dtype))
            return out
        index = self.index.reshape(-1)
        out.reshape(-1)[index[index >= 0]] = 0
        return out


def _take(k: Any, a: Any, index: Any) -> Any:
    """The elements of a device's array at positions in its logical order; 0 where a position is negative."""
    if a.size == 0:
        return beside(a).zeros(index.shape, a.dtype)
    out = k.index.take(a, beside(a).from_host(index.clip(0)))
    if (index < 0).any():
        k.index.masked_fill_into(out, beside(a).from_host(index < 0), np.zeros((), a.dtype))
    return out


def _add(k: Any, out: Any, index: Any, a: Any) -> None:
    """``a`` added to a device's array at positions in its logical order, but for negative ones."""
    index = index.reshape(-1)
    keep = np.flatnonzero(index >= 0)
    source = k.index.index_select(a.reshape(-1), 0, beside(a).from_host(keep))
    k.index.index_add_into(out.reshape(-1), 0, beside(a).from_host(index[keep]), source)


class Region(Part):
    """A part that is known by where the view lies in the base's memory."""

    def __init__(self, base: Any, view: Any) -> None:
        if base.itemsize != view.itemsize:
            raise NotImplementedError("in-place changes through a view of another dtype are not recorded; use "
                                      "detach() or work out of place")
        self.shape, self.view_shape = base.shape, view.shape
        self.strides, self.view_strides = element_strides(base), element_strides(view)
        self.start = (address_of(view) - address_of(base)) // base.itemsize if view.size and base.size else 0
        self._index = None
        self.plain = base.size > 0 and view.size > 0 and self.strides == contiguous_strides(self.shape) and (
            self.start >= 0 and self.start + sum(
                (n - 1) * s for n, s in zip(self.view_shape, self.view_strides, strict=True)) < math.prod(self.shape))
        reach = 0  # how far the faster dimensions go: each dimension has to step over it
        self.distinct = True
        for s, n in sorted((s, n) for n, s in zip(self.view_shape, self.view_strides, strict=True) if n > 1):
            if s <= reach:
                self.distinct = False
            reach += (n - 1) * s

    def window(self, a: Any) -> Any:
        if not self.plain:
            return None
        return as_strided_array(a.reshape(-1), self.view_shape, self.view_strides, self.start)

    def _find(self) -> Any:
        where = self._offsets(self.view_shape, self.view_strides) + self.start
        if self.strides == contiguous_strides(self.shape) and self.start >= 0:
            return np.where(where < math.prod(self.shape), where, -1)
        own = self._offsets(self.shape, self.strides).reshape(-1)
        order = np.argsort(own, kind="stable")
        found = np.searchsorted(own[order], where.reshape(-1)).clip(0, max(own.size - 1, 0))
        hit = own[order][found] == where.reshape(-1)
        return np.where(hit, order[found], -1).reshape(where.shape)

    @staticmethod
    def _offsets(shape: Any, strides: Any) -> Any:
        out = np.zeros(shape, np.int64)
        for d, (n, s) in enumerate(zip(shape, strides, strict=True)):
            out += (np.arange(n) * s).reshape((-1,) + (1,) * (len(shape) - 1 - d))
        return out


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
