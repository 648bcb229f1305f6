"""What is found in a folder, and how it is divided."""
import os
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from tritium.probe import ProbeError, digits_data, open_data


def test_train_and_val(folder):
    data = open_data(folder)
    assert data.classes == ["blue", "green", "red"] and (len(data.train), len(data.val)) == (36, 15)
    assert data.val.targets == [0] * 5 + [1] * 5 + [2] * 5
    assert data.train.name(12).endswith(os.path.join("train", "green", "000.png"))
    assert data.train.image(0, "RGB").mode == "RGB" and data.train.image(0, "L").mode == "L"


@pytest.mark.parametrize("name", ["valid", "validation", "test"])
def test_other_names_of_the_validation_folder(folder, name):
    (folder / "val").rename(folder / name)
    assert len(open_data(folder).val) == 15


def test_nested_images_and_other_files(folder):
    inside = folder / "train" / "red" / "more" / "still more"
    inside.mkdir(parents=True)
    Image.new("L", (5, 9)).save(inside / "grey.JPG", "jpeg")
    (inside / "list.txt").write_text("not an image")
    data = open_data(folder)
    assert len(data.train) == 37 and data.train.image(36, "RGB").mode == "RGB"


def test_division_depends_on_the_names_alone(folder, tmp_path):
    data = open_data(folder / "train", 0.25)
    assert (len(data.train), len(data.val)) == (27, 9)
    assert np.bincount(data.val.targets).tolist() == [3, 3, 3]
    names = {os.path.relpath(data.val.name(i), folder / "train") for i in range(9)}
    assert not names & {os.path.relpath(data.train.name(i), folder / "train") for i in range(27)}
    moved = open_data((folder / "train").rename(tmp_path / "moved"), 0.25)
    assert {os.path.relpath(moved.val.name(i), tmp_path / "moved") for i in range(9)} == names
    Image.new("RGB", (8, 8)).save(tmp_path / "moved" / "red" / "another.png")
    more = open_data(tmp_path / "moved", 0.25)
    after = {os.path.relpath(more.val.name(i), tmp_path / "moved") for i in range(9)}
    assert len(names - after) <= 1   # a new image moves at most one other
    assert "25% of each class" in more.notes[0]


def test_at_least_one_image_on_either_side(folder):
    tiny = open_data(folder / "train", 1e-6)
    assert np.bincount(tiny.val.targets).tolist() == [1, 1, 1]
    most = open_data(folder / "train", 1 - 1e-6)
    assert np.bincount(most.train.targets).tolist() == [1, 1, 1]
    for image in list((folder / "train" / "red").iterdir())[1:]:
        image.unlink()
    with pytest.raises(ProbeError, match="class red .* has 1 image: it can not be divided"):
        open_data(folder / "train")


def test_train_without_val_is_explained(folder):
    (folder / "val").rename(folder.parent / "elsewhere")
    with pytest.raises(ProbeError, match=r"has 1 class \(train\): at least 2 are needed \(is .*val missing\?\)"):
        open_data(folder)


def test_several_empty_classes(folder):
    for name in ("a", "b"):
        (folder / "val" / name).mkdir()
    with pytest.raises(ProbeError, match="classes a, b have no images in .*val"):
        open_data(folder)


def test_error_messages_are_one_line():
    assert "\n" not in str(ProbeError("a\n\tb")) and str(ProbeError("a\n\tb")) == "a b"


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("inside", ["", "MNIST/raw"])
@pytest.mark.parametrize("above", [0, 1])
def test_mnist_files(tmp_path, inside, above):
    raw = tmp_path / inside
    random = np.random.RandomState(0)
    for part, count in (("train", 30), ("t10k", 10)):
        write_idx(raw / f"{part}-images-idx3-ubyte", random.randint(0, 256, (count, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    data = open_data(raw if above and inside else tmp_path)
    assert data.kind == "MNIST" and len(data.classes) == 10 and (len(data.train), len(data.val)) == (30, 10)
    assert data.train.image(3, "RGB").size == (28, 28) and data.train.targets[3] == 3
    assert data.train.name(3) == "image 3"
    write_idx(raw / "t10k-labels-idx1-ubyte", np.zeros(10))
    with pytest.raises(ProbeError, match="has no images in the validation part of MNIST"):
        open_data(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"torn")
    with pytest.raises(ProbeError, match="t10k-labels"):
        open_data(tmp_path)


@pytest.mark.parametrize("above", [0, 1])
def test_cifar_files(tmp_path, above):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        pixels = np.random.RandomState(seed).randint(0, 256, (10, 3072)).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}, protocol=2))
    classes = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}, protocol=2))
    data = open_data(tmp_path if above else folder)
    assert data.kind == "CIFAR10" and data.classes == classes and (len(data.train), len(data.val)) == (50, 10)
    assert data.val.image(9, "RGB").size == (32, 32)
    (folder / "data_batch_3").unlink()
    with pytest.raises(ProbeError, match="data_batch_3"):
        open_data(tmp_path)


def test_digits():
    data = digits_data()
    assert (len(data.train), len(data.val), len(data.classes)) == (1437, 360, 10)
    assert not set(data.train.indices) & set(data.val.indices)
    assert data.train.image(0, "L").size == (8, 8) and min(np.bincount(data.val.targets)) >= 33
