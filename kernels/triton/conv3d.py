"""3-D convolution and its gradients: what ``conv`` and ``conv_grad`` do, with one dimension more."""
from __future__ import annotations

from tritium.kernels.array import DeviceArray
from tritium.kernels.triton.conv import Prepared, Steps, convolve
from tritium.kernels.triton.conv3d_cases import cases as cases
from tritium.kernels.triton.conv_grad import input_gradient, weight_gradient

ONES, NO_PADDING = (1, 1, 1), (0, 0, 0, 0, 0, 0)


def conv3d(x: DeviceArray, weight: DeviceArray | Prepared, bias: DeviceArray | None = None, stride: Steps = ONES,
           padding: Steps = NO_PADDING, dilation: Steps = ONES, groups: int = 1, *,
           residual: DeviceArray | None = None, activation: str | None = None) -> DeviceArray:
    """x (N, C, D, H, W), weight (O, C / groups, kd, kh, kw), bias (O,) -> (N, O, OD, OH, OW) in NDHWC storage.

    ``padding`` is (front, back, top, bottom, left, right). ``residual``, of the output's shape, is added;
    ``activation`` is None, "relu" or "relu6". ``weight`` may be ``Prepared``, whose groups then count. Dtypes are
    equal.
    Raises DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    return convolve(x, weight, bias, stride, padding, dilation, groups, residual, activation)


def conv3d_input(dy: DeviceArray, weight: DeviceArray, size: Steps, stride: Steps = ONES, padding: Steps = NO_PADDING,
                 dilation: Steps = ONES, groups: int = 1) -> DeviceArray:
    """dy (N, O, OD, OH, OW), weight (O, C / groups, kd, kh, kw) -> dx (N, C, *size) in NDHWC storage."""
    return input_gradient(dy, weight, size, stride, padding, dilation, groups)


def conv3d_weight(x: DeviceArray, dy: DeviceArray, kernel: Steps, stride: Steps = ONES, padding: Steps = NO_PADDING,
                  dilation: Steps = ONES, groups: int = 1, last: bool = False) -> DeviceArray:
    """x (N, C, D, H, W), dy (N, O, OD, OH, OW) -> dw (O, C / groups, *kernel), contiguous or with the channels
    ``last``."""
    return weight_gradient(x, dy, kernel, stride, padding, dilation, groups, last)
