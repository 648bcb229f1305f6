"""Convolution in two and three dimensions: what is computed how.

    y[n, o, p, q] = act(scale[o] * sum over c, i, j of x[n, c, p s - P + i d, q s - P + j d] w[o, c, i, j] + b[o] + r)

Images have any strides; large ones whose channels are not neighbours are copied once. The result has the shape NCHW
(NCDHW) and the storage NHWC (NDHWC). A 1x1 kernel of stride 1 is a product of matrices; few channels a group go tap by
tap (``direct``); everything else is a product whose left operand is gathered from the image (``implicit``). float32 may
be rounded to TF32 as ``precision.conv_tf32`` says; float16 and bfloat16 are summed in float32 and rounded once.

A plan (kernels, tiles, numbers) is made once for each combination of shapes and layouts. Each number of dimensions has
kernels of its own, which differ in nothing but that: shapes, steps and windows here are tuples of two or three.
"""
from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel, contiguous_steps
from tritium.kernels.precision import precision
from tritium.kernels.reference.patches import Window, output_size
from tritium.kernels.triton import conv3d_kernels, matmul
from tritium.kernels.triton import conv_configs as configs
from tritium.kernels.triton import conv_kernels as kernels
from tritium.kernels.triton.conv_cases import cases as cases
from tritium.kernels.triton.copy import channels_last, contiguous
from tritium.kernels.triton.matmul import SUMS
from tritium.kernels.triton.matmul_configs import INTEGER, TF32, kind_of
from tritium.kernels.triton.memory import empty

Steps = tuple[int, ...]  # a number for each dimension; pads are two: (top, bottom, left, right)
ACTIVATIONS = {None: kernels.none, "relu": kernels.relu, "relu6": kernels.relu6}
LIMIT = 2**31 - 2**20  # offsets below it are counted in 32 bits
GROUP = 8
KERNELS: dict[int, Any] = {2: kernels, 3: conv3d_kernels}
LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}  # the channels of an image to the end, by its dimensions
BACK = {4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}  # and to their place again


# --- what the tensor layer calls -----------------------------------------------------------------------

class Prepared:
    """A weight (O, C / groups, *kernel) in the orders that the kernels read, each made when first asked for.

    ``keep`` says that it will be used again, and changes nothing here. ``scale`` (O,), float32 or float64, multiplies
    the output channels (a folded batch norm) before anything is added. Later writes to the weight may not be seen."""

    def __init__(self, weight: DeviceArray, groups: int = 1, keep: bool = False,
                 scale: DeviceArray | None = None) -> None:
        if not isinstance(weight, DeviceArray):
            raise DeviceMismatch()
        if weight.dtype.kind == "c":
            raise NoKernel("convolution of complex numbers has no Triton kernel: not implemented for cuda tensors")
        self.weight, self.groups, self.scale, self.shape = weight, groups, scale, weight.shape
        O, C, *kernel = weight.shape
        self.kernel = tuple(kernel)
        self._grouped = weight.reshape(groups, O // groups, C, *kernel)
        self._places = tuple(range(3, 3 + len(kernel)))  # of the kernel's dimensions in it
        self._made: dict[Any, DeviceArray] = {}

    def dense(self, turned: bool = False) -> DeviceArray:
        """(groups, O / groups, *kernel, C / groups), a copy with adjacent C where that pays; ``turned``: O and C
        exchanged."""
        form = self._made.get(("dense", turned))
        if form is None:
            form = self._grouped.transpose((0, 2, *self._places, 1) if turned else (0, 1, *self._places, 2))
            if form.strides[-1] != form.itemsize and configs.converts(form.shape[-1], runtime.active().emulated):
                form = contiguous(form)
            self._made["dense", turned] = form
        return form

    def direct(self, turned: bool = False) -> DeviceArray:
        """(*kernel, C / groups, O), contiguous; ``turned``: (*kernel, O / groups, C)."""
        form = self._made.get(("direct", turned))
        if form is None:
            form = self._grouped.transpose((*self._places, 1, 0, 2) if turned else (*self._places, 2, 0, 1))
            form = form.reshape(*form.shape[:-2], -1 if form.size else 0)
            form = self._made["direct", turned] = form if form.dense else contiguous(form)
        return form

    def form(self, turned: bool = False) -> DeviceArray:
        """``direct`` or ``dense``, whichever the kernel for these channels reads."""
        _, O, C = self._grouped.shape[:3]
        return self.direct(turned) if self.is_direct(turned) else self.dense(turned)

    def is_direct(self, turned: bool = False) -> bool:
        """Whether there are few channels a group."""
        O, C = self._grouped.shape[1:3]
        return configs.is_direct(self.groups, O if turned else C, C if turned else O)


def prepare(weight: DeviceArray, groups: int = 1, scale: DeviceArray | None = None) -> Prepared:
    """A weight made ready once for many convolutions: give it to ``convolve`` in the weight's place."""
    return Prepared(weight, groups, keep=True, scale=scale)


def folded(weight: DeviceArray, groups: int, bias: DeviceArray | None, bn: Any) -> tuple[Prepared, DeviceArray | None]:
    """A weight made ready, and the bias that goes with it, with a batch norm folded in.

    ``bn``: None or (weight, bias, mean, var, eps), the first two may be None."""
    if bn is None:
        return prepare(weight, groups), None if bias is None else _dense(bias)
    gamma, beta, mean, var, eps = bn
    O = weight.shape[0]
    work = np.dtype(np.float64 if weight.itemsize == 8 else np.float32)
    scale, shift = (empty((O,), work, weight.owner.device) for _ in range(2))
    block = 1024 if runtime.active().emulated else 128
    given = [None if a is None else _dense(a) for a in (mean, var, gamma, beta, bias)]
    variant = kernels.fold.bind(WEIGHT=gamma is not None, SHIFT=beta is not None, BIAS=bias is not None, BLOCK=block,
                                num_warps=4)
    variant(-(-O // block), 1, 1, *[scale if a is None else a for a in given], scale, shift, O, eps)
    return prepare(weight, groups, scale), shift


def convolve(x: DeviceArray, weight: DeviceArray | Prepared, bias: DeviceArray | None, stride: Steps, padding: Steps,
             dilation: Steps, groups: int, residual: DeviceArray | None = None,
             activation: str | None = None) -> DeviceArray:
    """x (N, C, *size), weight (O, C / groups, *kernel), bias (O,) -> (N, O, *size of the output), channels last.

    ``residual``, of the output's shape, is added; ``activation`` is None, "relu" or "relu6". ``weight`` may be
    ``Prepared``, whose groups then count. Dtypes are equal."""
    w = weight if isinstance(weight, Prepared) else Prepared(weight, groups)
    N, _, *size = x.shape
    O = w.shape[0]
    act = ACTIVATIONS[activation]
    bias = bias if bias is None else _dense(bias)
    residual = residual if residual is None else residual.transpose(LAST[residual.ndim])
    if is_product(w.kernel, stride, padding, w.groups) and w.scale is None and (bias is None or residual is None):
        left = flat(x)
        c = bias if residual is None else residual.as_shape((N * math.prod(size), O))
        if left is not None and (residual is None or c is not None and left.ndim == 2):
            y = matmul.product(left, matrix(w.weight).T, c, act=act, tf32=precision.conv_tf32)
            return y.reshape(N, *size, O).transpose(BACK[x.ndim])
    before = tuple(padding[::2])
    sizes = map(output_size, size, w.kernel, stride, before, padding[1::2], dilation)
    out = empty((N, *sizes, O), x.dtype, x.owner.device)
    window = Window(w.kernel, tuple(stride), before, tuple(dilation))
    forward(image(x), w.form(), w.groups, window, out, End(w.scale, bias, residual, act))
    return out.transpose(BACK[x.ndim])


def conv2d(x: DeviceArray, weight: DeviceArray | Prepared, bias: DeviceArray | None = None, stride: Steps = (1, 1),
           padding: Steps = (0, 0, 0, 0), dilation: Steps = (1, 1), groups: int = 1, *,
           residual: DeviceArray | None = None, activation: str | None = None) -> DeviceArray:
    """x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (N, O, OH, OW) in NHWC storage.

    ``padding`` is (top, bottom, left, right). ``residual``, of the output's shape, is added; ``activation`` is None,
    "relu" or "relu6". ``weight`` may be ``Prepared``, whose groups then count. Dtypes are equal.
    Raises DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    return convolve(x, weight, bias, stride, padding, dilation, groups, residual, activation)


# --- images -------------------------------------------------------------------------------------------

def _dense(a: DeviceArray) -> DeviceArray:
    if not isinstance(a, DeviceArray):
        raise DeviceMismatch()
    return a if a.dense else contiguous(a)


def image(x: DeviceArray) -> DeviceArray:
    """(N, C, *) as (N, *, C): a view, or a copy with adjacent channels where that pays."""
    if x.strides[1] != x.itemsize and configs.converts(x.shape[1], runtime.active().emulated):
        x = channels_last(x)
    return x.transpose(LAST[x.ndim])


def is_product(kernel: Steps, stride: Steps, padding: Steps, groups: int) -> bool:
    """Whether a convolution is a product of pixels and weights."""
    return groups == 1 and max(*kernel, *stride) == 1 and not any(padding)


def matrix(weight: DeviceArray) -> DeviceArray:
    """A weight (O, C, 1, 1) as (O, C), a view."""
    return weight.look(weight.ptr, weight.shape[:2], weight.strides[:2])


def flat(x: DeviceArray) -> DeviceArray | None:
    """(N, C, *) as a matrix (pixels, C), or as a batch of them; None where only a copy could be."""
    if not x.size:
        return None
    N, C = x.shape[:2]
    view, pixels = x.transpose(LAST[x.ndim]), x.size // C
    found = view.as_shape((pixels, C))
    return view.as_shape((N, pixels // N, C)) if found is None else found


class View(NamedTuple):
    """The layout of an image (N, *, C). Steps in elements, 0 along dimensions of size 1; ``unit``: what divides
    those of pixels, a vector of adjacent channels or 1."""

    shape: Steps
    steps: Steps
    channel: int
    unit: int

    @classmethod
    def of(cls, a: DeviceArray) -> View:
        item = a.itemsize
        *pixels, c = [s // item if n > 1 else 0 for n, s in zip(a.shape, a.strides, strict=True)]
        if a.shape[-1] == 1:
            c = 1
        unit = 16 // item
        if c != 1 or a.ptr % 16 or any([s % unit for s in pixels]):
            unit = 1
        return cls(a.shape, tuple(pixels), c, unit)

    @classmethod
    def nowhere(cls, shape: Steps) -> View:
        """An image that is not read."""
        return cls(shape, (0,) * (len(shape) - 1), 1, 1)

    @property
    def units(self) -> Steps:
        """The steps of pixels in units."""
        return tuple([s // self.unit for s in self.steps])

    def reach(self) -> int:
        """How far from the first element the others lie, and the window's border with them."""
        return sum([(n + 64) * abs(s) for n, s in zip(self.shape, (*self.steps, self.channel), strict=True)])


# --- plans --------------------------------------------------------------------------------------------

class End(NamedTuple):
    """What follows the sums: factors (O,), bias (O,), residual (N, *, O), activation (a jit function)."""

    scale: DeviceArray | None = None
    bias: DeviceArray | None = None
    residual: DeviceArray | None = None
    act: Any = kernels.none


def forward(x: DeviceArray, w: DeviceArray, groups: int, g: Window, out: DeviceArray, e: End) -> None:
    """x (N, *, C) of any strides -> out (N, *, O), whose channels are adjacent.

    ``w``: (groups, O / groups, *kernel, C / groups), or (*kernel, C / groups, O) with adjacent O."""
    if not out.size:
        return
    key = (out.dtype, out.owner.device, precision.conv_tf32, groups, g, View.of(x), w.shape, w.strides, w.ptr & 15,
           View.of(out), None if e.residual is None else View.of(e.residual), e.scale is not None, e.bias is not None,
           e.act)
    plan = (_direct if w.ndim == x.ndim else _implicit)(*key)
    scale, bias, residual = (out if a is None else a for a in e[:3])
    if plan.second is None:
        plan.variant(*plan.grid, x, w, scale, bias, residual, out, *plan.numbers)
    else:
        sums = empty((plan.parts * out.size,), plan.sums, out.owner.device)
        plan.variant(*plan.grid, x, w, sums, sums, sums, sums, *plan.numbers)
        plan.second(-(-out.size // configs.COMBINE), 1, 1, sums, scale, bias, residual, out, *plan.second_numbers)


class Plan(NamedTuple):
    """How a convolution is launched: the kernel, its grid and numbers, and what adds up ``parts`` of dtype ``sums``."""

    variant: Any
    grid: tuple[int, int, int]
    numbers: Steps
    parts: int = 1
    sums: Any = None
    second: Any = None
    second_numbers: Steps = ()


def sums_of(dtype: Any) -> Any:
    """The dtype in which sums are kept."""
    wide = dtype.itemsize == 8
    if dtype.kind in "iub":
        return np.dtype(np.int64 if wide else np.int32)
    return np.dtype(np.float64 if wide else np.float32)


def multiplied(kind: str) -> str:
    """How a tile is multiplied, in the words of ``tl.dot``; "sum" for what it does not take."""
    return "sum" if kind == INTEGER else "tf32" if kind == TF32 else "ieee"


def numbers_of(g: Window) -> Steps:
    """The numbers of a window, as the kernels take them."""
    return (*g.kernel[1:], g.taps, *g.stride, *g.before, *g.dilation)


def outside(g: Window, out: Steps, size: Steps) -> bool:
    """Whether a tap of some output pixel lies outside the image."""
    return max(g.before) > 0 or any([end > n for end, n in zip(g.ends(out), size, strict=True)])


def pixels(shape: Steps) -> int:
    """How many pixels an image (N, *, C) has. Raises NoKernel for 2**31 of them."""
    M = math.prod(shape[:-1])
    if M > LIMIT:
        raise NoKernel("convolution with 2**31 output pixels")
    return M


@functools.lru_cache(maxsize=4096)
def _implicit(dtype: Any, device: int, tf32: bool, groups: int, g: Window, x: View, w_shape: Steps, w_strides: Steps,
              w_low: int, out: View, residual: View | None, scale: bool, bias: bool, act: Any) -> Plan:
    to_size, size, channels = out.shape[1:-1], x.shape[1:-1], out.shape[-1]
    M, item, active = pixels(out.shape), dtype.itemsize, runtime.active()
    O, C = w_shape[1], w_shape[-1]
    taps, unit, library = g.taps, 16 // item, KERNELS[len(size)]
    kind = kind_of(dtype, tf32)
    *steps, channel = [s // item if n > 1 else 0 for n, s in zip(w_shape, w_strides, strict=True)]
    channel = channel if C > 1 else 1
    uw = unit if channel == 1 and not w_low and not any([s % unit for s in steps]) else 1
    uc, un = unit if C % unit == 0 else 1, unit if O % unit == 0 else 1
    vectors = x.unit > 1 and uw > 1 and uc > 1
    p = configs.forward(kind, item, M, O, C, taps, groups, active.properties(device), active.target == "hip",
                        active.emulated, vectors, residual is not None)
    tile, parts = p.tile if len(size) == 2 else configs.solid(kind, p.tile, p.flat), p.parts
    blocks = -(-taps * C // tile.k) if p.flat else -(-C // tile.k) * taps
    each = max(1, -(-blocks // parts))
    parts = max(1, -(-blocks // each))
    sums = sums_of(dtype)
    w_reach = sum([n * abs(s) for n, s in zip(w_shape[1:], (*steps[1:], channel), strict=True)])
    to = out if parts == 1 else View(
        out.shape, contiguous_steps(out.shape[:-1], channels), 1, unit if channels % unit == 0 else 1)
    r = residual if residual is not None and parts == 1 else View.nowhere(out.shape)
    wide = max(x.reach(), to.reach(), r.reach(), 2 * w_reach) > LIMIT
    variant = library.implicit.bind(
        BM=tile.m, BN=tile.n, BK=tile.k, GROUP=GROUP, FLAT=p.flat, PAD=outside(g, to_size, size),
        EVEN=C % tile.k == 0, UX=x.unit, UW=uw, UO=to.unit, UR=r.unit, UC=uc, UN=un, SCALE=scale and parts == 1,
        BIAS=bias and parts == 1, RESIDUAL=residual is not None and parts == 1,
        ACT=act if parts == 1 else kernels.none, ACC=SUMS[sums], PRECISION=multiplied(kind), WIDE=wide,
        num_warps=tile.warps, num_stages=tile.stages)
    part = M * channels
    numbers = (M, *to_size, *size, C // uc, O // un, *numbers_of(g), *x.units, x.channel, *[s // uw for s in steps],
               channel, *to.units, *r.units, r.channel, part // to.unit, each)
    plan = Plan(variant, (-(-M // tile.m) * -(-O // tile.n), parts, groups), numbers)
    if parts > 1:
        r = residual if residual is not None else r
        un = 4 if channels % 4 == 0 else 1
        second = library.combine.bind(BLOCK=configs.COMBINE, UN=un, SCALE=scale, BIAS=bias,
                                      RESIDUAL=residual is not None, ACT=act, num_warps=4)
        plan = plan._replace(parts=parts, sums=sums, second=second, second_numbers=(
            M, channels // un, *to_size, *out.steps, *r.steps, r.channel, parts))
    return plan


@functools.lru_cache(maxsize=4096)
def _direct(dtype: Any, device: int, tf32: bool, groups: int, g: Window, x: View, w_shape: Steps, w_strides: Steps,
            w_low: int, out: View, residual: View | None, scale: bool, bias: bool, act: Any) -> Plan:
    to_size, size, O = out.shape[1:-1], x.shape[1:-1], out.shape[-1]
    M, item, active = pixels(out.shape), dtype.itemsize, runtime.active()
    C, unit, library = w_shape[-2], 16 // item, KERNELS[len(size)]
    d = configs.direct(item, M, O, -(-M // 64), active.properties(device), active.emulated)
    un = unit if O % unit == 0 else 1
    r = residual if residual is not None else View.nowhere(out.shape)
    steps = [s // item for s in w_strides[:-2]]
    uw = unit if not w_low and not any([s % unit for s in steps]) else 1
    wide = max(x.reach(), out.reach(), r.reach()) > LIMIT
    variant = library.direct.bind(
        BM=d.pixels, BN=d.channels, UX=x.unit, UW=uw, UO=out.unit, UR=r.unit, UN=un, ONE=C == 1 and groups == O,
        SCALE=scale, BIAS=bias, RESIDUAL=residual is not None, ACT=act, ACC=SUMS[sums_of(dtype)], WIDE=wide,
        num_warps=d.warps)
    numbers = (M, *to_size, *size, C, O // un, max(O // groups, 1), *numbers_of(g), *x.units, x.channel,
               *[s // uw for s in steps], *out.units, *r.units, r.channel)
    return Plan(variant, (-(-M // d.pixels), -(-O // d.channels), 1), numbers)
