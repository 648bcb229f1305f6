"""``tritium.jit``: what model files ask and mark. Nothing is ever scripted or traced.

https://docs.pytorch.org/docs/stable/jit.html
"""
from __future__ import annotations

from typing import Any, NoReturn


def is_scripting() -> bool:
    """Whether the code is being compiled: never."""
    return False


def is_tracing() -> bool:
    """Whether the code is being traced: never."""
    return False


def _same(function: Any = None, **kwargs: Any) -> Any:
    """A mark for the compiler: the function as it is."""
    return function if function is not None else _same


unused = ignore = export = _overload_method = _overload = _same


def script(obj: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises NotImplementedError: there is no compiler for Python code."""
    raise NotImplementedError("jit.script is not implemented")


def trace(func: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises NotImplementedError: there is no tracer."""
    raise NotImplementedError("jit.trace is not implemented")


def load(f: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises NotImplementedError: TorchScript archives hold code, which is never run."""
    raise NotImplementedError("jit.load is not implemented: TorchScript archives hold code, which is never run")
