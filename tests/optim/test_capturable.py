"""Optimizers whose steps are counted on the device: a whole training step as a CUDA graph; what a scaler leaves."""
import copy

import numpy as np
import pytest

import tritium as torch
from tritium import cuda, nn, optim
from tritium.nn import functional as F

RNG = np.random.default_rng(0)
IMAGES = [RNG.standard_normal((6, 3, 8, 8)).astype("f4") for _ in range(4)]
LABELS = [RNG.integers(0, 4, 6) for _ in range(4)]


def rate(value=0.02):
    return torch.tensor(value, device="cuda")


CASES = {
    "Adam": lambda p: optim.Adam(p, lr=0.01, capturable=True),
    "Adam with a tensor lr": lambda p: optim.Adam(p, lr=rate(), amsgrad=True, weight_decay=0.1, capturable=True),
    "AdamW fused": lambda p: optim.AdamW(p, lr=rate(), capturable=True, fused=True),
    "NAdam": lambda p: optim.NAdam(p, lr=rate(), capturable=True),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01, betas=(0.5, 0.8), capturable=True),
    "Adamax": lambda p: optim.Adamax(p, lr=rate(), capturable=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=rate(), momentum=0.5, centered=True, capturable=True),
    "Adadelta": lambda p: optim.Adadelta(p, lr=0.5, capturable=True),
    "SGD": lambda p: optim.SGD(p, lr=rate(), momentum=0.9, weight_decay=0.01),
    "SGD with a number": lambda p: optim.SGD(p, lr=0.02),
    "LARS": lambda p: optim.LARS(p, lr=rate()),
}


def network():
    torch.manual_seed(0)
    with torch.device("cpu"):
        net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                            nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 4))
    return net.to("cuda")


def train(make, captured, warm=True, set_to_none=True, schedule=None):
    """Losses, norms of gradients, and all there is at the end."""
    net = network()
    optimizer = make(net.parameters())
    scheduler = schedule and schedule(optimizer)
    x, y = (torch.tensor(a[0], device="cuda") for a in (IMAGES, LABELS))

    def step():
        optimizer.zero_grad(set_to_none=set_to_none)
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss, norm

    torch.manual_seed(7)
    if warm:
        step()
    graph, held = cuda.CUDAGraph(), None
    if captured:
        with cuda.graph(graph):
            held = step()
    seen = []
    for image, label in zip(IMAGES, LABELS, strict=True):
        x.copy_(torch.tensor(image))
        y.copy_(torch.tensor(label))
        if held is None:
            loss, norm = step()
        else:
            graph.replay()
            loss, norm = held
        seen.append((loss.item(), norm.item()))
        if scheduler:
            scheduler.step()
    seen.append(torch.rand(3, device="cuda").tolist())  # the generator is where it would be
    states = [{k: v.tolist() for k, v in optimizer.state[p].items()} for p in net.parameters()]
    return seen, {k: v.tolist() for k, v in net.state_dict().items()}, states


@pytest.mark.cuda_only
@pytest.mark.parametrize("name", CASES)
def test_a_captured_training_step_is_the_same_bit_for_bit(name):
    """Dropout, batch norm, clipping and the optimizer, over several batches."""
    eager, captured = (train(CASES[name], graph) for graph in (False, True))
    assert eager == captured


@pytest.mark.cuda_only
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_state_that_is_made_inside_a_capture_is_made_once(name):
    assert train(CASES[name], True, warm=False) == train(CASES[name], False, warm=False)


@pytest.mark.cuda_only
def test_zeroed_gradients_and_a_schedule():
    def schedule(optimizer):
        return optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    for name in ("SGD", "Adam with a tensor lr"):
        assert (train(CASES[name], True, set_to_none=False, schedule=schedule)
                == train(CASES[name], False, schedule=schedule))


@pytest.mark.cuda_only
@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adadelta"])
def test_steps_on_the_device_are_the_host_s(name):
    """What the device computes of its counters, against the host's numbers; and the state in between."""
    results = []
    for capturable in (False, True):
        p = torch.tensor(IMAGES[0], device="cuda", requires_grad=True)
        optimizer = getattr(optim, name)([p], lr=0.1, capturable=capturable)
        for image in IMAGES[:3]:
            p.grad = torch.tensor(image, device="cuda")
            optimizer.step()
        step = optimizer.state[p]["step"]
        assert step.is_cuda == capturable and step.item() == 3 and step.dtype == torch.float32 and step.shape == ()
        results.append(p.tolist())
        saved = copy.deepcopy(optimizer.state_dict())
        other = getattr(optim, name)([p], lr=0.1, capturable=not capturable)
        other.load_state_dict(saved)
        assert other.state[p]["step"].is_cuda == capturable
        p.grad = torch.tensor(IMAGES[3], device="cuda")
        other.step()
        results[-1] = [results[-1], p.tolist()]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6, atol=1e-7)


@pytest.mark.cuda_only
@pytest.mark.parametrize("name", ["AdamW fused", "SGD fused"])
def test_scaled_gradients_in_a_graph(name):
    """Half precision, with a batch that is not finite: the graph skips that step."""
    make = CASES.get(name, lambda p: optim.SGD(p, lr=rate(), momentum=0.9, fused=True))
    batches = [image.reshape(-1, 32)[:6] for image in IMAGES]
    batches[1] = batches[1] * np.float32(1e30)

    def run(captured):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4)).to("cuda")
        optimizer = make(net.parameters())
        scaler = torch.amp.GradScaler("cuda", init_scale=1024.0, growth_interval=2)
        x, y = torch.tensor(batches[0], device="cuda"), torch.tensor(LABELS[0], device="cuda")

        def step():
            optimizer.zero_grad()
            with torch.autocast("cuda", dtype=torch.float16, cache_enabled=False):
                loss = F.cross_entropy(net(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        step()
        again = step
        if captured:
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                step()
            again = graph.replay
        scales = []
        for batch in batches:
            x.copy_(torch.tensor(batch))
            again()
            scales.append(scaler.get_scale())
        return scales, [p.tolist() for p in net.parameters()]

    eager, captured = run(False), run(True)
    assert eager == captured and eager[0] == [2048.0, 1024.0, 1024.0, 2048.0] and np.isfinite(eager[1][0]).all()


@pytest.mark.cuda_only
def test_what_can_not_be_captured():
    p = torch.ones(3, device="cuda", requires_grad=True)
    p.grad = torch.ones(3, device="cuda")
    for optimizer, words in ((optim.Adam([p]), "Attempting CUDA graph capture of step.. for an instance of Adam but "
                                               "param_groups' capturable is False."),
                             (optim.RMSprop([p]), "RMSprop"), (optim.Adagrad([p]), "Adagrad that counts"), (optim.SGD([p], momentum=0.9, dampening=0.1), "dampen")):
        with pytest.raises(RuntimeError, match=words), cuda.graph(cuda.CUDAGraph()):
            optimizer.step()
    with pytest.raises(RuntimeError, match="capturing"), cuda.graph(cuda.CUDAGraph()):
        nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    q = torch.ones(3, device="cpu", requires_grad=True)
    q.grad = torch.ones(3, device="cpu")
    with pytest.raises(AssertionError, match="If capturable=True, params and state_steps must be on supported devices"):
        optim.Adam([q], capturable=True).step()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fused_step_takes_the_scale_of_a_scaler(name, dtype, device):
    """``grad_scale`` divides the gradients, in place; where ``found_inf`` is not 0 nothing changes, steps included."""
    make = getattr(optim, name)
    p, q = (torch.tensor([1.0, -2.0, 3.0], dtype=dtype).requires_grad_() for _ in range(2))
    fused, plain = make([p], lr=0.5, fused=True), make([q], lr=0.5)
    assert fused._step_supports_amp_scaling and not getattr(plain, "_step_supports_amp_scaling", False)
    fused.grad_scale = torch.tensor(8.0)
    for found in (0.0, 1.0, 0.0):
        fused.found_inf = torch.tensor(found)
        p.grad = torch.tensor([8.0, 16.0, -4.0], dtype=dtype)
        fused.step()
        if found:
            assert p.grad.tolist() == [8.0, 16.0, -4.0]
            continue
        assert p.grad.tolist() == [1.0, 2.0, -0.5]
        q.grad = p.grad.clone()
        plain.step()
        assert p.tolist() == q.tolist()
    if name != "SGD":
        step = fused.state[p]["step"]
        assert step.item() == 2 and step.device == p.device and step.dtype == torch.float32


def test_a_learning_rate_on_the_cpu(device):
    p, q = (torch.tensor([1.0, -2.0]).requires_grad_() for _ in range(2))
    for name in ("SGD", "Adam", "RMSprop", "Adagrad"):
        optimizers = [getattr(optim, name)([p], lr=torch.tensor(0.5, device="cpu")), getattr(optim, name)([q], lr=0.5)]
        for x, optimizer in zip((p, q), optimizers, strict=True):
            x.grad = torch.tensor([1.0, 2.0])
            optimizer.step()
        assert p.tolist() == q.tolist()
