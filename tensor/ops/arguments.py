"""Checks of arguments that several op families share, with PyTorch's errors."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.tensor.dtype import from_numpy_dtype
from tritium.tensor.tensor import Tensor

C_NAMES = {"uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t",
           "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double"}


TYPE_NAMES = {"float32": "float", "float64": "double", "float16": "c10::Half", "bfloat16": "c10::BFloat16",
              "int64": "long int", "int32": "int", "int16": "short int", "int8": "signed char",
              "uint8": "unsigned char", "bool": "bool", "complex64": "c10::complex<float>",
              "complex128": "c10::complex<double>"}


def check_tensor(name: str, argument: str, position: int, value: Any) -> None:
    """Raises TypeError when an argument is no tensor. Positions count from 1, the input included."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor, not "
                        f"{type(value).__name__}")


def not_implemented(kernel: str, dtype: Any) -> NotImplementedError:
    """PyTorch's error for a dtype that an op does not take."""
    return NotImplementedError(f'"{kernel}" not implemented for \'{from_numpy_dtype(dtype).title}\'')


def element(value: Any, dtype: Any) -> Any:
    """A number that NumPy may write into an array of this dtype: the number itself where that is certain, else
    ``fill_value``'s array. Raises TypeError for what is no number."""
    if type(value) is float and dtype.kind == "f" and (
            dtype.itemsize == 8 or dtype.itemsize == 4 and -1e30 < value < 1e30):
        return value
    if type(value) is int and -128 <= value < 128 and dtype.kind in "if":
        return value
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, (int, float, complex, np.generic)):
        raise TypeError(f"fill_(): argument 'value' (position 1) must be Number, not {type(value).__name__}")
    return fill_value(value, dtype)


def from_number(value: float, dtype: Any) -> Any:
    """A number as a 0-d array, inf where it does not fit."""
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(dtype)


def fill_value(value: Any, dtype: Any) -> Any:
    """A number as a 0-d array of a NumPy dtype, converted as C converts.

    Raises RuntimeError when the dtype cannot hold it. Negative numbers wrap around in unsigned types; inf and nan fit
    floating point types."""
    if isinstance(value, np.generic):
        value = value.item()
    kind = dtype.kind
    if kind == "b":
        return np.array(bool(value))
    fits = True
    if kind == "c":
        return np.array(value, dtype)
    if isinstance(value, complex):
        fits = value.imag == 0
        value = value.real
    if kind in "iu":
        info = np.iinfo(dtype)
        if isinstance(value, float):
            fits = fits and math.isfinite(value)
            value = int(value) if fits else 0
        low = -info.max if kind == "u" else info.min
        fits = fits and low <= value <= info.max
        value = value % (info.max + 1) if kind == "u" else value
    elif kind in "fV" and math.isfinite(value):
        limit = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38,
                 "float32": 3.4028234663852886e38}.get(from_numpy_dtype(dtype).name)
        fits = fits and (limit is None or -limit <= value <= limit)
    if not fits:
        raise RuntimeError(f"value cannot be converted to type {C_NAMES[from_numpy_dtype(dtype).name]} without "
                           "overflow")
    return np.array(value, dtype)
