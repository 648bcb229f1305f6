"""Reductions: sum, mean, var, norm and their like, over all dimensions or some. The extremes are in ``extremes.py``.

https://docs.pytorch.org/docs/stable/torch.html#reduction-ops
"""
from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from tritium.kernels import beside, of
from tritium.tensor import dtype as dtypes
from tritium.tensor.autocast import amp
from tritium.tensor.dtype import as_dtype, from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import shape_of, wrap_dims
from tritium.tensor.ops.out import write_out
from tritium.tensor.tensor import Tensor

METHODS = ["sum", "nansum", "mean", "nanmean", "prod", "var", "std", "all", "any", "count_nonzero", "norm",
           "sum_to_size", "dist", "logsumexp"]
FUNCTIONS = [n for n in METHODS if n != "sum_to_size"] + ["var_mean", "std_mean"]

i64 = np.dtype(np.int64)


def dims_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """The dimensions to reduce: all for None and for an empty list, as in ``sum``."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    return wrap_dims(dim, ndim)


def restore(x: Tensor, dims: tuple[int, ...], keepdim: bool, shape: tuple[int, ...]) -> Tensor:
    """A reduced tensor with its dimensions put back (size 1), ready to broadcast against the input."""
    if keepdim or len(dims) == len(shape):  # a 0-d tensor broadcasts as it is
        return x
    return x.reshape(tuple(1 if d in dims else n for d, n in enumerate(shape)))


def done(name: str, r: Tensor, out: Tensor | None, input: Tensor) -> Tensor:
    return r if out is None else write_out(name, out, r, input)


def _count(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    return math.prod(shape[d] for d in dims)


# --- sums -----------------------------------------------------------------------------------

def _sum_backward(node: Any, grad: Tensor) -> Tensor:
    shape, dims, keepdim = node.ctx
    return restore(grad, dims, keepdim, shape).expand(shape)


@derivative
def SumBackward0(node: Any, grad: Tensor) -> Tensor:
    return _sum_backward(node, grad)


@derivative
def SumBackward1(node: Any, grad: Tensor) -> Tensor:
    return _sum_backward(node, grad)


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, dtype: Any = None,
        out: Tensor | None = None, keepdims: bool = False) -> Tensor:
    """The sum over ``dim`` (one, several, or all). Integers and bools are summed as int64."""
    if amp.on and (r := amp.run("sum", sum, input, dim, keepdim, axis=axis, dtype=dtype, out=out,
                                keepdims=keepdims)) is not None:
        return r
    dim, keepdim = dim if axis is None else axis, keepdim or keepdims
    a = input._a
    dims = dims_of(dim, a.ndim)
    dt = as_dtype(dtype).np if dtype is not None else i64 if a.dtype.kind in "biu" else a.dtype
    r = wrap(of(a).reduce.sum(a, dims, keepdim, dt))
    if recording(input):
        record(r, SumBackward0 if dim is None else SumBackward1, (input,), ctx=(a.shape, dims, keepdim))
    return done("sum", r, out, input)


@derivative
def NansumBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return _sum_backward(node, grad) * x.isnan().logical_not()


def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum of what is not nan.

    Raises RuntimeError for complex tensors."""
    a = input._a
    if a.dtype.kind == "c":
        raise RuntimeError("nansum on CPU does not support complex inputs")
    dims = dims_of(dim, a.ndim)
    dt = as_dtype(dtype).np if dtype is not None else i64 if a.dtype.kind in "biu" else a.dtype
    r = wrap(of(a).reduce.nansum(a, dims, keepdim, dt))
    if recording(input):
        record(r, NansumBackward0, (input,), saved=(input,), ctx=(a.shape, dims, keepdim))
    return r


def _mean_backward(node: Any, grad: Tensor) -> Tensor:
    shape, dims, keepdim = node.ctx
    return restore(grad, dims, keepdim, shape).expand(shape) / builtins.max(_count(shape, dims), 1)


@derivative
def MeanBackward0(node: Any, grad: Tensor) -> Tensor:
    return _mean_backward(node, grad)


@derivative
def MeanBackward1(node: Any, grad: Tensor) -> Tensor:
    return _mean_backward(node, grad)


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, dtype: Any = None,
         out: Tensor | None = None, keepdims: bool = False) -> Tensor:
    """The mean over ``dim`` (one, several, or all).

    Raises RuntimeError for integers and bools, unless ``dtype`` is a floating point type."""
    dim, keepdim = dim if axis is None else axis, keepdim or keepdims
    a = input._a
    dt = a.dtype if dtype is None else as_dtype(dtype).np
    if dt.kind in "biu":
        # the words of PyTorch's releases up to 2.0, which its users know
        raise RuntimeError(f"mean(): {'input' if dtype is None else 'optional'} dtype should be either floating point "
                           f"or complex dtypes. Got {from_numpy_dtype(dt).title} instead.")
    if a.dtype != dt:
        input = input.to(from_numpy_dtype(dt))
        a = input._a
    dims = dims_of(dim, a.ndim)
    r = wrap(of(a).reduce.mean(a, dims, keepdim, dt))
    if recording(input):
        record(r, MeanBackward0 if dim is None else MeanBackward1, (input,), ctx=(a.shape, dims, keepdim))
    return done("mean", r, out, input)


def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of what is not nan."""
    if input._a.dtype.kind in "biu":
        raise RuntimeError("nanmean(): expected input to have floating point or complex dtype but got "
                           f"{input.dtype.title}")
    count = input.isnan().logical_not().sum(dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / count


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed over broadcast dimensions until the shape is ``size``.

    Raises RuntimeError when ``size`` does not broadcast to the tensor's shape."""
    shape = shape_of(size)
    have = input._a.shape
    if shape == have:
        return input
    extra = len(have) - len(shape)
    if extra < 0 or builtins.any(n != 1 and n != m for n, m in zip(shape, have[extra:], strict=True)):
        raise RuntimeError(f"size {{{list(shape)}}} is not expandable to size {{{list(have)}}}.")
    dims = tuple(d for d in range(len(have)) if d < extra or (shape[d - extra] == 1 and have[d] != 1))
    r = sum(input, dims, keepdim=True) if dims else input
    return r.reshape(shape) if extra else r


# --- products -------------------------------------------------------------------------------

def _prod_backward(grad: Tensor, x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """g times the product of all other elements, also where elements are zero."""
    shape = x._a.shape
    g = restore(grad, dims, keepdim, shape)
    if int(x.count_nonzero()) == x.numel():
        return g * prod_over(x, dims) / x
    moved = x.movedim(dims, tuple(range(-len(dims), 0))) if dims else x
    flat = moved.reshape((*moved._a.shape[:moved.ndim - len(dims)], -1)) if dims else x.reshape((*shape, 1))
    n = flat._a.shape[-1]
    ones = flat.new_ones((*flat._a.shape[:-1], 1))
    from tritium.tensor.ops.join import cat
    from tritium.tensor.ops.scan import cumprod

    left = cumprod(cat([ones, flat[..., :n - 1]], -1), -1) if n else flat
    right = cumprod(cat([ones, flat.flip(-1)[..., :n - 1]], -1), -1).flip(-1) if n else flat
    others = (left * right).reshape(moved._a.shape)
    if dims:
        others = others.movedim(tuple(range(-len(dims), 0)), dims)
    return g * others


def prod_over(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    for d in dims:
        x = prod(x, d, keepdim=True)
    return x


@derivative
def ProdBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    if not mode.enabled and x.numel() - int(x.count_nonzero()) > 1:
        return wrap(beside(x._a).zeros(x._a.shape, x._a.dtype))
    return _prod_backward(grad, x, *node.ctx)


@derivative
def ProdBackward1(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return _prod_backward(grad, x, *node.ctx)


def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None,
         out: Tensor | None = None) -> Tensor:
    """The product of all elements, or over one dimension. Integers and bools are multiplied as int64."""
    if amp.on and (r := amp.run("prod", prod, input, dim, keepdim, dtype=dtype, out=out)) is not None:
        return r
    if dim is not None and not hasattr(dim, "__index__"):
        raise TypeError(f"prod(): argument 'dim' must be int, not {type(dim).__name__}")
    a = input._a
    dims = dims_of(dim, a.ndim)
    dt = as_dtype(dtype).np if dtype is not None else i64 if a.dtype.kind in "biu" else a.dtype
    r = wrap(of(a).reduce.prod(a, dims, keepdim, dt))
    if recording(input):
        record(r, ProdBackward0 if dim is None else ProdBackward1, (input,), saved=(input,), ctx=(dims, keepdim))
    return done("prod", r, out, input)


# --- spread ---------------------------------------------------------------------------------

def _correction(unbiased: Any, correction: Any) -> float:
    if correction is not None:
        return correction
    return 1 if unbiased is None or unbiased else 0


def _var_grad(grad: Tensor, x: Tensor, dims: tuple[int, ...], keepdim: bool, correction: float) -> Tensor:
    shape = x._a.shape
    g = restore(grad, dims, keepdim, shape)
    left = _count(shape, dims) - correction
    scale = 2.0 / left if left > 0 else math.nan if left == 0 else math.inf
    return g * (x - mean(x, dims, True)) * scale


@derivative
def VarBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return _var_grad(grad, x, *node.ctx)


@derivative
def StdBackward0(node: Any, grad: Tensor) -> Tensor:
    x, r = node.unpack()
    g = grad / (r * 2)
    g = g.masked_fill(r == 0, 0.0)
    return _var_grad(g, x, *node.ctx)


def _spread(name: str, input: Tensor, dim: Any, unbiased: Any, correction: Any, keepdim: bool) -> Any:
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    a = input._a
    if a.dtype.kind in "biu":
        raise RuntimeError(f"{name} only support floating point and complex dtypes")
    return a, dims_of(dim, a.ndim), _correction(unbiased, correction)


def var(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None,
        axis: Any = None, out: Tensor | None = None) -> Tensor:
    """The variance over ``dim``, divided by the count minus ``correction`` (1 unless given).

    Raises RuntimeError for integers."""
    a, dims, c = _spread("std and var", input, dim if axis is None else axis, unbiased, correction, keepdim)
    r = wrap(of(a).reduce.var(a, dims, keepdim, c))
    if recording(input):
        record(r, VarBackward0, (input,), saved=(input,), ctx=(dims, keepdim, c))
    return done("var", r, out, input)


def std(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None,
        axis: Any = None, out: Tensor | None = None) -> Tensor:
    """The standard deviation over ``dim``; see ``var``."""
    a, dims, c = _spread("std and var", input, dim if axis is None else axis, unbiased, correction, keepdim)
    r = wrap(of(a).reduce.std(a, dims, keepdim, c))
    if recording(input):
        record(r, StdBackward0, (input,), saved=(input, r), ctx=(dims, keepdim, c))
    return done("std", r, out, input)


@derivative
def VarMeanBackward0(node: Any, var_grad: Tensor | None, mean_grad: Tensor | None) -> Tensor | None:
    return _both_backward(node, var_grad, mean_grad)


@derivative
def StdMeanBackward0(node: Any, std_grad: Tensor | None, mean_grad: Tensor | None) -> Tensor | None:
    r = node.unpack()[1]
    if std_grad is not None:
        std_grad = (std_grad / (r * 2)).masked_fill(r == 0, 0.0)
    return _both_backward(node, std_grad, mean_grad)


def _both_backward(node: Any, spread_grad: Tensor | None, mean_grad: Tensor | None) -> Tensor | None:
    x = node.unpack()[0]
    dims, keepdim, c = node.ctx
    shape = x._a.shape
    g = None if spread_grad is None else _var_grad(spread_grad, x, dims, keepdim, c)
    if mean_grad is None:
        return g
    m = restore(mean_grad, dims, keepdim, shape).expand(shape) / builtins.max(_count(shape, dims), 1)
    return m if g is None else g + m


def _with_mean(spread: Any, kind: Any, input: Tensor, dim: Any, unbiased: Any, keepdim: bool,
               correction: Any) -> tuple[Tensor, Tensor]:
    a, dims, c = _spread("std and var", input, dim, unbiased, correction, keepdim)
    x = input.detach()
    r, m = spread(x, dims, None, keepdim, correction=c), mean(x, dims, keepdim)
    if recording(input):
        record((r, m), kind, (input,), saved=(input, r), ctx=(dims, keepdim, c))
    return r, m


def var_mean(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
             correction: Any = None) -> tuple[Tensor, Tensor]:
    """The variance and the mean."""
    return _with_mean(var, VarMeanBackward0, input, dim, unbiased, keepdim, correction)


def std_mean(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
             correction: Any = None) -> tuple[Tensor, Tensor]:
    """The standard deviation and the mean."""
    return _with_mean(std, StdMeanBackward0, input, dim, unbiased, keepdim, correction)


# --- truth ----------------------------------------------------------------------------------

def _truth(name: str, input: Tensor, dim: Any, keepdim: bool, out: Any) -> Tensor:
    a = input._a
    dims = tuple(range(a.ndim)) if dim is None else wrap_dims(dim, a.ndim)  # an empty list: nothing is reduced
    r = getattr(of(a).reduce, name)(a, dims, keepdim)
    return done(name, wrap(r if a.dtype != np.uint8 else r.astype(np.uint8)), out, input)


def all(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None,
        out: Tensor | None = None) -> Tensor:
    """Whether all elements are true (uint8 stays uint8, as in PyTorch)."""
    return _truth("all", input, dim if axis is None else axis, keepdim, out)


def any(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None,
        out: Tensor | None = None) -> Tensor:
    """Whether any element is true (uint8 stays uint8, as in PyTorch)."""
    return _truth("any", input, dim if axis is None else axis, keepdim, out)


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero."""
    a = input._a
    return wrap(of(a).reduce.count_nonzero(a, dims_of(dim, a.ndim)))


# --- norms ----------------------------------------------------------------------------------

@derivative
def LinalgVectorNormBackward0(node: Any, grad: Tensor) -> Tensor:
    x, r = node.unpack()
    p, dims, keepdim = node.ctx
    shape = x._a.shape
    g, n = restore(grad, dims, keepdim, shape), restore(r, dims, keepdim, shape)
    if p == 0:
        return x * 0
    if p == 1:
        return g * x.sgn()
    if p == 2:
        return (g * (x / n)).masked_fill(n == 0, 0.0)
    if math.isinf(p):
        mask = (x.abs() == n).logical_or(x.isnan().logical_and(n.isnan()))
        return g * x.sgn() * mask / mask.sum(dims, True)
    scale = x.abs().pow(p - 1) if p > 1 else x.abs().pow(p - 1).masked_fill(x == 0, 0.0)
    return (x.sgn() * scale * (g / n.pow(p - 1))).masked_fill(n == 0, 0.0)


def vector_norm(input: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None,
                out: Tensor | None = None) -> Tensor:
    """The vector norm of order ``ord`` (any number, inf, -inf, 0) over ``dim``.

    Raises RuntimeError for integers."""
    if amp.on and (r := amp.run("vector_norm", vector_norm, input, ord, dim, keepdim, dtype=dtype,
                                out=out)) is not None:
        return r
    if input._a.dtype.kind in "biu":
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
                           f"{input.dtype.title}")
    x = input if dtype is None else input.to(as_dtype(dtype))
    a = x._a
    p = float(ord)
    dims = dims_of(dim, a.ndim)
    if (p < 0 or p == math.inf) and _count(a.shape, dims) == 0:
        raise RuntimeError(f"linalg.vector_norm cannot compute the {p:g} norm on an empty tensor because the operation "
                           "does not have an identity")
    r = wrap(of(a).reduce.norm(a, p, dims, keepdim))
    if recording(x):
        record(r, LinalgVectorNormBackward0, (x,), saved=(x, r), ctx=(p, dims, keepdim))
    return done("norm", r, out, input)


def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, out: Tensor | None = None,
         dtype: Any = None) -> Tensor:
    """The p-norm over ``dim`` ("fro" is 2; the nuclear norm is not implemented)."""
    if p == "nuc":
        raise NotImplementedError("norm(p='nuc'): the nuclear norm is not implemented")
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"linalg.matrix_norm: Order {p} not supported.")
    order = 2.0 if p in ("fro", None) else float(p)
    return vector_norm(input, order, dim, keepdim, dtype=dtype, out=out)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of ``input - other``."""
    if amp.on and (r := amp.run("dist", dist, input, other, p)) is not None:
        return r
    return vector_norm(input - other, p)


@derivative
def LogsumexpBackward0(node: Any, grad: Tensor) -> Tensor:
    x, r = node.unpack()
    dims, keepdim = node.ctx
    shape = x._a.shape
    n = restore(r, dims, keepdim, shape)
    return restore(grad, dims, keepdim, shape) * (x - n).exp()


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    """log of the sum of exp over ``dim``, without overflow."""
    if amp.on and (r := amp.run("logsumexp", logsumexp, input, dim, keepdim, out=out)) is not None:
        return r
    x = input if input._a.dtype.kind not in "biu" else input.to(dtypes.get_default_dtype())
    a = x._a
    dims = wrap_dims(dim, a.ndim)
    k = of(a)
    r = wrap(k.softmax.logsumexp(a, dims, keepdim))
    if recording(x):
        record(r, LogsumexpBackward0, (x,), saved=(x, r), ctx=(dims, keepdim))
    return done("logsumexp", r, out, input)
