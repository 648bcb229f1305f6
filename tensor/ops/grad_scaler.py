"""Gradient scaling for ``tritium.optim.grad_scaler``: from tensors to the arrays of ``kernels``, outside the graph."""
from __future__ import annotations

from collections.abc import Sequence

from tritium.kernels import of
from tritium.tensor.graph import bump, materialize
from tritium.tensor.tensor import Tensor


def unscale(grads: Sequence[Tensor], found: Tensor, inverse: Tensor) -> None:
    """Multiply the gradients of one device, in place, by ``inverse`` and set ``found`` to 1 if one of their elements
    was not finite: float32 tensors of no dimensions on that device.

    Raises NotImplementedError for other gradients than floating point ones."""
    for g in grads:
        if not g.is_floating_point():
            raise NotImplementedError('"_amp_foreach_non_finite_check_and_unscale" not implemented for '
                                      f"'{g.dtype.title}'")
        materialize(g)
    of(found._a).grad_scaler.unscale([g._a for g in grads], found._a, inverse._a)
    for t in (*grads, found):
        bump(t)


def update_scale(scale: Tensor, tracker: Tensor, found: Tensor, growth: float, backoff: float, interval: int) -> None:
    """The scale of the next iteration, in place, on its device."""
    of(scale._a).grad_scaler.update_scale(scale._a, tracker._a, found._a, growth, backoff, interval)
    bump(scale)
    bump(tracker)
