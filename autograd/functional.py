"""Jacobians, Hessians and products with them.

https://docs.pytorch.org/docs/stable/autograd.html#functional-higher-level-api
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tritium.autograd.engine import grad
from tritium.kernels import beside
from tritium.tensor.grad_mode import enable_grad
from tritium.tensor.graph import wrap
from tritium.tensor.tensor import Tensor


def _inputs(inputs: Any, create_graph: bool) -> tuple[tuple[Tensor, ...], bool]:
    many = not isinstance(inputs, Tensor)
    xs = tuple(inputs) if many else (inputs,)
    return tuple([x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in xs]), many


def _outputs(out: Any) -> tuple[tuple[Tensor, ...], bool]:
    many = not isinstance(out, Tensor)
    return (tuple(out) if many else (out,)), many


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False,
             vectorize: bool = False) -> Any:
    """The Jacobian of ``func`` at ``inputs``: shape (*output, *input); nested tuples for several of either."""
    with enable_grad():
        xs, many_in = _inputs(inputs, create_graph)
        outs, many_out = _outputs(func(*xs))
        rows = []
        for number, out in enumerate(outs):
            if strict and not out.requires_grad:
                raise RuntimeError(f"Output {number} of the user-provided function does not require gradients. The "
                                   "outputs must be computed in a differentiable manner from the input when running in "
                                   "strict mode.")
            parts: list[list[Tensor]] = [[] for _ in xs]
            for i in range(out._a.size):
                seed = beside(out._a).zeros((out._a.size,), out._a.dtype)
                seed[i:i + 1] = 1
                gs = grad(out, xs, wrap(seed.reshape(out._a.shape)), retain_graph=True, create_graph=create_graph,
                          allow_unused=True) if out.requires_grad else (None,) * len(xs)
                for part, g, x in zip(parts, gs, xs, strict=True):
                    if g is None and strict:
                        raise RuntimeError("Output of the user-provided function is independent of the input. This is "
                                           "not allowed in strict mode.")
                    part.append(x.new_zeros(x._a.shape) if g is None else g)
            from tritium.tensor.ops.join import stack

            row = tuple([stack(p).reshape((*out._a.shape, *x._a.shape)) if p else
                         x.new_zeros((*out._a.shape, *x._a.shape)) for p, x in zip(parts, xs, strict=True)])
            rows.append(row if many_in else row[0])
    return tuple(rows) if many_out else rows[0]


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False,
            vectorize: bool = False) -> Any:
    """The Hessian of a scalar function: shape (*input, *input); nested tuples for several inputs."""
    many = not isinstance(inputs, Tensor)

    def first(*xs: Any) -> Any:
        out = func(*xs)
        if out._a.size != 1:
            raise RuntimeError("The Tensor returned by the function given to hessian should contain a single element")
        gs = grad(out.reshape(()), xs, create_graph=True, allow_unused=True)
        found = tuple([x.new_zeros(x._a.shape) if g is None else g for g, x in zip(gs, xs, strict=True)])
        return found if many else found[0]

    return jacobian(first, inputs, create_graph, strict)


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False,
        strict: bool = False) -> tuple[Any, Any]:
    """The outputs, and the product of ``v`` (ones for a scalar) with the Jacobian."""
    with enable_grad():
        xs, many_in = _inputs(inputs, create_graph)
        out = func(*xs)
        outs, many_out = _outputs(out)
        if v is None and (many_out or out._a.size != 1):
            raise RuntimeError("The vector v can only be None if the user-provided function returns a single Tensor "
                               "with a single element.")
        vs = None if v is None else _outputs(v)[0]
        gs = grad(outs, xs, vs, create_graph=create_graph, allow_unused=True)
        gs = tuple([x.new_zeros(x._a.shape) if g is None else g for g, x in zip(gs, xs, strict=True)])
    return _plain(out, create_graph), (gs if many_in else gs[0])


def _plain(out: Any, create_graph: bool) -> Any:
    """The outputs, outside the graph unless it is asked for."""
    if create_graph:
        return out
    return out.detach() if isinstance(out, Tensor) else tuple([o.detach() for o in out])


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False,
        strict: bool = False) -> tuple[Any, Any]:
    """The outputs, and the product of the Jacobian with ``v``: by two backward passes."""
    with enable_grad():
        xs, many_in = _inputs(inputs, create_graph)
        if v is None and (many_in or xs[0]._a.size != 1):
            raise RuntimeError("The vector v can only be None if the input to the user-provided function is a single "
                               "Tensor with a single element.")
        out = func(*xs)
        outs, many_out = _outputs(out)
        vs = [x.new_ones(x._a.shape) for x in xs] if v is None else list(_outputs(v)[0])
        dummies = tuple([o.new_zeros(o._a.shape).requires_grad_() for o in outs])
        gs = grad(outs, xs, dummies, create_graph=True, allow_unused=True)
        pairs = [(g, w) for g, w in zip(gs, vs, strict=True) if g is not None]
        products = grad([g for g, _ in pairs], dummies, [w for _, w in pairs], create_graph=create_graph,
                        allow_unused=True)
        products = tuple([o.new_zeros(o._a.shape) if p is None else p for p, o in zip(products, outs, strict=True)])
    return _plain(out, create_graph), (products if many_out else products[0])


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False,
        strict: bool = False) -> tuple[Any, Any]:
    """The value of a scalar function, and the product of its Hessian with ``v``."""
    with enable_grad():
        xs, many = _inputs(inputs, create_graph)
        out = func(*xs)
        gs = grad(out, xs, create_graph=True, allow_unused=True)
        vs = (out.new_ones(()),) if v is None else _outputs(v)[0]
        pairs = [(g, w) for g, w in zip(gs, vs, strict=True) if g is not None and g.requires_grad]
        products: Any = grad([g for g, _ in pairs], xs, [w for _, w in pairs], create_graph=create_graph,
                             allow_unused=True) if pairs else (None,) * len(xs)
        products = tuple([x.new_zeros(x._a.shape) if p is None else p
                          for p, x in zip(products, xs, strict=True)])
    return _plain(out, create_graph), (products if many else products[0])


vhp = hvp
