"""Tensors from Python data, from NumPy arrays and from buffers.

https://docs.pytorch.org/docs/stable/torch.html#creation-ops
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from tritium.kernels import of, on, on_host
from tritium.tensor import dtype as dtypes
from tritium.tensor.device import as_available, cpu, device_of
from tritium.tensor.dtype import as_dtype, dtype, from_numpy_dtype, get_default_dtype
from tritium.tensor.graph import hold, version_of, wrap
from tritium.tensor.tensor import Tensor, new_tensor

NOT_FLOATING = "Only Tensors of floating point and complex dtype can require gradients"
_CATEGORY = {bool: 0, int: 1, float: 2, complex: 3}
_DEEPEST = 128


def finish(array: Any, requires_grad: bool = False) -> Tensor:
    """A tensor over a fresh array.

    Raises RuntimeError when an integer tensor is to require grad."""
    t = wrap(array)
    if requires_grad:
        if array.dtype.kind in "biu":
            raise RuntimeError(NOT_FLOATING)
        t.requires_grad = True
    return t


# --- nested data ----------------------------------------------------------------------------

def _length(x: Any) -> int | None:
    """The length of a nested sequence's level; None for what counts as one number."""
    if isinstance(x, (list, tuple, str, bytes, range)):
        return len(x)
    if isinstance(x, (Tensor, dict, set, np.generic)) or (isinstance(x, np.ndarray) and not x.ndim):
        return None
    return len(x) if hasattr(x, "__len__") and hasattr(x, "__getitem__") else None


def _sizes(data: Any) -> list[int]:
    """The shape that the first elements announce.

    Raises ValueError for text (its first character has a first character, and so on) and for endless nesting."""
    sizes: list[int] = []
    n = _length(data)
    while n is not None:
        sizes.append(n)
        if not n:
            break
        data = data[0]
        n = _length(data)
        if isinstance(data, (str, bytes)) or len(sizes) > _DEEPEST:
            if isinstance(data, bytes):
                break
            raise ValueError(f"too many dimensions '{type(data).__name__}'")
    return sizes


def infer_dtype(data: Any) -> dtype:
    """The dtype ``tritium.tensor`` gives to Python data: the highest category among its numbers.

    Raises TypeError or RuntimeError for what is no number."""
    found = -1
    stack = [data]
    named: dtype | None = None
    while stack:
        x = stack.pop()
        category = _CATEGORY.get(type(x))
        if category is not None:
            found = max(found, category)
        elif isinstance(x, (list, tuple, range)):
            kinds = set(map(type, x))
            if kinds <= _CATEGORY.keys():
                found = max(found, *[_CATEGORY[k] for k in kinds]) if kinds else found
            else:
                stack.extend(x)
        elif isinstance(x, (Tensor, np.generic, np.ndarray)):
            d = from_numpy_dtype(x._a.dtype if isinstance(x, Tensor) else x.dtype)
            named = d if named is None else dtypes.promote_types(named, d)
        elif isinstance(x, (str, bytes)):
            raise TypeError(f"new(): invalid data type '{type(x).__name__}'")
        elif isinstance(x, complex):
            found = 3
        elif isinstance(x, float):
            found = max(found, 2)
        elif _length(x) is not None:
            stack.extend(x[i] for i in range(len(x)))
        elif hasattr(x, "__index__"):
            found = max(found, 1)
        else:
            raise RuntimeError(f"Could not infer dtype of {type(x).__name__}")
    ladder = (dtypes.bool_, dtypes.int64, get_default_dtype(), dtypes.default_complex())
    by_number = ladder[found] if found >= 0 else None
    if named is not None:
        return named if by_number is None else dtypes.promote_types(named, by_number)
    return by_number or get_default_dtype()


def _number(x: Any, kind: str) -> None:
    """Raise PyTorch's error when ``x`` is no number of a NumPy kind ("f" for all that is not integer)."""
    if isinstance(x, Tensor):
        if x._a.size != 1:
            raise (TypeError("only integer tensors of a single element can be converted to an index")
                   if kind in "biu" else ValueError("only one element tensors can be converted to Python scalars"))
    elif kind in "biu":
        if isinstance(x, complex) or not (isinstance(x, float) or hasattr(x, "__index__")):
            raise TypeError(f"'{type(x).__name__}' object cannot be interpreted as an integer")
    elif kind != "c" if isinstance(x, complex) else not hasattr(x, "__float__"):
        raise TypeError(f"must be real number, not {type(x).__name__}")


def _complain(data: Any, sizes: list[int], kind: str) -> None:
    """Raise PyTorch's error for the first place where nested data is not what its first elements announce."""
    def walk(x: Any, depth: int) -> None:
        if depth == len(sizes):
            _number(x, kind)
            return
        n = _length(x)
        if n is None:
            raise TypeError("not a sequence")
        if n != sizes[depth]:
            raise ValueError(f"expected sequence of length {sizes[depth]} at dim {depth} (got {n})")
        for i in range(n):
            walk(x[i], depth + 1)

    walk(data, 0)


def _plain(data: Any, kind: str) -> Any:
    """Nested lists with the tensors in them as 0-d arrays."""
    if isinstance(data, Tensor):
        _number(data, kind)
        return on_host(data._a).reshape(())
    if isinstance(data, (list, tuple)) and not set(map(type, data)) <= _CATEGORY.keys():
        return [_plain(x, kind) for x in data]
    return data


def _integers(data: Any, want: Any, sizes: list[int]) -> Any:
    """An integer array from numbers that may not fit it.

    Raises RuntimeError when one does not; negative ints wrap around in uint8, as in PyTorch."""
    info = np.iinfo(want)
    flat = np.array(data, object).reshape(-1)
    values = []
    for x in flat:
        if isinstance(x, np.generic):
            x = x.item()
        _number(x, want.kind)
        whole = not isinstance(x, float)
        if whole and not -(1 << 63) <= int(x) < 1 << 63:
            raise ValueError("Overflow when unpacking long long")
        low = -info.max if want.kind == "u" and whole else info.min
        if (not whole and not math.isfinite(x)) or not low <= x < info.max + 1:
            raise RuntimeError(f"value cannot be converted to type {from_numpy_dtype(want).name} without overflow")
        values.append(int(x) % (info.max + 1) if want.kind == "u" else int(x))
    return np.array(values, want).reshape(sizes)


def array_of(data: Any, dt: Any = None, device: Any = cpu) -> Any:
    """A fresh array on a device, from Python data, an array or a tensor, of a NumPy dtype or of the one that suits.

    Raises ValueError or TypeError, in PyTorch's words, for ragged data and what is no number."""
    if not isinstance(data, (Tensor, np.ndarray, np.generic, list, tuple)) and hasattr(data, "__array__"):
        data = np.asarray(data)
    if isinstance(data, (np.ndarray, np.generic)):
        have = from_numpy_dtype(data.dtype).np
        if not data.dtype.isnative:
            raise ValueError("given numpy array has byte order different from the native byte order. Conversion "
                             "between byte orders is currently not supported.")
        data = np.array(data, dtype=have, order="K", copy=True)
        return moved(data if dt is None or dt == have else _cast(data, dt), device)
    if isinstance(data, Tensor):
        a = data._a
        return moved(_cast(a if a.flags.c_contiguous else of(a).copy.contiguous(a), a.dtype if dt is None else dt),
                     device)
    if isinstance(data, (str, bytes)):
        raise TypeError(f"new(): invalid data type '{type(data).__name__}'")
    sizes = _sizes(data)
    found = infer_dtype(data)
    want = found.np if dt is None else dt
    if 0 in sizes:
        return on(device).empty(sizes, want)
    kind = want.kind if want.kind in "biuc" else "f"
    try:
        numbers = _plain(data, kind)
        if kind in "iu" and found.category > 1:
            return on(device).from_host(_integers(numbers, want, sizes))
        with np.errstate(all="ignore"):
            array = np.array(numbers, dtype=want, order="C")
    except OverflowError:
        if kind in "iu":
            return on(device).from_host(_integers(numbers, want, sizes))
        raise
    except (ValueError, TypeError):
        _complain(data, sizes, kind)
        raise
    if array.shape != tuple(sizes):
        _complain(data, sizes, kind)
    return on(device).from_host(array)


def moved(array: Any, device: Any, non_blocking: bool = False) -> Any:
    """An array's elements on a device: the array itself when it is there, else a copy in its order of dimensions."""
    have = device_of(array)
    if have == device:
        return array
    n = array.ndim
    order = list(range(n)) if 0 in array.strides else sorted(range(n), key=lambda d: -array.strides[d])
    source = array.transpose(order) if n > 1 else array
    if device.type == "cpu":
        copy = source.to_host()
    elif have.type == "cpu":
        copy = on(device).from_host(source, non_blocking=non_blocking)
    else:
        copy = of(source).memory.to_device(source, device.index)
    return copy.transpose([order.index(d) for d in range(n)]) if n > 1 else copy


def _cast(a: Any, dt: Any) -> Any:
    from tritium.kernels import of

    return of(a).pointwise.cast(a, dt)


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of ``data``: numbers, nested lists, an array or a tensor.

    Without ``dtype``: float32 (the default dtype) for floats, int64 for ints, bool for bools, an array's own dtype.
    https://docs.pytorch.org/docs/stable/generated/torch.tensor.html"""
    place = data.device if device is None and isinstance(data, Tensor) else as_available(device)
    if isinstance(data, Tensor):
        warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than tensor(sourceTensor).",
                      UserWarning, stacklevel=2)
    return finish(array_of(data, None if dtype is None else as_dtype(dtype).np, place), requires_grad)


# --- sharing --------------------------------------------------------------------------------

def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy where possible: a tensor as it is, an array sharing its memory."""
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype) if device is not None or dtype is not None else data
    place = as_available(device)
    if isinstance(data, np.ndarray):
        t = from_numpy(data)
        return t.to(device=place, dtype=dtype) if dtype is not None or place is not cpu else t
    if hasattr(data, "__cuda_array_interface__"):
        from tritium.tensor.interop import from_cuda_interface

        return from_cuda_interface(data).to(device=device, dtype=dtype)
    return finish(array_of(data, None if dtype is None else as_dtype(dtype).np, place))


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None,
            requires_grad: bool = False) -> Tensor:
    """``obj`` as a tensor; ``copy`` True always copies, False never (ValueError when a copy is needed)."""
    if copy:
        place = obj.device if device is None and isinstance(obj, Tensor) else as_available(device)
        t = finish(array_of(obj, None if dtype is None else as_dtype(dtype).np, place))
    else:
        shares = isinstance(obj, (Tensor, np.ndarray))
        t = as_tensor(obj, dtype, device)
        if copy is False and not shares:
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        if copy is False:
            have = from_numpy_dtype(obj.dtype if isinstance(obj, np.ndarray) else obj._a.dtype)
            if have is not t.dtype:
                raise ValueError(f"can't alias tensor with dtype '{have.title}' into dtype '{t.dtype.title}'.")
        if isinstance(obj, Tensor) and t._rg and not requires_grad:
            t = t.detach()
    if requires_grad and not t._rg:
        t.requires_grad_()
    return t


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of an object with ``__dlpack__``, or of a DLPack capsule: both see what is written.

    ``device``: where it is to be; ``copy``: True copies, False never does. Raises ValueError for a capsule that is used
    up, or when a copy would be needed and is not allowed; BufferError for dtypes and devices that are not supported.
    https://docs.pytorch.org/docs/stable/dlpack.html"""
    from tritium.tensor import interop

    return interop.from_dlpack(ext_tensor, device, copy)


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor over an array's memory: writing to one changes the other.

    Raises TypeError for anything but an array of a dtype that PyTorch knows, ValueError for negative strides."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    from_numpy_dtype(ndarray.dtype)
    if not ndarray.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between "
                         "byte orders is currently not supported.")
    for s in ndarray.strides:
        if s < 0:
            raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative "
                             "strides are not currently supported. (You can probably work around this by making a copy "
                             "of your array  with array.copy().) ")
        if s % ndarray.itemsize and ndarray.size:
            raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array "
                             "to reallocate the memory.")
    if not ndarray.flags.writeable:
        warnings.warn("The given NumPy array is not writable, and PyTorch does not support non-writable tensors. This "
                      "means writing to this tensor will result in undefined behavior. You may want to copy the array "
                      "to protect its data or make it writable before converting it to a tensor.",
                      UserWarning, stacklevel=2)
    t = new_tensor(Tensor)
    t._a = ndarray.view(np.ndarray)
    version_of(t).shared = True
    hold(t)
    return t


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A one-dimensional tensor over a buffer's memory.

    Raises ValueError when the buffer is too small or not a whole number of elements."""
    dt = as_dtype(dtype).np
    try:
        length = memoryview(buffer).nbytes
    except TypeError:
        raise ValueError("object does not implement Python buffer protocol.") from None
    if not length or not count:
        raise ValueError(f"both buffer length ({length}) and count ({count}) must not be 0")
    if not 0 <= offset < length:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({length} "
                         "bytes) minus 1")
    if count < 0 and (length - offset) % dt.itemsize:
        raise ValueError(f"buffer length ({length - offset} bytes) after offset ({offset} bytes) must be a multiple of "
                         f"element size ({dt.itemsize})")
    if count > 0 and offset + count * dt.itemsize > length:
        raise ValueError(f"requested buffer length ({count} * {dt.itemsize} bytes) after offset ({offset} bytes) must "
                         f"not be greater than actual buffer length ({length} bytes)")
    if requires_grad and dt.kind in "biu":
        raise RuntimeError(NOT_FLOATING)
    return from_numpy(np.frombuffer(buffer, dt, max(count, -1), offset)).requires_grad_(requires_grad)


def legacy_tensor(cls: Any, *args: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """The old constructors: ``Tensor(2, 3)`` (any values), ``Tensor(data)`` (a copy as float), ``Tensor(other)``
    (shares its memory). ``dtype`` is that of the class, None for ``Tensor`` itself."""
    from tritium.tensor.layout import check_sizes, shape_of

    place = on(as_available(device))
    dt = (get_default_dtype() if dtype is None else as_dtype(dtype)).np
    one = args[0] if len(args) == 1 else None
    if isinstance(one, Tensor):
        if dtype is not None and one._a.dtype != dt:
            raise TypeError(f"expected {from_numpy_dtype(dt)} (got {one.dtype})")
        t = new_tensor(cls)
        source = one.detach()
        t._a, t._vc = source._a, source._vc
        return t
    if not args:
        array = place.empty((0,), dt)
    elif isinstance(one, (float, bool, dict, set)):
        raise TypeError(f"new(): data must be a sequence (got {type(one).__name__})")
    elif all(hasattr(n, "__index__") and getattr(n, "ndim", 0) == 0 for n in args):
        array = place.empty(check_sizes(shape_of(args)), dt)
    elif type(one).__name__ == "Size":
        array = place.empty(one, dt)
    elif isinstance(one, (list, tuple, range, np.ndarray)):
        array = array_of(one, dt, as_available(device))
    elif len(args) == 1:
        raise TypeError(f"new(): data must be a sequence (got {type(one).__name__})")
    else:
        raise TypeError(f"new() received an invalid combination of arguments - got "
                        f"({', '.join(type(x).__name__ for x in args)})")
    t = new_tensor(cls)
    t._a = array
    return t
