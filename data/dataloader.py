"""The loader: batches from a data set; mirrors https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader

Everything runs in the calling process. After the same ``manual_seed`` the batches come in PyTorch's order: the iterator
draws one number from the generator (PyTorch's seed for worker processes) and the sampler then draws its own.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice, repeat
from typing import Any, Generic, TypeVar, cast

import numpy as np

from tritium import cuda
from tritium.data.collate import default_collate, default_convert
from tritium.data.dataset import Dataset, IterableDataset, Subset, TensorDataset, fetch
from tritium.data.pin import pin_memory
from tritium.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed
from tritium.tensor.from_data import as_tensor
from tritium.tensor.tensor import Tensor

T = TypeVar("T")
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


def get_worker_info() -> None:
    """What a data set is told inside of a worker process: None, since it is loaded in the main process."""
    return None


class DataLoader(Generic[T]):
    """Goes through a data set in batches.

    ``dataset``: anything with ``__getitem__`` and ``__len__`` (a Dataset, a tensor, an array, a list), or an
    IterableDataset. ``batch_size=None`` gives single samples (through ``default_convert``). ``sampler`` gives indices,
    ``batch_sampler`` lists of them; ``collate_fn`` makes a batch from a list of samples.

    Raises ValueError for options that exclude each other (in PyTorch's words), and when an option that the batches
    depend on is changed later. ``num_workers > 0`` raises NotImplementedError: there are no worker processes.
    """

    _ready = False

    def __init__(self, dataset: Dataset[T] | Any, batch_size: int | None = 1, shuffle: bool | None = None,
                 sampler: Sampler[Any] | Iterable[Any] | None = None,
                 batch_sampler: Sampler[Any] | Iterable[Any] | None = None, num_workers: int = 0,
                 collate_fn: Callable[[Any], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
                 timeout: float = 0, worker_init_fn: Callable[[int], None] | None = None,
                 multiprocessing_context: Any = None, generator: Any = None, *, prefetch_factor: int | None = None,
                 persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
        self._streamed = isinstance(dataset, IterableDataset)
        if self._streamed:
            for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
                if value is not None:
                    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                                     f"{name}={value}")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
                                 "drop_last")
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            samples: Any = dataset
            sampler = (_Endless() if self._streamed
                       else RandomSampler(samples, generator=generator) if shuffle else SequentialSampler(samples))
        if batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.collate_fn = collate_fn
        self.persistent_workers = persistent_workers
        self._announced: int | None = None  # the stream's length, once len(loader) has told it
        self._ready = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._ready and name in _FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[Any]:
        return _LoaderIterator(self)

    def __len__(self) -> int:
        """The number of batches; a stream has one if it has a length itself (TypeError otherwise)."""
        if not self._streamed:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]
        samples = self._announced = len(cast(Sized, self.dataset))
        if self.batch_size is None:
            return samples
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool,
                   context: Any) -> None:
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers:
        raise NotImplementedError(f"DataLoader: loading in worker processes is not available (num_workers="
                                  f"{num_workers}); use num_workers=0, which loads in the main process")
    if prefetch_factor is not None:
        raise ValueError("prefetch_factor option could only be specified in multiprocessing.let num_workers > 0 to "
                         "enable multiprocessing, otherwise set prefetch_factor to None.")
    if persistent_workers:
        raise ValueError("persistent_workers option needs num_workers > 0")
    if context is not None:
        raise ValueError("multiprocessing_context can only be used with multi-process loading (num_workers > 0), but "
                         "got num_workers=0")
    if timeout:
        raise ValueError("timeout can only be used with multi-process loading (num_workers > 0), but got num_workers=0")


class _Endless(Sampler[Any]):
    """The sampler of a stream, which is not asked for anything in particular."""

    def __iter__(self) -> Iterator[Any]:
        return repeat(None)


class _LoaderIterator(Iterator[Any]):
    """One pass over a loader."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        self._yielded = 0
        self._pin: Any = None
        if loader.pin_memory and cuda.is_available():
            self._pin = pin_memory
        elif loader.pin_memory:
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then device pinned memory "
                          "won't be used.", stacklevel=3)
        batched = loader.batch_sampler is not None
        sampler: Any = loader.batch_sampler if batched else loader.sampler
        self._indices: Iterator[Any] = iter(sampler)
        self._base_seed = draw_seed(loader.generator)
        self._stream = iter(loader.dataset) if loader._streamed else None

    def __next__(self) -> Any:
        batch = self._next()
        if self._pin is not None:
            batch = self._pin(batch)
        self._yielded += 1
        announced = self._loader._announced
        if announced is not None and self._yielded > announced:
            warnings.warn(f"Length of IterableDataset {self._loader.dataset} was reported to be {announced}(when "
                          f"accessing len(dataloader)), but {self._yielded} samples have been fetched. ", stacklevel=2)
        return batch

    def _next(self) -> Any:
        loader = self._loader
        index = next(self._indices)
        if self._stream is not None:
            return self._next_of_stream(loader, index)
        if loader.batch_sampler is None:
            return loader.collate_fn(loader.dataset[index])
        if loader.collate_fn is default_collate and type(index) is list:
            rows = _rows(loader.dataset, index)
            if rows is not None:
                return rows
        return loader.collate_fn(fetch(loader.dataset, index))

    def _next_of_stream(self, loader: DataLoader[Any], index: Any) -> Any:
        assert self._stream is not None
        if loader.batch_sampler is None:
            return loader.collate_fn(next(self._stream))
        samples = list(islice(self._stream, len(index)))
        if not samples or (loader.drop_last and len(samples) < len(index)):
            raise StopIteration
        return loader.collate_fn(samples)

    def __len__(self) -> int:
        return len(self._loader)

    def __getstate__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")


def _rows(dataset: Any, indices: Any) -> Any:
    """The batch that collating these rows would give, gathered in one operation; None where that is not sure.

    For tensors (and a TensorDataset, or a Subset of either) this is what makes an epoch over small rows cheap."""
    while type(dataset) is Subset:
        dataset, indices = dataset.dataset, [dataset.indices[i] for i in indices]
    if type(dataset) is Tensor:
        return _gather(dataset, indices)
    if type(dataset) is TensorDataset and dataset.tensors:
        columns = [_gather(t, indices) if type(t) is Tensor else None for t in dataset.tensors]
        return None if any(c is None for c in columns) else columns
    return None


def _gather(t: Tensor, indices: Sequence[Any]) -> Tensor | None:
    """``stack([t[i] for i in indices])``; None for anything but integers in range into a tensor outside of the graph.
    """
    if t.requires_grad or t.ndim == 0 or not all([type(i) is int or isinstance(i, np.integer) for i in indices]):
        return None
    rows = np.array(indices, np.int64)
    if rows.size == 0 or rows.min() < -t.shape[0] or rows.max() >= t.shape[0]:
        return None
    return t[as_tensor(rows)]
