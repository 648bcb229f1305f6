"""Losses and their derivatives: nll and cross entropy here, the element-wise ones in the second half.

`reduction` is "none", "mean" or "sum". https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes
from tritium.tensor.ops.pointwise import node_kind, sigmoid, where
from tritium.tensor.ops.softmax import log_softmax
from tritium.tensor.promotion import cast_operands, result_type
from tritium.tensor.tensor import Tensor

FUNCTIONS = ["nll_loss", "binary_cross_entropy_with_logits", "kl_div"]

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: str) -> None:
    """Raises ValueError for an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")


# --------------------------------------------------------------------------------------------------------- nll


@derivative
def NllLossBackward0(node: Any, grad: Tensor) -> Tensor:
    return _nll_backward(grad, *node.ctx)


@derivative
def NllLoss2DBackward0(node: Any, grad: Tensor) -> Tensor:
    return _nll_backward(grad, *node.ctx)


@derivative
def NllLossBackwardBackward0(node: Any, grad: Tensor) -> Tensor:
    # nll is linear in its input, so the derivative of its backward is nll itself
    target, weight, ignore, _, reduction, _, _ = node.ctx
    return nll_loss(grad, target, weight, ignore, reduction)


def _nll_backward(
    grad: Tensor, target: Tensor, weight: Tensor | None, ignore: int, some: bool, reduction: str, total: Any, shape: Any
) -> Tensor:
    t = target._a
    full = shape
    if len(shape) == 1:
        t, full = t.reshape(1), (1, *shape)
    g = grad._a.reshape(1) if len(shape) == 1 and reduction == "none" else grad._a
    w = None if weight is None else weight._a
    out = wrap(of(g).loss.nll_backward(g, t, w, ignore, some, reduction, total, full).reshape(shape))
    if recording(grad):
        ctx = (target, weight, ignore, some, reduction, total, shape)
        record(out, NllLossBackwardBackward0, (grad,), ctx=ctx)
    return out


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-probability of the right class.

    `input`: log-probabilities (C), (N, C) or (N, C, d1, ...); `target`: class numbers (), (N) or (N, d1, ...), int64
    or uint8; `weight`: one number per class, and "mean" divides by the sum of the samples' weights.
    Raises ValueError for batch sizes that differ, RuntimeError for other shapes and dtypes that do not fit,
    IndexError for a class number out of range.
    """
    check_reduction(reduction)
    _check_nll_sizes(input, target)
    if input._a.ndim <= 2:
        return _nll(input, target, weight, ignore_index, reduction, NllLossBackward0)
    if input.ndim == 4:
        _check_spatial(input, target)
        return _nll(input, target, weight, ignore_index, reduction, NllLoss2DBackward0)
    size = [input.shape[0], *input.shape[2:]]
    if target.shape[1:] != input.shape[2:]:
        raise RuntimeError(f"Expected target size {size}, got {list(target.shape)}")
    n, c = input.shape[:2]
    rest = input.shape[2:].numel()
    flat = _nll(
        input.reshape(n, c, 1, rest), target.reshape(n, 1, rest), weight, ignore_index, reduction, NllLoss2DBackward0
    )
    return flat.view(size) if reduction == "none" else flat


def _check_nll_sizes(input: Tensor, target: Tensor) -> None:
    shape, labels = input._a.shape, target._a.shape
    if not shape:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    if len(shape) == 1:
        if labels and target.numel() != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {target.numel()}")
        return
    if not labels or shape[0] != labels[0]:
        batch = labels[0] if labels else 0
        raise ValueError(f"Expected input batch_size ({shape[0]}) to match target batch_size ({batch}).")
    if len(shape) == 2 and len(labels) > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")


def _check_spatial(input: Tensor, target: Tensor) -> None:
    if target.ndim != 3:
        raise RuntimeError(
            "only batches of spatial targets supported (3D tensors) but got targets of dimension: "
            f"{target.ndim}"
        )
    if input.shape[2:] != target.shape[1:]:
        raise RuntimeError(
            f"size mismatch (got input: {list(input.shape)} , target: {list(target.shape)}"
        )


def _check_nll_dtypes(input: Tensor, target: Tensor, weight: Tensor | None, spatial: bool) -> None:
    if target._a.dtype != np.int64 and target._a.dtype != np.uint8:
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {target.dtype.title}")
    if not input.is_floating_point():
        raise NotImplementedError(f"\"nll_loss_out_frame\" not implemented for '{input.dtype.title}'")
    if weight is None:
        return
    classes = input.shape[0] if input.ndim == 1 else input.shape[1]
    if weight.ndim != 1 or weight.shape[0] != classes:
        raise RuntimeError(
            "weight tensor should be defined either for all or no classes"
            if spatial
            else f"weight tensor should be defined either for all {classes} classes or no classes but got weight "
            f"tensor of shape: {list(weight.shape)}"
        )
    if weight._a.dtype != input._a.dtype:
        raise RuntimeError(f"expected scalar type {input.dtype.title} but found {weight.dtype.title}")


def _nll(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore: int, reduction: str, kind: type[Node]
) -> Tensor:
    _check_nll_dtypes(input, target, weight, kind is NllLoss2DBackward0)
    a, t = input._a, target._a
    if a.ndim == 1:
        a, t = a.reshape(1, -1), t.reshape(1)
    k = of(a).loss
    wrong, some = k.survey(t, a.shape[1], ignore)
    if wrong is not None:
        raise IndexError(f"Target {wrong} is out of bounds.")
    if t.dtype == np.uint8:
        t = t.astype(np.int64)
    loss, total = k.nll(a, t, None if weight is None else weight._a, ignore, some, reduction)
    if input._a.ndim == 1 and reduction == "none":
        loss = loss.reshape(())
    out = wrap(loss)
    if recording(input):
        ctx = (wrap(t), weight, ignore, some, reduction, total, input._a.shape)
        record(out, kind, (input,), ctx=ctx)
    return out


# ----------------------------------------------------------------------------------------------- cross entropy


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
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing, dim)
    logp = log_softmax(input, dim)
    if label_smoothing > 0:
        return _smoothed(logp, target, weight, ignore_index, reduction, label_smoothing, dim)
    return nll_loss(logp, target, weight, ignore_index, reduction)


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


# ----------------------------------------------------------------------------------------- element-wise losses


def _operands(name: str, input: Tensor, target: Tensor) -> tuple[Any, Any, Any]:
    """Both arrays in one floating point dtype and one shape; PyTorch's errors."""
    dt = result_type(input, target)
    if not dt.is_floating_point:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{dt.title}'")
    x, t = cast_operands(dt, input, target)
    if x.shape != t.shape:
        shape = broadcast_shapes(x.shape, t.shape)
        x, t = of(x).memory.broadcast_to(x, shape), of(t).memory.broadcast_to(t, shape)
    return x, t, of(x).loss


def _scaled(grad: Tensor, reduction: str, count: int) -> Tensor:
    return grad / max(count, 1) if reduction == "mean" else grad


def _regression(node: str, kernel: str, slope: Any) -> type[Node]:
    """A kind of node for a loss that depends on x - t only: the target's gradient is the negative of the input's."""

    def backward(self: Any, grad: Tensor) -> Any:
        x, t = self.unpack()
        reduction, *constants = self.ctx
        if mode.enabled:
            d = x - t
            g = slope(d, *constants) * _scaled(grad, reduction, d.numel())
        else:
            ax, at, k = _operands(kernel, x, t)
            g = wrap(k.backward(kernel, grad._a, ax, at, reduction, *constants))
        return g if self.needs[0] else None, -g if self.needs[1] else None

    return node_kind(node, backward)


def _regress(kernel: str, kind: type[Node], input: Tensor, target: Tensor, reduction: str, *constants: Any) -> Tensor:
    check_reduction(reduction)
    x, t, k = _operands(kernel, input, target)
    out = wrap(k.forward(kernel, x, t, reduction, *constants))
    if recording(input, target):
        record(out, kind, (input, target), saved=(input, target), ctx=(reduction, *constants))
    return out


MseLossBackward0 = _regression("MseLossBackward0", "mse", lambda d: d * 2)
SmoothL1LossBackward0 = _regression(
    "SmoothL1LossBackward0", "smooth_l1", lambda d, beta: (d / beta).clamp(-1, 1)
)
HuberLossBackward0 = _regression("HuberLossBackward0", "huber", lambda d, delta: d.clamp(-delta, delta))


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - t)^2."""
    return _regress("mse", MseLossBackward0, input, target, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x - t|."""
    check_reduction(reduction)
    return _reduced((input - target).abs(), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """(x - t)^2 / (2 beta) near 0, |x - t| - beta / 2 outside [-beta, beta]. Raises RuntimeError for a negative
    beta."""
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return _regress("smooth_l1", SmoothL1LossBackward0, input, target, reduction, beta)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """(x - t)^2 / 2 near 0, delta (|x - t| - delta / 2) outside [-delta, delta]. Raises RuntimeError unless delta >
    0."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    return _regress("huber", HuberLossBackward0, input, target, reduction, delta)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _array(t: Tensor | None, like: Any) -> Any:
    return None if t is None else t._a.astype(like.dtype, copy=False)


@derivative
def BinaryCrossEntropyBackward0(node: Any, grad: Tensor) -> Any:
    x, t, weight = node.unpack()
    reduction = node.ctx
    to_x = to_t = None
    g = _scaled(grad, reduction, x.numel())
    if node.needs[0]:
        if mode.enabled:
            to_x = g * (x - t) / ((1 - x) * x).clamp(min=1e-12)
            to_x = to_x if weight is None else to_x * weight
        else:
            w = _array(weight, x._a)
            to_x = wrap(of(x._a).loss.backward("bce", grad._a, x._a, t._a, reduction, w))
    if node.needs[1]:
        to_t = g * ((1 - x).log().clamp(min=-100) - x.log().clamp(min=-100))
        to_t = to_t if weight is None else to_t * weight
    return to_x, to_t


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) for probabilities x and t; logarithms are at least -100. `weight` rescales
    elements.

    Raises ValueError for sizes that differ, RuntimeError for another dtype than the input's or values outside [0, 1].
    """
    check_reduction(reduction)
    if target.shape != input.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. "
            "Please ensure they have the same size."
        )
    for other in (target,) if weight is None else (target, weight):
        if other._a.dtype != input._a.dtype:
            raise RuntimeError(f"Found dtype {other.dtype.title} but expected {input.dtype.title}")
    x, t = input._a, target._a
    for name, a in (("input", x), ("target", t)):
        k, every = of(a).reduce, tuple(range(a.ndim))
        if a.size and not (float(k.amin(a, every, False)) >= 0 and float(k.amax(a, every, False)) <= 1):
            raise RuntimeError(f"all elements of {name} should be between 0 and 1")
    out = wrap(of(x).loss.forward("bce", x, t, reduction, _array(weight, x)))
    if recording(input, target):
        record(out, BinaryCrossEntropyBackward0, (input, target), saved=(input, target, weight), ctx=reduction)
    return out


@derivative
def BinaryCrossEntropyWithLogitsBackward0(node: Any, grad: Tensor) -> Any:
    x, t, weight, positive = node.unpack()
    reduction = node.ctx
    to_x = to_t = None
    if node.needs[0] and not mode.enabled:
        ax, at, k = _operands("bce_logits", x, t)
        to_x = wrap(
            k.backward("bce_logits", grad._a, ax, at, reduction, _array(weight, ax), _array(positive, ax))
        )
    elif node.needs[0]:
        s = sigmoid(x)
        slope = s - t if positive is None else (positive * t + 1 - t) * s - positive * t
        slope = slope if weight is None else slope * weight
        to_x = slope * _scaled(grad, reduction, slope.numel())
    if node.needs[1]:
        # the derivative by t is log sigmoid(-x) - p log sigmoid(x), and they differ by x
        log_s = -((-x.abs()).exp().log1p() + (-x).clamp(min=0))
        slope = -x if positive is None else (log_s - x) - positive * log_s
        slope = slope if weight is None else slope * weight
        to_t = slope * _scaled(grad, reduction, max(slope.numel(), t.numel()))
    return to_x, to_t


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """binary_cross_entropy(sigmoid(x), t) without overflow. `pos_weight` (broadcast) weighs the positive class.

    Raises ValueError for sizes that differ, RuntimeError for a target that is not floating point.
    """
    check_reduction(reduction)
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if not target.is_floating_point():
        raise RuntimeError(
            f"result type {input.dtype.title} can't be cast to the desired output type {target.dtype.title}"
        )
    x, t, k = _operands("bce_logits", input, target)
    out = wrap(k.forward("bce_logits", x, t, reduction, _array(weight, x), _array(pos_weight, x)))
    if recording(input, target):
        saved = (input, target, weight, pos_weight)
        record(out, BinaryCrossEntropyWithLogitsBackward0, (input, target), saved=saved, ctx=reduction)
    return out


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence t (log t - x) of log-probabilities x from probabilities t (or, with
    `log_target`, log-probabilities). "batchmean" divides the sum by the first size; "mean" by the number of
    elements."""
    if reduction != "batchmean":
        check_reduction(reduction)
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = target.xlogy(target) - target * input
    if reduction == "batchmean":
        return loss.sum() / (input.shape[0] if input.ndim else 1)
    return _reduced(loss, reduction)
