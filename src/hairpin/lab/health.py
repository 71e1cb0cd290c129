"""The healthCheckNodePorts of a lab's nodes: in the lab process, on its own event loop.

What they say and where they listen is what a real node's agent has (``proxy.health_checks``).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.model.address import IP
from hairpin.model.metadata import Key
from hairpin.plan.service_plan import HealthCheck
from hairpin.proxy.health_checks import Place, answered, listeners

_REQUEST = 16 * 1024  # bytes that are read of one
_IDLE = 5.0  # seconds a client may take


class NodeHealth:
    """The ports of one node."""

    def __init__(self, reactor: Reactor, netns: Netns) -> None:
        self._reactor = reactor
        self._netns = netns
        self._open: dict[Place, socket.socket] = {}
        self._said: dict[Place, tuple[Key, int]] = {}

    def follow(
        self, wanted: Mapping[Key, HealthCheck], addresses: Mapping[int, Sequence[IP] | None]
    ) -> None:
        """These are all that there are.  A port that cannot be had is tried again next time."""
        if not wanted and not self._open:
            return
        self._said = listeners(wanted, addresses)
        for place in [place for place in self._open if place not in self._said]:
            self._end(place)
        for place in self._said:
            if place not in self._open:
                with suppress(OSError):  # somebody else's port; the Service itself is served
                    self._begin(place)

    def close(self) -> None:
        for place in list(self._open):
            self._end(place)

    def _begin(self, place: Place) -> None:
        host, port = place
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with self._netns.entered():
            listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, port))
            listener.listen(128)
        except OSError:
            listener.close()
            raise
        self._open[place] = listener
        self._reactor.on_readable(listener.fileno(), lambda: self._accept(place))

    def _end(self, place: Place) -> None:
        listener = self._open.pop(place)
        self._reactor.forget(listener.fileno())
        listener.close()

    def _accept(self, place: Place) -> None:
        try:
            client, _ = self._open[place].accept()
        except OSError:
            return
        client.setblocking(False)
        fd = client.fileno()

        def end() -> None:
            self._reactor.forget(fd)
            client.close()

        timer = self._reactor.after(_IDLE, end)

        def answer() -> None:
            timer.cancel()
            with suppress(OSError):
                client.recv(_REQUEST)
                client.send(self._answer(place))
            end()

        self._reactor.on_readable(fd, answer)

    def _answer(self, place: Place) -> bytes:
        """A whole HTTP answer; a few hundred bytes, which a fresh socket always takes."""
        key, local = self._said[place]
        # A lab's proxy syncs before it is asked anything else: it is never late.
        code, body, headers = answered(key, local, healthy=True)
        lines = [
            f"HTTP/1.0 {code} {'OK' if code == 200 else 'Service Unavailable'}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body
