"""Write docs/operations.md: every operation and what it launches, forward, backward and for the second derivative.

    python scripts/make_operations.py
"""
import os
import sys
import warnings
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "operations"))

import operation_runs as runs  # noqa: E402
import operation_samples as samples  # noqa: E402


def main() -> None:
    warnings.simplefilter("ignore")
    text = [runs.HEAD]
    for family, members in samples.SAMPLES.items():
        rule = " | ".join("---" for _ in runs.TITLES)
        text += [f"## {family}", "", f"| {' | '.join(runs.TITLES)} |", f"| {rule} |"]
        text += [runs.line(name, runs.run(code, "cuda")) for name, code in members.items()]
        text.append("")
    (ROOT / "docs" / "operations.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
