"""Normalization: batch, layer, group, instance and root-mean-square norm.

An ordinary backward is one fused kernel. A backward that is itself recorded (create_graph) computes the same derivative
from differentiable ops, so derivatives of every order exist.
https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from math import prod
from typing import Any

from tritium.kernels import of
from tritium.tensor.dtype import finfo, float32, from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, memory_of, record, recording, wrap
from tritium.tensor.layout import is_channels_last
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.tensor import Tensor

_Nothing = wrap(None)  # an input that is absent: asks for no gradient


def _channels_last_result(array: Any, like: Tensor) -> Tensor:
    if array.flags.c_contiguous:
        return wrap(array.reshape(-1).reshape(array.shape))
    out = wrap(array)
    out._free = like._free or not is_channels_last(like._a, max(like._a.ndim, 4))
    return out


def _array(t: Tensor | None) -> Any:
    return None if t is None else t._a


def _wide(t: Tensor) -> Tensor:
    """16-bit floats as float32."""
    return t.to(float32) if t._a.itemsize == 2 else t


# --------------------------------------------------------------------------------------------------- batch norm


@derivative
def NativeBatchNormBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight, running_mean, running_var = node.unpack()
    training, eps, mean, invstd = node.ctx
    needs = node.needs
    if mode.enabled:
        return _batch_norm_formula(grad, x, weight, running_mean, running_var, training, eps)
    kernel = of(grad._a).norm
    if not training:
        mean = running_mean._a
        invstd = kernel.affine(mean, running_var._a, None, None, eps)[0]
    dx, dweight, dbias = kernel.batch_norm_backward(grad._a, x._a, mean, invstd, _array(weight), training, needs[0])
    return (
        _channels_last_result(dx, x) if needs[0] else None,
        wrap(dweight) if needs[1] else None,
        wrap(dbias) if needs[2] else None,
    )


def _batch_norm_formula(
    grad: Tensor, x: Tensor, weight: Tensor | None, running_mean: Any, running_var: Any, training: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative made of differentiable ops."""
    dt, x, grad = x.dtype, _wide(x), _wide(grad)
    dims = (0, *range(2, x.ndim))
    shape = (1, x._a.shape[1]) + (1,) * (x.ndim - 2)
    if training:
        centred = x - x.mean(dims, True)
        var = (centred * centred).mean(dims, True)
    else:
        centred, var = x - running_mean.reshape(shape), running_var.reshape(shape)
    invstd = (var + eps).rsqrt()
    h = centred * invstd
    dbias, dweight = grad.sum(dims, True), (grad * h).sum(dims, True)
    k = invstd if weight is None else invstd * weight.reshape(shape)
    if training:
        count = max(x.numel() // max(x._a.shape[1], 1), 1)
        dx = k * (grad - dbias / count - h * (dweight / count))
    else:
        dx = k * grad
    return dx.to(dt), dweight.flatten(), dbias.flatten()


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
    _check_mixed(a.dtype, weight, bias, running_mean, running_var)
    kernel = of(a).norm
    mean = invstd = None
    if training and a.size:
        y, mean, invstd, _ = kernel.batch_norm_train(
            a, _array(weight), _array(bias), eps, _array(running_mean), _array(running_var), momentum
        )
        for t in (running_mean, running_var):
            if t is not None:
                memory_of(t).writes += 1  # PyTorch does not count this as a new version
    elif training:
        y = a.copy()
    else:
        y = kernel.batch_norm_eval(a, running_mean._a, running_var._a, _array(weight), _array(bias), eps)  # type: ignore[union-attr]
    out = _channels_last_result(y, input)
    if recording(*[t for t in (input, weight, bias) if t is not None]):
        saved = (input, weight, *((None, None) if training else (running_mean, running_var)))
        inputs = (input, _Nothing if weight is None else weight, _Nothing if bias is None else bias)
        record(out, NativeBatchNormBackward0, inputs, saved, (training, eps, mean, invstd))
    return out


def _more_than_one(shape: tuple[int, ...]) -> None:
    if prod(shape[:1]) * prod(shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size torch.Size({list(shape)})"
        )


def _check_mixed(dtype: Any, *parameters: Tensor | None) -> None:
    kinds = [from_numpy_dtype(t._a.dtype) for t in parameters if t is not None]
    if kinds and kinds[0].np != dtype:
        if any(k.name != "float32" for k in kinds):
            raise RuntimeError("mixed dtype (CPU): expect parameter to have scalar type of Float")
        if dtype.itemsize != 2:
            raise RuntimeError("mixed dtype (CPU): all inputs must share same datatype.")


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
    """Each channel of each image of (N, C, *) normalized by itself: a batch norm of N * C channels.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html"""
    shape = input._a.shape
    if use_input_stats and prod(shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size torch.Size({list(shape)})"
        )
    N, C = shape[:2]
    means, variances, w, b = (None if t is None else t.repeat(N) for t in (running_mean, running_var, weight, bias))
    rows = input.reshape(1, N * C, *shape[2:])
    out = batch_norm(rows, means, variances, w, b, use_input_stats, momentum, eps)
    for t, new in ((running_mean, means), (running_var, variances)):
        if t is not None and use_input_stats:
            t.detach().copy_(new.view(N, C).mean(0))  # type: ignore[union-attr]
    return out.view(shape)


# --------------------------------------------------------------------------------------------------- layer norm


def _shape_arguments(normalized_shape: Any, input: Tensor) -> tuple[int, ...]:
    if not isinstance(normalized_shape, (tuple, list)):
        raise TypeError(
            "layer_norm(): argument 'normalized_shape' (position 2) must be tuple of ints, not "
            f"{type(normalized_shape).__name__}"
        )
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, "
            f"but got normalized_shape = {list(shape)}"
        )
    if input._a.shape[-len(shape) :] != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[{', '.join(['*', *map(str, shape)])}], but got input of size{list(input._a.shape)}"
        )
    return shape


@derivative
def NativeLayerNormBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = node.unpack()
    shape, eps, mean, rstd = node.ctx
    needs = node.needs
    if mode.enabled:
        dims = tuple(range(-len(shape), 0))
        dx, dw, db = _row_formula(_wide(grad), _wide(x), weight, dims, eps, tuple(range(x.ndim - len(shape))))
        return dx.to(x.dtype), dw, db
    D = prod(shape)
    w = None if weight is None else weight._a.reshape(D)
    rows = x._a.reshape(x._a.size // max(D, 1), D)
    dx, dw, db = of(grad._a).norm.layer_norm_backward(grad._a.reshape(rows.shape), rows, mean, rstd, w)
    return (
        wrap(dx.reshape(x._a.shape)) if needs[0] else None,
        wrap(dw.reshape(shape)) if needs[1] else None,
        wrap(db.reshape(shape)) if needs[2] else None,
    )


def _row_formula(grad: Tensor, x: Tensor, weight: Tensor | None, dims: Any, eps: float, outer: Any) -> tuple[Any, ...]:
    """The derivative of a normalization over ``dims``, made of differentiable ops; parameters lie along the rest."""
    centred = x - x.mean(dims, True)
    rstd = ((centred * centred).mean(dims, True) + eps).rsqrt()
    h = centred * rstd
    g = grad if weight is None else grad * weight
    dx = rstd * (g - g.mean(dims, True) - h * (g * h).mean(dims, True))
    return dx, (grad * h).sum(outer) if outer else grad * h, grad.sum(outer) if outer else grad


def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """The last dimensions, of shape ``normalized_shape``, normalized; weight and bias of that shape.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html"""
    check_tensor("layer_norm", "input", 1, input)
    shape = _shape_arguments(normalized_shape, input)
    for t, name in ((weight, "weight"), (bias, "bias")):
        if t is not None and t._a.shape != shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(t._a.shape)} and normalized_shape = {list(shape)}"
            )
    a = input._a
    if a.dtype.kind in "biuc":
        raise not_implemented("LayerNormKernelImpl", a.dtype)
    _check_mixed(a.dtype, weight, bias)
    D = prod(shape)
    w, b = (None if t is None else t._a.reshape(D) for t in (weight, bias))
    y, mean, rstd = of(a).norm.layer_norm(a.reshape(a.size // max(D, 1), D), w, b, eps)
    out = wrap(y.reshape(a.shape))
    if recording(*[t for t in (input, weight, bias) if t is not None]):
        inputs = (input, _Nothing if weight is None else weight, _Nothing if bias is None else bias)
        record(out, NativeLayerNormBackward0, inputs, (input, weight), (shape, eps, mean, rstd))
    return out


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """The last dimensions divided by their root mean square; ``eps`` is the dtype's epsilon if None.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html"""
    shape = _shape_arguments(normalized_shape, input)
    x = _wide(input)
    squares = (x * x).mean(tuple(range(-len(shape), 0)), True)
    y = (x * (squares + (finfo(input.dtype).eps if eps is None else eps)).rsqrt()).to(input.dtype)
    return y if weight is None else y * weight


# --------------------------------------------------------------------------------------------------- group norm


@derivative
def NativeGroupNormBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = node.unpack()
    groups, eps, mean, rstd = node.ctx
    needs = node.needs
    if not mode.enabled:
        dx, dw, db = of(grad._a).norm.group_norm_backward(grad._a, x._a, groups, mean, rstd, _array(weight))
        return (wrap(dx) if needs[0] else None, wrap(dw) if needs[1] else None, wrap(db) if needs[2] else None)
    N, C = x._a.shape[:2]
    rows = (N, groups, C // groups, -1)
    w = None if weight is None else weight.reshape(1, groups, C // groups, 1)
    dx, dweight, dbias = _row_formula(_wide(grad).reshape(rows), _wide(x).reshape(rows), w, (2, 3), eps, (0, 3))
    return dx.reshape(x._a.shape).to(x.dtype), dweight.flatten(), dbias.flatten()


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """The channels of each image of (N, C, *) normalized in ``num_groups`` groups; weight and bias (C,).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html"""
    check_tensor("group_norm", "input", 1, input)
    a = input._a
    if a.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {a.ndim}")
    N, C = a.shape[:2]
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    if C % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(a.shape)} and num_groups={num_groups}"
        )
    if N * (C // num_groups) * prod(a.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(a.shape)}")
    for t, name in ((weight, "weight"), (bias, "bias")):
        if t is not None and t._a.shape != (C,):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, but got "
                f"{name} of shape {list(t._a.shape)} and input of shape {list(a.shape)}"
            )
    if a.dtype.kind in "biuc":
        raise not_implemented("GroupNormKernelImpl", a.dtype)
    _check_mixed(a.dtype, weight, bias)
    y, mean, rstd = of(a).norm.group_norm(a, num_groups, _array(weight), _array(bias), eps)
    out = wrap(y)
    if recording(*[t for t in (input, weight, bias) if t is not None]):
        inputs = (input, _Nothing if weight is None else weight, _Nothing if bias is None else bias)
        record(out, NativeGroupNormBackward0, inputs, (input, weight), (num_groups, eps, mean, rstd))
    return out


METHODS: list[str] = []
# torch.batch_norm and torch.instance_norm take their arguments in another order than nn.functional and are not offered.
FUNCTIONS = ["layer_norm", "rms_norm", "group_norm"]
