"""Published weights: what there is, where it is kept, and how ``weights=`` is read.

``weights=`` takes a member of an enumeration (``ResNet18_Weights.IMAGENET1K_V1``), its name with or without the class
("IMAGENET1K_V1", "DEFAULT"), or the path of a checkpoint. A name is looked up in ``hub/checkpoints`` under
``$TRITIUM_HOME`` and ``$TORCH_HOME``, and downloaded when it is not there.
https://docs.pytorch.org/vision/stable/models.html
"""
from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from tritium import hub
from tritium.nn import Module
from tritium.tensor.serialization import load

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHECKPOINT_ENDINGS = (".pth", ".pt", ".tar", ".safetensors", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model", "model_state_dict")  # where training scripts put it beside the optimizer's state


@dataclass(frozen=True)
class Weights:
    """One published file: its URL, the sizes its images are resized and cropped to, and facts about it."""

    url: str
    resize_size: int = 256
    crop_size: int = 224
    older_names: tuple[str, ...] = ()  # the names under which the same weights were published before
    num_classes: int = 1000
    accuracy: tuple[float, float] | None = None  # top-1 and top-5 on ImageNet-1K, as published


class WeightsEnum(Enum):
    """The published weights of one architecture; ``DEFAULT`` is another name of the best ones."""

    @classmethod
    def verify(cls, obj: Any) -> WeightsEnum | None:
        """The member that ``obj`` (None, a member or its name) means.

        Raises ValueError for an unknown name, TypeError for a member of another class."""
        if obj is None or isinstance(obj, cls):
            return obj
        if isinstance(obj, str):
            owner, _, name = obj.rpartition(".")
            if name in cls.__members__ and owner in ("", cls.__name__):
                return cls[name]
            known = ", ".join(repr(member) for member in cls.__members__)
            raise ValueError(f"unknown weights {obj!r}: {cls.__name__} has {known}, and there is no file of that name")
        raise TypeError(f"Invalid Weight class provided; expected {cls.__name__} but received "
                        f"{type(obj).__name__}.")

    @property
    def url(self) -> str:
        """Where the file is published; its name ends in the first digits of its SHA-256."""
        return self.value.url

    @property
    def meta(self) -> dict[str, Any]:
        """``num_classes``, and the published accuracy on ImageNet-1K."""
        top1, top5 = self.value.accuracy or (None, None)
        return {"num_classes": self.value.num_classes, "_metrics": {"ImageNet-1K": {"acc@1": top1, "acc@5": top5}}}

    def transforms(self) -> Callable[[Any], Any]:
        """A new instance of the transform these weights were evaluated with: Pillow image to normalised tensor."""
        return imagenet_transform(self.value.resize_size, self.value.crop_size)

    def get_state_dict(self, progress: bool = True, check_hash: bool = True) -> Any:
        """The weights by name, from the cache or downloaded into it. Raises ConnectionError when that is not possible,
        RuntimeError for a download with a wrong hash (a file that is in the cache is used as it is)."""
        found = hub.find_checkpoint(os.path.basename(urlsplit(self.url).path), *self.value.older_names)
        if found is not None:
            return load(found, map_location="cpu")
        return hub.load_state_dict_from_url(self.url, map_location="cpu", progress=progress, check_hash=check_hash)

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


def imagenet_transform(resize_size: int = 256, crop_size: int = 224) -> Callable[[Any], Any]:
    """Resize the shorter side, take the middle, scale to 0..1 and normalise with ImageNet's mean and deviation."""
    from tritium.data.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    return Compose([Resize(resize_size), CenterCrop(crop_size), ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def looks_like_path(text: str) -> bool:
    """Whether ``text`` is meant as the path of a checkpoint and not as the name of published weights."""
    return os.path.exists(text) or os.path.basename(text) != text or text.lower().endswith(CHECKPOINT_ENDINGS)


def resolve(kinds: type[WeightsEnum], weights: Any, pretrained: Any = False) -> WeightsEnum | str | None:
    """What ``weights=`` (or the older ``pretrained=True``) asks for: published weights, a path, or None for none.

    Raises FileNotFoundError for a path that is not there, and what ``verify`` raises."""
    if isinstance(weights, bool):  # resnet18(True), as it was before there were several weights
        weights, pretrained = None, weights
    if weights is None:
        return next(iter(kinds)) if pretrained else None  # the first ones: there were no others then
    if isinstance(weights, os.PathLike) or (isinstance(weights, str) and looks_like_path(weights)):
        path = os.path.expanduser(os.fspath(weights))
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no checkpoint {path}: there is no such file")
        return path
    return kinds.verify(weights)


def read_checkpoint(path: Any) -> dict[str, Any]:
    """The state dict in a file of any kind that ``tritium.load`` reads.

    A state dict inside of a training checkpoint is found under its usual names, and the prefix ``module.`` of
    DataParallel is taken off. Raises RuntimeError when there is no state dict in the file."""
    found = load(path, map_location="cpu")
    if isinstance(found, Mapping):
        for key in WRAPPERS:
            if isinstance(found.get(key), Mapping):
                found = found[key]
                break
    if not isinstance(found, Mapping) or not found:
        raise RuntimeError(f"{os.fspath(path)} holds no state dict but an object of type {type(found).__name__}")
    if all(isinstance(key, str) and key.startswith("module.") for key in found):
        metadata = getattr(found, "_metadata", {})
        found = OrderedDict((key.removeprefix("module."), value) for key, value in found.items())
        found._metadata = {key.removeprefix("module").removeprefix("."): v for key, v in metadata.items()}  # type: ignore[attr-defined]
    return found  # type: ignore[return-value]


def build(model: Callable[..., Module], kinds: type[WeightsEnum], weights: Any, progress: bool, pretrained: Any,
          kwargs: dict[str, Any]) -> Any:
    """``model(**kwargs)`` with the weights that are asked for.

    Raises ValueError for a ``num_classes`` that published weights do not have, and RuntimeError for a checkpoint whose
    keys or shapes do not fit."""
    source = resolve(kinds, weights, pretrained)
    if isinstance(source, WeightsEnum):
        classes = source.meta["num_classes"]
        if kwargs.setdefault("num_classes", classes) != classes:
            raise ValueError(f"The parameter 'num_classes' expected value {classes} but got {kwargs['num_classes']} "
                             "instead.")
    made = model(**kwargs)
    if source is not None:
        state = read_checkpoint(source) if isinstance(source, str) else source.get_state_dict(progress)
        made.load_state_dict(state)
    return made
