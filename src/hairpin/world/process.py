"""The lab process: requests to the World itself are answered here, all others by the handler."""

from __future__ import annotations

import os

from hairpin import __version__
from hairpin.kernel.reactor import Reactor
from hairpin.lab.session import STDIN, STDOUT, LabError
from hairpin.world.session import StreamSession

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hairpin.lab.session import Handler
    from hairpin.world.mux import Stream

    Request = dict[str, Any]

BLOCK = 64 << 10
"""Bytes of a frame of ``source``."""


def block(number: int) -> bytes:
    """The content of a frame of ``source``: its number, over and over."""
    return number.to_bytes(8, "big") * (BLOCK // 8)


class LabProcess:
    """Serves streams.

    ``load`` makes the handler: it is called for the first request that needs it, or by
    ``prepare`` before.  ``end`` ends the World after "down" has been answered.
    """

    def __init__(
        self, reactor: Reactor, load: Callable[[Reactor], Handler], end: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._load = load
        self._end = end
        self._started = reactor.now()
        self._handler: Handler | None = None
        self.on_first: Callable[[], object] | None = None
        """Called once, when the first request has been answered or begun to be."""
        self._verbs: dict[str, Callable[[StreamSession, Request], None]] = {
            "ping": self._ping,
            "down": self._down,
            "sink": _sink,
            "source": _source,
        }

    def serve(self, stream: Stream) -> None:
        """Takes a new connection."""
        StreamSession(stream, self._request)

    def prepare(self) -> Handler:
        """Makes the handler, once."""
        if self._handler is None:
            self._handler = self._load(self._reactor)
        return self._handler

    def _request(self, session: StreamSession, request: Request) -> None:
        verb = self._verbs.get(request["verb"])
        if verb:
            verb(session, request)
        else:
            self.prepare().open(session, request)
        if self.on_first:
            first, self.on_first = self.on_first, None
            first()

    def _ping(self, session: StreamSession, request: Request) -> None:
        session.reply(
            {
                "version": __version__,
                "kernel": os.uname().release,
                "uptime": self._reactor.now() - self._started,
                "pid": os.getpid(),
            }
        )

    def _down(self, session: StreamSession, request: Request) -> None:
        session.reply({})
        # The answer is on its way after the callbacks that are due now; it is not waited for.
        self._reactor.after(0.05, self._end)


def _count(request: Request) -> int:
    count = request.get("bytes")
    if not isinstance(count, int) or count < 0:
        raise LabError('"bytes" must be a number, 0 or more', exit_code=2)
    return count


def _sink(session: StreamSession, request: Request) -> None:
    """Receives that many bytes as STDIN; replies with their SHA-256."""
    import hashlib

    left, digest = _count(request), hashlib.sha256()

    def take(kind: int, payload: bytes) -> None:
        nonlocal left
        if kind == STDIN:
            left -= len(payload)
            digest.update(payload)
        if left <= 0:
            session.reply({"bytes": request["bytes"] - left, "sha256": digest.hexdigest()})

    session.on_frame = take
    if not left:
        take(0, b"")


def _source(session: StreamSession, request: Request) -> None:
    """Sends that many bytes as STDOUT; replies with their SHA-256."""
    import hashlib

    left, number, digest = _count(request), 0, hashlib.sha256()

    def give() -> None:
        nonlocal left, number
        while left and not session.blocked:
            data = block(number)[:left]
            session.send(STDOUT, data)
            digest.update(data)
            left -= len(data)
            number += 1
        if not left:
            session.reply({"bytes": request["bytes"], "sha256": digest.hexdigest()})

    session.on_drain = give
    give()
