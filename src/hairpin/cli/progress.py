"""One line on the terminal that says what is going on, gone when it is over."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from hairpin.cli.terminal import is_terminal


class Progress:
    """Shows a line on standard error while something slow runs; nothing when that is no terminal.

    ``seconds`` is how long it has been going on, or went on.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._ended: float | None = None
        self._shown = is_terminal(sys.stderr)

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    def say(self, text: str) -> None:
        """What is going on now; nothing: the line is free for other output."""
        if self._shown and not text:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)
        elif self._shown:
            shown = text[: self._room()]  # one line: a second one could not be taken back
            print(f"\r\033[2K{shown} …", end="", file=sys.stderr, flush=True)

    @staticmethod
    def _room() -> int:
        try:
            columns = os.get_terminal_size(2).columns
        except OSError:
            columns = 0
        return (columns or 80) - 3

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = time.monotonic()
        self.say("")
