"""Windows and patches of channels-last images, and what is done to a finished block of a convolution's output.

Arrays here are (N, H, W, C) views of any strides; fastest when C is innermost in memory.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tritium.kernels.reference.parallel import empty, scratch, views

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Where the taps of a convolution lie: tap (i, j) of output pixel (y, x) reads input pixel
    (y * sh - top + i * dh, x * sw - left + j * dw), zero outside the image. ``top`` and ``left`` may be negative."""

    kh: int
    kw: int
    sh: int = 1
    sw: int = 1
    top: int = 0
    left: int = 0
    dh: int = 1
    dw: int = 1


class Window(NamedTuple):
    """The same for any number of dimensions: tap t of output pixel p reads input pixel
    p * stride - before + t * dilation along each of them. ``before`` may be negative."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def taps(self) -> int:
        """How many taps there are."""
        return prod(self.kernel)

    def ends(self, out: tuple[int, ...]) -> tuple[int, ...]:
        """Where the input that the pixels of an output of this size read ends, beginning at -before."""
        return tuple(
            [(n - 1) * s - b + d * (k - 1) + 1 for n, k, s, b, d in zip(out, *self, strict=True)]
        )


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Length of a convolution's output along one dimension."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def window(
    x: np.ndarray, n0: int, n1: int, r0: int, r1: int, c0: int, c1: int, fill: Any = 0, planar: bool = False
) -> np.ndarray:
    """``x[n0:n1, r0:r1, c0:c1]``, with ``fill`` where rows or columns lie outside the image.

    A view of ``x`` when nothing lies outside and the channels are adjacent, else a copy in a workspace, in which the
    channels are innermost; ``planar``: outermost."""
    _, H, W, C = x.shape
    if not planar and r0 >= 0 and c0 >= 0 and r1 <= H and c1 <= W and (C == 1 or x.strides[3] == x.itemsize):
        return x[n0:n1, r0:r1, c0:c1]
    if planar:
        out = scratch("window", (C, n1 - n0, r1 - r0, c1 - c0), x.dtype).transpose(1, 2, 3, 0)
    else:
        out = scratch("window", (n1 - n0, r1 - r0, c1 - c0, C), x.dtype)
    top, bottom = min(max(-r0, 0), r1 - r0), max(min(H, r1) - r0, 0)
    left, right = min(max(-c0, 0), c1 - c0), max(min(W, c1) - c0, 0)
    if top >= bottom or left >= right:
        out[...] = fill
        return out
    if top:
        out[:, :top] = fill
    if bottom < r1 - r0:
        out[:, bottom:] = fill
    if left:
        out[:, top:bottom, :left] = fill
    if right < c1 - c0:
        out[:, top:bottom, right:] = fill
    out[:, top:bottom, left:right] = x[n0:n1, r0 + top : r0 + bottom, c0 + left : c0 + right]
    return out


def patches(x: np.ndarray, g: Geometry, n0: int, n1: int, y0: int, y1: int, OW: int, fill: Any = 0) -> np.ndarray:
    """View (n1 - n0, y1 - y0, OW, kh, kw, C) of what each output pixel of rows y0..y1 reads."""
    return _patches(_read(x, g, n0, n1, y0, y1, OW, fill), g, y1 - y0, OW)


def _read(x: np.ndarray, g: Geometry, n0: int, n1: int, y0: int, y1: int, OW: int, fill: Any = 0) -> np.ndarray:
    r0 = y0 * g.sh - g.top
    return window(x, n0, n1, r0, r0 + _reach(y1 - y0, g)[0], -g.left, _reach(OW, g)[1] - g.left, fill)


def _reach(count: int, g: Geometry) -> Pair:
    """Rows and columns of input that ``count`` rows or columns of output read."""
    return (count - 1) * g.sh + (g.kh - 1) * g.dh + 1, (count - 1) * g.sw + (g.kw - 1) * g.dw + 1


def _patches(p: np.ndarray, g: Geometry, r: int, OW: int) -> np.ndarray:
    sn, sh, sw, sc = p.strides
    shape = (p.shape[0], r, OW, g.kh, g.kw, p.shape[3])
    return as_strided(p, shape, (sn, sh * g.sh, sw * g.sw, sh * g.dh, sw * g.dw, sc))


def patch_rows(
    x: np.ndarray,
    g: Geometry,
    n0: int,
    n1: int,
    y0: int,
    y1: int,
    OW: int,
    groups: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """im2col: one row of (kh, kw, C / groups) numbers an output pixel; (groups, pixels, kh * kw * C / groups).

    A 1x1 kernel whose pixels lie evenly in memory is not copied. With ``out`` (groups = 1) the rows are put there."""
    m, r, C = n1 - n0, y1 - y0, x.shape[3]
    inside = g.top == g.left == 0 and (y1 - 1) * g.sh < x.shape[1] and (OW - 1) * g.sw < x.shape[2]
    if out is None and g.kh == g.kw == groups == 1 and inside and m * r:
        pixels = x[n0:n1, y0 * g.sh : (y1 - 1) * g.sh + 1 : g.sh, : (OW - 1) * g.sw + 1 : g.sw]
        if _even(pixels):
            return as_strided(pixels, (1, m * r * OW, C), (0, pixels.strides[2], pixels.strides[3]))
    if out is not None:
        np.copyto(out.reshape(m, r, OW, g.kh, g.kw, C), patches(x, g, n0, n1, y0, y1, OW))
        return out

    def split(view: np.ndarray) -> np.ndarray:
        return view.reshape(*view.shape[:5], groups, C // groups).transpose(5, 0, 1, 2, 3, 4, 6)

    def make() -> Any:
        rows = scratch("patch_rows", (groups, m * r * OW, g.kh * g.kw * C // groups), x.dtype)
        height, width = _reach(r, g)[0], _reach(OW, g)[1]
        copied = scratch("window", (m, height, width, C), x.dtype)
        return rows, rows.reshape(groups, m, r, OW, g.kh, g.kw, C // groups), split(_patches(copied, g, r, OW)), copied

    rows, to, source, copied = views(("patches", g, m, r, OW, C, groups, x.dtype), make)
    p = _read(x, g, n0, n1, y0, y1, OW)
    np.copyto(to, source if np.may_share_memory(p, copied) else split(_patches(p, g, r, OW)))
    return rows


def _even(pixels: np.ndarray) -> bool:
    """Whether all pixels are one stride apart and BLAS can read them as a matrix, in rows or in columns."""
    m, r, w, C = pixels.shape
    sn, sh, sw, sc = pixels.strides
    if (r > 1 and sh != w * sw) or (m > 1 and sn != r * w * sw):
        return False
    size = pixels.itemsize
    return (sc == size and sw >= C * size) or (sw == size and sc >= m * r * w * size)


# --------------------------------------------------------------------------------------------------------- epilogue

_CONSTANT = 1 << 18  # elements of the arrays of zeros and sixes below
_constants: dict[tuple[Any, float], np.ndarray] = {}


def _constant(dtype: Any, value: float) -> np.ndarray:
    found = _constants.get((dtype, value))
    if found is None:
        found = empty((_CONSTANT,), dtype)
        found[...] = value
        _constants[dtype, value] = found
    return found


def _against(ufunc: Any, block: np.ndarray, value: float) -> None:
    """``ufunc(block, value, out=block)``. NumPy has no vector code for maximum with a scalar, only with an array."""
    if not block.flags.c_contiguous:
        ufunc(block, block.dtype.type(value), out=block)
        return
    flat, constant = block.reshape(-1), _constant(block.dtype, value)
    for i in range(0, flat.size, _CONSTANT):
        piece = flat[i : i + _CONSTANT]
        ufunc(piece, constant[: piece.size], out=piece)


def finite(block: np.ndarray) -> bool:
    """Whether no element is infinite or NaN: 0 times the block is 0."""
    if not block.flags.c_contiguous:
        return bool(np.isfinite(block).all())
    flat, zeros = block.reshape(-1), _constant(block.dtype, 0)
    pieces = (flat[i : i + _CONSTANT] for i in range(0, flat.size, _CONSTANT))
    return all(np.dot(piece, zeros[: piece.size]) == 0 for piece in pieces)


class Epilogue:
    """What follows a convolution, done to each block of its output while it is in cache: add the bias (O,), add the
    residual (N, OH, OW, O), then ``activation``: None, "relu" or "relu6"."""

    __slots__ = ("activation", "bias", "residual", "row")
    row: Any

    def __init__(
        self,
        bias: np.ndarray | None = None,
        residual: np.ndarray | None = None,
        activation: str | None = None,
        width: int = 1,
    ) -> None:
        self.bias, self.residual, self.activation = bias, residual, activation
        if bias is not None:  # one row of pixels: long inner loops
            self.row = np.broadcast_to(bias, (width, len(bias))).reshape(-1)

    def __call__(
        self, block: np.ndarray, n0: int, n1: int, y0: int, y1: int, o0: int = 0, o1: int | None = None
    ) -> None:
        """Finish ``block``, the output of images n0..n1, rows y0..y1 and channels o0..o1."""
        if self.bias is not None:
            m, r, w, O = block.shape
            if o0 == 0 and o1 is None and block.flags.c_contiguous:
                rows = block.reshape(m * r, w * O)
                np.add(rows, self.row, out=rows)
            else:
                np.add(block, self.bias[o0:o1], out=block)
        if self.residual is not None:
            np.add(block, self.residual[n0:n1, y0:y1, :, o0:o1], out=block)
        if self.activation is not None:
            _against(np.maximum, block, 0)
            if self.activation == "relu6":
                _against(np.minimum, block, 6)
