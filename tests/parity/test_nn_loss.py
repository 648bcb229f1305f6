"""Losses against PyTorch: values, gradients of input and target, second derivatives, node names, errors, warnings."""

import itertools

import numpy as np
import pytest

import tritium
import tritium.nn.functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
REDUCTIONS = ["none", "mean", "sum"]
TOLERANCE = {"float64": 1e-11, "float32": 5e-6}


def normal(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def uniform(*shape, seed=1, dtype="float64"):
    return np.random.default_rng(seed).uniform(0.05, 0.95, size=shape).astype(dtype)


def run(fw, name, arrays, grads, **kwargs):
    """Value, gradients and second derivatives; `arrays` are floats or ints, `grads` says which require grad."""
    functional = F if fw is tritium else TF
    kwargs = {k: fw.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    tensors = [fw.from_numpy(np.array(a)) for a in arrays]
    leaves = [t.requires_grad_() for t, wanted in zip(tensors, grads, strict=True) if wanted]
    out = getattr(functional, name)(*tensors, **kwargs)
    weights = fw.from_numpy(np.cos(np.arange(out.numel())).reshape(out.shape).astype(str(out.dtype).split(".")[1]))
    first = fw.autograd.grad((out * weights).sum(), leaves, create_graph=True)
    total = sum((g * g).sum() for g in first if g.grad_fn is not None)
    second = (
        fw.autograd.grad(total, leaves, allow_unused=True) if not isinstance(total, int) else [None] * len(leaves)
    )
    plain = fw.autograd.grad((getattr(functional, name)(*tensors, **kwargs) * weights).sum(), leaves)
    values = [out.detach().numpy(), *[g.detach().numpy() for g in first], *[g.numpy() for g in plain]]
    return values + [None if g is None else g.numpy(force=True) for g in second], type(out.grad_fn).__name__


def same(name, arrays, grads, tolerance=1e-11, node=True, **kwargs):
    ours, our_node = run(tritium, name, arrays, grads, **kwargs)
    theirs, their_node = run(torch, name, arrays, grads, **kwargs)
    for a, b in zip(ours, theirs, strict=True):
        if a is not None and b is not None:
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance * 10, atol=tolerance)
    if node:
        assert our_node == their_node


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.3}),
        ("smooth_l1_loss", {"beta": 0.0}), ("huber_loss", {"delta": 0.7}),
    ],
)  # fmt: skip
def test_regression(name, kwargs, reduction, dtype):
    arrays = (normal(4, 5, dtype=dtype), normal(4, 5, seed=3, dtype=dtype))
    for grads in ((True, True), (True, False), (False, True)):
        same(name, arrays, grads, TOLERANCE[dtype], reduction=reduction, **kwargs)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3, 4)])
def test_regression_shapes(shape):
    arrays = (np.asarray(normal(*shape)), np.asarray(normal(*shape, seed=5)))
    for name, reduction in itertools.product(("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"), REDUCTIONS):
        if 0 not in shape:
            same(name, arrays, (True, True), reduction=reduction)
        else:
            for fw, functional in ((tritium, F), (torch, TF)):
                x = fw.zeros(shape, requires_grad=True)
                value = getattr(functional, name)(x, fw.zeros(shape), reduction=reduction)
                value.sum().backward()
                assert x.grad.shape == shape
                assert np.isnan(value.item()) if reduction == "mean" else value.sum().item() == 0


def test_broadcast_warns_and_works():
    for fw, functional in ((tritium, F), (torch, TF)):
        x = fw.from_numpy(normal(4, 5)).requires_grad_()
        with pytest.warns(UserWarning, match="Using a target size .* that is different to the input size"):
            loss = functional.mse_loss(x, fw.from_numpy(normal(5, seed=2)))
        loss.backward()
        assert x.grad.shape == (4, 5)
        np.testing.assert_allclose(loss.item(), ((normal(4, 5) - normal(5, seed=2)) ** 2).mean())


def test_mixed_dtypes_and_weight():
    same("mse_loss", (normal(4, 5, dtype="float32"), normal(4, 5, seed=3)), (True, True), 1e-6)
    for name, reduction in itertools.product(("mse_loss", "l1_loss", "huber_loss"), REDUCTIONS):
        same(name, (normal(4, 5), normal(4, 5, seed=3)), (True, True), reduction=reduction, weight=uniform(4, 5))


def test_expanded_and_transposed_operands():
    results = []
    for fw, functional in ((tritium, F), (torch, TF)):
        x = fw.from_numpy(normal(5, 4)).requires_grad_()
        t = fw.from_numpy(normal(4, 1, seed=3)).requires_grad_()
        functional.mse_loss(x.t(), t.expand(4, 5), reduction="sum").backward()
        results.append((x.grad.numpy(), t.grad.numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, (5,), (4, 5), (4, 1)])
def test_binary_cross_entropy(reduction, weight, dtype):
    w = None if weight is None else uniform(*weight, seed=9, dtype=dtype)
    arrays = (uniform(4, 5, dtype=dtype), uniform(4, 5, seed=2, dtype=dtype))
    for grads in ((True, False), (True, True)):
        same("binary_cross_entropy", arrays, grads, TOLERANCE[dtype] * 20, reduction=reduction, weight=w)


def test_binary_cross_entropy_at_the_ends():
    x = np.array([0.0, 1.0, 0.0, 1.0, 0.5])
    t = np.array([0.0, 1.0, 1.0, 0.0, 0.5])
    for fw, functional in ((tritium, F), (torch, TF)):
        leaf = fw.from_numpy(x.copy()).requires_grad_()
        loss = functional.binary_cross_entropy(leaf, fw.from_numpy(t), reduction="none")
        loss.sum().backward()
        np.testing.assert_allclose(loss.detach().numpy(), [0, 0, 100, 100, np.log(2)])
        np.testing.assert_allclose(leaf.grad.numpy(), [0, 0, -1e12, 1e12, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, (4, 5), (5,)])
@pytest.mark.parametrize("positive", [None, (5,)])
def test_binary_cross_entropy_with_logits(reduction, weight, positive, dtype):
    kwargs = {
        "weight": None if weight is None else uniform(*weight, seed=9, dtype=dtype),
        "pos_weight": None if positive is None else uniform(*positive, seed=8, dtype=dtype) * 3,
        "reduction": reduction,
    }
    arrays = (normal(4, 5, dtype=dtype) * 3, uniform(4, 5, seed=2, dtype=dtype))
    for grads in ((True, False), (True, True)):
        same("binary_cross_entropy_with_logits", arrays, grads, TOLERANCE[dtype] * 5, **kwargs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_signs_and_counts(reduction):
    """Losses of targets 1 and -1, and of counts."""
    x, sign, count = normal(4, 5), np.sign(normal(4, 5, seed=3)), np.floor(uniform(4, 5) * 4)
    options = {"reduction": reduction}
    same("soft_margin_loss", (x, sign), (True, False), **options)
    for margin in (1.0, 0.3):
        same("hinge_embedding_loss", (x, sign), (True, False), margin=margin, **options)
    for full in (False, True):
        grads = (True, not full)  # PyTorch's gradient of a count of 0 is nan
        same("poisson_nll_loss", (x, count), grads, full=full, **options)
        same("poisson_nll_loss", (uniform(4, 5), count), grads, 1e-10, full=full, log_input=False, **options)
        same("poisson_nll_loss", (x, count + 2), (True, True), full=full, **options)
        for shape in ((4, 5), (4, 1), (4,)):
            same("gaussian_nll_loss", (x, normal(4, 5, seed=5), uniform(*shape)), (True,) * 3, full=full, eps=0.3,
                 node=False, **options)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits",
                                  "kl_div", "soft_margin_loss", "poisson_nll_loss", "hinge_embedding_loss"])
@pytest.mark.filterwarnings("ignore:reduction")
def test_low_precision(name, dtype):
    for reduction in REDUCTIONS:
        values = []
        for fw, functional in ((tritium, F), (torch, TF)):
            x = fw.from_numpy(normal(4, 5)).to(getattr(fw, dtype)).requires_grad_()
            loss = getattr(functional, name)(x, fw.from_numpy(uniform(4, 5)).to(x.dtype), reduction=reduction)
            loss.sum().backward()
            assert loss.dtype is x.dtype and x.grad.dtype is x.dtype
            values.append([a.detach().float().cpu().numpy() for a in (loss, x.grad)])
        for a, b in zip(*values, strict=True):
            np.testing.assert_allclose(a, b, rtol=3e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore:reduction")
def test_divergence_of_shapes_that_broadcast():
    for reduction in ("none", "sum", "mean", "batchmean"):
        for a, b in (((4, 5), (5,)), ((5,), (3, 5)), ((4, 1), (4, 5)), ((), (3,)), ((2, 3, 4), (1, 3, 1))):
            same("kl_div", (np.asarray(normal(*a)), np.asarray(uniform(*b))), (True, True), reduction=reduction)


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.filterwarnings("ignore:reduction")
def test_kl_div(reduction, log_target):
    target = normal(4, 5, seed=4) if log_target else uniform(4, 5)
    same("kl_div", (normal(4, 5), target), (True, True), reduction=reduction, log_target=log_target)
    target[0, 0] = 0.0
    same("kl_div", (normal(4, 5), target), (True, False), reduction=reduction, log_target=log_target)


# ------------------------------------------------------------------------------------------------- nll, cross entropy

SHAPES = [((5,), ()), ((4, 5), (4,)), ((3, 5, 2), (3, 2)), ((2, 5, 3, 2), (2, 3, 2)),
          ((2, 5, 3, 1, 2), (2, 3, 1, 2))]  # fmt: skip


def targets(shape, classes=5, seed=6):
    return np.asarray(np.random.default_rng(seed).integers(0, classes, shape))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore", [-100, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "target"), SHAPES)
def test_nll_and_cross_entropy(shape, target, weighted, ignore, reduction, dtype):
    kwargs = {"reduction": reduction, "ignore_index": ignore, "weight": uniform(5, dtype=dtype) if weighted else None}
    arrays = (normal(*shape, dtype=dtype), targets(target))
    same("nll_loss", arrays, (True, False), TOLERANCE[dtype], **kwargs)
    same("cross_entropy", arrays, (True, False), TOLERANCE[dtype], **kwargs)
    same("cross_entropy", arrays, (True, False), TOLERANCE[dtype], label_smoothing=0.2, node=False, **kwargs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 5, 3)])
def test_cross_entropy_of_probabilities(shape, smoothing, weighted, reduction):
    kwargs = {"reduction": reduction, "label_smoothing": smoothing, "weight": uniform(5) if weighted else None}
    arrays = (normal(*shape), uniform(*shape, seed=2))
    same("cross_entropy", arrays, (True, False), node=False, **kwargs)
    same("cross_entropy", arrays, (True, True), node=False, **kwargs)


def test_node_names_of_a_classifier():
    for fw, functional in ((tritium, F), (torch, TF)):
        loss = functional.cross_entropy(fw.ones(2, 3, requires_grad=True), fw.tensor([0, 2]))
        assert type(loss.grad_fn).__name__ == "NllLossBackward0"
        assert type(loss.grad_fn.next_functions[0][0]).__name__ == "LogSoftmaxBackward0"
        assert "grad_fn=<NllLossBackward0>" in repr(loss)


def test_all_ignored_and_empty():
    for fw, functional in ((tritium, F), (torch, TF)):
        x = fw.ones(3, 4, requires_grad=True)
        ignored = fw.full((3,), -100)
        assert np.isnan(functional.nll_loss(x, ignored).item())
        assert functional.nll_loss(x, ignored, reduction="none").tolist() == [0, 0, 0]
        assert functional.cross_entropy(x, ignored, reduction="sum").item() == 0
        assert np.isnan(functional.cross_entropy(x, ignored, label_smoothing=0.1).item())
        none = fw.empty(0, 4)
        assert np.isnan(functional.cross_entropy(none, fw.empty(0).long()).item())
        assert functional.cross_entropy(none, fw.empty(0).long(), reduction="sum").item() == 0


def test_low_precision_and_byte_targets():
    for dtype in ("float16", "bfloat16"):
        values = []
        for fw, functional in ((tritium, F), (torch, TF)):
            x = fw.from_numpy(normal(4, 5)).to(getattr(fw, dtype)).requires_grad_()
            loss = functional.cross_entropy(x, fw.tensor([0, 1, 2, 3]))
            loss.backward()
            assert loss.dtype is x.dtype and x.grad.dtype is x.dtype
            values.append((loss.item(), x.grad.float().numpy()))
        np.testing.assert_allclose(values[0][0], values[1][0], rtol=2e-2)
        np.testing.assert_allclose(values[0][1], values[1][1], rtol=2e-2, atol=2e-3)
    x = normal(4, 5)
    byte = F.nll_loss(tritium.from_numpy(x), tritium.tensor([0, 1, 2, 3], dtype=tritium.uint8))
    assert byte.item() == F.nll_loss(tritium.from_numpy(x), tritium.tensor([0, 1, 2, 3])).item()


ERRORS = """F.nll_loss(x, fw.tensor([0, 1, 2, 10]))
F.nll_loss(x, fw.tensor([0, 1, 2, -1]))
F.nll_loss(x, fw.tensor([0, 1, 2]))
F.nll_loss(x, fw.tensor([0.0, 1, 2, 3]))
F.nll_loss(x, fw.tensor([0, 1, 2, 3]).int())
F.nll_loss(x, fw.tensor([[0, 1, 2, 3]]))
F.nll_loss(x[0], fw.tensor([0, 1]))
F.nll_loss(fw.tensor(1.0), fw.tensor(0))
F.nll_loss(x, t, weight=fw.ones(3))
F.nll_loss(x, t, weight=fw.ones(5).double())
F.nll_loss(x, t, weight=fw.ones(5, 1))
F.nll_loss(x, t, reduction='foo')
F.nll_loss(c, fw.zeros(2, 4, 3).long())
F.nll_loss(c, fw.zeros(3, 4, 4).long())
F.nll_loss(c, fw.zeros(2, 4).long())
F.nll_loss(c, fw.zeros(2, 4, 4))
F.nll_loss(c, fw.full((2, 4, 4), 7))
F.nll_loss(c[..., 0], fw.zeros(2, 3).long())
F.nll_loss(c[..., 0], fw.zeros(2, 4, 1).long())
F.nll_loss(x.long(), t)
F.nll_loss(c, fw.zeros(2, 4, 4).long(), weight=fw.ones(4))
F.cross_entropy(x, fw.tensor([0, 1, 2, 10]))
F.cross_entropy(x, fw.tensor([0, 1, 2]))
F.cross_entropy(x, fw.tensor([0.0, 1, 2, 3]))
F.cross_entropy(x, fw.tensor([[0, 1, 2, 3]]))
F.cross_entropy(x, p.long())
F.cross_entropy(x, p[:2])
F.cross_entropy(x, p, ignore_index=1)
F.cross_entropy(x, t, label_smoothing=1.5)
F.cross_entropy(x, t, weight=fw.ones(4))
F.cross_entropy(x, p, weight=fw.ones(4))
F.cross_entropy(fw.tensor(1.0), fw.tensor(0))
F.cross_entropy(x, t, reduction='foo')
F.mse_loss(x, p[:2])
F.mse_loss(t, t)
F.mse_loss(x, p, reduction='foo')
F.mse_loss(x, p, weight=p[0])
F.smooth_l1_loss(x, p, beta=-1)
F.smooth_l1_loss(t, t)
F.huber_loss(x, p, delta=0)
F.huber_loss(t, t)
F.binary_cross_entropy(p, p + 1)
F.binary_cross_entropy(p, p[0])
F.binary_cross_entropy(p, t[:, None].expand(4, 5))
F.binary_cross_entropy(p, p.double())
F.binary_cross_entropy(x, p)
F.binary_cross_entropy(p, p, weight=p.clone().requires_grad_())
F.binary_cross_entropy_with_logits(x, p, pos_weight=p.clone().requires_grad_())
F.kl_div(t, t)
F.kl_div(x, t[:, None].expand(4, 5))
F.kl_div(x, p, reduction='foo')
F.soft_margin_loss(t, t)
F.soft_margin_loss(x, p, reduction='foo')
F.hinge_embedding_loss(x, p, reduction='foo')
F.poisson_nll_loss(x, p, reduction='foo')
F.gaussian_nll_loss(x, p, p[0])
F.gaussian_nll_loss(x, p, -p)
F.gaussian_nll_loss(x, p, -1.0)
F.gaussian_nll_loss(x, p, p, reduction='foo')
F.binary_cross_entropy_with_logits(x, p[0])
F.binary_cross_entropy_with_logits(x, t[:, None].expand(4, 5))""".splitlines()


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_errors(code):
    texts = []
    for fw, functional in ((tritium, F), (torch, TF)):
        names = {
            "fw": fw, "F": functional, "x": fw.full((4, 5), 2.0), "p": fw.full((4, 5), 0.5), "c": fw.zeros(2, 3, 4, 4),
            "t": fw.arange(4),
        }  # fmt: skip
        with pytest.raises(Exception) as info:  # noqa: B017, PT011
            eval(code, names)
        texts.append((info.type, str(info.value).replace("torch.", "tritium.")))
    assert texts[0] == texts[1]


def test_legacy_reduction_arguments():
    for fw, nn in ((tritium, tritium.nn), (torch, torch.nn)):
        with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
            assert nn.MSELoss(size_average=False).reduction == "sum"
        with pytest.warns(UserWarning, match="please use reduction='none' instead"):
            assert nn.CrossEntropyLoss(reduce=False).reduction == "none"
        with pytest.warns(UserWarning, match="please use reduction='mean' instead"):
            loss = nn.functional.mse_loss(fw.ones(2), fw.zeros(2), size_average=True)
        assert loss.item() == 1
    with pytest.warns(UserWarning, match="'batchmean' divides only by the batch size"):
        F.kl_div(tritium.ones(2), tritium.ones(2))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_pairs(reduction):
    a, b, c = (normal(4, 5, seed=s) for s in range(3))
    sign = np.array([1.0, -1.0, 1.0, -1.0])
    options = {"reduction": reduction, "node": False}
    same("margin_ranking_loss", (a[0, :4], b[0, :4], sign), (True, True, False), margin=0.3, **options)
    same("cosine_embedding_loss", (a, b, sign), (True, True, False), margin=0.1, **options)
    for swap in (False, True):
        same("triplet_margin_loss", (a, b, c), (True,) * 3, swap=swap, reduction=reduction, node=False)
