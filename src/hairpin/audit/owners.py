"""Whose an address, a port or a name in the kernel is, by what Services say.

What is missing or wrong is planned, and a plan names its owner.  What is extra has no owner by
itself: it is told from where it points to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

from hairpin.model.address import IP, ip
from hairpin.model.snapshot import Snapshot
from hairpin.plan.frontends import Place, PlannedPort, resolve
from hairpin.plan.node import NodeFacts
from hairpin.plan.owner import of_port, of_service
from hairpin.plan.whole import slices_by_service

_NAMED = re.compile(
    r"(?<![\w.-])([a-z0-9][a-z0-9-]*)/([a-z0-9][a-z0-9.-]*)(?::([a-z0-9-]+))?(?= |$)"
)
_CHAIN = re.compile(r"^[a-z]+-[A-Z0-9]{8}-([^/]+)/([^/]+)/(tcp|udp|sctp)/([a-z0-9-]*)(?:__|$)")
_PLACE = re.compile(r"(\d+\.\d+\.\d+\.\d+|[0-9a-f:]*:[0-9a-f:]*)(?:/\d+)?")


class Owners:
    """An index of every Service's addresses, ports and endpoints."""

    def __init__(self, snapshot: Snapshot, node: NodeFacts) -> None:
        self._places: dict[tuple[str, int, int, int], list[str]] = {}
        self._node_ports: dict[tuple[str, int], list[str]] = {}
        self._health: dict[int, list[str]] = {}
        self._ips: dict[tuple[int, int], list[str]] = {}
        self._endpoints: dict[tuple[int, int], list[str]] = {}
        self.cluster_ips: set[IP] = set()  # of all Services that a proxy serves
        slices = slices_by_service(snapshot)
        place = Place(node.name, node.zone)
        for key, service in snapshot.services.items():
            found = resolve(place, service, slices.get(key, ()))
            if found.health is not None:
                _add(self._health, found.health.port, of_service(key))
            for port in found.ports:
                self._port(of_port(key, port.name.port), of_service(key), port)

    def _port(self, owner: str, service: str, port: PlannedPort) -> None:
        self.cluster_ips.add(port.cluster_ip)
        for one in port.frontends:
            if one.ip is None:
                _add(self._node_ports, (port.protocol, one.port), owner)
            else:
                at = (port.protocol, port.version, int(one.ip), one.port)
                _add(self._places, at, owner)
                _add(self._ips, (port.version, int(one.ip)), service)
        for end in port.known:
            _add(self._endpoints, (port.version, int(end.ip)), owner)

    def at(self, protocol: str, ip: IP, port: int) -> str:
        """Who is reached there: a ServicePort, else the Service whose address it is; "" nobody."""
        found = self._places.get((protocol, ip.version, int(ip), port))
        if found is None and not self._ips.get((ip.version, int(ip))):
            found = self._node_ports.get((protocol, port))
        return found[0] if found else self.of_ip(ip)

    def of_ip(self, ip: IP) -> str:
        """The Service that has the address, else the ServicePort whose endpoint has it."""
        at = (ip.version, int(ip))
        found = self._ips.get(at) or self._endpoints.get(at)
        return found[0] if found else ""

    def of_node_port(self, port: int, protocol: str = "") -> str:
        for each in (protocol,) if protocol else ("TCP", "UDP", "SCTP"):
            if found := self._node_ports.get((each, port)):
                return found[0]
        return ""

    def of_health_port(self, port: int) -> str:
        found = self._health.get(port)
        return found[0] if found else ""

    def users(self, ip: IP) -> tuple[str, ...]:
        """All Services with that address, and all ServicePorts with such an endpoint."""
        at = (ip.version, int(ip))
        return (*self._ips.get(at, ()), *self._endpoints.get(at, ()))

    def in_text(self, words: Iterable[str]) -> str:
        """Who is named in a rule, by name, address or node port."""
        kept = list(words)
        for before, word in pairwise(kept):
            if before == "--comment" and (owner := named(word)):
                return owner
        for word in kept:
            if found := _PLACE.fullmatch(word):
                with suppress(ValueError):
                    if owner := self.of_ip(ip(found[1])):
                        return owner
        for before, word in pairwise(kept):
            if before in ("--dport", "--vport") and word.isdecimal():
                owner = self.of_node_port(int(word)) or self.of_health_port(int(word))
                if owner:
                    return owner
        return ""

    def versions(self) -> set[int]:
        """The IP versions that Services have addresses of."""
        return {version for version, _ in self._ips}


def named(text: str) -> str:
    """The ServicePort that kube-proxy names so in comments (``default/web:http cluster IP``) and in
    nftables chains (``service-ABCDEFGH-default/web/tcp/http``), whether it is there or not."""
    if found := _CHAIN.match(text):
        return of_port((found[1], found[2]), found[4])
    if found := _NAMED.search(text):
        return of_port((found[1], found[2]), found[3] or "")
    return ""


def _add(index: dict, key: object, owner: str) -> None:  # type: ignore[type-arg]  # any of the five
    known = index.setdefault(key, [])
    if owner not in known:
        known.append(owner)
