"""Pooling of volumes, power pooling and unpooling against PyTorch: values, indices, node names, gradients of two orders,
layouts, errors."""

import pytest

pytest.importorskip("torch")

SETUP = """
F = torch.nn.functional
def data(*shape, dtype="float64", seed=0, step=None):
    a = np.random.default_rng(seed).standard_normal(shape)
    a = a if step is None else np.round(a / step) * step
    return torch.from_numpy(np.asarray(a, np.float64)).to(getattr(torch, dtype))
def grads(y, x):
    '''The output, the gradient, and the gradient of the sum of its squares by the incoming gradient.'''
    dy = data(*y.shape, dtype=str(y.dtype).rpartition(".")[2], seed=9).requires_grad_()
    first, = torch.autograd.grad(y, x, dy, create_graph=True)
    second, = torch.autograd.grad((first * first).sum(), dy, retain_graph=True)
    return [y, first.detach(), second]
def both(f, x):
    '''The same, the gradient taken without a graph, and the second derivative.'''
    y = f(x)
    found = grads(y, x)
    dy = data(*y.shape, dtype=str(y.dtype).rpartition(".")[2], seed=9)
    plain, = torch.autograd.grad(f(x), x, dy)
    first, = torch.autograd.grad(f(x), x, dy, create_graph=True)
    return [*found, plain, *torch.autograd.grad((first * first).sum(), x)]
"""
WINDOWS = ["2", "3, 2, 1", "(3, 2, 1), (1, 3, 2), (1, 0, 0)", "3, 3", "1, 2", "(2, 3, 2), (4, 5, 1), 1"]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("window", [*WINDOWS, "(2, 1, 3), 2, (1, 0, 1), (1, 3, 2)"])
def test_max_pool3d(same, window, ceil_mode):
    same(f"""
x = data(2, 3, 5, 6, 7, step=0.5).requires_grad_()
y, i = F.max_pool3d(x, {window}, ceil_mode={ceil_mode}, return_indices=True)
[i, *grads(F.max_pool3d(x, {window}, ceil_mode={ceil_mode}), x), grads(y, x)[1]]
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("options", ["", ", count_include_pad=False", ", divisor_override=3",
                                     ", ceil_mode=True, count_include_pad=False"])  # fmt: skip
@pytest.mark.parametrize("window", WINDOWS)
def test_avg_pool3d(same, window, options):
    same(f"""
x = data(2, 3, 5, 6, 7).requires_grad_()
grads(F.avg_pool3d(x, {window}{options}), x)
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("size", ["1", "(1, 1, 1)", "2", "(3, 5, 2)", "(5, 6, 7)", "(6, 7, 9)", "(None, 2, 1)"])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive(same, kind, size):
    same(f"""
x = data(2, 3, 5, 6, 7, step=0.5).requires_grad_()
grads(F.adaptive_{kind}_pool3d(x, {size}), x)
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("p", [1, 2, 3.0, 2.5])
@pytest.mark.parametrize("window", ["2", "3, 2", "2, 1", "3, 2, True"])
def test_lp_pool(same, window, p):
    same(f"""
x = data(2, 3, 7, 6).abs().requires_grad_()
v = data(2, 3, 5, 6, 7).abs().requires_grad_()
[both(lambda x: F.lp_pool2d(x, {p}, {window}), x), both(lambda x: F.lp_pool3d(x, {p}, {window}), v)]
""", SETUP, skip=["node"], tolerance=1e-9)  # fmt: skip
    same(f"""
x = data(2, 3, 9).abs().requires_grad_()
both(lambda x: F.lp_pool1d(x, {p}, {window}), x)
""", SETUP, skip=["node"], tolerance=1e-9)  # fmt: skip


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, -1, "float('inf')", "-float('inf')"])
def test_lp_pool_of_special_values(same, p):
    """Zeros, nan, inf, negative numbers."""
    same(f"""
n, i = float("nan"), float("inf")
x = torch.tensor([0., 0, 1, 2, n, 1, i, 2, -1, 2, -3, -4, 0, 2]).reshape(1, 1, 1, -1).requires_grad_()
y = F.lp_pool2d(x, {p}, (1, 2))
[y.detach(), *torch.autograd.grad(y.sum(), x), F.lp_pool1d(x[0].detach(), {p}, 2)]
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("layout", ["x", "x.transpose(2, 4)", "x[:, 1:, ::2]", "x[:1].expand(2, -1, -1, -1, -1)",
                                    "x.contiguous(memory_format=torch.channels_last_3d)"])  # fmt: skip
@pytest.mark.parametrize("op", ["max_pool3d(v, 3, 2, 1)", "max_pool3d(v, 2, dilation=2)", "avg_pool3d(v, 3, 2, 1)",
                                "adaptive_avg_pool3d(v, 2)", "adaptive_max_pool3d(v, 2)", "lp_pool3d(v.abs(), 2, 2)",
                                "lp_pool2d(v[:, :, 0].abs(), 2, 2)"])  # fmt: skip
def test_layouts(same, op, layout):
    same(f"""
x = data(2, 4, 6, 5, 7).requires_grad_()
v = {layout}
y = F.{op}
[y.shape, y.detach().contiguous(), *grads(y, x)[1:]]
""", SETUP, skip=["strides"], tolerance=1e-9)  # fmt: skip


def test_nodes_and_strides(same):
    same("""
x = data(2, 4, 8, 8, 4).requires_grad_()
ys = [F.max_pool3d(x, 2), F.avg_pool3d(x, 2), F.adaptive_avg_pool3d(x, 2), F.adaptive_max_pool3d(x, 2)]
c = x.detach().contiguous(memory_format=torch.channels_last_3d)
d = x.detach()[..., 0].contiguous(memory_format=torch.channels_last)
[[y, type(torch.autograd.grad((y * y).sum(), x, create_graph=True)[0].grad_fn).__name__] for y in ys] + [
 F.lp_pool3d(x, 2, 2), F.lp_pool2d(x[..., 0], 2, 2), F.adaptive_avg_pool3d(x, 1), F.max_pool3d(c, 2), F.avg_pool3d(c, 2),
 F.adaptive_max_pool3d(c, 2)]
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("code", [
    "F.max_pool3d(x.masked_fill(x > 1, float('nan')), 3, 2, 1, return_indices=True)",
    "F.max_pool3d(torch.full((1, 1, 4, 4, 4), float('-inf')), 3, 2, 1, return_indices=True)",
    "F.adaptive_max_pool3d(x.masked_fill(x > 1, float('nan')), (2, 3, 2), return_indices=True)",
    "F.max_pool3d(x.mul(9).to(torch.int32), 2, return_indices=True)", "F.max_pool3d(x.mul(9).to(torch.int64), 3, 2, 1)",
    "F.max_pool3d(x[0], 2, return_indices=True)", "F.avg_pool3d(x[0], 2)", "F.adaptive_avg_pool3d(x[0], 2)",
    "F.adaptive_avg_pool3d(x[0], 1)", "F.adaptive_max_pool3d(x[0], 2, return_indices=True)",
    "F.max_pool3d(x[:0], 2)", "F.avg_pool3d(x[:0], 2)", "F.adaptive_avg_pool3d(x[:0], 2)", "F.lp_pool3d(x[:0], 2, 2)",
    "F.avg_pool3d(x.mul(9).to(torch.int64), 2)", "F.max_pool3d(x, [2], stride=[])", "F.max_pool3d(x, (3,))",
    "F.max_pool3d(x.to(torch.bfloat16), 3, 2, 1)",
    "F.adaptive_avg_pool3d(x.to(torch.bfloat16), 2)", "F.adaptive_max_pool3d(x.to(torch.bfloat16), 2)",
    "F.lp_pool2d(x[0].abs().to(torch.float16), 2, 2)", "F.lp_pool1d(x[0, 0], 2, 2)", "F.lp_pool2d(x[0, 0], 2, 3, 1)",
    "F.lp_pool3d(x[0], 2, (1, 2, 3), (2, 1, 1))", "torch.max_pool3d(x, 2)",
])  # fmt: skip
def test_more(same, code):
    same(code, SETUP + "\nx = data(2, 3, 5, 6, 7)", skip=["strides"] if "[0]" in code else [])


@pytest.mark.parametrize("code", [
    "y, i = F.max_pool2d(x[:, :, 0], 2, return_indices=True)\ny.requires_grad_()\n"
    "[*grads(F.max_unpool2d(y, i, 2, output_size=(6, 7)), y), F.max_unpool2d(y[0], i[0], 2, output_size=(6, 7))]",
    "y, i = F.max_pool2d(x[:, :, 0], 3, 2, 1, return_indices=True)\ny.requires_grad_()\n"
    "grads(F.max_unpool2d(y, i, 3, 2, 1, output_size=(6, 7)), y)",
    "y, i = F.max_pool2d(x[:, :, 0], 3, 1, 1, return_indices=True)\n"
    "F.max_unpool2d(y + torch.arange(y.numel()).reshape(y.shape), i, 3, 1, 1)",
    "y, i = F.max_pool1d(x[0, 0], 2, return_indices=True)\ny.requires_grad_()\n"
    "[*grads(F.max_unpool1d(y, i, 2), y), F.max_unpool1d(y, i, 2, output_size=(6, 7)), F.max_unpool1d(y[None], i[None], 2)]",
    "y, i = F.max_pool3d(x, 2, 2, return_indices=True)\ny.requires_grad_()\n"
    "[*grads(F.max_unpool3d(y, i, 2, output_size=x.shape), y), F.max_unpool3d(y[1], i[1], 2, output_size=(5, 6, 7))]",
    "y, i = F.max_pool2d(x[:, :, 0].contiguous(memory_format=torch.channels_last), 2, return_indices=True)\n"
    "F.max_unpool2d(y, i, 2, output_size=(6, 7)).contiguous()",
    "F.max_unpool2d(x[0].half(), torch.zeros(3, 5, 6, 7).long(), 1).shape",
])  # fmt: skip
def test_unpool(same, code):
    same(code, SETUP + "\nx = data(2, 3, 5, 6, 7)", skip=["node"] if "1d" in code else [])


ERRORS = """F.max_pool3d(X, 0); F.max_pool3d(X, 2, 0); F.max_pool3d(X, 2, 2, 2); F.max_pool3d(X, 9)
F.max_pool3d(X, (2, 3)); F.max_pool3d(X, 2, -1); F.max_pool3d(X, 2, 2, -1); F.max_pool3d(X, 2, 2, 0, 0)
F.max_pool3d(X[0, 0], 2); F.max_pool3d(X[:, :0], 2); F.max_pool3d(X.bool(), 2); F.max_pool3d('a', 2)
F.avg_pool3d(X, 2, 2, 2); F.avg_pool3d(X, 9); F.avg_pool3d(X, 2, divisor_override=0); F.avg_pool3d(X, 0)
F.avg_pool3d(X, 2, 0); F.avg_pool3d(X, 2, 2, -1); F.avg_pool3d(X, (1, 2)); F.avg_pool3d(X[0, 0], 2)
F.avg_pool3d(X[:, :0], 2); F.avg_pool3d(X.int(), 2); F.adaptive_avg_pool3d(X, (1, 2)); F.adaptive_avg_pool3d(X, -1)
F.adaptive_avg_pool3d(X[0, 0], 2); F.adaptive_avg_pool3d(X[:, :, :0], 2); F.adaptive_avg_pool3d(X.long(), 2)
F.adaptive_max_pool3d(X, (1, 2)); F.adaptive_max_pool3d(X, -1); F.adaptive_max_pool3d(X[0, 0], 2)
F.adaptive_max_pool3d(X[:, :, :0], 2); F.adaptive_max_pool3d(X.long(), 2); F.lp_pool2d(X[0], 0, 2)
F.lp_pool2d(X[0], 2, 0); F.lp_pool1d(X, 2, 2); F.lp_pool3d(X, 2, 9)
F.max_unpool2d(X[0], X[0], 2); F.max_unpool2d(X[0], I[0, :2], 2); F.max_unpool2d(X[0], I[0] - 5, 2)
F.max_unpool2d(X[0], I[0] + 500, 2); F.max_unpool2d(X[0], I[0], 2, output_size=(3, 3))
F.max_unpool2d(X[0], I[0], 2, output_size=(3, 3, 3)); F.max_unpool2d(X[0, 0, 0], I[0, 0, 0], 2)
F.max_unpool1d(X[0, 0], I[0, 0] + 500, 2); F.max_unpool3d(X, X, 2); F.max_unpool3d(X, I[:1], 2)
F.max_unpool3d(X, I + 50000, 2); F.max_unpool3d(X[0, 0], I[0, 0], 2); F.max_unpool3d(X, I, 2, 0)
F.max_unpool2d(I[0], I[0], 2); F.max_unpool2d(X[0, :, :0], I[0, :, :0], 2)"""


@pytest.mark.parametrize("code", [c.strip() for c in ERRORS.replace("\n", ";").split(";")])
def test_errors(same, code):
    same(code, SETUP + "\nX = data(2, 3, 6, 7, 8)\nI = torch.zeros(2, 3, 6, 7, 8).long()")


@pytest.mark.parametrize("layer", [
    "MaxPool3d(2, return_indices=True)", "MaxPool3d(3, 2, 1, ceil_mode=True)", "AvgPool3d(2)",
    "AvgPool3d(3, 2, 1, True, False)",
    "LPPool1d(2, 3)", "LPPool2d(2, (2, 3), 1)", "LPPool3d(1.5, 2, ceil_mode=True)", "AdaptiveAvgPool3d(2)",
    "AdaptiveMaxPool3d((1, 2, None), return_indices=True)", "MaxUnpool1d(2)", "MaxUnpool2d((2, 1), 2, 1)",
    "MaxUnpool3d(2, (1, 2, 3))",
])  # fmt: skip
def test_modules(same, layer):
    dims = {"1": "[0, 0]", "2": "[0]", "3": ""}[layer.split("d(")[0][-1]]
    call = "" if "Unpool" in layer else f", layer(data(2, 3, 5, 6, 7).abs(){dims})"
    same(f"layer = torch.nn.{layer}\n[repr(layer){call}]", SETUP, skip=["strides"])
