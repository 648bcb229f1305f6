"""3-D convolutions and their layers against PyTorch: values, strides, node names, gradients of two orders, errors."""

import pytest

pytest.importorskip("torch")

SETUP = """
F = torch.nn.functional
LAST = torch.channels_last_3d
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

# batch, C, D, H, W, O, kernel, options
SHAPES = [
    (2, 3, 5, 6, 7, 4, (3, 3, 3), ""),
    (2, 4, 4, 5, 5, 6, (3, 3, 3), "padding=1"),
    (1, 4, 5, 6, 7, 6, (3, 3, 3), "stride=2, padding=1"),
    (2, 4, 4, 3, 5, 6, (1, 1, 1), ""),
    (2, 4, 4, 3, 5, 6, (1, 1, 1), "stride=(1, 2, 2)"),
    (2, 3, 4, 9, 8, 4, (3, 5, 5), "stride=(1, 2, 2), padding=(1, 2, 2)"),
    (2, 4, 6, 5, 6, 6, (2, 3, 1), "stride=(1, 2, 3), padding=(0, 2, 1), dilation=(3, 2, 1)"),
    (2, 6, 4, 4, 4, 9, (3, 3, 3), "padding=1, groups=3"),
    (2, 6, 4, 4, 4, 6, (3, 3, 3), "padding=1, groups=6"),
    (2, 6, 4, 5, 4, 12, (3, 3, 3), "stride=2, padding=1, groups=6"),
    (2, 4, 4, 5, 4, 6, (3, 2, 1), "padding='same'"),
    (2, 4, 5, 5, 5, 6, (3, 3, 3), "padding='same', dilation=2"),
    (2, 4, 5, 4, 5, 6, (3, 3, 3), "padding='valid'"),
    (2, 4, 5, 5, 5, 6, (2, 2, 2), "stride=3"),
    (2, 4, 6, 4, 4, 6, (3, 1, 1), "padding=(1, 0, 0)"),
    (1, 1, 3, 3, 3, 1, (3, 3, 3), ""),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", SHAPES, ids=lambda c: "-".join(map(str, c)).replace(" ", ""))
def test_conv3d(same, case, dtype):
    n, c, d, h, w, o, kernel, options = case
    groups = int(options.split("groups=")[1]) if "groups" in options else 1
    same(f"""
x = data({n}, {c}, {d}, {h}, {w}, dtype="{dtype}").requires_grad_()
w = data({o}, {c // groups}, *{kernel}, dtype="{dtype}", seed=1).requires_grad_()
b = data({o}, dtype="{dtype}", seed=2).requires_grad_()
grads(F.conv3d(x, w, b, {options}), x, w, b)
""", SETUP, skip=["strides"],
         tolerance=1e-9 if dtype == "float64" else 5e-3)  # fmt: skip


@pytest.mark.parametrize("options", [
    "", "2, 1, 1", "(1, 2, 3), (0, 1, 2), (0, 1, 2)", "2, 0, 1, 2", "1, 1, 0, 1, 2", "(2, 1, 1), 2, 1, 1, 2", "3"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_conv_transpose3d(same, options, dtype):
    groups = 2 if options == "2, 0, 1, 2" else 1
    same(f"""
x = data(2, 4, 3, 4, 4, dtype="{dtype}").requires_grad_()
w = data(4, {6 // groups}, 3, 2, 3, dtype="{dtype}", seed=1).requires_grad_()
b = data(6, dtype="{dtype}", seed=2).requires_grad_()
grads(F.conv_transpose3d(x, w, b, {options}), x, w, b)
""", SETUP, skip=["strides"],
         tolerance=1e-9 if dtype == "float64" else 5e-3)  # fmt: skip


@pytest.mark.parametrize("layout", [
    "x.transpose(2, 4)", "x[:, ::2]", "x[:, :, 1:-1, ::2]", "x.contiguous(memory_format=LAST)",
    "x[:1].expand(3, -1, -1, -1, -1)", "x.flip(2)", "x.contiguous(memory_format=LAST)[:, :, 1:]"])  # fmt: skip
@pytest.mark.parametrize("kernel,options", [((3, 2, 3), "padding=1"), ((1, 1, 1), ""), ((1, 1, 1), "stride=2")])
def test_layouts(same, layout, kernel, options):
    same(f"""
x = data(2, 4, 5, 4, 6).requires_grad_()
v = {layout}
w = data(6, v.shape[1], *{kernel}, seed=1).requires_grad_()
y = F.conv3d(v, w, None, {options})
[y.shape, *grads(y, x, w)[2:]]
""", SETUP, skip=["strides"])  # fmt: skip


def test_nodes(same):
    same("""
x = data(2, 4, 5, 5, 5).requires_grad_()
w = data(6, 4, 3, 3, 3).requires_grad_()
y = F.conv3d(x, w, data(6).requires_grad_(), 2, 1)
dx, dw = torch.autograd.grad(y.sum(), (x, w), create_graph=True)
[y, type(dx.grad_fn).__name__, type(dw.grad_fn).__name__, len(y.grad_fn.next_functions)]
""", SETUP)  # fmt: skip


def test_channels_last_output(same):
    same("""
x = data(2, 4, 4, 5, 5, dtype="float32").contiguous(memory_format=LAST)
w = data(6, 4, 3, 3, 3, dtype="float32")
y = F.conv3d(x, w)
z = F.conv3d(data(2, 4, 4, 5, 5, dtype="float32"), w.contiguous(memory_format=LAST))
t = F.conv_transpose3d(x, data(4, 6, 2, 2, 2, dtype="float32"))
plain = F.conv3d(data(2, 4, 4, 5, 5), w.double())
[x, y, y.is_contiguous(), y.is_contiguous(memory_format=LAST), F.relu(y), z, t, plain.contiguous(memory_format=LAST),
 plain.to(memory_format=LAST), plain.contiguous(), plain.clone(memory_format=LAST), torch.empty_like(y).stride(),
 F.pad(y, (1, 1, 1, 1, 1, 1)), y.float(), y + y, torch.cat([y, y], 1), F.conv3d(data(2, 4, 4, 5, 5), w.double()),
 torch.nn.Conv3d(4, 6, 3).to(memory_format=LAST).weight.is_contiguous(memory_format=LAST)]
""", SETUP, tolerance=1e-4)  # fmt: skip


@pytest.mark.parametrize("code", [
    "F.conv3d(data(4, 5, 6, 5), data(6, 4, 3, 3, 3))",
    "F.conv3d(data(4, 5, 5, 5), data(6, 4, 3, 3, 3).requires_grad_(), padding=1)",
    "F.conv3d(data(0, 4, 5, 5, 5), data(6, 4, 3, 3, 3))",
    "torch.autograd.grad(F.conv3d(data(0, 4, 5, 5, 5), w := data(6, 4, 3, 3, 3).requires_grad_(), data(6)).sum(), w)[0]",
    "F.conv3d(data(2, 4, 5, 5, 5), data(6, 4, 3, 3, 3), stride=(2,), padding=[1, 0, 2])",
    "torch.conv3d(data(2, 4, 5, 5, 5), data(6, 4, 3, 3, 3), data(6), 2, 1)",
    "torch.conv_transpose3d(data(2, 4, 3, 3, 3), data(4, 6, 3, 3, 3), data(6), 2, 1)",
    "F.conv_transpose3d(data(4, 3, 4, 5), data(4, 3, 3, 3, 3), padding=1)",
    "F.conv3d(data(2, 4, 4, 4, 4).to(torch.int64), torch.ones(6, 4, 3, 3, 3, dtype=torch.int64))",
    "F.conv3d(data(2, 4, 4, 4, 4).to(torch.bfloat16), data(6, 4, 3, 3, 3).to(torch.bfloat16))",
    "F.conv3d(data(2, 4, 4, 4, 4).to(torch.float16), data(6, 4, 3, 3, 3).to(torch.float16))",
    "F.conv3d(torch.full((1, 8, 5, 5, 5), float('inf')), torch.ones(4, 8, 3, 3, 3))",
])  # fmt: skip
def test_more(same, code):
    same(code, SETUP, skip=["strides"])


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("padding", ["1", "(0, 1, 2)", "'same'"])
def test_layer(same, mode, padding):
    same(f"""
m = torch.nn.Conv3d(4, 6, (3, 2, 3), padding={padding}, padding_mode="{mode}", dtype=torch.float64)
with torch.no_grad():
    m.weight.copy_(data(6, 4, 3, 2, 3)), m.bias.copy_(data(6, seed=1))
x = data(2, 4, 4, 5, 5).requires_grad_()
[repr(m), *grads(m(x), x, m.weight, m.bias), list(m.state_dict())]
""", SETUP, skip=["strides"], tolerance=1e-8)  # fmt: skip


def test_transposed_layer(same):
    same("""
m = torch.nn.ConvTranspose3d(4, 6, 3, stride=2, padding=1, output_padding=(1, 0, 1), groups=2, dtype=torch.float64)
with torch.no_grad():
    m.weight.copy_(data(4, 3, 3, 3, 3)), m.bias.copy_(data(6, seed=1))
x = data(2, 4, 3, 4, 4).requires_grad_()
[repr(m), *grads(m(x), x, m.weight, m.bias), m(x, output_size=(6, 8, 7)).shape, m.weight.shape]
""", SETUP, skip=["strides"], tolerance=1e-8)  # fmt: skip


@pytest.mark.parametrize("code", [
    "torch.nn.ConvTranspose3d(4, 6, 3, stride=2)(data(2, 4, 3, 3, 3).float(), output_size=(9, 9, 9))",
    "torch.nn.ConvTranspose3d(4, 6, 3, padding_mode='reflect')",
    "torch.nn.Conv3d(4, 6, 3, padding='same', stride=2)",
    "torch.nn.Conv3d(4, 6, 3, groups=3)",
])  # fmt: skip
def test_layer_errors(same, code):
    same(code, SETUP)


@pytest.mark.parametrize("dims", ["", ".contiguous(memory_format=LAST)"])
@pytest.mark.parametrize("norm", ["BatchNorm3d(4)", "InstanceNorm3d(4, affine=True)"])
def test_norms(same, norm, dims):
    same(f"""
m = torch.nn.{norm}.double()
x = data(2, 4, 3, 4, 5){dims}.requires_grad_()
y = m(x)
found = [y, *grads(y, x, m.weight, m.bias)[1:], list(m.state_dict().values())]
m.eval()
[*found, m(x), m(F.conv3d(x, data(4, 4, 3, 3, 3), padding=1))]
""", SETUP, skip=["strides"], tolerance=1e-8)  # fmt: skip


ERRORS = """F.conv3d(X[0, 0], W); F.conv3d(X, W[0]); F.conv3d(X, data(6, 3, 3, 3, 3))
F.conv3d(X[0], data(6, 3, 3, 3, 3)); F.conv3d(X, W, data(5)); F.conv3d(X, data(6, 4, 9, 9, 9))
F.conv3d(X, data(6, 4, 4, 4, 4), padding=1, dilation=3); F.conv3d(X.float(), W); F.conv3d(X, W.float())
F.conv3d(X, W, b.float()); F.conv3d(X.long(), W); F.conv3d(X.half(), W)
F.conv3d(X, W, stride=0); F.conv3d(X, W, padding=-1)
F.conv3d(X.float(), W.float(), dilation=0); F.conv3d(X, W, groups=0); F.conv3d(X, W, groups=4)
F.conv3d(X, data(5, 2, 3, 3, 3), groups=2); F.conv3d(X, W, padding='same', stride=2); F.conv3d(X, W, padding='foo')
F.conv3d(X, W, stride=(1, 2)); F.conv3d(X, W, padding=(1, 2)); F.conv3d(X, W, dilation=(1, 2, 3, 4))
F.conv3d(data(2, 4, 0, 5, 5), W, padding=1); F.conv3d(X, data(0, 4, 3, 3, 3)); F.conv3d('a', W); F.conv3d(X, 'a')
F.conv3d(X, W, 2); F.conv3d(X, W, stride=2.5); F.conv2d(X, W[..., 0]); F.conv3d(X[..., 0], W)
F.conv_transpose3d(X, data(5, 6, 3, 3, 3)); F.conv_transpose3d(X, data(4, 6, 3, 3, 3), groups=3)
F.conv_transpose3d(X, data(4, 6, 3, 3, 3), stride=2, output_padding=2)
F.conv_transpose3d(X, data(4, 6, 3, 3, 3), stride=2, output_padding=(0, 1)); F.conv3d(X.bool(), W.bool())
F.conv_transpose3d(X.bool(), data(4, 6, 3, 3, 3).bool())
F.conv_transpose3d(X, data(4, 6, 3, 3, 3), padding=9); F.conv_transpose3d(X, data(4, 6, 3, 3, 3), data(4))"""


@pytest.mark.parametrize("code", [c.strip() for c in ERRORS.replace("\n", ";").split(";")])
def test_errors(same, code):
    same(code, SETUP + "\nX = data(2, 4, 5, 5, 5); W = data(6, 4, 3, 3, 3); b = data(6)")
