"""The kernels of ``loss.py``.

    total    sum of OP(x[i], t[i], ...), perhaps over their count: one program, or one for each part and one to join
    seek     the first class number that is out of range, and whether any is the ignored one
    unit     whether any element is outside [0, 1]
    nll      -w[c] logp[n, c, d] at c = target[n, d], or the sum of these and that of w
    nll_slope  -w[c] g at the same places

Each place of a program's block has its own accumulator, and these are joined as a tree.
"""
from __future__ import annotations

import triton
import triton.language as tl

from tritium.kernels.runtime.launch import kernel
from tritium.kernels.triton.elementwise_kernels import widen, with_numbers
from tritium.kernels.triton.pointwise_ops import quotient
from tritium.kernels.triton.strided import convert

NOWHERE: tl.constexpr = tl.constexpr(2**63 - 1)


# --- sums ---

@triton.jit
def summand(inputs, scalars, periods, base, left, OP: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
            SCALARS: tl.constexpr, HOW: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """What is summed of one block of flat arrays. HOW, two bits for each of them: 0, an element for each place; 1, one
    for all; 2, ``periods`` elements again and again (not the first two arrays)."""
    i = tl.arange(0, BLOCK)
    args = ()
    for j in tl.static_range(INPUTS):
        if (HOW >> 2 * j) % 4 == 1:
            args = args + (tl.broadcast_to(widen(tl.load(inputs[j])), (BLOCK,)),)
        elif (HOW >> 2 * j) % 4 == 2:
            at = ((base % periods[j - 2]).to(tl.int32) + i) % periods[j - 2].to(tl.int32)
            args = args + (widen(tl.load(inputs[j] + at, mask=i < left, other=0)),)
        elif MASKED:
            args = args + (widen(tl.load(inputs[j] + base + i, mask=i < left, other=0)),)
        else:
            args = args + (widen(tl.load(inputs[j] + base + i)),)
    r = OP(*with_numbers(args, scalars, KIND, SCALARS, (BLOCK,)))
    if MASKED:
        r = tl.where(i < left, r, 0.0)
    return r


@kernel
def total(x, t, w, p, out, n: "i64", span: "i64", a: "i64", b: "i64", wn: "i64", pn: "i64", count: "fp64",
          OP: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr, SCALARS: tl.constexpr, HOW: tl.constexpr,
          MEAN: tl.constexpr, BLOCK: tl.constexpr):
    """out[program] = the sum of OP over ``span`` blocks, with MEAN over ``count``. What INPUTS leaves out is not
    looked at."""
    first = tl.program_id(0).to(tl.int64) * span
    last = tl.minimum(first + span, tl.cdiv(n, BLOCK))
    acc = tl.zeros((BLOCK,), KIND)
    for step in range(first, last):
        base = step * BLOCK
        left = n - base
        if left >= BLOCK:
            acc += summand((x, t, w, p), (a, b), (wn, pn), base, left, OP, KIND, INPUTS, SCALARS, HOW, BLOCK, False)
        else:
            acc += summand((x, t, w, p), (a, b), (wn, pn), base, left, OP, KIND, INPUTS, SCALARS, HOW, BLOCK, True)
    r = tl.sum(acc, 0)
    if MEAN:
        r = (r.to(tl.float64) / count).to(KIND)
    tl.store(out + tl.program_id(0), convert(r, out.dtype.element_ty))


@kernel
def unit(x, parts, n: "i64", span: "i64", BLOCK: tl.constexpr):
    """parts[program]: whether any of ``span`` blocks has an element outside [0, 1]."""
    first = tl.program_id(0).to(tl.int64) * span
    last = tl.minimum(first + span, tl.cdiv(n, BLOCK))
    bad = tl.zeros((BLOCK,), tl.int32)
    for step in range(first, last):
        k = step * BLOCK + tl.arange(0, BLOCK)
        v = widen(tl.load(x + k, mask=k < n, other=0))
        bad = tl.where((v >= 0) & (v <= 1), bad, 1)  # nan is neither
    tl.store(parts + tl.program_id(0), tl.max(bad, 0))


# --- classes ---

@triton.jit
def sample(target, k, inner, tn, ti, mask, LONG: tl.constexpr):
    """(n, d, class) of samples by their number."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    k = k.to(kind)
    n = k // inner.to(kind)
    d = k % inner.to(kind)
    return n, d, tl.load(target + n * tn.to(kind) + d * ti.to(kind), mask=mask, other=0).to(tl.int64)


@kernel
def seek(target, parts, count: "i64", inner: "i64", tn: "i64", ti: "i64", span: "i64", classes: "i64", ignore: "i64",
         LONG: tl.constexpr, BLOCK: tl.constexpr):
    """parts[program] = (where the first class out of range is, that class, whether any is ignored)."""
    first = tl.program_id(0).to(tl.int64) * span
    last = tl.minimum(first + span, tl.cdiv(count, BLOCK))
    at = tl.full((BLOCK,), NOWHERE, tl.int64)
    wrong = tl.zeros((BLOCK,), tl.int64)
    some = tl.zeros((BLOCK,), tl.int64)
    for step in range(first, last):
        k = step * BLOCK + tl.arange(0, BLOCK)
        mask = k < count
        n, d, c = sample(target, k, inner, tn, ti, mask, LONG)
        ignored = mask & (c == ignore)
        bad = mask & ((c < 0) | (c >= classes)) & (c != ignore) & (at == NOWHERE)
        at = tl.where(bad, k, at)
        wrong = tl.where(bad, c, wrong)
        some = tl.where(ignored, 1, some)
    best = tl.min(at, 0)
    to = parts + tl.program_id(0).to(tl.int64) * 3
    tl.store(to, best)
    tl.store(to + 1, tl.sum(tl.where((at == best) & (best != NOWHERE), wrong, 0), 0))
    tl.store(to + 2, tl.max(some, 0))


@triton.jit
def weight_of(weight, c, inside, ignored, ACC: tl.constexpr, WEIGHED: tl.constexpr):
    """The weights of samples: 0 for the ignored ones."""
    if WEIGHED:
        w = tl.load(weight + c, mask=inside, other=0).to(ACC)
    else:
        w = tl.full(c.shape, 1, ACC)
    return tl.where(ignored, 0.0, w)


@triton.jit
def losses(logp, target, weight, k, count, inner, classes, ignore, sn, sc, si, tn, ti, ACC: tl.constexpr,
           WEIGHED: tl.constexpr, SOME: tl.constexpr, LONG: tl.constexpr):
    """(loss, weight) of samples by their number: nan for a class out of range, 0 beyond the last sample."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    mask = k < count
    n, d, c = sample(target, k, inner, tn, ti, mask, LONG)
    ignored = ~mask
    if SOME:
        ignored = ignored | (c == ignore)
    inside = (c >= 0) & (c < classes) & ~ignored
    at = n * sn.to(kind) + c.to(kind) * sc.to(kind) + d * si.to(kind)
    picked = -tl.load(logp + at, mask=inside, other=float("nan")).to(ACC)
    w = weight_of(weight, c, inside, ignored, ACC, WEIGHED)
    loss = picked * w if WEIGHED else picked
    return tl.where((w == 0) & (inside | ignored), 0.0, loss), w


@kernel
def nll(logp, target, weight, out, count: "i64", inner: "i64", classes: "i64", ignore: "i64", sn: "i64", sc: "i64",
        si: "i64", tn: "i64", ti: "i64", ACC: tl.constexpr, WEIGHED: tl.constexpr, SOME: tl.constexpr,
        LONG: tl.constexpr, BLOCK: tl.constexpr):
    """The loss of each sample."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    loss, w = losses(logp, target, weight, k, count, inner, classes, ignore, sn, sc, si, tn, ti, ACC, WEIGHED, SOME,
                     LONG)
    tl.store(out + k, convert(loss, out.dtype.element_ty), mask=k < count)


@triton.jit
def finish(out, whole, loss, weights, ACC: tl.constexpr, MEAN: tl.constexpr):
    """The sums, or with MEAN their quotient, and the sum of the weights."""
    if MEAN:
        loss = (loss.to(tl.float64) / weights.to(tl.float64)).to(ACC)
    tl.store(out, convert(loss, out.dtype.element_ty))
    tl.store(whole, weights)


@kernel
def nll_total(logp, target, weight, out, whole, count: "i64", inner: "i64", classes: "i64", ignore: "i64", sn: "i64",
              sc: "i64", si: "i64", tn: "i64", ti: "i64", span: "i64", ACC: tl.constexpr, WEIGHED: tl.constexpr,
              SOME: tl.constexpr, MEAN: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr):
    """The sums over ``span`` blocks of samples: out[program] and whole[program]."""
    first = tl.program_id(0).to(tl.int64) * span
    last = tl.minimum(first + span, tl.cdiv(count, BLOCK))
    s = tl.zeros((BLOCK,), ACC)
    v = tl.zeros((BLOCK,), ACC)
    for step in range(first, last):
        k = step * BLOCK + tl.arange(0, BLOCK)
        loss, w = losses(logp, target, weight, k, count, inner, classes, ignore, sn, sc, si, tn, ti, ACC, WEIGHED, SOME,
                         LONG)
        s += loss
        v += w
    finish(out + tl.program_id(0), whole + tl.program_id(0), tl.sum(s, 0), tl.sum(v, 0), ACC, MEAN)


@kernel
def nll_joined(parts, weights, out, whole, n: "i64", MEAN: tl.constexpr, BLOCK: tl.constexpr):
    """The sums of all programs."""
    i = tl.arange(0, BLOCK)
    s = tl.sum(tl.load(parts + i, mask=i < n, other=0), 0)
    v = tl.sum(tl.load(weights + i, mask=i < n, other=0), 0)
    finish(out, whole, s, v, s.dtype, MEAN)


@kernel
def nll_slope(g, target, weight, whole, out, count: "i64", inner: "i64", classes: "i64", ignore: "i64", gn: "i64",
              gi: "i64", tn: "i64", ti: "i64", ACC: tl.constexpr, WEIGHED: tl.constexpr, SOME: tl.constexpr,
              MEAN: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr):
    """The gradients at the samples' classes in ``out``, dense (n, class, d)."""
    kind: tl.constexpr = tl.int64 if LONG else tl.int32
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = k < count
    n, d, c = sample(target, k, inner, tn, ti, mask, LONG)
    ignored = ~mask
    if SOME:
        ignored = ignored | (c == ignore)
    inside = (c >= 0) & (c < classes) & ~ignored
    v = tl.load(g + n * gn.to(kind) + d * gi.to(kind), mask=mask, other=0).to(ACC)
    if MEAN:
        v = quotient(v, tl.broadcast_to(tl.load(whole).to(ACC), v.shape))
    w = weight_of(weight, c, inside, ignored, ACC, WEIGHED)
    v = -v * w if WEIGHED else -v
    at = (n * classes.to(kind) + c.to(kind)) * inner.to(kind) + d
    tl.store(out + at, convert(tl.where(w == 0, 0.0, v), out.dtype.element_ty), mask=inside)
