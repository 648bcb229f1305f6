"""Triton's language, put in the interpreter's hands once for the life of the process.

The stock interpreter replaces some 200 functions of ``triton.language`` at each launch and puts them back after it. A
process that interprets does nothing else, so here they are replaced when the emulated device is first used, and stay.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
import triton.runtime.interpreter as interpreter

from tritium.kernels.runtime.emulation import blocks, values
from tritium.kernels.runtime.emulation.builder import LOW_KINDS, Handle, builder, convert, numpy_type, semantic
from tritium.kernels.runtime.emulation.libdevice import FLOAT, compute
from tritium.kernels.runtime.emulation.rewrite import loop, rewritten, static_loop
from tritium.kernels.runtime.emulation.values import block, constexpr, make, operands, tensor

_core: Any = tl.core
_is_builtin: Any = _core.is_builtin
_bound: dict[int, Any] = {}


def _bind(member: Any) -> Any:
    """A builtin of the language that knows the interpreter."""
    found = _bound.get(id(member))
    if found is None:
        raw = getattr(member, "__wrapped__", member)

        def found(*args: Any, **named: Any) -> Any:
            named["_semantic"] = semantic
            return raw(*args, **named)

        found.raw = raw  # type: ignore[attr-defined]
        _bound[id(member)] = found
        _bound[id(found)] = found
    return found


def _bind_all(place: Any) -> None:
    for name, member in list(vars(place).items()):
        if _is_builtin(member):
            setattr(place, name, _bind(member))


def body_of(function: Any) -> Callable[..., Any]:
    """The Python function of an interpreted one."""
    found = function.__dict__.get("_body")
    if found is None:
        found = function._body = rewritten(function.fn)
    return found


def _call(self: Any, *args: Any, **named: Any) -> Any:
    found = self.__dict__.get("_body")
    if found is None:
        found = body_of(self)
    return found(*args, **named)


def _truth(self: Any) -> bool:
    data = self.handle.data
    return bool(data) if data.size == 1 else True


def _transposed(self: Any) -> Any:
    data = np.swapaxes(self.handle.data, -1, -2)
    return make(data, self.dtype, block(self.dtype, data.shape))


# --- the busiest functions ---

_arange: dict[tuple[int, int], Any] = {}


def _plain(x: Any) -> Any:
    return x.value if type(x) is constexpr else x


def arange(start: Any, end: Any, **ignored: Any) -> Any:
    key = (_plain(start), _plain(end))
    found = _arange.get(key)
    if found is None:
        found = _slow["arange"](start, end)
        found.handle.data.flags.writeable = False
        if len(_arange) < 256:
            _arange[key] = found
    return make(found.handle.data, found.dtype, found.type)


def program_id(axis: Any, **ignored: Any) -> Any:
    return make(np.array([builder.launch.program[_plain(axis)]], np.int32), tl.int32, tl.int32)


def num_programs(axis: Any, **ignored: Any) -> Any:
    return make(np.array([builder.launch.grid[_plain(axis)]], np.int32), tl.int32, tl.int32)


def _beside(x: Any, dtype: Any) -> Any:
    """``other`` or a value to store, as an array of an element type; None where Triton's rules must look."""
    x = _plain(x)
    kind = numpy_type(dtype)
    if type(x) is tensor:
        if x.dtype is dtype:
            return x.handle.data
        if x.dtype.is_ptr() or x.dtype.is_fp8() or dtype.is_fp8():
            return None
        return convert(x.handle.data, kind)
    if type(x) in (int, float):
        return np.array([x], np.float32).astype(kind) if kind in LOW_KINDS else convert(np.array([x]), kind)
    return None


def _element(dtype: Any, options: dict[str, Any]) -> Any:
    """What a pointer of the plain sort points at; None for others."""
    if not dtype.is_ptr() or options.get("boundary_check"):
        return None
    element = dtype.element_ty
    return None if element.is_block() else element


def load(pointer: Any, mask: Any = None, other: Any = None, *rest: Any, **named: Any) -> Any:
    if type(pointer) is tensor and (mask is None or type(mask) is tensor) and not rest:
        element = _element(pointer.dtype, named)
        if element is not None:
            wide = pointer.type.is_block()
            filler = None if other is None else _beside(other, element)
            simple = (other is None or filler is not None) and (mask is None or mask.dtype.name == "int1")
            if simple and (mask is not None or other is None) and (wide or mask is None or not mask.type.is_block()):
                data = builder.load(pointer.handle, None if mask is None else mask.handle.data, filler)
                return make(data, element, block(element, data.shape) if wide else element)
    return _slow["load"](pointer, mask, other, *rest, **named)


def store(pointer: Any, value: Any, mask: Any = None, *rest: Any, **named: Any) -> Any:
    if type(pointer) is tensor and (mask is None or type(mask) is tensor) and not rest:
        element = _element(pointer.dtype, named)
        if element is not None:
            data = _beside(value, element)
            shape = pointer.handle.data.shape
            if data is not None and _fits(data, shape) and (
                    mask is None or mask.dtype.name == "int1" and _fits(mask.handle.data, shape)):
                builder.store(pointer.handle, data, None if mask is None else mask.handle.data)
                return None
    return _slow["store"](pointer, value, mask, *rest, **named)


def _fits(data: Any, shape: tuple[int, ...]) -> bool:
    """Whether an array broadcasts to a shape without widening it."""
    given = data.shape
    if given == shape or given == (1,):
        return True
    return len(given) <= len(shape) and all(m in (1, n) for m, n in zip(given[::-1], shape[::-1], strict=False))


def where(condition: Any, x: Any, y: Any, **ignored: Any) -> Any:
    if type(condition) is tensor and condition.dtype.name == "int1":
        found = operands(x, y)
        if found is not None:
            a, b, dtype, type_ = found
            data = np.where(condition.handle.data, a, b)
            wide = type_.is_block() or condition.type.is_block()
            return make(data, dtype, block(dtype, data.shape) if wide else dtype)
    return _slow["where"](condition, x, y)


def _extreme(name: str, quiet: Any, loud: Any) -> Callable[..., Any]:
    def extreme(x: Any, y: Any, propagate_nan: Any = tl.PropagateNan.NONE, **ignored: Any) -> Any:
        found = operands(x, y)
        if found is None or found[0].dtype.kind not in "iuf" or found[0].dtype.itemsize < 4:
            return _slow[name](x, y, propagate_nan)
        a, b, dtype, type_ = found
        data = (loud if _plain(propagate_nan) == tl.PropagateNan.ALL or a.dtype.kind != "f" else quiet)(a, b)
        return make(data, dtype, block(dtype, data.shape) if type_.is_block() else dtype)

    return extreme


def umulhi(x: Any, y: Any, **ignored: Any) -> Any:
    found = operands(x, y)
    if found is None or found[0].dtype.kind not in "iu" or found[0].dtype.itemsize < 4:
        return _slow["umulhi"](x, y)
    a, b, dtype, type_ = found
    data = builder.create_umulhi(Handle(a, dtype), Handle(b, dtype)).data
    return make(data, dtype, block(dtype, data.shape) if type_.is_block() else dtype)


def full(shape: Any, value: Any, dtype: Any, **ignored: Any) -> Any:
    shape, value, dtype = _plain(shape), _plain(value), _plain(dtype)
    if type(value) in (int, float) and len(shape):
        sizes = tuple([int(_plain(n)) for n in shape])
        kind = numpy_type(dtype)
        data = np.full(sizes, np.float32(value).astype(kind) if kind in LOW_KINDS else convert(np.array(value), kind))
        return make(data, dtype, block(dtype, sizes))
    return _slow["full"](shape, value, dtype)


def zeros(shape: Any, dtype: Any) -> Any:
    return full(shape, 0, dtype)


def zeros_like(input: Any) -> Any:
    data = np.zeros(input.handle.data.shape, input.handle.data.dtype)
    return make(data, input.dtype, input.type)


FAST = {"arange": arange, "program_id": program_id, "num_programs": num_programs, "load": load, "store": store,
        "where": where, "full": full, "umulhi": umulhi, "minimum": _extreme("minimum", np.fmin, np.minimum),
        "maximum": _extreme("maximum", np.fmax, np.maximum)}
_slow: dict[str, Any] = {}


# --- what the interpreter lacks or has wrong ---

def _static_assert(cond: Any, msg: Any = "", **ignored: Any) -> None:
    assert _plain(cond), _plain(msg)


def _hint(input: Any, *ignored: Any, **named: Any) -> Any:
    return input


def _constant_operator(original: Callable[..., Any]) -> Callable[..., Any]:
    """Constants beside tensors give tensors: a constexpr that wraps one would be no operand for the next function."""
    def operator(self: Any, other: Any) -> Any:
        out = original(self, other)
        return out.value if type(out) is constexpr and type(out.value) is tensor else out

    return operator


def _to_ir(self: Any, builder: Any) -> Any:
    return self


def _refused(self: Any, *args: Any, **named: Any) -> None:
    raise RuntimeError(f"{self.fn.__name__}: on the emulated device, kernels start through "
                       "tritium.kernels.runtime.launch")


def install() -> None:
    """Replace what the language calls. Once in a process.

    Raises RuntimeError in a process whose Triton compiles."""
    if not isinstance(tl.standard.sum, interpreter.InterpretedFunction):
        raise RuntimeError("TRITON_INTERPRET=1 must be in the environment before Triton is imported")
    interpreter.interpreter_builder = builder
    interpreter.interpreter_semantic = semantic
    interpreter._get_np_dtype = numpy_type
    interpreter.TensorHandle = Handle
    if hasattr(interpreter, "_mxfp_value_handle_to_float32"):
        stock = interpreter._mxfp_value_handle_to_float32
        interpreter._mxfp_value_handle_to_float32 = lambda h: (
            h.data.astype(np.float32) if h.data.dtype in LOW_KINDS else stock(h))
    values.install()
    for kind in (tl.dtype, tl.block_type, tl.pointer_type):
        kind.to_ir = _to_ir
    members: tuple[tuple[str, Any], ...] = (
        ("__bool__", _truth), ("T", property(_transposed)),
        ("__index__", lambda self: int(self.handle.data.reshape(-1)[0])),
        ("__repr__", lambda self: repr(self.handle.data)), ("__str__", lambda self: str(self.handle.data)))
    for name, member in members:
        setattr(tensor, name, member)
    for place in (tl, _core, tl.math, tensor, _core.tensor_descriptor_base):
        _bind_all(place)
    for name, function in FAST.items():
        _slow[name] = getattr(tl, name)
        for place in (tl, _core, tl.math):
            if hasattr(place, name):
                setattr(place, name, function)
    replaced: dict[str, Any] = {
        "range": loop, "static_range": static_loop, "static_assert": _static_assert, "static_print": print,
        "multiple_of": _hint, "max_contiguous": _hint, "max_constancy": _hint, "reduce": blocks.reduce,
        "associative_scan": blocks.scan}
    for name, function in replaced.items():
        for place in (tl, _core):
            if hasattr(place, name):
                setattr(place, name, function)
    tensor.reduce, tensor.associative_scan = blocks.reduce, blocks.scan
    if hasattr(tl, "condition"):
        tl.condition.__bool__ = lambda self: bool(self.condition)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "and", "or", "xor", "lt", "le", "gt", "ge", "eq",
                 "ne", "radd", "rsub", "rmul", "rtruediv", "rfloordiv", "rmod"):
        original = vars(constexpr).get(f"__{name}__")
        if original is not None:
            setattr(constexpr, f"__{name}__", _constant_operator(original))
    interpreter.InterpretedFunction.__call__ = _call
    interpreter.InterpretedFunction.run = _refused
    _library()


def _library() -> None:
    """Functions of Triton's own library that run as one step."""
    standard: Any = tl.standard
    random: Any = tl.random
    functions = {"sort": blocks.sorting(standard.sort, False), "flip": blocks.flip, "zeros": zeros,
                 "zeros_like": zeros_like}
    if hasattr(standard, "topk"):
        functions["topk"] = blocks.sorting(standard.topk, True)
    for name, function in functions.items():
        for place in (tl, standard, tensor):
            if hasattr(place, name):
                setattr(place, name, function)
    rounds = blocks.philox(random.philox_impl)
    random.philox_impl = rounds
    if hasattr(tl, "philox_impl"):
        tl.philox_impl = rounds
    _math_library()


def _math_library() -> None:
    cuda = importlib.import_module("triton.language.extra.cuda.libdevice")
    places = [importlib.import_module(f"triton.language.extra.{name}") for name in ("libdevice", "hip.libdevice")]
    for name, member in list(vars(cuda).items()):
        if _is_builtin(member):
            bound = _remembering(name, _bind(member))
            setattr(cuda, name, bound)
            for place in places:
                setattr(place, name, bound)


def _remembering(name: str, slow: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the math library that finds its implementation once for each type of float, not at each call."""
    known: dict[str, str] = {}

    def call(*xs: Any, **ignored: Any) -> Any:
        type_ = xs[0].type if type(xs[0]) is tensor else None
        if type_ is None or any(type(x) is not tensor or x.type is not type_ for x in xs):
            return slow(*xs)
        dtype = xs[0].dtype
        function = known.get(dtype.name)
        if function is not None:
            return make(compute(function, [x.handle.data for x in xs]), dtype, type_)
        builder.last_symbol = ""
        out = slow(*xs)
        if out.dtype == dtype and dtype.is_floating() and builder.last_symbol in FLOAT:
            known[dtype.name] = builder.last_symbol
        return out

    call.__name__ = name
    return call
