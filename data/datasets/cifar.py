"""CIFAR-10 and CIFAR-100 in their Python version; mirrors ``torchvision.datasets.CIFAR10``, without the download.

The files are pickles of a dictionary, written by Python 2. They are run by our own interpreter (tensor/unpickle.py),
which honours what builds a NumPy array of bytes and refuses every other name.
"""
from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from tritium.data.datasets.vision import Transform, VisionDataset
from tritium.tensor.unpickle import CheckpointError, Global, Reader, Unfinished, Unpickler


def _dtype(name: Any, *flags: Any) -> Unfinished:
    text = name.decode("ascii") if type(name) is bytes else name
    if text not in ("u1", "i1", "i4", "i8", "<i4", "<i8"):
        raise CheckpointError(f"the file holds an array of {text!r}; CIFAR's are of bytes and numbers")
    dtype = np.dtype(text)
    return Unfinished("numpy.dtype", lambda state: dtype)


def _array(kind: Any, shape: Any, code: Any) -> Unfinished:
    return Unfinished("numpy.ndarray", _finish_array)


def _finish_array(state: Any) -> Any:
    _, shape, dtype, fortran, data = state
    if not isinstance(dtype, np.dtype) or type(data) is not bytes or fortran:
        raise CheckpointError("the file holds an array that is not plain numbers in C order")
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise CheckpointError("the file holds an array without a proper shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise CheckpointError(f"an array of shape {list(shape)} with {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


_ARRAY = Global("numpy.ndarray", _array)
_NAMES: dict[str, Any] = {"numpy.ndarray": _ARRAY, "numpy.dtype": Global("numpy.dtype", _dtype)}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _NAMES[f"{_module}._reconstruct"] = Global(f"{_module}._reconstruct", _array)


def read_batch(path: str) -> dict[str, Any]:
    """The dictionary in one of CIFAR's files, with text keys. Raises CheckpointError (a RuntimeError), naming the file,
    for a damaged file or one that asks for anything but building arrays."""
    with open(path, "rb") as file:
        try:
            found = Unpickler(Reader(file, os.path.getsize(path)), _NAMES.get, encoding="bytes").load()
            if type(found) is not dict:
                raise CheckpointError(f"it holds a {type(found).__name__} and no dictionary")
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
    return {key.decode("latin-1") if type(key) is bytes else key: value for key, value in found.items()}


class CIFAR10(VisionDataset):
    """Small colour images of ten classes (Krizhevsky 2009): 50,000 for training and 10,000 for testing, 32 x 32.

    Reads ``root/cifar-10-batches-py/data_batch_1`` and its companions, as the archive unpacks. ``data``: a uint8 array
    (N, 32, 32, 3); ``targets``: a list of int. Samples are (Pillow image of mode RGB, int). Nothing is downloaded:
    raises RuntimeError when a file is missing or damaged."""

    base_folder = "cifar-10-batches-py"
    train_files = tuple(f"data_batch_{i}" for i in range(1, 6))
    test_files = ("test_batch",)
    meta = ("batches.meta", "label_names")
    label_key = "labels"

    def __init__(self, root: str | os.PathLike[str], train: bool = True, transform: Transform = None,
                 target_transform: Transform = None, download: bool = False) -> None:
        super().__init__(root, transform, target_transform)
        self.train = train
        assert self.root is not None
        folder = os.path.join(self.root, self.base_folder)
        names = self.train_files if train else self.test_files
        missing = [name for name in (*names, self.meta[0]) if not os.path.isfile(os.path.join(folder, name))]
        if missing:
            message = f"Dataset not found or corrupted: there is no {', '.join(missing)} in {folder}."
            if download:
                raise NotImplementedError(f"{message} Downloading data sets is not available: put the files there.")
            raise RuntimeError(message)
        self.classes = self._class_names(os.path.join(folder, self.meta[0]))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        parts: list[Any] = []
        self.targets: list[int] = []
        for name in names:
            images, labels = self._images(os.path.join(folder, name))
            parts.append(images)
            self.targets += labels
        planes = np.concatenate(parts).reshape(-1, 3, 32, 32)
        self.data = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))

    def _class_names(self, path: str) -> list[str]:
        names = read_batch(path).get(self.meta[1])
        if type(names) is not list or not all(type(name) in (bytes, str) for name in names):
            raise CheckpointError(f"{path}: it has no list of class names ({self.meta[1]!r})")
        return [name.decode("latin-1") if type(name) is bytes else name for name in names]

    def _images(self, path: str) -> tuple[Any, list[int]]:
        batch = read_batch(path)
        images, labels = batch.get("data"), batch.get(self.label_key)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (3072,):
            raise CheckpointError(f"{path}: it has no images ('data': bytes of shape [N, 3072])")
        if type(labels) is not list or len(labels) != len(images) or not all(
                type(label) is int and 0 <= label < len(self.classes) for label in labels):
            raise CheckpointError(f"{path}: it has no list of labels ({self.label_key!r}), one of "
                                  f"{len(self.classes)} classes for each image")
        return images, labels

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        return self._sample(Image.fromarray(self.data[index]), self.targets[index])

    def __len__(self) -> int:
        return len(self.data)

    def extra_repr(self) -> str:
        return f"Split: {'Train' if self.train else 'Test'}"


class CIFAR100(CIFAR10):
    """As CIFAR10 with 100 classes, in ``root/cifar-100-python``."""

    base_folder = "cifar-100-python"
    train_files = ("train",)
    test_files = ("test",)
    meta = ("meta", "fine_label_names")
    label_key = "fine_labels"
