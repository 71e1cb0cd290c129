"""All modes agree on who may answer whom, and with what resolving says.

A client from outside is followed through each mode's rules to the endpoints that it can meet; rules
for this node and its Pods alone are passed over.  IPVS has one difference, ``in_ipvs``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hairpin.model.address import IP
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan.endpoints import Endpoint, endpoint_text
from hairpin.plan.frontends import Frontend, Place, PlannedPort, resolve
from hairpin.plan.nft_names import FAMILIES, Family
from hairpin.plan.planner import planner
from hairpin.plan.whole import slices_by_service
from hairpin.state.base import KernelObject
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.netfilter import DispatchRule, ServiceChain
from hairpin.state.nftables import (
    Dnat,
    InSet,
    Match,
    NftChain,
    NftElement,
    NftRule,
    RandomDnat,
    RandomVerdict,
    Verdict,
)
from tests.plan.crowd import crowd
from tests.plan.values import NODE

Answer = frozenset[str]
REFUSED, DROPPED = frozenset(("refused",)), frozenset(("dropped",))
MARK = "KUBE-MARK-MASQ"


class Iptables:
    def __init__(self, objects: Sequence[KernelObject]) -> None:
        self.chains = {
            (one.family, one.name): one.rules for one in objects if isinstance(one, ServiceChain)
        }
        self.shared = [one for one in objects if isinstance(one, DispatchRule)]

    def answers(self, port: PlannedPort, one: Frontend) -> Answer:
        """``-m`` and ``--dport`` of the port, and the address where there is one."""
        family = FAMILIES[port.version]
        protocol = port.protocol.lower()
        found: Answer = frozenset()
        for rule in self.shared:
            if rule.family != family or f"-m {protocol} --dport {one.port} " not in rule.rule:
                continue
            if one.ip is None and "-d " in rule.rule:  # node ports on localhost, counted apart
                continue
            if one.ip is not None and f"-d {one.ip}/" not in rule.rule:
                continue
            to = rule.rule.rpartition("-j ")[2]
            if rule.table == "nat":
                found |= self.follow(family, to)
            elif rule.chain != "KUBE-PROXY-FIREWALL":
                found |= DROPPED if to == "DROP" else REFUSED
        return found

    def follow(self, family: Family, chain: str) -> Answer:
        found: Answer = frozenset()
        for rule in self.chains[family, chain]:
            to = re.search(r"-j (KUBE-\w+-\w+|DNAT --to-destination (\S+))$", rule)
            if to is None or "addrtype" in rule or "pod traffic" in rule:
                continue
            if to[2]:
                found |= {to[2]}
            elif to[1] != MARK:
                found |= self.follow(family, to[1])
        return found


class Nftables:
    def __init__(self, objects: Sequence[KernelObject]) -> None:
        self.chains = {
            (one.family, one.name): one.rules for one in objects if isinstance(one, NftChain)
        }
        self.elements = [one for one in objects if isinstance(one, NftElement)]

    def answers(self, port: PlannedPort, one: Frontend) -> Answer:
        family = FAMILIES[port.version]
        key = (port.protocol, one.port) if one.ip is None else (one.ip, port.protocol, one.port)
        found: Answer = frozenset()
        for element in self.elements:
            to = element.verdict
            if (element.family, element.of) != (family, key) or to is None:
                continue
            if element.set.startswith("no-endpoint-"):
                found |= DROPPED if to.kind == "drop" else REFUSED
            elif element.set != "firewall-ips":
                found |= self.follow(family, to.chain)
        return found

    def follow(self, family: Family, chain: str) -> Answer:
        found: Answer = frozenset()
        for rule in self.chains[family, chain]:
            found |= self.ends(family, rule)
        return found

    def ends(self, family: Family, rule: NftRule) -> Answer:
        found: Answer = frozenset()
        for one in rule.statements:
            match one:
                case Match(field="meta l4proto"):
                    pass
                case Match() | InSet():  # this node's own, or whom an endpoint keeps
                    return frozenset()
                case Verdict(kind="goto", chain=chain):
                    found |= self.follow(family, chain)
                case RandomVerdict(verdicts=verdicts):
                    for verdict in verdicts:
                        found |= self.follow(family, verdict.chain)
                case RandomDnat(targets=targets):
                    found |= {_text(each.ip, each.port) for each in targets}
                case Dnat(ip=ip, port=port):
                    found |= {_text(ip, port)}
        return found


class Ipvs:
    def __init__(self, objects: Sequence[KernelObject]) -> None:
        self.servers: dict[tuple[str, IP, int], set[str]] = {}
        for one in objects:
            if isinstance(one, VirtualServer):
                self.servers[one.protocol, one.ip, one.port] = set()
            elif isinstance(one, RealServer):
                found = self.servers[one.protocol, one.vip, one.vport]
                found.add(_text(one.ip, one.port))

    def answers(self, port: PlannedPort, one: Frontend) -> Answer:
        """IPVS refuses where a virtual server has no real servers."""
        every = [ip for ip in NODE.addresses if ip.version == port.version]
        (found,) = {
            frozenset(self.servers[port.protocol, ip, one.port]) or REFUSED
            for ip in (every if one.ip is None else [one.ip])
        }
        return found


def _text(ip: object, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"


def resolved(port: PlannedPort, one: Frontend) -> Answer:
    chosen: Sequence[Endpoint] = port.chosen(one.policy)
    if chosen:
        return frozenset(map(endpoint_text, chosen))
    return DROPPED if port.has_any else REFUSED


def in_ipvs(port: PlannedPort, expected: Answer) -> Answer:
    """A virtual server is one for all clients, and those of this node may be sent anywhere: where
    policy Local has nobody here, IPVS takes whom policy Cluster has, and else refuses."""
    if expected != DROPPED:
        return expected
    return frozenset(map(endpoint_text, port.usable.cluster)) or REFUSED


def test_the_modes_lead_where_resolving_says() -> None:
    snapshot = crowd(7, 200)
    slices = slices_by_service(snapshot)
    tables = KubeProxyConfiguration(mode="iptables", cluster_cidr="10.244.0.0/16")
    nft = KubeProxyConfiguration(mode="nftables", cluster_cidr="10.244.0.0/16")
    ipvs = KubeProxyConfiguration(mode="ipvs", cluster_cidr="10.244.0.0/16")
    seen: set[str] = set()
    for key, service in snapshot.services.items():
        given = slices.get(key, [])
        configs = (tables, nft, ipvs)
        plans = [planner(each, NODE, "").service(service, given).wanted for each in configs]
        objects = [[each.object for each in wanted] for wanted in plans]
        modes = (Iptables(objects[0]), Nftables(objects[1]))
        servers = Ipvs(objects[2])
        for port in resolve(Place(NODE.name, NODE.zone), service, given).ports:
            for one in port.frontends:
                expected = resolved(port, one)
                for mode in modes:
                    assert mode.answers(port, one) == expected, (type(mode), port.name, one)
                assert servers.answers(port, one) == in_ipvs(port, expected), (port.name, one)
                how = expected if expected in (REFUSED, DROPPED) else ("answered",)
                seen |= {f"{one.kind} {one.policy} {word}" for word in how}
    kinds = ("ClusterIP", "NodePort", "ExternalIP", "LoadBalancer")
    hows = ("Cluster answered", "Cluster refused", "Local answered", "Local dropped")
    assert {f"{kind} {how}" for kind in kinds for how in hows} <= seen
