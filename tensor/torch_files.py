"""Reading the three layouts in which PyTorch has saved objects.

``zip``     since 1.6: an archive with ``data.pkl``, and a member ``data/<key>`` for each storage.
``legacy``  before: a magic number, a version and system information, the object, the storage keys, then the
            raw storages one after another; all pickles in one stream.
``tar``     the first releases: an archive whose members ``storages``, ``tensors`` and ``pickle`` are streams.

In the last two the storages are little endian; a zip archive says what it is. Nothing is believed that the
file's real size contradicts: the storages of a file never take more memory than the file has bytes.
"""
from __future__ import annotations

import io
import mmap
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from tritium.tensor.reader import CheckpointError, Reader
from tritium.tensor.torch_globals import (
    INERT,
    TABLE,
    Storage,
    build,
    new_storage,
    restorer,
    tensor_of,
    view_of,
)
from tritium.tensor.unpickle import Unpickler

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_LEGACY_STARTS = (b"\x80", b"L")  # a binary pickle, or the magic number as text


def read(file: BinaryIO, map_location: Any = None, encoding: str = "utf-8", mapped: bool = False) -> Any:
    """The object in a PyTorch file, from the file's position on.

    ``mapped`` leaves the storages of a zip archive in the file (``file`` is a real file then). Raises
    CheckpointError for anything that is damaged, not a checkpoint, or refused."""
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    head = file.read(512)
    file.seek(start)
    checkpoint = _Checkpoint(map_location, encoding)
    is_zip = head.startswith(b"PK\x03\x04")
    if mapped and not is_zip:
        raise RuntimeError("mmap can only be used with files saved with `tritium.save("
                           "_use_new_zipfile_serialization=True)`, please tritium.save your checkpoint with "
                           "this option in order to use mmap.")
    try:
        if is_zip:
            return checkpoint.zip(file, end, mapped)
        if head[257:262] == b"ustar":
            return checkpoint.tar(file, end)
        if head.startswith(_LEGACY_STARTS):
            return checkpoint.legacy(file, end)
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
        raise CheckpointError(f"damaged checkpoint: {type(error).__name__}: {error}") from error
    if not head:
        raise CheckpointError("the file is empty")
    raise CheckpointError(f"not a PyTorch checkpoint or a safetensors file: it starts with {head[:16]!r}")


class _Checkpoint:
    """What the layouts share: the storages that were met so far, and where they are to go."""

    def __init__(self, map_location: Any, encoding: str) -> None:
        self.restore: Callable[[Storage], Storage] = restorer(map_location)
        self.encoding = encoding
        self.storages: dict[Any, Storage] = {}
        self.objects: dict[int, Any] = {}  # of the tar layout: storages and tensors by number

    def unpickler(self, reader: Reader, persistent: Callable[[Any], Any] | None = None) -> Unpickler:
        return Unpickler(reader, TABLE.get, persistent, build, INERT, self.encoding)

    # --- zip ---

    def zip(self, file: BinaryIO, end: int, mapped: bool) -> Any:
        archive = _Archive(file, end, mapped)
        if "constants.pkl" in archive.members or "model.json" in archive.members:
            raise CheckpointError("this is a TorchScript archive (a program), not a checkpoint: tritium.load "
                                  "reads what torch.save writes. In PyTorch, save "
                                  "torch.jit.load(path).state_dict() instead.")
        if "data.pkl" not in archive.members:
            raise CheckpointError("a zip archive without data.pkl: not a PyTorch checkpoint")
        order = archive.read("byteorder") if "byteorder" in archive.members else b"little"
        if order not in (b"little", b"big"):
            raise CheckpointError(f"Unknown endianness type: {order!r}")
        left = archive.size

        def persistent(saved: Any) -> Storage:
            nonlocal left
            kind, key, location, count = _storage_id(saved, 4)
            storage = self.storages.get(key)
            if storage is None:
                name = f"data/{key}"
                storage = new_storage(kind, count, location, left, archive.mapped(name) if mapped else None)
                left -= storage.nbytes()
                if not mapped:
                    archive.readinto(name, storage.bytes)
                if order.decode() != sys.byteorder:
                    storage.swap_bytes()
                storage.finish()
                storage = self.storages[key] = self.restore(storage)
            return storage

        data = archive.read("data.pkl")
        return self.unpickler(Reader(io.BytesIO(data), len(data)), persistent).load()

    # --- legacy ---

    def legacy(self, file: BinaryIO, end: int) -> Any:
        reader = Reader(file, end)
        if Unpickler(reader).load() != MAGIC:
            raise CheckpointError("Invalid magic number; corrupt file? (a pickle, not of torch.save)")
        version = Unpickler(reader).load()
        if version != PROTOCOL:
            raise CheckpointError(f"Invalid protocol version: {version}")
        Unpickler(reader).load()  # system information, of which nothing is needed
        left = end - reader.tell()

        def persistent(saved: Any) -> Storage:
            nonlocal left
            kind, key, location, count, view = _storage_id(saved, 5)
            storage = self.storages.get(key)
            if storage is None:
                storage = new_storage(kind, count, location, left)
                left -= storage.nbytes()
                storage = self.storages[key] = self.restore(storage)
            return storage if view is None else self._view(storage, *view)

        result = self.unpickler(reader, persistent).load()
        keys = self.unpickler(reader).load()
        if type(keys) is not list:
            raise CheckpointError("damaged checkpoint: the list of storages")
        for key in keys:
            storage = self.storages.get(key) if type(key) in (str, bytes, int) else None
            if storage is None or storage.filled:
                raise CheckpointError(f"damaged checkpoint: storage key {key!r} is not used or appears twice")
            self._fill(reader, storage)
        for key, storage in self.storages.items():
            if not storage.filled:
                raise CheckpointError(f"damaged checkpoint: storage {key!r} is missing")
        file.seek(reader.tell())
        return result

    def _view(self, root: Storage, key: Any, offset: Any, count: Any) -> Storage:
        """A storage that is part of another one."""
        part = Storage(view_of(root, offset, (count,), (1,)).view(np.uint8), root.dtype, root.location)
        part.users = root.users
        part.filled = True
        return part

    def _fill(self, reader: Reader, storage: Storage) -> None:
        """Read a storage: its number of elements, then their bytes."""
        count = _int64(reader)
        if count != storage.size():
            raise CheckpointError(f"storage has wrong byte size: expected {storage.nbytes()} got "
                                  f"{count * storage.dtype.itemsize}")
        reader.readinto(memoryview(storage.bytes))
        if sys.byteorder == "big":
            storage.swap_bytes()
        storage.finish()

    # --- tar ---

    def tar(self, file: BinaryIO, end: int) -> Any:
        members = _tar_members(file, end)
        readers = []
        for name in ("storages", "tensors", "pickle"):
            if name not in members:
                raise CheckpointError(f"a tar archive without the member {name!r}: not a PyTorch checkpoint")
            readers.append(members[name])
        self._tar_storages(_reader(file, *readers[0]))
        self._tar_tensors(_reader(file, *readers[1]))

        def persistent(saved: Any) -> Any:
            if type(saved) not in (str, int):
                raise CheckpointError("the checkpoint holds a whole model; only a state_dict is loaded")
            return self._object(int(saved))

        return self.unpickler(_reader(file, *readers[2]), persistent).load()

    def _object(self, key: Any) -> Any:
        found = self.objects.get(key) if type(key) is int else None
        if found is None:
            raise CheckpointError(f"damaged checkpoint: there is no storage or tensor {key!r}")
        return found

    def _tar_storages(self, reader: Reader) -> None:
        for _ in range(_count(self.unpickler(reader).load())):
            key, location, kind = _triple(self.unpickler(reader).load(check=False))
            position = reader.tell()
            count = _int64(reader)
            storage = new_storage(kind, count, location, reader.end - reader.tell())
            reader.seek(position)
            self._fill(reader, storage)
            self.objects[key] = self.restore(storage)
        views = self.unpickler(reader).load()
        for target, root, offset, count in views if type(views) is list else ():
            storage = self._object(root)
            if type(target) is not int or type(storage) is not Storage:
                raise CheckpointError("damaged checkpoint: a view of a storage")
            self.objects[target] = self._view(storage, target, offset, count)

    def _tar_tensors(self, reader: Reader) -> None:
        for _ in range(_count(self.unpickler(reader).load())):
            key, root, _kind = _triple(self.unpickler(reader).load(check=False))
            ndim = _int64(reader) & 0xFFFFFFFF  # a 32-bit number in the place of a 64-bit one
            reader.check(16 * ndim)
            size = tuple([_int64(reader) for _ in range(ndim)])
            stride = tuple([_int64(reader) for _ in range(ndim)])
            storage = self._object(root)
            self.objects[key] = tensor_of(storage, view_of(storage, _int64(reader), size, stride))


def _storage_id(saved: Any, parts: int) -> Any:
    """The parts of a persistent id: ("storage", kind, key, location, count), and a view in old files."""
    if type(saved) is not tuple or not saved or saved[0] not in ("storage", b"storage"):
        what = saved[0] if type(saved) is tuple and saved and type(saved[0]) is str else type(saved).__name__
        raise CheckpointError(f"the checkpoint refers to data outside the pickle that is no storage: {what}")
    if len(saved) != parts + 1 or type(saved[2]) not in (str, bytes, int):
        raise CheckpointError("damaged checkpoint: a reference to a storage")
    return saved[1:]


def _triple(value: Any) -> Any:
    if type(value) is not tuple or len(value) != 3 or type(value[0]) is not int:
        raise CheckpointError("damaged checkpoint: the description of a storage or tensor")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise CheckpointError("damaged checkpoint: a number of storages or tensors")
    return value


def _int64(reader: Reader) -> int:
    return int.from_bytes(reader.read(8), "little", signed=True)


def _reader(file: BinaryIO, start: int, end: int) -> Reader:
    file.seek(start)
    return Reader(file, end)


# --- archives --------------------------------------------------------------------------------------

class _Archive:
    """A zip archive as PyTorch writes it: nothing compressed, everything in one folder.

    ``members``: the entries by their names inside the folder."""

    def __init__(self, file: BinaryIO, end: int, mapped: bool = False) -> None:
        import struct
        import zipfile

        start = file.tell()
        if start:
            file = io.BytesIO(file.read())
        self.file, self.size = file, end - start
        self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if mapped else None
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError, OverflowError,
                struct.error) as error:
            raise CheckpointError("damaged zip archive (failed finding central directory; truncated, or an "
                                  f"interrupted download?): {error}") from error
        folder = entries[0].filename.partition("/")[0] + "/" if entries else ""
        self.members = {e.filename.removeprefix(folder): e for e in entries if e.filename.startswith(folder)}

    def locate(self, name: str) -> tuple[int, int, int]:
        """Where the bytes of a member begin, how many there are, and their checksum."""
        entry = self.members.get(name)
        if entry is None:
            raise CheckpointError(f"damaged checkpoint: the member {name} is missing")
        if entry.compress_type or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            raise CheckpointError(f"the member {name} is compressed or encrypted, which PyTorch's files "
                                  "never are: unpack the archive and pack it again without compression")
        self.file.seek(entry.header_offset)
        header = self.file.read(30)
        start = entry.header_offset + 30
        if len(header) == 30 and header[:4] == b"PK\x03\x04":
            start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            if start + entry.file_size <= self.size:
                return start, entry.file_size, entry.CRC
        raise CheckpointError(f"damaged zip archive: the member {name} lies outside the file")

    def read(self, name: str) -> bytes:
        start, size, checksum = self.locate(name)
        data = _reader(self.file, start, start + size).read(size)
        _check_sum(name, data, checksum)
        return data

    def mapped(self, name: str) -> Any:
        """The bytes of a member, left in the file: changes stay in memory. No checksum is taken."""
        start, size, _ = self.locate(name)
        return np.frombuffer(self.memory or b"", np.uint8, size, start) if size else np.empty(0, np.uint8)

    def readinto(self, name: str, target: Any) -> None:
        start, size, checksum = self.locate(name)
        if size != target.size:
            raise CheckpointError(f"damaged checkpoint: the member {name} has {size} bytes, its tensors need "
                                  f"{target.size}")
        _reader(self.file, start, start + size).readinto(memoryview(target))
        _check_sum(name, target, checksum)


def _check_sum(name: str, data: Any, checksum: int) -> None:
    # PyTorch can be told to leave the checksums out, and writes zeros then.
    if checksum and zlib.crc32(data) != checksum:
        raise CheckpointError(f"damaged checkpoint: the checksum of the member {name} does not fit its bytes")


def _tar_members(file: BinaryIO, end: int) -> dict[str, tuple[int, int]]:
    """The regular files of a tar archive: name -> (first byte, end)."""
    members: dict[str, tuple[int, int]] = {}
    position = file.tell()
    while position + 512 <= end:
        file.seek(position)
        header = file.read(512)
        if not header.strip(b"\0"):
            break
        position += 512
        digits = header[124:136].strip(b" \0")
        if header[257:262] != b"ustar" or not digits.isdigit() or digits.strip(b"01234567"):
            raise CheckpointError(f"damaged tar archive at byte {position - 512}")
        size = int(digits, 8)
        if position + size > end:
            raise CheckpointError("the file ends too early: a tar archive, truncated")
        if header[156:157] in (b"0", b"\0"):  # others are names and dates
            members[header[:100].rstrip(b"\0").decode("utf-8", "replace")] = (position, position + size)
        position += -(-size // 512) * 512
    return members
