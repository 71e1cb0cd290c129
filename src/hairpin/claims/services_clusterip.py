"""ClusterIPs: who answers there, on which ports and protocols, and what does not."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.cast import OTHER_PORT, PORT
from hairpin.claims.objects import (
    CLIENT,
    HTTP,
    N1,
    SCTP,
    SELECTOR,
    UDP,
    backends,
    cluster_ip,
    host_backends,
    own_pod,
    pod,
    service,
    web,
)
from hairpin.claims.promises import (
    Answered,
    Apply,
    Promise,
    To,
    Try,
)

_BOTH = Answered(by=("n1-a", "n2-a"), sees="kept")
_TWO_PORTS = (("http", "TCP", 80, PORT), ("alt", "TCP", 81, OTHER_PORT))

# SCTP from a node: an INIT names all its addresses, 8 bytes each, those of kube-ipvs0 among them.
# From some 180 Services on it does not fit the bridge (MTU 1500) any more; the first connection is
# lost by that, and the kernel knows better for the next (seen on Linux 6.1).

CLAIMS = (
    Promise(
        id="services.clusterip.basic",
        says=Text(
            "a Service with a selector leads to all its ready Pods",
            "带选择器的 Service 通向它的所有就绪 Pod",
        ),
        source="e2e Services: should serve a basic endpoint from pods [Conformance]",
        steps=(
            Apply((service(selector=SELECTOR), own_pod("one"), own_pod("two", node="n2"))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("one", "two"))),
            Try(client=N1, to=cluster_ip(), expect=Answered(by=("one", "two"))),
        ),
    ),
    Promise(
        id="services.clusterip.endpoints-by-hand",
        says=Text(
            "a Service without a selector leads to the endpoints of its EndpointSlices",
            "没有选择器的 Service 通向其 EndpointSlice 中的端点",
        ),
        source="docs: Services without selectors",
        steps=(
            Apply(web("n1-a", "n2-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_BOTH),
        ),
    ),
    Promise(
        id="services.clusterip.multiport",
        says=Text(
            "each port of a Service leads to its own port of the Pods",
            "Service 的每个端口通向 Pod 各自的端口",
        ),
        source="e2e Services: should serve multiport endpoints from pods [Conformance]",
        steps=(
            Apply(web("n1-a", "n2-a", ports=_TWO_PORTS)),
            Try(
                client=CLIENT,
                to=cluster_ip(port="http"),
                expect=Answered(by=(f"n1-a:{PORT}", f"n2-a:{PORT}")),
                label="port http",
            ),
            Try(
                client=CLIENT,
                to=cluster_ip(port="alt"),
                expect=Answered(by=(f"n1-a:{OTHER_PORT}", f"n2-a:{OTHER_PORT}")),
                label="port alt",
            ),
        ),
    ),
    Promise(
        id="services.clusterip.same-port-protocols",
        says=Text(
            "one port number serves TCP and UDP side by side",
            "同一端口号可同时提供 TCP 和 UDP",
        ),
        source="e2e Services: should serve endpoints on same port and different protocols "
        "[Conformance]",
        steps=(
            Apply(
                web(
                    "n1-a",
                    ports=(("tcp", "TCP", 80, PORT), ("udp", "UDP", 80, OTHER_PORT)),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(port="tcp"), expect=Answered(by=(f"n1-a:{PORT}",))),
            Try(
                client=CLIENT,
                to=cluster_ip(port="udp"),
                protocol="UDP",
                expect=Answered(by=(f"n1-a:{OTHER_PORT}",)),
            ),
        ),
    ),
    Promise(
        id="services.clusterip.udp",
        says=Text("UDP Services answer Pods and nodes", "UDP Service 回答 Pod 和节点"),
        source="e2e Networking: should function for pod-Service: udp, for node-Service: udp",
        steps=(
            Apply(web("n1-a", "n2-a", ports=(UDP,))),
            Try(client=CLIENT, to=cluster_ip(), protocol="UDP", expect=_BOTH),
            Try(
                client=N1,
                to=cluster_ip(),
                protocol="UDP",
                expect=Answered(by=("n1-a", "n2-a"), sees="node"),
            ),
        ),
    ),
    Promise(
        id="services.clusterip.sctp",
        says=Text("SCTP Services answer Pods and nodes", "SCTP Service 回答 Pod 和节点"),
        source="e2e Services: should serve a basic SCTP service; Networking: pod-Service: sctp",
        needs=frozenset({"sctp"}),
        steps=(
            Apply(web("n1-a", "n2-a", ports=(SCTP,))),
            Try(
                client=CLIENT,
                to=cluster_ip(),
                protocol="SCTP",
                expect=Answered(by=("n1-a", "n2-a")),
            ),
            Try(
                client=N1,
                to=cluster_ip(),
                protocol="SCTP",
                expect=Answered(by=("n1-a", "n2-a")),
                within=5.0,  # as the first may be lost, see above
            ),
        ),
    ),
    Promise(
        id="services.clusterip.named-target-port",
        says=Text(
            "a named targetPort may be another number on each Pod",
            "具名 targetPort 在各 Pod 上可以是不同的端口号",
        ),
        source="e2e Services: named targetPorts that resolve to different ports on different "
        "endpoints",
        steps=(
            Apply(
                (
                    service(ports=(("", "TCP", 80, "http"),), selector=SELECTOR),
                    own_pod("one", ports=(("http", "TCP", 7001),)),
                    own_pod("two", ports=(("http", "TCP", 7002),)),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("one:7001", "two:7002"))),
        ),
    ),
    Promise(
        id="services.clusterip.source-kept",
        says=Text(
            "a Pod is seen by its own address through a ClusterIP, on its node and on another",
            "经 ClusterIP 访问时, 本节点与其他节点上的服务端看到的都是 Pod 自己的地址",
        ),
        source="e2e Services: should preserve source pod IP for traffic thru service cluster IP",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", "n2-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_BOTH),
            Try(client=pod("n3-a"), to=cluster_ip(), expect=_BOTH),
        ),
    ),
    Promise(
        id="services.clusterip.hairpin",
        says=Text(
            "a Pod reaches itself through its own Service, and sees the node's address then",
            "Pod 能经自己的 Service 访问自己, 此时看到的是节点的地址",
        ),
        source="e2e Services: should allow pods to hairpin back to themselves through services",
        steps=(
            Apply(web("n1-a", ports=(("tcp", "TCP", 80, PORT), ("udp", "UDP", 80, PORT)))),
            Try(client=pod("n1-a"), to=cluster_ip(), expect=Answered(by=("n1-a",), sees="node")),
            Try(
                client=pod("n1-a"),
                to=cluster_ip(port="udp"),
                protocol="UDP",
                expect=Answered(by=("n1-a",), sees="node"),
            ),
        ),
    ),
    Promise(
        id="services.clusterip.hairpin-among-others",
        says=Text(
            "of several endpoints, a Pod that is one reaches itself and the others",
            "作为多个端点之一的 Pod 能访问自己和其他端点",
        ),
        source="k/k#20475, docs: debug Services, a Pod fails to reach itself",
        steps=(
            Apply(web("n1-a", "n1-b", "n2-a")),
            Try(client=pod("n1-a"), to=cluster_ip(), expect=Answered(by=("n1-a", "n1-b", "n2-a"))),
        ),
    ),
    Promise(
        id="services.clusterip.from-node",
        says=Text(
            "a node reaches ClusterIPs, masqueraded",
            "节点能访问 ClusterIP, 源地址被伪装",
        ),
        source="e2e Networking: should function for node-Service: http; k/k#65158",
        steps=(
            Apply(web("n1-a", "n2-a")),
            Try(client=N1, to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"), sees="node")),
        ),
    ),
    Promise(
        id="services.clusterip.from-endpoint",
        says=Text(
            "endpoints of one Service reach another Service with the same endpoints",
            "一个 Service 的端点能访问端点相同的另一个 Service",
        ),
        source="e2e Networking: should function for endpoint-Service: http, for multiple "
        "endpoint-Services with same selector",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(
                (
                    *web("n1-a", "n2-a"),
                    service("other"),
                    backends("n1-a", "n2-a", service="other"),
                )
            ),
            Try(
                client=pod("n1-a"),
                to=cluster_ip("other"),
                expect=Answered(by=("n1-a", "n2-a")),
            ),
            Try(client=pod("n2-a"), to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"))),
        ),
    ),
    Promise(
        id="services.clusterip.hostnetwork-endpoint",
        says=Text(
            "Pods in their node's network are endpoints like others",
            "使用节点网络的 Pod 同样可以作为端点",
        ),
        source="e2e Networking: should function for service endpoints using hostNetwork",
        needs=frozenset({"hostnetwork"}),
        steps=(
            Apply((service(), host_backends("n1-host", "n2-host"))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-host", "n2-host"))),
            Try(client=N1, to=cluster_ip(), expect=Answered(by=("n1-host", "n2-host"))),
        ),
    ),
    Promise(
        id="services.clusterip.pod-without-snat",
        says=Text(
            "Pods reach each other directly without NAT",
            "Pod 之间直接通信, 不经过 NAT",
        ),
        source="e2e NoSNAT: should be able to send traffic between Pods without SNAT",
        needs=frozenset({"nodes"}),
        steps=(
            Apply((service(),)),
            Try(
                client=CLIENT,
                to=To(kind="pod", pod="n1-a"),
                expect=Answered(by=("n1-a",), sees="kept"),
            ),
            Try(
                client=CLIENT,
                to=To(kind="pod", pod="n2-a"),
                expect=Answered(by=("n2-a",), sees="kept"),
            ),
        ),
    ),
    Promise(
        id="services.clusterip.two-services-one-port-each",
        says=Text(
            "Services do not mix up their endpoints",
            "不同 Service 的端点互不混淆",
        ),
        source="e2e Services: should be able to up and down services",
        steps=(
            Apply(
                (
                    *web("n1-a"),
                    service("other", (HTTP,)),
                    backends("n2-a", service="other"),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), times=6, expect=Answered(by=("n1-a",))),
            Try(client=CLIENT, to=cluster_ip("other"), times=6, expect=Answered(by=("n2-a",))),
        ),
    ),
)
