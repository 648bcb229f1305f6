"""How the problems that are tuned are run: by the functions that a program calls, on arrays of a problem's sizes."""
from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from tritium.kernels.array import DeviceArray
from tritium.kernels.precision import precision
from tritium.kernels.triton import conv, conv_configs, conv_grad, copy, matmul, matmul_configs
from tritium.kernels.triton.memory import empty, from_host
from tritium.kernels.tuning.problems import Problem

DTYPES = {"bf16": np.dtype(ml_dtypes.bfloat16), "fp16": np.dtype(np.float16), "tf32": np.dtype(np.float32),
          "fp32": np.dtype(np.float32)}
PERIOD = 65521  # normal numbers that are made on the host and repeated: a prime, so that rows differ
MODULES = (matmul, matmul_configs, conv, conv_configs, conv_grad)


def clear() -> None:
    """Forget every plan: what is asked for next asks for its configuration anew."""
    matmul.plans.clear()
    for module in (*MODULES, *_attention()):
        for value in list(vars(module).values()):
            if hasattr(value, "cache_clear") and getattr(value, "__module__", "") == module.__name__:
                value.cache_clear()


@contextlib.contextmanager
def rounding(problem: Problem) -> Iterator[None]:
    """Inside, float32 is multiplied as the problem says."""
    before = precision.float32_matmul, precision.conv_tf32
    tf32 = problem.dtype == "tf32"
    precision.float32_matmul, precision.conv_tf32 = "high" if tf32 else "highest", tf32
    try:
        yield
    finally:
        precision.float32_matmul, precision.conv_tf32 = before


def normal(shape: tuple[int, ...], dtype: Any, fill: bool, seed: int) -> DeviceArray:
    """A contiguous array of normal numbers; of anything unless ``fill``."""
    out = empty(shape, dtype)
    if fill:
        count = math.prod(shape)
        numbers = from_host(np.random.default_rng(seed).standard_normal(min(count, PERIOD)).astype(dtype))
        flat = out.reshape(-1)
        whole = count // numbers.size * numbers.size
        rows = flat[:whole].reshape(-1, numbers.size)
        copy.copy_into(rows, numbers.look(numbers.ptr, rows.shape, (0, numbers.itemsize)))
        if whole < count:
            copy.copy_into(flat[whole:], numbers[:count - whole])
    return out


def operands(problem: Problem, fill: bool = True, seed: int = 0) -> list[Any]:
    """What the problem is computed of; images and weights of convolutions lie in channels_last."""
    dtype = DTYPES[problem.dtype]

    def make(*shape: int, dtype: Any = dtype) -> DeviceArray:
        nonlocal seed
        seed += 1
        return normal(shape, dtype, fill, seed)

    if problem.family == "matmul":
        M, N, K = problem.shape
        a = make(K, M).T if problem.op[0] == "t" else make(M, K)
        return [a, make(N, K).T if problem.op[1] == "t" else make(K, N)]
    if problem.family == "attention":
        shape = problem.shape[:4]
        found: list[Any] = [make(*shape) for _ in range(3)]
        if problem.op == "backward":
            logsumexp = make(*shape[:3], dtype=np.dtype(np.float32))
            logsumexp.fill(float(np.log(shape[2])) + 0.5)  # of normal scores: weights that sum to about 1
            found += [make(*shape), make(*shape), logsumexp]
        return found
    N, C, H, W, O, kernel, stride, padding, groups = problem.shape
    out = [(n + 2 * padding - kernel) // stride + 1 for n in (H, W)]
    last = (0, 3, 1, 2)
    weight = make(O, kernel, kernel, C // groups).transpose(last)
    if problem.op == "dgrad":
        return [make(N, *out, O).transpose(last), weight]
    x = make(N, H, W, C).transpose(last)
    if problem.op == "wgrad":
        return [x, make(N, *out, O).transpose(last)]
    if problem.op == "forward":
        return [x, conv.prepare(weight, groups)]
    scaled = conv.prepare(weight, groups, make(O, dtype=np.dtype(np.float32)))
    shift = make(O, dtype=np.dtype(np.float32))
    return [x, scaled, shift, *([make(N, *out, O).transpose(last)] if problem.op == "residual" else [])]


def run(problem: Problem, given: list[Any]) -> list[DeviceArray]:
    """The results of a problem."""
    with rounding(problem):
        if problem.family == "matmul":
            a, b = given
            return [matmul.product(a, b, tf32=problem.dtype == "tf32")]
        if problem.family == "attention":
            return _attention_results(problem, given)
        *_, H, W, _, kernel, stride, padding, groups = problem.shape
        steps, pads, ones = (stride, stride), (padding,) * 4, (1, 1)
        x, weight, *more = given
        if problem.op == "dgrad":
            return [conv_grad.conv2d_input(x, weight, (H, W), steps, pads, ones, groups)]
        if problem.op == "wgrad":
            return [conv_grad.conv2d_weight(x, weight, (kernel, kernel), steps, pads, ones, groups)]
        bias = more[0] if more else None
        return [conv.conv2d(x, weight, bias, steps, pads, ones, groups, residual=more[1] if len(more) > 1 else None,
                            activation="relu" if more else None)]


def moved(problem: Problem) -> int:
    """Bytes of the operands and the result."""
    item = DTYPES[problem.dtype].itemsize
    if problem.family == "matmul":
        M, N, K = problem.shape
        return (M * K + K * N + M * N) * item
    if problem.family == "attention":
        return 4 * math.prod(problem.shape[:4]) * item
    N, C, H, W, O, kernel, stride, padding, groups = problem.shape
    out = math.prod([(n + 2 * padding - kernel) // stride + 1 for n in (H, W)])
    return (N * (C * H * W + O * out * (1 + (problem.op == "residual"))) + O * C // groups * kernel * kernel) * item


def tolerance(problem: Problem) -> tuple[float, float]:
    """How far two right results may be apart: of the element, and of the largest element."""
    if problem.family == "attention":  # the weights are rounded before they are multiplied
        return 2.0 ** -5, 4e-3
    return {"bf16": (2.0 ** -6, 1e-4), "fp16": (2.0 ** -9, 1e-4)}.get(problem.dtype, (1e-5, 2e-5))


# --- attention, where there are kernels for it ---

def _attention() -> list[Any]:
    """The modules of attention; none where they are missing."""
    try:
        return [importlib.import_module(f"tritium.kernels.triton.{name}") for name in ("attention",
                                                                                       "attention_configs")]
    except ImportError:
        return []


def has_attention() -> bool:
    """Whether there are kernels of attention."""
    return bool(_attention())


def _attention_results(problem: Problem, given: list[Any]) -> list[DeviceArray]:
    attention = _attention()[0]
    *_, width, causal = problem.shape
    q, k, v, *more = given
    if problem.op == "forward":
        return [attention.forward(q, k, v, None, bool(causal), width ** -0.5, None)[0]]
    g, out, logsumexp = more
    needs = (True, True, True, False)
    return list(attention.backward(g, q, k, v, None, out, logsumexp, bool(causal), width ** -0.5, None, needs)[:3])
