"""Topology: endpoints' hints, and Services that prefer what is near."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.objects import (
    CLIENT,
    OUTSIDE,
    SELECTOR,
    cluster_ip,
    node_port,
    own_pod,
    pod,
    service,
    web,
)
from hairpin.claims.promises import (
    Answered,
    Apply,
    Backend,
    Manifest,
    Need,
    Promise,
    Try,
)

_NODES: frozenset[Need] = frozenset({"nodes"})
_ALL = Answered(by=("n1-a", "n2-a", "n3-a"))


def _hinted(name: str, *zones: str, nodes: tuple[str, ...] = ()) -> Backend:
    return Backend(pod=name, zones=zones, nodes=nodes)


def _own(distribution: str) -> tuple[Manifest, ...]:
    return (
        service(selector=SELECTOR, trafficDistribution=distribution),
        own_pod("near", node="n1"),
        own_pod("next", node="n2"),
        own_pod("far", node="n3"),
    )


def _prefers(distribution: str, source: str, *, zone: bool) -> Promise:
    here = ("near", "next") if zone else ("near",)
    name = distribution.removeprefix("Prefer")
    return Promise(
        id=f"services.topology.prefer-{_dashed(name)}",
        says=Text(
            f"trafficDistribution {distribution}: the {'zone' if zone else 'node'}'s own endpoints "
            "answer where there are any",
            f"trafficDistribution {distribution}: {'同一区域' if zone else '同一节点'}"
            "有端点时由它们回答",
        ),
        source=source,
        needs=_NODES,
        steps=(
            Apply(_own(distribution)),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=here)),
            Try(client=pod("n3-a"), to=cluster_ip(), expect=Answered(by=("far",))),
        ),
    )


def _dashed(name: str) -> str:
    return "".join(f"-{one.lower()}" if one.isupper() else one for one in name).strip("-")


_E2E = "e2e Traffic Distribution: should route traffic to an endpoint"

CLAIMS = (
    Promise(
        id="services.topology.zone-hints",
        says=Text(
            "endpoints hinted for a zone answer that zone's clients",
            "带区域提示的端点回答该区域的客户端",
        ),
        source="KEP-2433; e2e Topology Hints: should distribute endpoints evenly",
        needs=_NODES,
        steps=(
            Apply(web(_hinted("n1-a", "z1"), _hinted("n2-a", "z1"), _hinted("n3-a", "z2"))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"))),
            Try(client=pod("n3-a"), to=cluster_ip(), expect=Answered(by=("n3-a",))),
        ),
    ),
    Promise(
        id="services.topology.hint-not-place",
        says=Text(
            "the hint decides, not where the endpoint is",
            "起决定作用的是提示, 而不是端点所在的位置",
        ),
        source="KEP-2433; pkg/proxy/topology.go",
        steps=(
            Apply(web(_hinted("n1-a", "z2"), _hinted("n3-a", "z1"))),
            Try(client=CLIENT, to=cluster_ip(), times=4, expect=Answered(by=("n3-a",))),
        ),
    ),
    Promise(
        id="services.topology.hint-for-zones",
        says=Text(
            "an endpoint may be hinted for several zones",
            "一个端点可以提示给多个区域",
        ),
        source="KEP-2433",
        steps=(
            Apply(web(_hinted("n1-a", "z1", "z2"), _hinted("n3-a", "z2"))),
            Try(client=CLIENT, to=cluster_ip(), times=4, expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.topology.hint-missing",
        says=Text(
            "one ready endpoint without a hint, and no hint counts",
            "只要有一个就绪端点没有提示, 所有提示都不起作用",
        ),
        source="KEP-2433; pkg/proxy/topology.go",
        steps=(
            Apply(web(_hinted("n1-a", "z1"), _hinted("n2-a", "z1"), "n3-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_ALL),
        ),
    ),
    Promise(
        id="services.topology.hint-of-unready",
        says=Text(
            "an endpoint that is not ready need not have one",
            "未就绪的端点可以没有提示",
        ),
        source="pkg/proxy/topology.go",
        steps=(
            Apply(
                web(
                    _hinted("n1-a", "z1"),
                    _hinted("n3-a", "z2"),
                    Backend(pod="n2-a", ready=False, serving=False),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), times=4, expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.topology.zone-without",
        says=Text(
            "hints count for nothing in a zone that none is for",
            "没有任何端点提示给某区域时, 该区域忽略提示",
        ),
        source="KEP-2433; pkg/proxy/topology.go",
        steps=(
            Apply(web(_hinted("n1-a", "z2"), _hinted("n2-a", "z2"), _hinted("n3-a", "z2"))),
            Try(client=CLIENT, to=cluster_ip(), expect=_ALL),
        ),
    ),
    Promise(
        id="services.topology.node-hints",
        says=Text(
            "endpoints hinted for a node answer that node's clients, before any zone's",
            "带节点提示的端点回答该节点的客户端, 优先于区域提示",
        ),
        source="KEP-3015; pkg/proxy/topology.go",
        steps=(
            Apply(
                web(
                    _hinted("n1-a", "z1", nodes=("n1",)),
                    _hinted("n2-a", "z1", nodes=("n2",)),
                    _hinted("n3-a", "z2", nodes=("n3",)),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), times=4, expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.topology.node-without",
        says=Text(
            "a node that no hint is for uses its zone's endpoints",
            "没有提示给某节点时, 该节点使用本区域的端点",
        ),
        source="KEP-3015; pkg/proxy/topology.go",
        steps=(
            Apply(
                web(
                    _hinted("n1-a", "z1", nodes=("n2",)),
                    _hinted("n2-a", "z1", nodes=("n2",)),
                    _hinted("n3-a", "z2", nodes=("n3",)),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"))),
        ),
    ),
    Promise(
        id="services.topology.local-before-hints",
        says=Text(
            "policy Local takes the node's endpoints, whomever they are hinted for",
            "Local 策略使用本节点端点, 不论提示给谁",
        ),
        source="pkg/proxy/topology.go",
        steps=(
            Apply(
                web(
                    _hinted("n1-a", "z2"),
                    _hinted("n3-a", "z1"),
                    type="NodePort",
                    externalTrafficPolicy="Local",
                )
            ),
            Try(
                client=OUTSIDE,
                to=node_port(),
                times=4,
                expect=Answered(by=("n1-a",), sees="kept"),
            ),
        ),
    ),
    Promise(
        id="services.topology.nodeport-hints",
        says=Text(
            "hints count for node ports too, by the node that gets the packet",
            "提示对节点端口同样有效, 以收到数据包的节点为准",
        ),
        source="KEP-2433; pkg/proxy/topology.go",
        steps=(
            Apply(web(_hinted("n1-a", "z1"), _hinted("n3-a", "z2"), type="NodePort")),
            Try(client=OUTSIDE, to=node_port(), times=4, expect=Answered(by=("n1-a",))),
        ),
    ),
    _prefers("PreferClose", f"{_E2E} in the same zone when possible (PreferClose)", zone=True),
    _prefers("PreferSameZone", f"{_E2E} in the same zone (PreferSameZone)", zone=True),
    _prefers("PreferSameNode", f"{_E2E} on the same node (PreferSameNode)", zone=False),
    Promise(
        id="services.topology.prefer-falls-back",
        says=Text(
            "PreferSameNode: a node without an endpoint uses the zone's, a zone without uses all",
            "PreferSameNode: 没有端点的节点用本区域的, 没有端点的区域用全部的",
        ),
        source=f"{_E2E} on another node when there is none on the same node; KEP-3015",
        needs=_NODES,
        steps=(
            Apply(
                (
                    service(selector=SELECTOR, trafficDistribution="PreferSameNode"),
                    own_pod("near", node="n1"),
                )
            ),
            Try(client=pod("n2-b"), to=cluster_ip(), expect=Answered(by=("near",))),
            Try(client=pod("n3-a"), to=cluster_ip(), expect=Answered(by=("near",))),
        ),
    ),
)
