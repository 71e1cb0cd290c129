"""Names in a Pod, by the C library's resolver and by questions of the test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hairpin.lab import dns_wire as wire
from hairpin.lab.dns_wire import Edns, Host, Message, Question
from tests.cli.command import SEED, WEB, Hairpin, lab

pytestmark = pytest.mark.guest

DATA = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: data, labels: {app: db}}
spec:
  hostname: first
  subdomain: db
  containers:
  - name: db
    command: [sleep, infinity]
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: out, namespace: data}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
"""
MANY = "\n---\n".join(
    [
        "apiVersion: v1\nkind: Service\nmetadata: {name: many}\n"
        "spec: {clusterIP: None, ports: [{name: x, port: 1}]}",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: many-1, labels: {kubernetes.io/service-name: many}}\n"
        "addressType: IPv4\nports: [{name: x, port: 1}]\nendpoints:\n"
        + "\n".join(f"- addresses: [192.0.2.{number}]" for number in range(1, 101)),
    ]
)
ASK = """
import socket, sys
data = bytes.fromhex(sys.argv[2])
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
with socket.socket(socket.AF_INET, kind) as one:
    one.settimeout(3)
    one.connect((sys.argv[3], 53))
    if sys.argv[1] == "tcp":
        one.sendall(len(data).to_bytes(2, "big") + data)
        said = b""
        while len(said) < 2 or len(said) < 2 + int.from_bytes(said[:2], "big"):
            said += one.recv(65536)
        print(said[2:].hex())
    else:
        one.send(data)
        print(one.recv(65536).hex())
"""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    folder = tmp_path_factory.mktemp("run")
    manifest = folder / "data.yaml"
    manifest.write_text(DATA)
    hairpin = Hairpin(folder)
    hairpin("up", "-f", WEB, "-f", str(manifest))  # one Pod is not ready on purpose
    try:
        yield hairpin
    finally:
        hairpin("down")


def hosts(hairpin: Hairpin, *words: str) -> list[str]:
    """The addresses, or for an address the names, that getent finds; none at all is no error."""
    ran = hairpin("exec", "client", "--", "getent", *words)
    assert ran.code in (0, 2), ran.err
    return ran.out.split()


def ask(hairpin: Hairpin, how: str, message: Message, server: str = "10.96.0.10") -> Message:
    data = wire.render(message).hex()
    said = hairpin.ok("exec", "client", "--", "python3", "-c", ASK, how, data, server)
    return wire.parse(bytes.fromhex(said))


@pytest.mark.parametrize("suffix", ["", ".default", ".default.svc", ".default.svc.cluster.local"])
def test_a_service_by_each_of_its_names(web: Hairpin, suffix: str) -> None:
    said = web.ok("exec", "client", "--", "curl", "-sS", "--max-time", "5", f"web{suffix}:80")
    assert json.loads(said)["pod"] in ("web-a", "web-b")


def test_the_resolver_finds_what_there_is_and_nothing_else(web: Hairpin) -> None:
    (service,) = (
        one
        for one in json.loads(web.ok("get", "svc", "-A", "-o", "json"))["items"]
        if one["metadata"]["name"] == "web"
    )
    ip = service["spec"]["clusterIP"]
    assert hosts(web, "ahostsv4", "web")[0] == ip
    assert ip in hosts(web, "ahosts", "out.data")
    assert hosts(web, "hosts", ip)[1] == "web.default.svc.cluster.local"
    for name in ("nobody", "web.data", "example.com"):
        assert hosts(web, "ahosts", name) == []


def test_names_follow_readiness_at_once(web: Hairpin) -> None:
    assert hosts(web, "ahosts", "db.data") == []
    web.ok("exec", "-n", "data", "db-0", "--", "touch", "/tmp/ready")
    deadline = time.monotonic() + 20
    while "False" in web.ok("get", "pods", "-n", "data", "-o", "json") or not hosts(
        web, "ahosts", "db.data"
    ):
        assert time.monotonic() < deadline
    assert hosts(web, "ahosts", "first.db.data")[0] == hosts(web, "ahosts", "db.data")[0]
    own = web.ok("exec", "-n", "data", "db-0", "--", "hostname", "-f").strip()
    assert own == "first.db.data.svc.cluster.local"


def test_names_follow_what_is_applied_and_deleted(web: Hairpin) -> None:
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: late}\nspec: {ports: [{port: 1}]}"
    web.ok("apply", "-f", "-", stdin=manifest)
    assert hosts(web, "ahosts", "late")
    web.ok("delete", "-f", "-", stdin=manifest)
    assert hosts(web, "ahosts", "late") == []


def test_long_answers_come_over_tcp(web: Hairpin) -> None:
    web.ok("apply", "-f", "-", stdin=MANY)
    name = wire.name("many.default.svc.cluster.local")
    asked = Message(id=9, question=Question(name, wire.A), recursion_desired=True)
    short = ask(web, "udp", asked)
    assert (short.truncated, short.answers) == (True, ())
    whole = ask(web, "tcp", asked)
    found = {str(one.data.ip) for one in whole.answers if isinstance(one.data, Host)}
    assert (whole.truncated, len(found)) == (False, 100)
    assert found <= set(hosts(web, "ahosts", "many"))  # the C library asks again by itself


def test_what_dig_would_see(web: Hairpin) -> None:
    name = wire.name("WeB.default.svc.cluster.local")
    asked = Message(id=5, question=Question(name, wire.AAAA), edns=Edns(1232))
    said = ask(web, "udp", asked)
    assert (said.id, said.question, said.code, said.answers) == (5, asked.question, 0, ())
    assert said.authoritative and said.edns and said.authority


def test_the_dns_is_a_pod_behind_a_service(web: Hairpin) -> None:
    everybody = web.ok("get", "pods", "-A")
    assert "coredns" in everybody and "coredns" not in web.ok("get", "pods")
    servers = json.loads(web.ok("get", "vs", "-o", "json"))["items"]
    mine = [one for one in servers if one["owner"].startswith("service kube-system/kube-dns")]
    assert {one["server"]["protocol"] for one in mine} == {"TCP", "UDP"}
    assert {one["server"]["ip"] for one in mine} == {"10.96.0.10"}


def test_the_seed_keeps_its_addresses(tmp_path: Path) -> None:
    with lab(tmp_path, SEED) as hairpin:
        pods = json.loads(hairpin.ok("get", "pods", "-A", "-o", "json"))["items"]
        found = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
        assert found == {"foo": "172.22.0.2", "bar": "172.22.0.3", "coredns": "172.22.0.254"}
        assert "172.23.0.10" in hairpin.ok("exec", "foo", "--", "cat", "/etc/resolv.conf")
        assert "im-" in hairpin.ok("exec", "foo", "--", "curl", "-s", "--max-time", "5", "web:8080")


def test_a_dns_of_ones_own_takes_the_place(tmp_path: Path) -> None:
    own = """
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: 10.96.0.53
  selector: {mine: "yes"}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: 5353}]
---
apiVersion: v1
kind: Pod
metadata: {name: names, namespace: kube-system, labels: {mine: "yes"}}
spec: {containers: [{name: names, ports: [{containerPort: 5353, protocol: UDP}]}]}
"""
    manifest = tmp_path / "own.yaml"
    manifest.write_text(own)
    with lab(tmp_path, WEB, str(manifest)) as hairpin:
        assert "coredns" not in hairpin.ok("get", "pods", "-A")
        assert "10.96.0.53" in hairpin.ok("exec", "client", "--", "cat", "/etc/resolv.conf")
        assert hosts(hairpin, "ahosts", "web")
