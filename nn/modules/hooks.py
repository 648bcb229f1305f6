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

from tritium.nn.modules.backward_hooks import BackwardHooks, hook_output_node
from tritium.tensor.graph import HookHandle
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
            hook_output_node(module, regular, self.args, self.result)
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
