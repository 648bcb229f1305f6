"""The engine: walks the graph from the outputs back and adds up gradients.

Nodes are numbered as they are made, and an edge always points to an older node. So taking the youngest waiting node
first visits every node after all nodes that use its outputs: a heap is all the scheduling there is. Nothing recurses.
"""
from __future__ import annotations

import heapq
import warnings
from collections.abc import Sequence
from typing import Any

from tritium.autograd.hooks import run_tensor_hooks
from tritium.autograd.leaves import Leaves
from tritium.tensor.autocast import amp, outside
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import RELEASED, Node, edge
from tritium.tensor.tensor import Tensor

CYCLE = ("Using backward() with create_graph=True will create a reference cycle between the parameter and its "
         "gradient which can cause a memory leak. We recommend using autograd.grad when creating the graph to avoid "
         "this. If you have to use this function, make sure to reset the .grad fields of your parameters to None after "
         "use to break the cycle and avoid the leak.")


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, Tensor) or x is None else tuple(x)


def _first_gradients(tensors: Sequence[Tensor], gradients: Sequence[Any], record: bool) -> list[Any]:
    out: list[Any] = []
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


def fit(g: Tensor, shape: Any, dtype: Any, where: str, index: int = 0) -> Tensor:
    """A gradient in the shape and dtype of what it is the gradient of: broadcast dimensions are summed.

    Raises RuntimeError when it cannot be."""
    a = g._a
    if a.shape != shape:
        extra = a.ndim - len(shape)
        if extra < 0 or any(n not in (1, m) for n, m in zip(shape, a.shape[extra:], strict=True)):
            raise RuntimeError(f"Function {where} returned an invalid gradient at index {index} - got {list(a.shape)} "
                               f"but expected shape compatible with {list(shape)}")
        g = g.sum_to_size(shape)
    if g._a.dtype != dtype:
        from tritium.tensor.ops.copy import cast

        g = cast(g, dtype)
    return g


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
    added to ``.grad``). Without, every leaf's ``.grad`` is added to. Derivatives compute in the dtypes that were
    recorded: autocast is off."""
    if amp.on:
        return outside(_run, tensors, gradients, retain, record, inputs, accumulate)
    return _run(tensors, gradients, retain, record, inputs, accumulate)


def _run(tensors: Sequence[Tensor], gradients: Sequence[Any], retain: bool, record: bool,
         inputs: Sequence[Tensor] | None, accumulate: bool) -> list[Tensor | None]:
    captured: dict[Any, Tensor] = {}  # leaf id or (node id, output) -> gradient, for inputs
    wanted: dict[Any, Tensor] = {}
    needed: set[int] | None = None
    t: Any
    e: Any
    g: Any
    grads: Any
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

    starts = [e for t, e, g in zip(tensors, roots, gradients, strict=True) if g is not None or t._rg]
    leaves = Leaves(None if inputs is None else wanted, captured, accumulate, record)
    leaves.expect(starts, needed)
    heap: list[tuple[int, Node]] = []
    waiting: dict[int, list[Any]] = {}  # node number -> one gradient per output
    arrived: list[Any] = []  # leaves and what came for them, each in a list that alone holds it

    def send(e: Any, g: Tensor, where: str, index: int) -> None:
        target, output = e
        if isinstance(target, Tensor):
            a = target._a
            if g._a.shape != a.shape or g._a.dtype is not a.dtype:
                g = fit(g, a.shape, a.dtype, where, index)
            if type(g._a) is not type(a):
                g = g.to(target.device)  # a 0-d CPU tensor among cuda tensors
            arrived.append((target, [g]))
            return
        if needed is not None and id(target) not in needed:
            return
        shape, dtype = target.outputs[output]
        a = g._a
        if a.shape != shape or a.dtype is not dtype:
            g = fit(g, shape, dtype, where, index)
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
                send(e, g, type(t).__name__, 0)
        t = e = g = None
        while arrived:
            leaves.arrive(*arrived.pop())
        while heap:
            node = heapq.heappop(heap)[1]
            grads = waiting.pop(node.number)
            if inputs is not None and not accumulate:
                _capture(node, grads, wanted, captured)
            if node.tensor_hooks is not None:
                for output, hooks in node.tensor_hooks.items():
                    if grads[output] is not None:
                        grads[output] = run_tensor_hooks(hooks, grads[output])
            if inputs is not None:
                if accumulate:
                    _capture(node, grads, wanted, captured)
                if not _leads_on(node, needed, wanted):
                    continue
            if node.pre_hooks:
                grads = _pre_hooks(node, grads)
            if len(grads) == 1 and grads[0] is None:
                continue
            if node.saved is None:
                raise RuntimeError(RELEASED)
            out = node.derivative(*grads)
            if type(out) is not tuple:
                out = (out,)
            if node.post_hooks:
                out = _post_hooks(node, out, grads)
            if not retain:
                node.release()
            grads = None
            if leaves.waiting:
                leaves.missing(node.edges, out)
            for index, (e, g) in enumerate(zip(node.edges, out, strict=True)):
                if e is not None and g is not None:
                    send(e, g, node.name(), index)
            if arrived:
                e = g = out = None  # so that a leaf sees whether anybody else holds its gradient
                while arrived:
                    leaves.arrive(*arrived.pop())
        if leaves.waiting:
            leaves.flush()
    finally:
        mode.enabled = before
    if inputs is None:
        return []
    results: list[Tensor | None] = []
    for x in inputs:
        e = edge(x)
        g = captured.get(id(x) if e[0] is x else (id(e[0]), e[1]))
        if accumulate and g is not None and e[0] is not x:
            x._grad = g.clone() if x._grad is None else x._grad + g
        results.append(g)
    return results


def _capture(node: Node, grads: list[Any], wanted: dict[Any, Tensor], captured: dict[Any, Tensor]) -> None:
    for i, g in enumerate(grads):
        if g is not None and (id(node), i) in wanted:
            captured[id(node), i] = g


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
    if create_graph:
        warnings.warn(CYCLE, UserWarning, stacklevel=3)
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
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
                         "allow_unused=False.")
    outs, ins = _as_tuple(outputs), _as_tuple(inputs)
    gs = _as_tuple(grad_outputs) if grad_outputs is not None else (None,) * len(outs)
    results = run(outs, gs, create_graph if retain_graph is None else retain_graph, create_graph, ins, False)
    if materialize_grads:
        from tritium.tensor.creation import zeros_like

        return tuple([zeros_like(x) if g is None else g for g, x in zip(results, ins, strict=True)])
    for i, g in enumerate(results):
        if g is None and not allow_unused:
            raise RuntimeError(f"The differentiated Tensor at index {i} appears to not have been used in the graph. "
                               "Set allow_unused=True if this is the desired behavior.")
    return tuple(results)
