"""External IPs: addresses of somebody else, whose packets reach a node."""

from __future__ import annotations

from typing import Any

import msgspec

from hairpin.claims.base import Text
from hairpin.claims.cast import HOST_PORT
from hairpin.claims.objects import (
    BOTH,
    CLIENT,
    N1,
    OUTSIDE,
    UDP,
    address,
    external_ip,
    service,
    web,
)
from hairpin.claims.promises import (
    EXTERNAL_IP,
    NOTHING,
    REFUSED,
    Answered,
    Apply,
    Difference,
    Do,
    Finding,
    Promise,
    Try,
)
from hairpin.claims.scene import Scene
from hairpin.lab.names import OUTSIDE_BRIDGE

_LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local"}
_WHO_HAS = r"""
import select, socket, sys, time
link, address = sys.argv[1:]
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
sock.bind((link, 0))
own, target = sock.getsockname()[4], socket.inet_aton(address)
# RFC 826; a sender of 0.0.0.0 is a probe that nobody has to remember (RFC 5227).
question = bytes([0, 1, 8, 0, 6, 4, 0, 1]) + own + bytes(4) + bytes(6) + target
sock.send(b"\xff" * 6 + own + b"\x08\x06" + question)
found, end = set(), time.monotonic() + 1
while (left := end - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
    frame = sock.recv(2048)
    if frame[20:22] == b"\x00\x02" and frame[28:32] == target:
        found.add(frame[22:28])
print(len(found))
"""
"""How many answer an ARP request for an address."""


def _given_up(scene: Scene) -> Finding:
    was = address(*scene.targets.resolve(external_ip()))
    scene.apply(service())
    return scene.finding(
        Try(client=CLIENT, to=was, expect=NOTHING, label="what was its external IP")
    )


_HELD_BY_ALL = Difference(
    expect=REFUSED,
    reason=Text(
        "every node puts the external IP on kube-ipvs0, also that of another node, which is out of "
        "its reach then",
        "每个节点都把外部 IP 加到 kube-ipvs0 上, 即使它是另一节点的地址, 那个节点因此不可达",
    ),
    source="k/k#104679; pkg/proxy/ipvs/proxier.go",
    topic="external-ip-of-a-node",
)


def _of_a_node(scene: Scene) -> Finding:
    """The second node's address as external IP: a port of the node itself, from another node.

    It is given up again at once, as nodes may be cut off from each other by it.
    """
    there = scene.cast.node_ip("n2", 4)
    scene.apply(service(externalIPs=[str(there)]))
    served = Try(client=CLIENT, to=address(there, 80), expect=Answered(by=("n1-a",)))
    other = Try(
        client=CLIENT,
        to=address(there, HOST_PORT),
        expect=Answered(by=("n2-host",)),
        differs={"ipvs": _HELD_BY_ALL},
        label=f"port {HOST_PORT} of that node, from a Pod of another node",
    )
    try:
        both = scene.findings([served, other])
    finally:
        scene.apply(service())
    return msgspec.structs.replace(both[1], held=all(one.held for one in both))


_EVERY_NODE = Difference(
    expect=Answered(),
    reason=Text(
        "every node has the address on kube-ipvs0, and Linux answers ARP on any link for all that "
        "it has (arp_ignore 0), unless strictARP is set",
        "每个节点的 kube-ipvs0 上都有该地址; 除非设置 strictARP, Linux 在任何链路上为自己的所有地址"
        "回答 ARP (arp_ignore 0)",
    ),
    source="metallb/metallb#153, k/k#59976; docs: MetalLB, strictARP",
    topic="arp",
)


def _who_has(scene: Scene) -> Finding:
    """How many nodes say that the external IP is theirs, asked on their own network."""
    ip, _ = scene.targets.resolve(external_ip())
    argv = ("python3", "-ISc", _WHO_HAS, OUTSIDE_BRIDGE, str(ip))
    found, all_nodes = int(scene.run(OUTSIDE, *argv)), len(scene.cast.nodes)
    wanted = all_nodes if scene.differs else 0
    return Finding(
        what="an ARP request for the external IP on the nodes' network",
        held=found == wanted,
        expected=f"{wanted} of {all_nodes} nodes answer",
        seen=f"{found} answered",
    )


CLAIMS = (
    Promise(
        id="services.external-ip.basic",
        says=Text(
            "an external IP answers Pods, nodes and, where its packets reach a node, outside",
            "外部 IP 回答 Pod, 节点, 以及数据包能到达节点的集群外客户端",
        ),
        source="e2e Services: should be possible to connect to a service via ExternalIP when the "
        "external IP is not assigned to a node",
        steps=(
            Apply(web("n1-a", "n2-a", externalIPs=[EXTERNAL_IP])),
            Try(client=OUTSIDE, to=external_ip(), expect=BOTH),
            Try(client=CLIENT, to=external_ip(), expect=BOTH),
            Try(client=N1, to=external_ip(), expect=BOTH),
        ),
    ),
    Promise(
        id="services.external-ip.udp",
        says=Text("external IPs carry UDP", "外部 IP 支持 UDP"),
        source="kube-proxy TestExternalIPs (ipvs)",
        steps=(
            Apply(web("n1-a", "n2-a", ports=(UDP,), externalIPs=[EXTERNAL_IP])),
            Try(client=OUTSIDE, to=external_ip(), protocol="UDP", expect=BOTH),
        ),
    ),
    Promise(
        id="services.external-ip.source-kept",
        says=Text(
            "with externalTrafficPolicy Local the server sees the client outside",
            "externalTrafficPolicy Local 时服务端看到集群外客户端的地址",
        ),
        source="kube-proxy TestOnlyLocalExternalIPs (ipvs)",
        steps=(
            Apply(web("n1-a", type="NodePort", externalIPs=[EXTERNAL_IP], **_LOCAL)),
            Try(client=OUTSIDE, to=external_ip(), expect=Answered(by=("n1-a",), sees="kept")),
        ),
    ),
    Promise(
        id="services.external-ip.given-up",
        says=Text(
            "an external IP that the Service no longer names does not answer",
            "Service 不再列出的外部 IP 不再回答",
        ),
        source="kube-proxy: desired state; k/k#63276",
        steps=(
            Apply(web("n1-a", externalIPs=[EXTERNAL_IP])),
            Try(client=CLIENT, to=external_ip(), expect=Answered(by=("n1-a",))),
            Do(_given_up),
        ),
    ),
    Promise(
        id="services.external-ip.arp",
        says=Text(
            "no node claims an external IP on its network: who brings its packets is another's "
            "business",
            "没有节点在网络上声称拥有外部 IP: 由别人把报文带到节点",
        ),
        source="metallb/metallb#153; docs: external IPs are not managed by Kubernetes",
        steps=(
            Apply(web("n1-a", externalIPs=[EXTERNAL_IP])),
            Try(client=CLIENT, to=external_ip(), expect=Answered(by=("n1-a",))),
            Do(_who_has, {"ipvs": _EVERY_NODE}),
        ),
    ),
    Promise(
        alone=True,
        id="services.external-ip.of-a-node",
        says=Text(
            "an external IP may be another node's address, whose other ports are reached as ever",
            "外部 IP 可以是另一节点的地址, 该节点的其他端口照常可达",
        ),
        source="k/k#104679; docs: external IPs",
        needs=frozenset({"nodes", "hostnetwork"}),
        steps=(Apply(web("n1-a")), Do(_of_a_node, {"ipvs": _HELD_BY_ALL})),
    ),
)
