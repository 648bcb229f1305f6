"""Exact reads from a file that may be damaged, and the error that says so."""
from __future__ import annotations

import pickle
from typing import BinaryIO, NoReturn

_CHUNK = 1 << 16


class CheckpointError(RuntimeError, pickle.UnpicklingError):
    """A checkpoint that is damaged, or that asks for more than tensors and plain containers."""


class Reader:
    """Exact reads from a seekable binary file, from its position to ``end``.

    A read raises CheckpointError when the file has fewer bytes than asked for, before memory is taken."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.file = file
        self.end = end
        self._base = file.tell()
        self._buffer = b""
        self._at = 0

    def tell(self) -> int:
        return self._base + self._at

    def read(self, count: int) -> bytes:
        stop = self._at + count
        if stop > len(self._buffer):
            self._fill(count)
            stop = self._at + count
        data = self._buffer[self._at:stop]
        self._at = stop
        return data

    def _fill(self, count: int) -> None:
        """Have at least ``count`` bytes in the buffer, from the present position on."""
        self.check(count)
        rest = self._buffer[self._at:]
        self._base, self._at = self.tell(), 0
        start = self._base + len(rest)
        self.file.seek(start)
        more = self.file.read(max(count - len(rest), min(_CHUNK, self.end - start)))
        self._buffer = rest + more
        if len(self._buffer) < count:
            self._ends_early(count)

    def check(self, count: int) -> None:
        """Raise CheckpointError unless ``count`` more bytes are there."""
        if count < 0 or count > self.end - self.tell():
            self._ends_early(count)

    def _ends_early(self, count: int) -> NoReturn:
        raise CheckpointError(f"the file ends too early: {count} bytes are needed at byte {self.tell()}, "
                              f"{max(self.end - self.tell(), 0)} are left (truncated or damaged file)")

    def line(self) -> bytes:
        """The bytes up to a newline, without it."""
        stop = self._buffer.find(b"\n", self._at)
        if stop >= 0:
            text = self._buffer[self._at:stop]
            self._at = stop + 1
            return text
        self.seek(self.tell())
        text = self.file.readline(self.end - self._base)
        if not text.endswith(b"\n"):
            self._ends_early(len(text) + 1)
        self._base += len(text)
        return text[:-1]

    def seek(self, position: int) -> None:
        self._base, self._at, self._buffer = position, 0, b""
        self.file.seek(position)

    def readinto(self, memory: memoryview) -> None:
        """Fill ``memory`` (bytes, writable) from the file."""
        self.check(len(memory))
        start, done = self.tell(), 0
        self.seek(start)
        direct = getattr(self.file, "readinto", None)
        while done < len(memory):
            if direct is not None:
                count = direct(memory[done:])
            else:
                data = self.file.read(min(len(memory) - done, 1 << 24))
                count = len(data)
                memory[done:done + count] = data
            if not count:
                self._ends_early(len(memory) - done)
            done += count
        self._base = start + done
