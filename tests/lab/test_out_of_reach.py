"""Nodes that take no Pods or hear of nothing: what waits, what stays, and what comes after."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hairpin.lab.session import LabError
from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle
from hairpin.world.client import Client

pytestmark = pytest.mark.guest

Shape = dict[str, Any]
CORDONED = "0/2 nodes are available: 2 node(s) were unschedulable."


def node(name: str, **spec: Any) -> Shape:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def pod(name: str, app: str = "", port: int = 8080, **spec: Any) -> Shape:
    containers = [{"name": "echo", "ports": [{"containerPort": port}]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app or name}},
        "spec": {"containers": containers, **spec},
    }


def service(name: str, ip: str, port: int = 80) -> Shape:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "clusterIP": ip,
            "selector": {"app": name},
            "ports": [{"port": port, "targetPort": 8080}],
        },
    }


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with lifecycle.ephemeral("reach", "guest") as running:
        objects = [
            node("n1"),
            node("n2"),
            pod("near", nodeName="n1"),
            pod("far", nodeName="n2"),
            pod("web-1", "web", nodeName="n1"),
            pod("web-2", "web", nodeName="n2"),
            service("web", "10.96.1.1"),
        ]
        assert apply(running, *objects) == []
        yield running


def apply(client: Client, *objects: Shape) -> list[str]:
    """The warnings."""
    shapes = json.loads(encode([decode_object(one) for one in objects]))
    warnings: list[str] = client.call("apply", objects=shapes)["warnings"]
    return warnings


def delete(client: Client, *names: str, kind: str = "Pod") -> None:
    refs = [{"kind": kind, "namespace": "default", "name": name} for name in names]
    client.call("delete", refs=refs)


def cordon(client: Client, *names: str, on: bool = True) -> None:
    client.call("cordon", names=names, unschedulable=on)


def link(client: Client, name: str, **settings: Any) -> None:
    client.call("link", name=name, namespace="default", settings=settings)


def find(client: Client, kind: str, name: str) -> Shape:
    (found,) = [one for one in client.call("get", kind=kind) if one["metadata"]["name"] == name]
    shape: Shape = found
    return shape


def why(client: Client, name: str) -> str | None:
    """Why a Pod waits; None if it does not."""
    status = find(client, "pods", name)["status"]
    said = [each for each in status.get("conditions", []) if each["type"] == "PodScheduled"]
    assert (status["phase"] == "Pending") == bool(said)
    return said[0]["message"] if said else None


def until(true: Callable[[], bool], limit: float = 10) -> None:
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def who(client: Client, netns: str, ip: str, port: int = 80, times: int = 6) -> set[str]:
    """The Pods that answered, or what became of it else.

    A node says "refused" by ICMP, and not often (net.ipv4.icmp_ratelimit): ask for that once.
    """
    probe = {"ip": ip, "port": port, "timeout": 0.4}
    (seen,) = client.call("probe", attempts=[{"netns": netns, "probe": probe, "times": times}])
    return {json.loads(one["body"])["pod"] if one["body"] else one["outcome"] for one in seen}


def test_what_no_node_takes_waits_and_starts_when_one_opens(client: Client) -> None:
    cordon(client, "n1", "n2")
    said = apply(client, pod("late"), service("late", "10.96.1.2"))
    assert said == [f"Pod default/late is Pending: {CORDONED}"]
    assert why(client, "late") == CORDONED
    assert "nodeName" not in find(client, "pods", "late")["spec"]
    assert who(client, "near", "10.96.1.2", times=1) == {"refused"}
    with pytest.raises(LabError, match="late is Pending: 0/2 nodes"):
        client.call("logs", namespace="default", pod="late")
    with pytest.raises(LabError, match="late is Pending"):
        link(client, "late", down=True)
    cordon(client, "n2", on=False)
    until(lambda: who(client, "near", "10.96.1.2") == {"late"})
    assert why(client, "late") is None
    assert find(client, "pods", "late")["spec"]["nodeName"] == "n2"
    cordon(client, "n1", on=False)
    delete(client, "late")


def test_a_pod_that_waits_can_be_deleted(client: Client) -> None:
    cordon(client, "n1", "n2")
    apply(client, pod("never"))
    delete(client, "never")
    cordon(client, "n1", "n2", on=False)
    assert "never" not in {one["metadata"]["name"] for one in client.call("get", kind="pods")}


def test_lost_nodes_take_no_pods_until_they_are_back(client: Client) -> None:
    cordon(client, "n1")
    link(client, "n2", down=True, notice=0.1)
    until(lambda: find(client, "nodes", "n2")["status"]["conditions"][0]["status"] == "Unknown")
    apply(client, pod("patient"))
    assert why(client, "patient") == (
        "0/2 nodes are available: 1 node(s) had untolerated taint "
        "{node.kubernetes.io/unreachable: }, 1 node(s) were unschedulable."
    )
    link(client, "n2", down=False)
    until(lambda: why(client, "patient") is None)
    assert find(client, "pods", "patient")["spec"]["nodeName"] == "n2"
    cordon(client, "n1", on=False)
    delete(client, "patient")


def test_a_node_has_each_port_once(client: Client) -> None:
    """Of its own network: a third Pod waits until one of two nodes has the port free."""
    shapes = [pod(f"own-{number}", "own", 9000, hostNetwork=True) for number in range(3)]
    said = "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
    assert apply(client, *shapes) == [f"Pod default/own-2 is Pending: {said}"]
    assert apply(client, pod("other", "own", 9001, hostNetwork=True)) == [
        f"Pod default/own-2 is Pending: {said}"
    ]
    assert who(client, "near", "192.168.100.2", 9000) == {"own-0"}
    delete(client, "own-0")
    until(lambda: who(client, "near", "192.168.100.2", 9000) == {"own-2"})
    delete(client, "own-1", "own-2", "other")


def test_a_node_out_of_reach_hears_of_no_change(client: Client) -> None:
    """Its proxy goes on with what it knew; from inside the node that is seen by its own Pods."""
    link(client, "n2", down=True)
    apply(client, pod("web-3", "web", nodeName="n1"), service("new", "10.96.1.3"))
    apply(client, service("web", "10.96.1.1", 81))
    assert who(client, "near", "10.96.1.1", 81) == {"web-1", "timeout", "web-3"}
    assert who(client, "near", "10.96.1.1", 80, times=1) == {"refused"}
    # n2 still has the port that the Service had, with the endpoints of that time.
    assert who(client, "far", "10.96.1.1", 80) == {"web-2", "timeout"}
    assert who(client, "far", "10.96.1.1", 81, times=1) == {"refused"}
    saved = client.call("run", netns="node_n2", argv=["ipvsadm", "-Ln"])["output"]
    web_3 = find(client, "pods", "web-3")["status"]["podIP"]
    assert web_3 not in saved
    client.call("restart-proxy", node="n2")  # it has heard of nothing, and takes nothing away
    assert client.call("run", netns="node_n2", argv=["ipvsadm", "-Ln"])["output"] == saved
    link(client, "n2", down=False)
    all_three = {"web-1", "web-2", "web-3"}
    until(lambda: who(client, "far", "10.96.1.1", 81, times=9) == all_three)
    assert who(client, "far", "10.96.1.1", 80, times=1) == {"refused"}
    apply(client, service("web", "10.96.1.1"))
    delete(client, "web-3")


def test_applying_a_node_again_leaves_its_cordon(client: Client) -> None:
    """As kubectl apply: what neither this manifest nor the one before says is left alone."""

    def cordoned() -> bool:
        return bool(find(client, "nodes", "n1")["spec"].get("unschedulable"))

    cordon(client, "n1")
    apply(client, node("n1"))
    assert cordoned()
    apply(client, node("n1", unschedulable=False))
    assert not cordoned()
    apply(client, node("n1", unschedulable=True))
    assert cordoned()
    apply(client, node("n1"))  # what the manifest said it says no more
    assert not cordoned()
