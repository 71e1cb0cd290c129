"""The chains of one ServicePort in iptables mode, all in the table nat.

A packet that was led to KUBE-SVC- or KUBE-SVL- goes on to one endpoint's KUBE-SEP- by chance, or to
the one that its client had before; there it gets its new destination.  What comes from outside goes
through KUBE-EXT- first, and through KUBE-FW- before that where source ranges say who may come
(pkg/proxy/iptables/proxier.go of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Sequence

from hairpin.plan import iptables_names as names
from hairpin.plan.endpoints import Endpoint, endpoint_text
from hairpin.plan.iptables_names import hashed, probability
from hairpin.plan.iptables_port import Port

_WHY_CLUSTER = "one of the endpoints for policy Cluster, by chance"
_WHY_LOCAL = "one of the endpoints on this node, for policy Local, by chance"
_WHY_EXTERNAL = "what comes from outside: masqueraded, as the endpoint may be on another node"
_WHY_EXTERNAL_LOCAL = "what comes from outside keeps its address: externalTrafficPolicy Local"
_WHY_RANGES = "spec.loadBalancerSourceRanges: who may use its load balancer IPs"
_WHY_ENDPOINT = "an endpoint: the new destination; masqueraded where it reaches itself"


def chains_of(port: Port) -> None:
    """All chains that a ServicePort with endpoints has, each after those that it leads to."""
    _endpoints(port)
    if port.planned.external:
        _external(port)
    if port.guarded:
        _guard(port)


def _endpoints(port: Port) -> None:
    asked = port.planned
    usable = asked.usable
    texts = {id(each): endpoint_text(each) for each in asked.known}
    head = port.text + port.protocol
    chains: dict[int, tuple[str, str]] = {}
    for each in asked.reachable:
        text = texts[id(each)]
        chain = f"KUBE-SEP-{hashed(head + text)}"
        chains[id(each)] = (text, chain)
        _endpoint(port, each, text, chain)
    inner = port.svl if asked.internal_local else port.svc
    for chain, which, why in (
        (port.svc, usable.cluster, _WHY_CLUSTER),
        (port.svl, usable.local, _WHY_LOCAL),
    ):
        if which:
            first = _masquerade(port) if chain == inner and port.inside else []
            rules = first + _choice(port, [chains[id(each)] for each in which])
            port.chain(chain, rules, why)


def _endpoint(port: Port, endpoint: Endpoint, text: str, chain: str) -> None:
    asked = port.planned
    ip = text.rpartition(":")[0].strip("[]")
    says = "" if port.context.crowded else f' -m comment --comment "{port.text}"'
    affinity = ""
    if asked.affinity:
        affinity = f" -m recent --set --name {chain} --mask {_mask(asked.version)} --rsource"
    loops = f"-s {ip}/{endpoint.ip.max_prefixlen}{says} -j {names.MARK_MASQ}"
    leads = f"-p {port.protocol}{says}{affinity} -m {port.protocol} -j DNAT --to-destination"
    port.chain(chain, [loops, f"{leads} {text}"], _WHY_ENDPOINT)


def _masquerade(port: Port) -> list[str]:
    """Who comes from elsewhere than this node's Pods, on the way to the ClusterIP."""
    context, asked = port.context, port.planned
    ip = asked.cluster_ip
    to = f"-d {ip}/{ip.max_prefixlen}"
    if context.masquerade_all:
        who = to
    elif not context.not_local:
        return []
    else:
        words = " ".join(context.not_local)
        who = f"{words} {to}" if "-s" in context.not_local else f"{to} {words}"
    protocol = port.protocol
    says = f'-m comment --comment "{port.text} cluster IP"'
    match = f"-p {protocol} {says} -m {protocol} --dport {asked.port}"
    return [f"{who} {match} -j {names.MARK_MASQ}"]


def _choice(port: Port, chains: Sequence[tuple[str, str]]) -> list[str]:
    """To the endpoint that the client had before, else to one by chance: texts and chains."""
    asked = port.planned
    says = [("", chain) for _, chain in chains]
    if not port.context.crowded:
        comment = f'-m comment --comment "{port.text} -> '
        says = [(f'{comment}{text}" ', chain) for text, chain in chains]
    rules: list[str] = []
    if asked.affinity:
        mask = _mask(asked.version)
        rules = [
            f"{said}-m recent --rcheck --seconds {asked.affinity} --reap --name {chain}"
            f" --mask {mask} --rsource -j {chain}"
            for said, chain in says
        ]
    left = len(says)
    for said, chain in says:
        chance = ""
        if left > 1:
            chance = f"-m statistic --mode random --probability {probability(left)} "
        rules.append(f"{said}{chance}-j {chain}")
        left -= 1
    return rules


def _external(port: Port) -> None:
    """What all frontends but the ClusterIP lead to."""
    asked, text = port.planned, port.text
    rules: list[str] = []
    if asked.external_local:
        if port.context.local:
            says = f'-m comment --comment "pod traffic for {text} external destinations"'
            rules.append(f"{' '.join(port.context.local)} {says} -j {port.svc}")
        for verb, target in (("masquerade", names.MARK_MASQ), ("route", port.svc)):
            says = f'-m comment --comment "{verb} LOCAL traffic for {text} external destinations"'
            rules.append(f"{says} -m addrtype --src-type LOCAL -j {target}")
    else:
        says = f'-m comment --comment "masquerade traffic for {text} external destinations"'
        rules.append(f"{says} -j {names.MARK_MASQ}")
    if port.outside:
        rules.append(f"-j {port.svl if asked.external_local else port.svc}")
    port.chain(port.ext, rules, _WHY_EXTERNAL_LOCAL if asked.external_local else _WHY_EXTERNAL)


def _guard(port: Port) -> None:
    """Who may use the load balancer IPs; what comes to the end keeps its destination, and is
    dropped for that in the table filter."""
    asked, text = port.planned, port.text
    rest = f'-m comment --comment "{text} loadbalancer IP" -j {port.ext}'
    rules = [f"-s {one} {rest}" for one in asked.source_ranges]
    if any(port.context.node_ip in one for one in asked.source_ranges):
        # The node's own connections have the address itself for their source.
        rules += [
            f"-s {one.ip}/{one.ip.max_prefixlen} {rest}"
            for one in asked.frontends
            if one.kind == "LoadBalancer" and one.ip is not None
        ]
    says = f"other traffic to {text} will be dropped by {names.PROXY_FIREWALL}"
    rules.append(f'-m comment --comment "{says}"')
    port.chain(port.fw, rules, _WHY_RANGES)


def _mask(version: int) -> str:
    return "255.255.255.255" if version == 4 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
