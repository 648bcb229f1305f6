"""Joining and rearranging: layouts, dtypes, derivatives."""
import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck


def test_cat_promotes_and_skips_empty_vectors():
    x = torch.cat([torch.tensor([1, 2], dtype=torch.int32), torch.tensor([0.5]), torch.empty(0)])
    assert x.tolist() == [1.0, 2.0, 0.5] and x.dtype is torch.float32
    assert torch.cat([torch.empty(0), torch.ones(2, 3)], 1).shape == (2, 3)


def test_cat_keeps_channels_last_when_all_have_it():
    c = torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert torch.cat([c, c], 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.cat([c, torch.ones(2, 3, 4, 4)], 1).is_contiguous()
    assert torch.cat([torch.ones(3, 2).t(), torch.ones(3, 2).t()]).is_contiguous()


def test_refusals():
    with pytest.raises(RuntimeError, match="Sizes of tensors must match except in dimension 1. Expected size 3 but got "
                                           "size 4 for tensor number 1 in the list."):
        torch.cat([torch.ones(3, 2), torch.ones(4, 2)], 1)
    with pytest.raises(RuntimeError, match="zero-dimensional tensor"):
        torch.cat([torch.tensor(1.0)])
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        torch.stack([torch.ones(2), torch.ones(3)])


@pytest.mark.parametrize("offset", [-3, -1, 0, 2, 5])
def test_triangles_and_diagonals(offset):
    a = np.arange(12.0).reshape(3, 4)
    x = torch.from_numpy(a)
    np.testing.assert_array_equal(x.tril(offset).numpy(), np.tril(a, offset))
    np.testing.assert_array_equal(x.triu(offset).numpy(), np.triu(a, offset))
    np.testing.assert_array_equal(x.diag(offset).numpy(), np.diag(a, offset))
    np.testing.assert_array_equal(x[0].diag(offset).numpy(), np.diag(a[0], offset))
    np.testing.assert_array_equal(torch.tril_indices(3, 4, offset).numpy(), np.stack(np.tril_indices(3, offset, 4)))


def test_repetition():
    x = torch.tensor([[1, 2], [3, 4]])
    np.testing.assert_array_equal(x.repeat(2, 1, 2).numpy(), np.tile(x.numpy(), (2, 1, 2)))
    np.testing.assert_array_equal(x.repeat_interleave(3, 1).numpy(), np.repeat(x.numpy(), 3, 1))
    assert x.repeat_interleave(torch.tensor([0, 2]), 0).tolist() == [[3, 4], [3, 4]]
    assert torch.repeat_interleave(torch.tensor([2, 0, 1])).tolist() == [0, 0, 2]


def test_pixel_shuffle_and_back():
    x = torch.arange(24.0).reshape(1, 4, 2, 3)
    y = torch.pixel_shuffle(x, 2)
    assert y.shape == (1, 1, 4, 6) and y[0, 0, 0, :4].tolist() == [0, 6, 1, 7]
    assert torch.equal(torch.pixel_unshuffle(y, 2), x)


DERIVATIVES = {
    "cat": lambda x, v: torch.cat([x, v[None], x[:1]]),
    "stack": lambda x, v: torch.stack([x[0], v], 1),
    "block_diag": lambda x, v: torch.block_diag(x, v),
    "flip": lambda x, v: x.flip(0),
    "roll": lambda x, v: x.roll((1, 1), (0, 1)),
    "rot90": lambda x, v: torch.rot90(x),
    "repeat": lambda x, v: x.repeat(2, 1, 2) * v.repeat(2),
    "repeat_interleave": lambda x, v: x.repeat_interleave(torch.tensor([1, 0, 2]), 1),
    "repeat_interleave all": lambda x, v: x.repeat_interleave(2),
    "tril": lambda x, v: x.tril(),
    "diag": lambda x, v: x.diag() * v.diag(1).diag(1)[:2],
    "diag_embed": lambda x, v: torch.diag_embed(x, 1),
    "diagonal_scatter": lambda x, v: torch.diagonal_scatter(x, v[:2]),
    "select_scatter": lambda x, v: torch.select_scatter(x, v, 0, 1),
    "slice_scatter": lambda x, v: torch.slice_scatter(x, x[:, :2] * v[:2], 1, 0, 3, 2),
    "trace": lambda x, v: x.trace(),
    "kron": lambda x, v: torch.kron(x, v),
    "vander": lambda x, v: torch.vander(v),
    "cartesian_prod": lambda x, v: torch.cartesian_prod(v, x[0]),
    "pixel_shuffle": lambda x, v: torch.pixel_shuffle(torch.stack([x, x * v, x, x]), 2),
    "channel_shuffle": lambda x, v: torch.channel_shuffle(torch.stack([x, x * v])[None], 2),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives(name):
    rng = np.random.default_rng(0)
    inputs = (torch.tensor(rng.standard_normal((2, 3)), requires_grad=True),
              torch.tensor(rng.standard_normal(3), requires_grad=True))
    f = DERIVATIVES[name]
    assert gradcheck(f, inputs)
    assert gradgradcheck(lambda x, v: f(x * x, v * v), inputs)
