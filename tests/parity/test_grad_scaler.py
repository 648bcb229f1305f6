"""GradScaler against PyTorch's: the sequence of scales, gradients, parameters, errors, saved states."""
import pickle

import numpy as np
import pytest

import tritium

torch = pytest.importorskip("torch")

INF, NAN = float("inf"), float("nan")


def _run(framework, device, kinds, updates=None, fused=None, optimizer="SGD", **options):
    """What a scaler does when the gradients are of these kinds in turn."""
    scaler = framework.amp.GradScaler(device, **{"init_scale": 64.0, "growth_interval": 3, **options})
    p = [framework.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True),
         framework.tensor([[0.5]], device=device, requires_grad=True)]
    choice = {} if fused is None else {"fused": fused}
    kind = getattr(framework.optim, optimizer)
    opts = [kind(p[:1], lr=0.1, **choice), kind(p[1:], lr=0.1, **choice)]
    seen = []
    for i, bad in enumerate(kinds):
        for o in opts:
            o.zero_grad()
        loss = (p[0] * p[0]).sum() + p[1].sum() * 2
        scaler.scale(loss).backward()
        if bad:
            p[i % 2].grad.view(-1)[0] = bad
        if i % 2:
            scaler.unscale_(opts[0])
            seen.append(p[0].grad.tolist())
        for o in opts:
            scaler.step(o)
        scaler.update(*((updates or {}).get(i, ()),) if updates and i in updates else ())
        seen.append((scaler.get_scale(), scaler._get_growth_tracker(), [x.tolist() for x in p]))
    return seen, scaler.state_dict()


def same_numbers(ours, theirs):
    if isinstance(theirs, dict):
        assert ours == theirs
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same_numbers(a, b)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("kinds", [[0] * 8, [INF, 0, 0, 0, NAN, 0, 0], [-INF, INF, INF], [0, 0, INF, 0, 0, 0]])
def test_scales_and_steps(device, kinds) -> None:
    same_numbers(_run(tritium, device, kinds), _run(torch, "cpu", kinds))


def test_options(device) -> None:
    options = {"growth_factor": 3.0, "backoff_factor": 0.3, "growth_interval": 1}
    same_numbers(_run(tritium, device, [0, INF, 0, 0], **options), _run(torch, "cpu", [0, INF, 0, 0], **options))
    # the largest scale that is finite is kept
    same_numbers(_run(tritium, device, [0, 0], init_scale=2.0 ** 127, growth_interval=1)[1],
                 _run(torch, "cpu", [0, 0], init_scale=2.0 ** 127, growth_interval=1)[1])
    same_numbers(_run(tritium, device, [0, INF, 0], updates={1: 8.0}), _run(torch, "cpu", [0, INF, 0], updates={1: 8.0}))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_fused_optimizers(device, name) -> None:
    """They divide the gradients, and leave the step out, themselves."""
    kinds = [0, INF, 0, NAN, 0]
    ours, theirs = (_run(f, d, kinds, fused=True, optimizer=name) for f, d in ((tritium, device), (torch, "cpu")))
    same_numbers(ours, theirs)


LINES = """
s.update()
s.step(o)
s.unscale_(o)
s.scale(3)
s.scale([torch.ones(1), 3])
[x.tolist() for x in s.scale([torch.ones(2), torch.ones(1)])], type(s.scale((torch.ones(1),))).__name__
[list(map(lambda t: t.tolist(), x)) for x in s.scale([[torch.ones(2)], (torch.ones(1), torch.ones(1))])]
[x.tolist() for x in s.scale(iter([torch.ones(2)]))]
s.scale(torch.ones(1, dtype=torch.float16)).dtype, s.scale(torch.ones((), dtype=torch.bfloat16)).dtype
s.scale(torch.ones(1)); s.step(o)
s.scale(torch.ones(1)); s.update()
g(); s.unscale_(o); s.unscale_(o)
g(); s.step(o); s.unscale_(o)
g(); s.step(o); s.step(o)
g(); s.step(o, closure=lambda: 1)
g(); s.step(o); s.update(torch.ones(2))
g(); s.step(o); s.update(torch.ones(1, requires_grad=True))
g(); s.step(o); s.update(torch.tensor(5.0)); s.get_scale()
g(); s.unscale_(o); p.grad.tolist()
g(); bool(pickle.dumps(s))
g(); s.unscale_(o); pickle.dumps(s)
g(); s.step(o); s.update(); s.state_dict()
g(); s.step(o); s.update(); pickle.loads(pickle.dumps(s)).state_dict()
s.load_state_dict({})
s.load_state_dict({"scale": 8.0, "growth_factor": 3.0, "backoff_factor": 0.1, "growth_interval": 7, "_growth_tracker": 5}); s.state_dict()
g(); s.load_state_dict({"scale": 8.0, "growth_factor": 3.0, "backoff_factor": 0.1, "growth_interval": 7, "_growth_tracker": 5}); s.state_dict()
s.get_growth_factor(), s.get_backoff_factor(), s.get_growth_interval(), s.is_enabled(), s.get_scale()
s.set_growth_factor(5.0); s.set_backoff_factor(0.25); s.set_growth_interval(3); s.state_dict()
off.scale(3), off.unscale_(o), off.update(), off.get_scale(), off.state_dict(), off.is_enabled(), off.load_state_dict({})
off._get_growth_tracker(), pickle.loads(pickle.dumps(off)).is_enabled()
p.grad = torch.ones(2); off.step(o); p.tolist()
torch.amp.GradScaler(D, growth_factor=1.0)
torch.amp.GradScaler(D, backoff_factor=1.0)
h.grad = torch.ones(2).half(); s.scale(torch.ones(1)); s.step(torch.optim.SGD([h], 0.1))
h.grad = torch.ones(2).half(); s.scale(torch.ones(1)); s._check_inf_per_device(torch.optim.SGD([h], 0.1)); h.grad.tolist()
g(); s.step(Own([p], {})); s.update(); s.get_scale(), p.grad.tolist()
g(); s.step(Older([p], {})); s.get_scale()
"""  # noqa: E501
SETUP = """
import pickle
D = {device!r} if torch.__name__ == "tritium" else "cpu"
s, off = torch.amp.GradScaler(D, init_scale=4.0), torch.amp.GradScaler(D, enabled=False)
p, h = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2).half())
o = torch.optim.SGD([p], 0.5)

def g():
    p.grad = None
    s.scale((p * p).sum()).backward()

class Own(torch.optim.Optimizer):
    _step_supports_amp_scaling = True

    def step(self, closure=None):
        assert self.grad_scale.item() == 4.0 and self.found_inf.item() == 0.0

class Older(torch.optim.Optimizer):
    _step_supports_amp_scaling = True

    def step(self, closure=None, grad_scaler=None):
        assert grad_scaler is s
"""


def test_calls_and_errors(same, device) -> None:
    for line in LINES.strip().splitlines():
        same("\n".join(part.strip() for part in line.split("; ")), SETUP.format(device=device), text="exact")


def test_a_training_goes_on_from_a_saved_state(device) -> None:
    first, state = _run(tritium, device, [0, INF, 0, 0])
    scaler = tritium.amp.GradScaler(device)
    scaler.load_state_dict(state)
    again = pickle.loads(pickle.dumps(scaler))
    assert scaler.state_dict() == again.state_dict() == state
    scaler.scale(tritium.ones(1, device=device))
    assert scaler._scale.item() == state["scale"] and scaler._growth_tracker.item() == state["_growth_tracker"]
    other = torch.amp.GradScaler("cpu")
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_dtypes_of_gradients(device) -> None:
    """float32, float64 and bfloat16 gradients, any strides, beside one another."""
    results = []
    for framework, place in ((tritium, device), (torch, "cpu")):
        scaler = framework.amp.GradScaler(place, init_scale=8.0)
        ps = [framework.ones(3, 4, dtype=getattr(framework, name), device=place)
              for name in ("float32", "float64", "bfloat16", "float32")]
        ps[3] = ps[3].t()
        for p in ps:
            p.requires_grad_()
            p.grad = framework.arange(12.0, device=place).reshape(p.shape).to(p.dtype)
        ps[0].grad = framework.arange(24.0, device=place).reshape(3, 8)[:, ::2]
        scaler.scale(framework.ones(1, device=place))
        optimizer = framework.optim.SGD(ps, lr=0.5)
        scaler.unscale_(optimizer)
        results.append([p.grad.tolist() for p in ps])
        scaler.step(optimizer)
        results[-1] += [p.tolist() for p in ps]
    assert results[0] == results[1]


def test_groups_that_are_not_fused_are_unscaled():
    ours = tritium
    p, q = (ours.nn.Parameter(ours.ones(3)) for _ in range(2))
    optimizer = ours.optim.SGD([{"params": [p]}, {"params": [q], "fused": False}], lr=1.0, fused=True)
    scaler = ours.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale((p + q).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == q.tolist() == [0.0] * 3
    loaded = ours.optim.SGD([p], lr=1.0, fused=True)
    loaded.load_state_dict(ours.optim.SGD([q], lr=1.0).state_dict())
    loaded.found_inf = ours.zeros(())
    with pytest.raises(AssertionError, match="Expected grad_scale and found_inf to be None"):
        loaded.step()
