"""Where gradients arrive: hooks of leaves, and the adding up into ``grad``.

A leaf takes a gradient that nobody else can see as its ``grad``, and copies any other: one that the caller brought,
that a hook kept, that waits for another leaf, or that shares its memory with something. Who can see it, the reference
counts tell. As in PyTorch, a ``grad`` has the strides of its leaf where those leave no gaps.
"""
from __future__ import annotations

from sys import getrefcount
from typing import Any

import numpy as np

from tritium.autograd import hooks
from tritium.kernels import beside, is_host, of
from tritium.tensor.graph import Node, wrap
from tritium.tensor.layout import array_like
from tritium.tensor.tensor import Tensor


def _counts(cell: list[Any]) -> tuple[int, int, int]:
    """How often the gradient in a cell, its array and the owner of its memory are referred to."""
    g = cell[0]
    root = g._a.base
    return getrefcount(g), getrefcount(g._a), 0 if root is None else getrefcount(root)


def _held(view: bool) -> tuple[int, int, int]:
    array = np.empty((2, 3), np.float32)
    cell = [wrap(array.T if view else array)]
    del array
    return _counts(cell)


# What the counts are when nobody else holds anything: measured, as it depends on the interpreter.
_ALONE, _ALONE_VIEW = _held(False), _held(True)


def _is_alone(cell: list[Any]) -> bool:
    """Whether the gradient in a cell, and the memory behind it, is visible from nowhere else."""
    counts = _counts(cell)
    base = cell[0]._base
    if base is None:
        return counts == _ALONE or (counts == _ALONE_VIEW and _is_own(cell[0]._a))
    # a view: its base tensor, held by the view alone, holds the memory once more
    return (counts[0] == _ALONE[0] and counts[1] == _ALONE[1] and counts[2] == _ALONE_VIEW[2] + 1
            and _is_own(cell[0]._a) and base._base is None and getrefcount(base) == _BASE_ALONE)


def _is_own(a: Any) -> bool:
    """Whether the memory of an array is NumPy's or a block of a device, of which every user is counted."""
    return not is_host(a) or type(a.base) is np.ndarray


def _held_base() -> int:
    view = wrap(np.empty(2))
    view._base = wrap(np.empty(2))
    base = view._base
    return getrefcount(base)


_BASE_ALONE = _held_base()


def _same_strides(a: Any, b: Any) -> bool:
    return a.strides == b.strides or all(
        s == t for n, s, t in zip(a.shape, a.strides, b.strides, strict=True) if n != 1)


def _own(leaf: Tensor, cell: list[Any]) -> Tensor:
    """The gradient in the cell, or a copy, as a tensor for the leaf alone."""
    alone = _is_alone(cell)
    g = cell[0]
    a = g._a
    if g._free and leaf._a.flags.c_contiguous:
        out = wrap(a if alone else a.copy("K"))
        out._free = True  # contiguous as soon as somebody looks
        return out
    if _same_strides(a, leaf._a) and 0 not in a.strides:
        return wrap(a if alone else a.copy("K"))
    out = wrap(array_like(leaf._a, a.dtype, beside(a).empty))
    of(a).copy.copy_into(out._a, a)
    return out


class Leaves:
    """The leaves of one backward pass.

    ``wanted``: ids of the leaves whose gradients are asked for (all when None); ``captured``: where they go when they
    are not to be added to ``grad`` (when ``accumulate`` is off); ``record``: the pass is recorded itself."""

    def __init__(self, wanted: Any, captured: dict[Any, Tensor], accumulate: bool, record: bool) -> None:
        self.wanted, self.captured, self.accumulate, self.record = wanted, captured, accumulate, record
        self.waiting: dict[int, list[Any]] = {}  # hooked leaf -> [leaf, sum so far, gradients still to come]

    def expect(self, starts: list[Any], needed: set[int] | None) -> None:
        """Count the gradients that each leaf with hooks will get, as its hooks see their sum."""
        if not hooks.any_on_leaves:
            return
        seen: set[int] = set()
        stack: list[Any] = []

        def visit(edges: Any) -> None:
            for e in edges:
                if e is None:
                    continue
                target = e[0]
                if isinstance(target, Node):
                    if id(target) not in seen and (needed is None or id(target) in needed):
                        seen.add(id(target))
                        stack.append(target)
                elif target._hooks or target._after_hooks:
                    self.waiting.setdefault(id(target), [target, None, 0])[2] += 1

        visit(starts)
        while stack:
            visit(stack.pop().edges)

    def missing(self, edges: Any, grads: Any) -> None:
        """A node gave no gradient for some of its inputs: leaves behind them wait for fewer."""
        for e, g in zip(edges, grads, strict=True):
            if g is None and e is not None and id(e[0]) in self.waiting:
                self._came(self.waiting[id(e[0])])

    def arrive(self, leaf: Tensor, cell: list[Any]) -> None:
        """Take the gradient in ``cell``, a list that alone holds it."""
        if self.wanted is not None and id(leaf) not in self.wanted:
            return
        entry = self.waiting.get(id(leaf))
        if entry is not None:
            g = cell.pop()
            entry[1] = g if entry[1] is None else entry[1] + g
            del g
            self._came(entry)
        else:
            self._add(leaf, cell)

    def _came(self, entry: list[Any]) -> None:
        entry[2] -= 1
        if entry[2] == 0 and entry[1] is not None:
            self._finish(entry)

    def flush(self) -> None:
        """The pass is over: leaves that still wait get what came."""
        for entry in list(self.waiting.values()):
            if entry[1] is not None:
                self._finish(entry)

    def _finish(self, entry: list[Any]) -> None:
        leaf, cell = entry[0], [entry[1]]
        entry[1] = None
        if leaf._hooks:
            for hook in list(leaf._hooks.values()):
                r = hook(cell[0])
                if r is not None:
                    cell[0] = hooks.checked(hook, cell[0], r)
                del r
        self._add(leaf, cell)
        if leaf._after_hooks and self.accumulate:
            for hook in list(leaf._after_hooks.values()):
                hook(leaf)

    def _add(self, leaf: Tensor, cell: list[Any]) -> None:
        if not self.accumulate:
            have = self.captured.get(id(leaf))
            self.captured[id(leaf)] = cell[0] if have is None else have + cell[0]
            return
        have = leaf._grad
        if have is None:
            leaf._grad = cell[0].clone() if self.record else _own(leaf, cell)
        elif self.record:
            leaf._grad = have + cell[0]
        else:
            have.add_(cell[0])
