"""The built-in echo server: says which Pod answered and which client it saw.

One process serves all Pods of a World.  The lab process opens each socket inside its Pod's
namespace and hands it over (SCM_RIGHTS), so that a Pod costs a descriptor, not a process.
Over TCP and SCTP it speaks HTTP/1.0; a UDP datagram is answered with the same text, and so is the
INIT of SCTP where the kernel has no sockets for that (``lab.sctp``).  The cluster's
DNS (``lab.dns``) answers in the same process.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hairpin.kernel.reactor import Reactor
from hairpin.lab.ports import Role

if TYPE_CHECKING:
    from hairpin.lab.dns import DnsServer

_MESSAGE = 4096  # bytes of one message of the channel
_REQUEST_LIMIT = 64 * 1024  # bytes of a request that are read before the answer is sent
_IDLE_LIMIT = 10.0  # seconds a client may take to say its request
_QUIET = 0.1
"""Seconds without a connection after which a server that was told to end does: as long as one
takes to arrive that was under way when the proxies last sent any."""


class EchoServers:
    """The lab process's end: opens sockets and gives them to the echo process.

    ``on_gone``: called when that process was killed; what it served is to be given anew then, to
    another one.
    """

    def __init__(self, reactor: Reactor, on_gone: Callable[[], None]) -> None:
        self._names = b""
        self._reactor = reactor
        self._on_gone = on_gone
        self._draining: dict[str, Callable[[], None]] = {}
        self._fork()

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            _serve_and_exit(ours, theirs)
        theirs.close()
        self._channel = ours
        self._reactor.on_exit(self.pid, lambda _status: None)
        self._reactor.on_readable(ours.fileno(), self._told)

    def serve(self, listener: socket.socket, identity: dict[str, Any], role: Role) -> None:
        """Serves ``listener`` (bound, in a Pod's namespace) as ``identity``; takes it over."""
        said = json.dumps({**identity, "role": role}).encode()
        with listener:
            socket.send_fds(self._channel, [said], [listener.fileno()])

    def say_names(self, facts: bytes) -> None:
        """What DNS answers from now on: ``dns_zone.Facts`` as JSON.

        A question that is asked after this returned is answered so.
        """
        if facts == self._names:
            return
        self._names = facts
        # In memory of its own: a message of the channel has a limit, and names do not.
        fd = os.memfd_create("names", os.MFD_CLOEXEC)
        try:
            view = memoryview(facts)
            while view:
                view = view[os.write(fd, view) :]
            socket.send_fds(self._channel, [b'{"names":true}'], [fd])
        finally:
            os.close(fd)

    def drain(self, pod: str, done: Callable[[], None]) -> None:
        """Ends the servers of ``pod`` when nobody speaks with them, and calls back then.

        Until then they answer as before, also who comes anew.
        """
        self._draining[pod] = done
        with suppress(BrokenPipeError):  # then all hear that it is gone
            self._channel.send(json.dumps({"drain": pod}).encode())

    def end(self, pod: str) -> None:
        """Closes all sockets of ``pod``, and is sure of it when it returns."""
        self._draining.pop(pod, None)
        try:
            self._channel.send(json.dumps({"end": pod}).encode())
        except BrokenPipeError:  # it is gone, and its sockets with it
            return
        while (said := self._channel.recv(_MESSAGE)) not in (b"done", b""):
            self._drained(said)

    def _told(self) -> None:
        try:
            said = self._channel.recv(_MESSAGE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if said:
            self._drained(said)
        else:
            self._gone()

    def _gone(self) -> None:
        self._reactor.forget(self._channel.fileno())
        self._channel.close()
        draining, names = self._draining, self._names
        self._draining, self._names = {}, b""
        self._fork()
        if names:
            self.say_names(names)
        for done in draining.values():
            self._reactor.after(0, done)
        self._on_gone()

    def _drained(self, said: bytes) -> None:
        """Calls back from the loop: whoever waits for another answer gets that first."""
        done = self._draining.pop(json.loads(said)["drained"], None)
        if done is not None:
            self._reactor.after(0, done)


def answer(identity: dict[str, Any], client: tuple[Any, ...], here: tuple[Any, ...]) -> bytes:
    """What a client is told: one line of JSON, its keys in a fixed order."""
    said = {
        "pod": identity["pod"],
        "namespace": identity["namespace"],
        "node": identity["node"],
        "client": client[0],
        "clientPort": client[1],
        "server": here[0],
        "serverPort": here[1],
    }
    return json.dumps(said).encode() + b"\n"


def _serve_and_exit(ours: socket.socket, theirs: socket.socket) -> None:
    """The echo process; never returns."""
    try:
        ours.close()
        keep = theirs.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        reactor = Reactor(_report)
        _EchoProcess(reactor, theirs)
        reactor.run()
    finally:
        os._exit(0)


def _report(error: BaseException) -> None:
    print(f"echo server: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


class _EchoProcess:
    def __init__(self, reactor: Reactor, channel: socket.socket) -> None:
        self._reactor = reactor
        self._channel = channel
        self._sockets: dict[str, list[socket.socket]] = {}
        self._dns: DnsServer | None = None
        self._open: dict[str, int] = {}  # connections by Pod
        self._draining: set[str] = set()
        channel.setblocking(False)
        reactor.on_readable(channel.fileno(), self._commands)

    def _commands(self) -> None:
        """All that the lab process has said so far, in its order."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._channel, _MESSAGE, 1)
            except BlockingIOError:
                return
            if not data:
                self._reactor.stop()
                return
            self._command(json.loads(data), fds)

    def _command(self, message: dict[str, Any], fds: list[int]) -> None:
        if "names" in message:
            self._say_names(fds[0])
            return
        if "end" in message:
            self._close(message["end"])
            self._channel.send(b"done")
            return
        if "drain" in message:
            self._draining.add(message["drain"])
            self._look_later(message["drain"])
            return
        one = socket.socket(fileno=fds[0])
        one.setblocking(False)
        self._sockets.setdefault(message["id"], []).append(one)
        stream = one.type == socket.SOCK_STREAM
        if message["role"] == "dns":
            serve = self._dns_server().accept if stream else self._dns_server().datagrams
            self._reactor.on_readable(one.fileno(), lambda: serve(one))
            return
        ready = self._accept if stream else self._datagram
        if one.type == socket.SOCK_RAW:
            ready = self._initiation
        self._reactor.on_readable(one.fileno(), lambda: ready(one, message))

    def _close(self, pod: str) -> None:
        self._draining.discard(pod)
        for one in self._sockets.pop(pod, []):
            self._reactor.forget(one.fileno())
            one.close()

    def _look_later(self, pod: str) -> None:
        """Ends a Pod's servers if nobody speaks with them a moment from now."""

        def look() -> None:
            if pod in self._draining and not self._open.get(pod):
                self._close(pod)
                self._channel.send(json.dumps({"drained": pod}).encode())

        self._reactor.after(_QUIET, look)

    def _dns_server(self) -> DnsServer:
        if self._dns is None:
            from hairpin.lab.dns import DnsServer  # here: the lab process does without it

            self._dns = DnsServer(self._reactor, self._commands)
        return self._dns

    def _say_names(self, fd: int) -> None:
        with open(fd, "rb") as file:
            file.seek(0)
            self._dns_server().say(file.read())

    def _accept(self, listener: socket.socket, identity: dict[str, Any]) -> None:
        try:
            stream, client = listener.accept()
        except OSError:  # it went away, or there are no descriptors left
            return
        stream.setblocking(False)
        pod = identity["id"]
        self._open[pod] = self._open.get(pod, 0) + 1
        _Visitor(
            self._reactor,
            stream,
            lambda: answer(identity, client, stream.getsockname()),
            lambda: self._left(pod),
        )

    def _left(self, pod: str) -> None:
        self._open[pod] -= 1
        if not self._open[pod]:
            del self._open[pod]
            if pod in self._draining:
                self._look_later(pod)

    def _datagram(self, one: socket.socket, identity: dict[str, Any]) -> None:
        with suppress(OSError):  # an ICMP error of an earlier answer; a client that went away
            _, client = one.recvfrom(_REQUEST_LIMIT)
            one.sendto(answer(identity, client, one.getsockname()), client)

    def _initiation(self, one: socket.socket, identity: dict[str, Any]) -> None:
        """An INIT of SCTP, in a kernel that has no such sockets."""
        from hairpin.lab import sctp  # few Pods serve it, and most kernels do by themselves

        packet, client = one.recvfrom(_REQUEST_LIMIT)
        here = "::"
        if one.family == socket.AF_INET:
            here = socket.inet_ntoa(packet[16:20])
            packet = sctp.without_ip(packet)
        try:
            read = sctp.Read(packet)
        except ValueError:
            return
        port = identity["port"]
        if read.kind == sctp.INIT and read.destination == port:
            said = answer(identity, (client[0], read.source), (here, port))
            reply = sctp.init_ack(port, read.source, read.tag, read.tag ^ 1 or 2, said)
            one.sendto(reply, (client[0], 0))


class _Visitor:
    """One TCP client: its request is read, answered, and the connection closed in order.

    An HTTP request ends at its empty line; anything else is answered after its first line, so
    that ``nc`` works too.
    """

    def __init__(
        self,
        reactor: Reactor,
        stream: socket.socket,
        body: Callable[[], bytes],
        left: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._stream = stream
        self._body = body
        self._left = left
        self._request = bytearray()
        self._answered = False
        self._timer = reactor.after(_IDLE_LIMIT, self._close)
        reactor.on_readable(stream.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._stream.recv(_REQUEST_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            self._close()
            return
        if self._answered or not (data or self._request):
            # After the answer the rest of the request is only drained: closing a socket with
            # unread data would send a reset that can overtake the answer.
            if not data:
                self._close()
            return
        self._request += data
        if not data or len(self._request) >= _REQUEST_LIMIT or self._complete():
            self._answer()

    def _complete(self) -> bool:
        first, newline, _ = self._request.partition(b"\n")
        if b" HTTP/1." in first:
            return b"\r\n\r\n" in self._request or b"\n\n" in self._request
        return bool(newline)

    def _answer(self) -> None:
        body = self._body()
        if b" HTTP/1." in self._request.partition(b"\n")[0]:
            head = (
                "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            body = head.encode() + body
        self._answered = True
        try:
            self._stream.sendall(body)
            self._stream.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()  # the client went away; nobody is left to tell

    def _close(self) -> None:
        self._timer.cancel()
        self._reactor.forget(self._stream.fileno())
        self._stream.close()
        self._left()
