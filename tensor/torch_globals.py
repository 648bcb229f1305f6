"""What PyTorch's names mean in a checkpoint: storages, tensors, parameters, dtypes, devices.

The functions here are our own answers to names such as ``torch._utils._rebuild_tensor_v2``; a name that is
not in the table is refused by the interpreter (tensor/unpickle.py). Whatever a file says about a tensor
(offset, sizes, strides) is held to the bounds of its storage.
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels import on
from tritium.tensor import dtype as dtypes
from tritium.tensor import graph
from tritium.tensor.device import as_available, cpu, device
from tritium.tensor.layout import strided
from tritium.tensor.opcodes import Unfinished
from tritium.tensor.parameter import Parameter
from tritium.tensor.reader import CheckpointError
from tritium.tensor.storage import address_of
from tritium.tensor.tensor import STATE, Memory, Size, Tensor, Version
from tritium.tensor.unpickle import Global


class Storage:
    """The memory behind tensors of a file. ``bytes``: a flat writable array of uint8.

    This is also what a callable ``map_location`` is given: ``device``, ``dtype``, ``nbytes()``, ``size()``,
    and ``cpu()``, ``cuda()`` and ``to()``, which answer the storage to use."""

    name = "a storage without a tensor"

    def __init__(self, memory: Any, element: dtypes.dtype, location: str) -> None:
        self.bytes = memory
        self.dtype = element
        self.location = location
        self.device = cpu
        self.on_device: Any = None  # the memory of the device it goes to, filled when the bytes are there
        self.filled = False
        self.users: list[Version] = []

    def nbytes(self) -> int:
        """The number of bytes."""
        return self.bytes.size

    def size(self) -> int:
        """The number of elements."""
        return self.bytes.size // self.dtype.itemsize

    __len__ = size

    def to(self, place: Any = None, **options: Any) -> Storage:
        """The storage on another device. Raises RuntimeError where there is none."""
        place = options.pop("device", place)
        return restore(self, str(device(place)))

    def cpu(self) -> Storage:
        """The storage on the CPU."""
        return restore(self, "cpu")

    def cuda(self, index: Any = None) -> Storage:
        """The storage on a GPU. Raises RuntimeError where there is none."""
        return self.to(device("cuda", index) if index is None or isinstance(index, int) else index)

    def swap_bytes(self) -> None:
        """Turn the elements, written on a machine of the other byte order, into this machine's."""
        width = self.dtype.itemsize // 2 if self.dtype.is_complex else self.dtype.itemsize
        if width > 1:
            parts = self.bytes.view(f"u{width}")
            parts.byteswap(inplace=True)

    def finish(self) -> None:
        """The bytes are there now: truth values become 0 or 1, the only two that NumPy knows."""
        if self.dtype is dtypes.bool_ and self.bytes.max(initial=0) > 1:
            np.not_equal(self.bytes, 0, out=self.bytes.view(np.bool_))
        self.filled = True
        if self.on_device is not None and self.bytes.size:
            self.on_device[...] = self.bytes

    def go_to(self, place: device) -> Storage:
        """Be on a cuda device: tensors made from now on see its memory. Returns the storage."""
        if self.on_device is None or self.device != place:
            self.device = place
            self.on_device = on(place).empty((self.bytes.size,), np.uint8)
            if self.filled:
                self.finish()
        return self


# --- where storages go ----------------------------------------------------------------------------

def restore(storage: Storage, location: Any) -> Storage:
    """The storage at a location tag of a file ("cpu", "cuda:1").

    Raises RuntimeError, in PyTorch's words, for a device that this machine does not have."""
    if location == "cpu":
        return storage
    text = str(location)
    if text == "cuda" or text.startswith("cuda:"):
        from tritium import cuda

        if cuda.is_available():
            return storage.go_to(as_available(text))
        raise RuntimeError(
            "Attempting to deserialize object on a CUDA device but tritium.cuda.is_available() is False. If "
            "you are running on a CPU-only machine, please use tritium.load with "
            "map_location=tritium.device('cpu') to map your storages to the CPU.")
    raise RuntimeError("don't know how to restore data location of tritium.UntypedStorage "
                       f"(tagged with {text})")


def restorer(map_location: Any) -> Callable[[Storage], Storage]:
    """What ``map_location`` (None, a device, its name, a dict of location tags, a callable) asks for.

    Raises TypeError for anything else."""
    if map_location is None:
        return lambda storage: restore(storage, storage.location)
    if isinstance(map_location, bytes):
        map_location = map_location.decode("ascii")
    if isinstance(map_location, (str, device)):
        place = str(map_location)
        return lambda storage: restore(storage, "cpu" if place == "cpu:0" else place)
    if isinstance(map_location, dict):
        return lambda storage: restore(storage, str(map_location.get(storage.location, storage.location)))
    if not callable(map_location):
        raise TypeError("map_location must be None, a device, a string, a dict or a callable, not "
                        f"{type(map_location).__name__}")

    def ask(storage: Storage) -> Storage:
        try:
            found = map_location(storage, storage.location)
        except RuntimeError:
            raise
        except Exception as error:
            raise RuntimeError(f"map_location failed for a storage from {storage.location!r}: "
                               f"{type(error).__name__}: {error}") from error
        if found is None:
            return restore(storage, storage.location)
        if not isinstance(found, Storage):
            raise RuntimeError(f"map_location must return the storage or None, not {type(found).__name__}")
        return found

    return ask


# --- tensors ---------------------------------------------------------------------------------------

def _ints(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or any(type(v) is not int or not 0 <= v < 1 << 63 for v in values):
        raise CheckpointError(f"damaged checkpoint: the {what} of a tensor must be whole numbers from 0 on")
    if len(values) > 64:  # NumPy's limit
        raise CheckpointError(f"a tensor of {len(values)} dimensions is not supported")
    return tuple(values)


def view_of(storage: Any, offset: Any, size: Any, stride: Any, element: dtypes.dtype | None = None) -> Any:
    """The array that sees ``size`` elements of the storage, ``stride`` apart, from ``offset`` on.

    Raises CheckpointError when any of them lies outside."""
    if type(storage) is not Storage:
        raise CheckpointError(f"damaged checkpoint: a tensor over a {type(storage).__name__}")
    element = storage.dtype if element is None else element
    size, stride = _ints(size, "size"), _ints(stride, "stride")
    (offset,) = _ints((offset,), "offset")
    if len(size) != len(stride):
        raise CheckpointError(f"damaged checkpoint: size {list(size)} with strides {list(stride)}")
    if math.prod(size) == 0:
        return on(storage.device).empty(size, element.np)
    needed = offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    width = element.itemsize
    if needed * width > storage.nbytes():
        raise CheckpointError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize "
            f"{width} requiring a storage size of {needed * width} are out of bounds for storage of size "
            f"{storage.nbytes()}")
    strides = tuple([s * width for s in stride])
    if storage.on_device is not None:
        return storage.on_device.look(storage.on_device.ptr + offset * width, size, strides, element.np)
    return np.ndarray(size, element.np, storage.bytes, offset * width, strides)


def tensor_of(storage: Storage, array: Any, requires_grad: Any = False) -> Tensor:
    """A tensor over a view of a storage. Tensors over one storage know that they share it."""
    t = graph.wrap(array)
    t._vc = version = Version()
    users = storage.users
    users.append(version)
    if len(users) > 1:
        first = users[0]
        if first.memory is None:
            first.memory = Memory()
        first.shared = version.shared = True
        version.memory = first.memory
    _require_grad(t, requires_grad)
    return t


def _require_grad(t: Tensor, flag: Any) -> None:
    if type(flag) is not bool:
        raise CheckpointError(f"damaged checkpoint: requires_grad is a {type(flag).__name__}")
    if flag and t._a.dtype.kind in "biu":
        raise CheckpointError(f"damaged checkpoint: a tensor of {t.dtype} that requires grad")
    t._rg = flag


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    return tensor_of(storage, view_of(storage, offset, size, stride))


def _rebuild_tensor_v2(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False,
                       hooks: Any = None, metadata: Any = None,
                       element: dtypes.dtype | None = None) -> Tensor:
    array = view_of(storage, offset, size, stride, element)
    if metadata:
        array = _lazy_bits(storage, array, metadata)
    return tensor_of(storage, array, requires_grad)


def _rebuild_tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any,
                       element: Any, metadata: Any = None) -> Tensor:
    if not isinstance(element, dtypes.dtype):
        raise CheckpointError(f"tensors of {getattr(element, 'name', element)} are not supported")
    return _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata, element)


def _lazy_bits(storage: Storage, array: Any, metadata: Any) -> Any:
    """PyTorch may leave a conjugate or a negative to be taken later. Here it is taken now."""
    if not isinstance(metadata, dict) or not metadata.keys() <= {"conj", "neg"} or not storage.filled:
        raise CheckpointError(f"tensors with the properties {metadata!r} are not supported")
    if metadata.get("conj"):
        array = np.conj(array)
    return np.negative(array) if metadata.get("neg") else array


def _data(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise CheckpointError(f"damaged checkpoint: a Parameter over a {type(value).__name__}")
    return value


def _rebuild_parameter(data: Any, requires_grad: Any = True, hooks: Any = None) -> Parameter:
    parameter = Parameter(_data(data), False)
    _require_grad(parameter, requires_grad)
    return parameter


def _rebuild_parameter_with_state(data: Any, requires_grad: Any, hooks: Any, state: Any) -> Parameter:
    parameter = _rebuild_parameter(data, requires_grad)
    _set_attributes(parameter, state)
    return parameter


def _parameter(*args: Any) -> Any:
    """``Parameter(data, requires_grad)``, or ``Parameter()`` whose state follows: (data, gradient, hooks,
    requires_grad, volatile) in the first releases of PyTorch."""
    if args:
        return _rebuild_parameter(*args)
    return Unfinished("torch.nn.parameter.Parameter",
                      lambda state: _rebuild_parameter(_five(state)[0], state[3]))


def _variable(*args: Any) -> Any:
    def make(data: Any, requires_grad: Any = False) -> Tensor:
        _require_grad(_data(data), requires_grad)
        return data

    if args:
        return make(*args)
    return Unfinished("torch.autograd.Variable", lambda state: make(_five(state)[0], state[3]))


def _five(state: Any) -> Any:
    if type(state) is not tuple or len(state) != 5:
        raise CheckpointError("damaged checkpoint: the state of a Parameter")
    return state


def _tensor(*args: Any) -> Unfinished:
    """A tensor of PyTorch 0.1: made empty, its state (storage, offset, size, stride) follows."""
    if args:
        raise CheckpointError("damaged checkpoint: a tensor made with arguments")
    return Unfinished("torch.Tensor", lambda state: _rebuild_tensor(*state))


def _set_attributes(t: Tensor, state: Any) -> None:
    """Attributes that somebody put on a tensor. None may stand for one that tensors have themselves."""
    if isinstance(state, tuple) and len(state) == 2 and not state[1]:
        state = state[0]
    for key, value in (state or {}).items():
        if type(key) is not str or key in STATE or hasattr(Tensor, key):
            raise CheckpointError(f"the checkpoint sets the attribute {key!r} of a tensor")
        vars(t)[key] = value


def _rebuild_from_type_v2(function: Any, kind: Any, args: Any, state: Any) -> Tensor:
    known = isinstance(function, Global) and function.name.startswith("torch._utils._rebuild")
    if not known or getattr(kind, "name", "") not in _CLASSES or type(args) is not tuple:
        raise CheckpointError(f"the checkpoint holds a tensor of class {getattr(kind, 'name', kind)}, "
                              "which is not supported")
    t = function.make(*args)
    _set_attributes(t, state)
    return t


def build(target: Any, state: Any) -> Any:
    """The state of a finished object: of a Parameter in PyTorch 0.2, (requires_grad, volatile, hooks)."""
    if isinstance(target, Tensor) and type(state) is tuple and len(state) == 3:
        _require_grad(target, bool(state[0]))
        return target
    raise CheckpointError(f"the checkpoint sets the state of a {type(target).__name__}")


# --- the table of names ------------------------------------------------------------------------------

class StorageKind(Global):
    """``torch.FloatStorage`` and its like: the element type of a storage."""

    __slots__ = ("dtype",)

    def __init__(self, name: str, element: dtypes.dtype) -> None:
        Global.__init__(self, name, _refuser(f"{name} without a tensor"))
        self.dtype = element


def _refuser(what: str) -> Callable[..., Any]:
    def refuse(*args: Any) -> Any:
        raise CheckpointError(f"the checkpoint holds {what}, which is not supported")
    return refuse


def _size(values: Any = ()) -> Size:
    return Size(_ints(values, "size"))


def _device(kind: Any, index: Any = None) -> device:
    if type(kind) is not str or index is not None and (type(index) is not int or not 0 <= index < 1 << 15):
        raise CheckpointError("damaged checkpoint: a device")
    try:
        return device(kind, index)
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint holds a device that is not supported: {error}") from None


def _layout(name: Any) -> Any:
    if name != "torch.strided":
        raise CheckpointError(f"the checkpoint holds the layout {name}, which is not supported")
    return strided


def _table() -> dict[str, Any]:
    functions: dict[str, Any] = {
        "torch._utils._rebuild_tensor": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
        "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
        "torch._utils._rebuild_parameter": _rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": _rebuild_parameter_with_state,
        "torch._tensor._rebuild_from_type_v2": _rebuild_from_type_v2,
        "torch.nn.parameter.Parameter": _parameter,
        "torch.nn.Parameter": _parameter,
        "torch.autograd.variable.Variable": _variable,
        "torch.autograd.Variable": _variable,
        "torch.Tensor": _tensor,
        "torch._tensor.Tensor": _tensor,
        "torch.tensor.Tensor": _tensor,
        "torch.Size": _size,
        "torch.device": _device,
        "torch.serialization._get_layout": _layout,
        "torch._utils._rebuild_qtensor": _refuser("quantised tensors"),
        "torch._utils._rebuild_sparse_tensor": _refuser("sparse tensors"),
        "torch._utils._rebuild_nested_tensor": _refuser("nested tensors"),
        "torch._utils._rebuild_meta_tensor_no_storage": _refuser("tensors on the meta device"),
        "torch._utils._rebuild_wrapper_subclass": _refuser("tensor subclasses"),
        "torch._utils._rebuild_device_tensor_from_numpy": _refuser("tensors of another device"),
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _refuser("tensors of another device"),
    }
    table: dict[str, Any] = {name: Global(name, make) for name, make in functions.items()}
    for name in ("quint8", "qint8", "qint32", "quint4x2", "quint2x4", "per_tensor_affine",
                 "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
                 "per_channel_affine_float_qparams"):
        table["torch." + name] = Global("torch." + name, _refuser("quantised tensors"))
    for name in ("uint16", "uint32", "uint64", "complex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
                 "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"):
        table["torch." + name] = Global("torch." + name, _refuser(f"values of torch.{name}"))
    for element in dtypes.ALL:
        table["torch." + element.name] = element
        for module in ("torch", "torch.cuda"):
            name = f"{module}.{element.title}Storage"
            table[name] = StorageKind(name, element)
            name = f"{module}.{element.title}Tensor"
            table[name] = Global(name, _tensor)
    for name in ("torch.storage.UntypedStorage", "torch.storage._UntypedStorage", "torch.UntypedStorage"):
        table[name] = StorageKind(name, dtypes.uint8)
    for name in ("QUInt8", "QInt8", "QInt32", "QUInt4x2", "QUInt2x4"):
        table[f"torch.{name}Storage"] = Global(f"torch.{name}Storage", _refuser("quantised tensors"))
    for name in ("torch.storage.TypedStorage", "torch.storage._TypedStorage", "torch.TypedStorage"):
        table[name] = Global(name, _refuser(f"{name} without a tensor"))
    return table


_CLASSES = {"torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.Parameter"}
TABLE = _table()
INERT = (Storage, StorageKind)


def storage_dtype(kind: Any) -> dtypes.dtype:
    """The element type that a storage class of a file stands for.

    Raises CheckpointError for one that is not supported (quantised types)."""
    if type(kind) is not StorageKind:
        name = getattr(kind, "name", type(kind).__name__)
        raise CheckpointError(f"the checkpoint holds a storage of type {name}, which is not supported")
    return kind.dtype


def new_storage(kind: Any, count: Any, location: Any, limit: int, memory: Any = None) -> Storage:
    """A storage of ``count`` elements over ``memory`` (uint8), or over new memory that is to be filled.

    Raises CheckpointError when it needs more than ``limit`` bytes, before memory is taken."""
    element = storage_dtype(kind)
    if type(count) is not int or count < 0 or count * element.itemsize > limit:
        raise CheckpointError(f"damaged checkpoint: a storage of {count} elements of {element}, where the "
                              f"file has {limit} bytes left")
    if isinstance(location, bytes):
        location = location.decode("ascii")
    if type(location) is not str:
        raise CheckpointError("damaged checkpoint: the location of a storage")
    if memory is None:
        memory = np.empty(count * element.itemsize, np.uint8)
    elif memory.size != count * element.itemsize:
        raise CheckpointError(f"damaged checkpoint: a storage of {count} elements of {element} with "
                              f"{memory.size} bytes")
    elif memory.size and address_of(memory) % element.itemsize:
        memory = memory.copy()
    return Storage(memory, element, location)
