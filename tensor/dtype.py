"""Element types, as objects with PyTorch's names, and PyTorch's rules for mixing them.

Follows https://docs.pytorch.org/docs/stable/tensor_attributes.html (torch.dtype, type promotion).
"""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


class dtype:
    """An element type. Attributes: ``itemsize``, ``is_floating_point``, ``is_complex``, ``is_signed``, and ``np``,
    the NumPy dtype of the arrays that carry it. The instances below are the only ones."""

    __slots__ = ("name", "np", "itemsize", "is_floating_point", "is_complex", "is_signed", "category", "order",
                 "title")

    def __init__(self, name: str, np_dtype: Any, category: int, order: int, title: str) -> None:
        self.name = name
        self.np = np.dtype(np_dtype)
        self.itemsize = self.np.itemsize
        self.category = category  # 0 bool, 1 integer, 2 floating point, 3 complex: PyTorch's ladder
        self.order = order
        self.is_floating_point = category == 2
        self.is_complex = category == 3
        self.is_signed = name not in ("uint8", "uint16", "uint32", "uint64", "bool")
        self.title = title  # "Float", "Long": the word PyTorch's error messages use

    def __repr__(self) -> str:
        return "tritium." + self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self.name,)

    def to_real(self) -> dtype:
        """The real type of a complex type's parts; any other type itself."""
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    def to_complex(self) -> dtype:
        """The complex type whose parts have this type."""
        return complex128 if self.name in ("float64", "complex128") else complex64


bool_ = dtype("bool", np.bool_, 0, 0, "Bool")
uint8 = dtype("uint8", np.uint8, 1, 1, "Byte")
int8 = dtype("int8", np.int8, 1, 1, "Char")
int16 = dtype("int16", np.int16, 1, 2, "Short")
int32 = dtype("int32", np.int32, 1, 3, "Int")
int64 = dtype("int64", np.int64, 1, 4, "Long")
float16 = dtype("float16", np.float16, 2, 5, "Half")
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, 2, 5, "BFloat16")
float32 = dtype("float32", np.float32, 2, 6, "Float")
float64 = dtype("float64", np.float64, 2, 7, "Double")
complex64 = dtype("complex64", np.complex64, 3, 8, "ComplexFloat")
complex128 = dtype("complex128", np.complex128, 3, 9, "ComplexDouble")

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128)
ALIASES = {"half": float16, "float": float32, "double": float64, "short": int16, "int": int32, "long": int64,
           "cfloat": complex64, "cdouble": complex128}

def _by_name(name: str) -> dtype:
    return next(dt for dt in ALL if dt.name == name)


_from_np: dict[Any, dtype] = {dt.np: dt for dt in ALL}
_default = float32


def from_numpy_dtype(np_dtype: Any) -> dtype:
    """The element type that carries a NumPy dtype.

    Raises TypeError for one that PyTorch has no counterpart for (strings, objects, long double)."""
    found = _from_np.get(np_dtype)
    if found is None:
        found = _from_np.get(np.dtype(np_dtype).newbyteorder("="))
    if found is None:
        raise TypeError(
            f"can't convert np.ndarray of type {np.dtype(np_dtype)}. The only supported types are: float64, float32, "
            "float16, bfloat16, complex64, complex128, int64, int32, int16, int8, uint8, and bool.")
    return found


def as_dtype(value: Any) -> dtype:
    """``value`` as an element type: a dtype, a Python type (``float`` means float64, as in NumPy and PyTorch) or a
    NumPy dtype."""
    if type(value) is dtype:
        return value
    if value is float:
        return float64
    if value is int:
        return int64
    if value is bool:
        return bool_
    if value is complex:
        return complex128
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return from_numpy_dtype(np.dtype(value))
    raise TypeError(f"dtype must be a tritium.dtype, not {type(value).__name__}")


def get_default_dtype() -> dtype:
    """The floating point type of new tensors made from Python floats (float32 unless set otherwise)."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Set the default floating point type.

    Raises TypeError when ``d`` is no floating point type."""
    global _default
    d = as_dtype(d)
    if not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d}")
    _default = d


def default_complex() -> dtype:
    """The complex type that goes with the default floating point type."""
    return _default.to_complex()


_promotions: dict[tuple[dtype, dtype], dtype] = {}


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest type that holds the values of both, by PyTorch's table."""
    if type1 is type2:
        return type1
    found = _promotions.get((type1, type2))
    if found is None:
        found = _promotions[type1, type2] = _promote(type1, type2)
    return found


def _promote(a: dtype, b: dtype) -> dtype:
    if a.order > b.order:
        a, b = b, a
    if b.is_complex:
        return complex128 if a.name == "float64" or b.name == "complex128" else complex64
    if b.is_floating_point:
        if a.is_floating_point and a.order == b.order:  # float16 with bfloat16
            return float32
        return b
    if {a.name, b.name} == {"uint8", "int8"}:
        return int16
    return b


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether PyTorch's casting rules allow ``from_`` to be written into ``to``: never down the ladder bool,
    integer, floating point, complex; and no signed integer into an unsigned one."""
    if from_.category == 1 and to.category == 1:
        return True
    return from_.category <= to.category


class finfo:
    """Limits of a floating point type: ``bits, eps, max, min, tiny, smallest_normal, resolution, dtype``."""

    def __init__(self, type: dtype | None = None) -> None:
        dt = get_default_dtype() if type is None else as_dtype(type)
        if dt.is_complex:
            dt = dt.to_real()
        if not dt.is_floating_point:
            raise TypeError(f"tritium.finfo() requires a floating point input type. Use tritium.iinfo to handle '{dt}'")
        info: Any = ml_dtypes.finfo(dt.np)
        self.bits, self.dtype = int(info.bits), dt.name
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = 10.0 ** -info.precision

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
                f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})")


class iinfo:
    """Limits of an integer type: ``bits, max, min, dtype``."""

    def __init__(self, type: dtype) -> None:
        dt = as_dtype(type)
        if dt.category != 1:
            raise TypeError(f"tritium.iinfo() requires an integer input type. Use tritium.finfo to handle '{dt}'")
        info = np.iinfo(dt.np)
        self.bits, self.max, self.min, self.dtype = info.bits, int(info.max), int(info.min), dt.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
