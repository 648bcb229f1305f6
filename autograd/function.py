"""``Function``: operations with a derivative that the user writes.

https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.Function
"""
from __future__ import annotations

from typing import Any

from tritium.kernels import beside, reference
from tritium.tensor.grad_mode import mode, no_grad
from tritium.tensor.graph import Node, alias, bump, edge, record, set_history, wrap
from tritium.tensor.tensor import Tensor

FORBIDDEN = ("Output {} of {}Backward is a view and is being modified inplace. This view was created inside a custom "
             "Function (or because an input was returned as-is) and the autograd logic to handle view+inplace would "
             "override the custom backward associated with the custom Function, leading to incorrect gradients. This "
             "behavior is forbidden. You can fix this by cloning the output of the custom Function.")


class FunctionCtx:
    """What ``forward`` and ``backward`` share. ``needs_input_grad``: which arguments ask for a gradient."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self._to_save: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._not_differentiable: tuple[Any, ...] = ()
        self._materialize = True
        self._node: Any = None

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (inputs, outputs or others; None too) for ``backward``. Call it once."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument {i} is of type "
                                f"{type(t).__name__}")
        self._to_save = tensors

    save_for_forward = save_for_backward

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs ``forward`` changed in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs get no gradient."""
        self._not_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing output gradients become zeros (the default) or stay None."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` kept.

        Raises RuntimeError when it was freed, or changed in place since."""
        if self._node is None:
            return self._to_save
        return tuple(self._node.unpack())


class _UserNode(Node):
    __slots__ = ("function", "context", "like")

    function: Any
    context: FunctionCtx

    def derivative(self, *grads: Any) -> Any:
        ctx, function = self.context, self.function
        if ctx._materialize:
            place = next((beside(g._a) for g in grads if g is not None), reference.memory)
            grads = tuple([wrap(place.zeros(*meta)) if g is None else g
                           for g, meta in zip(grads, self.outputs, strict=True)])
        ctx._node = self
        try:
            derivative = function.backward if function.backward is not Function.backward else function.vjp
            out = derivative(ctx, *grads)
        finally:
            ctx._node = None
        if type(out) is not tuple:
            out = tuple(out) if isinstance(out, list) else (out,)
        expected = len(ctx.needs_input_grad)
        if len(out) > expected and all(g is None for g in out[expected:]):
            out = out[:expected]
        if len(out) != expected:
            raise RuntimeError(f"function {self.name()} returned an incorrect number of gradients (expected "
                               f"{expected}, got {len(out)})")
        picked = []
        for i, g in enumerate(out):
            if g is not None and not isinstance(g, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(g).__name__})")
            if i in self.ctx:
                picked.append(g)
        return tuple(picked)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return tuple(self.unpack())

    def release(self) -> None:
        if self.saved:
            self.saved = None


class Function:
    """Base class of user-defined operations: subclass it with static methods ``forward(ctx, *args)`` and
    ``backward(ctx, *grad_outputs)`` (or ``forward(*args)`` with ``setup_context(ctx, inputs, output)``) and call
    ``apply``. ``backward`` returns one gradient (or None) per argument of ``forward``."""

    _node_kind: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Legacy autograd function with non-static forward method is deprecated. Please use "
                           "new-style autograd function with static forward method.")

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The operation. Runs without recording."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Fill ``ctx`` after a ``forward`` that takes none."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gradients of the arguments from the gradients of the outputs."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom "
                                  "autograd.Function to use it with backward mode AD.")

    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        """Another name for ``backward``."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom "
                                  "autograd.Function to use it with backward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the operation and record it."""
        ctx = FunctionCtx()
        tensors = [(i, x) for i, x in enumerate(args) if isinstance(x, Tensor)]
        ctx.needs_input_grad = tuple([isinstance(x, Tensor) and x._rg for x in args])
        track = mode.enabled and any(ctx.needs_input_grad)
        edges_before = [edge(x) for _, x in tensors] if track else []

        with no_grad():
            if cls.setup_context is not Function.setup_context:
                output = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args, **kwargs)
        outs = output if isinstance(output, (tuple, list)) else (output,)
        outs = tuple(outs)
        for x in ctx._dirty:
            if not any(x is t for _, t in tensors):
                raise RuntimeError("mark_dirty: only input tensors can be marked")
            if mode.enabled and x._rg and edge(x)[0] is x:
                raise RuntimeError("a leaf Variable that requires grad has been used in an in-place operation.")
            bump(x)
        dirty = {id(x) for x in ctx._dirty}
        fixed: list[Any] = []
        for x in outs:
            if isinstance(x, Tensor) and any(x is t for _, t in tensors) and id(x) not in dirty:
                y = alias(x)  # an input returned as it is becomes a tensor of its own
                y._vc.shared = True  # type: ignore[union-attr]
                if any(x is s for s in ctx._to_save):
                    ctx._to_save = tuple([y if s is x else s for s in ctx._to_save])
                y._made = FORBIDDEN.format(len(fixed), cls.__name__)
                fixed.append(y)
            else:
                if isinstance(x, Tensor) and x._base is not None and id(x) not in dirty:
                    x._base, x._made = None, FORBIDDEN.format(len(fixed), cls.__name__)
                fixed.append(x)
        outs = tuple(fixed)

        if track:
            cls._attach(ctx, args, tensors, edges_before, outs)
        else:
            ctx._to_save = ctx._dirty = ctx._not_differentiable = ()
        if isinstance(output, tuple):
            return outs
        return list(outs) if isinstance(output, list) else outs[0]

    @classmethod
    def _attach(cls, ctx: FunctionCtx, args: Any, tensors: Any, edges_before: Any, outs: Any) -> None:
        kind = cls.__dict__.get("_node_kind")
        if kind is None:
            kind = type(cls.__name__ + "Backward", (_UserNode,), {"__slots__": (), "__module__": cls.__module__})
            cls._node_kind = kind
        skip = {id(x) for x in ctx._not_differentiable}
        targets = tuple([x for x in outs if isinstance(x, Tensor)])
        out_targets = tuple([x for x in targets if id(x) not in skip and x._a.dtype.kind not in "biu"])
        if not out_targets:
            return
        # edges come from before forward ran: a dirty input is an output now
        before = []
        for (_, x), e in zip(tensors, edges_before, strict=True):
            y = alias(x)
            if e is not None:
                y._rg, y._edge = True, e
            before.append(y)
        # a view that was changed in place: the rest of what it sees a part of keeps its history
        blanks = [wrap(x._a) if x._base is not None else x for x in out_targets]
        for x in targets:
            if x._base is None:
                x._edge = None
        record(tuple(blanks), kind, tuple(before), saved=tuple(ctx._to_save), ctx={i for i, _ in tensors})
        node = blanks[0]._edge[0]
        node.function, node.context = cls, ctx
        node.edges = tuple(edges_before)
        node.outputs = tuple([(x._a.shape, x._a.dtype) for x in out_targets])
        if len(out_targets) != len(outs):
            # backward gets one gradient per output: the others' places stay empty
            places = [next((i for i, t in enumerate(out_targets) if t is x), None) for x in outs]
            node.outputs = tuple([(x._a.shape, x._a.dtype) if isinstance(x, Tensor) else ((), float) for x in outs])
            for i, place in enumerate(places):
                if place is not None:
                    blanks[place]._edge = (node, i)
        for x, blank in zip(out_targets, blanks, strict=True):
            if x is not blank:
                set_history(x, blank)
            elif x._vc is not None:
                x._vc.changed = f"output {x._edge[1]} of {cls.__name__}"
        ctx._to_save = ctx._dirty = ctx._not_differentiable = ()


class NestedIOFunction(Function):
    """Raises NotImplementedError: nested inputs and outputs are not implemented."""

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("NestedIOFunction is not implemented")


def once_differentiable(function: Any) -> Any:
    """Mark a ``backward`` as not differentiable itself: its results get no history."""
    import functools

    @functools.wraps(function)
    def inside(ctx: Any, *args: Any) -> Any:
        with no_grad():
            return function(ctx, *args)

    return inside


