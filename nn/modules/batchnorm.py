"""Batch normalisation (Ioffe and Szegedy 2015). https://docs.pytorch.org/docs/stable/nn.html#normalization-layers"""

from __future__ import annotations

from typing import Any

from tritium.nn import init
from tritium.nn.modules.module import Module
from tritium.tensor.creation import empty, ones, zeros
from tritium.tensor.dtype import int64
from tritium.tensor.from_data import tensor
from tritium.tensor.ops.norm import batch_norm_act
from tritium.tensor.parameter import Parameter
from tritium.tensor.tensor import Tensor


class _NormBase(Module):
    """Parameters and running statistics of a normalisation over channels."""

    _version = 2  # 2: num_batches_tracked is part of the state
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, there in (("weight", affine), ("bias", affine and bias)):
            param = Parameter(empty(num_features, device=device, dtype=dtype)) if there else None
            self.register_parameter(name, param)
        if track_running_stats:
            self.register_buffer("running_mean", zeros(num_features, device=device, dtype=dtype))
            self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", tensor(0, dtype=int64, device=device))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            self.running_mean.zero_()  # type: ignore[union-attr]
            self.running_var.fill_(1)  # type: ignore[union-attr]
            self.num_batches_tracked.zero_()  # type: ignore[union-attr]

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, fresh statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *lists: Any) -> None:
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.track_running_stats:
            # Checkpoints of version 1 do not have it: the count of this layer is kept.
            current = self.num_batches_tracked
            count = tensor(0, dtype=int64) if current is None else current
            state_dict.setdefault(prefix + "num_batches_tracked", count)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *lists)


class _BatchNorm(_NormBase):
    """Normalises each channel over the batch and all places: y = (x - mean) / sqrt(var + eps) * weight + bias.

    In training mode with the batch's statistics, which also move the running ones by `momentum` (None: the plain
    average of all batches); in evaluation mode with the running ones, if they are tracked.
    """

    dimensions: tuple[int, ...]

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in self.dimensions:
            wanted = " or ".join(f"{n}D" for n in self.dimensions)
            raise ValueError(f"expected {wanted} input (got {input.ndim}D input)")

    def forward(self, input: Tensor) -> Tensor:
        return self.apply_with(input)

    def apply_with(self, input: Tensor, residual: Tensor | None = None, activation: str | None = None) -> Tensor:
        """`activation(forward(input) + residual)` as one operation; `residual` is of the input's shape, dtype and
        device, `activation` is None, "relu" or "relu6"."""
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        counter = self.num_batches_tracked if self.training and self.track_running_stats else None
        if counter is not None and (self.momentum is None or not counts_on(counter, input)):
            counter.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(counter)
            counter = None
        mean, var = self.running_mean, self.running_var
        use_batch = self.training or (mean is None and var is None)
        if self.training and not self.track_running_stats:
            mean = var = None
        return batch_norm_act(
            input, mean, var, self.weight, self.bias, use_batch, momentum, self.eps, counter, residual, activation
        )


def counts_on(counter: Tensor, input: Tensor) -> bool:
    """Whether the kernel that reads `input` can count the batch."""
    return type(counter) is Tensor and counter.dtype is int64 and counter.device == input.device


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); ValueError for other numbers of dimensions."""

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W); ValueError for other numbers of dimensions."""

    dimensions = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W); ValueError for other numbers of dimensions."""

    dimensions = (5,)
