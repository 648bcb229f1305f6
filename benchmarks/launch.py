"""Host cost of launching a kernel, in microseconds: ours beside Triton's own ways, in turn within one process.

    python benchmarks/launch.py [--rounds 200] [--json FILE]

On a machine without a GPU it runs on the tests' stand-in for the driver, whose kernels do nothing: what is left is the
host's work. One kernel with three arrays, one integer and one constant; the least of the rounds.
"""
from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.pop(name, None)

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

# what Triton's own launcher asks of a driver beyond what the tests need
MORE = """
int cuCtxGetLimit(size_t *n) { *n = 1 << 20; return 0; }
int cuCtxSetLimit() { return 0; }
int cuPointerGetAttributes() { return 0; }
int cuFuncSetCacheConfig() { return 0; }
int cuOccupancyMaxActiveClusters(int *n) { *n = 1; return 0; }
int cuTensorMapEncodeTiled() { return 0; }
int cuTensorMapEncodeIm2col() { return 0; }
int cuPointerGetAttribute(uint64_t *out, int what, uint64_t pointer) { *out = pointer; return 0; }
int cuFuncGetAttribute(int *value, int what, void *function) { *value = what ? 32 : 1024; return 0; }
"""
STAND_IN = Path(__file__).resolve().parent.parent / "tests" / "runtime" / "stand_in.c"


def with_driver() -> None:
    """Start again with the stand-in where there is no driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
        return
    except OSError:
        pass
    if os.environ.get("TRITIUM_STAND_IN"):
        raise SystemExit("the stand-in does not load")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libcuda.so.1"
        source = Path(folder) / "driver.c"
        source.write_text(STAND_IN.read_text().replace("int cuFuncGetAttribute(", "int cuFuncGetAttribute_(") + MORE)
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-w", "-shared", "-fPIC", "-o", library, source, "-ldl"],
                       check=True)
        library.with_name("libcuda.so").symlink_to(library)
        env = {**os.environ, "LD_LIBRARY_PATH": folder, "TRITON_LIBCUDA_PATH": folder, "TRITIUM_STAND_IN": folder,
               "TRITON_CACHE_DIR": f"{folder}/triton"}
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], env=env).returncode)


def add(x, y, out, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    tl.store(out + i, tl.load(x + i, mask=m, other=0) + tl.load(y + i, mask=m, other=0), mask=m)


class Pointer:
    """An array as Triton's own launcher wants to see it."""

    def __init__(self, array: Any) -> None:
        self.array, self.dtype = array, array.dtype

    def data_ptr(self) -> int:
        return self.array.ptr


def triton_driver() -> Any:
    """Triton's driver without PyTorch, on our device and stream."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.driver import CudaDriver, CudaLauncher, CudaUtils

    from tritium.kernels import runtime
    from tritium.kernels.runtime.state import current

    about = runtime.active().properties(0)

    class Driver(CudaDriver):
        def __init__(self) -> None:  # not the base's: it imports PyTorch
            self.utils, self.launcher_cls = CudaUtils(), CudaLauncher
            self.get_current_device = lambda: 0
            self.get_current_stream = lambda device: current.stream
            self.set_current_device = lambda device: None

        def get_device_capability(self, device: Any = None) -> tuple[int, int]:
            return about.major, about.minor

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", about.architecture, 32)

        @staticmethod
        def is_active() -> bool:
            return True

    return Driver()


def ways() -> dict[str, Any]:
    """What is timed: a name and a function without arguments."""
    from tritium.kernels import runtime
    from tritium.kernels.runtime import launch
    from tritium.kernels.runtime.state import current
    from tritium.kernels.triton.memory import empty

    size = 1000
    x, y, out = (empty((size,), "float32") for _ in range(3))
    kernel = launch.kernel(add)
    variant = kernel.bind(BLOCK=1024)
    variant(1, 1, 1, x, y, out, size)
    (start, function, block, shared, _, fresh), = variant.variant.table.values()
    slot, stream = fresh(), current.stream
    found = {"the driver's call alone": lambda: start(function, 1, 1, 1, block, 1, 1, shared, stream, slot[1], 0),
             "ours: variant(grid, 1, 1, ...)": lambda: variant(1, 1, 1, x, y, out, size),
             "ours: kernel.bind(...)(grid, 1, 1, ...)": lambda: kernel.bind(BLOCK=1024)(1, 1, 1, x, y, out, size),
             "memory: empty(shape, dtype)": lambda: empty((size,), x.dtype)}
    try:
        from triton.runtime.driver import driver

        driver.set_active(triton_driver())
        a, b, c = Pointer(x), Pointer(y), Pointer(out)
        compiled = kernel.jit[(1,)](a, b, c, size, BLOCK=1024)
        run, packed = compiled.run, compiled.packed_metadata
        handle = compiled.function
        found["Triton: compiled.run(...)"] = lambda: run(1, 1, 1, stream, handle, packed, None, None, None, a, b, c,
                                                         size, 1024)
        found["Triton: kernel[grid](...)"] = lambda: kernel.jit[(1,)](a, b, c, size, BLOCK=1024)
        found["Triton: kernel[grid](...)"]()
    except Exception as error:
        print(f"Triton's own launchers do not run here: {type(error).__name__}: {error}", file=sys.stderr)
    try:
        import tritium

        p, q = tritium.empty(8, device="cuda"), tritium.empty(8, device="cuda")
        p + q
        found["eager: x + y, 8 elements"] = lambda: p + q
    except (NotImplementedError, RuntimeError) as error:
        print(f"eager x + y does not run: {type(error).__name__}: {error}", file=sys.stderr)
    runtime.active().synchronize(0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    with_driver()
    from tritium.kernels import runtime

    found = ways()
    least = dict.fromkeys(found, float("inf"))
    number = 300
    for _ in range(options.rounds):
        for name, f in found.items():
            least[name] = min(least[name], 1e6 * timeit.timeit(f, number=number) / number)
            runtime.active().synchronize(0)
    device = runtime.active().properties(0).name
    print(f"{device + ', Triton ' + triton.__version__ + ', microseconds':50s}")
    for name, us in least.items():
        print(f"  {name:42s} {us:6.2f}")
    if options.json:
        about = {"device": device, "triton": triton.__version__, "microseconds": least}
        Path(options.json).write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
