"""Pointwise ops: arithmetic, comparisons, elementary functions, each with its derivative.

Two tables say what each op is: which dtypes it takes (``kind``), and its derivative. Two makers turn a line of a table
into a function. A gradient of the wrong shape or dtype is mended by the engine (summed over broadcast dimensions, cast),
so a derivative is the plain formula.
https://docs.pytorch.org/docs/stable/torch.html#pointwise-ops
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from tritium.kernels import of
from tritium.tensor import dtype as dtypes
from tritium.tensor.dtype import can_cast, from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, bump, check_inplace, derivative, finish_inplace, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes
from tritium.tensor.ops.out import write_out
from tritium.tensor.promotion import NUMBERS, cast_operands, result_type
from tritium.tensor.tensor import Tensor, new_tensor

f32, f64, i64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)
Grad = Callable[..., Any] | None
NOTHING = (None, None, None)  # what a node without saved operands unpacks to


def broken_broadcast(a: Any, b: Any) -> None:
    """Raise PyTorch's error when two arrays do not broadcast."""
    if type(a) is ndarray and type(b) is ndarray:
        broadcast_shapes(a.shape, b.shape)


def node_kind(name: str, function: Callable[..., Any]) -> type[Node]:
    """A kind of node with this name."""
    return type(name, (Node,), {"__slots__": (), "derivative": function, "__module__": __name__})


# --- unary ----------------------------------------------------------------------------------
# kind "float": integers are computed as the default floating point type; "same": the dtype stays; "bool": a mask.

def unary_op(name: str, kind: str = "float", grad: Grad = None, saves: str = "x", node: str = "",
             doc: str = "") -> Any:
    """Make the function of one tensor. ``grad(g, s)`` gets the gradient and the saved input ("x") or result ("r")."""
    title = node or "".join(p.capitalize() for p in name.split("_")) + "Backward0"

    def backward(self: Any, g: Tensor) -> Any:
        return grad(g, *self.unpack())  # type: ignore[misc]

    cls = node_kind(title, backward)

    def op(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        a = input._a
        if kind == "float" and a.dtype.kind in "biu":
            a = of(a).pointwise.cast(a, dtypes.get_default_dtype().np)
        r = new_tensor(Tensor)
        r._a = of(a).pointwise.unaries[name](a)
        if grad is not None and mode.enabled and input._rg:
            record(r, cls, (input,), () if saves == "" else (input,) if saves == "x" else (r,))
        if input._free:
            r._free = True
        return r if out is None else write_out(name, out, r, input)

    return _named(op, name, doc)


def _named(op: Any, name: str, doc: str) -> Any:
    op.__name__ = op.__qualname__ = name
    op.__doc__ = doc or (f"Elementwise ``{name}``; https://docs.pytorch.org/docs/stable/generated/torch.{name}.html")
    return op


def _mask(g: Tensor, condition: Tensor) -> Tensor:
    return mul(g, condition)


LN2, LN10 = math.log(2.0), math.log(10.0)

neg = unary_op("neg", "same", lambda g: -g, "")
abs = absolute = unary_op("abs", "same", lambda g, x: g * sgn(x))
sign = unary_op("sign", "same", lambda g: g * 0, "")
sgn = unary_op("sgn", "same", lambda g: g * 0, "")
relu = unary_op("relu", "same", lambda g, r: threshold_backward(g, r), "r")
floor = unary_op("floor", "same", lambda g: g * 0, "")
ceil = unary_op("ceil", "same", lambda g: g * 0, "")
trunc = fix = unary_op("trunc", "same", lambda g: g * 0, "")
_round = unary_op("round", "same", lambda g: g * 0, "")
frac = unary_op("frac", "same", lambda g: g, "")
square = unary_op("square", "same", lambda g, x: g * x * 2, node="PowBackward0")
sqrt = unary_op("sqrt", grad=lambda g, r: g / (r * 2), saves="r")
rsqrt = unary_op("rsqrt", grad=lambda g, r: g * (r * r * r) * -0.5, saves="r")
reciprocal = unary_op("reciprocal", grad=lambda g, r: -g * (r * r), saves="r")
exp = unary_op("exp", grad=lambda g, r: g * r, saves="r")
exp2 = unary_op("exp2", grad=lambda g, r: g * r * LN2, saves="r")
expm1 = unary_op("expm1", grad=lambda g, r: g * (r + 1), saves="r")
log = unary_op("log", grad=lambda g, x: g / x)
log2 = unary_op("log2", grad=lambda g, x: g / (x * LN2))
log10 = unary_op("log10", grad=lambda g, x: g / (x * LN10))
log1p = unary_op("log1p", grad=lambda g, x: g / (x + 1))
sin = unary_op("sin", grad=lambda g, x: g * cos(x))
cos = unary_op("cos", grad=lambda g, x: g * -sin(x))
tan = unary_op("tan", grad=lambda g, r: g * (r * r + 1), saves="r")
asin = arcsin = unary_op("asin", grad=lambda g, x: g * rsqrt(1 - x * x))
acos = arccos = unary_op("acos", grad=lambda g, x: g * -rsqrt(1 - x * x))
atan = arctan = unary_op("atan", grad=lambda g, x: g / (x * x + 1))
sinh = unary_op("sinh", grad=lambda g, x: g * cosh(x))
cosh = unary_op("cosh", grad=lambda g, x: g * sinh(x))
tanh = unary_op("tanh", grad=lambda g, r: g * (1 - r * r), saves="r")
asinh = arcsinh = unary_op("asinh", grad=lambda g, x: g * rsqrt(x * x + 1))
acosh = arccosh = unary_op("acosh", grad=lambda g, x: g * rsqrt(x * x - 1))
atanh = arctanh = unary_op("atanh", grad=lambda g, x: g / (1 - x * x))
sigmoid = unary_op("sigmoid", grad=lambda g, r: g * ((1 - r) * r), saves="r")
sinc = unary_op("sinc", grad=lambda g, x: g * where(
    x == 0, 0.0, (cos(x * math.pi) * (x * math.pi) - sin(x * math.pi)) / (x * x * math.pi)))
deg2rad = unary_op("deg2rad", grad=lambda g: g * (math.pi / 180), saves="")
rad2deg = unary_op("rad2deg", grad=lambda g: g * (180 / math.pi), saves="")
isnan = unary_op("isnan", "bool")
isinf = unary_op("isinf", "bool")
isfinite = unary_op("isfinite", "bool")
isposinf = unary_op("isposinf", "bool")
isneginf = unary_op("isneginf", "bool")
signbit = unary_op("signbit", "bool")
logical_not = unary_op("logical_not", "bool")
_conj = unary_op("conj", "same", lambda g: conj(g), "")
_bitwise_not = unary_op("bitwise_not", "same")
_logit = unary_op("logit", grad=lambda g, x: g / (x * (1 - x)))


@derivative
def ThresholdBackwardBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, None]:
    (r,) = node.unpack()
    return threshold_backward(grad, r), None


def threshold_backward(grad: Tensor, result: Tensor) -> Tensor:
    """The derivative of relu: the gradient where the result is positive (or nan), 0 elsewhere."""
    k = of(grad._a)
    out = wrap(k.pointwise.binaries["mul"](grad._a, k.pointwise.binaries["gt"](result._a, 0)))
    if grad._free or result._free:
        out._free = True
    if recording(grad):
        record(out, ThresholdBackwardBackward0, (grad, result), saved=(result,))
    return out


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor as it is."""
    return _conj(input) if input._a.dtype.kind == "c" else input


def bitwise_not(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """All bits inverted; ``logical_not`` for bool.

    Raises RuntimeError for floating point tensors."""
    if input._a.dtype.kind not in "biu":
        raise RuntimeError(f'"bitwise_not_cpu" not implemented for \'{from_numpy_dtype(input._a.dtype).title}\'')
    return _bitwise_not(input, out=out)


def negative(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``-input``.

    Raises RuntimeError for bool."""
    if input._a.dtype.kind == "b":
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert "
                           "a mask, use the `~` or `logical_not()` operator instead.")
    return neg(input, out=out)


def positive(input: Tensor) -> Tensor:
    """``+input``: the tensor itself.

    Raises RuntimeError for bool."""
    if input._a.dtype.kind == "b":
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """The nearest integer, halves to even; or the nearest multiple of 10 ** -decimals."""
    if decimals == 0:
        return _round(input, out=out)
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    r = div(_round(mul(input, scale)), scale) if decimals > 0 else mul(_round(div(input, scale)), scale)
    return r if out is None else write_out("round", out, r, input)


def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(x / (1 - x)), with x clamped to [eps, 1 - eps] when ``eps`` is given."""
    r = _logit(input if eps is None else clamp(input, eps, 1 - eps))
    return r if out is None else write_out("logit", out, r, input)


@derivative
def NanToNumBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    return grad * isfinite(x)


def nan_to_num(input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None, *,
               out: Tensor | None = None) -> Tensor:
    """nan replaced by 0 (or ``nan``), infinities by the largest and smallest finite values (or the given ones)."""
    a = input._a
    if a.dtype.kind not in "fV":
        r = wrap(of(a).copy.clone(a))
    else:
        info = dtypes.finfo(from_numpy_dtype(a.dtype))
        high, low = info.max if posinf is None else posinf, info.min if neginf is None else neginf
        k = of(a).pointwise
        array = k.where(k.unaries["isnan"](a), a.dtype.type(0.0 if nan is None else nan), a)
        array = k.where(k.unaries["isposinf"](a), a.dtype.type(high), array)
        r = wrap(k.where(k.unaries["isneginf"](a), a.dtype.type(low), array))
    if recording(input):
        record(r, NanToNumBackward0, (input,), saved=(input,))
    return r if out is None else write_out("nan_to_num", out, r, input)


# --- binary ---------------------------------------------------------------------------------
# kind "any": the promoted dtype; "float": integers become the default floating point type; "int": integers and bool
# only; "compare": a mask.

def binary_op(name: str, kind: str = "any", grad_a: Grad = None, grad_b: Grad = None, saves: tuple[str, str] = ("", ""),
              node: str = "", doc: str = "") -> Any:
    """Make the function of two tensors, or a tensor and a number.

    ``grad_a(g, a, b, r)`` and ``grad_b`` get the gradient, both operands and the result; ``saves`` says which of the
    letters "a", "b", "r" each of them uses. A number takes its operand's place."""
    title = node or "".join(p.capitalize() for p in name.split("_")) + "Backward0"

    def backward(self: Any, g: Tensor) -> Any:
        a, b, r = self.unpack() or NOTHING
        edges = self.edges
        if self.ctx is None:
            return (grad_a(g, a, b, r) if edges[0] is not None else None,  # type: ignore[misc]
                    grad_b(g, a, b, r) if edges[1] is not None else None)  # type: ignore[misc]
        return grad_a(g, a, b, r) if self.ctx else grad_b(g, a, b, r)  # type: ignore[misc]

    cls = node_kind(title, backward)
    differentiable = grad_a is not None

    def op(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        two = False
        if isinstance(input, Tensor):
            a = input._a
            if isinstance(other, Tensor):
                two = True
                b = other._a
                direct = a.dtype is b.dtype and (a.dtype is f32 or a.dtype is f64 or a.dtype is i64 and kind == "any")
            else:
                b = other
                direct = (a.dtype is f32 or a.dtype is f64) and (type(b) is float or type(b) is int)
        else:
            a, b, direct = input, other, False
        if direct:
            side = of(a).pointwise.binaries[name]
        else:
            a, b, side = _prepare(name, kind, input, other)
        r = new_tensor(Tensor)
        try:
            r._a = side(a, b)
        except (ValueError, OverflowError) as error:
            r._a = _explain(name, kind, input, other, a, b, error)
        if two:
            if differentiable and mode.enabled and (input._rg or other._rg):
                need = (saves[0] if input._rg else "") + (saves[1] if other._rg else "")
                record(r, cls, (input, other), (input if "a" in need else None, other if "b" in need else None,
                                                r if "r" in need else None) if need else ())
            if input._free or other._free:
                r._free = True
        else:
            first = isinstance(input, Tensor)
            x = input if first else other
            if differentiable and mode.enabled and x._rg:
                need = saves[0] if first else saves[1]
                record(r, cls, (x,), (input if not first or "a" in need else None, other if first or "b" in need else None,
                                      r if "r" in need else None) if need else (), ctx=first)
            if x._free:
                r._free = True
        return r if out is None else write_out(name, out, r, input, other)

    return _named(op, name, doc)


def _prepare(name: str, kind: str, input: Any, other: Any) -> tuple[Any, Any, Any]:
    """The operands in the dtype to compute in, and the kernel for it; PyTorch's errors for what it does not take."""
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    for position, x in enumerate((input, other), 1):
        if not isinstance(x, (Tensor, *NUMBERS, np.generic)):
            raise TypeError(f"{name}(): argument '{'input' if position == 1 else 'other'}' (position {position}) must "
                            f"be Tensor or Number, not {type(x).__name__}")
    dt = result_type(input, other)
    if kind == "float" and dt.category < 2:
        dt = dtypes.get_default_dtype()
    elif kind == "int" and dt.category > 1:
        raise RuntimeError(f'"{name}_cpu" not implemented for \'{dt.title}\'')
    elif name == "sub" and dt.category == 0:
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
                           "`logical_xor()` operator instead.")
    elif dt.category == 3 and name in ("lt", "le", "gt", "ge", "maximum", "minimum", "remainder", "fmod",
                                       "floor_divide"):
        raise RuntimeError(f'"{name}_cpu" not implemented for \'{dt.title}\'')
    if dt.name in ("float16", "bfloat16"):
        operands = [x if isinstance(x, NUMBERS) else cast_operands(dt, x)[0] for x in (input, other)]
        a, b = operands
        return a, b, of(a if type(a) is ndarray else b).pointwise.low_binaries[name]
    if kind == "compare" and dt.category == 1:
        a, b = (x._a if isinstance(x, Tensor) else x for x in (input, other))  # NumPy compares integers exactly
        return a, b, of(a if type(a) is ndarray else b).pointwise.binaries[name]
    a, b = cast_operands(dt, input, other)
    if dt.category <= 1 and name in ("floor_divide", "trunc_divide", "remainder", "fmod") and not b.all():
        raise RuntimeError("ZeroDivisionError")
    if dt.category <= 1 and name in ("floor_divide", "trunc_divide", "remainder", "fmod") and dt.category == 0:
        raise RuntimeError(f'"{name}_cpu" not implemented for \'Bool\'')
    return a, b, of(a).pointwise.binaries[name]


def _explain(name: str, kind: str, input: Any, other: Any, a: Any, b: Any, error: Exception) -> Any:
    """A kernel refused its operands: say why in PyTorch's words, or mend a number that wraps around."""
    if isinstance(error, OverflowError):
        a, b = cast_operands(result_type(input, other), input, other)
        return of(a).pointwise.binaries[name](a, b)
    broken_broadcast(a, b)
    if "negative integer powers" in str(error):
        raise RuntimeError("Integers to negative integer powers are not allowed.") from None
    raise error


_add = binary_op("add", "any", lambda g, a, b, r: g, lambda g, a, b, r: g)
_sub = binary_op("sub", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g)
mul = multiply = binary_op("mul", "any", lambda g, a, b, r: g * b, lambda g, a, b, r: g * a, ("b", "a"))
_div = binary_op("div", "float", lambda g, a, b, r: g / b, lambda g, a, b, r: -g * ((a / b) / b), ("b", "ab"))
_floor_divide = binary_op("floor_divide", "any")
_trunc_divide = binary_op("trunc_divide", "any")
_remainder = binary_op("remainder", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g * div(a, b, rounding_mode="floor"),
                       ("", "ab"))
_fmod = binary_op("fmod", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g * div(a, b, rounding_mode="trunc"),
                  ("", "ab"))
atan2 = arctan2 = binary_op("atan2", "float", lambda g, a, b, r: g * b / (a * a + b * b),
                            lambda g, a, b, r: -g * a / (a * a + b * b), ("ab", "ab"))


def _share(win: Any) -> Any:
    """The gradient of a maximum or minimum: to the winner; half to each of two equals."""
    return (lambda g, a, b, r: g * win(a, b) + g * (eq(a, b) * 0.5),
            lambda g, a, b, r: g * win(b, a) + g * (eq(a, b) * 0.5), ("ab", "ab"))


maximum = binary_op("maximum", "any", *_share(lambda a, b: gt(a, b)))
minimum = binary_op("minimum", "any", *_share(lambda a, b: lt(a, b)))
fmax = binary_op("fmax", "any", lambda g, a, b, r: g * logical_or(ge(a, b), isnan(b)),
                 lambda g, a, b, r: g * logical_not(logical_or(ge(a, b), isnan(b))), ("ab", "ab"))
fmin = binary_op("fmin", "any", lambda g, a, b, r: g * logical_or(le(a, b), isnan(b)),
                 lambda g, a, b, r: g * logical_not(logical_or(le(a, b), isnan(b))), ("ab", "ab"))
hypot = binary_op("hypot", "float", lambda g, a, b, r: g * (a / r), lambda g, a, b, r: g * (b / r), ("ar", "br"))
logaddexp = binary_op("logaddexp", "float", lambda g, a, b, r: g * exp(a - r), lambda g, a, b, r: g * exp(b - r),
                      ("ar", "br"))
logaddexp2 = binary_op("logaddexp2", "float", lambda g, a, b, r: g * exp2(a - r), lambda g, a, b, r: g * exp2(b - r),
                       ("ar", "br"))
copysign = binary_op("copysign", "float", lambda g, a, b, r: g * where(a == 0, 0.0, sign(a) * sign(r)),
                     lambda g, a, b, r: g * 0, ("ar", ""))
nextafter = binary_op("nextafter", "any")
ldexp = binary_op("ldexp", "float", lambda g, a, b, r: g * exp2(b), lambda g, a, b, r: g * r * LN2, ("b", "r"))
xlogy = binary_op("xlogy", "float", lambda g, a, b, r: g * where(logical_and(eq(a, 0), le(b, 0)), 0.0, log(b)),
                  lambda g, a, b, r: g * a / b, ("ab", "ab"))
heaviside = binary_op("heaviside", "any")
gcd = binary_op("gcd", "int")
lcm = binary_op("lcm", "int")
bitwise_and = binary_op("bitwise_and", "int")
bitwise_or = binary_op("bitwise_or", "int")
bitwise_xor = binary_op("bitwise_xor", "int")
bitwise_left_shift = binary_op("bitwise_left_shift", "int")
bitwise_right_shift = binary_op("bitwise_right_shift", "int")
eq = binary_op("eq", "compare")
ne = not_equal = binary_op("ne", "compare")
lt = less = binary_op("lt", "compare")
le = less_equal = binary_op("le", "compare")
gt = greater = binary_op("gt", "compare")
ge = greater_equal = binary_op("ge", "compare")
logical_and = binary_op("logical_and", "compare")
logical_or = binary_op("logical_or", "compare")
logical_xor = binary_op("logical_xor", "compare")


def add(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + alpha * other``."""
    if type(alpha) is not int or alpha != 1:
        other = _scaled("add", input, other, alpha)
    return _add(input, other, out=out)


def sub(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input - alpha * other``."""
    if type(alpha) is not int or alpha != 1:
        other = _scaled("sub", input, other, alpha)
    return _sub(input, other, out=out)


subtract = sub


def _scaled(name: str, input: Any, other: Any, alpha: Any) -> Any:
    dt = result_type(input, other)
    if isinstance(alpha, Tensor):
        alpha = alpha.item()
    if isinstance(alpha, float) and dt.category < 2:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, bool) and dt.category != 0:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    return mul(other, alpha)


RsubBackward1 = node_kind("RsubBackward1", lambda self, g: -g)


def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    if isinstance(other, Tensor):
        return sub(other, input, alpha=alpha)
    x = input if type(alpha) is int and alpha == 1 else mul(input, alpha)
    r = _sub(other, x.detach() if x._rg else x)
    if mode.enabled and x._rg:
        record(r, RsubBackward1, (x,))
    return r


def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """``input / other``: true division, or rounded ``"trunc"`` towards zero or ``"floor"`` down.

    Raises RuntimeError for another rounding mode."""
    if rounding_mode is None:
        return _div(input, other, out=out)
    if rounding_mode not in ("trunc", "floor"):
        raise RuntimeError("div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
                           f"'{rounding_mode}'")
    r = (_trunc_divide if rounding_mode == "trunc" else _floor_divide)(input, other)
    ts = [x for x in (input, other) if isinstance(x, Tensor)]
    if mode.enabled and any(x._rg for x in ts):
        record(r, DivBackward1, tuple(ts))
    return r if out is None else write_out("div", out, r, input, other)


divide = true_divide = div
DivBackward1 = node_kind("DivBackward1", lambda self, g: tuple([g * 0 if n else None for n in self.needs]))


def floor_divide(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """``input // other``, rounded down."""
    return _floor_divide(input, other, out=out)


RemainderBackward0 = node_kind("RemainderBackward0", lambda self, g: g)
FmodBackward0 = node_kind("FmodBackward0", lambda self, g: g)


def remainder(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """``input % other``, with the sign of ``other``, as in Python."""
    return _modulo(_remainder, RemainderBackward0, input, other, out)


def fmod(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The remainder with the sign of ``input``, as in C."""
    return _modulo(_fmod, FmodBackward0, input, other, out)


def _modulo(op: Any, kind: Any, input: Any, other: Any, out: Any) -> Tensor:
    if isinstance(other, Tensor) or not (mode.enabled and input._rg):
        return op(input, other, out=out)
    r = op(input.detach(), other)
    return record(r, kind, (input,))


@derivative
def PowBackward0(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    n = node.ctx
    if n == 0:
        return grad * 0
    return grad * (mul(x, n) if n == 2 else mul(pow(x, n - 1), n))


def _pow_self(g: Tensor, a: Any, b: Any, r: Any) -> Any:
    return g * where(eq(b, 0), 0.0, b * pow(a, b - 1))


def _pow_exponent(g: Tensor, a: Any, b: Any, r: Any) -> Any:
    flat = logical_and(eq(a, 0), ge(b, 0)) if isinstance(a, Tensor) else (
        ge(b, 0) if a == 0 else None)
    base = log(a) if isinstance(a, Tensor) else (math.log(a) if a > 0 else (-math.inf if a == 0 else math.nan))
    return g * (mul(r, base) if flat is None else where(flat, 0.0, mul(r, base)))


_pow = binary_op("pow", "any", _pow_self, _pow_exponent, ("ab", "abr"), node="PowBackward1")
_pow_number = binary_op("pow", "any", _pow_self, _pow_exponent, ("ab", "abr"), node="PowBackward2")


def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``input ** exponent``; either may be a number.

    Raises RuntimeError for integers to a negative power."""
    if isinstance(exponent, Tensor):
        return (_pow if isinstance(input, Tensor) else _pow_number)(input, exponent, out=out)
    if isinstance(exponent, np.generic):
        exponent = exponent.item()
    x = input.detach() if input._rg else input
    if exponent == 2 and type(exponent) in (int, float) and (
            type(exponent) is int or x.is_floating_point()) and x._a.dtype.kind != "b":
        r = square(x)
    elif exponent == 0.5 and x.is_floating_point():
        r = sqrt(x)
    elif type(exponent) is int and exponent == 1 and x._a.dtype.kind != "b":
        r = wrap(of(x._a).copy.clone(x._a))
    else:
        r = _pow(x, exponent)
    if input._free:
        r._free = True
    if mode.enabled and input._rg:
        record(r, PowBackward0, (input,), saved=(input,) if exponent != 1 else (), ctx=exponent)
        if exponent == 1:
            r._edge[0].saved = (input.detach(),)
    return r if out is None else write_out("pow", out, r, input)


def float_power(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``pow`` computed in float64 (complex128 for complex)."""
    dt = dtypes.complex128 if result_type(input, exponent).is_complex else dtypes.float64
    a = input.to(dt) if isinstance(input, Tensor) else input
    b = exponent.to(dt) if isinstance(exponent, Tensor) else exponent
    return pow(a, b, out=out)


# --- choices --------------------------------------------------------------------------------

@derivative
def WhereBackward0(node: Any, grad: Tensor) -> Any:
    (condition,), sides = node.unpack(), node.ctx
    return tuple([None if not n else where(condition, grad, 0.0) if side == "input" else where(condition, 0.0, grad)
                  for n, side in zip(node.needs, sides, strict=True)])


def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Tensor | None = None) -> Any:
    """``input`` where ``condition`` is true, else ``other`` (tensors or numbers, broadcast).

    With the condition alone: the indices where it is true, one tensor per dimension.
    Raises RuntimeError when the condition is not a bool tensor or the shapes do not broadcast."""
    if input is None and other is None:
        from tritium.tensor.ops.index import nonzero

        return nonzero(condition, as_tuple=True)
    if condition._a.dtype.kind != "b" and condition._a.dtype != np.uint8:
        raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with dtype "
                           f"{condition.dtype.title}")
    dt = result_type(input, other)
    a, b = cast_operands(dt, input, other)
    c = condition._a if condition._a.dtype.kind == "b" else condition._a != 0
    try:
        r = wrap(of(c).pointwise.where(c, a, b))
    except ValueError:
        broadcast_shapes(c.shape, a.shape, b.shape)
        raise
    ts = [x for x in (input, other) if isinstance(x, Tensor)]
    if any(t._free for t in ts) or condition._free:
        r._free = True
    if ts and mode.enabled and any(t._rg for t in ts):
        sides = [side for side, x in (("input", input), ("other", other)) if isinstance(x, Tensor)]
        record(r, WhereBackward0, tuple(ts), saved=(condition,), ctx=sides)
    return r if out is None else write_out("where", out, r, *ts)


@derivative
def ClampBackward1(node: Any, grad: Tensor) -> Tensor:
    (x,) = node.unpack()
    low, high = node.ctx
    keep = ge(x, low) if high is None else le(x, high) if low is None else logical_and(ge(x, low), le(x, high))
    return where(keep, grad, 0.0)


@derivative
def ClampBackward0(node: Any, grad: Tensor) -> Any:
    x, low, high = node.unpack()
    grads = []
    inside = isnan(x)
    above = None if low is None else ge(x, low)
    below = None if high is None else le(x, high)
    keep = logical_or(above if below is None else below if above is None else logical_and(above, below), inside)
    grads.append(where(keep, grad, 0.0))
    if low is not None:
        mask = lt(x, low) if high is None else logical_and(lt(x, low), lt(low, high))
        grads.append(where(mask, grad, 0.0))
    if high is not None:
        mask = gt(x, high) if low is None else logical_or(gt(x, high), gt(low, high))
        grads.append(where(mask, grad, 0.0))
    return tuple(grads)


def clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Tensor | None = None) -> Tensor:
    """Values below ``min`` raised to it, above ``max`` lowered to it; either may be None, a number or a tensor.

    Raises RuntimeError when both are None."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    bounds = [x for x in (min, max) if x is not None]
    dt = result_type(input, *bounds)
    arrays = iter(cast_operands(dt, input, *bounds))
    a = next(arrays)
    low = next(arrays) if min is not None else None
    high = next(arrays) if max is not None else None
    try:
        r = wrap(of(a).pointwise.clamp(a, low, high))
    except ValueError:
        broadcast_shapes(a.shape, *[x._a.shape for x in bounds if isinstance(x, Tensor)])
        raise
    ts = [x for x in bounds if isinstance(x, Tensor)]
    if input._free:
        r._free = True
    if mode.enabled and (input._rg or any(t._rg for t in ts)):
        if ts:
            low_t, high_t = (x if x is None or isinstance(x, Tensor) else input.new_tensor(x) for x in (min, max))
            record(r, ClampBackward0, tuple(t for t in (input, low_t, high_t) if t is not None),
                   saved=(input, low_t, high_t))
        else:
            record(r, ClampBackward1, (input,), saved=(input,), ctx=(min, max))
    return r if out is None else write_out("clamp", out, r, input)


clip = clamp


def clamp_min(input: Tensor, min: Any, *, out: Tensor | None = None) -> Tensor:
    """``clamp(input, min=min)``."""
    return clamp(input, min=min, out=out)


def clamp_max(input: Tensor, max: Any, *, out: Tensor | None = None) -> Tensor:
    """``clamp(input, max=max)``."""
    return clamp(input, max=max, out=out)


def lerp(input: Tensor, end: Tensor, weight: Any, *, out: Tensor | None = None) -> Tensor:
    """``input + weight * (end - input)``."""
    r = add(input, mul(sub(end, input), weight))
    return r if out is None else write_out("lerp", out, r, input, end)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    product = mul(tensor1, tensor2)
    r = add(input, product if value == 1 else mul(product, value))
    return r if out is None else write_out("addcmul", out, r, input, tensor1, tensor2)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + value * tensor1 / tensor2``."""
    quotient = div(tensor1, tensor2)
    r = add(input, quotient if value == 1 else mul(quotient, value))
    return r if out is None else write_out("addcdiv", out, r, input, tensor1, tensor2)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |input - other| <= atol + rtol * |other|.

    Raises RuntimeError for tensors of different dtypes."""
    if input._a.dtype != other._a.dtype:
        raise RuntimeError(f"{input.dtype.title} did not match {other.dtype.title}")
    a, b = input._a, other._a
    if a.dtype.kind in "fV" and a.dtype.itemsize < 4:
        a, b = a.astype(f32), b.astype(f32)
    with np.errstate(all="ignore"):
        return wrap(np.asarray(np.isclose(a, b, rtol, atol, equal_nan)))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether ``isclose`` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._a.all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements."""
    return input._a.shape == other._a.shape and bool((input._a == other._a).all())


# --- in place -------------------------------------------------------------------------------

def inplace(op: Any, name: str) -> Any:
    """The in-place form of an op: its result is written into the first argument, which is returned.

    Raises RuntimeError for a leaf that requires grad, a result dtype that does not fit, or a result of another shape."""

    def op_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_inplace(input)
        result = op(input, *args, **kwargs)
        check_result(input, result)
        return finish_inplace(input, result)

    op_.__name__ = op_.__qualname__ = name
    op_.__doc__ = f"``{op.__name__}`` in place."
    return op_


def check_result(input: Tensor, result: Tensor) -> None:
    """Raises RuntimeError when a result cannot be written into ``input``: its dtype or shape does not fit."""
    a, r = input._a, result._a
    if a.dtype != r.dtype and not can_cast(from_numpy_dtype(r.dtype), from_numpy_dtype(a.dtype)):
        raise RuntimeError(f"result type {from_numpy_dtype(r.dtype).title} can't be cast to the desired output type "
                           f"{from_numpy_dtype(a.dtype).title}")
    if a.shape != r.shape:
        raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(r.shape)}")


def _direct_inplace(op: Any, name: str) -> Any:
    """In-place arithmetic that needs no temporary when nothing is recorded and the dtypes agree."""
    general = inplace(op, name)
    kernel = name[:-1]

    def op_(input: Tensor, other: Any, **kwargs: Any) -> Tensor:
        a = input._a
        if (a.dtype is f32 or a.dtype is f64) and not kwargs and a.flags.writeable and 0 not in a.strides:
            b = other._a if isinstance(other, Tensor) else other
            number = type(b) is float or type(b) is int
            if (number or (isinstance(other, Tensor) and b.dtype is a.dtype)) and not (
                    mode.enabled and (input._rg or (not number and other._rg))):
                try:
                    of(a).pointwise.into(kernel, a, b, a)
                except (ValueError, OverflowError):
                    return general(input, other)
                bump(input)
                return input
        return general(input, other, **kwargs)

    op_.__name__ = op_.__qualname__ = name
    op_.__doc__ = f"``{op.__name__}`` in place."
    return op_


add_ = _direct_inplace(add, "add_")
sub_ = subtract_ = _direct_inplace(sub, "sub_")
mul_ = multiply_ = _direct_inplace(mul, "mul_")
div_ = divide_ = true_divide_ = _direct_inplace(div, "div_")
