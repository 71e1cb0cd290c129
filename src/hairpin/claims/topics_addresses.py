"""Topics of addresses and ports: where a Service answers, and who else does.  Pure."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.topics import (
    ANSWERED,
    EVERY,
    MORE_WORKS,
    PATIENCE,
    REFUSED,
    SOONER,
    Topic,
    by_mode,
)

_ROUTED = Text("sent on by the node's routes", "按节点路由发出")
_AS_BEFORE = Text("reached as ever", "照常可达")
_OWN_ADDRESS = Text(
    "let programs of the node use the node's own address (image registries at localhost:PORT are "
    "the common case)",
    "让节点上的程序使用节点自己的地址 (常见的是 localhost:PORT 的镜像仓库)",
)
_NO_BINDING = Text("let it bind to no address", "不要让它绑定地址")
_OPENS = Text(
    "it opens on every address: set nodePortAddresses to those that are meant",
    "每个地址都会开放: 用 nodePortAddresses 限定",
)
_NO_CIRCLES = Text(
    "beyond the nodes, let no route lead the Service network back to them",
    "节点之外不要有把 Service 网段引回节点的路由",
)
_NO_NODE = Text("no node", "没有节点")
_THE_NODES = Text("the node's", "节点的地址")
_ANNOUNCE = Text(
    "where nobody but the nodes announced the address, its packets no longer come: let a load "
    "balancer announce it (MetalLB, kube-vip, a route)",
    "若地址只由节点回答, 报文不再到达: 由负载均衡器通告 (MetalLB, kube-vip, 路由)",
)

ADDRESSES: tuple[Topic, ...] = (
    Topic(
        name="localhost-node-port",
        about=Text("a node port at 127.0.0.1, from the node", "节点从 127.0.0.1 访问节点端口"),
        concerns="node-port",
        does=by_mode(REFUSED, ANSWERED, REFUSED),
        todo=by_mode(_OWN_ADDRESS, MORE_WORKS, _OWN_ADDRESS),
    ),
    Topic(
        name="loopback-source",
        about=Text(
            "a program of the node that binds to 127.0.0.1 and connects to the Service",
            "节点上绑定 127.0.0.1 的程序访问 Service",
        ),
        concerns=EVERY,
        does=by_mode(
            Text("times out", "超时"),
            ANSWERED,
            Text("fails at once (EINVAL)", "立即失败 (EINVAL)"),
        ),
        todo=by_mode(_NO_BINDING, MORE_WORKS, _NO_BINDING),
    ),
    Topic(
        name="node-port-addresses",
        about=Text(
            "a node port at the node's other addresses, nodePortAddresses unset",
            "未设置 nodePortAddresses 时节点其他地址上的节点端口",
        ),
        concerns="node-port",
        does=by_mode(ANSWERED, ANSWERED, REFUSED),
        todo=by_mode(
            _OPENS,
            _OPENS,
            Text(
                "where clients or load balancers use another address than the node's primary one, "
                "set nodePortAddresses (0.0.0.0/0 and ::/0 are all)",
                "若客户端或负载均衡器使用节点主地址以外的地址, 设置 nodePortAddresses",
            ),
        ),
    ),
    Topic(
        name="cluster-ip-other-port",
        about=Text(
            "ports of the ClusterIP that the Service does not have, and pings",
            "ClusterIP 上 Service 没有的端口, 以及 ping",
        ),
        concerns=EVERY,
        does=by_mode(REFUSED, _ROUTED, REFUSED),
        todo=by_mode(SOONER, PATIENCE, SOONER),
    ),
    Topic(
        name="cluster-ip-unallocated",
        about=Text(
            "addresses of the Service network that no Service has",
            "Service 网段中没有 Service 使用的地址",
        ),
        concerns="node",
        does=by_mode(_ROUTED, _ROUTED, Text("dropped on the node", "在节点上丢弃")),
        todo=by_mode(
            _NO_CIRCLES,
            _NO_CIRCLES,
            Text(
                "let nothing else use addresses of the ServiceCIDRs",
                "其他程序不得使用 ServiceCIDR 中的地址",
            ),
        ),
    ),
    Topic(
        name="external-no-endpoints",
        about=Text(
            "a load balancer IP or external IP without endpoints, from the node itself",
            "没有端点的负载均衡 IP 或外部 IP, 从节点自身访问",
        ),
        concerns="external",
        does=by_mode(REFUSED, _ROUTED, REFUSED),
        todo=by_mode(SOONER, PATIENCE, SOONER),
    ),
    Topic(
        name="external-ip-of-a-node",
        about=Text(
            "where an external IP is another node's address: that node's other ports",
            "外部 IP 是另一节点的地址时, 该节点的其他端口",
        ),
        concerns="external-ips",
        does=by_mode(
            Text(
                "out of reach: every node holds the address itself",
                "不可达: 每个节点自己持有该地址",
            ),
            _AS_BEFORE,
            _AS_BEFORE,
        ),
        todo=by_mode(
            Text(
                "take addresses of nodes out of externalIPs first, or nodes lose each other",
                "先从 externalIPs 中去掉节点地址, 否则节点之间会失联",
            ),
            MORE_WORKS,
            MORE_WORKS,
        ),
    ),
    Topic(
        name="arp",
        about=Text(
            "who answers ARP for a load balancer IP or external IP on the nodes' network",
            "节点网络上谁回答负载均衡 IP 或外部 IP 的 ARP",
        ),
        concerns="external",
        does=by_mode(
            Text("every node, unless strictARP is set", "每个节点, 除非设置 strictARP"),
            _NO_NODE,
            _NO_NODE,
        ),
        todo=by_mode(
            Text(
                "set ipvs.strictARP where something else announces the address (MetalLB, kube-vip)",
                "若由别的程序通告该地址 (MetalLB, kube-vip), 设置 ipvs.strictARP",
            ),
            _ANNOUNCE,
            _ANNOUNCE,
        ),
    ),
    Topic(
        name="node-source",
        about=Text(
            "the address that a program of the node sees as its own in a connection to the Service",
            "节点上的程序连接 Service 时看到的自己的地址",
        ),
        concerns=EVERY,
        does=by_mode(Text("the Service's", "Service 的地址"), _THE_NODES, _THE_NODES),
        todo=by_mode(
            Text(
                "programs of the node that tell others their address by such a connection: let "
                "them be told it",
                "若节点上的程序以此得知自己的地址再告诉别人: 直接配置该地址",
            ),
            MORE_WORKS,
            MORE_WORKS,
        ),
    ),
)
