"""Pointwise ops: arithmetic, comparisons, elementary functions, each with its derivative.

Two tables say what each op is: which dtypes it takes (``kind``), and its derivative. The makers of
``pointwise_rules.py`` turn a line of a table into a function. A gradient of the wrong shape or dtype is mended by the
engine (summed over broadcast dimensions, cast), so a derivative is the plain formula.
https://docs.pytorch.org/docs/stable/torch.html#pointwise-ops
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor import dtype as dtypes
from tritium.tensor.autocast import amp
from tritium.tensor.dtype import from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.ops.arguments import check_tensor
from tritium.tensor.ops.choice import (  # noqa: F401  (one family: all pointwise ops can be had from here)
    addcdiv,
    addcmul,
    allclose,
    clamp,
    clamp_max,
    clamp_min,
    clip,
    equal,
    isclose,
    lerp,
    nan_to_num,
    where,
)
from tritium.tensor.ops.inplace import direct_inplace, inplace  # noqa: F401
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pointwise_rules import binary_op, flat, node_kind, unary_op, unsupported
from tritium.tensor.promotion import result_type
from tritium.tensor.tensor import Tensor

LN2, LN10 = math.log(2.0), math.log(10.0)

# Ops that a derivative uses before their own line.
sgn: Any
cos: Any
cosh: Any
eq: Any
lt: Any
le: Any
gt: Any
ge: Any
logical_or: Any
neg = unary_op("neg", "same", lambda g: -g, "")
abs = absolute = unary_op("abs", "same", lambda g, x: g * sgn(x), refuses="b")
sign = unary_op("sign", "same", flat, "", refuses="c")
sgn = unary_op("sgn", "same", flat, "")
relu = unary_op("relu", "same", lambda g, r: threshold_backward(g, r), "r", refuses="b")
floor = unary_op("floor", "same", flat, "", refuses="b")
ceil = unary_op("ceil", "same", flat, "", refuses="b")
trunc = fix = unary_op("trunc", "same", flat, "", refuses="b")
_round = unary_op("round", "same", flat, "", refuses="b")
frac = unary_op("frac", "same", lambda g: g, "", refuses="biu")
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
log1p = unary_op("log1p", grad=lambda g, x: g / (x + 1), node="Log1PBackward0")
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
    x * x * math.pi == 0, 0.0, (cos(x * math.pi) * (x * math.pi) - sin(x * math.pi)) / (x * x * math.pi)))
deg2rad = unary_op("deg2rad", grad=lambda g: g * (math.pi / 180), saves="", node="Deg2RadBackward0")
rad2deg = unary_op("rad2deg", grad=lambda g: g * (180 / math.pi), saves="", node="Rad2DegBackward0")
isnan = unary_op("isnan", "bool")
isinf = unary_op("isinf", "bool")
isfinite = unary_op("isfinite", "bool")
isposinf = unary_op("isposinf", "bool")
isneginf = unary_op("isneginf", "bool")
signbit = unary_op("signbit", "bool")
logical_not = unary_op("logical_not", "bool")
_conj = unary_op("conj", "same", lambda g: conj(g), "")
_bitwise_not = unary_op("bitwise_not", "same")
_logit = unary_op("logit", grad=lambda g, x: where(logical_or(lt(x, 0), gt(x, 1)), math.nan, g / (x * (1 - x))))


@derivative
def ThresholdBackwardBackward0(node: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
    (r,) = node.unpack()
    return threshold_backward(grad, r), grad * 0 if node.needs[1] else None


def threshold_backward(grad: Tensor, result: Tensor) -> Tensor:
    """The derivative of relu: the gradient where the result is positive (or nan), 0 elsewhere."""
    out = wrap(of(grad._a).activation.backward["threshold"](grad._a, result._a, 0, 0))
    if grad._free or result._free:
        out._free = True
    if recording(grad, result):
        record(out, ThresholdBackwardBackward0, (grad, result), saved=(result,))
    return out


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor as it is."""
    check_tensor("conj", "input", 1, input)
    return _conj(input) if input._a.dtype.kind == "c" else input


def bitwise_not(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """All bits inverted; ``logical_not`` for bool.

    Raises RuntimeError for floating point tensors."""
    check_tensor("bitwise_not", "input", 1, input)
    if input._a.dtype.kind not in "biu":
        raise NotImplementedError(f'"bitwise_not_cpu" not implemented for \'{from_numpy_dtype(input._a.dtype).title}\'')
    return _bitwise_not(input, out=out)


def negative(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``-input``.

    Raises RuntimeError for bool."""
    check_tensor("neg", "input", 1, input)
    if input._a.dtype.kind == "b":
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert "
                           "a mask, use the `~` or `logical_not()` operator instead.")
    return neg(input, out=out)


def positive(input: Tensor) -> Tensor:
    """``+input``: the tensor itself.

    Raises RuntimeError for bool."""
    check_tensor("positive", "input", 1, input)
    if input._a.dtype.kind == "b":
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """The nearest integer, halves to even; or the nearest multiple of 10 ** -decimals."""
    if decimals == 0:
        return _round(input, out=out)
    if input._a.dtype.kind in "biu":
        raise NotImplementedError(f'"round_cpu" not implemented for \'{input.dtype.title}\'')
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    x = input.detach()
    r = div(_round(mul(x, scale)), scale) if decimals > 0 else mul(_round(div(x, scale)), scale)
    if recording(input):
        record(r, RoundBackward1, (input,))
    return r if out is None else write_out("round", out, r, input)


RoundBackward1 = node_kind("RoundBackward1", lambda self, g: flat(g))


def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(x / (1 - x)), with x clamped to [eps, 1 - eps] when ``eps`` is given."""
    r = _logit(input if eps is None else clamp(input, eps, 1 - eps))
    return r if out is None else write_out("logit", out, r, input)


_add = binary_op("add", "any", lambda g, a, b, r: g, lambda g, a, b, r: g)
_sub = binary_op("sub", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g)
mul = multiply = binary_op("mul", "any", lambda g, a, b, r: g * b, lambda g, a, b, r: g * a, ("b", "a"))
_div = binary_op("div", "float", lambda g, a, b, r: g / b, lambda g, a, b, r: -g * ((a / b) / b), ("b", "ab"))
_floor_divide = binary_op("floor_divide", "any", *unsupported("floor_divide"), node="NotImplemented")
_trunc_divide = binary_op("trunc_divide", "any")
_remainder = binary_op("remainder", "any", lambda g, a, b, r: g,
                       lambda g, a, b, r: -g * div(a, b, rounding_mode="floor"), ("", "ab"), node="RemainderBackward1")
_fmod = binary_op("fmod", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g * div(a, b, rounding_mode="trunc"),
                  ("", "ab"), node="FmodBackward1")
def _over_square(g: Tensor, x: Any, a: Any, b: Any) -> Tensor:
    """g x / (a^2 + b^2), 0 at the origin."""
    square = a * a + b * b
    return g * where(eq(square, 0), 0.0, x / square)


_atan2 = binary_op("atan2", "float", lambda g, a, b, r: _over_square(g, b, a, b),
                   lambda g, a, b, r: _over_square(g, -a, a, b), ("ab", "ab"))


def atan2(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The angle of the point (``other``, ``input``), in [-pi, pi]."""
    if amp.on and (r := amp.run("atan2", _atan2, input, other, out=out)) is not None:
        return r
    return _atan2(input, other, out=out)


arctan2 = atan2


def _share(less: Any) -> Any:
    """The gradient of a maximum or minimum: to the winner; half to each of two equals; to both where one is nan."""
    return (lambda g, a, b, r: where(less(a, b), 0.0, where(eq(a, b), g * 0.5, g)),
            lambda g, a, b, r: where(less(b, a), 0.0, where(eq(a, b), g * 0.5, g)), ("ab", "ab"))


maximum = binary_op("maximum", "any", *_share(lambda a, b: lt(a, b)))
minimum = binary_op("minimum", "any", *_share(lambda a, b: gt(a, b)))
fmax = binary_op("fmax", "any", lambda g, a, b, r: g * logical_or(ge(a, b), isnan(b)),
                 lambda g, a, b, r: g * logical_not(logical_or(ge(a, b), isnan(b))), ("ab", "ab"))
fmin = binary_op("fmin", "any", lambda g, a, b, r: g * logical_or(le(a, b), isnan(b)),
                 lambda g, a, b, r: g * logical_not(logical_or(le(a, b), isnan(b))), ("ab", "ab"))
hypot = binary_op("hypot", "floating", lambda g, a, b, r: g * (a / r), lambda g, a, b, r: g * (b / r), ("ar", "br"))
logaddexp = binary_op("logaddexp", "floating", lambda g, a, b, r: g / (1 + exp(b - a)),
                      lambda g, a, b, r: g / (1 + exp(a - b)), ("ab", "ab"))
logaddexp2 = binary_op("logaddexp2", "floating", lambda g, a, b, r: g / (1 + exp2(b - a)),
                       lambda g, a, b, r: g / (1 + exp2(a - b)), ("ab", "ab"))
copysign = binary_op("copysign", "float", lambda g, a, b, r: g * where(a == 0, 0.0, sign(a) * sign(r)),
                     lambda g, a, b, r: g * 0, ("ar", ""), numbered=("CopysignBackward1", ""))
nextafter = binary_op("nextafter", "floating", lambda g, a, b, r: where(eq(a, b), 0.0, g),
                      lambda g, a, b, r: flat(g), ("ab", ""))
ldexp = binary_op("ldexp", "float", lambda g, a, b, r: g * exp2(b), lambda g, a, b, r: g * r * LN2, ("b", "r"))
def _xlogy_first(g: Tensor, a: Any, b: Any, r: Any) -> Any:
    flat = eq(a, 0) if not isinstance(b, Tensor) and b <= 0 else None if not isinstance(b, Tensor) else logical_and(
        eq(a, 0), le(b, 0))
    slope = xlogy(g, b)
    return slope if flat is None else where(flat, 0.0, slope)


xlogy = binary_op("xlogy", "float", _xlogy_first, lambda g, a, b, r: g * a / b, ("ab", "ab"),
                  numbered=("XlogyBackward2", "XlogyBackward1"))
heaviside = binary_op("heaviside", "any", *unsupported("heaviside"), node="NotImplemented")
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
    if not isinstance(other, Tensor):
        return other.item() * alpha if isinstance(other, np.generic) else other * alpha
    return mul(other, alpha)


RsubBackward0 = node_kind("RsubBackward0", lambda self, g: (g * -self.ctx, g))
RsubBackward1 = node_kind("RsubBackward1", lambda self, g: -g)


def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    if isinstance(other, Tensor):
        r = sub(other.detach(), input.detach(), alpha=alpha)
        return record(r, RsubBackward0, (input, other), ctx=alpha) if recording(input, other) else r
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
        record(r, DivBackward2, tuple(ts))
    return r if out is None else write_out("div", out, r, input, other)


divide = true_divide = div
DivBackward2 = node_kind("DivBackward2", lambda self, g: tuple([flat(g) if n else None for n in self.needs]))


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
    return grad * (mul(x, n) if n == 2 and not mode.enabled else mul(pow(x, n - 1), n))


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
    if amp.on and (r := amp.run("pow", pow, input, exponent, out=out)) is not None:
        return r
    if isinstance(exponent, Tensor):
        return (_pow if isinstance(input, Tensor) else _pow_number)(input, exponent, out=out)
    check_tensor("pow", "input", 1, input)
    if isinstance(exponent, np.generic):
        exponent = exponent.item()
    x = input.detach() if input._rg else input
    if exponent == 2 and type(exponent) in (int, float) and (
            type(exponent) is int or x.is_floating_point()) and x._a.dtype.kind != "b":
        r = square(x)
    elif exponent == 0.5 and x.is_floating_point():
        r = sqrt(x)
    elif (type(exponent) is int and exponent == 1 and x._a.dtype.kind != "b") or exponent is True:
        r = wrap(of(x._a).copy.clone(x._a))
    elif type(exponent) is int and exponent < 0 and x._a.dtype.kind in "biu":
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    else:
        r = _pow(x, exponent)
    if input._free:
        r._free = True
    if mode.enabled and input._rg:
        record(r, PowBackward0, (input,), saved=(input,), ctx=exponent)
    return r if out is None else write_out("pow", out, r, input)


def float_power(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``pow`` computed in float64 (complex128 for complex)."""
    dt = dtypes.complex128 if result_type(input, exponent).is_complex else dtypes.float64
    a = input.to(dt) if isinstance(input, Tensor) else input
    b = exponent.to(dt) if isinstance(exponent, Tensor) else exponent
    return pow(a, b, out=out)


add_ = direct_inplace(add, "add_")
sub_ = subtract_ = direct_inplace(sub, "sub_")
mul_ = multiply_ = direct_inplace(mul, "mul_")
div_ = divide_ = true_divide_ = direct_inplace(div, "div_")
