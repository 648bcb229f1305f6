"""Gradients of the 2-D convolution with respect to its input (dgrad), weight (wgrad) and bias.

dgrad needs no scattered additions. Input pixels of one residue modulo the stride meet one subset of the kernel's taps,
and on them the gradient is a plain convolution of ``dy``, of stride 1, with that subset turned by 180 degrees: stride
(s, s') makes s * s' small convolutions, each of them on the paths of ``conv``.

wgrad is a product of the patches matrix and ``dy``, in blocks of images that stay in cache. Sums are taken in a fixed
order: the same inputs and number of threads give the same bits.
"""

from __future__ import annotations

from math import gcd

import numpy as np

from tritium.kernels.reference.conv import Pads, Pair, Prepared, compute_dtype, forward
from tritium.kernels.reference.parallel import blocks, empty, get_num_threads, one_blas_thread, parts, run, scratch
from tritium.kernels.reference.patches import Epilogue, Geometry, patch_rows, patches
from tritium.kernels.reference.quiet import quiet


def _taps(residue: int, before: int, kernel: int, stride: int, dilation: int) -> tuple[slice, int, int, int] | None:
    """Along one dimension: the taps that input positions q * stride + residue meet, and where they read ``dy``.

    Returns (taps turned round, how many, first position of dy at q = 0, distance in dy), or None if there are none."""
    step = stride // gcd(stride, dilation)
    first = next((k for k in range(min(step, kernel)) if (k * dilation - residue - before) % stride == 0), None)
    if first is None:
        return None
    count = (kernel - 1 - first) // step + 1
    last = first + (count - 1) * step
    stop = first - step
    turned = slice(last, stop if stop >= 0 else None, -step)
    return turned, count, (residue + before - last * dilation) // stride, step * dilation // stride


@quiet
def conv2d_input(
    dy: np.ndarray,
    weight: np.ndarray,
    size: Pair,
    stride: Pair = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> np.ndarray:
    """dy (N, O, OH, OW), weight (O, C / groups, kh, kw) -> dx (N, C, H, W) in NHWC storage; ``size`` is (H, W)."""
    dtype = compute_dtype(dy.dtype)
    d = dy.astype(dtype, copy=False).transpose(0, 2, 3, 1)
    N, (H, W), (O, Cg, kh, kw) = dy.shape[0], size, weight.shape
    w = np.array(weight.transpose(0, 2, 3, 1), dtype, order="C").reshape(groups, O // groups, kh, kw, Cg)
    dx = empty((N, H, W, groups * Cg), dtype)
    for a in range(min(stride[0], H)):
        vertical = _taps(a, padding[0], kh, stride[0], dilation[0])
        for b in range(min(stride[1], W)):
            horizontal = _taps(b, padding[2], kw, stride[1], dilation[1])
            part = dx[:, a :: stride[0], b :: stride[1]]
            if vertical is None or horizontal is None:
                part[...] = 0
                continue
            (rows, h, top, dh), (columns, v, left, dw) = vertical, horizontal
            turned = np.ascontiguousarray(w[:, :, rows, columns].transpose(0, 2, 3, 1, 4))
            geometry = Geometry(h, v, 1, 1, -top, -left, dh, dw)
            forward(d, Prepared.of_taps(turned), geometry, part, Epilogue())
    return dx.astype(dy.dtype, copy=False).transpose(0, 3, 1, 2)


@quiet
def conv2d_weight(
    x: np.ndarray,
    dy: np.ndarray,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    last: bool = False,
) -> np.ndarray:
    """x (N, C, H, W), dy (N, O, OH, OW) -> dw (O, C / groups, kh, kw); ``kernel`` is (kh, kw). dw is contiguous; with
    ``last`` its channels come last."""
    dtype = compute_dtype(x.dtype)
    N, O, OH, OW = dy.shape
    C, (kh, kw) = x.shape[1], kernel
    g = Geometry(kh, kw, *stride, padding[0], padding[2], *dilation)
    if dy.size == 0 or x.size == 0:
        return np.zeros((O, kh, kw, C // groups), x.dtype).transpose(0, 3, 1, 2).copy("K" if last else "C")
    x_last = x.astype(dtype, copy=False).transpose(0, 2, 3, 1)
    d = np.ascontiguousarray(dy.transpose(0, 2, 3, 1), dtype)
    if groups == C and groups > 1 and dtype.kind == "f":
        dw = _depthwise(x_last, d, g)
    else:
        dw = _products(x_last, d, g, groups)
    if last:
        return np.ascontiguousarray(dw, x.dtype).transpose(0, 3, 1, 2)
    return np.array(dw.transpose(0, 3, 1, 2), x.dtype, order="C")


def _products(x: np.ndarray, d: np.ndarray, g: Geometry, G: int) -> np.ndarray:
    """(O, kh, kw, C / groups) by matrix products."""
    N, OH, OW, O = d.shape
    K, threads = g.kh * g.kw * x.shape[3] // G, get_num_threads()
    shape = (O, g.kh, g.kw, x.shape[3] // G)
    pixels = N * OH * OW
    if G == 1 and pixels * K <= 1 << 22 and pixels < 4096:
        # One product, its columns shared by the threads: no partial sums, which would outweigh so few pixels.
        rows = scratch("wgrad_rows", (1, pixels, K), x.dtype)
        dw, dt = empty((O, K), x.dtype), d.reshape(pixels, O).T

        def build(n0: int, n1: int) -> None:
            patch_rows(x, g, n0, n1, 0, OH, OW, 1, rows[:, n0 * OH * OW : n1 * OH * OW])

        run(build, parts(N, threads if rows.size > 1 << 16 else 1))
        columns = parts(K, threads if rows.size * O > 1 << 20 else 1)
        run(lambda a, b: np.matmul(dt, rows[0, :, a:b], out=dw[:, a:b]), columns)
        return dw.reshape(shape)
    cuts = blocks(N, OH, OW, min(2048, max(256, 600_000 // K)), threads)
    shares = parts(len(cuts), threads)
    sums = empty((len(shares), G, O // G, K), x.dtype)

    def share(index: int, first: int, last: int) -> None:
        for i in range(first, last):
            n0, n1, y0, y1 = cuts[i]
            rows = patch_rows(x, g, n0, n1, y0, y1, OW, G)
            dt = d[n0:n1, y0:y1].reshape(-1, G, O // G).transpose(1, 2, 0)
            if i == first:
                np.matmul(dt, rows, out=sums[index])
            else:
                product = scratch("wgrad_product", (G, O // G, K), x.dtype)
                np.matmul(dt, rows, out=product)
                np.add(sums[index], product, out=sums[index])

    run(share, [(i, a, b) for i, (a, b) in enumerate(shares)])
    for other in sums[1:]:
        np.add(sums[0], other, out=sums[0])
    return sums[0].reshape(shape)


def _depthwise(x: np.ndarray, d: np.ndarray, g: Geometry) -> np.ndarray:
    """(O, kh, kw, 1) for one input channel a group: sums over a block in its own dtype, over blocks in float64."""
    N, OH, OW, O = d.shape
    C = x.shape[3]
    cuts = blocks(N, OH, OW, max(16, 100_000 // C), get_num_threads())
    sums = np.zeros((len(cuts), O // C, g.kh, g.kw, C), x.dtype)

    def body(index: int, n0: int, n1: int, y0: int, y1: int) -> None:
        view = patches(x, g, n0, n1, y0, y1, OW)
        for k in range(O // C):
            dk = d[n0:n1, y0:y1, :, k :: O // C]
            for i in range(g.kh):
                for j in range(g.kw):
                    np.einsum("nyxc,nyxc->c", view[:, :, :, i, j], dk, out=sums[index, k, i, j])

    run(body, [(i, *block) for i, block in enumerate(cuts)])
    total = sums.sum(0, dtype=np.float64)  # (O / C, kh, kw, C)
    return total.transpose(3, 0, 1, 2).reshape(O, g.kh, g.kw, 1)


@quiet
def bias_gradient(dy: np.ndarray) -> np.ndarray:
    """dy (N, O, *) -> (O,): its sum over images and pixels."""
    dtype, pixels = compute_dtype(dy.dtype), tuple(range(2, dy.ndim))
    if dtype.kind not in "f":
        return dy.sum((0, *pixels), dtype=dy.dtype)
    d = dy.astype(dtype, copy=False).transpose(0, *pixels, 1)
    if not d.flags.c_contiguous:
        return dy.sum(pixels, dtype=dtype).sum(0, dtype=np.float64).astype(dy.dtype)
    rows = d.reshape(-1, d.shape[-1])
    ones = np.ones(min(len(rows), 4096), dtype)
    sums = np.zeros(d.shape[-1])
    with one_blas_thread():
        for i in range(0, len(rows), 4096):
            piece = rows[i : i + 4096]
            sums += ones[: len(piece)] @ piece
    return sums.astype(dy.dtype)
