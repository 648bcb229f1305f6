"""Element-wise losses: each is one kernel with its reduction, and one for its derivative.

`reduction` is "none", "mean" or "sum". https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions

Where the derivative is to be differentiated again it is written with ordinary ops instead: `SLOPES` has the derivatives
by x and t of one element. PyTorch makes some of these losses of several ops; the node here has the name of the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes
from tritium.tensor.ops.pointwise import node_kind, sigmoid, where
from tritium.tensor.promotion import cast_operands, result_type
from tritium.tensor.tensor import Tensor

FUNCTIONS = ["binary_cross_entropy_with_logits", "hinge_embedding_loss", "kl_div", "poisson_nll_loss"]

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: str) -> None:
    """Raises ValueError for an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")


# ------------------------------------------------------------------------------------------- derivatives as ops


def _weighed(slope: Tensor, weight: Tensor | None) -> Tensor:
    return slope if weight is None else slope * weight


def _bce_x(x: Tensor, t: Tensor, weight: Tensor | None) -> Tensor:
    return _weighed((x - t) / ((1 - x) * x).clamp(min=1e-12), weight)


def _bce_t(x: Tensor, t: Tensor, weight: Tensor | None) -> Tensor:
    return _weighed((1 - x).log().clamp(min=-100) - x.log().clamp(min=-100), weight)


def _logits_x(x: Tensor, t: Tensor, weight: Tensor | None, positive: Tensor | None) -> Tensor:
    s = sigmoid(x)
    return _weighed(s - t if positive is None else (positive * t + 1 - t) * s - positive * t, weight)


def _logits_t(x: Tensor, t: Tensor, weight: Tensor | None, positive: Tensor | None) -> Tensor:
    # the derivative by t is log sigmoid(-x) - p log sigmoid(x), and they differ by x
    log_s = -((-x.abs()).exp().log1p() + (-x).clamp(min=0))
    return _weighed(-x if positive is None else (log_s - x) - positive * log_s, weight)


def _hinge_x(x: Tensor, t: Tensor, margin: float) -> Tensor:
    return (t != -1).to(x.dtype) - ((t != 1) & (x <= margin)).to(x.dtype)


def _stirling(t: Tensor) -> Tensor:
    return (t.log() + 0.5 / t).masked_fill(t <= 1, 0)


Slope = Callable[..., Tensor]
SLOPES: dict[str, tuple[Slope, Slope | None]] = {  # by x and by t; None: the negative of that by x
    "mse": (lambda x, t: (x - t) * 2, None),
    "l1": (lambda x, t: (x - t).sign(), None),
    "smooth_l1": (lambda x, t, beta: ((x - t) / beta).clamp(-1, 1), None),
    "huber": (lambda x, t, delta: (x - t).clamp(-delta, delta), None),
    "bce": (_bce_x, _bce_t),
    "bce_logits": (_logits_x, _logits_t),
    "kl": (lambda x, t: -t, lambda x, t: t.log() + t / t - x),
    "kl_log": (lambda x, t: -t.exp(), lambda x, t: t.exp() * (t - x + 1)),
    "soft_margin": (lambda x, t: -t * sigmoid(-t * x), None),  # the targets of these two have no gradient
    "hinge": (_hinge_x, None),
    "poisson": (lambda x, t, eps: 1 - t / (x + eps), lambda x, t, eps: -(x + eps).log()),
    "poisson_log": (lambda x, t: x.exp() - t, lambda x, t: -x),
    "poisson_full": (lambda x, t, eps: 1 - t / (x + eps), lambda x, t, eps: _stirling(t) - (x + eps).log()),
    "poisson_log_full": (lambda x, t: x.exp() - t, lambda x, t: _stirling(t) - x),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- launch


def operands(name: str, input: Tensor, target: Tensor) -> tuple[Any, Any, Any]:
    """Both arrays in one floating point dtype and one shape, and their kernels; PyTorch's errors."""
    dt = result_type(input, target)
    if not dt.is_floating_point:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{dt.title}'")
    x, t = cast_operands(dt, input, target)
    if x.shape != t.shape:
        shape = broadcast_shapes(x.shape, t.shape)
        x, t = of(x).memory.broadcast_to(x, shape), of(t).memory.broadcast_to(t, shape)
    return x, t, of(x).loss


def _array(t: Tensor | None, like: Any) -> Any:
    return None if t is None else t._a.astype(like.dtype, copy=False)


def _node(name: str, loss: str) -> type[Node]:
    by_x, by_t = SLOPES[loss]

    def backward(self: Any, grad: Tensor) -> Any:
        x, t, *weights = self.unpack()
        reduction, count, numbers = self.ctx
        needs_x, needs_t = self.needs
        if mode.enabled:
            shape = broadcast_shapes(x._a.shape, t._a.shape)
            for w in weights:
                shape = shape if w is None else broadcast_shapes(shape, w._a.shape)
            g = grad / (count or max(math.prod(shape), 1)) if reduction == "mean" else grad
            g = g.expand(shape)  # a derivative may look at one of two operands alone, and that may be smaller
            if by_t is None:
                both = by_x(x, t, *numbers) * g
                return both if needs_x else None, -both if needs_t else None
            return (by_x(x, t, *weights, *numbers) * g if needs_x else None,
                    by_t(x, t, *weights, *numbers) * g if needs_t else None)
        ax, at, k = operands(loss, x, t)
        more = (*[_array(w, ax) for w in weights], *numbers)
        dx, dt = k.backward(loss, grad._a, ax, at, reduction, *more, count=count, needs=(needs_x, needs_t))
        return None if dx is None else wrap(dx), None if dt is None else wrap(dt)

    return node_kind(name, backward)


_nodes: dict[tuple[str, str], type[Node]] = {}


def _kind(name: str, loss: str) -> type[Node]:
    found = _nodes.get((name, loss))
    if found is None:
        found = _nodes[name, loss] = _node(name, loss)
    return found


def compare(
    loss: str, node: str, input: Tensor, target: Tensor, reduction: str, numbers: tuple[float, ...] = (),
    weights: tuple[Tensor | None, ...] = (), count: int = 0,
) -> Tensor:  # fmt: skip
    """One of the losses of `kernels.loss`. `node`: the name of its node without "Backward0"; `numbers` and `weights`:
    what the loss takes beside x and t; `count`: what a mean divides by, if not the number of elements."""
    x, t, k = operands(loss, input, target)
    more = (*[_array(w, x) for w in weights], *numbers) if weights else numbers
    out = wrap(k.forward(loss, x, t, reduction, *more, count=count))
    if recording(input, target):
        record(out, _kind(node, loss), (input, target), saved=(input, target, *weights),
               ctx=(reduction, count, numbers))
    return out


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of a loss, or the loss itself."""
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _last(each: str, reduction: str) -> str:
    """The node of a loss that PyTorch makes of ops."""
    return {"none": each, "mean": "MeanBackward0", "sum": "SumBackward0"}[reduction]


# ------------------------------------------------------------------------------------------------------- losses


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - t)^2."""
    if amp.on and (r := amp.run("mse_loss", mse_loss, input, target, reduction)) is not None:
        return r
    check_reduction(reduction)
    return compare("mse", "MseLossBackward0", input, target, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x - t|."""
    if amp.on and (r := amp.run("l1_loss", l1_loss, input, target, reduction)) is not None:
        return r
    check_reduction(reduction)
    if not result_type(input, target).is_floating_point:
        return reduced((input - target).abs(), reduction)
    return compare("l1", _last("AbsBackward0", reduction), input, target, reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """(x - t)^2 / (2 beta) near 0, |x - t| - beta / 2 outside [-beta, beta]. Raises RuntimeError for a negative
    beta."""
    if amp.on and (r := amp.run("smooth_l1_loss", smooth_l1_loss, input, target, reduction, beta)) is not None:
        return r
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction)
    check_reduction(reduction)
    return compare("smooth_l1", "SmoothL1LossBackward0", input, target, reduction, (beta,))


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """(x - t)^2 / 2 near 0, delta (|x - t| - delta / 2) outside [-delta, delta]. Raises RuntimeError unless delta >
    0."""
    if amp.on and (r := amp.run("huber_loss", huber_loss, input, target, reduction, delta)) is not None:
        return r
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    check_reduction(reduction)
    return compare("huber", "HuberLossBackward0", input, target, reduction, (delta,))


def _refuse_gradient(name: str, argument: str, weight: Tensor | None) -> None:
    if weight is not None and weight._rg and mode.enabled:
        raise RuntimeError(
            f"The function '{name}' is not differentiable with respect to argument '{argument}'. This input cannot "
            "have requires_grad True."
        )


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) for probabilities x and t; logarithms are at least -100. `weight` rescales
    elements.

    Raises ValueError for sizes that differ, RuntimeError for another dtype than the input's or values outside [0, 1].
    """
    if amp.on and (r := amp.run("binary_cross_entropy", binary_cross_entropy, input, target, weight,
                                reduction)) is not None:
        return r
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
    bad_input, bad_target = of(x).loss.outside(x, t)
    if bad_input or bad_target:
        raise RuntimeError(f"all elements of {'input' if bad_input else 'target'} should be between 0 and 1")
    _refuse_gradient("binary_cross_entropy", "weight", weight)
    return compare("bce", "BinaryCrossEntropyBackward0", input, target, reduction, (), (weight,))


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
    if amp.on and (r := amp.run("binary_cross_entropy_with_logits", binary_cross_entropy_with_logits, input, target,
                                weight, pos_weight, reduction)) is not None:
        return r
    check_reduction(reduction)
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if not target.is_floating_point():
        raise RuntimeError(
            f"result type {input.dtype.title} can't be cast to the desired output type {target.dtype.title}"
        )
    _refuse_gradient("binary_cross_entropy_with_logits", "weight", weight)
    _refuse_gradient("binary_cross_entropy_with_logits", "pos_weight", pos_weight)
    weights = (weight, pos_weight)
    return compare("bce_logits", "BinaryCrossEntropyWithLogitsBackward0", input, target, reduction, (), weights)


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence t (log t - x) of log-probabilities x from probabilities t (or, with
    `log_target`, log-probabilities). "batchmean" divides the sum by the first size; "mean" by the number of
    elements. Raises RuntimeError for integers."""
    if amp.on and (r := amp.run("kl_div", kl_div, input, target, reduction, log_target)) is not None:
        return r
    if reduction != "batchmean":
        check_reduction(reduction)
    if not (input.is_floating_point() and target.is_floating_point()):
        raise RuntimeError("kl_div: Integral inputs not supported.")
    loss, each = ("kl_log", "MulBackward0") if log_target else ("kl", "SubBackward0")
    if reduction != "batchmean":
        return compare(loss, _last(each, reduction), input, target, reduction)
    if not input._a.ndim:
        return compare(loss, "SumBackward0", input, target, "sum")
    if not input._a.shape[0]:
        return compare(loss, "SumBackward0", input, target, "sum") / 0
    return compare(loss, "DivBackward0", input, target, "mean", count=input._a.shape[0])


def soft_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-t x)) with t = 1 or -1."""
    if amp.on and (r := amp.run("soft_margin_loss", soft_margin_loss, input, target, reduction)) is not None:
        return r
    check_reduction(reduction)
    dt = result_type(input, target)
    if not dt.is_floating_point:
        raise RuntimeError(f"result type Float can't be cast to the desired output type {dt.title}")
    _refuse_gradient("soft_margin_loss", "target", target)
    return compare("soft_margin", "SoftMarginLossBackward0", input, target, reduction)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where t = 1, max(0, margin - x) where t = -1."""
    if amp.on and (r := amp.run("hinge_embedding_loss", hinge_embedding_loss, input, target, margin,
                                reduction)) is not None:
        return r
    check_reduction(reduction)
    if result_type(input, target).is_floating_point:
        return compare("hinge", _last("AddBackward0", reduction), input, target.detach(), reduction, (margin,))
    far = where(target != 1, (margin - input).clamp_min(0), 0)
    return reduced(far + where(target != -1, input, 0), reduction)


def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """exp(x) - t x, or, unless `log_input`, x - t log(x + eps). `full`: with Stirling's approximation of log t!,
    t log t - t + log(2 pi t) / 2 where t > 1."""
    if amp.on and (r := amp.run("poisson_nll_loss", poisson_nll_loss, input, target, log_input, full, eps,
                                reduction)) is not None:
        return r
    check_reduction(reduction)
    if not result_type(input, target).is_floating_point:
        input = input * 1.0
    loss = "poisson" + "_log" * log_input + "_full" * full
    each = "AddBackward0" if full else "SubBackward0"
    return compare(loss, _last(each, reduction), input, target, reduction, () if log_input else (eps,))
