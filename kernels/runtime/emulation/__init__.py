"""The emulated device: kernels run in Triton's interpreter, on the host's memory.

``run`` is a launch. Results are those of a GPU up to the order of sums and the last bit of mathematical functions:
every type rounds as it does there (``builder.py``), matrix products round float32 to TF32 where the kernel allows it,
each access of memory is checked (``memory.py``), races are found on request (``races.py``).

It takes effect when the first kernel runs, for the whole process, which must have ``TRITON_INTERPRET=1``.
"""
from __future__ import annotations

import threading
from typing import Any

_lock = threading.RLock()
_machine: Any = None


def run(variant: Any, grid: tuple[int, int, int], arguments: tuple[Any, ...]) -> None:
    """Launch a kernel with its constants on every program of the grid, one after another.

    What a kernel raises comes out as it is, with a note that names the kernel and the program. Raises IndexError for an
    access outside every live allocation, RaceError for a race where races are looked for."""
    global _machine
    with _lock:
        if _machine is None:
            from tritium.kernels.runtime.emulation import machine

            machine.install()
            _machine = machine
        _machine.run(variant, grid, arguments)
