"""Named results: tuples whose items have names, as ``tritium.sort`` and ``tritium.max`` return them.

https://docs.pytorch.org/docs/stable/generated/torch.sort.html
"""
from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any


class _NamedResult(tuple):  # type: ignore[type-arg]
    """A tuple that prints its items with their names. Made from one iterable: ``max((values, indices))``."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def __new__(cls, items: Iterable[Any]) -> Any:
        found = tuple.__new__(cls, items)
        if len(found) != len(cls._fields):
            raise TypeError(f"tritium.return_types.{cls.__name__}() takes a {len(cls._fields)}-sequence "
                            f"({len(found)}-sequence given)")
        return found

    def __repr__(self) -> str:
        items = ",\n".join(f"{name}={item!r}" for name, item in zip(self._fields, self, strict=True))
        return f"tritium.return_types.{type(self).__name__}(\n{items})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self).__name__, tuple(self))


_types: dict[str, type[_NamedResult]] = {}


def return_type(name: str, fields: tuple[str, ...]) -> Any:
    """The kind of named tuple that the op ``name`` returns: called with one iterable of the items."""
    found = _types.get(name)
    if found is None:
        body: dict[str, Any] = {"__slots__": (), "_fields": fields, "__module__": "tritium.return_types",
                                "n_fields": len(fields), "n_sequence_fields": len(fields),
                                "__match_args__": fields}
        for i, field in enumerate(fields):
            body[field] = property(itemgetter(i), doc=f"The {field} of the result.")
        found = _types[name] = type(name, (_NamedResult,), body)
    return found


def _rebuild(name: str, items: tuple[Any, ...]) -> Any:
    return _types[name](items)


PAIR = ("values", "indices")
max = return_type("max", PAIR)  # noqa: A001
min = return_type("min", PAIR)  # noqa: A001
aminmax = return_type("aminmax", ("min", "max"))
sort = return_type("sort", PAIR)
topk = return_type("topk", PAIR)
kthvalue = return_type("kthvalue", PAIR)
median = return_type("median", PAIR)
nanmedian = return_type("nanmedian", PAIR)
mode = return_type("mode", PAIR)
cummax = return_type("cummax", PAIR)
cummin = return_type("cummin", PAIR)
