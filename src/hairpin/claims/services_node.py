"""Nodes that are lost or drained while Services are used.  The third node is the one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hairpin.claims.base import Text
from hairpin.claims.objects import CLIENT, SELECTOR, cluster_ip, deployment, own_pod, service
from hairpin.claims.promises import Answered, Apply, Do, Finding, Need, Promise, Try
from hairpin.claims.scene import Scene
from hairpin.claims.services_rollout import during, pods, until

_NODE = "n3"
_NOTICE = 0.5  # seconds, instead of the 40 that a cluster's node controller takes
_HEARD = 10.0  # seconds in which endpoints come and go after that
_NODES: frozenset[Need] = frozenset({"nodes"})
_PODS = (own_pod("here", node="n2"), own_pod("there", node=_NODE))
_BOTH = Answered(by=("here", "there"))


def _node(scene: Scene) -> str:
    return scene.cast.name(_NODE)


@contextmanager
def _lost(scene: Scene) -> Iterator[None]:
    """The node's link is down."""
    name = f"node/{_node(scene)}"
    down = {"down": True, "notice": _NOTICE}
    scene.lab.call("link", name=name, namespace="", settings=down)
    try:
        yield
    finally:
        scene.lab.call("link", name=name, namespace="", settings={})


def _left(scene: Scene) -> Finding:
    """Its endpoints leave when the loss is noticed, and come back with it."""
    with _lost(scene):
        # Connections to what is lost time out until then, as in every cluster.
        gone = scene.finding(
            Try(
                client=CLIENT,
                to=cluster_ip(),
                times=4,
                expect=Answered(by=("here",)),
                within=_NOTICE + _HEARD,
                label="while the node is lost",
            )
        )
    back = scene.finding(
        Try(client=CLIENT, to=cluster_ip(), expect=_BOTH, within=_HEARD, label="once it is back")
    )
    return Finding(
        what="a node is lost and comes back",
        held=gone.held and back.held,
        expected=f"{gone.expected}; once it is back {back.expected}",
        seen=f"{gone.seen}; once it is back {back.seen}",
    )


def _drain(scene: Scene) -> None:
    """As ``kubectl drain``: no new Pods for the node, and those that it has end."""
    name = _node(scene)
    scene.lab.call("cordon", names=[name], unschedulable=True)
    try:
        on_it = {
            one["metadata"]["name"]
            for one in scene.lab.call("get", kind="pods")
            if one["metadata"]["namespace"] == scene.namespace and one["spec"]["nodeName"] == name
        }
        if not on_it:
            raise ValueError(f"no Pod of the Deployment is on {name}")
        for pod in sorted(on_it):
            ref = {"kind": "Pod", "namespace": scene.namespace, "name": pod}
            scene.lab.call("delete", refs=[ref])
        until(scene, lambda: len(pods(scene) - on_it) == _REPLICAS, "others are there")
    finally:
        scene.lab.call("cordon", names=[name], unschedulable=False)


_REPLICAS = 6

CLAIMS = (
    Promise(
        alone=True,
        id="services.node.lost",
        says=Text(
            "the endpoints of a node that is lost leave, and come back with it",
            "失联节点的端点会离开, 节点恢复后重新加入",
        ),
        source="docs: Nodes, heartbeats and the node controller; e2e Network Partition: All pods "
        "on the unreachable node should be marked as NotReady",
        needs=_NODES,
        steps=(
            Apply((service(selector=SELECTOR), *_PODS)),
            Try(client=CLIENT, to=cluster_ip(), expect=_BOTH),
            Do(_left),
        ),
    ),
    Promise(
        alone=True,
        id="services.node.drained",
        says=Text(
            "no connection fails while a node is drained",
            "排空节点期间没有连接失败",
        ),
        source="docs: Safely Drain a Node; e2e LoadBalancers: should not have connectivity "
        "disruption during rolling update",
        needs=_NODES | {"prompt"},
        steps=(
            Apply((deployment("web", _REPLICAS), service(selector=SELECTOR))),
            Do(during("while a node is drained", CLIENT, cluster_ip(), _drain)),
        ),
    ),
)
