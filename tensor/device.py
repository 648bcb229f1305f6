"""Devices, as objects: ``device("cpu")``, ``device("cuda", 1)``."""
from __future__ import annotations

from typing import Any

TYPES = ("cpu", "cuda")


class device:
    """Where a tensor lives: ``type`` ("cpu" or "cuda") and ``index`` (None when not given).

    ``device("cuda:1")``, ``device("cuda", 1)``, ``device(0)`` (a cuda index) and ``device(another)`` are accepted.
    Raises RuntimeError for an unknown type or a malformed text, with PyTorch's words.
    https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device"""

    __slots__ = ("type", "index")

    type: str
    index: int | None

    def __new__(cls, type: Any = None, index: int | None = None) -> device:
        if isinstance(type, device):
            return type
        if isinstance(type, int) and not isinstance(type, bool):
            if type < 0:
                raise RuntimeError("Device index must not be negative")
            type, index = "cuda", type
        if not isinstance(type, str):
            raise TypeError(f"device(): argument 'type' (position 1) must be str, not {_type_name(type)}")
        name, colon, number = type.partition(":")
        if colon:
            if index is not None:
                raise RuntimeError("type (string) must not include an index because index was passed explicitly: "
                                   f"{type}")
            if not number.isdecimal() or (len(number) > 1 and number[0] == "0"):
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        if name not in TYPES:
            if not name.isalpha():
                raise RuntimeError(f"Invalid device string: '{type}'")
            raise RuntimeError(f"Expected one of cpu, cuda device type at start of device string: {name}")
        if name == "cpu" and index not in (None, 0):
            raise RuntimeError("Device index must not be negative" if index is not None and index < 0 else
                               f"CPU device index must be -1 or zero, got {index}")
        self = object.__new__(cls)
        object.__setattr__(self, "type", name)
        object.__setattr__(self, "index", index)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"attribute '{name}' of 'tritium.device' objects is not writable")

    def __repr__(self) -> str:
        number = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{number})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.type,) if self.index is None else (self.type, self.index)

    def __enter__(self) -> device:
        _defaults.append(as_available(self))
        return self

    def __exit__(self, *error: object) -> None:
        _defaults.pop()


def _type_name(value: Any) -> str:
    return type(value).__name__


cpu = device("cpu")
_defaults: list[device] = [cpu]


def as_available(value: Any) -> device:
    """``value`` (None, text, index or device) as a device that tensors can be made on: cuda with its index.

    Raises RuntimeError, in PyTorch's words, for a cuda device that is not there."""
    if value is None:
        return _defaults[-1]
    if value is cpu or value == "cpu":
        return cpu
    found = device(value)
    if found.type == "cuda":
        from tritium.kernels.runtime.state import current

        index = current.device if found.index is None else found.index
        current.check(index)
        return cuda_device(index)
    return cpu


_cuda: dict[int, device] = {}


def cuda_device(index: int) -> device:
    """The device with this index: always the same object."""
    found = _cuda.get(index)
    if found is None:
        found = _cuda[index] = device("cuda", index)
    return found


def device_of(array: Any) -> device:
    """Where an array lives."""
    return cuda_device(array.device) if hasattr(array, "owner") else cpu


def get_default_device() -> device:
    """The device of new tensors made without ``device=``."""
    return _defaults[-1]


def set_default_device(device: Any) -> None:
    """Set the device of new tensors made without ``device=``; None sets it back to the CPU."""
    _defaults[0] = as_available(device) if device is not None else cpu
