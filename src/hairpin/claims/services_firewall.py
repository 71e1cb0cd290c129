"""Services on a node with a firewall of its own, which drops what it does not know.

Which chain a Service's packets pass depends on the mode: IPVS takes them in as the node's own
(INPUT), the other modes send them on (FORWARD).  What kube-proxy accepts there for others differs
too: nftables cannot accept a packet that another table drops.  The firewall of these claims holds
for one client alone, as other claims go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hairpin.claims.base import Text
from hairpin.claims.objects import N1, cluster_ip, node_port, pod, web
from hairpin.claims.promises import (
    BY_FIRST_NODE,
    TIMEOUT,
    Answered,
    Apply,
    Difference,
    Do,
    Expect,
    Finding,
    From,
    Promise,
    To,
    Try,
)
from hairpin.claims.scene import Scene
from hairpin.claims.topics import Mode

Chain = Literal["INPUT", "FORWARD"]

_VARIANT = """
for ipt in iptables-nft iptables-legacy iptables; do
  $ipt -S FORWARD 2>/dev/null | grep -q cni0 && break
done
"""
"""The iptables in whose FORWARD chain the node accepts its Pods' traffic, as CNI plugins do."""
_PUT: Mapping[Chain, str] = {
    "INPUT": "$ipt -A INPUT -s {ip} -j DROP",
    "FORWARD": "n=$($ipt -S FORWARD | grep ^-A | grep -n cni0 | head -1 | cut -d: -f1)\n"
    "for end in -s -d; do $ipt -I FORWARD ${{n:-1}} $end {ip} -j DROP; done",
}
"""After kube-proxy's own rules; in FORWARD before those of the CNI plugin, which are not there on
a node that needs kube-proxy's."""
_TAKE: Mapping[Chain, str] = {
    "INPUT": "$ipt -D INPUT -s {ip} -j DROP",
    "FORWARD": "for end in -s -d; do $ipt -D FORWARD $end {ip} -j DROP; done",
}

_POD = pod("n1-b")
_FAR = Answered(by=("n2-a",))
_HEALTH = To(kind="health-check")
_LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local"}


def _differs(expect: Expect, reason: Text, source: str, topic: str) -> Difference:
    return Difference(expect=expect, reason=reason, source=source, topic=topic)


_IN_INPUT = _differs(
    TIMEOUT,
    Text(
        "the Service's address is one of the node's own, on kube-ipvs0: its packets pass INPUT, "
        "where no rule of kube-proxy accepts them",
        "Service 的地址属于节点 (在 kube-ipvs0 上): 报文经过 INPUT, kube-proxy 不在那里放行",
    ),
    "k/k#98465, k/k#132689",
    "firewall-input",
)
_NOT_IN_FORWARD = _differs(
    _FAR,
    Text(
        "what IPVS sends to an endpoint passes OUTPUT, not FORWARD, and the answers belong to a "
        "connection that is there, which KUBE-FORWARD accepts",
        "IPVS 发往端点的报文经过 OUTPUT 而不是 FORWARD; 回答属于已有连接, KUBE-FORWARD 放行",
    ),
    "k/k#59656; net/netfilter/ipvs/ip_vs_xmit.c, ip_vs_nat_xmit",
    "firewall-forward-pods",
)
_NOT_ACCEPTED = _differs(
    TIMEOUT,
    Text(
        "kube-proxy's table accepts nothing for others: what an nftables chain accepts, another "
        "one at the same hook still drops",
        "kube-proxy 的表不替别人放行: 一条链接受的报文, 同一钩子上的另一条链仍可丢弃",
    ),
    "KEP-3866; docs: Migrating from iptables mode to nftables",
    "firewall-forward-outside",
)
_NOT_OPENED = _differs(
    TIMEOUT,
    Text(
        "kube-proxy does not open the node's firewall for health checks: in nftables it could not",
        "kube-proxy 不为健康检查打开节点防火墙: nftables 中也做不到",
    ),
    "KEP-3866; docs: Migrating from iptables mode to nftables",
    "firewall-health-check",
)


def _address(scene: Scene, who: From) -> str:
    return str(scene.cast.pod_ip(who.name, 4) if who.kind == "pod" else scene.cast.via)


def _behind(chain: Chain, one: Try) -> Do:
    """The connections of a client that the first node's firewall does not know."""

    def call(scene: Scene) -> Finding:
        ip = _address(scene, one.client)
        scene.run(N1, "sh", "-ec", _VARIANT + _PUT[chain].format(ip=ip))
        try:
            return scene.finding(one)
        finally:
            scene.run(N1, "sh", "-ec", _VARIANT + _TAKE[chain].format(ip=ip))

    return Do(call, one.differs)


def _try(
    client: From, to: To, expect: Expect, differs: Mapping[Mode, Difference], **more: Any
) -> Try:
    return Try(client=client, to=to, expect=expect, differs=differs, **more)


CLAIMS = (
    Promise(
        alone=True,
        id="services.firewall.input",
        says=Text(
            "a firewall of the node that drops what comes in (INPUT) is not in the way of Services",
            "节点防火墙丢弃进入节点的报文 (INPUT), 不妨碍 Service",
        ),
        source="k/k#98465; pkg/proxy/iptables/proxier.go: Services are translated in PREROUTING",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n2-a", type="NodePort")),
            _behind("INPUT", _try(_POD, cluster_ip(), _FAR, {"ipvs": _IN_INPUT})),
            _behind("INPUT", _try(BY_FIRST_NODE, node_port(), _FAR, {"ipvs": _IN_INPUT})),
        ),
    ),
    Promise(
        alone=True,
        id="services.firewall.forward",
        says=Text(
            "a Pod's connection to a ClusterIP needs a firewall that forwards Pods' traffic",
            "Pod 到 ClusterIP 的连接要求防火墙转发 Pod 流量",
        ),
        source="k/k#39823, k/k#59656; pkg/proxy/iptables/proxier.go, KUBE-FORWARD",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n2-a")),
            _behind("FORWARD", _try(_POD, cluster_ip(), TIMEOUT, {"ipvs": _NOT_IN_FORWARD})),
        ),
    ),
    Promise(
        alone=True,
        id="services.firewall.forward-node-port",
        says=Text(
            "what is masqueraded to an endpoint of another node is forwarded whatever the firewall "
            "says",
            "被伪装后发往其他节点端点的报文, 无论防火墙如何都会转发",
        ),
        source="k/k#39823; pkg/proxy/iptables/proxier.go, KUBE-FORWARD",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n2-a", type="NodePort")),
            _behind("FORWARD", _try(BY_FIRST_NODE, node_port(), _FAR, {"nftables": _NOT_ACCEPTED})),
        ),
    ),
    Promise(
        alone=True,
        id="services.firewall.health-check",
        says=Text(
            "health checks reach a node whose firewall drops what comes in",
            "防火墙丢弃进入的报文时, 健康检查仍能到达节点",
        ),
        source="k/k#97225; pkg/proxy/iptables/proxier.go, KUBE-NODEPORTS",
        needs=frozenset({"health"}),
        steps=(
            Apply(web("n1-a", type="LoadBalancer", **_LOCAL)),
            _behind(
                "INPUT",
                _try(
                    BY_FIRST_NODE,
                    _HEALTH,
                    Answered(status=200),
                    {"nftables": _NOT_OPENED},
                    path="/healthz",
                    within=2.0,
                ),
            ),
        ),
    ),
)
