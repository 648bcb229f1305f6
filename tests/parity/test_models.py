"""ResNet and MobileNetV2 against the same networks built from PyTorch's layers: initial weights, outputs, gradients."""
import numpy as np
import pytest

import tritium
from tritium import models

pytestmark = pytest.mark.cpu_only(reason="PyTorch's CPU numbers, and networks too large to interpret")

torch = pytest.importorskip("torch")
tnn = torch.nn


class Block(tnn.Module):
    """Both kinds of residual block; ``widths`` and ``sizes`` are those of the convolutions."""

    def __init__(self, inputs, widths, sizes, stride, dilation, groups, shortcut):
        super().__init__()
        strided = 0 if len(sizes) == 2 else 1
        channels = [inputs, *widths]
        for i, size in enumerate(sizes):
            wide = size == 3
            conv = tnn.Conv2d(channels[i], channels[i + 1], size, stride if i == strided else 1,
                              dilation if wide else 0, dilation if wide else 1, groups if wide else 1, bias=False)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", tnn.BatchNorm2d(channels[i + 1]))
        self.relu = tnn.ReLU()
        self.count = len(sizes)
        self.downsample = shortcut

    def forward(self, x):
        out = x
        for i in range(1, self.count + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            if i < self.count:
                out = self.relu(out)
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Residual(tnn.Module):
    """torchvision's ResNet in the order in which it draws its random numbers."""

    def __init__(self, bottleneck, layers, num_classes=1000, groups=1, width_per_group=64, dilate=(False,) * 3):
        super().__init__()
        self.conv1, self.bn1 = tnn.Conv2d(3, 64, 7, 2, 3, bias=False), tnn.BatchNorm2d(64)
        self.relu, self.maxpool = tnn.ReLU(), tnn.MaxPool2d(3, 2, 1)
        inputs, dilation = 64, 1
        for k, (planes, count) in enumerate(zip((64, 128, 256, 512), layers, strict=True)):
            stride, first_dilation = (1 if k == 0 else 2), dilation
            if k and dilate[k - 1]:
                stride, dilation = 1, dilation * 2
            outputs = planes * (4 if bottleneck else 1)
            width = int(planes * width_per_group / 64) * groups
            widths, sizes = ((width, width, outputs), (1, 3, 1)) if bottleneck else ((planes, planes), (3, 3))
            blocks = []
            for i in range(count):
                shortcut = None
                if i == 0 and (stride != 1 or inputs != outputs):
                    shortcut = tnn.Sequential(tnn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                              tnn.BatchNorm2d(outputs))
                blocks.append(Block(inputs, widths, sizes, stride if i == 0 else 1,
                                    first_dilation if i == 0 else dilation, groups, shortcut))
                inputs = outputs
            setattr(self, f"layer{k + 1}", tnn.Sequential(*blocks))
        self.avgpool = tnn.AdaptiveAvgPool2d(1)
        self.fc = tnn.Linear(inputs, num_classes)
        for m in self.modules():
            if isinstance(m, tnn.Conv2d):
                tnn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def conv_norm(inputs, outputs, size, stride=1, groups=1):
    return tnn.Sequential(tnn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
                          tnn.BatchNorm2d(outputs), tnn.ReLU6())


class Inverted(tnn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        layers = [conv_norm(inputs, hidden, 1)] if expansion != 1 else []
        self.conv = tnn.Sequential(*layers, conv_norm(hidden, hidden, 3, stride, hidden),
                                   tnn.Conv2d(hidden, outputs, 1, bias=False), tnn.BatchNorm2d(outputs))
        self.add = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


class Mobile(tnn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        features, inputs = [conv_norm(3, 32, 3, 2)], 32
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                           (6, 320, 1, 1)):
            for i in range(n):
                features.append(Inverted(inputs, c, s if i == 0 else 1, t))
                inputs = c
        self.features = tnn.Sequential(*features, conv_norm(inputs, 1280, 1))
        self.classifier = tnn.Sequential(tnn.Dropout(0.2), tnn.Linear(1280, num_classes))
        for m in self.modules():
            if isinstance(m, tnn.Conv2d):
                tnn.init.kaiming_normal_(m.weight, mode="fan_out")
            elif isinstance(m, tnn.Linear):
                tnn.init.normal_(m.weight, 0, 0.01)
                tnn.init.zeros_(m.bias)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


CASES = {
    "resnet18": (lambda: Residual(False, (2, 2, 2, 2)), {}),
    "resnet50": (lambda: Residual(True, (3, 4, 6, 3)), {}),
    "mobilenet_v2": (Mobile, {}),
    "resnext": (lambda: Residual(True, (3, 4, 6, 3), 7, 32, 4), {"groups": 32, "width_per_group": 4, "num_classes": 7}),
    "wide": (lambda: Residual(True, (3, 4, 6, 3), 7, 1, 128), {"width_per_group": 128, "num_classes": 7}),
    "dilated": (lambda: Residual(True, (3, 4, 6, 3), dilate=(False, True, True)),
                {"replace_stride_with_dilation": [False, True, True]}),
}


def pair(case, seed=3):
    """The two models, each drawn from the same seed."""
    reference, options = CASES[case]
    torch.manual_seed(seed)
    theirs = reference()
    tritium.manual_seed(seed)
    ours = getattr(models, case if hasattr(models, case) else "resnet50")(**options)
    return ours, theirs


def with_statistics(ours, theirs):
    """Give the normalisations of both models something to do in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for name, value in theirs.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2, generator=generator)
    ours.load_state_dict({k: tritium.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})


def error(ours, theirs):
    """The largest difference, as a part of the largest value."""
    ours, theirs = ours.detach().numpy(), theirs.detach().numpy()
    return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)


def images(count=2, size=64, seed=0):
    return np.random.RandomState(seed).standard_normal((count, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_initial_weights_are_those_of_torchvision(case):
    ours, theirs = pair(case)
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy(), err_msg=name)
    assert tritium.rand(1).item() == torch.rand(1).item()


@pytest.mark.parametrize("case", CASES)
def test_outputs_in_evaluation_mode(case):
    ours, theirs = pair(case)
    with_statistics(ours, theirs)
    ours.eval()
    theirs.eval()
    x = images()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))
    assert error(ours(tritium.from_numpy(x)), expected) < 1e-5   # recorded: every module by itself
    with tritium.no_grad():
        assert error(ours(tritium.from_numpy(x)), expected) < 1e-5   # fused


def compare_step(case, training, dtype, smooth, tolerance):
    """Loss, gradients and new statistics of one step of both models, within ``tolerance`` of the largest value."""
    ours, theirs = pair(case)
    with_statistics(ours, theirs)
    x, labels = images(4).astype(dtype), np.array([1, 200, 3, 999])
    for model, library in ((ours, tritium.nn), (theirs, tnn)):
        model.train(training).to(tritium.from_numpy(x).dtype if model is ours else torch.from_numpy(x).dtype)
        for module in list(model.modules()):
            if isinstance(module, library.Dropout):  # its masks come from another stream
                module.p = 0.0
            for name, child in list(module.named_children()):
                if smooth and isinstance(child, (library.ReLU, library.ReLU6)):
                    setattr(module, name, library.Softplus())
                elif smooth and isinstance(child, library.MaxPool2d):
                    setattr(module, name, library.AvgPool2d(3, 2, 1))
    a, b = tritium.from_numpy(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    ours_out, theirs_out = ours(a), theirs(b)
    assert error(ours_out, theirs_out) < tolerance
    tritium.nn.functional.cross_entropy(ours_out, tritium.from_numpy(labels)).backward()
    tnn.functional.cross_entropy(theirs_out, torch.from_numpy(labels)).backward()
    assert error(a.grad, b.grad) < tolerance
    largest = max(q.grad.abs().max().item() for q in theirs.parameters())
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # in training mode the gradient in front of a normalisation can be zero, and is then rounding
        gap = np.abs(p.grad.numpy() - q.grad.numpy()).max()
        assert gap < tolerance * max(q.grad.abs().max().item(), 1e-2 * largest), name
    for name, value in ours.state_dict().items():
        assert error(value, theirs.state_dict()[name]) < tolerance, name


STEPS = [(case, training) for case in ("resnet18", "resnet50", "mobilenet_v2") for training in (True, False)]


@pytest.mark.parametrize(("case", "training"), STEPS)
def test_outputs_gradients_and_statistics_in_float64(case, training):
    compare_step(case, training, np.float64, False, 1e-9)


@pytest.mark.parametrize(("case", "training"), STEPS)
def test_outputs_gradients_and_statistics_in_float32(case, training):
    """With smooth activations: at the corner of a ReLU the last bit decides about a whole gradient, and PyTorch's own
    float32 gradients of a resnet50 differ from its float64 ones by a third."""
    compare_step(case, training, np.float32, True, 1e-4)
