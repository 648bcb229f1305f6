"""Gradient scaling for mixed precision: see ``reference/grad_scaler.py``.

The gradients are found through the tables of ``optimizer_tables.py``: one launch for all of one dtype and alignment. A
program that meets an element that is not finite raises ``found`` to 1: whoever comes first or last, it is 1 then.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import triton.language as tl

from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.optimizer import block_size
from tritium.kernels.triton.optimizer_kernels import chunk, fetched, pointer
from tritium.kernels.triton.optimizer_tables import apart, split, write_back
from tritium.kernels.triton.strided import convert

Array = Any
ONE: tl.constexpr = tl.constexpr(0x3F800000)  # the bits of 1.0; positive numbers are ordered as their bits are


@kernel
def unscaled(table, chunks, found, inverse, tensors: "i64", TYPE: tl.constexpr, ACC: tl.constexpr,
             ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """Every array times the number in ``inverse``, which is 1 where they are only looked at; found[0] = 1 if an element
    was not finite."""
    which, first, left = chunk(table, chunks, BLOCK)
    start = pointer(table, 1, tensors, which, first, TYPE, ALIGNED)
    factor = tl.load(inverse)
    i = tl.arange(0, BLOCK)
    if left >= BLOCK:
        x = fetched(start, left, ACC, BLOCK, False)
        if factor != 1.0:
            tl.store(start + i, convert(x * factor.to(ACC), TYPE))
    else:
        x = fetched(start, left, ACC, BLOCK, True)
        if factor != 1.0:
            tl.store(start + i, convert(x * factor.to(ACC), TYPE), mask=i < left)
    finite = tl.abs(x) < float("inf")  # False for nan
    if tl.min(finite.to(tl.int32), 0) == 0:
        tl.atomic_max(found.to(tl.pointer_type(tl.int32), bitcast=True), ONE)


@kernel
def update(scale, tracker, found, growth: "fp64", backoff: "fp64", interval: "i64"):
    """The scale after one iteration, and how many have passed without infinities."""
    old = tl.load(scale)
    wide = old.to(tl.float64)
    count = tl.load(tracker) + 1
    bad = tl.load(found) != 0
    full = count == interval
    grown = (wide * growth).to(tl.float32)
    grown = tl.where(tl.abs(grown) < float("inf"), grown, old)
    new = tl.where(bad, (wide * backoff).to(tl.float32), tl.where(full, grown, old))
    tl.store(scale, new)
    tl.store(tracker, tl.where(bad | full, 0, count))


def unscale(grads: Sequence[Array], found: Array, inverse: Array) -> None:
    """Multiply floating point arrays, in place, by ``inverse`` (float32), and set ``found`` (float32) to 1 if one of
    their elements was infinite or nan before. With an ``inverse`` of 1 they are looked at only."""
    for _, lists in apart([grads], [0] * len(grads)):
        batches, kept, back = split(lists, 1, block_size)
        for batch in batches:
            variant = unscaled.bind(**batch.constants())
            variant(batch.programs, 1, 1, batch.table, batch.chunks, found, inverse, len(batch.members))
        del kept  # until now the kernels looked at it
        write_back(back)


def update_scale(scale: Array, tracker: Array, found: Array, growth: float, backoff: float, interval: int) -> None:
    """Make ``scale`` (float32) smaller where ``found`` is not 0, larger after ``interval`` updates without; ``tracker``
    (int32) counts those."""
    update.bind(num_warps=1)(1, 1, 1, scale, tracker, found, float(growth), float(backoff), int(interval))


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    kinds = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16, "fp64": tl.float64}
    for dtype, kind in kinds.items():
        double = dtype == "fp64"
        for aligned in (True, False) if dtype == "fp32" else (True,):
            yield Case(f"unscale {dtype}{'' if aligned else ' unaligned'}", unscaled,
                       {"table": "*i64", "chunks": "*i64", "found": "*fp32", "inverse": "*fp32", "tensors": "i64"},
                       {"TYPE": kind, "ACC": tl.float64 if double else tl.float32, "ALIGNED": aligned,
                        "BLOCK": 512 if double else 1024},
                       ("table", "chunks", "found", "inverse"), wide=aligned)
    yield Case("update scale", update, {"scale": "*fp32", "tracker": "*i32", "found": "*fp32", "growth": "fp64",
                                        "backoff": "fp64", "interval": "i64"}, {}, ("scale", "tracker", "found"), 1)
