"""Arrays in a device's memory: what a cuda tensor looks at.

A ``DeviceArray`` answers the questions about shape and layout that a ``numpy.ndarray`` answers, in the same words
(strides in bytes, ``flags``, ``base``), and makes views as NumPy does: views change metadata only. Whatever reads or
writes elements is a kernel's business. NumPy itself must never take one for data: its functions raise here.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np


class NoKernel(NotImplementedError):
    """An operation that has no Triton kernel was asked for on a cuda array: nothing falls back to the host silently."""


class DeviceMismatch(RuntimeError):
    """Arrays of two devices met in one operation."""

    def __init__(self, one: str = "cuda:0", other: str = "cpu") -> None:
        super().__init__("Expected all tensors to be on the same device, but found at least two devices, "
                         f"{one} and {other}!")


class Flags:
    """The part of ``numpy.ndarray.flags`` that is asked for."""

    __slots__ = ("c_contiguous", "f_contiguous")
    writeable = True

    def __init__(self, c: bool, f: bool) -> None:
        self.c_contiguous, self.f_contiguous = c, f

    @property
    def contiguous(self) -> bool:
        return self.c_contiguous

    @property
    def forc(self) -> bool:
        return self.c_contiguous or self.f_contiguous


def contiguous_steps(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides, in bytes, of a C-contiguous array."""
    if len(shape) == 1:
        return (itemsize,)
    steps, step = [], itemsize
    for n in reversed(shape):
        steps.append(step)
        step *= n if n > 1 else 1
    return tuple(reversed(steps))


class DeviceArray:
    """``shape``, ``strides`` (bytes) and ``dtype`` (a NumPy dtype) over the memory that ``owner`` keeps alive.

    ``ptr``: the address of the first element; ``owner``: a ``runtime.memory.Block`` with ``ptr``, ``nbytes``,
    ``device`` and ``stream``; ``dense``: known to be C-contiguous."""

    __slots__ = ("owner", "ptr", "shape", "strides", "dtype", "size", "dense", "__weakref__")

    owner: Any
    ptr: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any
    size: int
    dense: bool

    def __init__(self, owner: Any, ptr: int, shape: tuple[int, ...], dtype: Any,
                 strides: tuple[int, ...] | None = None) -> None:
        self.owner = owner
        self.ptr = ptr
        self.shape = shape
        self.dtype = dtype
        self.size = size = math.prod(shape)
        if strides is None:
            self.strides = contiguous_steps(shape, dtype.itemsize)
            self.dense = True
        else:
            self.strides = strides
            self.dense = _dense(shape, strides, dtype.itemsize, size)

    # --- questions ---

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def device(self) -> int:
        return self.owner.device

    @property
    def base(self) -> Any:
        return self.owner

    @property
    def flags(self) -> Flags:
        return Flags(self.dense, _dense(self.shape[::-1], self.strides[::-1], self.dtype.itemsize, self.size))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(cuda:{self.owner.device}, {self.ptr:#x}, {self.shape}, {self.dtype})"

    # --- views ---

    def look(self, ptr: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any = None) -> DeviceArray:
        """Another view of the same memory."""
        return DeviceArray(self.owner, ptr, shape, self.dtype if dtype is None else dtype, strides)

    def __getitem__(self, key: Any) -> DeviceArray:
        """A view by ints, slices, ``None`` and ``...`` (always an array, also of one element).

        Raises IndexError for an int out of range; NoKernel for arrays as indices, which are a kernel's business."""
        if not isinstance(key, tuple):
            key = (key,)
        used = sum(k is not None and k is not Ellipsis for k in key)
        if used > len(self.shape):
            raise IndexError(f"too many indices for array: array is {len(self.shape)}-dimensional, but {used} were "
                             "indexed")
        ptr, shape, strides, d = self.ptr, [], [], 0
        for k in key:
            if k is None:
                shape.append(1)
                strides.append(0)
                continue
            if k is Ellipsis:
                rest = len(self.shape) - used
                shape += self.shape[d:d + rest]
                strides += self.strides[d:d + rest]
                d += rest
                continue
            n, s = self.shape[d], self.strides[d]
            if isinstance(k, slice):
                start, stop, step = k.indices(n)
                count = len(range(start, stop, step))
                if count:
                    ptr += start * s
                shape.append(count)
                strides.append(s * step)
            elif isinstance(k, (bool, np.bool_)) or not hasattr(k, "__index__") or getattr(k, "ndim", False):
                raise NoKernel(f"indexing a cuda array by {type(k).__name__} is a kernel's business")
            else:
                i = k.__index__()
                if not -n <= i < n:
                    raise IndexError(f"index {i} is out of bounds for axis {d} with size {n}")
                ptr += (i + n if i < 0 else i) * s
            d += 1
        return self.look(ptr, (*shape, *self.shape[d:]), (*strides, *self.strides[d:]))

    def transpose(self, *axes: Any) -> DeviceArray:
        """The dimensions in another order."""
        if len(axes) == 1 and not isinstance(axes[0], int):
            axes = tuple(axes[0])
        if not axes:
            axes = tuple(range(len(self.shape)))[::-1]
        return self.look(self.ptr, tuple([self.shape[d] for d in axes]), tuple([self.strides[d] for d in axes]))

    @property
    def T(self) -> DeviceArray:
        return self.transpose()

    def swapaxes(self, a: int, b: int) -> DeviceArray:
        """Two dimensions exchanged."""
        order = list(range(len(self.shape)))
        order[a], order[b] = order[b], order[a]
        return self.transpose(order)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> DeviceArray:
        """A diagonal of two dimensions, as a new last dimension."""
        down, right = (-offset, 0) if offset < 0 else (0, offset)
        n, m = self.shape[axis1], self.shape[axis2]
        count = max(min(n - down, m - right), 0)
        rest = [d for d in range(len(self.shape)) if d not in (axis1, axis2)]
        s, t = self.strides[axis1], self.strides[axis2]
        ptr = self.ptr + (down * s + right * t if count else 0)
        return self.look(ptr, (*[self.shape[d] for d in rest], count), (*[self.strides[d] for d in rest], s + t))

    def squeeze(self, axis: Any = None) -> DeviceArray:
        """Without dimensions of size 1."""
        n = len(self.shape)
        gone = {d % n for d in ((axis,) if isinstance(axis, int) else axis)} if axis is not None else {
            d for d in range(n) if self.shape[d] == 1}
        keep = [d for d in range(n) if d not in gone]
        return self.look(self.ptr, tuple([self.shape[d] for d in keep]), tuple([self.strides[d] for d in keep]))

    def view(self, dtype: Any = None) -> DeviceArray:
        """The same memory, perhaps as another dtype; of another size only along a dense last dimension."""
        if dtype is None:
            return self.look(self.ptr, self.shape, self.strides)
        dtype = np.dtype(dtype)
        old, new = self.dtype.itemsize, dtype.itemsize
        if old == new:
            return self.look(self.ptr, self.shape, self.strides, dtype)
        if not self.shape or self.strides[-1] != old or self.shape[-1] * old % new:
            raise ValueError("view: the last dimension must be dense and divisible by the new dtype's size")
        return self.look(self.ptr, (*self.shape[:-1], self.shape[-1] * old // new), (*self.strides[:-1], new), dtype)

    def as_shape(self, shape: tuple[int, ...]) -> DeviceArray | None:
        """A view in another shape of the same size (no -1); None where the strides do not allow one."""
        strides = view_strides(self.shape, self.strides, shape, self.dtype.itemsize)
        return None if strides is None else self.look(self.ptr, shape, strides)

    def reshape(self, *shape: Any, order: str = "C") -> DeviceArray:
        """A view in another shape where the strides allow one, else a contiguous copy. One size may be -1."""
        if len(shape) == 1 and not isinstance(shape[0], int):
            shape = tuple(shape[0])
        if order != "C" and not (order == "A" and self.dense):
            if order == "A" and self.flags.f_contiguous and shape == (-1,):
                return self.T.reshape(-1)
            raise NoKernel(f"reshape in order {order!r}")
        if -1 in shape:
            known = -math.prod(shape)
            if known <= 0 or self.size % known:
                raise ValueError(f"cannot reshape array of size {self.size} into shape {shape}")
            shape = tuple([self.size // known if n == -1 else n for n in shape])
        elif math.prod(shape) != self.size:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {shape}")
        seen = self.as_shape(shape)
        if seen is None:
            seen = self.copy().as_shape(shape)
            assert seen is not None
        return seen

    def ravel(self, order: str = "C") -> DeviceArray:
        """``reshape(-1)``."""
        return self.reshape(-1, order=order)

    # --- elements ---

    def astype(self, dtype: Any, order: str = "K", copy: bool = True) -> DeviceArray:
        """The elements in another dtype (a kernel)."""
        dtype = np.dtype(dtype)
        if not copy and dtype == self.dtype and (order != "C" or self.dense):
            return self
        from tritium.kernels.triton import copy as family
        from tritium.kernels.triton import pointwise

        r = pointwise.cast(self, dtype)
        return family.contiguous(r) if order == "C" and not r.dense else r

    def copy(self, order: str = "C") -> DeviceArray:
        """A copy of the elements (a kernel): contiguous, or with "K" in the same order of dimensions."""
        from tritium.kernels.triton import copy as family

        return family.clone(self) if order == "K" else family.contiguous(self)

    def fill(self, value: Any) -> None:
        """Every element set to a number (a kernel)."""
        from tritium.kernels.triton import memory

        memory.fill(self, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Elements of a view by ints, slices, ``None`` and ``...`` set to a number or to an array that broadcasts."""
        target = self[key]
        if isinstance(value, (DeviceArray, np.ndarray)) and getattr(value, "ndim", False):
            from tritium.kernels.triton import copy as family
            from tritium.kernels.triton import memory

            family.copy_into(target, value if isinstance(value, DeviceArray) else memory.from_host(value, self.device))
        elif isinstance(value, DeviceArray):
            from tritium.kernels.triton import copy as family

            family.copy_into(target, value)
        else:
            target.fill(value.item() if isinstance(value, (np.ndarray, np.generic)) else value)

    def to_host(self) -> np.ndarray:
        """The elements as a NumPy array; waits for the device."""
        from tritium.kernels.triton import memory

        return memory.to_host(self)

    def item(self) -> Any:
        """The one element as a Python number; waits for the device."""
        return self.to_host().item()

    def tolist(self) -> Any:
        """The elements as Python numbers; waits for the device."""
        return self.to_host().tolist()

    def tobytes(self) -> bytes:
        """The elements as bytes, in order; waits for the device."""
        return self.to_host().tobytes()

    def __bool__(self) -> bool:
        return bool(self.to_host())

    def __int__(self) -> int:
        return int(self.to_host())

    def __float__(self) -> float:
        return float(self.to_host())

    def __index__(self) -> int:
        return self.to_host().__index__()

    # --- not data for NumPy ---

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert cuda:{self.owner.device} device type tensor to numpy. Use Tensor.cpu() to copy "
                        "the tensor to host memory first.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        self._refuse(f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else "." + method), inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self._refuse(f"numpy.{func.__name__}", args)

    def _refuse(self, what: str, args: Any) -> None:
        if any(isinstance(x, np.ndarray) and x.ndim for x in args):
            raise DeviceMismatch(f"cuda:{self.owner.device}")
        raise NoKernel(f"{what} has no Triton kernel: not implemented for cuda tensors")

    def __getattr__(self, name: str) -> Any:
        if name in _NUMPY:
            raise NoKernel(f"numpy.ndarray.{name} has no Triton kernel: not implemented for cuda tensors")
        raise AttributeError(f"'DeviceArray' object has no attribute '{name}'")


_NUMPY = frozenset(name for name in dir(np.ndarray) if not name.startswith("_")) - frozenset(dir(DeviceArray))


def _no_operator(name: str) -> Any:
    def operator(self: DeviceArray, *others: Any) -> Any:
        self._refuse(f"numpy.ndarray.{name}", others)

    return operator


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "mod", "pow",
              "neg", "abs", "invert", "and", "or", "xor", "lt", "le", "gt", "ge", "eq", "ne", "iadd", "isub",
              "imul", "itruediv", "matmul"):
    setattr(DeviceArray, f"__{_name}__", _no_operator(f"__{_name}__"))
DeviceArray.__hash__ = object.__hash__  # type: ignore[method-assign]


def _dense(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, size: int) -> bool:
    if size == 0:
        return True
    step = itemsize
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1:
            if s != step:
                return False
            step *= n
    return True


def view_strides(shape: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...],
                 itemsize: int) -> tuple[int, ...] | None:
    """Strides, in bytes, of a view in shape ``new``, or None where only a copy can have it."""
    if 0 in shape:
        return contiguous_steps(new, itemsize)
    # runs of old dimensions that lie one after the other in memory: (elements, stride of the fastest)
    runs: list[list[int]] = []
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == s * n:
            runs[-1][0] *= n
            runs[-1][1] = s
        else:
            runs.append([n, s])
    out: list[int] = [0] * len(new)
    d = len(new) - 1
    for count, step in reversed(runs):
        left = count
        while left > 1:
            if d < 0 or left % new[d]:
                return None
            out[d] = step
            step *= new[d]
            left //= new[d]
            d -= 1
    while d >= 0:
        if new[d] != 1:
            return None
        d -= 1
    # dimensions of size 1 step over what follows them
    step = itemsize
    for d in range(len(new) - 1, -1, -1):
        if new[d] == 1:
            out[d] = step
        step = out[d] * new[d]
    return tuple(out)
