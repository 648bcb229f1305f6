"""``x[...]``: basic indexing makes views, index tensors and masks make copies, and both can be assigned to.

As in PyTorch, integers, slices, ``None`` and ``...`` are applied first; index tensors, lists and masks are then applied to
what is left, by NumPy's rules.
https://docs.pytorch.org/docs/stable/tensor_view.html, https://numpy.org/doc/stable/user/basics.indexing.html
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tritium.kernels import of
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
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.ops.parts import SelectBackward0, SliceBackward0, basic_view, scatter_basic
from tritium.tensor.tensor import Tensor

FULL = slice(None)
_kinds = {name: node_kind(name, lambda node, grad: scatter_basic(grad, *node.ctx))
          for name in ("UnsqueezeBackward0", "AliasBackward0")}


def getitem(t: Tensor, key: Any) -> Tensor:
    """``t[key]``."""
    kind = type(key)
    a = t._a
    if kind is int:
        if t._free:
            materialize(t)
            a = t._a
        if a.ndim == 0:
            raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in "
                             "C++ to convert a 0-dim tensor to a number")
        if not -a.shape[0] <= key < a.shape[0]:
            raise IndexError(f"index {key} is out of bounds for dimension 0 with size {a.shape[0]}")
        full = (key, ...)
        return make_view(t, a[full], SelectBackward0, (a.shape, full))
    basic, advanced = parse(t, key)
    view = t if basic is None else basic_view(t, *basic)
    return view if advanced is None else index(view, advanced)


def parse(t: Tensor, key: Any) -> tuple[Any, Any]:
    """Split a key: (NumPy key, kind of node) for the basic part or None, and the key of arrays for the rest or None."""
    items = list(key) if isinstance(key, tuple) else [key]
    if not isinstance(key, tuple) and isinstance(key, list):
        items = [key]
    items = [_plain(x) for x in items]
    ndim = t._a.ndim
    used = 0
    for x in items:
        if x is None or x is Ellipsis or isinstance(x, (bool, np.bool_)):
            continue
        used += x.ndim if isinstance(x, np.ndarray) and x.dtype.kind == "b" else 1
    if used > ndim:
        if ndim == 0 and all(isinstance(x, (int, slice)) for x in items):
            if any(isinstance(x, slice) for x in items):
                raise IndexError("slice() cannot be applied to a 0-dim tensor.")
            raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in "
                             "C++ to convert a 0-dim tensor to a number")
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    if sum(x is Ellipsis for x in items) > 1:
        first = next(i for i, x in enumerate(items) if x is Ellipsis)
        items = items[:first + 1] + [FULL if x is Ellipsis else x for x in items[first + 1:]]
    if not any(x is Ellipsis for x in items):
        items.append(Ellipsis)
        explicit = False
    else:
        explicit = True
    basic: list[Any] = []
    advanced: list[Any] = []
    name = ""
    dim = 0  # of the tensor
    shape = t._a.shape
    for x in items:
        if x is None:
            basic.append(None)
            advanced.append(FULL)
            name = "UnsqueezeBackward0"
        elif x is Ellipsis:
            n = ndim - used
            basic.append(Ellipsis)
            advanced.extend([FULL] * n)
            dim += n
        elif isinstance(x, slice):
            basic.append(_slice(x, shape[dim]))
            advanced.append(FULL)
            if not (x.start in (None, 0) and x.stop is None and x.step in (None, 1)) or len(items) == 2 and not explicit:
                name = "SliceBackward0"
            dim += 1
        elif isinstance(x, (bool, np.bool_)):
            basic.append(None)
            advanced.append(np.array([bool(x)]))
            name = "UnsqueezeBackward0"
        elif isinstance(x, int):
            if not -shape[dim] <= x < shape[dim]:
                raise IndexError(f"index {x} is out of bounds for dimension {dim} with size {shape[dim]}")
            basic.append(x)
            name = "SelectBackward0"
            dim += 1
        else:
            n = x.ndim if x.dtype.kind == "b" else 1
            basic.extend([FULL] * n)
            advanced.append(x)
            if x.dtype.kind == "b":
                for i, (m, s) in enumerate(zip(x.shape, shape[dim:dim + n], strict=True)):
                    if m != s:
                        raise IndexError(f"The shape of the mask {list(x.shape)} at index {i} does not match the shape "
                                         f"of the indexed tensor {list(shape)} at index {dim + i}")
            elif x.size:
                low, high = int(x.min()), int(x.max())
                if low < -shape[dim] or high >= shape[dim]:
                    bad = high if high >= shape[dim] else low
                    raise IndexError(f"index {bad} is out of bounds for dimension {dim} with size {shape[dim]}")
            dim += n
    has_arrays = any(x is not FULL for x in advanced)
    plain = not name
    kind = {"": _kinds["AliasBackward0"], "SelectBackward0": SelectBackward0, "SliceBackward0": SliceBackward0,
            "UnsqueezeBackward0": _kinds["UnsqueezeBackward0"]}[name]
    return (None if plain and has_arrays else (tuple(basic), kind)), (tuple(advanced) if has_arrays else None)


def _slice(x: slice, size: int) -> slice:
    step = 1 if x.step is None else x.step.__index__()
    if step <= 0:
        raise ValueError("step must be greater than zero")
    start = None if x.start is None else x.start.__index__()
    stop = None if x.stop is None else x.stop.__index__()
    return slice(start, stop, step)


def _plain(x: Any) -> Any:
    """An item of a key as an int, slice, None, Ellipsis, bool, or an int64 or bool array."""
    if x is None or x is Ellipsis or isinstance(x, (slice, bool, np.bool_)):
        return x
    if isinstance(x, Tensor):
        a = x._a
        if a.ndim == 0 and a.dtype.kind in "iu":
            return int(a.item())
        if a.ndim == 0 and a.dtype.kind == "b":
            return bool(a.item())
        return _index_array(a)
    if isinstance(x, (list, tuple, range)):
        items = [i._a if isinstance(i, Tensor) else i for i in x]
        array = np.asarray(items) if len(items) else np.empty(0, np.int64)
        return _index_array(array)
    if isinstance(x, np.ndarray):
        return _index_array(x) if x.ndim else x.item()
    if hasattr(x, "__index__"):
        return x.__index__()
    if isinstance(x, float):
        raise TypeError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid "
                        f"indices (got {type(x).__name__})")
    raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                     f"(got {type(x).__name__})")


def _index_array(a: Any) -> Any:
    if a.dtype.kind == "b":
        return a
    if a.dtype == np.uint8:
        warnings.warn("indexing with dtype tritium.uint8 is now deprecated, please use a dtype tritium.bool instead.",
                      UserWarning, stacklevel=5)
        return a != 0
    if a.dtype.kind not in "iu":
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
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
    try:
        r = wrap(np.asarray(t._a[key]))
    except IndexError as error:
        raise _shapes_error(key, error) from None
    if recording(t):
        record(r, IndexBackward0, (t,), ctx=(t._a.shape, _own(key)))
    return r


def _own(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key with copies of its arrays: the user may change an index tensor before backward."""
    return tuple([x if x is FULL else x.copy() for x in key])


def _shapes_error(key: tuple[Any, ...], error: Exception) -> Exception:
    shapes = [list(x.shape) for x in key if x is not FULL]
    if "broadcast" in str(error):
        return IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                          + ", ".join(map(str, shapes)))
    return error


def index_accumulate(grad: Tensor, shape: tuple[int, ...], key: tuple[Any, ...]) -> Tensor:
    """Zeros of ``shape`` with ``grad`` added at a key: the derivative of ``index``."""
    out = np.zeros(shape, grad._a.dtype)
    of(out).index.accumulate_into(out, key, grad._a)
    r = wrap(out)
    if recording(grad):
        record(r, IndexAccumulateBackward0, (grad,), ctx=key)
    return r


# --- assignment -----------------------------------------------------------------------------

def setitem(t: Tensor, key: Any, value: Any) -> None:
    """``t[key] = value``.

    Raises RuntimeError when the value's shape does not broadcast to the selected part."""
    from tritium.tensor.ops.copy import copy_, fill_

    basic, advanced = parse(t, key)
    materialize(t)
    if isinstance(value, (list, tuple, np.ndarray)):
        from tritium.tensor.creation import array_of

        value = wrap(array_of(value))
    tracked = mode.enabled and (t._rg or (isinstance(value, Tensor) and value._rg))
    if tracked:
        check_inplace(t)
    if advanced is None:
        target = basic_view(t, *basic) if tracked else _quiet_view(t, basic[0])
        if isinstance(value, Tensor):
            if value._a.ndim == 0 and not value._rg:
                fill_(target, value)
            else:
                copy_(target, value)
        else:
            if isinstance(value, np.generic):
                value = value.item()
            if not isinstance(value, (int, float, complex)):
                raise TypeError(f"can't assign a {type(value).__name__} to a {t.type()}")
            fill_(target, value)
        return
    target = t if basic is None else (basic_view(t, *basic) if tracked else _quiet_view(t, basic[0]))
    index_put_(target, advanced, value)


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
    out[key] = value
    r = wrap(out)
    if recording(grad):
        record(r, IndexPutBackward0, (grad,), ctx=(grad._a.shape, key, False, None))
    return r


def index_put_(t: Tensor, key: tuple[Any, ...], value: Any, accumulate: bool = False) -> Tensor:
    """Write (or with ``accumulate`` add) ``value`` at a key of index arrays, in place."""
    check_inplace(t)
    a = t._a
    if isinstance(value, Tensor):
        v = value._a
        if v.dtype != a.dtype:
            if v.ndim == 0 or (a.dtype.kind == "f" and v.dtype.kind == "f"):
                v = of(v).pointwise.cast(v, a.dtype)
            else:
                raise RuntimeError("Index put requires the source and destination dtypes match, got "
                                   f"{t.dtype.title} for the destination and {value.dtype.title} for the source.")
    else:
        from tritium.tensor.promotion import number_as

        v = number_as(value, a.dtype) if a.dtype.kind in "iu" else np.asarray(value, a.dtype)
    before = None
    if recording(t):
        before = alias(t)
        before._rg, before._edge = True, edge(t)
    try:
        while v.ndim > 1 and v.shape[0] == 1 and v.ndim > a.ndim:
            v = v[0]
        if accumulate:
            of(a).index.accumulate_into(a, key, v)
        else:
            a[key] = v
    except (ValueError, IndexError) as error:
        if isinstance(error, IndexError):
            raise _shapes_error(key, error) from None
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(v.shape)} cannot be broadcast to indexing "
                           f"result of shape {list(np.broadcast_shapes(a[key].shape))}") from None
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
