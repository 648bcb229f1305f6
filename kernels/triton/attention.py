"""Scaled dot-product attention without the matrix of weights in memory; see ``attention_kernels`` for how.

    out = dropout(softmax(scale q k^T + mask)) v

q (batch, heads, L, E), k (batch, few, S, E) and v (batch, few, S, Ev), where ``few`` divides the heads: a group of
heads shares keys and values. float16 and bfloat16 are multiplied by matrix instructions with float32 sums; float32 in
float32, unless ``precision`` allows TF32. Saved for the backward pass is the logsumexp of the scores, in float32
(float64 for float64). Dropout is known by (seed, offset), never stored.
"""
from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.precision import precision
from tritium.kernels.triton import attention_configs as configs
from tritium.kernels.triton import attention_kernels as kernels
from tritium.kernels.triton import dropout as dropouts
from tritium.kernels.triton.attention_cases import cases as cases
from tritium.kernels.triton.copy import copy_into
from tritium.kernels.triton.matmul_configs import kind_of
from tritium.kernels.triton.memory import broadcast_to, empty
from tritium.kernels.triton.random import threshold
from tritium.kernels.triton.strided import LIMIT, order_like

Dropout = tuple[float, Any]  # the rate, and where its numbers are: (seed, offset)


def widest(dtype: Any) -> int:
    """The largest head dimension: beyond it the sums of a tile do not fit the registers."""
    return 256 if dtype.itemsize == 2 else 128


# --- dropout --------------------------------------------------------------------------------------

def draw(stream: Any, shape: tuple[int, ...], rate: float) -> Dropout:
    """Dropout of weights (batch, heads, L, S) with random numbers of their own."""
    return rate, stream.take(math.prod(shape[:-1]) * (shape[-1] + 3 & -4))


def multipliers(like: DeviceArray, shape: tuple[int, ...], dropout: Dropout) -> DeviceArray:
    """What dropout multiplies the weights (batch, heads, L, S) by, 0 or 1 / (1 - rate), in the dtype of ``like``."""
    rate, (seed, offset) = dropout
    whole = empty((*shape[:-1], shape[-1] + 3 & -4), like.dtype, like.device)
    whole.fill(1)
    return dropouts.masked(whole, seed, offset, 1.0 - rate, _gain(rate), out=whole)[..., :shape[-1]]


def _gain(rate: float) -> float:
    return 1.0 / (1.0 - rate) if rate < 1.0 else 0.0


# --- plans: how arrays of some shapes and strides are launched --------------------------------------

class Plan(NamedTuple):
    """What a launch takes besides arrays. ``sizes``: heads, group, L, S, E, EV in units; ``constants``: those of every
    kernel; ``tile``: the configuration of a kernel."""

    sizes: tuple[int, ...]
    constants: dict[str, Any]
    padded: tuple[int, int]
    kind: str
    batch: int

    def tile(self, which: str, causal: bool, plain: bool, device: int) -> configs.Config:
        active = runtime.active()
        return configs.choose(which, self.kind, *self.padded, causal, plain, active.properties(device),
                              active.target == "hip", active.emulated)


@functools.lru_cache(maxsize=4096)
def _plan(dtype: Any, q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], tf32: bool) -> Plan:
    """For queries, keys and values of these shapes."""
    B, H, L, E = q
    few, S, EV = k[1], k[2], v[3]
    BE, BV, unit = _power(E), _power(EV), 16 // dtype.itemsize
    kind = kind_of(dtype, tf32)
    acc = tl.float64 if kind == configs.FLOAT64 else tl.float32
    constants = {"BE": BE, "BV": BV, "UNIT": unit, "FULL": BE == E and BV == EV, "ACC": acc,
                 "PRECISION": "tf32" if kind == configs.TF32 else "ieee"}
    sizes = (H, H // max(few, 1) or 1, L, S, E // unit, EV // unit)
    return Plan(sizes, constants, (BE, BV), kind, B)


def _power(n: int) -> int:
    """The power of 2 that covers n, 16 at least: the least that matrix instructions take."""
    return 1 << max(n - 1, 15).bit_length()


def _fits(a: DeviceArray) -> bool:
    """Whether rows and the steps between rows, heads and batches are multiples of 16 bytes, and each row lies
    together."""
    if (a.ptr | a.shape[3] * a.itemsize) & 15 or a.shape[3] > 1 and a.strides[3] != a.itemsize:
        return False
    for n, s in zip(a.shape[:3], a.strides, strict=False):
        if s & 15 and n > 1:
            return False
    return a.shape[2] < 2 or abs(a.strides[2]) < LIMIT // 256


def _aligned(a: DeviceArray) -> DeviceArray:
    """The array as kernels read it: copied where it does not fit, with rows filled up with zeros."""
    if _fits(a):
        return a
    E = a.shape[3]
    whole = _whole(a, E)
    made = empty((*a.shape[:3], whole), a.dtype, a.device)
    copy_into(made[..., :E], a)
    if whole > E:
        made[..., E:].fill(0)
    return made


def _whole(a: DeviceArray, columns: int) -> int:
    """Columns of rows of whole vectors."""
    return -(-columns * a.itemsize // 16) * 16 // a.itemsize


def _steps(a: DeviceArray, unit: int) -> tuple[int, ...]:
    """Strides of batches, heads and rows in units; 0 where there is one of them."""
    size = unit * a.itemsize
    return tuple([s // size if n > 1 else 0 for n, s in zip(a.shape[:3], a.strides, strict=False)])


def _like(a: DeviceArray, columns: int) -> DeviceArray:
    """An array with rows of so many columns, filled up to whole vectors, with the dimensions in memory as those of
    ``a`` are."""
    shape = (*a.shape[:3], _whole(a, columns))
    out = empty(shape, a.dtype, a.device)
    if a.dense or any(s <= 0 and n > 1 for n, s in zip(a.shape, a.strides, strict=True)):
        return out
    return out.look(out.ptr, shape, (*order_like(shape[:3], a.strides[:3], shape[3] * a.itemsize), a.itemsize))


def _cut(a: DeviceArray, columns: int) -> DeviceArray:
    """The array without what its rows were filled up with."""
    return a if a.shape[3] == columns else a[..., :columns].copy()


class Mask(NamedTuple):
    """A mask as kernels take it: broadcast, and its strides, those of batches, heads and rows in units."""

    array: DeviceArray
    form: str
    unit: int
    steps: tuple[int, ...]

    @classmethod
    def of(cls, mask: DeviceArray | None, q: DeviceArray, S: int) -> Mask:
        if mask is None:
            return cls(q, "", 1, (0, 0, 0, 1))
        if any(abs(s) >= LIMIT // 256 for s in mask.strides[2:]):
            mask = mask.copy()
        seen = broadcast_to(mask, (*q.shape[:3], S))
        step = seen.strides[3] // mask.itemsize if S > 1 else 1
        unit = 16 // mask.itemsize if step == 1 and _fits(seen) else 1
        return cls(mask, "bool" if mask.dtype == np.bool_ else "add", unit, (*_steps(seen, unit), step))


class Numbers(NamedTuple):
    """Scale and dropout, as kernels take them."""

    numbers: tuple[Any, ...]
    drop: bool

    @classmethod
    def of(cls, scale: float, dropout: Dropout | None) -> Numbers:
        if dropout is None:
            return cls((scale, 0, 0, 0, 1.0), False)
        rate, (seed, offset) = dropout
        return cls((scale, seed, offset, threshold(1.0 - rate), _gain(rate)), True)


# --- forward and backward ---------------------------------------------------------------------------

def forward(q: DeviceArray, k: DeviceArray, v: DeviceArray, mask: DeviceArray | None, causal: bool, scale: float,
            dropout: Dropout | None) -> tuple[DeviceArray, DeviceArray]:
    """out (batch, heads, L, Ev), in memory as q is, and logsumexp (batch, heads, L), +inf in rows without weights,
    where out is 0.

    ``mask``: broadcasts to (batch, heads, L, S): bool, True where there is a weight, or numbers to be added to the
    scores; ``causal``: no weights for columns beyond the row. E and Ev are ``widest(dtype)`` at most."""
    out, columns = _like(q, v.shape[3]), v.shape[3]
    q, k, v = _aligned(q), _aligned(k), _aligned(v)
    work = np.dtype(np.float64 if q.dtype == np.float64 else np.float32)
    logsumexp = empty(q.shape[:3], work, q.device)
    unit = 16 // q.itemsize
    plan = _plan(q.dtype, q.shape, k.shape, v.shape, precision.tf32)
    seen, how = Mask.of(mask, q, k.shape[2]), Numbers.of(scale, dropout)
    tile = plan.tile(configs.FORWARD, causal, not (seen.form or how.drop), q.device)
    heads, _, L, S, *_ = plan.sizes
    kernels.forward.bind(BM=tile.m, BN=tile.n, MASK=seen.form, DROP=how.drop, CAUSAL=causal, EVEN_L=L % tile.m == 0,
                         EVEN_S=S % tile.n == 0, FOLD=scale > 0, MUNIT=seen.unit, num_warps=tile.warps,
                         num_stages=tile.stages, **plan.constants)(
        -(-L // tile.m) * heads * plan.batch, 1, 1, q, k, v, seen.array, out, logsumexp, *plan.sizes, *_steps(q, unit),
        *_steps(k, unit), *_steps(v, unit), *_steps(out, unit), *seen.steps, *how.numbers)
    return _cut(out, columns), logsumexp


def backward(g: DeviceArray, q: DeviceArray, k: DeviceArray, v: DeviceArray, mask: DeviceArray | None,
             out: DeviceArray, logsumexp: DeviceArray, causal: bool, scale: float, dropout: Dropout | None,
             needs: tuple[bool, bool, bool, bool]) -> tuple[DeviceArray | None, ...]:
    """The gradients of q, k, v and mask from that of ``out``; None for those that ``needs`` does not ask for.

    The first three are in memory as what they belong to."""
    originals, unit = (q, k, v), 16 // q.itemsize
    g, q, k, v, out = (_aligned(a) for a in (g, q, k, v, out))
    plan = _plan(q.dtype, q.shape, k.shape, v.shape, precision.tf32)
    seen, how = Mask.of(mask, q, k.shape[2]), Numbers.of(scale, dropout)
    heads, group, L, S, _, EV = plan.sizes
    programs = heads * plan.batch
    work = plan.constants["ACC"]
    delta = empty(q.shape[:3], logsumexp.dtype, q.device)
    tile = plan.tile(configs.SUMS, causal, True, q.device)
    kernels.row_sums.bind(BM=tile.m, BV=plan.padded[1], UNIT=unit, FULL=EV * unit == plan.padded[1],
                          EVEN_L=L % tile.m == 0, ACC=work, num_warps=tile.warps)(
        -(-L // tile.m) * programs, 1, 1, g, out, delta, heads, L, EV, *_steps(g, unit), *_steps(out, unit))
    plain = not (seen.form or how.drop)
    common = (*_steps(q, unit), *_steps(k, unit), *_steps(v, unit), *_steps(g, unit))
    dq = dk = dv = dm = None

    def launch(which: str, kernel: Any, programs: Any, arrays: tuple[Any, ...], more: tuple[Any, ...],
               **constants: Any) -> None:
        tile = plan.tile(which, causal, plain, q.device)
        kernel.bind(BM=tile.m, BN=tile.n, DROP=how.drop, EVEN_L=L % tile.m == 0, EVEN_S=S % tile.n == 0,
                    MUNIT=seen.unit, num_warps=tile.warps, num_stages=tile.stages, **plan.constants, **constants)(
            programs(-(-L // tile.m), -(-S // tile.n)), 1, 1, q, k, v, seen.array, g, logsumexp, delta, *arrays,
            *plan.sizes, *more, *seen.steps, *how.numbers)

    if needs[1] or needs[2]:
        dk, dv = (_like(a, a.shape[3]) for a in originals[1:])
        parts = [(configs.KEYS, *needs[1:3])]
        if needs[1] and needs[2] and not plan.tile(configs.KEYS, causal, plain, q.device).both:
            parts = [(configs.KEYS, True, False), (configs.VALUES, False, True)]
        for which, keys, values in parts:
            launch(which, kernels.keys_gradient, lambda m, n: n * (programs // group), (dk, dv),
                   (*common, *_steps(dk, unit), *_steps(dv, unit)), MASK=seen.form, CAUSAL=causal, KEYS=keys,
                   VALUES=values)
    if needs[0]:
        dq = _like(originals[0], originals[0].shape[3])
        launch(configs.QUERIES, kernels.queries_gradient, lambda m, n: m * programs, (dq,),
               (*common, *_steps(dq, unit)), MASK=seen.form, CAUSAL=causal)
    if needs[3]:
        assert mask is not None
        own_batch, own_heads = ((1, 1) + mask.shape)[-4:-2]
        dm = empty((own_batch, own_heads, L, S), np.float64 if logsumexp.itemsize == 8 else np.float32, q.device)
        repeats = programs // max(own_batch * own_heads, 1)
        steps = (heads if own_heads == 1 else 1, 1 if own_heads == 1 else heads)
        launch(configs.MASK, kernels.mask_gradient, lambda m, n: m * n * own_batch * own_heads, (dm,),
               (repeats, *steps, *common))
        dm = _reduced(dm, mask)
    made = (None if a is None or not n else _cut(a, b.shape[3])
            for a, b, n in zip((dq, dk, dv), originals, needs[:3], strict=True))
    return (*made, dm)


def _reduced(dm: DeviceArray, mask: DeviceArray) -> DeviceArray:
    """The gradient of whole matrices as that of the mask, which may have one row or column for all."""
    from tritium.kernels.triton import reduce

    shape = ((1, 1, 1, 1) + mask.shape)[-4:]
    axes = tuple([d for d in (2, 3) if shape[d] == 1 and dm.shape[d] != 1])
    if axes:
        dm = reduce.sum(dm, axes, True, dm.dtype)
    return dm.astype(mask.dtype, copy=False).reshape(mask.shape)
