"""``GradScaler``: losses are scaled up so that small gradients do not vanish in float16, and the gradients down again.

The scale follows what happens: infinities make it smaller, and the step is left out; a run of steps without makes it
larger. Micikevicius et al. 2018, "Mixed Precision Training" (arXiv:1710.03740);
https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling
"""
from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import Any

from tritium.kernels import runtime
from tritium.tensor.creation import full
from tritium.tensor.dtype import float16, float32, int32
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.ops import grad_scaler as ops
from tritium.tensor.tensor import Tensor


class OptState(Enum):
    """How far an optimizer is in this iteration."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


def _fresh() -> dict[str, Any]:
    return {"stage": OptState.READY, "found_inf_per_device": {}}


class _Copies:
    """A number's copies on the devices that ask for one."""

    def __init__(self, original: Tensor) -> None:
        self.original = original
        self.made: dict[Any, Tensor] = {}

    def on(self, device: Any) -> Tensor:
        """The copy on a device: always the same one."""
        if device not in self.made:
            self.made[device] = self.original.to(device, non_blocking=True, copy=True)
        return self.made[device]


class GradScaler:
    """Scales losses and unscales gradients, for training in float16.

        scaler.scale(loss).backward()
        scaler.step(optimizer)      # unscales the gradients; no step if one of them is not finite
        scaler.update()

    ``device``: "cuda" or "cpu"; ``init_scale``: the first scale; ``growth_factor``: what it is multiplied with after
    ``growth_interval`` iterations in a row without infinities or nan; ``backoff_factor``: after one with. A scaler that
    is not ``enabled`` does nothing but call ``optimizer.step``. The scale lives on the device of the first loss; only
    ``step`` waits for the device (and not where the optimizer takes ``found_inf`` itself).

    Raises AssertionError for factors that do not grow or shrink. Warns, and is not enabled, without a cuda device.
    https://docs.pytorch.org/docs/stable/amp.html#torch.amp.GradScaler"""

    def __init__(self, device: str = "cuda", init_scale: float = 2.0 ** 16, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True) -> None:
        self._device = device
        self._enabled = enabled
        if device == "cuda" and enabled and not runtime.count():
            warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.", stacklevel=2)
            self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale = init_scale
        self._scale: Tensor | None = None  # on the device of the first loss
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._init_growth_tracker = 0
        self._growth_tracker: Tensor | None = None
        self._per_optimizer_states: defaultdict[int, dict[str, Any]] = defaultdict(_fresh)

    def _started(self, what: str) -> tuple[Tensor, Tensor]:
        """The scale and the growth tracker. Raises AssertionError when nothing was scaled yet."""
        for name, t in (("_scale", self._scale), ("_growth_tracker", self._growth_tracker)):
            if t is None:
                raise AssertionError(f"Attempted {what} but {name} is None.  This may indicate your script did not use "
                                     "scaler.scale(loss or outputs) earlier in the iteration.")
        return self._scale, self._growth_tracker  # type: ignore[return-value]

    # --- the loss ----------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor, or the tensors in a (nested) iterable, times the scale: lists and tuples as such, others as a map.

        Raises ValueError for what is neither."""
        if not self._enabled:
            return outputs
        copies: list[_Copies] = []

        def scaled(value: Any) -> Any:
            if isinstance(value, Tensor):
                if self._scale is None:
                    assert self._growth_tracker is None, "_growth_tracker initialized before _scale"
                    self._scale = full((), self._init_scale, dtype=float32, device=value.device)
                    self._growth_tracker = full((), self._init_growth_tracker, dtype=int32, device=value.device)
                if value.device == self._scale.device:
                    return value * self._scale
                if not copies:
                    copies.append(_Copies(self._scale))
                return value * copies[0].on(value.device)
            if isinstance(value, Iterable):
                items = map(scaled, value)
                return type(value)(items) if isinstance(value, (list, tuple)) else items  # type: ignore[call-arg]
            raise ValueError("outputs must be a Tensor or an iterable of Tensors")

        return scaled(outputs)

    # --- the gradients -----------------------------------------------------------------------

    @no_grad()
    def _unscale_grads_(self, optimizer: Any, inv_scale: Tensor, found_inf: Tensor,
                        allow_fp16: bool) -> dict[Any, Tensor]:
        """Multiply the gradients of an optimizer's parameters; returns for each device whether one was not finite."""
        by_device: dict[Any, list[Tensor]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                if not isinstance(p, Tensor):
                    raise AssertionError(f"expected param to be torch.Tensor, got {type(p).__name__}")
                if p.grad is None:
                    continue
                if not allow_fp16 and p.grad.dtype is float16:
                    raise ValueError("Attempting to unscale FP16 gradients.")
                by_device.setdefault(p.grad.device, []).append(p.grad)
        inverse, found = _Copies(inv_scale), _Copies(found_inf)
        for device, grads in by_device.items():
            ops.unscale(grads, found.on(device), inverse.on(device))
        return found.made

    def _number(self, value: float) -> Tensor:
        assert self._scale is not None
        return full((), value, dtype=float32, device=self._scale.device)

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, to look at or clip them before ``step``.

        Raises RuntimeError when it is done already in this iteration, ValueError for float16 gradients."""
        if not self._enabled:
            return
        scale, _ = self._started("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        inverse = scale.double().reciprocal().float()
        state["found_inf_per_device"] = self._unscale_grads_(optimizer, inverse, self._number(0.0), False)
        state["stage"] = OptState.UNSCALED

    def _check_inf_per_device(self, optimizer: Any) -> dict[Any, Tensor]:
        """Look for infinities in the gradients and leave them as they are."""
        self._started("_check_inf_per_device")
        found = self._unscale_grads_(optimizer, self._number(1.0), self._number(0.0), True)
        self._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = found
        return found

    def _found_inf_per_device(self, optimizer: Any) -> dict[Any, Tensor]:
        return self._per_optimizer_states[id(optimizer)]["found_inf_per_device"]

    # --- the step ----------------------------------------------------------------------------

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Unscale the gradients, unless that is done, and call ``optimizer.step(*args, **kwargs)`` if all are finite.

        Returns what the optimizer does, None for no step. An optimizer with ``_step_supports_amp_scaling``, all of
        whose groups are fused, gets the tensors ``grad_scale`` and ``found_inf`` as attributes and decides itself, on
        the device.
        Raises RuntimeError for a closure, or a second step before ``update``, AssertionError without any gradient."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._started("step")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        fused = all([group.get("fused", True) for group in getattr(optimizer, "param_groups", ())])
        if getattr(optimizer, "_step_supports_amp_scaling", False) and fused:
            result = self._scaled_step(optimizer, state, args, kwargs)
        else:
            if state["stage"] is OptState.READY:
                self.unscale_(optimizer)
            if not state["found_inf_per_device"]:
                raise AssertionError("No inf checks were recorded for this optimizer.")
            result = self._maybe_opt_step(optimizer, state, *args, **kwargs)
        state["stage"] = OptState.STEPPED
        return result

    def _maybe_opt_step(self, optimizer: Any, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if sum(found.item() for found in optimizer_state["found_inf_per_device"].values()):
            return None
        return optimizer.step(*args, **kwargs)

    def _scaled_step(self, optimizer: Any, state: dict[str, Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """A step of an optimizer that takes scaled gradients."""
        if "grad_scaler" in inspect.signature(optimizer.step).parameters:
            warnings.warn("GradScaler is going to stop passing itself as a keyword argument to the passed optimizer. "
                          "In the near future GradScaler registers `grad_scale: Tensor` and `found_inf: Tensor` to the "
                          "passed optimizer and let the optimizer use them directly.", FutureWarning, stacklevel=3)
            return optimizer.step(*args, **kwargs, grad_scaler=self)
        if state["stage"] is OptState.READY:
            self._check_inf_per_device(optimizer)
        scale, _ = self._started("step")
        own = getattr(optimizer, "grad_scale", None)
        if state["stage"] is OptState.READY:
            own = scale if own is None else scale * own
        optimizer.grad_scale = own
        optimizer.found_inf = self._combined(list(state["found_inf_per_device"].values()))
        try:
            return optimizer.step(*args, **kwargs)
        finally:
            del optimizer.grad_scale, optimizer.found_inf

    def _combined(self, found: list[Tensor]) -> Any:
        """How many of the numbers are 1, beside the scale; 0 for none."""
        assert self._scale is not None
        total: Any = None
        for number in found:
            here = number.to(self._scale.device, non_blocking=True)
            total = here if total is None else total + here
        return 0 if total is None else total

    def update(self, new_scale: Any = None) -> None:
        """The scale of the next iteration: a given one (a float, or a tensor of one float32), or what follows from the
        steps of this one. Comes after the steps of all optimizers.

        Raises AssertionError when there was no step, or for another kind of scale."""
        if not self._enabled:
            return
        scale, tracker = self._started("update")
        if isinstance(new_scale, float):
            scale.fill_(new_scale)
        elif new_scale is not None:
            if new_scale.device.type != self._device or new_scale.numel() != 1 or new_scale.requires_grad:
                raise AssertionError("new_scale should be a float or a 1-element torch.cuda.FloatTensor or "
                                     "torch.FloatTensor with requires_grad=False.")
            scale.copy_(new_scale.reshape(()))
        else:
            found = [number for state in self._per_optimizer_states.values()
                     for number in state["found_inf_per_device"].values()]
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.")
            ops.update_scale(scale, tracker, self._combined(found), self._growth_factor, self._backoff_factor,
                             self._growth_interval)
        self._per_optimizer_states = defaultdict(_fresh)

    # --- what it is set to ---------------------------------------------------------------------

    def _get_scale_async(self) -> Tensor | None:
        return self._scale

    def get_scale(self) -> float:
        """The scale, 1.0 where scaling is not enabled. Waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float:
        """The growth factor."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set the growth factor."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """The backoff factor."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set the backoff factor."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """The growth interval, in iterations."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set the growth interval."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else self._growth_tracker.item()

    def is_enabled(self) -> bool:
        """Whether losses are scaled."""
        return self._enabled

    # --- saving and loading ----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The scale and the numbers that steer it; empty where scaling is not enabled. Call it after ``update``."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor,
                "backoff_factor": self._backoff_factor, "growth_interval": self._growth_interval,
                "_growth_tracker": self._get_growth_tracker()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave; nothing happens where scaling is not enabled.

        Raises RuntimeError for an empty one."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance "
                               "of GradScaler.")
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None:
            self._scale.fill_(self._init_scale)
        if self._growth_tracker is not None:
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._enabled:
            if self._per_optimizer_states:
                raise AssertionError("A GradScaler instance may only be pickled at the beginning of an iteration, or "
                                     "at the end after scaler.update().")
            state.update(_init_scale=self.get_scale(), _init_growth_tracker=self._get_growth_tracker(), _scale=None,
                         _growth_tracker=None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
