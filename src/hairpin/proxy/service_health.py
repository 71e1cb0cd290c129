"""healthCheckNodePorts: whether this node has endpoints of a Service with external policy Local.

Load balancers ask each node, and send to those that say 200 (pkg/proxy/healthcheck/
service_health.go in Kubernetes 1.36).  A port that cannot be had is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from hairpin.model.address import IP
from hairpin.model.metadata import Key
from hairpin.plan.service_plan import HealthCheck
from hairpin.proxy.health_checks import Place, answered, listeners
from hairpin.proxy.server import Answer, Servers


class Open(msgspec.Struct):
    """One Service's answer."""

    key: Key
    local: int


class ServiceHealth:
    """The ports of all Services of a node.

    ``healthy`` says whether the proxy is well; ``say`` is told of ports that cannot be had.
    """

    def __init__(
        self, servers: Servers, healthy: Callable[[], bool], say: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._healthy = healthy
        self._say = say
        self._open: dict[Place, Open] = {}
        self._said: set[Place] = set()

    def follow(
        self, wanted: Mapping[Key, HealthCheck], addresses: Mapping[int, Sequence[IP] | None]
    ) -> None:
        """These are all that there are.

        ``addresses`` are the node's by IP version, None for every one.
        """
        asked = listeners(wanted, addresses)
        for place in [place for place in self._open if place not in asked]:
            self._servers.unlisten(*place)
            del self._open[place]
        for place, (key, local) in asked.items():
            known = self._open.get(place)
            if known is None:
                self._begin(place, Open(key, local))
            else:
                known.key, known.local = key, local
        self._said &= asked.keys()

    @property
    def missing(self) -> bool:
        """Whether there are ports that could not be had."""
        return bool(self._said)

    def _begin(self, place: Place, one: Open) -> None:
        try:
            self._servers.listen(
                *place, lambda request: answer(one.key, one.local, self._healthy())
            )
        except OSError as error:
            if place not in self._said:
                name = "/".join(one.key)
                at = f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"
                self._say(f"Service {name}: health check at {at}: {error.strerror}")
            self._said.add(place)
        else:
            self._open[place] = one
            self._said.discard(place)


def answer(key: Key, local: int, healthy: bool) -> Answer:
    """What one Service's port says."""
    code, body, headers = answered(key, local, healthy)
    return Answer(body, code, "application/json", headers)
