"""The whole of a linear probing run: features, head, and what is written into its folder.

The folder of a run holds ``config.json`` (how it was started), ``metrics.jsonl`` (a line for each epoch),
``checkpoint.pt`` (the last finished epoch, from which ``resume`` continues), and at the end ``head.safetensors`` and
``report.json``. Of two equal runs these files are equal to the last byte, but for the times in the report.
"""
from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tritium.probe.backbone import Backbone
from tritium.probe.data import Data
from tritium.probe.errors import ProbeError, refusing
from tritium.probe.features import Features, LiveFeatures, cached_features
from tritium.probe.head import LinearProbe, Recipe
from tritium.probe.scores import Scores
from tritium.tensor.files import atomic
from tritium.tensor.serialization import load, save, save_safetensors


@dataclass
class Settings:
    """How a run is done, beside its recipe: nothing here but ``live`` and ``augment`` changes what is learned.

    ``cache``: the folder of features, None for no cache. ``live``: compute features anew in every epoch. ``augment``:
    random crops and flips of the training images, with ``live``. ``out``: the folder of the run, None for none.
    ``say`` is given lines about the progress, ``warn`` those about trouble that is no error."""

    feature_batch_size: int = 64
    device: Any = "cpu"
    cache: str | None = None
    live: bool = False
    augment: bool = False
    skip_bad: bool = False
    out: str | None = None
    resume: bool = False
    progress: bool = False
    say: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None


@dataclass
class Result:
    """What a run found: the trained head, its scores on the validation images, and a report that JSON can hold."""

    probe: LinearProbe
    scores: Scores
    report: dict[str, Any]
    skipped: list[str] = field(default_factory=list)


def run(data: Data, backbone: Backbone, recipe: Recipe | None = None, settings: Settings | None = None) -> Result:
    """Train a head for ``data`` on the features of ``backbone``.

    Raises ProbeError for input that can not be probed: images that can not be read (unless ``skip_bad``), a loss that
    is not finite, a folder that holds another run."""
    recipe, settings = recipe or Recipe(), settings or Settings()
    if settings.augment and not (settings.live and backbone.augmentation):
        raise ProbeError("--augment needs --no-cache: features that are kept can not change from epoch to epoch"
                         if not settings.live else f"--augment: {backbone.arch} has no augmentation")
    digest = backbone.digest()
    identity = {"arch": backbone.arch, "weights": digest, "transform": repr(backbone.transform),
                "classes": data.classes, "train": data.train.fingerprint, "val": data.val.fingerprint,
                "recipe": asdict(recipe), "live": settings.live, "augment": settings.augment,
                "skip_bad": settings.skip_bad, "feature_batch_size": settings.feature_batch_size}
    folder = None if settings.out is None else RunFolder(settings.out, identity, settings.resume)
    try:
        return _run(data, backbone, recipe, settings, digest, folder)
    except ProbeError:
        if folder is not None:
            folder.withdraw()
        raise


def _run(data: Data, backbone: Backbone, recipe: Recipe, settings: Settings, digest: str,
         folder: RunFolder | None) -> Result:
    started = time.perf_counter()
    sources: list[Features | LiveFeatures] = []
    for part, images in (("train", data.train), ("val", data.val)):
        if settings.live:
            sources.append(LiveFeatures(backbone, images, settings.device, skip_bad=settings.skip_bad,
                                        evaluation_batch=settings.feature_batch_size, progress=settings.progress,
                                        augment=settings.augment and part == "train"))
        else:
            sources.append(cached_features(backbone, images, digest=digest, part=part, device=settings.device,
                                           batch_size=settings.feature_batch_size, folder=settings.cache,
                                           skip_bad=settings.skip_bad, progress=settings.progress, warn=settings.warn))
    train, val = sources
    skipped = train.skipped + val.skipped
    _check_classes(data, train, val)
    with_features = time.perf_counter()
    if not settings.live:
        origin = "from the cache" if train.cached and val.cached else f"in {with_features - started:.1f} s"
        settings.say(f"features {len(train):,} + {len(val):,} of {backbone.features} numbers, {origin}")
    if skipped:
        settings.warn(f"skipped {len(skipped)} images that can not be read: {', '.join(skipped[:3])}"
                      + (" ..." if len(skipped) > 3 else ""))

    probe = LinearProbe(backbone.features, len(data.classes), recipe, device=settings.device)
    if folder is not None:
        folder.restore(probe)
    scores = _fit(probe, train, val, settings, folder)
    finished = time.perf_counter()
    report = {"arch": backbone.arch, "weights": backbone.weights, "weights_sha256": digest, "data": data.kind,
              "images": {"train": len(train), "val": len(val), "skipped": skipped}, "classes": data.classes,
              "recipe": asdict(recipe), "top1": scores.top1, "top5": scores.top5, "loss": scores.loss,
              "per_class": dict(zip(data.classes, scores.per_class, strict=True)),
              "confusion": scores.confusion.tolist(), "features": backbone.features,
              "seconds": {"features": round(with_features - started, 3),
                          "training": round(finished - with_features, 3)}}
    if folder is not None:
        folder.finish(probe, backbone, data, report)
    return Result(probe, scores, report, skipped)


def _fit(probe: LinearProbe, train: Any, val: Any, settings: Settings, folder: RunFolder | None) -> Scores:
    from tqdm import tqdm

    recipe = probe.recipe
    with tqdm(total=recipe.epochs, initial=probe.epoch, desc="head", disable=not settings.progress, leave=False,
              unit=" epochs", dynamic_ncols=True) as shown:
        def done(probe: LinearProbe) -> None:
            row = probe.history[-1]
            if folder is not None:
                folder.keep(probe)
            shown.update(1)
            top5 = f"   top-5 {row['top5']:7.2%}" if probe.num_classes > 5 else ""
            settings.say(f"epoch {row['epoch']:>{len(str(recipe.epochs))}}/{recipe.epochs}   rate {row['lr']:<10.4g} "
                         f"loss {row['train_loss']:.4f}   validation {row['val_loss']:.4f}   top-1 {row['top1']:7.2%}"
                         + top5)

        return probe.fit(train, val, done)


def _check_classes(data: Data, train: Any, val: Any) -> None:
    """After images were left out: every class still has some to learn from."""
    missing = set(range(len(data.classes))) - set(train.labels.tolist())
    if missing:
        raise ProbeError(f"class {data.classes[min(missing)]} has no training image that can be read")
    if not len(val):
        raise ProbeError("there is no validation image that can be read")


class RunFolder:
    """The files of one run. Raises ProbeError when the folder holds another run, or one that was started otherwise."""

    def __init__(self, path: str, identity: dict[str, Any], resume: bool) -> None:
        self.path = Path(os.path.expanduser(path))
        self.config = self.path / "config.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.metrics = self.path / "metrics.jsonl"
        self.created = False
        if resume:
            self._check(identity)
            return
        if self.path.exists() and not self.path.is_dir():
            raise ProbeError(f"{path} is a file: --out needs a folder")
        self.created = not self.path.exists()
        with refusing(OSError, prefix="--out: "):
            os.makedirs(self.path, exist_ok=True)
            others = [file for file in (self.checkpoint, self.metrics, self.path / "report.json") if file.exists()]
            try:
                if others:
                    raise FileExistsError
                with open(self.config, "x", encoding="utf-8") as file:  # two runs can not both begin here
                    file.write(json.dumps(identity, indent=1) + "\n")
            except FileExistsError:
                raise ProbeError(f"{path} holds another run: continue it with --resume, or choose another "
                                 "--out") from None

    def _check(self, identity: dict[str, Any]) -> None:
        if not self.config.is_file():
            raise ProbeError(f"--resume: there is no run in {self.path}")
        with refusing(OSError, ValueError, prefix=f"{self.config} can not be read: "):
            before = json.loads(self.config.read_text(encoding="utf-8"))
        for name, now in identity.items():
            then = before.get(name)
            if isinstance(now, dict) and isinstance(then, dict):
                name, then, now = next(((k, then.get(k), now[k]) for k in now if then.get(k) != now[k]), (name, 0, 0))
            if then != now:
                values = f"it was {then} and is {now}" if len(f"{then}{now}") < 80 else "it is not what it was"
                raise ProbeError(f"--resume: {self.path} was started with another {name.replace('_', ' ')}: {values}")

    def restore(self, probe: LinearProbe) -> None:
        """Bring ``probe`` to the last finished epoch, if there is one, and the metrics with it."""
        if self.checkpoint.exists():
            with refusing(OSError, RuntimeError, KeyError, prefix=f"{self.checkpoint} can not be used: "):
                probe.load_state_dict(load(self.checkpoint))
        with atomic(self.metrics) as file:
            file.write("".join(json.dumps(row) + "\n" for row in probe.history).encode())

    def keep(self, probe: LinearProbe) -> None:
        """Write down a finished epoch. If we are stopped in between, ``restore`` puts the metrics right."""
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(probe.history[-1]) + "\n")
        save(probe.state_dict(), self.checkpoint)

    def finish(self, probe: LinearProbe, backbone: Backbone, data: Data, report: dict[str, Any]) -> None:
        """Write the head, under the names it has in the model, and the report."""
        about = {"arch": backbone.arch, "weights": backbone.weights, "weights_sha256": report["weights_sha256"],
                 "transform": repr(backbone.transform), "classes": data.classes}
        weights = {f"{backbone.head}.{name}": tensor for name, tensor in probe.head.state_dict().items()}
        save_safetensors(weights, self.path / "head.safetensors", {"probe": json.dumps(about)})
        write_report(self.path, report)

    def withdraw(self) -> None:
        """After a refusal before the first epoch there is no run here: it can be started again with better input."""
        if not self.checkpoint.exists():
            for file in (self.config, self.metrics):
                file.unlink(missing_ok=True)
            if self.created:
                with suppress(OSError):
                    self.path.rmdir()


def write_report(folder: Any, report: dict[str, Any]) -> None:
    """Write ``report.json`` into the folder of a run."""
    with atomic(Path(os.path.expanduser(folder)) / "report.json") as file:
        file.write((json.dumps(report, indent=1) + "\n").encode())
