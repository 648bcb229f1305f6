"""What the image data sets share: root, transforms, and how they print."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tritium.data.dataset import Dataset

Transform = Callable[[Any], Any] | None


class VisionDataset(Dataset[Any]):
    """Samples (image, target), each through its transform where one is given."""

    def __init__(self, root: str | os.PathLike[str] | None, transform: Transform = None,
                 target_transform: Transform = None) -> None:
        self.root = None if root is None else os.path.expanduser(os.fspath(root))
        self.transform = transform
        self.target_transform = target_transform

    def _sample(self, image: Any, target: Any) -> tuple[Any, Any]:
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Further lines for ``repr``."""
        return ""

    def __repr__(self) -> str:
        lines = [f"Number of datapoints: {len(self)}"]
        if self.root is not None:
            lines.append(f"Root location: {self.root}")
        lines += self.extra_repr().splitlines()
        shown = [(name, transform) for name, transform in (("Transform: ", self.transform),
                                                           ("Target transform: ", self.target_transform))
                 if transform is not None]
        if shown:
            lines.append("StandardTransform")
        text = "\n".join([f"Dataset {type(self).__name__}", *("    " + line for line in lines)])
        for name, transform in shown:
            text += "\n" + name + repr(transform).replace("\n", "\n" + " " * len(name))
        return text
