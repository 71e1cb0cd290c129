"""What an odd chain, rule or jump of iptables means for traffic: one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hairpin.present.iptables_save import Place

_PURPOSE: Mapping[str, str] = {
    "KUBE-SERVICES": "packets to Services are not led on, or not masqueraded where they must be",
    "KUBE-POSTROUTING": "packets that are marked for it are not masqueraded, and answers from "
    "other nodes or to the same Pod get lost",
    "KUBE-NODE-PORT": "packets to node ports are not masqueraded, and answers from other nodes get "
    "lost",
    "KUBE-NODEPORTS": "packets to node ports do not reach their Services",
    "KUBE-LOAD-BALANCER": "packets to load balancer IPs are not masqueraded",
    "KUBE-MARK-MASQ": "nothing is marked for masquerading, and answers take another way back",
    "KUBE-FORWARD": "where the node's firewall drops by default, packets to Services and their "
    "answers are not forwarded",
    "KUBE-PROXY-FIREWALL": "loadBalancerSourceRanges is not kept: everybody may use the load "
    "balancer IPs",
    "KUBE-SOURCE-RANGES-FIREWALL": "loadBalancerSourceRanges is not kept as it is asked",
    "KUBE-IPVS-FILTER": "other ports of Services' addresses reach servers of the node itself",
    "KUBE-IPVS-OUT-FILTER": "the node itself reaches load balancer IPs that it may not use",
    "KUBE-EXTERNAL-SERVICES": "clients of Services without endpoints wait instead of being refused",
}
_IN_FILTER: Mapping[str, str] = {
    "KUBE-SERVICES": "clients of Services without endpoints wait instead of being refused, and "
    "those of Services without local ones are not dropped",
    "KUBE-NODEPORTS": "where the node's firewall drops by default, health checks of load balancers "
    "get no answer",
    "KUBE-NODE-PORT": "where the node's firewall drops by default, health checks of load balancers "
    "get no answer",
}
"""Chains whose names mean something else in nat."""

_ENDS: Mapping[str, str] = {"DROP": "dropped", "REJECT": "refused"}

_DOES: Mapping[str, str] = {
    "ACCEPT": "let through before the rules after it",
    "DROP": "dropped",
    "REJECT": "refused",
    "RETURN": "kept from the rules after it",
    "DNAT": "led to an endpoint that no Service has there",
    "MASQUERADE": "masqueraded",
    "KUBE-MARK-MASQ": "masqueraded",
}

_HASHED: Mapping[str, str] = {
    "KUBE-SVC-": "packets to the ServicePort do not reach its endpoints as they should",
    "KUBE-SVL-": "packets to the ServicePort do not reach its endpoints of this node as they "
    "should",
    "KUBE-SEP-": "packets do not reach that endpoint as they should",
    "KUBE-EXT-": "packets to the ServicePort from outside do not reach its endpoints as they "
    "should",
    "KUBE-FW-": "loadBalancerSourceRanges of the ServicePort is not kept as it is asked",
}


def _purpose(place: Place) -> str:
    table, chain = place
    if table == "filter" and chain in _IN_FILTER:
        return _IN_FILTER[chain]
    if chain in _PURPOSE:
        return _PURPOSE[chain]
    for prefix, text in _HASHED.items():
        if chain.startswith(prefix):
            return text
    return "packets do not go as Services ask"


def _sentence(text: str) -> str:
    head = text[:1] if text.startswith("loadBalancer") else text[:1].upper()  # a field's name
    return f"{head}{text[1:]}."


def no_chain(place: Place) -> str:
    return _sentence(_purpose(place))


def no_jump(place: Place, to: str) -> str:
    table, chain = place
    return f"Packets in {chain} do not come to {to}: {_purpose((table, to))}."


def hidden_jump(place: Place, to: str, hider: Sequence[str]) -> str:
    """Of a jump after a rule that decides on every packet."""
    target = hider[1] if len(hider) > 1 else ""
    if target in _ENDS:
        return f"Every packet in {place[1]} is {_ENDS[target]} before it comes to {to}."
    return no_jump(place, to)


def wrong_rule(place: Place, spec: Sequence[str], seen: Sequence[str]) -> str:
    """Of a rule that does something else with packets than it should."""
    wanted, there = _target(spec), _target(seen)
    if wanted == there == "DNAT" and spec[-1] != seen[-1]:
        return f"Packets that it is for are led to {seen[-1]}, which is no endpoint of it."
    if wanted != there and there in _DOES:
        return f"Packets that it is for are {_DOES[there]} instead."
    return no_rule(place, spec)


def _target(spec: Sequence[str]) -> str:
    return spec[spec.index("-j") + 1] if "-j" in spec[:-1] else ""


def no_rule(place: Place, spec: Sequence[str]) -> str:
    target = _target(spec)
    match target:
        case "KUBE-MARK-MASQ" | "MARK":
            what = "are not marked for masquerading: answers may take another way back"
        case "MASQUERADE":
            what = "keep their source: answers from other nodes, or of a Pod to itself, get lost"
        case "DNAT":
            what = "are not led to that endpoint"
        case "REJECT":
            what = "are not refused: the client waits, or somebody else answers"
        case "DROP":
            what = "are not dropped: who may not come by comes by"
        case "ACCEPT":
            what = "meet the rules after it, and the node's own"
        case "RETURN":
            what = "meet the rules after it, which are not for them"
        case _ if target.startswith("KUBE-"):
            what = f"are not led on to {target}"
        case _:
            return _sentence(_purpose(place))
    return f"Packets that it is for {what}."


def extra_rule(spec: Sequence[str]) -> str:
    target = _target(spec)
    does = _DOES.get(target, f"led on to {target}" if target else "touched")
    who = "Every packet that comes there is" if len(spec) == 2 else "Packets that match are"
    return f"{who} {does}, which no Service asks for."


def extra_chain(chain: str, led: int) -> str:
    if not led:
        return "No packet comes there: no rule leads to it."
    return "Packets are led through it for a Service or endpoint that is no more."


def order(place: Place) -> str:
    return f"A rule decides before the one that should: {_purpose(place)}."
