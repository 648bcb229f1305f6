"""The error function and the gamma function's relatives, each with its derivative.

https://docs.pytorch.org/docs/stable/special.html
"""
from __future__ import annotations

import math
from typing import Any

from tritium.kernels import of
from tritium.tensor import dtype as dtypes
from tritium.tensor.autocast import amp
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pointwise import inplace
from tritium.tensor.ops.pointwise_rules import slope
from tritium.tensor.tensor import Tensor

METHODS = ["erf", "erfc", "erfinv", "lgamma", "digamma", "polygamma"]
INPLACE = ["erf_", "erfc_", "erfinv_", "lgamma_", "digamma_", "polygamma_"]
FUNCTIONS = list(METHODS)

ROOT = 2 / math.sqrt(math.pi)


def _floating(name: str, input: Any) -> Any:
    """The input's array, as the default floating point type if it is an integer.

    Raises NotImplementedError for complex tensors."""
    check_tensor(name, "input", 1, input)
    a = input._a
    if a.dtype.kind == "c":
        raise not_implemented(name if name in ("digamma", "polygamma") else f"{name}_vml_cpu", a.dtype)
    return of(a).pointwise.cast(a, dtypes.get_default_dtype().np) if a.dtype.kind in "biu" else a


def _apply(name: str, input: Tensor, kind: type[Node], out: Tensor | None) -> Tensor:
    a = _floating(name, input)
    r = wrap(getattr(of(a).special, name)(a))
    if input._free:
        r._free = True
    if recording(input):
        record(r, kind, (input,), saved=(r,) if name == "erfinv" else (input,))
    return r if out is None else write_out(name, out, r, input)


@derivative
def ErfBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    found = slope("erf", grad, x)
    return grad * (ROOT * (-x * x).exp()) if found is None else found


@derivative
def ErfcBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    found = slope("erfc", grad, x)
    return grad * (-ROOT * (-x * x).exp()) if found is None else found


@derivative
def ErfinvBackward0(node: Any, grad: Tensor) -> Tensor:
    (r,) = node.unpack()
    found = slope("erfinv", grad, r)
    return grad * ((r * r).exp() / ROOT) if found is None else found


@derivative
def LgammaBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return grad * digamma(x)


@derivative
def DigammaBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return grad * polygamma(1, x)


@derivative
def PolygammaBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return grad * polygamma(node.ctx + 1, x)


def erf(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The error function: 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return _apply("erf", input, ErfBackward0, out)


def erfc(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """1 - erf(x), exact also where erf is near 1."""
    return _apply("erfc", input, ErfcBackward0, out)


def erfinv(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The inverse of erf on (-1, 1); infinite at the ends, nan outside."""
    if amp.on and (r := amp.run("erfinv", erfinv, input, out=out)) is not None:
        return r
    return _apply("erfinv", input, ErfinvBackward0, out)


def lgamma(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The logarithm of the absolute value of the gamma function."""
    return _apply("lgamma", input, LgammaBackward0, out)


def digamma(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The derivative of lgamma."""
    return _apply("digamma", input, DigammaBackward0, out)


def polygamma(n: Any, input: Any, *, out: Tensor | None = None) -> Tensor:
    """The ``n``-th derivative of digamma; as a method ``x.polygamma(n)``.

    Raises RuntimeError for a negative ``n``."""
    if isinstance(n, Tensor):
        n, input = input, n
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n == 0:
        return digamma(input, out=out)
    a = _floating("polygamma", input)
    r = wrap(of(a).special.polygamma(n, a))
    if recording(input):
        record(r, PolygammaBackward0, (input,), saved=(input,), ctx=n)
    return r if out is None else write_out("polygamma", out, r, input)


erf_ = inplace(erf, "erf_")
erfc_ = inplace(erfc, "erfc_")
erfinv_ = inplace(erfinv, "erfinv_")
lgamma_ = inplace(lgamma, "lgamma_")
digamma_ = inplace(digamma, "digamma_")
polygamma_ = inplace(polygamma, "polygamma_")
