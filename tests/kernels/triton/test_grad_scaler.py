"""The Triton side of gradient scaling against the NumPy side: values, the flag, strides, dtypes, several programs."""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import grad_scaler as reference

pytestmark = pytest.mark.cuda_only

DTYPES = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


@pytest.fixture
def triton_side() -> Any:
    from tritium.kernels.triton import grad_scaler

    return grad_scaler


def sent(a: Any) -> Any:
    from tritium.kernels.triton.memory import from_host

    return from_host(np.ascontiguousarray(a), 0)


def number(value: float, dtype: Any = np.float32) -> Any:
    return np.array(value, dtype)


def both(side: Any, arrays: list[Any], inverse: float, views: Any = lambda a: a) -> None:
    """The same on both sides, for arrays and for a view of each of them."""
    mine, its = [np.array(a) for a in arrays], [sent(a) for a in arrays]
    found, flag = number(0.0), sent(number(0.0))
    reference.unscale([views(a) for a in mine], found, number(inverse))
    side.unscale([views(a) for a in its], flag, sent(number(inverse)))
    assert flag.to_host() == found
    for a, b in zip(mine, its, strict=True):
        assert a.tobytes() == b.to_host().tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [None, np.inf, -np.inf, np.nan])
def test_unscale(triton_side: Any, dtype: Any, bad: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [(rng.standard_normal(shape) * 100).astype(dtype) for shape in ((3, 5), (), (7,), (0, 2), (40,))]
    if bad is not None:
        arrays[2][4] = bad
    for inverse in (2.0 ** -16, 0.3, 1.0):
        both(triton_side, arrays, inverse)


def test_dtypes_and_strides_together(triton_side: Any) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((6, 8)).astype(dtype) for dtype in DTYPES]
    both(triton_side, arrays, 0.25, lambda a: a[::2, 1:].T)
    both(triton_side, arrays, 0.25, lambda a: a[1:])


@pytest.mark.parametrize("at", [0, 127, 128, 300, None])
def test_several_programs(triton_side: Any, at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag is raised whichever program meets the infinity, and no two of them write elsewhere twice."""
    from tritium.kernels.runtime.emulation import races
    from tritium.kernels.triton import optimizer_tables

    monkeypatch.setattr(triton_side, "block_size", lambda dtype, arrays: 128)
    optimizer_tables.forget()
    arrays = [np.arange(1, n + 1, dtype=np.float32) for n in (301, 5, 256)]
    if at is not None:
        arrays[0][at] = arrays[2][at % 256] = np.inf
    with races.checking():
        both(triton_side, arrays, 0.5)
    optimizer_tables.forget()


def test_the_flag_stays_up(triton_side: Any) -> None:
    found, flag = number(1.0), sent(number(1.0))
    reference.unscale([np.ones(3, np.float32)], found, number(0.5))
    triton_side.unscale([sent(np.ones(3, np.float32))], flag, sent(number(0.5)))
    assert found == flag.to_host() == 1.0


@pytest.mark.parametrize("scale", [2.0 ** 16, 3e38, 1e-40, 7.0])
@pytest.mark.parametrize("found", [0.0, 1.0, 2.0])
def test_update_scale(triton_side: Any, scale: float, found: float) -> None:
    """The same sequence of scales on both sides; a scale that would be infinite stays as it is."""
    mine, its = [number(scale), number(0, np.int32)], [sent(number(scale)), sent(number(0, np.int32))]
    for i in range(5):
        now = found if i == 3 else 0.0
        reference.update_scale(*mine, number(now), 2.1, 0.7, 2)
        triton_side.update_scale(*its, sent(number(now)), 2.1, 0.7, 2)
        assert [a.tobytes() for a in mine] == [b.to_host().tobytes() for b in its]
    assert np.isfinite(mine[0])
