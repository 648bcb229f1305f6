"""Views of a part: select, narrow, unbind, split, diagonals and sliding windows.

https://docs.pytorch.org/docs/stable/tensor_view.html
"""
from __future__ import annotations

from typing import Any

from tritium.kernels import beside
from tritium.tensor.graph import derivative, make_view, make_views, materialize, record, recording, wrap
from tritium.tensor.layout import as_strided_array, contiguous_strides, element_strides, wrap_dim
from tritium.tensor.ops.region import Part, put_region
from tritium.tensor.tensor import Tensor

# --- parts -----------------------------------------------------------------------------------


@derivative
def SelectBackward0(node: Any, grad: Tensor) -> Tensor:
    return scatter_basic(grad, *node.ctx)


@derivative
def SliceBackward0(node: Any, grad: Tensor) -> Tensor:
    return scatter_basic(grad, *node.ctx)


@derivative
def ScatterBasicBackward0(node: Any, grad: Tensor) -> Tensor:
    return basic_view(grad, node.ctx, SliceBackward0)


def basic_view(t: Tensor, key: Any, kind: Any) -> Tensor:
    """The view at a basic NumPy key (with an ellipsis where it could otherwise give a scalar)."""
    materialize(t)
    return make_view(t, t._a[key], kind, (t._a.shape, key))


def scatter_basic(grad: Tensor, shape: Any, key: Any) -> Tensor:
    """Zeros of ``shape`` with ``grad`` written at the basic index ``key``: the derivative of basic indexing."""
    a = beside(grad._a).zeros(shape, grad._a.dtype)
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
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    d = wrap_dim(dim, a.ndim)
    n, s = a.shape[d], int(start)
    if not -n <= s <= n:
        raise IndexError(f"start out of range (expected to be in range of [-{n}, {n}], but got {s})")
    s = s + n if s < 0 else s
    if s + length > n:
        raise RuntimeError(f"start ({s}) + length ({length}) exceeds dimension size ({n}).")
    key = (slice(None),) * d + (slice(s, s + length),)
    return make_view(input, a[key], SliceBackward0, (a.shape, key))


@derivative
def UnbindBackward0(node: Any, *grads: Any) -> Tensor:
    return assemble(grads, *node.ctx)


@derivative
def SplitBackward0(node: Any, *grads: Any) -> Tensor:
    return assemble(grads, *node.ctx)


@derivative
def SplitWithSizesBackward0(node: Any, *grads: Any) -> Tensor:
    return assemble(grads, *node.ctx)


@derivative
def AssembleBackward0(node: Any, grad: Tensor) -> Any:
    return tuple([basic_view(grad, key, SliceBackward0) for key in node.ctx])


def assemble(grads: Any, shape: Any, keys: Any) -> Tensor:
    """Zeros of ``shape`` with each gradient (None: nothing) written at its basic index: the derivative of a split."""
    present = [(g, key) for g, key in zip(grads, keys, strict=True) if g is not None]
    a = beside(present[0][0]._a).zeros(shape, present[0][0]._a.dtype)
    for g, key in present:
        a[key] = g._a
    out = wrap(a)
    gs = tuple([g for g, _ in present])
    if recording(*gs):
        record(out, AssembleBackward0, gs, ctx=[key for _, key in present])
    return out


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All parts of one dimension, each without it."""
    materialize(input)
    a = input._a
    if a.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, a.ndim)
    lead = (slice(None),) * d
    # the ellipsis keeps a one-dimensional part a (0-d) view instead of a scalar
    keys = [(*lead, i, ...) for i in range(a.shape[d])]
    return make_views(input, [a[key] for key in keys], UnbindBackward0, (a.shape, keys))


def split(input: Tensor, split_size_or_sections: Any = None, dim: int = 0, *, split_size: Any = None
          ) -> tuple[Tensor, ...]:
    """Parts of the given size (the last may be smaller), or of the given sizes, along ``dim``.

    Raises RuntimeError when the sizes do not add up."""
    sections = split_size if split_size is not None else split_size_or_sections
    materialize(input)
    a = input._a
    if a.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    if hasattr(sections, "__index__") and sections.__index__() < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={sections.__index__()}")
    d = wrap_dim(dim, a.ndim)
    n = a.shape[d]
    if hasattr(sections, "__index__"):
        size = sections.__index__()
        if size == 0 and n:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        sizes = [min(size, n - i) for i in range(0, n, size)] if n else [0]
        return _parts(input, d, sizes, SplitBackward0)
    sizes = [int(s) for s in sections]
    if min(sizes, default=0) < 0:
        raise RuntimeError("split_with_sizes expects split_sizes have only non-negative entries, but got "
                           f"split_sizes={sizes}")
    if sum(sizes) != n:
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                           f"dimension {dim}), but got split_sizes={sizes}")
    return _parts(input, d, sizes, SplitWithSizesBackward0)


def _parts(input: Tensor, d: int, sizes: Any, kind: Any) -> tuple[Tensor, ...]:
    a, keys, start = input._a, [], 0
    for size in sizes:
        keys.append((slice(None),) * d + (slice(start, start + size),))
        start += size
    return make_views(input, [a[key] for key in keys], kind, (a.shape, keys))


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


def tensor_split(input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, sections: Any = None,
                 indices: Any = None) -> tuple[Tensor, ...]:
    """Parts as NumPy's ``array_split`` makes them.

    Raises RuntimeError when the number of sections is not positive."""
    if indices_or_sections is None:
        indices_or_sections = sections if indices is None else indices
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
        ends, end = [], 0
        for i in range(indices_or_sections - 1):
            end += size + (i < extra)
            ends.append(end)
    else:
        ends = list(indices_or_sections)
    out, start = [], 0
    for end in (*ends, n):
        key = (slice(None),) * d + (slice(start, end),)
        out.append(make_view(input, a[key], SliceBackward0, (a.shape, key)))
        start = end
    return tuple(out)


def _split_along(name: str, input: Tensor, sections: Any, dim: int, least: int) -> tuple[Tensor, ...]:
    shape = input._a.shape
    if len(shape) < least:
        raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor with "
                           f"{len(shape)} dimensions!")
    if isinstance(sections, int) and (sections <= 0 or shape[dim] % sections):
        raise RuntimeError(f"torch.{name} attempted to split along dimension {dim}, but the size of the dimension "
                           f"{shape[dim]} is not divisible by the split_size {sections}!")
    return tensor_split(input, sections, dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts at indices, along the columns (dimension 1; 0 of a vector).

    Raises RuntimeError for a 0-d tensor or a size that the number of parts does not divide."""
    return _split_along("hsplit", input, indices_or_sections, 0 if input._a.ndim == 1 else 1, 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """The same along the rows (dimension 0) of at least two dimensions."""
    return _split_along("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """The same along dimension 2 of at least three."""
    return _split_along("dsplit", input, indices_or_sections, 2, 3)


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
    first, second = (0, offset) if offset >= 0 else (-offset, 0)
    length = max(min(a.shape[d1] - first, a.shape[d2] - second), 0)
    rest = [d for d in range(a.ndim) if d not in (d1, d2)]
    shape = (*[a.shape[d] for d in rest], length)

    def steps(strides: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        start = first * strides[d1] + second * strides[d2] if length else 0
        return (*[strides[d] for d in rest], strides[d1] + strides[d2]), start

    v = as_strided_array(a, shape, *steps(element_strides(a)))
    own = contiguous_strides(a.shape)  # an expanded tensor has several elements at one address
    return make_view(input, v, DiagonalBackward0, Part(a.shape, own, shape, *steps(own)))


@derivative
def UnfoldBackward0(node: Any, grad: Tensor) -> Tensor:
    return put_region(grad, node.ctx)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of ``size`` along a dimension, ``step`` apart, as a new last dimension: a view.

    Raises RuntimeError for a size over the dimension's, or a step that is not positive."""
    materialize(input)
    base = input._a
    d = wrap_dim(dimension, base.ndim)
    a = base if base.ndim else base.reshape(1)
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > a.shape[d]:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {a.shape[d]} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    strides = element_strides(a)
    shape = (*a.shape[:d], (a.shape[d] - size) // step + 1, *a.shape[d + 1:], size)
    if base.ndim == 0:
        shape = (size,)
        v = as_strided_array(a, shape, (1,), 0)
    else:
        v = as_strided_array(a, shape, (*strides[:d], strides[d] * step, *strides[d + 1:], strides[d]), 0)
    # the positions in the order of the elements, whatever the strides: an expanded input has several at one address
    own = contiguous_strides(a.shape)
    steps = (*own[:d], own[d] * step, *own[d + 1:], own[d]) if base.ndim else (1,)
    return make_view(input, v, UnfoldBackward0, Part(base.shape, contiguous_strides(base.shape), shape, steps, 0))
