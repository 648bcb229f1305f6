"""Indexing ops: against loops that say what they mean, and their derivatives against finite differences."""
import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

rng = np.random.default_rng(0)


def tensor(*shape, grad=False):
    return torch.tensor(rng.standard_normal(shape), requires_grad=grad)


def numbers(high, *shape):
    return torch.tensor(rng.integers(0, high, shape))


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_gather_and_scatter_say_what_they_mean(dim):
    x, index = tensor(3, 4, 5), numbers(3, 2, 3, 3)
    src = tensor(2, 3, 3)
    got, put, added = x.gather(dim, index), x.scatter(dim, index, src), x.scatter_add(dim, index, src)
    want_put, want_added = x.numpy().copy(), x.numpy().copy()
    for place in np.ndindex(*index.shape):
        at = list(place)
        at[dim] = int(index[place])
        assert got[place] == x[tuple(at)]
        want_put[tuple(at)] = src[place].item()
        want_added[tuple(at)] += src[place].item()
    np.testing.assert_array_equal(put.numpy(), want_put)
    np.testing.assert_allclose(added.numpy(), want_added, rtol=1e-15)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce, function", [("sum", np.sum), ("prod", np.prod), ("mean", np.mean), ("amax", np.max),
                                              ("amin", np.min)])
def test_scatter_reduce(reduce, function, include_self):
    x, index, src = tensor(4), numbers(3, 6), tensor(6)
    got = x.scatter_reduce(0, index, src, reduce, include_self=include_self)
    for i in range(4):
        found = src.numpy()[index.numpy() == i]
        values = np.append(found, x[i].item()) if include_self or not found.size else found
        np.testing.assert_allclose(got[i].item(), function(values), rtol=1e-14)


@pytest.mark.parametrize("width", [1, 7, 64])
def test_index_add_counts_every_occurrence(width):
    index = numbers(5, 200)
    src = torch.ones(200, width)
    got = torch.zeros(5, width).index_add(0, index, src)
    np.testing.assert_array_equal(got[:, 0].numpy(), np.bincount(index.numpy(), minlength=5))
    again = torch.zeros(5, width).index_add(0, index, src)
    assert torch.equal(got, again)


def test_16_bit_sums_are_taken_in_float32():
    """1 + 4096 halves is 2049: lost entirely when every step rounds to 16 bits."""
    for dtype in (torch.float16, torch.bfloat16):
        halves = torch.full((4096,), 0.5, dtype=dtype)
        got = torch.ones(1, dtype=dtype).index_add(0, torch.zeros(4096, dtype=torch.int64), halves)
        assert got.item() == torch.tensor(2049.0).to(dtype).item()


@pytest.mark.cpu_only(reason="memory shared with NumPy")
def test_in_place_ops_write_through_views_and_count():
    x = torch.zeros(3, 4)
    version = x._version
    x.t()[1:].index_fill_(0, torch.tensor([0]), 5.0)
    assert x[:, 1].tolist() == [5.0] * 3 and x._version == version + 1
    x[0].masked_fill_(torch.tensor([True, False, False, True]), 2.0)
    assert x[0].tolist() == [2.0, 5.0, 0.0, 2.0]
    shared = x.numpy()
    x.scatter_(1, torch.tensor([[2], [2], [2]]), 9.0)
    assert shared[:, 2].tolist() == [9.0] * 3


def test_index_put_takes_none_for_a_whole_dimension():
    x = torch.zeros(3, 2, 2)
    x.index_put_((None, torch.tensor([0, 1])), torch.ones(2, 2), accumulate=True)
    assert x.sum() == 12
    y = torch.zeros(3, 2).index_put((torch.tensor([2]), torch.tensor(1)), torch.tensor(4.0))
    assert y[2, 1] == 4 and y.sum() == 4


def test_nonzero_and_masks():
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert x.nonzero().tolist() == [[0, 1], [1, 0]]
    assert [i.tolist() for i in torch.nonzero(x, as_tuple=True)] == [[0, 1], [1, 0]]
    assert x.masked_select(x > 0).tolist() == [1.0, 2.0]
    assert x.masked_scatter(x == 0, torch.tensor([7.0, 8.0])).tolist() == [[7.0, 1.0], [2.0, 8.0]]


I, J = torch.tensor([[0, 2], [1, 1], [2, 2]]), torch.tensor([2, 0, 2])
DERIVATIVES = {
    "gather": lambda x, y: x.gather(1, I),
    "gather twice": lambda x, y: x.gather(0, I).gather(1, I % 2),
    "scatter": lambda x, y: x.scatter(1, torch.tensor([[0, 2], [1, 0], [2, 1]]), y[:, :2]),
    "scatter value": lambda x, y: x.scatter(0, I, 2.0),
    "scatter_add": lambda x, y: x.scatter_add(1, I, y[:, :2]),
    "scatter_add larger source": lambda x, y: x.scatter_add(1, I, y),
    "scatter add": lambda x, y: x.scatter(1, I, y, reduce="add"),
    "scatter_reduce mean": lambda x, y: x.scatter_reduce(1, I, y, "mean"),
    "scatter_reduce prod": lambda x, y: x.scatter_reduce(1, I, y, "prod"),
    "scatter_reduce prod without": lambda x, y: x.scatter_reduce(1, I, y, "prod", include_self=False),
    "scatter_reduce amax": lambda x, y: x.scatter_reduce(1, I, y, "amax"),
    "scatter_reduce amin without": lambda x, y: x.scatter_reduce(1, I, y, "amin", include_self=False),
    "index_select": lambda x, y: x.index_select(1, J),
    "index_add": lambda x, y: x.index_add(1, J, y, alpha=3),
    "index_copy": lambda x, y: x.index_copy(0, torch.tensor([2, 0]), y[:2]),
    "index_fill": lambda x, y: x.index_fill(0, torch.tensor([-1]), y[0, 0]),
    "index_put": lambda x, y: x.index_put((J,), y[0], accumulate=True),
    "masked_fill": lambda x, y: x.masked_fill(x > 0, y[0, 0]),
    "masked_select": lambda x, y: x.masked_select(x > 0) * 2,
    "masked_scatter": lambda x, y: x.masked_scatter(x > 0, y),
    "take": lambda x, y: x.take(I),
    "put": lambda x, y: x.put(torch.tensor([1, -2]), y[0, :2]),
    "put accumulate": lambda x, y: x.put(I, y[:, :2], accumulate=True),
    "take_along_dim": lambda x, y: torch.take_along_dim(x, torch.tensor([[0, 2]]), 1),
    "getitem": lambda x, y: x[J, 1:] * y[I][:, 0, :2],
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives(name):
    inputs = (tensor(3, 3, grad=True), tensor(3, 3, grad=True))
    f = DERIVATIVES[name]
    assert gradcheck(f, inputs)
    assert gradgradcheck(lambda x, y: f(x * x, y.exp()), inputs)


def test_product_with_zeros():
    """A factor that is 0 still has a gradient: the product of the others."""
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    src = torch.tensor([0.0, 5.0, 0.0, 0.0], requires_grad=True)
    x.scatter_reduce(0, torch.tensor([0, 0, 1, 1]), src, "prod").sum().backward()
    assert x.grad.tolist() == [0.0, 0.0] and src.grad.tolist() == [10.0, 0.0, 0.0, 0.0]
    with pytest.raises(NotImplementedError, match="second derivative"):
        out = x.scatter_reduce(0, torch.tensor([0, 0, 1, 1]), src, "prod").sum()
        torch.autograd.grad(out, src, create_graph=True)


def test_refusals():
    x = torch.zeros(2, 3)
    with pytest.raises(RuntimeError, match="index 3 is out of bounds for dimension 1 with size 3"):
        x.gather(1, torch.tensor([[3]]))
    with pytest.raises(RuntimeError, match="Expected self.dtype to be equal to src.dtype"):
        x.scatter(1, torch.tensor([[0]]), torch.tensor([[1]]))
    with pytest.raises(IndexError, match="index out of range in self"):
        x.index_select(0, torch.tensor([2]))
    with pytest.raises(RuntimeError, match="without overflow"):
        x.long().masked_fill(x == 0, float("inf"))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        index = torch.tensor([[0]])
        y = x.requires_grad_().gather(1, index)
        index.add_(1)
        y.sum().backward()
