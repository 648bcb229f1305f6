"""Functions and modules whose forward and backward passes are CUDA graphs: ``tritium.cuda.make_graphed_callables``.

Each callable is run a few times, then captured: its forward pass in one graph, its backward pass in another, both on
memory that stays where it is. From then on a call copies its arguments into the tensors of the capture, replays the
forward graph and returns its results; the backward pass of that call copies the gradients that come in, replays the
backward graph and returns its gradients. https://docs.pytorch.org/docs/stable/generated/torch.cuda.make_graphed_callables.html
"""  # noqa: E501
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tritium import cuda
from tritium.autograd import Function, grad
from tritium.autograd.function import once_differentiable
from tritium.nn.modules.module import Module
from tritium.tensor.autocast import is_autocast_cache_enabled, is_autocast_enabled
from tritium.tensor.creation import empty_like
from tritium.tensor.tensor import Tensor


def leaves(tree: Any) -> Iterator[Any]:
    """What lies in nested tuples, lists and dictionaries, in order."""
    if isinstance(tree, (tuple, list)):
        for branch in tree:
            yield from leaves(branch)
    elif isinstance(tree, dict):
        for branch in tree.values():
            yield from leaves(branch)
    else:
        yield tree


def replanted(tree: Any, new: Iterator[Any]) -> Any:
    """The same nesting with other leaves."""
    if isinstance(tree, (tuple, list)):
        branches = [replanted(branch, new) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    if isinstance(tree, dict):
        return type(tree)((key, replanted(branch, new)) for key, branch in tree.items())
    return next(new)


class Graphed:
    """A callable, its two graphs, and the tensors that they work on.

    Raises AssertionError for a module with hooks or with buffers that require gradients, and for arguments that are not
    tensors."""

    def __init__(self, work: Callable[..., Any], args: Any, allow_unused_input: bool) -> None:
        if isinstance(work, Module):
            if work._backward_hooks or work._forward_hooks or work._forward_pre_hooks:
                raise AssertionError("Modules must not have hooks registered at the time they are passed. However, "
                                     "registering hooks on modules after passing them through make_graphed_callables "
                                     "is allowed.")
            if any(b.requires_grad for b in work.buffers()):
                raise AssertionError("In any :class:`~torch.nn.Module` passed to :func:`~make_graphed_callables`, only "
                                     "parameters may be trainable. All buffers must have ``requires_grad=False``.")
        self.work, self.args, self.allow_unused_input = work, args, allow_unused_input
        self.given: tuple[Any, ...] = tuple(leaves(args))
        if not all(isinstance(x, Tensor) for x in self.given):
            raise AssertionError("In the beta API, sample_args for each callable must contain only Tensors. Other "
                                 "types are not allowed.")
        self.parameters: tuple[Tensor, ...] = tuple(work.parameters()) if isinstance(work, Module) else ()
        self.inputs = (*self.given, *self.parameters)
        self.forward_graph, self.backward_graph = cuda.CUDAGraph(), cuda.CUDAGraph()
        self.function: Any = None

    def gradients(self, outputs: Any, grads: Any) -> tuple[Any, ...]:
        return grad(outputs, tuple([x for x in self.inputs if x.requires_grad]), grads,
                    allow_unused=self.allow_unused_input)

    def warm_up(self, count: int) -> None:
        """Run forward and backward, so that kernels are compiled and what is made at first use is there."""
        for _ in range(count):
            outputs = [x for x in leaves(self.work(*self.args)) if isinstance(x, Tensor) and x.requires_grad]
            if outputs:
                self.gradients(outputs, [empty_like(x.detach()) for x in outputs])

    def capture_forward(self, pool: Any) -> None:
        with cuda.graph(self.forward_graph, pool=pool):
            self.result = self.work(*self.args)
        self.results = tuple(leaves(self.result))

    def capture_backward(self, pool: Any) -> None:
        """Also forget the history of the results: what was saved for it is the graphs' memory now."""
        outputs = [x for x in self.results if isinstance(x, Tensor) and x.requires_grad]
        self.incoming = [empty_like(x.detach()) for x in outputs]
        self.outgoing: list[Any] = [None] * len(self.inputs)
        if outputs:
            with cuda.graph(self.backward_graph, pool=pool):
                found = iter(self.gradients(outputs, self.incoming))
            self.outgoing = [next(found) if x.requires_grad else None for x in self.inputs]
        self.fixed = [not isinstance(x, Tensor) or not x.requires_grad for x in self.results]
        self.results = tuple([x.detach() if isinstance(x, Tensor) else x for x in self.results])
        self.result = replanted(self.result, iter(self.results))
        self.args = ()

    def connect(self) -> None:
        """Make the differentiable function that replays the graphs."""
        piece = self

        class Graphed(Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Tensor) -> tuple[Any, ...]:
                for held, x in zip(piece.given, inputs, strict=False):
                    if held.data_ptr() != x.data_ptr():
                        held.copy_(x)
                piece.forward_graph.replay()
                outputs = tuple([x.detach() if isinstance(x, Tensor) else x for x in piece.results])
                ctx.mark_non_differentiable(*[x for x, fixed in zip(outputs, piece.fixed, strict=True)
                                              if fixed and isinstance(x, Tensor)])
                return outputs

            @staticmethod
            @once_differentiable
            def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
                coming = [g for g, fixed in zip(grads, piece.fixed, strict=True) if not fixed]
                for held, g in zip(piece.incoming, coming, strict=True):
                    if held.data_ptr() != g.data_ptr():
                        held.copy_(g)
                piece.backward_graph.replay()
                return tuple([None if g is None else g.detach() for g in piece.outgoing])

        self.function = Graphed

    def __call__(self, *args: Any) -> Any:
        given = tuple(leaves(args))
        if len(given) != len(self.given):
            raise TypeError(f"a graphed callable takes the {len(self.given)} tensors of its sample_args, got "
                            f"{len(given)}")
        return replanted(self.result, iter(self.function.apply(*given, *self.parameters)))


def _switched(module: Module, graphed: Graphed) -> Callable[..., Any]:
    """A ``forward`` that replays where the module is in the mode that it was captured in."""
    plain, training = module.forward, module.training

    def forward(*args: Any, **kwargs: Any) -> Any:
        return graphed(*args, **kwargs) if module.training == training else plain(*args, **kwargs)

    return forward


def make_graphed_callables(callables: Any, sample_args: Any, num_warmup_iters: int = 3,
                           allow_unused_input: bool = False, pool: Any = None) -> Any:
    """See ``tritium.cuda.make_graphed_callables``."""
    if is_autocast_enabled() and is_autocast_cache_enabled():
        raise RuntimeError("make_graphed_callables does not support the autocast caching. Please set "
                           "`cache_enabled=False`.")
    many = isinstance(callables, tuple)
    pieces = [Graphed(work, args, allow_unused_input) for work, args in
              (zip(callables, sample_args, strict=True) if many else [(callables, sample_args)])]
    pool = cuda.graph_pool_handle() if pool is None else pool
    cuda.synchronize()
    with cuda.stream(cuda.Stream()):
        for piece in pieces:
            piece.warm_up(num_warmup_iters)
    cuda.synchronize()
    # in the order in which they will run: the graphs share memory
    for piece in pieces:
        piece.capture_forward(pool)
    for piece in reversed(pieces):
        piece.capture_backward(pool)
    found: list[Any] = []
    for piece in pieces:
        piece.connect()
        if isinstance(piece.work, Module):
            piece.work.forward = _switched(piece.work, piece)  # type: ignore[method-assign]
        found.append(piece.work if isinstance(piece.work, Module) else piece)
    return tuple(found) if many else found[0]
