"""Relatives of Adam: Adamax, NAdam and RAdam, with the options and state of ``torch.optim``."""
from __future__ import annotations

from typing import Any

from tritium.optim.adam import check_betas
from tritium.optim.optimizer import Closure, Optimizer, Params, check, check_lr, on_device, rate
from tritium.tensor.ops.optimizer import update


def _check(lr: Any, betas: Any, eps: float, weight_decay: float) -> None:
    check_lr(lr)
    check(eps >= 0.0, f"Invalid epsilon value: {eps}")
    check_betas(betas)
    check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")


class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba 2014, arXiv:1412.6980, section 7).

        m <- m + (1 - beta1) (g - m),  n <- max(beta2 n, |g| + eps),  p <- p - lr / (1 - beta1^t) m / n

    State: ``step``, ``exp_avg``, ``exp_inf``. Raises ValueError for options out of range."""

    def __init__(self, params: Params, lr: float | Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False,
                 differentiable: bool = False, capturable: bool = False) -> None:
        _check(lr, betas, eps, weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
                                  "capturable": capturable})

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            steps = self._steps(params, group)
            beta1, beta2 = group["betas"]
            update("adamax", params, grads, [self._states(params, "exp_avg"), self._states(params, "exp_inf")],
                   [steps], lr=rate(group), beta1=beta1, beta2=beta2, eps=group["eps"],
                   weight_decay=group["weight_decay"], maximize=group["maximize"])
        return loss


class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016).

    With mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), the gradient moves the parameter at the rate
    lr (1 - mu_t) / (1 - mu_1 ... mu_t), and its average at lr mu_(t+1) / (1 - mu_1 ... mu_(t+1)).
    State: ``step``, ``mu_product``, ``exp_avg``, ``exp_avg_sq``. Raises ValueError for options out of range."""

    def __init__(self, params: Params, lr: float | Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, momentum_decay: float = 4e-3,
                 decoupled_weight_decay: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False) -> None:
        _check(lr, betas, eps, weight_decay)
        check(momentum_decay >= 0.0, f"Invalid momentum_decay value: {momentum_decay}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
                                  "maximize": maximize, "foreach": foreach, "capturable": capturable,
                                  "differentiable": differentiable})

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            steps = self._steps(params, group)
            lr, (beta1, beta2), decay = rate(group), group["betas"], group["momentum_decay"]
            rates: list[Any] = self._step_counters(params, group, "mu_product", 1.0)
            if not on_device(group):
                for i, (product, step) in enumerate(zip(rates, steps, strict=True)):
                    mu = beta1 * (1.0 - 0.5 * 0.96 ** (step * decay))
                    mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * decay))
                    m = product.mul_(mu).item()
                    rates[i] = lr * (1.0 - mu) / (1.0 - m), lr * mu_next / (1.0 - m * mu_next)
            update("nadam", params, grads, [self._states(params, "exp_avg"), self._states(params, "exp_avg_sq")],
                   [steps, rates], lr=lr, beta1=beta1, beta2=beta2, eps=group["eps"],
                   weight_decay=group["weight_decay"], decoupled=group["decoupled_weight_decay"],
                   maximize=group["maximize"], momentum_decay=decay)
        return loss


class RAdam(Optimizer):
    """Adam with a rectified adaptive rate (Liu et al. 2019, arXiv:1908.03265): the first steps, in which the variance
    of the rate is not tractable (length of the average at most 5), are plain momentum.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``. Raises ValueError for options out of range."""

    def __init__(self, params: Params, lr: float | Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        _check(lr, betas, eps, weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "maximize": maximize, "foreach": foreach, "capturable": capturable,
                                  "decoupled_weight_decay": decoupled_weight_decay,
                                  "differentiable": differentiable})

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            steps = self._steps(params, group)
            beta1, beta2 = group["betas"]
            update("radam", params, grads, [self._states(params, "exp_avg"), self._states(params, "exp_avg_sq")],
                   [steps], lr=rate(group), beta1=beta1, beta2=beta2, eps=group["eps"],
                   weight_decay=group["weight_decay"], decoupled=group["decoupled_weight_decay"],
                   maximize=group["maximize"])
        return loss
