"""Image folders, IDX and CIFAR files, the digits that come with the package. All files are written by the tests."""
import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tritium
from tritium.data.datasets import (
    CIFAR10,
    CIFAR100,
    MNIST,
    DatasetFolder,
    Digits,
    FashionMNIST,
    ImageFolder,
    UnreadableImage,
    read_idx,
)
from tritium.data.transforms import Compose, ToTensor


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, files in (("cat", ("b.png", "a.JPG", "notes.txt")), ("dog", ("deep/er/c.png", "d.bmp"))):
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".txt":
                path.write_text("no image")
            else:
                Image.fromarray(rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)).save(path)
    (tmp_path / "README").write_text("not a class")
    return tmp_path


def test_image_folder(folder):
    images = ImageFolder(str(folder))
    assert images.classes == ["cat", "dog"] and images.class_to_idx == {"cat": 0, "dog": 1}
    assert [(p[len(str(folder)) + 1:], c) for p, c in images.samples] == [
        ("cat/a.JPG", 0), ("cat/b.png", 0), ("dog/d.bmp", 1), ("dog/deep/er/c.png", 1)]
    assert images.targets == [0, 0, 1, 1] and images.imgs is images.samples and len(images) == 4
    image, target = images[3]
    assert image.mode == "RGB" and image.size == (7, 5) and target == 1
    tensor, target = ImageFolder(folder, transform=ToTensor(), target_transform=lambda t: t + 10)[0]
    assert tensor.shape == (3, 5, 7) and target == 10


def test_image_folder_prints_itself(folder):
    assert repr(ImageFolder(str(folder))) == (
        f"Dataset ImageFolder\n    Number of datapoints: 4\n    Root location: {folder}")
    assert repr(ImageFolder(str(folder), Compose([ToTensor()]))) == (
        f"Dataset ImageFolder\n    Number of datapoints: 4\n    Root location: {folder}\n    StandardTransform\n"
        "Transform: Compose(\n               ToTensor()\n           )")


def test_classes_without_images(folder, tmp_path_factory):
    (folder / "bird").mkdir()
    (folder / "ant").mkdir()
    with pytest.raises(FileNotFoundError, match="Found no valid file for the classes ant, bird. Supported extensions "
                                                "are: .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp"):
        ImageFolder(folder)
    images = ImageFolder(folder, allow_empty=True)
    assert images.classes == ["ant", "bird", "cat", "dog"] and images.targets == [2, 2, 3, 3]
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(FileNotFoundError, match=f"Couldn't find any class folder in {empty}."):
        ImageFolder(empty)
    with pytest.raises(FileNotFoundError):
        ImageFolder(empty / "nowhere")


def test_other_files(folder):
    texts = DatasetFolder(folder, lambda p: Path(p).read_bytes()[:4], extensions=(".txt", ".bmp"))
    assert texts[0] == (b"no i", 0) and texts[1][0][:2] == b"BM"
    images = ImageFolder(folder, is_valid_file=lambda p: p.endswith(("b.png", "c.png")))
    assert images.targets == [0, 1]
    with pytest.raises(ValueError, match="Both extensions and is_valid_file cannot be None or not None at"):
        DatasetFolder(folder, open)


def test_unreadable_images_are_named(folder):
    whole = (folder / "cat" / "b.png").read_bytes()
    bad = {"text.png": b"no image at all", "empty.jpg": b"", "cut.png": whole[:-40], "flipped.png":
           whole[:50] + bytes(b ^ 255 for b in whole[50:-20]) + whole[-20:]}
    for name, data in bad.items():
        (folder / "dog" / name).write_bytes(data)
    images = ImageFolder(folder)
    failed = []
    for i in range(len(images)):
        try:
            images[i]
        except UnreadableImage as error:
            assert error.path == images.samples[i][0] and error.path in str(error)
            assert isinstance(error, OSError)
            again = pickle.loads(pickle.dumps(error))
            assert (again.path, str(again)) == (error.path, str(error))
            failed.append(error.path.rpartition("/")[2])
    assert sorted(failed) == sorted(bad)
    (folder / "dog" / "text.png").unlink()
    with pytest.raises(FileNotFoundError):
        [images[i] for i in range(len(images)) if images.samples[i][0].endswith("text.png")]


# --- IDX ----------------------------------------------------------------------------------------

def idx(array, code=0x08):
    array = np.asarray(array)
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(("code", "dtype"), [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"),
                                             (0x0E, ">f8")])
def test_read_idx(tmp_path, code, dtype):
    array = (np.arange(24).reshape(2, 3, 4) * 5).astype(dtype)
    for name, data in (("plain", idx(array, code)), ("packed.gz", gzip.compress(idx(array, code)))):
        (tmp_path / name).write_bytes(data)
        found = read_idx(tmp_path / name)
        assert found.dtype == np.dtype(dtype).newbyteorder("=") and found.dtype.isnative
        np.testing.assert_array_equal(found, array)


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(("data", "text"), [
    (b"", "is no IDX file"),
    (b"\1" + GOOD[1:], "is no IDX file: it begins with the bytes 01 00 08 02"),
    (GOOD[:2] + b"\x07" + GOOD[3:], "is no IDX file"),
    (GOOD[:3] + b"\0" + GOOD[4:], "it claims 0 dimensions"),
    (GOOD[:3] + b"\xff" + GOOD[4:], "it claims 255 dimensions"),
    (GOOD[:9], "it ends inside of its header"),
    (GOOD[:-1], r"its header \[2, 3\] announces 6 bytes of data, and it has 5"),
    (GOOD + b"\0", "announces 6 bytes of data, and it has more"),
    (GOOD[:4] + b"\xff" * 8 + GOOD[12:], "announces 18446744065119617025 bytes of data, and it has 6"),
    (gzip.compress(GOOD)[:-9], "is damaged"),
    (gzip.compress(GOOD)[:10] + b"\xff\xff" + gzip.compress(GOOD)[12:], "is damaged"),
])
def test_read_idx_refuses(tmp_path, data, text):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=text) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_mnist(tmp_path, kind):
    raw = tmp_path / kind.__name__ / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8), np.array([3, 1, 4, 1, 5], np.uint8)
    (raw / "train-images-idx3-ubyte").write_bytes(idx(images))
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    data = kind(tmp_path)
    assert data.data.shape == (5, 28, 28) and data.data.dtype is tritium.uint8
    assert data.targets.tolist() == [3, 1, 4, 1, 5] and len(data) == 5
    image, label = data[2]
    assert image.mode == "L" and label == 4 and type(label) is int
    np.testing.assert_array_equal(np.asarray(image), images[2])
    assert "Split: Train" in repr(data) and list(data.class_to_idx.values()) == list(range(10))
    with pytest.raises(RuntimeError, match="there is no t10k-images-idx3-ubyte .* in .*raw"):
        kind(tmp_path, train=False)
    with pytest.raises(NotImplementedError, match="Downloading data sets is not available"):
        kind(tmp_path, train=False, download=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    for wrong in (labels[:4], np.array([1, 2, 3, 4, 10], np.uint8)):
        (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(wrong))
        with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte"):
            kind(tmp_path, train=False)


# --- CIFAR: pickles as Python 2 wrote them ---------------------------------------------------------

def string(data):
    """A Python 2 str."""
    return b"T" + struct.pack("<i", len(data)) + data


def array(data, kind=b"u1", module=b"numpy.core.multiarray", function=b"_reconstruct"):
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in data.shape) + b"t"
    flags = b"J\xff\xff\xff\xff"
    dtype = (b"cnumpy\ndtype\n(" + string(kind) + b"K\0K\1tR(K\x03" + string(b"|") + b"NNN" + flags + flags + b"K\0tb")
    return (b"c" + module + b"\n" + function + b"\n(cnumpy\nndarray\n(K\0t" + string(b"b") + b"tR(K\1" + shape + dtype
            + b"\x89" + string(data.tobytes()) + b"tb")


def numbers(values):
    return b"](" + b"".join(b"K" + bytes([v]) for v in values) + b"e"


def batch(images, labels, key=b"labels"):
    return b"\x80\x02}(" + string(b"data") + array(images) + string(key) + numbers(labels) + b"u."


def meta(names, key):
    return b"\x80\x02}(" + string(key) + b"](" + b"".join(map(string, names)) + b"eu."


@pytest.fixture
def cifar(tmp_path):
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    rng = np.random.default_rng(0)
    everything = rng.integers(0, 256, (6, 2, 3072), dtype=np.uint8)
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        (base / name).write_bytes(batch(everything[i], [i, 9 - i]))
    (base / "batches.meta").write_bytes(meta([b"class%d" % i for i in range(10)], b"label_names"))
    return base, everything


def test_cifar10(cifar):
    base, everything = cifar
    data = CIFAR10(base.parent)
    assert len(data) == 10 and data.targets == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert data.classes[3] == "class3" and data.class_to_idx["class3"] == 3
    image, label = data[3]
    assert image.mode == "RGB" and image.size == (32, 32) and label == 8
    np.testing.assert_array_equal(np.asarray(image), everything[1, 1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert data.data.shape == (10, 32, 32, 3)
    test = CIFAR10(base.parent, train=False, transform=ToTensor())
    assert len(test) == 2 and test[0][0].shape == (3, 32, 32) and "Split: Test" in repr(test)


def test_cifar_as_python_3_would_write_it(cifar):
    base, everything = cifar
    for protocol in (2, 4):
        (base / "test_batch").write_bytes(pickle.dumps({b"data": everything[5], b"labels": [1, 2]}, protocol))
        data = CIFAR10(base.parent, train=False)
        np.testing.assert_array_equal(data.data[1], everything[5, 1].reshape(3, 32, 32).transpose(1, 2, 0))


def test_cifar100(tmp_path):
    base = tmp_path / "cifar-100-python"
    base.mkdir()
    images = np.arange(6144, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    (base / "train").write_bytes(batch(images, [99, 0], b"fine_labels"))
    (base / "meta").write_bytes(meta([b"c%d" % i for i in range(100)], b"fine_label_names"))
    data = CIFAR100(tmp_path)
    assert data.targets == [99, 0] and len(data.classes) == 100
    with pytest.raises(RuntimeError, match="Dataset not found or corrupted: there is no test in"):
        CIFAR100(tmp_path, train=False)
    with pytest.raises(NotImplementedError, match="Downloading"):
        CIFAR100(tmp_path, train=False, download=True)


def test_cifar_never_runs_what_a_file_names(cifar):
    base, everything = cifar
    good = batch(everything[5], [1, 2])
    for data, text in (
            (b"\x80\x02cos\nsystem\n(U\x04truetR.", "os.system"),
            (b"\x80\x02cnumpy\nload\n(U\x01atR.", "numpy.load"),
            (good.replace(b"_reconstruct", b"frombuffer  "[:12]), "frombuffer"),
            (good[:-50], "test_batch"),
            (b"\x80\x02]." , "it holds a list"),
            (batch(everything[5][:, :3000], [1, 2]), "it has no images"),
            (batch(everything[5], [1]), "it has no list of labels"),
            (batch(everything[5], [1, 77]), "it has no list of labels"),
            (b"\x80\x02}(" + string(b"data") + array(everything[5], b"O8") + b"u.", "array of 'O8'"),
            (b"\x80\x02}(" + string(b"data") + array(everything[5]).replace(b"J\x02\0\0\0", b"J\xff\xff\xff\x7f")
             + b"u.", "an array of shape")):
        (base / "test_batch").write_bytes(data)
        with pytest.raises(RuntimeError, match=text) as caught:
            CIFAR10(base.parent, train=False)
        assert "test_batch" in str(caught.value)


# --- digits -------------------------------------------------------------------------------------

def test_digits():
    digits = Digits()
    assert len(digits) == 1797 and digits.data.shape == (1797, 8, 8) and digits.data.dtype is tritium.uint8
    assert digits.data.max().item() == 16 and digits.data.min().item() == 0
    assert np.bincount(digits.targets.numpy()).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    image, label = digits[0]
    assert image.mode == "L" and image.size == (8, 8) and label == 0 and type(label) is int
    assert image.getextrema() == (0, 239)
    tensor, _ = Digits(transform=ToTensor())[5]
    assert tensor.shape == (1, 8, 8) and tensor.dtype is tritium.float32
    assert repr(digits).startswith("Dataset Digits\n    Number of datapoints: 1797")
