"""What a lab's proxy does to packets: Services as clients find them, from inside and outside."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle
from hairpin.world.client import Client

pytestmark = pytest.mark.guest

NODE_IP = "192.168.100.2"
OUTSIDE = "192.168.100.1"
CNI = "10.244.0.1"


def pod(name: str, app: str, *ports: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "echo", "ports": list(ports)}]},
    }


def service(name: str, app: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }


EVERY: list[dict[str, Any]] = [
    {"containerPort": 8080},
    {"containerPort": 5353, "protocol": "UDP"},
    {"containerPort": 9899, "protocol": "SCTP"},
]
OBJECTS = [
    pod("a", "web", *EVERY),
    pod("b", "web", *EVERY),
    pod("client", "client", {"containerPort": 8080}),
    service("plain", clusterIP="10.96.1.1"),
    service("lone", "client", clusterIP="10.96.1.2"),
    service("node-port", type="NodePort",
            ports=[{"port": 80, "targetPort": 8080, "nodePort": 30080}]),
    service("own-source", type="NodePort", externalTrafficPolicy="Local", clusterIP="10.96.1.4",
            ports=[{"port": 80, "targetPort": 8080, "nodePort": 30081}]),
    service("balanced", type="LoadBalancer", loadBalancerIP="192.0.2.10"),
    service("some-only", type="LoadBalancer", loadBalancerIP="192.0.2.11",
            loadBalancerSourceRanges=["203.0.113.0/24"]),
    service("outer", externalIPs=["198.51.100.7"]),
    service("sticky", clusterIP="10.96.1.5", sessionAffinity="ClientIP"),
    service("nobody", "nobody", clusterIP="10.96.1.6"),
    service("talk", clusterIP="10.96.1.7",
            ports=[{"name": "u", "port": 53, "protocol": "UDP", "targetPort": 5353},
                   {"name": "s", "port": 99, "protocol": "SCTP", "targetPort": 9899}]),
]  # fmt: skip


def apply(client: Client, *objects: dict[str, Any]) -> None:
    shapes = json.loads(encode([decode_object(one) for one in objects]))
    answer = client.call("apply", objects=shapes)
    assert not answer["warnings"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with lifecycle.ephemeral("served", "guest") as running:
        apply(running, *OBJECTS)
        yield running


def tries(
    client: Client, netns: str, ip: str, port: int = 80, times: int = 1, **more: Any
) -> list[dict[str, Any]]:
    probe = {"ip": ip, "port": port, "timeout": 1.0, **more}
    attempt = {"netns": netns, "probe": probe, "times": times}
    seen: list[list[dict[str, Any]]] = client.call("probe", attempts=[attempt])
    return seen[0]


def answers(client: Client, netns: str, ip: str, port: int = 80, **more: Any) -> list[str]:
    """``POD from CLIENT`` of each answer, else what became of it; sorted, each once."""
    found = set()
    for one in tries(client, netns, ip, port, times=4, **more):
        if one["outcome"] == "answered":
            said = json.loads(one["body"])
            found.add(f"{said['pod']} from {said['client']}")
        else:
            found.add(one["outcome"])
    return sorted(found)


def refused(client: Client, netns: str, ip: str, port: int = 80) -> bool:
    """Whether a connection is refused at once; asked again where the kernel kept its answer back.

    It sends a client six such answers in a row and then one a second (net.ipv4.icmp_ratelimit).
    """
    for _ in range(4):
        (seen,) = tries(client, netns, ip, port)
        if seen["outcome"] != "timeout":
            return bool(seen["outcome"] == "refused" and seen["seconds"] < 0.5)
        time.sleep(1.1)
    return False


def own(client: Client, name: str) -> str:
    """A Pod's address."""
    pods = {one["metadata"]["name"]: one for one in client.call("get", kind="pods")}
    return str(pods[name]["status"]["podIP"])


def test_a_pods_own_address_stays_but_to_itself(client: Client) -> None:
    here = own(client, "client")
    assert answers(client, "client", "10.96.1.1") == [f"a from {here}", f"b from {here}"]
    assert answers(client, "client", "10.96.1.2") == [f"client from {CNI}"]
    assert answers(client, "a", "10.96.1.1") == [f"a from {CNI}", f"b from {own(client, 'a')}"]
    assert answers(client, "node_node", "10.96.1.1") == [f"a from {CNI}", f"b from {CNI}"]


def test_node_ports_from_outside(client: Client) -> None:
    assert answers(client, "outside_", NODE_IP, 30080) == [f"a from {CNI}", f"b from {CNI}"]
    local = [f"a from {OUTSIDE}", f"b from {OUTSIDE}"]
    assert answers(client, "outside_", NODE_IP, 30081) == local
    assert refused(client, "outside_", NODE_IP, 30999)


def test_addresses_from_outside(client: Client) -> None:
    for ip in ("192.0.2.10", "198.51.100.7"):
        assert answers(client, "outside_", ip) == [f"a from {CNI}", f"b from {CNI}"]
    assert refused(client, "outside_", "192.0.2.10", 81)
    here = own(client, "client")
    assert answers(client, "outside_", here, 8080) == [f"client from {OUTSIDE}"], "it has a route"


def test_source_ranges_keep_others_out(client: Client) -> None:
    assert answers(client, "outside_", "192.0.2.11") == ["timeout"]
    allowed = "203.0.113.7"
    client.call("run", netns="outside_", argv=["ip", "addr", "add", f"{allowed}/32", "dev", "lo"])
    assert answers(client, "outside_", "192.0.2.11", source=allowed) == [
        f"a from {CNI}",
        f"b from {CNI}",
    ]


def test_affinity_sends_a_client_to_one_pod(client: Client) -> None:
    (chosen,) = {one[0] for one in answers(client, "client", "10.96.1.5")}
    assert chosen in ("a", "b")


def test_what_is_not_served_is_refused_at_once(client: Client) -> None:
    for netns in ("client", "node_node"):
        assert refused(client, netns, "10.96.1.6"), "no endpoints"
        assert refused(client, netns, "10.96.1.1", 81), "another port"
    (ping,) = tries(client, "client", "10.96.1.1", 0, protocol="ICMP")
    assert ping["outcome"] != "answered"


def test_udp_and_sctp(client: Client) -> None:
    here = own(client, "client")
    for port, protocol in ((53, "UDP"), (99, "SCTP")):
        found = answers(client, "client", "10.96.1.7", port, protocol=protocol)
        assert found == [f"a from {here}", f"b from {here}"], protocol


def test_what_is_wanted_is_known_to_the_witnesses(client: Client) -> None:
    def run(*argv: str) -> str:
        return str(client.call("run", netns="node_node", argv=list(argv))["output"])

    shown = run("ipset", "list", "KUBE-LOOP-BACK")
    assert f"{own(client, 'a')},tcp:8080,{own(client, 'a')}" in shown
    assert "MASQUERADE" in run("iptables-save", "-t", "nat")
    assert run("ip", "-o", "-4", "addr", "show", "dev", "kube-ipvs0").count("inet") >= 9
    owners = {one["owner"] for one in client.call("get", kind="virtualservers")}
    assert {"service default/talk:s", "service default/plain"} <= owners
    held = client.call("owned", owner="service default/talk")
    assert {one["object"]["kind"] for one in held} > {"virtual-server", "set-entry"}
    assert all(one["held"] for one in held)


def real_servers(client: Client, ip: str) -> dict[str, int]:
    """Address and weight of each real server of a virtual IP."""
    return {
        real["server"]["ip"]: real["server"]["weight"]
        for one in client.call("get", kind="virtualservers")
        if one["server"]["ip"] == ip
        for real in one["real_servers"]
    }


def test_new_pods_do_not_cut_off_those_there_are(client: Client) -> None:
    """A bridge without an address of its own takes another as Pods come: ARP would be wrong."""
    some = [pod(f"more-{number}", "more", {"containerPort": 8080}) for number in range(5)]
    for one in some:
        apply(client, one)
        (seen,) = tries(client, "client", "10.96.1.1")
        assert seen["outcome"] == "answered"


def test_a_removed_endpoint_keeps_its_connections(client: Client) -> None:
    goes = pod("goes", "leaving", {"containerPort": 8080})
    apply(client, goes, service("leaving", "leaving", clusterIP="10.96.1.20"))
    there = own(client, "goes")
    probe = {"ip": "10.96.1.20", "port": 80, "timeout": 1.0}
    held = client.call("hold", netns="client", probe=probe)
    assert held["seen"]["outcome"] == "answered"
    goes["metadata"]["labels"] = {"app": "no-more"}
    apply(client, goes)
    assert real_servers(client, "10.96.1.20") == {there: 0}
    (proxy,) = client.call("get", kind="proxies")
    assert [one["real_server"] for one in proxy["terminating"]] == [f"{there}:8080"]
    assert refused(client, "client", "10.96.1.20")
    asked = client.call("ask", id=held["id"])
    assert json.loads(asked["body"])["pod"] == "goes"


def test_udp_follows_a_replaced_endpoint(client: Client) -> None:
    def speaks(app: str) -> dict[str, Any]:
        port = {"port": 53, "protocol": "UDP", "targetPort": 5353}
        return service("moves", app, clusterIP="10.96.1.21", ports=[port])

    ports = {"containerPort": 5353, "protocol": "UDP"}
    apply(client, pod("old", "old", ports), pod("new", "new", ports), speaks("old"))
    flow: dict[str, Any] = {"protocol": "UDP", "source_port": 40053}

    def asks() -> str:
        (seen,) = tries(client, "client", "10.96.1.21", 53, **flow)
        return str(json.loads(seen["body"])["pod"]) if seen["body"] else str(seen["outcome"])

    assert asks() == "old"
    apply(client, speaks("new"))
    assert asks() == "new"


def test_a_service_that_goes_takes_all_of_its_own_along(client: Client) -> None:
    before = client.call("get", kind="proxies")[0]["objects"]
    brief = service("brief", type="LoadBalancer", externalTrafficPolicy="Local")
    apply(client, brief)
    assert client.call("get", kind="proxies")[0]["objects"] != before
    client.call("delete", refs=[{"kind": "Service", "namespace": "default", "name": "brief"}])
    assert client.call("get", kind="proxies")[0]["objects"] == before
    assert "brief" not in json.dumps(client.call("get", kind="virtualservers"))


def test_two_services_that_want_one_address_are_named(client: Client) -> None:
    shapes = [decode_object(service("rival", externalIPs=["198.51.100.7"]))]
    answer = client.call("apply", objects=json.loads(encode(shapes)))
    (problem,) = answer["problems"]
    assert "rival" in problem and "198.51.100.7" in problem and "outer" in problem
    assert answers(client, "outside_", "198.51.100.7") == [f"a from {CNI}", f"b from {CNI}"]
    client.call("delete", refs=[{"kind": "Service", "namespace": "default", "name": "rival"}])


def test_drift_is_put_right(client: Client) -> None:
    def run(script: str) -> str:
        argv = ["sh", "-c", script]
        return str(client.call("run", netns="node_node", argv=argv)["output"])

    run("ipvsadm -D -t 10.96.1.1:80; ip addr del 10.96.1.5/32 dev kube-ipvs0")
    client.call("set", ingredients={"gateway": "on"})  # looks at everything
    deadline = time.monotonic() + 5
    while not (seen := answers(client, "client", "10.96.1.1"))[0].startswith("a from"):
        assert time.monotonic() < deadline, seen
    assert "10.96.1.5" in run("ip -4 addr show dev kube-ipvs0")
