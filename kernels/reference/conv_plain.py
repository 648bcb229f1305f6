"""Convolution written as its definition says, slow and plain: what the fast kernels are tested against.

y[n, o, p, q] = b[o] + sum over c, i, j of x[n, c, p s - P + i d, q s - P + j d] w[o, c, i, j]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def _windows(x: Any, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair) -> Any:
    """View (N, C, OH, OW, kh, kw) of the padded input."""
    top, bottom, left, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = sliding_window_view(x, reach, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Any:
    """x (N, C, H, W), weight (O, C / groups, kh, kw) -> (N, O, OH, OW); padding is (top, bottom, left, right)."""
    view = _windows(x, weight.shape[2:], stride, padding, dilation)
    N, C, OH, OW, kh, kw = view.shape
    view = view.reshape(N, groups, C // groups, OH, OW, kh, kw)
    w = weight.reshape(groups, -1, C // groups, kh, kw)
    y = np.einsum("ngcpqij,gocij->ngopq", view, w, optimize=True).reshape(N, weight.shape[0], OH, OW)
    return y if bias is None else y + bias[:, None, None]


def conv2d_input(
    dy: Any,
    weight: Any,
    size: Pair,
    stride: Pair = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Any:
    """Gradient with respect to the input, whose height and width are ``size``."""
    (N, O, OH, OW), (kh, kw) = dy.shape, weight.shape[2:]
    H, W = size
    top, bottom, left, right = padding
    d = dy.reshape(N, groups, O // groups, OH, OW)
    w = weight.reshape(groups, O // groups, -1, kh, kw)
    dx = np.zeros((N, groups, w.shape[2], H + top + bottom, W + left + right), dy.dtype)
    for i in range(kh):
        for j in range(kw):
            a, b = i * dilation[0], j * dilation[1]
            dx[..., a : a + stride[0] * (OH - 1) + 1 : stride[0], b : b + stride[1] * (OW - 1) + 1 : stride[1]] += (
                np.einsum("ngopq,goc->ngcpq", d, w[..., i, j], optimize=True)
            )
    return dx.reshape(N, groups * dx.shape[2], *dx.shape[3:])[:, :, top : top + H, left : left + W]


def conv2d_weight(
    x: Any,
    dy: Any,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Any:
    """Gradient with respect to the weight, whose height and width are ``kernel``."""
    OH, OW = dy.shape[2:]
    view = _windows(x, kernel, stride, padding, dilation)[:, :, :OH, :OW]
    N, C = view.shape[:2]
    view = view.reshape(N, groups, C // groups, OH, OW, *kernel)
    d = dy.reshape(N, groups, dy.shape[1] // groups, OH, OW)
    return np.einsum("ngcpqij,ngopq->gocij", view, d, optimize=True).reshape(dy.shape[1], C // groups, *kernel)
