"""Candidates, compiled by several processes that use no GPU.

In such a process the runtime is one that only plans: it has the properties of a device, addresses without memory
behind them, and launches that do nothing. So a problem runs through the same functions as on the device, and leaves its
machine code in the cache of compiled kernels, where the process that measures finds it.
"""
from __future__ import annotations

import ctypes
import importlib
import itertools
import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tritium.kernels import runtime
from tritium.kernels.runtime.base import Properties
from tritium.kernels.tuning import table
from tritium.kernels.tuning.problems import Problem
from tritium.kernels.tuning.table import Choice

Key = tuple[str, str]  # family and key of a table
DEVICE = 1 << 50  # the first address of the device's
H100 = Properties("NVIDIA H100 80GB HBM3", 9, 0, 80 << 30, 132, l2_cache=50 << 20)  # what is listed without a GPU


@dataclass(frozen=True)
class Code:
    """Of the kernels that a candidate compiles to: the most registers, all spills, the most shared memory (bytes);
    ``error``: why there are none."""

    registers: int = 0
    spills: int = 0
    shared: int = 0
    error: str = ""


class PlanningRuntime:
    """A device that is only planned for."""

    name = "planning"
    emulated = False
    target = "cuda"

    def __init__(self, properties: Properties) -> None:
        self.known = properties
        self.addresses = itertools.count(DEVICE, 1 << 40)
        self.numbers = itertools.count(2)
        self.loaded: list[Any] = []
        self.pinned: dict[int, Any] = {}
        self.byte = 0x7F

    def device_count(self) -> int:
        return 1

    def properties(self, device: int) -> Properties:
        return self.known

    def alloc(self, nbytes: int, device: int, stream: int) -> int:
        return next(self.addresses)

    def load(self, image: bytes, name: str, shared: int) -> int:
        self.loaded.append(SimpleNamespace(image=image, name=name, shared=shared, text="", num_warps=4))
        return next(self.numbers)

    def launch_kernel(self, *arguments: Any) -> tuple[int]:
        return (0,)

    def copy(self, dst: int, src: int, nbytes: int, stream: int) -> None:
        """What comes from the device is ``byte`` again and again: 0x7F, large numbers, passes for the place of a wrong
        index beyond the last one, 0 for that there is none."""
        if dst < DEVICE:
            ctypes.memset(dst, self.byte, nbytes)

    def host_alloc(self, nbytes: int) -> int:
        memory = (ctypes.c_char * max(nbytes, 1))()
        self.pinned[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def host_free(self, ptr: int) -> None:
        del self.pinned[ptr]

    def memory_info(self, device: int) -> tuple[int, int]:
        return self.known.total_memory, self.known.total_memory

    def reserved(self, device: int) -> tuple[int, int]:
        return 0, 0

    def default_stream(self, device: int) -> int:
        return 1

    def stream_device(self, stream: int, default: int) -> int:
        return 0

    def number(self, *arguments: Any) -> int:
        """A new stream or event."""
        return next(self.numbers)

    def done(self, *arguments: Any) -> bool:
        """Whether work is done."""
        return True

    def event_elapsed(self, start: int, end: int) -> float:
        return 1.0

    def nothing(self, *arguments: Any) -> None:
        """Free, wait: there is nothing to do."""

    stream_create = event_create = number
    stream_query = event_query = done
    set_device = free = memset = synchronize = trim = check = reset_peak = nothing
    stream_wait = stream_synchronize = event_record = event_synchronize = event_destroy = nothing


# --- in the processes ---

def begin(properties: Properties) -> None:
    """Make this process one that plans for a device. An interruption is for the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.pop("TRITON_INTERPRET", None)
    runtime._active = PlanningRuntime(properties)


def questions(problem: Problem, most: int) -> dict[Key, list[Choice]]:
    """What a problem asks the tables, with ``most`` candidates for each at most. Nothing is compiled."""
    from tritium.kernels.tuning import families

    compiler: Any = importlib.import_module("tritium.kernels.runtime.compiler")
    before, compiler.compile = compiler.compile, _nothing
    families.clear()
    try:
        with table.forcing({}), table.asking() as asked:
            families.run(problem, families.operands(problem, fill=False))
    finally:
        compiler.compile = before
    return {key: list(itertools.islice(candidates(), most)) for key, candidates in asked.items()}


def _nothing(*arguments: Any) -> Any:
    from tritium.kernels.runtime.compiler import Compiled

    return Compiled(b"", "nothing", (), 0, 4)


def build(problem: Problem, choices: dict[Key, Choice]) -> Code:
    """Compile a problem with these choices."""
    from tritium.kernels import report
    from tritium.kernels.runtime import launch
    from tritium.kernels.tuning import families

    active = runtime.active()
    active.loaded.clear()
    families.clear()
    for kernel in launch.registry.values():  # what was launched before in this process is compiled and loaded now
        kernel.bind.cache_clear()
    try:
        with table.forcing(choices):
            families.run(problem, families.operands(problem, fill=False))
        figures = report.read_nvidia(active.loaded, f"sm_{active.known.architecture}")
    except Exception as error:
        return Code(error=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return Code(max([f.registers for f in figures], default=0), sum([f.spills for f in figures]),
                max([f.shared for f in figures], default=0))


# --- in the process that asks ---

class Workers:
    """Processes that plan for a device. ``most``: candidates for a question.

    A compiler that crashes takes its process with it, and all work under way: what was lost is done again, alone."""

    def __init__(self, properties: Properties, jobs: int, most: int) -> None:
        self.properties, self.jobs, self.most = properties, jobs, most
        self.begin()

    def begin(self) -> None:
        """Start the processes."""
        before = os.environ.pop("TRITON_INTERPRET", None)
        try:
            self.pool = ProcessPoolExecutor(self.jobs, multiprocessing.get_context("spawn"), begin, (self.properties,))
            self.pool.submit(os.getpid)
        finally:
            if before is not None:
                os.environ["TRITON_INTERPRET"] = before

    def questions(self, problem: Problem) -> Task:
        return Task(self, questions, problem, self.most)

    def build(self, problem: Problem, choices: dict[Key, Choice]) -> Task:
        return Task(self, build, problem, choices)

    def submit(self, function: Any, arguments: tuple[Any, ...]) -> tuple[Any, Future[Any]]:
        """The pool that works on it, and its promise."""
        try:
            return self.pool, self.pool.submit(function, *arguments)
        except BrokenProcessPool:
            self.begin()
            return self.pool, self.pool.submit(function, *arguments)

    def stop(self) -> None:
        """End the processes, also in the middle of their work."""
        running = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()


class Task:
    """Something that the workers do. ``result`` raises RuntimeError where the process that did it alone crashed."""

    def __init__(self, workers: Workers, function: Any, *arguments: Any) -> None:
        self.workers, self.function, self.arguments = workers, function, arguments
        self.pool, self.future = workers.submit(function, arguments)

    def cancel(self) -> None:
        self.future.cancel()

    def result(self) -> Any:
        try:
            return self.future.result()
        except BrokenProcessPool:
            pass
        if self.workers.pool is self.pool:
            self.workers.begin()
        self.pool, self.future = self.workers.submit(self.function, self.arguments)
        try:
            return self.future.result()
        except BrokenProcessPool:
            self.workers.begin()
            raise RuntimeError("the process crashed") from None
