"""Matrix products cut into small ones.

OpenBLAS multiplies small matrices, of at most 10^6 multiplications, straight from where they lie; larger ones it first
copies into its own order (packing). For the flat products of convolutions, many rows by a small weight, the copying
costs up to a third of the time: a batch of small products is faster than one large. That holds for the kernels it
has for AVX-512; elsewhere nothing is cut.
"""

from __future__ import annotations

import numpy as np

from tritium.kernels.reference.parallel import blas

SMALL = 1_000_000  # multiplications of a product that is not packed
MOST_ROWS, FEWEST_ROWS = 64, 24


def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """``out = a @ b`` for (..., M, K), (..., K, N), (..., M, N), on the calling thread; batches are not broadcast."""
    *batch, M, K = a.shape
    N = b.shape[-1]
    most = min(MOST_ROWS, SMALL // max(K * N, 1))
    if M * K * N > SMALL and most >= FEWEST_ROWS and b.strides[-1] == b.itemsize == 4 and blas().small_kernels:
        count = -(-M // most)
        rows = min(most, -(-M // count) + 3 & -4)
        whole = M // rows
        np.matmul(
            a[..., : whole * rows, :].reshape(*batch, whole, rows, K),
            b[..., None, :, :],
            out=out[..., : whole * rows, :].reshape(*batch, whole, rows, N),
        )
        if whole * rows == M:
            return
        a, out = a[..., whole * rows :, :], out[..., whole * rows :, :]
    np.matmul(a, b, out=out)
