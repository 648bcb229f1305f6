"""The makers of new arrays, bound to one device."""
from __future__ import annotations

from typing import Any

from tritium.kernels.array import DeviceArray
from tritium.kernels.triton import memory


class Place:
    """What ``memory`` makes, on the device with this index."""

    def __init__(self, index: int) -> None:
        self.index = index

    def empty(self, shape: Any, dtype: Any, device: Any = None) -> DeviceArray:
        return memory.empty(shape, dtype, self.index)

    def zeros(self, shape: Any, dtype: Any, device: Any = None) -> DeviceArray:
        return memory.zeros(shape, dtype, self.index)

    def full(self, shape: Any, value: Any, dtype: Any, device: Any = None) -> DeviceArray:
        return memory.full(shape, value, dtype, self.index)

    def arange(self, start: Any, step: Any, count: int, dtype: Any, device: Any = None) -> DeviceArray:
        return memory.arange(start, step, count, dtype, self.index)

    def linspace(self, start: Any, end: Any, count: int, dtype: Any, device: Any = None) -> DeviceArray:
        return memory.linspace(start, end, count, dtype, self.index)

    def eye(self, rows: int, columns: int, dtype: Any, device: Any = None) -> DeviceArray:
        return memory.eye(rows, columns, dtype, self.index)

    def from_host(self, array: Any, device: Any = None, non_blocking: bool = False) -> DeviceArray:
        return memory.from_host(array, self.index, non_blocking)
