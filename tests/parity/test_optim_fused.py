"""Fused optimizers, learning rates in tensors and what capturable ones refuse, against PyTorch's."""
import numpy as np
import pytest

import tritium

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
START = [RNG.normal(size=s) for s in ((5, 3), (4,), ())]
GRADS = [[RNG.normal(size=np.shape(s)) for s in START] for _ in range(5)]
FUSED = [("SGD", {}), ("SGD", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}), ("Adam", {"amsgrad": True}),
         ("Adam", {"weight_decay": 0.1, "maximize": True}), ("AdamW", {}),
         ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1})]


def both(work):
    return [work(fw) for fw in (tritium, torch)]


def run(fw, name, options, dtype, scaler=(), rounds=5):
    """Parameters, gradients and state after some steps; ``scaler``: the found_inf of each step."""
    with fw.device("cpu"):
        params = [fw.tensor(np.asarray(s), dtype=getattr(fw, dtype)).requires_grad_() for s in START]
        optimizer = getattr(fw.optim, name)(params, lr=options.pop("lr", 0.1), **options)
        for i in range(rounds):
            for p, g in zip(params, GRADS[i], strict=True):
                p.grad = fw.tensor(np.asarray(g) * (8 if scaler else 1), dtype=p.dtype)
            if scaler:
                optimizer.grad_scale, optimizer.found_inf = fw.tensor(8.0), fw.tensor(float(scaler[i]))
            optimizer.step()
        state = [{k: (str(v.dtype).split(".")[1], str(v.device), v.double().tolist()) for k, v in
                  optimizer.state[p].items() if v is not None} for p in params]
    return [p.detach().double().tolist() for p in params], [p.grad.double().tolist() for p in params], state


def close(ours, theirs, dtype):
    tolerance = {"float64": 1e-12, "float32": 3e-6, "bfloat16": 1e-2}[dtype]
    for a, b in zip(ours[0] + ours[1], theirs[0] + theirs[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    for a, b in zip(ours[2], theirs[2], strict=True):
        assert {k: v[:2] for k, v in a.items()} == {k: v[:2] for k, v in b.items()}
        for k in a:
            np.testing.assert_allclose(a[k][2], b[k][2], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options"), FUSED, ids=str)
def test_fused(name, options, dtype):
    close(*both(lambda fw: run(fw, name, {**options, "fused": True}, dtype)), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options"), FUSED, ids=str)
def test_with_what_a_scaler_leaves(name, options, dtype):
    close(*both(lambda fw: run(fw, name, {**options, "fused": True}, dtype, (0, 1, 0, 0, 1))), dtype)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_learning_rate_in_a_tensor(name, shape):
    close(*both(lambda fw: run(fw, name, {"lr": fw.full(shape, 0.25, device="cpu")}, "float32")), "float32")


@pytest.mark.parametrize("schedule", [
    lambda s, o: s.ExponentialLR(o, 0.5), lambda s, o: s.StepLR(o, 2), lambda s, o: s.CosineAnnealingLR(o, 4),
    lambda s, o: s.LambdaLR(o, lambda e: 1 / (e + 1)), lambda s, o: s.LinearLR(o, total_iters=3)])
def test_schedules_change_a_tensor_in_place(schedule):
    def work(fw):
        with fw.device("cpu"):
            lr = fw.tensor(0.5)
            p = fw.ones(2).requires_grad_()
            optimizer = fw.optim.SGD([p], lr=lr)
            scheduler = schedule(fw.optim.lr_scheduler, optimizer)
            found = []
            for _ in range(4):
                p.grad = fw.ones(2)
                optimizer.step()
                scheduler.step()
                assert optimizer.param_groups[0]["lr"] is lr
                found.append(lr.item())
        return found

    ours, theirs = both(work)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def refused(work):
    def said(fw):
        try:
            work(fw)
        except Exception as error:
            return type(error).__name__, str(error).partition(":")[0]
        return None

    ours, theirs = both(said)
    assert theirs is not None and ours == theirs


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adadelta"])
def test_capturable_on_the_cpu(name):
    def work(fw):
        p = fw.ones(2, device="cpu").requires_grad_()
        optimizer = getattr(fw.optim, name)([p], capturable=True)
        p.grad = fw.ones(2, device="cpu")
        optimizer.step()

    refused(work)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_fused_refusals_and_marks(name):
    def make(fw, **options):
        return getattr(fw.optim, name)([fw.ones(2, device="cpu").requires_grad_()], **options)

    refused(lambda fw: make(fw, fused=True, foreach=True))
    refused(lambda fw: make(fw, fused=True, differentiable=True))
    marks = both(lambda fw: [getattr(make(fw, fused=on), "_step_supports_amp_scaling", None) for on in (True, False)])
    assert marks[0] == marks[1] == [True, None]


@pytest.mark.parametrize("name", ["Adam", "Adagrad"])
def test_loaded_steps_of_fused_groups_are_float32(name):
    def work(fw):
        p = fw.ones(2, dtype=fw.float64, device="cpu").requires_grad_()
        optimizer = getattr(fw.optim, name)([p], fused=True)
        p.grad = fw.ones(2, dtype=fw.float64, device="cpu")
        optimizer.step()
        saved = optimizer.state_dict()
        saved["state"][0]["step"] = fw.tensor(7.0, dtype=fw.float64, device="cpu")
        optimizer.load_state_dict(saved)
        step = optimizer.state[p]["step"]
        optimizer.step()
        return str(step.dtype).split(".")[1], step.item()

    ours, theirs = both(work)
    assert ours == theirs == ("float32", 8.0)
