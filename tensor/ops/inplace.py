"""The in-place forms of pointwise ops: the result is written into the first argument, which is returned."""
from __future__ import annotations

from typing import Any

from tritium.kernels import of
from tritium.tensor import dtype as dtypes
from tritium.tensor.autocast import LISTED, amp, outside
from tritium.tensor.dtype import can_cast, from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import bump, check_inplace, finish_inplace
from tritium.tensor.layout import broadcast_shapes
from tritium.tensor.ops.pointwise_rules import f32, f64
from tritium.tensor.promotion import NUMBERS, result_type
from tritium.tensor.tensor import Tensor


def inplace(op: Any, name: str) -> Any:
    """The in-place form of an op: its result is written into the first argument, which is returned.

    Raises RuntimeError for a leaf that requires grad, a result dtype that does not fit or a result of another shape."""
    listed = op.__name__ in LISTED

    def op_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_inplace(input)
        try:
            result = outside(op, input, *args, **kwargs) if listed and amp.on else op(input, *args, **kwargs)
        except RuntimeError:
            _check_fit(input, args)
            raise
        check_result(input, result)
        return finish_inplace(input, result)

    op_.__name__ = op_.__qualname__ = name
    op_.__doc__ = f"``{op.__name__}`` in place."
    return op_


def _check_fit(input: Tensor, args: Any) -> None:
    """An op refused its operands: if they do not fit ``input`` either, that is what PyTorch says first."""
    operands = [x for x in args if isinstance(x, (Tensor, *NUMBERS))]
    shape = input._a.shape
    for x in operands:
        if isinstance(x, Tensor):
            shape = broadcast_shapes(shape, x._a.shape)
    if shape != input._a.shape:
        raise RuntimeError(f"output with shape {list(input._a.shape)} doesn't match the broadcast shape {list(shape)}")
    if operands:
        _check_cast(result_type(input, *operands), input.dtype)


def _check_cast(found: dtypes.dtype, wanted: dtypes.dtype) -> None:
    if found is not wanted and not can_cast(found, wanted):
        raise RuntimeError(f"result type {found.title} can't be cast to the desired output type {wanted.title}")


def check_result(input: Tensor, result: Tensor) -> None:
    """Raises RuntimeError when a result cannot be written into ``input``: its dtype or shape does not fit."""
    a, r = input._a, result._a
    if a.shape != r.shape:
        raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(r.shape)}")
    if a.dtype != r.dtype:
        _check_cast(from_numpy_dtype(r.dtype), from_numpy_dtype(a.dtype))


def direct_inplace(op: Any, name: str) -> Any:
    """In-place arithmetic that needs no temporary when nothing is recorded and the dtypes agree."""
    general = inplace(op, name)
    kernel = name[:-1]

    def op_(input: Tensor, other: Any, **kwargs: Any) -> Tensor:
        a = input._a
        if (a.dtype is f32 or a.dtype is f64) and not kwargs and a.flags.writeable and 0 not in a.strides:
            b = other._a if isinstance(other, Tensor) else other
            number = type(b) is float or type(b) is int
            if (number or (isinstance(other, Tensor) and b.dtype is a.dtype and type(b) is type(a))) and not (
                    mode.enabled and (input._rg or (not number and other._rg))):
                try:
                    of(a).pointwise.into(kernel, a, b, a)
                except (ValueError, OverflowError):
                    return general(input, other)
                bump(input)
                return input
        return general(input, other, **kwargs)

    op_.__name__ = op_.__qualname__ = name
    op_.__doc__ = f"``{op.__name__}`` in place."
    return op_
