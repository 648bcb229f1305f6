"""Embedding: rows of a weight by number, with its derivative.

https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.tensor import Tensor


@derivative
def EmbeddingBackward0(node: Any, grad: Tensor) -> Tensor:
    return _embedding_backward(grad, *node.ctx)


@derivative
def EmbeddingDenseBackwardBackward0(node: Any, grad: Tensor) -> Tensor:
    indices, _, skip, by_frequency = node.ctx
    rows = grad[indices]
    if by_frequency:
        _, inverse, counts = indices.unique(return_inverse=True, return_counts=True)
        rows = rows / counts[inverse].to(grad.dtype).unsqueeze(-1)
    if skip >= 0:
        rows = rows * (indices != skip).unsqueeze(-1)
    return rows


def _embedding_backward(grad: Tensor, indices: Tensor, rows: int, skip: int, by_frequency: bool) -> Tensor:
    out = wrap(of(grad._a).embedding.embedding_backward(grad._a, indices._a, rows, skip, by_frequency))
    if recording(grad):
        record(out, EmbeddingDenseBackwardBackward0, (grad,), ctx=(indices, rows, skip, by_frequency))
    return out


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` (V, D) by the numbers in `input` (any shape): (..., D).

    `padding_idx`: a row that gets no gradient. `max_norm`: rows used whose norm is larger are scaled down to it
    first, in place. `scale_grad_by_freq`: gradients are divided by how often the row occurs.
    Raises RuntimeError for indices that are no int32/int64, IndexError for one outside [0, V), AssertionError for a
    padding_idx outside, NotImplementedError for sparse gradients.
    """
    if sparse:
        raise NotImplementedError("embedding: sparse gradients are not there; use sparse=False")
    if input._a.dtype not in (np.int64, np.int32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got {input.type().replace('tritium', 'torch')} instead (while checking arguments for embedding)"
        )
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    rows = weight.shape[0]
    skip = -1
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        skip = padding_idx % rows
    a = input._a
    if a.size and of(a).index.first_outside(a, 0, rows) is not None:
        raise IndexError("index out of range in self")
    if max_norm is not None:
        _limit_norms(weight, a, max_norm, norm_type)
    out = wrap(of(weight._a).embedding.embedding(weight._a, a))
    if recording(weight):
        record(out, EmbeddingBackward0, (weight,), ctx=(input.detach(), rows, skip, scale_grad_by_freq))
    return out


@no_grad()
def _limit_norms(weight: Tensor, indices: Any, max_norm: float, norm_type: float) -> None:
    used = wrap(indices).unique()
    rows = weight[used]
    norms = rows.norm(norm_type, 1, keepdim=True)
    scale = (max_norm / (norms + 1e-7)).clamp(max=1.0)
    weight[used] = rows * scale
