"""Writing objects in PyTorch's layouts, without PyTorch and without pickling anything but data.

The pickle inside is written here, opcode by opcode (protocol 2), for a fixed list of types: what
``torch.load(weights_only=True)`` and ``tritium.load`` read back. Any other type is refused with its place in
the object. A storage is written once, whole, and every tensor over it says which part it sees.
"""
from __future__ import annotations

import struct
import sys
from collections import Counter, OrderedDict
from typing import Any, BinaryIO

import numpy as np

from tritium.kernels import of, on_host
from tritium.tensor import dtype as dtypes
from tritium.tensor import graph
from tritium.tensor.device import device
from tritium.tensor.layout import element_strides, layout
from tritium.tensor.opcodes import MAX_MARKS
from tritium.tensor.parameter import Parameter
from tritium.tensor.storage import address_of, bounds_of, offset_of, root_of, storage_elements
from tritium.tensor.tensor import Size, Tensor
from tritium.tensor.torch_files import MAGIC, PROTOCOL

_ALIGNMENT = 64
_HINTS = {
    "Module": "save its state_dict() instead",
    "Namespace": "save vars(...) of it instead",
    "ndarray": "make it a tensor with from_numpy()",
    "generic": "make it a Python number with .item()",
    "PurePath": "make it a string with str()",
    "defaultdict": "make it a dict with dict()",
}

_Path = tuple[Any, Any] | None  # (path of the container, key in it)


class Pickle:
    """Writes objects as pickles and collects the storages of their tensors: ``storages`` (key -> flat bytes)
    and ``dtypes`` (key -> dtype).

    ``legacy`` gives storages the form of PyTorch before 1.6."""

    def __init__(self, legacy: bool = False) -> None:
        self.legacy = legacy
        self.storages: dict[str, Any] = {}
        self.dtypes: dict[str, dtypes.dtype] = {}
        self._keys: dict[tuple[int, int], tuple[str, dtypes.dtype]] = {}
        self._keep: list[Any] = []  # what the memo knows by its id has to live

    def dumps(self, obj: Any) -> bytes:
        """One pickle. Raises TypeError for a type that a checkpoint cannot hold, with its place."""
        self.out = bytearray(b"\x80\x02")
        self.memo: dict[Any, int] = {}
        self.brackets = 0  # how many are open
        self.open: set[int] = set()  # tuples and sets on the way: they cannot contain themselves
        work: list[Any] = [(obj, None)]
        while work:
            step = work.pop()
            if type(step) is tuple:
                self._value(step[0], step[1], work)
            elif type(step) is bytes:
                self._close(step)
            else:
                step()
        self.out += b"."
        return bytes(self.out)

    # --- opcodes ---

    def _put(self, key: Any) -> None:
        """Remember what is on top of the stack."""
        slot = self.memo[key] = len(self.memo)
        self.out += b"q" + bytes([slot]) if slot < 256 else b"r" + struct.pack("<I", slot)

    def _get(self, key: Any) -> bool:
        """Fetch it again. False when it was never put."""
        slot = self.memo.get(key)
        if slot is None:
            return False
        self.out += b"h" + bytes([slot]) if slot < 256 else b"j" + struct.pack("<I", slot)
        return True

    def _global(self, module: str, name: str) -> None:
        if not self._get(("global", module, name)):
            self.out += f"c{module}\n{name}\n".encode("ascii")
            self._put(("global", module, name))

    def _int(self, value: int) -> None:
        if 0 <= value < 256:
            self.out += b"K" + bytes([value])
        elif 0 <= value < 65536:
            self.out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(data) > 255:
                raise ValueError(f"an integer of {value.bit_length()} bits is too large for a checkpoint")
            self.out += b"\x8a" + bytes([len(data)]) + data

    def _text(self, value: str) -> None:
        if not self._get(value):
            self._new_text(value)
            self._put(value)

    def _new_text(self, value: str) -> None:
        data = value.encode("utf-8", "surrogatepass")
        if len(data) >= 1 << 32:
            raise ValueError("a string of 4 GiB or more is too large for a checkpoint")
        self.out += b"X" + struct.pack("<I", len(data)) + data

    def _ints(self, values: Any) -> None:
        values = tuple(values)
        if len(values) > 3:
            self.out += b"("
        for value in values:
            self._int(value)
        self.out += (b")", b"\x85", b"\x86", b"\x87")[len(values)] if len(values) <= 3 else b"t"

    def _ordered_dict(self) -> None:
        self._global("collections", "OrderedDict")
        self.out += b")R"

    def _bytes(self, value: bytes) -> None:
        """Protocol 2 has no bytes: they are latin1 text that is encoded."""
        self._global("_codecs", "encode")
        self._new_text(value.decode("latin-1"))  # once for each: a reader limits how often it copies a text
        self._text("latin1")
        self.out += b"\x86R"

    # --- values ---

    def _value(self, obj: Any, path: _Path, work: list[Any]) -> None:
        """Write a value, or put what it consists of on the list of work (last step first)."""
        kind = type(obj)
        if obj is None:
            self.out += b"N"
        elif kind is bool:
            self.out += b"\x88" if obj else b"\x89"
        elif kind is int:
            self._int(obj)
        elif kind is float:
            self.out += b"G" + struct.pack(">d", obj)
        elif kind is str:
            self._text(obj)
        elif kind is complex:
            self._global("__builtin__", "complex")
            self.out += b"G" + struct.pack(">d", obj.real) + b"G" + struct.pack(">d", obj.imag) + b"\x86R"
        elif self._get(id(obj)):
            pass
        elif isinstance(obj, dtypes.dtype):
            self._global("torch", obj.name)
        else:
            self._keep.append(obj)
            writer = _WRITERS.get(kind)
            if writer is not None:
                writer(self, obj, path, work)
            elif isinstance(obj, Tensor):
                self._tensor(obj, path)
            else:
                raise _unsupported(obj, path)

    def _finish(self, obj: Any, code: bytes, work: list[Any]) -> None:
        """Later: the opcode that makes ``obj``, and its place in the memo."""
        def step() -> None:
            self.open.discard(id(obj))
            self._close(code)
            self._put(id(obj))
        work.append(step)

    def _bracket(self, path: _Path) -> None:
        """Open a bracket."""
        self.out += b"("
        self.brackets += 1
        if self.brackets > MAX_MARKS:
            raise ValueError(f"the object is nested too deeply, at {_where(path)[:200]}...")

    def _close(self, code: bytes) -> None:
        """Write an opcode that may end at a bracket."""
        self.out += code
        self.brackets -= code in (b"e", b"u", b"t")

    def _enter(self, obj: Any, path: _Path) -> None:
        if id(obj) in self.open:
            raise ValueError(f"cannot save a {type(obj).__name__} that contains itself, at {_where(path)}")
        self.open.add(id(obj))

    def _tuple(self, obj: tuple[Any, ...], path: _Path, work: list[Any]) -> None:
        if not obj:
            self.out += b")"
            return
        self._enter(obj, path)
        count = len(obj)
        self._finish(obj, (b"", b"\x85", b"\x86", b"\x87")[count] if count <= 3 else b"t", work)
        work.extend((item, (path, i)) for i, item in _backwards(obj))
        if count > 3:
            self._bracket(path)

    def _list(self, obj: list[Any], path: _Path, work: list[Any]) -> None:
        self.out += b"]"
        self._put(id(obj))
        self._elements(obj, path, work)

    def _elements(self, items: Any, path: _Path, work: list[Any]) -> None:
        if len(items) > 1:
            work.append(b"e")
            self._bracket(path)
        elif items:
            work.append(b"a")
        work.extend((item, (path, i)) for i, item in _backwards(items))

    def _items(self, obj: Any, path: _Path, work: list[Any]) -> None:
        if len(obj) > 1:
            work.append(b"u")
            self._bracket(path)
        elif obj:
            work.append(b"s")
        for key, value in reversed(obj.items()):
            work.append((value, (path, key)))
            work.append((key, (path, _Key(key))))

    def _dict(self, obj: dict[Any, Any], path: _Path, work: list[Any]) -> None:
        self.out += b"}"
        self._put(id(obj))
        self._items(obj, path, work)

    def _odict(self, obj: OrderedDict[Any, Any], path: _Path, work: list[Any]) -> None:
        self._ordered_dict()
        self._put(id(obj))
        attributes = dict(vars(obj))
        if attributes:  # _metadata: the versions of the modules
            work.append(b"b")
            self._keep.append(attributes)
            work.append((attributes, (path, _Key("__dict__"))))
        self._items(obj, path, work)

    def _counter(self, obj: Counter[Any], path: _Path, work: list[Any]) -> None:
        self._global("collections", "Counter")
        self.out += b"}"
        self._finish(obj, b"\x85R", work)
        self._items(obj, path, work)

    def _set(self, obj: set[Any], path: _Path, work: list[Any]) -> None:
        self._global("__builtin__", "set")
        self.out += b"]"
        self._enter(obj, path)
        self._finish(obj, b"\x85R", work)
        self._elements(list(obj), path, work)

    def _encoded(self, obj: bytes, path: _Path, work: list[Any]) -> None:
        self._bytes(obj)
        self._put(id(obj))

    def _bytearray(self, obj: bytearray, path: _Path, work: list[Any]) -> None:
        self._global("__builtin__", "bytearray")
        self._bytes(bytes(obj))
        self.out += b"\x85R"
        self._put(id(obj))

    def _torch_size(self, obj: Size, path: _Path, work: list[Any]) -> None:
        self._global("torch", "Size")
        self._ints(obj)
        self.out += b"\x85R"
        self._put(id(obj))

    def _torch_device(self, obj: device, path: _Path, work: list[Any]) -> None:
        self._global("torch", "device")
        self._text(obj.type)
        if obj.index is None:
            self.out += b"\x85R"
        else:
            self._int(obj.index)
            self.out += b"\x86R"
        self._put(id(obj))

    def _torch_layout(self, obj: layout, path: _Path, work: list[Any]) -> None:
        self._global("torch.serialization", "_get_layout")
        self._text("torch." + obj._name)
        self.out += b"\x85R"
        self._put(id(obj))

    # --- tensors ---

    def _tensor(self, t: Tensor, path: _Path) -> None:
        graph.materialize(t)
        if isinstance(t, Parameter):
            self._global("torch._utils", "_rebuild_parameter")
            self._view(t, False, path)
            self.out += b"\x88" if t.requires_grad else b"\x89"
            self._ordered_dict()
            self.out += b"\x87R"
        else:
            self._view(t, t.requires_grad, path)
        self._put(id(t))

    def _view(self, t: Tensor, requires_grad: bool, path: _Path) -> None:
        """The call that makes a tensor: its storage and the part of it that it sees."""
        array = t._a
        low, high = bounds_of(root_of(array))
        if any(s < 0 or s % array.itemsize for s in (*array.strides, address_of(array) - low, high - low)):
            array = of(array).copy.contiguous(array)  # memory from outside, laid out as PyTorch cannot say it
        self._global("torch._utils", "_rebuild_tensor_v2")
        self.out += b"("
        self._storage(array, t, path)
        self._int(offset_of(array))
        self._ints(array.shape)
        self._ints(element_strides(array))
        self.out += b"\x88" if requires_grad else b"\x89"
        self._ordered_dict()
        self.out += b"tR"

    def _storage(self, array: Any, t: Tensor, path: _Path) -> None:
        """The reference to the storage of an array. An empty tensor has one of its own."""
        element = t.dtype
        root = root_of(array)
        low, high = bounds_of(root) if array.size else (0, 0)
        known = self._keys.get((low, high)) if array.size else None
        if known is None:
            known = (str(len(self.storages)), element)
            self._keys[low, high] = known
            self._keep.append(root)
            self.storages[known[0]] = _flat_bytes(array) if array.size else np.empty(0, np.uint8)
            self.dtypes[known[0]] = element
        key, stored = known
        if stored is not element:
            raise RuntimeError("Cannot save multiple tensors or storages that view the same data as "
                               f"different types: {stored} and {element}, at {_where(path)}")
        self.out += b"("
        self._text("storage")
        self._global("torch", element.title + "Storage")
        self._text(key)
        self._text(str(t.device))
        self._int(self.storages[key].size // array.itemsize)
        self.out += b"NtQ" if self.legacy else b"tQ"


_WRITERS: dict[type, Any] = {
    tuple: Pickle._tuple, list: Pickle._list, dict: Pickle._dict, OrderedDict: Pickle._odict,
    Counter: Pickle._counter, set: Pickle._set, bytes: Pickle._encoded, bytearray: Pickle._bytearray,
    Size: Pickle._torch_size, device: Pickle._torch_device, layout: Pickle._torch_layout,
}


def _backwards(items: Any) -> Any:
    return reversed(list(enumerate(items)))


def _flat_bytes(array: Any) -> Any:
    """The memory behind an array, as bytes in the order of their addresses."""
    return on_host(storage_elements(array)).view(np.uint8)


class _Key:
    """In a path: the key itself, not the value under it."""

    def __init__(self, key: Any) -> None:
        self.key = key


def _where(path: _Path) -> str:
    """A place in the saved object: ``object['optimizer']['state'][0]``."""
    parts = []
    while path is not None:
        path, key = path
        parts.append(f" (its {key.key!r})" if isinstance(key, _Key) else f"[{key!r}]")
    return "object" + "".join(reversed(parts))


def _unsupported(obj: Any, path: _Path) -> TypeError:
    kind = type(obj)
    hint = next((_HINTS[k.__name__] for k in kind.__mro__ if k.__name__ in _HINTS), "")
    return TypeError(
        f"cannot save {_where(path)}: it is a {kind.__module__}.{kind.__qualname__}. A checkpoint holds "
        "tensors, numbers, strings, bytes, None, and lists, tuples, dicts and sets of them"
        + (f"; {hint}" if hint else ""))


# --- files -----------------------------------------------------------------------------------------

def write_zip(obj: Any, file: BinaryIO, folder: str = "archive") -> None:
    """Write the layout of PyTorch 1.6 and later: an uncompressed zip archive, storages aligned to 64 bytes.

    Nothing is written when ``obj`` cannot be saved (TypeError)."""
    import zipfile

    pickle = Pickle()
    data = pickle.dumps(obj)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        records: list[tuple[str, Any]] = [("data.pkl", data), ("byteorder", sys.byteorder.encode())]
        records += [(f"data/{key}", memoryview(flat)) for key, flat in pickle.storages.items()]
        for name, content in [*records, ("version", b"3\n")]:
            _write_member(archive, f"{folder}/{name}", content)


def _write_member(archive: Any, name: str, content: Any) -> None:
    import zipfile

    entry = zipfile.ZipInfo(name)  # its date is 1980: the same object gives the same bytes
    large = len(content) * 1.05 > zipfile.ZIP64_LIMIT
    header = archive.start_dir + 30 + len(name.encode()) + 4 + (20 if large else 0)
    gap = -header % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", gap) + b"Z" * gap
    entry.file_size = len(content)
    with archive.open(entry, "w", force_zip64=large) as member:
        member.write(content)
    entry.extra = b""  # the directory at the end needs no gap


def write_legacy(obj: Any, file: BinaryIO) -> None:
    """Write the layout of PyTorch before 1.6: pickles and raw storages, one after another."""
    pickle = Pickle(legacy=True)
    system = {"protocol_version": PROTOCOL, "little_endian": sys.byteorder == "little",
              "type_sizes": {"short": 2, "int": 4, "long": 4}}
    data = b"".join([Pickle().dumps(part) for part in (MAGIC, PROTOCOL, system)]) + pickle.dumps(obj)
    file.write(data + Pickle().dumps(list(pickle.storages)))
    for key, flat in pickle.storages.items():
        element = pickle.dtypes[key]
        file.write(struct.pack("<q", flat.size // element.itemsize))
        if sys.byteorder == "big":
            width = element.itemsize // 2 if element.is_complex else element.itemsize
            flat = flat.reshape(-1, width)[:, ::-1].ravel()
        file.write(memoryview(flat))
