"""Every family of kernels beside PyTorch's on one GPU, without matrix products and convolutions, which have their own.

    python benchmarks/gpu_kernels.py [--json FILE] [--only WORD ...] [--seconds N] [--emulated | --compile]

GB/s count what an operation has to read and write at least; "copy" is the part of the bandwidth of a plain copy.
"""
from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from gpu_timing import Entry, Tools, Work, main

from tritium.kernels.tuning.problems import layers

ENTRIES: list[Entry] = []
BOTH = ("fp32", "bf16")
Maker = Callable[[Tools], "tuple[Callable[[], Any], float]"]  # the call, and how many elements it moves


def entries(group: str, dtypes: tuple[str, ...] = BOTH, **makers: Maker) -> None:
    """Entries of a group; an underscore in a name is a space."""
    for name, maker in makers.items():
        for dtype in dtypes:
            ENTRIES.append(Entry(f"{name.replace('_', ' ')} {dtype}", group, functools.partial(work, maker), dtype))


def work(maker: Maker, t: Tools) -> Work:
    call, elements = maker(t)
    return Work(call, elements * t.size)


# --- pointwise, reductions, scans -------------------------------------------------------------------

def flat(t: Tools, f: Callable[..., Any], reads: int = 1, moved: int = 0) -> Any:
    """``f`` of vectors of n."""
    given = [t.normal(t.n) for _ in range(reads)]
    return lambda: f(*given), (moved or reads + 1) * t.n


def matrix(t: Tools, f: Callable[..., Any], moved: float = 2) -> Any:
    """``f`` of a matrix (rows, columns)."""
    x = t.normal(t.rows, t.columns)
    return lambda: f(x), moved * t.rows * t.columns


def backward(t: Tools, f: Callable[..., Any], *inputs: Any, moved: float) -> Any:
    """The derivative of ``f``, of whose input ``moved`` times as many elements are moved."""
    return t.backward(f(*inputs), list(inputs)), moved * inputs[0].numel()


entries(
    "pointwise",
    add=lambda t: flat(t, lambda x, y: x + y, 2),
    add_in_place=lambda t: flat(t, lambda x, y: x.add_(y, alpha=0.5), 2),
    multiply_number=lambda t: flat(t, lambda x: x * 1.5),
    relu=lambda t: flat(t, lambda x: x.relu()),
    exp=lambda t: flat(t, lambda x: x.exp()),
    gelu=lambda t: flat(t, lambda x: t.F.gelu(x)),
    sigmoid=lambda t: flat(t, lambda x: x.sigmoid()),
    where=lambda t: flat(t, lambda x, y: t.lib.where(x > 0, x, y), 2, 5),
    compare=lambda t: (flat(t, lambda x, y: x > y, 2)[0], t.n * (2 + 1 / t.size)),
    to_the_other=lambda t: cast(t),
    add_row=lambda t: matrix(t, lambda a: a + a[0]),
    add_column=lambda t: matrix(t, lambda a: a + a[:, :1]),
    gelu_backward=lambda t: backward(t, t.F.gelu, t.normal(t.n, grad=True), moved=3),
    relu_backward=lambda t: backward(t, t.F.relu, t.normal(t.n, grad=True), moved=3),
)


def cast(t: Tools) -> Any:
    x, other = t.normal(t.n), t.lib.bfloat16 if t.name == "fp32" else t.lib.float32
    return lambda: x.to(other), t.n * 6 / t.size


entries(
    "reduce",
    sum_all=lambda t: flat(t, lambda x: x.sum(), moved=1),
    sum_rows=lambda t: matrix(t, lambda a: a.sum(1), 1),
    sum_columns=lambda t: matrix(t, lambda a: a.sum(0), 1),
    mean_of_channels_last=lambda t: pixels(t),
    max_rows=lambda t: matrix(t, lambda a: a.amax(1), 1),
    argmax_rows=lambda t: matrix(t, lambda a: a.argmax(1), 1),
    var_rows=lambda t: matrix(t, lambda a: a.var(1), 1),
    norm_all=lambda t: flat(t, lambda x: x.norm(), moved=1),
    logsumexp_rows=lambda t: matrix(t, lambda a: a.logsumexp(1), 1),
)


def pixels(t: Tools) -> Any:
    x = t.image(*((2, 8, 4, 4) if t.small else (256, 2048, 14, 14)))
    return lambda: x.mean((2, 3)), x.numel()


entries("scan", cumsum_rows=lambda t: matrix(t, lambda a: a.cumsum(1)),
        cumsum_columns=lambda t: matrix(t, lambda a: a.cumsum(0)), cumsum_all=lambda t: flat(t, lambda x: x.cumsum(0)))

# --- softmax, norms, losses -------------------------------------------------------------------------

entries(
    "softmax",
    softmax=lambda t: matrix(t, lambda a: a.softmax(1)),
    log_softmax=lambda t: matrix(t, lambda a: a.log_softmax(1)),
    softmax_of_columns=lambda t: matrix(t, lambda a: a.softmax(0), 3),
    softmax_of_1000=lambda t: wide(t, 1000), softmax_of_50257=lambda t: wide(t, 50257),
    softmax_backward=lambda t: backward(t, lambda x: x.softmax(1), t.normal(t.rows, t.columns, grad=True), moved=3),
    log_softmax_backward=lambda t: backward(t, lambda x: x.log_softmax(1), t.normal(t.rows, t.columns, grad=True),
                                            moved=3),
)


def wide(t: Tools, columns: int) -> Any:
    x = t.normal(2, columns) if t.small else t.normal((1 << 26) // columns, columns)
    return lambda: x.softmax(1), 2 * x.numel()


def affine(t: Tools, C: int) -> tuple[Any, Any]:
    return t.lib.ones(C, device="cuda", dtype=t.dtype), t.lib.zeros(C, device="cuda", dtype=t.dtype)


def layer_norm(t: Tools, back: bool, rms: bool = False) -> Any:
    w, b = (a.requires_grad_(back) for a in affine(t, t.columns))
    x = t.normal(t.rows, t.columns, grad=back)

    def f() -> Any:
        return t.F.rms_norm(x, (t.columns,), w) if rms else t.F.layer_norm(x, (t.columns,), w, b)

    if back:
        return t.backward(f(), [x, w] if rms else [x, w, b]), 3 * x.numel()
    return f, 2 * x.numel()


IMAGES = {"large": (64, 64, 112, 112), "middle": (64, 256, 56, 56), "small": (64, 2048, 7, 7)}


def batch_norm(t: Tools, which: str, how: str) -> Any:
    """``how``: "eval", "train" or "backward"."""
    shape = (2, 8, 5, 5) if t.small else IMAGES[which]
    x = t.image(*shape, grad=how == "backward")
    mean, var = t.lib.zeros(shape[1], device="cuda"), t.lib.ones(shape[1], device="cuda")
    w, b = (a.requires_grad_(how == "backward") for a in (mean + 1, mean * 0))

    def f() -> Any:
        return t.F.batch_norm(x, mean, var, w, b, how != "eval")

    if how == "backward":
        return t.backward(f(), [x, w, b]), 5 * x.numel()
    return f, (2 if how == "eval" else 3) * x.numel()


def group_norm(t: Tools, back: bool) -> Any:
    x = t.image(*((2, 32, 3, 3) if t.small else IMAGES["middle"]), grad=back)
    w, b = (a.requires_grad_(back) for a in affine(t, x.shape[1]))
    if back:
        return t.backward(t.F.group_norm(x, 32, w, b), [x, w, b]), 5 * x.numel()
    return lambda: t.F.group_norm(x, 32, w, b), 3 * x.numel()


entries("norm", layer_norm=lambda t: layer_norm(t, False), layer_norm_backward=lambda t: layer_norm(t, True),
        rms_norm=lambda t: layer_norm(t, False, True), rms_norm_backward=lambda t: layer_norm(t, True, True),
        group_norm=lambda t: group_norm(t, False), group_norm_backward=lambda t: group_norm(t, True),
        **{f"batch_norm_{how}_{which}": functools.partial(lambda t, which, how: batch_norm(t, which, how), which=which,
                                                          how=how)
           for which in IMAGES for how in ("eval", "train", "backward")})


def loss(t: Tools, back: bool, columns: int = 32000, **how: Any) -> Any:
    rows = 4 if t.small else (1 << 26) // columns
    columns = 50 if t.small else columns
    x, target = t.normal(rows, columns, grad=back), t.whole(rows, high=columns)
    if back:
        return t.backward(t.F.cross_entropy(x, target, **how), [x]), 2 * x.numel()
    return lambda: t.F.cross_entropy(x, target, **how), x.numel()


def both(t: Tools, **how: Any) -> Any:
    """Forward and backward in one call: the gradient may be made in the forward pass."""
    rows, columns = (4, 50) if t.small else (2048, 32000)
    x, target = t.normal(rows, columns, grad=True), t.whole(rows, high=columns)

    def f() -> Any:
        return t.lib.autograd.grad(t.F.cross_entropy(x, target, **how), [x])

    return f, 3 * x.numel()


def pair(t: Tools, name: str, back: bool, **how: Any) -> Any:
    """A loss of two vectors of n."""
    x, y = t.normal(t.n, grad=back), t.normal(t.n).sigmoid()
    if name == "binary_cross_entropy":
        x = x.detach().sigmoid().requires_grad_(back)
    f = getattr(t.F, name)
    if back:
        return t.backward(f(x, y, **how), [x]), 3 * t.n
    return lambda: f(x, y, **how), 2 * t.n


entries("loss", cross_entropy=lambda t: loss(t, False), cross_entropy_backward=lambda t: loss(t, True),
        cross_entropy_of_1000=lambda t: loss(t, False, 1000),
        cross_entropy_of_1000_backward=lambda t: loss(t, True, 1000),
        cross_entropy_smooth=lambda t: loss(t, False, label_smoothing=0.1),
        cross_entropy_forward_and_backward=lambda t: both(t),
        **{f"{name}{'_backward' * back}": functools.partial(lambda t, name, back: pair(t, name, back), name=name,
                                                            back=back)
           for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
                        "binary_cross_entropy_with_logits") for back in (False, True)},
        kl_div=lambda t: pair(t, "kl_div", False, reduction="sum"))

# --- optimizers, over the parameters of ResNet-50 ----------------------------------------------------

def parameters(t: Tools) -> list[Any]:
    """Parameters with gradients."""
    shapes: list[tuple[int, ...]] = []
    for layer, count in layers("resnet50").items():
        shapes += [(layer.O, layer.C // layer.groups, layer.kernel, layer.kernel), (layer.O,), (layer.O,)] * count
    shapes += [(1000, 2048), (1000,)]
    if t.small:
        shapes = [(3, 4, 2, 2), (5,), (40,)]
    found = []
    for shape in shapes:
        p = t.normal(*shape, grad=True)
        p.grad = t.normal(*shape) * 0.01
        found.append(p)
    return found


def optimizer(t: Tools, name: str, moved: int, **how: Any) -> Any:
    given = parameters(t)
    made = getattr(t.lib.optim, name)(given, lr=1e-3, **how)
    return made.step, moved * sum([p.numel() for p in given])


def clip(t: Tools) -> Any:
    given = parameters(t)
    return (lambda: t.lib.nn.utils.clip_grad_norm_(given, 1e9, foreach=True)), 3 * sum([p.numel() for p in given])


def unscale(t: Tools) -> Any:
    given = parameters(t)
    made = t.lib.optim.SGD(given, lr=1e-3)
    scaler = t.lib.amp.GradScaler("cuda")
    one, found = (t.lib.full((), value, device="cuda", dtype=t.lib.float32) for value in (1.0, 0.0))
    return (lambda: scaler._unscale_grads_(made, one, found, False)), 2 * sum([p.numel() for p in given])


entries("optimizer", ("fp32",),
        SGD=lambda t: optimizer(t, "SGD", 3, fused=True),
        SGD_momentum=lambda t: optimizer(t, "SGD", 5, momentum=0.9, weight_decay=1e-4, fused=True),
        Adam=lambda t: optimizer(t, "Adam", 7, fused=True, capturable=True),
        AdamW=lambda t: optimizer(t, "AdamW", 7, fused=True, capturable=True),
        AdamW_foreach=lambda t: optimizer(t, "AdamW", 7, foreach=True, capturable=True),
        RMSprop=lambda t: optimizer(t, "RMSprop", 5, foreach=True, capturable=True),
        LARS=lambda t: optimizer(t, "LARS", 6, momentum=0.9), clip_grad_norm=lambda t: clip(t),
        unscale_and_check=lambda t: unscale(t))

# --- sort, index, copies, random numbers --------------------------------------------------------------

def rows_of(t: Tools, f: Callable[..., Any], moved: float, rows: int, columns: int) -> Any:
    x = t.normal(4, 40) if t.small else t.normal(rows, columns)
    return lambda: f(x), moved * x.numel()


entries("sort",
        sort_rows=lambda t: rows_of(t, lambda a: a.sort(1), 2 + 8 / t.size, 16384, 1024),
        sort_all=lambda t: rows_of(t, lambda a: a.reshape(-1).sort(), 2 + 8 / t.size, 1, 1 << 22),
        topk_5_of_1000=lambda t: rows_of(t, lambda a: a.topk(5, 1), 1, 16384, 1000),
        topk_50_of_50257=lambda t: rows_of(t, lambda a: a.topk(min(50, a.shape[1]), 1), 1, 512, 50257),
        kthvalue=lambda t: rows_of(t, lambda a: a.kthvalue(3, 1), 1, 16384, 1024),
        searchsorted=lambda t: search(t))


def search(t: Tools) -> Any:
    edges = t.lib.linspace(-3, 3, 1000, device="cuda").to(t.dtype)
    x = t.normal(t.n)
    return lambda: t.lib.searchsorted(edges, x), t.n * (1 + 8 / t.size)


def index(t: Tools, how: str) -> Any:
    x = t.normal(t.rows, t.columns)
    i = t.whole(t.rows, high=t.rows)
    j = t.whole(t.rows, t.columns, high=t.columns)
    size = t.rows * t.columns
    if how == "index_select":
        return lambda: x.index_select(0, i), 2 * size
    if how == "gather":
        return lambda: x.gather(1, j), size * (2 + 8 / t.size)
    if how == "scatter_add":
        return lambda: t.lib.zeros_like(x).scatter_add_(1, j, x), size * (2 + 8 / t.size)
    if how == "index_add":
        return lambda: t.lib.zeros_like(x).index_add_(0, i, x), 2 * size
    if how == "masked_fill":
        m = x > 0
        return lambda: x.masked_fill(m, 0.0), size * (2 + 1 / t.size)
    return lambda: t.F.one_hot(i, 1000), t.rows * 1008 * 8 / t.size


def embedding(t: Tools, back: bool) -> Any:
    words, width, tokens = (50, 16, 20) if t.small else (50257, 1024, 32768)
    weight = t.normal(words, width, grad=back)
    i = t.whole(tokens, high=words)
    if back:
        return t.backward(t.F.embedding(i, weight), [weight]), (tokens + words) * width
    return lambda: t.F.embedding(i, weight), 2 * tokens * width


entries("index", embedding=lambda t: embedding(t, False), embedding_backward=lambda t: embedding(t, True),
        **{how: functools.partial(lambda t, how: index(t, how), how=how)
           for how in ("index_select", "gather", "scatter_add", "index_add", "masked_fill", "one_hot")})


def layout(t: Tools, to_last: bool) -> Any:
    shape = (2, 8, 5, 6) if t.small else (64, 256, 56, 56)
    x = t.normal(*shape) if to_last else t.image(*shape)
    form = t.lib.channels_last if to_last else t.lib.contiguous_format
    return lambda: x.contiguous(memory_format=form), 2 * x.numel()


entries("copy",
        copy=lambda t: flat(t, lambda x, y: y.copy_(x), 2, 2),
        transposed=lambda t: matrix(t, lambda a: a.t().contiguous()),
        permuted=lambda t: permuted(t), to_channels_last=lambda t: layout(t, True),
        to_contiguous=lambda t: layout(t, False), cat_rows=lambda t: matrix(t, lambda a: t.lib.cat([a, a]), 4),
        cat_columns=lambda t: matrix(t, lambda a: t.lib.cat([a, a], 1), 4),
        flip=lambda t: matrix(t, lambda a: a.flip(1)), roll=lambda t: matrix(t, lambda a: a.roll(7, 1)),
        every_other=lambda t: matrix(t, lambda a: a[:, ::2].contiguous(), 1.5),
        pad=lambda t: padded(t, "constant"), pad_reflect=lambda t: padded(t, "reflect"),
        tril=lambda t: matrix(t, lambda a: a.tril()), fill=lambda t: flat(t, lambda x: x.fill_(1), moved=1))


def permuted(t: Tools) -> Any:
    x = t.normal(2, 3, 4, 5) if t.small else t.normal(32, 1024, 16, 128)
    return lambda: x.permute(0, 2, 1, 3).contiguous(), 2 * x.numel()


def padded(t: Tools, mode: str) -> Any:
    x = t.normal(2, 3, 8, 8) if t.small else t.normal(64, 64, 112, 112)
    return lambda: t.F.pad(x, (1, 1, 1, 1), mode), 2 * x.numel()


entries("random", normal=lambda t: flat(t, lambda x: x.normal_(), moved=1),
        uniform=lambda t: flat(t, lambda x: x.uniform_(), moved=1),
        bernoulli=lambda t: flat(t, lambda x: x.bernoulli_(0.5), moved=1),
        dropout=lambda t: flat(t, lambda x: t.F.dropout(x, 0.5)),
        dropout_backward=lambda t: backward(t, lambda x: t.F.dropout(x, 0.5), t.normal(t.n, grad=True), moved=2))

# --- pooling, resampling ------------------------------------------------------------------------------

def pooled(t: Tools, f: Callable[..., Any], back: bool, shape: tuple[int, ...] = (64, 64, 112, 112)) -> Any:
    x = t.image(*((2, 8, 8, 8) if t.small else shape), grad=back)
    if back:
        out = f(x)
        return t.backward(out, [x]), x.numel() + out.numel()
    out = f(x).numel()
    return lambda: f(x), x.numel() + out


for _name, _f, _shape in (
        ("max_pool_3_2", lambda t: lambda x: t.F.max_pool2d(x, 3, 2, 1), (64, 64, 112, 112)),
        ("max_pool_2", lambda t: lambda x: t.F.max_pool2d(x, 2), (64, 64, 112, 112)),
        ("avg_pool_2", lambda t: lambda x: t.F.avg_pool2d(x, 2), (64, 64, 112, 112)),
        ("adaptive_avg_pool_1", lambda t: lambda x: t.F.adaptive_avg_pool2d(x, 1), (256, 2048, 7, 7)),
        ("adaptive_avg_pool_7", lambda t: lambda x: t.F.adaptive_avg_pool2d(x, 7), (64, 512, 28, 28))):
    entries("pool", **{_name + "_backward" * b: functools.partial(
        lambda t, f, b, shape: pooled(t, f(t), b, shape), f=_f, b=b, shape=_shape) for b in (False, True)})

for _mode in ("nearest", "bilinear", "bicubic"):
    entries("resample", **{f"interpolate_{_mode}" + "_backward" * b: functools.partial(
        lambda t, mode, b: pooled(t, lambda x: t.F.interpolate(x, scale_factor=2, mode=mode), b, (64, 64, 56, 56)),
        mode=_mode, b=b) for b in (False, True)})


def resized(t: Tools, mode: str) -> Any:
    """Photographs to 224 pixels."""
    x = t.image(*((2, 3, 20, 24) if t.small else (64, 3, 480, 640)))
    size = (9, 9) if t.small else (224, 224)
    return lambda: t.F.interpolate(x, size, mode=mode, antialias=True), x.numel() + 64 * 3 * 224 * 224


def sampled(t: Tools, back: bool) -> Any:
    n, c, h = (2, 4, 6) if t.small else (32, 64, 112)
    x, grid = t.image(n, c, h, h, grad=back), t.lib.rand(n, h, h, 2, device="cuda").to(t.dtype) * 2 - 1
    grid.requires_grad_(back)
    if back:
        return t.backward(t.F.grid_sample(x, grid, align_corners=False), [x, grid]), 3 * x.numel()
    return lambda: t.F.grid_sample(x, grid, align_corners=False), 2 * x.numel()


entries("resample", interpolate_antialias=lambda t: resized(t, "bilinear"),
        interpolate_antialias_bicubic=lambda t: resized(t, "bicubic"), grid_sample=lambda t: sampled(t, False),
        grid_sample_backward=lambda t: sampled(t, True))

# --- attention ------------------------------------------------------------------------------------------

def attention(t: Tools, length: int, width: int, causal: bool, back: bool, mask: bool = False) -> Work:
    batch, heads = (1, 2) if t.small else (max(1, 16384 // length), 2048 // width)
    length = 40 if t.small else length
    q, k, v = (t.normal(batch, heads, length, width, grad=back) for _ in range(3))
    m = t.normal(length, length) if mask else None

    def f() -> Any:
        return t.F.scaled_dot_product_attention(q, k, v, m, is_causal=causal)

    products = 2.0 * batch * heads * length * length * width * (0.5 if causal else 1.0)
    if back:
        return Work(t.backward(f(), [q, k, v]), 8 * q.numel() * t.size, 5 * products)
    return Work(f, 4 * q.numel() * t.size, 2 * products)


for _dtype in ("bf16", "fp16", "fp32"):
    for _length, _width, _causal in ((512, 64, False), (2048, 64, False), (2048, 128, False), (2048, 128, True),
                                     (8192, 128, True)):
        for _back in (False, True):
            if _dtype == "bf16" or (_length, _width, _causal) == (2048, 128, False):
                ENTRIES.append(Entry(
                    f"attention{' backward' * _back} {_length}x{_width}{' causal' * _causal} {_dtype}",
                    "attention backward" if _back else "attention", functools.partial(
                        attention, length=_length, width=_width, causal=_causal, back=_back), _dtype))
ENTRIES.append(Entry("attention mask 2048x64 bf16", "attention", functools.partial(
    attention, length=2048, width=64, causal=False, back=False, mask=True), "bf16"))

# --- many small ones: what the host costs is not in here, but the device's pauses are -----------------

def tiny(t: Tools, f: Callable[..., Any], *shape: int) -> Any:
    x = t.normal(*shape)
    return lambda: f(x), 2 * x.numel()


def tiny_loss(t: Tools) -> Any:
    x, y = t.normal(64, 10), t.whole(64, high=10)
    return lambda: t.F.cross_entropy(x, y), x.numel()


entries("tiny", ("fp32",), add_of_1000=lambda t: tiny(t, lambda x: x + x, 1000),
        sum_of_1000=lambda t: tiny(t, lambda x: x.sum(), 1000),
        softmax_64x10=lambda t: tiny(t, lambda x: x.softmax(1), 64, 10), cross_entropy_64x10=lambda t: tiny_loss(t))

if __name__ == "__main__":
    sys.exit(main(__doc__, ENTRIES))
