"""Convolutions beside cuDNN on one GPU: all shapes of a network, forward and both gradients, everything channels_last.

    python benchmarks/gpu_conv.py [--network resnet50] [--batch 64] [--dtype bf16] [--json FILE] [--only WORD ...]
                                  [--seconds N] [--emulated | --compile]

cuDNN chooses its algorithm by measuring (``cudnn.benchmark``) and takes what it likes, deterministic or not. Means are
over distinct shapes; "sums" weigh a shape by how often the network has it. "fused" is a convolution with batch norm (as
a scale and a shift) and ReLU in evaluation; PyTorch's is the convolution, the batch norm and ReLU in a row.
"""
from __future__ import annotations

import argparse
import functools
import sys
from typing import Any

from gpu_timing import Entry, Tools, Work, main

from tritium.kernels.tuning.problems import DTYPES, NETWORKS, Layer, layers


def convolution(t: Tools, layer: Layer, batch: int, op: str) -> Work:
    """One layer."""
    N, C, H, W, O, kernel, stride, padding, groups = layer.shape(batch)
    if t.small:
        groups = 1 if groups == 1 else 8
        N, C, H, W, O = 1, 3 if C == 3 else 8, 8, 8, 8
    t.lib.backends.cudnn.allow_tf32 = t.name == "tf32"
    x, w = t.image(N, C, H, W), t.image(O, C // groups, kernel, kernel) * (C // groups * kernel * kernel) ** -0.5
    w = w.contiguous(memory_format=t.lib.channels_last)
    size = (H + 2 * padding - kernel) // stride + 1
    work = Work(lambda: None, (x.numel() + w.numel() + N * O * size * size) * t.size,
                2.0 * N * O * size * size * C // groups * kernel * kernel)
    if op == "forward":
        work.call = lambda: t.F.conv2d(x, w, None, stride, padding, 1, groups)
    elif op == "fused":
        conv = t.lib.nn.Conv2d(C, O, kernel, stride, padding, groups=groups, bias=False)
        net = t.lib.nn.Sequential(conv, t.lib.nn.BatchNorm2d(O), t.lib.nn.ReLU(inplace=True))
        net = net.to(device="cuda", dtype=t.dtype, memory_format=t.lib.channels_last).eval()

        def run() -> Any:
            with t.lib.no_grad():
                return net(x)

        work.call = run
    else:
        given = (w if op == "wgrad" else x).requires_grad_()
        work.call = t.backward(t.F.conv2d(x, w, None, stride, padding, 1, groups), [given])
    return work


def entries(network: str, batch: int, dtype: str) -> list[Entry]:
    """Every distinct shape of a network."""
    found: dict[str, Entry] = {}
    counts: dict[str, int] = {}
    for op in ("forward", "dgrad", "wgrad", "fused"):
        for layer, count in layers(network).items():
            if op == "dgrad" and layer.C == 3:
                continue
            text = f"{layer.C}x{layer.H} to {layer.O}, {layer.kernel}x{layer.kernel}"
            text += f"/{layer.stride}" * (layer.stride > 1) + f" groups {layer.groups}" * (layer.groups > 1)
            name = f"{op} {text} {dtype}"
            counts[name] = counts.get(name, 0) + count
            found[name] = Entry(name, f"{op} {dtype}", functools.partial(convolution, layer=layer, batch=batch, op=op),
                                dtype, counts[name])
    return list(found.values())


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--network", choices=NETWORKS, default="resnet50")
    own.add_argument("--batch", type=int, default=64)
    own.add_argument("--dtype", choices=DTYPES, default="bf16")
    given, others = own.parse_known_args()
    sys.exit(main(__doc__ + "\n" + own.format_help(), entries(given.network, given.batch, given.dtype), others))
