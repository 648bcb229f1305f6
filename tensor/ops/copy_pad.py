"""`pad` and its derivatives. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.graph import Node, derivative, record, recording, wrap
from tritium.tensor.layout import is_channels_last
from tritium.tensor.ops.pointwise import node_kind
from tritium.tensor.tensor import Tensor

PADDINGS = {"reflect": "reflection_pad", "replicate": "replication_pad"}  # PyTorch's ops
Amounts = tuple[tuple[int, int], ...]  # (before, after) of each dimension

SUPPORTED = """
Supported combinations for non-constant padding:
  - 2D or 3D input: padding size = 2 (pads last dimension)
  - 3D or 4D input: padding size = 4 (pads last 2 dimensions)
  - 4D or 5D input: padding size = 6 (pads last 3 dimensions)"""


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """`input` with `pad` = (before last, after last, before last but one, ...) elements more; negative numbers cut
    off.

    `mode`: "constant" (filled with `value`, 0 by default; any number of dimensions), "reflect", "replicate",
    "circular" (the last one, two or three dimensions of a tensor with one or two more).
    Raises RuntimeError for amounts that do not fit the shape, NotImplementedError for an unknown mode or combination.
    """
    amounts = [int(n) for n in pad]
    if len(amounts) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(amounts) > 2 * input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got padding length "
            f"{len(amounts)} and input of dimension {input.ndim}"
        )
    if mode == "constant":
        return _constant(input, _by_dimension(amounts, input.ndim), 0.0 if value is None else value)
    if value is not None and value != 0:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    count = len(amounts) // 2
    if count in (1, 2, 3) and input.ndim in (count + 1, count + 2):
        if mode in KINDS:
            if amp.on and (r := amp.run(PADDINGS.get(mode, mode) + f"{count}d", _gathered, input, mode, amounts,
                                        count)) is not None:
                return r
            return _gathered(input, mode, amounts, count)
    elif mode in KINDS:
        raise NotImplementedError(
            f"Padding size {len(amounts)} is not supported for {input.ndim}D input tensor." + SUPPORTED
        )
    raise NotImplementedError(f"Unrecognised padding mode {mode}")


def _by_dimension(amounts: list[int], ndim: int) -> Amounts:
    """(before, after) of each dimension, first to last."""
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    return ((0, 0),) * (ndim - len(pairs)) + tuple(reversed(pairs))


# ---------------------------------------------------------------------------------------------------- constant


def _laid_out(input: Tensor, amounts: Amounts, kernel: Callable[[Any, Amounts], Any]) -> Tensor:
    """A kernel's result in the memory order of the input where that is channels-last, else contiguous."""
    a, n = input._a, input._a.ndim
    if not is_channels_last(a, max(n, 4)) or a.flags.c_contiguous:
        return wrap(kernel(a, amounts))
    to = (0, *range(2, n), 1)
    out = wrap(kernel(a.transpose(to), tuple([amounts[d] for d in to])).transpose(0, n - 1, *range(1, n - 1)))
    if input._free:
        out._free = True
    return out


@derivative
def ConstantPadNdBackward0(node: Any, grad: Tensor) -> Tensor:
    return _constant(grad, tuple((-before, -after) for before, after in node.ctx), 0)


def _constant(input: Tensor, amounts: Amounts, value: Any) -> Tensor:
    for size, (before, after) in zip(input.shape, amounts, strict=True):
        if size + before + after < 0 or size + min(before, 0) + min(after, 0) < 0:
            raise RuntimeError("narrow(): length must be non-negative.")
    out = _laid_out(input, amounts, lambda a, pairs: of(a).copy_pad.constant(a, pairs, value))
    if recording(input):
        record(out, ConstantPadNdBackward0, (input,), ctx=amounts)
    return out


# ------------------------------------------------------------------------------ reflect, replicate, circular


def _gather_backward(node: Any, grad: Tensor) -> Tensor:
    return _scatter(grad, *node.ctx)


@derivative
def PadScatterBackward0(node: Any, grad: Tensor) -> Tensor:
    mode, amounts, _, kind = node.ctx
    return _gather(grad, mode, amounts, kind)


KINDS: dict[str, list[type[Node]]] = {
    "reflect": [node_kind(f"ReflectionPad{n}DBackward0", _gather_backward) for n in (1, 2, 3)],
    "replicate": [node_kind(f"ReplicationPad{n}DBackward0", _gather_backward) for n in (1, 2, 3)],
    "circular": [node_kind("CopySlices", _gather_backward)] * 3,
}


def _gathered(input: Tensor, mode: str, amounts: list[int], count: int) -> Tensor:
    pairs = _by_dimension(amounts, input.ndim)
    for i in range(count):
        dim = input.ndim - 1 - i
        _check(mode, input, dim, pairs[dim], argument=4 + 2 * i)
    return _gather(input, mode, pairs, KINDS[mode][count - 1])


def _check(mode: str, input: Tensor, dim: int, pair: tuple[int, int], argument: int) -> None:
    size = input.shape[dim]
    before, after = pair
    if mode == "circular":
        if before > size or after > size:
            raise RuntimeError("Padding value causes wrapping around more than once.")
        if size + before + after < 0:
            raise RuntimeError("Negative padding value is resulting in an empty dimension")
    elif mode == "reflect" and (before >= size or after >= size):
        raise RuntimeError(
            f"Argument #{argument}: Padding size should be less than the corresponding input dimension, but got: "
            f"padding ({before}, {after}) at dimension {dim} of input {list(input.shape)}"
        )
    if size + before + after < 0 or (size == 0 and (before or after)):
        shape = list(input.shape)
        shape[dim] += before + after
        raise RuntimeError(f"Trying to create tensor with negative dimension {shape[dim]}: {shape}")


def _gather(input: Tensor, mode: str, amounts: Amounts, kind: type[Node]) -> Tensor:
    out = _laid_out(input, amounts, lambda a, pairs: of(a).copy_pad.gather(a, mode, pairs))
    if recording(input):
        record(out, kind, (input,), ctx=(mode, amounts, tuple(input._a.shape), kind))
    return out


def _scatter(grad: Tensor, mode: str, amounts: Amounts, shape: tuple[int, ...], kind: type[Node]) -> Tensor:
    out = wrap(of(grad._a).copy_pad.scatter(grad._a, mode, amounts, shape))
    if recording(grad):
        record(out, PadScatterBackward0, (grad,), ctx=(mode, amounts, shape, kind))
    return out
