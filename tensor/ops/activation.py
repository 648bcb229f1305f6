"""Activation functions and their derivatives. relu, sigmoid and tanh are with the pointwise ops.

An ordinary backward is one fused kernel. When the backward is itself recorded (create_graph), the same derivative is
computed by the formula in the table, from differentiable ops.
https://docs.pytorch.org/docs/stable/nn.functional.html#non-linear-activation-functions
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tritium.kernels import of
from tritium.tensor.autocast import amp
from tritium.tensor.creation import ones_like
from tritium.tensor.dtype import float64, from_numpy_dtype
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import Node, check_inplace, derivative, finish_inplace, record, recording, wrap
from tritium.tensor.layout import wrap_dim
from tritium.tensor.ops.pointwise import exp, gt, le, logical_and, logical_or, lt, node_kind, sigmoid, tanh, where
from tritium.tensor.ops.special import erf
from tritium.tensor.tensor import Tensor

METHODS = ["prelu", "hardshrink"]
FUNCTIONS = ["prelu", "hardshrink", "threshold", "threshold_", "celu", "celu_", "selu", "selu_"]

Formula = Callable[..., Tensor]


def needs_floating_point(input: Any, kernel: str, argument: str = "input") -> None:
    """Raises PyTorch's error for a tensor that is not floating point (and TypeError for what is no tensor)."""
    if not isinstance(input, Tensor):
        raise TypeError(f"argument '{argument}' (position 1) must be Tensor, not {type(input).__name__}")
    if not input.is_floating_point():
        title = from_numpy_dtype(input._a.dtype).title
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{title}'")


def backward_kind(node: str, kernel: str, formula: Formula) -> type[Node]:
    """A kind of node that saves x and has the function's constants in `ctx`."""

    def backward(self: Any, grad: Tensor) -> Tensor:
        (x,) = self.unpack()
        if mode.enabled:
            return formula(grad, x, *self.ctx)
        out = wrap(of(grad._a).activation.backward[kernel](grad._a, x._a, *self.ctx))
        if grad._free or x._free:
            out._free = True
        return out

    return node_kind(node, backward)


def apply(kernel: str, kind: type[Node], input: Tensor, constants: tuple[Any, ...]) -> Tensor:
    """The activation of `input`, with a node that saves the input."""
    out = wrap(of(input._a).activation.forward[kernel](input._a, *constants))
    if input._free:
        out._free = True
    if mode.enabled and input._rg:
        record(out, kind, (input,), saved=(input,), ctx=constants)
    return out


def apply_(
    kernel: str, kind: type[Node], input: Tensor, constants: tuple[Any, ...], save_result: bool = False
) -> Tensor:
    """The same in place. The node saves the result where the derivative can be told from it, else a copy of the
    input."""
    check_inplace(input)
    k = of(input._a)
    out = wrap(k.activation.forward[kernel](input._a, *constants))
    if input._free:
        out._free = True
    if mode.enabled and input._rg:
        saved = out if save_result else wrap(k.copy.clone(input._a))
        record(out, kind, (input,), saved=(saved,), ctx=constants)
    return finish_inplace(input, out)


# -------------------------------------------------------------------------------------------- piecewise linear

HardtanhBackward0 = backward_kind(
    "HardtanhBackward0", "hardtanh", lambda g, x, low, high: where(logical_or(x <= low, x >= high), 0.0, g)
)


def _check_bounds(min_val: Any, max_val: Any) -> None:
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """Values outside [min_val, max_val] set to the nearer bound. Raises ValueError when the bounds are crossed."""
    _check_bounds(min_val, max_val)
    return apply("hardtanh", HardtanhBackward0, input, (min_val, max_val))


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`hardtanh` in place."""
    _check_bounds(min_val, max_val)
    return apply_("hardtanh", HardtanhBackward0, input, (min_val, max_val), save_result=True)


def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return apply("hardtanh", HardtanhBackward0, input, (0, 6))


def relu6_(input: Tensor) -> Tensor:
    """`relu6` in place."""
    return apply_("hardtanh", HardtanhBackward0, input, (0, 6), save_result=True)


def _leaky_formula(g: Tensor, x: Tensor, slope: float) -> Tensor:
    return where(gt(x, 0), g, g * slope)


LeakyReluBackward0 = backward_kind("LeakyReluBackward0", "leaky_relu", _leaky_formula)
LeakyReluBackward1 = backward_kind("LeakyReluBackward1", "leaky_relu", _leaky_formula)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x above 0, negative_slope * x below."""
    needs_floating_point(input, "leaky_relu_cpu")
    return apply("leaky_relu", LeakyReluBackward0, input, (negative_slope,))


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`leaky_relu` in place. With a negative slope the derivative needs the input: it is copied."""
    needs_floating_point(input, "leaky_relu_cpu")
    return apply_("leaky_relu", LeakyReluBackward1, input, (negative_slope,), save_result=negative_slope >= 0)


def _noise(node: Any, grad: Tensor) -> Tensor:
    return grad * node.ctx


RreluWithNoiseBackward0 = node_kind("RreluWithNoiseBackward0", _noise)
RreluWithNoiseBackward1 = node_kind("RreluWithNoiseBackward1", _noise)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x above 0, a x below: a from U(lower, upper) for each element in training, their mean otherwise.

    Xu et al. 2015."""
    needs_floating_point(input, "rrelu_with_noise_out_cpu" if training else "leaky_relu_cpu")
    kind = RreluWithNoiseBackward1 if inplace else RreluWithNoiseBackward0
    if inplace:
        check_inplace(input)
    x = input.detach()
    below = x <= 0
    noise = ones_like(x)
    if training and x.is_cuda:  # for each element, also for those that do not need one: nothing waits to count them
        noise = where(below, x.new_empty(x.shape).uniform_(lower, upper), noise)
    elif training:  # drawn in float64, one for each element that is not positive, in order
        count = int(below.sum())
        noise[below] = x.new_empty(count, dtype=float64).uniform_(lower, upper).to(x.dtype)
    else:
        noise[below] = (lower + upper) / 2
    out = x * noise
    if recording(input):
        record(out, kind, (input,), ctx=noise)
    return finish_inplace(input, out) if inplace else out


ThresholdBackward0 = backward_kind(
    "ThresholdBackward0", "threshold", lambda g, x, limit, value: where(le(x, limit), 0.0, g)
)
ThresholdBackward1 = backward_kind(
    "ThresholdBackward1", "threshold", lambda g, x, limit, value: where(le(x, limit), 0.0, g)
)


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """x above the threshold, `value` elsewhere."""
    return apply("threshold", ThresholdBackward0, input, (threshold, value))


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """`threshold` in place."""
    return apply_("threshold", ThresholdBackward1, input, (threshold, value))


def _outside(g: Tensor, x: Tensor, bound: float) -> Tensor:
    return where(logical_and(x >= -bound, x <= bound), 0.0, g)


HardshrinkBackward0 = backward_kind("HardshrinkBackward0", "hardshrink", _outside)
SoftshrinkBackward0 = backward_kind("SoftshrinkBackward0", "softshrink", _outside)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 in [-lambd, lambd], x outside."""
    needs_floating_point(input, "hardshrink_cpu")
    return apply("hardshrink", HardshrinkBackward0, input, (lambd,))


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 in [-lambd, lambd]. Raises RuntimeError for a negative lambd."""
    needs_floating_point(input, "softshrink_cpu")
    if lambd < 0:
        raise RuntimeError(
            f"lambda must be in range [0, 3.40282e+38] for input dtype {input.dtype.title}, but found {lambd}"
        )
    return apply("softshrink", SoftshrinkBackward0, input, (lambd,))


HardsigmoidBackward0 = backward_kind(
    "HardsigmoidBackward0", "hardsigmoid", lambda g, x: where(logical_and(gt(x, -3), lt(x, 3)), g / 6, 0.0)
)
HardswishBackward0 = backward_kind(
    "HardswishBackward0",
    "hardswish",
    lambda g, x: where(le(x, -3), 0.0, where(lt(x, 3), g * (x / 3 + 0.5), g)),
)


def hardsigmoid(input: Tensor) -> Tensor:
    """relu6(x + 3) / 6."""
    needs_floating_point(input, "hardsigmoid_cpu")
    return apply("hardsigmoid", HardsigmoidBackward0, input, ())


def hardsigmoid_(input: Tensor) -> Tensor:
    """`hardsigmoid` in place."""
    needs_floating_point(input, "hardsigmoid_cpu")
    return apply_("hardsigmoid", HardsigmoidBackward0, input, ())


def hardswish(input: Tensor) -> Tensor:
    """x relu6(x + 3) / 6 (Howard et al. 2019)."""
    needs_floating_point(input, "hardswish_cpu")
    return apply("hardswish", HardswishBackward0, input, ())


def hardswish_(input: Tensor) -> Tensor:
    """`hardswish` in place."""
    needs_floating_point(input, "hardswish_cpu")
    return apply_("hardswish", HardswishBackward0, input, ())


# ------------------------------------------------------------------------------------------------- exponential
# elu, selu and celu are one function of three constants: alpha, the output's scale, the input's scale below 0.


def _elu_formula(g: Tensor, x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    below = exp(x * input_scale) * (alpha * scale * input_scale)
    return g * where(le(x, 0), below, scale)


def _elu_of_result(g: Tensor, r: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    return g * where(le(r, 0), (r + alpha * scale) * input_scale, scale)


EluBackward0 = backward_kind("EluBackward0", "elu", _elu_formula)
EluBackward1 = backward_kind("EluBackward1", "elu_of_result", _elu_of_result)
CeluBackward0 = backward_kind("CeluBackward0", "elu", _elu_formula)
CeluBackward1 = backward_kind("CeluBackward1", "elu_of_result", _elu_of_result)

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha (exp(x) - 1) below (Clevert et al. 2015)."""
    needs_floating_point(input, "elu_cpu")
    return apply("elu", EluBackward0, input, (alpha, 1.0, 1.0))


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`elu` in place."""
    needs_floating_point(input, "elu_cpu")
    if alpha < 0:
        return apply_("elu", EluBackward0, input, (alpha, 1.0, 1.0))
    return apply_("elu", EluBackward1, input, (alpha, 1.0, 1.0), save_result=True)


def selu(input: Tensor) -> Tensor:
    """`elu` with the constants that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    needs_floating_point(input, "elu_cpu")
    return apply("elu", EluBackward0, input, (SELU_ALPHA, SELU_SCALE, 1.0))


def selu_(input: Tensor) -> Tensor:
    """`selu` in place."""
    needs_floating_point(input, "elu_cpu")
    return apply_("elu", EluBackward1, input, (SELU_ALPHA, SELU_SCALE, 1.0), save_result=True)


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha (exp(x / alpha) - 1) below (Barron 2017). Raises RuntimeError for alpha = 0."""
    return apply("elu", CeluBackward0, input, _celu_constants(input, alpha))


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`celu` in place."""
    return apply_("elu", CeluBackward1, input, _celu_constants(input, alpha), save_result=True)


def _celu_constants(input: Tensor, alpha: float) -> tuple[float, float, float]:
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    needs_floating_point(input, "elu_cpu")
    return alpha, 1.0, 1.0 / alpha


def _silu_formula(g: Tensor, x: Tensor) -> Tensor:
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


def _mish_formula(g: Tensor, x: Tensor) -> Tensor:
    t = tanh(softplus(x))
    return g * (t + x * (1 - t * t) * sigmoid(x))


SiluBackward0 = backward_kind("SiluBackward0", "silu", _silu_formula)
MishBackward0 = backward_kind("MishBackward0", "mish", _mish_formula)
LogSigmoidBackward0 = backward_kind("LogSigmoidBackward0", "log_sigmoid", lambda g, x: g * sigmoid(-x))
SoftplusBackward0 = backward_kind(
    "SoftplusBackward0", "softplus", lambda g, x, beta, limit: where(x * beta > limit, g, g * sigmoid(x * beta))
)


def silu(input: Tensor) -> Tensor:
    """x sigmoid(x), also called swish."""
    needs_floating_point(input, "silu_cpu")
    return apply("silu", SiluBackward0, input, ())


def silu_(input: Tensor) -> Tensor:
    """`silu` in place."""
    needs_floating_point(input, "silu_cpu")
    return apply_("silu", SiluBackward0, input, ())


def mish(input: Tensor) -> Tensor:
    """x tanh(softplus(x)) (Misra 2019)."""
    needs_floating_point(input, "mish_cpu")
    return apply("mish", MishBackward0, input, ())


def mish_(input: Tensor) -> Tensor:
    """`mish` in place."""
    needs_floating_point(input, "mish_cpu")
    return apply_("mish", MishBackward0, input, ())


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""
    if amp.on and (r := amp.run("softplus", softplus, input, beta, threshold)) is not None:
        return r
    needs_floating_point(input, "softplus_cpu")
    return apply("softplus", SoftplusBackward0, input, (beta, threshold))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    needs_floating_point(input, "log_sigmoid_cpu")
    return apply("log_sigmoid", LogSigmoidBackward0, input, ())


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return input - input.tanh()


@derivative
def GluBackward0(node: Any, grad: Tensor) -> Tensor:
    from tritium.tensor.ops.join import cat

    (x,) = node.unpack()
    a, b = x.chunk(2, node.ctx)
    s = sigmoid(b)
    return cat((grad * s, grad * a * (s * (1 - s))), node.ctx)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second (Dauphin et al. 2016).

    Raises RuntimeError for a 0-d tensor or an odd size.
    """
    if input.ndim == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {size}")
    needs_floating_point(input, "glu_cpu")
    first = (slice(None),) * dim + (slice(None, size // 2),)
    second = (slice(None),) * dim + (slice(size // 2, None),)
    out = wrap(of(input._a).activation.forward["glu"](input._a[first], input._a[second]))
    if input._free:
        out._free = True
    if recording(input):
        record(out, GluBackward0, (input,), saved=(input,), ctx=dim)
    return out


# ------------------------------------------------------------------------------------------------------- gelu


def _normal(x: Tensor) -> tuple[Tensor, Tensor]:
    """The normal distribution's cumulative function and density."""
    return (erf(x * math.sqrt(0.5)) + 1) * 0.5, exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))


def _gelu_formula(g: Tensor, x: Tensor) -> Tensor:
    cumulative, density = _normal(x)
    return g * (cumulative + x * density)


def _gelu_tanh_formula(g: Tensor, x: Tensor) -> Tensor:
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    t = tanh((x + x * x * x * cubic) * scale)
    return g * (((t + 1) + x * (1 - t * t) * ((x * x * (3 * cubic) + 1) * scale)) * 0.5)


GeluBackward0 = backward_kind("GeluBackward0", "gelu", _gelu_formula)
GeluTanhBackward0 = backward_kind("GeluBackward0", "gelu_tanh", _gelu_tanh_formula)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution's cumulative function (Hendrycks and Gimpel 2016), exact or through "tanh".

    Raises RuntimeError for another `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    needs_floating_point(input, "GeluKernelImpl")
    if approximate == "tanh":
        return apply("gelu_tanh", GeluTanhBackward0, input, ())
    return apply("gelu", GeluBackward0, input, ())


# ------------------------------------------------------------------------------------------------------- prelu


@derivative
def PreluKernelBackward0(node: Any, grad: Tensor) -> Any:
    x, weight = node.unpack()
    if mode.enabled:
        positive = gt(x, 0)
        return where(positive, grad, grad * weight), where(positive, 0.0, grad * x)
    k = of(grad._a).activation
    to_x = wrap(k.backward["prelu"](grad._a, x._a, weight._a)) if node.needs[0] else None
    return to_x, wrap(k.backward["prelu_weight"](grad._a, x._a)) if node.needs[1] else None


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x above 0, weight * x below; one weight, or one per channel (the second dimension) (He et al. 2015).

    Raises RuntimeError for weights that do not fit the channels, more than 1-d, or of another dtype.
    """
    if amp.on and (r := amp.run("prelu", prelu, input, weight)) is not None:
        return r
    if input._a.dtype != weight._a.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype.title} and {weight.dtype.title}")
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if weight.numel() != 1:
        if input.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        channels = input.shape[1] if input.ndim > 1 else 1
        if channels != weight.numel():
            raise RuntimeError(
                "Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                f"{weight.numel()} and channel size = {channels}."
            )
    shape = [1] * input.ndim
    if input.ndim > 1:
        shape[1] = weight.numel()
    w = weight.reshape(shape)
    out = wrap(of(input._a).activation.forward["prelu"](input._a, w._a))
    if input._free:
        out._free = True
    if recording(input, w):
        record(out, PreluKernelBackward0, (input, w), saved=(input, w))
    return out
