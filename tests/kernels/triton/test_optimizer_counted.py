"""Updates whose steps, rates and scales are in device memory: against NumPy's, and against those with host numbers."""
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tritium.kernels.reference import optimizer as reference

pytestmark = pytest.mark.cuda_only

BF16 = np.dtype(ml_dtypes.bfloat16)
F32, F64 = np.dtype("f4"), np.dtype("f8")
SHAPES = [(3, 5), (), (150,), (0, 4), (64,)]
STEPS = [0, 0, 3, 7, 40]

ADAM = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1, "maximize": False}
# function, lists of states, how steps are given, options
CASES = {
    "adam": ("adam", [1, 1, None], "steps", ADAM | {"decoupled": False}),
    "adamw": ("adam", [1, 1, 1], "steps", ADAM | {"decoupled": True, "maximize": True}),
    "nadam": ("nadam", [1, 1], "products", ADAM | {"decoupled": False, "momentum_decay": 4e-3}),
    "nadamw": ("nadam", [1, 1], "products", ADAM | {"decoupled": True, "momentum_decay": 4e-3}),
    "radam": ("radam", [1, 1], "steps", ADAM | {"decoupled": True}),
    "adamax": ("adamax", [1, 1], "steps", ADAM),
    "adagrad": ("adagrad", [1], "steps", {"lr_decay": 0.2, "eps": 1e-6, "weight_decay": 0.1, "maximize": False}),
    "rmsprop": ("rmsprop", [1, None, 1], "steps", {"alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1, "momentum": 0.9,
                                                   "maximize": False}),
    "adadelta": ("adadelta", [1, 1], "steps", {"rho": 0.9, "eps": 1e-5, "weight_decay": 0.0, "maximize": True}),
    "sgd": ("sgd", [None], "fresh", {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.1, "nesterov": False,
                                     "maximize": False}),
    "sgd momentum": ("sgd", [1], "fresh", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.0, "nesterov": False,
                                           "maximize": True}),
    "lars": ("lars", [1], "adapted", {"momentum": 0.9, "weight_decay": 0.01, "trust_coefficient": 0.02, "eps": 1e-8,
                                      "nesterov": False, "maximize": False}),
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
    yield
    optimizer.forget()


def to_device(a):
    from tritium.kernels.triton.memory import from_host

    return from_host(np.asarray(a))


def numbers(rng, shape, dtype, positive=False):
    a = rng.standard_normal(shape)
    return np.asarray(abs(a) + 0.1 if positive else a).astype(dtype)


def made(case, dtype, steps_dtype=F32):
    """Lists of arrays of a case: parameters, gradients, states, and what there is of each parameter besides."""
    _, states, more, _ = CASES[case]
    rng = np.random.default_rng(0)
    params, grads = ([numbers(rng, s, dtype) for s in SHAPES] for _ in range(2))
    lists = [None if one is None else [numbers(rng, s, dtype, True) for s in SHAPES] for one in states]
    steps = [np.array(n, steps_dtype) for n in STEPS]
    per = {"steps": [steps], "products": [steps, [np.array(0.9 ** n, steps_dtype) for n in STEPS]],
           "fresh": [[n == 3 for n in STEPS]], "adapted": [[n != 3 for n in STEPS]]}[more]
    return params, grads, lists, per


def sent(lists):
    return [None if one is None else [to_device(a) if isinstance(a, np.ndarray) else a for a in one] for one in lists]


def same(expected, found, exact):
    for some, others in zip(expected, found, strict=True):
        for e, f in zip(some or [], others or [], strict=True):
            if isinstance(e, np.ndarray):
                f = f.to_host()
                assert f.dtype == e.dtype
                if exact:
                    np.testing.assert_array_equal(f.astype(F64), e.astype(F64))
                else:
                    np.testing.assert_allclose(f.astype(F64), e.astype(F64), rtol={2: 8e-3, 4: 2e-6, 8: 1e-13}[e.itemsize])


def check(device, case, dtype=F32, steps_dtype=F32, rate=None, **scaler):
    name, _, _, options = CASES[case]
    params, grads, states, per = made(case, dtype, steps_dtype)
    d = sent([params, grads]), sent(states), sent(per)
    here = {k: np.array(v, F32) for k, v in scaler.items()}
    there = {k: to_device(v) for k, v in here.items()}
    for _ in range(2):
        getattr(reference, name)(params, grads, *states, *per, lr=0.02 if rate is None else rate, **options, **here)
        getattr(device, name)(*d[0], *d[1], *d[2], lr=0.02 if rate is None else to_device(rate), **options, **there)
    same([params, grads, *states, *per], [*d[0], *d[1], *d[2]], "lars" not in case and dtype != F64)
    return params, per


@pytest.mark.parametrize("case", CASES)
def test_same_bits_as_numpy(device, case):
    rate = np.array(0.02, F32)
    check(device, case, rate=rate)
    if case not in ("sgd", "sgd momentum", "lars"):
        _, (steps, *_) = check(device, case)
        assert [float(s) for s in steps] == [n + 2 for n in STEPS]


@pytest.mark.parametrize("case", ["adam", "rmsprop", "sgd momentum", "nadam"])
@pytest.mark.parametrize("dtype", [BF16, F64], ids=str)
def test_dtypes_and_blocks(device, blocks, case, dtype):
    check(device, case, dtype, F64 if dtype == F64 else F32, rate=np.array([0.01], dtype))


@pytest.mark.parametrize("case", ["adam", "adamw", "sgd", "sgd momentum", "adagrad"])
def test_scaled_gradients(device, blocks, case):
    for dtype in (F32, BF16):
        check(device, case, dtype, grad_scale=8.0, found_inf=0.0)
    check(device, case, rate=np.array(0.1, F32), found_inf=0.0)


@pytest.mark.parametrize("case", ["adam", "sgd momentum", "adagrad"])
def test_nothing_changes_where_a_gradient_is_not_finite(device, case):
    before = made(case, F32)
    params, per = check(device, case, grad_scale=8.0, found_inf=1.0)
    same([before[0], *before[3]], [[to_device(a) for a in params],
                                   *[[to_device(a) if isinstance(a, np.ndarray) else a for a in one] for one in per]],
         True)


def test_the_host_s_numbers_are_the_same(device):
    """What the device computes of its steps is what the host would have computed."""
    for case in ("adam", "adamw", "radam", "adamax"):
        name, _, _, options = CASES[case]
        results = []
        for counted in (True, False):
            params, grads, states, (steps,) = made(case, F32)
            d, s = sent([params, grads]), sent(states)
            given = sent([steps])[0] if counted else [float(n) + 1 for n in STEPS]
            getattr(device, name)(*d, *s, given, lr=0.02, **options)
            results.append([a.to_host() for a in d[0]])
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("case", "count"), [("sgd momentum", 1), ("rmsprop", 1), ("adam", 2), ("nadam", 2)])
def test_launches(device, monkeypatch, case, count):
    """One for all parameters, and one before it where the update depends on the steps."""
    from tritium.kernels.triton import optimizer_kernels, optimizer_numbers

    launches = []
    for one in (optimizer_kernels.update, optimizer_kernels.update_rated, optimizer_kernels.update_counted,
                optimizer_numbers.numbers):
        monkeypatch.setattr(one, "bind", lambda bind=one.bind, **k: launches.append(k) or bind(**k))
    name, _, _, options = CASES[case]
    params, grads, states, per = made(case, F32)
    rest = [i for i, p in enumerate(params) if p.size]
    lists = [one and [one[i] for i in rest] for one in (params, grads, *states, *per)]
    if case == "sgd momentum":
        lists[-1] = [False] * len(rest)
    getattr(device, name)(*sent(lists), lr=to_device(np.array(0.1, F32)), **options)
    assert len(launches) == count


def test_captured_updates(device):
    """A graph counts on at each replay; its tables are copied once."""
    from tritium import cuda

    for case in ("adam", "rmsprop", "sgd momentum", "nadam", "lars"):
        name, _, _, options = CASES[case]
        params, grads, states, per = made(case, F32)
        d, s, p = sent([params, grads]), sent(states), sent(per)
        rate = to_device(np.array(0.02, F32))
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            getattr(device, name)(*d, *s, *p, lr=rate, **options)
        for lr in (0.02, 0.5):
            rate.fill(lr)
            graph.replay()
            getattr(reference, name)(params, grads, *states, *per, lr=np.array(lr, F32), **options)
        same([params, *states, *per], [d[0], *s, *p], case != "lars")
