"""Pointwise ops: tables of ops, each one line of arithmetic in ``pointwise_ops.py`` or ``pointwise_pairs.py``.

    unaries["exp"](a)        out[i] = exp(a[i])
    binaries["add"](a, b)    out[i] = a[i] + b[i], arrays that broadcast, or an array and a number

The 16-bit types are computed in float32 and rounded once; a number is never rounded to 16 bits first. What small arrays
cost is the host's time: the common cases of the tables go straight to their kernel.
"""
from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import elementwise_kernels as kernels
from tritium.kernels.triton import pointwise_ops as ops
from tritium.kernels.triton import pointwise_pairs as pairs
from tritium.kernels.triton.elementwise import (
    B1,
    BF16,
    F16,
    F32,
    F64,
    FLOATING,
    block_size,
    compute_type,
    elementwise,
    new_like,
    number_bits,
    on_reset,
)
from tritium.kernels.triton.memory import empty

f16, bf16, f32, f64 = F16, BF16, F32, F64
LOW = (f16, bf16)
I64, U64 = np.dtype(np.int64), np.dtype(np.uint64)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
BOOLEAN = frozenset(COMPARISONS) | {"logical_and", "logical_or", "logical_xor"}
WHOLE_ONLY = frozenset("""gcd lcm int_pow bitwise_and bitwise_or bitwise_xor bitwise_left_shift
 bitwise_right_shift""".split())
FLOATS_ONLY = frozenset("""div float_power atan2 hypot logaddexp logaddexp2 copysign nextafter ldexp xlogy""".split())


def _refuse(name: str, dtype: Any) -> NoKernel:
    return NoKernel(f"{name} has no Triton kernel for {dtype}: not implemented for cuda tensors")


def number_of(x: Any) -> Any:
    """A host scalar (a number, a NumPy scalar or a 0-d array) as a Python number; None for an array of a device.

    Raises DeviceMismatch for a NumPy array with dimensions."""
    if isinstance(x, DeviceArray):
        return None
    if isinstance(x, np.ndarray) and x.ndim:
        raise DeviceMismatch()
    return x.item() if isinstance(x, (np.ndarray, np.generic)) else x


# --- unary ---

class Unary:
    """An op of one array. ``floating``: what is done with floats; ``whole``: with integers and bool, None for nothing;
    ``result``: the dtype of the result, None for that of the array; ``heavy``: see ``block_size``."""

    __slots__ = ("name", "floating", "whole", "result", "heavy", "fast")

    def __init__(self, name: str, floating: Any, whole: Any = None, result: Any = None, heavy: int = 1) -> None:
        self.name, self.floating, self.whole, self.result, self.heavy = name, floating, whole, result, heavy
        self.fast: dict[Any, Any] = {}
        on_reset(self.fast.clear)

    def __call__(self, a: Any) -> Any:
        found = self.fast.get(a.dtype) or self.prepare(a.dtype)
        variant, size, dtype, op = found
        if a.dense:
            n = a.size
            out = new_like(a, dtype)
            if n:
                variant(-(-n // size), 1, 1, a, out, n)
            return out
        return elementwise(op, (a,), (), dtype, heavy=self.heavy)

    def prepare(self, dtype: Any) -> Any:
        """What a call with a dtype needs. Raises NoKernel where there is no kernel for it."""
        compute_type(dtype)
        op = self.floating if dtype in FLOATING else self.whole
        if op is None:
            raise _refuse(self.name, dtype)
        result = dtype if self.result is None else self.result
        if self.name == "square" and dtype == B1:
            result = I64
        size = block_size(max(dtype.itemsize, result.itemsize), self.heavy)
        found = self.fast[dtype] = (kernels.map1.bind(OP=op, SPREAD=0, BLOCK=size, num_warps=4), size, result, op)
        return found


def _unary_table() -> dict[str, Any]:
    table = {name: Unary(name, getattr(ops, name)) for name in """frac sqrt rsqrt exp exp2 expm1 log log2 log10 log1p
        asin acos atan sinh cosh tanh asinh acosh atanh sigmoid logit deg2rad rad2deg""".split()}
    table |= {name: Unary(name, getattr(ops, name), heavy=2) for name in ("sin", "cos", "tan", "sinc")}
    table["reciprocal"] = Unary("reciprocal", ops.inverse)
    for name, op in {"neg": ops.neg, "abs": ops.absolute, "sign": ops.sign, "sgn": ops.sign, "relu": ops.relu,
                     "square": ops.square}.items():
        table[name] = Unary(name, op, op)
    for name, op in {"floor": ops.floor, "ceil": ops.ceil, "trunc": ops.trunc, "round": ops.nearest,
                     "conj": kernels.same}.items():
        table[name] = Unary(name, op, kernels.same)
    for name, op, whole in (("isnan", ops.isnan, ops.never), ("isinf", ops.isinf, ops.never),
                            ("isfinite", ops.isfinite, ops.always), ("isposinf", ops.isposinf, ops.never),
                            ("isneginf", ops.isneginf, ops.never), ("signbit", ops.signbit, ops.signbit),
                            ("logical_not", ops.logical_not, ops.logical_not)):
        table[name] = Unary(name, op, whole, B1)
    table["bitwise_not"] = Unary("bitwise_not", None, ops.bitwise_not)
    return table


# --- binary ---

class Binary:
    """An op of two arrays, or of an array and a number. ``result``: the dtype of the result, None for that of the
    operands."""

    __slots__ = ("name", "op", "result", "fast", "fast_number")

    def __init__(self, name: str, op: Any, result: Any = None) -> None:
        self.name, self.op, self.result = name, op, result
        self.fast: dict[Any, Any] = {}
        self.fast_number: dict[Any, Any] = {}
        on_reset(self.fast.clear)
        on_reset(self.fast_number.clear)

    def __call__(self, a: Any, b: Any) -> Any:
        if type(a) is DeviceArray and a.dense:
            if type(b) is DeviceArray:
                if b.dense and a.shape == b.shape and a.dtype is b.dtype:
                    variant, size, dtype = self.fast.get(a.dtype) or self.prepare(a.dtype)
                    n = a.size
                    out = new_like(a, dtype)
                    if n:
                        variant(-(-n // size), 1, 1, a, b, out, n)
                    return out
            elif (type(b) is float or type(b) is int) and a.dtype in FLOATING:
                variant, size, dtype, kind = self.fast_number.get(a.dtype) or self.prepare_number(a.dtype)
                n = a.size
                bits = number_bits(b, kind)
                out = new_like(a, dtype)
                if n:
                    variant(-(-n // size), 1, 1, a, out, n, bits, 0, 0, 0)
                return out
        return self.general(a, b, None)

    def check(self, dtype: Any) -> Any:
        """The op for a dtype. Raises NoKernel where there is none."""
        compute_type(dtype)
        if self.name in (WHOLE_ONLY if dtype in FLOATING else FLOATS_ONLY) or dtype == B1 and self.name in (
                "sub", "int_pow", "pow"):
            raise _refuse(self.name, dtype)
        return pairs.int_pow if self.name == "pow" and dtype not in FLOATING else self.op

    def prepare(self, dtype: Any) -> Any:
        """What a call with two dense arrays needs."""
        op = self.check(dtype)
        result = self.result or dtype
        size = block_size(max(dtype.itemsize, result.itemsize))
        found = self.fast[dtype] = (kernels.map2.bind(OP=op, SPREAD=0, BLOCK=size, num_warps=4), size, result)
        return found

    def prepare_number(self, dtype: Any) -> Any:
        """What a call with a dense array of floats and a number needs."""
        kind = compute_type(dtype)
        result = self.result or dtype
        size = block_size(max(dtype.itemsize, result.itemsize))
        variant = kernels.map1s.bind(OP=self.check(dtype), KIND=kind, SCALARS=1, SPREAD=0, BLOCK=size, num_warps=4)
        found = self.fast_number[dtype] = (variant, size, result, kind)
        return found

    def general(self, a: Any, b: Any, out: Any) -> Any:
        """Any operands, and perhaps an array to write into."""
        if not isinstance(b, DeviceArray):
            return self.with_number(a, number_of(b), out, False)
        if not isinstance(a, DeviceArray):
            return self.with_number(b, number_of(a), out, True)
        if a.dtype != b.dtype:
            compute_type(a.dtype), compute_type(b.dtype)
            common = np.promote_types(a.dtype, b.dtype)
            if self.name in COMPARISONS and a.dtype not in FLOATING and b.dtype not in FLOATING:
                if common in FLOATING:
                    raise _refuse(self.name, f"{a.dtype} and {b.dtype}")
            else:
                a, b = (x if x.dtype == common else cast(x, common) for x in (a, b))
        op = self.check(a.dtype)
        return elementwise(op, (a, b), (), self.result or a.dtype, out)

    def with_number(self, a: Any, value: Any, out: Any, front: bool) -> Any:
        """An array and a number; ``front``: the number comes first."""
        op = self.check(a.dtype)
        if isinstance(value, complex):
            raise _refuse(self.name, "complex numbers")
        kind = compute_type(a.dtype)
        if a.dtype not in FLOATING and self.name in COMPARISONS:  # exactly, whatever the number
            kind = tl.uint64 if a.dtype == U64 else tl.int64
            least, most = (0, 2**64 - 1) if a.dtype == U64 else (-2**63, 2**63 - 1)
            if isinstance(value, float) and not value.is_integer():
                raise _refuse(f"{self.name} with {value}", a.dtype)
            if not least <= value <= most:  # every element is on the same side
                found = COMPARISONS[self.name](*((value, 0) if front else (0, value)))
                return elementwise(ops.always if found else ops.never, (a,), (), B1, out)
        return elementwise(op, (a,), (value,), self.result or a.dtype, out, kind, front=front)


def _binary_table() -> dict[str, Any]:
    renamed = {"pow": pairs.power, "float_power": pairs.power, "bitwise_left_shift": pairs.left_shift,
               "bitwise_right_shift": pairs.right_shift}
    return {name: Binary(name, renamed.get(name) or getattr(pairs, name), B1 if name in BOOLEAN else None) for name in
            """add sub mul div floor_divide trunc_divide remainder fmod pow int_pow float_power atan2 maximum minimum
            fmax fmin hypot logaddexp logaddexp2 copysign nextafter ldexp xlogy heaviside gcd lcm bitwise_and bitwise_or
            bitwise_xor bitwise_left_shift bitwise_right_shift eq ne lt le gt ge logical_and logical_or
            logical_xor""".split()}


unaries = _unary_table()
binaries = _binary_table()
low_binaries = binaries


def into(name: str, a: Any, b: Any, out: Any) -> None:
    """``out[...] = f(a, b)`` without a temporary; ``out`` may be ``a`` or ``b``.

    Raises ValueError where the result does not have the shape of ``out``."""
    found = binaries[name]
    if a is out and a.dense and found.result is None:
        if type(b) is DeviceArray:
            if b.dense and a.shape == b.shape and a.dtype is b.dtype and not 0 < abs(b.ptr - a.ptr) < a.nbytes:
                variant, size, _ = found.fast.get(a.dtype) or found.prepare(a.dtype)
                n = a.size
                variant(-(-n // size), 1, 1, a, b, out, n)
                return
        elif (type(b) is float or type(b) is int) and a.dtype in FLOATING:
            variant, size, _, kind = found.fast_number.get(a.dtype) or found.prepare_number(a.dtype)
            n = a.size
            variant(-(-n // size), 1, 1, a, out, n, number_bits(b, kind), 0, 0, 0)
            return
    found.general(a, b, out)


# --- choices and mixtures ---

def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, else ``b``: arrays of one dtype or numbers."""
    x, y = number_of(a), number_of(b)
    if condition.dtype != B1:
        condition = binaries["ne"](condition, 0)
    if x is None and y is None:
        if a.dtype != b.dtype:
            compute_type(a.dtype), compute_type(b.dtype)
            common = np.promote_types(a.dtype, b.dtype)
            a, b = (t if t.dtype == common else cast(t, common) for t in (a, b))
        compute_type(a.dtype)
        return elementwise(pairs.choose, (condition, a, b), (), a.dtype)
    if x is None:
        return elementwise(pairs.choose, (condition, a), (y,), a.dtype, None, compute_type(a.dtype))
    if y is None:
        return elementwise(pairs.choose_left, (condition, b), (x,), b.dtype, None, compute_type(b.dtype))
    dtype = np.result_type(a, b) if isinstance(a, (np.ndarray, np.generic)) else np.result_type(type(a), b)
    return elementwise(pairs.choose, (condition,), (x, y), dtype, None, compute_type(dtype))


def clamp(a: Any, low: Any, high: Any) -> Any:
    """``a`` kept between ``low`` and ``high`` (either may be None); nan passes through."""
    if low is None:
        return binaries["minimum"](a, high)
    if high is None:
        return binaries["maximum"](a, low)
    kind = compute_type(a.dtype)
    least, most = number_of(low), number_of(high)
    if least is not None and most is not None:
        return elementwise(pairs.clamp, (a,), (least, most), a.dtype, None, kind)
    if most is not None:
        return elementwise(pairs.clamp, (a, low), (most,), a.dtype, None, kind)
    if least is not None:
        return elementwise(pairs.clamp_above, (a, high), (least,), a.dtype, None, kind)
    return elementwise(pairs.clamp, (a, low, high), (), a.dtype, None, kind)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    """``a + weight * (b - a)``, from the nearer end."""
    return _three("lerp", pairs.lerp, (a, b), (weight,))


def addcmul(a: Any, x: Any, y: Any, value: Any) -> Any:
    """``a + value * x * y`` in one dtype."""
    return _three("addcmul", pairs.addcmul, (a, x, y), (value,), whole=True)


def addcdiv(a: Any, x: Any, y: Any, value: Any) -> Any:
    """``a + value * x / y`` in one dtype."""
    return _three("addcdiv", pairs.addcdiv, (a, x, y), (value,))


def _three(name: str, op: Any, arrays: tuple[Any, ...], last: tuple[Any], whole: bool = False) -> Any:
    dtype = arrays[0].dtype
    kind = compute_type(dtype)
    if dtype not in FLOATING and (not whole or dtype == B1):
        raise _refuse(name, dtype)
    for x in arrays:
        number_of(x)  # raises for arrays of the host
        if x.dtype != dtype:
            raise _refuse(name, f"{dtype} and {x.dtype}")
    number = number_of(last[0])
    if number is None:
        return elementwise(op, (*arrays, *last), (), dtype, None, kind)
    return elementwise(op, arrays, (number,), dtype, None, kind)


def nan_to_num(a: Any, nan: float, high: float, low: float) -> Any:
    """nan replaced by ``nan``, infinities by ``high`` and ``low``."""
    kind = compute_type(a.dtype)
    if a.dtype not in FLOATING:
        return cast(a, a.dtype)
    return elementwise(pairs.nan_to_num, (a,), (nan, high, low), a.dtype, None, kind)


def isclose(a: Any, b: Any, rtol: float, atol: float, equal_nan: bool = False) -> Any:
    """Where |a - b| <= atol + rtol * |b|, or both are equal (with ``equal_nan``: or nan)."""
    if a.dtype not in FLOATING:
        compute_type(a.dtype)
        a, b = cast(a, F64), cast(b, F64)
    kind = compute_type(a.dtype)
    return elementwise(pairs.isclose_nan if equal_nan else pairs.isclose, (a, b), (rtol, atol), B1, None, kind)


# --- casts ---

_casts: dict[Any, Any] = {}
on_reset(_casts.clear)
WORDS = {n: np.dtype(f"i{n}") for n in (1, 2, 4, 8)}


def cast(a: Any, dtype: Any) -> Any:
    """``a`` in another dtype, as C converts. Always a copy; keeps the order of dimensions in memory.

    Floats outside an integer type's range, and nan, give what the processor gives; PyTorch leaves that open too."""
    source = a.dtype
    if source.kind == "c" or dtype.kind == "c":
        from tritium.kernels.triton import copy

        if source == dtype:
            return copy.clone(a)
        out = empty(a.shape, dtype, a.owner.device)
        copy.copy_into(out, a)
        return out
    if source == dtype:  # bits that nobody looks at
        word = WORDS[source.itemsize]
        found = cast_words(a.look(a.ptr, a.shape, a.strides, word), word)
        return found.look(found.ptr, found.shape, found.strides, dtype)
    return cast_words(a, dtype)


def cast_words(a: Any, dtype: Any) -> Any:
    """``cast`` between the dtypes that kernels know."""
    if not a.dense:
        compute_type(a.dtype), compute_type(dtype)
        return elementwise(kernels.same, (a,), (), dtype, usual=0 in a.strides)
    found = _casts.get((a.dtype, dtype))
    if found is None:
        compute_type(a.dtype), compute_type(dtype)
        size = block_size(max(a.dtype.itemsize, dtype.itemsize))
        found = kernels.map1.bind(OP=kernels.same, SPREAD=0, BLOCK=size, num_warps=4), size
        _casts[a.dtype, dtype] = found
    variant, size = found
    n = a.size
    out = new_like(a, dtype)
    if n:
        variant(-(-n // size), 1, 1, a, out, n)
    return out


# --- what is shipped ---

COMPUTED = {"fp16": tl.float32, "bf16": tl.float32, "fp32": tl.float32, "fp64": tl.float64, "i64": tl.int64,
            "i32": tl.int32, "i1": tl.int1}
NARROW = ("fp16", "bf16", "i1", "i8", "u8")


def flat_case(name: str, op: Any, inputs: list[str], out: str, scalars: int = 0, kind: Any = None,
              heavy: int = 1, family: str = "pointwise") -> Case:
    """An op over aligned, contiguous arrays: ``inputs`` and ``out`` are types without the star. Two inputs at most."""
    block = 2048 if all(t in NARROW for t in (*inputs, out)) and heavy == 1 else 1024
    types = {k: "*" + t for k, t in zip("xy", inputs, strict=False)} | {"out": "*" + out, "n": "i64"}
    aligned = tuple(k for k in types if k != "n")
    constants: dict[str, Any] = {"OP": op, "SPREAD": 0, "BLOCK": block // heavy}
    if scalars:
        types |= dict.fromkeys("abcd", "i64")
        constants |= {"KIND": kind or COMPUTED[inputs[0]], "SCALARS": scalars}
    found = {(1, False): kernels.map1, (1, True): kernels.map1s, (2, False): kernels.map2, (2, True): kernels.map2s}
    wide = heavy == 1 and len({t in NARROW[2:] for t in (*inputs, out)}) == 1  # 8 bytes are natural beside 8 * 4
    return Case(f"{family} {name} {' '.join(inputs)} -> {out}" + " with numbers" * bool(scalars),
                found[len(inputs), bool(scalars)], types, constants, aligned, wide=wide)


def many_case(name: str, op: Any, inputs: list[str], out: str, scalars: int = 0) -> Case:
    """The same with three to five inputs."""
    given = [*inputs, *[inputs[0]] * (5 - len(inputs)), *[out] * 3]
    names = [*(f"x{i}" for i in range(5)), *(f"out{i}" for i in range(3))]
    types = {k: "*" + t for k, t in zip(names, given, strict=True)}
    return Case(f"pointwise {name} {' '.join(inputs)} -> {out}", kernels.mapn,
                types | dict.fromkeys("abcdn", "i64"),
                {"OP": op, "KIND": COMPUTED[out], "INPUTS": len(inputs), "OUTPUTS": 1, "SCALARS": scalars, "SPREAD": 0,
                 "BLOCK": 2048 if all(t in NARROW for t in inputs) else 1024}, tuple(names), wide=True)


def tile_case(name: str, dtype: str, layout: tuple[int, int, int], rank: int, step: int, tile: tuple[int, int],
              crossed: int = 0, wide: bool = False) -> Case:
    """``add`` over tiles. ``layout``: how the output and the inputs step along a row (see ``offsets``)."""
    types = {k: "*" + dtype for k in ("x", "y", "out")}
    numbers = [k for k in kernels.tiles2.parameters if k not in types]
    return Case(f"pointwise add {dtype}, {name}", kernels.tiles2, types | dict.fromkeys(numbers, "i64"),
                {"OP": pairs.add, "KIND": COMPUTED[dtype], "INPUTS": 2, "SCALARS": 0, "RANK": rank, "CROSSED": crossed,
                 "STEP": step, "LAYOUT": layout[0] | layout[1] << 3 | layout[2] << 6, "BR": tile[0], "BC": tile[1],
                 "LONG": False}, ("x", "y", "out"), wide=wide)


def tiles_case(dtype: str) -> Case:
    """``where`` over tiles, its condition a column for all."""
    inputs, outputs = [f"x{i}" for i in range(5)], [f"out{i}" for i in range(3)]
    types = {k: "*" + dtype for k in (*inputs, *outputs)} | {"x0": "*i1"}
    numbers = [k for k in kernels.tilesn.parameters if k not in types]
    layout = sum(how << 3 * i for i, how in enumerate((1, 0, 0, 0, 1, 1)))  # three outputs, then the inputs
    return Case(f"pointwise where {dtype}, a column for all", kernels.tilesn, types | dict.fromkeys(numbers, "i64"),
                {"OP": pairs.choose, "KIND": COMPUTED[dtype], "INPUTS": 3, "OUTPUTS": 1, "SCALARS": 0, "RANK": 1,
                 "CROSSED": 0, "STEP": 8, "LAYOUT": layout, "BR": 4, "BC": 256, "LONG": False}, (*inputs, *outputs),
                wide=True)


def cases() -> Iterator[Case]:
    """What is shipped: the kernels of the launcher in their configurations, and ops of every kind."""
    for t in ("fp32", "bf16", "fp16", "fp64"):
        yield flat_case("add", pairs.add, [t, t], t)
        yield flat_case("exp", unaries["exp"].floating, [t], t)
        yield tile_case("a row for all", t, (1, 1, 3), 1, 8, (4, 256) if t in ("fp32", "fp64") else (8, 256), wide=True)
    for t in ("fp32", "bf16"):
        for name in ("div", "maximum"):
            yield flat_case(name, binaries[name].op, [t, t], t)
        yield flat_case("tanh", unaries["tanh"].floating, [t], t)
        yield flat_case("mul", pairs.mul, [t], t, 1)
        yield flat_case("clamp", pairs.clamp, [t], t, 2)
        yield flat_case("lt", pairs.lt, [t, t], "i1")
        yield many_case("where", pairs.choose, ["i1", t, t], t)
        yield many_case("addcmul", pairs.addcmul, [t, t, t], t, 1)
        yield tile_case("a column for all", t, (1, 1, 0), 1, 8, (4, 256), wide=True)
        yield tile_case("strided, 4-d", t, (1, 2, 2), 3, 1, (16, 64))
        yield tile_case("transposed", t, (1, 1, 5), 1, 8, (32, 32) if t == "fp32" else (64, 64), crossed=1)
        yield tiles_case(t)
    for source, target in (("fp32", "bf16"), ("fp32", "fp16"), ("fp32", "fp64"), ("fp32", "i64"), ("fp32", "i1"),
                           ("bf16", "fp32"), ("fp16", "fp32"), ("fp64", "fp32"), ("i64", "fp32"), ("i1", "fp32")):
        yield flat_case("cast", kernels.same, [source], target)
    for t in ("i64", "i32", "i1"):
        yield flat_case("add", pairs.add, [t, t], t)
    yield flat_case("eq", pairs.eq, ["i64", "i64"], "i1")
    for name in ("floor_divide", "gcd", "int_pow"):
        yield flat_case(name, binaries[name].op, ["i64", "i64"], "i64")
    for name in ("pow", "atan2", "logaddexp", "nextafter", "floor_divide"):
        yield flat_case(name, binaries[name].op, ["fp32", "fp32"], "fp32")
    for name in ("log", "sin", "expm1", "sqrt", "isfinite"):
        yield flat_case(name, unaries[name].floating, ["fp32"], "i1" if name == "isfinite" else "fp32",
                        heavy=unaries[name].heavy)
    yield flat_case("cos", unaries["cos"].floating, ["bf16"], "bf16", heavy=unaries["cos"].heavy)
