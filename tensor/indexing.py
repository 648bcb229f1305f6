"""``x[...]``: basic indexing makes views, index tensors and masks make copies, and both can be assigned to.

As in PyTorch, integers, slices, ``None`` and ``...`` are applied first; index tensors, lists and masks are then applied
to what is left, by NumPy's rules.
https://docs.pytorch.org/docs/stable/tensor_view.html, https://numpy.org/doc/stable/user/basics.indexing.html
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tritium.kernels import beside, is_array, is_host, of, on_host
from tritium.tensor.device import device_of
from tritium.tensor.from_data import moved
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import (
    alias,
    bump,
    check_inplace,
    derivative,
    edge,
    make_view,
    materialize,
    record,
    recording,
    set_history,
    wrap,
)
from tritium.tensor.layout import broadcast_shapes, dense_strides, element_strides
from tritium.tensor.ops.arguments import element, from_number
from tritium.tensor.ops.parts import SelectBackward0, SliceBackward0, basic_view, scatter_basic
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.tensor import Tensor

FULL = slice(None)
INVALID = ("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got {})")
ZERO_DIM = ("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a "
            "0-dim tensor to a number")
UnsqueezeBackward0, AliasBackward0 = (
    node_kind(name, lambda node, grad: scatter_basic(grad, *node.ctx)) for name in ("UnsqueezeBackward0",
                                                                                    "AliasBackward0"))
KINDS = {"": AliasBackward0, "select": SelectBackward0, "slice": SliceBackward0, "none": UnsqueezeBackward0}


def getitem(t: Tensor, key: Any) -> Tensor:
    """``t[key]``."""
    kind = type(key)
    if t._free:
        materialize(t)
    a = t._a
    if kind is int:
        if a.ndim == 0:
            raise IndexError(ZERO_DIM)
        if not -a.shape[0] <= key < a.shape[0]:
            raise IndexError(f"index {key} is out of bounds for dimension 0 with size {a.shape[0]}")
        full = (key, ...)
        return make_view(t, a[full], SelectBackward0, (a.shape, full))
    if kind is slice and key.step is None:
        try:
            return make_view(t, a[key], SliceBackward0, (a.shape, key))
        except (IndexError, TypeError):
            pass  # an error: found and worded below
    if kind is tuple and (not t._rg or not mode.enabled):  # the commonest keys, where no kind of node is to be found
        for x in key:
            if type(x) is not int and (type(x) is not slice or x.step is not None):
                break
        else:
            try:
                return make_view(t, a[(*key, ...)], SliceBackward0)
            except (IndexError, TypeError):
                pass  # an error: found and worded below
    basic, advanced = parse(t, key)
    view = t if basic is None else basic_view(t, *basic)
    return view if advanced is None else index(view, advanced)


# --- keys -----------------------------------------------------------------------------------

def _is_sequence(x: Any) -> bool:
    return isinstance(x, (list, tuple, str, bytes, range)) or (isinstance(x, np.ndarray) and x.ndim > 0)


def _items(key: Any) -> list[Any]:
    """The items of a key. A short list with tensors, sequences, slices, None or ... in it counts as a tuple."""
    if isinstance(key, tuple):
        return list(key)
    if isinstance(key, list) and len(key) < 32 and any(
            x is None or x is Ellipsis or isinstance(x, (Tensor, slice)) or _is_sequence(x) for x in key):
        return list(key)
    return [key]


def parse(t: Tensor, key: Any) -> tuple[Any, Any]:
    """Split a key: (NumPy key, kind of node) for the basic part or None, and the key of arrays for the rest or None."""
    items = [_plain(x) for x in _items(key)]
    shape = t._a.shape
    ndim = len(shape)
    used = 0
    for x in items:
        if x is not None and x is not Ellipsis and not isinstance(x, bool):
            used += x.ndim if is_array(x) and x.dtype.kind == "b" else 1
    if used > ndim:
        if ndim == 0 and len(items) == 1 and not isinstance(key, (tuple, Tensor)):
            if isinstance(items[0], slice):
                raise IndexError("slice() cannot be applied to a 0-dim tensor.")
            if isinstance(items[0], int):
                raise IndexError(ZERO_DIM)
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    if Ellipsis in [x for x in items if x is Ellipsis]:
        first = next(i for i, x in enumerate(items) if x is Ellipsis)
        items = items[:first + 1] + [x for x in items[first + 1:] if x is not Ellipsis]
    else:
        items.append(Ellipsis)
    basic: list[Any] = []
    advanced: list[Any] = []
    name = ""
    dim = 0  # of the tensor
    for x in items:
        if x is None:
            basic.append(None)
            advanced.append(FULL)
            name = "none"
        elif x is Ellipsis:
            basic.append(Ellipsis)
            advanced.extend([FULL] * (ndim - used))
            dim += ndim - used
        elif isinstance(x, slice):
            part, whole = _slice(x, shape[dim])
            basic.append(part)
            advanced.append(FULL)
            if not whole or isinstance(key, slice):
                name = "slice"
            dim += 1
        elif isinstance(x, bool):
            basic.append(None)
            advanced.append(np.array([x]))
            name = "none"
        elif isinstance(x, int):
            if not -shape[dim] <= x < shape[dim]:
                raise IndexError(f"index {x} is out of bounds for dimension {dim} with size {shape[dim]}")
            basic.append(x)
            name = "select"
            dim += 1
        else:
            n = _check_array(x, shape, dim)
            basic.extend([FULL] * n)
            advanced.append(x)
            dim += n
    has_arrays = any(x is not FULL for x in advanced)
    if has_arrays:
        place = device_of(t._a)
        for i, x in enumerate(advanced):
            if x is not FULL and device_of(x) != place:
                if not is_host(x):
                    raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor "
                                       f"({place})")
                advanced[i] = moved(x, place)
    return (None if not name and has_arrays else (tuple(basic), KINDS[name])), (tuple(advanced) if has_arrays else None)


def _check_array(x: Any, shape: tuple[int, ...], dim: int) -> int:
    """The number of dimensions that an index array takes. Raises IndexError when it does not fit them."""
    if x.dtype.kind == "b":
        for i, (m, s) in enumerate(zip(x.shape, shape[dim:dim + x.ndim], strict=True)):
            if m != s:
                raise IndexError(f"The shape of the mask {list(x.shape)} at index {i} does not match the shape of the "
                                 f"indexed tensor {list(shape)} at index {dim + i}")
        return x.ndim
    if x.size:
        n = shape[dim]
        if n == 0:
            raise IndexError("index is out of bounds for dimension with size 0")
        if not is_host(x):
            bad = of(x).index.first_outside(x, -n, n)
        else:
            low, high = int(x.min()), int(x.max())
            bad = None if low >= -n and high < n else high if high >= n else low
        if bad is not None:
            raise IndexError(f"index {bad} is out of bounds for dimension {dim} with size {n}")
    return 1


def _slice(x: slice, size: int) -> tuple[slice, bool]:
    """A slice of ints, and whether it is the whole dimension."""
    try:
        start, stop, step = (None if i is None else i.__index__() for i in (x.start, x.stop, x.step))
    except (AttributeError, TypeError):
        raise TypeError("slice indices must be integers or None or have an __index__ method") from None
    if step is not None and step <= 0:
        raise ValueError("step must be greater than zero" if step else "slice step cannot be zero")
    whole = start in (None, 0) and (stop is None or stop >= size) and step in (None, 1)
    return slice(start, stop, step), whole


def _plain(x: Any) -> Any:
    """An item of a key as an int, slice, None, Ellipsis, bool, or an int64 or bool array."""
    if x is None or x is Ellipsis or isinstance(x, (slice, bool)):
        return x
    if isinstance(x, int):
        return int(x)
    if isinstance(x, Tensor):
        a = x._a
        if a.ndim == 0 and (a.dtype.kind == "b" or a.dtype == np.uint8):
            return bool(a.item())
        if a.ndim == 0 and a.dtype.kind == "i":
            return int(a.item())
        if a.dtype.kind not in "biu" or (a.dtype.kind == "i" and a.itemsize < 4):
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        return _index_array(a)
    if isinstance(x, np.bool_):
        return bool(x)
    if isinstance(x, np.ndarray):
        if x.ndim == 0:
            return bool(x) if x.dtype.kind == "b" else x.item()
        return _index_array(x)
    if type(x) is list and set(map(type, x)) == {int}:
        return np.array(x, np.int64)
    if _is_sequence(x):
        from tritium.tensor.from_data import array_of, infer_dtype

        items = [on_host(i._a) if isinstance(i, Tensor) else i for i in x] if isinstance(x, list) else x
        dt = infer_dtype(items) if len(x) else None
        return _index_array(array_of(items, dt.np if dt is not None and dt.category == 0 else np.dtype(np.int64)))
    if hasattr(x, "__index__"):
        return x.__index__()
    kind = type(x)
    raise IndexError(INVALID.format(kind.__name__ if kind.__module__ == "builtins" else
                                    f"{kind.__module__}.{kind.__qualname__}"))


def _index_array(a: Any) -> Any:
    if a.dtype.kind == "b":
        return a
    if a.dtype == np.uint8:
        warnings.warn("indexing with dtype tritium.uint8 is now deprecated, please use a dtype tritium.bool instead.",
                      UserWarning, stacklevel=5)
        return of(a).pointwise.cast(a, np.dtype(bool))
    return a.astype(np.int64, copy=False)


# --- index tensors and masks ---------------------------------------------------------------------

@derivative
def IndexBackward0(node: Any, grad: Tensor) -> Tensor:
    return index_accumulate(grad, *node.ctx)


@derivative
def IndexAccumulateBackward0(node: Any, grad: Tensor) -> Tensor:
    return index(grad, node.ctx)


def index(t: Tensor, key: tuple[Any, ...]) -> Tensor:
    """The elements at a key of index arrays and full slices: a copy.

    Raises IndexError when the index arrays do not broadcast."""
    a = t._a
    try:
        r = of(a).index.index(a, key)
    except (IndexError, ValueError) as error:
        raise _shapes_error(key, error) from None
    if r.ndim > 1 and not (r.flags.c_contiguous and a.flags.c_contiguous):
        r = _arrange(a, key, r)
    out = wrap(r)
    if recording(t):
        record(out, IndexBackward0, (t,), ctx=(a.shape, _own(key)))
    return out


def _own(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key with copies of its arrays: the user may change an index tensor before backward."""
    return tuple([x if x is FULL else x.copy() for x in key])


def _numbers(mask: Any) -> tuple[Any, ...]:
    """A mask as index arrays."""
    if is_host(mask):
        return mask.nonzero()
    found = of(mask).index.nonzero(mask)
    return tuple([found[:, d] for d in range(mask.ndim)])


def _arrange(a: Any, key: tuple[Any, ...], r: Any) -> Any:
    """The result with its dimensions in the order in memory that ``a`` and the index arrays have, as in PyTorch."""
    arrays = [k for x in key if x is not FULL for k in (_numbers(x) if x.dtype.kind == "b" else (x,))]
    indexed: list[int] = []  # dimensions of a
    d = 0
    for x in key:
        n = 1 if x is FULL or x.dtype.kind != "b" else x.ndim
        if x is not FULL:
            indexed.extend(range(d, d + n))
        d += n
    together = indexed[-1] - indexed[0] + 1 == len(indexed)
    common = broadcast_shapes(*[x.shape for x in arrays])
    places = [of(x).memory.broadcast_to(x, common) for x in arrays]
    lead = indexed[0] if together else 0
    rest = [i for i in range(a.ndim) if i not in indexed]
    strides = element_strides(a)
    width = places[0].ndim
    own = [strides[i] for i in rest[:lead]] + [0] * width + [strides[i] for i in rest[lead:]]
    # an index array stands with size 1 in the other dimensions, as a reshaped tensor does
    others = [[p.size * p.itemsize if n == 1 else 0 for n in r.shape[:lead]]
              + [s if n != 1 else 0 for s, n in zip(p.strides, p.shape, strict=True)]
              + [p.itemsize if n == 1 else 0 for n in r.shape[lead + width:]] for p in places]
    wanted = dense_strides(r.shape, own, *others)
    if wanted == element_strides(r):
        return r
    k = of(r)
    flat = beside(r).empty((r.size,), r.dtype)
    out = k.memory.dense_view(flat, r.shape, tuple([s * r.itemsize for s in wanted]))
    k.copy.copy_into(out, r)
    return out


def _shapes_error(key: tuple[Any, ...], error: Exception) -> Exception:
    shapes = [list(k.shape) for x in key if x is not FULL
              for k in (_numbers(x) if x.dtype.kind == "b" else (x,))]
    if "broadcast" in str(error) or "shape mismatch" in str(error):
        return IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                          + ", ".join(map(str, shapes)))
    return error


def index_accumulate(grad: Tensor, shape: tuple[int, ...], key: tuple[Any, ...]) -> Tensor:
    """Zeros of ``shape`` with ``grad`` added at a key: the derivative of ``index``."""
    out = beside(grad._a).zeros(shape, grad._a.dtype)
    of(out).index.accumulate_into(out, key, grad._a)
    r = wrap(out)
    if recording(grad):
        record(r, IndexAccumulateBackward0, (grad,), ctx=key)
    return r


# --- assignment -----------------------------------------------------------------------------

def setitem(t: Tensor, key: Any, value: Any) -> None:
    """``t[key] = value``.

    Raises RuntimeError when the value's shape does not broadcast to the selected part, TypeError for a value that is
    no tensor and no number."""
    from tritium.tensor.ops.copy import copy_, fill_

    basic, advanced = parse(t, key)
    materialize(t)
    number = not isinstance(value, Tensor)
    if number:
        value = _as_number(t, value)
    tracked = mode.enabled and (t._rg or (not number and value._rg))
    target = t
    if basic is not None:
        target = basic_view(t, *basic) if tracked else _quiet_view(t, basic[0])
    if advanced is not None:
        index_put_(target, advanced, value)
    elif number:
        fill_(target, value)
    elif value._a.shape == target._a.shape:
        copy_(target, value)
    elif value._a.ndim == 0:
        fill_(target, value)
    else:
        copy_(target, _without_leading_ones(value).expand(target._a.shape))


def _as_number(t: Tensor, value: Any) -> Any:
    """A Python number that is assigned. Raises TypeError for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (int, float, complex)):
        kind = type(value)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise TypeError(f"can't assign a {name} to a {t.type()}")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("Overflow when unpacking long long")
    if t._a.itemsize == 2 and t._a.dtype.kind in "fV" and isinstance(value, float):
        return from_number(value, t._a.dtype)  # becomes inf where it does not fit
    return value


def _without_leading_ones(value: Tensor) -> Tensor:
    shape = value._a.shape
    first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    return value.reshape(shape[first:]) if first else value


def _quiet_view(t: Tensor, key: Any) -> Tensor:
    """A view for writing, when nothing is recorded."""
    v = alias(t)
    v._a = t._a[key]
    return v


@derivative
def IndexPutBackward0(node: Any, grad: Tensor) -> Any:
    shape, key, accumulate, value_shape = node.ctx
    g = index(grad, key) if node.needs[-1] and value_shape is not None else None
    if g is not None:
        g = g.sum_to_size(value_shape)
    if value_shape is None:
        return grad if accumulate else put_number(grad, key, 0.0)
    return (None if not node.needs[0] else grad if accumulate else put_number(grad, key, 0.0)), g


def put_number(grad: Tensor, key: tuple[Any, ...], value: float) -> Tensor:
    """A copy with the elements at a key set to a number."""
    out = of(grad._a).copy.contiguous(grad._a)
    of(out).index.put(out, key, np.asarray(value, out.dtype))
    r = wrap(out)
    if recording(grad):
        record(r, IndexPutBackward0, (grad,), ctx=(grad._a.shape, key, False, None))
    return r


def index_put_(t: Tensor, key: tuple[Any, ...], value: Any, accumulate: bool = False) -> Tensor:
    """Write (or with ``accumulate`` add) ``value`` at a key of index arrays, in place.

    Raises RuntimeError for a tensor of another dtype (unless it is one number for a mask), or one that does not
    broadcast to the selected elements."""
    check_inplace(t, overlap=False)
    a = t._a
    if isinstance(value, Tensor):
        value = _without_leading_ones(value)
        v = value._a
        if v.dtype != a.dtype:
            if accumulate or v.size != 1 or not _is_mask(key):
                raise RuntimeError("Index put requires the source and destination dtypes match, got "
                                   f"{t.dtype.title} for the destination and {value.dtype.title} for the source.")
            v = of(v).pointwise.cast(v, a.dtype)
    else:
        v = element(value, a.dtype)
        v = v if isinstance(v, np.ndarray) else np.asarray(v, a.dtype)
    if not is_host(a) and is_host(v):
        v = beside(a).full((), v, a.dtype) if v.ndim == 0 else beside(a).from_host(v)
    before = None
    if recording(t):
        before = alias(t)
        before._rg, before._edge = True, edge(t)
    try:
        if accumulate:
            of(a).index.accumulate_into(a, key, v)
        else:
            of(a).index.put(a, key, v)
    except IndexError as error:
        raise _shapes_error(key, error) from None
    except (ValueError, TypeError):
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(v.shape)} cannot be broadcast to indexing "
                           f"result of shape {list(of(a).index.index(a, key).shape)}") from None
    bump(t)
    if mode.enabled and (before is not None or (isinstance(value, Tensor) and value._rg)):
        blank, key = wrap(a), _own(key)
        old = before if before is not None else alias(t)
        if isinstance(value, Tensor) and value._rg:
            record(blank, IndexPutBackward0, (old, value), ctx=(a.shape, key, accumulate, value._a.shape))
        else:
            record(blank, IndexPutBackward0, (old,), ctx=(a.shape, key, accumulate, None))
        set_history(t, blank)
    return t


def _is_mask(key: tuple[Any, ...]) -> bool:
    """Whether a key is one mask and nothing else."""
    arrays = [x for x in key if x is not FULL]
    return len(arrays) == 1 and arrays[0].dtype.kind == "b"
