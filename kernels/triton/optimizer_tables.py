"""The tables through which the kernels of ``optimizer_kernels.py`` find lists of arrays, and what goes into one launch.

A table of addresses in device memory is made on the host, copied without waiting, and kept for the lists it was made
for. What a captured graph uses is copied once, at the capture, and lives as long as the graph. Parameters are grouped
by dtype and by whether 128-bit accesses fit their addresses.
"""
from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl

from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.runtime import pinned
from tritium.kernels.runtime.graphs import outside
from tritium.kernels.runtime.state import current
from tritium.kernels.triton.memory import from_host
from tritium.kernels.triton.strided import packed

Array = Any
Lists = Sequence[Sequence[Array]]

F64 = np.dtype(np.float64)
F32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
TYPES = {F32: tl.float32, F64: tl.float64, np.dtype(np.float16): tl.float16, np.dtype(ml_dtypes.bfloat16): tl.bfloat16}
KEPT = 32  # tables that are remembered


class Batch:
    """What one launch works on: some of the arrays of the lists, of one dtype on one device.

    ``members``: their places in the lists; ``table`` and ``chunks``: see the kernels; ``bounds``: where each array's
    chunks begin."""

    __slots__ = ("members", "dtype", "device", "aligned", "block", "table", "chunks", "programs", "bounds")

    def __init__(self, lists: Lists, more: Lists, members: list[int], dtype: Any, device: int, aligned: bool,
                 block: int) -> None:
        self.members, self.dtype, self.device, self.aligned, self.block = members, dtype, device, aligned, block
        sizes = np.array([lists[0][i].size for i in members], INT64)
        blocks = -(-sizes // block)
        self.bounds = np.concatenate([[0], np.cumsum(blocks)])
        self.programs = count = int(self.bounds[-1])
        first = np.repeat(self.bounds[:-1], blocks)
        codes = np.repeat(np.arange(len(members)) << 32, blocks) + (np.arange(count) - first)
        addresses = [[arrays[i].ptr for i in members] for arrays in (*lists, *more)]
        self.table = sent(np.array([sizes, *addresses], INT64), device)
        self.chunks = sent(codes, device)

    def constants(self) -> dict[str, Any]:
        return {"TYPE": TYPES[self.dtype], "ACC": tl.float64 if self.dtype == F64 else tl.float32,
                "ALIGNED": self.aligned, "BLOCK": self.block}


def sent(numbers: Any, device: int) -> DeviceArray:
    """Numbers of the host, copied to the device without waiting; once, also for a graph that is being captured."""
    staged = pinned.empty(numbers.shape, INT64)
    staged[...] = numbers
    with outside():
        return from_host(staged, device, non_blocking=True)


_batches: dict[Any, list[Batch]] = {}


def forget() -> None:
    """Make the tables anew (tests change the size of blocks)."""
    _batches.clear()


def split(lists: Lists, written: int, sized: Any, more: Lists = (),
          last: bool = False) -> tuple[list[Batch], Lists, list[tuple[Array, Array]]]:
    """The batches of lists of arrays of one device, one list for each role, of which the first ``written`` are written,
    and with ``last`` the last one too; ``sized``: the function that sizes blocks; ``more``: lists of single numbers,
    whose addresses follow in the tables (no array of ``lists`` is empty then). Also what the batches look at, to be
    kept alive until they are launched, and the (copy, array) pairs that are to be written back then.

    Raises DeviceMismatch for arrays of two devices, NoKernel for dtypes that are not floating point."""
    arrays = [a for one in (*lists, *more) for a in one]
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
                tell((*lists, *more), stream)
            return found, lists, []
    plain, back = ready(lists, written, last)
    if not plain[0]:
        return [], plain, back
    tell((*plain, *more), stream)
    found = batches_of(plain, more, sized)
    if plain is lists and key is not None:
        if len(_batches) >= KEPT:
            _batches.pop(next(iter(_batches)), None)
        _batches[key] = found
    return found, plain, back


def tell(lists: Lists, stream: int) -> None:
    """Note that the stream uses the arrays: kernels that find them through a table do not."""
    for arrays in lists:
        for a in arrays:
            if a.owner.stream != stream:
                a.owner.used_on(stream)


def batches_of(lists: Lists, more: Lists, sized: Any) -> list[Batch]:
    """The batches of lists of dense arrays."""
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
    return [Batch(lists, more, members, dtype, device, aligned, sized(dtype, len(lists)))
            for (dtype, aligned), members in groups.items()]


def flattened(arrays: Sequence[Array], written: int, last: bool) -> tuple[list[Array], list[tuple[Array, Array]]]:
    """Arrays of one parameter as dense vectors of one dtype, and (copy, array) pairs that are to be written back."""
    first, changed = arrays[0], [i < written or (last and i == len(arrays) - 1) for i in range(len(arrays))]
    if first.dtype.kind == "c":
        half = np.dtype(f"f{first.dtype.itemsize // 2}")
        whole = [a if a.dense else a.copy() for a in arrays]
        flat = [a.look(a.ptr, (2 * a.size,), (half.itemsize,), half) for a in whole]
        return flat, [(c, a) for c, a, on in zip(whole, arrays, changed, strict=True) if on and c is not a]
    same = all([a.dtype == first.dtype for a in arrays])
    if same and all([a.strides == first.strides for a in arrays]) and packed(first.shape, first.strides,
                                                                             first.dtype.itemsize):
        return [a.look(a.ptr, (a.size,), (a.dtype.itemsize,)) for a in arrays], []
    dtype = first.dtype if same else F64 if first.dtype == F64 else F32
    whole = []
    for a in arrays:
        c = a if a.dtype == dtype else a.astype(dtype)
        whole.append(c if c.dense else c.copy())
    return [c.reshape(-1) for c in whole], [(c, a) for c, a, on in zip(whole, arrays, changed, strict=True)
                                            if on and c is not a]


def ready(lists: Lists, written: int, last: bool = False) -> tuple[Lists, list[tuple[Array, Array]]]:
    """The lists as the kernels take them, without empty arrays; the copies that are to be written back."""
    plain = all([a.dense and a.size and a.dtype == p.dtype and a.dtype.kind != "c" for arrays in lists
                 for a, p in zip(arrays, lists[0], strict=True)])
    if plain:
        return lists, []
    found: list[list[Array]] = [[] for _ in lists]
    back = []
    for arrays in zip(*lists, strict=True):
        if arrays[0].size:
            flat, copies = flattened(arrays, written, last)
            back += copies
            for one, a in zip(found, flat, strict=True):
                one.append(a)
    return found, back


def write_back(back: list[tuple[Array, Array]]) -> None:
    """Write copies back to the arrays they were made of."""
    for copy, array in back:
        array[...] = copy.reshape(array.shape).astype(array.dtype, copy=False)


def apart(lists: Lists, keys: Sequence[Hashable]) -> Iterator[tuple[Any, Lists]]:
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
