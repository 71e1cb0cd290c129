"""What an odd object of nftables mode means for traffic: one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hairpin.model.address import IP
from hairpin.plan import nft_names as names
from hairpin.present.address import address_text
from hairpin.present.nft_statement import value_text
from hairpin.state.nftables import (
    Dnat,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    RandomDnat,
    SetMark,
    Target,
    Verdict,
)

_UNMASQUERADED = (
    "packets that need it are not masqueraded: answers from other nodes, and of Pods to "
    "themselves, get lost"
)
_CHAINS: Mapping[str, str] = {
    names.FILTER_PREROUTING: "loadBalancerSourceRanges is not kept for packets from outside",
    names.FILTER_OUTPUT_PRE_DNAT: "loadBalancerSourceRanges is not kept for the node's own packets",
    names.FILTER_INPUT: "clients of node ports without endpoints are not refused as they should be",
    names.FILTER_FORWARD: "clients of Services without endpoints, and of other ports of "
    "ClusterIPs, wait instead of being refused",
    names.FILTER_OUTPUT: "the node's own connections to Services without endpoints wait instead of "
    "being refused",
    names.NAT_PREROUTING: "packets of Pods and from outside do not reach Services",
    names.NAT_OUTPUT: "the node's own packets do not reach Services",
    names.NAT_POSTROUTING: _UNMASQUERADED,
    names.NODEPORT_ENDPOINTS_CHECK: "clients of node ports without endpoints are not refused",
    names.SERVICE_ENDPOINTS_CHECK: "clients of Services without endpoints are not refused",
    names.FIREWALL_CHECK: "loadBalancerSourceRanges is not kept",
    names.SERVICES: "packets to Services are not led to them, or not masqueraded where they "
    "must be",
    names.MASQUERADING: _UNMASQUERADED,
    names.CLUSTER_IPS_CHECK: "packets to other ports of ClusterIPs leave by the node's routes",
    names.REJECT: "clients of Services without endpoints wait instead of being refused",
}
_PREFIXES: Mapping[str, str] = {
    "service-": "connections to the ServicePort do not go to the endpoints that they should",
    "local-": "connections to the ServicePort do not go to this node's endpoints as they should",
    "external-": "connections to the ServicePort from outside do not go where they should, or are "
    "not masqueraded as they should",
    "endpoint-": "connections do not go to that endpoint, or its clients do not stay with it",
    "firewall-": "loadBalancerSourceRanges of the ServicePort is not kept as it is asked",
}
_LOST: Mapping[str, str] = {
    names.SERVICE_IPS: "Packets to {at} are not led to the ServicePort: they leave by the node's "
    "routes.",
    names.SERVICE_NODEPORTS: "Packets to node port {at} are not led to the ServicePort.",
    names.NO_ENDPOINT_SERVICES: "Packets to {at}, where nobody serves, leave by the node's routes: "
    "clients wait.",
    names.NO_ENDPOINT_NODEPORTS: "Packets to node port {at}, where nobody serves, reach the node "
    "itself, which refuses them unless a program of its own listens there.",
    names.FIREWALL_IPS: "Everybody may use {at}: loadBalancerSourceRanges is not kept.",
    names.CLUSTER_IPS: "Packets to {ip} from outside the cluster are not masqueraded, and its "
    "other ports are not refused.",
    names.NODEPORT_IPS: "Node ports do not answer at {ip}.",
    names.HAIRPIN_CONNECTIONS: "A Pod at {ip} that reaches itself through its Service gets no "
    "answer: it is not masqueraded.",
}
_GAINED: Mapping[str, str] = {
    names.SERVICE_IPS: "Packets to {at}, which no Service has, are led away.",
    names.SERVICE_NODEPORTS: "Packets to port {at} of the node, which is no node port, are led "
    "away.",
    names.NO_ENDPOINT_SERVICES: "New connections to {at} are refused or dropped, though they need "
    "not be.",
    names.NO_ENDPOINT_NODEPORTS: "New connections to port {at} of the node are refused or dropped, "
    "though they need not be.",
    names.FIREWALL_IPS: "Clients of {at} are dropped by source ranges that nobody asks for.",
    names.CLUSTER_IPS: "Packets to {ip}, which is no ClusterIP, are refused.",
    names.NODEPORT_IPS: "Node ports answer at {ip} as well, which is not for them.",
    names.HAIRPIN_CONNECTIONS: "Packets of {ip} to itself are masqueraded, though it is no "
    "endpoint here.",
}
_REFUSED_TOO = (
    "New connections to {at}, where nobody serves, are refused all the same: other ports of a "
    "ClusterIP are."
)
_SHOWN = 3  # endpoints
_MEANS: Mapping[str, str] = {
    names.HAIRPIN_CONNECTIONS: "Pods that reach themselves through their Service get no answer",
    names.CLUSTER_IPS: "packets to ClusterIPs from outside the cluster are not masqueraded, and "
    "other ports are not refused",
    names.NODEPORT_IPS: "node ports do not answer",
    names.NO_ENDPOINT_SERVICES: "clients of Services without endpoints are not refused",
    names.NO_ENDPOINT_NODEPORTS: "clients of node ports without endpoints are not refused",
    names.FIREWALL_IPS: "loadBalancerSourceRanges is not kept",
    names.SERVICE_IPS: "packets to Services' addresses are not led to them",
    names.SERVICE_NODEPORTS: "packets to node ports are not led to their Services",
}


def _sentence(text: str) -> str:
    head = text[:1] if text.startswith("loadBalancer") else text[:1].upper()  # a field's name
    return f"{head}{text[1:]}."


def chain(name: str) -> str:
    """Of a chain that is missing, or has other rules."""
    return _sentence(_meaning(name))


def _meaning(name: str) -> str:
    if name in _CHAINS:
        return _CHAINS[name]
    for prefix, text in _PREFIXES.items():
        if name.startswith(prefix):
            return text
    return "packets do not go as Services ask"


def hook(wanted: NftChain, seen: NftChain) -> str:
    if seen.hook is not None and wanted.hook is not None and seen.hook.policy != wanted.hook.policy:
        return "Every packet that no rule decides is dropped there, whomever it is for."
    return chain(wanted.name)


def wrong_chain(name: str, seen: Sequence[NftRule], wanted: Sequence[NftRule]) -> str:
    """Of a chain with rules that should be others; what both have is left out."""
    for rule in seen:
        match rule.statements:
            case (Verdict(kind="drop"),):
                return "Every packet that comes to that rule is dropped."
            case (Verdict(kind="accept" | "return"),):
                return f"The rules after it count for no packet: {_meaning(name)}."
    there, ends = set(_targets(seen)), set(_targets(wanted))
    if there - ends:
        return f"Connections may go to {_listed(there - ends)}, where they should not go."
    if ends - there and there:
        return f"No connection goes to {_listed(ends - there)}; other endpoints carry its share."
    marks = [any(isinstance(one, SetMark) for one in rule.statements) for rule in (*seen, *wanted)]
    if marks and all(marks):
        return (
            "Packets are masqueraded that need not be, or not those that must: then answers from "
            "other nodes, and of Pods to themselves, get lost."
        )
    return chain(name)


def _targets(rules: Sequence[NftRule]) -> Iterator[str]:
    """Addresses and ports that rules lead to."""
    for rule in rules:
        for one in rule.statements:
            ends: Sequence[Target | Dnat] = ()
            if isinstance(one, RandomDnat):
                ends = one.targets
            elif isinstance(one, Dnat):
                ends = (one,)
            for end in ends:
                ip = address_text(end.ip)
                yield f"[{ip}]:{end.port}" if ":" in ip else f"{ip}:{end.port}"


def _listed(ends: set[str]) -> str:
    shown = sorted(ends)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def extra_chain(one: NftChain, led: bool) -> str:
    if one.hook is not None:
        return "Packets meet its rules, which no proxy wrote."
    if led:
        return "Packets are led through it, which no Service asks for."
    return "No packet comes there: nothing leads to it."


def no_set(name: str) -> str:
    if name in _MEANS:
        return _sentence(_MEANS[name])
    return "Clients do not stay with that endpoint, as sessionAffinity asks."


def wrong_set(seen: NftSet, wanted: NftSet) -> str:
    if seen.timeout != wanted.timeout:
        return (
            f"Clients stay with that endpoint for {seen.timeout} s instead of {wanted.timeout} s."
        )
    return no_set(wanted.name)


def element(one: NftElement, *, missing: bool, cluster_ip: bool = False) -> str:
    """``cluster_ip``: its address is a Service's ClusterIP, of which cluster-ips-check refuses
    whatever no other rule takes."""
    text = (_LOST if missing else _GAINED).get(one.set)
    if missing and cluster_ip and one.set == names.SERVICE_IPS:
        text = "New connections to {at} are refused: no rule leads them to the ServicePort."
    if missing and cluster_ip and one.set == names.NO_ENDPOINT_SERVICES:
        dropped = one.verdict is not None and one.verdict.kind == "drop"
        text = _REFUSED_TOO if not dropped else "Packets to {at} are refused instead of dropped."
    if text is None:
        return "Packets do not go as Services ask."
    return text.format(at=_at(one), ip=value_text(one.of[0]))


def wrong_element(seen: NftElement, wanted: NftElement) -> str:
    where = _at(wanted)
    kind = seen.verdict.kind if seen.verdict is not None else ""
    if kind == "drop":
        return f"Packets to {where} are dropped."
    if kind in ("goto", "jump") and seen.verdict is not None:
        if seen.verdict.chain == names.REJECT:
            return f"New connections to {where} are refused."
        return f"Packets to {where} are led to {seen.verdict.chain}, which is not theirs."
    return f"Packets to {where} are not led where they should be."


def _at(one: NftElement) -> str:
    """``10.96.0.1:80 (TCP)``, of node ports ``30080 (TCP)``."""
    if isinstance(one.of[0], IP) and len(one.of) == 3:
        ip, protocol, port = one.of
        shown = address_text(ip) if isinstance(ip, IP) else str(ip)
        return f"[{shown}]:{port} ({protocol})" if ":" in shown else f"{shown}:{port} ({protocol})"
    if len(one.of) == 2:
        return f"{one.of[1]} ({one.of[0]})"
    return " . ".join(map(value_text, one.of))
