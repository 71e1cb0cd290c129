"""What a node's kernel should hold for one Service, told with reasons: pure values.

Who was chosen is read from the planned objects; why somebody was not, from the EndpointSlices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hairpin.model.address import IP
from hairpin.model.endpointslice import EndpointSlice, SliceEndpoint
from hairpin.model.service import Service, ServicePort, ServicePortName
from hairpin.plan.frontends import PlannedPort
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import HealthCheck, ServicePlan
from hairpin.state.change import Wanted
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer

Place = tuple[IP, int]
"""An address and a port."""


class Frontend(msgspec.Struct, frozen=True, kw_only=True):
    """A place where a ServicePort is reached, and how many endpoints answer there.

    Where it is not ``served`` on this node, ``why`` says why not.
    """

    kind: str  # ClusterIP, NodePort, ExternalIP, LoadBalancer
    ip: IP
    port: int
    chosen: int
    known: int  # of that family, chosen or not
    why: str
    notes: tuple[str, ...] = ()
    served: bool = True


class EndpointTold(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of a ServicePort; ``by`` are the kinds of frontends that lead to it."""

    ip: IP
    port: int
    node: str | None
    local: bool
    taken: bool
    by: tuple[str, ...]  # empty where it is all or none
    why: str


class PortTold(msgspec.Struct, frozen=True, kw_only=True):
    name: ServicePortName
    port: int
    frontends: tuple[Frontend, ...]
    endpoints: tuple[EndpointTold, ...]


class SetsTold(msgspec.Struct, frozen=True, kw_only=True):
    """How many entries a Service has in a set, for one reason."""

    set: str
    entries: int
    why: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """All of a Service; ``nothing`` says why the kernel holds nothing for it, if that is so."""

    service: Service
    ports: tuple[PortTold, ...]
    sets: tuple[SetsTold, ...]
    health: HealthCheck | None = None
    nothing: str = ""


class Reached(msgspec.Struct, frozen=True):
    """A frontend on its way into words; ``stays`` is session affinity in seconds."""

    kind: str
    ip: IP
    port: int
    why: str
    chosen: frozenset[Place]
    stays: int = 0
    notes: tuple[str, ...] = ()


Fronts = dict[tuple[str, str], list[Reached]]
"""By the port's name and protocol."""


def tell(
    service: Service,
    slices: Iterable[EndpointSlice],
    plan: ServicePlan,
    node: NodeFacts,
    fronts_of: Fronts | None = None,
) -> Told:
    """The story of a Service from its slices and what is planned for it on ``node``.

    ``fronts_of`` is where it is reached, in modes whose objects do not say so themselves.
    """
    own, wanted = tuple(slices), plan.wanted
    if fronts_of is None:
        fronts_of = _of_servers(service, wanted, node)
    ports = []
    for port in service.spec.ports:
        fronts = fronts_of.get((port.name, port.protocol))
        if fronts:
            ports.append(_port(service, port, fronts, own, node))
    return Told(
        service=service,
        ports=tuple(ports),
        sets=_sets(wanted),
        health=plan.health,
        nothing="" if wanted else _why_nothing(service),
    )


def _of_servers(service: Service, wanted: Sequence[Wanted], node: NodeFacts) -> Fronts:
    """In IPVS mode a frontend is a virtual server, and who is behind it was chosen."""
    servers: dict[tuple[str, IP, int], Wanted] = {}
    behind: dict[tuple[str, IP, int], set[Place]] = {}
    for one in wanted:
        thing = one.object
        if isinstance(thing, VirtualServer):
            servers[thing.protocol, thing.ip, thing.port] = one
        elif isinstance(thing, RealServer):
            behind.setdefault((thing.protocol, thing.vip, thing.vport), set()).add(
                (thing.ip, thing.port)
            )
    found: Fronts = {}
    for port in service.spec.ports:
        for kind, ip, number in _places(service, port, node):
            server = servers.get((port.protocol, ip, number))
            if server is None:
                continue
            thing = server.object
            assert isinstance(thing, VirtualServer)
            stays = thing.persistence.timeout if thing.persistence else 0
            chosen = frozenset(behind.get((port.protocol, ip, number), ()))
            row = Reached(kind, ip, number, server.why, chosen, stays)
            found.setdefault((port.name, port.protocol), []).append(row)
    return found


def of_ports(ports: Iterable[PlannedPort], nodes: Mapping[int, Sequence[IP]]) -> Fronts:
    """In modes where the packet's source may decide too: by what a client outside gets.

    ``nodes`` are the addresses for NodePorts by IP version.
    """
    found: Fronts = {}
    for port in ports:
        rows = found.setdefault((port.name.port, port.protocol), [])
        for one in port.frontends:
            chosen = frozenset((each.ip, each.port) for each in port.chosen(one.policy))
            notes: tuple[str, ...] = ()
            if one.policy == "Local" and not chosen and port.has_any:
                notes = ("dropped: policy Local, and none is on this node",)
            ips = nodes[port.version] if one.ip is None else (one.ip,)
            rows += [
                Reached(one.kind, ip, one.port, _WHY[one.kind], chosen, port.affinity, notes)
                for ip in ips
            ]
    return found


_WHY = {
    "ClusterIP": "its ClusterIP and port",
    "NodePort": "its node port, at every address for NodePorts",
    "ExternalIP": "an external IP and its port",
    "LoadBalancer": "a load balancer IP and its port",
}


def _port(
    service: Service,
    port: ServicePort,
    fronts: list[Reached],
    slices: tuple[EndpointSlice, ...],
    node: NodeFacts,
) -> PortTold:
    known = _endpoints(port, slices)
    frontends = []
    for one in fronts:
        away = any(known[at].node_name != node.name for at in one.chosen if at in known)
        frontends.append(
            Frontend(
                kind=one.kind,
                ip=one.ip,
                port=one.port,
                chosen=len(one.chosen),
                known=sum(1 for ip, _ in known if ip.version == one.ip.version),
                why=one.why,
                notes=(*_notes(service, one, away=away), *one.notes),
            )
        )
    frontends += _elsewhere(service, port)
    endpoints = []
    for place, end in known.items():
        here = [(one.kind, one.chosen) for one in fronts if one.ip.version == place[0].version]
        kinds = tuple(dict.fromkeys(kind for kind, chosen in here if place in chosen))
        every = all(place in chosen for _, chosen in here)
        endpoints.append(
            EndpointTold(
                ip=place[0],
                port=place[1],
                node=end.node_name,
                local=end.node_name == node.name,
                taken=bool(kinds),
                by=() if every else kinds,
                why=_why(service, end, node, taken=bool(kinds), every=every),
            )
        )
    return PortTold(
        name=service.port_name(port),
        port=port.port,
        frontends=tuple(frontends),
        endpoints=tuple(endpoints),
    )


def _places(service: Service, port: ServicePort, node: NodeFacts) -> Iterable[tuple[str, IP, int]]:
    """Everywhere that a port may be reached, by kind."""
    spec = service.spec
    for ip in service.virtual_ips:
        yield "ClusterIP", ip, port.port
    if port.node_port:
        for ip in node.addresses:
            yield "NodePort", ip, port.node_port
    for ip in spec.external_ips:
        yield "ExternalIP", ip, port.port
    for ingress in service.status.load_balancer.ingress:
        if ingress.ip is not None:
            yield "LoadBalancer", ingress.ip, port.port


def _endpoints(port: ServicePort, slices: tuple[EndpointSlice, ...]) -> dict[Place, SliceEndpoint]:
    """Every endpoint of that port, each once and in order; the ready one where slices disagree."""
    found: dict[Place, SliceEndpoint] = {}
    for one in slices:
        for own in one.ports:
            if own.name != port.name or own.protocol != port.protocol or not own.port:
                continue
            for end in one.endpoints:
                place = (end.addresses[0], own.port) if end.addresses else None
                if place and (place not in found or _ready(end)):
                    found[place] = end
    return {at: found[at] for at in sorted(found, key=_order)}


def _order(place: Place) -> tuple[int, int, int]:
    return place[0].version, int(place[0]), place[1]


def _ready(end: SliceEndpoint) -> bool:
    return end.conditions.ready is not False


def _why(service: Service, end: SliceEndpoint, node: NodeFacts, *, taken: bool, every: bool) -> str:
    conditions = end.conditions
    if taken and _ready(end):
        return "ready" if every else f"ready; {_passed_over(service, end, node)}"
    if taken:
        return f"terminating but serving; none{'' if every else ' on this node'} is ready"
    if conditions.terminating:
        return "terminating" if conditions.serving is not False else "terminating, not serving"
    if not _ready(end):
        return "not ready"
    return _passed_over(service, end, node)


def _passed_over(service: Service, end: SliceEndpoint, node: NodeFacts) -> str:
    """Why a ready endpoint is not for all frontends."""
    spec = service.spec
    zones = [each.name for each in end.hints.for_zones]
    nodes = [each.name for each in end.hints.for_nodes]
    if end.node_name != node.name:
        local = []
        if spec.internal_traffic_policy == "Local":
            local.append("internalTrafficPolicy Local")
        if spec.external_traffic_policy == "Local":
            local.append("externalTrafficPolicy Local")
        if local:
            return f"on another node ({', '.join(local)})"
    if nodes and node.name not in nodes:
        return f"hinted for node {', '.join(nodes)}"
    if zones and node.zone not in zones:
        return f"hinted for zone {', '.join(zones)}"
    return "left out"


def _notes(service: Service, one: Reached, *, away: bool) -> Iterable[str]:
    spec, kind = service.spec, one.kind
    if one.stays:
        yield f"a client stays for {one.stays} s"
    if kind != "ClusterIP" and spec.external_traffic_policy == "Local":
        yield "keeps the client's address"
        if away:  # IPVS mode has one virtual server for all clients
            yield "none is on this node, so all are taken"
    ranges = [each for each in spec.load_balancer_source_ranges
              if each.version == one.ip.version]  # fmt: skip
    if kind == "LoadBalancer" and ranges:
        yield f"only from {', '.join(map(str, ranges))}"


def _elsewhere(service: Service, port: ServicePort) -> Iterable[Frontend]:
    """Load balancer IPs whose packets come to the node by another address."""
    for ingress in service.status.load_balancer.ingress:
        if ingress.ip is not None and ingress.ip_mode == "Proxy":
            yield Frontend(
                kind="LoadBalancer",
                ip=ingress.ip,
                port=port.port,
                chosen=0,
                known=0,
                why="not here: ipMode Proxy, the load balancer connects to the node itself",
                served=False,
            )


def _sets(wanted: Sequence[Wanted]) -> tuple[SetsTold, ...]:
    counts: dict[tuple[str, str], int] = {}
    for one in wanted:
        if isinstance(one.object, SetEntry):
            key = (one.object.set, one.why)
            counts[key] = counts.get(key, 0) + 1
    return tuple(
        SetsTold(set=name, entries=count, why=why) for (name, why), count in counts.items()
    )


def _why_nothing(service: Service) -> str:
    if service.spec.type == "ExternalName":
        return "an ExternalName is a name for another name"
    if service.headless:
        return "it is headless: its name leads to the Pods themselves"
    if proxy := service.metadata.labels.get("service.kubernetes.io/service-proxy-name"):
        return f"another proxy is to serve it: {proxy}"
    if not service.spec.ports:
        return "it has no ports"
    return "it has no address to serve"
