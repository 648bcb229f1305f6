"""3-D convolutions on the Triton side against the NumPy ones."""
from __future__ import annotations

import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.precision import precision
from tritium.kernels.reference import conv3d as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BF16]
WHOLE = [np.dtype(t) for t in (np.int8, np.uint8, np.int32, np.int64)]
LIMIT = {2: 8e-3, 4: 4e-6, 8: 1e-12}

# batch, channels, depth, height, width, output channels, groups
IMAGES = [(2, 3, 5, 6, 7, 5, 1), (1, 8, 4, 5, 6, 16, 1), (2, 8, 5, 4, 5, 12, 4), (2, 6, 5, 5, 4, 12, 6),
          (1, 32, 3, 4, 5, 128, 2)]
# kernel, stride, padding (front, back, top, bottom, left, right), dilation
WINDOWS = [((1, 1, 1), (1, 1, 1), (0,) * 6, (1, 1, 1)), ((1, 1, 1), (2, 2, 1), (0,) * 6, (1, 1, 1)),
           ((3, 3, 3), (1, 1, 1), (1,) * 6, (1, 1, 1)), ((3, 3, 3), (2, 2, 2), (1,) * 6, (1, 1, 1)),
           ((2, 3, 1), (1, 2, 3), (2, 1, 0, 2, 0, 0), (1, 1, 1)), ((2, 2, 2), (3, 3, 3), (0,) * 6, (1, 1, 1)),
           ((2, 2, 3), (2, 1, 2), (1,) * 6, (3, 1, 2)), ((3, 1, 1), (1, 1, 1), (1, 1, 0, 0, 0, 0), (1, 1, 1))]


@pytest.fixture(autouse=True)
def float32(monkeypatch: Any) -> None:
    monkeypatch.setattr(precision, "conv_tf32", False)


@pytest.fixture
def side() -> Any:
    from tritium.kernels.triton import conv3d

    return conv3d


@pytest.fixture
def force(monkeypatch: Any) -> Any:
    """Tiles of a given size, K in parts, blocks of one tap or of several, images copied or not."""
    from tritium.kernels.triton import conv, conv_grad
    from tritium.kernels.triton import conv_configs as configs
    from tritium.kernels.triton.matmul_configs import Tile

    def clear() -> None:
        for f in (conv._implicit, conv._direct, conv_grad._products, conv_grad._direct):
            f.cache_clear()

    def set(m: int, n: int, k: int, parts: int = 1, flat: bool = False, copied: bool = False) -> None:
        product = configs.Product(Tile(m, n, k, 4, 2, 1.0), parts, flat)
        monkeypatch.setattr(configs, "forward", lambda *args: product)
        monkeypatch.setattr(configs, "weight", lambda *args: product)
        monkeypatch.setattr(configs, "direct", lambda *args: configs.Direct(m, n, 4, parts))
        monkeypatch.setattr(configs, "converts", lambda *args: copied)
        clear()

    yield set
    clear()


def rng_of(*names: Any) -> Any:
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def draw(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Numbers of a dtype; whole ones that may overflow when they are summed."""
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -100, 100, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def send(x: np.ndarray) -> Any:
    """A copy on the device with the same strides."""
    from tritium.kernels.triton.memory import from_host

    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    there = from_host(np.ascontiguousarray(base))
    return there.look(there.ptr + x.ctypes.data - base.ctypes.data, x.shape, x.strides)


def last(x: np.ndarray) -> np.ndarray:
    """The same with the channels innermost in memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 4, 1)).transpose(0, 4, 1, 2, 3)


def wide(x: np.ndarray) -> np.ndarray:
    """In a dtype in which sums are exact enough to compare with."""
    return x.astype(np.float64 if x.dtype.kind not in "iu" else np.int64)


def near(got: Any, exact: np.ndarray, dtype: Any, stored_last: bool = True) -> None:
    """Equal shape and dtype and, within rounding, values; whole numbers exactly."""
    assert got.shape == exact.shape and got.dtype == dtype
    assert (got.transpose(0, 2, 3, 4, 1) if stored_last else got).flags.c_contiguous
    got = got.to_host()
    if dtype.kind in "iu":
        np.testing.assert_array_equal(got, exact.astype(dtype))
    elif exact.size:
        assert np.abs(got.astype(np.float64) - exact).max() <= LIMIT[dtype.itemsize] * np.abs(exact).max() + 1e-30


def check(side: Any, image: Any, window: Any, dtype: Any, order: Any) -> None:
    """The three products, and the forward one with a bias."""
    n, c, *size, o, groups = image
    kernel, stride, padding, dilation = window
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(n + a + b <= r for n, a, b, r in zip(size, padding[::2], padding[1::2], reach, strict=True)):
        return
    rest = (stride, padding, dilation, groups)
    rng = rng_of(image, window)
    x, weight, bias = draw(rng, (n, c, *size), dtype), draw(rng, (o, c // groups, *kernel), dtype), draw(rng, o, dtype)
    y = reference.conv3d(wide(x), wide(weight), wide(bias), *rest)
    dy, residual = draw(rng, y.shape, dtype), draw(rng, y.shape, dtype)
    there = [send(a) for a in (order(x), weight, bias, order(dy))]
    near(side.conv3d(*there[:3], *rest), y, dtype)
    if dtype.kind not in "iu":
        whole = side.conv3d(*there[:3], *rest, residual=send(order(residual)), activation="relu6")
        assert np.abs(wide(whole.to_host()) - np.clip(y + wide(residual), 0, 6)).max() < LIMIT[dtype.itemsize] * 20
    near(side.conv3d_input(there[3], there[1], tuple(size), *rest),
         reference.conv3d_input(wide(dy), wide(weight), tuple(size), *rest), dtype)
    near(side.conv3d_weight(there[0], there[3], kernel, *rest),
         reference.conv3d_weight(wide(x), wide(dy), kernel, *rest), dtype, False)
    near(side.conv3d_weight(there[0], there[3], kernel, *rest, last=True),
         reference.conv3d_weight(wide(x), wide(dy), kernel, *rest, last=True), dtype)


@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_windows(side: Any, image: Any) -> None:
    for i, window in enumerate(WINDOWS):
        check(side, image, window, FLOATS[i % 2], (np.ascontiguousarray, last)[i // 2 % 2])


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE], ids=str)
def test_dtypes(side: Any, dtype: Any) -> None:
    for image in (IMAGES[1], IMAGES[3]):
        check(side, image, WINDOWS[3], dtype, last)


@pytest.mark.parametrize("dtype", [FLOATS[0], BF16, np.dtype(np.int64)], ids=str)
@pytest.mark.parametrize("flat,parts,copied", [(False, 1, True), (True, 1, False), (False, 3, False), (True, 2, True)])
def test_tiles(side: Any, force: Any, dtype: Any, flat: bool, parts: int, copied: bool) -> None:
    """Several programs, ragged last tiles, blocks of one tap or of several, K in parts."""
    force(64, 16, 16, parts, flat, copied)
    check(side, (1, 20, 4, 4, 5, 24, 1), WINDOWS[3] if flat else WINDOWS[6], dtype, last)
    check(side, (2, 6, 4, 3, 4, 12, 6), WINDOWS[4], dtype, np.ascontiguousarray)
    if dtype in FLOATS[:1]:
        check(side, (1, 32, 4, 3, 4, 128, 2), WINDOWS[2], dtype, last)
        check(side, (2, 32, 5, 5, 4, 24, 1), WINDOWS[5], dtype, np.ascontiguousarray)  # no tap outside


@pytest.mark.parametrize("layout", ["expand", "flip", "step", "transposed", "offset"])
def test_strides(side: Any, layout: str) -> None:
    rng = rng_of(layout)
    x = draw(rng, (3, 4, 5, 6, 6), FLOATS[0])
    view = {"expand": lambda: np.broadcast_to(x[:1], x.shape), "flip": lambda: x[:, ::-1, ::-1, ::-1, ::-1],
            "step": lambda: draw(rng, (2, 8, 10, 10, 12), FLOATS[0])[:, ::2, ::2, 1::2, ::3],
            "transposed": lambda: x.transpose(0, 1, 4, 2, 3), "offset": lambda: x[1:, 1:, 1:, 2:, 3:]}[layout]()
    for kernel, padding in (((3, 3, 3), (1,) * 6), ((1, 1, 1), (0,) * 6)):
        weight = draw(rng, (view.shape[1], 6, *kernel), FLOATS[0]).transpose(1, 0, 4, 2, 3)
        rest = ((1, 1, 1), padding)
        y = reference.conv3d(wide(view), wide(weight), None, *rest)
        near(side.conv3d(send(view), send(weight), None, *rest), y, FLOATS[0])
        turned = weight.transpose(1, 0, 2, 3, 4)
        dx = reference.conv3d_input(wide(view), wide(turned), view.shape[2:], *rest)
        near(side.conv3d_input(send(view), send(turned), view.shape[2:], *rest), dx, FLOATS[0])
        # one number for all pixels, as the gradient of a sum is
        ones = np.broadcast_to(np.float32(1), y.shape)
        dw = reference.conv3d_weight(wide(view), wide(ones), kernel, *rest)
        there = side.conv3d_weight(send(view), send(ones), kernel, *rest)
        assert np.abs(there.to_host() - dw).max() < 1e-3


def test_offsets_in_64_bits(side: Any, monkeypatch: Any, force: Any) -> None:
    """Where an offset may not fit into 32 bits."""
    from tritium.kernels.triton import conv, conv_grad

    for module in (conv, conv_grad):
        monkeypatch.setattr(module, "LIMIT", 1000)
    for parts in (1, 2):
        force(64, 16, 16, parts, parts == 2)
        check(side, (1, 20, 4, 4, 5, 24, 1), WINDOWS[3], FLOATS[0], last)
        check(side, (2, 6, 4, 3, 4, 12, 6), WINDOWS[4], FLOATS[0], np.ascontiguousarray)


def test_prepared(side: Any) -> None:
    """A weight made ready once."""
    from tritium.kernels.triton import conv

    rng = rng_of("prepared")
    for groups in (1, 8):
        x, w = draw(rng, (2, 8, 4, 5, 6), FLOATS[0]), draw(rng, (8, 8 // groups, 3, 3, 3), FLOATS[0])
        prepared, _ = conv.folded(send(w), groups, None, None)
        for _ in range(2):
            near(side.conv3d(send(x), prepared), reference.conv3d(wide(x), wide(w), groups=groups), FLOATS[0])


def test_not_finite(side: Any, force: Any) -> None:
    """Infinity and NaN reach the pixels that see them and no others; what is outside the image is zero."""
    rng = rng_of("inf")
    x, weight = draw(rng, (1, 20, 4, 5, 5), FLOATS[0]), draw(rng, (8, 20, 3, 3, 3), FLOATS[0])
    x[0, 2, 1, 3, 4], x[0, 1, 3, 0, 2] = np.inf, np.nan
    exact = reference.conv3d(x, weight, None, (1, 1, 1), (1,) * 6)
    for flat in (False, True):
        force(64, 16, 16, 2, flat)
        ours = side.conv3d(send(x), send(weight), None, (1, 1, 1), (1,) * 6).to_host()
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(exact))
        np.testing.assert_array_equal(np.isinf(ours), np.isinf(exact))


@pytest.mark.parametrize("shape,weight,size", [((0, 4, 5, 5, 5), (6, 4, 3, 3, 3), 3),
                                               ((2, 0, 5, 5, 5), (6, 0, 3, 3, 3), 3),
                                               ((2, 4, 5, 5, 5), (0, 4, 3, 3, 3), 3)])
def test_empty(side: Any, shape: Any, weight: Any, size: int) -> None:
    x, w, out = np.ones(shape, np.float32), np.ones(weight, np.float32), (shape[0], weight[0], size, size, size)
    bias = np.arange(weight[0]).astype(np.float32)
    assert np.array_equal(side.conv3d(send(x), send(w), send(bias)).to_host(),
                          np.zeros(out, np.float32) + bias[:, None, None, None])
    dy = send(np.ones(out, np.float32))
    assert np.array_equal(side.conv3d_input(dy, send(w), shape[2:]).to_host(), np.zeros(shape, np.float32))
    assert np.array_equal(side.conv3d_weight(send(x), dy, weight[2:]).to_host(), np.zeros(weight, np.float32))


def test_same_bits(side: Any, force: Any) -> None:
    rng = rng_of("bits")
    x, w, dy = (send(draw(rng, s, FLOATS[0])) for s in ((1, 20, 4, 4, 5), (24, 20, 3, 3, 3), (1, 24, 4, 4, 5)))
    force(64, 16, 16, 3)
    rest = ((1, 1, 1), (1,) * 6)
    results = [[side.conv3d(x, w, None, *rest), side.conv3d_input(dy, w, (4, 4, 5), *rest),
                side.conv3d_weight(x, dy, (3, 3, 3), *rest)] for _ in range(2)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.to_host(), b.to_host())


def test_refused(side: Any) -> None:
    """Arrays of two devices, and complex numbers."""
    from tritium.kernels.array import DeviceMismatch, NoKernel

    x, w = np.ones((1, 2, 4, 4, 4), np.float32), np.ones((3, 2, 3, 3, 3), np.float32)
    with pytest.raises(DeviceMismatch):
        side.conv3d(send(x), w)
    with pytest.raises(NoKernel, match="complex"):
        side.conv3d(send(x.astype(np.complex64)), send(w.astype(np.complex64)))
