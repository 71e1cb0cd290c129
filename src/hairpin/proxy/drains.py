"""Graceful termination: a real server that nobody wants any more stays until its connections end.

It gets weight 0, so that no new connection goes there, and is removed when the kernel counts
none (kube-proxy: graceful_termination.go; it counts first, and a connection can slip between).
Connections of UDP and SCTP are not waited for.  A real server of weight 0 that is not wanted says
all there is to remember, so that a proxy that starts anew finds them in the kernel.

Persistence templates are not waited for: with expire_quiescent_template, which kube-proxy sets,
they end with the weight.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence

import msgspec

from hairpin.kernel.apply import Failed, Kernel
from hairpin.mode.ownership import server_of
from hairpin.mode.stages import send
from hairpin.mode.wants import Differences
from hairpin.state.change import Change
from hairpin.state.ipvs import RealServer, VirtualServer

ObjectKey = tuple[object, ...]

_ABSENT = frozenset((errno.ENOENT, errno.ESRCH))  # a real server, its virtual server


class Drain(msgspec.Struct):
    """A real server that waits; ``connections`` when it was last looked at."""

    real: RealServer
    connections: int = 0


class Drains:
    """The real servers that wait for their connections to end."""

    def __init__(self, kernel: Kernel, netns: str, interval: float) -> None:
        self._kernel = kernel
        self._netns = netns
        self._interval = interval  # seconds
        self._waiting: dict[ObjectKey, Drain] = {}
        self.check_at: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._waiting

    def __iter__(self) -> Iterator[Drain]:
        return iter(self._waiting.values())

    def is_due(self, now: float) -> bool:
        return self.check_at is not None and self.check_at <= now

    def drain(
        self, leaving: Sequence[RealServer], now: float, *, look: bool
    ) -> tuple[list[Change], list[Failed], OSError | None]:
        """Takes these real servers out of service; removes those without a connection.

        ``look`` is also at those that were waiting before.  Gives what was done and what of it
        failed, and why the connections could not be counted.
        """
        done = [self._change("set", _without_weight(one), one) for one in leaving if one.weight]
        failed = [one for one in send(self._kernel, done) if one.error.errno not in _ABSENT]
        stuck = {one.change.object.key for one in failed}
        asked = {one.key: Drain(_without_weight(one)) for one in leaving if one.key not in stuck}
        self._waiting.update(asked)
        problem: OSError | None = None
        try:
            ended = self._ended(self._waiting if look else asked)
        except OSError as error:
            problem, ended = error, []
        gone = [self._change("remove", one) for one in ended]
        refused = send(self._kernel, gone)
        kept = {one.change.object.key for one in refused}
        for one in ended:
            if one.key not in kept:
                del self._waiting[one.key]
        if look or self.check_at is None:
            self.check_at = now + self._interval
        if not self._waiting:
            self.check_at = None
        return [*done, *gone], [*failed, *refused], problem

    def prune(self, wanted: Callable[[ObjectKey], bool]) -> None:
        """Forgets those that are wanted again, and those whose virtual server is not."""
        for key, one in list(self._waiting.items()):
            if wanted(key) or not wanted(server_of(one.real).key):
                del self._waiting[key]
        if not self._waiting:
            self.check_at = None

    def _ended(self, waiting: dict[ObjectKey, Drain]) -> list[RealServer]:
        """Those whose connections have ended.  Forgets what the kernel no longer has.

        Raises OSError.
        """
        servers: dict[ObjectKey, VirtualServer] = {}
        for drain in waiting.values():
            server = server_of(drain.real)
            servers[server.key] = server
        ended: list[RealServer] = []
        if not servers:
            return ended
        there = set()
        for answers in self._kernel.observe_real_servers(self._netns, list(servers.values())):
            for seen in answers:
                key = seen.server.key
                if key in waiting:
                    there.add(key)
                    waiting[key].connections = seen.active + seen.inactive
        for key, drain in list(waiting.items()):
            if key not in there:
                del self._waiting[key]
            elif not drain.connections:
                ended.append(drain.real)
        return ended

    def _change(self, verb: str, real: RealServer, before: RealServer | None = None) -> Change:
        return Change(
            verb="set" if verb == "set" else "remove",
            netns=self._netns,
            object=real,
            before=before,
            reason="no wanted endpoint; its connections may end",
        )


def split(
    differences: Differences, wanted: Callable[[ObjectKey], bool]
) -> tuple[Differences, list[RealServer]]:
    """Takes out the real servers whose connections are to be waited for."""
    removals: list[Change] = []
    leaving: list[RealServer] = []
    for change in differences.removals:
        one = change.object
        if isinstance(one, RealServer) and one.protocol == "TCP" and wanted(server_of(one).key):
            leaving.append(one)
        else:
            removals.append(change)
    return Differences(differences.puts, removals), leaving


def _without_weight(real: RealServer) -> RealServer:
    return msgspec.structs.replace(real, weight=0) if real.weight else real
