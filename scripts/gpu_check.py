"""Everything that needs a real GPU, in one call; the results in one JSON file.

    python scripts/gpu_check.py [--out gpu_check.json] [--only STEP ...] [--skip STEP ...] [--seconds N] [--emulated]

Each step is a process of its own with its own time limit, so that a failure stops nothing else; ``--seconds`` bounds
the whole. The package needs not be installed: a link to this checkout is put on the path. No network. ``--emulated``
runs a small form on the emulated device and on the stand-in for the driver, to try the steps where there is no GPU.
"""
from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TAIL = 4000  # characters of a step's output that are kept


@dataclass
class Step:
    """``command``: arguments; "{out}" in them is a file for the step's JSON. ``limit``: seconds. ``env``: settings."""

    name: str
    command: list[str]
    limit: int
    env: dict[str, str]


def steps(emulated: bool) -> list[Step]:
    """What there is to do, the most telling first."""
    python = sys.executable
    interpret = {"TRITON_INTERPRET": "1"} if emulated else {}
    small = ["--emulated"] if emulated else []

    def inner(name: str, limit: int = 180) -> Step:
        return Step(name, [python, str(ROOT / "scripts" / "gpu_steps.py"), name, "--out", "{out}", *small], limit,
                    interpret)

    def pytest(name: str, limit: int, *arguments: str, before: tuple[str, ...] = (), **env: str) -> Step:
        return Step(name, [*before, python, "-m", "pytest", "--device", "cuda", "-p", "no:cacheprovider", "-q",
                           *arguments], limit, {**interpret, **env})

    found = [inner(name) for name in ("about", "launch", "memory", "graph", "dlpack", "numerics")]
    found.append(Step("launch_cost", [python, str(ROOT / "benchmarks" / "launch.py"), "--json", "{out}",
                                      *(["--rounds", "2"] if emulated else [])], 300, {}))
    found.append(Step("kernels", [python, str(ROOT / "benchmarks" / "kernels_gpu.py"), "--json", "{out}", *small],
                      600, interpret))
    kernels = str(ROOT / "tests" / "kernels" / "triton")
    if emulated:
        found.append(pytest("tests", 300, str(ROOT / "tests" / "runtime" / "test_launch.py"), "-k", "emulated"))
        return found
    found.append(pytest("tests_kernels", 900, kernels, "-x", "--maxfail=50"))
    found.append(pytest("tests", 1800, str(ROOT / "tests"), "--maxfail=200"))
    sanitizer = sanitizer_path()
    if sanitizer:
        for tool in ("memcheck", "racecheck"):
            found.append(pytest(f"sanitizer_{tool}", 1800, kernels, before=(
                sanitizer, "--tool", tool, "--error-exitcode", "9", "--target-processes", "all", "--print-limit",
                "20")))
    return found


def sanitizer_path() -> str | None:
    """NVIDIA's compute-sanitizer, if the machine has it."""
    return shutil.which("compute-sanitizer") or next(
        (str(p) for p in sorted(Path("/usr/local").glob("cuda*/bin/compute-sanitizer"))), None)


def run(step: Step, path: str, limit: float) -> dict[str, Any]:
    """Run a step; what came of it."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **step.env}
        if "TRITON_INTERPRET" not in step.env:
            env.pop("TRITON_INTERPRET", None)
        command = [part.replace("{out}", str(out)) for part in step.command]
        with open(Path(folder) / "text", "w+", errors="replace") as text:
            child = subprocess.Popen(command, stdout=text, stderr=subprocess.STDOUT, env=env, cwd=folder,
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


def main() -> int:
    """Run the steps; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="gpu_check.json")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STEP")
    parser.add_argument("--seconds", type=float, default=7200, help="for all steps together")
    parser.add_argument("--emulated", action="store_true", help="a small form, without a GPU")
    parser.add_argument("--list", action="store_true", help="name the steps and stop")
    options = parser.parse_args()
    wanted = [s for s in steps(options.emulated) if (not options.only or s.name in options.only)
              and s.name not in options.skip]
    if options.list:
        print("\n".join(f"{s.name:20s} {s.limit:5d} s" for s in wanted))
        return 0
    end = time.monotonic() + options.seconds
    report: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                              "emulated": options.emulated, "compute_sanitizer": sanitizer_path(), "steps": {}}
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(ROOT, Path(folder) / "tritium")
        path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
        for step in wanted:
            left = end - time.monotonic()
            if left < 5:
                report["steps"][step.name] = {"ok": False, "output": "no time left"}
                continue
            result = report["steps"][step.name] = run(step, path, min(step.limit, left))
            if step.name == "about":
                report.update(result.get("result") or {})
            print(f"{step.name:20s} {'ok' if result['ok'] else 'FAILED'}  {result['seconds']:.1f} s", flush=True)
            if not result["ok"]:
                print("    " + "\n    ".join(result["output"].splitlines()[-12:]), flush=True)
            Path(options.out).write_text(json.dumps(report, indent=1))  # after each step: the machine may go
    return sum(not r["ok"] for r in report["steps"].values())


if __name__ == "__main__":
    sys.exit(main())
