"""Threads and workspaces of the NumPy kernels."""

import os
import threading

import numpy as np
import pytest

from tritium.kernels.reference import parallel


@pytest.fixture(autouse=True)
def two_threads():
    before = parallel.get_num_threads()
    parallel.set_num_threads(2)
    yield
    parallel.set_num_threads(before)


def test_every_task_once():
    done = []
    parallel.run(lambda i: done.append(i), [(i,) for i in range(50)])
    assert sorted(done) == list(range(50))
    parallel.run(lambda: done.append(-1), [])
    assert -1 not in done


def test_error_reaches_the_caller():
    def body(i):
        if i == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        parallel.run(body, [(i,) for i in range(8)])
    parallel.run(body, [(0,), (1,)])  # the pool still works


def test_nested_and_concurrent():
    """A task may call ``run``, and so may several threads at a time: the work is done where it cannot be shared."""
    done = []

    def outer(i):
        parallel.run(lambda j: done.append((i, j)), [(j,) for j in range(4)])

    callers = [threading.Thread(target=parallel.run, args=(outer, [(k * 10 + i,) for i in range(4)])) for k in range(4)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert len(done) == len(set(done)) == 64


def test_blas_is_put_back():
    blas = parallel._Blas()
    if blas.get is None:
        pytest.skip("this BLAS has no thread count")
    before, seen = blas.get(), []
    parallel.run(lambda i: seen.append(blas.get()), [(i,) for i in range(4)])
    with parallel.one_blas_thread(), parallel.one_blas_thread():
        seen.append(blas.get())
    assert set(seen) == {1} and blas.get() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork():
    """A child of fork has no threads of its parent and must start its own."""
    parallel.run(lambda i: None, [(i,) for i in range(4)])
    child = os.fork()
    if not child:
        done = []
        try:
            parallel.run(lambda i: done.append(i), [(i,) for i in range(6)])
        finally:
            os._exit(0 if len(done) == 6 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_number_of_threads():
    parallel.set_num_threads(3)
    assert parallel.get_num_threads() == 3
    with pytest.raises(RuntimeError, match="positive"):
        parallel.set_num_threads(0)


def test_scratch():
    a = parallel.scratch("test", (100, 10), np.float64)
    assert a.shape == (100, 10) and a.__array_interface__["data"][0] % 64 == 0
    assert np.shares_memory(a, parallel.scratch("test", (50,), np.float32))
    assert not np.shares_memory(a, parallel.scratch("other", (50,), np.float32))
    big = parallel.scratch("big", (parallel.KEPT_BYTES + 1,), np.uint8)
    assert not np.shares_memory(big, parallel.scratch("big", (10,), np.uint8))
    parallel.release()


def test_empty():
    assert parallel.empty((64, 1024), np.float32).__array_interface__["data"][0] % 64 == 0
    assert parallel.empty((0, 5), np.float32).shape == (0, 5)


@pytest.mark.parametrize(
    "n,rows,per_row,target,threads", [(8, 14, 14, 200, 2), (1, 7, 7, 16, 4), (32, 4, 4, 100, 3), (3, 56, 56, 500, 2)]
)
def test_blocks(n, rows, per_row, target, threads):
    seen = np.zeros((n, rows), int)
    for n0, n1, y0, y1 in parallel.blocks(n, rows, per_row, target, threads):
        assert n1 - n0 == 1 or (y0, y1) == (0, rows)
        seen[n0:n1, y0:y1] += 1
    assert (seen == 1).all()
