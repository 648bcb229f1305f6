"""Arrays to and from other libraries without a copy, by DLPack and by NVIDIA's array interface.

``to_capsule`` describes an array for whoever takes it, ``from_capsule`` makes an array of what another library
described. Both speak the first version of the protocol and 1.x ("dltensor" and "dltensor_versioned"), and know
bfloat16, which ``numpy`` and ``__cuda_array_interface__`` cannot say. Memory lives until its last user is done: the
producer's array is kept until the consumer calls the deleter, and a consumer's array calls it when it goes.

On cuda both sides name the stream they work on, and the consumer's stream waits for the producer's.
https://dmlc.github.io/dlpack/latest/c_api.html, https://data-apis.org/array-api/latest/design_topics/data_interchange.html
"""
from __future__ import annotations

import ctypes
import itertools
from typing import Any

import ml_dtypes
import numpy as np

from tritium.kernels import is_host

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
READ_ONLY, COPIED = 1, 2  # flags of a versioned tensor
VERSION = (1, 0)

_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_BFLOAT = 4
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("index", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32), ("dtype", _DataType),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("offset", ctypes.c_uint64)]


class _Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]


class _ManagedVersioned(ctypes.Structure):
    _fields_ = [("version", _Version), ("context", ctypes.c_void_p), ("deleter", _Deleter), ("flags", ctypes.c_uint64),
                ("tensor", _Tensor)]


def _python(name: str, result: Any, *arguments: Any) -> Any:
    function = ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))
    return function


_new = _python("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_is = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_rename = _python("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
# In a capsule's destructor the capsule must not be held again: it is passed on as an address.
_dying_is = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_dying_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

# What the consumers of our tensors hold: the key is in the tensor's context field.
_lent: dict[int, Any] = {}
_keys = itertools.count(1)


@_Deleter
def _returned(address: int) -> None:
    _lent.pop(_Managed.from_address(address).context, None)


@_Deleter
def _returned_versioned(address: int) -> None:
    _lent.pop(_ManagedVersioned.from_address(address).context, None)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _unused(capsule: int) -> None:
    for name, kind in ((b"dltensor", _Managed), (b"dltensor_versioned", _ManagedVersioned)):
        if _dying_is(capsule, name):
            _lent.pop(kind.from_address(_dying_pointer(capsule, name)).context, None)


_unused_address = ctypes.cast(_unused, ctypes.c_void_p)


def device_of(array: Any) -> tuple[int, int]:
    """What ``__dlpack_device__`` answers: (kind of device, its index)."""
    return (CPU, 0) if is_host(array) else (CUDA, array.device)


def _code(dtype: Any) -> _DataType:
    if dtype == _BFLOAT16:
        return _DataType(_BFLOAT, 16, 1)
    if dtype.kind not in _CODES:
        raise BufferError(f"DLPack has no data type for {dtype}")
    return _DataType(_CODES[dtype.kind], 8 * dtype.itemsize, 1)


def to_capsule(array: Any, stream: int | None = None, versioned: bool = False) -> Any:
    """A capsule that describes an array's memory; the array lives until the consumer is done with it.

    ``stream``, for an array on cuda: the consumer's stream, which waits for ours (None: the legacy default stream;
    -1: nobody waits). Raises BufferError for a dtype that DLPack does not have."""
    ndim = array.ndim
    shape = (ctypes.c_int64 * ndim)(*array.shape)
    strides = (ctypes.c_int64 * ndim)(*[s // array.itemsize for s in array.strides])
    if is_host(array):
        address = array.__array_interface__["data"][0]
    else:
        address = array.ptr
        _hand_over(array, stream)
    tensor = _Tensor(address or None, _Device(*device_of(array)), ndim, _code(array.dtype), shape, strides, 0)
    key = next(_keys)
    managed: Any
    if versioned:
        flags = 0 if not is_host(array) or array.flags.writeable else READ_ONLY
        managed = _ManagedVersioned(_Version(*VERSION), key, _returned_versioned, flags, tensor)
    else:
        managed = _Managed(tensor, key, _returned)
    _lent[key] = managed, shape, strides, array
    return _new(ctypes.addressof(managed), b"dltensor_versioned" if versioned else b"dltensor", _unused_address)


def _hand_over(array: Any, stream: int | None) -> None:
    """Make the consumer's stream wait for the work on ours that an array's values come from."""
    from tritium.kernels.runtime.memory import after
    from tritium.kernels.runtime.state import current

    if stream == -1:
        return
    if stream == 0:
        raise BufferError("stream=0 is ambiguous on cuda: 1 is the legacy default stream, 2 the per-thread one")
    ours, theirs = current.on(array.device), 1 if stream is None else stream
    if theirs != ours:
        after(array.device, theirs, {ours})
        array.owner.used_on(theirs)


class Loan:
    """Memory of another library: ``give_back`` is called when the last array over it goes. The part of a ``Block`` that
    arrays on cuda ask for."""

    __slots__ = ("ptr", "nbytes", "device", "stream", "home", "others", "give_back", "__weakref__")

    def __init__(self, ptr: int, nbytes: int, home: Any, give_back: Any) -> None:
        """``home``: of the stream that the memory is used on; None on the host."""
        self.ptr, self.nbytes, self.home, self.give_back = ptr, nbytes, home, give_back
        self.device: int = 0 if home is None else home.device
        self.stream: int = 0 if home is None else home.stream
        self.others: set[int] | None = None

    def used_on(self, stream: int) -> None:
        """Note that work on another stream uses this memory: ours waits for it before the memory is given back, as the
        owner knows no other."""
        from tritium.kernels.runtime.state import current

        if stream != self.stream:
            if self.others is None:
                self.others = set()
            self.others.add(stream)
            if current.capture is not None:
                current.capture.keep(self)

    def __del__(self) -> None:
        if self.others:
            from tritium.kernels.runtime.memory import after

            after(self.device, self.stream, self.others)
        if self.give_back is not None:
            self.give_back()


def _dtype_of(code: _DataType) -> Any:
    if code.lanes != 1:
        raise BufferError(f"DLPack: vectors of {code.lanes} lanes are not supported")
    if (code.code, code.bits) == (_BFLOAT, 16):
        return _BFLOAT16
    kind = next((k for k, c in _CODES.items() if c == code.code), None)
    try:
        return np.dtype(bool) if kind == "b" and code.bits == 8 else np.dtype(f"{kind}{code.bits // 8}")
    except TypeError:
        raise BufferError(f"DLPack: data type (code {code.code}, {code.bits} bits) is not supported") from None


def from_capsule(capsule: Any) -> Any:
    """An array over the memory that a capsule describes; the capsule is used up.

    Raises ValueError for what is no unused DLPack capsule, BufferError for a dtype or device we do not have."""
    managed: Any
    if _is(capsule, b"dltensor"):
        address = _pointer(capsule, b"dltensor")
        managed = _Managed.from_address(address)
    elif _is(capsule, b"dltensor_versioned"):
        address = _pointer(capsule, b"dltensor_versioned")
        managed = _ManagedVersioned.from_address(address)
        if managed.version.major > VERSION[0]:
            raise BufferError(f"DLPack {managed.version.major}.{managed.version.minor} is newer than what is known")
    else:
        raise ValueError("from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only "
                         "once, so you might have already constructed a tensor from it once.")
    tensor = managed.tensor
    dtype = _dtype_of(tensor.dtype)
    shape = tuple(tensor.shape[:tensor.ndim]) if tensor.ndim else ()
    steps = [s * dtype.itemsize for s in tensor.strides[:tensor.ndim]] if tensor.strides and tensor.ndim else None
    ptr = (tensor.data or 0) + tensor.offset
    place = tensor.device.type
    if place not in (CPU, CUDA, CUDA_HOST, CUDA_MANAGED):
        raise BufferError(f"DLPack: device type {place} is not supported")
    _rename(capsule, b"used_dltensor" if isinstance(managed, _Managed) else b"used_dltensor_versioned")
    delete = managed.deleter

    def give_back() -> None:
        if delete:
            delete(address)

    if place in (CPU, CUDA_HOST):
        flags = getattr(managed, "flags", 0)
        return host_array(Loan(ptr, 0, None, give_back), ptr, shape, dtype, steps, bool(flags & READ_ONLY))
    return device_array(ptr, shape, dtype, steps, tensor.device.index, give_back)


def host_array(owner: Any, ptr: int, shape: tuple[int, ...], dtype: Any, strides: Any, read_only: bool = False) -> Any:
    """A NumPy array over memory that ``owner`` keeps alive. ``strides`` in bytes; None: contiguous."""
    if 0 in shape:
        return np.empty(shape, dtype)
    size = dtype.itemsize
    words = np.dtype(f"V{size}") if dtype == _BFLOAT16 else dtype
    holder = _Holder()
    holder.owner = owner
    holder.__array_interface__ = {"shape": shape, "typestr": words.str, "data": (ptr, read_only), "version": 3,
                                  "strides": None if strides is None else tuple(strides)}
    array = np.asarray(holder)
    return array.view(dtype) if words is not dtype else array


class _Holder:
    owner: Any
    __array_interface__: dict[str, Any]


def device_array(ptr: int, shape: tuple[int, ...], dtype: Any, strides: Any, device: int, give_back: Any) -> Any:
    """An array over another library's memory on cuda. ``strides`` in bytes; None: contiguous."""
    from tritium.kernels.array import DeviceArray, contiguous_steps
    from tritium.kernels.runtime.memory import home_of
    from tritium.kernels.runtime.state import current

    steps = contiguous_steps(shape, dtype.itemsize) if strides is None else tuple(strides)
    low = sum((n - 1) * s for n, s in zip(shape, steps, strict=True) if s < 0) if 0 not in shape else 0
    high = sum((n - 1) * s for n, s in zip(shape, steps, strict=True) if s > 0) if 0 not in shape else 0
    nbytes = 0 if 0 in shape else high - low + dtype.itemsize
    loan = Loan(ptr + low, nbytes, home_of(device, current.on(device)), give_back)
    return DeviceArray(loan, ptr, shape, dtype, steps)


# --- __cuda_array_interface__ ---------------------------------------------------------------------

def cuda_interface(array: Any) -> dict[str, Any]:
    """What ``__cuda_array_interface__`` says of an array on cuda (version 3, with the stream to wait for).

    Raises TypeError for bfloat16, which the interface cannot express."""
    from tritium.kernels.runtime.state import current

    if array.dtype == _BFLOAT16:
        raise TypeError("__cuda_array_interface__ has no type for bfloat16; use DLPack, or view(torch.uint16)")
    return {"shape": array.shape, "typestr": array.dtype.str, "data": (array.ptr if array.size else 0, False),
            "strides": None if array.dense else array.strides, "version": 3, "stream": current.on(array.device)}


def from_cuda_interface(thing: Any, device: int = 0) -> Any:
    """An array over the memory of an object with ``__cuda_array_interface__``. Our stream waits for the object's.

    Raises ValueError for a masked array, TypeError for a dtype of another byte order."""
    from tritium.kernels.runtime.memory import after
    from tritium.kernels.runtime.state import current

    told = thing.__cuda_array_interface__
    if told.get("mask") is not None:
        raise ValueError("__cuda_array_interface__: masked arrays are not supported")
    dtype = np.dtype(told["typestr"])
    if not dtype.isnative:
        raise TypeError(f"__cuda_array_interface__: byte order of {told['typestr']} is not this machine's")
    stream = told.get("stream")
    if stream == 0:
        raise ValueError("__cuda_array_interface__: stream 0 is not allowed")
    ours = current.on(device)
    if stream is not None and stream != ours:
        after(device, ours, {stream})
    keep = [thing]
    return device_array(told["data"][0] or 0, tuple(told["shape"]), dtype, told.get("strides"), device, keep.clear)
