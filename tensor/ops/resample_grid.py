"""Samples of an image at the places of a grid, and grids of affine maps.

The first derivative of ``grid_sampler`` is a kernel. Where it is to be derived again it is made of ops: sums over the
taps of gathers and scatters, with weights that are polynomials of the grid.
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from tritium.kernels import either
from tritium.tensor.autocast import amp
from tritium.tensor.creation import linspace, ones, zeros
from tritium.tensor.dtype import from_numpy_dtype, int64
from tritium.tensor.grad_mode import no_grad
from tritium.tensor.graph import derivative, record, recording, wrap
from tritium.tensor.ops.arguments import check_tensor, not_implemented
from tritium.tensor.ops.join import stack
from tritium.tensor.ops.matmul import bmm
from tritium.tensor.ops.pointwise import where
from tritium.tensor.ops.scatter import checked
from tritium.tensor.tensor import Tensor

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
Setting = tuple[str, str, bool]  # mode, padding, align_corners


@checked
def _backward(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, grid = node.unpack()
    if recording(grad, x, grid):
        return _differentiable(grad, x, grid, node.ctx, node.needs)
    side = either(grad._a, x._a, grid._a).resample
    found = side.grid_sample_backward(grad._a, x._a, grid._a, *node.ctx, *node.needs)
    return tuple([None if a is None else wrap(a) for a in found])  # type: ignore[return-value]


@derivative
def GridSampler2DBackward0(node: Any, grad: Tensor) -> Any:
    return _backward(node, grad)


@derivative
def GridSampler3DBackward0(node: Any, grad: Tensor) -> Any:
    return _backward(node, grad)


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """``input`` (N, C, ...) at the places of ``grid`` (N, ..., d), d = 2 or 3: (N, C, ...).

    A place is given from -1 to 1 along each dimension, the last dimension first. ``interpolation_mode``: 0 bilinear, 1
    nearest, 2 bicubic (d = 2); ``padding_mode``, for places outside: 0 zeros, 1 border, 2 reflection. Raises
    RuntimeError for shapes and dtypes that do not fit together."""
    if amp.on:
        given = (input, grid, interpolation_mode, padding_mode, align_corners)
        if (r := amp.run("grid_sample", grid_sampler, *given)) is not None:
            return r
    check_tensor("grid_sampler", "input", 1, input)
    check_tensor("grid_sampler", "grid", 2, grid)
    _check(input, grid, interpolation_mode)
    setting = MODES[interpolation_mode], PADDINGS[padding_mode], bool(align_corners)
    out = wrap(either(input._a, grid._a).resample.grid_sample(input._a, grid._a, *setting))
    if recording(input, grid):
        kind = GridSampler2DBackward0 if input._a.ndim == 4 else GridSampler3DBackward0
        record(out, kind, (input, grid), (input, grid), setting)
    return out


def _check(input: Tensor, grid: Tensor, mode: int) -> None:
    shape, places = list(input._a.shape), list(grid._a.shape)
    both = f"but got input with sizes {shape} and grid with sizes {places}"
    if not shape or not places or shape[0] != places[0]:
        raise RuntimeError(f"grid_sampler(): expected grid and input to have same batch size, {both}")
    if places[-1] != len(shape) - 2:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {len(shape) - 2} in last dimension, but got grid with sizes "
            f"{places}"
        )
    for d in range(2, len(shape)):
        if shape[d] == 0:
            raise RuntimeError(
                "grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                f"{shape} with dimension {d} being empty"
            )
    if len(shape) not in (4, 5) or len(places) != len(shape):
        raise RuntimeError(
            f"grid_sampler(): expected {4 if len(shape) == 4 else 5}D input and grid with same number of dimensions, "
            f"{both}"
        )
    if mode == 2 and len(shape) == 5:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    dtype, other = input._a.dtype, grid._a.dtype
    if dtype != other:
        names = [from_numpy_dtype(t).title for t in (dtype, other)]
        raise RuntimeError(f"expected scalar type {names[0]} but found {names[1]}")
    if dtype.kind in "biuc":
        raise not_implemented("grid_sampler_2d_cpu_kernel_impl" if len(shape) == 4 else "grid_sampler3d_cpu", dtype)


# ------------------------------------------------------------------------------------- derivatives of higher order


def _differentiable(
    grad: Tensor, x: Tensor, grid: Tensor, setting: Setting, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """The derivative by the image and by the grid, made of ops."""
    N, C, *sizes = x.shape
    dims = len(sizes)
    samples = prod(grid.shape[1:-1])
    image, d = x.reshape(N, C, prod(sizes)), grad.reshape(N, C, samples)
    lines = [_line(grid[..., dims - 1 - j].reshape(N, samples), n, *setting) for j, n in enumerate(sizes)]
    total = zeros(N, C, prod(sizes), dtype=x.dtype, device=x.device)
    d_grid = [zeros(N, samples, dtype=x.dtype, device=x.device) for _ in sizes]
    for taps in product(*lines):
        place, inside = taps[0][0], taps[0][1]
        for n, (i, seen, _, _) in zip(sizes[1:], taps[1:], strict=True):
            place, inside = place * n + i, inside & seen
        place = place.unsqueeze(1).expand(N, C, samples)
        share = where(inside.unsqueeze(1), d, 0.0)
        weights = [t[2] for t in taps]
        if needs[0]:
            part = where(inside.unsqueeze(1), share * prod(weights).unsqueeze(1), 0.0)  # type: ignore[union-attr]
            total = total.scatter_add(2, place, part)
        if needs[1] and setting[0] != "nearest":
            dots = (image.gather(2, place) * share).sum(1)
            for j in range(dims):
                slope = prod([w for i, w in enumerate(weights) if i != j], start=taps[j][3])
                d_grid[dims - 1 - j] = d_grid[dims - 1 - j] + where(inside, dots * slope, 0.0)
    return (total.reshape(x.shape) if needs[0] else None,
            stack(d_grid, -1).reshape(grid.shape) if needs[1] else None)  # fmt: skip


def _line(g: Tensor, n: int, mode: str, padding: str, align: bool) -> list[tuple[Any, Any, Any, Any]]:
    """The taps along a dimension of size n: (index, whether it is inside, weight, derivative of the weight by g)."""
    with no_grad():
        slope: Any = (n - 1) / 2 if align else n / 2
        u = (g + 1) * slope - (0.0 if align else 0.5)
        if mode != "bicubic":
            u, sign = _padded(u, n, padding, align)
            slope = slope * sign
        at = u.round() if mode == "nearest" else u.floor()
        offset = u - at
        count, before = {"nearest": (1, 0), "bilinear": (2, 0), "bicubic": (4, 1)}[mode]
        places = [at + (k - before) for k in range(count)]
        if mode == "bicubic":
            places = [_padded(p, n, padding, align)[0] for p in places]
        inside = [(p >= 0) & (p < n) for p in places]
        indices = [where(i, p, 0.0).to(int64) for p, i in zip(places, inside, strict=True)]
        if padding != "zeros":
            indices = [where(p >= n, n - 1, i) for p, i in zip(places, indices, strict=True)]
            inside = [p == p for p in places]
    t = offset + (g - g.detach()) * slope  # the value, with its derivative by g
    one = t * 0 + 1
    if mode == "nearest":
        return [(indices[0], inside[0], one.detach(), one.detach())]
    if mode == "bilinear":
        weights, slopes = [1 - t, t], [-1.0, 1.0]
    else:
        weights = [_outer(t + 1), _inner(t), _inner(1 - t), _outer(2 - t)]
        slopes = [_d_outer(t + 1), _d_inner(t), -_d_inner(1 - t), -_d_outer(2 - t)]
    return [(i, s, w, v * slope * one.detach()) for i, s, w, v in zip(indices, inside, weights, slopes, strict=True)]


def _padded(u: Tensor, n: int, padding: str, align: bool) -> tuple[Tensor, Any]:
    """Coordinates moved into the image, and their derivatives."""
    if padding == "zeros":
        return u, 1.0
    sign: Any = 1.0
    if padding == "reflection":
        low, span = (0.0, n - 1) if align else (-0.5, n)
        if not span:
            return u * 0, 0.0
        v = (u - low).abs()
        turns = (v / span).floor()
        extra, even = v - turns * span, turns % 2 == 0
        sign = where((u < low) == even, -1.0, 1.0)
        u = where(even, extra, span - extra) + low
    sign = where((u > 0) & (u < n - 1), sign, 0.0).to(u.dtype)
    return where(u > 0, u.clamp(max=n - 1), 0.0), sign


A = -0.75


def _inner(x: Any) -> Any:
    return ((A + 2) * x - (A + 3)) * x * x + 1


def _outer(x: Any) -> Any:
    return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A


def _d_inner(x: Any) -> Any:
    return (3 * (A + 2) * x - 2 * (A + 3)) * x


def _d_outer(x: Any) -> Any:
    return (3 * A * x - 10 * A) * x + 8 * A


# ------------------------------------------------------------------------------------------------- affine maps


@derivative
def AffineGridGeneratorBackward0(node: Any, grad: Tensor) -> Tensor:
    (base,) = node.unpack()
    d = grad.reshape(base.shape[0], base.shape[1], grad.shape[-1])
    return bmm(base.transpose(1, 2), d).transpose(1, 2)


def affine_grid_generator(theta: Tensor, size: Any, align_corners: bool) -> Tensor:
    """``theta`` (N, d, d + 1) applied to the places of an image of ``size`` (N, C, ...): (N, ..., d), d = 2 or 3."""
    check_tensor("affine_grid_generator", "theta", 1, theta)
    size = [n.__index__() for n in size]
    if len(size) not in (4, 5):
        raise RuntimeError(f"AffineGridGenerator needs 4d (spatial) or 5d (volumetric) inputs, got {len(size)}d")
    with no_grad():
        sizes = size[2:]
        columns = []
        for d in reversed(range(len(sizes))):
            shape = [1] * len(sizes)
            shape[d] = sizes[d]
            columns.append(_line_of(theta, sizes[d], align_corners).reshape(shape).expand(sizes))
        columns.append(ones(*sizes, dtype=theta.dtype, device=theta.device))
        base = stack(columns, -1).reshape(1, -1, len(columns)).expand(size[0], -1, -1)
        out = bmm(base, theta.detach().transpose(1, 2)).reshape(size[0], *sizes, len(sizes))
    return record(out, AffineGridGeneratorBackward0, (theta,), (base,)) if recording(theta) else out


def _line_of(theta: Tensor, n: int, align_corners: bool) -> Tensor:
    """The n places of a dimension, from -1 to 1."""
    if n <= 1:
        return zeros(n, dtype=theta.dtype, device=theta.device)
    line = linspace(-1, 1, n, dtype=theta.dtype, device=theta.device)
    return line if align_corners else line * (n - 1) / n
