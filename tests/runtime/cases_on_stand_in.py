"""Tests of the CUDA runtime that ``test_cuda.py`` runs in a process of their own, on the stand-in for the driver."""
from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tritium import cuda
from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime import memory, pinned
from tritium.kernels.runtime.memory import LARGEST, Block
from tritium.kernels.runtime.state import current

lib = ctypes.CDLL("libcuda.so.1")


class Entry(ctypes.Structure):
    _fields_ = [("what", ctypes.c_char * 16), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def seen(name: str) -> int:
    return ctypes.c_ulong.in_dll(lib, "in_" + name).value


def log() -> list[tuple[str, int, int]]:
    n = ctypes.c_int.in_dll(lib, "in_logged").value
    return [(e.what.decode(), e.a, e.b) for e in (Entry * 4096).in_dll(lib, "in_log")[:n]]


def forget() -> None:
    ctypes.c_int.in_dll(lib, "in_logged").value = 0


@pytest.fixture(autouse=True)
def balance() -> Iterator[None]:
    """Every test gives back what it took."""
    gc.collect()
    cuda.init()
    cuda.empty_cache()
    before = cuda.memory_allocated(), seen("allocs") - seen("frees"), seen("graphs")
    forget()
    yield
    gc.collect()
    cuda.empty_cache()
    assert (cuda.memory_allocated(), seen("allocs") - seen("frees"), seen("graphs")) == before
    assert current.device == 0 and current.stream == cuda.default_stream().cuda_stream


def now() -> int:
    """The device whose context is current."""
    found = ctypes.c_int(-1)
    assert lib.cuCtxGetDevice(ctypes.byref(found)) == 0
    return found.value


def array(values: np.ndarray) -> DeviceArray:
    from tritium.kernels.triton.memory import from_host

    return from_host(values)


# --- memory ---

def test_a_block_is_used_again_on_its_stream_alone() -> None:
    a = Block(1000)
    first = a.ptr
    assert first % 256 == 0 and cuda.memory_allocated() % 512 == 0
    before = seen("allocs")
    del a
    b = Block(700)  # another size below 1024
    assert b.ptr == first and seen("allocs") == before
    del b
    with cuda.stream(cuda.Stream()):
        c = Block(1000)
        assert c.ptr != first
    assert Block(1000).ptr == first


def test_what_is_counted() -> None:
    start = cuda.memory_allocated()
    cuda.reset_peak_memory_stats()
    a, b = Block(1), Block(513)
    assert cuda.memory_allocated() - start == 512 + 1024
    del a
    assert cuda.memory_allocated() - start == 1024 and cuda.max_memory_allocated() - start == 1536
    assert cuda.memory_reserved() >= cuda.memory_allocated() and cuda.max_memory_reserved() > 0
    cuda.reset_peak_memory_stats()
    assert cuda.max_memory_allocated() - start == 1024
    free, total = cuda.mem_get_info()
    assert 0 < free < total
    assert "Allocated memory" in cuda.memory_summary()
    assert Block(0).ptr == 0
    del b


def test_large_blocks_and_too_many_go_back_to_the_pool() -> None:
    before = seen("frees")
    Block(LARGEST + 1)
    assert seen("frees") == before + 1
    held = [Block(LARGEST) for _ in range(memory.MOST // LARGEST + 1)]
    count = len(held)
    held.clear()
    assert seen("frees") == before + 1 + count


def test_memory_waits_for_every_stream_that_used_it() -> None:
    reader, other = cuda.Stream(), cuda.Stream()
    a = Block(LARGEST + 1)
    a.used_on(reader.cuda_stream)
    a.used_on(other.cuda_stream)
    a.used_on(reader.cuda_stream)
    a.used_on(current.stream)  # its own
    ptr = a.ptr
    forget()
    del a
    entries = log()
    assert [e[0] for e in entries] == ["record", "wait", "record", "wait", "free"]
    assert {entries[0][1], entries[2][1]} == {reader.cuda_stream, other.cuda_stream}
    for i in (0, 2):  # the owner waits for what was recorded on the reader
        assert entries[i + 1][1:] == (current.stream, entries[i][2])
    assert entries[4][1:] == (ptr, current.stream)


def test_out_of_memory_and_on() -> None:
    limit = ctypes.c_ulong.in_dll(lib, "in_limit")
    before = limit.value
    try:
        limit.value = seen("used") + (8 << 20)
        a = Block(3 << 20)
        Block(4 << 20)  # waits, and is given up below
        b = Block(5 << 20)
        assert cuda.memory_stats()["num_alloc_retries"] >= 1
        with pytest.raises(cuda.OutOfMemoryError, match=r"CUDA out of memory\. Tried to allocate 20\.00 MiB\. GPU 0 has a "
                           r"total capacity of .* of which .* is free\. Of the allocated memory 8\.00 MiB is allocated"):
            Block(20 << 20)
        assert issubclass(cuda.OutOfMemoryError, RuntimeError) and cuda.memory_stats()["num_ooms"] == 1
        del b
        c = Block(5 << 20)
        del a, c
    finally:
        limit.value = before


def test_collected_cycles_are_given_back_when_memory_is_short() -> None:
    limit = ctypes.c_ulong.in_dll(lib, "in_limit")
    before = limit.value
    try:
        limit.value = seen("used") + (8 << 20)
        cycle: list[object] = [Block(6 << 20)]
        cycle.append(cycle)
        del cycle
        Block(6 << 20)
    finally:
        limit.value = before


def test_two_devices() -> None:
    with cuda.device(1):
        assert cuda.current_device() == 1
        a = Block(1000)
        assert a.device == 1 and cuda.memory_allocated(1) == 1024
        stream = a.stream
    b = Block(1000, 1)
    assert (b.device, b.stream, b.home) == (1, stream, a.home) and current.device == 0
    assert stream != current.stream and cuda.current_stream(1).cuda_stream == stream
    del a, b
    assert cuda.memory_allocated(1) == 0 and now() == 0  # the context of the thread stays that of device 0
    c = Block(LARGEST + 1, 1)
    c.used_on(current.stream)  # an event of device 0 is waited for on device 1
    del c
    cuda.synchronize("cuda:1")
    assert now() == 0
    for wrong in (2, "cuda:7"):
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            cuda.set_device(wrong)
    cuda.set_device(-1)
    with cuda.device(-1):
        assert cuda.current_device() == 0


def test_threads() -> None:
    errors: list[BaseException] = []
    kept: list[Block] = []

    def work() -> None:
        try:
            with cuda.stream(cuda.Stream()):
                for i in range(300):
                    a, b = Block(512 * (i % 7 + 1)), Block(4096)
                    assert a.ptr != b.ptr
                    np.frombuffer((ctypes.c_uint8 * 4096).from_address(b.ptr), np.uint8)[:] = i % 256
            shared = [Block(2048) for _ in range(50)]  # on the stream of all threads
            assert len({b.ptr for b in shared}) == 50
            kept.append(Block(100))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors

    event = cuda.Event()
    event.record()

    def release() -> None:  # a thread that has no context
        try:
            event.synchronize()
            big = Block(LARGEST + 1)
            kept.clear()
            del big
        except BaseException as error:
            errors.append(error)

    t = threading.Thread(target=release)
    t.start()
    t.join()
    assert not errors


def test_copies() -> None:
    from tritium.kernels.triton import memory as arrays

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for source in (x, x.T, x[:, ::2], np.zeros((0, 3), np.int8), np.array(3.5), np.ones(1 << 19)):
        d = arrays.from_host(source)
        assert d.shape == source.shape and (arrays.to_host(d) == source).all()
    z = arrays.zeros((5,), np.int16)
    assert (arrays.to_host(z) == 0).all()
    with cuda.device(1):
        there = arrays.to_device(array(x), 1)
    assert there.device == 1 and (arrays.to_host(there) == x).all()


def test_small_copies_to_the_device_do_not_wait_for_it() -> None:
    before = seen("syncs")
    array(np.ones(1000))
    assert seen("syncs") == before
    array(np.ones(1 << 20))
    assert seen("syncs") == before + 1


# --- pinned memory ---

def test_pinned_memory() -> None:
    from tritium.kernels.triton import memory as arrays

    pinned.empty_cache()
    before = seen("host_allocs")
    a = pinned.empty((10, 20), np.float32)
    assert pinned.is_pinned(a) and pinned.is_pinned(a[1:, ::2].T) and not pinned.is_pinned(a.copy())
    assert a.shape == (10, 20) and a.dtype == np.float32 and a.flags.c_contiguous
    a[:] = 3
    d = arrays.from_host(a, non_blocking=True)
    address = a.ctypes.data
    del a
    again = pinned.pinned_empty(800)  # the stand-in's copies are done at once
    assert again.ctypes.data == address and seen("host_allocs") == before + 1
    out = pinned.empty((10, 20), np.float32)
    arrays.copy_to_host(out, d, non_blocking=True)
    cuda.current_stream().synchronize()
    assert (out == 3).all()
    assert pinned.pinned_empty(0).size == 0
    del again, out
    gc.collect()
    pinned.empty_cache()
    assert seen("host_allocs") == seen("host_frees")


def test_pinned_memory_is_not_used_again_before_its_copy_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from tritium.kernels.triton import memory as arrays

    a = pinned.pinned_empty(4096)
    address = a.ctypes.data
    monkeypatch.setattr(runtime.active(), "event_query", lambda event: False)
    d = arrays.from_host(a, non_blocking=True)
    del a
    b = pinned.pinned_empty(4096)
    assert b.ctypes.data != address
    events = seen("events")
    for _ in range(10):
        arrays.copy_to_device(d, b, non_blocking=True)
    assert seen("events") == events + 1
    monkeypatch.undo()
    c = pinned.pinned_empty(4096)
    assert c.ctypes.data == address
    del d


# --- streams and events ---

def test_streams_are_used_again() -> None:
    cuda.Stream()
    before = seen("streams")
    for _ in range(20):
        with cuda.stream(cuda.Stream()) as nothing:
            assert nothing is None
    assert seen("streams") == before
    a, b = cuda.Stream(), cuda.Stream(priority=-1)
    assert a != b and a == a and len({a, b, a}) == 2 and a.cuda_stream != b.cuda_stream
    assert str(a.device) == "cuda:0" and a.query() and a.__cuda_stream__() == (0, a.cuda_stream)
    a.synchronize()


def test_the_current_stream() -> None:
    default, s, t = cuda.default_stream(), cuda.Stream(), cuda.Stream(1)
    assert cuda.current_stream() == default
    with cuda.stream(s):
        assert cuda.current_stream() is s and current.stream == s.cuda_stream
        with cuda.stream(t):
            assert cuda.current_device() == 1 and cuda.current_stream() is t and cuda.current_stream(0) is s
        assert cuda.current_device() == 0 and cuda.current_stream() is s
        with cuda.stream(None):
            assert cuda.current_stream() is s
    assert cuda.current_stream() == default and cuda.current_stream(1) == cuda.default_stream(1)
    with s:
        assert cuda.current_stream() is s
    cuda.set_stream(s)
    handle = s.cuda_stream
    del s
    assert cuda.Stream().cuda_stream != handle  # the current stream stays held
    cuda.set_stream(default)


def test_events() -> None:
    before = seen("events")
    a, b = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    assert a.query() and seen("events") == before  # nothing recorded, nothing made
    with pytest.raises(ValueError, match="must be recorded"):
        a.elapsed_time(b)
    a.record()
    b.record(cuda.current_stream())
    b.synchronize()
    assert b.query() and a.elapsed_time(b) >= 0
    with pytest.raises(ValueError, match="enable_timing=True"):
        a.elapsed_time(cuda.Event())
    s = cuda.Stream()
    forget()
    s.wait_stream(cuda.current_stream())
    s.wait_event(a)
    assert [e[0] for e in log()] == ["record", "wait", "wait"] and log()[2][1:] == (s.cuda_stream, a.cuda_event)
    with pytest.raises(RuntimeError, match="Event device 0 does not match"):
        a.record(cuda.Stream(1))
    del a, b
    gc.collect()
    assert seen("events") == before


# --- graphs ---

def launch(stream: int | None = None) -> None:
    active = runtime.active()
    active.check(active.launch_kernel(active.load(b"image", "kernel", 0), 1, 1, 1, 32, 1, 1, 0, stream or current.stream,
                                      0, 0)[0])


def test_a_graph_owns_its_memory() -> None:
    from tritium.kernels.triton import memory as arrays

    x, y = array(np.full(1000, 1.0)), array(np.zeros(1000))
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        assert cuda.is_current_stream_capturing()
        scratch = Block(8000)
        ptr = scratch.ptr
        del scratch
        between = arrays.empty((1000,), np.float64)
        assert between.ptr == ptr  # used again inside the capture
        stream = current.stream
        x.owner.used_on(stream)
        runtime.active().copy(between.ptr, x.ptr, 8000, stream)
        runtime.active().copy(y.ptr, between.ptr, 8000, stream)
        home = g._graph.pool.stream
    assert ("waited", home) in [e[:2] for e in log()]  # the pool's memory is there
    assert not cuda.is_current_stream_capturing()
    assert (arrays.to_host(y) == 0).all()
    del between
    Block(8000)
    taken = [Block(8000) for _ in range(5)]
    assert ptr not in {b.ptr for b in taken}  # nobody else gets it
    g.replay()
    assert (arrays.to_host(y) == 1).all()
    arrays.copy_to_device(x, np.full(1000, 2.0))
    g.replay()
    assert (arrays.to_host(y) == 2).all() and seen("graph_launches") >= 2
    address = x.ptr
    del x  # the graph keeps it
    assert address not in {Block(8000).ptr for _ in range(3)}
    with pytest.raises(RuntimeError, match="already owns a captured graph"), cuda.graph(g):
        pass
    with cuda.stream(s := cuda.Stream()):
        g.replay()
    forget()
    g.reset()
    entries = [e[:2] for e in log()]  # what was kept waits for the last replay
    assert (("record", s.cuda_stream), ("wait", current.stream)) in zip(entries, entries[1:], strict=False)
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        g.replay()
    with cuda.graph(g):
        launch()
    before = seen("launches")
    g.replay()
    assert seen("launches") == before + 1


def test_memory_of_the_captured_stream_goes_to_the_graph() -> None:
    s = cuda.Stream()
    with cuda.stream(s):
        a = Block(LARGEST + 1)
        ptr = a.ptr
        g = cuda.CUDAGraph()
        g.capture_begin()
        launch()
        del a
        g.capture_end()
        assert ptr not in [e[1] for e in log() if e[0] == "free"]
    g.replay()
    forget()
    del g
    entries = [e[0] for e in log()]
    assert entries.count("free") == 1 and entries.index("wait") < entries.index("free")


def test_memory_that_the_captured_stream_used_before() -> None:
    s = cuda.Stream()
    a, b = Block(LARGEST + 1), Block(1000)
    a.used_on(s.cuda_stream)
    b.used_on(s.cuda_stream)
    ptr = b.ptr
    g = cuda.CUDAGraph()
    with cuda.graph(g, stream=s):
        launch()
        forget()
        del a, b
        assert not log()  # to record an event on s would make it a part of the graph
    assert Block(1000).ptr != ptr
    forget()
    g.reset()
    assert [e[0] for e in log()].count("free") == 2


def test_out_of_memory_inside_a_capture() -> None:
    limit = ctypes.c_ulong.in_dll(lib, "in_limit")
    before = limit.value
    s = cuda.Stream()
    try:
        limit.value = seen("used") + (8 << 20)
        with cuda.graph(g := cuda.CUDAGraph(), stream=s):
            Block(1 << 20)
            with pytest.raises(cuda.OutOfMemoryError):
                Block(8 << 20)
            launch()
        g.replay()
        with cuda.stream(s):
            Block(6 << 20)  # waits on s
            h = cuda.CUDAGraph()
            h.capture_begin()
            with pytest.raises(cuda.OutOfMemoryError):
                Block(8 << 20)
            h.capture_end()
        assert not [e for e in log() if e[0] == "error"]
    finally:
        limit.value = before


def test_graphs_share_a_pool() -> None:
    pool = cuda.graph_pool_handle()
    g, h = cuda.CUDAGraph(), cuda.CUDAGraph()
    with cuda.graph(g, pool=pool):
        a = Block(5000)
        ptr = a.ptr
        del a
    with cuda.graph(h, pool=g.pool()):
        assert Block(5000).ptr == ptr
    out = None
    with cuda.graph(k := cuda.CUDAGraph()):
        out = Block(5000)
    del k
    gc.collect()
    before = seen("frees")
    assert out.ptr
    del out  # the graph's memory goes with the last block that needs it
    assert seen("frees") == before + 1


def test_what_a_graph_draws() -> None:
    """Kernels get the address of seed and offset, which each replay writes before."""
    from tritium.kernels.philox import Stream

    a, b = Stream(5), Stream(6)
    a.take(9)
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        taken = [a.take(10), b.take(1), a.take(3)]
        launch()
    assert [offset for _, offset in taken] == [1, 1, 13] and taken[0][0] == taken[2][0] != taken[1][0]
    assert (a.offset, b.offset) == (12, 0)  # the capture draws nothing
    held = [(ctypes.c_uint64 * 2).from_address(seed) for seed, _ in taken[:2]]

    def replay() -> list[list[int]]:
        g.replay()
        return [list(one) for one in held]

    assert replay() == [[5, 12], [6, 0]] and (a.offset, b.offset) == (28, 4)
    assert replay() == [[5, 28], [6, 4]]
    a.seed(2**63 + 7)
    b.offset = 2**40
    assert replay() == [[2**63 + 7, 0], [6, 2**40]]
    a.take(1)
    with cuda.stream(cuda.Stream()):
        assert replay() == [[2**63 + 7, 20], [6, 2**40 + 4]]
    with cuda.graph(cuda.CUDAGraph()), pytest.raises(RuntimeError, match="generator of cuda:1"):
        Stream(1, 1).take(1)


def test_what_is_done_outside_of_a_capture() -> None:
    """A table is copied once, on the stream of the graph's memory; the graph keeps what its work uses."""
    from tritium.kernels.runtime.graphs import outside
    from tritium.kernels.triton import memory as arrays
    from tritium.kernels.triton.optimizer_tables import sent

    with outside():
        assert current.capture is None
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        captured, graph = current.stream, current.capture
        table = sent(np.arange(5), 0)
        with outside():
            assert current.stream == graph.pool.stream != captured and current.capture is None
        assert current.stream == captured and current.capture is graph
        table.owner.used_on(captured)
        address = table.ptr
        launch()
    assert (arrays.to_host(table) == np.arange(5)).all()
    arrays.copy_to_device(table, np.zeros(5, np.int64))
    g.replay()
    assert not arrays.to_host(table).any()
    del table
    taken = [Block(40) for _ in range(4)]
    assert address not in {b.ptr for b in taken}


def test_what_can_not_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    from tritium.kernels.triton import memory as arrays

    x = array(np.ones(4))
    event = cuda.Event()
    event.record()
    s = cuda.Stream()
    g = cuda.CUDAGraph()
    held = pinned.empty((4,), np.float64)
    with cuda.graph(g):
        for wrong in (cuda.synchronize, cuda.empty_cache, event.synchronize, s.synchronize,
                      cuda.current_stream().query, lambda: arrays.to_host(x), lambda: arrays.from_host(np.ones(4)),
                      x.item, lambda: cuda.CUDAGraph().capture_begin()):
            with pytest.raises(RuntimeError, match="capturing|captured"):
                wrong()
        arrays.copy_to_host(held, x)  # pinned: a part of the graph
        launch()
    held[:] = 0
    g.replay()
    assert (held == 1).all()
    with pytest.raises(RuntimeError, match="non-default stream"):
        cuda.CUDAGraph().capture_begin()
    with pytest.raises(RuntimeError, match="without capture_begin"):
        g.capture_end()
    with pytest.raises(ZeroDivisionError), cuda.graph(cuda.CUDAGraph()):
        1 / 0  # noqa: B018
    assert not cuda.is_current_stream_capturing()
    with pytest.raises(ValueError, match="capture_error_mode"), cuda.graph(cuda.CUDAGraph(), capture_error_mode="loose"):
        pass
    spoilt = cuda.CUDAGraph()
    with monkeypatch.context() as patch:
        patch.setattr(runtime.active(), "capture_end", lambda s: lib.cuStreamEndCapture(
            ctypes.c_void_p(s), ctypes.byref(ctypes.c_void_p())) or runtime.active().check(900))
        with pytest.raises(RuntimeError, match="CUDA error"), cuda.graph(spoilt):
            Block(100)
    with cuda.graph(spoilt):
        launch()
    ctypes.c_ulong.in_dll(lib, "in_graphs").value -= 1  # the one that was lost here


# --- kernels, errors ---

def test_load_and_launch() -> None:
    active = runtime.active()
    function = active.load(b"image", "kernel", 100_000)
    assert ("attribute", 8, 100_000) in log()
    before = seen("launches")
    code = active.launch_kernel(function, 3, 2, 1, 128, 1, 1, 100_000, current.stream, 0, 0)[0]
    active.check(code)
    assert seen("launches") == before + 1 and list((ctypes.c_uint * 3).in_dll(lib, "in_grid")) == [3, 2, 1]
    with pytest.raises(RuntimeError, match="needs 300000 bytes of shared memory, but a block on GPU 0 .* can have 232448"):
        active.load(b"image", "kernel", 300_000)
    with pytest.raises(RuntimeError, match="CUDA error"):
        active.load(b"image", "missing", 0)


def test_errors_in_words() -> None:
    ctypes.c_int.in_dll(lib, "in_fail_next").value = 700
    with pytest.raises(RuntimeError, match="CUDA error: an illegal memory access was encountered\nCUDA kernel errors"):
        cuda.synchronize()
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        cuda.synchronize("cpu")


def test_questions() -> None:
    assert cuda.is_available() and cuda.device_count() == 2 and cuda.is_initialized() and cuda.is_bf16_supported(False)
    assert cuda.get_device_name() == "Stand-in" and cuda.get_device_capability(1) == (9, 0)
    p = cuda.get_device_properties("cuda:1")
    assert (p.multi_processor_count, p.warp_size, p.max_shared_memory, p.registers) == (132, 32, 232448, 65536)
    assert p.total_memory > 1 << 30 and p.L2_cache_size == 50 << 20 and p.architecture == 90
    cuda.manual_seed(3)
    cuda.manual_seed_all(4)
    assert [g.initial_seed() for g in cuda.default_generators] == [4, 4] == [cuda.initial_seed()] * 2
    from tritium import accelerator

    assert str(accelerator.current_accelerator()) == "cuda" and accelerator.current_device_index() == 0
    with accelerator.device_index(1):
        assert accelerator.current_device_index() == 1
