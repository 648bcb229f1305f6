"""Adam and AdamW, https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html and ...AdamW.html"""
from __future__ import annotations

from typing import Any

from tritium.optim.optimizer import Closure, Optimizer, Params, check, check_fused, check_lr, rate, scalar
from tritium.tensor.ops.optimizer import update
from tritium.tensor.tensor import Tensor


def check_betas(betas: Any) -> None:
    """Raise ValueError unless both coefficients are in [0, 1)."""
    for i, beta in enumerate(betas[:2]):
        check(0.0 <= beta < 1.0, f"Invalid beta parameter at index {i}: {beta}")


class Adam(Optimizer):
    """Adam (Kingma and Ba 2014, arXiv:1412.6980); AMSGrad (Reddi et al. 2018) with ``amsgrad``.

        m <- m + (1 - beta1) (g - m)
        v <- beta2 v + (1 - beta2) g^2                                   (AMSGrad goes on with the largest v so far)
        p <- p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)

    ``weight_decay`` is L2 (added to the gradient), or with ``decoupled_weight_decay`` shrinks the parameter itself.
    State: ``step``, ``exp_avg``, ``exp_avg_sq``, and ``max_exp_avg_sq`` with AMSGrad. With ``capturable``, or
    ``fused``, steps are counted on the device and ``lr`` may be a tensor there: then nothing in a step waits for the
    device. A ``capturable`` step can be part of a captured CUDA graph. Every update is one pass whether ``foreach``
    and ``fused`` are set or not; a fused one also takes the scale of a gradient scaler. Raises ValueError for options
    out of range.
    """

    def __init__(self, params: Params, lr: float | Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None, decoupled_weight_decay: bool = False) -> None:
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_lr(lr)
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        check_betas(betas)
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        kinds = {"float" if isinstance(b, float) else "Tensor" if isinstance(b, Tensor) else "" for b in betas}
        check(kinds in ({"float"}, {"Tensor"}), "betas must be either both floats or both Tensors")
        for i, beta in enumerate(betas):
            check(not isinstance(beta, Tensor) or beta.numel() == 1, f"Tensor betas[{i}] must be 1-element")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize, "foreach": foreach,
                                  "capturable": capturable, "differentiable": differentiable, "fused": fused,
                                  "decoupled_weight_decay": decoupled_weight_decay})
        check_fused(self, fused, foreach, differentiable)

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once; returns what the closure returns."""
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = self._active(group)
            steps = self._steps(params, group)
            states = [self._states(params, "exp_avg"), self._states(params, "exp_avg_sq"),
                      self._states(params, "max_exp_avg_sq") if group["amsgrad"] else None]
            beta1, beta2 = group["betas"]
            update("adam", params, grads, states, [steps], lr=rate(group), beta1=scalar(beta1),
                   beta2=scalar(beta2), eps=group["eps"], weight_decay=scalar(group["weight_decay"]),
                   decoupled=group["decoupled_weight_decay"], maximize=group["maximize"], **self._scaler(group))
        return loss


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101): p <- p - lr weight_decay p
    before the step of Adam."""

    def __init__(self, params: Params, lr: float | Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused,
                         decoupled_weight_decay=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # checkpoints older than this option do not name it
            group["decoupled_weight_decay"] = True
