"""A sampler that gives each of several processes its own part of a data set."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tritium.data.sampler import Sampler
from tritium.tensor.ops.random import randperm
from tritium.tensor.random import Generator


class DistributedSampler(Sampler[int]):
    """Every ``num_replicas``-th index, from ``rank`` on, of a shuffle that all processes share (seed + epoch; call
    ``set_epoch`` before each epoch). All parts have the same length: indices are repeated, or with ``drop_last`` left
    out, until it comes out even.

    Raises ValueError for a rank outside [0, num_replicas), RuntimeError when ``num_replicas`` or ``rank`` is left out:
    there is no process group to ask."""

    def __init__(self, dataset: Any, num_replicas: int | None = None, rank: int | None = None, shuffle: bool = True,
                 seed: int = 0, drop_last: bool = False) -> None:
        if num_replicas is None or rank is None:
            raise RuntimeError("Requires distributed package to be available")
        if rank >= num_replicas or rank < 0:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        n = len(dataset)
        self.num_samples = n // num_replicas if drop_last else math.ceil(n / num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        if self.shuffle:
            generator = Generator()
            generator.manual_seed(self.seed + self.epoch)
            indices = randperm(n, generator=generator).tolist()
        else:
            indices = list(range(n))
        if self.total_size > n and n:
            indices *= math.ceil(self.total_size / n)
        return iter(indices[self.rank:self.total_size:self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffle of this epoch."""
        self.epoch = epoch
