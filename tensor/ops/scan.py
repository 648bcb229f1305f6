"""Running sums, products and extremes along a dimension, and differences.

https://docs.pytorch.org/docs/stable/generated/torch.cumsum.html
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor import return_types
from tritium.tensor.autocast import amp
from tritium.tensor.creation import arange
from tritium.tensor.dtype import as_dtype
from tritium.tensor.grad_mode import is_grad_enabled
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import wrap_dim
from tritium.tensor.ops.arguments import not_implemented
from tritium.tensor.ops.join import cat
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pointwise import inplace
from tritium.tensor.ops.scatter import scatter_add
from tritium.tensor.tensor import Tensor

METHODS = ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "diff"]
INPLACE = ["cumsum_", "cumprod_"]
FUNCTIONS = [*METHODS, "trapezoid", "trapz", "cumulative_trapezoid"]


def _reversed_cumsum(x: Tensor, dim: int) -> Tensor:
    return cumsum(x.flip(dim), dim).flip(dim) if x._a.ndim else x


def _scanned(name: str, input: Tensor, dim: int, dtype: Any, out: Tensor | None, kind: Any, saves: str) -> Tensor:
    """A running sum or product: integers and bools as int64, unless ``dtype`` says otherwise."""
    d = wrap_dim(dim, input._a.ndim)
    x = input
    if dtype is not None:
        x = input.to(as_dtype(dtype))
    elif input._a.dtype.kind in "biu" and input._a.dtype != np.int64:
        x = input.to(as_dtype(np.dtype(np.int64)))
    a = x._a
    kernel = getattr(of(a).scan, name)
    r = wrap(kernel(a, d) if a.ndim else kernel(a.reshape(1), 0).reshape(()))
    if recording(x):
        record(r, kind, (x,), saved=(x, r) if saves else (), ctx=d)
    return r if out is None else write_out(name, out, r, input)


@derivative
def CumsumBackward0(node: Any, grad: Tensor) -> Tensor:
    return _reversed_cumsum(grad, node.ctx)


def cumsum(input: Tensor, dim: int, *, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """``out[i] = input[0] + ... + input[i]`` along ``dim``. Integers and bools give int64 unless ``dtype`` is given."""
    if amp.on and (r := amp.run("cumsum", cumsum, input, dim, dtype=dtype, out=out)) is not None:
        return r
    return _scanned("cumsum", input, dim, dtype, out, CumsumBackward0, "")


@derivative
def CumprodBackward0(node: Any, grad: Tensor) -> Tensor:
    x, r = node.unpack()
    d = node.ctx
    if x._a.ndim == 0:
        return grad
    zero = x == 0
    if not zero.any():
        return _reversed_cumsum(grad * r, d) / x
    if is_grad_enabled():
        return _cumprod_backward_by_element(grad, x, d)
    # Behind the first zero only that element has a gradient: the products with it left out.
    count = cumsum(zero, d)
    first = zero.logical_and(count == 1)
    rest = _reversed_cumsum(grad * cumprod(x.masked_fill(first, 1.0), d), d)
    before = (_reversed_cumsum(grad * r, d) / x).masked_fill(count > 0, 0.0)
    return before + rest * first


def _cumprod_backward_by_element(grad: Tensor, x: Tensor, d: int) -> Tensor:
    """One element after the other, with nothing divided: right, and differentiable, also where elements are 0."""
    parts = []
    n = x._a.shape[d]
    for k in range(n):
        before = x.narrow(d, 0, k).prod(d, keepdim=True)
        after = x.narrow(d, k + 1, n - k - 1)
        products = cat([before, before * cumprod(after, d)], d)
        parts.append((grad.narrow(d, k, n - k) * products).sum(d, keepdim=True))
    return cat(parts, d)


def cumprod(input: Tensor, dim: int, *, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """``out[i] = input[0] * ... * input[i]`` along ``dim``. Integers and bools give int64 unless ``dtype`` is given."""
    if amp.on and (r := amp.run("cumprod", cumprod, input, dim, dtype=dtype, out=out)) is not None:
        return r
    return _scanned("cumprod", input, dim, dtype, out, CumprodBackward0, "xr")


cumsum_ = inplace(cumsum, "cumsum_")
cumprod_ = inplace(cumprod, "cumprod_")


@derivative
def LogcumsumexpBackward0(node: Any, grad: Tensor) -> Tensor:
    x, r = node.unpack()
    d = node.ctx
    if x._a.ndim == 0:
        return grad
    if is_grad_enabled():
        return _logcumsumexp_backward_by_pairs(grad, x, r, d)
    # sum over i >= k of grad[i] exp(x[k] - r[i]): the positive and the negative gradients apart, as logarithms
    size = grad.abs().log()

    def part(mask: Tensor) -> Tensor:
        logs = size.masked_fill(mask.logical_not(), -math.inf) - r
        return (logcumsumexp(logs.flip(d), d).flip(d) + x).exp()

    return part(grad > 0) - part(grad < 0)


def _logcumsumexp_backward_by_pairs(grad: Tensor, x: Tensor, r: Tensor, d: int) -> Tensor:
    """The same for every pair (k, i), which can be differentiated where a gradient is 0."""
    n = x._a.shape[d]
    place = arange(n, device=x.device)
    later = place.unsqueeze(-1) <= place
    inner, outer, g = x.movedim(d, -1), r.movedim(d, -1), grad.movedim(d, -1)
    keep = later.logical_and(inner.isfinite().unsqueeze(-1))
    pairs = (inner.unsqueeze(-1) - outer.unsqueeze(-2)).masked_fill(keep.logical_not(), -math.inf).exp()
    return (pairs * g.unsqueeze(-2)).sum(-1).movedim(-1, d)


def logcumsumexp(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
    """``out[i] = log(exp(input[0]) + ... + exp(input[i]))`` along ``dim``.

    Raises NotImplementedError for integers and bools."""
    a = input._a
    d = wrap_dim(dim, a.ndim)
    if a.dtype.kind not in "fV":
        raise not_implemented("logcumsumexp_out_cpu", a.dtype)
    r = wrap(of(a).scan.logcumsumexp(a, d) if a.ndim else a.copy())
    if recording(input):
        record(r, LogcumsumexpBackward0, (input,), saved=(input, r), ctx=d)
    return r if out is None else write_out("logcumsumexp", out, r, input)


def _extreme_backward(node: Any, grad: Tensor) -> Tensor:
    (index,) = node.unpack()
    d, shape = node.ctx
    return scatter_add(grad.new_zeros(shape), d, index, grad)


@derivative
def CummaxBackward0(node: Any, grad: Tensor) -> Tensor:
    return _extreme_backward(node, grad)


@derivative
def CumminBackward0(node: Any, grad: Tensor) -> Tensor:
    return _extreme_backward(node, grad)


def _extreme(name: str, input: Tensor, dim: int, kind: Any, out: Any) -> Any:
    a = input._a
    d = wrap_dim(dim, a.ndim)
    kernel = getattr(of(a).scan, name)
    values, index = kernel(a if a.ndim else a.reshape(1), d)
    v, i = wrap(values.reshape(a.shape)), wrap(index.reshape(a.shape))
    if recording(input):
        record(v, kind, (input,), saved=(i,), ctx=(d, a.shape))
    result = getattr(return_types, name)
    if out is not None:
        return result((write_out(name, out[0], v, input), write_out(name, out[1], i)))
    return result((v, i))


def cummax(input: Tensor, dim: int, *, out: Any = None) -> Any:
    """(values, indices): the largest element so far along ``dim``, and where it was last. nan from the first nan on."""
    return _extreme("cummax", input, dim, CummaxBackward0, out)


def cummin(input: Tensor, dim: int, *, out: Any = None) -> Any:
    """(values, indices): the smallest element so far along ``dim``, where it was last; nan from the first nan on."""
    return _extreme("cummin", input, dim, CumminBackward0, out)


# --- differences, integrals -------------------------------------------------------------------------

def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None,
         append: Tensor | None = None) -> Tensor:
    """The differences of neighbours along ``dim``, ``n`` times; of bools whether they differ.

    ``prepend``, ``append``: elements put before and behind first. Raises RuntimeError for a 0-d tensor, a negative
    ``n``, or shapes that do not fit."""
    a = input._a
    if a.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    d = wrap_dim(dim, a.ndim)
    for extra in (prepend, append):
        if extra is None:
            continue
        if extra._a.ndim != a.ndim:
            raise RuntimeError("diff expects prepend or append to be the same dimension as input")
        for k, (m, s) in enumerate(zip(extra._a.shape, a.shape, strict=True)):
            if k != d and m != s:
                raise RuntimeError("diff expects the shape of tensor to prepend or append to match that of input "
                                   f"except along the differencing dimension; input.size({k}) = {s}, but got "
                                   f"tensor.size({k}) = {m}")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    parts = [x for x in (prepend, input, append) if x is not None]
    x = cat(parts, d) if len(parts) > 1 else input
    if n == 0:
        return x.clone()
    for _ in range(min(n, x._a.shape[d])):
        length = x._a.shape[d] - 1
        after, before = x.narrow(d, 1, length), x.narrow(d, 0, length)
        x = after.logical_xor(before) if x._a.dtype.kind == "b" else after - before
    return x


def _trapezoids(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> tuple[Tensor, int]:
    """The areas under the pieces, and the dimension."""
    ndim = y._a.ndim
    if ndim == 0:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    d = wrap_dim(dim, ndim)
    n = y._a.shape[d]
    if x is None:
        width: Any = dx
    else:
        if x._a.ndim == 1:
            if x._a.shape[0] != n:
                raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
            width = diff(x).reshape((-1,) + (1,) * (ndim - 1 - d))
        else:
            if x._a.ndim and x._a.shape[wrap_dim(dim, x._a.ndim)] != n:
                raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
            width = diff(x, dim=dim)
    left, right = y.narrow(d, 0, max(n - 1, 0)), y.narrow(d, min(1, n), max(n - 1, 0))
    return (left + right) * width, d


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The integral along ``dim`` by the trapezoidal rule, of values at ``x`` or ``dx`` apart.

    Raises RuntimeError when ``x`` has another length."""
    areas, d = _trapezoids("trapezoid", y, x, dx, dim)
    return areas.sum(d) / 2.0


trapz = trapezoid


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The running integral along ``dim`` by the trapezoidal rule.

    Raises RuntimeError when ``x`` has another length."""
    areas, d = _trapezoids("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(areas / 2.0, d)
