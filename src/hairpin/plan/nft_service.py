"""One Service in nftables mode: its chains, affinity sets and elements of the table's maps.

Where a ServicePort is reached is an element of a map, which leads to a chain: ``service-…`` for
all endpoints, ``local-…`` for those of this node, ``external-…`` before either for who comes by
another address than the ClusterIP.  With session affinity each endpoint has a chain of its own,
and a set of the clients that it keeps; without, the chain's one rule holds them all.

The rules are kube-proxy's (syncProxyRules in pkg/proxy/nftables/proxier.go of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import collapse_addresses, ip_network
from typing import cast

import msgspec

from hairpin.model.address import IP, Network
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service, TrafficPolicy
from hairpin.plan import nft_names as names
from hairpin.plan.endpoints import Endpoint
from hairpin.plan.frontends import Frontend, Place, PlannedPort, resolve
from hairpin.plan.local_traffic import LocalTraffic
from hairpin.plan.nft_names import FAMILIES, TABLE
from hairpin.plan.owner import of_port
from hairpin.plan.service_plan import EMPTY, ServicePlan, UdpPort
from hairpin.state.change import Object, Wanted
from hairpin.state.nftables import (
    Dnat,
    Field,
    InSet,
    Key,
    Match,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    OneOf,
    RandomDnat,
    RandomVerdict,
    SetMark,
    Statement,
    Target,
    UpdateSet,
    Value,
    Verdict,
)

SADDR: Mapping[int, Field] = {4: "ip saddr", 6: "ip6 saddr"}
DADDR: Mapping[int, Field] = {4: "ip daddr", 6: "ip6 daddr"}

_AFFINITY_SIZE = 65535
"""Elements that nft(8) allows a set that rules fill where nothing is said."""

_FROM_NODE = Match(field="fib saddr type", value="local")
_DROP = Verdict("drop")
_REJECT = Verdict("goto", names.REJECT)

_WHY_CLUSTER = "leads to all endpoints"
_WHY_LOCAL = "leads to the endpoints of this node"
_WHY_EXTERNAL = "who comes from outside, before the endpoints"
_WHY_FIREWALL = "drops clients outside spec.loadBalancerSourceRanges"
_WHY_ENDPOINT = "leads to one endpoint and remembers the client"
_WHY_AFFINITY = "the clients that the endpoint keeps"
_WHY_SOURCES = "spec.loadBalancerSourceRanges"
_WHY_CLUSTER_IP = "its other ports are refused, and strangers to it masqueraded"
_WHY_HAIRPIN = "an endpoint of this node that reaches itself must be masqueraded"
_WHY_REACHED = {
    "ClusterIP": "its ClusterIP and port",
    "NodePort": "its node port",
    "ExternalIP": "an external IP and its port",
    "LoadBalancer": "a load balancer IP and its port",
}
_WHY_REFUSED = "it has no endpoints"
_WHY_DROPPED = "its policy is Local and this node has no endpoint"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all Services; mappings are by IP version.

    ``mark`` is the bit of a packet that is to be masqueraded.
    """

    netns: str
    place: Place
    mark: int
    local: Mapping[int, LocalTraffic | None]
    node_ips: Mapping[int, IP]
    node_ports: Mapping[int, Sequence[IP]]


def planned(context: Context, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
    """What the Service asks, whatever it says: what cannot be served is a problem of the plan."""
    found = resolve(context.place, service, slices)
    if not found.ports:
        return ServicePlan(problems=found.problems) if found.problems else EMPTY
    wanted: dict[tuple[object, ...], Wanted] = {}
    udp: list[UdpPort] = []
    problems = dict.fromkeys(found.problems)
    for port in found.ports:
        asked = _Asked(context.netns, port, wanted)
        _Port(context, port, asked).plan()
        problems |= dict.fromkeys(f"{service.ref}: {line}" for line in asked.lost)
        if port.protocol == "UDP":
            udp.append(port.udp(context.node_ports[port.version]))
    return ServicePlan(
        wanted=tuple(wanted.values()),
        health=found.health,
        problems=tuple(problems),
        udp=tuple(udp),
    )


def from_pods(local: LocalTraffic, version: int, *, negated: bool = False) -> Match:
    """Matches packets from the node's Pods, or with ``negated`` all others."""
    if local.source is not None:
        return Match(field=SADDR[version], value=local.source, negated=negated)
    name = f"{local.interface}*" if local.prefix else local.interface
    return Match(field="meta iifname", value=name, negated=negated)


class _Asked:
    """What a ServicePort asks for in one IP version, on its way into ``wanted``, each object once.

    Of two ports that ask for one node port the first has it; ``lost`` says so in words.
    """

    def __init__(
        self, netns: str, port: PlannedPort, wanted: dict[tuple[object, ...], Wanted]
    ) -> None:
        self.family = FAMILIES[port.version]
        self.lost: list[str] = []
        self._netns = netns
        self._wanted = wanted
        self._base = names.of_port(port.name)
        self._owner = of_port((port.name.namespace, port.name.name), port.name.port)

    def name(self, prefix: str) -> str:
        """Of a chain of its own."""
        return f"{prefix}-{self._base}"

    def chain(self, prefix: str, rules: Iterable[NftRule], why: str) -> None:
        name = self.name(prefix)
        chain = NftChain(family=self.family, table=TABLE, name=name, rules=tuple(rules))
        self.want(chain, why)

    def element(self, at: str, of: Key, to: Verdict | None, why: str, comment: str = "") -> None:
        element = NftElement(
            family=self.family, table=TABLE, set=at, of=of, verdict=to, comment=comment
        )
        has = self._wanted.get(element.key)
        if has is not None and has.owner != self._owner and element.exclusive:
            self.lost.append(f"{element.exclusive} is already that of {has.owner}")
            return
        self.want(element, why)

    def want(self, thing: Object, why: str) -> None:
        wanted = Wanted(netns=self._netns, object=thing, owner=self._owner, why=why)
        self._wanted[thing.key] = wanted


class _Port:
    """What leads to a ServicePort in one IP version, and on to its endpoints."""

    def __init__(self, context: Context, port: PlannedPort, asked: _Asked) -> None:
        self._context = context
        self._port = port
        self._asked = asked
        self._mark = SetMark(operator="|", bits=context.mark)
        self._protocol = Match(field="meta l4proto", value=port.protocol)
        self._any = port.has_any

    def plan(self) -> None:
        port, asked = self._port, self._asked
        cluster, local = port.usable.cluster, port.usable.local
        if port.affinity:
            for one in port.reachable:
                self._endpoint(one)
        if cluster:
            asked.chain("service", self._to(cluster), _WHY_CLUSTER)
        if local:
            asked.chain("local", self._to(local), _WHY_LOCAL)
        if self._any and port.external:
            asked.chain("external", self._external(), _WHY_EXTERNAL)
        balanced = [one.ip for one in port.frontends if one.kind == "LoadBalancer" and one.ip]
        if balanced and port.source_ranges:
            self._firewall(balanced)
        asked.element(names.CLUSTER_IPS, (port.cluster_ip,), None, _WHY_CLUSTER_IP)
        for frontend in port.frontends:
            self._reached(frontend)
        for one in port.reachable:
            if one.local:
                of = (one.ip, one.ip, port.protocol, one.port)
                asked.element(names.HAIRPIN_CONNECTIONS, of, None, _WHY_HAIRPIN)

    def _reached(self, frontend: Frontend) -> None:
        """Where the ServicePort is reached: where that leads, or that it leads nowhere."""
        port, kind = self._port, frontend.kind
        served = self._any if frontend.policy == "Cluster" else bool(port.usable.local)
        of: Key = (port.protocol, frontend.port)
        lead, refuse = names.SERVICE_NODEPORTS, names.NO_ENDPOINT_NODEPORTS
        if frontend.ip is not None:
            of = (frontend.ip, *of)
            lead, refuse = names.SERVICE_IPS, names.NO_ENDPOINT_SERVICES
        if kind != "ClusterIP" and self._any:
            # Even where clients from outside are dropped: Pods and the node are let through.
            self._asked.element(
                lead, of, Verdict("goto", self._asked.name("external")), _WHY_REACHED[kind]
            )
        elif kind == "ClusterIP" and served:
            to = Verdict("goto", self._policy(frontend.policy))
            self._asked.element(lead, of, to, _WHY_REACHED[kind])
        if not served:
            verdict, why = (_DROP, _WHY_DROPPED) if self._any else (_REJECT, _WHY_REFUSED)
            self._asked.element(refuse, of, verdict, why, str(port.name)[: names.MOST_COMMENT])

    def _external(self) -> list[NftRule]:
        port, version = self._port, self._port.version
        if not port.external_local:
            return [
                NftRule((self._mark,), "masquerade"),
                NftRule((Verdict("goto", self._policy("Cluster")),)),
            ]
        everywhere = Verdict("goto", self._policy("Cluster"))
        rules: list[NftRule] = []
        local = self._context.local[version]
        if local is not None:
            rules.append(NftRule((from_pods(local, version), everywhere), _SHORT.format("pod")))
        rules.append(NftRule((_FROM_NODE, self._mark), "masquerade local traffic"))
        rules.append(NftRule((_FROM_NODE, everywhere), _SHORT.format("local")))
        if port.usable.local:
            rules.append(NftRule((Verdict("goto", self._policy("Local")),)))
        return rules

    def _firewall(self, balanced: Sequence[IP]) -> None:
        port = self._port
        ranges: list[Network] = list(port.source_ranges)
        own = self._context.node_ips[port.version]
        if any(own in one for one in ranges):
            # The node's connections to the address may have the address itself for their source.
            ranges += [ip_network(ip) for ip in balanced]
        outside = of_networks(SADDR[port.version], ranges, negated=True)
        rule = NftRule((outside, _DROP))
        self._asked.chain("firewall", [rule], _WHY_FIREWALL)
        to = Verdict("goto", self._asked.name("firewall"))
        for ip in balanced:
            of = (ip, port.protocol, port.port)
            self._asked.element(names.FIREWALL_IPS, of, to, _WHY_SOURCES)

    def _endpoint(self, one: Endpoint) -> None:
        """The chain of one endpoint that keeps its clients, and the set of these."""
        port, version = self._port, self._port.version
        base = names.of_endpoint(port.name, one.ip, one.port)
        kept = NftSet(
            family=self._asked.family,
            table=TABLE,
            name=f"affinity-{base}",
            types=("ipv4_addr",) if version == 4 else ("ipv6_addr",),
            dynamic=True,
            timeout=port.affinity,
            size=_AFFINITY_SIZE,
        )
        self._asked.want(kept, _WHY_AFFINITY)
        rules = (
            NftRule((UpdateSet(set=kept.name, field=SADDR[version]),)),
            NftRule((self._protocol, Dnat(ip=one.ip, port=one.port))),
        )
        chain = NftChain(
            family=self._asked.family, table=TABLE, name=f"endpoint-{base}", rules=rules
        )
        self._asked.want(chain, _WHY_ENDPOINT)

    def _to(self, endpoints: Sequence[Endpoint]) -> list[NftRule]:
        """Rules that lead to one of these; a client that one of them keeps, to that."""
        port = self._port
        if not port.affinity:
            targets = tuple(Target(each.ip, each.port) for each in endpoints)
            return [NftRule((self._protocol, RandomDnat(targets=targets)))]
        bases = [names.of_endpoint(port.name, each.ip, each.port) for each in endpoints]
        chains = tuple(Verdict("goto", f"endpoint-{base}") for base in bases)
        fields = (SADDR[port.version],)
        rules = [
            NftRule((InSet(fields=fields, set=f"affinity-{base}"), chain))
            for base, chain in zip(bases, chains, strict=True)
        ]
        return [*rules, NftRule((RandomVerdict(verdicts=chains),))]

    def _policy(self, policy: TrafficPolicy) -> str:
        return self._asked.name("service" if policy == "Cluster" else "local")


_SHORT = "short-circuit {} traffic"


def of_networks(field: Field, networks: Sequence[Network], *, negated: bool = False) -> Statement:
    """Matches who is in one of these networks of one version, or with ``negated`` in none.

    As nft(8) keeps it: several are a set, in which what overlaps or touches is put together.
    """
    if len(networks) == 1:
        return Match(field=field, value=_plainly(networks[0]), negated=negated)
    once = cast("Iterable[Network]", collapse_addresses(networks))
    in_order = sorted(once, key=lambda one: int(one.network_address))
    return OneOf(field=field, values=tuple(map(_plainly, in_order)), negated=negated)


def _plainly(one: Network) -> Value:
    """A network of one address is that address."""
    return one.network_address if one.prefixlen == one.max_prefixlen else one
