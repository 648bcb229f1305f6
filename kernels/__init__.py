"""What runs. ``reference`` is the NumPy side, ``triton`` the GPU side: the same families, the same names.

Kernels see arrays, shapes and strides, never a Tensor. ``of(array)`` is the side where an array lives:
``of(a).pointwise.binaries["add"](a, b)``.
"""
from __future__ import annotations

from typing import Any

from numpy import ndarray

from tritium.kernels import reference

_device_array: Any = None
_triton_side: Any = None


def of(array: Any) -> Any:
    """The side where an array lives: a namespace of op families.

    Raises NotImplementedError for an array that no side takes."""
    if isinstance(array, ndarray):
        return reference
    return _other(array)


def _other(array: Any) -> Any:
    global _device_array, _triton_side
    if _triton_side is None:
        from tritium.kernels.array import DeviceArray

        if isinstance(array, DeviceArray):
            from tritium.kernels.triton import side

            _device_array, _triton_side = DeviceArray, side
    if _device_array is not None and isinstance(array, _device_array):
        return _triton_side
    raise NotImplementedError(f"no kernels for arrays of type {type(array).__name__}")


def either(*arrays: Any) -> Any:
    """The side for several operands, of which some may be numbers: where the arrays live. 0-d host arrays count as
    numbers beside arrays of a device.

    Raises RuntimeError, in PyTorch's words, when arrays of two devices meet."""
    found = None
    for a in arrays:
        if type(a) is not ndarray and hasattr(a, "owner"):
            found = a
            break
    if found is None:
        return reference
    for a in arrays:
        if type(a) is ndarray:
            if a.ndim:
                from tritium.kernels.array import DeviceMismatch

                raise DeviceMismatch(f"cuda:{found.device}")
        elif a is not found and hasattr(a, "owner") and a.device != found.device:
            from tritium.kernels.array import DeviceMismatch

            raise DeviceMismatch(f"cuda:{found.device}", f"cuda:{a.device}")
    return of(found)


def on(device: Any) -> Any:
    """The makers of new arrays (``empty``, ``zeros``, ``full``, ``arange``, ``linspace``, ``eye``, ``from_host``) on a
    device: an object with a ``type`` ("cpu" or "cuda") and an ``index``."""
    return reference.memory if device.type == "cpu" else _place(device.index)


def _place(index: int) -> Any:
    place = _places.get(index)
    if place is None:
        from tritium.kernels.triton.place import Place

        place = _places[index] = Place(index)
    return place


def beside(array: Any) -> Any:
    """The makers of new arrays on the device where an array lives; see ``on``."""
    if isinstance(array, ndarray):
        return reference.memory
    return _place(array.device)


_places: dict[int, Any] = {}


def is_host(array: Any) -> bool:
    """Whether an array is NumPy's."""
    return isinstance(array, ndarray)


def is_array(value: Any) -> bool:
    """Whether a value is an array of either side."""
    return isinstance(value, ndarray) or hasattr(value, "owner")


def on_host(array: Any) -> Any:
    """An array's elements as a NumPy array; waits for the device where they are not there already."""
    return array if isinstance(array, ndarray) else array.to_host()
