"""One line on the terminal that says what is going on, gone when it is over."""

from __future__ import annotations

import sys
import time
from types import TracebackType


class Progress:
    """Shows a line on standard error while something slow runs; nothing when that is no terminal.

    ``seconds`` is how long it has been going on, or went on.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._ended: float | None = None
        self._shown = sys.stderr.isatty()

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    def say(self, text: str) -> None:
        """What is going on now."""
        if self._shown:
            print(f"\r\033[2K{text} …", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = time.monotonic()
        if self._shown:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)
