"""Autocast: every listed op gives PyTorch's dtype, on the CPU and (PyTorch's side on fake cuda tensors) on cuda."""
import logging
import re
import warnings
from contextlib import nullcontext

import numpy as np
import pytest

import tritium

torch = pytest.importorskip("torch")

# One call a line; ``k`` makes random tensors in float32 and in the region's dtype, ``f`` always in float32.
CALLS = """
k(3, 3) @ k(3, 3)
torch.mm(k(3, 3), k(3, 3))
torch.bmm(k(2, 3, 3), k(2, 3, 3))
torch.mv(k(3, 3), k(3))
k(3, 3) @ k(3)
k(3) @ k(3)
k(2, 3, 3) @ f(3, 3)
torch.matmul(f(2, 3, 3), k(3))
torch.dot(k(3), k(3))
torch.dot(k(3), f(3))
torch.vdot(k(3), f(3))
torch.inner(k(3, 3), k(3, 3))
torch.outer(k(3), k(3))
torch.addmm(k(3, 3), k(3, 3), f(3, 3))
torch.addmv(k(3), k(3, 3), k(3))
torch.addr(k(3, 3), k(3), k(3))
torch.addbmm(k(3, 3), k(2, 3, 3), f(2, 3, 3))
torch.baddbmm(k(2, 3, 3), k(2, 3, 3), f(2, 3, 3))
torch.chain_matmul(k(3, 3), k(3, 3), k(3, 3))
torch.tensordot(k(3, 3), k(3, 3), 1)
torch.tensordot(k(3, 3), f(3, 3), 1)
torch.einsum("ij,jk->ik", k(3, 3), f(3, 3))
torch.einsum("ij,ij->ij", k(3, 3), k(3, 3))
F.bilinear(k(2, 3), k(2, 4), k(5, 3, 4), k(5))
F.linear(k(2, 3), f(4, 3), f(4))
F.linear(k(3), f(4, 3), f(4))
F.linear(k(2, 2, 3), f(4, 3))
F.conv1d(k(1, 1, 4), f(1, 1, 3), f(1))
F.conv2d(k(1, 1, 4, 4), f(1, 1, 3, 3), f(1))
F.conv_transpose1d(k(1, 1, 4), f(1, 1, 3))
F.conv_transpose2d(k(1, 1, 4, 4), f(1, 1, 3, 3), f(1))
F.conv3d(k(1, 1, 4, 4, 4), f(1, 1, 2, 2, 2))
F.prelu(k(2, 3), f(1))
F.scaled_dot_product_attention(k(1, 2, 4, 16), k(1, 2, 4, 16), k(1, 2, 4, 16))
k(3).acos()
k(3).asin()
k(3).atan()
k(3).cosh()
torch.erfinv(k(3))
k(3).exp()
k(3).exp2()
k(3).expm1()
k(3).log()
k(3).log10()
k(3).log1p()
k(3).log2()
k(3).reciprocal()
k(3).rsqrt()
k(3).sqrt()
k(3).square()
k(3).sinh()
k(3).sin()
k(3).tan()
k(3).tanh()
k(3).sigmoid()
1 / k(3)
k(3) ** 2
2 ** k(3)
k(3) ** k(3)
k(3) + f(3)
k(3) * k(3)
k(3).float_power(2)
F.softplus(k(3))
F.logsigmoid(k(3))
F.gelu(k(3))
F.relu(k(3))
k(3, 3).logsumexp(0)
k(3).logcumsumexp(0)
k(3).cumsum(0)
k(3).cumprod(0)
k(3).prod()
k(3, 3).prod(0)
k(3).sum()
k(3, 3).sum(0)
k(3, 3).sum((0, 1), True)
k(3).sum(dtype=torch.float64)
k(3).mean()
k(3).var()
k(3).std()
k(3).norm()
k(3, 3).norm(1, 0)
torch.linalg.vector_norm(k(3))
torch.linalg.norm(k(3, 3))
k(3, 3).trace()
torch.dist(k(3), k(3))
F.softmax(k(3), 0)
F.log_softmax(k(3), 0)
F.softmin(k(3), 0)
F.softmax(k(3), 0, dtype=torch.float64)
F.layer_norm(k(3, 3), (3,), f(3), f(3))
F.layer_norm(k(3, 3), (3,))
F.group_norm(k(2, 4, 3), 2, f(4), f(4))
F.rms_norm(k(3, 3), (3,), f(3))
F.batch_norm(k(2, 4, 3), f(4), f(4), f(4), f(4))
F.batch_norm(k(2, 4, 3), f(4), f(4), f(4), f(4), True)
F.instance_norm(k(2, 4, 3))
F.max_pool2d(k(1, 1, 4, 4), 2)
F.avg_pool2d(k(1, 1, 4, 4), 2)
F.adaptive_avg_pool2d(k(1, 1, 4, 4), 1)
F.max_pool3d(k(1, 1, 4, 4, 4), 2)
F.avg_pool3d(k(1, 1, 4, 4, 4), 2)
F.adaptive_avg_pool3d(k(1, 1, 4, 4, 4), 2)
F.adaptive_max_pool3d(k(1, 1, 4, 4, 4), 2)
F.lp_pool1d(k(1, 1, 4), 2, 2)
F.lp_pool2d(k(1, 1, 4, 4), 2, 2)
F.lp_pool3d(k(1, 1, 4, 4, 4), 2, 2)
F.local_response_norm(k(1, 4, 3, 3), 2)
F.max_unpool1d(k(1, 1, 2), zeros(1, 1, 2), 2)
F.max_unpool2d(k(1, 1, 2, 2), zeros(1, 1, 2, 2), 2)
F.max_unpool3d(k(1, 1, 1, 1, 1), zeros(1, 1, 1, 1, 1), 2)
F.gaussian_nll_loss(k(3), k(3), k(3))
F.multilabel_soft_margin_loss(k(2, 3), k(2, 3))
F.ctc_loss(k(4, 1, 3), zeros(1, 2) + 1, zeros(1) + 4, zeros(1) + 2)
F.interpolate(k(1, 1, 4, 4), scale_factor=2)
F.interpolate(k(1, 1, 4, 4), scale_factor=2, mode="bilinear")
F.interpolate(k(1, 1, 4, 4), scale_factor=2, mode="area")
F.grid_sample(k(1, 1, 4, 4), f(1, 2, 2, 2))
F.pad(k(1, 1, 4, 4), (1, 1, 1, 1), "reflect")
F.pad(k(1, 1, 4), (1, 1), "reflect")
F.pad(k(1, 1, 4, 4, 4), (1,) * 6, "reflect")
F.pad(k(1, 1, 4, 4), (1, 1, 1, 1), "replicate")
F.pad(k(1, 1, 4, 4, 4), (1,) * 6, "replicate")
F.pad(k(1, 1, 4), (1, 1), "circular")
F.pad(k(1, 1, 4), (1, 1))
F.cross_entropy(k(2, 3), zeros(2))
F.cross_entropy(k(2, 3), k(2, 3))
F.cross_entropy(k(2, 3), zeros(2), f(3), label_smoothing=0.1)
F.nll_loss(k(2, 3), zeros(2))
F.nll_loss(k(2, 3, 2), zeros(2, 2))
F.mse_loss(k(3), k(3))
F.mse_loss(k(3), f(3))
F.l1_loss(k(3), k(3))
F.smooth_l1_loss(k(3), k(3))
F.huber_loss(k(3), k(3))
F.kl_div(k(3), k(3))
F.binary_cross_entropy(k(3), k(3))
F.binary_cross_entropy_with_logits(k(3), k(3))
F.poisson_nll_loss(k(3), k(3))
F.soft_margin_loss(k(3), k(3))
F.hinge_embedding_loss(k(3), k(3))
F.multi_margin_loss(k(2, 3), zeros(2))
F.multilabel_margin_loss(k(2, 3), zeros(2, 3))
F.cosine_embedding_loss(k(2, 3), k(2, 3), k(2))
F.margin_ranking_loss(k(2), k(2), k(2))
F.triplet_margin_loss(k(2, 3), k(2, 3), k(2, 3))
F.cosine_similarity(k(2, 3), k(2, 3))
F.pairwise_distance(k(2, 3), k(2, 3))
F.normalize(k(2, 3))
torch.cdist(k(2, 3), k(2, 3))
torch.renorm(k(2, 3), 2, 0, 1.0)
torch.addcdiv(k(3), k(3), f(3))
torch.addcmul(k(3), k(3), k(3))
torch.atan2(k(3), f(3))
torch.atan2(k(3), k(3))
torch.cross(k(2, 3), f(2, 3), dim=1)
torch.scatter_add(k(3), 0, zeros(3), f(3))
torch.scatter_add(k(3), 0, zeros(3), k(3))
torch.index_put(k(3), (zeros(2),), f(2))
torch.index_copy(k(3), 0, zeros(1), f(1))
torch.index_copy(f(3), 0, zeros(1), k(1))
torch.cat([k(3), f(3)])
torch.cat([k(3), k(3)])
torch.stack([k(3), f(3)])
torch.stack((k(3), k(3)))
torch.quantile(k(3), 0.5)
torch.nanquantile(k(3), 0.5)
torch.view_as_complex(k(3, 2))
k(3, 3).double() @ k(3, 3).double()
k(3).double().sum()
zeros(3).sum()
torch.mm(k(3, 3), k(3, 3), out=k(3, 3))
torch.matmul(k(3, 3), k(3, 3), out=k(3, 3))
torch.exp(k(3), out=k(3))
torch.sum(k(3, 3), 0, out=k(3))
k(3, 3).addmm_(k(3, 3), k(3, 3))
k(3).exp_()
k(3).pow_(2)
k(3).cumsum_(0)
"""

OTHERWISE = ("index_copy", "quantile", "view_as_complex", "gaussian_nll_loss")  # fake tensors check less, or cannot


def listed_lines():
    return CALLS.strip().splitlines()


def seen(framework, line, kind, low, full, device):
    """The dtype of a call's result, or its error."""
    def made(*shape, dtype=None):
        one = framework.ones(*shape, device=device) * 0.5
        return one if dtype is None else one.to(dtype)

    space = {"torch": framework, "F": framework.nn.functional, "f": made,
             "k": made if full else lambda *shape: made(*shape, dtype=low),
             "zeros": lambda *shape: framework.zeros(*shape, dtype=framework.int64, device=device)}
    framework.set_autocast_enabled(kind, True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = eval(line, space)
        return str(result.dtype).rpartition(".")[2]
    except Exception as error:
        return error
    finally:
        framework.set_autocast_enabled(kind, False)


def test_dtypes(device, may_be_missing) -> None:
    """PyTorch has no cuda device here: its fake tensors go through the same dispatch and tell the dtype."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    logging.disable(logging.CRITICAL)  # fake tensors log what they cannot do
    fake = FakeTensorMode if device == "cuda" else nullcontext
    wrong = []
    for line in listed_lines():
        if device == "cuda" and any(name in line for name in OTHERWISE):
            continue
        for full in (True, False):
            ours = seen(tritium, line, device, getattr(tritium, "bfloat16" if device == "cpu" else "float16"), full,
                        device)
            if isinstance(ours, AttributeError) or (isinstance(ours, NotImplementedError) and may_be_missing(ours)):
                continue  # an op that does not exist, or has no kernel
            with fake():
                theirs = seen(torch, line, device, torch.bfloat16 if device == "cpu" else torch.float16, full, device)
            if isinstance(theirs, Exception) and "not linked with support for cuda" in str(theirs):
                continue  # no fake kernel either
            if isinstance(ours, Exception) or isinstance(theirs, Exception):
                if type(ours) is not type(theirs) or _words(ours) != _words(theirs):
                    wrong.append(f"{line} ({'full' if full else 'low'}): {ours!r}, PyTorch: {theirs!r}")
            elif ours != theirs:
                wrong.append(f"{line} ({'full' if full else 'low'}): {ours}, PyTorch: {theirs}")
    logging.disable(logging.NOTSET)
    assert not wrong, "\n".join(wrong)


def _words(error):
    return re.sub(r"\s+", " ", str(error).partition("\nException raised")[0]).strip()


# PyTorch's names of ops that are functions under another name here.
NAMES = {"cross_entropy_loss": "cross_entropy", "norm": "vector_norm", "linalg_vector_norm": "vector_norm",
         "linalg_vecdot": "vecdot", "linalg_multi_dot": "chain_matmul", "linalg_matrix_norm": "matrix_norm",
         "grid_sampler": "grid_sample", "native_layer_norm": "layer_norm", "frobenius_norm": "vector_norm"}


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_every_op_that_pytorch_registers_is_listed(kind) -> None:
    from tritium.tensor.autocast import LISTS

    key = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}[kind]
    registered = {name.removeprefix("aten::").partition(".")[0] for name in torch._C._dispatch_get_all_op_names()
                  if torch._C._dispatch_has_kernel_for_dispatch_key(name, key)}
    here = set(dir(tritium)) | set(dir(tritium.nn.functional)) | set(dir(tritium.linalg))
    names = {NAMES.get(name, name) for name in registered}
    missing = {name for name in names if name in here} - set(LISTS[kind])
    assert not missing


def test_promotion_errors(device) -> None:
    """A 16-bit dtype that is not the region's is refused by promoting ops."""
    other = "float16" if device == "cpu" else "bfloat16"
    with tritium.autocast(device), pytest.raises(RuntimeError, match="Unexpected floating ScalarType in at::autocast"):
        x = tritium.ones(3, dtype=getattr(tritium, other))
        (tritium.cat([x, x]) if device == "cpu" else tritium.dot(x, x))


@pytest.mark.cuda_only
def test_binary_cross_entropy_is_banned() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = tritium.full((3,), 0.5)
    with tritium.autocast("cuda"), pytest.raises(RuntimeError) as ours:
        tritium.nn.functional.binary_cross_entropy(x, x)
    torch.set_autocast_enabled("cuda", True)
    try:
        with FakeTensorMode(), pytest.raises(RuntimeError) as theirs:
            y = torch.empty(3, device="cuda")
            torch.nn.functional.binary_cross_entropy(y, y)
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert _words(ours.value) == _words(theirs.value)
    with tritium.autocast("cuda"), tritium.autocast("cuda", enabled=False):
        assert tritium.nn.functional.binary_cross_entropy(x, x).dtype is tritium.float32


ERRORS = """
torch.is_autocast_enabled(1)
torch.get_autocast_dtype(1)
torch.set_autocast_enabled("cpu", 1)
torch.set_autocast_dtype("cpu", 3)
torch.set_autocast_cache_enabled(1)
torch.autocast(1)
torch.autocast("cpu")(3)
torch.amp.custom_fwd(lambda ctx: 1, device_type=1)
torch.amp.custom_bwd(lambda ctx: 1, device_type=1)
torch.amp.is_autocast_available(1)
"""
SAME = """
torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled(), torch.is_autocast_enabled("cuda")
torch.get_autocast_dtype("cpu"), torch.get_autocast_dtype("cuda")
torch.is_autocast_cache_enabled()
torch.amp.is_autocast_available("cpu"), torch.amp.is_autocast_available("cuda")
torch.autocast_increment_nesting(), torch.autocast_decrement_nesting()
torch.autocast("cpu").fast_dtype, torch.autocast("cpu", torch.float16).fast_dtype, torch.autocast("cpu").device
"""


@pytest.mark.cpu_only
def test_words(same_lines) -> None:
    same_lines(ERRORS, text="exact")
    same_lines(SAME)


WARNINGS = """
torch.autocast("cpu", torch.float32)
torch.autocast("cpu", torch.int64)
torch.cpu.amp.autocast()
torch.cuda.amp.autocast(enabled=False)
torch.cpu.amp.GradScaler()
torch.cuda.amp.GradScaler(enabled=False)
torch.cuda.amp.custom_fwd(lambda ctx: 1)
torch.cuda.amp.custom_bwd(lambda ctx: 1)
torch.autocast("cuda")
torch.amp.GradScaler()
torch.is_autocast_cpu_enabled()
torch.set_autocast_cpu_enabled(False)
torch.get_autocast_cpu_dtype()
torch.set_autocast_cpu_dtype(torch.bfloat16)
torch.get_autocast_gpu_dtype()
torch.set_autocast_gpu_dtype(torch.float16)
"""


@pytest.mark.cpu_only
@pytest.mark.parametrize("line", WARNINGS.strip().splitlines())
def test_warnings(line) -> None:
    if torch.cuda.is_available() or tritium.cuda.is_available():
        pytest.skip("warnings of a machine without a GPU")
    said = []
    for framework in (tritium, torch):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            eval(line, {"torch": framework})
        said.append([(w.category, str(w.message).partition(" (Triggered")[0], w.filename == "<string>" or None)
                     for w in caught])
    assert [w[:2] for w in said[0]] == [w[:2] for w in said[1]]
    assert all(w[2] for w in said[0])  # the warning names the caller's line


# --- training -------------------------------------------------------------------------------------

def _numbers(seed: int = 0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) * scale for shape, scale in (
        ((64, 1, 8, 8), 1.0), ((8, 1, 3, 3), 0.3), ((8,), 0.1), ((16, 8, 3, 3), 0.1), ((16,), 0.1), ((4, 16), 0.2),
        ((4,), 0.1))]


def _train(framework, device, dtype, steps, scaler=None):
    """The losses of a small convolutional net trained with autocast, and the dtypes met on the way."""
    data, *weights = _numbers()
    make = lambda a: framework.tensor(a.tolist()).to(device)  # noqa: E731
    x = make(data)
    t = framework.tensor([i % 4 for i in range(64)]).to(device)
    F = framework.nn.functional
    conv1, conv2, head = (framework.nn.Conv2d(1, 8, 3), framework.nn.Conv2d(8, 16, 3), framework.nn.Linear(16, 4))
    norm = framework.nn.BatchNorm2d(16)
    net = framework.nn.Sequential(conv1, framework.nn.ReLU(), conv2, norm, framework.nn.ReLU(),
                                  framework.nn.AdaptiveAvgPool2d(1), framework.nn.Flatten(), head).to(device)
    with framework.no_grad():
        for p, w in zip((conv1.weight, conv1.bias, conv2.weight, conv2.bias, head.weight, head.bias), weights,
                        strict=True):
            p.copy_(make(w))
    optimizer = framework.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses, dtypes = [], set()
    for _ in range(steps):
        optimizer.zero_grad()
        with framework.autocast(device, dtype):
            out = net(x)
            loss = F.cross_entropy(out, t)
        dtypes |= {str(out.dtype).rpartition(".")[2], str(loss.dtype).rpartition(".")[2]}
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        dtypes |= {"grad " + str(p.grad.dtype).rpartition(".")[2] for p in net.parameters()}
        losses.append(loss.item())
    return losses, dtypes


def test_training_in_bfloat16(device) -> None:
    ours, our_dtypes = _train(tritium, device, tritium.bfloat16, 8 if device == "cpu" else 2)
    theirs, their_dtypes = _train(torch, "cpu", torch.bfloat16, 8 if device == "cpu" else 2)
    assert our_dtypes == their_dtypes == {"bfloat16", "float32", "grad float32"}
    np.testing.assert_allclose(ours, theirs, rtol=2e-2)


def test_training_in_float16_with_a_scaler(device) -> None:
    count = 6 if device == "cpu" else 3
    scale = 2.0 ** 40  # too large: the first steps are left out
    mine, its = (framework.amp.GradScaler(name, init_scale=scale, growth_interval=2)
                 for framework, name in ((tritium, device), (torch, "cpu")))
    ours, our_dtypes = _train(tritium, device, tritium.float16, count, mine)
    theirs, their_dtypes = _train(torch, "cpu", torch.float16, count, its)
    assert our_dtypes == their_dtypes
    assert mine.get_scale() == its.get_scale() and mine.get_scale() < scale
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)
