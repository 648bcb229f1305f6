"""``tritium.linalg``: norms and products.

https://docs.pytorch.org/docs/stable/linalg.html
"""
from __future__ import annotations

from typing import Any

from tritium.tensor.methods import functions
from tritium.tensor.ops.reduce import vector_norm
from tritium.tensor.tensor import Tensor

matmul = functions["matmul"]
diagonal = functions["diagonal"]
multi_dot = functions["chain_matmul"]


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The vector norm over ``dim`` (all when not given), or the Frobenius norm for ``ord="fro"``.

    Raises NotImplementedError for the norms that need singular values."""
    if ord in (None, "fro"):
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise NotImplementedError(f"linalg.norm(ord={ord!r}) is not implemented")
    pair = dim if isinstance(dim, (tuple, list)) else None
    if (pair is not None and len(pair) == 2) or (dim is None and A.ndim == 2):
        rows, columns = pair if pair is not None else (0, 1)
        if ord in (2, -2):
            raise NotImplementedError(f"linalg.norm(ord={ord}): matrix norms by singular values are not implemented")
        over, rest = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = (A if dtype is None else A.to(dtype)).abs().sum(over, keepdim=True)
        best = sums.amax(rest, keepdim=True) if ord > 0 else sums.amin(rest, keepdim=True)
        return best if keepdim else best.squeeze((rows, columns))
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


__all__ = ["diagonal", "matmul", "multi_dot", "norm", "vector_norm"]
