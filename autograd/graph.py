"""The nodes of the graph, as ``tritium.autograd.graph``.

https://docs.pytorch.org/docs/stable/autograd.html#autograd-graph
"""
from __future__ import annotations

from typing import Any, NamedTuple

from tritium.tensor.graph import AccumulateGrad, Node, edge
from tritium.tensor.tensor import Tensor


class GradientEdge(NamedTuple):
    """A place in the graph that a gradient flows through."""

    node: Any
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor that requires grad.

    Raises RuntimeError when it does not."""
    e = edge(tensor)
    if e is None:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(AccumulateGrad(tensor) if e[0] is tensor else e[0], e[1])


class saved_tensors_hooks:
    """Raises NotImplementedError: packing of saved tensors is not implemented."""

    def __init__(self, pack_hook: Any, unpack_hook: Any) -> None:
        raise NotImplementedError("autograd.graph.saved_tensors_hooks is not implemented")


__all__ = ["GradientEdge", "Node", "get_gradient_edge", "saved_tensors_hooks"]
