"""Hooks on tensors: run when their gradient is known."""
from __future__ import annotations

from typing import Any
from weakref import ref

from tritium.tensor.graph import HookHandle, edge
from tritium.tensor.tensor import Tensor


def _hooks_of(t: Tensor) -> dict[int, Any]:
    e = edge(t)
    if e is None:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if e[0] is t:
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


def retain_grad(t: Tensor) -> None:
    """See ``Tensor.retain_grad``."""
    if not t._rg:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if t._edge is None or t.retains_grad:
        return
    weak = ref(t)

    def keep(g: Tensor) -> None:
        tensor = weak()
        if tensor is not None:
            tensor._grad = g.clone() if tensor._grad is None else tensor._grad + g

    t._retains_grad = True  # type: ignore[attr-defined]
    register_tensor_hook(t, keep)


def register_post_accumulate_grad_hook(t: Tensor, hook: Any) -> HookHandle:
    """See ``Tensor.register_post_accumulate_grad_hook``."""
    if not t._rg or t._edge is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors" if t._rg else
                           "cannot register a hook on a tensor that doesn't require gradient")
    if t._after_hooks is None:
        t._after_hooks = {}
    return HookHandle(t._after_hooks, hook)
