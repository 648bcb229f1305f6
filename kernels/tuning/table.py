"""Tables of configurations that were found by measuring on one kind of GPU: what ``choose`` functions ask first.

A table is a JSON file named after the GPU. One lies in the package (``kernels/tuned``), maybe; the user's own, which
comes first, in ``$TRITIUM_CACHE_DIR/tuned`` or ``~/.cache/tritium/tuned``. Both are read at the first question about a
device. An entry is found by its key, which ends with the size that a batch changes ("half NT 1000x2048 vectors 64"),
or, if there is none of that size, by the nearest one within ``NEAR``.

What is wrong with a table or an entry is said once, in a warning, and then the heuristics decide.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

FORMAT = 1  # of the files
VERSIONS = {"matmul": 1, "conv": 1, "attention": 1}  # what a family's keys and choices mean
NEAR = 1.25  # sizes that differ by such a factor at most may share an entry
PACKAGE = Path(__file__).parent.parent / "tuned"

Choice = tuple[int, ...]
Entry = dict[str, Any]  # "choice": a list of integers; "us", "before": microseconds of it and of the heuristics' choice
Asked = dict[tuple[str, str], Callable[[], Iterable[Choice]]]  # (family, key) -> candidates
T = TypeVar("T")

_lock = threading.Lock()
_loaded: dict[Any, Table] = {}  # by what tells kinds of GPU apart
_warned: set[str] = set()
_forced: dict[tuple[str, str], Choice] | None = None  # while tuning: these and no tables
_asked: Asked | None = None  # while tuning: every question, with its candidates


class Table:
    """The entries of one kind of GPU: family -> key without its size -> size -> (choice, file)."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, dict[int, tuple[Choice, str]]]] = {}

    def add(self, content: dict[str, Any], file: str) -> None:
        """Take over the entries of a file's content, in place of those of the same keys."""
        for family, section in content["families"].items():
            entries = section["entries"]
            for key, entry in entries.items():
                fixed, size = split(key)
                self.found.setdefault(family, {}).setdefault(fixed, {})[size] = tuple(entry["choice"]), file

    def find(self, family: str, key: str) -> tuple[Choice, str] | None:
        """The choice of a key, or of the nearest size, and the file that it comes from."""
        fixed, size = split(key)
        sizes = self.found.get(family, {}).get(fixed)
        if not sizes:
            return None
        nearest = min(sizes, key=lambda s: (max(s, size) / max(min(s, size), 1), s))
        if max(nearest, size) > NEAR * min(nearest, size):
            return None
        return sizes[nearest]


def split(key: str) -> tuple[str, int]:
    """A key without its last word, which is a size. Raises ValueError for another text."""
    fixed, _, size = key.rpartition(" ")
    return fixed, int(size)


def find(family: str, key: str, properties: Any, emulated: bool, valid: Callable[[Choice], T | None],
         candidates: Callable[[], Iterable[Choice]]) -> T | None:
    """What ``valid`` makes of the tuned choice for a key on a device of these properties; None without one.

    ``valid`` answers None for a choice that the kernels can not take: it is ignored with one warning. ``candidates``:
    the choices that are worth measuring, the most promising first. Tables do not count on the emulated device."""
    if _asked is not None:
        _asked.setdefault((family, key), candidates)
    if _forced is not None:
        choice = _forced.get((family, key))
        made = None if choice is None else valid(choice)
        if choice is not None and made is None:
            raise ValueError(f"{family}: {choice} can not be used for {key}")
        return made
    if emulated:
        return None
    found = table_of(properties).find(family, key)
    if found is None:
        return None
    choice, file = found
    try:
        made = valid(choice)
    except (TypeError, ValueError, IndexError):
        made = None
    if made is None:
        warn(file, f"an entry of {family} that its kernels can not take ({key}: {list(choice)})")
    return made


def warn(file: str, what: str) -> None:
    """Say that something in a table is ignored: once for each file."""
    if file not in _warned:
        _warned.add(file)
        warnings.warn(f"{file}: {what} is ignored; tritium tune writes a new table", UserWarning, stacklevel=3)


# --- while tuning ---

@contextlib.contextmanager
def forcing(choices: dict[tuple[str, str], Choice]) -> Iterator[None]:
    """Inside, these (family, key) have these choices, and no table counts. What was chosen before stays remembered:
    the families' caches have to be cleared."""
    global _forced
    before, _forced = _forced, choices
    try:
        yield
    finally:
        _forced = before


@contextlib.contextmanager
def asking() -> Iterator[Asked]:
    """Inside, every question is noted, in order."""
    global _asked
    before, _asked = _asked, {}
    try:
        yield _asked
    finally:
        _asked = before


# --- files ---

def file_name(gpu: str) -> str:
    """The name of a GPU's table."""
    return (re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") or "gpu") + ".json"


def user_folder() -> Path | None:
    """Where the user's own tables lie; None where there is no such place."""
    given = os.environ.get("TRITIUM_CACHE_DIR")
    if given:
        return Path(given) / "tuned"
    try:
        return Path.home() / ".cache" / "tritium" / "tuned"
    except RuntimeError:
        return None


def table_of(properties: Any) -> Table:
    """The entries for a kind of GPU, read once."""
    kind = (properties.name, properties.architecture, properties.multi_processor_count)
    table = _loaded.get(kind)
    if table is None:
        with _lock:
            table = _loaded.get(kind)
            if table is None:
                table = Table()
                for folder in (PACKAGE, user_folder()):
                    content = None if folder is None else read(folder / file_name(properties.name), properties)
                    if content is not None:
                        table.add(content, str(folder / file_name(properties.name)))  # type: ignore[operator]
                _loaded[kind] = table
    return table


def forget() -> None:
    """Read the tables anew at the next question; warn anew."""
    _loaded.clear()
    _warned.clear()


def read(path: Path, properties: Any) -> dict[str, Any] | None:
    """A file's content, without the families of other versions; None, with a warning, for what is no table of this
    GPU, and without one where there is no file."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        warn(str(path), f"what can not be read ({type(error).__name__})")
        return None
    try:
        return checked(content, properties)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        warn(str(path), f"a table that does not fit ({error})")
        return None


def checked(content: Any, properties: Any) -> dict[str, Any]:
    """A table's content, without families of other versions. Raises ValueError, TypeError, KeyError or AttributeError
    for one that is not of this format or GPU."""
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, not {FORMAT}")
    for name, here in header(properties).items():
        if content[name] != here:
            raise ValueError(f"{name} {content[name]}, not {here}")
    families = {}
    for family, section in content["families"].items():
        if section["version"] != VERSIONS.get(family):
            continue
        for key, entry in section["entries"].items():
            split(key)
            if not entry["choice"] or not all(type(n) is int for n in entry["choice"]):
                raise ValueError(f"{family}, {key}: {entry['choice']}")
        families[family] = section
    return {**content, "families": families}


def header(properties: Any) -> dict[str, Any]:
    """What a table says of its GPU."""
    return {"gpu": properties.name, "architecture": properties.architecture,
            "multiprocessors": properties.multi_processor_count}


def merge(path: Path, properties: Any, changes: dict[tuple[str, str], Entry | None]) -> int:
    """Write entries into a table, whole or not at all, beside those that it has; None takes an entry out.

    A file that is no table of this GPU is written anew. Returns the number of entries in it. Raises OSError."""
    try:
        content = checked(json.loads(path.read_text()), properties)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        content = {"families": {}}
    families = content["families"]
    for (family, key), entry in changes.items():
        entries = families.setdefault(family, {"version": VERSIONS[family], "entries": {}})["entries"]
        if entry is None:
            entries.pop(key, None)
        else:
            entries[key] = entry
    families = {family: section for family, section in families.items() if section["entries"]}
    write(path, text_of({"format": FORMAT, **header(properties), "families": families}))
    return sum(len(section["entries"]) for section in families.values())


def text_of(content: dict[str, Any]) -> str:
    """A table as JSON with a line for each entry, in order."""
    families = []
    for family, section in sorted(content["families"].items()):
        lines = [f"   {json.dumps(key)}: {json.dumps(entry)}"
                 for key, entry in sorted(section["entries"].items(), key=lambda item: split(item[0]))]
        families.append(f"  {json.dumps(family)}: {{\"version\": {section['version']}, \"entries\": {{\n"
                        + ",\n".join(lines) + "\n  }}")
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in content.items()
                   if name != "families")
    return "{\n" + head + " \"families\": {\n" + ",\n".join(families) + "\n }\n}\n"


def write(path: Path, text: str) -> None:
    """Put a file in place, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
