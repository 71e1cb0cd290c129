"""iptables mode: Services to chains and rules of the tables nat and filter.

The chains of a ServicePort are its own.  The chains that lead to them (KUBE-SERVICES,
KUBE-NODEPORTS, KUBE-EXTERNAL-SERVICES, KUBE-PROXY-FIREWALL) are made of a rule for each frontend,
in no order that matters, but for the way on to the node ports, which is last.

The rules are kube-proxy's (pkg/proxy/iptables of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import msgspec

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan import iptables_names as names
from hairpin.plan.conntrack_settings import WHY, conntrack_settings
from hairpin.plan.frontends import Place, resolve
from hairpin.plan.iptables_port import Context
from hairpin.plan.iptables_service import rules_of
from hairpin.plan.ipvs_rules import Masquerading
from hairpin.plan.local_traffic import (
    every_address,
    masquerading,
    node_ips,
    node_port_addresses,
    node_port_networks,
)
from hairpin.plan.node import NodeFacts
from hairpin.plan.owner import PROXY
from hairpin.plan.service_plan import EMPTY, Occupancy, ServicePlan
from hairpin.state.change import Object, Wanted
from hairpin.state.netfilter import Chain, DispatchChain, Family, Jump, PacketCounter, Table
from hairpin.state.sysctl import Sysctl

MANY = 1000
"""Endpoints above which rules about them have no comments (largeClusterEndpointsThreshold)."""

FAMILIES: dict[int, Family] = {4: "ip", 6: "ip6"}
ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"

_NEW = ("-m", "conntrack", "--ctstate", "NEW")
_COMMENT = ("-m", "comment", "--comment")
_FIREWALL = "kubernetes load balancer firewall"
_EXTERNAL = "kubernetes externally-visible service portals"
_PORTALS = "kubernetes service portals"
_HEALTH = "kubernetes health check service ports"
_FORWARDING = "kubernetes forwarding rules"
_POSTROUTING = "kubernetes postrouting rules"

JUMPS: tuple[tuple[Table, str, str, str, tuple[str, ...]], ...] = (
    ("filter", "INPUT", names.LOCALNET_FIREWALL, "", ()),
    ("filter", "INPUT", names.PROXY_FIREWALL, _FIREWALL, _NEW),
    ("filter", "INPUT", names.NODE_PORTS, _HEALTH, ()),
    ("filter", "INPUT", names.EXTERNAL_SERVICES, _EXTERNAL, _NEW),
    ("filter", "FORWARD", names.PROXY_FIREWALL, _FIREWALL, _NEW),
    ("filter", "FORWARD", names.FORWARD, _FORWARDING, ()),
    ("filter", "FORWARD", names.SERVICES, _PORTALS, _NEW),
    ("filter", "FORWARD", names.EXTERNAL_SERVICES, _EXTERNAL, _NEW),
    ("filter", "OUTPUT", names.LOCALNET_FIREWALL, "", ()),
    ("filter", "OUTPUT", names.PROXY_FIREWALL, _FIREWALL, _NEW),
    ("filter", "OUTPUT", names.SERVICES, _PORTALS, _NEW),
    ("nat", "PREROUTING", names.SERVICES, _PORTALS, ()),
    ("nat", "OUTPUT", names.SERVICES, _PORTALS, ()),
    ("nat", "POSTROUTING", names.POSTROUTING, _POSTROUTING, ()),
)
"""Table, built-in chain, where to, comment, which packets; those of one chain from its head on."""

DISPATCH: tuple[tuple[Table, str, str], ...] = (
    ("filter", names.SERVICES, "ClusterIPs without endpoints: refused or dropped"),
    ("filter", names.EXTERNAL_SERVICES, "other frontends without endpoints: refused or dropped"),
    ("filter", names.NODE_PORTS, "lets health checks in"),
    ("filter", names.PROXY_FIREWALL, "drops clients outside loadBalancerSourceRanges"),
    ("nat", names.SERVICES, "leads packets to Services' addresses on"),
    ("nat", names.NODE_PORTS, "leads packets to node ports on"),
)
"""Table, chain, and what it is for."""

_LAST = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"


class IptablesPlanner:
    """Plans for one node.  ``counters`` are the packet counters that the kernel can have."""

    def __init__(
        self,
        config: KubeProxyConfiguration,
        node: NodeFacts,
        netns: str,
        counters: Sequence[str] = names.COUNTERS,
    ) -> None:
        self._config = config
        self._node = node
        self._netns = netns
        self._counters = counters
        self._place = Place(node.name, node.zone)
        self._masquerading = masquerading(config, node)
        self._addresses = node_port_addresses(config, node)
        own = node_ips(config, node)
        self._contexts = {
            version: self._context(version, node_ip=own[version]) for version in FAMILIES
        }

    def _context(self, version: int, **rest: object) -> Context:
        who = self._masquerading[version]
        localhost = self._localhost()
        made = Context(
            netns=self._netns,
            family=FAMILIES[version],
            node_ip=ip_address(0),
            masquerade_all=who.everyone,
            not_local=who.not_local,
            local=who.not_local[1:],
            localhost=localhost and version == 4 and names.LOCALHOST_ACCEPTED in self._counters,
        )
        return msgspec.structs.replace(made, **rest)

    def service(self, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
        """What one Service with its slices asks; nothing if it is not for this proxy."""
        resolved = resolve(self._place, service, slices)
        if not resolved.ports:
            return ServicePlan(problems=resolved.problems) if resolved.problems else EMPTY
        wanted: list[Wanted] = []
        counts = {4: 0, 6: 0}
        for port in resolved.ports:
            wanted += rules_of(self._contexts[port.version], port)
            counts[port.version] += len(port.known)
        return ServicePlan(
            wanted=tuple(wanted),
            health=resolved.health,
            problems=resolved.problems,
            udp=tuple(
                port.udp(self._addresses[port.version])
                for port in resolved.ports
                if port.protocol == "UDP"
            ),
            endpoints=(counts[4], counts[6]),
        )

    def crowd(self, endpoints: tuple[int, int]) -> bool:
        """Above ``MANY`` endpoints of a version the comments of their rules are left out."""
        changed = False
        for version, count in zip(FAMILIES, endpoints, strict=True):
            context = self._contexts[version]
            if (count > MANY) != context.crowded:
                crowded = msgspec.structs.replace(context, crowded=count > MANY)
                self._contexts[version] = crowded
                changed = True
        return changed

    def frame(self, occupancy: Occupancy) -> list[Wanted]:
        """What all Services stand in, in the order in which to build it."""
        del occupancy
        found = [self._wanted(one, why) for one, why in self._settings()]
        for name in self._counters:
            found.append(self._wanted(PacketCounter(name=name), "a metric shows it"))
        for version, family in FAMILIES.items():
            found += [self._wanted(one, why) for one, why in self._chains(version)]
            for table, name, why in DISPATCH:
                nodes = table == "nat" and name == names.SERVICES
                last = self._to_node_ports(version) if nodes else ()
                chain = DispatchChain(table=table, name=name, last=last, family=family)
                found.append(self._wanted(chain, why))
        for family in FAMILIES.values():
            for table, place, to, comment, match in JUMPS:
                jump = Jump(
                    table=table, chain=place, to=to, comment=comment, family=family, match=match
                )
                found.append(self._wanted(jump, f"leads packets into {to}"))
        return found

    def _wanted(self, thing: Object, why: str) -> Wanted:
        return Wanted(netns=self._netns, object=thing, owner=PROXY, why=why)

    def _settings(self) -> list[tuple[Sysctl, str]]:
        found: list[tuple[Sysctl, str]] = []
        if self._localhost():
            why = "node ports on localhost: packets from 127.0.0.1 may leave by other links"
            found.append((Sysctl(name=ROUTE_LOCALNET, value="1"), why))
        settings = conntrack_settings(self._config)
        return found + [(Sysctl(name=name, value=value), WHY) for name, value in settings]

    def _localhost(self) -> bool:
        """Whether NodePorts answer on 127.0.0.0/8: nodePortAddresses may leave it out."""
        loopback = ip_network("127.0.0.0/8")
        networks = node_port_networks(self._config, self._node)[4]
        allowed = any(one.overlaps(loopback) for one in networks)
        return self._config.iptables.localhost_node_ports and allowed

    def _chains(self, version: int) -> list[tuple[Chain, str]]:
        family, who = FAMILIES[version], self._masquerading[version]
        bit = f"{who.mark:#x}"
        localnet: list[tuple[str, ...]] = []
        if version == 4 and self._localhost():
            says = (*_COMMENT, "block incoming localnet connections", "-m", "conntrack")
            here = ("!", "-s", "127.0.0.0/8", "-d", "127.0.0.0/8")
            state = ("!", "--ctstate", "RELATED,ESTABLISHED,DNAT")
            localnet.append((*here, *says, *state, "-j", "DROP"))
        masquerade = ("-j", "MASQUERADE", "--random-fully")
        table: list[tuple[Table, str, list[tuple[str, ...]], str]] = [
            ("filter", names.LOCALNET_FIREWALL, localnet, "keeps others off localhost"),
            ("filter", names.FORWARD, self._forward(who), "lets Services' packets through"),
            (
                "nat",
                names.MARK_MASQ,
                [("-j", "MARK", "--set-xmark", f"{bit}/{bit}")],
                "marks what is to be masqueraded",
            ),
            (
                "nat",
                names.POSTROUTING,
                [
                    ("-m", "mark", "!", "--mark", f"{bit}/{bit}", "-j", "RETURN"),
                    ("-j", "MARK", "--set-xmark", f"{bit}/0x0"),
                    (*_COMMENT, "kubernetes service traffic requiring SNAT", *masquerade),
                ],
                "masquerades what is marked",
            ),
        ]
        return [
            (Chain(table=of, name=name, rules=tuple(rules), family=family), why)
            for of, name, rules, why in table
        ]

    def _forward(self, who: Masquerading) -> list[tuple[str, ...]]:
        bit = f"{who.mark:#x}"
        rules: list[tuple[str, ...]] = []
        if not self._config.conntrack.tcp_be_liberal:
            # A late packet would else reach the client unrewritten, and be answered with a reset.
            counted: tuple[str, ...] = ()
            if names.INVALID_DROPPED in self._counters:
                counted = ("-m", "nfacct", "--nfacct-name", names.INVALID_DROPPED)
            rules.append(("-m", "conntrack", "--ctstate", "INVALID", *counted, "-j", "DROP"))
        marked = ("-m", "mark", "--mark", f"{bit}/{bit}", "-j", "ACCEPT")
        rules.append((*_COMMENT, "kubernetes forwarding rules", *marked))
        known = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT")
        rules.append((*_COMMENT, "kubernetes forwarding conntrack rule", *known))
        return rules

    def _to_node_ports(self, version: int) -> tuple[str, ...]:
        """The end of KUBE-SERVICES: what is for an address of this node."""
        says = f'-m comment --comment "{_LAST}"'
        localhost = self._localhost()
        networks = node_port_networks(self._config, self._node)[version]
        if every_address(self._config, self._node)[version]:
            but = "! -d ::1/128 " if version == 6 else "" if localhost else "! -d 127.0.0.0/8 "
            return (f"{but}{says} -m addrtype --dst-type LOCAL -j {names.NODE_PORTS}",)
        ips = list(self._addresses[version])
        own = ip_address("127.0.0.1")
        if version == 4 and localhost and any(own in one for one in networks):
            ips.append(own)
        return tuple(f"-d {ip}/{ip.max_prefixlen} {says} -j {names.NODE_PORTS}" for ip in ips)
