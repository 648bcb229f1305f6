"""Optimizers without PyTorch: the update rules written out in NumPy, groups, hooks, saving, errors."""
import copy
import math
import pickle
import warnings

import numpy as np
import pytest

import tritium
from tritium import optim


def parameter(values, dtype=None):
    return tritium.tensor(values, dtype=dtype or tritium.float64).requires_grad_()


def steps(optimizer, p, grads):
    for g in grads:
        p.grad = tritium.tensor(g, dtype=p.dtype)
        optimizer.step()
    return p.detach().numpy().copy()


GRADS = np.random.default_rng(0).normal(size=(6, 3, 4))
START = np.random.default_rng(1).normal(size=(3, 4))


def sgd(p, grads, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    b = None
    for g in grads:
        g = g + weight_decay * p
        b = g if b is None else momentum * b + (1 - dampening) * g
        p = p - lr * (g + momentum * b if nesterov else b)
    return p


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1},
                                     {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}])
def test_sgd(options):
    p = parameter(START)
    found = steps(optim.SGD([p], lr=0.1, **options), p, GRADS)
    np.testing.assert_allclose(found, sgd(START, GRADS, 0.1, **options), rtol=1e-13)


def test_maximize_goes_up():
    p = parameter(START)
    found = steps(optim.SGD([p], lr=0.1, maximize=True), p, GRADS)
    np.testing.assert_allclose(found, sgd(START, -GRADS, 0.1), rtol=1e-13)


def adam(p, grads, lr, b1=0.9, b2=0.999, eps=1e-8, l2=0.0, decoupled=0.0, amsgrad=False):
    m = v = top = np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        p = p * (1 - lr * decoupled)
        g = g + l2 * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        top = np.maximum(top, v)
        p = p - lr * m / (1 - b1 ** t) / (np.sqrt((top if amsgrad else v) / (1 - b2 ** t)) + eps)
    return p


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_and_adamw(amsgrad):
    p, q = parameter(START), parameter(START)
    found = steps(optim.Adam([p], lr=0.01, weight_decay=0.1, amsgrad=amsgrad), p, GRADS)
    np.testing.assert_allclose(found, adam(START, GRADS, 0.01, l2=0.1, amsgrad=amsgrad), rtol=1e-12)
    found = steps(optim.AdamW([q], lr=0.01, weight_decay=0.1, amsgrad=amsgrad), q, GRADS)
    np.testing.assert_allclose(found, adam(START, GRADS, 0.01, decoupled=0.1, amsgrad=amsgrad), rtol=1e-12)


def test_rmsprop_adagrad_adadelta():
    p, q, r = parameter(START), parameter(START), parameter(START)
    v = s = a = d = np.zeros_like(START)
    x, y, z = START, START, START
    for g in GRADS:
        v = 0.99 * v + 0.01 * g * g
        x = x - 0.01 * g / (np.sqrt(v) + 1e-8)
        s = s + g * g
        y = y - 0.01 * g / (np.sqrt(s) + 1e-10)
        a = 0.9 * a + 0.1 * g * g
        step = np.sqrt(d + 1e-6) / np.sqrt(a + 1e-6) * g
        d = 0.9 * d + 0.1 * step * step
        z = z - step
    np.testing.assert_allclose(steps(optim.RMSprop([p]), p, GRADS), x, rtol=1e-12)
    np.testing.assert_allclose(steps(optim.Adagrad([q]), q, GRADS), y, rtol=1e-12)
    np.testing.assert_allclose(steps(optim.Adadelta([r]), r, GRADS), z, rtol=1e-12)


def test_lars_is_the_paper_s_update():
    """Algorithm 1 of arXiv:1708.03888, with a constant learning rate."""
    w, bias = parameter(START), parameter(START[0])
    optimizer = optim.LARS([w, bias], lr=0.3, momentum=0.9, weight_decay=0.05, trust_coefficient=0.02, eps=0.0)
    p, q, v, u = START, START[0], np.zeros_like(START), np.zeros_like(START[0])
    for g in GRADS:
        w.grad, bias.grad = tritium.tensor(g), tritium.tensor(g[0])
        optimizer.step()
        local = 0.02 * np.linalg.norm(p) / (np.linalg.norm(g) + 0.05 * np.linalg.norm(p))
        v = 0.9 * v + 0.3 * local * (g + 0.05 * p)
        p = p - v
        u = 0.9 * u + 0.3 * g[0]  # one dimension: no trust ratio, no weight decay
        q = q - u
    np.testing.assert_allclose(w.detach().numpy(), p, rtol=1e-12)
    np.testing.assert_allclose(bias.detach().numpy(), q, rtol=1e-12)


def test_lars_takes_plain_steps_from_zero_and_on_request_adapts_everything():
    p = parameter(np.zeros((2, 2)))
    assert np.allclose(steps(optim.LARS([p], lr=0.5, momentum=0.0), p, [np.ones((2, 2))]), -0.5)
    p = parameter([3.0, 4.0])
    found = steps(optim.LARS([p], lr=1.0, trust_coefficient=0.1, eps=0.0, exclude_1d=False), p, [np.array([0.0, 2.0])])
    np.testing.assert_allclose(found, [3.0, 4.0 - 0.1 * 5 / 2 * 2])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta",
                                  "LARS"])
def test_every_optimizer_finds_the_minimum_and_skips_what_has_no_gradient(name):
    p, idle, frozen = parameter([3.0, -2.0]), parameter([1.0]), tritium.tensor([5.0])
    lr = {"Adadelta": 30.0, "Adagrad": 0.5, "LARS": 5.0, "RAdam": 0.3}.get(name, 0.05)
    optimizer = getattr(optim, name)([p, idle, frozen], lr=lr)
    for _ in range(300):
        optimizer.zero_grad()
        ((p - tritium.tensor([1.0, 2.0], dtype=tritium.float64)) ** 2).sum().backward()
        optimizer.step()
    if name != "LARS":  # its rate does not fall with the gradient
        np.testing.assert_allclose(p.tolist(), [1.0, 2.0], atol=0.05)
    assert idle.tolist() == [1.0] and frozen.tolist() == [5.0]
    if name != "Adagrad":  # which makes its state at once, as in PyTorch
        assert idle not in optimizer.state and frozen not in optimizer.state


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta",
                                  "LARS"])
def test_strides_low_precision_and_large_tensors(name):
    """Transposed and sliced memory, bfloat16 (computed in float32) and more than one piece give the same numbers."""
    def run(p, grads):
        extra = {"momentum": 0.9} if name in ("SGD", "RMSprop", "LARS") else {}
        optimizer = getattr(optim, name)([p], lr=0.05, **extra)
        for g in grads:
            p.grad = g
            optimizer.step()
        return p.detach()

    rng = np.random.default_rng(3)
    start, grads = rng.normal(size=(300, 250)), rng.normal(size=(3, 300, 250))  # more than two pieces
    whole = run(parameter(start), [tritium.tensor(g) for g in grads]).numpy()
    big = tritium.zeros(250, 600, dtype=tritium.float64)
    view = big.t()[::2]
    view.copy_(tritium.tensor(start))
    strided = view.requires_grad_()
    found = run(strided, [tritium.tensor(np.asfortranarray(g)) for g in grads]).numpy()
    np.testing.assert_allclose(found, whole, rtol=1e-12)
    np.testing.assert_allclose(big.t()[::2].detach().numpy(), whole, rtol=1e-12)
    assert not big.t()[1::2].any()
    low = parameter(start[:4], tritium.bfloat16)
    found = run(low, [tritium.tensor(g[:4], dtype=tritium.bfloat16) for g in grads])
    assert found.dtype is tritium.bfloat16
    np.testing.assert_allclose(found.float().numpy(), run(parameter(start[:4]), [tritium.tensor(g[:4]) for g in grads]),
                               rtol=0.05, atol=0.05)
    for shape in ((), (0, 3)):
        p = parameter(np.ones(shape))
        assert run(p, [tritium.ones(shape, dtype=tritium.float64)]).shape == shape


@pytest.mark.cpu_only(reason="it is the memory of the host that is measured")
def test_a_step_makes_no_large_temporaries():
    import tracemalloc

    p = tritium.ones(400_000).requires_grad_()
    p.grad = tritium.ones(400_000)
    optimizer = optim.Adam([p])
    optimizer.step()
    tracemalloc.start()
    optimizer.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000, f"{peak} bytes for a step over 1.6 MB"


def test_versions_count_the_step():
    p = parameter([1.0])
    loss = (p * p).sum()
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = tritium.ones(1, dtype=tritium.float64)
    before = p._version
    optimizer.step()
    assert p._version == before + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_closure_runs_with_gradients():
    p = parameter([2.0])
    optimizer = optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tritium.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert p.item() == 1.0
    assert optimizer.step() is None


def test_zero_grad():
    p = parameter([1.0, 2.0])
    optimizer = optim.SGD([p], lr=0.1)
    (p * p).sum().backward()
    grad = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad and grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None
    (p * p).sum().backward(create_graph=True)
    optimizer.zero_grad(set_to_none=False)
    assert not p.grad.requires_grad and p.grad.tolist() == [0.0, 0.0]


def test_groups():
    a, b, c = parameter([1.0]), parameter([1.0]), parameter([1.0])
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 0.5})
    for p in (a, b, c):
        p.grad = tritium.ones(1, dtype=tritium.float64)
    optimizer.step()
    np.testing.assert_allclose([a.item(), b.item(), c.item()], [0.9, 0.0, 0.5])
    optimizer.param_groups[0]["lr"] = 2.0
    optimizer.step()
    np.testing.assert_allclose(a.item(), -1.1)


def test_tensor_options():
    p = parameter([1.0])
    lr = tritium.tensor(0.5)
    optimizer = optim.SGD([p], lr=lr)
    p.grad = tritium.ones(1, dtype=tritium.float64)
    optimizer.step()
    lr.fill_(0.25)
    optimizer.step()
    assert p.item() == 0.25
    optimizer = optim.Adam([p], lr=tritium.tensor(0.1), betas=(tritium.tensor(0.9), tritium.tensor(0.99)))
    optimizer.step()
    np.testing.assert_allclose(p.item(), 0.15, rtol=1e-6)


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda p: optim.SGD([], lr=0.1), ValueError, "optimizer got an empty parameter list"),
    (lambda p: optim.SGD(p, lr=0.1), TypeError, "params argument given to the optimizer should be an iterable of"),
    (lambda p: optim.SGD([3], lr=0.1), TypeError, "optimizer can only optimize Tensors, but one of the params is int"),
    (lambda p: optim.SGD([{"params": {p}}]), TypeError, "need to be organized in ordered collections"),
    (lambda p: optim.SGD([p * 2], lr=0.1), ValueError, "can't optimize a non-leaf Tensor"),
    (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), ValueError, "appear in more than one parameter group"),
    (lambda p: optim.SGD([("w", p), p]), ValueError, "Some param names are missing"),
    (lambda p: optim.SGD([p], lr=-1), ValueError, "Invalid learning rate: -1"),
    (lambda p: optim.SGD([p], lr=tritium.ones(2)), ValueError, "Tensor lr must be 1-element"),
    (lambda p: optim.SGD([p], momentum=-1), ValueError, "Invalid momentum value: -1"),
    (lambda p: optim.SGD([p], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    (lambda p: optim.SGD([p], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
    (lambda p: optim.SGD([p], fused=True, foreach=True), RuntimeError, "`fused` and `foreach` cannot be `True`"),
    (lambda p: optim.Adam([p], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
    (lambda p: optim.Adam([p], betas=(0.9, -0.1)), ValueError, "Invalid beta parameter at index 1: -0.1"),
    (lambda p: optim.AdamW([p], eps=-1.0), ValueError, "Invalid epsilon value: -1.0"),
    (lambda p: optim.Adam([p], betas=(0, 0.9)), ValueError, "betas must be either both floats or both Tensors"),
    (lambda p: optim.Adam([p], lr=math.nan), ValueError, "Invalid learning rate: nan"),
    (lambda p: optim.Adadelta([p], rho=1.5), ValueError, "Invalid rho value: 1.5"),
    (lambda p: optim.RMSprop([p], alpha=-1), ValueError, "Invalid alpha value: -1"),
    (lambda p: optim.Adagrad([p], lr_decay=-1), ValueError, "Invalid lr_decay value: -1"),
    (lambda p: optim.LARS([p], trust_coefficient=-1), ValueError, "Invalid trust_coefficient value: -1"),
    (lambda p: optim.LARS([p], momentum=0, nesterov=True), ValueError, "Nesterov momentum requires a momentum"),
])
def test_refusals(make, error, text):
    with pytest.raises(error, match="(?s).*".join(text.split("|")).replace("(", r"\(")):
        make(parameter([1.0]))


def test_what_is_not_there_says_so():
    p = parameter([1.0])
    optimizer = optim.Adam([p], differentiable=True)
    with pytest.raises(NotImplementedError, match="differentiable"):
        optimizer.step()


def test_duplicates_warn():
    p = parameter([1.0])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p], lr=0.1)


def test_names_are_kept():
    p, q = parameter([1.0]), parameter([2.0])
    optimizer = optim.SGD([("p", p), ("q", q)], lr=0.1)
    assert optimizer.param_groups[0]["params"] == [p, q] or optimizer.param_groups[0]["params"][0] is p
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["p", "q"]
    with pytest.raises(ValueError, match="cannot add param group without names"):
        optimizer.add_param_group({"params": parameter([1.0])})


def test_repr():
    p = parameter([1.0])
    assert repr(optim.SGD([p], lr=0.1)) == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n    foreach: None\n    fused: None\n"
        "    lr: 0.1\n    maximize: False\n    momentum: 0\n    nesterov: False\n    weight_decay: 0\n)")


def trained(name="Adam"):
    p, q = parameter(START), parameter(START[0])
    optimizer = getattr(optim, name)([{"params": [p]}, {"params": [q], "lr": 0.02}], lr=0.01)
    for g in GRADS[:3]:
        p.grad, q.grad = tritium.tensor(g), tritium.tensor(g[0])
        optimizer.step()
    return optimizer, p, q


def test_state_dict():
    optimizer, p, q = trained()
    state = optimizer.state_dict()
    assert list(state) == ["state", "param_groups"]
    assert [g["params"] for g in state["param_groups"]] == [[0], [1]]
    assert list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    assert state["state"][1]["step"].item() == 3.0 and state["state"][1]["step"].dtype is tritium.float32
    assert state["state"][0]["exp_avg"] is optimizer.state[p]["exp_avg"]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta",
                                  "LARS"])
def test_resume_is_exact(name):
    optimizer, p, q = trained(name)
    saved = copy.deepcopy(optimizer.state_dict())
    p2, q2 = p.detach().clone().requires_grad_(), q.detach().clone().requires_grad_()
    other = getattr(optim, name)([{"params": [p2]}, {"params": [q2]}], lr=9.0)
    other.load_state_dict(saved)
    for o, a, b in ((optimizer, p, q), (other, p2, q2)):
        for g in GRADS[3:]:
            a.grad, b.grad = tritium.tensor(g), tritium.tensor(g[0])
            o.step()
    assert np.array_equal(p.detach().numpy(), p2.detach().numpy())
    assert np.array_equal(q.detach().numpy(), q2.detach().numpy())


def test_load_casts_state_but_not_steps():
    optimizer, _, _ = trained()
    p, q = parameter(START, tritium.float32), parameter(START[0], tritium.float32)
    other = optim.Adam([{"params": [p]}, {"params": [q]}])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[p]["exp_avg"].dtype is tritium.float32
    assert other.state[p]["step"].item() == 3.0
    assert other.param_groups[1]["lr"] == 0.02


def test_load_refuses_what_does_not_fit():
    optimizer, p, q = trained()
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.Adam([p]).load_state_dict(state)
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optim.Adam([{"params": [p, q]}, {"params": [parameter([1.0])]}]).load_state_dict(state)


def test_pickle_and_deepcopy():
    optimizer, p, _ = trained()
    for again in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        q = again.param_groups[0]["params"][0]
        assert q is not p and np.array_equal(q.detach().numpy(), p.detach().numpy())
        assert np.array_equal(again.state[q]["exp_avg"].numpy(), optimizer.state[p]["exp_avg"].numpy())
        assert repr(again) == repr(optimizer)
        q.grad = tritium.ones_like(q)
        again.step()
        assert again.state[q]["step"].item() == 4.0


def test_step_hooks():
    p = parameter([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    seen = []
    handles = [optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append("before")),
               optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append("after")),
               optim.optimizer.register_optimizer_step_pre_hook(lambda o, args, kwargs: seen.append("global before")),
               optim.optimizer.register_optimizer_step_post_hook(lambda o, args, kwargs: seen.append("global after"))]
    optimizer.step()
    assert seen == ["global before", "before", "after", "global after"]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(seen) == 4
    optimizer.register_step_pre_hook(lambda o, args, kwargs: "wrong")
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_state_dict_hooks():
    optimizer, _, _ = trained()
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append(1))
    optimizer.register_state_dict_pre_hook(lambda o: seen.append(0), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append(2))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(3))
    state = optimizer.state_dict()
    assert state.pop("more") == 1
    optimizer.load_state_dict(state)
    assert seen == [0, 1, 2, 3]


def test_an_optimizer_of_one_s_own():
    """Written as for PyTorch: only the base class is used, and hooks run once although step calls step."""
    class Halving(optim.Optimizer):
        def __init__(self, params, factor=optim.optimizer.required):
            super().__init__(params, {"factor": factor})

        @tritium.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.mul_(group["factor"])

    class Twice(Halving):
        def step(self, closure=None):
            super().step()
            super().step()

    p = parameter([8.0])
    with pytest.raises(ValueError, match="didn't specify a value of required optimization parameter factor"):
        Halving([p])
    p.grad = tritium.ones(1, dtype=tritium.float64)
    optimizer, seen = Twice([p], 0.5), []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert p.item() == 2.0 and seen == [1]
    with pytest.raises(NotImplementedError):
        optim.Optimizer([p], {}).step()
