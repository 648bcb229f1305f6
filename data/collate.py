"""From a list of samples to a batch; mirrors ``torch.utils.data.default_collate`` and ``default_convert``."""
from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from tritium.tensor.dtype import float64
from tritium.tensor.from_data import as_tensor, tensor
from tritium.tensor.ops.join import stack
from tritium.tensor.tensor import Tensor

MESSAGE = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
Map = dict[Any, Callable[..., Any]] | None


def _is_text(array: Any) -> bool:
    """Whether a NumPy array holds strings or objects, which no tensor can."""
    return array.dtype.kind in "SUO"


def default_convert(data: Any) -> Any:
    """NumPy arrays and scalars as tensors, inside of any nesting of containers; all else as it is."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        if isinstance(data, np.str_ | np.bytes_) or (isinstance(data, np.ndarray) and _is_text(data)):
            return data
        return as_tensor(data)
    if isinstance(data, Mapping):
        return _mapping_like(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple):
        items = [default_convert(item) for item in data]
        return type(data)(*items) if hasattr(data, "_fields") else items
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _sequence_like(data, [default_convert(item) for item in data])
    return data


def default_collate(batch: Any) -> Any:
    """Stack samples: tensors and arrays along a new first dimension, numbers into a tensor (floats as float64, as
    PyTorch does), strings into a list; mappings, named tuples and sequences entry by entry, a plain tuple as a list.

    Raises TypeError for anything else, RuntimeError for samples of different shapes or lengths."""
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Any, *, collate_fn_map: Map = None) -> Any:
    """``default_collate`` with other functions for other types: ``{type: function(batch, *, collate_fn_map)}``."""
    elem = batch[0]
    kind = type(elem)
    if collate_fn_map is not None:
        function = collate_fn_map.get(kind)
        if function is None:
            function = next((f for types, f in collate_fn_map.items() if isinstance(elem, types)), None)
        if function is not None:
            return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(elem, Mapping):
        return _mapping_like(elem, {key: collate([sample[key] for sample in batch], collate_fn_map=collate_fn_map)
                                    for key in elem})
    if isinstance(elem, Sequence):
        named = isinstance(elem, tuple) and hasattr(elem, "_fields")
        if not named and any(len(sample) != len(elem) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch, strict=False)]
        if named:
            return kind(*columns)
        return columns if isinstance(elem, tuple) else _sequence_like(elem, columns)
    raise TypeError(MESSAGE.format(kind))


def _mapping_like(model: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """These items in a mapping of the model's type, with its extra attributes; a dict where that cannot be built."""
    try:
        if isinstance(model, MutableMapping):
            clone = copy.copy(model)
            clone.update(items)
            return clone
        return type(model)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _sequence_like(model: Sequence[Any], items: list[Any]) -> Any:
    """These items in a sequence of the model's type; a list where that cannot be built."""
    try:
        if isinstance(model, MutableSequence):
            clone = copy.copy(model)
            for i, item in enumerate(items):
                clone[i] = item
            return clone
        return type(model)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _tensors(batch: Any, *, collate_fn_map: Map = None) -> Any:
    return stack(batch, 0)


def _arrays(batch: Any, *, collate_fn_map: Map = None) -> Any:
    if _is_text(batch[0]):
        raise TypeError(MESSAGE.format(batch[0].dtype))
    return collate([as_tensor(array) for array in batch], collate_fn_map=collate_fn_map)


def _array_scalars(batch: Any, *, collate_fn_map: Map = None) -> Any:
    return as_tensor(np.asarray(batch))


def _floats(batch: Any, *, collate_fn_map: Map = None) -> Any:
    return tensor(batch, dtype=float64)


def _integers(batch: Any, *, collate_fn_map: Map = None) -> Any:
    return tensor(batch)


def _as_is(batch: Any, *, collate_fn_map: Map = None) -> Any:
    return batch


default_collate_fn_map: dict[Any, Callable[..., Any]] = {
    Tensor: _tensors, np.ndarray: _arrays, (np.bool_, np.number, np.object_): _array_scalars,
    float: _floats, int: _integers, str: _as_is, bytes: _as_is}
