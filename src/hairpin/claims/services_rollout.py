"""Deployments that are restarted and scaled while their Service is used.

Kubernetes' own test is content with 99 % of the connections; here none may fail, as a ready
endpoint is there all the time.  Each runs alone: it makes as many connections as it can.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.objects import (
    CLIENT,
    OUTSIDE,
    SELECTOR,
    cluster_ip,
    deployment,
    load_balancer_ip,
    node_port,
    service,
)
from hairpin.claims.promises import (
    REFUSED,
    Answered,
    Apply,
    Do,
    Finding,
    From,
    Need,
    Promise,
    To,
    Try,
)
from hairpin.claims.scene import Scene
from hairpin.claims.services_change import connecting
from hairpin.lab.session import LabError

_LANES = 4  # connections at a time
_LIMIT = 20.0  # seconds for a roll-out of a few Pods, and for the old ones' end
_NODES: frozenset[Need] = frozenset({"nodes"})
_PROMPT: frozenset[Need] = frozenset({"prompt"})
_LOOK = 0.05  # seconds between looks


def restart(scene: Scene, name: str = "web") -> None:
    """Replaces all Pods of a Deployment, and waits until the old ones are gone."""
    replaced = pods(scene, name)
    scene.lab.call("restart", namespace=scene.namespace, names=[name])
    scene.lab.call("rollout-status", namespace=scene.namespace, names=[name], limit=_LIMIT)
    until(scene, lambda: not replaced & pods(scene, name, going=True), "the old Pods are gone")


def scale(scene: Scene, replicas: int, name: str = "web") -> None:
    """Waits until there are as many, ready and no more."""
    scene.lab.call("scale", namespace=scene.namespace, names=[name], replicas=replicas)
    until(
        scene,
        lambda: len(pods(scene, name, going=True)) == replicas,
        f"there are {replicas} Pods",
    )


def pods(scene: Scene, app: str = "web", *, going: bool = False) -> set[str]:
    """The names of the claim's Pods of an app; with those on their way out too, if ``going``."""
    return {
        one["metadata"]["name"]
        for one in scene.lab.call("get", kind="pods")
        if one["metadata"]["namespace"] == scene.namespace
        and one["metadata"].get("labels", {}).get("app") == app
        and (going or "deletionTimestamp" not in one["metadata"])
    }


def until(scene: Scene, true: Callable[[], bool], what: str) -> None:
    """Waits.  Raises TimeoutError."""
    deadline = time.monotonic() + _LIMIT
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {_LIMIT:g} s")
        time.sleep(_LOOK)


def answered_by(scene: Scene, to: To, names: set[str], client: From = CLIENT) -> Finding:
    """These Pods answer, and no others."""
    expect = Answered(by=tuple(sorted(names)))
    return scene.finding(Try(client=client, to=to, expect=expect, label="afterwards"))


def during(
    what: str, client: From, to: To, act: Callable[[Scene], None]
) -> Callable[[Scene], Finding]:
    """Connections go on while something is done; then those that are left answer."""

    def call(scene: Scene) -> Finding:
        constant = scene.constantly(
            Try(client=client, to=to, expect=Answered()), lanes=_LANES, pause=0.005
        )
        try:
            act(scene)
        finally:
            seen = constant.result()
        finding = connecting(what, seen)
        after = answered_by(scene, to, pods(scene), client)
        return Finding(
            what=what,
            held=finding.held and after.held,
            expected="no connection fails; afterwards those Pods answer that are there",
            seen=f"{_counted(seen)}; afterwards {after.seen}",
        )

    return call


def _counted(seen: list[Any]) -> str:
    failed = [one for one in seen if one.outcome != "answered"]
    said = f"{len(seen)} connections, {len(failed)} failed"
    return f"{said} ({judge.sight(failed)})" if failed else said


def _restarts(times: int) -> Callable[[Scene], None]:
    def call(scene: Scene) -> None:
        for _ in range(times):
            restart(scene)

    return call


def _scales(*replicas: int) -> Callable[[Scene], None]:
    def call(scene: Scene) -> None:
        for one in replicas:
            scale(scene, one)

    return call


def _to_zero(scene: Scene) -> Finding:
    scale(scene, 0)
    return scene.finding(
        Try(client=CLIENT, to=cluster_ip(), expect=REFUSED, label="scaled to none")
    )


def _from_zero(scene: Scene) -> Finding:
    scale(scene, 2)
    return answered_by(scene, cluster_ip(), pods(scene))


def _held_over(scene: Scene) -> Finding:
    """A connection that is open while all Pods are replaced."""
    before = pods(scene)
    number = scene.hold(CLIENT, cluster_ip())
    scene.lab.call("restart", namespace=scene.namespace, names=["web"])
    until(scene, lambda: not before & pods(scene), "the old Pods are on their way out")
    scene.lab.call("rollout-status", namespace=scene.namespace, names=["web"], limit=_LIMIT)
    new = answered_by(scene, cluster_ip(), pods(scene))
    seen = scene.ask(number)
    answer = judge.answer_of(seen)
    return Finding(
        what="a connection that was open before",
        held=answer is not None and answer.pod in before and new.held,
        expected="answered by a Pod that is on its way out, new ones by new Pods",
        seen=f"{judge.sight([seen])}; new ones {new.seen}",
    )


_NEVER = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}


def _stuck(scene: Scene) -> Finding:
    """A new template whose Pods never get ready."""
    before = pods(scene)
    scene.apply(deployment("web", 2, container=_NEVER))
    until(scene, lambda: len(pods(scene)) > len(before), "a new Pod is there")
    told = scene.lab.call("rollout-status", namespace=scene.namespace, names=["web"], watch=False)
    old = answered_by(scene, cluster_ip(), before)
    return Finding(
        what="a roll-out whose new Pods never get ready",
        held=old.held and told["waits_for"] is not None,
        expected="it waits, and the old Pods answer",
        seen=f"{told['waits_for'] or 'it is complete'}; {old.seen}",
    )


def _blue_to_green(scene: Scene) -> Finding:
    """The selector leads to another Deployment, and the first is deleted."""
    constant = scene.constantly(
        Try(client=CLIENT, to=cluster_ip(), expect=Answered()), lanes=_LANES, pause=0.005
    )
    try:
        scene.apply(deployment("green", 2))
        until(scene, lambda: _ready(scene, "green") == 2, "the new Pods are ready")
        scene.apply(service(selector={"app": "green"}))
        scene.lab.call(
            "delete",
            refs=[{"kind": "Deployment", "namespace": scene.namespace, "name": "blue"}],
        )
    finally:
        seen = constant.result()
    after = answered_by(scene, cluster_ip(), pods(scene, "green"))
    return Finding(
        what="while a Service changes over to another Deployment",
        held=connecting("", seen).held and after.held,
        expected="no connection fails; afterwards the new Pods answer",
        seen=f"{_counted(seen)}; afterwards {after.seen}",
    )


def _ready(scene: Scene, name: str) -> int:
    for one in scene.lab.call("get", kind="deployments"):
        if (one["metadata"]["namespace"], one["metadata"]["name"]) == (scene.namespace, name):
            return int(one["status"].get("readyReplicas", 0))
    raise LabError(f"there is no Deployment {name}")


_HOOK = {"preStop": {"sleep": {"seconds": 1}}}
_ENDS_AT_ONCE = {
    "command": ["python3", "-m", "http.server", "8080", "-d", "/tmp"],
    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    "lifecycle": _HOOK,
}
"""A program that ends at SIGTERM, whoever is connected, as most do."""


def _no_identity(scene: Scene) -> Finding:
    """As ``during``, of servers that do not say who they are."""
    constant = scene.constantly(
        Try(client=CLIENT, to=cluster_ip(), expect=Answered()), lanes=_LANES, pause=0.01
    )
    try:
        restart(scene)
    finally:
        seen = constant.result()
    finding = connecting("while all Pods are replaced", seen)
    return Finding(
        what="while all Pods are replaced",
        held=finding.held,
        expected="no connection fails",
        seen=_counted(seen),
    )


_ROLLING = "e2e LoadBalancers: should not have connectivity disruption during rolling update with "

RESTARTS = (
    Promise(
        alone=True,
        id="services.rollout.restart",
        says=Text(
            "no connection to a ClusterIP fails while a Deployment is restarted Pod by Pod",
            "Deployment 滚动重启期间, 到 ClusterIP 的连接没有失败",
        ),
        source="e2e LoadBalancers: should not have connectivity disruption during rolling update",
        needs=_PROMPT,
        steps=(
            Apply((deployment("web", 4), service(selector=SELECTOR))),
            Do(during("while all Pods are replaced, 5 times", CLIENT, cluster_ip(), _restarts(5))),
        ),
    ),
    Promise(
        alone=True,
        id="services.rollout.restart-node-port",
        says=Text(
            "so it is from outside through a node port",
            "从集群外经节点端口也是如此",
        ),
        source=f"{_ROLLING}externalTrafficPolicy=Cluster",
        needs=_PROMPT,
        steps=(
            Apply((deployment("web", 3), service(selector=SELECTOR, type="NodePort"))),
            Do(during("while all Pods are replaced", OUTSIDE, node_port(), _restarts(1))),
        ),
    ),
    Promise(
        alone=True,
        id="services.rollout.restart-local",
        says=Text(
            "so it is through a load balancer with externalTrafficPolicy Local",
            "经 externalTrafficPolicy Local 的负载均衡器也是如此",
        ),
        source=f"{_ROLLING}externalTrafficPolicy=Local",
        needs=_PROMPT | _NODES,
        steps=(
            Apply(
                (
                    deployment("web", 2, nodeName="n2"),
                    service(selector=SELECTOR, type="LoadBalancer", externalTrafficPolicy="Local"),
                )
            ),
            Do(during("while all Pods are replaced", OUTSIDE, load_balancer_ip(), _restarts(1))),
        ),
    ),
    Promise(
        alone=True,
        id="services.rollout.pre-stop",
        says=Text(
            "nor with programs that end at SIGTERM at once, if preStop waits for the proxies",
            "程序收到 SIGTERM 立即退出时, 只要 preStop 等待代理更新, 也没有连接失败",
        ),
        source="KEP-3960; docs: Pod lifecycle, termination of Pods",
        needs=_PROMPT,  # somebody else may need longer than preStop waits
        steps=(
            Apply((deployment("web", 2, container=_ENDS_AT_ONCE), service(selector=SELECTOR))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered()),
            Do(_no_identity),
        ),
    ),
    Promise(
        alone=True,
        id="services.rollout.open-connection",
        says=Text(
            "an open connection outlives the roll-out with the Pod that it is to",
            "已打开的连接与其 Pod 一起度过滚动更新",
        ),
        source="KEP-1669; k/k#57841; e2e Pods: should be able to connect to a terminating pod",
        needs=_PROMPT,
        steps=(Apply((deployment("web", 2), service(selector=SELECTOR))), Do(_held_over)),
    ),
    Promise(
        alone=True,
        id="services.rollout.stuck",
        says=Text(
            "where the new Pods never get ready, the old ones go on serving",
            "新 Pod 始终未就绪时, 旧 Pod 继续服务",
        ),
        source="docs: Deployments, rolling update",
        steps=(Apply((deployment("web", 2), service(selector=SELECTOR))), Do(_stuck)),
    ),
)

SCALES = (
    Promise(
        alone=True,
        id="services.rollout.scale",
        says=Text(
            "scaling up and down is followed, and no connection fails",
            "扩容和缩容会被跟随, 没有连接失败",
        ),
        source="e2e Networking: should update endpoints: http; e2e Deployment: scale subresource",
        needs=_PROMPT,
        steps=(
            Apply((deployment("web", 1), service(selector=SELECTOR))),
            Do(during("while 1 Pod becomes 4, 2, 5", CLIENT, cluster_ip(), _scales(4, 2, 5))),
        ),
    ),
    Promise(
        alone=True,
        id="services.rollout.scale-to-zero",
        says=Text(
            "scaled to none it refuses, and serves again once there are Pods",
            "缩容到零后拒绝连接, 有 Pod 后恢复服务",
        ),
        source="e2e Services: should be rejected when no endpoints exist",
        steps=(
            Apply((deployment("web", 1), service(selector=SELECTOR))),
            Do(_to_zero),
            Do(_from_zero),
        ),
    ),
    Promise(
        alone=True,
        id="services.rollout.blue-green",
        says=Text(
            "no connection fails while a Service changes over to another Deployment",
            "Service 切换到另一个 Deployment 期间, 没有连接失败",
        ),
        source="e2e Pods: zero downtime blue-green",
        needs=_PROMPT,
        steps=(
            Apply((deployment("blue", 2), service(selector={"app": "blue"}))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered()),
            Do(_blue_to_green),
        ),
    ),
)

CLAIMS = (*RESTARTS, *SCALES)
