"""What each opcode of a pickle does to the stack, the marks and the memo of ``tensor/unpickle.py``.

The opcodes are described in Python's module ``pickletools``; this table has all of the protocols 0 to 5.
"""
from __future__ import annotations

import codecs
import pickle
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tritium.tensor.reader import CheckpointError

if TYPE_CHECKING:
    from tritium.tensor.unpickle import Unpickler

MAX_MARKS = 10_000  # open brackets; Python's own writer stops near a thousand


class Unfinished:
    """An object between its creation and the BUILD opcode; ``finish(state)`` makes it."""

    __slots__ = ("name", "finish", "slots")

    def __init__(self, name: str, finish: Callable[[Any], Any]) -> None:
        self.name = name
        self.finish = finish
        self.slots: list[int] = []  # where the memo holds it


STOP = pickle.STOP[0]
STEPS: list[Callable[[Unpickler], None] | None] = [None] * 256
NAMES: dict[int, str] = {}


def _opcode(*names: str) -> Callable[[Callable[[Unpickler], None]], Callable[[Unpickler], None]]:
    """Make a function the meaning of the opcodes with these names."""
    def register(step: Callable[[Unpickler], None]) -> Callable[[Unpickler], None]:
        for name in names:
            code = getattr(pickle, name)[0]
            STEPS[code], NAMES[code] = step, name
        return step
    return register


def _push(name: str, make: Callable[[Unpickler], Any]) -> None:
    """An opcode that pushes what ``make`` reads."""
    @_opcode(name)
    def step(u: Unpickler) -> None:
        value = make(u)  # may exchange the stack
        u.stack.append(value)


def _number(u: Unpickler, layout: str, size: int) -> Any:
    return struct.unpack(layout, u.read(size))[0]


def _sized(u: Unpickler, layout: str, size: int) -> bytes:
    """Bytes behind a count."""
    return u.read(_number(u, layout, size))


def _utf8(data: bytes) -> str:
    return str(data, "utf-8", "surrogatepass")


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _int_line(u: Unpickler) -> int | bool:
    line = u.reader.line()
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(u: Unpickler) -> str | bytes:
    line = u.reader.line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
        raise ValueError("a string without quotes")
    decoded: Any = codecs.escape_decode(line[1:-1])  # type: ignore[attr-defined]
    return u.text(decoded[0])


_push("NONE", lambda u: None)
_push("NEWTRUE", lambda u: True)
_push("NEWFALSE", lambda u: False)
_push("INT", _int_line)
_push("LONG", lambda u: int(u.reader.line().rstrip(b"L")))
_push("BININT", lambda u: _number(u, "<i", 4))
_push("BININT1", lambda u: u.read(1)[0])
_push("BININT2", lambda u: _number(u, "<H", 2))
_push("LONG1", lambda u: _long(_sized(u, "<B", 1)))
_push("LONG4", lambda u: _long(_sized(u, "<i", 4)))
_push("FLOAT", lambda u: float(u.reader.line()))
_push("BINFLOAT", lambda u: _number(u, ">d", 8))
_push("STRING", _quoted)
_push("BINSTRING", lambda u: u.text(_sized(u, "<i", 4)))
_push("SHORT_BINSTRING", lambda u: u.text(_sized(u, "<B", 1)))
_push("UNICODE", lambda u: str(u.reader.line(), "raw-unicode-escape"))
_push("BINUNICODE", lambda u: _utf8(_sized(u, "<I", 4)))
_push("SHORT_BINUNICODE", lambda u: _utf8(_sized(u, "<B", 1)))
_push("BINUNICODE8", lambda u: _utf8(_sized(u, "<Q", 8)))
_push("BINBYTES", lambda u: _sized(u, "<I", 4))
_push("SHORT_BINBYTES", lambda u: _sized(u, "<B", 1))
_push("BINBYTES8", lambda u: _sized(u, "<Q", 8))
_push("BYTEARRAY8", lambda u: bytearray(_sized(u, "<Q", 8)))
_push("EMPTY_TUPLE", lambda u: ())
_push("EMPTY_LIST", lambda u: [])
_push("EMPTY_DICT", lambda u: {})
_push("EMPTY_SET", lambda u: set())
_push("DUP", lambda u: u.stack[-1])
_push("GET", lambda u: u.memo[int(u.reader.line())])
_push("BINGET", lambda u: u.memo[u.read(1)[0]])
_push("LONG_BINGET", lambda u: u.memo[_number(u, "<I", 4)])
_push("TUPLE1", lambda u: (u.stack.pop(),))
_push("TUPLE", lambda u: tuple(u.pop_mark()))
_push("LIST", lambda u: u.pop_mark())
_push("FROZENSET", lambda u: u._frozenset(u.pop_mark()))
_push("GLOBAL", lambda u: u.global_(_utf8(u.reader.line()), _utf8(u.reader.line())))


@_opcode("PROTO")
def _proto(u: Unpickler) -> None:
    version = u.read(1)[0]
    if version > pickle.HIGHEST_PROTOCOL:
        raise CheckpointError(f"pickle protocol {version} is not known")


@_opcode("FRAME")
def _frame(u: Unpickler) -> None:
    u.reader.check(_number(u, "<Q", 8))


@_opcode("MARK")
def _mark(u: Unpickler) -> None:
    if len(u.marks) >= MAX_MARKS:
        raise CheckpointError("the pickle is nested too deeply")
    u.marks.append(u.stack)
    u.stack = []


@_opcode("POP")
def _pop(u: Unpickler) -> None:
    if u.stack:
        u.stack.pop()
    else:
        u.pop_mark()


@_opcode("POP_MARK")
def _pop_to_mark(u: Unpickler) -> None:
    u.pop_mark()


def _put(u: Unpickler, slot: int) -> None:
    value = u.stack[-1]
    if slot < 0:
        raise ValueError("a negative memo slot")
    if type(value) is Unfinished:
        value.slots.append(slot)
    u.memo[slot] = value


_opcode("PUT")(lambda u: _put(u, int(u.reader.line())))
_opcode("BINPUT")(lambda u: _put(u, u.read(1)[0]))
_opcode("LONG_BINPUT")(lambda u: _put(u, _number(u, "<I", 4)))
_opcode("MEMOIZE")(lambda u: _put(u, len(u.memo)))


@_opcode("TUPLE2")
def _tuple2(u: Unpickler) -> None:
    u.stack[-2:] = [(u.stack[-2], u.stack[-1])]


@_opcode("TUPLE3")
def _tuple3(u: Unpickler) -> None:
    u.stack[-3:] = [(u.stack[-3], u.stack[-2], u.stack[-1])]


def _extend(u: Unpickler, target: Any, items: list[Any]) -> None:
    if type(target) is not list:
        raise CheckpointError(f"damaged pickle: it appends to a {type(target).__name__}")
    target.extend(items)


def _update(u: Unpickler, target: Any, items: list[Any]) -> None:
    if type(target) not in (dict, OrderedDict, Counter) or len(items) % 2:
        raise CheckpointError(f"damaged pickle: it sets items of a {type(target).__name__}")
    for i in range(0, len(items), 2):
        u.check_key(items[i])
        target[items[i]] = items[i + 1]


@_opcode("APPEND")
def _append(u: Unpickler) -> None:
    item = u.stack.pop()
    _extend(u, u.stack[-1], [item])


@_opcode("APPENDS")
def _appends(u: Unpickler) -> None:
    items = u.pop_mark()
    _extend(u, u.stack[-1], items)


@_opcode("SETITEM")
def _setitem(u: Unpickler) -> None:
    value, key = u.stack.pop(), u.stack.pop()
    _update(u, u.stack[-1], [key, value])


@_opcode("SETITEMS")
def _setitems(u: Unpickler) -> None:
    items = u.pop_mark()
    _update(u, u.stack[-1], items)


@_opcode("DICT")
def _dict(u: Unpickler) -> None:
    items, target = u.pop_mark(), {}  # type: ignore[var-annotated]
    _update(u, target, items)
    u.stack.append(target)


@_opcode("ADDITEMS")
def _additems(u: Unpickler) -> None:
    items, target = u.pop_mark(), u.stack[-1]
    if type(target) is not set:
        raise CheckpointError(f"damaged pickle: it adds members to a {type(target).__name__}")
    target |= u._set(items)


@_opcode("STACK_GLOBAL")
def _stack_global(u: Unpickler) -> None:
    name, module = u.stack.pop(), u.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise CheckpointError("damaged pickle: a name that is no text")
    u.stack.append(u.global_(module, name))


@_opcode("REDUCE", "NEWOBJ")
def _reduce(u: Unpickler) -> None:
    args = u.stack.pop()
    u.stack[-1] = u.call(u.stack[-1], args)


@_opcode("NEWOBJ_EX")
def _newobj_ex(u: Unpickler) -> None:
    keywords = u.stack.pop()
    if keywords:
        raise CheckpointError("the pickle calls a class with keywords")
    _reduce(u)


@_opcode("INST")
def _inst(u: Unpickler) -> None:
    kind = u.global_(_utf8(u.reader.line()), _utf8(u.reader.line()))
    args = tuple(u.pop_mark())
    u.stack.append(u.call(kind, args))


@_opcode("OBJ")
def _obj(u: Unpickler) -> None:
    kind, *args = u.pop_mark()
    u.stack.append(u.call(kind, tuple(args)))


@_opcode("BUILD")
def _build(u: Unpickler) -> None:
    state, target = u.stack.pop(), u.stack[-1]
    if type(target) is Unfinished:
        value = u.stack[-1] = target.finish(state)
        for slot in target.slots:
            if u.memo.get(slot) is target:
                u.memo[slot] = value
    elif type(target) is OrderedDict:
        for key, value in state.items():  # a state dict carries the versions of its modules as ``_metadata``
            if type(key) is not str or hasattr(OrderedDict, key):
                raise CheckpointError(f"the pickle sets the attribute {key!r} of an OrderedDict")
            vars(target)[key] = value
    elif u.build is None or type(target) in u.inert:
        raise CheckpointError(f"the pickle sets the state of a {type(target).__name__}")
    else:
        u.stack[-1] = u.build(target, state)


@_opcode("PERSID")
def _persid(u: Unpickler) -> None:
    u.stack.append(_utf8(u.reader.line()))
    _binpersid(u)


@_opcode("BINPERSID")
def _binpersid(u: Unpickler) -> None:
    if u.persistent is None:
        raise CheckpointError("damaged file: a reference to data outside this pickle")
    u.stack[-1] = u.persistent(u.stack[-1])


@_opcode("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")
def _refused(u: Unpickler) -> None:
    raise CheckpointError("the pickle uses the extension registry or data outside the file: not supported")
