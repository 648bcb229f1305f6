"""Whole networks beside PyTorch's on one GPU: features of a frozen ResNet, and training steps of ResNet-50.

    python benchmarks/gpu_networks.py [--json FILE] [--only WORD ...] [--seconds N] [--emulated | --compile]

Both sides have the same weights and images, in channels_last. Features: tritium's blocks are one kernel for each
convolution, and the forward pass is replayed as a graph; PyTorch runs eagerly (its graph is measured too, for
comparison). Training: autocast to bfloat16 with float32 parameters, SGD with momentum; both eagerly, and both as a
graph of the whole step. Peak memory is that of the tensors.
"""
from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gpu_timing import alive, missing, options_of, planned, torch

import tritium

ROUNDS = 5


def network(lib: Any, name: str) -> Any:
    """torchvision's resnet18 or resnet50, by one library's ``nn``, on the CPU."""
    if lib is tritium:
        return getattr(tritium.models, name)()
    nn, bottleneck = lib.nn, name == "resnet50"

    class Block(nn.Module):
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            out = width * (4 if bottleneck else 1)
            sizes = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
            channels = [inputs, *[width] * (len(sizes) - 1), out]
            for i, (kernel, step) in enumerate(sizes, 1):
                conv = nn.Conv2d(channels[i - 1], channels[i], kernel, step, kernel // 2, bias=False)
                setattr(self, f"conv{i}", conv)
                setattr(self, f"bn{i}", nn.BatchNorm2d(channels[i]))
            self.count, self.relu, self.downsample = len(sizes), nn.ReLU(inplace=True), None
            if stride > 1 or inputs != out:
                self.downsample = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out))

        def forward(self, x: Any) -> Any:
            out = x
            for i in range(1, self.count + 1):
                out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
                if i < self.count:
                    out = self.relu(out)
            out += x if self.downsample is None else self.downsample(x)
            return self.relu(out)

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
            inputs = 64
            for i, blocks in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
                row = []
                for j in range(blocks):
                    row.append(Block(inputs, 64 << i, 2 if i and not j else 1))
                    inputs = (64 << i) * (4 if bottleneck else 1)
                setattr(self, f"layer{i + 1}", nn.Sequential(*row))
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(inputs, 1000)

        def forward(self, x: Any) -> Any:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(lib.flatten(self.avgpool(x), 1))

    return ResNet()


def weights(name: str) -> dict[str, np.ndarray]:
    """Seeded weights, with batch norms that keep activations at one size."""
    rng = np.random.default_rng(0)
    found = {}
    for key, value in network(tritium, name).state_dict().items():
        shape = tuple(value.shape)
        if len(shape) > 1:
            found[key] = (rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
        elif key.endswith("num_batches_tracked"):
            found[key] = np.zeros(shape, np.int64)
        else:  # a residual adds little: depth does not multiply the activations
            small = 0.2 if key.endswith(("bn3.weight", "bn2.weight")) else 1.0
            one = key.endswith(("running_var", "weight"))
            found[key] = np.full(shape, small if key.endswith("weight") else float(one), np.float32)
    return found


class Side:
    """One library's network on the device, with images and labels."""

    def __init__(self, lib: Any, name: str, batch: int, size: int, dtype: str) -> None:
        self.lib = lib
        kind = getattr(lib, dtype)
        net = network(lib, name)
        net.load_state_dict({k: lib.from_numpy(np.array(v)) for k, v in weights(name).items()})
        rng = np.random.default_rng(1)
        self.net = net.to(device="cuda", dtype=kind, memory_format=lib.channels_last)
        images = lib.from_numpy(rng.standard_normal((batch, 3, size, size), np.float32))
        self.x = images.to(device="cuda", dtype=kind).contiguous(memory_format=lib.channels_last)
        self.y = lib.from_numpy(rng.integers(0, 1000, batch)).to("cuda")
        self.stream = lib.cuda.Stream()

    def features(self) -> Callable[[], Any]:
        """A call that computes the features before the last layer."""
        lib, net, x = self.lib, self.net.eval(), self.x
        net.fc = lib.nn.Identity()

        def run() -> Any:
            with lib.no_grad():
                return net(x)

        return run

    def step(self) -> Callable[[], Any]:
        """A call that makes a training step and returns the loss."""
        lib, net = self.lib, self.net.train()
        optimizer = lib.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

        def run() -> Any:
            optimizer.zero_grad(set_to_none=True)
            with lib.autocast("cuda", dtype=lib.bfloat16):
                loss = lib.nn.functional.cross_entropy(net(self.x), self.y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return run

    def graph(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """The call as a graph; what it returned while it was captured is returned again."""
        cuda = self.lib.cuda
        self.stream.wait_stream(cuda.current_stream())
        with cuda.stream(self.stream):
            for _ in range(3):
                call()
        cuda.synchronize()
        captured = cuda.CUDAGraph()
        with cuda.graph(captured, stream=self.stream):
            out = call()

        def replay() -> Any:
            captured.replay()
            return out

        return replay

    def seconds(self, call: Callable[[], Any], calls: int) -> float:
        """Of one call, by the clock on the wall."""
        self.lib.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        self.lib.cuda.synchronize()
        return (time.perf_counter() - start) / calls

    def peak(self, call: Callable[[], Any]) -> int:
        """Bytes that tensors hold at once at most during a call."""
        self.lib.cuda.synchronize()
        self.lib.cuda.reset_peak_memory_stats()
        call()
        self.lib.cuda.synchronize()
        return int(self.lib.cuda.max_memory_allocated())


def numbers(x: Any) -> np.ndarray:
    return x.float().cpu().numpy().astype(np.float64)


def compare(job: str, theirs: Any, name: str, batch: int, size: int, dtype: str) -> dict[str, Any]:
    """Times, memory and results of both sides. ``job``: "features" or "step"."""
    found: dict[str, Any] = {"batch": batch}
    ways: dict[str, tuple[Side, Callable[[], Any]]] = {}
    for label, lib in (("tritium", tritium), ("torch", theirs)):
        if lib is None:
            continue
        try:
            side = Side(lib, name, batch, size, dtype)
            call = side.features() if job == "features" else side.step()
            first = call()
            found[f"{label} result"] = numbers(first) if job == "features" else float(first)
            call()
            found[f"{label} peak MB"] = side.peak(call) / 1e6
            ways[label] = side, call
        except Exception as error:
            if lib is tritium:
                raise
            found["torch error"] = f"{type(error).__name__}: {error}"[:300]
            continue
        if job == "step" and batch > 64:  # a graph's memory is its own: four copies of all activations do not fit
            continue
        try:
            ways[label + " graph"] = side, side.graph(call)
        except Exception as error:
            found[f"{label} graph error"] = f"{type(error).__name__}: {error}"[:300]
            lib.cuda.synchronize()
    if job == "features":
        results = [found.pop(f"{label} result", None) for label in ("tritium", "torch")]
        if results[1] is not None:
            found["deviation"] = float(abs(results[0] - results[1]).max() / abs(results[1]).max())
        found["finite"] = bool(np.isfinite(results[0]).all())
    calls = 20 if batch <= 64 else 8
    times: dict[str, list[float]] = {label: [] for label in ways}
    for _ in range(ROUNDS):
        for label, (side, call) in ways.items():
            call()
            times[label].append(side.seconds(call, calls))
    for label, list_of in times.items():
        found[f"{label} ms"] = 1e3 * min(list_of)
        found[f"{label} images/s"] = batch / min(list_of)
    if job == "step":
        for label, (_, call) in ways.items():
            found[f"{label} last loss"] = float(call())
    best = min((m for label in ("tritium", "tritium graph") if (m := found.get(f"{label} ms"))), default=math.nan)
    if "torch ms" in found:
        found["speed"] = found["torch ms"] / best  # beside PyTorch's eager calls
        found["speed eager"] = found["torch ms"] / found["tritium ms"]
        found["memory"] = found["tritium peak MB"] / found["torch peak MB"]
        if "torch graph ms" in found:
            found["speed of graphs"] = found["torch graph ms"] / best
    return found


JOBS = [("features", "resnet18", 64, "bfloat16"), ("features", "resnet50", 64, "bfloat16"),
        ("step", "resnet50", 64, "float32"), ("features", "resnet50", 256, "bfloat16"),
        ("features", "resnet18", 256, "bfloat16"), ("features", "resnet50", 64, "float16"),
        ("features", "resnet50", 64, "float32"), ("features", "resnet18", 64, "float32"),
        ("features", "resnet18", 64, "float16"), ("step", "resnet18", 64, "float32"),
        ("step", "resnet50", 256, "float32"), ("step bf16", "resnet50", 64, "bfloat16"),
        ("features", "resnet50", 1, "bfloat16")]


def show(name: str, f: dict[str, Any]) -> None:
    print(name)
    for key, value in f.items():
        print(f"    {key:26s} {value if isinstance(value, (str, bool, int)) else f'{value:.4g}'}")
    sys.stdout.flush()


def main() -> int:
    start = time.monotonic()
    options = options_of(__doc__)
    if options.compile:
        return compiled(options)
    small = options.emulated
    theirs = None if small else torch()
    report: dict[str, Any] = {"device": tritium.cuda.get_device_name(), "entries": {}}
    if options.after and options.json and Path(options.json).exists():
        report = json.loads(Path(options.json).read_text())
    jobs = JOBS if not small else [("features", "resnet18", 1, "bfloat16"), ("step", "resnet18", 2, "float32")]
    names = [" ".join(map(str, job)) for job in jobs]
    for i, (name, (job, net, batch, dtype)) in enumerate(zip(names, jobs, strict=True)):
        if options.after in names and i <= names.index(options.after):
            continue
        if options.only and not any(w in name for w in options.only) or any(w in name for w in options.skip):
            continue
        entry: dict[str, Any] = {}
        if time.monotonic() - start > options.seconds:
            entry["left_out"] = "out of time"
        else:
            try:
                if small:
                    side = Side(tritium, net, batch, 32, dtype)
                    out = (side.features if job == "features" else side.step)()()
                    entry["finite"] = bool(np.isfinite(numbers(out)).all())
                else:
                    entry = compare(job.split()[0], theirs, net, batch, 224, dtype)
            except Exception as error:
                lacks = missing(error)
                entry["missing" if lacks else "error"] = lacks or f"{type(error).__name__}: {error}"[:300]
        show(name, entry)
        report["entries"][name] = entry
        if options.json:
            Path(options.json).write_text(json.dumps(report, indent=1))
        gc.collect()
        for lib in filter(None, (tritium, theirs)):
            try:
                lib.cuda.empty_cache()
            except RuntimeError:
                pass
        if "error" in entry and not small and not alive(tritium) and options.json:
            print("the device does not answer any more: starting again behind this entry", flush=True)
            rest = [a for i, a in enumerate(sys.argv[1:]) if "--after" not in sys.argv[i:i + 2]]
            os.execv(sys.executable, [sys.executable, sys.argv[0], *rest, "--after", name])
    return int(any("error" in e for e in report["entries"].values()))


def compiled(options: Any) -> int:
    """Compile what the jobs need, without a GPU."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    os.environ.pop("TRITON_INTERPRET", None)
    jobs = int(os.environ.get("TRITIUM_JOBS", "0")) or os.cpu_count() or 1
    wanted = [j for j in JOBS if not options.only or any(w in " ".join(map(str, j)) for w in options.only)]
    failed = 0
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        for job, error in zip(wanted, pool.map(_compile, wanted), strict=True):
            failed += not error.startswith("compiled")
            print(*job, error, flush=True)
    return int(failed > 0)


def _compile(job: tuple[str, str, int, str]) -> str:
    from tritium.kernels import runtime
    from tritium.kernels.tuning import planning

    planning.begin(planning.H100)

    def once() -> None:
        side = Side(tritium, job[1], job[2], 224, job[3])
        call = side.features() if job[0] == "features" else side.step()
        call()
        call()

    error, spills = planned(once, runtime.active())
    return error or "compiled" + f"; local memory is used: {spills}" * bool(spills)


if __name__ == "__main__":
    sys.exit(main())
