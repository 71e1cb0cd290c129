"""In what proxy modes differ: each topic once, with what every mode does and what to do about it.

``tests/claims`` holds them against the Differences of the claims, mode by mode.
"""

from __future__ import annotations

from collections.abc import Mapping

from hairpin.claims.base import Text
from hairpin.claims.topics import Mode, Topic


def _by_mode(ipvs: Text, iptables: Text, nftables: Text) -> Mapping[Mode, Text]:
    return {"ipvs": ipvs, "iptables": iptables, "nftables": nftables}


_ANSWERED = Text("answered", "有回答")
_REFUSED = Text("refused", "被拒绝")
_ALL = Text("any endpoint may answer", "任何端点都可以回答")
_MASQUERADED = Text("answered, masqueraded", "有回答, 源地址被伪装")
_DROPPED = Text("dropped: the client times out", "丢弃: 客户端超时")
_ENDS = Text("ends", "结束")
_ONE_FOR_BOTH = Text("one endpoint for both", "两处同一端点")
_AT_RANDOM = Text("one at random", "随机")
_ROUTED = Text("sent on by the node's routes", "按节点路由发出")
_AS_BEFORE = Text("reached as ever", "照常可达")
_GOES_ON = Text("the connection goes on", "连接继续")
_RESETS = Text(
    "reaches the client unchanged, which resets the connection", "原样到达客户端, 连接被重置"
)

_MORE_WORKS = Text("nothing: more works than before", "无需处理: 可用的比以前更多")
_SOONER = Text("nothing: clients hear of it at once", "无需处理: 客户端立即得知")
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
_OTHER_WAY_TO_BE_LOCAL = Text(
    "where Pods count on their own node's endpoint: the ClusterIP, with internalTrafficPolicy "
    "Local or with trafficDistribution PreferSameNode",
    "若 Pod 依赖本节点的端点: 改用 ClusterIP 和 internalTrafficPolicy Local 或 PreferSameNode",
)
_EVERYWHERE = Text(
    "have an endpoint on every node that has clients (a DaemonSet), or use trafficDistribution "
    "PreferSameNode, which falls back",
    "在每个有客户端的节点上运行端点 (DaemonSet), 或改用会退回的 PreferSameNode",
)
_PATIENCE = Text("give clients a connect timeout of their own", "给客户端设置连接超时")
_LONGER = Text(
    "raise timeoutSeconds where clients that pause must stay",
    "若会停顿的客户端必须保持, 调高 timeoutSeconds",
)
_LESS_EVEN = Text(
    "few connections spread less evenly; another ipvs.scheduler than rr has no counterpart",
    "连接少时分配较不均匀; rr 以外的 ipvs.scheduler 没有对应",
)
_NO_CIRCLES = Text(
    "beyond the nodes, let no route lead the Service network back to them",
    "节点之外不要有把 Service 网段引回节点的路由",
)
_LIBERAL = Text(
    "where connections are reset under load (k/k#74839): conntrack.tcpBeLiberal, or a rule of your "
    "own that drops INVALID",
    "若高负载下连接被重置 (k/k#74839): 设置 conntrack.tcpBeLiberal 或自行丢弃 INVALID",
)

_PORTS: tuple[Topic, ...] = (
    Topic(
        name="localhost-node-port",
        about=Text("a node port at 127.0.0.1, from the node", "节点从 127.0.0.1 访问节点端口"),
        concerns="node-port",
        does=_by_mode(_REFUSED, _ANSWERED, _REFUSED),
        todo=_by_mode(_OWN_ADDRESS, _MORE_WORKS, _OWN_ADDRESS),
    ),
    Topic(
        name="loopback-source",
        about=Text(
            "a program of the node that binds to 127.0.0.1 and connects to the Service",
            "节点上绑定 127.0.0.1 的程序访问 Service",
        ),
        concerns="cluster-ip",
        does=_by_mode(
            Text("times out", "超时"),
            _ANSWERED,
            Text("fails at once (EINVAL)", "立即失败 (EINVAL)"),
        ),
        todo=_by_mode(_NO_BINDING, _MORE_WORKS, _NO_BINDING),
    ),
    Topic(
        name="node-port-addresses",
        about=Text(
            "a node port at the node's other addresses, nodePortAddresses unset",
            "未设置 nodePortAddresses 时节点其他地址上的节点端口",
        ),
        concerns="node-port",
        does=_by_mode(_ANSWERED, _ANSWERED, _REFUSED),
        todo=_by_mode(
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
        concerns="cluster-ip",
        does=_by_mode(_REFUSED, _ROUTED, _REFUSED),
        todo=_by_mode(_SOONER, _PATIENCE, _SOONER),
    ),
    Topic(
        name="cluster-ip-unallocated",
        about=Text(
            "addresses of the Service network that no Service has",
            "Service 网段中没有 Service 使用的地址",
        ),
        concerns="node",
        does=_by_mode(_ROUTED, _ROUTED, Text("dropped on the node", "在节点上丢弃")),
        todo=_by_mode(
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
        does=_by_mode(_REFUSED, _ROUTED, _REFUSED),
        todo=_by_mode(_SOONER, _PATIENCE, _SOONER),
    ),
    Topic(
        name="external-ip-of-a-node",
        about=Text(
            "where an external IP is another node's address: that node's other ports",
            "外部 IP 是另一节点的地址时, 该节点的其他端口",
        ),
        concerns="external-ips",
        does=_by_mode(
            Text(
                "out of reach: every node holds the address itself",
                "不可达: 每个节点自己持有该地址",
            ),
            _AS_BEFORE,
            _AS_BEFORE,
        ),
        todo=_by_mode(
            Text(
                "take addresses of nodes out of externalIPs first, or nodes lose each other",
                "先从 externalIPs 中去掉节点地址, 否则节点之间会失联",
            ),
            _MORE_WORKS,
            _MORE_WORKS,
        ),
    ),
)

_POLICIES: tuple[Topic, ...] = (
    Topic(
        name="external-local-inside",
        about=Text(
            "externalTrafficPolicy Local: Pods and the node itself at the node port, load balancer "
            "IP or external IP",
            "externalTrafficPolicy Local: Pod 和节点自身访问节点端口, 负载均衡 IP 或外部 IP",
        ),
        concerns="external-local",
        does=_by_mode(
            Text("only that node's endpoints answer", "只有该节点的端点回答"), _ALL, _ALL
        ),
        todo=_by_mode(
            Text("let Pods that need all endpoints use the ClusterIP", "改用 ClusterIP"),
            _OTHER_WAY_TO_BE_LOCAL,
            _OTHER_WAY_TO_BE_LOCAL,
        ),
    ),
    Topic(
        name="external-local-elsewhere",
        about=Text(
            "externalTrafficPolicy Local: a node without an endpoint, itself the client",
            "externalTrafficPolicy Local: 没有端点的节点自身访问",
        ),
        concerns="external-local",
        does=_by_mode(
            Text(
                "times out at the load balancer IP and external IP; unmasqueraded at the node port",
                "负载均衡 IP 和外部 IP 超时; 节点端口不伪装",
            ),
            _MASQUERADED,
            _MASQUERADED,
        ),
        todo=_by_mode(
            Text("let programs of the node use the ClusterIP", "让节点上的程序使用 ClusterIP"),
            _MORE_WORKS,
            _MORE_WORKS,
        ),
    ),
    Topic(
        name="internal-local-fallback",
        about=Text(
            "internalTrafficPolicy Local of a Service that is exposed too: its ClusterIP on a node "
            "without an endpoint",
            "对外暴露且 internalTrafficPolicy Local: 没有端点的节点上的 ClusterIP",
        ),
        concerns="internal-local-exposed",
        does=_by_mode(Text("falls back to all endpoints", "退回到全部端点"), _DROPPED, _DROPPED),
        todo=_by_mode(
            Text(
                "traffic leaves the node there: make it two Services, one not exposed",
                "流量会离开节点: 分成两个 Service, 一个不对外暴露",
            ),
            _EVERYWHERE,
            _EVERYWHERE,
        ),
    ),
    Topic(
        name="internal-local-empty",
        about=Text(
            "internalTrafficPolicy Local: the ClusterIP on a node without an endpoint",
            "internalTrafficPolicy Local: 没有端点的节点上的 ClusterIP",
        ),
        concerns="internal-local",
        does=_by_mode(_REFUSED, _DROPPED, _DROPPED),
        todo=_by_mode(_SOONER, _PATIENCE, _PATIENCE),
    ),
)

_CONNECTIONS: tuple[Topic, ...] = (
    Topic(
        name="spread",
        about=Text("which endpoint a new connection gets", "新连接得到哪个端点"),
        concerns="cluster-ip",
        does=_by_mode(
            Text("the next in turn (ipvs.scheduler rr)", "轮询 (ipvs.scheduler rr)"),
            _AT_RANDOM,
            _AT_RANDOM,
        ),
        todo=_by_mode(
            Text("nothing: the spread gets more even", "无需处理: 分配更均匀"),
            _LESS_EVEN,
            _LESS_EVEN,
        ),
    ),
    Topic(
        name="affinity-timeout",
        about=Text(
            "session affinity after timeoutSeconds without a connection",
            "超过 timeoutSeconds 没有连接后的会话亲和性",
        ),
        concerns="affinity",
        does=_by_mode(
            Text(
                "lasts until closed connections are forgotten, two minutes later",
                "持续到已关闭的连接被遗忘 (两分钟后)",
            ),
            _ENDS,
            _ENDS,
        ),
        todo=_by_mode(
            Text("nothing, unless timeoutSeconds is short", "timeoutSeconds 很短时才需注意"),
            _LONGER,
            _LONGER,
        ),
    ),
    Topic(
        name="affinity-frontends",
        about=Text(
            "session affinity of one client at the ClusterIP and at the node port",
            "同一客户端在 ClusterIP 和节点端口上的会话亲和性",
        ),
        concerns="affinity-exposed",
        does=_by_mode(
            Text("each address has its own: it may be two endpoints", "每个地址各自独立"),
            _ONE_FOR_BOTH,
            _ONE_FOR_BOTH,
        ),
        todo=_by_mode(
            Text("let a client use one of the addresses alone", "让客户端只用其中一个地址"),
            _MORE_WORKS,
            _MORE_WORKS,
        ),
    ),
    Topic(
        name="invalid-packets",
        about=Text(
            "a server's packet that connection tracking calls INVALID, as it is out of the window",
            "服务端发出的超出窗口而被连接跟踪判为 INVALID 的报文",
        ),
        concerns="tcp",
        does=_by_mode(_GOES_ON, _GOES_ON, _RESETS),
        todo=_by_mode(_MORE_WORKS, _MORE_WORKS, _LIBERAL),
    ),
)

TOPICS: tuple[Topic, ...] = (*_PORTS, *_POLICIES, *_CONNECTIONS)
"""Each is the topic of a Difference of some claim, and each such topic is here."""

BY_NAME: Mapping[str, Topic] = {topic.name: topic for topic in TOPICS}
