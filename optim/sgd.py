"""Stochastic gradient descent, https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html"""
from __future__ import annotations

from typing import Any

from tritium.optim.optimizer import Closure, Optimizer, Params, check, check_fused, check_lr, scalar
from tritium.tensor.ops.optimizer import is_capturing, update
from tritium.tensor.tensor import Tensor


class SGD(Optimizer):
    """Gradient descent with momentum (Sutskever et al. 2013) and L2 weight decay.

        g <- grad + weight_decay p                     (-grad with ``maximize``)
        b <- momentum b + (1 - dampening) g            (b <- g at a parameter's first step)
        p <- p - lr b                                  (p - lr (g + momentum b) with ``nesterov``)

    Every update is one pass whether ``foreach`` and ``fused`` are set or not; a fused one also takes the scale of a
    gradient scaler. ``lr`` may be a tensor; one on cuda stays there, so that a captured CUDA graph follows it. Raises
    ValueError for negative options, and for Nesterov without momentum or with dampening.
    """

    def __init__(self, params: Params, lr: float | Any = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float | Any = 0, nesterov: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, differentiable: bool = False, fused: bool | None = None) -> None:
        check_lr(lr)
        check(momentum >= 0.0, f"Invalid momentum value: {momentum}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        check(not nesterov or (momentum > 0 and dampening == 0),
              "Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening,
                                  "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize,
                                  "foreach": foreach, "differentiable": differentiable, "fused": fused})
        check_fused(self, fused, foreach, differentiable)

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            momentum, lr = scalar(group["momentum"]), group["lr"]
            lr = lr if isinstance(lr, Tensor) and lr.is_cuda else scalar(lr)
            fresh, buffers = [False] * len(params), None
            if momentum:
                fresh = [self.state[p].get("momentum_buffer") is None for p in params]
                if any(fresh) and is_capturing():  # at every replay anew? zeros are the same, if nothing is dampened
                    if group["dampening"]:
                        raise RuntimeError("SGD with dampening: make a step before the capture of a CUDA graph")
                    fresh = [False] * len(params)
                buffers = self._states(params, "momentum_buffer")
            update("sgd", params, grads, [buffers], [fresh], lr=lr, momentum=momentum,
                   dampening=scalar(group["dampening"]), weight_decay=scalar(group["weight_decay"]),
                   nesterov=group["nesterov"], maximize=group["maximize"], **self._scaler(group))
        return loss
