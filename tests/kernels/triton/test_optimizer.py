"""Parameter updates on the device against NumPy's: lists of arrays of several sizes, layouts and dtypes; norms."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import optimizer as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
SHAPES = [(3, 5), (), (150,), (0, 4), (64,)]

ADAM = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1, "maximize": False}
SGD = {"lr": 0.1, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False}
RMS = {"lr": 1e-2, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1, "momentum": 0.0, "maximize": False}
LARS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "trust_coefficient": 0.02, "eps": 1e-8, "nesterov": False,
        "maximize": False}
# function, for each list of states whether it is there (None: it is not), what differs by parameter, options
CASES = {
    "sgd": ("sgd", [None], [[False] * 5], SGD),
    "sgd decay": ("sgd", [None], [[False] * 5], SGD | {"weight_decay": 0.1, "maximize": True}),
    "sgd momentum": ("sgd", [1], [[True, False, True, False, False]], SGD | {"momentum": 0.9, "dampening": 0.1}),
    "sgd nesterov": ("sgd", [1], [[False] * 5], SGD | {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("adam", [1, 1, None], [[1.0, 1.0, 3.0, 1.0, 3.0]], ADAM | {"decoupled": False}),
    "adamw": ("adam", [1, 1, 1], [[2.0] * 5], ADAM | {"decoupled": True, "maximize": True}),
    "nadam": ("nadam", [1, 1], [[2.0] * 5, [(0.02, 0.01)] * 5], ADAM | {"decoupled": False}),
    "nadamw": ("nadam", [1, 1], [[2.0] * 5, [(0.02, 0.01)] * 5], ADAM | {"decoupled": True}),
    "radam": ("radam", [1, 1], [[1.0, 1.0, 40.0, 40.0, 1.0]], ADAM | {"decoupled": True}),
    "adamax": ("adamax", [1, 1], [[2.0] * 5], ADAM),
    "rmsprop": ("rmsprop", [1, None, None], [], RMS),
    "rmsprop all": ("rmsprop", [1, 1, 1], [], RMS | {"momentum": 0.9}),
    "rmsprop momentum": ("rmsprop", [1, None, 1], [], RMS | {"momentum": 0.9, "maximize": True}),
    "adagrad": ("adagrad", [1], [[0.1, 0.1, 0.1, 0.1, 0.05]], {"eps": 1e-6, "weight_decay": 0.1, "maximize": False}),
    "adadelta": ("adadelta", [1, 1], [], {"lr": 1.0, "rho": 0.9, "eps": 1e-5, "weight_decay": 0.0, "maximize": True}),
    "lars": ("lars", [1], [[True, False, False, True, True]], LARS),
    "lars nesterov": ("lars", [1], [[True] * 5], LARS | {"nesterov": True, "maximize": True}),
}


@pytest.fixture(scope="module")
def device():
    from tritium.kernels.triton import optimizer

    return optimizer


@pytest.fixture(params=["one block", "many"])
def blocks(request, monkeypatch):
    from tritium.kernels.triton import optimizer

    optimizer.forget()
    if request.param == "many":
        monkeypatch.setattr(optimizer, "block_size", lambda dtype, arrays: 64)
        monkeypatch.setattr(optimizer, "norm_block", lambda dtype, arrays=1: 32)
    yield
    optimizer.forget()


def sent(a):
    """A copy in device memory with the same strides (they may be negative or leave gaps)."""
    from tritium.kernels.triton.memory import from_host

    base = a
    while base.base is not None and isinstance(base.base, np.ndarray):
        base = base.base
    d = from_host(np.ascontiguousarray(base))
    return d.look(d.ptr + a.__array_interface__["data"][0] - base.__array_interface__["data"][0], a.shape, a.strides)


def numbers(rng, shape, dtype, positive=False):
    a = rng.standard_normal(shape)
    return np.asarray(abs(a) + 0.1 if positive else a).astype(dtype)


def made(case, dtype, seed=0, layout=lambda a: a):
    """Parameters, gradients, states and numbers of a case."""
    name, states, per, options = CASES[case]
    rng = np.random.default_rng(seed)
    params, grads = ([layout(numbers(rng, s, dtype)) for s in SHAPES] for _ in range(2))
    lists = [None if one is None else [layout(numbers(rng, s, dtype, True)) for s in SHAPES] for one in states]
    if case == "rmsprop all":  # the mean square is not less than the square of the mean
        for a in lists[0]:
            a += np.asarray(20, dtype)
    return name, params, grads, lists, per, options


def check(device, case, dtype, layout=lambda a: a):
    name, params, grads, lists, per, options = made(case, dtype, layout=layout)
    on_device = [sent(p) for p in params], [sent(g) for g in grads], [
        None if one is None else [sent(a) for a in one] for one in lists]
    for _ in range(2):
        getattr(reference, name)(params, grads, *lists, *per, **options)
        getattr(device, name)(on_device[0], on_device[1], *on_device[2], *per, **options)
    for expected, found in zip([params, grads, *[x for x in lists if x]],
                               [on_device[0], on_device[1], *[x for x in on_device[2] if x]], strict=True):
        for e, f in zip(expected, found, strict=True):
            f = f.to_host()
            if "lars" in case:  # the norms are added up in another order
                np.testing.assert_allclose(f.astype(F64), e.astype(F64), rtol=8e-3 if dtype.itemsize == 2 else 1e-6)
            else:
                np.testing.assert_array_equal(f.astype(F64), e.astype(F64))


@pytest.mark.parametrize("case", CASES)
def test_same_bits_as_numpy(device, case):
    check(device, case, F32)


@pytest.mark.parametrize("case", ["sgd nesterov", "adam", "lars"])
@pytest.mark.parametrize("dtype", [BF16, F16, F64], ids=str)
def test_dtypes_and_blocks(device, blocks, case, dtype):
    check(device, case, dtype)


def wider(a):
    """The same elements in memory with gaps."""
    if not a.ndim:
        return a
    big = np.zeros((*a.shape[:-1], 2 * a.shape[-1] + 1), a.dtype)
    big[..., 1::2] = a
    return big[..., 1::2]


@pytest.mark.parametrize("layout", [lambda a: np.ascontiguousarray(a.T).T, wider], ids=["transposed", "gaps"])
def test_layouts(device, layout):
    for case in ("adamw", "sgd momentum"):
        check(device, case, F32, layout)


def test_layouts_that_differ_and_unaligned(device):
    rng = np.random.default_rng(3)
    base = numbers(rng, (101,), F32)
    p, g, b = base[1:], numbers(rng, (100,), F32), numbers(rng, (100,), F32)
    q, h, c = numbers(rng, (8, 6), F32), numbers(rng, (6, 8), F32).T, numbers(rng, (8, 6), F32)
    options = SGD | {"momentum": 0.9}
    d = [[sent(p), sent(q)], [sent(g), sent(h)], [sent(b), sent(c)]]
    device.sgd(*d, [False, False], **options)
    first = base[0]
    reference.sgd([p, q], [g, h], [b, c], [False, False], **options)
    for e, f in zip((p, q, b, c), d[0] + d[2], strict=True):
        np.testing.assert_array_equal(f.to_host(), e)
    assert d[0][0].look(d[0][0].ptr - 4, (1,), (4,)).item() == first


def test_mixed_dtypes_and_complex(device):
    rng = np.random.default_rng(4)
    p, g, b = numbers(rng, (33,), BF16), numbers(rng, (33,), F32), numbers(rng, (33,), F32)
    z, k, w = ((numbers(rng, (4, 5), F32) + 1j * numbers(rng, (4, 5), F32)).astype(np.complex64) for _ in range(3))
    d = [[sent(a) for a in one] for one in ([p, z], [g, k], [b, w])]
    options = SGD | {"momentum": 0.9, "weight_decay": 0.1}
    device.sgd(*d, [False, False], **options)
    reference.sgd([p, z], [g, k], [b, w], [False, False], **options)
    for e, f in zip((p, z, b, w), d[0] + d[2], strict=True):
        np.testing.assert_array_equal(f.to_host(), e)


def test_one_parameter_twice(device):
    p = numbers(np.random.default_rng(5), (10,), F32)
    g = [numbers(np.random.default_rng(i), (10,), F32) for i in (6, 7)]
    d = sent(p)
    device.sgd([d, d], [sent(a) for a in g], None, [False, False], **SGD)
    reference.sgd([p, p], g, None, [False, False], **SGD)
    np.testing.assert_array_equal(d.to_host(), p)


def test_nan_and_infinity(device):
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, 1e-45, 1.0], F32)
    p, g = np.repeat(values, 8), np.tile(values, 8)
    m, v, top = (abs(np.roll(g, i)) for i in (1, 2, 3))
    options = ADAM | {"decoupled": False}
    d = [[sent(a)] for a in (p, g, m, v, top)]
    device.adam(*d, [3.0], **options)
    reference.adam([p], [g], [m], [v], [top], [3.0], **options)
    for e, (f,) in zip((p, g, m, v, top), d, strict=True):
        np.testing.assert_array_equal(f.to_host(), e)


def test_norms(device, blocks):
    from tritium.kernels.triton.memory import from_host

    rng = np.random.default_rng(8)
    base = numbers(rng, (7, 40), F32)
    arrays = [numbers(rng, s, F32) for s in SHAPES] + [base.T, base.reshape(-1)[3:], base[:, ::3]]
    for dtype in (F32, BF16, F64):
        some = [a.astype(dtype) for a in arrays[:5]] if dtype != F32 else arrays
        total = np.sqrt(sum([(a.astype(F64) ** 2).sum() for a in some]))
        found = device.total_norm([sent(a) for a in some])
        assert found.shape == () and found.dtype == dtype
        np.testing.assert_allclose(float(found), total, rtol=4e-3 if dtype == BF16 else 1e-6)
        assert found.tobytes() == device.total_norm([sent(a) for a in some]).tobytes()
    for a in arrays:
        np.testing.assert_allclose(device.norm(sent(a)), reference.norm(a), rtol=1e-6)
    assert float(device.total_norm([sent(arrays[3])])) == 0
    assert np.isnan(float(device.total_norm([sent(np.array([1, np.nan], F32)), sent(base)])))
    placed = [sent(a) for a in arrays]
    device.scale(placed, from_host(np.array(0.3, F32)))
    for a, f in zip(arrays, placed, strict=True):
        np.testing.assert_array_equal(f.to_host(), a * np.float32(0.3))


def test_many_parameters_in_one_launch(device, monkeypatch):
    """Also: tables are kept for the lists that they were made for, and then a step allocates nothing."""
    from tritium.kernels.runtime import memory
    from tritium.kernels.triton import optimizer_kernels, optimizer_tables

    launches = []
    bind = optimizer_kernels.update.bind
    monkeypatch.setattr(optimizer_kernels.update, "bind", lambda **k: launches.append(k) or bind(**k))
    params = [np.full((n,), n, F32) for n in range(1, 20)]
    d, g = [sent(p) for p in params], [sent(np.ones_like(p)) for p in params]
    device.forget()
    for _ in range(3):
        device.sgd(d, g, None, [False] * 19, **SGD)
        if len(launches) == 1:
            memory.reset_peak(0)
    assert len(launches) == 3 and len(optimizer_tables._batches) == 1
    assert memory.counts_of(0).peak == memory.counts_of(0).allocated
    for p, a in zip(params, d, strict=True):
        np.testing.assert_allclose(a.to_host(), p - 0.3, rtol=1e-6)


def test_refusals(device):
    from tritium.kernels.array import DeviceMismatch, NoKernel

    p = np.ones(3, F32)
    with pytest.raises(DeviceMismatch):
        device.sgd([sent(p)], [p], None, [False], **SGD)
    with pytest.raises(NoKernel):
        device.sgd([sent(np.ones(3, int))], [sent(np.ones(3, int))], None, [False], **SGD)


# --- tritium.optim on the device ---

def trained(device_name, steps, start=None):
    """(optimizer, parameters) after some steps; ``start``: a state to load before."""
    import tritium

    rng = np.random.default_rng(9)
    params = [tritium.tensor(numbers(rng, s, F32), device=device_name).requires_grad_() for s in ((4, 3), (5,))]
    found = tritium.optim.NAdam(params, lr=0.1)
    if start is not None:
        found.load_state_dict(start)
    for _ in range(steps):
        for p in params:
            p.grad = tritium.tensor(numbers(rng, p.shape, F32), device=device_name)
        found.step()
    return found, params


def test_state_lives_with_the_parameter_and_steps_on_the_host():
    import tritium

    tritium.set_default_device("cuda")
    try:
        there, params = trained("cuda", 3)
        assert all(s[k].device.type == "cuda" for s in there.state.values() for k in ("exp_avg", "exp_avg_sq"))
        assert all(s[k].device.type == "cpu" for s in there.state.values() for k in ("step", "mu_product"))
    finally:
        tritium.set_default_device(None)
    here, expected = trained("cpu", 3)
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_array_equal(p.detach().cpu().numpy(), e.detach().numpy())
    moved, _ = trained("cuda", 0, here.state_dict())
    back, _ = trained("cpu", 0, moved.state_dict())
    for s, t, u in zip(here.state.values(), moved.state.values(), back.state.values(), strict=True):
        assert t["exp_avg"].device.type == "cuda" and t["step"].device.type == u["exp_avg"].device.type == "cpu"
        np.testing.assert_array_equal(u["exp_avg"].numpy(), s["exp_avg"].numpy())


def test_clipping(monkeypatch):
    import tritium
    from tritium.kernels.triton import optimizer_kernels

    launches = []
    bind = optimizer_kernels.multiply.bind
    monkeypatch.setattr(optimizer_kernels.multiply, "bind", lambda **k: launches.append(k) or bind(**k))
    for limit in (0.5, 1e6):
        ours = [trained(name, 1)[1] for name in ("cuda", "cpu")]
        totals = [tritium.nn.utils.clip_grad_norm_(params, limit) for params in ours]
        np.testing.assert_allclose(totals[0].item(), totals[1].item(), rtol=1e-6)
        assert totals[0].device.type == "cuda" and totals[0].shape == ()
        for p, q in zip(*ours, strict=True):
            np.testing.assert_allclose(p.grad.cpu().numpy(), q.grad.numpy(), rtol=1e-6)
    assert len(launches) == 2


def test_a_step_in_a_graph():
    import tritium

    p = tritium.ones(10, device="cuda").requires_grad_()
    p.grad = tritium.ones(10, device="cuda")
    found = tritium.optim.SGD([p], lr=0.25, momentum=0.5)
    found.step()
    graph = tritium.cuda.CUDAGraph()
    with tritium.cuda.graph(graph):
        found.step()
    for _ in range(2):
        graph.replay()
    np.testing.assert_array_equal(p.detach().cpu().numpy(), np.full(10, 1 - 0.25 * (1 + 1.5 + 1.75), F32))
