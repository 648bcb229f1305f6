"""Normalization on the device: batch norm, with what may follow it. Norms of rows: ``norm_rows``.

    y = act((x - mean) invstd weight + bias + residual)

Where channels are few, several programs share one: each writes its part of the sums into a workspace, and one launch
joins the parts. Training takes three launches (two where nothing is shared), evaluation one; backward two or three, and
in evaluation without gradients of the parameters one.

Statistics are float64 vectors, as on the host; those of rows are float32 (float64 for float64).
"""
from __future__ import annotations

import math

from tritium.kernels.array import DeviceArray
from tritium.kernels.triton.memory import empty, zeros
from tritium.kernels.triton.norm_cases import cases as cases
from tritium.kernels.triton.norm_forms import dense, empty_like, f64, formed, laid_as, vector
from tritium.kernels.triton.norm_kernels import coefficients, running
from tritium.kernels.triton.norm_launch import FEW, Passes, applied, joined, parameters, statistics, summed, written
from tritium.kernels.triton.norm_rows import group_norm as group_norm
from tritium.kernels.triton.norm_rows import group_norm_backward as group_norm_backward
from tritium.kernels.triton.norm_rows import layer_norm as layer_norm
from tritium.kernels.triton.norm_rows import layer_norm_backward as layer_norm_backward
from tritium.kernels.triton.norm_rows import rms_norm as rms_norm
from tritium.kernels.triton.norm_rows import rms_norm_backward as rms_norm_backward

Array = DeviceArray


def batch_stats(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel of x (N, C, *), float64 (C,); nan where there is nothing."""
    if not x.size:
        from tritium.kernels.triton.memory import full

        return tuple(full(x.shape[1:2], math.nan, f64, x.owner.device) for _ in range(2))  # type: ignore[return-value]
    mean, _, var = statistics(*formed(x), 0.0, f64, True)
    return mean, var


def batch_apply(x: Array, scale: Array, shift: Array, residual: Array | None = None,
                activation: str | None = None) -> Array:
    """``activation(x * scale + shift + residual)`` with (C,) vectors; x (N, C, *).

    ``residual`` has the shape and dtype of x; ``activation`` is None, "relu" or "relu6"."""
    if not x.size:
        return empty_like(dense(x))
    x, form = formed(x)
    scale = dense(scale)
    residual = residual if residual is None else laid_as(x, residual)
    return applied(x, form, "plain", scale, scale, None, shift, 0.0, residual, activation)


def affine(mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """(invstd, scale, shift), float64 (C,): batch norm is ``x * scale + shift``."""
    C = mean.size
    invstd, scale, shift = (empty((C,), f64, mean.owner.device) for _ in range(3))
    launch = coefficients.bind(WEIGHT=weight is not None, BIAS=bias is not None, BK=512)
    launch(-(-C // 512), 1, 1, dense(mean), dense(var), vector(weight, invstd), vector(bias, invstd),
           invstd, scale, shift, C, float(eps))
    return invstd, scale, shift


def batch_norm_train(x: Array, weight: Array | None, bias: Array | None, eps: float, running_mean: Array | None = None,
                     running_var: Array | None = None, momentum: float = 0.0, counter: Array | None = None,
                     residual: Array | None = None,
                     activation: str | None = None) -> tuple[Array, Array, Array, Array]:
    """(y, mean, invstd, var): x (N, C, *) normalized by its own statistics, y = activation(batch norm + residual);
    statistics are float64, var biased. Running statistics (with the unbiased variance) move by ``momentum``, in place;
    ``counter``, an integer, goes up by one."""
    x, form = formed(x)
    kept = [(r, None if r is None else dense(r)) for r in (running_mean, running_var)]
    mean, invstd, var = statistics(x, form, eps, f64, True, kept[0][1], kept[1][1], momentum, counter)
    for given, moved in kept:
        if given is not None and moved is not None and moved is not given:
            from tritium.kernels.triton.copy import copy_into

            copy_into(given, moved)
    residual = residual if residual is None else laid_as(x, residual)
    y = applied(x, form, "invstd", mean, invstd, weight, bias, 0.0, residual, activation)
    return y, mean, invstd, var


def batch_norm_eval(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float,
                    residual: Array | None = None, activation: str | None = None) -> Array:
    """x (N, C, *) normalized by given statistics: y = activation(batch norm + residual)."""
    if not x.size:
        return empty_like(dense(x))
    x, form = formed(x)
    residual = residual if residual is None else laid_as(x, residual)
    return applied(x, form, "var", dense(mean), dense(var), weight, bias, eps, residual, activation)


def batch_norm_backward(dy: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, train: bool,
                        needs_input: bool = True) -> tuple[Array | None, Array | None, Array | None]:
    """(dx, dweight, dbias) of a batch norm alone; see ``batch_norm_act_backward``."""
    return batch_norm_act_backward(dy, x, mean, invstd, weight, train, needs_input=needs_input)[:3]


def batch_norm_act_backward(dy: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, train: bool,
                            activation: str | None = None, bias: Array | None = None, y: Array | None = None,
                            eps: float | None = None, needs_input: bool = True, needs_weight: bool = True,
                            needs_residual: bool = False,
                            ) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    """(dx, dweight, dbias, dresidual) of ``activation(batch norm of x + residual)``; None for what is not needed.

    ``train``: mean and invstd are functions of x; else constants, and with ``eps``, ``invstd`` is the variance.
    What the activation passes is told by its result ``y``, or without one (where nothing was added) by the batch norm
    taken again, for which ``bias`` is.

    The first launch that reads dy writes dresidual; a second one then reads that in dy's place."""
    device, C = x.owner.device, x.shape[1]
    if not x.size:
        nothing = [empty_like(dense(x)) if wanted else None for wanted in (needs_input, needs_residual)]
        grads = parameters(C, x.dtype, weight, device, zeros) if needs_weight else (None, None)
        return nothing[0], *grads, nothing[1]
    x, form = formed(x)
    dy, mean, invstd = laid_as(x, dy), dense(mean), dense(invstd)
    passes = Passes(activation, bias, None if y is None or activation is None else laid_as(x, y),
                    needs_residual and activation is not None, eps)
    dz = dy if needs_residual else None
    if passes.constants["DZ"]:
        dz = empty_like(x)
    dweight, dbias = parameters(C, x.dtype, weight, device) if needs_weight else (None, None)
    parts = None
    if needs_weight or (train and needs_input) or not needs_input:
        parts = summed(dy, x, form, mean, invstd, weight, passes, dz)
        if passes.constants["DZ"] and dz is not None:
            dy, passes = dz, Passes(eps=eps)
    if not needs_input:
        if parts is not None and needs_weight:
            joined(parts, dweight, dbias)
        return None, dweight, dbias, dz
    if parts is not None and form.splits > FEW:
        parts = joined(parts)
    dx = written(dy, x, form, mean, invstd, weight, passes, train, parts, dz if passes.constants["DZ"] else None,
                 dweight, dbias, float(form.N * form.S))
    return dx, dweight, dbias, dz


def update_running(running_statistic: Array, new: Array, momentum: float) -> None:
    """``running = (1 - momentum) * running + momentum * new``, in place."""
    moved = dense(running_statistic)
    C = moved.size
    running.bind(BK=512)(-(-C // 512), 1, 1, moved, dense(new), C, float(momentum))
    if moved is not running_statistic:
        from tritium.kernels.triton.copy import copy_into

        copy_into(running_statistic, moved)
