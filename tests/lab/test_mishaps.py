"""What befalls a lab from its own inside: a person's commands in nodes and Pods, nodes that go."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import msgspec
import pytest

from hairpin.lab.session import LabError
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle
from hairpin.world.client import Client
from tests.lab.test_life import apply as put
from tests.lab.test_life import deployment, service, until
from tests.lab.test_nodes import node, run

pytestmark = pytest.mark.host
LIMIT = 30.0  # seconds for a request


@pytest.fixture(scope="module")
def client(runtime_folder: str) -> Iterator[Client]:
    with lifecycle.ephemeral("mishap", "host", mode="nftables") as world:
        config = msgspec.to_builtins(KubeProxyConfiguration(mode="nftables"), enc_hook=float)
        world.call("apply", objects=[], config=config, limit=LIMIT)
        put(world, node("n1"), node("n2"), deployment("web", 2), service("web", "10.96.1.1"))
        yield world
        assert "Traceback" not in (world.path / "console.log").read_text()


def places(client: Client) -> dict[str, tuple[str, str]]:
    """Node and address of the Pods of ``web``."""
    return {
        one["metadata"]["name"]: (one["spec"]["nodeName"], one["status"]["podIP"])
        for one in client.call("get", kind="pods", limit=LIMIT)
        if one["metadata"]["name"].startswith("web-")
    }


def answers(client: Client, *addresses: str, port: int = 8080) -> list[str]:
    """Which Pods answered."""
    probes = [{"ip": one, "port": port, "timeout": 2.0} for one in addresses]
    attempts = [{"netns": "node_n1", "probe": one} for one in probes]
    found = client.call("probe", attempts=attempts, limit=LIMIT)
    return [json.loads(one["body"])["pod"] if one["body"] else one["outcome"] for (one,) in found]


def all_answer(client: Client) -> bool:
    there = places(client)
    return answers(client, *(ip for _, ip in there.values())) == list(there)


def test_a_pod_whose_node_goes_comes_back_on_another_under_its_name(client: Client) -> None:
    before = places(client)
    assert {at for at, _ in before.values()} == {"n1", "n2"}
    refs = [{"kind": "Node", "namespace": "", "name": "n2"}]
    client.call("delete", refs=refs, limit=LIMIT)
    after = places(client)
    assert after.keys() == before.keys() and {at for at, _ in after.values()} == {"n1"}
    assert all_answer(client)
    put(client, node("n2"))
    assert run(client, "node_n2", "ip -o link show type veth | wc -l").strip() == "1"  # its uplink


def test_a_pod_ended_at_once_is_waited_for_and_not_its_successor(client: Client) -> None:
    refs = [{"kind": "Pod", "namespace": "default", "name": next(iter(places(client)))}]
    client.call("delete", refs=refs, grace=0, limit=LIMIT)
    assert all_answer(client)


def test_a_node_whose_rules_were_flushed_is_made_whole_by_the_next_change(client: Client) -> None:
    for name in ("n1", "n2"):
        run(client, f"node_{name}", "nft flush ruleset")
    client.call("scale", names=["web"], namespace="default", replicas=3, limit=LIMIT)
    for name in ("n1", "n2"):
        told = run(client, f"node_{name}", "nft list map ip kube-proxy service-ips")
        assert "10.96.1.1 . tcp . 80" in told
    assert set(places(client)) >= set(answers(client, *["10.96.1.1"] * 6, port=80))
    client.call("scale", names=["web"], namespace="default", replicas=2, limit=LIMIT)


def test_built_in_servers_that_were_killed_serve_again(client: Client) -> None:
    def listeners() -> str:
        at = next(iter(places(client)))
        rows = run(client, at, "ss -Hlntp sport = :8080")
        return rows.partition("pid=")[2].partition(",")[0]

    killed = listeners()
    assert killed.isdigit() and int(killed) > 1
    run(client, "node_n1", f"kill -9 {killed}")
    until(lambda: all_answer(client))
    assert listeners() != killed


def test_a_port_that_a_person_took_in_a_pod_costs_only_that(client: Client) -> None:
    pods = places(client)
    first = next(iter(pods))
    taken = "import socket,time; s=socket.create_server(('', 8081)); time.sleep(60)"
    run(client, first, f'setsid /usr/bin/python3 -c "{taken}" >/dev/null 2>&1 &')
    until(lambda: ":8081" in run(client, first, "ss -Hlnt"))
    more = service("more", "10.96.1.2")
    more["spec"] |= {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8081}]}
    objects = json.loads(encode([decode_object(more)]))
    said = client.call("apply", objects=objects, wait=0, limit=LIMIT)["warnings"]
    assert said == [f"Pod default/{first} cannot listen on port 8081/TCP: it is taken in the Pod"]
    assert all_answer(client)
    assert answers(client, *(ip for _, ip in pods.values()), port=8081)[1] == list(pods)[1]


def test_a_namespace_made_anew_by_hand_is_the_new_one(client: Client) -> None:
    run(client, "node_n1", "ip netns add byhand")
    assert "mark" in run(client, "byhand", "ip link add mark type bridge; ip link show")
    run(client, "node_n1", "ip netns del byhand")
    with pytest.raises(LabError, match="there is no network namespace byhand"):
        run(client, "byhand", "ip link show")
    run(client, "node_n1", "ip netns add byhand")
    assert "mark" not in run(client, "byhand", "ip link show")
    run(client, "node_n1", "ip netns del byhand")


def test_a_process_that_forks_all_the_time_ends_with_its_pod(client: Client) -> None:
    tag = f"77{os.getpid()}"
    fork = f"hop() {{ sleep 0.01; : {tag}; (hop) & exit; }}; hop"
    name = next(iter(places(client)))
    client.call("run", netns=name, argv=["sh", "-c", f"setsid sh -c '{fork}' >/dev/null 2>&1 &"])

    def left() -> str:
        return run(client, "node_n1", f"pgrep -f '[h]op.*{tag}' | wc -l").strip()

    until(lambda: left() != "0")
    refs = [{"kind": "Pod", "namespace": "default", "name": name}]
    client.call("delete", refs=refs, grace=0, limit=LIMIT)
    time.sleep(0.1)  # ten more forks, if one was missed
    assert left() == "0"
