"""What a Service asks of a node, in whichever mode: its ports, where they are, who answers.

The common part of all planners.  A ServicePort is resolved once for each IP version that the
Service has; what becomes of it in the kernel is a matter of the mode.  The rules are kube-proxy's
(pkg/proxy/servicechangetracker.go, serviceport.go and topology.go of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from hairpin.model.address import IP, Network
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import IPFamily, Service, ServicePortName, TrafficPolicy
from hairpin.plan.endpoints import (
    SERVICE_PROXY_NAME,
    Endpoint,
    PortKey,
    Usable,
    categorize,
    endpoint_text,
    identity,
    local_ready,
    merged,
)
from hairpin.plan.service_addresses import cluster_ips, refused
from hairpin.plan.service_plan import HealthCheck, UdpPort
from hairpin.state.ipvs import Protocol

Kind = Literal["ClusterIP", "NodePort", "ExternalIP", "LoadBalancer"]

CLIENT_IP_TIMEOUT = 10800
"""Seconds of session affinity where the Service says none: Kubernetes' default."""

_FAMILIES: Mapping[int, IPFamily] = {4: "IPv4", 6: "IPv6"}


class Place(msgspec.Struct, frozen=True):
    """What resolving depends on beside the Service: the node's name and zone."""

    node: str
    zone: str | None = None


class Frontend(msgspec.Struct, frozen=True, gc=False):
    """One address and port where a ServicePort is reached.

    A NodePort has no address of its own (``ip`` None): it is reached at those of the node that are
    for NodePorts, and ``port`` is the node port.  ``policy`` is the Service's internal traffic
    policy for a ClusterIP, its external one for the others.
    """

    kind: Kind
    ip: IP | None
    port: int
    policy: TrafficPolicy


class PlannedPort(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One ServicePort in one IP version (4 or 6).

    ``frontends`` come in the order ClusterIP, NodePort, external IPs, load balancer IPs; each kind
    has an address once.  ``known`` are all endpoints, whether they are used or not, and ``usable``
    those that are used, by traffic policy; both in the order of ``endpoint_text``, as kube-proxy
    has them (byEndpoint, endpointslicecache.go).  ``affinity`` is in seconds, 0 for none.
    ``source_ranges`` are of this IP version; empty: everybody may use the load balancer IPs.
    ``health_port`` is the Service's healthCheckNodePort, 0 for none.
    """

    name: ServicePortName
    version: int
    port: int
    frontends: tuple[Frontend, ...]
    known: Sequence[Endpoint]
    usable: Usable
    affinity: int = 0
    source_ranges: tuple[Network, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    health_port: int = 0

    @property
    def protocol(self) -> Protocol:
        return self.name.protocol

    @property
    def external(self) -> bool:
        """Whether it is reached otherwise than by its ClusterIP."""
        return len(self.frontends) > 1

    @property
    def cluster_ip(self) -> IP:
        found = self.frontends[0].ip
        assert found is not None
        return found

    @property
    def node_port(self) -> int:
        """0 for none."""
        return next((one.port for one in self.frontends if one.kind == "NodePort"), 0)

    def chosen(self, policy: TrafficPolicy) -> Sequence[Endpoint]:
        """The endpoints for traffic under that policy; none may be there."""
        return self.usable.local if policy == "Local" else self.usable.cluster

    @property
    def has_any(self) -> bool:
        """Whether any node has an endpoint that can be used: without, connections are refused;
        with some that a Local policy forbids here, they are dropped (CategorizeEndpoints)."""
        return any(each.ready or each.lingers for each in self.known)

    @property
    def reachable(self) -> Sequence[Endpoint]:
        """Those that are used under any of its policies, each once."""
        usable = self.usable
        if not usable.local:
            return usable.cluster
        if not usable.cluster:
            return usable.local
        there = set(map(identity, usable.cluster))
        more = [each for each in usable.local if identity(each) not in there]
        return [*usable.cluster, *more] if more else usable.cluster

    def udp(self, nodes: Iterable[IP]) -> UdpPort:
        """Where it is reached and by whom it is served, for stale connection tracking entries;
        ``nodes`` are the addresses for NodePorts."""
        reached: list[tuple[int, int]] = []
        for one in self.frontends:
            if one.ip is not None:
                reached.append((int(one.ip), one.port))
            else:
                reached += [(int(ip), one.port) for ip in nodes]
        serving = frozenset(identity(each) for each in self.known if each.serving)
        return UdpPort(self.version, tuple(reached), serving)


class Resolved(msgspec.Struct, frozen=True):
    """A Service for one node.  ``problems`` is what cannot be served, with object and field."""

    ports: tuple[PlannedPort, ...] = ()
    health: HealthCheck | None = None
    problems: tuple[str, ...] = ()


NOTHING = Resolved()


def resolve(place: Place, service: Service, slices: Sequence[EndpointSlice]) -> Resolved:
    """The ports of a Service, version by version in the order of its ipFamilies.

    Whatever the Service says: what cannot be served is a problem, and the rest is resolved.  One
    that is not for this proxy, is headless or an ExternalName is ``NOTHING``.  The label
    service.kubernetes.io/headless is the slices' alone: kube-proxy 1.36 serves a Service that has
    it and a ClusterIP (server.go, PR 134623).
    """
    spec, labels = service.spec, service.metadata.labels
    skipped = service.headless or spec.type == "ExternalName"
    if skipped or SERVICE_PROXY_NAME in labels:
        return NOTHING
    problems: list[str] = []
    ips = cluster_ips(service, problems)
    if not ips:
        return Resolved(problems=tuple(problems)) if problems else NOTHING
    endpoints = merged(slices, place.node, problems)
    said = _said(service)
    found: list[PlannedPort] = []
    for version, ip in ips.items():
        found += _family(place, service, said, version, ip, endpoints[version], problems)
    health = None
    if said.health_port and spec.ports:
        health = HealthCheck(
            said.health_port,
            tuple(_FAMILIES[version] for version in ips),
            tuple(local_ready(endpoints[version]) for version in ips),
        )
    return Resolved(tuple(found), health, tuple(problems))


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What a Service says for all its ports."""

    inside: TrafficPolicy
    outside: TrafficPolicy
    affinity: int
    health_port: int


def _said(service: Service) -> _Said:
    spec = service.spec
    exposed = spec.type in ("NodePort", "LoadBalancer") or bool(spec.external_ips)
    local = exposed and spec.external_traffic_policy == "Local"
    checked = local and spec.type == "LoadBalancer"
    return _Said(
        "Local" if spec.internal_traffic_policy == "Local" else "Cluster",
        "Local" if local else "Cluster",
        affinity(service),
        (spec.health_check_node_port or 0) if checked else 0,
    )


def _family(
    place: Place,
    service: Service,
    said: _Said,
    version: int,
    cluster_ip: IP,
    by_port: Mapping[PortKey, Mapping[int, Endpoint]],
    problems: list[str],
) -> Iterator[PlannedPort]:
    """All ports of one IP version."""
    spec, meta = service.spec, service.metadata
    more = _more(service, version, problems)
    ranges = _source_ranges(service, version)
    seen: set[tuple[int, Protocol]] = set()
    for index, port in enumerate(spec.ports):
        number, protocol = port.port, port.protocol
        if (number, protocol) in seen:
            text = f"spec.ports[{index}]: {protocol} {number} is there twice"
            _problem(service, text, problems)
            continue
        seen.add((number, protocol))
        known: Sequence[Endpoint] = ()
        if by_key := by_port.get((port.name, protocol)):
            known = list(by_key.values())
            if len(known) > 1:
                known.sort(key=endpoint_text)
        frontends: tuple[Frontend, ...] = (Frontend("ClusterIP", cluster_ip, number, said.inside),)
        if port.node_port:
            frontends += (Frontend("NodePort", None, port.node_port, said.outside),)
        if more:
            frontends += tuple(Frontend(kind, ip, number, said.outside) for kind, ip in more)
        external = len(frontends) > 1
        inside_local = said.inside == "Local"
        outside_local = external and said.outside == "Local"
        usable = categorize(
            known,
            cluster=external or not inside_local,
            local=inside_local or outside_local,
            node=place.node,
            zone=place.zone,
        )
        yield PlannedPort(
            name=ServicePortName(meta.namespace, meta.name, port.name, protocol),
            version=version,
            port=number,
            frontends=frontends,
            known=known,
            usable=usable,
            affinity=said.affinity,
            source_ranges=ranges,
            internal_local=inside_local,
            external_local=outside_local,
            health_port=said.health_port,
        )


def _more(service: Service, version: int, problems: list[str]) -> list[tuple[Kind, IP]]:
    """The addresses beside the ClusterIP and the node's, all ports have them."""
    found: list[tuple[Kind, IP]] = []
    if external := service.spec.external_ips:
        served = _served(service, "spec.externalIPs", version, external, problems)
        found += [("ExternalIP", ip) for ip in served]
    if ingress := service.status.load_balancer.ingress:
        ips = (one.ip for one in ingress if one.ip and one.ip_mode != "Proxy")
        served = _served(service, "status.loadBalancer.ingress", version, ips, problems)
        found += [("LoadBalancer", ip) for ip in served]
    return found


def affinity(service: Service) -> int:
    """Seconds for which a client stays with its endpoint; 0: none."""
    spec = service.spec
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config.client_ip
    return config.timeout_seconds if config is not None else CLIENT_IP_TIMEOUT


def _source_ranges(service: Service, version: int) -> tuple[Network, ...]:
    """Who may use a load balancer IP.  A range of all addresses is as none."""
    given = service.spec.load_balancer_source_ranges
    if not given:
        return ()
    ranges = tuple(one for one in given if one.version == version)
    return () if any(one.prefixlen == 0 for one in ranges) else ranges


def _served(
    service: Service, field: str, version: int, ips: Iterable[IP | None], problems: list[str]
) -> list[IP]:
    """Those of one version, each once; what no server can have is a problem."""
    found: dict[int, IP] = {}
    for ip in ips:
        if ip is not None and ip.version == version:
            if wrong := refused(ip):
                _problem(service, f"{field}: {ip} is {wrong}", problems)
            else:
                found.setdefault(int(ip), ip)
    return list(found.values())


def _problem(service: Service, text: str, problems: list[str]) -> None:
    """What the Service says and cannot have, once."""
    line = f"{service.ref}: {text}"
    if line not in problems:
        problems.append(line)
