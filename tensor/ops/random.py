"""Random tensors: factories, and draws from tensors of parameters.

After ``manual_seed(s)`` on the CPU all of them give PyTorch's numbers; on cuda they are our own.
https://docs.pytorch.org/docs/stable/torch.html#random-sampling
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import either, is_host, of, on
from tritium.tensor import dtype as dtypes
from tritium.tensor.creation import _like as array_like
from tritium.tensor.device import as_available
from tritium.tensor.dtype import as_dtype, dtype, from_numpy_dtype, get_default_dtype
from tritium.tensor.graph import bump, materialize, record, recording, wrap
from tritium.tensor.layout import broadcast_shapes, check_sizes, shape_of
from tritium.tensor.ops.out import write_out
from tritium.tensor.ops.pointwise import add, mul_
from tritium.tensor.ops.random_fill import (
    bernoulli_,
    cauchy_,
    check_std,
    check_tensor,
    exponential_,
    geometric_,
    largest_integer,
    log_normal_,
    normal_,
    random_,
    uniform_,
    unsupported,
    zero_node,
)
from tritium.tensor.random import Generator, stream_of
from tritium.tensor.tensor import Tensor

METHODS = ["bernoulli", "multinomial", *[f.__name__ for f in (bernoulli_, cauchy_, exponential_, geometric_,
                                                              log_normal_, normal_, random_, uniform_)]]
FUNCTIONS = ["rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal",
             "bernoulli", "multinomial"]

BernoulliBackward0 = zero_node("BernoulliBackward0")
NormalBackward1, NormalBackward2, NormalBackward3 = map(zero_node, [f"NormalBackward{i}" for i in (1, 2, 3)])


def _fresh(name: str, size: Any, default: dtype | None, dtype_: Any, device: Any, requires_grad: bool,
           out: Tensor | None) -> Tensor:
    """An uninitialised tensor for a factory to fill: a new one, or ``out`` in the right size.

    Raises RuntimeError for a negative size, a dtype that is not that of ``out`` or cannot require
    gradients."""
    place = on(as_available(device) if out is None else out.device)
    try:
        shape = check_sizes(shape_of(size))
    except TypeError as error:
        if len(size) == 1 and not isinstance(size[0], (tuple, list)):
            raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not "
                            f"{type(size[0]).__name__}") from None
        raise TypeError(f"{name}(): {error}") from None
    if out is not None:
        if dtype_ is not None and as_dtype(dtype_) is not out.dtype:
            raise RuntimeError(f"dtype {as_dtype(dtype_).title} does not match dtype of out parameter "
                               f"({out.dtype.title})")
        if out._a.shape != shape:
            materialize(out)
            out._a = place.empty(shape, out._a.dtype)
        return out
    dt = as_dtype(dtype_) if dtype_ is not None else default or get_default_dtype()
    if requires_grad and dt.category < 2:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    return wrap(place.empty(shape, dt.np))


def _ready(t: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        t.requires_grad = True
    return t


def _size_argument(name: str, args: tuple[Any, ...], size: Any) -> Any:
    if size is not None:
        return (size,)
    if not args:
        raise TypeError(f"{name}() received an invalid combination of arguments - got (), but expected one "
                        "of: (tuple of ints size, ...)")
    return args


def rand(*args: Any, size: Any = None, generator: Generator | None = None, out: Tensor | None = None,
         dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
         pin_memory: bool = False) -> Tensor:
    """A tensor of this size, ``rand(2, 3)`` or ``rand((2, 3))``, with numbers from [0, 1)."""
    t = _fresh("rand", _size_argument("rand", args, size), None, dtype, device, requires_grad, out)
    return _ready(uniform_(t, generator=generator), requires_grad)


def randn(*args: Any, size: Any = None, generator: Generator | None = None, out: Tensor | None = None,
          dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
          pin_memory: bool = False) -> Tensor:
    """A tensor of this size with standard normal numbers."""
    t = _fresh("randn", _size_argument("randn", args, size), None, dtype, device, requires_grad, out)
    return _ready(normal_(t, generator=generator), requires_grad)


def randint(*args: Any, low: Any = None, high: Any = None, size: Any = None,
            generator: Generator | None = None, out: Tensor | None = None, dtype: Any = None,
            layout: Any = None, device: Any = None, requires_grad: bool = False,
            pin_memory: bool = False) -> Tensor:
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


def randint_like(input: Tensor, *args: Any, low: Any = None, high: Any = None,
                 generator: Generator | None = None, dtype: Any = None, layout: Any = None,
                 device: Any = None, requires_grad: bool = False, memory_format: Any = None,
                 pin_memory: bool = False) -> Tensor:
    """``randint`` with the size, dtype and order of dimensions of ``input``: ``randint_like(x, high)`` or
    ``randint_like(x, low, high)``."""
    low, high = _range("randint_like", list(args), low, high)
    return _ready(_bounded(_blank(input, dtype, device, memory_format), low, high, generator), requires_grad)


def _blank(input: Tensor, dtype_: Any, device: Any, memory_format: Any) -> Tensor:
    return wrap(array_like(input, dtype_, memory_format, device, "empty"))


def randperm(n: int, *, generator: Generator | None = None, out: Tensor | None = None, dtype: Any = None,
             layout: Any = None, device: Any = None, requires_grad: bool = False,
             pin_memory: bool = False) -> Tensor:
    """0 ... n - 1 in random order, int64 unless told otherwise.

    Raises RuntimeError for a negative ``n`` and for a dtype that does not hold the numbers."""
    if not hasattr(n, "__index__"):
        raise TypeError(f"randperm(): argument 'n' (position 1) must be int, not {type(n).__name__}")
    n = n.__index__()
    t = _fresh("randperm", (n,), dtypes.int64, dtype, device, requires_grad, out)
    stream = stream_of(generator, t._a)
    dt = t.dtype
    if dt.category not in (1, 2):
        raise unsupported("randperm", dt)
    if dt.is_floating_point and n > largest_integer(dt) + 1:
        raise RuntimeError(f"n cannot be greater than {largest_integer(dt) + 1} for {dt.title} type.")
    if not dt.is_floating_point and n > largest_integer(dt) + 1:
        raise RuntimeError(f"value cannot be converted to type "
                           f"{'int' if dt.name == 'int32' else dt.name + '_t'} without overflow")
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
                            f"{'' if size is None else ', ' + type(size).__name__}), but expected one of: "
                            "(Tensor mean, Tensor std), (Tensor mean, float std), (float mean, Tensor std), "
                            "(float mean, float std, tuple of ints size)")
        t = _fresh("normal", (size,), None, dtype, device, requires_grad, out)
        return _ready(normal_(t, mean, std, generator=generator), requires_grad)
    if isinstance(std, Tensor):
        if std._a.dtype.kind == "c":
            raise RuntimeError("normal expects standard deviation to be non-complex")
        if _some_negative(std._a):
            raise RuntimeError("normal expects all elements of std >= 0.0")
    else:
        check_std(std)
    inputs = tuple(x for x in (mean, std) if isinstance(x, Tensor))
    either(*[x._a for x in inputs])
    where = next((x for x in inputs if not is_host(x._a)), inputs[0]).device
    t = wrap(on(where).empty(broadcast_shapes(*[x._a.shape for x in inputs]), inputs[0]._a.dtype))
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
        one = NormalBackward1 if isinstance(mean, Tensor) else NormalBackward2
        record(result, NormalBackward3 if len(inputs) == 2 else one, inputs)
    return result


def _some_negative(a: Any) -> bool:
    """Whether an element is not >= 0. Waits for the device."""
    if is_host(a):
        return not bool((a >= 0).all())
    return of(a).random.weights_check(a)[0]


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None,
              out: Tensor | None = None) -> Tensor:
    """1 with the probabilities in ``input`` (or with ``p`` for every element of its shape), else 0.

    Raises RuntimeError for probabilities out of [0, 1], NotImplementedError for probabilities that are
    integers."""
    check_tensor("bernoulli", input)
    t = wrap(on(input.device).empty(input._a.shape, input._a.dtype if out is None else out._a.dtype))
    bernoulli_(t, input.detach() if p is None else p, generator=generator)
    if out is not None:
        return write_out("bernoulli", out, t)
    if p is None and recording(input):
        record(t, BernoulliBackward0, (input,))
    return t


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None, out: Tensor | None = None) -> Tensor:
    """Indices drawn with the weights in ``input``, (n) or (rows, n), which need not sum to one: int64 of
    (num_samples) or (rows, num_samples).

    Where two float16 or bfloat16 weights tie in the draw without replacement, the lower index comes first.
    Raises RuntimeError for weights that are no distribution, or too few of them without replacement."""
    dt = check_tensor("multinomial", input)
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
    stream = stream_of(generator, a)
    indices = of(a).random.multinomial(stream, a, num_samples.__index__(), bool(replacement))
    t = wrap(indices)
    return t if out is None else write_out("multinomial", out, t)


def _check_weights(a: Any, race: bool) -> None:
    """Raise PyTorch's errors for weights that are no distribution. They differ between its two algorithms. Waits for
    the device."""
    if is_host(a):
        negative, infinite = not bool((a >= 0).all()), not bool(np.isfinite(a).all())
        nothing = not bool((a > 0).any(-1).all())
    else:
        negative, infinite, nothing = of(a).random.weights_check(a)
    if race:
        if negative or infinite:
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    elif negative:
        raise RuntimeError("invalid multinomial distribution (encountering probability entry < 0)")
    elif infinite:
        raise RuntimeError("invalid multinomial distribution (encountering probability entry = infinity or "
                           "NaN)")
    if nothing:
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
