"""Activation functions: forward and backward, each a few lines of arithmetic in ``activation_ops.py``.

``forward[name](x, *numbers)`` gives the value; ``backward[name](g, x, *numbers)`` gives g times the derivative at x, in
one pass. The numbers are the function's constants (a slope, bounds). Results have the first array's dtype and memory
order; the 16-bit types are computed in float32 and rounded once.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from tritium.kernels.array import DeviceArray, NoKernel
from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import activation_ops as ops
from tritium.kernels.triton import elementwise_kernels as kernels
from tritium.kernels.triton.elementwise import (
    FLOATING,
    block_size,
    compute_type,
    elementwise,
    new_like,
    number_bits,
    on_reset,
)
from tritium.kernels.triton.pointwise import flat_case, unaries

Constants = Callable[..., tuple[Any, ...]]


class Activation:
    """A function of one or two arrays of one dtype (three in the general case) and numbers.

    ``constants`` makes of the numbers those that the op takes; ``whole``: integers are taken too; ``heavy``: see
    ``block_size``."""

    __slots__ = ("name", "op", "arrays", "constants", "whole", "heavy", "fast")

    def __init__(self, name: str, op: Any, arrays: int, constants: Constants | None = None,
                 whole: bool = False, heavy: int = 1) -> None:
        self.heavy = heavy
        self.name, self.op, self.arrays, self.constants, self.whole = name, op, arrays, constants, whole
        self.fast: dict[Any, Any] = {}
        on_reset(self.fast.clear)

    def __call__(self, x: Any, *rest: Any) -> Any:
        count = self.arrays
        dtype = x.dtype
        if x.dense and count < 3:
            y = rest[0] if count == 2 else x
            if y is x or type(y) is DeviceArray and y.dense and y.shape == x.shape and y.dtype is dtype:
                variant, size, kind, plain = self.fast.get(dtype) or self.prepare(dtype, len(rest) - count + 1)
                n = x.size
                out = new_like(x, dtype)
                if n:
                    arrays = (x, out) if count == 1 else (x, y, out)
                    if plain:
                        variant(-(-n // size), 1, 1, *arrays, n)
                    else:
                        bits = [number_bits(s, kind) for s in self.numbers(rest[count - 1:], dtype)]
                        variant(-(-n // size), 1, 1, *arrays, n, *bits, *(0, 0, 0, 0)[len(bits):])
                return out
        kind = self.kind(dtype)
        return elementwise(self.op, (x, *rest[:count - 1]), self.numbers(rest[count - 1:], dtype), dtype, None, kind,
                           heavy=self.heavy)

    def numbers(self, given: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
        """The numbers that the op takes."""
        if self.constants is None:
            return given
        return self.constants(*given, whole=True) if dtype not in FLOATING else self.constants(*given)

    def kind(self, dtype: Any) -> Any:
        """The type to compute in. Raises NoKernel for dtypes that the function does not take."""
        if dtype not in FLOATING and not self.whole:
            raise NoKernel(f"{self.name} has no Triton kernel for {dtype}: not implemented for cuda tensors")
        return compute_type(dtype)

    def prepare(self, dtype: Any, given: int) -> Any:
        """What a call with dense arrays needs. ``given``: how many numbers come with it."""
        kind = self.kind(dtype)
        size = block_size(dtype.itemsize, self.heavy)
        if given == 0:
            variant = (kernels.map1 if self.arrays == 1 else kernels.map2).bind(
                OP=self.op, SPREAD=0, BLOCK=size, num_warps=4)
        else:
            scalars = len(self.numbers((1,) * given, dtype))
            variant = (kernels.map1s if self.arrays == 1 else kernels.map2s).bind(
                OP=self.op, KIND=kind, SCALARS=scalars, SPREAD=0, BLOCK=size, num_warps=4)
        found = self.fast[dtype] = variant, size, kind, given == 0
        return found


def _elu(alpha: float, scale: float, input_scale: float) -> tuple[Any, ...]:
    return alpha * scale, scale, input_scale


def _elu_backward(alpha: float, scale: float, input_scale: float) -> tuple[Any, ...]:
    return alpha * scale * input_scale, scale, input_scale


def _limit(limit: Any, value: Any, whole: bool = False) -> tuple[Any, ...]:
    return math.floor(limit) if whole else limit, value


def _limit_alone(limit: Any, value: Any, whole: bool = False) -> tuple[Any, ...]:
    return (math.floor(limit) if whole else limit,)


def _bounds(low: Any, high: Any, whole: bool = False) -> tuple[Any, ...]:
    return low, high


forward: dict[str, Any] = {
    "hardtanh": Activation("hardtanh", ops.hardtanh, 1, _bounds, True), "relu": unaries["relu"],
    "threshold": Activation("threshold", ops.threshold, 1, _limit, True),
    "elu": Activation("elu", ops.elu, 1, _elu),
    **{name: Activation(name, getattr(ops, name), 1) for name in """leaky_relu hardshrink softshrink hardsigmoid
       hardswish silu mish softplus log_sigmoid gelu gelu_tanh""".split()},
    "glu": Activation("glu", ops.glu, 2), "prelu": Activation("prelu", ops.prelu, 2),
}
backward: dict[str, Any] = {
    "hardtanh": Activation("hardtanh_backward", ops.hardtanh_backward, 2, _bounds, True),
    "threshold": Activation("threshold_backward", ops.threshold_backward, 2, _limit_alone, True),
    "hardshrink": Activation("hardshrink_backward", ops.shrink_backward, 2),
    "softshrink": Activation("softshrink_backward", ops.shrink_backward, 2),
    "elu": Activation("elu_backward", ops.elu_backward, 2, _elu_backward),
    "elu_of_result": Activation("elu_of_result_backward", ops.elu_of_result_backward, 2, _elu),
    **{name: Activation(name + "_backward", getattr(ops, name + "_backward"), 2) for name in """leaky_relu hardsigmoid
       hardswish silu mish softplus log_sigmoid gelu gelu_tanh prelu_weight""".split()},
    "prelu": Activation("prelu_backward", ops.prelu_backward, 3),
}


def cases() -> Iterator[Case]:
    """What is shipped: every function in bfloat16, some in the other dtypes."""
    for table, arrays in ((forward, 1), (backward, 2)):
        for name, found in table.items():
            if not isinstance(found, Activation) or found.arrays > 2:
                continue
            count = 0 if found.constants is None else 3
            count = {"hardtanh": 2, "threshold": 3 - arrays, "leaky_relu": 1, "hardshrink": 1, "softshrink": 1,
                     "softplus": 2}.get(name, count)
            for dtype in ("bf16", "fp32", "fp16", "fp64") if name in ("gelu", "silu") else ("bf16",):
                yield flat_case(f"{name}{'_backward' * (arrays - 1)}", found.op, [dtype] * found.arrays, dtype, count,
                                family="activation")
