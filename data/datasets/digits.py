"""Handwritten digits that come with the package: 1,797 images of 8 x 8 (data/assets/DIGITS_LICENSE.md)."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tritium.data.datasets.vision import Transform, VisionDataset
from tritium.tensor.graph import wrap

PATH = Path(__file__).parent.parent / "assets" / "digits.npz"
WHITE = 16  # the images count how many of 4 x 4 pixels of the original are set


class Digits(VisionDataset):
    """The test part of the UCI data set Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998).

    ``data``: uint8 (1797, 8, 8), values 0 (paper) to 16 (ink); ``targets``: int64 (1797,). Samples are (Pillow image of
    mode L, with 16 shown as 255, int)."""

    classes = [str(i) for i in range(10)]
    class_to_idx = {str(i): i for i in range(10)}

    def __init__(self, transform: Transform = None, target_transform: Transform = None) -> None:
        super().__init__(None, transform, target_transform)
        with np.load(PATH, allow_pickle=False) as stored:
            images, targets = stored["images"], stored["targets"]
        self.data = wrap(images)
        self.targets = wrap(targets.astype(np.int64))
        # numbers as a photograph of them would be: the full range of a byte
        self._shown = (images.astype(np.uint16) * 255 // WHITE).astype(np.uint8)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        return self._sample(Image.fromarray(self._shown[index]), int(self.targets[index]))

    def __len__(self) -> int:
        return len(self.data)
