"""The head: a linear layer on features, its training, and the state that makes a run continue where it stopped."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from tritium import nn
from tritium.nn import functional as F
from tritium.optim import LARS, SGD
from tritium.optim.lr_scheduler import LambdaLR
from tritium.probe.errors import ProbeError
from tritium.probe.features import Features
from tritium.probe.scores import Scores
from tritium.tensor.creation import arange
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.ops.random import randperm
from tritium.tensor.random import Generator, fork_rng, manual_seed
from tritium.tensor.tensor import Tensor

EVALUATION_BATCH = 1024
OPTIMIZERS = ("sgd", "lars")
SCHEDULES = ("cosine", "step", "none")
STEP = 0.1  # the factor of the step schedule, after each third of the epochs


@dataclass(frozen=True)
class Recipe:
    """How a head is trained. The rate is constant within an epoch; ``warmup`` epochs raise it evenly to ``lr``.

    ``optimizer``: "sgd" or "lars". ``schedule``: "cosine" (Loshchilov and Hutter 2016, arXiv:1608.03983, without
    restarts), "step" (a tenth after each third) or "none". Raises ProbeError for values that make no sense."""

    epochs: int = 20
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    optimizer: str = "sgd"
    schedule: str = "cosine"
    warmup: int = 0
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fits, wanted in (
                ("epochs", self.epochs >= 1, "at least 1"), ("batch_size", self.batch_size >= 1, "at least 1"),
                ("lr", 0 < self.lr < math.inf, "a positive number"),
                ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
                ("weight_decay", 0 <= self.weight_decay < math.inf, "a number from 0"),
                ("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
                ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
                ("warmup", 0 <= self.warmup < self.epochs, f"from 0 to below the {self.epochs} epochs"),
                ("seed", 0 <= self.seed < 1 << 32, "from 0 to 4294967295")):
            if not fits:
                raise ProbeError(f"{name.replace('_', ' ')} must be {wanted}, not {getattr(self, name)}")

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch (counted from 0), as a part of ``lr``."""
        if epoch < self.warmup:
            return (epoch + 1) / (self.warmup + 1)
        done = (epoch - self.warmup) / (self.epochs - self.warmup)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return STEP ** int(3 * done) if self.schedule == "step" else 1.0

    def order(self, epoch: int, count: int) -> Tensor:
        """The order of the images in an epoch: a function of the seed and the epoch alone."""
        return randperm(count, generator=Generator().manual_seed(epoch_seed(self.seed, epoch)))


def epoch_seed(seed: int, epoch: int) -> int:
    """A different seed for every epoch of every seed."""
    return int.from_bytes(sha256(f"{seed} {epoch}".encode()).digest()[:4], "big")


class LinearProbe:
    """A linear layer on frozen features, trained with cross entropy.

    ``train`` and ``val`` below are ``Features``, or anything with ``len`` and ``batch(positions)`` that gives features
    (N, in_features) and labels (N,). ``history`` has one row per epoch. With equal recipes, features and labels the
    numbers are equal to the last bit; no global random state is used or changed."""

    def __init__(self, in_features: int, num_classes: int, recipe: Recipe | None = None, *,
                 device: Any = "cpu") -> None:
        self.recipe = recipe or Recipe()
        self.num_classes = num_classes
        with fork_rng():
            manual_seed(self.recipe.seed)
            self.head = nn.Linear(in_features, num_classes).to(device)
        options: dict[str, Any] = {"lr": self.recipe.lr, "momentum": self.recipe.momentum,
                                   "weight_decay": self.recipe.weight_decay}
        kind = LARS if self.recipe.optimizer == "lars" else SGD
        self.optimizer = kind(self.head.parameters(), **options)
        self.scheduler = LambdaLR(self.optimizer, self.recipe.rate)
        self.history: list[dict[str, Any]] = []

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def fit(self, train: Any, val: Any, on_epoch: Callable[[LinearProbe], None] | None = None) -> Scores:
        """Train for the epochs that are left, measure on ``val`` after each, and return the last scores.

        ``on_epoch`` is called after each epoch, with a row more in ``history``. Raises ProbeError when the loss is no
        longer a finite number."""
        if not len(train) or not len(val):
            raise ProbeError("there are no images to train on" if not len(train) else "there are no validation images")
        scores = None
        while self.epoch < self.recipe.epochs:
            rate = self.optimizer.param_groups[0]["lr"]
            loss = self._train_epoch(train)
            scores = self.evaluate(val)
            self._check(scores.loss, "validation loss")
            self.history.append({"epoch": self.epoch + 1, "lr": rate, "train_loss": loss, "val_loss": scores.loss,
                                 "top1": scores.top1, "top5": scores.top5})
            self.scheduler.step()
            if on_epoch is not None:
                on_epoch(self)
        return self.evaluate(val) if scores is None else scores

    def _train_epoch(self, train: Any) -> float:
        total = 0.0
        with fork_rng():  # for what transforms draw, when features are computed anew
            manual_seed(epoch_seed(self.recipe.seed, self.epoch))
            for positions in self.recipe.order(self.epoch, len(train)).split(self.recipe.batch_size):
                features, labels = train.batch(positions)
                loss = F.cross_entropy(self.head(features), labels)
                value = loss.item()
                self._check(value, "loss")
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += value * len(positions)
        return total / len(train)

    def _check(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise ProbeError(f"the {what} became {value} in epoch {self.epoch + 1}: try a learning rate below "
                             f"{self.recipe.lr:g}")

    def evaluate(self, source: Any) -> Scores:
        """The scores on these features and labels."""
        scores = Scores(self.num_classes)
        with no_grad():
            for positions in arange(len(source)).split(getattr(source, "evaluation_batch", EVALUATION_BATCH)):
                features, labels = source.batch(positions)
                scores.add(self.head(features), labels)
        return scores

    def state_dict(self) -> dict[str, Any]:
        """All that continues a run exactly."""
        return {"recipe": asdict(self.recipe), "head": self.head.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(), "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``. Raises ProbeError when it is of another recipe, RuntimeError for another shape."""
        differing = [name for name, value in asdict(self.recipe).items() if state["recipe"].get(name) != value]
        if differing:
            name = differing[0]
            then, now = state["recipe"].get(name), getattr(self.recipe, name)
            raise ProbeError(f"cannot continue: {name} was {then} and is {now}")
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history = [dict(row) for row in state["history"]]


def probe_features(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], num_classes: int | None = None,
                   recipe: Recipe | None = None) -> tuple[LinearProbe, Scores]:
    """Train a head on (features, labels) and measure it on others: the whole of linear probing, given features."""
    classes = num_classes or int(max(train[1].max().item(), val[1].max().item())) + 1
    probe = LinearProbe(train[0].shape[1], classes, recipe)
    return probe, probe.fit(Features(*train), Features(*val))
