"""What serves one Service in a node's kernel, in the words of each mode's tools, with reasons.

A line of reason begins with ``#`` and stands before what it is for, so that the rest can be given
to the tool that the heading names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from hairpin.plan import iptables_names as names
from hairpin.present import ipset, ipvsadm, nft, rules_frame
from hairpin.present.rules_frame import iptables_tool
from hairpin.state.change import Object
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link
from hairpin.state.netfilter import (
    Chain,
    DispatchChain,
    DispatchRule,
    Jump,
    ServiceChain,
)
from hairpin.state.nftables import NftChain, NftElement, NftSet


class Line(msgspec.Struct, frozen=True):
    """One line of what a tool prints, which tool that is, and why the line is there."""

    tool: str
    text: str
    why: str
    absent: bool = False


class Held(msgspec.Struct, frozen=True):
    """An object that serves the Service; ``held``: the kernel has it, None: nobody looked.

    ``there`` is how the kernel has it, where that is otherwise.
    """

    object: Object
    owner: str
    why: str
    held: bool | None = None
    there: Object | None = None


_RULES = (
    ("--rcheck", "a client that was here before stays with its endpoint"),
    ("--mode random", "by chance, so that all get the same share"),
    ("has no endpoints", "no endpoint can be used: refused"),
    ("has no local endpoints", "policy Local, and none on this node: dropped"),
    ("pod traffic for", "this node's own Pods may use every endpoint"),
    ("masquerade LOCAL traffic", "the node's own packets: their source may be the address itself"),
    ("route LOCAL traffic", "the node itself may use every endpoint"),
    ("masquerade traffic for", "the endpoint may be on another node: its answer must come here"),
    ("other traffic to", "who comes so far may not: the packet keeps its destination"),
    ("cluster IP", "who is none of this node's Pods is masqueraded"),
    ("loadbalancer IP", "who may use the load balancer IP"),
)
"""Words of a rule in iptables' chains of a ServicePort, and what it is for; the first that fits."""

_NFT_RULES = (
    ('"short-circuit pod traffic"$', "this node's own Pods may use every endpoint"),
    (
        '"masquerade local traffic"$',
        "the node's own packets: their source may be the address itself",
    ),
    ('"short-circuit local traffic"$', "the node itself may use every endpoint"),
    ('"masquerade"$', "the endpoint may be on another node: its answer must come here"),
    ("^ *update @", "the endpoint remembers the client"),
    (" saddr @", "a client that was here before stays with its endpoint"),
    ("numgen random mod", "an endpoint by chance, so that all get the same share"),
    (" dnat (ip6? )?to ", "the endpoint: the packet's new destination"),
    (" drop$", "who is none of these may not use it"),
    ("^ *goto local-", "on to the endpoints of this node: policy Local"),
    ("^ *goto service-", "on to all endpoints"),
)
"""The same of nftables' chains, as patterns: a Service may be called drop."""

_NFT_SETS = (
    ("^ *type ", "clients' addresses"),
    ("^ *size ", "as many at most"),
    ("^ *flags ", "packets add to it, and what they add ends by itself"),
    ("^ *timeout ", "after sessionAffinityConfig's timeoutSeconds without a new connection"),
)

_SETS: Mapping[str, str] = {
    "KUBE-CLUSTER-IP": "let in; who is none of this node's Pods is masqueraded",
    "KUBE-LOAD-BALANCER": "let in; masqueraded, unless it is in the set -LOCAL too",
    "KUBE-LOAD-BALANCER-FW": "only the clients of the next sets may use it",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": "these may use it",
    "KUBE-LOAD-BALANCER-SOURCE-IP": "the node itself may use it",
    "KUBE-EXTERNAL-IP": "let in; who comes from outside is masqueraded",
    "KUBE-EXTERNAL-IP-LOCAL": "let in",
    "KUBE-NODE-PORT-TCP": "masqueraded, unless it is in the set -LOCAL- too",
    "KUBE-NODE-PORT-UDP": "masqueraded, unless it is in the set -LOCAL- too",
    "KUBE-NODE-PORT-SCTP-HASH": "masqueraded, unless it is in the set -LOCAL- too",
}
"""What it means to IPVS mode's rules that an address is in a set, where the reason does not say."""

_TOOLS = (
    "sysctl", "ip", "ipset", "iptables -t nat", "iptables -t filter", "ip6tables -t nat",
    "ip6tables -t filter", "ipvsadm",
)  # fmt: skip
"""In the order in which a packet meets what they made: IPVS takes it after INPUT's filter."""


def lines(objects: Iterable[Held]) -> list[Line]:
    """All lines, those of one tool together, in the order in which a packet meets them."""
    groups = [group for one in objects if (group := _Group(one)).lines]
    tools = dict.fromkeys([*_TOOLS, *(group.tool for group in groups)])
    order = {tool: at for at, tool in enumerate(tools)}
    groups.sort(key=lambda group: (order[group.tool], group.rank))
    return [line for group in groups for line in group.lines]


class _Group:
    """The lines of one object, which belong together, and where on a packet's way they are."""

    def __init__(self, held: Held) -> None:
        self.lines = list(_lines(held.object, held.why))
        if held.held is False or held.there is not None:
            there = _lines(held.there, "") if held.there is not None else ()
            texts = {line.text for line in there}
            self.lines = [
                msgspec.structs.replace(line, absent=line.text not in texts) for line in self.lines
            ]
        self.tool = self.lines[0].tool if self.lines else ""  # nothing of the frame's sets
        self.rank = _rank(held.object)


def text(found: Sequence[Line]) -> Iterator[str]:
    """``### ipvsadm`` and the lines of each tool, each reason once before those it is for."""
    tool = why = ""
    for one in found:
        if one.tool != tool:
            if tool:
                yield ""
            tool, why = one.tool, ""
            yield f"### {tool}"
        if one.why != why and one.text != _END:
            yield f"{_indent(one.text)}# {one.why}"
        why = "" if one.text == _END else one.why
        yield f"{one.text}    # not in the kernel now" if one.absent else one.text


_END = "}"  # of a chain or set of nftables, whose own reason stands at its beginning


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _lines(thing: Object, why: str) -> Iterator[Line]:
    match thing:
        case VirtualServer() | RealServer():
            words = ipvsadm.save([thing]).strip()
            yield Line("ipvsadm", words, why)
        case SetEntry():
            means = _meaning(thing.set)
            words = f"add {thing.set} {ipset.entry_text(thing)}"
            yield Line("ipset", words, f"{why}: {means}" if means else why)
        case Address():
            yield Line("ip", f"address add {thing.ip}/{thing.prefix} dev {thing.link}", why)
        case ServiceChain():
            tool = iptables_tool(thing.family, thing.table)
            for rule in thing.rules:
                yield Line(tool, f"-A {thing.name} {rule}", _reason(thing, rule, why))
        case DispatchRule():
            tool = iptables_tool(thing.family, thing.table)
            yield Line(tool, f"-A {thing.chain} {thing.rule}", why)
        case NftElement():
            tool = f"nft {thing.family} {thing.table}"
            yield Line(tool, f"{thing.set}: {nft.element_text(thing)}", why)
        case NftChain():
            yield from _block(thing, nft.chain_lines(thing), _NFT_RULES, why)
        case NftSet():
            yield from _block(thing, nft.set_lines(thing, ()), _NFT_SETS, why)
        case _:
            for tool, words, said in rules_frame.lines(thing, why):
                yield Line(tool, words, said)


def _block(
    thing: NftChain | NftSet, said: Iterable[str], reasons: Sequence[tuple[str, str]], why: str
) -> Iterator[Line]:
    """A chain or set, with a reason for each line in it."""
    for each in said:
        words = each.replace("\t", "", 1).replace("\t", "  ")
        inner = (reason for pattern, reason in reasons if re.search(pattern, words))
        reason = why
        if _indent(words):
            reason = next(inner, "") or rules_frame.reason(words.strip(), why)
        yield Line(f"nft {thing.family} {thing.table}", words, reason)


def _meaning(name: str) -> str:
    """Of a set of IPVS mode, in either family."""
    return _SETS.get(name.replace("KUBE-6-", "KUBE-", 1), "")


def _reason(chain: ServiceChain, rule: str, why: str) -> str:
    if chain.name.startswith("KUBE-SEP-"):
        if rule.endswith(names.MARK_MASQ):
            return "an endpoint that reaches itself is masqueraded"
        return "the endpoint: the packet's new destination"
    for words, reason in _RULES:
        if words in rule:
            return reason
    if chain.name.startswith("KUBE-EXT-"):
        local = "-j KUBE-SVL-" in rule
        return "on to the endpoints of this node: policy Local" if local else "on to all endpoints"
    if not chain.name.startswith(("KUBE-SVC-", "KUBE-SVL-")):
        return why
    several = any("--mode random" in one for one in chain.rules)
    return "what is left goes there" if several else "the only endpoint"


_WAY = (
    "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "KUBE-FIREWALL", names.SERVICES, names.NODE_PORTS,
    "KUBE-LOAD-BALANCER", "KUBE-NODE-PORT", "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-FW-", "KUBE-EXT-", "KUBE-SVC-", "KUBE-SVL-",
    "KUBE-SEP-", names.MARK_MASQ, "KUBE-FORWARD", "POSTROUTING", "KUBE-POSTROUTING",
)  # fmt: skip
"""iptables' chains on a packet's way."""
_NFT_WAY = (
    "filter-prerouting-pre-dnat", "filter-output-pre-dnat", "firewall-check", "firewall-ips",
    "firewall-", "nat-prerouting", "nat-output", "services", "service-ips", "nodeport-ips",
    "service-nodeports", "external-", "service-", "local-", "affinity-", "endpoint-",
    "filter-input", "filter-forward", "filter-output", "nodeport-endpoints-check",
    "no-endpoint-nodeports", "service-endpoints-check", "no-endpoint-services", "reject-chain",
    "cluster-ips-check", "cluster-ips", "nat-postrouting", "masquerading", "hairpin-connections",
)  # fmt: skip
"""nftables' chains, sets and maps: before the choice of an endpoint, the choice, after it."""


def _rank(thing: Object) -> int:
    """Where on the way; what is no chain, set or element of those keeps its order."""
    way: tuple[str, ...]
    match thing:
        case Link():
            return -1  # before its addresses
        case (
            ServiceChain(name=name)
            | DispatchRule(chain=name)
            | Chain(name=name)
            | DispatchChain(name=name)
            | Jump(chain=name)
        ):
            way = _WAY
        case NftChain(name=name) | NftSet(name=name) | NftElement(set=name):
            way = _NFT_WAY
        case _:
            return 0
    if name in way:
        return way.index(name)
    begins = (at for at, one in enumerate(way) if one.endswith("-") and name.startswith(one))
    return next(begins, 0)
