"""Features: what they are, and when they are taken from the disk."""
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tritium
from tritium import models, nn
from tritium.probe import (
    Backbone,
    ProbeError,
    Recipe,
    Settings,
    cached_features,
    digits_data,
    extract_features,
    load_backbone,
    open_data,
    run,
)
from tritium.probe.features import LiveFeatures

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def backbone():
    return load_backbone("resnet18", None, image_size=32)


def get(backbone, images, folder, notes=None, **options):
    return cached_features(backbone, images, digest=backbone.digest(), part="train", folder=str(folder),
                           warn=(notes if notes is not None else []).append, **options)


def same(a, b):
    return a.features.numpy().tobytes() == b.features.numpy().tobytes() and a.labels.tolist() == b.labels.tolist()


def test_extract_features_gives_the_input_of_the_last_layer():
    model = models.resnet18()
    model.train()
    model.layer1.eval()
    images = tritium.randn(5, 3, 32, 32)
    features, labels = extract_features(model, [(image, i) for i, image in enumerate(images)], batch_size=2)
    assert features.shape == (5, 512) and labels.tolist() == [0, 1, 2, 3, 4] and labels.dtype is tritium.int64
    assert not features.requires_grad
    assert model.training and not model.layer1.training and model.bn1.training   # as it was
    assert model.bn1.num_batches_tracked.item() == 0
    assert isinstance(model.fc, nn.Linear)
    model.eval()
    with tritium.no_grad():
        expected = model(images)
    np.testing.assert_allclose(model.fc(features).detach().numpy(), expected.numpy(), atol=1e-5)


def test_extract_features_of_a_model_without_a_last_layer():
    features, _ = extract_features(nn.Flatten(), [(tritium.ones(1, 2, 2), 3)])
    assert features.tolist() == [[1, 1, 1, 1]]


def test_second_time_from_the_disk(backbone, folder, tmp_path):
    images = open_data(folder).train
    first = get(backbone, images, tmp_path / "cache")
    second = get(backbone, images, tmp_path / "cache")
    assert not first.cached and second.cached and same(first, second)
    assert len(os.listdir(tmp_path / "cache")) == 1
    assert same(first, get(backbone, images, tmp_path / "other"))   # computed again: the same bits


def test_every_part_of_the_key_counts(backbone, folder, tmp_path):
    cache = tmp_path / "cache"
    first = get(backbone, open_data(folder).train, cache)
    other = load_backbone("resnet18", None, image_size=32)
    other.body.bn1.running_mean[0] = 1e-3   # one number of one buffer
    assert not get(other, open_data(folder).train, cache).cached
    assert not get(load_backbone("resnet18", None, image_size=33), open_data(folder).train, cache).cached
    assert not get(load_backbone("resnet18", None, image_size=32, resize=40), open_data(folder).train, cache).cached
    assert not get(backbone, open_data(folder).train, cache, batch_size=8).cached
    assert not get(backbone, open_data(folder).val, cache).cached
    path = folder / "train" / "red" / "000.png"
    shutil.copy(folder / "train" / "blue" / "000.png", path)
    changed = get(backbone, open_data(folder).train, cache)
    assert not changed.cached and not same(first, changed)
    path.rename(path.with_name("new.png"))
    assert not get(backbone, open_data(folder).train, cache).cached
    os.utime(path.with_name("new.png"), (1, 1))
    assert not get(backbone, open_data(folder).train, cache).cached
    shutil.move(folder / "train" / "red" / "001.png", folder / "train" / "green" / "red-001.png")
    assert not get(backbone, open_data(folder).train, cache).cached
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert get(backbone, open_data(moved).train, cache).cached   # where the folder is does not matter


def test_arrays_are_told_by_their_content(tmp_path):
    backbone = load_backbone("digits_resnet", "DEFAULT")
    data = digits_data()
    get(backbone, data.val, tmp_path)
    assert get(backbone, digits_data().val, tmp_path).cached
    from tritium.probe.data import DIGITS_TRAINING, _of_arrays
    source = data.val.source
    source.data[1700, 3, 3] += 1
    changed = _of_arrays(source, range(DIGITS_TRAINING, len(source)))
    assert not get(backbone, changed, tmp_path).cached


@pytest.mark.parametrize("damage", ["cut", "bit", "text", "empty", "other key"])
def test_damaged_files_are_computed_again(backbone, folder, tmp_path, damage):
    images, cache, notes = open_data(folder).train, tmp_path / "cache", []
    first = get(backbone, images, cache)
    path, = cache.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-100:]
    elif damage == "bit":
        content[-1000] ^= 1
    elif damage == "text":
        content[:] = b"not safetensors at all"
    elif damage == "empty":
        content.clear()
    else:
        content = content.replace(b"resnet18", b"resnet81")
    path.write_bytes(content)
    again = get(backbone, images, cache, notes)
    assert not again.cached and same(first, again)
    assert len(notes) == 1 and "damaged" in notes[0]
    assert get(backbone, images, cache, notes).cached and len(notes) == 1


def test_a_folder_that_can_not_be_written_is_no_error(backbone, folder, tmp_path):
    (tmp_path / "file").write_text("x")
    notes = []
    found = get(backbone, open_data(folder).train, tmp_path / "file", notes)
    assert len(found) == 36 and "not kept" in notes[0]


@pytest.mark.skipif(os.name == "nt", reason="processes")
def test_two_processes_at_once(folder, tmp_path):
    code = f"""
from tritium.probe import *
backbone, images = load_backbone("resnet18", None, image_size=32), open_data({str(folder)!r}).train
for _ in range(4):
    found = cached_features(backbone, images, digest=backbone.digest(), part="train", folder={str(tmp_path / "c")!r},
                            warn=lambda text: exit(text))
print(found.features.numpy().tobytes().hex()[:4000])
"""
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs[0] == outputs[1] and len(outputs[0]) > 1000
    assert len(os.listdir(tmp_path / "c")) == 1   # no half-written file is left


def test_images_of_different_shapes_are_refused(folder):
    body = Backbone("pixels", nn.Flatten(), 4, "fc", "none", lambda image: tritium.ones(3, image.width, 1))
    from PIL import Image
    Image.new("RGB", (7, 7)).save(folder / "train" / "red" / "odd.png")
    with pytest.raises(ProbeError, match="differ in shape"):
        run(open_data(folder), body)


def test_computed_anew_is_what_is_kept(backbone, folder):
    images = open_data(folder).train
    kept = cached_features(backbone, images, digest="", part="train", batch_size=8)
    live = LiveFeatures(backbone, images)
    positions = tritium.tensor([3, 30, 1])
    features, labels = live.batch(positions)
    np.testing.assert_allclose(features.numpy(), kept.features[positions].numpy(), atol=1e-5)
    assert labels.tolist() == kept.labels[positions].tolist()


def test_no_cache_gives_the_same_accuracy(folder, tmp_path):
    backbone = load_backbone("resnet18", None, image_size=32)
    data, recipe = open_data(folder), Recipe(epochs=4, lr=0.05, batch_size=8)
    kept = run(data, backbone, recipe, Settings(cache=str(tmp_path / "cache")))
    live = run(data, backbone, recipe, Settings(live=True))
    assert live.scores.top1 == kept.scores.top1
    assert (live.scores.confusion == kept.scores.confusion).all()
    np.testing.assert_allclose([row["train_loss"] for row in live.probe.history],
                               [row["train_loss"] for row in kept.probe.history], rtol=1e-4)
    again = run(data, backbone, recipe, Settings(live=True))
    assert again.probe.head.weight.equal(live.probe.head.weight)   # to the last bit


def test_no_cache_on_the_digits():
    backbone, data, recipe = load_backbone("digits_resnet", "DEFAULT"), digits_data(), Recipe(epochs=3, batch_size=64)
    kept, live = run(data, backbone, recipe), run(data, backbone, recipe, Settings(live=True))
    assert abs(live.scores.correct - kept.scores.correct) <= 1   # of 360, where the last bits decide


def test_augmented_features_change_from_epoch_to_epoch(folder):
    backbone, data = load_backbone("resnet18", None, image_size=32), open_data(folder)
    recipe = Recipe(epochs=2, lr=1e-9, momentum=0, batch_size=36, schedule="none")
    results = [run(data, backbone, recipe, Settings(live=True, augment=True)) for _ in range(2)]
    first, second = (row["train_loss"] for row in results[0].probe.history)
    assert first != second
    assert results[0].probe.history == results[1].probe.history
