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
from tritium.tensor.layout import broadcast_shapes, dense_strides, element_strides
from tritium.tensor.ops.arguments import C_NAMES, check_tensor, fill_value
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
             doc: str = "", refuses: str = "") -> Any:
    """Make the function of one tensor. ``grad(g, s)`` gets the gradient and the saved input ("x") or result ("r").

    ``refuses``: the kinds of NumPy dtypes that PyTorch's op does not take."""
    title = node or "".join(p.capitalize() for p in name.split("_")) + "Backward0"

    def backward(self: Any, g: Tensor) -> Any:
        return grad(g, *self.unpack())  # type: ignore[misc]

    cls = node_kind(title, backward)

    def op(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        a = input._a
        if refuses and a.dtype.kind in refuses:
            raise refusal(name, from_numpy_dtype(a.dtype))
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


def _flat(g: Tensor, *saved: Any) -> Tensor:
    """The gradient of a step function: 0, whatever comes in."""
    return wrap(np.zeros(g._a.shape, g._a.dtype))


LN2, LN10 = math.log(2.0), math.log(10.0)

neg = unary_op("neg", "same", lambda g: -g, "")
abs = absolute = unary_op("abs", "same", lambda g, x: g * sgn(x), refuses="b")
sign = unary_op("sign", "same", _flat, "", refuses="c")
sgn = unary_op("sgn", "same", _flat, "")
relu = unary_op("relu", "same", lambda g, r: threshold_backward(g, r), "r", refuses="b")
floor = unary_op("floor", "same", _flat, "", refuses="b")
ceil = unary_op("ceil", "same", _flat, "", refuses="b")
trunc = fix = unary_op("trunc", "same", _flat, "", refuses="b")
_round = unary_op("round", "same", _flat, "", refuses="b")
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
    x == 0, 0.0, (cos(x * math.pi) * (x * math.pi) - sin(x * math.pi)) / (x * x * math.pi)))
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
    k = of(grad._a)
    out = wrap(k.pointwise.binaries["mul"](grad._a, k.pointwise.binaries["gt"](result._a, 0)))
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


RoundBackward1 = node_kind("RoundBackward1", lambda self, g: _flat(g))


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
    check_tensor("nan_to_num", "input", 1, input)
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
              node: str = "", doc: str = "", numbered: tuple[str, str] = ("", "")) -> Any:
    """Make the function of two tensors, or a tensor and a number.

    ``grad_a(g, a, b, r)`` and ``grad_b`` get the gradient, both operands and the result; ``saves`` says which of the
    letters "a", "b", "r" each of them uses. A number takes its operand's place. ``node``: the node's name, if it is not
    made from ``name``; ``numbered``: its names when the second, or the first, operand is a number."""
    title = node or "".join(p.capitalize() for p in name.split("_")) + "Backward0"
    whole = kind == "any" and name not in DIVIDING  # int64 needs no preparation
    numbers = kind != "int" and name not in TENSORS_ONLY

    def backward(self: Any, g: Tensor) -> Any:
        a, b, r = self.unpack() or NOTHING
        edges = self.edges
        if self.ctx is None:
            return (grad_a(g, a, b, r) if edges[0] is not None else None,  # type: ignore[misc]
                    grad_b(g, a, b, r) if edges[1] is not None else None)  # type: ignore[misc]
        return grad_a(g, a, b, r) if self.ctx else grad_b(g, a, b, r)  # type: ignore[misc]

    cls = node_kind(title, backward)
    with_number = node_kind(numbered[1], backward) if numbered[1] else cls, (
        node_kind(numbered[0], backward) if numbered[0] else cls)
    differentiable = grad_a is not None

    def op(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        two = False
        if isinstance(input, Tensor):
            a = input._a
            if isinstance(other, Tensor):
                two = True
                b = other._a
                direct = a.dtype is b.dtype and (a.dtype is f32 or a.dtype is f64 or a.dtype is i64 and whole)
            else:
                b = other
                direct = numbers and (a.dtype is f32 or a.dtype is f64) and (type(b) is float or type(b) is int)
        else:
            a, b, direct = input, other, False
        if direct:
            side = of(a).pointwise.binaries[name]
        else:
            a, b, side = _prepare(name, kind, input, other)
        r = new_tensor(Tensor)
        try:
            r._a = side(a, b)
        except (ValueError, OverflowError, TypeError) as error:
            r._a = _explain(name, kind, input, other, a, b, error)
        if two:
            if a.ndim > 1 and not a.flags.c_contiguous and a.strides != b.strides:
                r._a = ordered(r._a, a, b)
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
                record(r, with_number[first], (x,), (input if not first or "a" in need else None, other if first or "b" in need else None,
                                      r if "r" in need else None) if need else (), ctx=first)
            if x._free:
                r._free = True
        return r if out is None else write_out(name, out, r, input, other)

    return _named(op, name, doc)


TENSORS_ONLY = frozenset("""maximum minimum fmax fmin hypot logaddexp logaddexp2 nextafter ldexp heaviside gcd lcm atan2
 logical_and logical_or logical_xor""".split())
TENSOR_FIRST = frozenset("eq ne lt le gt ge copysign fmod".split())
DIVIDING = frozenset("floor_divide trunc_divide remainder fmod pow".split())
NO_BOOL = DIVIDING | frozenset("gcd lcm bitwise_left_shift bitwise_right_shift".split())
NO_COMPLEX = frozenset("lt le gt ge maximum minimum fmax fmin remainder fmod floor_divide trunc_divide".split())
KERNELS = {"bitwise_left_shift": "lshift_cpu", "bitwise_right_shift": "rshift_cpu", "floor_divide": "div_floor_cpu",
           "trunc_divide": "div_trunc_cpu", "pow": "pow", "floor": "floor_vml_cpu", "ceil": "ceil_vml_cpu",
           "trunc": "trunc_vml_cpu", "round": "round_vml_cpu"}


def refusal(name: str, dt: dtypes.dtype) -> Exception:
    """PyTorch's error for an op that does not take a dtype."""
    if name == "relu":
        return RuntimeError("Boolean inputs not supported for relu")
    if name == "sign":
        return NotImplementedError("Unlike NumPy, torch.sign is not intended to support complex numbers. Please use "
                                   "torch.sgn instead.")
    if name in ("maximum", "minimum"):
        return NotImplementedError(f"{name} not implemented for complex tensors.")
    return NotImplementedError(f'"{KERNELS.get(name, name + "_cpu")}" not implemented for \'{dt.title}\'')


def _is_bool(x: Any) -> bool:
    return x._a.dtype.kind == "b" if isinstance(x, Tensor) else isinstance(x, (bool, np.bool_))


def _spread(x: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an operand that is broadcast to ``shape``: 0 where it repeats."""
    extra = len(shape) - x.ndim
    return (0,) * extra + tuple([0 if m == 1 and n != 1 else s for m, n, s in zip(
        x.shape, shape[extra:], element_strides(x), strict=True)])


def ordered(r: Any, *operands: Any) -> Any:
    """A result in the order of dimensions that PyTorch gives it: where operands disagree, the first one decides."""
    shape = r.shape
    strides = dense_strides(shape, *[_spread(x, shape) for x in operands])
    if strides == element_strides(r):
        return r
    order = sorted(range(r.ndim), key=lambda d: -strides[d])
    return np.ascontiguousarray(r.transpose(order)).transpose(np.argsort(order))


def _check_operands(name: str, input: Any, other: Any) -> None:
    """Raises TypeError when an operand is neither tensor nor number, or a number where only a tensor is taken."""
    first = isinstance(input, Tensor)
    for position, x in enumerate((input, other), 1):
        if isinstance(x, Tensor):
            continue
        word = "input" if position == 1 else "values" if name == "heaviside" else "other"
        if name in TENSORS_ONLY or (name in TENSOR_FIRST and position == 1) or (not first and position == 2):
            raise TypeError(f"{name}(): argument '{word}' (position {position}) must be Tensor, not "
                            f"{type(x).__name__}")
        if not isinstance(x, (*NUMBERS, np.generic)):
            raise TypeError(f"{name}(): argument '{word}' (position {position}) must be Tensor or Number, not "
                            f"{type(x).__name__}")


def _prepare(name: str, kind: str, input: Any, other: Any) -> tuple[Any, Any, Any]:
    """The operands in the dtype to compute in, and the kernel for it; PyTorch's errors for what it does not take."""
    if not (isinstance(input, Tensor) and isinstance(other, Tensor)):
        _check_operands(name, input, other)
    dt = result_type(input, other)
    if kind == "float" and dt.category < 2:
        dt = dtypes.get_default_dtype()
    elif (kind == "int" and dt.category > 1) or (kind == "floating" and dt.category < 2) or (
            dt.category == 0 and name in NO_BOOL) or (dt.category == 3 and name in NO_COMPLEX):
        raise refusal(name, dt)
    elif name == "sub" and (_is_bool(input) or _is_bool(other)):
        if dt.category == 0:
            raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
                               "`logical_xor()` operator instead.")
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to "
                           "invert a mask, use the `~` or `logical_not()` operator instead.")
    elif name == "heaviside" and input._a.dtype != other._a.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    if dt.name in ("float16", "bfloat16"):
        operands = [x if isinstance(x, NUMBERS) else cast_operands(dt, x)[0] for x in (input, other)]
        a, b = operands
        return a, b, of(a if type(a) is ndarray else b).pointwise.low_binaries[name]
    if kind == "compare" and dt.category == 1:
        a, b = (x._a if isinstance(x, Tensor) else x for x in (input, other))  # NumPy compares integers exactly
        return a, b, of(a if type(a) is ndarray else b).pointwise.binaries[name]
    a, b = cast_operands(dt, input, other)
    if dt.category <= 1 and name in DIVIDING:
        if name == "pow":
            name = "int_pow"
        elif not b.all():
            raise RuntimeError("ZeroDivisionError")
    return a, b, of(a).pointwise.binaries[name]


def _explain(name: str, kind: str, input: Any, other: Any, a: Any, b: Any, error: Exception) -> Any:
    """A kernel refused its operands: say why in PyTorch's words, or mend a number that wraps around."""
    if isinstance(error, TypeError):
        _prepare(name, kind, input, other)
        raise error
    if isinstance(error, OverflowError):
        a, b = cast_operands(result_type(input, other), input, other)
        return of(a).pointwise.binaries[name](a, b)
    broken_broadcast(a, b)
    if "negative integer powers" in str(error):
        raise RuntimeError("Integers to negative integer powers are not allowed.") from None
    raise error


def unsupported(name: str) -> tuple[Any, Any]:
    """Derivatives that only say that there is none."""

    def refuse(g: Tensor, a: Any, b: Any, r: Any) -> Any:
        raise NotImplementedError(f"derivative for aten::{name} is not implemented")

    return refuse, refuse


_add = binary_op("add", "any", lambda g, a, b, r: g, lambda g, a, b, r: g)
_sub = binary_op("sub", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g)
mul = multiply = binary_op("mul", "any", lambda g, a, b, r: g * b, lambda g, a, b, r: g * a, ("b", "a"))
_div = binary_op("div", "float", lambda g, a, b, r: g / b, lambda g, a, b, r: -g * ((a / b) / b), ("b", "ab"))
_floor_divide = binary_op("floor_divide", "any", *unsupported("floor_divide"), node="NotImplemented")
_trunc_divide = binary_op("trunc_divide", "any")
_remainder = binary_op("remainder", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g * div(a, b, rounding_mode="floor"),
                       ("", "ab"), node="RemainderBackward1")
_fmod = binary_op("fmod", "any", lambda g, a, b, r: g, lambda g, a, b, r: -g * div(a, b, rounding_mode="trunc"),
                  ("", "ab"), node="FmodBackward1")
def _over_square(g: Tensor, x: Any, a: Any, b: Any) -> Tensor:
    """g x / (a^2 + b^2), 0 at the origin."""
    square = a * a + b * b
    return g * where(eq(square, 0), 0.0, x / square)


atan2 = arctan2 = binary_op("atan2", "float", lambda g, a, b, r: _over_square(g, b, a, b),
                            lambda g, a, b, r: _over_square(g, -a, a, b), ("ab", "ab"))


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
                      lambda g, a, b, r: _flat(g), ("ab", ""))
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
DivBackward2 = node_kind("DivBackward2", lambda self, g: tuple([_flat(g) if n else None for n in self.needs]))


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
    check_tensor("where", "condition", 1, condition)
    if condition._a.dtype.kind != "b" and condition._a.dtype != np.uint8:
        raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with dtype "
                           f"{condition.dtype.title}")
    dt = result_type(input, other)
    a, b = (cast_operands(dt, x)[0] if isinstance(x, Tensor) else fill_value(x, dt.np) for x in (input, other))
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
    return _clamp(input, min, max, out, (ClampBackward0, ClampBackward1))


def _clamp(input: Tensor, min: Any, max: Any, out: Tensor | None, kinds: Any) -> Tensor:
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    bounds = [x for x in (min, max) if x is not None]
    dt = result_type(input, *bounds)
    if dt.category == 3:
        raise NotImplementedError("clamp is not supported for complex types")
    a = cast_operands(dt, input)[0]
    low, high = (x if x is None else cast_operands(dt, x)[0] if isinstance(x, Tensor) else fill_value(x, dt.np)
                 for x in (min, max))
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
            record(r, kinds[0], tuple(t for t in (input, low_t, high_t) if t is not None),
                   saved=(input, low_t, high_t))
        else:
            record(r, kinds[1], (input,), saved=(input,), ctx=(min, max))
    return r if out is None else write_out("clamp", out, r, input)


clip = clamp
MIN_KINDS = (node_kind("ClampMinBackward1", ClampBackward0.derivative),
             node_kind("ClampMinBackward0", ClampBackward1.derivative))
MAX_KINDS = (node_kind("ClampMaxBackward1", ClampBackward0.derivative),
             node_kind("ClampMaxBackward0", ClampBackward1.derivative))


def clamp_min(input: Tensor, min: Any, *, out: Tensor | None = None) -> Tensor:
    """``clamp(input, min=min)``."""
    return _clamp(input, min, None, out, MIN_KINDS)


def clamp_max(input: Tensor, max: Any, *, out: Tensor | None = None) -> Tensor:
    """``clamp(input, max=max)``."""
    return _clamp(input, None, max, out, MAX_KINDS)


@derivative
def LerpBackward0(node: Any, grad: Tensor) -> Any:
    return grad * (1 - node.ctx), grad * node.ctx


@derivative
def LerpBackward1(node: Any, grad: Tensor) -> Any:
    a, b, w = node.unpack()
    return grad * (1 - w), grad * w, grad * (b - a) if node.needs[2] else None


def lerp(input: Tensor, end: Tensor, weight: Any, *, out: Tensor | None = None) -> Tensor:
    """``input + weight * (end - input)``, exact at both ends. ``weight``: a number or a tensor.

    Raises RuntimeError for tensors of different dtypes, NotImplementedError for integers."""
    check_tensor("lerp", "end", 2, end)
    tensor = isinstance(weight, Tensor)
    for word, x in (("end", end), ("weight", weight)):
        if isinstance(x, Tensor) and x._a.dtype != input._a.dtype and (word == "end" or x._a.ndim):
            raise RuntimeError(f"expected dtype {C_NAMES.get(input.dtype.name, input.dtype.name)} for `{word}` but got "
                               f"dtype {C_NAMES.get(x.dtype.name, x.dtype.name)}")
    if input._a.dtype.kind in "biu":
        raise NotImplementedError(f'"lerp_kernel_{"tensor" if tensor else "scalar"}" not implemented for '
                                  f"'{input.dtype.title}'")
    r = _three("lerp", input, end, weight)
    ts = (input, end, weight) if tensor else (input, end)
    if recording(*ts):
        if tensor:
            record(r, LerpBackward1, ts, saved=ts)
        else:
            record(r, LerpBackward0, ts, ctx=weight)
    return r if out is None else write_out("lerp", out, r, *ts)


def _three(name: str, input: Tensor, x: Tensor, y: Any, *rest: Any) -> Tensor:
    """A kernel of three operands that broadcast."""
    a, b = input._a, x._a
    c = y._a if isinstance(y, Tensor) else y
    try:
        r = wrap(getattr(of(a).pointwise, name)(a, b, c, *rest))
    except ValueError:
        shape = broadcast_shapes(a.shape, b.shape)
        if isinstance(y, Tensor):
            broadcast_shapes(shape, c.shape)
        raise
    if input._free or x._free:
        r._free = True
    return r


@derivative
def AddcmulBackward0(node: Any, grad: Tensor) -> Any:
    x, y = node.unpack()
    value = node.ctx
    return grad, grad * (y * value) if node.needs[1] else None, grad * (x * value) if node.needs[2] else None


@derivative
def AddcdivBackward0(node: Any, grad: Tensor) -> Any:
    x, y = node.unpack()
    value = node.ctx
    return (grad, grad * (value / y) if node.needs[1] else None,
            -grad * (value * x / (y * y)) if node.needs[2] else None)


def _add_product(name: str, kind: Any, input: Tensor, tensor1: Any, tensor2: Any, value: Any,
                 out: Tensor | None) -> Tensor:
    check_tensor(name, "tensor1", 2, tensor1)
    check_tensor(name, "tensor2", 3, tensor2)
    if name == "addcdiv" and result_type(tensor1, tensor2).category < 2:
        raise RuntimeError("Integer division with addcdiv is no longer supported, and in a future  release addcdiv "
                           "will perform a true division of tensor1 and tensor2. Use (input + value * tensor1 / "
                           "tensor2) instead.")
    dt = result_type(input, tensor1, tensor2)
    if dt.category == 0:
        raise NotImplementedError(f'"{name}_cpu_out" not implemented for \'Bool\'')
    x, a, b = (t if t._a.dtype == dt.np else t.to(dt) for t in (input, tensor1, tensor2))
    number = fill_value(value.item() if isinstance(value, Tensor) else value, dt.np)
    r = _three(name, x, a, b, number)
    if recording(x, a, b):
        record(r, kind, (x, a, b), saved=(a, b), ctx=value)
    return r if out is None else write_out(name, out, r, input, tensor1, tensor2)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    return _add_product("addcmul", AddcmulBackward0, input, tensor1, tensor2, value, out)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + value * tensor1 / tensor2``.

    Raises RuntimeError when both tensors are integers."""
    return _add_product("addcdiv", AddcdivBackward0, input, tensor1, tensor2, value, out)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |input - other| <= atol + rtol * |other|.

    Raises RuntimeError for tensors of different dtypes."""
    if input._a.dtype != other._a.dtype:
        raise RuntimeError(f"{input.dtype.title} did not match {other.dtype.title}")
    for word, tolerance in (("rtol", rtol), ("atol", atol)):
        if tolerance < 0:
            raise RuntimeError(f"{word} must be greater than or equal to zero, but got {tolerance}")
    a, b = input._a, other._a
    broadcast_shapes(a.shape, b.shape)
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
        try:
            result = op(input, *args, **kwargs)
        except RuntimeError:
            _check_fit(input, args)
            raise
        check_result(input, result)
        return finish_inplace(input, result)

    op_.__name__ = op_.__qualname__ = name
    op_.__doc__ = f"``{op.__name__}`` in place."
    return op_


def _check_fit(input: Tensor, args: Any) -> None:
    """An op refused its operands: if they do not fit ``input`` either, that is what PyTorch says first."""
    operands = [x for x in args if isinstance(x, (Tensor, *NUMBERS))]
    shape = input._a.shape
    for x in operands:
        if isinstance(x, Tensor):
            shape = broadcast_shapes(shape, x._a.shape)
    if shape != input._a.shape:
        raise RuntimeError(f"output with shape {list(input._a.shape)} doesn't match the broadcast shape {list(shape)}")
    if operands:
        _check_cast(result_type(input, *operands), input.dtype)


def _check_cast(found: dtypes.dtype, wanted: dtypes.dtype) -> None:
    if found is not wanted and not can_cast(found, wanted):
        raise RuntimeError(f"result type {found.title} can't be cast to the desired output type {wanted.title}")


def check_result(input: Tensor, result: Tensor) -> None:
    """Raises RuntimeError when a result cannot be written into ``input``: its dtype or shape does not fit."""
    a, r = input._a, result._a
    if a.shape != r.shape:
        raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(r.shape)}")
    if a.dtype != r.dtype:
        _check_cast(from_numpy_dtype(r.dtype), from_numpy_dtype(a.dtype))


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
