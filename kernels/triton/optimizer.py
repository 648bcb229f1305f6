"""Parameter updates of the optimizers: the launches of ``optimizer_kernels.py``, each for a list of parameters.

The kernels find the arrays through a table of addresses in device memory. It is made on the host, copied without
waiting, and kept for the lists it was made for. Parameters are grouped by dtype, by whether 128-bit accesses fit their
addresses, and by the numbers that differ between them (steps): usually all are in one group, which is one launch.

An update looks at each element alone, so that arrays of one shape and equal strides without gaps are taken as flat; of
others, and where dtypes are mixed, copies are updated and written back.
"""
from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.runtime import pinned
from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.state import current
from tritium.kernels.triton import optimizer_kernels as kernels
from tritium.kernels.triton.memory import empty, from_host
from tritium.kernels.triton.strided import packed

Array = Any
Lists = Sequence[Sequence[Array]]

F64 = np.dtype(np.float64)
F32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
TYPES = {F32: tl.float32, F64: tl.float64, np.dtype(np.float16): tl.float16, np.dtype(ml_dtypes.bfloat16): tl.bfloat16}
KEPT = 32  # tables that are remembered


def block_size(dtype: Any, arrays: int) -> int:
    """Elements that one program updates, in so many arrays: with more they would not fit into registers."""
    return 16384 if runtime.active().emulated else 512 if dtype.itemsize > (2 if arrays > 4 else 4) else 1024


def norm_block(dtype: Any, arrays: int = 1) -> int:
    """Elements that one program of a norm sums up."""
    return 16384 if runtime.active().emulated else 2048 if dtype.itemsize == 8 else 4096


class Batch:
    """What one launch works on: some of the arrays of the lists, of one dtype on one device.

    ``members``: their places in the lists; ``table`` and ``chunks``: see the kernels; ``bounds``: where each array's
    chunks begin."""

    __slots__ = ("members", "dtype", "device", "aligned", "block", "table", "chunks", "programs", "bounds")

    def __init__(self, lists: Lists, members: list[int], dtype: Any, device: int, aligned: bool, block: int) -> None:
        self.members, self.dtype, self.device, self.aligned, self.block = members, dtype, device, aligned, block
        sizes = np.array([lists[0][i].size for i in members], INT64)
        blocks = -(-sizes // block)
        self.bounds = np.concatenate([[0], np.cumsum(blocks)])
        self.programs = count = int(self.bounds[-1])
        first = np.repeat(self.bounds[:-1], blocks)
        codes = np.repeat(np.arange(len(members)) << 32, blocks) + (np.arange(count) - first)
        addresses = [[arrays[i].ptr for i in members] for arrays in lists]
        self.table = _sent(np.array([sizes, *addresses], INT64), device)
        self.chunks = _sent(codes, device)

    def constants(self) -> dict[str, Any]:
        return {"TYPE": TYPES[self.dtype], "ACC": tl.float64 if self.dtype == F64 else tl.float32,
                "ALIGNED": self.aligned, "BLOCK": self.block}


def _sent(numbers: Any, device: int) -> DeviceArray:
    """Numbers of the host, copied to the device without waiting."""
    staged = pinned.empty(numbers.shape, INT64)
    staged[...] = numbers
    return from_host(staged, device, non_blocking=True)


_batches: dict[Any, list[Batch]] = {}


def forget() -> None:
    """Make the tables anew (tests change the size of blocks)."""
    _batches.clear()


def _split(lists: Lists, written: int, sized: Any) -> tuple[list[Batch], Lists, list[tuple[Array, Array]]]:
    """The batches of lists of arrays of one device, one list for each role, of which the first ``written`` are written;
    ``sized``: the function that sizes blocks. Also what the batches look at, to be kept alive until they are launched,
    and the (copy, array) pairs that are to be written back then.

    Raises DeviceMismatch for arrays of two devices, NoKernel for dtypes that are not floating point."""
    arrays = [a for one in lists for a in one]
    try:
        streams = tuple([a.owner.stream for a in arrays])
    except AttributeError:
        raise DeviceMismatch() from None
    stream = current.on(arrays[0].owner.device)
    key = None
    if current.capture is None:  # else the graph keeps the tables
        key = (sized, stream, len(lists), streams, tuple([a.ptr for a in arrays]),
               tuple([a.size if a.dense else -1 for a in arrays]), tuple([a.dtype.num for a in arrays]))
        found = _batches.get(key)
        if found is not None:
            if streams.count(stream) != len(streams):
                _tell(lists, stream)
            return found, lists, []
    ready, back = _ready(lists, written)
    if not ready[0]:
        return [], ready, back
    _tell(ready, stream)
    found = _made(ready, sized)
    if ready is lists and key is not None:
        if len(_batches) >= KEPT:
            _batches.pop(next(iter(_batches)), None)
        _batches[key] = found
    return found, ready, back


def _tell(lists: Lists, stream: int) -> None:
    """Note that the stream uses the arrays: kernels that find them through a table do not."""
    for arrays in lists:
        for a in arrays:
            if a.owner.stream != stream:
                a.owner.used_on(stream)


def _made(lists: Lists, sized: Any) -> list[Batch]:
    groups: dict[Any, list[int]] = {}
    device = lists[0][0].owner.device
    for i, p in enumerate(lists[0]):
        bits = 0
        for arrays in lists:
            if arrays[i].owner.device != device:
                raise DeviceMismatch(f"cuda:{device}", f"cuda:{arrays[i].owner.device}")
            bits |= arrays[i].ptr
        if p.dtype not in TYPES:
            raise NoKernel(f"optimizer.update has no Triton kernel for {p.dtype}")
        groups.setdefault((p.dtype, bits % 16 == 0), []).append(i)
    return [Batch(lists, members, dtype, device, aligned, sized(dtype, len(lists)))
            for (dtype, aligned), members in groups.items()]


def _flat(arrays: Sequence[Array], written: int) -> tuple[list[Array], list[tuple[Array, Array]]]:
    """Arrays of one parameter as dense vectors of one dtype, and (copy, array) pairs that are to be written back."""
    first = arrays[0]
    if first.dtype.kind == "c":
        half = np.dtype(f"f{first.dtype.itemsize // 2}")
        whole = [a if a.dense else a.copy() for a in arrays]
        flat = [a.look(a.ptr, (2 * a.size,), (half.itemsize,), half) for a in whole]
        return flat, [(c, a) for c, a in zip(whole[:written], arrays, strict=False) if c is not a]
    same = all([a.dtype == first.dtype for a in arrays])
    if same and all([a.strides == first.strides for a in arrays]) and packed(first.shape, first.strides,
                                                                             first.dtype.itemsize):
        return [a.look(a.ptr, (a.size,), (a.dtype.itemsize,)) for a in arrays], []
    dtype = first.dtype if same else F64 if first.dtype == F64 else F32
    whole = []
    for a in arrays:
        c = a if a.dtype == dtype else a.astype(dtype)
        whole.append(c if c.dense else c.copy())
    return [c.reshape(-1) for c in whole], [(c, a) for c, a in zip(whole[:written], arrays, strict=False) if c is not a]


def _ready(lists: Lists, written: int) -> tuple[Lists, list[tuple[Array, Array]]]:
    """The lists as the kernels take them, without empty arrays; the copies that are to be written back."""
    plain = all([a.dense and a.size and a.dtype == p.dtype and a.dtype.kind != "c" for arrays in lists
                 for a, p in zip(arrays, lists[0], strict=True)])
    if plain:
        return lists, []
    ready: list[list[Array]] = [[] for _ in lists]
    back = []
    for arrays in zip(*lists, strict=True):
        if arrays[0].size:
            flat, copies = _flat(arrays, written)
            back += copies
            for one, a in zip(ready, flat, strict=True):
                one.append(a)
    return ready, back


def _return(back: list[tuple[Array, Array]]) -> None:
    """Write copies back to the arrays they were made of."""
    for copy, array in back:
        array[...] = copy.reshape(array.shape).astype(array.dtype, copy=False)


def _apart(lists: Lists, keys: Sequence[Hashable]) -> Iterator[tuple[Any, Lists]]:
    """(key, the lists of the parameters with it on one device); with a parameter that comes twice all come one by one,
    in order."""
    params = lists[0]
    places = [p.ptr for p in params]
    if len(set(places)) != len(places):
        places = [p.ptr for p in params if p.size]
        if len(set(places)) != len(places):
            for i, key in enumerate(keys):
                yield key, [[arrays[i]] for arrays in lists]
            return
    groups = [(key, p.owner.device) for key, p in zip(keys, params, strict=True)]
    if groups and groups.count(groups[0]) == len(groups):
        yield keys[0], lists
        return
    found: dict[Any, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    for (key, _), members in found.items():
        yield key, [[arrays[i] for i in members] for arrays in lists]


def _update(op: Any, lists: Lists, written: int, how: int, numbers: Sequence[float]) -> None:
    """One update of all parameters: the first ``written`` lists are updated, the gradients come last."""
    batches, kept, back = _split(lists, written, block_size)
    numbers = [float(n) for n in numbers] + [0.0] * (10 - len(numbers))
    for batch in batches:
        variant = kernels.update.bind(OP=op, HOW=how, COUNT=len(kept), WRITTEN=written, enable_fp_fusion=False,
                                      **batch.constants())
        variant(batch.programs, 1, 1, batch.table, batch.chunks, len(batch.members), *numbers)
    _return(back)


def _how(weight_decay: float, maximize: bool, *more: tuple[Any, Any]) -> int:
    how = (kernels.DECAY.value if weight_decay else 0) | (kernels.MAXIMIZE.value if maximize else 0)
    for bit, on in more:
        how |= bit.value if on else 0
    return how


# --- the optimizers ---

def sgd(params: list[Array], grads: list[Array], momentum_buffers: list[Array] | None, fresh: list[bool], *,
        lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
    """Gradient descent. ``momentum_buffers`` is None without momentum; a ``fresh`` buffer takes the gradient as it is
    (its values before are not looked at)."""
    buffers = [] if momentum_buffers is None else [momentum_buffers]
    for new, lists in _apart([params, *buffers, grads], fresh if buffers else [False] * len(params)):
        how = _how(weight_decay, maximize, (kernels.MOMENTUM, buffers), (kernels.FRESH, new),
                   (kernels.DAMPENED, dampening), (kernels.NESTEROV, nesterov))
        _update(kernels.sgd, lists, 1 + len(buffers), how, (-lr, momentum, 1 - dampening, weight_decay))


def adam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array],
         max_exp_avg_sqs: list[Array] | None, steps: list[float], *, lr: float, beta1: float, beta2: float, eps: float,
         weight_decay: float, decoupled: bool, maximize: bool) -> None:
    """Adam (L2 decay) and AdamW (``decoupled``); AMSGrad when ``max_exp_avg_sqs`` is given. ``steps`` counts from 1."""
    largest = [] if max_exp_avg_sqs is None else [max_exp_avg_sqs]
    how = _how(weight_decay, maximize, (kernels.DECOUPLED, decoupled), (kernels.LARGEST, largest))
    for step, lists in _apart([params, exp_avgs, exp_avg_sqs, *largest, grads], steps):
        _update(kernels.adam, lists, 3 + len(largest), how, (
            -(lr / (1 - beta1 ** step)), 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr * weight_decay,
            math.sqrt(1 - beta2 ** step)))


def nadam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array],
          steps: list[float], rates: list[tuple[float, float]], *, lr: float, beta1: float, beta2: float, eps: float,
          weight_decay: float, decoupled: bool, maximize: bool) -> None:
    """Adam with Nesterov momentum. ``rates``: for each parameter, the rate of the gradient and that of its average."""
    how = _how(weight_decay, maximize, (kernels.DECOUPLED, decoupled))
    keys = [(step, *rate) for step, rate in zip(steps, rates, strict=True)]
    for (step, rate, more), lists in _apart([params, exp_avgs, exp_avg_sqs, grads], keys):
        _update(kernels.nadam, lists, 3, how, (-rate, 1 - beta1, beta2, 1 - beta2, eps, weight_decay,
                                               1 - lr * weight_decay, 1 - beta2 ** step, -more))


def radam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array],
          steps: list[float], *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
          decoupled: bool, maximize: bool) -> None:
    """Adam with the rectified adaptive rate: plain momentum while the variance of the rate is not tractable."""
    longest = 2 / (1 - beta2) - 1
    for step, lists in _apart([params, exp_avgs, exp_avg_sqs, grads], steps):
        correction2 = 1 - beta2 ** step
        length = longest - 2 * step * beta2 ** step / correction2
        rectified = 0.0
        if length > 5.0:
            rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        how = _how(weight_decay, maximize, (kernels.DECOUPLED, decoupled), (kernels.RECTIFIED, length > 5.0))
        _update(kernels.radam, lists, 3, how, (
            lr, 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr * weight_decay, 1 - beta1 ** step,
            math.sqrt(correction2), rectified))


def adamax(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_infs: list[Array],
           steps: list[float], *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
           maximize: bool) -> None:
    """Adam with the infinity norm: exp_inf <- max(beta2 exp_inf, |g| + eps)."""
    for step, lists in _apart([params, exp_avgs, exp_infs, grads], steps):
        _update(kernels.adamax, lists, 3, _how(weight_decay, maximize), (
            -(lr / (1 - beta1 ** step)), 1 - beta1, beta2, eps, weight_decay))


def rmsprop(params: list[Array], grads: list[Array], square_avgs: list[Array], grad_avgs: list[Array] | None,
            momentum_buffers: list[Array] | None, *, lr: float, alpha: float, eps: float, weight_decay: float,
            momentum: float, maximize: bool) -> None:
    """RMSprop; centred when ``grad_avgs`` is given, with momentum when ``momentum_buffers`` is."""
    more = [one for one in (grad_avgs, momentum_buffers) if one is not None]
    how = _how(weight_decay, maximize, (kernels.CENTERED, grad_avgs is not None),
               (kernels.MOMENTUM, momentum_buffers is not None))
    for _, lists in _apart([params, square_avgs, *more, grads], [0] * len(params)):
        _update(kernels.rmsprop, lists, 2 + len(more), how, (-lr, alpha, 1 - alpha, eps, weight_decay, momentum))


def adagrad(params: list[Array], grads: list[Array], state_sums: list[Array], rates: list[float], *, eps: float,
            weight_decay: float, maximize: bool) -> None:
    """Adagrad; ``rates`` holds each parameter's learning rate after its decay."""
    for rate, lists in _apart([params, state_sums, grads], rates):
        _update(kernels.adagrad, lists, 2, _how(weight_decay, maximize), (-rate, eps, weight_decay))


def adadelta(params: list[Array], grads: list[Array], square_avgs: list[Array], acc_deltas: list[Array], *, lr: float,
             rho: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """Adadelta: the step has the size of the earlier steps, so that it carries the parameter's unit."""
    for _, lists in _apart([params, square_avgs, acc_deltas, grads], [0] * len(params)):
        _update(kernels.adadelta, lists, 3, _how(weight_decay, maximize), (-lr, rho, 1 - rho, eps, weight_decay))


def lars(params: list[Array], grads: list[Array], momentum_buffers: list[Array], adapted: list[bool], *, lr: float,
         momentum: float, weight_decay: float, trust_coefficient: float, eps: float, nesterov: bool,
         maximize: bool) -> None:
    """SGD with layer-wise rates: where ``adapted``, the gradient with its decay is scaled by

        trust_coefficient |p| / (|g| + weight_decay |p| + eps)       (1 where |p| or |g| is zero)

    and the others take it as it is, without weight decay. The norms stay on the device."""
    nest = (kernels.NESTEROV, nesterov)
    for scaled, lists in _apart([params, momentum_buffers, grads], adapted):
        if not scaled:
            _update(kernels.lars, lists, 2, _how(0.0, maximize, nest), (-lr, momentum, 0.0, 1.0))
            continue
        batches, kept, back = _split(lists, 2, block_size)
        for batch in batches:
            sizes, slopes = (_norms([arrays[i] for i in batch.members]) for arrays in (kept[0], kept[2]))
            variant = kernels.layerwise.bind(HOW=_how(weight_decay, maximize, nest), enable_fp_fusion=False,
                                             **batch.constants())
            variant(batch.programs, 1, 1, batch.table, batch.chunks, sizes, slopes, len(batch.members), float(-lr),
                    float(momentum), float(weight_decay), float(trust_coefficient), float(eps))
        _return(back)


# --- norms ---

def _roots(parts: DeviceArray, bounds: Any, out: DeviceArray) -> None:
    kernels.roots.bind(BLOCK=min(4096, norm_block(F64)), num_warps=8)(
        out.size, 1, 1, parts, _sent(np.asarray(bounds, INT64), out.device), out)


def _squares(batch: Batch, parts: DeviceArray) -> None:
    kernels.squares.bind(**batch.constants())(batch.programs, 1, 1, batch.table, batch.chunks, parts,
                                              len(batch.members))


def _norms(arrays: Sequence[Array]) -> DeviceArray:
    """The Euclidean norm of each of some dense arrays of one dtype, not empty, on one device, in float64: two
    launches."""
    device = arrays[0].device
    out = empty((len(arrays),), F64, device)
    batches, _, _ = _split([arrays], 0, norm_block)
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
    batches, kept, _ = _split([arrays], 0, norm_block)
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
    (flat,), _ = _ready([[x]], 0)
    return _norms(flat).item() if flat else 0.0


def scale(arrays: Sequence[Array], factor: Array) -> None:
    """Multiply arrays, in place, by the one number in a device array."""
    for _, lists in _apart([arrays], [0] * len(arrays)):
        batches, kept, back = _split(lists, 1, block_size)
        for batch in batches:
            variant = kernels.multiply.bind(**batch.constants())
            variant(batch.programs, 1, 1, batch.table, batch.chunks, factor, len(batch.members))
        del kept
        _return(back)


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
    for dtype in ("fp32", "bf16", "fp64"):
        yield Case(f"layerwise {dtype}", k.layerwise,
                   {**common, "sizes": "*fp64", "slopes": "*fp64", "tensors": "i64",
                    **dict.fromkeys(("rate", "momentum", "decay", "trust", "eps"), "fp64")},
                   {"HOW": k.DECAY.value, **constants(dtype)}, ("table", "chunks", "sizes", "slopes"), wide=True,
                   enable_fp_fusion=False)
        yield Case(f"scale {dtype}", k.multiply, {**common, "factor": f"*{dtype}", "tensors": "i64"},
                   constants(dtype), ("table", "chunks", "factor"), wide=True)
        yield Case(f"squares {dtype}", k.squares, {**common, "parts": "*fp64", "tensors": "i64"},
                   constants(dtype, block=4096), ("table", "chunks", "parts"), wide=True)
        yield Case(f"roots {dtype}", k.roots, {"parts": "*fp64", "bounds": "*i64", "out": f"*{dtype}"},
                   {"BLOCK": 2048}, ("parts", "bounds", "out"), 8)
