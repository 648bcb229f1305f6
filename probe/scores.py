"""How well predictions fit: loss, top-k and per-class accuracy, confusion matrix."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tritium.nn import functional as F
from tritium.tensor.tensor import Tensor

TOP = 5


@dataclass
class Scores:
    """Counts over a number of images; ``add`` takes one batch after the other.

    ``confusion[i, j]``: how many images of class i were taken for class j."""

    classes: int
    count: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    correct_in_top: int = 0
    confusion: Any = field(default=None)

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.classes, self.classes), np.int64)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits (N, classes) and labels (N,)."""
        self.loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
        best = logits.topk(min(TOP, self.classes), dim=1).indices.cpu().numpy()
        truth = labels.cpu().numpy()
        hits = best == truth[:, None]
        self.count += len(truth)
        self.correct += int(hits[:, 0].sum())
        self.correct_in_top += int(hits.any(1).sum())
        np.add.at(self.confusion, (truth, best[:, 0]), 1)

    @property
    def loss(self) -> float:
        """The mean cross entropy."""
        return self.loss_sum / max(self.count, 1)

    @property
    def top1(self) -> float:
        """The part of the images whose class was given the highest score."""
        return self.correct / max(self.count, 1)

    @property
    def top5(self) -> float:
        """The part of the images whose class was among the five highest scores (all of them, of fewer classes)."""
        return self.correct_in_top / max(self.count, 1)

    @property
    def per_class(self) -> list[float]:
        """Top-1 accuracy for the images of each class; 0 for a class without images."""
        totals = self.confusion.sum(1)
        right = self.confusion.diagonal()
        return [float(r / total) if total else 0.0 for r, total in zip(right, totals, strict=True)]
