"""The Tensor: an array, a version counter, and a place in the graph.

A tensor is a Python object around one array: a ``numpy.ndarray`` view on the CPU. Shape, strides, offset and sharing of
memory are the array's own. The operations are functions in ``tensor/ops``, attached as methods by
``tensor/methods.py``; this file has what a tensor is and how it speaks to Python.
"""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tritium.kernels import is_host, of, on_host
from tritium.tensor import device as devices
from tritium.tensor.dtype import dtype, from_numpy_dtype

if TYPE_CHECKING:
    from tritium.tensor.signatures import Methods
else:
    Methods = object  # the ops are attached by tensor/methods.py; the stub tells type checkers

new_size = tuple.__new__  # makes a Size from ints, unchecked
new_tensor = object.__new__  # makes a Tensor (or a graph node) without running a constructor

NOT_A_LEAF = (
    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be "
    "populated during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, "
    "use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the "
    "leaf Tensor instead.")


class Size(tuple):  # type: ignore[type-arg]
    """The shape of a tensor: a tuple of int that prints as PyTorch's ``Size``."""

    __slots__ = ()
    __module__ = "tritium"

    def __new__(cls, sizes: Any = ()) -> Size:
        found = tuple.__new__(cls, sizes)
        for i, n in enumerate(found):
            if type(n) is not int:
                if not hasattr(n, "__index__"):
                    raise TypeError(f"tritium.Size() takes an iterable of 'int' (item {i} is '{type(n).__name__}')")
                return tuple.__new__(cls, [n.__index__() for n in found])
        return found

    def __repr__(self) -> str:
        return f"tritium.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, key: Any) -> Any:
        found = tuple.__getitem__(self, key)
        return Size(found) if type(key) is slice else found

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Any) -> Size:
        return Size(tuple.__add__(tuple(other), self))

    def __mul__(self, count: Any) -> Size:
        return Size(tuple.__mul__(self, count))

    __rmul__ = __mul__

    def numel(self) -> int:
        """The number of elements of a tensor of this size."""
        n = 1
        for s in self:
            n *= s
        return n

    def __reduce__(self) -> tuple[Any, ...]:
        return Size, (tuple(self),)


class Memory:
    """What is known of a stretch of memory: how often it was written, and whether others hold it too."""

    __slots__ = ("writes", "held")

    def __init__(self) -> None:
        self.writes = 0
        self.held = False


class Version:
    """Counts in-place changes for a tensor and all its views. ``shared``: another tensor sees the same memory."""

    n = 0
    changed = ""  # which output of which node the in-place operation on record made it, for the error message
    shared = False
    memory: Memory | None = None
    views: list[Any] | None = None
    limit = 0


class Tensor(Methods):
    """A multi-dimensional array of one dtype on one device, with PyTorch's interface.

    ``Tensor(2, 3)`` makes an uninitialised float tensor of that shape and ``Tensor(data)`` a float tensor of the
    data; ``tritium.tensor(data)`` is what new code uses.
    https://docs.pytorch.org/docs/stable/tensors.html"""

    __module__ = "tritium"
    __array_priority__ = 1000

    # Class-level defaults keep the making of a tensor cheap: only what differs is stored.
    _a: Any  # the array
    _vc: Version | None = None  # the version counter, made when first needed
    _rg = False  # requires grad
    _edge: Any = None  # (node, output number) of a tensor that is no leaf
    _base: Tensor | None = None  # the tensor this one is a view of
    _base_edge: Any = None  # the base's edge when this view took its own
    _made = ""  # of a view that in-place operations must not bring into the graph: why
    _grad: Tensor | None = None
    _hooks: dict[int, Any] | None = None  # hooks of a leaf
    _after_hooks: dict[int, Any] | None = None  # post-accumulate-grad hooks of a leaf
    _free = False  # the layout is an implementation choice: graph.materialize before showing it

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        from tritium.tensor.from_data import legacy_tensor

        return legacy_tensor(cls, *args, **kwargs)

    # --- what it is ---------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The size of each dimension."""
        return new_size(Size, self._a.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._a.ndim

    @property
    def dtype(self) -> dtype:
        """The element type."""
        return from_numpy_dtype(self._a.dtype)

    @property
    def device(self) -> devices.device:
        """Where the tensor lives."""
        a = self._a
        return devices.cpu if type(a) is np.ndarray else devices.device_of(a)

    @property
    def layout(self) -> Any:
        """Always ``tritium.strided``."""
        from tritium.tensor.layout import strided

        return strided

    is_sparse = is_quantized = is_meta = is_mkldnn = is_xpu = is_mps = is_nested = False

    @property
    def is_cuda(self) -> bool:
        """Whether the tensor lives on a cuda device."""
        return not is_host(self._a)

    @property
    def is_cpu(self) -> bool:
        """Whether the tensor lives in host memory."""
        return is_host(self._a)

    names_: Any = None

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return new_size(Size, self._a.shape)
        from tritium.tensor.layout import wrap_dim

        if not self._a.ndim:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        return self._a.shape[wrap_dim(dim, self._a.ndim)]

    def dim(self) -> int:
        """The number of dimensions."""
        return self._a.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return self._a.size

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self._a.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._a.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._a.nbytes

    def stride(self, dim: int | None = None) -> Any:
        """The steps in memory, in elements, of all dimensions or of one."""
        from tritium.tensor.layout import element_strides, wrap_dim

        graph.materialize(self)
        strides = element_strides(self._a)
        if dim is not None and not strides:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        return strides if dim is None else strides[wrap_dim(dim, self._a.ndim)]

    def data_ptr(self) -> int:
        """The address of the first element."""
        graph.materialize(self)
        return of(self._a).memory.address(self._a) if self._a.size else 0

    def storage_offset(self) -> int:
        """The position of the first element in the storage, in elements."""
        graph.materialize(self)
        from tritium.tensor.storage import offset_of

        return offset_of(self._a)

    def untyped_storage(self) -> Any:
        """The memory behind the tensor, as bytes."""
        from tritium.tensor.storage import UntypedStorage

        graph.materialize(self)
        graph.hold(self)
        return UntypedStorage(self._a)

    def storage(self) -> Any:
        """The memory behind the tensor, as elements of its dtype."""
        from tritium.tensor.storage import TypedStorage

        graph.materialize(self)
        graph.hold(self)
        return TypedStorage(self._a)

    _typed_storage = storage

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating point type."""
        return from_numpy_dtype(self._a.dtype).is_floating_point

    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return self._a.dtype.kind == "c"

    def is_signed(self) -> bool:
        """Whether the dtype is signed."""
        return from_numpy_dtype(self._a.dtype).is_signed

    def get_device(self) -> int:
        """The index of the cuda device; -1 on the CPU."""
        return -1 if is_host(self._a) else self._a.device

    def is_set_to(self, tensor: Tensor) -> bool:
        """Whether both are the same window (shape, strides, offset) of the same memory."""
        return (self.data_ptr() == tensor.data_ptr() and self._a.shape == tensor._a.shape
                and self.stride() == tensor.stride())

    def is_inference(self) -> bool:
        """Always False: a tensor made in inference mode is an ordinary tensor without history."""
        return False

    # --- its place in the graph -----------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are to be computed for this tensor."""
        return self._rg

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._set_requires_grad(bool(value), "floating point and complex")

    def _set_requires_grad(self, value: bool, kinds: str) -> None:
        if not self.is_leaf:
            raise RuntimeError("you can only change requires_grad flags of leaf variables." + (
                "" if value else " If you want to use a computed variable in a subgraph that doesn't require "
                "differentiation use var_no_grad = var.detach()."))
        if value and self._a.dtype.kind in "biuc":
            if self._a.dtype.kind == "c":
                raise NotImplementedError("gradients of complex tensors are not implemented: complex tensors carry "
                                          "data only")
            raise RuntimeError(f"only Tensors of {kinds} dtype can require gradients")
        self._rg = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` and return the tensor."""
        if not requires_grad or self.is_leaf:
            self._set_requires_grad(bool(requires_grad), "floating point")
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was not made by a recorded operation."""
        e = graph.edge(self)
        return e is None or e[0] is self

    @property
    def grad_fn(self) -> Any:
        """The node of the operation that made the tensor; None for a leaf."""
        e = graph.edge(self)
        return None if e is None or e[0] is self else e[0]

    @property
    def output_nr(self) -> int:
        """Which output of ``grad_fn`` the tensor is."""
        e = graph.edge(self)
        return 0 if e is None else e[1]

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient of a leaf; None before the first backward."""
        if self._grad is None and self._edge is not None and not self.retains_grad:
            warnings.warn(NOT_A_LEAF, UserWarning, stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type "
                                f"{type(value).__name__}")
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value._a.shape != self._a.shape:
                raise RuntimeError(f"attempting to assign a gradient of size '{list(value._a.shape)}' to a tensor of "
                                   f"size '{list(self._a.shape)}'. Please ensure that the gradient and the tensor are "
                                   "the same size")
            if type(value._a) is not type(self._a):
                raise RuntimeError(f"attempting to assign a gradient with device type '{value.device.type}' to a "
                                   f"tensor with device type '{self.device.type}'. Please ensure that the gradient and "
                                   "the tensor are on the same device")
            if value._a.dtype != self._a.dtype:
                from tritium.tensor.ops.arguments import TYPE_NAMES

                raise RuntimeError(f"attempting to assign a gradient with dtype '{TYPE_NAMES[value.dtype.name]}' to a "
                                   f"tensor with grad_dtype '{self.dtype.title}'. The gradient must match the tensor's "
                                   "grad_dtype (defaults to the tensor's dtype).")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def data(self) -> Tensor:
        """The same memory, outside the graph and with a version counter of its own."""
        graph.materialize(self)
        memory = graph.memory_of(self)
        graph.version_of(self).shared = True
        out = new_tensor(Tensor)
        out._a = self._a
        out._vc = v = Version()
        v.memory, v.shared = memory, True
        return out

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if self._rg and value._a.dtype.kind in "biu":
            raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
        graph.materialize(value)
        graph.version_of(value).shared = True
        memory = graph.memory_of(value)
        memory.writes += 1
        self._a = value._a
        self._free = False
        v = Version()
        v.n, v.memory, v.shared = self._version, memory, True
        self._vc = v

    @property
    def _version(self) -> int:
        return 0 if self._vc is None else self._vc.n

    def _is_view(self) -> bool:
        return self._base is not None

    @property
    def retains_grad(self) -> bool:
        """Whether ``retain_grad`` was asked for on a tensor that is no leaf."""
        return bool(self.__dict__.get("_retains_grad"))

    def retain_grad(self) -> None:
        """Keep the gradient of this tensor, which is no leaf, in ``grad`` after backward.

        Raises RuntimeError when the tensor does not require grad."""
        from tritium.autograd.hooks import retain_grad

        retain_grad(self)

    def register_hook(self, hook: Any) -> Any:
        """Call ``hook(grad)`` when a gradient for this tensor was computed; what it returns replaces the gradient.

        Returns a handle with ``remove()``. Raises RuntimeError when the tensor does not require grad."""
        from tritium.autograd.hooks import register_tensor_hook

        return register_tensor_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook: Any) -> Any:
        """Call ``hook(tensor)`` after a gradient was added to this leaf's ``grad``."""
        from tritium.autograd.hooks import register_post_accumulate_grad_hook

        return register_post_accumulate_grad_hook(self, hook)

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Any = None) -> None:
        """Add the gradients of this tensor to the ``grad`` of the leaves it was computed from.

        ``gradient``: the gradient with respect to this tensor, of its shape; may be left out for a scalar.
        ``retain_graph``: keep the saved tensors for another backward. ``create_graph``: record the backward too.
        ``inputs``: only these tensors get gradients.
        https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html"""
        from tritium.autograd.engine import backward

        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    # --- Python ---------------------------------------------------------------------------------

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number.

        Raises RuntimeError for any other number of elements."""
        a = self._a
        if a.size != 1:
            raise RuntimeError(f"a Tensor with {a.size} elements cannot be converted to Scalar")
        value = a.item()
        return value if type(value) is not a.dtype.type else float(value)

    def _one(self, kind: str) -> Any:
        """The value as ``int()`` and ``float()`` take it."""
        if self._a.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        value = self.item()
        if isinstance(value, complex):
            if value.imag:
                raise RuntimeError(f"value cannot be converted to type {kind} without overflow")
            return value.real
        return value

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers; a number for a 0-d tensor."""
        a = on_host(self._a)
        if a.dtype.kind == "V":
            a = a.astype(np.float32)
        return a.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """The array behind the tensor: both share their memory.

        bfloat16 gives an array of ``ml_dtypes.bfloat16``. Raises RuntimeError for a tensor that requires grad
        unless ``force``."""
        if self._rg and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if not is_host(self._a):
            if force:
                return on_host(self._a)
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the "
                            "tensor to host memory first.")
        graph.materialize(self)
        graph.version_of(self).shared = True
        graph.hold(self)
        return self._a.view()

    def __dlpack__(self, *, stream: Any = None, max_version: tuple[int, int] | None = None,
                   dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> Any:
        """A DLPack capsule over the tensor's memory; see ``interop.export``."""
        from tritium.tensor.interop import export

        return export(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        """(kind of device, its index): (1, 0) on the CPU, (2, index) on cuda."""
        return (1, 0) if is_host(self._a) else (2, self._a.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """NVIDIA's array interface, version 3. AttributeError on the CPU, RuntimeError when gradients are required.
        https://nvidia.github.io/numba-cuda/user/cuda_array_interface.html"""
        if is_host(self._a):
            raise AttributeError(f"Can't get __cuda_array_interface__ on non-CUDA tensor type: {self.type()} If CUDA "
                                 "data is required use tensor.cuda() to copy tensor to device memory.")
        from tritium.tensor.interop import cuda_interface

        return cuda_interface(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        if dtype is None or np.dtype(dtype) == array.dtype:
            return array.copy() if copy else array
        if copy is False:
            raise ValueError("unable to avoid copy while creating an array as requested")
        return array.astype(dtype)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
        """What a NumPy function gives for a tensor: a tensor over the resulting array."""
        from tritium.tensor.from_data import from_numpy

        return from_numpy(np.asarray(array))

    def __bool__(self) -> bool:
        a = self._a
        if a.size != 1:
            if a.size == 0:
                raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(a.item())

    def __float__(self) -> float:
        return float(self._one("double"))

    def __int__(self) -> int:
        return int(self._one("int64_t"))

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        a = self._a
        if a.size != 1 or a.dtype.kind not in "biu":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(a.item())

    def __len__(self) -> int:
        if self._a.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self._a.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self._a.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        from tritium.tensor.ops.view import unbind

        return iter(unbind(self, 0))

    def __delitem__(self, key: Any) -> None:
        raise TypeError("Tensor does not support deleting items")

    def __contains__(self, element: Any) -> bool:
        if isinstance(element, Tensor):
            return bool((element == self).any())
        if isinstance(element, (int, float, complex, bool, np.generic)):
            return bool((self == element).any())
        raise RuntimeError("Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
                           f"{type(element)}.")

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        from tritium.tensor.printing import tensor_repr

        return tensor_repr(self)

    def __format__(self, spec: str) -> str:
        from tritium.tensor.printing import tensor_format

        return tensor_format(self, spec)

    def __dir__(self) -> list[str]:
        return sorted(set(object.__dir__(self)))

    def __reversed__(self) -> Tensor:
        from tritium.tensor.ops.copy import flip

        return self if self._a.ndim == 0 else flip(self, 0)

    def is_same_size(self, other: Tensor) -> bool:
        """Whether both have the same shape."""
        return self._a.shape == other._a.shape

    def __copy__(self) -> Tensor:
        shared = self.data
        out = new_tensor(type(self))
        out.__dict__.update({k: v for k, v in self.__dict__.items() if k not in STATE})
        out._a, out._vc = shared._a, shared._vc
        if self._rg:
            out._rg = True
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
                               "protocol at the moment.")
        if id(self) in memo:
            return memo[id(self)]
        from copy import deepcopy

        from tritium.tensor.storage import copy_with_storage

        graph.materialize(self)
        out = new_tensor(type(self))
        memo[id(self)] = out
        out._a = copy_with_storage(self._a, memo)
        if self._rg:
            out._rg = True
        if self._grad is not None:
            out._grad = deepcopy(self._grad, memo)
        for name, value in self.__dict__.items():
            if name not in STATE:
                out.__dict__[name] = deepcopy(value, memo)
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        from tritium.tensor.serialization import rebuild_tensor

        graph.materialize(self)
        extra = {k: v for k, v in self.__dict__.items() if k not in STATE}
        if is_host(self._a):
            return rebuild_tensor, (type(self), np.array(self._a, order="K"), self._rg, extra)
        from tritium.tensor.from_data import moved

        return rebuild_tensor, (type(self), moved(self._a, devices.cpu), self._rg, extra, str(self.device))


STATE = frozenset(("_a", "_vc", "_rg", "_edge", "_base", "_base_edge", "_grad", "_hooks", "_after_hooks", "_free",
                   "_made", "_retains_grad"))

from tritium.tensor import graph  # noqa: E402  (the record needs the class, and the class the record)
