"""Resampling on the device against NumPy's: modes, layouts, dtypes, derivatives, one program and many."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import resample as reference
from tritium.kernels.resample_tables import Axis, transpose

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
U8, F16, F32, F64 = (np.dtype(t) for t in ("u1", "f2", "f4", "f8"))
TOLERANCE = {U8: 0, BF16: 1e-2, F16: 2e-3, F32: 3e-6, F64: 1e-12}
MODES = [("nearest", False, False), ("nearest-exact", False, False), ("linear", False, False), ("linear", True, False),
         ("cubic", False, False), ("cubic", True, False), ("linear", False, True), ("cubic", False, True),
         ("lanczos", False, True), ("area", False, False)]  # mode, align_corners, antialias
SIZES = [((5, 6), (10, 9)), ((7, 4), (3, 4)), ((8, 9), (8, 3)), ((1, 20), (3, 2)), ((6, 1), (1, 5))]


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import resample

    return resample


@pytest.fixture(params=["one program", "many"])
def tiles(request, monkeypatch):
    """Also with small tiles."""
    from tritium.kernels.triton import resample

    if request.param == "many":
        monkeypatch.setattr(resample, "tile_elements", lambda itemsize: 64)
    return request.param


def on_device(view, base=None):
    """The same view of a copy of ``base`` (contiguous) in device memory."""
    from tritium.kernels.triton.memory import from_host

    base = view if base is None else base
    d = from_host(base)
    return d.look(d.ptr + view.ctypes.data - base.ctypes.data, view.shape, view.strides)


def agree(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    tolerance = TOLERANCE[expected.dtype]
    np.testing.assert_allclose(found.copy().to_host().astype(F64), expected.astype(F64), rtol=tolerance, atol=tolerance)


def numbers(seed, *shape, dtype=F32):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, shape) if dtype == U8 else rng.standard_normal(shape)).astype(dtype)


def layouts(*shape, dtype):
    """(view, its base): contiguous, channels last, and neither."""
    x = numbers(0, *shape, dtype=dtype)
    yield x, x
    last = numbers(1, shape[0], *shape[2:], shape[1], dtype=dtype)
    yield np.moveaxis(last, -1, 1), last
    wide = numbers(2, shape[0] + 1, *shape[1:-1], 2 * shape[-1], dtype=dtype)
    yield wide[1:, ..., ::2], wide


def axes_of(mode, sizes, outputs, align, antialias, scale=None):
    return [Axis(mode, n, m, scale, align, antialias) for n, m in zip(sizes, outputs, strict=True)]


def lies_like(found, x):
    last = x.ndim > 3 and np.moveaxis(x, 1, -1).flags.c_contiguous and not x.flags.c_contiguous
    assert found.transpose(0, *range(2, x.ndim), 1).dense if last else found.dense


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_planes(device, tiles, mode, dtype):
    mode, align, antialias = mode
    for number, (sizes, outputs) in enumerate(SIZES if tiles == "one program" else SIZES[:1]):
        axes = axes_of(mode, sizes, outputs, align, antialias)
        back = [transpose(a) for a in axes]
        for x, base in layouts(2, 8 if number % 2 else 5, *sizes, dtype=dtype):
            found = device.resample(on_device(x, base), axes)
            agree(found, reference.resample(x, axes))
            lies_like(found, x)
        for dy, base in layouts(2, 8 if number % 2 else 5, *outputs, dtype=dtype):
            found = device.resample(on_device(dy, base), back)
            agree(found, reference.resample(dy, back))
            lies_like(found, dy)


@pytest.mark.parametrize("mode", ["nearest", "linear", "area"])
@pytest.mark.parametrize("sizes,outputs", [((7,), (12,)), ((9,), (2,)), ((3, 4, 5), (5, 7, 6)), ((6, 3, 9), (2, 3, 4))],
                         ids=str)
@pytest.mark.parametrize("dtype", [F32, F64, F16], ids=str)
def test_lines_and_volumes(device, mode, sizes, outputs, dtype):
    axes = axes_of(mode, sizes, outputs, False, False)
    back = [transpose(a) for a in axes]
    for x, base in layouts(2, 3, *sizes, dtype=dtype):
        found = device.resample(on_device(x, base), axes)
        agree(found, reference.resample(x, axes))
        lies_like(found, x)
    dy = numbers(3, 2, 3, *outputs, dtype=dtype)
    agree(device.resample(on_device(dy), back), reference.resample(dy, back))


@pytest.mark.parametrize("mode", [m for m in MODES if m[0] != "area"], ids=str)
def test_bytes(device, mode):
    mode, align, antialias = mode
    for sizes, outputs in SIZES[:3]:
        axes = axes_of(mode, sizes, outputs, align, antialias)
        for x, base in layouts(2, 3, *sizes, dtype=U8):
            agree(device.resample(on_device(x, base), axes), reference.resample(x, axes))


def test_many_taps(device):
    """More than one launch, also for the derivative."""
    for mode, antialias, sizes, outputs in (("cubic", True, (40, 50), (4, 3)), ("linear", False, (3, 2), (30, 40)),
                                            ("nearest", False, (2, 2), (20, 30))):
        axes = axes_of(mode, sizes, outputs, False, antialias)
        for dtype in (F32, BF16, F64):
            x, dy = numbers(0, 2, 3, *sizes, dtype=dtype), numbers(1, 2, 3, *outputs, dtype=dtype)
            back = [transpose(a) for a in axes]
            agree(device.resample(on_device(x), axes), reference.resample(x, axes))
            agree(device.resample(on_device(dy), back), reference.resample(dy, back))


def test_nan_and_inf_stay_where_they_are(device):
    x = numbers(0, 1, 2, 6, 7)
    x[0, 0, 0, 0], x[0, 0, 5, 6], x[0, 1, 3, 3] = np.nan, np.inf, -np.inf
    for mode, align, antialias in MODES:
        axes = axes_of(mode, (6, 7), (9, 4), align, antialias)
        agree(device.resample(on_device(x), axes), reference.resample(x, axes))


def test_same_size_is_a_copy(device):
    x = numbers(0, 2, 3, 4, 5)
    d = on_device(x)
    for mode in ("nearest", "linear", "cubic", "area"):
        found = device.resample(d, axes_of(mode, (4, 5), (4, 5), False, False))
        assert found.owner is not d.owner
        agree(found, x)


def test_nothing(device):
    axes = axes_of("linear", (4, 5), (3, 2), False, False)
    assert device.resample(on_device(np.zeros((0, 3, 4, 5), F32)), axes).shape == (0, 3, 3, 2)
    x, grid = on_device(np.zeros((1, 2, 3, 3), F32)), on_device(np.zeros((1, 0, 4, 2), F32))
    assert device.grid_sample(x, grid, "bilinear", "zeros", False).shape == (1, 2, 0, 4)
    dx, dgrid = device.grid_sample_backward(on_device(np.zeros((1, 2, 0, 4), F32)), x, grid, "bilinear", "zeros", False)
    assert dgrid.shape == grid.shape and not dx.to_host().any()


GRIDS = [(mode, padding, align) for mode in ("bilinear", "nearest", "bicubic")
         for padding in ("zeros", "border", "reflection") for align in (False, True)]


def check_grid(device, x, base, grid, setting):
    d, g = on_device(x, base), on_device(grid)
    y = reference.grid_sample(x, grid, *setting)
    found = device.grid_sample(d, g, *setting)
    assert found.dense
    agree(found, y)
    dy = numbers(7, *y.shape, dtype=x.dtype)
    dx, d_grid = reference.grid_sample_backward(dy, x, grid, *setting)
    found_x, found_grid = device.grid_sample_backward(on_device(dy), d, g, *setting)
    agree(found_x, dx)
    scale = max(float(np.abs(d_grid).max()), 1.0)
    np.testing.assert_allclose(found_grid.to_host().astype(F64) / scale, d_grid.astype(F64) / scale,
                               atol=2 * TOLERANCE[x.dtype])


@pytest.mark.parametrize("setting", GRIDS, ids=str)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_grid(device, tiles, setting, dtype):
    rng = np.random.default_rng(0)
    grid = rng.uniform(-2, 2, (2, 4, 5, 2)).astype(dtype)
    for x, base in layouts(2, 5, 6, 7, dtype=dtype):
        check_grid(device, x, base, grid, setting)
        if dtype != F32 or tiles == "many":
            break


@pytest.mark.parametrize("setting", [s for s in GRIDS if s[0] != "bicubic"], ids=str)
def test_grid_of_volumes(device, setting):
    rng = np.random.default_rng(0)
    grid = rng.uniform(-2, 2, (2, 2, 3, 2, 3)).astype(F32)
    for x, base in layouts(2, 3, 4, 1, 5, dtype=F32):
        check_grid(device, x, base, grid, setting)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_grid_16_bits(device, dtype):
    rng = np.random.default_rng(0)
    x, grid = numbers(0, 1, 3, 5, 5, dtype=dtype), rng.uniform(-1, 1, (1, 3, 4, 2)).astype(dtype)
    for mode in ("bilinear", "bicubic"):
        check_grid(device, x, x, grid, (mode, "zeros", False))


def test_all_samples_at_one_place(device):
    """A long run of taps; the same bits twice."""
    x, grid = numbers(0, 1, 3, 4, 4), np.full((1, 40, 50, 2), -0.9, F32)
    dy = numbers(1, 1, 3, 40, 50)
    expected, _ = reference.grid_sample_backward(dy, x, grid, "bilinear", "border", False)
    found = [device.grid_sample_backward(on_device(dy), on_device(x), on_device(grid), "bilinear", "border", False,
                                         True, False)[0].to_host() for _ in range(2)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-3)
    assert (found[0] == found[1]).all()


def test_far_and_undefined_coordinates(device):
    x = numbers(0, 1, 2, 3, 3)
    grid = np.array([[1e30, 0], [-1e30, 0], [4e9, 0], [np.nan, 0], [np.inf, 0.3], [0, -np.inf]], F32)[None, None]
    for setting in GRIDS:
        agree(device.grid_sample(on_device(x), on_device(grid), *setting), reference.grid_sample(x, grid, *setting))
