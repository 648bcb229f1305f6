"""Instance normalisation (Ulyanov et al. 2016).

https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm2d.html
"""

from __future__ import annotations

import warnings
from typing import Any

from tritium.nn import functional as F
from tritium.nn.modules.batchnorm import _NormBase
from tritium.tensor.tensor import Tensor


class _InstanceNorm(_NormBase):
    """Normalises each channel of each sample over its places; no parameters and no running statistics by default."""

    places: int  # how many dimensions a channel has

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        channels = input.ndim - self.places - 1
        if input.shape[channels] != self.num_features:
            if self.affine:
                raise ValueError(
                    f"expected input's size at dim={channels} to match num_features ({self.num_features}), "
                    f"but got: {input.shape[channels]}."
                )
            warnings.warn(
                f"input's size at dim={channels} does not match num_features. You can silence this warning by not "
                "passing in num_features, which is not used because affine=False",
                stacklevel=2,
            )
        batch = input.unsqueeze(0) if channels == 0 else input
        use_sample = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        out = F.instance_norm(
            batch, self.running_mean, self.running_var, self.weight, self.bias, use_sample, momentum, self.eps
        )
        return out.squeeze(0) if channels == 0 else out

    def _check_input_dim(self, input: Tensor) -> None:
        least = self.places + 1
        if input.ndim not in (least, least + 1):
            raise ValueError(f"expected {least}D or {least + 1}D input (got {input.ndim}D input)")


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L) or (C, L); ValueError for other numbers of dimensions."""

    places = 1


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of (N, C, H, W) or (C, H, W); ValueError for other numbers of dimensions."""

    places = 2


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W) or (C, D, H, W); ValueError for other numbers of dimensions."""

    places = 3
