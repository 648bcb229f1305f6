"""The shipped configurations of the normalizations, for the report on their machine code."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton.language as tl

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton.norm_kernels import (
    apply,
    coefficients,
    gradient,
    group_means,
    moments,
    moments_joined,
    running,
    sums,
    sums_joined,
)
from tritium.kernels.triton.norm_launch import FEW
from tritium.kernels.triton.norm_row_kernels import rows, rows_gradient

ITEM = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}
ACC = {"fp64": tl.float64}
WHOLE = ("C", "S", "N", "span", "per", "channels", "splits", "R", "D", "rows", "groups")
REAL = ("eps", "momentum", "factor", "count", "each")
NOTHING: dict[str, Any] = {"BIAS": False, "ACT": "", "TOLD": "", "DZ": False}
OWN: dict[str, Any] = {"BIAS": True, "ACT": "relu", "TOLD": "x", "DZ": False}
ADDED: dict[str, Any] = {"BIAS": False, "ACT": "relu", "TOLD": "y", "DZ": True}


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    yield from _channels()
    yield from _rows()


def _types(kernel: Any, dtype: str, **given: str) -> tuple[dict[str, str], tuple[str, ...]]:
    kinds = {**dict.fromkeys(WHOLE, "i64"), **dict.fromkeys(REAL, "fp64"),
             **dict.fromkeys(("x", "dy", "dx", "y", "dz", "residual", "out"), f"*{dtype}"),
             **dict.fromkeys(("parts", "totals", "means"), "*fp64"), "counter": "*i64", **given}
    found = {name: kinds.get(name, "*fp32") for name in kernel.parameters}
    return found, tuple(n for n, t in found.items() if t[0] == "*")


def _channels() -> Iterator[Case]:
    forms = {"planes": (False, 1, 2048), "small planes": (False, 16, 64), "channels last": (True, 0, 0)}
    both = {"WEIGHT": True, "BIAS": True}
    for form, (columns, bk, br) in forms.items():
        for dtype in ("fp32", "bf16", "fp64") if form != "small planes" else ("fp32", "bf16"):
            block = 1024 if dtype == "fp64" else 2048
            k = max(128 // ITEM[dtype], 16) if columns else bk
            constants = {"ACC": ACC.get(dtype, tl.float32), "COLUMNS": columns,
                         "VECTOR": 1 if form == "small planes" else 16 // ITEM[dtype], "LONG": False, "BK": k,
                         "BR": block // k if columns else min(br, block)}
            wide = constants["VECTOR"] > 1
            vectors = {"mean": "*fp64", "invstd": "*fp64", "var": "*fp64", "scale": "*fp64"}
            run = {"RUN_MEAN": True, "RUN_VAR": True, "VAR": True, "COUNT": True}
            plain = {**both, "RESIDUAL": False, "ACT": "", "GROUPED": False}
            added = {**both, "RESIDUAL": True, "ACT": "relu", "GROUPED": False}
            total = {"WEIGHT": False, **NOTHING, "VAR": False, "GROUPED": False, "ROWS": ""}
            slope = {"WEIGHT": True, **NOTHING, "VAR": False, "TRAIN": True, "STORE": True, "FEW": FEW,
                     "GROUPED": False}
            sorts: list[tuple[str, Any, dict[str, Any], bool]] = [
                ("", moments, {"PART": False, **run}, False),
                ("part", moments, {"PART": True, **dict.fromkeys(run, False)}, False),
                ("train", apply, {"MODE": "invstd", **plain}, wide),
                ("eval", apply, {"MODE": "var", **plain}, wide),
                ("train added relu", apply, {"MODE": "invstd", **added}, wide),
                ("", sums, total, False),
                ("relu", sums, {**total, **OWN, "WEIGHT": True}, False),
                ("added relu", sums, {**total, **ADDED}, False),
                ("", gradient, slope, wide),
                ("relu", gradient, {**slope, **OWN}, wide),
                ("frozen added relu", gradient, {**slope, **ADDED, "VAR": True, "TRAIN": False, "STORE": False,
                                                 "FEW": 1}, wide)]
            if form == "planes":
                sorts += [("groups", apply, {"MODE": "invstd", **plain, "GROUPED": True}, wide),
                          ("groups", gradient, {**slope, "STORE": False, "FEW": 1, "GROUPED": True}, wide)]
            if columns:
                sorts += [("rows", sums, {**total, "ROWS": "layer"}, False),
                          ("rms rows", sums, {**total, "ROWS": "rms"}, False)]
            for note, kernel, more, vectored in sorts:
                given = {} if note.startswith(("eval", "frozen")) or "rows" in note else vectors
                taken, aligned = _types(kernel, dtype, **given)
                few = (kernel, form, dtype) in ((sums, "planes", "fp32"), (moments, "channels last", "fp64"))
                yield Case(f"{kernel.name} {note}{' ' if note else ''}{form} {dtype}", kernel, taken,
                           {**constants, **more}, aligned, wide=vectored, spills=4 * few)  # on Triton 3.6
    for kernel, more in ((moments_joined, {**run, "BK": 16, "BR": 64}),
                         (sums_joined, {"STORE": True, "BOTH": True, "TOTALS": False, "BK": 32, "BR": 32}),
                         (group_means, {"WEIGHT": True, "BK": 32, "BR": 32}),
                         (coefficients, {**both, "BK": 512}), (running, {"BK": 512})):
        taken, aligned = _types(kernel, "fp32")
        yield Case(kernel.name, kernel, taken, more, aligned)


def _rows() -> Iterator[Case]:
    for dtype in ("fp32", "bf16", "fp64"):
        block = 1024 if dtype == "fp64" else 2048
        longest = 2048 if dtype == "fp64" else 8192
        for note, fits, bk, br, warps in (("64", True, block // 128, 64, 4), ("1024", True, 1, 1024, 4),
                                          ("long", True, 1, longest, 16 if longest > 4096 else 8),
                                          ("beyond", False, 1, 2 * block, 8)):
            constants = {"ACC": ACC.get(dtype, tl.float32), "WEIGHT": True, "WHOLE": fits,
                         "VECTOR": 16 // ITEM[dtype], "LONG": False, "BK": bk, "BR": br}
            stats = {} if dtype != "fp64" else {"mean": "*fp64", "rstd": "*fp64"}
            for name, rms in (("", False), ("rms ", True)):
                taken, aligned = _types(rows, dtype, **stats)
                yield Case(f"{rows.name} {name}{note} {dtype}", rows, taken,
                           {**constants, "RMS": rms, "BIAS": not rms}, aligned, warps, wide=True)
                taken, aligned = _types(rows_gradient, dtype, parts="*fp64" if dtype == "fp64" else "*fp32", **stats)
                yield Case(f"{rows_gradient.name} {name}{note} {dtype}", rows_gradient, taken,
                           {**constants, "RMS": rms}, aligned, warps, wide=True, spills=0 if fits else 4)
