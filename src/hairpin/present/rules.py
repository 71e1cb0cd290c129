"""What serves one Service in a node's kernel, in the words of each mode's tools, with reasons.

A line of reason begins with ``#`` and stands before what it is for, so that the rest can be given
to the tool that the heading names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hairpin.plan import iptables_names as names
from hairpin.present import ipset, ipvsadm, nft
from hairpin.state.change import Object
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address
from hairpin.state.netfilter import DispatchRule, ServiceChain
from hairpin.state.nftables import NftChain, NftElement, NftSet


class Line(msgspec.Struct, frozen=True):
    """One line of what a tool prints, which tool that is, and why the line is there."""

    tool: str
    text: str
    why: str
    absent: bool = False


class Held(msgspec.Struct, frozen=True):
    """An object that serves the Service; ``held``: the kernel has it, None: nobody looked."""

    object: Object
    owner: str
    why: str
    held: bool | None = None


_ENDINGS = (
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
"""Words of a rule in a chain of a ServicePort, and what it is for; the first that fits."""


def lines(objects: Iterable[Held]) -> list[Line]:
    """All lines, those of one tool together, in the order in which a packet meets them."""
    found: list[Line] = []
    for one in objects:
        absent = one.held is False
        found += [
            msgspec.structs.replace(line, absent=absent) for line in _lines(one.object, one.why)
        ]
    order = {tool: at for at, tool in enumerate(dict.fromkeys(one.tool for one in found))}
    return sorted(found, key=lambda one: (order[one.tool], _rank(one.text)))


def text(found: Sequence[Line]) -> Iterator[str]:
    """``### ipvsadm`` and the lines of each tool, each reason once before those it is for."""
    tool = why = ""
    for one in found:
        if one.tool != tool:
            if tool:
                yield ""
            tool, why = one.tool, ""
            yield f"### {tool}"
        if one.why != why:
            why = one.why
            yield f"# {why}"
        yield f"{one.text}    # not in the kernel now" if one.absent else one.text


def _lines(thing: Object, why: str) -> Iterator[Line]:
    match thing:
        case VirtualServer() | RealServer():
            words = ipvsadm.save([thing]).strip()
            yield Line("ipvsadm", words, why)
        case SetEntry():
            yield Line("ipset", f"add {thing.set} {ipset.entry_text(thing)}", why)
        case Address():
            yield Line("ip", f"address add {thing.ip}/{thing.prefix} dev {thing.link}", why)
        case ServiceChain():
            tool = _iptables(thing.family, thing.table)
            for rule in thing.rules:
                yield Line(tool, f"-A {thing.name} {rule}", _reason(thing, rule, why))
        case DispatchRule():
            tool = _iptables(thing.family, thing.table)
            yield Line(tool, f"-A {thing.chain} {thing.rule}", why)
        case NftElement():
            tool = f"nft {thing.family} {thing.table}"
            yield Line(tool, f"{thing.set}: {nft.element_text(thing)}", why)
        case NftChain():
            tool = f"nft {thing.family} {thing.table}"
            for each in nft.chain_lines(thing):
                yield Line(tool, each.replace("\t", "", 1).replace("\t", "  "), why)
        case NftSet():
            tool = f"nft {thing.family} {thing.table}"
            for each in nft.set_lines(thing, ()):
                yield Line(tool, each.replace("\t", "", 1).replace("\t", "  "), why)
        case _:
            yield Line(str(thing.key[0]), str(thing), why)


def _reason(chain: ServiceChain, rule: str, why: str) -> str:
    if chain.name.startswith("KUBE-SEP-"):
        if rule.endswith(names.MARK_MASQ):
            return "an endpoint that reaches itself is masqueraded"
        return "the endpoint: the packet's new destination"
    for words, reason in _ENDINGS:
        if words in rule:
            return reason
    if chain.name.startswith("KUBE-EXT-"):
        return "the rest goes by externalTrafficPolicy"
    return "what is left goes there" if chain.name.startswith(("KUBE-SVC-", "KUBE-SVL-")) else why


_WAY = (
    names.SERVICES, names.NODE_PORTS, "KUBE-FW-", "KUBE-EXT-", "KUBE-SVC-", "KUBE-SVL-",
    "KUBE-SEP-",
)  # fmt: skip
"""The chains on a packet's way."""


def _rank(line: str) -> int:
    """Where on the way; everything but iptables' chains keeps its order."""
    words = line.split(" ", 2)
    if words[0] != "-A" or len(words) < 3:
        return 0
    return next((at for at, name in enumerate(_WAY) if words[1].startswith(name)), 0)


def _iptables(family: str, table: str) -> str:
    return f"{'ip6tables' if family == 'ip6' else 'iptables'} -t {table}"
