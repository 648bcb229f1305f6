"""Reading and writing slices by number, elements by mask and by flat position, and where the non-zero elements are.

gather and scatter are in ``scatter.py``, ``x[...]`` itself in ``tensor/indexing.py``.
https://docs.pytorch.org/docs/stable/torch.html#indexing-slicing-joining-mutating-ops
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import is_host, of
from tritium.kernels.runtime.state import current
from tritium.tensor import indexing
from tritium.tensor.autocast import amp
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes, wrap_dim
from tritium.tensor.ops import scatter as scatters
from tritium.tensor.ops.arguments import check_tensor, fill_value
from tritium.tensor.ops.scatter import (  # noqa: F401  (one family: the methods are attached from here)
    changed,
    checked,
    done,
    first_outside,
    fit,
    gather,
    scatter,
    scatter_,
    scatter_add,
    scatter_add_,
    scatter_reduce,
    scatter_reduce_,
    take_along_dim,
    value_selecting_backward,
)
from tritium.tensor.ops.view import expand
from tritium.tensor.tensor import Tensor

METHODS = [*scatters.METHODS, "index_select", "index_add", "index_copy", "index_fill", "index_put", "masked_fill",
           "masked_select", "masked_scatter", "take", "put", "nonzero", "argwhere"]
INPLACE = [*scatters.INPLACE, "index_add_", "index_copy_", "index_fill_", "index_put_", "masked_fill_",
           "masked_scatter_", "put_"]
FUNCTIONS = list(METHODS)


def _title(t: Tensor) -> str:
    return t.dtype.title


def _narrow_index(index: Any) -> bool:
    return index.dtype in (np.int64, np.int32)


# --- slices by number ---------------------------------------------------------------------------

@derivative
@checked
def IndexSelectBackward0(node: Any, grad: Tensor) -> Tensor:
    (index,) = node.unpack()
    d, shape = node.ctx
    return index_add(grad.new_zeros(shape), d, index, grad)


def index_select(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The slices with these numbers along ``dim``. ``index``: a vector of int32 or int64.

    Raises IndexError for a number out of range, RuntimeError for another dtype.
    https://docs.pytorch.org/docs/stable/generated/torch.index_select.html"""
    check_tensor("index_select", "index", 3, index)
    a, i = input._a, index._a
    d = wrap_dim(dim, a.ndim)
    if i.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not _narrow_index(i):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    if a.ndim == 0 and i.size != 1:
        raise RuntimeError(f"index_select(): Index to scalar can have only 1 value, got {i.size} value(s)")
    size = a.shape[d] if a.ndim else 1
    if i.size and size == 0:
        raise RuntimeError("index_select(): self indexing axis dim should be positive")
    k = of(a).index
    if first_outside(i, 0, size) is not None:
        raise IndexError("index out of range in self")
    r = wrap(k.index_select(a, d, i))
    if recording(input):
        record(r, IndexSelectBackward0, (input,), saved=(index,), ctx=(d, a.shape))
    return done("index_select", r, out, input)


@derivative
@checked
def IndexAddBackward0(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    d, shape, alpha = node.ctx
    g = None
    if node.needs[1]:
        g = index_select(grad, d, index).expand(shape) * alpha
    return grad, g


def _index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Any, here: bool) -> Tensor:
    check_tensor("index_add", "index", 3, index)
    check_tensor("index_add", "source", 4, source)
    a, i, s = input._a, index._a, source._a
    d = wrap_dim(dim, a.ndim)
    if i.ndim > 1:
        raise IndexError(f"index_add_(): Index is supposed to be a vector, but got dim: {i.ndim} with type: "
                         f"{_title(index)} and size: {list(i.shape)}")
    if not _narrow_index(i):
        raise RuntimeError(f"index_add_(): Expected dtype int32/int64 for index but got: {_title(index)}")
    if a.dtype != s.dtype:
        raise RuntimeError(f"index_add_(): self ({_title(input)}) and source ({_title(source)}) must have the same "
                           "scalar type")
    length = s.shape[d] if d < s.ndim else 1
    if i.size != length:
        raise RuntimeError(f"index_add_(): Number of indices ({i.size}) should be equal to source.size(dim): "
                           f"({length}), for dim: {d}")
    if a.ndim and s.ndim and (a.ndim != s.ndim or a.shape[:d] + a.shape[d + 1:] != s.shape[:d] + s.shape[d + 1:]):
        raise RuntimeError("source tensor shape must match self tensor shape, excluding the specified dimension. Got "
                           f"self.shape = {list(a.shape)} source.shape = {list(s.shape)}")
    k = of(a).index
    size = a.shape[d] if a.ndim else 1
    bad = first_outside(i, 0, size)
    if bad is not None:
        raise RuntimeError(f"index {bad} is out of bounds for dimension {d} with size {size}")
    plain = type(alpha) is int and alpha == 1
    scaled = s if plain else of(s).pointwise.binaries["mul"](s, fill_value(alpha, s.dtype))
    return changed(input, here, lambda out: k.index_add_into(out, d, i, scaled), IndexAddBackward0, (input, source),
                   (index,), (d, s.shape, alpha))


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1,
              out: Tensor | None = None) -> Tensor:
    """Slices of ``source`` (times ``alpha``) added to the slices of ``input`` with these numbers along ``dim``.

    The same inputs give the same bits. Raises RuntimeError or IndexError when the index or the source does not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_add_.html"""
    return done("index_add", _index_add(input, dim, index, source, alpha, False), out, input, source)


def index_add_(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """``index_add`` in place."""
    return _index_add(input, dim, index, source, alpha, True)


@derivative
@checked
def IndexCopyBackward0(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    d, shape = node.ctx
    return (index_fill(grad, d, index, 0) if node.needs[0] else None,
            index_select(grad, d, index).reshape(shape) if node.needs[1] else None)


def _index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor, here: bool) -> Tensor:
    check_tensor("index_copy", "index", 3, index)
    check_tensor("index_copy", "source", 4, source)
    a, i, s = input._a, index._a, source._a
    d = wrap_dim(dim, a.ndim)
    if i.ndim > 1:
        raise IndexError(f"index_copy_(): Index should have dimension 1 or 0 (got {i.ndim})")
    if s.ndim == 0 and i.size != 1:
        raise IndexError("index_copy_(): When source is scalar, index should have one element (got "
                         f"{i.size})")
    if s.ndim and a.ndim and s.ndim != a.ndim:
        raise IndexError("index_copy_(): When source and destination are not scalars, their dimensionality must match. "
                         f"Source dimensionality ({s.ndim}), destination dimensionality ({a.ndim})")
    if i.dtype != np.int64:
        raise RuntimeError(f"index_copy_(): Expected a long tensor for index, but got {_title(index)}")
    if a.dtype != s.dtype:
        raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but got (self) "
                           f"{_title(input)} and (source) {_title(source)}")
    own, other = a.shape[:d] + a.shape[d + 1:], s.shape[:d] + s.shape[d + 1:]
    if own != other:
        raise RuntimeError("index_copy_(): Source/destination tensor must have same slice shapes. Destination slice "
                           f"shape: {' '.join(map(str, own))} at dimension {d} and source slice shape: "
                           f"{' '.join(map(str, other))} at dimension 0.")
    length = s.shape[d] if s.ndim else 1
    if i.size != length:
        raise IndexError(f"index_copy_(): Number of indices ({i.size}) should be equal to source.size(dim) ({length})")
    k = of(a).index
    size = a.shape[d] if a.ndim else 1
    bad = first_outside(i, 0, size)
    if bad is not None:
        raise IndexError(f"index_copy_(): index {bad} is out of bounds for dimension {d} with size {size}")
    return changed(input, here, lambda out: k.index_copy_into(out, d, i, s), IndexCopyBackward0, (input, source),
                   (index,), (d, s.shape))


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Slices of ``source`` written over the slices of ``input`` with these numbers along ``dim``.

    Raises RuntimeError or IndexError when the index or the source does not fit."""
    if amp.on and (r := amp.run("index_copy", index_copy, input, dim, index, source, out=out)) is not None:
        return r
    return done("index_copy", _index_copy(input, dim, index, source, False), out, input, source)


def index_copy_(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``index_copy`` in place."""
    return _index_copy(input, dim, index, source, True)


@derivative
@checked
def IndexFillBackward0(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    return index_fill(grad, node.ctx, index, 0)


@derivative
@checked
def IndexFillBackward1(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    return (index_fill(grad, node.ctx, index, 0) if node.needs[0] else None,
            index_select(grad, node.ctx, index.unique()).sum() if node.needs[1] else None)


def _index_fill(input: Tensor, dim: int, index: Tensor, value: Any, here: bool) -> Tensor:
    check_tensor("index_fill", "index", 3, index)
    a, i = input._a, index._a
    d = wrap_dim(dim, a.ndim)
    tensor = isinstance(value, Tensor)
    if tensor and value._a.ndim:
        raise RuntimeError("index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                           f"{value._a.ndim} dimension(s).")
    if i.dtype != np.int64:
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if i.ndim > 1:
        raise RuntimeError("Index has to be a vector/scalar")
    size = a.shape[d] if a.ndim else 1
    k = of(a).index
    bad = first_outside(i, -size, size)
    if bad is not None:
        raise IndexError(f"index {bad} is out of bounds for dimension {d} with size {size}")
    if i.size and size and not (mode.checked or is_host(i) and first_outside(i, 0, size) is None):
        index = index.remainder(size)
        i = index._a
    v = fill_value(value._a.item() if tensor else value, a.dtype)
    kind, inputs = (IndexFillBackward1, (input, value)) if tensor else (IndexFillBackward0, (input,))
    return changed(input, here, lambda out: k.index_fill_into(out, d, i, v), kind, inputs, (index,), d)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """The slices with these numbers along ``dim`` (int64, may count from the end) filled with a number or 0-d tensor.

    Raises IndexError for a number out of range or an index of another dtype."""
    return _index_fill(input, dim, index, value, False)


def index_fill_(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """``index_fill`` in place."""
    return _index_fill(input, dim, index, value, True)


# --- elements by index tensors --------------------------------------------------------------------

def _index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool, here: bool) -> Tensor:
    check_tensor("index_put", "values", 2, values)
    if input._a.dtype != values._a.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{_title(input)} for the destination and {_title(values)} for the source.")
    keys = [slice(None) if i is None else i.reshape(1) if i._a.ndim == 0 else i for i in indices]
    used = sum(i._a.ndim if isinstance(i, Tensor) and i._a.dtype.kind == "b" else 1 for i in keys)
    if used > input._a.ndim:
        raise IndexError(f"too many indices for tensor of dimension {input._a.ndim} (got {used})")
    _, key = indexing.parse(input, tuple(keys))
    if key is None:
        raise IndexError("index_put(): at least one index tensor is needed")
    recorded = recording(input, values)
    if here:
        return indexing.index_put_(input, key, values, accumulate)
    out = wrap(of(input._a).copy.clone(input._a))
    indexing.index_put_(out, key, values.detach(), accumulate)
    if input._free:
        out._free = True
    if recorded:
        record(out, indexing.IndexPutBackward0, (input, values),
               ctx=(input._a.shape, key, accumulate, values._a.shape))
    return out


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy with ``values`` written (or added) at a tuple of index tensors, as in ``x[indices] = values``.

    Raises RuntimeError for values of another dtype or shape, IndexError for indices out of range."""
    if amp.on and (r := amp.run("index_put", index_put, input, indices, values, accumulate)) is not None:
        return r
    return _index_put(input, indices, values, accumulate, False)


def index_put_(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """``index_put`` in place."""
    return _index_put(input, indices, values, accumulate, True)


# --- elements by mask ---------------------------------------------------------------------------

@derivative
def MaskedFillBackward0(node: Any, grad: Tensor) -> Tensor:
    (mask,) = node.unpack()
    return masked_fill(grad, mask, 0)


@derivative
def MaskedFillBackward1(node: Any, grad: Tensor) -> Any:
    (mask,) = node.unpack()
    return (masked_fill(grad, mask, 0) if node.needs[0] else None,
            masked_fill(grad, mask.logical_not(), 0).sum() if node.needs[1] else None)


C_TYPES = {"float32": "float", "float64": "double", "uint8": "unsigned char", "int8": "signed char", "int16": "short",
           "int32": "int", "int64": "long int", "float16": "c10::Half", "bfloat16": "c10::BFloat16"}


def _masked_fill(input: Tensor, mask: Tensor, value: Any, here: bool) -> Tensor:
    tensor = isinstance(value, Tensor)
    if not isinstance(mask, Tensor) or not (tensor or isinstance(value, (int, float, complex, np.generic))):
        raise TypeError("masked_fill() received an invalid combination of arguments - got "
                        f"({type(mask).__name__}, {type(value).__name__}), but expected one of:\n"
                        " * (Tensor mask, Tensor value)\n * (Tensor mask, Number value)\n")
    if tensor and value._a.ndim:
        raise RuntimeError("masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                           f"{value._a.ndim} dimension(s).")
    a, m = input._a, mask._a
    if m.dtype.kind != "b":
        name = mask.dtype.name
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype "
                           f"{C_TYPES.get(name, name)}")
    x = input
    if m.shape != a.shape:
        shape = broadcast_shapes(m.shape, a.shape)
        if shape != a.shape:
            if here:
                raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape "
                                   f"{list(shape)}")
            x = expand(input, shape)
    v = fill_value(value._a.item() if tensor else value, a.dtype)
    kind, inputs = (MaskedFillBackward1, (x, value)) if tensor else (MaskedFillBackward0, (x,))
    k = of(a).index
    return changed(x, here, lambda out: k.masked_fill_into(out, m, v), kind, inputs, (mask,))


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """A number or 0-d tensor where the mask (bool, broadcast) is true, ``input`` elsewhere.

    Raises RuntimeError for a mask that is not bool or a value that the dtype cannot hold.
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.masked_fill_.html"""
    return _masked_fill(input, mask, value, False)


def masked_fill_(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``masked_fill`` in place."""
    return _masked_fill(input, mask, value, True)


@derivative
def MaskedSelectBackward0(node: Any, grad: Tensor) -> Tensor:
    (mask,) = node.unpack()
    return masked_scatter(grad.new_zeros(node.ctx), mask, grad)


def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements where the mask (bool; both broadcast) is true, as a vector.

    Raises RuntimeError for a mask that is not bool."""
    check_tensor("masked_select", "mask", 2, mask)
    a, m = input._a, mask._a
    if m.dtype.kind != "b":
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = a.shape
    if m.shape != shape:
        shape = broadcast_shapes(m.shape, shape)
    r = wrap(of(a).index.masked_select(a, m))
    if recording(input):
        record(r, MaskedSelectBackward0, (input,), saved=(mask,), ctx=shape)
    return done("masked_select", r, out, input)


@derivative
def MaskedScatterBackward0(node: Any, grad: Tensor) -> Any:
    (mask,) = node.unpack()
    g = None
    if node.needs[1]:
        shape = node.ctx
        size = math.prod(shape)
        g = fit(masked_select(grad, mask.expand(grad._a.shape)), (size,)).reshape(shape)
    return masked_fill(grad, mask, 0) if node.needs[0] else None, g


def _masked_scatter(input: Tensor, mask: Tensor, source: Tensor, here: bool) -> Tensor:
    check_tensor("masked_scatter", "mask", 2, mask)
    check_tensor("masked_scatter", "source", 3, source)
    a, m, s = input._a, mask._a, source._a
    if a.dtype != s.dtype:
        raise RuntimeError(f"masked_scatter: expected self and source to have same dtypes but got{_title(input)} and "
                           f"{_title(source)}")
    if m.dtype.kind != "b":
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {_title(mask)}")
    x = input
    if m.shape != a.shape:
        shape = broadcast_shapes(a.shape, m.shape)
        if shape != a.shape:
            if here:
                raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape "
                                   f"{list(shape)}")
            x = expand(input, shape)
    whole = of(m).memory.broadcast_to(m, x._a.shape)
    if int(of(m).reduce.count_nonzero(whole, tuple(range(whole.ndim)))) > s.size:
        raise RuntimeError("Number of elements of source < number of ones in mask")
    k = of(a).index
    return changed(x, here, lambda out: k.masked_scatter_into(out, m, s), MaskedScatterBackward0, (x, source), (mask,),
                   s.shape)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The elements of ``source``, in order, where the mask (bool, broadcast) is true, ``input`` elsewhere.

    Raises RuntimeError when there are too few elements, or the dtypes differ."""
    return _masked_scatter(input, mask, source, False)


def masked_scatter_(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``masked_scatter`` in place."""
    return _masked_scatter(input, mask, source, True)


# --- elements by flat position ------------------------------------------------------------------

def _flat_positions(name: str, input: Tensor, index: Tensor) -> Any:
    i, size = index._a, input._a.size
    if i.dtype != np.int64:
        raise RuntimeError(f"{name}(): Expected a long tensor for index, but got {_title(index)}")
    if i.size and not size:
        raise IndexError("take(): tried to take from an empty tensor" if name == "take" else
                         "put_(): tried to put elements into an empty tensor")
    bad = first_outside(i, -size, size)
    if bad is not None:
        raise IndexError(f"out of range: tried to access index {bad} on a tensor of {size} elements.")
    return i


@derivative
@checked
def TakeBackward0(node: Any, grad: Tensor) -> Tensor:
    (index,) = node.unpack()
    return put(grad.new_zeros(node.ctx), index, grad, True)


def take(input: Tensor, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements at these positions of the flattened input. The result has the index's shape.

    Raises IndexError for a position out of range, RuntimeError for an index that is no int64."""
    check_tensor("take", "index", 2, index)
    i = _flat_positions("take", input, index)
    r = wrap(of(input._a).index.take(input._a, i))
    if recording(input):
        record(r, TakeBackward0, (input,), saved=(index,), ctx=input._a.shape)
    return done("take", r, out, input)


@derivative
@checked
def PutBackward0(node: Any, grad: Tensor) -> Any:
    (index,) = node.unpack()
    shape, accumulate = node.ctx
    g = None
    if node.needs[0]:
        g = grad if accumulate else put(grad, index, grad.new_zeros(index._a.shape), False)
    return g, take(grad, index).reshape(shape) if node.needs[1] else None


def _put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool, here: bool) -> Tensor:
    check_tensor("put", "index", 2, index)
    check_tensor("put", "source", 3, source)
    a, s = input._a, source._a
    if index._a.dtype == np.int64 and a.dtype != s.dtype:
        raise RuntimeError("put_(): self and source expected to have the same dtype, but got self.dtype = "
                           f"{_title(input)} and source.dtype = {_title(source)}")
    if index._a.size != s.size:
        raise IndexError("put_(): Expected source and index to have the same number of elements, but got "
                         f"source.numel() = {s.size}, index.numel() = {index._a.size}")
    i = _flat_positions("put_", input, index)
    k = of(a).index
    return changed(input, here, lambda out: k.put_into(out, i, s, accumulate), PutBackward0, (input, source), (index,),
                   (s.shape, accumulate))


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """The elements of ``source`` written (or added) at these positions of the flattened input.

    Raises IndexError for a position out of range, RuntimeError for dtypes that do not fit."""
    return _put(input, index, source, accumulate, False)


def put_(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """``put`` in place."""
    return _put(input, index, source, accumulate, True)


# --- where the non-zero elements are ----------------------------------------------------------------

def nonzero(input: Tensor, *, as_tuple: bool = False, out: Tensor | None = None) -> Any:
    """The indices of the elements that are not zero: (count, ndim) int64; ``as_tuple``: one vector per dimension."""
    a = input._a
    found = of(a).index.nonzero(a.reshape(1) if as_tuple and a.ndim == 0 else a)
    if as_tuple:
        return tuple([wrap(found[:, d]) for d in range(found.shape[1])])
    return done("nonzero", wrap(found), out)


def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not zero: (count, ndim), int64."""
    return nonzero(input)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class numbers (int64, any shape) as 0/1 in a new last dimension; -1 takes one class more than the largest number.

    Raises RuntimeError for another dtype, or numbers that do not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.one_hot.html"""
    a = tensor._a
    if a.dtype != np.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if a.size == 0 and num_classes <= 0:
        raise RuntimeError("Can not infer total number of classes from empty tensor.")
    if a.size and (num_classes < 0 or current.capture is None):  # in the capture of a graph nobody can look
        k, every = of(a).reduce, tuple(range(a.ndim))
        if int(k.amin(a, every, False)) < 0:
            raise RuntimeError("Class values must be non-negative.")
        largest = int(k.amax(a, every, False))
        if num_classes == -1:
            num_classes = largest + 1
        elif largest >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
    return wrap(of(a).index.one_hot(a, num_classes))
