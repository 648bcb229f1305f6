"""``tritium.backends``: switches that PyTorch programs set. On the CPU they have no effect.

``cuda.matmul.allow_tf32`` and ``set_float32_matmul_precision`` are two views of one switch: whether products of float32
matrices may round their operands to TF32 on a GPU.
https://docs.pytorch.org/docs/stable/backends.html
"""
from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

from tritium.kernels.precision import FLOAT32_MATMUL
from tritium.kernels.precision import precision as switches


def get_float32_matmul_precision() -> str:
    """How products of float32 matrices are computed on a GPU: "highest", "high" or "medium"."""
    return switches.float32_matmul


def set_float32_matmul_precision(precision: str) -> None:
    """Set how products of float32 matrices are computed on a GPU: "highest" in float32, "high" and "medium" with
    operands rounded to TF32.

    Another word warns and changes nothing.
    https://docs.pytorch.org/docs/stable/generated/torch.set_float32_matmul_precision.html"""
    if precision not in FLOAT32_MATMUL:
        warnings.warn(f"{precision} is not one of 'highest', 'high', or 'medium'; the current "
                      "setFloat32MatmulPrecision call has no effect.", stacklevel=3)
        return
    switches.float32_matmul = precision


class Matmul:
    """Switches of matrix products. 16-bit products always add in float32: ``allow_fp16_reduced_precision_reduction``,
    ``allow_bf16_reduced_precision_reduction`` and ``allow_fp16_accumulation`` are kept and have no effect."""

    __slots__ = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction",
                 "allow_fp16_accumulation")

    def __init__(self) -> None:
        self.allow_fp16_reduced_precision_reduction = True
        self.allow_bf16_reduced_precision_reduction = True
        self.allow_fp16_accumulation = False

    @property
    def allow_tf32(self) -> bool:
        """Whether float32 operands may be rounded to TF32. Raises RuntimeError for what is no bool."""
        return switches.tf32

    @allow_tf32.setter
    def allow_tf32(self, allow: Any) -> None:
        if not isinstance(allow, bool):
            raise RuntimeError(f"set_allow_tf32_cublas expects a bool, but got {type(allow).__name__}")
        switches.float32_matmul = "high" if allow else "highest"

    @property
    def fp32_precision(self) -> str:
        """``allow_tf32`` in words: "tf32" or "ieee"."""
        return "tf32" if switches.tf32 else "ieee"

    @fp32_precision.setter
    def fp32_precision(self, word: str) -> None:
        if word not in ("none", "ieee", "tf32"):
            raise RuntimeError(f"Invalid fp32 precision: {word}")
        switches.float32_matmul = "high" if word == "tf32" else "highest"


class Cudnn:
    """Switches of convolutions, which cuDNN does not compute here: ``allow_tf32`` counts, ``enabled``, ``benchmark``
    and ``deterministic`` are kept and have no effect (every result is deterministic)."""

    __slots__ = ("benchmark", "deterministic", "enabled")

    def __init__(self) -> None:
        self.enabled = self.benchmark = False
        self.deterministic = True

    @property
    def allow_tf32(self) -> bool:
        """Whether convolutions of float32 may round their operands to TF32 on a GPU: True unless it is changed. Raises
        RuntimeError for what is no bool."""
        return switches.conv_tf32

    @allow_tf32.setter
    def allow_tf32(self, allow: Any) -> None:
        if not isinstance(allow, bool):
            raise RuntimeError(f"set_allow_tf32_cudnn expects a bool, but got {type(allow).__name__}")
        switches.conv_tf32 = allow

    def is_available(self) -> bool:
        return False

    def version(self) -> None:
        return None


def _attention_switches() -> dict[str, Any]:
    """``enable_flash_sdp`` and the like: which ways to compute attention are allowed (see ``nn.attention``)."""
    from tritium.tensor.ops.attention import backends as allowed

    def setter(name: str) -> Any:
        def enable(enabled: bool) -> None:
            if not isinstance(enabled, bool):
                raise RuntimeError(f"set_sdp_use_math expects a bool, but got {type(enabled).__name__}")
            setattr(allowed, name, enabled)

        return enable

    found: dict[str, Any] = {}
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        found[f"enable_{name}_sdp"] = setter(name)
        found[f"{name}_sdp_enabled"] = lambda name=name: getattr(allowed, name)
    found["allow_fp16_bf16_reduction_math_sdp"] = setter("reduced_math")
    found["fp16_bf16_reduction_math_sdp_allowed"] = lambda: allowed.reduced_math
    return found


cudnn = Cudnn()
cuda = SimpleNamespace(matmul=Matmul(), is_built=lambda: False, **_attention_switches())
mps = SimpleNamespace(is_available=lambda: False, is_built=lambda: False)
mkl = SimpleNamespace(is_available=lambda: False)
mkldnn = SimpleNamespace(is_available=lambda: False, enabled=False)
openmp = SimpleNamespace(is_available=lambda: False)
