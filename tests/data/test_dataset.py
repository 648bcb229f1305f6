"""Data sets, splits and samplers without PyTorch."""
import itertools
import warnings

import numpy as np
import pytest

import tritium
from tritium.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)


class Squares(Dataset):
    def __init__(self, n=5, offset=0):
        self.n, self.offset = n, offset

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not -self.n <= i < self.n:
            raise IndexError(i)
        return self.offset + i * i


class Stream(IterableDataset):
    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)


def test_base_class():
    with pytest.raises(NotImplementedError, match="Subclasses of Dataset should implement __getitem__."):
        Dataset()[0]
    assert isinstance(Squares() + Squares(), ConcatDataset)
    assert isinstance(Stream(1) + Stream(2), ChainDataset)


def test_tensor_dataset():
    x, y = tritium.arange(6).view(3, 2), tritium.tensor([7, 8, 9])
    rows = TensorDataset(x, y)
    assert len(rows) == 3 and rows.tensors == (x, y)
    assert rows[1][0].tolist() == [2, 3] and rows[1][1].item() == 8
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        TensorDataset(x, tritium.arange(2))
    with pytest.raises(IndexError):
        rows[3]


def test_concat():
    both = ConcatDataset([Squares(3), Squares(2, 100)])
    assert [both[i] for i in range(5)] == [0, 1, 4, 100, 101]
    assert both[-1] == 101 and both[-5] == 0 and len(both) == 5 and both.cumulative_sizes == [3, 5]
    with pytest.raises(ValueError, match="absolute value of index should not exceed dataset length"):
        both[-6]
    with pytest.raises(IndexError):
        both[5]
    with pytest.raises(AssertionError, match="datasets should not be an empty iterable"):
        ConcatDataset([])
    with pytest.raises(AssertionError, match="ConcatDataset does not support IterableDataset"):
        ConcatDataset([Stream(1)])


def test_chain():
    chain = ChainDataset([Stream(1, 2), Stream(3)])
    assert list(chain) == [1, 2, 3] and len(chain) == 3
    with pytest.raises(AssertionError, match="ChainDataset only supports IterableDataset"):
        list(ChainDataset([Squares()]))


def test_stack():
    assert StackDataset(Squares(), Squares(5, 10))[2] == (4, 14)
    named = StackDataset(a=Squares(), b=Squares(5, 10))
    assert named[1] == {"a": 1, "b": 11} and len(named) == 5
    assert named.__getitems__([0, 3]) == [{"a": 0, "b": 10}, {"a": 9, "b": 19}]
    for make, text in ((lambda: StackDataset(), "At least one dataset should be passed"),
                       (lambda: StackDataset(Squares(), a=Squares()), "but both types are given"),
                       (lambda: StackDataset(Squares(), Squares(4)), "Size mismatch between datasets")):
        with pytest.raises(ValueError, match=text):
            make()


def test_subset():
    part = Subset(Squares(), [4, 0])
    assert [part[0], part[1], len(part)] == [16, 0, 2]
    assert part.__getitems__([1, 0]) == [0, 16]
    assert Subset(tritium.arange(5) * 10, [4, 2])[[1, 0]].tolist() == [20, 40]

    class Half(Subset):
        def __getitem__(self, i):
            return super().__getitem__(i) / 2

    with pytest.raises(NotImplementedError, match="Half overrides __getitem__ but not __getitems__"):
        Half(Squares(), [0])


def test_random_split():
    parts = random_split(range(10), [3, 7], generator=tritium.Generator().manual_seed(42))
    assert [len(p) for p in parts] == [3, 7]
    assert sorted(itertools.chain(*(p.indices for p in parts))) == list(range(10))
    assert parts[0].indices == [2, 6, 1]  # PyTorch's order for this seed
    assert [len(p) for p in random_split(range(11), [0.3, 0.3, 0.4])] == [4, 3, 4]
    with pytest.raises(ValueError, match="Sum of input lengths does not equal the length of the input dataset!"):
        random_split(range(10), [1, 2])
    with pytest.raises(ValueError, match="Fraction at index 0 is not between 0 and 1"):
        random_split(range(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(range(3), [0.9, 0.1])


def test_sequential_and_batches():
    assert list(SequentialSampler("abc")) == [0, 1, 2]
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, False)) == 3 and len(BatchSampler(range(5), 2, True)) == 2
    for options in ((0, False), (True, False), (2.0, False)):
        with pytest.raises(ValueError, match="batch_size should be a positive integer value, but got batch_size="):
            BatchSampler(range(5), *options)
    with pytest.raises(ValueError, match="drop_last should be a boolean value, but got drop_last=1"):
        BatchSampler(range(5), 2, 1)
    with pytest.raises(NotImplementedError):
        iter(Sampler())


def test_random_sampler():
    shuffle = RandomSampler(range(10), generator=tritium.Generator().manual_seed(0))
    assert list(shuffle) == [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]  # PyTorch's order for this seed
    assert len(shuffle) == 10
    assert list(shuffle) != list(shuffle)
    more = list(RandomSampler(range(3), num_samples=8))
    assert len(more) == 8 and sorted(more[:3]) == sorted(more[3:6]) == [0, 1, 2]
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=100))
    assert len(drawn) == 100 and set(drawn) == {0, 1, 2}
    tritium.manual_seed(5)
    first = list(RandomSampler(range(100)))
    tritium.manual_seed(5)
    assert list(RandomSampler(range(100))) == first
    with pytest.raises(ValueError, match="num_samples should be a positive integer value, but got num_samples=0"):
        RandomSampler([])
    with pytest.raises(TypeError, match="replacement should be a boolean value, but got replacement=1"):
        RandomSampler(range(3), replacement=1)


def test_subset_and_weighted_samplers():
    assert sorted(SubsetRandomSampler([7, 8, 9])) == [7, 8, 9] and len(SubsetRandomSampler([7, 8])) == 2
    weighted = WeightedRandomSampler([0.0, 1.0, 3.0], 4000)
    counts = np.bincount(list(weighted), minlength=3)
    assert counts[0] == 0 and 2.5 < counts[2] / counts[1] < 3.6 and len(weighted) == 4000
    assert sorted(WeightedRandomSampler([1.0, 1.0, 2.0], 3, replacement=False)) == [0, 1, 2]
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        WeightedRandomSampler([1.0], 0)
    with pytest.raises(ValueError, match="weights should be a 1d sequence but given weights have shape"):
        WeightedRandomSampler([[1.0]], 1)


@pytest.mark.parametrize(("n", "replicas", "drop_last", "parts"), [
    (10, 3, True, [[0, 3, 6], [1, 4, 7], [2, 5, 8]]),
    (10, 3, False, [[0, 3, 6, 9], [1, 4, 7, 0], [2, 5, 8, 1]]),
    (2, 5, True, [[], [], [], [], []]),
    (2, 5, False, [[0], [1], [0], [1], [0]]),
    (0, 2, False, [[], []]),
])
def test_distributed_sampler(n, replicas, drop_last, parts):
    found = [DistributedSampler(range(n), replicas, rank, shuffle=False, drop_last=drop_last)
             for rank in range(replicas)]
    assert [list(s) for s in found] == parts
    assert [len(s) for s in found] == [len(p) for p in parts]


def test_distributed_sampler_shuffles_alike_everywhere():
    both = [DistributedSampler(range(100), 2, rank, seed=3) for rank in (0, 1)]
    first = [list(s) for s in both]
    assert sorted(first[0] + first[1]) == list(range(100))
    for s in both:
        s.set_epoch(1)
    assert list(both[0]) != first[0]
    with pytest.raises(ValueError, match=r"Invalid rank 2, rank should be in the interval \[0, 1\]"):
        DistributedSampler(range(4), 2, 2)
    with pytest.raises(RuntimeError, match="Requires distributed package to be available"):
        DistributedSampler(range(4))


def test_fractions_do_not_warn_when_there_is_enough():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        random_split(range(100), [0.8, 0.2])
