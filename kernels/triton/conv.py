"""2-D convolution: what is computed how.

    y[n, o, p, q] = act(scale[o] * sum over c, i, j of x[n, c, p s - P + i d, q s - P + j d] w[o, c, i, j] + b[o] + r)

Images have any strides; large ones whose channels are not neighbours are copied once. The result has NCHW shape and
NHWC storage. A 1x1 kernel of stride 1 is a product of matrices; few channels a group go tap by tap (``direct``);
everything else is a product whose left operand is gathered from the image (``implicit``). float32 may be rounded to
TF32 as ``precision.conv_tf32`` says; float16 and bfloat16 are summed in float32 and rounded once.

A plan (kernels, tiles, numbers) is made once for each combination of shapes and layouts.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.precision import precision
from tritium.kernels.reference.patches import Geometry, output_size
from tritium.kernels.triton import conv_configs as configs
from tritium.kernels.triton import conv_kernels as kernels
from tritium.kernels.triton import matmul
from tritium.kernels.triton.conv_cases import cases as cases
from tritium.kernels.triton.copy import channels_last, contiguous
from tritium.kernels.triton.matmul import SUMS
from tritium.kernels.triton.matmul_configs import INTEGER, TF32, kind_of
from tritium.kernels.triton.memory import empty

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, bottom, left, right
Steps = tuple[int, ...]
ACTIVATIONS = {None: kernels.none, "relu": kernels.relu, "relu6": kernels.relu6}
LIMIT = 2**31 - 2**20  # offsets below it are counted in 32 bits
GROUP = 8


# --- what the tensor layer calls -----------------------------------------------------------------------

class Prepared:
    """A weight (O, C / groups, kh, kw) in the orders that the kernels read, each made when first asked for.

    ``keep`` says that it will be used again, and changes nothing here. ``scale`` (O,), float32 or float64, multiplies
    the output channels (a folded batch norm) before anything is added. Later writes to the weight may not be seen."""

    def __init__(self, weight: DeviceArray, groups: int = 1, keep: bool = False,
                 scale: DeviceArray | None = None) -> None:
        if not isinstance(weight, DeviceArray):
            raise DeviceMismatch()
        if weight.dtype.kind == "c":
            raise NoKernel("convolution of complex numbers has no Triton kernel: not implemented for cuda tensors")
        self.weight, self.groups, self.scale, self.shape = weight, groups, scale, weight.shape
        O, C, self.kh, self.kw = weight.shape
        self._grouped = weight.reshape(groups, O // groups, C, self.kh, self.kw)
        self._made: dict[Any, DeviceArray] = {}

    def dense(self, turned: bool = False) -> DeviceArray:
        """(groups, O / groups, kh, kw, C / groups), a copy with adjacent C where that pays; ``turned``: O and C
        exchanged."""
        form = self._made.get(("dense", turned))
        if form is None:
            form = self._grouped.transpose((0, 2, 3, 4, 1) if turned else (0, 1, 3, 4, 2))
            if form.strides[4] != form.itemsize and configs.converts(form.shape[4], runtime.active().emulated):
                form = contiguous(form)
            self._made["dense", turned] = form
        return form

    def direct(self, turned: bool = False) -> DeviceArray:
        """(kh, kw, C / groups, O), contiguous; ``turned``: (kh, kw, O / groups, C)."""
        form = self._made.get(("direct", turned))
        if form is None:
            form = self._grouped.transpose((3, 4, 1, 0, 2) if turned else (3, 4, 2, 0, 1))
            form = form.reshape(*form.shape[:3], -1) if form.size else form.reshape(*form.shape[:3], 0)
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
    """A weight made ready once for many convolutions: give it to ``conv2d`` in the weight's place."""
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


def conv2d(x: DeviceArray, weight: DeviceArray | Prepared, bias: DeviceArray | None = None, stride: Pair = (1, 1),
           padding: Pads = (0, 0, 0, 0), dilation: Pair = (1, 1), groups: int = 1, *,
           residual: DeviceArray | None = None, activation: str | None = None) -> DeviceArray:
    """x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (N, O, OH, OW) in NHWC storage.

    ``padding`` is (top, bottom, left, right). ``residual``, of the output's shape, is added; ``activation`` is None,
    "relu" or "relu6". ``weight`` may be ``Prepared``, whose groups then count. Dtypes are equal.
    Raises DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    w = weight if isinstance(weight, Prepared) else Prepared(weight, groups)
    N, _, H, W = x.shape
    O = w.shape[0]
    act = ACTIVATIONS[activation]
    bias = bias if bias is None else _dense(bias)
    residual = residual if residual is None else residual.transpose(0, 2, 3, 1)
    if is_product(w.kh, w.kw, stride, padding, w.groups) and w.scale is None and (bias is None or residual is None):
        left = flat(x)
        c = bias if residual is None else residual.as_shape((N * H * W, O))
        if left is not None and (residual is None or c is not None and left.ndim == 2):
            y = matmul.product(left, w.weight[:, :, 0, 0].T, c, act=act, tf32=precision.conv_tf32)
            return y.reshape(N, H, W, O).transpose(0, 3, 1, 2)
    g = Geometry(w.kh, w.kw, *stride, padding[0], padding[2], *dilation)
    OH = output_size(H, w.kh, stride[0], padding[0], padding[1], dilation[0])
    OW = output_size(W, w.kw, stride[1], padding[2], padding[3], dilation[1])
    out = empty((N, OH, OW, O), x.dtype, x.owner.device)
    forward(image(x), w.form(), w.groups, g, out, End(w.scale, bias, residual, act))
    return out.transpose(0, 3, 1, 2)


# --- images -------------------------------------------------------------------------------------------

def _dense(a: DeviceArray) -> DeviceArray:
    if not isinstance(a, DeviceArray):
        raise DeviceMismatch()
    return a if a.dense else contiguous(a)


def image(x: DeviceArray) -> DeviceArray:
    """(N, C, H, W) as (N, H, W, C): a view, or a copy with adjacent channels where that pays."""
    if x.strides[1] != x.itemsize and configs.converts(x.shape[1], runtime.active().emulated):
        x = channels_last(x)
    return x.transpose(0, 2, 3, 1)


def is_product(kh: int, kw: int, stride: Pair, padding: Pads, groups: int) -> bool:
    """Whether a convolution is a product of pixels and weights."""
    return kh == kw == groups == 1 and tuple(stride) == (1, 1) and not any(padding)


def flat(x: DeviceArray) -> DeviceArray | None:
    """(N, C, H, W) as a matrix (pixels, C), or as a batch of them; None where only a copy could be."""
    N, C, H, W = x.shape
    if not x.size:
        return None
    view = x.transpose(0, 2, 3, 1)
    matrix = view.as_shape((N * H * W, C))
    return view.as_shape((N, H * W, C)) if matrix is None else matrix


class View(NamedTuple):
    """The layout of an image (N, H, W, C). Steps in elements, 0 along dimensions of size 1; ``unit``: what divides
    those of pixels, a vector of adjacent channels or 1."""

    shape: Steps
    steps: Steps
    channel: int
    unit: int

    @classmethod
    def of(cls, a: DeviceArray) -> View:
        item = a.itemsize
        *pixels, c = [s // item if n > 1 else 0 for n, s in zip(a.shape, a.strides, strict=True)]
        if a.shape[3] == 1:
            c = 1
        unit = 16 // item
        if c != 1 or a.ptr % 16 or any([s % unit for s in pixels]):
            unit = 1
        return cls(a.shape, tuple(pixels), c, unit)

    @property
    def units(self) -> Steps:
        """The steps of pixels in units."""
        n, y, x = self.steps
        return n // self.unit, y // self.unit, x // self.unit

    def reach(self) -> int:
        """How far from the first element the others lie, and the window's border with them."""
        return sum([(n + 64) * abs(s) for n, s in zip(self.shape, (*self.steps, self.channel), strict=True)])


# --- plans --------------------------------------------------------------------------------------------

class End(NamedTuple):
    """What follows the sums: factors (O,), bias (O,), residual (N, OH, OW, O), activation (a jit function)."""

    scale: DeviceArray | None = None
    bias: DeviceArray | None = None
    residual: DeviceArray | None = None
    act: Any = kernels.none


def forward(x: DeviceArray, w: DeviceArray, groups: int, g: Geometry, out: DeviceArray, e: End) -> None:
    """x (N, H, W, C) of any strides -> out (N, OH, OW, O), whose channels are adjacent.

    ``w``: (groups, O / groups, kh, kw, C / groups), or (kh, kw, C / groups, O) with adjacent O."""
    if not out.size:
        return
    key = (out.dtype, out.owner.device, precision.conv_tf32, groups, g, View.of(x), w.shape, w.strides, w.ptr & 15,
           View.of(out), None if e.residual is None else View.of(e.residual), e.scale is not None, e.bias is not None,
           e.act)
    plan = (_direct if w.ndim == 4 else _implicit)(*key)
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


def window(g: Geometry) -> Steps:
    """The numbers of a geometry, as the kernels take them."""
    return (g.kw, g.kh * g.kw, g.sh, g.sw, g.top, g.left, g.dh, g.dw)


def outside(g: Geometry, OH: int, OW: int, H: int, W: int) -> bool:
    """Whether a tap of some output pixel lies outside the image."""
    return (g.top > 0 or g.left > 0 or (OH - 1) * g.sh - g.top + (g.kh - 1) * g.dh >= H
            or (OW - 1) * g.sw - g.left + (g.kw - 1) * g.dw >= W)


def pixels(shape: Steps) -> int:
    """N * OH * OW. Raises NoKernel for 2**31 of them."""
    M = shape[0] * shape[1] * shape[2]
    if M > LIMIT:
        raise NoKernel("convolution with 2**31 output pixels")
    return M


@functools.lru_cache(maxsize=4096)
def _implicit(dtype: Any, device: int, tf32: bool, groups: int, g: Geometry, x: View, w_shape: Steps, w_strides: Steps,
              w_low: int, out: View, residual: View | None, scale: bool, bias: bool, act: Any) -> Plan:
    N, OH, OW, O = out.shape
    _, H, W, _ = x.shape
    M, item, active = pixels(out.shape), dtype.itemsize, runtime.active()
    _, O, _, _, C = w_shape
    taps, unit = g.kh * g.kw, 16 // item
    kind = kind_of(dtype, tf32)
    *steps, channel = [s // item if n > 1 else 0 for n, s in zip(w_shape, w_strides, strict=True)]
    channel = channel if C > 1 else 1
    uw = unit if channel == 1 and not w_low and not any([s % unit for s in steps]) else 1
    uc, un = unit if C % unit == 0 else 1, unit if O % unit == 0 else 1
    vectors = x.unit > 1 and uw > 1 and uc > 1
    p = configs.forward(kind, item, M, O, C, taps, groups, active.properties(device), active.target == "hip",
                        active.emulated, vectors, residual is not None)
    tile, parts = p.tile, p.parts
    blocks = -(-taps * C // tile.k) if p.flat else -(-C // tile.k) * taps
    each = max(1, -(-blocks // parts))
    parts = max(1, -(-blocks // each))
    sums = sums_of(dtype)
    w_reach = sum([n * abs(s) for n, s in zip(w_shape[1:], (*steps[1:], channel), strict=True)])
    to = out if parts == 1 else View(out.shape, (OH * OW * out.shape[3], OW * out.shape[3], out.shape[3]), 1, 1)
    if parts > 1 and out.shape[3] % unit == 0:
        to = to._replace(unit=unit)
    r = residual if residual is not None and parts == 1 else View(out.shape, (0, 0, 0), 1, 1)
    wide = max(x.reach(), to.reach(), r.reach(), 2 * w_reach) > LIMIT
    variant = kernels.implicit.bind(
        BM=tile.m, BN=tile.n, BK=tile.k, GROUP=GROUP, FLAT=p.flat, PAD=outside(g, OH, OW, H, W),
        EVEN=C % tile.k == 0, UX=x.unit, UW=uw, UO=to.unit, UR=r.unit, UC=uc, UN=un, SCALE=scale and parts == 1,
        BIAS=bias and parts == 1, RESIDUAL=residual is not None and parts == 1,
        ACT=act if parts == 1 else kernels.none, ACC=SUMS[sums], PRECISION=multiplied(kind), WIDE=wide,
        num_warps=tile.warps, num_stages=tile.stages)
    part = M * out.shape[3]
    numbers = (M, OH, OW, H, W, C // uc, O // un, *window(g), *x.units, x.channel, *[s // uw for s in steps], channel,
               *to.units, *r.units, r.channel, part // to.unit, each)
    plan = Plan(variant, (-(-M // tile.m) * -(-O // tile.n), parts, groups), numbers)
    if parts > 1:
        r = residual if residual is not None else r
        un = 4 if out.shape[3] % 4 == 0 else 1
        second = kernels.combine.bind(BLOCK=configs.COMBINE, UN=un, SCALE=scale, BIAS=bias,
                                      RESIDUAL=residual is not None, ACT=act, num_warps=4)
        plan = plan._replace(parts=parts, sums=sums, second=second, second_numbers=(
            M, out.shape[3] // un, OH, OW, *out.steps, *r.steps, r.channel, parts))
    return plan


@functools.lru_cache(maxsize=4096)
def _direct(dtype: Any, device: int, tf32: bool, groups: int, g: Geometry, x: View, w_shape: Steps, w_strides: Steps,
            w_low: int, out: View, residual: View | None, scale: bool, bias: bool, act: Any) -> Plan:
    N, OH, OW, O = out.shape
    _, H, W, _ = x.shape
    M, item, active = pixels(out.shape), dtype.itemsize, runtime.active()
    C, unit = w_shape[2], 16 // item
    d = configs.direct(item, M, O, -(-M // 64), active.properties(device), active.emulated)
    un = unit if O % unit == 0 else 1
    r = residual if residual is not None else View(out.shape, (0, 0, 0), 1, 1)
    steps = [s // item for s in w_strides[:2]]
    uw = unit if not w_low and not any([s % unit for s in steps]) else 1
    wide = max(x.reach(), out.reach(), r.reach()) > LIMIT
    variant = kernels.direct.bind(
        BM=d.pixels, BN=d.channels, UX=x.unit, UW=uw, UO=out.unit, UR=r.unit, UN=un, ONE=C == 1 and groups == O,
        SCALE=scale, BIAS=bias, RESIDUAL=residual is not None, ACT=act, ACC=SUMS[sums_of(dtype)], WIDE=wide,
        num_warps=d.warps)
    numbers = (M, OH, OW, H, W, C, O // un, max(O // groups, 1), *window(g), *x.units, x.channel, steps[0] // uw,
               steps[1] // uw, *out.units, *r.units, r.channel)
    return Plan(variant, (-(-M // d.pixels), -(-O // d.channels), 1), numbers)
