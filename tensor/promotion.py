"""Which dtype a mixed operation computes in: PyTorch's type promotion.

https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc
Tensors with dimensions come before 0-d tensors, and these before Python numbers: a later kind changes the result only
when its category (bool, integer, floating point, complex) is higher.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.tensor import dtype as dtypes
from tritium.tensor.dtype import dtype, from_numpy_dtype, promote_types
from tritium.tensor.tensor import Tensor

NUMBERS = (int, float, bool, complex)


def dtype_of_number(value: Any) -> dtype:
    """The dtype a Python number stands for."""
    if isinstance(value, bool):
        return dtypes.bool_
    if isinstance(value, int):
        return dtypes.int64
    if isinstance(value, float):
        return dtypes.get_default_dtype()
    return dtypes.default_complex()


def _combine(higher: dtype | None, lower: dtype | None) -> dtype | None:
    if higher is None or lower is None:
        return higher or lower
    if higher.is_complex:
        return higher
    if higher.is_floating_point:
        return higher.to_complex() if lower.is_complex else higher
    if higher.name == "bool" or lower.is_floating_point or lower.is_complex:
        return promote_types(higher, lower)
    return higher


def _join(a: dtype | None, b: dtype) -> dtype:
    return b if a is None else promote_types(a, b)


def result_type(*operands: Any) -> dtype:
    """The dtype that an operation on these tensors and numbers computes in."""
    dimensioned: dtype | None = None
    zero: dtype | None = None
    number: dtype | None = None
    for x in operands:
        if isinstance(x, Tensor):
            if x._a.ndim:
                dimensioned = _join(dimensioned, from_numpy_dtype(x._a.dtype))
            else:
                zero = _join(zero, from_numpy_dtype(x._a.dtype))
        elif isinstance(x, NUMBERS):
            number = _join(number, dtype_of_number(x))
        elif isinstance(x, np.generic):
            number = _join(number, dtype_of_number(x.item()))
        else:
            raise TypeError(f"result_type(): argument must be Tensor or Number, not {type(x).__name__}")
    found = _combine(dimensioned, _combine(zero, number))
    assert found is not None
    return found


def number_as(value: Any, dt: Any) -> Any:
    """A Python number as an array of a NumPy dtype; integers wrap around as C's do."""
    if dt.kind in "iu" and isinstance(value, int) and not isinstance(value, bool):
        bits = dt.itemsize * 8
        value &= (1 << bits) - 1
        if dt.kind == "i" and value >> (bits - 1):
            value -= 1 << bits
    elif dt.kind in "iu":
        value = int(value)
    return np.array(value, dt)


def cast_operands(dt: dtype, *operands: Any) -> list[Any]:
    """The arrays of the operands in one dtype."""
    want = dt.np
    out = []
    for x in operands:
        if isinstance(x, Tensor):
            a = x._a
            if a.dtype != want:
                from tritium.kernels import of

                a = of(a).pointwise.cast(a, want)
            out.append(a)
        else:
            out.append(number_as(x.item() if isinstance(x, np.generic) else x, want))
    return out
