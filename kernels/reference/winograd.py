"""3x3 convolution of stride 1 by the minimal filtering of Winograd, F(m x m, 3 x 3), on channels-last images.

    Y = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ d B) ] A

An output tile of m x m pixels comes from an input tile d of t x t, t = m + 2, with t² instead of 9 m² multiplications a
channel pair. Summing over channels turns the element-wise product into t² matrix products. After A. Lavin and S. Gray,
"Fast Algorithms for Convolutional Neural Networks" (2015), arXiv:1509.09308.

The transforms are small matrix products too, batched over tiles: BLAS kernels for small matrices do them faster than
chains of element-wise operations, and in one call.

F(4x4) with the usual points 0, ±1, ±2 loses a digit. The points 0, ±5/8, ±3/2 keep the error at 2 to 3 times that of
direct float32 convolution; all entries of Bᵀ and Aᵀ are exact in binary.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tritium.kernels.reference.gemm import gemm
from tritium.kernels.reference.parallel import blocks, get_num_threads, parts, run, scratch, views
from tritium.kernels.reference.patches import Epilogue, finite, window

TILES = 200  # tiles that a task works on at a time
LARGE = 8 << 20  # bytes of a weight that threads should not each read from memory
POINTS: dict[int, tuple[float, ...]] = {2: (0, 1, -1), 4: (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)}


class Matrices(NamedTuple):
    """Bᵀ (t, t), Aᵀ (m, t), and the two-dimensional G (t², 9), whose rows are ordered (column, row); float32."""

    BT: np.ndarray
    AT: np.ndarray
    GG: np.ndarray


def toom_cook(points: tuple[float, ...], m: int, r: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bᵀ, G, Aᵀ of F(m, r) in float64, for m + r - 2 distinct interpolation points and infinity.

    The product of polynomials is evaluated at the points and interpolated; filtering is its transpose."""
    n = m + r - 1
    a = np.array(points, np.float64)
    AT, G, BT = np.zeros((m, n)), np.zeros((n, r)), np.zeros((n, n))
    AT[:, :-1] = a ** np.arange(m)[:, None]
    AT[-1, -1] = G[-1, -1] = 1
    for i in range(n - 1):
        others = np.delete(a, i)
        G[i] = a[i] ** np.arange(r) / np.prod(a[i] - others)
        BT[i, :-1] = np.poly(others)[::-1]
    BT[-1] = np.poly(a)[::-1]
    return BT, G, AT


@functools.cache
def matrices(m: int) -> Matrices:
    """The transforms of F(m x m, 3 x 3)."""
    BT, G, AT = toom_cook(POINTS[m], m)
    GG = np.einsum("bj,ai->baij", G, G).reshape(len(G) ** 2, 9)
    return Matrices(*(np.ascontiguousarray(a, np.float32) for a in (BT, AT, GG)))


def transform_weight(taps: np.ndarray, m: int) -> np.ndarray:
    """(9, X) float32, X any order of the channel pairs, to (t², X)."""
    GG, X = matrices(m).GG, taps.shape[1]
    out = np.empty((GG.shape[0], X), np.float32)
    cuts = parts(X, 1 if X < 1 << 14 else 4 * get_num_threads())
    run(lambda a, b: np.matmul(GG, taps[:, a:b], out=out[:, a:b]), cuts)
    return out


class _Work(NamedTuple):
    """The workspaces of one block of tiles: k images of q rows of tw tiles, seen as the products need them."""

    columns: np.ndarray  # of the padded input, (k, height, tw, t, C)
    R: np.ndarray  # its transform over columns, (k, height, tw, t, C)
    rows: np.ndarray  # (t columns, k, q, t rows, tw * C)
    V: np.ndarray  # the transform over rows, the same
    M: np.ndarray  # the products, (t, k, q, t, tw * O)
    Z: np.ndarray  # their transform over rows, (t, k, q, m, tw * O)
    tiles: np.ndarray  # (k, q, m, tw, t, O)


def _work(m: int, k: int, q: int, tw: int, C: int, O: int, V: np.ndarray, M: np.ndarray) -> _Work:
    """V and M are (t columns, t rows, k, q, tw, channels)."""
    t, height = m + 2, m * q + 2
    R = scratch("winograd_rows", (k, height, t, tw, C))
    sn, sh, st, _, sc = R.strides
    rows = as_strided(R, (t, k, q, t, tw * C), (st, sn, m * sh, sh, sc))
    Z = scratch("winograd_columns", (k, q, m, t, tw, O))
    return _Work(
        _columns(scratch("window", (k, height, m * tw + 2, C)), m, tw),
        R.transpose(0, 1, 3, 2, 4),
        rows,
        V.reshape(t, t, k, q, tw * C).transpose(0, 2, 3, 1, 4),
        M.reshape(t, t, k, q, tw * O).transpose(0, 2, 3, 1, 4),
        Z.reshape(k, q, m, t, tw * O).transpose(3, 0, 1, 2, 4),
        Z.transpose(0, 1, 2, 4, 3, 5),
    )


def _columns(p: np.ndarray, m: int, tw: int) -> np.ndarray:
    """Overlapping tiles along the rows of p (k, height, width, C)."""
    k, height, _, C = p.shape
    sn, sh, sw, sc = p.strides
    return as_strided(p, (k, height, tw, m + 2, C), (sn, sh, m * sw, sw, sc))


def _transform_input(
    x: np.ndarray, m: int, top: int, left: int, n0: int, n1: int, y0: int, y1: int, tw: int, work: _Work
) -> None:
    """``work.V`` from the tiles of images n0..n1, tile rows y0..y1."""
    BT, r0 = matrices(m).BT, m * y0 - top
    p = window(x, n0, n1, r0, r0 + m * (y1 - y0) + 2, -left, m * tw + 2 - left)
    copied = np.may_share_memory(p, work.columns)  # else p is part of x, or of a workspace too large to keep
    np.matmul(BT, work.columns if copied else _columns(p, m, tw), out=work.R)
    np.matmul(BT, work.rows, out=work.V)


def _transform_output(m: int, out: np.ndarray, n0: int, n1: int, y0: int, y1: int, work: _Work) -> None:
    """Output pixels of images n0..n1, tile rows y0..y1 from ``work.M``."""
    AT, (k, q, _, tw, _, O) = matrices(m).AT, work.tiles.shape
    OH, OW = out.shape[1:3]
    np.matmul(AT, work.M, out=work.Z)
    height = min(OH, y1 * m) - y0 * m
    block = out[n0:n1, y0 * m : y0 * m + height]
    whole = height == q * m and tw * m == OW and block[0].flags.c_contiguous
    Y = block if whole else scratch("winograd_tiles", (k, q * m, tw * m, O))
    np.matmul(AT, work.tiles, out=Y.reshape(k, q, m, tw, m, O))
    if not whole:
        np.copyto(block, Y[:, :height, :OW])


def conv3x3(
    x: np.ndarray, U: np.ndarray, m: int, out: np.ndarray, top: int, left: int, epilogue: Epilogue, again: Any
) -> None:
    """Stride 1, dilation 1: x (N, H, W, C), transformed weight U (t², C, O), out (N, OH, OW, O), all float32.

    An infinity or NaN would spread over its whole tile: a block that is not finite is computed again by
    ``again(n0, n1, y0, y1)``, rows y0..y1 of images n0..n1, which also applies the epilogue."""
    N, OH, OW, O = out.shape
    C = x.shape[3]
    t, th, tw = m + 2, -(-OH // m), -(-OW // m)

    def finish(n0: int, n1: int, y0: int, y1: int, work: _Work) -> None:
        _transform_output(m, out, n0, n1, y0, y1, work)
        a, b = y0 * m, min(OH, y1 * m)
        block = out[n0:n1, a:b]
        if finite(block):
            epilogue(block, n0, n1, a, b)
        else:
            again(n0, n1, a, b)

    def chunk(n0: int, n1: int, y0: int, y1: int) -> None:
        k, q = n1 - n0, y1 - y0

        def make() -> Any:
            V, M = scratch("winograd_V", (t, t, k, q, tw, C)), scratch("winograd_M", (t, t, k, q, tw, O))
            return _work(m, k, q, tw, C, O, V, M), V.reshape(t * t, -1, C), M.reshape(t * t, -1, O)

        work, v, z = views(("winograd", m, k, q, tw, C, O), make)
        _transform_input(x, m, top, left, n0, n1, y0, y1, tw, work)
        gemm(v, U, z)
        finish(n0, n1, y0, y1, work)

    threads, tiles = get_num_threads(), N * th * tw
    if threads == 1 or U.nbytes < LARGE or tiles > 128 * threads:
        run(chunk, blocks(N, th, tw, TILES, threads))
        return
    # Few tiles and a large weight: a thread takes some of the t² products, so that one or the other reads U, not both.
    V, M = scratch("winograd_all_V", (t, t, N, th, tw, C)), scratch("winograd_all_M", (t, t, N, th, tw, O))

    def works(n0: int, n1: int, y0: int, y1: int) -> _Work:
        return _work(m, n1 - n0, y1 - y0, tw, C, O, V[:, :, n0:n1, y0:y1], M[:, :, n0:n1, y0:y1])

    cuts = blocks(N, th, tw, max(16, -(-tiles // threads)), threads) if tiles * C > 1 << 12 else [(0, N, 0, th)]
    def before(n0: int, n1: int, y0: int, y1: int) -> None:
        _transform_input(x, m, top, left, n0, n1, y0, y1, tw, works(n0, n1, y0, y1))

    def after(n0: int, n1: int, y0: int, y1: int) -> None:
        finish(n0, n1, y0, y1, works(n0, n1, y0, y1))

    run(before, cuts)
    v, z = V.reshape(t * t, -1, C), M.reshape(t * t, -1, O)
    points = parts(t * t, 1 if tiles * C * O < 1 << 15 else 2 * threads)
    run(lambda a, b: gemm(v[a:b], U[a:b], z[a:b]), points)
    run(after, cuts)
