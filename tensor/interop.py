"""Tensors and other libraries: DLPack, and NVIDIA's array interface."""
from __future__ import annotations

from typing import Any

from tritium.kernels import dlpack, is_host, of
from tritium.tensor import graph
from tritium.tensor.device import as_available, device_of
from tritium.tensor.dtype import from_numpy_dtype
from tritium.tensor.tensor import Tensor


def export(input: Tensor, stream: Any = None, max_version: tuple[int, int] | None = None,
           dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> Any:
    """A DLPack capsule over the tensor's memory. ``stream``: on cuda, the consumer's, which waits for ours (None: the
    legacy default stream, -1: nobody waits). ``max_version``: what the consumer understands. ``copy``: True copies.

    Raises BufferError for a tensor that requires grad, or a device it is not on.
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.__dlpack__.html"""
    if input._rg:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if stream is not None and (type(stream) is not int or is_host(input._a)):
        if type(stream) is not int:
            raise TypeError(f"stream must be int or None, not {type(stream).__name__}")
        if stream != -1:
            raise BufferError("__dlpack__: a CPU tensor has no stream")
    graph.materialize(input)
    array = input._a
    if dl_device is not None and tuple(dl_device) != dlpack.device_of(array):
        if tuple(dl_device) != (dlpack.CPU, 0) or copy is False:
            raise BufferError(f"cannot export a tensor on {device_of(array)} to DLPack device {tuple(dl_device)}"
                              + (" without a copy" if copy is False else ""))
        array = array.to_host()
    elif copy:
        array = of(array).copy.clone(array)
    else:
        graph.version_of(input).shared = True
        graph.hold(input)
    return dlpack.to_capsule(array, stream, max_version is not None and tuple(max_version) >= (1, 0))


def cuda_interface(input: Tensor) -> dict[str, Any]:
    """``__cuda_array_interface__`` of a tensor on cuda.

    Raises RuntimeError when it requires grad, TypeError for bfloat16."""
    if input._rg:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't "
                           "required, use var.detach() to get Variable that doesn't require grad.")
    graph.materialize(input)
    graph.version_of(input).shared = True
    graph.hold(input)
    return dlpack.cuda_interface(input._a)


def from_cuda_interface(thing: Any) -> Tensor:
    """A tensor over the memory of an object with ``__cuda_array_interface__``."""
    t = graph.wrap(dlpack.from_cuda_interface(thing))
    from_numpy_dtype(t._a.dtype)
    graph.version_of(t).shared = True
    graph.hold(t)
    return t


def from_dlpack(ext_tensor: Any, device: Any = None, copy: bool | None = None) -> Tensor:
    """See ``tritium.from_dlpack``."""
    if hasattr(ext_tensor, "__dlpack__"):
        kind, index = ext_tensor.__dlpack_device__()
        stream = None
        if kind in (dlpack.CUDA, dlpack.CUDA_MANAGED):
            from tritium.kernels.runtime.state import current

            current.check(index)
            stream = current.on(index)
        try:
            capsule = ext_tensor.__dlpack__(stream=stream, max_version=dlpack.VERSION)
        except TypeError:  # a producer that knows the first version of the protocol alone
            capsule = ext_tensor.__dlpack__() if stream is None else ext_tensor.__dlpack__(stream=stream)
    else:
        capsule = ext_tensor
    array = dlpack.from_capsule(capsule)
    from_numpy_dtype(array.dtype)
    if is_host(array) and not array.flags.writeable:
        if copy is False:
            raise ValueError("from_dlpack: the memory is read-only, which a tensor cannot be; use copy=True")
        copy = True
    place = device_of(array) if device is None else as_available(device)
    if place != device_of(array) and copy is False:
        raise ValueError(f"cannot move a tensor from {device_of(array)} to {place} without a copy")
    t = graph.wrap(array)
    graph.version_of(t).shared = True
    graph.hold(t)
    return t.to(place) if place != device_of(array) else t.clone() if copy else t


def to_dlpack(tensor: Tensor) -> Any:
    """``tensor.__dlpack__()``: the old name."""
    return tensor.__dlpack__()
