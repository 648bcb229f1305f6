"""Normalization over channels: batch norm, with what may follow it, and instance norm. Norms of rows: ``norm_rows``.

An ordinary backward is one fused kernel. A backward that is itself recorded (create_graph) computes the same derivative
from differentiable ops, so derivatives of every order exist.
https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from math import prod
from typing import Any

from tritium.kernels import of
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, bump, derivative, memory_of, record, recording, wrap
from tritium.tensor.layout import is_channels_last
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.ops.choice import where
from tritium.tensor.ops.norm_rows import (
    NativeGroupNormBackward0,
    array_of,
    check_mixed,
    grouped,
    nothing,
    wide,
)
from tritium.tensor.ops.norm_rows import group_norm as group_norm
from tritium.tensor.ops.norm_rows import layer_norm as layer_norm
from tritium.tensor.ops.norm_rows import rms_norm as rms_norm
from tritium.tensor.ops.pointwise_rules import node_kind
from tritium.tensor.tensor import Tensor


def _channels_last_result(array: Any, like: Tensor) -> Tensor:
    if array.flags.c_contiguous:
        return wrap(array.reshape(-1).reshape(array.shape))
    out = wrap(array)
    out._free = like._free or not is_channels_last(like._a, max(like._a.ndim, 4))
    return out


# --------------------------------------------------------------------------------------------------- batch norm


def _backward(node: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of ``activation(batch norm + residual)``: gradients of input, weight, bias and, where there is one, residual."""
    x, weight, bias, running_mean, running_var, y = node.unpack()
    training, eps, mean, invstd, activation = node.ctx
    needs = node.needs
    added = len(needs) == 4 and needs[3]
    if mode.enabled:
        return _formula(grad, x, weight, bias, running_mean, running_var, y, training, eps, activation)[: len(needs)]
    if not training:
        mean, invstd = running_mean._a, running_var._a
    dx, dweight, dbias, dresidual = of(grad._a).norm.batch_norm_act_backward(
        grad._a,
        x._a,
        mean,
        invstd,
        array_of(weight),
        training,
        activation,
        array_of(bias),
        array_of(y),
        None if training else eps,
        needs[0],
        needs[1] or needs[2],
        added and activation is not None,
    )
    grads = (
        _channels_last_result(dx, x) if needs[0] else None,
        wrap(dweight) if needs[1] else None,
        wrap(dbias) if needs[2] else None,
    )
    if len(needs) == 3:
        return grads
    return *grads, None if not added else grad if activation is None else _channels_last_result(dresidual, x)


@derivative
def NativeBatchNormBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _backward(node, grad)


# Named after what comes last.
_KINDS: dict[str | None, type[Node]] = {
    None: node_kind("AddBackward0", _backward),
    "relu": node_kind("ReluBackward0", _backward),
    "relu6": node_kind("HardtanhBackward0", _backward),
}


def _formula(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Any,
    running_var: Any,
    y: Tensor | None,
    training: bool,
    eps: float,
    activation: str | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The derivative made of differentiable ops."""
    dt, x, grad = x.dtype, wide(x), wide(grad)
    dims = (0, *range(2, x.ndim))
    shape = (1, x._a.shape[1]) + (1,) * (x.ndim - 2)
    if training:
        centred = x - x.mean(dims, True)
        var = (centred * centred).mean(dims, True)
    else:
        centred, var = x - running_mean.reshape(shape), running_var.reshape(shape)
    invstd = (var + eps).rsqrt()
    h = centred * invstd
    k = invstd if weight is None else invstd * weight.reshape(shape)
    if activation is not None:
        if y is None:
            y = (centred * k).detach()
            y = y if bias is None else y + bias.detach().reshape(shape)
        else:
            y = wide(y.detach())
        stopped = y <= 0 if activation == "relu" else (y <= 0).logical_or(y >= 6)
        grad = where(stopped, 0.0, grad)
    dbias, dweight = grad.sum(dims, True), (grad * h).sum(dims, True)
    if training:
        count = max(x.numel() // max(x._a.shape[1], 1), 1)
        dx = k * (grad - dbias / count - h * (dweight / count))
    else:
        dx = k * grad
    return dx.to(dt), dweight.flatten(), dbias.flatten(), grad.to(dt)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Each channel of (N, C) or (N, C, *) normalized: by its own mean and biased variance when ``training`` (then the
    running statistics move by ``momentum``, with the unbiased variance), else by the running statistics.

    Raises ValueError when there is one value a channel to train on, RuntimeError for sizes or dtypes that do not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html"""
    return batch_norm_act(input, running_mean, running_var, weight, bias, training, momentum, eps)


def batch_norm_act(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    counter: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """``activation(batch_norm(input, ...) + residual)`` as one operation, equal to the separate ones within rounding.

    ``residual``: of the input's shape and dtype; ``activation``: None, "relu" or "relu6"; ``counter``: an int64 tensor
    of one element on the input's device, which goes up by one. Errors are those of ``batch_norm``."""
    check_tensor("batch_norm", "input", 1, input)
    a = input._a
    if training:
        _more_than_one(a.shape)
    channels = a.shape[1] if a.ndim > 1 else 0
    for t, name in ((running_mean, "running_mean"), (running_var, "running_var")):
        if t is None and not training:
            raise RuntimeError(f"{name} must be defined in evaluation mode")
    for t, name in ((running_mean, "running_mean"), (running_var, "running_var"), (weight, "weight"), (bias, "bias")):
        if t is not None and t._a.size != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {t._a.size}")
    if a.dtype.kind in "biuc":
        raise not_implemented("batch_norm", a.dtype)
    check_mixed(a.dtype, weight, bias, running_mean, running_var)
    kernel, w, b, r = of(a).norm, array_of(weight), array_of(bias), array_of(residual)
    mean = invstd = None
    if training and a.size:
        y, mean, invstd, _ = kernel.batch_norm_train(
            a, w, b, eps, array_of(running_mean), array_of(running_var), momentum, array_of(counter), r, activation
        )
        for t in (running_mean, running_var):
            if t is not None:
                memory_of(t).writes += 1  # PyTorch does not count this as a new version
        if counter is not None:
            bump(counter)
    elif training:
        y = a.copy()
        if counter is not None:
            counter.add_(1)
    else:
        y = kernel.batch_norm_eval(a, running_mean._a, running_var._a, w, b, eps, r, activation)  # type: ignore[union-attr]
    out = _channels_last_result(y, input)
    if recording(*[t for t in (input, weight, bias, residual) if t is not None]):
        inputs: tuple[Tensor, ...] = (
            input,
            nothing if weight is None else weight,
            nothing if bias is None else bias,
            *(() if residual is None else (residual,)),
        )
        plain = residual is None and activation is None
        told = residual is not None and activation is not None  # the result tells what the activation passes
        saved = (
            input,
            weight,
            None if plain or told else bias,
            *((None, None) if training else (running_mean, running_var)),
            out if told else None,
        )
        kind = NativeBatchNormBackward0 if plain else _KINDS[activation]
        record(out, kind, inputs, saved, (training, eps, mean, invstd, activation))
    return out


def _more_than_one(shape: tuple[int, ...]) -> None:
    if prod(shape[:1]) * prod(shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size torch.Size({list(shape)})"
        )


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each image of (N, C, *) normalized by itself: a group norm of as many groups as channels. With
    running statistics, which get the means over the images, it is a batch norm of N * C channels.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html"""
    a = input._a
    shape = a.shape
    if use_input_stats and prod(shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size torch.Size({list(shape)})"
        )
    N, C = shape[:2]
    fits = a.size and a.dtype.kind not in "biuc" and all(t is None or t._a.shape == (C,) for t in (weight, bias))
    if fits and use_input_stats and running_mean is None and running_var is None:
        return grouped(input, C, weight, bias, eps, _InstanceNorm)
    if fits and not use_input_stats:
        out = batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        out._free = out._free or not out._a.flags.c_contiguous
        return out
    means, variances, w, b = (None if t is None else t.repeat(N) for t in (running_mean, running_var, weight, bias))
    rows = input.reshape(1, N * C, *shape[2:])
    out = batch_norm(rows, means, variances, w, b, use_input_stats, momentum, eps)
    for t, new in ((running_mean, means), (running_var, variances)):
        if t is not None and use_input_stats:
            t.detach().copy_(new.view(N, C).mean(0))  # type: ignore[union-attr]
    return out.view(shape)


_InstanceNorm = node_kind("ViewBackward0", NativeGroupNormBackward0.derivative)


METHODS: list[str] = []
# torch.batch_norm and torch.instance_norm take their arguments in another order than nn.functional and are not offered.
FUNCTIONS = ["layer_norm", "rms_norm", "group_norm"]
