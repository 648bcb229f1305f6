"""Pooling against PyTorch: values, indices, strides, node names, gradients of two orders, errors."""

import pytest

pytest.importorskip("torch")

SETUP = """
F = torch.nn.functional
def data(*shape, dtype="float64", seed=0, step=None):
    a = np.random.default_rng(seed).standard_normal(shape)
    a = a if step is None else np.round(a / step) * step
    return torch.from_numpy(np.asarray(a, np.float64)).to(getattr(torch, dtype))
def grads(y, x):
    '''The output, the gradient, and the gradient with respect to the incoming gradient and x of its square.'''
    dy = data(*y.shape, dtype=str(y.dtype).rpartition(".")[2], seed=9).requires_grad_()
    first, = torch.autograd.grad(y, x, dy, create_graph=True)
    second, = torch.autograd.grad((first * first).sum(), dy)
    return [y, first.detach(), second]
"""
WINDOWS = ["2", "3, 2, 1", "(3, 2), (1, 3), (1, 0)", "3, 3", "1, 2", "5, 1, 2", "(2, 3), (4, 5), 1", "4, 3, 2"]
LAYOUTS = ["x", "x.transpose(2, 3)", "x.contiguous(memory_format=torch.channels_last)", "x[:, 1:, ::2]",
           "x[:1].expand(2, -1, -1, -1)", "F.conv2d(x, data(3, x.shape[1], 1, 1))"]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_max_pool2d(same, window, ceil_mode, dtype):
    same(f"""
x = data(2, 3, 9, 11, dtype="{dtype}", step=0.5).requires_grad_()
y, i = F.max_pool2d(x, {window}, ceil_mode={ceil_mode}, return_indices=True)
[i, *grads(F.max_pool2d(x, {window}, ceil_mode={ceil_mode}), x), grads(y, x)[1]]
""", SETUP)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        "",
        ", count_include_pad=False",
        ", divisor_override=3",
        ", ceil_mode=True",
        ", ceil_mode=True, count_include_pad=False",
    ],
)
@pytest.mark.parametrize("window", WINDOWS)
def test_avg_pool2d(same, window, options):
    same(f"""
x = data(2, 3, 9, 11).requires_grad_()
grads(F.avg_pool2d(x, {window}{options}), x)
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("size", ["1", "(1, 1)", "2", "(3, 5)", "7", "(9, 11)", "(12, 13)", "(None, 2)", "(1, 3)"])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive(same, kind, size):
    same(
        f"""
x = data(2, 3, 9, 11, step=0.5).requires_grad_()
grads(F.adaptive_{kind}_pool2d(x, {size}), x)
""",
        SETUP,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "op",
    [
        "max_pool2d(v, 3, 2, 1)",
        "max_pool2d(v, 2, dilation=2)",
        "avg_pool2d(v, 3, 2, 1)",
        "adaptive_avg_pool2d(v, 2)",
        "adaptive_avg_pool2d(v, 1)",
        "adaptive_max_pool2d(v, 2)",
    ],
)
def test_layouts(same, op, layout):
    same(f"""
x = data(2, 4, 9, 10).requires_grad_()
v = {layout}
y = F.{op}
[y.shape, y.detach().contiguous(), *grads(y, x)[1:]]
""", SETUP, skip=["strides"])  # fmt: skip


def test_nodes(same):
    same(
        """
x = data(2, 4, 8, 8).requires_grad_()
ys = [F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 2), F.adaptive_max_pool2d(x, 2)]
ys.append(F.adaptive_avg_pool2d(x, 1))
[[y, type(torch.autograd.grad((y * y).sum(), x, create_graph=True)[0].grad_fn).__name__] for y in ys[:-1]] + [ys[-1]]
""",
        SETUP,
    )


def test_channels_last_output(same):
    same(
        """
x = data(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
[F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 2)]
""",
        SETUP,
    )


@pytest.mark.parametrize("code", [
    "F.max_pool2d(x.masked_fill(x > 1, float('nan')), 3, 2, 1, return_indices=True)",
    "F.max_pool2d(torch.full((1, 1, 4, 4), float('-inf')), 3, 2, 1, return_indices=True)",
    "F.adaptive_max_pool2d(x.masked_fill(x > 1, float('nan')), (2, 3), return_indices=True)",
    "F.max_pool2d(x.mul(9).to(torch.int32), 2, return_indices=True)", "F.max_pool2d(x.mul(9).to(torch.uint8), 3, 2, 1)",
    "F.max_pool2d(x[0], 2, return_indices=True)", "F.avg_pool2d(x[0], 2)", "F.adaptive_avg_pool2d(x[0], 2)",
    "F.adaptive_avg_pool2d(x[0], 1)", "F.adaptive_max_pool2d(x[0], 2, return_indices=True)",
    "F.max_pool2d(x[:0], 2)", "F.avg_pool2d(x[:0], 2)", "F.adaptive_avg_pool2d(x[:0], 2)",
    "F.adaptive_avg_pool2d(x, 0)",
    "F.avg_pool2d(x.mul(9).to(torch.int64), 2)", "F.max_pool2d(x, [2], stride=[])", "F.max_pool2d(x, (3,))",
    "F.max_pool2d(x.to(torch.bfloat16), 3, 2, 1)", "F.avg_pool2d(x.to(torch.float16), 3)",
    "F.adaptive_avg_pool2d(x.to(torch.bfloat16), 2)",
    "F.max_pool1d(x[0], 2)", "F.max_pool1d(x[0], 3, 2, 1, return_indices=True)", "F.max_pool1d(x[0, 0], 2)",
    "F.avg_pool1d(x[0], 2)", "F.avg_pool1d(x[0], 3, 2, 1, count_include_pad=False)", "F.adaptive_avg_pool1d(x[0], 3)",
    "F.adaptive_avg_pool1d(x[0], 1)", "F.adaptive_max_pool1d(x[0], 3)",
    "grads(F.max_pool1d(v := x[0].requires_grad_(), 3, 2, 1), v)",
    "grads(F.avg_pool1d(v := x[0].requires_grad_(), 3, 2, 1), v)",
    "grads(F.adaptive_avg_pool1d(v := x[0].requires_grad_(), 3), v)[1:]",
])  # fmt: skip
def test_more(same, code):
    same(code, SETUP + "\nx = data(2, 3, 8, 9)", skip=["strides"] if "[0]" in code else [])


ERRORS = """F.max_pool2d(X, 0); F.max_pool2d(X, 2, 0); F.max_pool2d(X, 2, 2, 2); F.max_pool2d(X, 9)
F.max_pool2d(X, (2, 3, 4)); F.max_pool2d(X, 2, -1); F.max_pool2d(X, 2, 2, -1); F.max_pool2d(X, 2, 2, 0, 0)
F.max_pool2d(X[0, 0], 2); F.max_pool2d(X[:, :0], 2); F.max_pool2d(X[0, :, :0], 2); F.avg_pool2d(X[:, :0], 2)
F.avg_pool2d(X, 2, 2, 2); F.avg_pool2d(X, 9); F.avg_pool2d(X, 2, divisor_override=0); F.avg_pool2d(X, 0)
F.avg_pool2d(X, 2, 2, -1); F.avg_pool2d(X, (1, 2, 3)); F.adaptive_avg_pool2d(X, (1, 2, 3))
F.adaptive_avg_pool2d(X, -1); F.adaptive_avg_pool2d(X[:, :, :0], 2); F.adaptive_max_pool2d(X[:, :, :0], 1)
F.adaptive_max_pool2d(X[0, 0], 1); F.max_pool1d(X[0, 0, 0], 2); F.max_pool1d(X, 2); F.avg_pool1d(X[0, 0, 0], 2)
F.avg_pool1d(X, 2); F.adaptive_avg_pool1d(X[0, 0, 0], 1); F.max_pool1d(X[0], 9); F.max_pool1d(X[0], 2, 2, 2)
F.max_pool1d(X[0], 0); F.max_pool1d(X[0], 2, 0); F.avg_pool1d(X[0], 9); F.adaptive_avg_pool1d(X[0], (1, 2))
F.max_pool2d('a', 2); F.max_pool2d(X, 2.5); F.max_pool2d(X.bool(), 2); F.avg_pool2d(X.int(), 2)
F.adaptive_avg_pool2d(X.long(), 2); F.adaptive_max_pool2d(X.long(), 2)"""


@pytest.mark.parametrize("code", [c.strip() for c in ERRORS.replace("\n", ";").split(";")])
def test_errors(same, code):
    same(code, SETUP + "\nX = data(2, 4, 8, 8)")
