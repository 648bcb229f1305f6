"""The structure of the house: which way imports run, what ``import tritium`` loads, what the wheel carries."""
import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tritium

ROOT = Path(tritium.__file__).parent
# A room may import itself and the rooms before it. ``hub`` and the small top-level modules come after ``tensor``.
ORDER = ["kernels", "tensor", "autograd", "nn", "optim", "data", "hub", "models", "probe"]
MAY_USE = {room: set(ORDER[:i + 1]) for i, room in enumerate(ORDER)}
MAY_USE["data"] -= {"nn", "optim"}

MAY_USE["hub"] = {"kernels", "tensor", "hub"}
# A call from below upwards that the design names: Tensor.backward and the hooks ask the engine when they are called.
EXCEPTIONS = {("tensor/tensor.py", "autograd")}
OUTSIDE = {"__version__", "amp", "cpu", "utils", "transforms", "datasets", "cuda", "accelerator", "jit", "backends", "linalg",
           "testing", "__init__", "__main__"}


def python_files() -> list[Path]:
    return [p for room in ORDER for p in (sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else
                                          [ROOT / (room + ".py")])]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "tritium":
                names = ["tritium." + a.name for a in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("tritium.")}
    return rooms


def test_imports_run_one_way() -> None:
    wrong = []
    for path in python_files():
        relative = path.relative_to(ROOT)
        room = relative.parts[0].removesuffix(".py")
        for used in imported_rooms(path):
            if used in OUTSIDE or used in MAY_USE[room] or (relative.as_posix(), used) in EXCEPTIONS:
                continue
            wrong.append(f"{relative.as_posix()} imports tritium.{used}")
    assert not wrong, "\n".join(wrong)


def outside_imports(path: Path) -> set[str]:
    """The packages from elsewhere that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_cuda_and_triton_are_imported_in_their_rooms_only() -> None:
    for path in python_files():
        relative = path.relative_to(ROOT).as_posix()
        used = outside_imports(path)
        assert "cuda" not in used or relative == "kernels/runtime/cuda.py", f"{relative} imports a CUDA package"
        rooms = ("kernels/triton/", "kernels/runtime/", "kernels/report.py")
        assert "triton" not in used or relative.startswith(rooms), f"{relative} imports Triton"
        assert "torch" not in used, f"{relative} imports PyTorch"


def test_the_direction_check_sees_a_wrong_arrow(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from tritium.probe import cli\n")
    assert imported_rooms(bad) == {"probe"}


@pytest.mark.parametrize("name", ["torch", "triton", "cuda", "tqdm", "PIL", "safetensors", "scipy", "urllib.request",
                                  "tritium.nn", "tritium.optim", "tritium.data", "tritium.models", "tritium.probe"])
def test_import_is_light(name: str) -> None:
    code = f"import sys, tritium; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, f"import tritium loads {name}"


def test_nothing_but_tests_and_benchmarks_imports_pytorch() -> None:
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not any(n.split(".")[0] == "torch" for n in names), path


def test_every_folder_of_python_is_a_listed_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(settings["packages"])
    found = {"tritium." + ".".join(p.parent.relative_to(ROOT).parts) for p in python_files() if p.parent != ROOT}
    found |= {"tritium", "tritium.utils"}
    assert found - listed == set()


def test_tensor_is_a_folder_and_a_function() -> None:
    from tritium.tensor.ops import pointwise  # noqa: F401  (the folder, by its full name)

    assert callable(tritium.tensor)
    assert tritium.tensor([1, 2]).tolist() == [1, 2]


def test_star_names() -> None:
    assert {"tensor", "Tensor", "nn", "optim", "utils"} <= set(dir(tritium))
    with pytest.raises(AttributeError, match="no attribute 'does_not_exist'"):
        tritium.does_not_exist  # noqa: B018
