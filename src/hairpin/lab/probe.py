"""One real connection from a namespace, and what became of it.

Bounded in time and size, and run on the lab process's event loop: many can be under way at once.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.model.address import IP

Outcome = Literal["answered", "timeout", "refused", "unreachable", "error"]
Protocol = Literal["TCP", "UDP", "SCTP", "ICMP"]
_LIMIT = 64 * 1024  # bytes of an answer that are kept
_STREAMS = ("TCP", "SCTP")
_KINDS = {
    "TCP": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "UDP": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "SCTP": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    "ICMP": (socket.SOCK_RAW, socket.IPPROTO_ICMP),
}
_UNSPOKEN = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)
_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR (linux/in.h, in6.h), which the socket module does not have."""
_TURNS = 10
"""Turns of the event loop that a probe gets beyond its time: the servers that answer are in the
same loop, and one that was busy for long has not looked at them meanwhile.  They cost an idle loop
nothing."""
_PORTS = 20000  # from there to 39999: a raw socket is given no port by the kernel
_QUERY = (
    struct.pack("!6H", 0x6870, 0x0100, 1, 0, 0, 0)
    + b"".join(
        bytes([len(label)]) + label
        for label in (b"kubernetes", b"default", b"svc", b"cluster", b"local", b"")
    )
    + struct.pack("!2H", 1, 1)
)
"""What every cluster's DNS knows by itself, asked for its IPv4 address (RFC 1035, 4.1)."""
_CODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_ECHO = {4: (8, 0), 6: (128, 129)}
"""ICMP's type of an echo request and of its reply, by IP version (RFC 792, RFC 4443)."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What to try: a connection with one HTTP request, one UDP datagram, or one ping (ICMP).

    SCTP is an INIT and its answer where the kernel has no sockets for it (``lab.sctp``).

    ``path`` None is a connection and nothing more.  ``source`` and ``source_port`` are for this
    end; what is not said is the kernel's choice.
    """

    ip: IP
    port: int
    protocol: Protocol = "TCP"
    timeout: float = 1.0  # seconds for the whole of it
    path: str | None = "/"
    source: IP | None = None
    source_port: int = 0
    size: int = 0  # bytes that a request, or a datagram, has at least
    dns: bool = False  # a datagram is a DNS query: servers of DNS answer nothing else


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.  ``source`` is the address that the kernel chose for this end."""

    outcome: Outcome
    status: int | None = None  # of the HTTP answer
    body: str = ""
    source: str | None = None
    seconds: float = 0.0
    error: str | None = None  # the errno's name where there was one


class Attempt:
    """A probe under way.

    ``hold`` stops it when the connection is there: ``done`` is told so, and told again what comes
    of the request once ``ask`` sends it.
    """

    def __init__(
        self,
        reactor: Reactor,
        netns: Netns,
        probe: Probe,
        done: Callable[[Seen], None],
        *,
        hold: bool = False,
    ) -> None:
        self._reactor = reactor
        self._probe = probe
        self._done = done
        self._started = reactor.now()
        self._answer = bytearray()
        self._turns = _TURNS
        self._held = hold
        self.local: tuple[str, int] | None = None
        """This end's address and port, once ``start`` has connected."""
        self._socket = _socket(netns, probe)
        self._raw_sctp = probe.protocol == "SCTP" and self._socket.type == socket.SOCK_RAW
        self._tag = int.from_bytes(os.urandom(3)) + 1 if self._raw_sctp else 0
        self._port = probe.source_port or _PORTS + self._tag % _PORTS
        self._timer = reactor.after(probe.timeout, self._too_late)

    def start(self) -> None:
        probe = self._probe
        try:
            if probe.source is not None or probe.source_port:
                anywhere = "0.0.0.0" if probe.ip.version == 4 else "::"
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                port = 0 if self._raw_sctp else probe.source_port
                self._socket.bind((str(probe.source or anywhere), port))
        except OSError as error:
            self._failed(error.errno or errno.EIO)
            return
        code = self._socket.connect_ex((str(probe.ip), 0 if self._raw_sctp else probe.port))
        with suppress(OSError):
            address, port = self._socket.getsockname()[:2]
            self.local = address, self._port if self._raw_sctp else port
        if code not in (0, errno.EINPROGRESS):
            self._failed(code)
        else:
            self._reactor.on_writable(self._socket.fileno(), self._can_write)

    def ask(self, timeout: float, done: Callable[[Seen], None]) -> None:
        """Sends the request over a held connection."""
        self._held = False
        self._turns = _TURNS
        self._done = done
        self._started = self._reactor.now()
        self._timer = self._reactor.after(timeout, self._too_late)
        self._reactor.on_writable(self._socket.fileno(), self._can_write)

    def close(self) -> None:
        """Ends a held connection without a word."""
        self._timer.cancel()
        self._reactor.forget(self._socket.fileno())
        self._socket.close()

    def _can_write(self) -> None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code and not self._raw_sctp:
            self._failed(code)
            return
        fd = self._socket.fileno()
        self._reactor.on_writable(fd, None)
        if self._held:
            self._timer.cancel()
            self._done(self._seen("answered", None))
            return
        if self._probe.protocol in _STREAMS and self._probe.path is None and not self._raw_sctp:
            self._end("answered", None)
            return
        try:
            self._socket.send(self._begin_sctp() if self._raw_sctp else _request(self._probe))
        except OSError as error:
            # What a rule drops on its way out is lost, as it is for other protocols: if it is
            # refused, ICMP says so too.
            if not self._raw_sctp or error.errno != errno.EPERM:
                self._failed(error.errno or errno.EIO)
                return
        self._reactor.on_readable(fd, self._can_read)

    def _can_read(self) -> None:
        if self._raw_sctp and (code := self._icmp_error()):
            self._failed(code)
            return
        try:
            data = self._socket.recv(_LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            if not self._raw_sctp:  # else it was for another probe's packet
                self._failed(error.errno or errno.EIO)
            return
        if self._probe.protocol == "ICMP":
            if _is_reply(data, self._probe):
                self._end("answered", None)
            return
        if self._raw_sctp:
            self._read_sctp(data)
            return
        self._answer += data[: _LIMIT - len(self._answer)]
        if not data or self._probe.protocol == "UDP":
            self._end("answered" if self._answer else "error", None if self._answer else "empty")

    def _begin_sctp(self) -> bytes:
        from hairpin.lab import sctp  # most kernels speak it themselves

        return sctp.init(self._port, self._probe.port, self._tag)

    def _icmp_error(self) -> int:
        """The errno of an ICMP error that is about this probe's INIT, else 0.

        A raw socket gets the errors of all packets to its peer; the error queue says of which one
        (IP_RECVERR, ip(7)), from its transport header on.
        """
        while True:
            try:
                about, ancillary, _, _ = self._socket.recvmsg(_LIMIT, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return 0
            if about.startswith(struct.pack("!HH", self._port, self._probe.port)):
                for _, _, said in ancillary:
                    return int(struct.unpack_from("=I", said)[0])

    def _read_sctp(self, data: bytes) -> None:
        """A raw socket gets all packets from there: only the answer to this INIT counts."""
        from hairpin.lab import sctp

        if self._probe.ip.version == 4:
            data = sctp.without_ip(data)
        try:
            read = sctp.Read(data)
        except ValueError:
            return
        ours = (read.source, read.destination, read.to) == (self._probe.port, self._port, self._tag)
        if ours and read.kind == sctp.INIT_ACK:
            self._answer += read.cookie
            self._end("answered", None)
        elif ours and read.kind == sctp.ABORT:
            self._end("refused", None)

    def _too_late(self) -> None:
        if self._turns:
            self._turns -= 1
            self._timer = self._reactor.after(0, self._too_late)
        else:
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
        seen = self._seen(outcome, error)
        self.close()
        self._done(seen)

    def _seen(self, outcome: Outcome, error: str | None) -> Seen:
        try:
            source = str(self._socket.getsockname()[0])
        except OSError:
            source = None
        status, body = _read_answer(bytes(self._answer))
        return Seen(
            outcome=outcome,
            status=status,
            body=body.decode(errors="replace"),
            source=source if source not in (None, "0.0.0.0", "::") else None,
            seconds=round(self._reactor.now() - self._started, 4),
            error=error,
        )


def _socket(netns: Netns, probe: Probe) -> socket.socket:
    """Made in the namespace, not yet connected.  Raises OSError, as for an unknown protocol."""
    family = socket.AF_INET if probe.ip.version == 4 else socket.AF_INET6
    kind, protocol = _KINDS[probe.protocol]
    if probe.protocol == "ICMP" and probe.ip.version == 6:
        protocol = socket.IPPROTO_ICMPV6
    with netns.entered():
        try:
            return socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        except OSError as error:
            if probe.protocol != "SCTP" or error.errno not in _UNSPOKEN:
                raise
        raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    raw.setsockopt(*_RECVERR[probe.ip.version], 1)
    return raw


def _request(probe: Probe) -> bytes:
    match probe.protocol:
        case "UDP" if probe.dns:
            return _QUERY
        case "UDP":
            return b"hello".ljust(probe.size, b".") + b"\n"
        case "ICMP":
            return _ping(probe)
    lines = [
        f"GET {probe.path} HTTP/1.0",
        f"Host: {probe.ip}:{probe.port}",
        "Connection: close",
        *([f"X-Filler: {'.' * probe.size}"] if probe.size else []),
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def _ping(probe: Probe) -> bytes:
    """An echo request.  The kernel sums up ICMPv6 itself, ICMP it leaves to us (raw(7))."""
    kind = _ECHO[probe.ip.version][0]
    body = struct.pack("!HH", os.getpid() & 0xFFFF, 1) + b"hairpin."
    total = sum(struct.unpack("!6H", body)) + (kind << 8)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", kind, 0, ~total & 0xFFFF) + body


def _is_reply(data: bytes, probe: Probe) -> bool:
    """Whether a raw socket's packet is an echo reply.  IPv4's come with their IP header."""
    if probe.ip.version == 4:
        data = data[(data[0] & 0xF) * 4 :] if data else data
    return data[:1] == bytes([_ECHO[probe.ip.version][1]])


def _read_answer(answer: bytes) -> tuple[int | None, bytes]:
    """Status and body of an HTTP answer, DNS' code in words; anything else is all body."""
    if len(answer) >= 12 and answer[:2] == _QUERY[:2] and answer[2] & 0x80:
        code = answer[3] & 0xF
        said = _CODES[code] if code < len(_CODES) else f"code {code}"
        return None, f"DNS: {said}".encode()
    head, empty_line, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if empty_line and words[0].startswith(b"HTTP/") and len(words) > 1 and words[1].isdigit():
        return int(words[1]), body
    return None, answer


def start(reactor: Reactor, netns: Netns, probe: Probe, done: Callable[[Seen], None]) -> None:
    """Starts ``probe`` in ``netns``; ``done`` is called once, within its time limit."""
    Attempt(reactor, netns, probe, done).start()
