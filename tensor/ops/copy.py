"""Copies: clone, contiguous, other dtypes and devices, and writing one tensor into another."""
from __future__ import annotations

import builtins
import math
from typing import Any

from tritium.kernels import beside, is_array, is_host, of
from tritium.tensor import device as devices
from tritium.tensor.device import as_available, device_of
from tritium.tensor.device import cpu as cpu_device
from tritium.tensor.dtype import (
    ALL,
    as_dtype,
    bfloat16,
    bool_,
    complex64,
    complex128,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from tritium.tensor.dtype import dtype as DType
from tritium.tensor.from_data import moved
from tritium.tensor.grad_mode import mode
from tritium.tensor.graph import (
    alias,
    bump,
    check_inplace,
    derivative,
    finish_inplace,
    materialize,
    memory_of,
    record,
    recording,
    set_history,
    wrap,
)
from tritium.tensor.layout import (
    array_like,
    broadcast_shapes,
    channels_last,
    channels_last_3d,
    contiguous_format,
    element_strides,
    is_channels_last,
    memory_format,
    preserve_format,
    shape_of,
    suggests_channels_last,
    wrap_dims,
)
from tritium.tensor.ops.arguments import TYPE_NAMES, element
from tritium.tensor.tensor import Tensor

METHODS = ["clone", "contiguous", "is_contiguous", "to", "type", "type_as", "cpu", "cuda",
           "fill_", "zero_", "copy_",
           "resize_", "resize_as_", "set_", "share_memory_", "is_shared", "pin_memory", "is_pinned",
           "record_stream", "flip"]


@derivative
def CloneBackward0(node: Any, grad: Tensor) -> Tensor:
    return grad


@derivative
def ToCopyBackward0(node: Any, grad: Tensor) -> Tensor:
    dt, place = node.ctx
    if device_of(grad._a) != place:
        grad = to_device(grad, place)
    return grad if grad._a.dtype == dt else cast(grad, dt)


@derivative
def CopyBackwards(node: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    return grad * 0 if node.needs[0] else None, grad.to(node.ctx) if node.needs[1] else None


def is_contiguous(input: Tensor, memory_format: memory_format = contiguous_format) -> bool:
    """Whether the elements follow one another in memory in the given order of dimensions."""
    materialize(input)
    a = input._a
    if memory_format is channels_last:
        return is_channels_last(a)
    if memory_format is channels_last_3d:
        return is_channels_last(a, 5)
    return a.flags.c_contiguous


def _arrange(a: Any, format_: Any) -> Any:
    """A copy of an array in a memory format."""
    k = of(a).copy
    if format_ is preserve_format:
        if a.flags.forc and 1 not in a.shape:
            return k.clone(a)
        out = array_like(a, a.dtype, beside(a).empty)
        k.copy_into(out, a)
        return out
    if format_ in (channels_last, channels_last_3d):
        rank = 4 if format_ is channels_last else 5
        if a.ndim != rank:
            raise RuntimeError(f"required rank {rank} tensor to use {format_._name} format")
        return k.channels_last(a)
    return k.contiguous(a)


def clone(input: Tensor, *, memory_format: memory_format = preserve_format) -> Tensor:
    """A copy, recorded in the graph."""
    if memory_format is not preserve_format:
        materialize(input)
    out = wrap(_arrange(input._a, memory_format))
    if input._free:
        out._free = True
    if recording(input):
        record(out, CloneBackward0, (input,))
    return out


def contiguous(input: Tensor, memory_format: memory_format = contiguous_format) -> Tensor:
    """The tensor itself when it is contiguous in the given format, else a copy that is."""
    if input._free and (memory_format is channels_last and is_channels_last(input._a) or
                        memory_format is channels_last_3d and is_channels_last(input._a, 5)):
        # the layout asked for is the one the kernels chose already
        out = alias(input)
        out._vc.shared = True  # type: ignore[union-attr]
        out._free = input._free = False
        return record(out, CloneBackward0, (input,)) if recording(input) else out
    if is_contiguous(input, memory_format):
        return input
    return clone(input, memory_format=memory_format)


def cast(input: Tensor, dt: Any) -> Tensor:
    """A copy in another dtype (a NumPy dtype), recorded in the graph."""
    a = input._a
    k = of(a)
    if a.flags.forc or input._free:
        out = wrap(k.pointwise.cast(a, dt))
        if input._free:
            out._free = True
    else:
        out = wrap(array_like(a, dt, beside(a).empty))
        k.copy.copy_into(out._a, a)
    if recording(input) and dt.kind not in "biu":
        record(out, ToCopyBackward0, (input,), ctx=(input._a.dtype, device_of(a)))
    return out


def to_device(input: Tensor, place: Any, non_blocking: bool = False) -> Tensor:
    """A copy on another device, recorded in the graph. ``non_blocking``: from pinned memory, do not wait for it."""
    a = input._a
    out = wrap(moved(a, place, non_blocking))
    if input._free:
        out._free = True
    if recording(input):
        record(out, ToCopyBackward0, (input,), ctx=(a.dtype, device_of(a)))
    return out


def to(input: Tensor, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False,
       copy: bool = False, memory_format: Any = preserve_format, other: Tensor | None = None) -> Tensor:
    """The tensor in another dtype, on another device or in another memory format: itself when nothing changes.

    ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(other)``, and all by keyword.
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html"""
    for position, x in enumerate(args):
        if isinstance(x, Tensor):
            other = x
        elif isinstance(x, (str, int, devices.device)) and not isinstance(x, bool):
            device = x
        elif x is None or isinstance(x, bool):  # what follows: non_blocking, copy
            rest = args[position + (x is None and position < 2):]
            copy = rest[1] if len(rest) > 1 else copy
            break
        else:
            dtype = x
    if other is not None:
        dtype = other.dtype if dtype is None else dtype
        device = other.device if device is None else device
    dt = input._a.dtype if dtype is None else as_dtype(dtype).np
    place = device_of(input._a) if device is None else as_available(device)
    if place != device_of(input._a):
        if place.type == "cuda" and dt.itemsize < input._a.itemsize:  # the smaller one travels
            input = cast(input, dt)
        out = to_device(input, place, non_blocking)
        if dt != out._a.dtype:
            out = cast(out, dt)
        return out if memory_format is preserve_format else contiguous(out, memory_format)
    if dt != input._a.dtype:
        out = cast(input, dt)
        return out if memory_format is preserve_format else contiguous(out, memory_format)
    if not copy and (memory_format is preserve_format or _suggested(input) is memory_format):
        return input
    out = clone(input, memory_format=memory_format)
    if out._edge is not None:
        out._edge = None
        record(out, ToCopyBackward0, (input,), ctx=(dt, place))
    return out


def _suggested(input: Tensor) -> Any:
    """The memory format that a tensor's strides tell of."""
    materialize(input)
    a = input._a
    if not suggests_channels_last(a.shape, element_strides(a)):
        return contiguous_format
    return channels_last if a.ndim == 4 else channels_last_3d


def _caster(name: str, dt: dtype) -> Any:
    def method(input: Tensor, memory_format: memory_format = preserve_format) -> Tensor:
        return to(input, dt, memory_format=memory_format)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"``to({dt})``."
    return method


CASTS = {name: _caster(name, dt) for name, dt in (
    ("float", float32), ("double", float64), ("half", float16), ("bfloat16", bfloat16), ("long", int64),
    ("int", int32), ("short", int16), ("char", int8), ("byte", uint8), ("bool", bool_), ("cfloat", complex64),
    ("cdouble", complex128))}


def cpu(input: Tensor, memory_format: memory_format = preserve_format) -> Tensor:
    """The tensor on the CPU: itself when it is there."""
    return input if is_host(input._a) else to(input, device=cpu_device, memory_format=memory_format)


def cuda(input: Tensor, device: Any = None, non_blocking: bool = False,
         memory_format: memory_format = preserve_format) -> Tensor:
    """The tensor on a cuda device: itself when it is there.

    Raises RuntimeError, in PyTorch's words, where there is no device."""
    place = devices.device("cuda" if device is None else device)
    if place.type != "cuda":
        raise RuntimeError(f"Invalid device, must be cuda device, got {place}")
    return to(input, device=place, non_blocking=non_blocking, memory_format=memory_format)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` in the dtype and on the device of ``other``."""
    return to(input, dtype=other.dtype, device=other.device)


def type(input: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:  # noqa: A001
    """Without ``dtype`` the old name of the tensor's type ("torch.FloatTensor"); with it, the tensor in that dtype."""
    if dtype is None:
        return f"torch.{'' if is_host(input._a) else 'cuda.'}{input.dtype.title}Tensor"
    if isinstance(dtype, str):
        word = dtype.removeprefix("torch.").removeprefix("tritium.").removesuffix("Tensor")
        place = None
        if word.startswith("cuda."):
            word, place = word.removeprefix("cuda."), "cuda"
        named = next((d for d in ALL if d.title == word), None)
        if named is None:
            raise ValueError(f"invalid type: '{dtype}'")
        return to(input, dtype=named, device="cpu" if place is None else place)
    if dtype is Tensor:
        return to(input, get_default_dtype())
    inner = getattr(dtype, "_dtype", dtype)
    if not isinstance(inner, DType):
        raise (ValueError(f"invalid type: '{inner.__name__}'") if isinstance(inner, builtins.type) else
               TypeError("dtype must be a type, str, or dtype object"))
    return to(input, inner)


# --- writing --------------------------------------------------------------------------------

@derivative
def FillBackward0(node: Any, grad: Tensor) -> Any:
    parts = (grad * 0, grad.sum())
    return parts[:len(node.edges)] if len(node.edges) > 1 else parts[0]


def fill_(input: Tensor, value: Any) -> Tensor:
    """Every element set to ``value`` (a number or a 0-d tensor).

    Raises RuntimeError for a tensor of more dimensions, or a number that the dtype cannot hold."""
    check_inplace(input, overlap=False)
    if isinstance(value, Tensor):
        if value._a.ndim:
            raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                               f"{value._a.ndim} dimensions.")
        if recording(value):
            return copy_(input, value)
        value = of(value._a).pointwise.cast(value._a, input._a.dtype)
        if not is_host(value) and is_host(input._a):
            value = value.to_host()
    a = input._a
    value = element(value, a.dtype) if not is_array(value) else value
    if recording(input):
        new = beside(a).empty(a.shape, a.dtype)
        new[...] = value
        return finish_inplace(input, record(wrap(new), FillBackward0, (input,)))
    a[...] = value
    bump(input)
    return input


def zero_(input: Tensor) -> Tensor:
    """Every element set to 0."""
    return fill_(input, 0)


def copy_(input: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """The elements of ``src`` (broadcast, converted to the dtype) written into the tensor.

    Raises RuntimeError when the shapes do not fit."""
    if not isinstance(src, Tensor):
        if not isinstance(src, (int, float, complex)):
            raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {builtins.type(src).__name__}")
        from tritium.tensor.from_data import tensor

        src = tensor(src)
    check_inplace(input)
    a, s = input._a, src._a
    if s.shape != a.shape:
        if broadcast_shapes(a.shape, s.shape) != a.shape:
            raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape "
                               f"{list(broadcast_shapes(a.shape, s.shape))}")
        src = src.expand(a.shape)
        s = src._a
    if device_of(a) != device_of(s):
        s = moved(s, device_of(a), non_blocking)
    of(a).copy.copy_into(a, s)
    bump(input)
    if mode.enabled and (src._rg or input._rg):
        if a.dtype.kind in "biu":
            return input
        result = wrap(a)
        record(result, CopyBackwards, (_before(input) if input._rg else alias(input), src), ctx=src.device)
        set_history(input, result)
    return input


def _before(t: Tensor) -> Tensor:
    from tritium.tensor.graph import edge

    out = alias(t)
    out._rg, out._edge = True, edge(t)
    return out


def resize_(input: Tensor, *sizes: Any, memory_format: Any = contiguous_format) -> Tensor:
    """Another shape in place: the first elements are kept, new ones have any values.

    Raises RuntimeError for a tensor that requires grad, or one whose memory is shared and would have to grow."""
    shape = shape_of(sizes)
    if input._rg:
        raise RuntimeError("cannot resize variables that require grad")
    materialize(input)
    a = input._a
    count = math.prod(shape)
    if count <= a.size and a.flags.c_contiguous:
        input._a = a.reshape(-1)[:count].reshape(shape)
    else:
        if memory_of(input).held:
            raise RuntimeError("Trying to resize storage that is not resizable")
        fresh = beside(a).empty((count,), a.dtype)
        fresh[:min(count, a.size)] = a.reshape(-1)[:count]
        input._a = fresh.reshape(shape)
    bump(input)
    return input


def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """``resize_`` to the size of another tensor."""
    return resize_(input, the_template._a.shape)


def set_(input: Tensor, source: Tensor | None = None) -> Tensor:
    """Take another tensor's memory, shape and strides."""
    with_data = source if source is not None else wrap(beside(input._a).empty((0,), input._a.dtype))
    if input._a.dtype != with_data._a.dtype:
        raise RuntimeError(f"Could not set tensor of type {TYPE_NAMES[with_data.dtype.name]} to a tensor of type "
                           f"{TYPE_NAMES[input.dtype.name]}")
    input.data = with_data
    return input


def share_memory_(input: Tensor) -> Tensor:
    """Raises NotImplementedError: tensors are not shared between processes in this version."""
    raise NotImplementedError("share_memory_(): sharing tensors between processes is not implemented")


def is_shared(input: Tensor) -> bool:
    """Whether the memory is shared between processes: never."""
    return False


def pin_memory(input: Tensor, device: Any = None) -> Tensor:
    """The tensor in page-locked host memory, from which a copy to a device need not be waited for: itself when it is
    there.

    Raises RuntimeError for a cuda tensor, or where there is no device."""
    if not is_host(input._a):
        raise RuntimeError(f"cannot pin '{type(input)}' only dense CPU tensors can be pinned")
    if is_pinned(input):
        return input
    from tritium.kernels.runtime import pinned

    as_available("cuda")
    a = input._a
    out = wrap(array_like(a, a.dtype, pinned.empty))
    of(a).copy.copy_into(out._a, a)
    return out


def is_pinned(input: Tensor, device: Any = None) -> bool:
    """Whether the memory is page-locked host memory."""
    if not is_host(input._a):
        return False
    from tritium.kernels.runtime import pinned

    return pinned.is_pinned(input._a)


def record_stream(input: Tensor, s: Any) -> None:
    """Note that work on this stream uses the tensor's memory: it is not reused before that work is done.

    Operations note it themselves; for memory that other libraries work on. Raises RuntimeError for a CPU tensor."""
    if is_host(input._a):
        raise RuntimeError("record_stream: expected a cuda tensor, but got one on cpu")
    input._a.owner.used_on(s.cuda_stream)


@derivative
def FlipBackward0(node: Any, grad: Tensor) -> Tensor:
    return flip(grad, node.ctx)


def flip(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """A copy with the order of elements reversed along the given dimensions.

    Raises RuntimeError when a dimension appears twice."""
    if dims is None and not order:
        raise TypeError('flip() missing 1 required positional arguments: "dims"')
    ds = wrap_dims(shape_of(order if dims is None else (dims,), "dims"), input._a.ndim)
    out = wrap(of(input._a).copy.flip(input._a, ds))
    if input._free:
        out._free = True
    if recording(input):
        record(out, FlipBackward0, (input,), ctx=ds)
    return out
