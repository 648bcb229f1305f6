"""The CUDA runtime: on a stand-in for the driver, and where there is none."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tritium

HERE = Path(__file__).parent
ROOT = Path(tritium.__file__).parent


def test_on_the_stand_in(process: Any) -> None:
    process(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(HERE / "cases_on_stand_in.py")], cwd=ROOT)


USE = """
from tritium import cuda
from tritium.kernels.runtime.memory import Block
b = Block(1000)
assert cuda.memory_allocated() == 1024
"""


def test_in_the_folder_of_the_package(process: Any) -> None:
    process(USE + "import sys; assert sys.modules['cuda'].__path__", cwd=ROOT)


def test_past_a_wrong_module_of_the_name(process: Any) -> None:
    process("import sys, cuda as wrong\n" + USE + """
assert sys.modules["cuda"] is wrong and wrong.__file__.endswith("cuda.py")
cuda.synchronize(); cuda.get_device_name(); s = cuda.Stream()
""", cwd=ROOT)


def test_the_process_ends_quietly(process: Any) -> None:
    done = process(USE + """
from tritium.kernels.runtime import pinned
keep = [b, cuda.Stream(), cuda.Event(), pinned.pinned_empty(100), cuda.CUDAGraph()]
keep[2].record()
with cuda.graph(keep[-1]): keep.append(Block(100))
keep.append(keep)
class Late:
    def __del__(self): Block.__del__(b)
late = Late()
cuda.set_stream(keep[1])
""")
    assert done.stdout == done.stderr == ""


def test_a_forked_child_is_told(process: Any) -> None:
    done = process(USE + """
import os, sys
pid = os.fork()
if pid == 0:
    del b  # is the parent's
    try:
        Block(10)
    except RuntimeError as error:
        print(error, cuda.is_available(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
""")
    assert "Cannot re-initialize CUDA in forked subprocess" in done.stdout and "False" in done.stdout


@pytest.mark.parametrize(("setting", "words"), [("in_devices=0", "No CUDA GPUs are available"),
                                                ("in_version=11080", "driver on your system is too old")])
def test_drivers_that_do_not_serve(process: Any, setting: str, words: str) -> None:
    name, _, value = setting.partition("=")
    done = process(f"""
import ctypes
ctypes.c_int.in_dll(ctypes.CDLL("libcuda.so.1"), {name!r}).value = {value}
from tritium import cuda
assert not cuda.is_available() and cuda.device_count() == 0
cuda.synchronize()
""", fails=True)
    assert words in done.stderr


def test_without_a_driver(tmp_path: Path) -> None:
    """An empty file in place of the driver: it can not be loaded, as where there is none."""
    (tmp_path / "libcuda.so.1").write_bytes(b"")
    code = """
import sys, tritium as torch
from tritium import accelerator, cuda
assert not cuda.is_available() and cuda.device_count() == 0 and not cuda.is_initialized()
assert not cuda.is_bf16_supported() and not accelerator.is_available()
assert accelerator.current_accelerator() is None and accelerator.device_count() == 0
cuda.manual_seed(0); cuda.manual_seed_all(0); cuda.empty_cache(); cuda.reset_peak_memory_stats()
for question in (cuda.memory_allocated, cuda.max_memory_allocated, cuda.memory_reserved, cuda.max_memory_reserved):
    assert question() == question(0) == question("cuda:0") == 0
assert set(cuda.memory_stats().values()) == {0} and not cuda.is_current_stream_capturing()
for wrong in (cuda.init, cuda.synchronize, cuda.current_device, lambda: cuda.set_device(0), cuda.get_device_name,
              cuda.mem_get_info, cuda.Stream, cuda.current_stream, lambda: cuda.Event().record(),
              lambda: cuda.device(0).__enter__(), cuda.graph_pool_handle, cuda.CUDAGraph().capture_begin,
              lambda: accelerator.set_device_index(0)):
    try:
        wrong()
    except RuntimeError as error:
        assert str(error).startswith("Found no NVIDIA driver on your system. Please check"), error
    else:
        raise AssertionError(wrong)
assert "triton" not in sys.modules and "cuda.bindings" not in sys.modules and "cuda" not in sys.modules
"""
    env = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "PYTHONPATH")}
    done = subprocess.run([sys.executable, "-c", code], env={**env, "LD_LIBRARY_PATH": str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
