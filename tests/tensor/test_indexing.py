"""``x[...]`` read and written against NumPy for random keys, special keys, gradients with duplicates, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tritium as torch

quick = settings(max_examples=300, deadline=None, derandomize=True)


@st.composite
def shape_and_key(draw):
    """A shape, and a key that NumPy and PyTorch read alike: no separated index arrays beside integers."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    key = []
    width = draw(st.sampled_from([(2,), (3,), (2, 2), ()]))
    arrays = draw(st.booleans())
    for n in shape[:draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["slice", "slice", "none", "array" if arrays else "int"]))
        if kind == "int":
            key.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            bound = st.one_of(st.none(), st.integers(-n - 1, n + 1))
            key.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, 3]))))
        elif kind == "array":
            size = int(np.prod(width))
            values = draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size))
            key.append(np.array(values, np.int64).reshape(width))
        else:
            key.extend((None, slice(None)))
    return tuple(shape), tuple(key)


def in_tritium(key):
    return tuple(torch.from_numpy(k) if isinstance(k, np.ndarray) else k for k in key)


@quick
@given(shape_and_key(), st.booleans())
def test_reading_is_numpys(case, transposed):
    shape, key = case
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = torch.from_numpy(array)
    if transposed:
        array, x = array.T, x.permute(tuple(range(len(shape)))[::-1])
        if len(set(shape)) > 1:
            return
    expected = array[key]
    assert np.array_equal(x[in_tritium(key)].numpy(), expected)


@quick
@given(shape_and_key())
def test_writing_is_numpys_and_its_gradient_the_mask(case):
    shape, key = case
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = torch.from_numpy(array.copy()).requires_grad_()
    y = x * 1
    y[in_tritium(key)] = -1.0
    array[key] = -1.0
    assert np.array_equal(y.detach().numpy(), array)
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), (array != -1).astype(float))


@quick
@given(shape_and_key())
def test_gradients_add_up_where_a_key_names_an_element_twice(case):
    shape, key = case
    x = torch.zeros(shape, dtype=torch.float64).requires_grad_()
    y = x[in_tritium(key)]
    weight = np.arange(1.0, y.numel() + 1).reshape(tuple(y.shape))
    (y * torch.from_numpy(weight)).sum().backward()
    expected = np.zeros(shape)
    np.add.at(expected, key, weight)
    assert np.array_equal(x.grad.numpy(), expected)


def test_special_keys():
    x = torch.arange(24).view(2, 3, 4)
    assert x[()].shape == (2, 3, 4) and x[...].shape == (2, 3, 4) and x[None, ..., None].shape == (1, 2, 3, 4, 1)
    assert x[True].shape == (1, 2, 3, 4) and x[False].shape == (0, 2, 3, 4) and x[0, ..., 1].tolist() == [1, 5, 9]
    assert x[torch.tensor(1)].shape == (3, 4) and x[np.int64(1), torch.tensor(2), 3].item() == 23
    assert x[[1, 0]].shape == (2, 3, 4) and x[[1, 0], [0, 1]].tolist() == x[torch.tensor([1, 0]), torch.tensor([0, 1])].tolist()
    assert x[[[1, 0], [0, 1]]].tolist() == x[[1, 0], [0, 1]].tolist()  # a list of lists counts as a tuple
    assert x[x > 20].tolist() == [21, 22, 23] and x[:, [True, False, True]].shape == (2, 2, 4)
    assert x[torch.tensor([[0, 1], [1, 1]])].shape == (2, 2, 3, 4) and x[[]].shape == (0, 3, 4)
    assert x[:, torch.tensor([1, 0]), 0].tolist() == [[4, 0], [16, 12]] and x[[0, 1], :, [2, 3]].shape == (2, 3)
    assert torch.tensor(5)[None].tolist() == [5] and torch.tensor(5)[...].item() == 5


def test_an_int_is_a_view_and_a_tensor_a_copy():
    x = torch.zeros(2, 3)
    assert x[0]._base is x and x[0:1]._base is x and x[torch.tensor(0)]._base is x and x[[0]]._base is None
    x[0][1] = 5
    x[torch.tensor([0])][0, 0] = 7
    assert x.tolist() == [[0, 5, 0], [0, 0, 0]]


def test_writing():
    x = torch.zeros(2, 3)
    x[0] = torch.tensor([1.0, 2.0, 3.0])
    x[1, 1:] = 4
    x[x == 0] = -1.0
    assert x.tolist() == [[1, 2, 3], [-1, 4, 4]]
    x[:, torch.tensor([0, 2])] = torch.tensor([[7.0], [8.0]])
    assert x.tolist() == [[7, 2, 7], [8, 4, 8]]
    x[torch.tensor([0, 0])] += 1  # read once, written twice
    assert x[0].tolist() == [8, 3, 8]
    x.index_put_((torch.tensor([0, 0]),), torch.ones(3), accumulate=True)
    assert x[0].tolist() == [10, 5, 10]
    x[None, 0, ..., 2] = torch.tensor([[3.0]])
    assert x[0].tolist() == [10, 5, 3]


def test_index_tensors_may_change_before_backward():
    x, i = torch.zeros(3, requires_grad=True), torch.tensor([0, 1])
    y = x[i]
    i.fill_(2)
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 0]


@pytest.mark.parametrize("key, error, message", [
    (2, IndexError, "index 2 is out of bounds for dimension 0 with size 2"),
    ((0, 0, 0), IndexError, "too many indices for tensor of dimension 2"),
    (slice(None, None, -1), ValueError, "greater than zero"),
    (slice(1.5, None), TypeError, "slice indices must be integers"), (1.5, IndexError, r"valid indices \(got float\)"),
    (torch.tensor([0, 5]), IndexError, "index 5 is out of bounds for dimension 0 with size 2"),
    (torch.tensor([0.5]), IndexError, "tensors used as indices must be long, int, byte or bool tensors"),
    (torch.ones(3, dtype=torch.bool), IndexError, r"The shape of the mask \[3\] at index 0 does not match"),
    ((torch.tensor([0, 1]), torch.tensor([0, 1, 2])), IndexError, "shape mismatch: indexing tensors could not be broadcast"),
])
def test_errors(key, error, message):
    x = torch.zeros(2, 3)
    with pytest.raises(error, match=message):
        x[key]
    with pytest.raises(error, match=message):
        x[key] = 1


def test_zero_dim_errors():
    with pytest.raises(IndexError, match="invalid index of a 0-dim tensor"):
        torch.tensor(1)[0]
    with pytest.raises(IndexError, match=r"slice\(\) cannot be applied to a 0-dim tensor"):
        torch.tensor(1)[:]
    with pytest.raises(TypeError, match="len.. of a 0-d tensor"):
        len(torch.tensor(1))
    with pytest.raises(TypeError, match="does not support deleting items"):
        del torch.zeros(2)[0]
