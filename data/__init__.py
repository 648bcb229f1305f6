"""Data sets, samplers, loaders, image folders and transforms; mirrors ``torch.utils.data`` (and, in ``datasets`` and
``transforms``, torchvision). The two sub-packages are loaded when they are first used."""
from typing import Any

from tritium.data.collate import default_collate, default_convert
from tritium.data.dataloader import DataLoader, get_worker_info
from tritium.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from tritium.data.distributed import DistributedSampler
from tritium.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = ["BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler",
           "IterableDataset", "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset",
           "SubsetRandomSampler", "TensorDataset", "WeightedRandomSampler", "default_collate", "default_convert",
           "get_worker_info", "random_split"]


def __getattr__(name: str) -> Any:
    if name in ("datasets", "transforms"):
        from importlib import import_module

        return import_module(f"tritium.data.{name}")
    raise AttributeError(f"module 'tritium.data' has no attribute {name!r}")
