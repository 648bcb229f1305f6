"""2-D convolution of NumPy arrays, channels-last inside.

    y[n, o, p, q] = b[o] + sum over c, i, j of x[n, c, p s - P + i d, q s - P + j d] w[o, c, i, j]

Inputs have NCHW *shape* and any strides; the result has NCHW shape and NHWC *storage*, in which the taps of one kernel
row are one run of kw * C numbers. Work is cut into blocks of output rows that stay in cache, and what follows the
convolution (bias, residual, activation) is done to a block before it leaves. The algorithm is chosen by shape:

- 3x3 of stride 1 in float32, where it pays: Winograd (``winograd``)
- one channel a group: a sum over taps of products (``_depthwise``)
- few input channels (the first layer of a network): im2col along image rows, not channels (``_planar``)
- everything else: im2col and matrix products; a 1x1 kernel reads the input in place

float16 and bfloat16 are computed in float32 and rounded once. ``conv_plain`` is the same in its plainest form.
"""

from __future__ import annotations

from math import gcd, prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tritium.kernels.reference import winograd
from tritium.kernels.reference.gemm import gemm
from tritium.kernels.reference.parallel import blocks, empty, get_num_threads, parts, run, scratch, views
from tritium.kernels.reference.patches import Epilogue, Geometry, output_size, patch_rows, patches, window
from tritium.kernels.reference.quiet import quiet

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, bottom, left, right


def compute_dtype(dtype: Any) -> Any:
    """The dtype that a convolution of ``dtype`` is computed in: float32 for the 16-bit floats."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype


class Prepared:
    """A weight (O, C / groups, kh, kw) in the forms that the algorithms read, each made when first asked for; one of
    three dimensions (O, C / groups, kd, kh, kw) for ``conv3d``, which asks for ``matrix`` and ``depthwise``.

    ``keep`` says that it will be used again: forms are then made for speed of use, not of making. ``scale`` (O,)
    multiplies the output channels (a folded batch norm). Later writes to the weight are not seen."""

    def __init__(
        self, weight: np.ndarray, groups: int = 1, keep: bool = False, scale: np.ndarray | None = None
    ) -> None:
        dtype = compute_dtype(weight.dtype)
        if scale is not None:
            weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        n = weight.ndim
        rows = np.array(weight.transpose(0, *range(2, n), 1), dtype, order="C")  # (O, kh, kw, C / groups)
        rows = rows.reshape(groups, len(rows) // groups, *rows.shape[1:])
        self._set(rows.transpose(0, *range(2, n + 1), 1), keep)

    @classmethod
    def of_taps(cls, taps: np.ndarray) -> Prepared:
        """From (groups, kh, kw, C / groups, O / groups), contiguous."""
        self = cls.__new__(cls)
        self._set(taps, False)
        return self

    def _set(self, taps: np.ndarray, keep: bool) -> None:
        self.taps, self.keep = taps, keep
        self.groups, *kernel, C, O = taps.shape
        self.kernel, (self.kh, self.kw) = tuple(kernel), kernel[-2:]
        self.shape = (self.groups * O, C, *kernel)
        self.dtype = taps.dtype
        self._made: dict[Any, np.ndarray] = {}

    def _form(self, name: Any, make: Any) -> np.ndarray:
        form = self._made.get(name)
        if form is None:
            form = make()
            if self.keep:
                form = np.ascontiguousarray(form)
            self._made[name] = form
        return form

    def matrix(self) -> np.ndarray:
        """(groups, kh * kw * C / groups, O / groups), for im2col; in memory either of the last two may be inner."""
        G, *window, O = self.taps.shape
        K, n = prod(window), self.taps.ndim

        def make() -> np.ndarray:
            if self.taps.flags.c_contiguous:
                return self.taps.reshape(G, K, O)
            return self.taps.transpose(0, n - 1, *range(1, n - 1)).reshape(G, O, K).transpose(0, 2, 1)

        return self._form("matrix", make)

    def planar(self, g: Geometry) -> np.ndarray:
        """(kw * C * kh, O), for ``_planar``, the columns in its order."""
        order = sum(_column_order(g), [])
        return self._form(
            ("planar", *order), lambda: self.taps[0, :, order].transpose(0, 2, 1, 3).reshape(-1, self.shape[0])
        )

    def winograd(self, m: int) -> np.ndarray:
        """(t², C, O), for F(m x m, 3 x 3)."""
        C, O = self.taps.shape[3:]

        def make() -> np.ndarray:
            if self.taps.flags.c_contiguous:
                return winograd.transform_weight(self.taps.reshape(9, C * O), m).reshape(-1, C, O)
            rows = np.ascontiguousarray(self.taps[0].transpose(0, 1, 3, 2)).reshape(9, O * C)
            return winograd.transform_weight(rows, m).reshape(-1, O, C).transpose(0, 2, 1)

        return self._form(m, make)

    def depthwise(self, width: int) -> np.ndarray:
        """(O / groups, kh, kw, C), each tap repeated for ``width`` pixels: (O / groups, kh, kw, width * C)."""

        def make() -> np.ndarray:
            taps = self.taps[..., 0, :]
            taps = taps.transpose(taps.ndim - 1, *range(1, taps.ndim - 1), 0)
            return np.ascontiguousarray(np.tile(taps, width))

        return self._form(("depthwise", width), make)


def prepare(weight: np.ndarray, groups: int = 1, scale: np.ndarray | None = None) -> Prepared:
    """A weight made ready once for many convolutions: give it to ``conv2d`` in the weight's place."""
    return Prepared(weight, groups, keep=True, scale=scale)


@quiet
def folded(weight: np.ndarray, groups: int, bias: np.ndarray | None, bn: Any) -> tuple[Prepared, np.ndarray | None]:
    """A weight made ready, and the bias that goes with it, with a batch norm folded in; both are copies.

    ``bn``: None or (weight, bias, mean, var, eps), the first two may be None."""
    if bn is None:
        return prepare(weight, groups), None if bias is None else np.array(bias)
    from tritium.kernels.reference.norm import affine

    gamma, beta, mean, var, eps = bn
    _, scale64, shift = affine(mean, var, gamma, beta, eps)
    dtype = compute_dtype(weight.dtype)
    shift = (shift if bias is None else shift + bias.astype(np.float64) * scale64).astype(dtype)
    return prepare(weight, groups, scale64.astype(dtype)), shift


@quiet
def conv2d(
    x: np.ndarray,
    weight: np.ndarray | Prepared,
    bias: np.ndarray | None = None,
    stride: Pair = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    *,
    residual: np.ndarray | None = None,
    activation: str | None = None,
) -> np.ndarray:
    """x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (N, O, OH, OW) in NHWC storage.

    ``padding`` is (top, bottom, left, right). ``residual``, of the output's shape, is added; ``activation`` is None,
    "relu" or "relu6". ``weight`` may be ``Prepared``, whose groups then count. Dtypes are equal."""
    w = weight if isinstance(weight, Prepared) else Prepared(weight, groups)
    dtype = compute_dtype(x.dtype)
    N, _, H, W = x.shape
    g = Geometry(w.kh, w.kw, *stride, padding[0], padding[2], *dilation)
    OH = output_size(H, w.kh, stride[0], padding[0], padding[1], dilation[0])
    OW = output_size(W, w.kw, stride[1], padding[2], padding[3], dilation[1])
    out = empty((N, OH, OW, w.shape[0]), dtype)
    bias = bias if bias is None else bias.astype(dtype, copy=False)
    if residual is not None:
        residual = residual.transpose(0, 2, 3, 1).astype(dtype, copy=False)
    forward(x.astype(dtype, copy=False).transpose(0, 2, 3, 1), w, g, out, Epilogue(bias, residual, activation, OW))
    return out.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


def forward(x: np.ndarray, w: Prepared, g: Geometry, out: np.ndarray, epilogue: Epilogue) -> None:
    """x (N, H, W, C) of any strides -> out (N, OH, OW, O), whose channels are adjacent."""
    N, OH, OW, O = out.shape
    C = x.shape[3]
    if out.size == 0:
        return
    if C == 0 or x.size == 0:
        out[...] = 0
        epilogue(out, 0, N, 0, OH)
        return
    if w.groups > 1 and w.groups == C and x.dtype.kind == "f":
        _depthwise(x, w, g, out, epilogue)
        return
    if w.groups == 1 and g.kh == g.kw == 3 and g.sh == g.sw == g.dh == g.dw == 1 and x.dtype == np.float32:
        m = _winograd_size(N, OH, OW, C, O, w)
        if m:
            again = lambda n0, n1, y0, y1: _im2col(x, w, g, out, epilogue, n0, n1, y0, y1)
            winograd.conv3x3(x, w.winograd(m), m, out, g.top, g.left, epilogue, again)
            return
    if w.groups == 1 and g.kh * g.kw > 1 and C * g.kw < 32 and OW >= 16:
        K, body = C * g.kh * g.kw, _planar
    else:
        K, body = g.kh * g.kw * C // w.groups, _im2col
        if 96 * get_num_threads() > N * OH * OW and w.groups == 1:
            _few_pixels(x, w, g, out, epilogue)
            return
    cuts = blocks(N, OH, OW, max(128, min(1600, 300_000 // K)), get_num_threads())
    w.planar(g) if body is _planar else w.matrix()  # made here, not by two threads at once
    run(lambda *block: body(x, w, g, out, epilogue, *block), cuts)


def _winograd_size(N: int, OH: int, OW: int, C: int, O: int, w: Prepared) -> int:
    """The output tile, 4 or 2, of the Winograd convolution expected to be faster than im2col; 0 if none is.

    Times in ns on one core, from measured rates: 150 flops/ns in products, numbers transformed, weights read."""
    best, size = N * OH * OW * 9 * C * (2 * O / 150 + 0.12) + 9 * C * O * 0.3, 0
    for m in (4, 2) if C * O <= 1 << 17 else (2,):  # the transformed weight of F(4x4) is four times the weight
        t, tiles = m + 2, N * -(-OH // m) * -(-OW // m)
        cost = tiles * (t * t * C * (2 * O / 130 + 0.3) + t * (t + m) * O * 0.12) + t * t * C * O * 0.8 + 20_000
        if not w.keep:
            cost += t * t * C * O * 0.6
        if cost < best:
            best, size = cost, m
    return size


def _im2col(
    x: np.ndarray, w: Prepared, g: Geometry, out: np.ndarray, epilogue: Epilogue, n0: int, n1: int, y0: int, y1: int
) -> None:
    """One block: rows y0..y1 of images n0..n1."""
    OW, O = out.shape[2:]
    G, block = w.groups, out[n0:n1, y0:y1]
    rows = patch_rows(x, g, n0, n1, y0, y1, OW, G)
    direct = block.flags.c_contiguous
    target = block if direct else scratch("im2col_out", block.shape, out.dtype)
    gemm(rows, w.matrix(), target.reshape(-1, G, O // G).transpose(1, 0, 2))
    if not direct:
        np.copyto(block, target)
    epilogue(block, n0, n1, y0, y1)


def _few_pixels(x: np.ndarray, w: Prepared, g: Geometry, out: np.ndarray, epilogue: Epilogue) -> None:
    """One matrix product for all pixels; threads share its columns, the output channels."""
    N, OH, OW, O = out.shape
    rows = patch_rows(x, g, 0, N, 0, OH, OW, 1)[0]
    matrix = w.matrix()[0]

    def columns(o0: int, o1: int) -> None:
        block = out[..., o0:o1]
        if out.flags.c_contiguous:
            gemm(rows, matrix[:, o0:o1], out.reshape(-1, O)[:, o0:o1])
        else:
            np.copyto(block, np.matmul(rows, matrix[:, o0:o1]).reshape(block.shape))
        whole = o0 == 0 and o1 == O
        epilogue(block, 0, N, 0, OH, o0, None if whole else o1)

    work = rows.size * O
    run(columns, parts(O, 1 if work < 1 << 18 else get_num_threads()))


def _column_order(g: Geometry) -> list[list[int]]:
    """The kernel columns of ``_planar``, in groups whose pixels lie in the same column phase, evenly spaced."""
    step = g.sw // gcd(g.sw, g.dw)
    return [list(range(j, g.kw, step)) for j in range(min(step, g.kw))]


def _planar(
    x: np.ndarray, w: Prepared, g: Geometry, out: np.ndarray, epilogue: Epilogue, n0: int, n1: int, y0: int, y1: int
) -> None:
    """One block for few channels: a kernel tap of one channel is a run of OW pixels, of an image split by column
    phase so that strided pixels become neighbours. The patches matrix comes out transposed, which BLAS takes."""
    OW, O = out.shape[2:]
    C, m, r = x.shape[3], n1 - n0, y1 - y0
    height, width = (r - 1) * g.sh + (g.kh - 1) * g.dh + 1, OW + (g.kw - 1) * g.dw // g.sw

    def make() -> Any:
        planes = scratch("planes", (C, g.sw, m, height, width), x.dtype)
        cols = scratch("planar_rows", (g.kw * C * g.kh, m * r * OW), x.dtype)
        sc, _, sn, sh, sx = planes.strides
        copies, first = [], 0
        for columns in _column_order(g):
            count, (shift, phase) = len(columns), divmod(columns[0] * g.dw, g.sw)
            step = columns[1] - columns[0] if count > 1 else 0
            shape = (count, C, g.kh, m, r, OW)
            strides = (sx * (step * g.dw // g.sw), sc, sh * g.dh, sn, sh * g.sh, sx)
            part = cols[first * C * g.kh : (first + count) * C * g.kh]
            copies.append((part.reshape(shape), as_strided(planes[:, phase, :, :, shift:], shape, strides)))
            first += count
        return planes, cols.T, copies

    planes, rows, copies = views(("planar", g, C, m, r, OW, x.dtype), make)
    r0 = y0 * g.sh - g.top
    p = window(x, n0, n1, r0, r0 + height, -g.left, width * g.sw - g.left, planar=True).transpose(3, 0, 1, 2)
    np.copyto(planes, p.reshape(C, m, height, width, g.sw).transpose(0, 4, 1, 2, 3))
    for to, source in copies:
        np.copyto(to, source)
    block = out[n0:n1, y0:y1]
    direct = block.flags.c_contiguous
    target = block if direct else scratch("im2col_out", block.shape, out.dtype)
    gemm(rows, w.planar(g), target.reshape(-1, O))
    if not direct:
        np.copyto(block, target)
    epilogue(block, n0, n1, y0, y1)


def _depthwise(x: np.ndarray, w: Prepared, g: Geometry, out: np.ndarray, epilogue: Epilogue) -> None:
    """One input channel a group: einsum accumulates the products of a tap with runs of channels, or of whole rows."""
    N, OH, OW, O = out.shape
    C = x.shape[3]
    wide = g.sw == 1 and C < 256
    taps = w.depthwise(OW if wide else 1)

    def body(n0: int, n1: int, y0: int, y1: int) -> None:
        view = patches(x, g, n0, n1, y0, y1, OW)  # (images, rows, OW, kh, kw, C)
        sn, sy, sx, si, sj, sc = view.strides
        flat = wide and sx == C * sc
        block = out[n0:n1, y0:y1]
        direct = len(taps) == 1 and block.flags.c_contiguous
        target = block if direct else scratch("depthwise", (*view.shape[:3], C), out.dtype)
        for k in range(len(taps)):
            if flat:
                runs = as_strided(view, (*view.shape[:2], g.kh, g.kw, OW * C), (sn, sy, si, sj, sc))
                np.einsum("nyijc,ijc->nyc", runs, taps[k], out=target.reshape(*view.shape[:2], OW * C))
            else:
                np.einsum("nyxijc,ijc->nyxc", view, taps[k, :, :, :C], out=target)
            if not direct:
                np.copyto(block[..., k :: len(taps)], target)
        epilogue(block, n0, n1, y0, y1)

    run(body, blocks(N, OH, OW, max(16, 200_000 // C), get_num_threads()))
