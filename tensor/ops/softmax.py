"""softmax, log_softmax and softmin, with their derivatives. (logsumexp is with the reductions.)

https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html and its neighbours
"""

from __future__ import annotations

from typing import Any

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.dtype import dtype as Dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import wrap_dim
from tritium.tensor.ops.out import write_out
from tritium.tensor.tensor import Tensor

METHODS = ["softmax", "log_softmax"]
FUNCTIONS = ["softmax", "log_softmax"]


def _prepared(name: str, input: Any, dim: Any, dtype: Dtype | None) -> tuple[Tensor, int]:
    """The input in the dtype asked for, and the dimension from the front; PyTorch's errors."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if not hasattr(dim, "__index__"):
        raise TypeError(f"{name}(): argument 'dim' (position 2) must be int, not {type(dim).__name__}")
    if dtype is not None:
        input = input.to(dtype)
    place = wrap_dim(dim, input.ndim)
    if not input.is_floating_point():
        last = "lastdim_" if place == max(input.ndim - 1, 0) else ""
        raise NotImplementedError(f"\"{name}_{last}kernel_impl\" not implemented for '{input.dtype.title}'")
    return input, place


@derivative
def SoftmaxBackward0(node: Any, grad: Tensor) -> Tensor:
    (y,) = node.unpack()
    dim = node.ctx
    if mode.enabled and y.ndim:
        weighted = grad * y
        return weighted - y * weighted.sum(dim, keepdim=True)
    return _fused("softmax_backward", grad, y, dim)


@derivative
def LogSoftmaxBackward0(node: Any, grad: Tensor) -> Tensor:
    (y,) = node.unpack()
    dim = node.ctx
    if mode.enabled and y.ndim:
        return grad - y.exp() * grad.sum(dim, keepdim=True)
    return _fused("log_softmax_backward", grad, y, dim)


def _fused(kernel: str, grad: Tensor, y: Tensor, dim: int) -> Tensor:
    g, a = grad._a, y._a
    if a.ndim == 0:
        return wrap(getattr(of(a).softmax, kernel)(g.reshape(1), a.reshape(1), 0).reshape(()))
    out = wrap(getattr(of(a).softmax, kernel)(g, a, dim))
    if grad._free or y._free:
        out._free = True
    return out


def _forward(kernel: str, kind: Any, input: Tensor, dim: int) -> Tensor:
    a = input._a
    if not (input._free or a.flags.c_contiguous):  # the result is contiguous, as PyTorch's
        a = of(a).copy.contiguous(a)
    compute = getattr(of(a).softmax, kernel)
    out = wrap(compute(a, dim) if a.ndim else compute(a.reshape(1), 0).reshape(()))
    if input._free:
        out._free = True
    if recording(input):
        record(out, kind, (input,), saved=(out,), ctx=dim)
    return out


def softmax(input: Tensor, dim: int, dtype: Dtype | None = None, *, out: Tensor | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`. `dtype`: convert the input to it first.

    Raises IndexError for a dimension out of range, NotImplementedError for integers.
    """
    if amp.on and (r := amp.run("softmax", softmax, input, dim, dtype=dtype, out=out)) is not None:
        return r
    input, dim = _prepared("softmax", input, dim, dtype)
    result = _forward("softmax", SoftmaxBackward0, input, dim)
    return result if out is None else write_out("softmax", out, result, input)


def log_softmax(input: Tensor, dim: int, dtype: Dtype | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(softmax(x)) along `dim`, computed without overflow. `dtype`: convert the input to it first.

    Raises IndexError for a dimension out of range, NotImplementedError for integers.
    """
    if amp.on and (r := amp.run("log_softmax", log_softmax, input, dim, dtype=dtype, out=out)) is not None:
        return r
    input, dim = _prepared("log_softmax", input, dim, dtype)
    result = _forward("log_softmax", LogSoftmaxBackward0, input, dim)
    return result if out is None else write_out("log_softmax", out, result, input)


def softmin(input: Tensor, dim: int, dtype: Dtype | None = None) -> Tensor:
    """softmax(-x) along `dim`."""
    return softmax(-input, dim, dtype)
