"""Checkpointing: a part of the graph is not kept but computed again in backward, which saves its memory.

Chen, Xu, Zhang, Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174);
https://docs.pytorch.org/docs/stable/checkpoint.html
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tritium.autograd.engine import backward
from tritium.autograd.function import Function
from tritium.tensor.autocast import KeptState
from tritium.tensor.grad_mode import enable_grad
from tritium.tensor.random import get_states, set_states
from tritium.tensor.tensor import Tensor


class CheckpointFunction(Function):
    """Runs a function without recording it, and records it when its gradient is wanted."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        ctx.function = function
        ctx.state = get_states() if preserve else None
        ctx.autocast = KeptState()
        ctx.others = [None if isinstance(x, Tensor) else x for x in args]
        ctx.save_for_backward(*[x if isinstance(x, Tensor) else None for x in args])
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        inputs = []
        for tensor, other in zip(ctx.saved_tensors, ctx.others, strict=True):
            if tensor is None:
                inputs.append(other)
            else:
                copy = tensor.detach()
                copy.requires_grad = tensor.requires_grad
                inputs.append(copy)
        now = get_states()
        if ctx.state is not None:
            set_states(ctx.state)
        with enable_grad():
            outputs = ctx.autocast.run(ctx.function, *inputs)
        if ctx.state is not None:
            set_states(now)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        if not pairs:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        backward([o for o, _ in pairs], [g for _, g in pairs])
        return None, None, *[x.grad if isinstance(x, Tensor) else None for x in inputs]


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None,
               preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """``function(*args)``, recomputed in backward instead of kept. Random numbers repeat, unless
    ``preserve_rng_state`` is False. At least one tensor among ``args`` must require grad for parameters used inside to
    get gradients. ``use_reentrant`` is accepted; both of PyTorch's ways run like the reentrant one here, so
    ``autograd.grad`` cannot look through.

    Raises ValueError for keyword arguments of PyTorch's that are not known here."""
    for name in ("context_fn", "determinism_check", "debug", "early_stop"):
        kwargs.pop(name, None)
    if kwargs:
        inner = function

        def function(*a: Any, _kwargs: dict[str, Any] = kwargs) -> Any:
            return inner(*a, **_kwargs)

    return CheckpointFunction.apply(function, preserve_rng_state, *args)


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None,
                          **kwargs: Any) -> Any:
    """Run a ``Sequential`` (or a list of functions) in ``segments`` parts, each checkpointed but the last."""
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(layers) // segments

    def run(start: int, end: int) -> Callable[..., Any]:
        def part(x: Any) -> Any:
            for layer in layers[start:end]:
                x = layer(x)
            return x

        return part

    start = 0
    for _ in range(segments - 1):
        input = checkpoint(run(start, start + size), input, **kwargs)
        start += size
    return run(start, len(layers))(input)
