"""Scaled dot-product attention against PyTorch: values, gradients, masks, groups, dropout, dtypes, errors, backends."""

import pytest

pytest.importorskip("torch")

SETUP = """
import math
F = torch.nn.functional
sdpa = F.scaled_dot_product_attention
def data(*shape, dtype="float64", seed=0):
    a = np.random.default_rng((seed, *shape)).standard_normal(shape)
    return torch.from_numpy(a).to(getattr(torch, dtype))
def leaf(*shape, **options):
    return data(*shape, **options).requires_grad_()
def twice(q, k, v, *more, **options):
    '''Attention that can be differentiated twice; in PyTorch its fused op can not.'''
    b = torch.backends.cuda
    b.enable_flash_sdp(torch.__name__ != "torch")
    try:
        return sdpa(q, k, v, *more, **options)
    finally:
        b.enable_flash_sdp(True)
def results(out, *inputs):
    '''The output, its gradients, and gradients of these gradients.'''
    dy = data(*out.shape, dtype=str(out.dtype).rpartition(".")[2], seed=9).requires_grad_()
    first = torch.autograd.grad(out, inputs, dy, create_graph=True)
    plain = torch.autograd.grad(out, inputs, dy, retain_graph=True)
    second = torch.autograd.grad(sum((f * f).sum() for f in first), [dy, *inputs])
    return [out, *plain, *[f.detach() for f in first], *second]
"""
# query, key, value
SHAPES = {
    "four": "leaf(2, 3, 7, 8), leaf(2, 3, 9, 8, seed=1), leaf(2, 3, 9, 8, seed=2)",
    "three": "leaf(3, 7, 8), leaf(3, 9, 8, seed=1), leaf(3, 9, 5, seed=2)",
    "two": "leaf(7, 8), leaf(9, 8, seed=1), leaf(9, 5, seed=2)",
    "five": "leaf(2, 1, 3, 7, 4), leaf(2, 2, 3, 6, 4, seed=1), leaf(2, 2, 3, 6, 4, seed=2)",
    "broadcast": "leaf(2, 1, 7, 8), leaf(1, 3, 9, 8, seed=1), leaf(2, 3, 9, 8, seed=2)",
    "ranks": "leaf(7, 8), leaf(3, 9, 8, seed=1), leaf(2, 3, 9, 8, seed=2)",
    "one": "leaf(1, 1, 1, 1), leaf(1, 1, 1, 1, seed=1), leaf(1, 1, 1, 1, seed=2)",
}


@pytest.mark.parametrize("options", ["", ", is_causal=True", ", scale=0.7", ", scale=-0.4", ", scale=0.0"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_values_and_gradients(same, shapes, options):
    same(f"""
q, k, v = {SHAPES[shapes]}
results(twice(q, k, v{options}), q, k, v)
""", SETUP, skip=("node", "strides"))  # fmt: skip


MASKS = ["data(7, 9) > -1", "data(1, 9) > 0", "data(7, 1) > 0", "data(3, 7, 9) > -1", "data(2, 1, 1, 9) > 0",
         "data(2, 3, 7, 9) > -1.5", "data(7, 9) > 9", "data(2, 3, 7, 9)", "data(1, 3, 7, 9)", "data(2, 1, 1, 9)",
         "data(7, 1)", "data(7, 9, dtype='float32')", "data(7, 9).masked_fill(data(7, 9, seed=3) > 0.3, -math.inf)",
         "data(7, 9).masked_fill(data(7, 1) > 0, -math.inf)", "data(9, 7).t()"]  # fmt: skip


@pytest.mark.parametrize("mask", MASKS)
def test_masks(same, mask):
    same(f"""
q, k, v = {SHAPES["four"]}
results(twice(q, k, v, {mask}), q, k, v)
""", SETUP, skip=("node", "strides"))  # fmt: skip


@pytest.mark.parametrize("shape", ["2, 3, 7, 9", "3, 7, 9", "7, 9", "2, 1, 1, 9", "1, 3, 7, 1", "1, 1", "2, 1, 7, 9"])
def test_gradient_of_the_mask(same, shape):
    same(f"""
q, k, v = {SHAPES["four"]}
m = leaf({shape}, seed=5)
results(twice(q, k, v, m), m, q, k, v)
""", SETUP, skip=("node", "strides"))  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("options", ["", "is_causal=True", "attn_mask=data(2, 1, 33, 40, dtype=dtype)",
                                     "attn_mask=data(33, 40, dtype='float32')"])  # fmt: skip
def test_dtypes(same, dtype, options):
    same(f"""
dtype = "{dtype}"
q, k, v = (leaf(2, 2, n, 16, dtype=dtype, seed=n) for n in (33, 40, 40))
out = sdpa(q, k, v, {options})
dy = data(*out.shape, dtype=dtype, seed=7)
[out, *torch.autograd.grad(out, [q, k, v], dy)]
""", SETUP, skip=("node", "strides"), tolerance={"float32": 2e-5, "float16": 4e-3, "bfloat16": 4e-2}[dtype])  # fmt: skip


@pytest.mark.parametrize("few", [1, 2, 4])
def test_groups(same, few):
    same(f"""
q, k, v = leaf(2, 4, 7, 8), leaf(2, {few}, 9, 8, seed=1), leaf(2, {few}, 9, 8, seed=2)
results(twice(q, k, v, is_causal=True, enable_gqa=True), q, k, v)
""", SETUP, skip=("node", "strides"))  # fmt: skip


def test_more_groups(same_lines):
    same_lines("""
sdpa(data(4, 7, 8), data(2, 9, 8), data(2, 9, 8), enable_gqa=True)
sdpa(data(2, 4, 7, 8), data(2, 2, 9, 8), data(2, 1, 9, 8), enable_gqa=True)
sdpa(data(2, 4, 7, 8), data(1, 2, 9, 8), data(1, 2, 9, 8), data(2, 4, 7, 9) > 0, enable_gqa=True)
sdpa(data(2, 2, 4, 7, 8), data(2, 2, 2, 9, 8), data(2, 2, 2, 9, 8), data(4, 7, 9), enable_gqa=True)
sdpa(data(2, 3, 7, 8), data(2, 2, 9, 8), data(2, 2, 9, 8), enable_gqa=True)
sdpa(data(2, 3, 7, 8), data(2, 2, 9, 8), data(2, 2, 9, 8))
sdpa(data(7, 8), data(9, 8), data(9, 8), enable_gqa=True)
""", SETUP, skip=("strides",))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("shape", ["2, 3, 7, 8", "3, 7, 8"])
@pytest.mark.cpu_only(reason="cuda draws other numbers")
def test_dropout_of_the_same_seed(same, shape, dtype):
    same(f"""
x = leaf({shape}, dtype="{dtype}")
torch.manual_seed(3)
out = sdpa(x, x * 0.5, x + 1, dropout_p=0.4)
[out, *torch.autograd.grad(out, x, data(*out.shape, dtype="{dtype}", seed=4)), torch.rand(2)]
""", SETUP, skip=("node",), tolerance={"float64": 1e-10, "float32": 2e-5, "bfloat16": 4e-2}[dtype])  # fmt: skip


@pytest.mark.cpu_only(reason="cuda draws other numbers")
def test_gradients_with_dropout(same):
    same(f"""
q, k, v = {SHAPES["four"]}
m = leaf(7, 9, seed=5)
torch.manual_seed(3)
results(twice(q, k, v, m, 0.3), q, k, v, m)
""", SETUP, skip=("node", "strides"))  # fmt: skip


def test_edges_of_dropout(same_lines):
    same_lines("""
sdpa(data(2, 7, 8), data(2, 9, 8), data(2, 9, 8), dropout_p=1.0)
sdpa(data(2, 7, 8), data(2, 9, 8), data(2, 9, 8), dropout_p=-0.5)
sdpa(data(2, 7, 8), data(2, 9, 8), data(2, 9, 8), dropout_p=0)
sdpa(data(2, 7, 8), data(2, 9, 8), data(2, 9, 8), dropout_p=1.5)
""", SETUP)


def test_strides(same_lines):
    same_lines("""
sdpa(*[data(2, 7, 3, 8).transpose(1, 2)] * 3)
sdpa(*[data(4, 2, 3, 8).permute(1, 2, 0, 3)] * 3)
sdpa(*[data(2, 3, 8, 7).transpose(2, 3)] * 3)
sdpa(*[data(1, 3, 7, 8).expand(2, 3, 7, 8)] * 3)
sdpa(*data(2, 7, 3 * 3 * 8).view(2, 7, 3, 3, 8).permute(2, 0, 3, 1, 4).unbind())
sdpa(data(2, 3, 7, 16)[..., ::2], data(2, 3, 18, 8)[:, :, ::2], data(2, 3, 9, 9)[..., 1:])
sdpa(data(2, 3, 7, 8).flip(2), data(2, 3, 9, 8).flip(3), data(2, 3, 9, 8))
""", SETUP)
    same_lines("""
(lambda x: torch.autograd.grad(sdpa(x.transpose(1, 2), x.transpose(1, 2), x.transpose(1, 2)).sum(), x))(leaf(2, 7, 3, 8))
(lambda x: torch.autograd.grad(sdpa(x, x[:, :1].expand_as(x), x).transpose(1, 2).flatten(2).sum(1)[..., 1::2].sum(), x))(leaf(2, 3, 7, 8))
""", SETUP, skip=("strides",))  # noqa: E501


def test_empty(same_lines):
    same_lines("""
sdpa(data(0, 3, 7, 8), data(0, 3, 9, 8), data(0, 3, 9, 8))
sdpa(data(2, 0, 7, 8), data(2, 0, 9, 8), data(2, 0, 9, 8))
sdpa(data(2, 3, 0, 8), data(2, 3, 9, 8), data(2, 3, 9, 8))
sdpa(data(2, 3, 7, 8), data(2, 3, 0, 8), data(2, 3, 0, 8))
sdpa(data(2, 3, 7, 0), data(2, 3, 9, 0), data(2, 3, 9, 8))
sdpa(data(2, 3, 7, 8), data(2, 3, 9, 8), data(2, 3, 9, 0))
sdpa(data(2, 3, 7, 8), data(2, 3, 0, 8), data(2, 3, 0, 8), data(7, 1) > 0, 0.0)
(lambda x, y: torch.autograd.grad(sdpa(x, y, y).sum(), [x, y]))(leaf(2, 3, 7, 8), leaf(2, 3, 0, 8))
(lambda x, y: torch.autograd.grad(sdpa(x, y, y).sum(), [x, y]))(leaf(2, 3, 0, 8), leaf(2, 3, 7, 8))
""", SETUP, skip=("strides",))


def test_not_numbers(same_lines):
    same_lines("""
sdpa(data(2, 7, 8).masked_fill(data(2, 7, 8) > 2, math.nan), data(2, 9, 8), data(2, 9, 8))
sdpa(data(2, 7, 8), data(2, 9, 8), data(2, 9, 8), data(7, 9).masked_fill(data(7, 9) > 1, math.inf))
sdpa(data(2, 7, 8), data(2, 9, 8), data(2, 9, 8), scale=math.nan)
sdpa(data(2, 7, 8) * 1e200, data(2, 9, 8), data(2, 9, 8))
""", SETUP)


def test_errors(same_lines):
    same_lines("""
sdpa([1], data(2, 3), data(2, 3))
sdpa(data(2, 3), data(2, 3))
sdpa(data(2, 3), data(2, 3), data(2, 3), [1])
sdpa(data(2, 3), data(2, 3), data(2, 3), None, "x")
sdpa(data(2, 3), data(2, 3), data(2, 3), None, 0.0, 1)
sdpa(data(2, 3), data(2, 3), data(2, 3), None, 0.0, False, None)
sdpa(data(2, 3), data(2, 3), data(2, 3), scale="x")
sdpa(data(2, 3), data(2, 3, dtype="float32"), data(2, 3))
sdpa(data(2, 3, dtype="float16"), data(2, 3, dtype="float32"), data(2, 3))
sdpa(data(3), data(2, 3), data(2, 3))
sdpa(data(2, 3), data(2, 3), data(3))
sdpa(data(2, 2, 3).long(), data(2, 2, 3).long(), data(2, 2, 3).long())
sdpa(data(2, 3).to(torch.complex64), data(2, 3).to(torch.complex64), data(2, 3).to(torch.complex64))
sdpa(data(4, 3), data(5, 2), data(5, 3))
sdpa(data(4, 3), data(5, 3), data(6, 3))
sdpa(data(2, 2, 4, 3), data(2, 2, 5, 2), data(2, 2, 5, 3))
sdpa(data(2, 4, 3), data(2, 5, 3), data(2, 6, 3))
sdpa(data(3, 2, 4, 3), data(2, 2, 5, 3), data(2, 2, 5, 3))
sdpa(data(2, 2, 4, 3), data(2, 2, 5, 3), data(2, 2, 5, 3), data(4, 6))
sdpa(data(2, 2, 4, 3), data(2, 2, 5, 3), data(2, 2, 5, 3), data(4, 6) > 0)
sdpa(data(2, 2, 4, 3), data(2, 2, 5, 3), data(2, 2, 5, 3), data(2, 2, 2, 4, 5))
sdpa(data(1, 2, 4, 3), data(1, 2, 5, 3), data(1, 2, 5, 3), data(2, 2, 4, 5))
sdpa(data(2, 2, 4, 3), data(2, 2, 5, 3), data(2, 2, 5, 3), data(4, 5).int())
sdpa(data(2, 2, 4, 3, dtype="float32"), data(2, 2, 5, 3, dtype="float32"), data(2, 2, 5, 3, dtype="float32"), data(4, 5))
sdpa(data(2, 4, 3), data(2, 5, 3), data(2, 5, 3), data(4, 5) > 0, is_causal=True)
""", SETUP)  # noqa: E501


BACKENDS = SETUP + """
from contextlib import nullcontext
import importlib
A = importlib.import_module(torch.__name__ + ".nn.attention")
x = data(2, 3, 7, 8).requires_grad_()
def within(backends, *inputs, **options):
    with A.sdpa_kernel(backends, **options):
        return sdpa(*(inputs or (x, x, x)), is_causal=True)
"""


def test_backends(same_lines):
    same_lines("""
within(A.SDPBackend.MATH).detach()
within(A.SDPBackend.FLASH_ATTENTION).detach()
within([A.SDPBackend.MATH, A.SDPBackend.FLASH_ATTENTION], set_priority=True).detach()
within([])
within(A.SDPBackend.ERROR)
within("x")
[A.SDPBackend(1).name, int(A.SDPBackend.MATH), repr(A.SDPBackend.MATH), str(A.SDPBackend.FLASH_ATTENTION)]
[torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()]
[torch.backends.cuda.mem_efficient_sdp_enabled(), torch.backends.cuda.cudnn_sdp_enabled()]
torch.backends.cuda.enable_flash_sdp(1)
""", BACKENDS)


def test_switches(same):
    same("""
b = torch.backends.cuda
b.enable_math_sdp(False)
try:
    seen = [b.math_sdp_enabled(), within(A.SDPBackend.MATH).detach(), b.math_sdp_enabled()]
finally:
    b.enable_math_sdp(True)
seen
""", BACKENDS)


@pytest.mark.cpu_only(reason="node names of the CPU")
def test_names_of_nodes(same_lines):
    same_lines("""
sdpa(x, x, x)
sdpa(x, x, x, is_causal=True)
""", BACKENDS)


def test_composed_as_fused(same_lines):
    same_lines("""
within(A.SDPBackend.MATH, x, x[:, :1], x[:, :, :5, :6], data(7, 5)) if False else within(A.SDPBackend.MATH, x, x, x).detach()
torch.autograd.grad(within(A.SDPBackend.MATH).sum(), x)
""", BACKENDS)  # noqa: E501
