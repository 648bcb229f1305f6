"""The text of a tensor, character for character PyTorch's.

Three steps. The elements that are shown become words, all of one style (whole numbers, fixed point or
scientific) that is chosen from the magnitudes of the finite, non-zero ones; the words are laid out in
brackets and lines; then come the suffixes: size, dtype, device, ``grad_fn``. All but the last step work on a
plain NumPy array.

Of a tensor with more than ``threshold`` elements only the first and last ``edgeitems`` along each dimension
are touched. https://docs.pytorch.org/docs/stable/generated/torch.set_printoptions.html
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tritium.kernels import is_host, on_host
from tritium.tensor.dtype import bool_, default_complex, from_numpy_dtype, get_default_dtype, int64
from tritium.tensor.parameter import Buffer, Parameter
from tritium.tensor.tensor import Tensor


@dataclass
class PrintOptions:
    """How tensors print: digits after the point; the number of elements above which the middle is left out;
    how many elements are shown at each edge then; characters in a line; scientific notation (None: where it
    is needed)."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=float("inf")),
}

options = PrintOptions()


def set_printoptions(precision: int | None = None, threshold: float | None = None,
                     edgeitems: int | None = None, linewidth: int | None = None, profile: str | None = None,
                     sci_mode: bool | None = None) -> None:
    """Set how tensors print. What is None stays as it is, but ``sci_mode`` is always set.

    ``profile`` ("default", "short" or "full") gives the values to start from; an unknown name changes
    nothing."""
    global options
    new = replace(_PROFILES.get(profile or "", options), sci_mode=sci_mode)
    for name, value in (("precision", precision), ("threshold", threshold), ("edgeitems", edgeitems),
                        ("linewidth", linewidth)):
        if value is not None:
            setattr(new, name, value)
    options = new


def get_printoptions() -> dict[str, Any]:
    """The present options, as keyword arguments for ``set_printoptions``."""
    return asdict(options)


@contextmanager
def printoptions(**kwargs: Any) -> Iterator[None]:
    """Other print options inside a ``with`` block; takes what ``set_printoptions`` takes."""
    global options
    before = options
    set_printoptions(**kwargs)
    try:
        yield
    finally:
        options = before


# --- from elements to words -------------------------------------------------------------------

def _number_words(values: list[float]) -> tuple[list[str], int]:
    """Floats as words of one style, right-justified, and their common width.

    Zeros, infinities and nan have no say in style and width, and a nan may stick out."""
    ordinary = [v for v in values if v and v - v == 0]
    if not ordinary:
        return [f"{v:.0f}." if v - v == 0 else str(v) for v in values], 1
    magnitudes = list(map(abs, ordinary))
    low, high = min(magnitudes), max(magnitudes)
    scientific = options.sci_mode
    if scientific is None:
        scientific = high / low > 1000.0 or high > 1e8 or low < 1e-4
    if scientific:
        style = f"%.{options.precision}e"
    elif all(map(float.is_integer, ordinary)):
        style = "%.0f."
    else:
        style = f"%.{options.precision}f"
    width = max([len(style % v) for v in ordinary])
    return [(style % v if v - v == 0 else str(v)).rjust(width) for v in values], width


def _plain_words(values: list[Any]) -> tuple[list[str], int]:
    words = list(map(str, values))
    width = max(map(len, words), default=1)
    return [w.rjust(width) for w in words], width


def _words(array: np.ndarray) -> tuple[list[str], int]:
    """The elements in logical order as words, and the width that lines are counted with."""
    kind = array.dtype.kind
    if kind == "c":
        real, real_width = _words(array.real)
        imaginary, width = _words(array.imag)
        parts = [i.lstrip() for i in imaginary]
        signed = [i if i[0] == "-" else "+" + i for i in parts]
        return [f"{r}{i}j" for r, i in zip(real, signed, strict=True)], real_width + width + 1
    if kind in "biu":
        return _plain_words(array.ravel().tolist())
    if kind == "V":  # bfloat16
        array = array.astype(np.float64)
    return _number_words(array.ravel().tolist())


# --- from words to lines ----------------------------------------------------------------------

def _edges(array: Any, dim: int = 0) -> np.ndarray:
    """The elements that a summary shows: the first and last few along each dimension, in host memory."""
    edge = options.edgeitems
    if not any(n > 2 * edge for n in array.shape):
        return on_host(array)
    if not is_host(array):
        if array.shape[dim] <= 2 * edge:
            return _edges(array, dim + 1)
        before = (slice(None),) * dim
        first, last = array[*before, :edge], array[*before, array.shape[dim] - edge:]
        return np.concatenate([_edges(first, dim + 1), _edges(last, dim + 1)], dim)
    shown = [[*range(edge), *range(n - edge, n)] if n > 2 * edge else range(n) for n in array.shape]
    return array[np.ix_(*shown)]


def array_text(array: Any, indent: int = 0) -> str:
    """The elements in brackets. ``indent``: the column of the first bracket, where later lines start too."""
    if array.size == 0:
        return "[]"
    summary = array.size > options.threshold
    edge = options.edgeitems
    if summary and not edge and array.ndim:
        return "[...]"
    words, width = _words(_edges(array) if summary else on_host(array))
    if array.ndim == 0:
        return words[0]
    shape = array.shape
    last = array.ndim - 1
    per_line = max(1, (options.linewidth - indent - last) // (width + 2))
    between = [",\n" + "\n" * (last - dim - 1) + " " * (indent + dim + 1) for dim in range(last + 1)]
    between[last] = ",\n" + " " * (indent + last + 1)
    texts = words
    for dim in range(last, -1, -1):  # from the inside out
        cut = summary and shape[dim] > 2 * edge
        count = 2 * edge if cut else shape[dim]
        groups = [texts[i:i + count] for i in range(0, len(texts), count)]
        if cut:
            for group in groups:
                group.insert(edge, " ..." if dim == last else "...")
        if dim == last:
            groups = [[", ".join(group[i:i + per_line]) for i in range(0, len(group), per_line)] for group in groups]
        texts = ["[" + between[dim].join(group) + "]" for group in groups]
    return texts[0]


def with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    """Append the suffixes and the closing bracket; a suffix that would pass the line width starts a new line.

    The framework's name counts as long as PyTorch's, so that lines break where they break there."""
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        length = len(suffix.replace("tritium.", "torch."))
        if column + length + 2 > options.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + length
        else:
            text += ", " + suffix
            column += length + 2
    return text + ")"


# --- tensors ----------------------------------------------------------------------------------

def tensor_repr(t: Tensor) -> str:
    """The text of a tensor: ``tensor([1., 2.], dtype=tritium.float64)``."""
    kind = type(t)
    plain = kind is Tensor or kind is Parameter or kind is Buffer
    prefix = "tensor(" if plain else kind.__name__ + "("
    array, dtype = t._a, from_numpy_dtype(t._a.dtype)
    suffixes = []
    if t.device.type != "cpu":
        suffixes.append(f"device='{t.device}'")
    default = get_default_dtype()
    if array.size == 0:
        if array.ndim != 1:
            suffixes.append(f"size={tuple(array.shape)}")
        if dtype is not default:  # there are no elements that would show it
            suffixes.append(f"dtype={dtype}")
    else:
        if not options.edgeitems:
            suffixes.append(f"size={tuple(array.shape)}")
        if dtype not in (default, int64, bool_, default_complex()):
            suffixes.append(f"dtype={dtype}")
    node = t.grad_fn
    if node is not None:
        suffixes.append(f"grad_fn=<{node.name()}>")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    text = with_suffixes(prefix + array_text(array, len(prefix)), suffixes, len(prefix))
    return f"Parameter({text})" if isinstance(t, Parameter) and not plain else text


def tensor_format(t: Tensor, spec: str) -> str:
    """``format(t, spec)``: a 0-d tensor formats as its number, any other takes the empty ``spec`` only.

    Raises TypeError for a ``spec`` that does not apply."""
    if t._a.ndim == 0 and type(t) is Tensor:
        return format(t.item(), spec)
    return object.__format__(t, spec)
