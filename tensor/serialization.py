"""``save`` and ``load``: checkpoints in PyTorch's file formats and as safetensors, without PyTorch.

https://docs.pytorch.org/docs/stable/notes/serialization.html, https://huggingface.co/docs/safetensors
"""
from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from tritium.kernels import on_host
from tritium.tensor import dtype as dtypes
from tritium.tensor import graph
from tritium.tensor.device import as_available
from tritium.tensor.from_data import moved
from tritium.tensor.layout import contiguous_strides
from tritium.tensor.reader import CheckpointError
from tritium.tensor.tensor import Tensor, new_tensor


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = True,
         mmap: bool | None = None, encoding: str = "utf-8") -> Any:
    """The object that ``tritium.save`` or ``torch.save`` wrote into a file.

    ``f``: a path, or a binary file that can seek. All layouts that PyTorch has used are read (the zip
    archive, the plain pickle before 1.6, the tar archive of the first releases), and safetensors (a dict of
    tensors). ``map_location``: where tensors go: None (where they were saved), a device or its name, a dict
    from location tags to others, or a function of (storage, location tag) that returns a storage or None.
    ``weights_only`` is accepted and changes nothing: code that a file names is never run. ``mmap=True``
    leaves the data of a zip archive in the file (which must not change meanwhile) until it is used.
    ``encoding``: of the strings of Python 2.

    Tensors that shared memory when they were saved share it again. Raises FileNotFoundError; CheckpointError
    (a RuntimeError and a ``pickle.UnpicklingError``) for a damaged file, a file of another kind, and anything
    in it but tensors, numbers, text and plain containers, named; RuntimeError for a device that is not there.
    https://docs.pytorch.org/docs/stable/generated/torch.load.html"""
    from tritium.tensor.torch_files import read

    if pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    path = os.fspath(f) if isinstance(f, (str, os.PathLike)) else None
    if path is None:
        if mmap:
            raise ValueError("f must be a file path in order to use the mmap argument")
        file = _seekable(f)
        name = getattr(f, "name", "the file")
    else:
        file, name = open(path, "rb"), repr(path)  # noqa: SIM115
    try:
        if _is_safetensors(file, path):
            return _from_safetensors(file.read(), map_location)
        return read(file, map_location, encoding, bool(mmap))
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {name}: {error}") from error.__cause__
    finally:
        if path is not None:
            file.close()


def _seekable(f: Any) -> Any:
    """``f``, a binary file that can seek. Raises AttributeError, io.UnsupportedOperation or TypeError."""
    advice = (" You can only tritium.load from a file that is seekable. Please pre-load the data into a "
              "buffer like io.BytesIO and try to load from it instead.")
    for method in ("seek", "tell", "read", "readline"):
        if not hasattr(f, method):
            raise AttributeError(f"'{type(f).__name__}' object has no attribute '{method}'." + advice)
    try:
        f.seek(f.tell())
    except io.UnsupportedOperation as error:
        raise io.UnsupportedOperation(f"{error}." + advice) from None
    if isinstance(f, io.TextIOBase):
        raise TypeError("tritium.load needs a file opened in binary mode ('rb')")
    return f


def save(obj: Any, f: Any, pickle_module: Any = None, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True) -> None:
    """Write tensors, and containers of tensors and plain values, to a file that ``tritium.load`` and
    ``torch.load(weights_only=True)`` read.

    ``obj``: tensors, Parameters, dtypes, devices, sizes, numbers, strings, bytes, None, and lists, tuples,
    dicts (OrderedDict, Counter) and sets of them; so every ``state_dict()``. ``f``: a path, or a binary file.
    A path is written atomically: when anything fails, a file that was there before is still there, unchanged.
    Memory that tensors share is written once and shared after loading.
    ``_use_new_zipfile_serialization=False`` writes the layout before PyTorch 1.6. ``pickle_module`` is for
    compatibility and not used.

    Raises TypeError for any other type, with its place in ``obj``; ValueError for an object that contains
    itself in a tuple; RuntimeError when the folder does not exist.
    https://docs.pytorch.org/docs/stable/generated/torch.save.html"""
    from tritium.tensor.torch_writer import write_legacy, write_zip

    write = write_zip if _use_new_zipfile_serialization else write_legacy
    if pickle_protocol != 2:
        raise ValueError(f"pickle_protocol must be 2, which all of PyTorch reads, not {pickle_protocol}")
    if isinstance(f, (str, os.PathLike)):
        from tritium.tensor.files import atomic

        with atomic(f) as file:
            write(obj, file)
        return
    if not hasattr(f, "write"):
        raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' "
                             "attribute")
    write(obj, f)
    if hasattr(f, "flush"):
        f.flush()


# --- safetensors -------------------------------------------------------------------------------------

_SAFE_NAMES = {"BOOL": dtypes.bool_, "U8": dtypes.uint8, "I8": dtypes.int8, "I16": dtypes.int16,
               "I32": dtypes.int32, "I64": dtypes.int64, "F16": dtypes.float16, "BF16": dtypes.bfloat16,
               "F32": dtypes.float32, "F64": dtypes.float64, "C64": dtypes.complex64}


def save_safetensors(tensors: dict[str, Tensor], f: Any, metadata: dict[str, str] | None = None) -> None:
    """Write a dict of tensors as a safetensors file, atomically when ``f`` is a path.

    ``metadata``: text to go with them. Tensors that share memory are written separately. Raises TypeError for
    anything but tensors under string keys, ValueError for complex128, which the format does not have.
    https://huggingface.co/docs/safetensors"""
    from safetensors.numpy import save as to_bytes

    arrays = {}
    for name, t in dict(tensors).items():
        if type(name) is not str or not isinstance(t, Tensor):
            raise TypeError("save_safetensors needs tensors under string keys, got "
                            f"{name!r}: {type(t).__name__}")
        if t.dtype not in _SAFE_NAMES.values():
            raise ValueError(f"{name!r} is of {t.dtype}, which safetensors does not have")
        arrays[name] = np.array(on_host(t._a), order="C")
    data = to_bytes(arrays, metadata)
    if isinstance(f, (str, os.PathLike)):
        from tritium.tensor.files import atomic

        with atomic(f) as file:
            file.write(data)
    else:
        f.write(data)


def load_safetensors(f: Any, map_location: Any = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file (a path or a binary file), by name.

    Raises CheckpointError for a damaged file or a dtype that tritium does not have."""
    path = os.fspath(f) if isinstance(f, (str, os.PathLike)) else None
    if path is not None:
        with open(path, "rb") as file:
            data = file.read()
    else:
        data = f.read()
    try:
        return _from_safetensors(data, map_location)
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path or 'the file'}: {error}") from None


def safetensors_metadata(f: Any) -> dict[str, str]:
    """The text that goes with the tensors of a safetensors file (a path); {} when there is none.

    Raises CheckpointError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(f), framework="numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f"cannot load {os.fspath(f)!r}: damaged safetensors file: {error}") from None


def _is_safetensors(file: Any, path: str | None) -> bool:
    """By the file's name, as in PyTorch, or by its beginning: the length of a JSON object, and the object."""
    start = file.tell()
    head = file.read(9)
    file.seek(start)
    return (path is not None and path.endswith(".safetensors")) or (
        len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32)


def _from_safetensors(data: bytes, map_location: Any) -> dict[str, Tensor]:
    from safetensors import SafetensorError, deserialize

    from tritium.tensor.torch_globals import Storage, restorer, view_of

    restore = restorer("cpu" if map_location is None else map_location)
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise CheckpointError(f"damaged safetensors file: {error}") from None
    found = {}
    for name, entry in entries:
        element = _SAFE_NAMES.get(entry["dtype"])
        if element is None:
            raise CheckpointError(f"the tensor {name!r} is of type {entry['dtype']}, which is not supported")
        data = entry["data"]  # a bytearray of its own, which the tensor can keep
        memory = np.frombuffer(data if isinstance(data, bytearray) else bytearray(data), np.uint8)
        storage = Storage(memory, element, "cpu")
        storage.finish()
        shape = tuple(entry["shape"])
        found[name] = graph.wrap(view_of(restore(storage), 0, shape, contiguous_strides(shape)))
    return found


# --- Python's own pickle and copy ----------------------------------------------------------------------

def rebuild_tensor(kind: type[Tensor], array: Any, requires_grad: bool, attributes: dict[str, Any],
                   place: str = "cpu") -> Tensor:
    """What ``Tensor.__reduce_ex__`` names: a leaf of class ``kind`` over an array of its own, on device ``place``."""
    t = new_tensor(kind)
    t._a = array if place == "cpu" else moved(array, as_available(place))
    t._rg = requires_grad
    vars(t).update(attributes)
    return t
