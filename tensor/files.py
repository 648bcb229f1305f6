"""Writing files so that nothing is lost when the writing fails."""
from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO


@contextlib.contextmanager
def atomic(path: Any) -> Iterator[BinaryIO]:
    """Open a file for writing that takes ``path``'s place when the block ends without an error.

    Until then a file that was there stays as it is. The new file has the permissions of the old one. A path
    that is no regular file (a pipe, ``/dev/stdout``) is written directly. Raises RuntimeError, in PyTorch's
    words, when the folder does not exist, and the errors of ``open``."""
    name = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(name)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist.")
    mode = None
    if os.path.exists(name):
        status = os.stat(name)
        if os.path.isdir(name):
            raise IsADirectoryError(f"{os.fspath(path)!r} is a folder")
        if not stat.S_ISREG(status.st_mode):
            with open(name, "wb") as direct:
                yield direct
            return
        mode = stat.S_IMODE(status.st_mode)
    draft = f"{name}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            if mode is not None:
                os.chmod(draft, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Have the new name on disk too, where the system can be asked for it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
