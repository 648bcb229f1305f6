"""Cross entropy: log_softmax and the loss in one kernel, and one for the derivative.

Where the derivative is to be differentiated again it is written with ordinary ops. What PyTorch makes of several ops is
one node here, with the name of the last.
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, record, recording, wrap
from tritium.tensor.ops.loss_elementwise import check_reduction
from tritium.tensor.ops.loss_nll import check_classes, nll_backward, nll_loss
from tritium.tensor.ops.pointwise import node_kind, where
from tritium.tensor.ops.softmax import log_softmax
from tritium.tensor.tensor import Tensor


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """log_softmax and nll_loss in one: `input` are scores, (C), (N, C) or (N, C, d1, ...).

    `target`: class numbers as in `nll_loss`, or probabilities of the shape of `input` (floating point).
    `label_smoothing` mixes the target with the uniform distribution (Szegedy et al. 2015).
    Raises what `nll_loss` raises, and RuntimeError for probabilities that are not floating point or come with an
    ignored index, and a label_smoothing outside [0, 1].
    """
    if amp.on and (r := amp.run("cross_entropy", cross_entropy, input, target, weight, ignore_index, reduction,
                                label_smoothing)) is not None:
        return r
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing:g}")
    dim = 0 if input._a.ndim == 1 else 1
    if input._a.shape == target._a.shape:
        if not target.is_floating_point():
            raise RuntimeError(
                "Expected floating point type for target with class probabilities, got " + target.dtype.title
            )
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        return _of_probabilities(input, target, weight, reduction, label_smoothing, dim)
    return _of_classes(input, target, weight, ignore_index, reduction, label_smoothing, dim)


def _gradient(array: Any) -> Tensor:
    out = wrap(array)
    if not array.flags.c_contiguous:
        out._free = True
    return out


def _rows(a: Any) -> Any:
    """Scores as (N, C, ...)."""
    return a.reshape(1, -1) if a.ndim == 1 else a


# ------------------------------------------------------------------------------------------------- class numbers


def _of_classes(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore: int, reduction: str, smoothing: float, dim: int
) -> Tensor:
    x = input._a
    if not (x.size and target._a.size and input.is_floating_point()):
        logp = log_softmax(input, dim)
        if smoothing:
            return _smoothed(logp, target, weight, ignore, reduction, smoothing, dim)
        return nll_loss(logp, target, weight, ignore, reduction)
    check_classes(input, target, weight)
    t = target if target._a.dtype == np.int64 else target.long()
    k = of(x).loss_entropy
    labels = t._a.reshape(1) if x.ndim == 1 else t._a
    w = None if weight is None else weight._a
    loss, saved, total, wrong = k.cross_entropy(_rows(x), labels, w, ignore, smoothing, reduction)
    if wrong is not None:
        raise IndexError(f"Target {wrong} is out of bounds.")
    out = wrap(loss.reshape(()) if x.ndim == 1 and reduction == "none" else loss)
    if recording(input):
        kind = _Smoothed if smoothing else _Classes if x.ndim <= 2 else _Classes2d
        if kind is _Classes2d and x.ndim != 4 and reduction == "none":
            kind = _Viewed
        source = input
        if not smoothing:  # PyTorch has two nodes here
            source = record(wrap(x), _LogSoftmax, (input,))
        record(out, kind, (source,), saved=(input, t, weight), ctx=(ignore, reduction, smoothing, saved, total))
    return out


def _classes_backward(node: Any, grad: Tensor) -> Tensor:
    input, target, weight = node.unpack()
    ignore, reduction, smoothing, saved, total = node.ctx
    x, t, g = input._a, target._a, grad._a
    if mode.enabled:
        return _classes_by_ops(grad, input, target, weight, ignore, reduction, smoothing, total)
    if x.ndim == 1:
        t, g = t.reshape(1), g.reshape(1) if reduction == "none" else g
    w = None if weight is None else weight._a
    k = of(x).loss_entropy
    out = k.cross_entropy_backward(g, _rows(x), t, w, ignore, smoothing, reduction, saved, total)
    return _gradient(out.reshape(-1) if x.ndim == 1 else out)


_Classes: type[Node] = node_kind("NllLossBackward0", _classes_backward)
_Classes2d: type[Node] = node_kind("NllLoss2DBackward0", _classes_backward)
_LogSoftmax: type[Node] = node_kind("LogSoftmaxBackward0", lambda node, grad: grad)  # the gradient is that of x already
_Viewed: type[Node] = node_kind("ViewBackward0", _classes_backward)
_Smoothed: type[Node] = node_kind("AddBackward0", _classes_backward)


def _classes_by_ops(
    grad: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, ignore: int, reduction: str, smoothing: float,
    total: Any,
) -> Tensor:  # fmt: skip
    dim = 0 if input.ndim == 1 else 1
    logp = log_softmax(input, dim)
    g = nll_backward(grad, target, weight, ignore, True, reduction, total, input._a.shape)
    if smoothing:
        each = grad / wrap(total).to(grad.dtype) if reduction == "mean" else grad
        each = (each.expand(target._a.shape) * (smoothing / input.shape[dim])).masked_fill(target == ignore, 0)
        each = each.unsqueeze(dim)
        g = g * (1 - smoothing) - (each if weight is None else each * _per_class(weight, input, dim))
    return g - logp.exp() * g.sum(dim, keepdim=True)


# ------------------------------------------------------------------------------------------------- probabilities


def _of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, dim: int
) -> Tensor:
    if weight is not None:
        _per_class(weight, input, dim)
    x, t = input._a, target._a
    alone = weight is None or (weight._a.dtype == x.dtype and not (weight._rg and mode.enabled))
    if not (x.ndim and x.size and x.dtype == t.dtype and alone):
        return _soft_cross_entropy(input, target, weight, reduction, smoothing, dim)
    w = None if weight is None else weight._a
    k = of(x).loss_entropy
    loss, saved = k.soft_cross_entropy(_rows(x), _rows(t), w, smoothing, reduction)
    out = wrap(loss.reshape(()) if x.ndim == 1 and reduction == "none" else loss)
    if recording(input, target):
        kind = _SoftMean if reduction == "mean" else _Soft
        record(out, kind, (input, target), saved=(input, target, weight), ctx=(reduction, smoothing, saved))
    return out


def _soft_backward(node: Any, grad: Tensor) -> Any:
    input, target, weight = node.unpack()
    reduction, smoothing, saved = node.ctx
    x, t, g = input._a, target._a, grad._a
    if mode.enabled:
        return _soft_by_ops(grad, input, target, weight, reduction, smoothing, node.needs)
    if x.ndim == 1 and reduction == "none":
        g = g.reshape(1)
    w = None if weight is None else weight._a
    k = of(x).loss_entropy
    found = k.soft_cross_entropy_backward(g, _rows(x), _rows(t), w, smoothing, reduction, saved, node.needs)
    return tuple([None if a is None else _gradient(a.reshape(-1) if x.ndim == 1 else a) for a in found])


_Soft: type[Node] = node_kind("NegBackward0", _soft_backward)
_SoftMean: type[Node] = node_kind("DivBackward1", _soft_backward)


def _soft_by_ops(
    grad: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, needs: Any
) -> Any:
    dim = 0 if input.ndim == 1 else 1
    logp = log_softmax(input, dim)
    each = grad / (input.numel() // input.shape[dim]) if reduction == "mean" else grad
    each = each.unsqueeze(dim) if reduction == "none" else each
    w = None if weight is None else _per_class(weight, input, dim)
    dx = dt = None
    if needs[0]:
        v = target * (1 - smoothing) + smoothing / input.shape[dim] if smoothing else target
        v = v if w is None else v * w
        dx = (logp.exp() * v.sum(dim, keepdim=True) - v) * each
    if needs[1]:
        dt = logp * each * (smoothing - 1)
        dt = dt if w is None else dt * w
    return dx, dt


# ---------------------------------------------------------------------------- by ops: several dtypes, nothing in it


def _per_class(weight: Tensor, input: Tensor, dim: int) -> Tensor:
    classes = input.shape[dim]
    if weight.ndim != 1 or weight.numel() != classes:
        raise RuntimeError(
            f"cross_entropy: weight tensor should be defined either for all {classes} classes or no classes but got "
            f"weight tensor of shape: {list(weight.shape)}"
        )
    return weight.reshape([classes if d == dim else 1 for d in range(input.ndim)])


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, dim: int
) -> Tensor:
    logp = log_softmax(input, dim)
    classes = input.shape[dim]
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / classes
    product = logp * target if weight is None else logp * target * _per_class(weight, input, dim)
    if reduction == "none":
        return -product.sum(dim)
    if reduction == "sum":
        return -product.sum()
    count = input.numel() / classes if classes else 0.0
    return -product.sum() / count if count else -product.sum() * float("nan")


def _smoothed(
    logp: Tensor, target: Tensor, weight: Tensor | None, ignore: int, reduction: str, smoothing: float, dim: int
) -> Tensor:
    classes = logp.shape[dim]
    nll = nll_loss(logp, target, weight, ignore, reduction)
    weighted = logp if weight is None else logp * _per_class(weight, logp, dim)
    uniform = -weighted.sum(dim)
    ignored = target == ignore
    uniform = where(ignored, 0.0, uniform)
    if reduction != "none":
        uniform = uniform.sum()
    if reduction == "mean":
        kept = ~ignored
        if weight is None:
            uniform = uniform / kept.sum()
        else:
            uniform = uniform / weight.detach()[target[kept].long()].sum()
    return nll * (1 - smoothing) + uniform * (smoothing / classes)
