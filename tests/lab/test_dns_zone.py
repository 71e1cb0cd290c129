"""The names of a cluster, as Kubernetes' DNS specification 1.1.0 has them."""

import io
from ipaddress import IPv4Address

import msgspec
import pytest

from hairpin.lab import dns_wire as wire
from hairpin.lab.dns import DnsServer
from hairpin.lab.dns_wire import Edns, Host, Message, Pointer, Question, Soa, Srv
from hairpin.lab.dns_zone import Entry, Facts, Zone, facts, size_limit
from hairpin.source.cluster import admit
from hairpin.source.manifests import load
from hairpin.source.settings import LAB

CLUSTER = """
apiVersion: v1
kind: Node
metadata: {name: node, annotations: {hairpin.dev/service-cidr: 172.23.0.0/16}}
spec: {podCIDR: 172.22.0.0/24}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 172.23.0.5
  selector: {app: web}
  ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: data}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata:
  name: db-a
  namespace: data
  labels: {app: db}
  annotations: {hairpin.dev/ip: 172.22.0.7}
spec: {hostname: first, subdomain: peers, containers: [{name: db}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: db-b
  namespace: data
  labels: {app: db}
  annotations: {hairpin.dev/ip: 172.22.0.8}
spec: {containers: [{name: db}]}
"""
SVC = "svc.cluster.local"


def zone(ready: dict[tuple[str, str], bool] | None = None) -> Zone:
    snapshot = admit(load(["-"], stdin=io.StringIO(CLUSTER)).objects, settings=LAB, ready=ready)
    said = msgspec.json.decode(msgspec.json.encode(facts(snapshot)), type=Facts)
    return Zone(said)


def ask(name: str, kind: int = wire.A, where: Zone | None = None) -> Message:
    asked = Message(id=1, question=Question(wire.name(name), kind), edns=Edns(1232))
    return wire.parse(wire.render((where or zone()).answer(asked)))


def ips(answer: Message) -> list[str]:
    return sorted(str(one.data.ip) for one in answer.answers if isinstance(one.data, Host))


@pytest.mark.parametrize(
    "name, expected",
    [
        (f"web.default.{SVC}", ["172.23.0.5"]),
        (f"WEB.Default.{SVC}", ["172.23.0.5"]),
        (f"kube-dns.kube-system.{SVC}", ["172.23.0.10"]),
        (f"peers.data.{SVC}", ["172.22.0.7", "172.22.0.8"]),
        (f"first.peers.data.{SVC}", ["172.22.0.7"]),
        (f"172-22-0-8.peers.data.{SVC}", ["172.22.0.8"]),
        (f"alias.default.{SVC}", ["172.23.0.5"]),
        ("1-2-3-4.default.pod.cluster.local", ["1.2.3.4"]),
    ],
)
def test_addresses(name: str, expected: list[str]) -> None:
    answer = ask(name)
    assert (answer.code, answer.authoritative) == (wire.NOERROR, True)
    assert ips(answer) == expected


@pytest.mark.parametrize(
    "name",
    [
        f"nobody.default.{SVC}",
        f"web.elsewhere.{SVC}",
        f"web.{SVC}",
        f"a.web.default.{SVC}",
        "1-2-3.default.pod.cluster.local",
        "1-2-3-4.elsewhere.pod.cluster.local",
        "example.com",
        "web",
        "1.0.0.10.in-addr.arpa",
    ],
)
def test_what_is_not_is_said_at_once_with_a_soa(name: str) -> None:
    answer = ask(name)
    assert (answer.code, answer.answers) == (wire.NXDOMAIN, ())
    (soa,) = answer.authority
    assert isinstance(soa.data, Soa)
    assert wire.name(name)[len(wire.name(name)) - len(soa.name) :] == soa.name


@pytest.mark.parametrize(
    "name, kind",
    [
        (f"web.default.{SVC}", wire.AAAA),
        (f"web.default.{SVC}", wire.TXT),
        (f"default.{SVC}", wire.A),
        (SVC, wire.A),
        ("cluster.local", wire.A),
        (f"_tcp.web.default.{SVC}", wire.A),
    ],
)
def test_another_type_of_a_name_that_is(name: str, kind: int) -> None:
    answer = ask(name, kind)
    assert (answer.code, answer.answers, len(answer.authority)) == (wire.NOERROR, (), 1)


def test_an_external_name_is_an_alias() -> None:
    answer = ask(f"out.default.{SVC}")
    assert answer.code == wire.NOERROR
    assert [one.data for one in answer.answers] == [Pointer(wire.CNAME, wire.name("example.com"))]


def test_ports_with_names_have_srv_records() -> None:
    answer = ask(f"_dns._udp.web.default.{SVC}", wire.SRV)
    target = wire.name(f"web.default.{SVC}")
    assert [one.data for one in answer.answers] == [Srv(0, 100, 53, target)]
    assert [one.data for one in answer.additional] == [Host(IPv4Address("172.23.0.5"))]
    assert ask(f"_http._udp.web.default.{SVC}", wire.SRV).code == wire.NXDOMAIN
    headless = ask(f"_sql._tcp.peers.data.{SVC}", wire.SRV)
    assert {one.data.target[0] for one in headless.answers if isinstance(one.data, Srv)} == {
        b"first",
        b"172-22-0-8",
    }


@pytest.mark.parametrize(
    "ip, name",
    [
        ("172.23.0.5", f"web.default.{SVC}"),
        ("172.22.0.7", f"first.peers.data.{SVC}"),
        ("172.22.0.8", f"172-22-0-8.peers.data.{SVC}"),
    ],
)
def test_reverse(ip: str, name: str) -> None:
    answer = ask(IPv4Address(ip).reverse_pointer, wire.PTR)
    assert [one.data for one in answer.answers] == [Pointer(wire.PTR, wire.name(name))]


def test_only_ready_pods_have_names() -> None:
    where = zone({("data", "db-b"): True})
    assert ips(ask(f"peers.data.{SVC}", where=where)) == ["172.22.0.8"]
    assert ask(f"first.peers.data.{SVC}", where=where).code == wire.NXDOMAIN


def test_each_answer_begins_with_another() -> None:
    where = zone()
    first = [ask(f"peers.data.{SVC}", where=where).answers[0].data for _ in range(4)]
    assert len(set(first)) == 2


def test_what_cannot_be_answered() -> None:
    where = zone()
    name = wire.name(f"web.default.{SVC}")
    plain = Message(id=1, question=Question(name, wire.A))
    replace = msgspec.structs.replace
    assert where.answer(replace(plain, opcode=5)).code == wire.NOTIMP
    assert where.answer(replace(plain, question=None)).code == wire.FORMERR
    assert where.answer(replace(plain, question=Question(name, wire.A, 3))).code == wire.REFUSED
    assert where.answer(replace(plain, edns=Edns(512, 1))).code == wire.BADVERS
    assert where.answer(plain).edns is None
    assert [size_limit(replace(plain, edns=Edns(size))) for size in (0, 800, 65000)] == [
        512,
        800,
        1232,
    ]


def test_what_a_client_may_have_written_wrongly() -> None:
    server = DnsServer(None, lambda: None)  # type: ignore[arg-type]  # nothing is waited for
    assert server.answer(b"short", datagram=True) is None
    broken = server.answer(b"\0\x07" + b"\0" * 2 + b"\0\2" + b"\0" * 6, datagram=True)
    assert broken is not None and wire.parse(broken).code == wire.FORMERR
    said = Message(id=1, question=None, response=True)
    assert server.answer(wire.render(said), datagram=True) is None


def test_an_alias_to_itself_ends() -> None:
    said = Facts(
        ("default",),
        (Entry("default", "loop", external=f"loop.default.{SVC}"),),
    )
    assert ask(f"loop.default.{SVC}", where=Zone(said)).code == wire.NOERROR
