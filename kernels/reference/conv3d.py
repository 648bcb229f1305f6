"""3-D convolution of NumPy arrays and its gradients, channels-last inside.

    y[n, o, r, p, q] = b[o] + sum over c, l, i, j of
                       x[n, c, r s - P + l d, p s - P + i d, q s - P + j d] w[o, c, l, i, j]

As in two dimensions (``conv``, ``conv_grad``): im2col in blocks that stay in cache, and matrix products; the gradient
with respect to the input is, for each residue modulo the strides, a convolution of stride 1 with some of the taps.
Inputs have NCDHW shape and any strides; results have NDHWC storage. The input is copied once where taps lie outside it
or its channels are not neighbours. One channel a group: sums of products tap by tap. float16 and bfloat16 are computed
in float32 and rounded once. Sums are taken in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tritium.kernels.reference.conv import Prepared, compute_dtype
from tritium.kernels.reference.conv_grad import _taps
from tritium.kernels.reference.gemm import gemm
from tritium.kernels.reference.parallel import blocks, empty, get_num_threads, parts, run, scratch
from tritium.kernels.reference.patches import Epilogue, Window, output_size
from tritium.kernels.reference.quiet import quiet

Triple = tuple[int, int, int]
Pads = tuple[int, int, int, int, int, int]  # front, back, top, bottom, left, right
Block = tuple[int, int, int, int]  # planes (of all images, in order) and rows


@quiet
def conv3d(
    x: np.ndarray,
    weight: np.ndarray | Prepared,
    bias: np.ndarray | None = None,
    stride: Triple = (1, 1, 1),
    padding: Pads = (0, 0, 0, 0, 0, 0),
    dilation: Triple = (1, 1, 1),
    groups: int = 1,
    *,
    residual: np.ndarray | None = None,
    activation: str | None = None,
) -> np.ndarray:
    """x (N, C, D, H, W), weight (O, C / groups, kd, kh, kw), bias (O,) -> (N, O, OD, OH, OW) in NDHWC storage.

    ``padding`` is (front, back, top, bottom, left, right). ``residual``, of the output's shape, is added;
    ``activation`` is None, "relu" or "relu6". ``weight`` may be ``Prepared``, whose groups then count. Dtypes are
    equal."""
    w = weight if isinstance(weight, Prepared) else Prepared(weight, groups)
    dtype = compute_dtype(x.dtype)
    sizes = map(output_size, x.shape[2:], w.kernel, stride, padding[::2], padding[1::2], dilation)
    out = empty((len(x), *sizes, w.shape[0]), dtype)
    window = Window(w.kernel, tuple(stride), padding[::2], tuple(dilation))
    bias = bias if bias is None else bias.astype(dtype, copy=False)
    more = [None] * len(x) if residual is None else _last(residual, dtype)
    ends = [Epilogue(bias, r, activation, out.shape[3]) for r in more]
    forward(_last(x, dtype), w, window, out, ends)
    return _back(out, x.dtype)


@quiet
def conv3d_input(
    dy: np.ndarray,
    weight: np.ndarray,
    size: Triple,
    stride: Triple = (1, 1, 1),
    padding: Pads = (0, 0, 0, 0, 0, 0),
    dilation: Triple = (1, 1, 1),
    groups: int = 1,
) -> np.ndarray:
    """dy (N, O, OD, OH, OW), weight (O, C / groups, kd, kh, kw) -> dx (N, C, *size) in NDHWC storage."""
    dtype = compute_dtype(dy.dtype)
    d = _last(dy, dtype)
    O, C, *kernel = weight.shape
    w = _last(weight, dtype).reshape(groups, O // groups, *kernel, C)
    dx = empty((len(dy), *size, groups * C), dtype)
    plain = [Epilogue()] * len(dy)
    phases = [
        [(a, _taps(a, b, k, s, e)) for a in range(min(s, n))]
        for n, k, s, b, e in zip(size, kernel, stride, padding[::2], dilation, strict=True)
    ]
    for phase in product(*phases):
        part = dx[(slice(None), *[slice(a, None, s) for (a, _), s in zip(phase, stride, strict=True)])]
        met = [m for _, m in phase if m is not None]
        if len(met) < 3:
            part[...] = 0
            continue
        turned, count, first, step = zip(*met, strict=True)
        taps = np.ascontiguousarray(w[(slice(None), slice(None), *turned)].transpose(0, 2, 3, 4, 1, 5))
        forward(d, Prepared.of_taps(taps), Window(count, (1, 1, 1), tuple([-f for f in first]), step), part, plain)
    return _back(dx, dy.dtype)


@quiet
def conv3d_weight(
    x: np.ndarray,
    dy: np.ndarray,
    kernel: Triple,
    stride: Triple = (1, 1, 1),
    padding: Pads = (0, 0, 0, 0, 0, 0),
    dilation: Triple = (1, 1, 1),
    groups: int = 1,
    last: bool = False,
) -> np.ndarray:
    """x (N, C, D, H, W), dy (N, O, OD, OH, OW) -> dw (O, C / groups, *kernel), contiguous or with the channels
    ``last``."""
    dtype = compute_dtype(x.dtype)
    O, C = dy.shape[1], x.shape[1]
    if dy.size == 0 or x.size == 0:
        dw = np.zeros((O, *kernel, C // groups), x.dtype)
        return _back(dw, x.dtype).copy("K" if last else "C")
    d = np.ascontiguousarray(_last(dy, dtype))
    view = _patches(_last(x, dtype), Window(tuple(kernel), tuple(stride), padding[::2], tuple(dilation)), d.shape[1:4])
    make = _depthwise_weight if groups == C and groups > 1 and dtype.kind == "f" else _products
    dw = make(view, d, groups)
    if last:
        return np.ascontiguousarray(dw, x.dtype).transpose(0, 4, 1, 2, 3)
    return np.array(dw.transpose(0, 4, 1, 2, 3), x.dtype, order="C")


def _last(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(N, C, D, H, W) as (N, D, H, W, C) in the dtype to compute in."""
    return x.astype(dtype, copy=False).transpose(0, 2, 3, 4, 1)


def _back(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return y.astype(dtype, copy=False).transpose(0, 4, 1, 2, 3)


def _patches(x: np.ndarray, g: Window, out: tuple[int, ...]) -> np.ndarray:
    """View (N, OD, OH, OW, kd, kh, kw, C) of what each output pixel reads of x (N, D, H, W, C), or of a copy that has
    zeros where x ends and adjacent channels."""
    ends = g.ends(out)
    first = [-b for b in g.before]
    inside = all([f >= 0 and e <= n for f, e, n in zip(first, ends, x.shape[1:4], strict=True)])
    if inside and (x.shape[4] == 1 or x.strides[4] == x.itemsize):
        p = x[(slice(None), *map(slice, first, ends))]
    else:
        p = empty((len(x), *[e - f for f, e in zip(first, ends, strict=True)], x.shape[4]), x.dtype)
        if not inside:
            p[...] = 0
        # where input pixels lie in the copy, and which they are
        to = [slice(max(-f, 0), max(min(n, e) - f, 0)) for f, e, n in zip(first, ends, x.shape[1:4], strict=True)]
        of = [slice(max(f, 0), max(e, 0)) for f, e in zip(first, ends, strict=True)]
        part = x[(slice(None), *of)]
        if part.size:
            p[(slice(None), *to)] = part
    n, *steps, c = p.strides
    strides = [s * t for s, t in zip(steps, g.stride, strict=True)]
    taps = [s * t for s, t in zip(steps, g.dilation, strict=True)]
    return as_strided(p, (len(x), *out, *g.kernel, x.shape[4]), (n, *strides, *taps, c))


def _runs(depth: int, block: Block) -> Iterator[tuple[int, int, int, int, slice]]:
    """A block of planes, image by image: (image, first plane, last plane, planes before it in the block, rows)."""
    p0, p1, y0, y1 = block
    at = p0
    while at < p1:
        n, z0 = divmod(at, depth)
        z1 = min(depth, z0 + p1 - at)
        yield n, z0, z1, at - p0, slice(y0, y1)
        at += z1 - z0


def _rows(view: np.ndarray, block: Block, groups: int) -> np.ndarray:
    """im2col: (groups, pixels, taps * C / groups) of a block of ``view``."""
    _, OD, _, OW, *kernel, C = view.shape
    p0, p1, y0, y1 = block
    shape = (groups, p1 - p0, y1 - y0, OW, *kernel, C // groups)
    rows = scratch("rows3d", shape, view.dtype)
    for n, z0, z1, at, y in _runs(OD, block):
        source = view[n, z0:z1, y].reshape(z1 - z0, y1 - y0, OW, *kernel, groups, C // groups)
        np.copyto(rows[:, at : at + z1 - z0], source.transpose(6, 0, 1, 2, 3, 4, 5, 7))
    return rows.reshape(groups, (p1 - p0) * (y1 - y0) * OW, -1)


def forward(x: np.ndarray, w: Prepared, g: Window, out: np.ndarray, ends: list[Epilogue]) -> None:
    """x (N, D, H, W, C) -> out (N, OD, OH, OW, O), both of any strides; ``ends``: what follows, for each image."""
    N, OD, OH, OW, O = out.shape
    C, G = x.shape[4], w.groups
    if out.size == 0:
        return
    if C == 0 or x.size == 0:
        out[...] = 0
        for image, end in zip(out, ends, strict=True):
            end(image, 0, OD, 0, OH)
        return
    view = _patches(x, g, out.shape[1:4])
    depthwise = G == C and G > 1 and x.dtype.kind == "f"
    taps = w.depthwise(1) if depthwise else w.matrix()  # made here, not by two threads at once

    def body(p0: int, p1: int, y0: int, y1: int) -> None:
        block = p0, p1, y0, y1
        target = scratch("out3d", (p1 - p0, y1 - y0, OW, O), out.dtype)
        if not depthwise:
            gemm(_rows(view, block, G), taps, target.reshape(-1, G, O // G).transpose(1, 0, 2))
        for n, z0, z1, at, y in _runs(OD, block):
            piece = target[at : at + z1 - z0]
            if depthwise:
                for k in range(O // C):
                    np.einsum("zyxlijc,lijc->zyxc", view[n, z0:z1, y], taps[k], out=piece[..., k :: O // C])
            np.copyto(out[n, z0:z1, y], piece)
            ends[n](out[n, z0:z1, y], z0, z1, y0, y1)

    K = g.taps * C // G
    size = max(16, 200_000 // C) if depthwise else max(128, min(1600, 300_000 // K))
    run(body, blocks(N * OD, OH, OW, size, get_num_threads()))


def _products(view: np.ndarray, d: np.ndarray, groups: int) -> np.ndarray:
    """(O, kd, kh, kw, C / groups): sums over blocks of pixels, each of a matrix product."""
    N, OD, OH, OW, O = d.shape
    *kernel, C = view.shape[4:]
    K, planes = np.prod(kernel, dtype=int) * C // groups, d.reshape(N * OD, OH, OW, O)
    threads = get_num_threads()
    cuts = blocks(N * OD, OH, OW, min(2048, max(256, 600_000 // K)), threads)
    shares = parts(len(cuts), threads)
    sums = empty((len(shares), groups, O // groups, int(K)), view.dtype)

    def share(index: int, first: int, last: int) -> None:
        for i in range(first, last):
            p0, p1, y0, y1 = cuts[i]
            dt = planes[p0:p1, y0:y1].reshape(-1, groups, O // groups).transpose(1, 2, 0)
            to = sums[index] if i == first else scratch("product3d", sums.shape[1:], view.dtype)
            np.matmul(dt, _rows(view, cuts[i], groups), out=to)
            if i > first:
                np.add(sums[index], to, out=sums[index])

    run(share, [(i, a, b) for i, (a, b) in enumerate(shares)])
    for other in sums[1:]:
        np.add(sums[0], other, out=sums[0])
    return sums[0].reshape(O, *kernel, C // groups)


def _depthwise_weight(view: np.ndarray, d: np.ndarray, groups: int) -> np.ndarray:
    """(O, kd, kh, kw, 1) for one input channel a group: sums over a block in its own dtype, over blocks in float64."""
    N, OD, OH, OW, O = d.shape
    *kernel, C = view.shape[4:]
    cuts = blocks(N * OD, OH, OW, max(16, 100_000 // C), get_num_threads())
    sums = np.zeros((len(cuts), O // C, *kernel, C), view.dtype)

    def body(index: int, block: Block) -> None:
        for n, z0, z1, _, y in _runs(OD, block):
            for k, tap in product(range(O // C), np.ndindex(*kernel)):
                source = view[n, z0:z1, y][(..., *tap, slice(None))]
                sums[(index, k, *tap)] += np.einsum("zyxc,zyxc->c", source, d[n, z0:z1, y, :, k :: O // C])

    run(body, list(enumerate(cuts)))
    total = sums.sum(0, dtype=np.float64)  # (O / C, kd, kh, kw, C)
    return total.transpose(4, 0, 1, 2, 3).reshape(O, *kernel, 1)
