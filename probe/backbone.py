"""The model side of linear probing: a frozen backbone, and the place of its last layer."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from tritium import models, nn
from tritium.models.weights import WeightsEnum, imagenet_transform, read_checkpoint, resolve
from tritium.probe.errors import ProbeError, refusing
from tritium.tensor.random import fork_rng, manual_seed

SHOWN_KEYS = 4  # of the keys that do not fit, in an error


def freeze(model: nn.Module, except_: str | Iterable[str] | None = None) -> nn.Module:
    """Take all parameters of ``model`` out of training, but those under the dotted names ``except_``; returns it.

    Frozen modules are in evaluation mode and stay there when ``model.train()`` is called: the statistics of a frozen
    BatchNorm never move, and Dropout passes everything. That survives copying and pickling. Raises ValueError for a
    name that is not in the model. ``unfreeze`` takes it back."""
    kept = [except_] if isinstance(except_, str) else list(except_ or ())
    names = {name for name, _ in model.named_modules()} | {name for name, _ in model.named_parameters()}
    for name in kept:
        if name not in names or not name:
            raise ValueError(f"freeze: {type(model).__name__} has no module or parameter {name!r}")
    for name, parameter in model.named_parameters():
        if not _inside(name, kept):
            parameter.requires_grad_(False)
    for name, module in model.named_modules():
        holds_kept = any(_inside(k, [name]) for k in kept)  # its mode is that of the part that learns
        if not holds_kept and not _inside(name, kept):
            module._frozen = True
            module.training = False
    return model


def unfreeze(model: nn.Module) -> nn.Module:
    """Undo ``freeze``: all parameters learn, and all modules follow ``train`` and ``eval`` again; returns the model,
    in the mode that the model itself is in."""
    mode = model.training and not model._frozen
    for module in model.modules():
        module.__dict__.pop("_frozen", None)
    return model.requires_grad_(True).train(mode)


def _inside(name: str, parents: Iterable[str]) -> bool:
    return any(not parent or name == parent or name.startswith(parent + ".") for parent in parents)


def head_name(model: nn.Module) -> str:
    """The dotted name of the last Linear layer: ``fc``, ``classifier``, ``classifier.1``, ``head``.

    Raises ValueError for a model that has none in these places."""
    for name in ("fc", "classifier", "head"):
        module = model._modules.get(name)
        if isinstance(module, nn.Sequential) and len(module):
            name = f"{name}.{list(module._modules)[-1]}"
            module = module[-1]
        if isinstance(module, nn.Linear):
            return name
    raise ValueError(f"{type(model).__name__} has no Linear layer called fc, classifier or head, or at the end of one")


def replace_head(model: nn.Module, num_classes: int) -> nn.Linear:
    """Put a new Linear layer for ``num_classes`` in the place of the last one, and return it.

    Raises ValueError for a model whose last layer is not found, or fewer than one class."""
    if num_classes < 1:
        raise ValueError(f"replace_head: num_classes must be at least 1, got {num_classes}")
    name = head_name(model)
    old = model.get_submodule(name)
    new = nn.Linear(old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
    model.set_submodule(name, new)
    return new


@contextmanager
def without_head(model: nn.Module) -> Iterator[nn.Module]:
    """In the block, ``model`` answers with the input of its last layer: the features."""
    name = head_name(model)
    head = model.get_submodule(name)
    model.set_submodule(name, nn.Identity())
    try:
        yield model
    finally:
        model.set_submodule(name, head)


@dataclass
class Backbone:
    """A frozen model without its last layer: ``body`` is (N, C, H, W) -> (N, ``features``)."""

    arch: str
    body: nn.Module
    features: int
    head: str  # where the last layer belongs
    weights: str  # as they were asked for
    transform: Callable[[Any], Any]
    augmentation: Callable[[Any], Any] | None = None  # what --augment uses for training images
    mode: str = "RGB"  # of the Pillow images that the transform takes

    def digest(self) -> str:
        """The SHA-256 of all weights, with their names, types and shapes."""
        return digest(self.body)


def digest(module: nn.Module) -> str:
    """The SHA-256 of a module's state, with names, types and shapes, in hexadecimal."""
    found = sha256()
    for name, tensor in module.state_dict().items():
        array = np.ascontiguousarray(tensor.cpu().clone().numpy())  # a copy: NumPy is not to hold the weight itself
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def load_backbone(arch: str, weights: str | None, *, seed: int = 0, device: Any = "cpu",
                  image_size: int | None = None, resize: int | None = None) -> Backbone:
    """The architecture of this name with these weights (a path, a published name, None for random ones), frozen.

    The last layer of a checkpoint is not used, and may be missing. ``image_size`` and ``resize``: of the transform,
    instead of what the weights were made for. Raises ProbeError for anything that does not exist or fit."""
    with refusing(ValueError):
        kinds = models.get_model_weights(arch)
    with refusing(ValueError, FileNotFoundError):
        source = resolve(kinds, weights)
    with fork_rng():
        manual_seed(seed)
        model = models.get_model(arch)
    head = head_name(model)
    if isinstance(source, WeightsEnum):
        with refusing(OSError, RuntimeError, prefix=f"weights {source!r}: "):
            fill(model, source.get_state_dict(), head, arch)
    elif source is not None:
        with refusing(OSError, RuntimeError):
            fill(model, read_checkpoint(source), head, arch, source)
    features = model.get_submodule(head).in_features
    model.set_submodule(head, nn.Identity())
    freeze(model).to(device)
    backbone = Backbone(arch, model, features, head, "none" if weights is None else str(weights), _identity)
    if arch == "digits_resnet":
        backbone.transform, backbone.mode = kinds["DEFAULT"].transforms(), "L"
        if image_size or resize:
            raise ProbeError("--image-size and --resize do not apply to digits_resnet")
    else:
        made_for = source if isinstance(source, WeightsEnum) else next(iter(kinds))
        crop = image_size or made_for.value.crop_size
        whole = resize or round(crop * made_for.value.resize_size / made_for.value.crop_size)
        backbone.transform = imagenet_transform(whole, crop)
        backbone.augmentation = _augmentation(crop)
    return backbone


def _identity(image: Any) -> Any:
    return image


def _augmentation(crop: int) -> Callable[[Any], Any]:
    from tritium.data.transforms import Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, ToTensor
    from tritium.models.weights import IMAGENET_MEAN, IMAGENET_STD

    return Compose([RandomResizedCrop(crop), RandomHorizontalFlip(), ToTensor(),
                    Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def fill(model: nn.Module, state: Any, head: str, arch: str, path: Any = "the file") -> None:
    """Load a state dict into a model, but for its last layer. Raises ProbeError that names what does not fit."""
    metadata = getattr(state, "_metadata", None)
    own = {name: tensor for name, tensor in model.state_dict().items() if _inside(name, [head])}
    # whatever the checkpoint has under the first part of the head's name belongs to its classifier
    old = [head.partition(".")[0]]
    merged = type(state)((name, tensor) for name, tensor in state.items() if not _inside(name, old))
    merged.update(own)
    if metadata is not None:
        merged._metadata = metadata
    try:
        model.load_state_dict(merged)
    except RuntimeError as error:
        raise ProbeError(f"checkpoint {path} does not fit {arch}: {_misfit(str(error))}") from None


def _misfit(text: str) -> str:
    """What ``load_state_dict`` complains about, in one line: the first keys of each kind, and how many more."""
    parts: list[str] = []
    mismatches: list[str] = []
    for line in text.split("\n\t")[1:]:
        listed = re.match(r"(Missing|Unexpected) key\(s\) in state_dict: (.*)\. $", line)
        shape = re.match(r"size mismatch for (\S+): copying .*?\[(.*?)\].*\[(.*?)\]\)?\.$", line)
        if listed:
            parts.append(f"{listed[1].lower()} " + _few(listed[2].replace('"', "").split(", ")))
        elif shape:
            mismatches.append(f"{shape[1]} is [{shape[2]}] and should be [{shape[3]}]")
        elif not line.startswith("Did you mean: "):  # guesses for single keys: too long for one line
            parts.append(line)
    if mismatches:
        parts.insert(0, "shapes differ: " + _few(mismatches))
    return "; ".join(parts)


def _few(items: list[str]) -> str:
    more = len(items) - SHOWN_KEYS
    return ", ".join(items[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
