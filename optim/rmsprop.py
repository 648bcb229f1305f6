"""RMSprop, https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html"""
from __future__ import annotations

from typing import Any

from tritium.optim.optimizer import Closure, Optimizer, Params, check, check_lr, rate
from tritium.tensor.ops.optimizer import update


class RMSprop(Optimizer):
    """Gradient over the root of its mean square (Hinton, lecture 6e); ``centered``: over its standard deviation
    (Graves 2013, arXiv:1308.0850).

        v <- alpha v + (1 - alpha) g^2,  p <- p - lr g / (sqrt(v) + eps)         (eps is added after the root)

    With ``momentum``, b <- momentum b + g / (sqrt(v) + eps) and p <- p - lr b. State: ``step``, ``square_avg``, and
    ``momentum_buffer``, ``grad_avg`` where used. Raises ValueError for options out of range."""

    def __init__(self, params: Params, lr: float | Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        check(momentum >= 0.0, f"Invalid momentum value: {momentum}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        check(alpha >= 0.0, f"Invalid alpha value: {alpha}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
                                  "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
                                  "maximize": maximize, "differentiable": differentiable})

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            steps = self._steps(params, group)
            squares = self._states(params, "square_avg")
            buffers = self._states(params, "momentum_buffer") if group["momentum"] > 0 else None
            means = self._states(params, "grad_avg") if group["centered"] else None
            update("rmsprop", params, grads, [squares, means, buffers],
                   [steps if group["capturable"] else None], lr=rate(group), alpha=group["alpha"],
                   eps=group["eps"], weight_decay=group["weight_decay"], momentum=group["momentum"],
                   maximize=group["maximize"])
        return loss
