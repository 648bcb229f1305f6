"""Unique values, counting, and searching in sorted values. No derivatives.

https://docs.pytorch.org/docs/stable/generated/torch.unique.html,
https://docs.pytorch.org/docs/stable/generated/torch.searchsorted.html
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import is_host, of
from tritium.tensor.device import device_of
from tritium.tensor.from_data import moved
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.layout import wrap_dim
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.promotion import NUMBERS, cast_operands, result_type
from tritium.tensor.tensor import Tensor

METHODS = ["unique", "unique_consecutive", "histc", "bincount"]
FUNCTIONS = ["searchsorted", "bucketize", "isin"]


def _no_derivative(name: str) -> Any:
    raise NotImplementedError(f"the derivative for '{name}' is not implemented.")


@derivative
def Unique2Backward0(node: Any, grad: Tensor) -> Any:
    return _no_derivative("_unique2")


@derivative
def UniqueDimBackward0(node: Any, grad: Tensor) -> Any:
    return _no_derivative("unique_dim")


@derivative
def UniqueConsecutiveBackward0(node: Any, grad: Tensor) -> Any:
    return _no_derivative("unique_consecutive")


def _found(input: Tensor, kind: type[Node], parts: Any, inverse: bool, counts: bool) -> Any:
    r = wrap(parts[0])
    if recording(input):
        record(r, kind, (input,))
    result = (r, *([wrap(parts[1])] if inverse else []), *([wrap(parts[2])] if counts else []))
    return result[0] if len(result) == 1 else result


def _unique(input: Tensor, dim: int | None, consecutive: bool, inverse: bool, counts: bool) -> Any:
    a = input._a
    if a.dtype.kind == "c":
        raise not_implemented("unique", a.dtype)
    k = of(a).sort
    if dim is None:
        kind = UniqueConsecutiveBackward0 if consecutive else Unique2Backward0
        return _found(input, kind, (k.unique_consecutive if consecutive else k.unique)(a), inverse, counts)
    d = wrap_dim(dim, a.ndim)
    if 0 in a.shape[:d] + a.shape[d + 1:]:
        raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
    if a.ndim == 0:
        a = a.reshape(1)
    kind = UniqueConsecutiveBackward0 if consecutive else UniqueDimBackward0
    return _found(input, kind, k.unique_slices(a, d, consecutive), inverse, counts)


def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """The different elements, or slices along ``dim``, sorted; with ``return_inverse`` also which one each element is,
    with ``return_counts`` also how often each occurs. Each nan is different.

    Raises RuntimeError when another dimension than ``dim`` has size 0."""
    return _unique(input, dim, False, return_inverse, return_counts)


def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False,
                       dim: int | None = None) -> Any:
    """``unique`` of neighbours: one element, or slice, of each run of equal ones, in their order."""
    return _unique(input, dim, True, return_inverse, return_counts)


def searchsorted(sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """The index at which each value of ``input`` would be put into a sorted sequence: before equal elements, or after
    (``right=True`` or ``side="right"``). The sequence is sorted along its last dimension, or ``sorter`` sorts it.

    Raises RuntimeError for shapes that do not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.searchsorted.html"""
    what = "torch.searchsorted(): "
    if side is not None and side not in ("left", "right"):
        raise RuntimeError(f"{what}side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(f"{what}side and right can't be set to opposites, got side of left while right was True")
    check_tensor("searchsorted", "sorted_sequence", 1, sorted_sequence)
    bounds = sorted_sequence._a
    if not isinstance(input, (Tensor, *NUMBERS)):
        raise TypeError("searchsorted(): argument 'input' (position 2) must be Tensor or Number, not "
                        f"{type(input).__name__}")
    values = input._a if isinstance(input, Tensor) else np.zeros(())
    if values.ndim == 0 and bounds.ndim != 1:
        raise RuntimeError(f"{what}input value can be a scalar only when boundaries tensor dimension is 1, but we got "
                           f"boundaries tensor dim({bounds.ndim}) and input value's dim(0) numel(1)")
    if bounds.ndim == 0:
        raise RuntimeError(f"{what}boundaries tensor should have positive dimension, but got 0 dimension")
    if bounds.ndim != 1 and bounds.shape[:-1] != values.shape[:-1]:
        raise RuntimeError(f"{what}boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries "
                           f"tensor and input value tensor must match, but we got boundaries tensor "
                           f"{list(bounds.shape)} and input value tensor {list(values.shape)}")
    order = None if sorter is None else _check_sorter(what, bounds, sorter)
    dt = result_type(sorted_sequence, input)
    if dt.category in (0, 3):
        raise not_implemented("searchsorted_out_cpu", dt.np)
    b, v = cast_operands(dt, sorted_sequence, input)
    found = of(bounds).sort.searchsorted(b, v, right or side == "right", order)
    r = wrap(found.astype(np.int32) if out_int32 else found)
    return r if out is None else write_out("searchsorted", out, r)


def _check_sorter(what: str, bounds: Any, sorter: Tensor) -> Any:
    order = sorter._a
    if order.shape != bounds.shape:
        raise RuntimeError(f"{what}boundary and sorter must have the same size, but got boundary tensor "
                           f"{list(bounds.shape)}and got sorter tensor {list(order.shape)}")
    if order.dtype != np.int64:
        raise RuntimeError(f"{what}sorter must be a tensor of long dtype but got dtype {sorter.dtype.title}")
    if of(order).index.first_outside(order, 0, max(bounds.shape[-1], 1)) is not None:
        raise RuntimeError(f"{what}sorter index out of range")
    return order


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False,
              out: Tensor | None = None) -> Tensor:
    """The bucket of each value: ``searchsorted(boundaries, input)``.

    Raises RuntimeError when the boundaries are no vector."""
    check_tensor("bucketize", "boundaries", 2, boundaries)
    if boundaries._a.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries._a.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right, out=out)


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0, *, out: Tensor | None = None) -> Tensor:
    """How many elements fall into each of ``bins`` equal parts of [min, max] (their range, if both are equal).

    Raises RuntimeError for a bad range, NotImplementedError for integers."""
    a = input._a
    if a.dtype.kind not in "fV":
        raise not_implemented("histogram_cpu", a.dtype)
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    low, high = float(min), float(max)
    if low == high and a.size:
        k, every = of(a).reduce, tuple(range(a.ndim))
        low, high = float(k.amin(a, every, False)), float(k.amax(a, every, False))
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"torch.histc: range of [{low:g}, {high:g}] is not finite")
    if low > high:
        raise RuntimeError("torch.histc: max must be larger than min")
    r = wrap(of(a).sort.histc(a, bins, low, high))
    return r if out is None else write_out("histc", out, r)


NotImplementedBackward = node_kind("NotImplemented", lambda node, grad: _no_derivative("bincount"))


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number from 0 on occurs in a vector of integers (int64), or the sum of its weights.

    Raises RuntimeError for negative numbers, other shapes, or weights of another length."""
    a = input._a
    if a.dtype.kind not in "iu":
        raise not_implemented("bincount_cpu", a.dtype)
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if a.ndim != 1 or (a.size and float(of(a).reduce.amin(a, (0,), False)) < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights._a.shape != a.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    r = wrap(of(a).sort.bincount(a, None if weights is None else weights._a, int(minlength)))
    if weights is not None and recording(weights):
        record(r, NotImplementedBackward, (weights,))
    return r


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False,
         out: Tensor | None = None) -> Tensor:
    """Whether each element is among ``test_elements`` (one of the two may be a number).

    Raises RuntimeError for bool tensors."""
    if not (isinstance(elements, Tensor) or isinstance(test_elements, Tensor)) or not all(
            isinstance(x, (Tensor, *NUMBERS)) for x in (elements, test_elements)):
        raise TypeError("isin() received an invalid combination of arguments - got "
                        f"({type(elements).__name__}, {type(test_elements).__name__})")
    dt = result_type(elements, test_elements)
    if dt.category == 0:
        raise RuntimeError("Unsupported input type encountered for isin(): Bool")
    a, tests = cast_operands(dt, elements, test_elements)
    if is_host(a) != is_host(tests):  # a number, or a 0-d tensor on the CPU, beside a tensor on cuda
        place = device_of(tests if is_host(a) else a)
        a, tests = moved(a, place), moved(tests, place)
    found = of(a).sort.isin(a, tests)
    r = wrap(of(found).pointwise.unaries["logical_not"](found) if invert else found)
    return r if out is None else write_out("isin", out, r)
