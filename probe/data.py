"""The images side of linear probing: what a folder holds, and how it is divided into training and validation images."""
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tritium.data.datasets import CIFAR10, CIFAR100, MNIST, Digits, ImageFolder
from tritium.data.datasets.folder import IMG_EXTENSIONS
from tritium.probe.errors import ProbeError, refusing

VALIDATION_NAMES = ("val", "valid", "validation", "test")
DIGITS_TRAINING = 1437  # the first four fifths; the backbone was pre-trained on images of this part only
SHOWN = 5


class Images:
    """Some images of a data set that gives (Pillow image, class number).

    ``fingerprint`` is a hash that changes when the images or their classes do."""

    def __init__(self, source: Any, indices: Sequence[int], fingerprint: str) -> None:
        self.source = source
        self.indices = list(indices)
        targets = source.targets
        self.targets = [int(targets[i]) for i in self.indices]
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, position: int, mode: str) -> Any:
        """One image, as a Pillow image of this mode. Raises OSError when it can not be read."""
        return self.source[self.indices[position]][0].convert(mode)

    def name(self, position: int) -> str:
        """The file of an image, or its number where it has none."""
        samples = getattr(self.source, "samples", None)
        return samples[self.indices[position]][0] if samples else f"image {self.indices[position]}"


@dataclass
class Data:
    """Training and validation images of the same classes."""

    kind: str
    train: Images
    val: Images
    classes: list[str]
    notes: list[str] = field(default_factory=list)


def open_data(root: Any, val_split: float = 0.2) -> Data:
    """What is in a folder: ``train`` and ``val`` (or ``valid``, ``validation``, ``test``) with a folder of images for
    each class; the class folders alone, of which ``val_split`` of every class becomes the validation part; MNIST's IDX
    files; or CIFAR's Python files.

    Raises ProbeError for a folder that is missing or holds none of these, for a class without images, for classes that
    differ between the parts, and for fewer than two classes."""
    path = Path(os.path.expanduser(os.fspath(root)))
    if not path.exists():
        raise ProbeError(f"no such folder: {path}")
    if not path.is_dir():
        raise ProbeError(f"{path} is a file: expected a folder of images")
    with refusing(RuntimeError, ValueError, OSError):
        found = _known_format(path) or _image_folders(path, val_split)
    if len(found.classes) < 2:
        hint = f" (is {path}/val missing?)" if found.classes == ["train"] else ""
        raise ProbeError(f"{path} has {len(found.classes)} class ({', '.join(found.classes)}): at least 2 are needed"
                         + hint)
    return found


def digits_data() -> Data:
    """The digits that come with the package: the first 1,437 images for training, the other 360 for validation."""
    source = Digits()
    train, val = range(DIGITS_TRAINING), range(DIGITS_TRAINING, len(source))
    return Data("digits", _of_arrays(source, train), _of_arrays(source, val), list(source.classes))


def _known_format(path: Path) -> Data | None:
    for kind, base in ((CIFAR10, path), (CIFAR100, path), (CIFAR10, path.parent), (CIFAR100, path.parent)):
        if (base / kind.base_folder).is_dir() and path in (base, base / kind.base_folder):
            return _pair(kind.__name__, kind(base, train=True), kind(base, train=False))
    for base in (path, path.parent, path.parent.parent):  # the folder of the files, or one above
        folder = base / "MNIST" / "raw"
        if folder.is_dir() and path in (base, base / "MNIST", folder):
            return _pair("MNIST", MNIST(base, train=True), MNIST(base, train=False))
    if any((path / f"train-images-idx3-ubyte{ending}").is_file() for ending in ("", ".gz")):
        return _pair("MNIST", _IdxFolder(path, train=True), _IdxFolder(path, train=False))
    return None


class _IdxFolder(MNIST):
    """MNIST's four files in any folder."""

    @property
    def raw_folder(self) -> str:
        assert self.root is not None
        return self.root


def _pair(kind: str, train: Any, val: Any) -> Data:
    data = Data(kind, _of_arrays(train, range(len(train))), _of_arrays(val, range(len(val))), list(train.classes))
    for part, images in (("training", data.train), ("validation", data.val)):
        missing = set(range(len(data.classes))) - set(images.targets)
        if missing:
            raise ProbeError(f"class {data.classes[min(missing)]} has no images in the {part} part of {kind}")
    return data


def _of_arrays(source: Any, indices: Sequence[int]) -> Images:
    pixels = np.ascontiguousarray(source.data if isinstance(source.data, np.ndarray) else source.data.numpy())
    targets = np.asarray(source.targets, np.int64)
    found = sha256(f"{pixels.dtype} {pixels.shape}\n".encode())
    for array in (pixels, targets, np.asarray(indices, np.int64)):
        found.update(array.reshape(-1).view(np.uint8).data)
    return Images(source, indices, found.hexdigest())


# --------------------------------------------------------------------------------------------- image folders

def _image_folders(path: Path, val_split: float) -> Data:
    other = next((path / name for name in VALIDATION_NAMES if (path / name).is_dir()), None)
    if (path / "train").is_dir() and other is not None:
        train, val = _folder(path / "train"), _folder(other)
        _same_classes(path / "train", train.classes, other, val.classes)
        return Data("image folders", _of_files(train, range(len(train))), _of_files(val, range(len(val))),
                    train.classes)
    whole = _folder(path)
    first, second = _divide(whole, val_split)
    note = f"{path} has no train and val: {val_split:.0%} of each class are for validation"
    return Data("image folder", _of_files(whole, first), _of_files(whole, second), whole.classes, [note])


def _folder(path: Path) -> ImageFolder:
    if not any(entry.is_dir() for entry in os.scandir(path)):
        raise ProbeError(f"{path} has no class folders: expected {path}/CLASS/IMAGE")
    found = ImageFolder(path, allow_empty=True)
    counts = np.bincount(found.targets, minlength=len(found.classes)) if found.targets else [0] * len(found.classes)
    empty = [name for name, count in zip(found.classes, counts, strict=True) if not count]
    if empty:
        which = f"class {empty[0]} has" if len(empty) == 1 else f"classes {', '.join(empty[:SHOWN])} have"
        raise ProbeError(f"{which} no images in {path} (looked for {', '.join(IMG_EXTENSIONS)})")
    return found


def _same_classes(train: Path, ours: list[str], val: Path, theirs: list[str]) -> None:
    if ours == theirs:
        return
    texts = []
    for names, place in ((sorted(set(ours) - set(theirs)), train), (sorted(set(theirs) - set(ours)), val)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            texts.append(f"{', '.join(names[:SHOWN])}{more} only in {place}")
    raise ProbeError(f"the classes differ ({len(ours)} and {len(theirs)}): {'; '.join(texts)}")


def _divide(source: ImageFolder, val_split: float) -> tuple[list[int], list[int]]:
    """Which images of each class are for training and for validation. It depends on their names alone: the same on
    every machine, and a new image moves at most one other."""
    by_class: dict[int, list[int]] = {}
    for i, target in enumerate(source.targets):
        by_class.setdefault(target, []).append(i)
    val = []
    for target, members in by_class.items():
        if len(members) < 2:
            raise ProbeError(f"class {source.classes[target]} in {source.root} has 1 image: it can not be divided into "
                             "training and validation")
        count = min(max(round(len(members) * val_split), 1), len(members) - 1)
        val += sorted(members, key=lambda i: sha256(_relative(source, i).encode()).digest())[:count]
    chosen = set(val)
    return [i for i in range(len(source)) if i not in chosen], sorted(val)


def _relative(source: ImageFolder, index: int) -> str:
    return Path(os.path.relpath(source.samples[index][0], source.root)).as_posix()


def _of_files(source: ImageFolder, indices: Sequence[int]) -> Images:
    """Files are told by name, size and time of change: reading all of them would take as long as using them."""
    found = sha256()
    for i in indices:
        path, target = source.samples[i]
        status = os.stat(path)
        found.update(f"{_relative(source, i)}\0{target}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return Images(source, indices, found.hexdigest())
