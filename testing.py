"""``tritium.testing``: comparing tensors in tests.

https://docs.pytorch.org/docs/stable/testing.html
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritium.tensor.from_data import as_tensor
from tritium.tensor.tensor import Tensor

# Default tolerances by dtype: (rtol, atol)
TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7),
              "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7)}


def assert_close(actual: Any, expected: Any, *, rtol: float | None = None, atol: float | None = None,
                 equal_nan: bool = False, check_dtype: bool = True, check_stride: bool = False,
                 check_device: bool = True, msg: str | None = None) -> None:
    """Raise AssertionError unless two tensors (or nested containers of them) have the same shape and dtype and
    |actual - expected| <= atol + rtol * |expected| everywhere. The default tolerances depend on the dtype.

    Raises ValueError when only one tolerance is given."""
    if (rtol is None) != (atol is None):
        raise ValueError("rtol and atol must both be specified or both be unspecified")
    options = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan, "check_dtype": check_dtype,
               "check_stride": check_stride, "msg": msg}
    if isinstance(expected, Mapping):
        if set(actual) != set(expected):
            raise AssertionError(f"The keys of the mappings do not match: {sorted(actual)} and {sorted(expected)}")
        for key in expected:
            assert_close(actual[key], expected[key], **options)  # type: ignore[arg-type]
        return
    if isinstance(expected, (list, tuple)):
        if len(actual) != len(expected):
            raise AssertionError(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}")
        for x, y in zip(actual, expected, strict=True):
            assert_close(x, y, **options)  # type: ignore[arg-type]
        return
    a, b = (x if isinstance(x, Tensor) else as_tensor(x) for x in (actual, expected))
    _compare(a, b, rtol, atol, equal_nan, check_dtype, check_stride, msg)


def _compare(a: Tensor, b: Tensor, rtol: Any, atol: Any, equal_nan: bool, check_dtype: bool, check_stride: bool,
             msg: str | None) -> None:
    if a.shape != b.shape:
        raise AssertionError(msg or f"The values for attribute 'shape' do not match: {a.shape} != {b.shape}.")
    if check_dtype and a.dtype is not b.dtype:
        raise AssertionError(msg or f"The values for attribute 'dtype' do not match: {a.dtype} != {b.dtype}.")
    if check_stride and a.stride() != b.stride():
        raise AssertionError(msg or f"The values for attribute 'stride()' do not match: {a.stride()} != {b.stride()}.")
    if rtol is None:
        pairs = [TOLERANCES.get(x.dtype.name, (0.0, 0.0)) for x in (a, b)]
        rtol, atol = max(p[0] for p in pairs), max(p[1] for p in pairs)
    wide = np.complex128 if a.is_complex() or b.is_complex() else np.float64
    x, y = a.detach()._a.astype(wide), b.detach()._a.astype(wide)
    with np.errstate(all="ignore"):
        bad = ~np.isclose(x, y, rtol, atol, equal_nan)
        if not bad.any():
            return
        difference = np.where(bad, np.abs(x - y), 0)
    worst = np.unravel_index(int(np.argmax(np.nan_to_num(difference, nan=np.inf))), x.shape) if x.shape else ()
    raise AssertionError(msg or (
        f"Tensor-likes are not close!\n\nMismatched elements: {int(bad.sum())} / {x.size} "
        f"({100 * bad.mean():.1f}%)\nGreatest absolute difference: {np.max(difference)} at index "
        f"{tuple(int(i) for i in worst)} (up to {atol} allowed)\nExpected {y[worst]}, got {x[worst]} (rtol {rtol})"))


__all__ = ["assert_close"]
