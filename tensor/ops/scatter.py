"""Reading and writing elements by number along a dimension: gather, scatter and scatter with a reduction.

https://docs.pytorch.org/docs/stable/generated/torch.gather.html,
https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_.html
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels import beside, is_host, of
from tritium.tensor.autocast import amp
from tritium.tensor.grad_mode import is_grad_enabled, mode
from tritium.tensor.graph import bump, check_inplace, derivative, finish_inplace, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes, wrap_dim
from tritium.tensor.ops.arguments import check_tensor, fill_value, not_implemented
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.view import expand, scatter_basic
from tritium.tensor.storage import may_share_memory
from tritium.tensor.tensor import Tensor

METHODS = ["gather", "scatter", "scatter_add", "scatter_reduce", "take_along_dim"]
INPLACE = ["scatter_", "scatter_add_", "scatter_reduce_"]
FUNCTIONS = list(METHODS)


def first_outside(index: Any, low: int, high: int) -> int | None:
    """The first number of an index array that is not in [low, high), or None. On cuda it waits for the device, and a
    derivative does not ask again what the operation itself has asked."""
    if mode.checked and not is_host(index):
        return None
    return of(index).index.first_outside(index, low, high)


def checked(function: Any) -> Any:
    """A derivative whose index tensors the operation itself has checked: it does not wait to check them again."""

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        before, mode.checked = mode.checked, True
        try:
            return function(*args)
        finally:
            mode.checked = before

    return run


def changed(input: Tensor, here: bool, write: Callable[[Any], None], kind: Any = None,
            inputs: tuple[Tensor, ...] = (), saved: tuple[Any, ...] = (), ctx: Any = None) -> Tensor:
    """``input`` with something written into it: into a copy, or in place (``here``)."""
    recorded = recording(*inputs)
    if here:
        check_inplace(input)
        shared = [t._a for t in inputs[1:] if may_share_memory(input._a, t._a)]
        if input._a.flags.c_contiguous and any(s.flags.c_contiguous for s in shared):
            raise RuntimeError("unsupported operation: some elements of the input tensor and the written-to tensor "
                               "refer to a single memory location. Please clone() the tensor before performing the "
                               "operation.")
        if not recorded and not shared:
            write(input._a)
            bump(input)
            return input
    out = wrap(of(input._a).copy.clone(input._a))
    write(out._a)
    if input._free:
        out._free = True
    if recorded:
        record(out, kind, inputs, saved, ctx)
    return finish_inplace(input, out) if here else out


def done(name: str, r: Tensor, out: Tensor | None, *operands: Any) -> Tensor:
    """The result, or ``out`` with the result in it."""
    return r if out is None else write_out(name, out, r, *operands)


def fit(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A gradient of the first part of a tensor as one of the whole tensor: 0 for the rest."""
    if grad._a.shape == shape:
        return grad
    return scatter_basic(grad, shape, tuple([slice(n) for n in grad._a.shape]) + (...,))


# --- gather, scatter ----------------------------------------------------------------------------

def _check_index(name: str, input: Tensor, dim: int, index: Any, src: Any = None) -> int:
    """The dimension, counted from the front; PyTorch's errors for an index that does not fit."""
    gather_ = name == "gather"
    check_tensor(name, "index", 3, index)
    a, i = input._a, index._a
    d = wrap_dim(dim, a.ndim)
    if i.dtype not in (np.int64, np.int32):
        raise RuntimeError(f"{'gather' if gather_ else 'scatter'}(): Expected dtype int32/int64 for index")
    if i.size == 0:
        return d
    if src is not None and src.dtype != a.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    if (i.ndim or 1) != (a.ndim or 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as "
                           f"{'input' if gather_ else 'self'} tensor")
    if src is not None and (src.ndim or 1) != (i.ndim or 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    shape = a.shape or (1,)
    for k, n in enumerate(i.shape):
        big = k != d and n > shape[k]
        if gather_ and big:
            raise RuntimeError(f"Size does not match at dimension {k} expected index {list(i.shape)} to be no larger "
                               f"than self {list(a.shape)} apart from dimension {d}")
        if not gather_ and (big or (src is not None and n > (src.shape or (1,))[k])):
            raise RuntimeError(f"Expected index {list(i.shape)} to be no larger than self {list(a.shape)} apart from "
                               f"dimension {d}" + ("" if src is None else
                                                   f" and to be no larger size than src {list(src.shape)}"))
    bad = first_outside(i, 0, shape[d])
    if bad is not None:
        raise RuntimeError(f"index {bad} is out of bounds for dimension {d} with size {shape[d]}")
    return d


@derivative
@checked
def GatherBackward0(node: Any, grad: Tensor) -> Tensor:
    (index,) = node.unpack()
    d, shape = node.ctx
    return scatter_add(grad.new_zeros(shape), d, index, grad)


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False, out: Tensor | None = None) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim`` 0, and so on. The result has the index's shape.

    Raises RuntimeError for an index that is no int32/int64, of another number of dimensions, or out of bounds.
    https://docs.pytorch.org/docs/stable/generated/torch.gather.html"""
    d = _check_index("gather", input, dim, index)
    r = wrap(of(input._a).index.gather(input._a, d, index._a))
    if recording(input):
        record(r, GatherBackward0, (input,), saved=(index,), ctx=(d, input._a.shape))
    return done("gather", r, out, input)


@checked
def value_selecting_backward(grad: Tensor, dim: int, index: Tensor, shape: tuple[int, ...], keepdim: bool) -> Tensor:
    """The derivative of choosing one element along ``dim``: the gradient at that element, 0 elsewhere."""
    if not keepdim and shape:
        grad, index = grad.unsqueeze(dim), index.unsqueeze(dim)
    return scatter_add(grad.new_zeros(shape), dim, index, grad)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None, *, out: Tensor | None = None) -> Tensor:
    """``gather`` with broadcasting; without ``dim`` from the flattened input.

    Raises RuntimeError when the numbers of dimensions differ."""
    check_tensor("take_along_dim", "indices", 2, indices)
    if dim is None:
        return gather(input.reshape(-1), 0, indices.reshape(-1), out=out)
    n, m = input._a.ndim, indices._a.ndim
    if n != m:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but "
                           f"got {n} dimensions for input, and {m} dimensions for indices")
    d = wrap_dim(dim, n)
    i = indices._a
    if i.dtype not in (np.int64, np.int32):
        raise RuntimeError("gather(): Expected dtype int32/int64 for index")
    size = input._a.shape[d] if n else 1
    rest = broadcast_shapes(input._a.shape[:d] + (1,) + input._a.shape[d + 1:], i.shape[:d] + (1,) + i.shape[d + 1:])
    x = expand(input, rest[:d] + (size,) + rest[d + 1:]) if n else input
    wrapped = indices.remainder(max(size, 1))
    index = expand(wrapped, rest[:d] + i.shape[d:d + 1] + rest[d + 1:]) if n else wrapped
    return gather(x, d, index, out=out)


@derivative
@checked
def ScatterBackward0(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    d, shape = node.ctx
    self_grad, src_grad = node.needs
    return (scatter(grad, d, index, 0) if self_grad else None,
            fit(gather(grad, d, index), shape) if src_grad else None)


@derivative
@checked
def ScatterBackward1(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    return scatter(grad, node.ctx, index, 0)


def _scatter(input: Tensor, dim: int, index: Tensor, src: Any, value: Any, reduce: str | None, here: bool) -> Tensor:
    if src is None and value is None:
        raise TypeError("scatter() missing 1 required positional arguments: \"src\" or \"value\"")
    if src is None:
        src = value
    tensor = isinstance(src, Tensor)
    if reduce is not None and reduce not in ("add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    d = _check_index("scatter", input, dim, index, src._a if tensor else None)
    s = src._a if tensor else fill_value(src, input._a.dtype)
    k, i = of(input._a).index, index._a
    if reduce is not None:
        how = "sum" if reduce == "add" else "prod"
        if recording(input) or tensor and recording(src):
            whole = src if tensor else wrap(beside(i).full(i.shape, s, s.dtype))
            return _scatter_reduce(input, d, index, whole, how, True, here)
        return changed(input, here, lambda out: k.scatter_reduce_into(out, d, i, s, how),
                       inputs=(input, src) if tensor else (input,))
    if tensor:
        return changed(input, here, lambda out: k.scatter_into(out, d, i, s), ScatterBackward0, (input, src),
                       (index,), (d, s.shape))
    return changed(input, here, lambda out: k.scatter_into(out, d, i, s), ScatterBackward1, (input,),
                   (index,), d)


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None,
            out: Tensor | None = None) -> Tensor:
    """``out[index[i][j]][j] = src[i][j]`` for ``dim`` 0, and so on; ``src`` is a tensor of the same dtype or a number.

    ``reduce``: "add" or "multiply" instead of writing over. Where several values meet, the last one stays.
    Raises RuntimeError for an index or a source that does not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_.html"""
    return done("scatter", _scatter(input, dim, index, src, value, reduce, False), out, input, src)


def scatter_(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None,
             reduce: str | None = None) -> Tensor:
    """``scatter`` in place."""
    return _scatter(input, dim, index, src, value, reduce, True)


@derivative
@checked
def ScatterAddBackward0(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    d, shape = node.ctx
    return grad, fit(gather(grad, d, index), shape) if node.needs[1] else None


def _scatter_add(input: Tensor, dim: int, index: Tensor, src: Any, here: bool) -> Tensor:
    check_tensor("scatter_add", "src", 4, src)
    d = _check_index("scatter_add", input, dim, index, src._a)
    k = of(input._a).index
    return changed(input, here, lambda out: k.scatter_reduce_into(out, d, index._a, src._a, "sum"),
                   ScatterAddBackward0, (input, src), (index,), (d, src._a.shape))


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``out[index[i][j]][j] += src[i][j]`` for ``dim`` 0, and so on. The same inputs give the same bits.

    Raises RuntimeError for an index or a source that does not fit."""
    if amp.on and (r := amp.run("scatter_add", scatter_add, input, dim, index, src, out=out)) is not None:
        return r
    return done("scatter_add", _scatter_add(input, dim, index, src, False), out, input, src)


def scatter_add_(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``scatter_add`` in place."""
    return _scatter_add(input, dim, index, src, True)


@derivative
@checked
def ScatterReduceBackward0(node: Any, grad: Tensor) -> Any:
    index, x, src = node.unpack()
    d, reduce, include_self, shape = node.ctx
    if reduce == "sum":
        g_self, g_src = grad, gather(grad, d, index)
    elif reduce == "mean":
        count = (grad.new_ones if include_self else grad.new_zeros)(grad._a.shape)
        g_self = grad / scatter_add(count, d, index, grad.new_ones(index._a.shape)).clamp(min=1)
        g_src = gather(g_self, d, index)
    else:
        used = src if shape == index._a.shape else src[tuple([slice(n) for n in index._a.shape])]
        backward = _prod_backward if reduce == "prod" else _extreme_backward
        g_self, g_src = backward(grad, x, used, d, index, reduce, include_self)
    return g_self if include_self else scatter(g_self, d, index, 0), fit(g_src, shape)


def _extreme_backward(grad: Tensor, x: Tensor, src: Tensor, d: int, index: Tensor, reduce: str,
                      include_self: bool) -> tuple[Tensor, Tensor]:
    """Equal extremes share the gradient."""
    r = scatter_reduce(x.detach(), d, index, src.detach(), reduce, include_self=include_self)
    at_self = (x == r).to(grad.dtype)
    at_src = (src == gather(r, d, index)).to(grad.dtype)
    if not include_self:
        at_self = scatter(at_self, d, index, 0)
    share = grad / scatter_add(at_self, d, index, at_src)
    return at_self * share, at_src * gather(share, d, index)


def _prod_backward(grad: Tensor, x: Tensor, src: Tensor, d: int, index: Tensor, reduce: str,
                   include_self: bool) -> tuple[Tensor, Tensor]:
    """Each factor's gradient is the product of all other factors, also where one or more of them are 0."""
    zero_x = x == 0
    if not include_self:
        zero_x = scatter(zero_x, d, index, False)
    zero_src = src == 0
    zeros = scatter_add(zero_x.to(grad.dtype), d, index, zero_src.to(grad.dtype))  # how many factors are 0
    if is_grad_enabled() and bool(zeros.any()):
        raise NotImplementedError("scatter_reduce(): the second derivative of \"prod\" is not implemented where a "
                                  "factor is 0")
    factor_x, factor_src = x.masked_fill(x == 0, 1.0), src.masked_fill(zero_src, 1.0)
    rest = scatter_reduce(factor_x, d, index, factor_src, "prod", include_self=include_self)  # of those that are not
    some_x = zeros - zero_x.to(grad.dtype) != 0
    some_src = gather(zeros, d, index) - zero_src.to(grad.dtype) != 0
    return (grad * (rest / factor_x).masked_fill(some_x, 0.0),
            gather(grad, d, index) * (gather(rest, d, index) / factor_src).masked_fill(some_src, 0.0))


REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


def _scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Any, reduce: str, include_self: bool,
                    here: bool) -> Tensor:
    check_tensor("scatter_reduce", "src", 4, src)
    if reduce not in REDUCTIONS:
        raise RuntimeError("reduce argument must be either sum, prod, mean, amax or amin, got " + str(reduce))
    d = _check_index("scatter_reduce", input, dim, index, src._a)
    if reduce == "mean" and input._a.dtype.kind == "b":
        raise not_implemented("scatter_gather_tensor_cpu_reduce_mean", input._a.dtype)
    k = of(input._a).index
    saved: tuple[Any, ...] = (index, None, None)
    if reduce in ("prod", "amax", "amin") and recording(input, src):
        saved = (index, input.clone() if here else input, src)
    return changed(input, here, lambda out: k.scatter_reduce_into(out, d, index._a, src._a, reduce, include_self),
                   ScatterReduceBackward0, (input, src), saved, (d, reduce, include_self, src._a.shape))


def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True,
                   out: Tensor | None = None) -> Tensor:
    """``scatter`` with a reduction of the values that meet: "sum", "prod", "mean", "amax", "amin".

    ``include_self``: the values of ``input`` take part. Equal extremes share the gradient.
    Raises RuntimeError for an index or a source that does not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_reduce_.html"""
    r = _scatter_reduce(input, dim, index, src, reduce, include_self, False)
    return done("scatter_reduce", r, out, input, src)


def scatter_reduce_(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *,
                    include_self: bool = True) -> Tensor:
    """``scatter_reduce`` in place."""
    return _scatter_reduce(input, dim, index, src, reduce, include_self, True)
