"""Hooks on tensors: run when their gradient is known."""
from __future__ import annotations

from typing import Any
from weakref import ref

from tritium.tensor.graph import HookHandle, edge
from tritium.tensor.tensor import Tensor

any_on_leaves = False  # whether a leaf ever got a hook: the engine then counts what each will receive
RETAIN = -1  # the place of ``retain_grad`` among a tensor's hooks: always the last to run


def _hooks_of(t: Tensor) -> dict[int, Any]:
    global any_on_leaves
    e = edge(t)
    if e is None:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if e[0] is t:
        any_on_leaves = True
        if t._hooks is None:
            t._hooks = {}
        return t._hooks
    node, output = e
    if node.tensor_hooks is None:
        node.tensor_hooks = {}
    return node.tensor_hooks.setdefault(output, {})


def register_tensor_hook(t: Tensor, hook: Any) -> HookHandle:
    """See ``Tensor.register_hook``."""
    return HookHandle(_hooks_of(t), hook)


def checked(hook: Any, before: Tensor, after: Any) -> Tensor:
    """What a hook returned instead of a gradient.

    Raises TypeError when it is no tensor, RuntimeError when it has another shape or dtype."""
    if not isinstance(after, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(after).__name__}'")
    name = getattr(hook, "__name__", "unknown")
    if after._a.dtype != before._a.dtype:
        raise RuntimeError(f"hook '{name}' has changed the type of value (was {before.type()} got {after.type()})")
    if after._a.shape != before._a.shape:
        raise RuntimeError(f"hook '{name}' has changed the size of value")
    return after


def run_tensor_hooks(hooks: dict[int, Any], grad: Tensor) -> Tensor:
    """The gradient after all hooks of a tensor."""
    for place, hook in list(hooks.items()):
        if place != RETAIN:
            r = hook(grad)
            if r is not None:
                grad = checked(hook, grad, r)
    keep = hooks.get(RETAIN)
    if keep is not None:
        keep(grad)
    return grad


def retain_grad(t: Tensor) -> None:
    """See ``Tensor.retain_grad``."""
    if not t._rg:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if edge(t)[0] is t or t.retains_grad:
        return
    weak = ref(t)

    def keep(g: Tensor) -> None:
        tensor = weak()
        if tensor is not None:
            tensor._grad = g.clone() if tensor._grad is None else tensor._grad + g

    t._retains_grad = True  # type: ignore[attr-defined]
    _hooks_of(t)[RETAIN] = keep


def register_post_accumulate_grad_hook(t: Tensor, hook: Any) -> HookHandle:
    """See ``Tensor.register_post_accumulate_grad_hook``."""
    global any_on_leaves
    if not t._rg or edge(t)[0] is not t:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors" if t._rg else
                           "cannot register a hook on a tensor that doesn't require gradient")
    any_on_leaves = True
    if t._after_hooks is None:
        t._after_hooks = {}
    return HookHandle(t._after_hooks, hook)
