"""How an array that is to be normalized lies in memory, and how it is cut into tiles.

Contiguous and channels-last arrays are taken as they are, and results are laid out like them; others are copied first.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.strided import LIMIT, power

Array = DeviceArray
f32, f64 = np.dtype(np.float32), np.dtype(np.float64)
ACC = {f32: tl.float32, f64: tl.float64}


def work_dtype(dtype: Any) -> Any:
    """The dtype to compute in."""
    if dtype.kind in "biuc":
        raise NoKernel(f"normalization of {dtype} has no Triton kernel: not implemented for cuda tensors")
    return f64 if dtype.itemsize == 8 else f32


def tile_elements(itemsize: int) -> int:
    """How many elements a tile of four warps has."""
    return 16384 if runtime.active().emulated else 1024 if itemsize == 8 else 2048


def row_elements(itemsize: int) -> int:
    """The longest row that is kept in registers."""
    return 16384 if runtime.active().emulated else 2048 if itemsize == 8 else 8192


def wanted_programs() -> int:
    """How many programs fill the device: four on each multiprocessor of an H100."""
    return 4 if runtime.active().emulated else 4 * 132


# --- layouts ---


class Form:
    """An array as N planes of C runs of S adjacent elements, or (``columns``) S rows of C adjacent channels; how it is
    cut into tiles. Sums are shared by ``splits`` programs of ``span`` steps, writing by ``chunks`` of ``chunk``."""

    __slots__ = ("N", "C", "S", "columns", "numbers", "constants", "programs", "splits", "span", "chunks", "chunk")

    def __init__(self, N: int, C: int, S: int, columns: bool, itemsize: int) -> None:
        if C == 1 and not columns:
            N, S = 1, N * S
        self.N, self.C, self.S, self.columns = N, C, S, columns
        vector = 16 // itemsize
        if (C if columns else S) % vector:
            vector = 1
        block, want = tile_elements(itemsize), wanted_programs()
        if vector == 1 and not runtime.active().emulated:
            block //= 2
        if columns:
            bk = min(power(C), max(128 // itemsize, 16))
            br = min(power(S), block // bk)
        else:
            br = min(power(S), block)
            bk = min(power(C), block // br)
        while True:
            steps, programs = N * -(-S // br), -(-C // bk)
            splits = min(-(-want // programs), max(steps // 4, 1))
            if bk * br <= 512 or programs * splits * 2 > want:
                break
            if columns and br > 1:
                br //= 2
            elif not columns and bk > 1:
                bk //= 2
            else:
                break
        self.span = -(-steps // splits)
        self.programs, self.splits = programs, -(-steps // self.span)
        self.chunk = max(1, min(-(-steps * programs // (4 * want)), 16), -(-steps // 65535))
        self.chunks = -(-steps // self.chunk)
        self.numbers = (C // vector, S, N) if columns else (C, S // vector, N)
        elements = bk * br
        self.constants = {"COLUMNS": columns, "VECTOR": vector, "LONG": N * C * S + block * 64 >= LIMIT, "BK": bk,
                          "BR": br, "num_warps": 4 if elements >= 1024 else 2 if elements >= 512 else 1}


def dense(a: Array) -> Array:
    """An array that is contiguous: itself, or a copy."""
    from tritium.kernels.triton.copy import contiguous

    return a if a.dense else contiguous(a)


def _form_of(x: Array) -> Form | None:
    """How x (N, C, *), which is not empty, lies in memory; None where it is to be copied first."""
    N, C = x.shape[:2]
    S = x.size // (N * C)
    columns = S == 1 and C > 1
    if not x.dense:
        columns = x.transpose(0, *range(2, x.ndim), 1).dense
        if not columns:
            return None
    return Form(1 if columns else N, C, N * S if columns else S, columns, x.dtype.itemsize)


def formed(x: Array) -> tuple[Array, Form]:
    """x as it is or as a contiguous copy, and how it lies in memory."""
    form = remembered((Form, x.shape, x.strides, x.dtype.itemsize), _form_of, x)
    return (x, form) if form is not None else formed(dense(x))


def empty_like(x: Array) -> Array:
    """A new array with the shape and order of dimensions of a dense one."""
    out = empty(x.shape, x.dtype, x.owner.device)
    return out if x.dense else out.look(out.ptr, x.shape, x.strides)


def laid_as(x: Array, a: Array) -> Array:
    """``a``, of the shape of x, laid out and typed as x is; the steps of dimensions of size 1 do not matter."""
    if a.dtype == x.dtype and (a.strides == x.strides or a.dense and x.dense or all(
            [s == t or n == 1 for n, s, t in zip(x.shape, a.strides, x.strides, strict=True)])):
        return a
    from tritium.kernels.triton.copy import copy_into

    out = empty_like(x)
    copy_into(out, a)
    return out


def vector(v: Array | None, instead: Array) -> Array:
    """A contiguous vector, or for None some array that is not looked at."""
    return instead if v is None else dense(v)


def joining(C: int, splits: int) -> tuple[int, int]:
    """Channels and splits of a tile that joins."""
    br = min(power(splits), 1024)
    return min(power(C), max(1024 // br, 1), 32), br


# --- rows ---


class Rows:
    """How rows (R, D) are cut into tiles."""

    __slots__ = ("numbers", "constants", "whole", "tiles", "form")

    def __init__(self, R: int, D: int, itemsize: int, work: int) -> None:
        vector = 1 if D % (16 // itemsize) else 16 // itemsize
        self.whole = power(D) <= row_elements(work)
        block = tile_elements(work)
        br = power(D) if self.whole else block * 2
        bk = max(min(block // 2 // br, power(R)), 1) if self.whole else 1
        while bk > 1 and -(-R // bk) < wanted_programs():
            bk //= 2
        elements = bk * br
        self.tiles, self.numbers = -(-R // bk), (R, D // vector)
        self.constants = {"ACC": ACC[np.dtype(f"f{work}")], "WHOLE": self.whole, "VECTOR": vector,
                          "LONG": R * D + 4 * elements >= LIMIT, "BK": bk, "BR": br,
                          "num_warps": 16 if elements > 4096 else 8 if elements > 1024 else 4 if elements > 256 else 1}
        self.form = None if self.whole else Form(1, D, R, True, itemsize)


def rows_of(x: Array) -> Rows:
    R, D = x.shape
    return remembered((Rows, R, D, x.dtype), Rows, R, D, x.dtype.itemsize, work_dtype(x.dtype).itemsize)
