"""Several nodes from the command line, as a person would ask for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import WEB, Hairpin

CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
ipvs: {scheduler: sh, syncPeriod: 2s}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    folder = tmp_path_factory.mktemp("run")
    config = folder / "kube-proxy.yaml"
    config.write_text(CONFIG)
    hairpin = Hairpin(folder)
    options = ("--nodes", "2", "--ip-family", "dual", "--proxy-config", str(config))
    hairpin.ok("up", "--kernel", "guest", "-f", WEB, *options)
    try:
        yield hairpin
    finally:
        hairpin("down")


@pytest.mark.guest
def test_nodes_and_pods_are_where_they_should_be(lab: Hairpin) -> None:
    rows = [line.split() for line in lab.ok("get", "nodes", "-o", "wide").splitlines()]
    assert [row[0] for row in rows] == ["NAME", "node", "node2"]
    assert rows[2][3:5] == ["10.244.1.0/24,fd00:10:244:1::/64", "192.168.100.3,fd00:192:168:100::3"]
    pods = json.loads(lab.ok("get", "pods", "-o", "json"))["items"]
    assert {one["spec"]["nodeName"] for one in pods} == {"node", "node2"}
    assert "fd00:10:244:1::/64" in lab.ok("describe", "node/node2")
    assert [one["node"] for one in json.loads(lab.ok("get", "proxy", "-o", "json"))["items"]] == [
        "node",
        "node2",
    ]


@pytest.mark.guest
def test_every_node_serves_with_the_configuration_given(lab: Hairpin) -> None:
    for name in ("node", "node2"):
        saved = lab.ok("exec", f"node/{name}", "--", "ipvsadm", "-Sn")
        servers = [line for line in saved.splitlines() if line.startswith("-A ")]
        assert servers
        assert all(line.endswith("-s sh") for line in servers)


@pytest.mark.guest
def test_drift_is_put_right_by_itself_and_shown(lab: Hairpin) -> None:
    """On the node that has it, when everything is looked at: here every 2 s (syncPeriod)."""

    def drift(name: str) -> int:
        said = json.loads(lab.ok("get", "proxy", name, "-o", "json"))["drift"]
        return int(said.get("virtual-server", 0))

    before = {name: drift(name) for name in ("node", "node2")}
    vip = json.loads(lab.ok("get", "svc", "web", "-o", "json"))["spec"]["clusterIP"]
    lab.ok("exec", "node/node", "--", "ipvsadm", "-D", "-t", f"{vip}:80")
    deadline = time.monotonic() + 20
    while drift("node") == before["node"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {name: drift(name) for name in before} == {**before, "node": before["node"] + 1}
    assert lab.ok("exec", "node/node", "--", "ipvsadm", "-Ln", "-t", f"{vip}:80")


@pytest.mark.guest
def test_the_outside_is_a_place(lab: Hairpin) -> None:
    assert "192.168.100.1/24" in lab.ok("exec", "outside", "--", "ip", "-br", "addr")
    pods = json.loads(lab.ok("get", "pods", "-o", "json"))["items"]
    for one in (one for one in pods if one["spec"]["nodeName"] == "node2"):
        for address in (each["ip"] for each in one["status"]["podIPs"]):
            place = f"[{address}]:8080" if ":" in address else f"{address}:8080"
            said = json.loads(lab.ok("exec", "outside", "--", "curl", "-sm2", place))
            assert said["pod"] == one["metadata"]["name"]
    assert "outside\tthe client beyond the cluster" in lab.ok("__complete", "exec", "out")


@pytest.mark.guest
def test_what_the_ingredients_switch_is_both_families(lab: Hairpin) -> None:
    said = lab.ok("set", "forward-accept=off")
    assert "ip6tables -P FORWARD DROP" in said
    values = {
        one["name"]: one["value"]
        for one in json.loads(lab.ok("get", "ingredients", "-o", "json"))["items"]
    }
    assert values["forward-accept"] == "off"
    assert values["forwarding"] == "on"
    lab.ok("set", "forward-accept=on")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nodes", "0"), "--nodes 0: a lab has one at least"),
        ((), "no manifests"),
        (("--overlay", "geneve"), "invalid choice: 'geneve'"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ran = Hairpin(tmp_path)("up", *words)
    assert ran.code == 2
    assert said in ran.err
