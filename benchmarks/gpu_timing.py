"""What the GPU benchmarks share: entries, the device's time of their calls beside PyTorch's, tables, JSON.

A program makes a list of entries and calls ``main``. Each entry is made and measured on its own, so that one that fails
or does not exist yet stops nothing; a failure that the device does not survive restarts the program behind it.

    --json FILE     results so far are written after each entry
    --only WORD     entries whose name or group has one of these; --skip WORD
    --seconds N     what is not begun after this time is left out
    --emulated      everything once, small, without PyTorch, on the emulated device: no figures, only whether it runs
    --compile       needs no GPU: kernels are compiled for one by several processes, into the cache that a run will use
"""
from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tritium

ROUNDS, MILLISECONDS = 7, 2.0  # a graph is made to last about this long
SIZES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "int64": 8}


@dataclass
class Work:
    """``call``: what is timed; ``moved``: bytes that it reads and writes at least; ``flops``: of its products."""

    call: Callable[[], Any]
    moved: float = 0.0
    flops: float = 0.0


@dataclass(frozen=True)
class Entry:
    """``make(tools)`` gives the Work with one library. ``count``: its weight in the group's mean."""

    name: str
    group: str
    make: Callable[[Tools], Work]
    dtype: str = "fp32"
    count: int = 1


class Tools:
    """A library and what entries are made with. ``lib``: tritium or torch; ``small``: only to see whether it runs."""

    def __init__(self, lib: Any, dtype: str, small: bool) -> None:
        self.lib, self.F, self.small = lib, lib.nn.functional, small
        self.name, self.size = dtype, SIZES[dtype]
        self.dtype = {"fp32": lib.float32, "tf32": lib.float32, "bf16": lib.bfloat16, "fp16": lib.float16,
                      "int64": lib.int64}[dtype]
        self.n = 1 << 10 if small else 1 << 26
        self.rows, self.columns = (4, 64) if small else (8192, 4096)

    def normal(self, *shape: int, grad: bool = False, dtype: Any = None) -> Any:
        """Normal numbers on the device."""
        x = self.lib.randn(*shape, device="cuda", dtype=dtype or self.dtype)
        return x.requires_grad_() if grad else x

    def image(self, *shape: int, grad: bool = False) -> Any:
        """Normal numbers (N, C, H, W) in channels_last."""
        x = self.normal(*shape).contiguous(memory_format=self.lib.channels_last)
        return x.requires_grad_() if grad else x

    def whole(self, *shape: int, high: int) -> Any:
        """Integers below ``high``."""
        return self.lib.randint(0, high, shape, device="cuda")

    def backward(self, out: Any, inputs: list[Any]) -> Callable[[], Any]:
        """A call that computes the gradients of ``inputs`` for a fixed gradient of ``out``."""
        g = self.lib.randn(out.shape, device="cuda", dtype=out.dtype) if out.dim() else self.lib.ones_like(out)
        if out.dim() == 4:
            g = g.contiguous(memory_format=self.lib.channels_last)
        return lambda: self.lib.autograd.grad(out, inputs, g, retain_graph=True)


# --- timing ---

class Captured:
    """A call, captured ``count`` times into a graph on a stream of its own; called in a row where that fails."""

    def __init__(self, entry: Entry, lib: Any, small: bool = False) -> None:
        self.cuda = lib.cuda
        self.stream = lib.cuda.Stream()
        with self.cuda.stream(self.stream):
            self.work = entry.make(Tools(lib, entry.dtype, small))
            for _ in range(3):  # compiled, chosen, and the allocator has what it needs
                self.work.call()
            self.cuda.synchronize()
            once = min(self._time(self.work.call) for _ in range(3))
            self.count = max(1, min(200, math.ceil(MILLISECONDS / max(once, 1e-3))))
            self.graph: Any = self.cuda.CUDAGraph()
            try:
                with self.cuda.graph(self.graph, stream=self.stream):
                    for _ in range(self.count):
                        self.work.call()
            except (RuntimeError, NotImplementedError) as error:
                self.graph, self.error = None, f"{type(error).__name__}: {error}"
                self.cuda.synchronize()
            self.run()

    def _time(self, f: Callable[[], Any]) -> float:
        """Milliseconds on the device."""
        start, end = self.cuda.Event(enable_timing=True), self.cuda.Event(enable_timing=True)
        start.record()
        f()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def _all(self) -> None:
        for _ in range(self.count):
            self.work.call()

    def run(self) -> float:
        """Microseconds of a call, in one round."""
        with self.cuda.stream(self.stream):
            return 1e3 * self._time(self.graph.replay if self.graph else self._all) / self.count


def in_turn(captured: list[Captured], rounds: int = ROUNDS) -> list[float]:
    """The least microseconds of a call of each, measured in turn."""
    least = [math.inf] * len(captured)
    for _ in range(rounds):
        for i, c in enumerate(captured):
            least[i] = min(least[i], c.run())
    return least


def copy_bandwidth(lib: Any) -> float:
    """GB/s of a copy of a gigabyte: reads and writes."""
    a = lib.empty(1 << 28, device="cuda")
    b = lib.empty(1 << 28, device="cuda")
    work = Work(lambda: b.copy_(a), 2.0 * (1 << 30))
    us, = in_turn([Captured(Entry("copy", "", lambda t: work), lib)])
    return work.moved / us / 1e3


# --- programs ---

def missing(error: BaseException) -> str | None:
    """What does not exist yet, if that is what an error says."""
    if isinstance(error, NotImplementedError) or isinstance(error, AttributeError) and "tritium" in str(error):
        return f"{type(error).__name__}: {error}"[:200]
    return None


def alive(lib: Any) -> bool:
    """Whether the device still works."""
    try:
        x = lib.ones(8, device="cuda")
        return float((x + x).sum()) == 16
    except Exception:
        return False


def measure(entry: Entry, theirs: Any, copy: float) -> dict[str, Any]:
    """An entry's figures."""
    ours = Captured(entry, tritium)
    other, found = None, {}
    try:
        other = Captured(entry, theirs) if theirs is not None else None
    except Exception as error:  # PyTorch lacks it, or its kernels do not fit
        found["torch_error"] = f"{type(error).__name__}: {error}"[:200]
    times = in_turn([ours, other] if other is not None else [ours])
    us = times[0]
    found |= {"us": us, "gb_s": ours.work.moved / us / 1e3, "tflop_s": ours.work.flops / us / 1e6}
    if copy:
        found["of_copy"] = found["gb_s"] / copy
    if other is not None:
        found |= {"torch_us": times[1], "speed": times[1] / us}
    for name, c in (("", ours), ("torch_", other)):
        if c is not None and c.graph is None:
            found[name + "not_captured"] = c.error[:200]
    return found


def line(name: str, f: dict[str, Any]) -> str:
    """A row of the table."""
    text = f"{name:44s} {f['us']:10.1f} {f.get('torch_us', math.nan):10.1f} {f.get('speed', math.nan):6.2f} "
    text += f"{f['gb_s']:7.0f} {f.get('of_copy', math.nan):5.0%} {f['tflop_s']:7.1f}"
    return text + "  not captured" * ("not_captured" in f)


HEAD = f"{'microseconds':44s} {'tritium':>10s} {'torch':>10s} {'speed':>6s} {'GB/s':>7s} {'copy':>5s} {'Tflop/s':>7s}"


def means(entries: list[Entry], results: dict[str, Any]) -> dict[str, Any]:
    """For each group: the geometric mean of the speeds (torch's time / ours), the least, and by weight how the sums of
    all times compare."""
    found = {}
    for group in dict.fromkeys(e.group for e in entries):
        of = [(e, results[e.name]) for e in entries if e.group == group and "speed" in results.get(e.name, {})]
        if of:
            speeds = [r["speed"] for _, r in of]
            least = min(of, key=lambda one: one[1]["speed"])
            found[group] = {"entries": len(of), "mean": math.exp(sum(map(math.log, speeds)) / len(speeds)),
                            "least": least[1]["speed"], "least_is": least[0].name,
                            "sum": sum(e.count * r["torch_us"] for e, r in of) / sum(e.count * r["us"] for e, r in of)}
            copies = [r["of_copy"] for _, r in of if r.get("of_copy")]
            if copies:
                found[group]["of_copy"] = sorted(copies)[len(copies) // 2]
    return found


def show_means(found: dict[str, Any]) -> None:
    """Print them."""
    print("\ntorch's time / tritium's: geometric mean, least, by sums; part of the copy bandwidth (median)")
    for group, m in found.items():
        copied = f"{m['of_copy']:6.0%}" if "of_copy" in m else ""
        print(f"  {group:24s} {m['mean']:6.3f} {m['least']:6.2f} {m['sum']:6.3f} {copied}   {m['entries']} entries; "
              f"slowest: {m['least_is']}")


def options_of(doc: str, arguments: list[str] | None = None,
               more: Callable[[argparse.ArgumentParser], None] = lambda p: None) -> argparse.Namespace:
    """The arguments that every program takes, and ``more``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0], epilog=__doc__.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--skip", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--after", metavar="NAME", help="begin behind this entry, and keep the results in --json")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--emulated", action="store_true")
    what.add_argument("--compile", action="store_true")
    more(parser)
    return parser.parse_args(arguments)


def main(doc: str, entries: list[Entry], arguments: list[str] | None = None) -> int:
    """Run a program; the exit code is 1 where an entry failed that should not."""
    start = time.monotonic()
    options = options_of(doc, arguments)
    wanted = [e for e in entries if (not options.only or any(w in f"{e.group}: {e.name}" for w in options.only))
              and not any(w in f"{e.group}: {e.name}" for w in options.skip)]
    assert len({e.name for e in entries}) == len(entries), "two entries of one name"
    if options.compile:
        return compiled(wanted)
    theirs = torch() if not options.emulated else None
    report: dict[str, Any] = {"device": tritium.cuda.get_device_name(), "entries": {}}
    if options.after and options.json and Path(options.json).exists():
        report = json.loads(Path(options.json).read_text())
    results = report["entries"]
    if not options.emulated and "copy_gb_s" not in report:
        report["copy_gb_s"] = max(copy_bandwidth(lib) for lib in (tritium, theirs) if lib is not None)
        report["torch"] = getattr(theirs, "__version__", None)
        print(f"{report['device']}, PyTorch {report['torch']}, copy {report['copy_gb_s']:.0f} GB/s\n{HEAD}")
    names = [e.name for e in wanted]
    for entry in wanted[names.index(options.after) + 1 if options.after in names else 0:]:
        result: dict[str, Any] = {}
        if time.monotonic() - start > options.seconds:
            result["left_out"] = "out of time"
        else:
            result = attempt(entry, theirs, options.emulated, report.get("copy_gb_s", 0.0))
        results[entry.name] = {"group": entry.group, **result}
        if options.json:
            Path(options.json).write_text(json.dumps(report, indent=1))
        if "error" in result and not options.emulated and not alive(tritium):
            print("the device does not answer any more: starting again behind this entry", flush=True)
            if not options.json:
                return 1
            seconds = options.seconds - (time.monotonic() - start)
            rest = [a for i, a in enumerate(sys.argv[1:]) if "--after" not in sys.argv[i:i + 2]]
            limit = ["--seconds", str(max(seconds, 0))] if math.isfinite(seconds) else []
            os.execv(sys.executable, [sys.executable, sys.argv[0], *rest, *limit, "--after", entry.name])
    if not options.emulated:
        report["means"] = means(entries, results)
        show_means(report["means"])
    failed = [name for name, r in results.items() if "error" in r]
    lacking = [name for name, r in results.items() if "missing" in r]
    late = [name for name, r in results.items() if "left_out" in r]
    print(f"\n{len(results)} entries, {len(failed)} failed, {len(lacking)} missing, {len(late)} left out")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
    return 1 if failed else 0


def attempt(entry: Entry, theirs: Any, small: bool, copy: float) -> dict[str, Any]:
    """An entry's figures, or what went wrong; prints a line."""
    result: dict[str, Any] = {}
    try:
        if small:
            entry.make(Tools(tritium, entry.dtype, True)).call()
            print(f"{entry.name:44s} runs", flush=True)
        else:
            result = measure(entry, theirs, copy)
            print(line(entry.name, result), flush=True)
    except Exception as error:
        lacks = missing(error)
        text = f"{type(error).__name__}: {error}"[:300]
        result["missing" if lacks else "error"] = lacks or text
        print(f"{entry.name:44s} {'MISSING ' if lacks else 'FAILED  '} {text}", flush=True)
    gc.collect()
    if not small:
        for lib in filter(None, (tritium, theirs)):
            try:
                lib.cuda.empty_cache()
            except RuntimeError:
                pass
    return result


def torch() -> Any:
    """PyTorch with its fastest settings that give the same numbers, or None."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return torch


# --- compiling beforehand ---

_entries: list[Entry] = []


def _begin() -> None:
    from tritium.kernels.tuning import planning

    planning.begin(planning.H100)


def _compile(index: int) -> tuple[str, str]:
    """What went wrong with an entry, and which of its kernels spill registers."""
    from tritium.kernels import runtime

    entry = _entries[index]

    def once() -> None:
        entry.make(Tools(tritium, entry.dtype, False)).call()

    return planned(once, runtime.active())


def planned(once: Callable[[], Any], device: Any) -> tuple[str, str]:
    """Run something on a device that is only planned for. What went wrong, and what ``spilling`` says."""
    error = ""
    for device.byte in (0x7F, 0):  # what checks of indices and labels read
        device.loaded.clear()
        try:
            once()
            return "", spilling(device)
        except Exception as e:
            error = f"{type(e).__name__}: {e}"[:300]
    return error, ""


def spilling(planned: Any) -> str:
    """The kernels that were loaded, on a device that is only planned for, and access local memory: spilled registers,
    or the tables of trigonometric functions."""
    from tritium.kernels.report import read_nvidia

    figures = read_nvidia(planned.loaded, f"sm_{planned.known.architecture}")
    return ", ".join(f"{made.name}: {f.spills}" for made, f in zip(planned.loaded, figures, strict=True) if f.spills)


def compiled(entries: list[Entry]) -> int:
    """Run every entry on a device that is only planned for: its kernels are compiled, and nothing is computed."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    _entries[:] = entries
    os.environ.pop("TRITON_INTERPRET", None)
    jobs = int(os.environ.get("TRITIUM_JOBS", "0")) or os.cpu_count() or 1
    start, failed = time.monotonic(), 0
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _begin) as pool:
        for entry, (error, spills) in zip(entries, pool.map(_compile, range(len(entries))), strict=True):
            failed += bool(error)
            if error or spills:
                print(f"{entry.name:44s} {error or f'local memory is used: {spills}'}", flush=True)
    print(f"{len(entries)} entries compiled in {time.monotonic() - start:.0f} s by {jobs} processes, {failed} failed")
    return 1 if failed else 0
