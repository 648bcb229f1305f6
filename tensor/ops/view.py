"""Views: other shapes, orders of dimensions and types over the same memory.

A view changes metadata only. Each op checks its arguments, makes a NumPy view, and gives it a node whose derivative is
the inverse rearrangement. Views of a part are in ``parts.py``, windows with any strides in ``region.py``.
https://docs.pytorch.org/docs/stable/tensor_view.html
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import is_host, of
from tritium.tensor.autocast import amp
from tritium.tensor.dtype import as_dtype, from_numpy_dtype
from tritium.tensor.dtype import dtype as DType
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
from tritium.tensor.layout import broadcast_shapes, infer_shape, shape_of, wrap_dim, wrap_dims
from tritium.tensor.ops.parts import (  # noqa: F401  (one family: all views can be had from here)
    SelectBackward0,
    SliceBackward0,
    chunk,
    diagonal,
    dsplit,
    hsplit,
    narrow,
    scatter_basic,
    select,
    split,
    split_with_sizes,
    tensor_split,
    unbind,
    unfold,
    vsplit,
)
from tritium.tensor.ops.region import as_strided  # noqa: F401
from tritium.tensor.tensor import Size, Tensor

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
    """A view of this shape, or None when the strides do not allow one."""
    if a.flags.c_contiguous:
        return a.reshape(shape)
    if not isinstance(a, np.ndarray):
        return a.as_shape(shape)
    v = a.view()
    try:
        v.shape = shape
    except AttributeError:
        return None
    return v


def view(input: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """The same data under another shape (one size may be -1), or reinterpreted as another dtype.

    Raises RuntimeError when the strides do not allow it, or the sizes do not fit."""
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], (DType, type))):
        return view_dtype(input, as_dtype(shape[0] if dtype is None else dtype))
    if input._free:
        materialize(input)
    a = input._a
    sizes = _sizes("view", shape, size)
    if -1 in sizes or math.prod(sizes) != a.size:
        sizes = infer_shape(sizes, a.size)
    v = try_view(a, sizes)
    if v is None:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension "
                           "spans across two contiguous subspaces). Use .reshape(...) instead.")
    return make_view(input, v, ViewBackward0, a.shape)


def _sizes(name: str, sizes: tuple[Any, ...], keyword: Any) -> tuple[int, ...]:
    """The sizes in ``f(2, 3)``, ``f((2, 3))`` or by keyword."""
    if keyword is not None:
        sizes = (keyword,)
    elif not sizes:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    return shape_of(sizes)


def view_dtype(input: Tensor, dt: DType) -> Tensor:
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


def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The data under another shape: a view where the strides allow it, a copy where not.

    Raises RuntimeError when the sizes do not fit."""
    if input._free:
        materialize(input)
    a = input._a
    wanted = _sizes("reshape", sizes, shape)
    if -1 in wanted or math.prod(wanted) != a.size:
        wanted = infer_shape(wanted, a.size)
    v = try_view(a, wanted)
    if v is not None:
        return make_view(input, v, ViewBackward0, a.shape)
    out = wrap(a.reshape(wanted))
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
    if not shape:
        raise RuntimeError("unflatten got an unexpected error:\nDimension specified as 0 but tensor has no dimensions")
    try:
        inner = infer_shape(sizes, shape[d])
    except RuntimeError as error:
        if "only one dimension" in str(error):
            raise RuntimeError(f"unflatten got an unexpected error:\n{error}") from None
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
    return make_view(input, a[(slice(None),) * d + (None,)] if d else a[None], UnsqueezeBackward0, d)


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


def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """The dimensions in another order.

    Raises RuntimeError when ``dims`` is no permutation."""
    order = _sizes("permute", order, dims)
    materialize(input)
    a = input._a
    if len(order) != a.ndim:
        raise RuntimeError("permute(sparse_coo): number of dimensions in the tensor input does not match the length "
                           f"of the desired ordering of dimensions i.e. input.dim() = {a.ndim} is not equal to "
                           f"len(dims) = {len(order)}")
    wrapped: list[int] = []
    for d in order:
        d = wrap_dim(d, a.ndim)
        if d in wrapped:
            raise RuntimeError("permute(): duplicate dims are not allowed.")
        wrapped.append(d)
    return make_view(input, a.transpose(wrapped), PermuteBackward0, tuple(wrapped))


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
    """``Tensor.mT``: the last two dimensions exchanged; a 0-d tensor as it is.

    Raises RuntimeError for one dimension."""
    return _matrix_transpose("mT", input)


def matrix_H(input: Tensor) -> Tensor:
    """``Tensor.mH``: the conjugate transpose of the last two dimensions; a 0-d tensor conjugated.

    Raises RuntimeError for one dimension."""
    return _matrix_transpose("mH", input).conj()


def _matrix_transpose(name: str, input: Tensor) -> Tensor:
    if input._a.ndim == 1:
        raise RuntimeError(f"tensor.{name} is only supported on matrices or batches of matrices. Got 1-D tensor.")
    return transpose(input, -2, -1) if input._a.ndim else input


def numpy_H(input: Tensor) -> Tensor:
    """``Tensor.H``: the conjugate transpose of a matrix; a 0-d tensor conjugated.

    Raises RuntimeError for one dimension, or more than two."""
    if input._a.ndim not in (0, 2):
        raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {input._a.ndim}-D tensor."
                           + (" For batches of matrices, consider using tensor.mH" if input._a.ndim > 2 else ""))
    return _matrix_transpose("H", input).conj()


def adjoint(input: Tensor) -> Tensor:
    """The conjugate transpose of the last two dimensions.

    Raises RuntimeError for fewer than two dimensions."""
    if input._a.ndim < 2:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. Got "
                           f"{input._a.ndim}-D tensor.")
    return transpose(input, -2, -1).conj()


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
    if not n:
        return permute(input, ())
    order = [-1] * n
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    rest = iter([d for d in range(n) if d not in src])
    return permute(input, tuple(next(rest) if d < 0 else d for d in order))


moveaxis = movedim

# --- repetition ---------------------------------------------------------------------------------

@derivative
def ExpandBackward0(node: Any, grad: Tensor) -> Tensor:
    return grad.sum_to_size(node.ctx)


def expand(input: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Dimensions of size 1 repeated without a copy; -1 keeps a size, new dimensions go in front.

    Raises RuntimeError when the sizes do not fit."""
    shape = _sizes("expand", sizes, size)
    materialize(input)
    a = input._a
    extra = len(shape) - a.ndim
    if extra < 0:
        raise RuntimeError(f"expand({input.type()}{{{list(a.shape)}}}, size={list(shape)}): the number of sizes "
                           f"provided ({len(shape)}) must be greater or equal to the number of dimensions in the "
                           f"tensor ({a.ndim})")
    target = []
    for i, n in enumerate(shape):
        have = a.shape[i - extra] if i >= extra else 1
        if n == -1:
            if i < extra:
                raise RuntimeError(f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing "
                                   f"dimension {i}")
            n = have
        elif n < 0 and have in (1, n):
            raise RuntimeError("numel: integer multiplication overflow")
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
    if type(a) is np.ndarray and a.size and 0 not in shape and a.flags.c_contiguous and a.dtype.kind != "V":
        return np.ndarray(shape, a.dtype, a, 0, strides)
    return of(a).memory.strided(a, shape, tuple(strides))


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.expand(other.size())``."""
    return expand(input, other._a.shape)


def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """``input.expand(size)``."""
    return expand(input, size)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors expanded to the shape they broadcast to.

    Raises RuntimeError when there is none, TypeError for what is no tensor."""
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
    shape = broadcast_shapes(*[x._a.shape for x in tensors])
    return tuple([expand(x, shape) for x in tensors])


def broadcast_sizes(*shapes: Any) -> Size:
    """``tritium.broadcast_shapes``: the shape that shapes (or sizes, for one dimension) broadcast to.

    Raises RuntimeError when there is none."""
    out: list[int] = []
    for k, shape in enumerate(shapes):
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        out = [1] * (len(sizes) - len(out)) + out
        for i in range(-1, -len(sizes) - 1, -1):
            if sizes[i] < 0:
                raise RuntimeError(f"Trying to create tensor with negative dimension ({sizes[i]}): ({sizes[i]})")
            if sizes[i] not in (1, out[i]) and out[i] != 1:
                raise RuntimeError(f"Attempting to broadcast a dimension of length {sizes[i]} at {i}! Mismatching "
                                   f"argument at index {k} had {sizes}; but expected shape should be broadcastable to "
                                   f"{out}")
            out[i] = sizes[i] if out[i] == 1 else out[i]
    return Size(out)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids from vectors, in matrix ("ij") or Cartesian ("xy") order.

    Raises RuntimeError for tensors of more than one dimension."""
    ts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if indexing not in ("ij", "xy"):
        raise RuntimeError('torch.meshgrid: indexing must be one of "xy" or "ij", but received: ' + indexing)
    for x in ts:
        if x._a.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x}")
        if x._a.dtype != ts[0]._a.dtype:
            raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    if indexing == "xy" and len(ts) >= 2:
        ts[0], ts[1] = ts[1], ts[0]
    shape = tuple(x._a.size for x in ts)
    out = [expand(reshape(x, (1,) * i + (-1,) + (1,) * (len(ts) - 1 - i)), shape) for i, x in enumerate(ts)]
    if indexing == "xy" and len(ts) >= 2:
        out[0], out[1] = out[1], out[0]
    return tuple(out)


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
    shape, strides = (*a.shape, 2), (*a.strides, a.itemsize // 2)
    if is_host(a):
        parts = a.real if a.size else a.real.reshape(-1)[:0]
    else:
        parts = a.look(a.ptr, a.shape, a.strides, np.dtype(f"f{a.itemsize // 2}"))
    return make_view(input, of(parts).memory.strided(parts, shape, strides), ViewAsRealBackward0)


def view_as_complex(input: Tensor) -> Tensor:
    """Real pairs in the last dimension as complex numbers: a view.

    Raises RuntimeError when the layout does not allow it."""
    if amp.on and (r := amp.run("view_as_complex", view_as_complex, input)) is not None:
        return r
    materialize(input)
    a = input._a
    if a.dtype.kind != "f" or a.dtype.itemsize not in (4, 8):
        raise RuntimeError("view_as_complex is only supported for half, float and double tensors, but got a tensor "
                           f"of scalar type: {from_numpy_dtype(a.dtype).title}")
    if a.ndim == 0:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if a.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if a.strides[-1] != a.itemsize:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % (2 * a.itemsize) for s in a.strides[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    return make_view(input, a.view(np.dtype(f"c{2 * a.itemsize}"))[..., 0], ViewAsComplexBackward0)
