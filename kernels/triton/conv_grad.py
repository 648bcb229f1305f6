"""Gradients of convolutions with respect to their input (dgrad), weight (wgrad) and bias.

dgrad is convolutions again: input pixels of one residue modulo the stride meet one subset of the kernel's taps, and on
them the gradient is a plain convolution of ``dy``, of stride 1, with that subset turned by 180 degrees. Each of the
small convolutions, as many as the strides' product, writes its pixels of the result in place; no zeros are multiplied.

wgrad is a product over pixels, split into parts that are added in order: the same inputs give the same bits.
"""
from __future__ import annotations

import functools
import itertools
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.precision import precision
from tritium.kernels.reference.conv_grad import _taps
from tritium.kernels.reference.patches import Window
from tritium.kernels.triton import conv_configs as configs
from tritium.kernels.triton import conv_kernels as kernels
from tritium.kernels.triton import matmul, reduce
from tritium.kernels.triton.conv import (
    BACK,
    GROUP,
    KERNELS,
    LIMIT,
    SUMS,
    End,
    Plan,
    Prepared,
    Steps,
    View,
    flat,
    forward,
    image,
    is_product,
    matrix,
    multiplied,
    numbers_of,
    outside,
    pixels,
    sums_of,
)
from tritium.kernels.triton.matmul_configs import kind_of
from tritium.kernels.triton.memory import empty, zeros


def conv2d_input(dy: DeviceArray, weight: DeviceArray, size: Steps, stride: Steps = (1, 1),
                 padding: Steps = (0, 0, 0, 0), dilation: Steps = (1, 1), groups: int = 1) -> DeviceArray:
    """dy (N, O, OH, OW), weight (O, C / groups, kh, kw) -> dx (N, C, H, W) in NHWC storage; ``size`` is (H, W).

    Raises DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    return input_gradient(dy, weight, size, stride, padding, dilation, groups)


def conv2d_weight(x: DeviceArray, dy: DeviceArray, kernel: Steps, stride: Steps = (1, 1),
                  padding: Steps = (0, 0, 0, 0), dilation: Steps = (1, 1), groups: int = 1,
                  last: bool = False) -> DeviceArray:
    """x (N, C, H, W), dy (N, O, OH, OW) -> dw (O, C / groups, kh, kw); ``kernel`` is (kh, kw). dw is contiguous; with
    ``last`` its channels come last.

    Raises DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    return weight_gradient(x, dy, kernel, stride, padding, dilation, groups, last)


def bias_gradient(dy: DeviceArray) -> DeviceArray:
    """dy (N, O, *) -> (O,): its sum over images and pixels."""
    return reduce.sum(dy, (0, *range(2, dy.ndim)), False, dy.dtype)


def input_gradient(dy: DeviceArray, weight: DeviceArray, size: Steps, stride: Steps, padding: Steps, dilation: Steps,
                   groups: int) -> DeviceArray:
    """dy (N, O, *), weight (O, C / groups, *kernel) -> dx (N, C, *size), channels last."""
    w = Prepared(weight, groups)
    shape, back = (dy.shape[0], *size, groups * weight.shape[1]), BACK[dy.ndim]
    if is_product(w.kernel, stride, padding, groups) and dy.shape[2:] == tuple(size):
        left = flat(dy)
        if left is not None:
            return matmul.product(left, matrix(weight), tf32=precision.conv_tf32).reshape(shape).transpose(back)
    # what the residues along each dimension meet
    ways = [[_taps(a, b, k, s, d) for a in range(min(s, n))]
            for n, k, s, b, d in zip(size, w.kernel, stride, padding[::2], dilation, strict=True)]
    full = dy.size and weight.size and not any([None in way for way in ways])
    dx = (empty if full else zeros)(shape, dy.dtype, dy.owner.device)
    if not dy.size or not weight.size or not dx.size:
        return dx.transpose(back)
    form, d = w.form(turned=True), image(dy)
    others = (slice(None),) * (0 if form.ndim == d.ndim else 2)
    ones = (1,) * len(w.kernel)
    for phase in itertools.product(*[[(a, met) for a, met in enumerate(way) if met is not None] for way in ways]):
        turned, kernel, first, step = zip(*[met for _, met in phase], strict=True)
        part = dx[(slice(None), *[slice(a, None, s) for (a, _), s in zip(phase, stride, strict=True)])]
        g = Window(kernel, ones, tuple([-f for f in first]), step)
        forward(d, form[(*others, *turned)], groups, g, part, End())
    return dx.transpose(back)


def weight_gradient(x: DeviceArray, dy: DeviceArray, kernel: Steps, stride: Steps, padding: Steps, dilation: Steps,
                    groups: int, last: bool = False) -> DeviceArray:
    """x (N, C, *), dy (N, O, *) -> dw (O, C / groups, *kernel), contiguous or with the channels ``last``."""
    O, C = dy.shape[1], x.shape[1] // groups
    shape = (O, *kernel, C) if last else (O, C, *kernel)
    dw = _weight_gradient(x, dy, shape, kernel, stride, padding, dilation, groups, last)
    return dw.transpose(BACK[x.ndim]) if last else dw


def _weight_gradient(x: DeviceArray, dy: DeviceArray, shape: Steps, kernel: Steps, stride: Steps, padding: Steps,
                     dilation: Steps, groups: int, last: bool) -> DeviceArray:
    O, C = dy.shape[1], x.shape[1] // groups
    if not dy.size or not x.size:
        return zeros(shape, x.dtype, x.owner.device)
    if is_product(kernel, stride, padding, groups) and dy.shape[2:] == x.shape[2:]:
        left, right = flat(dy), flat(x)
        if left is not None and right is not None and left.ndim == right.ndim == 2:
            return matmul.product(left.T, right, tf32=precision.conv_tf32).reshape(shape)
    g = Window(tuple(kernel), tuple(stride), tuple(padding[::2]), tuple(dilation))
    x, d = image(x), image(dy)
    out = empty(shape, x.dtype, x.owner.device)
    make = _direct if configs.is_direct(groups, C, O // groups) else _products
    plan = make(x.dtype, x.owner.device, precision.conv_tf32, groups, g, View.of(x), View.of(d), last)
    if plan.second is None:
        plan.variant(*plan.grid, x, d, out, *plan.numbers)
    else:
        sums = empty((plan.parts * out.size,), plan.sums, x.owner.device)
        plan.variant(*plan.grid, x, d, sums, *plan.numbers)
        plan.second(-(-out.size // configs.COMBINE), 1, 1, sums, out, *plan.second_numbers)
    return out


@functools.lru_cache(maxsize=4096)
def _products(dtype: Any, device: int, tf32: bool, groups: int, g: Window, x: View, d: View, last: bool) -> Plan:
    size, to_size, C, O = x.shape[1:-1], d.shape[1:-1], x.shape[-1], d.shape[-1]
    M, item, active = pixels(d.shape), dtype.itemsize, runtime.active()
    C, O, taps, unit = C // groups, O // groups, g.taps, 16 // item
    kind, sums = kind_of(dtype, tf32), sums_of(dtype)
    uc, un = unit if C % unit == 0 else 1, unit if O % unit == 0 else 1
    vectors = x.unit > 1 and d.unit > 1 and uc > 1 and un > 1
    p = configs.weight(kind, item, M, O, C, taps, groups, active.properties(device), active.target == "hip",
                       active.emulated, vectors)
    tile = p.tile if len(size) == 2 else configs.solid(kind, p.tile, False)
    blocks = -(-M // tile.k)
    each = -(-blocks // p.parts)
    parts = -(-blocks // each)
    across = -(-taps * C // tile.n) if p.flat else -(-C // tile.n) * taps
    variant = KERNELS[len(size)].wgrad.bind(
        BM=tile.m, BN=tile.n, BK=tile.k, GROUP=GROUP, FLAT=p.flat, PAD=outside(g, to_size, size), UX=x.unit, UD=d.unit,
        UC=uc, UN=un, ACC=SUMS[sums], PRECISION=multiplied(kind), WIDE=max(x.reach(), d.reach()) > LIMIT,
        num_warps=tile.warps, num_stages=tile.stages)
    total = groups * O * C * taps
    order = (C, 1) if last or parts > 1 else (1, taps)
    numbers = (M, *to_size, *size, C // uc, O // un, *numbers_of(g), *x.units, x.channel, *d.units, d.channel,
               *order, total, each)
    plan = Plan(variant, (-(-O // tile.m) * across, parts, groups), numbers, parts, sums)
    return _combined(plan, total, *((C * taps, 1) if last else (C, taps)))


@functools.lru_cache(maxsize=4096)
def _direct(dtype: Any, device: int, tf32: bool, groups: int, g: Window, x: View, d: View, last: bool) -> Plan:
    size, to_size, C, O = x.shape[1:-1], d.shape[1:-1], x.shape[-1], d.shape[-1]
    M, active = pixels(d.shape), runtime.active()
    C, taps, unit = C // groups, g.taps, 16 // dtype.itemsize
    un = unit if O % unit == 0 else 1
    c = configs.direct(dtype.itemsize, M, O, taps * C, active.properties(device), active.emulated)
    blocks = -(-M // c.pixels)
    each = -(-blocks // c.parts)
    parts = -(-blocks // each)
    sums = sums_of(dtype)
    variant = KERNELS[len(size)].direct_wgrad.bind(
        BN=c.channels, BK=c.pixels, UX=x.unit, UD=d.unit, UN=un, ONE=C == 1 and groups == O, ACC=SUMS[sums],
        WIDE=max(x.reach(), d.reach()) > LIMIT, num_warps=c.warps)
    total = O * C * taps
    numbers = (M, *to_size, *size, C, O // un, O // groups, *numbers_of(g), *x.units, x.channel, *d.units, d.channel,
               total, each)
    plan = Plan(variant, (-(-O // c.channels), parts, taps * C), numbers, parts, sums)
    turns = last and C > 1  # the kernel writes (O, C, taps): what adds up the parts turns it, also a single one
    return _combined(plan, total, *((taps, C) if turns else (C * taps, 1)), turns)


def _combined(plan: Plan, size: int, C: int, taps: int, always: bool = False) -> Plan:
    """A plan with the sum of its parts, if there are more than one (or ``always``)."""
    if plan.parts == 1 and not always:
        return plan
    second = kernels.combine_weight.bind(BLOCK=configs.COMBINE, num_warps=4)
    return plan._replace(second=second, second_numbers=(size, C, taps, plan.parts))
