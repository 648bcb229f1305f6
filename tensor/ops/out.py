"""``out=``: writing a result into a tensor that the caller brings."""
from __future__ import annotations

import warnings
from typing import Any

from tritium.kernels import beside, either
from tritium.tensor.dtype import can_cast, from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import bump, materialize
from tritium.tensor.ops.arguments import TYPE_NAMES
from tritium.tensor.tensor import Tensor


def write_out(name: str, out: Tensor, result: Tensor, *operands: Any, any_dtype: bool = False,
              same_dtype: bool = False) -> Tensor:
    """Write ``result`` into ``out`` and return ``out``, as PyTorch's ``out=`` does.

    Raises RuntimeError when something requires grad, or the result's dtype does not fit. Warns when ``out`` has to be
    resized."""
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if mode.enabled and (out._rg or any(isinstance(x, Tensor) and x._rg for x in operands)):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but "
                           "one of the arguments requires grad.")
    a, r = out._a, result._a
    if same_dtype and a.dtype != r.dtype:
        raise RuntimeError(f"Expected out tensor to have dtype {TYPE_NAMES[from_numpy_dtype(r.dtype).name]}, but got "
                           f"{TYPE_NAMES[from_numpy_dtype(a.dtype).name]} instead")
    if not any_dtype and not can_cast(from_numpy_dtype(r.dtype), from_numpy_dtype(a.dtype)):
        raise RuntimeError(f"result type {from_numpy_dtype(r.dtype).title} can't be cast to the desired output type "
                           f"{from_numpy_dtype(a.dtype).title}")
    materialize(out)
    if a.shape != r.shape:
        if a.size:
            warnings.warn(f"An output with one or more elements was resized since it had shape {list(a.shape)}, which "
                          f"does not match the required output shape {list(r.shape)}. This behavior is deprecated, and "
                          "in a future PyTorch release outputs will not be resized unless they have zero elements.",
                          UserWarning, stacklevel=3)
        out._a = beside(a).empty(r.shape, a.dtype)
    either(out._a, r).copy.copy_into(out._a, r)
    bump(out)
    return out
