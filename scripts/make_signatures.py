"""Write the type stubs of what ``tensor/methods.py`` attaches at run time.

``tensor/signatures.pyi`` has Tensor's methods, ``tensor/functions.pyi`` the functions ``tritium.<name>``. Run it after
adding an op; a test compares the files with the ops.

    python scripts/make_signatures.py [--check]
"""
import argparse
import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path

import tritium
from tritium.tensor.methods import functions
from tritium.tensor.tensor import Tensor

HERE = Path(tritium.__file__).parent / "tensor"
HEAD = '''# Written by scripts/make_signatures.py: do not edit.
from builtins import bool as _bool
from builtins import complex as _complex
from builtins import float as _float
from builtins import int as _int
from builtins import str as _str
from builtins import tuple as _tuple
from typing import Any

from tritium.tensor.dtype import dtype as _dtype
from tritium.tensor.layout import memory_format as _memory_format
from tritium.tensor.random import Generator
from tritium.tensor.tensor import Tensor

'''
KNOWN = {"Any", "Tensor", "None", "Generator"}
ALIASES = {"bool": "_bool", "complex": "_complex", "float": "_float", "int": "_int", "str": "_str", "tuple": "_tuple",
           "dtype": "_dtype", "memory_format": "_memory_format"}


def file(body: str) -> str:
    """The stub: the head's imports as far as the body needs them, and the body."""
    used = set(re.findall(r"\w+", body))
    return "".join(line for line in HEAD.splitlines(True) if " import " not in line or line.split()[-1] in used) + body


def annotation(text: object) -> str:
    """An annotation with builtins under names that no method takes; ``Any`` for what the stubs do not know."""
    if text is inspect.Parameter.empty:
        return "Any"
    words = str(text)
    names = set(re.findall(r"[A-Za-z_][\w.]*", words))
    if names - KNOWN - set(ALIASES):
        return "Any"
    return re.sub(r"[A-Za-z_]\w*", lambda m: ALIASES.get(m[0], m[0]), words)


def signature(name: str, function: object, method: bool) -> str:
    try:
        found = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"def {name}({'self, ' if method else ''}*args: Any, **kwargs: Any) -> Any: ..."
    parts, starred = [], False
    for i, p in enumerate(found.parameters.values()):
        if method and i == 0:
            parts.append("self")
            continue
        if p.kind is p.VAR_POSITIONAL:
            parts.append(f"*{p.name}: {annotation(p.annotation)}")
            starred = True
        elif p.kind is p.VAR_KEYWORD:
            parts.append(f"**{p.name}: {annotation(p.annotation)}")
        else:
            if p.kind is p.KEYWORD_ONLY and not starred:
                parts.append("*")
                starred = True
            default = "" if p.default is p.empty else " = ..."
            parts.append(f"{p.name}: {annotation(p.annotation)}{default}")
    return f"def {name}({', '.join(parts)}) -> {annotation(found.return_annotation)}: ..."


def wrapped(line: str, indent: str = "") -> str:
    """A definition, over several lines where one would be longer than 120 characters."""
    if len(indent + line) <= 120:
        return f"{indent}{line}\n"
    head, rest = line.split("(", 1)
    parameters, tail = rest.rsplit(") -> ", 1)
    whole = ", ".join(p.replace(" ", "\0") for p in parameters.split(", "))
    inner = textwrap.fill(whole, 120, initial_indent=indent + "    ", subsequent_indent=indent + "    ")
    return f"{indent}{head}(\n{inner}\n{indent}) -> {tail}\n".replace("\0", " ")

def methods() -> str:
    own = Tensor.__dict__.keys() - set(_written_in_the_class())
    lines = ["class Methods:\n"]
    for name in sorted(own):
        value = Tensor.__dict__[name]
        if isinstance(value, property):
            kind = "Tensor" if name in ("T", "mT", "mH", "H", "real", "imag") else "Any"
            lines.append(f"    @property\n    def {name}(self) -> {kind}: ...\n")
        elif callable(value):
            text = signature(name, value, True)
            if name in ("__eq__", "__ne__"):
                text = f"def {name}(self, other: object) -> Tensor: ...  # type: ignore[override]"
            elif name.startswith("__"):
                text = text.replace("-> Any", "-> Tensor")
            lines.append(wrapped(text, "    "))
    return file("".join(lines))


def _written_in_the_class() -> set[str]:
    tree = ast.parse((HERE / "tensor.py").read_text())
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor")
    names = {"__module__", "__qualname__", "__annotations__", "__dict__", "__weakref__", "__doc__",
             "__static_attributes__", "__firstlineno__"}
    for n in cls.body:
        names.add(getattr(n, "name", ""))
        for target in getattr(n, "targets", [getattr(n, "target", None)]):
            names |= {t.id for t in ast.walk(target) if isinstance(t, ast.Name)} if target is not None else set()
    return names


def module_functions() -> str:
    return file("".join(wrapped(signature(name, f, False)) for name, f in sorted(functions.items())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when the files are not up to date; write nothing")
    check = parser.parse_args().check
    stale = []
    for name, text in (("signatures.pyi", methods()), ("functions.pyi", module_functions())):
        path = HERE / name
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not check:
                path.write_text(text)
    if stale:
        print(("out of date: " if check else "wrote ") + ", ".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
