"""Channels of groups interleaved (Zhang et al. 2017).

https://docs.pytorch.org/docs/stable/generated/torch.nn.ChannelShuffle.html
"""

from __future__ import annotations

from tritium.nn import functional as F
from tritium.nn.modules.module import Module
from tritium.tensor.tensor import Tensor


class ChannelShuffle(Module):
    """(*, g n, H, W) with channel i n + j moved to j g + i."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
