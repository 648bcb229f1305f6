"""Parameter updates of the optimizers, in place, each as one pass over the memory.

    SGD       b <- mu b + (1 - tau) g,                      p <- p - lr b
    Adam      m <- m + (1 - b1)(g - m),  v <- b2 v + (1 - b2) g^2,
              p <- p - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
    RMSprop   v <- a v + (1 - a) g^2,                       p <- p - lr g / (sqrt(v) + eps)
    Adagrad   s <- s + g^2,                                 p <- p - lr g / (sqrt(s) + eps)
    Adadelta  v <- r v + (1 - r) g^2,  d = sqrt(u + eps) / sqrt(v + eps) g,  u <- r u + (1 - r) d^2,  p <- p - lr d
    LARS      SGD with each tensor's gradient scaled by its trust ratio

Every function takes lists (one entry per parameter) and works through each parameter in pieces that stay in the cache,
with scratch memory that is allocated once: a step makes no temporary arrays. Arrays may have any strides.
bfloat16 and float16 are computed in float32 and rounded once, when they are written back. The order of the
operations is the textbook one, written so that float64 results follow PyTorch's to the last few bits.

Where a function takes ``steps``, they are numbers, counted from 1, or arrays of no dimensions, which it counts up
itself; ``lr`` is a number or an array of one. ``grad_scale`` divides the gradients, in place, before they are used;
where ``found_inf`` is not 0 nothing changes.
"""
from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tritium.kernels.reference.quiet import quiet

Array = Any
Steps = Sequence[float] | Sequence[Array]
Rate = Any
PIECE = 32768  # elements at a time: five float32 arrays of it fit in a 1 MiB second-level cache

_SCRATCH = 3
_local = threading.local()


def _scratch(dtype: Any) -> list[Array]:
    """Three arrays of PIECE elements, this thread's own, allocated at the first use."""
    made = _local.__dict__.setdefault("scratch", {})
    if dtype not in made:
        made[dtype] = [np.empty(PIECE, dtype) for _ in range(_SCRATCH)]
    return made[dtype]


def _pieces(written: list[Array], read: list[Array]) -> Iterator[list[Array]]:
    """Matching one-dimensional pieces of arrays of one shape, followed by three scratch arrays of the same length.

    ``written`` arrays are updated through their pieces, ``read`` ones only read."""
    arrays = [_real(a) for a in written + read]
    first = arrays[0]
    size = first.size
    if size == 0:
        return
    dtype = np.dtype(np.float64 if first.dtype == np.float64 else np.float32)
    scratch = _scratch(dtype)
    if all([a.dtype == dtype and a.flags.c_contiguous for a in arrays]):
        arrays = [a.reshape(-1) for a in arrays]
        for start in range(0, size, PIECE):
            stop = min(start + PIECE, size)
            yield [a[start:stop] for a in arrays] + [t[:stop - start] for t in scratch]
        return
    access: Any = [["readwrite"]] * len(written) + [["readonly"]] * len(read)
    walk = np.nditer(arrays, ["external_loop", "buffered"], access, [dtype] * len(arrays), order="K",
                     casting="same_kind", buffersize=PIECE)
    with walk:
        for pieces in walk:
            given: list[Array] = list(pieces) if len(arrays) > 1 else [pieces]
            yield given + [t[:given[0].size] for t in scratch]


def _real(a: Array) -> Array:
    """A complex array as pairs of real numbers, which is how the optimizers see it."""
    return a[..., None].view(a.real.dtype) if a.dtype.kind == "c" else a


def _one(number: Any) -> float:
    """A number, or the one in an array."""
    return float(number.item() if isinstance(number, np.ndarray) else number)


def _counted(steps: Any) -> list[float]:
    """Step counts as numbers, arrays after they are counted up."""
    for step in steps or ():
        if isinstance(step, np.ndarray):
            step[...] += 1
    return [float(step) for step in steps or ()]


def _unscaled(grads: list[Array], grad_scale: Array | None) -> list[Array]:
    """Gradients divided by a scale, in place; those of 16 bits are used as they were before they are rounded."""
    if grad_scale is None:
        return grads
    found = []
    for g in grads:
        wide = g if g.dtype.itemsize > 2 else g.astype(np.float32)
        np.divide(wide, _one(grad_scale), out=wide)
        if wide is not g:
            g[...] = wide.astype(g.dtype)
        found.append(wide)
    return found


def _gradient(p: Array, g: Array, t: Array, weight_decay: float, maximize: bool) -> Array:
    """The gradient to follow: negated to maximize, with L2 decay. ``t`` is scratch, and holds it if it is not ``g``."""
    if weight_decay:
        np.multiply(p, weight_decay, out=t)
        return np.subtract(t, g, out=t) if maximize else np.add(t, g, out=t)
    return np.negative(g, out=t) if maximize else g


def _lerp(average: Array, g: Array, weight: float, t: Array) -> None:
    """average <- average + weight (g - average)"""
    np.subtract(g, average, out=t)
    np.multiply(t, weight, out=t)
    np.add(average, t, out=average)


def _mean_square(square: Array, g: Array, decay: float, t: Array) -> None:
    """square <- decay square + (1 - decay) g^2"""
    np.multiply(square, decay, out=square)
    np.multiply(g, 1 - decay, out=t)
    np.multiply(t, g, out=t)
    np.add(square, t, out=square)


def _move(p: Array, direction: Array, rate: float, t: Array) -> None:
    """p <- p + rate direction"""
    np.multiply(direction, rate, out=t)
    np.add(p, t, out=p)


def _move_divided(p: Array, direction: Array, divisor: Array, rate: float, t: Array) -> None:
    """p <- p + rate direction / divisor"""
    np.multiply(direction, rate, out=t)
    np.divide(t, divisor, out=t)
    np.add(p, t, out=p)


@quiet
def sgd(params: list[Array], grads: list[Array], momentum_buffers: list[Array] | None, fresh: list[bool], *,
        lr: Rate, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool,
        grad_scale: Array | None = None, found_inf: Array | None = None) -> None:
    """Gradient descent. ``momentum_buffers`` is None without momentum; a ``fresh`` buffer takes the gradient as it is
    (its values before are not looked at)."""
    if found_inf is not None and _one(found_inf):
        return
    lr, grads = _one(lr), _unscaled(grads, grad_scale)
    for i, param in enumerate(params):
        buffers = [] if momentum_buffers is None else [momentum_buffers[i]]
        for p, *rest in _pieces([param, *buffers], [grads[i]]):
            *b, g, t, u, _ = rest
            g = _gradient(p, g, t, weight_decay, maximize)
            if b:
                buf = b[0]
                if fresh[i]:
                    np.copyto(buf, g)
                else:
                    np.multiply(buf, momentum, out=buf)
                    if dampening:
                        np.multiply(g, 1 - dampening, out=u)
                        np.add(buf, u, out=buf)
                    else:
                        np.add(buf, g, out=buf)
                if nesterov:
                    np.multiply(buf, momentum, out=u)
                    g = np.add(g, u, out=u)
                else:
                    g = buf
            _move(p, g, -lr, t)


@quiet
def adam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array],
         max_exp_avg_sqs: list[Array] | None, steps: Steps, *, lr: Rate, beta1: float, beta2: float, eps: float,
         weight_decay: float, decoupled: bool, maximize: bool, grad_scale: Array | None = None,
         found_inf: Array | None = None) -> None:
    """Adam (L2 decay) and AdamW (``decoupled``); AMSGrad when ``max_exp_avg_sqs`` is given. ``steps`` counts from 1."""
    if found_inf is not None and _one(found_inf):
        return
    lr, steps, grads = _one(lr), _counted(steps), _unscaled(grads, grad_scale)
    for i, param in enumerate(params):
        largest = [] if max_exp_avg_sqs is None else [max_exp_avg_sqs[i]]
        step_size = lr / (1 - beta1 ** steps[i])
        correction = math.sqrt(1 - beta2 ** steps[i])
        for p, m, v, *rest in _pieces([param, exp_avgs[i], exp_avg_sqs[i], *largest], [grads[i]]):
            *top, g, t, u, _ = rest
            if decoupled:
                if weight_decay:
                    np.multiply(p, 1 - lr * weight_decay, out=p)
                g = _gradient(p, g, t, 0.0, maximize)
            else:
                g = _gradient(p, g, t, weight_decay, maximize)
            _lerp(m, g, 1 - beta1, u)
            _mean_square(v, g, beta2, u)
            if top:
                v = np.maximum(top[0], v, out=top[0])
            np.sqrt(v, out=t)
            np.divide(t, correction, out=t)
            np.add(t, eps, out=t)
            _move_divided(p, m, t, -step_size, u)


@quiet
def nadam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array], steps: Steps,
          rates: list[Any], *, lr: Rate, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
          maximize: bool, momentum_decay: float = 0.0) -> None:
    """Adam with Nesterov momentum. ``rates``: for each parameter, the rate of the gradient and that of its average; or,
    with steps that are counted here, the arrays of the products of momenta, for which ``momentum_decay`` is."""
    lr, steps = _one(lr), _counted(steps)
    rates = [rate if isinstance(rate, tuple) else momentum_rates(step, rate, lr, beta1, momentum_decay)
             for step, rate in zip(steps, rates, strict=True)]
    for i, param in enumerate(params):
        correction = 1 - beta2 ** steps[i]
        for p, m, v, g, t, u, _ in _pieces([param, exp_avgs[i], exp_avg_sqs[i]], [grads[i]]):
            if decoupled and weight_decay:
                np.multiply(p, 1 - lr * weight_decay, out=p)
            g = _gradient(p, g, t, 0.0 if decoupled else weight_decay, maximize)
            _lerp(m, g, 1 - beta1, u)
            _mean_square(v, g, beta2, u)
            np.divide(v, correction, out=u)
            np.sqrt(u, out=u)
            np.add(u, eps, out=u)
            _move_divided(p, g, u, -rates[i][0], t)
            _move_divided(p, m, u, -rates[i][1], t)


def momentum_rates(step: float, product: Array, lr: float, beta1: float, decay: float) -> tuple[float, float]:
    """NAdam's rates of the gradient and of its average. ``product``: that of the momenta so far, an array of no
    dimensions, which is updated."""
    mu = beta1 * (1.0 - 0.5 * 0.96 ** (step * decay))
    later = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * decay))
    product *= product.dtype.type(mu)
    m = float(product)
    return lr * (1.0 - mu) / (1.0 - m), lr * later / (1.0 - m * later)


@quiet
def radam(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array], steps: Steps, *,
          lr: Rate, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
          maximize: bool) -> None:
    """Adam with the rectified adaptive rate: plain momentum while the variance of the rate is not tractable."""
    lr, steps = _one(lr), _counted(steps)
    longest = 2 / (1 - beta2) - 1
    for i, param in enumerate(params):
        step = steps[i]
        correction2 = 1 - beta2 ** step
        length = longest - 2 * step * beta2 ** step / correction2
        rectified = None
        if length > 5.0:
            rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        for p, m, v, g, t, u, _ in _pieces([param, exp_avgs[i], exp_avg_sqs[i]], [grads[i]]):
            if decoupled and weight_decay:
                np.multiply(p, 1 - lr * weight_decay, out=p)
            g = _gradient(p, g, t, 0.0 if decoupled else weight_decay, maximize)
            _lerp(m, g, 1 - beta1, u)
            _mean_square(v, g, beta2, u)
            np.divide(m, 1 - beta1 ** step, out=t)
            np.multiply(t, lr, out=t)
            if rectified is not None:
                np.sqrt(v, out=u)
                np.add(u, eps, out=u)
                np.divide(math.sqrt(correction2), u, out=u)
                np.multiply(t, u, out=t)
                np.multiply(t, rectified, out=t)
            np.subtract(p, t, out=p)


@quiet
def adamax(params: list[Array], grads: list[Array], exp_avgs: list[Array], exp_infs: list[Array], steps: Steps, *,
           lr: Rate, beta1: float, beta2: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """Adam with the infinity norm: exp_inf <- max(beta2 exp_inf, |g| + eps)."""
    lr, steps = _one(lr), _counted(steps)
    for i, param in enumerate(params):
        step_size = lr / (1 - beta1 ** steps[i])
        for p, m, n, g, t, u, _ in _pieces([param, exp_avgs[i], exp_infs[i]], [grads[i]]):
            g = _gradient(p, g, t, weight_decay, maximize)
            _lerp(m, g, 1 - beta1, u)
            np.multiply(n, beta2, out=n)
            np.abs(g, out=t)
            np.add(t, eps, out=t)
            np.maximum(n, t, out=n)
            _move_divided(p, m, n, -step_size, u)


@quiet
def rmsprop(params: list[Array], grads: list[Array], square_avgs: list[Array], grad_avgs: list[Array] | None,
            momentum_buffers: list[Array] | None, steps: list[Array] | None = None, *, lr: Rate, alpha: float,
            eps: float, weight_decay: float, momentum: float, maximize: bool) -> None:
    """RMSprop; centred when ``grad_avgs`` is given, with momentum when ``momentum_buffers`` is. ``steps``: arrays of no
    dimensions to be counted up."""
    lr, _ = _one(lr), _counted(steps)
    for i, param in enumerate(params):
        extra = [lists[i] for lists in (grad_avgs, momentum_buffers) if lists is not None]
        for p, v, *rest in _pieces([param, square_avgs[i], *extra], [grads[i]]):
            *more, g, t, u, w = rest
            g = _gradient(p, g, t, weight_decay, maximize)
            _mean_square(v, g, alpha, u)
            if grad_avgs is not None:
                mean = more[0]
                _lerp(mean, g, 1 - alpha, u)
                np.multiply(mean, mean, out=u)
                np.subtract(v, u, out=u)
                np.sqrt(u, out=u)
            else:
                np.sqrt(v, out=u)
            np.add(u, eps, out=u)
            if momentum_buffers is not None:
                buf = more[-1]
                np.multiply(buf, momentum, out=buf)
                np.divide(g, u, out=u)
                np.add(buf, u, out=buf)
                _move(p, buf, -lr, u)
            else:
                _move_divided(p, g, u, -lr, w)


@quiet
def adagrad(params: list[Array], grads: list[Array], state_sums: list[Array], rates: Steps, *, eps: float,
            weight_decay: float, maximize: bool, lr: Rate = None, lr_decay: float = 0.0,
            grad_scale: Array | None = None, found_inf: Array | None = None) -> None:
    """Adagrad; ``rates`` holds each parameter's learning rate after its decay - or the arrays of the step counts, of
    which ``lr`` and ``lr_decay`` make it."""
    if found_inf is not None and _one(found_inf):
        return
    grads = _unscaled(grads, grad_scale)
    if lr is not None:
        rates = [_one(lr) / (1 + (step - 1) * lr_decay) for step in _counted(rates)]
    for i, param in enumerate(params):
        for p, s, g, t, u, w in _pieces([param, state_sums[i]], [grads[i]]):
            g = _gradient(p, g, t, weight_decay, maximize)
            np.multiply(g, g, out=u)
            np.add(s, u, out=s)
            np.sqrt(s, out=u)
            np.add(u, eps, out=u)
            _move_divided(p, g, u, -rates[i], w)


@quiet
def adadelta(params: list[Array], grads: list[Array], square_avgs: list[Array], acc_deltas: list[Array],
             steps: list[Array] | None = None, *, lr: Rate, rho: float, eps: float, weight_decay: float,
             maximize: bool) -> None:
    """Adadelta: the step has the size of the earlier steps, so that it carries the parameter's unit. ``steps``: arrays
    of no dimensions to be counted up."""
    lr, _ = _one(lr), _counted(steps)
    for i, param in enumerate(params):
        for p, v, d, g, t, u, w in _pieces([param, square_avgs[i], acc_deltas[i]], [grads[i]]):
            g = _gradient(p, g, t, weight_decay, maximize)
            _mean_square(v, g, rho, u)
            np.add(v, eps, out=w)
            np.sqrt(w, out=w)
            np.add(d, eps, out=u)
            np.sqrt(u, out=u)
            np.divide(u, w, out=u)
            np.multiply(u, g, out=u)
            _mean_square(d, u, rho, w)
            _move(p, u, -lr, w)


@quiet
def lars(params: list[Array], grads: list[Array], momentum_buffers: list[Array], adapted: list[bool], *, lr: Rate,
         momentum: float, weight_decay: float, trust_coefficient: float, eps: float, nesterov: bool,
         maximize: bool) -> None:
    """SGD with layer-wise rates: where ``adapted``, the gradient with its decay is scaled by

        trust_coefficient |p| / (|g| + weight_decay |p| + eps)       (1 where |p| or |g| is zero)

    and the others take it as it is, without weight decay."""
    lr = _one(lr)
    for i, param in enumerate(params):
        grad, scale, decay = grads[i], 1.0, 0.0
        if adapted[i]:
            decay = weight_decay
            size, slope = norm(param), norm(grad)
            if size > 0 and slope > 0:
                scale = trust_coefficient * size / (slope + weight_decay * size + eps)
        for p, b, g, t, u, _ in _pieces([param, momentum_buffers[i]], [grad]):
            g = _gradient(p, g, t, decay, maximize)
            g = np.multiply(g, scale, out=t)
            np.multiply(b, momentum, out=b)
            np.add(b, g, out=b)
            if nesterov:
                np.multiply(b, momentum, out=u)
                g = np.add(g, u, out=u)
            else:
                g = b
            _move(p, g, -lr, t)


@quiet
def norm(x: Array) -> float:
    """Euclidean norm of all elements; the pieces are added up in float64, so a repeated run gives the same bits."""
    total = 0.0
    for piece, t, _, _ in _pieces([], [x]):
        np.multiply(piece, piece, out=t)
        total += float(np.add.reduce(t, dtype=np.float64))
    return math.sqrt(total)
