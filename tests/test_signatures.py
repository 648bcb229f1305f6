"""The stubs in ``tensor/*.pyi`` are those of the ops as they are."""
import subprocess
import sys
from pathlib import Path

import pytest

import tritium

ROOT = Path(tritium.__file__).parent
SCRIPT = ROOT / "scripts" / "make_signatures.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="an installed package has no scripts")


def test_stubs_are_up_to_date() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr + "run scripts/make_signatures.py"


@pytest.mark.parametrize("name", ["signatures.pyi", "functions.pyi"])
def test_stubs_are_python(name: str) -> None:
    compile((ROOT / "tensor" / name).read_text(), name, "exec")
