"""Images in folders, one folder a class; mirrors ``torchvision.datasets.ImageFolder`` and ``DatasetFolder``."""
from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from typing import Any

from tritium.data.datasets.vision import Transform, VisionDataset

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
Extensions = str | tuple[str, ...] | None


class UnreadableImage(OSError):
    """A file that is no image, or a damaged one. ``path`` names it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read the image {path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return UnreadableImage, (self.path, self.reason)


def has_file_allowed_extension(filename: str, extensions: str | tuple[str, ...]) -> bool:
    """Whether the name ends in one of these, in upper or lower case."""
    return filename.lower().endswith(extensions if isinstance(extensions, str) else tuple(extensions))


def is_image_file(filename: str) -> bool:
    """Whether the name ends as an image's does."""
    return has_file_allowed_extension(filename, IMG_EXTENSIONS)


def find_classes(directory: str | os.PathLike[str]) -> tuple[list[str], dict[str, int]]:
    """The folders in a directory, sorted, and their numbers. Raises FileNotFoundError when there are none."""
    classes = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
    if not classes:
        raise FileNotFoundError(f"Couldn't find any class folder in {directory}.")
    return classes, {name: i for i, name in enumerate(classes)}


def make_dataset(directory: str | os.PathLike[str], class_to_idx: dict[str, int] | None = None,
                 extensions: Extensions = None, is_valid_file: Callable[[str], bool] | None = None,
                 allow_empty: bool = False) -> list[tuple[str, int]]:
    """All (path, class number) below the class folders, in sorted order; links to folders are followed.

    A file counts by its ``extensions`` or by ``is_valid_file(path)``, of which exactly one is to be given. Raises
    FileNotFoundError for a class without files, unless ``allow_empty``."""
    directory = os.path.expanduser(os.fspath(directory))
    if class_to_idx is None:
        class_to_idx = find_classes(directory)[1]
    elif not class_to_idx:
        raise ValueError("'class_to_index' must have at least one entry to collect any samples.")
    if (extensions is None) == (is_valid_file is None):
        raise ValueError("Both extensions and is_valid_file cannot be None or not None at the same time")
    if extensions is not None:
        endings = extensions

        def is_valid_file(path: str) -> bool:
            return has_file_allowed_extension(path, endings)

    assert is_valid_file is not None
    samples: list[tuple[str, int]] = []
    empty = []
    for name in sorted(class_to_idx):
        before = len(samples)
        for folder, _, files in sorted(os.walk(os.path.join(directory, name), followlinks=True)):
            paths = [os.path.join(folder, file) for file in sorted(files)]
            samples += [(path, class_to_idx[name]) for path in paths if is_valid_file(path)]
        if len(samples) == before:
            empty.append(name)
    if empty and not allow_empty:
        message = f"Found no valid file for the classes {', '.join(empty)}. "
        if extensions is not None:
            listed = extensions if isinstance(extensions, str) else ", ".join(extensions)
            message += f"Supported extensions are: {listed}"
        raise FileNotFoundError(message)
    return samples


def pil_loader(path: str) -> Any:
    """The image in a file, as an RGB Pillow image.

    Raises UnreadableImage (an OSError), which names the file, when it cannot be decoded; FileNotFoundError and
    PermissionError as they are."""
    from PIL import Image

    with open(path, "rb") as file:
        try:
            return Image.open(file).convert("RGB")
        except (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error,
                Image.DecompressionBombError) as error:
            # Pillow's decoders raise all of these for damaged files, most without the file's name
            reason = "not an image in a known format" if isinstance(error, Image.UnidentifiedImageError) else str(error)
            raise UnreadableImage(path, reason) from error


default_loader = pil_loader


class DatasetFolder(VisionDataset):
    """Files of any kind in folders, ``root/class/.../file``, read by ``loader(path)``.

    ``classes``: the folders' names, sorted; ``class_to_idx``: their numbers; ``samples``: (path, number);
    ``targets``: the numbers. Raises FileNotFoundError for a root without folders, or a class without files (unless
    ``allow_empty``)."""

    def __init__(self, root: str | os.PathLike[str], loader: Callable[[str], Any], extensions: Extensions = None,
                 transform: Transform = None, target_transform: Transform = None,
                 is_valid_file: Callable[[str], bool] | None = None, allow_empty: bool = False) -> None:
        super().__init__(root, transform, target_transform)
        assert self.root is not None
        classes, class_to_idx = self.find_classes(self.root)
        self.loader = loader
        self.extensions = extensions
        self.classes = classes
        self.class_to_idx = class_to_idx
        self.samples = self.make_dataset(self.root, class_to_idx, extensions, is_valid_file, allow_empty)
        self.targets = [target for _, target in self.samples]

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """The classes of this directory; to be overridden for another arrangement."""
        return find_classes(directory)

    @staticmethod
    def make_dataset(directory: str, class_to_idx: dict[str, int], extensions: Extensions = None,
                     is_valid_file: Callable[[str], bool] | None = None,
                     allow_empty: bool = False) -> list[tuple[str, int]]:
        """The samples of this directory; to be overridden for another arrangement."""
        return make_dataset(directory, class_to_idx, extensions, is_valid_file, allow_empty)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        return self._sample(self.loader(path), target)

    def __len__(self) -> int:
        return len(self.samples)


class ImageFolder(DatasetFolder):
    """Images in folders, ``root/class/.../image.png``, as RGB Pillow images; ``imgs`` is another name of ``samples``.

    An image that cannot be decoded raises UnreadableImage, which names the file, when it is asked for."""

    def __init__(self, root: str | os.PathLike[str], transform: Transform = None, target_transform: Transform = None,
                 loader: Callable[[str], Any] = default_loader, is_valid_file: Callable[[str], bool] | None = None,
                 allow_empty: bool = False) -> None:
        super().__init__(root, loader, IMG_EXTENSIONS if is_valid_file is None else None, transform, target_transform,
                         is_valid_file, allow_empty)
        self.imgs = self.samples
