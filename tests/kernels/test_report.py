"""The machine-code report: its judgement on doctored figures, and the shipped kernels held to the committed table."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritium.kernels import report
from tritium.kernels.report import Figures, broken_rules, complaints, figures_of_sass, occupancy, split, stale, worse
from tritium.kernels.runtime.cases import Case

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")

GOOD = Figures(registers=40, spills=0, shared=1024, instructions=300, occupancy=0.75, loads={"128": 4, "32": 1},
               stores={"128": 2}, matrix={"HGMMA": 4})
CASE = Case("good", SimpleNamespace(name="f.g"), {}, wide=True, mma=True)
BOUNDS = {"sm_90": {"f.g: good": {"3.6.0": {"registers": 40, "instructions": 300, "shared": 1024},
                                  "3.9.0": {"registers": 32, "instructions": 310, "shared": 0}}}}


def judged(figures: Any, case: Case = CASE, target: str = "sm_90", bounds: Any = BOUNDS) -> list[str]:
    return complaints([("f.g: good", target, figures)], {"f.g: good": ("f", case)}, bounds)


def test_good_figures_pass() -> None:
    assert judged(GOOD) == []
    assert judged(replace(GOOD, registers=48, instructions=341, shared=1126)) == []
    assert judged(replace(GOOD, loads={"TMA": 1})) == []


@pytest.mark.parametrize(("change", "words"), [
    ({"registers": 49}, "registers 49, at most 48"),
    ({"instructions": 342}, "instructions 342, at most 341"),
    ({"shared": 1127}, "shared 1127, at most 1126"),
    ({"spills": 1}, "1 spills"),
    ({"loads": {"64": 9, "32": 4}}, "no 128-bit loads: 4x32 9x64"),
    ({"stores": {"16": 16}}, "no 128-bit stores: 16x16"),
    ({"matrix": {}}, "no HGMMA or IGMMA or QGMMA or DMMA: no matrix instructions"),
    ({"matrix": {"HMMA": 64}}, "no HGMMA or IGMMA or QGMMA or DMMA: 64xHMMA"),
])
def test_bad_figures_do_not(change: dict[str, Any], words: str) -> None:
    wrong = judged(replace(GOOD, **change))
    assert len(wrong) == 1 and wrong[0].startswith("f.g: good, sm_90: ") and words in wrong[0]


def test_what_is_not_asked_for_is_not_missed() -> None:
    assert broken_rules(replace(CASE, mma=False), "gfx942", replace(GOOD, loads={"64": 4}, stores={"64": 4})) == []
    plain = replace(CASE, wide=False, mma=False)
    assert judged(replace(GOOD, loads={"16": 9}, stores={"16": 9}, matrix={}), plain) == []
    assert judged(replace(GOOD, stores={"32": 1}, loads={})) == [], "the result of a sum is one number"


def test_matrix_instructions_of_each_target() -> None:
    for target, name in (("sm_80", "HMMA"), ("sm_90", "HGMMA"), ("gfx942", "MFMA")):
        assert broken_rules(CASE, target, replace(GOOD, matrix={name: 4})) == []
        assert broken_rules(CASE, target, replace(GOOD, matrix={"FFMA": 4})) != []
    named = replace(CASE, mma="HGMMA")
    assert broken_rules(named, "sm_90", GOOD) == []
    assert broken_rules(named, "sm_90", replace(GOOD, matrix={"DMMA": 4})) == ["no HGMMA: 4xDMMA"]


def test_missing_failed_and_stale_entries() -> None:
    assert "not in bounds.json" in judged(GOOD, bounds={})[0]
    assert "not in bounds.json" in judged(GOOD, target="sm_80")[-1]
    assert judged("RuntimeError: no") == ["f.g: good, sm_90: RuntimeError: no"]
    assert stale(["f.g: good"], BOUNDS) == []
    assert stale([], BOUNDS) == ["f.g: good, sm_90: in bounds.json, but there is no such case"]
    assert worse(GOOD, {"3.7.1": {"registers": 10, "instructions": 10, "shared": 0}}) != []


def test_the_table_is_written_as_it_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(report, "BOUNDS", tmp_path / "bounds.json")
    assert report.load_bounds() == {}
    results = [("a", "sm_90", GOOD), ("a", "sm_80", replace(GOOD, registers=50)), ("b", "sm_90", "did not compile")]
    report.save_bounds({}, results, ["a", "b"], "3.9.0")
    report.save_bounds(report.load_bounds(), results[:1], ["a", "b"], "3.6.0")
    entry = {"registers": 40, "instructions": 300, "shared": 1024}
    assert report.load_bounds() == {"sm_80": {"a": {"3.9.0": {**entry, "registers": 50}}},
                                    "sm_90": {"a": {"3.6.0": entry, "3.9.0": entry}}}
    report.save_bounds(report.load_bounds(), [], ["b"], "3.9.0")
    assert report.load_bounds() == {"sm_80": {}, "sm_90": {}}


SASS = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/               @P1 LDG.E.U16 R4, desc[UR4][R2.64] ;
        /*0030*/                   LDG.E R4, desc[UR4][R2.64] ;
        /*0040*/                   LDGSTS.E.BYPASS.128 [R43], desc[UR14][R12.64], P3 ;
        /*0050*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0060*/                   STG.E.64 desc[UR4][R6.64], R4 ;
        /*0070*/                   STL [R1], R4 ;
        /*0080*/              @UP0 LDL.LU R4, [R1] ;
        /*0090*/                   UTMALDG.2D [UR8], [UR4] ;
        /*00a0*/                   EXIT ;
        /*00b0*/                   BRA 0xb0;
        /*00c0*/                   NOP;
"""


def test_reading_nvidia_code() -> None:
    f = figures_of_sass(SASS, 40, 2048, 4, "sm_90")
    assert f == Figures(40, 2, 2048, 11, 0.75, {"128": 2, "16": 1, "32": 1, "TMA": 1}, {"64": 1}, {"HGMMA": 1})


def test_arrays_in_local_memory_are_no_spills() -> None:
    assert figures_of_sass(SASS, 40, 2048, 4, "sm_90", arrays=True).spills == 2, "LDL.LU is a spill"
    plain = SASS.replace("LDL.LU", "LDL")
    assert figures_of_sass(plain, 40, 2048, 4, "sm_90", arrays=True).spills == 0
    assert figures_of_sass(plain, 40, 2048, 4, "sm_90").spills == 2


def test_code_of_several_kernels_is_told_apart() -> None:
    lines = SASS.splitlines()
    parts = split(SASS, [0x40, 0x30, 0x60])
    assert [len(p.splitlines()) for p in parts] == [4, 3, 6]
    assert "\n".join(parts).splitlines() == [line for line in lines if line.strip()]
    assert figures_of_sass(parts[1], 32, 0, 4, "sm_90").matrix == {"HGMMA": 1}


def test_reading_amd_code() -> None:
    text = ("f:\n\ts_load_dwordx4 s[0:3], s[4:5], 0x0\n\tglobal_load_dwordx4 v[0:3], v1, s[0:1]\n"
            "\tbuffer_load_ushort v1, v2\n\tv_mfma_f32_32x32x8_bf16 a[0:15], v[0:1], v[2:3], 0\n"
            "\tglobal_store_dwordx2 v1, v[2:3], s[0:1]\n\ts_endpgm\n"
            "    .sgpr_spill_count: 1\n    .vgpr_count:     128\n    .vgpr_spill_count: 2\n")
    f = report.read_amd(SimpleNamespace(text=text, shared=16384, num_warps=4))
    assert f == Figures(128, 2, 16384, 6, 0.5, {"128": 1, "16": 1}, {"64": 1}, {"MFMA": 1})


@pytest.mark.parametrize(("registers", "shared", "num_warps", "target", "part"), [
    (30, 32, 8, "sm_90", 1.0), (48, 32, 8, "sm_90", 0.625), (122, 98304, 8, "sm_90", 0.25), (255, 147456, 4, "sm_90", 0.0625),
    (168, 65536, 8, "sm_80", 0.125), (16, 0, 1, "sm_90", 0.5)])
def test_occupancy(registers: int, shared: int, num_warps: int, target: str, part: float) -> None:
    assert occupancy(registers, shared, num_warps, target) == part


def test_the_table_is_printed_in_columns() -> None:
    lines = report.table([report.row("a", "sm_90", GOOD), report.row("longer name", "gfx942", GOOD)]).splitlines()
    assert len(lines) == 3 and lines[1].index("40") == lines[2].index("40")
    assert "1x32 4x128" in lines[1] and "75%" in lines[1]


# --- the shipped kernels ---


def command(*arguments: str, code: str = "from tritium.probe.cli import main; sys.exit(main(sys.argv[1:]))") -> Any:
    """``tritium kernels``, in a process where kernels are compiled."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run([sys.executable, "-c", f"import sys; {code}", *arguments], capture_output=True, text=True,
                          env=env)


@needs_triton
def test_shipped_kernels() -> None:
    """No spills, wide accesses, tensor-core instructions, code that is no worse than it was; no kernel without a case."""
    done = command("kernels", "--check", "--target", "sm_90")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
def test_the_check_fails_for_a_lower_bound(tmp_path: Path) -> None:
    bounds = report.load_bounds()
    for entry in bounds["sm_90"].values():
        for version in entry.values():
            version["instructions"] = 1
    (tmp_path / "bounds.json").write_text(json.dumps(bounds))
    done = command(code=f"from pathlib import Path; from tritium.kernels import report; "
                        f"report.BOUNDS = Path({str(tmp_path / 'bounds.json')!r}); "
                        "sys.exit(report.run(['sm_90'], ['fill'], None, True, False))")
    assert done.returncode == 1 and "instructions" in done.stdout and "at most 9 were expected" in done.stdout, done


@needs_triton
def test_figures_as_json(tmp_path: Path) -> None:
    done = command("kernels", "--family", "fill", "--target", "sm_90", "gfx942", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    assert {f["target"] for f in found["figures"]} == {"sm_90", "gfx942"}
    assert all(f["registers"] > 0 and f["instructions"] > 10 and f["spills"] == 0 for f in found["figures"])
    assert done.stdout.splitlines()[0].split()[:3] == ["kernel:", "case", "target"]


def test_what_the_command_refuses() -> None:
    done = command("kernels", "--family", "nonsense", "--target", "sm_90")
    assert done.returncode == 2 and "no cases of nonsense" in done.stderr and len(done.stderr.splitlines()) == 1
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-m", "tritium", "kernels"], capture_output=True, text=True, env=env)
    assert done.returncode == 2 and "TRITON_INTERPRET is set" in done.stderr
