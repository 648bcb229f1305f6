"""Properties that hold for any shape and any key: indexing, views and broadcasting do what NumPy does."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tritium as torch

settings.register_profile("quick", max_examples=150, deadline=None, derandomize=True)
settings.load_profile("quick")

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
full_shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)


def pair(shape):
    """The same numbers as an array and as a tensor, in memory of their own."""
    a = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)
    return a, torch.tensor(a)


@st.composite
def basic_keys(draw):
    """A shape and a key of integers, slices, None and an ellipsis."""
    shape = draw(shapes)
    key = []
    for n in shape[:draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["int", "slice", "slice"] if n else ["slice"]))
        bound = st.none() | st.integers(-6, 6)
        key.append(draw(st.integers(-n, n - 1)) if kind == "int" else
                   slice(draw(bound), draw(bound), draw(st.none() | st.integers(1, 3))))
    for _ in range(draw(st.integers(0, 2))):
        key.insert(draw(st.integers(0, len(key))), None)
    if draw(st.booleans()):
        used = sum(k is not None for k in key)
        if used == 0:
            key.insert(draw(st.integers(0, len(key))), Ellipsis)
        else:
            key.append(Ellipsis)
    return shape, tuple(key)


@given(basic_keys())
def test_basic_keys_make_views(case):
    shape, key = case
    a, x = pair(shape)
    part, view = a[key], x[key]
    assert view.shape == part.shape
    np.testing.assert_array_equal(view.numpy(), part)
    view += 100  # seen through the base
    part = np.asarray(part) if part.ndim == 0 else part
    a[key] += 100
    np.testing.assert_array_equal(x.numpy(), a)


@given(basic_keys(), st.floats(-5, 5))
def test_basic_assignment(case, value):
    shape, key = case
    a, x = pair(shape)
    a[key], x[key] = value, value
    np.testing.assert_array_equal(x.numpy(), a)


@st.composite
def array_keys(draw):
    """A shape and a key of index arrays that broadcast, masks, and slices."""
    shape = draw(full_shapes.filter(bool))
    arrays = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    key = []
    d = 0
    while d < len(shape):
        kind = draw(st.sampled_from(["array", "slice", "mask"]))
        n = shape[d]
        if kind == "array":
            size = int(np.prod(arrays))
            key.append(np.array(draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size))).reshape(arrays))
        elif kind == "mask" and not any(isinstance(k, np.ndarray) for k in key):
            rank = draw(st.integers(1, min(2, len(shape) - d)))
            bits = int(np.prod(shape[d:d + rank]))
            mask = np.array(draw(st.lists(st.booleans(), min_size=bits, max_size=bits))).reshape(shape[d:d + rank])
            key.append(mask)
            return shape, tuple(key)
        else:
            key.append(slice(draw(st.none() | st.integers(0, 2)), None, draw(st.none() | st.integers(1, 2))))
        d += 1
    return shape, tuple(key)


def as_tensors(key):
    return tuple(torch.tensor(k) if isinstance(k, np.ndarray) and k.ndim else k for k in key)


@given(array_keys())
def test_index_tensors_and_masks(case):
    shape, key = case
    a, x = pair(shape)
    try:
        want = a[key]
    except IndexError:
        with pytest.raises(IndexError):
            x[as_tensors(key)]
        return
    if any(isinstance(k, np.ndarray) and k.ndim == 0 for k in key):
        return  # NumPy counts a 0-d array as an index array, PyTorch as an integer
    np.testing.assert_array_equal(x[as_tensors(key)].numpy(), want)
    a[key] = -1
    x[as_tensors(key)] = -1
    np.testing.assert_array_equal(x.numpy(), a)


@given(array_keys())
def test_the_derivative_of_indexing_counts_uses(case):
    shape, key = case
    if any(isinstance(k, np.ndarray) and k.ndim == 0 for k in key):
        return
    _, x = pair(shape)
    x.requires_grad_()
    x[as_tensors(key)].sum().backward()
    count = np.zeros(shape)
    np.add.at(count, key, 1)
    np.testing.assert_array_equal(x.grad.numpy(), count)


STEPS = ["transpose", "permute", "slice", "unsqueeze", "squeeze", "expand", "flip_slice", "reshape"]


@st.composite
def view_chains(draw):
    shape = draw(full_shapes)
    a = np.empty(shape)
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(STEPS))
        n = a.ndim
        if kind == "transpose" and n >= 2:
            step = (kind, draw(st.integers(-n, n - 1)), draw(st.integers(-n, n - 1)))
        elif kind == "permute" and n:
            step = (kind, tuple(draw(st.permutations(range(n)))))
        elif kind in ("slice", "flip_slice") and n:
            d = draw(st.integers(0, n - 1))
            step = ("slice", d, draw(st.integers(0, a.shape[d] - 1)), draw(st.integers(1, 2)))
        elif kind == "unsqueeze":
            step = (kind, draw(st.integers(-n - 1, n)))
        elif kind == "squeeze":
            step = (kind,)
        elif kind == "expand":
            step = (kind, (draw(st.integers(1, 3)), *[m if m != 1 else draw(st.integers(1, 2)) for m in a.shape]))
        elif kind == "reshape" and a.size:
            size = int(a.size)
            first = draw(st.sampled_from([k for k in range(1, size + 1) if size % k == 0]))
            step = (kind, (first, size // first))
        else:
            continue
        a = on_array(a, step)
        steps.append(step)
    return shape, steps


def on_array(a, step):
    kind, *rest = step
    if kind == "transpose":
        return a.swapaxes(*rest)
    if kind == "permute":
        return a.transpose(rest[0])
    if kind == "slice":
        d, start, stride = rest
        return a[(slice(None),) * d + (slice(start, None, stride),)]
    if kind == "unsqueeze":
        return np.expand_dims(a, rest[0])
    if kind == "squeeze":
        return a.squeeze()
    if kind == "expand":
        return np.broadcast_to(a, rest[0])
    return a.reshape(rest[0])


def on_tensor(x, step):
    kind, *rest = step
    if kind == "slice":
        d, start, stride = rest
        return x[(slice(None),) * d + (slice(start, None, stride),)]
    return getattr(x, kind)(*rest)


@given(view_chains())
def test_chains_of_views(case):
    shape, steps = case
    a, x = pair(shape)
    base, leaf = x, x.clone().requires_grad_()
    y = leaf
    for step in steps:
        a, x, y = on_array(a, step), on_tensor(x, step), on_tensor(y, step)
    assert x.shape == a.shape
    np.testing.assert_array_equal(x.numpy(), a)
    assert x.untyped_storage() == base.untyped_storage() or any(s[0] == "reshape" for s in steps)
    y.sum().backward()
    uses = np.bincount(a.astype(np.int64).reshape(-1), minlength=base.numel()).reshape(shape)
    np.testing.assert_array_equal(leaf.grad.numpy(), uses)


@given(st.lists(shapes, min_size=2, max_size=2))
def test_broadcasting(two):
    (a, x), (b, y) = map(pair, two)
    try:
        shape = np.broadcast_shapes(*two)
    except ValueError:
        for f in (torch.add, torch.mul, torch.lt, lambda p, q: torch.where(p > 0, p, q), torch.atan2):
            with pytest.raises(RuntimeError, match="must match the size of tensor"):
                f(x, y)
        return
    assert torch.broadcast_shapes(*two) == shape
    np.testing.assert_array_equal((x + y).numpy(), a + b)
    np.testing.assert_array_equal((x < y).numpy(), a < b)
    np.testing.assert_array_equal(torch.where(x > y, x, y).numpy(), np.where(a > b, a, b))
    np.testing.assert_array_equal(x.clamp(min=y).numpy(), np.maximum(a, b))
    p, q = x.clone().requires_grad_(), y.clone().requires_grad_()
    (p * 2 + q).sum().backward()
    count = int(np.prod(shape))
    np.testing.assert_array_equal(p.grad.numpy(), np.full(two[0], 2.0 * count / a.size if a.size else 0))
    np.testing.assert_array_equal(q.grad.numpy(), np.full(two[1], count / b.size if b.size else 0))


KINDS = {"integers": ["uint8", "int8", "int16", "int32", "int64"], "floats": ["float16", "float32", "float64"],
         "complex numbers": ["complex64", "complex128"]}


@pytest.mark.parametrize("kind", KINDS)
def test_promotion_inside_a_kind_is_numpys(kind):
    for one in KINDS[kind]:
        for other in KINDS[kind]:
            got = torch.promote_types(getattr(torch, one), getattr(torch, other))
            assert got.np == np.promote_types(one, other)
            x = torch.ones(2, dtype=getattr(torch, one)) + torch.ones(2, dtype=getattr(torch, other))
            assert x.dtype is got


dtypes = st.sampled_from([d for names in KINDS.values() for d in names] + ["bool", "bfloat16"])


@given(dtypes, dtypes, dtypes)
def test_promotion_is_a_join(a, b, c):
    """It does not matter in which order, or how often, types are promoted."""
    a, b, c = (getattr(torch, n) for n in (a, b, c))
    p = torch.promote_types
    assert p(a, b) is p(b, a) and p(a, a) is a and p(p(a, b), a) is p(a, b)
    if {t.name for t in (a, b, c)} >= {"float16", "bfloat16"}:
        return  # the one exception in PyTorch's table: together they are float32
    assert p(p(a, b), c) is p(a, p(b, c))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), st.integers(0, 2), st.data())
def test_split_and_cat_are_inverse(shape, dim, data):
    dim %= len(shape)
    _, x = pair(shape)
    parts = x.split(data.draw(st.integers(1, 3)), dim)
    assert torch.equal(torch.cat(parts, dim), x)
    assert torch.equal(torch.stack(x.unbind(dim), dim), x)


@given(st.lists(st.floats(allow_nan=True, width=32), max_size=12), st.booleans())
def test_sorting(values, descending):
    x = torch.tensor(values)
    ordered, index = x.sort(descending=descending)
    want = np.sort(np.array(values, np.float32))
    np.testing.assert_array_equal(ordered.numpy(), want[::-1] if descending else want)
    np.testing.assert_array_equal(x[index].numpy(), ordered.numpy())
    assert sorted(index.tolist()) == list(range(len(values)))
    if values and not np.isnan(want).any():
        assert torch.equal(x.topk(len(values), largest=descending).indices, index)
        assert torch.equal(x.cummax(0).values[-1], x.max()) and torch.equal(x.kthvalue(1).values, x.min())
