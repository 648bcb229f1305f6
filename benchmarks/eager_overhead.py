"""Host cost of small eager operations beside PyTorch's, one thread, in turn within one process.

    python benchmarks/eager_overhead.py [--rounds 9]
"""
import argparse
import statistics
import timeit

import torch

import tritium


def cases(lib: object) -> dict[str, object]:
    x, y = lib.ones(8), lib.ones(8)  # type: ignore[attr-defined]
    a, b = lib.ones(8, requires_grad=True), lib.ones(8, requires_grad=True)  # type: ignore[attr-defined]
    m = lib.ones(4, 4)  # type: ignore[attr-defined]
    return {
        "x + y": lambda: x + y,
        "x * 2.0": lambda: x * 2.0,
        "x.add_(y)": lambda: x.add_(y),
        "x + y, recorded": lambda: a + b,
        "x * y, recorded": lambda: a * b,
        "x.exp()": lambda: y.exp(),
        "x.sum()": lambda: y.sum(),
        "m @ m, 4x4": lambda: m @ m,
        "x[2:6]": lambda: y[2:6],
        "x.view(2, 4)": lambda: y.view(2, 4),
        "(x * y).sum().backward()": lambda: (a * b).sum().backward(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    ours, theirs = cases(tritium), cases(torch)
    print(f"{'8 floats, microseconds':28s} {'tritium':>8s} {'torch':>8s} {'ratio':>6s}")
    for name in ours:
        number = 2000 if "backward" in name else 20000
        pairs = [tuple(timeit.timeit(side[name], number=number) / number for side in (ours, theirs))
                 for _ in range(rounds)]
        t, p = statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
        print(f"{name:28s} {1e6 * t:8.2f} {1e6 * p:8.2f} {statistics.median(a / b for a, b in pairs):6.2f}")


if __name__ == "__main__":
    main()
