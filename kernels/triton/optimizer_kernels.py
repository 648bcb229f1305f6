"""The kernels of ``optimizer.py``: one launch works on a list of arrays.

    table    int64, rows of ``tensors`` numbers: how many elements each array has, then the addresses of the arrays
    chunks   int64, one for each program: (which array) 2^32 + (which block of it)

An update takes matching blocks of a parameter, its state and its gradient, all of one dtype, and returns the new
parameter and state. 16-bit types are computed in float32 and rounded once. The operations and their order are those of
``reference/optimizer.py``; with products and sums that are not fused, float32 and float64 results have the same bits.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.pointwise_ops import quotient, sqrt
from tritium.kernels.triton.strided import convert

# what is on in an update: bits of HOW
MAXIMIZE: tl.constexpr = tl.constexpr(1)
DECAY: tl.constexpr = tl.constexpr(2)
DECOUPLED: tl.constexpr = tl.constexpr(4)  # the decay
MOMENTUM: tl.constexpr = tl.constexpr(8)
FRESH: tl.constexpr = tl.constexpr(16)  # the momentum buffer has no values yet
DAMPENED: tl.constexpr = tl.constexpr(32)
NESTEROV: tl.constexpr = tl.constexpr(64)
LARGEST: tl.constexpr = tl.constexpr(128)  # AMSGrad
RECTIFIED: tl.constexpr = tl.constexpr(256)
CENTERED: tl.constexpr = tl.constexpr(512)
COUNTED: tl.constexpr = tl.constexpr(1024)  # the steps are known on the device only


# --- what happens to one block: (values of the arrays, numbers) -> values to be written ---

@triton.jit
def gradient(p, g, decay, HOW: tl.constexpr):
    """The gradient to follow: negated to maximize, with L2 decay."""
    if DECAY & HOW:
        r = p * decay - g if MAXIMIZE & HOW else p * decay + g
    else:
        r = -g if MAXIMIZE & HOW else g
    return r


@triton.jit
def decayed(p, g, keep, decay, HOW: tl.constexpr):
    """The parameter and the gradient to follow, the decay of either kind."""
    if DECOUPLED & HOW:
        if DECAY & HOW:
            p = p * keep
        g = -g if MAXIMIZE & HOW else g
    else:
        g = gradient(p, g, decay, HOW)
    return p, g


@triton.jit
def mean_square(square, g, decay, rest):
    """decay square + (1 - decay) g^2"""
    return square * decay + g * rest * g


@triton.jit
def sgd(values, numbers, HOW: tl.constexpr):
    rate, momentum, damped, decay = numbers[0], numbers[1], numbers[2], numbers[3]
    p = values[0]
    if MOMENTUM & HOW:
        g = gradient(p, values[2], decay, HOW)
        if FRESH & HOW:
            b = g
        elif DAMPENED & HOW:
            b = values[1] * momentum + g * damped
        else:
            b = values[1] * momentum + g
        new = p + (g + b * momentum if NESTEROV & HOW else b) * rate
        result = (new, b)
    else:
        g = gradient(p, values[1], decay, HOW)
        result = (p + g * rate,)
    return result


@triton.jit
def adam(values, numbers, HOW: tl.constexpr):
    rate, rest1, beta2, rest2, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    decay, keep, correction = numbers[5], numbers[6], numbers[7]
    p, g = decayed(values[0], values[4 if LARGEST & HOW else 3], keep, decay, HOW)
    m = values[1] + (g - values[1]) * rest1
    v = mean_square(values[2], g, beta2, rest2)
    if LARGEST & HOW:
        top = tl.maximum(values[3], v, propagate_nan=tl.PropagateNan.ALL)
        new = p + quotient(m * rate, quotient(sqrt(top), tl.broadcast_to(correction, top.shape)) + eps)
        result = (new, m, v, top)
    else:
        new = p + quotient(m * rate, quotient(sqrt(v), tl.broadcast_to(correction, v.shape)) + eps)
        result = (new, m, v)
    return result


@triton.jit
def nadam(values, numbers, HOW: tl.constexpr):
    rate, rest1, beta2, rest2, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    decay, keep, correction, more = numbers[5], numbers[6], numbers[7], numbers[8]
    p, g = decayed(values[0], values[3], keep, decay, HOW)
    v = mean_square(values[2], g, beta2, rest2)
    d = sqrt(quotient(v, tl.broadcast_to(correction, v.shape))) + eps
    p = p + quotient(g * rate, d)
    m = values[1] + (g - values[1]) * rest1  # as late as this, or registers run out
    return p + quotient(m * more, d), m, v


@triton.jit
def radam(values, numbers, HOW: tl.constexpr):
    rate, rest1, beta2, rest2, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    decay, keep, correction, root, rectified = numbers[5], numbers[6], numbers[7], numbers[8], numbers[9]
    p, g = decayed(values[0], values[3], keep, decay, HOW)
    m = values[1] + (g - values[1]) * rest1
    v = mean_square(values[2], g, beta2, rest2)
    t = quotient(m, tl.broadcast_to(correction, m.shape)) * rate
    if COUNTED & HOW:
        t = tl.where(rectified > 0, t * quotient(tl.broadcast_to(root, v.shape), sqrt(v) + eps) * rectified, t)
    elif RECTIFIED & HOW:
        t = t * quotient(tl.broadcast_to(root, v.shape), sqrt(v) + eps) * rectified
    return p - t, m, v


@triton.jit
def adamax(values, numbers, HOW: tl.constexpr):
    rate, rest1, beta2, eps, decay = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    p = values[0]
    g = gradient(p, values[3], decay, HOW)
    m = values[1] + (g - values[1]) * rest1
    n = tl.maximum(values[2] * beta2, tl.abs(g) + eps, propagate_nan=tl.PropagateNan.ALL)
    return p + quotient(m * rate, n), m, n


@triton.jit
def rmsprop(values, numbers, HOW: tl.constexpr):
    rate, alpha, rest, eps, decay, momentum = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    p = values[0]
    g = gradient(p, values[2 + (1 if CENTERED & HOW else 0) + (1 if MOMENTUM & HOW else 0)], decay, HOW)
    v = mean_square(values[1], g, alpha, rest)
    more = ()
    if CENTERED & HOW:
        mean = values[2] + (g - values[2]) * rest
        d = sqrt(v - mean * mean) + eps
        more = (mean,)
    else:
        d = sqrt(v) + eps
    if MOMENTUM & HOW:
        b = values[2 + (1 if CENTERED & HOW else 0)] * momentum + quotient(g, d)
        new = p + b * rate
        more = more + (b,)
    else:
        new = p + quotient(g * rate, d)
    return (new, v) + more


@triton.jit
def adagrad(values, numbers, HOW: tl.constexpr):
    rate, eps, decay = numbers[0], numbers[1], numbers[2]
    p = values[0]
    g = gradient(p, values[2], decay, HOW)
    s = values[1] + g * g
    return p + quotient(g * rate, sqrt(s) + eps), s


@triton.jit
def adadelta(values, numbers, HOW: tl.constexpr):
    rate, rho, rest, eps, decay = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    p = values[0]
    g = gradient(p, values[3], decay, HOW)
    v = mean_square(values[1], g, rho, rest)
    d = quotient(sqrt(values[2] + eps), sqrt(v + eps)) * g
    return p + d * rate, v, mean_square(values[2], d, rho, rest)


@triton.jit
def lars(values, numbers, HOW: tl.constexpr):
    rate, momentum, decay, scale = numbers[0], numbers[1], numbers[2], numbers[3]
    p = values[0]
    g = gradient(p, values[2], decay, HOW) * scale
    b = values[1] * momentum + g
    return p + (g + b * momentum if NESTEROV & HOW else b) * rate, b


@triton.jit
def scaled(values, numbers, HOW: tl.constexpr):
    return (values[0] * numbers[0],)


# --- which block ---

@triton.jit
def chunk(table, chunks, BLOCK: tl.constexpr):
    """(which array, the first element of this program's block, how many there are from it on)."""
    code = tl.load(chunks + tl.program_id(0))
    which = code >> 32
    first = (code & 0xFFFFFFFF) * BLOCK
    return which, first, tl.load(table + which) - first


@triton.jit
def pointer(table, row, tensors, which, first, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """The address of element ``first`` of an array."""
    start = tl.load(table + row * tensors + which).to(tl.pointer_type(TYPE)) + first
    if ALIGNED:
        start = tl.multiple_of(start, 16)
    return start


@triton.jit
def fetched(start, left, ACC: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """A block in the type of the computation."""
    i = tl.arange(0, BLOCK)
    if MASKED:
        x = tl.load(start + i, mask=i < left, other=0)
    else:
        x = tl.load(start + i)
    return x.to(ACC)


@triton.jit
def work(places, numbers, scale, left, OP: tl.constexpr, HOW: tl.constexpr, COUNT: tl.constexpr, WRITTEN: tl.constexpr,
         SCALED: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """One block: what ``OP`` makes of the arrays, written to the first ones; SCALED: the last one, the gradient, is
    first divided by ``scale``, and written too."""
    values = ()
    for k in tl.static_range(COUNT):
        x = fetched(places[k], left, ACC, BLOCK, MASKED)
        if SCALED:
            if k == COUNT - 1:
                x = quotient(x, tl.broadcast_to(scale, x.shape))
        values = values + (x,)
    new = OP(values, numbers, HOW)
    if SCALED:
        new = new + (values[COUNT - 1],)
    i = tl.arange(0, BLOCK)
    for k in tl.static_range(WRITTEN + (1 if SCALED else 0)):
        place = places[k if k < WRITTEN else COUNT - 1]
        if MASKED:
            tl.store(place + i, convert(new[k], place.dtype.element_ty), mask=i < left)
        else:
            tl.store(place + i, convert(new[k], place.dtype.element_ty))


@triton.jit
def program(table, chunks, tensors, numbers, scale, OP: tl.constexpr, HOW: tl.constexpr, COUNT: tl.constexpr,
            WRITTEN: tl.constexpr, SCALED: tl.constexpr, TYPE: tl.constexpr, ACC: tl.constexpr, ALIGNED: tl.constexpr,
            BLOCK: tl.constexpr):
    """The program's block of COUNT arrays; all but the last one of an array are whole."""
    which, first, left = chunk(table, chunks, BLOCK)
    places = ()
    for k in tl.static_range(COUNT):
        places = places + (pointer(table, k + 1, tensors, which, first, TYPE, ALIGNED),)
    if left >= BLOCK:
        work(places, numbers, scale, left, OP, HOW, COUNT, WRITTEN, SCALED, ACC, BLOCK, False)
    else:
        work(places, numbers, scale, left, OP, HOW, COUNT, WRITTEN, SCALED, ACC, BLOCK, True)


# --- kernels ---

@kernel
def update(table, chunks, tensors: "i64", a: "fp64", b: "fp64", c: "fp64", d: "fp64", e: "fp64", f: "fp64", g: "fp64",
           h: "fp64", i: "fp64", j: "fp64", OP: tl.constexpr, HOW: tl.constexpr, COUNT: tl.constexpr,
           WRITTEN: tl.constexpr, TYPE: tl.constexpr, ACC: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """Arrays 0 to WRITTEN - 1 become OP(all arrays, numbers)."""
    numbers = (a.to(ACC), b.to(ACC), c.to(ACC), d.to(ACC), e.to(ACC), f.to(ACC), g.to(ACC), h.to(ACC), i.to(ACC),
               j.to(ACC))
    program(table, chunks, tensors, numbers, 1.0, OP, HOW, COUNT, WRITTEN, False, TYPE, ACC, ALIGNED, BLOCK)


@kernel
def update_counted(table, chunks, numbers, scale, found, tensors: "i64", OP: tl.constexpr, HOW: tl.constexpr,
                   COUNT: tl.constexpr, WRITTEN: tl.constexpr, SCALED: tl.constexpr, CHECKED: tl.constexpr,
                   TYPE: tl.constexpr, ACC: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """``update`` with the numbers of each array in device memory: ``numbers[array, 10]``, float64. CHECKED: nothing is
    done where ``found`` is not 0; SCALED: gradients are first divided by ``scale``, in place."""
    which = tl.load(chunks + tl.program_id(0)) >> 32
    read = ()
    for k in tl.static_range(10):
        read = read + (tl.load(numbers + which * 10 + k).to(ACC),)
    divisor = tl.load(scale).to(ACC) if SCALED else 1.0
    if CHECKED:
        if tl.load(found) == 0:
            program(table, chunks, tensors, read, divisor, OP, HOW, COUNT, WRITTEN, SCALED, TYPE, ACC, ALIGNED, BLOCK)
    else:
        program(table, chunks, tensors, read, divisor, OP, HOW, COUNT, WRITTEN, SCALED, TYPE, ACC, ALIGNED, BLOCK)


@kernel
def update_rated(table, chunks, lr, scale, found, tensors: "i64", a: "fp64", b: "fp64", c: "fp64", d: "fp64", e: "fp64",
                 f: "fp64", OP: tl.constexpr, HOW: tl.constexpr, COUNT: tl.constexpr, WRITTEN: tl.constexpr,
                 RATED: tl.constexpr, STEPS: tl.constexpr, SCALED: tl.constexpr, CHECKED: tl.constexpr,
                 TYPE: tl.constexpr, ACC: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """``update`` with up to six numbers. RATED: the first one is minus the number in ``lr``. STEPS, a type or None: the
    row of the table after the arrays' has the addresses of numbers that go up by one. CHECKED and SCALED: as above."""
    rate = -tl.load(lr).to(tl.float64) if RATED else a
    numbers = (rate.to(ACC), b.to(ACC), c.to(ACC), d.to(ACC), e.to(ACC), f.to(ACC))
    divisor = tl.load(scale).to(ACC) if SCALED else 1.0
    go = tl.load(found) == 0 if CHECKED else True
    if go:
        if STEPS is not None:
            code = tl.load(chunks + tl.program_id(0))
            if code & 0xFFFFFFFF == 0:
                step = tl.load(table + (COUNT + 1) * tensors + (code >> 32)).to(tl.pointer_type(STEPS))
                tl.store(step, tl.load(step) + 1)
        program(table, chunks, tensors, numbers, divisor, OP, HOW, COUNT, WRITTEN, SCALED, TYPE, ACC, ALIGNED, BLOCK)


@kernel
def layerwise(table, chunks, sizes, slopes, lr, tensors: "i64", rate: "fp64", momentum: "fp64", decay: "fp64",
              trust: "fp64", eps: "fp64", RATED: tl.constexpr, HOW: tl.constexpr, TYPE: tl.constexpr,
              ACC: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """LARS where the rate is adapted; ``sizes`` and ``slopes``: the norms of the parameters and their gradients.
    RATED: minus the number in ``lr`` is the rate."""
    which = tl.load(chunks + tl.program_id(0)) >> 32
    size = tl.load(sizes + which)
    slope = tl.load(slopes + which)
    scale = tl.where((size > 0) & (slope > 0), trust * size / (slope + decay * size + eps), 1.0)
    if RATED:
        rate = -tl.load(lr).to(tl.float64)
    program(table, chunks, tensors, (rate.to(ACC), momentum.to(ACC), decay.to(ACC), scale.to(ACC)), 1.0, lars, HOW, 3,
            2, False, TYPE, ACC, ALIGNED, BLOCK)


@kernel
def multiply(table, chunks, factor, tensors: "i64", TYPE: tl.constexpr, ACC: tl.constexpr, ALIGNED: tl.constexpr,
             BLOCK: tl.constexpr):
    """Every array times the one number in ``factor``."""
    program(table, chunks, tensors, (tl.load(factor).to(ACC),), 1.0, scaled, 0, 1, 1, False, TYPE, ACC, ALIGNED, BLOCK)


@kernel
def squares(table, chunks, parts, tensors: "i64", TYPE: tl.constexpr, ACC: tl.constexpr, ALIGNED: tl.constexpr,
            BLOCK: tl.constexpr):
    """parts[program] = the sum, in float64, of the squares of a block."""
    which, first, left = chunk(table, chunks, BLOCK)
    start = pointer(table, 1, tensors, which, first, TYPE, ALIGNED)
    if left >= BLOCK:
        x = fetched(start, left, ACC, BLOCK, False)
    else:
        x = fetched(start, left, ACC, BLOCK, True)
    tl.store(parts + tl.program_id(0), tl.sum((x * x).to(tl.float64), 0))


@kernel
def roots(parts, bounds, out, BLOCK: tl.constexpr):
    """out[program] = the root of the sum of parts[bounds[program]] to parts[bounds[program + 1] - 1]."""
    low = tl.load(bounds + tl.program_id(0))
    high = tl.load(bounds + tl.program_id(0) + 1)
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(low, high, BLOCK):
        i = first + tl.arange(0, BLOCK)
        total += tl.load(parts + i, mask=i < high, other=0)
    tl.store(out + tl.program_id(0), convert(tl.sqrt(tl.sum(total, 0)), out.dtype.element_ty))
