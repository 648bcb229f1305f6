"""Normalization against PyTorch: values, running statistics, gradients of two orders, node names, errors."""

import pytest

pytest.importorskip("torch")

SETUP = """
F = torch.nn.functional
def data(*shape, dtype="float64", seed=0):
    a = np.random.default_rng(seed).standard_normal(shape) + 0.5
    return torch.from_numpy(np.asarray(a, np.float64)).to(getattr(torch, dtype))
def grads(y, *leaves):
    '''The output, the gradients, and the gradients of their squares.'''
    dy = data(*y.shape, dtype=str(y.dtype).rpartition(".")[2], seed=9).requires_grad_()
    first = torch.autograd.grad(y, leaves, dy, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), (dy, *leaves), allow_unused=True)
    return [y, [g.detach() for g in first], list(second)]
"""
TOLERANCE = {"float64": 1e-9, "float32": 3e-4}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", ["6, 3", "4, 3, 5", "2, 3, 5, 4", "2, 3, 2, 3, 2", "1, 3, 2, 2"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(same, shape, training, affine, dtype):
    same(f"""
d = "{dtype}"
x = data({shape}, dtype=d).requires_grad_()
w, b = data(3, dtype=d, seed=1).requires_grad_(), data(3, dtype=d, seed=2).requires_grad_()
mean, var = data(3, dtype=d, seed=3), data(3, dtype=d, seed=4).abs()
y = F.batch_norm(x, mean, var, {"w, b" if affine else "None, None"}, {training}, 0.3, 1e-3)
[mean.clone(), var.clone(), mean._version > 0, grads(y, {"x, w, b" if affine else "x"})]
""", SETUP, tolerance=TOLERANCE[dtype])  # fmt: skip


@pytest.mark.parametrize("layout", ["x.transpose(2, 3)", "x[:, 1:]", "x.contiguous(memory_format=torch.channels_last)",
                                    "x[:1].expand(3, -1, -1, -1)", "F.conv2d(x, data(4, 4, 3, 3))"])  # fmt: skip
@pytest.mark.parametrize("training", [True, False])
def test_layouts(same, layout, training):
    same(f"""
x = data(2, 4, 6, 5).requires_grad_()
v = {layout}
C = v.shape[1]
w = data(C, seed=1).requires_grad_()
y = F.batch_norm(v, data(C), data(C).abs(), w, None, {training})
grads(y, x, w)
""", SETUP, skip=["strides"], tolerance=1e-8)  # fmt: skip


def test_strides_and_nodes(same):
    same(
        """
x = data(2, 4, 6, 5).requires_grad_()
c = x.contiguous(memory_format=torch.channels_last)
[F.batch_norm(x, None, None, training=True), F.batch_norm(c, None, None, training=True), F.layer_norm(x, (5,)),
 F.group_norm(x, 2), F.instance_norm(x), F.batch_norm(x.relu(), data(4), data(4).abs())]
""",
        SETUP,
    )


def test_far_mean(same):
    """A mean far from zero must not eat the variance."""
    same("F.batch_norm(data(64, 3, 7, 7, dtype='float32') + 1000, None, None, training=True)", SETUP, tolerance=2e-3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "code",
    [
        "grads(F.layer_norm(x, (5,)), x)",
        "grads(F.layer_norm(x, (6, 5), w, b), x, w, b)",
        "grads(F.layer_norm(x, [4, 6, 5]), x)",
        "grads(F.layer_norm(x.transpose(1, 3), (4,)), x)",
        "grads(F.group_norm(x, 2), x)",
        "grads(F.group_norm(x, 2, c, e), x, c, e)",
        "grads(F.group_norm(x, 4, c), x, c)",
        "grads(F.group_norm(x[:, :, 0, 0], 2, c, e), x, c, e)",
        "grads(F.instance_norm(x, None, None, c, e), x, c, e)",
        "grads(F.rms_norm(x, (5,)), x)",
        "grads(F.rms_norm(x, (6, 5), w, 1e-3), x, w)",
        "grads(F.rms_norm(x.transpose(1, 3), (4,), c), x, c)",
        "grads(F.instance_norm(x[:, :, 0]), x)",
        "grads(F.instance_norm(x.permute(0, 3, 1, 2), eps=1e-3), x)",
        "grads(F.instance_norm(x, None, None, c), x, c)",
        "m, v = data(4, dtype=d), data(4, dtype=d).abs(); grads(F.instance_norm(x, m, v, c, e, False), x, c, e)",
        "m, v = data(4, dtype=d), data(4, dtype=d).abs(); [F.instance_norm(x, m, v, c, e), m.clone(), v.clone()]",
        "F.instance_norm(x, data(4, dtype=d), data(4, dtype=d).abs(), c, e, False)",
    ],
)
def test_others(same, code, dtype):
    code = "\n".join(part.strip() for part in code.split(";"))
    same(code, SETUP + f"""
d = "{dtype}"
x = data(3, 4, 6, 5, dtype=d).requires_grad_()
w, b = data(6, 5, dtype=d, seed=1).requires_grad_(), data(6, 5, dtype=d, seed=2).requires_grad_()
c, e = data(4, dtype=d, seed=1).requires_grad_(), data(4, dtype=d, seed=2).requires_grad_()
""", tolerance=TOLERANCE[dtype], skip=["strides", "node"])  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "F.batch_norm(X.half(), mean.float(), var.float())",
        "F.batch_norm(X.bfloat16(), mean.float(), var.float(), training=True)",
        "F.batch_norm(X[:0], mean, var)",
        "F.batch_norm(X[:0], mean, var, training=True)",
        "F.layer_norm(X.bfloat16(), (8,))",
        "F.group_norm(X.bfloat16(), 2)",
        "F.layer_norm(X[:0], (8,))",
        "F.group_norm(X[:0], 2)",
        "F.instance_norm(X[:0])",
        "F.instance_norm(X.bfloat16(), weight=mean.float())",
        "F.rms_norm(X[:0], (8,))",
        "F.rms_norm(X[..., :0], (0,))",
        "F.rms_norm(X.bfloat16() / 1000, (8,))",
        "F.rms_norm(X.half() / 1000, (8, 8), data(8, 8).half())",
        "F.rms_norm(X.bfloat16(), (8,), data(8).float(), 1e-6)",
        "F.rms_norm(X.float(), (8,), data(8), 1e-6).dtype",
        "[F.rms_norm(X.float() * 1e-5, (8,)), F.rms_norm(X * 1e-9, (8,))]",
    ],
)
def test_more(same, code):
    same(code, SETUP + "\nX = data(2, 4, 8, 8); mean = data(4); var = data(4).abs()")


ERRORS = """F.batch_norm(X, None, None); F.batch_norm(X, m[:3], m); F.batch_norm(X, m, m[:3])
F.batch_norm(X, m, m, m[:3]); F.batch_norm(X, m, m, m, m[:3]); F.batch_norm(X[:1, :, 0, 0], m, m, training=True)
F.batch_norm(X[:1, :, :1, :1], None, None, training=True); F.batch_norm(m, m, m); F.batch_norm(X, m, None)
F.batch_norm(X, m.float(), m.float()); F.batch_norm(X.float(), m.float(), m.float(), m.half())
F.batch_norm(X.long(), m, m); F.layer_norm(X, (4, 8)); F.layer_norm(X, (8, 8), data(8, 8), data(8))
F.layer_norm(X, ()); F.layer_norm(X, 8); F.layer_norm(X, (8,), data(7)); F.group_norm(X, 3)
F.group_norm(X, 2, m[:3]); F.group_norm(m, 2); F.instance_norm(X[:, :, :1, :1]); F.group_norm(X[:1, :2, :1, :1], 2)
F.layer_norm(X.long(), (8,)); F.group_norm(X.long(), 2); F.batch_norm('a', m, m); F.rms_norm(X.long(), (8,))
F.rms_norm(X, (7, 8)); F.rms_norm(X, (8,), data(7)); F.rms_norm(X, 8); F.rms_norm(X, ()); F.instance_norm(X.long())
F.instance_norm(X, weight=m[:3]); F.instance_norm(X, m[:3], m)"""


@pytest.mark.parametrize("code", [c.strip() for c in ERRORS.replace("\n", ";").split(";")])
def test_errors(same, code):
    same(code, SETUP + "\nX = data(2, 4, 8, 8); m = data(4).abs()")
