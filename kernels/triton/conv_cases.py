"""The configurations of convolutions that are shipped, for the machine-code report."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tritium.kernels.runtime.cases import Case
from tritium.kernels.triton import conv3d_kernels
from tritium.kernels.triton import conv_configs as configs
from tritium.kernels.triton import conv_kernels as kernels
from tritium.kernels.triton import matmul_configs as products
from tritium.kernels.triton.matmul_cases import BYTES, MEMORY, SUMS, TABLES
from tritium.kernels.triton.matmul_configs import FLOAT32, FLOAT64, HALF, INTEGER, TF32, Tile


class Kernels(NamedTuple):
    """The kernels of two or three dimensions, and the names of their numbers: in 32 bits, and the steps of images,
    taps, gradients and outputs."""

    library: Any
    words: tuple[str, ...]
    image: tuple[str, ...]
    taps: tuple[str, ...]
    gradient: tuple[str, ...]
    output: tuple[str, ...]


PLANAR = Kernels(
    kernels, ("M", "OH", "OW", "H", "W", "C", "O", "kw", "taps", "sy", "sx", "top", "left", "dy", "dx"),
    ("xn", "xy", "xx"), ("wi", "wj"), ("dn", "dh", "dw"), ("on", "oy", "ox", "rn", "ry", "rx"))
SOLID = Kernels(
    conv3d_kernels,
    ("M", "OD", "OH", "OW", "D", "H", "W", "C", "O", "kh", "kw", "taps", "sz", "sy", "sx", "front", "top", "left", "dz",
     "dy", "dx"),
    ("xn", "xz", "xy", "xx"), ("wl", "wi", "wj"), ("dn", "dd", "dh", "dw"),
    ("on", "oz", "oy", "ox", "rn", "rz", "ry", "rx"))


def cases() -> Iterator[Case]:
    """Every tile of Hopper and the larger ones of the others with padding; the largest also with what follows, and
    without whole vectors."""
    for target, table in TABLES.items():
        for kind in (HALF, TF32, FLOAT32):
            tiles = [t for t in table[kind] if not t.persistent]
            for tile in tiles if target == "sm_90" else tiles[:3]:
                if kind != TF32 or not products.full(tile):
                    yield implicit(target, kind, tile)
                if not products.full(tile):
                    yield wgrad(target, kind, tile)
            medium = next(t for t in tiles if not products.full(t))
            yield implicit(target, kind, medium, residual=True)
            yield implicit(target, kind, medium if kind == TF32 else tiles[0], folded=True)
            yield implicit(target, kind, medium if kind == TF32 else tiles[0], pad=False)
            yield implicit(target, kind, medium, flat=True)
            yield wgrad(target, kind, medium, flat=True)
        yield implicit(target, HALF, next(t for t in table[HALF] if not products.full(t)), memory="fp16", even=False)
        yield implicit(target, FLOAT64, table[FLOAT64][-1])
        yield wgrad(target, FLOAT64, table[FLOAT64][-1])
        yield implicit(target, INTEGER, table[INTEGER][-1], flat=True)
        yield wgrad(target, INTEGER, table[INTEGER][-1], flat=True)
    for memory in ("bf16", "fp32"):
        for one in (True, False):
            yield direct(memory, one)
            yield direct_wgrad(memory, one)
        yield combine(memory)
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


def implicit(target: str, kind: str, tile: Tile, memory: str = "", residual: bool = False, pad: bool = True,
              flat: bool = False, even: bool = True, of: Kernels = PLANAR, folded: bool = False) -> Case:
    memory = memory or MEMORY[kind]
    unit = 16 // BYTES[memory]
    ux = 1 if flat else unit
    tile = configs.suited(kind, tile, target == "sm_80")
    if flat:
        tile = products.narrow(tile, 16)
    if of is SOLID:
        tile = configs.solid(kind, tile, flat)
    pointers = ("x", "w", "scale", "bias", "residual", "out")
    return Case(
        _name(target, kind, memory, tile, residual=residual, inside=not pad, flat=flat, ragged=not even, folded=folded),
        of.library.implicit,
        {**dict.fromkeys(pointers, "*" + memory), **dict.fromkeys(pointers[2:4] if folded else (), "*fp32"),
         **dict.fromkeys((*of.words, "blocks"), "i32"),
         **dict.fromkeys((*of.image, "wg", "wn", *of.taps, *of.output, "part"), "i64")},
        {**_shared(kind, tile), "xc": 1, "wc": 1, "rc": 1, "FLAT": flat, "PAD": pad,
         "EVEN": even and not flat, "UX": ux, "UW": ux, "UO": unit, "UR": unit, "UC": ux, "UN": unit,
         **dict.fromkeys(("SCALE", "BIAS"), residual or folded), "RESIDUAL": residual,
         "ACT": kernels.relu if residual or folded else kernels.none},
        pointers, tile.warps, tile.stages, wide=tile.m * tile.n >= 4096 and target != "gfx942" and not flat,
        mma=_matrix(target, kind, tile), targets=(target,), spills=4 if folded else 0)


def wgrad(target: str, kind: str, tile: Tile, flat: bool = False, of: Kernels = PLANAR) -> Case:
    memory = MEMORY[kind]
    unit = 16 // BYTES[memory]
    ux = 1 if flat else unit
    if flat:
        tile = configs.gathered(BYTES[memory], products.narrow(tile, 16) if kind == HALF else tile)
    if of is SOLID:
        tile = configs.solid(kind, tile, False)
    return Case(
        _name(target, kind, memory, tile, flat=flat), of.library.wgrad,
        {"x": "*" + memory, "d": "*" + memory, "out": "*i64" if kind == INTEGER else "*fp64" if kind == FLOAT64 else
         "*fp32", **dict.fromkeys((*of.words, "blocks"), "i32"),
         **dict.fromkeys((*of.image, *of.gradient, "ot", "oc", "part"), "i64")},
        {**_shared(kind, tile), "xc": 1, "dc": 1, "FLAT": flat, "PAD": True, "UX": ux, "UD": unit, "UC": ux,
         "UN": unit},
        ("x", "d", "out"), tile.warps, tile.stages, mma=_matrix(target, kind, tile), targets=(target,))


def direct(memory: str, one: bool, of: Kernels = PLANAR) -> Case:
    unit = 16 // BYTES[memory]
    pointers = ("x", "w", "scale", "bias", "residual", "out")
    return Case(
        f"{memory} {'one channel' if one else 'few channels'}", of.library.direct,
        {**dict.fromkeys(pointers, "*" + memory), **dict.fromkeys((*of.words, "per"), "i32"),
         **dict.fromkeys((*of.image, *of.taps, *of.output), "i64")},
        {"BM": 32, "BN": 64, "xc": 1, "rc": 1, "UX": unit, "UW": unit, "UO": unit, "UR": 1, "UN": unit, "ONE": one,
         "SCALE": False, "BIAS": True, "RESIDUAL": False, "ACT": kernels.none, "ACC": SUMS[HALF], "WIDE": False},
        pointers, wide=one)


def direct_wgrad(memory: str, one: bool, of: Kernels = PLANAR) -> Case:
    unit = 16 // BYTES[memory]
    return Case(
        f"{memory} {'one channel' if one else 'few channels'}", of.library.direct_wgrad,
        {"x": "*" + memory, "d": "*" + memory, "out": "*fp32",
         **dict.fromkeys((*of.words, "per", "blocks"), "i32"),
         **dict.fromkeys((*of.image, *of.gradient, "part"), "i64")},
        {"BN": 64, "BK": 32, "xc": 1, "dc": 1, "UX": unit, "UD": unit, "UN": unit, "ONE": one, "ACC": SUMS[HALF],
         "WIDE": False}, ("x", "d", "out"))


def combine(memory: str, of: Kernels = PLANAR) -> Case:
    pointers = dict.fromkeys(("scale", "bias"), "*fp32") | dict.fromkeys(("residual", "out"), "*" + memory)
    sizes = [w for w in of.words if w in ("M", "O", "OD", "OH", "OW")]
    return Case(
        memory, of.library.combine, {
            "partial": "*fp32", **pointers, "parts": "i32", **dict.fromkeys((*sizes, *of.output, "rc"), "i64")},
        {"BLOCK": 1024, "UN": 4, "SCALE": True, "BIAS": True, "RESIDUAL": True, "ACT": kernels.relu},
        ("partial", *pointers))
