"""ResNet-18 inference on the CPU: images a second of tritium beside PyTorch in its default layout (NCHW) and in
channels_last, in turn within one process, with the same weights, images and number of threads.

    unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
    python benchmarks/resnet18_inference.py [--batch 8] [--size 224] [--rounds 15] [--threads 2] [--calls 3]

A turn is ``--calls`` forward passes after an unmeasured one (which also lets the other library's threads go to sleep);
ratios are medians over rounds of the turns of one round. PyTorch's model is written here: torchvision is not needed.
"""

import argparse
import os
import statistics
import time

import numpy as np
import torch
from torch import nn

import tritium


class Block(nn.Module):
    """torchvision's BasicBlock."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class ResNet18(nn.Module):
    """torchvision's resnet18."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for i, planes in enumerate((64, 128, 256, 512), 1):
            stride = 1 if i == 1 else 2
            setattr(self, f"layer{i}", nn.Sequential(Block(inputs, planes, stride), Block(planes, planes, 1)))
            inputs = planes
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[operator]
        return self.fc(torch.flatten(self.avgpool(x), 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tritium.set_num_threads(args.threads)
    torch.manual_seed(0)
    theirs = ResNet18().train()
    with torch.no_grad():  # running statistics as after training, or activations would grow from block to block
        for _ in range(3):
            theirs(torch.randn(8, 3, 64, 64))
    theirs.eval()
    last = ResNet18().eval()
    last.load_state_dict(theirs.state_dict())
    last = last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ours = tritium.models.resnet18().eval()
    ours.load_state_dict({k: tritium.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    images = np.random.default_rng(0).standard_normal((args.batch, 3, args.size, args.size), dtype=np.float32)
    x, t = tritium.tensor(images), torch.from_numpy(images)
    c = t.contiguous(memory_format=torch.channels_last)
    with tritium.no_grad(), torch.no_grad():
        runs = {"tritium": lambda: ours(x), "torch NCHW": lambda: theirs(t), "torch channels_last": lambda: last(c)}
        results = {name: run().numpy() for name, run in runs.items()}
        seconds = measure(runs, args.rounds, args.calls)
    exact = results["torch NCHW"]
    error = abs(results["tritium"] - exact).max() / abs(exact).max()
    print(f"resnet18, batch {args.batch}, {args.size} px, {args.threads} threads; largest deviation {error:.1e}")
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"  {name:20s} {args.batch / middle:8.1f} images/s  {middle * 1e3:8.1f} ms")
    for name in list(runs)[1:]:
        ratio = statistics.median(a / b for a, b in zip(seconds["tritium"], seconds[name], strict=True))
        print(f"  time of tritium / {name}: {ratio:.2f}")


def measure(runs: dict, rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of one call, a list over rounds for each name."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            for _ in range(calls):
                run()
            seconds[name].append((time.perf_counter() - start) / calls)
    return seconds


if __name__ == "__main__":
    main()
