"""Module hooks: the registries that hold for every module, and a call that runs hooks.

The order of one call: forward pre-hooks, `forward`, forward hooks; global ones before the module's own.
Backward hooks see the gradients of the module's inputs and outputs: the inputs and the outputs pass through
an identity node each, and the hooks run when those nodes do. Follows
https://docs.pytorch.org/docs/stable/notes/modules.html#module-hooks.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from tritium.tensor.grad_mode import is_grad_enabled
from tritium.tensor.graph import HookHandle, alias, derivative, record
from tritium.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tritium.nn.modules.module import Module

Hooks = OrderedDict[int, Callable[..., Any]]


class RemovableHandle(HookHandle):
    """Returned by the `register_*hook` methods: `remove()` takes the hook away; also a context manager.

    `flags` are registries that say something about the hook (takes kwargs, is always called) and forget it
    with the hook.
    """

    def __init__(self, hooks: Any, hook: Any, *flags: dict[int, bool], prepend: bool = False) -> None:
        super().__init__(hooks, hook)
        self.flags = flags
        for flag in flags:
            flag[self.id] = True
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self) -> None:
        """Take the hook away. Calling it again does nothing."""
        super().remove()
        for flag in self.flags:
            flag.pop(self.id, None)


# ---------------------------------------------------------------------------------- global registries


class GlobalHooks:
    """Hooks that run for every module. `active` has an entry for each, so that a call without any costs one
    look."""

    def __init__(self) -> None:
        self.active: dict[int, bool] = {}
        self.forward_pre: Hooks = OrderedDict()
        self.forward: Hooks = OrderedDict()
        self.forward_with_kwargs: dict[int, bool] = {}
        self.forward_always_called: dict[int, bool] = {}
        self.backward_pre: Hooks = OrderedDict()
        self.backward: Hooks = OrderedDict()
        self.backward_is_full: bool | None = None
        self.buffer_registration: Hooks = OrderedDict()
        self.module_registration: Hooks = OrderedDict()
        self.parameter_registration: Hooks = OrderedDict()

    def add(self, hooks: Hooks, hook: Callable[..., Any], *flags: dict[int, bool]) -> RemovableHandle:
        return RemovableHandle(hooks, hook, self.active, *flags)


everywhere = GlobalHooks()


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, args)` before every module's forward; what it returns replaces the arguments."""
    return everywhere.add(everywhere.forward_pre, hook)


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call `hook(module, args, output)` after every module's forward; what it returns replaces the output."""
    flags = [everywhere.forward_with_kwargs] if with_kwargs else []
    flags += [everywhere.forward_always_called] if always_call else []
    return everywhere.add(everywhere.forward, hook, *flags)


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, grad_output)` when the gradients of any module's outputs are there."""
    return everywhere.add(everywhere.backward_pre, hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, grad_input, grad_output)` when the gradients of any module's inputs are there."""
    return _add_global_backward(hook, full=True)


def register_module_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """The older kind, on the node of the module's output only; prefer the full one."""
    return _add_global_backward(hook, full=False)


def _add_global_backward(hook: Callable[..., Any], full: bool) -> RemovableHandle:
    if everywhere.backward_is_full is (not full):
        raise RuntimeError(
            "Cannot use both regular backward hooks and full backward hooks as a global Module hook. "
            "Please use only one of them."
        )
    everywhere.backward_is_full = full
    return everywhere.add(everywhere.backward, hook)


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, buffer)` when a buffer is registered anywhere; what it returns takes its
    place."""
    return RemovableHandle(everywhere.buffer_registration, hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, submodule)` when a module is registered anywhere; what it returns takes its
    place."""
    return RemovableHandle(everywhere.module_registration, hook)


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, param)` when a parameter is registered anywhere; what it returns takes its
    place."""
    return RemovableHandle(everywhere.parameter_registration, hook)


# ------------------------------------------------------------------------------- a module's own hooks

HOOK_REGISTRIES: dict[str, Callable[[], Any]] = {
    "_backward_pre_hooks": OrderedDict,
    "_backward_hooks": OrderedDict,
    "_forward_hooks": OrderedDict,
    "_forward_hooks_with_kwargs": OrderedDict,
    "_forward_hooks_always_called": OrderedDict,
    "_forward_pre_hooks": OrderedDict,
    "_forward_pre_hooks_with_kwargs": OrderedDict,
    "_state_dict_hooks": OrderedDict,
    "_state_dict_pre_hooks": OrderedDict,
    "_load_state_dict_pre_hooks": OrderedDict,
    "_load_state_dict_post_hooks": OrderedDict,
}


class Hookable:
    """The part of `Module` that keeps hooks: forward, backward, state-dict."""

    _forward_hooks: Hooks
    _forward_hooks_with_kwargs: dict[int, bool]
    _forward_hooks_always_called: dict[int, bool]
    _forward_pre_hooks: Hooks
    _forward_pre_hooks_with_kwargs: dict[int, bool]
    _backward_hooks: Hooks
    _backward_pre_hooks: Hooks
    _state_dict_hooks: Hooks
    _state_dict_pre_hooks: Hooks
    _load_state_dict_pre_hooks: Hooks
    _load_state_dict_post_hooks: Hooks
    _is_full_backward_hook: bool | None

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before forward (`hook(module, args, kwargs)` with `with_kwargs`); what it
        returns replaces the arguments."""
        flags = (self._forward_pre_hooks_with_kwargs,) if with_kwargs else ()
        return RemovableHandle(self._forward_pre_hooks, hook, *flags, prepend=prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward (`hook(module, args, kwargs, output)` with
        `with_kwargs`); what it returns replaces the output. With `always_call` it also runs after an
        error."""
        flags = [self._forward_hooks_with_kwargs] if with_kwargs else []
        flags += [self._forward_hooks_always_called] if always_call else []
        return RemovableHandle(self._forward_hooks, hook, *flags, prepend=prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_output)` before the module's backward; what it returns replaces
        grad_output."""
        return RemovableHandle(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` after the module's backward; what it returns replaces
        grad_input.

        Raises RuntimeError if the module has regular backward hooks.
        """
        return self._add_backward_hook(hook, full=True, prepend=prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The older kind, on the node of the output only; prefer `register_full_backward_hook`.

        Raises RuntimeError if the module has full backward hooks.
        """
        return self._add_backward_hook(hook, full=False, prepend=False)

    def _add_backward_hook(self, hook: Callable[..., Any], full: bool, prepend: bool) -> RemovableHandle:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a single Module. "
                "Please use only one of them."
            )
        self._is_full_backward_hook = full
        return RemovableHandle(self._backward_hooks, hook, prepend=prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before `state_dict` reads this module."""
        return RemovableHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)` after `state_dict` read this module."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return RemovableHandle(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was previously registered via "
                "register_state_dict_post_hook"
            )
        return RemovableHandle(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
        error_msgs)` before this module is loaded."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        return RemovableHandle(self._load_state_dict_pre_hooks, LoadHook(hook, self if with_module else None))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` after this module and all below it are loaded; it may edit
        the keys."""
        return RemovableHandle(self._load_state_dict_post_hooks, hook)


class LoadHook:
    """A load pre-hook that also gets its module. It holds the module weakly: the module holds the hook."""

    def __init__(self, hook: Callable[..., Any], module: Any) -> None:
        self.hook = hook
        self.module = None if module is None else ref(module)

    def __call__(self, *args: Any) -> Any:
        if self.module is None:
            return self.hook(*args)
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return self.hook(module, *args)

    def __getstate__(self) -> tuple[Any, Any]:
        return self.hook, None if self.module is None else self.module()

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        self.__init__(*state)  # type: ignore[misc]


# ------------------------------------------------------------------------------------ the call itself


def call_with_hooks(module: Module, args: tuple, kwargs: dict[str, Any]) -> Any:
    """`module.forward` with all hooks around it. Always-called forward hooks also run when something
    raised."""
    state = _Call(module, args, kwargs)
    try:
        return state.run()
    except Exception:
        state.run_always_called()
        raise


class _Call:
    """One call of one module: arguments and result as the hooks change them, and which always-called hooks
    have run."""

    def __init__(self, module: Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.module, self.args, self.kwargs = module, args, kwargs
        self.result: Any = None
        self.ran: set[int] = set()

    def run(self) -> Any:
        module = self.module
        full, regular = _backward_hooks(module)
        before = [*everywhere.backward_pre.values(), *module._backward_pre_hooks.values()]
        self._forward_pre()
        backward = BackwardHooks(module, full, before) if full or before else None
        if backward:
            self.args = backward.watch_inputs(self.args)
        self.result = module.forward(*self.args, **self.kwargs)
        self._forward_post()
        if backward:
            if not isinstance(self.result, Tensor | tuple):
                warnings.warn(
                    "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors"
                    f" but received {type(self.result)}",
                    stacklevel=4,
                )
            self.result = backward.watch_outputs(self.result)
        if regular:
            _hook_output_node(module, regular, self.args, self.result)
        return self.result

    def _forward_pre(self) -> None:
        with_kwargs = self.module._forward_pre_hooks_with_kwargs
        for number, hook in (*everywhere.forward_pre.items(), *self.module._forward_pre_hooks.items()):
            if number in with_kwargs:
                new = hook(self.module, self.args, self.kwargs)
                if new is None:
                    continue
                if not (isinstance(new, tuple) and len(new) == 2):
                    raise RuntimeError(
                        f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {new}."
                    )
                self.args, self.kwargs = new
            else:
                new = hook(self.module, self.args)
                if new is not None:
                    self.args = new if isinstance(new, tuple) else (new,)

    def _forward_post(self) -> None:
        for number, hook in (*everywhere.forward.items(), *self.module._forward_hooks.items()):
            self.ran.add(number)
            self._one_forward_hook(number, hook)

    def _one_forward_hook(self, number: int, hook: Callable[..., Any]) -> None:
        if number in self.module._forward_hooks_with_kwargs or number in everywhere.forward_with_kwargs:
            new = hook(self.module, self.args, self.kwargs, self.result)
        else:
            new = hook(self.module, self.args, self.result)
        if new is not None:
            self.result = new

    def run_always_called(self) -> None:
        """After an error: the always-called hooks that have not run yet. Their own errors become warnings."""
        own = self.module._forward_hooks_always_called
        for hooks, always, where in (
            (everywhere.forward, everywhere.forward_always_called, "global module"),
            (self.module._forward_hooks, own, "module"),
        ):
            for number, hook in hooks.items():
                if number not in always or number in self.ran:
                    continue
                try:
                    self._one_forward_hook(number, hook)
                except Exception as error:  # the first error is the one to report
                    warnings.warn(
                        f"{where} forward hook with ``always_call=True`` raised an exception "
                        f"that was silenced as another error was raised in forward: {error}",
                        stacklevel=4,
                    )


def _backward_hooks(module: Module) -> tuple[list[Any], list[Any]]:
    """(full hooks, regular hooks), global ones first."""
    full: list[Any] = []
    regular: list[Any] = []
    if everywhere.backward:
        (full if everywhere.backward_is_full else regular).extend(everywhere.backward.values())
    if module._backward_hooks:
        (full if module._is_full_backward_hook else regular).extend(module._backward_hooks.values())
    return full, regular


# -------------------------------------------------------------------------------- full backward hooks


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
        self.n_inputs = self.n_outputs = 0
        self.watched_inputs: list[int] = []
        self.watched_outputs: list[int] = []

    def watch_inputs(self, args: tuple) -> tuple:
        self.n_inputs = len(args)
        args, self.watched_inputs = _watch(args, self.at_inputs)
        return args

    def watch_outputs(self, result: Any) -> Any:
        outputs = result if isinstance(result, tuple) else (result,)
        self.n_outputs = len(outputs)
        outputs, self.watched_outputs = _watch(outputs, self.at_outputs)
        return outputs if isinstance(result, tuple) else outputs[0]

    def at_outputs(self, grads: tuple) -> tuple:
        grad_outputs = _spread(grads, self.watched_outputs, self.n_outputs)
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
        if self.watched_inputs:
            self.grad_outputs = grad_outputs
        else:
            self._without_inputs(grad_outputs)
        return tuple(grad_outputs[i] for i in self.watched_outputs)

    def _without_inputs(self, grad_outputs: tuple) -> None:
        warnings.warn(
            "Full backward hook is firing when gradients are computed with respect to module outputs since no inputs "
            "require gradients. See https://docs.pytorch.org/docs/main/generated/torch.nn.Module.html"
            "#torch.nn.Module.register_full_backward_hook for more details.",
            stacklevel=5,
        )
        for hook in self.hooks:
            new = hook(self.module, (None,) * self.n_inputs, grad_outputs)
            if new is not None and not (isinstance(new, tuple) and all(g is None for g in new)):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or None "
                    "for all gradients."
                )

    def at_inputs(self, grads: tuple) -> tuple:
        if self.grad_outputs is None:  # the outputs were not part of this backward pass
            return grads
        grad_inputs = _spread(grads, self.watched_inputs, self.n_inputs)
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
        return tuple(grad_inputs[i] for i in self.watched_inputs)


def _watch(values: tuple, see: Callable[[tuple], tuple]) -> tuple[tuple, list[int]]:
    """Pass the tensors that require grad through one identity node; the new values and the places of those
    tensors."""
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not (places and is_grad_enabled()):
        return values, []
    tensors = tuple(values[i] for i in places)
    watched = tuple(alias(t) for t in tensors)
    record(watched, BackwardHookFunctionBackward, tensors, ctx=see)
    new = list(values)
    for place, tensor in zip(places, watched, strict=True):
        new[place] = tensor
    make = getattr(type(values), "_make", type(values))  # a named tuple stays one
    return make(new), places


def _spread(grads: tuple, places: list[int], size: int) -> tuple:
    """One entry per value of the call, None where nothing was watched."""
    full: list[Any] = [None] * size
    for place, grad in zip(places, grads, strict=True):
        full[place] = grad
    return tuple(full)


# ----------------------------------------------------------------------------- regular backward hooks


def _hook_output_node(module: Module, hooks: list[Any], inputs: Any, result: Any) -> None:
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
