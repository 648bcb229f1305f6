"""Functions in Triton's language as Python functions that compute at once.

Python gives some of the language another meaning than the compiler does. Those parts are replaced, once per function:

    x = value               a number becomes a tensor, as in the compiler
    for i in range(...)     i is an int32 (or int64) tensor
    a and b, a or b, not a  elementwise on tensors
    if test, while test     refuses blocks of several elements

``tl.static_range``, annotated assignments (``N: tl.constexpr = ...``) and everything else stay what they are.
"""
from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.runtime.emulation.builder import numpy_type, semantic
from tritium.kernels.runtime.emulation.values import constexpr, make, tensor


def assigned(x: Any) -> Any:
    """What a name is bound to: numbers as tensors."""
    if type(x) is tensor:
        return x
    if isinstance(x, constexpr):
        x = x.value
    if isinstance(x, (bool, int, float)):
        return semantic.to_tensor(x)
    if type(x) is tuple:
        return tuple([assigned(v) for v in x])
    return x


def truth(x: Any) -> bool:
    """A condition: a number, or a tensor of one element."""
    if type(x) is tensor:
        data = x.handle.data
        if data.size != 1:
            raise ValueError(f"a block of shape {data.shape} cannot be a condition")
        return bool(data.reshape(-1)[0])
    return bool(x)


def both(first: Any, *rest: Callable[[], Any]) -> Any:
    """``a and b``."""
    for f in rest:
        if type(first) is tensor:
            first = semantic.logical_and(first, semantic.to_tensor(f()))
        elif not first:
            return first
        else:
            first = f()
    return first


def either(first: Any, *rest: Callable[[], Any]) -> Any:
    """``a or b``."""
    for f in rest:
        if type(first) is tensor:
            first = semantic.logical_or(first, semantic.to_tensor(f()))
        elif first:
            return first
        else:
            first = f()
    return first


def inverted(x: Any) -> Any:
    """``not a``."""
    return semantic.not_(x) if type(x) is tensor else not x


def _bound(x: Any) -> Any:
    """(a bound of a loop as an int, its type)."""
    if isinstance(x, constexpr):
        x = x.value
    if type(x) is not tensor:
        return int(x), tl.int32 if -2**31 <= int(x) < 2**31 else tl.int64
    if x.handle.data.size != 1 or not x.dtype.is_int():
        raise TypeError(f"the bounds of a loop must be whole numbers, not {x.type}")
    return int(x.handle.data.reshape(-1)[0]), x.dtype


def loop(arg1: Any, arg2: Any = None, step: Any = None, **options: Any) -> Iterator[Any]:
    """``range`` and ``tl.range``: tensors of the type of the bounds."""
    start, end = (0, arg1) if arg2 is None else (arg1, arg2)
    step = 1 if step is None else step
    (first, a), (last, b), (by, c) = _bound(start), _bound(end), _bound(step)
    dtype = semantic.integer_promote_impl(semantic.integer_promote_impl(a, b), c)
    kind = numpy_type(dtype)
    for i in range(first, last, by):
        yield make(np.array([i], kind), dtype, dtype)


def static_loop(arg1: Any, arg2: Any = None, step: Any = None, **options: Any) -> range:
    """``tl.static_range``: Python numbers."""
    start, end = (0, arg1) if arg2 is None else (arg1, arg2)
    return range(*[int(x) for x in (start, end, 1 if step is None else step)])


_HELPERS = {"__assigned": assigned, "__truth": truth, "__both": both, "__either": either, "__not": inverted,
            "__loop": loop}


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


class _Transformer(ast.NodeTransformer):
    def visit_Assign(self, node: ast.Assign) -> Any:
        self.generic_visit(node)
        if len(node.targets) > 1:
            raise SyntaxError(f"line {node.lineno}: several targets in one assignment are not in Triton's language")
        node.value = _call("__assigned", node.value)
        return node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        node.test = _call("__truth", node.test)
        return node

    def visit_While(self, node: ast.While) -> Any:
        self.generic_visit(node)
        node.test = _call("__truth", node.test)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        self.generic_visit(node)
        node.test = _call("__truth", node.test)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        self.generic_visit(node)
        nothing = ast.arguments([], [], None, [], [], None, [])
        later: list[ast.expr] = [ast.Lambda(nothing, v) for v in node.values[1:]]
        return _call("__both" if isinstance(node.op, ast.And) else "__either", node.values[0], *later)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        return _call("__not", node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> Any:
        self.generic_visit(node)
        if len(node.ops) > 1:
            raise SyntaxError(f"line {node.lineno}: Triton before 3.9 has no chained comparisons")
        return node

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Name) and node.iter.func.id == "range":
            node.iter.func.id = "__loop"
        return node


def rewritten(function: Any) -> Callable[..., Any]:
    """The Python function that computes what a function in Triton's language does; itself where it has no source."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return function
    tree = ast.parse(textwrap.dedent("".join(lines)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    definition.returns = None
    arguments = definition.args
    for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        arg.annotation = None
    arguments.defaults = []
    arguments.kw_defaults = [None] * len(arguments.kwonlyargs)
    definition = _Transformer().visit(definition)
    free = inspect.getclosurevars(function).nonlocals
    outer = ast.parse(f"def __outer({', '.join([*_HELPERS, *free])}): pass").body[0]
    assert isinstance(outer, ast.FunctionDef)
    outer.body = [definition, ast.Return(ast.Name(definition.name, ast.Load()))]
    module = ast.fix_missing_locations(ast.Module([outer], []))
    ast.increment_lineno(module, first - 1)
    names: dict[str, Any] = {}
    exec(compile(module, function.__code__.co_filename, "exec", dont_inherit=True), function.__globals__, names)
    made: types.FunctionType = names["__outer"](*_HELPERS.values(), *free.values())
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    made.__qualname__ = function.__qualname__
    return made
