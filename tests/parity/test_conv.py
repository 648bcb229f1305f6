"""Convolutions against PyTorch: values, strides, node names, gradients of two orders, errors."""

import pytest

pytest.importorskip("torch")

SETUP = """
F = torch.nn.functional
def data(*shape, dtype="float64", seed=0):
    a = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(np.asarray(a, np.float64)).to(getattr(torch, dtype))
def grads(y, *leaves):
    '''The output, the gradients, and the gradients of their squares.'''
    weights = data(*y.shape, dtype=str(y.dtype).rpartition(".")[2], seed=9)
    first = torch.autograd.grad((y * weights).sum(), leaves, create_graph=True)
    total = sum((g * g).sum() for g in first if g.grad_fn is not None)
    second = torch.autograd.grad(total, leaves, allow_unused=True)
    return [y.detach(), type(y.grad_fn).__name__, [g.detach() for g in first], list(second)]
"""

# batch, C, H, W, O, kernel, options
SHAPES = [
    (2, 3, 9, 8, 4, (3, 3), ""),
    (2, 4, 8, 8, 6, (3, 3), "padding=1"),
    (1, 4, 9, 7, 6, (3, 3), "stride=2, padding=1"),
    (2, 4, 8, 9, 6, (1, 1), ""),
    (2, 4, 8, 9, 6, (1, 1), "stride=2"),
    (2, 3, 17, 15, 4, (7, 7), "stride=2, padding=3"),
    (2, 4, 9, 10, 6, (3, 2), "stride=(2, 3), padding=(2, 1), dilation=(2, 1)"),
    (2, 4, 12, 12, 6, (3, 3), "stride=(2, 4), padding=3, dilation=(2, 2)"),
    (2, 6, 8, 8, 9, (3, 3), "padding=1, groups=3"),
    (2, 6, 8, 8, 6, (3, 3), "padding=1, groups=6"),
    (2, 6, 9, 8, 12, (3, 3), "stride=2, padding=1, groups=6"),
    (2, 4, 8, 8, 6, (3, 2), "padding='same'"),
    (2, 4, 8, 8, 6, (3, 3), "padding='same', dilation=2"),
    (2, 4, 8, 8, 6, (3, 3), "padding='valid'"),
    (2, 4, 7, 7, 6, (2, 2), "stride=3"),
    (3, 2, 20, 20, 5, (5, 5), "padding=2"),
    (1, 1, 5, 5, 1, (5, 5), ""),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", SHAPES, ids=lambda c: "-".join(map(str, c)).replace(" ", ""))
def test_conv2d(same, case, dtype):
    n, c, h, w, o, kernel, options = case
    groups = int(options.split("groups=")[1]) if "groups" in options else 1
    same(f"""
x = data({n}, {c}, {h}, {w}, dtype="{dtype}").requires_grad_()
w = data({o}, {c // groups}, *{kernel}, dtype="{dtype}", seed=1).requires_grad_()
b = data({o}, dtype="{dtype}", seed=2).requires_grad_()
grads(F.conv2d(x, w, b, {options}), x, w, b)
""", SETUP, skip=["strides"],
         tolerance=1e-9 if dtype == "float64" else 5e-3)  # fmt: skip


@pytest.mark.parametrize("layout", [
    "x.transpose(2, 3)", "x[:, ::2]", "x[:, :, 1:-1, ::2]", "x.contiguous(memory_format=torch.channels_last)",
    "x[:1].expand(3, -1, -1, -1)", "x.flip(3)",
    "x.contiguous(memory_format=torch.channels_last)[:, :, 1:]"])  # fmt: skip
@pytest.mark.parametrize(
    "kernel,options", [((3, 3), "padding=1"), ((1, 1), ""), ((3, 3), "stride=2"), ((1, 1), "stride=2")]
)
def test_layouts(same, layout, kernel, options):
    same(f"""
x = data(2, 4, 9, 8).requires_grad_()
v = {layout}
w = data(6, v.shape[1], *{kernel}, seed=1).requires_grad_()
y = F.conv2d(v, w, None, {options})
[y.shape, *grads(y, x, w)[2:]]
""", SETUP, skip=["strides"])  # fmt: skip


def test_nodes(same):
    same(
        """
x = data(2, 4, 8, 8).requires_grad_()
w = data(6, 4, 3, 3).requires_grad_()
y = F.conv2d(x, w, data(6).requires_grad_(), 2, 1)
dx, dw = torch.autograd.grad(y.sum(), (x, w), create_graph=True)
[y, type(dx.grad_fn).__name__, type(dw.grad_fn).__name__, len(y.grad_fn.next_functions)]
""",
        SETUP,
    )


@pytest.mark.parametrize("n", [1, 2])
def test_channels_last_output(same, n):
    same(f"""
x = data({n}, 4, 8, 8).contiguous(memory_format=torch.channels_last)
w = data(6, 4, 3, 3)
y = F.conv2d(x, w)
z = F.conv2d(data({n}, 4, 8, 8), w.contiguous(memory_format=torch.channels_last))
[y, y.is_contiguous(), y.is_contiguous(memory_format=torch.channels_last), F.relu(y), z]
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("code", [
    "F.conv2d(data(4, 8, 8), data(6, 4, 3, 3))",
    "F.conv2d(data(4, 8, 8), data(6, 4, 3, 3).requires_grad_(), padding=1)",
    "F.conv2d(data(0, 4, 8, 8), data(6, 4, 3, 3))",
    "torch.autograd.grad(F.conv2d(data(0, 4, 8, 8), w := data(6, 4, 3, 3).requires_grad_(), data(6)).sum(), w)[0]",
    "F.conv2d(data(2, 4, 8, 8), data(6, 4, 3, 3), stride=(2,), padding=[1, 0])",
    "torch.conv2d(data(2, 4, 8, 8), data(6, 4, 3, 3), data(6), 2, 1)",
    "F.conv1d(data(2, 4, 9), data(6, 4, 3), data(6))",
    "F.conv1d(data(4, 9), data(6, 4, 3), stride=2, padding=1)",
    "F.conv1d(data(2, 4, 9), data(6, 2, 3), padding='same', groups=2, dilation=2)",
    "grads(F.conv1d(x := data(2, 4, 9).requires_grad_(), w := data(6, 4, 3, seed=3).requires_grad_(), None, 2, 1), "
    "x, w)",
    "grads(F.conv_transpose2d(x := data(2, 4, 5, 6).requires_grad_(), w := data(4, 3, 3, 3, seed=3).requires_grad_(), "
    "b := data(3).requires_grad_(), 2, 1, 1), x, w, b)",
    "F.conv_transpose2d(data(2, 4, 5, 6), data(4, 3, 3, 2, seed=3), stride=(1, 2), groups=2, dilation=(2, 1))",
    "F.conv_transpose2d(data(4, 5, 6), data(4, 3, 3, 3), padding=1)",
    "grads(F.conv_transpose2d(x := data(2, 4, 5, 6).requires_grad_(), w := data(4, 3, 3, 2, seed=3).requires_grad_(), "
    "b := data(3).requires_grad_(), 1, 1, (2, 1), 1, 3), x, w, b)",
    "grads(F.conv_transpose1d(x := data(2, 4, 9).requires_grad_(), w := data(4, 3, 3, seed=3).requires_grad_(), None, "
    "2), x, w)",
    "F.conv2d(data(2, 4, 8, 8).to(torch.int64), torch.ones(6, 4, 3, 3, dtype=torch.int64))",
    "F.conv2d(data(2, 4, 8, 8).mul(9).to(torch.int32), data(6, 4, 3, 3).mul(9).to(torch.int32))",
    "F.conv2d(data(2, 4, 8, 8).to(torch.bfloat16), data(6, 4, 3, 3).to(torch.bfloat16))",
    "F.conv2d(data(2, 4, 8, 8).to(torch.float16), data(6, 4, 3, 3).to(torch.float16))",
    "F.conv2d(torch.full((1, 8, 12, 12), float('inf')), torch.ones(4, 8, 3, 3))",
])  # fmt: skip
def test_more(same, code):
    same(code, SETUP, skip=["strides"] if "grads" in code else [])


ERRORS = """F.conv2d(X[0, 0], W); F.conv2d(X, W[0]); F.conv2d(X, data(6, 3, 3, 3))
F.conv2d(X[0], data(6, 3, 3, 3)); F.conv2d(X, W, data(5)); F.conv2d(X, W, data(6, 1)); F.conv2d(X, data(6, 4, 9, 9))
F.conv2d(X, data(6, 4, 9, 9), padding=1, dilation=2); F.conv2d(X.float(), W); F.conv2d(X, W.float())
F.conv2d(X, W, b.float()); F.conv2d(X[:1].float(), W); F.conv2d(X.long(), W); F.conv2d(X.half(), W)
F.conv2d(X, W, stride=0); F.conv2d(X, W, stride=-1); F.conv2d(X, W, padding=-1)
F.conv2d(X.float(), W.float(), dilation=0); F.conv2d(X, W, groups=0); F.conv2d(X, W, groups=4)
F.conv2d(X, data(5, 2, 3, 3), groups=2); F.conv2d(X, W, padding='same', stride=2); F.conv2d(X, W, padding='foo')
F.conv2d(X, W, stride=(1, 2, 3)); F.conv2d(X, W, padding=(1, 2, 3)); F.conv2d(X, W, dilation=(1, 2, 3))
F.conv2d(data(2, 4, 0, 8), W, padding=1); F.conv2d(X, data(0, 4, 3, 3)); F.conv2d('a', W); F.conv2d(X, 'a')
F.conv2d(X, W, 2); F.conv2d(X, W, stride=2.5); F.conv1d(X, data(6, 4, 3)); F.conv1d(X[..., 0], data(6, 3, 3))
F.conv1d(X[..., 0], data(6, 4, 9)); F.conv_transpose2d(X, data(5, 6, 3, 3))
F.conv_transpose2d(X, data(4, 6, 3, 3), stride=2, output_padding=2); F.conv2d(X.bool(), W.bool())
F.conv_transpose2d(X, data(4, 6, 3, 3), padding=9); F.conv_transpose1d(X[0].double(), data(8, 6, 3), padding=9)
F.conv_transpose2d(X, data(4, 6, 3, 3), data(4)); F.conv_transpose2d(X.bool(), data(4, 6, 3, 3).bool())"""


@pytest.mark.parametrize("code", [c.strip() for c in ERRORS.replace("\n", ";").split(";")])
def test_errors(same, code):
    same(code, SETUP + "\nX = data(2, 4, 8, 8); W = data(6, 4, 3, 3); b = data(6)")
