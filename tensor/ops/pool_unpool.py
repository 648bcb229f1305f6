"""Unpooling: values put back where the maxima of a max pooling were, zeros elsewhere. Of several values for one place
the last one stays; the gradient of each is that of its place.
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_unpool2d.html
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import beside, of
from tritium.tensor.autocast import amp
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.tensor import Tensor


@derivative
def MaxUnpool2DBackward0(node: Any, grad: Tensor) -> Tensor:
    return _gathered(node, grad, 2)


@derivative
def MaxUnpool3DBackward0(node: Any, grad: Tensor) -> Tensor:
    return _gathered(node, grad, 3)


def _gathered(node: Any, grad: Tensor, rank: int) -> Tensor:
    (indices,) = node.unpack()
    return grad.flatten(-rank).gather(-1, indices.flatten(-rank)).view(indices.shape)


def _unpool(name: str, input: Tensor, indices: Tensor, size: list[int], kind: Any) -> Tensor:
    rank, shape = len(size), input._a.shape
    x, places = input._a, indices._a
    if x.dtype.kind in "biuc":
        raise not_implemented(name, x.dtype)
    lead, count = shape[:-rank], math.prod(size)
    out = beside(x).zeros((*lead, count), x.dtype)
    if x.size:
        places = of(places).copy.contiguous(places).reshape(*lead, math.prod(shape[-rank:]))
        k = of(x).index
        wrong = k.first_outside(places, 0, count)
        if wrong is not None:
            raise RuntimeError(
                f"Found an invalid max index: {wrong} (output volumes are of size {'x'.join(map(str, size))})"
            )
        k.scatter_into(out, len(lead), places, of(x).copy.contiguous(x).reshape(places.shape))
    t = wrap(out.reshape(*lead, *size))
    if recording(input):
        record(t, kind, (input,), saved=(indices,))
    return t


def _output_size(
    input: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], output_size: Any
) -> list[int]:
    rank = len(kernel)
    usual = [(n - 1) * s + k - 2 * p for n, s, k, p in zip(input.shape[-rank:], stride, kernel, padding, strict=True)]
    if output_size is None:
        return usual
    if len(output_size) == rank + 2:
        output_size = output_size[2:]
    if len(output_size) != rank:
        raise ValueError(
            f"output_size should be a sequence containing {rank} or {rank + 2} elements, but it has a length of "
            f"'{len(output_size)}'"
        )
    for d, (n, m, s) in enumerate(zip(output_size, usual, stride, strict=True)):
        if not m - s < n < m + s:
            raise ValueError(f'invalid output_size "{output_size}" (dim {d} must be between {m - s} and {m + s})')
    return list(output_size)


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank


def _check(rank: int, input: Any, indices: Any) -> None:
    check_tensor(f"max_unpool{rank}d", "input", 1, input)
    check_tensor(f"max_unpool{rank}d", "indices", 2, indices)
    if indices._a.dtype != np.int64:
        found = f" but got: {indices.dtype.title}" if rank == 2 else ""
        raise RuntimeError(f"elements in indices should be type int64{found}")
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"Input to max_unpooling{rank}d should be a {rank + 1}d or {rank + 2}d Tensor, but got a tensor with "
            f"{input.ndim} dimensions."
        )
    if input.shape != indices.shape:
        raise RuntimeError(
            "Expected shape of indices to be same as that of the input tensor "
            f"({list(input.shape)}) but got indices tensor with shape: {list(indices.shape)}"
        )
    for i, n in enumerate(input.shape):
        if not n and i:
            raise RuntimeError(
                f"max_unpooling{rank}d_forward_out_cpu(): Expected input to have non-zero size for non-batch "
                f"dimensions, but got {list(input.shape)} with dimension {i} being empty."
            )


def max_unpool1d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """The values (N, C, L) or (C, L) of ``max_pool1d`` at their ``indices``, in rows of the size that the pooling had,
    or of ``output_size`` where several are possible."""
    if amp.on and (r := amp.run("max_unpool1d", max_unpool1d, input, indices, kernel_size, stride, padding,
                                output_size)) is not None:  # fmt: skip
        return r
    kernel, pads = _tuple(kernel_size, 1), _tuple(padding, 1)
    steps = kernel if stride is None else _tuple(stride, 1)
    (size,) = _output_size(input, kernel, steps, pads, output_size)
    # the last dimension stays the one that is counted, as PyTorch's messages show it
    return _max_unpool2d(input.unsqueeze(-1), indices.unsqueeze(-1), [size, 1]).squeeze(-1)


def _max_unpool2d(input: Tensor, indices: Tensor, size: list[int]) -> Tensor:
    _check(2, input, indices)
    return _unpool("max_unpool2d", input, indices, size, MaxUnpool2DBackward0)


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """The values (N, C, H, W) or (C, H, W) of ``max_pool2d`` at their ``indices``, in planes of the size that the
    pooling had, or of ``output_size`` where several are possible.

    Raises RuntimeError for shapes, dtypes and indices that do not fit, ValueError for an impossible ``output_size``."""
    if amp.on and (r := amp.run("max_unpool2d", max_unpool2d, input, indices, kernel_size, stride, padding,
                                output_size)) is not None:  # fmt: skip
        return r
    kernel, pads = _tuple(kernel_size, 2), _tuple(padding, 2)
    steps = kernel if stride is None else _tuple(stride, 2)
    return _max_unpool2d(input, indices, _output_size(input, kernel, steps, pads, output_size))


def max_unpool3d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """The values (N, C, D, H, W) or (C, D, H, W) of ``max_pool3d`` at their ``indices``; see ``max_unpool2d``."""
    if amp.on and (r := amp.run("max_unpool3d", max_unpool3d, input, indices, kernel_size, stride, padding,
                                output_size)) is not None:  # fmt: skip
        return r
    kernel, pads = _tuple(kernel_size, 3), _tuple(padding, 3)
    steps = kernel if stride is None else _tuple(stride, 3)
    size = _output_size(input, kernel, steps, pads, output_size)
    if min(steps) <= 0:
        raise RuntimeError(f"strides should be greater than zero, but got stride: {list(steps)}")
    _check(3, input, indices)
    return _unpool("max_unpool3d", input, indices, size, MaxUnpool3DBackward0)
