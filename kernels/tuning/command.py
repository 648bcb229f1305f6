"""``tritium tune``: search, on purpose, for configurations that are faster on this GPU, and write its table."""
from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.tuning import search, table
from tritium.kernels.tuning.planning import H100, Key, Workers
from tritium.kernels.tuning.problems import Problem, collect
from tritium.kernels.tuning.search import Outcome
from tritium.kernels.tuning.table import Choice

SMALL = ("70,50,100", "2,16,7,9,24,3,1,1,1", "1,4,6,6,8,3,2,1,1")  # on the emulated device
MOST, FEW = 24, 4  # candidates of a question, on a GPU and on the emulated device
Questions = dict[Key, list[Choice]]


def run(options: Any) -> int:
    """The command; returns the exit code. Raises ValueError for what it refuses, RuntimeError without a device."""
    emulated = runtime.interpreting()
    shapes = options.shapes or (SMALL if emulated and not options.dry_run else ("resnet50", "square"))
    if "attention" in options.family:
        from tritium.kernels.tuning.families import has_attention

        if not has_attention():
            raise ValueError("there are no kernels of attention to tune")
    problems = collect(options.family, shapes, options.dtype, options.batch, options.op)
    if not problems:
        raise ValueError(f"nothing to tune: no {' or '.join(options.family)} in {', '.join(shapes)}")
    most = options.candidates or (FEW if emulated and not options.dry_run else MOST)
    if options.dry_run:
        return dry(problems, most, options)
    active = runtime.active()  # raises RuntimeError where there is no device
    target = place(options, active.properties(0), emulated)
    say = print if not options.quiet else _silent
    if emulated:
        say("emulated device: results are checked, times mean nothing" + ("" if target else ", nothing is written"))
    start = time.monotonic()

    def late() -> bool:
        return options.seconds is not None and time.monotonic() - start > options.seconds

    answers = emulated_answers if emulated else gpu_answers
    found: list[tuple[Problem, Outcome]] = []
    asked = 0
    try:
        for problem, outcomes, total in answers(problems, most, options, late):
            asked = total
            for outcome in outcomes:
                found.append((problem, outcome))
                say(f"{len(found):4d}  {line(problem, outcome)}", flush=True)
            changes = {o.key: o.entry(triton=version("triton")) for o in outcomes}
            if target and changes:
                table.merge(target, active.properties(0), changes)
    except KeyboardInterrupt:
        summarize(found, asked, target, say, "interrupted; ")
        return 130
    finally:
        table.forget()
        if options.json:
            Path(options.json).write_text(json.dumps(report(active.properties(0), found), indent=1))
    summarize(found, asked, target, say, "out of time; " if late() else "")
    return 0


def _silent(*words: Any, **how: Any) -> None:
    """Print nothing."""


def place(options: Any, properties: Any, emulated: bool) -> Path | None:
    """The table to write; None for none. Raises ValueError or OSError where there can not be one."""
    if emulated and not options.output:
        return None
    folder = table.PACKAGE if options.write_package else table.user_folder()
    if options.output:
        target = Path(options.output)
    elif folder is not None:
        target = folder / table.file_name(properties.name)
    else:
        raise ValueError("there is no home folder to write the table to: set TRITIUM_CACHE_DIR or give --output")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        raise ValueError(f"{target} can not be written to")
    return target


# --- the searches ---

def emulated_answers(problems: list[Problem], most: int, options: Any,
                     late: Callable[[], bool]) -> Iterator[tuple[Problem, list[Outcome], int]]:
    """Problem after problem: its new questions' outcomes, and how many questions there were so far."""
    from tritium.kernels.tuning.device import Bench

    bench, seen = Bench(), set[Key]()
    for problem in problems:
        if late():
            return
        questions = {key: c for key, c in bench.questions(problem, most).items() if key not in seen}
        seen.update(questions)
        yield problem, search.search(bench, problem, questions, search.unbuilt, late), len(seen)


def gpu_answers(problems: list[Problem], most: int, options: Any,
                late: Callable[[], bool]) -> Iterator[tuple[Problem, list[Outcome], int]]:
    """``emulated_answers`` on a GPU: problems that take the most time first; while one is measured, the next one's
    candidates are compiled."""
    from tritium.kernels.tuning.device import Bench

    workers = Workers(runtime.active().properties(0), options.jobs or os.cpu_count() or 1, most)
    try:
        problems = sorted(problems, key=weight, reverse=True)
        plans = [(problem, workers.questions(problem)) for problem in problems]
        bench, seen = Bench(), set[Key]()

        def started() -> Iterator[tuple[Problem, Questions, Any]]:
            for problem, future in plans:
                questions = {key: c for key, c in future.result().items() if key not in seen}
                seen.update(questions)
                if questions:
                    yield problem, questions, search.Built(workers, problem, questions)

        coming = started()
        now = next(coming, None)
        while now is not None and not late():
            after = next(coming, None)
            problem, questions, built = now
            yield problem, search.search(bench, problem, questions, built, late), len(seen)
            now = after
    finally:
        workers.stop()


def weight(problem: Problem) -> float:
    """Seconds, roughly, that a network spends on a problem."""
    if problem.family == "matmul":
        M, N, K = problem.shape
        moved, work = M * K + K * N + M * N, M * N * K
    elif problem.family == "conv":
        n, c, h, w, o, kernel, stride, _, groups = problem.shape
        pixels = n * h * w // stride ** 2
        moved, work = n * h * w * c + pixels * o, pixels * o * c // groups * kernel * kernel
    else:
        batch, heads, length, width, _ = problem.shape
        moved, work = 4 * batch * heads * length * width, 2 * batch * heads * length * length * width
    return problem.count * max(moved * 2 / 3e12, work * 2 / 5e14)


def dry(problems: list[Problem], most: int, options: Any) -> int:
    """List what would be tried."""
    real = not runtime.interpreting() and runtime.count() > 0
    properties = runtime.active().properties(0) if real else H100
    print(f"for {properties.name}{'' if real else ' (there is no GPU here)'}, at most {most} candidates a question")
    workers = Workers(properties, 1, most)
    seen: set[Key] = set()
    total = 0
    try:
        for problem, future in [(p, workers.questions(p)) for p in sorted(problems, key=weight, reverse=True)]:
            for key, candidates in future.result().items():
                if key not in seen:
                    seen.add(key)
                    total += len(candidates)
                    print(f"{problem}\n    {' '.join(key)}: {len(candidates)} candidates")
                    if options.verbose:
                        print("".join(f"      {list(c)}\n" for c in candidates), end="")
    finally:
        workers.stop()
    print(f"{len(problems)} problems, {len(seen)} questions, {total} candidates")
    return 0


# --- what is said ---

def line(problem: Problem, o: Outcome) -> str:
    """A question's outcome in words."""
    text = f"{problem}: {o.before:.1f} us"
    if o.choice is not None:
        text += f" -> {o.after:.1f} us ({o.after / o.before - 1:+.1%}) by {list(o.choice)}"
    else:
        text += ", the heuristics stay"
    dropped = f", {len(o.dropped)} left out" if o.dropped else ""
    wrong = sum(why == "wrong results" for why in o.dropped.values())
    return f"{text}; {o.tried} tried{dropped}{f' ({wrong} WRONG)' if wrong else ''}"


def summarize(found: list[tuple[Problem, Outcome]], asked: int, target: Path | None, say: Callable[..., None],
              before: str) -> None:
    """The last lines."""
    better = [o.before / o.after for _, o in found if o.choice is not None]
    gain = math.exp(sum(map(math.log, better)) / len(better)) if better else 1.0
    left = f" of {asked}" if asked > len(found) else ""
    say(f"{before}{len(found)}{left} questions, {len(better)} faster than the heuristics"
        + (f", by {gain:.3f} in the geometric mean" if better else ""))
    if target is not None and better:
        say(f"written to {target}")


def report(properties: Any, found: list[tuple[Problem, Outcome]]) -> dict[str, Any]:
    """Everything, for --json."""
    return {**table.header(properties), "outcomes": [
        {"problem": str(problem), "family": o.key[0], "key": o.key[1], "before": o.before, "after": o.after,
         "choice": o.choice, "tried": o.tried, "dropped": {str(list(c)): why for c, why in o.dropped.items()}}
        for problem, o in found]}
