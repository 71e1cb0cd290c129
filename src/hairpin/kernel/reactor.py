"""The event loop of hairpin's long-running processes: descriptors, timers, children.

asyncio would do, but its import alone takes 0.38 s in the embedded kernel, more than its whole
boot.  Callbacks run on one thread, one at a time; one that raises is reported to ``on_error``
and does not stop the loop.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from collections.abc import Callable
from itertools import count

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_HANG_UP = select.EPOLLHUP | select.EPOLLERR

Callback = Callable[[], None]


class Timer:
    """A callback due at a time; ``cancel`` may be called at any time, also afterwards."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Reactor:
    """Waits for descriptors, timers and children, and calls back."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._fresh: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._on_error = on_error
        self._running = False

    @staticmethod
    def now() -> float:
        """Seconds on the monotonic clock that timers use."""
        return time.monotonic()

    def on_readable(self, fd: int, callback: Callback | None) -> None:
        """Calls back while ``fd`` can be read or has hung up; None ends that."""
        self._set(self._readers, fd, callback)

    def on_writable(self, fd: int, callback: Callback | None) -> None:
        """Calls back while ``fd`` can be written; None ends that."""
        self._set(self._writers, fd, callback)

    def forget(self, fd: int) -> None:
        """Ends all interest in ``fd``; call it before closing."""
        self._set(self._readers, fd, None)
        self._set(self._writers, fd, None)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Calls back once, in ``seconds``."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), timer))
        return timer

    def on_exit(self, pid: int, callback: Callable[[int], None]) -> None:
        """Reaps the child ``pid`` when it ends and calls back with its wait status."""
        pidfd = os.pidfd_open(pid)

        def ended() -> None:
            self.forget(pidfd)
            os.close(pidfd)
            callback(os.waitpid(pid, 0)[1])

        self.on_readable(pidfd, ended)

    def run(self) -> None:
        """Runs until ``stop``."""
        self._running = True
        while self._running:
            self._fresh.clear()
            for fd, events in self._epoll.poll(self._until_next_timer()):
                # A callback before may have closed this one, and another file got its number.
                if fd in self._fresh:
                    continue
                if events & (READ | _HANG_UP) and (callback := self._readers.get(fd)):
                    self._call(callback)
                if events & (WRITE | _HANG_UP) and (callback := self._writers.get(fd)):
                    self._call(callback)
            self._run_timers()

    def stop(self) -> None:
        """Makes ``run`` return after the callback that is running."""
        self._running = False

    def _set(self, table: dict[int, Callback], fd: int, callback: Callback | None) -> None:
        known = fd in self._readers or fd in self._writers
        if callback is None:
            table.pop(fd, None)
        else:
            table[fd] = callback
        mask = (READ if fd in self._readers else 0) | (WRITE if fd in self._writers else 0)
        if not mask:
            if known:
                self._epoll.unregister(fd)
        elif known:
            self._epoll.modify(fd, mask)
        else:
            self._fresh.add(fd)
            self._epoll.register(fd, mask)

    def _until_next_timer(self) -> float:
        """Seconds, or -1 to wait for descriptors alone."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else -1

    def _run_timers(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback:
                self._call(callback)

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:
            self._on_error(error)
