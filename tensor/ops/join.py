"""Joining tensors: cat, stack and their relatives.

https://docs.pytorch.org/docs/stable/generated/torch.cat.html
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import is_channels_last, wrap_dim
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.view import reshape, unbind, unsqueeze
from tritium.tensor.promotion import cast_operands, result_type
from tritium.tensor.tensor import Tensor

FUNCTIONS = ["cat", "concat", "concatenate", "stack", "hstack", "vstack", "row_stack", "dstack", "column_stack",
             "block_diag", "atleast_1d", "atleast_2d", "atleast_3d"]


def _listed(name: str, tensors: Any) -> Any:
    """The tensors, checked: PyTorch's errors for anything else."""
    if not isinstance(tensors, (tuple, list)):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not "
                        f"{type(tensors).__name__}")
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
    return tensors


def _arrays(tensors: Any) -> list[Any]:
    """The arrays in the dtype that all promote to."""
    first = tensors[0]._a.dtype
    if all(x._a.dtype is first for x in tensors):
        return [x._a for x in tensors]
    return cast_operands(result_type(*tensors), *tensors)


@derivative
def CatBackward0(node: Any, grad: Tensor) -> Any:
    d, sizes = node.ctx
    parts: list[Tensor | None] = []
    start = 0
    for needed, size in zip(node.needs, sizes, strict=True):
        if size is None:  # an empty vector, left out
            parts.append(grad.new_zeros((0,)))
            continue
        parts.append(grad.narrow(d, start, size) if needed else None)
        start += size
    return tuple(parts)


def cat(tensors: Any, dim: int = 0, *, axis: int | None = None, out: Tensor | None = None) -> Tensor:
    """Tensors of the same shape, except along ``dim``, joined along it. Dtypes are promoted; empty vectors count for
    nothing.

    Raises RuntimeError when the shapes do not fit, ValueError for an empty list."""
    if amp.on and (r := amp.run("cat", cat, tensors, dim, axis=axis, out=out)) is not None:
        return r
    ts = _listed("cat", tensors)
    if not ts:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    dim = dim if axis is None else axis
    arrays = _arrays(ts)
    for i, a in enumerate(arrays):
        if a.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    used = [a for a in arrays if a.shape != (0,)] or arrays
    first = used[0]
    d = wrap_dim(dim, first.ndim)
    for i, a in enumerate(arrays):
        if a is first or a.shape == (0,):
            continue
        if a.ndim != first.ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {a.ndim}")
        for k, (m, n) in enumerate(zip(first.shape, a.shape, strict=True)):
            if m != n and k != d:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Expected size {m} but got "
                                   f"size {n} for tensor number {i} in the list.")
    last = first.ndim in (4, 5) and all(is_channels_last(a, first.ndim) for a in used) and not all(
        a.flags.c_contiguous for a in used)
    r = wrap(of(first).copy.cat(used, d, last))
    if last and any(x._free for x in ts):
        r._free = True
    if recording(*ts):
        sizes = [None if a.shape == (0,) and a.ndim != first.ndim else a.shape[d] for a in arrays]
        record(r, CatBackward0, tuple(ts), ctx=(d, sizes))
    return r if out is None else write_out("cat", out, r, *ts)


concat = concatenate = cat


@derivative
def StackBackward0(node: Any, grad: Tensor) -> Any:
    return unbind(grad, node.ctx)


def stack(tensors: Any, dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Tensors of one shape joined along a new dimension.

    Raises RuntimeError when the shapes differ, or for an empty list."""
    if amp.on and (r := amp.run("stack", stack, tensors, dim, out=out)) is not None:
        return r
    ts = _listed("stack", tensors)
    if not ts:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = ts[0]._a.shape
    d = wrap_dim(dim, len(shape), 1)
    for i, x in enumerate(ts):
        if x._a.shape != shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                               f"{list(x._a.shape)} at entry {i}")
    arrays = _arrays(ts)
    r = wrap(of(arrays[0]).copy.stack(arrays, d))
    if recording(*ts):
        record(r, StackBackward0, tuple(ts), ctx=d)
    return r if out is None else write_out("stack", out, r, *ts)


def _raised(function: Any, tensors: tuple[Any, ...]) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        return tuple([function(x) for x in tensors[0]])
    if len(tensors) == 1:
        return function(tensors[0])
    return tuple([function(x) for x in tensors])


def atleast_1d(*tensors: Any) -> Any:
    """Each tensor with at least one dimension."""
    return _raised(lambda x: reshape(x, 1) if x._a.ndim == 0 else x, tensors)


def _two(x: Tensor) -> Tensor:
    return reshape(x, (1, 1)) if x._a.ndim == 0 else unsqueeze(x, 0) if x._a.ndim == 1 else x


def _three(x: Tensor) -> Tensor:
    return unsqueeze(_two(x), -1) if x._a.ndim < 3 else x


def atleast_2d(*tensors: Any) -> Any:
    """Each tensor with at least two dimensions: a vector becomes a row."""
    return _raised(_two, tensors)


def atleast_3d(*tensors: Any) -> Any:
    """Each tensor with at least three dimensions: a vector becomes (1, n, 1), a matrix (m, n, 1)."""
    return _raised(_three, tensors)


def _not_none(name: str, tensors: Any) -> Any:
    ts = _listed(name, tensors)
    if not ts:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return ts


def hstack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """Joined along the columns: dimension 1, or 0 of vectors."""
    ts = [atleast_1d(x) for x in _not_none("hstack", tensors)]
    return cat(ts, 0 if ts[0]._a.ndim == 1 else 1, out=out)


def vstack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """Joined along the rows: dimension 0, vectors as rows."""
    return cat([_two(x) for x in _not_none("vstack", tensors)], 0, out=out)


row_stack = vstack


def dstack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """Joined along the third dimension."""
    return cat([_three(x) for x in _not_none("dstack", tensors)], 2, out=out)


def column_stack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """Vectors as columns, matrices side by side."""
    ts = _not_none("column_stack", tensors)
    return hstack([reshape(x, (x._a.size, 1)) if x._a.ndim <= 1 else x for x in ts], out=out)


@derivative
def BlockDiagBackward0(node: Any, grad: Tensor) -> Any:
    parts, row, column = [], 0, 0
    for needed, shape in zip(node.needs, node.ctx, strict=True):
        m, n = (1, 1) if not shape else (1, *shape) if len(shape) == 1 else shape
        parts.append(grad.narrow(0, row, m).narrow(1, column, n).reshape(shape) if needed else None)
        row, column = row + m, column + n
    return tuple(parts)


def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the tensors (at most two dimensions) on its diagonal, zero elsewhere.

    Raises RuntimeError for a tensor of more dimensions."""
    if not tensors:
        return wrap(np.empty((1, 0), np.float32))
    for i, x in enumerate(_listed("block_diag", tensors)):
        if x._a.ndim > 2:
            raise RuntimeError("torch.block_diag: Input tensors must have 2 or fewer dimensions. Input "
                               f"{i} has {x._a.ndim} dimensions")
    blocks = [a.reshape((1, 1) if a.ndim == 0 else (1, -1) if a.ndim == 1 else a.shape) for a in _arrays(tensors)]
    r = wrap(of(blocks[0]).copy.block_diag(blocks))
    if recording(*tensors):
        record(r, BlockDiagBackward0, tuple(tensors), ctx=[x._a.shape for x in tensors])
    return r
