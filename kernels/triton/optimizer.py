"""Parameter updates of the optimizers: the launches of ``optimizer_kernels.py``, each for a list of parameters.

The kernels find the arrays through tables of addresses (``optimizer_tables.py``). Parameters are grouped by dtype, by
whether 128-bit accesses fit their addresses, and by the numbers that differ between them (steps): usually all are in
one group, which is one launch. Steps that are counted on the device are counted by the same launch, or by one before
it (``optimizer_numbers.py``) where an update depends on them.

An update looks at each element alone, so that arrays of one shape and equal strides without gaps are taken as flat; of
others, and where dtypes are mixed, copies are updated and written back.

Step counts, rates and what a gradient scaler says may be in device memory: nothing waits for the device then, and the
update can be part of a captured graph. ``grad_scale`` divides the gradients, in place, before they are used; where
``found_inf`` is not 0 nothing changes.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.state import current
from tritium.kernels.triton import optimizer_kernels as kernels
from tritium.kernels.triton import optimizer_numbers
from tritium.kernels.triton.memory import empty
from tritium.kernels.triton.optimizer_tables import (
    F64,
    INT64,
    TYPES,
    Array,
    Batch,
    Lists,
    apart,
    forget,
    ready,
    sent,
    split,
    tell,
    write_back,
)

__all__ = ["adadelta", "adagrad", "adam", "adamax", "forget", "lars", "nadam", "norm", "radam", "rmsprop", "scale",
           "sgd", "total_norm"]

Steps = Sequence[float] | Sequence[Array]  # counted from 1 - or arrays of no dimensions, which are counted up here
Rate = Any  # a number, or an array of one


def block_size(dtype: Any, arrays: int) -> int:
    """Elements that one program updates, in so many arrays: with more they would not fit into registers."""
    return 16384 if runtime.active().emulated else 512 if dtype.itemsize > (2 if arrays > 4 else 4) else 1024


def norm_block(dtype: Any, arrays: int = 1) -> int:
    """Elements that one program of a norm sums up."""
    return 16384 if runtime.active().emulated else 2048 if dtype.itemsize == 8 else 4096


def _update(op: Any, lists: Lists, written: int, how: int, numbers: Sequence[float]) -> None:
    """One update of all parameters: the first ``written`` lists are updated, the gradients come last."""
    batches, kept, back = split(lists, written, block_size)
    numbers = [float(n) for n in numbers] + [0.0] * (10 - len(numbers))
    for batch in batches:
        variant = kernels.update.bind(OP=op, HOW=how, COUNT=len(kept), WRITTEN=written, enable_fp_fusion=False,
                                      **batch.constants())
        variant(batch.programs, 1, 1, batch.table, batch.chunks, len(batch.members), *numbers)
    write_back(back)


def _how(weight_decay: float, maximize: bool, *more: tuple[Any, Any]) -> int:
    how = (kernels.DECAY.value if weight_decay else 0) | (kernels.MAXIMIZE.value if maximize else 0)
    for bit, on in more:
        how |= bit.value if on else 0
    return how


def _known(lr: Rate, steps: Any, found_inf: Any) -> bool:
    """Whether all numbers of an update are on the host."""
    return found_inf is None and not isinstance(lr, DeviceArray) and not (steps and isinstance(steps[0], DeviceArray))


def _numbers(made: Any, table: Array, row: int, tensors: int, kind: Any, products: bool, options: Sequence[float],
             lr: Rate, found_inf: Array | None) -> DeviceArray:
    """Count up the steps in a row of a table; the numbers of their updates, an array (tensors, 10)."""
    rated, block = isinstance(lr, DeviceArray), optimizer_numbers.BLOCK
    out = empty((tensors, 10), F64, table.device)
    variant = optimizer_numbers.numbers.bind(OP=made, PRODUCTS=products, RATED=rated, CHECKED=found_inf is not None,
                                             TYPE=TYPES[kind], BLOCK=block, enable_fp_fusion=False)
    variant(-(-tensors // block), 1, 1, table, _or(lr, table), _or(found_inf, table), out, tensors, row,
            0.0 if rated else float(lr), *options)
    return out


def _filled(made: Any, lists: Lists, counters: Lists, options: Sequence[float],
            found_inf: Array | None) -> tuple[Lists, Lists]:
    """Lists without empty arrays; what is counted of those is counted now."""
    empties = [i for i, p in enumerate(lists[0]) if not p.size]
    if not empties:
        return lists, counters
    if counters:
        some = [[one[i] for i in empties] for one in counters]
        tell(some, current.on(some[0][0].device))
        table = sent(np.array([[a.ptr for a in one] for one in some], INT64), some[0][0].device)
        _numbers(made, table, 0, len(empties), some[0][0].dtype, len(some) > 1, options, 0.0, found_inf)
    rest = [i for i, p in enumerate(lists[0]) if p.size]
    return [[one[i] for i in rest] for one in lists], [[one[i] for i in rest] for one in counters]


def _update_rated(op: Any, lists: Lists, written: int, how: int, numbers: Sequence[float], lr: Rate, steps: Any,
                  grad_scale: Array | None, found_inf: Array | None) -> None:
    """``_update`` with a rate (minus the first number), steps and a scaler's answers in device memory: one launch. The
    steps are only counted."""
    counted = steps is not None
    keys = [s.dtype for s in steps] if counted else [None] * len(lists[0])
    numbers = [float(n) for n in numbers] + [0.0] * (6 - len(numbers))
    for kind, some in apart([*lists, *([steps] if counted else [])], keys):
        arrays, counters = _filled(optimizer_numbers.adagrad, some[:len(lists)], some[len(lists):], [0.0] * 5,
                                   found_inf)
        if not arrays[0]:
            continue
        batches, kept, back = split(arrays, written, block_size, counters, grad_scale is not None)
        for batch in batches:
            variant = kernels.update_rated.bind(
                OP=op, HOW=how, COUNT=len(kept), WRITTEN=written, RATED=isinstance(lr, DeviceArray),
                STEPS=TYPES[kind] if counted else None, SCALED=grad_scale is not None, CHECKED=found_inf is not None,
                enable_fp_fusion=False, **batch.constants())
            variant(batch.programs, 1, 1, batch.table, batch.chunks, _or(lr, batch.table),
                    _or(grad_scale, batch.table), _or(found_inf, batch.table), len(batch.members), *numbers)
        write_back(back)


def _update_counted(op: Any, made: Any, lists: Lists, written: int, how: int, options: Sequence[float], lr: Rate,
                    counters: Lists, grad_scale: Array | None, found_inf: Array | None) -> None:
    """``_update`` with numbers that one launch more makes of the steps: ``counters`` are the list of step counts, and
    of what else is counted, in device memory."""
    options = [float(n) for n in options] + [0.0] * (5 - len(options))
    for kind, some in apart([*lists, *counters], [s.dtype for s in counters[0]]):
        arrays, counts = _filled(made, some[:len(lists)], some[len(lists):], options, found_inf)
        if not arrays[0]:
            continue
        batches, kept, back = split(arrays, written, block_size, counts, grad_scale is not None)
        for batch in batches:
            numbers = _numbers(made, batch.table, len(kept) + 1, len(batch.members), kind, len(counters) > 1, options,
                               lr, found_inf)
            variant = kernels.update_counted.bind(
                OP=op, HOW=how | kernels.COUNTED.value, COUNT=len(kept), WRITTEN=written,
                SCALED=grad_scale is not None, CHECKED=found_inf is not None, enable_fp_fusion=False,
                **batch.constants())
            variant(batch.programs, 1, 1, batch.table, batch.chunks, numbers, _or(grad_scale, batch.table),
                    _or(found_inf, batch.table), len(batch.members))
        write_back(back)


def _or(array: Any, other: Array) -> Array:
    """An array, or another that is not looked at."""
    return array if isinstance(array, DeviceArray) else other


# --- the optimizers ---

def sgd(params: list[Array], grads: list[Array], momentum_buffers: list[Array] | None, fresh: list[bool], *,
        lr: Rate, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool,
        grad_scale: Array | None = None, found_inf: Array | None = None) -> None:
    """Gradient descent. ``momentum_buffers`` is None without momentum; a ``fresh`` buffer takes the gradient as it is
    (its values before are not looked at)."""
    buffers = [] if momentum_buffers is None else [momentum_buffers]
    numbers = (0.0 if isinstance(lr, DeviceArray) else -lr, momentum, 1 - dampening, weight_decay)
    for new, lists in apart([params, *buffers, grads], fresh if buffers else [False] * len(params)):
        how = _how(weight_decay, maximize, (kernels.MOMENTUM, buffers), (kernels.FRESH, new),
                   (kernels.DAMPENED, dampening), (kernels.NESTEROV, nesterov))
        if _known(lr, None, found_inf):
            _update(kernels.sgd, lists, 1 + len(buffers), how, numbers)
        else:
            _update_rated(kernels.sgd, lists, 1 + len(buffers), how, numbers, lr, None, grad_scale, found_inf)


def adam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array],
         max_exp_avg_sqs: list[Array] | None, steps: Steps, *, lr: Rate, beta1: float, beta2: float, eps: float,
         weight_decay: float, decoupled: bool, maximize: bool, grad_scale: Array | None = None,
         found_inf: Array | None = None) -> None:
    """Adam (L2 decay) and AdamW (``decoupled``); AMSGrad when ``max_exp_avg_sqs`` is given. ``steps`` counts from 1."""
    largest = [] if max_exp_avg_sqs is None else [max_exp_avg_sqs]
    how = _how(weight_decay, maximize, (kernels.DECOUPLED, decoupled), (kernels.LARGEST, largest))
    lists = [params, exp_avgs, exp_avg_sqs, *largest, grads]
    if not _known(lr, steps, found_inf):
        return _update_counted(kernels.adam, optimizer_numbers.adam, lists, 3 + len(largest), how,
                               (beta1, beta2, eps, weight_decay), lr, [steps], grad_scale, found_inf)
    for step, some in apart(lists, steps):
        _update(kernels.adam, some, 3 + len(largest), how, (
            -(lr / (1 - beta1 ** step)), 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr * weight_decay,
            math.sqrt(1 - beta2 ** step)))


def nadam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array], steps: Steps,
          rates: list[Any], *, lr: Rate, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
          maximize: bool, momentum_decay: float = 0.0) -> None:
    """Adam with Nesterov momentum. ``rates``: for each parameter, the rate of the gradient and that of its average; or,
    with steps that are counted here, the arrays of the products of momenta, for which ``momentum_decay`` is."""
    how = _how(weight_decay, maximize, (kernels.DECOUPLED, decoupled))
    if not _known(lr, steps, None):
        return _update_counted(kernels.nadam, optimizer_numbers.nadam, [params, exp_avgs, exp_avg_sqs, grads], 3, how,
                               (beta1, beta2, eps, weight_decay, momentum_decay), lr, [steps, rates], None, None)
    keys = [(step, *rate) for step, rate in zip(steps, rates, strict=True)]
    for (step, rate, more), lists in apart([params, exp_avgs, exp_avg_sqs, grads], keys):
        _update(kernels.nadam, lists, 3, how, (-rate, 1 - beta1, beta2, 1 - beta2, eps, weight_decay,
                                               1 - lr * weight_decay, 1 - beta2 ** step, -more))


def radam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array], steps: Steps, *,
          lr: Rate, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
          maximize: bool) -> None:
    """Adam with the rectified adaptive rate: plain momentum while the variance of the rate is not tractable."""
    all_lists = [params, exp_avgs, exp_avg_sqs, grads]
    if not _known(lr, steps, None):
        return _update_counted(kernels.radam, optimizer_numbers.radam, all_lists, 3,
                               _how(weight_decay, maximize, (kernels.DECOUPLED, decoupled)),
                               (beta1, beta2, eps, weight_decay), lr, [steps], None, None)
    longest = 2 / (1 - beta2) - 1
    for step, lists in apart(all_lists, steps):
        correction2 = 1 - beta2 ** step
        length = longest - 2 * step * beta2 ** step / correction2
        rectified = 0.0
        if length > 5.0:
            rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        how = _how(weight_decay, maximize, (kernels.DECOUPLED, decoupled), (kernels.RECTIFIED, length > 5.0))
        _update(kernels.radam, lists, 3, how, (
            lr, 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr * weight_decay, 1 - beta1 ** step,
            math.sqrt(correction2), rectified))


def adamax(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_infs: list[Array], steps: Steps, *,
           lr: Rate, beta1: float, beta2: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """Adam with the infinity norm: exp_inf <- max(beta2 exp_inf, |g| + eps)."""
    lists = [params, exp_avgs, exp_infs, grads]
    how = _how(weight_decay, maximize)
    if not _known(lr, steps, None):
        return _update_counted(kernels.adamax, optimizer_numbers.adamax, lists, 3, how,
                               (beta1, beta2, eps, weight_decay), lr, [steps], None, None)
    for step, some in apart(lists, steps):
        _update(kernels.adamax, some, 3, how, (
            -(lr / (1 - beta1 ** step)), 1 - beta1, beta2, eps, weight_decay))


def rmsprop(params: list[Array], grads: list[Array], square_avgs: list[Array], grad_avgs: list[Array] | None,
            momentum_buffers: list[Array] | None, steps: list[Array] | None = None, *, lr: Rate, alpha: float,
            eps: float, weight_decay: float, momentum: float, maximize: bool) -> None:
    """RMSprop; centred when ``grad_avgs`` is given, with momentum when ``momentum_buffers`` is. ``steps``: arrays of no
    dimensions to be counted up."""
    more = [one for one in (grad_avgs, momentum_buffers) if one is not None]
    how = _how(weight_decay, maximize, (kernels.CENTERED, grad_avgs is not None),
               (kernels.MOMENTUM, momentum_buffers is not None))
    all_lists = [params, square_avgs, *more, grads]
    numbers = (0.0 if isinstance(lr, DeviceArray) else -lr, alpha, 1 - alpha, eps, weight_decay, momentum)
    if not _known(lr, steps, None):
        return _update_rated(kernels.rmsprop, all_lists, 2 + len(more), how, numbers, lr, steps, None, None)
    for _, lists in apart(all_lists, [0] * len(params)):
        _update(kernels.rmsprop, lists, 2 + len(more), how, numbers)


def adagrad(params: list[Array], grads: list[Array], state_sums: list[Array], rates: Steps, *, eps: float,
            weight_decay: float, maximize: bool, lr: Rate = None, lr_decay: float = 0.0,
            grad_scale: Array | None = None, found_inf: Array | None = None) -> None:
    """Adagrad; ``rates`` holds each parameter's learning rate after its decay - or the arrays of the step counts, of
    which ``lr`` and ``lr_decay`` make it."""
    lists = [params, state_sums, grads]
    how = _how(weight_decay, maximize)
    if lr is not None:
        return _update_counted(kernels.adagrad, optimizer_numbers.adagrad, lists, 2, how,
                               (lr_decay, eps, weight_decay), lr, [rates], grad_scale, found_inf)
    for rate, some in apart(lists, rates):
        _update(kernels.adagrad, some, 2, how, (-rate, eps, weight_decay))


def adadelta(params: list[Array], grads: list[Array], square_avgs: list[Array], acc_deltas: list[Array],
             steps: list[Array] | None = None, *, lr: Rate, rho: float, eps: float, weight_decay: float,
             maximize: bool) -> None:
    """Adadelta: the step has the size of the earlier steps, so that it carries the parameter's unit. ``steps``: arrays
    of no dimensions to be counted up."""
    all_lists = [params, square_avgs, acc_deltas, grads]
    how = _how(weight_decay, maximize)
    numbers = (0.0 if isinstance(lr, DeviceArray) else -lr, rho, 1 - rho, eps, weight_decay)
    if not _known(lr, steps, None):
        return _update_rated(kernels.adadelta, all_lists, 3, how, numbers, lr, steps, None, None)
    for _, lists in apart(all_lists, [0] * len(params)):
        _update(kernels.adadelta, lists, 3, how, numbers)


def lars(params: list[Array], grads: list[Array], momentum_buffers: list[Array], adapted: list[bool], *, lr: Rate,
         momentum: float, weight_decay: float, trust_coefficient: float, eps: float, nesterov: bool,
         maximize: bool) -> None:
    """SGD with layer-wise rates: where ``adapted``, the gradient with its decay is scaled by

        trust_coefficient |p| / (|g| + weight_decay |p| + eps)       (1 where |p| or |g| is zero)

    and the others take it as it is, without weight decay. The norms stay on the device."""
    nest = (kernels.NESTEROV, nesterov)
    rated = isinstance(lr, DeviceArray)
    rate = 0.0 if rated else -float(lr)
    for scaled, lists in apart([params, momentum_buffers, grads], adapted):
        if not scaled:
            how, numbers = _how(0.0, maximize, nest), (rate, momentum, 0.0, 1.0)
            if rated:
                _update_rated(kernels.lars, lists, 2, how, numbers, lr, None, None, None)
            else:
                _update(kernels.lars, lists, 2, how, numbers)
            continue
        batches, kept, back = split(lists, 2, block_size)
        for batch in batches:
            sizes, slopes = (_norms([arrays[i] for i in batch.members]) for arrays in (kept[0], kept[2]))
            variant = kernels.layerwise.bind(HOW=_how(weight_decay, maximize, nest), RATED=rated,
                                             enable_fp_fusion=False, **batch.constants())
            variant(batch.programs, 1, 1, batch.table, batch.chunks, sizes, slopes, _or(lr, batch.table),
                    len(batch.members), rate, float(momentum), float(weight_decay), float(trust_coefficient),
                    float(eps))
        write_back(back)


# --- norms ---

def _roots(parts: DeviceArray, bounds: Any, out: DeviceArray) -> None:
    kernels.roots.bind(BLOCK=min(4096, norm_block(F64)), num_warps=8)(
        out.size, 1, 1, parts, sent(np.asarray(bounds, INT64), out.device), out)


def _squares(batch: Batch, parts: DeviceArray) -> None:
    kernels.squares.bind(**batch.constants())(batch.programs, 1, 1, batch.table, batch.chunks, parts,
                                              len(batch.members))


def _norms(arrays: Sequence[Array]) -> DeviceArray:
    """The Euclidean norm of each of some dense arrays of one dtype, not empty, on one device, in float64: two
    launches."""
    device = arrays[0].device
    out = empty((len(arrays),), F64, device)
    batches, _, _ = split([arrays], 0, norm_block)
    for batch in batches:
        parts = empty((batch.programs,), F64, device)
        _squares(batch, parts)
        if len(batches) == 1:
            _roots(parts, batch.bounds, out)
        else:  # some are not aligned
            some = empty((len(batch.members),), F64, device)
            _roots(parts, batch.bounds, some)
            for k, i in enumerate(batch.members):
                out[i] = some[k]
    return out


def total_norm(arrays: Sequence[Array]) -> DeviceArray:
    """The Euclidean norm of all elements of real arrays of one dtype on one device, in that dtype, without dimensions:
    one launch for the arrays (two if some are not aligned), one to add up. The same arrays give the same bits."""
    first = arrays[0]
    batches, kept, _ = split([arrays], 0, norm_block)
    parts = empty((max(sum([batch.programs for batch in batches]), 1),), F64, first.device)
    done = 0
    for batch in batches:
        _squares(batch, parts[done:done + batch.programs])
        done += batch.programs
    del kept  # until now the kernels looked at it
    out = empty((), first.dtype, first.device)
    _roots(parts, [0, done], out)
    return out


def norm(x: Array) -> float:
    """Euclidean norm of all elements, added up in float64; waits for the device."""
    (flat,), _ = ready([[x]], 0)
    return _norms(flat).item() if flat else 0.0


def scale(arrays: Sequence[Array], factor: Array) -> None:
    """Multiply arrays, in place, by the one number in a device array."""
    for _, lists in apart([arrays], [0] * len(arrays)):
        batches, kept, back = split(lists, 1, block_size)
        for batch in batches:
            variant = kernels.multiply.bind(**batch.constants())
            variant(batch.programs, 1, 1, batch.table, batch.chunks, factor, len(batch.members))
        del kept
        write_back(back)


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    k = kernels
    kinds = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16, "fp64": tl.float64}
    common = {"table": "*i64", "chunks": "*i64"}

    def constants(dtype: str, aligned: bool = True, block: int = 1024) -> dict[str, Any]:
        double = dtype == "fp64"
        return {"TYPE": kinds[dtype], "ACC": tl.float64 if double else tl.float32, "ALIGNED": aligned,
                "BLOCK": max(block // 2, 512) if double else block}

    shapes: list[tuple[str, Any, int, int, list[Any]]] = [
        ("plain", k.sgd, 2, 1, [k.DECAY]), ("momentum", k.sgd, 3, 2, [k.DECAY, k.MOMENTUM]),
        ("nesterov", k.sgd, 3, 2, [k.DECAY, k.MOMENTUM, k.NESTEROV]), ("L2", k.adam, 4, 3, [k.DECAY]),
        ("decoupled", k.adam, 4, 3, [k.DECAY, k.DECOUPLED]),
        ("largest", k.adam, 5, 4, [k.DECAY, k.DECOUPLED, k.LARGEST]), ("L2", k.nadam, 4, 3, [k.DECAY]),
        ("rectified", k.radam, 4, 3, [k.DECAY, k.RECTIFIED]), ("L2", k.adamax, 4, 3, [k.DECAY]),
        ("plain", k.rmsprop, 3, 2, []), ("all", k.rmsprop, 5, 4, [k.DECAY, k.CENTERED, k.MOMENTUM]),
        ("L2", k.adagrad, 3, 2, [k.DECAY]), ("L2", k.adadelta, 4, 3, [k.DECAY]), ("plain", k.lars, 3, 2, [])]
    for note, op, count, written, flags in shapes:
        often = op in (k.sgd, k.adam)
        for dtype in ("fp32", "bf16", "fp16", "fp64") if often else ("fp32", "bf16"):
            for aligned in (True, False) if note in ("momentum", "decoupled") and dtype == "fp32" else (True,):
                yield Case(f"{op.__name__} {note} {dtype}{'' if aligned else ' unaligned'}", k.update,
                           {**common, "tensors": "i64", **dict.fromkeys("abcdefghij", "fp64")},
                           {"OP": op, "HOW": sum(f.value for f in flags), "COUNT": count, "WRITTEN": written,
                            **constants(dtype, aligned, 512 if count > 4 and dtype == "fp32" else 1024)},
                           ("table", "chunks"), wide=aligned, enable_fp_fusion=False)
    device = {"scale": "*fp32", "found": "*fp32", "tensors": "i64"}
    for note, op, count, flags in (("decoupled", k.adam, 4, [k.DECAY, k.DECOUPLED]),
                                   ("largest", k.adam, 5, [k.DECAY, k.DECOUPLED, k.LARGEST]),
                                   ("L2", k.nadam, 4, [k.DECAY]), ("rectified", k.radam, 4, [k.DECAY]),
                                   ("L2", k.adamax, 4, [k.DECAY]), ("L2", k.adagrad, 3, [k.DECAY])):
        for dtype in ("fp32", "bf16"):
            for scaled in (False, True) if op in (k.adam, k.adagrad) else (False,):
                yield Case(f"{op.__name__} {note} {dtype}{' scaled' * scaled}", k.update_counted,
                           {**common, "numbers": "*fp64", **device},
                           {"OP": op, "HOW": sum(f.value for f in flags) | k.COUNTED.value, "COUNT": count,
                            "WRITTEN": count - 1, "SCALED": scaled, "CHECKED": scaled,
                            **constants(dtype, True, 512 if count > 4 and dtype == "fp32" else 1024)},
                           ("table", "chunks", "numbers", "scale", "found"), wide=True, enable_fp_fusion=False)
    for note, op, count, flags, steps, scaled in (
            ("momentum", k.sgd, 3, [k.DECAY, k.MOMENTUM], None, False),
            ("momentum scaled", k.sgd, 3, [k.DECAY, k.MOMENTUM], None, True),
            ("all", k.rmsprop, 5, [k.DECAY, k.CENTERED, k.MOMENTUM], tl.float32, False),
            ("L2", k.adadelta, 4, [k.DECAY], tl.float32, False), ("plain", k.lars, 3, [], None, False)):
        for dtype in ("fp32", "bf16"):
            yield Case(f"{op.__name__} {note} {dtype}", k.update_rated,
                       {**common, "lr": "*fp32", **device, **dict.fromkeys("abcdef", "fp64")},
                       {"OP": op, "HOW": sum(f.value for f in flags), "COUNT": count, "WRITTEN": count - 1,
                        "RATED": True, "STEPS": steps, "SCALED": scaled, "CHECKED": scaled,
                        **constants(dtype, True, 512 if count > 4 and dtype == "fp32" else 1024)},
                       ("table", "chunks", "lr", "scale", "found"), wide=True, enable_fp_fusion=False)
    for dtype in ("fp32", "bf16", "fp64"):
        yield Case(f"layerwise {dtype}", k.layerwise,
                   {**common, "sizes": "*fp64", "slopes": "*fp64", "lr": "*fp32", "tensors": "i64",
                    **dict.fromkeys(("rate", "momentum", "decay", "trust", "eps"), "fp64")},
                   {"HOW": k.DECAY.value, "RATED": False, **constants(dtype)},
                   ("table", "chunks", "sizes", "slopes", "lr"), wide=True, enable_fp_fusion=False)
        yield Case(f"scale {dtype}", k.multiply, {**common, "factor": f"*{dtype}", "tensors": "i64"},
                   constants(dtype), ("table", "chunks", "factor"), wide=True)
        yield Case(f"squares {dtype}", k.squares, {**common, "parts": "*fp64", "tensors": "i64"},
                   constants(dtype, block=4096), ("table", "chunks", "parts"), wide=True)
        yield Case(f"roots {dtype}", k.roots, {"parts": "*fp64", "bounds": "*i64", "out": f"*{dtype}"},
                   {"BLOCK": 2048}, ("parts", "bounds", "out"), 8)
