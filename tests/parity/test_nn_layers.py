"""Layers with the same weights as PyTorch's: outputs, gradients of input and parameters, buffers afterwards, errors."""

import itertools

import numpy as np
import pytest

import tritium

torch = pytest.importorskip("torch")

LAYERS = [
    ("nn.Linear(5, 3)", (4, 5)), ("nn.Linear(5, 3)", (5,)), ("nn.Linear(5, 3, bias=False)", (2, 3, 5)),
    ("nn.Linear(5, 3)", (0, 5)), ("nn.Bilinear(5, 5, 3)", "bilinear"), ("nn.Identity()", (2, 2)),
    ("nn.Conv1d(3, 4, 3, padding=1)", (2, 3, 7)), ("nn.Conv1d(3, 4, 3, stride=2)", (3, 7)),
    ("nn.Conv2d(3, 4, 3)", (2, 3, 7, 6)), ("nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)", (2, 3, 7, 6)),
    ("nn.Conv2d(4, 4, 3, groups=4, dilation=2)", (2, 4, 7, 6)), ("nn.Conv2d(4, 6, (1, 3), groups=2)", (4, 7, 6)),
    ("nn.Conv2d(3, 4, 3, padding='same')", (2, 3, 7, 6)), ("nn.Conv2d(3, 4, (2, 4), padding='same')", (2, 3, 7, 6)),
    ("nn.Conv2d(3, 4, 3, padding='valid')", (2, 3, 7, 6)),
    ("nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect')", (2, 3, 7, 6)),
    ("nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode='replicate')", (2, 3, 7, 6)),
    ("nn.Conv2d(3, 4, 3, padding=1, padding_mode='circular')", (2, 3, 7, 6)),
    ("nn.Conv2d(3, 4, (2, 4), padding='same', padding_mode='reflect')", (2, 3, 7, 6)),
    ("nn.Conv1d(3, 4, 3, padding=2, padding_mode='circular')", (2, 3, 7)),
    ("nn.ConvTranspose1d(3, 4, 3, stride=2)", (2, 3, 5)),
    ("nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)", (2, 3, 5, 4)),
    ("nn.BatchNorm1d(5)", (4, 5)), ("nn.BatchNorm1d(5)", (4, 5, 3)), ("nn.BatchNorm2d(3)", (2, 3, 4, 5)),
    ("nn.BatchNorm2d(3, affine=False, momentum=None)", (2, 3, 4, 5)),
    ("nn.BatchNorm2d(3, track_running_stats=False)", (2, 3, 4, 5)), ("nn.BatchNorm3d(3)", (2, 3, 2, 2, 2)),
    ("nn.BatchNorm2d(3, bias=False)", (2, 3, 4, 5)), ("nn.InstanceNorm2d(3, affine=True)", (2, 3, 4, 5)),
    ("nn.InstanceNorm1d(3, track_running_stats=True)", (2, 3, 4)), ("nn.InstanceNorm2d(3)", (3, 4, 5)),
    ("nn.GroupNorm(2, 4)", (2, 4, 3, 3)), ("nn.LayerNorm(5)", (4, 5)), ("nn.LayerNorm((3, 5))", (2, 3, 5)),
    ("nn.RMSNorm(5)", (4, 5)), ("nn.PReLU(3)", (2, 3, 4)), ("nn.ReLU6()", (4, 5)), ("nn.LeakyReLU(0.1)", (4, 5)),
    ("nn.GELU()", (4, 5)), ("nn.Softmax(1)", (4, 5)), ("nn.LogSoftmax(-1)", (4, 5)), ("nn.Softmax2d()", (2, 3, 2, 2)),
    ("nn.Hardtanh()", (4, 5)), ("nn.Threshold(0.1, 2.0)", (4, 5)), ("nn.Softmin(0)", (4, 5)), ("nn.GLU()", (4, 6)),
    ("nn.MaxPool1d(2)", (2, 3, 6)), ("nn.MaxPool2d(3, 2, 1)", (2, 3, 7, 6)),
    ("nn.MaxPool2d(2, ceil_mode=True)", (3, 7, 5)),
    ("nn.AvgPool1d(2)", (2, 3, 6)), ("nn.AvgPool2d(3, 2, 1, count_include_pad=False)", (2, 3, 7, 6)),
    ("nn.AdaptiveAvgPool1d(3)", (2, 3, 7)), ("nn.AdaptiveAvgPool2d((1, 1))", (2, 3, 7, 6)),
    ("nn.AdaptiveAvgPool2d((None, 3))", (2, 3, 7, 6)), ("nn.AdaptiveMaxPool2d(2)", (2, 3, 7, 6)),
    ("nn.Flatten()", (2, 3, 4)), ("nn.Flatten(0, 1)", (2, 3, 4)), ("nn.Unflatten(1, (2, 3))", (2, 6)),
    ("nn.ZeroPad2d((1, 2, 0, 1))", (2, 3, 4)), ("nn.ConstantPad1d((1, -1), 2.0)", (2, 3, 4)),
    ("nn.ReflectionPad2d(2)", (2, 3, 4, 5)), ("nn.ReflectionPad1d((2, 1))", (3, 4)),
    ("nn.ReplicationPad2d(3)", (2, 3, 4, 5)),
    ("nn.CircularPad2d((1, 2, 3, 0))", (2, 3, 4, 5)), ("nn.ReplicationPad3d(1)", (1, 2, 2, 3, 2)),
    ("nn.PixelShuffle(2)", (2, 8, 3, 2)), ("nn.PixelUnshuffle(2)", (2, 2, 4, 6)),
    ("nn.ChannelShuffle(2)", (2, 6, 2, 2)),
    ("nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(80, 2))",
     (2, 3, 7, 6)),
]  # fmt: skip
TOLERANCE = {"float64": 1e-11, "float32": 2e-5}


def build(fw, code, dtype):
    layer = eval(code, {"nn": fw.nn, "torch": fw}).to(getattr(fw, dtype))
    generator = np.random.default_rng(7)
    with fw.no_grad():
        for name, value in layer.state_dict().items():
            if value.is_floating_point():
                numbers = (
                    generator.uniform(0.5, 1.5, value.shape) if "var" in name else generator.normal(size=value.shape)
                )
                value.copy_(fw.from_numpy(np.asarray(numbers, dtype)))
    return layer


def call(fw, code, shape, dtype, training, transform=lambda t: t):
    layer = build(fw, code, dtype).train(training)
    generator = np.random.default_rng(8)
    shapes = [(4, 5), (4, 5)] if shape == "bilinear" else [shape]
    leaves = [fw.from_numpy(np.asarray(generator.normal(size=s), dtype)).requires_grad_() for s in shapes]
    out = layer(*[transform(t) for t in leaves])
    weights = fw.from_numpy(np.cos(np.arange(out.numel())).reshape(out.shape).astype(dtype))
    (out * weights).sum().backward()
    found = {"out": out.detach().numpy(), **{f"input {i}": t.grad.numpy() for i, t in enumerate(leaves)}}
    found.update((f"grad {name}", p.grad.numpy()) for name, p in layer.named_parameters())
    found.update((f"buffer {name}", b.numpy()) for name, b in layer.named_buffers())
    return found


def compare(ours, theirs, tolerance):
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.shape == theirs[name].shape and value.dtype == theirs[name].dtype, name
        np.testing.assert_allclose(value, theirs[name], rtol=tolerance * 10, atol=tolerance, err_msg=name)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("code", "shape"), LAYERS)
def test_forward_and_backward(code, shape, dtype):
    for training in (True, False):
        compare(*(call(fw, code, shape, dtype, training) for fw in (tritium, torch)), TOLERANCE[dtype])


@pytest.mark.parametrize(("code", "shape"), [x for x in LAYERS if len(x[1]) == 4 and x[1] != "bilinear"])
def test_non_contiguous_input(code, shape):
    """The same leaf, seen through a transposed and sliced view."""

    def twist(t):
        return t.transpose(-1, -2).contiguous().transpose(-1, -2)

    compare(*(call(fw, code, shape, "float64", True, twist) for fw in (tritium, torch)), 1e-11)


def test_gradients_of_gradients():
    for code, shape in (("nn.Linear(5, 3)", (4, 5)), ("nn.Conv2d(2, 3, 3, padding=1)", (2, 2, 4, 4)),
                        ("nn.ReflectionPad2d(1)", (1, 1, 3, 3)), ("nn.LayerNorm(5)", (4, 5))):  # fmt: skip
        results = []
        for fw in (tritium, torch):
            layer = build(fw, code, "float64")
            x = fw.from_numpy(np.random.default_rng(8).normal(size=shape)).requires_grad_()
            (grad,) = fw.autograd.grad((layer(x) ** 3).sum(), x, create_graph=True)
            (grad**2).sum().backward()
            results.append({"x": x.grad.numpy(), **{n: p.grad.numpy() for n, p in layer.named_parameters()}})
        compare(*results, 1e-9)


# ---------------------------------------------------------------------------------------------------------------- pad


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("shape", "amounts"),
    [
        ((2, 5), (1, 2)), ((1, 2, 5), (3, 0)), ((2, 4, 5), (1, 2, 3, 1)), ((1, 2, 4, 5), (0, 0, 2, 1)),
        ((1, 2, 4, 5), (-1, 2, 1, -2)), ((1, 2, 3, 4, 5), (1, 1, 1, 1, 2, 1)), ((2, 3, 4, 5), (1, 1, 0, 2, 1, 0)),
    ],
)  # fmt: skip
def test_pad(mode, shape, amounts):
    results = []
    for fw in (tritium, torch):
        x = fw.arange(np.prod(shape), dtype=fw.float64).reshape(shape).requires_grad_()
        y = fw.nn.functional.pad(x, amounts, mode)
        weights = fw.from_numpy(np.cos(np.arange(y.numel())).reshape(y.shape))
        (grad,) = fw.autograd.grad((y * y * weights).sum(), x, create_graph=True)
        (second,) = fw.autograd.grad((grad * grad).sum(), x)
        results.append([y.detach().numpy(), grad.detach().numpy(), second.numpy(), type(y.grad_fn).__name__])
    for a, b in zip(results[0][:3], results[1][:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert results[0][3] == results[1][3]


def test_pad_values_and_dtypes():
    for fw in (tritium, torch):
        pad = fw.nn.functional.pad
        assert pad(fw.arange(4), (1, 1), value=2.5).tolist() == [2, 0, 1, 2, 3, 2]
        assert pad(fw.tensor([True, False]), (0, 1)).tolist() == [True, False, False]
        assert pad(fw.arange(4)[None], (1, 1), "reflect").tolist() == [[1, 0, 1, 2, 3, 2]]
        assert pad(fw.empty(0, 2), (1, 1)).shape == (0, 4)
        assert pad(fw.ones(2), (-1, -1)).shape == (0,)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_pad_keeps_channels_last(mode):
    strides = []
    for fw in (tritium, torch):
        x = fw.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=fw.channels_last)
        y = fw.nn.functional.pad(x, (1, 2, 3, 0), mode)
        strides.append((y.stride(), y.tolist()))
    assert strides[0] == strides[1]


PAD_ERRORS = """F.pad(x, (1,))
F.pad(x, (1, 1, 1, 1, 1, 1))
F.pad(x, (-3, -3))
F.pad(x, (1, 1), mode="foo")
F.pad(x, (5, 1), mode="reflect")
F.pad(x, (1, 1, 1, 1), mode="reflect")
F.pad(c, (4, 1, 1, 1), mode="reflect")
F.pad(c, (1, 1, 4, 4), mode="reflect")
F.pad(c, (1, 1), mode="replicate")
F.pad(c, (5, 1, 1, 1), mode="circular")
F.pad(c, (-5, 0, 0, 0), mode="circular")
F.pad(x, (1, 1), mode="reflect", value=1.0)
F.one_hot(fw.tensor([0, 3]), num_classes=2)
F.one_hot(fw.tensor([0.0]))
F.one_hot(fw.tensor([-1]))
F.dropout(x, p=1.5)
F.embedding(fw.tensor([10]), x)
F.embedding(fw.tensor([1]), x, padding_idx=7)
nn.Linear(5, 3)(fw.ones(2, 4))
nn.BatchNorm2d(3)(fw.ones(2, 3))
nn.BatchNorm1d(3)(fw.ones(2))
nn.BatchNorm1d(3)(fw.ones(1, 3))
nn.BatchNorm2d(3)(fw.ones(2, 4, 2, 2))
nn.InstanceNorm2d(3)(fw.ones(3))
nn.InstanceNorm2d(3, affine=True)(fw.ones(2, 4, 2, 2))
nn.Conv2d(3, 4, 3)(fw.ones(2, 4, 5, 5))
nn.Conv2d(3, 4, 3, padding="same", stride=2)
nn.Conv2d(3, 4, 3, groups=2)
nn.Conv2d(4, 3, 3, groups=2)
nn.Conv2d(4, 3, 3, groups=0)
nn.ConvTranspose2d(2, 3, 2, padding_mode="reflect")
nn.ConvTranspose2d(2, 3, 2, stride=2)(fw.ones(1, 2, 3, 3), output_size=(9,))
nn.Dropout(2)
nn.Embedding(3, 2, padding_idx=5)
nn.GroupNorm(2, 3)
nn.Flatten(1, 5)(x)
nn.Unflatten(1, 5)
nn.Unflatten(1, ("a",))
nn.Hardtanh(2, 1)
nn.Softmax2d()(x)
nn.GLU()(x)
nn.TripletMarginLoss(margin=0)
nn.Sequential(nn.ReLU())[3]
nn.Sequential(nn.ReLU()) * 0
nn.Sequential(nn.ReLU()) * 1.5
nn.Sequential(nn.ReLU()) + [1]
nn.Sequential(nn.ReLU()).insert(5, nn.ReLU())
nn.ModuleList([nn.ReLU()])[1]
nn.ModuleList().extend(3)
nn.ModuleList([3])
nn.ModuleDict(3)
nn.ModuleDict([1])
nn.ModuleDict([(1, 2, 3)])
nn.ParameterList().extend(fw.ones(2))
nn.ParameterList()(1)
nn.ParameterDict()(1)
nn.ParameterDict({1: fw.ones(1)})""".splitlines()


@pytest.mark.parametrize("code", PAD_ERRORS)
def test_errors(code):
    texts = []
    for fw in (tritium, torch):
        names = {"fw": fw, "F": fw.nn.functional, "nn": fw.nn, "x": fw.ones(4, 5), "c": fw.ones(2, 3, 4, 4)}
        with pytest.raises(Exception) as info:  # noqa: B017, PT011
            eval(code, names)
        texts.append((info.type, str(info.value).replace("tritium.", "torch.")))
    assert texts[0] == texts[1]


# ---------------------------------------------------------------------------------------------------- other functions


@pytest.mark.parametrize("by_frequency", [False, True])
@pytest.mark.parametrize("padding", [None, 2, -1])
@pytest.mark.parametrize("indices", [[1, 2, 2, 0], [[1, 1], [4, 2]], 3, [[], []]])
def test_embedding(indices, padding, by_frequency):
    results = []
    for fw in (tritium, torch):
        weight = fw.from_numpy(np.random.default_rng(0).normal(size=(5, 3))).requires_grad_()
        index = fw.tensor(indices, dtype=fw.int64)
        out = fw.nn.functional.embedding(index, weight, padding_idx=padding, scale_grad_by_freq=by_frequency)
        weights = fw.from_numpy(np.cos(np.arange(out.numel())).reshape(out.shape))
        (out * weights).sum().backward()
        results.append((out.detach().numpy(), weight.grad.numpy(), type(out.grad_fn).__name__))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-14)
    assert results[0][2] == results[1][2]


def test_embedding_max_norm_and_from_pretrained():
    results = []
    for fw in (tritium, torch):
        table = fw.arange(12, dtype=fw.float32).reshape(4, 3)
        layer = fw.nn.Embedding.from_pretrained(table, max_norm=2.0)
        assert not layer.weight.requires_grad
        layer(fw.tensor([1, 3, 3]))
        results.append(layer.weight.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("F.normalize(a)", 1), ("F.normalize(a, p=1, dim=0)", 1), ("F.normalize(a * 0)", 1),
        ("F.cosine_similarity(a, b)", 2), ("F.cosine_similarity(a, b, dim=0)", 2), ("F.cosine_similarity(a, b[:1])", 2),
        ("F.pairwise_distance(a, b)", 2), ("F.pairwise_distance(a, b, p=1, keepdim=True)", 2),
    ],
)  # fmt: skip
def test_distances(code, count):
    results = []
    for fw in (tritium, torch):
        a = fw.from_numpy(np.random.default_rng(0).normal(size=(4, 3))).requires_grad_()
        b = fw.from_numpy(np.random.default_rng(1).normal(size=(4, 3))).requires_grad_()
        out = eval(code, {"F": fw.nn.functional, "a": a, "b": b})
        out.sum().backward()
        results.append([out.detach().numpy(), *[t.grad.numpy() for t in (a, b)[:count]]])
    for x, y in zip(*results, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


def test_one_hot():
    for indices, classes in itertools.product(([0, 2, 1], [[1, 0]]), (-1, 5)):
        ours, theirs = (fw.nn.functional.one_hot(fw.tensor(indices), classes) for fw in (tritium, torch))
        assert ours.tolist() == theirs.tolist() and ours.dtype is tritium.int64


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d", "AlphaDropout"])
@pytest.mark.cpu_only(reason="PyTorch's CPU numbers")
def test_dropout(name):
    results = []
    for fw in (tritium, torch):
        fw.manual_seed(4)
        layer = getattr(fw.nn, name)(0.4)
        x = fw.ones(3, 4, 5).requires_grad_() if name == "Dropout1d" else fw.ones(3, 4, 5, 2).requires_grad_()
        y = layer(x)
        y.sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy()))
        assert layer.eval()(x) is x
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_clipping_and_vectors():
    results = []
    for fw in (tritium, torch):
        net = build(fw, "nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))", "float64")
        utils = fw.nn.utils
        (net(fw.ones(5, 3, dtype=fw.float64)) ** 2).sum().backward()
        found = [utils.clip_grad_norm_(net.parameters(), 1.5).item()]
        found += [p.grad.numpy().copy() for p in net.parameters()]
        found.append(utils.clip_grad_norm_(net.parameters(), 0.5, norm_type=float("inf")).item())
        found.append(utils.get_total_norm([p.grad for p in net.parameters()]).item())
        utils.clip_grad_value_(net.parameters(), 0.1)
        found += [p.grad.numpy().copy() for p in net.parameters()]
        found.append(utils.clip_grad_norm_([], 1.0).item())
        vector = utils.parameters_to_vector(net.parameters())
        utils.vector_to_parameters(vector.detach() * 2, net.parameters())
        found += [vector.detach().numpy(), *[p.detach().numpy() for p in net.parameters()]]
        results.append(found)
        net[0].weight.grad[0, 0] = float("nan")
        with pytest.raises(
            RuntimeError, match="The total norm of order 2.0 for gradients from `parameters` is non-finite"
        ):
            utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
