"""Module programs run in both frameworks: what they record must be the same."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import tritium

torch = pytest.importorskip("torch")


def numbers(value):
    """Tensors as arrays, deep inside lists and tuples, so that records can be compared."""
    if isinstance(value, tritium.Tensor | torch.Tensor):
        return np.round(value.detach().numpy(), 5).tolist()
    if isinstance(value, list | tuple):
        return [numbers(v) for v in value]
    return value


def both(program):
    ours, theirs = numbers(program(tritium)), numbers(program(torch))
    text_ours, text_theirs = repr(ours).replace("tritium.", "torch."), repr(theirs)
    text_ours = text_ours.replace("torch.cuda.", "torch.").replace(" (cuda:0)", "")
    assert text_ours == text_theirs
    return ours


def small_net(fw):
    nn = fw.nn
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), act=nn.Tanh(), b=nn.Linear(3, 1)))
    with fw.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(fw.from_numpy(np.sin(np.arange(p.numel()) + i).reshape(p.shape).astype("float32")))
    return net


def name_of(net, module):
    return next(n for n, m in net.named_modules() if m is module)


def test_order_of_all_hooks():
    def program(fw):
        net, seen = small_net(fw), []
        for name, module in net.named_modules():
            module.register_forward_pre_hook(lambda m, a, n=name: seen.append(("pre", n, a)))
            module.register_forward_hook(lambda m, a, out, n=name: seen.append(("post", n, out)))
            module.register_full_backward_pre_hook(lambda m, go, n=name: seen.append(("back pre", n, go)))
            module.register_full_backward_hook(lambda m, gi, go, n=name: seen.append(("back", n, gi, go)))
        x = fw.tensor([[1.0, 2.0]], requires_grad=True)
        y = net(x)
        seen.append(type(y.grad_fn).__name__)
        y.sum().backward()
        return [seen, x.grad, [p.grad for p in net.parameters()]]

    both(program)


def test_hooks_that_change_values():
    def program(fw):
        net, seen = small_net(fw), []
        net.a.register_full_backward_hook(lambda m, gi, go: tuple(g * 2 for g in gi))
        net.b.register_full_backward_pre_hook(lambda m, go: [g * 3 for g in go])
        net.act.register_forward_hook(lambda m, a, out: out + 1)
        net.b.register_forward_pre_hook(lambda m, a: a[0] * 2)
        x = fw.tensor([[1.0, 2.0]], requires_grad=True)
        y = net(x)
        y.sum().backward()
        return [y, x.grad, [p.grad for p in net.parameters()], seen]

    both(program)


def test_hooks_with_several_inputs_and_outputs():
    class Two:
        pass

    def program(fw):
        class Pair(fw.nn.Module):
            def forward(self, a, b, flag, *, scale=1):
                return a * b * scale, b + 1, "text"

        seen = []
        pair = Pair()
        pair.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        pair.register_forward_hook(lambda m, a, k, out: seen.append((a, sorted(k), out)), with_kwargs=True)
        a, b = fw.tensor([1.0, 2.0], requires_grad=True), fw.tensor([3.0, 4.0])
        out = pair(a, b, True, scale=2)
        out[0].sum().backward()
        seen.append(a.grad)
        a.grad = None
        b.requires_grad_()
        out = pair(a, b, True)
        out[1].sum().backward()
        return [seen, a.grad, b.grad]

    both(program)


def test_regular_backward_hooks():
    def program(fw):
        seen = []
        relu = fw.nn.ReLU()
        handle = relu.register_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        x = fw.tensor([-1.0, 2.0], requires_grad=True)
        relu(x * 1).sum().backward()
        handle.remove()
        relu(x * 1).sum().backward()
        return [seen, x.grad]

    both(program)


def test_hooks_under_create_graph():
    def program(fw):
        net, seen = small_net(fw), []
        net.a.register_full_backward_hook(lambda m, gi, go: seen.append(go[0].requires_grad))
        x = fw.tensor([[1.0, 2.0]], requires_grad=True)
        (grad,) = fw.autograd.grad(net(x).sum(), x, create_graph=True)
        (grad**2).sum().backward()
        return [seen, grad, x.grad, net.a.weight.grad]

    both(program)


def test_global_hooks_order():
    def program(fw):
        module, net, seen = fw.nn.modules.module, small_net(fw), []
        handles = [
            module.register_module_forward_pre_hook(lambda m, a: seen.append("g pre " + name_of(net, m))),
            module.register_module_forward_hook(lambda m, a, o: seen.append("g post " + name_of(net, m))),
            module.register_module_full_backward_pre_hook(lambda m, go: seen.append("g bpre " + name_of(net, m))),
            module.register_module_full_backward_hook(lambda m, gi, go: seen.append("g back " + name_of(net, m))),
        ]
        net.a.register_forward_hook(lambda *a: seen.append("own post"))
        net.a.register_full_backward_hook(lambda *a: seen.append("own back"))
        net(fw.ones(1, 2, requires_grad=True)).sum().backward()
        for handle in handles:
            handle.remove()
        return seen

    both(program)


def test_names_and_iteration():
    def program(fw):
        nn = fw.nn
        shared = nn.Linear(2, 2)
        net = nn.ModuleDict({"x": nn.Sequential(shared, nn.BatchNorm1d(2)), "y": nn.ModuleList([shared, nn.ReLU()])})
        net.register_buffer("b", fw.zeros(1))
        net.register_buffer("c", fw.zeros(1), persistent=False)
        net.p = nn.Parameter(fw.zeros(2))
        net.register_parameter("none", None)
        return [
            [n for n, _ in net.named_modules()], [n for n, _ in net.named_modules(remove_duplicate=False)],
            [n for n, _ in net.named_parameters()], [n for n, _ in net.named_parameters(remove_duplicate=False)],
            [n for n, _ in net.named_parameters(prefix="q", recurse=False)], [n for n, _ in net.named_buffers()],
            [n for n, _ in net.named_children()], list(net.state_dict()), dict(net.state_dict()._metadata),
            [n for n in dir(net) if n in ("x", "y", "b", "p", "none", "training")], repr(net),
        ]  # fmt: skip

    both(program)


LOADS = [
    lambda fw, s: s,
    lambda fw, s: {k: v for k, v in s.items() if k != "a.bias"},
    lambda fw, s: {**s, "a.extra": fw.ones(1), "c.weight": fw.ones(1)},
    lambda fw, s: {**s, "a.weight": fw.ones(9)},
    lambda fw, s: {**s, "a.weight": fw.ones(9), "b.bias": fw.ones(2, 2), "z": fw.ones(1)},
    lambda fw, s: {**s, "a.weight": 3},
    lambda fw, s: {},
    lambda fw, s: {"module." + k: v for k, v in s.items()},
]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("change", LOADS)
def test_load_state_dict_errors(change, strict):
    texts = []
    for fw in (tritium, torch):
        net = small_net(fw)
        try:
            texts.append(repr(net.load_state_dict(change(fw, net.state_dict()), strict=strict)))
        except RuntimeError as error:
            texts.append(str(error).replace("tritium.", "torch."))
    lines = [line for line in texts[0].split("\n\t") if not line.startswith("Did you mean")]
    assert lines == texts[1].split("\n\t")


def test_loading_converts_dtypes_and_assigns():
    def program(fw):
        net = small_net(fw)
        state = {k: v.double() for k, v in net.state_dict().items()}
        net.load_state_dict(state)
        kept = str(net.a.weight.dtype)
        net.load_state_dict(state, assign=True)
        return [kept, str(net.a.weight.dtype), net.a.weight.requires_grad, type(net.a.weight).__name__]

    both(program)


def test_containers():
    def program(fw):
        nn = fw.nn
        out = []
        seq = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3))
        seq.append(nn.Tanh()).insert(1, nn.ELU()).extend([nn.GELU()])
        out.append(repr(seq))
        del seq[1]
        seq[0] = nn.Identity()
        out += [
            repr(seq),
            repr(seq[1:3]),
            repr(seq[-1]),
            len(seq),
            repr(seq.pop(0)),
            repr(seq + nn.Sequential(nn.ReLU())),
        ]
        seq *= 2
        out += [repr(seq), repr(seq * 2), [n for n, _ in seq.named_children()]]
        del seq[::2]
        out.append(repr(seq))
        modules = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()])
        modules.append(nn.Tanh()).insert(0, nn.ELU())
        modules += [nn.GELU()]
        out += [repr(modules), repr(modules[1:3]), repr(modules + [nn.ReLU()]), repr(modules.pop(-1))]
        del modules[0]
        modules[0] = nn.Identity()
        out += [repr(modules), [type(m).__name__ for m in modules]]
        named = nn.ModuleDict([["a", nn.ReLU()], ("b", nn.Tanh())])
        named.update({"c": nn.ELU(), "a": nn.GELU()})
        named["d"] = nn.Identity()
        out += [list(named.keys()), [repr(v) for v in named.values()], "a" in named, len(named), repr(named.pop("b"))]
        del named["c"]
        out.append([k for k, _ in named.items()])
        named.clear()
        out.append(len(named))
        params = nn.ParameterList([fw.ones(1), fw.ones(2)])
        params.append(fw.ones(3)).extend([nn.Parameter(fw.ones(4)), "x"])
        params[0] = fw.zeros(1)
        out += [
            len(params),
            repr(params),
            repr(params[1:3]),
            [n for n, _ in params.named_parameters()],
            list(params)[-1],
        ]
        table = nn.ParameterDict({"b": fw.ones(1), "a": fw.ones(2)})
        table.update(OrderedDict(d=fw.ones(3), c=fw.ones(4)))
        out += [list(table), table.get("z", 7), repr(table | nn.ParameterDict({"q": fw.ones(1)}))]
        out += [
            list(reversed(table)),
            table.setdefault("e", fw.zeros(1)),
            table.popitem()[0],
            list(table.fromkeys("xy", 1)),
        ]
        del table["a"]
        out += ["a" in table, len(table), repr(table.copy()), table.pop("b")]
        return out

    both(program)


def test_copies_and_pickles():
    def program(fw):
        out = []
        net = small_net(fw)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.copy(net)):
            same = other(fw.ones(1, 2)) == net(fw.ones(1, 2))
            out += [bool(same.all()), repr(other), other.a is net.a, list(other.state_dict())]
        return out

    both(program)


def test_training_step():
    def program(fw):
        net = small_net(fw)
        optimizer = fw.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        x = fw.from_numpy(np.cos(np.arange(8)).reshape(4, 2).astype("float32"))
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = fw.nn.MSELoss()(net(x), fw.ones(4, 1))
            loss.backward()
            optimizer.step()
            losses.append(loss)
        return losses

    both(program)


def test_running_statistics_through_modes():
    def program(fw):
        layers = [
            fw.nn.BatchNorm2d(2),
            fw.nn.BatchNorm2d(2, momentum=None),
            fw.nn.BatchNorm2d(2, track_running_stats=False),
        ]
        out = []
        for layer in layers:
            for i in range(3):
                layer(fw.from_numpy(np.cos(np.arange(16) + i).reshape(2, 2, 2, 2).astype("float32")))
            out += [
                layer.running_mean,
                layer.running_var,
                layer.num_batches_tracked,
                layer.eval()(fw.ones(2, 2, 1, 1)),
            ]
            if layer.running_mean is not None:
                layer.reset_running_stats()
                out += [layer.running_mean, layer.num_batches_tracked]
        return out

    both(program)
