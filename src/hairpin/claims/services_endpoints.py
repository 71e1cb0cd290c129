"""Endpoints' conditions and EndpointSlices: who counts, who is the last resort, who is merged."""

from __future__ import annotations

from collections import Counter

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.cast import OTHER_PORT, PORT
from hairpin.claims.objects import (
    CLIENT,
    OUTSIDE,
    SELECTOR,
    backends,
    cluster_ip,
    node_port,
    own_pod,
    pod,
    service,
    web,
)
from hairpin.claims.promises import (
    REFUSED,
    Answered,
    Apply,
    Backend,
    Do,
    Finding,
    Need,
    Promise,
    Try,
)
from hairpin.claims.scene import Scene
from hairpin.model.endpointslice import MANAGED_BY

_NODES: frozenset[Need] = frozenset({"nodes"})


def going(name: str) -> Backend:
    """Terminating, and still serves."""
    return Backend(pod=name, ready=False, serving=True, terminating=True)


def gone(name: str) -> Backend:
    """Terminating, and serves no more."""
    return Backend(pod=name, ready=False, serving=False, terminating=True)


def unready(name: str) -> Backend:
    return Backend(pod=name, ready=False, serving=False, terminating=False)


def _only(*names: str) -> Answered:
    return Answered(by=names)


def _shares(scene: Scene) -> Finding:
    """An endpoint in six slices has no more than its share.

    Of 100 connections at random it gives the other one 50, and less than 30 once in 30 000 runs;
    with six shares the other one would get 14.
    """
    seen = scene.connect([Try(client=CLIENT, to=cluster_ip(), expect=_only(), times=100)])[0]
    counts = Counter(answer.pod for one in seen if (answer := judge.answer_of(one)))
    return Finding(
        what="100 connections",
        held=counts.total() == 100 and counts["n1-a"] >= 30 and counts["n2-a"] >= 30,
        expected="about as many for each of two endpoints",
        seen=judge.sight(seen),
    )


def _becomes(scene: Scene, file: str, expect: Answered | None, what: str) -> Finding:
    scene.run_in("one", "sh", "-c", file)
    wanted = Try(client=CLIENT, to=cluster_ip(), expect=expect or REFUSED, within=8.0, label=what)
    return scene.findings([wanted])[0]


def _ready(scene: Scene) -> Finding:
    return _becomes(scene, "touch /tmp/ready", _only("one"), "once it is ready")


def _unready(scene: Scene) -> Finding:
    return _becomes(scene, "rm /tmp/ready", None, "when it is not any more")


TERMINATING = (
    Promise(
        id="services.endpoints.terminating",
        says=Text(
            "a terminating endpoint gets nothing while another is ready",
            "只要还有就绪端点, 正在终止的端点就不再收到连接",
        ),
        source="KEP-1672; kube-proxy TestTerminatingEndpointsTrafficPolicyCluster",
        steps=(
            Apply(web("n1-a", going("n1-b"), going("n2-a"))),
            Try(client=CLIENT, to=cluster_ip(), times=6, expect=_only("n1-a")),
        ),
    ),
    Promise(
        id="services.endpoints.fallback-cluster",
        says=Text(
            "where none is ready, terminating endpoints that still serve answer",
            "没有就绪端点时, 仍在服务的终止中端点会回答",
        ),
        source="e2e Services: should fallback to terminating endpoints when there are no ready "
        "endpoints with internalTrafficPolicy=Cluster; KEP-1669",
        steps=(
            Apply(web(going("n1-a"), going("n2-a"), gone("n1-b"), unready("n2-b"))),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("n1-a", "n2-a")),
        ),
    ),
    Promise(
        id="services.endpoints.fallback-internal-local",
        says=Text(
            "internalTrafficPolicy Local falls back to the terminating endpoints of the node, not "
            "to other nodes",
            "internalTrafficPolicy Local 退回到本节点终止中的端点, 而不是其他节点",
        ),
        source="e2e Services: should fallback to local terminating endpoints when there are no "
        "ready endpoints with internalTrafficPolicy=Local",
        needs=_NODES,
        steps=(
            Apply(web(going("n1-a"), "n2-a", internalTrafficPolicy="Local")),
            Try(client=CLIENT, to=cluster_ip(), times=4, expect=_only("n1-a")),
            Try(client=pod("n2-b"), to=cluster_ip(), times=4, expect=_only("n2-a")),
        ),
    ),
    Promise(
        id="services.endpoints.fallback-external-cluster",
        says=Text(
            "so do node ports",
            "节点端口也是如此",
        ),
        source="e2e Services: should fallback to terminating endpoints when there are no ready "
        "endpoints with externalTrafficPolicy=Cluster",
        steps=(
            Apply(web(going("n1-a"), going("n2-a"), type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), expect=_only("n1-a", "n2-a")),
        ),
    ),
    Promise(
        id="services.endpoints.fallback-external-local",
        says=Text(
            "externalTrafficPolicy Local falls back to the terminating endpoints of the node",
            "externalTrafficPolicy Local 退回到本节点终止中的端点",
        ),
        source="e2e Services: should fallback to local terminating endpoints when there are no "
        "ready endpoints with externalTrafficPolicy=Local; KEP-1669",
        steps=(
            Apply(web(going("n1-a"), "n2-a", type="NodePort", externalTrafficPolicy="Local")),
            Try(
                client=OUTSIDE,
                to=node_port(),
                times=4,
                expect=Answered(by=("n1-a",), sees="kept"),
            ),
        ),
    ),
    Promise(
        id="services.endpoints.terminating-not-serving",
        says=Text(
            "endpoints that neither are ready nor serve get nothing: refused",
            "既不就绪也不服务的端点收不到任何连接: 被拒绝",
        ),
        source="KEP-1669; kube-proxy TestTerminatingEndpointsTrafficPolicyCluster",
        steps=(
            Apply(web(gone("n1-a"), unready("n2-a"))),
            Try(client=CLIENT, to=cluster_ip(), expect=REFUSED),
        ),
    ),
)

CONDITIONS = (
    Promise(
        id="services.endpoints.unready",
        says=Text(
            "endpoints that are not ready get no connections",
            "未就绪的端点收不到连接",
        ),
        source="docs: EndpointSlice conditions; e2e Services: should be rejected for evicted pods",
        steps=(
            Apply(web("n1-a", unready("n2-a"))),
            Try(client=CLIENT, to=cluster_ip(), times=6, expect=_only("n1-a")),
        ),
    ),
    Promise(
        id="services.endpoints.unknown-conditions",
        says=Text(
            "conditions that a slice does not state count as ready",
            "EndpointSlice 没有写明的状况视为就绪",
        ),
        source="docs: EndpointSlice API, ready: nil should be interpreted as true",
        steps=(
            Apply(web(Backend(pod="n1-a", ready=None), "n2-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("n1-a", "n2-a")),
        ),
    ),
    Promise(
        id="services.endpoints.readiness-probe",
        says=Text(
            "a Pod is served when its readinessProbe succeeds, and not when it fails",
            "Pod 的 readinessProbe 成功时获得流量, 失败时不再获得",
        ),
        source="docs: Pod readiness; e2e Services: should create endpoints for unready pods",
        steps=(
            Apply(
                (
                    service(selector=SELECTOR),
                    own_pod("one", readiness=["test", "-f", "/tmp/ready"]),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=REFUSED, label="not ready yet"),
            Do(_ready),
            Do(_unready),
        ),
    ),
    Promise(
        id="services.endpoints.publish-not-ready",
        says=Text(
            "publishNotReadyAddresses: Pods are served whether they are ready or not",
            "publishNotReadyAddresses: 无论是否就绪, Pod 都获得流量",
        ),
        source="e2e Services: should create endpoints for unready pods",
        steps=(
            Apply(
                (
                    service(selector=SELECTOR, publishNotReadyAddresses=True),
                    service("strict", selector=SELECTOR),
                    own_pod("one", readiness=["false"]),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("one")),
            Try(client=CLIENT, to=cluster_ip("strict"), expect=REFUSED, label="without it"),
        ),
    ),
)

SLICES = (
    Promise(
        id="services.endpoints.several-slices",
        says=Text(
            "a Service has the endpoints of all its slices",
            "Service 拥有其全部 EndpointSlice 的端点",
        ),
        source="e2e EndpointSlice: should support a Service with multiple endpoint IPs specified "
        "in multiple EndpointSlices [Conformance]",
        steps=(
            Apply((service(), backends("n1-a", name="one"), backends("n2-a", name="two"))),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("n1-a", "n2-a")),
        ),
    ),
    Promise(
        id="services.endpoints.ports-in-slices",
        says=Text(
            "ports of a Service may be in slices of their own",
            "Service 的各端口可以位于各自的 EndpointSlice 中",
        ),
        source="e2e EndpointSlice: should support a Service with multiple ports specified in "
        "multiple EndpointSlices [Conformance]",
        steps=(
            Apply(
                (
                    service(ports=(("a", "TCP", 80, PORT), ("b", "TCP", 81, OTHER_PORT))),
                    backends("n1-a", name="one", ports=(("a", "TCP", PORT),)),
                    backends("n2-a", name="two", ports=(("b", "TCP", OTHER_PORT),)),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(port="a"), expect=_only(f"n1-a:{PORT}"), label="a"),
            Try(
                client=CLIENT,
                to=cluster_ip(port="b"),
                expect=_only(f"n2-a:{OTHER_PORT}"),
                label="b",
            ),
        ),
    ),
    Promise(
        id="services.endpoints.duplicates",
        says=Text(
            "an endpoint that is in several slices counts once",
            "同时在多个 EndpointSlice 中的端点只算一次",
        ),
        source="docs: EndpointSlices, duplicate endpoints",
        steps=(
            Apply(
                (
                    service(),
                    backends("n1-a", "n2-a", name="both"),
                    *(backends("n1-a", name=f"more-{number}") for number in range(5)),
                )
            ),
            Do(_shares),
        ),
    ),
    Promise(
        id="services.endpoints.mirrored",
        says=Text(
            "slices of another controller count, whoever manages them",
            "其他控制器管理的 EndpointSlice 同样有效",
        ),
        source="e2e EndpointSliceMirroring: should mirror a custom Endpoint [Conformance]",
        steps=(
            Apply(
                (
                    service(),
                    backends(
                        "n1-a",
                        labels={MANAGED_BY: "endpointslicemirroring-controller.k8s.io"},
                    ),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("n1-a")),
        ),
    ),
    Promise(
        id="services.endpoints.other-port-name",
        says=Text(
            "a slice's port belongs to the Service's port of the same name, and to no other",
            "EndpointSlice 的端口只属于同名的 Service 端口",
        ),
        source="docs: EndpointSlice ports; kube-proxy endpointslicecache",
        steps=(
            Apply(
                (
                    service(ports=(("http", "TCP", 80, PORT),)),
                    backends("n1-a", ports=(("other", "TCP", PORT),)),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=REFUSED),
        ),
    ),
    Promise(
        id="services.endpoints.moved",
        says=Text(
            "an endpoint that moves to another slice is served all the time",
            "端点移动到另一个 EndpointSlice 期间持续可用",
        ),
        source="docs: EndpointSlices, duplicate endpoints",
        steps=(
            Apply((service(), backends("n1-a", name="one"), backends(name="two"))),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("n1-a")),
            Apply((backends("n1-a", name="two"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("n1-a")),
            Apply((backends(name="one"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_only("n1-a")),
        ),
    ),
)

CLAIMS = (*TERMINATING, *CONDITIONS, *SLICES)
