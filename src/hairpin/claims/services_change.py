"""Services and endpoints that change while they are used."""

from __future__ import annotations

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.cast import OTHER_PORT, PORT
from hairpin.claims.differences import ROUTED
from hairpin.claims.objects import (
    CLIENT,
    HTTP,
    OUTSIDE,
    SELECTOR,
    address,
    at_node_port,
    backends,
    cluster_ip,
    node_port,
    own_pod,
    service,
    web,
)
from hairpin.claims.promises import (
    NOTHING,
    REFUSED,
    Answered,
    Apply,
    Delete,
    Do,
    Finding,
    Promise,
    To,
    Try,
)
from hairpin.claims.scene import Scene
from hairpin.lab.probe import Seen

_A, _B = Answered(by=("n1-a",)), Answered(by=("n2-a",))
_EXTERNAL_NAME = service(ports=(), type="ExternalName", externalName="elsewhere.example.com")


def connecting(what: str, seen: list[Seen]) -> Finding:
    """Every one of many connections must have been answered."""
    failed = [one for one in seen if one.outcome != "answered"]
    return Finding(
        what=f"{len(seen)} connections {what}",
        held=bool(seen) and not failed,
        expected="0 that fail",
        seen=f"{len(failed)} that failed; {judge.sight(seen)}",
    )


def _no_gap(scene: Scene) -> Finding:
    """Endpoints are replaced by others while connections go on."""
    one = Try(client=CLIENT, to=cluster_ip(), expect=Answered())
    constant = scene.constantly(one)
    for who in (("n1-a", "n2-a"), ("n2-a",), ("n2-a", "n1-b"), ("n1-b",), ("n1-a",)):
        scene.apply(backends(*who))
    return connecting("while endpoints were replaced", constant.result())


def _others_undisturbed(scene: Scene) -> Finding:
    """Other Services come and go while connections go on."""
    one = Try(client=CLIENT, to=cluster_ip(), expect=Answered())
    constant = scene.constantly(one)
    for number in range(3):
        scene.apply(service(f"other-{number}", type="LoadBalancer"))
        scene.delete(f"Service other-{number}")
    return connecting("while other Services came and went", constant.result())


def _recreate(scene: Scene) -> Finding:
    """With the same ClusterIP, as after a backup."""
    before = scene.targets.service("web")["spec"]["clusterIP"]
    scene.delete("Service web")
    scene.apply(service(clusterIP=before))
    return scene.findings([Try(client=CLIENT, to=cluster_ip(), expect=_A)])[0]


def _deleted(scene: Scene) -> Finding:
    """The address of a Service that is gone."""
    was = address(*scene.targets.resolve(cluster_ip()))
    scene.delete("Service web")
    return scene.finding(_no_more(was))


def _no_more(to: To) -> Try:
    return Try(client=CLIENT, to=to, expect=NOTHING, label="what was its ClusterIP")


def _was_served(scene: Scene) -> Finding:
    was = address(*scene.targets.resolve(cluster_ip()))
    scene.apply(_EXTERNAL_NAME)
    return scene.finding(_no_more(was))


def _other_node_port(scene: Scene) -> Finding:
    was = scene.targets.resolve(node_port())
    scene.apply(at_node_port(service(type="NodePort"), 32702))
    closed = Try(client=OUTSIDE, to=address(*was), expect=REFUSED, label="the old one")
    return scene.finding(closed)


UPDATES = (
    Promise(
        id="services.change.ports",
        says=Text(
            "ports that are added are served, and those taken away are not",
            "新增的端口获得服务, 移除的端口不再获得",
        ),
        source="e2e Services: should be updated after adding or deleting ports",
        steps=(
            Apply(web("n1-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
            Apply(web("n1-a", ports=(("a", "TCP", 80, PORT), ("b", "TCP", 81, OTHER_PORT)))),
            Try(client=CLIENT, to=cluster_ip(port="a"), expect=_A, label="a"),
            Try(client=CLIENT, to=cluster_ip(port="b"), expect=_A, label="b"),
            Apply(web("n1-a", ports=(("b", "TCP", 81, OTHER_PORT),))),
            Try(client=CLIENT, to=cluster_ip(port="b"), expect=_A, label="b alone"),
            Try(
                client=CLIENT,
                to=cluster_ip(port=80),
                expect=REFUSED,
                differs={"iptables": ROUTED},
                label="a is gone",
            ),
        ),
    ),
    Promise(
        id="services.change.target-port",
        says=Text(
            "a change of targetPort leads to the Pods' other port",
            "修改 targetPort 后通向 Pod 的另一端口",
        ),
        source="e2e Services: should be updated after adding or deleting ports",
        steps=(
            Apply(web("n1-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=(f"n1-a:{PORT}",))),
            Apply((backends("n1-a", ports=(("", "TCP", OTHER_PORT),)),)),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=(f"n1-a:{OTHER_PORT}",))),
        ),
    ),
    Promise(
        id="services.change.endpoints",
        says=Text(
            "endpoints that come are used at once, and those that go get nothing more",
            "新端点立即启用, 离开的端点不再收到连接",
        ),
        source="e2e Networking: should update endpoints: http",
        steps=(
            Apply(web("n1-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
            Apply((backends("n1-a", "n2-a"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a", "n2-a"))),
            Apply((backends("n2-a"),)),
            Try(client=CLIENT, to=cluster_ip(), times=6, expect=_B),
            Apply((backends(),)),
            Try(client=CLIENT, to=cluster_ip(), expect=REFUSED),
        ),
    ),
    Promise(
        id="services.change.node-port",
        says=Text(
            "a change of the node port closes the old one and opens the new one",
            "修改节点端口会关闭旧的并打开新的",
        ),
        source="e2e Networking: should update nodePort: http",
        steps=(
            Apply((at_node_port(service(type="NodePort"), 32701), backends("n1-a"))),
            Try(client=OUTSIDE, to=node_port(), expect=_A),
            Do(_other_node_port),
            Try(client=OUTSIDE, to=node_port(), expect=_A, label="the new one"),
        ),
    ),
    Promise(
        id="services.change.selector",
        says=Text(
            "a change of the selector leads to other Pods",
            "修改选择器后通向其他 Pod",
        ),
        source="docs: Services with selectors",
        steps=(
            Apply(
                (
                    service(selector={"app": "web", "version": "1"}),
                    own_pod("one", labels={"app": "web", "version": "1"}),
                    own_pod("two", labels={"app": "web", "version": "2"}),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), times=4, expect=Answered(by=("one",))),
            Apply((service(selector={"app": "web", "version": "2"}),)),
            Try(client=CLIENT, to=cluster_ip(), times=4, expect=Answered(by=("two",))),
        ),
    ),
    Promise(
        id="services.change.pods",
        says=Text(
            "Pods that come are served, and Pods that are deleted are not",
            "新建的 Pod 获得流量, 被删除的 Pod 不再获得",
        ),
        source="e2e Services: should serve a basic endpoint from pods [Conformance]",
        steps=(
            Apply((service(selector=SELECTOR), own_pod("one"))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("one",))),
            Apply((own_pod("two"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("one", "two"))),
            Delete(("Pod one",)),
            Try(client=CLIENT, to=cluster_ip(), times=6, expect=Answered(by=("two",))),
        ),
    ),
)


LIVES = (
    Promise(
        id="services.change.up-and-down",
        says=Text(
            "a Service that is deleted does not answer, and others go on",
            "被删除的 Service 不再回答, 其他的照常",
        ),
        source="e2e Services: should be able to up and down services",
        steps=(
            Apply(
                (
                    *web("n1-a", clusterIP="10.96.77.1"),
                    service("other"),
                    backends("n2-a", service="other"),
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
            Do(_deleted),
            Try(client=CLIENT, to=cluster_ip("other"), expect=_B),
            Apply((service("third", (HTTP,)), backends("n1-b", service="third"))),
            Try(client=CLIENT, to=cluster_ip("third"), expect=Answered(by=("n1-b",))),
        ),
    ),
    Promise(
        id="services.change.recreated",
        says=Text(
            "a Service that is deleted and made again with its old address works",
            "删除后以原地址重建的 Service 可用",
        ),
        source="e2e Services: should work after the service has been recreated",
        steps=(
            Apply(web("n1-a", clusterIP="10.96.77.3")),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
            Do(_recreate),
        ),
    ),
    Promise(
        id="services.change.to-node-port",
        says=Text(
            "a ClusterIP Service becomes NodePort and back, and keeps its ClusterIP",
            "ClusterIP Service 改为 NodePort 再改回, ClusterIP 保持不变",
        ),
        source="e2e Services: should be able to update service type to NodePort",
        steps=(
            Apply(web("n1-a")),
            Apply((service(type="NodePort"),)),
            Try(client=OUTSIDE, to=node_port(), expect=_A),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
            Apply((service(type="ClusterIP"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
        ),
    ),
    Promise(
        id="services.change.from-external-name",
        says=Text(
            "an ExternalName Service can become ClusterIP and NodePort",
            "ExternalName Service 可以改为 ClusterIP 和 NodePort",
        ),
        source="e2e Services: should be able to change the type from ExternalName to ClusterIP, to "
        "NodePort [Conformance]",
        steps=(
            Apply((_EXTERNAL_NAME, backends("n1-a"))),
            Apply((service(type="ClusterIP"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
            Apply((service(type="NodePort"),)),
            Try(client=OUTSIDE, to=node_port(), expect=_A),
        ),
    ),
    Promise(
        id="services.change.to-external-name",
        says=Text(
            "a Service that becomes ExternalName is not served any more",
            "改为 ExternalName 的 Service 不再由代理提供",
        ),
        source="e2e Services: should be able to change the type from ClusterIP to ExternalName, "
        "from NodePort [Conformance]",
        steps=(
            Apply(web("n1-a", type="NodePort", clusterIP="10.96.77.2")),
            Try(client=CLIENT, to=cluster_ip(), expect=_A),
            Do(_was_served),
        ),
    ),
    Promise(
        id="services.change.no-gap",
        says=Text(
            "while endpoints are replaced no connection fails, as long as one of them is ready",
            "替换端点期间只要还有就绪端点, 就没有连接失败",
        ),
        source="e2e LoadBalancers: should not have connectivity disruption during rolling update; "
        "e2e Pods: zero downtime blue-green",
        steps=(Apply(web("n1-a")), Do(_no_gap)),
    ),
    Promise(
        id="services.change.undisturbed",
        says=Text(
            "other Services' changes do not disturb a Service",
            "其他 Service 的变化不影响本 Service",
        ),
        source="kube-proxy: incremental syncs; e2e Services: up and down",
        steps=(Apply(web("n1-a", "n2-a")), Do(_others_undisturbed)),
    ),
)


CLAIMS = (*UPDATES, *LIVES)
