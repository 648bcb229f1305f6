"""``save`` and ``load``: what is written comes back, files are replaced whole, other types are refused."""
import copy
import gc
import io
import os
import pickle
import pickletools
import struct
import threading
import weakref
import zipfile
from collections import Counter, OrderedDict, defaultdict, namedtuple
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from tritium.tensor import dtype as dtypes
from tritium.tensor.device import device
from tritium.tensor.graph import wrap
from tritium.tensor.parameter import Parameter
from tritium.tensor.reader import CheckpointError
from tritium.tensor.serialization import (
    load,
    load_safetensors,
    safetensors_metadata,
    save,
    save_safetensors,
)
from tritium.tensor.tensor import Size, Tensor

DATA = np.arange(6, dtype=np.float32)


def from_bytes(data, **options):
    return load(io.BytesIO(data), **options)


def save_bytes(obj, **options):
    file = io.BytesIO()
    save(obj, file, **options)
    return file.getvalue()


def same(x, array):
    assert isinstance(x, Tensor)
    np.testing.assert_array_equal(x._a, array)
    assert x._a.dtype == array.dtype


def run_with_small_stack(function):
    """What the function raised or None, in a thread whose stack overflows early."""
    outcome = []

    def body():
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    before = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    return outcome[0]


# --- writing ------------------------------------------------------------


def sample():
    base = wrap(np.arange(24, dtype=np.float32).reshape(4, 6))
    parameter = Parameter(wrap(np.ones((2, 2), np.float32)))
    state = OrderedDict(weight=wrap(np.zeros((3, 2), ml_dtypes.bfloat16)), steps=wrap(np.array(7)))
    state._metadata = OrderedDict({"": {"version": 2}})
    return {
        "state": state, "parameter": parameter, "base": base, "view": wrap(base._a[1:3, ::2]), "again": base,
        "none": None, "flags": (True, False),
        "numbers": [0, -1, 255, 256, 70000, 2**40, -(2**70), 1.5, float("inf"), 1j],
        "text": ["", "ü", "x" * 70000], "bytes": b"\x00\xff", "empty": b"", "array": bytearray(b"ab"),
        "set": {1, "a"},
        "size": Size((2, 3)), "dtype": dtypes.bool_, "place": device("cuda", 1), "counter": Counter("aab"),
        "keys": {1: "a", (1, "b"): 2, None: 3}, "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "empty tensor": wrap(np.empty((0, 3), np.int64)), "scalar": wrap(np.array(True)),
        "complex": wrap(np.array([1 + 2j], np.complex128)),
    }


@pytest.mark.parametrize("new", [True, False])
def test_what_is_saved_comes_back(new, tmp_path):
    path = tmp_path / "all.pt"
    source = sample()
    save(source, path, _use_new_zipfile_serialization=new)
    found = load(path)
    assert list(found) == list(source)
    for key, value in source.items():
        if isinstance(value, Tensor):
            same(found[key], value._a)
        elif key != "state":
            assert found[key] == value and type(found[key]) is type(value), key
    assert type(found["state"]) is OrderedDict and found["state"]._metadata == {"": {"version": 2}}
    same(found["state"]["weight"], source["state"]["weight"]._a)
    assert type(found["parameter"]) is Parameter and found["parameter"].requires_grad
    assert found["again"] is found["base"]
    found["base"]._a[1, 2] = 99
    assert found["view"]._a[0, 1] == 99
    assert found["view"].stride() == (6, 2) and found["view"].storage_offset() == 6
    assert found["size"].numel() == 6 and found["dtype"] is dtypes.bool_


@pytest.mark.parametrize("element", dtypes.ALL, ids=str)
def test_every_dtype_is_saved(element):
    array = (np.arange(12) % 2).astype(element.np).reshape(3, 4)
    for view in (array, array.T, array[1:, ::2], array[2, 3, ...], array[:0]):
        found = from_bytes(save_bytes(wrap(view)))
        same(found, view)
        assert found.dtype is element
        assert view.size < 2 or found._a.strides == view.strides


def test_requires_grad_is_kept():
    x = wrap(DATA.copy())
    x.requires_grad = True
    found = from_bytes(save_bytes([x, wrap(DATA)]))
    assert found[0].requires_grad and found[0].is_leaf and not found[1].requires_grad


@pytest.mark.parametrize("new", [True, False])
def test_loaded_memory_is_freed_by_reference_counting(new):
    data = save_bytes(OrderedDict(a=wrap(DATA.copy())), _use_new_zipfile_serialization=new)
    gc.disable()
    try:
        found = from_bytes(data)
        alive = weakref.ref(found["a"])
        del found
        assert alive() is None
    finally:
        gc.enable()


def test_a_storage_is_written_once_and_aligned():
    array = np.arange(1000, dtype=np.float64)
    data = save_bytes([wrap(array), wrap(array[10:20]), wrap(array[::-1]), wrap(np.ones(3, np.float32))])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {e.filename: e.file_size for e in archive.infolist()}
        assert archive.testzip() is None
        for entry in archive.infolist():
            header = data[entry.header_offset:entry.header_offset + 30]
            start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
            assert start % 64 == 0
        pickletools.dis(archive.read("archive/data.pkl"), io.StringIO())
    # the reversed one cannot be described by PyTorch's strides and is copied
    assert sizes["archive/data/0"] == sizes["archive/data/1"] == 8000 and sizes["archive/data/2"] == 12
    same(from_bytes(data)[2], array[::-1])


def test_memory_from_outside():
    record = np.zeros(4, np.dtype([("a", np.int8), ("b", np.float32)], align=False))
    record["b"] = 3
    grid = np.arange(24.0).reshape(4, 6)[:, 1:4]
    swap = np.ndarray((2, 3), np.float32, bytearray(DATA.tobytes()), strides=(4, 8))
    for array in (record["b"], grid, swap, np.frombuffer(DATA.tobytes(), np.float32),
                  np.broadcast_to(DATA, (3, 6))):
        same(from_bytes(save_bytes(wrap(array))), array)


def test_the_same_memory_as_two_dtypes_is_refused():
    array = np.zeros(4, np.float32)
    with pytest.raises(RuntimeError, match="Cannot save multiple tensors or storages that view the same"):
        save_bytes([wrap(array), wrap(array.view(np.int32))])


def test_saving_twice_gives_the_same_bytes(tmp_path):
    save(sample(), tmp_path / "a.pt")
    save(sample(), tmp_path / "b.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


class Module:
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(("value", "kind"), [
    (lambda x: x, "builtins.function"), (Module(), "Module"), (object(), "builtins.object"),
    (np.float64(1), "numpy.float64"),
    (np.ones(2), "numpy.ndarray"), (defaultdict(list), "collections.defaultdict"), (Point(1, 2), "Point"),
    (SimpleNamespace(), "types.SimpleNamespace"), (frozenset((1,)), "builtins.frozenset"),
    (int, "builtins.type"),
    (range(3), "builtins.range"),
])
def test_other_types_are_refused_with_their_place(value, kind, tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"before")
    with pytest.raises(TypeError) as error:
        save({"a": wrap(DATA), "deep": [0, {"b": (1, value)}]}, path)
    assert "object['deep'][1]['b'][1]" in str(error.value) and kind in str(error.value)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["x.pt"]


def test_hints_and_keys():
    with pytest.raises(TypeError, match=r"state_dict\(\)"):
        save_bytes({"model": Module()})
    with pytest.raises(TypeError, match="its frozenset"):
        save_bytes({frozenset((1,)): 1})
    with pytest.raises(ValueError, match="too large"):
        save_bytes(1 << 5000)


def test_circular_objects():
    outer = [1]
    outer.append(outer)
    found = from_bytes(save_bytes(outer))
    assert found[1] is found
    knot = ([],)
    knot[0].append(knot)
    with pytest.raises(ValueError, match="contains itself"):
        save_bytes(knot)


def test_equal_bytes_that_are_several_objects():
    many = [bytes(bytearray(10_000)) for _ in range(100)]
    assert from_bytes(save_bytes(many)) == many
    assert from_bytes(save_bytes([many[0]] * 100)) == many


def test_deep_objects_are_written_and_read():
    def run():
        deep = []
        for _ in range(50_000):
            deep = [deep]
        found, depth = from_bytes(save_bytes(deep)), 0
        while found:
            found, depth = found[0], depth + 1
        return depth

    assert run_with_small_stack(run) == 50_000


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    save(wrap(DATA), path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(wrap(DATA * 2), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.pt"]


def test_paths(tmp_path):
    with pytest.raises(RuntimeError, match=r"Parent directory .*missing does not exist\."):
        save(1, tmp_path / "missing" / "x.pt")
    with pytest.raises(AttributeError, match="expected 'f' to be string, path, or a file-like object"):
        save(1, 3)
    with pytest.raises(ValueError, match="pickle_protocol"):
        save(1, tmp_path / "x.pt", pickle_protocol=4)
    link, target = tmp_path / "link.pt", tmp_path / "target.pt"
    target.write_bytes(b"old")
    if os.name == "posix":
        target.chmod(0o640)
        link.symlink_to(target)
        save(5, str(link))
        assert link.is_symlink() and load(target) == 5 and target.stat().st_mode & 0o777 == 0o640
    with open(tmp_path / "file.pt", "wb") as file:
        save(6, file)
    assert load(tmp_path / "file.pt") == 6


def test_files_that_cannot_seek():
    class Stream(io.RawIOBase):
        data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    for new in (True, False):
        stream = Stream()
        save({"a": wrap(DATA)}, stream, _use_new_zipfile_serialization=new)
        same(from_bytes(stream.data)["a"], DATA)


def test_mmap(tmp_path):
    path = tmp_path / "w.pt"
    save({"a": wrap(DATA.reshape(2, 3)), "e": wrap(np.empty((0, 2), np.int64))}, path)
    before = path.read_bytes()
    found = load(path, mmap=True)
    same(found["a"], DATA.reshape(2, 3))
    assert found["e"].shape == (0, 2)
    found["a"]._a[:] = 0
    assert path.read_bytes() == before and found["a"]._a.sum() == 0
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "packed.pt", "w") as packed:
        for name in archive.namelist():
            packed.writestr("other/" + name.partition("/")[2], archive.read(name))  # not aligned
    found = load(tmp_path / "packed.pt", mmap=True)["a"]
    same(found, DATA.reshape(2, 3))
    assert found._a.flags.aligned
    with pytest.raises(ValueError, match="f must be a file path in order to use the mmap argument"):
        from_bytes(before, mmap=True)
    save(1, path, _use_new_zipfile_serialization=False)
    with pytest.raises(RuntimeError, match="mmap can only be used with"):
        load(path, mmap=True)


# --- safetensors ------------------------------------------------------------


def test_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    source = {e.name: wrap((np.arange(6) % 2).astype(e.np).reshape(2, 3))
              for e in dtypes.ALL if e.name != "complex128"}
    source |= {"empty": wrap(np.empty((0, 2), np.float32)), "scalar": wrap(np.array(3)),
               "turned": wrap(DATA.reshape(2, 3).T)}
    save_safetensors(source, path, {"format": "pt"})
    assert safetensors_metadata(path) == {"format": "pt"}
    renamed = tmp_path / "w.bin"
    renamed.write_bytes(path.read_bytes())
    for found in (load_safetensors(path), load(path), load(renamed), load(path, map_location="cpu"),
                  load_safetensors(path.open("rb"))):
        assert found.keys() == source.keys()
        for name, x in source.items():
            same(found[name], x._a)
        found["float32"]._a[0, 0] = 9
    buffer = io.BytesIO()
    save_safetensors({"a": wrap(DATA)}, buffer)
    same(from_bytes(buffer.getvalue())["a"], DATA)
    assert os.listdir(tmp_path) == ["w.safetensors", "w.bin"] or len(os.listdir(tmp_path)) == 2


@pytest.mark.cpu_only(reason="files in host memory")
def test_safetensors_errors(tmp_path):
    path = tmp_path / "w.safetensors"
    for bad in ({"a": 1}, {1: wrap(DATA)}):
        with pytest.raises(TypeError, match="string keys"):
            save_safetensors(bad, path)
    with pytest.raises(ValueError, match="complex128"):
        save_safetensors({"a": wrap(np.ones(1, np.complex128))}, path)
    save_safetensors({"a": wrap(DATA)}, path)
    data = path.read_bytes()
    for end in range(0, len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            load(path)
    path.write_bytes(data.replace(b"F32", b"U32"))
    with pytest.raises(CheckpointError, match="'a' is of type U32"):
        load_safetensors(path)
    with pytest.raises(RuntimeError, match="CUDA"):
        path.write_bytes(data)
        load(path, map_location="cuda")


# --- Python's own pickle ------------------------------------------------------------


def test_tensors_can_be_pickled_and_copied():
    x = wrap(np.arange(6, dtype=np.float32).reshape(2, 3))
    x.requires_grad = True
    x.note = "kept"
    for source in (x, Parameter(wrap(DATA.copy())), wrap(np.ones(2, ml_dtypes.bfloat16))):
        for found in (pickle.loads(pickle.dumps(source)), copy.copy(source)):
            assert type(found) is type(source) and found.requires_grad == source.requires_grad
            np.testing.assert_array_equal(found._a, source._a)
            assert found._a.dtype == source._a.dtype
    assert pickle.loads(pickle.dumps(x)).note == "kept"
