"""Topics of a firewall on the node: which of its chains Services' packets pass.  Pure."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.topics import ANSWERED, EVERY, MORE_WORKS, Topic, by_mode

_DROPPED = Text("dropped: the client times out", "丢弃: 客户端超时")
_PASSES_BY = Text("not asked: answered", "不经过该链: 有回答")
_NOT_OPENED = Text(
    "let the firewall forward from outside to the Pod network",
    "让防火墙把集群外的流量转发到 Pod 网段",
)

FIREWALL: tuple[Topic, ...] = (
    Topic(
        name="firewall-input",
        about=Text(
            "a firewall of the node that drops in INPUT what comes for the Service from Pods and "
            "from outside",
            "节点防火墙在 INPUT 中丢弃 Pod 和集群外发往 Service 的报文",
        ),
        concerns=EVERY,
        does=by_mode(_DROPPED, _PASSES_BY, _PASSES_BY),
        todo=by_mode(
            Text(
                "let INPUT accept what goes to Services' addresses and node ports",
                "在 INPUT 中放行发往 Service 地址和节点端口的报文",
            ),
            Text(
                "rules in INPUT that keep clients off no longer do: use loadBalancerSourceRanges, "
                "a NetworkPolicy, or FORWARD",
                "INPUT 中限制客户端的规则不再起作用: 改用 loadBalancerSourceRanges, NetworkPolicy "
                "或 FORWARD",
            ),
            Text(
                "rules in INPUT that keep clients off no longer do: use loadBalancerSourceRanges, "
                "a NetworkPolicy, or FORWARD",
                "INPUT 中限制客户端的规则不再起作用: 改用 loadBalancerSourceRanges, NetworkPolicy "
                "或 FORWARD",
            ),
        ),
    ),
    Topic(
        name="firewall-forward-pods",
        about=Text(
            "a firewall of the node that does not forward Pods' traffic: a Pod at the ClusterIP",
            "节点防火墙不转发 Pod 流量时, Pod 访问 ClusterIP",
        ),
        concerns=EVERY,
        does=by_mode(_PASSES_BY, _DROPPED, _DROPPED),
        todo=by_mode(
            Text(
                "rules in FORWARD that keep Pods off Services no longer do: use a NetworkPolicy",
                "FORWARD 中限制 Pod 访问 Service 的规则不再起作用: 改用 NetworkPolicy",
            ),
            Text(
                "see that FORWARD accepts Pods' traffic (most network plugins do it)",
                "确认 FORWARD 放行 Pod 流量 (多数网络插件会这样做)",
            ),
            Text(
                "see that FORWARD accepts Pods' traffic (most network plugins do it)",
                "确认 FORWARD 放行 Pod 流量 (多数网络插件会这样做)",
            ),
        ),
    ),
    Topic(
        name="firewall-forward-outside",
        about=Text(
            "a firewall of the node that forwards nothing from outside: the node port, load "
            "balancer IP and external IP",
            "节点防火墙不转发集群外流量时的节点端口, 负载均衡 IP 和外部 IP",
        ),
        concerns="masqueraded",
        does=by_mode(ANSWERED, ANSWERED, _DROPPED),
        todo=by_mode(MORE_WORKS, MORE_WORKS, _NOT_OPENED),
    ),
    Topic(
        name="firewall-health-check",
        about=Text(
            "a firewall of the node that drops in INPUT: load balancers' health checks "
            "(healthCheckNodePort)",
            "节点防火墙在 INPUT 中丢弃时的健康检查 (healthCheckNodePort)",
        ),
        concerns="health-check",
        does=by_mode(ANSWERED, ANSWERED, _DROPPED),
        todo=by_mode(
            MORE_WORKS,
            MORE_WORKS,
            Text(
                "open healthCheckNodePort on the nodes, or load balancers take them for down",
                "在节点上放行 healthCheckNodePort, 否则负载均衡器认为节点已失效",
            ),
        ),
    ),
)
