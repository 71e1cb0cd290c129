"""One Service in IPVS mode: its frontends and what each of them asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from hairpin.model.address import IP, Network
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.service import IPFamily, Service, ServicePort
from hairpin.plan import ipvs_sets as sets
from hairpin.plan.endpoints import (
    HEADLESS,
    SERVICE_PROXY_NAME,
    Endpoint,
    PortKey,
    Usable,
    categorize,
    local_ready,
    merged,
)
from hairpin.plan.ipvs_sets import NAMES
from hairpin.plan.owner import of_port, of_service
from hairpin.plan.service_addresses import cluster_ips, refused
from hairpin.plan.service_plan import EMPTY, Blocked, HealthCheck, ServicePlan, UdpPort
from hairpin.state.change import Wanted
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import Persistence, Protocol, RealServer, SchedulerFlag, VirtualServer
from hairpin.state.links import Address

_FAMILIES: Mapping[int, IPFamily] = {4: "IPv4", 6: "IPv6"}
_CLIENT_IP_TIMEOUT = 10800  # seconds, Kubernetes' default

_WHY_CLUSTER_IP = "its ClusterIP and port"
_WHY_EXTERNAL_IP = "an external IP and its port"
_WHY_LOAD_BALANCER = "a load balancer IP and its port"
_WHY_NODE_PORT = "its node port, at every address for NodePorts"
_WHY_LOCAL = "IPVS sees only packets to addresses of this node"
_WHY_LOOP_BACK = "an endpoint of this node that reaches itself must be masqueraded"
_WHY_IPVS_IPS = "its other ports must not reach the node's own servers"
_WHY_LOCAL_POLICY = "externalTrafficPolicy Local keeps the client's address"
_WHY_HEALTH = "load balancers ask there whether this node has endpoints"
_WHY_READY = {
    "": "a ready endpoint",
    "node": "a ready endpoint that is hinted for this node",
    "zone": "a ready endpoint that is hinted for this zone",
}
_WHY_LINGERS = "it terminates and still serves, and none is ready"
_WHY_HERE = "a ready endpoint of this node"
_WHY_HERE_LINGERS = "of this node; it terminates and still serves, and none here is ready"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all Services; what has a version for its key is by IP version."""

    netns: str
    link: str
    node: str
    zone: str | None
    scheduler: str
    scheduler_flags: frozenset[SchedulerFlag]
    node_addresses: frozenset[IP]
    node_ips: Mapping[int, IP]
    node_ports: Mapping[int, Sequence[IP]]


def planned(context: Context, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
    """What the Service asks, whatever it says: what cannot be served is a problem of the plan."""
    spec, labels = service.spec, service.metadata.labels
    skipped = service.headless or spec.type == "ExternalName"
    if skipped or SERVICE_PROXY_NAME in labels or HEADLESS in labels:
        return EMPTY
    problems: list[str] = []
    ips = cluster_ips(service, problems)
    if not ips:
        return ServicePlan(problems=tuple(problems)) if problems else EMPTY
    endpoints = merged(slices, context.node, problems)
    build = _Build(context, service, problems)
    for version, ip in ips.items():
        build.family(version, ip, endpoints[version])
    return build.plan(tuple(ips), endpoints)


class _Build:
    """One plan on its way.  Each object is wanted once, in the order in which to build."""

    def __init__(self, context: Context, service: Service, problems: list[str]) -> None:
        spec = service.spec
        self.context = context
        self.key: Key = service.key
        self.owner = of_service(service.key)
        self.persistence = _persistence(service)
        self.entries: dict[tuple[object, ...], Wanted] = {}
        self.servers: dict[tuple[int, int, int, Protocol], list[Wanted]] = {}
        self._service = service
        self._problems = problems
        exposed = spec.type in ("NodePort", "LoadBalancer") or bool(spec.external_ips)
        self._external_local = exposed and spec.external_traffic_policy == "Local"
        self._addresses: dict[tuple[int, int], Wanted] = {}
        self._bound: list[Wanted] = []
        self._blocked: list[Blocked] = []
        self._udp: list[UdpPort] = []

    def plan(
        self, versions: Sequence[int], endpoints: Mapping[int, Mapping[PortKey, list[Endpoint]]]
    ) -> ServicePlan:
        wanted = list(self.entries.values())
        for group in self.servers.values():
            wanted += group
        wanted += self._addresses.values()
        wanted += self._bound
        return ServicePlan(
            wanted=tuple(wanted),
            blocked=tuple(self._blocked),
            health=self._health(versions, endpoints),
            problems=tuple(self._problems),
            udp=tuple(self._udp),
        )

    def family(
        self, version: int, cluster_ip: IP, by_port: Mapping[PortKey, list[Endpoint]]
    ) -> None:
        """All that the Service is in one IP version."""
        status, spec = self._service.status, self._service.spec
        external = self._usable("spec.externalIPs", version, spec.external_ips)
        balanced = self._usable(
            "status.loadBalancer.ingress",
            version,
            (one.ip for one in status.load_balancer.ingress if one.ip and one.ip_mode != "Proxy"),
        )
        seen: set[tuple[int, Protocol]] = set()
        for index, port in enumerate(spec.ports):
            if (port.port, port.protocol) in seen:
                self.problem(f"spec.ports[{index}]: {port.protocol} {port.port} is there twice")
                continue
            seen.add((port.port, port.protocol))
            known = by_port.get((port.name, port.protocol), [])
            self._port(version, cluster_ip, port, external, balanced, known)

    def _port(
        self,
        version: int,
        cluster_ip: IP,
        port: ServicePort,
        external: Sequence[IP],
        balanced: Sequence[IP],
        known: Sequence[Endpoint],
    ) -> None:
        context, service = self.context, self._service
        outside = bool(port.node_port or external or balanced)
        internal_local = service.spec.internal_traffic_policy == "Local"
        usable = categorize(
            known,
            cluster=outside or not internal_local,
            local=internal_local or (self._external_local and outside),
            node=context.node,
            zone=context.zone,
        )
        frontend = _Frontend(self, version, port, usable)
        for endpoint in known:
            if endpoint.local:
                ip = endpoint.ip
                frontend.entry(sets.LOOP_BACK, _WHY_LOOP_BACK, ip, endpoint.port, ip2=ip)
        frontend.entry(sets.CLUSTER_IP, _WHY_CLUSTER_IP, cluster_ip, port.port)
        frontend.serve(_WHY_CLUSTER_IP, cluster_ip, port.port, internal_local)
        self._bind(cluster_ip)
        for ip in external:
            self._external(frontend, ip, port)
        for ip in balanced:
            self._balanced(frontend, ip, port)
        nodes = context.node_ports[version] if port.node_port else ()
        if port.node_port and nodes:
            self._node_port(frontend, nodes, port.node_port)
        # Where no address is for NodePorts, kube-proxy leaves out the health check's entry too.
        if (nodes or not port.node_port) and (number := self._health_port()):
            frontend.port_entry(sets.HEALTH_CHECK, _WHY_HEALTH, number, self.owner)
        if port.protocol == "UDP":
            reached = [(int(ip), port.port) for ip in (cluster_ip, *external, *balanced)]
            reached += [(int(ip), port.node_port or 0) for ip in nodes]
            serving = frozenset(int(each.ip) << 16 | each.port for each in known if each.serving)
            self._udp.append(UdpPort(version, tuple(reached), serving))

    def _external(self, frontend: _Frontend, ip: IP, port: ServicePort) -> None:
        base = sets.EXTERNAL_IP_LOCAL if self._external_local else sets.EXTERNAL_IP
        frontend.entry(base, _WHY_EXTERNAL_IP, ip, port.port)
        frontend.serve(_WHY_EXTERNAL_IP, ip, port.port, self._external_local)
        if ip not in self.context.node_addresses:
            self._bind(ip)

    def _balanced(self, frontend: _Frontend, ip: IP, port: ServicePort) -> None:
        frontend.entry(sets.LOAD_BALANCER, _WHY_LOAD_BALANCER, ip, port.port)
        if self._external_local:
            frontend.entry(sets.LOAD_BALANCER_LOCAL, _WHY_LOCAL_POLICY, ip, port.port)
        self._source_ranges(frontend, ip, port)
        frontend.serve(_WHY_LOAD_BALANCER, ip, port.port, self._external_local)
        if ip not in self.context.node_addresses:
            self._bind(ip)

    def _node_port(self, frontend: _Frontend, nodes: Sequence[IP], number: int) -> None:
        frontend.node_port_entries(sets.NODE_PORTS, _WHY_NODE_PORT, number, nodes)
        if self._external_local:
            frontend.node_port_entries(sets.NODE_PORTS_LOCAL, _WHY_LOCAL_POLICY, number, nodes)
        for ip in nodes:
            frontend.serve(_WHY_NODE_PORT, ip, number, self._external_local)

    def _source_ranges(self, frontend: _Frontend, ip: IP, port: ServicePort) -> None:
        """Who may use a load balancer IP.  A range of all addresses is as none."""
        given = self._service.spec.load_balancer_source_ranges
        ranges = [one for one in given if one.version == frontend.version]
        if not ranges or any(one.prefixlen == 0 for one in ranges):
            return
        why = "spec.loadBalancerSourceRanges"
        frontend.entry(sets.LOAD_BALANCER_FW, why, ip, port.port)
        for one in ranges:
            frontend.entry(sets.LOAD_BALANCER_SOURCE_CIDR, why, ip, port.port, net=one)
        own = self.context.node_ips[frontend.version]
        if any(own in one for one in ranges):
            # The node's connections to the address have the address itself for their source.
            why = "this node is in spec.loadBalancerSourceRanges"
            frontend.entry(sets.LOAD_BALANCER_SOURCE_IP, why, ip, port.port, ip2=ip)
        else:
            self._blocked.append((ip, port.protocol, port.port))

    def problem(self, text: str) -> None:
        """What the Service says and cannot have, once."""
        line = f"{self._service.ref}: {text}"
        if line not in self._problems:
            self._problems.append(line)

    def _usable(self, field: str, version: int, ips: Iterable[IP]) -> list[IP]:
        """Those of one version, each once; what no server can have is a problem."""
        found: dict[int, IP] = {}
        for ip in ips:
            if ip.version == version:
                if wrong := refused(ip):
                    self.problem(f"{field}: {ip} is {wrong}")
                else:
                    found.setdefault(int(ip), ip)
        return list(found.values())

    def _bind(self, ip: IP) -> None:
        at = (ip.version, int(ip))
        if at in self._addresses:
            return
        context, owner = self.context, self.owner
        address = Address(link=context.link, ip=ip, prefix=ip.max_prefixlen)
        self._addresses[at] = Wanted(
            netns=context.netns, object=address, owner=owner, why=_WHY_LOCAL
        )
        entry = SetEntry(set=NAMES[ip.version][sets.IPVS_IPS], ip=ip)
        self._bound.append(
            Wanted(netns=context.netns, object=entry, owner=owner, why=_WHY_IPVS_IPS)
        )

    def _health_port(self) -> int:
        spec = self._service.spec
        needed = spec.type == "LoadBalancer" and self._external_local
        return (spec.health_check_node_port or 0) if needed else 0

    def _health(
        self, versions: Sequence[int], endpoints: Mapping[int, Mapping[PortKey, list[Endpoint]]]
    ) -> HealthCheck | None:
        number = self._health_port()
        if not number or not self._service.spec.ports:
            return None
        return HealthCheck(
            number,
            tuple(_FAMILIES[version] for version in versions),
            tuple(local_ready(endpoints[version]) for version in versions),
        )


class _Frontend:
    """One ServicePort in one IP version: makes what its frontends want."""

    def __init__(self, build: _Build, version: int, port: ServicePort, usable: Usable) -> None:
        self.version = version
        self._build = build
        self._protocol: Protocol = port.protocol
        self._owner = of_port(build.key, port.name)
        self._usable = usable
        self._names = NAMES[version]

    def entry(
        self,
        base: str,
        why: str,
        ip: IP,
        port: int,
        *,
        ip2: IP | None = None,
        net: Network | None = None,
    ) -> None:
        """An address, protocol and port in a set, with an address or network beside it."""
        name = self._names[base]
        beside = None if net is None else (int(net.network_address), net.prefixlen)
        key = (name, int(ip), self._protocol, port, beside)
        entries = self._build.entries
        if key not in entries:
            entry = SetEntry(set=name, ip=ip, protocol=self._protocol, port=port, ip2=ip2, net=net)
            entries[key] = self._wanted(entry, self._owner, why)

    def port_entry(self, base: str, why: str, port: int, owner: str) -> None:
        """A bare port in a set."""
        name = self._names[base]
        entry = SetEntry(set=name, port=port)
        self._build.entries.setdefault((name, port), self._wanted(entry, owner, why))

    def node_port_entries(
        self, bases: Mapping[str, str], why: str, number: int, nodes: Sequence[IP]
    ) -> None:
        """A set of ports knows neither protocol nor SCTP's; SCTP has one with addresses."""
        if self._protocol != "SCTP":
            self.port_entry(bases[self._protocol], why, number, self._owner)
            return
        for ip in nodes:
            self.entry(bases["SCTP"], why, ip, number)

    def serve(self, why: str, ip: IP, port: int, local: bool) -> None:
        """The virtual server of one address, with the real servers of a traffic policy.

        A Service may name an address twice, as an external and a load balancer IP: the later one
        counts, as with kube-proxy.  Two ports at one address: the first one counts.
        """
        build, context, protocol, owner = (
            self._build,
            self._build.context,
            self._protocol,
            self._owner,
        )
        at = (self.version, int(ip), port, protocol)
        before = build.servers.get(at)
        if before is not None and before[0].owner != owner:
            build.problem(f"{ip} {protocol} {port} is already that of {before[0].owner}")
            return
        server = VirtualServer(
            protocol=protocol,
            ip=ip,
            port=port,
            scheduler=context.scheduler,
            persistence=build.persistence,
            scheduler_flags=context.scheduler_flags,
        )
        netns = context.netns
        group = [Wanted(netns=netns, object=server, owner=owner, why=why)]
        endpoints, reason = self._chosen(local)
        for each in endpoints:
            real = RealServer(protocol=protocol, vip=ip, vport=port, ip=each.ip, port=each.port)
            group.append(Wanted(netns=netns, object=real, owner=owner, why=reason))
        build.servers[at] = group

    def _chosen(self, local: bool) -> tuple[Sequence[Endpoint], str]:
        """The endpoints for a traffic policy, and why just these."""
        usable = self._usable
        if local and usable.local:
            here = usable.local
            return here, _WHY_HERE if here[0].ready else _WHY_HERE_LINGERS
        found = usable.cluster
        if not found:
            return found, ""
        why = _WHY_READY[usable.topology] if found[0].ready else _WHY_LINGERS
        return found, f"{why}; none is on this node" if local else why

    def _wanted(self, entry: SetEntry, owner: str, why: str) -> Wanted:
        return Wanted(netns=self._build.context.netns, object=entry, owner=owner, why=why)


def _persistence(service: Service) -> Persistence | None:
    spec = service.spec
    if spec.session_affinity != "ClientIP":
        return None
    config = spec.session_affinity_config.client_ip
    return _for_seconds(config.timeout_seconds if config is not None else _CLIENT_IP_TIMEOUT)


@lru_cache(maxsize=1024)
def _for_seconds(timeout: int) -> Persistence:
    return Persistence(timeout=timeout)
