"""In-place samplers: ``uniform_``, ``normal_``, ``bernoulli_``, ``random_`` and their kin.

On the CPU they fill a tensor in the order of its memory, with PyTorch's numbers after the same ``manual_seed``;
on cuda in the order of its indices. The derivative with respect to what was there before is zero.
https://docs.pytorch.org/docs/stable/torch.html#in-place-random-sampling
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from tritium.kernels import either, is_host, of
from tritium.tensor import dtype as dtypes
from tritium.tensor.creation import zeros_like
from tritium.tensor.dtype import dtype, from_numpy_dtype
from tritium.tensor.graph import (
    Node,
    bump,
    check_inplace,
    derivative,
    materialize,
    record,
    recording,
    set_history,
    wrap,
)
from tritium.tensor.random import Generator, stream_of
from tritium.tensor.tensor import Tensor

# How PyTorch's messages name the element types, and up to which power of two a type has all the integers.
_C_NAMES = {"uint8": "unsigned char", "int8": "signed char", "int16": "short int", "int32": "int",
            "int64": "long int", "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float",
            "float64": "double", "bool": "bool"}
_DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_INT64 = np.iinfo(np.int64)


def zero_node(name: str) -> type[Node]:
    """A kind of node whose gradients are zero."""

    def backward(node: Node, grad: Tensor) -> Any:
        """Nothing of the input is left in the output."""
        return zeros_like(grad) if len(node.edges) == 1 else (zeros_like(grad),) * len(node.edges)

    backward.__name__ = name
    return derivative(backward)


UniformBackward0, NormalBackward0, ExponentialBackward0 = map(
    zero_node, ("UniformBackward0", "NormalBackward0", "ExponentialBackward0"))
CauchyBackward0, LogNormalBackward0, GeometricBackward0 = map(
    zero_node, ("CauchyBackward0", "LogNormalBackward0", "GeometricBackward0"))
RandomBackward0, RandomBackward1, RandomBackward2 = map(zero_node, [f"RandomBackward{i}" for i in range(3)])
BernoulliBackward1, BernoulliBackward2 = map(zero_node, ["BernoulliBackward1", "BernoulliBackward2"])


def _fill(t: Tensor, sampler: str, kind: type[Node] | None, generator: Generator | None,
          *args: Any) -> Tensor:
    """Let a kernel fill ``t``, and give it its place in the graph."""
    stream = stream_of(generator, t._a)
    check_inplace(t)
    materialize(t)
    array = t._a
    if array.dtype.kind == "c":
        array = _parts(array)
    getattr(of(array).random, sampler)(stream, array, *args)
    bump(t)
    if kind is not None and recording(t):
        set_history(t, record(wrap(t._a), kind, (t,)))
    return t


def _parts(array: Any) -> Any:
    """A complex array as a real one with a last dimension of 2."""
    size = array.itemsize // 2
    shape, strides = (*array.shape, 2), (*array.strides, size)
    if is_host(array):
        return np.lib.stride_tricks.as_strided(array.real, shape, strides)
    return array.look(array.ptr, shape, strides, np.dtype(f"f{size}"))


def unsupported(kernel: str, dt: dtype) -> NotImplementedError:
    """The error for a dtype that a kernel of PyTorch's does not take."""
    return NotImplementedError(f"\"{kernel}\" not implemented for '{dt.title}'")


def check_tensor(name: str, t: Any) -> dtype:
    """The dtype of a tensor argument. Raises TypeError for anything else."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(t).__name__}")
    return from_numpy_dtype(t._a.dtype)


def uniform_(input: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None,
             **named: float) -> Tensor:
    """Fill with numbers from [from, to).

    Raises RuntimeError for bounds in the wrong order or out of the dtype's range, NotImplementedError for
    integers."""
    low, high = float(named.pop("from", from_)), float(to)
    if named:
        raise TypeError(f"uniform_() got an unexpected keyword argument '{next(iter(named))}'")
    dt = check_tensor("uniform_", input).to_real()
    if not dt.is_floating_point:
        raise unsupported("check_uniform_bounds", dt)
    limit = dtypes.finfo(dt).max
    for name, bound in (("from", low), ("to", high)):
        if not -limit <= bound <= limit:
            raise RuntimeError(f"{name} is out of bounds for {_C_NAMES[dt.name]}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > "
                           f"to={high:g}")
    if high - low > limit:
        raise RuntimeError(f"uniform_ expects to-from <= std::numeric_limits<{dt.title}>::max(), but found "
                           f"to={high:g} and from={low:g} which result in to-from to exceed the limit")
    return _fill(input, "uniform", UniformBackward0, generator, low, high)


def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *,
            generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers. Of a complex tensor both parts get ``mean``, and half of the variance each.

    Raises RuntimeError for a negative ``std``, NotImplementedError for integers."""
    check_std(std)
    dt = check_tensor("normal_", input)
    if dt.category < 2:
        raise unsupported("normal_kernel_cpu", dt)
    mean, std = float(mean), float(std)
    if dt.is_complex:
        std /= math.sqrt(2.0)
    return _fill(input, "normal", NormalBackward0, generator, mean, std)


def check_std(std: float) -> None:
    """Raises RuntimeError for a standard deviation that is negative or nan."""
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")


def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate ``lambd``.

    Raises RuntimeError for a rate that is not positive, and for a dtype that is no floating point type."""
    dt = check_tensor("exponential_", input)
    if not dt.is_floating_point:
        raise RuntimeError("Exponential distribution is a continuous probability distribution. dtype must be "
                           f"a floating point but you specified {dt.title}")
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    return _fill(input, "exponential", ExponentialBackward0, generator, float(lambd))


def cauchy_(input: Tensor, median: float = 0.0, sigma: float = 1.0, *,
            generator: Generator | None = None) -> Tensor:
    """Fill with Cauchy numbers.

    Raises RuntimeError for a ``sigma`` that is not positive, and for a dtype that is no floating point
    type."""
    dt = check_tensor("cauchy_", input)
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    if not dt.is_floating_point:
        raise RuntimeError("Cauchy distribution is a continuous probability distribution. dtype must be a "
                           f"floating point but you specified {_C_NAMES.get(dt.name, dt.title)}")
    return _fill(input, "cauchy", CauchyBackward0, generator, float(median), float(sigma))


def log_normal_(input: Tensor, mean: float = 1.0, std: float = 2.0, *,
                generator: Generator | None = None) -> Tensor:
    """Fill with exp of normal numbers of this mean and standard deviation.

    Raises RuntimeError for a ``std`` that is not positive, NotImplementedError for integers."""
    dt = check_tensor("log_normal_", input)
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    if not dt.is_floating_point:
        raise unsupported("log_normal_cpu", dt)
    return _fill(input, "log_normal", LogNormalBackward0, generator, float(mean), float(std))


def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials up to the first success.

    Raises RuntimeError for ``p`` out of (0, 1), NotImplementedError for bool and complex tensors."""
    dt = check_tensor("geometric_", input)
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    if dt.category not in (1, 2):
        raise unsupported("geometric_cpu", dt)
    return _fill(input, "geometric", GeometricBackward0, generator, float(p))


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability ``p``, a number or a tensor that broadcasts to ``input``, else 0.

    Raises RuntimeError for probabilities out of [0, 1]; in a tensor on cuda they are not looked at."""
    dt = check_tensor("bernoulli_", input)
    if isinstance(p, Tensor):
        either(input._a, p._a)
        if is_host(p._a) and not is_host(input._a):  # a number beside a tensor of a device
            _probabilities(p, ())
            return _fill(input, "bernoulli", BernoulliBackward1, generator, float(p))
        array = _probabilities(p, input._a.shape)
        return _fill(input, "bernoulli_each", BernoulliBackward1, generator, array)
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    if dt.is_complex:
        raise unsupported("bernoulli_scalar_cpu_", dt)
    return _fill(input, "bernoulli", BernoulliBackward2, generator, float(p))


def _probabilities(p: Tensor, shape: Any) -> Any:
    array = p._a
    dt = from_numpy_dtype(array.dtype)
    if not dt.is_floating_point:
        raise unsupported("bernoulli_tensor_cpu_p_", dt)
    if is_host(array) and array.size and not bool(((array >= 0) & (array <= 1)).all()):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error "
                           "message be improved?  If so, please report an enhancement request to PyTorch.)")
    if array.shape != shape:
        from tritium.tensor.ops.view import expand

        return expand(p.detach(), shape)._a
    return array


def random_(input: Tensor, *bounds: int | None, generator: Generator | None = None,
            **named: int | None) -> Tensor:
    """Fill with integers: ``random_()`` any that the dtype holds exactly and that are not negative,
    ``random_(to)`` from [0, to), ``random_(from, to)`` from [from, to); ``to`` None means the largest.

    Raises RuntimeError for bounds in the wrong order or out of the dtype's range."""
    dt = check_tensor("random_", input)
    if dt.is_complex:
        raise unsupported("random_kernel_cpu", dt)
    low, high, kind = _bounds(bounds, named)
    if kind is RandomBackward2:
        span = largest_integer(dt) + 1
        return _fill(input, "any_value", kind, generator, span, dt.name in ("int64", "float64"))
    if high is None:
        if low == _INT64.min:
            return _fill(input, "integers", kind, generator, 0, 1 << 64)
        largest = largest_integer(dt)
        if dt.is_floating_point and low >= largest:
            raise RuntimeError("random_ expects 'from' casted to dtype to be less than or equal to 'to_inc' "
                               f"casted to dtype, but got from={low} > to_inc={largest}")
        high = largest + 1
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    _check_integer("from", low, dt)
    _check_integer("to - 1", high - 1, dt)
    if dt.is_floating_point:
        low, high = _narrow(low, high, dt)
    return _fill(input, "integers", kind, generator, low, high - low)


def _bounds(bounds: tuple[Any, ...], named: dict[str, Any]) -> tuple[int, int | None, type[Node]]:
    values = dict(zip(("from", "to") if len(bounds) > 1 else ("to",), bounds, strict=False), **named)
    if len(bounds) > 2 or values.keys() - {"from", "to"}:
        raise TypeError(f"random_() received an invalid combination of arguments - got {bounds}")
    for name, value in values.items():
        if value is not None and not hasattr(value, "__index__"):
            raise TypeError(f"random_(): argument '{name}' must be int, not {type(value).__name__}")
    high = values.get("to")
    high = None if high is None else high.__index__()
    if "from" in values:
        return values["from"].__index__(), high, RandomBackward0
    return 0, high, RandomBackward2 if high is None else RandomBackward1


def _narrow(low: int, high: int, dt: dtype) -> tuple[int, int]:
    """The bounds for a floating point type, moved inwards as PyTorch does where the integer next to a bound
    rounds to a number beyond it."""
    after, before = (int(np.array(x).astype(np.float64).astype(dt.np)) for x in (low + 1, high - 1))
    digits = _DIGITS[dt.name]
    if after < low:
        low = after + (1 << abs(low + 1).bit_length() - digits)
    if before >= high:
        high = before - (1 << abs(high - 1).bit_length() - digits)
    if low >= high:
        raise RuntimeError("random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, but got "
                           f"from={low} >= to={high}")
    return low, high


def largest_integer(dt: dtype) -> int:
    """The largest integer up to which the dtype has all of them."""
    if dt.category == 0:
        return 1
    return 1 << _DIGITS[dt.name] if dt.is_floating_point else dtypes.iinfo(dt).max


def _check_integer(what: str, value: int, dt: dtype) -> None:
    if dt.is_floating_point:
        limit = dtypes.finfo(dt).max
        digits = _DIGITS[dt.name]
        if abs(value) <= limit and abs(value) > 1 << digits:
            warnings.warn(f"{what} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision "
                          f"limitations {_C_NAMES[dt.name]} can support discrete uniform distribution only "
                          "within this range. This warning will become an error in version 1.7 release, "
                          "please fix the code in advance",
                          UserWarning, stacklevel=4)
        inside = abs(value) <= limit
    else:
        inside = (0 if dt.category == 0 else dtypes.iinfo(dt).min) <= value <= largest_integer(dt)
    if not inside:
        raise RuntimeError(f"{what} is out of bounds for {_C_NAMES[dt.name]}")
