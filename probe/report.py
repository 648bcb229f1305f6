"""The results of a run as text."""
from __future__ import annotations

from collections.abc import Sequence

from tritium.probe.scores import TOP, Scores

MATRIX_CLASSES = 20  # up to here the whole confusion matrix is shown
LISTED = 10
NAME_WIDTH = 16
TITLE = "true / taken for"


def summary(scores: Scores, classes: Sequence[str]) -> str:
    """Accuracy overall and for each class, and which classes are taken for which."""
    lines = [f"top-1 {scores.top1:.2%}   ({scores.correct:,} of {scores.count:,} validation images)"]
    if scores.classes > TOP:
        lines.append(f"top-5 {scores.top5:.2%}")
    lines += ["", *per_class(scores, classes), "", *confusion(scores, classes)]
    return "\n".join(lines)


def per_class(scores: Scores, classes: Sequence[str]) -> list[str]:
    """A line for each class with its number of images and accuracy; of many classes the worst."""
    totals, accuracy = scores.confusion.sum(1), scores.per_class
    shown = list(range(len(classes)))
    if len(classes) > MATRIX_CLASSES:
        shown = sorted(shown, key=lambda i: (accuracy[i], i))[:LISTED]
    title = f"class (the {len(shown)} worst of {len(classes)})" if len(shown) < len(classes) else "class"
    width = max(len(title), *(len(_short(classes[i])) for i in shown))
    lines = [f"{title:<{width}}  images    top-1"]
    lines += [f"{_short(classes[i]):<{width}}  {totals[i]:>6,}  {accuracy[i]:>7.2%}" for i in shown]
    return lines


def confusion(scores: Scores, classes: Sequence[str]) -> list[str]:
    """The confusion matrix, a row for each true class; of many classes the most frequent confusions."""
    matrix = scores.confusion
    if len(classes) <= MATRIX_CLASSES:
        names = [_short(name) for name in classes]
        left = max(len(TITLE), *map(len, names))
        heads = names if max(map(len, names)) <= 6 else [str(i) for i in range(len(names))]
        if heads is not names:
            names = [f"{i} {name}" for i, name in enumerate(names)]
            left = max(left, *map(len, names))
        cell = max(*map(len, heads), len(str(matrix.max())))
        lines = [f"{TITLE:<{left}}  " + " ".join(f"{head:>{cell}}" for head in heads)]
        for name, row in zip(names, matrix, strict=True):
            lines.append(f"{name:<{left}}  " + " ".join(f"{count or '.':>{cell}}" for count in row))
        return lines
    pairs = [(-int(matrix[i, j]), i, j) for i, j in zip(*matrix.nonzero(), strict=True) if i != j]
    lines = ["most frequent confusions"]
    lines += [f"{-count:>6,}  {_short(classes[i])} taken for {_short(classes[j])}"
              for count, i, j in sorted(pairs)[:LISTED]]
    return lines


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[:NAME_WIDTH - 1] + "…"
