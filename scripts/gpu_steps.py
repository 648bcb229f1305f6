"""The steps of ``gpu_check.py`` that look at the launch path: ``python scripts/gpu_steps.py STEP --out FILE``."""
# ruff: noqa: F821, UP037
from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import triton
import triton.language as tl

from tritium import cuda
from tritium.kernels import runtime
from tritium.kernels.array import DeviceArray
from tritium.kernels.runtime.launch import kernel
from tritium.kernels.runtime.memory import Block
from tritium.kernels.runtime.state import current
from tritium.kernels.triton.memory import empty, from_host, to_host

BF16 = np.dtype(ml_dtypes.bfloat16)


@kernel
def add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    tl.store(out + i, tl.load(x + i, mask=m, other=0) + tl.load(y + i, mask=m, other=0), mask=m)


@kernel
def scalars(out, n, a: "i64", b: "fp32", c: "fp64", d: "fp16", e: "u1", f: "i8"):
    i = tl.arange(0, 8)
    v = tl.where(i == 0, n, 0).to(tl.float64) + tl.where(i == 1, a, 0) + tl.where(i == 2, b, 0) + tl.where(i == 3, c, 0)
    v += tl.where(i == 4, d, 0).to(tl.float64) + tl.where(i == 5, e.to(tl.int32), 0)
    v += tl.where(i == 6, f.to(tl.int32), 0)
    tl.store(out + i, v)


@kernel
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m, n, k = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN), tl.arange(0, BK)
    left, right = a + m[:, None] * K + k[None, :], b + k[:, None] * N + n[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        x = tl.load(left, mask=(m < M)[:, None] & (k + start < K)[None, :], other=0.)
        y = tl.load(right, mask=(k + start < K)[:, None] & (n < N)[None, :], other=0.)
        acc = tl.dot(x, y, acc)
        left += BK
        right += BK * N
    tl.store(c + m[:, None] * N + n[None, :], acc.to(c.dtype.element_ty), mask=(m < M)[:, None] & (n < N)[None, :])


@kernel
def double(x, out, rows, columns, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [rows, columns], [columns, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [rows, columns], [columns, 1], [BLOCK, BLOCK])
    target.store([tl.program_id(0) * BLOCK, 0], source.load([tl.program_id(0) * BLOCK, 0]) * 2)


def sync() -> None:
    runtime.active().synchronize(current.device)


def per_call(f: Callable[[], Any], count: int, rounds: int = 5) -> float:
    """Microseconds of one call among many, until the device is done; the least of the rounds."""
    f()
    sync()
    least = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count):
            f()
        sync()
        least = min(least, time.perf_counter() - start)
    return 1e6 * least / count


def per_event(f: Callable[[], Any], rounds: int = 5) -> float:
    """Microseconds of one call by the device's clock; the least of the rounds."""
    f()
    least = float("inf")
    for _ in range(rounds):
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        start.record()
        f()
        end.record()
        end.synchronize()
        least = min(least, start.elapsed_time(end))
    return 1e3 * least


def about(small: bool) -> dict[str, Any]:
    """Names and versions."""
    versions = {}
    for name in ("triton", "cuda-core", "cuda-bindings", "numpy", "ml_dtypes", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    found = runtime.active().properties(0)
    about = {"device": found.name, "architecture": found.architecture, "memory": found.total_memory,
             "devices": runtime.active().device_count(), "multiprocessors": found.multi_processor_count,
             "shared_memory": found.max_shared_memory, "versions": versions, "python": platform.python_version(),
             "processors": os.cpu_count(), "driver": None}
    if not small:
        about["driver"] = runtime.active().driver.cuDriverGetVersion()[1]
    return about


def launch(small: bool) -> dict[str, Any]:
    """Results of launches: elementwise in each dtype, every scalar type, matrix products, scratch memory."""
    rng = np.random.default_rng(0)
    n = 1000 if small else 1_000_003
    for dtype in (np.float32, np.float16, BF16, np.float64, np.int8, np.int32, np.int64, np.uint8):
        for shift in (0, 1):  # aligned, and not
            x, y = (from_host((100 * rng.random(n + shift) - 30 * (np.dtype(dtype) != np.uint8)).astype(dtype))
                    for _ in range(2))
            out = empty((n + shift,), dtype)
            add.bind(BLOCK=1024)(-(-n // 1024), 1, 1, x[shift:], y[shift:], out[shift:], n)
            want = (to_host(x)[shift:] + to_host(y)[shift:]).astype(dtype)
            assert np.array_equal(to_host(out)[shift:].view(np.uint8), want.view(np.uint8)), (dtype, shift)
    out = empty((8,), "float64")
    scalars.bind()(1, 1, 1, out, -5, 2**40, 1.5, 0.1, 0.25, True, -3)
    assert to_host(out).tolist() == [-5, 2**40, 1.5, 0.1, 0.25, 1, -3, 0], to_host(out)
    times = {}
    m = 64 if small else 1024
    for dtype, stages in ((BF16, 3), (np.float16, 4)):
        a, b = (rng.standard_normal((m, m)).astype(dtype) for _ in range(2))
        c = empty((m, m), "float32")
        tile = 32 if small else 128
        variant = matmul.bind(BM=tile, BN=tile, BK=tile // 2, num_warps=8, num_stages=stages)
        da, db = from_host(a), from_host(b)
        grid = -(-m // tile)
        go = functools.partial(variant, grid, grid, 1, da, db, c, m, m, m)
        go()
        want = a.astype(np.float64) @ b.astype(np.float64)
        error = np.abs(to_host(c) - want).max() / np.abs(want).max()
        assert error < 1e-5, error
        times[f"matmul {np.dtype(dtype).name} {m}, us"] = per_event(go)
        times[f"matmul {np.dtype(dtype).name} error"] = float(error)
    x, out = from_host(rng.standard_normal((64, 64)).astype(np.float32)), empty((64, 64), "float32")
    double.bind(BLOCK=64)(1, 1, 1, x, out, 64, 64)
    assert np.array_equal(to_host(out), 2 * to_host(x))
    return times


def memory(small: bool) -> dict[str, Any]:
    """Microseconds of launches and allocations, bandwidths of copies."""
    count = 10 if small else 20000
    active, stream = runtime.active(), current.on(0)
    x, y, out = (empty((1000,), "float32") for _ in range(3))
    variant = add.bind(BLOCK=1024)
    found: dict[str, Any] = {"launch of an empty-handed kernel, us": per_call(
        lambda: variant(1, 1, 1, x, y, out, 1000), count)}
    for size in (512, 1 << 20, 1 << 26):
        found[f"Block of {size} bytes, made and freed, us"] = per_call(lambda size=size: Block(size), count)
        found[f"runtime alloc + free of {size} bytes, us"] = per_call(
            lambda size=size: active.free(active.alloc(size, 0, stream), 0, stream), count // 10 + 1)
    nbytes = 1 << 16 if small else 1 << 28
    a, b = Block(nbytes), Block(nbytes)
    host = np.zeros(nbytes, np.uint8)
    pinned = active.host_alloc(nbytes)
    for name, to, source in (("device to device", a.ptr, b.ptr), ("pinned to device", a.ptr, pinned),
                             ("device to pinned", pinned, a.ptr), ("pageable to device", a.ptr, host.ctypes.data),
                             ("device to pageable", host.ctypes.data, a.ptr)):
        us = per_call(lambda to=to, source=source: active.copy(to, source, nbytes, stream), 3, 3)
        found[f"{name}, GB/s"] = nbytes / us / 1e3
    sync()
    active.host_free(pinned)
    n = 1 << 10 if small else 1 << 26
    p, q, r = (empty((n,), "float32") for _ in range(3))
    us = per_event(lambda: variant(-(-n // 1024), 1, 1, p, q, r, n))
    found["elementwise kernel, GB/s"] = 12 * n / us / 1e3
    found["used"], found["reserved"] = cuda.memory_allocated(), cuda.memory_reserved()
    return found


def graph(small: bool) -> dict[str, Any]:
    """Capture and replay: results, memory that outlives its names, time of a kernel inside; random numbers; a training
    step with dropout and its optimizer, which must be the same bit for bit without the graph."""
    count = 4 if small else 1000
    x = from_host(np.ones(1000, np.float32))
    out = from_host(np.zeros(1000, np.float32))
    variant = add.bind(BLOCK=1024)
    variant(1, 1, 1, x, out, out, 1000)
    captured = cuda.CUDAGraph()
    with cuda.graph(captured):
        for _ in range(count):
            variant(1, 1, 1, x, out, out, 1000)
    captured.replay()
    sync()
    assert (to_host(out) == count + 1).all()
    us = per_event(captured.replay) / count
    inside = cuda.CUDAGraph()
    with cuda.graph(inside):
        t = empty((1000,), "float32")
        variant(1, 1, 1, x, x, t, 1000)
        result = empty((1000,), "float32")
        variant(1, 1, 1, t, x, result, 1000)
        del t
    empties = [empty((1000,), "float32") for _ in range(8)]  # must not fall on the graph's memory
    for e in empties:
        variant(1, 1, 1, x, x, e, 1000)
    inside.replay()
    sync()
    assert (to_host(result) == 3).all() and all((to_host(e) == 2).all() for e in empties)
    return {"kernel in a graph, us": us, **drawn(), **trained(small)}


def drawn() -> dict[str, Any]:
    """Replays draw what the same work would have drawn, from the default generator and another."""
    import tritium

    own = tritium.Generator(device="cuda")
    ones = tritium.ones(5000, device="cuda", requires_grad=True)

    def work() -> list[Any]:
        y = tritium.nn.functional.dropout(ones, 0.4)
        return [tritium.rand(1000, device="cuda"), tritium.randn(77, device="cuda", generator=own),
                tritium.randperm(3000, device="cuda"), y, tritium.autograd.grad(y.sum(), ones)[0]]

    work()
    captured = cuda.CUDAGraph()
    with cuda.graph(captured):
        held = work()
    for seed in (1, 2**63 + 9):
        runs = []
        for replayed in (False, True):
            tritium.manual_seed(seed)
            own.manual_seed(seed + 1)
            seen = []
            for i in range(4):
                if replayed and i != 2:
                    captured.replay()
                    seen.append([t.detach().cpu().numpy() for t in held])
                else:
                    seen.append([t.detach().cpu().numpy() for t in work()])
            runs.append(seen)
        for one, two in zip(*runs, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)), "a replay draws other numbers"
            assert np.array_equal(two[3], two[4]), "the mask of a replayed backward pass is another"
    return {"draws in a graph": "the same"}


def trained(small: bool) -> dict[str, Any]:
    """A convnet with batch norm, dropout, clipping and Adam: captured and not, and milliseconds a step of both."""
    import tritium
    from tritium import nn
    from tritium.nn.functional import cross_entropy

    batch, width, steps = (4, 4, 2) if small else (128, 64, 8)
    rng = np.random.default_rng(0)
    images = [tritium.tensor(rng.standard_normal((batch, 3, 16, 16)).astype("f4")) for _ in range(steps)]
    labels = [tritium.tensor(rng.integers(0, 10, batch)) for _ in range(steps)]

    def run(make: Callable[[Any], Any], captured: bool) -> tuple[list[float], dict[str, Any], float]:
        tritium.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * width, 10)).to("cuda")
        optimizer = make(net.parameters())
        x, y = images[0].cuda(), labels[0].cuda()

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(net(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            return loss

        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(2):
                step()
        cuda.current_stream().wait_stream(side)
        again: Callable[[], Any] = step
        if captured:
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                held = step()

            def again() -> Any:
                graph.replay()
                return held

        losses = []
        for image, label in zip(images, labels, strict=True):
            x.copy_(image)
            y.copy_(label)
            losses.append(again().item())
        state = {name: t.cpu().numpy() for name, t in net.state_dict().items()}
        sync()
        return losses, state, per_call(again, 2 if small else 200, 1 if small else 3) / 1e3

    def adam(params: Any) -> Any:
        return tritium.optim.Adam(params, lr=tritium.tensor(1e-3, device="cuda"), capturable=True)

    def sgd(params: Any) -> Any:
        return tritium.optim.SGD(params, lr=tritium.tensor(0.05, device="cuda"), momentum=0.9)

    found: dict[str, Any] = {}
    for name, make in (("Adam", adam), ("SGD", sgd)):
        plain, captured = run(make, False), run(make, True)
        assert plain[0] == captured[0], f"{name}: losses {plain[0]} without a graph, {captured[0]} with one"
        wrong = [key for key in plain[1] if not np.array_equal(plain[1][key], captured[1][key])]
        assert not wrong, f"{name}: a captured training step gives other {wrong}"
        found[f"training step with {name}, ms"], found[f"the same with {name} as a graph, ms"] = plain[2], captured[2]
    return found


def dlpack(small: bool) -> dict[str, Any]:
    """Order of streams and shared memory with PyTorch, both ways."""
    if small:
        return {"skipped": "needs a GPU"}
    try:
        import torch
    except ImportError:
        return {"skipped": "no PyTorch"}
    if not torch.cuda.is_available():
        return {"skipped": "PyTorch without CUDA"}
    import tritium

    rounds, n, wrong = 50, 1 << 22, 0
    mine, theirs = cuda.Stream(), torch.cuda.Stream()
    for i in range(rounds):
        with torch.cuda.stream(theirs):
            a = torch.zeros(n, device="cuda")
            for _ in range(20):
                a += 1  # long enough that a missing wait shows
            with cuda.stream(mine):
                b = tritium.from_dlpack(a)
                c = b + i
            back = torch.from_dlpack(c)
            wrong += int((back != 20 + i).sum().item())
    half = torch.arange(10, device="cuda", dtype=torch.bfloat16)
    assert tritium.from_dlpack(half).tolist() == list(range(10))
    assert torch.from_dlpack(tritium.from_dlpack(half)).data_ptr() == half.data_ptr()
    assert not wrong, f"{wrong} elements were read too early"
    return {"rounds": rounds, "wrong": wrong}


def numerics(small: bool) -> dict[str, Any]:
    """Errors against float64, and the same bits twice, of what users call."""
    import tritium

    rng = np.random.default_rng(1)
    m = 32 if small else 512
    found: dict[str, Any] = {}
    a, b = (rng.standard_normal((m, m)) for _ in range(2))
    for name in ("float32", "bfloat16", "float16"):
        for label, f, exact in (("matmul", lambda x, y: x @ y, lambda x, y: x @ y),
                                ("sum", lambda x, y: (x * x).sum(1), lambda x, y: (x * x).sum(1)),
                                ("softmax", lambda x, y: x.softmax(1),
                                 lambda x, y: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
                                ("exp", lambda x, y: x.exp(), lambda x, y: np.exp(x)),
                                ("erf gelu", lambda x, y: tritium.nn.functional.gelu(x), None)):
            try:
                x, y = (tritium.tensor(v, dtype=getattr(tritium, name), device="cuda") for v in (a, b))
                one, two = f(x, y), f(x, y)
                got = one.double().cpu().numpy()
                assert np.array_equal(got, two.double().cpu().numpy()), f"{label} {name}: two runs differ"
                if exact is not None:
                    want = exact(x.double().cpu().numpy(), y.double().cpu().numpy())
                    found[f"{label} {name}"] = float(np.abs(got - want).max() / np.abs(want).max())
            except NotImplementedError as error:
                found[f"{label} {name}"] = f"missing: {error}"
    return found


STEPS = {f.__name__: f for f in (about, launch, memory, graph, dlpack, numerics)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--out")
    parser.add_argument("--emulated", action="store_true")
    options = parser.parse_args()
    if options.emulated != runtime.active().emulated:
        raise SystemExit("TRITON_INTERPRET=1 goes with --emulated, and only with it")
    assert isinstance(empty((1,), "float32"), DeviceArray)
    result = {"triton": triton.__version__, **STEPS[options.step](options.emulated)}
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        Path(options.out).write_text(text)


if __name__ == "__main__":
    main()
