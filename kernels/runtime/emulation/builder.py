"""What the interpreter does for each instruction: Triton's own builder with its arithmetic put right.

A block is a NumPy array, a scalar an array of shape (1,). bfloat16 and the 8-bit floats are ``ml_dtypes`` types, so
that arithmetic on them rounds to nearest even once per operation, as a GPU's does. Integers behave as in PTX: they wrap
around, division truncates, and what is undefined there (a division by zero, a shift past the width) has one fixed
result here instead of an exception.
"""
from __future__ import annotations

import ctypes
import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
import triton.runtime.interpreter as interpreter
from triton.language.semantic import TritonSemantic

from tritium.kernels.reference.parallel import one_blas_thread
from tritium.kernels.runtime.emulation import memory
from tritium.kernels.runtime.emulation.libdevice import compute, fma64, symbol

_ir = interpreter._ir
_native = interpreter._interpreter

LOW: dict[Any, Any] = {
    tl.bfloat16: np.dtype(ml_dtypes.bfloat16),
    tl.float8e4nv: np.dtype(ml_dtypes.float8_e4m3fn),
    tl.float8e5: np.dtype(ml_dtypes.float8_e5m2),
    tl.float8e4b8: np.dtype(ml_dtypes.float8_e4m3fnuz),
    tl.float8e5b16: np.dtype(ml_dtypes.float8_e5m2fnuz),
}
KINDS: dict[str, Any] = {t.name: k for t, k in LOW.items()} | {
    "int1": np.dtype(bool), "fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32), "fp64": np.dtype(np.float64),
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}}
LOW_KINDS = frozenset(LOW.values())
POINTER = np.dtype(np.uint64)


class Handle:
    """A value in the interpreter: its data, and its type without the shape (a number's or a pointer's)."""

    __slots__ = ("data", "dtype", "attr")

    def __init__(self, data: Any, dtype: Any, attr: Any = None) -> None:
        self.data, self.dtype, self.attr = data, dtype, attr

    def __bool__(self) -> bool:
        return bool(self.data.all())

    def get_element_ty(self) -> Any:
        dtype = self.dtype
        while hasattr(dtype, "element_ty"):
            dtype = dtype.element_ty
        return dtype

    def clone(self) -> Handle:
        return Handle(self.data.copy(), self.dtype)

    def set_attr(self, key: str, value: Any) -> None:
        pass


def numpy_type(dtype: Any) -> Any:
    """The NumPy dtype of the elements of a Triton type."""
    dtype = dtype.scalar
    return POINTER if dtype.is_ptr() else KINDS[dtype.name]


def convert(data: Any, kind: Any) -> Any:
    """Elements in another type, as a GPU converts them: nearest even between floats, towards zero and saturating to
    integers (nan: 0, and the lowest number in 64 bits)."""
    source = data.dtype
    if source == kind:
        return data
    if kind == np.bool_:
        return data != 0
    if kind.kind not in "iu" or source.kind not in "fV":
        return data.astype(kind)
    wide = data if source == np.float64 else data.astype(np.float32)
    size = max(kind.itemsize, 2)  # the machine has no 8-bit conversion: 16 bits, of which 8 are kept
    limits = np.iinfo(f"{kind.kind}{size}")
    out = np.trunc(wide)
    # the bounds as floats: the first number above the range, and the lowest in it
    above, below = out >= out.dtype.type(2.0 ** (8 * size - (kind.kind == "i"))), out < out.dtype.type(limits.min)
    nan = out != out
    strange = above | below | nan
    if not strange.any():
        return out.astype(limits.dtype).astype(kind, copy=False)
    result = np.where(strange, 0, out).astype(limits.dtype)
    result[above], result[below] = limits.max, limits.min
    if source == np.float64 or size == 8:
        result[nan] = -(2 ** (8 * size - 1)) if kind.kind == "i" else 2 ** (8 * size - 1)
    return result.astype(kind, copy=False)


def toward_zero(data: Any, kind: Any) -> Any:
    """Floats in a narrower type, rounded towards zero."""
    out = data.astype(kind)
    wide = out.astype(data.dtype)
    too_far = np.abs(wide) > np.abs(data)
    if too_far.any():
        bits = out.view(memory.WORDS[kind.itemsize]).copy()
        bits[too_far] -= 1  # the next number nearer to zero; from inf, the largest
        out = bits.view(kind)
    return out


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A matrix product on one thread: the BLAS's own threads would spin after each of the many small ones."""
    with one_blas_thread():
        return np.matmul(a, b)


def tf32(x: Any) -> Any:
    """float32 rounded to the 10 bits of mantissa that a tensor core reads (to nearest, ties away from zero)."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x)


def _easy(a: Any, b: Any) -> bool:
    """Whether all signs are plus and the one divisor is not zero: NumPy's division is the machine's then."""
    return b.size == 1 and b.item() > 0 and (a.dtype.kind == "u" or a.size == 0 or a.min() >= 0)


def divide(a: Any, b: Any) -> Any:
    """Integer quotient towards zero; all ones for a division by zero."""
    if _easy(a, b):
        return a // b
    zero = b == 0
    if zero.any():
        b = np.where(zero, b.dtype.type(1), b)
        return np.where(zero, ~a.dtype.type(0), (a - np.fmod(a, b)) // b)
    return (a - np.fmod(a, b)) // b


def remainder(a: Any, b: Any) -> Any:
    """What ``divide`` leaves, with the sign of the dividend; the dividend for a division by zero."""
    if _easy(a, b):
        return a - a // b * b
    zero = b == 0
    if zero.any():
        return np.where(zero, a, np.fmod(a, np.where(zero, b.dtype.type(1), b)))
    return np.fmod(a, b)


def high_product(a: Any, b: Any) -> Any:
    """The high half of the product of 64-bit words."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a, b = a.view(np.uint64), b.view(np.uint64)
    a0, a1, b0, b1 = a & mask, a >> half, b & mask, b >> half
    middle = a1 * b0 + (a0 * b0 >> half)
    other = a0 * b1 + (middle & mask)
    return a1 * b1 + (middle >> half) + (other >> half)


def _boolean(op: Any) -> Any:
    def wrapped(a: Any, b: Any) -> Any:
        return (op(a.astype(np.int8), b.astype(np.int8)) & 1).astype(np.bool_)

    return wrapped


def _shifted(op: Any, view: str) -> Any:
    def wrapped(a: Any, b: Any) -> Any:
        return op(a.view(f"{view}{a.itemsize}"), b.view(f"{view}{b.itemsize}")).view(a.dtype)

    return wrapped


class Builder(interpreter.InterpreterBuilder):
    """Triton's interpreting builder, repaired. ``launch``: the launch that runs now."""

    launch: Any = None
    last_symbol = ""  # the function of the math library that was called last

    def __init__(self) -> None:
        super().__init__()
        # asserts count; overflow is not checked (it costs ten operations for each one, and the compiler does not)
        self.options: Any = dataclasses.replace(interpreter.InterpreterOptions(), debug=True, sanitize_overflow=False)
        self.grid_idx, self.grid_dim = (0, 0, 0), (1, 1, 1)
        try:
            from triton.backends.compiler import GPUTarget
            from triton.backends.nvidia.compiler import min_dot_size

            self.codegen_fns["min_dot_size"] = min_dot_size(GPUTarget("cuda", 90, 32))
        except ImportError:
            pass

    # constants and types

    def get_bf16(self, value: Any) -> Handle:
        return Handle(np.array([value], np.float32).astype(LOW[tl.bfloat16]), tl.bfloat16)

    def get_void_ty(self) -> Any:
        return tl.void

    def get_null_value(self, type: Any) -> Handle:
        return Handle(np.zeros(1, numpy_type(type)), type.scalar)

    def get_all_ones_value(self, type: Any) -> Handle:
        kind = numpy_type(type)
        return Handle(np.ones(1, kind) if kind == np.bool_ else ~np.zeros(1, kind), type.scalar)

    # memory

    def load(self, pointers: Handle, mask: Any, other: Any) -> Any:
        """Loaded data. ``mask``, ``other``: arrays that broadcast, or None. Lanes without a value get all bits set."""
        kind = numpy_type(pointers.dtype.element_ty)
        size = kind.itemsize
        word = memory.WORDS[size]
        address = pointers.data.view(np.int64)
        region = memory.find(self.launch, address, mask, size, "load")
        if region is None:
            shape = np.broadcast_shapes(address.shape, *[np.shape(x) for x in (mask, other) if x is not None])
            filler = np.full(shape, ~word.type(0)) if other is None else np.broadcast_to(other.view(word), shape)
            if mask is None:
                mask = np.ones(shape, bool)
            words = _native.load(np.broadcast_to(pointers.data, shape), np.broadcast_to(mask, shape),
                                 np.ascontiguousarray(filler), word)
            return words != 0 if kind == np.bool_ else words.view(kind)
        if self.launch.races is not None:
            self.launch.races.touch(self.launch, region, address, mask, size, "load")
        index = (address - region.start) >> memory.SHIFT[size]
        words = region.words(size).take(index, mode="clip")
        if mask is not None and not mask.all():
            words = np.where(mask, words, ~word.type(0) if other is None else other.view(word))
        return words != 0 if kind == np.bool_ else words.view(kind)

    def store(self, pointers: Handle, value: Any, mask: Any) -> None:
        """``value``: an array of the pointers' element type that broadcasts; ``mask``: an array or None."""
        size = value.dtype.itemsize
        address = pointers.data.view(np.int64)
        region = memory.find(self.launch, address, mask, size, "store")
        words = value.view(memory.WORDS[size])
        if region is None:
            shape = address.shape
            mask = np.ones(shape, bool) if mask is None else np.broadcast_to(mask, shape)
            _native.store(pointers.data, np.ascontiguousarray(np.broadcast_to(words, shape)), mask)
            return
        if self.launch.races is not None:
            self.launch.races.touch(self.launch, region, address, mask, size, "store", words)
        index = (address - region.start) >> memory.SHIFT[size]
        if mask is not None and not mask.all():
            if mask.shape != index.shape:
                mask = np.broadcast_to(mask, index.shape)
            if words.shape != index.shape:
                words = np.broadcast_to(words, index.shape)
            region.words(size)[index[mask]] = words[mask]
        else:
            region.words(size)[index] = words

    def create_load(self, ptr: Handle, *policy: Any) -> Handle:
        return Handle(self.load(ptr, None, None), ptr.get_element_ty())

    def create_masked_load(self, ptrs: Handle, mask: Any, other: Any, *policy: Any, **named: Any) -> Handle:
        mask = mask.data if hasattr(mask, "data") and not isinstance(mask, np.ndarray) else mask
        return Handle(self.load(ptrs, mask, None if other is None else other.data), ptrs.get_element_ty())

    def create_store(self, ptr: Handle, val: Handle, *policy: Any) -> None:
        self.store(ptr, val.data, None)

    def create_masked_store(self, ptrs: Handle, value: Handle, mask: Any, *policy: Any) -> None:
        self.store(ptrs, value.data, mask.data if hasattr(mask, "data") and not isinstance(mask, np.ndarray) else mask)

    def create_addptr(self, ptr: Handle, offset: Handle) -> Handle:
        bits = ptr.get_element_ty().primitive_bitwidth
        step = offset.data.astype(np.int64)
        if bits > 8:
            step *= bits // 8
        return Handle(ptr.data + step.view(np.uint64), ptr.dtype)

    def _touched(self, ptr: Handle, mask: Any, size: int) -> None:
        address = ptr.data.view(np.int64)
        region = memory.find(self.launch, address, mask, size, "atomic")
        if region is not None and self.launch.races is not None:
            self.launch.races.touch(self.launch, region, address, mask, size, "atomic")

    def create_atomic_rmw(self, rmwOp: Any, ptr: Handle, val: Handle, mask: Handle, sem: Any, scope: Any) -> Handle:
        kind = val.data.dtype
        self._touched(ptr, mask.data, kind.itemsize)
        if kind not in LOW_KINDS:
            return super().create_atomic_rmw(rmwOp, ptr, val, mask, sem, scope)
        ops: dict[str, Any] = {"FADD": np.add, "MAX": np.maximum, "MIN": np.minimum, "XCHG": lambda old, new: new}
        op = ops[rmwOp.name]
        shape = val.data.shape
        pointers, chosen = np.broadcast_to(ptr.data, shape), np.broadcast_to(mask.data, shape)
        word, out = memory.WORDS[kind.itemsize], np.zeros(shape, kind)
        for i in np.ndindex(shape):
            if chosen[i]:
                cell = np.frombuffer((ctypes.c_ubyte * kind.itemsize).from_address(int(pointers[i])), word)
                out[i] = cell.view(kind)[0]
                cell[0] = np.asarray(op(out[i], val.data[i]), kind).view(word)
        return Handle(out, val.dtype.scalar)

    def create_atomic_cas(self, ptr: Handle, cmp: Handle, val: Handle, sem: Any, scope: Any) -> Handle:
        self._touched(ptr, None, val.data.dtype.itemsize)
        return super().create_atomic_cas(ptr, cmp, val, sem, scope)

    def create_descriptor_reduce(self, kind: Any, desc: Any, value: Handle, indices: Any) -> None:
        ptrs, mask = desc.materialize_pointers(indices)
        mask = mask if isinstance(mask, Handle) else Handle(mask, tl.int1)
        scalar, op = value.dtype.scalar, _ir.ATOMIC_OP
        unsigned = scalar.is_int_unsigned()
        name = {"ADD": "FADD" if scalar.is_floating() else "ADD", "MIN": "UMIN" if unsigned else "MIN",
                "MAX": "UMAX" if unsigned else "MAX"}.get(kind.name, kind.name)
        self.create_atomic_rmw(getattr(op, name), ptrs, value, mask, _ir.MEM_SEMANTIC.RELAXED, None)

    # conversions

    def cast_impl(self, src: Handle, dst_type: Any) -> Handle:
        return Handle(convert(src.data, numpy_type(dst_type)), dst_type.scalar)

    create_si_to_fp = create_ui_to_fp = create_fp_to_si = create_fp_to_ui = create_fp_ext = create_fp_trunc = cast_impl

    def create_int_cast(self, src: Handle, dst_type: Any, is_signed: Any) -> Handle:
        data = src.data
        if is_signed and data.dtype.kind == "u":
            data = data.view(f"i{data.itemsize}")
        elif not is_signed and data.dtype.kind == "i":
            data = data.view(f"u{data.itemsize}")
        return Handle(data.astype(numpy_type(dst_type)), dst_type.scalar)

    def create_fp_to_fp(self, src: Handle, dst_type: Any, rounding_mode: Any) -> Handle:
        kind = numpy_type(dst_type)
        if rounding_mode == _ir.ROUNDING_MODE.RTZ:
            return Handle(toward_zero(src.data, kind), dst_type.scalar)
        return Handle(src.data.astype(kind), dst_type.scalar)

    def create_bitcast(self, src: Handle, dst_type: Any) -> Handle:
        return Handle(src.data.view(numpy_type(dst_type)), dst_type.scalar)

    create_int_to_ptr = create_ptr_to_int = create_bitcast

    # arithmetic

    def binary_op(self, lhs: Handle, rhs: Handle, op: Any) -> Handle:
        a, b = lhs.data, rhs.data
        out = _boolean(op)(a, b) if a.dtype == np.bool_ and op in (np.add, np.subtract, np.multiply) else op(a, b)
        kind = a.dtype
        return Handle(out if out.dtype == kind or out.dtype == np.bool_ else out.astype(kind), lhs.dtype.scalar)

    def unary_op(self, arg: Handle, op: Any) -> Handle:
        return Handle(op(arg.data), arg.dtype.scalar)

    def ternary_op(self, lhs: Handle, rhs: Handle, other: Handle, op: Any) -> Handle:
        return Handle(op(lhs.data, rhs.data, other.data), other.dtype.scalar)

    def create_fneg(self, arg: Handle) -> Handle:
        return Handle(np.negative(arg.data), arg.dtype.scalar)

    def create_sdiv(self, lhs: Handle, rhs: Handle) -> Handle:
        return Handle(divide(lhs.data, rhs.data), lhs.dtype.scalar)

    create_udiv = create_idiv = create_sdiv

    def create_srem(self, lhs: Handle, rhs: Handle) -> Handle:
        return Handle(remainder(lhs.data, rhs.data), lhs.dtype.scalar)

    create_urem = create_srem

    def create_minnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmin)

    def create_maxnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmax)

    def create_ashr(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, _shifted(np.right_shift, "i"))

    def create_lshr(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, _shifted(np.right_shift, "u"))

    def create_umulhi(self, lhs: Handle, rhs: Handle) -> Handle:
        a, b = lhs.data, rhs.data
        size = a.dtype.itemsize
        if size == 8:
            return Handle(high_product(a, b).view(a.dtype), lhs.dtype.scalar)
        wide = memory.WORDS[2 * size]
        high = a.view(memory.WORDS[size]).astype(wide) * b.view(memory.WORDS[size]).astype(wide) >> (8 * size)
        return Handle(high.astype(memory.WORDS[size]).view(a.dtype), lhs.dtype.scalar)

    def create_clampf(self, arg: Handle, lo: Handle, hi: Handle, propagate_nans: Any) -> Handle:
        if propagate_nans in (_ir.PROPAGATE_NAN.NONE, tl.PropagateNan.NONE):
            return Handle(np.fmin(np.fmax(arg.data, lo.data), hi.data), arg.dtype.scalar)
        return Handle(np.minimum(np.maximum(arg.data, lo.data), hi.data), arg.dtype.scalar)

    def create_fma(self, x: Handle, y: Handle, z: Handle) -> Handle:
        kind = z.data.dtype
        if kind.kind in "iu":
            return Handle(x.data * y.data + z.data, z.dtype.scalar)
        return Handle(compute("fma", [x.data, y.data, z.data]) if kind in (np.float32, np.float64) else
                      fma64(x.data, y.data, z.data).astype(kind), z.dtype.scalar)

    def create_fabs(self, arg: Handle) -> Handle:
        return Handle(np.abs(arg.data), arg.dtype.scalar)

    def create_erf(self, arg: Handle) -> Handle:
        return Handle(compute("erf", [arg.data]), arg.dtype.scalar)

    def create_rsqrt(self, arg: Handle) -> Handle:
        return Handle(compute("rsqrt", [arg.data]), arg.dtype.scalar)

    def create_extern_elementwise(self, libName: str, libPath: str, name: str, argList: Any, retType: Any,
                                  isPure: bool) -> Handle:
        self.last_symbol = base = symbol(name)
        return Handle(compute(base, [a.data for a in argList], numpy_type(retType)), retType.scalar)

    # blocks

    def create_splat(self, ret_ty: Any, arg: Handle) -> Handle:
        return Handle(np.full(tuple(ret_ty.shape), arg.data.reshape(-1)[0], arg.data.dtype), arg.dtype.scalar)

    def create_unsplat(self, arg: Handle) -> Handle:
        return Handle(arg.data.reshape(-1)[:1], arg.dtype.scalar)

    def create_make_range(self, ret_ty: Any, start: int, stop: int) -> Handle:
        return Handle(np.arange(start, stop, dtype=np.int32), tl.int32)

    def create_reshape(self, arg: Handle, shape: Any, allow_reorder: Any) -> Handle:
        return Handle(arg.data.reshape([int(n) for n in shape]), arg.dtype.scalar)

    def create_histogram(self, data: Handle, bins: int, mask: Any) -> Handle:
        x = data.data
        valid = (x >= 0) & (x < bins)
        if mask is not None:
            valid &= mask.data
        return Handle(np.bincount(x[valid].astype(np.int64), minlength=bins).astype(np.int32), tl.int32)

    def create_gather(self, src: Handle, indices: Handle, axis: int) -> Handle:
        if indices.data.size and (indices.data.min() < 0 or indices.data.max() >= src.data.shape[axis]):
            raise IndexError(f"tl.gather: an index outside 0 .. {src.data.shape[axis] - 1}")
        return Handle(np.take_along_axis(src.data, indices.data.astype(np.int64), axis=axis), src.dtype.scalar)

    def create_dot(self, a: Handle, b: Handle, d: Handle, input_precision: Any, max_num_imprecise_acc: Any) -> Handle:
        x, y, acc = a.data, b.data, d.data
        if x.dtype.kind in "iu":  # exact in float64 for any block that fits a GPU
            product = _product(x.astype(np.float64), y.astype(np.float64)).astype(np.int64).astype(acc.dtype)
            return Handle(product + acc, d.dtype.scalar)
        if x.dtype == np.float64:
            return Handle(_product(x, y) + acc, d.dtype.scalar)
        full = x.dtype == np.float32
        x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
        precision = str(input_precision).rpartition(".")[2].upper() if full else "IEEE"
        if precision == "TF32":
            product = _product(tf32(x), tf32(y))
        elif precision == "TF32X3":
            big_x, big_y = tf32(x), tf32(y)
            small_x, small_y = tf32(x - big_x), tf32(y - big_y)
            product = _product(small_x, big_y) + _product(big_x, small_y) + _product(big_x, big_y)
        else:
            product = _product(x, y)
        return Handle((product + acc.astype(np.float32, copy=False)).astype(acc.dtype, copy=False), d.dtype.scalar)


builder = Builder()
semantic: Any = TritonSemantic(builder)
