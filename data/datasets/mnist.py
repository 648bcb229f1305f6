"""MNIST and data sets in its file format; mirrors ``torchvision.datasets.MNIST``, without the download.

The IDX format (LeCun, Cortes and Burges): two zero bytes, one for the type of the elements, one for the number of
dimensions; each dimension as a big-endian 32-bit number; the elements, big-endian, the last dimension fastest.
"""
from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import Any

import numpy as np

from tritium.data.datasets.vision import Transform, VisionDataset
from tritium.tensor.graph import wrap
from tritium.tensor.tensor import Tensor

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 8


def read_idx(path: str | os.PathLike[str]) -> Any:
    """The array in an IDX file, plain or gzip-compressed (told by its first bytes), in this machine's byte order.

    Raises ValueError, naming the file, unless the header is in order and the file is exactly as long as it says."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            with gzip.open(raw) if packed else raw as file:
                return _read(file, path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _read(file: Any, path: Any) -> Any:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
        raise ValueError(f"{path} is no IDX file: it begins with the bytes {head.hex(' ')}")
    if not 1 <= head[3] <= _MAX_DIMENSIONS:
        raise ValueError(f"{path} is no IDX file: it claims {head[3]} dimensions")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError(f"{path} is damaged: it ends inside of its header")
    shape = struct.unpack(f">{head[3]}I", sizes)
    dtype = np.dtype(_TYPES[head[2]])
    expected = math.prod(shape) * dtype.itemsize
    data = _at_most(file, expected + 1)  # one byte more shows a file that is too long
    if len(data) != expected:
        found = f"{len(data)}" if len(data) < expected else "more"
        raise ValueError(f"{path} is damaged: its header {list(shape)} announces {expected} bytes of data, and it has "
                         f"{found}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _at_most(file: Any, count: int) -> bytes:
    """Up to ``count`` bytes, in blocks: a header cannot make us reserve memory for data that is not there."""
    blocks, left = [], count
    while left and (block := file.read(min(left, 1 << 22))):
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)


class MNIST(VisionDataset):
    """Handwritten digits (LeCun, Cortes and Burges): 60,000 images for training and 10,000 for testing, 28 x 28.

    Reads ``root/MNIST/raw/train-images-idx3-ubyte`` and its three companions, plain or ``.gz``. ``data``: uint8
    (N, 28, 28); ``targets``: int64 (N,). Samples are (Pillow image of mode L, int). Nothing is downloaded: raises
    RuntimeError when a file is missing, ValueError when one is damaged."""

    classes = ["0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - seven",
               "8 - eight", "9 - nine"]
    data: Tensor
    targets: Tensor

    def __init__(self, root: str | os.PathLike[str], train: bool = True, transform: Transform = None,
                 target_transform: Transform = None, download: bool = False) -> None:
        super().__init__(root, transform, target_transform)
        self.train = train
        part = "train" if train else "t10k"
        images, labels = (self._file(f"{part}-{kind}", download) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        data, targets = read_idx(images), read_idx(labels)
        if data.ndim != 3 or data.dtype != np.uint8:
            raise ValueError(f"{images} holds no images: {data.dtype} of shape {list(data.shape)}")
        if targets.ndim != 1 or targets.dtype != np.uint8 or len(targets) != len(data):
            raise ValueError(f"{labels} does not hold one label for each of the {len(data)} images in {images}")
        if targets.size and targets.max() >= len(self.classes):
            raise ValueError(f"{labels} holds the label {targets.max()}, and there are {len(self.classes)} classes")
        self.data = wrap(data)
        self.targets = wrap(targets.astype(np.int64))

    @property
    def raw_folder(self) -> str:
        """Where the files are expected."""
        assert self.root is not None
        return os.path.join(self.root, type(self).__name__, "raw")

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class."""
        return {name: i for i, name in enumerate(self.classes)}

    def _file(self, name: str, download: bool) -> str:
        for ending in ("", ".gz"):
            path = os.path.join(self.raw_folder, name + ending)
            if os.path.isfile(path):
                return path
        missing = f"Dataset not found: there is no {name} (or {name}.gz) in {self.raw_folder}."
        if download:
            raise NotImplementedError(f"{missing} Downloading data sets is not available: put the files there.")
        raise RuntimeError(missing)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        image = self.data[index].numpy()
        return self._sample(Image.fromarray(image), int(self.targets[index]))

    def __len__(self) -> int:
        return len(self.data)

    def extra_repr(self) -> str:
        return f"Split: {'Train' if self.train else 'Test'}"


class FashionMNIST(MNIST):
    """Zalando's article images (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), in ``root/FashionMNIST/raw``."""

    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
               "Ankle boot"]
