"""Channels into space and back: pixel_shuffle, pixel_unshuffle, channel_shuffle.

https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pixel_shuffle.html
"""
from __future__ import annotations

from typing import Any

from tritium.kernels import of
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.tensor import Tensor


@derivative
def PixelShuffleBackward0(node: Any, grad: Tensor) -> Tensor:
    return pixel_unshuffle(grad, node.ctx)


@derivative
def PixelUnshuffleBackward0(node: Any, grad: Tensor) -> Tensor:
    return pixel_shuffle(grad, node.ctx)


@derivative
def ChannelShuffleBackward0(node: Any, grad: Tensor) -> Tensor:
    groups, channels = node.ctx
    return channel_shuffle(grad, channels // groups)


def _rearranged(input: Tensor, split: Any, order: Any, shape: Any, kind: Any, ctx: Any) -> Tensor:
    a = input._a
    r = wrap(of(a).copy.contiguous(a.reshape(split).transpose(order)).reshape(shape))
    if recording(input):
        record(r, kind, (input,), ctx=ctx)
    return r


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r^2, H, W) to (..., C, H r, W r).

    Raises RuntimeError when the shape does not fit.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.PixelShuffle.html"""
    shape, s = input._a.shape, upscale_factor
    if len(shape) < 3:
        raise RuntimeError("pixel_shuffle expects input to have at least 3 dimensions, but got input with "
                           f"{len(shape)} dimension(s)")
    if s <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {s}")
    *lead, c, h, w = shape
    if c % (s * s):
        raise RuntimeError("pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                           f"upscale_factor, but input.size(-3)={c} is not divisible by {s * s}")
    n = len(lead)
    return _rearranged(input, (*lead, c // (s * s), s, s, h, w), (*range(n), n, n + 3, n + 1, n + 4, n + 2),
                       (*lead, c // (s * s), h * s, w * s), PixelShuffleBackward0, s)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) to (..., C r^2, H, W).

    Raises RuntimeError when the shape does not fit."""
    shape, s = input._a.shape, downscale_factor
    if len(shape) < 3:
        raise RuntimeError("pixel_unshuffle expects input to have at least 3 dimensions, but got input with "
                           f"{len(shape)} dimension(s)")
    if s <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {s}")
    *lead, c, h, w = shape
    for word, at, size in (("height", -2, h), ("width", -1, w)):
        if size % s:
            raise RuntimeError(f"pixel_unshuffle expects {word} to be divisible by downscale_factor, but "
                               f"input.size({at})={size} is not divisible by {s}")
    n = len(lead)
    return _rearranged(input, (*lead, c, h // s, s, w // s, s), (*range(n), n, n + 2, n + 4, n + 1, n + 3),
                       (*lead, c * s * s, h // s, w // s), PixelUnshuffleBackward0, s)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels (dimension 1) of ``groups`` groups dealt out in turn.

    Raises RuntimeError when the number of channels is no multiple of the groups."""
    shape = input._a.shape
    if len(shape) < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(shape)}")
    if groups <= 0:
        raise RuntimeError("Number of groups to divide channels in must be positive. Value of groups:"
                           f"{groups}")
    b, c, *space = shape
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    return _rearranged(input, (b, groups, c // groups, *space), (0, 2, 1, *range(3, 3 + len(space))), shape,
                       ChannelShuffleBackward0, (groups, c))
