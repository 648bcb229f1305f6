"""The text of random tensors, character for character PyTorch's."""
import random

import numpy as np
import pytest

import tritium
from tritium.tensor.graph import wrap
from tritium.tensor.printing import printoptions

pytestmark = pytest.mark.cpu_only(reason="the text of CPU tensors")

torch = pytest.importorskip("torch")

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
          "complex64", "complex128"]
KINDS = ["plain", "whole", "large", "small", "mixed", "wide", "zeros", "special"]
OPTIONS = [{"precision": 2}, {"precision": 0}, {"sci_mode": True}, {"sci_mode": False}, {"linewidth": 30},
           {"linewidth": 1}, {"threshold": 10}, {"threshold": 0, "edgeitems": 1}, {"edgeitems": 0, "threshold": 5},
           {"profile": "short"}, {"profile": "full"}]


def to_tritium(t):
    if t.dtype is torch.bfloat16:
        return wrap(t.view(torch.int16).numpy().view(tritium.bfloat16.np))
    return wrap(t.numpy())


def reals(rng, shape, kind):
    x = rng.standard_normal(shape)
    if kind == "whole":
        x = np.round(x * 10.0 ** rng.integers(0, 9))
    elif kind == "large":
        x = x * 10.0 ** rng.integers(0, 12)
    elif kind == "small":
        x = x * 10.0 ** -rng.integers(0, 9)
    elif kind == "mixed":
        x = x * 10.0 ** rng.integers(-3, 4, shape)
    elif kind == "wide":
        x = x * 10.0 ** rng.integers(-60, 60, shape)
    elif kind == "zeros":
        x = np.where(rng.random(shape) < 0.7, rng.choice([0.0, -0.0]), x)
    elif kind == "special":
        odd = rng.choice([np.nan, np.inf, -np.inf, -0.0, 1.0, 2.0], shape)
        x = np.where(rng.random(shape) < 0.6, odd, np.round(x) if rng.random() < 0.5 else x)
    return torch.from_numpy(np.asarray(x))


def random_tensor(rng, dtype):
    shape = tuple(rng.choice([1, 2, 3, 5, 9, 20], rng.integers(0, 5)).tolist())
    if rng.random() < 0.15:
        shape = [(1001,), (1000,), (0, 3), (0,), (40, 30), (2, 9, 60), (7, 7, 25), (3, 0, 2)][rng.integers(8)]
    while np.prod(shape) > 4000:
        shape = shape[1:]
    kind = KINDS[rng.integers(len(KINDS))]
    if dtype.is_complex:
        x = torch.complex(reals(rng, shape, kind), reals(rng, shape, kind))
    else:
        x = reals(rng, shape, kind)
        if dtype is torch.bool:
            x = x > 0
        elif not dtype.is_floating_point:
            x = (x * 50).nan_to_num(0, 9, -9)
    x = x.to(dtype)
    return x.transpose(0, -1) if x.ndim > 1 and rng.random() < 0.2 else x


@pytest.mark.parametrize("name", DTYPES)
def test_random_tensors(name):
    rng = np.random.default_rng(DTYPES.index(name))
    for _ in range(60):
        x = random_tensor(rng, getattr(torch, name))
        y = to_tritium(x)
        if rng.random() < 0.2 and x.is_floating_point():
            x, y = x.requires_grad_(), y.requires_grad_()
        options = OPTIONS[rng.integers(len(OPTIONS))] if rng.random() < 0.3 else {}
        with torch._tensor_str.printoptions(**options), printoptions(**options):
            assert repr(y).replace("tritium.", "torch.") == repr(x), options


@pytest.mark.parametrize("default", ["float64", "float16", "bfloat16"])
def test_default_dtype(default):
    torch.set_default_dtype(getattr(torch, default))
    tritium.set_default_dtype(getattr(tritium, default))
    try:
        for dtype in ("float32", "float64", "complex64", "complex128", "int64", "bool", "bfloat16"):
            for shape in ((), (0,), (2, 0), (3,)):
                ours = tritium.zeros(shape, dtype=getattr(tritium, dtype))
                theirs = torch.zeros(shape, dtype=getattr(torch, dtype))
                assert repr(ours).replace("tritium.", "torch.") == repr(theirs)
    finally:
        torch.set_default_dtype(torch.float32)
        tritium.set_default_dtype(tritium.float32)


def test_where_a_suffix_starts_a_line():
    for n in range(1, 90):
        for ours, theirs in ((tritium.ones(n), torch.ones(n)),
                             (tritium.arange(n, dtype=tritium.int32), torch.arange(n, dtype=torch.int32)),
                             (tritium.ones(1, n, dtype=tritium.float64), torch.ones(1, n, dtype=torch.float64))):
            if theirs.is_floating_point():
                ours, theirs = ours.requires_grad_() * 1, theirs.requires_grad_() * 1
            assert repr(ours).replace("tritium.", "torch.") == repr(theirs)


def test_parameters_and_formats():
    ours, theirs = tritium.nn.Parameter(tritium.ones(2, 3)), torch.nn.Parameter(torch.ones(2, 3))
    assert repr(ours) == repr(theirs)
    rng = random.Random(0)
    for _ in range(50):
        value, spec = rng.uniform(-1e3, 1e3), rng.choice(["", ".3f", "10.2e", "<12.4g", "+"])
        assert format(tritium.tensor(value), spec) == format(torch.tensor(value), spec)
    assert f"{tritium.tensor(3):04d}" == f"{torch.tensor(3):04d}"
