"""A stand-in for NVIDIA's driver, compiled for the tests that run the CUDA runtime without a GPU."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: Any) -> Path:
    """The folder of a ``libcuda.so.1`` made of ``stand_in.c``."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux")
    try:
        version("cuda-core"), version("cuda-bindings")
    except PackageNotFoundError:
        pytest.skip("needs cuda-core and cuda-bindings")
    folder = tmp_path_factory.mktemp("libcuda")
    done = subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"),
                           str(HERE / "stand_in.c"), "-ldl"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def process(stand_in: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with the stand-in: ``process(code)`` or ``process(arguments)``; fails where it does."""
    def run(code: str | list[str], cwd: Any = None, fails: bool = False, **settings: str) -> Any:
        env = {**os.environ, "LD_LIBRARY_PATH": str(stand_in), **settings}
        env.pop("TRITON_INTERPRET", None)
        env.pop("PYTHONPATH", None)
        arguments = ["-c", code] if isinstance(code, str) else code
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, cwd=cwd)
        assert fails == (done.returncode != 0), done.stdout + done.stderr
        return done

    return run
