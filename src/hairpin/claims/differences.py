"""Differences that claims of several subjects meet; the others are where they are met."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.promises import ERROR, REFUSED, TIMEOUT, Difference

ROUTED = Difference(
    expect=TIMEOUT,
    reason=Text(
        "no rule matches a port that the Service does not have: the packet goes where the node's "
        "routes lead",
        "Service 没有的端口不匹配任何规则: 报文按节点路由发出",
    ),
    source="k/k#72236; pkg/proxy/iptables/proxier.go, KUBE-SERVICES",
    topic="cluster-ip-other-port",
)
"""In iptables mode."""

NOT_ON_THE_WAY_OUT = Difference(
    expect=TIMEOUT,
    reason=Text(
        "KUBE-EXTERNAL-SERVICES is asked in INPUT and FORWARD, not in OUTPUT: the node's own "
        "packets are not refused and go where its routes lead",
        "KUBE-EXTERNAL-SERVICES 只在 INPUT 和 FORWARD 中, 不在 OUTPUT 中: 节点自己的报文不被拒绝, "
        "按路由发出",
    ),
    source="pkg/proxy/iptables/proxier.go, iptablesJumpChains",
    topic="external-no-endpoints",
)
"""In iptables mode, from the node."""

PRIMARY_ADDRESS = Difference(
    expect=REFUSED,
    reason=Text(
        "node ports are opened on the node's primary address alone, unless nodePortAddresses says "
        "others",
        "除非设置 nodePortAddresses, 节点端口只在节点的主地址上开放",
    ),
    source="docs: nodePortAddresses; KEP-3866",
    topic="node-port-addresses",
)
"""In nftables mode."""

NO_LOCALHOST = Difference(
    expect=REFUSED,
    reason=Text(
        "127.0.0.1 is never among the addresses of node ports: route_localnet would be needed",
        "127.0.0.1 不属于节点端口的地址: 那需要 route_localnet",
    ),
    source="KEP-3866; KEP-6032; docs: Migrating from iptables mode to nftables",
    topic="localhost-node-port",
)
"""In nftables mode."""

NO_ROUTE_LOCALNET = Difference(
    expect=ERROR,
    reason=Text(
        "route_localnet is not set, and without it the kernel sends nothing from 127.0.0.1 to "
        "another address (EINVAL)",
        "没有设置 route_localnet, 内核不从 127.0.0.1 向其他地址发送 (EINVAL)",
    ),
    source="KEP-3866; pkg/proxy/iptables/proxier.go sets route_localnet",
    topic="loopback-source",
)
"""In nftables mode."""
