"""Extremes: max, min, amax, amin, aminmax, argmax and argmin, over all dimensions or some.

https://docs.pytorch.org/docs/stable/torch.html#reduction-ops
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import beside, of
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import wrap_dim
from tritium.tensor.ops.arguments import not_implemented
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.reduce import dims_of, done, restore
from tritium.tensor.return_types import return_type
from tritium.tensor.tensor import Tensor

METHODS = ["amax", "amin", "aminmax", "max", "min", "argmax", "argmin"]
FUNCTIONS = list(METHODS)

_max = return_type("max", ("values", "indices"))
_min = return_type("min", ("values", "indices"))
_aminmax = return_type("aminmax", ("min", "max"))


def _spread_evenly(grad: Tensor, x: Tensor, r: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The gradient of an extreme over several dimensions: shared equally among the elements that reach it."""
    shape = x._a.shape
    mask = x == restore(r, dims, keepdim, shape)
    return restore(grad, dims, keepdim, shape) * mask / mask.sum(dims, True)


@derivative
def AmaxBackward0(node: Any, grad: Tensor) -> Tensor:
    return _spread_evenly(grad, *node.unpack(), *node.ctx)


@derivative
def AminBackward0(node: Any, grad: Tensor) -> Tensor:
    return _spread_evenly(grad, *node.unpack(), *node.ctx)


@derivative
def MaxBackward1(node: Any, grad: Tensor) -> Tensor:
    x, r = node.unpack()
    if r.item() != r.item():  # to the nan that won
        mask = x.isnan()
        return grad * mask / mask.sum()
    return _spread_evenly(grad, x, r, *node.ctx)


@derivative
def MinBackward1(node: Any, grad: Tensor) -> Tensor:
    x, r = node.unpack()
    if r.item() != r.item():  # to the nan that won
        mask = x.isnan()
        return grad * mask / mask.sum()
    return _spread_evenly(grad, x, r, *node.ctx)


def _extreme(name: str, input: Tensor, dim: Any, keepdim: bool, kind: Any, out: Any = None) -> Tensor:
    a = input._a
    if a.dtype.kind == "c":
        raise not_implemented(("max_all" if "max" in name else "min_all") if len(name) == 3 else
                              "max_values_cpu" if "max" in name else "min_values_cpu", a.dtype)
    dims = dims_of(dim, a.ndim)
    for d in dims:
        if a.shape[d] == 0:
            raise (IndexError if dim is not None and dim != () else RuntimeError)(
                f"{name}(): Expected reduction dim {d} to have non-zero size." if dim is not None and dim != () else
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                "with the 'dim' argument.")
    r = wrap(getattr(of(a).reduce, "amax" if "max" in name else "amin")(a, dims, keepdim))
    if recording(input):
        record(r, kind, (input,), saved=(input, r), ctx=(dims, keepdim))
    return done(name, r, out, input)


def amax(input: Tensor, dim: Any = (), keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The largest element over ``dim``; equal ones share the gradient."""
    return _extreme("amax", input, dim, keepdim, AmaxBackward0, out)


def amin(input: Tensor, dim: Any = (), keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The smallest element over ``dim``; equal ones share the gradient."""
    return _extreme("amin", input, dim, keepdim, AminBackward0, out)


@derivative
def AminmaxBackward0(node: Any, low: Tensor | None, high: Tensor | None) -> Tensor | None:
    x, least, most = node.unpack()
    dims, keepdim = node.ctx
    g = None if low is None else _spread_evenly(low, x, least, dims, keepdim)
    if high is None:
        return g
    h = _spread_evenly(high, x, most, dims, keepdim)
    return h if g is None else g + h


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest element, over one dimension or all.

    Raises RuntimeError when there is no element, IndexError when the dimension is empty."""
    a = input._a
    if dim is None and not a.size:
        raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no "
                           "identity.")
    dims = dims_of(dim, a.ndim)
    if dims and dim is not None and not a.shape[dims[0]]:
        raise IndexError(f"aminmax: Expected reduction dim {dims[0]} to have non-zero size.")
    x = input.detach()
    low, high = amin(x, dims, keepdim), amax(x, dims, keepdim)
    if recording(input):
        record((low, high), AminmaxBackward0, (input,), saved=(input, low, high), ctx=(dims, keepdim))
    return _aminmax((low, high))


def _at_index_backward(node: Any, grad: Tensor | None, _: Any = None) -> Tensor | None:
    if grad is None:
        return None
    index, d, keepdim, shape = node.ctx
    from tritium.tensor.ops.index import value_selecting_backward

    return value_selecting_backward(grad, d, index, shape, keepdim)


@derivative
def MaxBackward0(node: Any, grad: Tensor, _: Any = None) -> Any:
    return _at_index_backward(node, grad)


@derivative
def MinBackward0(node: Any, grad: Tensor, _: Any = None) -> Any:
    return _at_index_backward(node, grad)


def _with_index(name: str, input: Tensor, dim: int, keepdim: bool, kind: Any, result: Any, out: Any) -> Any:
    a = input._a
    if a.dtype.kind == "c":
        raise RuntimeError(f"{name}(): does not support complex input")
    d = wrap_dim(dim, a.ndim)
    if a.ndim and a.shape[d] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
    k = of(a).reduce
    x = a if a.ndim else a.reshape(1)
    index = getattr(k, "arg" + name)(x, d, True)
    values = of(x).index.gather(x, d, index)
    if not (keepdim and a.ndim):
        index, values = index.squeeze(d), values.squeeze(d)
    v, i = wrap(values), wrap(index)
    if recording(input):
        record(v, kind, (input,), ctx=(i, d, keepdim, a.shape))
    if out is not None:
        return result((write_out(name, out[0], v, input), write_out(name, out[1], i)))
    return result((v, i))


def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, other: Any = None,
        out: Any = None) -> Any:
    """``max(x)``: the largest element. ``max(x, dim)``: (values, indices). ``max(x, other)``: elementwise maximum."""
    dim = other if other is not None else dim if axis is None else axis
    if isinstance(dim, Tensor):
        from tritium.tensor.ops.pointwise import maximum

        return maximum(input, dim, out=out)
    if dim is None:
        return _extreme("max", input, None, False, MaxBackward1, out)
    return _with_index("max", input, dim, keepdim, MaxBackward0, _max, out)


def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, other: Any = None,
        out: Any = None) -> Any:
    """``min(x)``: the smallest element. ``min(x, dim)``: (values, indices). ``min(x, other)``: elementwise minimum."""
    dim = other if other is not None else dim if axis is None else axis
    if isinstance(dim, Tensor):
        from tritium.tensor.ops.pointwise import minimum

        return minimum(input, dim, out=out)
    if dim is None:
        return _extreme("min", input, None, False, MinBackward1, out)
    return _with_index("min", input, dim, keepdim, MinBackward0, _min, out)


def _arg(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    a = input._a
    if a.dtype.kind in "bc":
        raise RuntimeError(f"{name}(): does not support {'bool' if a.dtype.kind == 'b' else 'complex'} input")
    if dim is None:
        if a.size == 0:
            raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
        r = getattr(of(a).reduce, name)(a.reshape(-1), 0, False)
        return wrap(r.reshape((1,) * a.ndim) if keepdim else r)
    d = wrap_dim(dim, a.ndim)
    if a.ndim == 0:
        return wrap(beside(a).zeros((), np.int64))
    if a.shape[d] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
    return wrap(getattr(of(a).reduce, name)(a, d, keepdim))


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: Any = None) -> Tensor:
    """The position of the largest element, in the flattened tensor or along ``dim``, as int64."""
    return _arg("argmax", input, dim if axis is None else axis, keepdim)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: Any = None) -> Tensor:
    """The position of the smallest element, in the flattened tensor or along ``dim``, as int64."""
    return _arg("argmin", input, dim if axis is None else axis, keepdim)
