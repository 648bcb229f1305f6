"""In-place parameter updates for ``tritium.optim``: from tensors to the arrays of ``kernels``, outside the graph."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritium import kernels
from tritium.kernels.runtime.graphs import outside as outside  # of the graph that is being captured: for new state
from tritium.kernels.runtime.state import current
from tritium.tensor.graph import bump, wrap
from tritium.tensor.tensor import Tensor


def update(kernel: str, params: Sequence[Tensor], grads: Sequence[Tensor],
           states: Sequence[Sequence[Tensor] | None] = (), numbers: Sequence[Sequence[Any] | None] = (),
           **options: Any) -> None:
    """Run one update of ``kernels.optimizer`` over a list of parameters, and count it as an in-place change.

    ``kernel`` is the function's name (``"sgd"``, ``"adam"`` ...). ``states`` are its lists of state tensors (each of
    the parameter's shape, or None where the variant has none), ``numbers`` its lists of numbers, one entry per
    parameter: tensors of no dimensions are counted up by the update; ``options`` are its keyword arguments, of which
    some may be tensors (``lr``, ``grad_scale``, ``found_inf``). Parameters and states are written, gradients only read
    (unless there is a ``grad_scale``). Parameters on several devices are grouped."""
    sides: dict[Any, tuple[Any, list[int]]] = {}
    for i, p in enumerate(params):
        side = kernels.of(p._a)
        sides.setdefault((id(side), p.device), (side, []))[1].append(i)
    for (_, device), (side, members) in sides.items():
        given = {name: _beside(value, device) for name, value in options.items()}
        getattr(side.optimizer, kernel)(
            [params[i]._a for i in members], [grads[i]._a for i in members],
            *[None if state is None else [state[i]._a for i in members] for state in states],
            *[None if values is None else [_array(values[i]) for i in members] for values in numbers], **given)
    scaled = (grads,) if options.get("grad_scale") is not None else ()
    for tensors in (params, *states, *numbers, *scaled):
        for t in tensors or ():
            if isinstance(t, Tensor):
                bump(t)


def is_capturing() -> bool:
    """Whether this thread captures a graph."""
    return current.capture is not None


def _array(value: Any) -> Any:
    return value._a if isinstance(value, Tensor) else value


def _beside(value: Any, device: Any) -> Any:
    """An option as the kernels of a device take it: a tensor of one element on the host is a number."""
    if not isinstance(value, Tensor):
        return value
    if value.device.type == "cpu" and device.type != "cpu":
        return value.item()
    return (value if value.device == device else value.to(device))._a


def count(steps: Sequence[Tensor]) -> list[float]:
    """Add one to each step counter (tensors of no dimensions, kept in host memory) and return the new values."""
    values = []
    for step in steps:
        step._a[...] += 1
        bump(step)
        values.append(float(step._a))
    return values


def total_norm(tensors: Sequence[Tensor]) -> Tensor | None:
    """The Euclidean norm of all tensors as one vector, 0-d, in a launch or two; None where the tensors are not of one
    real floating point dtype on one device that launches kernels."""
    first = tensors[0]
    if kernels.is_host(first._a) or not _alike(tensors):
        return None
    return wrap(kernels.of(first._a).optimizer.total_norm([t._a for t in tensors]))


def scale(tensors: Sequence[Tensor], factor: Tensor) -> bool:
    """Multiply tensors in place, outside the graph, by a tensor of no dimensions, in one launch. False, and nothing is
    done, where ``total_norm`` would answer None or the factor is elsewhere or of another dtype."""
    if not tensors or kernels.is_host(tensors[0]._a) or not _alike([*tensors, factor]):
        return False
    kernels.of(factor._a).optimizer.scale([t._a for t in tensors], factor._a)
    for t in tensors:
        bump(t)
    return True


def _alike(tensors: Sequence[Tensor]) -> bool:
    """Whether all are of one real floating point dtype and on one device."""
    first = tensors[0]
    return first.is_floating_point() and all(
        [t._a.dtype == first._a.dtype and t.device == first.device for t in tensors])
