"""IPv6 and dual stack: the same promises in each family, and the families apart."""

from __future__ import annotations

from typing import Any

from hairpin.claims.base import Text
from hairpin.claims.cast import PORT
from hairpin.claims.objects import (
    CLIENT,
    HTTP,
    N1,
    OUTSIDE,
    SELECTOR,
    UDP,
    PortSpec,
    backends,
    cluster_ip,
    load_balancer_ip,
    node_port,
    own_pod,
    pod,
    service,
)
from hairpin.claims.promises import (
    REFUSED,
    Answered,
    Apply,
    Manifest,
    Need,
    Promise,
    Sees,
    Slice,
    Try,
)

_IPV6: frozenset[Need] = frozenset({"ipv6"})
_BOTH_FAMILIES: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack"}
_IPV6_ONLY: dict[str, Any] = {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}


def _ends(*who: str, port: PortSpec = HTTP) -> tuple[Slice, Slice]:
    ports = ((port[0], port[1], PORT),)
    return backends(*who, ports=ports, family=4), backends(*who, ports=ports, family=6)


def _dual(*who: str, port: PortSpec = HTTP, **spec: Any) -> tuple[Manifest, ...]:
    return service("web", (port,), **{**_BOTH_FAMILIES, **spec}), *_ends(*who, port=port)


def _by(*who: str, sees: Sees | None = None) -> Answered:
    return Answered(by=who, sees=sees)


CLAIMS = (
    Promise(
        id="services.dualstack.both",
        says=Text(
            "a dual stack Service answers at a ClusterIP of each family",
            "双栈 Service 在每个地址族的 ClusterIP 上回答",
        ),
        source="e2e DualStack: should create service with ipv4,v6 cluster ip; pod-Service: http",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", "n2-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_by("n1-a", "n2-a", sees="kept")),
            Try(client=CLIENT, to=cluster_ip(family=6), expect=_by("n1-a", "n2-a", sees="kept")),
        ),
    ),
    Promise(
        id="services.dualstack.ipv6",
        says=Text("a Service may be IPv6 alone", "Service 可以只用 IPv6"),
        source="e2e DualStack: should create service with ipv6 cluster ip",
        needs=_IPV6,
        steps=(
            Apply((service(**_IPV6_ONLY), backends("n1-a", "n2-a", family=6))),
            Try(client=CLIENT, to=cluster_ip(family=6), expect=_by("n1-a", "n2-a")),
        ),
    ),
    Promise(
        id="services.dualstack.ipv6-first",
        says=Text("IPv6 may be the first family", "IPv6 可以作为首个地址族"),
        source="e2e DualStack: should create service with ipv6,v4 cluster ip",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", ipFamilies=["IPv6", "IPv4"])),
            Try(client=CLIENT, to=cluster_ip(family=6), expect=_by("n1-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_by("n1-a")),
        ),
    ),
    Promise(
        id="services.dualstack.from-node",
        says=Text(
            "a node reaches IPv6 ClusterIPs, masqueraded",
            "节点能访问 IPv6 ClusterIP, 源地址被伪装",
        ),
        source="e2e DualStack: should function for node-Service: http",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", "n2-a")),
            Try(client=N1, to=cluster_ip(family=6), expect=_by("n1-a", "n2-a", sees="node")),
        ),
    ),
    Promise(
        id="services.dualstack.udp",
        says=Text("UDP over IPv6", "IPv6 上的 UDP"),
        source="e2e DualStack: should function for pod-Service: udp",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", "n2-a", port=UDP)),
            Try(
                client=CLIENT,
                to=cluster_ip(family=6),
                protocol="UDP",
                expect=_by("n1-a", "n2-a"),
            ),
        ),
    ),
    Promise(
        id="services.dualstack.hairpin",
        says=Text(
            "a Pod reaches itself through its Service over IPv6",
            "Pod 能经自己的 Service 以 IPv6 访问自己",
        ),
        source="e2e DualStack: should function for endpoint-Service: http",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a")),
            Try(client=pod("n1-a"), to=cluster_ip(family=6), expect=_by("n1-a", sees="node")),
        ),
    ),
    Promise(
        id="services.dualstack.node-port",
        says=Text(
            "a node port answers over both families",
            "节点端口在两个地址族上都回答",
        ),
        source="e2e DualStack; kube-proxy TestNodePorts (ipv6)",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", "n2-a", type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), expect=_by("n1-a", "n2-a", sees="node")),
            Try(client=OUTSIDE, to=node_port(family=6), expect=_by("n1-a", "n2-a", sees="node")),
            Try(client=CLIENT, to=node_port(family=6), expect=_by("n1-a", "n2-a", sees="node")),
        ),
    ),
    Promise(
        id="services.dualstack.source-kept",
        says=Text(
            "externalTrafficPolicy Local keeps the source over IPv6",
            "externalTrafficPolicy Local 在 IPv6 上保留源地址",
        ),
        source="kube-proxy TestExternalTrafficPolicyLocal (ipv6)",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", "n2-a", type="NodePort", externalTrafficPolicy="Local")),
            Try(client=OUTSIDE, to=node_port(family=6), expect=_by("n1-a", sees="kept")),
        ),
    ),
    Promise(
        id="services.dualstack.load-balancer",
        says=Text(
            "a load balancer IP of each family",
            "每个地址族各有一个负载均衡 IP",
        ),
        source="KEP-563; kube-proxy TestLoadBalancer",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", type="LoadBalancer")),
            Try(client=CLIENT, to=load_balancer_ip(), expect=_by("n1-a")),
            Try(client=CLIENT, to=load_balancer_ip(family=6), expect=_by("n1-a")),
        ),
    ),
    Promise(
        id="services.dualstack.families-apart",
        says=Text(
            "without endpoints of a family, that family alone refuses",
            "某一地址族没有端点时, 只有该族拒绝连接",
        ),
        source="docs: dual-stack; kube-proxy metaproxier",
        needs=_IPV6,
        steps=(
            Apply((service(**_BOTH_FAMILIES), backends("n1-a", family=4))),
            Try(client=CLIENT, to=cluster_ip(), expect=_by("n1-a")),
            Try(client=CLIENT, to=cluster_ip(family=6), expect=REFUSED),
        ),
    ),
    Promise(
        id="services.dualstack.pods",
        says=Text(
            "a selector finds Pods in both families, also when a Service becomes dual stack",
            "选择器在两个地址族中找到 Pod, 单栈改为双栈时也是如此",
        ),
        source="e2e DualStack: should be able to reach pod on ipv4 and ipv6 ip; KEP-563 upgrade",
        needs=_IPV6,
        steps=(
            Apply((service(selector=SELECTOR), own_pod("one"))),
            Try(client=CLIENT, to=cluster_ip(), expect=_by("one")),
            Apply((service(selector=SELECTOR, **_BOTH_FAMILIES),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_by("one")),
            Try(client=CLIENT, to=cluster_ip(family=6), expect=_by("one")),
        ),
    ),
    Promise(
        id="services.dualstack.affinity",
        says=Text("session affinity holds over IPv6", "会话亲和性在 IPv6 上有效"),
        source="e2e DualStack: should function for client IP based session affinity: http",
        needs=_IPV6,
        steps=(
            Apply(_dual("n1-a", "n2-a", sessionAffinity="ClientIP")),
            Try(
                client=CLIENT,
                to=cluster_ip(family=6),
                expect=Answered(by=("n1-a", "n2-a"), same=True),
            ),
        ),
    ),
)
