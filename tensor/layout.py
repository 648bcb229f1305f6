"""Dimensions, shapes and strides: the arithmetic that every operation shares. No data is touched here."""
from __future__ import annotations

from typing import Any

from tritium.kernels import of


class layout:
    """``tritium.strided``: the only layout there is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return "tritium." + self._name


strided = layout("strided")
sparse_coo = layout("sparse_coo")


class memory_format:
    """How the dimensions of a tensor follow one another in memory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return "tritium." + self._name

    def __reduce__(self) -> Any:
        return _format_by_name, (self._name,)


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")


def _format_by_name(name: str) -> memory_format:
    return globals()[name]


def wrap_dim(dim: Any, ndim: int, extra: int = 0) -> int:
    """A dimension counted from the front. A 0-d tensor counts as having one dimension, as in PyTorch.

    Raises IndexError when there is no such dimension."""
    n = (ndim or 1) + extra if extra == 0 else ndim + extra
    try:
        found = dim + n if dim < 0 else dim
        if 0 <= found < n:
            return found.__index__()
    except (TypeError, AttributeError):
        pass
    else:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    raise TypeError(f"argument 'dim' must be int, not {type(dim).__name__}")


def wrap_dims(dims: Any, ndim: int) -> tuple[int, ...]:
    """Several dimensions counted from the front. None means all.

    Raises IndexError for one that is out of range, RuntimeError when one appears twice."""
    if dims is None:
        return tuple(range(ndim))
    if isinstance(dims, int):
        return (wrap_dim(dims, ndim),) if ndim else _zero_dim(dims)
    found = [wrap_dim(d, ndim) for d in dims]
    if ndim == 0:
        return ()
    for i, d in enumerate(found):
        if d in found[:i]:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
    return tuple(found)


def _zero_dim(dim: int) -> tuple[int, ...]:
    wrap_dim(dim, 0)
    return ()


def element_strides(array: Any) -> tuple[int, ...]:
    """Strides in elements, as PyTorch counts them.

    NumPy steps by 0 along a dimension of size 1 that ``None`` put in; PyTorch steps over what follows it."""
    size, strides, shape = array.itemsize, array.strides, array.shape
    if array.size == 0:
        return tuple([s // size for s in strides]) if any(strides) else contiguous_strides(shape)
    if 0 in strides:
        found: list[int] = []
        before = 1
        for n, s in zip(reversed(shape), reversed(strides), strict=True):
            found.append(s // size if s or n != 1 else found[-1] * before if found else 1)
            before = n
        return tuple(reversed(found))
    return tuple([s // size for s in strides])


def contiguous_strides(shape: Any) -> tuple[int, ...]:
    """Strides, in elements, of a contiguous tensor of this shape."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def channels_last_strides(shape: Any) -> tuple[int, ...]:
    """Strides, in elements, of a channels-last tensor of a 4-d (N, C, H, W) or 5-d shape."""
    strides = [0] * len(shape)
    step = 1
    for d in (1, *range(len(shape) - 1, 1, -1), 0):
        strides[d] = step
        step *= max(shape[d], 1)
    return tuple(strides)


def suggests_channels_last(shape: Any, strides: Any) -> bool:
    """Whether the strides of an (N, C, H, W) or (N, C, D, H, W) tensor tell that the channels come last: where all
    layouts are the same (one channel, or one pixel), they do not."""
    n = len(shape)
    if n not in (4, 5) or strides[1] == 0:
        return False
    least = 0
    for d in (1, *range(n - 1, 1, -1), 0):
        if shape[d] == 0 or strides[d] < least or (d == 0 and least == strides[1]):
            return False
        least = strides[d] * (shape[d] if shape[d] > 1 else 1)
    return True


def is_channels_last(array: Any, ndim: int = 4) -> bool:
    """Whether an array of (N, C, H, W) is dense with the channels last."""
    if array.ndim != ndim:
        return False
    order = (0, *range(2, ndim), 1)
    return array.transpose(order).flags.c_contiguous


def shape_of(args: tuple[Any, ...], what: str = "size") -> tuple[int, ...]:
    """The shape in ``f(2, 3)``, ``f((2, 3))``, ``f([2, 3])`` or ``f(Size([2, 3]))``, as ints.

    Raises TypeError for anything that is no integer."""
    if len(args) == 1 and (not hasattr(args[0], "__index__") or isinstance(args[0], (tuple, list))):
        args = args[0]
    elif len(args) == 1 and getattr(args[0], "ndim", 0) == 1:
        args = tuple(args[0].tolist())
    try:
        return tuple([n.__index__() for n in args])
    except (TypeError, AttributeError):
        bad = next((n for n in args if not hasattr(n, "__index__")), args) if isinstance(args, (tuple, list)) else args
        raise TypeError(f"argument '{what}' must be tuple of ints, but found element of type {type(bad).__name__}"
                        ) from None


def check_sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Raises RuntimeError when a size is negative."""
    for n in shape:
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    return shape


def infer_shape(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """A shape for ``view`` and ``reshape`` with its -1 filled in.

    Raises RuntimeError when the shape does not fit the number of elements."""
    known, unknown = 1, None
    for i, n in enumerate(shape):
        if n == -1:
            if unknown is not None:
                raise RuntimeError("only one dimension can be inferred")
            unknown = i
        elif n < 0:
            raise RuntimeError(f"invalid shape dimension {n} at index {i} of shape {list(shape)}")
        else:
            known *= n
    if unknown is None:
        if known != numel:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
        return shape
    if known == 0:
        if numel == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified "
                               "dimension size -1 can be any value and is ambiguous")
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    if numel % known:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return shape[:unknown] + (numel // known,) + shape[unknown + 1:]


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that all these shapes broadcast to.

    Raises RuntimeError in PyTorch's words when there is none."""
    ndim = max((len(s) for s in shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for i in range(ndim - 1, ndim - 1 - len(shape), -1):  # the last dimension first, as PyTorch reports it
            n = shape[i - ndim]
            if n != 1 and n != out[i]:
                if out[i] != 1:
                    raise RuntimeError(
                        f"The size of tensor a ({out[i]}) must match the size of tensor b ({n}) at non-singleton "
                        f"dimension {i}")
                out[i] = n
    return tuple(out)


def dense_strides(shape: Any, *strides: Any) -> tuple[int, ...]:
    """The strides, in elements, of a new tensor of this shape laid out like those with the given strides (one list per
    operand; the first that has an opinion decides): dense, in the same order of dimensions. Where the order is open
    (stride 0, or equal strides) the dimensions follow one another as usual."""
    n = len(shape)
    order = list(range(n - 1, -1, -1))  # fastest first
    for i in range(1, n):
        at = i
        for before in range(i - 1, -1, -1):
            p, q = order[before], order[at]
            verdict = 0
            for one in strides:
                s, t = one[p], one[q]
                if s and t and (s != t or shape[p] > shape[q]):
                    verdict = -1 if s < t else 1
                    break
            if verdict > 0:
                order[before], order[at] = q, p
                at = before
            elif verdict < 0:
                break
    out, step = [0] * n, 1
    for d in order:
        out[d] = step
        step *= max(shape[d], 1)
    return tuple(out)


def _is_dense(shape: Any, strides: Any) -> bool:
    """Whether elements fill their memory without gaps and overlaps. Strides in elements."""
    step = 1
    for s, n in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n > 1):
        if s != step:
            return False
        step *= n
    return True


def array_like(a: Any, dtype: Any, make: Any) -> Any:
    """An array from ``make(shape, dtype)``, laid out in memory like ``a``."""
    shape = a.shape
    if a.flags.c_contiguous and 1 not in shape:
        return make(shape, dtype)
    strides = element_strides(a)
    if not _is_dense(shape, strides):
        strides = dense_strides(shape, strides)
    flat = make((a.size,), dtype)
    return of(flat).memory.dense_view(flat, shape, tuple([s * flat.itemsize for s in strides]))


def as_strided_array(array: Any, shape: Any, strides: Any, offset: int) -> Any:
    """A view of the memory that ``array`` starts in: shape, strides and offset from ``array``'s first element, in
    elements. The caller has checked the bounds."""
    size = array.itemsize
    return of(array).memory.strided(array, tuple(shape), tuple([s * size for s in strides]), offset * size)
