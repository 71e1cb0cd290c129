"""One real connection from a namespace, and what became of it.

Bounded in time and size, and run on the lab process's event loop: many can be under way at once.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Literal

import msgspec

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.model.address import IP

Outcome = Literal["answered", "timeout", "refused", "unreachable", "error"]
_LIMIT = 64 * 1024  # bytes of an answer that are kept


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What to try: a TCP connection with one HTTP request, or one UDP datagram.

    ``path`` None is a TCP connection and nothing more.
    """

    ip: IP
    port: int
    protocol: Literal["TCP", "UDP"] = "TCP"
    timeout: float = 1.0  # seconds for the whole of it
    path: str | None = "/"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.  ``source`` is the address that the kernel chose for this end."""

    outcome: Outcome
    status: int | None = None  # of the HTTP answer
    body: str = ""
    source: str | None = None
    seconds: float = 0.0
    error: str | None = None  # the errno's name where there was one


class _Attempt:
    """A probe under way."""

    def __init__(
        self, reactor: Reactor, netns: Netns, probe: Probe, done: Callable[[Seen], None]
    ) -> None:
        self._reactor = reactor
        self._probe = probe
        self._done = done
        self._started = reactor.now()
        self._answer = bytearray()
        family = socket.AF_INET if probe.ip.version == 4 else socket.AF_INET6
        kind = socket.SOCK_STREAM if probe.protocol == "TCP" else socket.SOCK_DGRAM
        with netns.entered():
            self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        self._timer = reactor.after(probe.timeout, self._too_late)

    def start(self) -> None:
        fd = self._socket.fileno()
        code = self._socket.connect_ex((str(self._probe.ip), self._probe.port))
        if code not in (0, errno.EINPROGRESS):
            self._failed(code)
        else:
            self._reactor.on_writable(fd, self._can_write)

    def _can_write(self) -> None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(code)
            return
        fd = self._socket.fileno()
        self._reactor.on_writable(fd, None)
        request = b"hello\n"
        if self._probe.protocol == "TCP":
            if self._probe.path is None:
                self._end("answered", None)
                return
            host = f"Host: {self._probe.ip}:{self._probe.port}"
            head = f"GET {self._probe.path} HTTP/1.0\r\n{host}\r\nConnection: close\r\n\r\n"
            request = head.encode()
        try:
            self._socket.send(request)
        except OSError as error:
            self._failed(error.errno or errno.EIO)
            return
        self._reactor.on_readable(fd, self._can_read)

    def _can_read(self) -> None:
        try:
            data = self._socket.recv(_LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error.errno or errno.EIO)
            return
        self._answer += data[: _LIMIT - len(self._answer)]
        if not data or self._probe.protocol == "UDP":
            self._end("answered" if self._answer else "error", None if self._answer else "empty")

    def _too_late(self) -> None:
        self._end("timeout", None)

    def _failed(self, code: int) -> None:
        outcomes: dict[int, Outcome] = {
            errno.ECONNREFUSED: "refused",
            errno.ENETUNREACH: "unreachable",
            errno.EHOSTUNREACH: "unreachable",
            errno.ETIMEDOUT: "timeout",
        }
        self._end(outcomes.get(code, "error"), errno.errorcode.get(code, os.strerror(code)))

    def _end(self, outcome: Outcome, error: str | None) -> None:
        self._timer.cancel()
        self._reactor.forget(self._socket.fileno())
        try:
            source = str(self._socket.getsockname()[0])
        except OSError:
            source = None
        self._socket.close()
        status, body = _read_answer(bytes(self._answer))
        self._done(
            Seen(
                outcome=outcome,
                status=status,
                body=body.decode(errors="replace"),
                source=source if source not in (None, "0.0.0.0", "::") else None,
                seconds=round(self._reactor.now() - self._started, 4),
                error=error,
            )
        )


def _read_answer(answer: bytes) -> tuple[int | None, bytes]:
    """Status and body of an HTTP answer; anything else is all body."""
    head, empty_line, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if empty_line and words[0].startswith(b"HTTP/") and len(words) > 1 and words[1].isdigit():
        return int(words[1]), body
    return None, answer


def start(reactor: Reactor, netns: Netns, probe: Probe, done: Callable[[Seen], None]) -> None:
    """Starts ``probe`` in ``netns``; ``done`` is called once, within its time limit."""
    _Attempt(reactor, netns, probe, done).start()
