"""The cluster's DNS: answers over UDP and TCP, in the process of the built-in servers.

The lab process says what there is (``zone``); the table of names is made when the first question
after that comes.  The sockets are a Pod's, like those of the echo server.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import msgspec

from hairpin.kernel.reactor import Reactor
from hairpin.lab import dns_wire as wire
from hairpin.lab.dns_zone import Facts, Zone, refusal, size_limit

_IDLE_LIMIT = 10.0  # seconds between questions of one connection
_AT_ONCE = 64  # datagrams answered before others have their turn
_WAITING_LIMIT = 1 << 20  # bytes of answers that a client may leave unread


class DnsServer:
    """Answers for all sockets it is given.

    ``catch_up`` is called before a question is answered, for what was said before it was asked.
    """

    def __init__(self, reactor: Reactor, catch_up: Callable[[], None]) -> None:
        self._reactor = reactor
        self._catch_up = catch_up
        self._said = b""
        self._zone: Zone | None = None

    def say(self, facts: bytes) -> None:
        """What there is from now on: ``dns_zone.Facts`` as JSON."""
        self._said = facts
        self._zone = None

    def datagrams(self, one: socket.socket) -> None:
        """Answers what has arrived at a UDP socket."""
        for _ in range(_AT_ONCE):
            try:
                data, client = one.recvfrom(wire.MAX_MESSAGE)
            except OSError:  # nothing more, or an error of an earlier answer
                return
            answer = self.answer(data, datagram=True)
            if answer is not None:
                _send(one, answer, client)

    def accept(self, listener: socket.socket) -> None:
        """Takes a TCP client."""
        try:
            stream, _ = listener.accept()
        except OSError:  # it went away, or there are no descriptors left
            return
        stream.setblocking(False)
        _Client(self._reactor, stream, lambda data: self.answer(data, datagram=False))

    def answer(self, data: bytes, *, datagram: bool) -> bytes | None:
        """The answer to one message; None where there should be none."""
        try:
            asked = wire.parse(data)
        except wire.WireError:
            return refusal(data)
        if asked.response:
            return None
        self._catch_up()
        if self._zone is None:
            said = msgspec.json.decode(self._said, type=Facts) if self._said else Facts()
            self._zone = Zone(said)
        limit = size_limit(asked) if datagram else wire.MAX_MESSAGE
        try:
            return wire.render(self._zone.answer(asked), limit)
        except wire.WireError:  # a name that is too long once a Service's is put before it
            failed = wire.Message(
                id=asked.id, question=asked.question, response=True, code=wire.SERVFAIL
            )
            return wire.render(failed)


class _Client:
    """One TCP connection: messages with their length before them (RFC 1035, 4.2.2)."""

    def __init__(
        self, reactor: Reactor, stream: socket.socket, answer: Callable[[bytes], bytes | None]
    ) -> None:
        self._reactor = reactor
        self._stream = stream
        self._answer = answer
        self._asked = bytearray()
        self._waiting = bytearray()
        self._timer = reactor.after(_IDLE_LIMIT, self._close)
        reactor.on_readable(stream.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._stream.recv(wire.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._timer.cancel()
        self._timer = self._reactor.after(_IDLE_LIMIT, self._close)
        self._asked += data
        while len(self._asked) >= 2:
            length = int.from_bytes(self._asked[:2], "big")
            if len(self._asked) < 2 + length:
                break
            answer = self._answer(bytes(self._asked[2 : 2 + length]))
            del self._asked[: 2 + length]
            if answer is not None:
                self._waiting += len(answer).to_bytes(2, "big") + answer
        if len(self._waiting) > _WAITING_LIMIT:
            self._close()
        else:
            self._write()

    def _write(self) -> None:
        try:
            del self._waiting[: self._stream.send(self._waiting) if self._waiting else 0]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        self._reactor.on_writable(self._stream.fileno(), self._write if self._waiting else None)

    def _close(self) -> None:
        self._timer.cancel()
        if self._stream.fileno() >= 0:
            self._reactor.forget(self._stream.fileno())
            self._stream.close()


def _send(one: socket.socket, answer: bytes, client: Any) -> None:
    try:
        one.sendto(answer, client)
    except OSError:
        return  # the client went away, or its queue is full: it asks again
