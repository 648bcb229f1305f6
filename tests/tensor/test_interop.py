"""DLPack and the array interfaces: memory is shared, lives as long as somebody uses it, and is given back once."""
import gc
import weakref

import ml_dtypes
import numpy as np
import pytest

import tritium
from tritium.kernels import dlpack

DTYPES = [tritium.bool, tritium.uint8, tritium.int8, tritium.int16, tritium.int32, tritium.int64, tritium.float16,
          tritium.bfloat16, tritium.float32, tritium.float64, tritium.complex64, tritium.complex128]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_comes_back_over_the_same_memory(dtype, device):
    x = tritium.arange(6).reshape(2, 3).to(dtype).t()
    y = tritium.from_dlpack(x)
    assert y.data_ptr() == x.data_ptr() and y.stride() == x.stride() and y.dtype is x.dtype and y.device == x.device
    assert y.tolist() == x.tolist()
    if not dtype.is_complex:
        y.fill_(1)
        assert x.to(tritium.float32).sum() == 6


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 3)])
def test_both_versions_of_the_protocol(version):
    x = tritium.arange(4.0)
    capsule = x.__dlpack__(max_version=version)
    assert ("dltensor_versioned" in repr(capsule)) == (version is not None and version >= (1, 0))
    assert tritium.from_dlpack(capsule).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="consumed only once"):
        tritium.from_dlpack(capsule)


def test_shapes_without_dimensions_or_elements():
    for shape in ((), (0,), (3, 0, 2), (1, 1)):
        y = tritium.from_dlpack(tritium.ones(shape))
        assert y.shape == shape


def test_memory_lives_until_the_last_user_and_is_then_given_back():
    x = tritium.ones(1000)
    root = weakref.ref(x._a if hasattr(x._a, "owner") else x._a.base if x._a.base is not None else x._a)
    before = len(dlpack._lent)
    y = tritium.from_dlpack(x)
    view = y[10:]
    del x, y
    gc.collect()
    assert root() is not None and view.sum() == 990 and len(dlpack._lent) == before + 1
    del view
    gc.collect()
    assert root() is None and len(dlpack._lent) == before


def test_a_capsule_that_nobody_takes_gives_its_memory_back():
    before = len(dlpack._lent)
    capsule = tritium.ones(3).__dlpack__()
    assert len(dlpack._lent) == before + 1
    del capsule
    gc.collect()
    assert len(dlpack._lent) == before


@pytest.mark.cpu_only(reason="NumPy takes host memory")
def test_numpy_takes_and_gives_memory():
    x = tritium.arange(6.0).reshape(2, 3)
    a = np.from_dlpack(x)
    a[0, 0] = 7
    assert x[0, 0] == 7
    b = np.arange(4)
    y = tritium.from_dlpack(b)
    y[1] = 9
    assert b[1] == 9
    frozen = np.arange(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        tritium.from_dlpack(frozen, copy=False)
    assert tritium.from_dlpack(frozen).tolist() == [0, 1, 2]


def test_what_cannot_be_exported():
    x = tritium.ones(2, requires_grad=True)
    with pytest.raises(BufferError, match="use tensor.detach"):
        x.__dlpack__()
    with pytest.raises(TypeError, match="stream must be int"):
        tritium.ones(2).__dlpack__(stream="main")
    with pytest.raises(ValueError, match="invalid capsule"):
        tritium.from_dlpack(object())


@pytest.mark.cpu_only(reason="streams are cuda's")
def test_a_cpu_tensor_has_no_stream_and_no_cuda_interface():
    x = tritium.ones(2)
    with pytest.raises(BufferError):
        x.__dlpack__(stream=3)
    assert x.__dlpack_device__() == (1, 0) and not hasattr(x, "__cuda_array_interface__")
    assert np.asarray(x).tolist() == [1, 1] and x.__array_priority__ == 1000


@pytest.mark.cuda_only
def test_on_cuda():
    x = tritium.arange(6.0, device="cuda").reshape(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    with pytest.raises(BufferError, match="ambiguous"):
        x.__dlpack__(stream=0)
    told = x.t().__cuda_array_interface__
    assert told["shape"] == (3, 2) and told["strides"] == (4, 12) and told["typestr"] == "<f4"
    assert told["data"] == (x.data_ptr(), False) and told["stream"] not in (0, None)
    y = tritium.as_tensor(_Told(x.t()))
    assert y.data_ptr() == x.data_ptr() and y.stride() == (1, 3) and y.tolist() == x.t().tolist()
    with pytest.raises(TypeError, match="bfloat16"):
        x.to(tritium.bfloat16).__cuda_array_interface__  # noqa: B018
    with pytest.raises(RuntimeError, match="requires grad"):
        x.clone().requires_grad_().__cuda_array_interface__  # noqa: B018
    with pytest.raises(TypeError, match="Use Tensor.cpu"):
        np.asarray(x._a)
    host = tritium.from_dlpack(x, device="cpu")
    assert host.device.type == "cpu" and host.tolist() == x.tolist()
    with pytest.raises(ValueError, match="without a copy"):
        tritium.from_dlpack(x, device="cpu", copy=False)


class _Told:
    def __init__(self, tensor):
        self.__cuda_array_interface__ = tensor.__cuda_array_interface__
        self.tensor = tensor


def test_bfloat16_shares_its_memory_with_ml_dtypes():
    x = tritium.ones(3, dtype=tritium.bfloat16)
    y = tritium.from_dlpack(x)
    assert y.dtype is tritium.bfloat16 and y._a.dtype == ml_dtypes.bfloat16
