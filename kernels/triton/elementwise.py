"""One launcher for every op that looks at one element at a time.

    out[i] = op(x[i], y[i], ..., s, t, ...)          arrays x, y, ... that broadcast, numbers s, t, ...

``op`` is a Triton function of blocks: the 16-bit types come in float32, the numbers in the type of the computation,
and what it returns is rounded once to the dtype of the output. How arrays are gone through is in
``elementwise_plan.py``, the kernels are in ``elementwise_kernels.py``. What a call needs is found out once for operands
of these dtypes, shapes and strides, and remembered.
"""
from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl

from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.runtime.memory import Block
from tritium.kernels.triton.elementwise_kernels import map1, map1s, map2, map2s, mapn, same, tiles2, tilesn
from tritium.kernels.triton.elementwise_plan import (
    Plan,
    Shape,
    block_size,
    force_block_size,
    make_plan,
    on_reset,
    spread,
)
from tritium.kernels.triton.strided import overlap

__all__ = ["B1", "BF16", "F16", "F32", "F64", "FLOATING", "TYPES", "block_size", "compute_type", "elementwise",
           "force_block_size", "new_like", "number_bits", "on_reset"]

B1, F16, F32, F64 = (np.dtype(t) for t in (np.bool_, np.float16, np.float32, np.float64))
BF16 = np.dtype(ml_dtypes.bfloat16)
TYPES = {B1: tl.int1, F16: tl.float32, BF16: tl.float32, F32: tl.float32, F64: tl.float64,
         **{np.dtype(str(t)): t for t in (tl.int8, tl.int16, tl.int32, tl.int64)},
         **{np.dtype(str(t)): t for t in (tl.uint8, tl.uint16, tl.uint32, tl.uint64)}}
FLOATING = frozenset((F16, BF16, F32, F64))
CALLS = 4096  # how many are remembered

_pack, _unpack = struct.Struct("d").pack, struct.Struct("q").unpack
_new = DeviceArray.__new__
_calls: dict[Any, Call] = {}
on_reset(_calls.clear)


def compute_type(dtype: Any) -> Any:
    """The Triton type that arrays of a dtype are computed in. Raises NoKernel for complex numbers."""
    found = TYPES.get(dtype)
    if found is None:
        raise NoKernel(f"pointwise operations have no Triton kernel for complex numbers and the like: {dtype}")
    return found


def number_bits(value: Any, kind: Any) -> int:
    """A number as the 64 bits that a kernel takes it in: of a float64 for a floating point type, else of an int64.

    Integers wrap around. Raises NoKernel for complex numbers, OverflowError for integers no float can hold."""
    if type(value) is float and (kind is tl.float32 or kind is tl.float64):
        return _unpack(_pack(value))[0]
    if not isinstance(value, (int, float)):
        value = value.item()
        if isinstance(value, complex):
            raise NoKernel("pointwise operations have no Triton kernel for complex numbers")
    if kind is tl.float32 or kind is tl.float64:
        return _unpack(_pack(float(value)))[0]
    value = int(value) if kind is not tl.int1 else int(value != 0)
    return value if -2**63 <= value < 2**63 else (value + 2**63) % 2**64 - 2**63


def new_like(a: DeviceArray, dtype: Any) -> DeviceArray:
    """A contiguous array of the shape and on the device of ``a``, which is contiguous too."""
    size = a.size
    out = _new(DeviceArray)
    out.owner = block = Block(size * dtype.itemsize, a.owner.device)
    out.ptr = block.ptr
    out.shape = a.shape
    out.strides = a.strides if dtype is a.dtype else tuple([
        s // a.dtype.itemsize * dtype.itemsize for s in a.strides])
    out.dtype = dtype
    out.size = size
    out.dense = True
    return out


class Call:
    """What a launch with operands of these dtypes and layouts needs: the kernel with its constants, the grid, the
    numbers before and after those of the op, how many times the first input and output fill empty places. ``made``:
    dtype, strides, bytes and density of the outputs to make."""

    __slots__ = ("plan", "kind", "variant", "grid", "before", "zeros", "after", "more_inputs", "more_outputs", "made",
                 "shape", "size", "op")

    def __init__(self, plan: Plan, op: Any, kind: Any, inputs: int, outputs: int, given: int) -> None:
        self.plan, self.op, self.kind = plan, op, kind
        self.before: tuple[int, ...] = ()
        self.after: tuple[int, ...] = ()
        self.more_inputs = self.more_outputs = 0
        self.shape, self.size = plan.shape, plan.count
        self.made: list[Any] = []
        if plan.parts or not plan.count:
            return
        count = abs(given)
        self.zeros: tuple[int, ...] = (0,) * (4 - count)
        few = inputs <= 2 and outputs == 1
        constants: dict[str, Any] = {"OP": op, "num_warps": 4}
        self.grid = plan.grid if not plan.flat else -(-plan.count // plan.block)
        if few and plan.flat:
            constants |= {"SPREAD": plan.spread, "BLOCK": plan.block}
            self.before = (plan.count,)
            if count:
                constants |= {"KIND": kind, "SCALARS": given}
                kernel = map1s if inputs == 1 else map2s
            else:
                self.zeros = ()
                kernel = map1 if inputs == 1 else map2
        else:
            constants |= {"KIND": kind, "SCALARS": given, "INPUTS": inputs, **plan.constants}
            if few:
                kernel, self.more_inputs = tiles2, 2 - inputs
            else:
                constants["OUTPUTS"] = outputs
                kernel, self.more_inputs, self.more_outputs = tilesn, 5 - inputs, 3 - outputs
            self.after = tuple(plan.numbers)
            if plan.flat:
                constants |= {"SPREAD": plan.spread, "BLOCK": plan.block}
                kernel, self.after = mapn, (plan.count,)
        self.variant = kernel.bind(**constants)


# --- the launch ---

def elementwise(op: Any, inputs: Sequence[DeviceArray], scalars: Sequence[Any] = (), out_dtypes: Any = None,
                out: Any = None, kind: Any = None, usual: bool = False, front: bool = False,
                heavy: int = 1) -> Any:
    """``op(*inputs, *scalars)`` element by element (``front``: ``op(*scalars, *inputs)``): 1 to 5 arrays, up to 4
    numbers, 1 to 3 outputs.

    ``out_dtypes``: the dtype of the result, or a tuple of them for an op that returns several; by default that of the
    first input. ``out``: the array, or a tuple of arrays, to write into: they may be inputs. New outputs have the order
    of dimensions of the inputs (``usual``: the usual one). ``kind``: the Triton type of the numbers; by default that in
    which the first input that is no mask is computed. ``heavy``: see ``block_size``.
    Raises ValueError for shapes that do not broadcast, DeviceMismatch for arrays of two devices, NoKernel for dtypes
    that nothing is computed in."""
    single = type(out_dtypes) is not tuple and type(out) is not tuple
    first = inputs[0]
    outs: tuple[DeviceArray, ...] = () if out is None else (out,) if single else out
    for o in outs:
        for x in inputs:
            if o is not x and _clashes(o, x):
                types = tuple([t.dtype for t in outs])
                found = elementwise(op, inputs, scalars, types, None, kind, False, front, heavy)
                for target, r in zip(outs, found, strict=True):
                    elementwise(same, (r,), out=target)
                return out
    key = (id(op), id(kind), len(scalars), out_dtypes, usual, front, heavy,
           *[(x.dtype, x.shape, x.strides) for x in inputs], None, *[(o.dtype, o.shape, o.strides) for o in outs])
    call = _calls.get(key)
    if call is None:
        if len(_calls) >= CALLS:
            _calls.clear()
        call = _calls[key] = _prepare(op, inputs, len(scalars), out_dtypes, outs, kind, usual, front, heavy)
    device = first.owner.device
    for x in inputs:
        if x.owner.device != device:
            raise DeviceMismatch(f"cuda:{device}", f"cuda:{x.owner.device}")
    if not outs:
        shape, size = call.shape, call.size
        made = []
        for dtype, strides, nbytes, dense in call.made:
            o = _new(DeviceArray)
            o.owner = block = Block(nbytes, device)
            o.ptr = block.ptr
            o.shape, o.strides, o.dtype, o.size, o.dense = shape, strides, dtype, size, dense
            made.append(o)
        outs = tuple(made)
    if call.size:
        if call.plan.parts:
            _by_parts(op, inputs, scalars, outs, call.kind, front, call.shape)
        else:
            bits = [number_bits(s, call.kind) for s in scalars] if scalars else ()
            if call.more_inputs or call.more_outputs:
                inputs = (*inputs, *(first,) * call.more_inputs)
                call.variant(call.grid, 1, 1, *inputs, *outs, *(outs[0],) * call.more_outputs, *call.before, *bits,
                             *call.zeros, *call.after)
            else:
                call.variant(call.grid, 1, 1, *inputs, *outs, *call.before, *bits, *call.zeros, *call.after)
    return outs[0] if single else outs


def _prepare(op: Any, inputs: Sequence[DeviceArray], count: int, out_dtypes: Any, outs: Sequence[DeviceArray],
             kind: Any, usual: bool, front: bool, heavy: int) -> Call:
    """A call for operands of these dtypes, shapes and strides."""
    kinds = [compute_type(x.dtype) for x in [*inputs, *outs]]
    if kind is None:
        kind = next((t for t in kinds[:len(inputs)] if t is not tl.int1), tl.int1)
    dtypes: tuple[Any, ...] = ()
    if not outs:
        dtypes = out_dtypes if type(out_dtypes) is tuple else (inputs[0].dtype if out_dtypes is None else out_dtypes,)
    operands = [(x.shape, x.strides, x.dtype.itemsize) for x in inputs]
    targets: list[Any] = [(None, None, t.itemsize) for t in dtypes] + [
        (o.shape, o.strides, o.dtype.itemsize) for o in outs]
    plan = make_plan(operands, targets, usual, heavy)
    call = Call(plan, op, kind, len(inputs), len(targets), -count if front else count)
    for t, strides in zip(dtypes, plan.strides, strict=False):
        compute_type(t)
        dense = DeviceArray(None, 0, plan.shape, t, strides).dense
        call.made.append((t, strides, plan.count * t.itemsize, dense))
    return call


def _clashes(out: DeviceArray, x: DeviceArray) -> bool:
    """Whether writing ``out`` may spoil elements of ``x`` that are yet to be read."""
    if out.ptr == x.ptr and out.shape == x.shape and out.strides == x.strides and out.itemsize == x.itemsize:
        return False
    return bool(out.size and x.size) and overlap(out, x)


def _by_parts(op: Any, inputs: Sequence[DeviceArray], scalars: Sequence[Any], outs: Sequence[DeviceArray], kind: Any,
              front: bool, shape: Shape) -> None:
    """One launch for every index of the dimension that is shortest."""
    steps = [spread(shape, x.shape, x.strides) for x in inputs]
    d = min([d for d in range(len(shape)) if shape[d] > 1], key=lambda d: shape[d])
    rest = shape[:d] + shape[d + 1:]
    for i in range(shape[d]):
        views = [x.look(x.ptr + i * s[d], rest, s[:d] + s[d + 1:]) for x, s in zip(
            [*inputs, *outs], [*steps, *[o.strides for o in outs]], strict=True)]
        elementwise(op, views[:len(inputs)], scalars, None, tuple(views[len(inputs):]), kind,
                    front=front)
