"""What works has no cause, and what is nobody's fault is unknown."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hairpin.claims import faults_runner
from hairpin.claims.faults_base import Mode, Objects, Shell
from hairpin.claims.faults_cast import N1, ask, service
from hairpin.claims.faults_made import NODE_PORT, VIP
from hairpin.claims.tracing import Question, traced
from hairpin.world import lifecycle
from hairpin.world.client import Client

LONG = bool(os.environ.get("HAIRPIN_LONG"))
_BALANCER = "192.0.2.60"
_AFFINE = "10.96.0.131"

_SERVICES = Objects((
    service("fault", VIP, selector={"app": "far"}, type="LoadBalancer", loadBalancerIP=_BALANCER,
            externalIPs=["203.0.113.5"],
            ports=[{"name": "http", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT}]),
    service("affine", _AFFINE, selector={"app": "bar"}, sessionAffinity="ClientIP"),
))  # fmt: skip


def _both(source: str, to: str, **more: object) -> tuple[Question, ...]:
    return (ask(source, to, **more), ask(source, to, ipv6=True, **more))


WORKING: tuple[Question, ...] = (
    *_both("client", "svc/far:http"), *_both("client", "svc/far:udp"),
    *_both("client", "svc/bar:http"), *_both("client", "svc/bar:udp"),
    *_both("foo", "svc/foo:http"), *_both("foo", "svc/foo:udp"),
    *_both("far", "svc/foo:http"), *_both("far", "svc/far:http"),
    *_both("node/n1", "svc/far:http"), *_both("node/n1", "svc/bar:http"),
    *_both("node/n2", "svc/bar:udp"),
    *_both("client", "far:8080"), *_both("client", "bar:8080"), *_both("outside", "far:8080"),
    *_both("client", "far", protocol="ICMP"), *_both("client", "bar", protocol="ICMP"),
    ask("client", "svc/far:http", size=1300), ask("client", "svc/bar:http", size=4000),
    ask("outside", f"192.168.100.2:{NODE_PORT}"), ask("outside", f"192.168.100.3:{NODE_PORT}"),
    ask("client", f"192.168.100.3:{NODE_PORT}"), ask("node/n1", f"192.168.100.2:{NODE_PORT}"),
    ask("outside", f"{_BALANCER}:80"), ask("outside", "203.0.113.5:80"),
    ask("client", f"{_BALANCER}:80"), ask("client", "svc/fault"),
    ask("client", "svc/affine:http"), ask("client", "svc/affine:http"),
    ask("foo", "svc/affine:udp"), ask("client", "svc/far:http", source_port=41234),
)  # fmt: skip
"""Connections of all kinds that a lab of the cast carries in every mode."""

_QUICK = slice(None) if LONG else slice(None, None, 3)


@pytest.fixture(params=["nftables", "iptables"], scope="module")
def host_lab(request: pytest.FixtureRequest, runtime_folder: str) -> Iterator[Client]:
    mode: Mode = request.param
    with lifecycle.ephemeral("nobody", "host", mode=mode) as lab:
        faults_runner.build(lab, mode)
        yield lab


def _causes(lab: Client) -> dict[str, str]:
    faults_runner.do(lab, _SERVICES)
    found = {}
    for asked in WORKING[_QUICK]:
        trace = traced(lab, asked)
        if trace.cause is not None or trace.disposition != "delivered":
            because = trace.cause.because if trace.cause else ""
            found[f"{asked.source} {asked.to} {asked.ipv6}"] = f"{trace.outcome}: {because}"
    return found


@pytest.mark.host
def test_what_works_has_no_cause(host_lab: Client) -> None:
    assert _causes(host_lab) == {}


@pytest.mark.guest
@pytest.mark.skipif(not LONG, reason="HAIRPIN_LONG: a minute in the embedded kernel")
def test_what_works_has_no_cause_in_the_guest(client: Client) -> None:
    gone = ("Service default/fault", "Service default/affine")
    try:
        assert _causes(client) == {}
    finally:
        faults_runner.do(client, Objects(delete=gone))


@pytest.mark.guest
def test_what_is_lost_by_chance_is_nobodys_fault(client: Client) -> None:
    faults_runner.do(client, Shell(N1, "tc qdisc add dev eth0 root netem loss 99.9%"))
    try:
        for protocol in ("http", "udp") if LONG else ("http",):
            trace = traced(client, ask("client", f"svc/far:{protocol}"))
            assert trace.cause is not None
            assert trace.cause.id == "unknown", trace.cause
            assert "node n1" in trace.cause.because
    finally:
        faults_runner.do(client, Shell(N1, "tc qdisc del dev eth0 root"))
