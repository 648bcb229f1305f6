"""What the machine code of the kernels looks like: ``tritium kernels``.

Every shipped configuration (``cases()`` of the families in ``kernels/triton``) is compiled for the targets, without a
GPU, and read: registers, spills, shared memory, widths of global loads and stores, matrix instructions, occupancy.
NVIDIA code is read with the disassembler that comes with Triton, AMD code from its assembly.

``bounds.json`` holds the figures of earlier versions, one entry for each version of Triton; code that is worse than the
worst of them by more than ``SLACK``, or that breaks a rule, is a complaint. The rules: no spills; 128-bit loads and
stores where a case says ``wide`` (NVIDIA only); matrix instructions where it says ``mma``, of the kind that it names
(on sm_90, if it names none, those of a whole warp group, or those for float64).
"""
from __future__ import annotations

import bisect
import importlib
import inspect
import itertools
import json
import multiprocessing
import os
import pkgutil
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tritium.kernels.runtime.cases import Case

TARGETS = ("sm_80", "sm_90", "gfx942")
BOUNDS = Path(__file__).with_name("bounds.json")
BOUNDED = ("registers", "instructions", "shared")
SLACK = 0.1
FORMAT = 4  # of cached figures
BATCH = 16  # kernels that a process reads at once
MATRIX = {"sm_80": "HMMA IMMA DMMA", "sm_90": "HGMMA IGMMA QGMMA DMMA", "gfx942": "MFMA"}
# registers of a multiprocessor, its shared memory, the warps it holds, the blocks it holds
LIMITS = {"sm_80": (65536, 167936, 64, 32), "sm_90": (65536, 233472, 64, 32)}


@dataclass
class Figures:
    """Of one kernel. ``loads``, ``stores``: how many instructions of each width in bits; ``matrix``: how many of each
    kind; ``shared``: bytes; ``spills``: instructions (NVIDIA) or vector registers (AMD, where scalar registers spill
    into those); ``occupancy``: the part of the warps that a multiprocessor can hold."""

    registers: int
    spills: int
    shared: int
    instructions: int
    occupancy: float
    loads: dict[str, int] = field(default_factory=dict)
    stores: dict[str, int] = field(default_factory=dict)
    matrix: dict[str, int] = field(default_factory=dict)


# --- the cases ---


def all_cases(families: Iterable[str] = ()) -> dict[str, tuple[str, Case]]:
    """Name -> (family, case), of these families or of all. Raises ValueError for two different cases of one name,
    RuntimeError where kernels are interpreted."""
    from tritium.kernels import runtime, triton

    if runtime.interpreting():
        raise RuntimeError("TRITON_INTERPRET is set: kernels are interpreted in this process, not compiled")
    found: dict[str, tuple[str, Case]] = {}
    for family in sorted((m.name for m in pkgutil.iter_modules(triton.__path__)), key=lambda name: (len(name), name)):
        if families and family not in families:
            continue
        module = importlib.import_module(f"tritium.kernels.triton.{family}")
        for case in module.cases() if hasattr(module, "cases") else ():
            kernel = case.kernel.name
            name = case.name if case.name.startswith(kernel) else f"{kernel}: {case.name}"
            if found.setdefault(name, (family, case))[1] != case:
                raise ValueError(f"two cases have the name {name}")
    return found


def kernels_without_case(cases: Iterable[Case]) -> list[str]:
    """Names of the kernels that no case covers."""
    from tritium.kernels.runtime.launch import registry

    covered = {case.kernel.name for case in cases}
    return sorted(name for name, k in registry.items()
                  if name not in covered and k.jit.fn.__module__.startswith("tritium."))


# --- figures ---


def figures(cases: list[Case], target: str) -> list[Figures | str]:
    """Compile cases and read their code: the figures, or what went wrong. Kept on disk beside the compiled kernels."""
    from tritium.kernels.runtime import compiler

    nvidia = target.startswith("sm_")
    found: list[Figures | str] = []
    made: dict[int, Any] = {}  # place in ``found`` -> what was compiled
    names: list[str] = []
    for case in cases:
        options = {name: getattr(case, name) for name in ("num_warps", "num_stages", "enable_fp_fusion")}
        given = (case.kernel.jit, case.types, constants(case), case.aligned, options, target)
        names.append(f"{compiler.key_of(*given)}.figures{FORMAT}.json")
        kept = compiler.read_file(names[-1])
        try:
            found.append(Figures(**json.loads(kept or b"")))
            continue
        except (ValueError, TypeError):
            found.append("")
        try:
            made[len(found) - 1] = compiler.fresh(*given)
        except Exception as error:
            found[-1] = f"{type(error).__name__}: {error}"
    read = read_nvidia(list(made.values()), target) if nvidia else map(read_amd, made.values())
    for i, f in zip(made, read, strict=True):
        found[i] = f
        compiler.write_file(names[i], json.dumps(asdict(f)).encode())
    return found


def constants(case: Case) -> dict[str, Any]:
    """The constants of a case, with the kernel's defaults."""
    defaults = {k: v for k, v in case.kernel.constants.items() if v is not inspect.Parameter.empty}
    return {k: v for k, v in {**defaults, **case.constexprs}.items() if k not in case.types}


def read_nvidia(made: list[Any], target: str) -> list[Figures]:
    """Figures of cubins. The disassembler takes a quarter of a second to start: it reads the code of all as one."""
    import triton

    if not made:
        return []
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels"

        def tool(name: str, *options: str) -> str:
            return subprocess.run([tools / name, *options, file], capture_output=True, text=True, check=True).stdout

        usages = []
        for m in made:
            file.write_bytes(m.image)
            usage = re.search(r"REG:(\d+) STACK:(\d+)", tool("cuobjdump", "-res-usage"))
            if usage is None:
                raise RuntimeError(f"cuobjdump says no registers of {m.name}")
            arrays = sum(int(n) + 7 & -8 for n in re.findall(r"\.local .*__local_depot\d+\[(\d+)\]", m.text))
            usages.append((int(usage[1]), 0 < arrays >= int(usage[2])))
        codes = [code_of(m.image) for m in made]
        file.write_bytes(b"".join(codes))
        text = tool("nvdisasm", "-ndf", "-b", target.replace("_", "").upper() + "a" * (target >= "sm_90"))
    texts = split(text, [len(code) for code in codes])
    return [figures_of_sass(t, registers, m.shared, m.num_warps, target, arrays)
            for t, (registers, arrays), m in zip(texts, usages, made, strict=True)]


def code_of(image: bytes) -> bytes:
    """The instructions of the one kernel in a cubin, an ELF file."""
    table, = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", image, table + i * size) for i in range(count)]
    found = [image[start:start + length] for name, _, _, _, start, length in sections
             if image.startswith(b".text.", sections[names][4] + name)]
    if len(found) != 1:
        raise ValueError(f"a cubin with {len(found)} kernels")
    return found[0]


def split(text: str, lengths: list[int]) -> list[str]:
    """The parts of disassembled code, given how many bytes each of them has."""
    ends = list(itertools.accumulate(lengths))
    parts: list[list[str]] = [[] for _ in lengths]
    for line in text.splitlines():
        address = re.match(r"\s+/\*([0-9a-f]{4,})\*/", line)
        if address:
            parts[bisect.bisect_right(ends, int(address[1], 16))].append(line)
    return ["\n".join(lines) for lines in parts]


def figures_of_sass(code: str, registers: int, shared: int, num_warps: int, target: str,
                    arrays: bool = False) -> Figures:
    """Figures of disassembled code. ``arrays``: its stack is no larger than its own arrays (those of libdevice's
    trigonometric functions): an access of it is a spill only if it says so."""
    found = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code, re.M)
    while found and found[-1] in ("NOP", "BRA"):  # what fills the last line
        found.pop()
    loads, stores, matrix, local, reloads = Counter[str](), Counter[str](), Counter[str](), 0, 0
    for instruction in found:
        name, *marks = instruction.split(".")
        width = next((bits for mark, bits in (("U8", "8"), ("S8", "8"), ("U16", "16"), ("S16", "16"), ("64", "64"),
                                              ("128", "128")) if mark in marks), "32")
        if name in ("LDG", "LDGSTS"):
            loads[width] += 1
        elif name == "STG":
            stores[width] += 1
        elif name in ("UTMALDG", "UTMASTG"):
            (loads if name == "UTMALDG" else stores)["TMA"] += 1
        elif name in ("LDL", "STL"):
            local += 1
            reloads += "LU" in marks  # a load that is the last use
        elif name.endswith("MMA"):
            matrix[name] += 1
    spills = 0 if arrays and not reloads else local
    return Figures(registers, spills, shared, len(found), occupancy(registers, shared, num_warps, target),
                   dict(loads), dict(stores), dict(matrix))


def occupancy(registers: int, shared: int, num_warps: int, target: str) -> float:
    """The part of a multiprocessor's warps that blocks of this kind can fill."""
    all_registers, all_shared, warps, blocks = LIMITS[target]
    per_warp = -(-32 * max(registers, 1) // 256) * 256
    fit = min(all_registers // (per_warp * num_warps), all_shared // (shared + 1024), warps // num_warps, blocks)
    return fit * num_warps / warps


def read_amd(made: Any) -> Figures:
    """Figures of AMD assembly."""
    def note(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", made.text)
        return int(found[1]) if found else 0

    found = re.findall(r"^\t([a-z][a-z0-9]*_\w+)", made.text, re.M)
    loads, stores, matrix = Counter[str](), Counter[str](), Counter[str]()
    widths = {"ubyte": 8, "sbyte": 8, "byte": 8, "ushort": 16, "sshort": 16, "short": 16, "dword": 32}
    for instruction in found:
        access = re.match(r"(?:global|buffer|flat)_(load|store)_(dword|[a-z]+)(?:x(\d))?", instruction)
        if access:
            width = widths.get(access[2], 32) * int(access[3] or 1)
            (loads if access[1] == "load" else stores)[str(width)] += 1
        elif instruction.startswith("v_mfma"):
            matrix["MFMA"] += 1
    registers = note("vgpr_count")
    each = max(-(-registers // 8) * 8, 8)
    waves = 4 * min(8, 512 // each)  # of a compute unit's 32
    local = -(-max(made.shared, 1) // 512) * 512
    return Figures(registers, note("vgpr_spill_count"), made.shared, len(found),
                   min(waves // made.num_warps, 65536 // local) * made.num_warps / 32,
                   dict(loads), dict(stores), dict(matrix))


def measure(wanted: list[tuple[str, str]], cases: dict[str, tuple[str, Case]],
            processes: int | None = None) -> list[tuple[str, str, Figures | str]]:
    """(name, target, figures or what went wrong) of each (name, target), in order, by several processes."""
    global _cases
    _cases = cases
    processes = processes or os.cpu_count() or 1
    batches = []
    for target in dict.fromkeys(target for _, target in wanted):
        names = [name for name, t in wanted if t == target]
        batches += [(names[i:i + BATCH], target) for i in range(0, len(names), BATCH)]
    if processes == 1:
        done = list(map(_measure, batches))
    else:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
            done = list(pool.map(_measure, batches))
    found = {one: f for (names, target), results in zip(batches, done, strict=True)
             for one, f in zip([(name, target) for name in names], results, strict=True)}
    return [(*one, found[one]) for one in wanted]


_cases: dict[str, tuple[str, Case]] = {}


def _measure(batch: tuple[list[str], str]) -> list[Figures | str]:
    names, target = batch
    try:
        return figures([_cases[name][1] for name in names], target)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"] * len(names)


# --- judging ---


def broken_rules(case: Case, target: str, f: Figures) -> list[str]:
    """The rules that a case breaks on a target, in words."""
    wrong = []
    if f.spills > case.spills:
        wrong.append(f"{f.spills} spills")
    if case.wide and target.startswith("sm_"):  # elsewhere a thread has fewer elements: blocks are spread over more
        for what, widths in (("loads", f.loads), ("stores", f.stores)):
            if case.wide not in (True, what):
                continue
            few = sum(n * int(width) for width, n in widths.items() if width != "TMA") <= 128  # a sum, scalars
            if not few and not widths.keys() & {"128", "TMA"}:
                wrong.append(f"no 128-bit {what}: {_widths(widths)}")
    if case.mma:
        kinds = (MATRIX[target] if case.mma is True else case.mma).split()
        if not f.matrix.keys() & set(kinds):
            wrong.append(f"no {' or '.join(kinds)}: {_widths(f.matrix) or 'no matrix instructions'}")
    return wrong


def worse(f: Figures, versions: dict[str, dict[str, int]]) -> list[str]:
    """Where figures are worse than those of all versions, in words."""
    wrong = []
    for name in BOUNDED:
        known = max(v[name] for v in versions.values())
        bound = known + max(int(SLACK * known), 8)
        if getattr(f, name) > bound:
            wrong.append(f"{name} {getattr(f, name)}, at most {bound} were expected")
    return wrong


def complaints(results: Iterable[tuple[str, str, Figures | str]], cases: dict[str, tuple[str, Case]],
               bounds: dict[str, Any] | None) -> list[str]:
    """What is wrong with the figures: kernels that do not compile, broken rules; beside ``bounds`` also worse code and
    missing entries."""
    wrong = []
    for name, target, f in results:
        if isinstance(f, str):
            wrong.append(f"{name}, {target}: {f}")
            continue
        found = broken_rules(cases[name][1], target, f)
        if bounds is not None:
            versions = bounds.get(target, {}).get(name)
            found += worse(f, versions) if versions else ["not in bounds.json (tritium kernels --update)"]
        wrong += [f"{name}, {target}: {text}" for text in found]
    return wrong


def stale(cases: Iterable[str], bounds: dict[str, Any]) -> list[str]:
    """Entries of the table that no case has any more."""
    known = set(cases)
    return [f"{name}, {target}: in bounds.json, but there is no such case" for target, entries in bounds.items()
            for name in entries if name not in known]


def load_bounds() -> dict[str, Any]:
    """The committed table: target -> case -> version of Triton -> figure -> number."""
    return json.loads(BOUNDS.read_text()) if BOUNDS.exists() else {}


def save_bounds(bounds: dict[str, Any], results: Iterable[tuple[str, str, Figures | str]],
                known: Iterable[str] | None, version: str) -> None:
    """Write the table with these figures as those of a version, without cases that are not ``known`` any more (None:
    with all); a line for each case."""
    names = None if known is None else set(known)
    for name, target, f in results:
        if isinstance(f, Figures):
            entry = bounds.setdefault(target, {}).setdefault(name, {})
            entry[version] = {figure: getattr(f, figure) for figure in BOUNDED}
    parts = []
    for target in sorted(bounds):
        lines = [f"  {json.dumps(name)}: {json.dumps(dict(sorted(entry.items())))}"
                 for name, entry in sorted(bounds[target].items()) if names is None or name in names]
        parts.append(f" {json.dumps(target)}: {{\n" + ",\n".join(lines) + "\n }")
    BOUNDS.write_text("{\n" + ",\n".join(parts) + "\n}\n")


# --- printing ---


def _widths(counts: dict[str, int]) -> str:
    return " ".join(f"{n}x{width}" for width, n in sorted(counts.items(), key=lambda item: item[0].zfill(3)))


HEAD = ("kernel: case", "target", "regs", "spills", "shared", "occ", "loads", "stores", "matrix", "instr")


def row(name: str, target: str, f: Figures) -> tuple[str, ...]:
    """A line of the table."""
    return (name, target, str(f.registers), str(f.spills), str(f.shared), f"{f.occupancy:.0%}", _widths(f.loads),
            _widths(f.stores), _widths(f.matrix), str(f.instructions))


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows with aligned columns, numbers to the right."""
    rows = [HEAD, *rows]
    widths = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
    right = {2, 3, 4, 5, 9}
    return "\n".join("  ".join(t.rjust(w) if i in right else t.ljust(w)
                               for i, (t, w) in enumerate(zip(r, widths, strict=True))).rstrip() for r in rows)


def run(targets: list[str], families: list[str], out: str | None, check: bool, update: bool) -> int:
    """``tritium kernels``; returns the exit code: 1 where a check fails or a kernel does not compile."""
    import triton

    cases = all_cases(families)
    unknown = set(families) - {family for family, _ in cases.values()}
    if unknown:
        raise ValueError(f"no cases of {', '.join(sorted(unknown))}; there are: "
                         f"{', '.join(sorted({family for family, _ in all_cases().values()}))}")
    wanted = [(name, target) for name, (_, case) in cases.items() for target in targets
              if not case.targets or target in case.targets]
    results = measure(wanted, cases)
    if not (check or update):
        print(table([row(name, target, f) for name, target, f in results if isinstance(f, Figures)]))
    if out:
        Path(out).write_text(json.dumps({"triton": triton.__version__, "figures": [
            {"case": name, "target": target, **(asdict(f) if isinstance(f, Figures) else {"error": f})}
            for name, target, f in results]}, indent=1))
    bounds = load_bounds()
    if update:
        save_bounds(bounds, results, None if families else cases, triton.__version__)
    wrong = complaints(results, cases, load_bounds() if check or update else None)
    if (check or update) and not families:
        wrong += stale(cases, load_bounds())
        wrong += [f"{name}: a kernel without a case" for name in kernels_without_case(c for _, c in cases.values())]
    for line in wrong:
        print(line)
    print(f"{len(results)} configurations on {', '.join(targets)}, Triton {triton.__version__}: "
          f"{len(wrong) or 'no'} complaint{'s' * (len(wrong) != 1)}")
    return 1 if wrong else 0
