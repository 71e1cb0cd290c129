"""Watching: a session is told of each object that comes, changes or goes.

What changed is found here, by comparing with what the session was told last; so nothing is lost
when several things happen at once or the client is slow, and only differences travel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hairpin.kernel.reactor import Reactor, Timer
from hairpin.lab.session import Session

_TOGETHER = 0.05  # seconds in which changes are gathered: an apply converges several times
_KERNEL_PAUSE = 1.0  # seconds between looks at what the kernel changes by itself
_KERNEL_KINDS = ("virtualservers", "connections", "ingredients", "proxies")

Shape = dict[str, Any]


class Watches:
    """All sessions of a lab that watch something."""

    def __init__(self, reactor: Reactor, look: Callable[[str], list[Shape]]) -> None:
        """``look``: all objects of a kind, as ``hairpin get`` shows them."""
        self._reactor = reactor
        self._look = look
        self._open: list[_Watch] = []
        self._due = False
        self._poll: Timer | None = None

    def open(self, session: Session, kind: str) -> None:
        """Tells ``session`` of all objects of that kind now, and of every change from then on.

        Events: ``{"type": "ADDED"|"MODIFIED"|"DELETED", "object": …}``, and once, between what
        was there and what comes, ``{"type": "SYNCED"}``.  Raises LabError for an unknown kind.
        """
        watch = _Watch(session, kind)
        watch.tell(self._look(kind))
        session.event({"type": "SYNCED"})
        self._open.append(watch)
        session.on_close = lambda: self._open.remove(watch)
        session.on_drain = self.changed
        if kind in _KERNEL_KINDS and self._poll is None:
            self._poll = self._reactor.after(_KERNEL_PAUSE, self._poll_kernel)

    def changed(self) -> None:
        """Something may have changed: looks soon, once for all that happens until then."""
        if self._open and not self._due:
            self._due = True
            self._reactor.after(_TOGETHER, self._tell_all)

    def _tell_all(self) -> None:
        self._due = False
        self._tell({watch.kind for watch in self._open})

    def _poll_kernel(self) -> None:
        self._poll = None
        kinds = {watch.kind for watch in self._open} & set(_KERNEL_KINDS)
        if kinds:
            self._poll = self._reactor.after(_KERNEL_PAUSE, self._poll_kernel)
            self._tell(kinds)

    def _tell(self, kinds: set[str]) -> None:
        for kind in sorted(kinds):
            ready = [one for one in self._open if one.kind == kind and not one.session.blocked]
            if ready:
                self._tell_of(kind, ready)

    def _tell_of(self, kind: str, ready: list[_Watch]) -> None:
        """What cannot be looked at ends those that watch it, and no other."""
        try:
            found = self._look(kind)
        except Exception as error:
            for watch in ready:
                self._open.remove(watch)
                watch.session.fail(f"{kind} cannot be looked at any more: {error}")
            return
        for watch in ready:
            watch.tell(found)


class _Watch:
    """One session and what it was told."""

    def __init__(self, session: Session, kind: str) -> None:
        self.session = session
        self.kind = kind
        self._told: dict[object, Shape] = {}

    def tell(self, found: list[Shape]) -> None:
        """Sends the differences to what was told before."""
        now = {identity(one): one for one in found}
        for key in [key for key in self._told if key not in now]:
            self.session.event({"type": "DELETED", "object": self._told.pop(key)})
        for key, one in now.items():
            before = self._told.get(key)
            if before == one:
                continue
            self._told[key] = one
            kind = "ADDED" if before is None else "MODIFIED"
            self.session.event({"type": kind, "object": one})


def identity(one: Shape) -> object:
    """What makes an object the same one when it is looked at again."""
    if "metadata" in one:
        return (one["metadata"].get("namespace", ""), one["metadata"]["name"])
    if "server" in one and isinstance(one["server"], dict):
        server = one["server"]
        return (one["node"], *(str(server.get(field)) for field in _SERVER))
    if "client" in one:
        return (one["node"], *(str(one[field]) for field in _CONNECTION))
    return one["node"] if one["kind"] == "Proxy" else one["name"]


_SERVER = ("protocol", "ip", "port", "fwmark", "family")
_CONNECTION = ("protocol", "client", "client_port", "vip", "vport", "server", "server_port")
