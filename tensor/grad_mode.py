"""Whether operations are recorded: ``no_grad``, ``enable_grad``, ``set_grad_enabled``, ``inference_mode``.

Each is a context manager and a decorator, per thread, as in
https://docs.pytorch.org/docs/stable/torch.html#locally-disabling-gradient-computation
"""
from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True  # whether operations are recorded
    inference = False
    checked = False  # inside a derivative whose index tensors were checked by the operation itself
    wanted = True  # what ``enable_grad`` asked for inside inference mode, where nothing is recorded all the same


mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require grad are being recorded in this thread."""
    return mode.wanted if mode.inference else mode.enabled


def is_inference_mode_enabled() -> bool:
    """Whether ``inference_mode`` is on in this thread."""
    return mode.inference


State = tuple[bool, bool, bool]


def _state() -> State:
    return mode.enabled, mode.inference, mode.wanted


def _restore(state: State) -> None:
    mode.enabled, mode.inference, mode.wanted = state


def _put(value: bool) -> None:
    mode.wanted = value
    mode.enabled = value and not mode.inference


class _Switch:
    """A context manager and decorator that sets the mode and puts it back; it may be entered again and nested."""

    def __init__(self) -> None:
        self._before: list[State] = []

    def _set(self) -> None:
        raise NotImplementedError

    def _clone(self) -> _Switch:
        return type(self)()

    def __enter__(self) -> None:
        self._before.append(_state())
        self._set()

    def __exit__(self, *error: object) -> None:
        _restore(self._before.pop())

    def __call__(self, function: F) -> F:
        if inspect.isclass(function):
            raise TypeError(f"{type(self).__name__} decorates functions and methods, not the class "
                            f"{function.__name__}")
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self._clone():
                return function(*args, **kwargs)

        return inside  # type: ignore[return-value]

    def _wrap_generator(self, function: Any) -> Any:
        """The mode holds while the generator's own code runs, and not while its caller's does."""

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            send: Any = None
            try:
                with self._clone():
                    item = next(generator)
                while True:
                    try:
                        send = yield item
                    except GeneratorExit:
                        with self._clone():
                            generator.close()
                        raise
                    except BaseException as error:
                        with self._clone():
                            item = generator.throw(error)
                    else:
                        with self._clone():
                            item = generator.send(send)
            except StopIteration as stop:
                return stop.value

        return inside


class no_grad(_Switch):
    """Stop recording: results do not require grad. ``with no_grad():`` or ``@no_grad()`` (or ``@no_grad``)."""

    def __new__(cls, function: Any = None) -> Any:
        self = super().__new__(cls)
        if function is None:
            return self
        _Switch.__init__(self)
        return self(function)

    def __init__(self, function: Any = None) -> None:
        super().__init__()

    def _set(self) -> None:
        _put(False)


class enable_grad(no_grad):
    """Record again inside a ``no_grad`` block."""

    def _set(self) -> None:
        _put(True)


class set_grad_enabled(_Switch):
    """Set recording on or off: acts at once when called, and is put back when used as a context manager."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        if not isinstance(mode, bool):
            raise TypeError("set_grad_enabled(): argument 'enabled' (position 1) must be bool, not "
                            f"{type(mode).__name__}")
        self.mode = mode
        self._initial: State | None = _state()
        _put(mode)

    def __enter__(self) -> None:
        # the state to go back to is the one from before the call
        if self._initial is not None:
            self._before.append(self._initial)
            self._initial = None
        else:
            self._before.append(_state())
        _put(self.mode)

    def __call__(self, function: F) -> F:
        if self._initial is not None:  # used as a decorator: the call itself changes nothing
            _restore(self._initial)
            self._initial = None
        return super().__call__(function)

    def _clone(self) -> _Switch:
        before = _state()
        copy = set_grad_enabled(self.mode)
        copy._initial = before
        return copy

    def _set(self) -> None:
        _put(self.mode)


class inference_mode(_Switch):
    """``no_grad`` for code that will never need gradients. ``inference_mode(False)`` switches it off inside."""

    def __new__(cls, mode: Any = True) -> Any:
        self = super().__new__(cls)
        if isinstance(mode, bool):
            return self
        _Switch.__init__(self)
        self.on = True
        return self(mode)

    def __init__(self, mode: Any = True) -> None:
        super().__init__()
        self.on = mode if isinstance(mode, bool) else True

    def _clone(self) -> _Switch:
        return inference_mode(self.on)

    def _set(self) -> None:
        mode.inference = self.on
        mode.enabled = mode.wanted = not self.on
