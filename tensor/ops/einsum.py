"""``einsum``: sums of products by letters, as a chain of permutations and batched matrix products.

Every operand is brought to one order of dimensions, the output's letters first and the summed ones after them. Then the
operands are multiplied from left to right, and a letter is summed at the last product that has it. All of it is made of
differentiable ops, so there is no derivative of its own.
https://docs.pytorch.org/docs/stable/generated/torch.einsum.html
"""
from __future__ import annotations

import math
from typing import Any

from tritium.tensor.autocast import amp
from tritium.tensor.ops import reduce
from tritium.tensor.ops.matmul import bmm
from tritium.tensor.tensor import Tensor

METHODS: list[str] = []
FUNCTIONS = ["einsum"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def einsum(equation: Any, *operands: Any) -> Tensor:
    """The sum of products that ``equation`` describes ("ij,jk->ik"; "..." and the implicit form too), or that lists of
    numbers describe: ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.

    Raises RuntimeError for an equation that does not fit the operands."""
    if amp.on and (r := amp.run("einsum", einsum, equation, *operands)) is not None:
        return r
    if isinstance(equation, str):
        ts = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    else:
        equation, ts = _from_lists([equation, *operands])
    if not ts:
        raise RuntimeError("einsum(): must provide at least one operand")
    left, arrow, right = equation.partition("->")
    subscripts = left.split(",")
    if len(subscripts) != len(ts):
        raise RuntimeError(f"einsum(): {'more' if len(subscripts) < len(ts) else 'fewer'} operands were provided than "
                           "specified in the equation")
    terms = [_term(s.replace(" ", ""), x, i) for i, (s, x) in enumerate(zip(subscripts, ts, strict=True))]
    width = max((x._a.ndim - len(t) + 1 for t, x in zip(terms, ts, strict=True) if "." in t), default=0)
    output = _output(right.replace(" ", ""), terms, width) if arrow else _implicit(terms, width)
    full = [_expand(t, x._a.ndim - len(t) + 1 if "." in t else 0) for t, x in zip(terms, ts, strict=True)]
    sizes = _sizes(full, ts)
    summed = sorted({c for t in full for c in t} - set(output), key=str)
    ordered = [_ordered(t, x, [*output, *summed]) for t, x in zip(full, ts, strict=True)]
    return _contract(ordered, [*output, *summed], len(output), full, sizes)


def _from_lists(items: list[Any]) -> tuple[str, list[Tensor]]:
    """The letters for the form with lists of numbers."""
    def text(numbers: Any) -> str:
        for n in numbers:
            if n is not Ellipsis and not 0 <= n < 52:
                raise ValueError("einsum(): subscript in subscript list is not within the valid range [0, 52)")
        return "".join("..." if n is Ellipsis else LETTERS[n] for n in numbers)

    pairs = len(items) // 2
    equation = ",".join(text(items[2 * i + 1]) for i in range(pairs))
    return equation + ("->" + text(items[-1]) if len(items) % 2 else ""), items[:2 * pairs:2]


def _term(text: str, x: Tensor, i: int) -> str:
    """An operand's subscripts, with one "." for the ellipsis. Raises RuntimeError for what is no letter."""
    term = text.replace("...", ".", 1)
    for at, c in enumerate(term):
        if c == "." and "..." not in text or term.count(".") > 1:
            raise RuntimeError(f"einsum(): found '.' for operand {i} that is not part of any ellipsis")
        if c != "." and c not in LETTERS:
            raise RuntimeError(f"einsum(): invalid subscript given at index {at} in the equation string, subscripts "
                               "must be in [a-zA-Z]")
    named = len(term) - ("." in term)
    if "." in term and named > x._a.ndim:
        raise RuntimeError(f"einsum(): the number of subscripts in the equation ({named}) is more than the number of "
                           f"dimensions ({x._a.ndim}) for operand {i}")
    if "." not in term and named != x._a.ndim:
        raise RuntimeError(f"einsum(): the number of subscripts in the equation ({named}) does not match the number of "
                           f"dimensions ({x._a.ndim}) for operand {i} and no ellipsis was given")
    return term


def _expand(term: str, width: int) -> list[Any]:
    """The labels of an operand's dimensions: letters, and negative numbers for those of the ellipsis."""
    return [label for c in term for label in (range(-width, 0) if c == "." else (c,))]


def _output(text: str, terms: list[str], width: int) -> list[Any]:
    term = text.replace("...", ".", 1)
    for c in term:
        if c == ".":
            continue
        if c not in LETTERS:
            raise RuntimeError(f"einsum(): invalid subscript given at index {term.index(c)} in the equation string, "
                               "subscripts must be in [a-zA-Z]")
        if term.count(c) > 1:
            raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
        if not any(c in t for t in terms):
            raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand")
    return _expand(term, width)


def _implicit(terms: list[str], width: int) -> list[Any]:
    """The output of an equation without an arrow: the ellipsis, and the letters that appear once."""
    letters = "".join(terms).replace(".", "")
    return [*range(-width, 0), *sorted(c for c in set(letters) if letters.count(c) == 1)]


def _sizes(full: list[list[Any]], ts: list[Tensor]) -> dict[Any, int]:
    sizes: dict[Any, int] = {}
    for i, (labels, x) in enumerate(zip(full, ts, strict=True)):
        for c, n in zip(labels, x._a.shape, strict=True):
            have = sizes.setdefault(c, n)
            if have == 1:
                sizes[c] = n
            elif n not in (1, have):
                raise RuntimeError(f"einsum(): subscript {c} has size {n} for operand {i} which does not broadcast "
                                   f"with previously seen size {have}")
    return sizes


def _ordered(labels: list[Any], x: Tensor, order: list[Any]) -> Tensor:
    """An operand with one dimension for every label in ``order``: of size 1 where it has none."""
    labels = list(labels)
    at = 0
    while at < len(labels):  # a letter that comes twice takes a diagonal
        c = labels[at]
        first = labels.index(c)
        if first < at:
            if x._a.shape[first] != x._a.shape[at]:
                raise RuntimeError(f"einsum(): subscript {c} is repeated for operand but the sizes don't match, "
                                   f"{x._a.shape[at]} != {x._a.shape[first]}")
            x = x.diagonal(0, first, at).movedim(-1, first)
            del labels[at]
        else:
            at += 1
    missing = [c for c in order if c not in labels]
    for _ in missing:
        x = x.unsqueeze(-1)
    labels += missing
    return x.permute([labels.index(c) for c in order])


def _contract(ts: list[Tensor], order: list[Any], kept: int, full: list[list[Any]], sizes: dict[Any, int]) -> Tensor:
    """The operands multiplied from left to right."""
    uses = {d: sum(order[d] in labels for labels in full) for d in range(kept, len(order))}
    result = ts[0]
    for other in ts[1:]:
        together: list[int] = []
        mine: list[int] = []
        theirs: list[int] = []
        for d in range(kept, len(order)):
            a, b = result._a.shape[d] != 1, other._a.shape[d] != 1
            if a and b:
                uses[d] -= 1
                if uses[d] == 1:
                    together.append(d)
                    uses[d] = 0
            elif uses[d] == 1 and (a or b):
                (mine if a else theirs).append(d)
                uses[d] = 0
        if mine:
            result = reduce.sum(result, mine, True)
        if theirs:
            other = reduce.sum(other, theirs, True)
        result = _pair(result, other, together) if together else result * other
    left = tuple(range(kept, len(order)))
    if not left:
        return result
    if len(ts) == 1 or any(result._a.shape[d] != 1 for d in left):
        return reduce.sum(result, left)
    return result.reshape(result._a.shape[:kept])


def _pair(a: Tensor, b: Tensor, summed: list[int]) -> Tensor:
    """The product of two operands summed over some dimensions (kept with size 1): one batched matrix product."""
    both: list[int] = []
    only_a: list[int] = []
    only_b: list[int] = []
    for d, (m, n) in enumerate(zip(a._a.shape, b._a.shape, strict=True)):
        if d not in summed:
            (both if (m != 1) == (n != 1) else only_a if m != 1 else only_b).append(d)
    rows = [a._a.shape[d] for d in only_a]
    columns = [b._a.shape[d] for d in only_b]
    batch = [a._a.shape[d] for d in both]
    k = math.prod(a._a.shape[d] for d in summed)
    left = a.permute(*both, *only_a, *summed, *only_b).reshape(math.prod(batch), math.prod(rows), k)
    right = b.permute(*both, *summed, *only_b, *only_a).reshape(math.prod(batch), k, math.prod(columns))
    result = bmm(left, right).view(*batch, *rows, *((1,) * len(summed)), *columns)
    back = [*both, *only_a, *summed, *only_b]
    return result.permute([back.index(d) for d in range(len(back))])
