"""Gradients of the 2-D convolution with respect to its input (dgrad), weight (wgrad) and bias.

dgrad is convolutions again: input pixels of one residue modulo the stride meet one subset of the kernel's taps, and on
them the gradient is a plain convolution of ``dy``, of stride 1, with that subset turned by 180 degrees. Each of the
stride[0] * stride[1] small convolutions writes its pixels of the result in place; no zeros are multiplied.

wgrad is a product over pixels, split into parts that are added in order: the same inputs give the same bits.
"""
from __future__ import annotations

import functools
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.precision import precision
from tritium.kernels.reference.conv_grad import _taps
from tritium.kernels.reference.patches import Geometry
from tritium.kernels.triton import conv_configs as configs
from tritium.kernels.triton import conv_kernels as kernels
from tritium.kernels.triton import matmul, reduce
from tritium.kernels.triton.conv import (
    GROUP,
    LIMIT,
    SUMS,
    End,
    Pads,
    Pair,
    Plan,
    Prepared,
    View,
    flat,
    forward,
    image,
    is_product,
    multiplied,
    outside,
    pixels,
    sums_of,
    window,
)
from tritium.kernels.triton.matmul_configs import kind_of
from tritium.kernels.triton.memory import empty, zeros


def conv2d_input(dy: DeviceArray, weight: DeviceArray, size: Pair, stride: Pair = (1, 1),
                 padding: Pads = (0, 0, 0, 0), dilation: Pair = (1, 1), groups: int = 1) -> DeviceArray:
    """dy (N, O, OH, OW), weight (O, C / groups, kh, kw) -> dx (N, C, H, W) in NHWC storage; ``size`` is (H, W).

    Raises DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    w = Prepared(weight, groups)
    N, (H, W), (_, Cg, kh, kw) = dy.shape[0], size, weight.shape
    if is_product(kh, kw, stride, padding, groups) and dy.shape[2:] == (H, W):
        left = flat(dy)
        if left is not None:
            y = matmul.product(left, weight[:, :, 0, 0], tf32=precision.conv_tf32)
            return y.reshape(N, H, W, Cg).transpose(0, 3, 1, 2)
    rows = [_taps(a, padding[0], kh, stride[0], dilation[0]) for a in range(min(stride[0], H))]
    columns = [_taps(b, padding[2], kw, stride[1], dilation[1]) for b in range(min(stride[1], W))]
    full = dy.size and weight.size and None not in rows and None not in columns
    dx = (empty if full else zeros)((N, H, W, groups * Cg), dy.dtype, dy.owner.device)
    if not dy.size or not weight.size or not dx.size:
        return dx.transpose(0, 3, 1, 2)
    form = w.form(turned=True)
    d = image(dy)
    for a, vertical in enumerate(rows):
        for b, horizontal in enumerate(columns):
            if vertical is None or horizontal is None:
                continue
            (i, h, top, dh), (j, v, left_, dw) = vertical, horizontal
            part = dx[:, a :: stride[0], b :: stride[1]]
            taps = form[i, j] if form.ndim == 4 else form[:, :, i, j]
            forward(d, taps, groups, Geometry(h, v, 1, 1, -top, -left_, dh, dw), part, End())
    return dx.transpose(0, 3, 1, 2)


def conv2d_weight(x: DeviceArray, dy: DeviceArray, kernel: Pair, stride: Pair = (1, 1),
                  padding: Pads = (0, 0, 0, 0), dilation: Pair = (1, 1), groups: int = 1) -> DeviceArray:
    """x (N, C, H, W), dy (N, O, OH, OW) -> dw (O, C / groups, kh, kw), contiguous; ``kernel`` is (kh, kw).

    Raises DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    O, C, (kh, kw) = dy.shape[1], x.shape[1] // groups, kernel
    shape = (O, C, kh, kw)
    if not dy.size or not x.size:
        return zeros(shape, x.dtype, x.owner.device)
    if is_product(kh, kw, stride, padding, groups) and dy.shape[2:] == x.shape[2:]:
        left, right = flat(dy), flat(x)
        if left is not None and right is not None and left.ndim == right.ndim == 2:
            return matmul.product(left.T, right, tf32=precision.conv_tf32).reshape(shape)
    g = Geometry(kh, kw, *stride, padding[0], padding[2], *dilation)
    x, d = image(x), image(dy)
    out = empty(shape, x.dtype, x.owner.device)
    make = _direct if configs.is_direct(groups, C, O // groups) else _products
    plan = make(x.dtype, x.owner.device, precision.conv_tf32, groups, g, View.of(x), View.of(d))
    if plan.second is None:
        plan.variant(*plan.grid, x, d, out, *plan.numbers)
    else:
        sums = empty((plan.parts * out.size,), plan.sums, x.owner.device)
        plan.variant(*plan.grid, x, d, sums, *plan.numbers)
        plan.second(-(-out.size // configs.COMBINE), 1, 1, sums, out, *plan.second_numbers)
    return out


def conv2d_bias(dy: DeviceArray) -> DeviceArray:
    """dy (N, O, OH, OW) -> (O,): its sum over images and pixels."""
    return reduce.sum(dy, (0, 2, 3), False, dy.dtype)


@functools.lru_cache(maxsize=4096)
def _products(dtype: Any, device: int, tf32: bool, groups: int, g: Geometry, x: View, d: View) -> Plan:
    (_, H, W, C), (_, OH, OW, O) = x.shape, d.shape
    M, item, active = pixels(d.shape), dtype.itemsize, runtime.active()
    C, O, taps, unit = C // groups, O // groups, g.kh * g.kw, 16 // item
    kind, sums = kind_of(dtype, tf32), sums_of(dtype)
    uc, un = unit if C % unit == 0 else 1, unit if O % unit == 0 else 1
    vectors = x.unit > 1 and d.unit > 1 and uc > 1 and un > 1
    p = configs.weight(kind, item, M, O, C, taps, groups, active.properties(device), active.target == "hip",
                       active.emulated, vectors)
    tile = p.tile
    blocks = -(-M // tile.k)
    each = -(-blocks // p.parts)
    parts = -(-blocks // each)
    across = -(-taps * C // tile.n) if p.flat else -(-C // tile.n) * taps
    variant = kernels.wgrad.bind(
        BM=tile.m, BN=tile.n, BK=tile.k, GROUP=GROUP, FLAT=p.flat, PAD=outside(g, OH, OW, H, W), UX=x.unit, UD=d.unit,
        UC=uc, UN=un, ACC=SUMS[sums], PRECISION=multiplied(kind), WIDE=max(x.reach(), d.reach()) > LIMIT,
        num_warps=tile.warps, num_stages=tile.stages)
    size = groups * O * C * taps
    order = (1, taps) if parts == 1 else (C, 1)
    numbers = (M, OH, OW, H, W, C // uc, O // un, *window(g), *x.units, x.channel, *d.units, d.channel, *order, size,
               each)
    return _combined(Plan(variant, (-(-O // tile.m) * across, parts, groups), numbers, parts, sums), size, C, taps)


@functools.lru_cache(maxsize=4096)
def _direct(dtype: Any, device: int, tf32: bool, groups: int, g: Geometry, x: View, d: View) -> Plan:
    (_, H, W, C), (_, OH, OW, O) = x.shape, d.shape
    M, active = pixels(d.shape), runtime.active()
    C, taps, unit = C // groups, g.kh * g.kw, 16 // dtype.itemsize
    un = unit if O % unit == 0 else 1
    c = configs.direct(dtype.itemsize, M, O, taps * C, active.properties(device), active.emulated)
    blocks = -(-M // c.pixels)
    each = -(-blocks // c.parts)
    parts = -(-blocks // each)
    sums = sums_of(dtype)
    variant = kernels.direct_wgrad.bind(
        BN=c.channels, BK=c.pixels, UX=x.unit, UD=d.unit, UN=un, ONE=C == 1 and groups == O, ACC=SUMS[sums],
        WIDE=max(x.reach(), d.reach()) > LIMIT, num_warps=c.warps)
    size = O * C * taps
    numbers = (M, OH, OW, H, W, C, O // un, O // groups, *window(g), *x.units, x.channel, *d.units, d.channel, size,
               each)
    return _combined(Plan(variant, (-(-O // c.channels), parts, taps * C), numbers, parts, sums), size, C * taps, 1)


def _combined(plan: Plan, size: int, C: int, taps: int) -> Plan:
    """A plan with the sum of its parts, if there are more than one."""
    if plan.parts == 1:
        return plan
    second = kernels.combine_weight.bind(BLOCK=configs.COMBINE, num_warps=4)
    return plan._replace(second=second, second_numbers=(size, C, taps, plan.parts))
