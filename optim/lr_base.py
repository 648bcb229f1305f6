"""The base of the learning rate schedules.

A schedule owns the ``lr`` entry of the optimizer's parameter groups. Most of them are written as a recurrence, the new
rate from the present one, so that several schedules can act on the same optimizer; `_get_closed_form_lr`, where there
is one, gives the rate of an epoch directly. The attributes have PyTorch's names, since the ``state_dict`` is made of
them and goes both ways.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from tritium.optim.optimizer import Optimizer
from tritium.tensor.tensor import Tensor

EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
    "`scheduler.step()` to step the scheduler. During the deprecation, if epoch is different from None, the closed "
    "form is used instead of the new chainable form, where available. Please open an issue if you are unable to "
    "replicate your use case: https://github.com/pytorch/pytorch/issues/new/choose.")
HOW_TO = "See more details at https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"


def copied(value: Any) -> Any:
    """A learning rate on its own: a tensor is cloned, since the optimizer's is changed in place."""
    return value.clone() if isinstance(value, Tensor) else value


def current(optimizer: Optimizer, name: str = "lr") -> list[Any]:
    """This option of every group."""
    return [copied(group[name]) for group in optimizer.param_groups]


def assign(group: dict[str, Any], value: Any) -> None:
    """Set a group's learning rate, in place when it is a tensor."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and isinstance(value, Tensor):
        lr.copy_(value.reshape(lr.shape))
    elif isinstance(lr, Tensor):
        lr.fill_(value)
    else:
        group["lr"] = value


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError for anything but an optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


class LRScheduler:
    """Base class: a subclass gives ``get_lr()``, the rates of all groups for ``last_epoch``.

    ``last_epoch=-1`` starts afresh and notes each group's present rate as its ``initial_lr``; any other value goes on
    after that epoch, and raises KeyError when a group has no ``initial_lr``."""

    _get_lr_called_within_step = False
    _is_initial = False
    last_epoch: int
    _get_closed_form_lr: Callable[[], list[Any]]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch >= 0.\nThis typically happens when:\n1. You're trying to resume training from a "
                    "checkpoint but haven't properly loaded the optimizer state\n2. You're using last_epoch >= 0 for "
                    "a fresh training run (not recommended)")
        self.base_lrs = current(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        _watch(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        """Set the rates of the first epoch."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the schedule that gave this state was. Load the optimizer's own state afterwards."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The rates that the last ``step`` set."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The rates for ``last_epoch``; called by ``step``. Use ``get_last_lr()`` to read the rates."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch (or, deprecated, to a given one) and set its rates. Comes after ``optimizer.step()``."""
        if self._step_count == 1:
            self._warn_about_order()
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _warn_about_order(self) -> None:
        optimizer = self.optimizer
        if _step_of(optimizer) is not optimizer._watched_step:
            warnings.warn("Seems like `optimizer.step()` has been overridden after learning rate scheduler "
                          "initialization. Please, make sure to call `optimizer.step()` before `lr_scheduler.step()`. "
                          + HOW_TO, UserWarning, stacklevel=3)
        elif not optimizer._opt_called:
            warnings.warn("Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 and "
                          "later, you should call them in the opposite order: `optimizer.step()` before "
                          "`lr_scheduler.step()`.  Failure to do this will result in PyTorch skipping the first value "
                          "of the learning rate schedule. " + HOW_TO, UserWarning, stacklevel=3)

    def _update_lr(self, epoch: int | None = None) -> None:
        if epoch is None:
            self.last_epoch += 1
            rates = self._called_within_step(self.get_lr)
        else:
            self.last_epoch = epoch
            rates = self._called_within_step(getattr(self, "_get_closed_form_lr", self.get_lr))
        self._set(rates)

    def _called_within_step(self, get: Callable[[], list[Any]]) -> list[Any]:
        self._get_lr_called_within_step = True
        try:
            return get()
        finally:
            self._get_lr_called_within_step = False

    def _set(self, rates: list[Any]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            assign(group, rate)
        self._last_lr = current(self.optimizer)

    # --- what get_lr is made of --------------------------------------------------------------

    def _expect_step(self) -> None:
        """Warn when the user calls ``get_lr`` directly: outside of ``step`` a recurrence gives the rate after next."""
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
                          UserWarning, stacklevel=3)

    def _kept(self) -> list[Any]:
        return current(self.optimizer)

    def _times(self, factor: float) -> list[Any]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]


def _step_of(optimizer: Optimizer) -> Any:
    return getattr(optimizer.step, "__func__", optimizer.step)


def _watch(optimizer: Optimizer) -> None:
    """From the first schedule on, note whether the optimizer has made a step, and which function that is."""
    if optimizer._watched_step is None:
        optimizer._watched_step = _step_of(optimizer)
        optimizer._opt_called = False
