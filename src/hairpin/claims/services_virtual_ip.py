"""ClusterIPs as addresses: what does not answer there, how much passes, who gets how much."""

from __future__ import annotations

from collections import Counter

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.cast import OTHER_PORT, PORT
from hairpin.claims.objects import (
    CLIENT,
    N1,
    cluster_ip,
    service,
    web,
)
from hairpin.claims.promises import (
    NOTHING,
    REFUSED,
    Answered,
    Apply,
    Do,
    Finding,
    Promise,
    Try,
)
from hairpin.claims.scene import Scene

_BOTH = Answered(by=("n1-a", "n2-a"), sees="kept")
_TWO_PORTS = (("http", "TCP", 80, PORT), ("alt", "TCP", 81, OTHER_PORT))


def _spread(scene: Scene) -> Finding:
    """Whether 20 connections go evenly to two endpoints."""
    seen = scene.connect([Try(client=CLIENT, to=cluster_ip(), expect=_BOTH, times=20)])[0]
    counts = Counter(answer.pod for one in seen if (answer := judge.answer_of(one)))
    return Finding(
        what="20 connections",
        held=sorted(counts.values()) == [10, 10],
        expected="10 for each of two endpoints",
        seen=judge.sight(seen),
    )


def _no_host_process(scene: Scene) -> Finding:
    """A server of the node on every address: does it answer on a ClusterIP?"""
    port = 19999
    netns = scene.cast.netns(N1)
    argv = ["python3", "-c", _LISTEN.format(port=port)]
    scene.lab.call("start", name=scene.namespace, netns=netns, argv=argv, port=port)
    own = Try(client=CLIENT, to=cluster_ip(port=port), expect=REFUSED)
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
            "a ClusterIP does not answer pings from Pods",
            "ClusterIP 不回答来自 Pod 的 ping",
        ),
        source="docs: Cluster IPs are not expected to respond to ICMP; k/k#118887",
        steps=(
            Apply(web("n1-a")),
            Try(client=CLIENT, to=cluster_ip(), protocol="ICMP", expect=NOTHING),
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
            Try(client=CLIENT, to=cluster_ip(port=4242), expect=REFUSED, label="TCP 4242"),
            Do(_no_host_process),
        ),
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
        id="services.clusterip.evenly",
        says=Text(
            "new connections are spread evenly (round robin in IPVS mode)",
            "新连接被均匀分配 (IPVS 模式为轮询)",
        ),
        source="docs: IPVS proxy mode, rr is the default scheduler",
        steps=(Apply(web("n1-a", "n2-a")), Do(_spread)),
    ),
)
