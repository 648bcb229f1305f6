"""Checkpoint files made opcode by opcode: the three layouts of PyTorch, what is refused, what damage does.

Nothing here needs PyTorch; tests/parity compares with PyTorch itself.
"""
import contextlib
import io
import pickle
import pickletools
import struct
import sys
import tarfile
import threading
import tracemalloc
import zipfile
from collections import Counter, OrderedDict

import ml_dtypes
import numpy as np
import pytest

from tritium.tensor import dtype as dtypes
from tritium.tensor.device import device
from tritium.tensor.parameter import Parameter
from tritium.tensor.reader import CheckpointError, Reader
from tritium.tensor.serialization import load
from tritium.tensor.tensor import Size, Tensor
from tritium.tensor.torch_files import MAGIC
from tritium.tensor.unpickle import Unpickler

# --- files, by hand ------------------------------------------------------------


def g(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def s(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def i(number):
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


def t(*items):
    return b"(" + b"".join(items) + b"t"


def call(name, *args):
    return g(name) + t(*args) + b"R"


def ints(values):
    return t(*[i(v) for v in values])


def odict(**items):
    return g("collections.OrderedDict") + b")R(" + b"".join(s(k) + v for k, v in items.items()) + b"u"


def document(body, protocol=2):
    return b"\x80" + bytes([protocol]) + body + b"."


def storage(key="0", count=6, kind="torch.FloatStorage", place="cpu", view=None):
    more = () if view is None else (view,)
    return t(s("storage"), g(kind), s(key), s(place), i(count), *more) + b"Q"


def tensor(shape=(2, 3), stride=(3, 1), offset=0, grad=b"\x89", **options):
    return call("torch._utils._rebuild_tensor_v2", storage(**options), i(offset), ints(shape), ints(stride),
                grad,
                odict())


DATA = np.arange(6, dtype=np.float32)


def zip_bytes(body, members=None, byteorder=b"little", **extra):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", document(body))
        if byteorder:
            archive.writestr("archive/byteorder", byteorder)
        for name, data in ({"0": DATA.tobytes()} if members is None else members).items():
            archive.writestr(f"archive/data/{name}", data)
        archive.writestr("archive/version", b"3\n")
        for name, data in extra.items():
            archive.writestr("archive/" + name.replace("_pkl", ".pkl"), data)
    return file.getvalue()


def legacy_bytes(body, storages=None, keys=None):
    storages = {"0": DATA} if storages is None else storages
    header = [pickle.dumps(part, 2) for part in (MAGIC, 1001, {"little_endian": True})]
    data = [struct.pack("<q", a.size) + a.tobytes() for a in storages.values()]
    return b"".join([*header, document(body), pickle.dumps(list(storages) if keys is None else keys, 2),
                     *data])


def tar_bytes(body, views=(), tensors=((2, 1, (2, 3), (3, 1), 0),)):
    storages = (pickle.dumps(1, 2) + document(t(i(1), s("cpu"), g("torch.FloatStorage")))
                + struct.pack("<q", DATA.size) + DATA.tobytes() + pickle.dumps(list(views), 2))
    parts = [pickle.dumps(len(tensors), 2)]
    for key, root, shape, stride, offset in tensors:
        parts.append(document(t(i(key), i(root), g("torch.FloatTensor"))))
        parts.append(struct.pack(f"<q{2 * len(shape) + 1}q", len(shape), *shape, *stride, offset))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("storages", storages), ("tensors", b"".join(parts)), ("pickle", document(body))):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1.5  # a fraction needs an extended header
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def from_bytes(data, **options):
    return load(io.BytesIO(data), **options)


def unpickle(data):
    return Unpickler(Reader(io.BytesIO(data), len(data))).load()


def same(x, array):
    assert isinstance(x, Tensor)
    np.testing.assert_array_equal(x._a, array)
    assert x._a.dtype == array.dtype


LAYOUTS = {
    "zip": lambda: zip_bytes(odict(a=tensor())),
    "legacy": lambda: legacy_bytes(odict(a=tensor(view=b"N"))),
    "tar": lambda: tar_bytes(odict(a=s("2") + b"Q")),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)

# --- reading ------------------------------------------------------------


@layouts
def test_every_layout_is_read_from_paths_and_files(layout, tmp_path):
    data = LAYOUTS[layout]()
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    for source in (path, str(path), io.BytesIO(data), path.open("rb")):
        found = load(source)
        assert type(found) is OrderedDict and list(found) == ["a"]
        same(found["a"], DATA.reshape(2, 3))
        assert not found["a"].requires_grad
        found["a"]._a[0, 0] = 5  # the memory belongs to the tensor
        if hasattr(source, "close"):
            source.close()


@layouts
def test_two_tensors_over_one_storage_share_memory(layout):
    if layout == "tar":
        body = odict(a=s("2") + b"Q", b=s("3") + b"Q")
        data = tar_bytes(body, tensors=((2, 1, (2, 3), (3, 1), 0), (3, 1, (3,), (2,), 1)))
    else:
        view = {"view": b"N"} if layout == "legacy" else {}
        body = odict(a=tensor(**view), b=tensor((3,), (2,), 1, **view))
        data = zip_bytes(body) if layout == "zip" else legacy_bytes(body)
    found = from_bytes(data)
    same(found["b"], DATA[1::2])
    found["a"]._a[0, 1] = 70
    assert found["b"]._a[0] == 70
    assert found["b"].storage_offset() == 1 and found["b"].stride() == (2,)
    assert found["a"]._vc.memory is found["b"]._vc.memory and found["a"]._vc.shared
    assert found["a"]._vc is not found["b"]._vc


def test_views_of_storages():
    # PyTorch before 0.4 knew storages that are part of another one
    view = t(s("part"), i(2), i(3))
    found = from_bytes(legacy_bytes(odict(a=tensor(view=b"N"), b=tensor((3,), (1,), view=view))))
    same(found["b"], DATA[2:5])
    found["a"]._a[0, 2] = 9
    assert found["b"]._a[0] == 9
    data = tar_bytes(s("2") + b"Q", views=[(7, 1, 1, 4)], tensors=((2, 7, (2, 2), (2, 1), 0),))
    same(from_bytes(data), DATA[1:5].reshape(2, 2))
    with pytest.raises(CheckpointError, match="out of bounds"):
        from_bytes(tar_bytes(s("2") + b"Q", views=[(7, 1, 1, 6)]))


KINDS = {"Double": np.float64, "Float": np.float32, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16,
         "Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8,
         "Bool": np.bool_,
         "ComplexFloat": np.complex64, "ComplexDouble": np.complex128}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_all_dtypes_in_both_byte_orders(kind, byteorder):
    array = (np.arange(6) - 2).astype(np.int8).astype(KINDS[kind]).reshape(3, 2)
    data = array.tobytes()
    if byteorder != sys.byteorder:
        width = array.itemsize // (2 if array.dtype.kind == "c" else 1)
        data = np.frombuffer(data, np.uint8).reshape(-1, width)[:, ::-1].tobytes()
    body = tensor((3, 2), (2, 1), kind=f"torch.{kind}Storage")
    same(from_bytes(zip_bytes(body, {"0": data}, byteorder.encode())), array)


def test_an_archive_without_a_byte_order_is_little_endian():
    same(from_bytes(zip_bytes(tensor(), byteorder=b"")), DATA.reshape(2, 3))
    with pytest.raises(CheckpointError, match="Unknown endianness type"):
        from_bytes(zip_bytes(tensor(), byteorder=b"middle"))


def test_truth_values_are_made_zero_or_one():
    found = from_bytes(zip_bytes(tensor((4,), (1,), kind="torch.BoolStorage", count=4), {"0": b"\0\1\2\xff"}))
    assert found._a.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_untyped_storages_and_later_rebuild_functions():
    body = call("torch._utils._rebuild_tensor_v3", storage(kind="torch.storage.UntypedStorage", count=24),
                i(1),
                ints((2,)), ints((2,)), b"\x88", odict(), g("torch.float32"))
    found = from_bytes(zip_bytes(body))
    same(found, DATA[1:5:2])
    assert found.requires_grad
    for name in ("torch.uint16", "torch.float8_e4m3fn"):
        with pytest.raises(CheckpointError, match=name):
            from_bytes(zip_bytes(body.replace(b"float32", name[6:].encode())))


def test_conjugates_are_taken():
    array = np.array([1 + 2j, 3 - 1j], np.complex64)
    body = call("torch._utils._rebuild_tensor_v2", storage(kind="torch.ComplexFloatStorage", count=2), i(0),
                ints((2,)), ints((1,)), b"\x89", odict(), b"}" + s("conj") + b"\x88s")
    same(from_bytes(zip_bytes(body, {"0": array.tobytes()})), array.conj())
    with pytest.raises(CheckpointError, match="other"):
        from_bytes(zip_bytes(body.replace(s("conj"), s("other")), {"0": array.tobytes()}))


def test_parameters_of_all_ages():
    five = t(tensor(), b"N", odict(), b"\x88", b"\x89")
    three = t(b"\x88", b"\x89", odict())
    parameter = g("torch.nn.parameter.Parameter")
    bodies = {
        "today": call("torch._utils._rebuild_parameter", tensor(), b"\x88", odict()),
        "with attributes": call("torch._utils._rebuild_parameter_with_state", tensor(), b"\x88", odict(),
                                b"}" + s("tag") + i(3) + b"s"),
        "0.4": call("torch.nn.parameter.Parameter", tensor(), b"\x88"),
        "0.2": parameter + t(tensor()) + b"R" + three + b"b",
        "0.2, NEWOBJ": parameter + t(tensor()) + b"\x81" + three + b"b",
        "0.1": parameter + b")\x81" + five + b"b",
        "0.1, text protocol": (call("copy_reg._reconstructor", parameter, g("__builtin__.object"), b"N")
                               + five + b"b"),
        "0.1, __newobj__": call("copy_reg.__newobj__", parameter) + five + b"b",
    }
    for name, body in bodies.items():
        found = from_bytes(zip_bytes(body))
        assert type(found) is Parameter and found.requires_grad and found.is_leaf, name
        np.testing.assert_array_equal(found._a, DATA.reshape(2, 3))
        assert name != "with attributes" or found.tag == 3
    frozen = from_bytes(zip_bytes(call("torch._utils._rebuild_parameter", tensor(), b"\x89", odict())))
    assert type(frozen) is Parameter and not frozen.requires_grad


def test_an_unfinished_parameter_is_finished_wherever_it_is_remembered():
    five = t(tensor(), b"N", odict(), b"\x88", b"\x89")
    body = g("torch.nn.parameter.Parameter") + b")\x81q\x05" + five + b"b" + b"h\x05\x86"
    first, second = from_bytes(zip_bytes(body))
    assert first is second and type(first) is Parameter
    leaked = b"]" + g("torch.nn.parameter.Parameter") + b")\x81q\x05ah\x05" + five + b"b0"
    with pytest.raises(CheckpointError):
        from_bytes(zip_bytes(leaked))


def test_tensors_of_the_first_releases():
    body = call("torch.FloatTensor") + t(storage(), i(1), ints((2,)), ints((3,))) + b"b"
    same(from_bytes(zip_bytes(body)), DATA[[1, 4]])
    body = g("torch.cuda.FloatTensor") + b")\x81" + t(storage(), i(0), ints(()), ints(())) + b"b"
    same(from_bytes(zip_bytes(body)), DATA[0].reshape(()))


def test_tensors_with_attributes_and_their_limits():
    def body(name):
        inner = t(storage(), i(0), ints((6,)), ints((1,)), b"\x89", odict())
        return call("torch._tensor._rebuild_from_type_v2", g("torch._utils._rebuild_tensor_v2"),
                    g("torch.Tensor"),
                    inner, b"}" + s(name) + i(1) + b"s")

    assert from_bytes(zip_bytes(body("note"))).note == 1
    for name in ("_a", "backward", "__class__", "_rg"):
        with pytest.raises(CheckpointError, match=name):
            from_bytes(zip_bytes(body(name)))


def test_the_attributes_of_a_state_dict():
    versions = odict(fc=b"}" + s("version") + i(1) + b"s")
    found = from_bytes(zip_bytes(odict(a=tensor()) + b"}" + s("_metadata") + versions + b"sb"))
    assert found._metadata == {"fc": {"version": 1}}
    with pytest.raises(CheckpointError, match="items"):
        from_bytes(zip_bytes(odict(a=tensor()) + b"}" + s("items") + i(1) + b"sb"))


def test_values_without_tensors():
    body = odict(size=call("torch.Size", ints((2, 3))), place=call("torch.device", s("cuda"), i(1)),
                 kind=g("torch.bfloat16"), layout=call("torch.serialization._get_layout", s("torch.strided")))
    found = from_bytes(zip_bytes(body, {}))
    assert type(found["size"]) is Size and found["size"] == (2, 3)
    assert found["place"] == device("cuda", 1) and found["kind"] is dtypes.bfloat16
    assert str(found["layout"]) == "tritium.strided"


VALUES = [None, True, False, 0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**63, -(2**64), 10**50, 1.5,
          float("inf"),
          "", "abc", "ü\n'", "x" * 300, b"", b"\x00\xff", b"y" * 300, (), (1,), (1, 2), (1, 2, 3),
          (1, 2, 3, 4), [],
          [1, [2, []]], {}, {"a": {1: (2.0, None)}, True: b"z"}, {1, 2}, set(), frozenset({1, "a"}), 1 + 2j,
          bytearray(b"abc"), OrderedDict(a=1), Counter("aab"), {(1, "a"): 2, None: 3, 1.5: 4, b"k": 5},
          list(range(2000)), {str(n): n for n in range(2000)}]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_in_every_protocol(protocol):
    for value in VALUES:
        if protocol < 2 and isinstance(value, (set, frozenset, bytearray)):
            continue  # written as a reconstruction from a list, which only later protocols do without classes
        found = unpickle(pickle.dumps(value, protocol))
        assert found == value and type(found) is type(value), value


def test_shared_and_circular_containers():
    inner = [1]
    outer = {"a": inner, "b": inner}
    outer["self"] = outer
    found = unpickle(pickle.dumps(outer, 2))
    assert found["a"] is found["b"] and found["self"] is found


def test_rare_opcodes():
    assert unpickle(b"(I1\nF2.5\nL3L\nS'a\\x62'\nVz\\u00e9\nI01\nNl.") == [1, 2.5, 3, "ab", "zé", True, None]
    assert unpickle(b"(S'k'\nI1\nd.") == {"k": 1}
    assert unpickle(b"I5\np7\n0g7\n.") == 5
    assert unpickle(b"(I1\n(I2\nI3\n1I4\n2l.") == [1, 4, 4]
    assert unpickle(b"(I1\n0I2\nt.") == (2,)
    assert unpickle(b"(icollections\nOrderedDict\n.") == OrderedDict()
    assert unpickle(b"(ccollections\nOrderedDict\no.") == OrderedDict()
    assert unpickle(b"U\x02\xc3\xbcT\x01\x00\x00\x00a\x86.") == ("ü", "a")
    assert Unpickler(Reader(io.BytesIO(b"U\x01\xff."), 4), encoding="bytes").load() == b"\xff"
    assert Unpickler(Reader(io.BytesIO(b"U\x01\xff."), 4), encoding="latin1").load() == "ÿ"


def test_all_opcodes_are_known():
    from tritium.tensor.opcodes import STEPS, STOP

    for opcode in pickletools.opcodes:
        assert STEPS[ord(opcode.code)] is not None or ord(opcode.code) == STOP, opcode.name


def test_consecutive_legacy_files_in_one_stream():
    file = io.BytesIO(LAYOUTS["legacy"]() * 2)
    same(load(file)["a"], DATA.reshape(2, 3))
    same(load(file)["a"], DATA.reshape(2, 3))
    assert file.read() == b""


def test_an_archive_behind_other_bytes():
    file = io.BytesIO(b"front" + LAYOUTS["zip"]())
    file.seek(5)
    same(load(file)["a"], DATA.reshape(2, 3))

# --- where tensors go ------------------------------------------------------------


@pytest.mark.cpu_only(reason="there is a device")
def test_map_location():
    on_gpu = zip_bytes(tensor(place="cuda:0"))
    message = r"Attempting to deserialize object on a CUDA device but tritium.cuda.is_available\(\) is False"
    with pytest.raises(RuntimeError, match=message):
        from_bytes(on_gpu)
    for place in ("cpu", b"cpu", device("cpu"), device("cpu", 0), {"cuda:0": "cpu"},
                  {"cuda:0": device("cpu")},
                  lambda storage, location: storage, lambda storage, location: storage.cpu()):
        found = from_bytes(on_gpu, map_location=place)
        same(found, DATA.reshape(2, 3))
        assert found.device == device("cpu")
    with pytest.raises(RuntimeError, match=message):
        from_bytes(on_gpu, map_location={"cuda:1": "cpu"})
    for place in (lambda storage, location: None, lambda storage, location: storage.cuda(), "cuda",
                  device("cuda:1")):
        with pytest.raises(RuntimeError, match=message):
            from_bytes(on_gpu, map_location=place)
    with pytest.raises(RuntimeError, match=r"don't know how to restore data location of .*tagged with mps"):
        from_bytes(zip_bytes(tensor(place="mps")))


def test_map_location_functions():
    seen = []

    def place(storage, location):
        seen.append((location, storage.nbytes(), storage.dtype, storage.device))

    from_bytes(zip_bytes(odict(a=tensor(), b=tensor())), map_location=place)
    assert seen == [("cpu", 24, dtypes.float32, device("cpu"))]
    with pytest.raises(TypeError, match="map_location"):
        from_bytes(zip_bytes(tensor()), map_location=3)
    with pytest.raises(RuntimeError, match="must return the storage or None, not int"):
        from_bytes(zip_bytes(tensor()), map_location=lambda storage, location: 3)
    with pytest.raises(RuntimeError, match="map_location failed .* KeyError"):
        from_bytes(zip_bytes(tensor()), map_location=lambda storage, location: {}["x"])


# --- what is refused ------------------------------------------------------------

REFUSED = ["os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr",
           "builtins.__import__",
           "subprocess.Popen", "numpy.load", "numpy.core.multiarray._reconstruct",
           "numpy.core.multiarray.scalar",
           "numpy.testing._private.utils.runstring", "torch.load", "torch.jit.load", "torch.hub.load",
           "torch.nn.modules.linear.Linear", "torch.storage._load_from_bytes",
           "torch._utils._import_dotted_name",
           "torchvision.models.resnet.ResNet", "collections.defaultdict", "functools.partial",
           "operator.attrgetter",
           "builtins.type", "builtins.object.__subclasses__", "__main__.Thing", "tritium.tensor.files.atomic",
           "collections.OrderedDict.fromkeys", "torch.FloatStorage.from_file", "torch.FooStorage",
           "copyreg.add_extension"]


@pytest.mark.parametrize("name", REFUSED)
def test_other_names_are_refused_by_name(name, tmp_path):
    module, _, last = name.rpartition(".")
    bodies = [call(name, s("true")), g(name) + b")\x81", s(module) + s(last) + b"\x93)R"]
    if name.count(".") == 1:
        bodies.append(b"(" + s("true") + b"i" + name.replace(".", "\n").encode() + b"\n")
    for body in bodies:
        for data in (zip_bytes(body), legacy_bytes(body), tar_bytes(body)):
            for weights_only in (True, False, None):
                with pytest.raises(CheckpointError) as error:
                    from_bytes(data, weights_only=weights_only)
                assert f"Unsupported global: GLOBAL {name} was not an allowed global" in str(error.value)
                assert isinstance(error.value, pickle.UnpicklingError)


def test_nothing_that_a_file_names_is_imported():
    before = set(sys.modules)
    for name in ("this.that", "antigravity.fly", "lib2to3.main.main"):
        with pytest.raises(CheckpointError, match=name):
            from_bytes(zip_bytes(call(name)))
    assert not {m for m in set(sys.modules) - before if m.split(".")[0] in ("this", "antigravity", "lib2to3")}


def test_pythons_unpickler_is_not_used(monkeypatch):
    def no(*args, **kwargs):
        raise AssertionError("pickle was asked")

    for name in ("Unpickler", "_Unpickler", "load", "loads", "_loads", "_load"):
        monkeypatch.setattr(pickle, name, no)
    for data in [make() for make in LAYOUTS.values()]:
        same(from_bytes(data)["a"], DATA.reshape(2, 3))


UNSUPPORTED = {
    "quantised": call("torch._utils._rebuild_qtensor", b"N"),
    "sparse": call("torch._utils._rebuild_sparse_tensor", b"N"),
    "nested": call("torch._utils._rebuild_nested_tensor", b"N"),
    "meta": call("torch._utils._rebuild_meta_tensor_no_storage", b"N"),
    "torch.QInt8Storage": tensor(kind="torch.QInt8Storage"),
    "TypedStorage": call("torch.storage.TypedStorage", b"N"),
    "a storage without a tensor": b"]" + storage() + b"a",
    "as a value": b"]" + g("collections.OrderedDict") + b"a",
    "layout torch.sparse_coo": call("torch.serialization._get_layout", s("torch.sparse_coo")),
    "not supported: Expected one of cpu, cuda": call("torch.device", s("xla")),
    "torch.FloatStorage": call("torch.FloatStorage", i(10**12)),
    "no storage: module": t(s("module"), b"N", b"N", b"N") + b"Q",
    "tensor subclasses": call("torch._utils._rebuild_wrapper_subclass"),
    "class torch.nn.Linear": call("torch._tensor._rebuild_from_type_v2", b"N", s("x"), b"N", b"N"),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_unsupported_things_are_named(what):
    name = "holds a tensor of class x" if "Linear" in what else what
    with pytest.raises(CheckpointError, match=name):
        from_bytes(zip_bytes(UNSUPPORTED[what]))


def test_other_files_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="TorchScript"):
        from_bytes(zip_bytes(tensor(), constants_pkl=b"x"))
    npz = io.BytesIO()
    np.savez(npz, a=DATA)
    for data, message in ((npz.getvalue(), "data.pkl"), (b"", "empty"),
                          (b"<!DOCTYPE html>", "not a PyTorch checkpoint"),
                          (pickle.dumps({"a": 1}), "Invalid magic number"), (b"\x80\x04", "too early"),
                          (b"version https://git-lfs", "not a PyTorch checkpoint")):
        with pytest.raises(CheckpointError, match=message):
            from_bytes(data)
    path = tmp_path / "some name.pth"
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot load '.*some name.pth'"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pth")


def test_bad_arguments():
    with pytest.raises(AttributeError, match="seekable"):
        load(3)
    with pytest.raises(TypeError, match="binary"):
        load(io.StringIO("x"))

    class Pipe(io.RawIOBase):
        def tell(self):
            raise io.UnsupportedOperation("tell")

    with pytest.raises(io.UnsupportedOperation, match="seekable"):
        load(Pipe())
    with pytest.raises(RuntimeError, match="pickle_module"):
        from_bytes(LAYOUTS["zip"](), pickle_module=pickle)


# --- damage ------------------------------------------------------------


@layouts
def test_a_truncated_file_is_an_error_wherever_it_ends(layout):
    data = LAYOUTS[layout]()
    full = {"zip": len(data), "legacy": len(data), "tar": data.rindex(b"a") - 512}[layout]
    for end in range(full):
        with pytest.raises(CheckpointError):
            from_bytes(data[:end])


@layouts
def test_a_flipped_bit_gives_an_error_or_an_object(layout):
    data = LAYOUTS[layout]()
    for position in range(len(data)):
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            try:
                from_bytes(bytes(damaged), map_location="cpu")
            except RuntimeError:  # CheckpointError is one
                pass


def test_a_flipped_bit_in_the_data_of_an_archive_is_seen():
    data = LAYOUTS["zip"]()
    damaged = bytearray(data)
    damaged[data.index(DATA.tobytes()) + 3] ^= 4
    with pytest.raises(CheckpointError, match="checksum of the member data/0"):
        from_bytes(bytes(damaged))


def test_random_programs_give_an_error_or_an_object():
    random = np.random.RandomState(0)
    codes = b"".join(o.code.encode("latin1") for o in pickletools.opcodes)
    names = [g(n) for n in ("collections.OrderedDict", "torch._utils._rebuild_tensor_v2",
                            "torch.FloatStorage",
                            "torch.nn.parameter.Parameter", "builtins.set", "torch.Size", "_codecs.encode",
                            "torch.FloatTensor", "collections.Counter", "torch.float32",
                            "copyreg.__newobj__")]
    pieces = [bytes([c]) for c in codes.replace(b".", b"") + b"()tRbN0" * 4] + names * 3
    pieces += [s("cpu"), s("storage"), i(2), i(-1), storage(), tensor(), odict(), ints((2, 3))] * 3
    good = 0
    for _ in range(4000):
        body = b"".join(pieces[n] for n in random.randint(len(pieces), size=random.randint(1, 14)))
        try:
            from_bytes(zip_bytes(body))
            good += 1
        except RuntimeError:
            pass
    assert good > 10


HOSTILE = [
    tensor(count=10**15), tensor(count=2**62), tensor(count=-1), tensor(shape=(2**31, 2**31)),
    tensor(offset=1),
    tensor(stride=(4, 1)), tensor(stride=(-3, 1)), tensor(offset=-1), tensor(shape=(2, 3, 1)),
    tensor(shape=(-2, -3)),
    tensor(shape=(2**62, 2), stride=(0, 0)), tensor(shape=(0, 2**62), stride=(1, 1)), tensor(offset=2**63),
    tensor(shape=(1,) * 65, stride=(1,) * 65), tensor(stride=(2**60, 1)), tensor(key="1"), tensor(count=5),
    tensor(kind="torch.DoubleStorage"), tensor(grad=b"N"),
    tensor(kind="torch.LongStorage", count=3, grad=b"\x88"),
    tensor(place="\0"), call("builtins.bytearray", i(10**12)), call("builtins.set", i(5)),
    b"\x8b" + struct.pack("<i", 2**31 - 1) + b"1", b"X" + struct.pack("<I", 2**32 - 1), b"\x8d" + b"\xff" * 8,
    b"\x95" + b"\xff" * 8 + b"N", b"I" + b"9" * 5000 + b"\n", b"B\xff\xff\xff\x7f", b"T\xff\xff\xff\xff",
    b"h\x05", b"R", b"(", b"t", b"N]", b"", b"}(Ne", b"}]Ns", b"}N", b"\x80\x06N", b"\xff",
    b"}" + b"c" + b"a" * 100, tensor(shape=(1,) * 50_000, stride=(1,) * 50_000),
    tensor().replace(ints((2, 3)), t(*[b"\x8b" + struct.pack("<i", 300_000) + b"\x7f" * 300_000] * 2)),
    call("torch.device", s("cuda"), i(10**9)), call("torch.Size", ints((-1,))),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_claims(number):
    data = zip_bytes(HOSTILE[number])
    tracemalloc.start()
    try:
        with pytest.raises(RuntimeError):
            from_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_storages_that_share_bytes_do_not_multiply_them():
    body = b"(" + b"".join(tensor((6,), (1,), key=str(n)) for n in range(200)) + b"l"
    file = io.BytesIO(zip_bytes(body, {str(n): DATA.tobytes() for n in range(200)}))
    assert len(load(file)) == 200
    many = b"(" + b"".join(tensor((2500,), (1,), key=str(n), count=2500) for n in range(50)) + b"l"
    data = bytearray(zip_bytes(many, {"0": np.zeros(2500, np.float32).tobytes()}))
    directory = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x01\x02"))
    entry = bytes(data[directory:data.index(b"PK\x01\x02", directory + 4)])
    more = b"".join(entry.replace(b"data/0", b"data/%d" % n).replace(struct.pack("<H", 14), struct.pack(
        "<H", 14 + (n > 9)), 1) for n in range(1, 50))
    end = data.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", data[end + 16:end + 20])[0]
    count = struct.unpack("<H", data[end + 10:end + 12])[0] + 49
    data[end + 8:end + 20] = struct.pack("<HHII", count, count, end - start + len(more), start)
    data[end:end] = more
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.infolist()) == count
    with pytest.raises(CheckpointError, match="bytes left"):
        from_bytes(bytes(data))


def test_copies_are_paid_from_a_budget():
    text = s("x" * 100_000) + b"q\x01" + s("latin1") + b"q\x0200"
    bomb = text + b"(" + (g("_codecs.encode") + b"h\x01h\x02\x86R") * 1000 + b"l"
    with pytest.raises(CheckpointError, match="copies more data"):
        unpickle(document(bomb))
    items = b"(" + i(1) * 20_000 + b"lq\x010"
    with pytest.raises(CheckpointError, match="copies more data"):
        unpickle(document(items + b"(" + (g("builtins.set") + b"h\x01\x85R") * 1000 + b"l"))


def test_keys_that_hash_slowly_are_refused():
    deep = b"N" + b"\x85" * 100_000
    doubling = b"N" + b"2\x86" * 60
    big = i(2**61 - 1)
    equal_hashes = [t(*[i(-1 - (n >> k & 1)) for k in range(14)]) + b"N" for n in range(12_000)]
    collide = b"(" + b"".join(equal_hashes) + b"d"
    for body in (b"}" + deep + b"Ns", b"}" + doubling + b"Ns", b"}" + big + b"Ns", collide,
                 b"}" + call("builtins.complex", i(1), i(2)) + b"Ns", b"}]Ns", b"\x8f(]\x90",
                 b"}" + t(b"]") + b"Ns"):
        with pytest.raises(CheckpointError):
            unpickle(document(body))
    many = {("a", str(n)): n for n in range(11_000)}
    assert unpickle(pickle.dumps(many, 2)) == many


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


def test_deep_nesting_does_not_overflow_the_stack():
    def run():
        for body in (b"]" * 200_000 + b"a" * 199_999, b"N" + b"\x85" * 200_000,
                     b"}N" * 100_000 + b"N" + b"s" * 100_000, g("collections.OrderedDict") + b")RN" * 1,
                     (g("collections.OrderedDict") + b")RN") * 20_000 + b"N" + b"s" * 20_000):
            with contextlib.suppress(CheckpointError):
                unpickle(document(body))

    assert run_with_small_stack(run) is None


def test_too_many_open_brackets():
    with pytest.raises(CheckpointError, match="nested too deeply"):
        unpickle(document(b"(" * 20_000 + b"l" * 20_000))


def test_damaged_legacy_storages():
    body = odict(a=tensor(view=b"N"))
    for keys, storages in (([], {"0": DATA}), (["0", "0"], {"0": DATA, "1": DATA}), (["1"], {"1": DATA}),
                           (["0"], {"0": DATA[:3]}), (5, {"0": DATA}), ([["0"]], {"0": DATA})):
        with pytest.raises(CheckpointError):
            from_bytes(legacy_bytes(body, storages, keys))
    huge = legacy_bytes(odict(a=tensor(view=b"N", count=10**12)))
    with pytest.raises(CheckpointError, match="bytes left"):
        from_bytes(huge)


def test_damaged_tar_tensors():
    body = s("2") + b"Q"
    for tensors in (((2, 1, (2, 3), (4, 1), 0),), ((2, 1, (2, 3), (3, 1), 1),), ((2, 9, (1,), (1,), 0),),
                    ((2, 1, (-1,), (1,), 0),), ((3, 1, (1,), (1,), 0),)):
        with pytest.raises(CheckpointError):
            from_bytes(tar_bytes(body, tensors=tensors))
