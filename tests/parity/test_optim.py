"""Optimizers and schedules against PyTorch's."""
import copy
import warnings

import numpy as np
import pytest

import tritium

torch = pytest.importorskip("torch")

SHAPES = [(5, 3), (4,), (2, 3, 1, 2), ()]
RNG = np.random.default_rng(0)
START = [np.asarray(RNG.normal(size=s)) for s in SHAPES]
GRADS = [[np.asarray(RNG.normal(size=s)) for s in SHAPES] for _ in range(12)]

CASES = [
    ("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05}), ("SGD", {"momentum": 0.5, "maximize": True}),
    ("Adam", {}), ("Adam", {"amsgrad": True, "weight_decay": 0.1}), ("Adam", {"betas": (0.5, 0.9), "maximize": True}),
    ("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {}), ("AdamW", {"amsgrad": True, "weight_decay": 0.3, "eps": 1e-3}),
    ("Adamax", {}), ("Adamax", {"weight_decay": 0.1, "betas": (0.5, 0.9)}),
    ("NAdam", {}), ("NAdam", {"weight_decay": 0.1}), ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"betas": (0.9, 0.8)}), ("RAdam", {"weight_decay": 0.1}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.9, 0.7)}),
    ("RMSprop", {}), ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}), ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "maximize": True}),
    ("Adagrad", {}), ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {}), ("Adadelta", {"rho": 0.5, "weight_decay": 0.1, "maximize": True}),
]
IDS = [f"{name}-{'-'.join(options) or 'plain'}" for name, options in CASES]


def make(fw, name, options, dtype="float64"):
    dtype = getattr(fw, dtype)
    params = [fw.tensor(v, dtype=dtype).requires_grad_() for v in START]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.02}]
    return params, getattr(fw.optim, name)(groups, lr=0.1, **options)


def run(fw, params, optimizer, grads):
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = fw.tensor(g, dtype=p.dtype)
        optimizer.step()


def numbers(params):
    return [p.detach().numpy() for p in params]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 3e-6)])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_ten_steps(name, options, dtype, tolerance):
    found = []
    for fw in (tritium, torch):
        params, optimizer = make(fw, name, options, dtype)
        run(fw, params, optimizer, GRADS[:10])
        found.append((numbers(params), optimizer))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    ours, theirs = found[0][1], found[1][1]
    assert repr(ours) == repr(theirs)
    a, b = ours.state_dict(), theirs.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert [list(g) for g in a["param_groups"]] == [list(g) for g in b["param_groups"]]
    assert list(a["state"]) == list(b["state"])
    for number in a["state"]:
        assert list(a["state"][number]) == list(b["state"][number])
        for key, value in a["state"][number].items():
            expected = b["state"][number][key]
            assert str(value.dtype)[8:] == str(expected.dtype)[6:], key
            np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_pytorch_s_state_goes_on_here(name, options):
    theirs_params, theirs = make(torch, name, options)
    run(torch, theirs_params, theirs, GRADS[:5])
    state = copy.deepcopy(theirs.state_dict())
    for entry in state["state"].values():
        for key, value in entry.items():
            entry[key] = tritium.from_numpy(value.numpy().copy()) if value.ndim else tritium.tensor(
                value.item(), dtype=getattr(tritium, str(value.dtype)[6:]))
    params, ours = make(tritium, name, options)
    with tritium.no_grad():
        for p, q in zip(params, theirs_params, strict=True):
            p.copy_(tritium.from_numpy(q.detach().numpy().copy()))
    ours.load_state_dict(state)
    run(torch, theirs_params, theirs, GRADS[5:])
    run(tritium, params, ours, GRADS[5:])
    for a, b in zip(numbers(params), numbers(theirs_params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "NAdam"])
def test_checkpoints_go_both_ways_through_files(name, tmp_path):
    options = {"momentum": 0.9} if name == "SGD" else {}
    params, ours = make(tritium, name, options)
    run(tritium, params, ours, GRADS[:4])
    tritium.save({"state": ours.state_dict(), "params": [p.detach() for p in params]}, tmp_path / "ours.pt")
    theirs_params, theirs = make(torch, name, options)
    saved = torch.load(tmp_path / "ours.pt", map_location="cpu", weights_only=True)
    theirs.load_state_dict(saved["state"])
    for p, value in zip(theirs_params, saved["params"], strict=True):
        p.data.copy_(value)
    run(torch, theirs_params, theirs, GRADS[4:8])
    torch.save({"state": theirs.state_dict(), "params": [p.detach() for p in theirs_params]}, tmp_path / "theirs.pt")
    again, back = make(tritium, name, options)
    saved = tritium.load(tmp_path / "theirs.pt")
    back.load_state_dict(saved["state"])
    for p, value in zip(again, saved["params"], strict=True):
        p.data.copy_(value)
    run(tritium, params, ours, GRADS[4:])
    run(tritium, again, back, GRADS[8:])
    for a, b in zip(numbers(params), numbers(again), strict=True):
        # PyTorch casts NAdam's mu_product, a float32 number, to the parameter's dtype when it loads
        np.testing.assert_allclose(a, b, rtol=1e-6 if name == "NAdam" else 1e-11)


def test_training_a_model():
    """Gradients from autograd, closures, some parameters without a gradient."""
    def train(fw):
        x, y = (fw.tensor(np.random.default_rng(i).normal(size=s)) for i, s in ((1, (8, 5)), (2, (8, 3))))
        w = fw.tensor(START[0]).requires_grad_()
        b = fw.zeros(3, dtype=fw.float64).requires_grad_()
        idle = fw.ones(2, dtype=fw.float64).requires_grad_()
        optimizer = fw.optim.AdamW([w, b, idle], lr=0.05)

        def closure():
            optimizer.zero_grad()
            loss = ((x @ w + b - y) ** 2).mean()
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(10)]
        return [losses, w.tolist(), b.tolist(), idle.tolist(), sorted(optimizer.state_dict()["state"])]

    ours, theirs = train(tritium), train(torch)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


SCHEDULES = {
    "step": lambda L, o: L.StepLR(o, 3, 0.5),
    "multistep": lambda L, o: L.MultiStepLR(o, [2, 5, 5, 11], 0.3),
    "exponential": lambda L, o: L.ExponentialLR(o, 0.93),
    "constant": lambda L, o: L.ConstantLR(o, 0.3, 4),
    "linear": lambda L, o: L.LinearLR(o, 0.07, 0.9, 6),
    "cosine": lambda L, o: L.CosineAnnealingLR(o, 7, 0.01),
    "restarts": lambda L, o: L.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    "lambda": lambda L, o: L.LambdaLR(o, [lambda e: 0.95 ** e, lambda e: 1 / (e + 1)]),
    "multiplicative": lambda L, o: L.MultiplicativeLR(o, lambda e: 0.9),
    "polynomial": lambda L, o: L.PolynomialLR(o, 9, 1.7),
    "one cycle": lambda L, o: L.OneCycleLR(o, [0.5, 0.7], 25),
    "one cycle, linear, three phases": lambda L, o: L.OneCycleLR(o, 0.5, epochs=5, steps_per_epoch=5, three_phase=True,
                                                                 anneal_strategy="linear"),
    "warm-up, then cosine": lambda L, o: L.SequentialLR(o, [L.LinearLR(o, 0.01, total_iters=5),
                                                            L.CosineAnnealingLR(o, 15)], [5]),
    "three in a row": lambda L, o: L.SequentialLR(o, [L.ConstantLR(o, 0.1, 3), L.ExponentialLR(o, 0.8),
                                                      L.StepLR(o, 2, 0.5)], [3, 9]),
    "chained": lambda L, o: L.ChainedScheduler([L.LinearLR(o, 0.2, total_iters=4), L.ExponentialLR(o, 0.9),
                                                L.StepLR(o, 5)]),
}


def plain(value):
    """A state_dict without what differs by framework."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_to_the_last_bit(name):
    def run(fw):
        params = [fw.ones(1).requires_grad_() for _ in range(2)]
        o = fw.optim.SGD([{"params": [params[0]]}, {"params": [params[1]], "lr": 0.3}], lr=0.1, momentum=0.9)
        schedule = SCHEDULES[name](fw.optim.lr_scheduler, o)
        seen = []
        for epoch in range(24):
            seen.append([(g["lr"], g["momentum"]) for g in o.param_groups])
            seen.append(list(schedule.get_last_lr()))
            o.step()
            schedule.step()
            if epoch == 12:  # stop, and go on from what was saved
                saved = copy.deepcopy((schedule.state_dict(), o.state_dict()))
                schedule = SCHEDULES[name](fw.optim.lr_scheduler, o)
                schedule.load_state_dict(saved[0])
                o.load_state_dict(saved[1])
        return seen, plain(schedule.state_dict())

    (ours, our_state), (theirs, their_state) = run(tritium), run(torch)
    assert ours == theirs
    assert our_state == their_state


@pytest.mark.parametrize("options", [{}, {"mode": "max", "threshold_mode": "abs"}, {"patience": 1, "cooldown": 2},
                                     {"factor": 0.5, "min_lr": [0.05, 0.2], "patience": 0}])
def test_plateau(options):
    metrics = np.random.default_rng(0).normal(size=40).round(1)

    def run(fw):
        o = fw.optim.SGD([{"params": [fw.ones(1).requires_grad_()]},
                          {"params": [fw.ones(1).requires_grad_()], "lr": 0.3}], lr=0.1)
        schedule = fw.optim.lr_scheduler.ReduceLROnPlateau(o, **{"patience": 3, **options})
        seen = []
        for m in metrics:
            schedule.step(m)
            seen.append([g["lr"] for g in o.param_groups])
        return seen, schedule.state_dict()

    assert run(tritium) == run(torch)


@pytest.mark.parametrize("name", ["step", "cosine", "exponential", "linear", "multistep", "polynomial", "constant"])
def test_deprecated_epochs_use_the_closed_form(name):
    def run(fw):
        o = fw.optim.SGD([fw.ones(1).requires_grad_()], lr=0.1)
        schedule = SCHEDULES[name](fw.optim.lr_scheduler, o)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [(schedule.step(epoch), schedule.get_last_lr())[1] for epoch in (1, 4, 4, 9, 2)]

    assert run(tritium) == run(torch)


def test_last_epoch_resumes():
    def run(fw, make_):
        o = fw.optim.SGD([{"params": [fw.ones(1).requires_grad_()], "initial_lr": 0.4}], lr=0.1)
        schedule = make_(fw.optim.lr_scheduler, o)
        seen = [schedule.get_last_lr()]
        for _ in range(4):
            o.step()
            schedule.step()
            seen.append(schedule.get_last_lr())
        return seen

    for make_ in (lambda L, o: L.StepLR(o, 3, 0.5, last_epoch=4), lambda L, o: L.CosineAnnealingLR(o, 9, last_epoch=4),
                  lambda L, o: L.LinearLR(o, last_epoch=2), lambda L, o: L.ExponentialLR(o, 0.5, last_epoch=2),
                  lambda L, o: L.LambdaLR(o, lambda e: 1 / (e + 1), last_epoch=3),
                  lambda L, o: L.PolynomialLR(o, 9, last_epoch=2)):
        assert run(tritium, make_) == run(torch, make_)


@pytest.mark.parametrize("options", [{}, {"lr": 0.5, "history_size": 3}, {"line_search_fn": "strong_wolfe"},
                                     {"line_search_fn": "strong_wolfe", "max_iter": 7, "lr": 3.0},
                                     {"line_search_fn": "strong_wolfe", "max_eval": 9}])
@pytest.mark.parametrize("problem", ["rosenbrock", "least squares"])
def test_lbfgs(problem, options):
    def run(fw):
        x = fw.tensor([-1.2, 1.0, 0.7], dtype=fw.float64).requires_grad_()
        w = fw.tensor(START[0], dtype=fw.float64).requires_grad_()
        optimizer = fw.optim.LBFGS([x, w], **({"lr": 0.01, **options} if problem == "rosenbrock" else options))
        calls = []

        def closure():
            optimizer.zero_grad()
            if problem == "rosenbrock":
                loss = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum() + (w ** 4).sum()
            else:
                loss = ((w * fw.tensor([1.0, 2.0, 3.0]) - 2) ** 2).sum() + (x ** 2).sum()
            loss.backward()
            calls.append(loss.item())
            return loss

        for _ in range(2):
            optimizer.step(closure)
        state = optimizer.state_dict()["state"][0]
        return calls, x.tolist() + w.reshape(-1).tolist(), state["func_evals"], state["n_iter"]

    (calls, end, *counts), (their_calls, their_end, *their_counts) = run(tritium), run(torch)
    assert counts == their_counts
    np.testing.assert_allclose(calls, their_calls, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(end, their_end, rtol=1e-6, atol=1e-9)
