"""Rearranged copies: repeated, rolled, turned; triangles, diagonals, products of sets.

https://docs.pytorch.org/docs/stable/torch.html#indexing-slicing-joining-mutating-ops
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import beside, of, on
from tritium.tensor.autocast import amp
from tritium.tensor.device import as_available
from tritium.tensor.dtype import as_dtype
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import contiguous_format, shape_of, wrap_dim
from tritium.tensor.ops.arguments import not_implemented
from tritium.tensor.ops.copy import clone, flip
from tritium.tensor.ops.index import index_select
from tritium.tensor.ops.join import cat, stack
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pixel import (  # noqa: F401  (one family: the functions are exported from here)
    channel_shuffle,
    pixel_shuffle,
    pixel_unshuffle,
)
from tritium.tensor.ops.pointwise import inplace
from tritium.tensor.ops.scan import cumprod, cumsum
from tritium.tensor.ops.view import (
    UnsafeViewBackward0,
    diagonal,
    expand,
    flatten,
    meshgrid,
    reshape,
    select,
    unsqueeze,
)
from tritium.tensor.tensor import Tensor

METHODS = ["fliplr", "flipud", "roll", "rot90", "repeat", "tile", "repeat_interleave", "tril", "triu", "diag",
           "diagflat", "diag_embed", "diagonal_scatter", "select_scatter", "slice_scatter", "trace", "kron"]
INPLACE = ["tril_", "triu_"]
FUNCTIONS = [*[n for n in METHODS if n != "repeat"], "tril_indices", "triu_indices", "cartesian_prod", "combinations",
             "vander", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"]


# --- order --------------------------------------------------------------------------------------

def fliplr(input: Tensor) -> Tensor:
    """The columns in reverse order.

    Raises RuntimeError for fewer than two dimensions."""
    if input._a.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """The rows in reverse order.

    Raises RuntimeError for a 0-d tensor."""
    if input._a.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


@derivative
def RollBackward0(node: Any, grad: Tensor) -> Tensor:
    shifts, dims = node.ctx
    return roll(grad, tuple([-s for s in shifts]), dims)


def roll(input: Tensor, shifts: Any, dims: Any = ()) -> Tensor:
    """The elements moved round by ``shifts`` along ``dims``, or in the flattened tensor.

    Raises RuntimeError when there are not as many shifts as dimensions."""
    a = input._a
    moves = shape_of((shifts,), "shifts")
    along = shape_of((() if dims is None else dims,), "dims")
    if not moves:
        raise RuntimeError("`shifts` required")
    if len(moves) != len(along) and not (len(moves) == 1 and not along):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(moves)}, dims:{len(along)}")
    along = tuple([wrap_dim(d, a.ndim) for d in along])
    r = wrap(of(a).copy.roll(a, moves if along else moves[0], along or None) if a.ndim else a.copy())
    if recording(input):
        record(r, RollBackward0, (input,), ctx=(moves, along))
    return r


@derivative
def Rot90Backward0(node: Any, grad: Tensor) -> Tensor:
    k, dims = node.ctx
    return rot90(grad, -k, dims)


def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Turned by ``k`` times 90 degrees in the plane of two dimensions, from the first towards the second.

    Raises RuntimeError for fewer than two dimensions, or not two different ``dims``."""
    a = input._a
    plane = shape_of((dims,), "dims")
    if len(plane) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(plane)}")
    if a.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {a.ndim}")
    d0, d1 = (wrap_dim(d, a.ndim) for d in plane)
    if d0 == d1:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {plane[0]} and dim1 = {plane[1]}")
    r = wrap(of(a).copy.rot90(a, k % 4, d0, d1))
    if recording(input):
        record(r, Rot90Backward0, (input,), ctx=(k, (d0, d1)))
    return r


# --- repetition ---------------------------------------------------------------------------------

@derivative
def RepeatBackward0(node: Any, grad: Tensor) -> Tensor:
    repeats, shape = node.ctx
    if 0 in repeats:
        return grad.new_zeros(shape)
    extra = len(repeats) - len(shape)
    split: list[int] = list(repeats[:extra])
    for n, size in zip(repeats[extra:], shape, strict=True):
        split += [n, size]
    summed = tuple(range(extra)) + tuple(range(extra, len(split), 2))
    return reshape(grad, tuple(split)).sum(summed) if summed else grad


def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """The tensor repeated along each dimension, new dimensions in front.

    Raises RuntimeError for fewer numbers than dimensions."""
    if not repeats:
        raise TypeError('repeat() missing 1 required positional arguments: "repeats"')
    times = shape_of(repeats, "repeats")
    a = input._a
    if len(times) < a.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    shape = (1,) * (len(times) - a.ndim) + a.shape
    for n in times:
        if n < 0:
            sizes = [m * s for m, s in zip(times, shape, strict=True)]
            raise RuntimeError(f"Trying to create tensor with negative dimension {min(sizes)}: {sizes}")
    r = wrap(of(a).copy.tile(a, times) if times else a.copy())
    if recording(input):
        record(r, RepeatBackward0, (input,), ctx=(times, a.shape))
    return r


def tile(input: Tensor, *dims: Any) -> Tensor:
    """``repeat`` that takes fewer numbers than dimensions: they count for the last ones."""
    if not dims:
        raise TypeError('tile() missing 1 required positional arguments: "dims"')
    times = shape_of(dims, "dims")
    return repeat(input, (1,) * (input._a.ndim - len(times)) + times)


def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *,
                      output_size: int | None = None) -> Tensor:
    """Each element, or each slice along ``dim``, repeated ``repeats`` times (an int, or one for each).

    ``repeat_interleave(repeats)`` gives the indices. Raises RuntimeError when the number of repeats does not fit, or
    one is negative.
    https://docs.pytorch.org/docs/stable/generated/torch.repeat_interleave.html"""
    if repeats is None:
        if dim is not None:
            raise TypeError("repeat_interleave() received an invalid combination of arguments - got (Tensor, dim=int)")
        return wrap(_repeated_index(input, output_size))
    x = reshape(input, -1) if dim is None or input._a.ndim == 0 else input
    d = 0 if dim is None else wrap_dim(dim, input._a.ndim)
    size = x._a.shape[d]
    if not isinstance(repeats, Tensor):
        if repeats < 0:
            raise RuntimeError("Repeats must be non-negative")
        shape = x._a.shape
        whole = expand(unsqueeze(x, d + 1), (*shape[:d + 1], repeats, *shape[d + 1:]))
        return flatten(clone(whole, memory_format=contiguous_format), d, d + 1)
    counts = repeats._a
    if counts.ndim > 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if counts.ndim == 0 or counts.size == 1:
        repeats = expand(reshape(repeats, 1), size)
    elif counts.size != size:
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{counts.size} and input.size({d}) = {size}")
    return index_select(x, d, wrap(_repeated_index(repeats, output_size)))


def _repeated_index(repeats: Tensor, output_size: int | None) -> Any:
    counts = repeats._a
    if counts.ndim != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    if counts.dtype not in (np.int64, np.int32):
        raise not_implemented("repeat_interleave_cpu", counts.dtype)
    if counts.size and of(counts).reduce.amin(counts, (0,), False).item() < 0:
        raise RuntimeError("repeats can not be negative")
    ends = cumsum(repeats, 0)._a  # the element that is repeated ends before
    total = int(ends[-1].item()) if counts.size else 0
    if output_size is not None and output_size != total:
        raise RuntimeError("allocated size does not match required size")
    k = of(ends)
    places = beside(ends).arange(0, 1, total, np.int64)
    return k.pointwise.cast(k.sort.searchsorted(ends, places, True), counts.dtype)


# --- triangles and diagonals --------------------------------------------------------------------

@derivative
def TrilBackward0(node: Any, grad: Tensor) -> Tensor:
    return tril(grad, node.ctx)


@derivative
def TriuBackward0(node: Any, grad: Tensor) -> Tensor:
    return triu(grad, node.ctx)


def _triangle(name: str, input: Tensor, diagonal: int, kind: Any, out: Tensor | None) -> Tensor:
    a = input._a
    if a.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    r = wrap(of(a).copy.triangle(a, diagonal, name == "triu"))
    if recording(input):
        record(r, kind, (input,), ctx=diagonal)
    return r if out is None else write_out(name, out, r, input)


def tril(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The lower triangle of the last two dimensions, zero above the diagonal.

    Raises RuntimeError for fewer than two dimensions."""
    return _triangle("tril", input, diagonal, TrilBackward0, out)


def triu(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The upper triangle of the last two dimensions, zero below the diagonal.

    Raises RuntimeError for fewer than two dimensions."""
    return _triangle("triu", input, diagonal, TriuBackward0, out)


tril_ = inplace(tril, "tril_")
triu_ = inplace(triu, "triu_")


def _triangle_indices(name: str, row: int, col: int, offset: int, dtype: Any, device: Any) -> Tensor:
    as_available(device)
    for word, n in (("row", row), ("col", col)):
        if n < 0:
            raise RuntimeError(f"{word} must be non-negative, got{n}")
    dt = np.dtype(np.int64) if dtype is None else as_dtype(dtype).np
    if dt not in (np.int64, np.int32, np.int16, np.int8, np.uint8):
        raise not_implemented(name, dt)
    whole = on(as_available(device)).full((row, col), 1, np.uint8)
    k = of(whole)
    places = k.index.nonzero(k.copy.triangle(whole, offset, name == "triu_indices"))
    return wrap(k.copy.contiguous(k.pointwise.cast(places.T, dt)))


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """The indices of the lower triangle of a (row, col) matrix: (2, count).

    Raises RuntimeError for a negative size."""
    return _triangle_indices("tril_indices", row, col, offset, dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """The indices of the upper triangle of a (row, col) matrix: (2, count).

    Raises RuntimeError for a negative size."""
    return _triangle_indices("triu_indices", row, col, offset, dtype, device)


@derivative
def DiagEmbedBackward0(node: Any, grad: Tensor) -> Tensor:
    return diagonal(grad, *node.ctx)


def _moved(ndim: int, d1: int, d2: int) -> tuple[int, ...]:
    """The order of dimensions that puts the last two at ``d1`` and ``d2``."""
    rest = iter(range(ndim - 2))
    return tuple([ndim - 2 if d == d1 else ndim - 1 if d == d2 else next(rest) for d in range(ndim)])


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dimension on a diagonal of two new dimensions, zero elsewhere.

    Raises RuntimeError when the two dimensions are the same."""
    a = input._a
    d1, d2 = wrap_dim(dim1, a.ndim + 1), wrap_dim(dim2, a.ndim + 1)
    if d1 == d2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    n = a.shape[-1] + abs(offset)
    whole = beside(a).zeros((*a.shape[:-1], n, n), a.dtype)
    of(a).copy.diagonal_into(whole, a, offset)
    r = wrap(of(a).copy.contiguous(whole.transpose(_moved(whole.ndim, d1, d2))))
    if recording(input):
        record(r, DiagEmbedBackward0, (input,), ctx=(offset, d1, d2))
    return r


@derivative
def DiagonalBackward0_copy(node: Any, grad: Tensor) -> Tensor:
    offset, shape = node.ctx
    return diagonal_scatter(grad.new_zeros(shape), grad, offset)


def diag(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The diagonal of a matrix (a copy), or a matrix with the vector on its diagonal.

    Raises RuntimeError for other numbers of dimensions."""
    a = input._a
    if a.ndim == 1:
        r = diag_embed(input, diagonal)
    elif a.ndim == 2:
        r = wrap(of(a).copy.contiguous(a.diagonal(diagonal)))
        if recording(input):
            record(r, DiagonalBackward0_copy, (input,), ctx=(diagonal, a.shape))
    else:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {a.ndim}D")
    return r if out is None else write_out("diag", out, r, input)


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all elements on its diagonal."""
    return diag_embed(reshape(input, -1), offset)


def _written(name: str, input: Tensor, src: Tensor, view: Any, kind: Any) -> Tensor:
    """A copy of ``input`` with ``src`` written into a view of it."""
    r = clone(input.detach())
    part = view(r)
    if part._a.shape != src._a.shape:
        raise RuntimeError("expected src to have a size equal to the slice of self. src size = "
                           f"{list(src._a.shape)}, slice size = {list(part._a.shape)}")
    part.copy_(src.detach())
    out = wrap(r._a)
    if recording(input, src):
        record(out, kind, (input, src), ctx=view)
    return out


def _written_backward(node: Any, grad: Tensor) -> Any:
    view = node.ctx
    kept = None
    if node.needs[0]:
        part = view(grad)
        kept = _written("", grad, grad.new_zeros(part._a.shape), view, type(node))
    return kept, view(grad) if node.needs[1] else None


@derivative
def DiagonalScatterBackward0(node: Any, grad: Tensor) -> Any:
    return _written_backward(node, grad)


@derivative
def SelectScatterBackward0(node: Any, grad: Tensor) -> Any:
    return _written_backward(node, grad)


@derivative
def SliceScatterBackward0(node: Any, grad: Tensor) -> Any:
    return _written_backward(node, grad)


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of ``input`` with ``src`` on a diagonal.

    Raises RuntimeError when ``src`` has another shape than the diagonal."""
    return _written("diagonal_scatter", input, src, lambda x: diagonal(x, offset, dim1, dim2), DiagonalScatterBackward0)


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of ``input`` with ``src`` at ``index`` of dimension ``dim``.

    Raises RuntimeError when ``src`` has another shape than that part."""
    return _written("select_scatter", input, src, lambda x: select(x, dim, index), SelectScatterBackward0)


def slice_scatter(input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
                  step: int = 1) -> Tensor:
    """A copy of ``input`` with ``src`` at a slice of dimension ``dim``.

    Raises RuntimeError when ``src`` has another shape than the slice."""
    key = (slice(None),) * wrap_dim(dim, input._a.ndim) + (slice(start, end, step),)
    return _written("slice_scatter", input, src, lambda x: x[key], SliceScatterBackward0)


@derivative
def TraceBackward0(node: Any, grad: Tensor) -> Tensor:
    shape = node.ctx
    return expand(grad, shape) * wrap(beside(grad._a).eye(*shape, grad._a.dtype))


def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix. Integers give int64.

    Raises RuntimeError for other numbers of dimensions, NotImplementedError for bool."""
    if amp.on and (r := amp.run("trace", trace, input)) is not None:
        return r
    a = input._a
    if a.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {a.ndim}")
    if a.dtype.kind == "b":
        raise not_implemented("trace", a.dtype)
    dt = np.dtype(np.int64) if a.dtype.kind in "iu" else a.dtype
    r = wrap(of(a).reduce.sum(a.diagonal(), (0,), False, dt))
    if recording(input):
        record(r, TraceBackward0, (input,), ctx=a.shape)
    return r


# --- products of sets -------------------------------------------------------------------------------

def _vectors(tensors: Any) -> None:
    for x in tensors:
        if x._a.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._a.shape)}")


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element of each vector, as rows.

    Raises RuntimeError for tensors that are no vectors."""
    _vectors(tensors)
    if len(tensors) == 1:
        return tensors[0]
    return stack([flatten(g) for g in meshgrid(*tensors)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All ways to choose ``r`` elements of a vector, as rows, in order.

    Raises RuntimeError for a tensor that is no vector, or a negative ``r``."""
    _vectors((input,))
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return wrap(beside(input._a).empty((0,), input._a.dtype))
    numbers = wrap(beside(input._a).arange(0, 1, input._a.size, np.int64))
    grids = meshgrid(*[numbers] * r, indexing="ij")
    keep = wrap(beside(input._a).full(grids[0]._a.shape, True, np.dtype(np.bool_)))
    for left, right in zip(grids[:-1], grids[1:], strict=True):
        keep = keep & (left <= right if with_replacement else left < right)
    return stack([index_select(input, 0, grid[keep]) for grid in grids], 1)


def kron(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The Kronecker product: each element of ``input`` times all of ``other``."""
    n = max(input._a.ndim, other._a.ndim)
    left = (1,) * (n - input._a.ndim) + input._a.shape
    right = (1,) * (n - other._a.ndim) + other._a.shape
    product = (reshape(input, tuple([s for m in left for s in (m, 1)]))
               * reshape(other, tuple([s for m in right for s in (1, m)])))
    r = wrap(product._a.reshape(tuple([x * y for x, y in zip(left, right, strict=True)])))
    if recording(product):
        record(r, UnsafeViewBackward0, (product,), ctx=product._a.shape)
    return r if out is None else write_out("kron", out, r, input, other)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of a vector's elements as columns: the Vandermonde matrix.

    Raises RuntimeError for a tensor that is no vector, or a negative ``N``."""
    if x._a.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    n = x._a.size if N is None else N
    if n < 0:
        raise RuntimeError("N must be non-negative.")
    ones = x.new_ones((x._a.size, min(n, 1)), dtype=as_dtype(np.dtype(np.int64)) if x._a.dtype.kind in "biu" else None)
    powers = cat([ones, cumprod(expand(unsqueeze(x, -1), (x._a.size, n - 1)), 1)], 1) if n > 1 else ones
    return powers if increasing else flip(powers, 1)
