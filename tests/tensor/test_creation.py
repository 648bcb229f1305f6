"""Making tensors: dtypes that data gets, errors for ragged data, ranges, layouts, sharing with NumPy."""
import math

import numpy as np
import pytest

import tritium as torch


@pytest.mark.parametrize("data, dtype", [
    (1, "int64"), (1.5, "float32"), (True, "bool"), (1j, "complex64"), ([1, 2.5], "float32"), ([True, 2], "int64"),
    ([], "float32"), ([[], []], "float32"), (np.float64(1), "float64"), (np.arange(3, dtype=np.int16), "int16"),
    ([np.float32(1), 2], "float32"), ([np.int32(1), 1.5], "float32"), (range(3), "int64"),
    ([np.arange(2), [1.5, 2]], "float32"),
])
def test_dtype_of_data(data, dtype):
    t = torch.tensor(data)
    assert t.dtype is getattr(torch, dtype) and t.tolist() == np.asarray(data).tolist()


@pytest.mark.parametrize("data, error, message", [
    ([[1, 2], [3]], ValueError, r"expected sequence of length 2 at dim 1 \(got 1\)"),
    ([1, [2, 3]], TypeError, "'list' object cannot be interpreted as an integer"),
    ([1.0, [2, 3]], TypeError, "must be real number, not list"), ([[1, 2], 3], TypeError, "not a sequence"),
    ("a", TypeError, r"new\(\): invalid data type 'str'"), (["a"], ValueError, "too many dimensions 'str'"),
    ([None], RuntimeError, "Could not infer dtype of NoneType"), ({}, RuntimeError, "Could not infer dtype of dict"),
    (2 ** 63, ValueError, "Overflow when unpacking long long"),
    ([torch.ones(2), torch.ones(2)], ValueError, "only one element tensors can be converted to Python scalars"),
    (np.array(["a"]), TypeError, "can't convert np.ndarray of type"),
])
def test_data_that_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        torch.tensor(data)


def test_numbers_that_do_not_fit():
    with pytest.raises(RuntimeError, match="value cannot be converted to type int32 without overflow"):
        torch.tensor([2 ** 40], dtype=torch.int32)
    with pytest.raises(RuntimeError, match="value cannot be converted to type uint8_t without overflow"):
        torch.full((2,), 300, dtype=torch.uint8)
    assert torch.tensor([-1], dtype=torch.uint8).item() == 255 and torch.tensor([1.7], dtype=torch.int32).item() == 1
    assert torch.tensor(1e300).item() == math.inf and math.isnan(torch.tensor(math.nan).item())


def test_sizes():
    for t in (torch.zeros(2, 3), torch.zeros((2, 3)), torch.zeros([2, 3]), torch.zeros(size=(2, 3)), torch.zeros(
            torch.Size([2, 3])), torch.zeros(torch.tensor(2), np.int64(3))):
        assert t.shape == (2, 3) and t.dtype is torch.float32
    assert torch.ones(()).shape == () and torch.ones(0).shape == (0,) and torch.empty(size=(2, 0)).numel() == 0
    for call in (lambda: torch.zeros(2, -1), lambda: torch.ones(-1), lambda: torch.empty((2, -3)), lambda: torch.full((-1,), 1)):
        with pytest.raises(RuntimeError, match="negative"):
            call()
    for call in (lambda: torch.zeros(), lambda: torch.zeros(2.5), lambda: torch.zeros(True), lambda: torch.full(2, 1)):
        with pytest.raises(TypeError):
            call()


def test_ranges():
    assert torch.arange(5).tolist() == [0, 1, 2, 3, 4] and torch.arange(5).dtype is torch.int64
    assert torch.arange(1, 2.5, 0.5).tolist() == [1, 1.5, 2] and torch.arange(5, 1, -2).tolist() == [5, 3]
    assert torch.arange(0, 1, 0.1).shape == (10,) and torch.arange(1, 1.3, 0.1).shape == (4,)
    assert torch.arange(2 ** 62, 2 ** 62 + 2).tolist() == [2 ** 62, 2 ** 62 + 1] and torch.arange(end=3).tolist() == [0, 1, 2]
    assert torch.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1] and torch.linspace(3, 7, 1).tolist() == [3]
    assert torch.linspace(0, 10, 4, dtype=torch.int64).tolist() == [0, 3, 6, 10]
    assert torch.logspace(0, 2, 3).tolist() == [1, 10, 100] and torch.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    for call in (lambda: torch.arange(1, 5, 0), lambda: torch.arange(1, 5, -1), lambda: torch.arange(math.inf)):
        with pytest.raises(RuntimeError):
            call()


def test_linspace_hits_both_ends_exactly():
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        for n in (2, 3, 7, 100):
            t = torch.linspace(-0.3, 1.7, n, dtype=dtype)
            assert t[0] == torch.tensor(-0.3, dtype=dtype) and t[-1] == torch.tensor(1.7, dtype=dtype)


def test_likes_keep_the_order_of_dimensions():
    x = torch.ones(2, 3, 4).permute(2, 0, 1)
    for like in (torch.zeros_like, torch.ones_like, torch.empty_like, lambda t: torch.full_like(t, 2.0)):
        assert like(x).stride() == x.stride() and like(x[:, :, ::2]).stride() == (1, 8, 4)
        assert like(torch.ones(3).expand(2, 3)).stride() == (3, 1)
    assert torch.zeros_like(x, memory_format=torch.contiguous_format).stride() == (6, 3, 1)
    assert torch.zeros_like(x, dtype=torch.int8).dtype is torch.int8 and torch.empty_strided((2, 3), (1, 2)).stride() == (1, 2)


@pytest.mark.cpu_only(reason="memory shared with NumPy")
def test_from_numpy_and_as_tensor_share():
    array = np.arange(6.0).reshape(2, 3)
    for t in (torch.from_numpy(array), torch.as_tensor(array), torch.asarray(array), torch.frombuffer(array, dtype=torch.float64)):
        t.zero_()
        assert array.sum() == 0
        array[:] = 1
        assert t.sum().item() == 6
    assert torch.as_tensor(t) is t and not np.shares_memory(torch.tensor(array).numpy(), array)
    assert torch.from_numpy(array.T).stride() == (1, 3) and torch.from_numpy(array[:, ::2]).stride() == (3, 2)
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(array[::-1])
    with pytest.raises(ValueError, match="byte order"):
        torch.from_numpy(array.astype(">f8"))
    with pytest.raises(TypeError, match=r"expected np.ndarray \(got list\)"):
        torch.from_numpy([1])


@pytest.mark.cpu_only(reason="names the CPU's types")
def test_old_constructors():
    assert torch.Tensor(2, 3).shape == (2, 3) and torch.Tensor([1, 2]).tolist() == [1, 2] and torch.Tensor().shape == (0,)
    assert torch.FloatTensor([1, 2]).dtype is torch.float32 and torch.LongTensor([1.5]).tolist() == [1]
    assert isinstance(torch.ones(1), torch.FloatTensor) and not isinstance(torch.ones(1), torch.DoubleTensor)
    assert torch.ones(1).type() == "torch.FloatTensor" and torch.ones(1).type(torch.LongTensor).dtype is torch.int64
    x = torch.ones(2)
    torch.Tensor(x).add_(1)
    assert x.tolist() == [2, 2] and x.new(2, 3).shape == (2, 3) and x.new_tensor([3]).dtype is torch.float32
    with pytest.raises(TypeError):
        torch.FloatTensor(torch.ones(2, dtype=torch.float64))


def test_requires_grad_is_for_floating_point():
    assert torch.ones(2, requires_grad=True).requires_grad
    for call in (lambda: torch.ones(2, dtype=torch.int64, requires_grad=True), lambda: torch.arange(3, requires_grad=True)):
        with pytest.raises(RuntimeError, match="Only Tensors of floating point and complex dtype can require gradients"):
            call()


def test_complex_tensors_carry_data_only():
    z = torch.tensor([1 + 2j, 3.0])
    assert (z * 2).tolist() == [2 + 4j, 6] and z.real.tolist() == [1, 3] and z.imag.tolist() == [2, 0]
    assert torch.complex(torch.ones(2), torch.ones(2)).dtype is torch.complex64
    x = torch.ones(2, requires_grad=True)
    for call in (lambda: z.requires_grad_(), lambda: x * 1j, lambda: x.to(torch.complex64), lambda: torch.view_as_complex(x),
                 lambda: torch.complex(x, x), lambda: x + z):
        with pytest.raises(NotImplementedError, match="complex"):
            call()
    with torch.no_grad():
        assert (x * 1j).tolist() == [1j, 1j]


def test_default_dtype():
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.ones(1).dtype is torch.float64 and torch.tensor(1.5).dtype is torch.float64
        assert (torch.tensor([1]) / 2).dtype is torch.float64 and torch.tensor(1j).dtype is torch.complex128
    finally:
        torch.set_default_dtype(torch.float32)
    with pytest.raises(TypeError):
        torch.set_default_dtype(torch.int64)
