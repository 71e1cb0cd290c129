"""Long work in short turns, so that the lab answers meanwhile and progress gets out.

The work is a generator that yields where it can be interrupted.  Pieces of work never overlap:
the next begins when the one before has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from hairpin.kernel.reactor import Reactor

_TURN = 0.05  # seconds before others have their turn
_STEPS = 1_000_000  # of one work; a generator that never ends would else never be noticed


class Stage(msgspec.Struct, frozen=True):
    """How far a piece of work is; ``stage`` is for people."""

    stage: str
    done: int
    total: int


class Turns:
    """Works off one generator at a time on the event loop."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._waiting: list[Callable[[], None]] = []
        self.busy = False

    def work(
        self,
        steps: Iterator[Stage],
        tell: Callable[[Stage], None],
        done: Callable[[Exception | None], None],
    ) -> None:
        """Runs ``steps`` to their end, a short one at once; call it when not ``busy``.

        ``tell`` hears of the stages once a turn, ``done`` of the end and of what went wrong.
        """
        self.busy = True
        left = _STEPS

        def turn() -> None:
            nonlocal left
            until = self._reactor.now() + _TURN
            try:
                for stage in steps:
                    left -= 1
                    if self._reactor.now() >= until and left:
                        tell(stage)
                        self._reactor.after(0, turn)
                        return
            except Exception as error:
                self._end(done, error)
            else:
                self._end(done, None)

        turn()

    def when_free(self, callback: Callable[[], None]) -> None:
        """Calls back at once, or in turn when what goes on now has ended."""
        if self.busy:
            self._waiting.append(callback)
        else:
            callback()

    def _end(self, done: Callable[[Exception | None], None], error: Exception | None) -> None:
        self.busy = False
        try:
            done(error)
        finally:
            if self._waiting and not self.busy:
                self._reactor.after(0, self._next)

    def _next(self) -> None:
        try:
            while self._waiting and not self.busy:
                self._waiting.pop(0)()
        finally:  # one that raises keeps no other from its turn
            if self._waiting and not self.busy:
                self._reactor.after(0, self._next)


@contextmanager
def kept(errors: list[Exception]) -> Iterator[None]:
    """One of several pieces: what fails inside is noted, and the next piece has its turn."""
    try:
        yield
    except Exception as error:
        errors.append(error)


def raise_first(errors: Sequence[Exception]) -> None:
    """Raises the first of them, if there is any."""
    if errors:
        raise errors[0]


def at_once(steps: Iterator[Stage]) -> None:
    """Runs ``steps`` to their end without letting go."""
    for _ in steps:
        pass
