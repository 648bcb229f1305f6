"""Who shares memory with whom, before and after in-place ops: NumPy, ``detach``, ``data``, views, parameters, storages.

An in-place op may replace the array behind a tensor when nobody else can see it. Here everybody looks."""
import copy
import gc
import pickle
import sys
import warnings
import weakref

import numpy as np
import pytest

import tritium as torch

pytestmark = pytest.mark.cpu_only(reason="memory shared with NumPy")

OPS = {
    "add_": lambda x: x.add_(1), "mul_": lambda x: x.mul_(torch.full((2, 3), 2.0)), "exp_": lambda x: x.exp_(),
    "sigmoid_": lambda x: x.sigmoid_(), "clamp_": lambda x: x.clamp_(0, 2), "pow_": lambda x: x.pow_(2),
    "neg_": lambda x: x.neg_(), "fill_": lambda x: x.fill_(3), "zero_": lambda x: x.zero_(),
    "relu_": lambda x: x.relu_(),
    "copy_": lambda x: x.copy_(torch.full((2, 3), 5.0)), "item": lambda x: x.__setitem__(0, 9.0),
    "mask": lambda x: x.__setitem__(x > 2, 7.0), "+=": lambda x: x.__iadd__(1), "round_": lambda x: x.div_(3).round_(),
    "masked_fill_": lambda x: x.masked_fill_(x > 2, 4.0), "lerp_": lambda x: x.lerp_(torch.ones(2, 3), 0.5),
    "addcmul_": lambda x: x.addcmul_(x, x), "out": lambda x: torch.add(x, 1, out=x), "cumsum_": lambda x: x.cumsum_(0),
    "index_fill_": lambda x: x.index_fill_(0, torch.tensor([0]), 8.0), "uniform_": lambda x: x.uniform_(),
    "addmm_": lambda x: x.addmm_(torch.ones(2, 2), torch.ones(2, 3)),
}
SHARES = {
    "numpy": lambda x: x.numpy(), "asarray": np.asarray, "detach": lambda x: x.detach(), "data": lambda x: x.data,
    "view": lambda x: x.view(2, 3), "views of views": lambda x: x.view(6)[:].view(2, 3), "t().t()": lambda x: x.t().t(),
    "Parameter": lambda x: torch.nn.Parameter(x), "detach().numpy()": lambda x: x.detach().numpy(),
    "numpy of a view": lambda x: x.view(6).numpy().reshape(2, 3), "Variable": lambda x: torch.autograd.Variable(x),
    "from_numpy": lambda x: torch.from_numpy(x.numpy()), "Tensor": lambda x: torch.Tensor(x),
    "set_": lambda x: torch.zeros(
        2, 3).set_(x), "memoryview": lambda x: memoryview(x.numpy()), "copy.copy": copy.copy, "contiguous": lambda x:
    x.contiguous(), "to": lambda x: x.to(torch.float32), "reshape": lambda x: x.reshape(6).reshape(2, 3), "expand": lambda x:
    x.expand(2, 3), "as_strided": lambda x: x.as_strided((2, 3), (3, 1)),
}


def start():
    return torch.arange(1.0, 7.0).reshape(2, 3).clone()


def values(y):
    return np.array(y.detach().numpy() if isinstance(y, torch.Tensor) else y)


@pytest.mark.parametrize("op", OPS)
def test_everybody_sees_an_in_place_change(op):
    for name, share in SHARES.items():
        x = start()
        y = share(x)
        assert OPS[op](x) is x or op in ("item", "mask"), name
        assert np.array_equal(values(y), x.numpy()), name
        if isinstance(y, torch.Tensor):
            x = start()
            y = share(x)
            with torch.no_grad():
                OPS[op](y)
            assert np.array_equal(values(y), x.numpy()), name


@pytest.mark.parametrize("op", OPS)
def test_arrays_from_outside(op):
    for array in (np.arange(1.0, 7.0, dtype=np.float32).reshape(2, 3), np.arange(6, dtype=np.float32).reshape(3, 2).T):
        x = torch.from_numpy(array)
        OPS[op](x)
        assert np.array_equal(array, x.numpy())
        p = torch.nn.Parameter(x)
        with torch.no_grad():
            OPS[op](p)
        assert np.array_equal(array, x.numpy()) and np.array_equal(array, p.detach().numpy())


@pytest.mark.parametrize("op", OPS)
def test_copies_see_nothing(op):
    x = start()
    before = x.numpy().copy()
    copies = [x.clone(), copy.deepcopy(x), x * 1, torch.tensor(x.numpy()), pickle.loads(pickle.dumps(x)), x.double().float()]
    OPS[op](x)
    for c in copies:
        assert np.array_equal(c.numpy(), before)


def test_numpy_writes_are_seen_by_tensors():
    x = start()
    x.add_(1)
    array = x.numpy()
    array[0, 0] = 77
    assert x[0, 0].item() == 77
    x.exp_()
    assert np.array_equal(array, x.numpy())
    row = x[1]
    array[1] = 5
    assert row.tolist() == [5, 5, 5]


def test_deepcopy_keeps_sharing_among_what_is_copied():
    x = start()
    a, b, c = copy.deepcopy([x, x[1], x.t()])
    a.zero_()
    assert b.tolist() == [0, 0, 0] and c.sum().item() == 0 and x.sum().item() == 21
    first, second = copy.deepcopy((x, x))
    assert first is second
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(x.requires_grad_() * 2)


def test_storages_and_data_ptr():
    x = start()
    assert x.untyped_storage().data_ptr() == x[1].untyped_storage().data_ptr() == x.data_ptr()
    assert x[1].data_ptr() - x.data_ptr() == 12 and x.untyped_storage().nbytes() == 24
    assert x.is_set_to(x.view(2, 3)) and not x.is_set_to(x.t())


def test_data_and_its_setter():
    x = start()
    other = torch.zeros(4)
    x.data = other
    assert x.shape == (4,)
    other.add_(1)
    assert x.tolist() == [1] * 4
    x.mul_(2)
    assert other.tolist() == [2] * 4
    p = torch.nn.Parameter(torch.ones(2))
    p.data.fill_(5)
    assert p.tolist() == [5, 5] and p._version == 0 and p.requires_grad
    p.detach().add_(1)
    assert p.tolist() == [6, 6] and p._version == 1
    with pytest.raises(RuntimeError, match="must be floating point or complex dtype"):
        p.data = torch.zeros(2, dtype=torch.int64)


def test_gradients_never_alias():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    given = torch.ones(2)
    kept = []
    a.register_hook(kept.append)
    (a + b).backward(given)
    (a + b).backward(given)
    assert given.tolist() == [1, 1] and kept[0].tolist() == [1, 1] and a.grad.tolist() == [2, 2] == b.grad.tolist()
    assert not np.shares_memory(a.grad.numpy(), b.grad.numpy())
    x = torch.ones(2, requires_grad=True)
    x.backward(given)
    x.backward(given)
    assert given.tolist() == [1, 1]
    y = x * 2
    y.retain_grad()
    y.backward(given)
    y.grad.zero_()
    assert given.tolist() == [1, 1] and x.grad.tolist() == [4, 4]


def test_a_gradient_is_added_to_in_place_and_has_the_strides_of_its_leaf():
    w = torch.ones(2, 3, requires_grad=True)
    (w.t() * 2).sum().backward()
    g = w.grad
    assert g.stride() == (3, 1)
    (w * 3).sum().backward()
    assert w.grad is g and g.tolist() == [[5] * 3] * 2
    c = torch.ones(1, 2, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    (c * torch.ones(1, 2, 3, 3)).sum().backward()
    assert c.grad.stride() == c.stride()


def build_inplace():
    x = torch.ones(2, 3, requires_grad=True)
    y = x * 1
    y.add_(1)
    y[0].mul_(2)
    y.t()[0] *= 3
    y[y > 5] = 0.0
    return [x, y, (y * y).sum()]


def build_views():
    w = torch.ones(2, 3, requires_grad=True)
    y = torch.zeros(2, 3)
    v = y[0]
    v.add_(w[0])
    y.mul_(w)
    return [w, y, v, (v * y).sum()]


def build_hooks():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: g * 2)
    y.retain_grad()
    x.register_hook(lambda g: None)
    x.register_post_accumulate_grad_hook(lambda p: None)
    y.grad_fn.register_hook(lambda a, b: None)
    return [x, y, (y * y).sum()]


def build_double():
    x = torch.ones(3, requires_grad=True)
    (g,) = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)
    return [x, g, (g * g).sum()]


def build_outputs():
    x = torch.ones(2, 3, requires_grad=True)
    y = x.exp().tanh().sigmoid()
    a, b = y.unbind()
    v, m = torch.var_mean(y, 1)
    return [x, y, (a * b).sum() + (v * m).sum() + y.max(1).values.norm() + torch.einsum("ij,kj->ik", y, y).sum()]


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        result = x.exp()
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[1]


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x.mul_(2))
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


def build_functions():
    x = torch.ones(3, requires_grad=True)
    y = Exp.apply(x)
    return [x, y, Double.apply(y * 1).sum()]


def build_modules():
    nn = torch.nn
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.ones(2, 3, requires_grad=True)
    return [x, nn.functional.cross_entropy(model(x), torch.tensor([0, 1]))]


@pytest.mark.parametrize("build", [build_inplace, build_views, build_hooks, build_double, build_outputs, build_functions,
                                   build_modules])
@pytest.mark.parametrize("backward", [False, True, "create_graph"])
def test_memory_is_freed_by_reference_counting_alone(build, backward):
    if build is build_modules and backward == "create_graph":
        pytest.skip("the gradients of the parameters hold the parameters, as in PyTorch")
    build()  # what is made once and kept
    gc.collect()
    gc.disable()
    try:
        tensors = build()
        if backward:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tensors[-1].backward(create_graph=backward == "create_graph")
            if backward == "create_graph":  # a grad that has a history holds its leaf, as in PyTorch
                tensors[0].grad = None
        watched = [weakref.ref(t) for t in tensors] + [weakref.ref(t._a) for t in tensors]
        watched += [weakref.ref(t.grad_fn) for t in tensors if t.grad_fn is not None]
        del tensors
        assert not any(r() is not None for r in watched)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_views_of_a_tensor_outside_the_graph_are_forgotten():
    x = torch.zeros(100)
    for i in range(1000):
        x[i % 100:]
    assert len(x._vc.views) < 100
    v = x[1:]
    count = sys.getrefcount(v)
    x.add_(1)
    assert sys.getrefcount(v) == count
