"""Random programs of views, in-place operations and assignments: values, gradients and what requires grad are
PyTorch's; and where PyTorch refuses what tritium can do, finite differences agree."""
import random

import numpy as np
import pytest

import tritium

torch = pytest.importorskip("torch")

STEPS = ["view"] * 3 + ["change"] * 4 + ["change with", "op", "op with", "set", "set at", "no_grad", "detach", "use"]
VIEWS = [lambda t, r: t[int(r * t.shape[0])], lambda t, r: t[1:], lambda t, r: t[::2], lambda t, r: t.unsqueeze(0),
         lambda t, r: t.transpose(0, -1), lambda t, r: t.view(-1), lambda t, r: t.reshape(-1), lambda t, r: t.diagonal(),
         lambda t, r: t.squeeze(), lambda t, r: t.narrow(0, 0, 1), lambda t, r: t[..., None], lambda t, r: t[:, 1:]]
CHANGES = [lambda t: t.mul_(2.5), lambda t: t.add_(1.5), lambda t: t.sin_(), lambda t: t.tanh_(), lambda t: t.zero_(),
           lambda t: t.fill_(0.7), lambda t: t.pow_(2), lambda t: t.sigmoid_(), lambda t: t.neg_(), lambda t: t.div_(1.7)]
CHANGES_WITH = [lambda t, o: t.mul_(o), lambda t, o: t.add_(o), lambda t, o: t.sub_(o), lambda t, o: t.copy_(o),
                lambda t, o: t.add_(o, alpha=2)]
OPS = [lambda t: t * 3, lambda t: t.sin(), lambda t: t * t, lambda t: t.exp(), lambda t: t.clone()]
OPS_WITH = [lambda t, o: t * o, lambda t, o: t + o, lambda t, o: t - o]


def pick(items, r):
    return items[int(r * len(items))]


def run(m, program, dx=0.0, dw=0.0):
    """What happens at each step, the tensors at the end, and the gradients of a sum of them all."""
    x = m.tensor(np.arange(1.0, 7.0).reshape(2, 3) / 3 + dx).requires_grad_()
    w = m.tensor(np.array([0.5, -1.0, 2.0]) + dw).requires_grad_()
    pool, total, log = [x * 1, m.zeros(2, 3, dtype=m.float64), w * 2], m.zeros((), dtype=m.float64), []
    for step, a, b, c in program:
        t, other = pick(pool, a), pick(pool, c)
        try:
            if step == "view":
                pool.append(pick(VIEWS, b)(t, c))
            elif step == "change":
                pick(CHANGES, b)(t)
            elif step == "change with":
                pick(CHANGES_WITH, b)(t, other)
            elif step == "op":
                pool.append(pick(OPS, b)(t))
            elif step == "op with":
                pool.append(pick(OPS_WITH, b)(t, other))
            elif step == "set":
                t[int(b * t.shape[0])] = 1.25 if c < 0.5 else w[0] * c
            elif step == "set at":
                t[m.tensor([0])] = w[1] * 1
            elif step == "no_grad":
                with m.no_grad():
                    t.mul_(1.5)
            elif step == "detach":
                pool.append(t.detach())
            else:
                total = total + (t * b).sum()
            log.append("ok")
        except (RuntimeError, IndexError) as error:
            log.append(type(error).__name__)
    for i, t in enumerate(pool):
        total = total + (t * (i + 1.0)).sum()
    try:
        total.backward()
        log.append("ok")
    except RuntimeError:
        log.append("changed")
    grads = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in (x, w)]
    return log, [t.detach().numpy() for t in pool], [t.requires_grad for t in pool], grads, total.item()


def programs(seed, count, steps=STEPS):
    rng = random.Random(seed)
    for _ in range(count):
        yield [(rng.choice(steps), rng.random(), rng.random(), rng.random()) for _ in range(rng.randrange(3, 12))]


@pytest.mark.parametrize("seed", range(4))
def test_programs_give_what_pytorch_gives(seed):
    compared = 0
    for program in programs(seed, 150):
        ours, theirs = run(tritium, program), run(torch, program)
        if ours[0] != theirs[0]:  # PyTorch refuses memory that overlaps, and views that entered the graph later
            assert all(t != "ok" for o, t in zip(ours[0], theirs[0], strict=True) if o != t), program
            continue
        compared += 1
        assert ours[2] == theirs[2], program
        for a, b in zip(ours[1], theirs[1], strict=True):
            assert np.allclose(a, b, equal_nan=True), program
        if ours[0][-1] == "ok":
            for a, b in zip(ours[3], theirs[3], strict=True):
                assert np.allclose(a, b, equal_nan=True), program
    assert compared > 100


def test_gradients_are_those_of_finite_differences():
    checked = 0
    steps = [s for s in STEPS if s not in ("no_grad", "detach")]
    for program in programs(7, 120, steps):
        log, _, _, grads, total = run(tritium, program)
        if log[-1] != "ok" or not abs(total) < 1e5:
            continue
        checked += 1
        for which, found in enumerate(grads):
            for i in range(found.size):
                step = np.zeros(found.shape)
                step.flat[i] = 1e-6
                high, low = (run(tritium, program, *((s, 0.0) if which == 0 else (0.0, s)))[-1] for s in (step, -step))
                assert abs((high - low) / 2e-6 - found.flat[i]) < 1e-3 * max(1, abs(found.flat[i])), program
    assert checked > 60
