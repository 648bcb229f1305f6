"""`torch.nn.functional`: the layers' computations as functions, with PyTorch's signatures.

Most are the ops of `tensor/ops` under their functional name. What is written out here are the arguments that only
this namespace has (`inplace=`, `training=`, `size_average=`) and functions made of other ops.
https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

import warnings
from typing import Any

from tritium.nn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cross_entropy,
    gaussian_nll_loss,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    margin_ranking_loss,
    mse_loss,
    nll_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
    triplet_margin_loss,
)
from tritium.nn.vision import (
    affine_grid,
    grid_sample,
    interpolate,
    upsample,
    upsample_bilinear,
    upsample_nearest,
)
from tritium.tensor.autocast import amp
from tritium.tensor.ops import activation
from tritium.tensor.ops import softmax as softmax_ops
from tritium.tensor.ops.activation import (
    celu_,
    elu_,
    gelu,
    glu,
    hardshrink,
    hardtanh_,
    leaky_relu_,
    logsigmoid,
    prelu,
    rrelu,
    selu_,
    softplus,
    softshrink,
    softsign,
    tanhshrink,
    threshold_,
)
from tritium.tensor.ops.attention import scaled_dot_product_attention
from tritium.tensor.ops.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from tritium.tensor.ops.copy_pad import pad
from tritium.tensor.ops.dropout import (
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
)
from tritium.tensor.ops.embedding import embedding
from tritium.tensor.ops.index import one_hot
from tritium.tensor.ops.matmul import linear
from tritium.tensor.ops.norm import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from tritium.tensor.ops.pixel import channel_shuffle, pixel_shuffle, pixel_unshuffle
from tritium.tensor.ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from tritium.tensor.ops.pool3d import adaptive_avg_pool3d, adaptive_max_pool3d, avg_pool3d, max_pool3d
from tritium.tensor.ops.pool_lp import lp_pool1d, lp_pool2d, lp_pool3d
from tritium.tensor.ops.pool_unpool import max_unpool1d, max_unpool2d, max_unpool3d
from tritium.tensor.tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "batch_norm", "bilinear", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "celu", "celu_", "channel_shuffle", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "dropout", "dropout1d",
    "dropout2d", "dropout3d",
    "elu", "elu_", "embedding", "feature_alpha_dropout", "gelu", "glu", "group_norm", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "hardtanh_", "huber_loss", "instance_norm", "kl_div", "l1_loss", "layer_norm",
    "leaky_relu", "leaky_relu_", "linear", "log_softmax", "logsigmoid", "margin_ranking_loss", "max_pool1d",
    "max_pool2d", "mish", "mse_loss", "nll_loss", "normalize", "one_hot", "pad", "pairwise_distance", "pixel_shuffle",
    "pixel_unshuffle", "prelu", "relu", "relu6", "relu_", "rms_norm", "rrelu", "selu", "selu_", "sigmoid", "silu",
    "smooth_l1_loss", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
    "adaptive_avg_pool3d", "adaptive_max_pool3d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool3d",
    "max_unpool1d", "max_unpool2d", "max_unpool3d", "gaussian_nll_loss", "hinge_embedding_loss", "poisson_nll_loss",
    "soft_margin_loss", "threshold_",
    "scaled_dot_product_attention", "triplet_margin_loss",
    "affine_grid", "grid_sample", "interpolate", "upsample", "upsample_bilinear", "upsample_nearest",
]  # fmt: skip

# ------------------------------------------------------------------------------------------------- activations


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)."""
    return input.relu_() if inplace else input.relu()


def relu_(input: Tensor) -> Tensor:
    """`relu` in place."""
    return input.relu_()


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def tanh(input: Tensor) -> Tensor:
    """tanh(x)."""
    return input.tanh()


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return activation.relu6_(input) if inplace else activation.relu6(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Values clipped to [min_val, max_val]; ValueError when the bounds are crossed."""
    return (activation.hardtanh_ if inplace else activation.hardtanh)(input, min_val, max_val)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x above 0, negative_slope * x below."""
    return (activation.leaky_relu_ if inplace else activation.leaky_relu)(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha (exp(x) - 1) below."""
    return (activation.elu_ if inplace else activation.elu)(input, alpha)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha (exp(x / alpha) - 1) below."""
    return (activation.celu_ if inplace else activation.celu)(input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`elu` with the self-normalising constants."""
    return (activation.selu_ if inplace else activation.selu)(input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)."""
    return (activation.silu_ if inplace else activation.silu)(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x))."""
    return (activation.mish_ if inplace else activation.mish)(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x relu6(x + 3) / 6."""
    return (activation.hardswish_ if inplace else activation.hardswish)(input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6."""
    return (activation.hardsigmoid_ if inplace else activation.hardsigmoid)(input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x above the threshold, `value` elsewhere."""
    return (activation.threshold_ if inplace else activation.threshold)(input, threshold, value)


def _chosen_dim(name: str, ndim: int, stacklevel: int) -> int:
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=stacklevel,
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`; without one it is chosen from the shape, with a warning."""
    dim = _chosen_dim("softmax", input.ndim, _stacklevel) if dim is None else dim
    return softmax_ops.softmax(input, dim, dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along `dim`; without one it is chosen from the shape, with a warning."""
    dim = _chosen_dim("log_softmax", input.ndim, _stacklevel) if dim is None else dim
    return softmax_ops.log_softmax(input, dim, dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`; without one it is chosen from the shape, with a warning."""
    dim = _chosen_dim("softmin", input.ndim, _stacklevel) if dim is None else dim
    return softmax_ops.softmin(input, dim, dtype)


# ---------------------------------------------------------------------------------------------- other functions


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_k = x1^T W_k x2 + b_k: (*, I) and (*, J) with a weight of (K, I, J) to (*, K)."""
    if amp.on and (r := amp.run("bilinear", bilinear, input1, input2, weight, bias)) is not None:
        return r
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError("bilinear(): input batch dimensions do not match")
    k, i, j = weight.shape
    if input1.shape[-1] != i or input2.shape[-1] != j:
        side, size, wanted = (1, input1.shape[-1], i) if input1.shape[-1] != i else (2, input2.shape[-1], j)
        raise RuntimeError(
            f"bilinear(): input{side} size does not match weight size: got {size} but expected {wanted}"
        )
    left = input1.reshape(-1, i).matmul(weight.permute(1, 0, 2).reshape(i, k * j)).reshape(-1, k, j)
    out = (left * input2.reshape(-1, 1, j)).sum(-1).reshape(*input1.shape[:-1], k)
    return out if bias is None else out + bias


def normalize(
    input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """x / max(norm_p(x), eps) along `dim`."""
    norm = input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    result = input / norm
    return result if out is None else out.copy_(result)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`, broadcast."""
    if amp.on and (r := amp.run("cosine_similarity", cosine_similarity, x1, x2, dim, eps)) is not None:
        return r
    unit1 = x1 / x1.norm(2, dim, keepdim=True).clamp_min(eps)
    unit2 = x2 / x2.norm(2, dim, keepdim=True).clamp_min(eps)
    return (unit1 * unit2).sum(dim)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)
