"""Weights of convolutions made ready once and used many times, while no gradients are recorded.

A weight is transformed for the convolution's algorithms (and a batch norm is folded into it) when it is first met:
which algorithm is chosen, and so the last bits of the result, must not depend on how often it was used. A change is
noticed by the count of writes to its memory and, where NumPy or another library shares the memory and may write
uncounted, by comparing the contents. A captured graph makes its weights ready at every replay, and what was kept of
device memory before a replay is not used after it: the graph may have written there.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np

from tritium.kernels import is_host, of
from tritium.kernels.runtime.state import current, replays
from tritium.tensor.graph import memory_of
from tritium.tensor.tensor import Tensor


class _State:
    """What a tensor held when it was looked at. Equal to a later look if it cannot have changed."""

    __slots__ = ("array", "copy", "replays", "writes")

    def __init__(self, t: Tensor) -> None:
        memory = memory_of(t)
        self.array, self.writes = t._a, memory.writes
        host = is_host(t._a)
        self.copy = np.array(t._a) if memory.held and host else None
        self.replays = -1 if host else replays.count

    def holds(self, t: Tensor) -> bool:
        """Whether ``t`` is as it was."""
        memory = memory_of(t)
        if t._a is not self.array or memory.writes != self.writes or self.replays not in (-1, replays.count):
            return False
        if not memory.held:
            return True
        # Shared only since, or on a device: what was read before cannot be told from what is there now.
        return self.copy is not None and _same_bytes(self.copy, t._a)


def _same_bytes(a: Any, b: Any) -> bool:
    """Whether two arrays of one shape and dtype hold the same bits."""
    if a.itemsize in (1, 2, 4, 8):
        bits = f"u{a.itemsize}"
        return bool((a.view(bits) == b.view(bits)).all())
    return a.tobytes() == b.tobytes()


class _Entry:
    __slots__ = ("bias", "key", "prepared", "states", "weight")

    def __init__(self, weight: Any, key: Any, states: list[_State], prepared: Any, bias: Any) -> None:
        self.weight, self.key, self.states = weight, key, states
        self.prepared, self.bias = prepared, bias


_entries: dict[int, _Entry] = {}


def ready(weight: Tensor, bias: Tensor | None, bn: Any, groups: int, dtype: Any = None) -> tuple[Any, Any]:
    """(weight for the convolution kernel, bias array or None), with a batch norm folded in.

    ``bn``: None or (weight, bias, mean, var, eps), the first two may be None. ``dtype``: the (NumPy) dtype of the
    convolution, if it is not the weight's."""
    sources = [t for t in (weight, bias, *(bn[:4] if bn is not None else ())) if t is not None]
    key = (groups, dtype, None if bn is None else bn[4], tuple([id(t) for t in sources]))
    captured = current.capture is not None
    entry = None if captured else _entries.get(id(weight))
    if entry is not None and entry.weight() is weight and entry.key == key:
        if all([s.holds(t) for s, t in zip(entry.states, sources, strict=True)]):
            return entry.prepared, entry.bias
    states = [] if captured else [_State(t) for t in sources]
    norm = None if bn is None else (*[_array(t) for t in bn[:4]], bn[4])
    w, b = weight._a, _array(bias)
    if dtype is not None:
        w = of(w).pointwise.cast(w, dtype)
        b = b if b is None or bn is not None else of(b).pointwise.cast(b, dtype)
    prepared, b = of(w).conv.folded(w, groups, b, norm)
    if captured:
        return prepared, b
    number = id(weight)
    _entries[number] = _Entry(ref(weight, lambda gone: _entries.pop(number, None)), key,
                              states, prepared, b)
    return prepared, b


def _array(t: Tensor | None) -> Any:
    return None if t is None else t._a
