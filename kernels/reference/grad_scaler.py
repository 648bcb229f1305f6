"""Gradient scaling for mixed precision: unscale-and-check, and the update of the scale.

    unscale         found <- 1 if any g is not finite,  g <- g / scale           (as a product with 1 / scale)
    update_scale    found:      scale <- backoff scale,  tracker <- 0
                    otherwise:  tracker <- tracker + 1;  at ``interval``: scale <- growth scale, if finite, tracker <- 0

The numbers are arrays of no dimensions where the gradients live, so that nobody waits for the device.
Micikevicius et al. 2018, "Mixed Precision Training" (arXiv:1710.03740)
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritium.kernels.reference.optimizer import _pieces
from tritium.kernels.reference.quiet import quiet

Array = Any


@quiet
def unscale(grads: Sequence[Array], found: Array, inverse: Array) -> None:
    """Multiply floating point arrays, in place, by ``inverse`` (float32), and set ``found`` (float32) to 1 if one of
    their elements was infinite or nan before. With an ``inverse`` of 1 they are looked at only."""
    factor = float(inverse)
    for grad in grads:
        for g, *_ in _pieces([], [grad]) if factor == 1.0 else _pieces([grad], []):
            if not (np.isfinite(g.min()) and np.isfinite(g.max())):
                found[...] = 1.0
            if factor != 1.0:
                np.multiply(g, factor, out=g)


@quiet
def update_scale(scale: Array, tracker: Array, found: Array, growth: float, backoff: float, interval: int) -> None:
    """Make ``scale`` (float32) smaller where ``found`` is not 0, larger after ``interval`` updates without; ``tracker``
    (int32) counts those."""
    if found != 0:
        scale[...] = float(scale) * backoff
        tracker[...] = 0
        return
    if int(tracker) + 1 == interval:
        grown = np.float32(float(scale) * growth)
        if np.isfinite(grown):
            scale[...] = grown
        tracker[...] = 0
    else:
        tracker[...] += 1
