"""tritium: a deep-learning framework whose every operation is a Triton kernel, with a NumPy implementation on the CPU.

``import tritium as torch`` runs the code people learn PyTorch with. This file is the namespace a user sees; nothing is
computed here. The rooms that not every program needs (nn, optim, data, models, ...) are imported when first used.
"""
from __future__ import annotations

import importlib
import math
import sys
from typing import TYPE_CHECKING, Any

# The folder first: importing it binds the name ``tensor`` here, which the function of that name then takes.
import tritium.tensor.methods
from tritium.tensor.autocast import (
    autocast,
    autocast_decrement_nesting,
    autocast_increment_nesting,
    clear_autocast_cache,
    get_autocast_cpu_dtype,
    get_autocast_dtype,
    get_autocast_gpu_dtype,
    is_autocast_cache_enabled,
    is_autocast_cpu_enabled,
    is_autocast_enabled,
    set_autocast_cache_enabled,
    set_autocast_cpu_dtype,
    set_autocast_cpu_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
    set_autocast_gpu_dtype,
)
from tritium.tensor.creation import (
    BFloat16Tensor,
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
    arange,
    empty,
    empty_like,
    empty_strided,
    eye,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    scalar_tensor,
    zeros,
    zeros_like,
)
from tritium.tensor.creation import complex_ as complex
from tritium.tensor.creation import range_ as range
from tritium.tensor.device import device, get_default_device, set_default_device
from tritium.tensor.dtype import (
    bfloat16,
    can_cast,
    complex64,
    complex128,
    dtype,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from tritium.tensor.dtype import bool_ as bool
from tritium.tensor.from_data import as_tensor, asarray, from_dlpack, from_numpy, frombuffer, tensor
from tritium.tensor.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from tritium.tensor.layout import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from tritium.tensor.methods import functions as _functions
from tritium.tensor.ops.view import broadcast_sizes as broadcast_shapes
from tritium.tensor.printing import set_printoptions
from tritium.tensor.promotion import result_type as _result_type
from tritium.tensor.random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from tritium.tensor.serialization import load, save
from tritium.tensor.tensor import Size, Tensor

if TYPE_CHECKING:
    from tritium import amp, autograd, backends, cpu, cuda, data, hub, linalg, models, nn, optim, testing, utils
    from tritium.tensor.functions import *  # noqa: F403

__version__ = "0.1.0"

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
cfloat, cdouble = complex64, complex128
pi, e, inf, nan = math.pi, math.e, math.inf, math.nan
newaxis = None

globals().update(_functions)

_ROOMS = {
    "autograd": "autograd", "nn": "nn", "optim": "optim", "data": "data", "utils": "utils", "models": "models",
    "probe": "probe", "hub": "hub", "cuda": "cuda", "backends": "backends", "linalg": "linalg",
    "accelerator": "accelerator", "jit": "jit", "amp": "amp", "cpu": "cpu",
    "random": "tensor.random", "transforms": "transforms", "datasets": "datasets",
    "return_types": "tensor.return_types", "serialization": "tensor.serialization", "testing": "testing",
}


def __getattr__(name: str) -> Any:
    where = _ROOMS.get(name)
    if where is None:
        raise AttributeError(f"module 'tritium' has no attribute {name!r}")
    importlib.import_module("tritium." + where)
    module = sys.modules["tritium." + where]
    globals()[name] = module
    return module


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})


def is_tensor(obj: Any) -> Any:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> Any:
    """Whether the dtype of ``input`` is a floating point type."""
    return input.is_floating_point()


def is_complex(input: Tensor) -> Any:
    """Whether the dtype of ``input`` is complex."""
    return input.is_complex()


def _assert(condition: Any, message: str) -> None:
    """``assert`` as a function."""
    assert condition, message


def is_nonzero(input: Tensor) -> Any:
    """Whether the one element of ``input`` is not zero."""
    return input.__bool__()


def is_storage(obj: Any) -> Any:
    """Whether ``obj`` is a storage."""
    from tritium.tensor.storage import TypedStorage, UntypedStorage

    return isinstance(obj, (TypedStorage, UntypedStorage))


def numel(input: Tensor) -> Any:
    """The number of elements of ``input``."""
    return input.numel()


def result_type(tensor1: Any, tensor2: Any) -> dtype:
    """The dtype that an operation on two tensors or numbers computes in."""
    return _result_type(tensor1, tensor2)


def set_default_tensor_type(t: Any) -> None:
    """Set the default dtype by the old name of a tensor type ("torch.DoubleTensor" or the class)."""
    word = (t if isinstance(t, str) else t.__name__).rpartition(".")[2].removesuffix("Tensor")
    set_default_dtype({"Float": float32, "Double": float64, "Half": float16, "BFloat16": bfloat16}[word])


def typename(obj: Any) -> str:
    """The type of a tensor ("torch.FloatTensor") or the name of another object's class."""
    if isinstance(obj, Tensor):
        return obj.type()
    module = getattr(obj, "__module__", "") or ""
    return f"{module}.{type(obj).__name__}" if module not in ("", "builtins") else type(obj).__name__


def get_num_threads() -> Any:
    """How many threads the CPU kernels use."""
    from tritium.kernels.reference.parallel import get_num_threads

    return get_num_threads()


def set_num_threads(count: Any) -> None:
    """Set how many threads the CPU kernels use."""
    from tritium.kernels.reference.parallel import set_num_threads

    set_num_threads(count)


def compile(model: Any = None, **kwargs: Any) -> Any:
    """Returns ``model`` as it is: every op is a kernel already. Accepts and ignores PyTorch's options."""
    return model if model is not None else (lambda m: m)


def get_float32_matmul_precision() -> Any:
    """How products of float32 matrices are computed on a GPU: "highest", "high" or "medium"."""
    from tritium import backends

    return backends.get_float32_matmul_precision()


def set_float32_matmul_precision(precision: Any) -> None:
    """Set how products of float32 matrices are computed on a GPU: "highest" in float32, "high" and "medium" with
    operands rounded to TF32."""
    from tritium import backends

    backends.set_float32_matmul_precision(precision)


def use_deterministic_algorithms(mode: Any, *, warn_only: Any = False) -> None:
    """Accepted and without effect: the same inputs always give the same bits."""


def are_deterministic_algorithms_enabled() -> Any:
    """Always True: the same inputs always give the same bits."""
    return True

