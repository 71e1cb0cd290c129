"""The ipsets of IPVS mode: kube-proxy's names, types and comments (pkg/proxy/ipvs/ipset.go).

A rule in iptables looks an address and port up in a set instead of being there once a Service, so
the rules stay few and a Service that comes or goes changes entries only.
"""

from __future__ import annotations

import msgspec

from hairpin.state.ipset import MAX_NAME, IpSet, SetType

LOOP_BACK = "KUBE-LOOP-BACK"
CLUSTER_IP = "KUBE-CLUSTER-IP"
EXTERNAL_IP = "KUBE-EXTERNAL-IP"
EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP-LOCAL"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_SOURCE_IP = "KUBE-LOAD-BALANCER-SOURCE-IP"
LOAD_BALANCER_SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
NODE_PORT_TCP = "KUBE-NODE-PORT-TCP"
NODE_PORT_LOCAL_TCP = "KUBE-NODE-PORT-LOCAL-TCP"
NODE_PORT_UDP = "KUBE-NODE-PORT-UDP"
NODE_PORT_LOCAL_UDP = "KUBE-NODE-PORT-LOCAL-UDP"
NODE_PORT_SCTP = "KUBE-NODE-PORT-SCTP-HASH"
NODE_PORT_LOCAL_SCTP = "KUBE-NODE-PORT-LOCAL-SCTP-HASH"
HEALTH_CHECK = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "KUBE-IPVS-IPS"


class SetKind(msgspec.Struct, frozen=True):
    """``comment`` is that of the rules which use the set."""

    type: SetType
    comment: str
    why: str


SETS: dict[str, SetKind] = {
    LOOP_BACK: SetKind(
        "hash:ip,port,ip",
        "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
        "an endpoint of this node that reaches itself must be masqueraded",
    ),
    CLUSTER_IP: SetKind(
        "hash:ip,port",
        "Kubernetes service cluster ip + port for masquerade purpose",
        "what comes to ClusterIPs from outside the cluster is masqueraded",
    ),
    EXTERNAL_IP: SetKind(
        "hash:ip,port",
        "Kubernetes service external ip + port for masquerade and filter purpose",
        "what comes to external IPs is masqueraded",
    ),
    EXTERNAL_IP_LOCAL: SetKind(
        "hash:ip,port",
        "Kubernetes service external ip + port with externalTrafficPolicy=local",
        "external IPs under policy Local keep the client's address",
    ),
    LOAD_BALANCER: SetKind(
        "hash:ip,port",
        "Kubernetes service lb portal",
        "what comes to load balancer IPs is masqueraded",
    ),
    LOAD_BALANCER_FW: SetKind(
        "hash:ip,port",
        "Kubernetes service load balancer ip + port for load balancer with sourceRange",
        "load balancer IPs that only some clients may use",
    ),
    LOAD_BALANCER_LOCAL: SetKind(
        "hash:ip,port",
        "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
        "load balancer IPs under policy Local keep the client's address",
    ),
    LOAD_BALANCER_SOURCE_IP: SetKind(
        "hash:ip,port,ip",
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
        "load balancer IPs that this node may use, as clients with the same address",
    ),
    LOAD_BALANCER_SOURCE_CIDR: SetKind(
        "hash:ip,port,net",
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
        "which clients may use a load balancer IP",
    ),
    NODE_PORT_TCP: SetKind(
        "bitmap:port",
        "Kubernetes nodeport TCP port for masquerade purpose",
        "what comes to node ports is masqueraded",
    ),
    NODE_PORT_LOCAL_TCP: SetKind(
        "bitmap:port",
        "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
        "node ports under policy Local keep the client's address",
    ),
    NODE_PORT_UDP: SetKind(
        "bitmap:port",
        "Kubernetes nodeport UDP port for masquerade purpose",
        "what comes to node ports is masqueraded",
    ),
    NODE_PORT_LOCAL_UDP: SetKind(
        "bitmap:port",
        "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
        "node ports under policy Local keep the client's address",
    ),
    NODE_PORT_SCTP: SetKind(
        "hash:ip,port",
        "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
        "what comes to node ports is masqueraded",
    ),
    NODE_PORT_LOCAL_SCTP: SetKind(
        "hash:ip,port",
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
        "node ports under policy Local keep the client's address",
    ),
    HEALTH_CHECK: SetKind(
        "bitmap:port",
        "Kubernetes health check node port",
        "load balancers ask there whether this node has endpoints",
    ),
    IPVS_IPS: SetKind(
        "hash:ip",
        "",
        "other ports of a Service's address must not reach the node's own servers",
    ),
}
"""Every set, each once for IPv4 and once for IPv6."""

NODE_PORTS = {"TCP": NODE_PORT_TCP, "UDP": NODE_PORT_UDP, "SCTP": NODE_PORT_SCTP}
NODE_PORTS_LOCAL = {
    "TCP": NODE_PORT_LOCAL_TCP,
    "UDP": NODE_PORT_LOCAL_UDP,
    "SCTP": NODE_PORT_LOCAL_SCTP,
}


def _named(base: str, version: int) -> str:
    if version == 6:
        base = base.replace("KUBE-", "KUBE-6-", 1)
    return base[:MAX_NAME]


NAMES: dict[int, dict[str, str]] = {
    version: {base: _named(base, version) for base in SETS} for version in (4, 6)
}
"""The sets' names in the kernel, by IP version."""


def ip_sets(version: int) -> list[tuple[IpSet, str]]:
    """The sets of one IP version, each with why it is there."""
    found: list[tuple[IpSet, str]] = []
    for base, kind in SETS.items():
        name = NAMES[version][base]
        if kind.type == "bitmap:port":
            found.append((IpSet(name=name, type=kind.type, maxelem=0), kind.why))
        else:
            family = IpSet(name=name, type=kind.type, family="inet" if version == 4 else "inet6")
            found.append((family, kind.why))
    return found
