"""The configurations of attention that are shipped, for the machine-code report."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton.language as tl

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import attention_configs as configs
from tritium.kernels.triton import attention_kernels as kernels
from tritium.kernels.triton.attention_configs import FLOAT32, FLOAT64, FORWARD, HALF, KEYS, MASK, QUERIES, TF32, VALUES

MEMORY = {HALF: "bf16", TF32: "fp32", FLOAT32: "fp32", FLOAT64: "fp64"}
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}
KERNELS = {FORWARD: kernels.forward, KEYS: kernels.keys_gradient, VALUES: kernels.keys_gradient,
           QUERIES: kernels.queries_gradient, MASK: kernels.mask_gradient}
FLOAT = ("scale", "gain")
SHORT = ("heads", "group", "L", "S", "E", "EV", "repeats", "matrix_step", "head_step")
ARRAYS = ("q", "k", "v", "mask", "out", "g", "logsumexp", "delta", "dk", "dv", "dq", "dm")


def cases() -> Iterator[Case]:
    """Of every kernel: each head dimension in bfloat16, with causality, and with all that takes registers (a mask,
    dropout, ragged ends); the other kinds of arithmetic at 128, with a few extremes."""
    for target, table in configs.TABLES.items():
        for which in (FORWARD, KEYS, VALUES, QUERIES, MASK):
            for width in (64, 128, 256):
                yield from _pair(target, table, which, HALF, width)
            for kind in (TF32, FLOAT32, FLOAT64):
                if kind != TF32 or target != "gfx942":
                    yield from _pair(target, table, which, kind, 64 if target == "gfx942" else 128)
        yield _case(target, table, FORWARD, HALF, 128, True, memory="fp16")
    for memory in ("bf16", "fp32", "fp64"):
        yield Case(f"{memory} 64", kernels.row_sums, {
            **dict.fromkeys(("g", "out"), "*" + memory), "delta": "*fp64" if memory == "fp64" else "*fp32",
            **dict.fromkeys(("heads", "L", "EV"), "i32"),
            **dict.fromkeys(("gb", "gh", "gl", "ob", "oh", "ol"), "i64")},
            {"BM": 64, "BV": 64, "UNIT": 16 // BYTES[memory], "FULL": True, "EVEN_L": True,
             "ACC": tl.float64 if memory == "fp64" else tl.float32}, ("g", "out", "delta"))


def _pair(target: str, table: Any, which: str, kind: str, width: int) -> Iterator[Case]:
    """Without and with a mask and dropout."""
    for plain in (True, False):
        if which == VALUES and configs.pick(table, KEYS, kind, width, plain).both or which == MASK and plain:
            continue
        yield _case(target, table, which, kind, width, plain)


def _case(target: str, table: Any, which: str, kind: str, width: int, plain: bool, memory: str = "") -> Case:
    tile = configs.pick(table, which, kind, width, plain)
    memory = memory or MEMORY[kind]
    kernel, unit = KERNELS[which], 16 // BYTES[memory]
    sums = "fp64" if memory == "fp64" else "fp32"
    types = {name: "fp64" if name in FLOAT else "i32" if name in SHORT else "i64" for name in kernel.parameters}
    types |= {name: "*" + memory for name in ARRAYS if name in types}
    types |= {name: "*" + sums for name in ("logsumexp", "delta", "dm") if name in types}
    del types["mask_step"]
    constants = {"mask_step": 1, "BM": tile.m, "BN": tile.n, "BE": width, "BV": width, "UNIT": unit,
                 "MUNIT": unit if plain else 1, "MASK": "" if plain else "add", "DROP": not plain, "CAUSAL": plain,
                 "KEYS": which == KEYS, "VALUES": which == VALUES or tile.both, "FULL": True, "EVEN_L": plain,
                 "EVEN_S": plain, "FOLD": True, "ACC": tl.float64 if sums == "fp64" else tl.float32,
                 "PRECISION": "tf32" if kind == TF32 else "ieee"}
    constants = {name: value for name, value in constants.items()
                 if name in kernel.constants or name == "mask_step"}
    words = [target, which, kind, memory, str(width), "causal" if plain else "mask dropout ragged"]
    return Case(" ".join(words), kernel, types, constants, tuple(name for name in ARRAYS if name in types),
                tile.warps, tile.stages, wide=plain and target != "gfx942", mma=_matrix(target, kind, tile, which),
                targets=(target,))


def _matrix(target: str, kind: str, tile: Any, which: str) -> str | bool:
    """The matrix instructions that a tile is multiplied by: on Hopper a warp group's, which take 64 rows at least."""
    if kind == FLOAT32 or target == "gfx942" and kind != HALF:
        return False
    if target == "gfx942":
        return "MFMA"
    if kind == FLOAT64:
        return "DMMA"
    rows = tile.n if which in (KEYS, VALUES) else tile.m
    return "HGMMA" if target == "sm_90" and rows >= 64 else "HMMA"
