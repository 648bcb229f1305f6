"""Backward hooks of modules: the full ones, and the older kind on one node.

Full hooks see the gradients of a module's inputs and outputs, whatever happens between: inputs and outputs pass through
an identity node each, and the hooks run when those nodes do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tritium.tensor.creation import zeros
from tritium.tensor.grad_mode import is_grad_enabled
from tritium.tensor.graph import alias, derivative, record
from tritium.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tritium.nn.modules.module import Module


@derivative
def BackwardHookFunctionBackward(node: Any, *grads: Any) -> Any:
    """The identity in front of or behind a module: the gradients are shown to the hooks on their way
    through."""
    result = node.ctx(grads)
    return result[0] if len(result) == 1 else result


class BackwardHooks:
    """The full backward hooks of one call of one module.

    The node behind the outputs runs first: it keeps grad_output and runs the pre-hooks. The node in front of
    the inputs runs the hooks. Where no input requires grad that node does not exist, and the hooks run with
    grad_input of None at the outputs.
    """

    def __init__(self, module: Module, hooks: list[Any], pre_hooks: list[Any]) -> None:
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_outputs: tuple | None = None
        self.inputs = self.outputs = _Side((), lambda grads: grads)

    def watch_inputs(self, args: tuple) -> tuple:
        self.inputs = _Side(args, self.at_inputs)
        values, self.inputs.values = self.inputs.values, ()
        return values

    def watch_outputs(self, result: Any) -> Any:
        is_tuple = isinstance(result, tuple)
        self.outputs = _Side(result if is_tuple else (result,), self.at_outputs)
        values, self.outputs.values = self.outputs.values, ()
        return values if is_tuple else values[0]

    def at_outputs(self, grads: tuple) -> tuple:
        grad_outputs = self.outputs.spread(grads)
        for hook in self.pre_hooks:
            new = hook(self.module, grad_outputs)
            if new is None:
                continue
            if len(new) != len(grad_outputs):
                raise RuntimeError(
                    f"Backward pre hook returned an invalid number of grad_output, got {len(new)}, "
                    f"but expected {len(grad_outputs)}"
                )
            grad_outputs = tuple(new)
        if self.inputs.watched:
            self.grad_outputs = grad_outputs
        else:
            self._without_inputs(grad_outputs)
        return self.outputs.pick(grad_outputs)

    def _without_inputs(self, grad_outputs: tuple) -> None:
        warnings.warn(
            "Full backward hook is firing when gradients are computed with respect to module outputs since no inputs "
            "require gradients. See https://docs.pytorch.org/docs/main/generated/torch.nn.Module.html"
            "#torch.nn.Module.register_full_backward_hook for more details.",
            stacklevel=5,
        )
        for hook in self.hooks:
            new = hook(self.module, (None,) * self.inputs.count, grad_outputs)
            if new is not None and not (isinstance(new, tuple) and all(g is None for g in new)):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or None "
                    "for all gradients."
                )

    def at_inputs(self, grads: tuple) -> tuple:
        if self.grad_outputs is None:  # the outputs were not part of this backward pass
            return grads
        grad_inputs = self.inputs.zeros_for_none(self.inputs.spread(grads))
        for hook in self.hooks:
            new = hook(self.module, grad_inputs, self.grad_outputs)
            if new is None:
                continue
            if len(new) != len(grad_inputs):
                raise RuntimeError(
                    f"Backward hook returned an invalid number of grad_input, got {len(new)}, "
                    f"but expected {len(grad_inputs)}"
                )
            grad_inputs = tuple(new)
        self.grad_outputs = None
        return self.inputs.pick(grad_inputs)


class _Side:
    """The arguments or the results of one call. Its tensors that require grad go through one identity node.

    As in PyTorch, where a gradient of one of the tensors is missing, zeros take its place behind the node.
    """

    def __init__(self, values: tuple, see: Callable[[tuple], tuple]) -> None:
        self.values = values
        self.count = len(values)
        self.watched: list[int] = []
        self.kinds: dict[int, tuple[Any, Any, Any]] = {}  # of all tensors: shape, dtype, device
        places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
        if not (places and is_grad_enabled()):
            return
        self.watched = places
        self.kinds = {i: (v.shape, v.dtype, v.device) for i, v in enumerate(values) if isinstance(v, Tensor)}
        tensors = tuple(values[i] for i in places)
        same = tuple(alias(t) for t in tensors)
        record(same, BackwardHookFunctionBackward, tensors, ctx=see)
        new = list(values)
        for place, tensor in zip(places, same, strict=True):
            new[place] = tensor
        make = getattr(type(values), "_make", type(values))  # a named tuple stays one
        self.values = make(new)

    def spread(self, grads: tuple) -> tuple:
        """One entry per value of the call, None where nothing was watched."""
        full: list[Any] = [None] * self.count
        for place, grad in zip(self.watched, grads, strict=True):
            full[place] = grad
        return tuple(full)

    def zeros_for_none(self, grads: tuple) -> tuple:
        """The same with zeros for the tensors that have no gradient."""
        return tuple(self._zeros(i) if g is None and i in self.kinds else g for i, g in enumerate(grads))

    def _zeros(self, place: int) -> Tensor:
        shape, dtype, device = self.kinds[place]
        return zeros(shape, dtype=dtype, device=device)

    def pick(self, grads: tuple) -> tuple:
        """The gradients of the watched tensors, for the node to pass on."""
        return tuple(self._zeros(i) if grads[i] is None else grads[i] for i in self.watched)


# ----------------------------------------------------------------------------- regular backward hooks


def hook_output_node(module: Module, hooks: list[Any], inputs: Any, result: Any) -> None:
    """`register_backward_hook`: the hooks see what the node of the (first) output receives and gives."""
    value = result
    while not isinstance(value, Tensor):
        if isinstance(value, dict):
            value = next(v for v in value.values() if isinstance(v, Tensor))
        else:
            value = value[0]
    grad_fn = value.grad_fn
    if grad_fn is None:
        return
    for hook in hooks:
        grad_fn.register_hook(lambda grad_in, grad_out, hook=hook: hook(module, grad_in, grad_out))
    _warn_if_partial(inputs, result, grad_fn)


_FULL_INSTEAD = "Please use register_full_backward_hook to get the documented behavior."


def _warn_if_partial(inputs: Any, result: Any, grad_fn: Any) -> None:
    """A regular hook sees one node only: say so where the module is more than one node."""
    outputs = _tensors(result)
    if outputs is None:
        return _warn(
            "Using non-full backward hooks on a Module that does not return a single Tensor or a tuple of Tensors is "
            "deprecated and will be removed in future versions. This hook will be missing some of the grad_output. "
            + _FULL_INSTEAD
        )
    entries = _tensors(inputs)
    if entries is None:
        return _warn(
            "Using non-full backward hooks on a Module that does not take as input a single Tensor or a tuple of "
            "Tensors is deprecated and will be removed in future versions. This hook will be missing some of the "
            "grad_input. " + _FULL_INSTEAD
        )
    if len({id(t.grad_fn) for t in outputs if t.grad_fn is not None}) > 1:
        return _warn(
            "Using a non-full backward hook when outputs are generated by different autograd Nodes is deprecated and "
            "will be removed in future versions. This hook will be missing some grad_output. " + _FULL_INSTEAD
        )
    behind_inputs = {t.grad_fn for t in entries if t.grad_fn is not None}
    if behind_inputs != {node for node, _ in grad_fn.next_functions}:
        _warn(
            "Using a non-full backward hook when the forward contains multiple autograd Nodes is deprecated and will "
            "be removed in future versions. This hook will be missing some grad_input. " + _FULL_INSTEAD
        )


def _tensors(value: Any) -> tuple | None:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, tuple) and all(isinstance(v, Tensor) for v in value):
        return value
    return None


def _warn(text: str) -> None:
    warnings.warn(text, FutureWarning, stacklevel=6)
