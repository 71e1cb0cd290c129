"""Node ports: where they answer, to whom, and whom the server sees."""

from __future__ import annotations

from collections.abc import Mapping

from hairpin.claims.base import Text
from hairpin.claims.cast import OTHER_PORT, PORT
from hairpin.claims.differences import NO_LOCALHOST, PRIMARY_ADDRESS, ROUTED
from hairpin.claims.objects import (
    BOTH,
    CLIENT,
    LOCALHOST,
    N1,
    N2,
    OUTSIDE,
    SCTP,
    UDP,
    address,
    at_node_port,
    backends,
    cluster_ip,
    host_backends,
    node_port,
    pod,
    service,
    web,
)
from hairpin.claims.promises import (
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
)
from hairpin.claims.scene import Scene
from hairpin.claims.topics import Mode

_ELSEWHERE = Answered(by=("n1-a", "n3-a"))
_MASQUERADED = Answered(by=("n1-a", "n2-a"), sees="node")
_ROUTED: Mapping[Mode, Difference] = {"iptables": ROUTED}
_PRIMARY: Mapping[Mode, Difference] = {"nftables": PRIMARY_ADDRESS}
_BOTH_PROTOCOLS = (("tcp", "TCP", 80, PORT), ("udp", "UDP", 80, OTHER_PORT))


def _on_cluster_ip(scene: Scene) -> Finding:
    number = scene.targets.resolve(node_port())[1]
    return scene.finding(
        Try(
            client=CLIENT,
            to=cluster_ip(port=number),
            expect=REFUSED,
            differs=_ROUTED,
            label="its ClusterIP",
        )
    )


def _on_bridge(scene: Scene) -> Finding:
    """The node's address among its Pods: with nodePortAddresses unset it is one like others."""
    number = scene.targets.resolve(node_port())[1]
    client = scene.cast.members["n1-c"].ips[4]
    bridge = address(type(client)((int(client) & ~0xFF) + 1), number)
    return scene.finding(
        Try(
            client=CLIENT,
            to=bridge,
            expect=Answered(by=("n1-a",)),
            differs=_PRIMARY,
            label="the node's address on cni0",
        )
    )


def _closes(scene: Scene) -> Finding:
    was = address(*scene.targets.resolve(node_port()))
    scene.apply(service(type="ClusterIP"))
    return scene.finding(
        Try(client=OUTSIDE, to=was, expect=NOTHING, label="what was its node port")
    )


CLAIMS = (
    Promise(
        id="services.nodeport.basic",
        says=Text(
            "a node port answers Pods, nodes and clients outside",
            "节点端口回答 Pod, 节点和集群外的客户端",
        ),
        source="e2e Services: should be able to create a functioning NodePort service "
        "[Conformance]",
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), expect=BOTH),
            Try(client=CLIENT, to=node_port(), expect=BOTH),
            Try(client=N1, to=node_port(), expect=BOTH),
            Try(client=CLIENT, to=cluster_ip(), expect=BOTH),
        ),
    ),
    Promise(
        id="services.nodeport.every-node",
        says=Text(
            "every node answers, also one without an endpoint",
            "每个节点都会回答, 包括没有端点的节点",
        ),
        source="docs: type NodePort; e2e Networking: should update nodePort: http",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", "n3-a", type="NodePort")),
            Try(client=OUTSIDE, to=node_port("n2"), expect=_ELSEWHERE),
            Try(client=N1, to=node_port("n2"), expect=_ELSEWHERE),
            Try(client=CLIENT, to=node_port("n2"), expect=_ELSEWHERE),
        ),
    ),
    Promise(
        id="services.nodeport.masqueraded",
        says=Text(
            "without a traffic policy the server sees a node, whoever connects",
            "没有流量策略时服务端看到的总是某个节点的地址",
        ),
        source="docs: Source IP for Services with Type=NodePort",
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), expect=_MASQUERADED),
            Try(client=CLIENT, to=node_port(), expect=_MASQUERADED),
            Try(client=N1, to=node_port(), expect=_MASQUERADED),
        ),
    ),
    Promise(
        id="services.nodeport.udp",
        says=Text("node ports carry UDP", "节点端口支持 UDP"),
        source="e2e Networking: should be able to handle nodePort: udp",
        steps=(
            Apply(web("n1-a", "n2-a", ports=(UDP,), type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), protocol="UDP", expect=_MASQUERADED),
            Try(client=CLIENT, to=node_port(), protocol="UDP", expect=_MASQUERADED),
        ),
    ),
    Promise(
        id="services.nodeport.sctp",
        says=Text("node ports carry SCTP", "节点端口支持 SCTP"),
        source="kube-proxy TestNodePorts (sctp); e2e Networking: node-Service: sctp",
        needs=frozenset({"sctp"}),
        steps=(
            Apply(web("n1-a", "n2-a", ports=(SCTP,), type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), protocol="SCTP", expect=BOTH),
        ),
    ),
    Promise(
        id="services.nodeport.protocols-at-one-port",
        says=Text(
            "two protocols of a Service may share a node port",
            "一个 Service 的两种协议可以共用同一节点端口号",
        ),
        source="e2e Services: should be able to update service type to NodePort listening on same "
        "port number but different protocols",
        steps=(
            Apply(web("n1-a", ports=_BOTH_PROTOCOLS, type="NodePort")),
            Try(client=OUTSIDE, to=node_port(port="tcp"), expect=Answered(by=(f"n1-a:{PORT}",))),
            Try(
                client=OUTSIDE,
                to=node_port(port="udp"),
                protocol="UDP",
                expect=Answered(by=(f"n1-a:{OTHER_PORT}",)),
            ),
        ),
    ),
    Promise(
        id="services.nodeport.localhost",
        says=Text(
            "a node reaches its node ports on 127.0.0.1",
            "节点能在 127.0.0.1 上访问自己的节点端口",
        ),
        source="kube-proxy TestNodePorts (localhost); e2e localhost_nodeports.go",
        steps=(
            Apply(web("n1-a", type="NodePort")),
            Try(
                client=LOCALHOST,
                to=To(kind="localhost"),
                expect=Answered(by=("n1-a",)),
                differs={
                    "ipvs": Difference(
                        expect=REFUSED,
                        reason=Text(
                            "no virtual server is made for 127.0.0.1",
                            "不会为 127.0.0.1 创建虚拟服务器",
                        ),
                        source="k/k#96879, k/k#67730, KEP-6032",
                        topic="localhost-node-port",
                    ),
                    "nftables": NO_LOCALHOST,
                },
            ),
        ),
    ),
    Promise(
        id="services.nodeport.not-on-cluster-ip",
        says=Text(
            "a node port is no port of the ClusterIP",
            "节点端口不是 ClusterIP 的端口",
        ),
        source="kube-proxy: nodePortAddresses are the node's own addresses; k/k#72236",
        steps=(Apply(web("n1-a", type="NodePort")), Do(_on_cluster_ip, _ROUTED)),
    ),
    Promise(
        id="services.nodeport.every-address",
        says=Text(
            "a node port answers at every address of the node (nodePortAddresses unset)",
            "未设置 nodePortAddresses 时节点端口在节点的每个地址上回答",
        ),
        source="docs: nodePortAddresses; k/k#59156",
        steps=(Apply(web("n1-a", type="NodePort")), Do(_on_bridge, _PRIMARY)),
    ),
    Promise(
        id="services.nodeport.no-endpoints",
        says=Text(
            "without endpoints a node port refuses at once",
            "没有端点时节点端口立即拒绝",
        ),
        source="kube-proxy TestNoEndpointsReject",
        steps=(
            Apply(web(type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), expect=REFUSED),
            Try(client=CLIENT, to=node_port(), expect=REFUSED),
            Try(client=N1, to=node_port(), expect=REFUSED),
        ),
    ),
    Promise(
        id="services.nodeport.endpoint-itself",
        says=Text(
            "a Pod reaches itself through a node port of its node",
            "Pod 能经本节点的节点端口访问自己",
        ),
        source="kube-proxy TestMasqueradeRule; e2e Services: hairpin",
        steps=(
            Apply(web("n1-a", type="NodePort")),
            Try(client=pod("n1-a"), to=node_port(), expect=Answered(by=("n1-a",), sees="node")),
        ),
    ),
    Promise(
        id="services.nodeport.hostnetwork-endpoint",
        says=Text(
            "a node port leads to Pods in their node's network",
            "节点端口可通向使用节点网络的 Pod",
        ),
        source="e2e Networking: should function for service endpoints using hostNetwork",
        needs=frozenset({"hostnetwork"}),
        steps=(
            Apply((service(type="NodePort"), host_backends("n1-host", "n2-host"))),
            Try(client=OUTSIDE, to=node_port(), expect=Answered(by=("n1-host", "n2-host"))),
            Try(client=CLIENT, to=node_port(), expect=Answered(by=("n1-host", "n2-host"))),
        ),
    ),
    Promise(
        id="services.nodeport.other-node-closed",
        says=Text(
            "with externalTrafficPolicy Local a node without endpoints does not answer outside",
            "externalTrafficPolicy Local 时没有端点的节点不回答集群外的客户端",
        ),
        source="e2e Services: should support externalTrafficPolicy=Local for type=NodePort",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", type="NodePort", externalTrafficPolicy="Local")),
            Try(client=OUTSIDE, to=node_port("n1"), expect=Answered(by=("n1-a",), sees="kept")),
            Try(client=OUTSIDE, to=node_port("n2"), expect=TIMEOUT),
            Try(client=N2, to=node_port("n1"), expect=Answered(by=("n1-a",), sees="kept")),
        ),
    ),
    Promise(
        id="services.nodeport.given-back",
        says=Text(
            "a node port of a Service that became ClusterIP is closed",
            "Service 改回 ClusterIP 后其节点端口关闭",
        ),
        source="e2e Services: should be able to change the type",
        steps=(
            Apply((at_node_port(service(type="NodePort"), 32703), backends("n1-a"))),
            Try(client=OUTSIDE, to=node_port(), expect=Answered(by=("n1-a",))),
            Do(_closes),
        ),
    ),
)
