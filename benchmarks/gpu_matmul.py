"""Matrix products beside cuBLAS on one GPU: bf16, fp16, tf32 and fp32, squares and the shapes of linear layers.

    python benchmarks/gpu_matmul.py [--json FILE] [--only WORD ...] [--seconds N] [--emulated | --compile]

"linear" is x @ w.T + b, "dgrad" and "wgrad" its gradients' products, "batched" many at once.
"""
from __future__ import annotations

import functools
import sys
from typing import Any

from gpu_timing import Entry, Tools, Work, main

SQUARES = (512, 1024, 2048, 4096, 8192, 16384)
LINEAR = ((64, 1000, 2048), (256, 1000, 512), (4096, 4096, 4096), (8192, 14336, 4096), (8192, 4096, 14336),
          (16384, 3072, 768), (4096, 50257, 1024))
BATCHED = ((96, 512, 512, 64), (512, 128, 128, 64), (32, 1024, 1024, 1024))


def product(t: Tools, kind: str, M: int, N: int, K: int, batch: int = 0) -> Work:
    """``kind``: "nn", "linear", "dgrad", "wgrad" or "batched"; sizes of the product that is computed."""
    if t.small:
        M, N, K, batch = min(M, 70), min(N, 50), min(K, 64), min(batch, 2)
    if kind == "linear":
        a, b, c = t.normal(M, K), t.normal(N, K), t.normal(N)

        def f() -> Any:
            return t.F.linear(a, b, c)
    elif kind == "batched":
        a, b = t.normal(batch, M, K), t.normal(batch, K, N)

        def f() -> Any:
            return a @ b
    else:
        a = t.normal(K, M).t() if kind == "wgrad" else t.normal(M, K)
        b = t.normal(K, N)

        def f() -> Any:
            return a @ b

    def rounded() -> Any:
        """The switch is read when the product is asked for."""
        t.lib.set_float32_matmul_precision("high")
        try:
            return f()
        finally:
            t.lib.set_float32_matmul_precision("highest")

    count = max(batch, 1)
    return Work(rounded if t.name == "tf32" else f, count * (M * K + K * N + M * N) * t.size, 2.0 * count * M * N * K)


def vector(t: Tools, rows: int, columns: int) -> Work:
    """A matrix times a vector, which is read once."""
    a, x = (t.normal(50, 70), t.normal(70)) if t.small else (t.normal(rows, columns), t.normal(columns))
    return Work(lambda: a @ x, float(a.numel() * t.size), 2.0 * a.numel())


ENTRIES = []
for _dtype in ("bf16", "fp16", "tf32", "fp32"):
    for _n in SQUARES:
        if _n <= 8192 or _dtype == "bf16":
            ENTRIES.append(Entry(f"matmul {_n} {_dtype}", f"matmul {_dtype}", functools.partial(
                product, kind="nn", M=_n, N=_n, K=_n), _dtype))
for _dtype in ("bf16", "fp32", "tf32"):
    for _M, _N, _K in LINEAR:
        for _kind, _sizes in (("linear", (_M, _N, _K)), ("dgrad", (_M, _K, _N)), ("wgrad", (_N, _K, _M))):
            if _dtype == "bf16" or _kind == "linear" and _M * _N < 1 << 27:
                ENTRIES.append(Entry(f"{_kind} {'x'.join(map(str, _sizes))} {_dtype}", f"linear {_dtype}",
                                     functools.partial(product, kind=_kind, M=_sizes[0], N=_sizes[1], K=_sizes[2]),
                                     _dtype))
for _dtype in ("bf16", "fp32"):
    for _b, _M, _N, _K in BATCHED:
        ENTRIES.append(Entry(f"batched {_b} of {_M}x{_N}x{_K} {_dtype}", f"batched {_dtype}", functools.partial(
            product, kind="batched", M=_M, N=_N, K=_K, batch=_b), _dtype))
    for _M, _N in ((8192, 8192), (1000, 65536)):
        ENTRIES.append(Entry(f"vector {_M}x{_N} {_dtype}", "matrix times vector", functools.partial(
            vector, rows=_M, columns=_N), _dtype))

if __name__ == "__main__":
    sys.exit(main(__doc__, ENTRIES))
