"""L-BFGS, https://docs.pytorch.org/docs/stable/generated/torch.optim.LBFGS.html

Nocedal and Wright, Numerical Optimization (2nd edition): algorithm 7.4 (the two loops that give the direction), and 3.5
and 3.6 (a line search for a step that meets the strong Wolfe conditions).
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tritium.optim.optimizer import Closure, Optimizer, Params, check_lr, scalar
from tritium.tensor.creation import zeros
from tritium.tensor.grad_mode import enable_grad, no_grad
from tritium.tensor.ops.join import cat
from tritium.tensor.tensor import Tensor


class LBFGS(Optimizer):
    """Limited-memory BFGS over one group of parameters, seen as one long vector.

    ``step(closure)`` makes up to ``max_iter`` iterations, each of which calls the closure at least once. It stops at a
    gradient below ``tolerance_grad``, at a change below ``tolerance_change``, or after ``max_eval`` calls (default
    5/4 ``max_iter``). ``line_search_fn``: None (steps of ``lr``) or ``"strong_wolfe"``. State, kept with the first
    parameter: ``func_evals``, ``n_iter``, ``d`` (direction), ``t`` (step), ``old_dirs`` and ``old_stps`` (changes of
    gradient and parameters), ``ro``, ``H_diag``, ``prev_flat_grad``, ``prev_loss``.

    Raises ValueError for more than one group, RuntimeError for an unknown line search.
    """

    def __init__(self, params: Params, lr: float | Any = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        check_lr(lr)
        super().__init__(params, {"lr": lr, "max_iter": max_iter,
                                  "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                                  "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
                                  "history_size": history_size, "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @no_grad()
    def step(self, closure: Closure = None) -> Any:
        """Make up to ``max_iter`` iterations; returns what the first call of the closure returned."""
        if closure is None:
            raise TypeError("LBFGS.step() needs a closure that computes the loss again and returns it")
        group, params = self.param_groups[0], self.param_groups[0]["params"]
        lr, tolerance = scalar(group["lr"]), group["tolerance_change"]
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        state = self.state[params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        def evaluate() -> tuple[Any, Tensor]:
            with enable_grad():
                loss = closure()
            return loss, _flat_grad(params)

        first, grad = evaluate()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        if grad.abs().max().item() <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            self._direct(state, grad, group["history_size"])
            direction = state["d"]
            state["prev_flat_grad"], state["prev_loss"] = grad.clone(), loss
            state["t"] = min(1.0, 1.0 / grad.abs().sum().item()) * lr if state["n_iter"] == 1 else lr
            slope = _dot(grad, direction)
            if slope > -tolerance:
                break
            calls, done = 0, False
            if group["line_search_fn"] is not None:
                origin = [p.clone() for p in params]

                def at(t: float, direction: Tensor = direction, origin: list[Tensor] = origin) -> _Point:
                    _move(params, direction, t)
                    loss, grad = evaluate()
                    for p, before in zip(params, origin, strict=True):
                        p.copy_(before)
                    return _Point(t, float(loss), grad, _dot(grad, direction))

                found, calls = _search(at, _Point(0.0, loss, grad, slope), state["t"],
                                       direction.abs().max().item(), tolerance, group["max_eval"] - evaluations)
                loss, grad, state["t"] = found.loss, found.grad, found.t
                _move(params, direction, found.t)
                done = grad.abs().max().item() <= group["tolerance_grad"]
            else:
                _move(params, direction, state["t"])
                if iteration < group["max_iter"]:  # the next step evaluates the last point
                    value, grad = evaluate()
                    loss, calls = float(value), 1
                    done = grad.abs().max().item() <= group["tolerance_grad"]
            evaluations += calls
            state["func_evals"] += calls
            if (done or evaluations >= group["max_eval"]
                    or (direction * state["t"]).abs().max().item() <= tolerance
                    or abs(loss - state["prev_loss"]) < tolerance):
                break
        return first

    def _direct(self, state: dict[str, Any], grad: Tensor, history: int) -> None:
        """The next direction: minus the inverse Hessian, as the remembered steps show it, times the gradient."""
        if state["n_iter"] == 1:
            state.update(d=grad.neg(), old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return
        changes, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        change, step = grad - state["prev_flat_grad"], state["d"] * scalar(state["t"])
        curvature = _dot(change, step)
        if curvature > 1e-10:
            if len(changes) == history:
                for remembered in (changes, steps, ro):
                    remembered.pop(0)
            changes.append(change)
            steps.append(step)
            ro.append(1.0 / curvature)
            state["H_diag"] = curvature / _dot(change, change)
        direction = grad.neg()
        weights = [0.0] * len(changes)
        for i in reversed(range(len(changes))):
            weights[i] = _dot(steps[i], direction) * scalar(ro[i])
            direction.add_(changes[i], alpha=-weights[i])
        direction.mul_(scalar(state["H_diag"]))
        for i in range(len(changes)):
            direction.add_(steps[i], alpha=weights[i] - _dot(changes[i], direction) * scalar(ro[i]))
        state["d"] = direction


def _flat_grad(params: list[Tensor]) -> Tensor:
    return cat([zeros(p.numel(), dtype=p.dtype, device=p.device) if p.grad is None else p.grad.reshape(-1)
                for p in params], 0)


def _dot(a: Tensor, b: Tensor) -> float:
    return a.dot(b).item()


def _move(params: list[Tensor], direction: Tensor, t: float) -> None:
    start = 0
    for p in params:
        p.add_(direction[start:start + p.numel()].view_as(p), alpha=t)
        start += p.numel()


@dataclass
class _Point:
    """A point on the line: how far along, loss, gradient, and slope along the line."""

    t: float
    loss: float
    grad: Tensor
    slope: float


def _cubic(a: _Point, b: _Point, low: float, high: float) -> float:
    """The minimum in [low, high] of the cubic with these two values and slopes; the middle if it has none."""
    if a.t > b.t:
        a, b = b, a
    mean = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = mean ** 2 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2.0
    root = math.sqrt(square)
    t = b.t - (b.t - a.t) * ((b.slope + root - mean) / (b.slope - a.slope + 2 * root))
    return min(max(t, low), high)


def _search(at: Callable[[float], _Point], start: _Point, t: float, size: float, tolerance: float,
            limit: int) -> tuple[_Point, int]:
    """A point that meets the strong Wolfe conditions (c1 = 1e-4, c2 = 0.9), or the best found; and the calls made."""
    c1, c2 = 1e-4, 0.9

    def too_high(p: _Point) -> bool:
        return p.loss > start.loss + c1 * p.t * start.slope

    def flat(p: _Point) -> bool:
        return abs(p.slope) <= -c2 * start.slope

    # go further until there is a minimum in between
    before, now = start, at(t)
    calls, rounds = 1, 0
    while rounds < limit:
        if too_high(now) or (rounds > 1 and now.loss >= before.loss):
            break
        if flat(now):
            return now, calls
        if now.slope >= 0:
            break
        t = _cubic(before, now, now.t + 0.01 * (now.t - before.t), now.t * 10)
        before, now = now, at(t)
        calls, rounds = calls + 1, rounds + 1
    else:
        before = start
    low, high = (before, now) if before.loss <= now.loss else (now, before)

    # close in on it
    stuck = False
    while rounds < limit and abs(high.t - low.t) * size >= tolerance:
        left, right = min(low.t, high.t), max(low.t, high.t)
        t = _cubic(low, high, left, right)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:  # twice too close to an end: keep away from it
            if stuck or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        new = at(t)
        calls, rounds = calls + 1, rounds + 1
        if too_high(new) or new.loss >= low.loss:
            low, high = (low, new) if low.loss <= new.loss else (new, low)
            continue
        if flat(new):
            return new, calls
        if new.slope * (high.t - low.t) >= 0:
            high = low
        low = new
    return low, calls
