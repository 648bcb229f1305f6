"""Products of matrices and vectors.

NumPy hands float32, float64 and complex to its BLAS, which we hold to one thread and share out over our own: threads of
OpenBLAS spin for 0.1 s after each product and take the cores from everything else. Integers go through a plain loop
there, so they are multiplied as float64 when every partial sum is exact in it. The 16-bit types are multiplied in
float32 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.parallel import empty, get_num_threads, one_blas_thread, parts, run
from tritium.kernels.reference.pointwise import LOW, f32
from tritium.kernels.reference.quiet import quiet

f64 = np.dtype(np.float64)


SMALL = 1 << 17  # multiplications below which no BLAS starts threads
LARGE = 1 << 22  # multiplications from which handing half to another thread pays


def _product(a: Any, b: Any) -> Any:
    """``numpy.matmul`` for dtypes that BLAS knows."""
    work = a.size * (b.shape[-1] if b.ndim > 1 else 1)
    if work < SMALL and b.size < 8192:
        return np.asarray(np.matmul(a, b))
    if work < LARGE or a.ndim < 2 or b.ndim < 2 or get_num_threads() == 1:
        with one_blas_thread():
            return np.asarray(np.matmul(a, b))
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns, threads = a.shape[-2], b.shape[-1], get_num_threads()
    out = empty((*batch, rows, columns), a.dtype)
    if batch and batch[0] >= threads:
        a, b = np.broadcast_to(a, batch + a.shape[-2:]), np.broadcast_to(b, batch + b.shape[-2:])
        run(lambda i, j: np.matmul(a[i:j], b[i:j], out=out[i:j]), parts(batch[0], threads))
    elif rows >= columns:
        run(lambda i, j: np.matmul(a[..., i:j, :], b, out=out[..., i:j, :]), parts(rows, threads))
    else:
        run(lambda i, j: np.matmul(a, b[..., i:j], out=out[..., i:j]), parts(columns, threads))
    return out


@quiet
def matmul(a: Any, b: Any) -> Any:
    """NumPy's matmul rules (vectors, matrices, broadcast batches), one dtype."""
    if a.dtype is f32 or a.dtype is f64:
        a, b = _blas(a), _blas(b)
        small = a.size < 8192 and b.size < 8192 and a.size * b.shape[-1] < SMALL
        r = np.matmul(a, b) if small else _product(a, b)
        return r if type(r) is np.ndarray else np.asarray(r)
    if a.dtype in LOW:
        return _product(a.astype(f32), b.astype(f32)).astype(a.dtype)
    if a.dtype.kind in "iu":
        return _integer(a, b)
    if a.dtype.kind == "b":
        return np.asarray(np.matmul(a, b))
    return _product(_blas(a), _blas(b))


def _blas(a: Any) -> Any:
    """BLAS takes a matrix with one unit stride; NumPy falls to a slow loop for others (stride 0, gaps in both)."""
    if a.ndim < 2 or a.size == 0:
        return a
    s, item = a.strides, a.itemsize
    if (s[-1] == item and s[-2] >= item * a.shape[-1]) or (s[-2] == item and s[-1] >= item * a.shape[-2]):
        return a
    return np.ascontiguousarray(a)


def _integer(a: Any, b: Any) -> Any:
    if a.size and b.size and a.size + b.size > 256:
        k = a.shape[-1]
        high = max(abs(int(a.max())), abs(int(a.min()))) * max(abs(int(b.max())), abs(int(b.min()))) * k
        if high < 1 << 53:
            # through int64, so that narrow types wrap around as their own loop would
            return _product(a.astype(f64), b.astype(f64)).astype(np.int64).astype(a.dtype)
    return np.asarray(np.matmul(a, b))


@quiet
def addmm(c: Any, a: Any, b: Any, beta: Any, alpha: Any) -> Any:
    """``beta * c + alpha * (a @ b)``; with beta 0 what is in ``c`` does not count."""
    dt = a.dtype
    if dt in LOW:
        a, b, c = a.astype(f32), b.astype(f32), c.astype(f32)
    out = matmul(a, b)
    if alpha != 1:
        out = out * out.dtype.type(alpha)
    if beta != 0:
        if beta != 1:
            c = c * c.dtype.type(beta)
        if np.broadcast_shapes(c.shape, out.shape) == out.shape and out.flags.writeable and out.ndim:
            np.add(out, c, out=out)
        else:
            out = np.asarray(out + c)
    return out if out.dtype == dt else out.astype(dt)


@quiet
def dot(a: Any, b: Any) -> Any:
    """The product of two vectors."""
    return matmul(a, b)
