"""Reductions over dimensions: the launches of ``reduce_kernels.py``. Results are contiguous.

16-bit floats and float32 are summed in float32, integers in int64 (they wrap around), variances and the 2-norm of
float32 in float64; the result is rounded once. The same input gives the same bits on every run: nothing is added in an
order that depends on timing.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton.axes import block_elements, plan, remembered
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.reduce_kernels import fold, place, spread, spread_joined
from tritium.kernels.triton.strided import power

f32, f64 = np.dtype(np.float32), np.dtype(np.float64)
INT32, INT64, boolean = np.dtype(np.int32), np.dtype(np.int64), np.dtype(bool)

# what kernels accumulate in
WORK = {f32: tl.float32, f64: tl.float64, INT32: tl.int32, INT64: tl.int64, np.dtype(np.uint64): tl.uint64}


def _work(dtype: Any) -> Any:
    """The dtype in which sums are taken."""
    if dtype.kind in "biu":
        return INT64
    if dtype.kind == "c":
        raise NoKernel("reductions of complex arrays: not implemented for cuda tensors")
    return f64 if dtype.itemsize == 8 else f32


def _ordered(dtype: Any) -> Any:
    """A dtype that orders elements as their own does."""
    if dtype.kind in "biu":
        if dtype.itemsize == 8:
            return dtype
        return INT32 if dtype.itemsize < 4 or dtype.kind == "i" else INT64
    return _work(dtype)


def _least(dtype: Any, op: str) -> Any:
    """The identity of "max" or "min"."""
    if dtype.kind == "f":
        return -math.inf if op == "max" else math.inf
    info = np.iinfo(dtype)
    return int(info.min if op == "max" else info.max)


def result_shape(shape: tuple[int, ...], dims: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    """The shape without the reduced dimensions, or with size 1 for them."""
    if keepdim:
        return tuple([1 if d in dims else n for d, n in enumerate(shape)])
    return tuple([n for d, n in enumerate(shape) if d not in dims])


def moved(a: DeviceArray, dims: tuple[int, ...]) -> tuple[DeviceArray, tuple[int, ...]]:
    """A contiguous copy with the reduced dimensions last, and where they are then."""
    from tritium.kernels.triton.copy import contiguous

    kept = [d for d in range(len(a.shape)) if d not in dims]
    return contiguous(a.transpose((*kept, *dims))), tuple(range(len(kept), len(a.shape)))


class Folding:
    """Everything about one ``fold`` but the addresses: made once for each shape."""

    __slots__ = ("shape", "out", "first", "grid", "sizes", "splits", "kept", "part", "second", "copied")

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any, dims: tuple[int, ...],
                 keepdim: bool, out: Any, work: Any, op: str, map: str, end: str) -> None:
        self.shape, self.out = result_shape(shape, dims, keepdim), out
        self.part = work
        found = plan(shape, strides, dtype.itemsize, dims, work.itemsize)
        self.copied = found is None
        if found is None:
            return
        if map == "nonzero" or op in ("sum", "prod"):
            fill = int(op in ("prod", "min"))
        else:
            fill = _least(work, op)
        self.splits, self.kept = found.splits, found.kept
        self.grid, self.sizes = found.programs, found.sizes
        self.first = fold.bind(OP=op, MAP=map, END=end if found.splits == 1 else "same", ACC=WORK[work], FILL=fill,
                               **found.constants)
        self.second: Folding | None = None
        if found.splits > 1:
            self.second = Folding((found.splits, found.kept), (found.kept * work.itemsize, work.itemsize), work, (0,),
                                  False, out, work, op, "same", end)

    def into(self, a: DeviceArray, out: DeviceArray, parameter: float) -> None:
        """Reduce ``a`` into a contiguous array."""
        if self.second is None:
            self.first(self.grid, 1, 1, a, out, *self.sizes, parameter)
            return
        part = empty((self.splits, self.kept), self.part, a.owner.device)
        self.first(self.grid, self.splits, 1, a, part, *self.sizes, parameter)
        self.second.into(part, out, parameter)


def _fold(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, out: Any, work: Any, op: str, map: str = "same",
          end: str = "same", parameter: float = 0.0) -> DeviceArray:
    f = remembered((a.shape, a.strides, a.dtype, dims, keepdim, out, work, op, map, end), Folding, a.shape, a.strides,
                   a.dtype, dims, keepdim, out, work, op, map, end)
    if f.copied:
        return _fold(*moved(a, dims), False, out, work, op, map, end, parameter).reshape(f.shape)
    r = empty(f.shape, out, a.owner.device)
    f.into(a, r, parameter)
    return r


def _summed(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, dtype: Any, map: str) -> DeviceArray:
    if a.dtype.kind == "c":
        raise NoKernel("reductions of complex arrays: not implemented for cuda tensors")
    if dtype.kind == "b":
        return any(a, dims, keepdim)
    return _fold(a, dims, keepdim, dtype, _work(dtype), "sum", map)


def sum(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> DeviceArray:
    """The sum, in ``dtype``."""
    return _summed(a, dims, keepdim, dtype, "same")


def nansum(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> DeviceArray:
    """The sum of what is not nan."""
    return _summed(a, dims, keepdim, dtype, "number" if a.dtype.kind in "fV" else "same")


def prod(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> DeviceArray:
    """The product, in ``dtype``."""
    if dtype.kind == "b":
        return all(a, dims, keepdim)
    return _fold(a, dims, keepdim, dtype, _work(dtype), "prod")


def mean(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, dtype: Any) -> DeviceArray:
    """The mean: the sum over the count; nan for none."""
    return _fold(a, dims, keepdim, dtype, _work(dtype), "sum", "same", "mean", float(_count(a.shape, dims)))


def _count(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    n = 1
    for d in dims:
        n *= shape[d]
    return n


def var(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, correction: float) -> DeviceArray:
    """The variance with the given correction, computed in float64."""
    return _spread(a, dims, keepdim, correction, False)


def std(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, correction: float) -> DeviceArray:
    """The square root of the variance, rounded once."""
    return _spread(a, dims, keepdim, correction, True)


def _planned(kernel: Any, a: DeviceArray, dims: tuple[int, ...], wide: int, **constants: Any) -> Any:
    """(plan, the kernel for it), or None where the array is to be copied first. Made once for each shape."""
    found = plan(a.shape, a.strides, a.dtype.itemsize, dims, wide)
    return found and (found, kernel.bind(**constants, PART=found.splits > 1, **found.constants))


def _spread(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, correction: float, root: bool) -> DeviceArray:
    if a.dtype.kind == "c":
        raise NoKernel("var of complex arrays: not implemented for cuda tensors")
    shape = result_shape(a.shape, dims, keepdim)
    made = remembered((spread, a.shape, a.strides, a.dtype, dims, root),
                      lambda: _planned(spread, a, dims, 16, ROOT=root))
    if made is None:
        return _spread(*moved(a, dims), False, correction, root).reshape(shape)
    found, variant = made
    count = _count(a.shape, dims)
    left = float(max(count - correction, 0))
    out = empty(shape, a.dtype, a.owner.device)
    if found.splits == 1:
        variant(found.programs, 1, 1, a, out, *found.sizes, float(count), left)
        return out
    parts = empty((2, found.splits, found.kept), f64, a.owner.device)
    variant(found.programs, found.splits, 1, a, parts, *found.sizes, float(count), left)
    bk = min(power(found.kept), 64)
    br = min(power(found.splits), max(block_elements(8, 16) // bk, 1))
    spread_joined.bind(ROOT=root, BK=bk, BR=br)(-(-found.kept // bk), 1, 1, parts, out, found.kept, found.splits,
                                                float(count), left)
    return out


def _extreme(a: DeviceArray, dims: tuple[int, ...], keepdim: bool, op: str) -> DeviceArray:
    if a.dtype.kind == "c":
        raise NoKernel("extremes of complex arrays: not implemented for cuda tensors")
    if a.size == 0 and _count(a.shape, dims) == 0:
        raise ValueError(f"zero-size array to reduction operation a{op} which has no identity")
    return _fold(a, dims, keepdim, a.dtype, _ordered(a.dtype), op)


def amax(a: DeviceArray, dims: tuple[int, ...], keepdim: bool) -> DeviceArray:
    """The largest; nan if there is one."""
    return _extreme(a, dims, keepdim, "max")


def amin(a: DeviceArray, dims: tuple[int, ...], keepdim: bool) -> DeviceArray:
    """The smallest; nan if there is one."""
    return _extreme(a, dims, keepdim, "min")


def _arg(a: DeviceArray, dim: int | None, keepdim: bool, op: str) -> DeviceArray:
    if a.dtype.kind == "c":
        raise NoKernel("extremes of complex arrays: not implemented for cuda tensors")
    if dim is None:
        r = _arg(a.reshape(-1), 0, False, op)
        return r.reshape((1,) * a.ndim) if keepdim else r
    dims = (dim % a.ndim,)
    shape = result_shape(a.shape, dims, keepdim)
    if a.shape[dims[0]] == 0:
        raise ValueError(f"attempt to get arg{op} of an empty sequence")
    work = _ordered(a.dtype)
    constants = {"OP": op, "ACC": WORK[work], "FILL": _least(work, op)}
    made = remembered((place, a.shape, a.strides, a.dtype, dims, op),
                      lambda: _planned(place, a, dims, 2 * work.itemsize, INDEXED=False, **constants))
    if made is None:
        return _arg(*moved(a, dims), False, op).reshape(shape)  # type: ignore[arg-type]
    found, variant = made
    out = empty(shape, INT64, a.owner.device)
    if found.splits == 1:
        variant(found.programs, 1, 1, a, out, out, out, *found.sizes)
        return out
    values, places = (empty((found.splits, found.kept), t, a.owner.device) for t in (work, INT64))
    variant(found.programs, found.splits, 1, a, places, places, values, *found.sizes)
    second = plan(values.shape, values.strides, work.itemsize, (0,), 16, False)
    assert second is not None
    joined = place.bind(INDEXED=True, PART=False, **constants, **second.constants)
    joined(second.programs, 1, 1, values, places, out, out, *second.sizes)
    return out


def argmax(a: DeviceArray, dim: int | None, keepdim: bool) -> DeviceArray:
    """The first position of the largest (of the first nan, if there is one), as int64."""
    return _arg(a, dim, keepdim, "max")


def argmin(a: DeviceArray, dim: int | None, keepdim: bool) -> DeviceArray:
    """The first position of the smallest (of the first nan, if there is one), as int64."""
    return _arg(a, dim, keepdim, "min")


def all(a: DeviceArray, dims: tuple[int, ...], keepdim: bool) -> DeviceArray:
    """Whether all are true (not zero)."""
    return _fold(a, dims, keepdim, boolean, INT32, "min", "nonzero")


def any(a: DeviceArray, dims: tuple[int, ...], keepdim: bool) -> DeviceArray:
    """Whether one is true (not zero)."""
    return _fold(a, dims, keepdim, boolean, INT32, "max", "nonzero")


def count_nonzero(a: DeviceArray, dims: tuple[int, ...]) -> DeviceArray:
    """How many are not zero."""
    return _fold(a, dims, False, INT64, INT64, "sum", "nonzero")


def norm(a: DeviceArray, p: float, dims: tuple[int, ...], keepdim: bool) -> DeviceArray:
    """The p-norm; inf, -inf and 0 (the count of what is not zero) too."""
    work = _work(a.dtype)
    if p == 2:
        if a.dtype == f32:  # squares of large float32 overflow: in float64
            work = f64
        return _fold(a, dims, keepdim, a.dtype, work, "sum", "square", "root")
    if p == 1:
        return _fold(a, dims, keepdim, a.dtype, work, "sum", "abs")
    if math.isinf(p):
        return _fold(a, dims, keepdim, a.dtype, work, "max" if p > 0 else "min", "abs")
    if p == 0:
        return _fold(a, dims, keepdim, a.dtype, work, "sum", "nonzero")
    return _fold(a, dims, keepdim, a.dtype, work, "sum", "power", "power", p)


NUMBERS = {name: "i64" for name in ("nk", "k0", "sk0", "sk1", "so0", "so1", "nr", "r1", "outer", "sr0", "sr1", "sr2",
                                    "span")}


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    forms = {"rows": ("r", 1, 1, 1, 1024), "long rows": ("r", 1, 1, 1, 0), "columns": ("k", 1, 1, 32, 64),
             "images": ("r", 1, 2, 4, 256), "strided": ("", 2, 3, 32, 32)}
    item = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "i64": 8, "i8": 1, "i1": 1, "i32": 4}
    acc = {"bf16": tl.float32, "fp16": tl.float32, "fp32": tl.float32, "fp64": tl.float64}

    def shape(form: str, dtype: str, block: int) -> dict[str, Any]:
        unit, kd, rd, bk, br = forms[form]
        br = br or 2 * block
        if form == "rows" and item[dtype] == 1:
            br = block
        if unit == "k":
            bk = max(128 // item[dtype], 16)
            br = block // bk
        return {"KD": kd, "RD": rd, "UNIT": unit, "VECTOR": 16 // item[dtype] if unit else 1, "LONG": False, "BK": bk,
                "BR": br}

    def one(kernel: Any, form: str, dtype: str, types: dict[str, str], constants: dict[str, Any], wide: int,
            note: str = "") -> Case:
        s = shape(form, dtype, 8192 // max(item[dtype], wide // 2))
        return Case(f"{kernel.name} {note}{' ' if note else ''}{form} {dtype}", kernel,
                    {"x": f"*{dtype}", **types, **NUMBERS}, {**constants, **s},
                    tuple(types)[:0] + ("x", *[n for n in types if types[n][0] == "*"]),
                    8 if form == "long rows" else 4, 3, wide=s["VECTOR"] > 1)

    for form in forms:
        for dtype in ("fp32", "bf16", "fp64", "i64") if form in ("rows", "columns") else ("fp32", "bf16"):
            wide = 8 if dtype in ("fp64", "i64") else 4
            yield one(fold, form, dtype, {"out": f"*{dtype}", "parameter": "fp64"},
                      {"OP": "sum", "MAP": "same", "END": "mean" if dtype != "i64" else "same",
                       "ACC": acc.get(dtype, tl.int64), "FILL": 0}, wide, "mean" if dtype != "i64" else "sum")
    for op, map, end, dtype, out, kind, fill, wide in (
            ("sum", "number", "same", "fp16", "fp16", tl.float32, 0, 4), ("sum", "square", "root", "fp32", "fp32",
                                                                          tl.float64, 0, 8),
            ("sum", "power", "power", "fp32", "fp32", tl.float32, 0, 4), ("prod", "same", "same", "fp32", "fp32",
                                                                          tl.float32, 1, 4),
            ("max", "same", "same", "bf16", "bf16", tl.float32, -math.inf, 4),
            ("min", "same", "same", "fp64", "fp64", tl.float64, math.inf, 8),
            ("max", "same", "same", "i64", "i64", tl.int64, -2**63, 8),
            ("max", "nonzero", "same", "i1", "i1", tl.int32, 0, 4),
            ("sum", "nonzero", "same", "i1", "i64", tl.int64, 0, 8)):
        yield one(fold, "rows", dtype, {"out": f"*{out}", "parameter": "fp64"},
                  {"OP": op, "MAP": map, "END": end, "ACC": kind, "FILL": fill}, wide, f"{op} {map}")
    for form in ("rows", "columns"):
        for dtype in ("fp32", "bf16", "i64"):
            yield one(place, form, dtype, {"indices": "*i64", "out": "*i64", "values": f"*{dtype}"},
                      {"OP": "max", "ACC": acc.get(dtype, tl.int64), "FILL": -2**63 if dtype == "i64" else -math.inf,
                       "INDEXED": False, "PART": False}, 8 if dtype != "i64" else 16)
        for dtype in ("fp32", "bf16", "fp64"):
            yield one(spread, form, dtype, {"out": f"*{dtype}", "count": "fp64", "left": "fp64"},
                      {"PART": False, "ROOT": False}, 16)
    yield one(place, "columns", "fp32", {"indices": "*i64", "out": "*i64", "values": "*fp32"},
              {"OP": "max", "ACC": tl.float32, "FILL": -math.inf, "INDEXED": True, "PART": False}, 16, "joined")
    yield Case("reduce_kernels.spread_joined", spread_joined,
               {"parts": "*fp64", "out": "*fp32", "nk": "i64", "splits": "i64", "count": "fp64", "left": "fp64"},
               {"ROOT": False, "BK": 16, "BR": 64}, ("parts", "out"))
