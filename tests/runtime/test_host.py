"""The emulated device: memory, copies, several devices, graphs."""
from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from tritium.kernels.runtime.base import OutOfDeviceMemory
from tritium.kernels.runtime.host import FILLED, HostRuntime


def at(ptr: int, count: int, dtype: Any = np.uint8) -> np.ndarray:
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(ptr), dtype)


def test_memory() -> None:
    host = HostRuntime()
    sizes = [1, 512, 1000, FILLED, FILLED + 1, 3 * FILLED]
    pieces = [host.alloc(n, 0, 1) for n in sizes]
    assert all(p % 256 == 0 for p in pieces)
    assert all((at(p, n) == 0xFF).all() for p, n in zip(pieces, sizes, strict=True) if n <= FILLED)
    starts, ends = host.ranges()
    assert starts.tolist() == sorted(pieces) and host.ranges()[0] is starts
    assert sorted((ends - starts).tolist()) == sizes and (starts[1:] >= ends[:-1]).all()
    assert host.reserved(0) == (sum(sizes), sum(sizes)) and host.memory_info(0)[0] == host.total - sum(sizes)
    host.free(pieces[2], 0, 1)
    assert pieces[2] not in host.ranges()[0] and pieces[2] not in host.live
    host.reset_peak(0)
    assert host.reserved(0) == (sum(sizes) - 1000,) * 2
    for p in pieces[:2] + pieces[3:]:
        host.free(p, 0, 1)
    assert not host.live and not host.holders and host.reserved(0)[0] == 0


def test_set_and_copy() -> None:
    host = HostRuntime()
    a, b = host.alloc(3 * FILLED, 0, 1), host.alloc(3 * FILLED, 0, 1)
    for width, value in ((1, 0xAB), (2, 0xABCD), (4, 0x89ABCDEF)):
        host.memset(a, value, width, 3 * FILLED // width, 1)
        assert (at(a, 3 * FILLED // width, f"u{width}") == value).all()
    host.copy(b, a, 1000, 1)
    assert (at(b, 1000) == at(a, 1000)).all()
    host.memset(a, 0, 1, 2 * FILLED + 77, 1)  # a part of the piece: whole pages and a rest
    assert not at(a, 2 * FILLED + 77).any() and (at(a + 2 * FILLED + 77, 4) != 0).all()
    host.memset(a + 4096, 7, 1, 10, 1)
    host.memset(a, 0, 4, 3 * FILLED // 4, 1)
    assert not at(a, 3 * FILLED).any()


def test_a_large_piece_takes_no_room_before_it_is_written() -> None:
    host = HostRuntime()
    host.total = 1 << 40
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    ptr = host.alloc(1 << 33, 0, 1)
    host.memset(ptr, 0, 4, 1 << 31, 1)
    at(ptr + (1 << 33) - 4, 1, np.int32)[:] = 5
    assert at(ptr + (1 << 32), 10).sum() == 0
    host.free(ptr, 0, 1)
    assert time.perf_counter() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 16  # KiB


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITIUM_EMULATED_DEVICES", "3")
    monkeypatch.setenv("TRITIUM_EMULATED_MEMORY", "10000")
    host = HostRuntime()
    assert host.device_count() == 3 and host.properties(2).total_memory == 10000
    a = host.alloc(9000, 0, 1)
    with pytest.raises(OutOfDeviceMemory):
        host.alloc(2000, 0, 1)
    host.alloc(9000, 1, 2)
    host.free(a, 0, 1)
    host.alloc(2000, 0, 1)
    assert len({host.default_stream(i) for i in range(3)} | {host.stream_create(1, 0)}) == 4


def test_captures() -> None:
    host = HostRuntime()
    s, t = host.stream_create(0, 0), host.stream_create(0, 0)
    done: list[str] = []
    assert not host.record(lambda: done.append("now"), s)
    host.capture_begin(s, "relaxed")
    assert host.record(lambda: done.append("a"), s) and not host.record(lambda: done.append("other"), t)
    event = host.event_create(0, False, False)
    host.event_record(event, s)
    host.stream_wait(t, event)  # t joins
    assert host.record(lambda: done.append("b"), t)
    for wrong in (lambda: host.stream_synchronize(s), lambda: host.stream_query(t), lambda: host.synchronize(0),
                  lambda: host.alloc(10, 0, s)):
        with pytest.raises(RuntimeError, match="operation not permitted when stream is capturing"):
            wrong()
    graph = host.capture_end(s)
    assert not done and not host.record(lambda: None, t)
    host.stream_wait(s, event)
    assert not host.captures
    host.graph_launch(graph, t)
    host.graph_launch(graph, t)
    assert done == ["a", "b", "a", "b"]
    host.graph_destroy(graph)
    assert not host.graphs


def test_the_device_of_a_process() -> None:
    code = """
import numpy as np
from tritium import cuda
from tritium.kernels.runtime.memory import Block
from tritium.kernels.triton.memory import from_host, to_device, to_host
assert cuda.is_available() and cuda.device_count() == 2 and cuda.is_bf16_supported()
x = from_host(np.arange(1000.0))
with cuda.device(1):
    y = to_device(x, 1)
    assert y.device == 1 and cuda.memory_allocated() == 8192 and (to_host(y) == np.arange(1000.0)).all()
try:
    Block(1 << 20)
except cuda.OutOfMemoryError as error:
    assert str(error).startswith("CUDA out of memory. Tried to allocate 1024.00 KiB. GPU 0 has a total capacity of "
                                 "976.56 KiB of which"), error
else:
    raise AssertionError
cycle = [Block(900000)]; cycle.append(cycle); del cycle
b = Block(900000, 1)
b = Block(900000)
a, e = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
a.record(); e.record(); cuda.synchronize(); assert a.elapsed_time(e) >= 0
del x, y, b
cuda.empty_cache()
assert cuda.memory_allocated(0) == cuda.memory_allocated(1) == cuda.memory_reserved(0) == 0
import os
pid = os.fork()  # a child may use the emulated device
if pid == 0:
    ok = (to_host(from_host(np.ones(3))) == 1).all()
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "TRITON_INTERPRET": "1", "TRITIUM_EMULATED_DEVICES": "2",
                               "TRITIUM_EMULATED_MEMORY": "1000000"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.cuda_only
def test_a_graph_of_kernels() -> None:
    from tritium import cuda
    from tritium.kernels.runtime import pinned
    from tritium.kernels.triton import memory as arrays

    cubed = _cubed()
    n = 300
    x = arrays.from_host(np.arange(n, dtype=np.float32))

    def work(x: Any) -> Any:
        square, out = arrays.empty((n,), np.float32), arrays.zeros((n,), np.float32)
        cubed(2, 1, 1, x, x, square, n)
        cubed(2, 1, 1, square, x, out, n)
        return out

    i = np.arange(n, dtype=np.float32)
    expected = i * i * i
    assert (arrays.to_host(work(x)) == expected).all()
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        out = work(x)
        temporary = arrays.empty((n,), np.float32)
        held = temporary.ptr
        del temporary
        assert arrays.empty((n,), np.float32).ptr == held
        host = pinned.empty((n,), np.float32)
        arrays.copy_to_host(host, out)
        with pytest.raises(RuntimeError, match="capturing"):
            arrays.to_host(out)
    g.replay()
    cuda.synchronize()
    assert (arrays.to_host(out) == expected).all() and (host == expected).all()
    arrays.copy_to_device(x, np.full(n, 3, np.float32))
    g.replay()
    assert (arrays.to_host(out) == 27).all() and (host == 27).all()
    del x  # the graph keeps what it reads
    g.replay()
    assert (arrays.to_host(out) == 27).all()
    g.reset()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        g.replay()
    assert (arrays.to_host(out) == 27).all()


def _cubed() -> Any:
    import triton.language as tl

    from tritium.kernels.runtime.launch import kernel

    globals()["tl"] = tl

    @kernel
    def multiply(x, y, out, n, B: tl.constexpr):  # type: ignore[no-untyped-def]
        i = tl.program_id(0) * B + tl.arange(0, B)
        m = i < n
        tl.store(out + i, tl.load(x + i, mask=m, other=0.0) * tl.load(y + i, mask=m, other=0.0), mask=m)

    return multiply.bind(B=256)
