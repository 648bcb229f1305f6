"""Kernels beside PyTorch's on one GPU: the device's time of one call, and the ratio, measured in turn in one run.

    python benchmarks/kernels_gpu.py [--json FILE] [--only WORD ...] [--emulated]

Each operation is captured several times into a graph, so that the host's time does not count; the least of the rounds.
GB/s: what the operation has to read and write at least. ``--emulated`` runs everything once, small, without PyTorch, on
the emulated device: no figures, only whether it runs.
"""
from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tritium

ROUNDS, MILLISECONDS = 7, 2.0  # a graph is made to last about this long


def operations(lib: Any, small: bool) -> dict[str, tuple[Callable[[], Any], float, float]]:
    """Name -> (a call, bytes that it moves at least, floating-point operations of a matrix product or 0)."""
    F = lib.nn.functional
    found: dict[str, tuple[Callable[[], Any], float, float]] = {}
    n = 1 << 10 if small else 1 << 26
    rows, columns = (4, 64) if small else (8192, 4096)

    def normal(*shape: int, dtype: Any) -> Any:
        return lib.randn(*shape, device="cuda", dtype=dtype)

    for name, dtype, size in (("fp32", lib.float32, 4), ("bf16", lib.bfloat16, 2)):
        x, y, flat = normal(n, dtype=dtype), normal(n, dtype=dtype), normal(rows, columns, dtype=dtype)
        half = normal(rows, columns, dtype=dtype).t()
        table: dict[str, tuple[Callable[[], Any], float]] = {
            "add": (lambda x=x, y=y: x + y, 3 * n), "add in place": (lambda x=x, y=y: x.add_(y, alpha=0.5), 3 * n),
            "relu": (lambda x=x: x.relu(), 2 * n), "exp": (lambda x=x: x.exp(), 2 * n),
            "gelu": (lambda x=x: F.gelu(x), 2 * n), "add row": (lambda a=flat: a + a[0], 2 * rows * columns),
            "copy transposed": (lambda a=half: a.contiguous(), 2 * rows * columns),
            "sum all": (lambda x=x: x.sum(), n), "sum rows": (lambda a=flat: a.sum(1), rows * columns),
            "sum columns": (lambda a=flat: a.sum(0), rows * columns),
            "argmax rows": (lambda a=flat: a.argmax(1), rows * columns),
            "var rows": (lambda a=flat: a.var(1), rows * columns),
            "softmax": (lambda a=flat: a.softmax(1), 2 * rows * columns),
            "log_softmax": (lambda a=flat: a.log_softmax(1), 2 * rows * columns),
            "layer_norm": (lambda a=flat: F.layer_norm(a, (columns,)), 2 * rows * columns),
            "cumsum rows": (lambda a=flat: a.cumsum(1), 2 * rows * columns),
            "normal_": (lambda x=x: x.normal_(), n), "dropout": (lambda y=y: F.dropout(y, 0.5), 2 * n)}
        found.update({f"{k} {name}": (f, float(elements * size), 0.0) for k, (f, elements) in table.items()})
        ids = lib.arange(rows, device="cuda") * 7 % rows
        found[f"index_select {name}"] = (lambda a=flat, i=ids: a.index_select(0, i), 2.0 * rows * columns * size, 0.0)
    for name, dtype in (("fp32", lib.float32), ("fp16", lib.float16), ("bf16", lib.bfloat16)):
        for m, k, p in ((64, 32, 64),) if small else ((4096, 4096, 4096), (8192, 1024, 1024), (256, 2048, 1000)):
            a, b = normal(m, k, dtype=dtype), normal(k, p, dtype=dtype)
            moved = float((m * k + k * p + m * p) * (4 if name == "fp32" else 2))
            found[f"matmul {m}x{k}x{p} {name}"] = (lambda a=a, b=b: a @ b, moved, 2.0 * m * k * p)
    return found


def microseconds(cuda: Any, f: Callable[[], Any]) -> float:
    """The device's time of one call."""
    def timed(g: Callable[[], Any]) -> float:
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        start.record()
        g()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    f()
    cuda.synchronize()
    count = max(1, min(200, math.ceil(MILLISECONDS / max(min(timed(f) for _ in range(3)), 1e-3))))
    graph = cuda.CUDAGraph()
    try:
        with cuda.graph(graph):
            for _ in range(count):
                f()
        run = graph.replay
    except (RuntimeError, NotImplementedError):  # it can not be captured
        cuda.synchronize()

        def run() -> None:
            for _ in range(count):
                f()
    run()
    return 1e3 * min(timed(run) for _ in range(ROUNDS)) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="operations whose name has one of these")
    parser.add_argument("--emulated", action="store_true")
    options = parser.parse_args()
    theirs: Any = None
    if not options.emulated:
        import torch

        theirs = torch
        torch.backends.cuda.matmul.allow_tf32 = False
    ours = operations(tritium, options.emulated)
    other = operations(theirs, False) if theirs else {}
    result: dict[str, Any] = {"device": tritium.cuda.get_device_name(), "operations": {}}
    print(f"{'microseconds':32s} {'tritium':>9s} {'torch':>9s} {'ratio':>6s} {'GB/s':>7s} {'Tflop/s':>8s}")
    for name, (f, moved, flops) in ours.items():
        if options.only and not any(word in name for word in options.only):
            continue
        entry: dict[str, Any] = {}
        try:
            if options.emulated:
                f()
                print(f"{name:32s} runs")
            else:
                entry["us"] = us = microseconds(tritium.cuda, f)
                entry["torch_us"] = reference = microseconds(theirs.cuda, other[name][0])
                entry.update(ratio=us / reference, gb_s=moved / us / 1e3, tflop_s=flops / us / 1e6)
                print(f"{name:32s} {us:9.1f} {reference:9.1f} {us / reference:6.2f} {moved / us / 1e3:7.0f} "
                      f"{flops / us / 1e6:8.1f}", flush=True)
        except Exception as error:
            entry["error"] = f"{type(error).__name__}: {error}"[:300]
            print(f"{name:32s} {entry['error']}", flush=True)
        result["operations"][name] = entry
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
