"""Kernels: Triton functions with their constants bound, ready to launch.

    @kernel
    def add(x, y, out, n: "i64", BLOCK: tl.constexpr): ...

    variant = add.bind(BLOCK=1024, num_warps=4)      # constants fixed; remembered
    variant(grid, 1, 1, x, y, out, n)                # DeviceArrays and numbers, on the current stream

A parameter with an annotation ("i32", "i64", "fp32", "fp64", "u1") is a number of that type and is never specialized;
an integer without one is specialized on being 1 or divisible by 16; arrays are specialized on their dtype and on
16-byte alignment. A float must be annotated. Constexpr parameters come last.

A launch is a lookup by these things, eight bytes packed for each argument, and one call of the driver. The few lines
that do it are written out for each kernel (``launcher_source``), since the host's time is what small kernels cost. The
arguments of a launch stay in order of the stream it is made on: blocks of other streams are told (``Block.used_on``).
"""
from __future__ import annotations

import functools
import inspect
import struct
import threading
from collections.abc import Callable
from ctypes import addressof, c_char, c_uint64, c_void_p
from types import CodeType, FunctionType
from typing import Any

import ml_dtypes
import numpy as np

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.runtime.memory import Block, find_home
from tritium.kernels.runtime.state import current

OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "enable_fp_fusion")
GRID = (2**31 - 1, 65535, 65535)  # programs along each axis
registry: dict[str, Kernel] = {}

POINTERS = {np.dtype(name): kind for name, kind in {
    "bool": "*i1", "int8": "*i8", "int16": "*i16", "int32": "*i32", "int64": "*i64", "uint8": "*u8", "uint16": "*u16",
    "uint32": "*u32", "uint64": "*u64", "float16": "*fp16", "float32": "*fp32", "float64": "*fp64"}.items()}
POINTERS |= {np.dtype(ml_dtypes.bfloat16): "*bf16", np.dtype(ml_dtypes.float8_e4m3fn): "*fp8e4nv",
             np.dtype(ml_dtypes.float8_e5m2): "*fp8e5"}
# how a number of each type fills its eight bytes
PACKED = {"i8": "b7x", "i16": "h6x", "i32": "i4x", "i64": "q", "u8": "B7x", "u16": "H6x", "u32": "I4x", "u64": "Q",
          "u1": "?7x", "fp16": "e6x", "fp32": "f4x", "fp64": "d"}
ARRAY, WHOLE = "array", "whole"  # parameters without an annotation: an array, a specialized integer
ONE, PLAIN, LONG = 1, 2, 4  # what an integer is specialized on; without any it is divisible by 16


class Kernel:
    """A Triton function that can be launched. ``name``: family.function; ``parameters``: the names of what a launch
    takes, with their annotated type or ""; ``constants``: the names of the others.

    Raises TypeError for an annotation that is no type of a number, and for a constexpr before other parameters."""

    def __init__(self, function: Callable[..., Any]) -> None:
        import triton

        self.jit = triton.jit(function)
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.__doc__ = function.__doc__
        self.parameters: dict[str, str] = {}
        self.constants: dict[str, Any] = {}  # with their defaults
        for name, parameter in inspect.signature(function).parameters.items():
            note = parameter.annotation
            note = "" if note is inspect.Parameter.empty else str(getattr(note, "__name__", note)).strip("\"' ")
            if "constexpr" in note:
                self.constants[name] = parameter.default
            elif self.constants:
                raise TypeError(f"{self.name}: parameter {name} comes after a constexpr")
            elif note and note not in PACKED:
                raise TypeError(f"{self.name}: parameter {name} has an annotation that is no type of a number: {note}")
            else:
                self.parameters[name] = note
        registry[self.name] = self
        self.bind = functools.lru_cache(None, typed=True)(self._bind)  # 1, 1.0 and True are different constants

    def _bind(self, **constants: Any) -> Any:
        """The kernel with its constexpr parameters and options (``num_warps``, ``num_stages``) fixed: the function
        that launches it, with its Variant as an attribute.

        Raises TypeError for names that it does not have, and for constants that are missing."""
        return Variant(self, constants).launch

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"


class Variant:
    """A kernel with its constants. ``launch`` is the function that launches it: ``launch(gx, gy, gz, *arguments)``.

    Arguments are DeviceArrays and numbers. An empty grid launches nothing. Arrays on another device than the current
    one are worked on there. Raises DeviceMismatch for arrays of two devices, TypeError for arguments of wrong types,
    OverflowError for numbers that do not fit.

    Which parameters are arrays, and the runtime, are known only at the first launch: the function then gets the code
    that is written for them. A plain function, since calling an object that has ``__call__`` costs a quarter more."""

    def __init__(self, kernel: Kernel, constants: dict[str, Any]) -> None:
        self.kernel = kernel
        self.options = {k: v for k, v in constants.items() if k in OPTIONS}
        self.constants = {k: v for k, v in kernel.constants.items() if v is not inspect.Parameter.empty}
        self.constants.update({k: v for k, v in constants.items() if k not in OPTIONS})
        wrong = self.constants.keys() ^ kernel.constants.keys()
        if wrong:
            raise TypeError(f"{kernel.name}: constants {sorted(kernel.constants)}, given {sorted(self.constants)}")
        self.table: dict[Any, Any] = {}  # what a launch looks up -> an entry of a Bound
        self.bounds: dict[Any, Any] = {}  # device and specialization -> Bound
        self.lock = threading.Lock()
        names = {"_variant": self, "_table": self.table, "_current": current, "_find": find_home,
                 "_class": integer_class, "_misfit": (struct.error, OverflowError)}
        launch: Any = FunctionType(FIRST, names, kernel.name)
        launch.variant = self
        self.launch = launch

    def first(self, gx: int, gy: int, gz: int, *arguments: Any) -> None:
        """The first launch: the function is from now on one that knows its arguments."""
        self.become(EMULATED if runtime.active().emulated else launcher(self.kernel, self.pattern(arguments)))
        self.launch(gx, gy, gz, *arguments)

    def become(self, code: tuple[CodeType, dict[str, Any]]) -> None:
        """Give ``launch`` this code, and the names that it needs."""
        self.launch.__globals__.update(code[1])
        self.launch.__code__ = code[0]

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v}" for k, v in {**self.constants, **self.options}.items())
        return f"<{self.kernel.name}({inside})>"

    def pattern(self, arguments: tuple[Any, ...]) -> tuple[str, ...]:
        """What each argument is: an array, a specialized integer, or a number of an annotated type.

        Raises TypeError for arguments that are neither, OverflowError for integers beyond 64 bits."""
        parameters = self.kernel.parameters
        if len(arguments) != len(parameters):
            raise TypeError(f"{self.kernel.name} takes {len(parameters)} arguments ({', '.join(parameters)}), "
                            f"got {len(arguments)}")
        return tuple([self._kind(name, note, a) for (name, note), a in zip(parameters.items(), arguments, strict=True)])

    def _kind(self, name: str, note: str, value: Any) -> str:
        where = f"{self.kernel.name}: argument {name}"
        if isinstance(value, DeviceArray):
            if note:
                raise TypeError(f"{where} is a number ({note}), got {value!r}")
            return ARRAY
        if isinstance(value, np.ndarray):
            if value.ndim:
                raise DeviceMismatch(f"cuda:{current.device}", "cpu")
            raise TypeError(f"{where}: pass the number in a 0-d array, not the array")
        if not note:
            if not hasattr(value, "__index__"):
                raise TypeError(f"{where} is an array or an integer (floats are annotated), got "
                                f"{type(value).__name__}")
            if not -2**63 <= value < 2**63:
                raise OverflowError(f"{where}: {value} does not fit into 64 bits")
            return WHOLE
        try:
            struct.pack("=" + PACKED[note], value)
        except OverflowError:
            raise OverflowError(f"{where}: {value} does not fit into {note}") from None
        except struct.error as error:
            if hasattr(value, "__index__"):
                raise OverflowError(f"{where}: {value} does not fit into {note}") from None
            raise TypeError(f"{where} is a number ({note}), got {type(value).__name__}: {error}") from None
        return note

    def again(self, error: Exception, gx: int, gy: int, gz: int, *arguments: Any) -> None:
        """A launch went wrong at its arguments: say what is wrong, or launch as what suits them."""
        code = launcher(self.kernel, self.pattern(arguments))
        if code[0] is self.launch.__code__:
            raise error
        self.become(code)
        self.launch(gx, gy, gz, *arguments)

    def elsewhere(self, grid: tuple[int, int, int], arguments: tuple[Any, ...]) -> bool:
        """Some block is of another stream than the current one: tell it. For arrays of another device, launch there;
        True then."""
        arrays = [a for a in arguments if isinstance(a, DeviceArray)]
        device, before = arrays[0].owner.device, current.device
        for a in arrays:
            if a.owner.device != device:
                raise DeviceMismatch(f"cuda:{device}", f"cuda:{a.owner.device}")
        if device != before:
            current.set_device(device)
            try:
                self.launch(*grid, *arguments)
            finally:
                current.set_device(before)
            return True
        for a in arrays:
            a.owner.used_on(current.on(device))
        return False

    def prepare(self, key: Any, device: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Compile and load what these arguments need; the entry that a launch looks up from now on.

        Raises NoKernel for a dtype that Triton does not have."""
        self.pattern(arguments)
        types, constants, aligned = {}, dict(self.constants), []
        for (name, note), value in zip(self.kernel.parameters.items(), arguments, strict=True):
            if isinstance(value, DeviceArray):
                kind = POINTERS.get(value.dtype)
                if kind is None:
                    raise NoKernel(f"{self.kernel.name}: no kernel for arrays of {value.dtype}")
                types[name] = kind
                if value.ptr % 16 == 0:
                    aligned.append(name)
            elif note:
                types[name] = note
            else:
                what = integer_class(value)
                if what & ONE:
                    constants[name] = 1
                    continue
                types[name] = "i64" if what & LONG else "i32"
                if not what & PLAIN:
                    aligned.append(name)
        with self.lock:
            sort = (device, tuple(types.items()), tuple(aligned))
            bound = self.bounds.get(sort)
            if bound is None:
                bound = self.bounds[sort] = Bound(self, device, types, constants, tuple(aligned))
            self.table[key] = bound.entry
        return bound.entry

    def failed(self, code: Any, grid: tuple[int, int, int]) -> Exception:
        """The exception for what the driver said to a launch."""
        if any(n > most for n, most in zip(grid, GRID, strict=True)):
            return ValueError(f"{self.kernel.name}: a grid of {grid} programs is beyond {GRID}")
        try:
            runtime.active().check(code)
        except RuntimeError as error:
            error.add_note(f"launching {self!r} with a grid of {grid}")
            return error
        return RuntimeError(f"launching {self!r} with a grid of {grid} failed: {code}")

    def emulate(self, gx: int, gy: int, gz: int, *arguments: Any) -> None:
        """A launch on the emulated device."""
        if not (gx and gy and gz):
            return
        from tritium.kernels.runtime.emulation import run

        self.pattern(arguments)
        grid = (gx, gy, gz)
        if any(n > most for n, most in zip(grid, GRID, strict=True)):
            raise ValueError(f"{self.kernel.name}: a grid of {grid} programs is beyond {GRID}")
        for a in arguments:
            if isinstance(a, DeviceArray) and a.dtype not in POINTERS:
                raise NoKernel(f"{self.kernel.name}: no kernel for arrays of {a.dtype}")
        stream = current.stream or current.on(current.device)
        if any(a.owner.stream != stream for a in arguments if isinstance(a, DeviceArray)):
            if self.elsewhere(grid, arguments):
                return
        # what a graph keeps are addresses, not blocks
        bare = tuple([DeviceArray(None, a.ptr, a.shape, a.dtype, a.strides) if isinstance(a, DeviceArray) else a
                      for a in arguments])
        if not runtime.active().record(lambda: run(self, grid, bare)):
            runtime.active().submit(lambda given: run(self, grid, given), arguments)


class Bound:
    """A kernel, compiled and loaded for one device. ``entry``: what a launch needs of it."""

    def __init__(self, variant: Variant, device: int, types: dict[str, str], constants: dict[str, Any],
                 aligned: tuple[str, ...]) -> None:
        from tritium.kernels.runtime import compiler

        active, kernel = runtime.active(), variant.kernel
        active.set_device(device)
        about = active.properties(device)
        if active.target != "cuda":
            raise NotImplementedError(f"launching on {active.target}")
        made = compiler.compile(kernel.jit, types, constants, aligned, variant.options, f"sm_{about.architecture}")
        function, start = active.load(made.image, made.name, made.shared), active.launch_kernel
        if made.scratch:
            start = with_scratch(start, made)
        places = list(kernel.parameters)
        self.count = len(places) + 2
        self.used = [places.index(name) for name in made.parameters] + [len(places), len(places) + 1]
        pool: list[Any] = []  # of parameter buffers: one is taken out for the time of a launch, so threads share none
        self.entry = (start, function, about.warp_size * made.num_warps, made.shared, pool, self.buffer)

    def buffer(self) -> tuple[Any, int, Any]:
        """Memory for the arguments, eight bytes each; the address of the list of addresses that the driver wants, of
        those arguments that the code takes; the list."""
        memory = bytearray(8 * self.count)
        start = addressof(c_char.from_buffer(memory))
        addresses = (c_void_p * len(self.used))(*[start + 8 * i for i in self.used])
        return memory, addressof(addresses), addresses


def with_scratch(start: Any, made: Any) -> Any:
    """``start`` for a kernel whose programs need global memory of their own: it lives in order of the stream."""
    if made.scratch_align > 256:
        raise NotImplementedError(f"{made.name}: scratch memory aligned to {made.scratch_align} bytes")
    place = 8 * len(made.parameters)  # of its address, among the addresses of the parameters

    def start_with_scratch(function: Any, gx: int, gy: int, gz: int, *rest: Any) -> Any:
        scratch = Block(made.scratch * gx * gy * gz)
        parameters = rest[-2]
        c_uint64.from_address(c_uint64.from_address(parameters + place).value).value = scratch.ptr
        return start(function, gx, gy, gz, *rest)

    return start_with_scratch


def integer_class(n: int) -> int:
    """What an integer is specialized on."""
    return (ONE if n == 1 else PLAIN if n & 15 else 0) | (0 if -2147483648 <= n < 2147483648 else LONG)


def code_of(source: str, name: str) -> CodeType:
    """The code of the one function that a source defines."""
    names: dict[str, Any] = {}
    exec(compile(source, f"<launcher of {name}>", "exec"), names)
    found: CodeType = names["launch"].__code__
    return found


FIRST = code_of("def launch(gx, gy, gz, *a): _variant.first(gx, gy, gz, *a)", "a kernel")
EMULATED: tuple[CodeType, dict[str, Any]] = code_of(
    "def launch(gx, gy, gz, *a): _variant.emulate(gx, gy, gz, *a)", "an emulated kernel"), {}


@functools.cache
def launcher(kernel: Kernel, pattern: tuple[str, ...]) -> tuple[CodeType, dict[str, Any]]:
    """The code that launches a kernel's variants with arguments of these kinds, and the names that it alone needs."""
    formats = {ARRAY: "Q", WHOLE: "q", **PACKED}
    pack = struct.Struct("=" + "".join([formats[kind] for kind in pattern])).pack_into
    name = "_".join(["_pack", *pattern])  # another thread may still be in the code of another pattern
    return code_of(launcher_source(list(kernel.parameters), pattern, name), kernel.name), {name: pack}


def launcher_source(names: list[str], pattern: tuple[str, ...], pack: str) -> str:
    """The source of ``launch`` for such arguments, which ``pack`` packs. What it has of its own starts with an
    underscore.

    The key of its lookup: device, dtypes, which addresses are not divisible by 16 (bits), classes of integers."""
    arrays = [name for name, kind in zip(names, pattern, strict=True) if kind == ARRAY]
    whole = [name for name, kind in zip(names, pattern, strict=True) if kind == WHOLE]
    given = "".join(f", {name}" for name in names)
    everything = f"({', '.join(names)},)" if names else "()"
    key = ["_home.device"] + [f"{name}.dtype" for name in arrays]
    if arrays:
        bits = " | ".join(f"(_ptr_{name} % 16 and {1 << i})" for i, name in enumerate(arrays))
        key.append(f"({' or '.join(f'_ptr_{name} % 16' for name in arrays)}) and ({bits})")
    for n in whole:  # integer_class(n)
        key.append(f"({n} % 16 and ({ONE} if {n} == 1 else {PLAIN})) if -1 < {n} < 2147483648 else _class({n})")
    strange = " or ".join(f"{name}.owner.home is not _home" for name in arrays) or "False"
    packed = "".join(f", _ptr_{name}" if kind == ARRAY else f", {name}"
                     for name, kind in zip(names, pattern, strict=True))
    addresses = "".join(f"        _ptr_{name} = {name}.ptr\n" for name in arrays)
    return f"""
def launch(gx, gy, gz{given}):
    if not (gx and gy and gz):
        return
    _home = _current.home or _find()
    try:
        _strange = {strange}
{addresses}        _key = ({', '.join(key)},)
    except (AttributeError, TypeError, NotImplementedError) as _error:
        return _variant.again(_error, gx, gy, gz{given})
    if _strange:
        if _variant.elsewhere((gx, gy, gz), {everything}):
            return
    try:
        _start, _function, _block, _shared, _pool, _fresh = _table[_key]
    except KeyError:
        _start, _function, _block, _shared, _pool, _fresh = _variant.prepare(_key, _home.device, {everything})
    try:
        _slot = _pool.pop()
    except IndexError:
        _slot = _fresh()
    try:
        {pack}(_slot[0], 0{packed})
    except _misfit as _error:
        return _variant.again(_error, gx, gy, gz{given})
    _code = _start(_function, gx, gy, gz, _block, 1, 1, _shared, _home.stream, _slot[1], 0)[0]
    _pool.append(_slot)
    if _code:
        raise _variant.failed(_code, (gx, gy, gz))
"""


def kernel(function: Callable[..., Any]) -> Kernel:
    """Make a launchable kernel of a function in Triton's language."""
    return Kernel(function)
