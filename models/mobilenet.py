"""MobileNetV2: Sandler et al. 2018, arXiv:1801.04381; with torchvision's arguments and checkpoint keys.

An inverted residual block expands its channels with a 1x1 convolution, filters each with a 3x3 one of its own
(depthwise), and projects them down again without an activation.
https://docs.pytorch.org/vision/stable/models/mobilenetv2.html
"""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from tritium import nn
from tritium.models.weights import Weights, WeightsEnum, build
from tritium.nn import functional as F
from tritium.nn.modules import fused
from tritium.tensor.tensor import Tensor

NormLayer = Callable[[int], nn.Module]
# Table 2 of the paper: expansion factor, output channels, number of blocks, stride of the first
SETTING = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of ``divisor`` nearest to ``value``, but at least ``divisor`` and at least 90% of ``value``."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


class Conv2dNormActivation(nn.Sequential):
    """A convolution without bias that keeps the size at stride 1, a normalisation and ReLU6."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1,
                 norm_layer: NormLayer = nn.BatchNorm2d) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, (kernel_size - 1) // 2, groups=groups,
                         bias=False)
        super().__init__(conv, norm_layer(out_channels), nn.ReLU6(inplace=True))
        self.out_channels = out_channels


class InvertedResidual(nn.Module):
    """Expand, filter, project; added to the input where the shapes are equal. Raises ValueError for a stride other
    than 1 or 2."""

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int,
                 norm_layer: NormLayer | None = None) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        if norm_layer is None:
            norm_layer = nn.BatchNorm2d
        hidden = int(round(inp * expand_ratio))
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(Conv2dNormActivation(inp, hidden, 1, norm_layer=norm_layer))
        layers += [Conv2dNormActivation(hidden, hidden, 3, stride, hidden, norm_layer),
                   nn.Conv2d(hidden, oup, 1, bias=False), norm_layer(oup)]
        self.stride = stride
        self.use_res_connect = stride == 1 and inp == oup
        self.conv = nn.Sequential(*layers)
        self.out_channels = oup

    def forward(self, x: Tensor) -> Tensor:
        return fused.run_sum(self.conv, x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """(N, 3, H, W) -> (N, num_classes), for images of about 224 x 224.

    ``width_mult`` scales all channels, rounded to multiples of ``round_nearest``. ``inverted_residual_setting``: rows
    of (expansion, channels, blocks, stride). ``block``, ``norm_layer``: instead of InvertedResidual and BatchNorm2d.
    ``dropout``: of the classifier. Raises ValueError for a setting that is empty or not of fours."""

    def __init__(self, num_classes: int = 1000, width_mult: float = 1.0,
                 inverted_residual_setting: Sequence[Sequence[int]] | None = None, round_nearest: int = 8,
                 block: Callable[..., nn.Module] | None = None, norm_layer: NormLayer | None = None,
                 dropout: float = 0.2) -> None:
        super().__init__()
        if block is None:
            block = InvertedResidual
        if norm_layer is None:
            norm_layer = nn.BatchNorm2d
        setting = SETTING if inverted_residual_setting is None else inverted_residual_setting
        if len(setting) == 0 or len(setting[0]) != 4:
            raise ValueError("inverted_residual_setting should be non-empty or a 4-element list, got "
                             f"{inverted_residual_setting}")
        channels = make_divisible(32 * width_mult, round_nearest)
        self.last_channel = make_divisible(1280 * max(1.0, width_mult), round_nearest)
        features: list[nn.Module] = [Conv2dNormActivation(3, channels, stride=2, norm_layer=norm_layer)]
        for expansion, width, blocks, stride in setting:
            outputs = make_divisible(width * width_mult, round_nearest)
            for i in range(blocks):
                features.append(block(channels, outputs, stride if i == 0 else 1, expand_ratio=expansion,
                                      norm_layer=norm_layer))
                channels = outputs
        features.append(Conv2dNormActivation(channels, self.last_channel, 1, norm_layer=norm_layer))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(p=dropout), nn.Linear(self.last_channel, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        nest_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        return self.classifier(x)


def nest_keys(state_dict: dict[str, Any], prefix: str = "") -> None:
    """Rename, in place, the keys of weights from before a convolution, its normalisation and its activation were one
    module: ``features.2.conv.0``, ``.1``, ``.3``, ``.4``, ``.6``, ``.7`` become ``features.2.conv.0.0``, ``.0.1``,
    ``.1.0``, ``.1.1``, ``.2``, ``.3``. Other keys stay."""
    flat = re.compile(re.escape(prefix) + r"features\.(\d+)\.conv\.(\d+)\.(\w+)")
    found = {key: match for key in state_dict if (match := flat.fullmatch(key))}
    last: dict[str, int] = {}  # by block: the place of its last normalisation
    for match in found.values():
        last[match[1]] = max(int(match[2]), last.get(match[1], 0))
    if not found or any(f"{prefix}features.{block}.conv.0.weight" not in state_dict for block in last):
        return  # today's layout, or another architecture
    for key, match in found.items():
        block, place = match[1], int(match[2])
        stage, part = divmod(place, 3)
        inside = f"{stage}.{part}" if stage < last[block] // 3 else f"{stage + part}"
        state_dict[f"{prefix}features.{block}.conv.{inside}.{match[3]}"] = state_dict.pop(key)


class MobileNet_V2_Weights(WeightsEnum):
    """Published weights of ``mobilenet_v2``."""

    IMAGENET1K_V1 = Weights("https://download.pytorch.org/models/mobilenet_v2-b0353104.pth", accuracy=(71.878, 90.286))
    IMAGENET1K_V2 = Weights("https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth", resize_size=232,
                            accuracy=(72.154, 90.822))
    DEFAULT = IMAGENET1K_V2


def mobilenet_v2(weights: Any = None, progress: bool = True, *, pretrained: bool = False, **kwargs: Any) -> MobileNetV2:
    """MobileNetV2: 3,504,872 parameters, features of 1,280 numbers.

    ``weights``: None, a path, or published weights (``MobileNet_V2_Weights``, "IMAGENET1K_V1", "DEFAULT");
    ``pretrained=True`` is the older way to ask for "IMAGENET1K_V1". The other arguments go to ``MobileNetV2``. Errors
    are those of ``resnet18``."""
    return build(MobileNetV2, MobileNet_V2_Weights, weights, progress, pretrained, kwargs)
