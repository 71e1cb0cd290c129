"""One ServicePort in iptables mode: its chains, and the rules that lead to them.

All rules are lines as iptables-save prints them.  A packet to a frontend is led from KUBE-SERVICES
or KUBE-NODEPORTS (nat) to KUBE-SVC- or, under policy Local, KUBE-SVL-, by way of KUBE-EXT- for what
comes from outside and KUBE-FW- where source ranges say who may come; these choose an endpoint's
KUBE-SEP- by chance, where the packet gets its new destination.  What has no endpoint is rejected or
dropped in the table filter (pkg/proxy/iptables/proxier.go of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hairpin.model.address import IP
from hairpin.plan import iptables_names as names
from hairpin.plan.endpoints import Endpoint
from hairpin.plan.frontends import Frontend, PlannedPort, endpoint_text
from hairpin.plan.iptables_names import hashed, probability
from hairpin.plan.owner import of_port
from hairpin.state.change import Object, Wanted
from hairpin.state.netfilter import DispatchRule, Family, ServiceChain, Table

_WHERE = {
    "ClusterIP": ("cluster IP", "its ClusterIP and port"),
    "ExternalIP": ("external IP", "an external IP and its port"),
    "LoadBalancer": ("loadbalancer IP", "a load balancer IP and its port"),
}
"""By the frontend's kind: kube-proxy's words in the comment, and why there is such a rule."""

_WHY_NODE_PORT = "its node port, at every address for NodePorts"
_WHY_LOCALHOST = "its node port on localhost, which is counted"
_WHY_NONE = "no endpoint can be used: connections are refused"
_WHY_NONE_HERE = "policy Local, and no endpoint on this node: packets are dropped"
_WHY_FIREWALL = "drops clients outside spec.loadBalancerSourceRanges"
_WHY_HEALTH = "load balancers ask there whether this node has endpoints"
_WHY_CLUSTER = "one of the endpoints for policy Cluster, by chance"
_WHY_LOCAL = "one of the endpoints on this node, for policy Local, by chance"
_WHY_EXTERNAL = "what comes from outside: masqueraded, as the endpoint may be on another node"
_WHY_EXTERNAL_LOCAL = "what comes from outside keeps its address: externalTrafficPolicy Local"
_WHY_RANGES = "spec.loadBalancerSourceRanges: who may use its load balancer IPs"
_WHY_ENDPOINT = "an endpoint: the new destination; masqueraded where it reaches itself"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all ServicePorts of one IP version.

    ``not_local`` and ``local`` match packets by whether they are from the node's Pods; empty where
    that is not known.  ``localhost`` counts NodePorts on localhost apart.  ``crowded`` leaves out
    the comments of rules about endpoints, as kube-proxy does above 1000 of them.
    """

    netns: str
    family: Family
    node_ip: IP
    masquerade_all: bool = False
    not_local: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    localhost: bool = False
    crowded: bool = False


def rules_of(context: Context, port: PlannedPort) -> list[Wanted]:
    """All that a ServicePort asks in one IP version: what leads to its chains comes last."""
    return _Port(context, port).wanted()


class _Port:
    """One ServicePort on its way into rules."""

    def __init__(self, context: Context, port: PlannedPort) -> None:
        self.context = context
        self.port = port
        name = port.name
        self.text = f"{name.namespace}/{name.name}:{name.port}" if name.port else str(name)
        self.protocol = name.protocol.lower()
        digest = hashed(self.text + self.protocol)
        self.svc, self.svl = f"KUBE-SVC-{digest}", f"KUBE-SVL-{digest}"
        self.ext, self.fw = f"KUBE-EXT-{digest}", f"KUBE-FW-{digest}"
        self.owner = of_port((name.namespace, name.name), name.port)
        self.found: list[Wanted] = []
        self.any = port.has_any
        self.inside = self.any and bool(port.usable.local if port.internal_local else True)
        self.outside = self.any and bool(port.usable.local if port.external_local else True)
        balanced = any(one.kind == "LoadBalancer" for one in port.frontends)
        self.guarded = self.any and balanced and bool(port.source_ranges)

    def wanted(self) -> list[Wanted]:
        if self.any:
            self._endpoints()
            if self.port.external:
                self._external()
            if self.guarded:
                self._guard()
        for one in self.port.frontends:
            self._frontend(one)
        if number := self.port.health_port:
            rule = f'-p tcp -m comment --comment "{self.text} health check node port"'
            rule = f"{rule} -m tcp --dport {number} -j ACCEPT"
            self._rule("filter", names.NODE_PORTS, rule, "", _WHY_HEALTH)
        return self.found

    def _endpoints(self) -> None:
        port = self.port
        usable = port.usable
        texts = {id(each): endpoint_text(each) for each in port.known}
        head = self.text + self.protocol
        chains: dict[int, tuple[str, str]] = {}
        for each in port.reachable:
            text = texts[id(each)]
            chain = f"KUBE-SEP-{hashed(head + text)}"
            chains[id(each)] = (text, chain)
            self._endpoint(each, text, chain)
        inner = self.svl if port.internal_local else self.svc
        for chain, which, why in (
            (self.svc, usable.cluster, _WHY_CLUSTER),
            (self.svl, usable.local, _WHY_LOCAL),
        ):
            if which:
                first = self._masquerade() if chain == inner and self.inside else []
                rules = first + self._choice([chains[id(each)] for each in which])
                self._chain(chain, rules, why)

    def _endpoint(self, endpoint: Endpoint, text: str, chain: str) -> None:
        port = self.port
        ip = text.rpartition(":")[0].strip("[]")
        says = "" if self.context.crowded else f' -m comment --comment "{self.text}"'
        affinity = ""
        if port.affinity:
            affinity = f" -m recent --set --name {chain} --mask {_mask(port.version)} --rsource"
        loops = f"-s {ip}/{endpoint.ip.max_prefixlen}{says} -j {names.MARK_MASQ}"
        leads = f"-p {self.protocol}{says}{affinity} -m {self.protocol} -j DNAT --to-destination"
        self._chain(chain, [loops, f"{leads} {text}"], _WHY_ENDPOINT)

    def _masquerade(self) -> list[str]:
        """Who comes from elsewhere than this node's Pods, on the way to the ClusterIP."""
        context, port = self.context, self.port
        ip = port.cluster_ip
        to = f"-d {ip}/{ip.max_prefixlen}"
        if context.masquerade_all:
            who = to
        elif not context.not_local:
            return []
        else:
            words = " ".join(context.not_local)
            who = f"{words} {to}" if "-s" in context.not_local else f"{to} {words}"
        protocol = self.protocol
        says = f'-m comment --comment "{self.text} cluster IP"'
        match = f"-p {protocol} {says} -m {protocol} --dport {port.port}"
        return [f"{who} {match} -j {names.MARK_MASQ}"]

    def _choice(self, chains: Sequence[tuple[str, str]]) -> list[str]:
        """To the endpoint that the client had before, else to one by chance: texts and chains."""
        port = self.port
        says = [("", chain) for _, chain in chains]
        if not self.context.crowded:
            comment = f'-m comment --comment "{self.text} -> '
            says = [(f'{comment}{text}" ', chain) for text, chain in chains]
        rules: list[str] = []
        if port.affinity:
            mask = _mask(port.version)
            rules = [
                f"{said}-m recent --rcheck --seconds {port.affinity} --reap --name {chain}"
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

    def _external(self) -> None:
        """What all frontends but the ClusterIP lead to."""
        port, text = self.port, self.text
        rules: list[str] = []
        if port.external_local:
            if self.context.local:
                says = f'-m comment --comment "pod traffic for {text} external destinations"'
                rules.append(f"{' '.join(self.context.local)} {says} -j {self.svc}")
            for verb, target in (("masquerade", names.MARK_MASQ), ("route", self.svc)):
                says = (
                    f'-m comment --comment "{verb} LOCAL traffic for {text} external destinations"'
                )
                rules.append(f"{says} -m addrtype --src-type LOCAL -j {target}")
        else:
            says = f'-m comment --comment "masquerade traffic for {text} external destinations"'
            rules.append(f"{says} -j {names.MARK_MASQ}")
        if self.outside:
            rules.append(f"-j {self.svl if port.external_local else self.svc}")
        self._chain(self.ext, rules, _WHY_EXTERNAL_LOCAL if port.external_local else _WHY_EXTERNAL)

    def _guard(self) -> None:
        """Who may use the load balancer IPs; what comes to the end keeps its destination, and is
        dropped for that in the table filter."""
        port, text = self.port, self.text
        rest = f'-m comment --comment "{text} loadbalancer IP" -j {self.ext}'
        rules = [f"-s {one} {rest}" for one in port.source_ranges]
        if any(self.context.node_ip in one for one in port.source_ranges):
            # The node's own connections have the address itself for their source.
            rules += [
                f"-s {one.ip}/{one.ip.max_prefixlen} {rest}"
                for one in port.frontends
                if one.kind == "LoadBalancer" and one.ip is not None
            ]
        says = f"other traffic to {text} will be dropped by {names.PROXY_FIREWALL}"
        rules.append(f'-m comment --comment "{says}"')
        self._chain(self.fw, rules, _WHY_RANGES)

    def _frontend(self, one: Frontend) -> None:
        if one.ip is None:
            self._node_port(one.port)
            return
        protocol, said = self.protocol, _WHERE[one.kind]
        to = f"-d {one.ip}/{one.ip.max_prefixlen} -p {protocol} -m comment --comment"
        port = f"-m {protocol} --dport {one.port}"
        place = f"{said[0]} {one.ip} {self.port.protocol} {one.port}"
        serves = self.inside if one.kind == "ClusterIP" else self.any
        if serves:
            target = self._target(one)
            rule = f'{to} "{self.text} {said[0]}" {port} -j {target}'
            self._rule("nat", names.SERVICES, rule, place, said[1])
        if not (self.inside if one.kind == "ClusterIP" else self.outside):
            chain = names.SERVICES if one.kind == "ClusterIP" else names.EXTERNAL_SERVICES
            reason, end, why = self._ending()
            self._rule("filter", chain, f'{to} "{self.text} {reason}" {port} {end}', place, why)
        if one.kind == "LoadBalancer" and self.guarded:
            says = f'"{self.text} traffic not accepted by {self.fw}"'
            rule = f"{to} {says} {port} -j DROP"
            self._rule("filter", names.PROXY_FIREWALL, rule, "", _WHY_FIREWALL)

    def _node_port(self, number: int) -> None:
        protocol, text = self.protocol, self.text
        place = f"node port {self.port.protocol} {number}"
        if self.any:
            to = f'-p {protocol} -m comment --comment "{text}" -m {protocol} --dport {number}'
            if self.context.localhost:
                counted = f"-m nfacct --nfacct-name  {names.LOCALHOST_ACCEPTED}"
                rule = f"-d 127.0.0.0/8 {to} {counted} -j {self.ext}"
                self._rule("nat", names.NODE_PORTS, rule, f"{place} on localhost", _WHY_LOCALHOST)
            self._rule("nat", names.NODE_PORTS, f"{to} -j {self.ext}", place, _WHY_NODE_PORT)
        if not self.outside:
            reason, end, why = self._ending()
            rule = (
                f'-p {protocol} -m comment --comment "{text} {reason}" -m addrtype'
                f" --dst-type LOCAL -m {protocol} --dport {number} {end}"
            )
            self._rule("filter", names.EXTERNAL_SERVICES, rule, place, why)

    def _target(self, one: Frontend) -> str:
        if one.kind == "ClusterIP":
            return self.svl if self.port.internal_local else self.svc
        return self.fw if one.kind == "LoadBalancer" and self.guarded else self.ext

    def _ending(self) -> tuple[str, str, str]:
        """How a frontend without endpoints ends a packet: comment, target, and why."""
        if self.any:
            return "has no local endpoints", "-j DROP", _WHY_NONE_HERE
        icmp = "icmp-port-unreachable" if self.port.version == 4 else "icmp6-port-unreachable"
        return "has no endpoints", f"-j REJECT --reject-with {icmp}", _WHY_NONE

    def _chain(self, name: str, rules: Sequence[str], why: str) -> None:
        chain = ServiceChain(table="nat", name=name, rules=tuple(rules), family=self.context.family)
        self._want(chain, why)

    def _rule(self, table: Table, chain: str, rule: str, frontend: str, why: str) -> None:
        family = self.context.family
        one = DispatchRule(table=table, chain=chain, rule=rule, frontend=frontend, family=family)
        self._want(one, why)

    def _want(self, thing: Object, why: str) -> None:
        self.found.append(Wanted(netns=self.context.netns, object=thing, owner=self.owner, why=why))


def _mask(version: int) -> str:
    return "255.255.255.255" if version == 4 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
