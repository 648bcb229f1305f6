"""Threads and workspaces for the NumPy kernels.

A kernel that is worth splitting cuts its work into tasks whose outputs do not overlap and hands them to ``run``. The
tasks are taken one after the other by the caller's thread and a small pool of Python threads; NumPy releases the
interpreter lock inside matmul, copies and element-wise loops. While tasks run, the BLAS library bundled with NumPy is
held to one thread: two levels of threads fight for the cores, and the barriers of BLAS collapse on a busy machine.

The list of tasks depends on shapes and on the number of threads, never on timing, and a task's result does not depend
on the thread that ran it: the same inputs give the same bits.

Handing the interpreter lock from thread to thread costs some 10 us, so tasks should spend their time in few, long
NumPy calls: loops of element-wise calls below some 50 us each gain nothing from a second thread.
"""

from __future__ import annotations

import os
import threading
from _queue import SimpleQueue
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from tritium.kernels.reference import quiet

ALIGNMENT = 64  # bytes: one AVX-512 register; a misaligned operand halves the speed of element-wise loops in cache
KEPT_BYTES = 96 << 20  # workspaces that one thread keeps between calls

# ------------------------------------------------------------------------------------------------ number of threads

_count: int | None = None


def _default_threads() -> int:
    text = os.environ.get("TRITIUM_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    if text.isdigit() and int(text) > 0:
        return int(text)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def get_num_threads() -> int:
    """How many threads a kernel may use: ``set_num_threads``, else TRITIUM_NUM_THREADS, else the cores we may use."""
    global _count
    if _count is None:
        _count = _default_threads()
    return _count


def set_num_threads(count: int) -> None:
    """Set the number of threads of every later kernel. Raises RuntimeError unless ``count`` is positive."""
    global _count
    if count <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    _count = count


# -------------------------------------------------------------------------------------------------- BLAS's own threads


class _Blas:
    """Getter and setter of the thread count in the BLAS that NumPy calls; None where it has none (Accelerate)."""

    NAMES = (
        "scipy_openblas_{}_num_threads64_",
        "scipy_openblas_{}_num_threads",
        "openblas_{}_num_threads64_",
        "openblas_{}_num_threads",
        "MKL_{}_Num_Threads",
    )

    CORES = ("SkylakeX", "Cooperlake", "SapphireRapids")  # kernel sets with code for small matrices (AVX-512)

    def __init__(self) -> None:
        self.get: Callable[[], int] | None = None
        self.set: Callable[[int], None] | None = None
        self.small_kernels = False  # products of up to 10^6 multiplications are done without packing
        for library in self._libraries():
            for name in self.NAMES:
                mkl = name.startswith("MKL")
                getter = getattr(library, name.format("Get_Max" if mkl else "get"), None)
                setter = getattr(library, name.format("Set" if mkl else "set"), None)
                if getter is not None and setter is not None:
                    setter.restype = None
                    self.get, self.set = getter, setter
                    core = getattr(library, name.replace("{}_num_threads", "get_corename"), None)
                    self.small_kernels = core is not None and _text(core) in self.CORES
                    return

    @staticmethod
    def _libraries() -> Any:
        import ctypes
        import glob
        from importlib import import_module

        # A handle of NumPy's core also finds the symbols of the libraries it is linked to, except on Windows.
        paths = [import_module("numpy._core._multiarray_umath").__file__]
        folder = os.path.dirname(np.__file__)
        paths += sorted(glob.glob(os.path.join(folder, os.pardir, "numpy.libs", "*openblas*")))
        for path in paths:
            try:
                yield ctypes.CDLL(path)
            except OSError:  # a library of that name that cannot be loaded: the next may do
                continue


def _text(function: Any) -> str:
    import ctypes

    function.restype = ctypes.c_char_p
    return (function() or b"").decode()


_blas: _Blas | None = None
_blas_lock = threading.Lock()
_blas_depth = 0
_blas_threads = 1


class one_blas_thread:
    """Context in which NumPy's BLAS uses the calling thread only. Nests, also across threads."""

    __slots__ = ()

    def __enter__(self) -> None:
        global _blas_depth, _blas_threads
        with _blas_lock:
            if _blas_depth == 0:
                library = blas()
                if library.get is not None and library.set is not None:
                    _blas_threads = library.get()
                    if _blas_threads != 1:
                        library.set(1)
            _blas_depth += 1

    def __exit__(self, *exc: object) -> None:
        global _blas_depth
        with _blas_lock:
            _blas_depth -= 1
            if _blas_depth == 0 and _blas_threads != 1 and _blas is not None and _blas.set is not None:
                _blas.set(_blas_threads)


def blas() -> _Blas:
    """What is known of NumPy's BLAS."""
    global _blas
    if _blas is None:
        _blas = _Blas()
    return _blas


# --------------------------------------------------------------------------------------------------------- the threads


class _Job:
    """Tasks to be done by whichever thread comes first."""

    __slots__ = ("body", "cpu", "done", "error", "left", "lock", "tasks")

    def __init__(self, body: Callable[..., None], tasks: Sequence[tuple[Any, ...]]) -> None:
        self.body = body
        self.tasks = deque(tasks)
        self.left = len(tasks)
        self.lock = threading.Lock()
        self.done = threading.Lock()
        self.done.acquire()
        self.error: BaseException | None = None
        self.cpu = _cpu()

    def work(self) -> None:
        """Take tasks until none is left to take."""
        while True:
            try:
                task = self.tasks.popleft()
            except IndexError:
                return
            try:
                if self.error is None:
                    self.body(*task)
            except BaseException as error:  # handed to the caller of ``run``
                self.error = error
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    self.done.release()


_local = threading.local()
_pool: SimpleQueue[_Job] = SimpleQueue()
_workers = 0
_pool_lock = threading.Lock()


def _cpu_reader() -> Callable[[], int]:
    """A function that tells on which CPU the calling thread runs; -1 where that is not known."""
    if not hasattr(os, "sched_setaffinity"):
        return lambda: -1
    import ctypes

    return getattr(ctypes.CDLL(None), "sched_getcpu", lambda: -1)


_cpu = _cpu_reader()


def _serve(pool: SimpleQueue[_Job]) -> None:
    quiet.begin()
    _local.busy = True
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    while True:
        job = pool.get()
        if job.left and job.cpu >= 0 and _cpu() == job.cpu and len(allowed) > 1:
            # Linux wakes a thread beside the one that woke it, and may leave both on one CPU for milliseconds.
            with suppress(OSError):  # our CPUs were taken away since
                os.sched_setaffinity(0, allowed - {job.cpu})
        job.work()
        del job  # or the arrays of the last job would live until the next


def run(body: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> None:
    """Call ``body(*task)`` for every task, on several threads, and return when all are done.

    Tasks must write to places of their own. One task, one thread, a call from inside a task, or a pool that another
    thread is using: everything runs here and now. The first error of a task is raised."""
    count = min(get_num_threads(), len(tasks))
    with one_blas_thread():
        if count <= 1 or getattr(_local, "busy", False) or not _pool_lock.acquire(blocking=False):
            for task in tasks:
                body(*task)
            return
        _local.busy = True
        try:
            _start(count - 1)
            job = _Job(body, tasks)
            for _ in range(count - 1):
                _pool.put(job)
            job.work()
            job.done.acquire()
        finally:
            _local.busy = False
            _pool_lock.release()
    if job.error is not None:
        raise job.error


def _start(count: int) -> None:
    global _workers
    while _workers < count:
        threading.Thread(target=_serve, args=(_pool,), name=f"tritium-{_workers}", daemon=True).start()
        _workers += 1


def _after_fork() -> None:
    """A forked child has none of its parent's threads, and locks in whatever state they were."""
    global _pool, _workers, _pool_lock, _blas_lock, _blas_depth
    _pool, _workers, _pool_lock, _blas_lock = SimpleQueue(), 0, threading.Lock(), threading.Lock()
    if _blas_depth and _blas is not None and _blas.set is not None:
        _blas.set(_blas_threads)
    _blas_depth = 0
    _local.busy = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def parts(length: int, count: int) -> list[tuple[int, int]]:
    """``range(length)`` cut into at most ``count`` stretches (start, stop) of nearly equal size."""
    count = max(1, min(count, length))
    return [(length * i // count, length * (i + 1) // count) for i in range(count)]


def blocks(N: int, rows: int, per_row: int, target: int, threads: int) -> list[tuple[int, int, int, int]]:
    """Blocks (n0, n1, y0, y1) of about ``target`` items, when a row of an image has ``per_row`` of them: several whole
    images, or stretches of rows of one image; as many as occupy the threads evenly. One block for little work."""
    total = N * rows * per_row
    if total * 2 <= target:
        return [(0, N, 0, rows)]
    count = -(-total // target)
    count = -(-count // threads) * threads
    if count <= N and (N % count == 0 or 4 * threads <= N):
        return [(a, b, 0, rows) for a, b in parts(N, count)]
    each = -(-count // N)
    while N * each % threads and each < rows and N * each < 4 * threads:
        each += 1
    return [(n, n + 1, a, b) for n in range(N) for a, b in parts(rows, each)]


# ------------------------------------------------------------------------------------------------------------- memory


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """``numpy.empty``, but large arrays begin at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    nbytes = prod(shape) * dtype.itemsize
    if nbytes < 1 << 14:
        return np.empty(shape, dtype)
    return _aligned(nbytes, shape, dtype)


def _aligned(nbytes: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % ALIGNMENT)


def scratch(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """A workspace of undefined content, kept by this thread under ``name`` until it asks for that name again.

    Fresh memory costs a page fault every 4 KB, so it is worth keeping; a thread keeps at most ``KEPT_BYTES``."""
    kept = _local.__dict__.setdefault("kept", {})
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    memory = kept.get(name)
    if memory is None or memory.nbytes < nbytes:
        kept.pop(name, None)
        _local.views = {}
        memory = _aligned(nbytes, (nbytes,), np.dtype(np.uint8))
        if nbytes + sum(m.nbytes for m in kept.values()) <= KEPT_BYTES:
            kept[name] = memory
        else:
            _local.spilled = True
    return np.ndarray(shape, dtype, memory)


def views(key: Any, make: Callable[[], Any]) -> Any:
    """``make()``, views of this thread's workspaces, remembered under ``key`` until a workspace moves.

    The thread that prepares its views holds the interpreter lock, and the others wait."""
    known = _local.__dict__.setdefault("views", {})
    found = known.get(key)
    if found is None:
        _local.spilled = False
        found = make()
        known = _local.views
        if len(known) > 200:
            known.clear()
        if not _local.spilled:
            known[key] = found
    return found


def release() -> None:
    """Forget the calling thread's workspaces."""
    _local.__dict__.pop("kept", None)
    _local.__dict__.pop("views", None)
