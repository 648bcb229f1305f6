"""Loaders, samplers, splits and collation against PyTorch's, after the same seeds."""
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import tritium

pytestmark = pytest.mark.cpu_only(reason="loaders work on the CPU, with PyTorch's CPU numbers")

torch = pytest.importorskip("torch")
pytest.importorskip("torch.utils.data")

Point = namedtuple("Point", "x y")


def both(run):
    found = []
    for fw in (tritium, torch):
        fw.manual_seed(1234)
        found.append(run(fw, fw.utils.data))
    return found


def same(run):
    ours, theirs = both(run)
    assert ours == theirs


@pytest.mark.parametrize("options", [
    {"batch_size": 4, "shuffle": True}, {"batch_size": 3, "shuffle": True, "drop_last": True}, {"shuffle": True},
    {"batch_size": None, "shuffle": True}, {"batch_size": 5}, {"batch_size": 20, "shuffle": True}])
def test_batches(options):
    same(lambda fw, data: [[np.asarray(b).tolist() for b in data.DataLoader(range(17), **options)] for _ in range(3)])


def test_batches_with_a_generator_and_with_draws_in_between():
    def run(fw, data):
        generator = fw.Generator()
        generator.manual_seed(99)
        loader = data.DataLoader(fw.arange(40).view(20, 2), 6, shuffle=True, generator=generator)
        free = data.DataLoader(range(7), 2, shuffle=True)
        seen = []
        for _ in range(2):
            for batch in loader:
                seen.append((batch.tolist(), fw.rand(1).item()))
            for batch in free:
                seen.append((batch.tolist(), fw.rand(2).tolist()))
        return seen, fw.randint(0, 1000, (3,), generator=generator).tolist()

    same(run)


def test_samplers():
    def run(fw, data):
        def seeded():
            generator = fw.Generator()
            generator.manual_seed(7)
            return generator

        return [
            [list(data.RandomSampler(range(13))) for _ in range(2)],
            list(data.RandomSampler(range(5), num_samples=12)),
            list(data.RandomSampler(range(50), replacement=True)),
            list(data.RandomSampler(range(9), replacement=True, num_samples=70, generator=seeded())),
            list(data.SubsetRandomSampler([3, 1, 4, 1, 5])),
            list(data.WeightedRandomSampler([0.1, 0.2, 3.0, 0.7], 20)),
            list(data.WeightedRandomSampler([0.1, 0.2, 3.0, 0.7], 3, replacement=False, generator=seeded())),
            [list(data.distributed.DistributedSampler(range(11), 3, r, seed=5, drop_last=d))
             for r in range(3) for d in (False, True)],
            list(data.BatchSampler(data.RandomSampler(range(10)), 4, True)),
            fw.rand(1).item()]

    same(run)


def test_splits():
    same(lambda fw, data: [[list(p.indices) for p in data.random_split(range(23), lengths)]
                           for lengths in ([20, 3], [0.5, 0.25, 0.25], [0.1, 0.9], [23], [1.0])])


BATCHES = {
    "ints": [1, 2], "floats": [1.0, 2.5], "mixed": [1, 2.5], "bools": [True, False], "strings": ["a", "b"],
    "arrays": [np.ones((2, 1)), np.zeros((2, 1))], "float32": [np.float32(1), np.float32(2)],
    "mixed scalars": [np.float64(1), np.float32(2)], "int8": [np.int8(1), np.int8(2)], "numpy bools": [np.bool_(True)],
    "tuples": [(1, "a", 2.0), (3, "b", 4.0)], "lists": [[1, 2], [3, 4]],
    "mappings": [OrderedDict(a=1, b=[1, 2.0]), OrderedDict(a=2, b=[3, 4.0])],
    "points": [Point(1, np.ones(2)), Point(2, np.zeros(2))], "nested": [{"p": Point({"q": 1}, "s")}],
    "bytes": [b"x"],
    # and what is refused
    "none": [None], "object": [object], "text array": [np.array(["a"])], "ragged": [[1], [1, 2]],
}


def described(value):
    if hasattr(value, "dtype") and hasattr(value, "tolist") and not isinstance(value, np.ndarray | np.generic):
        return "tensor", str(value.dtype).partition(".")[2], tuple(value.shape), value.tolist()
    if isinstance(value, dict):
        return type(value).__name__, {k: described(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [described(v) for v in value]
    return type(value).__name__, str(value)


@pytest.mark.parametrize("function", ["default_collate", "default_convert"])
@pytest.mark.parametrize("name", BATCHES)
def test_collation(name, function):
    def run(fw, data):
        try:
            return described(getattr(data, function)(BATCHES[name]))
        except (TypeError, RuntimeError) as error:
            return type(error).__name__, str(error)

    same(run)


OPTIONS = [{"num_workers": -1}, {"timeout": -1}, {"prefetch_factor": 2}, {"persistent_workers": True},
           {"multiprocessing_context": "fork"}, {"shuffle": True, "sampler": [0]},
           {"batch_sampler": [[0]], "batch_size": 3}, {"batch_size": None, "drop_last": True}, {"batch_size": 0},
           {"batch_size": 1.5}, {"drop_last": 1}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_refused_options(options):
    def run(fw, data):
        with pytest.raises(Exception) as caught:  # noqa: B017 - whatever PyTorch raises
            data.DataLoader(range(4), **options)
        return type(caught.value), str(caught.value)

    same(run)


def test_rows_keep_their_dtype_and_order():
    def run(fw, data):
        rows = data.TensorDataset(fw.arange(24.0).view(8, 3), fw.arange(8), fw.arange(8) % 2 == 0)
        loaders = [data.DataLoader(rows, 3, shuffle=True), data.DataLoader(data.Subset(rows, [5, -1, 0, 0]), 2),
                   data.DataLoader(rows, sampler=data.WeightedRandomSampler([1.0] * 8, 5), batch_size=2)]
        return [described(batch) for loader in loaders for batch in loader]

    same(run)
