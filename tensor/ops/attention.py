"""Scaled dot-product attention: softmax(scale q k^T + mask) v.

One fused op computes it without the matrix of weights, and another its gradients. What the fused op does not take (head
dimensions above 256, in float32 and float64 above 128, on cuda), and what is asked for with ``SDPBackend.MATH``, is
made of products and a softmax. So is a backward that is itself recorded (create_graph): derivatives of every order
exist.
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""
from __future__ import annotations

import math
from typing import Any

from tritium.kernels import is_host, of
from tritium.tensor.autocast import amp
from tritium.tensor.creation import ones
from tritium.tensor.dtype import bool_, float32
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes
from tritium.tensor.ops.arguments import TYPE_NAMES, check_tensor, not_implemented
from tritium.tensor.ops.dropout import dropout as drop_elements
from tritium.tensor.random import stream_of
from tritium.tensor.tensor import Tensor

METHODS: list[str] = []
FUNCTIONS: list[str] = []

_Nothing = wrap(None)  # a mask that is absent: asks for no gradient


class Backends:
    """Which ways to compute attention are allowed. ``flash``, ``mem_efficient`` and ``cudnn`` all name the fused op;
    on the CPU ``flash`` alone does, as in PyTorch. ``priority`` and ``reduced_math`` are kept and have no effect."""

    __slots__ = ("cudnn", "flash", "math", "mem_efficient", "overrideable", "priority", "reduced_math")

    def __init__(self) -> None:
        self.flash = self.mem_efficient = self.math = self.cudnn = self.overrideable = True
        self.reduced_math = False
        self.priority = [1, 2, 0, 3, 4]

    def fused(self, host: bool) -> bool:
        """Whether the fused op may be used."""
        return self.flash or not host and (self.mem_efficient or self.cudnn)


backends = Backends()


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(scale q k^T + mask) v: (..., L, E), (..., S, E) and (..., S, Ev) to (..., L, Ev); batches broadcast.

    ``attn_mask`` broadcasts to (..., L, S): bool, True for what takes part, or numbers that are added to the scores;
    ``is_causal``: row i sees the columns up to i; ``dropout_p``: the probability with which a weight becomes 0 (also
    outside training); ``scale``: 1 / sqrt(E) if None; ``enable_gqa``: groups of query heads (dimension -3) share the
    heads of key and value. Rows that see nothing give 0.

    Raises RuntimeError for shapes and dtypes that do not fit, for a mask together with ``is_causal``, for a probability
    above 1, and where ``nn.attention.sdpa_kernel`` leaves no way to compute it."""
    if amp.on and (result := amp.run("scaled_dot_product_attention", scaled_dot_product_attention, query, key, value,
                                     attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)) is not None:
        return result
    _check(query, key, value, attn_mask, dropout_p, is_causal, scale)
    q, k, v = query._a, key._a, value._a
    host = is_host(q)
    fused = backends.fused(host)
    if not fused and not backends.math:
        raise RuntimeError("No viable backend for scaled_dot_product_attention was found. This is likely due to "
                           "turning off both the math kernel and the fused kernels.")
    if q.dtype.kind in "biu":
        raise RuntimeError(f"expected scalar type Float but found {value.dtype.title}")
    if q.dtype.kind == "c":
        raise not_implemented("softmax_lastdim_kernel_impl", q.dtype)
    if enable_gqa:
        key, value = _same_heads(query, key, value)
        k, v = key._a, value._a
    shared = enable_gqa and k.shape[-3] != q.shape[-3]
    factor = scale if scale is not None else 1.0 / math.sqrt(q.shape[-1]) if q.shape[-1] else 1.0
    batches = [a.shape[:-3] if shared else a.shape[:-2] for a in (q, k, v)]
    batch = batches[0] if batches[0] == batches[1] == batches[2] else broadcast_shapes(*batches)
    fits = q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2] and (
        batch == batches[0] or batch == broadcast_shapes(*batches[:2]))
    if fits and fused and max(q.shape[-1], v.shape[-1]) <= of(q).attention.widest(q.dtype):
        full = (*batch, q.shape[-3]) if shared else batch
        if attn_mask is None or _fits(attn_mask._a.shape, (*full, q.shape[-2], k.shape[-2])):
            return _fused(query, key, value, attn_mask, dropout_p, is_causal, factor, batch, shared)
    if not backends.math and fits:
        raise RuntimeError("No available kernel. Aborting execution.")
    if shared:
        key, value = (x.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for x in (key, value))
    return _composed(query, key, value, attn_mask, dropout_p, is_causal, factor)


# --- arguments ------------------------------------------------------------------------------------

def _check(query: Any, key: Any, value: Any, mask: Any, p: Any, causal: Any, scale: Any) -> None:
    name = "scaled_dot_product_attention"
    for i, (argument, x) in enumerate((("query", query), ("key", key), ("value", value), ("attn_mask", mask))):
        if i < 3 or x is not None:
            check_tensor(name, argument, i + 1, x)
    if type(p) is not float and (isinstance(p, (str, bytes)) or not hasattr(p, "__float__")):
        raise TypeError(f"{name}(): argument 'dropout_p' (position 5) must be float, not {type(p).__name__}")
    if not isinstance(causal, bool):
        raise TypeError(f"{name}(): argument 'is_causal' (position 6) must be bool, not {type(causal).__name__}")
    if scale is not None and not hasattr(scale, "__float__"):
        raise TypeError(f"{name}(): argument 'scale' must be float, not {type(scale).__name__}")
    q, k, v = query._a, key._a, value._a
    if not q.dtype == k.dtype == v.dtype:
        words = [TYPE_NAMES[x.dtype.name] for x in (query, key, value)]
        raise RuntimeError(f"Expected query, key, and value to have the same dtype, but got query.dtype: {words[0]} "
                           f"key.dtype: {words[1]} and value.dtype: {words[2]} instead.")
    if query.device != key.device or query.device != value.device:
        raise RuntimeError("Expected query, key, and value to have the same device type, but got query.device: "
                           f"{query.device} key.device: {key.device} and value.device: {value.device} instead.")
    if q.ndim < 2 or k.ndim < 2 or v.ndim < 2:
        raise RuntimeError("Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: "
                           f"{q.ndim} key.dim: {k.ndim} and value.dim: {v.ndim} instead.")
    if mask is not None:
        m = mask.dtype
        if m is not bool_ and m is not query.dtype and m is not float32:
            raise RuntimeError("Expected attn_mask dtype to be bool or float or to match query dtype, but got "
                               f"attn_mask.dtype: {TYPE_NAMES[m.name]} and  query.dtype: "
                               f"{TYPE_NAMES[query.dtype.name]} instead.")
        if mask.device != query.device:
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                               f"{query.device} and {mask.device}!")
        if causal:
            raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when "
                               "is_causal=True")
    if p > 1.0:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")


def _same_heads(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Key and value of one number of heads; it divides the query's. Raises RuntimeError for numbers that do not."""
    for x in (query, key, value):
        if x._a.ndim < 3:
            raise IndexError("Dimension out of range (expected to be in range of [-2, 1], but got -3)")
    heads, few, other = (x._a.shape[-3] for x in (query, key, value))
    if not few or not other or heads % few or heads % other:
        raise RuntimeError("Number of heads in key and value must divide the number of heads in ")
    if few != other:
        key, value = key.repeat_interleave(heads // few, -3), value.repeat_interleave(heads // other, -3)
    return key, value


def _fits(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether a mask broadcasts to the weights."""
    extra = len(full) - len(shape)
    return extra >= 0 and all(n == 1 or n == m for n, m in zip(shape, full[extra:], strict=True))


# --- fused ----------------------------------------------------------------------------------------

def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float, causal: bool, scale: float,
           batch: tuple[int, ...], shared: bool) -> Tensor:
    """The fused op, after making batches of one shape and of two dimensions at most. ``batch``: without the heads that
    are ``shared``."""
    tensors = [x if x._a.shape[:len(batch)] == batch and x._a.ndim == len(batch) + (3 if shared else 2) else
               x.expand(*batch, *x._a.shape[-3 if shared else -2:]) for x in (query, key, value)]
    full = tensors[0]._a.shape[:-2]
    if len(full) > 2:
        count = math.prod(full[:-1])
        if mask is not None and mask._a.ndim > 3:
            mask = mask.expand(*full[:-1], *mask._a.shape[-3:]).reshape(count, *mask._a.shape[-3:])
        tensors = [x.reshape(count, *x._a.shape[-3:]) for x in tensors]
    q, k, v = tensors
    out = _attention(q, k, v, mask, p, causal, scale)
    return out.reshape(*full, *out._a.shape[-2:]) if len(full) > 2 else out


def _four(a: Any) -> Any:
    """An array with leading dimensions of size 1, four in all."""
    return a[None] if a.ndim == 3 else a[None, None] if a.ndim == 2 else a if a.ndim == 4 else a.reshape(
        (1,) * (4 - a.ndim) + a.shape)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool, scale: float) -> Tensor:
    """Attention of 2 to 4 dimensions, all of one number."""
    arrays = [_four(x._a) for x in (q, k, v)]
    family: Any = of(arrays[0]).attention
    dropout = None
    if p > 0.0:
        shape = (*arrays[0].shape[:3], arrays[1].shape[2])
        dropout = family.draw(stream_of(None, arrays[0]), shape, float(p))
    m = None if mask is None else _four(mask._a)
    result, logsumexp = family.forward(*arrays, m, causal, float(scale), dropout)
    out = wrap(result.reshape(result.shape[4 - q._a.ndim:]))
    if recording(q, k, v, *((mask,) if mask is not None else ())):
        kind = ScaledDotProductFlashAttentionForCpuBackward0 if is_host(result) else (
            ScaledDotProductFlashAttentionBackward0)
        inputs = (q, k, v, _Nothing if mask is None or mask.dtype is bool_ else mask)
        record(out, kind, inputs, saved=(q, k, v, mask, out), ctx=(logsumexp, causal, float(scale), dropout))
    return out


def _gradients(node: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, mask, out = node.unpack()
    logsumexp, causal, scale, dropout = node.ctx
    needs = node.needs
    if mode.enabled:
        return _formula(grad, q, k, v, mask, causal, scale, dropout, needs)
    arrays = [_four(x._a) for x in (grad, q, k, v)]
    m = None if mask is None else _four(mask._a)
    found = of(arrays[0]).attention.backward(*arrays, m, _four(out._a), logsumexp, causal, scale, dropout, needs)
    results = [None if a is None else wrap(a.reshape(a.shape[4 - x._a.ndim:]))
               for a, x in zip(found[:3], (q, k, v), strict=True)]
    return (*results, None if found[3] is None else wrap(found[3].reshape(mask._a.shape)))


@derivative
def ScaledDotProductFlashAttentionForCpuBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(node, grad)


@derivative
def ScaledDotProductFlashAttentionBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(node, grad)


def _formula(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float,
             dropout: Any, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """The gradients made of differentiable ops, with the dropout of the forward pass."""
    g, wq, wk, wv = (_wide(x) for x in (grad, q, k, v))
    group = q._a.shape[-3] // max(k._a.shape[-3], 1) if q._a.ndim > 2 else 1
    if group > 1:
        wk, wv = wk.repeat_interleave(group, -3), wv.repeat_interleave(group, -3)
    p = _softmax(_masked(wq.matmul(wk.mT) * scale, mask, causal))
    dp = g.matmul(wv.mT)
    weights = p
    if dropout is not None:
        a = p._a
        noise = of(a).attention.multipliers(a, ((1, 1) + a.shape)[-4:], dropout)
        m = wrap(noise.reshape(a.shape))
        weights, dp = p * m, dp * m
    ds = p * (dp - (dp * p).sum(-1, keepdim=True))
    dq = (ds.matmul(wk) * scale).to(q.dtype) if needs[0] else None
    dk = (ds.mT.matmul(wq) * scale) if needs[1] else None
    dv = weights.mT.matmul(g) if needs[2] else None
    pair = []
    for d, x in ((dk, k), (dv, v)):
        if d is not None and group > 1:
            d = d.unflatten(-3, (x._a.shape[-3], group)).sum(-3)
        pair.append(None if d is None else d.to(x.dtype))
    dm = ds.sum_to_size(mask._a.shape).to(mask.dtype) if needs[3] and mask is not None else None
    return dq, *pair, dm


# --- made of other ops ----------------------------------------------------------------------------

def _wide(x: Tensor) -> Tensor:
    """16-bit floats as float32."""
    return x.to(float32) if x._a.itemsize == 2 else x


def _masked(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scores with the mask: -inf for what takes no part. Raises RuntimeError for a mask that does not broadcast."""
    shape = scores._a.shape
    if causal:
        mask = ones(shape[-2:], dtype=bool_, device=scores.device).tril()
    if mask is None:
        return scores
    full = broadcast_shapes(shape, mask._a.shape)
    if full != shape:
        raise RuntimeError(f"output with shape {list(shape)} doesn't match the broadcast shape {list(full)}")
    if mask.dtype is bool_:
        return scores.masked_fill(mask.logical_not(), -math.inf)
    return scores + mask.to(scores.dtype)


def _softmax(scores: Tensor) -> Tensor:
    """softmax along the last dimension, 0 in rows of -inf alone."""
    if not scores._a.size:
        return scores.softmax(-1)
    dead = (scores.detach() == -math.inf).all(-1, keepdim=True)
    return scores.masked_fill(dead, 0.0).softmax(-1).masked_fill(dead, 0.0)


def _composed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float, causal: bool,
              scale: float) -> Tensor:
    """Attention as products and a softmax, 16-bit floats in float32."""
    dtype = query.dtype
    query, key, value = _wide(query), _wide(key), _wide(value)
    root = math.sqrt(abs(scale))  # of both operands, so that their products do not overflow
    weights = _softmax(_masked((query * math.copysign(root, scale)).matmul(key.mT * root), mask, causal))
    if p > 0.0:
        weights = drop_elements(weights, float(p))
    return weights.matmul(value).to(dtype)
