"""Random tensors: in-place samplers, factories, choices and dropout.

After ``manual_seed(s)`` on the CPU all of them give PyTorch's numbers. A sampler fills a tensor in the order of its
memory, and its derivative is zero: what was there before does not count.
https://docs.pytorch.org/docs/stable/torch.html#random-sampling
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from tritium.kernels import of
from tritium.tensor import dtype as dtypes
from tritium.tensor.creation import _like as array_like
from tritium.tensor.creation import zeros_like
from tritium.tensor.device import as_available
from tritium.tensor.dtype import as_dtype, dtype, from_numpy_dtype, get_default_dtype
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
from tritium.tensor.layout import broadcast_shapes, check_sizes, shape_of
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pointwise import add, mul, mul_
from tritium.tensor.random import Generator, stream_of
from tritium.tensor.tensor import Tensor

# How PyTorch's messages name the element types, and up to which power of two a type has all the integers.
_C_NAMES = {"uint8": "unsigned char", "int8": "signed char", "int16": "short int", "int32": "int", "int64": "long int",
            "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double",
            "bool": "bool"}
_DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_INT64 = np.iinfo(np.int64)


def _zero_node(name: str) -> type[Node]:
    """A kind of node whose gradients are zero."""

    def backward(node: Node, grad: Tensor) -> Any:
        """Nothing of the input is left in the output."""
        return zeros_like(grad) if len(node.edges) == 1 else (zeros_like(grad),) * len(node.edges)

    backward.__name__ = name
    return derivative(backward)


UniformBackward0, NormalBackward0, ExponentialBackward0, CauchyBackward0, LogNormalBackward0, GeometricBackward0 = map(
    _zero_node, ("UniformBackward0", "NormalBackward0", "ExponentialBackward0", "CauchyBackward0",
                 "LogNormalBackward0", "GeometricBackward0"))
RandomBackward0, RandomBackward1, RandomBackward2 = map(_zero_node, [f"RandomBackward{i}" for i in range(3)])
BernoulliBackward0, BernoulliBackward1, BernoulliBackward2 = map(_zero_node,
                                                                 [f"BernoulliBackward{i}" for i in range(3)])
NormalBackward1, NormalBackward2, NormalBackward3 = map(_zero_node, [f"NormalBackward{i}" for i in (1, 2, 3)])


def _fill(t: Tensor, sampler: str, kind: type[Node] | None, generator: Generator | None, *args: Any) -> Tensor:
    """Let a kernel fill ``t``, and give it its place in the graph."""
    stream = stream_of(generator)
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


def _parts(array: np.ndarray) -> np.ndarray:
    """A complex array as a real one with a last dimension of 2."""
    real = array.real
    return np.lib.stride_tricks.as_strided(real, (*real.shape, 2), (*real.strides, real.itemsize))


def _unsupported(kernel: str, dt: dtype) -> NotImplementedError:
    return NotImplementedError(f"\"{kernel}\" not implemented for '{dt.title}'")


def _check_tensor(name: str, t: Any) -> dtype:
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(t).__name__}")
    return from_numpy_dtype(t._a.dtype)


# --- in place -------------------------------------------------------------------------------

def uniform_(input: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None,
             **named: float) -> Tensor:
    """Fill with numbers from [from, to).

    Raises RuntimeError for bounds in the wrong order or out of the dtype's range, NotImplementedError for integers."""
    low, high = float(named.pop("from", from_)), float(to)
    if named:
        raise TypeError(f"uniform_() got an unexpected keyword argument '{next(iter(named))}'")
    dt = _check_tensor("uniform_", input).to_real()
    if not dt.is_floating_point:
        raise _unsupported("check_uniform_bounds", dt)
    limit = dtypes.finfo(dt).max
    for name, bound in (("from", low), ("to", high)):
        if not -limit <= bound <= limit:
            raise RuntimeError(f"{name} is out of bounds for {_C_NAMES[dt.name]}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > limit:
        raise RuntimeError(f"uniform_ expects to-from <= std::numeric_limits<{dt.title}>::max(), but found to={high:g} "
                           f"and from={low:g} which result in to-from to exceed the limit")
    return _fill(input, "uniform", UniformBackward0, generator, low, high)


def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers. Of a complex tensor both parts get ``mean``, and half of the variance each.

    Raises RuntimeError for a negative ``std``, NotImplementedError for integers."""
    _check_std(std)
    dt = _check_tensor("normal_", input)
    if dt.category < 2:
        raise _unsupported("normal_kernel_cpu", dt)
    mean, std = float(mean), float(std)
    if dt.is_complex:
        std /= math.sqrt(2.0)
    return _fill(input, "normal", NormalBackward0, generator, mean, std)


def _check_std(std: float) -> None:
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")


def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate ``lambd``.

    Raises RuntimeError for a rate that is not positive, and for a dtype that is no floating point type."""
    dt = _check_tensor("exponential_", input)
    if not dt.is_floating_point:
        raise RuntimeError("Exponential distribution is a continuous probability distribution. dtype must be a "
                           f"floating point but you specified {dt.title}")
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    return _fill(input, "exponential", ExponentialBackward0, generator, float(lambd))


def cauchy_(input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with Cauchy numbers.

    Raises RuntimeError for a ``sigma`` that is not positive, and for a dtype that is no floating point type."""
    dt = _check_tensor("cauchy_", input)
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    if not dt.is_floating_point:
        raise RuntimeError("Cauchy distribution is a continuous probability distribution. dtype must be a floating "
                           f"point but you specified {_C_NAMES.get(dt.name, dt.title)}")
    return _fill(input, "cauchy", CauchyBackward0, generator, float(median), float(sigma))


def log_normal_(input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exp of normal numbers of this mean and standard deviation.

    Raises RuntimeError for a ``std`` that is not positive, NotImplementedError for integers."""
    dt = _check_tensor("log_normal_", input)
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    if not dt.is_floating_point:
        raise _unsupported("log_normal_cpu", dt)
    return _fill(input, "log_normal", LogNormalBackward0, generator, float(mean), float(std))


def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials up to the first success.

    Raises RuntimeError for ``p`` out of (0, 1), NotImplementedError for bool and complex tensors."""
    dt = _check_tensor("geometric_", input)
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    if dt.category not in (1, 2):
        raise _unsupported("geometric_cpu", dt)
    return _fill(input, "geometric", GeometricBackward0, generator, float(p))


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability ``p``, a number or a tensor that broadcasts to ``input``, else 0.

    Raises RuntimeError for probabilities out of [0, 1]."""
    dt = _check_tensor("bernoulli_", input)
    if isinstance(p, Tensor):
        return _fill(input, "bernoulli_each", BernoulliBackward1, generator, _probabilities(p, input._a.shape))
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    if dt.is_complex:
        raise _unsupported("bernoulli_scalar_cpu_", dt)
    return _fill(input, "bernoulli", BernoulliBackward2, generator, float(p))


def _probabilities(p: Tensor, shape: Any) -> np.ndarray:
    array = p._a
    dt = from_numpy_dtype(array.dtype)
    if not dt.is_floating_point:
        raise _unsupported("bernoulli_tensor_cpu_p_", dt)
    if array.size and not bool(((array >= 0) & (array <= 1)).all()):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message be "
                           "improved?  If so, please report an enhancement request to PyTorch.)")
    if array.shape != shape:
        from tritium.tensor.ops.view import expand

        return expand(p.detach(), shape)._a
    return array


def random_(input: Tensor, *bounds: int | None, generator: Generator | None = None, **named: int | None) -> Tensor:
    """Fill with integers: ``random_()`` any that the dtype holds exactly and that are not negative, ``random_(to)``
    from [0, to), ``random_(from, to)`` from [from, to); ``to`` None means the largest.

    Raises RuntimeError for bounds in the wrong order or out of the dtype's range."""
    dt = _check_tensor("random_", input)
    if dt.is_complex:
        raise _unsupported("random_kernel_cpu", dt)
    low, high, kind = _bounds(bounds, named)
    if kind is RandomBackward2:
        span = _largest(dt) + 1
        return _fill(input, "any_value", kind, generator, span, dt.name in ("int64", "float64"))
    if high is None:
        if low == _INT64.min:
            return _fill(input, "integers", kind, generator, 0, 1 << 64)
        largest = _largest(dt)
        if dt.is_floating_point and low >= largest:
            raise RuntimeError("random_ expects 'from' casted to dtype to be less than or equal to 'to_inc' casted to "
                               f"dtype, but got from={low} > to_inc={largest}")
        high = largest + 1
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    _check_integer("from", low, dt)
    _check_integer("to - 1", high - 1, dt)
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


def _largest(dt: dtype) -> int:
    """The largest integer up to which the dtype has all of them."""
    if dt.category == 0:
        return 1
    return 1 << _DIGITS[dt.name] if dt.is_floating_point else dtypes.iinfo(dt).max


def _check_integer(what: str, value: int, dt: dtype) -> None:
    if dt.is_floating_point:
        limit = dtypes.finfo(dt).max
        digits = _DIGITS[dt.name]
        if abs(value) <= limit and abs(value) > 1 << digits:
            warnings.warn(f"{what} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision limitations "
                          f"{_C_NAMES[dt.name]} can support discrete uniform distribution only within this range. This "
                          "warning will become an error in version 1.7 release, please fix the code in advance",
                          UserWarning, stacklevel=4)
        inside = abs(value) <= limit
    else:
        inside = (0 if dt.category == 0 else dtypes.iinfo(dt).min) <= value <= _largest(dt)
    if not inside:
        raise RuntimeError(f"{what} is out of bounds for {_C_NAMES[dt.name]}")


# --- factories ------------------------------------------------------------------------------

def _fresh(name: str, size: Any, default: dtype | None, dtype_: Any, device: Any, requires_grad: bool,
           out: Tensor | None) -> Tensor:
    """An uninitialised tensor for a factory to fill: a new one, or ``out`` in the right size.

    Raises RuntimeError for a negative size, a dtype that is not that of ``out`` or cannot require gradients."""
    as_available(device)
    try:
        shape = check_sizes(shape_of(size))
    except TypeError as error:
        raise TypeError(f"{name}(): {error}") from None
    if out is not None:
        if dtype_ is not None and as_dtype(dtype_) is not out.dtype:
            raise RuntimeError(f"dtype {as_dtype(dtype_).title} does not match dtype of out parameter "
                               f"({out.dtype.title})")
        if out._a.shape != shape:
            materialize(out)
            out._a = np.empty(shape, out._a.dtype)
        return out
    dt = as_dtype(dtype_) if dtype_ is not None else default or get_default_dtype()
    if requires_grad and dt.category < 2:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    return wrap(np.empty(shape, dt.np))


def _ready(t: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        t.requires_grad = True
    return t


def _size_argument(name: str, args: tuple[Any, ...], size: Any) -> Any:
    if size is not None:
        return (size,)
    if not args:
        raise TypeError(f"{name}() received an invalid combination of arguments - got (), but expected one of: "
                        "(tuple of ints size, ...)")
    return args


def rand(*args: Any, size: Any = None, generator: Generator | None = None, out: Tensor | None = None, dtype: Any = None,
         layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of this size with numbers from [0, 1): ``rand(2, 3)``, ``rand((2, 3))``, ``rand(size=(2, 3))``."""
    t = _fresh("rand", _size_argument("rand", args, size), None, dtype, device, requires_grad, out)
    return _ready(uniform_(t, generator=generator), requires_grad)


def randn(*args: Any, size: Any = None, generator: Generator | None = None, out: Tensor | None = None,
          dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
          pin_memory: bool = False) -> Tensor:
    """A tensor of this size with standard normal numbers."""
    t = _fresh("randn", _size_argument("randn", args, size), None, dtype, device, requires_grad, out)
    return _ready(normal_(t, generator=generator), requires_grad)


def randint(*args: Any, low: Any = None, high: Any = None, size: Any = None, generator: Generator | None = None,
            out: Tensor | None = None, dtype: Any = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of integers from [low, high), int64 unless told otherwise: ``randint(high, size)`` or
    ``randint(low, high, size)``.

    Raises RuntimeError when ``low`` is not below ``high``."""
    given = list(args)
    if size is None and given and len(given) > (high is None):
        size = given.pop()
    low, high = _range("randint", given, low, high)
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"randint(): argument 'size' (position {len(args)}) must be tuple of ints, not "
                        f"{type(size).__name__}")
    t = _fresh("randint", (size,), dtypes.int64, dtype, device, requires_grad, out)
    return _ready(_bounded(t, low, high, generator), requires_grad)


def _range(name: str, given: list[Any], low: Any, high: Any) -> tuple[int, int]:
    if given and high is None:
        high = given.pop()
    if given and low is None:
        low = given.pop()
    if given or high is None:
        raise TypeError(f"{name}() received an invalid combination of arguments")
    for what, value in (("low", low), ("high", high)):
        if value is not None and not hasattr(value, "__index__"):
            raise TypeError(f"{name}(): argument '{what}' must be int, not {type(value).__name__}")
    return 0 if low is None else low.__index__(), high.__index__()


def _bounded(t: Tensor, low: int, high: int, generator: Generator | None) -> Tensor:
    if from_numpy_dtype(t._a.dtype).is_complex:
        raise RuntimeError("check_random_bounds handles only integral, floating-point and boolean types")
    return random_(t, low, high, generator=generator)


def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None, layout: Any = None,
              device: Any = None, requires_grad: bool = False, memory_format: Any = None,
              pin_memory: bool = False) -> Tensor:
    """``rand`` with the size, dtype and order of dimensions of ``input``."""
    return _ready(uniform_(_blank(input, dtype, device, memory_format), generator=generator), requires_grad)


def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None, layout: Any = None,
               device: Any = None, requires_grad: bool = False, memory_format: Any = None,
               pin_memory: bool = False) -> Tensor:
    """``randn`` with the size, dtype and order of dimensions of ``input``."""
    return _ready(normal_(_blank(input, dtype, device, memory_format), generator=generator), requires_grad)


def randint_like(input: Tensor, *args: Any, low: Any = None, high: Any = None, generator: Generator | None = None,
                 dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
                 memory_format: Any = None, pin_memory: bool = False) -> Tensor:
    """``randint`` with the size, dtype and order of dimensions of ``input``: ``randint_like(x, high)`` or
    ``randint_like(x, low, high)``."""
    low, high = _range("randint_like", list(args), low, high)
    return _ready(_bounded(_blank(input, dtype, device, memory_format), low, high, generator), requires_grad)


def _blank(input: Tensor, dtype_: Any, device: Any, memory_format: Any) -> Tensor:
    as_available(device)
    return wrap(array_like(input, dtype_, memory_format, np.empty))


def randperm(n: int, *, generator: Generator | None = None, out: Tensor | None = None, dtype: Any = None,
             layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """0 ... n - 1 in random order, int64 unless told otherwise.

    Raises RuntimeError for a negative ``n`` and for a dtype that does not hold the numbers."""
    if not hasattr(n, "__index__"):
        raise TypeError(f"randperm(): argument 'n' (position 1) must be int, not {type(n).__name__}")
    n = n.__index__()
    stream = stream_of(generator)
    t = _fresh("randperm", (n,), dtypes.int64, dtype, device, requires_grad, out)
    dt = t.dtype
    if dt.category not in (1, 2):
        raise _unsupported("randperm", dt)
    if dt.is_floating_point and n > _largest(dt) + 1:
        raise RuntimeError(f"n cannot be greater than {_largest(dt) + 1} for {dt.title} type.")
    if not dt.is_floating_point and n > _largest(dt) + 1:
        raise RuntimeError(f"value cannot be converted to type {'int' if dt.name == 'int32' else dt.name + '_t'} "
                           "without overflow")
    t._a[...] = of(t._a).random.permutation(stream, n)
    bump(t)
    return _ready(t, requires_grad)


# --- from tensors of parameters -------------------------------------------------------------

def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           out: Tensor | None = None, dtype: Any = None, layout: Any = None, device: Any = None,
           requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Normal numbers: of one mean and standard deviation with ``size``, or with one or both of them tensors.

    Raises RuntimeError for a negative ``std``."""
    if not isinstance(mean, Tensor) and not isinstance(std, Tensor):
        if not isinstance(size, (tuple, list)):
            raise TypeError("normal() received an invalid combination of arguments - got "
                            f"({type(mean).__name__}, {type(std).__name__}"
                            f"{'' if size is None else ', ' + type(size).__name__}), but expected one of: (Tensor mean, "
                            "Tensor std), (Tensor mean, float std), (float mean, Tensor std), (float mean, float std, "
                            "tuple of ints size)")
        t = _fresh("normal", (size,), None, dtype, device, requires_grad, out)
        return _ready(normal_(t, mean, std, generator=generator), requires_grad)
    if isinstance(std, Tensor):
        if std._a.dtype.kind == "c":
            raise RuntimeError("normal expects standard deviation to be non-complex")
        if std._a.size and not bool((std._a >= 0).all()):
            raise RuntimeError("normal expects all elements of std >= 0.0")
    else:
        _check_std(std)
    inputs = tuple(x for x in (mean, std) if isinstance(x, Tensor))
    t = wrap(np.empty(broadcast_shapes(*[x._a.shape for x in inputs]), inputs[0]._a.dtype))
    if isinstance(std, Tensor):
        normal_(t, generator=generator)
        mul_(t, std.detach())
    else:
        normal_(t, 0.0, std, generator=generator)
    result = add(t, mean.detach() if isinstance(mean, Tensor) else mean)
    if result._a.dtype != t._a.dtype:
        result = wrap(of(t._a).pointwise.cast(result._a, t._a.dtype))
    if out is not None:
        return write_out("normal", out, result, *inputs)
    if recording(*inputs):
        kind = NormalBackward3 if len(inputs) == 2 else NormalBackward1 if isinstance(mean, Tensor) else NormalBackward2
        record(result, kind, inputs)
    return result


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None,
              out: Tensor | None = None) -> Tensor:
    """1 with the probabilities in ``input`` (or with ``p`` for every element of its shape), else 0.

    Raises RuntimeError for probabilities out of [0, 1], NotImplementedError for probabilities that are integers."""
    _check_tensor("bernoulli", input)
    t = wrap(np.empty(input._a.shape, input._a.dtype if out is None else out._a.dtype))
    bernoulli_(t, input.detach() if p is None else p, generator=generator)
    if out is not None:
        return write_out("bernoulli", out, t)
    if p is None and recording(input):
        record(t, BernoulliBackward0, (input,))
    return t


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None,
                out: Tensor | None = None) -> Tensor:
    """Indices drawn with the weights in ``input``, (n) or (rows, n), which need not sum to one: int64 of
    (num_samples) or (rows, num_samples).

    Where two float16 or bfloat16 weights tie in the draw without replacement, the lower index comes first.
    Raises RuntimeError for weights that are no distribution, or too few of them without replacement."""
    dt = _check_tensor("multinomial", input)
    a = input._a
    if not hasattr(num_samples, "__index__"):
        raise TypeError(f"multinomial(): argument 'num_samples' (position 2) must be int, not "
                        f"{type(num_samples).__name__}")
    if out is not None and out.dtype is not dtypes.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {out.dtype.title}")
    if a.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not dt.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {dt.title}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > a.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if a.shape[-1] > 1 << 24:
        raise RuntimeError("number of categories cannot exceed 2^24")
    if a.size:
        _check_weights(a, not replacement or num_samples == 1)
    stream = stream_of(generator)
    indices = of(a).random.multinomial(stream, a, num_samples.__index__(), bool(replacement))
    t = wrap(indices)
    return t if out is None else write_out("multinomial", out, t)


def _check_weights(a: np.ndarray, race: bool) -> None:
    """Raise PyTorch's errors for weights that are no distribution. They differ between its two algorithms."""
    negative, infinite = not bool((a >= 0).all()), not bool(np.isfinite(a).all())
    if race:
        if negative or infinite:
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    elif negative:
        raise RuntimeError("invalid multinomial distribution (encountering probability entry < 0)")
    elif infinite:
        raise RuntimeError("invalid multinomial distribution (encountering probability entry = infinity or NaN)")
    if not bool((a > 0).any(-1).all()):
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
