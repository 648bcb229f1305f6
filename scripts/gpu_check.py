"""Everything that needs a real GPU, in steps; what they find in one folder.

    python scripts/gpu_check.py [--out FOLDER] [--only STEP ...] [--skip STEP ...] [--seconds N] [--emulated]

Each step is a process of its own with its own time limit, so that a failure stops nothing else; ``--seconds`` bounds
the whole. FOLDER gets report.json (all results, written after each step), STEP.json and STEP.txt (what it printed). The
package needs not be installed: a link to this checkout is put on the path. No network. ``--emulated`` runs a small form
on the emulated device and on the stand-in for the driver, to try the steps where there is no GPU.

Where time on a GPU is short, four calls with --seconds 570, in this order, tell the most (compiled kernels are kept in
between):

    --only first        does it work: launches, memory, graphs, results, tests of products and convolutions
    --only bench        the figures: products, convolutions, networks, every family of kernels
    --only tune         better configurations for this GPU (FOLDER/tuned/*.json), and the convolutions again with them
    --only tests sanitizer     everything else
"""
from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TAIL = 4000  # characters of a step's output that are kept in the report
GROUPS = ("first", "bench", "tune", "tests", "sanitizer")


@dataclass
class Step:
    """``command``: arguments; "{out}" in them is a file for the step's JSON. ``limit``: seconds. ``env``: settings."""

    name: str
    group: str
    command: list[str]
    limit: int
    env: dict[str, str] = field(default_factory=dict)


def steps(emulated: bool) -> list[Step]:
    """What there is to do, the most telling first in each group."""
    python = sys.executable
    interpret = {"TRITON_INTERPRET": "1"} if emulated else {}
    small = ["--emulated"] if emulated else []
    kernels = ROOT / "tests" / "kernels" / "triton"
    many = ["-n", str(min(os.cpu_count() or 1, 12))] if importlib.util.find_spec("xdist") and not emulated else []

    def inner(name: str, limit: int = 120) -> Step:
        return Step(name, "first", [python, str(ROOT / "scripts" / "gpu_steps.py"), name, "--out", "{out}", *small],
                    limit, interpret)

    def bench(name: str, file: str, limit: int, *arguments: str, group: str = "bench") -> Step:
        """A benchmark; it stops by itself before its limit."""
        return Step(name, group, [python, str(ROOT / "benchmarks" / file), "--json", "{out}", *arguments, "--seconds",
                                  str(limit - 20), *small], limit, interpret)

    def pytest(name: str, group: str, limit: int, *arguments: Any, before: tuple[str, ...] = (),
               processes: bool = True) -> Step:
        return Step(name, group, [*before, python, "-m", "pytest", "--device", "cuda", "-p", "no:cacheprovider", "-q",
                                  *(many if processes else []), *map(str, arguments)], limit, interpret)

    def tune(limit: int) -> Step:
        sizes = [] if emulated else ["--shapes", "resnet50", "8192,8192,8192", "4096,4096,4096", "--candidates", "16"]
        return Step("tune", "tune", [python, "-m", "tritium", "tune", "--json", "{out}", "--seconds", str(limit - 40),
                                     *sizes], limit, interpret)

    found = [inner(name) for name in ("about", "launch", "memory", "graph", "dlpack", "numerics")]
    if emulated:
        found += [pytest("tests_quick", "first", 300, ROOT / "tests" / "runtime" / "test_launch.py", "-k", "emulated"),
                  bench("bench_matmul", "gpu_matmul.py", 300), bench("bench_conv", "gpu_conv.py", 300),
                  bench("bench_networks", "gpu_networks.py", 900), bench("bench_kernels", "gpu_kernels.py", 600),
                  tune(300)]
    else:
        compiled = ("bench_matmul", "gpu_matmul.py"), ("bench_conv", "gpu_conv.py"), (
            "bench_networks", "gpu_networks.py"), ("bench_kernels", "gpu_kernels.py")
        found += [
            pytest("tests_quick", "first", 240, *[kernels / f"test_{name}.py" for name in ("matmul", "conv", "norm",
                                                                                          "softmax", "optimizer")]),
            *[Step(name.replace("bench", "compile"), "bench", [python, str(ROOT / "benchmarks" / file), "--compile"],
                   150) for name, file in compiled],
            bench("bench_matmul", "gpu_matmul.py", 90), bench("bench_conv", "gpu_conv.py", 110),
            bench("bench_networks", "gpu_networks.py", 150), bench("bench_kernels", "gpu_kernels.py", 240),
            tune(420), bench("bench_conv_tuned", "gpu_conv.py", 90, group="tune"),
            bench("bench_matmul_tuned", "gpu_matmul.py", 60, "--only", "matmul bf16", group="tune"),
            pytest("tests_kernels", "tests", 300, kernels, "--maxfail=50"),
            pytest("tests", "tests", 550, ROOT / "tests", "--maxfail=200", "--ignore", kernels),
            bench("bench_mobilenet", "gpu_conv.py", 120, "--network", "mobilenet_v2", group="tests")]
        sanitizer = sanitizer_path()
        for tool in ("memcheck", "racecheck") if sanitizer else ():
            looked_at = [kernels / f"test_{name}.py" for name in ("matmul", "conv", "reduce")]
            found.append(pytest(f"sanitizer_{tool}", "sanitizer", 280, *looked_at, "-x", processes=False, before=(
                str(sanitizer), "--tool", tool, "--error-exitcode", "9", "--target-processes", "all", "--print-limit",
                "20")))
    found.insert(6, Step("launch_cost", "first", [python, str(ROOT / "benchmarks" / "launch.py"), "--json", "{out}",
                                                  *(["--rounds", "2"] if emulated else [])], 120))
    return found


def sanitizer_path() -> str | None:
    """NVIDIA's compute-sanitizer, if the machine has it."""
    return shutil.which("compute-sanitizer") or next(
        (str(p) for p in sorted(Path("/usr/local").glob("cuda*/bin/compute-sanitizer"))), None)


def run(step: Step, path: str, limit: float, folder: Path) -> dict[str, Any]:
    """Run a step; what came of it."""
    start = time.monotonic()
    out, printed = folder / f"{step.name}.json", folder / f"{step.name}.txt"
    out.unlink(missing_ok=True)
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **step.env}
    if "TRITON_INTERPRET" not in step.env:
        env.pop("TRITON_INTERPRET", None)
    command = [part.replace("{out}", str(out)) for part in step.command]
    with open(printed, "w+", errors="replace") as text, tempfile.TemporaryDirectory() as place:
        child = subprocess.Popen(command, stdout=text, stderr=subprocess.STDOUT, env=env, cwd=place,
                                 start_new_session=True)
        try:
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)  # its own children too
            child.wait()
            code = None
        text.seek(0)
        said = text.read()
    result: dict[str, Any] = {"ok": code == 0, "code": code, "seconds": round(time.monotonic() - start, 1)}
    if code is None:
        result["stopped_after"] = limit
    if out.exists():
        try:
            result["result"] = json.loads(out.read_text())
        except ValueError:
            result["result"] = None
    result["output"] = said[-TAIL:]
    return result


def keep_tables(folder: Path) -> None:
    """Copy the tables that were tuned here, for the package."""
    given = os.environ.get("TRITIUM_CACHE_DIR")
    tables = (Path(given) if given else Path.home() / ".cache" / "tritium") / "tuned"
    for table in tables.glob("*.json"):
        (folder / "tuned").mkdir(exist_ok=True)
        shutil.copy(table, folder / "tuned" / table.name)


def main() -> int:
    """Run the steps; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu_check", metavar="FOLDER")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP", help=f"steps, or groups: {', '.join(GROUPS)}")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STEP")
    parser.add_argument("--seconds", type=float, default=7200, help="for all steps together")
    parser.add_argument("--emulated", action="store_true", help="a small form, without a GPU")
    parser.add_argument("--list", action="store_true", help="name the steps and stop")
    options = parser.parse_args()
    known = steps(options.emulated)
    unknown = {*options.only, *options.skip} - {s.name for s in known} - set(GROUPS)
    if unknown:
        parser.error(f"no step or group is called {', '.join(sorted(unknown))} (--list)")
    wanted = [s for s in known if (not options.only or {s.name, s.group} & set(options.only))
              and not {s.name, s.group} & set(options.skip)]
    if options.list:
        print("\n".join(f"{s.group:10s} {s.name:20s} {s.limit:5d} s" for s in wanted))
        return 0
    end = time.monotonic() + options.seconds
    folder = Path(options.out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                              "emulated": options.emulated, "compute_sanitizer": sanitizer_path(), "steps": {}}
    with tempfile.TemporaryDirectory() as links:
        os.symlink(ROOT, Path(links) / "tritium")
        path = os.pathsep.join(filter(None, (links, os.environ.get("PYTHONPATH"))))
        for step in wanted:
            left = end - time.monotonic()
            if left < 5:
                report["steps"][step.name] = {"ok": False, "output": "no time left"}
                continue
            result = report["steps"][step.name] = run(step, path, min(step.limit, left), folder)
            if step.name == "about":
                report.update(result.get("result") or {})
            if step.name == "tune" and not options.emulated:
                keep_tables(folder)
            print(f"{step.name:20s} {'ok' if result['ok'] else 'FAILED'}  {result['seconds']:.1f} s", flush=True)
            if not result["ok"]:
                print("    " + "\n    ".join(result["output"].splitlines()[-12:]), flush=True)
            elif step.group in ("bench", "tune"):  # the last lines are what it found
                print("    " + "\n    ".join(result["output"].strip().splitlines()[-8:]), flush=True)
            (folder / "report.json").write_text(json.dumps(report, indent=1))  # after each step: the machine may go
    return sum(not r["ok"] for r in report["steps"].values())


if __name__ == "__main__":
    sys.exit(main())
