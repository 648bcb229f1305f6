"""conv2d on the CPU, shape by shape: tritium's kernel beside PyTorch's in NCHW and channels_last, forward (weights made
ready) and, with ``--backward``, both gradients. In turn within one process; medians of ratios.

    unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
    python benchmarks/conv_cpu.py [--batch 8] [--threads 2] [--rounds 9] [--backward] [--mobile]
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from tritium.kernels.reference import conv, conv_grad, parallel

# input channels, output channels, kernel, stride, size, groups
RESNET18 = [(3, 64, 7, 2, 224, 1), (64, 64, 3, 1, 56, 1), (64, 128, 3, 2, 56, 1), (64, 128, 1, 2, 56, 1),
            (128, 128, 3, 1, 28, 1), (128, 256, 3, 2, 28, 1), (256, 256, 3, 1, 14, 1), (256, 512, 3, 2, 14, 1),
            (512, 512, 3, 1, 7, 1)]  # fmt: skip
MOBILENET = [(3, 32, 3, 2, 224, 1), (32, 32, 3, 1, 112, 32), (96, 96, 3, 2, 112, 96), (24, 144, 1, 1, 56, 1),
             (144, 144, 3, 1, 56, 144), (144, 24, 1, 1, 56, 1), (192, 192, 3, 1, 28, 192), (384, 64, 1, 1, 14, 1),
             (384, 384, 3, 1, 14, 384), (960, 960, 3, 1, 7, 960), (320, 1280, 1, 1, 7, 1)]  # fmt: skip


def turn(run: Callable[[], object], least: float = 0.03) -> float:
    """Seconds of one call, after an unmeasured one that lets the other library's threads go to sleep."""
    run()
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < least or not count:
        run()
        count += 1
    return passed / count


def cases(shape: tuple[int, ...], batch: int, backward: bool) -> dict[str, Callable[[], object]]:
    """What to time: ours, PyTorch's in NCHW, PyTorch's in channels_last."""
    c, o, k, s, size, groups = shape
    rng, p = np.random.default_rng(0), k // 2
    x = rng.standard_normal((batch, c, size, size), dtype=np.float32)
    w = rng.standard_normal((o, c // groups, k, k), dtype=np.float32)
    t, tw = torch.from_numpy(x), torch.from_numpy(w)
    tl, twl = (a.contiguous(memory_format=torch.channels_last) for a in (t, tw))
    last = x if c == 3 else np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    rest = (s, s), (p, p, p, p), (1, 1), groups
    if not backward:
        ready = conv.prepare(w, groups)
        return {
            "ours": lambda: conv.conv2d(last, ready, None, *rest[:3]),
            "nchw": lambda: F.conv2d(t, tw, None, s, p, 1, groups),
            "channels_last": lambda: F.conv2d(tl, twl, None, s, p, 1, groups),
        }
    dy = conv.conv2d(last, w, None, *rest)
    d = torch.from_numpy(np.ascontiguousarray(dy))
    dl = d.contiguous(memory_format=torch.channels_last)

    def ours() -> None:
        conv_grad.conv2d_weight(last, dy, (k, k), *rest)
        if c != 3:
            conv_grad.conv2d_input(dy, w, (size, size), *rest)

    def theirs(dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor) -> Callable[[], object]:
        mask = (c != 3, True, False)
        return lambda: torch.ops.aten.convolution_backward(
            dy, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], groups, mask
        )

    return {"ours": ours, "nchw": theirs(d, t, tw), "channels_last": theirs(dl, tl, twl)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--backward", action="store_true")
    parser.add_argument("--mobile", action="store_true", help="the shapes of MobileNetV2 instead of ResNet-18")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    parallel.set_num_threads(args.threads)
    print(f"batch {args.batch}, {args.threads} threads; milliseconds, and time of ours / theirs")
    print(f"{'channels':>10} {'kernel':>6} {'size':>5} {'ours':>8} {'nchw':>8} {'last':>8} {'/ nchw':>7} {'/ last':>7}")
    for shape in MOBILENET if args.mobile else RESNET18:
        runs = cases(shape, args.batch, args.backward)
        with torch.no_grad():
            times = [{name: turn(run) for name, run in runs.items()} for _ in range(args.rounds)]
        ms = {name: statistics.median(t[name] for t in times) * 1e3 for name in runs}
        ratios = [statistics.median(t["ours"] / t[name] for t in times) for name in ("nchw", "channels_last")]
        c, o, k, s, size, groups = shape
        print(f"{c:>4} -> {o:<4}{'d' if groups > 1 else ' '} {k}x{k}/{s} {size:>5} {ms['ours']:8.2f} {ms['nchw']:8.2f} "
              f"{ms['channels_last']:8.2f} {ratios[0]:7.2f} {ratios[1]:7.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
