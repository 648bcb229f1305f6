"""Compiling and launching: on a stand-in for the driver, in processes of their own, since in this one kernels may be
interpreted."""
from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import tritium

HERE = Path(__file__).parent
ROOT = Path(tritium.__file__).parent
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")

KERNEL = """
import triton, triton.language as tl
from tritium.kernels.runtime.launch import kernel
@triton.jit
def twice(x):
    return x * FACTOR
FACTOR = tl.constexpr(2)
@kernel
def scale(x, out, n, OP: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, OP(tl.load(x + i, mask=i < n, other=0)), mask=i < n)
"""
COMPILE = """
import sys
from tritium.kernels.runtime import compiler
import kernels_of_a_test as k
TYPES = {"x": "*fp32", "out": "*fp32", "n": "i32"}
def get(target="sm_90", types=TYPES, **more):
    constants = {"OP": k.twice, "BLOCK": 128}
    constants.update(more.pop("constants", {}))
    return compiler.compile(k.scale.jit, types, constants, more.pop("aligned", ("x",)), more, target)
"""
NO_COMPILER = """
import triton
def refuse(*a, **k): raise AssertionError("compiled")
triton.compile = refuse
"""


@pytest.fixture
def compiling(tmp_path: Path) -> Any:
    """Runs Python that compiles kernels, with its own caches."""
    (tmp_path / "kernels_of_a_test.py").write_text(KERNEL)

    def run(code: str, fails: bool = False, **settings: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "TRITIUM_CACHE_DIR": str(tmp_path / "cache"), "TRITON_CACHE_DIR": str(tmp_path / "triton"),
               "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", **settings}
        env.pop("TRITON_INTERPRET", None)
        done = subprocess.run([sys.executable, "-c", COMPILE + code], capture_output=True, text=True, env=env)
        assert fails == (done.returncode != 0), done.stdout + done.stderr
        return done

    return run


def test_on_the_stand_in(process: Any) -> None:
    process(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(HERE / "launch_on_stand_in.py")], cwd=ROOT)


def test_compiled_code_is_found_again(compiling: Any, tmp_path: Path) -> None:
    first = compiling("c = get(); print(len(c.image), c.name, c.parameters, c.shared, c.num_warps); assert c.text")
    files = list((tmp_path / "cache").iterdir())
    assert [f.suffix for f in files] == [".kernel"]
    second = compiling(NO_COMPILER + "c = get(); print(len(c.image), c.name, c.parameters, c.shared, c.num_warps)")
    assert first.stdout == second.stdout and "('x', 'out', 'n') 0 4" in first.stdout


def test_what_the_key_depends_on(compiling: Any, tmp_path: Path) -> None:
    code = """
def key(target="sm_90", types=TYPES, aligned=("x",), constants={}, **options):
    return compiler.key_of(k.scale.jit, types, {"OP": k.twice, "BLOCK": 128, **constants}, aligned, options, target)
keys = [key(), key(target="sm_80"), key(types={**TYPES, "n": "i64"}), key(aligned=("x", "n")), key(num_warps=8),
        key(enable_fp_fusion=False), key(constants={"BLOCK": 64}), key(constants={"BLOCK": 128.0}),
        key(constants={"OP": k.scale.jit})]
assert len(set(keys)) == len(keys) and key() == keys[0]
print(keys[0])
"""
    keys = {compiling(code).stdout, compiling(code, TRITON_PTXAS_PATH="/elsewhere").stdout}
    assert compiling(code).stdout in keys and len(keys) == 2
    file = tmp_path / "kernels_of_a_test.py"
    for old, new in (("constexpr(2)", "constexpr(3)"), ("x * FACTOR", "FACTOR * x"), ("other=0", "other=1")):
        file.write_text(file.read_text().replace(old, new))
        keys.add(compiling(code).stdout)
    assert len(keys) == 5, "a changed function that a kernel calls, or a constant that it uses, is another kernel"


@pytest.mark.parametrize("damage", ["b''", "b'{}'", "old[:-1]", "old[:50]", "old.replace(b'scale', b'scalf', 1)",
                                    "b'[]\\n' + old", "old[:-1] + bytes([old[-1] ^ 1])", "b'\\xff\\xfe' + old"])
def test_damaged_files_are_written_anew(compiling: Any, damage: str) -> None:
    compiling(f"""
import pathlib
get()
file, = pathlib.Path(compiler.folder()).glob("*.kernel")
old = file.read_bytes()
new = {damage}
if b'scalf' in new: new = old.replace(b'"digest": "', b'"digest": "0', 1)
file.write_bytes(new)
assert compiler._read(file.stem) is None
c = get()
assert c == compiler._read(file.stem).__class__(**{{**vars(compiler._read(file.stem)), "text": c.text}})
""")


def test_folders_that_can_not_be_written(compiling: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    there = str(tmp_path / "file" / "cache")
    compiling("assert get().image[:4] == b'\\x7fELF'", TRITIUM_CACHE_DIR=there, TRITON_CACHE_DIR=there)


def test_several_processes_at_once(compiling: Any, tmp_path: Path) -> None:
    code = """
import multiprocessing
def work(i): return len(get(num_warps=1 << i % 3).image)
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(4) as pool: got = pool.map(work, range(12))
    assert len(set(got[0::3])) == len(set(got[1::3])) == len(set(got[2::3])) == 1
"""
    compiling(code)
    assert sorted(f.suffix for f in (tmp_path / "cache").iterdir()) == [".kernel"] * 3


def test_targets(compiling: Any) -> None:
    done = compiling("""
for target in ("sm_80", "sm_90", "gfx942"):
    c = get(target)
    assert c.image[:4] == b"\\x7fELF" and c.parameters == ("x", "out", "n"), c
print(*sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "cuda")))
""")
    assert done.stdout.strip() == ""


def test_refusals(compiling: Any) -> None:
    compiling("""
for what, error, words in ((dict(num_ctas=2), NotImplementedError, "num_ctas"),
                           (dict(constants={"BLOCK": 100}), RuntimeError, "kernel scale does not compile for sm_90")):
    try: get(**what)
    except error as e: assert words in str(e), e
    else: raise AssertionError(what)
try: compiler._check_abi("f", ".visible .entry f(.param .u64 a, .param .u64 b)", "cuda", 1)
except RuntimeError as e: assert "2 parameters where 3 were expected" in str(e)
else: raise AssertionError
""")


def test_nothing_global_is_changed(compiling: Any) -> None:
    compiling("""
from triton.runtime import cache
from triton.runtime.driver import driver
kept = cache.triton_key
get()
assert cache.triton_key is kept
assert driver._active is None if hasattr(driver, "_active") else True
""")


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
@pytest.mark.parametrize("when", ["never", "before", "after"])
def test_beside_pytorch(process: Any, tmp_path: Path, when: str) -> None:
    (tmp_path / "kernels_of_a_test.py").write_text(KERNEL)
    process(f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
if {when == "before"}: import torch
import kernels_of_a_test as k
from tritium.kernels.triton.memory import empty
x = empty((100,), "float32")
k.scale.bind(OP=k.twice, BLOCK=128)(1, 1, 1, x, x, 100)
if {when == "after"}: import torch
k.scale.bind(OP=k.twice, BLOCK=64)(2, 1, 1, x, x, 100)
assert ("torch" in sys.modules) == {when != "never"}
""")


# --- the emulated device ---


@pytest.fixture
def emulated_add() -> Any:
    import triton.language as tl

    from tritium.kernels.runtime.launch import kernel

    @kernel
    def add(x, y, out, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        m = i < n
        tl.store(out + i, tl.load(x + i, mask=m, other=0) + tl.load(y + i, mask=m, other=0), mask=m)

    return add.bind(BLOCK=16)


@pytest.mark.cuda_only
@pytest.mark.emulated_only
def test_emulated_launches_refuse_the_same(emulated_add: Any) -> None:
    import numpy as np

    from tritium.kernels.array import DeviceMismatch, NoKernel
    from tritium.kernels.triton.memory import empty

    x, y, out = (empty((20,), "float32") for _ in range(3))
    for first in range(2):
        with pytest.raises(TypeError, match="argument n is an array or an integer"):
            emulated_add(2, 1, 1, x, y, out, 3.0)
        with pytest.raises(OverflowError, match="argument n"):
            emulated_add(2, 1, 1, x, y, out, 2**63)
        with pytest.raises(DeviceMismatch, match="cuda:0 and cpu"):
            emulated_add(2, 1, 1, x, np.ones(3), out, 3)
        with pytest.raises(NoKernel, match="complex64"):
            emulated_add(2, 1, 1, x, empty((3,), "complex64"), out, 3)
        with pytest.raises(TypeError, match="takes 4 arguments"):
            emulated_add(2, 1, 1, x, y, out)
        with pytest.raises(ValueError, match="beyond"):
            emulated_add(1, 65536, 1, x, y, out, 20)
        emulated_add(0, 65536, 1, x, y, out, 20)
        emulated_add(2 * first, 1, 1, x, y, out, 20)


@pytest.mark.cuda_only
@pytest.mark.emulated_only
def test_emulated_launches_are_captured(emulated_add: Any) -> None:
    import numpy as np

    from tritium import cuda
    from tritium.kernels.triton.memory import empty, from_host, to_host

    x, out = from_host(np.arange(20, dtype=np.float32)), empty((20,), "float32")
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        emulated_add(2, 1, 1, x, x, out, 20)
        emulated_add(2, 1, 1, out, x, out, 20)
    assert np.isnan(to_host(out)).all()
    graph.replay()
    assert (to_host(out) == 3 * np.arange(20)).all()
