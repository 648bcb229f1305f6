"""LARS: layer-wise adaptive rates, You, Gitman and Ginsburg 2017, arXiv:1708.03888."""
from __future__ import annotations

from typing import Any

from tritium.optim.optimizer import Closure, Optimizer, Params, check, check_lr, scalar
from tritium.tensor.ops.optimizer import update
from tritium.tensor.tensor import Tensor


class LARS(Optimizer):
    """Momentum SGD in which every tensor gets a rate in proportion to its own size (Algorithm 1 of the paper).

        r = trust_coefficient |p| / (|g| + weight_decay |p| + eps)
        b <- momentum b + r (g + weight_decay p)
        p <- p - lr b                                  (p - lr (r (g + weight_decay p) + momentum b) with ``nesterov``)

    |.| is the Euclidean norm of the whole tensor; r is 1 where |p| or |g| is zero. As in ``SGD`` the learning rate
    stands outside of the momentum: for a constant rate that is the paper's update, and a rate that changes acts on the
    whole step at once. With ``exclude_1d`` (the usual practice) tensors of fewer than two dimensions - biases, the
    scales of normalisations - take r = 1 and no weight decay. State: ``momentum_buffer``.

    Raises ValueError for negative options, and for Nesterov without momentum.
    """

    def __init__(self, params: Params, lr: float | Any = 0.1, momentum: float = 0.9, weight_decay: float = 0, *,
                 trust_coefficient: float = 0.001, eps: float = 1e-8, nesterov: bool = False, maximize: bool = False,
                 exclude_1d: bool = True) -> None:
        check_lr(lr)
        check(momentum >= 0.0, f"Invalid momentum value: {momentum}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        check(trust_coefficient >= 0.0, f"Invalid trust_coefficient value: {trust_coefficient}")
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        check(not nesterov or momentum > 0, "Nesterov momentum requires a momentum")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay,
                                  "trust_coefficient": trust_coefficient, "eps": eps, "nesterov": nesterov,
                                  "maximize": maximize, "exclude_1d": exclude_1d})

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            lr = group["lr"]
            lr = lr if isinstance(lr, Tensor) and lr.is_cuda else scalar(lr)
            adapted = [p.ndim > 1 or not group["exclude_1d"] for p in params]
            update("lars", params, grads, [self._states(params, "momentum_buffer")], [adapted],
                   lr=lr, momentum=group["momentum"], weight_decay=group["weight_decay"],
                   trust_coefficient=group["trust_coefficient"], eps=group["eps"], nesterov=group["nesterov"],
                   maximize=group["maximize"])
        return loss
