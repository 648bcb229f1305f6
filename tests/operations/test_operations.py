"""Every operation, on the CPU and on cuda: results, gradients and gradients of gradients are the same, two runs are the same
bits, nothing is computed on the host instead; and the table in docs/operations.md says what is so."""
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import operation_runs as runs  # noqa: E402
import operation_samples as samples  # noqa: E402

import tritium as torch  # noqa: E402

TABLE = HERE.parent.parent / "docs" / "operations.md"
NUMBERS = 64  # bytes of sizes and flags that an operation may read from the device
# ``interpolate`` makes a table of weights for each new size, and sends it up once


def known() -> set[str]:
    return {name.partition(", ")[0].removeprefix("F.").removeprefix(".")
            for family in samples.SAMPLES.values() for name in family}


def test_every_function_has_a_sample():
    have = known() | {name.removeprefix("F.") for name in samples.SECOND_NAMES} | samples.NO_OPERATION
    skipped = (type, types.ModuleType)
    names = {n for n in dir(torch) if n[0].islower() and callable(getattr(torch, n))
             and not isinstance(getattr(torch, n), skipped)}
    names |= {n for n in dir(torch.nn.functional) if n[0].islower()
              and isinstance(getattr(torch.nn.functional, n), types.FunctionType)}
    missing = {n for n in names if n not in have and n.removesuffix("_") not in have}
    assert not missing, f"no sample in operation_samples.py: {sorted(missing)}"


def test_every_sample_is_in_the_table():
    text = TABLE.read_text()
    missing = [name for family in samples.SAMPLES.values() for name in family
               if f"\n| {runs.names_of(name)} |" not in text]
    assert not missing, f"run scripts/make_operations.py: {missing}"


def difference(phase: int, ours: list, theirs: list) -> str | None:
    for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a is None or b is None:
            if a is not b:
                return f"phase {phase}, result {n}: one is None"
        elif a.shape != b.shape or a.dtype != b.dtype:
            return f"phase {phase}, result {n}: {a.dtype}{a.shape}, on the CPU {b.dtype}{b.shape}"
        elif not np.allclose(a, b, rtol=1e-6 if a.dtype == np.float32 else 1e-9, atol=1e-11, equal_nan=True):
            return f"phase {phase}, result {n}: {np.abs(a.astype(float) - b).max()} apart"
    return None


def complaints(name: str, code: str, text: str) -> list[str]:
    """What is wrong with an operation on cuda."""
    found = []
    here, there, again = (runs.run(code, d) for d in ("cpu", "cuda", "cuda"))
    for phase, (a, b, c) in enumerate(zip(there.phases, here.phases, again.phases, strict=True)):
        if (a is None) != (b is None):
            found.append(f"phase {phase} is there on one device only")
        elif a is not None and b is not None and c is not None:
            wrong = difference(phase, a, b) if name not in samples.RANDOM else None
            if wrong:
                found.append(wrong)
            if any(u is not None and u.tobytes() != v.tobytes() for u, v in zip(a, c, strict=True)):
                found.append(f"phase {phase}: two runs differ")
    for phase, work in enumerate(there.work):
        if (work.up and not name.startswith("F.interpolate")) or work.down > NUMBERS:
            found.append(f"phase {phase}: {work.up} bytes to the device, {work.down} from it")
    if os.environ.get("TRITON_INTERPRET") == "1":
        committed = re.search(re.escape(f"\n| {runs.names_of(name)} |") + r" yes \| (.*) \| (.*) \| (.*) \|", text)
        kinds = [re.sub(r"\d+", "launches", cell) for cell in runs.cells(there)]
        if committed is None or [re.sub(r"\d+", "launches", cell) for cell in committed.groups()] != kinds:
            found.append(f"docs/operations.md is out of date: now {runs.cells(there)}")
    code_here = runs.inplace_code(name, code)
    if code_here is not None and name not in samples.RANDOM:
        try:
            want = runs.run(code_here, "cpu")
        except (RuntimeError, TypeError, NotImplementedError):
            return found  # a result of another dtype or shape does not fit
        got = runs.run(code_here, "cuda")
        wrong = difference(0, got.phases[0] or [], want.phases[0] or []) or difference(1, got.phases[1] or [],
                                                                                     want.phases[1] or [])
        if wrong:
            found.append(f"in place: {wrong}")
    return found


@pytest.mark.cuda_only
@pytest.mark.parametrize("family", samples.SAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_cuda_does_what_the_cpu_does(family):
    text = TABLE.read_text()
    failures = []
    for name, code in samples.SAMPLES[family].items():
        failures += [f"{name}: {what}" for what in complaints(name, code, text)]
    assert not failures, "\n".join(failures)
