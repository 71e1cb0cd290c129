"""Names, and Services that proxies leave alone: headless, ExternalName, other proxies'."""

from __future__ import annotations

from collections.abc import Callable

from hairpin.claims.base import Text
from hairpin.claims.objects import (
    CLIENT,
    SELECTOR,
    address,
    backends,
    cluster_ip,
    own_pod,
    service,
    web,
)
from hairpin.claims.promises import NOTHING, Answered, Apply, Do, Finding, Promise, Try
from hairpin.claims.scene import Scene
from hairpin.lab.session import LabError

_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
_HEADLESS = "service.kubernetes.io/headless"
_A = Answered(by=("n1-a",))


def _looked_up(scene: Scene, name: str) -> set[str]:
    """The addresses that a Pod finds for a name; none where there is no such name."""
    script = f"getent ahosts {name} || true"
    try:
        output = scene.run(CLIENT, "sh", "-c", script)
    except LabError:
        return set()
    return {line.split()[0] for line in output.splitlines() if line.strip()}


def _name(scene: Scene, name: str, wanted: set[str]) -> Finding:
    seen = _looked_up(scene, name)
    return Finding(
        what=f"name {name}",
        held=seen == wanted,
        expected=", ".join(sorted(wanted)) or "no such name",
        seen=", ".join(sorted(seen)) or "no such name",
    )


def _cluster_name(short: bool) -> Callable[[Scene], Finding]:
    def call(scene: Scene) -> Finding:
        name = f"web.{scene.namespace}" + ("" if short else ".svc.cluster.local")
        return _name(scene, name, {str(scene.targets.resolve(cluster_ip())[0])})

    return call


def _headless_name(scene: Scene) -> Finding:
    ips = {str(scene.cast.members[name].ips[4]) for name in ("n1-a", "n2-a")}
    return _name(scene, f"web.{scene.namespace}", ips)


def _headless_ready(scene: Scene) -> Finding:
    """A headless Service names ready Pods alone."""
    pods = [
        one["status"]["podIP"]
        for one in scene.lab.call("get", kind="pods")
        if one["metadata"]["namespace"] == scene.namespace and one["metadata"]["name"] == "one"
    ]
    return _name(scene, f"web.{scene.namespace}", set(pods))


def _external_name(scene: Scene) -> Finding:
    target = scene.targets.resolve(cluster_ip("target"))[0]
    return _name(scene, f"web.{scene.namespace}", {str(target)})


def _no_server(scene: Scene) -> Finding:
    """No proxy has a virtual server for a headless Service's Pods."""
    shown = scene.lab.call("get", kind="virtualservers")
    owned = [one for one in shown if f"{scene.namespace}/web" in str(one.get("owner", ""))]
    return Finding(
        what="virtual servers",
        held=not owned,
        expected="none",
        seen=str(len(owned)) if owned else "none",
    )


def _taken_over(scene: Scene) -> Finding:
    """Once the label goes, the proxy serves it."""
    was = scene.targets.service("web")["spec"]["clusterIP"]
    scene.apply(service(clusterIP=was))
    return scene.finding(
        Try(client=CLIENT, to=cluster_ip(), expect=_A, within=3.0, label="without the label")
    )


def _let_go(scene: Scene) -> Finding:
    """Once it has the label, the proxy lets it go."""
    was = address(*scene.targets.resolve(cluster_ip()))
    scene.apply(service(labels={_PROXY_NAME: "another"}))
    return scene.finding(
        Try(client=CLIENT, to=was, expect=NOTHING, within=3.0, label="with the label again")
    )


CLAIMS = (
    Promise(
        id="services.names.clusterip",
        says=Text(
            "a Service's name leads to its ClusterIP, short and in full",
            "Service 的名称解析为其 ClusterIP, 短名与全名皆可",
        ),
        source="e2e DNS: should provide DNS for services [Conformance]",
        steps=(
            Apply(web("n1-a")),
            Do(_cluster_name(short=False)),
            Do(_cluster_name(short=True)),
        ),
    ),
    Promise(
        id="services.names.headless",
        says=Text(
            "a headless Service's name leads to the Pods themselves, and no proxy serves it",
            "无头 Service 的名称直接解析为 Pod, 没有代理为其服务",
        ),
        source="e2e DNS: should provide DNS for services (headless) [Conformance]",
        steps=(
            Apply((service(clusterIP="None"), backends("n1-a", "n2-a"))),
            Do(_headless_name),
            Do(_no_server),
        ),
    ),
    Promise(
        id="services.names.headless-ready",
        says=Text(
            "it names ready Pods alone",
            "它只列出就绪的 Pod",
        ),
        source="docs: DNS for Services and Pods",
        steps=(
            Apply(
                (
                    service(clusterIP="None", selector=SELECTOR),
                    own_pod("one"),
                    own_pod("two", readiness=["false"]),
                )
            ),
            Do(_headless_ready),
        ),
    ),
    Promise(
        id="services.names.external-name",
        says=Text(
            "an ExternalName Service is another name for something",
            "ExternalName Service 是别处的另一个名称",
        ),
        source="e2e DNS: should provide DNS for ExternalName services [Conformance]",
        steps=(
            Apply(
                (
                    service("target"),
                    backends("n1-a", service="target"),
                    service(
                        ports=(),
                        type="ExternalName",
                        externalName="target.names-external-name.svc.cluster.local",
                    ),
                )
            ),
            Do(_external_name),
            Do(_no_server),
        ),
    ),
    Promise(
        id="services.names.headless-label",
        says=Text(
            "an EndpointSlice with the label service.kubernetes.io/headless is no proxy's; on a "
            "Service the label means nothing",
            "带 service.kubernetes.io/headless 标签的 EndpointSlice 不由代理使用; "
            "Service 上的该标签没有作用",
        ),
        source="kube-proxy 1.36 watches slices with !service.kubernetes.io/headless; e2e Services: "
        "should implement service.kubernetes.io/headless",
        steps=(
            Apply((service(labels={_HEADLESS: ""}), backends("n1-a", labels={_HEADLESS: ""}))),
            Try(client=CLIENT, to=cluster_ip(), expect=NOTHING, label="a slice with the label"),
            Apply((backends("n1-a"),)),
            Try(
                client=CLIENT,
                to=cluster_ip(),
                expect=Answered(by=("n1-a",)),
                label="a slice without, of a Service with it",
            ),
        ),
    ),
    Promise(
        id="services.names.proxy-name",
        says=Text(
            "a Service with the label service-proxy-name is another proxy's as long as it has it",
            "带 service-proxy-name 标签的 Service 属于其他代理, 直到标签移除",
        ),
        source="e2e Services: should implement service.kubernetes.io/service-proxy-name",
        steps=(
            Apply((service(labels={_PROXY_NAME: "another"}), backends("n1-a"))),
            Try(client=CLIENT, to=cluster_ip(), expect=NOTHING, label="with the label"),
            Do(_taken_over),
            Do(_let_go),
        ),
    ),
)
