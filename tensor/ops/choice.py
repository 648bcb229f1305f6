"""Choices and mixtures: where, clamp, lerp, addcmul, addcdiv, nan_to_num, and comparisons of whole tensors.

https://docs.pytorch.org/docs/stable/generated/torch.where.html
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import beside, either, of
from tritium.tensor import dtype as dtypes
from tritium.tensor.autocast import amp
from tritium.tensor.dtype import from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes
from tritium.tensor.ops.arguments import C_NAMES, check_tensor, fill_value
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pointwise_rules import f32, node_kind
from tritium.tensor.promotion import cast_operands, result_type
from tritium.tensor.tensor import Tensor


@derivative
def NanToNumBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return grad * x.isfinite()


def nan_to_num(input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None, *,
               out: Tensor | None = None) -> Tensor:
    """nan replaced by 0 (or ``nan``), infinities by the largest and smallest finite values (or the given ones)."""
    check_tensor("nan_to_num", "input", 1, input)
    a = input._a
    if a.dtype.kind not in "fV":
        r = wrap(of(a).copy.clone(a))
    else:
        info = dtypes.finfo(from_numpy_dtype(a.dtype))
        high, low = info.max if posinf is None else posinf, info.min if neginf is None else neginf
        r = wrap(of(a).pointwise.nan_to_num(a, 0.0 if nan is None else nan, high, low))
    if input._free:
        r._free = True
    if recording(input):
        record(r, NanToNumBackward0, (input,), saved=(input,))
    return r if out is None else write_out("nan_to_num", out, r, input)


@derivative
def WhereBackward0(node: Any, grad: Tensor) -> Any:
    (condition,), sides = node.unpack(), node.ctx
    return tuple([None if not n else where(condition, grad, 0.0) if side == "input" else where(condition, 0.0, grad)
                  for n, side in zip(node.needs, sides, strict=True)])


def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Tensor | None = None) -> Any:
    """``input`` where ``condition`` is true, else ``other`` (tensors or numbers, broadcast).

    With the condition alone: the indices where it is true, one tensor per dimension.
    Raises RuntimeError when the condition is not a bool tensor or the shapes do not broadcast."""
    if input is None and other is None:
        from tritium.tensor.ops.index import nonzero

        return nonzero(condition, as_tuple=True)
    check_tensor("where", "condition", 1, condition)
    if condition._a.dtype.kind != "b" and condition._a.dtype != np.uint8:
        raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with dtype "
                           f"{condition.dtype.title}")
    dt = result_type(input, other)
    a, b = (cast_operands(dt, x)[0] if isinstance(x, Tensor) else fill_value(x, dt.np) for x in (input, other))
    c = condition._a
    if c.dtype.kind != "b":
        c = of(c).pointwise.cast(c, np.dtype(bool))
    try:
        r = wrap(either(c, a, b).pointwise.where(c, a, b))
    except ValueError:
        broadcast_shapes(c.shape, a.shape, b.shape)
        raise
    ts = [x for x in (input, other) if isinstance(x, Tensor)]
    if any(t._free for t in ts) or condition._free:
        r._free = True
    if ts and mode.enabled and any(t._rg for t in ts):
        sides = [side for side, x in (("input", input), ("other", other)) if isinstance(x, Tensor)]
        record(r, WhereBackward0, tuple(ts), saved=(condition,), ctx=sides)
    return r if out is None else write_out("where", out, r, *ts)


@derivative
def ClampBackward1(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    low, high = node.ctx
    keep = x >= low if high is None else x <= high if low is None else (x >= low).logical_and(x <= high)
    return where(keep, grad, 0.0)


@derivative
def ClampBackward0(node: Any, grad: Tensor) -> Any:
    x, low, high = node.unpack()
    above: Any = None if low is None else x >= low
    below: Any = None if high is None else x <= high
    keep: Any = above if below is None else below if above is None else above.logical_and(below)
    grads = [where(keep.logical_or(x.isnan()), grad, 0.0)]
    if low is not None:
        grads.append(where(x < low if high is None else (x < low).logical_and(low < high), grad, 0.0))
    if high is not None:
        grads.append(where(x > high if low is None else (x > high).logical_or(low > high), grad, 0.0))
    return tuple(grads)


def clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Tensor | None = None) -> Tensor:
    """Values below ``min`` raised to it, above ``max`` lowered to it; either may be None, a number or a tensor.

    Raises RuntimeError when both are None."""
    return _clamp(input, min, max, out, (ClampBackward0, ClampBackward1))


def _clamp(input: Tensor, min: Any, max: Any, out: Tensor | None, kinds: Any) -> Tensor:
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    bounds = [x for x in (min, max) if x is not None]
    dt = result_type(input, *bounds)
    if dt.category == 3:
        raise NotImplementedError("clamp is not supported for complex types")
    a = cast_operands(dt, input)[0]
    low, high = (x if x is None else cast_operands(dt, x)[0] if isinstance(x, Tensor) else fill_value(x, dt.np)
                 for x in (min, max))
    try:
        r = wrap(of(a).pointwise.clamp(a, low, high))
    except ValueError:
        broadcast_shapes(a.shape, *[x._a.shape for x in bounds if isinstance(x, Tensor)])
        raise
    ts = [x for x in bounds if isinstance(x, Tensor)]
    if input._free:
        r._free = True
    if mode.enabled and (input._rg or any(t._rg for t in ts)):
        if ts:
            low_t, high_t = (x if x is None or isinstance(x, Tensor) else
                             wrap(beside(a).full((), x, input._a.dtype)) for x in (min, max))
            record(r, kinds[0], tuple(t for t in (input, low_t, high_t) if t is not None),
                   saved=(input, low_t, high_t))
        else:
            record(r, kinds[1], (input,), saved=(input,), ctx=(min, max))
    return r if out is None else write_out("clamp", out, r, input)


clip = clamp
MIN_KINDS = (node_kind("ClampMinBackward1", ClampBackward0.derivative),
             node_kind("ClampMinBackward0", ClampBackward1.derivative))
MAX_KINDS = (node_kind("ClampMaxBackward1", ClampBackward0.derivative),
             node_kind("ClampMaxBackward0", ClampBackward1.derivative))


def clamp_min(input: Tensor, min: Any, *, out: Tensor | None = None) -> Tensor:
    """``clamp(input, min=min)``."""
    return _clamp(input, min, None, out, MIN_KINDS)


def clamp_max(input: Tensor, max: Any, *, out: Tensor | None = None) -> Tensor:
    """``clamp(input, max=max)``."""
    return _clamp(input, None, max, out, MAX_KINDS)


@derivative
def LerpBackward0(node: Any, grad: Tensor) -> Any:
    return grad * (1 - node.ctx), grad * node.ctx


@derivative
def LerpBackward1(node: Any, grad: Tensor) -> Any:
    a, b, w = node.unpack()
    return grad * (1 - w), grad * w, grad * (b - a) if node.needs[2] else None


def lerp(input: Tensor, end: Tensor, weight: Any, *, out: Tensor | None = None) -> Tensor:
    """``input + weight * (end - input)``, exact at both ends. ``weight``: a number or a tensor.

    Raises RuntimeError for tensors of different dtypes, NotImplementedError for integers."""
    check_tensor("lerp", "end", 2, end)
    tensor = isinstance(weight, Tensor)
    for word, x in (("end", end), ("weight", weight)):
        if isinstance(x, Tensor) and x._a.dtype != input._a.dtype and (word == "end" or x._a.ndim):
            raise RuntimeError(f"expected dtype {C_NAMES.get(input.dtype.name, input.dtype.name)} for `{word}` but got "
                               f"dtype {C_NAMES.get(x.dtype.name, x.dtype.name)}")
    if input._a.dtype.kind in "biu":
        raise NotImplementedError(f'"lerp_kernel_{"tensor" if tensor else "scalar"}" not implemented for '
                                  f"'{input.dtype.title}'")
    r = _three("lerp", input, end, weight)
    ts = (input, end, weight) if tensor else (input, end)
    if recording(*ts):
        if tensor:
            record(r, LerpBackward1, ts, saved=ts)
        else:
            record(r, LerpBackward0, ts, ctx=weight)
    return r if out is None else write_out("lerp", out, r, *ts)


def _three(name: str, input: Tensor, x: Tensor, y: Any, *rest: Any) -> Tensor:
    """A kernel of three operands that broadcast."""
    a, b = input._a, x._a
    c = y._a if isinstance(y, Tensor) else y
    try:
        r = wrap(getattr(either(a, b, c).pointwise, name)(a, b, c, *rest))
    except ValueError:
        shape = broadcast_shapes(a.shape, b.shape)
        if isinstance(y, Tensor):
            broadcast_shapes(shape, c.shape)
        raise
    if input._free or x._free:
        r._free = True
    return r


@derivative
def AddcmulBackward0(node: Any, grad: Tensor) -> Any:
    x, y = node.unpack()
    value = node.ctx
    return grad, grad * (y * value) if node.needs[1] else None, grad * (x * value) if node.needs[2] else None


@derivative
def AddcdivBackward0(node: Any, grad: Tensor) -> Any:
    x, y = node.unpack()
    value = node.ctx
    return (grad, grad * (value / y) if node.needs[1] else None,
            -grad * (value * x / (y * y)) if node.needs[2] else None)


def _add_product(name: str, kind: Any, input: Tensor, tensor1: Any, tensor2: Any, value: Any,
                 out: Tensor | None) -> Tensor:
    check_tensor(name, "tensor1", 2, tensor1)
    check_tensor(name, "tensor2", 3, tensor2)
    if name == "addcdiv" and result_type(tensor1, tensor2).category < 2:
        raise RuntimeError("Integer division with addcdiv is no longer supported, and in a future  release addcdiv "
                           "will perform a true division of tensor1 and tensor2. Use (input + value * tensor1 / "
                           "tensor2) instead.")
    dt = result_type(input, tensor1, tensor2)
    if dt.category == 0:
        raise NotImplementedError(f'"{name}_cpu_out" not implemented for \'Bool\'')
    x, a, b = (t if t._a.dtype == dt.np else t.to(dt) for t in (input, tensor1, tensor2))
    number = fill_value(value.item() if isinstance(value, Tensor) else value, dt.np)
    r = _three(name, x, a, b, number)
    if recording(x, a, b):
        record(r, kind, (x, a, b), saved=(a, b), ctx=value)
    return r if out is None else write_out(name, out, r, input, tensor1, tensor2)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    if amp.on and (r := amp.run("addcmul", addcmul, input, tensor1, tensor2, value=value, out=out)) is not None:
        return r
    return _add_product("addcmul", AddcmulBackward0, input, tensor1, tensor2, value, out)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + value * tensor1 / tensor2``.

    Raises RuntimeError when both tensors are integers."""
    if amp.on and (r := amp.run("addcdiv", addcdiv, input, tensor1, tensor2, value=value, out=out)) is not None:
        return r
    return _add_product("addcdiv", AddcdivBackward0, input, tensor1, tensor2, value, out)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |input - other| <= atol + rtol * |other|.

    Raises RuntimeError for tensors of different dtypes."""
    if input._a.dtype != other._a.dtype:
        raise RuntimeError(f"{input.dtype.title} did not match {other.dtype.title}")
    for word, tolerance in (("rtol", rtol), ("atol", atol)):
        if tolerance < 0:
            raise RuntimeError(f"{word} must be greater than or equal to zero, but got {tolerance}")
    a, b = input._a, other._a
    broadcast_shapes(a.shape, b.shape)
    if a.dtype.kind in "fV" and a.dtype.itemsize < 4:
        a, b = a.astype(f32), b.astype(f32)
    return wrap(either(a, b).pointwise.isclose(a, b, rtol, atol, equal_nan))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether ``isclose`` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements."""
    if input._a.shape != other._a.shape:
        return False
    a, b = input._a, other._a
    k = either(a, b)
    return bool(k.reduce.all(k.pointwise.binaries["eq"](a, b), tuple(range(a.ndim)), False))
