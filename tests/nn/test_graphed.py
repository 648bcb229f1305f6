"""``cuda.make_graphed_callables``: replays in place of functions and modules, forward and backward."""
import numpy as np
import pytest

import tritium as torch
from tritium import cuda, nn, optim
from tritium.nn import functional as F

pytestmark = pytest.mark.cuda_only


def data(*shape, seed=0, **options):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape).astype("f4"), device="cuda", **options)


def network():
    torch.manual_seed(0)
    with torch.device("cpu"):
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))
    return net.to("cuda")


def test_a_module_in_a_training_loop():
    """Graphs draw the masks, count the batches and give the gradients that the module itself would."""
    runs = []
    for graphed in (False, True):
        net = network()
        if graphed:
            state = {k: v.clone() for k, v in net.state_dict().items()}
            assert cuda.make_graphed_callables(net, (data(5, 6, seed=9, requires_grad=True),)) is net
            net.load_state_dict(state)
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        torch.manual_seed(3)
        losses = []
        for i in range(4):
            optimizer.zero_grad(set_to_none=i % 2 == 0)
            x = data(5, 6, seed=i, requires_grad=True)
            loss = F.cross_entropy(net(x), torch.tensor([0, 1, 2, 0, 1], device="cuda"))
            loss.backward()
            optimizer.step()
            losses += [loss.item(), x.grad.tolist()]
        net.eval()
        losses.append(net(data(2, 6)).tolist())  # another mode, another batch: not the graph
        runs.append((losses, {k: v.tolist() for k, v in net.state_dict().items()}))
    assert runs[0] == runs[1]


def test_gradients_of_two_calls_add_up():
    net = network().eval()
    x, y = data(4, 6, seed=1), data(4, 6, seed=2)
    (net(x).sum() + 2 * net(y).sum()).backward()
    want = [p.grad.tolist() for p in net.parameters()]
    net.zero_grad()
    net = cuda.make_graphed_callables(net, (data(4, 6),))
    for sample, times in ((x, 1), (y, 2)):
        (times * net(sample).sum()).backward()
    for p, grad in zip(net.parameters(), want, strict=True):
        np.testing.assert_allclose(p.grad.tolist(), grad, rtol=1e-5, atol=1e-6)


def test_functions_nested_results_and_what_has_no_gradient():
    def work(a, pair):
        b, c = pair["b"], pair["c"]
        return {"sum": a * b + c, "more": [a.detach() * 2, (b.exp(),)], "none": None}

    a, b, c = data(3, requires_grad=True), data(3, seed=1, requires_grad=True), data(3, seed=2)
    graphed = cuda.make_graphed_callables(work, (a, {"b": b, "c": c}))
    for seed in (5, 6):
        x, y = data(3, seed=seed, requires_grad=True), data(3, seed=seed + 10, requires_grad=True)
        z = data(3, seed=seed + 20)
        out = graphed(x, {"b": y, "c": z})
        assert list(out) == ["sum", "more", "none"] and out["none"] is None and isinstance(out["more"][1], tuple)
        assert out["sum"].requires_grad and not out["more"][0].requires_grad
        assert out["sum"].tolist() == (x * y + z).tolist() and out["more"][0].tolist() == (2 * x).tolist()
        (out["sum"].sum() + 3 * out["more"][1][0].sum()).backward()
        assert x.grad.tolist() == y.tolist()
        np.testing.assert_allclose(y.grad.tolist(), (x + 3 * y.exp()).tolist(), rtol=1e-6)
        first = out["sum"]
    kept = first.tolist()
    graphed(data(3), {"b": data(3), "c": data(3)})
    assert first.tolist() != kept  # the memory of the results is the graph's
    with pytest.raises(TypeError, match="takes the 3 tensors"):
        graphed(a, a)


def test_several_callables_share_memory():
    first, last = nn.Linear(4, 5, device="cuda"), nn.Linear(5, 2, device="cuda")
    x = data(3, 4, seed=4)

    def middle(h):
        return F.dropout(h.relu(), 0.5)

    def run(a, b, c):
        torch.manual_seed(1)
        out = c(b(a(x)))
        out.square().sum().backward()
        grads = [out.tolist(), *[p.grad.tolist() for p in (*first.parameters(), *last.parameters())]]
        first.zero_grad(), last.zero_grad()
        return grads

    want = run(first, middle, last)
    graphed = cuda.make_graphed_callables((first, middle, last), (
        (data(3, 4),), (data(3, 5, requires_grad=True),), (data(3, 5, requires_grad=True),)),
        pool=cuda.graph_pool_handle(), num_warmup_iters=1)
    assert graphed[0] is first and graphed[2] is last
    for _ in range(2):
        for w, g in zip(want, run(*graphed), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-6, atol=1e-7)


def test_without_gradients():
    net = network().eval().requires_grad_(False)
    x = data(2, 6, seed=3)
    want = net(x).tolist()
    net = cuda.make_graphed_callables(net, (data(2, 6),))
    out = net(x)
    assert out.tolist() == want and not out.requires_grad


def test_inputs_that_have_no_influence():
    a, b = data(2, requires_grad=True), data(2, seed=1, requires_grad=True)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        cuda.make_graphed_callables(lambda a, b: a * 2, (a, b))
    graphed = cuda.make_graphed_callables(lambda a, b: a * 2, (a, b), allow_unused_input=True)
    x, y = data(2, requires_grad=True), data(2, requires_grad=True)
    graphed(x, y).sum().backward()
    assert x.grad.tolist() == [2, 2] and y.grad is None


def test_what_is_refused():
    net = nn.Linear(2, 2, device="cuda")
    with pytest.raises(AssertionError, match="must contain only Tensors"):
        cuda.make_graphed_callables(net, (1.0,))
    handle = net.register_forward_hook(lambda *a: None)
    with pytest.raises(AssertionError, match="hooks registered"):
        cuda.make_graphed_callables(net, (data(1, 2),))
    handle.remove()
    net.register_buffer("extra", data(1, requires_grad=True))
    with pytest.raises(AssertionError, match="only parameters may be trainable"):
        cuda.make_graphed_callables(net, (data(1, 2),))
