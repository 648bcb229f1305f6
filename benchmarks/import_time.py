"""Wall time of ``import tritium`` beside ``import numpy`` (and PyTorch, where installed): whole processes, in turn.

    python benchmarks/import_time.py [--rounds 15]
"""
import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time


def once(code: str, env: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    codes = {"python alone": "pass", "import numpy": "import numpy", "import tritium": "import tritium"}
    if importlib.util.find_spec("torch"):
        codes["import torch"] = "import torch"
    # compiled files are what a user has from the second run on
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for code in codes.values():
        once(code, env)
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(rounds):
        for name, code in codes.items():
            times[name].append(once(code, env))
    median = {name: statistics.median(t) for name, t in times.items()}
    for name, t in median.items():
        print(f"{name:15s} {1000 * t:7.1f} ms")
    base = median["python alone"]
    whole = statistics.median(a / b for a, b in zip(times["import tritium"], times["import numpy"], strict=True))
    print(f"tritium / numpy: {whole:.2f} as whole processes, "
          f"{(median['import tritium'] - base) / (median['import numpy'] - base):.2f} without Python's own start")


if __name__ == "__main__":
    main()
