"""The losses of `nn.functional`: the ops of `tensor/ops/loss.py` with the arguments that only this namespace has.

`size_average` and `reduce` are the older form of `reduction`; they warn.
https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from tritium.tensor.autocast import amp
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.layout import broadcast_shapes
from tritium.tensor.ops import loss as ops
from tritium.tensor.ops.loss import check_reduction
from tritium.tensor.tensor import Tensor


def legacy_reduction(size_average: Any, reduce: Any, reduction: str) -> str:
    """The `reduction` that the two older arguments stand for, with a warning; `reduction` itself when both are
    None."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        found = "none"
    else:
        found = "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{found}' instead.", stacklevel=4
    )
    return found


def _same_size(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both broadcast to one shape, with PyTorch's warning where they differ."""
    if input.shape == target.shape:
        return input, target
    warnings.warn(
        f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). This will likely "
        "lead to incorrect results due to broadcasting. Please ensure they have the same size.",
        stacklevel=3,
    )
    shape = broadcast_shapes(input.shape, target.shape)
    return input.expand(shape), target.expand(shape)


def _weighted(loss: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """The loss of each element times its weight; "mean" divides by the sum of the weights."""
    if weight is None:
        return loss
    if weight.shape != loss.shape:
        raise ValueError("Weights and input must have the same size.")
    weighted = loss * weight
    if reduction == "none":
        return weighted
    return weighted.sum() if reduction == "sum" else weighted.sum() / weight.sum()


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)^2. `weight`: one number per element; "mean" then divides by their sum."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    input, target = _same_size(input, target)
    if weight is None:
        return ops.mse_loss(input, target, reduction)
    return _weighted(ops.mse_loss(input, target, "none"), weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - t|. `weight`: one number per element; "mean" then divides by their sum."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    input, target = _same_size(input, target)
    if weight is None:
        return ops.l1_loss(input, target, reduction)
    return _weighted(ops.l1_loss(input, target, "none"), weight, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """(x - t)^2 / (2 beta) near 0, |x - t| - beta / 2 outside [-beta, beta]. Raises RuntimeError for a negative
    beta."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    input, target = _same_size(input, target)
    return ops.smooth_l1_loss(input, target, reduction, beta)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)^2 / 2 near 0, delta (|x - t| - delta / 2) outside [-delta, delta]. Raises RuntimeError unless delta >
    0."""
    check_reduction(reduction)
    input, target = _same_size(input, target)
    if weight is None:
        return ops.huber_loss(input, target, reduction, delta)
    if weight.shape != input.shape:
        raise ValueError("Weights and input must have the same size.")
    # Unlike the two losses above, PyTorch's "mean" is over the number of elements here.
    return _reduced(ops.huber_loss(input, target, "none", delta) * weight, reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-probability of the right class; see `tensor.ops.loss.nll_loss` for shapes and errors."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return ops.nll_loss(input, target, weight, ignore_index, reduction)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """log_softmax and nll_loss of scores; see `tensor.ops.loss.cross_entropy` for shapes and errors."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return ops.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) for probabilities; `weight` is broadcast to the target.

    Raises ValueError for sizes that differ, RuntimeError for values outside [0, 1] or another dtype.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if weight is not None:
        weight = weight.expand(broadcast_shapes(target.shape, weight.shape))
    return ops.binary_cross_entropy(input, target, weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(x), without overflow. Raises ValueError for sizes that differ."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return ops.binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """The divergence t (log t - x); "batchmean" divides by the batch size, which is what the formula means."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    return ops.kl_div(input, target, reduction, log_target)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    check_reduction(reduction)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def soft_margin_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """log(1 + exp(-t x)) with t = 1 or -1."""
    return ops.soft_margin_loss(input, target, legacy_reduction(size_average, reduce, reduction))


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """x where t = 1, max(0, margin - x) where t = -1."""
    return ops.hinge_embedding_loss(input, target, margin, legacy_reduction(size_average, reduce, reduction))


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: Any = None,
    eps: float = 1e-8,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - t x for x = log(rate), or, unless `log_input`, x - t log(x + eps); `full` adds Stirling's approximation
    of log t!."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return ops.poisson_nll_loss(input, target, log_input, full, eps, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log v + (x - t)^2 / v) / 2, the variance v at least `eps`; `full` adds log(2 pi) / 2.

    `var`: a number, or of the shape of `input`, or with one dimension less or of size 1. Raises ValueError for other
    shapes and for negative variances."""
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = input.detach() * 0 + var
    elif (var < 0).any():
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = var.unsqueeze(-1)
        elif input.ndim != var.ndim or sum(m for n, m in zip(input.shape, var.shape, strict=True) if n != m) != 1:
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    var = var.clone()
    with no_grad():  # the gradient passes where the variance is raised
        var.clamp_(min=eps)
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x1 - x2) + margin) with t = 1 or -1. Raises RuntimeError for different numbers of dimensions."""
    if amp.on and (r := amp.run("margin_ranking_loss", margin_ranking_loss, input1, input2, target, margin,
                                size_average, reduce, reduction)) is not None:
        return r
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.size()}, input2: {input2.size()}, target: {target.size()} "
        )
    return _reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) for pairs marked 1, max(0, cos(x1, x2) - margin) for those marked -1, 0 for others."""
    if amp.on and (r := amp.run("cosine_embedding_loss", cosine_embedding_loss, input1, input2, target, margin,
                                size_average, reduce, reduction)) is not None:
        return r
    reduction = legacy_reduction(size_average, reduce, reduction)
    epsilon = 1e-12  # under the roots, so that zero vectors have a gradient
    dot = (input1 * input2).sum(-1)
    squares1 = (input1 * input1).sum(-1) + epsilon
    squares2 = (input2 * input2).sum(-1) + epsilon
    cosine = dot / (squares1 * squares2).sqrt()
    zeros = cosine * 0
    similar = (1 - cosine).where(target == 1, zeros)
    different = (cosine - margin).clamp_min(0).where(target == -1, zeros)
    return _reduced(similar + different, reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin); `swap` also looks at |positive - negative|."""
    if amp.on and (r := amp.run("triplet_margin_loss", triplet_margin_loss, anchor, positive, negative, margin, p, eps,
                                swap, size_average, reduce, reduction)) is not None:
        return r
    reduction = legacy_reduction(size_average, reduce, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    near = (anchor - positive + eps).norm(p, -1)
    far = (anchor - negative + eps).norm(p, -1)
    if swap:
        far = far.minimum((positive - negative + eps).norm(p, -1))
    return _reduced((near - far + margin).clamp_min(0), reduction)
