"""What the probe refuses."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ProbeError(ValueError):
    """The input can not be probed. The message is one line that says what is wrong with what; the command prints it and
    ends with exit code 2."""

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split()))


@contextmanager
def refusing(*kinds: type[Exception], prefix: str = "") -> Iterator[None]:
    """Errors of these kinds inside the block become ProbeErrors with their message."""
    try:
        yield
    except ProbeError:
        raise
    except kinds as error:
        raise ProbeError(f"{prefix}{error}") from error
