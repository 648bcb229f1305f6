"""Scaled dot-product attention of NumPy arrays, a block of rows at a time.

    s = scale q k^T + mask        p = softmax(s)        out = (m p) v        m: dropout, 0 or 1 / (1 - rate)

The weights of one block of rows stay in cache; blocks and heads are worked on in parallel. The backward pass computes
them again from the logsumexp of each row (Dao et al., arXiv:2205.14135):

    delta = sum(g out)     dv = (m p)^T g     ds = p (m (g v^T) - delta)     dq = scale ds k     dk = scale ds^T q

A row without any weight (all -inf) gives 0; its logsumexp is +inf, so that p = exp(s - logsumexp) is 0 there too.
float16 and bfloat16 are computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tritium.kernels.reference import parallel, random
from tritium.kernels.reference.quiet import begin, end

Array = Any
Dropout = tuple[float, Any]  # the rate, and which weights stay: bool (batch, heads, L, S)

BLOCK, ROWS = 1 << 18, 128  # weights of a block, at most, unless it has only so many rows: products need enough of both
PARALLEL = 1 << 18  # multiplications from which a second thread pays


def widest(dtype: Any) -> float:
    """The largest head dimension: there is none."""
    return float("inf")


def draw(stream: Any, shape: tuple[int, ...], rate: float) -> Dropout:
    """Dropout of weights (batch, heads, L, S), drawn as PyTorch draws it on the CPU."""
    keep = np.empty(shape, np.bool_)
    random.bernoulli(stream, keep, 1.0 - rate)
    return rate, keep


def multipliers(like: Array, shape: tuple[int, ...], dropout: Dropout) -> Array:
    """What dropout multiplies the weights (batch, heads, L, S) by, 0 or 1 / (1 - rate), in the dtype of ``like``."""
    rate, keep = dropout
    return np.multiply(keep, _gain(rate, like.dtype), dtype=like.dtype)


def _gain(rate: float, dtype: Any) -> Any:
    """1 / (1 - rate), rounded as the division of a tensor is."""
    return dtype.type(1) / dtype.type(1.0 - rate) if rate < 1.0 else dtype.type(0)


class _Task(NamedTuple):
    """Attention of one head, in the dtype of the computation. ``q`` has the scale in it; ``mask`` and ``keep`` are
    (L, S) or None."""

    q: Array
    k: Array
    v: Array
    mask: Array
    keep: Array
    causal: bool
    gain: Any

    def columns(self, stop: int) -> int:
        """How many columns rows before ``stop`` may have weights in."""
        return min(stop, len(self.k)) if self.causal else len(self.k)

    def scores(self, start: int, stop: int) -> Array:
        """Scores of rows, in a workspace."""
        columns = self.columns(stop)
        s = parallel.scratch("attention scores", (stop - start, columns), self.q.dtype)
        if self.q.shape[1]:
            np.matmul(self.q[start:stop], self.k[:columns].T, out=s)
        else:
            s.fill(0)
        if self.mask is not None:
            m = self.mask[start:stop, :columns]
            if m.dtype == np.bool_:
                s[~m] = -np.inf
            else:
                s += m
        if self.causal and columns > start + 1:  # the others have all their columns before the block
            s[:, start:][np.arange(start, columns) > np.arange(start, stop)[:, None]] = -np.inf
        return s

    def weights(self, logsumexp: Array, start: int, stop: int) -> Array:
        """Weights of rows, in a workspace: exp(s - logsumexp)."""
        s = self.scores(start, stop)
        s -= logsumexp[start:stop, None]
        return np.exp(s, out=s)

    def drop(self, x: Array, start: int, stop: int, out: Array) -> Array:
        """x times what dropout multiplies these rows by; x itself without dropout."""
        if self.keep is None:
            return x
        np.multiply(x, self.keep[start:stop, : x.shape[1]], out=out)
        out *= self.gain
        return out

    def blocks(self) -> list[tuple[int, int]]:
        """Blocks of rows."""
        L = len(self.q)
        return parallel.parts(L, -(-L // max(BLOCK // max(len(self.k), 1), ROWS)))


class _Heads:
    """All heads of one call."""

    def __init__(self, q: Array, k: Array, v: Array, mask: Array, causal: bool, scale: float,
                 dropout: Dropout | None) -> None:
        self.arrays = q, k, v
        self.work = np.dtype(np.float32) if q.dtype.itemsize == 2 else q.dtype
        B, H, L, _ = q.shape
        self.shape, self.group, self.S = (B, H, L), H // max(k.shape[1], 1) or 1, k.shape[2]
        self.mask = None if mask is None else np.broadcast_to(mask, (B, H, L, self.S))
        self.keep = None if dropout is None else dropout[1]
        self.gain = None if dropout is None else _gain(dropout[0], self.work)
        self.causal, self.scale = causal, self.work.type(scale)

    def task(self, b: int, h: int) -> _Task:
        q, k, v = self.arrays
        few = h // self.group
        q = np.multiply(q[b, h], self.scale, dtype=self.work, order="C")
        k, v = _matrix(k[b, few], self.work), _matrix(v[b, few], self.work)
        mask = self.mask[b, h] if self.mask is not None else None
        if mask is not None and mask.dtype.itemsize == 2:
            mask = mask.astype(self.work)
        keep = self.keep[b, h] if self.keep is not None else None
        return _Task(q, k, v, mask, keep, self.causal, self.gain)

    def run(self, body: Callable[..., None], tasks: list[tuple[Any, ...]]) -> None:
        """``body(*task)`` for all, in parallel where there is enough to do for each thread."""
        _, k, v = self.arrays
        B, H, L = self.shape

        def quietly(*task: Any) -> None:
            token = begin()
            try:
                body(*task)
            finally:
                end(token)

        work = B * H * L * self.S * (k.shape[3] + v.shape[3])
        if len(tasks) < parallel.get_num_threads() or work < PARALLEL:
            for task in tasks:
                quietly(*task)
        else:
            parallel.run(quietly, tasks)


def _matrix(a: Array, dtype: Any) -> Array:
    """A matrix that BLAS takes as it lies, in this dtype."""
    if a.dtype != dtype:
        return a.astype(dtype)
    if a.size and (a.strides[1] != a.itemsize or a.strides[0] < a.shape[1] * a.itemsize):
        return np.ascontiguousarray(a)
    return a


def _like(a: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of another shape, with the dimensions in memory as those of ``a`` are."""
    if a.flags.c_contiguous or any(s <= 0 and n > 1 for n, s in zip(a.shape, a.strides, strict=True)):
        return parallel.empty(shape, dtype)
    order = sorted(range(3), key=lambda d: a.strides[d], reverse=True)
    out = parallel.empty((*[shape[d] for d in order], shape[3]), dtype)
    return out.transpose(*[order.index(d) for d in range(3)], 3)


def forward(q: Array, k: Array, v: Array, mask: Array | None, causal: bool, scale: float,
            dropout: Dropout | None) -> tuple[Array, Array]:
    """out (batch, heads, L, Ev), in memory as q is, and logsumexp (batch, heads, L), +inf in rows without weights,
    where out is 0; q (batch, heads, L, E), k (batch, few, S, E), v (batch, few, S, Ev), ``few`` divides the heads.

    ``mask``: broadcasts to (batch, heads, L, S): bool, True where there is a weight, or numbers to be added to the
    scores; ``causal``: no weights for columns beyond the row."""
    heads = _Heads(q, k, v, mask, causal, scale, dropout)
    B, H, L = heads.shape
    out, logsumexp = _like(q, (B, H, L, v.shape[3]), q.dtype), np.empty((B, H, L), heads.work)
    if not out.size and not logsumexp.size or not heads.S:
        out[...] = 0
        logsumexp.fill(np.inf)
        return out, logsumexp

    def body(b: int, h: int, start: int, stop: int) -> None:
        task = heads.task(b, h)
        for first, last in [(start, stop)] if stop else task.blocks():
            s = task.scores(first, last)
            top = s.max(1)
            base = np.where(top == -np.inf, top.dtype.type(0), top)
            s -= base[:, None]
            np.exp(s, out=s)
            total = s.sum(1)
            empty = total == 0
            logsumexp[b, h, first:last] = np.where(empty, np.inf, base + np.log(total))
            total[empty] = 1
            s = task.drop(s, first, last, s)
            columns, rows = s.shape[1], out[b, h, first:last]
            if out.dtype == s.dtype and out.strides[3] == out.itemsize:
                np.matmul(s, task.v[:columns], out=rows)
                rows /= total[:, None]
            else:
                rows[...] = (s @ task.v[:columns]) / total[:, None]

    pairs = [(b, h) for b in range(B) for h in range(H)]
    if len(pairs) < 2 * parallel.get_num_threads():  # too few to share out evenly: by blocks of rows
        blocks = heads.task(0, 0).blocks() if pairs else []
        heads.run(body, [(b, h, *block) for b, h in pairs for block in reversed(blocks)])
    else:
        heads.run(body, [(b, h, 0, 0) for b, h in pairs])
    return out, logsumexp


def backward(g: Array, q: Array, k: Array, v: Array, mask: Array | None, out: Array, logsumexp: Array, causal: bool,
             scale: float, dropout: Dropout | None, needs: tuple[bool, bool, bool, bool]) -> tuple[Array | None, ...]:
    """The gradients of q, k, v and mask from that of ``out``; None for those that ``needs`` does not ask for.

    The first three are in memory as what they belong to."""
    heads = _Heads(q, k, v, mask, causal, scale, dropout)
    B, H, L = heads.shape
    few, group, S, work = k.shape[1], heads.group, heads.S, heads.work
    dq = _like(q, q.shape, q.dtype) if needs[0] else None
    dk = _like(k, k.shape, k.dtype) if needs[1] else None
    dv = _like(v, v.shape, v.dtype) if needs[2] else None
    dm = None
    if needs[3]:
        assert mask is not None
        dm = np.zeros(((1, 1) + mask.shape)[-4:-2] + (L, S), work)

    def body(b: int, kv: int) -> None:
        if dk is not None:
            dk_sum = np.zeros((S, k.shape[3]), work)
        if dv is not None:
            dv_sum = np.zeros((S, v.shape[3]), work)
        for h in range(kv * group, (kv + 1) * group):
            task = heads.task(b, h)
            gh = _matrix(g[b, h], work)
            delta = np.einsum("ij,ij->i", gh, _matrix(out[b, h], work))
            for start, stop in task.blocks():
                p = task.weights(logsumexp[b, h], start, stop)
                columns = p.shape[1]
                dp = parallel.scratch("attention gradient", p.shape, work)
                rows = gh[start:stop]
                if dv is not None:
                    dv_sum[:columns] += task.drop(p, start, stop, dp).T @ rows
                if dq is None and dk is None and dm is None:
                    continue
                if gh.shape[1]:
                    np.matmul(rows, task.v[:columns].T, out=dp)
                else:
                    dp.fill(0)
                task.drop(dp, start, stop, dp)
                dp -= delta[start:stop, None]
                dp *= p
                if dm is not None:
                    mine = dm[b % dm.shape[0], h % dm.shape[1], start:stop, :columns]
                    mine += dp
                if dq is not None:
                    dq[b, h, start:stop] = (dp @ task.k[:columns]) * heads.scale
                if dk is not None:
                    dk_sum[:columns] += dp.T @ task.q[start:stop]
        if dk is not None:
            dk[b, kv] = dk_sum
        if dv is not None:
            dv[b, kv] = dv_sum

    tasks = [(b, kv) for b in range(B) for kv in range(few)]
    if dm is not None and dm.shape[:2] != (B, H):  # heads add to the same place: in order
        token = begin()
        try:
            for pair in tasks:
                body(*pair)
        finally:
            end(token)
    else:
        heads.run(body, tasks)
    if dm is not None:
        assert mask is not None
        shape = ((1, 1, 1, 1) + mask.shape)[-4:]
        axes = tuple([d for d in (2, 3) if shape[d] == 1 and dm.shape[d] != 1])
        dm = (dm.sum(axes, keepdims=True) if axes else dm).astype(mask.dtype, copy=False).reshape(mask.shape)
    return dq, dk, dv, dm
