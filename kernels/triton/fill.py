"""Arrays made of a formula: one number, a sequence, the unit matrix.

    fill     out[i...] = value, as bits: float types, integers and bool alike
    arange   out[i] = start + i * step, in int64 or float64, then converted
    linspace out[i] = start + i * step, or end - (n - 1 - i) * step in the second half, in float64, then converted
    eye      out[i, j] = 1 where i = j, else 0
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.strided import (
    OUTER,
    WORDS,
    Dims,
    collapse,
    convert,
    long,
    outer,
    outer_sizes,
    packed,
    rank,
    row_offset,
    row_tile,
    stream_of,
    words,
)


@kernel
def fill_rows(out, value: "i64", rows: "i64", columns: "i64", blocks: "i64", step: "i64", n1: "i64", n2: "i64",
              n3: "i64", n4: "i64", s0: "i64", s1: "i64", s2: "i64", s3: "i64", s4: "i64", RANK: tl.constexpr,
              DENSE: tl.constexpr, LONG: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """The same bits in every element. DENSE: the columns lie one beside the other."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    program = tl.program_id(0).to(kind)
    row = program // blocks.to(kind) * BR + tl.arange(0, BR)
    column = program % blocks.to(kind) * BC + tl.arange(0, BC)
    start = row_offset(row, n1, n2, n3, n4, s0, s1, s2, s3, s4, RANK)
    offset = start[:, None] + (column if DENSE else column * step.to(kind))[None, :]
    mask = (row < rows.to(kind))[:, None] & (column < columns.to(kind))[None, :]
    tl.store(out + offset, tl.full((BR, BC), 0, tl.int64).to(out.dtype.element_ty) + value.to(out.dtype.element_ty),
             mask=mask)


@kernel
def arange_whole(out, start: "i64", step: "i64", n: "i64", BLOCK: tl.constexpr):
    """start + i * step in int64."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, convert(start + i * step, out.dtype.element_ty), mask=i < n)


@kernel
def arange_real(out, start: "fp64", step: "fp64", n: "i64", BLOCK: tl.constexpr):
    """start + i * step in float64."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, convert(start + i.to(tl.float64) * step, out.dtype.element_ty), mask=i < n)


@kernel
def linspace_kernel(out, start: "fp64", end: "fp64", step: "fp64", n: "i64", BLOCK: tl.constexpr):
    """From ``start`` upwards in the first half, from ``end`` downwards in the second."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    left = start + i.to(tl.float64) * step
    right = end - (n - 1 - i).to(tl.float64) * step
    tl.store(out + i, convert(tl.where(i < n // 2, left, right), out.dtype.element_ty), mask=i < n)


def fill(out: DeviceArray, value: Any) -> None:
    """Every element of ``out`` set to a number, converted as NumPy converts it in ``out[...] = value``."""
    if not out.size:
        return
    cell = np.empty((), out.dtype)
    cell[...] = value
    bits = cell.tobytes()
    width = len(bits)
    if width == 16:
        low, high = bits[:8], bits[8:]
        for part, offset in ((low, 0), (high, 8)):
            fill_bits(out.look(out.ptr + offset, (*out.shape, 1), (*out.strides, 8), WORDS[8]), part)
        return
    if out.dense or packed(out.shape, out.strides, width):
        while width > 1 and bits[:width // 2] == bits[width // 2:]:
            width //= 2
            bits = bits[:width]
        if width <= 4:
            runtime.active().memset(out.ptr, int.from_bytes(bits, "little"), width, out.nbytes // width, stream_of(out))
            return
    fill_bits(out, bits)


def fill_bits(out: DeviceArray, bits: bytes) -> None:
    """Every element set to these bits."""
    word, plan = _plan(out.shape, out.strides, len(bits), out.ptr & 15)
    value = int.from_bytes(bits * (word // len(bits)), "little", signed=True)
    for variant, programs, offset, arguments in plan:
        variant(programs, 1, 1, DeviceArray(out.owner, out.ptr + offset, (1,), WORDS[word]), value, *arguments)


@lru_cache(4096)
def _plan(shape: Any, strides: Any, size: int, address: int) -> tuple[int, list[tuple[Any, ...]]]:
    """Bytes of a word, and what to launch: the widest integers that divide the runs that lie together."""
    dims, word = words(collapse(shape, strides, strides), size, address)
    if word < size:
        raise NoKernel("fill of elements whose distances are no multiples of their size")
    plan: list[tuple[Any, ...]] = []
    _add(plan, dims, word, 0)
    return word, plan


def _add(plan: list[tuple[Any, ...]], dims: Dims, word: int, offset: int) -> None:
    if len(dims) > OUTER + 1:
        n, s, _ = dims[0]
        for i in range(n):
            _add(plan, dims[1:], word, offset + i * s * word)
        return
    columns, step, _ = dims[-1] if dims else (1, 1, 1)
    over = dims[:-1]
    rows = 1
    for d in over:
        rows *= d[0]
    high, width = row_tile(rows, columns)
    blocks = -(-columns // width)
    variant = fill_rows.bind(RANK=rank(over), DENSE=step == 1, LONG=long(dims), BR=high, BC=width)
    plan.append((variant, -(-rows // high) * blocks, offset, (rows, columns, blocks, step, *outer_sizes(over),
                                                              *outer(over, 1))))


def arange(out: DeviceArray, start: Any, step: Any) -> None:
    """``start + i * step`` written into a dense vector: in int64 when both are ints, else in float64."""
    if out.dtype.kind == "c":
        raise NoKernel("arange: complex")
    n = out.size
    block = 16384 if runtime.active().emulated else 1024
    if isinstance(start, int) and isinstance(step, int):
        arange_whole.bind(BLOCK=block)(-(-n // block), 1, 1, out, start, step, n)
    else:
        arange_real.bind(BLOCK=block)(-(-n // block), 1, 1, out, float(start), float(step), n)


def linspace(out: DeviceArray, start: Any, end: Any) -> None:
    """Evenly spaced numbers from ``start`` to ``end`` written into a dense vector; one element is ``start``."""
    if out.dtype.kind == "c":
        raise NoKernel("linspace: complex")
    n = out.size
    block = 16384 if runtime.active().emulated else 1024
    start, end = float(start), float(end)
    if n == 1:
        end = start
    linspace_kernel.bind(BLOCK=block)(-(-n // block), 1, 1, out, start, end, (end - start) / max(n - 1, 1), n)


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    sizes = {name: "i64" for name in ("value", "rows", "columns", "blocks", "step", "n1", "n2", "n3", "n4", "s0", "s1",
                                      "s2", "s3", "s4")}
    for word in ("i8", "i16", "i32", "i64"):
        for dense, high, width in ((True, 1, 1024), (False, 16, 64))[:2 if word in ("i16", "i32") else 1]:
            yield Case(f"fill_rows {word} {'dense' if dense else 'strided'}", fill_rows, {"out": f"*{word}", **sizes},
                       {"RANK": 3, "DENSE": dense, "LONG": False, "BR": high, "BC": width}, ("out",))
    yield Case("fill_rows i64 long", fill_rows, {"out": "*i64", **sizes},
               {"RANK": 5, "DENSE": False, "LONG": True, "BR": 16, "BC": 64}, ("out",))
    for dtype in ("i64", "i32", "fp32", "bf16"):
        whole = dtype[0] == "i"
        number = "i64" if whole else "fp64"
        yield Case(f"arange {dtype}", arange_whole if whole else arange_real,
                   {"out": f"*{dtype}", "start": number, "step": number, "n": "i64"}, {"BLOCK": 1024}, ("out",))
        yield Case(f"linspace {dtype}", linspace_kernel,
                   {"out": f"*{dtype}", "start": "fp64", "end": "fp64", "step": "fp64", "n": "i64"}, {"BLOCK": 1024},
                   ("out",))
