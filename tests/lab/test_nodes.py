"""Several nodes, both IP families, a client outside: what arrives where, and from whom."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hairpin.lab import names
from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle
from hairpin.world.client import Client

pytestmark = pytest.mark.guest

NODE_IPS = {
    "n1": ("192.168.100.2", "fd00:192:168:100::2"),
    "n2": ("192.168.100.3", "fd00:192:168:100::3"),
}
OUTSIDE = ("192.168.100.1", "fd00:192:168:100::1")
ZONE = "topology.kubernetes.io/zone"


def node(name: str, **annotations: str) -> dict[str, Any]:
    number = name[-1]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {ZONE: f"z{number}"},
            "annotations": {f"hairpin.dev/{key}": value for key, value in annotations.items()},
        },
        "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]},
    }


def pod(name: str, app: str, port: int = 8080, **spec: Any) -> dict[str, Any]:
    ports = [{"containerPort": port}, {"containerPort": port, "protocol": "UDP"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "echo", "ports": ports}], **spec},
    }


def service(name: str, app: str = "web", target: int = 8080, **spec: Any) -> dict[str, Any]:
    ports = spec.pop("ports", [{"port": 80, "targetPort": target}])
    dual = {"ipFamilyPolicy": "RequireDualStack"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {**dual, "selector": {"app": app}, "ports": ports, **spec},
    }


def objects(**annotations: str) -> list[dict[str, Any]]:
    return [
        node("n1", **annotations),
        node("n2", **annotations),
        pod("a", "web", nodeName="n1"),
        pod("b", "web", nodeName="n2"),
        pod("lone", "lone", nodeName="n2"),
        pod("host", "host", 9376, nodeName="n2", hostNetwork=True),
        service("web", clusterIP="10.96.1.1", clusterIPs=["10.96.1.1", "fd00:10:96::11"]),
        service("lone", "lone", clusterIP="10.96.1.2", clusterIPs=["10.96.1.2", "fd00:10:96::12"]),
        service("host", "host", 9376, clusterIPs=["10.96.1.3", "fd00:10:96::13"]),
        service("near", clusterIPs=["10.96.1.4", "fd00:10:96::14"],
                trafficDistribution="PreferSameZone"),
        service("open", "lone", type="NodePort",
                ports=[{"port": 80, "targetPort": 8080, "nodePort": 30080}]),
        service("own-source", "lone", type="LoadBalancer", externalTrafficPolicy="Local"),
    ]  # fmt: skip


def apply(client: Client, *raw: dict[str, Any]) -> None:
    shapes = json.loads(encode([decode_object(one) for one in raw]))
    answer = client.call("apply", objects=shapes)
    assert not answer["warnings"]
    assert not answer["problems"]


Answer = tuple[str, str]
"""The Pod that answered and the client's address that it saw; what became of it, and ""."""


def ask(client: Client, netns: str, ip: str, port: int = 80, times: int = 2, **more: Any) -> set[
    Answer
]:  # fmt: skip
    probe = {"ip": ip, "port": port, **more}
    attempt = {"netns": netns, "probe": probe, "times": times}
    (seen,) = client.call("probe", attempts=[attempt])
    return {_answer(one) for one in seen}


def _answer(seen: Mapping[str, Any]) -> Answer:
    if seen["outcome"] != "answered":
        return seen["outcome"], ""
    said = json.loads(seen["body"])
    return said["pod"], said["client"]


def run(client: Client, netns: str, script: str) -> str:
    output: str = client.call("run", netns=netns, argv=["sh", "-c", script])["output"]
    return output


@pytest.fixture(scope="module", params=["host-gw", "vxlan"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with lifecycle.ephemeral(f"nodes-{request.param}", "guest") as running:
        apply(running, *objects(overlay=request.param))
        yield running


def is_vxlan(client: Client) -> bool:
    return "vxlan0" in run(client, "node_n1", "ip -br link")


B = ("10.244.2.2", "fd00:10:244:2::2")
LONE = ("10.244.2.3", "fd00:10:244:2::3")
A = ("10.244.1.2", "fd00:10:244:1::2")


@pytest.mark.parametrize("family", [0, 1])
def test_pods_meet_by_their_own_addresses(client: Client, family: int) -> None:
    assert ask(client, "a", B[family], 8080) == {("b", A[family])}
    assert ask(client, "a", B[family], 8080, protocol="UDP") == {("b", A[family])}
    assert ask(client, "outside_", B[family], 8080) == {("b", OUTSIDE[family])}


@pytest.mark.parametrize("family", [0, 1])
def test_a_cluster_ip_leads_to_both_nodes(client: Client, family: int) -> None:
    vip = ("10.96.1.1", "fd00:10:96::11")[family]
    answers = ask(client, "a", vip, times=4)
    assert ("b", A[family]) in answers  # the source is kept across nodes
    assert {who for who, _ in answers} == {"a", "b"}
    assert {who for who, _ in ask(client, "node_n1", vip, times=4)} == {"a", "b"}


@pytest.mark.parametrize("family", [0, 1])
def test_node_ports_answer_on_every_node(client: Client, family: int) -> None:
    """Only from n1 is there another node on the way, whose address the Pod sees."""
    (there,) = ask(client, "outside_", NODE_IPS["n1"][family], 30080)
    (here,) = ask(client, "outside_", NODE_IPS["n2"][family], 30080)
    assert (there[0], here[0]) == ("lone", "lone")
    by_overlay = ("10.244.1.0", "fd00:10:244:1::")[family]
    assert there[1] == (by_overlay if is_vxlan(client) else NODE_IPS["n1"][family])
    assert here[1] == ("10.244.2.1", "fd00:10:244:2::1")[family]


@pytest.mark.parametrize("family", [0, 1])
def test_a_pod_in_its_node_s_network(client: Client, family: int) -> None:
    vip = ("10.96.1.3", "fd00:10:96::13")[family]
    assert ask(client, "a", vip) == {("host", A[family])}
    assert ask(client, "outside_", NODE_IPS["n2"][family], 9376) == {("host", OUTSIDE[family])}
    (shown,) = [one for one in client.call("get", kind="pods") if one["metadata"]["name"] == "host"]
    assert [one["ip"] for one in shown["status"]["podIPs"]] == list(NODE_IPS["n2"])


@pytest.mark.parametrize("family", [0, 1])
def test_a_zone_keeps_its_traffic(client: Client, family: int) -> None:
    vip = ("10.96.1.4", "fd00:10:96::14")[family]
    assert {who for who, _ in ask(client, "a", vip, times=4)} == {"a"}
    assert {who for who, _ in ask(client, "lone", vip, times=4)} == {"b"}


@pytest.mark.parametrize("family", [0, 1])
def test_policy_local_keeps_the_source_and_is_led_to_the_right_node(
    client: Client, family: int
) -> None:
    """The load balancer goes to n2, the only node whose health check says yes."""
    (balanced,) = (
        one
        for one in client.call("get", kind="services")
        if one["metadata"]["name"] == "own-source"
    )
    address = balanced["status"]["loadBalancer"]["ingress"][family]["ip"]
    assert ask(client, "outside_", address) == {("lone", OUTSIDE[family])}


def test_names_have_both_families(client: Client) -> None:
    said = run(client, "a", "getent ahosts web; cat /etc/hosts; hostname")
    assert "10.96.1.1 " in said
    assert "fd00:10:96::11 " in said
    assert f"{A[0]} a\n{A[1]} a\na\n" in said
    assert run(client, "host", "hostname; cat /etc/resolv.conf").startswith("n2\noptions ")


def test_what_is_big_passes(client: Client) -> None:
    for address in (B[0], B[1]):
        assert ask(client, "a", address, 8080, size=20_000) == {("b", A[address == B[1]])}


def test_a_node_comes_and_goes(client: Client) -> None:
    apply(client, node("n3"), pod("c", "late", nodeName="n3"))
    assert ask(client, "a", "10.244.3.2", 8080) == {("c", A[0])}
    assert ask(client, "c", B[1], 8080) == {("b", "fd00:10:244:3::2")}
    refs = [("Pod", "default", "c"), ("Node", "", "n3")]
    for kind, namespace, name in refs:
        ref = {"kind": kind, "namespace": namespace, "name": name}
        client.call("delete", refs=[ref], grace=0)
    assert ask(client, "a", "10.244.3.2", 8080) <= {("timeout", ""), ("unreachable", "")}
    assert "10.244.3" not in run(client, "node_n1", "ip route; ip neigh show nud permanent")
    assert "up_n3" not in run(client, "outside_", "ip -br link")


def test_a_cluster_becomes_dual_stack_when_a_service_needs_it() -> None:
    """Pods that run keep on running, and get their second address."""
    with lifecycle.ephemeral("grown", "guest") as running:
        single: dict[str, Any] = {"ipFamilyPolicy": "SingleStack"}
        apply(running, pod("a", "web"), pod("b", "client"), service("web", **single))
        (before,) = [one for one in running.call("get", kind="pods") if _named(one, "a")]
        assert len(before["status"]["podIPs"]) == 1
        apply(running, service("both"))
        (after,) = [one for one in running.call("get", kind="pods") if _named(one, "a")]
        assert after["status"]["startTime"] == before["status"]["startTime"]
        # Links of before detect duplicates of their link-local addresses, for a second or two.
        run(
            running, "node_node", "while ip addr show tentative | grep -q inet6; do sleep 0.1; done"
        )
        six = after["status"]["podIPs"][1]["ip"]
        assert ask(running, "b", six, 8080) == {("a", "fd00:10:244::3")}
        (both,) = [one for one in running.call("get", kind="services") if _named(one, "both")]
        for address in both["spec"]["clusterIPs"]:
            assert {who for who, _ in ask(running, "b", address)} == {"a"}


def test_ipv6_alone_and_nobody_to_serve() -> None:
    with lifecycle.ephemeral("six", "guest") as running:
        six = {"service-cidr": "fd00:10:96::/112"}
        bare = {**node("n2"), "spec": {}}
        bare["metadata"]["annotations"] = {"hairpin.dev/proxy": "none"}
        first = {**node("n1"), "spec": {}}
        first["metadata"]["annotations"] = {f"hairpin.dev/{k}": v for k, v in six.items()}
        web = service("web", ipFamilyPolicy="SingleStack")
        apply(
            running, first, bare, pod("a", "web", nodeName="n1"), pod("b", "c", nodeName="n2"), web
        )
        (shown,) = [one for one in running.call("get", kind="services") if _named(one, "web")]
        vip = shown["spec"]["clusterIP"]
        assert vip.startswith("fd00:10:96::")
        pods = {one["metadata"]["name"]: one for one in running.call("get", kind="pods")}
        (ip,) = (one["ip"] for one in pods["a"]["status"]["podIPs"])
        assert {who for who, _ in ask(running, "a", vip)} == {"a"}
        assert {who for who, _ in ask(running, "b", ip, 8080)} == {"a"}
        assert {who for who, _ in ask(running, "b", vip)} <= {"timeout", "unreachable"}
        assert [one["node"] for one in running.call("get", kind="proxies")] == ["n1"]
        assert "kube-ipvs0" not in run(running, "node_n2", "ip -br link")


def _named(one: Mapping[str, Any], name: str) -> bool:
    return bool(one["metadata"]["name"] == name)


def test_no_pod_has_the_namespace_of_a_node() -> None:
    """Not even one of a Kubernetes namespace that is called node."""
    assert names.pod_netns("node", "a") != names.node_netns("a")
    assert (
        len({names.pod_netns(*key) for key in (("default", "a"), ("node", "a"), ("b", "a"))}) == 3
    )
