"""Tensors of the interpreter, made cheaply, and their operators.

Most of what a kernel does is ``a + b``, ``a < n``, ``x[:, None]``, ``tl.load``. Triton checks and converts each operand
through ten layers; here the common cases (types that need no thought) go straight to NumPy, and all others through
Triton's own rules.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.runtime.emulation.builder import Handle, builder, convert, divide, numpy_type, remainder, semantic

tensor: Any = tl.tensor
constexpr: Any = tl.constexpr
_core: Any = tl.core
_new = object.__new__


def block(dtype: Any, shape: tuple[int, ...]) -> Any:
    """The type of a block, made once. ``dtype``: of a number or a pointer."""
    known = dtype.__dict__.get("_blocks")
    if known is None:
        known = dtype._blocks = {}
    found = known.get(shape)
    if found is None:
        if any(n & (n - 1) for n in shape):  # pieces of blocks, inside a reduction
            found = _new(tl.block_type)
            found.element_ty, found.shape, found.numel = dtype, _core.tuple(shape), int(np.prod(shape))
            found.name = f"<{shape}, {dtype}>"
        else:
            found = tl.block_type(dtype, list(shape))
        known[shape] = found
    return found


def make(data: Any, dtype: Any, type: Any) -> Any:
    """A tensor. ``dtype``: of its elements; ``type``: the same, or a block of it."""
    out = _new(tensor)
    out.handle = Handle(data, dtype)
    out.type = type
    out.dtype = dtype
    return out


def _init(self: Any, handle: Any, type: Any) -> None:
    self.handle = handle
    self.type = type
    self.dtype = type.scalar


def _shape(self: Any) -> Any:
    type = self.type
    if not type.is_block():
        return _core.tuple([])
    found = type.__dict__.get("_constants")
    if found is None:
        found = type._constants = _core.tuple([constexpr(n) for n in type.shape])
    return found


def _numel(self: Any) -> Any:
    return constexpr(int(self.type.numel) if self.type.is_block() else 1)


def _with_element(self: Any, dtype: Any) -> Any:
    return block(dtype, tuple(self.shape))


# --- operands that need no thought ---

_promoted: dict[tuple[str, str], Any] = {}


def _promote(a: Any, b: Any) -> Any:
    """The type that two types of tensors compute in; None where Triton's rules must look."""
    if a is b:
        return None if a.is_ptr() else a
    key = (a.name, b.name)
    if key not in _promoted:
        plain = not (a.is_ptr() or b.is_ptr()) and not a.is_fp8() and not b.is_fp8()
        _promoted[key] = semantic.computation_type_impl(a, False, b, False, False) if plain else None
    return _promoted[key]


def operands(a: Any, b: Any) -> Any:
    """(a's data, b's data, their common type, a's type) of two operands of which one at least is a tensor, or None."""
    if type(b) is constexpr:
        b = b.value
    if type(a) is constexpr:
        a = a.value
    kind_a, kind_b = type(a), type(b)
    if kind_a is tensor and kind_b is tensor:
        ta, tb = a.dtype, b.dtype
        common = _promote(ta, tb)
        if common is None:
            return None
        x, y = a.handle.data, b.handle.data
        if ta is not tb:
            kind = numpy_type(common)
            x, y = _converted(x, ta, kind), _converted(y, tb, kind)
        return x, y, common, (a.type if a.type.is_block() else b.type)
    if kind_a is tensor and kind_b in (int, float):
        y = _constant(b, a.dtype)
        return None if y is None else (a.handle.data, y, a.dtype, a.type)
    if kind_b is tensor and kind_a in (int, float):
        x = _constant(a, b.dtype)
        return None if x is None else (x, b.handle.data, b.dtype, b.type)
    return None


def _converted(data: Any, dtype: Any, kind: Any) -> Any:
    return data if data.dtype == kind else convert(data, kind)


def _constant(value: Any, dtype: Any) -> Any:
    """A Python number as an operand beside a tensor: it takes the tensor's type if that is of its kind or higher."""
    name = dtype.name
    if dtype.is_ptr() or name == "int1" or name.startswith("fp8"):
        return None
    if name[0] in "iu":
        if type(value) is not int or not dtype.get_int_min_value() <= value <= dtype.get_int_max_value():
            return None
    return np.array([value], np.float32).astype(numpy_type(dtype)) if name == "bf16" else np.array([value],
                                                                                                  numpy_type(dtype))


# --- operators ---

def _arithmetic(ufunc: Any, slow: Any, reflected: bool) -> Callable[..., Any]:
    def operator(self: Any, other: Any, _semantic: Any = None) -> Any:
        found = operands(other, self) if reflected else operands(self, other)
        if found is None or found[2].name == "int1":
            return slow(self, other, _semantic=semantic)
        x, y, dtype, type = found
        data = ufunc(x, y)
        return make(data, dtype, block(dtype, data.shape) if type.is_block() else dtype)

    return operator


def _addition(slow: Any, subtract: bool) -> Callable[..., Any]:
    plain = _arithmetic(np.subtract if subtract else np.add, slow, False)

    def operator(self: Any, other: Any, _semantic: Any = None) -> Any:
        dtype = self.dtype
        if dtype.is_ptr() and not subtract:
            if type(other) is tensor and other.dtype.name[:3] in ("int", "uin"):
                data = builder.create_addptr(self.handle, other.handle).data
                return make(data, dtype, block(dtype, data.shape) if self.type.is_block() or other.type.is_block()
                            else dtype)
            if type(other) is int:
                step = other * max(1, dtype.element_ty.primitive_bitwidth // 8)
                return make(self.handle.data + np.uint64(step & 0xFFFFFFFFFFFFFFFF), dtype, self.type)
        return plain(self, other)

    return operator


def _comparison(ufunc: Any, slow: Any) -> Callable[..., Any]:
    def operator(self: Any, other: Any, _semantic: Any = None) -> Any:
        found = operands(self, other)
        if found is None:
            return slow(self, other, _semantic=semantic)
        x, y, _, type = found
        data = ufunc(x, y)
        return make(data, tl.int1, block(tl.int1, data.shape) if type.is_block() else tl.int1)

    return operator


_ALIKE = ({"int8", "int16", "int32", "int64"}, {"fp32", "fp64"})


def _alike(a: str, b: str) -> bool:
    """Whether two types of numbers mix by the ordinary rules in any operation."""
    return any(a in sort and b in sort for sort in _ALIKE)


def _restricted(ufunc: Any, slow: Any, reflected: bool, kinds: str) -> Callable[..., Any]:
    """For operands of like types whose NumPy kind is among ``kinds`` (floats: of 32 bits at least)."""
    def operator(self: Any, other: Any, _semantic: Any = None) -> Any:
        if type(other) is not tensor or other.dtype is self.dtype or _alike(other.dtype.name, self.dtype.name):
            found = operands(other, self) if reflected else operands(self, other)
            if found is not None:
                x, y, dtype, kind = found
                if x.dtype.kind in kinds and (kinds != "f" or x.dtype.itemsize > 2):
                    data = ufunc(x, y)
                    return make(data, dtype, block(dtype, data.shape) if kind.is_block() else dtype)
        return slow(self, other, _semantic=semantic)

    return operator


def _shift(left: bool, slow: Any) -> Callable[..., Any]:
    return _restricted(np.left_shift if left else np.right_shift, slow, False, "iu")


def _item(slow: Any) -> Callable[..., Any]:
    def getitem(self: Any, slices: Any, _semantic: Any = None) -> Any:
        keys = slices if isinstance(slices, tuple) else (slices,)
        if not self.type.is_block() or any(k is not None and k != slice(None) for k in keys):
            return slow(self, slices, _semantic=semantic)
        given = iter(self.type.shape)
        shape = [1 if k is None else next(given) for k in keys] + list(given)
        data = self.handle.data.reshape(shape)
        return make(data, self.dtype, block(self.dtype, data.shape))

    return getitem


def _to(slow: Any) -> Callable[..., Any]:
    def to(self: Any, dtype: Any, fp_downcast_rounding: Any = None, bitcast: Any = False, _semantic: Any = None) -> Any:
        dtype = dtype.value if type(dtype) is constexpr else dtype
        if self.dtype is dtype:
            return self
        if bitcast and not dtype.is_ptr() and not self.dtype.is_ptr():
            kind = numpy_type(dtype)
            if kind.itemsize == self.handle.data.itemsize and "int1" not in (dtype.name, self.dtype.name):
                return make(self.handle.data.view(kind), dtype, block(dtype, self.handle.data.shape)
                            if self.type.is_block() else dtype)
        if bitcast or fp_downcast_rounding or dtype.is_ptr() or self.dtype.is_ptr() or dtype.is_fp8() or \
                self.dtype.is_fp8():
            return slow(self, dtype, fp_downcast_rounding, bitcast, _semantic=semantic)
        data = convert(self.handle.data, numpy_type(dtype))
        return make(data, dtype, block(dtype, data.shape) if self.type.is_block() else dtype)

    return to


def install() -> None:
    """Put the cheap tensors and operators into Triton's class."""
    tl.block_type.with_element_ty = _with_element
    raw = {name: getattr(member, "__wrapped__", member) for name, member in vars(tensor).items() if callable(member)}

    def put(name: str, function: Any) -> None:
        setattr(tensor, name, function)

    put("__init__", _init)
    put("shape", property(_shape))
    put("numel", property(_numel))
    put("__add__", _addition(raw["__add__"], False))
    put("__sub__", _addition(raw["__sub__"], True))
    put("__radd__", _arithmetic(np.add, raw["__radd__"], True))
    put("__rsub__", _arithmetic(np.subtract, raw["__rsub__"], True))
    put("__mul__", _arithmetic(np.multiply, raw["__mul__"], False))
    put("__rmul__", _arithmetic(np.multiply, raw["__rmul__"], True))
    for name, ufunc in (("lt", np.less), ("le", np.less_equal), ("gt", np.greater), ("ge", np.greater_equal),
                        ("eq", np.equal), ("ne", np.not_equal)):
        put(f"__{name}__", _comparison(ufunc, raw[f"__{name}__"]))
    for name, bitwise in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        put(f"__{name}__", _restricted(bitwise, raw[f"__{name}__"], False, "iub"))
        put(f"__r{name}__", _restricted(bitwise, raw[f"__r{name}__"], True, "iub"))
    put("__truediv__", _restricted(np.divide, raw["__truediv__"], False, "f"))
    put("__rtruediv__", _restricted(np.divide, raw["__rtruediv__"], True, "f"))
    put("__floordiv__", _restricted(divide, raw["__floordiv__"], False, "iu"))
    put("__mod__", _restricted(remainder, raw["__mod__"], False, "iu"))
    put("__lshift__", _shift(True, raw["__lshift__"]))
    put("__rshift__", _shift(False, raw["__rshift__"]))
    put("__getitem__", _item(raw["__getitem__"]))
    put("to", _to(raw["to"]))

