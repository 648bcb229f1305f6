"""Padding layers: `F.pad` with fixed amounts. https://docs.pytorch.org/docs/stable/nn.html#padding-layers"""

from __future__ import annotations

from typing import Any

from tritium.nn import functional as F
from tritium.nn.modules.module import Module
from tritium.nn.modules.utils import ntuple
from tritium.tensor.tensor import Tensor


class _PadNd(Module):
    """`padding`: one number for all sides, or (left, right, top, bottom, front, back) as far as there are
    dimensions."""

    dimensions: int
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = ntuple(padding, 2 * self.dimensions)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """`value` at both ends of the last dimension."""

    dimensions = 1


class ConstantPad2d(_ConstantPadNd):
    """`value` around the last two dimensions."""

    dimensions = 2


class ConstantPad3d(_ConstantPadNd):
    """`value` around the last three dimensions."""

    dimensions = 3


class _ZeroPadNd(_ConstantPadNd):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPadNd):
    """Zeros at both ends of the last dimension."""

    dimensions = 1


class ZeroPad2d(_ZeroPadNd):
    """Zeros around the last two dimensions."""

    dimensions = 2


class ZeroPad3d(_ZeroPadNd):
    """Zeros around the last three dimensions."""

    dimensions = 3


class ReflectionPad1d(_PadNd):
    """The input mirrored at both ends, without repeating the end."""

    dimensions, mode = 1, "reflect"


class ReflectionPad2d(_PadNd):
    """The input mirrored at all sides, without repeating the edge."""

    dimensions, mode = 2, "reflect"


class ReflectionPad3d(_PadNd):
    """The input mirrored at all sides, without repeating the face."""

    dimensions, mode = 3, "reflect"


class ReplicationPad1d(_PadNd):
    """The end values repeated."""

    dimensions, mode = 1, "replicate"


class ReplicationPad2d(_PadNd):
    """The edge values repeated."""

    dimensions, mode = 2, "replicate"


class ReplicationPad3d(_PadNd):
    """The face values repeated."""

    dimensions, mode = 3, "replicate"


class CircularPad1d(_PadNd):
    """The input continued periodically."""

    dimensions, mode = 1, "circular"


class CircularPad2d(_PadNd):
    """The input continued periodically."""

    dimensions, mode = 2, "circular"


class CircularPad3d(_PadNd):
    """The input continued periodically."""

    dimensions, mode = 3, "circular"
