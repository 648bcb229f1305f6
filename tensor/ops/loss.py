"""Losses and their derivatives: nll in `loss_nll.py`, cross entropy in `loss_entropy.py`, the element-wise ones in
`loss_elementwise.py`.

`reduction` is "none", "mean" or "sum". https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions
"""

from __future__ import annotations

from tritium.tensor.ops import loss_elementwise
from tritium.tensor.ops.loss_elementwise import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    check_reduction,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
)
from tritium.tensor.ops.loss_entropy import cross_entropy
from tritium.tensor.ops.loss_nll import nll_loss

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "check_reduction", "cross_entropy",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss",
    "smooth_l1_loss", "soft_margin_loss",
]  # fmt: skip
FUNCTIONS = ["nll_loss", *loss_elementwise.FUNCTIONS]
