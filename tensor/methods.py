"""One function, three names: the ops attached to Tensor as methods and operators, and listed for ``tritium.*``.

Every op module says in ``METHODS`` which of its functions are Tensor methods, in ``INPLACE`` which in-place methods it
defines, and in ``FUNCTIONS`` what ``tritium.<name>`` exports. Pointwise ops and views are listed here.
"""
from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

import numpy as np

from tritium.tensor import creation, indexing
from tritium.tensor.from_data import as_tensor
from tritium.tensor.graph import bump, check_inplace
from tritium.tensor.ops import copy, pointwise, view
from tritium.tensor.ops.pointwise import inplace
from tritium.tensor.tensor import STATE, Tensor

UNARY = """abs absolute sign sgn relu floor ceil trunc fix frac square sqrt rsqrt reciprocal exp exp2 expm1 log log2
 log10 log1p sin cos tan asin arcsin acos arccos atan arctan sinh cosh tanh asinh arcsinh acosh arccosh atanh arctanh
 sigmoid sinc deg2rad rad2deg isnan isinf isfinite isposinf isneginf signbit logical_not conj bitwise_not positive
 negative round logit nan_to_num""".split()
BINARY = """add sub subtract mul multiply div divide true_divide floor_divide remainder fmod atan2 arctan2 maximum
 minimum fmax fmin hypot logaddexp logaddexp2 copysign nextafter ldexp xlogy heaviside gcd lcm bitwise_and bitwise_or
 bitwise_xor bitwise_left_shift bitwise_right_shift eq ne not_equal lt less le less_equal gt greater ge greater_equal
 logical_and logical_or logical_xor pow float_power clamp clip clamp_min clamp_max lerp addcmul addcdiv isclose allclose
 equal""".split()
POINTWISE_INPLACE = """abs absolute sign sgn relu floor ceil trunc fix frac square sqrt rsqrt reciprocal exp exp2 expm1
 log log2 log10 log1p sin cos tan asin arcsin acos arccos atan arctan sinh cosh tanh asinh arcsinh acosh arccosh atanh
 arctanh sigmoid sinc deg2rad rad2deg logical_not bitwise_not negative round logit nan_to_num floor_divide remainder
 fmod atan2 arctan2 hypot copysign nextafter ldexp xlogy heaviside gcd lcm bitwise_and bitwise_or bitwise_xor
 bitwise_left_shift bitwise_right_shift logical_and logical_or logical_xor pow float_power clamp clip clamp_min
 clamp_max lerp addcmul addcdiv eq ne not_equal lt less le less_equal gt greater ge greater_equal""".split()
VIEWS = """view reshape view_as reshape_as ravel flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims
 t movedim moveaxis select narrow unbind split split_with_sizes chunk tensor_split hsplit vsplit dsplit expand expand_as
 broadcast_to diagonal unfold as_strided detach detach_ view_as_real adjoint""".split()
VIEW_FUNCTIONS = [n for n in VIEWS if n not in ("view", "view_as", "reshape_as", "expand", "expand_as", "unfold",
                                                "detach_")] + ["broadcast_tensors", "meshgrid", "view_as_complex"]
MODULES = ("reduce", "extremes", "matmul", "einsum", "copy", "index", "embedding", "sort", "scan", "join",
           "rearrange", "special", "random", "dropout", "activation", "softmax", "conv", "pool", "pool3d", "norm",
           "resample")

functions: dict[str, Any] = {}


def _attach(name: str, function: Any) -> None:
    setattr(Tensor, name, function)


def _collect() -> None:
    for name in UNARY + BINARY:
        functions[name] = function = getattr(pointwise, name)
        _attach(name, function)
    functions["neg"] = pointwise.negative
    functions["where"] = pointwise.where
    functions["rsub"] = pointwise.rsub
    _attach("neg", pointwise.negative)
    _attach("neg_", inplace(pointwise.negative, "neg_"))
    for name in POINTWISE_INPLACE:
        function = inplace(getattr(pointwise, name), name + "_")
        _attach(name + "_", function)
        functions[name + "_"] = function
    for name in ("add_", "sub_", "subtract_", "mul_", "multiply_", "div_", "divide_", "true_divide_"):
        _attach(name, getattr(pointwise, name))
    for name in VIEWS:
        _attach(name, getattr(view, name))
    for name in VIEW_FUNCTIONS:
        functions[name] = getattr(view, name)
    for name in ("squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims"):
        _attach(name + "_", _view_inplace(getattr(view, name), name + "_"))
    for name, function in copy.CASTS.items():
        _attach(name, function)
    for family in MODULES:
        module = importlib.import_module("tritium.tensor.ops." + family)
        for name in (*getattr(module, "METHODS", ()), *getattr(module, "INPLACE", ())):
            _attach(name, getattr(module, name))
        for name in (*getattr(module, "FUNCTIONS", ()), *getattr(module, "INPLACE", ())):
            functions[name] = getattr(module, name)
    for name in ("clone", "flip"):
        functions[name] = getattr(copy, name)


def _explained(name: str, function: Any) -> Any:
    """The function as ``tritium.<name>``: something that is no tensor gets PyTorch's TypeError, not Python's about an
    attribute."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except AttributeError as error:
            if error.name not in STATE or isinstance(error.obj, Tensor):
                raise
            kind = type(error.obj).__name__
            names = list(inspect.signature(function).parameters)
            for i, x in enumerate(args):
                if x is error.obj and i < len(names):
                    raise TypeError(f"{name}(): argument '{names[i]}' (position {i + 1}) must be Tensor, not {kind}"
                                    ) from None
            raise TypeError(f"{name}(): a Tensor is expected, not {kind}") from None

    return call


def _view_inplace(op: Any, name: str) -> Any:
    """A view op on the tensor itself: its shape and strides change, its memory does not."""

    def op_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_inplace(input, overlap=False)
        result = op(input, *args, **kwargs)
        input._a = result._a
        bump(input)
        if result._rg and input._rg:
            input._edge, input._base_edge = result._edge, result._base_edge
        return input

    op_.__name__ = op_.__qualname__ = name
    op_.__doc__ = f"``{op.__name__}`` of the tensor itself, in place."
    return op_


# --- operators ------------------------------------------------------------------------------

_OPERANDS = (Tensor, int, float, complex, np.generic)


def _operator(function: Any, name: str) -> Any:
    """A binary operator; NotImplemented for an operand it does not know, so that Python tries the other's."""

    def operator(self: Tensor, other: Any) -> Any:
        if isinstance(other, _OPERANDS):
            return function(self, other)
        if isinstance(other, np.ndarray):
            return function(self, as_tensor(other))
        return NotImplemented

    operator.__name__ = operator.__qualname__ = name
    return operator


def _reflected(function: Any, name: str) -> Any:
    return _operator(lambda self, other: function(other, self), name)


def _rdiv(self: Tensor, other: Any) -> Tensor:
    return pointwise.mul(pointwise.reciprocal(self), other)


def _rpow(self: Tensor, other: Any) -> Tensor:
    return pointwise.pow(other, self)


def _rmatmul(self: Tensor, other: Any) -> Any:
    return functions["matmul"](as_tensor(other), self) if isinstance(other, (Tensor, np.ndarray)) else NotImplemented


def _matmul(self: Tensor, other: Any) -> Any:
    return functions["matmul"](self, as_tensor(other)) if isinstance(other, (Tensor, np.ndarray)) else NotImplemented


def _invert(self: Tensor) -> Tensor:
    """``~self``.

    Raises TypeError for other tensors than integers and bools."""
    if self._a.dtype.kind not in "biu":
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return pointwise.bitwise_not(self)


def _operators() -> None:
    p = pointwise
    for name, function, reflected in (
            ("add", p._add, lambda a, b: p._add(b, a)), ("sub", p._sub, p.rsub),
            ("mul", p.mul, lambda a, b: p.mul(b, a)),
            ("truediv", p._div, _rdiv), ("floordiv", p.floor_divide, lambda a, b: p.floor_divide(b, a)),
            ("mod", p.remainder, lambda a, b: p.remainder(b, a)), ("pow", p.pow, _rpow),
            ("and", p.bitwise_and, lambda a, b: p.bitwise_and(b, a)),
            ("or", p.bitwise_or, lambda a, b: p.bitwise_or(b, a)),
            ("xor", p.bitwise_xor, lambda a, b: p.bitwise_xor(b, a)),
            ("lshift", p.bitwise_left_shift, lambda a, b: p.bitwise_left_shift(b, a)),
            ("rshift", p.bitwise_right_shift, lambda a, b: p.bitwise_right_shift(b, a))):
        _attach(f"__{name}__", _operator(function, f"__{name}__"))
        _attach(f"__r{name}__", _operator(reflected, f"__r{name}__"))
    for name, method in (("add", "add_"), ("sub", "sub_"), ("mul", "mul_"), ("truediv", "div_"),
                         ("floordiv", "floor_divide_"), ("mod", "remainder_"), ("pow", "pow_"), ("and", "bitwise_and_"),
                         ("or", "bitwise_or_"), ("xor", "bitwise_xor_"), ("lshift", "bitwise_left_shift_"),
                         ("rshift", "bitwise_right_shift_")):
        _attach(f"__i{name}__", _operator(getattr(Tensor, method), f"__i{name}__"))
    _attach("__matmul__", _matmul)
    _attach("__rmatmul__", _rmatmul)
    for name in ("lt", "le", "gt", "ge"):
        _attach(f"__{name}__", _operator(getattr(p, name), f"__{name}__"))
    _attach("__eq__", _operator(p.eq, "__eq__"))
    _attach("__ne__", _operator(p.ne, "__ne__"))
    _attach("__neg__", p.negative)
    _attach("__pos__", p.positive)
    _attach("__abs__", p.abs)
    _attach("__invert__", _invert)
    _attach("__getitem__", indexing.getitem)
    _attach("__setitem__", indexing.setitem)
    for name in ("T", "mT", "mH", "H"):
        function = {"T": view.numpy_T, "mT": view.matrix_T, "mH": view.matrix_H, "H": view.numpy_H}[name]
        _attach(name, property(function, doc=function.__doc__))
    _attach("real", property(_real, doc="The real part; a real tensor itself."))
    _attach("imag", property(_imag, doc="The imaginary part of a complex tensor: a view."))
    _attach("where", lambda self, condition, other: pointwise.where(condition, self, other))
    for name in ("new_empty", "new_zeros", "new_ones", "new_full"):
        _attach(name, getattr(creation, name))
    _attach("new_tensor", creation.new_tensor_like)
    _attach("new", _new)


def _new(self: Tensor, *args: Any, device: Any = None) -> Tensor:
    """The old constructor of the tensor's type: ``new(2, 3)``, ``new(data)``, ``new(other)``."""
    return creation.legacy_tensor(Tensor, *args, dtype=self.dtype, device=device)


def _real(self: Tensor) -> Tensor:
    return view.view_as_real(self).select(-1, 0) if self.is_complex() else self


def _imag(self: Tensor) -> Tensor:
    if not self.is_complex():
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return view.view_as_real(self).select(-1, 1)


_collect()
_operators()
for _name, _function in functions.items():
    if _name not in UNARY and _name not in BINARY:  # the pointwise ops check their operands themselves
        functions[_name] = _explained(_name, _function)
functions["real"], functions["imag"] = _real, _imag
