"""Conversions of a whole module: every parameter, its gradient, and every buffer goes through one function.

Parameters stay the same objects (an optimizer that holds them goes on working): only their data is replaced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from tritium.tensor.device import device as Device
from tritium.tensor.dtype import dtype as Dtype
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tritium.nn.modules.module import Module


class Convertible:
    """The part of `Module` that converts and moves its tensors."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    children: Callable[[], Iterator[Module]]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Put every tensor through `fn`, children first."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            grad = param.grad
            with no_grad():
                param.data = fn(param)
                if grad is not None:
                    grad.data = fn(grad)
                    param.grad = grad
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move and convert all parameters and buffers: `to(device)`, `to(dtype)`, `to(tensor)`,
        `memory_format=`.

        Only floating point tensors take the dtype. Raises TypeError for a dtype that is not floating point or
        complex.
        """
        return self._apply(conversion(*args, **kwargs))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Move to a device without copying: the values of all parameters and buffers are undefined
        afterwards."""
        return self._apply(emptied(device), recurse)

    def type(self, dst_type: Any) -> Self:
        """Convert all parameters and buffers to a dtype."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self) -> Self:
        """Convert floating point parameters and buffers to float32."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self) -> Self:
        """Convert floating point parameters and buffers to float64."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def half(self) -> Self:
        """Convert floating point parameters and buffers to float16."""
        return self._apply(lambda t: t.half() if t.is_floating_point() else t)

    def bfloat16(self) -> Self:
        """Convert floating point parameters and buffers to bfloat16."""
        return self._apply(lambda t: t.bfloat16() if t.is_floating_point() else t)

    def cpu(self) -> Self:
        """Move all parameters and buffers to the CPU."""
        return self._apply(lambda t: t.cpu())

    def cuda(self, device: Any = None) -> Self:
        """Move all parameters and buffers to a cuda device."""
        return self._apply(lambda t: t.cuda(device))


def conversion(*args: Any, **kwargs: Any) -> Callable[[Tensor], Tensor]:
    """The function that `Module.to` applies, from its arguments."""
    device, dtype, non_blocking, memory_format = parse_to(*args, **kwargs)
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        raise TypeError(
            "nn.Module.to only accepts floating point or complex dtypes, but got desired "
            f"dtype={str(dtype).replace('tritium', 'torch')}"
        )
    if dtype is not None and dtype.is_complex:
        warnings.warn("Complex modules: layers compute with real numbers only.", stacklevel=3)

    def convert(t: Tensor) -> Tensor:
        wanted = dtype if t.is_floating_point() or t.is_complex() else None
        if memory_format is not None and t.dim() in (4, 5):
            return t.to(device=device, dtype=wanted, non_blocking=non_blocking, memory_format=memory_format)
        return t.to(device=device, dtype=wanted, non_blocking=non_blocking)

    return convert


def parse_to(
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    tensor: Tensor | None = None,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> tuple[Any, Any, bool, Any]:
    """(device, dtype, non_blocking, memory_format) from the arguments of `to`. Raises TypeError for anything else."""
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        tensor = rest.pop(0)
    elif rest and isinstance(rest[0], Dtype):
        dtype = rest.pop(0)
    elif rest:
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], Dtype)):
            dtype = rest.pop(0)
    if rest and isinstance(rest[0], bool):
        non_blocking = rest.pop(0)
    if tensor is not None:
        device, dtype = tensor.device, tensor.dtype
    if rest or not (device is None or isinstance(device, str | int | Device)):
        given = ", ".join(type(a).__name__ for a in args)
        raise TypeError(f"to() received an invalid combination of arguments - got ({given})")
    return device, dtype, non_blocking, memory_format


def emptied(device: Any) -> Callable[[Tensor], Tensor]:
    """The function that `Module.to_empty` applies."""
    from tritium.tensor.creation import empty_like

    return lambda t: empty_like(t, device=device)
