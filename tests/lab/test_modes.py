"""Proxy modes of a running lab: each serves, and one takes over from another without a gap."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hairpin.claims.node_side import NODE_SIDES
from tests.cli.command import SEED, Hairpin

_VIP = "172.23.0.1"
_ECHO = """
import socket, threading
server = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
def serve(connection):
    while data := connection.recv(100):
        connection.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
_CLIENT = """
import select, socket, sys
targets = [(word.rpartition("|")[0], int(word.rpartition("|")[2])) for word in sys.argv[1:]]
def connect(target):
    sock = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET)
    sock.settimeout(10)
    sock.connect(target)
    return sock
def echoes(sock):
    try:
        sock.sendall(b"x")
        return sock.recv(9) == b"x"
    except OSError as error:
        return False
held = [connect(target) for target in targets for _ in range(2)]
print(all(map(echoes, held)), flush=True)
good = bad = 0
while not select.select([sys.stdin], [], [], 0.004)[0]:
    for target in targets:
        try:
            with connect(target) as sock:
                good, bad = good + echoes(sock), bad + (not echoes(sock))
        except OSError as error:
            bad += 1
print(good, bad, sum(not echoes(sock) for sock in held))
"""
"""Connects again and again until its input ends; says how often that was well, how often not, and
how many of the connections that were open all the time are lost."""

_SPEC = {"containers": [{"name": "c", "command": ["python3", "-c", _ECHO]}]}
CLUSTER = [
    *(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": node, **_SPEC},
        }
        for name, node in (("a", "node"), ("b", "node2"))
    ),
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "nodeName": "node",
            "containers": [{"name": "c", "command": ["sleep", "infinity"]}],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort",
            "clusterIPs": ["10.96.7.7", "fd00:10:96::77"],
            "ipFamilyPolicy": "RequireDualStack",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30700}],
        },
    },
]
_NODES = ("192.168.100.2", "192.168.100.3", "fd00:192:168:100::2", "fd00:192:168:100::3")
_CLIENTS = {
    "client": ("10.96.7.7|80", "fd00:10:96::77|80"),
    "outside": tuple(f"{address}|30700" for address in _NODES),
}


@contextmanager
def up(folder: Path, *options: str, given: str = SEED) -> Iterator[Hairpin]:
    hairpin = Hairpin(folder)
    hairpin.ok("up", "-f", given, *options)
    try:
        yield hairpin
    finally:
        hairpin("down")


def modes(hairpin: Hairpin) -> set[str]:
    found = json.loads(hairpin.ok("get", "proxy", "-o", "json"))["items"]
    assert len(found) == 2 and all(one["synced"] for one in found), found
    return {one["mode"] for one in found}


def switched(hairpin: Hairpin, to: str) -> int:
    """Changes the mode while clients connect all the time, over both families, to the ClusterIP and
    to each node: no new connection may fail.  How many open ones were lost."""
    clients = [
        hairpin.start("exec", "-i", where, "--", "python3", "-c", _CLIENT, *targets)
        for where, targets in _CLIENTS.items()
    ]
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline() == b"True\n"
    hairpin.ok("set", f"mode={to}")
    lost = 0
    for client in clients:
        out, err = client.communicate(timeout=120)
        good, bad, gone = map(int, out.split())
        assert good > 10, err
        assert bad == 0, err
        lost += gone
    assert modes(hairpin) == {to}
    return lost


@contextmanager
def cluster(folder: Path, *options: str) -> Iterator[Hairpin]:
    """Two nodes in two families."""
    given = folder / "cluster.json"
    given.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": CLUSTER}))
    with up(folder, "--nodes", "2", "--ip-family", "dual", *options, given=str(given)) as hairpin:
        yield hairpin


def tables(hairpin: Hairpin, node: str) -> str:
    """All that is left of IPVS and of iptables mode in a node."""
    words = "ipvsadm -Sn; ipset save; ip -br link; iptables-save; ip6tables-save"
    return hairpin.ok("exec", f"node/{node}", "--", "sh", "-c", words)


def sysctls(hairpin: Hairpin) -> dict[str, str]:
    names = "net.ipv4.vs net.ipv4.conf.all net.ipv4.ip_forward net.netfilter net.bridge"
    said = hairpin.ok("exec", "node/node", "--", "sh", "-c", f"sysctl {names}")
    found = dict(line.split(" = ", 1) for line in said.splitlines())
    return {name: value for name, value in found.items() if "count" not in name}


_SAVED = {
    "ipvsadm": "ipvsadm -Sn",
    "ipset": "ipset save",
    "ip": "ip -o addr show dev kube-ipvs0",
    "iptables": "iptables-save; ip6tables-save",
    "nft": "nft list ruleset",
}


def assert_held(hairpin: Hairpin) -> None:
    """What ``get rules`` tells of the mode that runs is what each tool finds in the kernel."""
    told = json.loads(hairpin.ok("get", "rules", "svc/web", "-o", "json"))
    assert told["mode"] == told["running"]
    for node in told["nodes"]:
        assert len(node["lines"]) > 5
        saved: dict[str, str] = {}
        for one in node["lines"]:
            tool = one["tool"].split()[0].replace("ip6tables", "iptables")
            if tool not in saved:
                words = ("exec", f"node/{node['node']}", "--", "sh", "-c", _SAVED[tool])
                saved[tool] = hairpin.ok(*words)
            assert one["why"] and not one["absent"], one
            assert _as_saved(one["line"], tool) in saved[tool], one


def _as_saved(line: str, tool: str) -> str:
    """The part of a line that the tool prints in the same words."""
    if tool == "ip":
        return line.split()[2]
    if tool == "nft" and not line.startswith((" ", "chain ", "set ", "}")):
        return line.partition(": ")[2]  # an element, which stands in its map or set
    return line.strip()


@pytest.mark.guest
@pytest.mark.timeout(400)
def test_iptables_and_ipvs_take_turns_in_the_guest(tmp_path: Path) -> None:
    with cluster(tmp_path, "--kernel", "guest", "--mode", "iptables") as hairpin:
        assert modes(hairpin) == {"iptables"}
        assert_held(hairpin)
        before = {node: tables(hairpin, node) for node in ("node", "node2")}
        settings = sysctls(hairpin)
        assert switched(hairpin, "ipvs") == 0
        assert_held(hairpin)
        for node, was in before.items():
            left = tables(hairpin, node)
            assert "-A -t 10.96.7.7:80" in left
            for name in ("KUBE-SEP-", "KUBE-SVC-", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS"):
                assert name in was and name not in left
        switched(hairpin, "iptables")  # what IPVS carried ends with it: docs/migrating.md
        for node, was in before.items():
            assert _lasting(tables(hairpin, node)) == _lasting(was)
        # What claims/node_side.py says that IPVS mode sets and nobody puts back.
        changed = {name: now for name, now in sysctls(hairpin).items() if settings[name] != now}
        assert changed == {
            "net.ipv4.vs.conntrack": "1",
            "net.ipv4.vs.expire_nodest_conn": "1",
            "net.ipv4.vs.expire_quiescent_template": "1",
        }
        assert {one.name for one in NODE_SIDES["ipvs"].sysctls} >= set(changed)
        refused = hairpin("set", "mode=nftables")
        assert refused.code == 2
        assert "no nf_tables" in refused.err
        assert modes(hairpin) == {"iptables"}


def _lasting(saved: str) -> list[str]:
    """Without what counts or tells the time, and without the order of the jumps in a chain."""
    lines = [re.sub(r"\[\d+:\d+\]", "", line) for line in saved.splitlines()]
    return sorted(line for line in lines if not line.startswith("# "))


@pytest.mark.host
def test_iptables_and_nftables_take_turns_on_the_host(tmp_path: Path) -> None:
    with cluster(tmp_path, "--kernel", "host", "--mode", "nftables") as hairpin:
        listed = ("exec", "node/node2", "--", "nft", "list", "tables")
        assert "table ip kube-proxy" in hairpin.ok(*listed)
        assert_held(hairpin)
        assert switched(hairpin, "iptables") == 0
        assert_held(hairpin)
        assert "kube-proxy" not in hairpin.ok(*listed)
        ingredients = json.loads(hairpin.ok("get", "ingredients", "-o", "json"))["items"]
        values = {one["name"]: one["value"] for one in ingredients}
        assert (values["vip-local"], values["masquerade"]) == ("absent", "on")
        assert switched(hairpin, "nftables") == 0
        for node in ("node", "node2"):
            words = ("exec", f"node/{node}", "--", "sh", "-c", "iptables-save; ip6tables-save")
            assert "KUBE" not in hairpin.ok(*words)
            assert hairpin.ok("diff", "--node", node) == ""


@pytest.mark.host
def test_what_serves_a_service_is_told_of_each_mode(tmp_path: Path) -> None:
    with up(tmp_path, "--kernel", "host", "--mode", "nftables") as hairpin:
        rules = hairpin.ok("get", "rules", "svc/web")
        assert f"service-ips: {_VIP} . tcp . 8080" in rules
        assert "not in the kernel" not in rules
        other = hairpin.ok("get", "rules", "svc/web", "--mode", "iptables")
        assert "not running" in other
        assert "# the endpoint: the packet's new destination" in other
        told = json.loads(hairpin.ok("get", "rules", "svc/web", "--mode", "ipvs", "-o", "json"))
        assert (told["mode"], told["running"]) == ("ipvs", "nftables")
        lines = [one["line"] for one in told["nodes"][0]["lines"]]
        assert f"-A -t {_VIP}:8080 -s rr" in lines
        refused = hairpin("get", "rules", "svc/web", "-o", "name")
        assert (refused.code, "wide, json or yaml" in refused.err) == (2, True)


@pytest.mark.host
def test_the_legacy_variant_on_the_host(tmp_path: Path) -> None:
    with up(tmp_path, "--kernel", "host", "--mode", "iptables", "--iptables", "legacy") as hairpin:
        words = ("exec", "node/node", "--", "iptables-legacy-save")
        assert "KUBE-SEP-" in hairpin.ok(*words)
        assert hairpin.ok("exec", "foo", "--", "curl", "-s", "-m", "3", f"{_VIP}:8080")
