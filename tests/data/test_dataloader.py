"""The loader without PyTorch: batches, order, options, errors, the places it is imported from."""
import importlib
import time
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import tritium
from tritium.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
    get_worker_info,
)

Point = namedtuple("Point", "x y")


def lists(loader):
    return [batch.tolist() for batch in loader]


def test_tensor_list_and_array_as_data_set():
    rows = tritium.arange(10).view(5, 2)
    assert lists(DataLoader(rows, 2)) == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9]]]
    assert lists(DataLoader([1, 2, 3], 2)) == [[1, 2], [3]]
    assert lists(DataLoader(np.arange(3.0), 2)) == [[0.0, 1.0], [2.0]]
    assert [b.shape for b in DataLoader(rows)] == [(1, 2)] * 5


def test_drop_last_and_length():
    for n, size, drop, expected in ((5, 2, False, 3), (5, 2, True, 2), (4, 2, True, 2), (1, 2, True, 0)):
        loader = DataLoader(range(n), size, drop_last=drop)
        assert len(loader) == expected == len(list(loader)) == len(iter(loader))


def test_batch_size_none_gives_single_samples():
    samples = list(DataLoader([np.ones(2), 3, "a"], batch_size=None))
    assert isinstance(samples[0], tritium.Tensor) and samples[1:] == [3, "a"]


def test_samplers():
    assert lists(DataLoader(range(10, 15), 2, sampler=[4, 1, 3])) == [[14, 11], [13]]
    assert lists(DataLoader(range(10, 15), batch_sampler=[[0], [4, 2]])) == [[10], [14, 12]]
    loader = DataLoader(range(5), batch_sampler=BatchSampler(SequentialSampler(range(5)), 3, True))
    assert lists(loader) == [[0, 1, 2]] and len(loader) == 1 and loader.batch_size is None


def test_shuffle():
    loader = DataLoader(tritium.arange(20), 5, shuffle=True)
    tritium.manual_seed(1)
    first, second = lists(loader), lists(loader)
    assert first != second and sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(20))
    tritium.manual_seed(1)
    assert lists(loader) == first


def test_order_of_the_draws_is_pytorch_s():
    tritium.manual_seed(0)
    assert lists(DataLoader(range(10), 10, shuffle=True)) == [[6, 7, 1, 4, 2, 0, 9, 8, 3, 5]]
    generator = tritium.Generator()
    generator.manual_seed(0)
    assert lists(DataLoader(range(10), 10, shuffle=True, generator=generator)) == [[3, 7, 5, 2, 0, 8, 1, 6, 9, 4]]


def test_rows_of_tensors_equal_stacked_samples():
    """The quick way (one gather) and the general one (one sample at a time, then stack) agree."""
    x, y = tritium.randn(7, 3), tritium.arange(7)
    for data in (TensorDataset(x, y), Subset(TensorDataset(x, y), [6, 2, 0, 1]),
                 Subset(TensorDataset(x, y), np.array([6, -2, 0])), Subset(TensorDataset(x, y), y[:3]),
                 Subset(Subset(TensorDataset(x, y), [6, 2, 0, 1]), [3, 1])):
        quick = list(DataLoader(data, 2))
        plain = list(DataLoader(data, 2, collate_fn=lambda batch: default_collate(batch)))
        assert len(quick) == len(plain)
        for a, b in zip(quick, plain, strict=True):
            assert type(a) is type(b) is list
            for s, t in zip(a, b, strict=True):
                assert s.dtype is t.dtype and tritium.equal(s, t)
    assert lists(DataLoader(y, batch_sampler=[(i for i in (3, 1)), (0, 2), np.array([4])])) == [[3, 1], [0, 2], [4]]
    batch = next(iter(DataLoader(x, 2)))
    batch.zero_()
    assert x.any(), "a batch is a copy"
    with pytest.raises(IndexError):
        list(DataLoader(TensorDataset(x), sampler=[9]))
    assert next(iter(DataLoader(x.clone().requires_grad_(), 2))).requires_grad


def test_small_rows_are_quick():
    data = TensorDataset(tritium.randn(20_000, 4), tritium.arange(20_000))
    start = time.perf_counter()
    assert sum(len(y) for _, y in DataLoader(data, 100, shuffle=True)) == 20_000
    assert time.perf_counter() - start < 1.0


def test_collate():
    assert default_collate([1, 2]).tolist() == [1, 2]
    assert default_collate([1.5, 2]).dtype is tritium.float64
    assert default_collate([True, False]).dtype is tritium.bool
    assert default_collate([np.float32(1), np.float32(2)]).dtype is tritium.float32
    assert default_collate(["a", "b"]) == ["a", "b"] and default_collate([b"a"]) == [b"a"]
    assert default_collate([np.ones(2), np.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    pairs = default_collate([(tritium.ones(2), 1), (tritium.zeros(2), 2)])
    assert type(pairs) is list and pairs[0].shape == (2, 2) and pairs[1].tolist() == [1, 2]
    assert [t.tolist() for t in default_collate([[0, 1], [2, 3]])] == [[0, 2], [1, 3]]
    assert default_collate([{"a": 1, "b": [2]}, {"a": 3, "b": [4]}])["a"].tolist() == [1, 3]
    point = default_collate([Point(1, 2.0), Point(3, 4.0)])
    assert type(point) is Point and point.x.tolist() == [1, 3]
    ordered = default_collate([OrderedDict(b=1, a=2)])
    assert type(ordered) is OrderedDict and list(ordered) == ["b", "a"]


@pytest.mark.parametrize(("batch", "error", "text"), [
    ([None], TypeError, "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
                        "<class 'NoneType'>"),
    ([np.array(["a"])], TypeError, "dicts or lists; found <U1"),
    ([[1, 2], [1]], RuntimeError, "each element in list of batch should be of equal size"),
])
def test_collate_refuses(batch, error, text):
    with pytest.raises(error, match=text):
        default_collate(batch)


def test_collate_names_the_shapes_that_differ():
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        default_collate([tritium.ones(2), tritium.ones(3)])


def test_convert():
    found = default_convert({"a": np.ones(2), "b": (np.float32(1), "x"), "c": Point(1, np.zeros(1))})
    assert isinstance(found["a"], tritium.Tensor) and isinstance(found["b"], list) and found["b"][1] == "x"
    assert type(found["c"]) is Point and isinstance(found["c"].y, tritium.Tensor)


class Stream(IterableDataset):
    def __init__(self, n, length=None):
        self.n, self.length = n, length

    def __iter__(self):
        return iter(range(self.n))

    def __len__(self):
        if self.length is None:
            raise TypeError("no length")
        return self.length


def test_streams():
    assert lists(DataLoader(Stream(5), 2)) == [[0, 1], [2, 3], [4]]
    assert lists(DataLoader(Stream(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(3), None)) == [0, 1, 2]
    assert len(DataLoader(Stream(5, 5), 2)) == 3 and len(DataLoader(Stream(5, 5), 2, drop_last=True)) == 2
    assert len(DataLoader(Stream(5, 5), None)) == 5
    with pytest.raises(TypeError):
        len(DataLoader(Stream(5)))
    loader = DataLoader(Stream(2, 1))
    len(loader)
    with pytest.warns(UserWarning, match="was reported to be 1.when accessing len.dataloader.., but 2 samples have"):
        list(loader)
    for name, value in (("shuffle", True), ("sampler", [0]), ("batch_sampler", [[0]])):
        with pytest.raises(ValueError, match=f"expected unspecified {name} option, but got {name}="):
            DataLoader(Stream(3), **{name: value})
    DataLoader(Stream(3), shuffle=False)


class Batched(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        raise AssertionError("asked one by one")

    def __getitems__(self, indices):
        return [i * 10 for i in indices]


def test_getitems_and_collate_fn():
    assert lists(DataLoader(Batched(), 2)) == [[0, 10], [20, 30]]
    assert list(DataLoader(range(4), 2, collate_fn=sum)) == [1, 5]


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"num_workers": -1}, ValueError, "num_workers option should be non-negative; use num_workers=0 to disable"),
    ({"num_workers": 2}, NotImplementedError, "num_workers=2"),
    ({"timeout": -1}, ValueError, "timeout option should be non-negative"),
    ({"prefetch_factor": 2}, ValueError, "prefetch_factor option could only be specified in multiprocessing"),
    ({"persistent_workers": True}, ValueError, "persistent_workers option needs num_workers > 0"),
    ({"multiprocessing_context": "spawn"}, ValueError, "can only be used with multi-process loading"),
    ({"shuffle": True, "sampler": [0]}, ValueError, "sampler option is mutually exclusive with shuffle"),
    ({"batch_sampler": [[0]], "batch_size": 2}, ValueError, "batch_sampler option is mutually exclusive with"),
    ({"batch_sampler": [[0]], "drop_last": True}, ValueError, "batch_sampler option is mutually exclusive with"),
    ({"batch_size": None, "drop_last": True}, ValueError, "batch_size=None option disables auto-batching"),
    ({"batch_size": 0}, ValueError, "batch_size should be a positive integer value, but got batch_size=0"),
])
def test_refusals(options, error, text):
    with pytest.raises(error, match=text):
        DataLoader(range(4), **options)


def test_options_are_fixed():
    loader = DataLoader(range(4))
    for name in ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"):
        with pytest.raises(ValueError, match=f"{name} attribute should not be set after DataLoader is initialized"):
            setattr(loader, name, None)
    loader.timeout = 0
    with pytest.raises(ValueError, match="num_samples should be a positive integer value, but got num_samples=0"):
        DataLoader([], shuffle=True)


@pytest.mark.cuda_only
def test_batches_are_pinned():
    Pair = namedtuple("Pair", "x y")
    rows = [Pair(tritium.ones(2), {"k": [tritium.zeros(1), "text"]}) for _ in range(3)]
    for batch in DataLoader(rows, batch_size=2, pin_memory=True):
        assert type(batch) is Pair and batch.x.is_pinned() and batch.y["k"][0].is_pinned()
        assert batch.x.to("cuda", non_blocking=True).sum() == batch.x.numel()


@pytest.mark.cpu_only(reason="there is a device")
def test_pin_memory_warns():
    loader = DataLoader(range(2), pin_memory=True)
    with pytest.warns(UserWarning, match="'pin_memory' argument is set as true but no accelerator is found"):
        assert lists(loader) == [[0], [1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(DataLoader(range(2), pin_memory=False))


def test_places():
    assert tritium.utils.data.DataLoader is DataLoader
    assert get_worker_info() is None
    for module, name in (("dataloader", "DataLoader"), ("dataset", "TensorDataset"), ("sampler", "RandomSampler"),
                         ("distributed", "DistributedSampler")):
        assert getattr(importlib.import_module(f"tritium.utils.data.{module}"), name)
        assert getattr(getattr(tritium.utils.data, module), name)
