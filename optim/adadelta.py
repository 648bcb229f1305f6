"""Adadelta, https://docs.pytorch.org/docs/stable/generated/torch.optim.Adadelta.html"""
from __future__ import annotations

from typing import Any

from tritium.optim.optimizer import Closure, Optimizer, Params, check, check_lr, rate
from tritium.tensor.ops.optimizer import update


class Adadelta(Optimizer):
    """Adaptive rates in the parameter's own unit (Zeiler 2012, arXiv:1212.5701).

        v <- rho v + (1 - rho) g^2,  d = sqrt(u + eps) / sqrt(v + eps) g,  u <- rho u + (1 - rho) d^2,  p <- p - lr d

    State: ``step``, ``square_avg`` (v), ``acc_delta`` (u). Raises ValueError for options out of range."""

    def __init__(self, params: Params, lr: float | Any = 1.0, rho: float = 0.9, eps: float = 1e-6,
                 weight_decay: float = 0, foreach: bool | None = None, *, capturable: bool = False,
                 maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        check(0.0 <= rho <= 1.0, f"Invalid rho value: {rho}")
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay,
                                  "maximize": maximize, "capturable": capturable, "foreach": foreach,
                                  "differentiable": differentiable})

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            steps = self._steps(params, group)
            update("adadelta", params, grads, [self._states(params, "square_avg"), self._states(params, "acc_delta")],
                   [steps if group["capturable"] else None], lr=rate(group), rho=group["rho"],
                   eps=group["eps"], weight_decay=group["weight_decay"],
                   maximize=group["maximize"])
        return loss
