"""``hairpin set`` and ``get ingredients``: each switch does to real packets what it says."""

import json
from collections.abc import Iterator

import pytest

from hairpin.lab.ingredients import NAMES, values
from tests.cli.command import Hairpin, lab

pytestmark = pytest.mark.guest

ONE = """
apiVersion: v1
kind: Pod
metadata: {name: foo, labels: {app: one}}
spec: {containers: [{name: echo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bar}
spec: {containers: [{name: echo}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, selector: {app: one}, ports: [{port: 80, targetPort: 8080}]}
"""


@pytest.fixture(scope="module")
def hairpin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    folder = tmp_path_factory.mktemp("run")
    (folder / "one.yaml").write_text(ONE)
    with lab(folder, str(folder / "one.yaml")) as running:
        yield running


def _shown(hairpin: Hairpin) -> dict[str, str]:
    items = json.loads(hairpin.ok("get", "ingredients", "-o", "json"))["items"]
    return {item["name"]: item["value"] for item in items}


def _reaches(hairpin: Hairpin, client: str) -> bool:
    return hairpin("exec", client, "--", "curl", "-s", "--max-time", "0.8", "10.96.0.10").code == 0


def test_all_are_on_at_first(hairpin: Hairpin) -> None:
    assert _shown(hairpin) == {name: "port" if name == "hairpin" else "on" for name in NAMES}
    assert all(_reaches(hairpin, client) for client in ("foo", "bar", "node/node"))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_switched_and_seen_in_the_kernel(hairpin: Hairpin, name: str) -> None:
    before = _shown(hairpin)
    for value in (*values(name), before[name]):
        hairpin.ok("set", f"{name}={value}")
        assert _shown(hairpin) == {**before, name: value}


@pytest.mark.parametrize(
    ("switch", "back", "fails", "works"),
    [
        ("forwarding=off", "forwarding=on", ["foo"], ["bar", "node/node"]),
        ("forward-accept=off", "forward-accept=on", ["foo", "bar"], ["node/node"]),
        ("vip-local=off", "vip-local=on", ["foo", "bar"], []),
        ("masquerade=off", "masquerade=on", ["foo"], ["bar", "node/node"]),
        ("ipvs-conntrack=off", "ipvs-conntrack=on", ["foo", "node/node"], ["bar"]),
        ("hairpin=off", "hairpin=promisc", ["foo"], ["bar", "node/node"]),
        ("br-netfilter=off", "br-netfilter=on", ["bar"], ["foo", "node/node"]),
    ],
)
def test_each_does_to_packets_what_it_says(
    hairpin: Hairpin, switch: str, back: str, fails: list[str], works: list[str]
) -> None:
    hairpin.ok("set", switch)
    try:
        assert {client: _reaches(hairpin, client) for client in (*fails, *works)} == {
            **dict.fromkeys(fails, False),
            **dict.fromkeys(works, True),
        }
    finally:
        hairpin.ok("set", back)
    assert all(_reaches(hairpin, client) for client in ("foo", "bar"))
    hairpin.ok("set", "hairpin=port")


def test_what_is_broken_by_hand_is_seen_and_mended(hairpin: Hairpin) -> None:
    node = ("exec", "node/node", "--")
    hairpin.ok("set", "masquerade=on")  # the proxy looks at everything now, and again in 30 s
    hairpin.ok(*node, "sysctl", "-qw", "net.ipv4.vs.conntrack=0")
    hairpin.ok(*node, "iptables", "-t", "nat", "-F", "POSTROUTING")
    hairpin.ok(*node, "ip", "link", "del", "kube-ipvs0")
    hairpin.ok("exec", "foo", "--", "ip", "route", "del", "default")
    shown = _shown(hairpin)
    assert (shown["ipvs-conntrack"], shown["masquerade"]) == ("off", "off")
    assert shown["vip-local"] == "off"
    assert shown["gateway"] == "mixed"  # bar still has its own
    assert not _reaches(hairpin, "foo")
    hairpin.ok("set", "ipvs-conntrack=on", "masquerade=on", "vip-local=on", "gateway=on")
    assert set(_shown(hairpin).values()) == {"on", "port"}
    assert _reaches(hairpin, "foo")


def test_set_shows_the_commands_for_a_shell(hairpin: Hairpin) -> None:
    assert "sysctl -w net.ipv4.ip_forward=0" in hairpin.ok("set", "forwarding=off")
    assert "sysctl -w net.ipv4.ip_forward=1" in hairpin.ok("set", "forwarding=on")
