"""Learning rate schedules against their formulas; saving, resuming, warnings."""
import copy
import math
import warnings

import numpy as np
import pytest

import tritium
from tritium import optim
from tritium.optim import lr_scheduler as L


def optimizer(lr=0.5, groups=1, kind=optim.SGD, **options):
    params = [{"params": [tritium.ones(1).requires_grad_()], "lr": lr / (i + 1)} for i in range(groups)]
    return kind(params, lr=lr, **options)


def rates(make, epochs=30, o=None):
    o = o or optimizer()
    schedule = make(o)
    found = []
    for _ in range(epochs):
        found.append(o.param_groups[0]["lr"])
        assert schedule.get_last_lr()[0] == found[-1]
        o.step()
        schedule.step()
    return np.array(found)


E = np.arange(30)
CURVES = [
    (lambda o: L.StepLR(o, 7, 0.3), 0.5 * 0.3 ** (E // 7)),
    (lambda o: L.MultiStepLR(o, [3, 9, 9], 0.3), 0.5 * 0.3 ** ((E >= 3) + 2.0 * (E >= 9))),
    (lambda o: L.ExponentialLR(o, 0.9), 0.5 * 0.9 ** E),
    (lambda o: L.ConstantLR(o, 0.25, 6), 0.5 * np.where(E < 6, 0.25, 1)),
    (lambda o: L.LinearLR(o, 0.1, 0.8, 10), 0.5 * np.minimum(0.1 + 0.07 * E, 0.8)),
    (lambda o: L.PolynomialLR(o, 12, 2.0), 0.5 * np.maximum(1 - E / 12, 0) ** 2),
    (lambda o: L.CosineAnnealingLR(o, 10, 0.1), 0.1 + 0.2 * (1 + np.cos(np.pi * E / 10))),
    (lambda o: L.CosineAnnealingWarmRestarts(o, 10, 1, 0.1), 0.1 + 0.2 * (1 + np.cos(np.pi * (E % 10) / 10))),
    (lambda o: L.LambdaLR(o, lambda e: 1 / (1 + e)), 0.5 / (1 + E)),
    (lambda o: L.MultiplicativeLR(o, lambda e: 0.95), 0.5 * 0.95 ** E),
    (lambda o: L.ChainedScheduler([L.LinearLR(o, 0.2, total_iters=4), L.ExponentialLR(o, 0.9)]),
     0.5 * np.minimum(0.2 + 0.2 * E, 1) * 0.9 ** E),
    (lambda o: L.SequentialLR(o, [L.LinearLR(o, 0.2, total_iters=4), L.ExponentialLR(o, 0.9)], [8]),
     0.5 * np.where(E < 8, np.minimum(0.2 + 0.2 * E, 1), 0.9 ** np.maximum(E - 8, 0))),
]


@pytest.mark.parametrize(("make", "expected"), CURVES)
def test_curves(make, expected):
    np.testing.assert_allclose(rates(make), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("make", "expected"), CURVES)
def test_resume_from_saved_states(make, expected):
    first = optimizer()
    schedule = make(first)
    for _ in range(11):
        first.step()
        schedule.step()
    saved = copy.deepcopy((schedule.state_dict(), first.state_dict()))
    second = optimizer()
    schedule = make(second)
    schedule.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    for epoch in range(11, 30):
        np.testing.assert_allclose(second.param_groups[0]["lr"], expected[epoch], rtol=1e-12, atol=1e-15)
        second.step()
        schedule.step()


def test_warm_restarts_with_growing_cycles_and_fractions():
    found = rates(lambda o: L.CosineAnnealingWarmRestarts(o, 2, 2), 14)
    cycle = np.array([0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7])
    length = np.array([2] * 2 + [4] * 4 + [8] * 8)
    np.testing.assert_allclose(found, 0.25 * (1 + np.cos(np.pi * cycle / length)), rtol=1e-12)
    o = optimizer()
    schedule = L.CosineAnnealingWarmRestarts(o, 2, 2)
    schedule.step(3.5)  # one and a half into the second cycle
    np.testing.assert_allclose(o.param_groups[0]["lr"], 0.25 * (1 + math.cos(math.pi * 1.5 / 4)))


def test_one_cycle():
    o = optimizer(momentum=0.9)
    schedule = L.OneCycleLR(o, max_lr=1.0, total_steps=20, pct_start=0.25)
    seen = []
    for _ in range(20):
        seen.append((o.param_groups[0]["lr"], o.param_groups[0]["momentum"]))
        o.step()
        schedule.step()
    lr, momentum = np.array(seen).T
    assert lr.argmax() == 4 and lr[4] == 1.0 and momentum.argmin() == 4
    np.testing.assert_allclose([lr[0], lr[-1]], [0.04, 4e-6])
    np.testing.assert_allclose([momentum[0], momentum[4], momentum[-1]], [0.95, 0.85, 0.95])
    with pytest.raises(ValueError, match="Tried to step 21 times. The specified number of total steps is 20"):
        schedule.step()
    o = optimizer(kind=optim.Adam)
    L.OneCycleLR(o, 1.0, epochs=2, steps_per_epoch=10)
    assert o.param_groups[0]["betas"] == (0.95, 0.999)


def test_plateau():
    o = optimizer(lr=1.0)
    schedule = L.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    seen = []
    for metric in [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, tritium.tensor(1.0)]:
        schedule.step(metric)
        seen.append(schedule.get_last_lr()[0])
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]
    best = L.ReduceLROnPlateau(optimizer(), mode="max", threshold=0.1, threshold_mode="abs")
    best.step(1.0)
    best.step(1.05)
    assert (best.best, best.num_bad_epochs) == (1.0, 1)


def test_several_groups_and_tensor_rates():
    o = optimizer(groups=2)
    L.ExponentialLR(o, 0.5)
    schedule = L.LambdaLR(o, [lambda e: 1.0, lambda e: 1.0 / (e + 1)])
    o.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.125]
    o = optim.SGD([tritium.ones(1).requires_grad_()], lr=tritium.tensor(0.5))
    rate = o.param_groups[0]["lr"]
    schedule = L.StepLR(o, 1)
    o.step()
    schedule.step()
    assert o.param_groups[0]["lr"] is rate
    np.testing.assert_allclose(rate.item(), 0.05, rtol=1e-6)


def test_callable_objects_are_saved_with_their_attributes():
    class Decay:
        def __init__(self, base):
            self.base = base

        def __call__(self, epoch):
            return self.base ** epoch

    state = L.LambdaLR(optimizer(), Decay(0.5)).state_dict()
    assert state["lr_lambdas"] == [{"base": 0.5}] and "optimizer" not in state
    schedule = L.LambdaLR(optimizer(), Decay(0.9))
    schedule.load_state_dict(state)
    assert schedule.lr_lambdas[0].base == 0.5
    assert L.LambdaLR(optimizer(), lambda e: 1.0).state_dict()["lr_lambdas"] == [None]


def test_order_of_calls_is_watched():
    schedule = L.StepLR(optimizer(), 3)
    with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        schedule.step()
    o = optimizer()
    o.step()  # a step before there was a schedule does not count
    schedule = L.StepLR(o, 3)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()
    o = optimizer()
    schedule = L.StepLR(o, 3)
    o.step = lambda: None
    with pytest.warns(UserWarning, match="has been overridden after learning rate scheduler"):
        schedule.step()
    o = optimizer()
    schedule = L.StepLR(o, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            o.step()
            schedule.step()
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        schedule.get_lr()
    with pytest.warns(UserWarning, match="The epoch parameter"):
        schedule.step(9)
    assert o.param_groups[0]["lr"] == 0.5 * 0.1 ** 3


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda o: L.StepLR(3, 1), TypeError, "int is not an Optimizer"),
    (lambda o: L.StepLR(o, 1, last_epoch=4), KeyError, "param 'initial_lr' is not specified in param_groups.0."),
    (lambda o: L.LambdaLR(o, [abs, abs]), ValueError, "Expected 1 lr_lambdas, but got 2"),
    (lambda o: L.MultiplicativeLR(o, 3), TypeError, "lr_lambda should be a function, but got int"),
    (lambda o: L.ConstantLR(o, 2.0), ValueError, "Constant multiplicative factor expected to be between 0 and 1."),
    (lambda o: L.LinearLR(o, 0.0), ValueError, "Starting multiplicative factor expected to be greater than 0"),
    (lambda o: L.LinearLR(o, end_factor=2.0), ValueError, "Ending multiplicative factor expected to be between 0"),
    (lambda o: L.CosineAnnealingWarmRestarts(o, 0), ValueError, "Expected positive integer T_0, but got 0"),
    (lambda o: L.OneCycleLR(o, 1.0), ValueError, "You must define either total_steps OR"),
    (lambda o: L.OneCycleLR(o, [1.0, 2.0], 5), ValueError, "max_lr must have the same length as"),
    (lambda o: L.OneCycleLR(o, 1.0, 5, pct_start=2.0), ValueError, "Expected float between 0 and 1 pct_start"),
    (lambda o: L.OneCycleLR(o, 1.0, 5, anneal_strategy="x"), ValueError, "anneal_strategy must be one of"),
    (lambda o: L.ReduceLROnPlateau(o, factor=1.0), ValueError, "Factor should be < 1.0."),
    (lambda o: L.ReduceLROnPlateau(o, mode="best"), ValueError, "mode best is unknown!"),
    (lambda o: L.ReduceLROnPlateau(o, min_lr=[0.1, 0.2]), ValueError, "expected 1 min_lrs, got 2"),
    (lambda o: L.SequentialLR(o, [], []), ValueError, "SequentialLR expects at least one scheduler"),
    (lambda o: L.SequentialLR(o, [L.StepLR(o, 1)], [3]), ValueError, "one more than the number of milestone points"),
    (lambda o: L.ChainedScheduler([]), ValueError, "expects at least one scheduler to be chained"),
    (lambda o: L.ChainedScheduler([L.StepLR(o, 1), L.StepLR(optimizer(), 1)]), ValueError, "the same optimizer"),
    (lambda o: L.ChainedScheduler([L.ReduceLROnPlateau(o)]), ValueError, "does not support `ReduceLROnPlateau`"),
])
def test_refusals(make, error, text):
    with pytest.raises(error, match=text):
        make(optimizer())
