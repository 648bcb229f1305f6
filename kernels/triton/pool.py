"""Pooling on the device: the launches of ``pool_kernels.py``.

Contiguous and channels-last images are taken as they are, and results lie as they do; others are copied first.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import index, reduce
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.pool_kernels import (
    adaptive,
    adaptive_gradient,
    averages,
    gather,
    gradient,
    maxima,
    positions,
)
from tritium.kernels.triton.strided import LIMIT, power

Array = DeviceArray
Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
SMALL = 3  # sizes of windows that kernels are compiled for


def tile_elements(itemsize: int) -> int:
    """How many elements a tile of four warps has."""
    return 16384 if runtime.active().emulated else 256 if itemsize == 8 else 1024


# --- layouts ---


def _contiguous(a: Array) -> Array:
    from tritium.kernels.triton.copy import contiguous

    return a if a.dense else contiguous(a)


def _planes(x: Array) -> bool | None:
    """Whether x (N, C, H, W) is contiguous, not channels-last; None for neither."""
    return True if x.dense else False if x.transpose(0, 2, 3, 1).dense else None


def _laid(x: Array) -> tuple[Array, bool]:
    """x (N, C, H, W) as it is or as a contiguous copy; whether it is contiguous, not channels-last."""
    planes = remembered((_planes, x.shape, x.strides, x.dtype.itemsize), _planes, x)
    return (_contiguous(x), True) if planes is None else (x, planes)


def _as(x: Array, planes: bool) -> Array:
    """x contiguous, or channels-last."""
    if planes:
        return _contiguous(x)
    last = x.transpose(0, 2, 3, 1)
    return x if last.dense else _contiguous(last).transpose(0, 3, 1, 2)


def _new(N: int, C: int, size: Pair, planes: bool, dtype: Any, device: int) -> Array:
    """A new array (N, C, *size)."""
    if planes:
        return empty((N, C, *size), dtype, device)
    return empty((N, *size, C), dtype, device).transpose(0, 3, 1, 2)


class Tiles:
    """How the pixels that a kernel writes are cut: the grid, the numbers before H, the constexprs."""

    __slots__ = ("grid", "numbers", "constants")

    def __init__(self, N: int, C: int, size: Pair, other: Pair, planes: bool, itemsize: int) -> None:
        pixels, channels = N * size[0] * size[1] * (C if planes else 1), 1 if planes else C
        vector = 16 // itemsize
        if (pixels if planes else C) % vector:
            vector = 1
        block = tile_elements(itemsize)
        if planes and not runtime.active().emulated:
            block = min(block, 512)  # an address for every element takes more registers
        bc = min(power(channels), max(128 // itemsize, 16))
        bp = min(power(pixels), max(block // bc, 1))
        elements = bp * bc
        reach = N * C * max(size[0] * size[1], other[0] * other[1])
        self.grid = (-(-pixels // bp), -(-channels // bc))
        self.numbers = (pixels // vector, 1) if planes else (pixels, channels // vector)
        self.constants = {"PLANES": planes, "VECTOR": vector, "LONG": reach + 64 * elements >= LIMIT, "BP": bp,
                          "BC": bc, "num_warps": 4 if elements >= 256 else 1}


def _tiles(out: Array, other: Any, planes: bool) -> Tiles:
    """Tiles for writing ``out`` (N, C, H, W), from or to images of size ``other``."""
    N, C, *size = out.shape
    key = (Tiles, out.shape, other, planes, out.dtype.itemsize)
    return remembered(key, Tiles, N, C, tuple(size), other, planes, out.dtype.itemsize)


def _few(a: int, b: int) -> Pair:
    """Sizes that a kernel is compiled for, or 0."""
    return (a, b) if a <= SMALL and b <= SMALL else (0, 0)


def _float(dtype: Any) -> Any:
    if dtype.kind in "biuc":
        raise NoKernel(f"this pooling of {dtype} has no Triton kernel: not implemented for cuda tensors")
    return tl.float64 if dtype.itemsize == 8 else tl.float32


# --- max ---


def _code(kernel: Pair) -> Any:
    n = kernel[0] * kernel[1]
    return np.uint8 if n < 256 else np.uint16 if n < 65536 else np.int32


def _max(x: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, values: bool,
         taps: bool) -> tuple[Array, Array]:
    """(maxima, taps (N, OH, OW, C)), of which one may be any array."""
    if x.dtype.kind in "bc":
        raise NoKernel(f"max pooling of {x.dtype} has no Triton kernel: not implemented for cuda tensors")
    x, planes = _laid(x)
    N, C, H, W = x.shape
    device, work = x.owner.device, reduce._ordered(x.dtype)
    out = _new(N, C, size, planes, x.dtype, device) if values else x
    code = _new(N, C, size, planes, _code(kernel), device) if taps else x
    made = out if values else code
    if made.size:
        tiles, (few_h, few_w) = _tiles(made, (H, W), planes), _few(*kernel)
        launch = maxima.bind(ACC=reduce.WORK[work], LEAST=reduce._least(work, "max"), VALUES=values, TAPS=taps,
                             KH=few_h, KW=few_w, **tiles.constants)
        launch(*tiles.grid, 1, x, out, code, *tiles.numbers, H, W, *size, *kernel, *stride, *padding, *dilation)
    return out, code.transpose(0, 2, 3, 1)


def max_pool2d(x: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """x (N, C, H, W) -> the maxima (N, C, *size). NaN anywhere in a window gives NaN."""
    return _max(x, size, kernel, stride, padding, dilation, True, False)[0]


def max_pool2d_taps(x: Array, out: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """Which tap i * kw + j of its window each maximum of ``out`` = max_pool2d(x, ...) came from: the first that equals
    it; the last NaN where there are any. (N, OH, OW, C), unsigned."""
    return _max(x, out.shape[2:], kernel, stride, padding, dilation, False, True)[1]  # type: ignore[arg-type]


def max_pool2d_with_taps(x: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair,
                         dilation: Pair) -> tuple[Array, Array]:
    """``max_pool2d`` and ``max_pool2d_taps``."""
    return _max(x, size, kernel, stride, padding, dilation, True, True)


def _planes_of(taps: Array) -> tuple[Array, bool]:
    """Taps (N, OH, OW, C) as (N, C, OH, OW); whether those are contiguous."""
    return _laid(taps.transpose(0, 3, 1, 2))


def max_pool2d_indices(taps: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """PyTorch's indices: the flat position h * W + w of each maximum in its plane (H, W) = ``size``; (N, C, OH, OW)."""
    code, planes = _planes_of(taps)
    out = empty(code.shape, np.int64, taps.owner.device)
    if out.size:
        tiles = _tiles(out, size, planes)
        positions.bind(**tiles.constants)(*tiles.grid, 1, code, out, *tiles.numbers, size[1], *out.shape[2:], kernel[1],
                                          *stride, *padding, *dilation)
    return out


def _gradient(dy: Array, taps: Array | None, planes: bool, size: Pair, kernel: Pair, stride: Pair, padding: Pair,
              dilation: Pair, include: bool = True, override: int = 0) -> Array:
    acc = _float(dy.dtype)
    N, C, OH, OW = dy.shape
    dx = _new(N, C, size, planes, dy.dtype, dy.owner.device)
    if not dx.size:
        return dx
    if not dy.size:
        dx.fill(0)
        return dx
    most = [(k - 1) * d // s + 1 for k, d, s in zip(kernel, dilation, stride, strict=True)]
    tiles, (few_h, few_w) = _tiles(dx, (OH, OW), planes), _few(*most)
    launch = gradient.bind(ACC=acc, MAX=taps is not None, INCLUDE=include, DILATED=dilation != (1, 1), NH=few_h,
                           NW=few_w, **tiles.constants)
    launch(*tiles.grid, 1, dy, dy if taps is None else taps, dx, *tiles.numbers, *size, OH, OW, *kernel, *stride,
           *padding, *dilation, override, *most)
    return dx


def max_pool2d_scatter(dy: Array, taps: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair,
                       dilation: Pair) -> Array:
    """dy (N, C, OH, OW) added to the places its maxima came from; zero elsewhere. -> (N, C, *size)."""
    code, planes = _planes_of(taps)
    return _gradient(_as(dy, planes), code, planes, size, kernel, stride, padding, dilation)


def max_pool2d_gather(x: Array, taps: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """x (N, C, H, W) at the places that ``taps`` (N, OH, OW, C) name. -> (N, C, OH, OW)."""
    code, planes = _planes_of(taps)
    x = _as(x, planes)
    N, C, OH, OW = code.shape
    H, W = x.shape[2:]
    out = _new(N, C, (OH, OW), planes, x.dtype, x.owner.device)
    if out.size:
        tiles = _tiles(out, (H, W), planes)
        gather.bind(**tiles.constants)(*tiles.grid, 1, x, code, out, *tiles.numbers, H, W, OH, OW, *kernel, *stride,
                                       *padding, *dilation)
    return out


# --- average ---


def avg_pool2d(x: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Array:
    """x (N, C, H, W) -> the averages (N, C, *size)."""
    x, planes = _laid(x)
    N, C, H, W = x.shape
    acc = tl.int64 if x.dtype == np.int64 else _float(x.dtype)
    out = _new(N, C, size, planes, x.dtype, x.owner.device)
    if out.size:
        tiles, (few_h, few_w) = _tiles(out, (H, W), planes), _few(*kernel)
        launch = averages.bind(ACC=acc, INCLUDE=bool(count_include_pad), KH=few_h, KW=few_w, **tiles.constants)
        launch(*tiles.grid, 1, x, out, *tiles.numbers, H, W, *size, *kernel, *stride, *padding, divisor_override or 0)
    return out


def avg_pool2d_backward(dy: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair,
                        count_include_pad: bool = True, divisor_override: int | None = None) -> Array:
    """dy (N, C, OH, OW) -> dx (N, C, *size)."""
    dy, planes = _laid(dy)
    return _gradient(dy, None, planes, size, kernel, stride, padding, (1, 1), bool(count_include_pad),
                     divisor_override or 0)


# --- adaptive ---


def _largest(n: int, m: int) -> int:
    """How many of n inputs one of m adaptive outputs covers at most."""
    return max([-(-(i + 1) * n // m) - i * n // m for i in range(m)], default=0)


def _readers(n: int, m: int) -> int:
    """In how many of m cells one of n inputs is at most."""
    return max([-(-(h + 1) * m // n) - h * m // n for h in range(n)], default=0)


def adaptive_avg_pool2d(x: Array, size: Pair) -> Array:
    """x (N, C, H, W) -> the averages of size[0] x size[1] cells (N, C, *size)."""
    acc = _float(x.dtype)
    if tuple(size) == (1, 1):
        return reduce.mean(x, (2, 3), True, x.dtype)
    x, planes = _laid(x)
    N, C, H, W = x.shape
    out = _new(N, C, size, planes, x.dtype, x.owner.device)
    if out.size:
        tiles = _tiles(out, (H, W), planes)
        most = [remembered((_largest, n, m), _largest, n, m) for n, m in ((H, size[0]), (W, size[1]))]
        launch = adaptive.bind(ACC=acc, MAX=False, **tiles.constants)
        launch(*tiles.grid, 1, x, out, out, *tiles.numbers, H, W, *size, *most)
    return out


def adaptive_avg_pool2d_backward(dy: Array, size: Pair, last: bool = False) -> Array:
    """dy (N, C, OH, OW) -> dx (N, C, *size), laid out as dy is; of one pixel, which does not tell, with the channels
    ``last``."""
    dy, planes = _laid(dy)
    if dy.shape[2] == dy.shape[3] == 1:
        planes = not last
    return _adaptive_gradient(dy, None, planes, size)


def _adaptive_gradient(dy: Array, indices: Array | None, planes: bool, size: Pair) -> Array:
    acc = _float(dy.dtype)
    N, C, OH, OW = dy.shape
    dx = _new(N, C, size, planes, dy.dtype, dy.owner.device)
    if dx.size and not dy.size:
        dx.fill(0)
    elif dx.size:
        tiles = _tiles(dx, (OH, OW), planes)
        most = [remembered((_readers, n, m), _readers, n, m) for n, m in ((size[0], OH), (size[1], OW))]
        launch = adaptive_gradient.bind(ACC=acc, MAX=indices is not None, **tiles.constants)
        launch(*tiles.grid, 1, dy, dy if indices is None else indices, dx, *tiles.numbers, *size, OH, OW, *most)
    return dx


def adaptive_max_pool2d(x: Array, size: Pair) -> tuple[Array, Array]:
    """x (N, C, H, W) -> the maxima of size[0] x size[1] cells and their flat positions int64, both (N, C, *size)."""
    acc = _float(x.dtype)
    x, planes = _laid(x)
    N, C, H, W = x.shape
    out, indices = (_new(N, C, size, planes, dtype, x.owner.device) for dtype in (x.dtype, np.dtype(np.int64)))
    if out.size:
        tiles = _tiles(out, (H, W), planes)
        most = [remembered((_largest, n, m), _largest, n, m) for n, m in ((H, size[0]), (W, size[1]))]
        launch = adaptive.bind(ACC=acc, MAX=True, **tiles.constants)
        launch(*tiles.grid, 1, x, out, indices, *tiles.numbers, H, W, *size, *most)
    return out, indices


def index_scatter(dy: Array, indices: Array, size: Pair) -> Array:
    """dy (N, C, OH, OW) added at the flat positions of planes of ``size`` that ``adaptive_max_pool2d`` gave;
    -> (N, C, *size)."""
    indices, planes = _laid(indices)
    return _adaptive_gradient(_as(dy, planes), indices, planes, size)


def index_gather(x: Array, indices: Array) -> Array:
    """x (N, C, H, W) at flat positions of its planes; -> the shape of ``indices``."""
    N, C = x.shape[:2]
    cells = math.prod(indices.shape[2:])
    planes = x.reshape(N, C, x.shape[2] * x.shape[3])
    return index.gather(planes, 2, indices.reshape(N, C, cells)).reshape(indices.shape)


# --- shipped configurations ---


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    item = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "i64": 8, "i8": 1}
    acc = {"fp64": tl.float64, "i64": tl.int64, "i8": tl.int32}
    for planes in (True, False):
        form = "planes" if planes else "channels last"

        def one(kernel: Any, dtype: str, note: str, more: dict[str, Any], planes: bool = planes, form: str = form,
                **given: str) -> Case:
            block = 256 if item[dtype] == 8 else 512 if planes else 1024
            bc = 1 if planes else max(128 // item[dtype], 16)
            types = {name: note or given.get(name, f"*{dtype}") for name, note in kernel.parameters.items()}
            constants = {"PLANES": planes, "VECTOR": 16 // item[dtype], "LONG": False, "BP": block // bc, "BC": bc}
            wide = not planes and kernel in (maxima, averages, gradient)
            if "ACC" in kernel.constants:
                constants["ACC"] = acc.get(dtype, tl.float32)
            aligned = tuple(n for n, t in types.items() if t[0] == "*")
            return Case(f"{kernel.name} {note}{' ' if note else ''}{form} {dtype}", kernel, types,
                        {**constants, **more}, aligned, wide=wide)

        for dtype, least in (("fp32", -math.inf), ("bf16", -math.inf), ("fp64", -math.inf), ("i64", -2**63)):
            for k in {"fp32": (2, 3, 0), "bf16": (3,)}.get(dtype, (0,)):
                for taps in (False, True) if dtype == "fp32" else (True,):
                    yield one(maxima, dtype, f"{k or 'any'}{' taps' if taps else ''}",
                              {"LEAST": least, "VALUES": True, "TAPS": taps, "KH": k, "KW": k}, taps="*u8")
        for dtype in ("fp32", "bf16", "fp64"):
            for n in {"fp32": (1, 2, 0), "bf16": (2,)}.get(dtype, (0,)):
                for taps in (False, True):
                    yield one(gradient, dtype, f"{'max' if taps else 'average'} {n or 'any'}",
                              {"MAX": taps, "INCLUDE": False, "DILATED": n == 0, "NH": n, "NW": n}, taps="*u8")
            for k in {"fp32": (2, 3, 0), "bf16": (3,)}.get(dtype, (0,)):
                yield one(averages, dtype, f"{k or 'any'}", {"INCLUDE": False, "KH": k, "KW": k})
            yield one(gather, dtype, "", {}, taps="*u8")
            for best in (False, True):
                yield one(adaptive, dtype, "max" if best else "average", {"MAX": best},
                          indices="*i64" if best else f"*{dtype}")
                yield one(adaptive_gradient, dtype, "max" if best else "average", {"MAX": best},
                          indices="*i64" if best else f"*{dtype}")
        yield one(averages, "i64", "any", {"INCLUDE": True, "KH": 0, "KW": 0})
        yield one(positions, "i8", "", {"BC": 1 if planes else 16, "VECTOR": 2}, taps="*u8", out="*i64")
