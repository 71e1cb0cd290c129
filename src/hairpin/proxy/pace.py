"""When to sync: at once after a quiet time, not too often, everything once in a while.

The first event after ``least`` quiet seconds is followed at once; while more come, there is one
sync every ``least`` seconds.  Everything is compared every ``period`` seconds, sooner when the
kernel could not be read.
"""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """All times are seconds by the caller's clock, which is never below 0."""

    def __init__(self, least: float, period: float) -> None:
        self._least = least
        self._period = period
        self._last = -least  # the end of the last sync
        self._failures = 0
        self.full_at = 0.0  # when to compare everything

    def is_full_due(self, now: float) -> bool:
        return self.full_at <= now

    def due(self, dirty: bool, retry_at: float | None, check_at: float | None) -> float:
        """When to sync next; it may have been some time ago."""
        times = [0.0 if dirty else self.full_at, self.full_at]
        times += [at for at in (retry_at, check_at) if at is not None]
        return max(self._last + self._least, min(times))

    def synced(self, now: float) -> None:
        """A sync has ended."""
        self._last = now

    def compared(self, now: float, delay: Callable[[int], float], *, failed: bool) -> None:
        """Everything was compared, or could not be: ``delay`` is the wait after n failures."""
        self._failures = self._failures + 1 if failed else 0
        wait = min(delay(self._failures), self._period) if failed else self._period
        self.full_at = now + wait
