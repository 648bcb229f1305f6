"""The graph record: what an operation leaves behind so that its derivative can be taken later.

An operation on tensors that require grad attaches a *node* to its result. The node knows the edges to the inputs, the
tensors that its derivative needs, and the derivative itself. ``tritium.autograd`` walks the nodes; nothing here does.

An edge is a pair (target, number): the number-th output of a node, or (leaf tensor, 0), or None where no gradient is
asked for. Memory is freed by reference counting alone: a node never holds the tensor it is attached to. A saved output
is kept without its node and gets it back when it is unpacked, and a saved input is kept as an alias that does not
follow later in-place changes of the tensor's place in the graph.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np

from tritium.kernels import either, is_host, of
from tritium.tensor.grad_mode import mode
from tritium.tensor.tensor import Memory, Tensor, Version, new_tensor

_next_number = itertools.count().__next__

RELEASED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
    "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
    "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access saved "
    "tensors after calling backward.")


COMPLEX = ("{}: gradients through complex tensors are not implemented: complex tensors carry data only. Use detach() "
           "or no_grad() where no gradient is wanted.")


class Node:
    """One operation in the graph. ``grad_fn`` of a tensor.

    ``edges``: one per input; ``saved``: what ``unpack`` gives to the derivative; ``ctx``: everything else;
    ``outputs``: (shape, NumPy dtype) of each output; ``number``: the order of creation."""

    __slots__ = ("edges", "saved", "ctx", "outputs", "number", "tensor_hooks", "pre_hooks", "post_hooks",
                 "__weakref__")

    edges: tuple[Any, ...]
    saved: tuple[Any, ...] | None
    ctx: Any
    outputs: tuple[Any, ...]
    number: int
    tensor_hooks: dict[int, Any] | None  # output number -> hooks of the tensor
    pre_hooks: dict[int, Any] | None
    post_hooks: dict[int, Any] | None

    def derivative(self, *grads: Any) -> Any:
        """Gradients of the inputs from the gradients of the outputs."""
        raise NotImplementedError

    def name(self) -> str:
        """The name PyTorch gives to this kind of node."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"

    @property
    def needs(self) -> tuple[bool, ...]:
        """Which inputs ask for a gradient."""
        return tuple([e is not None for e in self.edges])

    def unpack(self) -> list[Any]:
        """The saved tensors (and whatever else was saved), in order.

        Raises RuntimeError when they have been freed, or changed in place since they were saved."""
        saved = self.saved
        if saved is None:
            raise RuntimeError(RELEASED)
        return [self._unpack(item) if type(item) is tuple else item for item in saved]

    def _unpack(self, item: tuple[Tensor, int, int]) -> Tensor:
        tensor, version, output = item
        if tensor._version != version:
            raise RuntimeError(_modified(tensor, version, self, output))
        if output < 0:
            return tensor
        again = alias(tensor)
        again._rg = True
        again._edge = (self, output)
        return again

    def release(self) -> None:
        """Free the saved tensors. What was saved nothing can be walked through again."""
        if self.saved:
            self.saved = self.ctx = None

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes behind the inputs, as PyTorch shows them: ((node, output number), ...)."""
        return tuple([(None, 0) if e is None else (AccumulateGrad(e[0]), 0) if isinstance(e[0], Tensor) else e
                      for e in self.edges])

    @property
    def metadata(self) -> dict[str, Any]:
        """A fresh dictionary; kept for compatibility."""
        return {}

    def register_hook(self, hook: Callable[..., Any]) -> Any:
        """Call ``hook(grad_inputs, grad_outputs)`` after the derivative; what it returns replaces grad_inputs."""
        if self.post_hooks is None:
            self.post_hooks = {}
        return HookHandle(self.post_hooks, hook)

    def register_prehook(self, hook: Callable[..., Any]) -> Any:
        """Call ``hook(grad_outputs)`` before the derivative; what it returns replaces grad_outputs."""
        if self.pre_hooks is None:
            self.pre_hooks = {}
        return HookHandle(self.pre_hooks, hook)


class AccumulateGrad:
    """What ``next_functions`` shows for a leaf: ``variable`` is the leaf."""

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable
        self.next_functions: tuple[Any, ...] = ()

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return id(self.variable)


_hook_number = itertools.count().__next__


class HookHandle:
    """Returned by the ``register_*hook`` functions: ``remove()`` takes the hook away; also a context manager."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self.id = _hook_number()
        self.hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away. Calling it again does nothing."""
        self.hooks.pop(self.id, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def derivative(function: Callable[..., Any]) -> type[Node]:
    """Make a kind of node: its name and its derivative are those of ``function``."""
    return type(function.__name__, (Node,), {"__slots__": (), "derivative": function, "__doc__": function.__doc__,
                                             "__module__": function.__module__})


def recording(*tensors: Tensor) -> bool:
    """Whether an operation on these tensors is to be recorded: grad mode is on, and one requires grad."""
    if mode.enabled:
        for t in tensors:
            if t._rg:
                return True
    return False


def wrap(array: Any) -> Tensor:
    """A tensor over a fresh array that nobody else holds."""
    t = new_tensor(Tensor)
    t._a = array
    return t


def record(out: Any, kind: type[Node], inputs: tuple[Tensor, ...], saved: tuple[Any, ...] = (),
           ctx: Any = None) -> Any:
    """Attach a node of this kind to ``out`` (a tensor or a tuple of tensors) and return ``out``.

    ``saved`` may hold inputs and outputs (tensors), and anything that is no tensor, which is kept as it is."""
    node = new_tensor(kind)
    node.edges = tuple([edge(t) for t in inputs])
    node.number = _next_number()  # after the edges: finding one may make a node
    node.ctx = ctx
    node.tensor_hooks = node.pre_hooks = node.post_hooks = None
    outs = (out,) if isinstance(out, Tensor) else out
    if saved:
        node.saved = tuple([_save(t, outs) if isinstance(t, Tensor) else t for t in saved])
    else:
        node.saved = ()
    if isinstance(out, Tensor):
        a = out._a
        if a.dtype.kind == "c":
            raise NotImplementedError(COMPLEX.format(kind.__name__))
        node.outputs = ((a.shape, a.dtype),)
        out._rg = True
        out._edge = (node, 0)
    else:
        node.outputs = tuple([(t._a.shape, t._a.dtype) for t in out])
        for i, t in enumerate(out):
            if t._a.dtype.kind not in "biu":
                if t._a.dtype.kind == "c":
                    raise NotImplementedError(COMPLEX.format(kind.__name__))
                t._rg = True
                t._edge = (node, i)
    return out


def edge(t: Tensor) -> Any:
    """The edge to a tensor: where a gradient for it goes; None when it asks for none."""
    base = t._base
    if base is not None and t._base_edge is not base._edge:
        refresh_view(t)
    e = t._edge
    if e is not None:
        return e
    return (t, 0) if t._rg else None


def refresh_view(t: Tensor) -> None:
    """An in-place operation gave the base of this view a new place in the graph: the view follows."""
    from tritium.tensor.ops.region import AsStridedBackward0, region_of

    base = t._base
    assert base is not None
    if t._made == NO_GRAD_VIEW and base._edge is not None:
        raise RuntimeError(t._made.replace("is being modified",
                                           "its base or another view of its base has been modified"))
    t._base_edge = base._edge
    if base._edge is None:
        return
    t._edge = None
    record(t, AsStridedBackward0, (base,), ctx=region_of(t))


def version_of(t: Tensor) -> Version:
    """The version counter of a tensor, shared with its views."""
    v = t._vc
    if v is None:
        v = t._vc = Version()
    return v


def memory_of(t: Tensor) -> Memory:
    """What is known of a tensor's memory: ``writes`` counts all writes through tensors, also through ``.data``;
    ``held`` says that NumPy or another library shares it and may write without being counted."""
    v = version_of(t)
    if v.memory is None:
        v.memory = Memory()
    return v.memory


def hold(t: Tensor) -> None:
    """Note that somebody outside shares this tensor's memory from now on."""
    memory_of(t).held = True


def bump(t: Tensor) -> None:
    """Count an in-place change of a tensor."""
    v = t._vc
    if v is None:
        v = t._vc = Version()
    v.n += 1
    if v.memory is not None:
        v.memory.writes += 1


def alias(t: Tensor) -> Tensor:
    """The same memory and version counter, outside the graph."""
    out = new_tensor(Tensor)
    out._a = t._a
    out._vc = version_of(t)
    if t._free:
        out._free = True
    return out


def _save(t: Tensor, outs: Any) -> Any:
    for i, out in enumerate(outs):
        if t is out:
            return (alias(t), version_of(t).n, i)
    if t._rg and t._edge is None:
        return (t, t._version, -1)
    out = alias(t)
    if t._rg:
        out._rg = True
        out._edge = edge(t)
    return (out, t._version, -1)


def _modified(t: Tensor, version: int, node: Node, output: int) -> str:
    shape = ", ".join(map(str, t._a.shape))
    source = ""
    if output >= 0:
        source = f", which is output {output} of {node.name().partition('Backward')[0]},"
    elif t._edge is not None:
        changed = version_of(t).changed or f"output {t._edge[1]} of {t._edge[0].name().partition('Backward')[0]}"
        source = f", which is {changed},"
    return (f"one of the variables needed for gradient computation has been modified by an inplace operation: "
            f"[{t.type().replace('tritium', 'torch')} [{shape}]]{source} is at version {t._version}; expected version "
            f"{version} instead. Hint: enable anomaly detection to find the operation that failed to compute its "
            "gradient, with torch.autograd.set_detect_anomaly(True, check_nan=False).")


# --- views ----------------------------------------------------------------------------------

def make_view(t: Tensor, array: Any, kind: type[Node], ctx: Any = None) -> Tensor:
    """A tensor over ``array``, a view of ``t``'s array (which must not be in free layout any more)."""
    v = new_tensor(Tensor)
    v._a = array
    vc = t._vc
    if vc is None:
        vc = t._vc = Version()
    vc.shared = True
    v._vc = vc
    base = t._base
    v._base = base = t if base is None else base
    if mode.enabled:
        if t._rg:
            record(v, kind, (t,), ctx=ctx)
            v._base_edge = base._edge
        else:
            _remember(vc, v)
    else:  # not recorded: a leaf of its own, which in-place operations must not bring into the graph later
        v._made = NO_GRAD_VIEW
        if base._rg:
            v._rg = True
            v._base_edge = base._edge
        else:
            _remember(vc, v)
    return v


def make_views(t: Tensor, arrays: list[Any], kind: type[Node], ctx: Any) -> tuple[Tensor, ...]:
    """Several views of a tensor that one node makes: its derivative gets a gradient (or None) for each."""
    if not mode.enabled:
        return tuple([make_view(t, a, kind) for a in arrays])
    mode.enabled = False
    try:
        views = tuple([make_view(t, a, kind) for a in arrays])
    finally:
        mode.enabled = True
    for i, v in enumerate(views):
        v._made = (f"Output {i} of {kind.__name__.removesuffix('Backward0')} is a view and is being modified inplace. "
                   "This view is the output of a function that returns multiple views. Such functions do not allow the "
                   "output views to be modified inplace. You should replace the inplace operation by an out-of-place "
                   "one.")
    return record(views, kind, (t,), ctx=ctx) if t._rg and views else views


def _remember(vc: Version, view: Tensor) -> None:
    """Views of a tensor outside the graph are remembered weakly: an in-place operation may bring it in."""
    views = vc.views
    if views is None:
        vc.views = [ref(view)]
        vc.limit = 16
        return
    views.append(ref(view))
    if len(views) > vc.limit:
        views[:] = [r for r in views if r() is not None]
        vc.limit = 16 + 2 * len(views)


def materialize(t: Tensor) -> None:
    """Give a tensor in free layout the layout that PyTorch would show: contiguous."""
    if t._free:
        a = t._a
        if not a.flags.c_contiguous:
            t._a = of(a).copy.contiguous(a)
        t._free = False


# --- in-place operations --------------------------------------------------------------------

NO_GRAD_VIEW = (
    "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Given that this use case "
    "is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and the inplace "
    "either both inside the no_grad block (if you don't want the inplace to be tracked) or both outside (if you want "
    "the inplace to be tracked).")


def check_inplace(t: Tensor, overlap: bool = True) -> None:
    """Raise PyTorch's errors for tensors that must not be changed in place. ``overlap``: also for those whose elements
    share memory."""
    if mode.enabled and t._rg:
        if t._made:
            raise RuntimeError(t._made)
        base = t._base
        if base is not None and base._edge is None:
            raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
        if edge(t)[0] is t:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    a = t._a
    if overlap and 0 in a.strides and a.size > 1:
        for n, s in zip(a.shape, a.strides, strict=True):
            if s == 0 and n > 1:
                raise RuntimeError(
                    "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                    "location. Please clone() the tensor before performing the operation.")


def finish_inplace(t: Tensor, result: Tensor, name: str = "") -> Tensor:
    """Write ``result``, computed out of place (and recorded), into ``t``, and give ``t`` its place in the graph."""
    a, r = t._a, result._a
    if r.shape != a.shape:
        r = _broadcast_result(a, r)
    vc = t._vc
    if result._rg and vc is not None:
        _keep_original(vc, result)
    # on a device the address stays: captured graphs and other libraries know it
    if (is_host(a) and t._base is None and a.dtype == r.dtype and r is result._a and result._base is None
            and result._vc is None and type(t) is Tensor
            and (vc is None or not (vc.shared or (vc.memory is not None)))):
        t._a = r  # nobody else can see the old memory: take the new one instead of copying
        t._free = result._free
    else:
        _write(a, r)
    bump(t)
    if result._rg:
        set_history(t, result)
    return t


def _keep_original(vc: Version, result: Tensor) -> None:
    """What the derivative needs of the memory that is about to be written over is copied first."""
    node = result._edge[0]
    if not node.saved:
        return
    kept = []
    for item in node.saved:
        if type(item) is tuple and item[0]._vc is vc:
            a = item[0]._a
            before = wrap(of(a).copy.clone(a))
            before._rg, before._edge, before._free = item[0]._rg, item[0]._edge, item[0]._free
            item = (before, 0, -1)
        kept.append(item)
    node.saved = tuple(kept)


def _broadcast_result(a: Any, r: Any) -> Any:
    if np.broadcast_shapes(a.shape, r.shape) != a.shape:
        raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(r.shape)}")
    return of(r).memory.broadcast_to(r, a.shape)


def _write(a: Any, r: Any) -> None:
    either(a, r).copy.copy_into(a, r)


def set_history(t: Tensor, result: Tensor) -> None:
    """``t``'s memory now holds ``result``'s values: its gradient goes where the result's would go."""
    base = t._base
    if base is None:
        _enter_graph(t)
        t._edge = e = edge(result)
        version_of(t).changed = f"output {e[1]} of {type(e[0]).__name__.partition('Backward')[0]}"
        return
    if t._made:
        raise RuntimeError(t._made)
    from tritium.tensor.ops.region import CopySlices, region_of

    before = alias(base)
    if base._rg:
        before._rg, before._edge = True, edge(base)
    _enter_graph(base)
    version_of(t).changed = "output 0 of torch::autograd::CopySlices"
    record(base, CopySlices, (before, result), ctx=region_of(t))
    t._rg = True


def _enter_graph(t: Tensor) -> None:
    if not t._rg and t._vc is not None and t._vc.views is not None:
        others = []  # views of another tensor over this memory (t may be a detached alias)
        for r in t._vc.views:
            view = r()
            if view is not None:
                if view._base is t:
                    view._rg = True
                else:
                    others.append(r)
        t._vc.views = others or None
    t._rg = True
