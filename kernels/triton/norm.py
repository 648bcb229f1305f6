"""Normalization on the device: the launches of ``norm_kernels.py``.

Contiguous and channels-last arrays are taken as they are, and results are laid out like them; others are copied first.
Where channels are few, several programs share one: each writes its part of the sums into a workspace, and one launch
joins the parts. Training takes three launches (two where nothing is shared), evaluation one; backward two or three.

Statistics are float64 vectors, as on the host; those of rows are float32 (float64 for float64).
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
from tritium.kernels.triton.axes import remembered
from tritium.kernels.triton.memory import empty, zeros
from tritium.kernels.triton.norm_kernels import (
    apply,
    coefficients,
    gradient,
    group_means,
    moments,
    moments_joined,
    rows,
    rows_gradient,
    running,
    sums,
    sums_joined,
)
from tritium.kernels.triton.strided import LIMIT, power

Array = DeviceArray
f32, f64 = np.dtype(np.float32), np.dtype(np.float64)
ACC = {f32: tl.float32, f64: tl.float64}
FEW = 16  # parts of a sum that each program of ``gradient`` joins by itself


def _work(dtype: Any) -> Any:
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


def _contiguous(a: Array) -> Array:
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


def _formed(x: Array) -> tuple[Array, Form]:
    """x as it is or as a contiguous copy, and how it lies in memory."""
    form = remembered((Form, x.shape, x.strides, x.dtype.itemsize), _form_of, x)
    return (x, form) if form is not None else _formed(_contiguous(x))


def _like(x: Array) -> Array:
    """A new array with the shape and order of dimensions of a dense one."""
    out = empty(x.shape, x.dtype, x.owner.device)
    return out if x.dense else out.look(out.ptr, x.shape, x.strides)


def _as(x: Array, a: Array) -> Array:
    """``a``, of the shape of x, laid out and typed as x is."""
    if a.dtype == x.dtype and (a.strides == x.strides or a.dense and x.dense):
        return a
    from tritium.kernels.triton.copy import copy_into

    out = _like(x)
    copy_into(out, a)
    return out


def _vector(v: Array | None, instead: Array) -> Array:
    """A contiguous vector, or for None some array that is not looked at."""
    return instead if v is None else _contiguous(v)


def _joining(C: int, splits: int) -> tuple[int, int]:
    """Channels and splits of a tile that joins."""
    br = min(power(splits), 1024)
    return min(power(C), max(1024 // br, 1), 32), br


# --- batch norm ---


def _statistics(x: Array, form: Form, eps: float, dtype: Any, var: bool, means: Array | None = None,
                variances: Array | None = None, momentum: float = 0.0) -> tuple[Array, Array, Array]:
    """(mean, invstd, var) of the channels, (C,) in ``dtype``; running statistics move."""
    C, device = form.C, x.owner.device
    mean, invstd = (empty((C,), dtype, device) for _ in range(2))
    variance = empty((C,), dtype, device) if var else mean
    count = form.N * form.S
    flags = {"RUN_MEAN": means is not None, "RUN_VAR": variances is not None, "VAR": var}
    outs = (mean, invstd, variance, mean if means is None else means, mean if variances is None else variances)
    numbers = (float(eps), float(momentum), count / (count - 1) if count > 1 else math.nan)
    part = form.splits > 1
    first = moments.bind(ACC=ACC[_work(x.dtype)], PART=part, **(dict.fromkeys(flags, False) if part else flags),
                         **form.constants)
    if not part:
        first(form.programs, 1, 1, x, mean, *outs, *form.numbers, form.span, *numbers)
        return mean, invstd, variance
    parts = empty((3, form.splits, C), f64, device)
    first(form.programs, form.splits, 1, x, parts, *outs[:3], mean, mean, *form.numbers, form.span, *numbers)
    bk, br = _joining(C, form.splits)
    joined = moments_joined.bind(**flags, BK=bk, BR=br)
    joined(-(-C // bk), 1, 1, parts, *outs, C, form.splits, *numbers)
    return mean, invstd, variance


def _apply(x: Array, form: Form, mode: str, mean: Array, scale: Array, weight: Array | None, bias: Array | None,
           eps: float = 0.0, per: int = 0, channels: int = 1) -> Array:
    out = _like(x)
    launch = apply.bind(ACC=ACC[_work(x.dtype)], MODE=mode, WEIGHT=weight is not None, BIAS=bias is not None,
                        GROUPED=per > 0, **form.constants)
    launch(form.programs, form.chunks, 1, x, out, mean, scale, _vector(weight, scale), _vector(bias, scale),
           *form.numbers, form.chunk, max(per, 1), channels, float(eps))
    return out


def batch_stats(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel of x (N, C, *), float64 (C,); nan where there is nothing."""
    if not x.size:
        from tritium.kernels.triton.memory import full

        return tuple(full(x.shape[1:2], math.nan, f64, x.owner.device) for _ in range(2))  # type: ignore[return-value]
    mean, _, var = _statistics(*_formed(x), 0.0, f64, True)
    return mean, var


def batch_apply(x: Array, scale: Array, shift: Array) -> Array:
    """``x * scale + shift`` with (C,) vectors; x (N, C, *)."""
    if not x.size:
        return _like(_contiguous(x))
    x, form = _formed(x)
    scale = _contiguous(scale)
    return _apply(x, form, "plain", scale, scale, None, shift)


def affine(mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """(invstd, scale, shift), float64 (C,): batch norm is ``x * scale + shift``."""
    C = mean.size
    invstd, scale, shift = (empty((C,), f64, mean.owner.device) for _ in range(3))
    launch = coefficients.bind(WEIGHT=weight is not None, BIAS=bias is not None, BK=512)
    launch(-(-C // 512), 1, 1, _contiguous(mean), _contiguous(var), _vector(weight, invstd), _vector(bias, invstd),
           invstd, scale, shift, C, float(eps))
    return invstd, scale, shift


def batch_norm_train(x: Array, weight: Array | None, bias: Array | None, eps: float, running_mean: Array | None = None,
                     running_var: Array | None = None, momentum: float = 0.0) -> tuple[Array, Array, Array, Array]:
    """(y, mean, invstd, var): x (N, C, *) normalized by its own statistics; those are float64, var biased. Running
    statistics (with the unbiased variance) move by ``momentum``, in place."""
    x, form = _formed(x)
    kept = [(r, None if r is None else _contiguous(r)) for r in (running_mean, running_var)]
    mean, invstd, var = _statistics(x, form, eps, f64, True, kept[0][1], kept[1][1], momentum)
    for given, moved in kept:
        if given is not None and moved is not None and moved is not given:
            from tritium.kernels.triton.copy import copy_into

            copy_into(given, moved)
    return _apply(x, form, "invstd", mean, invstd, weight, bias), mean, invstd, var


def batch_norm_eval(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """x (N, C, *) normalized by given statistics."""
    if not x.size:
        return _like(_contiguous(x))
    x, form = _formed(x)
    return _apply(x, form, "var", _contiguous(mean), _contiguous(var), weight, bias, eps)


def _sums(dy: Array, x: Array, form: Form, mean: Array, invstd: Array, per: int = 0) -> Array:
    """Parts of sum dy and of sum dy h: (2, splits, C), float64."""
    parts = empty((2, form.splits, form.C), f64, x.owner.device)
    launch = sums.bind(ACC=ACC[_work(x.dtype)], GROUPED=per > 0, ROWS=False, **form.constants)
    launch(form.programs, form.splits, 1, dy, x, mean, invstd, parts, *form.numbers, form.span, max(per, 1))
    return parts


def _joined(parts: Array, dweight: Array | None = None, dbias: Array | None = None) -> Array:
    """The sums of all splits, float64 (2, 1, C), or written as gradients."""
    _, splits, C = parts.shape
    store = dweight is not None
    totals = parts if store else empty((2, 1, C), f64, parts.owner.device)
    bk, br = _joining(C, splits)
    launch = sums_joined.bind(STORE=store, TOTALS=not store, BK=bk, BR=br)
    launch(-(-C // bk), 1, 1, parts, totals, parts if dweight is None else dweight, parts if dbias is None else dbias,
           C, splits)
    return totals


def _parameters(C: int, dtype: Any, weight: Array | None, device: int, make: Any = empty) -> tuple[Array, Array]:
    """New arrays for the gradients of weight and bias."""
    kind = _work(dtype) if weight is None else weight.dtype
    return make((C,), kind, device), make((C,), kind, device)


def batch_norm_backward(dy: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, train: bool,
                        needs_input: bool = True) -> tuple[Array | None, Array, Array]:
    """(dx, dweight, dbias). ``train``: mean and invstd are functions of x; else constants."""
    device = x.owner.device
    if not x.size:
        return (_like(_contiguous(x)) if needs_input else None,
                *_parameters(x.shape[1], x.dtype, weight, device, zeros))
    dweight, dbias = _parameters(x.shape[1], x.dtype, weight, device)
    x, form = _formed(x)
    dy, mean, invstd = _as(x, dy), _contiguous(mean), _contiguous(invstd)
    parts = _sums(dy, x, form, mean, invstd)
    if not needs_input:
        _joined(parts, dweight, dbias)
        return None, dweight, dbias
    if form.splits > FEW:
        parts = _joined(parts)
    dx = _like(x)
    launch = gradient.bind(ACC=ACC[_work(x.dtype)], WEIGHT=weight is not None, TRAIN=train, STORE=True,
                           FEW=1 if parts.shape[1] == 1 else FEW, GROUPED=False, **form.constants)
    launch(form.programs, form.chunks, 1, dy, x, dx, mean, invstd, _vector(weight, mean), parts, dweight, dbias,
           *form.numbers, form.chunk, 1, 1, parts.shape[1], float(form.N * form.S))
    return dx, dweight, dbias


def update_running(running_statistic: Array, new: Array, momentum: float) -> None:
    """``running = (1 - momentum) * running + momentum * new``, in place."""
    moved = _contiguous(running_statistic)
    C = moved.size
    running.bind(BK=512)(-(-C // 512), 1, 1, moved, _contiguous(new), C, float(momentum))
    if moved is not running_statistic:
        from tritium.kernels.triton.copy import copy_into

        copy_into(running_statistic, moved)


# --- layer norm ---


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


def _rows_of(x: Array) -> Rows:
    R, D = x.shape
    return remembered((Rows, R, D, x.dtype), Rows, R, D, x.dtype.itemsize, _work(x.dtype).itemsize)


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """(y, mean, rstd): each row of x (R, D) normalized; weight and bias (D,); mean and rstd (R, 1)."""
    x = _contiguous(x)
    R, D = x.shape
    work, device = _work(x.dtype), x.owner.device
    y = _like(x)
    if not x.size:
        mean = zeros((R, 1), work, device)
        rstd = empty((R, 1), work, device)
        if R:
            rstd.fill(1 / math.sqrt(eps) if eps > 0 else math.inf)
        return y, mean, rstd
    mean, rstd = (empty((R, 1), work, device) for _ in range(2))
    form = _rows_of(x)
    launch = rows.bind(WEIGHT=weight is not None, BIAS=bias is not None, **form.constants)
    launch(form.tiles, 1, 1, x, _vector(weight, x), _vector(bias, x), y, mean, rstd, *form.numbers, 1 / D, float(eps))
    return y, mean, rstd


def layer_norm_backward(dy: Array, x: Array, mean: Array, rstd: Array,
                        weight: Array | None) -> tuple[Array, Array, Array]:
    """(dx (R, D), dweight (D,), dbias (D,))."""
    x = _contiguous(x)
    R, D = x.shape
    work, device = _work(x.dtype), x.owner.device
    dx = _like(x)
    if not x.size:
        return (dx, *_parameters(D, x.dtype, weight, device, zeros))
    dy, mean, rstd = _as(x, dy), _contiguous(mean), _contiguous(rstd)
    form = _rows_of(x)
    want = wanted_programs() // (1 if D <= 2048 else 2)  # each writes a part of the sums
    span = max(-(-form.tiles // want), 1) if form.whole else 1
    programs = -(-form.tiles // span)
    parts = empty((2, programs, D) if form.whole else (2, 1, 1), work, device)
    launch = rows_gradient.bind(WEIGHT=weight is not None, **form.constants)
    launch(programs, 1, 1, dy, x, dx, mean, rstd, _vector(weight, x), parts, *form.numbers, span, 1 / D)
    if form.form is not None:
        columns = form.form
        parts = empty((2, columns.splits, D), f64, device)
        wide = sums.bind(ACC=ACC[work], GROUPED=False, ROWS=True, **columns.constants)
        wide(columns.programs, columns.splits, 1, dy, x, mean, rstd, parts, *columns.numbers, columns.span, 1)
    dweight, dbias = _parameters(D, x.dtype, weight, device)
    _joined(parts, dweight, dbias)
    return dx, dweight, dbias


# --- group norm ---


def _runs(x: Array, C: int) -> Form:
    """x, which is contiguous, as C runs of elements."""
    key = (Form, C, x.size, x.dtype.itemsize)
    return remembered(key, Form, 1, C, x.size // C, False, x.dtype.itemsize)


def group_norm(x: Array, groups: int, weight: Array | None, bias: Array | None,
               eps: float) -> tuple[Array, Array, Array]:
    """(y, mean, rstd): each of ``groups`` groups of channels of x (N, C, *) normalized; statistics (N * groups, 1)."""
    x = _contiguous(x)
    N, C = x.shape[:2]
    if not x.size:
        n = N * groups
        y, mean, rstd = layer_norm(x.reshape(n, x.size // max(n, 1)), None, None, eps)
        return y.reshape(x.shape), mean, rstd
    mean, rstd, _ = _statistics(x, _runs(x, N * groups), eps, _work(x.dtype), False)
    y = _apply(x, _runs(x, N * C), "invstd", mean, rstd, weight, bias, per=C // groups,
               channels=C)
    return y, mean.reshape(-1, 1), rstd.reshape(-1, 1)


def group_norm_backward(dy: Array, x: Array, groups: int, mean: Array, rstd: Array,
                        weight: Array | None) -> tuple[Array, Array, Array]:
    """(dx (N, C, *), dweight (C,), dbias (C,))."""
    x = _contiguous(x)
    (N, C), device = x.shape[:2], x.owner.device
    if not x.size:
        return (_like(x), *_parameters(C, x.dtype, weight, device, zeros))
    dy, mean, rstd = _as(x, dy), _contiguous(mean), _contiguous(rstd)
    per, S = C // groups, x.size // (N * C)
    form = _runs(x, N * C)
    totals = _sums(dy, x, form, mean, rstd, per)
    if form.splits > 1:
        totals = _joined(totals)
    dweight, dbias = _parameters(C, x.dtype, weight, device)
    _joined(totals.reshape(2, N, C), dweight, dbias)
    means = empty((2, N * groups), f64, device)
    br = min(power(per), 1024)
    bk = min(1024 // br, power(N * groups))
    launch = group_means.bind(WEIGHT=weight is not None, BK=bk, BR=br)
    launch(-(-N * groups // bk), 1, 1, totals, _vector(weight, mean), means, N * groups, per, groups, float(per * S))
    dx = _like(x)
    write = gradient.bind(ACC=ACC[_work(x.dtype)], WEIGHT=weight is not None, TRAIN=True, STORE=False, FEW=1,
                          GROUPED=True, **form.constants)
    write(form.programs, form.chunks, 1, dy, x, dx, mean, rstd, _vector(weight, mean), means, mean, mean,
          *form.numbers, form.chunk, per, C, 1, 1.0)
    return dx, dweight, dbias


# --- shipped configurations ---


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    item = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}
    acc = {"fp64": tl.float64}
    whole = ("C", "S", "N", "span", "per", "channels", "splits", "R", "D", "rows", "groups")
    real = ("eps", "momentum", "factor", "count", "each")

    def types(kernel: Any, dtype: str, **given: str) -> tuple[dict[str, str], tuple[str, ...]]:
        kinds = {**dict.fromkeys(whole, "i64"), **dict.fromkeys(real, "fp64"),
                 **dict.fromkeys(("x", "dy", "dx", "out"), f"*{dtype}"),
                 **dict.fromkeys(("parts", "totals", "means"), "*fp64"), **given}
        found = {name: kinds.get(name, "*fp32") for name in kernel.parameters}
        return found, tuple(n for n, t in found.items() if t[0] == "*")

    forms = {"planes": (False, 1, 2048), "small planes": (False, 16, 64), "channels last": (True, 0, 0)}
    for form, (columns, bk, br) in forms.items():
        for dtype in ("fp32", "bf16", "fp64") if form != "small planes" else ("fp32", "bf16"):
            block = 1024 if dtype == "fp64" else 2048
            k = max(128 // item[dtype], 16) if columns else bk
            constants = {"ACC": acc.get(dtype, tl.float32), "COLUMNS": columns,
                         "VECTOR": 1 if form == "small planes" else 16 // item[dtype], "LONG": False, "BK": k,
                         "BR": block // k if columns else min(br, block)}
            wide = constants["VECTOR"] > 1
            vectors = {"mean": "*fp64", "invstd": "*fp64", "var": "*fp64", "scale": "*fp64"}
            sorts: list[tuple[str, Any, dict[str, Any], bool]] = [
                ("", moments, {"PART": False, "RUN_MEAN": True, "RUN_VAR": True, "VAR": True}, False),
                ("part", moments, {"PART": True, "RUN_MEAN": False, "RUN_VAR": False, "VAR": False}, False),
                ("train", apply, {"MODE": "invstd", "WEIGHT": True, "BIAS": True, "GROUPED": False}, wide),
                ("eval", apply, {"MODE": "var", "WEIGHT": True, "BIAS": True, "GROUPED": False}, wide),
                ("", sums, {"GROUPED": False, "ROWS": False}, False),
                ("", gradient, {"WEIGHT": True, "TRAIN": True, "STORE": True, "FEW": FEW, "GROUPED": False}, wide)]
            if form == "planes":
                sorts += [("groups", apply, {"MODE": "invstd", "WEIGHT": True, "BIAS": True, "GROUPED": True}, wide),
                          ("groups", gradient, {"WEIGHT": True, "TRAIN": True, "STORE": False, "FEW": 1,
                                                "GROUPED": True}, wide)]
            if columns:
                sorts += [("rows", sums, {"GROUPED": False, "ROWS": True}, False)]
            for note, kernel, more, vectored in sorts:
                taken, aligned = types(kernel, dtype, **({} if note == "eval" or "rows" in note else vectors))
                yield Case(f"{kernel.name} {note}{' ' if note else ''}{form} {dtype}", kernel, taken,
                           {**constants, **more}, aligned, wide=vectored)
    for kernel, more in ((moments_joined, {"RUN_MEAN": True, "RUN_VAR": True, "VAR": True, "BK": 16, "BR": 64}),
                         (sums_joined, {"STORE": True, "TOTALS": False, "BK": 32, "BR": 32}),
                         (group_means, {"WEIGHT": True, "BK": 32, "BR": 32}),
                         (coefficients, {"WEIGHT": True, "BIAS": True, "BK": 512}), (running, {"BK": 512})):
        taken, aligned = types(kernel, "fp32")
        yield Case(kernel.name, kernel, taken, more, aligned)
    for dtype in ("fp32", "bf16", "fp64"):
        block = 1024 if dtype == "fp64" else 2048
        longest = 2048 if dtype == "fp64" else 8192
        for note, fits, bk, br, warps in (("64", True, block // 128, 64, 4), ("1024", True, 1, 1024, 4),
                                          ("long", True, 1, longest, 16 if longest > 4096 else 8),
                                          ("beyond", False, 1, 2 * block, 8)):
            constants = {"ACC": acc.get(dtype, tl.float32), "WEIGHT": True, "WHOLE": fits, "VECTOR": 16 // item[dtype],
                         "LONG": False, "BK": bk, "BR": br}
            stats = {} if dtype != "fp64" else {"mean": "*fp64", "rstd": "*fp64"}
            taken, aligned = types(rows, dtype, **stats)
            yield Case(f"{rows.name} {note} {dtype}", rows, taken, {**constants, "BIAS": True}, aligned, warps,
                       wide=True)
            taken, aligned = types(rows_gradient, dtype, parts="*fp64" if dtype == "fp64" else "*fp32", **stats)
            yield Case(f"{rows_gradient.name} {note} {dtype}", rows_gradient, taken, constants, aligned, warps,
                       wide=True)
