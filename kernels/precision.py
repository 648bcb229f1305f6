"""How products of float32 matrices and convolutions may be computed on a GPU: switches of the process, set through
``backends`` and ``set_float32_matmul_precision``. On the CPU they have no effect."""
from __future__ import annotations

FLOAT32_MATMUL = ("highest", "high", "medium")


class Precision:
    """``float32_matmul``: "highest" multiplies in float32; "high" and "medium" round the operands to TF32 (10 bits of
    mantissa), which matrix instructions take. ``conv_tf32``: whether convolutions round theirs."""

    __slots__ = ("conv_tf32", "float32_matmul")

    def __init__(self) -> None:
        self.float32_matmul = "highest"
        self.conv_tf32 = True

    @property
    def tf32(self) -> bool:
        """Whether the operands may be rounded."""
        return self.float32_matmul != "highest"


precision = Precision()
