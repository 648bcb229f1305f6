"""How the launcher goes through arrays: which dimensions become one, in which order, flat or by tiles.

Dimensions of all operands together are sorted by the strides of the output and joined where every operand steps through
two of them as through one: stride[i] = size[i + 1] * stride[i + 1]. If one is left and nobody jumps in it, the arrays
are flat. Else the last one becomes the columns of tiles and the others, taken together, their rows; or, where another
operand is dense along another dimension, that dimension alone (``crossed``).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.triton.elementwise_kernels import FEW, MANY
from tritium.kernels.triton.strided import LIMIT, power

EMULATED_BLOCK = 16384

Shape = tuple[int, ...]

_forced = 0
_resets: list[Callable[[], None]] = []


def block_size(itemsize: int, heavy: int = 1) -> int:
    """Elements that one program works on, for dtypes up to this size; ``heavy``: as many times fewer than 1024, for ops
    that need many registers."""
    return _forced or (EMULATED_BLOCK if runtime.active().emulated else 2048 if itemsize <= 2 and heavy == 1
                       else 1024 // heavy)


def force_block_size(n: int) -> None:
    """Make every program work on ``n`` elements (a power of 2), for tests; 0: as usual."""
    global _forced
    _forced = n
    for reset in _resets:
        reset()


def on_reset(reset: Callable[[], None]) -> None:
    """Name a function that forgets what was remembered with another block size."""
    _resets.append(reset)


class Plan:
    """How operands of these shapes and strides are gone through. ``shape`` and ``strides`` (one list per output, in
    bytes) are the outputs'; ``flat``: one dimension of ``count`` elements, ``spread`` the inputs that have one element
    for all of them (bits); else ``numbers``, the sizes and strides for the tile kernels, ``grid`` and ``constants``;
    ``parts``: the indices to go through one by one where there are more dimensions than a kernel takes."""

    __slots__ = ("shape", "strides", "flat", "count", "spread", "numbers", "grid", "constants", "parts", "block")

    def __init__(self, shape: Shape, strides: list[Shape]) -> None:
        self.shape, self.strides = shape, strides
        self.flat, self.count, self.spread, self.grid, self.parts, self.block = True, 0, 0, 0, 0, 1
        self.numbers: list[int] = []
        self.constants: dict[str, Any] = {}


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape that arrays of these shapes broadcast to. Raises ValueError where there is none."""
    first = shapes[0]
    for s in shapes:
        if s != first:
            break
    else:
        return first
    rank = max(map(len, shapes))
    out = [1] * rank
    for s in shapes:
        for d, n in enumerate(s, rank - len(s)):
            if n != 1 and n != out[d]:
                if out[d] != 1:
                    raise ValueError("operands could not be broadcast together with shapes "
                                     + " ".join(str(s).replace(" ", "") for s in shapes))
                out[d] = n
    return tuple(out)


def spread(shape: Shape, x: Shape, strides: Shape) -> Shape:
    """The strides of an operand of shape ``x`` that is broadcast to ``shape``: 0 where it repeats."""
    extra = len(shape) - len(x)
    return (0,) * extra + tuple([0 if m == 1 != n else s for m, n, s in zip(x, shape[extra:], strides, strict=True)])


def order_of(shape: Shape, strides: Sequence[Shape]) -> list[int]:
    """The dimensions, the slowest in memory first. Operands are asked in turn, the first with an opinion decides (not
    one with stride 0); where the order is open, dimensions follow one another as usual."""
    order = list(range(len(shape) - 1, -1, -1))
    for i in range(1, len(order)):
        at = i
        for before in range(i - 1, -1, -1):
            p, q = order[before], order[at]
            verdict = 0
            for one in strides:
                s, t = abs(one[p]), abs(one[q])
                if s and t and (s != t or shape[p] > shape[q]):
                    verdict = -1 if s < t else 1
                    break
            if verdict > 0:
                order[before], order[at] = q, p
                at = before
            elif verdict < 0:
                break
    return order[::-1]


def dense_in(order: list[int], shape: Shape, itemsize: int) -> Shape:
    """The strides of a dense array whose dimensions lie in this order in memory."""
    out, step = [0] * len(shape), itemsize
    for d in reversed(order):
        out[d] = step
        step *= max(shape[d], 1)
    return tuple(out)


def make_plan(inputs: Sequence[tuple[Shape, Shape, int]], outputs: Sequence[tuple[Shape, Shape | None, int]],
              usual: bool, heavy: int) -> Plan:
    """The plan for inputs and outputs given by (shape, strides, item size); outputs may still lack shape and strides.

    ``usual``: new outputs are C-contiguous whatever the inputs' order. Raises ValueError where shapes do not fit."""
    shape = broadcast([x[0] for x in inputs])
    given = outputs[0][1]
    if given is not None and outputs[0][0] != shape:
        if broadcast([outputs[0][0], shape]) != outputs[0][0]:
            raise ValueError(f"non-broadcastable output operand with shape {outputs[0][0]} doesn't match the broadcast "
                             f"shape {shape}")
        shape = outputs[0][0]
    steps = [spread(shape, x, s) for x, s, _ in inputs]
    order = list(range(len(shape))) if usual else order_of(shape, steps if given is None else [given, *steps])
    targets = [dense_in(order, shape, size) if s is None else s for _, s, size in outputs]
    plan = Plan(shape, targets)
    plan.count = math.prod(shape)
    plan.block = block_size(max(size for _, _, size in [*inputs, *outputs]), heavy)
    if not plan.count:
        return plan
    sizes = [x[2] for x in outputs] + [x[2] for x in inputs]
    dims: list[tuple[int, list[int]]] = []  # size, strides in elements of the outputs and the inputs; slowest first
    for d in order:
        n = shape[d]
        if n == 1:
            continue
        own = [s[d] // size for s, size in zip([*targets, *steps], sizes, strict=True)]
        if dims and all([p == s * n for p, s in zip(dims[-1][1], own, strict=True)]):
            dims[-1] = (dims[-1][0] * n, own)
        else:
            dims.append((n, own))
    if not dims:
        dims = [(1, [1] * len(sizes))]
    if len(dims) == 1 and all(s == 1 for s in dims[0][1][:len(outputs)]) and all(
            s in (0, 1) for s in dims[0][1][len(outputs):]):
        plan.spread = sum(1 << i for i, s in enumerate(dims[0][1][len(outputs):]) if s == 0)
        return plan
    _tile(plan, dims, len(outputs), min(sizes), len(inputs))
    return plan


def _tile(plan: Plan, dims: list[tuple[int, list[int]]], outputs: int, least: int, inputs: int) -> None:
    """Complete a plan for the tile kernels."""
    plan.flat = False
    most = FEW if outputs == 1 and inputs <= 2 else MANY
    if len(dims) > most:
        plan.parts = 1
        return
    columns, inner = dims[-1]
    rows = dims[:-1][::-1] or [(1, [0] * len(inner))]  # the fastest first
    crossed = 0
    if columns >= 16:  # another operand may be dense along another dimension: the tile goes over both
        for i, (n, own) in enumerate(rows):
            if n >= 16 and any(s == 1 and t not in (0, 1) for s, t in zip(own, inner, strict=True)):
                rows.insert(0, rows.pop(i))
                crossed = 1
                break
    height = rows[0][0] if crossed else math.prod([n for n, _ in rows])
    batch = math.prod([n for n, _ in rows[1:]]) if crossed else 1
    br, bc = _tile_shape(height, columns, plan.block, crossed, least)
    wide = [i for i, s in enumerate(inner) if s == 1]
    step = 1
    for k in (8, 4):
        if columns % k == 0 and all(own[i] % k == 0 for _, own in rows for i in wide):
            step = k
            break
    layout = 0
    for i, s in enumerate(inner):
        kind = s if s in (0, 1) else 2
        if kind and all(own[i] == 0 for _, own in rows):
            kind += 2  # one row for all
        elif kind == 2 and crossed and rows[0][1][i] == 1:
            kind = 5
        layout |= kind << 3 * i
    reach = [sum((n - 1) * abs(own[i]) for n, own in dims) for i in range(len(inner))]
    blocks = (-(-height // br), -(-columns // bc))
    plan.grid = blocks[0] * blocks[1] * batch
    extents = [n for n, _ in rows[:most - 2]]
    plan.numbers = [columns // step, height, blocks[1], blocks[0], *extents, *[1] * (most - 2 - len(extents))]
    for i, s in enumerate(inner):
        own = [d[1][i] // step if s == 1 else d[1][i] for d in rows]
        plan.numbers += [s, *own, *[0] * (most - 1 - len(own))]
    if most == FEW and inputs == 1:
        plan.numbers += [0] * most
    elif most == MANY:
        missing = [[0] * MANY] * (3 - outputs)
        k = 4 + MANY - 2 + MANY * outputs
        plan.numbers[k:k] = [n for m in missing for n in m]
        plan.numbers += [0] * (MANY * (5 - inputs))
        low = layout & (1 << 3 * outputs) - 1
        layout = low | layout >> 3 * outputs << 9
    plan.constants = {"RANK": len(rows), "CROSSED": crossed, "STEP": step, "LAYOUT": layout, "BR": br, "BC": bc,
                      "LONG": max(*reach, plan.count) >= LIMIT}


def _tile_shape(rows: int, columns: int, block: int, crossed: int, least: int) -> tuple[int, int]:
    """Rows and columns of a tile of ``block`` elements: few different shapes, and little of it outside the array."""
    if crossed:
        side = 32 if block < 4096 else 64
        return (min(block // side, power(rows)), side) if least > 2 or _forced else (64, 64)
    if block >= EMULATED_BLOCK:
        width = min(power(columns), 4096)
        return min(power(rows), block // width), width
    widths = [w for w in (block, 256, 64, 16, 4) if w <= block]
    if rows == 1:
        return 1, block
    padded = {w: -(-columns // w) * w for w in widths}
    width = next((w for w in widths if padded[w] <= 1.5 * columns), min(widths, key=lambda w: (padded[w], -w)))
    return block // width, width
