"""Operations along a dimension of a block: reductions, scans, sorts.

A combining function of the user's is evaluated on whole blocks in a tree of log2(n) steps, neighbours first: combining
is associative by contract, so only the order of rounding differs from a GPU's.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl

from tritium.kernels.runtime.emulation.builder import LOW_KINDS
from tritium.kernels.runtime.emulation.values import block, make

_standard: Any = tl.standard


def _named(table: dict[str, Any]) -> dict[int, Any]:
    """By the identity of Triton's own combining functions, of those that this version has."""
    return {id(getattr(_standard, name)): value for name, value in table.items() if hasattr(_standard, name)}


SHORT = (np.dtype(np.float16), *LOW_KINDS)  # sums of these are rounded at each step
FOLDS = _named({"_sum_combine": np.add, "_elementwise_max": np.fmax, "_elementwise_min": np.fmin, "_xor_combine":
                np.bitwise_xor, "_or_combine": np.bitwise_or, "_prod_combine": np.multiply})
ARGUMENTS = _named({"_argmax_combine_tie_break_left": (np.argmax, True),
                    "_argmin_combine_tie_break_left": (np.argmin, True),
                    "_argmax_combine_tie_break_fast": (np.argmax, False),
                    "_argmin_combine_tie_break_fast": (np.argmin, False)})
RUNNING = _named({"_sum_combine": np.add, "_prod_combine": np.multiply})


def _as_tensor(data: Any, dtype: Any) -> Any:
    """A block, or a number where no dimension is left."""
    data = np.asarray(data)
    return make(data, dtype, block(dtype, data.shape)) if data.ndim else make(data.reshape(1), dtype, dtype)


def _tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x.values) if hasattr(x, "values") else tuple(x)


def _combined(combine: Callable[..., Any], left: list[Any], right: list[Any], dtypes: list[Any]) -> list[Any]:
    """The combining function on two lists of arrays."""
    shape = left[0].shape
    given = [make(x, t, block(t, shape)) for x, t in zip(left + right, dtypes + dtypes, strict=True)]
    got = combine(*given)
    results = _tuple(got) if isinstance(got, (tuple, tl.tuple)) else (got,)
    if len(results) != len(dtypes):
        raise TypeError(f"the combining function returned {len(results)} values for {len(dtypes)}")
    out = []
    for r, dtype, before in zip(results, dtypes, left, strict=True):
        data = r.handle.data if hasattr(r, "handle") else np.full(shape, r, before.dtype)
        if hasattr(r, "handle") and r.dtype != dtype:
            raise TypeError(f"the combining function returned {r.dtype} for {dtype}")
        out.append(np.broadcast_to(data, shape))
    return out


def tree(arrays: list[Any], combine: Callable[[list[Any], list[Any]], list[Any]]) -> list[Any]:
    """The last dimension folded, neighbour with neighbour."""
    while arrays[0].shape[-1] > 1:
        n = arrays[0].shape[-1]
        even = n - n % 2
        folded = combine([x[..., 0:even:2] for x in arrays], [x[..., 1:even:2] for x in arrays])
        if n % 2:
            folded = [np.concatenate([f, x[..., even:]], -1) for f, x in zip(folded, arrays, strict=True)]
        arrays = folded
    return [x[..., 0] for x in arrays]


def reduce(input: Any, axis: Any, combine_fn: Any, keep_dims: Any = False, **ignored: Any) -> Any:
    """``tl.reduce``."""
    axis, keep_dims = (x.value if isinstance(x, tl.constexpr) else x for x in (axis, keep_dims))
    single = isinstance(input, tl.tensor)
    inputs = (input,) if single else _tuple(input)
    rank = len(inputs[0].handle.data.shape)
    if not inputs[0].type.is_block():
        raise ValueError("a number cannot be reduced")
    if axis is not None and not -rank <= axis < rank:
        raise ValueError(f"invalid reduction axis {axis} for a block of {rank} dimensions")
    shape, dtypes = np.broadcast_shapes(*[x.handle.data.shape for x in inputs]), [x.dtype for x in inputs]
    kept = tuple(1 if axis is None or d == axis % rank else n for d, n in enumerate(shape))
    arrays = [np.broadcast_to(x.handle.data, shape) for x in inputs]
    if axis is None:
        arrays = [x.reshape(-1) for x in arrays]
    elif axis % rank != rank - 1:
        arrays = [np.moveaxis(x, axis, -1) for x in arrays]
    results = _reduced(arrays, dtypes, combine_fn)
    out = [_as_tensor(np.asarray(r).reshape(kept) if keep_dims else r, t) for r, t in zip(results, dtypes, strict=True)]
    return out[0] if single else tuple(out)


def _reduced(arrays: list[Any], dtypes: list[Any], combine_fn: Any) -> list[Any]:
    fold = FOLDS.get(id(combine_fn))
    x = arrays[0]
    if fold is not None and len(arrays) == 1:
        if x.dtype.kind in "iub" and fold in (np.fmax, np.fmin):
            fold = np.maximum if fold is np.fmax else np.minimum
        if x.dtype in SHORT and fold in (np.add, np.multiply) or x.dtype in LOW_KINDS:
            return tree(arrays, lambda a, b: [fold(a[0], b[0])])
        if x.dtype == np.bool_ and fold is np.add:
            return [np.bitwise_xor.reduce(x, axis=-1)]
        return [fold.reduce(x, axis=-1, **({} if fold in (np.fmax, np.fmin) else {"dtype": x.dtype}))]
    pick = ARGUMENTS.get(id(combine_fn))
    if pick is not None and not (x.dtype.kind in "fV" and np.isnan(x).any()):
        choose, left = pick
        x = x.astype(np.float32) if x.dtype in LOW_KINDS else x
        # ties that may be broken anyhow are broken the other way, so that whoever counts on them notices
        at = choose(x, axis=-1) if left else x.shape[-1] - 1 - choose(x[..., ::-1], axis=-1)
        at = np.expand_dims(at, -1)
        return [np.take_along_axis(a, at, axis=-1)[..., 0] for a in arrays]
    return tree(arrays, lambda a, b: _combined(combine_fn, a, b, dtypes))


def scan(input: Any, axis: Any, combine_fn: Any, reverse: Any = False, **ignored: Any) -> Any:
    """``tl.associative_scan``."""
    axis, reverse = (x.value if isinstance(x, tl.constexpr) else x for x in (axis, reverse))
    single = isinstance(input, tl.tensor)
    inputs = (input,) if single else _tuple(input)
    dtypes = [x.dtype for x in inputs]
    shape = np.broadcast_shapes(*[x.handle.data.shape for x in inputs])
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"scan axis {axis} must be < inputs rank ({len(shape)})")
    arrays = [np.moveaxis(np.broadcast_to(x.handle.data, shape), axis, -1) for x in inputs]
    if reverse:
        arrays = [x[..., ::-1] for x in arrays]
    running = RUNNING.get(id(combine_fn))
    if running is not None and arrays[0].dtype not in SHORT and arrays[0].dtype != np.bool_:
        arrays = [running.accumulate(arrays[0], axis=-1, dtype=arrays[0].dtype)]
    else:
        n, step = arrays[0].shape[-1], 1
        while step < n:  # each place takes what the places before it hold, twice as far back each time
            back = [np.concatenate([x[..., :step], x[..., :-step]], -1) for x in arrays]
            joined = _combined(combine_fn, back, arrays, dtypes)
            inside = np.arange(n) >= step
            arrays = [np.where(inside, j, x) for j, x in zip(joined, arrays, strict=True)]
            step *= 2
    if reverse:
        arrays = [x[..., ::-1] for x in arrays]
    out = [_as_tensor(np.ascontiguousarray(np.moveaxis(x, -1, axis)), t) for x, t in zip(arrays, dtypes, strict=True)]
    return out[0] if single else tuple(out)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, tl.constexpr) else x


def sorting(original: Callable[..., Any], select: bool) -> Callable[..., Any]:
    """``tl.sort`` or ``tl.topk``; Triton's own network of comparisons where a nan is among the values."""

    def sort(x: Any, k: Any = None, dim: Any = None, descending: Any = select) -> Any:
        k, dim, descending = _value(k), _value(dim), bool(_value(descending))
        data = x.handle.data
        rank = data.ndim
        if dim not in (None, rank - 1):
            raise AssertionError("only minor dimension is currently supported")
        if select and (k <= 0 or k & (k - 1) or k > data.shape[-1]):
            raise AssertionError("topk: k must be a power of two, at most the size of the dimension")
        if data.dtype.kind in "fV" and np.isnan(data).any():
            return original(x, k, dim) if select else original(x, dim, descending)
        keys = data.astype(np.float32) if data.dtype in LOW_KINDS else data
        ordered = np.sort(keys, axis=-1)
        if descending:
            ordered = ordered[..., ::-1]
        if select:
            ordered = ordered[..., :k]
        return _as_tensor(np.ascontiguousarray(ordered).astype(data.dtype, copy=False), x.dtype)

    if select:
        return sort
    return lambda x, dim=None, descending=False: sort(x, None, dim, descending)


def flip(x: Any, dim: Any = None) -> Any:
    """``tl.flip``."""
    dim = _value(dim)
    return _as_tensor(np.ascontiguousarray(np.flip(x.handle.data, -1 if dim is None else dim)), x.dtype)


_FACTORS, _KEYS = (np.array(pair, np.uint64) for pair in ([0xD2511F53, 0xCD9E8D57], [0x9E3779B9, 0xBB67AE85]))
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(original: Callable[..., Any]) -> Callable[..., Any]:
    """Triton's Philox rounds at once, for 32-bit words: the even words and the odd ones as two rows each."""

    def philox_impl(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any, n_rounds: Any = 10) -> Any:
        words = [c0, c1, c2, c3, k0, k1]
        if any(not isinstance(w, tl.tensor) or w.dtype.name != "uint32" for w in words):
            return original(*words, n_rounds)
        data = [w.handle.data.astype(np.uint64) for w in words]
        shape = np.broadcast_shapes(*[w.shape for w in data])
        column = (2,) + (1,) * len(shape)
        factors, step = _FACTORS.reshape(column), _KEYS.reshape(column)
        even = np.stack([np.broadcast_to(data[0], shape), np.broadcast_to(data[2], shape)])
        odd = np.stack([np.broadcast_to(data[1], shape), np.broadcast_to(data[3], shape)])
        key = np.stack(np.broadcast_arrays(data[4], data[5]))
        key = key.reshape(2, *(1,) * (len(shape) + 1 - key.ndim), *key.shape[1:])
        for _ in range(_value(n_rounds)):
            product = even * factors
            even = (product >> _HALF)[::-1] ^ odd
            even ^= key
            product &= _LOW
            odd = product[::-1]
            key = (key + step) & _LOW
        scalar = not any(w.type.is_block() for w in words)
        type_ = tl.uint32 if scalar else block(tl.uint32, shape)
        return tuple(make(w.astype(np.uint32), tl.uint32, type_) for w in (even[0], odd[0], even[1], odd[1]))

    return philox_impl
