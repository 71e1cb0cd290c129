"""What all Services stand in in nftables mode: the table, its maps and sets, and the fixed chains.

Everything is decided by lookups, whose cost does not grow with the number of Services:

* before DNAT, ``firewall-ips`` leads to who may use a load balancer IP;
* ``services`` marks who must be masqueraded on the way to a ClusterIP, and looks up where the
  packet leads: by address in ``service-ips``, by node port in ``service-nodeports``;
* after it, what is for nobody is refused or dropped;
* on the way out, what is marked is masqueraded, and who reaches itself.

Chains, priorities, rules and comments are kube-proxy's (setupNFTables in
pkg/proxy/nftables/proxier.go of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network

import msgspec

from hairpin.model.address import IP, Network
from hairpin.plan import nft_names as names
from hairpin.plan.local_traffic import LocalTraffic
from hairpin.plan.nft_names import FAMILIES, TABLE
from hairpin.plan.nft_service import DADDR, SADDR, from_pods, of_networks
from hairpin.state.nftables import (
    Field,
    Hook,
    InSet,
    KeyType,
    Masquerade,
    Match,
    NftChain,
    NftElement,
    NftObject,
    NftRule,
    NftSet,
    NftTable,
    Reject,
    SetMark,
    Statement,
    Verdict,
    VerdictMap,
)

_ADDRESS: Mapping[int, KeyType] = {4: "ipv4_addr", 6: "ipv6_addr"}
_LOOPBACK: Mapping[int, IP | Network] = {
    4: ip_network("127.0.0.0/8"),
    6: ip_network("::1").network_address,
}
_FILTER, _DNAT, _SNAT, _EARLIER = 0, -100, 100, -10  # netfilter's priorities, and before one

_PROTOCOL_PORT: tuple[Field, Field] = ("meta l4proto", "th dport")
_NEW = Match(field="ct state", value="new")

_BASE: tuple[tuple[str, Hook, tuple[tuple[str, bool], ...]], ...] = (
    (
        names.FILTER_PREROUTING,
        Hook(type="filter", hook="prerouting", priority=_DNAT + _EARLIER),
        ((names.FIREWALL_CHECK, True),),
    ),
    (
        names.FILTER_OUTPUT_PRE_DNAT,
        Hook(type="filter", hook="output", priority=_DNAT + _EARLIER),
        ((names.FIREWALL_CHECK, True),),
    ),
    (
        names.FILTER_INPUT,
        Hook(type="filter", hook="input", priority=_FILTER),
        ((names.NODEPORT_ENDPOINTS_CHECK, True), (names.SERVICE_ENDPOINTS_CHECK, True)),
    ),
    (
        names.FILTER_FORWARD,
        Hook(type="filter", hook="forward", priority=_FILTER),
        ((names.SERVICE_ENDPOINTS_CHECK, True), (names.CLUSTER_IPS_CHECK, True)),
    ),
    (
        names.FILTER_OUTPUT,
        Hook(type="filter", hook="output", priority=_FILTER),
        ((names.SERVICE_ENDPOINTS_CHECK, True), (names.CLUSTER_IPS_CHECK, True)),
    ),
    (
        names.NAT_PREROUTING,
        Hook(type="nat", hook="prerouting", priority=_DNAT),
        ((names.SERVICES, False),),
    ),
    (
        names.NAT_OUTPUT,
        Hook(type="nat", hook="output", priority=_DNAT),
        ((names.SERVICES, False),),
    ),
    (
        names.NAT_POSTROUTING,
        Hook(type="nat", hook="postrouting", priority=_SNAT),
        ((names.MASQUERADING, False),),
    ),
)
"""Base chains: name, where they are called, and where they jump to, or only for new connections."""

_WHY = {
    names.HAIRPIN_CONNECTIONS: "endpoints of this node that reach themselves",
    names.CLUSTER_IPS: "all ClusterIPs, whatever their ports",
    names.NODEPORT_IPS: "the node's addresses for NodePorts",
    names.NO_ENDPOINT_SERVICES: "addresses and ports that nobody serves",
    names.NO_ENDPOINT_NODEPORTS: "node ports that nobody serves",
    names.FIREWALL_IPS: "load balancer IPs that only some may use",
    names.SERVICE_IPS: "where each address and port of Services leads",
    names.SERVICE_NODEPORTS: "where each node port leads",
    names.NODEPORT_ENDPOINTS_CHECK: "looks for node ports that nobody serves",
    names.SERVICE_ENDPOINTS_CHECK: "looks for addresses that nobody serves",
    names.FIREWALL_CHECK: "looks for load balancer IPs that only some may use",
    names.SERVICES: "looks for what is for a Service",
    names.MASQUERADING: "masquerades what is marked, and who reaches itself",
    names.CLUSTER_IPS_CHECK: "refuses other ports of ClusterIPs, drops what is none",
    names.REJECT: "refuses; a map cannot do that by itself",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the table of one IP version depends on.

    ``mark`` is the bit of a packet that is to be masqueraded, ``everyone`` masqueradeAll.
    ``node_ports`` are the addresses for NodePorts, None all local ones but loopback.
    """

    mark: int
    everyone: bool
    local: LocalTraffic | None
    node_ports: Sequence[IP] | None
    service_cidrs: Sequence[Network]


def frame(version: int, settings: Settings) -> list[tuple[NftObject, str]]:
    """The table with all that is in it before any Service, and why each is there."""
    family = FAMILIES[version]
    table = NftTable(family=family, name=TABLE, comment="rules for kube-proxy")
    found: list[tuple[NftObject, str]] = [(table, "what Services ask of IPv" + str(version))]
    sets = _sets(version, all_addresses=settings.node_ports is None)
    found += [(one, _WHY[one.name]) for one in sets]
    for name, hook, leads in _BASE:
        jumps = tuple(_jump(to, only_new=only_new) for to, only_new in leads)
        chain = NftChain(family=family, table=TABLE, name=name, rules=jumps, hook=hook)
        found.append((chain, f"where packets come in at {hook.hook}"))
    for name, rules in _chains(version, settings).items():
        comment = ""
        if name == names.REJECT:
            at = f"@{names.NO_ENDPOINT_SERVICES} / @{names.NO_ENDPOINT_NODEPORTS}"
            comment = f"helper for {at}"
        chain = NftChain(family=family, table=TABLE, name=name, rules=rules, comment=comment)
        found.append((chain, _WHY[name]))
    for ip in settings.node_ports or ():
        element = NftElement(family=family, table=TABLE, set=names.NODEPORT_IPS, of=(ip,))
        found.append((element, "an address of the node for NodePorts"))
    return found


def _jump(to: str, *, only_new: bool) -> NftRule:
    verdict = Verdict("jump", to)
    return NftRule((_NEW, verdict) if only_new else (verdict,))


def _sets(version: int, *, all_addresses: bool) -> list[NftSet]:
    family, ip = FAMILIES[version], _ADDRESS[version]

    def made(name: str, types: tuple[KeyType, ...], comment: str, *, verdicts: bool) -> NftSet:
        return NftSet(
            family=family, table=TABLE, name=name, types=types, verdicts=verdicts, comment=comment
        )

    by_port: tuple[KeyType, ...] = ("inet_proto", "inet_service")
    reached = (ip, *by_port)
    found = [
        made(
            names.HAIRPIN_CONNECTIONS,
            (ip, *reached),
            "service hairpin connections",
            verdicts=False,
        ),
        made(names.CLUSTER_IPS, (ip,), "Active ClusterIPs", verdicts=False),
    ]
    if not all_addresses:
        text = "IPs that accept NodePort traffic"
        found.append(made(names.NODEPORT_IPS, (ip,), text, verdicts=False))
    for name, types, comment in (
        (names.NO_ENDPOINT_SERVICES, reached, f"{_REFUSES} services with no endpoints"),
        (names.NO_ENDPOINT_NODEPORTS, by_port, f"{_REFUSES} service nodeports with no endpoints"),
        (
            names.FIREWALL_IPS,
            reached,
            "destinations that are subject to LoadBalancerSourceRanges",
        ),
        (names.SERVICE_IPS, reached, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
        (names.SERVICE_NODEPORTS, by_port, "NodePort traffic"),
    ):
        found.append(made(name, types, comment, verdicts=True))
    return found


_REFUSES = "vmap to drop or reject packets to"


def _chains(version: int, settings: Settings) -> dict[str, tuple[NftRule, ...]]:
    reached = (DADDR[version], *_PROTOCOL_PORT)
    refused = VerdictMap(fields=reached, map=names.NO_ENDPOINT_SERVICES)
    refused_ports = VerdictMap(fields=_PROTOCOL_PORT, map=names.NO_ENDPOINT_NODEPORTS)
    to_node = _to_node_ports(version, settings)
    # The input hook sees what is for this node only, so that need not be asked there.
    to_input = tuple(one for one in to_node if one != _LOCAL)
    return {
        names.NODEPORT_ENDPOINTS_CHECK: (NftRule((*to_input, refused_ports)),),
        names.SERVICE_ENDPOINTS_CHECK: (NftRule((refused,)),),
        names.FIREWALL_CHECK: (NftRule((VerdictMap(fields=reached, map=names.FIREWALL_IPS),)),),
        names.SERVICES: _services(version, settings, to_node),
        names.MASQUERADING: _masquerading(version, settings.mark),
        names.CLUSTER_IPS_CHECK: _cluster_ips_check(version, settings.service_cidrs),
        names.REJECT: (NftRule((Reject(),)),),
    }


_LOCAL = Match(field="fib daddr type", value="local")


def _to_node_ports(version: int, settings: Settings) -> tuple[Statement, ...]:
    """What matches packets to the addresses for NodePorts."""
    field = DADDR[version]
    if settings.node_ports is not None:
        return (InSet(fields=(field,), set=names.NODEPORT_IPS),)
    return (_LOCAL, Match(field=field, value=_LOOPBACK[version], negated=True))


def _services(
    version: int, settings: Settings, to_node: tuple[Statement, ...]
) -> tuple[NftRule, ...]:
    found: list[NftRule] = []
    to_cluster_ip = InSet(fields=(DADDR[version],), set=names.CLUSTER_IPS)
    mark = SetMark(operator="|", bits=settings.mark)
    if settings.everyone:
        found.append(NftRule((to_cluster_ip, mark), "masquerade all clusterIP traffic"))
    elif settings.local is not None:
        others = from_pods(settings.local, version, negated=True)
        text = "masquerade clusterIP traffic from outside cluster"
        found.append(NftRule((to_cluster_ip, others, mark), text))
    reached = (DADDR[version], *_PROTOCOL_PORT)
    found.append(NftRule((VerdictMap(fields=reached, map=names.SERVICE_IPS),)))
    ports = VerdictMap(fields=_PROTOCOL_PORT, map=names.SERVICE_NODEPORTS)
    found.append(NftRule((*to_node, ports)))
    return tuple(found)


def _masquerading(version: int, mark: int) -> tuple[NftRule, ...]:
    masquerade = Masquerade(fully_random=True)
    itself = (SADDR[version], DADDR[version], *_PROTOCOL_PORT)
    return (
        NftRule(
            (
                Match(field="meta mark", value=0, mask=mark, negated=True),
                SetMark(operator="^", bits=mark),  # taken off, should it come by again
                masquerade,
            )
        ),
        NftRule(
            (
                Match(field="ct status", value="dnat"),
                InSet(fields=itself, set=names.HAIRPIN_CONNECTIONS),
                masquerade,
            )
        ),
    )


def _cluster_ips_check(version: int, cidrs: Sequence[Network]) -> tuple[NftRule, ...]:
    field = DADDR[version]
    known = InSet(fields=(field,), set=names.CLUSTER_IPS)
    found = [NftRule((known, Reject()), "Reject traffic to invalid ports of ClusterIPs")]
    own = [one for one in dict.fromkeys(cidrs) if one.version == version]
    if own:
        text = "Drop traffic to unallocated ClusterIPs"
        found.append(NftRule((of_networks(field, own), Verdict("drop")), text))
    return tuple(found)
