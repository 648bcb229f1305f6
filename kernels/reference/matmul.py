"""Products of matrices and vectors.

NumPy hands float32, float64 and complex to its BLAS; integers go through a plain loop there, so they are multiplied as
float64 when every partial sum is exact in it. The 16-bit types are multiplied in float32 and rounded once.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels.reference.pointwise import LOW, f32
from tritium.kernels.reference.quiet import quiet

f64 = np.dtype(np.float64)


@quiet
def matmul(a: Any, b: Any) -> Any:
    """NumPy's matmul rules (vectors, matrices, broadcast batches), one dtype."""
    if a.dtype in LOW:
        return np.asarray(np.matmul(a.astype(f32), b.astype(f32))).astype(a.dtype)
    if a.dtype.kind in "iu":
        return _integer(a, b)
    if a.dtype.kind == "b":
        return np.asarray(np.matmul(a, b))
    return np.asarray(np.matmul(_blas(a), _blas(b)))


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
            return np.asarray(np.matmul(a.astype(f64), b.astype(f64))).astype(np.int64).astype(a.dtype)
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


def einsum(equation: str, *arrays: Any) -> Any:
    """NumPy's einsum, with the cheapest order of pairs."""
    dt = arrays[0].dtype
    if dt in LOW:
        return np.asarray(np.einsum(equation, *[a.astype(f32) for a in arrays], optimize=True)).astype(dt)
    return np.asarray(np.einsum(equation, *arrays, optimize=True))
