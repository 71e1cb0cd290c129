"""ClusterIPs as addresses: what does not answer there, how much passes, who gets how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.cast import PORT
from hairpin.claims.differences import ROUTED
from hairpin.claims.objects import (
    CLIENT,
    N1,
    OUTSIDE,
    SCTP,
    cluster_ip,
    node_port,
    service,
    web,
)
from hairpin.claims.promises import (
    ERROR,
    NOTHING,
    REFUSED,
    TIMEOUT,
    Answered,
    Apply,
    Difference,
    Do,
    Finding,
    Promise,
    To,
    Try,
    Unanswered,
)
from hairpin.claims.scene import Scene
from hairpin.claims.topics import Mode

_BOTH = Answered(by=("n1-a", "n2-a"), sees="kept")


_ROUTED: Mapping[Mode, Difference] = {"iptables": ROUTED}
_IN_TURN = Difference(
    expect=_BOTH,
    reason=Text("IPVS takes the endpoints in turn (scheduler rr)", "IPVS 按轮询 (rr) 选择端点"),
    source="docs: IPVS proxy mode, ipvs.scheduler",
    topic="spread",
)
_UNALLOCATED = To(kind="address", address="10.96.200.200", port=80)
"""Addresses are given from the lowest."""
_DROPPED = Difference(
    expect=ERROR,
    reason=Text(
        "addresses of the ServiceCIDRs that no Service has are dropped, the node's own packets on "
        "their way out (EPERM)",
        "ServiceCIDR 中没有 Service 使用的地址被丢弃, 节点自己的报文在发出时就被丢弃 (EPERM)",
    ),
    source="pkg/proxy/nftables/proxier.go, cluster-ips-check; KEP-3866",
    topic="cluster-ip-unallocated",
)


def _spread(scene: Scene) -> Finding:
    """Whether 40 connections go to both of two endpoints, at random or in turn."""
    seen = scene.connect([Try(client=CLIENT, to=cluster_ip(), expect=_BOTH, times=40)])[0]
    by = [answer.pod for one in seen if (answer := judge.answer_of(one))]
    turns = sum(one != other for one, other in pairwise(by))
    fewest = min(Counter(by).get(name, 0) for name in ("n1-a", "n2-a"))
    in_turn = len(by) == 40 and turns == 39
    ordered = scene.differs
    # By chance one of two gets less than 5 of 40 once in ten million times.
    return Finding(
        what="40 connections",
        held=in_turn if ordered else len(by) == 40 and fewest >= 5 and not in_turn,
        expected="the two endpoints in turn" if ordered else "both, in no certain order",
        seen=f"{judge.sight(seen)}; {turns} changes from one to the other",
    )


_FROM_ITSELF = Difference(
    expect=_BOTH,
    reason=Text(
        "the ClusterIP is an address of the node, on kube-ipvs0: the kernel chooses it for a "
        "connection to itself, and what the server sees is masqueraded",
        "ClusterIP 属于节点 (在 kube-ipvs0 上): 内核连接它时以它作源地址, 服务端看到伪装后的地址",
    ),
    source="k/k#65158, siderolabs/talos#8332",
    topic="node-source",
)


def _own_address(scene: Scene) -> Finding:
    """Which address a program of the node has at its end of a connection to the Service."""
    cluster, _ = scene.targets.resolve(cluster_ip())
    seen = scene.connect([Try(client=N1, to=cluster_ip(), expect=_BOTH)])[0]
    sources = {one.source for one in seen if one.outcome == "answered"}
    itself = scene.differs
    right = sources == {str(cluster)} if itself else bool(sources) and str(cluster) not in sources
    return Finding(
        what="the node's own end of the connection",
        held=right and all(one.outcome == "answered" for one in seen),
        expected="the ClusterIP" if itself else "an address of the node",
        seen=", ".join(sorted(map(str, sources))) or judge.sight(seen),
    )


def _no_host_process(scene: Scene) -> Finding:
    """A server of the node on every address: does it answer on a ClusterIP?"""
    port = 19999
    netns = scene.cast.netns(N1)
    argv = ["python3", "-c", _LISTEN.format(port=port)]
    scene.lab.call("start", name=scene.namespace, netns=netns, argv=argv, port=port)
    own = Try(client=CLIENT, to=cluster_ip(port=port), expect=REFUSED, differs=_ROUTED)
    found = scene.findings([own])[0]
    return Finding(
        what=f"TCP {port}, on which a process of the node listens",
        held=found.held,
        expected=found.expected,
        seen=found.seen,
    )


_LISTEN = (
    "import socket, time; s = socket.create_server(('0.0.0.0', {port}))\n"
    "import threading; threading.Timer(60, lambda: __import__('os')._exit(0)).start()\n"
    "while True: s.accept()[0].sendall(b'the host')"
)

CLAIMS = (
    Promise(
        id="services.clusterip.no-endpoints",
        says=Text(
            "without endpoints a connection is refused at once, over TCP and UDP",
            "没有端点时连接立即被拒绝, TCP 和 UDP 都一样",
        ),
        source="e2e Services: should be rejected when no endpoints exist",
        steps=(
            Apply(web(ports=(("tcp", "TCP", 80, PORT), ("udp", "UDP", 80, PORT)))),
            Try(client=CLIENT, to=cluster_ip(), expect=REFUSED),
            Try(client=N1, to=cluster_ip(), expect=REFUSED),
            Try(client=CLIENT, to=cluster_ip(port="udp"), protocol="UDP", expect=REFUSED),
        ),
    ),
    Promise(
        id="services.clusterip.no-endpoints-sctp",
        says=Text(
            "over SCTP nobody answers either; Linux' own SCTP sockets pass over the refusal",
            "SCTP 同样无人回答; Linux 自己的 SCTP 套接字会忽略拒绝",
        ),
        source="kube-proxy TestNoEndpointsReject; e2e Services: should be rejected when no "
        "endpoints exist",
        needs=frozenset({"sctp"}),
        steps=(
            Apply(web(ports=(SCTP,), type="NodePort")),
            Try(client=CLIENT, to=cluster_ip(), protocol="SCTP", expect=NOTHING),
            Try(client=N1, to=cluster_ip(), protocol="SCTP", expect=NOTHING),
            Try(client=OUTSIDE, to=node_port(), protocol="SCTP", expect=NOTHING),
        ),
    ),
    Promise(
        id="services.clusterip.no-slice",
        says=Text(
            "so it is when there is no EndpointSlice at all",
            "连 EndpointSlice 都没有时也是如此",
        ),
        source="e2e EndpointSlice: should not match any Pods; kube-proxy TestNoEndpointsReject",
        steps=(
            Apply((service(),)),
            Try(client=CLIENT, to=cluster_ip(), expect=REFUSED),
            Try(client=N1, to=cluster_ip(), expect=REFUSED),
        ),
    ),
    Promise(
        id="services.clusterip.ping",
        says=Text(
            "a ClusterIP refuses pings from Pods and nodes",
            "ClusterIP 拒绝来自 Pod 和节点的 ping",
        ),
        source="docs: Cluster IPs are not expected to respond to ICMP; k/k#118887",
        steps=(
            Apply(web("n1-a")),
            Try(client=CLIENT, to=cluster_ip(), protocol="ICMP", expect=REFUSED, differs=_ROUTED),
            Try(
                client=N1,
                to=cluster_ip(),
                protocol="ICMP",
                expect=Unanswered(how=("refused", "error")),  # on its way out already: EPERM
                differs=_ROUTED,
            ),
        ),
    ),
    Promise(
        id="services.clusterip.unallocated",
        says=Text(
            "an address of the Service network that no Service has does not answer",
            "Service 网段中没有 Service 使用的地址不回答",
        ),
        source="KEP-1880; docs: ServiceCIDR",
        steps=(
            Apply(web("n1-a")),
            Try(client=CLIENT, to=_UNALLOCATED, expect=TIMEOUT),
            Try(
                client=N1,
                to=_UNALLOCATED,
                protocol="ICMP",
                expect=TIMEOUT,
                differs={"nftables": _DROPPED},
            ),
        ),
    ),
    Promise(
        id="services.clusterip.other-port",
        says=Text(
            "a port that the Service does not have is refused, even where a process of the node "
            "listens on every address",
            "Service 没有的端口被拒绝, 即使节点上有进程监听所有地址",
        ),
        source="k/k#72236, KUBE-IPVS-FILTER",
        steps=(
            Apply(web("n1-a")),
            Try(
                client=CLIENT,
                to=cluster_ip(port=4242),
                expect=REFUSED,
                differs=_ROUTED,
                label="TCP 4242",
            ),
            Do(_no_host_process, _ROUTED),
        ),
    ),
    Promise(
        id="services.clusterip.node-source",
        says=Text(
            "a program of the node that connects to a ClusterIP does so from the node's address",
            "节点上的程序以节点地址连接 ClusterIP",
        ),
        source="k/k#65158; ip(7): the route chooses the source address",
        steps=(Apply(web("n1-a", "n2-a")), Do(_own_address, {"ipvs": _FROM_ITSELF})),
    ),
    Promise(
        id="services.clusterip.large-requests",
        says=Text(
            "requests larger than a packet arrive, over TCP and UDP",
            "大于一个数据包的请求也能到达, TCP 和 UDP 都一样",
        ),
        source="e2e Networking: should support basic functionality with large requests: http, udp",
        steps=(
            Apply(web("n1-a", "n2-a", ports=(("tcp", "TCP", 80, PORT), ("udp", "UDP", 80, PORT)))),
            Try(client=CLIENT, to=cluster_ip(), size=16000, expect=_BOTH),
            Try(
                client=CLIENT,
                to=cluster_ip(port="udp"),
                protocol="UDP",
                size=8000,
                expect=_BOTH,
            ),
        ),
    ),
    Promise(
        id="services.clusterip.spread",
        says=Text(
            "new connections are spread over all endpoints, in no certain order",
            "新连接分散到所有端点, 没有固定顺序",
        ),
        source="docs: Virtual IPs and Service Proxies, iptables and nftables proxy mode",
        steps=(Apply(web("n1-a", "n2-a")), Do(_spread, {"ipvs": _IN_TURN})),
    ),
)
