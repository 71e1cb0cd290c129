"""Which endpoints a ServicePort has, and which of them a node uses.

The rules are kube-proxy's (pkg/proxy/endpointslicecache.go and topology.go of Kubernetes 1.36):

* An endpoint is one address and port; slices may repeat it, and it counts once.
* Ready endpoints are used.  Where there are none at all, those that are terminating and still
  serve are: better a connection to a server that is going than none.
* Hints narrow the ready ones, all or nothing: to this node if every ready endpoint says for which
  nodes it is and one is for this, else to this zone if every one says zones and one is for this.
* The Local policies take those of this node, ready ones first, whatever the hints say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from hairpin.model.address import IP
from hairpin.model.endpointslice import EndpointSlice, SliceEndpoint
from hairpin.state.ipvs import Protocol

SERVICE_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
"""Another proxy serves a Service that has this label; on its slices it means nothing."""
HEADLESS = "service.kubernetes.io/headless"
"""A slice that has this label is for DNS alone; on a Service it means nothing."""

_OCTETS = tuple(map(str, range(256)))

PortKey = tuple[str, Protocol]
"""A port's name and protocol: what a Service's port and a slice's have in common."""
Topology = Literal["", "node", "zone"]


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address and port behind a ServicePort."""

    ip: IP
    port: int
    ready: bool
    serving: bool
    terminating: bool
    local: bool
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def lingers(self) -> bool:
        """It is going and still answers: the last resort."""
        return self.serving and self.terminating


class Usable(msgspec.Struct, frozen=True, gc=False):
    """The endpoints that a ServicePort uses on this node, by traffic policy.

    ``cluster`` is empty where no traffic of the ServicePort is under policy Cluster.
    """

    cluster: Sequence[Endpoint] = ()
    local: Sequence[Endpoint] = ()
    topology: Topology = ""


def merged(
    slices: Iterable[EndpointSlice], node: str, problems: list[str]
) -> dict[int, dict[PortKey, dict[int, Endpoint]]]:
    """The endpoints of each port by IP version, each once, by ``identity``.

    What cannot be served is left out and added to ``problems``.  One address and port may be there
    twice: the Pod that had the address is still going, or the endpoint moves from one slice to
    another.  Who does not terminate counts.  Of several such in one slice it is the last, of
    several that terminate the first, as in kube-proxy (endpointslicecache.go, addEndpoints); of
    several slices the local one, then the one that can do more, then the first by their names.
    """
    found: dict[int, dict[PortKey, dict[int, Endpoint]]] = {4: {}, 6: {}}
    kept = [one for one in slices if HEADLESS not in one.metadata.labels]
    if len(kept) > 1:
        kept.sort(key=lambda one: one.metadata.name)
    for one in kept:
        version = 4 if one.address_type == "IPv4" else 6 if one.address_type == "IPv6" else 0
        if not version:
            continue  # FQDN: no proxy has a use for it
        tables = [
            (found[version].setdefault(key, {}), number) for key, number in _ports(one, problems)
        ]
        for index, given in enumerate(one.endpoints):
            ip = given.addresses[0] if given.addresses else None
            wrong = _wrong(ip, version)
            if wrong or ip is None:
                where = f"{one.ref}: endpoints[{index}].addresses"
                problems.append(
                    f"{where}[0]: {wrong}" if ip is not None else f"{where}: is missing"
                )
                continue
            own: int = ip._ip << 16  # type: ignore[union-attr]  # see KernelObject.key
            for known, number in tables:
                endpoint = _endpoint(given, ip, number, node)
                at = own | number  # its identity
                other = known.setdefault(at, endpoint)
                if other is not endpoint and _goes_before(one, index, endpoint, other):
                    known[at] = endpoint
    return found


def identity(endpoint: Endpoint) -> int:
    """An endpoint's address and port as one number, the port in the lowest 16 bits.  It is one
    among endpoints of one IP version."""
    number: int = endpoint.ip._ip  # type: ignore[union-attr]  # see KernelObject.key
    return number << 16 | endpoint.port


def endpoint_text(endpoint: Endpoint) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``.  Endpoints are put in the order of these."""
    number, version = endpoint.ip._ip, endpoint.ip._version  # type: ignore[union-attr]  # as above
    if version == 4:  # str(ip) takes six times as long
        a, b, c, d = number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255
        return f"{_OCTETS[a]}.{_OCTETS[b]}.{_OCTETS[c]}.{_OCTETS[d]}:{endpoint.port}"
    return f"[{endpoint.ip}]:{endpoint.port}"


def categorize(
    endpoints: Sequence[Endpoint], *, cluster: bool, local: bool, node: str, zone: str | None
) -> Usable:
    """What is used for policy Cluster and for policy Local, each where it is asked for."""
    topology: Topology = ""
    everywhere: Sequence[Endpoint] = ()
    here: Sequence[Endpoint] = ()
    if cluster:
        ready = [each for each in endpoints if each.ready]
        topology = _topology(ready, node, zone)
        if topology == "node":
            everywhere = [each for each in ready if node in each.nodes]
        elif topology == "zone":
            everywhere = [each for each in ready if zone in each.zones]
        else:
            everywhere = ready or [each for each in endpoints if each.lingers]
    if local:
        here = [each for each in endpoints if each.local and each.ready] or [
            each for each in endpoints if each.local and each.lingers
        ]
    return Usable(everywhere, here, topology)


def local_ready(by_port: Mapping[PortKey, Mapping[int, Endpoint]]) -> int:
    """How many addresses have a ready endpoint on this node, for a healthCheckNodePort."""
    every = (each for known in by_port.values() for each in known.values())
    return len({int(each.ip) for each in every if each.local and each.ready})


def _topology(ready: Sequence[Endpoint], node: str, zone: str | None) -> Topology:
    if not ready:
        return ""
    first = ready[0]  # nearly always without hints
    if first.nodes and _narrowed([each.nodes for each in ready], node):
        return "node"
    if first.zones and _narrowed([each.zones for each in ready], zone):
        return "zone"
    return ""


def _narrowed(hints: Sequence[tuple[str, ...]], own: str | None) -> bool:
    """Whether every endpoint has a hint, and one of them is for us."""
    return all(hints) and any(own in each for each in hints)


def _ports(one: EndpointSlice, problems: list[str]) -> list[tuple[PortKey, int]]:
    found: list[tuple[PortKey, int]] = []
    for index, port in enumerate(one.ports):
        if port.port:
            found.append(((port.name, port.protocol), port.port))
        else:
            problems.append(f"{one.ref}: ports[{index}].port: is missing: proxies pass over it")
    return found


def _endpoint(given: SliceEndpoint, ip: IP, port: int, node: str) -> Endpoint:
    says, hints = given.conditions, given.hints
    return Endpoint(
        ip,
        port,
        says.ready is not False,
        says.serving is not False,
        says.terminating is True,
        bool(node) and given.node_name == node,
        tuple(each.name for each in hints.for_zones) if hints.for_zones else (),
        tuple(each.name for each in hints.for_nodes) if hints.for_nodes else (),
    )


def _goes_before(one: EndpointSlice, index: int, endpoint: Endpoint, other: Endpoint) -> bool:
    """Whether that endpoint of the slice counts, and not the one that had its address and port."""
    own = one.endpoints[index].addresses[0]
    if any(each.addresses and each.addresses[0] == own for each in one.endpoints[:index]):
        return not endpoint.terminating
    return _rank(endpoint) > _rank(other)


def _rank(endpoint: Endpoint) -> tuple[bool, bool, bool, bool]:
    return not endpoint.terminating, endpoint.local, endpoint.ready, endpoint.serving


def _wrong(ip: IP | None, version: int) -> str:
    """Why no endpoint can have that address, as the API server has it, or ""."""
    if ip is None:
        return "is missing"
    if ip._version != version:  # type: ignore[union-attr]  # see KernelObject.key
        return f"{ip} is not IPv{version}"
    number: int = ip._ip  # type: ignore[union-attr]
    if version == 4:
        first = number >> 24
        if not (first in (0, 127, 255) or first >> 4 == 0xE or number >> 16 == 0xA9FE):
            return ""
    elif number > 1 and number >> 32 != 0xFFFF and number >> 120 != 0xFF and number >> 118 != 0x3FA:
        return ""
    return _named(ip)


def _named(ip: IP) -> str:
    """The same in words, for what looked wrong; 0.1.2.3 and 255.0.0.1 are but odd."""
    for bad, what in (
        (ip.is_unspecified, "the unspecified address"),
        (ip.is_loopback, "a loopback address"),
        (ip.is_link_local, "a link-local address"),
        (ip.is_multicast, "a multicast address"),
        (ip.version == 6 and int(ip) >> 32 == 0xFFFF, "an IPv4 address"),
    ):
        if bad:
            return f"{ip} is {what}: no endpoint has that"
    return ""
