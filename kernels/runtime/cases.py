"""The configurations in which kernels are shipped: what the machine-code report compiles."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One kernel in one configuration.

    ``types``: the Triton type of each argument that is no constexpr ("*bf16", "i32", "fp64"); ``aligned``: arguments
    divisible by 16; ``wide``: 128-bit global loads and stores are expected, or "loads" alone; ``mma``: matrix
    instructions are, or those of a kind ("HMMA"); ``enable_fp_fusion``: products and sums may be fused; ``targets``:
    where it is shipped ("sm_90",), if not everywhere; ``spills``: how many accesses to spilled registers are put up
    with, because a smaller block would cost more."""

    name: str
    kernel: Any
    types: dict[str, str]
    constexprs: dict[str, Any] = field(default_factory=dict)
    aligned: tuple[str, ...] = ()
    num_warps: int = 4
    num_stages: int = 3
    wide: bool | str = False
    mma: bool | str = False
    enable_fp_fusion: bool = True
    targets: tuple[str, ...] = ()
    spills: int = 0
