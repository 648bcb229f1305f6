"""Which candidate is taken: the search over one problem, and over many.

For each question that a problem asks (``table.find``) the candidates are compiled; those that spill registers where the
heuristics' choice does not, or do not fit, are left out; of the others, those whose results are right are timed, in
turn with the heuristics' choice. The fastest few are timed again, longer; the best of them is taken if it is faster
than the heuristics' by more than ``GAIN`` in the median of the rounds.
"""
from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tritium.kernels.tuning.planning import Code, Key
from tritium.kernels.tuning.problems import Problem
from tritium.kernels.tuning.table import Choice, Entry

GAIN = 0.02
FIRST, FINAL, FINALISTS = 3, 15, 4  # rounds with all candidates, with the last ones, and how many these are
Choices = dict[Key, Choice]


class Device(Protocol):
    """What a search asks of a device (``device.Bench``)."""

    def open(self, problem: Problem) -> None: ...
    def close(self) -> None: ...
    def right(self, choices: Choices) -> bool: ...
    def times(self, many: list[Choices], rounds: int) -> list[list[float]]: ...


@dataclass
class Outcome:
    """Of one question. ``before``, ``after``: microseconds of the problem by the heuristics and by ``choice``, which is
    None where the heuristics stay. ``tried``, ``dropped``: candidates timed, and left out, with the reasons."""

    key: Key
    before: float = 0.0
    after: float = 0.0
    choice: Choice | None = None
    tried: int = 0
    dropped: dict[Choice, str] = field(default_factory=dict)

    def entry(self, **more: Any) -> Entry | None:
        """What a table says of it."""
        if self.choice is None:
            return None
        return {"choice": list(self.choice), "us": round(self.after, 2), "before": round(self.before, 2), **more}


def search(device: Device, problem: Problem, questions: dict[Key, list[Choice]],
           codes: Callable[[Choices], Code], late: Callable[[], bool] = lambda: False) -> list[Outcome]:
    """The outcome of each question, in order. ``codes``: what candidates compile to; ``late``: whether to stop."""
    found: list[Outcome] = []
    taken: Choices = {}
    if not questions:
        return found
    codes({})  # compiled by another process, before this one would do it
    device.open(problem)
    try:
        for key, candidates in questions.items():
            if late():
                break
            outcome = one(device, key, candidates, taken, codes, late)
            if outcome.choice is not None:
                taken[key] = outcome.choice
            found.append(outcome)
        return found
    finally:
        device.close()


def one(device: Device, key: Key, candidates: list[Choice], taken: Choices, codes: Callable[[Choices], Code],
        late: Callable[[], bool]) -> Outcome:
    """The outcome of one question, beside choices that are taken already."""
    outcome = Outcome(key)
    usual = codes({})
    kept: list[Choices] = [taken]
    for choice in candidates:
        if late():
            break
        code = codes({key: choice})
        why = code.error or (f"{code.spills} spills" if code.spills > usual.spills else "")
        if not why:
            try:
                why = "" if device.right({**taken, key: choice}) else "wrong results"
            except RuntimeError as error:
                why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if why:
            outcome.dropped[choice] = why
        else:
            kept.append({**taken, key: choice})
    outcome.tried = len(kept) - 1
    times = device.times(kept, FIRST)
    order = sorted(range(1, len(kept)), key=lambda i: (ratio(times[i], times[0]), i))[:FINALISTS]
    outcome.before = outcome.after = statistics.median(times[0])
    if not order:
        return outcome
    last = [kept[0], *[kept[i] for i in order]]
    times = device.times(last, FINAL)
    ratios = [ratio(t, times[0]) for t in times]
    best = min(range(1, len(last)), key=lambda i: (ratios[i], i))
    outcome.before = outcome.after = statistics.median(times[0])
    if ratios[best] < 1 - GAIN:
        outcome.choice, outcome.after = last[best][key], outcome.before * ratios[best]
    return outcome


def ratio(times: list[float], base: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(t / b for t, b in zip(times, base, strict=True))


class Built:
    """``codes`` for a search: the candidates of a problem, being compiled by other processes since this was made."""

    def __init__(self, workers: Any, problem: Problem, questions: dict[Key, list[Choice]]) -> None:
        self.futures: dict[Any, Any] = {None: workers.build(problem, {})}
        for key, candidates in questions.items():
            for choice in candidates:
                self.futures[key, choice] = workers.build(problem, {key: choice})

    def __call__(self, choices: Choices) -> Code:
        try:
            code: Code = self.futures[next(iter(choices.items()), None)].result()
        except RuntimeError as error:
            return Code(error=str(error))
        return code

    def cancel(self) -> None:
        """Leave out what is not compiled yet."""
        for future in self.futures.values():
            future.cancel()


def unbuilt(choices: Choices) -> Code:
    """``codes`` where nothing is compiled: on the emulated device."""
    return Code()
