"""A sample of every operation: one line of code that runs it, over the inputs that ``inputs`` makes.

A name that is no key here is an alias or in-place form of one (``also_named``), or is in ``NO_OPERATION``. What begins
with ``F.`` is of ``nn.functional``, ``linalg.`` of ``linalg``, ``.`` is a method that is no function.
"""
from __future__ import annotations

from typing import Any

import numpy as np


def inputs(torch: Any, device: str) -> dict[str, Any]:
    """The names that samples use; floating point tensors are float64 leaves that ask for gradients."""
    rng = np.random.default_rng(7)

    def real(*shape: int, low: float = -2.0, high: float = 2.0) -> Any:
        return torch.tensor(rng.uniform(low, high, shape), dtype=torch.float64, device=device, requires_grad=True)

    def whole(*shape: int, high: int, low: int = 0) -> Any:
        return torch.tensor(rng.integers(low, high, shape), device=device)

    return {
        "x": real(3, 4), "y": real(3, 4), "z": real(3, 4), "p": real(3, 4, low=0.2, high=1.8), "row": real(4),
        "prob": real(3, 4, low=0.1, high=0.9), "t01": real(3, 4, low=0.1, high=0.9), "big": real(3, 4, low=1.2, high=3),
        "sign": torch.tensor([[1.0, -1, 1, -1]] * 3, dtype=torch.float64, device=device),
        "q": real(5), "r": real(5), "A": real(3, 4), "B": real(4, 5), "C": real(3, 5), "sq": real(4, 4), "v4": real(4),
        "v5": real(5), "v3": real(3), "S": real(2, 3, 4), "T": real(2, 4, 5), "U": real(2, 3, 5), "one": real(),
        "i": whole(3, 4, high=3), "j": whole(3, 4, high=12), "k": torch.tensor([2, 0], device=device),
        "m": torch.tensor(rng.random((3, 4)) < 0.5, device=device), "n": whole(3, 4, low=1, high=9),
        "o": whole(3, 4, low=1, high=5), "cls": torch.tensor([1, 3, 0], device=device),
        "m2": torch.tensor(rng.random((3, 4)) < 0.5, device=device), "sorted": torch.tensor(
            np.sort(rng.uniform(-2, 2, 6)), device=device), "rising": real(3, 4, low=0.1, high=1.0),
        "sig": real(2, 4, 9), "img": real(2, 4, 6, 6), "vol": real(2, 2, 4, 5, 4), "flow": real(2, 5, 5, 2, low=-1, high=1),
        "flow3": real(2, 3, 3, 3, 3, low=-1, high=1), "theta": real(2, 2, 3), "theta3": real(2, 3, 4),
        "w1": real(6, 2, 3), "w2": real(6, 2, 3, 3), "w3": real(4, 1, 2, 3, 2), "b6": real(6), "b4": real(4),
        "t1": real(4, 3, 3), "t2": real(4, 3, 3, 3), "t3": real(2, 3, 2, 3, 2), "g4": real(4), "s4": real(4, low=0.5, high=1.5),
        "mean4": torch.tensor(rng.uniform(-1, 1, 4), device=device),
        "var4": torch.tensor(rng.uniform(0.5, 1, 4), device=device), "table": real(6, 3), "biw": real(3, 4, 5),
        "query": real(2, 2, 5, 4), "keys": real(2, 2, 6, 4), "values": real(2, 2, 6, 3), "bias": real(5, 6),
    }


# --- one line for each of many ----------------------------------------------------------------------

UNARY = {name: f"torch.{name}({over})" for over, names in {
    "x": "abs asinh atan ceil cos cosh deg2rad erf erfc exp exp2 expm1 floor frac isfinite isinf isnan isneginf isposinf "
         "logical_not nan_to_num neg positive rad2deg reciprocal relu round sgn sigmoid sign signbit sin sinc sinh "
         "square tan tanh trunc real conj",
    "p": "digamma lgamma log log10 log1p log2 rsqrt sqrt",
    "prob": "acos asin atanh erfinv logit", "big": "acosh", "n": "bitwise_not"}.items() for name in names.split()}
BINARY = {name: f"torch.{name}({over})" for over, names in {
    "x, y": "add atan2 copysign eq fmax fmin ge gt hypot isclose le logaddexp logaddexp2 lt maximum minimum mul ne "
            "nextafter rsub sub",
    "x, row": "div fmod remainder", "x.detach(), row.detach()": "floor_divide heaviside", "x, o": "ldexp", "p, y": "pow float_power xlogy",
    "n, o": "bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor gcd lcm",
    "m, m2": "logical_and logical_or logical_xor"}.items() for name in names.split()}
FUNCTIONAL = {f"F.{name}": f"F.{name}(x)" for name in
              "celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6 selu silu softplus "
              "softshrink softsign tanhshrink".split()}

# --- the families -----------------------------------------------------------------------------------

SAMPLES: dict[str, dict[str, str]] = {
    "pointwise": {
        **UNARY, **BINARY,
        "addcdiv": "torch.addcdiv(x, y, p, value=0.5)", "addcmul": "torch.addcmul(x, y, z, value=0.5)",
        "clamp": "torch.clamp(x, -0.5, y)", "clamp_max": "torch.clamp_max(x, 0.5)", "clamp_min": "torch.clamp_min(x, y)",
        "lerp": "torch.lerp(x, y, prob)", "polygamma": "torch.polygamma(1, p)", "where": "torch.where(m, x, y)",
        "allclose": "torch.tensor(torch.allclose(x, x))", "equal": "torch.tensor(torch.equal(x, x))",
        ".__rpow__": "2.0 ** x", ".__rtruediv__": "2.0 / p"},
    "activation": {
        **FUNCTIONAL, "F.glu": "F.glu(x)", "prelu": "F.prelu(img, g4)", "threshold": "F.threshold(x, 0.1, 20.0)",
        "F.rrelu": "F.rrelu(x)", "F.rrelu, training": "F.rrelu(x, training=True)"},
    "reduce": {
        "all": "torch.all(m, 1)", "any": "torch.any(m, 1)", "amax": "torch.amax(x, 1)", "amin": "torch.amin(x, (0, 1))",
        "aminmax": "torch.aminmax(x, dim=1)", "argmax": "torch.argmax(x, 1)", "argmin": "torch.argmin(x, 1)",
        "count_nonzero": "torch.count_nonzero(n, 0)", "dist": "torch.dist(x, y)", "linalg.norm": "linalg.norm(x)",
        "linalg.vector_norm": "linalg.vector_norm(x, 3, 1)", "max": "torch.max(x, 1)", "mean": "torch.mean(x, 0)",
        "min": "torch.min(x, 1)", "nanmean": "torch.nanmean(x, 1)", "nansum": "torch.nansum(x, 1)",
        "norm": "torch.norm(x, 2, 1)", "prod": "torch.prod(x, 1)", "std": "torch.std(x, 1)",
        "std_mean": "torch.std_mean(x, 1)", "sum": "torch.sum(x, 1)", "var": "torch.var(x, 1)",
        "var_mean": "torch.var_mean(x, 1)", ".sum_to_size": "x.sum_to_size(1, 4)",
        "F.cosine_similarity": "F.cosine_similarity(x, y)", "F.normalize": "F.normalize(x)",
        "F.pairwise_distance": "F.pairwise_distance(x, y)", "trapezoid": "torch.trapezoid(x, p)"},
    "scan": {
        "cummax": "torch.cummax(x, 1)", "cummin": "torch.cummin(x, 1)", "cumprod": "torch.cumprod(x, 1)",
        "cumsum": "torch.cumsum(x, 1)", "cumulative_trapezoid": "torch.cumulative_trapezoid(x)",
        "diff": "torch.diff(x)", "logcumsumexp": "torch.logcumsumexp(x, 1)"},
    "softmax": {
        "log_softmax": "torch.log_softmax(x, 1)", "logsumexp": "torch.logsumexp(x, 0)", "softmax": "torch.softmax(x, 0)",
        "F.softmin": "F.softmin(x, 1)"},
    "matmul": {
        "addbmm": "torch.addbmm(C, S, T)", "addmm": "torch.addmm(C, A, B, beta=0.5)", "addmv": "torch.addmv(v3, A, v4)",
        "addr": "torch.addr(x, v3, v4)", "baddbmm": "torch.baddbmm(U, S, T)", "bmm": "torch.bmm(S, T)",
        "chain_matmul": "torch.chain_matmul(A, B, C.t())", "dot": "torch.dot(q, r)",
        "einsum": "torch.einsum('bij,bjk->bk', S, T)", "inner": "torch.inner(x, y)", "kron": "torch.kron(x, sq)",
        "linear": "F.linear(A, B.t(), v5)", "matmul": "torch.matmul(S, T)",
        "linalg.matmul": "linalg.matmul(A, B)", "linalg.multi_dot": "linalg.multi_dot([A, B, C.t()])",
        "mm": "torch.mm(A, B)", "mv": "torch.mv(A, v4)", "outer": "torch.outer(q, r)",
        "tensordot": "torch.tensordot(x, y, dims=([1], [1]))", "vdot": "torch.vdot(q, r)",
        "F.bilinear": "F.bilinear(x[:, :3], y, biw.permute(2, 0, 1), v5)"},
    "conv": {
        "conv1d": "torch.conv1d(sig, w1, b6, stride=2, padding=1, groups=2)",
        "conv2d": "torch.conv2d(img, w2, b6, stride=2, padding=1, groups=2)",
        "conv3d": "F.conv3d(vol, w3, b4, stride=(1, 2, 1), padding=1, groups=2)",
        "conv_transpose1d": "torch.conv_transpose1d(sig, t1, stride=2)",
        "conv_transpose2d": "torch.conv_transpose2d(img, t2, stride=2, padding=1, output_padding=1)",
        "conv_transpose3d": "F.conv_transpose3d(vol, t3, stride=(1, 2, 1))"},
    "pool": {
        "adaptive_avg_pool1d": "F.adaptive_avg_pool1d(sig, 4)", "F.adaptive_avg_pool2d": "F.adaptive_avg_pool2d(img, (4, 5))",
        "F.adaptive_avg_pool3d": "F.adaptive_avg_pool3d(vol, (3, 2, 2))",
        "adaptive_max_pool1d": "F.adaptive_max_pool1d(sig, 4)", "F.adaptive_max_pool2d": "F.adaptive_max_pool2d(img, (4, 5))",
        "F.adaptive_max_pool3d": "F.adaptive_max_pool3d(vol, (3, 2, 2))",
        "avg_pool1d": "F.avg_pool1d(sig, 3, 2)", "F.avg_pool2d": "F.avg_pool2d(img, 3, 2, 1)",
        "F.avg_pool3d": "F.avg_pool3d(vol, 2)", "F.lp_pool1d": "F.lp_pool1d(sig, 3, 2)",
        "F.lp_pool2d": "F.lp_pool2d(img, 3, 2)", "F.lp_pool3d": "F.lp_pool3d(vol, 3, 2)",
        "max_pool1d": "F.max_pool1d(sig, 3, 2)", "max_pool2d": "F.max_pool2d(img, 3, 2, 1)",
        "F.max_pool3d": "F.max_pool3d(vol, 2)",
        "F.max_unpool1d": "F.max_unpool1d(*F.max_pool1d(sig, 3, return_indices=True), 3)",
        "F.max_unpool2d": "F.max_unpool2d(*F.max_pool2d(img, 2, return_indices=True), 2)",
        "F.max_unpool3d": "F.max_unpool3d(*F.max_pool3d(vol, 2, return_indices=True), 2, output_size=(4, 5, 4))"},
    "norm": {
        "F.batch_norm": "F.batch_norm(img, None, None, s4, g4, training=True)",
        "F.batch_norm, evaluation": "F.batch_norm(img, mean4, var4, s4, g4)",
        "group_norm": "F.group_norm(img, 2, s4, g4)", "F.instance_norm": "F.instance_norm(img, weight=s4, bias=g4)",
        "layer_norm": "F.layer_norm(x, (4,), s4, g4)", "rms_norm": "F.rms_norm(x, (4,), s4)"},
    "loss": {
        "F.binary_cross_entropy": "F.binary_cross_entropy(prob, t01)",
        "binary_cross_entropy_with_logits": "F.binary_cross_entropy_with_logits(x, t01, p.detach(), pos_weight=s4.detach())",
        "F.cosine_embedding_loss": "F.cosine_embedding_loss(x, y, sign[0, :3])",
        "F.cross_entropy": "F.cross_entropy(x, cls, s4.detach(), label_smoothing=0.1)",
        "F.cross_entropy, probabilities": "F.cross_entropy(x, t01)", "F.huber_loss": "F.huber_loss(x, y)",
        "kl_div": "F.kl_div(x, t01, reduction='batchmean')", "F.l1_loss": "F.l1_loss(x, y)",
        "F.gaussian_nll_loss": "F.gaussian_nll_loss(x, y, p)", "F.hinge_embedding_loss": "F.hinge_embedding_loss(x, sign)",
        "F.poisson_nll_loss": "F.poisson_nll_loss(x, p)", "F.soft_margin_loss": "F.soft_margin_loss(x, sign)",
        "F.margin_ranking_loss": "F.margin_ranking_loss(x, y, sign)", "F.mse_loss": "F.mse_loss(x, y)",
        "nll_loss": "F.nll_loss(x, cls)", "F.smooth_l1_loss": "F.smooth_l1_loss(x, y)",
        "F.triplet_margin_loss": "F.triplet_margin_loss(x, y, z)"},
    "embedding": {"F.embedding": "F.embedding(i, table, padding_idx=1)", "F.one_hot": "F.one_hot(cls, 5)"},
    "index": {
        "argwhere": "torch.argwhere(m)", "gather": "torch.gather(x, 0, i)", "index_add": "torch.index_add(x, 0, k, y[:2])",
        "index_copy": "torch.index_copy(x, 0, k, y[:2])", "index_fill": "torch.index_fill(x, 0, k, 1.5)",
        "index_put": "torch.index_put(x, (k, k), v4[:2], accumulate=True)",
        "index_select": "torch.index_select(x, 0, k)", "masked_fill": "torch.masked_fill(x, m, 0.5)",
        "masked_scatter": "torch.masked_scatter(x, m, y)", "masked_select": "torch.masked_select(x, m)",
        "nonzero": "torch.nonzero(m)", "put": "torch.put(x, j[0], y[0], accumulate=True)",
        "scatter": "torch.scatter(x, 0, torch.argsort(z, 0), y)", "scatter_add": "torch.scatter_add(x, 0, i, y)",
        "scatter_reduce": "torch.scatter_reduce(x, 0, i, y, 'prod')", "take": "torch.take(x, j)",
        "take_along_dim": "torch.take_along_dim(x, i, 0)", ".__getitem__": "x[k, 1:, None]",
        ".__setitem__": "set_item(x * 1, (k, 0), 2.5)", "diagonal_scatter": "torch.diagonal_scatter(x, v3)",
        "select_scatter": "torch.select_scatter(x, row, 0, 1)", "slice_scatter": "torch.slice_scatter(x, y[:2], 0, 1)"},
    "sort": {
        "argsort": "torch.argsort(x, 1)", "bincount": "torch.bincount(j.flatten(), minlength=15)",
        "bucketize": "torch.bucketize(x, sorted)", "histc": "torch.histc(x.detach(), 5)", "isin": "torch.isin(n, o)",
        "kthvalue": "torch.kthvalue(x, 2)", "median": "torch.median(x, 1)", "mode": "torch.mode(x, 1)",
        "msort": "torch.msort(x)", "nanmedian": "torch.nanmedian(x, 1)", "nanquantile": "torch.nanquantile(x, 0.3, 1)",
        "quantile": "torch.quantile(x, 0.3, 1)", "searchsorted": "torch.searchsorted(sorted, q)", "sort": "torch.sort(x, 1)",
        "topk": "torch.topk(x, 2)", "unique": "torch.unique(n)", "unique_consecutive": "torch.unique_consecutive(n[0])"},
    "random": {
        "alpha_dropout": "F.alpha_dropout(x, 0.4, training=True)", "bernoulli": "torch.bernoulli(prob)",
        ".bernoulli_": "(x * 1).bernoulli_(0.3)", ".cauchy_": "x.detach().cauchy_()", "dropout": "F.dropout(x, 0.4)",
        "F.dropout1d": "F.dropout1d(sig, 0.4)", "F.dropout2d": "F.dropout2d(img, 0.4)", "F.dropout3d": "F.dropout3d(vol, 0.4)",
        ".exponential_": "x.detach().exponential_()",
        "feature_alpha_dropout": "F.feature_alpha_dropout(img, 0.4, training=True)",
        "feature_dropout": "torch.feature_dropout(img, 0.4, True)", ".geometric_": "x.detach().geometric_(0.4)",
        ".log_normal_": "x.detach().log_normal_()", "multinomial": "torch.multinomial(prob.detach(), 2)",
        "normal": "torch.normal(x.detach(), p.detach())", ".normal_": "x.detach().normal_()",
        "rand": "torch.rand(3, 4, device=x.device)", "rand_like": "torch.rand_like(x)",
        "randint": "torch.randint(0, 9, (3, 4), device=x.device)", "randint_like": "torch.randint_like(x, 9)",
        "randn": "torch.randn(3, 4, device=x.device)", "randn_like": "torch.randn_like(x)", ".random_": "x.detach().random_(9)",
        "randperm": "torch.randperm(9, device=x.device)", ".uniform_": "x.detach().uniform_()"},
    "copy": {
        "block_diag": "torch.block_diag(x, sq)", "cartesian_prod": "torch.cartesian_prod(q, r)", "cat": "torch.cat([x, y], 1)",
        "channel_shuffle": "F.channel_shuffle(img, 2)", "clone": "torch.clone(x)", "column_stack": "torch.column_stack([x, y])",
        "combinations": "torch.combinations(q)", ".contiguous": "x.t().contiguous()", ".copy_": "(x * 1).copy_(row)",
        "diag": "torch.diag(q)", "diag_embed": "torch.diag_embed(x)", "diagflat": "torch.diagflat(q)",
        "dstack": "torch.dstack([x, y])", ".fill_": "(x * 1).fill_(one)", "flip": "torch.flip(x, (0, 1))",
        "fliplr": "torch.fliplr(x)", "flipud": "torch.flipud(x)", "hstack": "torch.hstack([x, y])",
        "F.pad": "F.pad(x, (1, 2, 0, 1), value=0.5)", "F.pad, reflect": "F.pad(img, (1, 2, 2, 1), 'reflect')",
        "F.pad, replicate": "F.pad(img, (1, 2, 2, 1), 'replicate')", "F.pad, circular": "F.pad(img, (1, 2, 2, 1), 'circular')",
        "pixel_shuffle": "F.pixel_shuffle(img, 2)", "pixel_unshuffle": "F.pixel_unshuffle(img, 2)",
        ".repeat": "x.repeat(2, 1)", "repeat_interleave": "torch.repeat_interleave(x, 2, 1)", "roll": "torch.roll(x, 1, 0)",
        "rot90": "torch.rot90(x)", "stack": "torch.stack([x, y], 1)", "tile": "torch.tile(x, (2, 2))",
        ".to": "x.to(torch.float32)", ".to, channels_last": "img.to(memory_format=torch.channels_last)",
        "trace": "torch.trace(sq)", "tril": "torch.tril(x)", "triu": "torch.triu(x)", "vander": "torch.vander(q, 3)",
        "vstack": "torch.vstack([x, y])", ".zero_": "(x * 1).zero_()", "meshgrid": "torch.meshgrid(q, r, indexing='ij')",
        "tril_indices": "torch.tril_indices(3, 4, device=x.device)", "triu_indices": "torch.triu_indices(3, 4, device=x.device)",
        "arange": "torch.arange(0, 1, 0.1, device=x.device)", "linspace": "torch.linspace(0, 1, 7, device=x.device)",
        "logspace": "torch.logspace(0, 1, 7, device=x.device)", "eye": "torch.eye(3, device=x.device)",
        "full": "torch.full((3, 4), 0.5, device=x.device)", "full_like": "torch.full_like(x, 0.5)",
        "ones": "torch.ones(3, 4, device=x.device)", "ones_like": "torch.ones_like(x)", "zeros_like": "torch.zeros_like(x)",
        "zeros": "torch.zeros(3, 4, device=x.device)", "range": "torch.range(0, 3, device=x.device)"},
    "view": {
        "adjoint": "torch.adjoint(x)", "as_strided": "torch.as_strided(x, (2, 3), (1, 2), 1)",
        "atleast_1d": "torch.atleast_1d(one)", "atleast_2d": "torch.atleast_2d(q)", "atleast_3d": "torch.atleast_3d(x)",
        "broadcast_tensors": "torch.broadcast_tensors(x, row)", "broadcast_to": "torch.broadcast_to(row, (3, 4))",
        "chunk": "torch.chunk(x, 2, 1)", "detach": "torch.detach(x)", "diagonal": "torch.diagonal(x)",
        "linalg.diagonal": "linalg.diagonal(x)", "dsplit": "torch.dsplit(S, 2)", ".expand": "row.expand(3, 4)",
        ".expand_as": "row.expand_as(x)", "flatten": "torch.flatten(S)", "hsplit": "torch.hsplit(x, 2)",
        "moveaxis": "torch.moveaxis(S, 0, 1)", "movedim": "torch.movedim(S, 0, 1)", "narrow": "torch.narrow(x, 1, 1, 2)",
        "permute": "torch.permute(S, (2, 0, 1))", "ravel": "torch.ravel(x)", "reshape": "torch.reshape(x.t(), (2, 6))",
        ".reshape_as": "x.reshape_as(x.t())", "select": "torch.select(x, 1, 2)", "split": "torch.split(x, 3, 1)",
        "split_with_sizes": "torch.split_with_sizes(x, (1, 3), 1)", "squeeze": "torch.squeeze(x[:1])",
        "swapaxes": "torch.swapaxes(x, 0, 1)", "swapdims": "torch.swapdims(x, 0, 1)", "t": "torch.t(x)",
        "tensor_split": "torch.tensor_split(x, 3, 1)", "transpose": "torch.transpose(x, 0, 1)", "unbind": "torch.unbind(x)",
        "unflatten": "torch.unflatten(x, 1, (2, 2))", ".unfold": "x.unfold(1, 2, 1)", "unsqueeze": "torch.unsqueeze(x, 1)",
        ".view": "x.view(2, 6)", ".view_as": "x.view_as(y)", "vsplit": "torch.vsplit(x, 3)", ".T": "x.T", ".mT": "S.mT",
        ".H": "x.H", ".mH": "S.mH"},
    "resample": {
        "F.affine_grid": "F.affine_grid(theta, (2, 4, 3, 5), align_corners=False)",
        "F.affine_grid, 3-d": "F.affine_grid(theta3, (2, 4, 3, 2, 2), align_corners=True)",
        "F.grid_sample": "F.grid_sample(img, flow, align_corners=False)",
        "F.grid_sample, nearest": "F.grid_sample(img, flow, 'nearest', align_corners=True)",
        "F.grid_sample, bicubic": "F.grid_sample(img, flow, 'bicubic', 'reflection', align_corners=False)",
        "F.grid_sample, 3-d": "F.grid_sample(vol, flow3, padding_mode='border', align_corners=False)",
        "F.interpolate, nearest": "F.interpolate(img, 9)",
        "F.interpolate, nearest-exact": "F.interpolate(img, 9, mode='nearest-exact')",
        "F.interpolate, linear": "F.interpolate(sig, 7, mode='linear')",
        "F.interpolate, bilinear": "F.interpolate(img, scale_factor=1.7, mode='bilinear')",
        "F.interpolate, bilinear, antialias": "F.interpolate(img, (4, 4), mode='bilinear', antialias=True)",
        "F.interpolate, bicubic": "F.interpolate(img, (9, 4), mode='bicubic', align_corners=True)",
        "F.interpolate, bicubic, antialias": "F.interpolate(img, (4, 4), mode='bicubic', antialias=True)",
        "F.interpolate, trilinear": "F.interpolate(vol, (5, 4, 6), mode='trilinear')",
        "F.interpolate, area": "F.interpolate(img, 4, mode='area')"},
    "attention": {
        "F.scaled_dot_product_attention": "F.scaled_dot_product_attention(query, keys, values)",
        "F.scaled_dot_product_attention, causal": "F.scaled_dot_product_attention(query, keys, values, is_causal=True)",
        "F.scaled_dot_product_attention, mask": "F.scaled_dot_product_attention(query, keys, values, bias)",
        "F.scaled_dot_product_attention, dropout":
            "F.scaled_dot_product_attention(query, keys, values, dropout_p=0.3)"},
}
RANDOM = {*SAMPLES["random"], "F.rrelu, training", "F.scaled_dot_product_attention, dropout"}

SECOND_NAMES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "clip": "clamp", "concat": "cat", "concatenate": "cat", "divide": "div",
    "fix": "trunc", "ger": "outer", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "multiply": "mul", "negative": "neg", "not_equal": "ne", "row_stack": "vstack", "subtract": "sub", "trapz": "trapezoid",
    "true_divide": "div", "affine_grid_generator": "F.affine_grid", "grid_sampler": "F.grid_sample",
    "F.upsample": "F.interpolate, nearest", "F.upsample_nearest": "F.interpolate, nearest",
    "F.upsample_bilinear": "F.interpolate, bilinear"}
# functions and methods that compute nothing: they ask, set, make tensors of what is given, or move them
NO_OPERATION = set(
    """are_deterministic_algorithms_enabled as_tensor asarray autocast_decrement_nesting autocast_increment_nesting
    clear_autocast_cache get_autocast_cpu_dtype get_autocast_dtype get_autocast_gpu_dtype is_autocast_cache_enabled
    is_autocast_cpu_enabled is_autocast_enabled set_autocast_cache_enabled set_autocast_cpu_dtype set_autocast_cpu_enabled
    set_autocast_dtype set_autocast_enabled set_autocast_gpu_dtype broadcast_shapes can_cast compile complex empty empty_like
    empty_strided from_dlpack from_numpy frombuffer get_default_device get_default_dtype get_float32_matmul_precision
    get_num_threads get_rng_state imag initial_seed is_complex is_floating_point is_grad_enabled is_inference_mode_enabled
    is_nonzero is_storage is_tensor load manual_seed numel promote_types result_type save scalar_tensor seed
    set_default_device set_default_dtype set_default_tensor_type set_float32_matmul_precision set_num_threads
    set_printoptions set_rng_state tensor typename use_deterministic_algorithms view_as_complex view_as_real""".split())
