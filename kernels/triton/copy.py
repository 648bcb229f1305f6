"""Copying, joining and rearranging of arrays."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton import copy_kernels
from tritium.kernels.triton.memory import broadcast_to, empty, fill, zeros
from tritium.kernels.triton.strided import WORDS, order_like, overlap, packed, row_tile, stream_of


def copy_into(out: DeviceArray, a: Any) -> None:
    """``out[...] = a``, converted to ``out``'s dtype as C converts; overlapping memory is handled.

    ``a``: an array that broadcasts, or a number. Raises ValueError where it does not broadcast, DeviceMismatch for a
    NumPy array with dimensions."""
    if not isinstance(a, DeviceArray):
        if getattr(a, "ndim", 0):
            raise DeviceMismatch(f"cuda:{out.device}")
        fill(out, _number(a, out.dtype))
        return
    if a.shape != out.shape:
        a = _broadcast(a, out.shape)
    if not out.size:
        return
    same = a.dtype is out.dtype or a.dtype == out.dtype
    if same and (out.dense and a.dense or out.strides == a.strides and packed(out.shape, out.strides, out.itemsize)):
        if out.ptr == a.ptr:
            return
        nbytes = out.size * out.dtype.itemsize
        if abs(out.ptr - a.ptr) >= nbytes:
            runtime.active().copy(out.ptr, a.ptr, nbytes, stream_of(out, a))
            return
    if overlap(out, a):
        if out.ptr == a.ptr and out.strides == a.strides and out.dtype.itemsize == a.dtype.itemsize:
            if same:
                return
        else:
            a = contiguous(a)
    if not same and (a.dtype.kind == "c" or out.dtype.kind == "c"):
        _complex(out, a)
    else:
        copy_kernels.move(out, a)


def _number(value: Any, dtype: Any) -> Any:
    """A number as it is converted by C: what does not fit wraps."""
    value = np.asarray(value)
    with np.errstate(all="ignore"):
        if value.dtype.kind == "c" and dtype.kind != "c":
            value = value != 0 if dtype.kind == "b" else value.real
        if value.dtype.kind == "f" and dtype.kind in "iu" and dtype.itemsize < 8:
            value = value.astype(np.int64)
        return value.astype(dtype)


def _broadcast(a: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    while a.ndim > len(shape) and a.shape[0] == 1:
        a = a[0]
    return broadcast_to(a, shape)


def _reals(a: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
    """The real and the imaginary parts of a complex array: views."""
    half = np.dtype(np.float32 if a.dtype.itemsize == 8 else np.float64)
    return (a.look(a.ptr, a.shape, a.strides, half), a.look(a.ptr + half.itemsize, a.shape, a.strides, half))


def _complex(out: DeviceArray, a: DeviceArray) -> None:
    if out.dtype.kind != "c":
        if out.dtype.kind == "b":
            raise NoKernel("conversion of complex to bool")
        copy_kernels.move(out, _reals(a)[0])
        return
    real, imaginary = _reals(out)
    if a.dtype.kind == "c":
        parts = _reals(a)
        copy_into(real, parts[0])
        copy_into(imaginary, parts[1])
    else:
        copy_into(real, a)
        fill(imaginary, 0)


def _copied(a: DeviceArray, strides: tuple[int, ...] | None) -> DeviceArray:
    """A copy with these strides (dense, in any order); None: contiguous."""
    out = empty(a.shape, a.dtype, a.device)
    if strides is not None:
        out = out.look(out.ptr, a.shape, strides)
    if out.size:
        if a.dense and strides is None or a.strides == strides:
            runtime.active().copy(out.ptr, a.ptr, out.nbytes, stream_of(out, a))
        else:
            copy_kernels.move(out, a)
    return out


def contiguous(a: DeviceArray) -> DeviceArray:
    """A copy with the last dimension fastest."""
    return _copied(a, None)


def clone(a: DeviceArray) -> DeviceArray:
    """A copy that keeps the order of dimensions in memory (stride 0 becomes dense)."""
    if a.dense or a.ndim < 2:
        return _copied(a, None)
    return _copied(a, clone_strides(a))


def clone_strides(a: DeviceArray, itemsize: int = 0) -> tuple[int, ...] | None:
    """The strides of a dense array with the order of dimensions of ``a``; None: contiguous."""
    if a.dense:
        return None
    itemsize = itemsize or a.dtype.itemsize
    if 0 in a.strides and a.ndim > 1 and a.size > 1:
        from tritium.kernels.reference.copy import _order

        steps, step = [0] * a.ndim, itemsize
        for d in reversed(_order(a.shape, a.strides)):
            steps[d] = step
            step *= a.shape[d]
        return tuple(steps)
    if a.flags.f_contiguous:
        steps, step = [], itemsize
        for n in a.shape:
            steps.append(step)
            step *= n
        return tuple(steps)
    return order_like(a.shape, a.strides, itemsize)


def channels_last(a: DeviceArray) -> DeviceArray:
    """A copy of (N, C, H, W) or (N, C, D, H, W) with the channels fastest."""
    n, back = a.ndim, (0, a.ndim - 1, *range(1, a.ndim - 1))
    return contiguous(a.transpose((0, *range(2, n), 1))).transpose(back)


# --- joining ---

def cat(arrays: Any, dim: int, channels_last: bool = False) -> DeviceArray:
    """Arrays of one dtype joined along a dimension; the result is contiguous, or channels-last."""
    _same_device(arrays)
    first = arrays[0]
    shape = list(first.shape)
    shape[dim] = sum(a.shape[dim] for a in arrays)
    if channels_last:
        order = (0, *range(2, first.ndim), 1)
        out = empty([shape[d] for d in order], first.dtype, first.device)
        out = out.transpose((0, first.ndim - 1, *range(1, first.ndim - 1)))
    else:
        out = empty(shape, first.dtype, first.device)
    if out.size:
        _write_parts(out, arrays, dim)
    return out


def _same_device(arrays: Any) -> None:
    for a in arrays:
        if not isinstance(a, DeviceArray):
            raise DeviceMismatch()


def _write_parts(out: DeviceArray, arrays: Any, dim: int) -> None:
    """The arrays, one after the other along ``dim``, written into ``out``."""
    if out.dense and len(arrays) > 2 and out.nbytes <= SMALL and all([a.dense and a.ptr % 16 == 0 for a in arrays]):
        _join_small(out, arrays, dim)
        return
    step, ptr = out.strides[dim], out.ptr
    for a in arrays:
        if a.size:
            copy_into(out.look(ptr, a.shape, out.strides), a)
        ptr += a.shape[dim] * step


SMALL = 1 << 20  # bytes: results below it are joined with several inputs to a launch
GROUP = 8


@kernel
def join(x0, x1, x2, x3, x4, x5, x6, x7, out, rows: "i64", stride: "i64", n0: "i64", n1: "i64", n2: "i64", n3: "i64",
         n4: "i64", n5: "i64", n6: "i64", n7: "i64", BR: tl.constexpr, BC: tl.constexpr):
    """Eight dense inputs of (rows, n0), (rows, n1), ... words, side by side in rows of ``stride`` words. The program's
    second number is the input's."""
    which = tl.program_id(1)
    n, start = n0, n0 * 0
    if which == 1:
        n, start = n1, n0
    elif which == 2:
        n, start = n2, n0 + n1
    elif which == 3:
        n, start = n3, n0 + n1 + n2
    elif which == 4:
        n, start = n4, n0 + n1 + n2 + n3
    elif which == 5:
        n, start = n5, n0 + n1 + n2 + n3 + n4
    elif which == 6:
        n, start = n6, n0 + n1 + n2 + n3 + n4 + n5
    elif which == 7:
        n, start = n7, n0 + n1 + n2 + n3 + n4 + n5 + n6
    blocks = (n + BC - 1) // BC
    row = tl.program_id(0).to(tl.int64) // tl.maximum(blocks, 1) * BR + tl.arange(0, BR)
    column = tl.program_id(0).to(tl.int64) % tl.maximum(blocks, 1) * BC + tl.arange(0, BC)
    mask = (row < rows)[:, None] & (column < n)[None, :]
    offset = row[:, None] * n + column[None, :]
    x = tl.zeros((BR, BC), out.dtype.element_ty)
    if which == 0:
        x = tl.load(x0 + offset, mask=mask, other=0)
    elif which == 1:
        x = tl.load(x1 + offset, mask=mask, other=0)
    elif which == 2:
        x = tl.load(x2 + offset, mask=mask, other=0)
    elif which == 3:
        x = tl.load(x3 + offset, mask=mask, other=0)
    elif which == 4:
        x = tl.load(x4 + offset, mask=mask, other=0)
    elif which == 5:
        x = tl.load(x5 + offset, mask=mask, other=0)
    elif which == 6:
        x = tl.load(x6 + offset, mask=mask, other=0)
    else:
        x = tl.load(x7 + offset, mask=mask, other=0)
    tl.store(out + row[:, None] * stride + (start + column)[None, :], x, mask=mask)


def _join_small(out: DeviceArray, arrays: Any, dim: int) -> None:
    """Many small dense inputs into a dense output, eight to a launch."""
    item = out.dtype.itemsize
    inner = 1
    for n in out.shape[dim + 1:]:
        inner *= n
    widths = [a.shape[dim] * inner * item for a in arrays]
    stride = out.shape[dim] * inner * item
    bits = stride | 8
    for a, n in zip(arrays, widths, strict=True):
        bits |= a.ptr | n
    word = bits & -bits
    kind = WORDS[word]
    rows = out.nbytes // stride
    at = 0
    for i in range(0, len(arrays), GROUP):
        group = [n // word for n in widths[i:i + GROUP]]
        high, width = row_tile(rows, max(group))
        tiles = -(-rows // high) * -(-max(group) // width)
        words = [DeviceArray(a.owner, a.ptr, (1,), kind) for a in arrays[i:i + GROUP]]
        last = DeviceArray(out.owner, out.ptr + at, (1,), kind)
        missing = GROUP - len(group)
        join.bind(BR=high, BC=width)(tiles, len(group), 1, *words, *words[:1] * missing, last, rows, stride // word,
                                     *group, *[0] * missing)
        at += sum(group) * word


def stack(arrays: Any, dim: int) -> DeviceArray:
    """Arrays of one shape and dtype joined along a new dimension; the result is contiguous."""
    _same_device(arrays)
    first = arrays[0]
    shape = (*first.shape[:dim], len(arrays), *first.shape[dim:])
    out = empty(shape, first.dtype, first.device)
    if out.size:
        key = (slice(None),) * dim + (None,)
        _write_parts(out, [a[key] for a in arrays], dim)
    return out


def block_diag(blocks: Any) -> DeviceArray:
    """Matrices of one dtype on the diagonal of a larger one, zero elsewhere."""
    _same_device(blocks)
    out = zeros((sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)), blocks[0].dtype, blocks[0].device)
    row = column = 0
    for b in blocks:
        copy_into(out[row:row + b.shape[0], column:column + b.shape[1]], b)
        row, column = row + b.shape[0], column + b.shape[1]
    return out


# --- rearranging ---

def flipped(a: DeviceArray, dims: Any) -> DeviceArray:
    """A view in reverse order along the dimensions."""
    ptr, strides = a.ptr, list(a.strides)
    for d in dims:
        if a.size:
            ptr += (a.shape[d] - 1) * strides[d]
        strides[d] = -strides[d]
    return a.look(ptr, a.shape, tuple(strides))


def flip(a: DeviceArray, dims: tuple[int, ...]) -> DeviceArray:
    """A copy in reverse order along the dimensions."""
    view = flipped(a, dims)
    return _copied(view, None if 0 in a.strides else clone_strides(view))


def roll(a: DeviceArray, shifts: Any, dims: Any) -> DeviceArray:
    """A copy with the elements moved round."""
    if dims is None:
        return roll(a.reshape(-1), (shifts if isinstance(shifts, int) else sum(shifts),), (0,)).reshape(a.shape)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    shifts = (shifts,) * len(dims) if isinstance(shifts, int) else tuple(shifts)
    total = [0] * a.ndim
    for d, s in zip(dims, shifts, strict=True):
        total[d] += s
    out = empty(a.shape, a.dtype, a.device)
    if not a.size:
        return out
    pieces = []  # of each dimension: (target, source)
    for n, s in zip(a.shape, total, strict=True):
        s %= n
        pieces.append([(slice(None), slice(None))] if not s else [
            (slice(s, None), slice(None, n - s)), (slice(None, s), slice(n - s, None))])
    for piece in product(*pieces):
        copy_into(out[tuple([p[0] for p in piece])], a[tuple([p[1] for p in piece])])
    return out


def rot90(a: DeviceArray, k: int, dim0: int, dim1: int) -> DeviceArray:
    """A copy turned by ``k`` (0 to 3) times 90 degrees, from the first dimension towards the second."""
    if k == 0:
        return contiguous(a)
    if k == 2:
        return contiguous(flipped(a, (dim0, dim1)))
    return contiguous(flipped(a, (dim1 if k == 1 else dim0,))).swapaxes(dim0, dim1)


def tile(a: DeviceArray, repeats: tuple[int, ...]) -> DeviceArray:
    """A copy repeated along each dimension; as many repeats as dimensions, or more."""
    extra = len(repeats) - a.ndim
    repeats = (1,) * -extra + tuple(repeats)
    shape = (1,) * extra + a.shape
    strides = (0,) * extra + a.strides
    out = empty([r * n for r, n in zip(repeats, shape, strict=True)], a.dtype, a.device)
    if out.size:
        both = tuple([x for pair in zip(repeats, shape, strict=True) for x in pair])
        split = out.as_shape(both)
        assert split is not None
        copy_into(split, a.look(a.ptr, both, tuple([x for s in strides for x in (0, s)])))
    return out


@kernel
def triangle_kernel(a, out, rows: "i64", columns: "i64", words: "i64", diagonal: "i64", high: "i64", across: "i64",
                    a_batch: "i64", a_row: "i64", a_column, UPPER: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """One triangle of dense matrices of ``words`` words a column; zero elsewhere."""
    program = tl.program_id(0).to(tl.int64)
    batch = program // (high * across)
    row = program // across % high * BR + tl.arange(0, BR)
    column = program % across * BC + tl.arange(0, BC)
    inside = (row < rows)[:, None] & (column < columns * words)[None, :]
    place = column // words
    beyond = place[None, :] - row[:, None]
    keep = inside & ((beyond >= diagonal) if UPPER else (beyond <= diagonal))
    source = batch * a_batch + (row * a_row)[:, None] + (place * a_column + column % words)[None, :]
    x = tl.load(a + source, mask=keep, other=0)
    tl.store(out + batch * rows * columns * words + row[:, None] * (columns * words) + column[None, :], x, mask=inside)


def triangle(a: DeviceArray, diagonal: int, upper: bool) -> DeviceArray:
    """The lower or upper triangle of the last two dimensions, zero elsewhere."""
    out = empty(a.shape, a.dtype, a.device)
    if not a.size:
        return out
    rows, columns = a.shape[-2:]
    batches = a.size // (rows * columns)
    item = a.dtype.itemsize
    word = min(item, 8)
    three = a.as_shape((batches, rows, columns)) if not any(s % word for s in a.strides) else None
    if three is None:
        three = contiguous(a).reshape((batches, rows, columns))
    words = item // word
    high, width = row_tile(rows, columns * words)
    down, across = -(-rows // high), -(-columns * words // width)
    kind = WORDS[word]
    triangle_kernel.bind(UPPER=upper, BR=high, BC=width)(
        batches * down * across, 1, 1, DeviceArray(three.owner, three.ptr, (1,), kind),
        DeviceArray(out.owner, out.ptr, (1,), kind), rows, columns, words, diagonal, down, across,
        *[s // word for s in three.strides])
    return out


def diagonal_into(out: DeviceArray, a: DeviceArray, offset: int) -> None:
    """The last dimension of ``a`` written on a diagonal of the last two dimensions of ``out``."""
    n = a.shape[-1]
    down, across = out.strides[-2:]
    ptr = out.ptr + max(-offset, 0) * down + max(offset, 0) * across if n else out.ptr
    copy_into(out.look(ptr, (*out.shape[:-2], n), (*out.strides[:-2], down + across)), a)


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    yield from copy_kernels.cases()
    pointers = [f"x{i}" for i in range(GROUP)]
    for word, width in (("i64", 1024), ("i32", 4)):
        yield Case(f"join {word}", join, {
            **{name: f"*{word}" for name in (*pointers, "out")},
            **{name: "i64" for name in ("rows", "stride", *[f"n{i}" for i in range(GROUP)])}},
            {"BR": 1024 // width, "BC": width}, (*pointers, "out"))
    for word, upper in (("i32", True), ("i32", False), ("i16", False)):
        yield Case(f"triangle {word} {'upper' if upper else 'lower'}", triangle_kernel, {
            "a": f"*{word}", "out": f"*{word}",
            **{name: "i64" for name in ("rows", "columns", "words", "diagonal", "high", "across", "a_batch", "a_row")}},
            {"a_column": 1, "UPPER": upper, "BR": 4, "BC": 256}, ("a", "out"))
