"""``gradcheck``: derivatives against finite differences.

https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.autograd.engine import grad
from tritium.kernels import beside, on_host
from tritium.tensor.graph import wrap
from tritium.tensor.tensor import Tensor


class GradcheckError(RuntimeError):
    """The derivative and the finite differences disagree."""


def _tensors(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _numerical(f: Callable[..., Any], inputs: tuple[Any, ...], target: Tensor, output: int, eps: float) -> Any:
    """d output / d target by central differences, of shape (elements of target, elements of output)."""
    flat = target._a
    rows = []
    for position in np.ndindex(flat.shape):
        kept = flat[position].item()
        ends = []
        for step in (eps, -eps):
            flat[position] = kept + step
            ends.append(np.array(on_host(_tensors(f(*inputs))[output]._a), np.float64).reshape(-1))
        flat[position] = kept
        rows.append((ends[0] - ends[1]) / (2 * eps))
    size = _tensors(f(*inputs))[output]._a.size
    return np.array(rows).reshape(flat.size, size)


def _analytical(out: Tensor, target: Tensor) -> Any:
    columns = []
    for i in range(out._a.size):
        seed = beside(out._a).zeros((out._a.size,), out._a.dtype)
        seed[i:i + 1] = 1
        (g,) = grad(out, target, wrap(seed.reshape(out._a.shape)), retain_graph=True, allow_unused=True)
        columns.append(np.zeros(target._a.size) if g is None else np.array(on_host(g._a), np.float64).reshape(-1))
    return np.array(columns).reshape(out._a.size, target._a.size).T


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
              fast_mode: bool = False, **kwargs: Any) -> bool:
    """Whether the derivatives of ``func`` at ``inputs`` (float64 tensors that require grad) agree with finite
    differences, within ``atol`` and ``rtol``.

    Raises GradcheckError when they do not, unless ``raise_exception`` is False; ValueError when no input requires
    grad."""
    ins = _tensors(inputs)
    checked = [x for x in ins if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have "
                         "requires_grad=True.")
    for x in checked:
        if x._a.dtype != np.float64:
            warnings.warn("Input requires gradient and is not a double precision floating point. This check will "
                          "likely fail if all the inputs are not of double precision floating point.", stacklevel=2)
        if 0 in x._a.strides and x._a.size > 1:
            raise RuntimeError("The input has a dimension with stride 0. gradcheck only supports inputs that are "
                               "non-overlapping to be able to compute the numerical gradients correctly.")

    def plain(*args: Any) -> Any:
        from tritium.tensor.grad_mode import enable_grad

        with enable_grad():
            out = func(*args)
        return tuple([o for o in _tensors(out) if isinstance(o, Tensor) and o._a.dtype.kind not in "biu"])

    outs = plain(*ins)
    for i, out in enumerate(outs):
        if not out.requires_grad:
            continue
        for j, x in enumerate(checked):
            a, n = _analytical(out, x), _numerical(plain, ins, x, i, eps)
            if not np.allclose(a, n, rtol, atol, equal_nan=True):
                if raise_exception:
                    raise GradcheckError(f"Jacobian mismatch for output {i} with respect to input {j},\n"
                                         f"numerical:{n}\nanalytical:{a}\n")
                return False
    return True


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6,
                  atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True, **kwargs: Any) -> bool:
    """``gradcheck`` of the gradients themselves: second derivatives against finite differences of the first."""
    ins = _tensors(inputs)
    outs = [o for o in _tensors(func(*ins)) if isinstance(o, Tensor) and o.requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        seeds = [wrap(beside(o._a).from_host(np.asarray(rng.standard_normal(o._a.shape)).astype(o._a.dtype)))
                 .requires_grad_() for o in outs]
    else:
        seeds = list(_tensors(grad_outputs))
    count = len(ins)

    def first(*args: Any) -> Any:
        xs, gs = args[:count], args[count:]
        results = [o for o in _tensors(func(*xs)) if isinstance(o, Tensor) and o.requires_grad]
        wanted = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        return tuple([g for g in grad(results, wanted, gs, create_graph=True, allow_unused=True) if g is not None])

    return gradcheck(first, (*ins, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
