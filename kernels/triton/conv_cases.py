"""The configurations of convolutions that are shipped, for the machine-code report."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import conv_configs as configs
from tritium.kernels.triton import conv_kernels as kernels
from tritium.kernels.triton import matmul_configs as products
from tritium.kernels.triton.matmul_cases import BYTES, MEMORY, SUMS, TABLES
from tritium.kernels.triton.matmul_configs import FLOAT32, FLOAT64, HALF, INTEGER, TF32, Tile

WORDS = ("M", "OH", "OW", "H", "W", "C", "O", "kw", "taps", "sy", "sx", "top", "left", "dy", "dx", "blocks")
LONG = ("xn", "xy", "xx", "part")
OUTPUT = ("on", "oy", "ox", "rn", "ry", "rx")


def cases() -> Iterator[Case]:
    """Every tile of Hopper and the larger ones of the others with padding; the largest also with what follows, and
    without whole vectors."""
    for target, table in TABLES.items():
        for kind in (HALF, TF32, FLOAT32):
            tiles = [t for t in table[kind] if not t.persistent]
            for tile in tiles if target == "sm_90" else tiles[:3]:
                if kind != TF32 or not products.full(tile):
                    yield _implicit(target, kind, tile)
                if not products.full(tile):
                    yield _wgrad(target, kind, tile)
            medium = next(t for t in tiles if not products.full(t))
            yield _implicit(target, kind, medium, residual=True)
            yield _implicit(target, kind, medium if kind == TF32 else tiles[0], pad=False)
            yield _implicit(target, kind, medium, flat=True)
            yield _wgrad(target, kind, medium, flat=True)
        yield _implicit(target, HALF, next(t for t in table[HALF] if not products.full(t)), memory="fp16", even=False)
        yield _implicit(target, FLOAT64, table[FLOAT64][-1])
        yield _wgrad(target, FLOAT64, table[FLOAT64][-1])
        yield _implicit(target, INTEGER, table[INTEGER][-1], flat=True)
        yield _wgrad(target, INTEGER, table[INTEGER][-1], flat=True)
    for memory in ("bf16", "fp32"):
        for one in (True, False):
            yield _direct(memory, one)
            yield _direct_wgrad(memory, one)
        pointers = dict.fromkeys(("scale", "bias"), "*fp32") | dict.fromkeys(("residual", "out"), "*" + memory)
        yield Case(memory, kernels.combine, {
            "partial": "*fp32", **pointers, "parts": "i32",
            **dict.fromkeys(("M", "O", "OH", "OW", *OUTPUT, "rc"), "i64")},
            {"BLOCK": 1024, "UN": 4, "SCALE": True, "BIAS": True, "RESIDUAL": True, "ACT": kernels.relu},
            ("partial", *pointers))
        yield Case(memory, kernels.combine_weight, {
            "partial": "*fp32", "out": "*" + memory, "total": "i64", "C": "i64", "taps": "i64", "parts": "i32"},
            {"BLOCK": 1024}, ("partial", "out"))
        vectors = ("mean", "var", "weight", "shift", "bias", "scale", "out")
        yield Case(memory, kernels.fold, {
            **dict.fromkeys(vectors[:5], "*" + memory), "scale": "*fp32", "out": "*fp32", "O": "i64", "eps": "fp64"},
            {"WEIGHT": True, "SHIFT": True, "BIAS": True, "BLOCK": 128}, vectors)


def _name(target: str, kind: str, memory: str, tile: Tile, **flags: bool) -> str:
    return " ".join([target, kind, memory, f"{tile.m}x{tile.n}x{tile.k}", *[k for k, v in flags.items() if v]])


def _matrix(target: str, kind: str, tile: Tile) -> bool:
    """Whether a tile is multiplied by matrix instructions: on Hopper those of a warp group take 64 rows at least."""
    return kind in (HALF, TF32) and (target != "sm_90" or tile.m >= 64)


def _shared(kind: str, tile: Tile) -> dict[str, Any]:
    multiplied = "sum" if kind == INTEGER else "tf32" if kind == TF32 else "ieee"
    return {"BM": tile.m, "BN": tile.n, "BK": tile.k, "GROUP": 8, "ACC": SUMS[kind], "PRECISION": multiplied,
            "WIDE": False}


def _implicit(target: str, kind: str, tile: Tile, memory: str = "", residual: bool = False, pad: bool = True,
              flat: bool = False, even: bool = True) -> Case:
    memory = memory or MEMORY[kind]
    unit = 16 // BYTES[memory]
    ux = 1 if flat else unit
    tile = configs.suited(kind, tile, target == "sm_80")
    if flat:
        tile = products.narrow(tile, 16)
    pointers = ("x", "w", "scale", "bias", "residual", "out")
    return Case(
        _name(target, kind, memory, tile, residual=residual, inside=not pad, flat=flat, ragged=not even),
        kernels.implicit,
        {**dict.fromkeys(pointers, "*" + memory), **dict.fromkeys(WORDS, "i32"),
         **dict.fromkeys((*LONG, "wg", "wn", "wi", "wj", *OUTPUT), "i64")},
        {**_shared(kind, tile), "xc": 1, "wc": 1, "rc": 1, "FLAT": flat, "PAD": pad,
         "EVEN": even and not flat, "UX": ux, "UW": ux, "UO": unit, "UR": unit, "UC": ux, "UN": unit,
         **dict.fromkeys(("SCALE", "BIAS", "RESIDUAL"), residual), "ACT": kernels.relu if residual else kernels.none},
        pointers, tile.warps, tile.stages, wide=tile.m * tile.n >= 4096 and target != "gfx942" and not flat,
        mma=_matrix(target, kind, tile), targets=(target,))


def _wgrad(target: str, kind: str, tile: Tile, flat: bool = False) -> Case:
    memory = MEMORY[kind]
    unit = 16 // BYTES[memory]
    ux = 1 if flat else unit
    if flat:
        tile = configs.gathered(BYTES[memory], products.narrow(tile, 16) if kind == HALF else tile)
    return Case(
        _name(target, kind, memory, tile, flat=flat), kernels.wgrad,
        {"x": "*" + memory, "d": "*" + memory, "out": "*i64" if kind == INTEGER else "*fp64" if kind == FLOAT64 else
         "*fp32", **dict.fromkeys(WORDS, "i32"), **dict.fromkeys((*LONG, "dn", "dh", "dw", "ot", "oc"), "i64")},
        {**_shared(kind, tile), "xc": 1, "dc": 1, "FLAT": flat, "PAD": True, "UX": ux, "UD": unit, "UC": ux,
         "UN": unit},
        ("x", "d", "out"), tile.warps, tile.stages, mma=_matrix(target, kind, tile), targets=(target,))


def _direct(memory: str, one: bool) -> Case:
    unit = 16 // BYTES[memory]
    pointers = ("x", "w", "scale", "bias", "residual", "out")
    words = [w for w in WORDS if w != "blocks"]
    return Case(
        f"{memory} {'one channel' if one else 'few channels'}", kernels.direct,
        {**dict.fromkeys(pointers, "*" + memory), **dict.fromkeys((*words, "per"), "i32"),
         **dict.fromkeys(("xn", "xy", "xx", "wi", "wj", *OUTPUT), "i64")},
        {"BM": 32, "BN": 64, "xc": 1, "rc": 1, "UX": unit, "UW": unit, "UO": unit, "UR": 1, "UN": unit, "ONE": one,
         "SCALE": False, "BIAS": True, "RESIDUAL": False, "ACT": kernels.none, "ACC": SUMS[HALF], "WIDE": False},
        pointers, wide=one)


def _direct_wgrad(memory: str, one: bool) -> Case:
    unit = 16 // BYTES[memory]
    return Case(
        f"{memory} {'one channel' if one else 'few channels'}", kernels.direct_wgrad,
        {"x": "*" + memory, "d": "*" + memory, "out": "*fp32", **dict.fromkeys((*WORDS, "per"), "i32"),
         **dict.fromkeys((*LONG, "dn", "dh", "dw"), "i64")},
        {"BN": 64, "BK": 32, "xc": 1, "dc": 1, "UX": unit, "UD": unit, "UN": unit, "ONE": one, "ACC": SUMS[HALF],
         "WIDE": False}, ("x", "d", "out"))
