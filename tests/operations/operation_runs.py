"""Runs a sample on a device: its results, gradients, gradients of gradients, and what the emulated device did for each."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import operation_samples as samples

import tritium as torch
from tritium.kernels import runtime
from tritium.kernels.runtime.launch import Variant
from tritium.nn import functional


@dataclass
class Work:
    """What a device did: the names of launched kernels, and bytes copied ``down`` to the host and ``up`` from it."""

    kernels: list[str] = field(default_factory=list)
    memory: int = 0  # copies and fills by the device's copy engine
    down: int = 0
    up: int = 0


@dataclass
class Outcome:
    """Of each phase (forward, backward, double backward) the arrays and the work. A phase that is not there is None.

    The gradients are there twice: as such, and as they are computed for a second derivative."""

    phases: list[list[np.ndarray | None] | None]
    work: list[Work]


@contextlib.contextmanager
def watched(work: Work) -> Iterator[None]:
    """Notes what the emulated device does; on another device nothing is noted."""
    active = runtime.active() if runtime.count() else None
    if active is None or not active.emulated:
        yield
        return
    kind: Any = type(active)
    emulate, copy, memset = Variant.emulate, kind.copy, kind.memset

    def on_device(address: int) -> bool:
        starts, ends = active.ranges()
        i = int(np.searchsorted(starts, address, "right")) - 1
        return i >= 0 and address < ends[i]

    def launched(self: Any, gx: int, gy: int, gz: int, *arguments: Any) -> None:
        if gx and gy and gz:
            work.kernels.append(self.kernel.name)
        emulate(self, gx, gy, gz, *arguments)

    def copied(self: Any, dst: int, src: int, nbytes: int, stream: int) -> None:
        here, there = on_device(dst), on_device(src)
        if here and there:
            work.memory += nbytes
        elif here:
            work.up += nbytes
        else:
            work.down += nbytes
        copy(self, dst, src, nbytes, stream)

    def filled(self: Any, *arguments: Any) -> None:
        work.memory += 1
        memset(self, *arguments)

    Variant.emulate, kind.copy, kind.memset = launched, copied, filled  # type: ignore[method-assign]
    try:
        yield
    finally:
        Variant.emulate, kind.copy, kind.memset = emulate, copy, memset  # type: ignore[method-assign]


def _set_item(t: Any, key: Any, value: Any) -> Any:
    t[key] = value
    return t


def _weights(t: Any, seed: int) -> Any:
    values = np.random.default_rng(seed).uniform(0.5, 1.5, tuple(t.shape))
    return torch.tensor(values, dtype=t.dtype, device=t.device, requires_grad=True)


def _flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def run(code: str, device: str) -> Outcome:
    """Evaluate a sample on a device, with its derivatives of first and second order."""
    names = {k: v.detach().requires_grad_(v.requires_grad) for k, v in samples.inputs(torch, device).items()}
    space = {"torch": torch, "F": functional, "linalg": torch.linalg, "set_item": _set_item, **names}
    compiled = compile(code, "sample", "eval")
    torch.manual_seed(3)
    work = [Work(), Work(), Work()]
    with watched(work[0]):
        outputs = _flat(eval(compiled, space))
    given = [v for k, v in names.items() if k in compiled.co_names and v.requires_grad]
    phases: list[Any] = [[_read(t) for t in outputs], None, None]
    recorded = [t for t in outputs if isinstance(t, torch.Tensor) and t.requires_grad]
    if not recorded or not given:
        return Outcome(phases, work)
    weights = [_weights(t, n) for n, t in enumerate(recorded)]
    with watched(work[1]):
        plain = torch.autograd.grad(recorded, given, weights, retain_graph=True, allow_unused=True)
    phases[1] = [None if g is None else _read(g) for g in plain]
    with watched(work[2]):
        first = torch.autograd.grad(recorded, given, weights, create_graph=True, allow_unused=True)
    phases[1] += [None if g is None else _read(g) for g in first]  # by another way, maybe: one that has a derivative
    deeper = [g for g in first if g is not None and g.requires_grad]
    if not deeper:
        return Outcome(phases, work)
    again = [_weights(g, 9 + n) for n, g in enumerate(deeper)]
    with watched(work[2]):
        second = torch.autograd.grad(deeper, [*given, *weights], again, allow_unused=True)
    phases[2] = [None if g is None else _read(g) for g in second]
    return Outcome(phases, work)


def _read(t: Any) -> np.ndarray:
    return t.detach().cpu().numpy().copy() if isinstance(t, torch.Tensor) else np.asarray(t)


# --- the table --------------------------------------------------------------------------------------

HEAD = """# Operations

Each operation has a NumPy implementation and Triton kernels. The numbers are launches of a small sample in float64 on the
emulated device (`tests/operations`): of the operation, of its derivative, and of both derivatives with `create_graph=True`.
"copy": by the device's copy engine alone. "view": nothing is computed. "zero": the derivative does not depend on anything. "-": not
differentiable. Operations of one line share their kernels: second names, and the forms that work in place (`abs_`).

Written by `scripts/make_operations.py`; `pytest --device cuda tests/operations` compares results and derivatives with
those of the CPU, and this table with what is launched.
"""
TITLES = ("operation", "NumPy", "Triton forward", "Triton backward", "double backward")


def cells(done: Outcome) -> tuple[str, str, str]:
    """What the device did in the three phases: the number of launches, or a word."""
    found = []
    for phase in range(3):
        if done.phases[phase] is None:
            found.append("zero" if phase == 2 and done.phases[1] is not None else "-")
        elif done.work[phase].kernels:
            found.append(str(len(done.work[phase].kernels)))
        else:
            found.append("copy" if done.work[phase].memory else "view")
    return found[0], found[1], found[2]


def inplace_code(name: str, code: str) -> str | None:
    """The sample of an operation as one of its form that works in place, where there is one."""
    start = f"torch.{name}(x, "
    if name.endswith("_") or not hasattr(torch.Tensor, name + "_"):
        return None
    if code.startswith(start):
        return f"(x * 1).{name}_({code[len(start):]}"
    return f"(x * 1).{name}_()" if code == f"torch.{name}(x)" else None


def names_of(name: str) -> str:
    """An operation with its other names, as the table shows it."""
    base, comma, note = name.partition(", ")
    others = [second for second, first in samples.SECOND_NAMES.items() if first == name]
    bare = base.removeprefix("F.")
    if not comma and base[0] != "." and hasattr(torch.Tensor, bare + "_"):
        others.append(bare + "_")
    return ", ".join(f"`{n}`" for n in (base, *others)) + (f" ({note})" if note else "")


def line(name: str, done: Outcome) -> str:
    """A line of the table."""
    return "| " + " | ".join((names_of(name), "yes", *cells(done))) + " |"
