"""Launches on the emulated device."""
from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.emulation import language, memory, races
from tritium.kernels.runtime.emulation.builder import KINDS, LOW, builder, convert
from tritium.kernels.runtime.emulation.values import make

install = language.install
TYPES: dict[Any, Any] = {kind: low for low, kind in LOW.items()} | {
    KINDS[t.name]: t for t in (tl.int1, tl.int8, tl.int16, tl.int32, tl.int64, tl.uint8, tl.uint16, tl.uint32,
                               tl.uint64, tl.float16, tl.float32, tl.float64)}
POINTERS = {kind: tl.pointer_type(t) for kind, t in TYPES.items()}
SCALARS = {
    "u1": tl.int1, "i1": tl.int1, "i8": tl.int8, "i16": tl.int16, "i32": tl.int32, "i64": tl.int64, "u8": tl.uint8,
    "u16": tl.uint16, "u32": tl.uint32, "u64": tl.uint64, "fp16": tl.float16, "bf16": tl.bfloat16, "fp32": tl.float32,
    "fp64": tl.float64}


_signatures: dict[Any, list[tuple[str, Any]]] = {}  # kernel -> its parameters and the types they are annotated with


def _argument(name: str, value: Any, dtype: Any, launch: memory.Launch) -> Any:
    """What the kernel gets for an argument."""
    if isinstance(value, DeviceArray):
        pointer = POINTERS.get(value.dtype)
        if pointer is None:
            raise NoKernel(f"{launch.name}: {name} is an array of {value.dtype}, which Triton has not")
        owner = value.owner
        if getattr(owner, "ptr", 0):
            launch.admit(owner)
        return make(np.array([value.ptr], np.uint64), pointer, pointer)
    if isinstance(value, np.generic) or isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, tuple):
        return tuple([_argument(name, v, dtype, launch) for v in value])
    if dtype is not None:
        if not isinstance(value, (bool, int, float)):
            raise TypeError(f"{launch.name}: {name} must be a number, not {type(value).__name__}")
        if dtype.is_int() and isinstance(value, float):
            raise TypeError(f"{launch.name}: {name} must be a whole number, not {value}")
        kind = KINDS[dtype.name]
        data = np.array([value], kind) if kind.kind in "iub" else convert(np.array([value], np.float64), kind)
        return make(data, dtype, dtype)
    if isinstance(value, bool):
        return make(np.array([value]), tl.int1, tl.int1)
    if isinstance(value, int):
        if value == 1:
            return 1  # a constant to the compiler too
        dtype = tl.int32 if -2**31 <= value < 2**31 else tl.int64 if value < 2**63 else tl.uint64
        return make(np.array([value], KINDS[dtype.name]), dtype, dtype)
    raise TypeError(f"{launch.name}: {name} is a {type(value).__name__}; floats need an annotation, and nothing but "
                    "arrays and numbers can be an argument")


def run(variant: Any, grid: tuple[int, int, int], arguments: tuple[Any, ...]) -> None:
    """See ``emulation.run``."""
    kernel = variant.kernel
    body = language.body_of(kernel.jit)
    signature = _signatures.get(kernel)
    if signature is None:
        signature = _signatures[kernel] = [(name, SCALARS.get(note)) for name, note in kernel.parameters.items()]
    launch = memory.Launch(kernel.name, grid, memory.live(), races.Races() if races.enabled else None)
    given = dict(variant.constants)
    for (name, dtype), value in zip(signature, arguments, strict=True):
        given[name] = _argument(name, value, dtype, launch)
    before = builder.launch, builder.grid_idx, builder.grid_dim
    builder.launch, builder.grid_dim = launch, grid
    gx, gy, gz = grid
    try:
        with np.errstate(all="ignore"):
            for z in range(gz):
                for y in range(gy):
                    for x in range(gx):
                        launch.program = builder.grid_idx = (x, y, z)
                        body(**given)
    except BaseException as error:
        error.add_note(f"in kernel {kernel.name}, program {launch.program} of {grid}")
        raise
    finally:
        builder.launch, builder.grid_idx, builder.grid_dim = before
