"""Convolutions on the Triton side against the plain NumPy ones."""
from __future__ import annotations

import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.precision import precision
from tritium.kernels.reference import conv as reference
from tritium.kernels.reference import conv_plain as plain

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BF16]
WHOLE = [np.dtype(t) for t in (np.int8, np.uint8, np.int16, np.int32, np.int64)]
LIMIT = {2: 8e-3, 4: 4e-6, 8: 1e-12}

# batch, channels, height, width, output channels, groups
IMAGES = [(2, 3, 11, 13, 5, 1), (1, 8, 9, 10, 16, 1), (2, 8, 9, 9, 12, 4), (2, 6, 9, 8, 12, 6), (2, 16, 8, 8, 16, 16),
          (1, 32, 6, 7, 128, 2), (3, 20, 7, 7, 24, 1)]
# kernel, stride, padding (top, bottom, left, right), dilation
WINDOWS = [((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)), ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
           ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
           ((5, 3), (1, 2), (2, 1, 0, 2), (1, 1)), ((2, 2), (3, 3), (0, 0, 0, 0), (1, 1)),
           ((3, 2), (2, 3), (1, 1, 1, 1), (3, 1)), ((2, 3), (6, 4), (1, 1, 1, 1), (4, 6))]


@pytest.fixture(autouse=True)
def float32(monkeypatch: Any) -> None:
    monkeypatch.setattr(precision, "conv_tf32", False)


@pytest.fixture
def side() -> Any:
    from tritium.kernels.triton import conv

    return conv


@pytest.fixture
def grad() -> Any:
    from tritium.kernels.triton import conv_grad

    return conv_grad


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
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def wide(x: np.ndarray) -> np.ndarray:
    """In a dtype in which sums are exact enough to compare with."""
    return x.astype(np.float64 if x.dtype.kind not in "iu" else np.int64)


def near(got: Any, exact: np.ndarray, dtype: Any, scale: Any = None) -> None:
    """Equal shape and dtype and, within rounding, values; whole numbers exactly."""
    assert got.shape == exact.shape and got.dtype == dtype
    got = got.to_host()
    if dtype.kind in "iu":
        np.testing.assert_array_equal(got, exact.astype(dtype))
    elif exact.size:
        biggest = np.abs(exact).max() if scale is None else scale
        assert np.abs(got.astype(np.float64) - exact).max() <= LIMIT[dtype.itemsize] * biggest + 1e-30


def last_storage(y: Any) -> bool:
    return y.transpose(0, 2, 3, 1).flags.c_contiguous


def check(side: Any, grad: Any, image: Any, window: Any, dtype: Any, order: Any) -> None:
    """The three products, and the forward one with everything that may follow it."""
    n, c, h, w, o, groups = image
    kernel, stride, padding, dilation = window
    if h + sum(padding[:2]) <= dilation[0] * (kernel[0] - 1) or w + sum(padding[2:]) <= dilation[1] * (kernel[1] - 1):
        return
    rest = (stride, padding, dilation, groups)
    rng = rng_of(image, window)
    x, weight, bias = draw(rng, (n, c, h, w), dtype), draw(rng, (o, c // groups, *kernel), dtype), draw(rng, o, dtype)
    y = plain.conv2d(wide(x), wide(weight), None, *rest)
    dy, residual = draw(rng, y.shape, dtype), draw(rng, y.shape, dtype)
    there = [send(a) for a in (order(x), weight, bias, order(dy), order(residual))]
    out = side.conv2d(there[0], there[1], None, *rest)
    assert last_storage(out)
    near(out, y, dtype)
    dx = grad.conv2d_input(there[3], there[1], (h, w), *rest)
    assert last_storage(dx)
    near(dx, plain.conv2d_input(wide(dy), wide(weight), (h, w), *rest), dtype)
    dw = grad.conv2d_weight(there[0], there[3], kernel, *rest)
    assert dw.flags.c_contiguous
    near(dw, plain.conv2d_weight(wide(x), wide(dy), kernel, *rest), dtype)
    near(grad.bias_gradient(there[3]), wide(dy).sum((0, 2, 3)), dtype, dy.size)
    whole = np.clip(y + wide(bias)[:, None, None] + wide(residual), 0, 6)
    if dtype.kind not in "iu":
        whole_there = side.conv2d(there[0], side.prepare(there[1], groups), there[2], *rest, residual=there[4],
                                  activation="relu6")
        near(whole_there, whole, dtype, np.abs(y).max() + 4)


@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_windows(side: Any, grad: Any, image: Any) -> None:
    for i, window in enumerate(WINDOWS):
        check(side, grad, image, window, FLOATS[i % 2], (np.ascontiguousarray, last)[i // 2 % 2])


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE], ids=str)
def test_dtypes(side: Any, grad: Any, dtype: Any) -> None:
    for image in (IMAGES[1], IMAGES[2]):
        check(side, grad, image, WINDOWS[3], dtype, last)
    check(side, grad, IMAGES[1], WINDOWS[0], dtype, last)


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(np.int8), np.dtype(np.int64)], ids=str)
@pytest.mark.parametrize("flat,parts,copied", [(False, 1, True), (True, 1, False), (False, 3, False), (True, 2, True)])
def test_tiles(side: Any, grad: Any, force: Any, dtype: Any, flat: bool, parts: int, copied: bool) -> None:
    """Several programs, ragged last tiles, blocks of one tap or of several, K in parts."""
    least = 32 if dtype == np.int8 else 16
    force(64, 16, least, parts, flat, copied)
    for image in ((2, 20, 7, 6, 24, 1), (2, 32, 5, 6, 128, 2)) if dtype in FLOATS[:2] else ((1, 32, 5, 6, 24, 1),):
        check(side, grad, image, WINDOWS[3], dtype, last)
    check(side, grad, (2, 6, 6, 5, 24, 6), WINDOWS[2], dtype, np.ascontiguousarray)
    if dtype in FLOATS[:1]:
        check(side, grad, (2, 32, 7, 6, 24, 1), WINDOWS[5], dtype, np.ascontiguousarray)  # no tap outside


@pytest.mark.parametrize("layout", ["expand", "flip", "step", "transposed", "offset"])
def test_strides(side: Any, grad: Any, layout: str) -> None:
    rng = rng_of(layout)
    x = draw(rng, (3, 4, 10, 10), FLOATS[0])
    view = {"expand": lambda: np.broadcast_to(x[:1], x.shape), "flip": lambda: x[:, ::-1, ::-1, ::-1],
            "step": lambda: draw(rng, (3, 8, 20, 20), FLOATS[0])[:, ::2, ::2, 1::2],
            "transposed": lambda: x.transpose(0, 1, 3, 2), "offset": lambda: x[1:, 1:, 1:, 3:]}[layout]()
    c = view.shape[1]
    for kernel, padding in (((3, 3), (1, 1, 1, 1)), ((1, 1), (0, 0, 0, 0))):
        weight = draw(rng, (c, 6, *kernel), FLOATS[0]).transpose(1, 0, 3, 2)
        y = plain.conv2d(wide(view), wide(weight), None, (1, 1), padding)
        near(side.conv2d(send(view), send(weight), None, (1, 1), padding), y, FLOATS[0])
        dw = plain.conv2d_weight(wide(view), y, kernel, (1, 1), padding)
        near(grad.conv2d_weight(send(view), send(np.ascontiguousarray(y, np.float32)), kernel, (1, 1), padding), dw, FLOATS[0])
        turned = weight.transpose(1, 0, 2, 3)
        dx = plain.conv2d_input(wide(view), wide(turned), view.shape[2:], (1, 1), padding)
        near(grad.conv2d_input(send(view), send(turned), view.shape[2:], (1, 1), padding), dx, FLOATS[0])
        # one number for all pixels, as the gradient of a sum is
        ones = np.broadcast_to(np.float32(1), y.shape)
        near(grad.conv2d_weight(send(view), send(ones), kernel, (1, 1), padding),
             plain.conv2d_weight(wide(view), wide(ones), kernel, (1, 1), padding), FLOATS[0], 300)


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_folded(side: Any, activation: Any) -> None:
    """A batch norm that became a factor and a shift of each channel."""
    rng = rng_of(activation)
    for dtype in (FLOATS[0], FLOATS[1], BF16):
        for groups, kernel, gamma, bias in ((1, (3, 3), True, True), (8, (3, 3), False, True), (1, (1, 1), True, False)):
            x, weight = draw(rng, (2, 8, 7, 6), dtype), draw(rng, (16, 8 // groups, *kernel), dtype)
            mean, var, g, beta, b = (draw(rng, 16, dtype) for _ in range(5))
            var = np.abs(var) + dtype.type(0.5)
            arrays = (g if gamma else None, beta if gamma else None, mean, var)
            w, shift = side.folded(send(weight), groups, send(b) if bias else None,
                                   (*[None if a is None else send(a) for a in arrays], 1e-3))
            y = plain.conv2d(wide(x), wide(weight), wide(b) if bias else None, groups=groups)
            scale = 1 / np.sqrt(wide(var) + 1e-3) * (wide(g) if gamma else 1)
            y = (y - wide(mean)[:, None, None]) * scale[:, None, None] + (wide(beta)[:, None, None] if gamma else 0)
            residual = draw(rng, y.shape, dtype)
            expected = y + wide(residual)
            if activation:
                expected = np.clip(expected, 0, 6 if activation == "relu6" else None)
            got = side.conv2d(send(x), w, shift, residual=send(last(residual)), activation=activation)
            near(got, expected, dtype, np.abs(y).max())
            w, none = side.folded(send(weight), groups, None, None)
            assert none is None
            near(side.conv2d(send(x), w, None), plain.conv2d(wide(x), wide(weight), groups=groups), dtype)


def test_not_finite(side: Any, force: Any) -> None:
    """Infinity and NaN reach the pixels that see them and no others; what is outside the image is zero."""
    rng = rng_of("inf")
    x, weight = draw(rng, (2, 20, 8, 8), FLOATS[0]), draw(rng, (8, 20, 3, 3), FLOATS[0])
    x[0, 2, 3, 4], x[1, 1, 0, 7] = np.inf, np.nan
    exact = reference.conv2d(x, weight, None, (1, 1), (1, 1, 1, 1), activation="relu")
    for flat in (False, True):
        force(64, 16, 16, 2, flat)
        ours = side.conv2d(send(x), send(weight), None, (1, 1), (1, 1, 1, 1), activation="relu").to_host()
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(exact))
        np.testing.assert_array_equal(np.isinf(ours), np.isinf(exact))


@pytest.mark.parametrize("shape,weight,size", [((0, 4, 5, 5), (6, 4, 3, 3), 3), ((2, 0, 5, 5), (6, 0, 3, 3), 3),
                                               ((2, 4, 5, 5), (0, 4, 3, 3), 3)])
def test_empty(side: Any, grad: Any, shape: Any, weight: Any, size: int) -> None:
    x, w = np.ones(shape, np.float32), np.ones(weight, np.float32)
    bias, out = np.arange(weight[0]).astype(np.float32), (shape[0], weight[0], size, size)
    near(side.conv2d(send(x), send(w), send(bias)), np.zeros(out) + bias[:, None, None], FLOATS[0])
    dy = send(np.ones(out, np.float32))
    near(grad.conv2d_input(dy, send(w), shape[2:]), np.zeros(shape) if 0 in out else plain.conv2d_input(
        np.ones(out), wide(w), shape[2:]), FLOATS[0])
    near(grad.conv2d_weight(send(x), dy, weight[2:]), np.zeros(weight), FLOATS[0])
    near(grad.bias_gradient(dy), np.ones(out).sum((0, 2, 3)), FLOATS[0])


def test_same_bits(side: Any, grad: Any, force: Any) -> None:
    rng = rng_of("bits")
    x, w, dy = (send(draw(rng, s, FLOATS[0])) for s in ((2, 20, 6, 6), (24, 20, 3, 3), (2, 24, 6, 6)))
    force(64, 16, 16, 3)
    rest = ((1, 1), (1, 1, 1, 1))
    results = [[side.conv2d(x, w, None, *rest), grad.conv2d_input(dy, w, (6, 6), *rest),
                grad.conv2d_weight(x, dy, (3, 3), *rest)] for _ in range(2)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.to_host(), b.to_host())


def test_tf32(side: Any, monkeypatch: Any) -> None:
    """The switch counts for convolutions alone, also for those that are products."""
    from tritium import backends

    rng = rng_of("tf32")
    for kernel in (1, 3):
        x, w = (send(draw(rng, s, FLOATS[0])) for s in ((1, 8, 5, 5), (4, 8, kernel, kernel)))
        exact = side.conv2d(x, w).to_host()
        monkeypatch.setattr(backends.cudnn, "allow_tf32", True)
        error = np.abs(side.conv2d(x, w).to_host() - exact).max()
        assert 1e-5 < error < 1e-1
        monkeypatch.setattr(backends.cudnn, "allow_tf32", False)
    with pytest.raises(RuntimeError, match="expects a bool, but got int"):
        backends.cudnn.allow_tf32 = 1


def test_refused(side: Any, grad: Any) -> None:
    """Arrays of two devices, and complex numbers."""
    from tritium.kernels.array import DeviceMismatch, NoKernel

    x, w, b = np.ones((1, 2, 4, 4), np.float32), np.ones((3, 2, 3, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(DeviceMismatch):
        side.conv2d(send(x), w)
    with pytest.raises(DeviceMismatch):
        side.conv2d(send(x), send(w), b)
    with pytest.raises(NoKernel, match="complex"):
        side.conv2d(send(x.astype(np.complex64)), send(w.astype(np.complex64)))
    with pytest.raises(NoKernel, match="complex"):
        grad.conv2d_weight(send(x.astype(np.complex64)), send(x.astype(np.complex64)), (1, 1))


def test_choices() -> None:
    """What a real device is given: one-tap blocks that fit the channels, K split where the tiles are few."""
    from tritium.kernels.runtime.base import Properties
    from tritium.kernels.triton import conv_configs as configs

    h100 = Properties("H100", 9, 0, 80 << 30, 132)

    def forward(M: int, O: int, C: int, taps: int, kind: str = "half") -> Any:
        return configs.forward(kind, 2 if kind == "half" else 4, M, O, C, taps, 1, h100, False, False, True, False)

    large = forward(64 * 56 * 56, 64, 64, 9)
    assert not large.flat and large.parts == 1 and large.tile.k == 64 and large.tile.m >= 64
    assert forward(64 * 112 * 112, 64, 3, 49).flat
    assert forward(49, 512, 512, 9).parts > 1
    assert configs.fit(64, 96, 16) == 32 and configs.fit(64, 256, 16) == 64 and configs.fit(64, 16, 16) == 16
    assert configs.weight("half", 2, 64 * 56 * 56, 64, 64, 9, 1, h100, False, False, True).parts > 8
    assert configs.is_direct(32, 1, 1) and configs.is_direct(32, 4, 4) and not configs.is_direct(2, 64, 64)
    assert configs.converts(64, False) and not configs.converts(3, False) and not configs.converts(64, True)
