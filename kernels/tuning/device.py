"""Candidates on the device: whether their results are right, and how long they take.

A problem has several sets of operands, so that together they do not fit into the L2 cache; a candidate's calls on all
of them are captured into one graph. Before each replay the cache is flushed; the graphs of all candidates take turns.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tritium.kernels import runtime
from tritium.kernels.runtime import memory
from tritium.kernels.runtime.graphs import Graph, Pool
from tritium.kernels.runtime.state import current
from tritium.kernels.runtime.streams import Event, Stream
from tritium.kernels.triton import pointwise, reduce
from tritium.kernels.triton.memory import empty, to_host
from tritium.kernels.tuning import families, table
from tritium.kernels.tuning.problems import Problem
from tritium.kernels.tuning.table import Choice

Choices = dict[tuple[str, str], Choice]
SETS = 32  # of operands at most
LEAST = 200.0  # microseconds that a graph lasts at least
MEMORY = 0.25  # of the free memory, for sets of operands


class Bench:
    """A problem on the current device: ``open`` it, ask, ``close`` it."""

    def __init__(self) -> None:
        self.active = runtime.active()
        self.properties = self.active.properties(current.device)
        self.flushed = 0 if self.active.emulated else 2 * (self.properties.l2_cache or 64 << 20)
        self.stream = Stream()
        self.pool: Pool | None = None
        self.flush: Any = None
        self.sets: list[list[Any]] = []
        self.want: list[Any] = []
        self.close()

    def open(self, problem: Problem) -> None:
        """Make the operands and the result by the heuristics, which others are compared with."""
        self.close()
        self.problem = problem
        count = 1
        if self.flushed:
            each = families.moved(problem)
            free = self.active.memory_info(current.device)[0]
            count = int(max(1, min(SETS, -(-self.flushed // each), MEMORY * free // each)))
            self.flush = empty((self.flushed,), np.dtype(np.uint8))
            self.active.synchronize(current.device)
        with self.stream:
            self.sets = [families.operands(problem, seed=1000 * i) for i in range(count)]
            self.want = self._results({})
        self.pool = Pool(current.device)

    def close(self) -> None:
        """Forget the problem and its memory."""
        self.graphs: dict[Any, tuple[Graph, int]] = {}
        self.sets, self.want, self.flush = [], [], None
        self.pool = None
        memory.empty_cache(current.device)

    def questions(self, problem: Problem, most: int) -> dict[tuple[str, str], list[Choice]]:
        """What the problem asks the tables, with ``most`` candidates for each at most."""
        families.clear()
        with self.stream, table.forcing({}), table.asking() as asked:
            families.run(problem, families.operands(problem))
        found = {}
        for key, candidates in asked.items():
            found[key] = [c for c, _ in zip(candidates(), range(most), strict=False)]
        return found

    def _results(self, choices: Choices) -> list[Any]:
        """The problem's results, in memory that held nothing like them."""
        families.clear()
        for w in self.want:
            empty(w.shape, w.dtype).fill(float("nan"))
        with table.forcing(choices):
            return families.run(self.problem, self.sets[0])

    def right(self, choices: Choices) -> bool:
        """Whether results by these choices are those by the heuristics, within rounding. Raises what launches raise."""
        with self.stream:
            results = self._results(choices)
            return all(close(got, want, *families.tolerance(self.problem))
                       for got, want in zip(results, self.want, strict=True))

    def times(self, many: list[Choices], rounds: int) -> list[list[float]]:
        """Microseconds of a call by each of these choices in each round, in turn."""
        with self.stream:
            graphs = [self._graph(choices) for choices in many]
            found: list[list[float]] = [[] for _ in many]
            for _ in range(rounds):
                for (graph, calls), each in zip(graphs, found, strict=True):
                    each.append(self._replay(graph) / calls)
            return found

    def _replay(self, graph: Graph) -> float:
        """Microseconds of a replay, with nothing in the cache. While the cache is flushed, the host asks for the
        rest."""
        if self.flush is not None:
            self.active.memset(self.flush.ptr, 0, 4, self.flushed // 4, current.stream)
        start, end = Event(True), Event(True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return 1e3 * start.elapsed_time(end)

    def _graph(self, choices: Choices) -> tuple[Graph, int]:
        """The captured calls by these choices, and how many they are."""
        key = tuple(sorted(choices.items()))
        if key not in self.graphs:
            families.clear()
            with table.forcing(choices):
                for given in self.sets:  # kernels are loaded, and copies of weights made
                    families.run(self.problem, given)
                graph = self._captured(1)
                least = min(self._replay(graph) for _ in range(3)) / len(self.sets)
                repeated = 1 if self.active.emulated else int(max(1, min(64, LEAST // (least * len(self.sets)))))
                self.graphs[key] = graph if repeated == 1 else self._captured(repeated), repeated * len(self.sets)
        return self.graphs[key]

    def _captured(self, repeated: int) -> Graph:
        graph = Graph()
        self.active.synchronize(current.device)
        graph.begin(self.pool)
        try:
            for _ in range(repeated):
                for given in self.sets:
                    families.run(self.problem, given)
        except BaseException:
            graph.abort()
            raise
        graph.end()
        return graph


def close(got: Any, want: Any, rtol: float, atol: float) -> bool:
    """Whether |got - want| <= rtol * |want| + atol * max |want| everywhere, for arrays of one shape and dtype."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    g, w = (pointwise.cast(a, np.dtype(np.float32)) for a in (got, want))
    dims = tuple(range(w.ndim))
    largest = float(to_host(reduce.amax(pointwise.unaries["abs"](w), dims, False)))
    far = pointwise.unaries["logical_not"](pointwise.isclose(g, w, rtol, atol * largest))
    return largest < float("inf") and not int(to_host(reduce.sum(far, dims, False, np.dtype(np.int64))))
