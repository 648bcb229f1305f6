"""Normalization of rows: layer norm and root-mean-square norm over the last dimensions, group norm.

An ordinary backward is a fused kernel. A backward that is itself recorded (create_graph) computes the same derivative
from differentiable ops, so derivatives of every order exist.
https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from math import prod
from typing import Any

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.dtype import finfo, float32, from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.tensor import Tensor

nothing = wrap(None)  # an input that is absent: asks for no gradient


def array_of(t: Tensor | None) -> Any:
    """The array of a tensor, or None."""
    return None if t is None else t._a


def wide(t: Tensor) -> Tensor:
    """16-bit floats as float32."""
    return t.to(float32) if t._a.itemsize == 2 else t


def check_mixed(dtype: Any, *parameters: Tensor | None) -> None:
    """Raise PyTorch's errors for parameters of another dtype than the input's: float32 ones may go with 16 bits."""
    kinds = [from_numpy_dtype(t._a.dtype) for t in parameters if t is not None]
    if kinds and kinds[0].np != dtype:
        if any(k.name != "float32" for k in kinds):
            raise RuntimeError("mixed dtype (CPU): expect parameter to have scalar type of Float")
        if dtype.itemsize != 2:
            raise RuntimeError("mixed dtype (CPU): all inputs must share same datatype.")


# --------------------------------------------------------------------------------------------------- layer norm


def _shape_arguments(normalized_shape: Any, input: Tensor, op: str = "layer_norm") -> tuple[int, ...]:
    if not isinstance(normalized_shape, (tuple, list)):
        raise TypeError(
            f"{op}(): argument 'normalized_shape' (position 2) must be tuple of ints, not "
            f"{type(normalized_shape).__name__}"
        )
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, "
            f"but got normalized_shape = {list(shape)}"
        )
    if input._a.shape[-len(shape) :] != shape:
        sizes = ", ".join(map(str, shape))
        comma = ", " if op == "layer_norm" else ""
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*{comma}{sizes}], but got input of "
            f"size{list(input._a.shape)}"
        )
    return shape


def _check_parameter(t: Tensor | None, name: str, shape: tuple[int, ...]) -> None:
    if t is not None and t._a.shape != shape:
        raise RuntimeError(
            f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
            f"{list(t._a.shape)} and normalized_shape = {list(shape)}"
        )


@derivative
def NativeLayerNormBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = node.unpack()
    shape, eps, mean, rstd = node.ctx
    needs = node.needs
    if mode.enabled:
        dims = tuple(range(-len(shape), 0))
        dx, dw, db = _row_formula(wide(grad), wide(x), weight, dims, eps, tuple(range(x.ndim - len(shape))))
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
    if amp.on and (r := amp.run("layer_norm", layer_norm, input, normalized_shape, weight, bias, eps,
                                cudnn_enable)) is not None:
        return r
    check_tensor("layer_norm", "input", 1, input)
    shape = _shape_arguments(normalized_shape, input)
    _check_parameter(weight, "weight", shape)
    _check_parameter(bias, "bias", shape)
    a = input._a
    if a.dtype.kind in "biuc":
        raise not_implemented("LayerNormKernelImpl", a.dtype)
    check_mixed(a.dtype, weight, bias)
    D = prod(shape)
    w, b = (None if t is None else t._a.reshape(D) for t in (weight, bias))
    y, mean, rstd = of(a).norm.layer_norm(a.reshape(a.size // max(D, 1), D), w, b, eps)
    out = wrap(y.reshape(a.shape))
    if recording(*[t for t in (input, weight, bias) if t is not None]):
        inputs = (input, nothing if weight is None else weight, nothing if bias is None else bias)
        record(out, NativeLayerNormBackward0, inputs, (input, weight), (shape, eps, mean, rstd))
    return out


# ----------------------------------------------------------------------------------------------------- RMS norm


@derivative
def FusedRmsNormBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, weight = node.unpack()
    shape, eps, rstd = node.ctx
    needs = node.needs
    if mode.enabled:
        return _rms_formula(grad, x, weight, shape, eps)
    D = prod(shape)
    w = None if weight is None else weight._a.reshape(D)
    rows = x._a.reshape(x._a.size // max(D, 1), D)
    dx, dw = of(grad._a).norm.rms_norm_backward(grad._a.reshape(rows.shape), rows, rstd, w)
    return wrap(dx.reshape(x._a.shape)) if needs[0] else None, wrap(dw.reshape(shape)) if needs[1] else None


def _rms_formula(grad: Tensor, x: Tensor, weight: Tensor | None, shape: Any, eps: float) -> tuple[Any, Any]:
    """The derivative made of differentiable ops."""
    dims, dt = tuple(range(-len(shape), 0)), x.dtype
    grad, x = wide(grad), wide(x)
    rstd = ((x * x).mean(dims, True) + eps).rsqrt()
    h = x * rstd
    g = grad if weight is None else grad * weight
    dx = rstd * (g - h * (g * h).mean(dims, True))
    if weight is None:
        return dx.to(dt), None
    outer = tuple(range(x.ndim - len(shape)))
    return dx.to(dt), ((grad * h).sum(outer) if outer else grad * h).to(weight.dtype)


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """The last dimensions, of shape ``normalized_shape``, divided by their root mean square; weight of that shape.

    The result has the input's dtype. ``eps`` None: the epsilon of the dtype that is computed in (float32 for 16 bits).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html"""
    if amp.on and (r := amp.run("rms_norm", rms_norm, input, normalized_shape, weight, eps)) is not None:
        return r
    check_tensor("rms_norm", "input", 1, input)
    shape = _shape_arguments(normalized_shape, input, "rms_norm")
    _check_parameter(weight, "weight", shape)
    a = input._a
    if a.dtype.kind in "biu":
        raise not_implemented("rms_norm", a.dtype)
    if eps is None:
        eps = finfo(float32 if a.itemsize == 2 else input.dtype).eps
    if a.dtype.kind == "c" or (weight is not None and weight._a.dtype.kind in "biuc"):
        y = input * ((input * input).mean(tuple(range(-len(shape), 0)), True) + eps).rsqrt()
        return (y if weight is None else y * weight).to(input.dtype)
    D = prod(shape)
    w = None if weight is None else weight._a.reshape(D)
    y, rstd = of(a).norm.rms_norm(a.reshape(a.size // max(D, 1), D), w, eps)
    out = wrap(y.reshape(a.shape))
    if recording(*[t for t in (input, weight) if t is not None]):
        inputs = (input, nothing if weight is None else weight)
        record(out, FusedRmsNormBackward0, inputs, (input, weight), (shape, eps, rstd))
    return out


# --------------------------------------------------------------------------------------------------- group norm


@derivative
def NativeGroupNormBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = node.unpack()
    groups, eps, mean, rstd = node.ctx
    needs = node.needs
    if not mode.enabled:
        dx, dw, db = of(grad._a).norm.group_norm_backward(grad._a, x._a, groups, mean, rstd, array_of(weight))
        return (wrap(dx) if needs[0] else None, wrap(dw) if needs[1] else None, wrap(db) if needs[2] else None)
    N, C = x._a.shape[:2]
    rows = (N, groups, C // groups, -1)
    w = None if weight is None else weight.reshape(1, groups, C // groups, 1)
    dx, dweight, dbias = _row_formula(wide(grad).reshape(rows), wide(x).reshape(rows), w, (2, 3), eps, (0, 3))
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
    if amp.on and (r := amp.run("group_norm", group_norm, input, num_groups, weight, bias, eps,
                                cudnn_enabled)) is not None:
        return r
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
    return grouped(input, num_groups, weight, bias, eps, NativeGroupNormBackward0)


def grouped(
    input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, kind: type[Node]
) -> Tensor:
    """Group norm of arguments that fit, recorded as a node of this kind."""
    a = input._a
    check_mixed(a.dtype, weight, bias)
    y, mean, rstd = of(a).norm.group_norm(a, num_groups, array_of(weight), array_of(bias), eps)
    out = wrap(y)
    if recording(*[t for t in (input, weight, bias) if t is not None]):
        inputs = (input, nothing if weight is None else weight, nothing if bias is None else bias)
        record(out, kind, inputs, (input, weight), (num_groups, eps, mean, rstd))
    return out
