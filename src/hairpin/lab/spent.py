"""What a change of the lab took, by what it went to: for people who wonder what is slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Spent:
    """The seconds of the last change, beside the kernel's own ``spent``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock

    def clear(self) -> None:
        """Another change begins."""
        self.seconds.clear()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Counts the time inside towards ``what``, unless it ends in an exception."""
        started = self._clock()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + self._clock() - started
