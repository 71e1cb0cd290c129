"""External IPs: addresses of somebody else, whose packets reach a node."""

from __future__ import annotations

from typing import Any

from hairpin.claims.base import Text
from hairpin.claims.objects import (
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
    Answered,
    Apply,
    Do,
    Finding,
    Promise,
    Try,
)
from hairpin.claims.scene import Scene

_BOTH = Answered(by=("n1-a", "n2-a"))
_LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local"}
_OUTSIDE_ONLY = ["192.168.100.1/32"]
_PODS_ONLY = ["10.244.0.0/16"]
_NODES_TOO = ["192.168.100.0/24"]


def _given_up(scene: Scene) -> Finding:
    was = address(*scene.targets.resolve(external_ip()))
    scene.apply(service())
    return scene.finding(
        Try(client=CLIENT, to=was, expect=NOTHING, label="what was its external IP")
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
            Try(client=OUTSIDE, to=external_ip(), expect=_BOTH),
            Try(client=CLIENT, to=external_ip(), expect=_BOTH),
            Try(client=N1, to=external_ip(), expect=_BOTH),
        ),
    ),
    Promise(
        id="services.external-ip.udp",
        says=Text("external IPs carry UDP", "外部 IP 支持 UDP"),
        source="kube-proxy TestExternalIPs (ipvs)",
        steps=(
            Apply(web("n1-a", "n2-a", ports=(UDP,), externalIPs=[EXTERNAL_IP])),
            Try(client=OUTSIDE, to=external_ip(), protocol="UDP", expect=_BOTH),
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
)
