"""Lines of what all Services share in a node's kernel, each with what it does to a packet."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hairpin.present import iptables
from hairpin.state.change import Object
from hairpin.state.links import Link
from hairpin.state.netfilter import Chain, DispatchChain, Jump
from hairpin.state.sysctl import Sysctl

Said = tuple[str, str, str]
"""A tool, one line of it, and the reason."""

_HOOKS = {
    "prerouting": "packets that come in, from Pods and from elsewhere",
    "input": "packets for the node itself",
    "forward": "packets that the node sends on",
    "output": "packets of the node itself",
    "postrouting": "packets that leave",
}

_RULES = (
    (r"^type \S+ hook (\w+) ", ""),
    (r"-s (127\.0\.0\.0/8|::1/128) -j RETURN", "what comes from loopback is left as it is"),
    (r"KUBE-(6-)?CLUSTER-IP src,dst -j KUBE-MARK-MASQ",
     "the node's own packets, from the ClusterIP itself: marked"),
    (r"! -s .*KUBE-(6-)?CLUSTER-IP dst,dst -j KUBE-MARK-MASQ",
     "a ClusterIP asked by who is none of the Pods: marked"),
    (r"KUBE-(6-)?CLUSTER-IP dst,dst -j KUBE-MARK-MASQ", "a ClusterIP: marked, whoever asks"),
    (r"KUBE-(6-)?LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER",
     "a load balancer IP: whether it is marked is decided there"),
    (r"KUBE-(6-)?EXTERNAL-IP(-LOCAL)? dst,dst -j KUBE-MARK-MASQ", "an external IP: marked"),
    (r"dst,dst .*-j ACCEPT", "a Service's: nothing more in this table, IPVS has it next"),
    (r"NOTE: this must be the last rule|--dst-type LOCAL -j KUBE-NODE-?PORT",
     "an address of the node, and no Service's: it may be a node port"),
    (r"-LOCAL\S* \S+ -j RETURN", "policy Local keeps the client's address: not marked"),
    (r"KUBE-(6-)?NODE-PORT-\S+ \S+ -j KUBE-MARK-MASQ", "a node port: marked"),
    (r"^-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ", "whoever comes so far: marked"),
    (r"^-A KUBE-MARK-MASQ ", "the mark that asks for masquerading"),
    (r"KUBE-(6-)?LOOP-BACK .*MASQUERADE|@hairpin-connections ",
     "an endpoint that reaches itself gets the address of the link"),
    (r"-m mark ! --mark \S+ -j RETURN", "who is not marked keeps the address"),
    (r"^-A KUBE-POSTROUTING -j MARK", "the mark has done its work, and is taken off"),
    (r"-j MASQUERADE|meta mark & .* masquerade",
     "who is marked gets the address of the link that it leaves by"),
    (r"--ctstate INVALID .*DROP", "out of connection tracking's window: dropped, for it would "
     "reach the client as it is"),
    (r"-m mark --mark \S+ -j ACCEPT", "who is marked may pass"),
    (r"RELATED,ESTABLISHED -j ACCEPT", "and so may what belongs to an open connection"),
    (r"^-A KUBE-FIREWALL ", "nobody from elsewhere reaches the node's loopback"),
    (r"^-A KUBE-IPVS-FILTER .*-j RETURN", "a Service's address and port: let in"),
    (r"^-A KUBE-IPVS-FILTER .*-j REJECT", "any other port of a Service's address: refused"),
    (r"HEALTH-CHECK-NODE-PORT dst -j ACCEPT", "load balancers ask there whether it has endpoints"),
    (r"-j KUBE-SOURCE-RANGES-FIREWALL", "a load balancer IP that only some may use"),
    (r"^-A KUBE-SOURCE-RANGES-FIREWALL .*-j RETURN", "these may"),
    (r"^-A KUBE-SOURCE-RANGES-FIREWALL -j DROP", "and nobody else"),
    (r"^-A KUBE-IPVS-OUT-FILTER ", "the node itself may not use that load balancer IP"),
    (r"@cluster-ips .*\"masquerade clusterIP traffic",
     "a ClusterIP asked by who is none of the Pods: marked"),
    (r"vmap @service-ips", "a Service's address and port: on to its chain"),
    (r"vmap @service-nodeports", "the node's address and a node port: on to its Service's chain"),
    (r"vmap @firewall-ips", "an address that only some may use: on to the Service's firewall"),
    (r"vmap @no-endpoint-", "nobody serves it: refused or dropped"),
    (r"@cluster-ips reject", "any other port of a ClusterIP is refused"),
    (r"Drop traffic to unallocated", "an address of the Service network that no Service has"),
    (r"^reject$", "refused"),
    (r"^comment ", "what kube-proxy says of it"),
    (r"jump services$", "what is for a Service is looked up there"),
    (r"jump masquerading$", "whose address is changed is decided there"),
    (r"jump \S+-check$", "only a connection's first packet is asked"),
)  # fmt: skip
"""What a rule of the frame does, by a pattern in it; the first that fits."""


def lines(thing: Object, why: str) -> Iterator[Said]:
    """Of an object that no Service owns; ``why`` it is there.  Nothing of what is not shown."""
    match thing:
        case Sysctl(name=name, value=value):
            yield "sysctl", f"{name} = {value}", why
        case Link(name=name, type=kind):
            yield "ip", f"link add {name} type {kind}", why
        case Jump(family=family, table=table, chain=chain):
            said = _HOOKS[chain.lower()]
            yield iptables_tool(family, table), iptables.line(chain, thing.spec), said
        case Chain(family=family, table=table, name=name, rules=rules):
            for rule in rules:
                text = iptables.line(name, rule)
                yield iptables_tool(family, table), text, reason(text, why)
        case DispatchChain(family=family, table=table, name=name, last=last):
            for text in last:
                whole = f"-A {name} {text}"
                yield iptables_tool(family, table), whole, reason(whole, why)


def reason(rule: str, why: str) -> str:
    """What a rule does; ``why`` where no pattern says."""
    for pattern, said in _RULES:
        if found := re.search(pattern, rule):
            return said or _HOOKS[found[1]]
    return why


def iptables_tool(family: str, table: str) -> str:
    """``ip6tables -t nat``."""
    return f"{'ip6tables' if family == 'ip6' else 'iptables'} -t {table}"
