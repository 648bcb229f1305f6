"""The configurations of products that are shipped, for the machine-code report."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton.language as tl

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import matmul_configs as configs
from tritium.kernels.triton import matmul_kernels as kernels
from tritium.kernels.triton.matmul_configs import FLOAT32, FLOAT64, HALF, INT8, INTEGER, TF32, Tile

TABLES = {"sm_90": configs.HOPPER, "sm_80": configs.AMPERE, "gfx942": configs.AMD}
MEMORY = {HALF: "bf16", TF32: "fp32", FLOAT32: "fp32", FLOAT64: "fp64", INT8: "i8", INTEGER: "i64"}
SUMS = {HALF: tl.float32, TF32: tl.float32, FLOAT32: tl.float32, FLOAT64: tl.float64, INT8: tl.int32, INTEGER: tl.int64}
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "i8": 1, "i64": 8}
POINTERS = ("a", "b", "c", "out")
LAYOUTS = {"NN": (True, True), "NT": (True, False), "TN": (False, True)}  # as BLAS names them: T for by columns


def cases() -> Iterator[Case]:
    """Every tile that Hopper's matrix instructions work on, the largest of the other kinds and targets; the largest
    ones in all layouts, with ragged edges and with epilogues."""
    for target, table in TABLES.items():
        hopper = target == "sm_90"
        for kind, tiles in table.items():
            matrix = kind in (HALF, TF32)
            largest = next(t for t in tiles if not t.persistent)
            for tile in tiles:
                if tile is largest or hopper and (matrix or tile is tiles[-1]):
                    make = _persistent if tile.persistent else _gemm
                    for layout in LAYOUTS if hopper and matrix and (tile is largest or tile.persistent) else ("NT",):
                        yield make(target, kind, tile, layout)
                if tile.persistent and kind == HALF:
                    yield _persistent(target, kind, tile, "NT", even=False, add="row", act=kernels.gelu)
            if matrix or kind == FLOAT32:
                yield _gemm(target, kind, largest, "NT", even=False)
        largest = next(t for t in table[HALF] if not t.persistent)
        yield _gemm(target, HALF, largest, "NN", add="matrix")
        yield _gemm(target, HALF, largest, "NT", even=False, add="row", act=kernels.silu, memory="fp16")
        smaller = next(t for t in table[HALF] if not t.persistent and not configs.full(t))
        yield _gemm(target, HALF, smaller, "NT", even=False, add="row", act=kernels.gelu)
    for memory, rows in (("bf16", True), ("bf16", False), ("fp32", True), ("fp32", False), ("fp64", True),
                         ("i64", False)):
        yield _gemv(memory, rows)
    for add in (False, True):
        yield Case(f"combine bf16{' add' * add}", kernels.combine, {
            "partial": "*fp32", "c": "*bf16", "out": "*bf16", "parts": "i32",
            **dict.fromkeys(("total", "M", "N", "cm", "cn", "c_batch", "alpha", "beta"), "i64")},
            {"BLOCK": 1024, "UNIT": 4, "ADD": add, "SCALE": False, "ACT": kernels.none}, ("partial", "c", "out"))


def _name(target: str, kind: str, tile: Tile, layout: str, memory: str, even: bool, add: str, act: Any) -> str:
    words = [target, kind, memory, f"{tile.m}x{tile.n}x{tile.k}", layout, "" if even else "ragged", add,
             "" if act is kernels.none else act.__name__]
    return " ".join(filter(None, words))


def _matrix_instructions(target: str, kind: str, tile: Tile) -> str | bool:
    """Those that a tile is multiplied by: on Hopper a warp group's, which take 64 rows at least."""
    if kind in (FLOAT32, INTEGER) or kind == FLOAT64 and target == "gfx942":
        return False
    if target == "gfx942":
        return "MFMA"
    group = "G" if target == "sm_90" and tile.m >= 64 else ""
    return {HALF: f"H{group}MMA", TF32: f"H{group}MMA", INT8: f"I{group}MMA", FLOAT64: "DMMA"}[kind]


def _gemm(target: str, kind: str, tile: Tile, layout: str, even: bool = True, add: str = "", act: Any = kernels.none,
          memory: str = "") -> Case:
    memory = memory or MEMORY[kind]
    unit = 16 // BYTES[memory]
    a_rows, b_rows = LAYOUTS[layout]
    # Hopper's TF32 operands are transposed word by word on their way to shared memory; AMD's stores have 64 bits
    narrow = target == "gfx942" or kind == INTEGER or target == "sm_90" and kind == TF32 and layout == "TN"
    return Case(_name(target, kind, tile, layout, memory, even, add, act), kernels.gemm, {
        **dict.fromkeys(POINTERS, "*" + memory), "M": "i32", "N": "i32", "K": "i32", "blocks": "i32",
        **dict.fromkeys(("lda", "ldb", "cm", "cn", "a_batch", "b_batch", "c_batch", "parts", "alpha", "beta"), "i64")},
        {"BM": tile.m, "BN": tile.n, "BK": tile.k, "GROUP": 8, "A_ROWS": a_rows, "B_ROWS": b_rows, "UA": unit,
         "UB": unit, "UM": 1 if a_rows else unit, "UN": unit, "UK": unit, "UC": unit, "EVEN_MN": even, "EVEN_K": even,
         "ADD": add, "SCALE": False, "ACT": act, "ACC": SUMS[kind],
         "PRECISION": "sum" if kind == INTEGER else "tf32" if kind == TF32 else "ieee", "WIDE": False},
        POINTERS, tile.warps, tile.stages, wide=tile.m * tile.n >= 4096 and not narrow,
        mma=_matrix_instructions(target, kind, tile), targets=(target,))


def _persistent(target: str, kind: str, tile: Tile, layout: str, even: bool = True, add: str = "",
                act: Any = kernels.none) -> Case:
    memory = MEMORY[kind]
    unit = 16 // BYTES[memory]
    a_rows, b_rows = LAYOUTS[layout]
    return Case(_name(target, kind, tile, layout, memory, even, add, act), kernels.gemm_persistent, {
        **dict.fromkeys(POINTERS, "*" + memory), "M": "i32", "N": "i32", "K": "i32",
        **dict.fromkeys(("lda", "ldb", "alpha", "beta"), "i64")},
        {"BM": tile.m, "BN": tile.n, "BK": tile.k, "GROUP": 8, "A_ROWS": a_rows, "B_ROWS": b_rows, "UA": unit,
         "UB": unit, "UN": unit, "ADD": add, "SCALE": False, "ACT": act,
         "PRECISION": "tf32" if kind == TF32 else "ieee"},
        POINTERS, tile.warps, tile.stages, wide=True, mma=_matrix_instructions(target, kind, tile), targets=(target,))


def _gemv(memory: str, rows: bool) -> Case:
    unit = 16 // BYTES[memory]
    BR, BK, _ = configs.choose_vector(rows, BYTES[memory], 1 << 14, 1 << 14, 1, 132, False)
    acc = {"fp64": tl.float64, "i64": tl.int64}.get(memory, tl.float32)
    numbers = ("R", "K", "lda", "a_batch", "c_batch", "c_step", "parts", "blocks", "alpha", "beta")
    return Case(f"{memory} {'rows' if rows else 'columns'}", kernels.gemv, {
        **dict.fromkeys(("a", "x", "c", "out"), "*" + memory), **dict.fromkeys(numbers, "i64"), "x_batch": "i32"},
        {"x_step": 1, "BR": BR, "BK": BK, "ROWS": rows, "UA": unit, "UR": 1 if rows else unit,
         "UK": unit if rows else 1, "EVEN": True, "ADD": True, "SCALE": False, "ACT": kernels.none, "ACC": acc},
        ("a", "x", "c", "out", "x_batch"))
