"""Links that were made worse: what packets find."""

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


def node(name: str) -> Shape:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def pod(name: str, where: str) -> Shape:
    ports = [{"containerPort": 8080}, {"containerPort": 5353, "protocol": "UDP"}]
    containers = [{"name": "echo", "ports": ports}]
    meta = {"name": name, "labels": {"app": name.partition("-")[0]}}
    spec = {"nodeName": where, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "clusterIP": "10.96.1.1",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080}],
    },
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    objects = [node("n1"), node("n2"), pod("web-1", "n1"), pod("web-2", "n2"), pod("c", "n1")]
    shapes = json.loads(encode([decode_object(one) for one in (*objects, SERVICE)]))
    with lifecycle.ephemeral("impaired", "guest") as running:
        assert not running.call("apply", objects=shapes)["warnings"]
        yield running


def link(client: Client, name: str, **settings: Any) -> str:
    return str(client.call("link", name=name, namespace="default", settings=settings)["link"])


def own(client: Client, name: str) -> Shape:
    pods = {one["metadata"]["name"]: one for one in client.call("get", kind="pods")}
    return dict(pods[name])


def ping(client: Client, name: str, times: int = 1, **more: Any) -> list[Shape]:
    """From Pod c, or a datagram from there."""
    probe = {"ip": own(client, name)["status"]["podIP"], "port": 0, "protocol": "ICMP"}
    attempt = {"netns": "c", "probe": {**probe, "timeout": 1.0, **more}, "times": times}
    seen: list[list[Shape]] = client.call("probe", attempts=[attempt])
    return seen[0]


def soonest(client: Client, name: str) -> float:
    """Seconds of the fastest of several pings: others may be slow on a busy machine."""
    return min(float(one["seconds"]) for one in ping(client, name, 5))


def run(client: Client, netns: str, *argv: str) -> str:
    return str(client.call("run", argv=list(argv), netns=netns)["output"])


def answering(client: Client) -> set[str]:
    probe = {"ip": "10.96.1.1", "port": 80, "timeout": 1.0}
    attempt = {"netns": "c", "probe": probe, "times": 4}
    seen = client.call("probe", attempts=[attempt])[0]
    return {json.loads(s["body"])["pod"] if s["body"] else s["outcome"] for s in seen}


def until(true: Callable[[], bool], limit: float = 5) -> None:
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_delay_is_each_way_and_can_be_taken_back(client: Client) -> None:
    assert soonest(client, "web-1") < 0.1
    assert link(client, "web-1", delay=0.2) == "delay=200ms"
    assert own(client, "web-1")["status"]["link"] == "delay=200ms"
    assert 0.4 <= soonest(client, "web-1") < 0.6
    assert "delay 200ms" in run(client, "web-1", "tc", "qdisc", "show", "dev", "eth0")
    assert link(client, "web-1") == "none"
    assert soonest(client, "web-1") < 0.1
    assert "netem" not in run(client, "web-1", "tc", "qdisc", "show", "dev", "eth0")
    assert "link" not in own(client, "web-1")["status"]


def test_loss_is_seen(client: Client) -> None:
    link(client, "web-1", loss=50.0)
    seen = [one["outcome"] for one in ping(client, "web-1", 40, timeout=0.05)]
    assert 1 <= seen.count("answered") <= 25  # a quarter of the pings comes back
    link(client, "web-1", loss=100.0)
    assert {one["outcome"] for one in ping(client, "web-1", 3, timeout=0.05)} == {"timeout"}
    link(client, "web-1")
    assert {one["outcome"] for one in ping(client, "web-1", 3)} == {"answered"}


def test_what_is_set_later_adds_to_what_was_set(client: Client) -> None:
    link(client, "web-1", delay=0.01)
    assert link(client, "web-1", loss=1.0, jitter=0.002) == "delay=10ms jitter=2ms loss=1%"
    said = run(client, "web-1", "tc", "qdisc", "show", "dev", "eth0")
    assert "delay 10ms  2ms loss 1%" in said
    link(client, "web-1")


def test_mtu(client: Client) -> None:
    mtu = int(run(client, "web-1", "cat", "/sys/class/net/eth0/mtu"))
    large: Shape = {"protocol": "UDP", "port": 5353, "size": 1400, "timeout": 0.3}
    assert ping(client, "web-1", **large)[0]["outcome"] == "answered"
    link(client, "web-1", mtu=1300)
    assert run(client, "web-1", "cat", "/sys/class/net/eth0/mtu").strip() == "1300"
    assert ping(client, "web-1", **large)[0]["outcome"] != "answered"
    assert ping(client, "web-1", **{**large, "size": 1200})[0]["outcome"] == "answered"
    link(client, "web-1")
    assert int(run(client, "web-1", "cat", "/sys/class/net/eth0/mtu")) == mtu
    assert ping(client, "web-1", **large)[0]["outcome"] == "answered"


def test_a_pods_link_goes_down_and_comes_back(client: Client) -> None:
    link(client, "web-1", down=True)
    assert ping(client, "web-1", timeout=0.3)[0]["outcome"] != "answered"
    assert link(client, "web-1", down=False) == "none"
    until(lambda: ping(client, "web-1", timeout=0.3)[0]["outcome"] == "answered")


def who_is_new(client: Client) -> str:
    """The node of a Pod that names none, where n2 has fewer."""
    shape = pod("new", "n1")
    del shape["spec"]["nodeName"]
    objects = json.loads(encode([decode_object(shape)]))
    client.call("apply", objects=objects)
    where = str(own(client, "new")["spec"]["nodeName"])
    client.call("delete", refs=[{"kind": "Pod", "namespace": "default", "name": "new"}], grace=0)
    return where


def test_a_lost_node_is_noticed_and_comes_back(client: Client) -> None:
    assert answering(client) == {"web-1", "web-2"}
    link(client, "n2", down=True, notice=0.5)
    assert answering(client) == {"web-1", "timeout"}
    until(lambda: answering(client) == {"web-1"})
    nodes = {one["metadata"]["name"]: one for one in client.call("get", kind="nodes")}
    assert [c["status"] for c in nodes["n2"]["status"]["conditions"]] == ["Unknown"]
    assert who_is_new(client) == "n1"
    link(client, "n2", down=False)
    until(lambda: answering(client) == {"web-1", "web-2"})


def test_who_is_not_there_is_named(client: Client) -> None:
    with pytest.raises(LabError, match="there is no Pod or node nobody"):
        link(client, "nobody", down=True)
