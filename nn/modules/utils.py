"""Small helpers shared by the layers: sizes given as one number or one per dimension, and names for error
messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tritium.tensor.tensor import Tensor


def ntuple(value: Any, n: int) -> tuple:
    """`value` once per dimension: a number is repeated `n` times, an iterable becomes a tuple as it is."""
    if isinstance(value, Iterable):
        return tuple(value)
    return (value,) * n


def _ntuple(n: int, name: str = "parse") -> Any:
    def parse(value: Any) -> tuple:
        return ntuple(value, n)

    parse.__name__ = name
    return parse


# The names under which layers outside this package import them.
_single = _ntuple(1, "_single")
_pair = _ntuple(2, "_pair")
_triple = _ntuple(3, "_triple")
_quadruple = _ntuple(4, "_quadruple")


def typename(obj: object) -> str:
    """The name PyTorch's error messages give an object: 'torch.FloatTensor' for a tensor, 'list' for a
    list."""
    if isinstance(obj, Tensor):
        return str(obj.type())
    cls = obj if isinstance(obj, type) else type(obj)
    module = cls.__module__
    return cls.__qualname__ if module in ("builtins", "__builtin__") else f"{module}.{cls.__qualname__}"


def indent(text: str, spaces: int) -> str:
    """`text` with every line after the first moved right by `spaces`."""
    return text.replace("\n", "\n" + " " * spaces)


def consume_prefix_in_state_dict_if_present(state_dict: dict[str, Any], prefix: str) -> None:
    """Remove `prefix` from the keys that start with it, in place, keys and metadata both.

    For checkpoints written from a wrapped model (DataParallel writes 'module.' in front of every key).
    Follows torch.nn.modules.utils.consume_prefix_in_state_dict_if_present.
    """
    for key in list(state_dict):
        if key.startswith(prefix):
            state_dict[key[len(prefix) :]] = state_dict.pop(key)
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is None:
        return
    for key in list(metadata):
        # The root module's entry is '', and a wrapper's own entry ('module') names the same place as ''.
        if key == "" or key == prefix.rstrip("."):
            continue
        if key.startswith(prefix):
            metadata[key[len(prefix) :]] = metadata.pop(key)
