"""``weights=``: names, paths, and where files are looked for."""
import hashlib
import re

import pytest

import tritium
from tritium import models
from tritium.models import MobileNet_V2_Weights, ResNet18_Weights, ResNet50_Weights
from tritium.models.weights import read_checkpoint
from tritium.tensor.serialization import save_safetensors

pytestmark = pytest.mark.cpu_only(reason="files and their names")


@pytest.fixture(scope="module")
def state():
    tritium.manual_seed(11)
    return models.resnet18().state_dict()


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Two empty homes: $TRITIUM_HOME and $TORCH_HOME."""
    for name in ("TRITIUM_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("tritium.hub._chosen", None)
    for name in ("TRITIUM_HOME", "TORCH_HOME"):
        (tmp_path / name / "hub" / "checkpoints").mkdir(parents=True)
    return [tmp_path / name / "hub" / "checkpoints" for name in ("TRITIUM_HOME", "TORCH_HOME")]


def holds(model, state):
    return all(value.equal(state[name]) for name, value in model.state_dict().items())


ALL = [member for name in models.list_models() if name != "digits_resnet" for member in models.get_model_weights(name)]


@pytest.mark.parametrize("weights", ALL, ids=repr)
def test_published_weights(weights):
    assert re.fullmatch(r"https://download\.pytorch\.org/models/[a-z0-9_]+-[0-9a-f]{8}\.pth", weights.url)
    assert weights.meta["num_classes"] == 1000 and 60 < weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] < 83
    text = repr(weights.transforms())
    assert f"Resize(size={232 if weights.name.endswith('V2') else 256}" in text
    assert "CenterCrop(size=(224, 224))" in text
    assert "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)" in text


def test_members():
    assert ResNet18_Weights.DEFAULT is ResNet18_Weights.IMAGENET1K_V1
    assert ResNet50_Weights.DEFAULT is ResNet50_Weights.IMAGENET1K_V2
    assert MobileNet_V2_Weights.DEFAULT.url.endswith("mobilenet_v2-7ebf99e0.pth")
    assert repr(ResNet18_Weights.DEFAULT) == str(ResNet18_Weights.DEFAULT) == "ResNet18_Weights.IMAGENET1K_V1"
    assert ResNet18_Weights.verify("ResNet18_Weights.DEFAULT") is ResNet18_Weights.verify("IMAGENET1K_V1")
    assert len({member.url for member in ALL}) == len(ALL)


@pytest.mark.parametrize("folder", [0, 1])
@pytest.mark.parametrize("file", ["resnet18-f37072fd.pth", "resnet18-5c106cde.pth"])
def test_where_files_are_looked_for(homes, state, folder, file):
    tritium.save(state, homes[folder] / file)
    assert holds(models.resnet18(weights="IMAGENET1K_V1"), state)


@pytest.mark.parametrize("options", [{"weights": "IMAGENET1K_V1"}, {"weights": ResNet18_Weights.DEFAULT},
                                     {"weights": "ResNet18_Weights.DEFAULT"}, {"pretrained": True}, {"weights": True},
                                     {"pretrained": True, "progress": False}], ids=str)
def test_names_that_mean_the_same(homes, state, options):
    tritium.save(state, homes[0] / "resnet18-f37072fd.pth")
    assert holds(models.resnet18(**options), state)


def test_none_of_them_means_random(state):
    for options in ({}, {"weights": None}, {"pretrained": False}, {"weights": False}):
        assert not holds(models.resnet18(**options), state)


def test_paths(tmp_path, state, monkeypatch):
    tritium.save(state, tmp_path / "a.pth")
    save_safetensors(state, tmp_path / "a.safetensors")
    tritium.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "b.tar")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "a.pth", str(tmp_path / "a.safetensors"), tmp_path / "b.tar", "a.pth"):
        assert holds(models.resnet18(weights=path), state)


def test_errors(tmp_path, homes, state):
    with pytest.raises(ValueError, match="unknown weights 'IMAGENET': ResNet18_Weights has 'IMAGENET1K_V1', 'DEFAULT'"):
        models.resnet18(weights="IMAGENET")
    with pytest.raises(ValueError, match="ResNet50_Weights.DEFAULT"):
        models.resnet18(weights="ResNet50_Weights.DEFAULT")
    with pytest.raises(TypeError, match="expected ResNet18_Weights but received ResNet50_Weights"):
        models.resnet18(weights=ResNet50_Weights.DEFAULT)
    with pytest.raises(ValueError, match="'num_classes' expected value 1000 but got 10 instead"):
        models.resnet18(weights="DEFAULT", num_classes=10)
    with pytest.raises(FileNotFoundError, match="missing.pth"):
        models.resnet18(weights=tmp_path / "missing.pth")
    tritium.save(state, tmp_path / "a.pth")
    with pytest.raises(RuntimeError, match="size mismatch for fc.weight"):
        models.resnet18(weights=tmp_path / "a.pth", num_classes=10)
    with pytest.raises(RuntimeError, match="layer1.0.conv3.weight"):
        models.resnet50(weights=tmp_path / "a.pth")
    tritium.save([1], tmp_path / "list.pth")
    with pytest.raises(RuntimeError, match="holds no state dict but an object of type list"):
        read_checkpoint(tmp_path / "list.pth")


def test_download(homes, state, monkeypatch, tmp_path):
    """Where the file is not in a cache it is downloaded into the first one, and its hash is checked."""
    tritium.save(state, tmp_path / "published.pth")
    content = (tmp_path / "published.pth").read_bytes()
    asked = []

    class Answer:
        headers = {"Content-Length": str(len(content))}

        def __init__(self, url):
            asked.append(url)
            self.rest = content

        def read(self, count):
            piece, self.rest = self.rest[:count], self.rest[count:]
            return piece

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr("tritium.hub._open", Answer)
    with pytest.raises(RuntimeError, match="invalid hash value"):
        models.resnet18(weights="DEFAULT", progress=False)
    assert not list(homes[0].iterdir())
    right = hashlib.sha256(content).hexdigest()[:8]
    from tritium.models.weights import Weights
    url = f"https://example.org/resnet18-{right}.pth"
    monkeypatch.setattr(ResNet18_Weights.DEFAULT, "_value_", Weights(url))
    assert holds(models.resnet18(weights="DEFAULT", progress=False), state)
    assert asked[-1] == url and [file.name for file in homes[0].iterdir()] == [f"resnet18-{right}.pth"]
    asked.clear()
    assert holds(models.resnet18(weights="DEFAULT"), state) and not asked


def test_the_digits_come_with_their_weights():
    model = models.digits_resnet(weights="DEFAULT")
    assert model.fc.out_features == 40
    again = models.digits_resnet(pretrained=True)
    assert holds(again, model.state_dict())
    from tritium.models.digits import PATH
    assert PATH.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="'num_classes' expected value 40 but got 10"):
        models.digits_resnet(weights="DIGITS04_V1", num_classes=10)
