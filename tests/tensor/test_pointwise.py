"""Corners of the pointwise ops that table-driven comparisons pass by."""
import numpy as np
import pytest

import tritium


@pytest.mark.parametrize("shape", [(4,), (4, 50, 60), (2, 3, 50, 60)])
def test_relu_lets_no_infinite_gradient_through_where_it_is_flat(shape: tuple[int, ...]) -> None:
    values = np.resize(np.array([-1.0, 0.0, np.nan, 2.0], np.float32), shape)
    x = tritium.tensor(values, requires_grad=True)
    y = x.relu()
    np.testing.assert_array_equal(y.detach().numpy(), np.where(np.isnan(values), np.nan, np.maximum(values, 0)))
    y.backward(tritium.full(shape, float("inf")))
    expected = np.where(values <= 0, 0, np.inf)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_an_addition_can_be_walked_back_twice_and_a_product_can_not() -> None:
    x = tritium.ones(3, requires_grad=True)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])
    z = (x * x).sum()
    z.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        z.backward()


def test_a_mask_changed_before_backward_is_noticed() -> None:
    x = tritium.ones(3, requires_grad=True)
    mask = tritium.tensor([True, False, True])
    y = tritium.where(mask, x, 0.0).sum()
    mask.logical_not_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    index = tritium.tensor([0, 1])
    z = x[index].sum()
    index.add_(1)
    z.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1, 0])
