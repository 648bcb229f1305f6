"""Products of matrices and vectors: what is multiplied how.

    out = act(alpha * (a @ b) + beta * c)

The shapes follow NumPy's ``matmul``. A matrix is taken as it lies, by rows or by columns, batches by their stride (0
where they are broadcast); only other layouts are copied first. A product with one row or one column reads the matrix
once (``gemv``); every other one goes in tiles (``gemm``, on Hopper ``gemm_persistent`` for large ones), with K split
where the tiles are few. float32 is multiplied in float32 unless ``precision`` allows TF32; float16 and bfloat16 by
matrix instructions with float32 sums, rounded once; integers wrap around.

A product's plan (kernels, configuration, numbers) is made once for each combination of shapes and layouts.
"""
from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
import triton.language as tl

from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.precision import precision
from tritium.kernels.triton import matmul_configs as configs
from tritium.kernels.triton import matmul_kernels as kernels
from tritium.kernels.triton.matmul_cases import cases as cases
from tritium.kernels.triton.matmul_configs import HALF, INTEGER, TF32
from tritium.kernels.triton.memory import broadcast_to, empty

ACTIVATIONS = {name: getattr(kernels, name) for name in ("relu", "gelu", "gelu_tanh", "sigmoid", "silu", "tanh")}
HEAVY = (kernels.gelu, kernels.gelu_tanh, kernels.tanh)
GROUP = 8  # rows of tiles that run together
LIMIT = 2**31 - 2**16  # offsets inside a tile below it are counted in 32 bits
PADDED = 1 << 27  # multiplications from which a copy with aligned rows pays
DIRECT = 4096  # rows or columns from which TF32 operands are copied to lie along K, the only way Hopper multiplies them
COMBINE = 1024


# --- what other families call ---------------------------------------------------------------------

def matmul(a: DeviceArray, b: DeviceArray) -> DeviceArray:
    """NumPy's matmul rules (vectors, matrices, broadcast batches), one dtype.

    Raises ValueError for shapes that do not fit."""
    return product(a, b)


def addmm(c: DeviceArray, a: DeviceArray, b: DeviceArray, beta: Any, alpha: Any) -> DeviceArray:
    """``beta * c + alpha * (a @ b)``; ``c`` broadcasts; with beta 0 what is in ``c`` does not count."""
    return product(a, b, c, beta, alpha)


def dot(a: DeviceArray, b: DeviceArray) -> DeviceArray:
    """The product of two vectors."""
    return product(a, b)


def linear(x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None = None, activation: Any = None) -> DeviceArray:
    """``activation(x @ weight.T + bias)``: (*, in) with a weight of (out, in) to (*, out).

    ``activation``: None, a name of ``ACTIVATIONS`` or a jit function of one float32 block, applied before rounding.
    Raises ValueError for another name."""
    act = kernels.none if activation is None else ACTIVATIONS.get(activation, activation)
    if isinstance(act, str):
        raise ValueError(f"linear: no activation is called {act}")
    return product(x, weight.T, bias, act=act)


def product(a: DeviceArray, b: DeviceArray, c: Any = None, beta: Any = 1, alpha: Any = 1,
            act: Any = kernels.none, tf32: bool | None = None) -> DeviceArray:
    """``act(alpha * (a @ b) + beta * c)``, rounded once. ``tf32``: what counts in place of ``precision``, if not None.

    Raises ValueError for shapes that do not fit, DeviceMismatch for NumPy arrays, NoKernel for complex numbers."""
    if tf32 is None:
        tf32 = precision.tf32
    try:
        key = (a.dtype, a.shape, a.strides, b.shape, b.strides, (a.ptr | b.ptr) & 15, a.owner.device, b.dtype,
               None if c is None else (c.dtype, c.shape, c.strides), beta, alpha, act, tf32)
        plan = plans.get(key)
    except (AttributeError, TypeError):  # not on the device, or factors in arrays
        _check(a, b, c)
        arrays = (np.ndarray, DeviceArray)
        if not isinstance(beta, arrays) and not isinstance(alpha, arrays):
            raise
        return product(a, b, c, beta.item() if isinstance(beta, arrays) else beta,
                       alpha.item() if isinstance(alpha, arrays) else alpha, act, tf32)
    if plan is None:
        plan, a, b, c = _plan(a, b, c, beta, alpha, act, tf32)
        if plan.kept:
            if len(plans) >= PLANS:
                plans.clear()
            plans[key] = plan
    out = empty(plan.shape, a.dtype, a.owner.device)
    if plan.variant is None:
        return out
    if plan.swapped:
        a, b = b, a
    if c is None or not plan.adds:
        c = out
    if plan.second is None:
        plan.variant(plan.programs, plan.parts, 1, a, b, c, out, *plan.numbers)
    else:
        sums = empty((plan.parts * out.size,), plan.sums, out.owner.device)
        plan.variant(plan.programs, plan.parts, 1, a, b, sums, sums, *plan.numbers)
        plan.second(-(-out.size // COMBINE), 1, 1, sums, c, out, *plan.second_numbers)
    return out


class Plan(NamedTuple):
    """How a product is launched, for operands of one shape and layout. Kernels take (a, b, c, out, numbers).

    ``kept``: the operands are taken as they lie, so that the plan serves again; ``swapped``: ``b`` comes first;
    ``second``: what adds up the parts of K, of dtype ``sums``."""

    shape: tuple[int, ...]
    variant: Any = None
    programs: int = 0
    parts: int = 1
    numbers: tuple[int, ...] = ()
    second: Any = None
    second_numbers: tuple[int, ...] = ()
    sums: Any = None
    adds: bool = False
    swapped: bool = False
    kept: bool = True


PLANS = 4096
plans: dict[Any, Plan] = {}


def _check(*operands: Any) -> None:
    for x in operands:
        if x is not None and not isinstance(x, DeviceArray):
            raise DeviceMismatch()


def _plan(a: DeviceArray, b: DeviceArray, c: Any, beta: Any, alpha: Any, act: Any,
          tf32: bool) -> tuple[Plan, DeviceArray, DeviceArray, Any]:
    """The plan of a product, and the operands that go with it: the same memory, or copies."""
    _check(a, b, c)
    for x in (a, b) if c is None else (a, b, c):
        if x.dtype != a.dtype:
            raise TypeError(f"matmul: one dtype was expected, found {a.dtype} and {x.dtype}")
    if a.dtype.kind == "c":
        raise NoKernel("matmul of complex numbers has no Triton kernel: not implemented for cuda tensors")
    if not a.shape or not b.shape:
        raise ValueError("matmul: Input operand does not have enough dimensions")
    left = a[None] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    (M, K), (inner, N) = left.shape[-2:], right.shape[-2:]
    if inner != K:
        raise ValueError(f"matmul: Input operand 1 has a mismatch in its core dimension 0 (size {inner} is different "
                         f"from {K})")
    if max(M, N) > LIMIT:
        raise NoKernel("matmul with 2**31 rows or columns")
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    shape = (*batch, *((M,) if a.ndim > 1 else ()), *((N,) if b.ndim > 1 else ()))
    factors = Factors.of(a.dtype, alpha, beta)
    c = _addend(c, shape, (*batch, M, N)) if c is not None and beta != 0 else None
    if 0 in shape:
        return Plan(shape), a, b, c
    count = math.prod(batch)
    whole = count == math.prod(left.shape[:-2]) and math.prod(right.shape[:-2]) == 1 and count * M <= LIMIT
    if whole and (c is None or c.ndim == 1):
        flat = left.as_shape((1, count * M, K))  # a batch times one matrix is one larger product
        if flat is not None:
            left, M, count, batch = flat, count * M, 1, ()
            right = right.reshape(1, K, N)
    if left.ndim != 3 or left.shape[0] != count:
        left = broadcast_to(left, (*batch, M, K)).reshape(count, M, K)
    if right.ndim != 3 or right.shape[0] != count:
        right = broadcast_to(right, (*batch, K, N)).reshape(count, K, N)
    end = End.of(c, count, M, N, act, factors)
    if (M == 1 or N == 1) and K:
        plan, x, y = _vector(left, right, end, a.itemsize)
    else:
        plan, x, y = _tiled(left, right, end, a.itemsize, configs.kind_of(a.dtype, tf32))
    kept = x.owner is a.owner and y.owner is b.owner and (c is None or end.c.owner is c.owner)
    return plan._replace(shape=shape, adds=c is not None, kept=kept), x, y, end.c


# --- the end of a product: factors, addend, activation ----------------------------------------------

class Factors(NamedTuple):
    """alpha and beta as 64 bits, and the kind of the sums."""

    alpha: int
    beta: int
    scale: bool
    sums: Any

    @classmethod
    def of(cls, dtype: Any, alpha: Any, beta: Any) -> Factors:
        """The factors in the arithmetic of a dtype. Raises OverflowError for a factor that an integer dtype lacks."""
        if dtype.kind in "iub":
            numbers = [int(dtype.type(x)) for x in (alpha, beta)]
            wrapped = [n - (1 << 64) if n >= 1 << 63 else n for n in numbers]
            return cls(wrapped[0], wrapped[1], alpha != 1, np.dtype(np.int64 if dtype.itemsize == 8 else np.int32))
        bits = struct.unpack("qq", struct.pack("dd", float(alpha), float(beta)))
        return cls(bits[0], bits[1], alpha != 1, np.dtype(np.float64 if dtype.itemsize == 8 else np.float32))


SUMS = {np.dtype(np.float32): tl.float32, np.dtype(np.float64): tl.float64, np.dtype(np.int32): tl.int32,
        np.dtype(np.int64): tl.int64}


class End(NamedTuple):
    """What happens to the sums. ``add``: "", "row" (a vector of N), "matrix" (rows of neighbours) or "strided"."""

    add: str
    c: Any
    batch: int
    rows: int
    columns: int  # strides of c in elements
    act: Any
    factors: Factors

    @classmethod
    def of(cls, c: Any, count: int, M: int, N: int, act: Any, factors: Factors) -> End:
        if c is None:
            return cls("", None, 0, 0, 0, act, factors)
        item = c.itemsize
        if c.ndim == 1:
            step = c.strides[0] // item if N > 1 else 1
            return cls("row" if step == 1 else "strided", c, 0, 0, step, act, factors)
        c = c.reshape(count, M, N) if c.ndim != 3 or c.shape != (count, M, N) else c
        s, m, n = (x // item for x in c.strides)
        s, m, n = s if count > 1 else 0, m if M > 1 else 0, n if N > 1 else 1
        add = "strided" if n != 1 else "matrix" if s or m else "row"
        return cls(add, c, s, m, n, act, factors)

    def nothing(self) -> End:
        """The end of one part of a product: the sums as they are."""
        return End("", None, 0, 0, 0, kernels.none, self.factors._replace(scale=False))


def _addend(c: DeviceArray, shape: tuple[int, ...], full: tuple[int, ...]) -> DeviceArray:
    """``c`` as a vector of N, or as an array of the full shape, (..., M, N), by broadcasting.

    Raises ValueError where it does not broadcast to ``shape``, the shape of the result."""
    if c.ndim == 1 and shape and shape[-1:] == full[-1:] == c.shape and len(shape) == len(full):
        return c
    c = broadcast_to(c, shape)
    # the dimension that a vector operand lacks has size 1
    return c if shape == full else c.look(c.ptr, *_with_ones(c, full))


def _with_ones(c: DeviceArray, full: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    strides, left = [], list(zip(c.shape, c.strides, strict=True))
    missing = len(full) - len(left)
    for d, n in enumerate(full):
        if missing and n == 1 and d >= len(full) - 2:
            strides.append(0)
            missing -= 1
        else:
            strides.append(left.pop(0)[1])
    return full, tuple(strides)


# --- operands ---------------------------------------------------------------------------------------

class Operand(NamedTuple):
    """A batch of matrices. ``rows``: the elements of a row are neighbours, and ``lead`` is the step from row to row;
    else those of a column. Steps in elements; ``unit``: what divides them."""

    array: DeviceArray
    rows: bool
    lead: int
    batch: int
    unit: int

    @classmethod
    def of(cls, x: DeviceArray) -> Operand:
        """A matrix as it lies, copied where neither rows nor columns are of neighbours."""
        item = x.itemsize
        count, R, C = x.shape
        across, down = x.strides[2], x.strides[1]
        if across == item and not (C == 1 and down == item):
            rows, lead = True, down if R > 1 else C * item
        elif down == item:
            rows, lead = False, across if C > 1 else R * item
        elif C == 1:
            rows, lead = True, down if R > 1 else item
        elif R == 1:
            rows, lead = False, across
        else:
            return cls.of(x.copy())
        step = x.strides[0] if count > 1 else 0
        wide = lead % 16 == 0 and step % 16 == 0 and x.ptr % 16 == 0
        return cls(x, rows, lead // item, step // item, 16 // item if wide else 1)

    def along(self, K: int, axis: int) -> Operand:
        """A copy whose neighbours lie along K (dimension ``axis`` of the two), in rows of whole vectors, filled with
        zeros."""
        from tritium.kernels.triton.copy import copy_into

        x = self.array if axis == 1 else self.array.swapaxes(1, 2)
        count, R, _ = x.shape
        unit = 16 // x.itemsize
        whole = -(-K // unit) * unit
        made = empty((count, R, whole), x.dtype, x.device)
        copy_into(made[:, :, :K], x)
        if whole > K:
            made[:, :, K:].fill(0)
        return Operand(made, axis == 1, whole, R * whole, unit)


def _aligned(a: Operand, b: Operand, M: int, N: int, K: int, count: int, kind: str, target: Any) -> tuple[Any, ...]:
    """Both operands, copied where that lets a large product read whole vectors, and the K to go through."""
    if kind not in (HALF, TF32) or count * M * N * K < PADDED or min(M, N) < 64:
        return a, b, K
    unit = 16 // a.array.itemsize
    if K % unit and (a.rows or not b.rows):  # a row of K does not end with a vector
        a, b = a.along(K, 1), b.along(K, 0)
        return a, b, a.lead
    hopper = kind == TF32 and target.architecture == 90
    fits_a = a.unit > 1 and (a.rows or M % unit == 0)
    fits_b = b.unit > 1 and (not b.rows or N % unit == 0)
    if K % unit == 0:
        if not fits_a or hopper and not a.rows and N >= DIRECT:
            a = a.along(K, 1)
        if not fits_b or hopper and b.rows and M >= DIRECT:
            b = b.along(K, 0)
    return a, b, K


# --- plans ------------------------------------------------------------------------------------------

def _tiled(left: DeviceArray, right: DeviceArray, end: End, item: int,
           kind: str) -> tuple[Plan, DeviceArray, DeviceArray]:
    """``gemm`` or ``gemm_persistent``, and ``combine`` for split K."""
    count, M, K = left.shape
    N = right.shape[2]
    active = runtime.active()
    target, hip = active.properties(left.device), active.target == "hip"
    a, b = Operand.of(left), Operand.of(right)
    if not active.emulated:
        a, b, K = _aligned(a, b, M, N, K, count, kind, target)
    unit = 16 // item
    un = unit if N % unit == 0 else 1
    copied = (count == 1 and kind in (HALF, TF32) and un > 1 and end.add in ("", "row")
              and _described(a, K if a.rows else M) and _described(b, N if b.rows else K))
    vectors = (a.unit > 1 and b.unit > 1 and (K % unit == 0 or not a.rows and b.rows)
               and (a.rows or M % unit == 0) and (not b.rows or un > 1))
    tile, parts = configs.choose(kind, item, M, N, K, count, target, hip, active.emulated, vectors, copied and vectors,
                                 end.act in HEAVY or end.add == "strided", "TN"[a.rows] + "TN"[b.rows])
    multiplied = "sum" if kind == INTEGER else "tf32" if kind == TF32 else "ieee"
    shared = dict(BM=tile.m, BN=tile.n, BK=tile.k, GROUP=GROUP, A_ROWS=a.rows, B_ROWS=b.rows, UA=a.unit, UB=b.unit,
                  UN=un, PRECISION=multiplied, num_warps=tile.warps, num_stages=tile.stages)
    tiles = -(-M // tile.m) * -(-N // tile.n) * count
    numbers: tuple[int, ...]
    if tile.persistent:
        variant = kernels.gemm_persistent.bind(ADD=end.add, SCALE=end.factors.scale, ACT=end.act, **shared)
        numbers = (M, N // un, K, a.lead // a.unit, b.lead // b.unit, end.factors.alpha, end.factors.beta)
        return Plan((), variant, min(tiles, target.multi_processor_count), 1, numbers), a.array, b.array
    steps = max(1, -(-K // tile.k))
    blocks = -(-steps // parts)
    parts = -(-steps // blocks)
    last = end.nothing() if parts > 1 else end
    uc = un if last.add == "matrix" and last.rows % un == 0 and last.batch % un == 0 else 1
    um = unit if not a.rows and M % unit == 0 else 1
    uk = unit if K % unit == 0 else 1
    wide = max(abs(a.lead), abs(b.lead), N) * max(tile.m, tile.n, tile.k) > LIMIT
    variant = kernels.gemm.bind(
        UM=um, UK=uk, UC=uc, EVEN_MN=M % tile.m == 0 and N % tile.n == 0, EVEN_K=K % tile.k == 0, ADD=last.add,
        SCALE=last.factors.scale, ACT=last.act, ACC=SUMS[end.factors.sums], WIDE=wide, **shared)
    numbers = (M // um, N // un, K // uk, a.lead // a.unit, b.lead // b.unit, last.rows // uc, last.columns,
               a.batch // a.unit, b.batch // b.unit, last.batch // uc, count * M * N // un, blocks, last.factors.alpha,
               last.factors.beta)
    plan = Plan((), variant, tiles, parts, numbers)
    return (_combined(plan, end, count, M, N) if parts > 1 else plan), a.array, b.array


def _described(x: Operand, across: int) -> bool:
    """Whether the copy engine can take a matrix: whole vectors from row to row, rows that do not overlap."""
    return x.unit > 1 and x.lead >= across


def _vector(left: DeviceArray, right: DeviceArray, end: End, item: int) -> tuple[Plan, DeviceArray, DeviceArray]:
    """A product with one row or one column, with ``gemv``, and ``combine`` for split K."""
    count, M, K = left.shape
    N = right.shape[2]
    if N == 1:
        a, x, R, step, c_step = Operand.of(left), right, M, right.strides[1] // item, end.rows
    else:
        a, x, R, step, c_step = Operand.of(right.swapaxes(1, 2)), left, N, left.strides[2] // item, end.columns
    active = runtime.active()
    BR, BK, parts = configs.choose_vector(a.rows, item, R, K, count,
                                          active.properties(x.device).multi_processor_count, active.emulated)
    steps = -(-K // BK)
    blocks = -(-steps // parts)
    parts = -(-steps // blocks)
    last = end.nothing() if parts > 1 else end
    unit = 16 // item
    ur, uk = unit if R % unit == 0 and not a.rows else 1, unit if K % unit == 0 and a.rows else 1
    variant = kernels.gemv.bind(
        BR=BR, BK=BK, ROWS=a.rows, UA=a.unit, UR=ur, UK=uk, EVEN=R % BR == 0 and K % BK == 0, ADD=last.add != "",
        SCALE=last.factors.scale, ACT=last.act, ACC=SUMS[end.factors.sums], num_warps=4)
    numbers = (R // ur, K // uk, a.lead // a.unit, a.batch // a.unit, x.strides[0] // item if count > 1 else 0,
               last.batch, step, c_step, count * R, blocks, last.factors.alpha, last.factors.beta)
    plan = Plan((), variant, -(-R // BR) * count, parts, numbers, swapped=N != 1)
    if parts > 1:
        plan = _combined(plan, end, count, M, N)
    return (plan, a.array, x) if N == 1 else (plan, x, a.array)


def _combined(plan: Plan, end: End, count: int, M: int, N: int) -> Plan:
    """A plan with the sum of its parts."""
    total = count * M * N
    unit = 4 if total % 4 == 0 else 1
    second = kernels.combine.bind(BLOCK=COMBINE, UNIT=unit, ADD=end.add != "", SCALE=end.factors.scale, ACT=end.act,
                                  num_warps=4)
    numbers = (total // unit, M, N, end.rows, end.columns, end.batch, plan.parts, end.factors.alpha, end.factors.beta)
    return plan._replace(second=second, second_numbers=numbers, sums=end.factors.sums)
