"""A small residual network for images of 8 x 8, which comes with its weights.

    x -> conv1 3x3, bn1, relu -> layer1 (32 channels) -> layer2 (64, half the size) -> layer3 (64) -> avgpool 2x2 -> fc

scripts/pretrain_digits.py made the weights, on the digits 0 to 4 of the training part of ``data.datasets.Digits``.
Each digit counts as eight classes, by how the image was turned and mirrored, so that the features know more than
five things.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritium import nn
from tritium.models.resnet import BasicBlock, conv1x1, conv3x3, initialize
from tritium.models.weights import Weights, WeightsEnum, build, read_checkpoint
from tritium.nn.modules import fused
from tritium.tensor.tensor import Tensor

PATH = Path(__file__).parent / "digits_resnet.safetensors"
PRETEXT_CLASSES = 40  # five digits, four turns, mirrored or not
MEAN, STD = (0.3,), (0.38,)


class DigitsResNet(nn.Module):
    """(N, 1, H, W) -> (N, num_classes), for images of about 8 x 8; features of 256 numbers."""

    def __init__(self, num_classes: int = PRETEXT_CLASSES) -> None:
        super().__init__()
        self.conv1 = conv3x3(1, 32)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(32, 32))
        shortcut = nn.Sequential(conv1x1(32, 64, stride=2), nn.BatchNorm2d(64))
        self.layer2 = nn.Sequential(BasicBlock(32, 64, 2, shortcut))
        self.layer3 = nn.Sequential(BasicBlock(64, 64))
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.fc = nn.Linear(64 * 2 * 2, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = fused.run((self.conv1, self.bn1, self.relu), x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        return self.fc(self.avgpool(x).flatten(1))


def digits_transform() -> Callable[[Any], Any]:
    """A Pillow image in grey to a normalised tensor (1, H, W)."""
    from tritium.data.transforms import Compose, Normalize, ToTensor

    return Compose([ToTensor(), Normalize(MEAN, STD)])


class DigitsResNet_Weights(WeightsEnum):
    """The weights of ``digits_resnet`` that come with the package."""

    DIGITS04_V1 = Weights(str(PATH), 8, 8, num_classes=PRETEXT_CLASSES)
    DEFAULT = DIGITS04_V1

    def transforms(self) -> Callable[[Any], Any]:
        """A new instance of the transform these weights were trained with."""
        return digits_transform()

    def get_state_dict(self, progress: bool = True, check_hash: bool = True) -> Any:
        """The weights by name, from the package."""
        return read_checkpoint(PATH)


def digits_resnet(weights: Any = None, progress: bool = True, *, pretrained: bool = False,
                  **kwargs: Any) -> DigitsResNet:
    """DigitsResNet, without weights or (``weights="DEFAULT"``) with those that come with the package; or a path."""
    return build(DigitsResNet, DigitsResNet_Weights, weights, progress, pretrained, kwargs)
