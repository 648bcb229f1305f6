"""The base of all optimizers: parameter groups, state, hooks, saving and loading.

Follows https://docs.pytorch.org/docs/stable/optim.html: an optimizer written for ``torch.optim.Optimizer`` runs on
this class, and the ``state_dict`` has the same shape, so that checkpoints go both ways.
"""
from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import wraps
from itertools import chain
from typing import Any, TypeAlias

from tritium.tensor.creation import full, zeros_like
from tritium.tensor.dtype import float32, float64, get_default_dtype
from tritium.tensor.grad_mode import enable_grad
from tritium.tensor.graph import HookHandle
from tritium.tensor.ops.optimizer import count, is_capturing, outside
from tritium.tensor.tensor import Tensor

Params: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Closure: TypeAlias = Callable[[], Any] | None
Hook: TypeAlias = Callable[..., Any]

_global_pre_hooks: dict[int, Hook] = OrderedDict()
_global_post_hooks: dict[int, Hook] = OrderedDict()


DEVICES = ["cuda"]  # where a step can be part of a captured graph
FUSED_DEVICES = ["cpu", "cuda"]


class _Required:
    """Stands in ``defaults`` for an option that every group must give."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


def register_optimizer_step_pre_hook(hook: Hook) -> HookHandle:
    """Call ``hook(optimizer, args, kwargs)`` before the step of every optimizer."""
    return HookHandle(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Hook) -> HookHandle:
    """Call ``hook(optimizer, args, kwargs)`` after the step of every optimizer."""
    return HookHandle(_global_post_hooks, hook)


def scalar(value: Any) -> Any:
    """A Python number for a number or a tensor of one element."""
    return value.item() if isinstance(value, Tensor) else value


def counter_dtype(fused: bool = False) -> Any:
    """The dtype of step counters: float32, which counts to 16 million; float64 when that is the default dtype and the
    optimizer was not asked to be fused."""
    return float64 if get_default_dtype() is float64 and not fused else float32


def on_device(group: dict[str, Any]) -> bool:
    """Whether the steps of a group's parameters are counted where the parameters are."""
    return bool(group.get("capturable") or group.get("fused"))


def rate(group: dict[str, Any]) -> Any:
    """The learning rate of a group: a number, or a tensor where nothing may wait for the device."""
    lr = group["lr"]
    return lr if isinstance(lr, Tensor) and lr.is_cuda and on_device(group) else scalar(lr)


class Optimizer:
    """Base class: ``params`` is an iterable of tensors, of (name, tensor) pairs, or of dictionaries (parameter
    groups with their own options); ``defaults`` holds the options of groups that give none.

    Raises TypeError for a bare tensor or a set, ValueError for an empty list, a non-leaf tensor, or a parameter that
    is in two groups. A subclass writes ``step``; parameters whose ``grad`` is None are to be left alone.
    """

    _optimizer_step_pre_hooks: OrderedDict[int, Hook]
    _optimizer_step_post_hooks: OrderedDict[int, Hook]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Hook]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Hook]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Hook]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Hook]
    _step_supports_amp_scaling: bool
    _stepping = False
    _opt_called = False  # whether a step has been made since the first schedule was set up
    _watched_step: Any = None  # the step function at that time

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _hooked(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._make_hooks()
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but "
                            f"got {_typename(params)}")
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hooks(self) -> None:
        for name in ("step_pre", "step_post", "state_dict_pre", "state_dict_post", "load_state_dict_pre",
                     "load_state_dict_post"):
            self.__dict__.setdefault(f"_optimizer_{name}_hooks", OrderedDict())

    # --- what a subclass's step is made of ---------------------------------------------------

    def _loss(self, closure: Closure) -> Any:
        """What the closure returns, computed with gradients on; None without a closure.

        Raises RuntimeError where a graph is captured and the options are not made for that."""
        if is_capturing() and "capturable" in self.defaults:
            if not all([group["capturable"] for group in self.param_groups]):
                raise RuntimeError("Attempting CUDA graph capture of step() for an instance of "
                                   f"{type(self).__name__} but param_groups' capturable is False.")
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def _active(self, group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters of a group that have a gradient, and their gradients."""
        if group.get("differentiable"):
            raise NotImplementedError(f"{type(self).__name__}: differentiable=True (a step that can itself be "
                                      "differentiated) is not available")
        params = [p for p in group["params"] if p.grad is not None]
        if group.get("capturable") and not all([p.is_cuda for p in params]):
            more = ", mu_products" if "momentum_decay" in group else ""
            raise AssertionError(f"If capturable=True, params{more} and state_steps must be on supported devices: "
                                 f"{DEVICES}.")
        if group.get("fused"):
            for p in params:
                if not p.is_floating_point():
                    raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported "
                                       f"devices: {FUSED_DEVICES} but {p.dtype} and {p.device.type}")
        return params, [p.grad for p in params]

    def _states(self, params: list[Tensor], name: str) -> list[Tensor]:
        """The state tensors of this name, made as zeros in the parameter's dtype and layout where there are none."""
        found = []
        for p in params:
            state = self.state[p]
            if state.get(name) is None:
                with outside():
                    state[name] = zeros_like(p.detach())
            found.append(state[name])
        return found

    def _step_counters(self, params: list[Tensor], group: dict[str, Any], name: str = "step",
                       start: float = 0.0) -> list[Tensor]:
        """The step counters: tensors of no dimensions that start at 0 (or at a plain number that an old checkpoint
        brought), in host memory, or beside the parameter in a group that is capturable or fused."""
        found = []
        for p in params:
            state = self.state[p]
            step = state.get(name, start)
            place = p.device if on_device(group) else "cpu"
            if not isinstance(step, Tensor):
                with outside():
                    step = state[name] = full((), float(step), dtype=counter_dtype(bool(group.get("fused"))),
                                              device=place)
            elif step.is_cuda != (place != "cpu" and p.is_cuda):
                step = state[name] = step.to(place)
            found.append(step)
        return found

    def _steps(self, params: list[Tensor], group: dict[str, Any]) -> Any:
        """The step counters for an update that counts them up, or their next values where the host counts.

        Raises RuntimeError where the host counts and a graph is captured: no replay would count."""
        steps = self._step_counters(params, group)
        if on_device(group):
            return steps
        if is_capturing():
            raise RuntimeError(f"Attempting CUDA graph capture of step() for an instance of {type(self).__name__} that "
                               "counts its steps on the host")
        return count(steps)

    def _scaler(self, group: dict[str, Any]) -> dict[str, Any]:
        """What a gradient scaler has left with a fused optimizer for this step."""
        if not group.get("fused"):
            if getattr(self, "grad_scale", None) is not None or getattr(self, "found_inf", None) is not None:
                raise AssertionError("Expected grad_scale and found_inf to be None")
            return {}
        return {"grad_scale": getattr(self, "grad_scale", None), "found_inf": getattr(self, "found_inf", None)}

    def step(self, closure: Closure = None) -> Any:
        """Update the parameters once. ``closure`` computes the loss again (with backward) and returns it."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or (``set_to_none=False``) fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    continue
                if set_to_none:
                    p.grad = None
                else:
                    if grad.grad_fn is not None:
                        grad.detach_()
                    else:
                        grad.requires_grad_(False)
                    grad.zero_()

    # --- groups ------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group: a dictionary with ``params`` and the options in which it differs from the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of "
                            "tensors in sets will change between runs. Please use a list instead.")
        entries = list(params)
        names = [entry[0] for entry in entries if isinstance(entry, tuple)]
        if names and len(names) != len(entries):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        param_group["params"] = entries = [e[1] if isinstance(e, tuple) else e for e in entries]
        if names:
            param_group["param_names"] = names
        for p in entries:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {_typename(p)}")
            if not self.defaults.get("differentiable") and not (p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        self._check_overlap(param_group)
        self.param_groups.append(param_group)

    def _check_overlap(self, new: dict[str, Any]) -> None:
        ids = {id(p) for p in new["params"]}
        if len(ids) != len(new["params"]):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause "
                          "an error; see github.com/pytorch/pytorch/issues/40967 for more information", stacklevel=4)
        named = "param_names" in new
        for group in self.param_groups:
            if ("param_names" in group) != named:
                raise ValueError("all optimizer param groups should be with/without names. cannot add param group "
                                 f"{'with' if named else 'without'} names to the optimizer")
        if any(id(p) in ids for group in self.param_groups for p in group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")

    # --- saving and loading ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}``: parameters are numbered in
        the order of the groups, and are not part of it themselves. The tensors are the optimizer's own."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups, start = [], 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"], start):
                numbers.setdefault(id(p), i)
            start += len(group["params"])
            packed = {name: value for name, value in group.items() if name != "params"}
            packed["params"] = [numbers[id(p)] for p in group["params"]]
            groups.append(packed)
        result: dict[str, Any] = {
            "state": {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()},
            "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            replaced = hook(self, result)
            if replaced is not None:
                result = replaced
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state that ``state_dict`` gave; tensors are cast to the dtype and device of their parameter
        (step counters and other single numbers keep their dtype and are in host memory, unless the group is capturable
        or fused).

        Raises ValueError when the number of groups, or of parameters in a group, differs."""
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = hook(self, state_dict)
            if replaced is not None:
                state_dict = replaced
        saved_groups = deepcopy(state_dict["param_groups"])
        if len(saved_groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        by_number: dict[Any, tuple[Tensor, dict[str, Any]]] = {}
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            if len(group["params"]) != len(saved["params"]):
                raise ValueError("loaded state dict contains a parameter group that doesn't match the size of "
                                 "optimizer's group")
            by_number.update({n: (p, saved) for n, p in zip(saved["params"], group["params"], strict=True)})
            saved["params"] = group["params"]
            if "param_names" in group:
                saved.setdefault("param_names", group["param_names"])
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in by_number:
                param, saved = by_number[key]
                state[param] = _fit(param, value, None, on_device(saved))
            else:
                state[key] = value
        self.__setstate__({"state": state, "param_groups": saved_groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_hooks()
        self.defaults.setdefault("differentiable", False)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            options = [f"    {name}: {group[name]}\n" for name in sorted(group) if name != "params"]
            text += f"\nParameter Group {i}\n" + "".join(options)
        return text + ")"

    # --- hooks -------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Hook) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new (args, kwargs)."""
        return HookHandle(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Hook) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return HookHandle(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer)`` before ``state_dict``."""
        return _add(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer, state_dict)`` after ``state_dict``; it may return another one."""
        return _add(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer, state_dict)`` before ``load_state_dict``; it may return another one."""
        return _add(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer)`` after ``load_state_dict``."""
        return _add(self._optimizer_load_state_dict_post_hooks, hook, prepend)


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that runs the hooks around it, with gradients off, and notes for the schedulers that it was called."""

    @wraps(step)
    def run(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if self._stepping:  # a subclass's step calls the one it inherits
            return step(self, *args, **kwargs)
        for hook in chain(_global_pre_hooks.values(), self._optimizer_step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got "
                                       f"{changed}.")
                args, kwargs = changed
        self._opt_called = self._stepping = True
        try:
            out = step(self, *args, **kwargs)
        finally:
            self._stepping = False
        for hook in chain(self._optimizer_step_post_hooks.values(), _global_post_hooks.values()):
            hook(self, args, kwargs)
        return out

    run.hooked = True  # type: ignore[attr-defined]
    return run


def _add(hooks: Any, hook: Hook, prepend: bool) -> HookHandle:
    handle = HookHandle(hooks, hook)
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


# state that is a number and no array: it keeps its dtype, so that a resumed run goes on with the same bits
_NUMBERS = ("step", "mu_product")


def _fit(param: Tensor, value: Any, key: Any, there: bool) -> Any:
    """A piece of loaded state as this parameter needs it; ``there``: its numbers are beside it, steps in float32."""
    if isinstance(value, Tensor):
        if key in _NUMBERS:
            if not there:
                return value.cpu()
            return value.to(dtype=float32 if key == "step" else value.dtype, device=param.device)
        if param.is_floating_point():
            return value.to(dtype=param.dtype, device=param.device)
        return value.to(device=param.device)
    if isinstance(value, dict):
        return {k: _fit(param, v, k, there) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return type(value)(_fit(param, v, None, there) for v in value)  # type: ignore[call-arg]
    return value


def _typename(value: Any) -> str:
    if isinstance(value, Tensor):
        return value.type()
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def check(ok: bool, message: str) -> None:
    """Raise ValueError unless an option is in its range (a NaN never is)."""
    if not ok:
        raise ValueError(message)


def check_lr(lr: Any) -> None:
    """Raise ValueError for a negative learning rate, or a tensor of more than one element."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    check(not bool(lr < 0.0) and bool(lr == lr), f"Invalid learning rate: {lr}")


def check_fused(optimizer: Optimizer, fused: bool | None, foreach: bool | None, differentiable: bool) -> None:
    """Raise RuntimeError for options that exclude each other; note for gradient scalers that a fused step divides the
    gradients itself."""
    if fused:
        optimizer._step_supports_amp_scaling = True
        if differentiable:
            raise RuntimeError("`fused` does not support `differentiable`")
        if foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
