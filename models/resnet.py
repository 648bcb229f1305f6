"""Residual networks: He, Zhang, Ren and Sun 2015, arXiv:1512.03385; with torchvision's arguments and checkpoint keys.

    x -> conv1 7x7/2, bn1, relu -> maxpool 3x3/2 -> layer1 .. layer4 -> avgpool -> fc

A block adds to its input what two (BasicBlock) or three (Bottleneck) convolutions make of it. The first block of layer2
to layer4 halves the height and width and doubles the channels; its shortcut is a 1x1 convolution.
https://docs.pytorch.org/vision/stable/models/resnet.html
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tritium import nn
from tritium.models.weights import Weights, WeightsEnum, build
from tritium.nn.modules import fused
from tritium.tensor.tensor import Tensor

NormLayer = Callable[[int], nn.Module]
_PUBLISHED = "https://download.pytorch.org/models/"


def conv3x3(in_planes: int, out_planes: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(in_planes, out_planes, 3, stride, dilation, dilation, groups, bias=False)


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_planes, out_planes, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """relu(x + bn2(conv2(relu(bn1(conv1(x)))))), both convolutions 3x3. ``downsample`` makes the shortcut fit.

    Raises ValueError for groups or another width, NotImplementedError for dilation: only Bottleneck has them."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None,
                 groups: int = 1, base_width: int = 64, dilation: int = 1, norm_layer: NormLayer | None = None) -> None:
        super().__init__()
        if norm_layer is None:
            norm_layer = nn.BatchNorm2d
        if groups != 1 or base_width != 64:
            raise ValueError("BasicBlock only supports groups=1 and base_width=64")
        if dilation > 1:
            raise NotImplementedError("Dilation > 1 not supported in BasicBlock")
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = fused.run((self.conv1, self.bn1, self.relu), x)
        return fused.run_residual(self.conv2, self.bn2, self.relu, out, shortcut)


class Bottleneck(nn.Module):
    """A block of a 1x1, a 3x3 and a 1x1 convolution, of which the last has four times as many channels.

    The stride is in the 3x3 convolution, which is more accurate than the paper's place for it (ResNet V1.5).
    ``groups`` and ``base_width`` make the variants of Xie et al. 2016, arXiv:1611.05431."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None,
                 groups: int = 1, base_width: int = 64, dilation: int = 1, norm_layer: NormLayer | None = None) -> None:
        super().__init__()
        if norm_layer is None:
            norm_layer = nn.BatchNorm2d
        width = int(planes * (base_width / 64.0)) * groups
        self.conv1 = conv1x1(inplanes, width)
        self.bn1 = norm_layer(width)
        self.conv2 = conv3x3(width, width, stride, groups, dilation)
        self.bn2 = norm_layer(width)
        self.conv3 = conv1x1(width, planes * self.expansion)
        self.bn3 = norm_layer(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = fused.run((self.conv1, self.bn1, self.relu), x)
        out = fused.run((self.conv2, self.bn2, self.relu), out)
        return fused.run_residual(self.conv3, self.bn3, self.relu, out, shortcut)


class ResNet(nn.Module):
    """(N, 3, H, W) -> (N, num_classes), for images of about 224 x 224.

    ``layers``: the number of blocks in each of the four layers. ``zero_init_residual``: every block starts as the
    identity. ``groups``, ``width_per_group``: of Bottleneck's 3x3 convolution. ``replace_stride_with_dilation``: three
    bools, for layer2 to layer4: keep the resolution and dilate instead. ``norm_layer``: instead of BatchNorm2d.
    Raises ValueError for a tuple of another length, and what the blocks raise."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: Sequence[int], num_classes: int = 1000,
                 zero_init_residual: bool = False, groups: int = 1, width_per_group: int = 64,
                 replace_stride_with_dilation: Sequence[bool] | None = None,
                 norm_layer: NormLayer | None = None) -> None:
        super().__init__()
        if norm_layer is None:
            norm_layer = nn.BatchNorm2d
        if replace_stride_with_dilation is None:
            replace_stride_with_dilation = (False, False, False)
        if len(replace_stride_with_dilation) != 3:
            raise ValueError("replace_stride_with_dilation should be None or a 3-element tuple, got "
                             f"{replace_stride_with_dilation}")
        self._norm_layer = norm_layer
        self.inplanes = 64
        self.dilation = 1
        self.groups = groups
        self.base_width = width_per_group
        self.conv1 = nn.Conv2d(3, self.inplanes, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(block, 64, layers[0])
        self.layer2 = self._make_layer(block, 128, layers[1], 2, replace_stride_with_dilation[0])
        self.layer3 = self._make_layer(block, 256, layers[2], 2, replace_stride_with_dilation[1])
        self.layer4 = self._make_layer(block, 512, layers[3], 2, replace_stride_with_dilation[2])
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        initialize(self, zero_init_residual)

    def _make_layer(self, block: type[BasicBlock | Bottleneck], planes: int, blocks: int, stride: int = 1,
                    dilate: bool = False) -> nn.Sequential:
        first_dilation = self.dilation
        if dilate:
            self.dilation *= stride
            stride = 1
        channels = planes * block.expansion
        downsample = None
        if stride != 1 or self.inplanes != channels:
            downsample = nn.Sequential(conv1x1(self.inplanes, channels, stride), self._norm_layer(channels))
        made = [block(self.inplanes, planes, stride, downsample, self.groups, self.base_width, first_dilation,
                      self._norm_layer)]
        self.inplanes = channels
        made += [block(channels, planes, groups=self.groups, base_width=self.base_width, dilation=self.dilation,
                       norm_layer=self._norm_layer) for _ in range(1, blocks)]
        return nn.Sequential(*made)

    def forward(self, x: Tensor) -> Tensor:
        x = fused.run((self.conv1, self.bn1, self.relu), x)
        x = self.maxpool(x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = self.avgpool(x)
        return self.fc(x.flatten(1))


def initialize(model: nn.Module, zero_init_residual: bool = False) -> None:
    """Draw all convolutions from He's normal distribution (arXiv:1502.01852), and set all normalisations to identity;
    those that end a block to zero, with ``zero_init_residual`` (Goyal et al. 2017, arXiv:1706.02677)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.constant_(module.weight, 1)
            nn.init.constant_(module.bias, 0)
    if zero_init_residual:
        for module in model.modules():
            if isinstance(module, Bottleneck) and module.bn3.weight is not None:
                nn.init.constant_(module.bn3.weight, 0)
            elif isinstance(module, BasicBlock) and module.bn2.weight is not None:
                nn.init.constant_(module.bn2.weight, 0)


# ------------------------------------------------------------------------------------------------- published

class ResNet18_Weights(WeightsEnum):
    """Published weights of ``resnet18``."""

    IMAGENET1K_V1 = Weights(_PUBLISHED + "resnet18-f37072fd.pth", older_names=("resnet18-5c106cde.pth",),
                            accuracy=(69.758, 89.078))
    DEFAULT = IMAGENET1K_V1


class ResNet34_Weights(WeightsEnum):
    """Published weights of ``resnet34``."""

    IMAGENET1K_V1 = Weights(_PUBLISHED + "resnet34-b627a593.pth", older_names=("resnet34-333f7ec4.pth",),
                            accuracy=(73.314, 91.420))
    DEFAULT = IMAGENET1K_V1


class ResNet50_Weights(WeightsEnum):
    """Published weights of ``resnet50``."""

    IMAGENET1K_V1 = Weights(_PUBLISHED + "resnet50-0676ba61.pth", older_names=("resnet50-19c8e357.pth",),
                            accuracy=(76.130, 92.862))
    IMAGENET1K_V2 = Weights(_PUBLISHED + "resnet50-11ad3fa6.pth", resize_size=232, accuracy=(80.858, 95.434))
    DEFAULT = IMAGENET1K_V2


class ResNet101_Weights(WeightsEnum):
    """Published weights of ``resnet101``."""

    IMAGENET1K_V1 = Weights(_PUBLISHED + "resnet101-63fe2227.pth", older_names=("resnet101-5d3b4d8f.pth",),
                            accuracy=(77.374, 93.546))
    IMAGENET1K_V2 = Weights(_PUBLISHED + "resnet101-cd907fc2.pth", resize_size=232, accuracy=(81.886, 95.780))
    DEFAULT = IMAGENET1K_V2


class ResNet152_Weights(WeightsEnum):
    """Published weights of ``resnet152``."""

    IMAGENET1K_V1 = Weights(_PUBLISHED + "resnet152-394f9c45.pth", older_names=("resnet152-b121ed2d.pth",),
                            accuracy=(78.312, 94.046))
    IMAGENET1K_V2 = Weights(_PUBLISHED + "resnet152-f82ba261.pth", resize_size=232, accuracy=(82.284, 96.002))
    DEFAULT = IMAGENET1K_V2


def _resnet(block: type[BasicBlock | Bottleneck], layers: list[int], kinds: type[WeightsEnum], weights: Any,
            progress: bool, pretrained: bool, kwargs: dict[str, Any]) -> ResNet:
    return build(lambda **options: ResNet(block, layers, **options), kinds, weights, progress, pretrained, kwargs)


def resnet18(weights: Any = None, progress: bool = True, *, pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-18: 11,689,512 parameters, features of 512 numbers.

    ``weights``: None, a path, or published weights (``ResNet18_Weights``, "IMAGENET1K_V1", "DEFAULT");
    ``pretrained=True`` is the older way to ask for "IMAGENET1K_V1". ``progress``: a bar during a download. The other
    arguments go to ``ResNet``. Raises ValueError for an unknown name or another ``num_classes`` than the weights',
    FileNotFoundError, ConnectionError, and RuntimeError for a checkpoint that does not fit."""
    return _resnet(BasicBlock, [2, 2, 2, 2], ResNet18_Weights, weights, progress, pretrained, kwargs)


def resnet34(weights: Any = None, progress: bool = True, *, pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-34: 21,797,672 parameters, features of 512 numbers. Arguments and errors are those of ``resnet18``."""
    return _resnet(BasicBlock, [3, 4, 6, 3], ResNet34_Weights, weights, progress, pretrained, kwargs)


def resnet50(weights: Any = None, progress: bool = True, *, pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-50: 25,557,032 parameters, features of 2,048 numbers. Arguments and errors are those of ``resnet18``."""
    return _resnet(Bottleneck, [3, 4, 6, 3], ResNet50_Weights, weights, progress, pretrained, kwargs)


def resnet101(weights: Any = None, progress: bool = True, *, pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-101: 44,549,160 parameters, features of 2,048 numbers. Arguments and errors are those of ``resnet18``."""
    return _resnet(Bottleneck, [3, 4, 23, 3], ResNet101_Weights, weights, progress, pretrained, kwargs)


def resnet152(weights: Any = None, progress: bool = True, *, pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-152: 60,192,808 parameters, features of 2,048 numbers. Arguments and errors are those of ``resnet18``."""
    return _resnet(Bottleneck, [3, 8, 36, 3], ResNet152_Weights, weights, progress, pretrained, kwargs)
