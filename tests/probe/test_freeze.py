"""Freezing, and the place of the last layer."""
import copy
import pickle

import pytest

import tritium
from tritium import models, nn, optim
from tritium.probe import freeze, head_name, replace_head, unfreeze, without_head


def statistics(model):
    return {name: value.clone() for name, value in model.named_buffers()}


def moved(model, before):
    return [name for name, value in model.named_buffers() if not value.equal(before[name])]


@pytest.fixture
def model():
    tritium.manual_seed(0)
    return models.digits_resnet(num_classes=10)


def test_only_the_exception_learns(model):
    assert freeze(model, except_="fc") is model
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    model.train()
    assert model.training and model.fc.training
    assert not model.bn1.training and not model.layer2[0].bn2.training and not model.layer1.training
    before, weights = statistics(model), {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(tritium.randn(4, 1, 8, 8)), tritium.tensor([1, 2, 3, 4]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.train()
    assert moved(model, before) == []
    changed = [name for name, p in model.named_parameters() if not p.detach().equal(weights[name])]
    assert changed == ["fc.weight", "fc.bias"]


def test_without_freezing_the_statistics_move(model):
    for parameter in model.parameters():
        parameter.requires_grad = False
    before = statistics(model.train())
    model(tritium.randn(4, 1, 8, 8))
    assert moved(model, before)


def test_a_new_head_after_freezing(model):
    freeze(model)
    assert not any(p.requires_grad for p in model.parameters())
    model.fc = nn.Linear(256, 3)
    model.train()
    assert model.fc.training and model.fc.weight.requires_grad and not model.bn1.training


def test_several_and_inner_exceptions(model):
    freeze(model, except_=["fc", "layer3.0.bn2", "conv1.weight"])
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learning == ["conv1.weight", "layer3.0.bn2.weight", "layer3.0.bn2.bias", "fc.weight", "fc.bias"]
    model.train()
    assert model.layer3.training and model.layer3[0].training and model.layer3[0].bn2.training
    assert not model.layer3[0].bn1.training and not model.layer2[0].training


@pytest.mark.parametrize("name", ["fd", "fc.weights", "layer3.7", ""])
def test_unknown_names(model, name):
    with pytest.raises(ValueError, match="DigitsResNet has no module or parameter"):
        freeze(model, except_=name)


def test_copies_stay_frozen_and_nothing_shows(model):
    text, keys = repr(model), list(model.state_dict())
    freeze(model, "fc")
    assert repr(model) == text and list(model.state_dict()) == keys
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.train()
        assert not other.bn1.training and other.fc.training
        before = statistics(other)
        other(tritium.randn(2, 1, 8, 8))
        assert moved(other, before) == []


def test_unfreeze(model):
    freeze(model, "fc").train()
    assert unfreeze(model) is model
    assert all(p.requires_grad for p in model.parameters()) and all(m.training for m in model.modules())
    before = statistics(model)
    model(tritium.randn(4, 1, 8, 8))
    assert moved(model, before)
    assert not any(m.training for m in unfreeze(freeze(model)).modules())


def test_dropout_of_a_frozen_part_passes_everything():
    model = freeze(models.mobilenet_v2(num_classes=3), except_="classifier.1").train()
    assert not model.classifier[0].training and model.classifier[1].training


@pytest.mark.parametrize(("arch", "name", "features"), [("resnet18", "fc", 512), ("resnet50", "fc", 2048),
                                                        ("mobilenet_v2", "classifier.1", 1280)])
def test_replace_head(arch, name, features):
    model = models.get_model(arch)
    assert head_name(model) == name
    new = replace_head(model, 7)
    assert model.get_submodule(name) is new and (new.in_features, new.out_features) == (features, 7)
    with without_head(model) as body, tritium.no_grad():
        assert body.eval()(tritium.randn(1, 3, 32, 32)).shape == (1, features)
    assert model.get_submodule(name) is new


def test_replace_head_errors(model):
    with pytest.raises(ValueError, match="at least 1"):
        replace_head(model, 0)
    with pytest.raises(ValueError, match="has no Linear layer"):
        replace_head(nn.Sequential(nn.Conv2d(1, 2, 3)), 2)
