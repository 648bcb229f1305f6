"""Dropout that keeps no mask: y = m x + b with a mask m that is drawn again wherever it is needed.

    with probability q:   m = scale, b = kept;   else:   m = 0, b = dropped

Element i (in the order of the tensor's indices) is kept where 31 bits of word ``offset`` + i are below q 2^31. The mask
depends on (seed, offset) and on the index alone: the backward pass, dx = m dy, draws it again from the two numbers,
whatever the strides of the gradient. Plain dropout has b = 0 and scale 1 / q; alpha dropout has all three.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton import philox, strided
from tritium.kernels.triton.copy import copy_into
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.random import block_size, threshold


@triton.jit
def dropped_out(x, w, limit, scale, kept, dropped, SHIFT: tl.constexpr):
    """m x + b with the mask of the words w, in x's dtype; computed in float32 or float64 and rounded once."""
    v = x if x.dtype == tl.float64 else x.to(tl.float32)
    keep = (w >> 1) < limit.to(tl.uint32)
    y = v * tl.where(keep, scale.to(v.dtype), 0.0)
    if SHIFT:
        y += tl.where(keep, kept.to(v.dtype), dropped.to(v.dtype))
    return y.to(x.dtype)


@kernel
def dropout_contiguous(x, out, n: "i64", seed: "i64", offset: "i64", limit: "i64", scale: "fp64", kept: "fp64",
                       dropped: "fp64", SHIFT: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    w = philox.words(seed, offset, start, BLOCK, False)
    v = philox.get(x, start, n, BLOCK)
    philox.put(out, dropped_out(v, w, limit, scale, kept, dropped, SHIFT), start, n, BLOCK)


@kernel
def dropout_ordered(x, out, n: "i64", seed: "i64", offset: "i64", limit: "i64", scale: "fp64", kept: "fp64",
                    dropped: "fp64", n1: "i64", n2: "i64", n3: "i64", n4: "i64", s0: "i64", s1: "i64", s2: "i64",
                    s3: "i64", s4: "i64", i0: "i64", i1: "i64", i2: "i64", i3: "i64", i4: "i64", RANK: tl.constexpr,
                    LONG: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr):
    """In the order of out's memory; s: steps through x, i: through the indices."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = start + tl.arange(0, BLOCK)
    inside = at < n
    if not LONG:
        at = at.to(tl.int32)
    source = strided.row_offset(at, n1, n2, n3, n4, s0, s1, s2, s3, s4, RANK)
    index = strided.row_offset(at, n1, n2, n3, n4, i0, i1, i2, i3, i4, RANK)
    w = philox.word_at(seed, offset, index.to(tl.int64))
    v = tl.load(x + source, mask=inside, other=0.0)
    philox.put(out, dropped_out(v, w, limit, scale, kept, dropped, SHIFT), start, n, BLOCK)


def masked(x: DeviceArray, seed: int, offset: int, keep: float, scale: float, kept: float = 0.0, dropped: float = 0.0,
           out: DeviceArray | None = None) -> DeviceArray:
    """m x + b with the mask that the words from ``offset`` on (one an element) give: a fresh array in the order of x's
    dimensions in memory, or ``out``, an array of x's shape and dtype that may be x.

    ``keep``: the probability of keeping an element."""
    n = x.size
    block = block_size()
    numbers = (n, seed, offset, threshold(keep), float(scale), float(kept), float(dropped))
    constants: dict[str, Any] = {"SHIFT": kept != 0 or dropped != 0, "BLOCK": block, **philox.EXACT}
    if x.dense:
        target = out if out is not None and out.dense else empty(x.shape, x.dtype, x.device)
        dropout_contiguous.bind(**constants)(-(-n // block), 1, 1, x, target, *numbers)
    else:
        size = x.itemsize
        indices = strided.order_like(x.shape, (0,) * x.ndim, 1)  # steps of the indices: those of a contiguous array
        dims = strided.collapse(x.shape, [s // size for s in x.strides], indices)
        if len(dims) > strided.OUTER:
            return masked(x.copy(), seed, offset, keep, scale, kept, dropped, out)
        flat = empty((n,), x.dtype, x.device)
        dropout_ordered.bind(RANK=strided.rank(dims), LONG=strided.long(dims), **constants)(
            -(-n // block), 1, 1, x, flat, *numbers, *strided.outer_sizes(dims), *strided.outer(dims, 1),
            *strided.outer(dims, 2))
        target = flat.look(flat.ptr, x.shape, strided.order_like(x.shape, x.strides, size))
    if out is None:
        return target
    if target is not out:
        copy_into(out, target)
    return out


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    numbers = {"n": "i64", "seed": "i64", "offset": "i64", "limit": "i64", "scale": "fp64", "kept": "fp64",
               "dropped": "fp64"}
    more = {name: "i64" for name in ("n1", "n2", "n3", "n4", *[f"{k}{d}" for k in "si" for d in range(5)])}
    for dtype in ("bf16", "fp16", "fp32", "fp64"):
        arrays = {"x": f"*{dtype}", "out": f"*{dtype}"}
        for shift in (False, True) if dtype == "bf16" else (False,):
            yield Case(f"dropout {dtype}{' alpha' * shift}", dropout_contiguous, {**arrays, **numbers},
                       {"SHIFT": shift, "BLOCK": 1024}, ("x", "out"), wide=True, enable_fp_fusion=False)
        for rank in {"bf16": (3,), "fp32": (3, 5)}.get(dtype, ()):
            yield Case(f"dropout {dtype} ordered, rank {rank}", dropout_ordered, {**arrays, **numbers, **more},
                       {"RANK": rank, "LONG": False, "SHIFT": False, "BLOCK": 1024}, ("x", "out"),
                       enable_fp_fusion=False)
