"""``Parameter``: a tensor that a Module counts among its parameters."""
from __future__ import annotations

from typing import Any

from tritium.tensor.from_data import NOT_FLOATING
from tritium.tensor.tensor import Tensor, new_tensor


class _Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return type.__instancecheck__(cls, instance) or (
            cls is Parameter and isinstance(instance, Tensor) and getattr(instance, "_is_param", False))


class Parameter(Tensor, metaclass=_Meta):
    """A leaf tensor over the memory of ``data`` that requires grad unless told otherwise.

    Assigned as an attribute of a Module it appears in ``Module.parameters()``.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html"""

    __module__ = "tritium.nn.parameter"

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        from tritium.tensor.creation import empty

        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter data must be a Tensor, got {type(data).__name__}")
        source = data.detach()
        self = new_tensor(cls)
        self._a, self._vc = source._a, source._vc
        if requires_grad and self._a.dtype.kind in "biu":
            raise RuntimeError(NOT_FLOATING)
        self.requires_grad = requires_grad
        return self

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) in memo:
            return memo[id(self)]
        from tritium.tensor.ops.copy import clone

        out = type(self)(clone(self.data), self._rg)
        memo[id(self)] = out
        return out

    def __repr__(self, *, tensor_contents: str | None = None) -> str:  # type: ignore[override]  # it is the same
        return "Parameter containing:\n" + Tensor.__repr__(self)


class Buffer(Tensor):
    """A tensor that a Module registers as a buffer when it is assigned as an attribute."""

    __module__ = "tritium.nn.parameter"
    persistent: bool

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Buffer:
        from tritium.tensor.creation import empty

        source = (empty(0) if data is None else data).data
        self = new_tensor(cls)
        self._a, self._vc = source._a, source._vc
        self.persistent = persistent
        return self

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        pass
