"""nll_loss: minus the log-probability of each sample's class, and its derivatives of every order.
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.ops.loss_elementwise import check_reduction
from tritium.tensor.tensor import Tensor


@derivative
def NllLossBackward0(node: Any, grad: Tensor) -> Tensor:
    return nll_backward(grad, *node.ctx)


@derivative
def NllLoss2DBackward0(node: Any, grad: Tensor) -> Tensor:
    return nll_backward(grad, *node.ctx)


@derivative
def NllLossBackwardBackward0(node: Any, grad: Tensor) -> Tensor:
    # nll is linear in its input, so the derivative of its backward is nll itself
    target, weight, ignore, _, reduction, _, _ = node.ctx
    return nll_loss(grad, target, weight, ignore, reduction)


def nll_backward(
    grad: Tensor, target: Tensor, weight: Tensor | None, ignore: int, some: bool, reduction: str, total: Any, shape: Any
) -> Tensor:
    t = target._a
    full = shape
    if len(shape) == 1:
        t, full = t.reshape(1), (1, *shape)
    g = grad._a.reshape(1) if len(shape) == 1 and reduction == "none" else grad._a
    w = None if weight is None else weight._a
    out = wrap(of(g).loss.nll_backward(g, t, w, ignore, some, reduction, total, full).reshape(shape))
    if recording(grad):
        ctx = (target, weight, ignore, some, reduction, total, shape)
        record(out, NllLossBackwardBackward0, (grad,), ctx=ctx)
    return out


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-probability of the right class.

    `input`: log-probabilities (C), (N, C) or (N, C, d1, ...); `target`: class numbers (), (N) or (N, d1, ...), int64
    or uint8; `weight`: one number per class, and "mean" divides by the sum of the samples' weights.
    Raises ValueError for batch sizes that differ, RuntimeError for other shapes and dtypes that do not fit,
    IndexError for a class number out of range.
    """
    if amp.on and (r := amp.run("nll_loss", nll_loss, input, target, weight, ignore_index, reduction)) is not None:
        return r
    check_reduction(reduction)
    check_classes(input, target, weight)
    if input._a.ndim <= 2:
        return _nll(input, target, weight, ignore_index, reduction, NllLossBackward0)
    if input.ndim == 4:
        return _nll(input, target, weight, ignore_index, reduction, NllLoss2DBackward0)
    size = [input.shape[0], *input.shape[2:]]
    n, c = input.shape[:2]
    rest = input.shape[2:].numel()
    flat = _nll(
        input.reshape(n, c, 1, rest), target.reshape(n, 1, rest), weight, ignore_index, reduction, NllLoss2DBackward0
    )
    return flat.view(size) if reduction == "none" else flat


def check_classes(input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Raises PyTorch's errors for sizes and dtypes that do not fit."""
    _check_nll_sizes(input, target)
    if input.ndim == 4:
        _check_spatial(input, target)
    elif input.ndim > 2 and target.shape[1:] != input.shape[2:]:
        raise RuntimeError(f"Expected target size {[input.shape[0], *input.shape[2:]]}, got {list(target.shape)}")
    _check_nll_dtypes(input, target, weight, input.ndim > 2)


def _check_nll_sizes(input: Tensor, target: Tensor) -> None:
    shape, labels = input._a.shape, target._a.shape
    if not shape:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    if len(shape) == 1:
        if labels and target.numel() != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {target.numel()}")
        return
    if not labels or shape[0] != labels[0]:
        batch = labels[0] if labels else 0
        raise ValueError(f"Expected input batch_size ({shape[0]}) to match target batch_size ({batch}).")
    if len(shape) == 2 and len(labels) > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")


def _check_spatial(input: Tensor, target: Tensor) -> None:
    if target.ndim != 3:
        raise RuntimeError(
            "only batches of spatial targets supported (3D tensors) but got targets of dimension: "
            f"{target.ndim}"
        )
    if input.shape[2:] != target.shape[1:]:
        raise RuntimeError(
            f"size mismatch (got input: {list(input.shape)} , target: {list(target.shape)}"
        )


def _check_nll_dtypes(input: Tensor, target: Tensor, weight: Tensor | None, spatial: bool) -> None:
    if target._a.dtype != np.int64 and target._a.dtype != np.uint8:
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {target.dtype.title}")
    if not input.is_floating_point():
        raise NotImplementedError(f"\"nll_loss_out_frame\" not implemented for '{input.dtype.title}'")
    if weight is None:
        return
    classes = input.shape[0] if input.ndim == 1 else input.shape[1]
    if weight.ndim != 1 or weight.shape[0] != classes:
        raise RuntimeError(
            "weight tensor should be defined either for all or no classes"
            if spatial
            else f"weight tensor should be defined either for all {classes} classes or no classes but got weight "
            f"tensor of shape: {list(weight.shape)}"
        )
    if weight._a.dtype != input._a.dtype:
        raise RuntimeError(f"expected scalar type {input.dtype.title} but found {weight.dtype.title}")


def _nll(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore: int, reduction: str, kind: type[Node]
) -> Tensor:
    a, t = input._a, target._a
    if a.ndim == 1:
        a, t = a.reshape(1, -1), t.reshape(1)
    k = of(a).loss
    wrong, some = k.survey(t, a.shape[1], ignore)
    if wrong is not None:
        raise IndexError(f"Target {wrong} is out of bounds.")
    if t.dtype == np.uint8:
        t = t.astype(np.int64)
    loss, total = k.nll(a, t, None if weight is None else weight._a, ignore, some, reduction)
    if input._a.ndim == 1 and reduction == "none":
        loss = loss.reshape(())
    out = wrap(loss)
    if recording(input):
        ctx = (wrap(t), weight, ignore, some, reduction, total, input._a.shape)
        record(out, kind, (input,), ctx=ctx)
    return out
