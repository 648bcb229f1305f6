"""In-place parameter updates for ``tritium.optim``: from tensors to the arrays of ``kernels``, outside the graph."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritium import kernels
from tritium.tensor.graph import bump
from tritium.tensor.tensor import Tensor


def update(kernel: str, params: Sequence[Tensor], grads: Sequence[Tensor],
           states: Sequence[Sequence[Tensor] | None] = (), numbers: Sequence[Sequence[Any]] = (),
           **options: Any) -> None:
    """Run one update of ``kernels.optimizer`` over a list of parameters, and count it as an in-place change.

    ``kernel`` is the function's name (``"sgd"``, ``"adam"`` ...). ``states`` are its lists of state tensors (each of
    the parameter's shape, or None where the variant has none), ``numbers`` its lists of numbers, one entry per
    parameter; ``options`` are its keyword arguments. Parameters and states are written, gradients only read.
    Parameters on several devices are grouped."""
    sides: dict[int, tuple[Any, list[int]]] = {}
    for i, p in enumerate(params):
        side = kernels.of(p._a)
        sides.setdefault(id(side), (side, []))[1].append(i)
    for side, members in sides.values():
        getattr(side.optimizer, kernel)(
            [params[i]._a for i in members], [grads[i]._a for i in members],
            *[None if state is None else [state[i]._a for i in members] for state in states],
            *[[values[i] for i in members] for values in numbers], **options)
    for tensors in (params, *states):
        for t in tensors or ():
            bump(t)


def count(steps: Sequence[Tensor]) -> list[float]:
    """Add one to each step counter (tensors of no dimensions, kept in host memory) and return the new values."""
    values = []
    for step in steps:
        step._a[...] += 1
        bump(step)
        values.append(float(step._a))
    return values
