"""The memory behind tensors: which array owns it, offsets into it, and the storage objects that users see."""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import is_host, of, on_host
from tritium.tensor.device import device_of
from tritium.tensor.dtype import dtype, from_numpy_dtype


def root_of(array: Any) -> Any:
    """The array that owns (or first described) the memory an array looks at; on a device, the block of memory."""
    if not is_host(array):
        return array.owner
    while True:
        base = array.base
        if base is not None and not isinstance(base, np.ndarray):
            base = getattr(base, "base", None)  # as_strided puts a holder in between
        if not isinstance(base, np.ndarray):
            return array
        array = base


def address_of(array: Any) -> int:
    """The address of the first element."""
    return of(array).memory.address(array)


def bounds_of(array: Any) -> tuple[int, int]:
    """The first address of a root's memory, and the one after the last."""
    if not is_host(array):
        return array.ptr, array.ptr + array.nbytes
    return np.lib.array_utils.byte_bounds(array)


def offset_of(array: Any) -> int:
    """The position of the first element in its storage, in elements."""
    if array.size == 0:
        return 0
    return (address_of(array) - bounds_of(root_of(array))[0]) // array.itemsize


def storage_elements(array: Any) -> Any:
    """The whole storage behind an array as a flat array of the same dtype."""
    root = root_of(array)
    low, high = bounds_of(root)
    count = (high - low) // array.itemsize
    if not is_host(array):
        return array.look(low, (count,), (array.itemsize,))
    if root.flags.c_contiguous or root.flags.f_contiguous:
        flat = root.reshape(-1, order="A")
        return flat if flat.dtype == array.dtype else flat.view(np.uint8)[:count * array.itemsize].view(array.dtype)
    # an outside array with gaps: the window starts at its lowest address
    interface = {"shape": (count,), "typestr": "|u1", "data": (low, False), "version": 3}
    holder = _Holder({**interface, "shape": (high - low,)}, root)
    return np.asarray(holder).view(array.dtype) if (high - low) % array.itemsize == 0 else np.asarray(holder)


def may_share_memory(a: Any, b: Any) -> bool:
    """Whether the memory that two arrays reach over has a part in common."""
    if is_host(a) and is_host(b):
        return np.may_share_memory(a, b)
    return not is_host(a) and not is_host(b) and a.owner is b.owner and (
        a.ptr <= b.ptr < a.ptr + _span(a) or b.ptr <= a.ptr < b.ptr + _span(b))


def _span(a: Any) -> int:
    if a.size == 0:
        return 0
    return a.itemsize + sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True))


class _Holder:
    """Gives NumPy a stretch of memory and keeps its owner alive."""

    def __init__(self, interface: dict[str, Any], base: Any) -> None:
        self.__array_interface__ = interface
        self.base = base


def copy_with_storage(array: Any, memo: dict[int, Any]) -> Any:
    """A copy of an array for ``deepcopy``: arrays that share memory share the memory of one copy."""
    root = root_of(array)
    key = ("storage of", id(root))
    if not is_host(array):
        block = memo.get(key)  # type: ignore[call-overload]
        if block is None:
            whole = array.view(np.dtype(np.uint8)) if array.dtype.itemsize == 1 else array
            memo[key] = block = storage_elements(whole).copy().owner  # type: ignore[index]
        return of(array).memory.over(block, block.ptr + array.ptr - root.ptr, array)
    if array is root or array.size == root.size == 0:
        copy = memo.get(key)  # type: ignore[call-overload]
        if copy is None:
            copy = np.array(array, order="K", copy=True)
            if copy.strides != array.strides:
                copy = None
        if copy is not None and copy.shape == array.shape:
            memo[key] = copy  # type: ignore[index]
            return copy
    flat = memo.get(("flat of", id(root)))  # type: ignore[call-overload]
    if flat is None:
        base_copy = memo.get(key)  # type: ignore[call-overload]
        flat = storage_elements(array).copy() if base_copy is None else base_copy.reshape(-1, order="A")
        memo["flat of", id(root)] = flat  # type: ignore[index]
    start = offset_of(array)
    typed = flat if flat.dtype == array.dtype else flat.view(array.dtype)
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    return np.lib.stride_tricks.as_strided(typed[start:], array.shape, array.strides)


class UntypedStorage:
    """The bytes behind a tensor. Two tensors share memory when ``data_ptr()`` of their storages is the same."""

    __module__ = "tritium"

    def __init__(self, array: Any) -> None:
        self._root = root_of(array)
        self._device = device_of(array)
        self._bytes = storage_elements(array)

    def data_ptr(self) -> int:
        """The address of the first byte."""
        low, high = bounds_of(self._root)
        return low if high > low else 0

    def nbytes(self) -> int:
        """The number of bytes."""
        low, high = bounds_of(self._root)
        return high - low if not is_host(self._root) or self._root.size else 0

    size = __len__ = nbytes

    def __getitem__(self, index: Any) -> Any:
        return on_host(self._bytes).view(np.uint8)[index]

    def tolist(self) -> list[int]:
        """The bytes as Python ints."""
        return on_host(self._bytes).view(np.uint8).tolist()

    @property
    def device(self) -> Any:
        """Where the memory is."""
        return self._device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other._root is self._root

    def __hash__(self) -> int:
        return id(self._root)

    def __repr__(self) -> str:
        return f"[tritium.storage.UntypedStorage(device={self._device}) of size {self.nbytes()}]"


class TypedStorage:
    """The memory behind a tensor as elements of one dtype."""

    __module__ = "tritium"

    def __init__(self, array: Any) -> None:
        self._array = array
        self._elements = storage_elements(array)

    @property
    def dtype(self) -> dtype:
        return from_numpy_dtype(self._elements.dtype)

    def data_ptr(self) -> int:
        """The address of the first element."""
        return UntypedStorage(self._array).data_ptr()

    def size(self) -> int:
        """The number of elements."""
        return self._elements.size

    __len__ = size

    def __getitem__(self, index: Any) -> Any:
        found = on_host(self._elements)[index]
        return found.item() if isinstance(found, np.generic) else TypedStorage(found)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._elements[index] = value

    def tolist(self) -> list[Any]:
        """The elements as Python numbers."""
        return self._elements.tolist()

    def untyped(self) -> UntypedStorage:
        """The same memory as bytes."""
        return UntypedStorage(self._array)

    def __iter__(self) -> Any:
        return iter(self.tolist())

    def __repr__(self) -> str:
        lines = "".join(f" {v}\n" for v in self.tolist())
        return (f"{lines}[tritium.storage.TypedStorage(dtype={self.dtype}, device={device_of(self._array)}) of size "
                f"{self.size()}]")
