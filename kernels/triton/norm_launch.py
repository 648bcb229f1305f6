"""The launches that batch norm and group norm share: statistics, the normalization itself, sums of gradients."""
from __future__ import annotations

import math
from typing import Any

from tritium.kernels.array import DeviceArray
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.norm_forms import ACC, Form, empty_like, f64, joining, vector, work_dtype
from tritium.kernels.triton.norm_kernels import apply, gradient, moments, moments_joined, sums, sums_joined

Array = DeviceArray
FEW = 16  # parts of a sum that each program of ``gradient`` joins by itself


def statistics(x: Array, form: Form, eps: float, dtype: Any, var: bool, means: Array | None = None,
               variances: Array | None = None, momentum: float = 0.0,
               counter: Array | None = None) -> tuple[Array, Array, Array]:
    """(mean, invstd, var) of the channels, (C,) in ``dtype``; running statistics move, ``counter`` goes up by one."""
    C, device = form.C, x.owner.device
    mean, invstd = (empty((C,), dtype, device) for _ in range(2))
    variance = empty((C,), dtype, device) if var else mean
    count = form.N * form.S
    flags = {"RUN_MEAN": means is not None, "RUN_VAR": variances is not None, "VAR": var, "COUNT": counter is not None}
    outs = (mean, invstd, variance, *[mean if a is None else a for a in (means, variances, counter)])
    numbers = (float(eps), float(momentum), count / (count - 1) if count > 1 else math.nan)
    part = form.splits > 1
    first = moments.bind(ACC=ACC[work_dtype(x.dtype)], PART=part, **(dict.fromkeys(flags, False) if part else flags),
                         **form.constants)
    if not part:
        first(form.programs, 1, 1, x, mean, *outs, *form.numbers, form.span, *numbers)
        return mean, invstd, variance
    parts = empty((3, form.splits, C), f64, device)
    first(form.programs, form.splits, 1, x, parts, *outs[:3], mean, mean, mean, *form.numbers, form.span, *numbers)
    bk, br = joining(C, form.splits)
    second = moments_joined.bind(**flags, BK=bk, BR=br)
    second(-(-C // bk), 1, 1, parts, *outs, C, form.splits, *numbers)
    return mean, invstd, variance


def applied(x: Array, form: Form, mode: str, mean: Array, scale: Array, weight: Array | None, bias: Array | None,
            eps: float = 0.0, residual: Array | None = None, activation: str | None = None, per: int = 0,
            channels: int = 1) -> Array:
    """``activation((x - mean) * scale * weight + bias + residual)``, of x's layout; ``mode`` as in ``apply``. The
    residual is laid out like x. ``per``: channels of a group."""
    out = empty_like(x)
    launch = apply.bind(ACC=ACC[work_dtype(x.dtype)], MODE=mode, WEIGHT=weight is not None, BIAS=bias is not None,
                        RESIDUAL=residual is not None, ACT=activation or "", GROUPED=per > 0, **form.constants)
    launch(form.programs, form.chunks, 1, x, out, x if residual is None else residual, mean, scale,
           vector(weight, scale), vector(bias, scale), *form.numbers, form.chunk, max(per, 1), channels, float(eps))
    return out


class Passes:
    """What an activation lets through of a gradient: told by the result ``y``, or without one by the batch norm taken
    again, whose ``bias`` is given. ``store``: whether what passes is to be kept. ``eps``: that of the variances which
    are given in place of invstd, or None."""

    __slots__ = ("bias", "constants", "eps", "y")

    def __init__(self, activation: str | None = None, bias: Array | None = None, y: Array | None = None,
                 store: bool = False, eps: float | None = None) -> None:
        told = "" if activation is None else "x" if y is None else "y"
        self.y = y if told == "y" else None
        self.bias = bias if told == "x" else None
        self.eps = 0.0 if eps is None else float(eps)
        self.constants = {"VAR": eps is not None, "BIAS": self.bias is not None, "ACT": activation or "", "TOLD": told,
                          "DZ": store}


def summed(dy: Array, x: Array, form: Form, mean: Array, invstd: Array, weight: Array | None = None,
           passes: Passes | None = None, dz: Array | None = None, per: int = 0) -> Array:
    """Parts of sum dz and of sum dz h: (2, splits, C), float64. ``dz``: where what passes is written."""
    parts = empty((2, form.splits, form.C), f64, x.owner.device)
    passes = passes or Passes()
    weighs = passes.constants["TOLD"] == "x" and weight is not None
    launch = sums.bind(ACC=ACC[work_dtype(x.dtype)], WEIGHT=weighs, **passes.constants, GROUPED=per > 0, ROWS="",
                       **form.constants)
    launch(form.programs, form.splits, 1, dy, x, x if passes.y is None else passes.y, x if dz is None else dz, mean,
           invstd, vector(weight if weighs else None, mean), vector(passes.bias, mean), parts, *form.numbers,
           form.span, max(per, 1), passes.eps)
    return parts


def written(dy: Array, x: Array, form: Form, mean: Array, invstd: Array, weight: Array | None, passes: Passes,
            train: bool, parts: Array | None, dz: Array | None = None, dweight: Array | None = None,
            dbias: Array | None = None, count: float = 1.0, per: int = 0, channels: int = 1) -> Array:
    """dx; also dz, where given, and with ``dweight`` both gradients of the parameters, from the few parts of the sums.
    ``per``: channels of a group, of which ``parts`` then are the means."""
    dx = empty_like(x)
    splits = 1 if parts is None or per else parts.shape[1]
    launch = gradient.bind(ACC=ACC[work_dtype(x.dtype)], WEIGHT=weight is not None, **passes.constants, TRAIN=train,
                           STORE=dweight is not None, FEW=1 if splits == 1 else FEW, GROUPED=per > 0,
                           **form.constants)
    launch(form.programs, form.chunks, 1, dy, x, x if passes.y is None else passes.y, dx, x if dz is None else dz, mean,
           invstd, vector(weight, mean), vector(passes.bias, mean), mean if parts is None else parts,
           mean if dweight is None else dweight, mean if dbias is None else dbias, *form.numbers, form.chunk,
           max(per, 1), channels, splits, count, passes.eps)
    return dx


def joined(parts: Array, dweight: Array | None = None, dbias: Array | None = None) -> Array:
    """The sums of all splits, float64 (2, 1, C), or written as gradients; without ``dbias`` the second ones alone."""
    _, splits, C = parts.shape
    store = dweight is not None
    totals = parts if store else empty((2, 1, C), f64, parts.owner.device)
    bk, br = joining(C, splits)
    launch = sums_joined.bind(STORE=store, BOTH=not store or dbias is not None, TOTALS=not store, BK=bk, BR=br)
    launch(-(-C // bk), 1, 1, parts, totals, parts if dweight is None else dweight, parts if dbias is None else dbias,
           C, splits)
    return totals


def parameters(C: int, dtype: Any, weight: Array | None, device: int, make: Any = empty) -> tuple[Array, Array]:
    """New arrays for the gradients of weight and bias."""
    kind = work_dtype(dtype) if weight is None else weight.dtype
    return make((C,), kind, device), make((C,), kind, device)
