"""Pooling of volumes and power pooling on the device: the launches of ``pool3d_kernels.py``.

Contiguous and channels-last volumes are taken as they are, and results lie as they do; others are copied first. Images
(N, C, H, W) are volumes with D = 1 to power pooling.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.array import NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import pool3d_kernels as kernels
from tritium.kernels.triton import reduce
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.channels import laid, laid_as, new
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.pool import Tiles, _float, _largest, _readers, tile_elements

Array = Any
Triple = tuple[int, int, int]


def _tiles(out: Array, other: Any, planes: bool) -> Tiles:
    """Tiles for writing ``out`` (N, C, D, H, W), from or to volumes of size ``other``."""
    N, C, D, H, W = out.shape
    itemsize = out.dtype.itemsize
    key = (Tiles, out.shape, other, planes, itemsize, tile_elements(itemsize))
    return remembered(key, Tiles, N, C, (D * H, W), (other[0] * other[1], other[2]), planes, itemsize)


# --- max ---


def _code(kernel: Triple) -> Any:
    n = math.prod(kernel)
    return np.uint8 if n < 256 else np.uint16 if n < 65536 else np.int32


def _max(x: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple,
         with_taps: bool) -> tuple[Array, Array]:
    if x.dtype.kind in "bc":
        raise NoKernel(f"max pooling of {x.dtype} has no Triton kernel: not implemented for cuda tensors")
    x, planes = laid(x)
    N, C, *inner = x.shape
    work = reduce._ordered(x.dtype)
    out = new(N, C, size, planes, x.dtype, x.device)
    taps = new(N, C, size, planes, _code(kernel), x.device) if with_taps else out
    if out.size:
        tiles = _tiles(out, tuple(inner), planes)
        launch = kernels.maxima3.bind(ACC=reduce.WORK[work], LEAST=reduce._least(work, "max"), TAPS=with_taps,
                                      **tiles.constants)
        launch(*tiles.grid, 1, x, out, taps, *tiles.numbers, *inner, *size, *kernel, *stride, *padding, *dilation)
    return out, taps.transpose((0, 2, 3, 4, 1))


def max_pool3d(x: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple) -> Array:
    """x (N, C, D, H, W) -> the maxima (N, C, *size). NaN anywhere in a window gives NaN."""
    return _max(x, size, kernel, stride, padding, dilation, False)[0]


def max_pool3d_with_taps(x: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple,
                         dilation: Triple) -> tuple[Array, Array]:
    """The maxima, and which tap (i * kh + j) * kw + m of its window each came from: the first that equals it; the last
    NaN where there are any; the number of taps where none lies inside. (N, OD, OH, OW, C), unsigned."""
    return _max(x, size, kernel, stride, padding, dilation, True)


def max_pool3d_indices(taps: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple,
                       dilation: Triple) -> Array:
    """PyTorch's indices: the flat position of each maximum in its volume of ``size``; (N, C, OD, OH, OW)."""
    code, planes = laid(taps.transpose((0, 4, 1, 2, 3)))
    out = empty(code.shape, np.int64, taps.device)
    if out.size:
        tiles = _tiles(out, size, planes)
        kernels.positions3.bind(**tiles.constants)(*tiles.grid, 1, code, out, *tiles.numbers, *size[1:], *out.shape[2:],
                                                   *kernel[1:], *stride, *padding, *dilation)
    return out


def max_pool3d_scatter(dy: Array, taps: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple,
                       dilation: Triple) -> Array:
    """dy (N, C, OD, OH, OW) added to the places its maxima came from; zero elsewhere. -> (N, C, *size)."""
    code, planes = laid(taps.transpose((0, 4, 1, 2, 3)))
    return _gradient("max", laid_as(dy, planes), code, dy, planes, size, kernel, stride, padding, dilation)


def max_pool3d_gather(x: Array, taps: Array, kernel: Triple, stride: Triple, padding: Triple,
                      dilation: Triple) -> Array:
    """x (N, C, D, H, W) at the places that ``taps`` (N, OD, OH, OW, C) name. -> (N, C, OD, OH, OW)."""
    code, planes = laid(taps.transpose((0, 4, 1, 2, 3)))
    x = laid_as(x, planes)
    N, C, *size = code.shape
    out = new(N, C, size, planes, x.dtype, x.device)
    if out.size:
        tiles = _tiles(out, x.shape[2:], planes)
        kernels.gather3.bind(**tiles.constants)(*tiles.grid, 1, x, code, out, *tiles.numbers, *x.shape[2:], *size,
                                                *kernel, *stride, *padding, *dilation)
    return out


def _gradient(how: str, dy: Array, taps: Array, x: Array, planes: bool, size: Triple, kernel: Triple, stride: Triple,
              padding: Triple, dilation: Triple = (1, 1, 1), include: bool = True, override: int = 0,
              p: float = 0.0) -> Array:
    acc = _float(dy.dtype)
    N, C, *outputs = dy.shape
    dx = new(N, C, size, planes, dy.dtype, dy.device)
    if dx.size and not dy.size:
        dx.fill(0)
    elif dx.size:
        most = [(k - 1) * d // s + 1 for k, d, s in zip(kernel, dilation, stride, strict=True)]
        tiles = _tiles(dx, tuple(outputs), planes)
        launch = kernels.gradient3.bind(ACC=acc, HOW=how, INCLUDE=include, POWER=_power(p), **tiles.constants)
        launch(*tiles.grid, 1, dy, taps, x, dx, *tiles.numbers, *size, *outputs, *kernel, *stride, *padding, *dilation,
               override, *most, float(p))
    return dx


# --- average, power ---


def _power(p: float) -> int:
    return int(p) if p in (1, 2) else 0


def _average(x: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple, include: bool, override: int,
             p: float = 0.0) -> Array:
    x, planes = laid(x)
    N, C, *inner = x.shape
    acc = tl.int64 if x.dtype == np.int64 else _float(x.dtype)
    out = new(N, C, size, planes, x.dtype, x.device)
    if out.size:
        tiles = _tiles(out, tuple(inner), planes)
        launch = kernels.averages3.bind(ACC=acc, INCLUDE=include, NORM=p != 0, POWER=_power(p), **tiles.constants)
        launch(*tiles.grid, 1, x, out, *tiles.numbers, *inner, *size, *kernel, *stride, *padding, override, float(p),
               1 / p if p else 0.0)
    return out


def avg_pool3d(x: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Array:
    """x (N, C, D, H, W) -> the averages (N, C, *size)."""
    return _average(x, size, kernel, stride, padding, bool(count_include_pad), divisor_override or 0)


def avg_pool3d_backward(dy: Array, size: Triple, kernel: Triple, stride: Triple, padding: Triple,
                        count_include_pad: bool = True, divisor_override: int | None = None) -> Array:
    """dy (N, C, OD, OH, OW) -> dx (N, C, *size)."""
    dy, planes = laid(dy)
    return _gradient("average", dy, dy, dy, planes, size, kernel, stride, padding, include=bool(count_include_pad),
                     override=divisor_override or 0)


def _deep(*windows: Any) -> list[Triple]:
    """Windows of images as windows of volumes."""
    return [(1, *w) for w in windows]


def lp_pool(x: Array, size: Any, kernel: Any, stride: Any, p: float) -> Array:
    """x (N, C, H, W) or (N, C, D, H, W) -> the p-norms of its windows (N, C, *size); no padding."""
    _float(x.dtype)
    if x.ndim == 4:
        size, kernel, stride = _deep(size, kernel, stride)
        return _average(x[:, :, None], size, kernel, stride, (0, 0, 0), True, 0, p)[:, :, 0]
    return _average(x, size, kernel, stride, (0, 0, 0), True, 0, p)


def lp_pool_backward(dy: Array, x: Array, y: Array, kernel: Any, stride: Any, p: float) -> Array:
    """The gradient of x from that of y = lp_pool(x, ...)."""
    if x.ndim == 4:
        dy, x, y = (a[:, :, None] for a in (dy, x, y))
        kernel, stride = _deep(kernel, stride)
        return lp_pool_backward(dy, x, y, kernel, stride, p)[:, :, 0]
    x, planes = laid(x)
    return _gradient("norm", laid_as(dy, planes), laid_as(y, planes), x, planes, x.shape[2:], kernel, stride, (0, 0, 0),
                     p=p)


# --- adaptive ---


def _adaptive(x: Array, size: Triple, best: bool) -> tuple[Array, Array]:
    acc = _float(x.dtype)
    x, planes = laid(x)
    N, C, *inner = x.shape
    out = new(N, C, size, planes, x.dtype, x.device)
    indices = new(N, C, size, planes, np.int64, x.device) if best else out
    if out.size:
        tiles = _tiles(out, tuple(inner), planes)
        most = [remembered((_largest, n, m), _largest, n, m) for n, m in zip(inner, size, strict=True)]
        launch = kernels.adaptive3.bind(ACC=acc, MAX=best, **tiles.constants)
        launch(*tiles.grid, 1, x, out, indices, *tiles.numbers, *inner, *size, *most)
    return out, indices


def _adaptive_gradient(dy: Array, indices: Array | None, planes: bool, size: Triple) -> Array:
    acc = _float(dy.dtype)
    N, C, *outputs = dy.shape
    dx = new(N, C, size, planes, dy.dtype, dy.device)
    if dx.size and not dy.size:
        dx.fill(0)
    elif dx.size:
        tiles = _tiles(dx, tuple(outputs), planes)
        most = [remembered((_readers, n, m), _readers, n, m) for n, m in zip(size, outputs, strict=True)]
        launch = kernels.adaptive_gradient3.bind(ACC=acc, MAX=indices is not None, **tiles.constants)
        launch(*tiles.grid, 1, dy, dy if indices is None else indices, dx, *tiles.numbers, *size, *outputs, *most)
    return dx


def adaptive_avg_pool3d(x: Array, size: Triple) -> Array:
    """x (N, C, D, H, W) -> the averages of size[0] x size[1] x size[2] cells (N, C, *size)."""
    return _adaptive(x, size, False)[0]


def adaptive_avg_pool3d_backward(dy: Array, size: Triple) -> Array:
    """dy (N, C, OD, OH, OW) -> dx (N, C, *size)."""
    dy, planes = laid(dy)
    return _adaptive_gradient(dy, None, planes, size)


def adaptive_max_pool3d(x: Array, size: Triple) -> tuple[Array, Array]:
    """x (N, C, D, H, W) -> the maxima of size[0] x size[1] x size[2] cells and their flat positions int64, both
    (N, C, *size)."""
    return _adaptive(x, size, True)


def index_scatter3d(dy: Array, indices: Array, size: Triple) -> Array:
    """dy (N, C, OD, OH, OW) added at the flat positions of volumes of ``size`` that ``adaptive_max_pool3d`` gave;
    -> (N, C, *size)."""
    indices, planes = laid(indices)
    return _adaptive_gradient(laid_as(dy, planes), indices, planes, size)


# --- shipped configurations ---


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    item = {"bf16": 2, "fp32": 4, "fp64": 8, "i64": 8, "i8": 1}
    acc = {"fp64": tl.float64, "i64": tl.int64}
    k = kernels
    for planes in (True, False):
        form = "planes" if planes else "channels last"

        def one(kernel: Any, dtype: str, note: str, more: dict[str, Any], planes: bool = planes, form: str = form,
                **given: str) -> Case:
            block = 256 if item[dtype] == 8 else 512 if planes else 1024
            bc = 1 if planes else max(128 // item[dtype], 16)
            types = {name: kind or given.get(name, f"*{dtype}") for name, kind in kernel.parameters.items()}
            constants = {"PLANES": planes, "VECTOR": 16 // item[dtype], "LONG": False, "BP": block // bc, "BC": bc}
            if "ACC" in kernel.constants:
                constants["ACC"] = acc.get(dtype, tl.float32)
            return Case(f"{kernel.name} {note}{' ' if note else ''}{form} {dtype}", kernel, types,
                        {**constants, **more}, tuple(n for n, t in types.items() if t[0] == "*"),
                        wide=not planes and kernel in (k.maxima3, k.averages3, k.gradient3) and dtype != "i64")

        for dtype, least in (("fp32", -math.inf), ("bf16", -math.inf), ("fp64", -math.inf), ("i64", -2**63)):
            yield one(k.maxima3, dtype, "taps", {"LEAST": least, "TAPS": True}, taps="*u8")
        for dtype in ("fp32", "bf16", "fp64"):
            for how, power, taps in (("max", 0, "*u8"), ("average", 0, f"*{dtype}"), ("norm", 2, f"*{dtype}"),
                                     ("norm", 0, f"*{dtype}")):
                yield one(k.gradient3, dtype, f"{how}{power or ''}", {"HOW": how, "INCLUDE": False, "POWER": power},
                          taps=taps)
            for norm, power in ((False, 0), (True, 1), (True, 2), (True, 0)):
                yield one(k.averages3, dtype, f"norm {power or 'any'}" if norm else "",
                          {"INCLUDE": False, "NORM": norm, "POWER": power})
            yield one(k.gather3, dtype, "", {}, taps="*u8")
            for best in (False, True):
                yield one(k.adaptive3, dtype, "max" if best else "average", {"MAX": best},
                          indices="*i64" if best else f"*{dtype}")
                yield one(k.adaptive_gradient3, dtype, "max" if best else "average", {"MAX": best},
                          indices="*i64" if best else f"*{dtype}")
        yield one(k.averages3, "i64", "", {"INCLUDE": True, "NORM": False, "POWER": 0})
        yield one(k.positions3, "i8", "", {"BC": 1 if planes else 16, "VECTOR": 2}, taps="*u8", out="*i64")
