"""Views: other shapes, strides and offsets over the same memory.

A view changes metadata only. Each op checks its arguments, makes a NumPy view, and gives it a node whose derivative is
the inverse rearrangement.
https://docs.pytorch.org/docs/stable/tensor_view.html
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.tensor.dtype import as_dtype, dtype, from_numpy_dtype
from tritium.tensor.graph import (
    alias,
    derivative,
    make_view,
    materialize,
    record,
    recording,
    version_of,
    wrap,
)
from tritium.tensor.layout import (
    as_strided_array,
    contiguous_strides,
    element_strides,
    infer_shape,
    shape_of,
    wrap_dim,
    wrap_dims,
)
from tritium.tensor.storage import address_of, storage_elements
from tritium.tensor.tensor import Tensor

# --- shape ------------------------------------------------------------------------------------


@derivative
def ViewBackward0(node: Any, grad: Tensor) -> Tensor:
    return reshape(grad, node.ctx)


@derivative
def UnsafeViewBackward0(node: Any, grad: Tensor) -> Tensor:
    return reshape(grad, node.ctx)


@derivative
def AliasBackward0(node: Any, grad: Tensor) -> Tensor:
    return grad


def try_view(a: Any, shape: tuple[int, ...]) -> Any:
    """A NumPy view of this shape, or None when the strides do not allow one."""
    if a.flags.c_contiguous:
        return a.reshape(shape)
    v = a.view()
    try:
        v.shape = shape
    except AttributeError:
        return None
    return v


def view(input: Tensor, *shape: Any) -> Tensor:
    """The same data under another shape (one size may be -1), or reinterpreted as another dtype.

    Raises RuntimeError when the strides do not allow it, or the sizes do not fit."""
    if len(shape) == 1 and isinstance(shape[0], (dtype, type)):
        return view_dtype(input, as_dtype(shape[0]))
    materialize(input)
    a = input._a
    sizes = infer_shape(shape_of(shape), a.size)
    v = try_view(a, sizes)
    if v is None:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension "
                           "spans across two contiguous subspaces). Use .reshape(...) instead.")
    return make_view(input, v, ViewBackward0, a.shape)


def view_dtype(input: Tensor, dt: dtype) -> Tensor:
    """The same bytes as another dtype. The last dimension grows or shrinks when the sizes differ.

    Raises RuntimeError when it cannot."""
    materialize(input)
    a = input._a
    if a.itemsize != dt.itemsize:
        if a.ndim == 0:
            raise RuntimeError(f"self.dim() cannot be 0 to view {from_numpy_dtype(a.dtype).title} as {dt.title} "
                               "(different element sizes)")
        if a.strides[-1] != a.itemsize:
            raise RuntimeError(f"self.stride(-1) must be 1 to view {from_numpy_dtype(a.dtype).title} as {dt.title} "
                               f"(different element sizes), but got {a.strides[-1] // a.itemsize}")
        if (a.shape[-1] * a.itemsize) % dt.itemsize:
            raise RuntimeError(f"self.size(-1) must be divisible by {dt.itemsize // a.itemsize} to view "
                               f"{from_numpy_dtype(a.dtype).title} as {dt.title} (different element sizes), but got "
                               f"{a.shape[-1]}")
    if recording(input):
        if not dt.is_floating_point and not dt.is_complex:
            return detach(view_dtype(detach(input), dt))
        raise NotImplementedError("view(dtype): the derivative is not implemented; use detach() first")
    return make_view(input, a.view(dt.np), AliasBackward0)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The data under another shape: a view where the strides allow it, a copy where not.

    Raises RuntimeError when the sizes do not fit."""
    sizes = infer_shape(shape_of(shape, "shape"), input._a.size)
    materialize(input)
    a = input._a
    v = try_view(a, sizes)
    if v is not None:
        return make_view(input, v, ViewBackward0, a.shape)
    out = wrap(a.reshape(sizes))
    if recording(input):
        record(out, UnsafeViewBackward0, (input,), ctx=a.shape)
    return out


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.view(other.size())``."""
    return view(input, other._a.shape)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.reshape(other.size())``."""
    return reshape(input, other._a.shape)


def ravel(input: Tensor) -> Tensor:
    """One dimension: a view where possible."""
    return reshape(input, -1)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` made one.

    Raises RuntimeError when they are in the wrong order."""
    shape = input._a.shape
    start, end = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return reshape(input, 1)
    if start == end:
        return input
    size = 1
    for n in shape[start:end + 1]:
        size *= n
    return reshape(input, (*shape[:start], size, *shape[end + 1:]))


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dimension made several; one of ``sizes`` may be -1.

    Raises RuntimeError when the sizes do not multiply to the dimension's size."""
    shape = input._a.shape
    d = wrap_dim(dim, len(shape))
    sizes = shape_of((sizes,), "sizes")
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        inner = infer_shape(sizes, shape[d])
    except RuntimeError:
        raise RuntimeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} "
                           f"({shape[d]}) in the input tensor") from None
    return view(input, (*shape[:d], *inner, *shape[d + 1:]))


@derivative
def SqueezeBackward0(node: Any, grad: Tensor) -> Tensor:
    return reshape(grad, node.ctx)


@derivative
def SqueezeBackward1(node: Any, grad: Tensor) -> Tensor:
    return reshape(grad, node.ctx)


@derivative
def SqueezeBackward2(node: Any, grad: Tensor) -> Tensor:
    return reshape(grad, node.ctx)


@derivative
def UnsqueezeBackward0(node: Any, grad: Tensor) -> Tensor:
    return squeeze(grad, node.ctx)


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dimensions of size 1 (those in ``dim``, or all)."""
    materialize(input)
    a = input._a
    if dim is None:
        return make_view(input, a.squeeze(), SqueezeBackward0, a.shape)
    dims = wrap_dims(dim, a.ndim)
    keep = tuple(d for d in dims if a.shape[d] == 1)
    kind = SqueezeBackward1 if isinstance(dim, int) else SqueezeBackward2
    return make_view(input, a.squeeze(keep), kind, a.shape)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a dimension of size 1 put in at ``dim``."""
    materialize(input)
    a = input._a
    d = wrap_dim(dim, a.ndim, 1)
    return make_view(input, np.expand_dims(a, d), UnsqueezeBackward0, d)


# --- order of dimensions -------------------------------------------------------------------------

@derivative
def PermuteBackward0(node: Any, grad: Tensor) -> Tensor:
    return permute(grad, tuple(np.argsort(node.ctx).tolist()))


@derivative
def TransposeBackward0(node: Any, grad: Tensor) -> Tensor:
    return transpose(grad, *node.ctx)


@derivative
def TBackward0(node: Any, grad: Tensor) -> Tensor:
    return t(grad)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order.

    Raises RuntimeError when ``dims`` is no permutation."""
    order = shape_of(dims, "dims")
    materialize(input)
    a = input._a
    if len(order) != a.ndim:
        raise RuntimeError("permute(sparse_coo): number of dimensions in the tensor input does not match the length "
                           f"of the desired ordering of dimensions i.e. input.dim() = {a.ndim} is not equal to "
                           f"len(dims) = {len(order)}".replace("(sparse_coo)", ""))
    order = tuple(wrap_dim(d, a.ndim) for d in order)
    if len(set(order)) != len(order):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return make_view(input, a.transpose(order), PermuteBackward0, order)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    materialize(input)
    a = input._a
    d0, d1 = wrap_dim(dim0, a.ndim), wrap_dim(dim1, a.ndim)
    return make_view(input, a.swapaxes(d0, d1) if a.ndim else a.view(), TransposeBackward0, (d0, d1))


swapaxes = swapdims = transpose


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a 0-d tensor as it is.

    Raises RuntimeError for more than two dimensions."""
    materialize(input)
    a = input._a
    if a.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {a.ndim}D")
    return make_view(input, a.T, TBackward0)


def numpy_T(input: Tensor) -> Tensor:
    """``Tensor.T``: all dimensions in reverse."""
    return permute(input, tuple(range(input._a.ndim - 1, -1, -1)))


def matrix_T(input: Tensor) -> Tensor:
    """``Tensor.mT``: the last two dimensions exchanged.

    Raises RuntimeError for fewer than two dimensions."""
    if input._a.ndim < 2:
        raise RuntimeError("tensor.mT is only supported on matrices or batches of matrices. Got "
                           f"{input._a.ndim}-D tensor.")
    return transpose(input, -2, -1)


def adjoint(input: Tensor) -> Tensor:
    """``Tensor.mH``: the conjugate transpose of the last two dimensions."""
    out = matrix_T(input)
    return out.conj() if out.is_complex() else out


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions moved to other places, the rest in order.

    Raises RuntimeError when the two lists differ in length or repeat a dimension."""
    n = input._a.ndim
    src, dst = (source, destination) if not isinstance(source, int) else ((source,), (destination,))
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({list(src)} dims) should contain the "
                           f"same number of dims as destination ({list(dst)} dims)")
    src, dst = [wrap_dim(d, n) for d in src], [wrap_dim(d, n) for d in dst]
    for name, dims in (("source", src), ("destination", dst)):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({dims})")
    order = [-1] * n
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    rest = iter([d for d in range(n) if d not in src])
    return permute(input, tuple(next(rest) if d < 0 else d for d in order))


moveaxis = movedim

# --- parts -----------------------------------------------------------------------------------


@derivative
def SelectBackward0(node: Any, grad: Tensor) -> Tensor:
    return scatter_basic(grad, *node.ctx)


@derivative
def SliceBackward0(node: Any, grad: Tensor) -> Tensor:
    return scatter_basic(grad, *node.ctx)


@derivative
def ScatterBasicBackward0(node: Any, grad: Tensor) -> Tensor:
    from tritium.tensor.indexing import basic_view

    return basic_view(grad, node.ctx, SliceBackward0)


def scatter_basic(grad: Tensor, shape: Any, key: Any) -> Tensor:
    """Zeros of ``shape`` with ``grad`` written at the basic index ``key``: the derivative of basic indexing."""
    a = np.zeros(shape, grad._a.dtype)
    a[key] = grad._a
    out = wrap(a)
    if recording(grad):
        record(out, ScatterBasicBackward0, (grad,), ctx=key)
    return out


def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The part at ``index`` of dimension ``dim``, without that dimension.

    Raises IndexError for a 0-d tensor or an index out of range."""
    materialize(input)
    a = input._a
    if a.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, a.ndim)
    i, n = index.__index__(), a.shape[d]
    if not -n <= i < n:
        raise IndexError(f"select(): index {i} out of range for tensor of size {list(a.shape)} at dimension {d}")
    key = (slice(None),) * d + (i, ...)  # the ellipsis keeps the part of a vector a (0-d) view, not a scalar
    return make_view(input, a[key], SelectBackward0, (a.shape, key))


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """``length`` entries of dimension ``dim`` from ``start`` on.

    Raises RuntimeError or IndexError when they are not all there."""
    materialize(input)
    a = input._a
    if a.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d, n = wrap_dim(dim, a.ndim), a.shape[wrap_dim(dim, a.ndim)]
    s = int(start)
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= s <= n:
        raise IndexError(f"start out of range (expected to be in range of [-{n}, {n}], but got {s})")
    s = s + n if s < 0 else s
    if s + length > n:
        raise RuntimeError(f"start ({s}) + length ({length}) exceeds dimension size ({n}).")
    key = (slice(None),) * d + (slice(s, s + length),)
    return make_view(input, a[key], SliceBackward0, (a.shape, key))


@derivative
def UnbindBackward0(node: Any, grad: Tensor) -> Tensor:
    return scatter_basic(grad, *node.ctx)


@derivative
def SplitBackward0(node: Any, grad: Tensor) -> Tensor:
    return scatter_basic(grad, *node.ctx)


@derivative
def SplitWithSizesBackward0(node: Any, grad: Tensor) -> Tensor:
    return scatter_basic(grad, *node.ctx)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All parts of one dimension, each without it."""
    materialize(input)
    a = input._a
    if a.ndim == 0:
        raise RuntimeError("Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, a.ndim)
    lead = (slice(None),) * d
    # the ellipsis keeps a one-dimensional part a (0-d) view instead of a scalar
    return tuple([make_view(input, a[(*lead, i, ...)], UnbindBackward0, (a.shape, (*lead, i, ...)))
                  for i in range(a.shape[d])])


def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given size (the last may be smaller), or of the given sizes, along ``dim``.

    Raises RuntimeError when the sizes do not add up."""
    materialize(input)
    a = input._a
    if a.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d, n = wrap_dim(dim, a.ndim), a.shape[wrap_dim(dim, a.ndim)]
    if hasattr(split_size_or_sections, "__index__") and not isinstance(split_size_or_sections, (list, tuple)):
        size = split_size_or_sections.__index__()
        if size < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0 and n:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        sizes = [min(size, n - i) for i in range(0, n, size)] if n else [0]
        return _parts(input, d, sizes, SplitBackward0)
    sizes = [int(s) for s in split_size_or_sections]
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                           f"dimension {d}), but got split_sizes={sizes}")
    return _parts(input, d, sizes, SplitWithSizesBackward0)


def _parts(input: Tensor, d: int, sizes: Any, kind: Any) -> tuple[Tensor, ...]:
    a, out, start = input._a, [], 0
    for size in sizes:
        key = (slice(None),) * d + (slice(start, start + size),)
        out.append(make_view(input, a[key], kind, (a.shape, key)))
        start += size
    return tuple(out)


def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given sizes along ``dim``."""
    return split(input, list(split_sizes), dim)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` parts of equal size (the last may be smaller) along ``dim``.

    Raises RuntimeError when ``chunks`` is not positive."""
    if input._a.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    materialize(input)
    d = wrap_dim(dim, input._a.ndim)
    n = input._a.shape[d]
    size = -(-n // chunks)
    if size == 0:
        return _parts(input, d, [0] * chunks, SplitWithSizesBackward0)
    return split(input, size, dim)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts as NumPy's ``array_split`` makes them.

    Raises RuntimeError when the number of sections is not positive."""
    materialize(input)
    a = input._a
    if a.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = wrap_dim(dim, a.ndim)
    n = a.shape[d]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        if indices_or_sections <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {indices_or_sections}")
        size, extra = divmod(n, indices_or_sections)
        return _parts(input, d, [size + (i < extra) for i in range(indices_or_sections)], SliceBackward0)
    out, start = [], 0
    for end in (*indices_or_sections, n):
        key = (slice(None),) * d + (slice(start, end),)
        out.append(make_view(input, a[key], SliceBackward0, (a.shape, key)))
        start = end
    return tuple(out)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """``tensor_split`` along the columns (dimension 1; 0 of a vector)."""
    return tensor_split(input, indices_or_sections, 0 if input._a.ndim == 1 else 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """``tensor_split`` along the rows."""
    return tensor_split(input, indices_or_sections, 0)


# --- repetition ---------------------------------------------------------------------------------

@derivative
def ExpandBackward0(node: Any, grad: Tensor) -> Tensor:
    return grad.sum_to_size(node.ctx)


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Dimensions of size 1 repeated without a copy; -1 keeps a size, new dimensions go in front.

    Raises RuntimeError when the sizes do not fit."""
    shape = shape_of(sizes)
    materialize(input)
    a = input._a
    extra = len(shape) - a.ndim
    if extra < 0:
        raise RuntimeError(f"expand({input.type()}{{{list(a.shape)}}}, size={list(shape)}): the number of sizes "
                           f"provided ({len(shape)}) must be greater or equal to the number of dimensions in the tensor "
                           f"({a.ndim})")
    target = []
    for i, n in enumerate(shape):
        have = a.shape[i - extra] if i >= extra else 1
        if n == -1:
            if i < extra:
                raise RuntimeError(f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing "
                                   f"dimension {i}")
            n = have
        elif have != 1 and have != n:
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({have}) at "
                               f"non-singleton dimension {i}.  Target sizes: {list(shape)}.  Tensor sizes: "
                               f"{list(a.shape)}")
        target.append(n)
    return make_view(input, broadcast_array(a, tuple(target)), ExpandBackward0, a.shape)


def broadcast_array(a: Any, shape: tuple[int, ...]) -> Any:
    """``a`` with stride 0 where it repeats. Writable, unlike NumPy's: writing is refused where it matters."""
    if a.shape == shape:
        return a.view()
    extra = len(shape) - a.ndim
    strides = [0] * extra + [0 if h == 1 and n != 1 else s
                             for n, h, s in zip(shape[extra:], a.shape, a.strides, strict=True)]
    if 0 in shape:
        return np.empty(shape, a.dtype)
    return np.lib.stride_tricks.as_strided(a, shape, strides)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.expand(other.size())``."""
    return expand(input, other._a.shape)


def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """``input.expand(size)``."""
    return expand(input, size)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors expanded to the shape they broadcast to."""
    from tritium.tensor.layout import broadcast_shapes

    ts = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    shape = broadcast_shapes(*[x._a.shape for x in ts])
    return tuple([expand(x, shape) for x in ts])


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids from vectors, in matrix ("ij") or Cartesian ("xy") order.

    Raises RuntimeError for tensors of more than one dimension."""
    ts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if indexing not in ("ij", "xy"):
        raise RuntimeError('torch.meshgrid: indexing must be one of "xy" or "ij", but received: ' + indexing)
    for x in ts:
        if x._a.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x}")
    if indexing == "xy" and len(ts) >= 2:
        ts[0], ts[1] = ts[1], ts[0]
    shape = tuple(x._a.size for x in ts)
    out = [expand(reshape(x, (1,) * i + (-1,) + (1,) * (len(ts) - 1 - i)), shape) for i, x in enumerate(ts)]
    if indexing == "xy" and len(ts) >= 2:
        out = [transpose(g, 0, 1) for g in (out[1], out[0], *out[2:])]
    return tuple(out)


# --- diagonals, windows ------------------------------------------------------------------------

@derivative
def DiagonalBackward0(node: Any, grad: Tensor) -> Tensor:
    return put_region(grad, node.ctx)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dimensions, as the last dimension of the result.

    Raises RuntimeError when the two dimensions are the same."""
    materialize(input)
    a = input._a
    d1, d2 = wrap_dim(dim1, a.ndim), wrap_dim(dim2, a.ndim)
    if d1 == d2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    v = a.diagonal(offset, d1, d2)
    if v.size:  # NumPy's diagonal is read-only: take the same window of the writable array
        first = [0] * a.ndim
        first[d2 if offset > 0 else d1] = abs(offset)
        start = sum(f * s for f, s in zip(first, element_strides(a), strict=True))
        v = as_strided_array(a, v.shape, [s // a.itemsize for s in v.strides], start)
    return make_view(input, v, DiagonalBackward0, Region(a, v))


@derivative
def UnfoldBackward0(node: Any, grad: Tensor) -> Tensor:
    return put_region(grad, node.ctx)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of ``size`` along a dimension, ``step`` apart, as a new last dimension: a view.

    Raises RuntimeError for a size over the dimension's, or a step that is not positive."""
    materialize(input)
    a = input._a
    if a.ndim == 0:
        if size > 1:
            raise RuntimeError(f"maximum size for tensor at dimension 0 is 1 but size is {size}")
        return make_view(input, a.reshape(1), UnfoldBackward0, Region(a, a.reshape(1)))
    d = wrap_dim(dimension, a.ndim)
    if size > a.shape[d]:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {a.shape[d]} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    shape = (*a.shape[:d], (a.shape[d] - size) // step + 1, *a.shape[d + 1:], size)
    strides = (*a.strides[:d], a.strides[d] * step, *a.strides[d + 1:], a.strides[d])
    v = np.lib.stride_tricks.as_strided(a, shape, strides) if 0 not in shape else np.empty(shape, a.dtype)
    return make_view(input, v, UnfoldBackward0, Region(a, v))


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view with any shape, strides and offset (in elements) over the storage of ``input``.

    Raises RuntimeError when it would reach outside the storage."""
    shape, strides = shape_of((size,)), shape_of((stride,), "stride")
    if len(shape) != len(strides):
        raise RuntimeError("mismatch in length of strides and shape")
    for s in strides:
        if s < 0:
            raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: "
                               f"{list(strides)}")
    materialize(input)
    a = input._a
    flat = storage_elements(a)
    offset = input.storage_offset() if storage_offset is None else storage_offset
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and (offset < 0 or last >= flat.size):
        raise RuntimeError(f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {offset}, and "
                           f"itemsize {a.itemsize} requiring a storage size of {(last + 1) * a.itemsize} are out of "
                           f"bounds for storage of size {flat.nbytes}")
    v = as_strided_array(flat[offset:], shape, strides, 0)
    return make_view(input, v, AsStridedBackward0, Region(a, v))


# --- regions: where a view lies in its base ------------------------------------------------------

class Region:
    """Which elements of an array a view of it sees. Used where a view's derivative is a window, not a formula."""

    def __init__(self, base: Any, view: Any) -> None:
        if base.itemsize != view.itemsize:
            raise NotImplementedError("in-place changes through a view of another dtype are not recorded; use "
                                      "detach() or work out of place")
        self.shape, self.view_shape = base.shape, view.shape
        self.strides, self.view_strides = element_strides(base), element_strides(view)
        self.start = (address_of(view) - address_of(base)) // base.itemsize if view.size and base.size else 0
        self._index: Any = None

    @property
    def index(self) -> Any:
        """For each element of the view its position in the base's logical order; -1 where it lies outside."""
        if self._index is None:
            where = self._offsets(self.view_shape, self.view_strides) + self.start
            if self.strides != contiguous_strides(self.shape) or self.start < 0:
                own = self._offsets(self.shape, self.strides).reshape(-1)
                order = np.argsort(own, kind="stable")
                found = np.searchsorted(own[order], where.reshape(-1)).clip(0, max(own.size - 1, 0))
                hit = own[order][found] == where.reshape(-1)
                self._index = np.where(hit, order[found], -1).reshape(where.shape)
            else:
                numel = int(np.prod(self.shape, dtype=np.int64))
                self._index = np.where(where < numel, where, -1)
        return self._index

    @staticmethod
    def _offsets(shape: Any, strides: Any) -> Any:
        out = np.zeros(shape, np.int64)
        for d, (n, s) in enumerate(zip(shape, strides, strict=True)):
            out += (np.arange(n) * s).reshape((-1,) + (1,) * (len(shape) - 1 - d))
        return out

    def take(self, a: Any) -> Any:
        """The view's elements of an array of the base's shape."""
        flat, index = a.reshape(-1), self.index
        if flat.size == 0:
            return np.zeros(self.view_shape, a.dtype)
        out = flat[index]
        if (index < 0).any():
            out[index < 0] = 0
        return out

    def put(self, a: Any) -> Any:
        """An array of the base's shape with the view's elements added in, zero elsewhere."""
        out = np.zeros(self.shape, a.dtype)
        index = self.index.reshape(-1)
        keep = index >= 0
        np.add.at(out.reshape(-1), index[keep], a.reshape(-1)[keep])
        return out

    def clear(self, a: Any) -> Any:
        """A copy of an array of the base's shape with the view's elements set to zero."""
        out = np.array(a, order="C")
        index = self.index.reshape(-1)
        out.reshape(-1)[index[index >= 0]] = 0
        return out


def region_of(t: Tensor) -> Region:
    """Where a view lies in its base."""
    assert t._base is not None
    materialize(t._base)
    return Region(t._base._a, t._a)


@derivative
def TakeRegionBackward0(node: Any, grad: Tensor) -> Tensor:
    return put_region(grad, node.ctx)


@derivative
def AsStridedBackward0(node: Any, grad: Tensor) -> Tensor:
    return put_region(grad, node.ctx)


@derivative
def PutRegionBackward0(node: Any, grad: Tensor) -> Tensor:
    return take_region(grad, node.ctx)


@derivative
def ClearRegionBackward0(node: Any, grad: Tensor) -> Tensor:
    return clear_region(grad, node.ctx)


@derivative
def CopySlices(node: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The base after an in-place change of a view: what was under the view gets no gradient, the new values do."""
    return clear_region(grad, node.ctx), take_region(grad, node.ctx)


def _region_op(name: str, kind: Any) -> Any:
    def op(grad: Tensor, region: Region) -> Tensor:
        out = wrap(getattr(region, name)(grad._a))
        if recording(grad):
            record(out, kind, (grad,), ctx=region)
        return out

    return op


take_region = _region_op("take", TakeRegionBackward0)
put_region = _region_op("put", PutRegionBackward0)
clear_region = _region_op("clear", ClearRegionBackward0)

# --- outside the graph, other types --------------------------------------------------------------


def detach(input: Tensor) -> Tensor:
    """The same memory outside the graph. In-place changes of either are seen, and checked, by both."""
    materialize(input)
    out = alias(input)
    version_of(input).shared = True
    return out


def detach_(input: Tensor) -> Tensor:
    """Take the tensor itself out of the graph.

    Raises RuntimeError for a view."""
    if input._base is not None:
        raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    input._edge = None
    input._rg = False
    return input


@derivative
def ViewAsRealBackward0(node: Any, grad: Tensor) -> Tensor:
    return view_as_complex(grad.contiguous())


@derivative
def ViewAsComplexBackward0(node: Any, grad: Tensor) -> Tensor:
    return view_as_real(grad)


def view_as_real(input: Tensor) -> Tensor:
    """A complex tensor as real pairs, in a new last dimension of size 2: a view.

    Raises RuntimeError when the tensor is not complex."""
    materialize(input)
    a = input._a
    if a.dtype.kind != "c":
        raise RuntimeError("view_as_real is only supported for complex tensors")
    part = np.dtype(f"f{a.itemsize // 2}")
    shape, strides = (*a.shape, 2), (*a.strides, a.itemsize // 2)
    v = np.lib.stride_tricks.as_strided(a.real, shape, strides) if a.size else np.empty(shape, part)
    return make_view(input, v, ViewAsRealBackward0)


def view_as_complex(input: Tensor) -> Tensor:
    """Real pairs in the last dimension as complex numbers: a view.

    Raises RuntimeError when the layout does not allow it."""
    materialize(input)
    a = input._a
    if a.dtype.kind != "f" or a.dtype.itemsize not in (4, 8):
        raise RuntimeError("view_as_complex is only supported for floating point tensors, but got a tensor of scalar "
                           f"type: {from_numpy_dtype(a.dtype).title}")
    if a.ndim == 0:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if a.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if a.strides[-1] != a.itemsize:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % (2 * a.itemsize) for s in a.strides[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    return make_view(input, a.view(np.dtype(f"c{2 * a.itemsize}"))[..., 0], ViewAsComplexBackward0)
