"""Tests of launching that ``test_launch.py`` runs in a process of their own, on the stand-in for the driver."""
# ruff: noqa: F821, UP037
from __future__ import annotations

import ctypes
import itertools
import struct
import sys
import threading
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl

from tritium import cuda
from tritium.kernels.array import DeviceArray, DeviceMismatch, NoKernel
from tritium.kernels.runtime.launch import integer_class, kernel
from tritium.kernels.runtime.memory import Block
from tritium.kernels.runtime.state import current
from tritium.kernels.triton.memory import empty

lib = ctypes.CDLL("libcuda.so.1")


def seen(name: str) -> int:
    return ctypes.c_ulong.in_dll(lib, "in_" + name).value


def recorded(count: int, launch: Any) -> list[int]:
    """The parameters that a launch hands to the driver, eight bytes each."""
    wanted = ctypes.c_int.in_dll(lib, "in_kernel_parameters")
    wanted.value = count
    try:
        launch()
    finally:
        wanted.value = 0
    return list((ctypes.c_uint64 * 64).in_dll(lib, "in_parameters"))[:count]


def as_type(mark: str, slot: int) -> Any:
    return struct.unpack_from(mark, struct.pack("Q", slot))[0]


def grid() -> list[int]:
    return list((ctypes.c_uint * 3).in_dll(lib, "in_grid")) + list((ctypes.c_uint * 3).in_dll(lib, "in_block"))


def only(variant: Any) -> Any:
    """What the one specialization of a variant was compiled for."""
    (_, types, aligned), = variant.variant.bounds
    return dict(types), aligned


@triton.jit
def plus(a, b):
    return a + b


@kernel
def add(x, y, out, n, OP: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    tl.store(out + i, OP(tl.load(x + i, mask=m, other=0), tl.load(y + i, mask=m, other=0)), mask=m)


@kernel
def numbers(out, n, a: "i64", b: "fp32", c: "fp64", d: "fp16", e: "u1", f: "i32", g: "i8", h: "u64", BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, (i + n + a + b + c + d + e + f + g + h).to(out.dtype.element_ty))


@kernel
def nothing(n: "i64", BLOCK: tl.constexpr):
    tl.device_assert(n >= 0)


@kernel
def double(x, out, rows, columns, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [rows, columns], [columns, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [rows, columns], [columns, 1], [BLOCK, BLOCK])
    target.store([tl.program_id(0) * BLOCK, 0], source.load([tl.program_id(0) * BLOCK, 0]) * 2)


@kernel
def greedy(a, b, out, BM: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr):
    m, k, n = tl.arange(0, BM), tl.arange(0, BK), tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    for _ in range(10):
        acc = tl.dot(tl.load(a + m[:, None] * BK + k[None, :]), tl.load(b + k[:, None] * BN + n[None, :]), acc)
        a += BM * BK
        b += BK * BN
    tl.store(out + m[:, None] * BN + n[None, :], acc)


def three(dtype: Any = "float32", size: int = 100) -> list[DeviceArray]:
    return [empty((size,), dtype) for _ in range(3)]


def fresh(**constants: Any) -> Any:
    """A variant that no other test has launched."""
    return add.bind(OP=plus, **{"BLOCK": 128, **constants})


counter = itertools.count(1)


def new() -> Any:
    return add.bind(OP=plus, BLOCK=32, num_stages=next(counter) + 10)


def test_parameters() -> None:
    x, y, out = three()
    variant = new()
    assert recorded(6, lambda: variant(4, 3, 2, x, y, out, 100)) == [x.ptr, y.ptr, out.ptr, 100, 0, 0]
    assert grid() == [4, 3, 2, 128, 1, 1]
    assert only(variant) == ({"x": "*fp32", "y": "*fp32", "out": "*fp32", "n": "i32"}, ("x", "y", "out"))
    wide = fresh(num_warps=8)
    wide(1, 1, 1, x, y, out, 100)
    assert grid() == [1, 1, 1, 256, 1, 1]


def test_numbers_of_every_type() -> None:
    out, = three()[:1]
    variant = numbers.bind(BLOCK=64)
    given = (-5, 2**40, 1.5, 0.1, 0.25, True, -7, -3, 2**64 - 1)
    got = recorded(12, lambda: variant(1, 1, 1, out, *given))
    assert got[0] == out.ptr
    assert tuple(map(as_type, ("i", "q", "f", "d", "e", "?", "i", "b", "Q"), got[1:10])) == given
    assert got[10:] == [0, 0]
    as_numpy = (np.int64(-5), np.int32(9), np.float32(1.5), np.float64(2), np.float16(0.5), np.True_, np.int8(1), 1, 1)
    got = recorded(12, lambda: variant(1, 1, 1, out, *as_numpy))
    assert tuple(map(as_type, ("i", "q", "f", "d", "e", "?"), got[1:7])) == (-5, 9, 1.5, 2, 0.5, True)
    assert len(variant.variant.bounds) == 1, "numbers with an annotation are never specialized"


def test_a_one_is_no_parameter() -> None:
    x, y, out = three()
    variant = new()
    assert recorded(5, lambda: variant(1, 1, 1, x, y, out, 1)) == [x.ptr, y.ptr, out.ptr, 0, 0]
    assert only(variant)[0].keys() == {"x", "y", "out"}
    assert recorded(6, lambda: variant(1, 1, 1, x, y, out, 17)) == [x.ptr, y.ptr, out.ptr, 17, 0, 0]


@pytest.mark.parametrize(("n", "kind", "divisible"), [
    (0, "i32", True), (16, "i32", True), (-16, "i32", True), (17, "i32", False), (-1, "i32", False),
    (2**31 - 1, "i32", False), (-2**31, "i32", True), (2**31, "i64", True), (2**31 + 1, "i64", False),
    (-2**31 - 1, "i64", False), (2**63 - 1, "i64", False), (True, None, None)])
def test_what_integers_are_specialized_on(n: int, kind: str, divisible: bool) -> None:
    x, y, out = three()
    variant = new()
    got = recorded(6 if kind else 5, lambda: variant(1, 1, 1, x, y, out, n))
    types, aligned = only(variant)
    assert types.get("n") == kind
    if kind:
        assert ("n" in aligned) == divisible
        assert as_type({"i32": "i", "i64": "q"}[kind], got[3]) == n
    (key,) = variant.variant.table
    assert key[-1] == integer_class(n), "what is written into the launcher and the function agree"


@pytest.mark.parametrize(("dtype", "kind"), [
    (bool, "i1"), (np.int8, "i8"), (np.int16, "i16"), (np.int32, "i32"), (np.int64, "i64"), (np.uint8, "u8"),
    (np.uint16, "u16"), (np.uint32, "u32"), (np.uint64, "u64"), (np.float16, "fp16"), (np.float32, "fp32"),
    (np.float64, "fp64"), (ml_dtypes.bfloat16, "bf16"), (np.longlong, "i64")])
def test_types_of_arrays(dtype: Any, kind: str) -> None:
    variant = new()
    variant(1, 1, 1, *three(dtype), 3)
    assert set(only(variant)[0].values()) == {"*" + kind, "i32"}


def test_alignment_of_each_array() -> None:
    x, y, out = three()
    variant = new()
    for arrays, aligned in (((x, y, out), ("x", "y", "out")), ((x[1:], y, out), ("y", "out")),
                            ((x, y[3:], out[2:]), ("x",)), ((x[4:], y[8:], out[12:]), ("x", "y", "out"))):
        before = set(variant.variant.bounds)
        variant(1, 1, 1, *arrays, 7)
        found = set(variant.variant.bounds) - before
        assert [a for _, _, a in found] == ([aligned] if before == set() or aligned != ("x", "y", "out") else [])
    assert len(variant.variant.bounds) == 3


def test_the_second_launch_neither_compiles_nor_loads(monkeypatch: Any) -> None:
    x, y, out = three()
    variant = new()
    variant(1, 1, 1, x, y, out, 100)
    from tritium.kernels.runtime import compiler

    monkeypatch.setattr(compiler, "compile", None)
    loads, launches = seen("loads"), seen("launches")
    for n in (100, 99, 2, 1001):
        variant(1, 1, 1, x, y, out, n)
    assert (seen("loads"), seen("launches")) == (loads, launches + 4)
    assert add.bind(OP=plus, BLOCK=128) is add.bind(OP=plus, BLOCK=128)
    assert nothing.bind(BLOCK=1) is not nothing.bind(BLOCK=True)


def test_nothing_to_do() -> None:
    launches = seen("launches")
    for sizes in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        new()(*sizes, *three(), 0)
    assert seen("launches") == launches
    nothing.bind(BLOCK=2)(1, 1, 1, 5)
    assert seen("launches") == launches + 1


def test_refusals() -> None:
    x, y, out = three()
    for first in (True, False):  # before and after the first launch
        add_, numbers_ = new(), numbers.bind(BLOCK=16 if first else 64)
        if not first:
            add_(1, 1, 1, x, y, out, 3)
        with pytest.raises(TypeError, match="add: argument n is an array or an integer .*, got float"):
            add_(1, 1, 1, x, y, out, 3.0)
        with pytest.raises(OverflowError, match="argument n: 9223372036854775808 does not fit"):
            add_(1, 1, 1, x, y, out, 2**63)
        with pytest.raises(DeviceMismatch, match="cuda:0 and cpu"):
            add_(1, 1, 1, x, np.ones(3), out, 3)
        with pytest.raises(TypeError, match="argument y: pass the number in a 0-d array"):
            add_(1, 1, 1, x, np.array(3), out, 3)
        with pytest.raises(TypeError, match="argument y is an array or an integer"):
            add_(1, 1, 1, x, None, out, 3)
        with pytest.raises(NoKernel, match="complex64"):
            add_(1, 1, 1, x, empty((3,), "complex64"), out, 3)
        with pytest.raises(TypeError, match="takes 4 arguments|missing 1 required|takes 4 positional"):
            add_(1, 1, 1, x, y, out)
        good = [out, 3, 1, 1.0, 1.0, 1.0, True, 1, 1, 1]
        for place, value, error, words in (
                (2, 2**63, OverflowError, "argument a: .* does not fit into i64"),
                (3, 1e39, OverflowError, "argument b: .* does not fit into fp32"),
                (5, 1e6, OverflowError, "argument d: .* does not fit into fp16"),
                (7, 2**31, OverflowError, "argument f: .* does not fit into i32"),
                (9, -1, OverflowError, "argument h: .* does not fit into u64"),
                (2, 1.5, TypeError, r"argument a is a number \(i64\), got float"),
                (3, x, TypeError, r"argument b is a number \(fp32\), got DeviceArray"),
                (4, "1", TypeError, r"argument c is a number \(fp64\), got str")):
            with pytest.raises(error, match=words):
                numbers_(1, 1, 1, *good[:place], value, *good[place + 1:])
        numbers_(1, 1, 1, *good)
        with pytest.raises(ValueError, match="beyond"):
            raise new().variant.failed(1, (1, 65536, 1))
    with pytest.raises(TypeError, match=r"constants \['BLOCK', 'OP'\], given \['BLOCK'\]"):
        add.bind(BLOCK=3)
    with pytest.raises(TypeError, match="comes after a constexpr"):
        @kernel
        def wrong_order(x, B: tl.constexpr, n):
            pass
    with pytest.raises(TypeError, match="no type of a number"):
        @kernel
        def wrong_type(x: "f32"):
            pass
    with pytest.raises(RuntimeError, match="kernel add does not compile for sm_90"):
        add.bind(OP=plus, BLOCK=100)(1, 1, 1, x, y, out, 3)
    with pytest.raises(NotImplementedError, match="num_ctas"):
        fresh(num_ctas=2)(1, 1, 1, x, y, out, 3)


def test_a_refused_launch_leaves_the_variant_whole() -> None:
    x, y, out = three()
    variant = new()
    variant(1, 1, 1, x, y, out, 3)
    code = variant.__code__
    with pytest.raises(TypeError):
        variant(1, 1, 1, x, y, out, "3")
    variant(1, 1, 1, x, y, out, 3)
    assert variant.__code__ is code


def test_what_the_driver_says() -> None:
    x, y, out = three()
    variant = new()
    variant(1, 1, 1, x, y, out, 3)
    key, entry = next(iter(variant.variant.table.items()))
    from tritium.kernels import runtime

    code = runtime.active().driver.CUresult.CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
    variant.variant.table[key] = (lambda *a: (code,), *entry[1:])
    with pytest.raises(RuntimeError, match="CUDA error") as error:
        variant(1, 1, 1, x, y, out, 3)
    assert "launch_on_stand_in.add" in error.value.__notes__[0]


def test_more_shared_memory_than_there_is() -> None:
    a, b, out = (empty((1 << 20,), dtype) for dtype in ("bfloat16", "bfloat16", "float32"))
    with pytest.raises(RuntimeError, match="kernel greedy needs .* bytes of shared memory"):
        greedy.bind(BM=128, BK=128, BN=256, num_stages=5)(1, 1, 1, a, b, out)


def test_scratch_memory_of_a_launch() -> None:
    x, out = (empty((64, 64), "float32") for _ in range(2))
    variant = double.bind(BLOCK=32)
    first = recorded(6, lambda: variant(2, 1, 1, x, out, 64, 64))
    assert first[:4] == [x.ptr, out.ptr, 64, 64] and first[4] % 128 == 0 and first[4] != 0 and first[5] == 0
    held = cuda.memory_allocated()
    variant(2, 1, 1, x, out, 64, 64)
    assert cuda.memory_allocated() == held


def test_streams() -> None:
    x, y, out = three()
    variant = new()
    variant(1, 1, 1, x, y, out, 3)
    assert x.owner.others is None
    stream = cuda.Stream()
    with cuda.stream(stream):
        variant(1, 1, 1, x, y, out, 3)
        assert ctypes.c_void_p.in_dll(lib, "in_stream").value == stream.cuda_stream
    assert x.owner.others == y.owner.others == out.owner.others == {stream.cuda_stream}
    variant(1, 1, 1, x, y, out, 3)
    assert ctypes.c_void_p.in_dll(lib, "in_stream").value == current.stream


def test_devices() -> None:
    x, y, out = three()
    a, b, c = (empty((100,), "float32", 1) for _ in range(3))
    variant = new()
    variant(1, 1, 1, a, b, c, 3)
    assert ctypes.c_void_p.in_dll(lib, "in_stream").value == current.on(1)
    assert current.device == 0
    variant(1, 1, 1, x, y, out, 3)
    assert ctypes.c_void_p.in_dll(lib, "in_stream").value == current.on(0)
    assert {device for device, _, _ in variant.variant.bounds} == {0, 1}
    for arrays in ((a, y, out), (x, y, c)):
        with pytest.raises(DeviceMismatch, match="cuda:0 and cuda:1|cuda:1 and cuda:0"):
            variant(1, 1, 1, *arrays, 3)


def test_threads_share_no_parameters() -> None:
    variant = new()
    arrays = [three() for _ in range(4)]
    variant(1, 1, 1, *arrays[0], 3)
    key, entry = next(iter(variant.variant.table.items()))
    wrong: list[Any] = []

    def start(function: int, gx: int, *rest: Any) -> tuple[int]:
        addresses = (ctypes.c_uint64 * 4).from_address(rest[-2])
        look = lambda: [ctypes.c_uint64.from_address(a).value for a in addresses]
        before = look()
        time.sleep(0.0005)  # others run
        me = arrays[gx - 1]
        if look() != before or before != [*[a.ptr for a in me], 2 + gx * 16]:
            wrong.append((gx, before, look()))
        return (0,)

    def work(i: int) -> None:
        for _ in range(50):
            variant(i + 1, 1, 1, *arrays[i], 2 + (i + 1) * 16)

    for k in [k for k in variant.variant.table]:
        variant.variant.table[k] = (start, *entry[1:])
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(entry[4]) <= 5 and key in variant.variant.table


def test_a_new_thread_launches() -> None:
    x, y, out = three()
    variant = new()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            variant(1, 1, 1, x, y, out, 3)
        except BaseException as error:
            failed.append(error)

    launches = seen("launches")
    t = threading.Thread(target=work)
    t.start()
    t.join()
    assert not failed and seen("launches") == launches + 1


def test_capture() -> None:
    x, y, out = three()
    variant = new()
    variant(1, 1, 1, x, y, out, 3)
    launches, graph = seen("launches"), cuda.CUDAGraph()
    with cuda.graph(graph):
        variant(1, 1, 1, x, y, out, 3)
        variant(1, 1, 1, x, y, out, 3)
    assert seen("launches") == launches
    graph.replay()
    assert seen("launches") == launches + 2


def test_blocks_are_not_kept() -> None:
    x, y, out = three()
    variant = new()
    variant(1, 1, 1, x, y, out, 3)
    import weakref

    gone = weakref.ref(out.owner)
    assert isinstance(out.owner, Block)
    del out
    assert gone() is None


def test_pytorch_is_not_touched() -> None:
    """Last: after all of this."""
    assert "torch" not in sys.modules
