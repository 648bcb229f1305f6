"""Adagrad, https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html"""
from __future__ import annotations

from typing import Any

from tritium.optim.optimizer import (
    Closure,
    Optimizer,
    Params,
    check,
    check_fused,
    check_lr,
    on_device,
    rate,
)
from tritium.tensor.creation import full_like
from tritium.tensor.ops.optimizer import update


class Adagrad(Optimizer):
    """Adaptive subgradients (Duchi, Hazan and Singer 2011).

        s <- s + g^2,  p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)

    State, made at once for every parameter: ``step``, ``sum`` (starting at ``initial_accumulator_value``).
    Raises ValueError for options out of range."""

    def __init__(self, params: Params, lr: float | Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        check_lr(lr)
        check(lr_decay >= 0.0, f"Invalid lr_decay value: {lr_decay}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        check(initial_accumulator_value >= 0.0,
              f"Invalid initial_accumulator_value value: {initial_accumulator_value}")
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "foreach": foreach,
                                  "maximize": maximize, "differentiable": differentiable, "fused": fused})
        check_fused(self, fused, foreach, differentiable)
        for group in self.param_groups:
            self._start(group["params"], group)

    def _start(self, params: list[Any], group: dict[str, Any]) -> None:
        for p in params:
            state = self.state[p]
            if "sum" not in state:
                self._step_counters([p], group)
                state["sum"] = full_like(p.detach(), group["initial_accumulator_value"])

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            self._start(params, group)  # those of a group that was added later
            steps, lr, lr_decay = self._steps(params, group), rate(group), group["lr_decay"]
            more = {"lr": lr, "lr_decay": lr_decay, **self._scaler(group)}
            if not on_device(group):
                steps, more = [lr / (1 + (step - 1) * lr_decay) for step in steps], {}
            update("adagrad", params, grads, [self._states(params, "sum")], [steps], eps=group["eps"],
                   weight_decay=group["weight_decay"], maximize=group["maximize"], **more)
        return loss
