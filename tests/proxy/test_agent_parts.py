"""The parts of an agent, without a kernel: health, servers, health check ports, waiting, logs."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hairpin.cli.agent_log import AgentLog
from hairpin.cli.agent_pages import Pages, configz
from hairpin.model.address import IP, ip
from hairpin.model.configuration import KubeProxyConfiguration, Seconds
from hairpin.model.metadata import ObjectMeta
from hairpin.model.node import Node, NodeSpec, Taint
from hairpin.plan.service_plan import HealthCheck
from hairpin.proxy.health import Health
from hairpin.proxy.metrics import Metrics
from hairpin.proxy.rules import rules_wanted
from hairpin.proxy.server import Answer, Request, Servers
from hairpin.proxy.service_health import ServiceHealth
from hairpin.proxy.status import Synced
from hairpin.source.api.objects import Item
from hairpin.source.api.recent import Recent
from hairpin.source.api.reflector import FIRST, MOST, Backoff
from hairpin.state.netfilter import Chain, DispatchChain, DispatchRule, PacketCounter


class Time:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def health(clock: Time) -> Health:
    return Health(60.0, ("IPv4", "IPv6"), clock=clock, now=lambda: 1_795_431_675.136194)


def test_health_is_late_only_when_something_waits() -> None:
    clock = Time()
    one = health(clock)
    code, body = one.healthz()
    said = json.loads(body)
    assert code == 200 and "status" not in said, "nothing is late before the first sync"
    one.queued()
    clock.at += 3600
    assert one.healthz()[0] == 200
    one.updated()
    clock.at += 3600  # nothing happens for an hour
    assert one.livez()[0] == 200
    one.queued()
    clock.at += 59.9
    one.queued()  # the first of them counts
    assert one.livez()[0] == 200
    clock.at += 0.1
    code, body = one.livez()
    said = json.loads(body)
    assert (code, said["healthy"], said["status"]["IPv6"]["healthy"]) == (503, False, False)
    assert said["lastUpdated"] == "2026-11-23T11:01:15.136194Z" and not one.healthy
    one.updated()
    assert one.healthz()[0] == 200


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (None, 503),
        (Node(metadata=ObjectMeta(name="n")), 200),
        (Node(metadata=ObjectMeta(name="n", deletion_timestamp="2026-01-01T00:00:00Z")), 503),
        (
            Node(
                metadata=ObjectMeta(name="n"),
                spec=NodeSpec(
                    taints=(Taint(key="ToBeDeletedByClusterAutoscaler", effect="NoSchedule"),)
                ),
            ),
            503,
        ),
    ],
)
def test_a_node_about_to_go_is_for_load_balancers_alone(node: Node | None, code: int) -> None:
    one = health(Time())
    one.on_node(node)
    assert one.healthz()[0] == code and one.livez()[0] == 200 and one.healthy
    assert json.loads(one.healthz()[1])["nodeEligible"] is (code == 200)


# -- servers -----------------------------------------------------------------------------------


@pytest.fixture
def servers() -> Iterator[Servers]:
    one = Servers().start()
    yield one
    one.close()


def talk(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        one.sendall(sent)
        heard = b""
        while piece := one.recv(4096):
            heard += piece
    return heard


def test_a_server_speaks_http(servers: Servers) -> None:
    port = servers.listen("127.0.0.1", 0, lambda request: Answer(request.path.encode()))
    close = b"Connection: close\r\n\r\n"
    heard = talk(port, b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\nGET /d HTTP/1.1\r\n" + close)
    assert heard.count(b"HTTP/1.1 200 OK") == 2 and heard.endswith(b"/d") and b"/a" in heard
    head = talk(port, b"HEAD /abc HTTP/1.1\r\n" + close)
    assert head.endswith(b"\r\n\r\n") and b"Content-Length: 4" in head
    assert b" 405 " in talk(port, b"POST / HTTP/1.1\r\n" + close)
    assert b" 400 " in talk(port, b"nonsense\r\n\r\n")
    assert b"HTTP/1.1 200" in talk(port, b"GET / HTTP/1.0\n\n")
    assert talk(port, b"GET /" + b"x" * 70_000) == b""
    assert b" 200 " in talk(port, b"GET / HTTP/1.1\r\n" + close), "and goes on"


def test_every_address_is_of_both_families(servers: Servers) -> None:
    """As Go's programs have it: a probe by IPv6 finds 0.0.0.0:10256."""
    port = servers.listen("0.0.0.0", 0, lambda request: Answer(request.accept.encode()), every=True)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        one.sendall(b"GET / HTTP/1.0\r\nAccept: Text/Plain\r\n\r\n")
        assert one.makefile("rb").read().endswith(b"text/plain")
    if socket.has_dualstack_ipv6():
        with socket.create_connection(("::1", port), timeout=5) as one:
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 200 " in one.makefile("rb").read()


def test_a_handler_that_fails_costs_one_answer(servers: Servers) -> None:
    def handle(request: Request) -> Answer:
        raise RuntimeError("no")

    port = servers.listen("127.0.0.1", 0, handle)
    assert b" 500 " in talk(port, b"GET / HTTP/1.0\r\n\r\n")


def test_health_check_ports_come_and_go(servers: Servers) -> None:
    said: list[str] = []
    ports = ServiceHealth(servers, lambda: True, said.append)
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, other = free.getsockname()[1], taken.getsockname()[1]
        free.close()
        addresses: dict[int, list[IP] | None] = {4: [ip("127.0.0.1")], 6: None}
        web, busy = ("default", "web"), ("default", "busy")
        wanted = {
            web: HealthCheck(port, ("IPv4",), (2,)),
            busy: HealthCheck(other, ("IPv4",), (1,)),
        }
        ports.follow(wanted, addresses)
        ports.follow(wanted, addresses)
        assert said == [
            f"Service default/busy: health check at 127.0.0.1:{other}: Address already in use"
        ]
        assert ports.missing
        heard = talk(port, b"GET / HTTP/1.0\r\n\r\n")
        assert b" 200 " in heard and b"X-Load-Balancing-Endpoint-Weight: 2" in heard
    ports.follow({web: HealthCheck(port, ("IPv4",), (0,))}, addresses)
    assert not ports.missing
    assert b" 503 " in talk(port, b"GET / HTTP/1.0\r\n\r\n")
    ports.follow({}, addresses)
    with pytest.raises(OSError, match="refused"):
        talk(port, b"")


# -- what is counted and said ------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs"])
def test_metrics_are_read_by_prometheus(mode: str) -> None:
    one = Metrics(mode, ("IPv4", "IPv6"), "1.2")
    one.changed("service", 3, 5.0)
    one.changed("endpoint", 4, 6.0)
    one.synced(Synced(full=True, changes=7, failed=1, duration=0.02), 7.0, good=True)
    one.programmed("IPv6", [1.5])
    one.no_local_endpoints("IPv4", 1, 2)
    one.flows(9, 0.003)
    one.requested("GET", "200", "10.0.0.1:6443", 0.3)
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(one.text().decode())
        for sample in family.samples
    }
    four, six = ("ip_family", "IPv4"), ("ip_family", "IPv6")
    assert found["kubeproxy_sync_proxy_rules_service_changes_total",] == 3
    assert found["kubeproxy_sync_proxy_rules_service_changes_pending",] == 0
    assert found["kubeproxy_sync_full_proxy_rules_duration_seconds_count", six] == 1
    assert found["kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", four] == 6
    assert found["kubeproxy_network_programming_duration_seconds_bucket", six, ("le", "2.0")] == 1
    assert found["kubeproxy_conntrack_reconciler_deleted_entries_total", four] == 9
    assert found["kubeproxy_conntrack_reconciler_sync_duration_seconds_count", six] == 1
    host = ("host", "10.0.0.1:6443")
    assert found["rest_client_requests_total", ("code", "200"), host, ("method", "GET")] == 1
    name = "rest_client_request_duration_seconds_bucket"
    assert found[name, host, ("le", "0.25"), ("verb", "GET")] == 0
    assert found[name, host, ("le", "0.5"), ("verb", "GET")] == 1
    name = "nftables_sync" if mode == "nftables" else "iptables_restore"
    assert found[f"kubeproxy_sync_proxy_rules_{name}_failures_total", four] == 1
    assert b"_created" not in one.text()
    buckets = [one for one in found if "network_programming" in one[0] and six in one]
    assert len(buckets) == 81 + 2, "kube-proxy's buckets, and +Inf"


def test_what_iptables_mode_shows_besides() -> None:
    one = Metrics("iptables", ("IPv4", "IPv6"), "1.2")
    chain = Chain(table="nat", name="KUBE-POSTROUTING", rules=(("-j", "RETURN"), ("-j", "ACCEPT")))
    services = DispatchChain(table="nat", name="KUBE-SERVICES", last=("-j KUBE-NODEPORTS",))
    to_web = DispatchRule(table="nat", chain="KUBE-SERVICES", rule="-j KUBE-SVC-X", family="ip6")
    counted = PacketCounter(name="ct_state_invalid_dropped_pkts")
    one.rules(rules_wanted([chain, services, to_web, counted]))
    for packets in (5, 7, 2, 4):  # somebody made it anew in between
        one.packets({"ct_state_invalid_dropped_pkts": packets, "of_others": 99})
    said = one.text().decode().splitlines()
    name = "kubeproxy_sync_proxy_rules_iptables_total"
    assert f'{name}{{ip_family="IPv4",table="nat"}} 3.0' in said
    assert f'{name}{{ip_family="IPv6",table="nat"}} 1.0' in said
    assert "kubeproxy_iptables_ct_state_invalid_dropped_packets_total 9.0" in said
    assert "kubeproxy_iptables_localhost_nodeports_accepted_packets_total 0.0" in said
    assert "iptables_total" not in Metrics("nftables", ("IPv4",), "1").text().decode()


def test_pages_for_people_and_for_programs() -> None:
    config = KubeProxyConfiguration(mode="nftables")
    metrics = Metrics("nftables", ("IPv4",), "1.2")
    flags = {"v": "2", "kubeconfig": "/etc/node"}
    pages = Pages(config, health(Time()), metrics, flags=flags, version="1.2")

    def ask(path: str, accept: str = "") -> Answer:
        return pages.metrics(Request(path, accept))

    text = ask("/statusz").body.decode()
    assert text.startswith("hairpin statusz\n") and "\nUp: 0 hr 00 min 0" in text
    assert "\nBinary version: 1.2\nEmulation version: 1.36\n" in text
    assert ask("/flagz").body.decode().endswith("\nkubeconfig=/etc/node\nv=2\n")
    asked = "application/json;v=v1beta1;g=config.k8s.io;as="
    said = json.loads(ask("/statusz", f"{asked}Statusz").body)
    assert (said["kind"], said["apiVersion"]) == ("Statusz", "config.k8s.io/v1beta1")
    assert said["emulationVersion"] == "1.36" and said["uptimeSeconds"] < 60
    for path in said["paths"]:
        assert ask(path).code == 200, path
    said = json.loads(ask("/flagz", f"{asked}Flagz").body)
    assert said["kind"] == "Flagz" and said["flags"] == flags
    assert ask("/flagz", "application/json").kind.startswith("text/plain")
    for _ in range(2):
        ask("/healthz")
    slis = ask("/metrics/slis").body.decode()
    assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1.0' in slis
    name = "kubernetes_healthchecks_total"
    assert f'{name}{{name="ping",status="success",type="healthz"}} 3.0' in slis
    assert pages.healthz(Request("/metrics")).code == 404
    assert ask("/livez").code == 404


def test_configz_is_written_as_go_does() -> None:
    config = KubeProxyConfiguration(mode="ipvs", config_sync_period=Seconds(900))
    said = json.loads(configz(config))["kubeproxy.config.k8s.io"]
    assert said["configSyncPeriod"] == "15m0s" and said["ipvs"]["syncPeriod"] == "30s"
    assert said["conntrack"]["tcpEstablishedTimeout"] == "24h0m0s"
    assert said["ipvs"]["minSyncPeriod"] == "0s" and said["bindAddress"] == "0.0.0.0"
    assert (said["kind"], said["detectLocalMode"]) == ("KubeProxyConfiguration", "ClusterCIDR")
    assert said["nodePortAddresses"] == []
    said = json.loads(configz(KubeProxyConfiguration(mode="nftables")))["kubeproxy.config.k8s.io"]
    assert said["nodePortAddresses"] == ["primary"], "as kube-proxy on Linux"


def test_a_log_line_is_one_line() -> None:
    for as_json in (True, False):
        out = io.StringIO()
        log = AgentLog(2, as_json=as_json, stream=out)
        log.info("not shown", level=3)
        log.warning("a\nb\x1b[31m", name="two words", gone=True)
        (line,) = out.getvalue().splitlines()
        if as_json:
            said = json.loads(line)
            assert said["msg"] == "a\nb\x1b[31m" and said["severity"] == "warning" and said["gone"]
        else:
            assert line.endswith(' warning a\\nb\\x1b[31m name="two words" gone=true')


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0, 100))
def test_waiting_grows_is_bounded_and_heeds_the_server(dice: list[float], asked: float) -> None:
    rolls = iter(dice)
    backoff = Backoff(lambda: next(rolls))
    for n in range(len(dice)):
        full = min(MOST, FIRST * 2.0**n)
        assert full / 2 <= backoff.failed() <= full
    backoff.went_well()
    rolls = iter([0.5])
    assert backoff.failed(asked) >= asked


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.booleans()), max_size=60),
)
def test_any_order_of_events_ends_the_same(events: list[tuple[str, int, bool]]) -> None:
    """Versions belong to one object and are its own order; what is newest counts."""
    versions = {version: (name, gone) for name, version, gone in events}
    told = [(name, version, gone) for version, (name, gone) in versions.items()]
    ends = []
    for order in (sorted(told, key=lambda one: one[1]), told + told, list(reversed(told))):
        recent = Recent()
        known: dict[str, int | None] = {}
        for name, version, gone in order:
            if recent.is_news(Item(("n", name), version, None), gone=gone):
                known[name] = None if gone else version
        ends.append({name: version for name, version in known.items() if version})
    assert ends[0] == ends[1] == ends[2]


def test_nobody_else_pays_for_it() -> None:
    """Labs and other verbs import none of what an agent needs."""
    code = (
        "import sys, hairpin.lab.lab, hairpin.proxy.proxy, hairpin.lab.health, hairpin.cli.plan;"
        "print([one for one in ('asyncio', 'urllib3', 'prometheus_client', 'http.client', 'ssl',"
        " 'hairpin.source.api') if one in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
