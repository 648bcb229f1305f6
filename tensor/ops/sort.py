"""Sorting and selecting by rank: sort, topk, kthvalue, median, mode, quantile.

nan counts as the largest; equal elements keep their order. Unique values, counting and searching are in ``search.py``.
https://docs.pytorch.org/docs/stable/generated/torch.sort.html
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import beside, of
from tritium.tensor import return_types
from tritium.tensor.autocast import amp
from tritium.tensor.creation import full_like
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.graph import derivative, make_view, record, recording, wrap
from tritium.tensor.layout import wrap_dim
from tritium.tensor.ops import search
from tritium.tensor.ops.arguments import not_implemented
from tritium.tensor.ops.choice import where
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.scatter import gather, value_selecting_backward
from tritium.tensor.ops.search import (  # noqa: F401  (one family: the methods are attached from here)
    bincount,
    bucketize,
    histc,
    isin,
    searchsorted,
    unique,
    unique_consecutive,
)
from tritium.tensor.tensor import Tensor

METHODS = ["sort", "argsort", "msort", "topk", "kthvalue", "median", "nanmedian", "mode", "quantile", "nanquantile",
           *search.METHODS]
FUNCTIONS = [*METHODS, *search.FUNCTIONS]


def _line(input: Tensor, dim: Any) -> tuple[Any, int]:
    """The array (a 0-d one as a vector) and the dimension counted from the front."""
    a = input._a
    d = wrap_dim(dim, a.ndim)
    return (a if a.ndim else a.reshape(1)), d


def _pair(name: str, kind: Any, input: Tensor, values: Any, order: Any, dim: int, keepdim: bool, out: Any) -> Any:
    """The named result (values, indices) of choosing elements along ``dim``, recorded."""
    a = input._a
    if a.ndim == 0:
        values, order = values.reshape(()), order.reshape(())
    elif not keepdim:
        values, order = values.squeeze(dim), order.squeeze(dim)
    v, i = wrap(values), wrap(order)
    if recording(input):
        record(v, kind, (input,), saved=(i,), ctx=(dim, keepdim, a.shape))
    result = getattr(return_types, name)
    if out is not None:
        return result((write_out(name, out[0], v, input), write_out(name, out[1], i)))
    return result((v, i))


def _selecting_backward(node: Any, grad: Tensor) -> Tensor:
    (index,) = node.unpack()
    dim, keepdim, shape = node.ctx
    return value_selecting_backward(grad, dim, index, shape, keepdim)


@derivative
def SortBackward0(node: Any, grad: Tensor) -> Tensor:
    return _selecting_backward(node, grad)


@derivative
def TopkBackward0(node: Any, grad: Tensor) -> Tensor:
    return _selecting_backward(node, grad)


@derivative
def KthvalueBackward0(node: Any, grad: Tensor) -> Tensor:
    return _selecting_backward(node, grad)


@derivative
def MedianBackward1(node: Any, grad: Tensor) -> Tensor:
    return _selecting_backward(node, grad)


@derivative
def NanmedianBackward1(node: Any, grad: Tensor) -> Tensor:
    return _selecting_backward(node, grad)


@derivative
def ModeBackward0(node: Any, grad: Tensor) -> Tensor:
    return _selecting_backward(node, grad)


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None, *,
         out: Any = None) -> Any:
    """(values, indices): the elements sorted along ``dim``, and where they were. Always stable.

    Raises RuntimeError for complex tensors."""
    a, d = _line(input, dim)
    if a.dtype.kind == "c":
        raise RuntimeError(" Sort does not support complex dtypes on CPU")
    values, order = of(a).sort.sort(a, d, bool(descending))
    return _pair("sort", SortBackward0, input, values, order, d, True, out)


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort along ``dim``, as int64. Always stable."""
    a, d = _line(input, dim)
    if a.dtype.kind == "c":
        raise RuntimeError(" Sort does not support complex dtypes on CPU")
    return wrap(of(a).sort.argsort(a, d, bool(descending)).reshape(input._a.shape))


def msort(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements sorted along the first dimension."""
    r = sort(input, 0)[0]
    return r if out is None else write_out("msort", out, r, input)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, *, out: Any = None) -> Any:
    """(values, indices): the ``k`` largest (or smallest) elements along ``dim``. Of equal elements the first ones.

    The result is always sorted. Raises RuntimeError when ``k`` is out of range, and for bool and complex tensors."""
    a, d = _line(input, dim)
    if not 0 <= k <= a.shape[d]:
        raise RuntimeError("selected index k out of range")
    if a.dtype.kind == "b":
        raise RuntimeError("topk does not support bool dtypes on CPU")
    if a.dtype.kind == "c":
        raise RuntimeError(" topk does not support complex dtypes on CPU")
    if input._a.ndim == 0:
        k = 1
    values, order = of(a).sort.topk(a, int(k), d, bool(largest))
    return _pair("topk", TopkBackward0, input, values, order, d, True, out)


def _not_empty(name: str, a: Any, d: int) -> None:
    if a.shape[d] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:
    """(values, indices): the ``k``-th smallest element (from 1) along ``dim``, and where it is.

    Raises RuntimeError when ``k`` is out of range."""
    a, d = _line(input, dim)
    _not_empty("kthvalue", a, d)
    if not 1 <= k <= a.shape[d]:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}")
    if a.dtype.kind in "bc":
        raise not_implemented("kthvalue_cpu", a.dtype)
    values, order = of(a).sort.kth(a, k - 1, d)
    return _pair("kthvalue", KthvalueBackward0, input, values, order, d, keepdim, out)


def _median_of_all_backward(node: Any, grad: Tensor) -> Tensor:
    """Elements equal to the median share the gradient."""
    x, r = node.unpack()
    mask = (x == r).logical_or(r.isnan().logical_and(x.isnan()))
    return grad * mask / mask.sum()


@derivative
def MedianBackward0(node: Any, grad: Tensor) -> Tensor:
    return _median_of_all_backward(node, grad)


@derivative
def NanmedianBackward0(node: Any, grad: Tensor) -> Tensor:
    return _median_of_all_backward(node, grad)


def _median(name: str, kinds: Any, input: Tensor, dim: int | None, keepdim: bool, out: Any) -> Any:
    if input._a.dtype.kind in "bc":
        raise not_implemented("median_cpu" if dim is None else "median_out", input._a.dtype)
    k = of(input._a).sort
    skip = name == "nanmedian"
    if dim is None:
        r = wrap(k.median_of_all(input._a, skip))
        if recording(input):
            record(r, kinds[0], (input,), saved=(input, r))
        return r if out is None else write_out(name, out, r, input)
    a, d = _line(input, dim)
    _not_empty(name, a, d)
    values, index = k.median(a, d, skip)
    return _pair(name, kinds[1], input, values, index, d, keepdim, out)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None) -> Any:
    """The median of all elements, or (values, indices) along ``dim``: of an even number the lower one; nan if there is
    one.

    Raises NotImplementedError for bool tensors."""
    return _median("median", (MedianBackward0, MedianBackward1), input, dim, keepdim, out)


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None) -> Any:
    """``median`` of the elements that are not nan."""
    return _median("nanmedian", (NanmedianBackward0, NanmedianBackward1), input, dim, keepdim, out)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:
    """(values, indices): the most frequent element along ``dim`` (of several the smallest), where it occurs last."""
    a, d = _line(input, dim)
    _not_empty("mode", a, d)
    if a.dtype.kind == "c":
        raise not_implemented("mode_cpu", a.dtype)
    values, index = of(a).sort.mode(a, d)
    return _pair("mode", ModeBackward0, input, values, index, d, keepdim, out)


# --- quantiles ------------------------------------------------------------------------------

INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@derivative
def SqueezeBackward4(node: Any, grad: Tensor) -> Tensor:
    return grad.reshape(node.ctx)


def _quantile(name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str,
              out: Tensor | None) -> Tensor:
    a = input._a
    if a.size == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if a.dtype not in (np.float32, np.float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    number = not isinstance(q, Tensor)
    if number:
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q:g}")
        q = wrap(beside(a).full((), q, a.dtype))
    qs = q._a
    if qs.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    if qs.dtype != a.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    if not number and not bool((q >= 0).logical_and(q <= 1).all()):
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    if interpolation not in INTERPOLATIONS:
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                           f"{interpolation}")
    ignore_nan = name == "nanquantile"
    d = wrap_dim(dim, a.ndim) if dim is not None else 0
    x = input.reshape(-1) if dim is None or a.ndim == 0 else input.movedim(d, -1)
    ordered = sort(x, -1)[0]
    with no_grad():
        below, above, weight = _ranks(ordered.detach(), q.detach().reshape(-1), ignore_nan, interpolation)
    r = gather(ordered, -1, below)
    if above is not None:
        r = r.lerp(gather(ordered, -1, above), weight)
    # the quantiles first, then the other dimensions
    shape = list(a.shape)
    if dim is None:
        r = r.reshape((qs.size,) + ((1,) * a.ndim if keepdim else ()))
    else:
        r = r.movedim(-1, 0) if r._a.ndim > 1 else r
        if keepdim and a.ndim:
            shape[d] = 1
            r = r.reshape((qs.size, *shape))
    r = make_view(r, r._a.reshape(r._a.shape[1:]) if qs.ndim == 0 else r._a.view(), SqueezeBackward4, r._a.shape)
    return r if out is None else write_out(name, out, r, input)


def _ranks(ordered: Tensor, q: Tensor, ignore_nan: bool, interpolation: str) -> tuple[Tensor, Any, Any]:
    """Between which elements of each sorted row the quantiles lie: (index below, index above, weight of that one); no
    index above where there is nothing to interpolate."""
    n = ordered._a.shape[-1]
    bad = ordered.isnan()
    if ignore_nan:
        last = (n - 1 - bad.sum(-1, keepdim=True)).clamp(min=0).to(ordered.dtype)
        rank = q * last
    else:  # a row with nan gives nan, which is its last element
        rank = where(bad.any(-1, keepdim=True), float(n - 1), q * float(n - 1))
    if interpolation in ("lower", "higher", "nearest"):
        rank = {"lower": rank.floor, "higher": rank.ceil, "nearest": rank.round}[interpolation]()
    below = rank.trunc()
    if interpolation not in ("linear", "midpoint"):
        return below.long(), None, None
    weight = rank - below if interpolation == "linear" else full_like(rank, 0.5)
    return below.long(), rank.ceil().long(), weight


def quantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear",
             out: Tensor | None = None) -> Tensor:
    """The values below which the fractions ``q`` (a number or a vector) of the elements lie: of all, or along ``dim``.

    ``interpolation`` between two elements: "linear", "lower", "higher", "midpoint", "nearest".
    Raises RuntimeError for other dtypes than float32 and float64, an empty tensor, or q outside [0, 1].
    https://docs.pytorch.org/docs/stable/generated/torch.quantile.html"""
    if amp.on and (r := amp.run("quantile", quantile, input, q, dim, keepdim, interpolation=interpolation,
                                out=out)) is not None:
        return r
    return _quantile("quantile", input, q, dim, keepdim, interpolation, out)


def nanquantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear",
                out: Tensor | None = None) -> Tensor:
    """``quantile`` of the elements that are not nan."""
    if amp.on and (r := amp.run("nanquantile", nanquantile, input, q, dim, keepdim, interpolation=interpolation,
                                out=out)) is not None:
        return r
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, out)
