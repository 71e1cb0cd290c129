"""Topics of traffic policies: which endpoints may answer whom.  Pure."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.topics import MORE_WORKS, PATIENCE, REFUSED, SOONER, Topic, by_mode

_ALL = Text("any endpoint may answer", "任何端点都可以回答")
_MASQUERADED = Text("answered, masqueraded", "有回答, 源地址被伪装")
_DROPPED = Text("dropped: the client times out", "丢弃: 客户端超时")
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

POLICIES: tuple[Topic, ...] = (
    Topic(
        name="external-local-inside",
        about=Text(
            "externalTrafficPolicy Local: Pods and the node itself at the node port, load balancer "
            "IP or external IP",
            "externalTrafficPolicy Local: Pod 和节点自身访问节点端口, 负载均衡 IP 或外部 IP",
        ),
        concerns="external-local",
        does=by_mode(Text("only that node's endpoints answer", "只有该节点的端点回答"), _ALL, _ALL),
        todo=by_mode(
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
        does=by_mode(
            Text(
                "times out at the load balancer IP and external IP; unmasqueraded at the node port",
                "负载均衡 IP 和外部 IP 超时; 节点端口不伪装",
            ),
            _MASQUERADED,
            _MASQUERADED,
        ),
        todo=by_mode(
            Text("let programs of the node use the ClusterIP", "让节点上的程序使用 ClusterIP"),
            MORE_WORKS,
            MORE_WORKS,
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
        does=by_mode(Text("falls back to all endpoints", "退回到全部端点"), _DROPPED, _DROPPED),
        todo=by_mode(
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
        does=by_mode(REFUSED, _DROPPED, _DROPPED),
        todo=by_mode(SOONER, PATIENCE, PATIENCE),
    ),
)
