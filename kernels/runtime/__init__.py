"""CUDA without PyTorch: memory, streams, graphs, loading and launching, on a GPU or on a device emulated on the host.

``active()`` is the runtime of this process: the emulated one where ``TRITON_INTERPRET=1`` is set, else CUDA.
``base.Runtime`` says what a runtime is; nothing outside this folder knows which one it talks to, and nothing outside
``cuda.py`` imports a CUDA package.
"""
from __future__ import annotations

import os
import threading
from typing import Any

_active: Any = None
_lock = threading.Lock()


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, on the emulated device: decided by the environment."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


def active() -> Any:
    """The runtime of this process.

    Raises RuntimeError, in PyTorch's words, where there is no device and none is emulated."""
    global _active
    if _active is None:
        with _lock:
            if _active is None:
                if interpreting():
                    from tritium.kernels.runtime.host import HostRuntime

                    _active = HostRuntime()
                else:
                    from tritium.kernels.runtime.cuda import CudaRuntime

                    _active = CudaRuntime()
                    os.register_at_fork(after_in_child=_forked)
    return _active


def is_active() -> bool:
    """Whether a device is in use already."""
    return _active is not None and not isinstance(_active, Lost)


def count() -> int:
    """How many devices can be used; 0 where there are none. Fast, and raises nothing."""
    if isinstance(_active, Lost):
        return 0
    if _active is not None:
        return _active.device_count()
    if interpreting():
        return active().device_count()
    from tritium.kernels.runtime.cuda import count

    return count()


class Lost:
    """The runtime of a forked child: a driver that the parent has begun to use does not work there."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must "
                           "use the 'spawn' start method")


def _forked() -> None:
    global _active
    _active = Lost()
    from tritium.kernels.runtime import memory
    from tritium.kernels.runtime.state import current

    memory.stop()
    current.__init__()
