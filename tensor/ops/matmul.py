"""Products: matmul and the ops it is made of, linear, einsum.

https://docs.pytorch.org/docs/stable/torch.html#blas-and-lapack-operations
"""
from __future__ import annotations

import math
from typing import Any

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.dtype import from_numpy_dtype
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes, wrap_dim
from tritium.tensor.ops.arguments import TYPE_NAMES, not_implemented
from tritium.tensor.ops.out import write_out
from tritium.tensor.tensor import Tensor

METHODS = ["mm", "bmm", "mv", "dot", "vdot", "inner", "outer", "ger", "matmul", "addmm", "addmv", "addbmm", "baddbmm",
           "addr"]
FUNCTIONS = [*METHODS, "tensordot", "chain_matmul", "linear"]
INPLACE = ["addmm_", "baddbmm_", "addmv_", "addr_"]


def _same_dtype(name: str, *ts: Tensor) -> None:
    first = ts[0]._a.dtype
    for x in ts[1:]:
        if x._a.dtype != first:
            raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {_word(first)} != "
                               f"{_word(x._a.dtype)}" if name in ("mm", "matmul") else
                               f"expected scalar type {from_numpy_dtype(first).title} but found "
                               f"{from_numpy_dtype(x._a.dtype).title}")


def _word(dt: Any) -> str:
    return TYPE_NAMES[from_numpy_dtype(dt).name]


def _tensors(name: str, *ts: Any) -> None:
    for i, x in enumerate(ts):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}(): argument '{('input', 'mat2', 'mat3')[i]}' (position {i + 1}) must be Tensor, "
                            f"not {type(x).__name__}")


def T(x: Tensor) -> Tensor:
    return x.transpose(-2, -1)


# --- matrices -------------------------------------------------------------------------------

@derivative
def MmBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = node.unpack()
    return (mm(grad, T(b)) if node.needs[0] else None,
            _second(a, grad, node.ctx, mm) if node.needs[1] else None)


def _turned(b: Any) -> bool:
    """Whether a matrix lies in memory column by column, as the transposed weight of a linear layer does."""
    return b.flags.f_contiguous and not b.flags.c_contiguous


def _second(a: Tensor, grad: Tensor, turned: bool, product: Any) -> Tensor:
    """The gradient of the second factor, laid out as that is."""
    return T(product(T(grad), a)) if turned else product(T(a), grad)


def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of two matrices, (n, m) and (m, p).

    Raises RuntimeError for other shapes or different dtypes."""
    if amp.on and (r := amp.run("mm", mm, input, mat2, out=out)) is not None:
        return r
    _tensors("mm", input, mat2)
    a, b = input._a, mat2._a
    if a.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if b.ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} and "
                           f"{b.shape[0]}x{b.shape[1]})")
    _same_dtype("mm", input, mat2)
    if a.dtype.kind == "b":
        raise not_implemented("addmm_impl_cpu_", a.dtype)
    r = wrap(of(a).matmul.matmul(a, b))
    if recording(input, mat2):
        record(r, MmBackward0, (input, mat2), saved=(input if mat2._rg else None, mat2 if input._rg else None),
               ctx=_turned(b))
    return r if out is None else write_out("mm", out, r, input, mat2, same_dtype=True)


@derivative
def BmmBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = node.unpack()
    return (bmm(grad, T(b)) if node.needs[0] else None, bmm(T(a), grad) if node.needs[1] else None)


def bmm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The products of two batches of matrices, (b, n, m) and (b, m, p).

    Raises RuntimeError for other shapes or different dtypes."""
    if amp.on and (r := amp.run("bmm", bmm, input, mat2, out=out)) is not None:
        return r
    _tensors("bmm", input, mat2)
    a, b = input._a, mat2._a
    if a.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if b.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, "
                           f"{a.shape[2]}] but got: [{b.shape[0]}, {b.shape[1]}].")
    _same_dtype("bmm", input, mat2)
    if a.dtype.kind == "b":
        raise not_implemented("bmm", a.dtype)
    r = wrap(of(a).matmul.matmul(a, b))
    if recording(input, mat2):
        record(r, BmmBackward0, (input, mat2), saved=(input if mat2._rg else None, mat2 if input._rg else None))
    return r if out is None else write_out("bmm", out, r, input, mat2, same_dtype=True)


@derivative
def MvBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, v = node.unpack()
    return (outer(grad, v) if node.needs[0] else None, mv(T(a), grad) if node.needs[1] else None)


def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A matrix (n, m) times a vector (m).

    Raises RuntimeError for other shapes or different dtypes."""
    if amp.on and (r := amp.run("mv", mv, input, vec, out=out)) is not None:
        return r
    a, v = input._a, vec._a
    if a.ndim != 2 or v.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {a.ndim}, {v.ndim}")
    if a.shape[1] != v.shape[0]:
        raise RuntimeError(f"size mismatch, got input ({a.shape[0]}), mat ({a.shape[0]}x{a.shape[1]}), vec "
                           f"({v.shape[0]})")
    if a.dtype != v.dtype:
        raise RuntimeError(f"addmv input tensors must have the same dtype, but got {vec.dtype.title}, "
                           f"{input.dtype.title}, and {vec.dtype.title}")
    r = wrap(of(a).matmul.matmul(a, v))
    if recording(input, vec):
        record(r, MvBackward0, (input, vec), saved=(input if vec._rg else None, vec if input._rg else None))
    return r if out is None else write_out("mv", out, r, input, vec)


@derivative
def DotBackward0(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = node.unpack()
    return (grad * b if node.needs[0] else None, grad * a if node.needs[1] else None)


def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of two vectors.

    Raises RuntimeError for other shapes or different dtypes."""
    if amp.on and (r := amp.run("dot", dot, input, tensor, out=out)) is not None:
        return r
    a, b = input._a, tensor._a
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {a.ndim}D and {b.ndim}D tensors")
    if a.dtype != b.dtype:
        raise RuntimeError(f"dot : expected both vectors to have same dtype, but found {input.dtype.title} and "
                           f"{from_numpy_dtype(b.dtype).title}")
    if a.dtype.kind == "b":
        raise not_implemented("dot", a.dtype)
    if a.shape != b.shape:
        raise RuntimeError(f"inconsistent tensor size, expected tensor [{a.size}] and src [{b.size}] to have the same "
                           f"number of elements, but got {a.size} and {b.size} elements respectively")
    r = wrap(of(a).matmul.dot(a, b))
    if recording(input, tensor):
        record(r, DotBackward0, (input, tensor), saved=(input if tensor._rg else None, tensor if input._rg else None))
    return r if out is None else write_out("dot", out, r, input, tensor)


def vdot(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``dot`` with the first vector conjugated."""
    return dot(input.conj() if input.is_complex() else input, other, out=out)


def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The outer product of two vectors, (n) and (m).

    Raises RuntimeError for other shapes."""
    for name, x in (("self", input), ("vec2", vec2)):
        if x._a.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x._a.ndim}-D")
    r = input.reshape(-1, 1) * vec2
    return r if out is None else write_out("outer", out, r, input, vec2)


ger = outer


def inner(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The products over the last dimension of both."""
    if input._a.ndim == 0 or other._a.ndim == 0:
        r = input * other
    else:
        if input._a.shape[-1] != other._a.shape[-1]:
            raise RuntimeError("inner() the last dimension must match on both input tensors but got shapes "
                               f"{list(input._a.shape)} and {list(other._a.shape)}")
        r = tensordot(input, other, ([-1], [-1]))
    return r if out is None else write_out("inner", out, r, input, other)


def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The matrix product: vectors, matrices, and batches of matrices (broadcast), as Python's ``@``.

    Raises RuntimeError when the shapes do not fit, or for different dtypes.
    https://docs.pytorch.org/docs/stable/generated/torch.matmul.html"""
    if amp.on and (r := amp.run("matmul", matmul, input, other, out=out)) is not None:
        return r
    _tensors("matmul", input, other)
    r = _matmul(input, other)
    return r if out is None else write_out("matmul", out, r, input, other)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    m, n = a._a.ndim, b._a.ndim
    if m == 2 and n == 2:
        return mm(a, b)
    if m == 0 or n == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {m}D and {n}D")
    if m == 1 and n == 1:
        return dot(a, b)
    if m == 2 and n == 1:
        return mv(a, b)
    if m == 1 and n == 2:
        if a._a.shape[0] != b._a.shape[0]:
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied (1x{a._a.shape[0]} and "
                               f"{b._a.shape[0]}x{b._a.shape[1]})")
        return _row(mm(a.unsqueeze(0), b))
    if m >= 3 and n <= 2:  # a batch times one matrix is one larger product
        shape = a._a.shape
        flat = a.reshape(math.prod(shape[:-1]), shape[-1])
        if n == 1:
            return _unsafe_view(mv(flat, b), shape[:-1])
        return _unsafe_view(mm(flat, b), (*shape[:-1], b._a.shape[1]))
    # a batch on the right
    row = m == 1
    x, y = (a.unsqueeze(0) if row else a), (b.unsqueeze(-1) if n == 1 else b)
    batch = broadcast_shapes(x._a.shape[:-2], y._a.shape[:-2])
    count = math.prod(batch)
    if x._a.shape[-1] != y._a.shape[-2]:
        raise RuntimeError("Expected size for first two dimensions of batch2 tensor to be: "
                           f"[{count}, {x._a.shape[-1]}] but got: [{count}, {y._a.shape[-2]}].")
    x3 = x.expand(*batch, *x._a.shape[-2:]).reshape(count, *x._a.shape[-2:])
    y3 = y.expand(*batch, *y._a.shape[-2:]).reshape(count, *y._a.shape[-2:])
    r = bmm(x3, y3)
    shape = (*batch, x._a.shape[-2], y._a.shape[-1])
    if row:
        shape = (*shape[:-2], shape[-1])
    if n == 1:
        shape = shape[:-1]
    return _unsafe_view(r, shape)


@derivative
def UnsafeViewBackward0(node: Any, grad: Tensor) -> Tensor:
    return grad.reshape(node.ctx)


@derivative
def ViewBackward0(node: Any, grad: Tensor) -> Tensor:
    return grad.reshape(node.ctx)


@derivative
def SqueezeBackward4(node: Any, grad: Tensor) -> Tensor:
    return grad.reshape(node.ctx)


def _unsafe_view(x: Tensor, shape: tuple[int, ...], kind: Any = UnsafeViewBackward0) -> Tensor:
    """A fresh result under another shape; nobody else holds it, so it need not count as a view."""
    r = wrap(x._a.reshape(shape))
    if recording(x):
        record(r, kind, (x,), ctx=x._a.shape)
    return r


def _row(x: Tensor) -> Tensor:
    """The one row of a product."""
    return _unsafe_view(x, x._a.shape[1:], SqueezeBackward4)


# --- products with a sum -----------------------------------------------------------------------

def _add_backward(node: Any, grad: Tensor, product: Any) -> tuple[Tensor | None, ...]:
    a, b = node.unpack()
    beta, alpha, turned = node.ctx
    g = grad if alpha == 1 else grad * alpha
    return ((grad if beta == 1 else grad * beta) if node.needs[0] else None,
            product(g, T(b)) if node.needs[1] else None,
            _second(a, g, turned, product) if node.needs[2] else None)


@derivative
def AddmmBackward0(node: Any, grad: Tensor) -> Any:
    return _add_backward(node, grad, mm)


@derivative
def BaddbmmBackward0(node: Any, grad: Tensor) -> Any:
    return _add_backward(node, grad, bmm)


def _factors(dt: Any, beta: Any, alpha: Any) -> tuple[Any, Any]:
    """beta and alpha in the kind of numbers that a dtype computes with: whole ones for integers."""
    return (int(beta), int(alpha)) if dt.kind in "iu" else (beta, alpha)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1,
          out: Tensor | None = None) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)``; ``input`` broadcasts to (n, p).

    Raises RuntimeError when the shapes do not fit, or for different dtypes."""
    if amp.on and (r := amp.run("addmm", addmm, input, mat1, mat2, beta=beta, alpha=alpha, out=out)) is not None:
        return r
    a, b, c = mat1._a, mat2._a, input._a
    if a.ndim != 2 or b.ndim != 2:
        raise RuntimeError(f"{'mat1' if a.ndim != 2 else 'mat2'} must be a matrix, got "
                           f"{a.ndim if a.ndim != 2 else b.ndim}-D tensor")
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} and "
                           f"{b.shape[0]}x{b.shape[1]})")
    if c.dtype != b.dtype:
        raise RuntimeError(f"self and mat2 must have the same dtype, but got {input.dtype.title} and "
                           f"{mat2.dtype.title}")
    if a.dtype != b.dtype:
        raise RuntimeError(f"mat1 and mat2 must have the same dtype, but got {mat1.dtype.title} and {mat2.dtype.title}")
    beta, alpha = _factors(a.dtype, beta, alpha)
    _fits(input, (a.shape[0], b.shape[1]))
    r = wrap(of(a).matmul.addmm(c, a, b, beta, alpha))
    if recording(input, mat1, mat2):
        record(r, AddmmBackward0, (input, mat1, mat2), saved=(mat1 if mat2._rg else None, mat2 if mat1._rg else None),
               ctx=(beta, alpha, _turned(b)))
    return r if out is None else write_out("addmm", out, r, input, mat1, mat2, same_dtype=True)


def _fits(input: Tensor, target: tuple[int, ...]) -> None:
    """Raises RuntimeError when ``input`` does not broadcast to the shape of the product."""
    shape = input._a.shape
    ok = len(shape) <= len(target) and all(
        n in (1, m) for n, m in zip(shape, target[len(target) - len(shape):], strict=True))
    if not ok:
        for i, (n, m) in enumerate(zip(reversed(shape), reversed(target), strict=False)):
            if n not in (1, m):
                raise RuntimeError(f"The expanded size of the tensor ({m}) must match the existing size ({n}) at "
                                   f"non-singleton dimension {len(target) - 1 - i}.  Target sizes: {list(target)}.  "
                                   f"Tensor sizes: {list(shape)}")
        raise RuntimeError(f"expand({input.type()}{{{list(shape)}}}, size={list(target)}): the number of sizes "
                           f"provided ({len(target)}) must be greater or equal to the number of dimensions in the "
                           f"tensor ({len(shape)})")


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1,
            out: Tensor | None = None) -> Tensor:
    """``beta * input + alpha * bmm(batch1, batch2)``; ``input`` broadcasts to (b, n, p)."""
    if amp.on and (r := amp.run("baddbmm", baddbmm, input, batch1, batch2, beta=beta, alpha=alpha,
                                out=out)) is not None:
        return r
    a, b = batch1._a, batch2._a
    if a.ndim != 3 or b.ndim != 3:
        raise RuntimeError(f"{'batch1' if a.ndim != 3 else 'batch2'} must be a 3D tensor")
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, "
                           f"{a.shape[2]}] but got: [{b.shape[0]}, {b.shape[1]}].")
    _same_dtype("baddbmm", input, batch1, batch2)
    beta, alpha = _factors(a.dtype, beta, alpha)
    _fits(input, (a.shape[0], a.shape[1], b.shape[2]))
    r = wrap(of(a).matmul.addmm(input._a, a, b, beta, alpha))
    if recording(input, batch1, batch2):
        record(r, BaddbmmBackward0, (input, batch1, batch2),
               saved=(batch1 if batch2._rg else None, batch2 if batch1._rg else None), ctx=(beta, alpha, False))
    return r if out is None else write_out("baddbmm", out, r, input, batch1, batch2, same_dtype=True)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * sum over the batch of (batch1 @ batch2)``."""
    if amp.on and (r := amp.run("addbmm", addbmm, input, batch1, batch2, beta=beta, alpha=alpha)) is not None:
        return r
    product = bmm(batch1, batch2).sum(0)
    return (input if beta == 1 else input * beta) + (product if alpha == 1 else product * alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * (mat @ vec)``.

    Raises RuntimeError when the shapes do not fit."""
    if amp.on and (r := amp.run("addmv", addmv, input, mat, vec, beta=beta, alpha=alpha)) is not None:
        return r
    a, v, c = mat._a, vec._a, input._a
    if a.ndim == 2 and v.ndim == 1 and (a.shape[1] != v.shape[0] or (c.ndim and c.shape not in ((1,), a.shape[:1]))):
        raise RuntimeError(f"size mismatch, got input ({c.size}), mat ({a.shape[0]}x{a.shape[1]}), vec ({v.shape[0]})")
    product = mv(mat, vec)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else (input if beta == 1 else input * beta) + product


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``."""
    if amp.on and (r := amp.run("addr", addr, input, vec1, vec2, beta=beta, alpha=alpha)) is not None:
        return r
    product = outer(vec1, vec2)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else (input if beta == 1 else input * beta) + product


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``: (*, in_features) with a weight of (out_features, in_features) to (*, out_features).

    Raises RuntimeError when the sizes do not fit, or for different dtypes."""
    if amp.on and (r := amp.run("linear", linear, input, weight, bias)) is not None:
        return r
    _tensors("linear", input, weight)
    if not weight._a.ndim or not input._a.ndim:
        raise RuntimeError(f"both arguments to linear need to be at least 1D, but they are {input._a.ndim}D and "
                           f"{weight._a.ndim}D")
    if weight._a.ndim == 1:
        r = matmul(input, weight)
        return r if bias is None else r + bias
    w = weight.t()
    if input._a.ndim == 2:
        return mm(input, w) if bias is None else addmm(bias, input, w)
    if input._a.ndim == 1:
        if bias is None:
            return matmul(input, w)
        return _unsafe_view(addmm(bias, input.unsqueeze(0), w), (weight._a.shape[0],), ViewBackward0)
    shape = input._a.shape
    flat = input.reshape(math.prod(shape[:-1]), shape[-1])
    wide = (*shape[:-1], weight._a.shape[0])
    return _unsafe_view(mm(flat, w), wide) if bias is None else _unsafe_view(addmm(bias, flat, w), wide, ViewBackward0)


# --- many dimensions ----------------------------------------------------------------------------

def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Tensor | None = None) -> Tensor:
    """The product summed over the last ``dims`` of ``a`` and the first of ``b``, or over two lists of dimensions.

    Raises RuntimeError when the sizes do not fit."""
    if amp.on and (r := amp.run("tensordot", tensordot, a, b, dims, out=out)) is not None:
        return r
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a._a.ndim, b._a.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        da, db = list(range(-dims, 0)), list(range(dims))
    else:
        da, db = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(da) != len(db):
        raise RuntimeError("both dimension lists should have same length")
    if a._a.dtype != b._a.dtype:
        raise RuntimeError("both inputs should have same dtype")
    for x, dims in ((a, da), (b, db)):
        for d in dims:
            x.size(d)  # raises for a dimension that is not there
    sa, sb = a._a.shape, b._a.shape
    for i, j in zip(da, db, strict=True):
        if sa[i] != sb[j]:
            raise RuntimeError(f"contracted dimensions need to match, but first has size {sa[i]} in dim {i} and second "
                               f"has size {sb[j]} in dim {j}")
    da, db = [wrap_dim(d, a._a.ndim) for d in da], [wrap_dim(d, b._a.ndim) for d in db]
    ra, rb = [d for d in range(len(sa)) if d not in da], [d for d in range(len(sb)) if d not in db]
    k = math.prod([sa[d] for d in da])
    left = a.permute(*ra, *da).reshape(-1 if k or not ra else math.prod([sa[d] for d in ra]), k)
    right = b.permute(*db, *rb).reshape(k, -1 if k or not rb else math.prod([sb[d] for d in rb]))
    r = mm(left, right).reshape([sa[d] for d in ra] + [sb[d] for d in rb])
    return r if out is None else write_out("tensordot", out, r, a, b)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices (or of a list of them)."""
    if amp.on and (r := amp.run("chain_matmul", chain_matmul, *matrices)) is not None:
        return r
    if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)):
        matrices = tuple(matrices[0])
    r = matrices[0]
    for m in matrices[1:]:
        r = mm(r, m)
    return r


def _make_inplace() -> None:
    from tritium.tensor.ops.pointwise import inplace

    for name in INPLACE:
        globals()[name] = inplace(globals()[name[:-1]], name)


_make_inplace()
