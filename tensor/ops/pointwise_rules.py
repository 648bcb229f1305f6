"""How a line of the pointwise tables becomes a function: its dtypes, its errors, its record in the graph.

``unary_op`` and ``binary_op`` are the makers; ``pointwise.py`` has the tables. Built-in ops are called very often on
small tensors: what they do before and after the kernel is spelled out here once, for speed.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.kernels import beside, either, is_array, is_host, of
from tritium.tensor import dtype as dtypes
from tritium.tensor.autocast import LISTED, amp
from tritium.tensor.dtype import from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, record, wrap
from tritium.tensor.layout import broadcast_shapes, dense_strides, element_strides
from tritium.tensor.ops.out import write_out
from tritium.tensor.promotion import NUMBERS, cast_operands, result_type
from tritium.tensor.tensor import Tensor, new_tensor

f32, f64, i64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)
Grad = Callable[..., Any] | None
# those whose derivative is one kernel, for when it need not be differentiated again
SLOPES = frozenset("""abs square sqrt rsqrt reciprocal exp2 expm1 log2 log10 log1p sin cos tan asin acos atan sinh cosh
 tanh asinh acosh atanh sigmoid logit sinc""".split())
NOTHING = (None, None, None)  # what a node without saved operands unpacks to


def broken_broadcast(a: Any, b: Any) -> None:
    """Raise PyTorch's error when two arrays do not broadcast."""
    if is_array(a) and is_array(b):
        broadcast_shapes(a.shape, b.shape)


def node_kind(name: str, function: Callable[..., Any]) -> type[Node]:
    """A kind of node with this name."""
    return type(name, (Node,), {"__slots__": (), "derivative": function, "__module__": __name__})


def _two_edges(node: Any) -> Any:
    """``next_functions`` of an op of two operands: a number has a place among them too, as in PyTorch."""
    found = Node.next_functions.fget(node)  # type: ignore[attr-defined]
    return found if len(found) == 2 else ((None, 0), *found) if node.ctx is False else (*found, (None, 0))


# --- unary ----------------------------------------------------------------------------------
# kind "float": integers are computed as the default floating point type; "same": the dtype stays; "bool": a mask.

def unary_op(name: str, kind: str = "float", grad: Grad = None, saves: str = "x", node: str = "",
             doc: str = "", refuses: str = "") -> Any:
    """Make the function of one tensor. ``grad(g, s)`` gets the gradient and the saved input ("x") or result ("r").

    ``refuses``: the kinds of NumPy dtypes that PyTorch's op does not take."""
    title = node or "".join(p.capitalize() for p in name.split("_")) + "Backward0"

    def plain(self: Any, g: Tensor) -> Any:
        return grad(g, *self.unpack())  # type: ignore[misc]

    def sloped(self: Any, g: Tensor) -> Any:
        (s,) = self.unpack()
        found = slope(name, g, s)
        return grad(g, s) if found is None else found  # type: ignore[misc]

    backward = sloped if name in SLOPES else plain

    cls = node_kind(title, backward)
    listed = name in LISTED

    def op(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if listed and amp.on and (r := amp.run(name, op, input, out=out)) is not None:
            return r
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


def slope(name: str, g: Tensor, s: Tensor) -> Tensor | None:
    """``g`` times the derivative by a kernel of its own; None where it has to be recorded, or made of other ops."""
    a, b = g._a, s._a
    if (mode.enabled and (g._rg or s._rg)) or a.dtype != b.dtype or a.dtype.kind not in "fV" or type(a) is not type(b):
        return None
    return wrap(of(a).slopes.slopes[name](a, b))


def _named(op: Any, name: str, doc: str) -> Any:
    op.__name__ = op.__qualname__ = name
    op.__doc__ = doc or (f"Elementwise ``{name}``; https://docs.pytorch.org/docs/stable/generated/torch.{name}.html")
    return op


def flat(g: Tensor, *saved: Any) -> Tensor:
    """The gradient of a step function: 0, whatever comes in."""
    return wrap(beside(g._a).zeros(g._a.shape, g._a.dtype))


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
    cls.next_functions = property(_two_edges)  # type: ignore[assignment, method-assign]
    differentiable = grad_a is not None

    def op(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        two = False
        if isinstance(input, Tensor):
            a = input._a
            if isinstance(other, Tensor):
                two = True
                b = other._a
                direct = a.dtype is b.dtype and type(a) is type(b) and (
                    a.dtype is f32 or a.dtype is f64 or a.dtype is i64 and whole)
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
        except (ValueError, OverflowError, TypeError, NotImplementedError) as error:
            r._a = _explain(name, kind, input, other, a, b, error)
        if two:
            if r._a.ndim > 1 and not (a.flags.c_contiguous and (a.shape == r._a.shape or b.flags.c_contiguous)) and (
                    a.strides != b.strides):
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
                record(r, with_number[first], (x,), (
                    input if not first or "a" in need else None, other if first or "b" in need else None,
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


def all_descend(strides: tuple[int, ...]) -> bool:
    """Whether each dimension is slower in memory than the next one."""
    return all([s > t > 0 for s, t in zip(strides, strides[1:], strict=False)])


def ordered(r: Any, *operands: Any) -> Any:
    """A result in the order of dimensions that PyTorch gives it: where operands disagree, the first one decides."""
    shape, first = r.shape, operands[0].strides
    if operands[0].shape == shape and r.flags.c_contiguous and all_descend(first):
        return r
    strides = dense_strides(shape, *[_spread(x, shape) for x in operands])
    if strides == element_strides(r):
        return r
    order = sorted(range(r.ndim), key=lambda d: -strides[d])
    back = [order.index(d) for d in range(r.ndim)]
    return of(r).copy.contiguous(r.transpose(order)).transpose(back)


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
        return a, b, either(a, b).pointwise.low_binaries[name]
    if kind == "compare" and dt.category == 1:
        a, b = (x._a if isinstance(x, Tensor) else x for x in (input, other))  # integers are compared exactly
        return a, b, either(a, b).pointwise.binaries[name]
    a, b = cast_operands(dt, input, other)
    if dt.category <= 1 and name in DIVIDING:
        if name == "pow":
            name = "int_pow"
        elif is_host(b) and not b.all():
            raise RuntimeError("ZeroDivisionError")
    return a, b, either(a, b).pointwise.binaries[name]


def _explain(name: str, kind: str, input: Any, other: Any, a: Any, b: Any, error: Exception) -> Any:
    """A kernel refused its operands: say why in PyTorch's words, or mend a number that wraps around."""
    if isinstance(error, (TypeError, NotImplementedError)):
        try:
            _prepare(name, kind, input, other)
        except Exception as clear:
            raise clear from None
        raise error
    if isinstance(error, OverflowError):
        a, b = cast_operands(result_type(input, other), input, other)
        return either(a, b).pointwise.binaries[name](a, b)
    broken_broadcast(a, b)
    if "negative integer powers" in str(error):
        raise RuntimeError("Integers to negative integer powers are not allowed.") from None
    raise error


def unsupported(name: str) -> tuple[Any, Any]:
    """Derivatives that only say that there is none."""

    def refuse(g: Tensor, a: Any, b: Any, r: Any) -> Any:
        raise NotImplementedError(f"derivative for aten::{name} is not implemented")

    return refuse, refuse
