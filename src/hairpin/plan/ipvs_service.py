"""One Service in IPVS mode: virtual servers with their real servers, set entries, addresses.

Each frontend of a ServicePort is a virtual server, and an entry in the set of its kind.  What the
Service asks and who answers is ``frontends.resolve``'s, as in all modes; here it becomes kernel
objects (syncProxyRules in pkg/proxy/ipvs/proxier.go of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from hairpin.model.address import IP, Network
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.service import Service
from hairpin.plan import ipvs_sets as sets
from hairpin.plan.endpoints import Endpoint
from hairpin.plan.frontends import Frontend, Place, PlannedPort, resolve
from hairpin.plan.ipvs_sets import NAMES
from hairpin.plan.owner import of_port, of_service
from hairpin.plan.service_plan import EMPTY, Blocked, ServicePlan
from hairpin.state.change import Wanted
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import Persistence, Protocol, RealServer, SchedulerFlag, VirtualServer
from hairpin.state.links import Address

_WHY_FRONTEND = {
    "ClusterIP": "its ClusterIP and port",
    "NodePort": "its node port, at every address for NodePorts",
    "ExternalIP": "an external IP and its port",
    "LoadBalancer": "a load balancer IP and its port",
}
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
    place: Place
    scheduler: str
    scheduler_flags: frozenset[SchedulerFlag]
    node_addresses: frozenset[IP]
    node_ips: Mapping[int, IP]
    node_ports: Mapping[int, Sequence[IP]]


def planned(context: Context, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
    """What the Service asks, whatever it says: what cannot be served is a problem of the plan."""
    found = resolve(context.place, service, slices)
    ports = found.ports
    if not ports:
        return ServicePlan(problems=found.problems) if found.problems else EMPTY
    build = _Build(context, service.key)
    for port in ports:
        _Port(build, port).plan()
    problems = dict.fromkeys(found.problems)
    problems |= dict.fromkeys(f"{service.ref}: {line}" for line in build.lost)
    udp = [port.udp(context.node_ports[port.version]) for port in ports if port.protocol == "UDP"]
    return ServicePlan(
        wanted=build.wanted(),
        blocked=tuple(build.blocked),
        health=found.health,
        problems=tuple(problems),
        udp=tuple(udp),
    )


class _Build:
    """One plan on its way.  Each object is wanted once, in the order in which to build."""

    def __init__(self, context: Context, key: Key) -> None:
        self.context = context
        self.key = key
        self.owner = of_service(key)
        self.entries: dict[tuple[object, ...], Wanted] = {}
        self.servers: dict[tuple[int, int, int, Protocol], list[Wanted]] = {}
        self.blocked: list[Blocked] = []
        self.lost: list[str] = []
        self._addresses: dict[tuple[int, int], Wanted] = {}
        self._bound: list[Wanted] = []

    def wanted(self) -> tuple[Wanted, ...]:
        wanted = list(self.entries.values())
        for group in self.servers.values():
            wanted += group
        wanted += self._addresses.values()
        wanted += self._bound
        return tuple(wanted)

    def bind(self, ip: IP) -> None:
        """An address of kube-ipvs0."""
        at = (ip._version, ip._ip)  # type: ignore[union-attr]  # see KernelObject.key
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


class _Port:
    """One ServicePort in one IP version on its way into a plan."""

    def __init__(self, build: _Build, port: PlannedPort) -> None:
        self._build = build
        self._context = build.context
        self._port = port
        self._protocol = port.name.protocol
        self._owner = of_port(build.key, port.name.port)
        self._names = NAMES[port.version]

    def plan(self) -> None:
        port = self._port
        for each in port.known:
            if each.local:
                self._entry(sets.LOOP_BACK, _WHY_LOOP_BACK, each.ip, each.port, ip2=each.ip)
        nodes: Sequence[IP] = ()
        for one in port.frontends:
            if one.ip is not None:
                self._frontend(one, one.ip)
            else:
                nodes = self._context.node_ports[port.version]
        if nodes:
            self._node_port(nodes, port.node_port)
        # Where no address is for NodePorts, kube-proxy leaves out the health check's entry too.
        if port.health_port and (nodes or not port.node_port):
            self._port_entry(sets.HEALTH_CHECK, _WHY_HEALTH, port.health_port, self._build.owner)

    def _frontend(self, one: Frontend, ip: IP) -> None:
        kind, number, why = one.kind, one.port, _WHY_FRONTEND[one.kind]
        local = one.policy == "Local"
        if kind == "ClusterIP":
            self._entry(sets.CLUSTER_IP, why, ip, number)
        elif kind == "ExternalIP":
            self._entry(sets.EXTERNAL_IP_LOCAL if local else sets.EXTERNAL_IP, why, ip, number)
        else:
            self._entry(sets.LOAD_BALANCER, why, ip, number)
            if local:
                self._entry(sets.LOAD_BALANCER_LOCAL, _WHY_LOCAL_POLICY, ip, number)
            if self._port.source_ranges:
                self._sources(ip, number)
        self._serve(why, ip, number, local)
        if kind == "ClusterIP" or ip not in self._context.node_addresses:
            self._build.bind(ip)

    def _sources(self, ip: IP, number: int) -> None:
        """Who may use a load balancer IP."""
        ranges, why = self._port.source_ranges, "spec.loadBalancerSourceRanges"
        self._entry(sets.LOAD_BALANCER_FW, why, ip, number)
        for net in ranges:
            self._entry(sets.LOAD_BALANCER_SOURCE_CIDR, why, ip, number, net=net)
        own = self._context.node_ips[self._port.version]
        if any(own in net for net in ranges):
            # The node's connections to the address have the address itself for their source.
            why = "this node is in spec.loadBalancerSourceRanges"
            self._entry(sets.LOAD_BALANCER_SOURCE_IP, why, ip, number, ip2=ip)
        else:
            self._build.blocked.append((ip, self._protocol, number))

    def _node_port(self, nodes: Sequence[IP], number: int) -> None:
        local, protocol = self._port.external_local, self._protocol
        why = _WHY_FRONTEND["NodePort"]
        bases = [(sets.NODE_PORTS[protocol], why)]
        if local:
            bases.append((sets.NODE_PORTS_LOCAL[protocol], _WHY_LOCAL_POLICY))
        for base, reason in bases:
            if protocol != "SCTP":
                self._port_entry(base, reason, number, self._owner)
                continue
            for ip in nodes:  # there is no set of SCTP's ports alone
                self._entry(base, reason, ip, number)
        for ip in nodes:
            self._serve(why, ip, number, local)

    def _entry(
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
        key = (name, ip._ip, self._protocol, port, beside)  # type: ignore[union-attr]  # see KernelObject.key
        entries = self._build.entries
        if key not in entries:
            entry = SetEntry(set=name, ip=ip, protocol=self._protocol, port=port, ip2=ip2, net=net)
            entries[key] = Wanted(
                netns=self._context.netns, object=entry, owner=self._owner, why=why
            )

    def _port_entry(self, base: str, why: str, port: int, owner: str) -> None:
        """A bare port in a set."""
        name = self._names[base]
        entry = SetEntry(set=name, port=port)
        wanted = Wanted(netns=self._context.netns, object=entry, owner=owner, why=why)
        self._build.entries.setdefault((name, port), wanted)

    def _serve(self, why: str, ip: IP, port: int, local: bool) -> None:
        """The virtual server of one address, with the real servers of a traffic policy.

        A Service may name an address twice, as an external and a load balancer IP: the later one
        counts, as with kube-proxy.  Two ports at one address: the first one counts.
        """
        build, context, protocol = self._build, self._context, self._protocol
        netns, owner = context.netns, self._owner
        at = (self._port.version, ip._ip, port, protocol)  # type: ignore[union-attr]  # see KernelObject.key
        before = build.servers.get(at)
        if before is not None and before[0].owner != owner:
            build.lost.append(f"{ip} {protocol} {port} is already that of {before[0].owner}")
            return
        server = VirtualServer(
            protocol=protocol,
            ip=ip,
            port=port,
            scheduler=context.scheduler,
            persistence=_persistence(self._port.affinity),
            scheduler_flags=context.scheduler_flags,
        )
        group = [Wanted(netns=netns, object=server, owner=owner, why=why)]
        endpoints, reason = _chosen(self._port, local)
        for each in endpoints:
            real = RealServer(protocol=protocol, vip=ip, vport=port, ip=each.ip, port=each.port)
            group.append(Wanted(netns=netns, object=real, owner=owner, why=reason))
        build.servers[at] = group


def _chosen(port: PlannedPort, local: bool) -> tuple[Sequence[Endpoint], str]:
    """The endpoints for a traffic policy, and why just these.

    A virtual server is one for all clients, and those on this node may use every endpoint, so
    where none is local policy Local takes all (kube-proxy's syncEndpoint).
    """
    usable = port.usable
    if local and usable.local:
        here = usable.local
        return here, _WHY_HERE if here[0].ready else _WHY_HERE_LINGERS
    found = usable.cluster
    if not found:
        return found, ""
    why = _WHY_READY[usable.topology] if found[0].ready else _WHY_LINGERS
    return found, f"{why}; none is on this node" if local else why


@lru_cache(maxsize=1024)
def _persistence(seconds: int) -> Persistence | None:
    return Persistence(timeout=seconds) if seconds else None
