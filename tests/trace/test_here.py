"""``hairpin trace here`` on a node whose other end nobody can look into, in two modes.

IPVS on a node of its own is in the guest (``test_cli.py``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_server.server import Server
from tests.kernel.host import Host
from tests.trace.node_here import FAR, HereNode, objects

pytestmark = pytest.mark.host


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HereNode]:
    host = Host()
    try:
        made = HereNode(host, tmp_path_factory.mktemp("here"), request.param)
        yield made
        made.close()
    finally:
        host.kernel.close(destroy=True)


def test_to_a_pod_of_this_node_and_nothing_is_left(node: HereNode) -> None:
    before = node.held()
    found = node.json("svc/web")
    assert node.held() == before
    assert found["disposition"] == "delivered"
    assert found["cause"] is None
    assert found["answer"] == "you are ::ffff:10.244.1.1"
    request, reply = found["legs"]
    assert [hop["name"] for hop in request["hops"]] == ["node1", "default/web-0"]
    assert [hop["name"] for hop in reply["hops"]] == ["default/web-0", "node1"]
    (dnat,) = [one for one in request["hops"][0]["steps"] if one["says"].startswith("DNAT")]
    assert dnat["owner"] == "service default/web:http"
    assert (dnat["before"]["destination"], dnat["after"]["destination"]) == (
        "10.96.0.1",
        "10.244.1.2",
    )


def test_by_ipv6(node: HereNode) -> None:
    found = node.json("svc/six")
    assert found["disposition"] == "delivered", found
    steps = found["legs"][0]["hops"][0]["steps"]
    (dnat,) = [one for one in steps if one["says"] == "DNAT to [fd00:1::2]:8080"]
    assert dnat["owner"] == "service default/six:http"


def test_a_killed_one_leaves_nothing(node: HereNode) -> None:
    before = node.held()
    running = node.start("svc/lost", "--timeout", "20s")
    try:
        end = time.monotonic() + 30
        while node.held() == before:  # until its table is there
            assert time.monotonic() < end
        running.kill()
    finally:
        running.kill()
        running.wait()
    assert node.held() == before


def test_what_goes_to_another_machine_left(node: HereNode) -> None:
    found = node.json("svc/far")
    assert found["disposition"] == "delivered"
    (request, reply) = found["legs"]
    assert request["arrived"]
    assert [hop["name"] for hop in request["hops"]] == ["node1"]
    last = request["hops"][0]["steps"][-1]
    assert (last["kind"], last["link"]) == ("left", "eth0")
    assert reply["hops"][0]["steps"][0]["says"] == "received on eth0"


def test_what_is_lost_there_is_not_guessed(node: HereNode) -> None:
    found = node.json("svc/lost")
    assert found["disposition"] == "lost"
    assert found["cause"]["id"] == "unknown"
    assert (
        "left node node1 by eth0 for 10.244.2.9 (Pod lost-0 on node node2)"
        in (found["ended"]["says"])
    )


def test_a_fault_is_named_and_its_mend_works_as_it_stands(node: HereNode) -> None:
    node.sh("ip link set eth0 down", node.pod)
    cause = node.json("svc/web")["cause"]
    assert cause["id"] == "link-down"
    assert cause["mend"]["hairpin"] == ""
    node.sh(cause["mend"]["shell"])
    node.sh("ip route replace default via 10.244.1.1", node.pod)
    assert node.trace("svc/web").returncode == 0


_UNMADE = {
    "nftables": "nft 'delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 }'",
    "iptables": "iptables-save | grep -- '-A KUBE-SERVICES -d 10.96.0.1/32' | head -n 1 | "
    "sed 's/^-A/iptables -t nat -D/' | sh",
}


def test_what_the_proxy_should_have_made_is_named_and_made(node: HereNode) -> None:
    node.sh(_UNMADE[node.mode])
    cause = node.json("svc/web")["cause"]
    assert cause["id"] == "not-programmed"
    assert "10.96.0.1" in cause["mend"]["shell"]
    node.sh(cause["mend"]["shell"])
    assert node.trace("svc/web").returncode == 0


def test_services_from_the_api_server(node: HereNode, tmp_path: Path) -> None:
    server = Server()
    for one in objects():
        server.store.put(one)
    with node.entered():
        server.start()
    try:
        config = {
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        ran = node.trace("svc/web:http", "--kubeconfig", str(tmp_path / "config"))
    finally:
        server.stop()
    assert ran.returncode == 0, ran.stderr
    assert "asked for by service default/web:http" in ran.stdout
    assert FAR not in ran.stdout


def test_what_is_wrong_is_said(node: HereNode) -> None:
    for words, said in (
        (("svc/nobody",), "there is no Service nobody"),
        (("svc/web", "--kubeconfig", "/nowhere"), "/nowhere"),
        (("10.1.2.3",), "to which port?"),
    ):
        ran = node.trace(*words)
        assert ran.returncode == 2, ran
        assert said in ran.stderr
