"""Power pooling: the p-norm of each window, in one, two and three dimensions.

    y = (k / d sum x^p)^(1 / p), k the elements of a window, d those of it that lie inside the input

p = inf is the largest |x|, p = -inf the smallest. Where a sum is 0 the gradient is 0.
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.lp_pool2d.html
"""

from __future__ import annotations

import math
from typing import Any

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, record, recording
from tritium.tensor.ops import pool, pool3d
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.ops.pointwise import where
from tritium.tensor.tensor import Tensor


@derivative
def PowBackward0(node: Any, grad: Tensor) -> Tensor:
    x, y = node.unpack()
    window, p = node.ctx
    if mode.enabled:
        return _by_ops(grad, x, y, window, p)
    dx = of(x._a).pool3d.lp_pool_backward(grad._a, x._a, y._a, window.kernel, window.stride, p)
    return _result(dx, x)


def _result(array: Any, like: Tensor) -> Tensor:
    return pool._result(array, like) if array.ndim == 4 else pool3d.plain(array)


def _by_ops(grad: Tensor, x: Tensor, y: Tensor, window: Any, p: float) -> Tensor:
    if p == 1:
        factor = ((y < 0) | (y > 0)).to(y.dtype)
    else:
        dead = y == (0 if p > 0 else math.inf)
        factor = where(dead, 0, where(dead, 1, y) ** (1 - p))  # no power of 0 in the second derivative
    share = grad * factor * math.prod(window.kernel)
    backward = pool.avg_pool_backward if x.ndim == 4 else pool3d.avg_backward
    dx = backward(share, window, (True, None))
    return dx * x ** (p - 1)


def _lp_pool(x: Tensor, window: Any, p: float) -> Tensor:
    out = _result(of(x._a).pool3d.lp_pool(x._a, window.out, window.kernel, window.stride, p), x)
    if recording(x):
        record(out, PowBackward0, (x,), saved=(x, out), ctx=(window, p))
    return out


def _infinite(norm_type: Any) -> bool:
    return isinstance(norm_type, (int, float)) and math.isinf(norm_type)


def _extreme(largest: Any, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    if norm_type > 0:
        return largest(input.abs(), kernel_size, stride, 0, 1, ceil_mode)
    return -largest(-input.abs(), kernel_size, stride, 0, 1, ceil_mode)


def _checked(name: str, input: Tensor, norm_type: float) -> float:
    if input._a.dtype.kind in "biuc":
        raise not_implemented(name, input._a.dtype)
    _ = 1.0 / norm_type  # ZeroDivisionError, as PyTorch
    return float(norm_type)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm, p = ``norm_type``, of each window of (N, C, L) or (C, L). Raises ZeroDivisionError for p = 0."""
    check_tensor("lp_pool1d", "input", 1, input)
    if _infinite(norm_type):
        return _extreme(pool.max_pool1d, input, norm_type, kernel_size, stride, ceil_mode)
    pool._needs_two_or_three("avg_pool1d", input)
    k = pool._one("avg_pool1d", kernel_size)
    empty = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    s = k if empty else pool._one("avg_pool1d", stride)
    return lp_pool2d(input.unsqueeze(-2), norm_type, (1, k), (1, s), ceil_mode).squeeze(-2)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm, p = ``norm_type``, of each window of (N, C, H, W) or (C, H, W). Raises ZeroDivisionError for
    p = 0."""
    if _infinite(norm_type):
        return _extreme(pool.max_pool2d, input, norm_type, kernel_size, stride, ceil_mode)
    if amp.on and (r := amp.run("lp_pool2d", lp_pool2d, input, norm_type, kernel_size, stride, ceil_mode)) is not None:
        return r
    window = pool._window("avg_pool2d", input, kernel_size, stride, 0, 1, ceil_mode)
    p = _checked("avg_pool2d", input, norm_type)
    x = pool._batched(input)
    out = _lp_pool(x, window, p)
    return out if x is input else out.squeeze(0)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm, p = ``norm_type``, of each window of (N, C, D, H, W) or (C, D, H, W). Raises ZeroDivisionError for
    p = 0."""
    if _infinite(norm_type):
        return _extreme(pool3d.max_pool3d, input, norm_type, kernel_size, stride, ceil_mode)
    if amp.on and (r := amp.run("lp_pool3d", lp_pool3d, input, norm_type, kernel_size, stride, ceil_mode)) is not None:
        return r
    window = pool3d._volume("avg_pool3d", input, kernel_size, stride, 0, 1, ceil_mode)
    p = _checked("avg_pool3d_out_frame", input, norm_type)
    x = pool3d._batched(input)
    out = _lp_pool(x, window, p)
    return out if x is input else out.squeeze(0)
