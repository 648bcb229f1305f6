"""Activations and softmax against PyTorch: values, gradients, second derivatives, in-place forms, node names,
errors."""

import numpy as np
import pytest

import tritium
import tritium.nn.functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

SPECIAL = [-7.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 25.0]
CASES = {
    "relu": {}, "relu6": {}, "hardtanh": {"min_val": -0.5, "max_val": 2.0}, "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 1.5}, "celu": {"alpha": 1.5}, "selu": {}, "silu": {}, "mish": {}, "hardswish": {},
    "hardsigmoid": {}, "softplus": {"beta": 2.0, "threshold": 5.0}, "softsign": {}, "logsigmoid": {},
    "hardshrink": {"lambd": 0.4}, "softshrink": {"lambd": 0.4}, "tanhshrink": {},
    "threshold": {"threshold": 0.3, "value": -2.0}, "gelu": {}, "sigmoid": {}, "tanh": {}, "rrelu": {},
}  # fmt: skip
INPLACE = ["relu", "relu6", "hardtanh", "leaky_relu", "elu", "celu", "selu", "silu", "mish", "hardswish",
           "hardsigmoid", "threshold", "rrelu"]  # fmt: skip
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}


def data(dtype, shape=(4, 6)):
    x = np.asarray(np.random.default_rng(0).normal(size=shape)) * 2
    x = np.asarray(x)
    x.reshape(-1)[: len(SPECIAL)] = SPECIAL[: x.size]
    return np.asarray(x.astype(dtype))


def evaluate(fw, name, x, transposed=False, **kwargs):
    functional = F if fw is tritium else TF
    leaf = fw.from_numpy(x.copy()).requires_grad_()
    out = getattr(functional, name)(leaf.t() if transposed else leaf, **kwargs)
    weights = fw.from_numpy(np.cos(np.arange(out.numel())).reshape(out.shape).astype(x.dtype))
    (grad,) = fw.autograd.grad((out * weights).sum(), leaf, create_graph=True)
    if grad.grad_fn is not None and name != "hardsigmoid":  # PyTorch has no second derivative of that one
        (second,) = fw.autograd.grad((grad * grad).sum(), leaf, allow_unused=True)
    else:
        second = None
    name = type(out.grad_fn).__name__
    return [out.detach().numpy(), grad.detach().numpy(), None if second is None else second.numpy()], name


def check(ours, theirs, dtype, loose=1):
    for order, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if order == 2 and a is not None and b is not None:  # at the kinks the second derivative is a convention
            a, b = a.reshape(-1)[len(SPECIAL) :], b.reshape(-1)[len(SPECIAL) :]
        if a is not None and b is not None:
            np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype] * 10 * loose, atol=TOLERANCE[dtype] * loose)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_activation(name, dtype):
    loose = 1e4 if name == "hardsigmoid" else 1  # PyTorch's float64 has a float32 1/6 in it
    ours, our_node = evaluate(tritium, name, data(dtype), **CASES[name])
    theirs, their_node = evaluate(torch, name, data(dtype), **CASES[name])
    check(ours, theirs, dtype, loose)
    assert our_node == their_node
    ours, _ = evaluate(tritium, name, data(dtype), transposed=True, **CASES[name])
    theirs, _ = evaluate(torch, name, data(dtype), transposed=True, **CASES[name])
    check(ours, theirs, dtype, loose)


@pytest.mark.parametrize("name", CASES)
def test_activation_first_order_backward_is_the_formula(name):
    """The fused backward and the recorded one give the same numbers."""
    x = data("float64")
    a = tritium.from_numpy(x.copy()).requires_grad_()
    b = tritium.from_numpy(x.copy()).requires_grad_()
    getattr(F, name)(a, **CASES[name]).sum().backward()
    getattr(F, name)(b, **CASES[name]).sum().backward(create_graph=True)
    np.testing.assert_allclose(a.grad.numpy(), b.grad.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", INPLACE)
def test_inplace(name):
    results = []
    for fw, functional in ((tritium, F), (torch, TF)):
        leaf = fw.from_numpy(data("float64")).requires_grad_()
        x = leaf * 1
        kwargs = {**CASES[name], "inplace": True}
        out = getattr(functional, name)(x, **kwargs)
        assert out is x
        out.sum().backward()
        results.append((out.detach().numpy(), leaf.grad.numpy(), type(out.grad_fn).__name__))
        plain = fw.from_numpy(data("float64"))
        assert getattr(functional, name)(plain, **kwargs) is plain
        np.testing.assert_allclose(plain.numpy(), out.detach().numpy())
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            getattr(functional, name)(leaf, **kwargs)
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-7 if name == "hardsigmoid" else 1e-12)
    assert results[0][2] == results[1][2]


def test_inplace_on_a_view_reaches_the_base():
    for fw, functional in ((tritium, F), (torch, TF)):
        leaf = fw.arange(-3.0, 3.0).requires_grad_()
        x = leaf * 1
        functional.leaky_relu(x[:3], 0.5, inplace=True)
        x.sum().backward()
        assert x.tolist() == [-1.5, -1.0, -0.5, 0.0, 1.0, 2.0]
        assert leaf.grad.tolist() == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", CASES)
def test_special_values(name):
    if name == "gelu":  # infinities: PyTorch's vector code gives nan, its scalar code the limit
        values = np.array([np.nan, 0.0])
    else:
        values = np.array([np.nan, np.inf, -np.inf, 0.0])
    ours, _ = evaluate(tritium, name, values, **CASES[name])
    theirs, _ = evaluate(torch, name, values, **CASES[name])
    np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (2, 3, 4, 5)])
def test_shapes(shape):
    for name, kwargs in CASES.items():
        ours, _ = evaluate(tritium, name, data("float32", shape), **kwargs)
        theirs, _ = evaluate(torch, name, data("float32", shape), **kwargs)
        assert ours[0].shape == theirs[0].shape == shape and ours[1].shape == shape
        check(ours[:1], theirs[:1], "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["relu6", "leaky_relu", "elu", "silu", "hardswish", "gelu", "softplus"])
def test_low_precision(name, dtype):
    results = []
    for fw, functional in ((tritium, F), (torch, TF)):
        x = fw.from_numpy(data("float32")).to(getattr(fw, dtype)).requires_grad_()
        y = getattr(functional, name)(x)
        y.sum().backward()
        assert y.dtype is x.dtype and x.grad.dtype is x.dtype
        results.append((y.detach().float().numpy(), x.grad.float().numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2 if dtype == "bfloat16" else 3e-3, atol=1e-2)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu(approximate, dtype):
    check(
        evaluate(tritium, "gelu", data(dtype), approximate=approximate)[0],
        evaluate(torch, "gelu", data(dtype), approximate=approximate)[0],
        dtype,
    )


def test_erf():
    x = np.linspace(-6, 6, 4001)
    for dtype, tolerance in (("float64", 5e-16), ("float32", 5e-7)):
        ours = tritium.erf(tritium.from_numpy(x.astype(dtype))).numpy()
        np.testing.assert_allclose(ours, torch.erf(torch.from_numpy(x.astype(dtype))).numpy(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 5, 3), (2, 5, 2, 3)])
@pytest.mark.parametrize("count", [1, 5])
def test_prelu(shape, count):
    if count > 1 and len(shape) == 1:
        return
    results = []
    for fw, functional in ((tritium, F), (torch, TF)):
        x = fw.from_numpy(data("float64", shape)).requires_grad_()
        w = fw.from_numpy(np.linspace(-0.5, 0.5, count)).requires_grad_()
        y = functional.prelu(x, w)
        grads = fw.autograd.grad((y * y).sum(), (x, w), create_graph=True)
        second = fw.autograd.grad((grads[0] * grads[0]).sum() + grads[1].sum(), (x, w))
        results.append([t.detach().numpy() for t in (y, *grads, *second)])
        assert type(y.grad_fn).__name__ == "PreluKernelBackward0"
    check(*results, "float64")


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_glu(dim):
    x = data("float64", (4, 6))
    (ours, node), (theirs, name) = (evaluate(fw, "glu", x, dim=dim) for fw in (tritium, torch))
    check(ours, theirs, "float64")
    assert node == name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
@pytest.mark.parametrize(
    ("shape", "dim"), [((5,), 0), ((4, 6), 1), ((4, 6), 0), ((2, 3, 4), -2), ((), 0), ((0, 3), 1)]
)
def test_softmax(name, dtype, shape, dim):
    x = data(dtype, shape)
    (ours, node), (theirs, their_node) = (evaluate(fw, name, x, dim=dim) for fw in (tritium, torch))
    check(ours, theirs, dtype)
    assert node == their_node


def test_softmax_extremes_and_dtype():
    for values in ([1e4, -1e4, 0.0], [np.inf, 0.0, 1.0], [-np.inf, -np.inf, 0.0], [-np.inf, -np.inf, -np.inf]):
        for name in ("softmax", "log_softmax"):
            ours = getattr(F, name)(tritium.tensor(values), 0).numpy()
            np.testing.assert_allclose(ours, getattr(TF, name)(torch.tensor(values), 0).numpy())
    x = tritium.tensor([1, 2, 3])
    assert F.softmax(x, 0, dtype=tritium.float64).dtype is tritium.float64
    assert tritium.softmax(x.float(), 0).tolist() == x.float().softmax(0).tolist()
    low = F.softmax(tritium.tensor([1.0, 2.0]).half(), 0)
    assert low.dtype is tritium.float16


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax_of_any_layout_is_contiguous(name, dim):
    x = data("float32", (2, 3, 4))
    seen = []
    for framework in (tritium, torch):
        t = framework.tensor(x).requires_grad_()
        y = getattr(t.permute(2, 0, 1), name)(dim)
        y[0].sum().backward()
        seen.append((y.stride(), y.detach().numpy(), t.grad.numpy()))
    assert seen[0][0] == seen[1][0]
    for ours, theirs in zip(seen[0][1:], seen[1][1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_softmax_without_a_dimension_warns():
    for fw, functional in ((tritium, F), (torch, TF)):
        with pytest.warns(UserWarning, match="Implicit dimension choice for softmax has been deprecated"):
            assert functional.softmax(fw.ones(2, 4)).tolist() == [[0.25] * 4] * 2
        with pytest.warns(UserWarning, match="Implicit dimension choice for log_softmax"):
            functional.log_softmax(fw.ones(2, 4, 3))


@pytest.mark.parametrize("axes", [0, 1, (0, 1), -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_logsumexp(axes, keepdim):
    results = []
    for fw in (tritium, torch):
        x = fw.from_numpy(data("float64")).requires_grad_()
        y = fw.logsumexp(x, axes, keepdim)
        (y * y).sum().backward()
        results.append([y.detach().numpy(), x.grad.numpy()])
    check(*results, "float64")


ERRORS = [
    "F.softmax(t, 0)", "F.log_softmax(t, 0)", "F.softmax(x, 5)", "fw.softmax(x, None)", "F.glu(x, 1)",
    "F.glu(fw.tensor(1.0), 0)", "F.elu(t)", "F.gelu(t)", "F.gelu(x, approximate='foo')", "F.silu(t)", "F.leaky_relu(t)",
    "F.hardtanh(x, 1, -1)", "F.hardswish(t)", "F.hardsigmoid(t)", "F.softplus(t)", "F.mish(t)", "F.logsigmoid(t)",
    "F.prelu(x, fw.ones(3))", "F.prelu(x, fw.ones(5, 1))", "F.prelu(fw.tensor(1.0), fw.ones(2))",
    "F.prelu(x, fw.ones(5).double())", "F.celu(x, alpha=0)", "F.selu(t)", "F.softshrink(x, -1)", "F.hardshrink(t)",
]  # fmt: skip


@pytest.mark.parametrize("code", ERRORS)
def test_errors(code):
    texts = []
    for fw, functional in ((tritium, F), (torch, TF)):
        names = {"fw": fw, "F": functional, "x": fw.ones(4, 5), "t": fw.arange(4)}
        with pytest.raises(Exception) as info:  # noqa: B017, PT011
            eval(code, names)
        texts.append((info.type, str(info.value)))
    assert texts[0] == texts[1]


def test_integers():
    for fw, functional in ((tritium, F), (torch, TF)):
        x = fw.arange(-2, 4)
        assert functional.relu6(x).tolist() == [0, 0, 0, 1, 2, 3]
        assert functional.threshold(x, 1, 0).tolist() == [0, 0, 0, 0, 2, 3]
        assert functional.hardtanh(x).tolist() == [-1, -1, 0, 1, 1, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.cpu_only(reason="PyTorch's CPU numbers")
def test_rrelu_in_training(dtype):
    results = []
    for fw, functional in ((tritium, F), (torch, TF)):
        fw.manual_seed(2)
        x = fw.from_numpy(data(dtype)).requires_grad_()
        y = functional.rrelu(x, 0.1, 0.4, training=True)
        y.sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy(), fw.rand(1).numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6 if dtype == "float32" else 1e-14)
