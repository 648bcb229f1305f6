"""Resampling on the CPU: its tables, known values, and derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import tritium
from tritium.autograd import gradcheck, gradgradcheck
from tritium.kernels.resample_tables import F32, F64, Axis, Table, integer_table, table, transpose
from tritium.nn import functional as F

MODES = [("nearest", False, False), ("nearest-exact", False, False), ("linear", False, False), ("linear", True, False),
         ("cubic", False, False), ("cubic", True, False), ("linear", False, True), ("cubic", False, True),
         ("lanczos", False, True), ("area", False, False)]  # fmt: skip


def dense(lines: Table, n: int) -> np.ndarray:
    """(outputs, n): the matrix that a table stands for."""
    matrix = np.zeros((len(lines.first), n), lines.weight.dtype)
    for k in range(lines.taps):
        rows = np.flatnonzero(lines.count > k)
        matrix[rows, lines.first[rows] + k] += lines.weight[k, rows]
    return matrix


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_tables(mode):
    """Rows of weights sum to 1; the transposed table is the transposed matrix."""
    name, align, antialias = mode
    for n, m, scale in ((5, 12, None), (12, 5, None), (1, 7, None), (7, 1, None), (6, 6, None), (9, 16, 1.8), (30, 4, None)):
        axis = Axis(name, n, m, scale, align, antialias)
        for dtype in (F32, F64):
            matrix = dense(table(axis, dtype), n)
            np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-5)
            assert (dense(table(transpose(axis), dtype), m) == matrix.T).all()
            assert table(axis, dtype).weight.dtype == dtype
    weights, bits = integer_table(Axis(name, 12, 5, None, align, antialias))
    assert np.abs(weights.weight).max() < 1 << 15 and bits > 8


def test_known_values():
    x = tritium.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert F.interpolate(x, scale_factor=2)[0, 0, 0].tolist() == [1, 1, 2, 2]
    assert F.interpolate(x, scale_factor=2, mode="bilinear")[0, 0, 0].tolist() == [1, 1.25, 1.75, 2]
    assert F.interpolate(x, 3, mode="bilinear", align_corners=True)[0, 0].tolist() == [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]
    assert F.interpolate(x, 1, mode="area").item() == 2.5
    grid = tritium.tensor([[[[-0.5, -0.5], [0.5, -0.5], [0.0, 0.0], [3.0, 0.0]]]])
    assert F.grid_sample(x, grid, align_corners=False).flatten().tolist() == [1, 2, 2.5, 0]
    assert F.grid_sample(x, grid, padding_mode="border", align_corners=False).flatten().tolist() == [1, 2, 2.5, 3]
    identity = tritium.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    grid = F.affine_grid(identity, (1, 1, 2, 2), align_corners=False)
    assert F.grid_sample(x, grid, align_corners=False).tolist() == x.tolist()


def numbers(seed, *shape):
    return tritium.from_numpy(np.random.default_rng(seed).standard_normal(shape)).requires_grad_()


@pytest.mark.parametrize("options", [
    {"size": 3}, {"size": (5, 3), "mode": "bilinear"}, {"size": (2, 6), "mode": "bicubic", "align_corners": True},
    {"size": (2, 3), "mode": "bilinear", "antialias": True}, {"size": (2, 3), "mode": "area"},
    {"scale_factor": 1.6, "mode": "nearest-exact"},
], ids=str)  # fmt: skip
def test_gradients_of_interpolate(options):
    x = numbers(0, 1, 2, 4, 5)
    assert gradcheck(lambda x: F.interpolate(x, **options), x)
    assert gradgradcheck(lambda x: F.interpolate(x, **options), x)


def test_gradients_of_volumes():
    x = numbers(0, 1, 1, 2, 3, 2)
    for mode in ("nearest", "trilinear", "area"):
        assert gradcheck(lambda x, mode=mode: F.interpolate(x, (3, 2, 4), mode=mode), x)
        assert gradgradcheck(lambda x, mode=mode: F.interpolate(x, (3, 2, 4), mode=mode), x)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_gradients_of_grid_sample(mode, padding):
    x = numbers(0, 1, 1, 3, 2)
    grid = tritium.from_numpy(np.random.default_rng(1).uniform(-1.4, 1.4, (1, 1, 3, 2))).requires_grad_()

    def sample(x, grid):
        return F.grid_sample(x, grid, mode, padding, align_corners=False)

    assert gradcheck(sample, (x, grid))
    assert gradgradcheck(sample, (x, grid))


def test_empty_gradients():
    x = tritium.zeros(0, 3, 4, 5, requires_grad=True)
    F.interpolate(x, 7, mode="bilinear").sum().backward()
    assert x.grad.shape == x.shape
    x, grid = tritium.zeros(2, 3, 4, 5, requires_grad=True), tritium.zeros(2, 0, 6, 2, requires_grad=True)
    F.grid_sample(x, grid, align_corners=False).sum().backward()
    assert grid.grad.shape == grid.shape and not x.grad.any()


def test_the_same_bits_twice_whatever_the_threads():
    from tritium.kernels.reference import resample
    from tritium.kernels.reference.parallel import get_num_threads, set_num_threads

    x = np.random.default_rng(0).standard_normal((4, 8, 40, 50)).astype(F32)
    axes = [Axis("linear", 40, 90), Axis("linear", 50, 120)]
    count, found = get_num_threads(), []
    for threads in (1, 3):
        set_num_threads(threads)
        found.append(resample.resample(x, axes))
    set_num_threads(count)
    assert (found[0] == found[1]).all()
