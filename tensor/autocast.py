"""Automatic mixed precision: which ops compute in which dtype inside an ``autocast`` region, and the region itself.

A listed op begins with

    if amp.on and (result := amp.run("mm", mm, input, mat2, out=out)) is not None:
        return result

``amp.on`` says whether autocast is on anywhere in the process: all that an op pays outside such regions. ``run`` looks
at this thread, finds the op in the list of the tensors' device, casts the arguments and calls the op again with
autocast off, so that the ops inside it compute in the dtypes they are given. An op that is on no list of its device
gets None and goes on, and the ops it is made of see autocast, as PyTorch's composite ops do. Forms that write (in
place, ``out=``) are never cast, nor is float64.
https://docs.pytorch.org/docs/stable/amp.html
"""
from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tritium.kernels import is_host
from tritium.tensor.device import device
from tritium.tensor.dtype import bfloat16, dtype, float16, float32, float64
from tritium.tensor.grad_mode import mode
from tritium.tensor.tensor import Tensor

LOWER = "the dtype of the region"
FLOAT32 = "float32"
DTYPE = "dtype=float32, unless the call asks for another one"
WIDEST = "the widest dtype among the arguments"
PLAIN = "the dtypes as they are, also in the ops that it is made of"
BANNED = "an error"


def _table(**lists: str) -> dict[str, str]:
    policies = {"lower": LOWER, "float32": FLOAT32, "dtype": DTYPE, "widest": WIDEST, "plain": PLAIN,
                "banned": BANNED}
    return {name: policies[policy] for policy, names in lists.items() for name in names.split()}


# PyTorch's lists, as far as there are such functions here, and functions that PyTorch makes of listed ones.
LISTS: dict[str, dict[str, str]] = {
    "cpu": _table(
        lower="""addbmm addmm baddbmm bmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear
            matmul mm prelu scaled_dot_product_attention vecdot""",
        float32="""adaptive_avg_pool3d adaptive_max_pool3d avg_pool3d binary_cross_entropy
            binary_cross_entropy_with_logits cdist cosine_embedding_loss cross_entropy ctc_loss fractional_max_pool2d
            fractional_max_pool3d grid_sample hinge_embedding_loss huber_loss kl_div l1_loss lp_pool3d
            margin_ranking_loss max_pool3d max_unpool1d max_unpool2d max_unpool3d mse_loss multi_margin_loss
            multilabel_margin_loss nanquantile nll_loss poisson_nll_loss polar prod quantile reflection_pad1d
            reflection_pad2d replication_pad1d replication_pad2d replication_pad3d smooth_l1_loss soft_margin_loss trace
            triplet_margin_loss view_as_complex""",
        widest="cat index_copy stack",
        plain="bilinear"),
    "cuda": _table(
        lower="""addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_transpose1d conv_transpose2d
            conv_transpose3d einsum linear matmul mm mv prelu scaled_dot_product_attention vecdot""",
        float32="""acos asin binary_cross_entropy_with_logits cdist cosh cosine_embedding_loss cosine_similarity
            cross_entropy dist erfinv exp expm1 group_norm hinge_embedding_loss huber_loss interpolate kl_div l1_loss
            layer_norm log log10 log1p log2 logsumexp lp_pool2d lp_pool3d margin_ranking_loss mse_loss
            multi_margin_loss multilabel_margin_loss nll_loss pdist poisson_nll_loss pow reciprocal renorm rms_norm
            rsqrt sinh smooth_l1_loss soft_margin_loss softplus square tan triplet_margin_loss""",
        dtype="cumprod cumsum log_softmax matrix_norm norm prod softmax sum vector_norm",
        widest="addcdiv addcmul atan2 bilinear cross dot grid_sample index_put scatter_add tensordot vdot",
        banned="binary_cross_entropy")}
LISTED = frozenset(name for table in LISTS.values() for name in table)

UNSAFE = (
    "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
    "Many models use a sigmoid layer right before the binary cross entropy layer.\n"
    "In this case, combine the two layers using torch.nn.functional.binary_cross_entropy_with_logits\n"
    "or torch.nn.BCEWithLogitsLoss.  binary_cross_entropy_with_logits and BCEWithLogits are\n"
    "safe to autocast.")


class _Thread(threading.local):
    """What autocast is in this thread: for each device whether it is on, and its dtype."""

    cpu = cuda = False
    cpu_dtype, cuda_dtype = bfloat16, float16
    cache_enabled = True
    nesting = 0

    def __init__(self) -> None:
        self.entered: list[tuple[str, bool, dtype, bool]] = []  # what to go back to at the end of each region
        self.cache: dict[int, tuple[Tensor, int, Tensor]] = {}  # id of a leaf -> it, its version, it in low precision


here = _Thread()
_lock = threading.Lock()


class Amp:
    """The question that listed ops ask. ``on``: for how many devices, of how many threads, autocast is on."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = 0

    def run(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of ``function(*args, **kwargs)`` as autocast wants it, or None where it has nothing to say.

        Raises RuntimeError for a banned op, and where a 16-bit dtype that is not the region's meets a promoting op."""
        if not (here.cuda or here.cpu):
            return None
        kind = _device_of(args) or _device_of(kwargs.values())
        if kind is None or not getattr(here, kind):
            return None
        if kwargs.get("out") is None:
            policy = LISTS[kind].get(name)
            if policy is None:
                return None
            to = _target(policy, kind, args, kwargs)
            if to is not None:
                args = tuple([_cast(x, to, kind) for x in args])
                kwargs = {k: _cast(x, to, kind) for k, x in kwargs.items()}
        setattr(here, kind, False)
        try:
            return function(*args, **kwargs)
        finally:
            setattr(here, kind, True)


amp = Amp()


def outside(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)`` with autocast off in this thread."""
    before = here.cpu, here.cuda
    here.cpu = here.cuda = False
    try:
        return function(*args, **kwargs)
    finally:
        here.cpu, here.cuda = before


def lowered(x: Tensor) -> Any:
    """The NumPy dtype that a product with this tensor computes in, where autocast is on for it; else None."""
    if not amp.on or x._a.dtype == float64.np:
        return None
    kind = "cpu" if is_host(x._a) else "cuda"
    return getattr(here, kind + "_dtype").np if getattr(here, kind) else None


def _device_of(values: Iterable[Any]) -> str | None:
    """"cuda" where one of the tensors among the values (and in lists of them) is there, "cpu" where all others are."""
    found = None
    for x in values:
        if isinstance(x, Tensor):
            if not is_host(x._a):
                return "cuda"
            found = "cpu"
        elif type(x) is list or type(x) is tuple:
            inner = _device_of(x)
            if inner == "cuda":
                return inner
            found = found or inner
    return found


def _eligible(x: Tensor, kind: str) -> bool:
    dt = x._a.dtype
    return dt.kind in "fV" and dt != float64.np and is_host(x._a) == (kind == "cpu")


def _target(policy: str, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dtype | None:
    """The dtype to cast the arguments to, or None; ``kwargs`` gets ``dtype=`` where that is the policy."""
    if policy is LOWER:
        return getattr(here, kind + "_dtype")
    if policy is FLOAT32:
        return float32
    if policy is WIDEST:
        return _widest(kind, (*args, *kwargs.values()), getattr(here, kind + "_dtype"))
    if policy is BANNED:
        raise RuntimeError(UNSAFE)
    if policy is DTYPE and kwargs.get("dtype") is None and isinstance(args[0], Tensor) and _eligible(args[0], kind):
        kwargs["dtype"] = float32
    return None


def _widest(kind: str, values: Iterable[Any], found: dtype) -> dtype:
    """float32 where one of the tensors has it, else the region's dtype."""
    low = getattr(here, kind + "_dtype")
    for x in values:
        if type(x) is list or type(x) is tuple:
            found = _widest(kind, x, found)
        elif isinstance(x, Tensor) and _eligible(x, kind):
            if found is float32 or x._a.dtype == float32.np:
                found = float32
            elif x._a.dtype != low.np:
                raise RuntimeError("Unexpected floating ScalarType in at::autocast::prioritize")
    return found


def _cast(x: Any, to: dtype, kind: str) -> Any:
    """An argument in the dtype: tensors of the device, also in lists, if they are floating point and not float64."""
    if isinstance(x, Tensor):
        if not _eligible(x, kind) or x._a.dtype == to.np:
            return x
        leaf = x._rg and x._edge is None and x._base is None and x._a.dtype == float32.np
        if leaf and here.cache_enabled and to is getattr(here, kind + "_dtype"):
            return _cached(x, to)
        return x.to(to)
    if type(x) is list or type(x) is tuple:
        return type(x)([_cast(item, to, kind) for item in x])
    return x


def _cached(x: Tensor, to: dtype) -> Tensor:
    """A float32 leaf that requires grad (a weight) in low precision: cast once in the outermost region, so that its
    gradients are added up before they are cast back. Cast again after an in-place change, and for the graph where the
    first cast was not recorded."""
    found = here.cache.get(id(x))
    if found is not None:
        weight, version, low = found
        if version == x._version and low._a.dtype == to.np and (low._rg or not mode.enabled):
            return low
    low = x.to(to)
    here.cache[id(x)] = (x, x._version, low)
    return low


# --- the state, as functions ------------------------------------------------------------------

def _kind(name: str, device_type: Any) -> str:
    if not isinstance(device_type, str):
        raise TypeError(f"{name}(): argument 'device_type' (position 1) must be str, not {type(device_type).__name__}")
    return device(device_type).type


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast knows a type of device: "cpu" and "cuda"."""
    return _kind("_is_autocast_available", device_type) in LISTS


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on for a type of device, in this thread."""
    return getattr(here, _kind("is_autocast_enabled", device_type))


def set_autocast_enabled(device_type: Any, enabled: Any = None) -> None:
    """Set autocast on or off for a type of device, in this thread. Without one ("enabled" alone) for cuda."""
    if isinstance(device_type, bool) and enabled is None:
        device_type, enabled = "cuda", device_type
    kind = _kind("set_autocast_enabled", device_type)
    if not isinstance(enabled, bool):
        raise TypeError("set_autocast_enabled(): argument 'enabled' (position 2) must be bool, not "
                        f"{type(enabled).__name__}")
    if getattr(here, kind) != enabled:
        setattr(here, kind, enabled)
        with _lock:
            amp.on += 1 if enabled else -1


def get_autocast_dtype(device_type: str) -> dtype:
    """The dtype of autocast's lower precision for a type of device: bfloat16 for "cpu", float16 for "cuda", or what
    the region around says."""
    return getattr(here, _kind("get_autocast_dtype", device_type) + "_dtype")


def set_autocast_dtype(device_type: str, dtype: Any) -> None:
    """Set the dtype of autocast's lower precision for a type of device, in this thread."""
    kind = _kind("set_autocast_dtype", device_type)
    if not isinstance(dtype, type(float32)):
        raise TypeError("set_autocast_dtype(): argument 'dtype' (position 2) must be torch.dtype, not "
                        f"{type(dtype).__name__}")
    setattr(here, kind + "_dtype", dtype)


def is_autocast_cache_enabled() -> bool:
    """Whether weights in low precision are kept until the end of the outermost region."""
    return here.cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Set whether weights in low precision are kept until the end of the outermost region."""
    if not isinstance(enabled, bool):
        raise TypeError(f"enabled must be a bool (got {type(enabled).__name__})")
    here.cache_enabled = enabled


def clear_autocast_cache() -> None:
    """Forget the weights in low precision."""
    here.cache.clear()


def autocast_increment_nesting() -> int:
    """Enter a region; returns how many are entered now."""
    here.nesting += 1
    return here.nesting


def autocast_decrement_nesting() -> int:
    """Leave a region; returns how many are entered now."""
    here.nesting -= 1
    return here.nesting


def _older(name: str, instead: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a device's own name, which warns."""

    def call(*args: Any) -> Any:
        warnings.warn(f"torch.{name} is deprecated. Please use torch.{instead} instead.", DeprecationWarning,
                      stacklevel=2)
        return function(*args)

    call.__name__ = call.__qualname__ = name.partition("(")[0]
    call.__doc__ = f"The older name of ``{instead}``; warns."
    return call


is_autocast_cpu_enabled = _older("is_autocast_cpu_enabled()", "is_autocast_enabled('cpu')",
                                 lambda: is_autocast_enabled("cpu"))
set_autocast_cpu_enabled = _older("set_autocast_cpu_enabled(enabled)", "set_autocast_enabled('cpu', enabled)",
                                  lambda enabled: set_autocast_enabled("cpu", enabled))
get_autocast_cpu_dtype = _older("get_autocast_cpu_dtype()", "get_autocast_dtype('cpu')",
                                lambda: get_autocast_dtype("cpu"))
set_autocast_cpu_dtype = _older("set_autocast_cpu_dtype(dtype)", "set_autocast_dtype('cpu', dtype)",
                                lambda dtype: set_autocast_dtype("cpu", dtype))
get_autocast_gpu_dtype = _older("get_autocast_gpu_dtype()", "get_autocast_dtype('cuda')",
                                lambda: get_autocast_dtype("cuda"))
set_autocast_gpu_dtype = _older("set_autocast_gpu_dtype(dtype)", "set_autocast_dtype('cuda', dtype)",
                                lambda dtype: set_autocast_dtype("cuda", dtype))


# --- regions ----------------------------------------------------------------------------------

class autocast:
    """A region, as a context manager or a decorator, in which listed ops compute in the dtype that suits them.

    ``device_type``: "cpu" or "cuda", of whose tensors it is; ``dtype``: the lower precision, float16 for cuda and
    bfloat16 for the CPU when it is None; ``enabled=False``: ops inside compute in the dtypes they are given;
    ``cache_enabled``: whether a weight is cast once (the default) or each time. Backward belongs outside: it uses the
    dtypes that were recorded.

    Raises RuntimeError for an unknown device, ValueError where ``device_type`` is no text. Warns, and is not enabled,
    where there is no cuda device, or the CPU has no kernels for the dtype.
    https://docs.pytorch.org/docs/stable/amp.html#torch.autocast"""

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True,
                 cache_enabled: bool | None = None) -> None:
        self._begin(device_type, dtype, enabled, cache_enabled, 4)

    def _begin(self, device_type: Any, dtype: Any, enabled: bool, cache_enabled: bool | None, level: int) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if dtype is not None and not isinstance(dtype, type(float32)):
            raise TypeError("set_autocast_dtype(): argument 'dtype' (position 2) must be torch.dtype, not "
                            f"{type(dtype).__name__}")
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self.device = device_type
        self._kind = device(device_type).type
        self._cache_enabled = here.cache_enabled if cache_enabled is None else cache_enabled
        self._enabled = bool(enabled) and self._supported(level)

    def _supported(self, level: int) -> bool:
        """Whether the region can be enabled; warns where it cannot."""
        if self._kind == "cuda":
            from tritium.kernels import runtime

            if not runtime.count():
                warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast.", stacklevel=level)
                return False
        elif self.fast_dtype not in (bfloat16, float16):
            warnings.warn(f"In {self.device.upper()} autocast, but the target dtype is not supported. Disabling "
                          f"autocast.\n{self.device.upper()} Autocast only supports dtypes of torch.bfloat16, "
                          "torch.float16 currently.", stacklevel=level)
            return False
        return True

    def __enter__(self) -> autocast:
        kind = self._kind
        here.entered.append((kind, getattr(here, kind), getattr(here, kind + "_dtype"), here.cache_enabled))
        set_autocast_enabled(kind, self._enabled)
        setattr(here, kind + "_dtype", self.fast_dtype)
        here.cache_enabled = self._cache_enabled
        here.nesting += 1
        return self

    def __exit__(self, *error: object) -> None:
        here.nesting -= 1
        if here.nesting == 0:
            here.cache.clear()
        kind, enabled, dt, here.cache_enabled = here.entered.pop()
        set_autocast_enabled(kind, enabled)
        setattr(here, kind + "_dtype", dt)

    def __call__(self, func: Any) -> Any:
        if not callable(func):
            raise TypeError(f"autocast()(func) requires a callable, but got {type(func).__name__}. Did you mean to use "
                            "autocast as a context manager? For example:\n    with torch.autocast(device_type=...):\n"
                            "        output = model(input)")

        @functools.wraps(func)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return inside


class KeptState:
    """The autocast state of the moment when this object is made, for a function that is run again later."""

    def __init__(self) -> None:
        self.states = [(kind, getattr(here, kind), getattr(here, kind + "_dtype"), here.cache_enabled)
                       for kind in ("cpu", "cuda")]

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """``function(*args)`` in that state."""
        if not amp.on and not any([on for _, on, _, _ in self.states]):
            return function(*args)
        before = KeptState()
        self._set()
        here.nesting += 1
        try:
            return function(*args)
        finally:
            here.nesting -= 1
            if here.nesting == 0:
                here.cache.clear()
            before._set()

    def _set(self) -> None:
        for kind, on, dt, here.cache_enabled in self.states:
            set_autocast_enabled(kind, on)
            setattr(here, kind + "_dtype", dt)


# --- user-defined Functions -------------------------------------------------------------------

def cast_inputs_to(value: Any, device_type: str, dt: dtype) -> Any:
    """Tensors of a device, also in containers, in another floating point dtype; float64 and all else as they are."""
    if isinstance(value, Tensor):
        return value.to(dt) if value.is_floating_point() and _eligible(value, device(device_type).type) else value
    if isinstance(value, (str, bytes, np.ndarray)):
        return value
    if isinstance(value, Mapping):
        return {cast_inputs_to(k, device_type, dt): cast_inputs_to(v, device_type, dt) for k, v in value.items()}
    if isinstance(value, Iterable):
        items = map(lambda v: cast_inputs_to(v, device_type, dt), value)
        return type(value)(items) if isinstance(value, (list, tuple)) else items  # type: ignore[call-arg]
    return value


def _check_type(device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: Any = None) -> Any:
    """Decorates ``forward`` of a user's Function. With ``cast_inputs`` it gets its floating point tensors in that dtype
    and runs with autocast off (in a region; outside of any nothing changes); else it runs in the region's state, which
    ``custom_bwd`` finds again.

    https://docs.pytorch.org/docs/stable/amp.html#torch.amp.custom_fwd"""
    _check_type(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._dtype = get_autocast_dtype(device_type)
        on = is_autocast_enabled(device_type)
        ctx._fwd_used_autocast = on and cast_inputs is None
        if cast_inputs is None or not on:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *cast_inputs_to(args, device_type, cast_inputs),
                       **cast_inputs_to(kwargs, device_type, cast_inputs))

    return forward


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """Decorates ``backward`` of a user's Function: it runs in the autocast state that ``forward`` ran in.

    https://docs.pytorch.org/docs/stable/amp.html#torch.amp.custom_bwd"""
    _check_type(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def backward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, ctx._dtype, ctx._fwd_used_autocast):
            return bwd(ctx, *args, **kwargs)

    return backward
