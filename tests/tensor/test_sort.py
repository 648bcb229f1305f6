"""Sorting and selecting by rank: order of ties and nan, named results, derivatives."""
import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

nan, inf = float("nan"), float("inf")
MIXED = [2.0, nan, 1.0, -inf, 2.0, 1.0, nan, inf, 0.0]


def test_stable_and_nan_last():
    v, i = torch.tensor(MIXED).sort()
    assert i.tolist() == [3, 8, 2, 5, 0, 4, 7, 1, 6] and np.isnan(v[-2:].numpy()).all()
    v, i = torch.tensor(MIXED).sort(descending=True)
    assert i.tolist() == [1, 6, 7, 0, 4, 2, 5, 8, 3] and np.isnan(v[:2].numpy()).all()


@pytest.mark.parametrize("dtype", "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32".split())
@pytest.mark.parametrize("descending", [False, True])
def test_every_dtype_sorts(dtype, descending):
    x = torch.tensor(np.random.default_rng(1).integers(0, 5, (4, 7))).to(getattr(torch, dtype))
    v, i = x.sort(0, descending)
    want = np.sort(x.to(torch.float64).numpy(), 0)
    np.testing.assert_array_equal(v.to(torch.float64).numpy(), want[::-1] if descending else want)
    assert v.dtype is x.dtype and torch.equal(x.gather(0, i), v)


def test_named_results():
    result = torch.sort(torch.tensor([2, 1]))
    assert repr(result).replace(", device='cuda:0'", "") == "tritium.return_types.sort(\nvalues=tensor([1, 2]),\nindices=tensor([1, 0]))"
    values, indices = result
    assert result.values is values and result[1] is indices and isinstance(result, tuple)
    with pytest.raises(TypeError, match="2-sequence"):
        type(result)((1,))


@pytest.mark.parametrize("n, k", [(10, 3), (10, 10), (9000, 4), (9000, 0)])
@pytest.mark.parametrize("largest", [True, False])
def test_topk_is_the_start_of_the_sorted_row(n, k, largest):
    x = torch.tensor(np.random.default_rng(2).integers(0, n // 3, (2, n)).astype(np.float64))
    x[1, 5] = nan
    values, indices = x.topk(k, largest=largest)
    ordered, order = x.sort(1, descending=largest)
    np.testing.assert_array_equal(values.numpy(), ordered[:, :k].numpy())
    assert torch.equal(indices, order[:, :k])


def test_median_and_mode():
    x = torch.tensor([[3.0, 1.0, 2.0, 4.0], [nan, 1.0, nan, 2.0]])
    assert x.median(1).indices.tolist() == [2, 0] and x.median(1).values[0] == 2
    assert x.nanmedian(1).values.tolist() == [2.0, 1.0] and x.nanmedian() == 2
    assert np.isnan(x.median().item())
    assert tuple(map(int, torch.tensor([3, 1, 3, 1, 2]).mode())) == (1, 3)


def test_quantile_interpolations():
    x = torch.arange(5.0)
    q = torch.tensor([0.0, 0.3, 1.0])
    assert x.quantile(q).tolist() == pytest.approx([0.0, 1.2, 4.0])
    found = {how: x.quantile(0.3, interpolation=how).item() for how in ("lower", "higher", "nearest", "midpoint")}
    assert found == {"lower": 1.0, "higher": 2.0, "nearest": 1.0, "midpoint": 1.5}


def test_unique_and_counting():
    x = torch.tensor([[3, 1], [2, 1], [3, 1]])
    values, inverse, counts = x.unique(return_inverse=True, return_counts=True)
    assert values.tolist() == [1, 2, 3] and counts.tolist() == [3, 1, 2]
    assert torch.equal(values[inverse], x)
    rows, inverse = x.unique(dim=0, return_inverse=True)
    assert rows.tolist() == [[2, 1], [3, 1]] and torch.equal(rows[inverse], x)
    runs, counts = torch.tensor([1, 1, 2, 1]).unique_consecutive(return_counts=True)
    assert runs.tolist() == [1, 2, 1] and counts.tolist() == [2, 1, 1]
    assert torch.bincount(torch.tensor([1, 3]), torch.tensor([0.5, 2.0]), 5).tolist() == [0, 0.5, 0, 2, 0]
    assert torch.isin(torch.tensor([1.0, nan, 3.0]), torch.tensor([3.0, nan])).tolist() == [False, False, True]


def test_searching():
    rows = torch.tensor([[1.0, 3.0, 5.0], [2.0, 4.0, 4.0]])
    values = torch.tensor([[3.0, 6.0], [4.0, 1.0]])
    assert torch.searchsorted(rows, values).tolist() == [[1, 3], [1, 0]]
    assert torch.searchsorted(rows, values, right=True).tolist() == [[2, 3], [3, 0]]
    assert torch.bucketize(torch.tensor([0.0, nan]), rows[0]).tolist() == [0, 3]
    order = torch.tensor([2, 0, 1])
    assert torch.searchsorted(torch.tensor([3, 5, 1]), torch.tensor([4]), sorter=order).tolist() == [2]


DERIVATIVES = {
    "sort": lambda x: x.sort(1, descending=True)[0],
    "topk": lambda x: x.topk(2, 0).values,
    "kthvalue": lambda x: x.kthvalue(2, 1).values,
    "median": lambda x: x.median(),
    "median of rows": lambda x: x.median(1, keepdim=True).values,
    "mode": lambda x: x.mode(0).values,
    "quantile": lambda x: x.quantile(torch.tensor([0.2, 0.7], dtype=torch.float64), 1),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives(name):
    x = torch.tensor(np.random.default_rng(3).permutation(12).reshape(3, 4) / 5.0, requires_grad=True)
    f = DERIVATIVES[name]
    assert gradcheck(f, (x,))
    assert gradgradcheck(lambda x: f(x * x), (x,))


def test_no_derivative_is_said():
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(NotImplementedError, match="the derivative for '_unique2' is not implemented"):
        x.unique().sum().backward()
