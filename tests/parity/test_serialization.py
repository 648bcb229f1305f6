"""Checkpoints against PyTorch: each reads what the other wrote (PyTorch with weights_only=True)."""
import io
import pickle
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tritium
from tritium.tensor.parameter import Parameter

pytestmark = pytest.mark.cpu_only(reason="files that PyTorch without cuda can read")

torch = pytest.importorskip("torch")

NAMES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
         "complex64", "complex128")
both_layouts = pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])


def from_torch(obj, **options):
    file = io.BytesIO()
    torch.save(obj, file, **options)
    file.seek(0)
    return tritium.load(file)


def to_torch(obj, **options):
    file = io.BytesIO()
    tritium.save(obj, file, **options)
    file.seek(0)
    return torch.load(file, weights_only=True)


def numpy_of(x):
    """The values of a tensor of either framework, comparable bit by bit."""
    if isinstance(x, torch.Tensor):
        x = x.detach()
        return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()
    array = x.detach().numpy()
    return array.view(np.uint16) if x.dtype is tritium.bfloat16 else array


def check(a, b):
    """The same tensor in both frameworks: values, dtype, strides, offset, requires_grad and storage size."""
    assert str(a.dtype).rpartition(".")[2] == str(b.dtype).rpartition(".")[2]
    assert a.shape == b.shape
    np.testing.assert_array_equal(numpy_of(a), numpy_of(b))
    assert a.requires_grad == b.requires_grad
    if a.numel():
        assert a.stride() == b.stride() and a.storage_offset() == b.storage_offset()
        assert a.untyped_storage().nbytes() == b.untyped_storage().nbytes()


@both_layouts
@pytest.mark.parametrize("name", NAMES)
def test_dtypes_and_views(name, new):
    def views(lib):
        x = (lib.arange(24) - 3).to(getattr(lib, name)).reshape(4, 6)
        y = lib.arange(5).to(getattr(lib, name))
        return [x, x.t(), x[1:3, ::2], x[2, 3], x[:0], y, y.expand(3, 5),
                lib.zeros(0, dtype=getattr(lib, name))]

    theirs, ours = views(torch), views(tritium)
    for a, b in zip(theirs, ours, strict=True):
        check(a, b)
    pairs = [(theirs, from_torch(theirs, _use_new_zipfile_serialization=new)),
             (to_torch(ours, _use_new_zipfile_serialization=new), ours)]
    for left, right in pairs:
        for a, b in zip(left, right, strict=True):
            check(a, b)


@both_layouts
def test_aliasing_survives_both_ways(new):
    x = torch.arange(12.0).reshape(3, 4)
    a, b, c = from_torch([x, x[1], x], _use_new_zipfile_serialization=new)
    a[1, 0] = 50
    assert b[0].item() == 50 and c is a
    p, q, r = to_torch([a, b, a], _use_new_zipfile_serialization=new)
    p[1, 1] = 60
    assert q[:2].tolist() == [50, 60] and r is p
    with tritium.no_grad():
        a.mul_(0)
    assert b.sum().item() == 0


def model(lib):
    nn = lib.nn
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3, bias=False), norm=nn.BatchNorm2d(4),
                                     fc=nn.Linear(4, 2)))


@both_layouts
def test_a_state_dict_and_its_metadata(new):
    source = model(torch).state_dict()
    found = from_torch(source, _use_new_zipfile_serialization=new)
    assert type(found) is OrderedDict and found._metadata == source._metadata
    for name, x in source.items():
        check(x, found[name])
    again = to_torch(found, _use_new_zipfile_serialization=new)
    assert type(again) is OrderedDict and again._metadata == source._metadata
    target = model(torch)
    target.load_state_dict(again)
    for name, x in target.state_dict().items():
        check(x, found[name])


def test_our_modules_state_goes_into_theirs_and_back():
    ours, theirs = model(tritium), model(torch)
    theirs.load_state_dict(to_torch(ours.state_dict()))
    other = model(tritium)
    other.load_state_dict(from_torch(theirs.state_dict()))
    for name, x in other.state_dict().items():
        np.testing.assert_array_equal(x.numpy(), ours.state_dict()[name].numpy())


def test_optimizer_state():
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    source = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": 0.5}
    found = from_torch(source)
    assert found["epoch"] == 3 and found["optimizer"]["param_groups"] == source["optimizer"]["param_groups"]
    check(source["optimizer"]["state"][0]["exp_avg"], found["optimizer"]["state"][0]["exp_avg"])
    again = to_torch(found)
    optimizer.load_state_dict(again["optimizer"])
    assert again["optimizer"]["state"][1]["step"].item() == 1


@both_layouts
def test_parameters(new):
    p = torch.nn.Parameter(torch.ones(2, 3))
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    p.note = "kept"
    leaf = torch.ones(2, requires_grad=True)
    found = from_torch([p, frozen, leaf], _use_new_zipfile_serialization=new)
    for a, b in zip([p, frozen, leaf], found, strict=True):
        check(a, b)
    assert [type(x).__name__ for x in found] == ["Parameter", "Parameter", "Tensor"]
    assert isinstance(found[0], Parameter) and found[0].note == "kept"
    again = to_torch(found, _use_new_zipfile_serialization=new)
    assert [type(x) for x in again] == [torch.nn.Parameter, torch.nn.Parameter, torch.Tensor]
    for a, b in zip(again, found, strict=True):
        check(a, b)


def translate(value):
    """A value of tritium as PyTorch would give it."""
    if isinstance(value, tritium.Size):
        return torch.Size(value)
    if isinstance(value, tritium.dtype):
        return getattr(torch, str(value).rpartition(".")[2])
    if isinstance(value, tritium.device):
        return torch.device(str(value))
    if isinstance(value, tuple):
        return tuple(translate(v) for v in value)
    if isinstance(value, list):
        return [translate(v) for v in value]
    if isinstance(value, dict):
        pairs = [(translate(k), translate(v)) for k, v in value.items()]
        return Counter(dict(pairs)) if type(value) is Counter else type(value)(pairs)
    return value


def kinds(value):
    """The types in a value: True and 1 are equal, and so are a dict and an OrderedDict."""
    if isinstance(value, dict):
        return type(value), [(kinds(k), kinds(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [kinds(v) for v in value]
    return type(value)


LEAVES = [None, True, False, "", "text", "ü\ud800", b"", b"\x00\xff", bytearray(b"ab"), 1.5, float("inf"),
          2 + 3j,
          tritium.Size((2, 3)), tritium.Size(()), tritium.float32, tritium.bool, tritium.device("cpu"),
          tritium.device("cuda", 1)]
keys = st.one_of(st.text(max_size=3), st.integers(-(2**40), 2**40), st.booleans(), st.none(),
                 st.tuples(st.text(max_size=2), st.integers(-5, 5)))
values = st.recursive(
    st.one_of(st.sampled_from(LEAVES), st.integers(-(2**80), 2**80), st.floats(allow_nan=False),
              st.text(max_size=5), st.binary(max_size=300), st.sets(st.integers(-3, 70000), max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
        st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=3).map(Counter)),
    max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(values, st.booleans())
def test_plain_objects_both_ways(value, new):
    expected = translate(value)
    found = to_torch(value, _use_new_zipfile_serialization=new)
    assert found == expected and kinds(found) == kinds(expected)
    back = from_torch(expected, _use_new_zipfile_serialization=new)
    assert back == value and kinds(back) == kinds(value)


def test_the_archive_is_laid_out_as_pytorchs(tmp_path):
    ours, theirs = io.BytesIO(), io.BytesIO()
    tritium.save([tritium.arange(100), tritium.ones(3)], ours)
    torch.save([torch.arange(100), torch.ones(3)], theirs)
    with zipfile.ZipFile(ours) as a, zipfile.ZipFile(theirs) as b:
        for name in ("byteorder", "version", "data/0", "data/1"):
            assert a.read("archive/" + name) == b.read("archive/" + name)
    path = tmp_path / "x.pt"
    path.write_bytes(ours.getvalue())
    mapped = torch.load(path, mmap=True, weights_only=True)
    assert mapped[0].data_ptr() % 64 == 0
    assert mapped[0].tolist() == list(range(100)) and mapped[1].tolist() == [1, 1, 1]


def test_options_of_pytorchs_writer(tmp_path):
    path = tmp_path / "x.pt"
    x = torch.arange(5.0)
    torch.save({"x": x}, path)
    check(x, tritium.load(path)["x"])
    check(x, tritium.load(path, mmap=True)["x"])
    torch.serialization.set_crc32_options(False)
    try:
        check(x, from_torch(x))
    finally:
        torch.serialization.set_crc32_options(True)
    check(x, from_torch(x, _disable_byteorder_record=True))
    for protocol in (2, 3, 4, 5):
        for new in (True, False):
            check(x, from_torch(x, pickle_protocol=protocol, _use_new_zipfile_serialization=new))


def test_conjugates_and_negatives():
    x = torch.tensor([1 + 2j, 3 - 1j])
    np.testing.assert_array_equal(from_torch(x.conj()).numpy(), x.conj().resolve_conj().numpy())
    y = x.conj().imag
    assert y.is_neg()
    np.testing.assert_array_equal(from_torch(y).numpy(), y.resolve_neg().numpy())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_has_no_place_here_is_refused_by_name():
    refused = [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "QInt8Storage|quantised"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.ones(2, device="meta"), "meta"),
        (torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.ones(2, dtype=torch.uint16), "uint16"),
        (torch.ones(2).untyped_storage(), "storage"),
        (np.float64(1.0), "numpy.*scalar"),
        (np.ones(2), "numpy.*_reconstruct"),
        (torch.Generator, "torch._C.Generator"),
    ]
    for new in (True, False):
        for value, words in refused:
            with pytest.raises(pickle.UnpicklingError, match=words):
                from_torch(value, _use_new_zipfile_serialization=new)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    file.seek(0)
    with pytest.raises(RuntimeError, match="TorchScript"):
        tritium.load(file)


def test_the_same_words_for_the_same_mistakes(tmp_path):
    on_gpu = io.BytesIO()
    tritium.save(tritium.ones(2), on_gpu)
    data = on_gpu.getvalue().replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00xla")
    cases = [
        lambda lib: lib.load(io.BytesIO(data)),
        lambda lib: lib.load(io.BytesIO(on_gpu.getvalue()), map_location="cuda"),
        lambda lib: lib.load(io.BytesIO(on_gpu.getvalue()), mmap=True),
        lambda lib: lib.load(3),
        lambda lib: lib.load(tmp_path / "missing.pt"),
        lambda lib: lib.save(1, tmp_path / "missing" / "x.pt"),
        lambda lib: lib.save(1, 3),
    ]
    for number, case in enumerate(cases):
        with pytest.raises(Exception) as theirs:  # noqa: B017, PT011
            case(torch)
        with pytest.raises(type(theirs.value)) as ours:
            case(tritium)
        if number:  # the second half of the first message names a class
            # the beginning of the message is PyTorch's, with the name exchanged
            assert str(ours.value)[:60] == str(theirs.value).replace("torch.", "tritium.")[:60]


@both_layouts
def test_load_state_of_a_damaged_file_never_differs_silently(new):
    """One flipped bit: this reader raises, or gives what PyTorch gives."""
    file = io.BytesIO()
    torch.save({"a": torch.arange(3.0), "n": 5}, file, _use_new_zipfile_serialization=new)
    data = file.getvalue()
    random = np.random.RandomState(0)
    for position in random.randint(len(data), size=150):
        damaged = bytearray(data)
        damaged[position] ^= 1 << random.randint(8)
        try:
            ours = tritium.load(io.BytesIO(damaged))
        except RuntimeError:
            continue
        try:
            theirs = torch.load(io.BytesIO(damaged), weights_only=True)
        except Exception:  # noqa: BLE001  it reads numbers that are not needed here
            continue
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            if isinstance(value, torch.Tensor):
                np.testing.assert_array_equal(numpy_of(value), numpy_of(ours[key]))
            else:
                assert value == ours[key]
