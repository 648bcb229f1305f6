"""Convolution in one, two and three dimensions, its transpose, and their derivatives, which are convolutions again.

With y = conv(x, w), the three products conv(x, w), dgrad(dy, w) and wgrad(x, dy) are linear in each argument, and the
derivative of any of them is made of the other two: derivatives of every order exist.
https://docs.pytorch.org/docs/stable/nn.functional.html#convolution-functions
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import either, of
from tritium.tensor.autocast import amp, lowered
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.layout import is_channels_last, suggests_channels_last
from tritium.tensor.ops import conv_weights
from tritium.tensor.ops.conv_arguments import (
    Setting,
    check_bias,
    check_dtypes,
    expand,
    make_setting,
    read_options,
    setting_of,
)
from tritium.tensor.ops.copy import cast
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.tensor import Tensor


def _plane(t: Tensor) -> Any:
    """The array of a tensor (N, C, H, W) or (N, C, D, H, W); (N, C, L) as images of one row."""
    a = t._a
    return a[:, :, None] if a.ndim == 3 else a


def _size(shape: Any) -> Any:
    """The sizes of such an array's image, or kernel."""
    return (1, shape[2]) if len(shape) == 3 else shape[2:]


def _result(array: Any, like: Tensor, *layouts: Tensor) -> Tensor:
    """A tensor over a kernel's channels-last result, of as many dimensions as ``like``. It is channels-last for the
    user to see when one of ``layouts`` is, else its layout is free."""
    if like._a.ndim == 3:
        array = array[:, :, 0]
    if array.flags.c_contiguous:  # also channels-last; give dimensions of size 1 the usual strides
        return wrap(array.reshape(-1).reshape(array.shape))
    out = wrap(array)
    for t in layouts:
        if not t._free and is_channels_last(t._a, max(t._a.ndim, 4)) and not t._a.flags.c_contiguous:
            return out
    out._free = True
    return out


# ------------------------------------------------------------------------------------- the three products


@derivative
def ConvolutionBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, w = node.unpack()
    s: Setting = node.ctx
    needs = node.needs
    return (
        _dgrad(grad, w, x._a.shape, s, x) if needs[0] else None,
        _wgrad(x, grad, w, s) if needs[1] else None,
        _bias_grad(grad) if needs[2] else None,
    )


def _bias_grad(grad: Tensor) -> Tensor:
    if mode.enabled and grad._rg:
        return grad.sum((0, *range(2, grad.ndim)))
    return wrap(of(grad._a).conv_grad.bias_gradient(grad._a))


def _convolve(x: Tensor, w: Tensor, bias: Tensor | None, s: Setting) -> Tensor:
    """y = conv(x, w) + bias."""
    needed = (x, w) if bias is None else (x, w, bias)
    side = either(*[t._a for t in needed])
    convolve = side.conv3d.conv3d if x._a.ndim == 5 else side.conv.conv2d
    if recording(*needed):
        array = convolve(_plane(x), _plane(w), None if bias is None else bias._a, *s)
        out = _result(array, x, x, w)
        inputs = (x, w, _Nothing if bias is None else bias)
        return record(out, ConvolutionBackward0, inputs, (x, w), s)
    if x._a.ndim == 3:
        weight, b = _plane(w), None if bias is None else bias._a
    else:
        weight, b = conv_weights.ready(w, bias, None, s.groups)
    return _result(convolve(_plane(x), weight, b, *s), x, x, w)


_Nothing = wrap(None)  # an input that is absent: asks for no gradient


@derivative
def ConvolutionBackwardBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    dy, w = node.unpack()
    s: Setting = node.ctx
    return (
        _convolve(grad, w, None, s) if node.needs[0] else None,
        _wgrad(grad, dy, w, s) if node.needs[1] else None,
    )


def _input_gradient(side: Any, dy: Tensor, w: Tensor, size: Any, s: Setting) -> Any:
    gradient = side.conv3d.conv3d_input if dy._a.ndim == 5 else side.conv_grad.conv2d_input
    return gradient(_plane(dy), _plane(w), size, *s)


def _dgrad(dy: Tensor, w: Tensor, shape: Any, s: Setting, like: Tensor) -> Tensor:
    """The gradient of conv with respect to an input of this shape."""
    out = _result(_input_gradient(of(dy._a), dy, w, _size(shape), s), dy, like)
    if recording(dy, w):
        record(out, ConvolutionBackwardBackward0, (dy, w), (dy, w), s)
    return out


def _wgrad_backward(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, dy = node.unpack()
    s: Setting = node.ctx
    return (
        _dgrad(dy, grad, x._a.shape, s, x) if node.needs[0] else None,
        _convolve(x, grad, None, s) if node.needs[1] else None,
    )


_WeightGradient: type[Node] = node_kind("ConvolutionBackwardBackward0", _wgrad_backward)


def _wgrad(x: Tensor, dy: Tensor, like: Tensor, s: Setting) -> Tensor:
    """The gradient of conv with respect to a weight of this shape, channels-last if the weight is."""
    side, shape = of(x._a), like._a.shape
    gradient = side.conv3d.conv3d_weight if len(shape) == 5 else side.conv_grad.conv2d_weight
    last = not like._free and suggests_channels_last(shape, like._a.strides)
    array = gradient(_plane(x), _plane(dy), _size(shape), *s, last)
    out = wrap(array[:, :, 0] if len(shape) == 3 else array)
    if recording(x, dy):
        record(out, _WeightGradient, (x, dy), (x, dy), s)
    return out


def _transposed_backward(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, w = node.unpack()
    s: Setting = node.ctx
    needs = node.needs
    return (
        _convolve(grad, w, None, s) if needs[0] else None,
        _wgrad(grad, x, w, s) if needs[1] else None,
        _bias_grad(grad) if needs[2] else None,
    )


_Transposed: type[Node] = node_kind("ConvolutionBackward0", _transposed_backward)


# ---------------------------------------------------------------------------------------------- functions


def _conv(name: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    """``options``: stride, padding, dilation, groups."""
    if amp.on and (r := amp.run(name, _conv, name, dims, input, weight, bias, *options)) is not None:
        return r
    s = setting_of(name, dims, input, weight, bias, *options)
    if input._a.ndim == dims + 1:
        return _convolve(input.unsqueeze(0), weight, bias, s).squeeze(0)
    return _convolve(input, weight, bias, s)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """2-D convolution: input (N, C, H, W) or (C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (N, O, OH, OW).

    ``padding`` may be "same" (stride 1) or "valid". Raises RuntimeError for shapes and dtypes that do not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html"""
    if amp.on and (r := amp.run("conv2d", conv2d, input, weight, bias, stride, padding, dilation, groups)) is not None:
        return r
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """1-D convolution: input (N, C, L) or (C, L), weight (O, C / groups, k), bias (O,) -> (N, O, OL).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv1d.html"""
    if amp.on and (r := amp.run("conv1d", conv1d, input, weight, bias, stride, padding, dilation, groups)) is not None:
        return r
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """3-D convolution: input (N, C, D, H, W) or (C, D, H, W), weight (O, C / groups, kd, kh, kw), bias (O,) ->
    (N, O, OD, OH, OW).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv3d.html"""
    if amp.on and (r := amp.run("conv3d", conv3d, input, weight, bias, stride, padding, dilation, groups)) is not None:
        return r
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


SIDES = ("depth", "height", "width")


def _conv_transpose(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    given = (name, dims, input, weight, bias, stride, padding, output_padding, groups, dilation)
    if amp.on and (r := amp.run(name, _conv_transpose, *given)) is not None:
        return r
    stride, before, after, dilation = read_options(name, dims, input, weight, bias, stride, padding, dilation, groups)
    extra = expand("output_padding", output_padding, dims)
    if any(e < 0 for e in extra):
        raise RuntimeError("negative output_padding is not supported")
    if any(e >= s and e >= d for e, s, d in zip(extra, stride, dilation, strict=True)):
        words = [
            f"{what}_{side}: {v}"
            for what, values in (("output_padding", extra), ("stride", stride), ("dilation", dilation))
            for side, v in zip(SIDES[-max(dims, 2) :], (1, *values) if dims == 1 else values, strict=True)
        ]
        raise RuntimeError("output padding must be smaller than either stride or dilation, but got " + " ".join(words))
    batched = input._a.ndim == dims + 2
    x = input if batched else input.unsqueeze(0)
    shape, w = list(x._a.shape), list(weight._a.shape)
    if shape[1] != w[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {w}, expected input{shape} to have {w[0]} channels, "
            f"but got {shape[1]} channels instead"
        )
    if w[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but "
            f"got weight of size [{w}] instead"
        )
    check_bias(bias, w, w[1] * groups, "transposed=1, ")
    check_dtypes(x, weight, bias, groups, transposed=True)
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(shape[2:], stride, before, dilation, w[2:], extra, strict=True)
    ]
    if any(n <= 0 for n in sizes):
        was, found = (f"({' x '.join(map(str, n if dims > 1 else [1, *n]))})" for n in (shape[2:], sizes))
        raise RuntimeError(
            f"Given input size per channel: {was}. Calculated output size per channel: {found}. "
            "Output size is too small"
        )
    # An output may be so long that a convolution of it has more pixels than the input: those are not computed.
    after = tuple([p - e // s * s for p, e, s in zip(after, extra, stride, strict=True)])
    setting = make_setting(dims, stride, before, after, dilation, groups)
    size = sizes if dims == 3 else (1, *sizes)[-2:]
    array = _input_gradient(either(x._a, weight._a), x, weight, size, setting)
    if bias is not None:
        array = of(array).pointwise.binaries["add"](array, bias._a[(..., *(None,) * len(size))])
    out = _result(array, x, x, weight)
    needed = (x, weight) if bias is None else (x, weight, bias)
    if recording(*needed):
        record(out, _Transposed, (x, weight, _Nothing if bias is None else bias), (x, weight), setting)
    return out if batched else out.squeeze(0)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The gradient of a convolution as an operation: input (N, C, H, W) or (C, H, W), weight (C, O / groups, kh, kw).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html"""
    if amp.on and (r := amp.run("conv_transpose2d", conv_transpose2d, input, weight, bias, stride, padding,
                                output_padding, groups, dilation)) is not None:
        return r
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The same in one dimension: input (N, C, L) or (C, L), weight (C, O / groups, k).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose1d.html"""
    if amp.on and (r := amp.run("conv_transpose1d", conv_transpose1d, input, weight, bias, stride, padding,
                                output_padding, groups, dilation)) is not None:
        return r
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The same in three: input (N, C, D, H, W) or (C, D, H, W), weight (C, O / groups, kd, kh, kw).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose3d.html"""
    if amp.on and (r := amp.run("conv_transpose3d", conv_transpose3d, input, weight, bias, stride, padding,
                                output_padding, groups, dilation)) is not None:
        return r
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_bn_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    bn: Any = None,
    residual: Tensor | None = None,
    activation: str | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``activation(batch_norm(conv2d(x, weight, bias)) + residual)`` in one pass, for when no gradient is recorded.

    ``bn``: None or (weight, bias, running mean, running var, eps) of an evaluation-mode batch norm; ``residual`` of the
    output's shape; ``activation``: None, "relu" or "relu6". The batch norm is folded into the weights, which are kept
    ready for the next call until one of the tensors changes. Equal to the separate ops within rounding, also in the
    dtype of an autocast region (whose ``residual`` has it already)."""
    low = lowered(x)
    checked = x
    if low is not None:
        checked = wrap(np.broadcast_to(np.zeros((), weight._a.dtype), x._a.shape))  # of the weight's dtype, as it were
        x = x if x._a.dtype == low else cast(x, low)
    s = setting_of("conv2d", 2, checked, weight, bias, stride, padding, dilation, groups)
    image = x if x._a.ndim == 4 else x.unsqueeze(0)
    w, b = conv_weights.ready(weight, bias, bn, groups, low)
    array = either(x._a, weight._a, *(() if bias is None else (bias._a,))).conv.conv2d(
        image._a, w, b, *s, residual=None if residual is None else residual._a, activation=activation
    )
    out = _result(array, image, image, weight)
    return out if x._a.ndim == 4 else out.squeeze(0)


METHODS: list[str] = []
FUNCTIONS = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
