"""An interpreter of pickle opcodes that can do nothing but build data.

A pickle is a program for a small stack machine. Python's own machine imports and calls whatever the program
names; this one knows a fixed list of names, has its own meaning for each, and refuses the rest. No name of a
file is ever imported, looked up as an attribute or called. All opcodes of the protocols 0 to 5 are known; see
the module ``pickletools`` for what each does.

A hostile file gets an error, not resources: what it claims is compared with the bytes it has, copies are paid
from a budget of the file's own size, nothing here recurses, and dictionary keys are kept to types that hash
in little time.
"""
from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

from tritium.tensor.opcodes import NAMES, STEPS, STOP, Unfinished
from tritium.tensor.reader import CheckpointError, Reader

_SLACK = 1 << 16  # for the copying that an honest small file does
_MAX_NUMBER_KEYS = 10_000  # tuples with numbers in them have hashes that a hostile file can make collide
_MAX_KEY_PARTS = 64
_MALFORMED = (IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError,
              struct.error)


class Global:
    """What an allowed name stands for: ``make(*args)`` answers where the file calls the name."""

    __slots__ = ("name", "make")

    def __init__(self, name: str, make: Callable[..., Any]) -> None:
        self.name = name
        self.make = make


class Unpickler:
    """Runs one pickle that starts at the reader's position; leaves the reader behind its STOP.

    ``find(name)`` gives the meaning of a dotted name, a ``Global`` or a plain value, or None to refuse it.
    ``persistent(id)`` answers the persistent-id opcodes. ``build(object, state)`` gives a finished object its
    state and returns it. ``inert`` are types of intermediate values that may not remain in the result.
    Strings of Python 2 are decoded with ``encoding`` ("bytes" leaves them as bytes)."""

    def __init__(self, reader: Reader, find: Callable[[str], Any] = lambda name: None,
                 persistent: Callable[[Any], Any] | None = None,
                 build: Callable[[Any, Any], Any] | None = None,
                 inert: tuple[type, ...] = (), encoding: str = "utf-8") -> None:
        self.reader: Reader = reader
        self.read: Callable[[int], bytes] = reader.read
        self.find = find
        self.persistent = persistent
        self.build = build
        self.inert = {Global, Unfinished, *inert}
        self.encoding = encoding
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Any] = {}
        self.budget = reader.end - reader.tell() + _SLACK
        self.number_keys = 0

    def load(self, check: bool = True) -> Any:
        """The object. Raises CheckpointError. ``check=False`` lets names and storages remain in it."""
        try:
            result = self._run()
        finally:  # names hold methods of this object: a cycle, with all that was loaded in its reach
            self.stack, self.marks, self.memo, self.names = [], [], {}, {}
        if check:
            self._check_result(result)
        return result

    def _run(self) -> Any:
        while True:
            code = self.read(1)[0]
            if code == STOP:
                break
            step = STEPS[code]
            if step is None:
                raise CheckpointError(f"damaged pickle: {bytes([code])!r} at byte {self.reader.tell() - 1} "
                                      "is no opcode")
            try:
                step(self)
            except _MALFORMED as error:
                raise CheckpointError(f"damaged pickle: {type(error).__name__} in {NAMES[code]} before byte "
                                      f"{self.reader.tell()}: {error}") from error
        if len(self.stack) != 1 or self.marks:
            raise CheckpointError("damaged pickle: it does not end with one object")
        return self.stack.pop()

    # --- rules ---

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def spend(self, count: int) -> None:
        """Pay for a copy of ``count`` elements. What a file can have copied is bounded by its own size."""
        self.budget -= count
        if self.budget < 0:
            raise CheckpointError("the pickle copies more data than it contains")

    def check_key(self, key: Any) -> None:
        """Let a value be a dictionary key or a member of a set."""
        kind = type(key)
        if kind is str or kind is int and -_HASH_PRIME < key < _HASH_PRIME or kind in _KEYS:
            return
        if not isinstance(key, tuple):
            if kind in (int, list, dict, set, complex, OrderedDict) or kind in self.inert:
                raise CheckpointError(f"a {kind.__name__} like this is not accepted as a dictionary key")
            return
        parts, waiting, text = 0, [key], True
        while waiting:
            for part in waiting.pop():
                parts += 1
                if parts > _MAX_KEY_PARTS:
                    raise CheckpointError("a tuple of that size is not accepted as a dictionary key")
                if isinstance(part, tuple):
                    waiting.append(part)
                else:
                    self.check_key(part)
                    text = text and type(part) in (str, bytes)
        if not text:
            self.number_keys += 1
            if self.number_keys > _MAX_NUMBER_KEYS:
                raise CheckpointError("too many dictionary keys that are tuples of numbers")

    def _check_result(self, result: Any) -> None:
        """Refuse a result that still holds a name, a storage or an object without its state."""
        waiting, seen = [result], set()
        while waiting:
            value = waiting.pop()
            if type(value) in self.inert:
                name = getattr(value, "name", type(value).__name__)
                raise CheckpointError(f"the file holds {name} as a value; only tensors, numbers, text and "
                                      "plain containers are loaded")
            if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
                seen.add(id(value))
                waiting.extend(value.values() if isinstance(value, dict) else value)
                if type(value) is OrderedDict and vars(value):
                    waiting.extend(vars(value).values())

    def global_(self, module: str, name: str) -> Any:
        module = _PYTHON2.get(module, module)
        full = f"{module}.{name}"
        if full not in self.names:
            plain = _PLAIN.get(full)
            found = Global(full, plain.__get__(self)) if plain else self.find(full)
            if found is None:
                raise CheckpointError(
                    f"Unsupported global: GLOBAL {full} was not an allowed global. tritium.load builds "
                    "tensors, numbers, text and plain containers, and never runs code that a file names. For "
                    "a file you trust, save its state_dict() with PyTorch and load that.")
            self.names[full] = found
        return self.names[full]

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Global) or type(args) is not tuple:
            raise CheckpointError(f"damaged pickle: a call of {type(function).__name__}")
        return function.make(*args)

    def text(self, data: bytes) -> str | bytes:
        return data if self.encoding == "bytes" else data.decode(self.encoding)

    # --- names of plain Python. Each method is what the name means in a file ---

    def _encode(self, text: str = "", encoding: str = "latin1") -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise CheckpointError("_codecs.encode is honoured for bytes written as latin1 text only")
        self.spend(len(text))
        return text.encode("latin-1")

    def _bytes(self) -> bytes:
        return b""

    def _bytearray(self, data: bytes | str = b"", encoding: str = "latin1") -> bytearray:
        if type(data) is str:
            data = self._encode(data, encoding)
        if type(data) is not bytes:
            raise CheckpointError("bytearray is honoured for bytes only")
        self.spend(len(data))
        return bytearray(data)

    def _complex(self, real: float, imag: float) -> complex:
        return complex(real, imag)

    def _set(self, items: Any = ()) -> set[Any]:
        if type(items) not in (list, tuple):
            raise CheckpointError("set is honoured for a list only")
        self.spend(len(items))
        for item in items:
            self.check_key(item)
        return set(items)

    def _frozenset(self, items: Any = ()) -> frozenset[Any]:
        return frozenset(self._set(items))

    def _ordered_dict(self, items: Any = ()) -> OrderedDict[Any, Any]:
        if type(items) not in (list, tuple):
            raise CheckpointError("OrderedDict is honoured for a list of pairs only")
        self.spend(len(items))
        result: OrderedDict[Any, Any] = OrderedDict()
        for key, value in items:
            self.check_key(key)
            result[key] = value
        return result

    def _counter(self, counts: Any = None) -> Counter[Any]:
        if counts is not None and type(counts) is not dict:
            raise CheckpointError("Counter is honoured for a dict only")
        self.spend(len(counts or ()))
        return Counter(counts)

    def _new_object(self, kind: Any, *args: Any) -> Any:
        return self.call(kind, args)

    def _reconstructor(self, kind: Any, base: Any, state: Any) -> Any:
        if getattr(base, "name", None) != "builtins.object" or state is not None:
            raise CheckpointError("copyreg._reconstructor is honoured for plain objects only")
        return self.call(kind, ())

    def _object(self) -> NoReturn:
        raise CheckpointError("the file makes a bare object")


_HASH_PRIME = (1 << 61) - 1  # Python's hash of an int is its value modulo this: below it no two are equal
_KEYS = frozenset((bytes, bool, float, type(None)))
_PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PLAIN: dict[str, Any] = {
    "_codecs.encode": Unpickler._encode,
    "builtins.bytes": Unpickler._bytes,
    "builtins.bytearray": Unpickler._bytearray,
    "builtins.complex": Unpickler._complex,
    "builtins.set": Unpickler._set,
    "builtins.frozenset": Unpickler._frozenset,
    "builtins.object": Unpickler._object,
    "collections.OrderedDict": Unpickler._ordered_dict,
    "collections.Counter": Unpickler._counter,
    "copyreg.__newobj__": Unpickler._new_object,
    "copyreg._reconstructor": Unpickler._reconstructor,
}
