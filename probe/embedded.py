"""The embedded default: ten digits from a backbone that has seen five, beside what needs no training.

Data and weights come with the package. The same head, with the same recipe, is trained on three kinds of features: the
pixels themselves, those of an untrained backbone, and those of the backbone pre-trained on the digits 0 to 4 (of
training images only). The digits 5 to 9 are new to all three. Other recipes do not change the order: with learning
rates from 0.03 to 1 and up to 100 epochs the pixels reach 91.4% at most, untrained backbones 91.7%, and the pre-trained
one stays above 96%.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from tritium import nn
from tritium.probe.backbone import Backbone, load_backbone
from tritium.probe.data import digits_data
from tritium.probe.head import Recipe
from tritium.probe.scores import Scores
from tritium.probe.workflow import Result, Settings, run, write_report

RECIPE = Recipe(epochs=30, batch_size=64)
SEEN = 5  # the backbone knows the digits below this one
PIXELS = 64


def run_embedded(recipe: Recipe = RECIPE, settings: Settings | None = None) -> tuple[Result, list[dict[str, Any]]]:
    """Probe the three kinds of features. Returns the result for the pre-trained backbone, whose folder and report are
    the run's, and a row for each kind: name, number of features, accuracy on all, on 0-4 and on 5-9."""
    settings = settings or Settings()
    data = digits_data()
    device = settings.device
    pretrained = load_backbone("digits_resnet", "DEFAULT", device=device)
    untrained = load_backbone("digits_resnet", None, seed=recipe.seed, device=device)
    pixels = Backbone("pixels", nn.Flatten(), PIXELS, "fc", "none", pretrained.transform, mode="L")
    result = run(data, pretrained, recipe, settings)  # first: it refuses a folder before any work is done
    # The others are only measured: they leave no folder, and say nothing.
    aside = replace(settings, out=None, resume=False, say=lambda text: None)
    rows = [_row("raw pixels", pixels, run(data, pixels, recipe, aside).scores),
            _row("untrained backbone", untrained, run(data, untrained, recipe, aside).scores),
            _row("pre-trained backbone", pretrained, result.scores)]
    result.report["compared"] = rows
    if settings.out is not None:
        write_report(settings.out, result.report)
    return result, rows


def _row(name: str, backbone: Backbone, scores: Scores) -> dict[str, Any]:
    right, totals = scores.confusion.diagonal(), scores.confusion.sum(1)
    return {"features": name, "numbers": backbone.features, "top1": scores.top1,
            "digits 0-4": float(right[:SEEN].sum() / totals[:SEEN].sum()),
            "digits 5-9": float(right[SEEN:].sum() / totals[SEEN:].sum())}


def comparison(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [f"{'the same head on':<22}{'numbers':>8}{'top-1':>10}{'digits 0-4':>13}{'digits 5-9':>13}"]
    lines += [f"{row['features']:<22}{row['numbers']:>8}{row['top1']:>10.2%}{row['digits 0-4']:>13.2%}"
              f"{row['digits 5-9']:>13.2%}" for row in rows]
    return "\n".join(lines)
