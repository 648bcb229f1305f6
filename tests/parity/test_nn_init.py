"""Initial values: the numbers of every layer and of nn.init after manual_seed, equal to PyTorch's bit for bit."""

import numpy as np
import pytest

import tritium

pytestmark = pytest.mark.cpu_only(reason="PyTorch's CPU numbers")

torch = pytest.importorskip("torch")

LAYERS = """nn.Linear(7, 5)
nn.Linear(7, 5, bias=False)
nn.Linear(3, 4, dtype=fw.float64)
nn.Bilinear(3, 4, 5)
nn.Conv1d(4, 6, 3)
nn.Conv2d(3, 8, 3)
nn.Conv2d(4, 8, (3, 1), groups=2, bias=False)
nn.Conv3d(2, 3, 2)
nn.ConvTranspose1d(4, 6, 3)
nn.ConvTranspose2d(4, 6, 3, groups=2)
nn.BatchNorm2d(5)
nn.LayerNorm((2, 3))
nn.GroupNorm(2, 4)
nn.PReLU(3)
nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10))""".splitlines()


@pytest.mark.parametrize("code", LAYERS)
def test_layers(code):
    states = []
    for fw in (tritium, torch):
        fw.manual_seed(3)
        layer = eval(code, {"nn": fw.nn, "fw": fw})
        states.append({name: value.numpy() for name, value in layer.state_dict().items()})
        states[-1]["next draw"] = fw.rand(1).numpy()
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])
        assert value.dtype == states[1][name].dtype and value.shape == states[1][name].shape


EXACT = """init.uniform_(t)
init.uniform_(t, -2.0, 3.0)
init.constant_(t, 0.3)
init.ones_(t)
init.zeros_(t)
init.eye_(t)
init.xavier_uniform_(t)
init.xavier_uniform_(t, gain=init.calculate_gain("relu"))
init.kaiming_uniform_(t)
init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu")
init.kaiming_uniform_(c, a=0.2)
init.dirac_(c)
init.dirac_(c, groups=2)
init.dirac_(c[0])""".splitlines()
CLOSE = """init.normal_(t)
init.normal_(t, 1.0, 0.1)
init.trunc_normal_(t)
init.trunc_normal_(t, std=0.02)
init.trunc_normal_(t, mean=2.0, std=1.0, a=-1.0, b=1.5)
init.trunc_normal_(t, std=2.0, a=-0.5, b=0.5)
init.xavier_normal_(t)
init.kaiming_normal_(t)
init.kaiming_normal_(c, mode="fan_out", nonlinearity="relu")
init.orthogonal_(t)
init.orthogonal_(c, gain=2.0)
init.orthogonal_(t.t())
init.sparse_(t, 0.4)""".splitlines()


def run(fw, code, dtype="float32"):
    names = {"init": fw.nn.init, "t": fw.zeros(6, 9, dtype=getattr(fw, dtype)),
             "c": fw.zeros(4, 3, 3, 3, dtype=getattr(fw, dtype))}  # fmt: skip
    fw.manual_seed(11)
    result = eval(code, names)
    return np.array(result.numpy()), fw.rand(1).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("code", EXACT)
def test_exact(code, dtype):
    for ours, theirs in zip(run(tritium, code, dtype), run(torch, code, dtype), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("code", CLOSE)
def test_close(code, dtype):
    (ours, our_next), (theirs, their_next) = run(tritium, code, dtype), run(torch, code, dtype)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4 if "orthogonal" in code else 2e-6, atol=2e-6)
    np.testing.assert_array_equal(our_next, their_next)


def test_embedding_and_generator():
    tables = []
    for fw in (tritium, torch):
        fw.manual_seed(5)
        tables.append(fw.nn.Embedding(6, 4, padding_idx=2).weight.detach().numpy())
        generator = fw.Generator().manual_seed(9)
        tables.append(fw.nn.init.uniform_(fw.empty(5), generator=generator).numpy())
    np.testing.assert_allclose(tables[0], tables[2], rtol=1e-6)
    np.testing.assert_array_equal(tables[1], tables[3])
    assert (tables[0][2] == 0).all()


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gain(name):
    assert tritium.nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert tritium.nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


ERRORS = """init.calculate_gain("nothing")
init.calculate_gain("leaky_relu", "x")
init.xavier_uniform_(fw.zeros(3))
init.kaiming_uniform_(fw.zeros(3, 3), mode="fan")
init.eye_(fw.zeros(3))
init.dirac_(fw.zeros(3, 3))
init.dirac_(fw.zeros(3, 3, 3), groups=2)
init.orthogonal_(fw.zeros(3))
init.sparse_(fw.zeros(3), 0.1)""".splitlines()


@pytest.mark.parametrize("code", ERRORS)
def test_errors(code):
    texts = []
    for fw in (tritium, torch):
        with pytest.raises(ValueError) as info:
            eval(code, {"init": fw.nn.init, "fw": fw})
        texts.append(str(info.value))
    assert texts[0] == texts[1]


def test_deprecated_names_and_warnings():
    for fw in (tritium, torch):
        t = fw.zeros(2, 2)
        with pytest.warns(
            FutureWarning, match="`nn.init.constant` is now deprecated in favor of `nn.init.constant_`"
        ):
            fw.nn.init.constant(t, 2)
        assert t.tolist() == [[2, 2], [2, 2]]
        for name in (
            "normal",
            "uniform",
            "xavier_uniform",
            "xavier_normal",
            "kaiming_normal",
            "kaiming_uniform",
            "eye",
        ):
            with pytest.warns(FutureWarning):
                getattr(fw.nn.init, name)(t)
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
            fw.nn.init.kaiming_uniform_(fw.empty(0, 3))
        with pytest.warns(UserWarning, match="mean is more than 2 std"):
            fw.nn.init.trunc_normal_(t, mean=5.0, std=1.0, a=-2.0, b=2.0)


def test_parameters_that_require_grad_are_filled_without_a_record():
    weight = tritium.nn.Parameter(tritium.zeros(3, 3))
    for name in ("uniform_", "normal_", "eye_", "xavier_uniform_", "kaiming_normal_", "orthogonal_", "trunc_normal_"):
        assert getattr(tritium.nn.init, name)(weight) is weight
        assert weight.is_leaf and weight.requires_grad and weight.grad_fn is None
