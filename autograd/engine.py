"""The engine: walks the graph from the outputs back and adds up gradients.

Nodes are numbered as they are made, and an edge always points to an older node. So taking the youngest waiting node
first visits every node after all nodes that use its outputs: a heap is all the scheduling there is. Nothing recurses.
"""
from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, edge
from tritium.tensor.tensor import Tensor


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, Tensor) or x is None else tuple(x)


def _first_gradients(tensors: Sequence[Tensor], gradients: Sequence[Any], record: bool) -> list[Tensor]:
    out = []
    for t, g in zip(tensors, gradients, strict=True):
        if g is None:
            if not t._rg:
                out.append(None)
                continue
            if t._a.size != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            if t._a.dtype.kind not in "fV":
                raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {t.dtype}")
            from tritium.tensor.creation import ones_like

            g = ones_like(t)
        else:
            if not isinstance(g, Tensor):
                raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
            if g._a.shape != t._a.shape:
                raise RuntimeError(f"Mismatch in shape: grad_output[{len(out)}] has a shape of {g.shape} and "
                                   f"output[{len(out)}] has a shape of {t.shape}.".replace("tritium", "torch"))
            if g._a.dtype != t._a.dtype:
                g = g.to(t.dtype)
        out.append(g)
    return out  # type: ignore[return-value]


def fit(g: Tensor, shape: Any, dtype: Any, where: str) -> Tensor:
    """A gradient in the shape and dtype of what it is the gradient of: broadcast dimensions are summed.

    Raises RuntimeError when it cannot be."""
    a = g._a
    if a.shape != shape:
        extra = a.ndim - len(shape)
        if extra < 0 or any(n not in (1, m) for n, m in zip(shape, a.shape[extra:], strict=True)):
            if a.size == 1 or extra < 0:  # a scalar stands for all
                try:
                    g = g.expand(shape)
                except RuntimeError:
                    raise RuntimeError(_bad_shape(where, a.shape, shape)) from None
            else:
                raise RuntimeError(_bad_shape(where, a.shape, shape))
        else:
            g = g.sum_to_size(shape)
    if g._a.dtype != dtype:
        from tritium.tensor.ops.copy import cast

        g = cast(g, dtype)
    return g


def _bad_shape(where: str, got: Any, expected: Any) -> str:
    return (f"Function {where} returned an invalid gradient at index 0 - got {list(got)} but expected shape compatible "
            f"with {list(expected)}")


def _reaches(starts: list[Node], wanted: set[int], leaves: set[int]) -> set[int]:
    """The nodes (by id) from which a wanted node or leaf can be reached."""
    parents: dict[int, list[int]] = {}
    seen: dict[int, Node] = {}
    stack = list(starts)
    hits: list[int] = []
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        if id(node) in wanted:
            hits.append(id(node))
        for e in node.edges:
            if e is None:
                continue
            target = e[0]
            if isinstance(target, Tensor):
                if id(target) in leaves:
                    hits.append(id(node))
            else:
                parents.setdefault(id(target), []).append(id(node))
                stack.append(target)
    needed: set[int] = set()
    while hits:
        n = hits.pop()
        if n not in needed:
            needed.add(n)
            hits.extend(parents.get(n, ()))
    return needed


def run(tensors: Sequence[Tensor], gradients: Sequence[Any], retain: bool, record: bool,
        inputs: Sequence[Tensor] | None, accumulate: bool) -> list[Tensor | None]:
    """Send ``gradients`` back from ``tensors``.

    With ``inputs`` only what leads to them is computed, and their gradients are returned (or, with ``accumulate``,
    added to ``.grad``). Without, every leaf's ``.grad`` is added to."""
    captured: dict[Any, Tensor] = {}  # leaf id or (node id, output) -> gradient, for inputs
    wanted: dict[Any, Tensor] = {}
    needed: set[int] | None = None
    roots = []
    for t in tensors:
        e = edge(t)
        if e is None:
            raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
        roots.append(e)
    if inputs is not None:
        nodes, ids = set(), set()
        for x in inputs:
            e = edge(x)
            if e is None:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
            if e[0] is x:
                wanted[id(x)] = x
                ids.add(id(x))
            else:
                wanted[id(e[0]), e[1]] = x
                nodes.add(id(e[0]))
        needed = _reaches([e[0] for e in roots if isinstance(e[0], Node)], nodes, ids)

    leaves = _Leaves(gradients, wanted, captured, inputs is not None, accumulate, record)
    heap: list[tuple[int, Node]] = []
    waiting: dict[int, list[Any]] = {}  # node number -> one gradient per output

    def send(e: Any, g: Tensor, where: str) -> None:
        target, output = e
        if isinstance(target, Tensor):
            g = fit(g, target._a.shape, target._a.dtype, where)
            leaves.arrive(target, g)
            return
        if needed is not None and id(target) not in needed:
            return
        shape, dtype = target.outputs[output]
        a = g._a
        if a.shape != shape or a.dtype is not dtype:
            g = fit(g, shape, dtype, where)
        got = waiting.get(target.number)
        if got is None:
            got = waiting[target.number] = [None] * len(target.outputs)
            heapq.heappush(heap, (-target.number, target))
        before = got[output]
        got[output] = g if before is None else before + g

    before = mode.enabled
    mode.enabled = record
    try:
        for t, e, g in zip(tensors, roots, _first_gradients(tensors, gradients, record), strict=True):
            if g is not None:
                send(e, g, type(t).__name__)
        while heap:
            node = heapq.heappop(heap)[1]
            grads = waiting.pop(node.number)
            if node.tensor_hooks is not None:
                _tensor_hooks(node, grads)
            if inputs is not None:
                for i, g in enumerate(grads):
                    key = (id(node), i)
                    if key in wanted and g is not None:
                        captured[key] = g
                if not _leads_on(node, needed, wanted):
                    continue
            if node.pre_hooks:
                grads = _pre_hooks(node, grads)
            if len(grads) == 1 and grads[0] is None:
                continue
            out = node.derivative(*grads)
            if type(out) is not tuple:
                out = (out,)
            if node.post_hooks:
                out = _post_hooks(node, out, grads)
            if not retain:
                node.release()
            for e, g in zip(node.edges, out, strict=True):
                if e is not None and g is not None:
                    send(e, g, node.name())
    finally:
        mode.enabled = before
    if inputs is None:
        return []
    results: list[Tensor | None] = []
    for x in inputs:
        e = edge(x)
        g = captured.get(id(x) if e[0] is x else (id(e[0]), e[1]))
        if accumulate and g is not None and e[0] is not x:
            x._grad = g if x._grad is None else x._grad + g
        results.append(g)
    return results


def _leads_on(node: Node, needed: set[int] | None, wanted: dict[Any, Tensor]) -> bool:
    """Whether something behind this node is asked for."""
    for e in node.edges:
        if e is not None:
            if isinstance(e[0], Tensor):
                if id(e[0]) in wanted:
                    return True
            elif needed is None or id(e[0]) in needed:
                return True
    return False


class _Leaves:
    """Where gradients arrive. A leaf takes a gradient that nobody else can see as its own, and copies any other: one
    that the caller brought, one that another leaf took, or one that shares its memory."""

    def __init__(self, given: Sequence[Any], wanted: Any, captured: Any, only: bool, accumulate: bool,
                 record: bool) -> None:
        self.taken = {id(g): g for g in given if g is not None}
        self.wanted, self.captured, self.only = wanted, captured, only
        self.accumulate, self.record = accumulate, record
        self.fresh: set[int] = set()  # leaves whose grad was taken in this run: it may still wait elsewhere

    def arrive(self, leaf: Tensor, g: Tensor) -> None:
        if self.only and id(leaf) not in self.wanted:
            return
        if leaf._hooks:
            for hook in list(leaf._hooks.values()):
                r = hook(g)
                if r is not None:
                    g = r
        if self.only and not self.accumulate:
            have = self.captured.get(id(leaf))
            self.captured[id(leaf)] = g if have is None else have + g
            return
        have = leaf._grad
        if have is None:
            leaf._grad = g if self.record else self._own(g)
            self.fresh.add(id(leaf))
        elif self.record or have._rg or id(leaf) in self.fresh:
            leaf._grad = have + g
        else:
            have.add_(g)
        if leaf._after_hooks:
            for hook in list(leaf._after_hooks.values()):
                hook(leaf)

    def _own(self, g: Tensor) -> Tensor:
        if (id(g) in self.taken or g._rg or g._base is not None or 0 in g._a.strides
                or (g._vc is not None and g._vc.shared)):
            return g.detach().clone()
        self.taken[id(g)] = g
        return g


def _tensor_hooks(node: Node, grads: list[Any]) -> None:
    assert node.tensor_hooks is not None
    for output, hooks in node.tensor_hooks.items():
        for hook in list(hooks.values()):
            if grads[output] is not None:
                r = hook(grads[output])
                if r is not None:
                    if not isinstance(r, Tensor):
                        raise TypeError(f"hook must return None or a Tensor, not {type(r).__name__}")
                    if r._a.shape != grads[output]._a.shape:
                        raise RuntimeError(f"hook '{getattr(hook, '__name__', 'unknown')}' has changed the size of value")
                    grads[output] = r


def _pre_hooks(node: Node, grads: list[Any]) -> list[Any]:
    assert node.pre_hooks is not None
    for hook in list(node.pre_hooks.values()):
        r = hook(tuple(grads))
        if r is not None:
            grads = list(r) if isinstance(r, (tuple, list)) else [r]
    return grads


def _post_hooks(node: Node, out: tuple[Any, ...], grads: list[Any]) -> tuple[Any, ...]:
    assert node.post_hooks is not None
    for hook in list(node.post_hooks.values()):
        r = hook(out, tuple(grads))
        if r is not None:
            out = tuple(r) if isinstance(r, (tuple, list)) else (r,)
    return out


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             grad_variables: Any = None, inputs: Any = None) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of the leaves (or of ``inputs`` only).

    Raises RuntimeError when a tensor is no scalar and has no gradient given, when shapes differ, when nothing requires
    grad, or when the graph was freed by an earlier backward.
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.backward.html"""
    ts = _as_tuple(tensors)
    gs = _as_tuple(grad_tensors) if grad_tensors is not None else (None,) * len(ts)
    if len(gs) != len(ts):
        raise RuntimeError(f"got {len(ts)} tensors and {len(gs)} gradients")
    if inputs is not None:
        inputs = _as_tuple(inputs)
        if not inputs:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    run(ts, gs, create_graph if retain_graph is None else retain_graph, create_graph, inputs, True)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None,
         create_graph: bool = False, only_inputs: bool = True, allow_unused: bool | None = None,
         is_grads_batched: bool = False, materialize_grads: bool = False) -> tuple[Any, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, returned and not accumulated.

    Raises RuntimeError when an input was not used, unless ``allow_unused`` (None is returned for it) or
    ``materialize_grads`` (zeros).
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html"""
    if is_grads_batched:
        raise NotImplementedError("autograd.grad(is_grads_batched=True) is not implemented")
    outs, ins = _as_tuple(outputs), _as_tuple(inputs)
    gs = _as_tuple(grad_outputs) if grad_outputs is not None else (None,) * len(outs)
    results = run(outs, gs, create_graph if retain_graph is None else retain_graph, create_graph, ins, False)
    if materialize_grads:
        from tritium.tensor.creation import zeros_like

        return tuple([zeros_like(x) if g is None else g for g, x in zip(results, ins, strict=True)])
    if not allow_unused and any(g is None for g in results):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set "
                           "allow_unused=True if this is the desired behavior.")
    return tuple(results)
