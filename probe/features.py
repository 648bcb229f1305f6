"""Features of a frozen backbone: computed once, and kept on disk.

A file of features is named and marked by a key: the hash of the weights, the transform, the images and what else the
numbers depend on. When one of them changes, so does the key, and the features are computed again; so they are when a
file is damaged. Files are written whole or not at all, so any number of runs can share a folder.
"""
from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from tritium import hub, nn
from tritium.probe.backbone import Backbone, head_name, without_head
from tritium.probe.data import Images
from tritium.probe.errors import ProbeError
from tritium.tensor.from_data import from_numpy, tensor
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.reader import CheckpointError
from tritium.tensor.serialization import load_safetensors, safetensors_metadata, save_safetensors
from tritium.tensor.tensor import Tensor

FORMAT = 1  # to be raised when the same key should give other numbers


def extract_features(model: nn.Module, dataset: Any, batch_size: int = 64, *, device: Any = "cpu",
                     progress: bool = False) -> tuple[Tensor, Tensor]:
    """What ``model`` gives to its last layer, for all of a data set: features (N, D) and labels (N,), int64.

    ``dataset``: anything indexable of (image tensor, class number). The model runs in evaluation mode without gradients
    and is left in the mode it was in; its last layer is found as ``head_name`` does, and a model without one is taken
    as it is. ``progress``: a bar on stderr."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    body: AbstractContextManager[nn.Module]
    try:
        head_name(model)
        body = without_head(model)
    except ValueError:
        body = _as_it_is(model)
    try:
        with no_grad(), body, bar(len(dataset), "features", progress) as shown:
            found, labels = [], []
            for start in range(0, len(dataset), batch_size):
                samples = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
                found.append(model(_stack([image for image, _ in samples]).to(device)).flatten(1))
                labels += [int(label) for _, label in samples]
                shown.update(len(samples))
    finally:
        for module, mode in modes:
            module.training = mode
    return _concatenate(found), tensor(labels)


class _as_it_is:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> nn.Module:
        return self.model

    def __exit__(self, *error: object) -> None:
        pass


def bar(total: int, what: str, show: bool) -> Any:
    """A progress bar on stderr, which leaves nothing behind."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=not show, leave=False, unit=" images", dynamic_ncols=True)


def _stack(images: list[Tensor]) -> Tensor:
    arrays = [image.numpy() for image in images]
    try:
        return from_numpy(np.stack(arrays))
    except ValueError:
        shapes = sorted({tuple(a.shape) for a in arrays})
        raise ProbeError(f"the images of a batch differ in shape: {', '.join(map(str, shapes[:3]))}") from None


def _concatenate(parts: list[Tensor]) -> Tensor:
    return from_numpy(np.concatenate([part.cpu().numpy() for part in parts]))


# ------------------------------------------------------------------------------------------ where batches come from

@dataclass
class Features:
    """Features (N, D) and labels (N,) that are there."""

    features: Tensor
    labels: Tensor
    device: Any = "cpu"
    skipped: list[str] = field(default_factory=list)  # the images that could not be read
    cached: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The features and labels at these positions."""
        return self.features[positions].to(self.device), self.labels[positions].to(self.device)


class LiveFeatures:
    """Features that are computed anew for every batch, from the images."""

    cached = False

    def __init__(self, backbone: Backbone, images: Images, device: Any = "cpu", *, evaluation_batch: int = 64,
                 augment: bool = False, skip_bad: bool = False, progress: bool = False) -> None:
        self.backbone = backbone
        self.images = images
        self.transform = backbone.augmentation if augment and backbone.augmentation else backbone.transform
        self.device = device
        self.evaluation_batch = evaluation_batch
        self.skipped: list[str] = []
        positions = list(range(len(images)))
        if skip_bad:  # the order of an epoch depends on how many there are
            with bar(len(images), "reading images", progress) as shown:
                positions = [i for i, _ in readable(images, backbone.mode, lambda image: None, self.skipped, shown)]
        self.positions = positions
        self.labels = tensor([images.targets[i] for i in positions])

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The features and labels at these positions. Raises ProbeError for an image that can not be read."""
        wanted = [self.positions[i] for i in positions.tolist()]
        images = [load_image(self.images, i, self.backbone.mode, self.transform) for i in wanted]
        with no_grad():
            return self.backbone.body(_stack(images).to(self.device)), self.labels[positions].to(self.device)


def load_image(images: Images, position: int, mode: str, transform: Callable[[Any], Any]) -> Any:
    """One image through the transform. Raises ProbeError, which names it, when it can not be read."""
    try:
        image = images.image(position, mode)
    except OSError as error:
        raise _Unreadable(images.name(position), error) from error
    return transform(image)


class _Unreadable(ProbeError):
    def __init__(self, name: str, error: Exception) -> None:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        super().__init__(f"cannot read the image {name}: {reason} (--skip-bad goes on without it)")
        self.name = name


def readable(images: Images, mode: str, transform: Callable[[Any], Any], skipped: list[str],
             shown: Any) -> Iterator[tuple[int, Any]]:
    """(position, image) of all images that can be read; the names of the others go to ``skipped``."""
    for i in range(len(images)):
        try:
            image = load_image(images, i, mode, transform)
        except _Unreadable as error:
            skipped.append(error.name)
        else:
            yield i, image
        shown.update(1)


# ------------------------------------------------------------------------------------------------------- the cache

def default_cache() -> str:
    """``features`` beside the folder of downloads: under ``$TRITIUM_HOME``, or ``~/.cache/tritium``."""
    return os.path.join(os.path.dirname(hub.get_dir()), "features")


def cache_key(backbone: Backbone, digest: str, images: Images, batch_size: int) -> dict[str, Any]:
    """All that the features depend on. The size of the batches is part of it: it can change the last bits."""
    return {"format": FORMAT, "arch": backbone.arch, "weights": digest, "transform": repr(backbone.transform),
            "mode": backbone.mode, "images": images.fingerprint, "batch_size": batch_size, "dtype": "float32"}


def cached_features(backbone: Backbone, images: Images, *, digest: str, part: str, device: Any = "cpu",
                    batch_size: int = 64, folder: str | None = None, skip_bad: bool = False, progress: bool = False,
                    warn: Callable[[str], None] = lambda text: None) -> Features:
    """The features of these images: from ``folder`` if they are there, else computed, and written there.

    ``digest``: of the backbone. ``part``: for the file's name. ``folder=None``: no cache. ``warn`` is told when a file
    is damaged or can not be written; the run goes on. Raises ProbeError for an image that can not be read (which
    ``skip_bad`` leaves out), and for features that are not finite."""
    key = json.dumps(cache_key(backbone, digest, images, batch_size), sort_keys=True)
    path = None
    if folder is not None:
        path = os.path.join(folder, f"{backbone.arch}-{part}-{sha256(key.encode()).hexdigest()[:20]}.safetensors")
        found = _from_cache(path, key, images, skip_bad, warn)
        if found is not None:
            found.device = device
            return found
    skipped: list[str] = []
    rows, positions = [], []
    with bar(len(images), f"{part} features", progress) as shown, no_grad():
        good = readable(images, backbone.mode, backbone.transform, skipped, shown) if skip_bad else (
            _all(images, backbone, shown))
        for batch in _batches(good, batch_size):
            positions += [i for i, _ in batch]
            rows.append(backbone.body(_stack([image for _, image in batch]).to(device)))
    if not rows:
        raise ProbeError(f"none of the {len(images)} {part} images can be read")
    features = _concatenate(rows)
    _check_finite(features, images, positions, backbone)
    if path is not None:
        _write(path, key, features, positions, skipped, warn)
    return Features(features, tensor([images.targets[i] for i in positions]), device, skipped)


def _all(images: Images, backbone: Backbone, shown: Any) -> Iterator[tuple[int, Any]]:
    for i in range(len(images)):
        yield i, load_image(images, i, backbone.mode, backbone.transform)
        shown.update(1)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _check_finite(features: Tensor, images: Images, positions: list[int], backbone: Backbone) -> None:
    bad = ~np.isfinite(features.numpy()).all(1)
    if bad.any():
        first = images.name(positions[int(bad.argmax())])
        raise ProbeError(f"{backbone.arch} with the weights {backbone.weights} gives NaN or infinite features, first "
                         f"for {first}: are the weights right?")


def _write(path: str, key: str, features: Tensor, positions: list[int], skipped: list[str],
           warn: Callable[[str], None]) -> None:
    stored = {"features": features, "positions": tensor(positions)}
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # one entry: the format does not keep the order of several, and equal runs should write equal files
        mark = json.dumps({"key": key, "skipped": skipped, "sha256": _checksum(stored)})
        save_safetensors(stored, path, {"tritium": mark})
    except (OSError, RuntimeError) as error:
        warn(f"the features are not kept: {error}")


def _from_cache(path: str, key: str, images: Images, skip_bad: bool, warn: Callable[[str], None]) -> Features | None:
    if not os.path.exists(path):
        return None
    try:
        mark = json.loads(safetensors_metadata(path)["tritium"])
        stored = load_safetensors(path)
        if mark["key"] != key or mark["sha256"] != _checksum(stored):
            raise ValueError("its content is not what was written")
        skipped, features, positions = mark["skipped"], stored["features"], stored["positions"].tolist()
    except (OSError, CheckpointError, ValueError, KeyError, TypeError) as error:
        warn(f"{path} is damaged and computed again: {error}")
        return None
    if skipped and not skip_bad:
        raise ProbeError(f"cannot read the image {skipped[0]} (--skip-bad goes on without it)")
    return Features(features, tensor([images.targets[i] for i in positions]), "cpu", skipped, True)


def _checksum(stored: dict[str, Tensor]) -> str:
    found = sha256()
    for name in sorted(stored):
        array = np.ascontiguousarray(stored[name].numpy())
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
