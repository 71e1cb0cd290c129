"""One ServicePort in iptables mode: its chains, and the rules that lead to them.

All rules are lines as iptables-save prints them.  A packet to a frontend is led from KUBE-SERVICES
or KUBE-NODEPORTS (nat) to KUBE-SVC- or, under policy Local, KUBE-SVL-, by way of KUBE-EXT- for what
comes from outside and KUBE-FW- where source ranges say who may come; these choose an endpoint's
KUBE-SEP- by chance, where the packet gets its new destination.  What has no endpoint is rejected or
dropped in the table filter (pkg/proxy/iptables/proxier.go of Kubernetes 1.36).
"""

from __future__ import annotations

from hairpin.plan import iptables_names as names
from hairpin.plan.frontends import Frontend, PlannedPort
from hairpin.plan.iptables_chains import chains_of
from hairpin.plan.iptables_port import Context, Port
from hairpin.state.change import Wanted

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


def rules_of(context: Context, planned: PlannedPort) -> list[Wanted]:
    """All that a ServicePort asks in one IP version: what leads to its chains comes last."""
    port = Port(context, planned)
    if port.any:
        chains_of(port)
    for one in planned.frontends:
        _frontend(port, one)
    if number := planned.health_port:
        rule = f'-p tcp -m comment --comment "{port.text} health check node port"'
        rule = f"{rule} -m tcp --dport {number} -j ACCEPT"
        port.rule("filter", names.NODE_PORTS, rule, "", _WHY_HEALTH)
    return port.found


def _frontend(port: Port, one: Frontend) -> None:
    """Where the ServicePort is reached: what leads on from there, or ends there."""
    if one.ip is None:
        _node_port(port, one.port)
        return
    protocol, said = port.protocol, _WHERE[one.kind]
    to = f"-d {one.ip}/{one.ip.max_prefixlen} -p {protocol} -m comment --comment"
    match = f"-m {protocol} --dport {one.port}"
    place = f"{said[0]} {one.ip} {port.planned.protocol} {one.port}"
    serves = port.inside if one.kind == "ClusterIP" else port.any
    if serves:
        target = _target(port, one)
        rule = f'{to} "{port.text} {said[0]}" {match} -j {target}'
        port.rule("nat", names.SERVICES, rule, place, said[1])
    if not (port.inside if one.kind == "ClusterIP" else port.outside):
        chain = names.SERVICES if one.kind == "ClusterIP" else names.EXTERNAL_SERVICES
        reason, end, why = _ending(port)
        port.rule("filter", chain, f'{to} "{port.text} {reason}" {match} {end}', place, why)
    if one.kind == "LoadBalancer" and port.guarded:
        says = f'"{port.text} traffic not accepted by {port.fw}"'
        rule = f"{to} {says} {match} -j DROP"
        port.rule("filter", names.PROXY_FIREWALL, rule, "", _WHY_FIREWALL)


def _node_port(port: Port, number: int) -> None:
    protocol, text = port.protocol, port.text
    place = f"node port {port.planned.protocol} {number}"
    if port.any:
        to = f'-p {protocol} -m comment --comment "{text}" -m {protocol} --dport {number}'
        if port.context.localhost:
            counted = f"-m nfacct --nfacct-name  {names.LOCALHOST_ACCEPTED}"
            rule = f"-d 127.0.0.0/8 {to} {counted} -j {port.ext}"
            port.rule("nat", names.NODE_PORTS, rule, f"{place} on localhost", _WHY_LOCALHOST)
        port.rule("nat", names.NODE_PORTS, f"{to} -j {port.ext}", place, _WHY_NODE_PORT)
    if not port.outside:
        reason, end, why = _ending(port)
        rule = (
            f'-p {protocol} -m comment --comment "{text} {reason}" -m addrtype'
            f" --dst-type LOCAL -m {protocol} --dport {number} {end}"
        )
        port.rule("filter", names.EXTERNAL_SERVICES, rule, place, why)


def _target(port: Port, one: Frontend) -> str:
    if one.kind == "ClusterIP":
        return port.svl if port.planned.internal_local else port.svc
    return port.fw if one.kind == "LoadBalancer" and port.guarded else port.ext


def _ending(port: Port) -> tuple[str, str, str]:
    """How a frontend without endpoints ends a packet: comment, target, and why."""
    if port.any:
        return "has no local endpoints", "-j DROP", _WHY_NONE_HERE
    icmp = "icmp-port-unreachable" if port.planned.version == 4 else "icmp6-port-unreachable"
    return "has no endpoints", f"-j REJECT --reject-with {icmp}", _WHY_NONE
