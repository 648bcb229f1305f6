"""``pytest --device cpu`` (the default) or ``--device cuda``: where the tests' tensors are made.

With ``--device cuda`` the default device of new tensors is cuda: a GPU where there is one, else the device emulated on the
host. The tests' bodies stay the same: they bring and read values through NumPy, so ``from_numpy`` and ``numpy()`` copy
from and to the device for them. (Tests of sharing memory with NumPy are of the CPU alone, and say so.)

A test that meets an operation without a Triton kernel is skipped; ``missing_kernels.txt`` lists the operations that may be
missing, and one that is not on it fails the test.
"""
from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

MISSING = Path(__file__).with_name("missing_kernels.txt")
HOST = {"kernels", "runtime", "data", "probe", "operations"}  # what is tested here has no default device, or names its own
met: Counter[str] = Counter()


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--device", choices=["cpu", "cuda"], default="cpu", help="where the tests' tensors are made")


def pytest_configure(config: Any) -> None:
    for line in ("cpu_only(reason): what is tested exists on the CPU alone",
                 "cuda_only: needs --device cuda",
                 "emulated_only: needs --device cuda without a GPU"):
        config.addinivalue_line("markers", line)
    if config.getoption("--device") == "cuda" and not _gpu():
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported


def _gpu() -> bool:
    if os.environ.get("TRITON_INTERPRET") == "1":
        return False
    from tritium import cuda

    return cuda.is_available()


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    on_cuda = config.getoption("--device") == "cuda"
    emulated = os.environ.get("TRITON_INTERPRET") == "1"
    for item in items:
        if not on_cuda and (item.get_closest_marker("cuda_only") or item.get_closest_marker("emulated_only")):
            item.add_marker(pytest.mark.skip(reason="needs --device cuda"))
        elif on_cuda and not emulated and item.get_closest_marker("emulated_only"):
            item.add_marker(pytest.mark.skip(reason="needs the emulated device"))
        elif on_cuda and (mark := item.get_closest_marker("cpu_only")):
            item.add_marker(pytest.mark.skip(reason=mark.kwargs.get("reason", "of the CPU alone")))


@pytest.fixture(scope="session")
def device(request: Any) -> str:
    """The device of this run: "cpu" or "cuda"."""
    return request.config.getoption("--device")


# --- tests written for the CPU, on cuda -----------------------------------------------------------

@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: Any) -> Any:
    """What a test file makes when it is imported is on the device too."""
    if (collector.config.getoption("--device") == "cpu" or not isinstance(collector, pytest.Module)
            or HOST & set(collector.path.parts)):
        return (yield)
    import tritium

    tritium.set_default_device("cuda")
    try:
        return (yield)
    finally:
        tritium.set_default_device(None)


@pytest.fixture(autouse=True)
def _default_device(request: Any, monkeypatch: Any) -> Any:
    if request.config.getoption("--device") == "cpu" or HOST & set(request.path.parts):
        yield
        return
    import tritium
    from tritium.kernels.precision import precision
    from tritium.tensor import from_data

    numpy, from_numpy = tritium.Tensor.numpy, tritium.from_numpy
    monkeypatch.setattr(tritium.Tensor, "numpy", lambda t, *, force=False: numpy(t.detach().cpu() if force else t.cpu()))
    monkeypatch.setattr(tritium, "from_numpy", lambda a: from_numpy(a).to(tritium.get_default_device()))
    monkeypatch.setattr(from_data, "from_numpy", tritium.from_numpy)
    monkeypatch.setattr(precision, "conv_tf32", False)  # the results are compared with those of float32
    tritium.set_default_device("cuda")
    yield
    tritium.set_default_device(None)


def _missing(error: BaseException | None) -> str | None:
    """The operation without a kernel behind an error, also where the test expected another error."""
    from tritium.kernels.array import NoKernel

    while error is not None:
        if isinstance(error, NoKernel):
            text = str(error)
            return "complex numbers" if "complex" in text else text.partition(" has no Triton kernel")[0]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> Any:
    if pyfuncitem.config.getoption("--device") == "cpu":
        return (yield)
    try:
        return (yield)
    except Exception as error:
        name = _missing(error)
        if name is None or HOST & set(pyfuncitem.path.parts):
            raise
        met[name] += 1
        if not allowed(name):
            raise
        pytest.skip(f"no Triton kernel: {name}")


def allowed(name: str) -> bool:
    """Whether an operation may be missing."""
    return name in MISSING.read_text().split("\n")


@pytest.fixture(scope="session")
def may_be_missing(request: Any) -> Any:
    """``may_be_missing(error)``: whether an error on cuda comes from an operation that may lack a Triton kernel."""
    def check(error: BaseException) -> bool:
        name = _missing(error) if request.config.getoption("--device") == "cuda" else None
        if name is not None:
            met[name] += 1
        return name is not None and allowed(name)

    return check


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if met:
        terminalreporter.section("operations without a Triton kernel (tests)")
        terminalreporter.line(", ".join(f"{name} ({count})" for name, count in sorted(met.items())))
