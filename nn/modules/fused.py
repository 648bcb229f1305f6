"""Runs of Conv2d, BatchNorm2d, a residual and ReLU or ReLU6 computed as one operation, where nobody can tell the
difference.

In evaluation mode a batch norm is a scale and a shift of each channel: where no gradient is recorded it goes into the
convolution's weights, and what follows is done to the result while it is in the cache. Else the batch norm takes what
follows it, the residual and the activation, into its own kernels, forward and backward. Both is done for runs in a
`Sequential` and in the blocks of `tritium.models` when the modules are exactly of these classes and none of them has
hooks. The values are equal within rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritium.nn.modules.activation import ReLU, ReLU6
from tritium.nn.modules.batchnorm import BatchNorm2d
from tritium.nn.modules.conv import Conv2d
from tritium.nn.modules.hooks import everywhere
from tritium.nn.modules.module import Module
from tritium.tensor.autocast import lowered
from tritium.tensor.dtype import float32
from tritium.tensor.graph import recording
from tritium.tensor.ops.conv import conv_bn_act
from tritium.tensor.tensor import Tensor

ACTIVATIONS: dict[type, str] = {ReLU: "relu", ReLU6: "relu6"}
FLOATS = ("f", "V")  # NumPy's kind of float16, float32 and float64, and of bfloat16


def run(modules: Sequence[Module], input: Any) -> Any:
    """The output of the last of `modules`, called one after the other."""
    count = len(modules)
    i = 0
    while i < count:
        module = modules[i]
        i += 1
        if i < count and not everywhere.active:
            following = modules[i]
            if type(module) is Conv2d and type(following) in FOLLOWERS:
                length, output = run_convolution(module, modules, i, input)
                if length:
                    input = output
                    i += length
                    continue
            elif type(module) is BatchNorm2d and type(following) in ACTIVATIONS and can_end(module, following, input):
                input = module.apply_with(input, None, ACTIVATIONS[type(following)])
                i += 1
                continue
        input = module(input)
    return input


FOLLOWERS = (BatchNorm2d, ReLU, ReLU6)


def run_convolution(conv: Conv2d, modules: Sequence[Module], start: int, input: Any) -> tuple[int, Any]:
    """How many of the modules from `start` on were computed together with `conv`, and the result. (0, None): none."""
    bn, activation, length = None, None, 0
    following = modules[start]
    if type(following) is BatchNorm2d:
        bn, length = following, 1
        following = modules[start + 1] if start + 1 < len(modules) else None  # type: ignore[assignment]
    if type(following) in ACTIVATIONS:
        activation, length = ACTIVATIONS[type(following)], length + 1
    run = [conv, *modules[start : start + length]]
    if not (all(is_plain(m) for m in run) and can_fuse(conv, bn, input)):
        return 0, None
    folded = None
    if bn is not None:
        folded = (bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps)
    return length, conv_bn_act(
        input,
        conv.weight,
        conv.bias,
        folded,
        activation=activation,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )


def is_plain(module: Module) -> bool:
    """Whether calling the module is calling its class's `forward`."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def can_fuse(conv: Conv2d, bn: BatchNorm2d | None, input: Any) -> bool:
    """Whether the fused operation gives what the separate ones would, and no gradient is asked for."""
    if not isinstance(input, Tensor) or input.ndim != 4 or conv.padding_mode != "zeros":
        return False
    tensors = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
    if bn is not None:
        if bn.training or bn.running_mean is None or bn.running_var is None:
            return False
        if bn.running_mean.numel() != conv.weight.shape[0]:
            return False
        tensors += [t for t in (bn.weight, bn.bias, bn.running_mean, bn.running_var) if t is not None]
    dtype = input._a.dtype
    low = lowered(input)
    if low is not None and dtype == low:
        dtype = float32.np  # of the parameters
    return dtype.kind in FLOATS and all(t._a.dtype == dtype for t in tensors) and not recording(input, *tensors)


def can_end(norm: Module, activation: Module | None, input: Any) -> bool:
    """Whether a batch norm may compute what follows it, too: an activation, if there is one."""
    return (
        type(norm) is BatchNorm2d
        and (activation is None or type(activation) in ACTIVATIONS)
        and not everywhere.active
        and is_plain(norm)
        and (activation is None or is_plain(activation))
        and type(input) is Tensor
        and input.ndim == 4
    )


def run_residual(conv: Module, norm: Module, activation: Module | None, input: Any, shortcut: Any) -> Any:
    """`activation(norm(conv(input)) + shortcut)`, the end of a residual block; as one operation under the same
    conditions."""
    run = [conv, norm] if activation is None else [conv, norm, activation]
    if (
        type(conv) is Conv2d
        and type(norm) is BatchNorm2d
        and (activation is None or type(activation) in ACTIVATIONS)
        and not everywhere.active
        and all(is_plain(module) for module in run)
        and can_fuse(conv, norm, input)
        and isinstance(shortcut, Tensor)
        and shortcut._a.dtype == (input._a.dtype if (low := lowered(input)) is None else low)
        and not recording(shortcut)
    ):
        return conv_bn_act(
            input,
            conv.weight,
            conv.bias,
            (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps),
            shortcut,
            None if activation is None else ACTIVATIONS[type(activation)],
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
        )
    output = conv(input)
    if can_end(norm, activation, output) and is_beside(shortcut, output):
        name = None if activation is None else ACTIVATIONS[type(activation)]
        return norm.apply_with(output, shortcut, name)  # type: ignore[operator]
    output = norm(output)
    output += shortcut
    return output if activation is None else activation(output)


def is_beside(shortcut: Any, output: Tensor) -> bool:
    """Whether a residual is of the output's shape, dtype and device."""
    return (
        type(shortcut) is Tensor
        and shortcut.shape == output.shape
        and shortcut.dtype is output.dtype
        and shortcut.device == output.device
    )


def run_sum(modules: Module, input: Any) -> Any:
    """`input + modules(input)`; where `modules` is a plain Sequential that ends with a convolution and a batch norm,
    the sum is computed with these."""
    from tritium.nn.modules.container import Sequential

    if type(modules) is not Sequential or len(modules) < 2 or everywhere.active or not is_plain(modules):
        return input + modules(input)
    *first, conv, norm = modules
    return run_residual(conv, norm, None, run(first, input), input)
