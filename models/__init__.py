"""Backbones with torchvision's constructors and state-dict keys. https://docs.pytorch.org/vision/stable/models.html"""
from typing import Any

from tritium.models import mobilenet, resnet
from tritium.models.digits import DigitsResNet, DigitsResNet_Weights, digits_resnet
from tritium.models.mobilenet import MobileNet_V2_Weights, MobileNetV2, mobilenet_v2
from tritium.models.resnet import (
    ResNet,
    ResNet18_Weights,
    ResNet34_Weights,
    ResNet50_Weights,
    ResNet101_Weights,
    ResNet152_Weights,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from tritium.models.weights import Weights, WeightsEnum

__all__ = ["DigitsResNet", "DigitsResNet_Weights", "MobileNetV2", "MobileNet_V2_Weights", "ResNet",
           "ResNet101_Weights", "ResNet152_Weights", "ResNet18_Weights", "ResNet34_Weights", "ResNet50_Weights",
           "Weights", "WeightsEnum", "digits_resnet", "get_model", "get_model_weights", "list_models",
           "mobilenet_v2", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50"]

# architecture -> (constructor, its published weights)
_PUBLISHED: dict[str, tuple[Any, type[WeightsEnum]]] = {
    "digits_resnet": (digits_resnet, DigitsResNet_Weights),
    "mobilenet_v2": (mobilenet_v2, MobileNet_V2_Weights),
    "resnet18": (resnet18, ResNet18_Weights),
    "resnet34": (resnet34, ResNet34_Weights),
    "resnet50": (resnet50, ResNet50_Weights),
    "resnet101": (resnet101, ResNet101_Weights),
    "resnet152": (resnet152, ResNet152_Weights),
}


def list_models() -> list[str]:
    """The names that ``get_model`` knows."""
    return list(_PUBLISHED)


def get_model(name: str, **config: Any) -> Any:
    """The model of this name, built with these arguments. Raises ValueError for an unknown name."""
    return _entry(name)[0](**config)


def get_model_weights(name: str) -> type[WeightsEnum]:
    """The published weights of the model of this name. Raises ValueError for an unknown name."""
    return _entry(name)[1]


def _entry(name: str) -> tuple[Any, type[WeightsEnum]]:
    if name.lower() not in _PUBLISHED:
        raise ValueError(f"Unknown model {name}: there are {', '.join(_PUBLISHED)}")
    return _PUBLISHED[name.lower()]
