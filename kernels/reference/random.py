"""Random numbers on the CPU: the ones that PyTorch's CPU generator draws after the same seed.

A ``Stream`` is the Mersenne Twister MT19937, seeded the classic way with the low 32 bits of the seed.
Everything else is arithmetic on its 32-bit words (or on 64-bit words, two draws each, the first one high).
The samplers fill ``out``, an array of any strides, in the order in which its elements lie in memory, as
PyTorch does.

    uniform      u = (low 24 bits) 2^-24; in float64 (low 53 bits of 64) 2^-53; then low + u (high - low)
    normal       Box-Muller: sqrt(-2 log(1 - u)) (cos 2 pi v, sin 2 pi v)
    exponential  -log(1 - u) / rate
    cauchy       median + sigma tan(pi (u - 1/2))
    geometric    ceil(log u / log(1 - p))

PyTorch's compiler contracts a * b + c to one rounding where its source has such an expression. ``_fma`` does
the same.
"""
from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from functools import wraps
from threading import RLock
from typing import Any

import numpy as np

from tritium.kernels.reference.quiet import quiet

CHUNK = 1 << 15  # elements worked on at a time: their temporaries stay in the cache
LOW_53 = np.uint64((1 << 53) - 1)
WIDE_RANGE = 1 << 28  # from this range on, integers are drawn from 64 bits


class Stream:
    """The words of MT19937 in order, and the second number of the last normal pair (``cached``).

    ``fresh``: nothing was drawn since the seed was set. Samplers hold ``lock`` from their first draw to the
    last."""

    def __init__(self, seed: int) -> None:
        self.lock = RLock()
        self._bits: Any = None
        self._wide: Any = None
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start again from ``seed``, an integer below 2^64."""
        self.initial_seed = seed
        self.cached: float | None = None
        self.fresh = True
        self._seeded = False  # numpy.random takes 10 ms to import: not before the first draw

    def _engine(self) -> Any:
        if self._bits is None:
            self._bits = np.random.MT19937(0)
            self._wide = np.random.Generator(self._bits)
        if not self._seeded:
            np.random.RandomState(self._bits).seed(self.initial_seed & 0xFFFFFFFF)
            self._seeded = True
        return self._bits

    def words32(self, count: int) -> np.ndarray:
        """The next ``count`` draws: uint32."""
        bits = self._engine()
        if count:
            self.fresh = False
        return bits.random_raw(count).astype(np.uint32)

    def words64(self, count: int) -> np.ndarray:
        """The next ``count`` pairs of draws: uint64, the first draw high."""
        bits = self._engine()
        if count:
            self.fresh = False
        if count < 512:
            raw = bits.random_raw(2 * count)
            return raw[0::2] << np.uint64(32) | raw[1::2]
        return self._wide.integers(0, 1 << 64, count, np.uint64)

    def skip(self, count: int) -> None:
        """Draw ``count`` words for nobody."""
        self._engine().random_raw(count, False)

    def floats(self, count: int) -> np.ndarray:
        """float32 in [0, 1), one draw each."""
        words = self.words32(count)
        words &= np.uint32(0xFFFFFF)
        out = words.view(np.int32).astype(np.float32)
        out *= np.float32(2.0**-24)
        return out

    def doubles(self, count: int) -> np.ndarray:
        """float64 in [0, 1), two draws each."""
        words = self.words64(count)
        words &= LOW_53
        out = words.view(np.int64).astype(np.float64)
        out *= 2.0**-53
        return out

    def state(self) -> tuple[np.ndarray, int]:
        """The 624 words of the twister's state, and how many of them are used up."""
        state = self._engine().state["state"]
        return state["key"], int(state["pos"])

    def set_state(self, key: np.ndarray, position: int) -> None:
        """Go on from a state that ``state`` gave. ``initial_seed``, ``cached`` and ``fresh`` are the
        caller's."""
        twister = {"key": key.astype(np.uint32), "pos": position}
        self._engine().state = {"bit_generator": "MT19937", "state": twister}


def _sampler(fill: Callable[..., None]) -> Callable[..., None]:
    """A sampler for arrays of any strides from one that fills a contiguous vector."""

    @wraps(fill)
    @quiet
    def sample(stream: Stream, out: np.ndarray, *args: Any, **kwargs: Any) -> None:
        with stream.lock:
            if out.flags.c_contiguous:
                fill(stream, out.reshape(-1), *args, **kwargs)
                return
            view = out.transpose(_memory_order(out))
            vector = view.reshape(-1) if view.flags.c_contiguous else np.empty(out.size, out.dtype)
            fill(stream, vector, *args, **kwargs)
            if not view.flags.c_contiguous:
                view[...] = vector.reshape(view.shape)

    return sample


def _memory_order(array: np.ndarray) -> list[int]:
    """The dimensions with the largest step first."""
    return sorted(range(array.ndim), key=lambda d: -abs(array.strides[d]))


def _chunks(vector: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(vector), CHUNK):
        yield vector[start:start + CHUNK]


def _store(out: np.ndarray, values: np.ndarray) -> None:
    """Convert to the dtype of ``out``; to a 16-bit float by way of float32, as C++ does."""
    if out.itemsize == 2 and out.dtype.kind in "fV" and values.dtype == np.float64:
        values = values.astype(np.float32)
    np.copyto(out, values, casting="unsafe")


def _fma(a: np.ndarray, b: float, c: float) -> np.ndarray:
    """a * b + c in float64 with one rounding: the rounding errors of the product and of the sum are added
    last."""
    product = a * b
    if c == 0 or b == 1:
        return product + c
    split = a * 134217729.0  # 2^27 + 1 (Veltkamp): a and b as sums of two halves whose products are exact
    a1 = split - (split - a)
    b1 = b * 134217729.0 - (b * 134217729.0 - b)
    a2, b2 = a - a1, b - b1
    product_error = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
    total = product + c
    shift = total - product
    sum_error = (product - (total - shift)) + (c - shift)
    exact = total + (sum_error + product_error)
    return np.where(np.isfinite(exact), exact, total)


def _libm(scalar: Callable[[float], float], vector: Callable[[np.ndarray], np.ndarray],
          x: np.ndarray) -> np.ndarray:
    """A function of float64 to the last bit as the C library has it; of many elements as NumPy has it, whose
    vectorised version may differ in the last bit."""
    if x.size <= 4096:
        try:
            return np.array(list(map(scalar, x.ravel().tolist()))).reshape(x.shape)
        except (ValueError, OverflowError):  # where NumPy has inf or nan
            pass
    return vector(x)


# --- uniform ----------------------------------------------------------------------------------

@_sampler
def uniform(stream: Stream, out: np.ndarray, low: float, high: float) -> None:
    """Fill a floating point array from [low, high)."""
    dtype = out.dtype
    if dtype == np.float32 and low == 0 and high == 1:
        for part in _chunks(out):
            part[...] = stream.floats(part.size)
        return
    wide = dtype == np.float64
    first = low if wide else np.float32(low)
    width = high - low if wide else np.float64(np.float32(high) - first)
    start, end = np.array([low, high]).astype(np.float64 if wide else np.float32).astype(dtype)
    for part in _chunks(out):
        if wide:
            part[...] = _fma(stream.doubles(part.size), width, low)
        else:
            _store(part, (stream.floats(part.size) * width + first).astype(np.float32))
        part[part == end] = start  # rounding may reach the end, which does not belong to the interval


# --- integers and coin flips ------------------------------------------------------------------

@_sampler
def integers(stream: Stream, out: np.ndarray, low: int, span: int) -> None:
    """Fill with integers low <= x < low + span. A span of 2^64 takes all 64 bits as they are."""
    for part in _chunks(out):
        if span >= WIDE_RANGE:
            words = stream.words64(part.size)
            if span < 1 << 64:
                words %= np.uint64(span)
            values = words.view(np.int64)
        else:
            words = stream.words32(part.size)
            words -= words // np.uint32(span) * np.uint32(span)  # the division is vectorised, % is not
            values = words.astype(np.int64)
        if low and span < 1 << 64:
            values += low
        np.copyto(part, values, casting="unsafe")


@_sampler
def any_value(stream: Stream, out: np.ndarray, span: int, wide: bool) -> None:
    """Fill with integers below ``span`` from single draws, or from 64 bits where ``wide``."""
    for part in _chunks(out):
        if wide:
            words = stream.words64(part.size)
            words %= np.uint64(span)
        else:
            words = stream.words32(part.size)
            words %= np.uint32(span)
        np.copyto(part, words, casting="unsafe")


def _threshold(p: Any) -> Any:
    """u < p for u = k 2^-53 is k < ceil(p 2^53)."""
    return np.ceil(np.multiply(p, 2.0**53)).astype(np.uint64)


@_sampler
def bernoulli(stream: Stream, out: np.ndarray, p: float, one: float = 1) -> None:
    """Fill with ``one`` where a float64 uniform is below ``p``, else 0."""
    limit = _threshold(p)
    for part in _chunks(out):
        words = stream.words64(part.size)
        words &= LOW_53
        hit = words < limit
        if one == 1:
            np.copyto(part, hit, casting="unsafe")
        else:
            np.multiply(hit, one, out=part, dtype=out.dtype, casting="unsafe")


@quiet
def bernoulli_each(stream: Stream, out: np.ndarray, p: np.ndarray) -> None:
    """Fill with 1 with a probability of its own for each element: ``p`` has the shape of ``out``.

    The uniforms are float64 where ``p`` is, else float32."""
    with stream.lock:
        order = _memory_order(out)
        p = p.transpose(order)
        if p.dtype == np.float64:
            hit = (stream.words64(p.size) & LOW_53).reshape(p.shape) < _threshold(p)
        else:
            hit = stream.floats(p.size).reshape(p.shape) < p.astype(np.float32)
        np.copyto(out.transpose(order), hit, casting="unsafe")


# --- normal -----------------------------------------------------------------------------------

def normal(stream: Stream, out: np.ndarray, mean: float, std: float) -> None:
    """Fill with normal numbers: in blocks of 16 where ``out`` is contiguous and has 16 elements, else one by
    one."""
    if out.size >= 16 and out.flags.c_contiguous:
        _normal_blocks(stream, out, mean, std)
    else:
        _normal_series(stream, out, mean, std)


@_sampler
def _normal_series(stream: Stream, out: np.ndarray, mean: float, std: float) -> None:
    for part in _chunks(out):
        _store(part, _fma(_normals(stream, part.size), std, mean))


def _normals(stream: Stream, count: int) -> np.ndarray:
    """Standard normal float64s from pairs, going on with the second of a pair that was begun before."""
    begun = [] if stream.cached is None or not count else [stream.cached]
    pairs = (count - len(begun) + 1) // 2
    u = stream.doubles(2 * pairs).reshape(pairs, 2)
    radius = np.sqrt(-2.0 * _libm(math.log1p, np.log1p, -u[:, 1]))
    angle = 2.0 * math.pi * u[:, 0]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
    left_over = len(begun) + 2 * pairs > count
    if begun or left_over:
        stream.cached = float(both[-1]) if left_over else None
    return np.concatenate([begun, both])[:count]


@_sampler
def _normal_blocks(stream: Stream, out: np.ndarray, mean: float, std: float) -> None:
    """Each block of 16 uniforms: the first 8 give radii, the last 8 angles; 8 cosines, then 8 sines. When the
    size is no multiple of 16, the last 16 elements are drawn once more."""
    whole = len(out) // 16 * 16
    for part in _chunks(out[:whole]):
        _store(part, _block(stream, part.size, out.dtype, mean, std))
    if whole < len(out):
        if out.itemsize >= 4:  # 16-bit floats do not draw uniforms for the incomplete block
            stream.skip((len(out) - whole) * out.itemsize // 4)
        _store(out[-16:], _block(stream, 16, out.dtype, mean, std))


def _block(stream: Stream, count: int, dtype: Any, mean: float, std: float) -> np.ndarray:
    if dtype != np.float64:
        u = stream.floats(count).reshape(-1, 2, 8)
        return _box_muller(u, np.float64(np.float32(mean)), np.float64(np.float32(std))).reshape(-1)
    u = stream.doubles(count).reshape(-1, 2, 8)
    radius = np.sqrt(-2.0 * _libm(math.log, np.log, 1.0 - u[:, 0]))
    angle = 2.0 * math.pi * u[:, 1]
    return _fma(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1), std, mean)


# Polynomials of the Cephes library (S. Moshier), highest power first: log(1 + x) on [sqrt(1/2) - 1,
# sqrt(2) - 1], and cosine and sine on [-pi/4, pi/4] side by side. PyTorch's float32 normals use them.
LOG = np.array([7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
                -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1],
               np.float32).astype(np.float64)
COS_SIN = np.array([[2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2],
                    [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]],
                   np.float32).T.astype(np.float64)[:, :, None]
LN2 = np.float32(0.693359375), np.float32(-2.12194440e-4)  # log 2 as the sum of a short number and the rest
QUARTER_PI = tuple(map(np.float32, (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)))
SQRT_HALF = np.int32(0x3F3504F3)  # the bits of sqrt(1/2)


def _box_muller(u: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """float32 uniforms (blocks, 2, 8) -> float32 normals of that shape, to the bit as PyTorch's AVX2 code.

    Where that code fuses a product and a sum, the step is done in float64, where the product of two float32
    is exact, and rounded: a single rounding but for one case in 10^8. All other steps are float32 (several of
    the products are exact, as Cephes intends)."""
    u = np.ascontiguousarray(u.swapaxes(0, 1)).reshape(2, -1)
    radius = _log(np.float32(1) - u[0])
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    out = _cos_sin(np.float32(2 * math.pi) * u[1])
    out *= radius
    if std == 1 and mean == 0:
        out += np.float32(0)  # -0. + 0. is 0.
    else:
        scaled = out.astype(np.float64)
        scaled *= std
        scaled += mean
        out = scaled.astype(np.float32)
    return out.reshape(2, -1, 8).swapaxes(0, 1)


def _polynomial(x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Horner's scheme in fused float32 steps; ``x`` is float64, the result float32."""
    y = coefficients[0] * x
    y += coefficients[1]
    rounded = y.astype(np.float32)
    for c in coefficients[2:]:
        y[...] = rounded
        y *= x
        y += c
        rounded[...] = y
    return rounded


def _log(x: np.ndarray) -> np.ndarray:
    """log of positive float32 numbers, split into 2^e (1 + m) with 1 + m in [sqrt(1/2), sqrt(2))."""
    bits = x.view(np.int32)
    e = bits - SQRT_HALF
    e >>= 23
    m = (bits - (e << 23)).view(np.float32)
    m -= np.float32(1)
    exponent = e.astype(np.float32)
    square = m * m
    y = _polynomial(m.astype(np.float64), LOG)
    y *= m
    fused = y.astype(np.float64)
    fused *= square.astype(np.float64)
    fused += (exponent * LN2[1]).astype(np.float64)
    y[...] = fused
    square *= np.float32(0.5)
    y -= square
    y += m
    exponent *= LN2[0]
    y += exponent
    return y


def _cos_sin(x: np.ndarray) -> np.ndarray:
    """Cosine and sine, (2, n), of float32 angles in [0, 2 pi): reduced to [-pi/4, pi/4] and told apart by
    octant."""
    octant = (x * np.float32(4 / math.pi)).astype(np.int32)
    octant += octant & 1
    count = octant.astype(np.float32)
    x += count * QUARTER_PI[0]
    x += count * QUARTER_PI[1]
    angle = x.astype(np.float64)
    angle += np.multiply(count.astype(np.float64), QUARTER_PI[2], dtype=np.float64)
    x[...] = angle
    angle[...] = x
    x *= x
    square = x.astype(np.float64)
    y = _polynomial(square, COS_SIN)
    y *= x
    fused = y.astype(np.float64)
    fused[0] *= square
    fused[1] *= angle
    square *= -0.5
    fused[0] += square
    fused[1] += angle
    y[...] = fused
    y[0] += np.float32(1)
    cosine, sine = y.view(np.int32)
    exchange = cosine ^ sine
    exchange &= -(octant >> 1 & 1)  # octants 2 and 3, 6 and 7
    cosine ^= exchange
    sine ^= exchange
    sine ^= (octant & 4) << 29  # the sign: minus in octants 4 to 7
    cosine ^= (octant + 2 & 4) << 29  # minus in octants 2 to 5
    return y


# --- other distributions ----------------------------------------------------------------------

@_sampler
def exponential(stream: Stream, out: np.ndarray, rate: float) -> None:
    """Fill with exponential numbers of this rate."""
    for part in _chunks(out):
        _store(part, -1.0 / rate * _libm(math.log1p, np.log1p, -stream.doubles(part.size)))


@_sampler
def cauchy(stream: Stream, out: np.ndarray, median: float, sigma: float) -> None:
    """Fill with Cauchy numbers."""
    for part in _chunks(out):
        _store(part, _fma(_libm(math.tan, np.tan, math.pi * (stream.doubles(part.size) - 0.5)), sigma,
                          median))


@_sampler
def log_normal(stream: Stream, out: np.ndarray, mean: float, std: float) -> None:
    """Fill with exp of normal numbers."""
    for part in _chunks(out):
        _store(part, _libm(math.exp, np.exp, _fma(_normals(stream, part.size), std, mean)))


@_sampler
def geometric(stream: Stream, out: np.ndarray, p: float) -> None:
    """Fill with the number of trials up to the first success, each with probability ``p``."""
    for part in _chunks(out):
        _store(part, np.ceil(np.log(stream.doubles(part.size)) / math.log1p(-p)))


# --- choices ----------------------------------------------------------------------------------

def permutation(stream: Stream, n: int) -> np.ndarray:
    """0 ... n-1 in random order: int64. Fisher and Yates's shuffle from the front."""
    with stream.lock:
        words = stream.words32(max(n - 1, 0))
    targets = words % np.arange(n, 1, -1, dtype=np.uint32)
    targets += np.arange(len(targets), dtype=np.uint32)
    order: Any = list(range(n)) if n < 1 << 17 else array("q", range(n))  # a long list of ints misses the cache
    for i, j in enumerate(targets.tolist()):
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


@quiet
def multinomial(stream: Stream, p: np.ndarray, samples: int, replacement: bool) -> np.ndarray:
    """Indices drawn with the weights in the rows of ``p``: (n) -> (samples) or (rows, n) -> (rows, samples),
    int64.

    Without replacement: the largest of p / q with q exponential, an exponential race. With it: a search in
    the cumulated weights."""
    if not replacement or samples == 1:
        q = np.empty_like(p)
        exponential(stream, q, 1.0)
        np.divide(p, q, out=q)
        if samples == 1:
            return q.argmax(-1).reshape(*p.shape[:-1], 1)
        return np.ascontiguousarray(np.argsort(-q, axis=-1, kind="stable")[..., :samples])
    rows = p.reshape(-1, p.shape[-1])
    with stream.lock:
        u = stream.doubles(len(rows) * samples).reshape(len(rows), samples)
    if p.itemsize == 2:
        rows = rows.astype(np.float32)
    cumulated = np.cumsum(rows, 1, dtype=rows.dtype)
    cumulated /= cumulated[:, -1:]
    found = [np.searchsorted(c.astype(np.float64), v, "left") for c, v in zip(cumulated, u, strict=True)]
    return np.array(found, np.int64).reshape(*p.shape[:-1], samples)
