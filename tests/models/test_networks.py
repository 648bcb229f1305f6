"""ResNets, MobileNetV2 and the digits' network: structure, arguments, and the fused path in evaluation mode."""
import pickle

import numpy as np
import pytest

import tritium
from tritium import models, nn
from tritium.models.mobilenet import make_divisible, nest_keys
from tritium.models.resnet import BasicBlock, Bottleneck, ResNet

COUNTS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160,
          "resnet152": 60_192_808, "mobilenet_v2": 3_504_872, "digits_resnet": 160_904}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    model = models.get_model(name)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    assert all(p.requires_grad for p in model.parameters()) and model.training


def test_names():
    assert set(models.list_models()) == set(COUNTS)
    assert models.get_model("ResNet18", num_classes=3).fc.out_features == 3
    with pytest.raises(ValueError, match="Unknown model resnet19: there are .*resnet18"):
        models.get_model("resnet19")


def test_keys():
    keys = list(models.resnet50().state_dict())
    assert keys[:7] == ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
                        "bn1.num_batches_tracked", "layer1.0.conv1.weight"]
    assert "layer3.0.downsample.1.running_var" in keys and keys[-2:] == ["fc.weight", "fc.bias"] and len(keys) == 320
    keys = list(models.mobilenet_v2().state_dict())
    assert keys[0] == "features.0.0.weight" and "features.1.conv.1.weight" in keys and len(keys) == 314
    assert "features.2.conv.1.0.weight" in keys and keys[-2:] == ["classifier.1.weight", "classifier.1.bias"]


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("resnet50", 64), ("mobilenet_v2", 64),
                                            ("digits_resnet", 8)])
def test_fused_is_what_the_modules_give(name, size):
    tritium.manual_seed(0)
    model = models.get_model(name, num_classes=5).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            with tritium.no_grad():
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    x = tritium.randn(2, 1 if name == "digits_resnet" else 3, size, size)
    expected = model(x)
    assert expected.requires_grad
    with tritium.no_grad():
        fused = model(x)
    scale = expected.detach().abs().max().item()
    np.testing.assert_allclose(fused.numpy() / scale, expected.detach().numpy() / scale, atol=2e-6)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert model(x).equal(fused)   # a frozen model is fused too, without no_grad
    seen = []
    model.apply(lambda m: m.register_forward_hook(lambda module, inputs, output: seen.append(type(module).__name__)))
    hooked = model(x)
    assert seen.count("Conv2d") == sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert seen.count("ReLU") + seen.count("ReLU6") > 1
    np.testing.assert_allclose(hooked.numpy() / scale, fused.numpy() / scale, atol=2e-6)


def test_a_change_of_the_weights_is_seen():
    model = models.digits_resnet().eval()
    x = tritium.randn(1, 1, 8, 8)
    with tritium.no_grad():
        first = model(x)
        assert model(x).equal(first)
        model.layer3[0].bn2.running_var.mul_(4)
        assert not model(x).equal(first)
        model.layer3[0].bn2.running_var.div_(4)
        assert model(x).equal(first)


def test_training_moves_everything():
    tritium.manual_seed(0)
    model = models.resnet18(num_classes=2)
    model(tritium.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(m.num_batches_tracked.item() == 1 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_arguments_of_resnet():
    assert ResNet(Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4).layer1[0].conv2.groups == 32
    dilated = ResNet(Bottleneck, [1, 2, 1, 1], replace_stride_with_dilation=[True, False, True])
    assert dilated.layer2[1].conv2.dilation == (2, 2) and dilated.layer2[0].conv2.stride == (1, 1)
    zeros = models.resnet18(zero_init_residual=True)
    assert all(not block.bn2.weight.any() for block in zeros.layer2) and zeros.bn1.weight.all()
    assert not models.resnet50(zero_init_residual=True).layer4[2].bn3.weight.any()
    grouped = models.resnet18(norm_layer=lambda channels: nn.GroupNorm(8, channels), num_classes=2)
    assert isinstance(grouped.layer1[0].bn1, nn.GroupNorm)
    assert grouped.eval()(tritium.randn(1, 3, 32, 32)).shape == (1, 2)
    for options, error, text in (({"replace_stride_with_dilation": [1]}, ValueError, "3-element tuple"),
                                 ({"groups": 2}, ValueError, "BasicBlock only supports groups=1 and base_width=64"),
                                 ({"replace_stride_with_dilation": [False, True, False]}, NotImplementedError,
                                  "Dilation > 1 not supported in BasicBlock"),
                                 ({"bogus": 1}, TypeError, "bogus")):
        with pytest.raises(error, match=text):
            models.resnet18(**options)


def test_arguments_of_mobilenet():
    model = models.mobilenet_v2(width_mult=0.5, dropout=0.4, round_nearest=4, inverted_residual_setting=[[6, 24, 2, 2]])
    assert model.classifier[0].p == 0.4 and model.features[0].out_channels == 16 and len(model.features) == 4
    assert model.features[2].use_res_connect and model.last_channel == 1280
    assert models.mobilenet_v2(width_mult=1.4).last_channel == 1792
    assert [make_divisible(v, 8) for v in (3, 11, 12, 16, 32 * 0.35)] == [8, 16, 16, 16, 16]
    with pytest.raises(ValueError, match="should be non-empty or a 4-element list"):
        models.mobilenet_v2(inverted_residual_setting=[])
    with pytest.raises(ValueError, match="stride should be 1 or 2"):
        models.mobilenet_v2(inverted_residual_setting=[[1, 8, 1, 3]])


def test_pickle_and_repr():
    model = models.resnet18(num_classes=2).eval()
    other = pickle.loads(pickle.dumps(model))
    x = tritium.randn(1, 3, 32, 32)
    assert other(x).equal(model(x)) and repr(other) == repr(model)
    assert repr(BasicBlock(2, 2)).splitlines()[1] == (
        "  (conv1): Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)")


def test_older_keys_of_mobilenet():
    setting = [[1, 8, 1, 1], [6, 8, 2, 2]]
    model = models.mobilenet_v2(inverted_residual_setting=setting, num_classes=2)
    state = model.state_dict()
    flat = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "features" and parts[2] == "conv":
            inside = [int(part) for part in parts[3:-1]]
            wide = 1 if parts[1] == "1" else 2   # how many of the block's parts end in an activation
            place = 3 * inside[0] + inside[1] if len(inside) == 2 else 3 * wide + inside[0] - wide
            name = f"features.{parts[1]}.conv.{place}.{parts[-1]}"
        flat[name] = value
    assert set(flat) != set(state)
    other = models.mobilenet_v2(inverted_residual_setting=setting, num_classes=2)
    other.load_state_dict(flat)
    assert all(value.equal(state[name]) for name, value in other.state_dict().items())
    assert set(flat) & {"features.2.conv.7.weight"}   # what was given is left as it is
    today = dict(state)
    nest_keys(today)
    assert list(today) == list(state)
    model.load_state_dict(state)
