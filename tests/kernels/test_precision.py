"""The switches of float32 products: two views of one state, as in PyTorch."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

import tritium
from tritium.backends import cuda


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    yield
    tritium.set_float32_matmul_precision("highest")


def test_two_views_of_one_switch() -> None:
    assert tritium.get_float32_matmul_precision() == "highest" and cuda.matmul.allow_tf32 is False
    cuda.matmul.allow_tf32 = True
    assert tritium.get_float32_matmul_precision() == "high" and cuda.matmul.fp32_precision == "tf32"
    tritium.set_float32_matmul_precision("medium")
    assert cuda.matmul.allow_tf32 is True and tritium.get_float32_matmul_precision() == "medium"
    cuda.matmul.allow_tf32 = False
    assert tritium.get_float32_matmul_precision() == "highest"
    cuda.matmul.fp32_precision = "tf32"
    assert cuda.matmul.allow_tf32 is True
    tritium.set_float32_matmul_precision("highest")
    assert cuda.matmul.fp32_precision == "ieee"


def test_other_words_change_nothing() -> None:
    with pytest.warns(UserWarning, match="fast is not one of 'highest', 'high', or 'medium'"):
        tritium.set_float32_matmul_precision("fast")
    assert tritium.get_float32_matmul_precision() == "highest"
    with pytest.raises(RuntimeError, match="expects a bool, but got str"):
        cuda.matmul.allow_tf32 = "yes"
    with pytest.raises(RuntimeError, match="Invalid fp32 precision"):
        cuda.matmul.fp32_precision = "fp16"


def test_switches_without_effect() -> None:
    assert cuda.matmul.allow_fp16_reduced_precision_reduction and cuda.matmul.allow_bf16_reduced_precision_reduction
    cuda.matmul.allow_bf16_reduced_precision_reduction = False
    assert cuda.matmul.allow_bf16_reduced_precision_reduction is False
    cuda.matmul.allow_bf16_reduced_precision_reduction = True
    with pytest.raises(AttributeError):
        cuda.matmul.allow_everything = True  # type: ignore[attr-defined]
