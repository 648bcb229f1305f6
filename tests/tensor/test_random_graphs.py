"""Random numbers in captured graphs: a replay draws what its work would have drawn without a graph."""
import pytest

import tritium
from tritium import cuda
from tritium.nn import functional as F

pytestmark = pytest.mark.cuda_only


def capture(work, pool=None):
    graph = cuda.CUDAGraph()
    with cuda.graph(graph, pool=pool):
        out = work()
    return graph, out


def seen(tensors):
    return [t.tolist() for t in tensors]


def test_replays_draw_on():
    """Every kind of draw, two generators, draws between the replays, several seeds."""
    own = tritium.Generator(device="cuda")
    x = tritium.ones(40, device="cuda")
    p = tritium.rand(3, 6, device="cuda")

    def work():
        return [tritium.rand(10, device="cuda"), tritium.randn(7, device="cuda", generator=own), F.dropout(x, 0.5),
                tritium.randperm(9, device="cuda", generator=own), tritium.randperm(3000, device="cuda")[:50],
                tritium.randint(0, 1 << 40, (5,), device="cuda"), tritium.bernoulli(p), tritium.multinomial(p, 2),
                tritium.multinomial(p, 9, True), tritium.multinomial(p, 1), tritium.empty_like(x).exponential_(2.0),
                tritium.feature_dropout(p, 0.5, True), F.alpha_dropout(x, 0.2, True), F.rrelu(-x, training=True),
                tritium.empty(6, device="cuda", dtype=tritium.float64).normal_()]

    graph, held = capture(work)
    for seed in (3, 2**63 + 5):
        runs = []
        for replayed in (False, True):
            tritium.manual_seed(seed)
            own.manual_seed(seed + 1)
            runs.append([])
            for i in range(3):
                if replayed and i != 1:
                    graph.replay()
                    runs[-1].append(seen(held))
                else:
                    runs[-1].append(seen(work()))
                runs[-1].append(tritium.rand(2, device="cuda").tolist())
            runs[-1] += [cuda.get_rng_state().tolist(), own.get_offset()]
        assert runs[0] == runs[1]
        assert runs[0][0] != runs[0][2] != runs[0][4]


def test_two_graphs_of_one_generator():
    first, a = capture(lambda: [tritium.rand(5, device="cuda")])
    second, b = capture(lambda: [tritium.rand(3, device="cuda"), tritium.rand(2, device="cuda")])
    tritium.manual_seed(1)
    want = [tritium.rand(n, device="cuda").tolist() for n in (5, 3, 2, 3, 2, 5)]
    tritium.manual_seed(1)
    found = []
    for graph, out in ((first, a), (second, b), (second, b), (first, a)):
        graph.replay()
        found += seen(out)
    assert found == want


@pytest.mark.parametrize("where", ["one graph", "two graphs", "eager"])
def test_backward_draws_the_mask_of_its_forward(where):
    x = tritium.ones(60, device="cuda", requires_grad=True)

    def forward():
        return F.dropout(F.dropout(x, 0.3) * 2, 0.4)

    def backward(y):
        return tritium.autograd.grad(y.sum(), x, retain_graph=True)[0]

    if where == "one graph":
        graph, (y, dx) = capture(lambda: (z := forward(), backward(z)))
        graphs = [graph]
    else:
        graph, y = capture(forward)
        graphs = [graph]
        if where == "two graphs":
            other, dx = capture(lambda: backward(y), graph.pool())
            graphs.append(other)
    masks = []
    for _ in range(3):
        for one in graphs:
            one.replay()
        if where == "eager":
            dx = backward(y)
        masks.append(dx.tolist())
        assert y.tolist() == masks[-1]
    assert masks[0] != masks[1] != masks[2]


def test_a_checkpoint_inside_a_graph():
    from tritium.utils.checkpoint import checkpoint

    x = tritium.ones(60, device="cuda", requires_grad=True)

    def work():
        y = checkpoint(lambda v: F.dropout(v, 0.5), x, use_reentrant=True)
        more = tritium.rand(3, device="cuda")
        dx, = tritium.autograd.grad(y.sum(), x)
        return y, dx, more, tritium.rand(3, device="cuda")

    graph, out = capture(work)
    for _ in range(2):
        tritium.manual_seed(9)
        graph.replay()
        replayed = seen(out)
        assert replayed[0] == replayed[1]
        tritium.manual_seed(9)
        assert seen(work()) == replayed


def test_what_a_generator_refuses_inside_a_capture():
    g = tritium.Generator(device="cuda").manual_seed(4)
    with cuda.graph(cuda.CUDAGraph()):
        assert g.manual_seed(4) is g
        for ask in (g.get_offset, g.initial_seed, g.get_state, lambda: g.set_offset(8), cuda.get_rng_state):
            with pytest.raises(RuntimeError, match="during CUDA graph capture"):
                ask()
        with pytest.raises(RuntimeError, match="only if new seed is the same as the original seed"):
            g.manual_seed(5)
    g.set_offset(8)
    assert (g.initial_seed(), g.get_offset()) == (4, 8)


def test_a_shared_state():
    g = tritium.Generator(device="cuda").manual_seed(4)
    other = g.graphsafe_get_state()
    tritium.rand(5, device="cuda", generator=other)
    assert g.get_offset() == 8
    third = tritium.Generator(device="cuda").graphsafe_set_state(g)
    assert tritium.rand(2, device="cuda", generator=third).tolist() and other.get_offset() == 12
    graph = cuda.CUDAGraph()
    graph.register_generator_state(g)
    with cuda.graph(graph):
        tritium.rand(2, device="cuda", generator=g)
    graph.replay()
    assert third.get_offset() == 16


def test_a_graph_outlives_its_generator():
    g = tritium.Generator(device="cuda").manual_seed(4)
    graph, out = capture(lambda own=g: tritium.rand(4, device="cuda", generator=own))
    want = tritium.rand(4, device="cuda", generator=g).tolist()
    g.manual_seed(4)
    del g
    graph.replay()
    assert out.tolist() == want
    graph.reset()
    graph, out = capture(lambda: tritium.rand(4, device="cuda"))
