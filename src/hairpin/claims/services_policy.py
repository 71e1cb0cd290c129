"""Traffic policies: which nodes' endpoints may answer, by where the client is."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.objects import (
    CLIENT,
    N1,
    N2,
    OUTSIDE,
    cluster_ip,
    host_backends,
    node_port,
    pod,
    service,
    web,
)
from hairpin.claims.promises import (
    REFUSED,
    TIMEOUT,
    Answered,
    Apply,
    Difference,
    Expect,
    Need,
    Promise,
    Try,
)

_NODES: frozenset[Need] = frozenset({"nodes"})
_EMPTY = Text(
    "the virtual server stays without real servers, and IPVS answers port unreachable instead of "
    "dropping",
    "虚拟服务器没有真实服务器, IPVS 回答端口不可达而不是丢弃",
)
_ONE_SERVER = Text(
    "an IPVS virtual server is one for all clients: the policy holds for the node's own and its "
    "Pods' traffic too",
    "一个 IPVS 虚拟服务器对所有客户端都一样: 策略也约束本节点和本节点 Pod 的流量",
)


def _local(name: str) -> Expect:
    return Answered(by=(name,), sees="kept")


CLAIMS = (
    Promise(
        id="services.policy.internal-local",
        says=Text(
            "internalTrafficPolicy Local: Pods and nodes reach the endpoints of their own node",
            "internalTrafficPolicy Local: Pod 和节点只访问本节点的端点",
        ),
        source="e2e Services: should respect internalTrafficPolicy=Local Pod to Pod; KEP-2086",
        needs=_NODES,
        steps=(
            Apply(web("n1-a", "n2-a", internalTrafficPolicy="Local")),
            Try(client=CLIENT, to=cluster_ip(), expect=_local("n1-a")),
            Try(client=pod("n2-b"), to=cluster_ip(), expect=_local("n2-a")),
            Try(client=N1, to=cluster_ip(), expect=Answered(by=("n1-a",))),
            Try(client=N2, to=cluster_ip(), expect=Answered(by=("n2-a",))),
        ),
    ),
    Promise(
        id="services.policy.internal-local-none-here",
        says=Text(
            "internalTrafficPolicy Local without a local endpoint: nobody answers, and there is no "
            "fallback",
            "internalTrafficPolicy Local 且没有本地端点: 无人回答, 也不退回",
        ),
        source="e2e Services: should respect internalTrafficPolicy=Local Pod to Pod; KEP-2086",
        needs=_NODES,
        steps=(
            Apply(web("n2-a", internalTrafficPolicy="Local")),
            *(
                Try(
                    client=client,
                    to=cluster_ip(),
                    expect=TIMEOUT,
                    differs={
                        "ipvs": Difference(
                            expect=REFUSED,
                            reason=_EMPTY,
                            source="k/k#93456, KEP-2086",
                            topic="internal-local-empty",
                        )
                    },
                )
                for client in (CLIENT, N1)
            ),
        ),
    ),
    Promise(
        id="services.policy.internal-local-hostnetwork",
        says=Text(
            "internalTrafficPolicy Local knows Pods in their node's network",
            "internalTrafficPolicy Local 也认得使用节点网络的 Pod",
        ),
        source="e2e Services: should respect internalTrafficPolicy=Local Pod and Node, to Pod "
        "(hostNetwork: true)",
        needs=frozenset({"nodes", "hostnetwork"}),
        steps=(
            Apply((service(internalTrafficPolicy="Local"), host_backends("n1-host", "n2-host"))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-host",))),
            Try(client=N1, to=cluster_ip(), expect=Answered(by=("n1-host",))),
            Try(client=pod("n2-b"), to=cluster_ip(), expect=Answered(by=("n2-host",))),
        ),
    ),
    Promise(
        id="services.policy.internal-local-not-outside",
        says=Text(
            "internalTrafficPolicy does not bind node ports",
            "internalTrafficPolicy 不约束节点端口",
        ),
        source="KEP-2086; kube-proxy TestInternalTrafficPolicy",
        needs=_NODES,
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort", internalTrafficPolicy="Local")),
            Try(client=OUTSIDE, to=node_port(), expect=Answered(by=("n1-a", "n2-a"), sees="node")),
            Try(client=CLIENT, to=cluster_ip(), expect=_local("n1-a")),
        ),
    ),
    Promise(
        id="services.policy.external-local-not-inside",
        says=Text(
            "externalTrafficPolicy does not bind the ClusterIP",
            "externalTrafficPolicy 不约束 ClusterIP",
        ),
        source="kube-proxy TestExternalTrafficPolicyLocal",
        needs=_NODES,
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort", externalTrafficPolicy="Local")),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"), sees="kept")),
            Try(client=OUTSIDE, to=node_port(), expect=_local("n1-a")),
            Try(client=OUTSIDE, to=node_port("n2"), expect=_local("n2-a")),
        ),
    ),
    Promise(
        id="services.policy.external-local-short-circuit",
        says=Text(
            "externalTrafficPolicy Local: a Pod's traffic to a node port goes to every endpoint, "
            "as if it had come in by a load balancer",
            "externalTrafficPolicy Local: Pod 访问节点端口时可到达所有端点, 如同经负载均衡器进入",
        ),
        source="kube-proxy TestInternalExternalMasquerade; k/k#75262",
        needs=_NODES,
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort", externalTrafficPolicy="Local")),
            Try(
                client=CLIENT,
                to=node_port(),
                expect=Answered(by=("n1-a", "n2-a"), sees="kept"),
                differs={
                    "ipvs": Difference(
                        expect=_local("n1-a"),
                        reason=_ONE_SERVER,
                        source="k/k#75262, k/k#71596",
                        topic="external-local-inside",
                    )
                },
            ),
        ),
    ),
    Promise(
        id="services.policy.both-local",
        says=Text(
            "both policies Local: only the node's own endpoints, inside and outside",
            "两种策略都为 Local: 集群内外都只用本节点的端点",
        ),
        source="kube-proxy TestInternalTrafficPolicy, TestExternalTrafficPolicyLocal",
        needs=_NODES,
        steps=(
            Apply(
                web(
                    "n1-a",
                    "n2-a",
                    type="NodePort",
                    internalTrafficPolicy="Local",
                    externalTrafficPolicy="Local",
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=_local("n1-a")),
            Try(client=OUTSIDE, to=node_port(), expect=_local("n1-a")),
        ),
    ),
    Promise(
        id="services.policy.internal-changes",
        says=Text(
            "internalTrafficPolicy can be changed both ways",
            "internalTrafficPolicy 可以来回修改",
        ),
        source="kube-proxy TestTestInternalTrafficPolicyE2E (ipvs)",
        needs=_NODES,
        steps=(
            Apply(web("n1-a", "n2-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"))),
            Apply((service(internalTrafficPolicy="Local"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_local("n1-a")),
            Apply((service(internalTrafficPolicy="Cluster"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"))),
        ),
    ),
)
