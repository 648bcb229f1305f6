"""Dropout: parts of a tensor set to zero at random, the rest scaled up so that the expectation stays.

On the CPU the mask is drawn as PyTorch's CPU code draws it, and kept for the backward pass: dropout is a product with
a constant. On cuda a mask of the tensor's size is never stored: backward draws it again from the seed and the offset of
the first one (``kernels/triton/dropout.py``). Srivastava et al. 2014; for whole channels Tompson et al. 2015; alpha
dropout Klambauer et al. 2017.
https://docs.pytorch.org/docs/stable/nn.functional.html#dropout-functions
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from tritium.kernels import is_host, of, on
from tritium.tensor.creation import _like as array_like
from tritium.tensor.graph import (
    bump,
    check_inplace,
    derivative,
    materialize,
    record,
    recording,
    set_history,
    wrap,
)
from tritium.tensor.ops.pointwise import add, add_, mul, mul_
from tritium.tensor.ops.random_fill import check_tensor, unsupported
from tritium.tensor.ops.view import squeeze, unsqueeze
from tritium.tensor.random import stream_of
from tritium.tensor.tensor import Tensor

FUNCTIONS = ["dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "dropout_",
             "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"]

ALPHA = 1.7580993408473766  # minus the value that SELU saturates at


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Set each element to zero with probability ``p``; multiply the others by 1 / (1 - p). Outside training:
    ``input`` itself.

    Raises ValueError for ``p`` out of [0, 1], RuntimeError for integer tensors."""
    return _drop("dropout", input, p, training, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``dropout`` of whole channels of (N, C, L) or (C, L).

    Raises RuntimeError for other numbers of dimensions."""
    if input.ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note "
                           "that dropout1d exists to provide channel-wise dropout on inputs with 1 spatial "
                           "dimension, a channel dimension, and an optional batch dimension (i.e. 2D or 3D "
                           "inputs).")
    return _unbatched(input, p, training, inplace, 3)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``dropout`` of whole channels of (N, C, H, W); of (N, C, L) too, with a warning, as in PyTorch."""
    if input.ndim not in (3, 4):
        warnings.warn(_deprecated("dropout2d", input.ndim, "2 spatial dimensions", "3D or 4D"), stacklevel=2)
    if input.ndim == 3:
        warnings.warn("dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout "
                      "behavior is desired - input is interpreted as shape (N, C, L), where C is the channel "
                      "dim. This behavior will change in a future release to interpret the input as one "
                      "without a batch dimension, i.e. shape (C, H, W). To maintain the 1D channel-wise "
                      "dropout behavior, please switch to using dropout1d instead.", stacklevel=2)
    return _drop("feature", input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``dropout`` of whole channels of (N, C, D, H, W)."""
    if input.ndim not in (4, 5):
        warnings.warn(_deprecated("dropout3d", input.ndim, "3 spatial dimensions", "4D or 5D"), stacklevel=2)
    return _unbatched(input, p, training, inplace, 5)


def _unbatched(input: Tensor, p: float, training: bool, inplace: bool, ndim: int) -> Tensor:
    """Dropout of channels of a batch of ``ndim`` dimensions, or of what lacks the first of them."""
    if input.ndim == ndim:
        return _drop("feature", input, p, training, inplace)
    dropped = _drop("feature", unsqueeze(input, 0), p, training, inplace)
    return input if inplace else squeeze(dropped, 0)


def _deprecated(name: str, ndim: int, dims: str, wanted: str) -> str:
    return (f"{name}: Received a {ndim}-D input to {name}, which is deprecated and will result in an error "
            "in a future release. To retain the behavior and silence this warning, please use dropout "
            f"instead. Note that {name} exists to provide channel-wise dropout on inputs with {dims}, a "
            f"channel dimension, and an optional batch dimension (i.e. {wanted} inputs).")


def feature_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``dropout`` of whole channels of (N, C, ...).

    Raises RuntimeError for fewer than 2 dimensions."""
    return _drop("feature", input, p, training, inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout for SELU networks: dropped elements get SELU's saturation value, and all are scaled and shifted
    so that mean and variance stay."""
    return _drop("alpha", input, p, training, inplace)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False,
                          inplace: bool = False) -> Tensor:
    """``alpha_dropout`` of whole channels of (N, C, ...)."""
    return _drop("feature alpha", input, p, training, inplace)


def dropout_(input: Tensor, p: float = 0.5, train: bool = True) -> Tensor:
    """``dropout`` in place."""
    return _drop("dropout", input, p, train, True)


def feature_dropout_(input: Tensor, p: float = 0.5, train: bool = True) -> Tensor:
    """``feature_dropout`` in place."""
    return _drop("feature", input, p, train, True)


def alpha_dropout_(input: Tensor, p: float = 0.5, train: bool = True) -> Tensor:
    """``alpha_dropout`` in place."""
    return _drop("alpha", input, p, train, True)


def feature_alpha_dropout_(input: Tensor, p: float = 0.5, train: bool = True) -> Tensor:
    """``feature_alpha_dropout`` in place."""
    return _drop("feature alpha", input, p, train, True)


def _drop(kind: str, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    dt = check_tensor("dropout", input)
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if p == 0 or not training or input._a.size == 0:
        return input
    times, plus = (mul_, add_) if inplace else (mul, add)
    if p == 1:
        return times(input, wrap(np.zeros((), input._a.dtype)))
    if dt.is_complex:
        raise unsupported("bernoulli_scalar_cpu_", dt)
    if not dt.is_floating_point:
        raise RuntimeError(f"result type Float can't be cast to the desired output type {dt.title}")
    a = 1.0 / math.sqrt((ALPHA * ALPHA * p + 1.0) * (1.0 - p))
    if "feature" not in kind and not is_host(input._a):
        if kind == "dropout":
            return _replayed(input, inplace, 1.0 - p, 1.0 / (1.0 - p))
        return _replayed(input, inplace, 1.0 - p, a, ALPHA * a * p, ALPHA * a * (p - 1.0))
    noise = _blank(kind, input)
    draw: Any = of(noise).random.bernoulli
    stream = stream_of(None, noise)
    if "alpha" not in kind:
        draw(stream, noise, 1.0 - p, _inverse(1.0 - p, noise.dtype))
        return times(input, wrap(noise))
    draw(stream, noise, 1.0 - p)
    mask = wrap(noise)
    shift = add(mul(add(mask, -1.0), ALPHA * a), ALPHA * a * p)
    return plus(times(input, mul(mask, a)), shift)


def _replayed(input: Tensor, inplace: bool, keep: float, scale: float, kept: float = 0.0,
              dropped: float = 0.0) -> Tensor:
    """m x + b on cuda, with a mask that is known by its seed and offset."""
    a = input._a
    seed, offset = stream_of(None, a).take(a.size)
    if not inplace:
        result = wrap(of(a).dropout.masked(a, seed, offset, keep, scale, kept, dropped))
        if recording(input):
            record(result, NativeDropoutBackward0, (input,), ctx=(seed, offset, keep, scale))
        return result
    check_inplace(input)
    materialize(input)
    a = input._a
    of(a).dropout.masked(a, seed, offset, keep, scale, kept, dropped, out=a)
    bump(input)
    if recording(input):
        set_history(input, record(wrap(a), NativeDropoutBackward0, (input,), ctx=(seed, offset, keep, scale)))
    return input


@derivative
def NativeDropoutBackward0(node: Any, grad: Tensor) -> Tensor:
    """dx = m dy, with the mask of the forward pass; linear, and so its own derivative's kind."""
    result = wrap(of(grad._a).dropout.masked(grad._a, *node.ctx))
    if recording(grad):
        record(result, NativeDropoutBackward0, (grad,), ctx=node.ctx)
    return result


def _blank(kind: str, input: Tensor) -> Any:
    """Room for a mask that multiplies ``input``: of its shape, or one number per channel."""
    a = input._a
    if "feature" not in kind:
        return array_like(input, None, None, None, "empty")
    if a.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return on(input.device).empty(a.shape[:2] + (1,) * (a.ndim - 2), a.dtype)


def _inverse(keep: float, dtype: Any) -> Any:
    """1 / keep, with the roundings of a division of tensors in this dtype."""
    work = np.float64 if dtype == np.float64 else np.float32
    return dtype.type(work(1) / work(keep))
